/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/activity.h"

#include "base/units.h"
#include "engine/timeline/volumes.h"

LAYOUT_FIELDS(activity, ACTIVITY_FIELDS)
const struct arena_table_spec activity_spec = TABLE_SPEC(activity, TABLE_ACTIVITY, 1);

/* Nothing was written from the flush until now. */
static void settle(struct arena *a, struct volume_h v, struct activity *t, uint64_t wall_ns) {
    const struct volume *s = volume_view(a, v);
    if (s->flushed_ns == 0 || wall_ns < s->flushed_ns + ACTIVITY_CLEAN_NS)
        return;
    t->clean_sequence = s->flushed_sequence;
    volume_edit(a, v)->flushed_ns = 0;
}

void activity_recorded(struct arena *a, struct volume_h v, struct activity *t, uint64_t sequence,
                       uint64_t wall_ns) {
    settle(a, v, t, wall_ns);
    if (volume_view(a, v)->flushed_ns)
        volume_edit(a, v)->flushed_ns = 0;
    if (t->first_sequence == 0)
        t->first_sequence = sequence;
    t->last_sequence = sequence;
    t->last_ns = wall_ns;
}

void activity_flushed(struct arena *a, struct volume_h v, struct activity *t, uint64_t recorded,
                      uint64_t wall_ns) {
    t->counted[ACTIVITY_flushes]++;
    settle(a, v, t, wall_ns);
    if (volume_view(a, v)->flushed_ns)
        return; /* nothing was written since the one before */
    volume_edit(a, v)->flushed_sequence = recorded;
    volume_edit(a, v)->flushed_ns = wall_ns;
}

struct activity *activity_now(struct arena *a, struct volume_h v, uint64_t wall_ns) {
    const struct volume *s = volume_view(a, v);
    const struct activity *now = activity_try(a, s->activity);
    if (s->flags & VOLUME_IMAGE)
        return NULL;
    int is_open = now && now->slot.state == ACTIVITY_OPEN && now->volume_id == s->id;
    if (is_open && now->second == wall_ns / NS_PER_S)
        return activity_edit(a, s->activity);
    struct activity_h h = activity_new(a, ACTIVITY_OPEN);
    if (!h.v)
        return is_open ? activity_edit(a, s->activity) : NULL;
    if (is_open)
        activity_edit(a, s->activity)->slot.state = ACTIVITY_ENDED;
    volume_edit(a, v)->activity = h;
    struct activity *t = activity_edit(a, h);
    t->volume_id = s->id;
    t->second = wall_ns / NS_PER_S;
    return t;
}

uint32_t activity_end(struct arena *a, uint64_t wall_ns, int all, uint32_t max) {
    uint32_t ended = 0;
    for (struct activity_h h = activity_next(a, (struct activity_h){0}); h.v && ended < max;
         h = activity_next(a, h)) {
        const struct activity *t = activity_view(a, h);
        if (t->slot.state == ACTIVITY_OPEN && (all || t->second != wall_ns / NS_PER_S)) {
            struct volume_h v = volumes_find_id(a, t->volume_id);
            if (v.v)
                settle(a, v, activity_edit(a, h), wall_ns);
            activity_edit(a, h)->slot.state = ACTIVITY_ENDED;
        }
        ended += t->slot.state == ACTIVITY_ENDED;
    }
    return ended;
}
