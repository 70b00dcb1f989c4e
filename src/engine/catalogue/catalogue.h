/* SPDX-License-Identifier: Apache-2.0 */
/*
 * catalogue: what the store holds, by name: volumes and their sizes through time, timelines, images,
 * marks, freed segments. An SQLite database of its own, on a worker of its own, behind messages: a
 * reactor never waits for it. Schema: schema.c. Uses base, plat and the limits of slots.h.
 *
 * A request is private memory, filled from preserved slots, and runs as a job. Requests run one at a
 * time, in the order in which they were submitted, whatever the runner's own order is.
 *
 * Transactions are outputs that may be repeated (design/arena.md): each carries an operation id and
 * a step. What is committed records both with its result; the same again does nothing and gives the
 * same result. The last CATALOGUE_APPLIED_MAX are remembered, far more than can be under way.
 *
 * Results: 0 committed; ERR_AGAIN the outcome is unknown (the disk fails): submit the same again,
 * later; any other error: nothing has happened, `detail` says why.
 *
 * Moments across restores. A volume shows one timeline at a time. Its history is a list of
 * *stretches* (from_sequence, timeline): moment s of the volume is the state at s of the timeline of
 * the last stretch with from_sequence <= s. A restore at sequence R to moment s < R appends the
 * stretch (R + 1, new timeline forked from what the volume showed at s), so that moment R is the
 * state before the restore, and restoring R undoes it. Sizes are listed in the same way.
 *
 * The horizon of a volume is its oldest *promised* moment. It only advances, and is durable here
 * before anything that only older moments see is dropped:
 *   1. moments of a volume from its horizon on, and those of its marks with hold, open;
 *   2. any other is refused in the very transaction that would open it;
 *   3. CATALOGUE_KEEPS lists all that is promised: what no line of it sees may be dropped. That is of each
 *      volume, the trash included, for each stretch what of it is not older than the horizon; of each
 *      image its present; of each mark with hold, or where history is thinned, its moment; of each
 *      restored range, unless nobody shows it, what it refers to.
 *
 * Thinning (engine/thinning.h). Once a minute in which something was recorded, a moment of the whole store is
 * noted here, with the longest step of the wall clock at a whole multiple of which it was what the store
 * showed. A volume's history is divided into *zones*: from a sequence on, the moments of a step are promised, or
 * with 0, all. Zones are only ever thinned further.
 */
#ifndef ENGINE_CATALOGUE_CATALOGUE_H
#define ENGINE_CATALOGUE_CATALOGUE_H

#include <stdint.h>

#include "engine/activity.h"
#include "engine/clean/keep.h"
#include "engine/slots.h"
#include "plat/clock.h"
#include "plat/file.h"
#include "plat/job.h"
#include "plat/random.h"

#define CATALOGUE_PATH "catalogue.db"
#define CATALOGUE_VOLUMES_MAX 64 /* volumes that one operation takes */
#define CATALOGUE_TIMELINES_MAX 65536u
#define CATALOGUE_OBJECTS_MAX 4096u /* volumes and images */
#define CATALOGUE_MARKS_MAX 65536u
#define CATALOGUE_APPLIED_MAX 4096u
#define CATALOGUE_SEGMENTS_MAX 128 /* freed by one transaction */
#define CATALOGUE_ROWS_MAX 256     /* of one answer to a list */
#define CATALOGUE_DETAIL_BYTES 160

enum catalogue_kind {
    CATALOGUE_VOLUME_CREATE = 1,
    CATALOGUE_VOLUME_RESIZE,
    CATALOGUE_VOLUME_SET,
    CATALOGUE_VOLUME_DELETE,   /* into the trash; its name stays taken */
    CATALOGUE_VOLUME_UNDELETE, /* out of it */
    CATALOGUE_VOLUME_PURGE,
    CATALOGUE_VOLUME_LOST, /* sets or clears what accept-loss clears */
    CATALOGUE_IMAGE_OPEN,
    CATALOGUE_IMAGE_CLOSE,
    CATALOGUE_IMAGE_PROMOTE,
    CATALOGUE_RESTORE,
    CATALOGUE_REFERENCE, /* a range restore pins what it refers to */
    CATALOGUE_MARK,
    CATALOGUE_MARK_DELETE,
    CATALOGUE_SEGMENTS_FREE,   /* these may be used again */
    CATALOGUE_SEGMENTS_FORGET, /* these are used again, under another number */
    CATALOGUE_COLD_START,      /* ends images that no process holds any more */
    CATALOGUE_HORIZON,         /* older moments of these volumes are given up */
    CATALOGUE_SEGMENTS_CLEAN,  /* these may be used again, and what they held lies in `cold` */
    CATALOGUE_ACTIVITY,        /* what clients did in some seconds */
    CATALOGUE_MOMENT,          /* what the store showed for some time */
    CATALOGUE_QUERIES,         /* from here on: nothing is changed, operation is 0 */
    CATALOGUE_SNAPSHOT,        /* everything that a cold start needs */
    CATALOGUE_DEAD_FAMILIES,   /* a snapshot of nothing else */
    CATALOGUE_RESOLVE,         /* what volumes showed at a moment */
    CATALOGUE_MARK_FIND,
    CATALOGUE_LIST_MARKS,
    CATALOGUE_LIST_PINS,
    CATALOGUE_LIST_STRETCHES,
    CATALOGUE_LIST_ACTIVITY,
    CATALOGUE_RATE, /* how much was recorded in some time */
    CATALOGUE_LIMITS, /* how far back the bytes go that volumes are to keep, and from where on all moments */
    CATALOGUE_NEAREST, /* the promised moment that is not after another */
    CATALOGUE_KEEPS,   /* all that is promised */
    CATALOGUE_KINDS
};

enum catalogue_arg_flag {
    CATALOGUE_FORCE = 1 << 0,
    CATALOGUE_DESTRUCTIVE = 1 << 1,
    CATALOGUE_HOLD = 1 << 2,
    CATALOGUE_WRITABLE = 1 << 3,
    CATALOGUE_ON_DEMAND = 1 << 4,
    CATALOGUE_SET_LOST = 1 << 5,
    CATALOGUE_DURABLE_WRITES = 1 << 6,  /* create, set */
    CATALOGUE_KEEP_DURABILITY = 1 << 7, /* set: DURABLE_WRITES is not looked at */
    CATALOGUE_SET_RETAIN = 1 << 8,      /* set: retain_ns is */
    CATALOGUE_SET_RETAIN_BYTES = 1 << 9,
    CATALOGUE_SET_THINNING = 1 << 10, /* set: thinning is */
    CATALOGUE_BY_TIME = 1 << 11,      /* nearest: to moment_ns, before `sequence`; else to that */
    CATALOGUE_EXACT = 1 << 12,        /* nearest: no other */
};

/* Fields that a kind does not name are not read. `from_sequence`: the first sequence number that
 * sees the change; `sequence`: the moment that is asked for. */
struct catalogue_args {
    uint64_t operation;
    uint32_t step;
    uint32_t flags;
    uint32_t volume_count;
    uint32_t block_size;                       /* create */
    uint64_t volumes[CATALOGUE_VOLUMES_MAX];   /* ids, of volumes or of images */
    char name[VOLUME_NAME_BYTES];              /* of the new object; mark's label */
    uint8_t uuid[16];                          /* create, promote */
    uint64_t size_bytes;                       /* create, resize */
    uint64_t sequence, moment_ns;              /* image, restore, mark, reference, resolve; free and
                                                  clean: everything up to there is sealed */
    uint64_t from_sequence;                    /* create, resize, promote, restore, delete */
    uint64_t now_ns;                           /* wall */
    uint64_t lease_ns;                         /* image: store time, 0: none */
    uint64_t start_block, blocks;              /* reference */
    uint32_t segments[CATALOGUE_SEGMENTS_MAX]; /* free, forget, clean */
    uint32_t segment_count;
    uint32_t cold;                              /* clean: is not free any more; 0: none */
    uint64_t horizons[CATALOGUE_VOLUMES_MAX];   /* horizon: of volumes[i], and the wall time of */
    uint64_t horizon_ns[CATALOGUE_VOLUMES_MAX]; /* that moment, if the volume */
    uint64_t retained[CATALOGUE_VOLUMES_MAX];   /* retains so many ns; 0: in any case; */
    uint64_t retained_bytes[CATALOGUE_VOLUMES_MAX]; /* the same of bytes */
    uint64_t retain_ns, retain_bytes;               /* create, set */
    uint64_t thinning[THINNING_LEVELS];             /* the same */
    uint8_t thins[CATALOGUE_VOLUMES_MAX]; /* horizon: volumes[i] is thinned, as of store_ns */
    uint64_t store_ns;                    /* limits, moment, horizon */
    uint64_t after;                       /* lists: rows with a greater key */
    uint64_t losses;               /* lost: of the log, before `sequence`; 0: of a dead arena */
    uint64_t from_s, to_s, step_s; /* list of activity: from, before, by so much */
};

struct catalogue_timeline {
    uint32_t id, family, parent, reserved;
    uint64_t fork_sequence, first_sequence;
};

/* A volume or an image. flags: enum volume_flag. */
struct catalogue_object {
    uint64_t id;
    char name[VOLUME_NAME_BYTES];
    uint64_t size_bytes;
    uint32_t block_size, flags;
    uint32_t is_lost, reserved;
    uint64_t created_ns, deleted_ns;
    uint64_t source_id, moment_sequence, moment_ns, lease_ns; /* images */
    /* Volumes in a snapshot, created, promoted and after HORIZON: the oldest promised moment, which
     * is the horizon or where the first stretch begins. Else 0. */
    uint64_t oldest_sequence, oldest_ns;
    uint64_t retain_ns, retain_bytes; /* volumes: 0 no limit */
    uint64_t thinning[THINNING_LEVELS];
    uint64_t fine_sequence,
        fine_ns; /* as oldest: from where on all moments are promised; 0: oldest */
    struct catalogue_timeline line;
};

/* Objects: one for each volume asked for, in that order; HORIZON leaves one that is gone zero.
 * Words, by kind:
 *   RATE             0 bytes recorded by all volumes from from_s to to_s, 1 the seconds of that time
 *                    in which the store was there
 *   PURGE            0 family, 1 whether nothing needs its data any more
 *   MARK, MARK_FIND  0 sequence, 1 time_ns
 *   NEAREST          0 sequence, 1 time_ns, 2 whether it shows what was asked for */
struct catalogue_result {
    uint32_t count;
    uint64_t words[4];
    struct catalogue_object objects[CATALOGUE_VOLUMES_MAX];
};

/* One row of a list. key: `after` of the next page, if it is the last row of this one.
 *   MARKS      name = label, volume, sequence, time_ns, created_ns, is_hold; of volumes[0], 0: all
 *   PINS       pin, name = label or image, volume, sequence, time_ns (0: not known), lease_ns (store time, 0: none); of
 *              volumes[0], 0: all; the oldest moment first. A part of a volume that was restored shows its moment
 *   LIMITS     volume, size_bytes = retain_bytes; sequence, time_ns: the moment after which it recorded
 *              no more than that; 0: that is all; fine_sequence: its zones are to change, and from there
 *              on all moments stay
 *   STRETCHES  sequence = from, timeline, created_ns, size_bytes at its begin; of volumes[0] */
enum catalogue_pin { CATALOGUE_PIN_MARK = 1, CATALOGUE_PIN_IMAGE, CATALOGUE_PIN_RANGE };
struct catalogue_row {
    uint64_t key, volume;
    char name[VOLUME_NAME_BYTES];
    uint64_t sequence, time_ns, created_ns, size_bytes, fine_sequence;
    uint32_t is_hold, timeline;
    enum catalogue_pin pin;
    uint64_t lease_ns;
};
/* One step of a volume's activity: `time` is its first second, since 1970. */
struct catalogue_activity {
    uint64_t volume, time;
    uint64_t first_sequence, last_sequence, last_ns, clean_sequence;
    uint64_t counted[ACTIVITY_COUNTERS];
};
/* LIST_ACTIVITY: steps in which something was counted, oldest first, of volumes[0]; base_s: made of rows of
 * this step, of which CATALOGUE_*_KEPT are kept. */
struct catalogue_activities {
    uint32_t count;
    uint64_t base_s;
    struct catalogue_activity rows[CATALOGUE_ROWS_MAX];
};

#define CATALOGUE_SECOND 1u
#define CATALOGUE_MINUTE 60u
#define CATALOGUE_HOUR 3600u
#define CATALOGUE_SECONDS_KEPT (2u * 3600)
#define CATALOGUE_MINUTES_KEPT (14u * 86400)
#define CATALOGUE_HOURS_KEPT (5u * 366 * 86400)

struct catalogue_list {
    uint32_t count;
    struct catalogue_row rows[CATALOGUE_ROWS_MAX];
};

/* Everything in one block of memory. */
struct catalogue_snapshot {
    uint32_t timeline_count, object_count, freed_count, dead_count;
    struct catalogue_timeline *timelines; /* ids rise, so parents stand before their children */
    struct catalogue_object *objects;
    uint64_t sealed_up_to;        /* all up to there was sealed when segments were freed */
    uint64_t losses, lost_before; /* of the log, that have been declared */
    uint32_t *freed;              /* segment numbers, rising */
    uint32_t *dead;               /* families whose data nobody needs, rising */
};

struct catalogue;
struct db;

struct catalogue_request {
    struct job job; /* the catalogue's */
    struct catalogue *catalogue;
    struct catalogue_request *next;
    enum catalogue_kind kind;
    struct catalogue_args args;
    int result;
    char detail[CATALOGUE_DETAIL_BYTES];
    struct catalogue_result out;
    struct catalogue_list *list;             /* lists: the caller's memory */
    struct catalogue_activities *activities; /* (LIST_)ACTIVITY: the caller's memory */
    struct catalogue_snapshot *snapshot; /* SNAPSHOT: made here, ended by catalogue_snapshot_free */
    struct keep_promises *keeps;         /* KEEPS: made here, ended by catalogue_keeps_free */
    uint64_t generation;                 /* of the catalogue after this request */
    void (*done)(struct catalogue_request *r); /* on the reactor; may free the request */
    void *owner;
    uint64_t owner_word;
};

struct catalogue {
    struct job_runner runner;
    struct file_system files;
    struct clock clock;
    int is_new;
    uint8_t store_id[16];
    struct catalogue_vfs *vfs;
    struct db *db;                          /* used by the request that runs */
    struct catalogue_request *first, *last; /* first: with the runner */
    uint64_t generation;
};

struct catalogue_config {
    struct job_runner runner; /* its own */
    struct file_system files;
    struct clock clock;
    struct random_source random;
    uint8_t store_id[16]; /* as the log's store header has it */
    int is_new;           /* 1: make the catalogue of a new store; else it must be there */
};

/* Touches no file: the first request opens, migrates and checks the database, and fails with what
 * was found: ERR_NOTFOUND, ERR_FORMAT (not a catalogue), ERR_UNSUPPORTED (of a newer version),
 * ERR_INTEGRITY (damaged, or of another store), ERR_IO. */
int catalogue_open(struct catalogue *c, const struct catalogue_config *config);

/* All requests have ended (runner's drain and reap). */
void catalogue_close(struct catalogue *c);

void catalogue_submit(struct catalogue *c, struct catalogue_request *r);

/* Calls done() of what has ended, as an input of a turn; returns their number. */
int catalogue_reap(struct catalogue *c);

/* Committed transactions so far, as of the last reaped request. The log's frames carry the number
 * that its writer knew: a catalogue that says less at a cold start is a file of yesterday. */
uint64_t catalogue_generation(const struct catalogue *c);

void catalogue_snapshot_free(struct catalogue_snapshot *s);
void catalogue_keeps_free(struct keep_promises *k);

#endif
