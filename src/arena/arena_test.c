/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/shadow.h"
#include "base/err.h"
#include "base/prng.h"

#define T_PAIR 1
#define T_BIG 2
#define R_BUF 0

HANDLE(pair)
#define PAIR_FIELDS(F, A)                                                                          \
    F(uint64_t, a)                                                                                 \
    F(uint64_t, b)                                                                                 \
    F(struct pair_h, next)                                                                         \
    A(uint8_t, pad, 4)
SLOT_STRUCT(pair, PAIR_FIELDS)
SLOT_TABLE(pair, T_PAIR)
LAYOUT_FIELDS(pair, PAIR_FIELDS)

HANDLE(big)
#define BIG_FIELDS(F, A)                                                                           \
    A(uint64_t, x, 500)                                                                            \
    F(uint64_t, sum)
SLOT_STRUCT(big, BIG_FIELDS)
SLOT_TABLE(big, T_BIG)
LAYOUT_FIELDS(big, BIG_FIELDS)

static const struct arena_table_spec pair_spec = TABLE_SPEC(pair, T_PAIR, 1);
static const struct arena_table_spec big_spec = TABLE_SPEC(big, T_BIG, 1);
static const struct arena_table_plan tables[] = {{&pair_spec, 100}, {&big_spec, 4}};
static const struct arena_region_plan regions[] = {{R_BUF, 1, 300 * 4096, 4096}};
static const struct arena_plan plan = {.tables = tables,
                                       .table_count = 2,
                                       .regions = regions,
                                       .region_count = 1,
                                       .undo_bytes = 64 * 1024};

static void *memory(void) {
    void *m = mmap(NULL, arena_plan_bytes(&plan), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    return m;
}

static struct arena *fresh(struct arena *a) {
    assert_int_equal(arena_create(a, memory(), arena_plan_bytes(&plan), &plan), 0);
    atomic_store(&a->live->phase, ARENA_SERVING);
    arena_commit(a);
    return a;
}

static void drop(struct arena *a) {
    void *base = a->base;
    uint64_t size = a->identity->size_bytes;
    arena_detach(a);
    munmap(base, size);
}

static void reattach(struct arena *a) {
    void *base = a->base;
    arena_detach(a);
    assert_int_equal(arena_qualify(base, arena_plan_bytes(&plan), &plan), ARENA_QUALIFIES);
    assert_int_equal(arena_roll_back(base), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(a, base, arena_plan_bytes(&plan), &plan), 0);
}

static void slots_and_handles(void **state) {
    struct arena arena, *a = fresh(&arena);
    struct pair_h h = pair_new(a, 7);
    assert_int_not_equal(h.v, 0);
    assert_int_equal(pair_view(a, h)->slot.state, 7);
    pair_edit(a, h)->a = 5;
    arena_commit(a);
    pair_free(a, h);
    assert_null(pair_try(a, h));
    struct pair_h other = pair_new(a, 1);
    assert_int_not_equal(handle_index(other.v), handle_index(h.v)); /* not in the same turn */
    arena_commit(a);
    struct pair_h again = pair_new(a, 1);
    assert_int_equal(handle_index(again.v), handle_index(h.v));
    assert_int_not_equal(again.v, h.v);
    assert_int_equal(pair_view(a, again)->a, 0);
    assert_int_equal(pair_used(a), 2);
    assert_int_equal(pair_room(a), 98);
    for (int i = 0; i < 98; i++)
        assert_int_not_equal(pair_new(a, 1).v, 0);
    assert_int_equal(pair_new(a, 1).v, 0);
    uint32_t n = 0;
    for (struct pair_h i = pair_next(a, (struct pair_h){0}); i.v; i = pair_next(a, i))
        n++;
    assert_int_equal(n, 100);
    drop(a);
}

static void rollback_is_the_last_commit(void **state) {
    struct arena arena, *a = fresh(&arena);
    struct pair_h h = pair_new(a, 1);
    struct big_h g = big_new(a, 1);
    pair_edit(a, h)->a = 1;
    arena_commit(a);
    struct pair_h lost = pair_new(a, 1);
    pair_edit(a, h)->a = 2;
    pair_edit(a, h)->b = 3;
    SLOT_EDIT_FIELD(a, big, g, sum)->sum = 9;
    SLOT_EDIT_FIELD(a, big, g, sum)->sum = 10;
    reattach(a);
    assert_int_equal(pair_view(a, h)->a, 1);
    assert_int_equal(pair_view(a, h)->b, 0);
    assert_int_equal(big_view(a, g)->sum, 0);
    assert_null(pair_try(a, lost));
    assert_int_equal(pair_used(a), 1);
    pair_edit(a, h)->a = 4; /* the stamp of the undone turn is not believed */
    reattach(a);
    assert_int_equal(pair_view(a, h)->a, 1);
    drop(a);
}

static void damaged_undo_is_refused(void **state) {
    struct arena arena, *a = fresh(&arena);
    struct pair_h h = pair_new(a, 1);
    arena_commit(a);
    pair_edit(a, h)->a = 2;
    uint64_t used = atomic_load(&a->live->undo_used);
    a->undo[used - 10] ^= 1;
    assert_int_equal(arena_roll_back(a->base), ARENA_BAD_UNDO);
    assert_int_equal(pair_view(a, h)->a, 2);
    a->undo[used - 10] ^= 1;
    assert_int_equal(arena_roll_back(a->base), ARENA_QUALIFIES);
    assert_int_equal(pair_view(a, h)->a, 0);
    drop(a);
}

static void qualifying_names_the_reason(void **state) {
    struct arena arena, *a = fresh(&arena);
    uint64_t size = arena_plan_bytes(&plan);
    void *base = a->base;
    arena_detach(a);
    struct arena_identity *id = base;
    assert_int_equal(arena_qualify(base, 100, &plan), ARENA_BAD_SIZE);
    assert_int_equal(arena_qualify(base, size - 4096, &plan), ARENA_BAD_SIZE);
    id->magic ^= 1;
    assert_int_equal(arena_qualify(base, size, &plan), ARENA_BAD_MAGIC);
    id->magic ^= 1;
    id->parts[0].capacity ^= 1;
    assert_int_equal(arena_qualify(base, size, &plan), ARENA_BAD_IDENTITY);
    id->parts[0].capacity ^= 1;
    struct arena_plan other = plan;
    other.boot_id[3] = 1;
    assert_int_equal(arena_qualify(base, size, &other), ARENA_BAD_BOOT);
    struct arena_table_spec spec = pair_spec;
    struct arena_table_plan t2[] = {{&spec, 100}, {&big_spec, 4}};
    other = plan;
    other.tables = t2;
    assert_int_equal(arena_qualify(base, size, &other), ARENA_QUALIFIES);
    spec.version = 2;
    assert_int_equal(arena_qualify(base, size, &other), ARENA_BAD_LAYOUT);
    struct arena_live *live = (void *)((unsigned char *)base + ARENA_LIVE_OFFSET);
    atomic_store(&live->phase, ARENA_EMPTY);
    assert_int_equal(arena_qualify(base, size, &plan), ARENA_BAD_PHASE);
    munmap(base, size);
}

/* The two-word invariant, a list, and slots made and freed, under a process that dies at its n-th
 * crash point, for every n until it finishes. */
static void one_life(struct arena *a, struct prng *p) {
    for (int turn = 0; turn < 30; turn++) {
        for (int i = 0; i < 3; i++) {
            struct pair_h h = pair_new(a, 1);
            struct pair *s = pair_edit(a, h);
            s->a = prng_next(p);
            s->b = ~s->a;
        }
        for (struct pair_h h = pair_next(a, (struct pair_h){0}); h.v; h = pair_next(a, h)) {
            if (prng_one_in(p, 3))
                continue;
            struct pair *s = pair_edit(a, h);
            s->a = prng_next(p);
            CRASH_POINT(a);
            s->b = ~s->a;
            if (prng_one_in(p, 4))
                pair_free(a, h);
        }
        struct big_h g = big_next(a, (struct big_h){0});
        struct big *b = SLOT_EDIT_FIELD(a, big, g, sum);
        uint32_t k = (uint32_t)prng_below(p, 500);
        uint64_t *x = &big_edit_part(a, g, offsetof(struct big, x) + 8 * k, 8)->x[k];
        uint64_t old = *x;
        *x = prng_next(p);
        CRASH_POINT(a);
        b->sum += *x - old;
        arena_commit(a);
    }
}

static void check_invariants(const struct arena *a) {
    uint32_t used = 0;
    for (struct pair_h h = pair_next(a, (struct pair_h){0}); h.v; h = pair_next(a, h), used++)
        assert_true(pair_view(a, h)->a == ~pair_view(a, h)->b);
    assert_int_equal(used, pair_used(a));
    const struct big *b = big_view(a, big_next(a, (struct big_h){0}));
    uint64_t sum = 0;
    for (int i = 0; i < 500; i++)
        sum += b->x[i];
    assert_true(sum == b->sum);
}

static void death_at_every_crash_point(void **state) {
    int finished = 0, deaths = 0;
    for (uint64_t n = 1; !finished; n += 1 + n / 200) {
        struct arena arena, *a = fresh(&arena);
        assert_int_not_equal(big_new(a, 1).v, 0);
        arena_commit(a);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            struct prng p = prng_seed(n);
            a->crash_after = n;
            one_life(a, &p);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        deaths += !finished;
        reattach(a);
        check_invariants(a);
        struct prng p = prng_seed(n + 1);
        a->crash_after = 0;
        struct pair_h h = pair_new(a, 1);
        pair_edit(a, h)->b = ~UINT64_C(0);
        arena_commit(a);
        check_invariants(a);
        (void)p;
        drop(a);
    }
    assert_true(deaths > 500);
}

static void shadow_finds_an_edit_without_edit(void **state) {
    for (int sin = 0; sin < 3; sin++) {
        struct arena arena, *a = fresh(&arena);
        struct pair_h h = pair_new(a, 1);
        struct big_h g = big_new(a, 1);
        arena_commit(a);
        assert_int_equal(arena_shadow_start(a), 0);
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            close(2);
            pair_edit(a, h)->a = 1;
            SLOT_EDIT_FIELD(a, big, g, sum)->sum = 1;
            arena_commit(a);
            if (sin == 1)
                ((struct pair *)(uintptr_t)pair_view(a, h))->a = 2;
            if (sin == 2)
                SLOT_EDIT_FIELD(a, big, g, sum)->x[3] = 1;
            arena_commit(a);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        assert_int_equal(WIFSIGNALED(status), sin != 0);
        drop(a);
    }
}

static void buffers_against_a_model(void **state) {
    struct arena arena, *a = fresh(&arena);
    struct buffer_pool pool;
    assert_int_equal(buffer_pool_open(&pool, a, R_BUF), 0);
    assert_int_equal(pool.pages, 300);
    struct prng p = prng_seed(3);
    uint8_t owner[300] = {0};
    struct extent held[300];
    int count = 0;
    for (int step = 0; step < 20000; step++) {
        if (prng_one_in(&p, 2)) {
            uint32_t want = 1 + (uint32_t)prng_below(&p, prng_one_in(&p, 5) ? 80 : 6);
            struct extent e[8];
            int n = buffer_take(&pool, want, e, 8);
            if (n < 0)
                continue;
            uint32_t got = 0;
            for (int i = 0; i < n; i++) {
                for (uint32_t k = 0; k < e[i].pages; k++)
                    assert_int_equal(owner[e[i].first + k]++, 0);
                got += e[i].pages;
                held[count++] = e[i];
            }
            assert_int_equal(got, want);
        } else if (count > 0) {
            int i = (int)prng_below(&p, (uint64_t)count);
            uint32_t before = pool.free_pages;
            buffer_release(&pool, held[i]);
            assert_int_equal(pool.free_pages, before);
            buffer_commit(&pool);
            assert_int_equal(pool.free_pages, before + held[i].pages);
            for (uint32_t k = 0; k < held[i].pages; k++)
                assert_int_equal(owner[held[i].first + k]--, 1);
            held[i] = held[--count];
        }
    }
    struct buffer_pool again;
    assert_int_equal(buffer_pool_open(&again, a, R_BUF), 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(buffer_claim(&again, held[i]), 0);
    assert_int_equal(again.free_pages, pool.free_pages);
    assert_memory_equal(again.free, pool.free, 300 / 8);
    if (count > 0)
        assert_int_equal(buffer_claim(&again, held[0]), ERR_INVAL);
    assert_int_equal(buffer_claim(&again, (struct extent){299, 2}), ERR_INVAL);
    buffer_pool_close(&again);
    buffer_pool_close(&pool);
    drop(a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_handles),
        cmocka_unit_test(rollback_is_the_last_commit),
        cmocka_unit_test(damaged_undo_is_refused),
        cmocka_unit_test(qualifying_names_the_reason),
        cmocka_unit_test(death_at_every_crash_point),
        cmocka_unit_test(shadow_finds_an_edit_without_edit),
        cmocka_unit_test(buffers_against_a_model),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
