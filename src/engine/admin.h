/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin: what people ask of volumes, images and marks, as state machines over turns. An operation is
 * a preserved slot (admin_slots.h) that goes through the steps of its kind:
 *
 *   SET DECLARE_LOSS MARK_DELETE                                        CATALOGUE            DONE
 *   CREATE                                                       ROOM   CATALOGUE            DONE
 *   IMAGE_OPEN MARK       RESOLVE                DURABLE                CATALOGUE            DONE
 *   RESTORE               RESOLVE HOLD           DURABLE         ROOM   CATALOGUE            DONE
 *   RESTORE_RANGE         RESOLVE HOLD           DURABLE         ROOM   CATALOGUE SETTLE     DONE
 *   RESIZE                        HOLD PREPARE   DURABLE         ROOM   CATALOGUE            DONE
 *   IMAGE_CLOSE                   HOLD                                  CATALOGUE            DONE
 *   PROMOTE                       HOLD                           ROOM   CATALOGUE            DONE
 *   UNDELETE ACCEPT_LOSS          HOLD                                  CATALOGUE            DONE
 *   DELETE                        HOLD                                  CATALOGUE            DONE
 *   DELETE with NOW               HOLD                                  CATALOGUE BURY FREE  DONE
 *   SWEEP                                                               BURY FREE            DONE
 *
 * Invariants
 *  1. A step either changes the slot, in the turn in which it did its work, or can be done again.
 *     After an attach every operation goes on from its slot; what was asked of the catalogue or of
 *     the log is asked again.
 *  2. The catalogue's commit is the point of no return (a range restore: its record). Before it the
 *     operation can fail and leaves everything as it was; after it, it cannot fail. Room in tables is
 *     reserved before, and room in the log is there (ROOM).
 *  3. What the catalogue says of a moment is durable in the log first.
 *  4. What changes how moments resolve appends a record to the volume's timeline, so that a time after
 *     the change means a sequence number after it: a hole in the block behind the volume's end, which
 *     nobody sees (a volume that grows begins with a hole there anyway).
 *  5. A volume is held by one operation at a time, and only its holder changes its state. From HOLD
 *     until it ends, requests that have not begun wait, so nothing lies between `now_sequence` and the
 *     change.
 *
 * A cold start: catalogue_open; CATALOGUE_SNAPSHOT; the log recovers, knowing which segment numbers
 * are `freed`; the snapshot's generation must not be less than what the log's frames say, or the
 * catalogue is a file of yesterday and nothing is to be changed; CATALOGUE_COLD_START with an id of
 * random bits, and CATALOGUE_SNAPSHOT again; volumes_load; log_begin; admin_open; admin_sweep.
 */
#ifndef ENGINE_ADMIN_H
#define ENGINE_ADMIN_H

#include <stdint.h>

#include "engine/admin_slots.h"
#include "engine/catalogue/catalogue.h"
#include "engine/log.h"
#include "plat/alert.h"

#define ADMIN_VOLUME_BYTES_MAX (UINT64_C(64) << 50)
#define ADMIN_RETAIN_NS_MIN NS_PER_S
#define ADMIN_ON_DEMAND_NS (10 * NS_PER_S) /* an image on demand waits so long for its user */

/* A moment looked up in the log: the newest that is not after the wall time time_ns (by_time), or not
 * above the number `sequence`. No moment lies within a request, so it may be an older one than was
 * written. Filled in with both: time_ns is what the wall clock showed when that was recorded. other:
 * see ERR_AMBIGUOUS. */
enum admin_by { ADMIN_BY_SEQUENCE = 0, ADMIN_BY_WALL = 1, ADMIN_BY_STORE = 2 };
struct admin_moment {
    enum admin_by by_time;
    uint64_t time_ns, sequence, other;
    void (*done)(struct admin_moment *m, int result); /* in a later turn */
    void *owner;
    uint64_t operation;
};

/* What admin asks of the log. ctx: the log's. */
struct admin_log_ops {

    /* Newest sequence after which no request is half recorded; of which all is durable. */
    uint64_t (*recorded)(void *ctx);
    uint64_t (*durable)(void *ctx);
    void (*want_durable)(void *ctx, uint64_t sequence);
    int (*failed)(void *ctx); /* 0, or why nothing becomes durable any more */
    uint64_t (*store_ns)(void *ctx);
    /* Room for what follows a commit: as log_room_for_control. */
    int (*room)(void *ctx);
    /* As log_append. */
    int (*append)(void *ctx, const struct log_append *r, uint64_t *sequence);
    /* 0: m is filled in. ERR_AGAIN: done() will be called. ERR_RANGE: before the oldest moment.
     * ERR_NOTFOUND: the wall clock has not shown it yet. ERR_AMBIGUOUS: it showed it twice, once
     * after `sequence` and again after `other`. */
    int (*find_moment)(void *ctx, struct admin_moment *m);
    /* The catalogue has committed so many transactions: frames from now on say so. */
    void (*catalogue_is)(void *ctx, uint64_t generation);
    /* The sealed segment with the next number after `after`; 0: there is none. */
    uint32_t (*next_sealed)(void *ctx, uint32_t after);
    /* 1: all its records belong to these families (rising); 0: they do not; ERR_AGAIN: not known
     * yet, ask again in a later turn. */
    int (*segment_families)(void *ctx, uint32_t segment, const uint32_t *families, uint32_t count);
    /* That it is free is durable: it may be used again. Returns the bytes that it had. */
    uint64_t (*segment_freed)(void *ctx, uint32_t segment);
    uint64_t (*last_sequence)(void *ctx, uint32_t segment); /* of a sealed one */
    /* For cleanings; as log_sealed_in, log_clean, log_cold_drop_others, log_expect_room, log_history,
     * log_history_end, log_clock_suspect. */
    uint32_t (*sealed_in)(void *ctx, uint64_t first, uint64_t last, uint32_t *segments,
                          uint32_t max);
    void (*clean)(void *ctx, uint32_t cold, uint64_t first, uint64_t last);
    void (*cold_drop_others)(void *ctx, uint32_t keep);
    void (*expect_room)(void *ctx, int expected);
    uint32_t (*history)(void *ctx, uint64_t up_to);
    int (*history_end)(void *ctx, uint32_t n, struct log_moment *out);
    int (*clock_suspect)(void *ctx);
    int (*is_short)(void *ctx);
};

/* What admin asks of the request path and of the server. */
struct admin_engine_ops {
    /* 1: no request of this disk has begun and not ended. */
    int (*quiet)(void *ctx, struct volume_h v);
    /* Its connections are to be closed: it goes. */
    void (*evict)(void *ctx, struct volume_h v);
    /* Its slot has changed in this turn: state, size or timeline. */
    void (*changed)(void *ctx, struct volume_h v);
    /* A finished operation: 1 if its answer has been taken (the slot is freed), 0: ask again. */
    int (*answer)(void *ctx, struct operation_h h);
};

struct admin_config {
    struct arena *a;
    struct catalogue *catalogue;
    const struct admin_log_ops *log;
    void *log_ctx;
    const struct admin_engine_ops *engine;
    void *engine_ctx;
    struct clock clock;
    struct random_source random;
    struct alert_sink alerts; /* functions may be NULL */
};

struct admin_pending;
struct admin_cleaning;

/* The newest recorded moment, and since when the store shows it. */
struct admin_shown {
    uint64_t sequence, time_ns, store_ns;
};

struct admin {
    struct admin_config c;
    struct admin_pending *pending; /* by operation slot */
    uint64_t leases_seen_ns;       /* monotonic: when leases were looked at */
    uint64_t trash_seen_ns;        /* the same of the trash */
    struct volume_h trash_at;      /* the one looked at last */
    uint32_t forget_count;         /* segments to be forgotten; private, as they do no harm */
    uint32_t forget[CATALOGUE_SEGMENTS_MAX];
    struct catalogue_request *forgetting; /* under way */
    struct admin_cleaning *cleaning;
    uint64_t activity_ns; /* monotonic: when seconds that are over were looked for */
    int activity_wanted;
    struct admin_shown shown, due; /* due: to go to the catalogue, if its sequence is not 0 */
    uint64_t due_until_ns;
};

extern const struct arena_table_spec operation_spec;

/* Also at an attach. ERR_NOMEM. */
int admin_open(struct admin *ad, const struct admin_config *config);
/* The catalogue has ended all requests, or is gone with its process. */
void admin_close(struct admin *ad);

/* An operation as it is asked for. Fields that the kind does not name are not read.
 *
 *   CREATE         name size_bytes block_size retain_ns retain_bytes thinning flags:DURABLE_WRITES
 *   RESIZE         volumes[0] size_bytes flags:FORCE (to shrink, or with users)
 *   SET            volumes[0] retain_ns retain_bytes thinning
 *                  flags:DURABLE_WRITES KEEP_DURABILITY SET_RETAIN SET_RETAIN_BYTES SET_THINNING
 *   DELETE         volumes[0] flags:NOW FORCE
 *   UNDELETE ACCEPT_LOSS   volumes[0]
 *   IMAGE_OPEN     volumes moment name("": made) lease_ns(0: none) flags:WRITABLE ON_DEMAND EXACT
 *   IMAGE_CLOSE    image flags:FORCE
 *   IMAGE_PROMOTE  image name flags:FORCE
 *   RESTORE        volumes moment flags:FORCE DESTRUCTIVE DRY_RUN EXACT
 *   RESTORE_RANGE  volumes[0] moment offset_bytes length_bytes flags:FORCE DRY_RUN EXACT
 *   MARK           volumes moment name flags:KEEP EXACT
 *   MARK_DELETE    volumes name flags:FORCE */
struct admin_request {
    enum operation_kind kind;
    uint32_t flags;
    uint64_t reply;
    uint32_t volume_count;
    char volumes[OPERATION_VOLUMES_MAX][VOLUME_NAME_BYTES];
    char name[VOLUME_NAME_BYTES];
    char image[VOLUME_NAME_BYTES];
    enum operation_moment moment_kind;
    uint64_t moment;
    char label[VOLUME_NAME_BYTES];
    uint64_t size_bytes;
    uint32_t block_size;
    uint64_t lease_ns;
    uint64_t offset_bytes, length_bytes;
    uint64_t retain_ns, retain_bytes; /* 0: no limit */
    uint64_t thinning[THINNING_LEVELS];
};

/* Begins an operation in this turn. What is refused at once is a finished operation with its error,
 * too; ERR_NOMEM: no slot for it. */
int admin_begin(struct admin *ad, const struct admin_request *q, struct operation_h *out);

/* In every turn, after catalogue_reap: does what can be done. Returns how many operations wait for
 * nothing but another turn. */
int admin_turn(struct admin *ad);

/* After the turn's commit: hands requests to the catalogue. */
void admin_output(struct admin *ad);

/* Segments that hold nothing but dead families are looked for, unless that is under way: at a cold
 * start, and when segments have been sealed. */
void admin_sweep(struct admin *ad);

/* A cold start could not save all that was answered, or found `losses` of the log before a number: all volumes wait
 * for accept-loss. What was declared once is not declared again at the next start (catalogue_snapshot). */
void admin_declare_loss(struct admin *ad, uint64_t losses, uint64_t before);

/* History that is older than it has to be is given up by cleanings, from now on: by age, and when the
 * store has no room left. admin_clean_ops are for clean_open, with the admin as their context. */
struct clean;
struct clean_ops;
extern const struct clean_ops admin_clean_ops;
void admin_clean_with(struct admin *ad, struct clean *c, uint64_t (*oldest_reader)(void *ctx),
                      void *ctx);
/* A cleaning is wanted: there is garbage, and nobody waits for an age. */
void admin_clean_now(struct admin *ad);

/* What has been counted of all volumes (activity.h) is to be in the catalogue; whether it is. */
void admin_activity_now(struct admin *ad);
int admin_activity_is_known(const struct admin *ad);

/* The log has a use for a freed segment's number no more: the catalogue may forget it. One that is
 * not forgotten, as the process ends before, costs a row. */
void admin_forget_segment(struct admin *ad, uint32_t segment);

#endif
