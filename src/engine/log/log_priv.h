/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log from inside. Files:
 *
 *   *_disk.c    formats
 *   frame.c     a frame in the arena
 *   writer.c    records into frames; frames to disk
 *   move.c      frames whose write failed get other places
 *   slots.c     slot files and segments: preparing, freeing, finding
 *   cold.c      segments that cleanings write
 *   history.c   segments that hold data, in the order of their numbers
 *   seal.c      runs and footers
 *   epoch.c     the store header
 *   clock.c     store time
 *   wall.c      what the wall clock showed at a store time
 *   start.c     opening, a new store, attach, stop
 *   scan.c      cold start: what is in the slot files
 *   chain.c     which frames count
 *   recover.c   cold start: slots, versions, where to go on
 *   salvage.c   frames of a dead arena
 *   back.c      back through the frames
 *   moment.c    time to sequence
 *   list.c      what was recorded, for people
 *
 * Everything preserved is in the root slot (root.h), TABLE_SEGMENT and TABLE_FRAME; struct log is
 * private and derived from them, or counts what a new process may count anew.
 */
#ifndef ENGINE_LOG_LOG_PRIV_H
#define ENGINE_LOG_LOG_PRIV_H

#include "engine/log.h"
#include "engine/log/frame.h"
#include "engine/log/segment_disk.h"
#include "engine/log/store_disk.h"
#include "engine/root.h"

#define LOG_DIR "log"
#define LOG_RETRY_MIN_NS (10 * NS_PER_MS)
#define LOG_RETRY_MAX_NS NS_PER_S
#define LOG_NUMBERS_GAP (UINT64_C(1) << 24) /* more than can be recorded and not durable */
#define LOG_HEADERS_GAP                                                                            \
    (UINT64_C(1) << 16)     /* more writings of the store header than may land late */
#define LOG_SEGMENT_GAP 16u /* segment numbers that a start leaves out */

/* Samples and families of a segment that is not sealed, in a page of the buffers. Written beyond the
 * counts in the segment's slot. */
struct segment_notes {
    uint32_t families[FOOTER_FAMILIES_MAX];
    struct footer_sample samples[FOOTER_SAMPLES_MAX];
    struct wall_span wall[FOOTER_WALL_MAX];
};
_Static_assert(sizeof(struct segment_notes) == 256 + 32 * 64 + 32 * 48, "no padding");
_Static_assert(sizeof(struct segment_notes) <= BUFFER_PAGE_BYTES, "notes are one page");

struct seal_job;
struct slot_job;
struct moment;
struct listing;

struct log {
    struct log_env env;
    struct log_params params;
    struct arena *a;
    struct buffer_pool *buffers;
    struct io_port *io;
    struct engine_h root;
    struct wall_h wall;
    /* Frames, oldest first. */
    struct frame_h ring[LOG_FRAMES_MAX];
    uint32_t ring_first, ring_count;
    uint32_t unlogged_pages;
    /* Slots of TABLE_SEGMENT. */
    uint32_t segment_capacity;
    uint32_t *by_number; /* slot index + 1 by hash of the number, chained through by_number_next */
    uint32_t *by_number_next;
    uint32_t by_number_mask;
    uint32_t *pins;    /* by slot index */
    uint32_t *history; /* history.c */
    uint32_t history_count;
    uint32_t state_count[SEGMENT_COLD + 1];
    int32_t *devices;      /* by slot file number: the router's + 1 */
    uint8_t *device_asked; /* since the hand passed it */
    uint32_t devices_open, device_hand;
    int32_t store_device;
    uint8_t *file_used; /* by slot file number */
    /* Work under way. */
    struct slot_job *slot_job;
    struct seal_job *seals; /* running, or waiting for seal_retry_ns */
    struct moment *moments;
    struct listing *listings;
    uint32_t epoch_writes; /* of the store header in flight, ours and adopted */
    uint64_t epoch_retry_ns;
    uint64_t slots_retry_ns;
    uint64_t seal_retry_ns; /* 0: none waits */
    int full;               /* the last try to make a slot file found no room */
    int told_full;
    int room_is_coming;
    int resumed; /* the log may begin work */
    /* This turn. */
    uint64_t mono_ns, wall_ns, store_ns;
    /* A cold start under way. */
    struct recovery *recovery;
};

static inline const struct engine *root_view(const struct log *l) {
    return engine_view(l->a, l->root);
}
static inline struct engine *root_edit(struct log *l) {
    return engine_edit(l->a, l->root);
}
static inline uint32_t log_segment_bytes(const struct log *l) {
    return root_view(l)->log_segment_bytes;
}

/* Frames (writer.c). */
static inline struct frame_h ring_at(const struct log *l, uint32_t i) {
    return l->ring[(l->ring_first + i) % LOG_FRAMES_MAX];
}
uint32_t log_frame_vecs(void *ctx, const struct io *io, struct io_vec *vecs, uint32_t max);
int log_frame_written(void *ctx, struct io_h h, const struct io *io, int32_t result);
/* Whether `bytes` at `at` of a segment with so many records and blocks leave room for the footer. */
int log_fits(const struct log *l, uint32_t at, uint32_t bytes, uint32_t records, uint32_t blocks);
void log_submit(struct log *l);
uint64_t log_submit_deadline(const struct log *l);
void ring_rebuild(struct log *l); /* after an attach */

/* Other places (move.c). */
void log_move_frames(struct log *l);

/* Segments (slots.c). The handle of the slot with this index, whatever it holds. */
struct segment_h log_segment_handle(const struct log *l, uint32_t index);
void segment_set_state(struct log *l, struct segment_h h, enum segment_state state);
void segment_set_number(struct log *l, struct segment_h h, uint32_t number);
struct segment_h segment_new_slot(struct log *l, enum segment_state state);
void segment_drop_slot(struct log *l, struct segment_h h);
void segments_index(struct log *l); /* derives by_number and state_count */
/* For whom a segment is taken: how many unused ones it leaves differs. */
enum segment_use {
    SEGMENT_FOR_WRITES,
    SEGMENT_FOR_CLEANING,
    SEGMENT_FOR_CONTROL,
    SEGMENT_FOR_MOVES
};
/* The prepared one of the lowest number; {0}: there is none. */
struct segment_h segment_reserved(const struct log *l);
/* Forgets all but number and file, which is room again. */
void segment_make_free(struct log *l, struct segment_h h);
int segment_take(struct log *l, enum segment_use use, struct segment_h *out);
/* 0: it leaves enough as things are; ERR_AGAIN, ERR_NOSPC. */
int segments_left(struct log *l, enum segment_use use, uint32_t wanted);
void segment_give_back(struct log *l, struct segment_h h);
/* The segment has no frame that counts: its slot is free again, after a rest if a dead write may
 * still hit it. */
void segment_abandon(struct log *l, struct segment_h h, int rest);
void segments_work(struct log *l);
void segments_let_rest(struct log *l); /* after an attach: where a dead write may still land */
void segments_unpinned(struct log *l); /* after an attach: frees what nobody reads any more */
void segments_close(struct log *l);
uint64_t segments_deadline(const struct log *l);
struct segment_notes *segment_notes(const struct log *l, const struct segment *s);
void segment_release_notes(struct log *l, struct segment_h h);

/* Segments in order (history.c). */
static inline int segment_holds_data(const struct segment *s) {
    return s->slot.state == SEGMENT_OPEN || s->slot.state == SEGMENT_SEALING ||
           s->slot.state == SEGMENT_SEALED;
}
/* It stands in the history: it has frames, or will have. */
static inline int segment_has_moments(const struct segment *s) {
    return segment_holds_data(s) && !(s->flags & SEGMENT_IS_COLD);
}
void history_derive(struct log *l);
void history_add(struct log *l, struct segment_h h);
void history_remove(struct log *l, struct segment_h h);
/* The newest segment whose first durable record is not after it; {0}: there is none. */
struct segment_h history_at(const struct log *l, int by_sequence, uint64_t value);

/* A durable frame becomes part of its segment's notes and counts (seal.c). */
void segment_note_frame(struct log *l, struct segment_h h, const struct frame_header *fh,
                        uint64_t last_sequence, uint64_t last_time_ns);
void segment_note_family(struct log *l, struct segment_h h, uint32_t family);
/* Asks for the run if the segment is complete and durable. */
void segment_try_seal(struct log *l, struct segment_h h);
void seals_resume(struct log *l);
/* A job of the log's; a start waits for it. */
static inline void log_start_job(struct log *l, struct job *j) {
    if (l->resumed) {
        l->env.jobs.ops->start(l->env.jobs.ctx, j);
    } else {
        j->run(j);
        j->done(j);
    }
}
/* Within a cold start: seals the oldest segment that takes no more records and is of whole requests.
 * ERR_AGAIN if there is none, or what failed. */
int seal_one_now(struct log *l);
void seals_ask_waiting(struct log *l); /* log_whole has risen */
void seals_work(struct log *l);
int seals_run(const struct log *l);
void seals_close(struct log *l);

/* Store header (epoch.c). */
int log_write_header(struct log *l, uint32_t state); /* at start and stop: waits */
int log_write_headers(struct log *l);                /* at start: both copies, in use */
void log_raise_epoch(struct log *l);
/* What the header will say of this epoch: it ended where the log ends now. */
static inline void log_epoch_ends_here(struct engine *root, uint64_t epoch) {
    root->log_ended_epoch = epoch;
    root->log_ended_segment = root->log_end_segment;
    root->log_ended_offset = root->log_end_bytes;
    root->log_ended_sequence = root->log_end_sequence;
}
int log_epoch_written(void *ctx, struct io_h h, const struct io *io, int32_t result);

/* Store time (clock.c). */
void log_clock_read(struct log *l); /* changes nothing in the arena */
void log_clock_turn(struct log *l);
void log_clock_save(struct log *l);
/* known_ns: up to where the log knows what the wall clock showed; store time begins at least_ns or later. */
void log_clock_start(struct log *l, uint64_t known_ns, uint64_t least_ns);
void log_clock_resume(struct log *l); /* after an attach: what is still amiss is told again */

/* What the wall clock showed (wall.h). */
static inline const struct wall *wall_spans(const struct log *l) {
    return wall_view(l->a, l->wall);
}
static inline const struct wall_span *wall_newest(const struct log *l) {
    must(wall_spans(l)->count > 0);
    return &wall_spans(l)->span[wall_spans(l)->count - 1];
}

/* Moments (moment.c). */
void moments_close(struct log *l);
void listings_close(struct log *l); /* list.c */

void log_alert(struct log *l, enum alert_level level, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void log_alert_clear(struct log *l, const char *code);

/* A cold start (recover.c). */
void recovery_close(struct log *l);

/* Start-up code commits when the undo log runs low; the arena's phase is EMPTY then. */
void log_start_commit(struct log *l, int always);

/* A version out of a record; `crc` stays with the caller. */
struct version log_version_of(const struct frame_walk *w, uint32_t segment, uint32_t frame_offset,
                              uint64_t frame_time_ns);

#endif
