/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wall time, store time and sequence numbers, while the wall clock jumps. The tests take a reading of
 * the clock ten times a second and keep what the log had recorded then; afterwards every moment that
 * the clock showed is asked for and compared with these readings, over every kind of death.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/log/rig_test.h"
#include "engine/log/wall.h"

#define STEP_NS (100 * NS_PER_MS)
#define SECOND ((int64_t)NS_PER_S)
#define READINGS_MAX 20000

struct reading {
    uint64_t wall_ns, sequence;
    int jump;         /* the clock was set after it */
    uint64_t knew_ns; /* then: for how long the log knew of it */
};

struct history {
    struct rig *r;
    uint32_t count;
    struct reading reading[READINGS_MAX];
};

static struct history *begin(uint64_t seed) {
    struct history *h = calloc(1, sizeof *h);
    h->r = rig_new(seed);
    assert_int_equal(rig_start(h->r, NULL), 0);
    return h;
}

static void end(struct history *h) {
    rig_free(h->r);
    free(h);
}

static uint64_t newest(const struct history *h) {
    return rig_sequence(h->r, h->r->model_count - 1);
}

/* Ten turns a second, and a write in each second. */
static void run(struct history *h, uint32_t seconds) {
    for (uint32_t i = 0; i < 10 * seconds; i++) {
        sim_advance(h->r->sim, STEP_NS);
        rig_turn(h->r, RIG_NOWHERE);
        if (i % 10 == 3)
            rig_append(h->r, PLACE_DATA, i, 1, 0); /* just after a start, not yet */
        assert_true(h->count < READINGS_MAX);
        if (h->r->model_count > 0)
            h->reading[h->count++] = (struct reading){log_wall_ns(h->r->l), newest(h), 0, 0};
    }
}

/* A running log sees it a step later; a new one knows nothing beyond the last record. */
static void jump(struct history *h, int64_t seconds) {
    h->reading[h->count - 1].jump = 1;
    h->reading[h->count - 1].knew_ns = h->r->alive || h->r->memory ? STEP_NS : 0;
    sim_wall_jump(h->r->sim, seconds * SECOND);
}

/* What the readings say: the records that were the newest when the clock showed it; if it never
 * did, the newest before it was set forward over it. Returns how many. */
static uint32_t expected(const struct history *h, uint64_t wall_ns, uint64_t sequences[8]) {
    uint32_t n = 0;
    uint64_t passed_over = 0;
    for (uint32_t i = 0; i + 1 < h->count; i++) {
        const struct reading *a = &h->reading[i];
        uint64_t until = a->jump ? a->wall_ns + a->knew_ns : a[1].wall_ns;
        if (wall_ns >= a->wall_ns && wall_ns < until) {
            if (n == 0 || sequences[n - 1] != a->sequence) {
                assert_true(n < 8);
                sequences[n++] = a->sequence;
            }
        } else if (a->jump && wall_ns >= until && wall_ns < a[1].wall_ns) {
            passed_over = a->sequence;
        }
    }
    if (n == 0 && passed_over != 0)
        sequences[n++] = passed_over;
    return n;
}

static void check_wall_time(struct history *h, uint64_t wall_ns) {
    struct log_moment m = {0};
    uint64_t want[8];
    uint32_t n = expected(h, wall_ns, want);
    int err = rig_find_moment(h->r, LOG_AT_WALL_TIME, wall_ns, &m);
    assert_true(n > 0);
    assert_int_equal(err, n == 1 ? 0 : ERR_AMBIGUOUS);
    assert_int_equal(m.sequence, want[0]);
    assert_int_equal(m.other, n == 1 ? 0 : want[n - 1]);
}

/* Every write has the wall time that the clock showed, and what the clock showed finds its writes. */
static void check(struct history *h) {
    struct rig *r = h->r;
    rig_settle(r);
    for (uint32_t i = 0; i < r->model_count; i += 3) {
        struct log_moment m = {0};
        assert_int_equal(rig_find_moment(r, LOG_AT_SEQUENCE, r->model[i].sequence, &m), 0);
        assert_int_equal(m.sequence, r->model[i].sequence);
        assert_true(m.wall_ns <= r->model[i].wall_ns + 2 * WALL_TOLERANCE_NS &&
                    r->model[i].wall_ns <= m.wall_ns + 2 * WALL_TOLERANCE_NS);
    }
    for (uint32_t i = 0; i + 1 < h->count; i += 7)
        if (!h->reading[i].jump)
            check_wall_time(h, h->reading[i].wall_ns + STEP_NS / 2);
}

/* The jumps that are told, by how many seconds, in this order; 0 ends it. */
static void expect_jumps(const struct history *h, const int64_t *by_s) {
    struct log_clock_jump jumps[8];
    uint32_t n = log_clock_jumps(h->r->l, jumps, 8);
    for (uint32_t i = 0; i < n; i++) {
        int64_t by_ns = (int64_t)(jumps[i].after_ns - jumps[i].before_ns);
        assert_in_range(by_ns / SECOND + 100000, by_s[i] - 1 + 100000, by_s[i] + 1 + 100000);
        assert_int_not_equal(by_s[i], 0);
    }
    assert_int_equal(by_s[n], 0);
}

enum life { SAME_LIFE, KILLED, QUEUE_LOST, STOPPED, POWER_CUT, SALVAGED, LIVES };

/* A start reads the clock, too. */
static void start(struct history *h, void *dead) {
    assert_int_equal(rig_start(h->r, dead), 0);
    h->reading[h->count++] = (struct reading){log_wall_ns(h->r->l), newest(h), 0, 0};
}

/* What was recorded is kept in each of them. jump_s: of the clock, meanwhile. */
static void live_on(struct history *h, enum life life, int64_t jump_s) {
    struct rig *r = h->r;
    void *dead = NULL;
    if (life != SALVAGED)
        rig_settle(r);
    if (life == STOPPED)
        assert_int_equal(log_stop(r->l), 0);
    if (life == KILLED || life == QUEUE_LOST)
        rig_kill(r);
    else if (life == STOPPED)
        rig_power_down(r);
    else if (life == POWER_CUT)
        rig_power_cut(r);
    else if (life == SALVAGED)
        dead = rig_die_with_arena(r);
    if (jump_s != 0)
        jump(h, jump_s);
    if (life == KILLED || life == QUEUE_LOST)
        rig_attach(r, life == QUEUE_LOST);
    else if (life != SAME_LIFE)
        start(h, dead);
    rig_unmap(dead);
}

static void a_clock_set_forward(void **state) {
    for (int life = SAME_LIFE; life < LIVES; life++) {
        struct history *h = begin(100 + (uint64_t)life);
        run(h, 20);
        jump(h, 3600);
        run(h, 1);
        assert_string_equal(h->r->alert, "clock_jumped");
        run(h, 19);
        check_wall_time(h, h->reading[0].wall_ns + 1800 * NS_PER_S); /* it was never shown */
        check(h);
        live_on(h, (enum life)life, 0);
        run(h, 20);
        check(h);
        expect_jumps(h, (const int64_t[]){3600, 0});
        end(h);
    }
}

static void a_clock_set_back(void **state) {
    for (int life = SAME_LIFE; life < LIVES; life++) {
        struct history *h = begin(200 + (uint64_t)life);
        struct log_moment m = {0};
        run(h, 90);
        uint64_t twice = log_wall_ns(h->r->l) - 30 * NS_PER_S;
        jump(h, -75);
        run(h, 10);
        /* What was shown before is no future. */
        check_wall_time(h, h->reading[800].wall_ns + STEP_NS / 2);
        run(h, 90);
        assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, twice, &m), ERR_AMBIGUOUS);
        check(h);
        live_on(h, (enum life)life, 0);
        run(h, 20);
        check(h);
        assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, twice, &m), ERR_AMBIGUOUS);
        expect_jumps(h, (const int64_t[]){-75, 0});
        end(h);
    }
}

static void a_clock_set_by_little_is_slewed(void **state) {
    static const int64_t by_s[] = {5, -5, 20, -20};
    struct history *h = begin(300);
    for (int i = 0; i < 4; i++) {
        run(h, 15);
        jump(h, by_s[i]);
        run(h, 20); /* on the way */
        check(h);
        run(h, 170);
        assert_int_equal(log_now_ns(h->r->l), log_wall_ns(h->r->l));
    }
    check(h);
    live_on(h, POWER_CUT, 0);
    run(h, 5);
    check(h);
    expect_jumps(h, (const int64_t[]){0});
    end(h);
}

static void a_clock_set_while_nobody_looked(void **state) {
    for (int life = KILLED; life < LIVES; life++) {
        static const int64_t by_s[] = {-100, 3600};
        for (int i = 0; i < 2; i++) {
            struct history *h = begin(400 + 2 * (uint64_t)life + (uint64_t)i);
            run(h, 120);
            assert_int_equal(rig_append(h->r, PLACE_DATA, 7, 1, 0), 0);
            h->reading[h->count - 1].sequence = newest(h);
            rig_turn(h->r, RIG_NOWHERE);
            live_on(h, (enum life)life, by_s[i]);
            run(h, 150);
            check(h);
            live_on(h, POWER_CUT, 0);
            run(h, 10);
            check(h);
            /* How long nobody looked is known after a death alone. */
            if (life == KILLED || life == QUEUE_LOST)
                expect_jumps(h, (const int64_t[]){by_s[i], 0});
            end(h);
        }
    }
}

static void a_jump_that_is_confirmed_or_taken_back(void **state) {
    struct history *h = begin(500);
    run(h, 20);
    jump(h, 86400);
    run(h, 20);
    log_clock_confirm(h->r->l);
    run(h, 20);
    assert_int_equal(log_now_ns(h->r->l), log_wall_ns(h->r->l));
    check(h);
    jump(h, 3600);
    run(h, 20);
    jump(h, -3600);
    run(h, 20);
    assert_false(log_clock_suspect(h->r->l));
    check(h);
    for (int life = KILLED; life < LIVES; life++) {
        live_on(h, (enum life)life, 0);
        run(h, 10);
        check(h);
        expect_jumps(h, (const int64_t[]){86400, 3600, -3600, 0});
    }
    end(h);
}

/* The footers tell it as the frames did. */
static void jumps_in_sealed_segments(void **state) {
    struct history *h = begin(600);
    for (int i = 0; i < 6; i++) {
        run(h, 5);
        jump(h, i % 2 ? -200 : 100);
        for (int k = 0; k < 10; k++) {
            run(h, 1);
            assert_int_equal(rig_append(h->r, PLACE_DATA, 1, 200, 0), 0);
            h->reading[h->count - 1].sequence = newest(h);
        }
    }
    check(h);
    for (int life = STOPPED; life <= POWER_CUT; life++) {
        live_on(h, (enum life)life, 0);
        assert_true(h->r->report.segments_sealed >= 6);
        run(h, 5);
        check(h);
        expect_jumps(h, (const int64_t[]){100, -200, 100, -200, 100, -200, 0});
    }
    end(h);
}

/* Every write that was recorded, but not in a reading. */
static void check_writes(struct history *h) {
    for (uint32_t i = 0; i < h->r->model_count; i++) {
        struct log_moment m = {0};
        assert_int_equal(rig_find_moment(h->r, LOG_AT_SEQUENCE, h->r->model[i].sequence, &m), 0);
        assert_int_equal(m.sequence, h->r->model[i].sequence);
        assert_int_equal(m.wall_ns / NS_PER_S, h->r->model[i].wall_ns / NS_PER_S);
    }
}

/* The clock is set while a frame is open, and no other frame follows. */
static void a_jump_closes_the_open_frame(void **state) {
    for (int life = QUEUE_LOST; life < LIVES; life++) {
        struct history *h = begin(900 + (uint64_t)life);
        run(h, 3);
        rig_settle(h->r);
        rig_turn(h->r, RIG_NOWHERE);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(rig_append(h->r, PLACE_DATA, 7, 1, 0), 0);
            rig_turn(h->r, RIG_NOWHERE);
            sim_wall_jump(h->r->sim, i % 2 ? 400 * SECOND : -150 * SECOND);
            sim_advance(h->r->sim, NS_PER_US);
            rig_turn(h->r, RIG_NOWHERE);
        }
        live_on(h, (enum life)life, 0);
        assert_true(life != SALVAGED || h->r->report.salvaged_records > 0);
        rig_turn(h->r, RIG_NOWHERE);
        check_writes(h);
        live_on(h, POWER_CUT, 0);
        check_writes(h);
        end(h);
    }
}

static void the_alert_is_told_again_after_an_attach(void **state) {
    struct history *h = begin(700);
    run(h, 3);
    jump(h, 100);
    run(h, 3);
    h->r->alert[0] = 0;
    live_on(h, KILLED, 0);
    assert_string_equal(h->r->alert, "clock_jumped");
    jump(h, -100);
    run(h, 3);
    assert_false(log_clock_suspect(h->r->l));
    h->r->alert[0] = 0;
    live_on(h, KILLED, 0);
    assert_string_equal(h->r->alert, "");
    end(h);
}

static void moments_outside_of_history(void **state) {
    struct history *h = begin(800);
    struct log_moment m = {0};
    run(h, 10);
    uint64_t first = h->r->model[0].wall_ns, now = log_wall_ns(h->r->l);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, first - NS_PER_S, &m), ERR_RANGE);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, 1, &m), ERR_RANGE);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, 0, &m), ERR_RANGE);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, now, &m), 0);
    assert_int_equal(m.sequence, log_recorded(h->r->l));
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, now + NS_PER_S, &m), ERR_NOTFOUND);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, UINT64_MAX, &m), ERR_NOTFOUND);
    sim_advance(h->r->sim, NS_PER_S); /* no turn has seen this second */
    assert_int_equal(rig_find_moment(h->r, LOG_AT_WALL_TIME, now + NS_PER_S, &m), 0);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_SEQUENCE, h->r->model[0].sequence - 1, &m),
                     ERR_RANGE);
    assert_int_equal(rig_find_moment(h->r, LOG_AT_SEQUENCE, UINT64_MAX, &m), 0);
    assert_int_equal(m.sequence, log_recorded(h->r->l));
    end(h);
}

/* The list by itself. -------------------------------------------------------------------------- */

static void a_full_list_forgets_the_smallest_steps(void **state) {
    struct wall_span spans[8];
    uint32_t n = 0;
    /* Every fourth step is an hour, the others are small. */
    uint64_t wall = 0;
    for (uint64_t i = 1; i <= 24; i++) {
        wall += 100 * NS_PER_S + (i % 4 == 0 ? 3600 * NS_PER_S : i * NS_PER_MS);
        n = wall_add(
            spans, n, 8,
            &(struct wall_span){i * 100 * NS_PER_S, wall, i * 100 * NS_PER_S, WALL_EVEN, 0});
    }
    assert_int_equal(n, 8);
    for (uint64_t hour = 1; hour <= 6; hour++) {
        uint64_t at = (hour * 400 + 50) * NS_PER_S;
        uint64_t said = wall_at(spans, n, at) - at;
        assert_true(said >= hour * 3600 * NS_PER_S && said < hour * 3600 * NS_PER_S + NS_PER_S);
    }
    assert_int_equal(wall_at(spans, n, 2400 * NS_PER_S), wall); /* the newest is kept */
}

static void spans_come_in_any_order_and_once(void **state) {
    struct wall_span spans[8];
    uint32_t n = 0;
    static const uint64_t order[] = {30, 10, 20, 10, 30, 20, 40};
    for (int i = 0; i < 7; i++)
        n = wall_add(spans, n, 8, &(struct wall_span){order[i], order[i] * 2, order[i], 1, 0});
    assert_int_equal(n, 4);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(spans[i].since_ns, 10 * (i + 1));
}

static void of_many_readings_the_newest_are_kept(void **state) {
    struct wall_span spans[8];
    uint32_t n = 0;
    uint64_t got[WALL_READINGS_MAX];
    for (uint64_t i = 1; i <= 7; i++) /* the same hundred seconds again and again */
        n = wall_add(spans, n, 8,
                     &(struct wall_span){i * 100 * NS_PER_S, NS_PER_S, i * 100 * NS_PER_S, 1, 0});
    assert_int_equal(wall_readings(spans, n, 790 * NS_PER_S, 51 * NS_PER_S, got),
                     WALL_READINGS_MAX);
    for (uint32_t i = 0; i < WALL_READINGS_MAX; i++)
        assert_int_equal(got[i], (450 + 100 * i) * NS_PER_S);
}

static void impossible_spans_are_not_read(void **state) {
    static const struct wall_span good = {50, 60, 40, WALL_FASTER, 0};
    static const struct wall_span bad[] = {{50, 60, 40, 0, 0},
                                           {50, 60, 40, 4, 0},
                                           {50, 60, 51, 1, 0},
                                           {UINT64_MAX, 60, 40, 1, 0},
                                           {50, UINT64_MAX, 40, 1, 0}};
    uint8_t bytes[WALL_SPAN_BYTES];
    struct wall_span s;
    wall_span_encode(&good, bytes);
    assert_int_equal(wall_span_decode(bytes, &s), 1);
    assert_memory_equal(&s, &good, sizeof s);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        wall_span_encode(&bad[i], bytes);
        assert_int_equal(wall_span_decode(bytes, &s), 0);
        assert_int_equal(s.rate, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_set_forward),
        cmocka_unit_test(a_clock_set_back),
        cmocka_unit_test(a_clock_set_by_little_is_slewed),
        cmocka_unit_test(a_clock_set_while_nobody_looked),
        cmocka_unit_test(a_jump_that_is_confirmed_or_taken_back),
        cmocka_unit_test(jumps_in_sealed_segments),
        cmocka_unit_test(a_jump_closes_the_open_frame),
        cmocka_unit_test(the_alert_is_told_again_after_an_attach),
        cmocka_unit_test(moments_outside_of_history),
        cmocka_unit_test(a_full_list_forgets_the_smallest_steps),
        cmocka_unit_test(spans_come_in_any_order_and_once),
        cmocka_unit_test(of_many_readings_the_newest_are_kept),
        cmocka_unit_test(impossible_spans_are_not_read),
    };
    return cmocka_run_group_tests_name("wall", tests, NULL, NULL);
}
