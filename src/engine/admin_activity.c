/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds that are over go to the catalogue (activity.h): every ACTIVITY_EVERY_NS, sooner if many wait or
 * somebody wants to read them. One transaction at a time; its rows are the slots that are SENT. */
#include "base/must.h"
#include "engine/activity.h"
#include "engine/admin_priv.h"

#define ACTIVITY_EVERY_NS (10 * NS_PER_S)

static int is_under_way(const struct admin *ad) {
    for (struct operation_h h = operation_next(ad->c.a, (struct operation_h){0}); h.v;
         h = operation_next(ad->c.a, h))
        if (operation_view(ad->c.a, h)->kind == OPERATION_ACTIVITY)
            return 1;
    return 0;
}

/* The slots that are in one state become of another, at most so many. */
static void move(struct arena *a, enum activity_state from, enum activity_state to, uint32_t max) {
    for (struct activity_h h = activity_next(a, (struct activity_h){0}); h.v && max > 0;
         h = activity_next(a, h)) {
        if (activity_view(a, h)->slot.state != from)
            continue;
        activity_edit(a, h)->slot.state = (uint16_t)to;
        max--;
    }
}

void admin_activity_turn(struct admin *ad) {
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock);
    uint32_t used = activity_used(ad->c.a), room = activity_room(ad->c.a);
    if (used == 0)
        ad->activity_wanted = 0;
    if (used == 0 ||
        (!ad->activity_wanted && room > used && now_ns - ad->activity_ns < ACTIVITY_EVERY_NS))
        return;
    if (is_under_way(ad) || arena_undo_left(ad->c.a) < ARENA_HANDLER_UNDO_BYTES)
        return;
    struct admin_request q = {.kind = OPERATION_ACTIVITY, .flags = OPERATION_INTERNAL};
    struct operation_h h;
    uint32_t ended =
        activity_end(ad->c.a, clock_wall_ns(&ad->c.clock), ad->activity_wanted, CATALOGUE_ROWS_MAX);
    if (ended < CATALOGUE_ROWS_MAX) {
        ad->activity_ns = now_ns;
        ad->activity_wanted = 0;
    }
    if (ended > 0 && admin_begin(ad, &q, &h) == 0)
        move(ad->c.a, ACTIVITY_ENDED, ACTIVITY_SENT, CATALOGUE_ROWS_MAX);
}

void admin_activity_now(struct admin *ad) {
    ad->activity_wanted = 1;
}

int admin_activity_is_known(const struct admin *ad) {
    return !ad->activity_wanted && !is_under_way(ad);
}

void admin_activity_fill(struct admin *ad, struct catalogue_activities *out) {
    for (struct activity_h h = activity_next(ad->c.a, (struct activity_h){0}); h.v;
         h = activity_next(ad->c.a, h)) {
        const struct activity *t = activity_view(ad->c.a, h);
        if (t->slot.state != ACTIVITY_SENT)
            continue;
        must(out->count < CATALOGUE_ROWS_MAX);
        struct catalogue_activity *row = &out->rows[out->count++];
        *row = (struct catalogue_activity){.volume = t->volume_id,
                                           .time = t->second,
                                           .first_sequence = t->first_sequence,
                                           .last_sequence = t->last_sequence,
                                           .last_ns = t->last_ns,
                                           .clean_sequence = t->clean_sequence};
        for (int c = 0; c < ACTIVITY_COUNTERS; c++)
            row->counted[c] = t->counted[c];
    }
}

void admin_activity_committed(struct admin *ad) {
    struct activity_h h = activity_next(ad->c.a, (struct activity_h){0}), next;
    for (; h.v; h = next) {
        next = activity_next(ad->c.a, h);
        if (activity_view(ad->c.a, h)->slot.state == ACTIVITY_SENT)
            activity_free(ad->c.a, h);
    }
}

void admin_activity_failed(struct admin *ad) {
    move(ad->c.a, ACTIVITY_SENT, ACTIVITY_ENDED, CATALOGUE_ROWS_MAX);
}
