/* SPDX-License-Identifier: Apache-2.0 */
/* The steps that ask the log and the request path: which sequence number a moment has, bringing
 * volumes to rest, waiting until the log is durable. */
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "engine/admin_priv.h"

int admin_append(struct admin *ad, enum place_kind kind, uint32_t timeline, uint32_t family,
                 uint64_t offset_bytes, uint64_t length_bytes, uint64_t *sequence) {
    struct log_append r = {.kind = kind,
                           .timeline = timeline,
                           .family = family,
                           .start_sector = offset_bytes / SECTOR_BYTES,
                           .sectors = length_bytes / SECTOR_BYTES,
                           .block = offset_bytes / BLOCK_BYTES,
                           .blocks = length_bytes / BLOCK_BYTES,
                           .is_control = 1};
    return ad->c.log->append(ad->c.log_ctx, &r, sequence);
}

int admin_note(struct admin *ad, const struct catalogue_object *o) {
    uint64_t sequence;
    int rc = admin_append(ad, PLACE_HOLE, o->line.id, o->line.family, o->size_bytes, BLOCK_BYTES,
                          &sequence);
    return rc == ERR_AGAIN ? rc : 0;
}

static void moment_done(struct admin_moment *m, int result) {
    struct admin_pending *p = m->owner;
    p->moment = ADMIN_ANSWERED;
    p->moment_result = result;
}

/* A volume's own first moment: by its number or time (which was read a little before it was recorded)
 * it opens though the log's newest request until then ended before, as that cannot be one of this
 * volume. */
static int is_first_moment(struct admin *ad, const struct operation *op, int result,
                           struct admin_moment *m) {
    const struct volume *v = op->volume_count == 1 ? volume_try(ad->c.a, op->volumes[0]) : NULL;
    int found = result == 0;
    if (!v || v->oldest_sequence == 0 || (!found && result != ERR_RANGE) ||
        (found && m->sequence > v->oldest_sequence))
        return 0;
    if (op->moment_kind == OPERATION_AT_TIME
            ? op->moment < v->oldest_ns || op->moment - v->oldest_ns >= NS_PER_S
            : op->moment < v->oldest_sequence)
        return 0;
    m->sequence = v->oldest_sequence;
    m->time_ns = v->oldest_ns;
    return 1;
}

/* From where on all volumes of the operation promise all moments. */
static uint64_t fine_from(const struct admin *ad, const struct operation *op) {
    uint64_t fine = 0;
    for (uint32_t i = 0; i < op->volume_count; i++) {
        const struct volume *v = volume_try(ad->c.a, op->volumes[i]);
        fine = v ? max_u64(fine, v->fine_sequence) : fine;
    }
    return fine;
}

void admin_fill_resolve(const struct admin *ad, const struct operation *op,
                        struct catalogue_request *r) {
    struct catalogue_args *a = &r->args;
    if (op->moment_kind == OPERATION_AT_MARK) {
        r->kind = CATALOGUE_MARK_FIND;
        memcpy(a->name, op->label, sizeof a->name);
        return;
    }
    int by_time = op->moment_kind == OPERATION_AT_TIME;
    r->kind = CATALOGUE_NEAREST;
    a->flags =
        (by_time ? CATALOGUE_BY_TIME : 0) | (op->flags & OPERATION_EXACT ? CATALOGUE_EXACT : 0);
    a->sequence = by_time ? fine_from(ad, op) : op->moment;
    a->moment_ns = by_time ? op->moment : 0;
}

/* Where history is thinned, frames that would tell the time are gone, and the catalogue knows what is left. */
static int find_nearest(struct admin *ad, struct operation_h h) {
    struct admin_pending *p = admin_pending(ad, h);
    int rc = admin_ask_catalogue(ad, h);
    if (rc != 1)
        return rc;
    p->query.sequence = p->request->out.words[0];
    p->query.time_ns = p->request->out.words[1];
    operation_edit(ad->c.a, h)->results[5] = p->request->out.words[2] == 0;
    admin_forget_request(p);
    return 1;
}

/* 1: p->query is filled in. */
static int find_moment(struct admin *ad, struct operation_h h) {
    const struct operation *op = operation_view(ad->c.a, h);
    struct admin_pending *p = admin_pending(ad, h);
    int nearest = 0;
    if (p->moment == ADMIN_ASKED)
        return 0;
    if (p->moment == ADMIN_IDLE) {
        p->query = (struct admin_moment){.by_time = op->moment_kind == OPERATION_AT_TIME,
                                         .time_ns = op->moment,
                                         .sequence = op->moment,
                                         .done = moment_done,
                                         .owner = p,
                                         .operation = op->id};
        p->moment = ADMIN_ASKED;
        int rc = ad->c.log->find_moment(ad->c.log_ctx, &p->query);
        if (rc == ERR_AGAIN)
            return 0;
        p->moment_result = rc;
        p->moment = ADMIN_ANSWERED;
    }
    uint64_t found = p->moment_result == 0 ? p->query.sequence : 0;
    if ((p->moment_result == 0 || p->moment_result == ERR_RANGE) && found < fine_from(ad, op)) {
        nearest = find_nearest(ad, h);
        if (nearest == 0)
            return 0;
    }
    p->moment = ADMIN_IDLE;
    if (nearest)
        return nearest;
    if (is_first_moment(ad, op, p->moment_result, &p->query))
        return 1;
    switch (p->moment_result) {
    case 0:
        return 1;
    case ERR_RANGE:
        return admin_refuse(ad, h, ERR_RANGE, "that is before the oldest moment that is kept");
    case ERR_AMBIGUOUS:
        return admin_refuse(ad, h, ERR_AMBIGUOUS,
                            "the clock was set back and showed this time twice; write \"seq:%llu\" "
                            "or \"seq:%llu\"",
                            (unsigned long long)p->query.sequence,
                            (unsigned long long)p->query.other);
    case ERR_NOTFOUND:
        return admin_refuse(ad, h, ERR_RANGE, "that moment has not come yet");
    default:
        return admin_refuse(ad, h, p->moment_result, "the log could not be asked for that moment");
    }
}

static int resolved(struct admin *ad, struct operation_h h, uint64_t sequence, uint64_t time_ns) {
    struct operation *op = operation_edit(ad->c.a, h);
    uint64_t recorded = ad->c.log->recorded(ad->c.log_ctx);
    if (sequence > recorded)
        return admin_refuse(ad, h, ERR_RANGE, "that moment has not come yet");
    op->sequence = op->wait_sequence = op->results[0] = sequence;
    op->moment_ns = op->results[1] = time_ns;
    op->now_sequence = op->results[2] = recorded;
    op->results[3] = clock_wall_ns(&ad->c.clock);
    return 1;
}

/* While a volume is held by a restore, nobody can say what it shows after the newest sequence: the restore will
 * have happened before that. */
static int is_held_by_another(const struct admin *ad, const struct operation *op) {
    for (uint32_t i = 0; i < op->volume_count; i++) {
        const struct volume *v = volume_try(ad->c.a, op->volumes[i]);
        if (v && v->slot.state == VOLUME_HELD)
            return 1;
    }
    return 0;
}

int admin_resolve(struct admin *ad, struct operation_h h) {
    const struct operation *op = operation_view(ad->c.a, h);
    if (is_held_by_another(ad, op))
        return 0;
    struct admin_pending *p = admin_pending(ad, h);
    uint64_t recorded = ad->c.log->recorded(ad->c.log_ctx);
    int rc;
    switch (op->moment_kind) {
    case OPERATION_AT_NOW:
        return resolved(ad, h, recorded, clock_wall_ns(&ad->c.clock));
    case OPERATION_AT_MARK:
        rc = admin_ask_catalogue(ad, h);
        if (rc != 1)
            return rc;
        rc = resolved(ad, h, p->request->out.words[0], p->request->out.words[1]);
        admin_forget_request(p);
        return rc;
    case OPERATION_AT_TIME:
        break;
    default:
        if (op->moment > recorded)
            return admin_refuse(ad, h, ERR_RANGE, "the newest write has the number %llu",
                                (unsigned long long)recorded);
    }
    rc = find_moment(ad, h);
    return rc == 1 ? resolved(ad, h, p->query.sequence, p->query.time_ns) : rc;
}

/* A volume or image that is to go must have no users, one that is to change must be quiet. */
static int is_leaving(const struct operation *op) {
    return op->kind == OPERATION_VOLUME_DELETE || op->kind == OPERATION_IMAGE_CLOSE;
}

static int may_be_held(const struct operation *op, uint16_t state) {
    if (op->kind == OPERATION_ACCEPT_LOSS || is_leaving(op))
        return state == VOLUME_ONLINE || state == VOLUME_LOST || state == VOLUME_DELETED;
    if (op->kind == OPERATION_VOLUME_UNDELETE)
        return state == VOLUME_DELETED;
    return state == VOLUME_ONLINE;
}

static int take_hold(struct admin *ad, struct operation_h h) {
    struct operation *op = operation_edit(ad->c.a, h);
    for (uint32_t i = 0; i < op->volume_count; i++) {
        const struct volume *v = volume_try(ad->c.a, op->volumes[i]);
        if (!v)
            return admin_refuse(ad, h, ERR_CHANGED, "it was removed meanwhile");
        if (v->slot.state == VOLUME_LOST && !may_be_held(op, v->slot.state))
            return admin_refuse(ad, h, ERR_REFUSED, "%s waits for accept-loss", v->name);
        if (!may_be_held(op, v->slot.state))
            return admin_refuse(ad, h, ERR_BUSY, "another operation on %s is under way", v->name);
        if (v->users > 0 && !(op->flags & OPERATION_FORCE) && op->kind != OPERATION_ACCEPT_LOSS &&
            (op->kind != OPERATION_VOLUME_RESIZE || op->size_bytes < v->size_bytes))
            return admin_refuse(ad, h, ERR_REFUSED, "%u %s %s", v->users,
                                v->users == 1 ? "connection uses" : "connections use", v->name);
    }
    for (uint32_t i = 0; i < op->volume_count; i++) {
        struct volume *v = volume_edit(ad->c.a, op->volumes[i]);
        op->held[i] = (uint8_t)v->slot.state;
        /* Who comes to one in the trash is not to wait for it. */
        v->slot.state =
            is_leaving(op) || op->held[i] == VOLUME_DELETED ? VOLUME_LEAVING : VOLUME_HELD;
        ad->c.engine->changed(ad->c.engine_ctx, op->volumes[i]);
        if (is_leaving(op) && v->users > 0)
            ad->c.engine->evict(ad->c.engine_ctx, op->volumes[i]);
    }
    return 1;
}

int admin_hold(struct admin *ad, struct operation_h h) {
    const struct operation *op = operation_view(ad->c.a, h);
    if (!op->held[0]) {
        int rc = take_hold(ad, h);
        if (rc < 0)
            return rc;
    }
    for (uint32_t i = 0; i < op->volume_count; i++) {
        if (!ad->c.engine->quiet(ad->c.engine_ctx, op->volumes[i]) ||
            (is_leaving(op) && volume_view(ad->c.a, op->volumes[i])->users > 0))
            return 0;
    }
    struct operation *edit = operation_edit(ad->c.a, h);
    edit->now_sequence = ad->c.log->recorded(ad->c.log_ctx);
    if (op->kind == OPERATION_RESTORE || op->kind == OPERATION_RESTORE_RANGE)
        edit->results[3] = clock_wall_ns(&ad->c.clock);
    edit->wait_sequence = op->kind == OPERATION_RESTORE ? edit->now_sequence : op->sequence;
    return 1;
}

void admin_release(struct admin *ad, struct operation_h h) {
    struct operation *op = operation_edit(ad->c.a, h);
    for (uint32_t i = 0; i < op->volume_count; i++) {
        const struct volume *v = volume_try(ad->c.a, op->volumes[i]);
        if (op->held[i] && v && (v->slot.state == VOLUME_HELD || v->slot.state == VOLUME_LEAVING)) {
            volume_edit(ad->c.a, op->volumes[i])->slot.state = op->held[i];
            ad->c.engine->changed(ad->c.engine_ctx, op->volumes[i]);
        }
        op->held[i] = 0;
    }
}

/* Blocks that a volume grows by read as zeroes, whatever it held there before it was made smaller:
 * durable before the catalogue knows of the new size. */
int admin_prepare(struct admin *ad, struct operation_h h) {
    struct operation *op = operation_edit(ad->c.a, h);
    const struct volume *v = volume_view(ad->c.a, op->volumes[0]);
    const struct timeline *line = timeline_view(ad->c.a, v->timeline);
    if (op->size_bytes <= v->size_bytes)
        return 1;
    uint64_t sequence;
    int rc = admin_append(ad, PLACE_HOLE, line->id, line->family, v->size_bytes,
                          op->size_bytes - v->size_bytes, &sequence);
    if (rc == ERR_AGAIN)
        return 0;
    if (rc < 0)
        return admin_refuse(ad, h, rc, "the log takes no records: %s", err_text(rc));
    op->now_sequence = sequence - 1;
    op->wait_sequence = sequence;
    return 1;
}

int admin_durable(struct admin *ad, struct operation_h h) {
    uint64_t wait = operation_view(ad->c.a, h)->wait_sequence;
    if (ad->c.log->durable(ad->c.log_ctx) >= wait)
        return 1;
    int failed = ad->c.log->failed(ad->c.log_ctx);
    if (failed)
        return admin_refuse(ad, h, failed, "the log cannot be written: %s", err_text(failed));
    ad->c.log->want_durable(ad->c.log_ctx, wait);
    return 0;
}

/* What was committed must be recorded: who has no room for that is refused before. */
int admin_room(struct admin *ad, struct operation_h h) {
    int rc = ad->c.log->room(ad->c.log_ctx);
    if (rc == 0)
        return 1;
    if (rc == ERR_AGAIN)
        return 0;
    return admin_refuse(ad, h, rc, "the store is full, its reserve too");
}
