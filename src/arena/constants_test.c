/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena/arena.h"
#include "arena/constants.h"
#include "base/err.h"

#define R_CONSTANTS 3
#define ROOM 256

static const struct constant list[] = {
    {7, "seven", 6}, {1, "", 0}, {300, "unterminated", 12}, {2, "\0\1\2\3\4\5\6\7", 8}};

/* An arena of which only one region is looked at. */
static struct arena fresh(void) {
    struct arena a = {0};
    a.regions[R_CONSTANTS] = calloc(1, ROOM);
    a.region_bytes[R_CONSTANTS] = ROOM;
    return a;
}

static void found_by_number(void **state) {
    struct arena a = fresh();
    struct constants c;
    uint32_t bytes;
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_null(constants_find(&c, 7, &bytes));
    assert_string_equal(constants_text(&c, 7, "else"), "else");
    assert_int_equal(constants_write(&c, list, 4), 0);
    /* A later build would say something else: what was said first counts. */
    static const struct constant later[] = {{7, "SEVEN", 6}};
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_int_equal(constants_write(&c, later, 1), ERR_EXISTS);
    for (int i = 0; i < 4; i++) {
        const void *p = constants_find(&c, list[i].number, &bytes);
        assert_non_null(p);
        assert_int_equal(bytes, list[i].bytes);
        assert_memory_equal(p, list[i].data, bytes);
        assert_int_equal((uintptr_t)p % 8, 0);
    }
    assert_null(constants_find(&c, 8, &bytes));
    assert_string_equal(constants_text(&c, 7, "else"), "seven");
    assert_string_equal(constants_text(&c, 300, "else"), "else");
    assert_string_equal(constants_text(&c, 1, "else"), "else");
    free(a.regions[R_CONSTANTS]);
}

static void room_is_kept(void **state) {
    struct arena a = fresh();
    struct constants c;
    static const char long_one[ROOM] = {0};
    const struct constant lists[] = {{1, "one", 4}, {2, long_one, ROOM - 32 - 16 - 8}};
    a.region_bytes[R_CONSTANTS] = ROOM - 1;
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_int_equal(constants_write(&c, lists, 2), ERR_NOSPC);
    a.region_bytes[R_CONSTANTS] = ROOM;
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_int_equal(constants_write(&c, lists, 2), 0);
    a.region_bytes[R_CONSTANTS] = 31;
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), ERR_INVAL);
    free(a.regions[R_CONSTANTS]);
}

static void damage_is_seen_and_half_an_area_is_none(void **state) {
    struct arena a = fresh();
    struct constants c;
    uint32_t bytes;
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_int_equal(constants_write(&c, list, 4), 0);
    for (uint32_t at = 12; at < c.head->used_bytes; at++) {
        if (at >= 20 && at < 32) /* reserved */
            continue;
        a.regions[R_CONSTANTS][at] ^= 0x40;
        assert_int_equal(constants_open(&c, &a, R_CONSTANTS), ERR_INTEGRITY);
        a.regions[R_CONSTANTS][at] ^= 0x40;
    }
    memset(a.regions[R_CONSTANTS], 0, 8); /* as one who died before the magic leaves it */
    assert_int_equal(constants_open(&c, &a, R_CONSTANTS), 0);
    assert_null(constants_find(&c, 7, &bytes));
    assert_int_equal(constants_write(&c, list, 1), 0);
    assert_non_null(constants_find(&c, 7, &bytes));
    assert_null(constants_find(&c, 2, &bytes));
    free(a.regions[R_CONSTANTS]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_by_number),
        cmocka_unit_test(room_is_kept),
        cmocka_unit_test(damage_is_seen_and_half_an_area_is_none),
    };
    return cmocka_run_group_tests_name("constants", tests, NULL, NULL);
}
