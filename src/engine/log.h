/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the rest of the engine asks of the log (log/). One log a store; every change of every volume
 * is a record in it, in the order of its sequence numbers. Formats: docs/formats.md.
 *
 * Recorded = in the open frame in the arena, part of the turn. Durable = the frame is on disk. At
 * most unlogged_bytes_max are recorded and not durable.
 *
 * Sequence numbers are dense while a store is in use; a start goes on well beyond any number that
 * may have been given before.
 */
#ifndef ENGINE_LOG_H
#define ENGINE_LOG_H

#include <stdint.h>

#include "arena/buffer.h"
#include "arena/io.h"
#include "engine/slots.h"
#include "engine/version.h"
#include "plat/alert.h"
#include "plat/clock.h"
#include "plat/file.h"
#include "plat/job.h"

#define LOG_SEGMENT_BYTES (64u << 20)
#define LOG_SEGMENT_RECORDS 65536u
#define LOG_FRAME_BYTES (1u << 20)
#define LOG_UNLOGGED_BYTES_MAX (64u << 20)

struct log;

/* Slots that TABLE_FRAME must have: full frames, and half full ones beside them. */
#define LOG_FRAMES_MAX 192u

extern const struct arena_table_spec segment_spec, frame_spec, engine_spec, wall_spec;

/* Numbers of io.device: below LOG_DEVICE_STORE, the slot file of that number. */
#define LOG_DEVICE_STORE 0xfffffff0u

/*
 * What the log calls; index/ implements it. `segment` is a slot of TABLE_SEGMENT. Unless said
 * otherwise, calls are part of a turn.
 */
struct log_index_ops {
    /* Bytes of a run over so many records with so many blocks of data, at most. A pure function
     * that never falls when an argument rises. */
    uint32_t (*run_bytes_max)(void *ctx, uint32_t records, uint32_t blocks);
    /* The segment begins to take versions. ERR_AGAIN: not now; not before another one is sealed. */
    int (*begin)(void *ctx, struct segment_h segment);
    /* A version, in the order of sequence numbers. Rule 1 of engine/index.h. ERR_AGAIN: not now,
     * nothing has happened. At a cold start it must not fail: a segment holds no more records than
     * it held before. */
    int (*append)(void *ctx, struct segment_h segment, const struct version *v);
    /* A version that was appended earlier and is not durable stands at v->place now, in `segment`;
     * it may have been in another one. Like all of them it is undone with its turn. v->crc is valid.
     * All newer versions move too, in order. */
    void (*moved)(void *ctx, struct segment_h segment, const struct version *v);
    /* All of the segment is durable and no more versions come: make its run and call
     * log_write_run(). Called again after an attach or a cold start if it was not sealed. `now`: within
     * a cold start, call log_write_run() before returning, or not at all if that cannot be; nothing
     * but the start waits. */
    void (*seal)(void *ctx, struct segment_h segment, int now);
    /* Its run is on disk (run_offset, run_bytes, run_crc in the slot). After log_write_run, and at a
     * cold start for each sealed segment, in order of their numbers. */
    int (*sealed)(void *ctx, struct segment_h segment);
    /* The segment is no longer there: forget what was begun or sealed. */
    void (*freed)(void *ctx, struct segment_h segment);
    /* What log_device does, for io.device from LOG_DEVICE_INDEX on. */
    int (*device)(void *ctx, uint32_t device);
};

struct log_params {
    uint32_t frame_bytes; /* at most, <= LOG_FRAME_BYTES */
    uint32_t unlogged_bytes_max;
    uint32_t submit_bytes;     /* an open frame of so many is submitted at once */
    uint64_t submit_age_ns;    /* or with a record this old */
    uint32_t reserve_segments; /* never used for writes */
    uint32_t clean_segments;   /* of them, for cleanings, which give back more than they take; */
    uint32_t control_segments; /* for control records; the others are for moves */
    uint64_t leave_bytes; /* of the file system, for the catalogue: no slot file is made of them */
    uint32_t ready_segments; /* prepared ahead */
    uint32_t zero_bytes;     /* of a slot that is used first, written in one job */
    uint32_t devices_max;    /* slot files kept open, but for those in use */
    uint64_t max_bytes;      /* of slot files; UINT64_MAX: what the file system has */
    uint64_t orphan_bytes;   /* how far from its end, or begin, a dead process may still write */
    uint64_t quarantine_ns;  /* how long a slot rests that a dead write may still hit */
};
struct log_params log_params_default(void);

struct log_env {
    struct arena *arena;
    struct buffer_pool *buffers;
    struct io_port *io;
    struct file_system files; /* of jobs, and of the start */
    struct job_runner jobs;
    struct clock clock;
    struct alert_sink alerts;
    const struct log_index_ops *index;
    void *index_ctx;
    /* At a cold start: does the catalogue say that the segment is freed? It never forgets one: an
     * old slot file put back in the place of the new one is known by that. */
    int (*segment_freed)(void *ctx, uint32_t segment);
    /* The highest sequence number up to which everything was sealed when segments were freed: no frame of
     * a segment that is not sealed counts up to there, as those that would say so may be gone. */
    uint64_t (*sealed_up_to)(void *ctx);
    void *catalogue_ctx;
};

/* Life. ------------------------------------------------------------------------------------- */

/* Makes the files of an empty store in a directory that has none. ERR_EXISTS. */
struct log_create {
    uint8_t store_id[16];
    uint32_t segment_bytes;   /* 0: LOG_SEGMENT_BYTES */
    uint32_t segment_records; /* 0: LOG_SEGMENT_RECORDS */
    uint64_t wall_ns;
};
int log_create_store(const struct file_system *files, const struct log_create *c);

/* Private memory. Registers the log's routines in env->io. NULL: no memory. */
struct log *log_open(const struct log_env *env, const struct log_params *params);
void log_close(struct log *l);

/* What a cold start found. */
struct log_report {
    uint64_t epoch;
    uint32_t segments_sealed;
    uint32_t segments_scanned;
    uint64_t frames_scanned;
    uint64_t last_sequence;  /* newest that counts */
    uint32_t stopped;        /* 1: the store was stopped in order */
    uint64_t catalogue;      /* transactions that the catalogue must have */
    uint32_t frames_torn;    /* at the end: cut */
    uint32_t records_cut;    /* of requests that are not whole */
    uint32_t frames_damaged; /* durable, and their header or records do not check */
    uint32_t blocks_damaged; /* durable, and their data do not check; they are delivered */
    uint64_t records_lost;   /* sequence numbers missing in the middle */
    uint32_t segments_missing;
    uint64_t lost_before; /* the number that the newest loss lies before; 0: none */
    uint32_t salvaged_frames;
    uint64_t salvaged_records;
    uint32_t salvage_damaged; /* frames that did not check; what follows is lost */
};

/* Records that were durable are not there: what is read may be older than what was written. */
static inline uint64_t log_report_losses(const struct log_report *r) {
    return r->frames_damaged + r->records_lost + r->segments_missing;
}

/* A cold start, in start-up code with arena phase EMPTY; commits in between. In this order:
 * log_recover reads the log. log_salvage, if there is a dead arena (rolled back), copies from it the
 * frames that continue the log; ERR_FORMAT: not an arena that can be read. log_begin makes the root
 * slot and TABLE_SEGMENT, records durably where the former epochs ended, writes the salvaged frames,
 * tells the index all, and lets the log work. Nothing may be served before log_begin. */
int log_recover(struct log *l, struct log_report *report);
int log_salvage(struct log *l, const void *dead_arena, uint64_t size_bytes,
                struct log_report *report);
int log_begin(struct log *l, struct log_report *report);

/* A warm attach: log_attach claims the buffers of frames and segments (after io_attach);
 * ERR_INTEGRITY if the slots contradict each other. log_resume, in the first turn, after io_adopted
 * or io_lost and after the index has attached. */
int log_attach(struct log *l);
void log_resume(struct log *l);

/* So many transactions of the catalogue are durable: what is written from now on says so. Also
 * between log_recover and log_begin. */
void log_catalogue_is(struct log *l, uint64_t transactions);

/* Everything recorded is durable, nothing is in flight and no job runs: the store is marked as
 * stopped, and the log works no more. ERR_BUSY if that is not so. May block. */
int log_stop(struct log *l);

/* From here on, values of io.device are the index's, not slot files. */
#define LOG_DEVICE_INDEX 0x40000000u

/* io.device to the router's device; opens it if need be, and closes one that nobody has asked for
 * lately and that has nothing in flight. Or an error. For struct io_port. */
int log_device(void *log, uint32_t device);

/* Turns. ------------------------------------------------------------------------------------ */

/* First and last call of every turn. */
void log_turn_begin(struct log *l);
void log_turn_end(struct log *l);
/* Monotonic time at which the log wants a turn; UINT64_MAX: only after an input. */
uint64_t log_deadline(const struct log *l);

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
    const uint32_t *first_crc; /* version_crc of the first block, if it is known; or NULL */
    uint32_t ref_timeline;
    uint64_t ref_sequence;
    uint32_t source; /* who asked, and its own number of the request (mission T10) */
    uint64_t source_number;
    int is_control; /* of the control plane: a full store takes it, too (log_room_for_control) */
};

/* Records in this turn and gives the sequence number; the index is told. ERR_AGAIN: not now, come
 * back in a later turn; ERR_NOSPC: the store is full; ERR_INVAL, ERR_RANGE, ERR_TOOBIG. Nothing has
 * happened then. */
int log_append(struct log *l, const struct log_append *r, uint64_t *sequence);

/* Whether the control records of all operations that may be under way still find room: 0; ERR_AGAIN:
 * ask again in a later turn; ERR_NOSPC: the reserve is used up. */
int log_room_for_control(struct log *l);

/* Everything up to `sequence` is wanted on disk now; log_durable() tells when it is. */
void log_want_durable(struct log *l, uint64_t sequence);
uint64_t log_durable(const struct log *l);  /* newest sequence of which all before are durable */
uint64_t log_recorded(const struct log *l); /* newest sequence given */
/* Newest durable record that ends a request: what is older is of whole requests, or of ones cut off. */
uint64_t log_whole(const struct log *l);
/* 0, or why what is recorded does not become durable. It is kept in memory and tried again; when
 * that succeeds nothing is lost and this is 0 again. */
int log_failed(const struct log *l);

/* The bytes of a place that is not on disk yet, or NULL: it is to be read from its segment. Valid
 * in this turn. */
const void *log_bytes_at(const struct log *l, uint64_t place);

/* Segments. --------------------------------------------------------------------------------- */

/* {0} if there is none of that number. */
struct segment_h log_segment(const struct log *l, uint32_t segment);

/* The sealed segment with the next number after `after` of those before which all are sealed, cold ones
 * left out; 0: there is none. */
uint32_t log_next_sealed(const struct log *l, uint32_t after);

/* How many of these end at a sequence number or before; and where the n-th, from 1, ends: no request goes
 * on behind it. ERR_NOTFOUND. */
struct log_moment;
uint32_t log_history(const struct log *l, uint64_t up_to);
int log_history_end(const struct log *l, uint32_t n, struct log_moment *out);

/* The segment's slot file for io_want, or an error (ERR_NOTFOUND: the segment is gone; others: its
 * file cannot be opened). Reads pin it until they end (log_unpin_segment), so that it is not
 * recycled under them. Pins are private memory: after an attach, owners of reads in flight pin again,
 * before log_resume. */
int log_pin_segment(struct log *l, uint32_t segment, uint32_t *device);
void log_unpin_segment(struct log *l, uint32_t segment);

/* The path of a slot file. */
#define LOG_PATH_BYTES 32u
void log_slot_path(uint32_t file, char path[LOG_PATH_BYTES]);

/* The 16 bytes that name the store. */
const uint8_t *log_store_id(const struct log *l);

/* The answer to log_index_ops.seal. The log owns `run` (malloc) from here on; it is written behind
 * the frames, and index->sealed is called. */
void log_write_run(struct log *l, struct segment_h segment, void *run, uint32_t bytes,
                   uint32_t versions);

/* The catalogue says durably that nobody needs the segment. ERR_NOTFOUND, or ERR_BUSY: it is not
 * sealed. */
int log_free_segment(struct log *l, uint32_t segment);

/* A cold segment: what is left of segments that are neighbours in the order of sequence numbers, written
 * by a cleaning (clean/) to a slot of its own and put in their place. It is found by its run like any
 * sealed segment, and has no frames: no moment is looked up in it. Its number is higher than theirs. */
struct log_cold {
    uint32_t segment;
    uint32_t file;
    uint64_t first_sequence, last_sequence; /* of the range that it stands for */
    uint64_t first_time_ns, last_time_ns;
    uint32_t data_end; /* data begin at BLOCK_BYTES */
    uint32_t blocks, versions;
    uint32_t run_offset, run_bytes, run_crc;
};

/* Takes a prepared slot; c->segment and c->file say which. ERR_AGAIN, ERR_NOSPC. Whoever took it writes
 * data, run and footer, in that order, after the catalogue says that the number is freed: until log_clean
 * the slot is room to any start. Preserved; a new process drops what it does not know. */
int log_cold_take(struct log *l, struct log_cold *c);
void log_cold_drop(struct log *l, uint32_t segment);
void log_cold_drop_others(struct log *l, uint32_t keep);
void log_cold_footer(const uint8_t store_id[16], const struct log_cold *c, uint8_t footer[4096]);

/* All of it is durable on disk. */
void log_cold_written(struct log *l, const struct log_cold *c);

/* The catalogue says durably that the cold segment (0: none) counts and that the sealed ones of the
 * range are freed. */
void log_clean(struct log *l, uint32_t cold, uint64_t first_sequence, uint64_t last_sequence);

/* The sealed segments of a range, those that a cold one stands for included, rising; at most `max`. */
uint32_t log_sealed_in(const struct log *l, uint64_t first_sequence, uint64_t last_sequence,
                       uint32_t *segments, uint32_t max);

/* For status: slot files in use for history, and unused ones; room for writes in bytes that the log
 * has now, without the reserve and without what the file system may still give. */
struct log_space {
    uint32_t slots;
    uint32_t slots_unused;
    uint64_t segment_bytes;
    uint64_t unlogged_bytes;
    uint64_t room_bytes;
    int full;     /* 1: writes that need room fail with ERR_NOSPC */
    int is_short; /* 1: no more slot files can be made, and few are unused */
};
void log_space(const struct log *l, struct log_space *s);

/* 1: a cleaning is about to give room back. Until it is 0 again writes wait that would fail with
 * ERR_NOSPC. Private: a new process is told again. */
void log_expect_room(struct log *l, int expected);

/* Time. ------------------------------------------------------------------------------------- */

uint64_t log_now_ns(const struct log *l); /* store time of this turn */
uint64_t log_wall_ns(const struct log *l);

/* Where the wall clock was set by more than LOG_CLOCK_JUMP_NS, oldest first: the newest `max`, as far as is known
 * (wall.h). */
#define LOG_CLOCK_JUMP_NS (60 * NS_PER_S)
#define LOG_CLOCK_JUMPS_MAX 256u
struct log_clock_jump {
    uint64_t before_ns, after_ns; /* wall time */
};
uint32_t log_clock_jumps(const struct log *l, struct log_clock_jump *jumps, uint32_t max);

/* 1 after a jump of the wall clock of more than 60 s, until it is confirmed or gone: store time goes
 * on by the monotonic clock alone, and nothing is to be dropped by age. */
int log_clock_suspect(const struct log *l);
void log_clock_confirm(struct log *l);

/* A record that somebody asked for, with its times: store time, and what the wall clock showed then.
 * other: with ERR_AMBIGUOUS, the wall clock showed the time twice: once after `sequence`, and again
 * after `other`. */
struct log_moment {
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t wall_ns;
    uint64_t other;
};

enum log_moment_kind {
    LOG_AT_STORE_TIME, /* the newest record not after it that ends a request */
    LOG_AT_WALL_TIME,  /* the same */
    LOG_AT_SEQUENCE,   /* the newest record not above it that ends a request */
};

/* Returns 1 with *out if memory tells; 0 if the log is to be read: then done(owner, result, m) is
 * called in a later turn with 0 or an error. ERR_RANGE: before the beginning, or what was there is
 * freed; ERR_NOTFOUND: the wall clock has not shown it yet; ERR_AMBIGUOUS; ERR_IO, ERR_INTEGRITY,
 * ERR_NOMEM. Not preserved: after an attach it is asked again. */
int log_find_moment(struct log *l, enum log_moment_kind kind, uint64_t value,
                    struct log_moment *out,
                    void (*done)(void *owner, int result, const struct log_moment *m), void *owner);

/* What was recorded of some sectors, newest first: the records that a timeline sees, of `since` < number <= `until`.
 * time_ns: store time; wall_ns: what the wall clock showed. start_sector, sectors: what it changed, also parts of blocks;
 * a trim changes whole ones. Of segments that a cleaning has put together, nothing is told, as they have no frames. */
struct log_listed {
    uint64_t sequence, time_ns, wall_ns;
    enum place_kind kind;
    uint32_t flags; /* enum log_record_flag */
    uint64_t start_sector, sectors;
    uint32_t source;       /* as it was appended */
    uint32_t ref_timeline; /* REFERENCE */
    uint64_t ref_sequence;
};
struct ancestry;
struct log_listing {
    const struct ancestry *view;
    uint64_t start_sector, end_sector;
    uint64_t since, until;
    struct log_listed *rows;
    uint32_t room, count;
    uint64_t next; /* the answer goes on with this as `until`; 0: that is all */
    void (*done)(struct log_listing *g, int result);
    void *owner;
};
/* 1: answered; 0: done() will be called, in a later turn, with 0, or ERR_IO, ERR_INTEGRITY; ERR_NOMEM. All memory stays
 * the caller's until then. Not preserved. An answer may have few rows, or none, and a next one. */
int log_list(struct log *l, struct log_listing *g);

#endif
