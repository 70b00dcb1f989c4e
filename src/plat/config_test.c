/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "plat/config.h"

/* A part that writes down what it is told. */
struct part {
    char told[64];
};

static int digits_only(void *arg, const char *value) {
    return strspn(value, "0123456789") == strlen(value) && *value ? 0 : ERR_INVAL;
}

static int never(void *arg, const char *value) {
    return ERR_REFUSED;
}

static void tell(void *arg, const char *what, const char *value) {
    struct part *p = arg;
    size_t n = strlen(p->told);
    snprintf(p->told + n, sizeof p->told - n, "%s=%s ", what, value);
}

static void size_changed(void *arg, const char *value) {
    tell(arg, "size", value);
}
static void age_changed(void *arg, const char *value) {
    tell(arg, "age", value);
}

static const struct config_key first_keys[] = {{"size", digits_only, size_changed}};
static const struct config_key second_keys[] = {{"age", digits_only, age_changed},
                                                {"store", never, age_changed}};

/* Changes and what comes of them. */
static const struct {
    struct config_change changes[3];
    uint32_t count;
    int result;
    uint32_t wrong;
    const char *first, *second;
} rows[] = {
    {{{"", ""}}, 0, 0, 0, "", ""},
    {{{"size", "1"}}, 1, 0, 0, "size=1 ", ""},
    {{{"age", "2"}, {"size", "3"}, {"age", "4"}}, 3, 0, 0, "size=3 ", "age=2 age=4 "},
    {{{"size", "1"}, {"age", "x"}}, 2, ERR_INVAL, 1, "", ""},
    {{{"size", "1"}, {"siz", "1"}}, 2, ERR_NOTFOUND, 1, "", ""},
    {{{"store", "1"}, {"size", "1"}}, 2, ERR_REFUSED, 0, "", ""},
};

static void a_set_is_taken_whole_or_not_at_all(void **state) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct part first = {""}, second = {""};
        const struct config_part parts[] = {{first_keys, 1, &first}, {second_keys, 2, &second}};
        const struct config_model model = {parts, 2};
        uint32_t wrong = 99;
        int result = config_changed(&model, rows[i].changes, rows[i].count, &wrong);
        assert_int_equal(result, rows[i].result);
        if (result < 0)
            assert_int_equal(wrong, rows[i].wrong);
        assert_string_equal(first.told, rows[i].first);
        assert_string_equal(second.told, rows[i].second);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_set_is_taken_whole_or_not_at_all)};
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
