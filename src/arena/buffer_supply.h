/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffer supply and data plane inside a process: over the pool of arena/buffer.h. Nothing here is
 * preserved. What waits lies in a list, oldest first:
 *
 *   first <-> ... <-> last      linked by the requests themselves
 *
 * Invariant: `first` is tried again when and only when the pool is not what it was when `first` was
 * last tried, which `tried` tells (the pool's count of changes).
 */
#ifndef ARENA_BUFFER_SUPPLY_H
#define ARENA_BUFFER_SUPPLY_H

#include "arena/buffer.h"
#include "plat/buffer_supply.h"
#include "plat/data_plane.h"

struct local_supply {
    struct buffer_pool *pool;
    struct supply_request *first, *last;
    uint64_t tried;
    uint32_t mapped; /* extents mapped and not unmapped */
};

/* Both interfaces are over an open pool. Nobody waits and nothing is mapped when it is closed. */
void local_supply_open(struct local_supply *s, struct buffer_pool *pool);
void local_supply_close(struct local_supply *s);
struct buffer_supply local_supply_interface(struct local_supply *s);
struct data_plane local_supply_data_plane(struct local_supply *s);

#endif
