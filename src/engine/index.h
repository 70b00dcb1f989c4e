/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the log and the request path ask of the index (index/). Three levels, newest first: the
 * memtables of segments that are not sealed, the runs of sealed ones; and beside them the block
 * table, a cache of "where is this block of this timeline now".
 *
 * Memtables and block table lie in arena regions and are not undone (arena rule 5):
 *  1. index_append writes entries beyond the committed count; the count is in a slot and undone.
 *  2. After the commit, index_apply links the new entries and brings them into the block table. It
 * may be repeated from the last applied entry: an attach does so.
 */
#ifndef ENGINE_INDEX_H
#define ENGINE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "arena/buffer.h"
#include "base/units.h"
#include "engine/slots.h"
#include "engine/version.h"

struct index;

/* Where one block's content is. UNKNOWN only inside the index. */
struct block_place {
    uint64_t place;
    uint32_t crc;
};

/* Who sees what: ancestors[0] is the timeline itself; of ancestors[i] records up to limit are seen.
 * Limits do not rise along the list. Built by timeline/, private memory. */
struct ancestor {
    uint32_t timeline;
    uint64_t limit;
};
struct ancestry {
    uint32_t timeline;
    uint32_t family;
    uint32_t count;
    uint64_t generation; /* changes when the list does */
    const struct ancestor *list;
};

/* A look-up of up to one chunk (64 blocks). `want` has a bit for each block asked for; done() is
 * called in a later turn unless index_find returned 0, with result 0 or ERR_IO, ERR_INTEGRITY. What
 * was never written is PLACE_HOLE. The caller owns the memory until done. Not preserved: after an
 * attach it is asked again. */
struct index_find {
    const struct ancestry *view;
    uint64_t limit; /* newest sequence to see; UINT64_MAX: now */
    uint64_t chunk;
    uint64_t want;
    struct block_place found[CHUNK_BLOCKS];
    void (*done)(struct index_find *f, int result);
    void *owner;
    /* private to the index */
    uint64_t missing;
    uint32_t level, leaf;
    struct index_find *next;
};

#endif
