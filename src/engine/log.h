/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rest of the engine asks of the log (log/). One log a store; every change of every volume
 * is a record in it, in the order of dense sequence numbers. Formats: docs/formats.md.
 *
 * Recorded = in the open frame in the arena, part of the turn. Durable = the frame is on disk. At
 * most LOG_UNLOGGED_BYTES_MAX are recorded and not durable.
 */
#ifndef ENGINE_LOG_H
#define ENGINE_LOG_H

#include <stdint.h>

#include "arena/buffer.h"
#include "engine/version.h"

#define LOG_SEGMENT_BYTES (64u << 20)
#define LOG_SEGMENT_RECORDS 65536u
#define LOG_FRAME_BYTES (1u << 20)
#define LOG_UNLOGGED_BYTES_MAX (64u << 20)

struct log;

enum log_record_flag {
    LOG_REPLAYED = 1 << 0, /* the request was replayed after a reload */
    LOG_MORE = 1 << 1,     /* the next record belongs to the same request: no moment lies between */
};

/* What to record. For PLACE_DATA: `blocks` blocks from `block`, whose bytes lie in the extents'
 * pages in order, one page a block; the log owns the pages when it returns 0. start_sector and
 * sectors are what the client wrote. At most LOG_APPEND_BLOCKS_MAX blocks of data a record; other
 * kinds have no limit. */
#define LOG_APPEND_BLOCKS_MAX 248u
struct log_append {
    enum place_kind kind;
    uint32_t timeline;
    uint32_t family;
    uint32_t flags;
    uint64_t start_sector;
    uint64_t sectors;
    uint64_t block;
    uint64_t blocks;
    const struct extent *data;
    uint32_t data_extents;
    uint32_t ref_timeline;
    uint64_t ref_sequence;
    uint32_t source; /* who asked, and its own number of the request (mission T10) */
    uint64_t source_number;
};

/* Records in this turn and gives the sequence number; the index is told. ERR_AGAIN: not now, come
 * back in a later turn; ERR_NOSPC: the store is full. Nothing has happened then. */
int log_append(struct log *l, const struct log_append *r, uint64_t *sequence);

/* Everything up to `sequence` is wanted on disk now; log_durable() tells when it is. */
void log_want_durable(struct log *l, uint64_t sequence);
uint64_t log_durable(const struct log *l);  /* newest sequence of which all before are durable */
uint64_t log_recorded(const struct log *l); /* newest sequence given */
int log_failed(const struct log *l);        /* 0, or why records can no longer become durable */

/* The bytes of a place that is not on disk yet, or NULL: it is to be read from its segment. Valid
 * in this turn. */
const void *log_bytes_at(const struct log *l, uint64_t place);

/* The segment's slot file for io_want, or an error (ERR_NOTFOUND: the segment is gone). Reads pin
 * it until they end (log_unpin_segment), so that it is not recycled under them. */
int log_pin_segment(struct log *l, uint32_t segment, uint32_t *device);
void log_unpin_segment(struct log *l, uint32_t segment);

/* Moments. The newest sequence whose store time is not after time_ns and after which a request is
 * whole; ERR_RANGE before the beginning. May read the log: call from a job through its own
 * snapshot. */
uint64_t log_now_ns(const struct log *l); /* store time of this turn */

#endif
