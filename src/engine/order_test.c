/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/prng.h"
#include "engine/order.h"

#define NODES 40

enum step { WAITS, MAY_GO, RECORDED };

struct entry {
    struct order_node node; /* first */
    enum step step;
    int in_use;
};

static void ready(struct order_node *n) {
    struct entry *e = (struct entry *)(void *)n;
    assert_int_equal(e->step, WAITS);
    e->step = MAY_GO;
}

static int overlap(const struct order_node *a, const struct order_node *b) {
    return a->volume == b->volume && a->first <= b->last && b->first <= a->last;
}

/* What order.h says, looked up one by one. */
static int should_wait(const struct entry *all, const struct entry *e) {
    for (int i = 0; i < NODES; i++) {
        const struct entry *other = &all[i];
        if (!other->in_use || other->node.number >= e->node.number ||
            !overlap(&other->node, &e->node))
            continue;
        if (other->step != RECORDED || e->node.reads)
            return 1;
    }
    return 0;
}

static void check(const struct entry *all) {
    for (int i = 0; i < NODES; i++)
        if (all[i].in_use && all[i].step != RECORDED)
            assert_int_equal(all[i].step == WAITS, should_wait(all, &all[i]));
}

static void as_the_rules_say(void **state) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct order o;
        struct entry all[NODES];
        struct prng p = prng_seed(seed);
        uint64_t area = seed % 2 ? 3000 : 40, waited = 0, readers = 0;
        memset(&o, 0, sizeof o);
        memset(all, 0, sizeof all);
        for (int step = 0; step < 4000; step++) {
            struct entry *e = &all[prng_below(&p, NODES)];
            if (!e->in_use) {
                uint64_t first = prng_below(&p, area);
                uint64_t most = prng_one_in(&p, 8) ? area : 4;
                e->node = (struct order_node){.volume = 1 + (uint32_t)prng_below(&p, 2),
                                              .reads = prng_one_in(&p, 3),
                                              .first = first,
                                              .last = first + prng_below(&p, most),
                                              .ready = ready};
                e->in_use = 1;
                e->step = order_enter(&o, &e->node) ? MAY_GO : WAITS;
                waited += e->step == WAITS;
                readers += e->step == WAITS && e->node.reads;
            } else if (e->step == MAY_GO && !prng_one_in(&p, 5)) {
                e->step = RECORDED;
                order_recorded(&o, &e->node);
            } else if (e->step != WAITS) {
                e->in_use = 0; /* applied, or failed before it was recorded */
                order_leave(&o, &e->node);
            }
            check(all);
        }
        assert_true(waited > 50 && readers > 10);
        /* All come to their end. */
        for (int left = NODES, rounds = 0; left > 0; rounds++) {
            left = 0;
            assert_true(rounds <= NODES);
            for (int i = 0; i < NODES; i++) {
                if (all[i].in_use && all[i].step != WAITS) {
                    all[i].in_use = 0;
                    order_leave(&o, &all[i].node);
                }
                left += all[i].in_use;
            }
        }
        assert_null(o.all);
        assert_null(o.wide);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_rules_say),
    };
    return cmocka_run_group_tests_name("order", tests, NULL, NULL);
}
