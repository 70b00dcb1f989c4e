/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/admin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/admin_priv.h"

LAYOUT_FIELDS(operation, OPERATION_FIELDS)
const struct arena_table_spec operation_spec = TABLE_SPEC(operation, TABLE_OPERATION, 1);

#define STEPS_MAX 7

/* The steps of each kind, in order; 0 ends. */
static const uint8_t plans[OPERATION_KINDS][STEPS_MAX] = {
    [OPERATION_VOLUME_CREATE] = {OPERATION_ROOM, OPERATION_CATALOGUE},
    [OPERATION_VOLUME_RESIZE] = {OPERATION_HOLD, OPERATION_PREPARE, OPERATION_DURABLE,
                                 OPERATION_ROOM, OPERATION_CATALOGUE},
    [OPERATION_VOLUME_SET] = {OPERATION_CATALOGUE},
    [OPERATION_VOLUME_DELETE] = {OPERATION_HOLD, OPERATION_CATALOGUE, OPERATION_BURY,
                                 OPERATION_FREE},
    [OPERATION_VOLUME_UNDELETE] = {OPERATION_HOLD, OPERATION_CATALOGUE},
    [OPERATION_ACCEPT_LOSS] = {OPERATION_HOLD, OPERATION_CATALOGUE},
    [OPERATION_DECLARE_LOSS] = {OPERATION_CATALOGUE},
    [OPERATION_IMAGE_OPEN] = {OPERATION_RESOLVE, OPERATION_DURABLE, OPERATION_CATALOGUE},
    [OPERATION_IMAGE_CLOSE] = {OPERATION_HOLD, OPERATION_CATALOGUE},
    [OPERATION_IMAGE_PROMOTE] = {OPERATION_HOLD, OPERATION_ROOM, OPERATION_CATALOGUE},
    [OPERATION_RESTORE] = {OPERATION_RESOLVE, OPERATION_HOLD, OPERATION_DURABLE, OPERATION_ROOM,
                           OPERATION_CATALOGUE},
    [OPERATION_RESTORE_RANGE] = {OPERATION_RESOLVE, OPERATION_HOLD, OPERATION_DURABLE,
                                 OPERATION_ROOM, OPERATION_CATALOGUE, OPERATION_SETTLE},
    [OPERATION_MARK] = {OPERATION_RESOLVE, OPERATION_DURABLE, OPERATION_CATALOGUE},
    [OPERATION_MARK_DELETE] = {OPERATION_CATALOGUE},
    [OPERATION_SWEEP] = {OPERATION_BURY, OPERATION_FREE},
    [OPERATION_CLEAN] = {OPERATION_CATALOGUE},
    [OPERATION_ACTIVITY] = {OPERATION_CATALOGUE},
    [OPERATION_MOMENT] = {OPERATION_DURABLE, OPERATION_CATALOGUE},
};
static const uint8_t dry_plan[STEPS_MAX] = {OPERATION_RESOLVE, OPERATION_CATALOGUE};

static const uint8_t *plan_of(const struct operation *op) {
    return op->flags & OPERATION_DRY_RUN ? dry_plan : plans[op->kind];
}

static uint16_t state_after(const struct operation *op) {
    const uint8_t *plan = plan_of(op);
    int i = 0;
    while (plan[i] != op->slot.state) {
        i++;
        must(i < STEPS_MAX);
    }
    return plan[i + 1] ? plan[i + 1] : OPERATION_DONE;
}

int admin_refuse(struct admin *ad, struct operation_h h, int err, const char *format, ...) {
    struct operation *op = operation_edit(ad->c.a, h);
    va_list args;
    va_start(args, format);
    vsnprintf((char *)op->detail, sizeof op->detail, format, args);
    va_end(args);
    return err;
}

const char *admin_name(const struct admin *ad, struct volume_h v) {
    return (const char *)volume_view(ad->c.a, v)->name;
}

/* The operation ends: what it reserved and did not use goes back, what it held is released. */
static void finish(struct admin *ad, struct operation_h h, int error) {
    struct operation *op = operation_edit(ad->c.a, h);
    admin_release(ad, h);
    for (uint32_t i = 0; i < OPERATION_VOLUMES_MAX; i++) {
        const struct volume *v = volume_try(ad->c.a, op->made[i]);
        if (v && v->slot.state == VOLUME_CREATING)
            volume_free(ad->c.a, op->made[i]);
        const struct timeline *t = timeline_try(ad->c.a, op->made_lines[i]);
        if (t && t->slot.state == TIMELINE_CREATING)
            timeline_free(ad->c.a, op->made_lines[i]);
    }
    if (error) {
        memset(op->made, 0, sizeof op->made);
        memset(op->made_lines, 0, sizeof op->made_lines);
    }
    op->error = error;
    op->slot.state = OPERATION_DONE;
    admin_forget(admin_pending(ad, h));
}

int admin_begin(struct admin *ad, const struct admin_request *q, struct operation_h *out) {
    must(q->kind > 0 && q->kind < OPERATION_KINDS);
    struct operation_h h = operation_new(ad->c.a, OPERATION_DONE);
    if (!h.v)
        return ERR_NOMEM;
    must(admin_pending(ad, h)->catalogue == ADMIN_IDLE);
    memset(admin_pending(ad, h), 0, sizeof *ad->pending);
    struct operation *op = operation_edit(ad->c.a, h);
    op->kind = (uint16_t)q->kind;
    op->flags = q->flags;
    op->reply = q->reply;
    op->now_ns = clock_wall_ns(&ad->c.clock);
    while (op->id == 0)
        ad->c.random.ops->fill(ad->c.random.ctx, &op->id, sizeof op->id);
    int rc = admin_check(ad, h, q);
    op->slot.state = plan_of(op)[0];
    if (rc < 0)
        finish(ad, h, rc);
    *out = h;
    return 0;
}

static int take_step(struct admin *ad, struct operation_h h) {
    switch (operation_view(ad->c.a, h)->slot.state) {
    case OPERATION_RESOLVE:
        return admin_resolve(ad, h);
    case OPERATION_HOLD:
        return admin_hold(ad, h);
    case OPERATION_PREPARE:
        return admin_prepare(ad, h);
    case OPERATION_DURABLE:
    case OPERATION_SETTLE:
        return admin_durable(ad, h);
    case OPERATION_ROOM:
        return admin_room(ad, h);
    case OPERATION_CATALOGUE:
        return admin_commit(ad, h);
    case OPERATION_BURY:
        return admin_bury(ad, h);
    case OPERATION_FREE:
        return admin_free(ad, h);
    default:
        must(!"a step");
        return 0;
    }
}

static int has_ended(const struct admin *ad, struct operation_h h) {
    return operation_view(ad->c.a, h)->slot.state == OPERATION_DONE;
}

/* As many steps as can be taken now. */
static void go_on(struct admin *ad, struct operation_h h) {
    while (!has_ended(ad, h)) {
        int rc = take_step(ad, h);
        if (rc == 0)
            return;
        if (rc < 0) {
            finish(ad, h, rc);
            return;
        }
        const struct operation *op = operation_view(ad->c.a, h);
        uint16_t next = state_after(op);
        if (next == OPERATION_DONE)
            finish(ad, h, 0);
        else
            operation_edit(ad->c.a, h)->slot.state = next;
    }
}

int admin_turn(struct admin *ad) {
    int ended = 0;
    admin_leases(ad);
    admin_trash(ad);
    admin_activity_turn(ad);
    admin_moments_turn(ad);
    int busy = admin_clean_turn(ad);
    struct operation_h h = operation_next(ad->c.a, (struct operation_h){0}), next;
    for (; h.v; h = next) {
        next = operation_next(ad->c.a, h);
        if (arena_undo_left(ad->c.a) < ARENA_HANDLER_UNDO_BYTES)
            return busy + 1;
        go_on(ad, h);
        uint16_t state = operation_view(ad->c.a, h)->slot.state;
        busy += state == OPERATION_BURY ||
                (state == OPERATION_FREE && admin_pending(ad, h)->catalogue == ADMIN_IDLE);
        if (state != OPERATION_DONE)
            continue;
        ended = 1; /* another may have waited for that */
        if (operation_view(ad->c.a, h)->kind == OPERATION_CLEAN)
            admin_clean_ended(ad, h);
        if (operation_view(ad->c.a, h)->kind == OPERATION_ACTIVITY)
            admin_activity_failed(ad); /* what was committed is not there any more */
        if (operation_view(ad->c.a, h)->flags & OPERATION_INTERNAL ||
            ad->c.engine->answer(ad->c.engine_ctx, h))
            operation_free(ad->c.a, h);
    }
    return busy + (ended && operation_used(ad->c.a) > 0);
}

static void answered(struct catalogue_request *r) {
    struct admin_pending *p = r->owner;
    p->catalogue = ADMIN_ANSWERED;
}

void admin_output(struct admin *ad) {
    admin_forget_output(ad);
    admin_clean_output(ad);
    admin_moments_output(ad);
    if (operation_used(ad->c.a) == 0)
        return;
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock);
    struct operation_h h = {0};
    while ((h = operation_next(ad->c.a, h)).v) {
        struct admin_pending *p = admin_pending(ad, h);
        if (p->catalogue != ADMIN_WANTED || now_ns < p->retry_ns)
            continue;
        size_t rows = operation_view(ad->c.a, h)->kind == OPERATION_ACTIVITY
                          ? sizeof *p->request->activities
                          : 0;
        p->request = calloc(1, sizeof *p->request + rows);
        if (!p->request)
            continue; /* in a later turn */
        p->request->activities = rows ? (void *)(p->request + 1) : NULL;
        admin_fill_request(ad, h, p->request);
        p->request->done = answered;
        p->request->owner = p;
        p->catalogue = ADMIN_ASKED;
        catalogue_submit(ad->c.catalogue, p->request);
    }
}

int admin_open(struct admin *ad, const struct admin_config *config) {
    memset(ad, 0, sizeof *ad);
    ad->c = *config;
    ad->pending = calloc(config->a->tables[TABLE_OPERATION].capacity, sizeof *ad->pending);
    ad->cleaning = admin_clean_open();
    return ad->pending && ad->cleaning ? 0 : ERR_NOMEM;
}

void admin_close(struct admin *ad) {
    for (uint32_t i = 0; i < ad->c.a->tables[TABLE_OPERATION].capacity; i++)
        admin_forget(&ad->pending[i]);
    free(ad->pending);
    free(ad->forgetting);
    admin_clean_close(ad->cleaning);
    memset(ad, 0, sizeof *ad);
}
