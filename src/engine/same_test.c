/* SPDX-License-Identifier: Apache-2.0 */
/* Writes of what is there already: what they take, and that bytes decide. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/engine_world_test.h"

#define SIZE (3 * MIB)

static struct world *new_world(uint64_t seed, uint32_t table_sets) {
    struct world *w = world_open(&(struct world_options){.seed = seed,
                                                         .table_sets = table_sets,
                                                         .cache_bytes = MIB,
                                                         .buffer_pages = 6000,
                                                         .memtables = 6});
    world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    world_turn(w, WORLD_LIVES);
    return w;
}

/* Writes with the stamp that an earlier write had. */
static int write_stamp(struct world *w, uint64_t stamp, uint64_t offset, uint64_t length) {
    uint64_t stamps = w->stamps;
    w->stamps = stamp - 1;
    int q = world_ask(w, 0, REQUEST_WRITE, offset, length, 0);
    w->stamps = stamps;
    return q;
}

/* Pages of data that the log has taken. */
static uint64_t taken(struct world *w) {
    uint64_t pages = 0;
    for (struct segment_h h = segment_next(w->a, (struct segment_h){0}); h.v;
         h = segment_next(w->a, h))
        pages += segment_view(w->a, h)->blocks;
    return pages;
}

static uint64_t same(struct world *w) {
    return engine_counts(w->engine).same_blocks;
}

static void is_recorded_without_data(void **state) {
    struct world *w = new_world(1, 64);
    static const struct {
        uint64_t offset, length;
        int is_same;
    } cases[] = {
        {0, 4096, 1},          {4096, 64 * 4096, 1},
        {8192, 248 * 4096, 1}, {0, 249 * 4096, 0}, /* two records */
        {512, 4096, 0},                            /* parts of blocks */
        {4096, 4096 + 512, 0},
    };
    w->stamps = 1000;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t stamp = (w->stamps / 3 + 1) * 3 + 1; /* without zeroes */
        w->stamps = stamp - 1;
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, cases[i].offset, cases[i].length, 0), 0);
        uint64_t recorded = log_recorded(w->log), before = taken(w), were = same(w);
        for (int k = 0; k < 3; k++) {
            int q = write_stamp(w, stamp, cases[i].offset, cases[i].length);
            assert_int_equal(world_wait(w, q), 0);
            assert_int_equal(w->asked[q].sequence, log_recorded(w->log)); /* a moment each */
        }
        assert_true(log_recorded(w->log) >= recorded + 3);
        assert_int_equal(taken(w) == before, cases[i].is_same);
        assert_int_equal(same(w) - were, cases[i].is_same ? 3 * cases[i].length / 4096 : 0);
        world_check_volume(w, 0);
        if (i % 2)
            world_settle(w);
        world_forget_answered(w);
    }
    world_stop(w);
    world_check_volume(w, 0);
    world_power_cut(w);
    world_check_volume(w, 0);
    world_close(w);
}

/* At any stage, with what follows at once on the same blocks. */
static void engines_die_meanwhile(void **state) {
    struct world *w = new_world(2, 64);
    uint64_t stamp = 1000;
    w->stamps = stamp;
    for (int i = 0; i < 40; i++) {
        uint64_t offset = (uint64_t)(i % 4) * 4096;
        stamp = w->stamps + 1;
        world_do(w, 0, REQUEST_WRITE, offset, 8 * 4096, 0);
        if (i % 3 == 0)
            world_settle(w);
        int q[4] = {write_stamp(w, stamp, offset, 8 * 4096),
                    world_ask(w, 0, REQUEST_WRITE, offset + 4096, 512, 0),
                    write_stamp(w, stamp, offset, 8 * 4096),
                    world_ask(w, 0, REQUEST_TRIM, offset + 8192, 4096, 0)};
        world_turn(w, (enum world_stage)(i % 5));
        for (int k = 0; k < 4; k++)
            assert_int_equal(world_wait(w, q[k]), 0);
        world_check_volume(w, 0);
        world_forget_answered(w);
    }
    assert_true(w->deaths > 25);
    world_close(w);
}

/* What was recorded and cannot be seen yet counts. */
static void after_others_in_the_same_turn(void **state) {
    struct world *w = new_world(6, 64);
    w->stamps = 1000;
    world_do(w, 0, REQUEST_WRITE, 0, 8 * 4096, 0);
    for (int i = 0; i < 8; i++) {
        if (i % 2)
            world_settle(w);
        world_ask(w, 0, REQUEST_WRITE, 4096, 4096, 0);
        write_stamp(w, 1001, 0, 8 * 4096);
        world_wait_all(w);
        world_check_volume(w, 0);
    }
    world_close(w);
}

/* A change that CRC-32C does not see: its polynomial. */
static void bytes_decide(void **state) {
    static const uint8_t polynomial[] = {0xf1, 0x76, 0xec, 0x05, 0x01};
    struct world *w = new_world(3, 64);
    w->stamps = 1000;
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    world_settle(w);
    uint64_t before = taken(w);
    char path[40];
    uint64_t at = world_find_on_disk(w, 10, path);
    for (uint32_t i = 0; i < sizeof polynomial; i++)
        assert_int_equal(sim_corrupt(w->sim, path, at + 100 + i, polynomial[i]), 0);
    assert_int_equal(world_wait(w, write_stamp(w, 1001, 10 * 4096, 4096)), 0);
    assert_int_equal(engine_counts(w->engine).checks_failed, 0);
    assert_int_equal(taken(w), before + 1);
    assert_int_equal(same(w), 0);
    world_check_volume(w, 0);
    world_close(w);
}

static void what_cannot_be_read_is_written_anew(void **state) {
    struct world *w = new_world(4, 64);
    w->stamps = 1000;
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    world_settle(w);
    char path[40];
    uint64_t at = world_find_on_disk(w, 10, path);
    assert_int_equal(sim_corrupt(w->sim, path, at + 1000, 4), 0);
    assert_int_equal(world_wait(w, write_stamp(w, 1001, 9 * 4096, 3 * 4096)), 0);
    assert_int_equal(same(w), 0);
    assert_string_equal(w->alert, "block_damaged");
    world_check_volume(w, 0);
    world_close(w);
}

/* Without pages for what is read, or memory that knows the block, the data are recorded. */
static void what_is_not_known_is_not_compared(void **state) {
    struct world *w = new_world(5, 0);
    w->stamps = 1000;
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    uint64_t before = taken(w);
    assert_int_equal(world_wait(w, write_stamp(w, 1001, 0, 64 * 4096)), 0);
    assert_int_equal(taken(w), before + 64);
    assert_int_equal(
        engine_counts(w->engine).blocks_from_disk + engine_counts(w->engine).blocks_from_log, 0);
    world_close(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_recorded_without_data),
        cmocka_unit_test(engines_die_meanwhile),
        cmocka_unit_test(after_others_in_the_same_turn),
        cmocka_unit_test(bytes_decide),
        cmocka_unit_test(what_cannot_be_read_is_written_anew),
        cmocka_unit_test(what_is_not_known_is_not_compared),
    };
    return cmocka_run_group_tests_name("same", tests, NULL, NULL);
}
