/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting the engine together: cold from the store's files, or warm from the arena's slots. Order matters and
 * is told by the headers of what is called; see engine/log.h (Life) and engine/admin.h (A cold start).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "plat/linux/linux.h"
#include "server/perdured.h"

#define MEMTABLES 4u
#define INDEX_CACHE_BYTES (256 * MIB)

static int fail(char *why, size_t room, int err, const char *what) {
    snprintf(why, room, "%s: %s", what, err_text(err));
    return err;
}

/* --- what the parts ask of each other --- */

static void reply(void *ctx, struct request_h h) {
    struct perdured *p = ctx;
    p->nbd.source.ops->reply(p->nbd.source.ctx, h);
}

/* Messages of the I/O sources: requests for the engine. */
static void requests_ready(void *arg, int listener) {
    struct perdured *p = arg;
    struct cp_msg m[64];
    int n;
    while ((n = p->cp.ops->take(p->cp.ctx, listener, m, 64)) > 0) {
        for (int i = 0; i < n; i++) {
            struct request_h h = {(uint32_t)m[i].word};
            if (request_try(&p->core.r.a, h))
                engine_submit(p->engine, h);
        }
        if (arena_undo_left(&p->core.r.a) < 4 * ARENA_HANDLER_UNDO_BYTES)
            return; /* the loop commits and comes again */
    }
}

static int open_lanes(struct perdured *p) {
    static const struct cp_limits limits = {.per_sender = CP_PLACES_MAX / 2, .slop = 64};
    const struct cp_listener_calls calls = {
        .ready = requests_ready, .arg = p, .max_msgs = CP_PLACES_MAX, .max_usecs = 0};
    struct cp_msg m[64];
    int err = cp_lanes_open(&p->lanes, &p->core.r.a);
    if (err < 0)
        return err;
    p->cp = cp_lanes_interface(&p->lanes);
    p->listener = p->cp.ops->listen(p->cp.ctx, (struct cp_group){IO_GROUP_ENGINE, 0}, &limits);
    if (p->listener < 0)
        return p->listener;
    err = p->cp.ops->enable(p->cp.ctx, p->listener, &calls);
    /* After an attach the engine takes all READY requests from their slots, so what was under way to it is
     * dropped here. */
    while (err == 0 && p->cp.ops->take(p->cp.ctx, p->listener, m, 64) > 0)
        ;
    return err;
}

/* --- cold --- */

static int snapshot(struct perdured *p, struct catalogue_request *r, enum catalogue_kind kind) {
    struct job_runner jobs = posix_jobs(p->catalogue_jobs);
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->args.now_ns = clock_wall_ns(&p->core.r.clock);
    if (kind == CATALOGUE_COLD_START)
        p->random.ops->fill(p->random.ctx, &r->args.operation, sizeof r->args.operation);
    r->done = NULL;
    catalogue_submit(&p->catalogue, r);
    jobs.ops->drain(jobs.ctx);
    catalogue_reap(&p->catalogue);
    return r->result;
}
