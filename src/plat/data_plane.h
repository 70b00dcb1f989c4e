/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plat: the whole contract between the product and the machine, one header an interface (mission
 * T8, T9). May use base. Implementations stand in linux/, posix/ and sim/; nothing above plat
 * includes an operating-system header.
 *
 * Data plane (DataPlaneImpl, bg_t): buffers are opaque, contiguous and of fixed size; requests hold
 * references, never bytes. A reference is an extent of buffers in one pool. Whoever wants the bytes
 * maps it, for their memory may be elsewhere than the request.
 *
 * Rules
 *  1. The memory of a mapped extent is contiguous and stays where it is until unmap.
 *  2. Each map is followed by one unmap of the same extent, before the buffers are released. It says
 *     whether bytes were changed; changed bytes are seen by whoever maps afterwards.
 *  3. Copies on other nodes are as old as the last replicate. mark_local says that the bytes here are
 *     the ones that count, and that copies elsewhere are void.
 *  4. Mappings belong to the process and end with it; the bytes do not.
 */
#ifndef PLAT_DATA_PLANE_H
#define PLAT_DATA_PLANE_H

#include <stdint.h>

/* `pages` buffers of BLOCK_BYTES from number `first`; pages == 0 is none. Lies in slots. */
struct extent {
    uint32_t first;
    uint32_t pages;
};

/* All return ERR_INVAL for what is no extent of the pool. */
struct data_plane_ops {
    int (*map)(void *ctx, struct extent e, unsigned char **memory);
    int (*unmap)(void *ctx, struct extent e, int modified);
    /* Copies the bytes to the same buffers of another node. ERR_UNSUPPORTED: there is no other node. */
    int (*replicate)(void *ctx, struct extent e, uint16_t node);
    int (*mark_local)(void *ctx, struct extent e);
};

struct data_plane {
    const struct data_plane_ops *ops;
    void *ctx;
};

#endif
