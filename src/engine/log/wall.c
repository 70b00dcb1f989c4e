/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/wall.h"

#include <string.h>

#include "base/bytes.h"

/* Wall time runs `wall` while store time runs `store`. */
static const struct { uint32_t wall, store; } ratios[] = {{1, 1}, {1, 1}, {8, 9}, {8, 7}};

void wall_span_encode(const struct wall_span *s, uint8_t *bytes) {
    put_le64(bytes, s->since_ns);
    put_le64(bytes + 8, s->wall_ns);
    put_le64(bytes + 16, s->ended_ns);
    put_le32(bytes + 24, s->rate);
    put_le32(bytes + 28, 0);
}

int wall_span_decode(const uint8_t *bytes, struct wall_span *s) {
    *s = (struct wall_span){.since_ns = get_le64(bytes),
                            .wall_ns = get_le64(bytes + 8),
                            .ended_ns = get_le64(bytes + 16),
                            .rate = get_le32(bytes + 24)};
    /* The bounds keep the arithmetic of this file within 64 bits. */
    if (s->rate >= WALL_EVEN && s->rate <= WALL_FASTER && s->ended_ns <= s->since_ns &&
        s->since_ns < UINT64_MAX / 16 * 15 && s->wall_ns < UINT64_MAX / 16 * 15)
        return 1;
    *s = (struct wall_span){0};
    return 0;
}

/* ns * a / b without overflow. */
static uint64_t scale(uint64_t ns, uint32_t a, uint32_t b) {
    return ns / b * a + ns % b * a / b;
}

uint64_t wall_span_at(const struct wall_span *s, uint64_t store_ns) {
    if (store_ns < s->since_ns)
        return s->wall_ns - min_u64(s->wall_ns, s->since_ns - store_ns);
    return s->wall_ns + scale(store_ns - s->since_ns, ratios[s->rate].wall, ratios[s->rate].store);
}

static uint64_t distance(uint64_t a, uint64_t b) {
    return a > b ? a - b : b - a;
}

/* The span whose begin is the smallest step; not the first, nor the last. */
static uint32_t smallest_step(const struct wall_span *spans, uint32_t count) {
    uint32_t best = 1;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 1; i + 1 < count; i++) {
        uint64_t step = distance(spans[i].wall_ns, wall_span_at(&spans[i - 1], spans[i].since_ns));
        uint64_t over =
            distance(wall_span_at(&spans[i], spans[i + 1].ended_ns),
                     wall_span_at(&spans[i - 1], spans[i + 1].ended_ns)); /* at its end */
        step = max_u64(step, over);
        if (step < least) {
            least = step;
            best = i;
        }
    }
    return best;
}

uint32_t wall_add(struct wall_span *spans, uint32_t count, uint32_t max,
                  const struct wall_span *s) {
    uint32_t at = count;
    while (at > 0 && spans[at - 1].since_ns >= s->since_ns)
        at--;
    if (at < count && spans[at].since_ns == s->since_ns)
        return count;
    if (count == max) {
        uint32_t gone = smallest_step(spans, count);
        memmove(&spans[gone], &spans[gone + 1], (count - gone - 1) * sizeof *spans);
        count--;
        at -= at > gone;
    }
    memmove(&spans[at + 1], &spans[at], (count - at) * sizeof *spans);
    spans[at] = *s;
    return count + 1;
}

/* The last span that has begun by then, or the first. */
static uint32_t span_of(const struct wall_span *spans, uint32_t count, uint64_t store_ns) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (spans[middle].since_ns <= store_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

uint64_t wall_at(const struct wall_span *spans, uint32_t count, uint64_t store_ns) {
    return count > 0 ? wall_span_at(&spans[span_of(spans, count, store_ns)], store_ns) : 0;
}

/* Readings rise; of too many, the oldest is forgotten. */
static uint32_t add_reading(uint64_t readings[WALL_READINGS_MAX], uint32_t n, uint64_t store_ns) {
    if (n > 0 && store_ns - readings[n - 1] < WALL_APART_NS)
        n--;
    if (n == WALL_READINGS_MAX)
        memmove(&readings[0], &readings[1], --n * sizeof readings[0]);
    readings[n] = store_ns;
    return n + 1;
}

uint32_t wall_readings(const struct wall_span *spans, uint32_t count, uint64_t now_ns,
                       uint64_t wall_ns, uint64_t readings[WALL_READINGS_MAX]) {
    uint32_t n = 0;
    uint64_t passed_over = 0;
    int was_passed_over = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct wall_span *s = &spans[i];
        int last = i + 1 == count;
        uint64_t end = last ? max_u64(now_ns, s->since_ns) : max_u64(s[1].ended_ns, s->since_ns);
        uint64_t end_wall = wall_span_at(s, end);
        if (wall_ns >= s->wall_ns && wall_ns < end_wall + (last ? WALL_TOLERANCE_NS + 1 : 0)) {
            uint64_t passed =
                scale(wall_ns - s->wall_ns, ratios[s->rate].store, ratios[s->rate].wall);
            n = add_reading(readings, n, min_u64(s->since_ns + passed, end));
        } else if (!last && wall_ns >= end_wall && wall_ns < s[1].wall_ns) {
            passed_over = s[1].since_ns - 1;
            was_passed_over = 1;
        } else if (i == 0 && wall_ns < s->wall_ns) {
            passed_over = s->since_ns - min_u64(s->since_ns, s->wall_ns - wall_ns);
            was_passed_over = 1;
        }
    }
    if (n == 0 && was_passed_over)
        n = add_reading(readings, n, passed_over);
    return n;
}

uint32_t wall_steps(const struct wall_span *spans, uint32_t count, uint64_t least_ns,
                    struct wall_step *steps, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = count; i-- > 1 && n < max;) {
        const struct wall_span *s = &spans[i];
        uint64_t before = wall_span_at(&s[-1], s->ended_ns);
        int is_back = before > s->wall_ns && before - s->wall_ns > least_ns;
        int is_forward =
            s->ended_ns == s->since_ns && s->wall_ns > before && s->wall_ns - before > least_ns;
        if (is_back || is_forward)
            steps[n++] = (struct wall_step){s->since_ns, before, s->wall_ns};
    }
    for (uint32_t i = 0; i < n / 2; i++) {
        struct wall_step step = steps[i];
        steps[i] = steps[n - 1 - i];
        steps[n - 1 - i] = step;
    }
    return n;
}
