/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/pauses.h"

static void steps(void **state) {
    static const struct {
        uint64_t ns;
        uint32_t step;
    } cases[] = {
        {0, 0},
        {PAUSE_STEP_NS - 1, 0},
        {PAUSE_STEP_NS, 1},
        {2 * PAUSE_STEP_NS - 1, 1},
        {2 * PAUSE_STEP_NS, 2},
        {(PAUSE_STEP_NS << 18) - 1, 18},
        {PAUSE_STEP_NS << 18, 19},
        {UINT64_MAX, 19},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(pauses_step(cases[i].ns), cases[i].step);
    assert_int_equal(pauses_step_end(PAUSE_STEPS - 1), 0);
}

static void what_is_noted(void **state) {
    struct server s;
    memset(&s, 0, sizeof s);
    assert_int_equal(pauses_quantile(s.planned, 500), 0);
    for (uint32_t i = 1; i <= 100; i++)
        pauses_note(&s, &(struct pause){.pause_ns = i <= 98 ? 1 : i * PAUSE_STEP_NS,
                                        .generation = i,
                                        .closed = i % 2,
                                        .is_uninvited = i > 98});
    assert_int_equal(s.reloads, 98);
    assert_int_equal(s.crashes, 2);
    assert_int_equal(s.planned[0], 98);
    assert_int_equal(s.uninvited[7], 2);
    assert_int_equal(s.conns_closed, 50);
    assert_int_equal(s.last_pause_ns, 100 * PAUSE_STEP_NS);
    assert_int_equal(s.longest_pause_ns, 100 * PAUSE_STEP_NS);
    assert_int_equal(s.pauses[99 % SERVER_PAUSES].generation, 100);
    assert_int_equal(s.pauses[68 % SERVER_PAUSES].generation, 69);
    pauses_note(&s, &(struct pause){.pause_ns = 3});
    assert_int_equal(s.longest_pause_ns, 100 * PAUSE_STEP_NS);
}

static void quantiles(void **state) {
    uint32_t n[PAUSE_STEPS] = {0};
    n[3] = 50;
    n[5] = 49;
    n[19] = 1;
    assert_int_equal(pauses_quantile(n, 500), PAUSE_STEP_NS << 3);
    assert_int_equal(pauses_quantile(n, 501), PAUSE_STEP_NS << 5);
    assert_int_equal(pauses_quantile(n, 990), PAUSE_STEP_NS << 5);
    assert_int_equal(pauses_quantile(n, 991), UINT64_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(what_is_noted),
        cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests_name("pauses", tests, NULL, NULL);
}
