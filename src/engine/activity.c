/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/activity.h"

#include "base/units.h"

LAYOUT_FIELDS(activity, ACTIVITY_FIELDS)
const struct arena_table_spec activity_spec = TABLE_SPEC(activity, TABLE_ACTIVITY, 1);

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
        if (t->slot.state == ACTIVITY_OPEN && (all || t->second != wall_ns / NS_PER_S))
            activity_edit(a, h)->slot.state = ACTIVITY_ENDED;
        ended += t->slot.state == ACTIVITY_ENDED;
    }
    return ended;
}
