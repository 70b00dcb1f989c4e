/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of data buffers: a region of 4 KiB pages, given out as extents. Each extent has one
 * owner, a slot; which pages are taken is derived from the owners and rebuilt at attach, so nothing
 * here is preserved but the bytes.
 *
 * Buffers are not undone. Hence (design/arena.md): a handler writes only into buffers taken in this
 * turn or below what was committed as its target; a buffer released in turn n is given out again
 * from turn n+1; what a committed output refers to is not changed.
 */
#ifndef ARENA_BUFFER_H
#define ARENA_BUFFER_H

#include <stdint.h>

#include "base/must.h"
#include "base/units.h"
#include "plat/data_plane.h"

#define BUFFER_PAGE_BYTES BLOCK_BYTES

struct arena;

struct buffer_pool {
    unsigned char *data;
    uint32_t pages;
    uint32_t free_pages;
    uint32_t cursor;
    uint64_t changes; /* of which pages are free, so far */
    uint64_t *free;   /* one bit a page, set = free */
    struct extent *released;
    uint32_t released_count, released_room;
};

/* All pages free. Returns 0 or ERR_NOMEM. */
int buffer_pool_open(struct buffer_pool *p, struct arena *a, uint32_t region);
void buffer_pool_close(struct buffer_pool *p);

/* At attach: the owner of an extent says so. ERR_INVAL if it is not a possible extent or taken. */
int buffer_claim(struct buffer_pool *p, struct extent e);

/* Takes `pages` pages in at most `max` extents, as few as found, and returns their number;
 * ERR_NOMEM (and nothing taken) if that is not possible now. */
int buffer_take(struct buffer_pool *p, uint32_t pages, struct extent *out, uint32_t max);

/* Who takes pages, the first from the last of the pool. Each waits only for those before it: a
 * client's payload for old blocks and for the log, an old block for the index and for the log. So
 * each leaves them some, and the log always gets what it needs to give the clients' pages back. A
 * client that asks for more while it holds some leaves something to those who have nothing yet. */
enum buffer_use { BUFFER_LOG = 0, BUFFER_INDEX, BUFFER_OLD_BLOCKS, BUFFER_CLIENTS, BUFFER_MORE };

static inline uint32_t buffer_left_by(const struct buffer_pool *p, enum buffer_use use) {
    static const uint8_t shift[] = {31, 6, 4, 3, 2};
    return (p->pages >> shift[use]) + 4 * (uint32_t)use;
}

/* As buffer_take, and so that enough is left for those before. */
int buffer_take_for(struct buffer_pool *p, enum buffer_use use, uint32_t pages, struct extent *out,
                    uint32_t max);

/* Gives an extent, or a part of one, back at the next commit. */
void buffer_release(struct buffer_pool *p, struct extent e);

/* After arena_commit: what was released may be taken. */
void buffer_commit(struct buffer_pool *p);

static inline unsigned char *buffer_data(const struct buffer_pool *p, uint32_t page) {
    must(page < p->pages);
    return p->data + (uint64_t)page * BUFFER_PAGE_BYTES;
}

static inline uint32_t buffer_pages_for(uint64_t bytes) {
    return (uint32_t)((bytes + BUFFER_PAGE_BYTES - 1) / BUFFER_PAGE_BYTES);
}

#endif
