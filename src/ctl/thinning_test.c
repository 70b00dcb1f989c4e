/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "ctl/thinning.h"

static void texts(void **state) {
    static const struct {
        const char *text;
        int err;
        const char *again; /* or the fault */
    } cases[] = {
        {"1d:1m,7d:1h", OK, "1d:1m,7d:1h"},
        {"never", OK, ""},
        {"90m:5m", OK, "90m:5m"},
        {"36h:1h,3w:1d,52w:7d", OK, "36h:1h,21d:1d,364d:7d"},
        {"61s:1m,1h:15m,2h:6h,3h:1d", OK, "61s:1m,1h:15m,2h:6h,3h:1d"},
        {"24h:60s", OK, "1d:1m"},
        {"", ERR_INVAL, "each level is AGE:STEP, as in 1d:1m,7d:1h"},
        {"1d", ERR_INVAL, "each level is AGE:STEP, as in 1d:1m,7d:1h"},
        {"1d:1m,", ERR_INVAL, "each level is AGE:STEP, as in 1d:1m,7d:1h"},
        {"1d:2m", ERR_INVAL, "a step is one of 1m, 5m, 15m, 1h, 6h, 1d, 7d"},
        {"1d:1s", ERR_INVAL, "a step is one of 1m, 5m, 15m, 1h, 6h, 1d, 7d"},
        {"59s:1m", ERR_RANGE, "an age lies between a minute and 68 years, in whole seconds"},
        {"60.5s:1m", ERR_RANGE, "an age lies between a minute and 68 years, in whole seconds"},
        {"5000w:1m", ERR_RANGE, "an age lies between a minute and 68 years, in whole seconds"},
        {"1d:1h,7d:1h", ERR_INVAL,
         "each age and each step is longer than that of the level before"},
        {"1d:1h,7d:1m", ERR_INVAL,
         "each age and each step is longer than that of the level before"},
        {"7d:1m,7d:1h", ERR_INVAL,
         "each age and each step is longer than that of the level before"},
        {"1h:1m,2h:5m,3h:15m,4h:1h,5h:6h", ERR_TOOBIG, "there are at most 4 levels"},
        {"always", ERR_INVAL, "each level is AGE:STEP, as in 1d:1m,7d:1h"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t levels[THINNING_LEVELS];
        char again[THINNING_TEXT_BYTES];
        struct fault f = {0};
        assert_int_equal(thinning_parse(cases[i].text, strlen(cases[i].text), levels, &f),
                         cases[i].err);
        if (cases[i].err) {
            assert_string_equal(f.text, cases[i].again);
            continue;
        }
        assert_true(thinning_is_valid(levels));
        thinning_format(levels, again);
        assert_string_equal(again, cases[i].again);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts)};
    return cmocka_run_group_tests_name("ctl_thinning", tests, NULL, NULL);
}
