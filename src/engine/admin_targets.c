/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What volumes give up: what is older than an age says, the moment of which is looked up in the log, one age after
 * the other; and what is before the moment from which on they have recorded as much as they may keep.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/admin_clean_priv.h"

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

static int add_target(struct admin_cleaning *c, const struct volume *v, struct target t) {
    if (t.sequence > 0 && t.sequence <= v->oldest_sequence && t.fine_sequence == 0)
        return 0;
    if (grow(&c->targets, c->target_count, &c->target_room) < 0)
        return ERR_NOMEM;
    t.volume = v->id;
    c->targets[c->target_count++] = t;
    return 0;
}

void targets_begin(struct admin_cleaning *c) {
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

/* What this volume gives up because it has recorded too much, or as its history is thinned; NULL: nothing. */
static const struct target *limit_of(const struct admin_cleaning *c, const struct volume *v) {
    for (uint32_t i = 0; i < c->limit_count; i++)
        if (c->limits[i].volume == v->id && c->limits[i].retain_bytes == v->retain_bytes)
            return &c->limits[i];
    return NULL;
}

int targets_find(struct admin *ad) {
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
        const struct target *limit = limit_of(c, s);
        struct target t = limit ? *limit : (struct target){0};
        if (found > 0 && c->memo.sequence > t.sequence)
            t = c->memo;
        t.fine_sequence =
            limit && !ad->c.log->clock_suspect(ad->c.log_ctx) ? limit->fine_sequence : 0;
        if ((t.sequence || t.fine_sequence) && add_target(c, s, t) < 0)
            return 1;
    }
    return 1;
}

uint64_t targets_youngest(const struct admin_cleaning *c) {
    uint64_t youngest = 0;
    for (uint32_t i = 0; i < c->target_count; i++)
        youngest = max_u64(youngest, max_u64(c->targets[i].sequence, c->targets[i].fine_sequence));
    return youngest;
}

int targets_of_all(struct admin *ad, uint64_t sequence, uint64_t wall_ns) {
    struct volume_h v = {0};
    targets_begin(ad->cleaning);
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        struct target t = {.sequence = sequence, .wall_ns = wall_ns};
        if (has_history(s) && add_target(ad->cleaning, s, t) < 0)
            return ERR_NOMEM;
    }
    return 0;
}

int targets_have_limits(const struct admin *ad) {
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v)
        if (has_history(volume_view(ad->c.a, v)) &&
            (volume_view(ad->c.a, v)->retain_bytes > 0 || volume_view(ad->c.a, v)->thinning[0]))
            return 1;
    return 0;
}

void targets_take_limits(struct admin *ad, const struct catalogue_list *list) {
    struct admin_cleaning *c = ad->cleaning;
    uint64_t durable = ad->c.log->durable(ad->c.log_ctx);
    for (uint32_t i = 0; i < list->count; i++) {
        const struct catalogue_row *row = &list->rows[i];
        if (row->sequence > durable)
            ad->c.log->want_durable(ad->c.log_ctx, row->sequence); /* for the next look */
        int may_go = row->sequence > 0 && row->sequence <= durable;
        if (!may_go && row->fine_sequence == 0)
            continue;
        if (grow(&c->limits, c->limit_count, &c->limit_room) < 0)
            break;
        c->limits[c->limit_count++] = (struct target){.volume = row->volume,
                                                      .sequence = may_go ? row->sequence : 0,
                                                      .fine_sequence = row->fine_sequence,
                                                      .wall_ns = row->time_ns,
                                                      .retain_bytes = row->size_bytes};
    }
}
