/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "arena/arena.h"
#include "arena/trace.h"
#include "base/err.h"
#include "base/numbers.h"
#include "base/prng.h"

/* Room for 21 entries: 16 are used. */
static const struct arena_region_plan regions[] = {{REGION_TRACE, 1, 64 + 21 * 40, 64}};
static const struct arena_plan plan = {.regions = regions, .region_count = 1, .undo_bytes = 4096};

static void start(struct arena *a, struct trace *t) {
    void *m = mmap(NULL, arena_plan_bytes(&plan), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    assert_int_equal(arena_create(a, m, arena_plan_bytes(&plan), &plan), 0);
    atomic_store(&a->live->phase, ARENA_SERVING);
    arena_commit(a);
    assert_int_equal(trace_open(t, a, REGION_TRACE), 0);
}

static void end(struct arena *a) {
    void *m = a->base;
    arena_detach(a);
    munmap(m, arena_plan_bytes(&plan));
}

/* Points from `first` on to `last`, which is the newest; `skipped` is missing. */
static void expect(const struct trace *t, uint64_t first, uint64_t last, uint64_t skipped) {
    uint64_t position = 0;
    struct trace_point p;
    for (uint64_t i = first; i <= last; i++) {
        if (i == skipped)
            continue;
        assert_int_equal(trace_next(t, &position, &p), 1);
        assert_int_equal(p.position, i);
        assert_int_equal(p.time_ns, 1000 + i);
        assert_int_equal(p.code, i % 7);
        assert_int_equal(p.a, i * 3);
        assert_int_equal(p.b, ~i);
    }
    assert_int_equal(trace_next(t, &position, &p), 0);
}

static void add(struct trace *t, uint64_t i) {
    trace_add(t, 1000 + i, (uint32_t)(i % 7), i * 3, ~i);
}

static void it_wraps_and_survives(void **state) {
    struct arena a;
    struct trace t;
    struct trace_point p;
    uint64_t position = 0;
    start(&a, &t);
    assert_int_equal(trace_next(&t, &position, &p), 0);
    for (uint64_t i = 0; i < 100; i++) {
        add(&t, i);
        expect(&t, i < 16 ? 0 : i - 15, i, UINT64_MAX);
    }
    void *m = a.base;
    arena_detach(&a); /* died: no commit */
    assert_int_equal(arena_roll_back(m), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&a, m, arena_plan_bytes(&plan), &plan), 0);
    assert_int_equal(trace_open(&t, &a, REGION_TRACE), 0);
    expect(&t, 84, 99, UINT64_MAX);
    add(&t, 100);
    expect(&t, 85, 100, UINT64_MAX);
    end(&a);
}

/* The stores of one point, stopped after each. */
static void a_half_written_point_is_not_seen(void **state) {
    for (int stores = 0; stores < 4; stores++) {
        struct arena a;
        struct trace t;
        start(&a, &t);
        for (uint64_t i = 0; i < 40; i++)
            add(&t, i);
        struct trace_entry *e = &t.entries[40 & t.mask];
        if (stores > 0)
            atomic_store(&e->mark, 0);
        if (stores > 1)
            e->time_ns = e->a = 77;
        if (stores > 2)
            atomic_store(&e->mark, 41);
        expect(&t, stores > 0 ? 25 : 24, 39, UINT64_MAX);
        add(&t, 40);
        expect(&t, 25, 40, UINT64_MAX);
        atomic_store(&t.entries[30 & t.mask].mark, 5);
        expect(&t, 25, 40, 30);
        end(&a);
    }
}

static void any_bytes_are_a_trace(void **state) {
    struct prng r = prng_seed(1);
    struct arena a;
    struct trace t;
    start(&a, &t);
    for (int round = 0; round < 200; round++) {
        for (uint64_t i = 0; i < a.region_bytes[REGION_TRACE]; i++)
            a.regions[REGION_TRACE][i] = (unsigned char)(prng_next(&r) >> 40);
        if (round % 3 == 0)
            atomic_store(&t.head->next, UINT64_MAX - prng_below(&r, 3));
        uint64_t position = 0;
        struct trace_point p;
        int n = 0;
        while (trace_next(&t, &position, &p))
            assert_true(n++ < 16);
        for (uint64_t i = 0; i < 20; i++)
            add(&t, i);
    }
    end(&a);
}

static void a_region_is_needed(void **state) {
    struct arena a;
    struct trace t;
    start(&a, &t);
    assert_int_equal(trace_open(&t, &a, REGION_BUFFERS), ERR_INVAL);
    assert_int_equal(trace_open(&t, &a, ARENA_REGIONS_MAX), ERR_INVAL);
    a.region_bytes[REGION_TRACE] = 64 + 39;
    assert_int_equal(trace_open(&t, &a, REGION_TRACE), ERR_INVAL);
    end(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_wraps_and_survives),
        cmocka_unit_test(a_half_written_point_is_not_seen),
        cmocka_unit_test(any_bytes_are_a_trace),
        cmocka_unit_test(a_region_is_needed),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
