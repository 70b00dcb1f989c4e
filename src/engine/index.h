/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the log and the request path ask of the index (index/): which version of a block lies where.
 *
 * Levels, newest first: the memtables of segments that are not sealed, the runs of sealed ones;
 * each holds the versions of one range of sequence numbers. Beside them the block table, a cache of
 * "where is this block of this timeline now".
 *
 * Memtables and block table lie in arena regions and are not undone (arena rule 5):
 *  1. index_append writes entries beyond the committed count; the count is in a slot and undone.
 *  2. After the commit, index_apply links the new entries and brings them into the block table. It
 *     begins at the first entry that is not applied; doing an entry again changes nothing. An attach
 *     does so, too.
 *  3. Nobody sees a version before it is applied. The versions of one request (VERSION_MORE on all
 *     but the last) are applied together, after the commit of the last one.
 */
#ifndef ENGINE_INDEX_H
#define ENGINE_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "arena/buffer.h"
#include "arena/io.h"
#include "base/units.h"
#include "engine/ancestry.h"
#include "engine/slots.h"
#include "engine/version.h"
#include "plat/alert.h"

struct index;
struct log;

struct index_parts {
    struct arena *a;
    struct io_port *io; /* index_open puts ROUTINE_LEAF_READ in place */
    struct buffer_pool *buffers;
    struct ancestries *ancestries;
    struct alert_sink alerts;
    uint64_t cache_bytes; /* limit of what is kept of runs in private memory */
};

/* Regions: memtables for `entries` (a multiple of 64) versions each. */
uint64_t index_memtable_region_bytes(uint32_t memtables, uint32_t entries);

/* Returns 0 or ERR_NOMEM. The log is told later, as it is opened with the index. At an attach:
 * index_open, then the log adds the segments that are sealed, then index_attach, then look-ups. */
int index_open(struct index **out, const struct index_parts *parts);
void index_set_log(struct index *x, struct log *l);
void index_attach(struct index *x);
void index_close(struct index *x);

/* ---- From the log, in a turn ---- */

/* A segment takes records from now on. ERR_AGAIN: all memtables are in use; a run must be done
 * first. */
int index_segment_opened(struct index *x, uint32_t segment);

/* A version is recorded in a segment. ERR_NOSPC and nothing has changed: seal the segment. */
int index_append(struct index *x, uint32_t segment, const struct version *v);

/* The versions from `first_sequence` on are taken out of one memtable and put behind those of
 * another, younger one; their places become moved(ctx, place). For frames that had to be written
 * elsewhere. ERR_NOSPC and nothing has changed. */
int index_move(struct index *x, uint32_t from_segment, uint64_t first_sequence, uint32_t to_segment,
               uint64_t (*moved)(void *ctx, uint64_t place), void *ctx);

/* A run is made of a private copy of the segment's memtable: index_copy on the reactor when the
 * segment takes no more records and all of them are committed and applied (NULL: not yet, or no
 * memory); run_build (index/run_build.h) in a job; then the log writes the bytes and makes them
 * durable; then, in one turn, the segment's slot tells where they are and index_segment_sealed
 * gives the memtable back. */
struct run_source;
struct run_source *index_copy(struct index *x, uint32_t segment);
uint64_t index_run_bytes_max(const struct index *x, uint32_t segment);
int index_segment_sealed(struct index *x, struct segment_h h);

/* At start and attach: a sealed segment. */
int index_segment_added(struct index *x, struct segment_h h);

/* The segment is no longer live: its run, or memtable, goes; places in it read as unknown. */
void index_segment_dropped(struct index *x, uint32_t segment);

/* ---- From the loop ---- */

/* After every arena_commit, before anything leaves the process. */
void index_apply(struct index *x);

/* In a turn: look-ups that wait for room go on. */
void index_turn(struct index *x);

/* ---- Look-ups ---- */

struct block_place {
    uint64_t place; /* DATA, ZERO or HOLE */
    uint32_t crc;   /* DATA */
};

#define INDEX_NOW UINT64_MAX

/* A look-up in one chunk. `want` has a bit for each block asked for. done() is called in a later
 * turn if index_find returned ERR_AGAIN, with 0, ERR_IO or ERR_INTEGRITY; else index_find returns
 * that itself. What was never written is a hole. The caller owns the memory, and the view, until
 * then. Not preserved: after an attach it is asked again.
 *
 * limit INDEX_NOW: as of the newest applied version at the call; asks the block table first and
 * fills it. */
struct index_find {
    const struct ancestry *view;
    uint64_t limit;
    uint64_t chunk;
    uint64_t want;
    void (*done)(struct index_find *f, int result);
    void *owner;
    struct block_place found[CHUNK_BLOCKS];
    struct index_search *search; /* private to the index, while it lasts */
};
int index_find(struct index *x, struct index_find *f);

/* The data at p, which a look-up has given for this block now, did not check. */
void index_forget(struct index *x, const struct ancestry *view, uint64_t block,
                  struct block_place p);

/* Newest sequence that look-ups see. */
uint64_t index_applied(const struct index *x);

/* Whether a segment is live; whether it is sealed, so that its file does not change any more. */
int index_segment_is_live(const struct index *x, uint32_t segment);
int index_segment_is_sealed(const struct index *x, uint32_t segment);

struct index_counts {
    uint32_t runs, memtables;
    uint64_t table_hits, table_misses;
    uint64_t filter_probes, filter_passes;
    uint64_t leaf_hits, leaf_reads, directory_reads;
    uint64_t cache_bytes;
};
struct index_counts index_counts(const struct index *x);

#endif
