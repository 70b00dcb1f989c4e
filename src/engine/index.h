/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the log and the request path ask of the index (index/): which version of a block lies where.
 *
 * Levels, newest first: the memtables of segments that are not sealed, the runs of sealed ones;
 * each holds the versions of one range of sequence numbers. Beside them the block table, a cache of
 * "where is this block of this timeline now".
 *
 * Memtables and block table lie in arena regions and are not undone (arena rule 5):
 *  1. Versions are appended beyond the committed count; the count is in a slot and undone.
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
#include "engine/log.h"
#include "engine/version.h"
#include "plat/alert.h"
#include "plat/file.h"
#include "plat/job.h"

struct index;

struct index_parts {
    struct arena *a;
    struct io_port *io; /* index_open puts ROUTINE_LEAF_READ in place */
    struct buffer_pool *buffers;
    struct job_runner jobs;
    struct job_runner background; /* merges: not before anything else */
    struct file_system files;
    uint32_t merge_entries;   /* of a piece of a merged run; 0: MERGE_ENTRIES_MAX */
    uint32_t merge_fan_in;    /* 0: INDEX_FAN_IN */
    uint32_t merge_intervals; /* of a piece, at most; 0: MERGE_INTERVALS_MAX */
    struct ancestries *ancestries;
    struct alert_sink alerts;
    uint64_t cache_bytes; /* limit of what is kept of runs in private memory */
};

/* Region for memtables of segments with so many records and blocks. A memtable of such a segment
 * never is full. */
uint64_t index_memtable_region_bytes(uint32_t memtables, uint32_t records, uint32_t blocks);

extern const struct arena_table_spec memtable_spec;

/* Returns 0 or ERR_NOMEM. The log is opened with index_log_ops and the index as their context, and
 * then made known to the index. At an attach: index_open, index_set_log, index_attach, then the rest.
 * Taking a cold start: index_open, index_set_log, what the log does at its start, index_apply. */
int index_open(struct index **out, const struct index_parts *parts);
void index_set_log(struct index *x, struct log *l);
int index_attach(struct index *x);
void index_close(struct index *x);

/* What the log asks of the index (engine/log.h). A run is made by a job of the index, of a private
 * copy of the segment's memtable; the memtable stays until the run is on disk. */
extern const struct log_index_ops index_log_ops;

/* ---- From the loop ---- */

/* After every arena_commit, before anything leaves the process. */
void index_apply(struct index *x);

/* In a turn: look-ups and runs that wait for room go on. */
void index_turn(struct index *x);

/* 1: something waits for a turn, though perhaps nothing happens that brings one. */
int index_waits(const struct index *x);

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
 * fills it.
 *
 * changes 1: which blocks have a version after `since` and up to `limit`, which is not INDEX_NOW: a bit
 * in `changed`, and the newest of them; found[] says nothing, and only what is as young is searched.
 * versions[], if it is there, has the number of each block's newest version, 0: none as young was met. */
struct index_find {
    const struct ancestry *view;
    uint64_t limit;
    int changes;
    uint64_t since;
    uint64_t changed, newest;
    uint64_t *versions; /* CHUNK_BLOCKS of them, or NULL */
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

/* How many of these blocks are known now to hold data; of what is not in memory, none. */
uint64_t index_known_data(struct index *x, const struct ancestry *view, uint64_t block,
                          uint64_t blocks);
/* 1: the block is known now to hold data with this checksum (version_crc). */
int index_known_check(struct index *x, const struct ancestry *view, uint64_t block, uint32_t crc);

/* Newest sequence that look-ups see. */
uint64_t index_applied(const struct index *x);
/* They see every record up to this number: the one before that of the first record that they do not see, UINT64_MAX if
 * there is none. After a start it is above index_applied(), as numbers are left out. */
uint64_t index_complete(const struct index *x);

/* Whether a segment is live; whether it is sealed, so that its file does not change any more. */
int index_segment_is_live(const struct index *x, uint32_t segment);
int index_segment_is_sealed(const struct index *x, uint32_t segment);

/* 1: all versions of a sealed segment belong to these families (rising); 0: they do not, or it is not
 * known to be sealed; ERR_AGAIN: ask again in a later turn. */
int index_segment_families(struct index *x, uint32_t segment, const uint32_t *families,
                           uint32_t count);

/* What is said of all segments that begin up to a sequence number and are older than every memtable:
 * merged runs where there are some, else the segments' own, oldest first; pinned until they are given
 * back. */
struct merge_source;
struct merged_segment;
struct index_sources {
    struct merge_source *sources;
    uint32_t count;
    struct merged_segment *segments; /* rising */
    uint32_t segment_count;
    uint64_t last_sequence;       /* of the last one: up to there it is complete */
    struct index_merged **pinned; /* by source; NULL: a segment's own */
    uint32_t *pinned_segments;
};
/* At most `max` sources; more than that are left out, the youngest first. ERR_AGAIN: not known yet;
 * ERR_NOMEM. */
int index_take_sources(struct index *x, uint64_t up_to, uint32_t max, struct index_sources *out);
void index_give_sources(struct index *x, struct index_sources *s);
/* Of a process that ends: the memory alone. */
void index_sources_free(struct index_sources *s);
/* That source cannot be read or does not check. */
void index_blame_source(struct index *x, const struct index_sources *s, uint32_t source);

/* The oldest limit of a look-up under way, or UINT64_MAX. */
uint64_t index_oldest_search(const struct index *x);

struct index_counts {
    uint32_t runs, memtables, merged, uncovered; /* uncovered: runs that no merged one covers */
    uint64_t merges;
    uint64_t table_hits, table_misses;
    uint64_t filter_probes, filter_passes;
    uint64_t leaf_hits, leaf_reads, directory_reads;
    uint64_t cache_bytes;
};
struct index_counts index_counts(const struct index *x);

#endif
