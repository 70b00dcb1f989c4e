/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When history is given up, and what becomes of it in the catalogue.
 *
 *   IDLE      looks now and then at what volumes have to keep
 *   LIMITS    how far back the bytes go that volumes keep at most is asked of the catalogue, when what was
 *             counted up to now is there
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
#include "engine/admin_priv.h"
#include "engine/clean/clean.h"

#define LOOK_NS (10 * NS_PER_S)
#define HOUR_NS (3600 * NS_PER_S)
#define FRESH_LEAST 8u /* segments */
#define GIVE_LEAST 4u

enum cleaning_state {
    CLEANING_IDLE = 0,
    CLEANING_LIMITS,
    CLEANING_MOMENTS,
    CLEANING_PROBE,
    CLEANING_HORIZONS,
    CLEANING_PASS
};
enum cleaning_ask { ASK_NONE = 0, ASK_HORIZON, ASK_KEEPS, ASK_FREE, ASK_LIMITS };

/* retain_ns, retain_bytes: that it was reckoned from; 0: the volume's does not matter. */
struct target {
    uint64_t volume, sequence, wall_ns, retain_ns, retain_bytes;
};

struct admin_cleaning {
    struct clean *clean;
    uint64_t (*oldest_reader)(void *ctx);
    void *reader_ctx;
    enum cleaning_state state;
    int resumed, wanted;
    int is_giving;                              /* the pass is to make room */
    uint64_t looked_ns, passed_ns, hopeless_ns; /* monotonic */
    uint64_t done_up_to, up_to;
    uint32_t give; /* segments of history, when there is no room */
    struct log_moment probed;
    uint64_t freed_before;
    /* MOMENTS */
    struct volume_h at;
    struct admin_moment query;
    int query_state, query_result; /* 0 none, 1 asked, 2 answered */
    struct target memo;            /* of no volume: the answer to the last query */
    uint64_t query_retain_ns;
    struct target *limits; /* by volume: those that have recorded more than they are to keep */
    uint32_t limit_count, limit_room;
    uint64_t limits_after;
    int limits_asked;
    struct target *targets;
    uint32_t target_count, target_room, target_sent, target_next;
    /* What is asked of the catalogue; its own request, as it may be asked again. */
    enum cleaning_ask ask;
    struct catalogue_request *request;
    int is_asked, is_answered;
    uint64_t retry_ns, id;
    uint32_t free_segment;
    struct operation_h commit;
};

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

static void fill(struct admin_cleaning *c, struct catalogue_request *r) {
    struct catalogue_args *a = &r->args;
    static const enum catalogue_kind kinds[] = {[ASK_HORIZON] = CATALOGUE_HORIZON,
                                                [ASK_KEEPS] = CATALOGUE_KEEPS,
                                                [ASK_FREE] = CATALOGUE_SEGMENTS_FREE,
                                                [ASK_LIMITS] = CATALOGUE_LIMITS};
    r->kind = kinds[c->ask];
    a->operation = r->kind > CATALOGUE_QUERIES ? 0 : c->id;
    a->after = c->limits_after;
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
    fill(c, c->request);
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
    }
    c->target_sent = c->target_next;
}

/* As if the horizon were there already; holds, images and references stay. */
static void give_up(struct clean_keeps *k, struct keep_moments *moments,
                    struct keep_window *windows, uint64_t horizon) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < k->moment_count; i++) {
        struct keep_moments m = moments[i];
        if (m.from < m.to)
            m.from = max_u64(m.from, horizon);
        if (m.from <= m.to)
            moments[left++] = m;
    }
    k->moment_count = left;
    for (uint32_t i = 0; i < k->window_count; i++)
        windows[i].horizon = max_u64(windows[i].horizon, horizon);
}

static void take_keeps(struct admin_cleaning *c, int err) {
    const struct catalogue_keeps *k = c->request->keeps;
    struct keep_timeline *timelines = NULL;
    struct keep_moments *moments = NULL;
    struct keep_window *windows = NULL;
    struct clean_keeps out = {0};
    if (err == 0) {
        timelines = calloc(k->timeline_count + 1u, sizeof *timelines);
        moments = calloc(k->view_count + 1u, sizeof *moments);
        windows = calloc(k->window_count + 1u, sizeof *windows);
        err = timelines && moments && windows ? 0 : ERR_NOMEM;
    }
    for (uint32_t i = 0; err == 0 && i < k->timeline_count; i++)
        timelines[i] =
            (struct keep_timeline){k->timelines[i].id, k->timelines[i].family,
                                   k->timelines[i].parent, k->timelines[i].fork_sequence};
    for (uint32_t i = 0; err == 0 && i < k->view_count; i++)
        moments[i] = (struct keep_moments){k->views[i].timeline, k->views[i].family,
                                           k->views[i].from, k->views[i].to};
    for (uint32_t i = 0; err == 0 && i < k->window_count; i++)
        windows[i] = (struct keep_window){k->windows[i].family, k->windows[i].horizon};
    if (err == 0)
        out = (struct clean_keeps){timelines,         moments,       windows,
                                   k->timeline_count, k->view_count, k->window_count};
    if (err == 0 && c->state == CLEANING_PROBE)
        give_up(&out, moments, windows, c->up_to);
    clean_keeps(c->clean, err, &out);
    free(timelines);
    free(moments);
    free(windows);
}

/* Room for one more. */
static int grow(struct target **list, uint32_t count, uint32_t *room) {
    if (count < *room)
        return 0;
    uint32_t more = *room ? 2 * *room : 64;
    struct target *grown = realloc(*list, more * sizeof *grown);
    if (!grown)
        return ERR_NOMEM;
    *list = grown;
    *room = more;
    return 0;
}

/* A page of the list; the next is asked for until one is not full. */
static void take_limits(struct admin *ad, int err) {
    struct admin_cleaning *c = ad->cleaning;
    const struct catalogue_list *list = c->request->list;
    uint64_t durable = ad->c.log->durable(ad->c.log_ctx);
    c->limits_after = 0;
    for (uint32_t i = 0; err == 0 && i < list->count; i++) {
        const struct catalogue_row *row = &list->rows[i];
        if (row->sequence > durable)
            ad->c.log->want_durable(ad->c.log_ctx, row->sequence); /* for the next look */
        if (row->sequence == 0 || row->sequence > durable)
            continue;
        if (grow(&c->limits, c->limit_count, &c->limit_room) < 0)
            break;
        c->limits[c->limit_count++] = (struct target){.volume = row->volume,
                                                      .sequence = row->sequence,
                                                      .wall_ns = row->time_ns,
                                                      .retain_bytes = row->size_bytes};
    }
    if (err == 0 && list->count == CATALOGUE_ROWS_MAX)
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
    else if (was == ASK_LIMITS)
        take_limits(ad, err);
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

/* ---- What is to be given up ---- */

static int add_target(struct admin_cleaning *c, const struct volume *v, struct target t) {
    if (t.sequence <= v->oldest_sequence)
        return 0;
    if (grow(&c->targets, c->target_count, &c->target_room) < 0)
        return ERR_NOMEM;
    t.volume = v->id;
    c->targets[c->target_count++] = t;
    return 0;
}

static int has_history(const struct volume *v) {
    return !(v->flags & VOLUME_IMAGE) && v->slot.state != VOLUME_CREATING;
}

static void begin_targets(struct admin_cleaning *c) {
    c->target_count = c->target_sent = c->target_next = 0;
    c->at.v = 0;
    c->query_state = 0;
    c->memo = (struct target){0};
}

static void moment_found(struct admin_moment *m, int result) {
    struct admin_cleaning *c = m->owner;
    c->query_state = 2;
    c->query_result = result;
}

/* The newest moment that is as old as this volume has to keep: 1: found; 0: it waits; -1: none. While
 * it waits, the volume may be told to keep another age, or go. */
static int moment_of(struct admin *ad, const struct volume *v) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->query_state == 0) {
        if (v->retain_ns == c->memo.retain_ns)
            return c->memo.sequence ? 1 : -1;
        uint64_t now_ns = ad->c.log->store_ns(ad->c.log_ctx);
        if (now_ns <= v->retain_ns)
            return -1;
        c->query_retain_ns = v->retain_ns;
        c->query = (struct admin_moment){.by_time = ADMIN_BY_STORE,
                                         .time_ns = now_ns - v->retain_ns,
                                         .done = moment_found,
                                         .owner = c};
        c->query_state = 1;
        int rc = ad->c.log->find_moment(ad->c.log_ctx, &c->query);
        if (rc != ERR_AGAIN)
            moment_found(&c->query, rc);
    }
    if (c->query_state == 1)
        return 0;
    c->query_state = 0;
    c->memo = (struct target){.retain_ns = c->query_retain_ns};
    /* Like all moments that the catalogue speaks of, a horizon is durable in the log first. */
    if (c->query_result == 0 && c->query.sequence > ad->c.log->durable(ad->c.log_ctx)) {
        ad->c.log->want_durable(ad->c.log_ctx, c->query.sequence); /* for the next look */
    } else if (c->query_result == 0) {
        c->memo.sequence = c->query.sequence;
        c->memo.wall_ns = c->query.time_ns;
    }
    return moment_of(ad, v);
}

/* What this volume gives up because it has recorded too much; NULL: nothing. */
static const struct target *limit_of(const struct admin_cleaning *c, const struct volume *v) {
    for (uint32_t i = 0; i < c->limit_count; i++)
        if (c->limits[i].volume == v->id && c->limits[i].retain_bytes == v->retain_bytes)
            return &c->limits[i];
    return NULL;
}

/* 1: all volumes have been looked at; 0: it waits. */
static int find_targets(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->query_state == 1)
        return 0; /* though perhaps no volume wants it any more */
    struct volume_h v = volume_next(ad->c.a, c->at);
    for (; v.v; c->at = v, v = volume_next(ad->c.a, v)) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (!has_history(s))
            continue;
        int by_age = s->retain_ns > 0 && !ad->c.log->clock_suspect(ad->c.log_ctx);
        int found = by_age ? moment_of(ad, s) : -1;
        if (found == 0)
            return 0;
        const struct target *t = limit_of(c, s);
        if (found > 0 && (!t || c->memo.sequence > t->sequence))
            t = &c->memo;
        if (t && add_target(c, s, *t) < 0)
            return 1;
    }
    return 1;
}

static uint64_t youngest_target(const struct admin_cleaning *c) {
    uint64_t youngest = 0;
    for (uint32_t i = 0; i < c->target_count; i++)
        youngest = max_u64(youngest, c->targets[i].sequence);
    return youngest;
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

/* That of no pass, which changes nothing: the slots say what the catalogue says. */
static void begin_knowing(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    struct volume_h v = {0};
    begin_targets(c);
    while ((v = volume_next(ad->c.a, v)).v)
        if (has_history(volume_view(ad->c.a, v)) &&
            grow(&c->targets, c->target_count, &c->target_room) == 0)
            c->targets[c->target_count++] = (struct target){.volume = volume_view(ad->c.a, v)->id};
    if (c->target_count == 0)
        return;
    c->up_to = 0;
    c->state = CLEANING_HORIZONS;
    ask(ad, ASK_HORIZON);
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
    struct volume_h v = {0};
    begin_targets(c);
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        struct target t = {.sequence = c->probed.sequence, .wall_ns = c->probed.wall_ns};
        if (has_history(s) && add_target(c, s, t) < 0) {
            give_up_hope(ad);
            return;
        }
    }
    if (c->target_count > 0 && ad->c.alerts.raise)
        ad->c.alerts.raise(ad->c.alerts.ctx, ALERT_WARNING, "history_given_up", "",
                           "the store has no more room: its oldest history is given up so that "
                           "writes go on; give it more room, or volumes a shorter --retain");
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

static int has_limits(const struct admin *ad) {
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v)
        if (has_history(volume_view(ad->c.a, v)) && volume_view(ad->c.a, v)->retain_bytes > 0)
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
    c->state = has_limits(ad) ? CLEANING_LIMITS : CLEANING_MOMENTS;
    if (c->state == CLEANING_LIMITS)
        admin_activity_now(ad);
    c->limits_asked = 0;
    begin_targets(c);
}

static void limits(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (c->ask != ASK_NONE || !admin_activity_is_known(ad))
        return;
    if (c->limits_asked && !c->limits_after) {
        c->state = CLEANING_MOMENTS;
        return;
    }
    c->limits_asked = 1;
    ask(ad, ASK_LIMITS);
}

static void moments(struct admin *ad) {
    struct admin_cleaning *c = ad->cleaning;
    if (!find_targets(ad))
        return;
    uint64_t up_to = c->wanted ? UINT64_MAX : youngest_target(c);
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
