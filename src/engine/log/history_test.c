/* SPDX-License-Identifier: Apache-2.0 */
/* A long history: how much is read at a start, and to find a moment, does not depend on how long it is,
 * but for one page a segment at a start. Counts reads and opened files, not time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "engine/log/big_store_test.h"
#include "engine/log/log_priv.h"
#include "engine/log/rig_test.h"
#include "plat/sim/sim.h"

/* Files that count what is asked of them. */
static struct {
    struct file_ops ops;
    const struct file_ops *under;
    uint64_t opens, reads, bytes;
} counted;

static int counted_open(void *ctx, const char *path, uint32_t flags) {
    counted.opens++;
    return counted.under->open(ctx, path, flags);
}
static int64_t counted_read(void *ctx, int file, void *buf, size_t bytes, uint64_t offset) {
    counted.reads++;
    counted.bytes += bytes;
    return counted.under->read(ctx, file, buf, bytes, offset);
}
static struct file_system counting(struct file_system files) {
    counted.under = files.ops;
    counted.ops = *files.ops;
    counted.ops.open = counted_open;
    counted.ops.read = counted_read;
    return (struct file_system){&counted.ops, files.ctx};
}
static void count_from_here(void) {
    counted.opens = counted.reads = counted.bytes = 0;
}

#define SEGMENT_BYTES (4u << 20)
#define BEGIN_NS (UINT64_C(1700000000) * NS_PER_S)

/* A store of so many sealed segments, started after a power cut. */
struct history {
    struct sim *sim;
    void *memory;
    uint32_t segments;
    struct arena_table_plan tables[5];
    struct arena_region_plan region;
    struct arena_plan plan;
    struct arena a;
    struct buffer_pool buffers;
    struct io_port io;
    struct log *l;
    struct log_report report;
};

static void start(struct history *h) {
    struct log_params params = log_params_default();
    params.orphan_bytes = 0;
    params.reserve_segments = params.clean_segments = params.control_segments = 0;
    params.ready_segments = 1;
    h->memory = mmap(NULL, arena_plan_bytes(&h->plan), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(h->memory != MAP_FAILED);
    assert_int_equal(arena_create(&h->a, h->memory, arena_plan_bytes(&h->plan), &h->plan), 0);
    assert_int_equal(buffer_pool_open(&h->buffers, &h->a, REGION_BUFFERS), 0);
    assert_int_equal(
        io_open(&h->io, &h->a, &h->buffers, sim_router(h->sim), sim_queue_number(h->sim)), 0);
    struct log_env env = {.arena = &h->a,
                          .buffers = &h->buffers,
                          .io = &h->io,
                          .files = counting(sim_files(h->sim)),
                          .jobs = sim_jobs(h->sim),
                          .clock = sim_clock(h->sim),
                          .index = &big_store_no_index};
    h->l = log_open(&env, &params);
    h->io.device = log_device;
    h->io.device_ctx = h->l;
    count_from_here();
    assert_int_equal(log_recover(h->l, &h->report), 0);
    assert_int_equal(log_begin(h->l, &h->report), 0);
    arena_commit(&h->a);
}

static struct history *history(uint32_t segments) {
    struct history *h = calloc(1, sizeof *h);
    h->sim = sim_new(&(struct sim_options){.seed = segments});
    h->segments = segments;
    sim_wall_jump(
        h->sim, (int64_t)(BEGIN_NS + segments * NS_PER_S - sim_clock(h->sim).ops->wall_ns(h->sim)));
    const struct arena_table_plan tables[] = {{&io_spec, 64},
                                              {&engine_spec, 1},
                                              {&segment_spec, segments + BIG_STORE_FILE + 64},
                                              {&frame_spec, LOG_FRAMES_MAX},
                                              {&wall_spec, 1}};
    memcpy(h->tables, tables, sizeof tables);
    h->region = (struct arena_region_plan){REGION_BUFFERS, 1, 8u << 20, 4096};
    h->plan = (struct arena_plan){.tables = h->tables,
                                  .table_count = 5,
                                  .regions = &h->region,
                                  .region_count = 1,
                                  .undo_bytes = 2u << 20};
    struct file_system fs = sim_files(h->sim);
    struct log_create c = {
        .store_id = {7}, .segment_bytes = SEGMENT_BYTES, .wall_ns = BEGIN_NS - NS_PER_S};
    assert_int_equal(log_create_store(&fs, &c), 0);
    assert_int_equal(big_store_make(&fs, segments, BEGIN_NS), 0);
    sim_power_cut(h->sim);
    start(h);
    return h;
}

static void end(struct history *h) {
    log_close(h->l);
    io_close(&h->io);
    buffer_pool_close(&h->buffers);
    arena_detach(&h->a);
    munmap(h->memory, arena_plan_bytes(&h->plan));
    sim_free(h->sim);
    free(h);
}

struct answer {
    int told, result;
    struct log_moment m;
};
static void answered(void *owner, int result, const struct log_moment *m) {
    *(struct answer *)owner = (struct answer){1, result, *m};
}
static int find(struct history *h, enum log_moment_kind kind, uint64_t value,
                struct log_moment *m) {
    struct answer a = {0};
    log_turn_begin(h->l);
    int err = log_find_moment(h->l, kind, value, m, answered, &a);
    while (err == 0 && !a.told) {
        assert_true(sim_step(h->sim));
        sim_jobs(h->sim).ops->reap(h->sim);
    }
    arena_commit(&h->a);
    *m = a.told ? a.m : *m;
    return a.told ? a.result : err < 0 ? err : 0;
}

/* By number and by time, on a record and between two: one footer, one window. */
static void a_moment_costs_two_reads(void **state) {
    struct history *h = history(3000);
    struct prng prng = prng_seed(1);
    assert_int_equal(h->report.segments_sealed, h->segments);
    for (int n = 0; n < 1000; n++) {
        uint32_t i = n < 2 ? n * (h->segments - 1) : (uint32_t)prng_below(&prng, h->segments);
        uint64_t beyond = n % 2 && i + 1 < h->segments ? 1000 : 0;
        struct log_moment m = {0};
        count_from_here();
        if (n % 3 == 0)
            assert_int_equal(find(h, LOG_AT_SEQUENCE, big_store_sequence(i) + beyond, &m), 0);
        else
            assert_int_equal(find(h, n % 3 == 1 ? LOG_AT_WALL_TIME : LOG_AT_STORE_TIME,
                                  BEGIN_NS + i * NS_PER_S + beyond, &m),
                             0);
        assert_int_equal(m.sequence, big_store_sequence(i));
        assert_int_equal(m.wall_ns, BEGIN_NS + i * NS_PER_S);
        assert_int_equal(counted.opens, 1);
        assert_int_equal(counted.reads, 2);
        assert_true(counted.bytes <= 512 * KIB);
    }
    struct log_moment m = {0};
    count_from_here();
    assert_int_equal(find(h, LOG_AT_SEQUENCE, big_store_sequence(0) - 1, &m), ERR_RANGE);
    assert_int_equal(counted.reads, 0);
    end(h);
}

/* Small frames, dozens in the part of a segment that a sample stands for: a few windows, not a read a
 * frame. */
static void a_moment_among_small_frames_costs_few_reads(void **state) {
    struct rig *r = rig_new(1);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    for (int n = 0; n < 700; n++) {
        while (rig_append(r, PLACE_HOLE, 5, 1, 0) == ERR_AGAIN)
            rig_step(r);
        rig_wait_durable(r, log_recorded(r->l));
    }
    rig_settle(r);
    r->l->env.files = counting(r->l->env.files);
    for (uint32_t i = 0; i < r->model_count; i += 7) {
        struct log_moment m = {0};
        count_from_here();
        assert_int_equal(rig_find_moment(r, LOG_AT_SEQUENCE, r->model[i].sequence, &m), 0);
        assert_int_equal(m.sequence, r->model[i].sequence);
        assert_true(counted.reads <= 3);
    }
    rig_free(r);
}

/* A start reads one page of each sealed segment, and beyond that what is always read. */
static void a_start_reads_a_page_of_each_sealed_segment(void **state) {
    struct history *h = history(10);
    uint64_t reads = counted.reads, opens = counted.opens, bytes = counted.bytes;
    end(h);
    h = history(1010);
    assert_int_equal(counted.reads - reads, 1000);
    assert_int_equal(counted.opens - opens, 1000);
    assert_int_equal(counted.bytes - bytes, 1000 * BLOCK_BYTES);
    end(h);
}

/* Segments that are freed, in any order, and sealed ones by number. */
static void segments_are_found_in_order(void **state) {
    struct history *h = history(200);
    struct prng prng = prng_seed(2);
    uint8_t gone[200] = {0};
    for (int n = 0; n < 150; n++) {
        uint32_t i = (uint32_t)prng_below(&prng, h->segments);
        if (!gone[i])
            assert_int_equal(log_free_segment(h->l, BIG_STORE_NUMBER + i), 0);
        gone[i] = 1;
        arena_commit(&h->a);
        uint32_t at = 0;
        for (i = 0; i < h->segments; i++) {
            if (gone[i])
                continue;
            at = log_next_sealed(h->l, at);
            assert_int_equal(at, BIG_STORE_NUMBER + i);
        }
        assert_int_equal(log_next_sealed(h->l, at), 0);
        if (n % 20 == 0)
            history_derive(h->l);
    }
    for (uint32_t i = 0, kept = UINT32_MAX; i < h->segments; i++) {
        struct log_moment m = {0};
        kept = gone[i] ? kept : i;
        int err = find(h, LOG_AT_SEQUENCE, big_store_sequence(i), &m);
        assert_int_equal(err, kept == UINT32_MAX ? ERR_RANGE : 0);
        if (err == 0)
            assert_int_equal(m.sequence, big_store_sequence(kept));
    }
    end(h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_moment_costs_two_reads),
        cmocka_unit_test(a_moment_among_small_frames_costs_few_reads),
        cmocka_unit_test(a_start_reads_a_page_of_each_sealed_segment),
        cmocka_unit_test(segments_are_found_in_order),
    };
    return cmocka_run_group_tests_name("log_history", tests, NULL, NULL);
}
