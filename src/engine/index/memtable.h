/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memtables: the versions of segments that are not sealed, the newest level of the index. One slot
 * and one area of REGION_MEMTABLES each.
 *
 * An area, for n entries (all arrays lie behind one another, in this order):
 *
 *   struct memtable_area   the counts below
 *   entries     n          in the order of their sequence numbers
 *   checks      n          checksums of data blocks, in the same order
 *   heads       n / 2..4   first of the chain of (family, chunk), a power of two
 *   intervals   n          numbers of the entries that are intervals, ascending
 *   boxes       n / 64     first block of, and block behind, 64 intervals each
 *
 * Data are cut into pieces of one chunk. What is not data and reaches over a chunk border is one
 * piece, an interval. A record without blocks, which only takes a number, has no piece. So r records
 * with b blocks of data make at most r + b / 2 + b / 64 entries.
 * Entries exist in three degrees:
 *
 *  1. beyond slot->entries: written in a turn that is not committed, or left by one that never was.
 *     Nobody reads them.
 *  2. below slot->entries, at or beyond area->applied: committed. Seen by nobody yet.
 *  3. below area->applied: linked into chain or intervals, and in the block table.
 *
 * Entries before slot->entries never change; the slot is undone with its turn, so an entry written
 * in a turn that did not happen is written again over the old bytes, before anything links it.
 *
 * Linking is the only change of committed memory, it happens after the commit, and it may die at
 * any store: area->applied says where to begin again, and doing a link twice changes nothing,
 * because links are made in ascending order. The head of a chain is the greatest number in it: if it
 * is not smaller than the entry's, the entry is linked. Before that the entry's `next` is stored;
 * seen by nobody until the head names the entry. The same holds for the list of intervals, whose
 * last is its greatest; a box that is too large does no harm.
 */
#ifndef ENGINE_INDEX_MEMTABLE_H
#define ENGINE_INDEX_MEMTABLE_H

#include <stdint.h>

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "engine/index.h"
#include "engine/version.h"

enum memtable_state { MEMTABLE_OPEN = 1 };

enum memtable_flag {
    MEMTABLE_CUT = 1 << 0, /* versions were taken out at the end: no more come */
};

HANDLE(memtable)
#define MEMTABLE_FIELDS(F, A)                                                                      \
    F(uint32_t, segment)                                                                           \
    F(uint32_t, entries)                                                                           \
    F(uint32_t, checks)                                                                            \
    F(uint32_t, flags)          /* enum memtable_flag */                                           \
    F(uint64_t, first_sequence) /* of its records; 0: none yet */                                  \
    F(uint64_t, last_sequence)                                                                     \
    F(uint64_t, opened) /* running number: memtables in the order of their segments */             \
    A(uint8_t, reserved, 24)
SLOT_STRUCT(memtable, MEMTABLE_FIELDS)
SLOT_TABLE(memtable, TABLE_MEMTABLE)

extern const struct arena_table_spec memtable_spec;

/* A piece of a version: blocks first .. first + blocks - 1 of the chunk; an interval has blocks 0
 * and covers the blocks from `chunk` to before `place`. */
struct memtable_entry {
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t place; /* DATA: of the first block; interval: the block behind it */
    uint64_t ref_sequence;
    uint64_t chunk; /* interval: its first block */
    uint32_t family;
    uint32_t timeline;
    uint32_t checks; /* DATA: number of the first checksum */
    uint32_t ref_timeline;
    uint32_t next; /* older entry of the chain, number + 1; 0: none */
    uint8_t first;
    uint8_t blocks;
    uint8_t kind;  /* enum place_kind */
    uint8_t flags; /* VERSION_MORE: the next entry belongs to the same request */
};
_Static_assert(sizeof(struct memtable_entry) == 64, "preserved");

struct memtable_area {
    uint32_t applied;
    uint32_t intervals;
    uint32_t room;    /* entries, checks, intervals: set when the area is taken */
    uint32_t buckets; /* heads */
    uint32_t reserved[12];
};
_Static_assert(sizeof(struct memtable_area) == 64, "preserved");

struct memtable_box {
    uint64_t first_block, end_block;
};

/* Where the arrays of one area lie. */
struct memtable_view {
    struct memtable_area *area;
    struct memtable_entry *entries;
    uint32_t *checks;
    uint32_t *heads;
    uint32_t *intervals;
    struct memtable_box *boxes;
    uint32_t room;    /* entries, checks, intervals */
    uint32_t buckets; /* heads */
};

/* Entries that a segment of so many records and blocks can need, a multiple of 64; bytes of an area
 * for them. */
uint32_t memtable_entries_max(uint32_t records, uint32_t blocks);
uint64_t memtable_area_bytes(uint32_t n);

/* The area of a memtable; `areas` = capacity of the table. */
struct memtable_view memtable_at(const struct arena *a, struct memtable_h h);

/* A new memtable for a segment; h.v == 0: none is free. Clears its area, which nobody reads: its
 * last user was freed in an earlier turn. */
struct memtable_h memtable_make(struct arena *a, uint32_t segment, uint64_t opened);

/* Writes the pieces of a version behind the others; ERR_NOSPC and nothing changed if they do not
 * fit. Sequences ascend. */
int memtable_append(struct arena *a, struct memtable_h h, const struct version *v);

/* Takes out the entries from that sequence on. They stay linked, and are not seen. */
void memtable_cut(struct arena *a, struct memtable_h h, uint64_t first_sequence);

/* Gives the entries of a version that is in it other places: undone with the turn, byte by byte. The
 * version counts as not applied again. */
void memtable_replace(struct arena *a, struct memtable_h h, const struct version *v);

/* Links entry `number`, which is the next one to be applied. */
void memtable_link(struct arena *a, struct memtable_h h, uint32_t number);

/* What a look-up collects in one level: for each block of the chunk the newest version that is
 * seen. A slot of found[] counts if best[] is not 0. */
struct level_result {
    uint64_t wanted;
    uint64_t best[CHUNK_BLOCKS];
    struct block_place found[CHUNK_BLOCKS];
    uint32_t ref_timeline[CHUNK_BLOCKS];
    uint64_t ref_sequence[CHUNK_BLOCKS];
};

/* Fills r for the blocks r->wanted from the applied entries. */
void memtable_find(const struct arena *a, struct memtable_h h, const struct ancestry *view,
                   uint64_t limit, uint64_t chunk, struct level_result *r);

/* Proves what this header says of an area; for tests. */
void memtable_check(const struct arena *a, struct memtable_h h);

#endif
