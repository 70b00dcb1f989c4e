/* SPDX-License-Identifier: Apache-2.0 */
/* Rules 1, 2 and 4 of share.h; rule 3 is in tests/e2e/hostile_test.py. */
#include "server/share.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define PAGES_OF(bytes) ((uint32_t)((bytes) / BUFFER_PAGE_BYTES))
#define LARGEST (PAGES_OF(32 * MIB) + 1)

static struct buffer_pool pool_of(uint64_t bytes) {
    return (struct buffer_pool){.pages = PAGES_OF(bytes), .free_pages = PAGES_OF(bytes)};
}

static uint32_t take_all(struct buffer_pool *p, enum buffer_use use, uint32_t pages) {
    uint32_t n = 0;
    for (; share_may_take(p, use, pages, 0); n++)
        p->free_pages -= pages;
    return n;
}

/* 1 An idle pool, however small, serves the largest request, also as a second one. */
static void largest(void **state) {
    const uint64_t pools[] = {80 * MIB, 192 * MIB, 512 * GIB};
    for (size_t i = 0; i < sizeof pools / sizeof pools[0]; i++) {
        struct buffer_pool p = pool_of(pools[i]);
        assert_true(share_may_take(&p, BUFFER_CLIENTS, LARGEST, 0));
        assert_true(share_may_take(&p, BUFFER_MORE, LARGEST, 0));
    }
}

/* 2 Whatever is asked for until nothing is left for it, an eighth of it, and less, finds room; and those who
 * have nothing in hand find room where those who have do not. */
static void smaller_ones(void **state) {
    for (uint32_t pages = LARGEST; pages >= 8; pages -= pages / 8) {
        struct buffer_pool p = pool_of(192 * MIB);
        assert_true(take_all(&p, BUFFER_MORE, pages) > 0);
        assert_true(share_may_take(&p, BUFFER_CLIENTS, pages / 8, 0));
        take_all(&p, BUFFER_CLIENTS, pages);
        for (uint32_t less = 1; less <= pages / 8; less++)
            assert_true(share_may_take(&p, BUFFER_CLIENTS, less, 0));
    }
}

/* 3 It is never more than the pool's own rule allows. */
static void pool_rule(void **state) {
    for (uint32_t pages = 1; pages <= LARGEST; pages = 2 * pages + 1) {
        struct buffer_pool p = pool_of(192 * MIB);
        take_all(&p, BUFFER_CLIENTS, pages);
        assert_true(p.free_pages >= buffer_left_by(&p, BUFFER_CLIENTS));
    }
}

/* 4 Who asks for more than a little does not pass the first who waits. */
static void kept(void **state) {
    struct buffer_pool p = pool_of(192 * MIB);
    take_all(&p, BUFFER_CLIENTS, PAGES_OF(MIB));
    p.free_pages += PAGES_OF(MIB);
    assert_true(share_may_take(&p, BUFFER_CLIENTS, PAGES_OF(MIB), 0));
    assert_false(share_may_take(&p, BUFFER_CLIENTS, PAGES_OF(MIB), LARGEST));
    assert_true(share_may_take(&p, BUFFER_CLIENTS, 16, LARGEST));
}

/* 5 Slots: all for one, and still one for each who has none. */
static void slots(void **state) {
    assert_true(share_may_have_slot(1, 0));
    assert_false(share_may_have_slot(0, 0));
    uint32_t left = 256, connections = 0;
    for (; left > 8; connections++)
        for (uint32_t in_hand = 0; share_may_have_slot(left, in_hand) && in_hand < 128; in_hand++)
            left--;
    assert_true(connections > 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(largest), cmocka_unit_test(smaller_ones), cmocka_unit_test(pool_rule),
        cmocka_unit_test(kept),    cmocka_unit_test(slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
