/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: the life of a block request, from READY to DONE (plat/md_packet.h).
 *
 * What holds, for requests of one disk and of all:
 *  1. A request that is answered is applied: every later read sees it.
 *  2. A read is as of one moment, the turn in which it began: it sees each write whole or not at all,
 *     however long either is, and however long the look-ups and disk reads take.
 *  3. Writes, trims and zeroes that overlap are recorded in the order of their arrival, if one of them
 *     has to read what was there before.
 *  4. A request is recorded as a whole: no moment lies between its records, and no record of another
 *     request.
 *  5. A request that fails has changed nothing; but one of several records may have been recorded in
 *     part, if it ran out of space, or if the engine died in the middle and the old bytes at its end could
 *     not be read any more.
 *
 * Contexts of requests under way are private memory. After an attach every READY request begins again,
 * in the order of arrival and flagged REPLAYED; a long write goes on at `progress`.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdint.h>

#include "arena/buffer.h"
#include "arena/io.h"
#include "arena/request.h"
#include "engine/ancestry.h"
#include "engine/index.h"
#include "engine/log.h"
#include "plat/alert.h"
#include "plat/clock.h"

#define ENGINE_RECORDS_PER_TURN 1024u

struct engine_run;

struct engine_parts {
    struct arena *a;
    struct buffer_pool *buffers;
    struct io_port *io; /* engine_open puts ROUTINE_BLOCK_READ and ROUTINE_DISCARD in place */
    struct log *log;
    struct index *index;
    struct ancestries *ancestries;
    struct alert_sink alerts;
    struct clock clock;        /* ops may be NULL: nobody asks for a deadline */
    uint32_t records_per_turn; /* of writes, at most; 0: ENGINE_RECORDS_PER_TURN */
    /* The request is DONE, in this turn. It may be freed. */
    void (*reply)(void *ctx, struct request_h h);
    void *reply_ctx;
};

int engine_open(struct engine_run **out, const struct engine_parts *parts); /* ERR_NOMEM */
void engine_close(struct engine_run *e);

/* In the first turn after an attach, after index and log have attached: takes all requests that are
 * READY or APPLIED. ERR_NOMEM. */
int engine_attach(struct engine_run *e);

/* A request in state READY, in the order of arrival. Its volume stays until it is DONE. A READ or
 * BLOCK_STATUS may bring the pages for its result, which the engine may exchange for others. */
void engine_submit(struct engine_run *e, struct request_h h);

/* In every turn, after completions and jobs were taken and requests submitted. Stops when the undo log
 * has less than ARENA_HANDLER_UNDO_BYTES left; engine_deadline is 0 then. */
void engine_turn(struct engine_run *e);

/* After every commit, before anything leaves the process. */
void engine_after_commit(struct engine_run *e);

/* Monotonic time at which another turn is wanted; 0: at once; UINT64_MAX: only after an input. */
uint64_t engine_deadline(const struct engine_run *e);

/* 1: no request of this volume has begun and is not DONE. Requests of a volume that is HELD do not
 * begin. */
int engine_is_quiet(const struct engine_run *e, struct volume_h v);

/* The volume's slot has changed in this turn: what waits for it looks again. */
void engine_volume_changed(struct engine_run *e, struct volume_h v);

/* The oldest moment that something under way looks at, or UINT64_MAX. */
uint64_t engine_oldest_moment(const struct engine_run *e);

/* Newest sequence after which no request is half recorded. */
uint64_t engine_recorded_whole(const struct engine_run *e);

/* A record of somebody else, who does not go between the records of one request: as log_append. */
int engine_append(struct engine_run *e, const struct log_append *r, uint64_t *sequence);

/* Which blocks of a timeline were written after `since` and up to `until`, from block to end_block, as
 * it sees its ancestors. */
struct engine_range {
    uint64_t block, blocks;
};
struct engine_changes {
    uint32_t timeline;
    uint64_t since, until;
    uint64_t block, end_block;
    struct engine_range *ranges;
    uint32_t room;
    int only_newest; /* no ranges: just the newest of those writes */
    void (*done)(struct engine_changes *c, int err);
    void *owner;
    /* The answer: */
    uint32_t count;
    uint64_t next_block; /* up to where it tells; ask again from there if that is not end_block */
    uint64_t newest;     /* only_newest: its number; 0: there is none */
    /* private */
    struct engine_run *engine;
    const struct ancestry *view;
    struct engine_changes *next;
    uint32_t chunks;
    int waits;
};

/* done() is called in a later turn, with 0, ERR_IO, ERR_INTEGRITY or ERR_NOMEM; the memory is the
 * caller's and stays until then. Returns 0, or ERR_INTEGRITY: there is no such timeline. Not
 * preserved. */
int engine_changes_begin(struct engine_run *e, struct engine_changes *c);

/* Whether changes since a moment can be told of what the volume shows: 0; ERR_RANGE: it is before its oldest
 * promised moment; ERR_CHANGED: it is in no past of it, but in one that a restore took back, or behind the
 * moment that an image shows; ERR_INTEGRITY. */
int engine_check_since(struct engine_run *e, struct volume_h v, uint64_t since);

struct engine_counts {
    uint64_t reads, writes, flushes, others, failed;
    uint64_t partial_blocks; /* read to be completed before they were written */
    uint64_t same_blocks;    /* written with what they held */
    uint64_t blocks_from_log, blocks_from_cache, blocks_from_disk;
    uint64_t advised_blocks; /* read ahead */
    uint64_t checks_failed;  /* blocks whose checksum did not match when they were read */
    uint32_t under_way;
};
struct engine_counts engine_counts(const struct engine_run *e);

#endif
