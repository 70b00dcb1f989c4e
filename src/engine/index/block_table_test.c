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

#include "base/err.h"
#include "base/prng.h"
#include "engine/index/block_table.h"

#define SET_BYTES (TABLE_WAYS * (8u + 768u))
#define FAMILY 7u

struct fixture {
    struct arena arena;
    struct block_table t;
    struct arena_region_plan region;
    struct arena_plan plan;
};

static void make(struct fixture *f, uint32_t sets) {
    f->region = (struct arena_region_plan){REGION_BLOCK_TABLE, 1, sets * SET_BYTES, 4096};
    f->plan =
        (struct arena_plan){.regions = &f->region, .region_count = 1, .undo_bytes = 64 * 1024};
    uint64_t size = arena_plan_bytes(&f->plan);
    void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    assert_int_equal(arena_create(&f->arena, m, size, &f->plan), 0);
    atomic_store(&f->arena.live->phase, ARENA_SERVING);
    assert_int_equal(block_table_open(&f->t, &f->arena), 0);
}

static void attach_again(struct fixture *f) {
    void *base = f->arena.base;
    uint64_t size = f->arena.identity->size_bytes;
    block_table_close(&f->t);
    arena_detach(&f->arena);
    assert_int_equal(arena_attach(&f->arena, base, size, &f->plan), 0);
    assert_int_equal(block_table_open(&f->t, &f->arena), 0);
}

static void drop(struct fixture *f) {
    void *base = f->arena.base;
    uint64_t size = f->arena.identity->size_bytes;
    block_table_close(&f->t);
    arena_detach(&f->arena);
    munmap(base, size);
}

static struct block_place data(uint32_t n) {
    return (struct block_place){place_data(1 + n % 50, n % 16000 * 4096), n * 2654435761u};
}
static struct block_place nothing(enum place_kind kind) {
    return (struct block_place){.place = place_of_kind(kind)};
}

static void assert_entry(struct fixture *f, uint32_t timeline, uint64_t block,
                         struct block_place want) {
    uint32_t page = block_table_find(&f->t, timeline, chunk_of_block(block));
    struct block_place p;
    assert_int_not_equal(page, TABLE_NO_PAGE);
    assert_int_equal(block_table_get(&f->t, page, FAMILY, block, &p), place_kind(want.place));
    assert_true(p.place == want.place);
    if (place_kind(want.place) == PLACE_DATA)
        assert_int_equal(p.crc, want.crc);
}

static enum place_kind kind_at(struct fixture *f, uint32_t timeline, uint64_t block) {
    uint32_t page = block_table_find(&f->t, timeline, chunk_of_block(block));
    struct block_place p;
    return page == TABLE_NO_PAGE ? PLACE_UNKNOWN : block_table_get(&f->t, page, FAMILY, block, &p);
}

static void set(struct fixture *f, uint32_t timeline, uint64_t block, struct block_place p) {
    uint32_t page = block_table_make(&f->t, timeline, chunk_of_block(block));
    assert_int_not_equal(page, TABLE_NO_PAGE);
    block_table_set(&f->t, page, FAMILY, block, p);
}

static void entries_survive_an_attach(void **state) {
    struct fixture f;
    make(&f, 4);
    set(&f, 1, 5, data(9));
    set(&f, 1, 6, nothing(PLACE_ZERO));
    set(&f, 2, 5, nothing(PLACE_HOLE));
    attach_again(&f);
    assert_entry(&f, 1, 5, data(9));
    assert_entry(&f, 1, 6, nothing(PLACE_ZERO));
    assert_entry(&f, 2, 5, nothing(PLACE_HOLE));
    assert_int_equal(kind_at(&f, 1, 7), PLACE_UNKNOWN);
    assert_int_equal(kind_at(&f, 3, 5), PLACE_UNKNOWN);
    set(&f, 1, 5, nothing(PLACE_REFERENCE));
    assert_int_equal(kind_at(&f, 1, 5), PLACE_UNKNOWN);
    drop(&f);
}

static void zeroes_check_themselves(void **state) {
    struct fixture f;
    make(&f, 1);
    set(&f, 1, 5, nothing(PLACE_ZERO));
    uint32_t page = block_table_find(&f.t, 1, 0);
    struct block_place p;
    assert_int_equal(block_table_get(&f.t, page, FAMILY, 5, &p), PLACE_ZERO);
    assert_int_equal(block_table_get(&f.t, page, FAMILY + 1, 5, &p), PLACE_UNKNOWN);
    uint32_t *check = (void *)(f.t.pages + page * 768 + 512 + 5 * 4);
    *check ^= 1;
    assert_int_equal(block_table_get(&f.t, page, FAMILY, 5, &p), PLACE_UNKNOWN);
    *check ^= 1;
    uint64_t *place = (void *)(f.t.pages + page * 768 + 5 * 8);
    *place = place_of_kind(PLACE_HOLE);
    assert_int_equal(block_table_get(&f.t, page, FAMILY, 5, &p), PLACE_UNKNOWN);
    drop(&f);
}

static void a_fill_yields_to_a_write(void **state) {
    struct fixture f;
    make(&f, 1);
    uint32_t page = block_table_make(&f.t, 1, 0);
    struct table_pin pin = block_table_pin(&f.t, page);
    set(&f, 1, 5, data(2));
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 5, data(1)), 0);
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 6, data(3)), 1);
    block_table_unpin(&f.t, pin);
    assert_entry(&f, 1, 5, data(2));
    assert_entry(&f, 1, 6, data(3));
    drop(&f);
}

/* The entry is unknown again, but not in the way it was when the look-up began. */
static void a_fill_yields_to_a_write_that_was_forgotten(void **state) {
    struct fixture f;
    make(&f, 1);
    struct table_pin pin = block_table_pin(&f.t, block_table_make(&f.t, 1, 0));
    set(&f, 1, 5, data(2));
    block_table_forget(&f.t, 1, 5, data(1));
    assert_entry(&f, 1, 5, data(2));
    block_table_forget(&f.t, 1, 5, data(2));
    assert_int_equal(kind_at(&f, 1, 5), PLACE_UNKNOWN);
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 5, data(1)), 0);
    block_table_unpin(&f.t, pin);
    pin = block_table_pin(&f.t, block_table_make(&f.t, 1, 0));
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 5, data(2)), 1);
    block_table_unpin(&f.t, pin);
    drop(&f);
}

static void a_pinned_page_stays_or_is_dropped_for_good(void **state) {
    struct fixture f;
    make(&f, 1);
    struct table_pin pin = block_table_pin(&f.t, block_table_make(&f.t, 1, 0));
    for (uint32_t chunk = 1; chunk < 100; chunk++)
        assert_int_not_equal(block_table_make(&f.t, 1, chunk), TABLE_NO_PAGE);
    assert_int_equal(block_table_find(&f.t, 1, 0), pin.page);
    /* All eight pinned: there is no room. */
    struct table_pin others[7];
    uint32_t n = 0;
    for (uint32_t chunk = 1; chunk < 100; chunk++) {
        uint32_t page = block_table_find(&f.t, 1, chunk);
        if (page != TABLE_NO_PAGE)
            others[n++] = block_table_pin(&f.t, page);
    }
    assert_int_equal(n, 7);
    assert_int_equal(block_table_make(&f.t, 1, 1000), TABLE_NO_PAGE);
    while (n > 0)
        block_table_unpin(&f.t, others[--n]);
    /* A trim drops the page, a write makes it anew: the old look-up knows nothing of that. */
    block_table_drop(&f.t, 1, 0, 1);
    assert_int_equal(block_table_find(&f.t, 1, 0), TABLE_NO_PAGE);
    uint32_t page = block_table_make(&f.t, 1, 0);
    assert_int_not_equal(page, pin.page);
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 5, data(1)), 0);
    assert_int_equal(kind_at(&f, 1, 5), PLACE_UNKNOWN);
    block_table_unpin(&f.t, pin);
    drop(&f);
}

static void ranges_are_dropped(void **state) {
    for (uint64_t end = 3; end < UINT64_C(1) << 40; end *= 1000) {
        struct fixture f;
        make(&f, 64);
        for (uint32_t chunk = 0; chunk < 6; chunk++) {
            set(&f, 1, chunk * 64, data(chunk));
            set(&f, 2, chunk * 64, data(chunk));
        }
        block_table_drop(&f.t, 1, 2, end);
        for (uint32_t chunk = 0; chunk < 6; chunk++) {
            int gone = chunk >= 2 && chunk < end;
            assert_int_equal(kind_at(&f, 1, chunk * 64), gone ? PLACE_UNKNOWN : PLACE_DATA);
            assert_int_equal(kind_at(&f, 2, chunk * 64), PLACE_DATA);
        }
        drop(&f);
    }
}

static void what_does_not_fit_is_unknown(void **state) {
    struct fixture f;
    make(&f, 1);
    assert_int_equal(block_table_make(&f.t, 1, UINT64_C(1) << 32), TABLE_NO_PAGE);
    assert_int_equal(block_table_find(&f.t, 1, UINT64_C(1) << 32), TABLE_NO_PAGE);
    struct table_pin pin = block_table_pin(&f.t, TABLE_NO_PAGE);
    assert_int_equal(block_table_fill(&f.t, pin, FAMILY, 1, data(1)), 0);
    block_table_unpin(&f.t, pin);
    drop(&f);
}

/* Random sets and fills against "the last one set"; an entry is that or unknown. */
static void against_a_model(void **state) {
    enum { TIMELINES = 3, BLOCKS = 64 * 40 };
    struct fixture f;
    make(&f, 2);
    struct prng p = prng_seed(5);
    uint32_t *last = calloc((TIMELINES + 1) * BLOCKS, sizeof *last);
    uint64_t known = 0, unknown = 0;
    for (uint32_t n = 1; n < 100000; n++) {
        uint32_t timeline = 1 + (uint32_t)prng_below(&p, TIMELINES);
        uint64_t block = prng_below(&p, prng_one_in(&p, 2) ? BLOCKS : 200);
        uint32_t *model = &last[timeline * BLOCKS + block];
        switch (prng_below(&p, 4)) {
        case 0: {
            uint32_t page = block_table_make(&f.t, timeline, chunk_of_block(block));
            assert_int_not_equal(page, TABLE_NO_PAGE);
            block_table_set(&f.t, page, FAMILY, block, data(n));
            *model = n;
            break;
        }
        case 1:
            if (*model)
                block_table_forget(&f.t, timeline, block, data(*model));
            break;
        case 2: {
            struct table_pin pin =
                block_table_pin(&f.t, block_table_make(&f.t, timeline, chunk_of_block(block)));
            if (*model)
                block_table_fill(&f.t, pin, FAMILY, block, data(*model));
            block_table_unpin(&f.t, pin);
            break;
        }
        default:
            if (kind_at(&f, timeline, block) == PLACE_UNKNOWN) {
                unknown++;
            } else {
                assert_int_not_equal(*model, 0);
                assert_entry(&f, timeline, block, data(*model));
                known++;
            }
        }
        if (n % 9973 == 0)
            attach_again(&f);
    }
    assert_true(known > 1000 && unknown > 1000);
    free(last);
    drop(&f);
}

/* A process that dies at the n-th store, for every n: what its successor finds is what was last
 * set, what was being set, or unknown. */
static void death_at_every_store(void **state) {
    enum { CHUNKS = 24, SETS = 120 };
    int finished = 0, deaths = 0;
    for (uint64_t n = 1; !finished; n++) {
        struct fixture f;
        make(&f, 1);
        uint32_t *begun =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            f.arena.crash_after = n;
            for (uint32_t i = 0; i < SETS; i++) {
                *begun = i;
                set(&f, 1, i % CHUNKS * 64 + i % 3, data(i));
            }
            *begun = SETS;
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        finished = WIFEXITED(status);
        deaths += !finished;
        attach_again(&f);
        for (uint32_t slot = 0; slot < CHUNKS; slot++)
            for (uint32_t b = 0; b < 3; b++) {
                uint32_t now = 0;
                int any = 0;
                for (uint32_t i = 0; i < *begun; i++)
                    if (i % CHUNKS == slot && i % 3 == b) {
                        now = i;
                        any = 1;
                    }
                int being_set = *begun < SETS && *begun % CHUNKS == slot && *begun % 3 == b;
                uint32_t page = block_table_find(&f.t, 1, slot);
                struct block_place q;
                if (page == TABLE_NO_PAGE ||
                    block_table_get(&f.t, page, FAMILY, slot * 64 + b, &q) == PLACE_UNKNOWN)
                    continue;
                int is_now = any && q.place == data(now).place && q.crc == data(now).crc;
                int is_new =
                    being_set && q.place == data(*begun).place && q.crc == data(*begun).crc;
                assert_true(is_now || is_new);
            }
        munmap(begun, 4096);
        drop(&f);
    }
    assert_true(deaths > 500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_survive_an_attach),
        cmocka_unit_test(zeroes_check_themselves),
        cmocka_unit_test(a_fill_yields_to_a_write),
        cmocka_unit_test(a_fill_yields_to_a_write_that_was_forgotten),
        cmocka_unit_test(a_pinned_page_stays_or_is_dropped_for_good),
        cmocka_unit_test(ranges_are_dropped),
        cmocka_unit_test(what_does_not_fit_is_unknown),
        cmocka_unit_test(against_a_model),
        cmocka_unit_test(death_at_every_store),
    };
    return cmocka_run_group_tests_name("block_table", tests, NULL, NULL);
}
