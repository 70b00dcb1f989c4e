/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block table: a cache of where the blocks of a timeline are now. Never truth; an entry or a
 * page that is not there is unknown, and the index is asked.
 *
 * It fills REGION_BLOCK_TABLE. A page is one chunk of one timeline: 64 entries of a place and a
 * checksum. Sets of 8 pages:
 *
 *   keys      sets x 8 x 8 bytes    timeline << 32 | chunk; 0: no page
 *   pages     sets x 8 x 768 bytes  64 places of 8 bytes, then 64 checksums of 4
 *
 * Preserved, not undone, and not walked at attach; so every store keeps these true, in the order
 * in which one thread makes them:
 *
 *  1. The key word alone says that a page is valid. A page is prepared with its key 0; the key comes
 *     last.
 *  2. A place that is not UNKNOWN belongs to the checksum beside it: a change stores UNKNOWN, then
 *     the checksum, then the place.
 *  3. What stands in a page is the newest applied version of its block. The one who applies a
 *     version changes or drops the page before the version counts as applied.
 *
 * Entries check themselves: data by its checksum, when it is read; zeroes and holes by a value made
 * of family and block in place of the checksum. A mismatch reads as unknown.
 *
 * Filling. A look-up through the index takes time, in which the block may be written. It pins its
 * page: a pinned page keeps its slot. Its result is accepted if the page's generation is still that
 * of the pin and the entry is still unknown. The generation rises when a page is dropped or an
 * entry is made unknown; a write leaves the entry known. So an accepted result is of a block that
 * was not written since the pin. Places in frames that are not durable are not filled in: such a
 * frame may get another place, and only the timeline that wrote it learns of that. Pins and
 * generations are private memory: look-ups do not outlive the process.
 *
 * Chunks from 2^32 on (volumes beyond 1 PiB) are never in the table.
 */
#ifndef ENGINE_INDEX_BLOCK_TABLE_H
#define ENGINE_INDEX_BLOCK_TABLE_H

#include <stdint.h>

#include "arena/arena.h"
#include "engine/index.h"

#define TABLE_WAYS 8u
#define TABLE_NO_PAGE UINT32_MAX

struct table_page {
    uint32_t generation;
    uint16_t pins;
    uint8_t used; /* since the clock hand passed */
    uint8_t reserved;
};

struct block_table {
    struct arena *a;
    uint64_t *keys;
    unsigned char *pages;
    uint32_t sets; /* power of two; 0: the region is too small, and everything is unknown */
    struct table_page *state;
};

struct table_pin {
    uint32_t page; /* TABLE_NO_PAGE: nothing is pinned, and fills go nowhere */
    uint32_t generation;
};

/* Takes the region as it is. Returns 0 or ERR_NOMEM. */
int block_table_open(struct block_table *t, struct arena *a);
void block_table_close(struct block_table *t);

/* The page of a chunk, or TABLE_NO_PAGE. _make puts one in if there is none and its set has room or
 * a page that is neither pinned nor used. Page numbers are valid until the next _make. */
uint32_t block_table_find(struct block_table *t, uint32_t timeline, uint64_t chunk);
uint32_t block_table_make(struct block_table *t, uint32_t timeline, uint64_t chunk);

/* Entry `i` of a page. Returns its kind; UNKNOWN also if it contradicts itself. */
enum place_kind block_table_get(const struct block_table *t, uint32_t page, uint32_t family,
                                uint64_t block, struct block_place *out);

/* A version was applied. PLACE_UNKNOWN and REFERENCE make the entry unknown. */
void block_table_set(struct block_table *t, uint32_t page, uint32_t family, uint64_t block,
                     struct block_place p);

/* Makes the entry unknown if it still is p: its data did not check. */
void block_table_forget(struct block_table *t, uint32_t timeline, uint64_t block,
                        struct block_place p);

/* Drops the pages of a range of chunks of a timeline. */
void block_table_drop(struct block_table *t, uint32_t timeline, uint64_t first_chunk,
                      uint64_t end_chunk);

struct table_pin block_table_pin(struct block_table *t, uint32_t page);
void block_table_unpin(struct block_table *t, struct table_pin pin);

/* The result of a look-up since the pin; returns 1 if it was accepted. */
int block_table_fill(struct block_table *t, struct table_pin pin, uint32_t family, uint64_t block,
                     struct block_place p);

#endif
