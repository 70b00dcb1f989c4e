/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vocabulary of the log's tests: a log on a simulated machine, an index that keeps a list and
 * seals it into real runs, and a model that remembers everything that was appended.
 *
 * A rig lives through deaths: rig_kill() and rig_attach() keep the arena, rig_power_cut() and
 * rig_start() make a new one. The model then says what must still be there, and rig_check() reads
 * it all, from memory and from the disk.
 */
#ifndef ENGINE_LOG_RIG_TEST_H
#define ENGINE_LOG_RIG_TEST_H

#include <stdint.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/io.h"
#include "base/prng.h"
#include "engine/log.h"
#include "plat/sim/sim.h"

#define RIG_SEGMENT_BYTES (4u << 20)

/* A version as the index keeps it. */
struct entry {
    struct version v;
    uint32_t *crc;
    uint32_t segment;
};

struct list_index {
    struct log **log;
    struct file_system files;
    struct arena *a;
    struct prng prng;
    struct entry *entries; /* by sequence */
    uint32_t count, room;
    struct entry *undo; /* as they were before they moved in this turn */
    uint32_t undo_count, undo_room;
    uint32_t *sealing; /* handles of segments whose run is asked for and not yet given */
    uint32_t sealing_count;
    uint32_t begins, seals, sealeds, freeds, moves;
    uint32_t memory_of[64], in_memory; /* numbers of the segments that were begun and not sealed */
    uint32_t memory_max;               /* 0: as many as there is room for */
    int busy;                          /* begin and append refuse */
    int holds_seals;                   /* runs that are asked for are not given */
    int starting;                      /* a cold start: runs are read */
};
extern const struct log_index_ops list_index_ops;
void list_index_reset(struct list_index *x);
/* At attach, with the newest sequence that was committed; not if the last turn was committed after
 * all: then list_index_commit. */
void list_index_undo(struct list_index *x, uint64_t last);
void list_index_commit(struct list_index *x);
void list_index_work(struct list_index *x); /* in a turn: gives some runs */
const struct entry *list_index_find(const struct list_index *x, uint64_t sequence);

/* What was appended. */
struct written {
    uint64_t sequence, time_ns, wall_ns, block, blocks, seed;
    enum place_kind kind;
    uint32_t timeline, family, flags;
};

enum rig_stage {
    RIG_NOWHERE = 0,
    RIG_IN_INPUTS,     /* completions taken, nothing committed */
    RIG_BEFORE_COMMIT, /* all handlers have run */
    RIG_BEFORE_SUBMIT, /* committed */
    RIG_BEFORE_RETIRE, /* submitted */
};

struct rig {
    struct sim *sim;
    struct prng prng;
    void *memory;
    struct arena a;
    struct buffer_pool buffers;
    struct io_port io;
    struct log *l;
    struct log_params params;
    struct list_index index;
    struct log_report report;
    int alive;
    int is_control;                  /* of what rig_append appends */
    uint32_t freed[64], freed_count; /* the catalogue */
    uint64_t catalogue;              /* what it says at a start; 0: nothing */
    /* Model. */
    struct written *model;
    uint32_t model_count, model_room, model_committed;
    uint64_t promised;        /* newest sequence that was reported as durable */
    uint64_t must_have;       /* at the last death: the newest request that was promised whole */
    uint32_t reading_segment; /* whose file is open, 0: none */
    int reading_file;
    /* Alerts: the last code, and how often each of those that tests ask for was raised. */
    char alert[64];
    uint32_t alerts;
    char cleared[64];
};

/* A new machine with an empty store, not started. */
struct rig *rig_new(uint64_t seed);
void rig_free(struct rig *r);

/* Cold start. dead: an arena to be salvaged, or NULL. Returns what the log returned. */
int rig_start(struct rig *r, void *dead);
int rig_start_with(struct rig *r, void *dead, uint64_t dead_bytes);
/* One turn; with a stage, the process dies there. */
void rig_turn(struct rig *r, enum rig_stage die);
/* A turn and then the next event or deadline. */
void rig_step(struct rig *r);
/* Until everything recorded is durable and no segment waits to be sealed. Fails after `turns`. */
void rig_settle(struct rig *r);
void rig_wait_durable(struct rig *r, uint64_t sequence);
/* Turns until an append can succeed. */
void rig_wait_ready(struct rig *r);

/* Within a turn or between two (it becomes part of the next). */
int rig_append(struct rig *r, enum place_kind kind, uint64_t block, uint64_t blocks,
               uint32_t flags);
int rig_append_at_random(struct rig *r);

/* log_find_moment, with the turns that it needs. */
int rig_find_moment(struct rig *r, enum log_moment_kind kind, uint64_t value, struct log_moment *m);

void rig_kill(struct rig *r); /* rig_turn with a stage has done so */
/* Attaches to the arena. lost: the dead queue did not survive. */
void rig_attach(struct rig *r, int lost);
int rig_try_attach(struct rig *r); /* as far as log_attach, and what that returned */
void rig_power_cut(struct rig *r);
void rig_power_down(struct rig *r); /* the process and its arena go, the machine lives */
/* The process dies and its arena is set aside, rolled back, for rig_start(dead). */
void *rig_die_with_arena(struct rig *r);
void rig_unmap(void *memory);

/* Everything in the model is in the index, in order, and reads back; nothing else is. */
void rig_check(struct rig *r);
/* After a cold start: the index holds a prefix of the model that ends a request and has everything
 * promised. The model forgets the rest. */
void rig_check_prefix(struct rig *r);

/* For planted faults. */
void rig_path(uint32_t file, char *path);
uint64_t rig_sequence(const struct rig *r, uint32_t i); /* of the model's record i */
uint32_t rig_count_state(const struct rig *r, enum segment_state state);

#endif
