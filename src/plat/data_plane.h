/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plat: the whole contract between the product and the machine, one header an interface (mission
 * T8, T9). May use base. Implementations stand in linux/, posix/ and sim/; nothing above plat
 * includes an operating-system header.
 *
 * Data plane: buffers are opaque, contiguous and of fixed size; requests hold references, never
 * bytes. A reference is an extent of buffers in one pool.
 */
#ifndef PLAT_DATA_PLANE_H
#define PLAT_DATA_PLANE_H

#include <stdint.h>

/* `pages` buffers of BLOCK_BYTES from number `first`; pages == 0 is none. Lies in slots. */
struct extent {
    uint32_t first;
    uint32_t pages;
};

#endif
