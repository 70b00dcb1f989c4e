/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "ctl/name.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define A60 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

struct name_case {
    enum name_kind kind;
    const char *text;
    int err;
    uint32_t at;
};

static const struct name_case cases[] = {
    /*  0 */ {NAME_VOLUME, "demo", OK, 0},
    /*  1 */ {NAME_VOLUME, "a", OK, 0},
    /*  2 */ {NAME_VOLUME, "0", OK, 0},
    /*  3 */ {NAME_VOLUME, "vm-01-root", OK, 0},
    /*  4 */ {NAME_VOLUME, A60 "abc", OK, 0},
    /*  5 */ {NAME_VOLUME, A60 "abcd", ERR_TOOBIG, 63},
    /*  6 */ {NAME_VOLUME, "", ERR_INVAL, 0},
    /*  7 */ {NAME_VOLUME, "Demo", ERR_INVAL, 0},
    /*  8 */ {NAME_VOLUME, "deMo", ERR_INVAL, 2},
    /*  9 */ {NAME_VOLUME, "-demo", ERR_INVAL, 0},
    /* 10 */ {NAME_VOLUME, "demo-", ERR_INVAL, 4},
    /* 11 */ {NAME_VOLUME, "a.b", ERR_INVAL, 1},
    /* 12 */ {NAME_VOLUME, "a_b", ERR_INVAL, 1},
    /* 13 */ {NAME_VOLUME, "a@b", ERR_INVAL, 1},
    /* 14 */ {NAME_VOLUME, "a/b", ERR_INVAL, 1},
    /* 15 */ {NAME_VOLUME, "a b", ERR_INVAL, 1},
    /* 16 */ {NAME_VOLUME, "d\xc3\xa9mo", ERR_INVAL, 1},
    /* 17 */ {NAME_IMAGE, "before-upgrade", OK, 0},
    /* 18 */ {NAME_IMAGE, "before.upgrade", ERR_INVAL, 6},
    /* 19 */ {NAME_LABEL, "before-upgrade_2.1", OK, 0},
    /* 20 */ {NAME_LABEL, "B", OK, 0},
    /* 21 */ {NAME_LABEL, "nowhere", OK, 0},
    /* 22 */ {NAME_LABEL, "now", ERR_INVAL, 0},
    /* 23 */ {NAME_LABEL, "NoW", ERR_INVAL, 0},
    /* 24 */ {NAME_LABEL, "1st", ERR_INVAL, 0},
    /* 25 */ {NAME_LABEL, "-5min", ERR_INVAL, 0},
    /* 26 */ {NAME_LABEL, "seq:5", ERR_INVAL, 3},
    /* 27 */ {NAME_LABEL, "x+rw", ERR_INVAL, 1},
    /* 28 */ {NAME_LABEL, "a@b", ERR_INVAL, 1},
    /* 29 */ {NAME_LABEL, A60 "abcd", ERR_TOOBIG, 63},
    /* 30 */ {NAME_LABEL, "", ERR_INVAL, 0},
};

static void table(void **state) {
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct name_case *c = &cases[i];
        struct fault f = {.at = 0};
        int err = name_check(c->kind, c->text, strlen(c->text), &f);
        if (err != c->err || f.at != c->at)
            fail_msg("case %zu \"%s\": %s at %u (%s)", i, c->text, err_word(err), f.at, f.text);
        assert_true((err == OK) == (f.text[0] == '\0'));
        assert_int_equal(name_check(c->kind, c->text, strlen(c->text), NULL), c->err);
    }
}

/* Whatever bytes come, an accepted name holds only what the wire names allow. */
static void random_bytes(void **state) {
    struct prng p = prng_seed(7);
    unsigned accepted = 0;
    for (int i = 0; i < 200000; i++) {
        char text[8];
        size_t len = prng_below(&p, sizeof text);
        for (size_t j = 0; j < len; j++)
            text[j] = prng_one_in(&p, 8) ? (char)prng_next(&p) : "ab0-.@"[prng_below(&p, 6)];
        if (name_check(NAME_VOLUME, text, len, NULL) != OK)
            continue;
        accepted++;
        for (size_t j = 0; j < len; j++)
            assert_non_null(memchr("abcdefghijklmnopqrstuvwxyz0123456789-", text[j], 37));
    }
    assert_true(accepted > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(table), cmocka_unit_test(random_bytes)};
    return cmocka_run_group_tests_name("ctl_name", tests, NULL, NULL);
}
