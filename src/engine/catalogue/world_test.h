/* SPDX-License-Identifier: Apache-2.0 */
/* Vocabulary of the catalogue's tests: a catalogue in a simulated store, asked one thing at a time. */
#ifndef ENGINE_CATALOGUE_WORLD_TEST_H
#define ENGINE_CATALOGUE_WORLD_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/catalogue/catalogue.h"
#include "plat/sim/sim.h"

struct world {
    struct sim *sim;
    struct catalogue c;
    int is_new;
    uint64_t operation; /* the last one used */
};

static inline void world_open(struct world *w) {
    struct catalogue_config config = {.runner = sim_jobs(w->sim),
                                      .files = sim_files(w->sim),
                                      .clock = sim_clock(w->sim),
                                      .random = sim_random(w->sim),
                                      .store_id = "the store's id.",
                                      .is_new = w->is_new};
    assert_int_equal(catalogue_open(&w->c, &config), 0);
}

static inline void world_start(struct world *w, uint64_t seed) {
    *w = (struct world){.sim = sim_new(&(struct sim_options){.seed = seed}), .is_new = 1};
    world_open(w);
}

static inline void world_end(struct world *w) {
    catalogue_close(&w->c);
    sim_free(w->sim);
}

/* The process ends, by a kill or with its machine, and a new one opens the catalogue. What it had
 * asked for is forgotten. */
static inline void world_die(struct world *w, int power_cut, int is_new) {
    struct file_system files = sim_files(w->sim);
    sim_stop_after(w->sim, 1);
    while (!sim_stopped(w->sim))
        files.ops->exists(files.ctx, "x");
    w->c.first = NULL;
    catalogue_close(&w->c); /* frees memory; the files do not feel it */
    if (power_cut)
        sim_power_cut(w->sim);
    else
        sim_kill(w->sim);
    w->is_new = is_new;
    world_open(w);
}

static inline void world_answered(struct catalogue_request *r) {
    *(int *)r->owner = 1;
}

/* Fills nothing in; the caller sets kind and args. */
static inline int world_ask(struct world *w, struct catalogue_request *r) {
    int answered = 0;
    r->done = world_answered;
    r->owner = &answered;
    catalogue_submit(&w->c, r);
    while (!answered && !sim_stopped(w->sim) && sim_step(w->sim))
        catalogue_reap(&w->c);
    catalogue_reap(&w->c);
    r->owner = NULL;
    return answered ? r->result : ERR_CANCELLED;
}

/* A new operation of this kind, with names and numbers that most kinds need. */
static inline struct catalogue_request world_request(struct world *w, enum catalogue_kind kind,
                                                     const char *name) {
    struct catalogue_request r = {.kind = kind};
    r.args.operation = kind < CATALOGUE_QUERIES ? ++w->operation : 0;
    r.args.now_ns = clock_wall_ns(&(struct clock){sim_clock(w->sim).ops, w->sim});
    snprintf(r.args.name, sizeof r.args.name, "%s", name);
    return r;
}

static inline struct catalogue_object world_create(struct world *w, const char *name,
                                                   uint64_t from) {
    struct catalogue_request r = world_request(w, CATALOGUE_VOLUME_CREATE, name);
    r.args.size_bytes = 1 << 20;
    r.args.block_size = 512;
    r.args.from_sequence = from;
    assert_int_equal(world_ask(w, &r), 0);
    assert_int_equal(r.out.count, 1);
    return r.out.objects[0];
}

static inline struct catalogue_snapshot *world_snapshot(struct world *w) {
    struct catalogue_request r = world_request(w, CATALOGUE_SNAPSHOT, "");
    int rc = world_ask(w, &r);
    if (rc < 0)
        fail_msg("snapshot: %s: %s", err_word(rc), r.detail);
    return r.snapshot;
}

#endif
