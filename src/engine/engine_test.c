/* SPDX-License-Identifier: Apache-2.0 */
/* One rule of the request path a test; the rules together are the oracle's (engine_oracle_test.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/engine_world_test.h"

#define SIZE (3 * MIB + 3 * SECTOR_BYTES)

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

static void what_is_refused(void **state) {
    struct world *w = new_world(1, 4);
    uint32_t ro = world_volume(w, world_line(w, 0, 0), 2 * MIB, 4096, VOLUME_READ_ONLY);
    uint32_t lost = world_volume(w, world_line(w, 0, 0), MIB, 512, 0);
    uint32_t gone = world_volume(w, world_line(w, 0, 0), MIB, 512, 0);
    world_edit_volume(w, lost)->slot.state = VOLUME_LOST;
    world_edit_volume(w, gone)->slot.state = VOLUME_LEAVING;
    world_turn(w, WORLD_LIVES);
    const struct {
        uint32_t volume;
        uint8_t op;
        uint64_t offset, length;
        int err;
    } cases[] = {
        {0, REQUEST_READ, SIZE - 512, 512, 0},
        {0, REQUEST_READ, SIZE - 512, 1024, ERR_RANGE},
        {0, REQUEST_WRITE, SIZE, 512, ERR_RANGE},
        {0, REQUEST_TRIM, SIZE + 512, 512, ERR_RANGE},
        {0, REQUEST_READ, UINT64_MAX - 511, 512, ERR_RANGE},
        {0, REQUEST_READ, 100, 512, ERR_INVAL},
        {0, REQUEST_ZERO, 512, 100, ERR_INVAL},
        {0, REQUEST_READ, 512, 0, 0},
        {0, REQUEST_WRITE, 0, 0, 0},
        {0, 99, 0, 512, ERR_UNSUPPORTED},
        {ro, REQUEST_READ, 0, 4096, 0},
        {ro, REQUEST_READ, 512, 4096, ERR_INVAL},
        {ro, REQUEST_WRITE, 0, 4096, ERR_READONLY},
        {ro, REQUEST_TRIM, 0, 4096, ERR_READONLY},
        {ro, REQUEST_ZERO, 0, 4096, ERR_READONLY},
        {ro, REQUEST_FLUSH, 0, 0, 0},
        {lost, REQUEST_READ, 0, 512, ERR_INTEGRITY},
        {gone, REQUEST_READ, 0, 512, ERR_SHUTDOWN},
        {gone, REQUEST_FLUSH, 0, 0, 0},
    };
    uint64_t recorded = log_recorded(w->log);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(
            world_do(w, cases[i].volume, cases[i].op, cases[i].offset, cases[i].length, 0),
            cases[i].err);
    assert_int_equal(log_recorded(w->log), recorded);
    world_close(w);
}

/* Whoever asks for durability is answered when the log is durable; others at once. */
static void durability_is_waited_for(void **state) {
    struct world *w = new_world(2, 4);
    uint32_t durable = world_volume(w, world_line(w, 0, 0), MIB, 512, VOLUME_DURABLE_WRITES);
    world_do(w, 0, REQUEST_WRITE, 0, 4096, 0); /* the log has a segment now */
    world_settle(w);
    int plain = world_ask(w, 0, REQUEST_WRITE, 0, 4096, 0);
    int fua = world_ask(w, 0, REQUEST_WRITE, 8192, 4096, REQUEST_FUA);
    int always = world_ask(w, durable, REQUEST_ZERO, 8192, 4096, 0);
    int flush = world_ask(w, 0, REQUEST_FLUSH, 0, 0, 0);
    world_turn(w, WORLD_LIVES);
    assert_int_equal(w->asked[plain].state, ASKED_ANSWERED);
    assert_int_equal(w->asked[fua].state, ASKED_OPEN);
    assert_int_equal(w->asked[always].state, ASKED_OPEN);
    assert_int_equal(w->asked[flush].state, ASKED_OPEN);
    assert_int_equal(request_view(w->a, w->asked[fua].h)->slot.state, REQUEST_APPLIED);
    world_kill(w); /* what waits goes on waiting */
    const int waiting[] = {fua, always, flush};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world_wait(w, waiting[i]), 0);
        assert_true(log_durable(w->log) >= w->asked[waiting[i]].sequence);
        assert_false(w->asked[waiting[i]].replayed); /* it was done before */
    }
    assert_true(w->asked[flush].sequence >= w->asked[always].sequence);
    /* Nothing new: a flush is answered at once. */
    int again = world_ask(w, 0, REQUEST_FLUSH, 0, 0, 0);
    world_turn(w, WORLD_LIVES);
    assert_int_equal(w->asked[again].state, ASKED_ANSWERED);
    world_close(w);
}

static uint64_t counted(struct world *w, uint32_t volume, enum activity_counter c) {
    uint64_t n = 0, id = volume_view(w->a, w->volume[volume])->id;
    for (struct activity_h h = activity_next(w->a, (struct activity_h){0}); h.v;
         h = activity_next(w->a, h))
        if (activity_view(w->a, h)->volume_id == id)
            n += activity_view(w->a, h)->counted[c];
    return n;
}

/* Each request once, over deaths at any stage; of what was there before, as far as memory knows. */
static void what_clients_do_is_counted(void **state) {
    struct world *w = new_world(31, 64);
    uint32_t image = world_volume(w, world_line(w, 0, 0), MIB, 512, VOLUME_IMAGE);
    world_edit_volume(w, 0)->id = 7;
    world_edit_volume(w, image)->id = 8;
    world_do(w, image, REQUEST_WRITE, 0, 4096, 0);
    uint64_t times = 0;
    for (uint32_t i = 0; i < 60; i++) {
        int q[4] = {world_ask(w, 0, REQUEST_WRITE, 4096 * i, 8192, 0),
                    world_ask(w, 0, REQUEST_WRITE, MIB + 512, 1024, 0),
                    world_ask(w, 0, REQUEST_TRIM, 2 * MIB, 8192, 0),
                    world_ask(w, 0, REQUEST_ZERO, 2 * MIB + 512, 8192, 0)};
        world_turn(w, (enum world_stage)(i % 5));
        times += i % 5 != WORLD_DIES_BEFORE_COMMIT; /* else nobody has asked */
        for (int k = 0; k < 4; k++)
            assert_int_equal(world_wait(w, q[k]), 0);
        world_forget_answered(w);
        if (i == 30)
            world_settle(w);
    }
    assert_true(w->deaths > 40);
    assert_int_equal(counted(w, 0, ACTIVITY_writes), 2 * times);
    assert_int_equal(counted(w, 0, ACTIVITY_write_bytes), times * (8192 + 1024));
    assert_int_equal(counted(w, 0, ACTIVITY_trims), times);
    assert_int_equal(counted(w, 0, ACTIVITY_trim_bytes), times * 8192);
    assert_int_equal(counted(w, 0, ACTIVITY_zeroes), times);
    assert_int_equal(counted(w, 0, ACTIVITY_zero_bytes), times * 8192);
    assert_in_range(counted(w, 0, ACTIVITY_recorded_bytes), times * (4096 + 2 * 4096),
                    times * (8192 + 4096 + 2 * 4096)); /* some of them are zeroes */
    /* The first block of each but the first write, the edges, and the block that is written in part. */
    assert_in_range(counted(w, 0, ACTIVITY_overwritten_bytes), (times - 1) * 4096 * 2,
                    (times - 1) * (4096 + 4096 + 2 * 4096));
    assert_int_equal(counted(w, 0, ACTIVITY_flushes), 0);
    assert_int_equal(counted(w, 0, ACTIVITY_reread_bytes), 0);
    assert_in_range(counted(w, 0, ACTIVITY_packed_bytes), 1, counted(w, 0, ACTIVITY_sampled_bytes));
    world_do(w, 0, REQUEST_FLUSH, 0, 0, 0);
    world_do(w, 0, REQUEST_READ, 0, MIB, 0);
    world_do(w, 0, REQUEST_WRITE, 4096, 512, 0);
    assert_int_equal(counted(w, 0, ACTIVITY_flushes), 1);
    assert_int_equal(counted(w, 0, ACTIVITY_reread_bytes), 4096);
    assert_int_equal(counted(w, image, ACTIVITY_writes), 0);
    world_close(w);
}

static uint64_t allocated(struct world *w, uint64_t offset, uint64_t length) {
    uint64_t bytes = 0;
    world_forget_answered(w);
    int q = world_ask(w, 0, REQUEST_BLOCK_STATUS, offset, length, 0);
    assert_int_equal(world_wait(w, q), 0);
    for (uint32_t i = 0; i < w->asked[q].extent_count; i++)
        bytes += w->asked[q].extents[i].status & REQUEST_STATUS_ZERO
                     ? 0
                     : w->asked[q].extents[i].length_bytes;
    return bytes;
}

/* A request of nothing but zeroes takes no data, and so do runs of them in others; fewer in a row do. */
static void zeroes_take_no_room(void **state) {
    struct world *w = new_world(32, 64);
    static const struct {
        uint64_t stamp, offset, length, allocated; /* on blocks that had data */
    } cases[] = {
        {9, 0, 8 * 4096, 0},                          /* 1: eight blocks, all zero */
        {9, 4096, 4096, 0},                           /* 2: one */
        {9, 0, 3 * 8 * 4096, 8 * 4096},               /* 3: zeroes, data, zeroes */
        {9, 32768 - 4096, 10 * 4096, 10 * 4096},      /* 4: one zero, data, one zero */
        {3, 0, 64 * 4096, 64 * 4096},                 /* 5: every other block is zero */
        {9, 512, 512, 4096},                          /* 6: a part of a block of data */
        {9, 32768 - 512, 8 * 4096 + 1024, 10 * 4096}, /* 7 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t first = cases[i].offset / 4096 * 4096;
        uint64_t end = (cases[i].offset + cases[i].length + 4095) / 4096 * 4096;
        w->stamps = 3000 * i;
        world_do(w, 0, REQUEST_WRITE, first, end - first, 0);
        w->stamps = cases[i].stamp - 1;
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, cases[i].offset, cases[i].length, 0), 0);
        assert_int_equal(allocated(w, first, end - first), cases[i].allocated);
        w->stamps = 3000 * i;
        world_do(w, 0, REQUEST_READ, first, end - first, 0);
        if (i % 2)
            world_kill(w);
    }
    world_close(w);
}

static void what_was_under_way_is_flagged(void **state) {
    struct world *w = new_world(3, 0);
    world_do(w, 0, REQUEST_WRITE, 0, MIB, 0);
    world_settle(w);
    uint32_t replayed = 0;
    for (int i = 0; i < 20; i++) {
        int partial = world_ask(w, 0, REQUEST_WRITE, 512 + (uint64_t)i * 8192, 1024, 0);
        world_turn(w, WORLD_DIES_AFTER_OUTPUTS);
        world_wait(w, partial);
        replayed += (uint32_t)w->asked[partial].replayed;
    }
    assert_true(replayed > 3);
    world_wait_all(w);
    world_check_volume(w, 0);
    world_close(w);
}

/* A bad block is reported and never returned; its neighbours are readable, and a write of part of it
 * fails and changes nothing. */
static void a_bad_block_is_told(void **state) {
    struct world *w = new_world(4, 16);
    char path[40];
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    world_settle(w);
    uint64_t at = world_find_on_disk(w, 10, path);
    assert_int_equal(sim_corrupt(w->sim, path, at + 1000, 4), 0);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 10 * 4096, 4096, 0), ERR_INTEGRITY);
    assert_string_equal(w->alert, "block_damaged");
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 64 * 4096, 0), ERR_INTEGRITY);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 10 * 4096, 0), 0);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 11 * 4096, 20 * 4096, 0), 0);
    uint64_t recorded = log_recorded(w->log);
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 10 * 4096 + 512, 512, 0), ERR_INTEGRITY);
    assert_int_equal(world_do(w, 0, REQUEST_ZERO, 10 * 4096, 512, 0), ERR_INTEGRITY);
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 9 * 4096, 4096 + 512, 0), ERR_INTEGRITY);
    assert_int_equal(log_recorded(w->log), recorded);
    /* Whole blocks over it heal it. */
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 10 * 4096, 4096, 0), 0);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 64 * 4096, 0), 0);
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 10 * 4096 + 512, 512, 0), 0);
    world_check_volume(w, 0);
    world_close(w);
}

/* The block table is no truth: an entry that leads elsewhere is found out by the checksum, and the index
 * asked. */
static void a_wrong_entry_is_found_out(void **state) {
    struct world *w = new_world(5, 16);
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    world_do(w, 0, REQUEST_WRITE, 5 * 4096, 4096, 0);
    world_settle(w);
    for (int i = 0; i < 3; i++) {
        uint64_t *places = NULL;
        unsigned char *region = w->a->regions[REGION_BLOCK_TABLE];
        uint64_t keys = 16 * 8, key = (uint64_t)world_volume_line(w, 0) << 32;
        for (uint64_t k = 0; k < keys; k++)
            if (((uint64_t *)(void *)region)[k] == key)
                places = (void *)(region + keys * 8 + k * 768);
        assert_non_null(places);
        places[5] = i == 0 ? places[6] : i == 1 ? place_data(4000, 4096) : places[5] + 3;
        uint64_t failed = engine_counts(w->engine).checks_failed;
        assert_int_equal(world_do(w, 0, REQUEST_READ, 4 * 4096, 3 * 4096, 0), 0);
        assert_int_equal(engine_counts(w->engine).checks_failed > failed, i != 1);
        failed = engine_counts(w->engine).checks_failed;
        assert_int_equal(world_do(w, 0, REQUEST_READ, 4 * 4096, 3 * 4096, 0), 0);
        assert_int_equal(engine_counts(w->engine).checks_failed, failed);
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, 5 * 4096 + 512, 512, 0), 0);
        assert_int_equal(world_do(w, 0, REQUEST_READ, 4 * 4096, 3 * 4096, 0), 0);
        world_settle(w);
    }
    assert_int_equal(w->alerts, 0);
    world_close(w);
}

/* A bit that was flipped on the way is read again. */
static void a_passing_error_passes(void **state) {
    struct world *w = new_world(6, 16);
    char path[40];
    world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
    world_settle(w);
    uint64_t at = world_find_on_disk(w, 10, path);
    struct sim_fault fault = {
        .path = path, .kind = SIM_READ_FLIPS, .offset_bytes = at, .bytes = 4096, .count = 1};
    sim_fault_add(w->sim, &fault);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 64 * 4096, 0), 0);
    assert_int_equal(sim_fault_hits(w->sim), 1);
    assert_int_equal(engine_counts(w->engine).checks_failed, 1);
    sim_fault_clear(w->sim);
    struct sim_fault fails = {
        .path = path, .kind = SIM_READ_FAILS, .offset_bytes = at, .bytes = 4096};
    sim_fault_add(w->sim, &fails);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 64 * 4096, 0), ERR_IO);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 8 * 4096, 0), 0);
    sim_fault_clear(w->sim);
    assert_int_equal(world_do(w, 0, REQUEST_READ, 0, 64 * 4096, 0), 0);
    world_close(w);
}

/* A block that has to be read again is still of the moment of the others, whatever is written meanwhile. */
static void what_is_read_again_is_of_the_same_moment(void **state) {
    uint32_t overtaken = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = new_world(seed, 16);
        char path[40];
        world_do(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
        world_settle(w);
        uint64_t at = world_find_on_disk(w, 10, path);
        struct sim_fault fault = {
            .path = path, .kind = SIM_READ_FLIPS, .offset_bytes = at, .bytes = 4096, .count = 1};
        sim_fault_add(w->sim, &fault);
        int read = world_ask(w, 0, REQUEST_READ, 0, 64 * 4096, 0);
        world_turn(w, WORLD_LIVES);
        int write = world_ask(w, 0, REQUEST_WRITE, 0, 64 * 4096, 0);
        world_turn(w, WORLD_LIVES);
        overtaken += w->asked[read].state == ASKED_OPEN && w->asked[write].state != ASKED_OPEN;
        assert_int_equal(world_wait(w, read), 0);
        assert_int_equal(engine_counts(w->engine).checks_failed, 1);
        world_wait_all(w);
        world_close(w);
    }
    assert_true(overtaken > 3);
}

static void status_tells_data_zeroes_and_holes(void **state) {
    struct world *w = new_world(7, 4);
    const uint64_t b = 4096;
    world_do(w, 0, REQUEST_WRITE, 10 * b, 10 * b, 0);
    world_do(w, 0, REQUEST_ZERO, 15 * b, 100 * b, 0);
    world_do(w, 0, REQUEST_TRIM, 100 * b, 50 * b, 0);
    world_do(w, 0, REQUEST_WRITE, 300 * b + 512, 512, 0);
    const struct {
        uint64_t offset, length;
        uint32_t flags, count;
        struct request_status_extent x[5];
    } cases[] = {
        {0, SIZE, 0, 5, {{10 * b, 3}, {5 * b, 0}, {85 * b, 2}, {200 * b, 3}, {b, 0}}},
        {0, 20 * b, 0, 3, {{10 * b, 3}, {5 * b, 0}, {5 * b, 2}}},
        {0, 20 * b, REQUEST_STATUS_ONE, 1, {{10 * b, 3}}},
        {12 * b + 512, 1024, 0, 1, {{1024, 0}}},
        {14 * b + 512, b, 0, 2, {{b - 512, 0}, {512, 2}}},
        {SIZE - 512, 512, 0, 1, {{512, 3}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int q =
            world_ask(w, 0, REQUEST_BLOCK_STATUS, cases[i].offset, cases[i].length, cases[i].flags);
        assert_int_equal(world_wait(w, q), 0);
        assert_true(w->asked[q].extent_count >= cases[i].count);
        for (uint32_t x = 0; x < cases[i].count; x++) {
            assert_int_equal(w->asked[q].extents[x].length_bytes, cases[i].x[x].length_bytes);
            assert_int_equal(w->asked[q].extents[x].status, cases[i].x[x].status);
        }
    }
    /* More extents than fit: as many as fit, and the sum is what they cover. */
    for (uint64_t i = 0; i < 300; i++)
        world_do(w, 0, REQUEST_WRITE, i * 2 * b, b, 0);
    int q = world_ask(w, 0, REQUEST_BLOCK_STATUS, 0, SIZE, 0);
    assert_int_equal(world_wait(w, q), 0);
    assert_int_equal(w->asked[q].extent_count, 256);
    world_close(w);
}

/* Places, changes since a moment and versions: alone, and all of them; and moments that cannot be had. */
static void status_tells_what_was_written_when(void **state) {
    enum {
        C = REQUEST_STATUS_CHANGES,
        V = REQUEST_STATUS_VERSIONS,
        N = REQUEST_STATUS_NO_PLACES,
        ONE = REQUEST_STATUS_ONE
    };
    struct world *w = new_world(9, 4);
    const uint64_t b = 4096;
    uint64_t at[4];
    world_do(w, 0, REQUEST_WRITE, 10 * b, 10 * b, 0);
    at[0] = log_recorded(w->log);
    world_do(w, 0, REQUEST_TRIM, 15 * b, 100 * b, 0);
    at[1] = log_recorded(w->log);
    world_do(w, 0, REQUEST_WRITE, 12 * b + 512, 512, 0);
    at[2] = log_recorded(w->log);
    const struct {
        uint32_t flags;
        uint64_t since, offset, length;
        uint32_t counts[3];
        struct request_status_extent x[8];
    } cases[] = {
        {N | C, at[0], 0, 20 * b, {0, 4, 0}, {{12 * b, 0}, {b, 1}, {2 * b, 0}, {5 * b, 1}}},
        {N | C, at[1], 0, 20 * b, {0, 3, 0}, {{12 * b, 0}, {b, 1}, {7 * b, 0}}},
        {N | C, at[2], 0, SIZE, {0, 1, 0}, {{SIZE, 0}}},
        {N | C | ONE, at[0], 12 * b + 1024, 8 * b, {0, 1, 0}, {{b - 1024, 1}}},
        {N | V,
         0,
         0,
         20 * b,
         {0, 0, 5},
         {{10 * b, 0}, {2 * b, at[0]}, {b, at[2]}, {2 * b, at[0]}, {5 * b, at[1]}}},
        {C,
         at[1],
         10 * b,
         10 * b,
         {2, 3},
         {{5 * b, 0}, {5 * b, 3}, {2 * b, 0}, {b, 1}, {7 * b, 0}}},
        {C | V | ONE, at[1], 9 * b, 2 * b, {1, 1, 1}, {{b, 3}, {b, 0}, {b, 0}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w->since = cases[i].since;
        int q =
            world_ask(w, 0, REQUEST_BLOCK_STATUS, cases[i].offset, cases[i].length, cases[i].flags);
        assert_int_equal(world_wait(w, q), 0);
        for (uint32_t k = 0, x = 0; k < REQUEST_STATUS_KINDS; k++) {
            assert_int_equal(w->asked[q].counts[k], cases[i].counts[k]);
            for (uint32_t n = 0; n < cases[i].counts[k]; n++, x++) {
                assert_int_equal(w->asked[q].extents[x].length_bytes, cases[i].x[x].length_bytes);
                assert_int_equal(w->asked[q].extents[x].status, cases[i].x[x].status);
            }
        }
    }
    /* What was taken back is no past of what is shown; nor is what comes after an image's moment. */
    world_hold(w, 0);
    uint32_t line = world_line(w, world_volume_line(w, 0), at[0]);
    world_edit_volume(w, 0)->timeline = ancestry_slot(w->ancestries, line);
    world_release(w, 0);
    world_do(w, 0, REQUEST_WRITE, 0, b, 0);
    at[3] = log_recorded(w->log);
    const struct {
        uint64_t since, oldest;
        int err;
        uint32_t changed;
    } moments[] = {{at[0], 0, 0, 1},           {at[3], 0, 0, 0},     {at[1], 0, ERR_CHANGED, 0},
                   {at[2], 0, ERR_CHANGED, 0}, {at[0], at[0], 0, 1}, {at[0], at[1], ERR_RANGE, 0}};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        w->since = moments[i].since;
        world_edit_volume(w, 0)->oldest_sequence = moments[i].oldest;
        int q = world_ask(w, 0, REQUEST_BLOCK_STATUS, 0, SIZE, N | C);
        assert_int_equal(world_wait(w, q), moments[i].err);
        if (moments[i].err == 0)
            assert_int_equal(w->asked[q].extents[0].status, moments[i].changed);
    }
    world_close(w);
}

static void a_held_volume_begins_nothing(void **state) {
    struct world *w = new_world(8, 0);
    world_do(w, 0, REQUEST_WRITE, 0, MIB, 0);
    world_settle(w);
    int begun = world_ask(w, 0, REQUEST_WRITE, 512, 512, 0); /* reads an old block first */
    int other = -1;
    uint32_t v2 = world_volume(w, world_line(w, 0, 0), MIB, 512, 0);
    world_edit_volume(w, 0)->slot.state = VOLUME_HELD;
    int waits = world_ask(w, 0, REQUEST_WRITE, 8192, 4096, 0);
    int reads = world_ask(w, 0, REQUEST_READ, 0, 4096, 0);
    int flush = world_ask(w, 0, REQUEST_FLUSH, 0, 0, 0);
    for (int i = 0; i < 200; i++)
        world_step(w);
    other = world_ask(w, v2, REQUEST_WRITE, 0, 4096, 0);
    world_wait(w, other);
    assert_int_equal(w->asked[begun].state, ASKED_ANSWERED);
    assert_int_equal(w->asked[flush].state, ASKED_ANSWERED);
    assert_int_equal(w->asked[waits].state, ASKED_OPEN);
    assert_int_equal(w->asked[reads].state, ASKED_OPEN);
    assert_true(engine_is_quiet(w->engine, w->volume[0]));
    world_turn(w, WORLD_DIES_BEFORE_COMMIT);
    for (int i = 0; i < 200; i++)
        world_step(w);
    assert_int_equal(w->asked[waits].state, ASKED_OPEN);
    assert_true(engine_is_quiet(w->engine, w->volume[0]));
    world_release(w, 0);
    assert_int_equal(world_wait(w, waits), 0);
    assert_int_equal(world_wait(w, reads), 0);
    world_close(w);
}

/* A write of which some records are in the log when the process dies goes on in the next one, held or not: what
 * is to happen to a quiet volume comes after it. */
static void a_held_volume_ends_what_it_began(void **state) {
    struct world *w = world_open(&(struct world_options){.seed = 15,
                                                         .table_sets = 4,
                                                         .cache_bytes = MIB,
                                                         .buffer_pages = 6000,
                                                         .records_per_turn = 1,
                                                         .memtables = 6});
    world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    world_turn(w, WORLD_LIVES);
    int i = world_ask(w, 0, REQUEST_WRITE, 0, 3 * MIB, 0);
    while (request_view(w->a, w->asked[i].h)->progress == 0)
        world_step(w);
    world_edit_volume(w, 0)->slot.state = VOLUME_HELD;
    world_turn(w, WORLD_DIES_AFTER_COMMIT);
    assert_in_range(request_view(w->a, w->asked[i].h)->progress, 1, 3 * MIB - 1);
    assert_false(engine_is_quiet(w->engine, w->volume[0]));
    assert_true(engine_is_quiet(w->engine, w->volume[1]));
    assert_int_equal(world_wait(w, i), 0);
    assert_true(engine_is_quiet(w->engine, w->volume[0]));
    world_close(w);
}

/* A write of which some records are in the log when the process dies needs old bytes at its end, and they cannot
 * be read any more: it fails, and others are recorded again. */
static void a_write_that_cannot_be_ended_holds_up_no_other(void **state) {
    struct world *w = world_open(&(struct world_options){.seed = 16,
                                                         .table_sets = 4,
                                                         .cache_bytes = MIB,
                                                         .buffer_pages = 6000,
                                                         .records_per_turn = 1,
                                                         .memtables = 6});
    world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    world_turn(w, WORLD_LIVES);
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 2 * MIB, MIB, 0), 0);
    world_settle(w);
    int i = world_ask(w, 0, REQUEST_WRITE, 0, 2 * MIB + SECTOR_BYTES, 0);
    do
        world_step(w);
    while (request_view(w->a, w->asked[i].h)->progress == 0);
    struct sim_fault fault = {.kind = SIM_READ_FAILS};
    sim_fault_add(w->sim, &fault);
    world_kill(w);
    assert_in_range(request_view(w->a, w->asked[i].h)->progress, 1, 2 * MIB - 1);
    assert_int_equal(world_wait(w, i), ERR_IO);
    sim_fault_clear(w->sim);
    assert_true(engine_is_quiet(w->engine, w->volume[0]));
    assert_int_equal(world_do(w, 0, REQUEST_WRITE, 0, MIB, REQUEST_FUA), 0);
    world_check_volume(w, 0);
    world_close(w);
}

/* A store that is full: writes fail cleanly, whether at their first record or later; reads go on, and so
 * do other writes when there is room for them. */
static void a_full_store(void **state) {
    int in_part = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *w = world_open(&(struct world_options){.seed = seed,
                                                             .table_sets = 4,
                                                             .cache_bytes = MIB,
                                                             .buffer_pages = 6000,
                                                             .memtables = 6,
                                                             .max_bytes = 4 * WORLD_SEGMENT_BYTES});
        uint64_t length = MIB + seed * 200 * KIB;
        int err = 0;
        world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
        world_turn(w, WORLD_LIVES);
        w->ignore_data = 1;
        for (int i = 0; i < 100 && err == 0; i++)
            err = world_do(w, 0, REQUEST_WRITE, 0, length, 0);
        assert_int_equal(err, ERR_NOSPC);
        in_part += engine_recorded_whole(w->engine) < log_recorded(w->log);
        assert_int_equal(world_do(w, 0, REQUEST_READ, 0, MIB, 0), 0);
        assert_int_equal(world_do(w, 0, REQUEST_FLUSH, 0, 0, 0), 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(world_do(w, 0, REQUEST_WRITE, 0, length, 0), ERR_NOSPC);
        uint64_t whole = engine_recorded_whole(w->engine);
        world_kill(w);
        assert_int_equal(engine_recorded_whole(w->engine), whole);
        assert_int_equal(world_do(w, 0, REQUEST_READ, 0, MIB, 0), 0);
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, 0, 2 * MIB, 0), ERR_NOSPC);
        world_close(w);
    }
    assert_true(in_part > 0);
}

/* Clients bring more than there are pages for. Those that wait for a page do not keep it from the log, from
 * look-ups and from old blocks, for which the others wait. */
static void clients_want_all_pages(void **state) {
    struct world *w = world_open(&(struct world_options){
        .seed = 9, .cache_bytes = 9000, .buffer_pages = 44, .memtables = 6});
    world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    world_turn(w, WORLD_LIVES);
    for (uint64_t i = 0; i < 400; i++)
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, i * BLOCK_BYTES, BLOCK_BYTES, 0), 0);
    world_settle(w);
    for (uint64_t round = 0; round < 20; round++) {
        uint32_t asked = 0;
        world_hold(w, 0); /* so that all of them wait at once */
        for (uint64_t i = 0; i < WORLD_REQUESTS; i++) {
            uint64_t part = (i + round) % 3 * SECTOR_BYTES;
            asked += world_ask(w, 0, REQUEST_WRITE, (i * 6 + round) * BLOCK_BYTES + part,
                               BLOCK_BYTES - part, 0) >= 0;
        }
        assert_in_range(asked, 5, WORLD_REQUESTS - 1);
        world_release(w, 0);
        world_wait_all(w);
    }
    world_settle(w);
    world_close(w);
}

/* Planted: a block is written while its look-up is under way and its page of the block table is thrown
 * out; what is read afterwards is what was written. */
static void a_write_during_an_unknown_look_up(void **state) {
    uint32_t overtaken = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world *w = world_open(&(struct world_options){.seed = seed,
                                                             .table_sets = 1,
                                                             .cache_bytes = 4096,
                                                             .buffer_pages = 6000,
                                                             .memtables = 6});
        world_volume(w, world_line(w, 0, 0), 64 * MIB, 512, 0);
        world_turn(w, WORLD_LIVES);
        for (uint64_t i = 0; i < 300; i++) /* more records than a segment takes */
            world_do(w, 0, REQUEST_WRITE, (i < 40 ? i : 40 + i % 20) * 256 * KIB, 4096, 0);
        world_settle(w);
        for (uint64_t round = 0; round < 20; round++) {
            uint64_t at = round * 256 * KIB;
            world_kill(w);
            for (int i = 0; i < 20; i++) /* until look-ups do not wait for what runs there are */
                world_step(w);
            uint64_t reads =
                index_counts(w->index).directory_reads + index_counts(w->index).leaf_reads;
            int read = world_ask(w, 0, REQUEST_READ, at, 4096, 0);
            int looks =
                index_counts(w->index).directory_reads + index_counts(w->index).leaf_reads > reads;
            int write = world_ask(w, 0, REQUEST_WRITE, at, 4096, 0);
            for (uint64_t i = 40; i < 50; i++)
                world_ask(w, 0, REQUEST_WRITE, i * 256 * KIB, 4096, 0);
            world_turn(w, WORLD_LIVES);
            overtaken +=
                looks && w->asked[read].state == ASKED_OPEN && w->asked[write].state != ASKED_OPEN;
            world_wait_all(w);
            assert_int_equal(world_do(w, 0, REQUEST_READ, at, 4096, 0), 0);
        }
        world_close(w);
    }
    assert_true(overtaken > 20);
}

/* Who reads in order is read ahead of, by no more than a few MiB and not beyond the end; others are
 * not. */
static void reading_ahead(void **state) {
    struct world *w = world_open(&(struct world_options){
        .seed = 3, .table_sets = 64, .cache_bytes = MIB, .buffer_pages = 6000, .memtables = 6});
    uint64_t size = 12 * MIB;
    world_volume(w, world_line(w, 0, 0), size, 512, 0);
    world_turn(w, WORLD_LIVES);
    for (uint64_t at = 0; at < size; at += 128 * KIB)
        assert_int_equal(world_do(w, 0, REQUEST_WRITE, at, 128 * KIB, 0), 0);
    for (uint64_t i = 0; i < 300; i++) /* so that what was written is sealed */
        world_do(w, 0, REQUEST_WRITE, size - BLOCK_BYTES, 512, 0);
    world_settle(w);
    for (uint64_t i = 0; i < 200; i++)
        world_do(w, 0, REQUEST_READ, i * 7919 % (size / BLOCK_BYTES) * BLOCK_BYTES, BLOCK_BYTES, 0);
    assert_int_equal(engine_counts(w->engine).advised_blocks, 0);
    uint64_t blocks = size / BLOCK_BYTES, before = 0;
    for (uint64_t at = 0; at < size; at += 64 * KIB) {
        assert_int_equal(world_do(w, 0, REQUEST_READ, at, 64 * KIB, 0), 0);
        uint64_t advised = engine_counts(w->engine).advised_blocks;
        assert_true(advised >= before && advised <= at / BLOCK_BYTES + 6 * MIB / BLOCK_BYTES);
        before = advised;
    }
    assert_in_range(before, blocks * 3 / 4, blocks);
    world_close(w);
}

struct told {
    int ended, result;
};
static void changes_told(struct engine_changes *c, int err) {
    *(struct told *)c->owner = (struct told){1, err};
}

/* All of it, however many answers that takes. */
static void ask_changes(struct world *w, uint32_t timeline, uint64_t since, uint64_t until,
                        uint32_t room, uint8_t *changed, uint64_t blocks) {
    struct engine_range ranges[64];
    struct told told;
    memset(changed, 0, blocks);
    for (uint64_t at = 0; at < blocks;) {
        struct engine_changes c = {.timeline = timeline,
                                   .since = since,
                                   .until = until,
                                   .block = at,
                                   .end_block = blocks,
                                   .ranges = ranges,
                                   .room = room,
                                   .done = changes_told,
                                   .owner = &told};
        told.ended = 0;
        assert_int_equal(engine_changes_begin(w->engine, &c), 0);
        for (int n = 0; !told.ended; n++) {
            assert_true(n < 20000);
            world_step(w);
        }
        assert_int_equal(told.result, 0);
        assert_in_range(c.count, 0, room);
        assert_true(c.next_block > at && c.next_block <= blocks);
        for (uint32_t i = 0; i < c.count; i++) {
            assert_true(ranges[i].block >= at &&
                        ranges[i].block + ranges[i].blocks <= c.next_block);
            memset(changed + ranges[i].block, 1, ranges[i].blocks);
        }
        at = c.next_block;
    }
}

/* What changed between two moments, of a volume and of its fork. */
static void changes_between_moments(void **state) {
    enum { BLOCKS = 3 * 64 + 10 };
    struct world *w = world_open(&(struct world_options){
        .seed = 5, .table_sets = 4, .cache_bytes = MIB, .buffer_pages = 6000, .memtables = 6});
    uint8_t changed[BLOCKS], expected[BLOCKS];
    uint32_t first = world_line(w, 0, 0);
    uint64_t at[40];
    world_volume(w, first, BLOCKS * BLOCK_BYTES, 512, 0);
    world_turn(w, WORLD_LIVES);
    for (uint64_t i = 0; i < 40; i++) { /* block 5 i, and a range now and then */
        world_do(w, 0, REQUEST_WRITE, 5 * i * BLOCK_BYTES + 512, 512, 0);
        at[i] = log_recorded(w->log);
        if (i == 20)
            world_do(w, 0, REQUEST_TRIM, 60 * BLOCK_BYTES, 70 * BLOCK_BYTES, 0);
    }
    for (uint32_t room = 1; room <= 64; room *= 4) {
        memset(expected, 0, sizeof expected);
        for (uint64_t i = 11; i <= 20; i++)
            expected[5 * i] = 1;
        ask_changes(w, first, at[10], at[20], room, changed, BLOCKS);
        assert_memory_equal(changed, expected, BLOCKS);
        memset(expected + 60, 1, 70);
        expected[105] = 1;
        ask_changes(w, first, at[10], at[21], room, changed, BLOCKS);
        assert_memory_equal(changed, expected, BLOCKS);
    }
    ask_changes(w, first, at[30], at[30], 64, changed, BLOCKS);
    memset(expected, 0, sizeof expected);
    assert_memory_equal(changed, expected, BLOCKS);
    uint32_t fork = world_line(w, first, at[15]);
    world_volume(w, fork, BLOCKS * BLOCK_BYTES, 512, 0);
    world_turn(w, WORLD_LIVES);
    world_do(w, 1, REQUEST_ZERO, 200 * BLOCK_BYTES, 2 * BLOCK_BYTES, 0);
    for (uint64_t i = 14; i <= 15; i++) /* what its parent did later is not its own */
        expected[5 * i] = 1;
    memset(expected + 200, 1, 2);
    ask_changes(w, fork, at[13], log_recorded(w->log), 64, changed, BLOCKS);
    assert_memory_equal(changed, expected, BLOCKS);
    /* After a start nothing has the newest number. */
    for (int cold = 0; cold < 2; cold++) {
        if (cold)
            world_start_cold(w);
        else
            world_stop(w);
        ask_changes(w, fork, at[13], log_recorded(w->log), 64, changed, BLOCKS);
        assert_memory_equal(changed, expected, BLOCKS);
        assert_true(engine_deadline(w->engine) > 0);
        uint64_t newest = engine_recorded_whole(w->engine);
        world_kill(w);
        assert_int_equal(engine_recorded_whole(w->engine), newest);
    }
    world_close(w);
}

/* What was written at random lies in many pieces: each request advises some of them, and those who
 * come after it do not wait for thousands. */
static void reading_ahead_of_pieces(void **state) {
    struct world *w = world_open(&(struct world_options){
        .seed = 4, .table_sets = 64, .cache_bytes = MIB, .buffer_pages = 6000, .memtables = 6});
    uint64_t size = 6 * MIB, blocks = size / BLOCK_BYTES, before = 0;
    world_volume(w, world_line(w, 0, 0), size, 512, 0);
    world_turn(w, WORLD_LIVES);
    for (uint64_t i = 0; i < blocks; i++) {
        w->stamps = 3 * i; /* nothing is zero */
        assert_int_equal(
            world_do(w, 0, REQUEST_WRITE, i * 7919 % blocks * BLOCK_BYTES, BLOCK_BYTES, 0), 0);
    }
    for (uint64_t i = 0; i < 300; i++) /* so that what was written is sealed */
        world_do(w, 0, REQUEST_WRITE, size - BLOCK_BYTES, 512, 0);
    world_settle(w);
    for (uint64_t at = 0; at < size; at += 64 * KIB) {
        assert_int_equal(world_do(w, 0, REQUEST_READ, at, 64 * KIB, 0), 0);
        uint64_t advised = engine_counts(w->engine).advised_blocks;
        assert_true(advised - before < 2 * 64 * KIB / BLOCK_BYTES + 2 * CHUNK_BLOCKS);
        before = advised;
    }
    assert_in_range(before, blocks / 2, blocks);
    world_close(w);
}

static void a_chain_of_a_thousand_forks(void **state) {
    enum { DEPTH = 1000 };
    struct world *w = new_world(10, 64);
    uint32_t line = world_volume_line(w, 0);
    for (uint32_t i = 1; i < DEPTH; i++) {
        uint64_t at = hash_pair(i, 1) % (SIZE / 4096) * 4096;
        if (i % 4 == 0)
            assert_int_equal(world_do(w, 0, REQUEST_WRITE, at, 4096, 0), 0);
        line = world_line(w, line, world_now(w));
        world_edit_volume(w, 0)->timeline = ancestry_slot(w->ancestries, line);
        world_turn(w, WORLD_LIVES);
    }
    world_settle(w);
    world_kill(w);
    world_check_volume(w, 0);
    for (uint32_t depth = 100; depth < DEPTH; depth += 300) {
        uint32_t v =
            world_volume(w, world_line(w, depth, UINT64_MAX / 2), SIZE, 512, VOLUME_READ_ONLY);
        world_turn(w, WORLD_LIVES);
        world_check_volume(w, v);
    }
    world_close(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(durability_is_waited_for),
        cmocka_unit_test(what_clients_do_is_counted),
        cmocka_unit_test(zeroes_take_no_room),
        cmocka_unit_test(what_was_under_way_is_flagged),
        cmocka_unit_test(a_bad_block_is_told),
        cmocka_unit_test(a_wrong_entry_is_found_out),
        cmocka_unit_test(a_passing_error_passes),
        cmocka_unit_test(what_is_read_again_is_of_the_same_moment),
        cmocka_unit_test(status_tells_data_zeroes_and_holes),
        cmocka_unit_test(status_tells_what_was_written_when),
        cmocka_unit_test(a_held_volume_begins_nothing),
        cmocka_unit_test(a_held_volume_ends_what_it_began),
        cmocka_unit_test(a_write_that_cannot_be_ended_holds_up_no_other),
        cmocka_unit_test(a_full_store),
        cmocka_unit_test(clients_want_all_pages),
        cmocka_unit_test(a_write_during_an_unknown_look_up),
        cmocka_unit_test(reading_ahead),
        cmocka_unit_test(changes_between_moments),
        cmocka_unit_test(reading_ahead_of_pieces),
        cmocka_unit_test(a_chain_of_a_thousand_forks),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
