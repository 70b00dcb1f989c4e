/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena/arena.h"
#include "arena/buffer_supply.h"
#include "base/err.h"
#include "base/prng.h"

#define PAGES 100u

/* A pool of PAGES, and who asks it. A request tells its number and result when it is called. */
struct fixture {
    struct buffer_pool pool;
    struct local_supply local;
    struct buffer_supply s;
    struct data_plane d;
    int calls, last, result;
    struct supply_request again; /* asked for by a callback */
    int asks_again;
};

struct client {
    struct supply_request r;
    struct fixture *f;
    int number;
};

static void setup(struct fixture *f) {
    struct arena a = {0};
    memset(f, 0, sizeof *f);
    a.regions[0] = malloc(PAGES * BUFFER_PAGE_BYTES);
    a.region_bytes[0] = PAGES * BUFFER_PAGE_BYTES;
    assert_int_equal(buffer_pool_open(&f->pool, &a, 0), 0);
    local_supply_open(&f->local, &f->pool);
    f->s = local_supply_interface(&f->local);
    f->d = local_supply_data_plane(&f->local);
    f->last = -1;
}

static void teardown(struct fixture *f) {
    local_supply_close(&f->local);
    free(f->pool.data);
    buffer_pool_close(&f->pool);
}

static void delivered(void *arg, struct supply_request *r, int result) {
    struct client *c = arg;
    c->f->calls++;
    c->f->last = c->number;
    c->f->result = result;
}

static struct client client(struct fixture *f, int number, uint32_t pages, uint64_t until_ns) {
    return (struct client){
        .r = {.pages = pages, .extents_max = 2, .until_ns = until_ns}, .f = f, .number = number};
}

static int ask(struct client *c) {
    c->r.arg = c;
    c->r.delivered = delivered;
    return c->f->s.ops->request(c->f->s.ctx, &c->r);
}

static int dispatch(struct fixture *f, uint64_t now_ns) {
    return f->s.ops->dispatch(f->s.ctx, now_ns);
}

static uint64_t next_ns(struct fixture *f) {
    return f->s.ops->next_ns(f->s.ctx);
}

static void give_back(struct fixture *f, uint32_t first, uint32_t pages) {
    f->s.ops->release(f->s.ctx, (struct extent){first, pages});
}

static void what_is_there_comes_at_once(void **state) {
    struct fixture f;
    setup(&f);
    struct client a = client(&f, 0, 60, SUPPLY_NO_LIMIT), b = client(&f, 1, 40, 0);
    assert_int_equal(ask(&a), 1);
    assert_int_equal(a.r.extents[0].pages, 60);
    assert_int_equal(ask(&b), 1); /* though its time is over */
    assert_int_equal(f.pool.free_pages, 0);
    assert_true(next_ns(&f) == UINT64_MAX);
    assert_int_equal(dispatch(&f, 1000), 0);
    assert_int_equal(f.calls, 0);
    teardown(&f);
}

static void what_can_never_be_is_refused(void **state) {
    struct fixture f;
    setup(&f);
    struct client a = client(&f, 0, PAGES + 1, SUPPLY_NO_LIMIT), b = client(&f, 1, PAGES, 0);
    assert_int_equal(ask(&a), ERR_TOOBIG);
    assert_int_equal(ask(&b), 1);
    teardown(&f);
}

static void requests_are_met_in_order(void **state) {
    struct fixture f;
    setup(&f);
    struct client all = client(&f, 0, PAGES, 0), a = client(&f, 1, 50, SUPPLY_NO_LIMIT),
                  b = client(&f, 2, 10, SUPPLY_NO_LIMIT), c = client(&f, 3, 10, SUPPLY_NO_LIMIT);
    assert_int_equal(ask(&all), 1);
    assert_int_equal(ask(&a), ERR_AGAIN);
    assert_int_equal(ask(&b), ERR_AGAIN);
    give_back(&f, 0, 20);
    assert_int_equal(dispatch(&f, 0), 0); /* not committed */
    buffer_commit(&f.pool);
    assert_int_equal(next_ns(&f), 0);
    assert_int_equal(dispatch(&f, 0), 0); /* enough for the second, but it is not its turn */
    assert_true(next_ns(&f) == UINT64_MAX);
    assert_int_equal(ask(&c), ERR_AGAIN); /* nor the third's */
    give_back(&f, 20, 30);
    buffer_commit(&f.pool);
    assert_int_equal(next_ns(&f), 0);
    assert_int_equal(dispatch(&f, 0), 1); /* one callback at a time */
    assert_int_equal(f.last, 1);
    assert_int_equal(f.result, 1);
    assert_int_equal(a.r.extents[0].first, 0);
    assert_int_equal(a.r.extents[0].pages, 50);
    assert_int_equal(dispatch(&f, 0), 0);
    give_back(&f, 50, 25);
    buffer_commit(&f.pool);
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.last, 2);
    assert_int_equal(next_ns(&f), 0); /* the next one may be met, too */
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.last, 3);
    assert_int_equal(dispatch(&f, 0), 0);
    assert_int_equal(f.calls, 3);
    teardown(&f);
}

static void the_time_limit_is_absolute(void **state) {
    struct fixture f;
    setup(&f);
    struct client all = client(&f, 0, PAGES, 0), a = client(&f, 1, 10, SUPPLY_NO_LIMIT),
                  b = client(&f, 2, 10, 2000), c = client(&f, 3, 10, 1000);
    assert_int_equal(ask(&all), 1);
    assert_int_equal(ask(&a), ERR_AGAIN);
    assert_int_equal(ask(&b), ERR_AGAIN);
    assert_int_equal(ask(&c), ERR_AGAIN);
    assert_int_equal(next_ns(&f), 1000);
    assert_int_equal(dispatch(&f, 999), 0);
    assert_int_equal(dispatch(&f, 1000), 1);
    assert_int_equal(f.last, 3);
    assert_int_equal(f.result, ERR_TIMEDOUT);
    (void)dispatch(&f, 1000);
    assert_int_equal(next_ns(&f), 2000);
    give_back(&f, 0, 20);
    buffer_commit(&f.pool);
    assert_int_equal(dispatch(&f, 2000), 1); /* too late, though there are buffers */
    assert_int_equal(f.last, 2);
    assert_int_equal(f.result, ERR_TIMEDOUT);
    assert_int_equal(dispatch(&f, UINT64_MAX), 1); /* no limit is none */
    assert_int_equal(f.last, 1);
    assert_int_equal(f.result, 1);
    assert_int_equal(f.pool.free_pages, 10);
    teardown(&f);
}

static void the_end_of_the_first_lets_others_pass(void **state) {
    struct fixture f;
    setup(&f);
    struct client some = client(&f, 0, 90, 0), a = client(&f, 1, 50, 1000),
                  b = client(&f, 2, 30, SUPPLY_NO_LIMIT), c = client(&f, 3, 5, SUPPLY_NO_LIMIT);
    assert_int_equal(ask(&some), 1);
    assert_int_equal(ask(&a), ERR_AGAIN);
    assert_int_equal(ask(&b), ERR_AGAIN);
    assert_int_equal(ask(&c), ERR_AGAIN);
    assert_int_equal(dispatch(&f, 1000), 1);
    assert_int_equal(f.last, 1);
    assert_int_equal(dispatch(&f, 1000), 0);
    f.s.ops->cancel(f.s.ctx, &b.r);
    assert_int_equal(next_ns(&f), 0);
    assert_int_equal(dispatch(&f, 1000), 1);
    assert_int_equal(f.last, 3);
    assert_int_equal(f.calls, 2); /* the cancelled one was not called */
    teardown(&f);
}

static void pieces_are_as_few_as_asked_for(void **state) {
    struct fixture f;
    setup(&f);
    struct client all = client(&f, 0, PAGES, 0), a = client(&f, 1, 3, SUPPLY_NO_LIMIT);
    assert_int_equal(ask(&all), 1);
    a.r.extents_max = 1;
    assert_int_equal(ask(&a), ERR_AGAIN);
    for (uint32_t page = 0; page < PAGES; page += 2)
        give_back(&f, page, 1);
    buffer_commit(&f.pool);
    assert_int_equal(dispatch(&f, 0), 0); /* 50 pages, and no two beside each other */
    give_back(&f, 51, 1);
    buffer_commit(&f.pool);
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.result, 1);
    assert_int_equal(a.r.extents[0].first, 50);
    assert_int_equal(a.r.extents[0].pages, 3);
    teardown(&f);
}

/* As many free pages as before, but others. */
static void another_place_is_tried(void **state) {
    struct fixture f;
    struct extent e;
    setup(&f);
    struct client all = client(&f, 0, PAGES, 0), a = client(&f, 1, 2, SUPPLY_NO_LIMIT);
    assert_int_equal(ask(&all), 1);
    give_back(&f, 10, 1);
    give_back(&f, 20, 1);
    buffer_commit(&f.pool);
    a.r.extents_max = 1;
    assert_int_equal(ask(&a), ERR_AGAIN);
    assert_int_equal(buffer_take(&f.pool, 1, &e, 1), 1);
    give_back(&f, e.first == 10 ? 21 : 11, 1); /* beside the one that is left */
    buffer_commit(&f.pool);
    assert_int_equal(next_ns(&f), 0);
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.result, 1);
    teardown(&f);
}

static void asks_again(void *arg, struct supply_request *r, int result) {
    struct fixture *f = arg;
    f->calls++;
    f->again = *r;
    f->again.delivered = asks_again;
    f->asks_again = f->s.ops->request(f->s.ctx, &f->again);
    give_back(f, r->extents[0].first, r->extents[0].pages);
}

static void a_callback_may_ask_again(void **state) {
    struct fixture f;
    setup(&f);
    struct client all = client(&f, 0, PAGES, 0), a = client(&f, 1, 60, SUPPLY_NO_LIMIT);
    assert_int_equal(ask(&all), 1);
    a.r.delivered = asks_again;
    a.r.arg = &f;
    assert_int_equal(f.s.ops->request(f.s.ctx, &a.r), ERR_AGAIN);
    give_back(&f, 0, PAGES);
    buffer_commit(&f.pool);
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.asks_again, ERR_AGAIN);
    assert_int_equal(dispatch(&f, 0), 0);
    buffer_commit(&f.pool);
    f.again.delivered = delivered;
    f.again.arg = &a;
    assert_int_equal(dispatch(&f, 0), 1);
    assert_int_equal(f.calls, 2);
    teardown(&f);
}

/* Many requests, releases and moments: what is delivered is nobody else's, comes in order, and in time. */
static void any_order_of_events(void **state) {
    enum { CLIENTS = 12, STEPS = 20000 };
    struct prng prng = prng_seed(1);
    struct fixture f;
    struct client c[CLIENTS];
    uint64_t asked[CLIENTS], order = 0, last_met = 0, now = 0;
    enum { IDLE, WAITS, HAS } is[CLIENTS] = {IDLE};
    int counts[4] = {0}, has[CLIENTS] = {0};
    uint8_t owner[PAGES] = {0};
    setup(&f);
    for (int step = 0; step < STEPS; step++) {
        int i = (int)prng_below(&prng, CLIENTS), n = ERR_AGAIN;
        now += prng_below(&prng, 10);
        if (is[i] == IDLE) {
            c[i] = client(&f, i, 1 + (uint32_t)prng_below(&prng, 30),
                          prng_one_in(&prng, 4) ? SUPPLY_NO_LIMIT : now + prng_below(&prng, 300));
            c[i].r.extents_max = 1 + (uint32_t)prng_below(&prng, SUPPLY_EXTENTS);
            asked[i] = ++order;
            is[i] = WAITS;
            n = ask(&c[i]);
            f.last = i;
            counts[0] += n > 0;
        } else if (is[i] == HAS) {
            for (int k = 0; k < has[i]; k++) {
                struct extent e = c[i].r.extents[k];
                for (uint32_t page = e.first; page < e.first + e.pages; page++) {
                    assert_int_equal(owner[page], i + 1);
                    owner[page] = 0;
                }
                f.s.ops->release(f.s.ctx, e);
            }
            is[i] = IDLE;
        } else if (prng_one_in(&prng, 50)) {
            f.s.ops->cancel(f.s.ctx, &c[i].r);
            is[i] = IDLE;
            counts[3]++;
        }
        if (prng_one_in(&prng, 2))
            buffer_commit(&f.pool);
        if (n == ERR_AGAIN && dispatch(&f, now) == 1) {
            i = f.last;
            n = f.result;
            assert_int_equal(is[i], WAITS);
            assert_int_equal(n == ERR_TIMEDOUT, c[i].r.until_ns <= now);
            if (n == ERR_TIMEDOUT)
                is[i] = IDLE;
            counts[n > 0 ? 1 : 2]++;
        }
        if (n <= 0)
            continue;
        uint32_t pages = 0;
        assert_true(asked[i] > last_met);
        last_met = asked[i];
        is[i] = HAS;
        has[i] = n;
        for (int k = 0; k < n; k++) {
            struct extent e = c[i].r.extents[k];
            pages += e.pages;
            for (uint32_t page = e.first; page < e.first + e.pages; page++) {
                assert_int_equal(owner[page], 0);
                owner[page] = (uint8_t)(i + 1);
            }
        }
        assert_int_equal(pages, c[i].r.pages);
        assert_true((uint32_t)n <= c[i].r.extents_max);
    }
    assert_true(counts[0] > 50 && counts[1] > 50 && counts[2] > 50 && counts[3] > 50);
    for (int i = 0; i < CLIENTS; i++)
        if (is[i] == WAITS)
            f.s.ops->cancel(f.s.ctx, &c[i].r);
    teardown(&f);
}

static void mapped_buffers_are_memory(void **state) {
    struct fixture f;
    setup(&f);
    unsigned char *memory = NULL, *again = NULL;
    struct extent e = {10, 3};
    assert_int_equal(f.d.ops->map(f.d.ctx, e, &memory), 0);
    memset(memory, 7, 3 * BUFFER_PAGE_BYTES);
    assert_int_equal(f.d.ops->unmap(f.d.ctx, e, 1), 0);
    assert_int_equal(f.d.ops->map(f.d.ctx, (struct extent){11, 1}, &again), 0);
    assert_int_equal(again[BUFFER_PAGE_BYTES - 1], 7);
    assert_ptr_equal(again, memory + BUFFER_PAGE_BYTES);
    assert_int_equal(f.d.ops->unmap(f.d.ctx, (struct extent){11, 1}, 0), 0);
    assert_int_equal(f.d.ops->mark_local(f.d.ctx, e), 0);
    assert_int_equal(f.d.ops->replicate(f.d.ctx, e, 2), ERR_UNSUPPORTED);
    teardown(&f);
}

static void what_is_no_extent_is_refused(void **state) {
    static const struct extent wrong[] = {{0, 0},         {PAGES, 1},      {0, PAGES + 1},
                                          {PAGES - 1, 2}, {1, UINT32_MAX}, {UINT32_MAX, 2}};
    struct fixture f;
    setup(&f);
    unsigned char *memory = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(f.d.ops->map(f.d.ctx, wrong[i], &memory), ERR_INVAL);
        assert_int_equal(f.d.ops->unmap(f.d.ctx, wrong[i], 0), ERR_INVAL);
        assert_int_equal(f.d.ops->mark_local(f.d.ctx, wrong[i]), ERR_INVAL);
        assert_int_equal(f.d.ops->replicate(f.d.ctx, wrong[i], 2), ERR_INVAL);
    }
    assert_null(memory);
    assert_int_equal(f.d.ops->map(f.d.ctx, (struct extent){PAGES - 1, 1}, &memory), 0);
    assert_int_equal(f.d.ops->unmap(f.d.ctx, (struct extent){PAGES - 1, 1}, 0), 0);
    teardown(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_there_comes_at_once),
        cmocka_unit_test(what_can_never_be_is_refused),
        cmocka_unit_test(requests_are_met_in_order),
        cmocka_unit_test(the_time_limit_is_absolute),
        cmocka_unit_test(the_end_of_the_first_lets_others_pass),
        cmocka_unit_test(pieces_are_as_few_as_asked_for),
        cmocka_unit_test(another_place_is_tried),
        cmocka_unit_test(a_callback_may_ask_again),
        cmocka_unit_test(any_order_of_events),
        cmocka_unit_test(mapped_buffers_are_memory),
        cmocka_unit_test(what_is_no_extent_is_refused),
    };
    return cmocka_run_group_tests_name("buffer_supply", tests, NULL, NULL);
}
