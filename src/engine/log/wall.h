/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the wall clock showed at a store time, and when in store time it showed something.
 *
 * Store time never goes back; the wall clock is set. So what it showed is a list of *spans*, in each
 * of which it runs evenly against store time:
 *
 *   wall ^            /            1  store time and wall time are the same
 *        |      /   3/             2  the wall clock was set back: 9:00 to 9:10 comes twice
 *        |   1 /  /2/ <- slewing   3  set forward by little: store time catches up, and runs faster
 *        |    /  /
 *        +--------------> store
 *
 *  1. Spans rise in since_ns. A span ends where the next one says that it ended (ended_ns), which lies
 *     before the next one's begin if store time skipped something, as over a night without power.
 *  2. A span predicts the wall time at every clock reading within it to WALL_TOLERANCE_NS; where it
 *     does not, the next one begins.
 *  3. The list is bounded. A full one forgets the span whose begin is the smallest step.
 *
 * Each frame carries the span that its first record lies in, each footer those of its frames
 * (docs/formats.md); the arena holds all of them.
 */
#ifndef ENGINE_LOG_WALL_H
#define ENGINE_LOG_WALL_H

#include <stdint.h>

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "base/units.h"

#define WALL_SPANS_MAX 256u
#define WALL_SPAN_BYTES 32u /* in a frame header or a footer */
#define WALL_TOLERANCE_NS NS_PER_MS
#define WALL_READINGS_MAX 4u
#define WALL_APART_NS NS_PER_S /* readings that are closer in store time count as the later one */

/* How the wall clock runs against store time, which is slewed by an eighth (clock.c). */
enum wall_rate {
    WALL_EVEN = 1,
    WALL_SLOWER = 2, /* store time catches up: 8 to 9 */
    WALL_FASTER = 3, /* store time waits: 8 to 7 */
};

struct wall_span {
    uint64_t since_ns; /* store time */
    uint64_t wall_ns;  /* wall time then */
    uint64_t ended_ns; /* store time at which the former span ended */
    uint32_t rate;
    uint32_t reserved;
};

/* The one slot of TABLE_WALL. */
#define WALL_FIELDS(F, A)                                                                          \
    F(uint32_t, count)                                                                             \
    F(uint32_t, reserved)                                                                          \
    A(struct wall_span, span, WALL_SPANS_MAX)
HANDLE(wall)
SLOT_STRUCT(wall, WALL_FIELDS)
SLOT_TABLE(wall, TABLE_WALL)

void wall_span_encode(const struct wall_span *s, uint8_t *bytes);
/* 1: what a frame at that store time can carry; 0: not, and s is zero. */
int wall_span_decode(const uint8_t *bytes, struct wall_span *s);

/* The wall time that a span says. */
uint64_t wall_span_at(const struct wall_span *s, uint64_t store_ns);

/* Puts a span in its place, if none with its begin is there; returns the new count. A full list
 * (max) forgets one, but never the newest. */
uint32_t wall_add(struct wall_span *spans, uint32_t count, uint32_t max, const struct wall_span *s);

/* The clock was set: it showed before_ns, and then after_ns. */
struct wall_step {
    uint64_t store_ns, before_ns, after_ns;
};

/* The steps by more than least_ns, rising in store time; of more than `max`, the newest. What was set forward
 * while nobody ran cannot be told from time that passed. */
uint32_t wall_steps(const struct wall_span *spans, uint32_t count, uint64_t least_ns,
                    struct wall_step *steps, uint32_t max);

/* What the clock showed at that store time; 0: the list is empty. */
uint64_t wall_at(const struct wall_span *spans, uint32_t count, uint64_t store_ns);

/*
 * The store times, rising, at which the newest moment not after wall_ns is to be looked for: each
 * time the clock showed it; or, if it was set forward over it, the last moment before that. Of more
 * than WALL_READINGS_MAX, the newest. 0: it has not been shown yet.
 */
uint32_t wall_readings(const struct wall_span *spans, uint32_t count, uint64_t now_ns,
                       uint64_t wall_ns, uint64_t readings[WALL_READINGS_MAX]);

#endif
