/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Store time: what records carry and retention counts. It advances with the monotonic clock, by up
 * to an eighth faster or slower as long as it is away from wall time, and never goes back.
 *
 * When the wall clock jumps by more than JUMP_NS, nobody knows yet which clock was wrong. Until a
 * person confirms the new time, or it jumps back, store time follows the monotonic clock alone.
 *
 * What the wall clock shows against store time is kept as spans (wall.h): whenever the newest does not
 * predict a reading, the next begins. A reading is taken once a turn, before any of its records, so
 * every record lies in a span that knows its wall time.
 *
 * The state is saved with every record and ten times a second otherwise, so what a former process
 * has shown is not gone back on by more than nothing was recorded in.
 */
#include "base/units.h"
#include "engine/log/log_priv.h"

#define JUMP_NS ((int64_t)LOG_CLOCK_JUMP_NS)
#define SLEW_SHARE 8
#define SAVE_NS (100 * NS_PER_MS)

static uint64_t advance(const struct engine *root, uint64_t mono_ns, uint64_t wall_ns) {
    uint64_t passed = mono_ns - root->time_mono_ns;
    uint64_t next = root->time_store_ns + passed;
    if (root->time_suspect)
        return next;
    uint64_t most = passed / SLEW_SHARE;
    if (wall_ns > next)
        return next + min_u64(wall_ns - next, most);
    return next - min_u64(next - wall_ns, most);
}

/* How far the wall clock is from where it should be by now. */
static int64_t jumped_by(const struct engine *root, uint64_t mono_ns, uint64_t wall_ns) {
    return (int64_t)(wall_ns - (root->time_wall_ns + (mono_ns - root->time_mono_ns)));
}

static void save(struct log *l) {
    struct engine *root = root_edit(l);
    root->time_store_ns = l->store_ns;
    root->time_mono_ns = l->mono_ns;
    root->time_wall_ns = l->wall_ns;
}

static void tell_suspect(struct log *l, int64_t by_ns) {
    log_alert(l, ALERT_ERROR, "clock_jumped",
              "the wall clock jumped by %lld s; nothing is dropped by age until it is back, or "
              "perdure clock confirm says that it is right",
              (long long)(by_ns / (int64_t)NS_PER_S));
}

static void suspect(struct log *l, int64_t by_ns) {
    struct engine *root = root_edit(l);
    root->time_suspect = 1;
    root->time_jump_ns = by_ns;
    tell_suspect(l, by_ns);
}

/* Spans of the wall clock. --------------------------------------------------------------------- */

/* The span that this reading begins. */
static void begin_span(struct log *l, uint64_t ended_ns) {
    const struct wall_span *last = wall_spans(l)->count > 0 ? wall_newest(l) : NULL;
    int even = root_view(l)->time_suspect || l->wall_ns == l->store_ns;
    struct wall_span s = {.since_ns = l->store_ns,
                          .wall_ns = l->wall_ns,
                          .ended_ns = ended_ns,
                          .rate = even                       ? WALL_EVEN
                                  : l->wall_ns > l->store_ns ? WALL_SLOWER
                                                             : WALL_FASTER};
    if (last && last->since_ns >= s.since_ns) /* store time has not moved: in its next nanosecond */
        s.since_ns = s.ended_ns = last->since_ns + 1;
    struct wall *w = wall_edit(l->a, l->wall);
    w->count = wall_add(w->span, w->count, WALL_SPANS_MAX, &s);
}

/* ended_ns: the store time up to which the newest span is known to hold. */
static void note_reading(struct log *l, uint64_t ended_ns) {
    const struct wall *w = wall_spans(l);
    uint64_t said = wall_at(w->span, w->count, l->store_ns);
    if (w->count == 0 || said > l->wall_ns + WALL_TOLERANCE_NS ||
        l->wall_ns > said + WALL_TOLERANCE_NS)
        begin_span(l, ended_ns);
}

static void trust(struct log *l) {
    root_edit(l)->time_suspect = 0;
    log_alert_clear(l, "clock_jumped");
}

void log_clock_read(struct log *l) {
    const struct engine *root = root_view(l);
    l->wall_ns = clock_wall_ns(&l->env.clock);
    l->mono_ns = max_u64(clock_monotonic_ns(&l->env.clock), root->time_mono_ns);
    l->store_ns = advance(root, l->mono_ns, l->wall_ns);
}

void log_clock_turn(struct log *l) {
    const struct engine *root = root_view(l);
    log_clock_read(l);
    int64_t jump = jumped_by(root, l->mono_ns, l->wall_ns);
    int64_t away = (int64_t)(l->wall_ns - (root->time_store_ns + l->mono_ns - root->time_mono_ns));
    if (jump > JUMP_NS || jump < -JUMP_NS) {
        if (root->time_suspect && away <= JUMP_NS && away >= -JUMP_NS)
            trust(l);
        else
            suspect(l, jump);
    }
    l->store_ns = advance(root, l->mono_ns, l->wall_ns);
    note_reading(l, l->store_ns);
    if (jump > JUMP_NS || jump < -JUMP_NS || l->mono_ns - root->time_mono_ns >= SAVE_NS)
        save(l);
}

void log_clock_save(struct log *l) {
    if (root_view(l)->time_mono_ns != l->mono_ns || root_view(l)->time_store_ns != l->store_ns)
        save(l);
}

/* After the machine or the process was away, the wall clock alone knows for how long. */
void log_clock_start(struct log *l, uint64_t known_ns, uint64_t least_ns) {
    l->mono_ns = clock_monotonic_ns(&l->env.clock);
    l->wall_ns = clock_wall_ns(&l->env.clock);
    l->store_ns = max_u64(least_ns, l->wall_ns);
    save(l);
    if (least_ns > l->wall_ns + (uint64_t)JUMP_NS)
        suspect(l, -(int64_t)(least_ns - l->wall_ns));
    note_reading(l,
                 min_u64(known_ns, least_ns - 1)); /* a gap, however short: time may have passed */
}

void log_clock_resume(struct log *l) {
    if (log_clock_suspect(l))
        tell_suspect(l, root_view(l)->time_jump_ns);
}

uint64_t log_now_ns(const struct log *l) {
    return l->store_ns;
}

uint64_t log_wall_ns(const struct log *l) {
    return l->wall_ns;
}

uint32_t log_clock_jumps(const struct log *l, struct log_clock_jump *jumps, uint32_t max) {
    const struct wall *w = wall_spans(l);
    struct wall_step steps[WALL_SPANS_MAX];
    uint32_t n = wall_steps(w->span, w->count, LOG_CLOCK_JUMP_NS, steps,
                            max < WALL_SPANS_MAX ? max : WALL_SPANS_MAX);
    for (uint32_t i = 0; i < n; i++)
        jumps[i] = (struct log_clock_jump){steps[i].before_ns, steps[i].after_ns};
    return n;
}

int log_clock_suspect(const struct log *l) {
    return root_view(l)->time_suspect != 0;
}

void log_clock_confirm(struct log *l) {
    if (!log_clock_suspect(l))
        return;
    trust(l);
    uint64_t ended_ns = l->store_ns;
    l->store_ns = max_u64(l->store_ns, l->wall_ns);
    save(l);
    note_reading(l, ended_ns);
}
