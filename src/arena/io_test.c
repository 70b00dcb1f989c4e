/* SPDX-License-Identifier: Apache-2.0 */
/* Queues that died with their process: lost, or at rest. What a real queue does is tested where a log uses it
 * (engine/log/kill_test.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arena/io.h"
#include "base/err.h"

#define OPERATIONS 8192u

static const struct arena_table_plan tables[] = {{&io_spec, OPERATIONS}};
static const struct arena_region_plan regions[] = {{REGION_BUFFERS, 1, 1 << 20, 4096}};
static const struct arena_plan plan = {.tables = tables,
                                       .table_count = 1,
                                       .regions = regions,
                                       .region_count = 1,
                                       .undo_bytes = 2 * ARENA_HANDLER_UNDO_BYTES};

struct world {
    void *memory;
    struct arena a;
    struct buffer_pool buffers;
    struct io_port io;
    uint32_t cancelled;
    uint64_t owners; /* of those that ended, added up */
};

static int done(void *ctx, struct io_h h, const struct io *io, int32_t result) {
    struct world *w = ctx;
    w->cancelled += result == ERR_CANCELLED;
    w->owners += io->owner;
    return 0;
}

static void open_process(struct world *w, uint32_t queue) {
    assert_int_equal(io_open(&w->io, &w->a, &w->buffers, (struct io_router){NULL, NULL}, queue), 0);
    w->io.routines[ROUTINE_FRAME_WRITTEN] = (struct io_routine){.done = done, .ctx = w};
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    uint64_t bytes = arena_plan_bytes(&plan);
    assert_int_equal(posix_memalign(&w->memory, 1 << 21, bytes), 0);
    memset(w->memory, 0, bytes);
    assert_int_equal(arena_create(&w->a, w->memory, bytes, &plan), 0);
    assert_int_equal(buffer_pool_open(&w->buffers, &w->a, REGION_BUFFERS), 0);
    open_process(w, 1);
    *state = w;
    return 0;
}

static int teardown(void **state) {
    struct world *w = *state;
    io_close(&w->io);
    buffer_pool_close(&w->buffers);
    arena_detach(&w->a);
    free(w->memory);
    free(w);
    return 0;
}

static void want(struct world *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        assert_true(io_want(&w->io, IO_WRITE, 0, ROUTINE_FRAME_WRITTEN, i + 1, 0, 0, 4096).v != 0);
        if (arena_undo_left(&w->a) < ARENA_HANDLER_UNDO_BYTES)
            arena_commit(&w->a);
    }
    arena_commit(&w->a);
}

static void succeed(struct world *w, uint32_t queue) {
    io_close(&w->io);
    open_process(w, queue);
    assert_int_equal(io_attach(&w->io), 0);
}

static void a_lost_queue_ends_in_as_many_turns_as_it_needs(void **state) {
    struct world *w = *state;
    int commits = 0;
    want(w, OPERATIONS);
    succeed(w, 2);
    while (io_lost(&w->io, 1)) {
        arena_commit(&w->a);
        commits++;
    }
    arena_commit(&w->a);
    assert_true(commits > 1);
    assert_int_equal(w->cancelled, OPERATIONS);
    assert_true(w->owners == (uint64_t)OPERATIONS * (OPERATIONS + 1) / 2);
    assert_int_equal(io_used(&w->a), 0);
    assert_int_equal(w->io.in_flight, 0);
}

static void a_queue_at_rest_goes_on_where_it_was(void **state) {
    struct world *w = *state;
    want(w, 5);
    assert_int_equal(io_handed_over(&w->io), 0);
    assert_int_equal(io_next_handed_over(&w->io), 0);
    uint32_t taken = io_next_handed_over(&w->io);
    succeed(w, 2);
    assert_int_equal(io_handed_over(&w->io), 5);
    io_adopted(&w->io, 1, taken);
    arena_commit(&w->a);
    assert_int_equal(io_handed_over(&w->io), 0);
    assert_int_equal(w->io.waiting_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        const struct io *io = io_view(&w->a, w->io.waiting[i]);
        assert_true(io->owner == i + 1 && io->position == i && io->queue == 2);
    }
    assert_int_equal(w->cancelled, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lost_queue_ends_in_as_many_turns_as_it_needs, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_queue_at_rest_goes_on_where_it_was, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
