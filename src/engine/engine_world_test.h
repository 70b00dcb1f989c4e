/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vocabulary of the engine's tests: request path, index and log on a simulated machine, volumes and
 * timelines made directly in their slots, and a model that remembers every change by its sequence
 * number. The model's disk at any sequence number of any timeline is what a read has to give.
 *
 * A world lives through deaths of its process, at any stage of a turn; and through power cuts, after which
 * the model keeps what the log has kept.
 */
#ifndef ENGINE_ENGINE_WORLD_TEST_H
#define ENGINE_ENGINE_WORLD_TEST_H

#include <stdint.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/io.h"
#include "arena/request.h"
#include "base/prng.h"
#include "engine/activity.h"
#include "engine/clean/clean.h"
#include "engine/engine.h"
#include "plat/sim/sim.h"

#define WORLD_VOLUMES 24u
#define WORLD_TIMELINES 1200u
#define WORLD_REQUESTS 64u
#define WORLD_SEGMENT_BYTES (4u << 20)
#define WORLD_SEGMENT_RECORDS 250u
#define WORLD_FREED_MAX 4096u

/* One change of a timeline. The new content of sector s is stamp, 0: zeroes; of a reference, what it
 * refers to. */
enum change_kind { CHANGE_STAMP = 1, CHANGE_REFERENCE = 2 };
struct change_made {
    uint64_t sequence;
    uint64_t first, sectors;
    uint64_t stamp;
    uint64_t ref_sequence;
    uint32_t timeline, ref_timeline;
    enum change_kind kind;
};

struct line {
    uint32_t parent;
    uint64_t fork;
    uint64_t made; /* no record of its own is older */
};

enum asked_state { ASKED_NEW = 1, ASKED_OPEN, ASKED_ANSWERED };

/* A request as its source knows it. */
struct asked {
    enum asked_state state;
    struct request_h h;
    uint32_t volume; /* number */
    uint32_t timeline;
    uint8_t op;
    uint64_t offset, length, stamp;
    int first_turn_done;     /* the turn that made it has committed */
    uint64_t applied_before; /* applied when it was submitted */
    uint64_t whole_before;   /* of whole requests, recorded then */
    /* answer */
    int error;
    uint64_t sequence, applied_after;
    unsigned char *data;
    uint64_t since;                        /* BLOCK_STATUS with CHANGES */
    uint32_t flags;                        /* BLOCK_STATUS */
    struct request_status_extent *extents; /* of all sections */
    uint32_t extent_count;                 /* of the first */
    uint32_t counts[REQUEST_STATUS_KINDS];
    int answered_now; /* in the turn that is not committed */
    int replayed;     /* flagged so in the end */
};

struct world_options {
    uint64_t seed;
    uint32_t table_sets; /* of the block table: 0 = none */
    uint64_t cache_bytes;
    uint32_t buffer_pages;
    uint32_t memtables;
    int starts_in_little; /* before each cold start there is one with three or four memtables, that dies */
    uint32_t records_per_turn;
    uint64_t max_bytes; /* of the store; 0: no limit */
};

enum world_stage {
    WORLD_LIVES = 0,
    WORLD_DIES_BEFORE_COMMIT,
    WORLD_DIES_AFTER_COMMIT,  /* nothing is applied */
    WORLD_DIES_AFTER_APPLY,   /* nothing has left */
    WORLD_DIES_AFTER_OUTPUTS, /* completions that were taken are not retired */
};

struct world {
    struct world_options options;
    struct sim *sim;
    struct prng prng;
    struct arena arena, *a;
    void *memory;
    struct arena_plan plan;
    struct arena_table_plan tables[10];
    struct arena_region_plan regions[3];
    struct buffer_pool buffers;
    struct io_port io;
    struct ancestries *ancestries;
    struct index *index;
    struct log *log;
    struct log_params params;
    struct engine_run *engine;
    uint64_t arrivals;
    /* volumes by number from 0 */
    struct volume_h volume[WORLD_VOLUMES];
    uint32_t volumes;
    /* model */
    struct line lines[WORLD_TIMELINES + 1];
    uint32_t line_count;
    struct change_made *changes;
    uint32_t change_count, change_room;
    struct asked asked[WORLD_REQUESTS];
    uint64_t stamps;
    uint64_t turns, answers, deaths;
    uint64_t flushed; /* newest sequence that a flush or FUA has promised */
    uint32_t alerts;
    char alert[40];
    char loss[40];     /* the first alert that says that something is damaged or lost, if any */
    uint64_t answered; /* newest sequence of an answer; after a power cut, of a promise */
    uint64_t compared[REQUEST_STATUS_KINDS]; /* extents of a block status that were not 0 */
    uint64_t since;                          /* of the next BLOCK_STATUS with CHANGES */
    uint64_t whole; /* the newest moment that there has been; it goes back at cold starts only */
    uint64_t looked_back;    /* changes that were told */
    uint64_t without_frames; /* numbers of versions, of which nothing else is known */
    int ignore_data;         /* answers are not compared: the test does so */
    /* Cleaning. What the catalogue knows, over deaths: */
    struct clean *clean;
    uint64_t horizon; /* older moments are not promised */
    uint64_t fine;    /* of older ones, those that world_step_of() says */
    uint32_t step_s;
    int thins; /* cleanings thin more often than they give up */
    uint64_t sealed;
    uint32_t freed[WORLD_FREED_MAX], freed_count;
    struct {
        int wanted; /* committed, and to be done in the slots */
        int done;   /* in the turn that is not committed */
        int asked;  /* by this process */
        uint32_t to_free;
        uint32_t cold;
        uint64_t first_sequence, last_sequence;
    } commit;
};

struct world *world_open(const struct world_options *options);
void world_close(struct world *w);

/* A volume on a new timeline. parent 0: empty, of its own family; else a fork. */
uint32_t world_line(struct world *w, uint32_t parent, uint64_t fork);
uint32_t world_volume(struct world *w, uint32_t timeline, uint64_t size_bytes, uint32_t block_size,
                      uint32_t flags);
struct volume *world_edit_volume(struct world *w, uint32_t v);
uint32_t world_volume_line(struct world *w, uint32_t v);

/* Asks in this turn; returns the request's number, or -1: no room. flags: enum request_flag. */
int world_ask(struct world *w, uint32_t v, uint8_t op, uint64_t offset, uint64_t length,
              uint32_t flags);
void world_turn(struct world *w, enum world_stage die);
/* A turn, and then the next thing that happens. */
void world_step(struct world *w);
/* Until request i, or all requests, are answered. */
int world_wait(struct world *w, int i);
void world_wait_all(struct world *w);
/* Until the log is quiet and everything is sealed that can be. */
void world_settle(struct world *w);

/* Requests that are answered make room for others. */
void world_forget_answered(struct world *w);

/* Asks, waits, and returns the answer's error. */
int world_do(struct world *w, uint32_t v, uint8_t op, uint64_t offset, uint64_t length,
             uint32_t flags);

/* Holds the volume until nothing of it is under way. */
void world_hold(struct world *w, uint32_t v);
void world_release(struct world *w, uint32_t v);

/* Restores a range of a held volume: blocks of timeline `line` as of `sequence`. */
void world_reference(struct world *w, uint32_t v, uint64_t block, uint64_t blocks, uint32_t line,
                     uint64_t sequence);

void world_power_cut(struct world *w);
/* The process dies, and its arena does not qualify: the next one starts cold and salvages. */
void world_start_cold(struct world *w);
/* The process stops in order, and the next one starts cold. */
void world_stop(struct world *w);
/* The process dies between two turns. */
void world_kill(struct world *w);

/* Gives up what is older than `horizon`, thins what is older than `fine`, and begins a cleaning up to a sequence
 * number, if none is under way. From now on only lines that volumes show are promised, and what references name. */
void world_clean(struct world *w, uint64_t horizon, uint64_t fine, uint64_t up_to);
/* The step of which a moment is chosen, should history be thinned. */
uint32_t world_step_of(uint64_t sequence);
int world_line_is_promised(struct world *w, uint32_t line);

/* Newest sequence of which the model knows all; a sequence of some change, or 0. */
uint64_t world_now(struct world *w);
/* One that is promised. */
uint64_t world_some_moment(struct world *w);

/* Stamps of sectors [first, first + count) of a timeline as of a sequence. */
void world_model(struct world *w, uint32_t line, uint64_t sequence, uint64_t first, uint64_t count,
                 uint64_t *stamps);
/* 1: what was written was there before. */
int world_changes_nothing(struct world *w, const struct change_made *c);
int world_sector_is_zero(uint64_t stamp, uint64_t sector);
void world_fill_sector(unsigned char *p, uint64_t stamp, uint64_t sector);

/* A range of whole blocks of a held volume becomes a hole, as when its size changes. */
void world_hole(struct world *w, uint32_t v, uint64_t offset, uint64_t length);

/* Where block `block` of volume 0 lies on disk: path of the file, offset in it. */
uint64_t world_find_on_disk(struct world *w, uint64_t block, char path[40]);

/* Reads all of the volume and compares. */
void world_check_volume(struct world *w, uint32_t v);

/* engine_world_model_test.c: what was recorded; of a request, up to a number; whether a read is right. */
void world_add_change(struct world *w, struct change_made c);
void world_note_change(struct world *w, const struct asked *q, uint64_t sequence);
void world_check_read(struct world *w, const struct asked *q);

/* engine_world_status_test.c: takes the sections of an answer; compares them with the model. Whether it is
 * refused rightly. */
void world_take_status(struct world *w, struct asked *q, const struct request *r);
void world_check_status(struct world *w, const struct asked *q);
int world_may_refuse_since(const struct world *w, const struct asked *q);

/* engine_world_looking_test.c: some part of a volume, of which nothing is under way, between some moments. */
void world_look_back(struct world *w, uint32_t v);

#endif
