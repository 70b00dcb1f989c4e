/* SPDX-License-Identifier: Apache-2.0 */
/* When an engine hangs, and when it only seems to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/units.h"
#include "custody/watch.h"

#define ENGINE 3u
#define HANG_MS 1000u
#define NOBODY 0 /* there is no such process, so nobody holds it */

/* The keeper looks `looks` times, every step_ms; how many looks it took until it said so, or 0. */
static int looks_until_hung(struct watch *w, struct custody *c, int looks, uint64_t step_ms,
                            int beats) {
    static uint64_t now = NS_PER_S;
    for (int i = 1; i <= looks; i++) {
        now += step_ms * NS_PER_MS;
        if (beats)
            atomic_fetch_add(&c->beat, 2);
        if (watch_look(w, c, ENGINE, NOBODY, now))
            return i;
    }
    return 0;
}

static void verdicts(void **state) {
    static const struct {
        const char *name;
        uint32_t state, serving, attaching, hang_ms;
        uint64_t beat;
        int beats;
        uint64_t step_ms;
        int looks, hung_at;
    } rows[] = {
        /* 1 */ {"in a turn that does not end", CUSTODY_SERVING, 3, 3, HANG_MS, 7, 0, 100, 50, 12},
        /* 2 */ {"waits", CUSTODY_SERVING, 3, 3, HANG_MS, 8, 0, 100, 500, 0},
        /* 3 */ {"turns", CUSTODY_SERVING, 3, 3, HANG_MS, 7, 1, 100, 500, 0},
        /* 4 */ {"is not watched", CUSTODY_SERVING, 3, 3, 0, 7, 0, 100, 500, 0},
        /* 5 */ {"stops in order", CUSTODY_STOPPED, 3, 3, HANG_MS, 7, 0, 100, 500, 0},
        /* 6 */ {"prepares itself", CUSTODY_SERVING, 2, 2, HANG_MS, 7, 0, 100, 500, 0},
        /* 7 */ {"attaches for long", CUSTODY_SERVING, 2, 3, HANG_MS, 7, 0, 100, 30, 0},
        /* 8 */ {"attaches for ever", CUSTODY_SERVING, 2, 3, HANG_MS, 7, 0, 100, 100, 32},
        /* 9 */ {"was left behind", CUSTODY_SERVING, 4, 4, HANG_MS, 7, 0, 100, 500, 0},
        /* 10: each look counts as two periods of 126 ms, however late it comes */
        {"the keeper slept", CUSTODY_SERVING, 3, 3, HANG_MS, 7, 0, 60000, 4, 0},
        /* 11 */
        {"the keeper slept and is back", CUSTODY_SERVING, 3, 3, HANG_MS, 7, 0, 60000, 9, 5},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct custody c = {.hang_ms = rows[i].hang_ms, .beat = rows[i].beat};
        struct watch w = {0};
        atomic_store(&c.state, rows[i].state);
        atomic_store(&c.serving, rows[i].serving);
        atomic_store(&c.attaching, rows[i].attaching);
        int at = looks_until_hung(&w, &c, rows[i].looks, rows[i].step_ms, rows[i].beats);
        if (at != rows[i].hung_at)
            fail_msg("row %zu, %s: %d, not %d", i + 1, rows[i].name, at, rows[i].hung_at);
        if (at)
            assert_int_equal(looks_until_hung(&w, &c, 100, rows[i].step_ms, 0), 0); /* said once */
    }
}

static void who_is_held(void **state) {
    static const struct {
        const char *status;
        int held;
    } rows[] = {
        /* 1 */ {"Name:\tperdured\nState:\tR (running)\nTracerPid:\t0\n", 0},
        /* 2 */ {"Name:\tperdured\nState:\tT (stopped)\nTracerPid:\t0\n", 1},
        /* 3 */ {"Name:\tperdured\nState:\tt (tracing stop)\nTracerPid:\t12\n", 1},
        /* 4 */ {"Name:\tperdured\nState:\tS (sleeping)\nTracerPid:\t12\n", 1},
        /* 5 */ {"Name:\tperdured\nState:\tD (disk sleep)\nTracerPid:\t0\n", 0},
        /* 6 */ {"Name:\tT\nState:\tS (sleeping)\n", 0},
        /* 7 */ {"", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (watch_is_held(rows[i].status) != rows[i].held)
            fail_msg("row %zu", i + 1);
}

static void how_often(void **state) {
    struct custody c = {.hang_ms = HANG_MS};
    atomic_store(&c.serving, ENGINE);
    assert_int_equal(watch_period_ms(&c, ENGINE), -1);
    atomic_store(&c.state, CUSTODY_SERVING);
    assert_int_equal(watch_period_ms(&c, ENGINE), 126);
    atomic_store(&c.hang_ms, 3600000);
    assert_int_equal(watch_period_ms(&c, ENGINE), 1000);
    atomic_store(&c.hang_ms, 0);
    assert_int_equal(watch_period_ms(&c, ENGINE), -1);
    assert_int_equal(watch_period_ms(&c, ENGINE + 1), 1000); /* it may begin to attach */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts),
        cmocka_unit_test(who_is_held),
        cmocka_unit_test(how_often),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
