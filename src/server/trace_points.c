/* SPDX-License-Identifier: Apache-2.0 */
/* Trace points for a person: the numbers of base/numbers.h in words. */
#include <inttypes.h>
#include <stdio.h>

#include "base/numbers.h"
#include "base/units.h"
#include "server/perdured.h"
#include "server/trace.h"

/* What the two words of a point mean; the first may hold two numbers of 32 bits. */
static const struct event {
    uint32_t code;
    const char *name, *high, *low, *second;
} events[] = {
    {TRACE_ENGINE_BEGINS, "engine begins", NULL, "generation", "after"},
    {TRACE_CONNS_ATTACHED, "connections attached", "kept", "closed", NULL},
    {TRACE_IO_ADOPTED, "disk operations adopted", NULL, "rings", "in flight"},
    {TRACE_ENGINE_SERVES, "engine serves", NULL, "generation", "pause ns"},
    {TRACE_TURN, "turn", NULL, "number", "events"},
    {TRACE_CONN_OPENED, "connection opened", "id", "descriptor", "protocol"},
    {TRACE_CONN_CLOSED, "connection closed", "id", "descriptor", NULL},
    {TRACE_REQUEST, "request", "id", "operation", "connection"},
    {TRACE_IO_QUEUED, "disk operation queued", "routine", "device", "offset"},
    {TRACE_IO_DONE, "disk operation done", "routine", "device", "result"},
    {TRACE_CONTROL, "control operation", NULL, "place in the table", NULL},
    {TRACE_RELOAD, "reload", NULL, "state", NULL},
    {TRACE_STOPS, "engine stops", NULL, "generation", NULL},
};

static const struct event *event_of(uint32_t code) {
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        if (events[i].code == code)
            return &events[i];
    return NULL;
}

static void describe(const struct event *e, const struct trace_point *p, char *out, size_t room) {
    int n = 0;
    if (!e) {
        snprintf(out, room, "code %" PRIu32 ", %" PRIu64 ", %" PRIu64, p->code, p->a, p->b);
        return;
    }
    if (p->code == TRACE_ENGINE_BEGINS && p->b <= BOOT_CRASH) {
        static const char *const after[] = {"cold", "after a reload", "after a death"};
        snprintf(out, room, "generation %" PRIu64 ", %s", p->a, after[p->b]);
        return;
    }
    if (e->high)
        n = snprintf(out, room, "%s %" PRIu64 ", %s %" PRIu64, e->high, p->a >> 32, e->low,
                     p->a & UINT32_MAX);
    else
        n = snprintf(out, room, "%s %" PRIu64, e->low, p->a);
    if (e->second)
        snprintf(out + n, room - (size_t)n, ", %s %" PRId64, e->second, (int64_t)p->b);
}

json_t *perdured_trace_points(struct perdured *p, uint32_t deaths_ago, uint64_t max) {
    const struct clock *clock = &p->core.r.clock;
    uint64_t wall_ns = clock_wall_ns(clock), now_ns = clock_monotonic_ns(clock), position;
    json_t *list = json_array();
    struct trace t;
    struct trace_point at;
    if (server_trace_open(&t, &p->core.r.a, deaths_ago, &position) < 0)
        return list;
    uint64_t end = atomic_load(&t.head->next);
    if (end > max)
        position = max_u64(position, end - max);
    while (trace_next(&t, &position, &at)) {
        const struct event *e = event_of(at.code);
        char detail[160], time[MOMENT_TEXT_BYTES];
        describe(e, &at, detail, sizeof detail);
        moment_format_utc(wall_ns - now_ns + at.time_ns, time);
        json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "time", time, "event",
                                              e ? e->name : "unknown", "detail", detail));
    }
    return list;
}
