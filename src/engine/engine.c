/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in and out: checks, what may begin, what waits for durability, and who goes on when. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

static void list_open(struct work_list *l) {
    l->first = NULL;
    l->end = &l->first;
}

static uint32_t volume_capacity(const struct engine_run *e) {
    return e->a->tables[TABLE_VOLUME].capacity;
}

int engine_open(struct engine_run **out, const struct engine_parts *parts) {
    struct engine_run *e = calloc(1, sizeof *e);
    if (!e)
        return ERR_NOMEM;
    e->p = *parts;
    e->a = parts->a;
    e->log = parts->log;
    e->index = parts->index;
    e->begun = calloc(volume_capacity(e) + 1, sizeof *e->begun);
    e->sampler = sampler_open();
    if (!e->begun || !e->sampler) {
        sampler_close(e->sampler);
        free(e->begun);
        free(e);
        return ERR_NOMEM;
    }
    struct work_list *lists[] = {&e->arrivals,  &e->room,    &e->ready,
                                 &e->log_queue, &e->durable, &e->status};
    for (size_t i = 0; i < sizeof lists / sizeof(struct work_list *); i++)
        list_open(lists[i]);
    e->applied_end = &e->applied;
    if (e->p.records_per_turn == 0)
        e->p.records_per_turn = ENGINE_RECORDS_PER_TURN;
    e->records_left = e->p.records_per_turn;
    e->readers_waiting_end = &e->readers_waiting;
    for (uint32_t i = 0; i < ENGINE_READS_MAX; i++)
        e->read_free[e->read_free_count++] = ENGINE_READS_MAX - 1 - i;
    parts->io->routines[ROUTINE_BLOCK_READ] =
        (struct io_routine){.done = reader_block_read, .ctx = e};
    parts->io->routines[ROUTINE_DISCARD] = (struct io_routine){.done = NULL};
    *out = e;
    return 0;
}

/* Contexts of requests under way are found through their list of all. */
void engine_close(struct engine_run *e) {
    if (!e)
        return;
    while (e->all) {
        struct work *w = e->all;
        e->all = w->all_next;
        for (uint32_t i = 0; i < 2; i++)
            if (w->readers[i].places)
                reader_release(&w->readers[i]);
        if (w->view)
            ancestry_give(e->p.ancestries, w->view);
        free(w->change);
        free(w);
    }
    for (struct work *w = e->idle, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    for (struct lookup *q = e->lookups, *next; q; q = next) {
        next = q->all_next;
        free(q);
    }
    for (struct change *c = e->applied, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    for (struct change *c = e->idle_changes, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    sampler_close(e->sampler);
    free(e->begun);
    free(e);
}

struct lookup *engine_lookup_new(struct engine_run *e) {
    struct lookup *q = e->idle_lookups;
    if (q) {
        e->idle_lookups = q->next;
        return q;
    }
    q = malloc(sizeof *q);
    if (q) {
        q->all_next = e->lookups;
        e->lookups = q;
    }
    return q;
}

void engine_lookup_free(struct engine_run *e, struct lookup *q) {
    q->next = e->idle_lookups;
    e->idle_lookups = q;
}

struct change *engine_change_new(struct engine_run *e) {
    struct change *c = e->idle_changes;
    if (!c)
        return malloc(sizeof *c);
    e->idle_changes = c->next;
    return c;
}

void engine_change_free(struct engine_run *e, struct change *c) {
    c->next = e->idle_changes;
    e->idle_changes = c;
}

static struct work *work_new(struct engine_run *e, struct request_h h) {
    struct work *w = e->idle;
    if (w)
        e->idle = w->next;
    else
        w = malloc(sizeof *w);
    if (!w)
        return NULL;
    const struct request *q = request_view(e->a, h);
    memset(w, 0, offsetof(struct work, readers));
    w->readers[0].places = w->readers[1].places = NULL;
    w->h = h;
    w->e = e;
    w->arrival = q->arrival;
    w->volume = q->volume.v;
    w->all_next = e->all;
    w->all_at = &e->all;
    if (w->all_next)
        w->all_next->all_at = &w->all_next;
    e->all = w;
    e->n.under_way++;
    return w;
}

static void done(struct engine_run *e, struct request_h h, int err) {
    struct request *q = request_edit(e->a, h);
    q->slot.state = REQUEST_DONE;
    q->error = err;
    e->n.failed += err < 0;
    switch (q->op) {
    case REQUEST_READ:
        e->n.reads++;
        break;
    case REQUEST_WRITE:
        e->n.writes++;
        break;
    case REQUEST_FLUSH:
        e->n.flushes++;
        break;
    default:
        e->n.others++;
    }
    e->p.reply(e->p.reply_ctx, h);
}

void engine_finish(struct work *w, int err) {
    struct engine_run *e = w->e;
    struct request_h h = w->h;
    must(w->change == NULL);
    if (w->begun)
        e->begun[handle_index(w->volume)]--;
    if (w->view)
        ancestry_give(e->p.ancestries, w->view);
    *w->all_at = w->all_next;
    if (w->all_next)
        w->all_next->all_at = w->all_at;
    w->next = e->idle;
    e->idle = w;
    e->n.under_way--;
    done(e, h, err);
}

void engine_alert_block(struct engine_run *e, uint64_t block, int err) {
    char text[160];
    if (!e->p.alerts.raise)
        return;
    snprintf(
        text, sizeof text,
        "Block %llu of a volume cannot be read: %s. Its other blocks are not affected; scrub the "
        "store.",
        (unsigned long long)block, err_text(err));
    e->p.alerts.raise(e->p.alerts.ctx, ALERT_ERROR, "block_damaged", "", text);
}

/* ---- Durability ---- */

void engine_await_durable(struct work *w, uint64_t sequence) {
    struct engine_run *e = w->e;
    if (sequence <= log_durable(e->log)) {
        engine_finish(w, 0);
        return;
    }
    struct request *q = request_edit(e->a, w->h);
    q->slot.state = REQUEST_APPLIED;
    q->sequence = sequence;
    w->sequence = sequence;
    log_want_durable(e->log, sequence);
    work_push(&e->durable, w); /* sequences ascend */
}

static void finish_durable(struct engine_run *e) {
    int failed = log_failed(e->log);
    while (e->durable.first) {
        struct work *w = e->durable.first;
        int is_durable = w->sequence <= log_durable(e->log);
        if (!is_durable && !failed)
            return;
        if (engine_undo_is_short(e)) {
            e->again = 1;
            return;
        }
        work_pop(&e->durable);
        engine_finish(w, is_durable ? 0 : failed);
    }
}

/* ---- Beginning ---- */

/* What the request is allowed; ERR_AGAIN: it may not begin yet. */
static int check(const struct engine_run *e, const struct request *q) {
    const struct volume *v = volume_try(e->a, q->volume);
    int changes = q->op == REQUEST_WRITE || q->op == REQUEST_TRIM || q->op == REQUEST_ZERO;
    if (!v)
        return ERR_NOTFOUND;
    if (q->op == REQUEST_FLUSH || q->progress > 0)
        return 0;
    switch (v->slot.state) {
    case VOLUME_ONLINE:
        break;
    case VOLUME_HELD:
        return ERR_AGAIN;
    case VOLUME_LOST:
        return ERR_INTEGRITY;
    default:
        return ERR_SHUTDOWN;
    }
    if (changes && (v->flags & VOLUME_READ_ONLY))
        return ERR_READONLY;
    if (q->offset_bytes > v->size_bytes || q->length_bytes > v->size_bytes - q->offset_bytes)
        return ERR_RANGE;
    if (q->offset_bytes % v->block_size || q->length_bytes % v->block_size)
        return ERR_INVAL;
    return 0;
}

static void dispatch(struct work *w) {
    struct engine_run *e = w->e;
    switch (request_view(e->a, w->h)->op) {
    case REQUEST_READ:
    case REQUEST_CACHE:
        read_begin(w);
        break;
    case REQUEST_WRITE:
    case REQUEST_TRIM:
    case REQUEST_ZERO:
        if (w->change)
            write_go_on(w);
        else
            write_begin(w);
        break;
    case REQUEST_BLOCK_STATUS:
        status_begin(w);
        break;
    default:
        engine_finish(w, ERR_UNSUPPORTED);
    }
}

static void begin(struct work *w) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    w->begun = 1;
    e->begun[handle_index(w->volume)]++;
    if (q->op == REQUEST_FLUSH) {
        struct activity *t = activity_now(e->a, q->volume, log_wall_ns(e->log));
        if (t)
            activity_flushed(e->a, q->volume, t, engine_recorded_whole(e), log_wall_ns(e->log));
        engine_await_durable(w, log_recorded(e->log));
        return;
    }
    if (q->length_bytes == 0) {
        engine_finish(w, 0);
        return;
    }
    const struct volume *v = volume_view(e->a, q->volume);
    const struct timeline *t = timeline_view(e->a, v->timeline);
    w->view = ancestry_take(e->p.ancestries, t->id);
    if (!w->view)
        engine_finish(w, ERR_INTEGRITY);
    else
        dispatch(w);
}

/* 0: it may not begin yet. */
static int try_to_begin(struct work *w) {
    int err = check(w->e, request_view(w->e->a, w->h));
    if (err == ERR_AGAIN)
        return 0;
    if (err < 0)
        engine_finish(w, err);
    else
        begin(w);
    return 1;
}

void engine_submit(struct engine_run *e, struct request_h h) {
    must(request_view(e->a, h)->slot.state == REQUEST_READY);
    struct work *w = work_new(e, h);
    if (!w) {
        done(e, h, ERR_NOMEM);
        return;
    }
    /* Behind those that may not begin yet, so that arrival stays the order. */
    if (e->arrivals.first || engine_undo_is_short(e) || !try_to_begin(w))
        work_push(&e->arrivals, w);
}

/* Those that may not begin keep their order; flushes wait for nothing. */
static void take_arrivals(struct engine_run *e) {
    struct work_list waiting;
    list_open(&waiting);
    while (e->arrivals.first) {
        if (engine_undo_is_short(e)) {
            e->again = 1;
            break;
        }
        struct work *w = work_pop(&e->arrivals);
        request_hold(e->a, w->h);
        if (w->replayed) {
            request_edit(e->a, w->h)->flags |= REQUEST_REPLAYED;
            w->replayed = 0;
        }
        if (!try_to_begin(w))
            work_push(&waiting, w);
    }
    if (!e->arrivals.first)
        e->taking_up = 0;
    if (waiting.first) {
        *waiting.end = e->arrivals.first;
        if (!e->arrivals.first)
            e->arrivals.end = waiting.end;
        e->arrivals.first = waiting.first;
    }
}

/* ---- Attach ---- */

static int by_arrival(const void *a, const void *b) {
    const struct work *const *x = a, *const *y = b;
    return (*x)->arrival < (*y)->arrival ? -1 : (*x)->arrival > (*y)->arrival;
}
static int by_sequence(const void *a, const void *b) {
    const struct work *const *x = a, *const *y = b;
    return (*x)->sequence < (*y)->sequence ? -1 : (*x)->sequence > (*y)->sequence;
}

/* A request of which some records are in the log and others are not. */
static int is_partly_recorded(const struct request *q) {
    return q->slot.state == REQUEST_READY && q->progress > 0;
}

static void take_up(struct engine_run *e, struct work **ready, uint32_t ready_count,
                    struct work **applied, uint32_t applied_count) {
    qsort(ready, ready_count, sizeof(struct work *), by_arrival);
    qsort(applied, applied_count, sizeof(struct work *), by_sequence);
    for (uint32_t i = 0; i < applied_count; i++) {
        struct work *w = applied[i];
        w->begun = 1;
        if (volume_try(e->a, (struct volume_h){w->volume}))
            e->begun[handle_index(w->volume)]++;
        else
            w->begun = 0;
        log_want_durable(e->log, w->sequence);
        work_push(&e->durable, w);
    }
    for (int partly = 1; partly >= 0; partly--)
        for (uint32_t i = 0; i < ready_count; i++) {
            if (is_partly_recorded(request_view(e->a, ready[i]->h)) != partly)
                continue;
            if (partly) {
                must(e->partly.v == 0);
                must(e->chain_open);
                e->partly = ready[i]->h;
            }
            ready[i]->replayed = 1;
            work_push(&e->arrivals, ready[i]);
        }
    e->taking_up = ready_count > 0;
}

int engine_attach(struct engine_run *e) {
    uint32_t used = request_used(e->a), ready_count = 0, applied_count = 0;
    /* A request that ran out of space in its middle has left records that nobody has ended. */
    e->chain_open = index_complete(e->index) < log_recorded(e->log);
    e->whole = index_complete(e->index);
    struct work **ready = calloc((size_t)used * 2 + 1, sizeof(struct work *));
    if (!ready)
        return ERR_NOMEM;
    struct work **applied = ready + used;
    for (struct io_h h = io_next(e->a, (struct io_h){0}); h.v; h = io_next(e->a, h))
        if (io_view(e->a, h)->routine == ROUTINE_BLOCK_READ)
            io_edit(e->a, h)->routine = ROUTINE_DISCARD;
    for (struct request_h h = request_next(e->a, (struct request_h){0}); h.v;
         h = request_next(e->a, h)) {
        const struct request *q = request_view(e->a, h);
        if (q->slot.state != REQUEST_READY && q->slot.state != REQUEST_APPLIED)
            continue;
        struct work *w = work_new(e, h);
        if (!w) {
            free(ready);
            return ERR_NOMEM;
        }
        w->sequence = q->sequence;
        if (q->slot.state == REQUEST_READY)
            ready[ready_count++] = w;
        else
            applied[applied_count++] = w;
    }
    take_up(e, ready, ready_count, applied, applied_count);
    free(ready);
    return 0;
}

/* ---- Turns ---- */

static void take_list(struct engine_run *e, struct work_list *l, void (*go_on)(struct work *w)) {
    struct work *w = l->first;
    list_open(l);
    for (struct work *next; w; w = next) {
        next = w->next;
        if (engine_undo_is_short(e)) {
            e->again = 1;
            work_push(l, w);
        } else {
            request_hold(e->a, w->h);
            go_on(w);
        }
    }
}

void engine_turn(struct engine_run *e) {
    e->again = 0;
    index_turn(e->index);
    reader_retry(e);
    take_list(e, &e->ready, write_go_on);
    take_list(e, &e->room, dispatch);
    take_list(e, &e->status, status_go_on);
    changes_go_on(e);
    write_log(e);
    take_arrivals(e);
    arena_hold_input(e->a, 0, 0);
    finish_durable(e);
}

void engine_after_commit(struct engine_run *e) {
    index_apply(e->index);
    e->records_left = e->p.records_per_turn;
    while (e->applied && e->applied->sequence <= index_applied(e->index)) {
        struct change *c = e->applied;
        e->applied = c->next;
        if (!e->applied)
            e->applied_end = &e->applied;
        order_leave(&e->order, &c->node);
        engine_change_free(e, c);
    }
}

uint64_t engine_oldest_moment(const struct engine_run *e) {
    uint64_t oldest = UINT64_MAX;
    for (const struct work *w = e->all; w; w = w->all_next)
        for (int i = 0; i < 2; i++)
            if (w->readers[i].places)
                oldest = min_u64(oldest, w->readers[i].limit);
    for (const struct engine_changes *c = e->changes; c; c = c->next)
        oldest = min_u64(oldest, c->until);
    return oldest;
}

uint64_t engine_deadline(const struct engine_run *e) {
    if (e->again || changes_want_turn(e) || e->ready.first || e->status.first ||
        (e->taking_up && e->arrivals.first))
        return 0;
    int waits = e->room.first || e->log_queue.first || e->arrivals.first || e->readers_waiting ||
                index_waits(e->index);
    return waits && e->p.clock.ops ? clock_monotonic_ns(&e->p.clock) + ENGINE_ROOM_RETRY_NS
                                   : UINT64_MAX;
}

/* After an attach, a request that is recorded in part has begun although it is taken up later. */
int engine_is_quiet(const struct engine_run *e, struct volume_h v) {
    const struct request *partly = e->partly.v ? request_view(e->a, e->partly) : NULL;
    return e->begun[handle_index(v.v)] == 0 && !(partly && volume_h_same(partly->volume, v));
}

void engine_volume_changed(struct engine_run *e, struct volume_h v) {
    (void)v;
    if (e->arrivals.first)
        e->again = 1;
}

uint64_t engine_recorded_whole(const struct engine_run *e) {
    return e->chain_open ? e->whole : log_recorded(e->log);
}

int engine_append(struct engine_run *e, const struct log_append *r, uint64_t *sequence) {
    if (e->partly.v)
        return ERR_AGAIN;
    int err = log_append(e->log, r, sequence);
    if (err == 0)
        e->chain_open = 0;
    return err;
}

struct engine_counts engine_counts(const struct engine_run *e) {
    return e->n;
}
