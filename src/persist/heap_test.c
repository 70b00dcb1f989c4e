/* SPDX-License-Identifier: Apache-2.0 */
/* The heap against a model: blocks keep what was committed, over undone turns and over deaths. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "base/units.h"
#include "persist/persist_priv.h"

#define BLOCKS 64u

static struct arena_region_plan regions[] = {
    {PERSIST_REGION_HEAP, 1, 256 * KIB, 4096},
    {PERSIST_REGION_DESCRIPTORS, 1, 8 * sizeof(struct persist_record), 4096},
};
static const struct arena_plan plan = {
    .regions = regions, .region_count = 2, .undo_bytes = 64 * KIB};
static const struct perdure_program program = {.data_version = 7};

struct world {
    struct perdure p;
    struct custody custody;
    struct boot boot;
    void *memory;
};

static void open_world(struct world *w, int create) {
    if (create) {
        memset(w, 0, sizeof *w);
        w->memory = aligned_alloc(4096, arena_plan_bytes(&plan));
        memset(w->memory, 0, arena_plan_bytes(&plan));
    }
    w->boot.custody = &w->custody;
    w->p = (struct perdure){.boot = &w->boot, .program = &program, .base = w->memory};
    if (create) {
        assert_int_equal(arena_create(&w->p.a, w->memory, arena_plan_bytes(&plan), &plan), 0);
        heap_make(&w->p);
        atomic_store(&w->p.a.live->phase, ARENA_SERVING);
    } else {
        assert_int_equal(arena_roll_back(w->memory), ARENA_QUALIFIES);
        assert_int_equal(arena_attach(&w->p.a, w->memory, arena_plan_bytes(&plan), &plan), 0);
    }
    assert_int_equal(heap_check(&w->p), 0);
    heap_find_free(&w->p);
}

/* Private memory goes with the process. */
static void die(struct world *w) {
    for (unsigned i = 0; i < PERSIST_BINS; i++)
        free(w->p.bins[i].blocks);
    free(w->p.freed.blocks);
    arena_detach(&w->p.a);
}

struct model {
    unsigned char *block[BLOCKS];
    size_t bytes[BLOCKS];
    unsigned char fill[BLOCKS];
};

static void check(struct world *w, const struct model *m) {
    assert_int_equal(heap_check(&w->p), 0);
    for (unsigned i = 0; i < BLOCKS; i++)
        for (size_t n = 0; m->block[i] && n < m->bytes[i]; n++)
            assert_int_equal(m->block[i][n], m->fill[i]);
}

static void step(struct world *w, struct model *m, struct prng *r) {
    unsigned i = (unsigned)prng_below(r, BLOCKS);
    if (!m->block[i]) {
        size_t bytes = 1 + prng_below(r, prng_below(r, 8) ? 300 : 20000);
        unsigned char *b = perdure_alloc(&w->p, bytes);
        if (!b)
            return;
        for (size_t n = 0; n < bytes; n++)
            assert_int_equal(b[n], 0);
        m->block[i] = b;
        m->bytes[i] = bytes;
        m->fill[i] = (unsigned char)prng_below(r, 256);
        memset(b, m->fill[i], bytes);
    } else if (prng_below(r, 2)) {
        if (perdure_free(&w->p, m->block[i]) == 0)
            m->block[i] = NULL;
    } else if (perdure_edit(&w->p, m->block[i], m->bytes[i])) {
        m->fill[i] = (unsigned char)prng_below(r, 256);
        memset(m->block[i], m->fill[i], m->bytes[i]);
    }
}

static void test_model(void **state) {
    struct world w;
    struct model m = {0}, before;
    struct prng r = prng_seed(1);
    open_world(&w, 1);
    for (unsigned turn = 0; turn < 4000; turn++) {
        before = m;
        perdure_begin(&w.p);
        for (uint64_t n = prng_below(&r, 12); n > 0; n--)
            step(&w, &m, &r);
        switch (prng_below(&r, 8)) {
        case 0:
            m = before;
            perdure_undo(&w.p);
            break;
        case 1:
            m = before;
            die(&w);
            open_world(&w, 0);
            break;
        default:
            perdure_commit(&w.p);
        }
        check(&w, &m);
    }
    die(&w);
    free(w.memory);
}

/* Two of a full heap's blocks that are neighbours make room for a larger one. */
static void test_neighbours(void **state) {
    struct world w;
    unsigned char *b[512];
    unsigned n = 0;
    open_world(&w, 1);
    perdure_begin(&w.p);
    while ((b[n] = perdure_alloc(&w.p, 1000)))
        n++;
    perdure_commit(&w.p);
    perdure_begin(&w.p);
    assert_int_equal(perdure_free(&w.p, b[10]), 0);
    assert_int_equal(perdure_free(&w.p, b[11]), 0);
    assert_null(perdure_alloc(&w.p, 1000)); /* a block freed in this turn */
    perdure_commit(&w.p);
    perdure_begin(&w.p);
    assert_ptr_equal(perdure_alloc(&w.p, 2000), b[10]);
    perdure_undo(&w.p);
    assert_int_equal(heap_check(&w.p), 0);
    perdure_begin(&w.p);
    assert_ptr_equal(perdure_alloc(&w.p, 2000), b[10]);
    perdure_commit(&w.p);
    die(&w);
    free(w.memory);
}

static void test_bounds(void **state) {
    struct world w;
    open_world(&w, 1);
    perdure_begin(&w.p);
    assert_null(perdure_alloc(&w.p, SIZE_MAX));
    assert_null(perdure_alloc(&w.p, 256 * KIB));
    unsigned char *b = perdure_alloc(&w.p, 100 * KIB);
    assert_non_null(b);
    assert_null(perdure_edit(&w.p, b, 100 * KIB)); /* more than the undo log */
    assert_int_equal(perdure_set_root(&w.p, PERDURE_ROOTS, b), -EINVAL);
    assert_int_equal(perdure_set_root(&w.p, 3, b), 0);
    assert_int_equal(perdure_set_data_version(&w.p, 8), 0);
    perdure_commit(&w.p);
    die(&w);
    open_world(&w, 0);
    assert_ptr_equal(perdure_root(&w.p, 3), b);
    assert_null(perdure_root(&w.p, 4));
    assert_int_equal(perdure_data_version(&w.p), 8);
    static const uint64_t wrong[] = {0, 8, 24, 32, 200 * KIB, UINT64_MAX - 15};
    uint64_t *length = (uint64_t *)(void *)b - 2, right = *length;
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        *length = wrong[i];
        assert_int_equal(heap_check(&w.p), -EBADMSG);
    }
    *length = right;
    assert_int_equal(heap_check(&w.p), 0);
    persist_root_of(&w.p)->end = 256 * KIB + 16;
    assert_int_equal(heap_check(&w.p), -EBADMSG);
    die(&w);
    free(w.memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
