/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue's part of an operation, and what follows from its result: records first, which may
 * have to wait (then nothing has changed, and the result is kept), then slots, all in one turn.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/admin_priv.h"

static const uint8_t kinds[OPERATION_KINDS] = {
    [OPERATION_VOLUME_CREATE] = CATALOGUE_VOLUME_CREATE,
    [OPERATION_VOLUME_RESIZE] = CATALOGUE_VOLUME_RESIZE,
    [OPERATION_VOLUME_SET] = CATALOGUE_VOLUME_SET,
    [OPERATION_VOLUME_DELETE] = CATALOGUE_VOLUME_DELETE,
    [OPERATION_VOLUME_UNDELETE] = CATALOGUE_VOLUME_UNDELETE,
    [OPERATION_ACCEPT_LOSS] = CATALOGUE_VOLUME_LOST,
    [OPERATION_DECLARE_LOSS] = CATALOGUE_VOLUME_LOST,
    [OPERATION_IMAGE_OPEN] = CATALOGUE_IMAGE_OPEN,
    [OPERATION_IMAGE_CLOSE] = CATALOGUE_IMAGE_CLOSE,
    [OPERATION_IMAGE_PROMOTE] = CATALOGUE_IMAGE_PROMOTE,
    [OPERATION_RESTORE] = CATALOGUE_RESTORE,
    [OPERATION_RESTORE_RANGE] = CATALOGUE_REFERENCE,
    [OPERATION_MARK] = CATALOGUE_MARK,
    [OPERATION_MARK_DELETE] = CATALOGUE_MARK_DELETE,
    [OPERATION_CLEAN] = CATALOGUE_SEGMENTS_CLEAN,
    [OPERATION_ACTIVITY] = CATALOGUE_ACTIVITY,
    [OPERATION_MOMENT] = CATALOGUE_MOMENT,
};

static enum catalogue_kind kind_of(const struct operation *op) {
    if (op->flags & OPERATION_DRY_RUN)
        return CATALOGUE_RESOLVE;
    if (op->kind == OPERATION_VOLUME_DELETE && op->flags & OPERATION_NOW)
        return CATALOGUE_VOLUME_PURGE;
    return kinds[op->kind];
}

static uint32_t flags_of(const struct operation *op) {
    static const struct {
        uint32_t ours, theirs;
    } map[] = {
        {OPERATION_FORCE, CATALOGUE_FORCE},
        {OPERATION_WRITABLE, CATALOGUE_WRITABLE},
        {OPERATION_ON_DEMAND, CATALOGUE_ON_DEMAND},
        {OPERATION_DESTRUCTIVE, CATALOGUE_DESTRUCTIVE},
        {OPERATION_KEEP, CATALOGUE_HOLD},
        {OPERATION_DURABLE_WRITES, CATALOGUE_DURABLE_WRITES},
        {OPERATION_KEEP_DURABILITY, CATALOGUE_KEEP_DURABILITY},
        {OPERATION_SET_RETAIN, CATALOGUE_SET_RETAIN},
        {OPERATION_SET_RETAIN_BYTES, CATALOGUE_SET_RETAIN_BYTES},
        {OPERATION_SET_THINNING, CATALOGUE_SET_THINNING},
        {OPERATION_EXACT, CATALOGUE_EXACT},
    };
    uint32_t flags = op->kind == OPERATION_DECLARE_LOSS ? CATALOGUE_SET_LOST : 0;
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++)
        flags |= op->flags & map[i].ours ? map[i].theirs : 0;
    return flags;
}

static uint64_t lease_end(struct admin *ad, const struct operation *op) {
    uint64_t length = op->flags & OPERATION_ON_DEMAND ? ADMIN_ON_DEMAND_NS : op->lease_ns;
    return length ? ad->c.log->store_ns(ad->c.log_ctx) + length : 0;
}

void admin_fill_request(struct admin *ad, struct operation_h h, struct catalogue_request *r) {
    const struct operation *op = operation_view(ad->c.a, h);
    const struct admin_pending *p = admin_pending(ad, h);
    struct catalogue_args *a = &r->args;
    if (op->slot.state == OPERATION_FREE) {
        r->kind = p->dead ? CATALOGUE_SEGMENTS_FREE : CATALOGUE_DEAD_FAMILIES;
        while (p->dead && a->operation == 0)
            ad->c.random.ops->fill(ad->c.random.ctx, &a->operation, sizeof a->operation);
        a->segment_count = p->segment_count;
        memcpy(a->segments, p->segments, sizeof a->segments);
        for (uint32_t i = 0; i < a->segment_count; i++)
            a->sequence =
                max_u64(a->sequence, ad->c.log->last_sequence(ad->c.log_ctx, a->segments[i]));
        return;
    }
    a->volume_count = op->volume_count;
    for (uint32_t i = 0; i < op->volume_count; i++) {
        const struct volume *v = volume_try(ad->c.a, op->volumes[i]);
        a->volumes[i] = v ? v->id : 0;
    }
    if (op->slot.state == OPERATION_RESOLVE) {
        admin_fill_resolve(ad, op, r);
        return;
    }
    r->kind = kind_of(op);
    a->operation = r->kind < CATALOGUE_QUERIES ? op->id : 0;
    a->step = op->transactions;
    a->flags = flags_of(op);
    a->block_size = op->block_size;
    memcpy(a->name, op->name, sizeof a->name);
    memcpy(a->uuid, op->uuid, sizeof a->uuid);
    a->size_bytes = op->size_bytes;
    a->sequence = op->sequence;
    a->moment_ns = op->moment_ns;
    a->from_sequence = op->now_sequence + 1;
    a->now_ns = op->now_ns;
    a->lease_ns = lease_end(ad, op);
    if (op->kind == OPERATION_ACTIVITY) {
        admin_activity_fill(ad, r->activities);
        return;
    }
    if (op->kind == OPERATION_CLEAN) {
        a->cold = op->cursor;
        a->segment_count = ad->c.log->sealed_in(ad->c.log_ctx, op->sequence, op->wait_sequence,
                                                a->segments, CATALOGUE_SEGMENTS_MAX);
        a->sequence = op->wait_sequence;
        return;
    }
    a->losses = op->kind == OPERATION_DECLARE_LOSS ? op->wait_sequence : 0;
    a->start_block = op->offset_bytes / BLOCK_BYTES;
    a->blocks = op->length_bytes / BLOCK_BYTES;
    a->store_ns = op->kind == OPERATION_MOMENT ? op->lease_ns : 0;
    memcpy(a->thinning, op->thinning, sizeof a->thinning);
    a->retain_ns = op->retain_ns;
    a->retain_bytes = op->retain_bytes;
}

void admin_forget_request(struct admin_pending *p) {
    if (p->request)
        catalogue_snapshot_free(p->request->snapshot);
    free(p->request);
    p->request = NULL;
    p->catalogue = ADMIN_IDLE;
}

void admin_forget(struct admin_pending *p) {
    admin_forget_request(p);
    catalogue_snapshot_free(p->dead);
    memset(p, 0, sizeof *p);
}

int admin_ask_catalogue(struct admin *ad, struct operation_h h) {
    struct admin_pending *p = admin_pending(ad, h);
    if (p->catalogue == ADMIN_IDLE) {
        p->catalogue = ADMIN_WANTED;
        p->retry_ns = 0;
    }
    if (p->catalogue != ADMIN_ANSWERED)
        return 0;
    int result = p->request->result;
    if (result == ERR_AGAIN) {
        if (ad->c.alerts.raise)
            ad->c.alerts.raise(ad->c.alerts.ctx, ALERT_ERROR, "catalogue_failed", "",
                               p->request->detail);
        admin_forget_request(p);
        p->catalogue = ADMIN_WANTED;
        p->retry_ns = clock_monotonic_ns(&ad->c.clock) + ADMIN_RETRY_NS;
        return 0;
    }
    if (ad->c.alerts.clear)
        ad->c.alerts.clear(ad->c.alerts.ctx, "catalogue_failed", "");
    if (result < 0)
        return admin_refuse(ad, h, result, "%s", p->request->detail);
    return 1;
}

/* A read-only image on demand that shows this moment already. */
static int reuse(struct admin *ad, struct operation_h h) {
    struct operation *op = operation_edit(ad->c.a, h);
    const struct volume *source = volume_try(ad->c.a, op->volumes[0]);
    struct volume_h v = {0};
    if (!source || op->kind != OPERATION_IMAGE_OPEN || op->volume_count != 1 ||
        !(op->flags & OPERATION_ON_DEMAND) || op->flags & OPERATION_WRITABLE)
        return 0;
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (s->slot.state != VOLUME_ONLINE || s->source_id != source->id ||
            s->flags != (VOLUME_IMAGE | VOLUME_READ_ONLY | VOLUME_ON_DEMAND) ||
            s->moment_sequence != op->sequence)
            continue;
        volume_edit(ad->c.a, v)->lease_until_ns = lease_end(ad, op);
        volume_free(ad->c.a, op->made[0]);
        op->made[0] = v;
        return 1;
    }
    return 0;
}

static int note_all(struct admin *ad, const struct catalogue_result *out) {
    for (uint32_t i = 0; i < out->count; i++) {
        if (admin_note(ad, &out->objects[i]) == ERR_AGAIN)
            return ERR_AGAIN;
    }
    return 0;
}

static void fill_made(struct admin *ad, const struct operation *op,
                      const struct catalogue_result *out) {
    for (uint32_t i = 0; i < out->count; i++) {
        timelines_fill(ad->c.a, op->made_lines[i], &out->objects[i].line);
        volumes_fill(ad->c.a, op->made[i], &out->objects[i], op->made_lines[i]);
        ad->c.engine->changed(ad->c.engine_ctx, op->made[i]);
    }
}

static int apply_create(struct admin *ad, struct operation *op,
                        const struct catalogue_result *out) {
    if (op->kind == OPERATION_VOLUME_CREATE && note_all(ad, out) == ERR_AGAIN)
        return ERR_AGAIN;
    fill_made(ad, op, out);
    if (op->kind == OPERATION_VOLUME_CREATE) {
        struct volume *v = volume_edit(ad->c.a, op->made[0]);
        v->oldest_sequence = op->now_sequence + 1;
        v->oldest_ns = op->now_ns;
    }
    return 0;
}

static int apply_resize(struct admin *ad, struct operation *op,
                        const struct catalogue_result *out) {
    const struct volume *v = volume_view(ad->c.a, op->volumes[0]);
    const struct timeline *line = timeline_view(ad->c.a, v->timeline);
    uint64_t sequence;
    if (op->size_bytes < v->size_bytes &&
        admin_append(ad, PLACE_HOLE, line->id, line->family, op->size_bytes,
                     v->size_bytes - op->size_bytes, &sequence) == ERR_AGAIN)
        return ERR_AGAIN;
    volume_edit(ad->c.a, op->volumes[0])->size_bytes = op->size_bytes;
    return 0;
}

static int apply_delete(struct admin *ad, struct operation *op,
                        const struct catalogue_result *out) {
    if (op->flags & OPERATION_NOW) {
        op->family = out->words[1] ? (uint32_t)out->words[0] : 0;
        op->results[4] = op->now_ns;
        volume_free(ad->c.a, op->volumes[0]);
        return 0;
    }
    struct volume *v = volume_edit(ad->c.a, op->volumes[0]);
    v->slot.state = VOLUME_DELETED;
    v->deleted_ns = op->results[4] = out->objects[0].deleted_ns;
    return 0;
}

/* The state that a disk has when nobody holds it. */
static void set_rest(struct admin *ad, struct volume_h v, uint16_t from, uint16_t to) {
    struct operation_h h = {0};
    if (volume_view(ad->c.a, v)->slot.state == from) {
        volume_edit(ad->c.a, v)->slot.state = to;
        ad->c.engine->changed(ad->c.engine_ctx, v);
        return;
    }
    while ((h = operation_next(ad->c.a, h)).v) {
        const struct operation *op = operation_view(ad->c.a, h);
        for (uint32_t i = 0; i < op->volume_count; i++)
            if (volume_h_same(op->volumes[i], v) && op->held[i] == from)
                operation_edit(ad->c.a, h)->held[i] = (uint8_t)to;
    }
}

/* What a volume has lost is known: its writable images are served again with it. */
static void accept_loss(struct admin *ad, struct volume_h source) {
    uint64_t id = volume_view(ad->c.a, source)->id;
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (s->id == id || ((s->flags & VOLUME_IMAGE) && s->source_id == id))
            set_rest(ad, v, VOLUME_LOST, VOLUME_ONLINE);
    }
}

static int apply_state(struct admin *ad, struct operation *op, const struct catalogue_result *out) {
    struct volume *v =
        volume_try(ad->c.a, op->volumes[0]) ? volume_edit(ad->c.a, op->volumes[0]) : NULL;
    if (!v)
        return 0;
    if (op->kind == OPERATION_VOLUME_SET) {
        v->flags = (v->flags & ~(uint32_t)VOLUME_DURABLE_WRITES) |
                   (out->objects[0].flags & VOLUME_DURABLE_WRITES);
        v->retain_ns = out->objects[0].retain_ns;
        v->retain_bytes = out->objects[0].retain_bytes;
        memcpy(v->thinning, out->objects[0].thinning, sizeof v->thinning);
    } else if (op->kind == OPERATION_ACCEPT_LOSS)
        accept_loss(ad, op->volumes[0]);
    else if (op->kind == OPERATION_VOLUME_UNDELETE)
        volumes_fill(ad->c.a, op->volumes[0], &out->objects[0], v->timeline);
    ad->c.engine->changed(ad->c.engine_ctx, op->volumes[0]);
    return 0;
}

static int apply_declare_loss(struct admin *ad) {
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v) {
        if (!volume_may_lose(volume_view(ad->c.a, v)))
            continue;
        volume_edit(ad->c.a, v)->slot.state = VOLUME_LOST;
        ad->c.engine->changed(ad->c.engine_ctx, v);
    }
    return 0;
}

static int apply_close(struct admin *ad, struct operation *op) {
    for (uint32_t i = 0; i < op->volume_count; i++) {
        /* With its family's last volume it may have gone already. */
        struct timeline_h line = volume_view(ad->c.a, op->volumes[i])->timeline;
        if (timeline_try(ad->c.a, line))
            timeline_free(ad->c.a, line);
        volume_free(ad->c.a, op->volumes[i]);
    }
    return 0;
}

static int apply_promote(struct admin *ad, struct operation *op,
                         const struct catalogue_result *out) {
    if (note_all(ad, out) == ERR_AGAIN)
        return ERR_AGAIN;
    struct timeline_h line = volume_view(ad->c.a, op->volumes[0])->timeline;
    struct volume_h source =
        volumes_find_id(ad->c.a, volume_view(ad->c.a, op->volumes[0])->source_id);
    /* It has its source's past, which is there: it is not purged before its images are gone. The row
     * says how much of it, unless an older program committed it. */
    must(source.v != 0);
    struct volume *v = volume_edit(ad->c.a, op->volumes[0]);
    v->oldest_sequence = volume_view(ad->c.a, source)->oldest_sequence;
    v->oldest_ns = volume_view(ad->c.a, source)->oldest_ns;
    volumes_fill(ad->c.a, op->volumes[0], &out->objects[0], line);
    op->made[0] = op->volumes[0];
    ad->c.engine->changed(ad->c.engine_ctx, op->volumes[0]);
    return 0;
}

static int apply_restore(struct admin *ad, struct operation *op,
                         const struct catalogue_result *out) {
    if (note_all(ad, out) == ERR_AGAIN)
        return ERR_AGAIN;
    for (uint32_t i = 0; i < out->count; i++) {
        timelines_fill(ad->c.a, op->made_lines[i], &out->objects[i].line);
        struct volume *v = volume_edit(ad->c.a, op->volumes[i]);
        v->timeline = op->made_lines[i];
        v->size_bytes = out->objects[i].size_bytes;
    }
    op->results[2] = op->now_sequence;
    return 0;
}

static int apply_range(struct admin *ad, struct operation_h h, const struct catalogue_result *out) {
    struct operation *op = operation_edit(ad->c.a, h);
    const struct volume *v = volume_view(ad->c.a, op->volumes[0]);
    const struct timeline *line = timeline_view(ad->c.a, v->timeline);
    struct log_append r = {.kind = PLACE_REFERENCE,
                           .timeline = line->id,
                           .family = line->family,
                           .start_sector = op->offset_bytes / SECTOR_BYTES,
                           .sectors = op->length_bytes / SECTOR_BYTES,
                           .block = op->offset_bytes / BLOCK_BYTES,
                           .blocks = op->length_bytes / BLOCK_BYTES,
                           .ref_timeline = out->objects[0].line.id,
                           .ref_sequence = op->sequence,
                           .is_control = 1};
    int rc = ad->c.log->append(ad->c.log_ctx, &r, &op->wait_sequence);
    if (rc == 0)
        op->results[2] = op->now_sequence;
    if (rc < 0 && rc != ERR_AGAIN)
        return admin_refuse(ad, h, rc, "the log takes no records: %s", err_text(rc));
    return rc;
}

static int apply(struct admin *ad, struct operation_h h, const struct catalogue_result *out) {
    struct operation *op = operation_edit(ad->c.a, h);
    if (op->flags & OPERATION_DRY_RUN)
        return 0;
    switch (op->kind) {
    case OPERATION_VOLUME_CREATE:
    case OPERATION_IMAGE_OPEN:
        return apply_create(ad, op, out);
    case OPERATION_VOLUME_RESIZE:
        return apply_resize(ad, op, out);
    case OPERATION_VOLUME_DELETE:
        return apply_delete(ad, op, out);
    case OPERATION_VOLUME_SET:
    case OPERATION_VOLUME_UNDELETE:
    case OPERATION_ACCEPT_LOSS:
        return apply_state(ad, op, out);
    case OPERATION_DECLARE_LOSS:
        return apply_declare_loss(ad);
    case OPERATION_IMAGE_CLOSE:
        return apply_close(ad, op);
    case OPERATION_IMAGE_PROMOTE:
        return apply_promote(ad, op, out);
    case OPERATION_RESTORE:
        return apply_restore(ad, op, out);
    case OPERATION_RESTORE_RANGE:
        return apply_range(ad, h, out);
    case OPERATION_CLEAN:
        ad->c.log->clean(ad->c.log_ctx, op->cursor, op->sequence, op->wait_sequence);
        return 0;
    case OPERATION_ACTIVITY:
        admin_activity_committed(ad);
        return 0;
    default: /* marks */
        return 0;
    }
}

int admin_commit(struct admin *ad, struct operation_h h) {
    struct admin_pending *p = admin_pending(ad, h);
    if (p->catalogue == ADMIN_IDLE) {
        if (reuse(ad, h))
            return 1;
        /* Kinds that hold nothing: what they make begins after all that is recorded now. */
        uint16_t kind = operation_view(ad->c.a, h)->kind;
        if (kind == OPERATION_VOLUME_CREATE)
            operation_edit(ad->c.a, h)->now_sequence = ad->c.log->recorded(ad->c.log_ctx);
    }
    int rc = admin_ask_catalogue(ad, h);
    if (rc != 1)
        return rc;
    ad->c.log->catalogue_is(ad->c.log_ctx, p->request->generation);
    rc = apply(ad, h, &p->request->out);
    if (rc == ERR_AGAIN)
        return 0;
    operation_edit(ad->c.a, h)->transactions++;
    admin_forget_request(p);
    return rc < 0 ? rc : 1;
}
