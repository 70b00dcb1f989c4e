/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When history is given up, and what becomes of it in the catalogue.
 *
 *   IDLE      looks now and then at what volumes have to keep
 *   LIMITS    how far back the bytes go that volumes keep at most, and where they are to be thinned, is asked of the
 *             catalogue, when what was counted up to now is there
 *   PROBE     what it would free to give up so much is found out
 *   MOMENTS   the moment that each volume's age means is looked up, one after the other
 *   HORIZONS  the catalogue gives up what is older, durably; then the volumes' slots say so
 *   PASS      a cleaning (clean/clean.h) goes on, up to the youngest horizon
 *
 * A pass reads all that is said of the time up to its end, so it is not begun for little: for a quarter of
 * what is there, or once an hour. When the store has no room for another slot file and few are unused,
 * the oldest eighth of the history is given up, of all volumes alike, or more if that frees nothing: a
 * survey (PROBE) tells before anything is given up. Writes wait as long as that may help.
 *
 * All of this is private memory and begins anew in a new process; the commit alone is an operation that
 * outlives it. A process first asks what the horizons are: the one before may have died when the catalogue
 * knew of them, and the slots did not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/admin_clean_priv.h"

#define LOOK_NS (10 * NS_PER_S)
#define HOUR_NS (3600 * NS_PER_S)
#define FRESH_LEAST 8u /* segments */
#define GIVE_LEAST 4u

struct admin_cleaning *admin_clean_open(void) {
    return calloc(1, sizeof(struct admin_cleaning));
}

static void drop_request(struct admin_cleaning *c) {
    if (c->request) {
        catalogue_keeps_free(c->request->keeps);
        free(c->request->list);
    }
    free(c->request);
    c->request = NULL;
    c->is_asked = c->is_answered = 0;
}

void admin_clean_close(struct admin_cleaning *c) {
    if (!c)
        return;
    drop_request(c);
    free(c->limits);
    free(c->targets);
    free(c);
}

void admin_clean_with(struct admin *ad, struct clean *clean, uint64_t (*oldest_reader)(void *ctx),
                      void *ctx) {
    ad->cleaning->clean = clean;
    ad->cleaning->oldest_reader = oldest_reader;
    ad->cleaning->reader_ctx = ctx;
}

void admin_clean_now(struct admin *ad) {
    ad->cleaning->wanted = 1;
}

/* ---- The catalogue ---- */

static void ask(struct admin *ad, enum cleaning_ask what) {
    struct admin_cleaning *c = ad->cleaning;
    must(c->ask == ASK_NONE && !c->request);
    c->ask = what;
    c->retry_ns = 0;
    c->id = 0;
    while (c->id == 0)
        ad->c.random.ops->fill(ad->c.random.ctx, &c->id, sizeof c->id);
}

static void answered(struct catalogue_request *r) {
    ((struct admin *)r->owner)->cleaning->is_answered = 1;
}

static void fill(const struct admin *ad, struct catalogue_request *r) {
    struct admin_cleaning *c = ad->cleaning;
    struct catalogue_args *a = &r->args;
    static const enum catalogue_kind kinds[] = {[ASK_HORIZON] = CATALOGUE_HORIZON,
                                                [ASK_KEEPS] = CATALOGUE_KEEPS,
                                                [ASK_FREE] = CATALOGUE_SEGMENTS_FREE,
                                                [ASK_LIMITS] = CATALOGUE_LIMITS};
    r->kind = kinds[c->ask];
    a->operation = r->kind > CATALOGUE_QUERIES ? 0 : c->id;
    a->after = c->limits_after;
    c->limits_after = 0;
    if (c->ask == ASK_LIMITS)
        c->limits_store_ns = ad->c.log->store_ns(ad->c.log_ctx);
    a->store_ns = c->limits_store_ns;
    if (c->ask == ASK_FREE) {
        a->segments[0] = c->free_segment;
        a->segment_count = 1;
    }
    if (c->ask != ASK_HORIZON)
        return;
    c->target_next = c->target_sent;
    while (c->target_next < c->target_count && a->volume_count < CATALOGUE_VOLUMES_MAX) {
        const struct target *t = &c->targets[c->target_next++];
        a->volumes[a->volume_count] = t->volume;
        a->thins[a->volume_count] = t->fine_sequence > 0;
        a->horizons[a->volume_count] = t->sequence;
        a->horizon_ns[a->volume_count] = t->wall_ns;
        a->retained[a->volume_count] = t->retain_ns;
        a->retained_bytes[a->volume_count++] = t->retain_bytes;
    }
}

void admin_clean_output(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->ask == ASK_NONE || c->is_asked || clock_monotonic_ns(&ad->c.clock) < c->retry_ns)
        return;
    c->request = calloc(1, sizeof *c->request);
    if (c->request && c->ask == ASK_LIMITS)
        c->request->list = malloc(sizeof *c->request->list);
    if (!c->request || (c->ask == ASK_LIMITS && !c->request->list)) {
        drop_request(c);
        return; /* in a later turn */
    }
    fill(ad, c->request);
    c->request->done = answered;
    c->request->owner = ad;
    c->is_asked = 1;
    catalogue_submit(ad->c.catalogue, c->request);
}

/* What the horizons are now. */
static void take_horizons(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    const struct catalogue_result *out = &c->request->out;
    for (uint32_t i = 0; i < out->count; i++) {
        const struct catalogue_object *o = &out->objects[i];
        struct volume_h v = o->id ? volumes_find_id(ad->c.a, o->id) : (struct volume_h){0};
        if (!v.v)
            continue;
        volume_edit(ad->c.a, v)->oldest_sequence = o->oldest_sequence;
        volume_edit(ad->c.a, v)->oldest_ns = o->oldest_ns;
        volume_edit(ad->c.a, v)->fine_sequence = o->fine_sequence;
        volume_edit(ad->c.a, v)->fine_ns = o->fine_ns;
    }
    c->target_sent = c->target_next;
}

/* As if the horizon were there already; holds, images and references stay. */
static void give_up(struct keep_promises *k, uint64_t horizon) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < k->moment_count; i++) {
        struct keep_moments m = k->moments[i];
        if (m.from < m.to || m.step_s)
            m.from = max_u64(m.from, horizon);
        if (m.from <= m.to)
            k->moments[left++] = m;
    }
    k->moment_count = left;
    for (uint32_t i = 0; i < k->window_count; i++)
        k->windows[i].horizon = max_u64(k->windows[i].horizon, horizon);
}

static void take_keeps(struct admin_cleaning *c, int err) {
    if (err == 0 && c->state == CLEANING_PROBE)
        give_up(c->request->keeps, c->up_to);
    clean_keeps(c->clean, err, c->request->keeps);
}

/* The next page is asked for until one is not full. */
static void take_limits(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    const struct catalogue_list *list = c->request->list;
    targets_take_limits(ad, list);
    if (list->count == CATALOGUE_ROWS_MAX)
        c->limits_after = list->rows[list->count - 1].key;
}

/* What makes no room now is not tried again at once, and writes do not wait for it. */
static void give_up_hope(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    c->state = CLEANING_IDLE;
    c->hopeless_ns = clock_monotonic_ns(&ad->c.clock) + LOOK_NS;
    c->give = 0;
}

static void take_answer(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    enum cleaning_ask was = c->ask;
    int err = c->request->result;
    if (err == ERR_AGAIN && was != ASK_LIMITS) {
        drop_request(c);
        c->retry_ns = clock_monotonic_ns(&ad->c.clock) + ADMIN_RETRY_NS;
        return;
    }
    ad->c.log->catalogue_is(ad->c.log_ctx, c->request->generation);
    c->ask = ASK_NONE;
    if (was == ASK_HORIZON && err == 0)
        take_horizons(ad);
    else if (was == ASK_HORIZON)
        give_up_hope(ad);
    else if (was == ASK_KEEPS)
        take_keeps(c, err);
    else if (was == ASK_LIMITS && err == 0)
        take_limits(ad);
    drop_request(c);
    if (was == ASK_FREE)
        clean_freed(c->clean, err);
}

/* ---- What a cleaning asks ---- */

static void want_keeps(void *ctx) {
    ask(ctx, ASK_KEEPS);
}

static void want_freed(void *ctx, uint32_t segment) {
    struct admin *ad = ctx;
    ad->cleaning->free_segment = segment;
    ask(ad, ASK_FREE);
}

static void want_commit(void *ctx, uint32_t cold, uint64_t first_sequence, uint64_t last_sequence) {
    struct admin *ad = ctx;
    struct admin_request q = {.kind = OPERATION_CLEAN, .flags = OPERATION_INTERNAL};
    struct operation_h h;
    if (admin_begin(ad, &q, &h) < 0) {
        clean_committed(ad->cleaning->clean, ERR_NOMEM);
        return;
    }
    struct operation *op = operation_edit(ad->c.a, h);
    op->cursor = cold;
    op->sequence = first_sequence;
    op->wait_sequence = last_sequence;
    ad->cleaning->commit = h;
}

static uint64_t oldest_reader(void *ctx) {
    const struct admin_cleaning *c = ((struct admin *)ctx)->cleaning;
    return c->oldest_reader(c->reader_ctx);
}

const struct clean_ops admin_clean_ops = {want_keeps, want_freed, want_commit, oldest_reader};

void admin_clean_ended(struct admin *ad, struct operation_h h) {
    struct admin_cleaning *c = ad->cleaning;
    if (!operation_h_same(c->commit, h))
        return; /* a former process began it */
    c->commit.v = 0;
    clean_committed(c->clean, operation_view(ad->c.a, h)->error);
}

/* ---- Passes ---- */

/* Of no pass: the slots are to say what the catalogue says. */
static void begin_knowing(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    targets_of_all(ad, 0, 0);
    if (c->target_count == 0)
        return;
    c->up_to = 0;
    c->state = CLEANING_HORIZONS;
    ask(ad, ASK_HORIZON);
}

static void begin_pass(struct admin *ad, uint64_t up_to) {
    struct admin_cleaning *c = ad->cleaning;
    c->up_to = up_to;
    c->freed_before = clean_counts(c->clean).segments_freed;
    c->state = c->target_count > 0 ? CLEANING_HORIZONS : CLEANING_PASS;
    c->wanted = 0;
    if (c->target_count > 0)
        ask(ad, ASK_HORIZON);
    else
        clean_begin(c->clean, up_to);
}

/* Whether what has become too old is worth a pass. */
static int is_worth_it(struct admin *ad, uint64_t up_to) {
    struct admin_cleaning *c = ad->cleaning;
    uint32_t all = ad->c.log->history(ad->c.log_ctx, up_to);
    uint32_t before = ad->c.log->history(ad->c.log_ctx, min_u64(c->done_up_to, up_to));
    uint32_t fresh = all - before;
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock);
    return c->wanted || fresh >= (all / 4 > FRESH_LEAST ? all / 4 : FRESH_LEAST) ||
           (fresh > 0 && now_ns - c->passed_ns >= HOUR_NS);
}

/* The store is full: what would it free to give up the oldest of all? 0: there is no more to give. */
static int begin_probe(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    uint32_t all = ad->c.log->history(ad->c.log_ctx, UINT64_MAX);
    struct log_moment end;
    if (all < 2 || c->give >= all - 1)
        return 0;
    uint32_t least = all / 8 > GIVE_LEAST ? all / 8 : GIVE_LEAST;
    c->give = c->give ? 2 * c->give : least;
    if (c->give > all - 1)
        c->give = all - 1;
    if (ad->c.log->history_end(ad->c.log_ctx, c->give, &end) < 0)
        return 0;
    c->probed = end;
    c->up_to = end.sequence;
    c->state = CLEANING_PROBE;
    clean_begin_survey(c->clean, c->up_to);
    return 1;
}

/* That frees something. */
static void give_oldest(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (targets_of_all(ad, c->probed.sequence, c->probed.wall_ns) < 0) {
        give_up_hope(ad);
        return;
    }
    if (c->target_count > 0 && ad->c.alerts.raise)
        ad->c.alerts.raise(
            ad->c.alerts.ctx, ALERT_WARNING, "history_given_up", "",
            "the store has no more room: its oldest history is given up so that "
            "writes go on; give it more room, or volumes a shorter --retain; perdure pins "
            "tells what stays beyond that");
    c->give = 0;
    c->is_giving = 1;
    begin_pass(ad, c->probed.sequence);
}

static void probe_ended(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    struct clean_counts n = clean_counts(c->clean);
    c->state = CLEANING_IDLE;
    if (n.last_error == 0 && n.would_free > 0)
        give_oldest(ad);
    else if (n.last_error == ERR_AGAIN)
        c->give = 0; /* the index is not known yet: the same again */
    else if (n.last_error < 0)
        give_up_hope(ad);
}

static int commit_is_pending(const struct admin *ad) {
    struct operation_h h = {0};
    while ((h = operation_next(ad->c.a, h)).v)
        if (operation_view(ad->c.a, h)->kind == OPERATION_CLEAN)
            return 1;
    return 0;
}

static void idle(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock);
    int is_short = ad->c.log->is_short(ad->c.log_ctx);
    if (!is_short)
        c->give = 0;
    if (commit_is_pending(ad))
        return;
    if (is_short && now_ns >= c->hopeless_ns) {
        ad->c.log->expect_room(ad->c.log_ctx, 1);
        if (begin_probe(ad))
            return;
        give_up_hope(ad);
    }
    ad->c.log->expect_room(ad->c.log_ctx, 0);
    if (!c->wanted && now_ns - c->looked_ns < LOOK_NS)
        return;
    c->looked_ns = now_ns;
    c->limit_count = 0;
    c->limits_after = 0;
    c->state = targets_have_limits(ad) ? CLEANING_LIMITS : CLEANING_MOMENTS;
    if (c->state == CLEANING_LIMITS)
        admin_activity_now(ad);
    c->limits_asked = 0;
    targets_begin(c);
}

static void limits(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->ask != ASK_NONE || !admin_activity_is_known(ad))
        return;
    if (c->limits_asked && !c->limits_after) {
        c->state = CLEANING_MOMENTS;
        return;
    }
    ask(ad, ASK_LIMITS);
    c->limits_asked = 1;
}

static void moments(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (!targets_find(ad))
        return;
    uint64_t up_to = c->wanted ? UINT64_MAX : targets_youngest(c);
    if (up_to > 0 && is_worth_it(ad, up_to))
        begin_pass(ad, up_to);
    else
        c->state = CLEANING_IDLE;
}

static void horizons(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->ask != ASK_NONE)
        return;
    if (c->target_sent < c->target_count) {
        ask(ad, ASK_HORIZON);
        return;
    }
    c->state = c->up_to == 0 ? CLEANING_IDLE : CLEANING_PASS;
    if (c->up_to > 0)
        clean_begin(c->clean, c->up_to);
}

static void pass_ended(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    struct clean_counts n = clean_counts(c->clean);
    c->state = CLEANING_IDLE;
    c->passed_ns = clock_monotonic_ns(&ad->c.clock);
    if (n.last_error == 0)
        c->done_up_to = max_u64(c->done_up_to, c->up_to == UINT64_MAX ? 0 : c->up_to);
    if (n.is_short && n.segments_freed > c->freed_before)
        c->wanted = 1;
    if (c->is_giving && n.segments_freed == c->freed_before)
        give_up_hope(ad);
    c->is_giving = 0;
}

int admin_clean_turn(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (!c->clean)
        return 0;
    if (!c->resumed) {
        uint32_t keep = 0;
        struct operation_h h = {0};
        while ((h = operation_next(ad->c.a, h)).v)
            if (operation_view(ad->c.a, h)->kind == OPERATION_CLEAN)
                keep = operation_view(ad->c.a, h)->cursor;
        ad->c.log->cold_drop_others(ad->c.log_ctx, keep);
        c->resumed = 1;
        begin_knowing(ad);
    }
    if (c->is_answered)
        take_answer(ad);
    if (c->state == CLEANING_IDLE)
        idle(ad);
    if (c->state == CLEANING_LIMITS)
        limits(ad);
    if (c->state == CLEANING_MOMENTS)
        moments(ad);
    if (c->state == CLEANING_HORIZONS)
        horizons(ad);
    if (c->state == CLEANING_PASS && c->ask == ASK_NONE) {
        clean_turn(c->clean);
        if (!clean_is_busy(c->clean))
            pass_ended(ad);
    }
    if (c->state == CLEANING_PROBE && c->ask == ASK_NONE && !clean_is_busy(c->clean))
        probe_ended(ad);
    return 0;
}
