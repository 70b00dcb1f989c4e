/* SPDX-License-Identifier: Apache-2.0 */
/* The log as it runs: records become frames, frames become durable, segments fill, are sealed, freed
 * and used again; a store without room; store time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/log/frame.h"
#include "engine/ancestry.h"
#include "engine/log/rig_test.h"
#include "engine/root.h"

static struct rig *started(uint64_t seed) {
    struct rig *r = rig_new(seed);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.stopped, 1);
    rig_wait_ready(r);
    return r;
}

static uint64_t newest_place(const struct rig *r) {
    return r->index.entries[r->index.count - 1].v.place;
}

static void a_record_is_in_memory_until_it_is_durable(void **state) {
    struct rig *r = started(1);
    assert_int_equal(rig_append(r, PLACE_DATA, 7, 3, 0), 0);
    uint64_t sequence = log_recorded(r->l), place = newest_place(r);
    assert_true(log_durable(r->l) < sequence);
    for (uint32_t i = 0; i < 3; i++)
        assert_non_null(log_bytes_at(r->l, place_block(place, i)));
    assert_null(log_bytes_at(r->l, place_block(place, 3)));
    rig_check(r);
    rig_wait_durable(r, sequence);
    assert_null(log_bytes_at(r->l, place));
    rig_check(r);
    rig_free(r);
}

static void what_nobody_waits_for_is_submitted_when_it_is_old(void **state) {
    struct rig *r = started(2);
    rig_settle(r);
    rig_turn(r, RIG_NOWHERE);
    log_turn_begin(r->l);
    uint64_t now = sim_clock(r->sim).ops->monotonic_ns(r->sim);
    assert_int_equal(rig_append(r, PLACE_DATA, 7, 1, 0), 0);
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(r->io.in_flight, 0);
    assert_int_equal(log_deadline(r->l), now + r->params.submit_age_ns);
    sim_advance(r->sim, r->params.submit_age_ns);
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(r->io.in_flight, 1);
    rig_settle(r);

    assert_int_equal(rig_append(r, PLACE_DATA, 7, 1, 0), 0); /* wanted */
    log_want_durable(r->l, log_recorded(r->l));
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(r->io.in_flight, 1);
    rig_settle(r);

    assert_int_equal(rig_append(r, PLACE_DATA, 7, 32, 0), 0); /* large */
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(r->io.in_flight, 1);
    rig_free(r);
}

static void all_that_waits_goes_into_one_frame(void **state) {
    struct rig *r = started(3);
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    log_want_durable(r->l, log_recorded(r->l));
    rig_turn(r, RIG_NOWHERE);
    for (int i = 0; i < 150; i++)
        assert_int_equal(rig_append(r, PLACE_DATA, 2, 1, 0), 0);
    log_want_durable(r->l, log_recorded(r->l));
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(frame_used(&r->a), 2);
    rig_check(r);
    uint64_t ops = r->io.completions;
    rig_settle(r);
    assert_int_equal(r->io.completions, ops + 2);
    rig_check(r);
    rig_free(r);
}

static void a_frame_holds_many_records_without_data(void **state) {
    struct rig *r = started(4);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(rig_append(r, i % 100 == 99 ? PLACE_DATA : PLACE_ZERO, (uint64_t)i,
                                    1 + (uint64_t)i % 3, 0),
                         0);
    rig_check(r);
    rig_settle(r);
    rig_check(r);
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_check_prefix(r);
    rig_free(r);
}

static void impossible_appends_are_refused(void **state) {
    struct rig *r = started(5);
    static const struct {
        struct log_append a;
        int err;
    } cases[] = {
        {{.kind = PLACE_UNKNOWN, .timeline = 1, .family = 1, .blocks = 1}, ERR_INVAL},
        {{.kind = PLACE_ZERO, .timeline = 0, .family = 1, .blocks = 1}, ERR_INVAL},
        {{.kind = PLACE_ZERO, .timeline = 1, .family = 1, .blocks = 0}, ERR_INVAL},
        {{.kind = PLACE_ZERO, .timeline = 1, .family = 1, .blocks = 1, .flags = 64}, ERR_INVAL},
        {{.kind = PLACE_DATA, .timeline = 1, .family = 1, .blocks = 249}, ERR_TOOBIG},
        {{.kind = PLACE_ZERO, .timeline = 1, .family = 1, .block = UINT64_MAX, .blocks = 2},
         ERR_RANGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t sequence, before = log_recorded(r->l);
        assert_int_equal(log_append(r->l, &cases[i].a, &sequence), cases[i].err);
        assert_int_equal(log_recorded(r->l), before);
    }
    rig_free(r);
}

static void too_much_that_is_not_durable_waits(void **state) {
    struct rig *r = started(6);
    rig_settle(r);
    int err;
    uint32_t n = 0;
    while ((err = rig_append(r, PLACE_DATA, 0, 200, 0)) == 0)
        n++;
    assert_int_equal(err, ERR_AGAIN);
    struct log_space space;
    log_space(r->l, &space);
    assert_true(space.unlogged_bytes <= r->params.unlogged_bytes_max);
    assert_true(space.unlogged_bytes + 202 * BLOCK_BYTES > r->params.unlogged_bytes_max ||
                n >= 5); /* or no prepared segment was left */
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 0, 200, 0), 0);
    rig_settle(r);
    rig_check(r);
    rig_free(r);
}

static void an_index_that_refuses_changes_nothing(void **state) {
    struct rig *r = started(7);
    rig_settle(r);
    r->index.busy = 1;
    uint32_t frames = frame_used(&r->a), pages = r->buffers.free_pages;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(rig_append(r, PLACE_DATA, 0, 8, 0), ERR_AGAIN);
        rig_turn(r, RIG_NOWHERE);
    }
    assert_int_equal(frame_used(&r->a), frames);
    assert_int_equal(r->buffers.free_pages, pages);
    r->index.busy = 0;
    assert_int_equal(rig_append(r, PLACE_DATA, 0, 8, 0), 0);
    rig_settle(r);
    rig_check(r);
    rig_free(r);
}

static void append_some(struct rig *r, uint32_t records) {
    for (uint32_t n = 0; n < records;) {
        int err = rig_append_at_random(r);
        if (err == 0)
            n++;
        else
            assert_int_equal(err, ERR_AGAIN);
        if (err < 0 || prng_one_in(&r->prng, 4))
            rig_step(r);
    }
    while (rig_append(r, PLACE_ZERO, 1, 1, 0) < 0) /* ends the last request */
        rig_step(r);
}

/* Frames of unknown outcome, so that the log has gaps. */
static void append_some_and_lose(struct rig *r) {
    for (int i = 0; i < 5; i++) {
        rig_attach(r, 1);
        rig_turn(r, RIG_NOWHERE);
        append_some(r, 20);
        log_want_durable(r->l, log_recorded(r->l));
        rig_turn(r, RIG_BEFORE_RETIRE);
    }
    rig_attach(r, 1);
    rig_settle(r);
}

static void segments_fill_and_are_sealed(void **state) {
    struct rig *r = started(8);
    append_some(r, 800);
    rig_settle(r);
    assert_true(rig_count_state(r, SEGMENT_SEALED) >= 3);
    assert_int_equal(rig_count_state(r, SEGMENT_OPEN), 1);
    assert_int_equal(r->index.sealeds, rig_count_state(r, SEGMENT_SEALED));
    rig_check(r);
    uint32_t sealed = rig_count_state(r, SEGMENT_SEALED);
    assert_int_equal(log_stop(r->l), 0);
    rig_kill(r);
    rig_unmap(r->memory);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.stopped, 1);
    assert_int_equal(r->report.segments_sealed, sealed);
    assert_int_equal(r->report.frames_torn + r->report.frames_damaged, 0);
    assert_int_equal(r->index.count, r->model_count);
    rig_check_prefix(r);
    rig_free(r);
}

static void a_stopped_store_goes_on_in_its_last_segment(void **state) {
    struct rig *r = started(9);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rig_append(r, PLACE_DATA, 3, 9, 0), 0);
        rig_settle(r);
        const struct engine *root = engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
        uint32_t end = root->log_end_bytes, segment = root->log_end_segment;
        uint64_t recorded = log_recorded(r->l);
        assert_int_equal(log_stop(r->l), 0);
        rig_kill(r);
        rig_unmap(r->memory);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        assert_true(log_recorded(r->l) > recorded);
        rig_wait_ready(r);
        assert_int_equal(place_segment(newest_place(r)), 0); /* a record without data */
        rig_settle(r);
        root = engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
        assert_int_equal(root->log_end_segment, segment);
        assert_int_equal(root->log_end_offset, end);
    }
    rig_free(r);
}

static void stopping_waits_for_nothing(void **state) {
    struct rig *r = started(10);
    assert_int_equal(rig_append(r, PLACE_DATA, 3, 9, 0), 0);
    assert_int_equal(log_stop(r->l), ERR_BUSY);
    rig_free(r);
}

/* Frees the oldest sealed segment, as the catalogue would: said durably first. */
static uint32_t free_oldest(struct rig *r) {
    uint32_t oldest = UINT32_MAX;
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        if (s->slot.state == SEGMENT_SEALED && s->number < oldest)
            oldest = s->number;
    }
    if (oldest == UINT32_MAX)
        return 0;
    r->freed[r->freed_count++ % 64] = oldest;
    assert_int_equal(log_free_segment(r->l, oldest), 0);
    /* The model forgets what the index has forgotten. */
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->model_count; i++)
        if (list_index_find(&r->index, r->model[i].sequence))
            r->model[kept++] = r->model[i];
    r->model_count = r->model_committed = kept;
    return oldest;
}

static void freed_segments_give_their_slots_to_new_numbers(void **state) {
    struct rig *r = started(11);
    uint32_t newest = 0, slots = 0;
    for (int round = 0; round < 12; round++) {
        append_some(r, 250);
        rig_settle(r);
        const struct engine *root = engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
        assert_true(root->log_end_segment >= newest);
        newest = root->log_end_segment;
        while (rig_count_state(r, SEGMENT_SEALED) > 1)
            free_oldest(r);
        rig_settle(r);
        if (round == 3)
            slots = segment_used(&r->a);
    }
    assert_int_equal(segment_used(&r->a), slots);
    assert_true(newest > slots + 4);
    rig_check(r);
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_check_prefix(r);
    rig_free(r);
}

static void a_freed_segment_that_is_read_is_not_used(void **state) {
    struct rig *r = started(12);
    append_some(r, 600);
    rig_settle(r);
    uint32_t device;
    uint32_t oldest = r->index.entries[0].segment;
    assert_int_equal(log_pin_segment(r->l, oldest, &device), 0);
    assert_int_equal(log_pin_segment(r->l, oldest, &device), 0);
    assert_int_equal(free_oldest(r), oldest);
    assert_int_equal(log_pin_segment(r->l, oldest, &device), ERR_NOTFOUND);
    assert_int_equal(log_free_segment(r->l, oldest), ERR_NOTFOUND);
    assert_int_equal(log_free_segment(r->l, 12345), ERR_NOTFOUND);
    for (int i = 0; i < 50; i++)
        rig_step(r);
    assert_int_equal(rig_count_state(r, SEGMENT_LEAVING), 1);
    log_unpin_segment(r->l, oldest);
    rig_step(r);
    assert_int_equal(rig_count_state(r, SEGMENT_LEAVING), 1);
    log_unpin_segment(r->l, oldest);
    rig_step(r);
    assert_int_equal(rig_count_state(r, SEGMENT_LEAVING), 0);
    uint32_t open = 0;
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h))
        if (segment_view(&r->a, h)->slot.state == SEGMENT_OPEN)
            open = segment_view(&r->a, h)->number;
    assert_int_equal(log_free_segment(r->l, open), ERR_BUSY);
    rig_free(r);
}

/* The machine's router, which counts what is open. */
static struct {
    struct io_router_ops ops;
    const struct io_router_ops *real;
    uint32_t open, most;
    int refuses;
} counted;

static int open_counted(void *ctx, const char *path, uint32_t flags) {
    int device = counted.refuses ? ERR_NOMEM : counted.real->open(ctx, path, flags);
    counted.open += device >= 0;
    counted.most = counted.open > counted.most ? counted.open : counted.most;
    return device;
}

static void close_counted(void *ctx, int32_t device) {
    counted.open--;
    counted.real->close(ctx, device);
}

/* However much history there is, few of its files are open; those that are read stay open. */
static void few_slot_files_are_open(void **state) {
    struct rig *r = started(13);
    counted.real = r->io.router.ops;
    counted.ops = *counted.real;
    counted.ops.open = open_counted;
    counted.ops.close = close_counted;
    r->io.router.ops = &counted.ops;
    append_some(r, 2500);
    rig_settle(r);
    uint32_t sealed = rig_count_state(r, SEGMENT_SEALED), others = segment_used(&r->a) - sealed,
             device;
    assert_true(sealed > 10);
    uint32_t pinned = r->index.entries[0].segment;
    assert_int_equal(log_pin_segment(r->l, pinned, &device), 0);
    int32_t first = log_device(r->l, device);
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < r->index.count; i++) {
            uint32_t of;
            assert_int_equal(log_pin_segment(r->l, r->index.entries[i].segment, &of), 0);
            assert_true(log_device(r->l, of) >= 0);
            log_unpin_segment(r->l, r->index.entries[i].segment);
        }
    assert_int_equal(log_device(r->l, device), first);
    assert_true(counted.most <= r->params.devices_max + others);
    counted.refuses = 1;
    uint32_t refused = 0, of;
    for (uint32_t i = 0; i < r->index.count; i++) {
        int err = log_pin_segment(r->l, r->index.entries[i].segment, &of);
        assert_true(err == 0 || err == ERR_NOMEM);
        if (err == 0)
            log_unpin_segment(r->l, r->index.entries[i].segment);
        refused += err != 0;
    }
    assert_true(refused > 0);
    counted.refuses = 0;
    log_unpin_segment(r->l, pinned);
    rig_check(r);
    rig_free(r);
}

/* Room. ---------------------------------------------------------------------------------------- */

static int append_until_refused(struct rig *r) {
    int err;
    for (int i = 0; i < 20000; i++) {
        err = rig_append(r, PLACE_DATA, 5, 64, 0);
        if (err == ERR_NOSPC)
            return 1;
        assert_true(err == 0 || err == ERR_AGAIN);
        rig_step(r);
    }
    return 0;
}

static void check_full(struct rig *r, int by_limit) {
    struct log_space space;
    assert_true(append_until_refused(r));
    assert_string_equal(r->alert, "store_full");
    rig_settle(r);
    log_space(r->l, &space);
    assert_int_equal(space.full, 1);
    assert_int_equal(space.slots_unused, r->params.reserve_segments);
    rig_check(r);
    /* Service goes on when room returns. */
    if (by_limit)
        sim_disk_limit(r->sim, UINT64_C(1) << 30);
    else
        assert_int_not_equal(free_oldest(r), 0);
    for (int i = 0; i < 3000; i++)
        rig_step(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 5, 64, 0), 0);
    assert_string_equal(r->cleared, "store_full");
    rig_settle(r);
    rig_check(r);
}

static void a_full_file_system_refuses_writes_and_serves_on(void **state) {
    struct rig *r = started(13);
    sim_disk_limit(r->sim, 8 * RIG_SEGMENT_BYTES + 100000);
    check_full(r, 1);
    rig_free(r);
}

/* How much room there is cannot be learned: nothing new is made, that is told, and it is tried again. */
static void a_file_system_that_does_not_tell_its_room(void **state) {
    struct rig *r = started(24);
    sim_fault_add(r->sim, &(struct sim_fault){.kind = SIM_LOOK_FAILS, .path = "."});
    assert_true(append_until_refused(r));
    assert_string_equal(r->alert, "store_full");
    rig_check(r);
    sim_fault_clear(r->sim);
    for (int i = 0; i < 5000 && strcmp(r->cleared, "store_full") != 0; i++) {
        rig_append(r, PLACE_DATA, 3, 9, 0);
        rig_step(r);
    }
    assert_string_equal(r->cleared, "store_full");
    rig_settle(r);
    rig_check(r);
    rig_free(r);
}

static void the_catalogue_keeps_room_in_the_file_system(void **state) {
    struct rig *r = rig_new(15);
    struct file_system fs = sim_files(r->sim);
    uint64_t total, left;
    r->params.leave_bytes = RIG_SEGMENT_BYTES;
    sim_disk_limit(r->sim, 9 * RIG_SEGMENT_BYTES);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    assert_true(append_until_refused(r));
    fs.ops->space(fs.ctx, &total, &left);
    assert_true(left >= RIG_SEGMENT_BYTES);
    rig_free(r);
}

/* A store that takes no writes takes thousands of control records, in what is left and in its part of
 * the reserve; writes do not follow them there, and what has to move still finds room. */
static void a_full_store_takes_control_records(void **state) {
    struct rig *r = rig_new(23);
    r->params.max_bytes = 9 * RIG_SEGMENT_BYTES;
    r->params.reserve_segments = 3;
    r->params.clean_segments = 0;
    r->params.control_segments = 2;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    assert_true(append_until_refused(r));
    struct log_space space;
    uint32_t taken = 0;
    int err = 0;
    for (int life = 0; err == 0; life++) {
        r->is_control = 1;
        for (int i = 0; i < 200 && (err = log_room_for_control(r->l)) == 0; i++, taken++) {
            if (i == 50 && life == 0)
                sim_fault_add(r->sim, &(struct sim_fault){.kind = SIM_WRITE_FAILS, .count = 1});
            while ((err = rig_append(r, PLACE_HOLE, 5, 1, 0)) == ERR_AGAIN)
                rig_step(r);
            assert_int_equal(err, 0);
            log_want_durable(r->l, log_recorded(r->l));
            rig_settle(r);
        }
        r->is_control = 0;
        assert_int_equal(rig_append(r, PLACE_HOLE, 5, 1, 0), ERR_NOSPC);
        rig_check(r);
        if (life % 3 == 1) {
            rig_kill(r);
            rig_attach(r, life % 2);
        } else if (life % 3 == 2) {
            rig_power_cut(r);
            assert_int_equal(rig_start(r, NULL), 0);
            rig_check_prefix(r);
        }
        for (int i = 0; i < 1000; i++)
            rig_step(r);
    }
    assert_int_equal(err, ERR_NOSPC);
    log_space(r->l, &space);
    assert_true(taken > 500 && space.slots_unused == 1);
    /* And again, when there is room. */
    for (int i = 0; i < 4; i++)
        assert_int_not_equal(free_oldest(r), 0);
    for (int i = 0; i < 3000; i++)
        rig_step(r);
    assert_int_equal(log_room_for_control(r->l), 0);
    assert_int_equal(rig_append(r, PLACE_HOLE, 5, 1, 0), 0);
    rig_settle(r);
    rig_check(r);
    rig_free(r);
}

static void a_limit_of_the_store_does_the_same(void **state) {
    struct rig *r = rig_new(14);
    r->params.max_bytes = 7 * RIG_SEGMENT_BYTES;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    check_full(r, 0);
    assert_int_equal(segment_used(&r->a), 7);
    rig_free(r);
}

static void a_store_without_room_starts_again(void **state) {
    struct rig *r = rig_new(15);
    r->params.max_bytes = 6 * RIG_SEGMENT_BYTES;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    assert_true(append_until_refused(r));
    rig_settle(r);
    for (int i = 0; i < 4; i++) {
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        assert_true(append_until_refused(r));
        rig_settle(r);
    }
    assert_int_equal(segment_used(&r->a), 6);
    rig_free(r);
}

/* The catalogue's count. ----------------------------------------------------------------------- */

static void start_again(struct rig *r, int in_order) {
    if (in_order) {
        assert_int_equal(log_stop(r->l), 0);
        rig_power_down(r);
    } else {
        rig_power_cut(r);
    }
    assert_int_equal(rig_start(r, NULL), 0);
    rig_check_prefix(r);
    rig_wait_ready(r);
}

static void a_start_finds_the_count_of_the_catalogue(void **state) {
    struct rig *r = started(22);
    rig_settle(r);
    start_again(r, 1);
    assert_int_equal(r->report.catalogue, 0);
    log_catalogue_is(r->l, 5); /* in a frame of a segment that is not sealed */
    append_some(r, 1);
    rig_settle(r);
    log_catalogue_is(r->l, 6); /* no frame follows */
    start_again(r, 0);
    assert_int_equal(r->report.catalogue, 5);
    log_catalogue_is(r->l, 7); /* in the store header */
    log_catalogue_is(r->l, 3); /* it never falls */
    rig_settle(r);
    start_again(r, 1);
    assert_int_equal(r->report.catalogue, 7);
    start_again(r, 0); /* each start writes what it found */
    assert_int_equal(r->report.catalogue, 7);
    rig_free(r);
}

static void a_sealed_segment_keeps_the_count_of_the_catalogue(void **state) {
    struct rig *r = started(23);
    rig_settle(r);
    log_catalogue_is(r->l, 8);
    append_some(r, 800);
    rig_settle(r);
    assert_true(rig_count_state(r, SEGMENT_SEALED) >= 3);
    /* Only footers are left to tell: the other frames are taken away. */
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        char path[64];
        rig_path(s->file, path);
        if (s->slot.state == SEGMENT_OPEN)
            assert_int_equal(sim_files(r->sim).ops->remove(r->sim, path), 0);
    }
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.catalogue, 8);
    rig_free(r);
}

static void what_is_found_before_the_log_begins_is_written(void **state) {
    struct rig *r = started(24);
    rig_settle(r);
    rig_power_cut(r);
    r->catalogue = 12;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_power_cut(r);
    r->catalogue = 0;
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.catalogue, 12);
    rig_free(r);
}

/* Time. ---------------------------------------------------------------------------------------- */

static void store_time_follows_and_never_goes_back(void **state) {
    struct rig *r = started(16);
    static const int64_t jumps_ns[] = {0, 5 * (int64_t)NS_PER_S, -20 * (int64_t)NS_PER_S,
                                       30 * (int64_t)NS_PER_S};
    for (int j = 0; j < 4; j++) {
        sim_wall_jump(r->sim, jumps_ns[j]);
        uint64_t before = log_now_ns(r->l);
        for (int i = 0; i < 2000; i++) {
            sim_advance(r->sim, 200 * NS_PER_MS);
            rig_turn(r, RIG_NOWHERE);
            uint64_t now = log_now_ns(r->l);
            assert_true(now >= before + 170 * NS_PER_MS && now <= before + 230 * NS_PER_MS);
            before = now;
        }
        assert_int_equal(log_now_ns(r->l), log_wall_ns(r->l));
        assert_false(log_clock_suspect(r->l));
    }
    rig_free(r);
}

static void a_long_jump_is_suspect_until_confirmed(void **state) {
    struct rig *r = started(17);
    int64_t year = 365 * 86400 * (int64_t)NS_PER_S;
    rig_step(r);
    sim_wall_jump(r->sim, year);
    uint64_t before = log_now_ns(r->l);
    sim_advance(r->sim, NS_PER_S);
    rig_turn(r, RIG_NOWHERE);
    assert_string_equal(r->alert, "clock_jumped");
    for (int i = 0; i < 100; i++) {
        sim_advance(r->sim, NS_PER_S);
        rig_turn(r, RIG_NOWHERE);
    }
    assert_true(log_clock_suspect(r->l));
    assert_true(log_now_ns(r->l) < before + 120 * NS_PER_S);
    rig_kill(r);
    rig_attach(r, 0);
    rig_turn(r, RIG_NOWHERE);
    assert_true(log_clock_suspect(r->l));
    log_clock_confirm(r->l);
    assert_false(log_clock_suspect(r->l));
    assert_int_equal(log_now_ns(r->l), log_wall_ns(r->l));
    rig_turn(r, RIG_NOWHERE);

    sim_wall_jump(r->sim, -year); /* and back: time stands nearly still, until that is gone */
    before = log_now_ns(r->l);
    rig_turn(r, RIG_NOWHERE);
    assert_true(log_clock_suspect(r->l));
    sim_wall_jump(r->sim, year);
    sim_advance(r->sim, NS_PER_MS);
    rig_turn(r, RIG_NOWHERE);
    assert_false(log_clock_suspect(r->l));
    assert_true(log_now_ns(r->l) >= before);
    rig_free(r);
}

static void store_time_does_not_go_back_over_a_start(void **state) {
    struct rig *r = started(18);
    rig_settle(r);
    uint64_t before = log_now_ns(r->l);
    rig_power_cut(r);
    sim_wall_jump(r->sim, -3600 * (int64_t)NS_PER_S);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_turn(r, RIG_NOWHERE);
    assert_true(log_now_ns(r->l) >= before - NS_PER_S);
    assert_true(log_clock_suspect(r->l));
    rig_check_prefix(r);
    rig_free(r);
}

/* What the model says: the newest record that is old enough and ends a request; 0: none. */
static uint64_t model_at(const struct rig *r, uint64_t time_ns) {
    uint64_t found = 0;
    for (uint32_t i = 0; i < r->model_count && r->model[i].time_ns <= time_ns; i++)
        if (!(r->model[i].flags & LOG_MORE))
            found = r->model[i].sequence;
    return found;
}

static int ask(struct rig *r, uint64_t time_ns, uint64_t *sequence) {
    struct log_moment m = {0};
    int err = rig_find_moment(r, LOG_AT_STORE_TIME, time_ns, &m);
    *sequence = m.sequence;
    return err;
}

/* The same by number. */
static uint64_t model_up_to(const struct rig *r, uint64_t sequence) {
    uint64_t found = 0;
    for (uint32_t i = 0; i < r->model_count && r->model[i].sequence <= sequence; i++)
        if (!(r->model[i].flags & LOG_MORE))
            found = r->model[i].sequence;
    return found;
}

static void ask_number(struct rig *r, uint64_t sequence) {
    struct log_moment m = {0};
    uint64_t want = model_up_to(r, sequence);
    int err = rig_find_moment(r, LOG_AT_SEQUENCE, sequence, &m);
    assert_int_equal(err, want == 0 ? ERR_RANGE : 0);
    if (want != 0)
        assert_int_equal(m.sequence, want);
}

static void ask_many(struct rig *r, uint32_t count) {
    uint64_t first = r->model[0].time_ns, last = r->model[r->model_count - 1].time_ns, got;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t at =
            prng_one_in(&r->prng, 3)
                ? r->model[prng_below(&r->prng, r->model_count)].time_ns - prng_below(&r->prng, 2)
                : first + prng_below(&r->prng, last - first + NS_PER_MS);
        uint64_t want = model_at(r, at);
        int err = ask(r, at, &got);
        if (want == 0) {
            assert_int_equal(err, ERR_RANGE);
        } else {
            assert_int_equal(err, 0);
            assert_int_equal(got, want);
        }
        ask_number(r, r->model[prng_below(&r->prng, r->model_count)].sequence +
                          (prng_one_in(&r->prng, 3) ? 1 : 0));
    }
}

static void a_time_gives_the_newest_whole_request(void **state) {
    struct rig *r = started(21);
    for (int round = 0; round < 8; round++) {
        append_some(r, 100);
        ask_many(r, 60);
        rig_turn(r, RIG_NOWHERE);
        ask_many(r, 20);
    }
    rig_settle(r);
    ask_many(r, 100);
    for (int i = 0; i < 3; i++) { /* over starts, and what they skip */
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        rig_wait_ready(r);
        append_some(r, 50);
        rig_settle(r);
        ask_many(r, 50);
    }
    rig_turn(r, RIG_BEFORE_SUBMIT);
    append_some_and_lose(r);
    ask_many(r, 50);
    uint64_t got;
    assert_int_equal(ask(r, r->model[0].time_ns - 1, &got), ERR_RANGE);
    uint64_t gone = r->model[0].time_ns;
    assert_int_not_equal(free_oldest(r), 0);
    assert_int_equal(ask(r, gone, &got), ERR_RANGE);
    ask_many(r, 50);
    rig_free(r);
}

/* One request of so many records, each in a turn of its own. */
static void append_request(struct rig *r, uint32_t records) {
    for (uint32_t n = 0; n < records; rig_step(r))
        n += rig_append(r, PLACE_DATA, 300 * n, 200, n + 1 < records ? LOG_MORE : 0) == 0;
}

/* Records that hold nothing but a part of it fill whole segments. */
static void no_moment_lies_within_a_request(void **state) {
    struct rig *r = started(22);
    append_some(r, 20);
    for (int round = 0; round < 3; round++) {
        uint32_t first = r->model_count;
        append_request(r, 20);
        for (int life = 0; life < 3; life++) {
            for (uint32_t i = first - 1; i < r->model_count; i++) {
                uint64_t got, want = model_at(r, r->model[i].time_ns);
                ask_number(r, r->model[i].sequence);
                assert_int_equal(ask(r, r->model[i].time_ns, &got), 0);
                assert_int_equal(got, want);
            }
            if (life == 0)
                rig_settle(r);
            if (life != 1)
                continue;
            rig_power_cut(r);
            assert_int_equal(rig_start(r, NULL), 0);
            rig_check_prefix(r);
            rig_wait_ready(r);
        }
        append_some(r, 3);
    }
    /* What goes on in a segment that is freed is told from the one before that. */
    rig_settle(r);
    uint32_t at = r->model_count;
    append_request(r, 20);
    append_some(r, 1);
    append_request(r, 20);
    append_some(r, 1);
    rig_settle(r);
    uint64_t before = r->model[at - 1].sequence;
    uint32_t number = list_index_find(&r->index, before)->segment;
    const struct entry *e = list_index_find(&r->index, before);
    for (uint64_t s = before + 1; (e = list_index_find(&r->index, s))->segment < number + 3;)
        s++;
    uint32_t last = e->segment;
    uint64_t inside = e->v.sequence;
    for (uint32_t n = number + 1; n < last; n++) {
        int err = log_free_segment(r->l, n);
        assert_true(err == 0 || err == ERR_NOTFOUND);
    }
    struct log_moment m = {0};
    assert_true(list_index_find(&r->index, inside)->v.flags & VERSION_MORE);
    assert_int_equal(rig_find_moment(r, LOG_AT_SEQUENCE, inside, &m), 0);
    assert_int_equal(m.sequence, before);
    rig_free(r);
}

static void listing_done(struct log_listing *g, int result) {
    *(int *)g->owner = 1 + result;
}

/* Newest first, against the model: each answer goes on where the one before ended. */
static void list_all(struct rig *r, uint32_t timeline, uint64_t start, uint64_t end, uint64_t since,
                     uint64_t until, uint32_t room) {
    struct ancestor line = {timeline, UINT64_MAX};
    struct ancestry view = {.timeline = timeline, .family = 1, .count = 1, .list = &line};
    struct log_listed rows[16];
    int told = 0;
    uint32_t i = r->model_count;
    for (uint64_t next = until; next > 0;) {
        struct log_listing g = {.view = &view,
                                .start_sector = start,
                                .end_sector = end,
                                .since = since,
                                .until = next,
                                .rows = rows,
                                .room = room,
                                .done = listing_done,
                                .owner = &told};
        told = 0;
        int err = log_list(r->l, &g);
        for (int n = 0; err == 0 && n < 1000 && !told; n++)
            rig_step(r);
        assert_true(err == 1 || told == 1);
        for (uint32_t k = 0; k < g.count; k++) {
            const struct written *w;
            do {
                assert_true(i-- > 0);
                w = &r->model[i];
            } while (w->sequence > until || w->timeline != timeline || w->block * 8 >= end ||
                     (w->block + w->blocks) * 8 <= start);
            assert_int_equal(rows[k].sequence, w->sequence);
            assert_true(w->sequence > since);
            assert_int_equal(rows[k].kind, w->kind);
            assert_int_equal(rows[k].start_sector, w->block * 8);
            assert_int_equal(rows[k].sectors, w->blocks * 8);
            assert_int_equal(rows[k].flags & LOG_MORE, w->flags & LOG_MORE);
            uint64_t away = rows[k].time_ns > w->time_ns ? rows[k].time_ns - w->time_ns
                                                         : w->time_ns - rows[k].time_ns;
            assert_in_range(away, 0, 2000);
        }
        assert_true(g.next < next);
        next = g.next;
    }
    while (i-- > 0 && r->model[i].sequence > since)
        assert_false(r->model[i].sequence <= until && r->model[i].timeline == timeline &&
                     r->model[i].block * 8 < end &&
                     (r->model[i].block + r->model[i].blocks) * 8 > start);
}

/* Of records in memory, in open and in sealed segments, over deaths and starts. */
static void what_was_recorded_is_listed(void **state) {
    struct rig *r = rig_new(23);
    assert_int_equal(rig_start(r, NULL), 0);
    for (int life = 0; life < 4; life++) {
        for (int n = 0; n < 12; n++) {
            append_some(r, 40);
            uint64_t last = r->model[r->model_count - 1].sequence;
            uint64_t until = prng_one_in(&r->prng, 2) ? last : 1 + prng_below(&r->prng, last);
            uint64_t since = r->model[prng_below(&r->prng, r->model_count)].sequence;
            since = since < until ? since : 0;
            uint64_t start = prng_one_in(&r->prng, 2) ? 0 : prng_below(&r->prng, 8000);
            list_all(r, 1 + (uint32_t)prng_below(&r->prng, 3), start,
                     start + 1 + prng_below(&r->prng, 9000), since, until,
                     1 + (uint32_t)prng_below(&r->prng, 16));
        }
        rig_settle(r);
        list_all(r, 1, 0, UINT64_MAX, 0, UINT64_MAX, 16);
        if (life % 2) {
            rig_turn(r, RIG_BEFORE_SUBMIT);
            rig_attach(r, 0);
        } else {
            rig_power_cut(r);
            assert_int_equal(rig_start(r, NULL), 0);
            rig_check_prefix(r);
        }
        rig_wait_ready(r);
    }
    rig_free(r);
}

/* While a job goes back through a segment, that and those before it are freed: what is older is told all the same. */
static void what_is_freed_meanwhile_is_passed_over(void **state) {
    struct rig *r = started(24);
    struct ancestor line = {1, UINT64_MAX};
    struct ancestry view = {.timeline = 1, .family = 1, .count = 1, .list = &line};
    struct log_listed rows[2048];
    int told = 0;
    append_some(r, 1200);
    rig_settle(r);
    uint32_t oldest = log_next_sealed(r->l, 0), newest = oldest, next;
    while ((next = log_next_sealed(r->l, newest)) != 0)
        newest = next;
    assert_true(newest > oldest + 2);
    uint64_t of_oldest = 0, until = 0;
    for (uint32_t i = 0; i < r->model_count; i++) {
        const struct written *w = &r->model[i];
        uint32_t segment = list_index_find(&r->index, w->sequence)->segment;
        of_oldest += segment == oldest && w->timeline == 1;
        until = segment == newest ? w->sequence : until;
    }
    assert_true(of_oldest > 0);
    for (int freed = 0; until > 0;) {
        struct log_listing g = {.view = &view,
                                .end_sector = UINT64_MAX,
                                .until = until,
                                .rows = rows,
                                .room = 2048,
                                .done = listing_done,
                                .owner = &told};
        told = 0;
        int err = log_list(r->l, &g);
        for (uint32_t n = newest; err == 0 && !freed && n > oldest; n--)
            log_free_segment(r->l, n); /* the first of them is being read */
        freed |= err == 0;
        for (int n = 0; err == 0 && n < 1000 && !told; n++)
            rig_step(r);
        assert_true(err == 1 || told == 1);
        for (uint32_t i = 0; i < g.count; i++) {
            const struct entry *e = list_index_find(&r->index, rows[i].sequence);
            of_oldest -= e && e->segment == oldest;
        }
        until = g.next;
    }
    assert_int_equal(of_oldest, 0);
    rig_free(r);
}

/* Stores that are not ours to open. ------------------------------------------------------------ */

static void a_store_is_made_once(void **state) {
    struct rig *r = rig_new(19);
    struct file_system fs = sim_files(r->sim);
    struct log_create c = {.store_id = {1}};
    assert_int_equal(log_create_store(&fs, &c), ERR_EXISTS);
    rig_free(r);
}

static void a_missing_or_damaged_store_is_told(void **state) {
    struct rig *r = rig_new(20);
    assert_int_equal(sim_corrupt(r->sim, "store", 100, 1), 0);
    assert_int_equal(rig_start(r, NULL), 0); /* one copy is enough */
    rig_power_cut(r);
    sim_corrupt(r->sim, "store", 100, 1);
    sim_corrupt(r->sim, "store", 4196, 1);
    assert_int_equal(rig_start(r, NULL), ERR_FORMAT);
    rig_power_cut(r);
    struct file_system fs = sim_files(r->sim);
    assert_int_equal(fs.ops->remove(fs.ctx, "store"), 0);
    assert_int_equal(rig_start(r, NULL), ERR_NOTFOUND);
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_in_memory_until_it_is_durable),
        cmocka_unit_test(what_nobody_waits_for_is_submitted_when_it_is_old),
        cmocka_unit_test(all_that_waits_goes_into_one_frame),
        cmocka_unit_test(a_frame_holds_many_records_without_data),
        cmocka_unit_test(impossible_appends_are_refused),
        cmocka_unit_test(too_much_that_is_not_durable_waits),
        cmocka_unit_test(an_index_that_refuses_changes_nothing),
        cmocka_unit_test(segments_fill_and_are_sealed),
        cmocka_unit_test(a_stopped_store_goes_on_in_its_last_segment),
        cmocka_unit_test(stopping_waits_for_nothing),
        cmocka_unit_test(freed_segments_give_their_slots_to_new_numbers),
        cmocka_unit_test(a_freed_segment_that_is_read_is_not_used),
        cmocka_unit_test(few_slot_files_are_open),
        cmocka_unit_test(a_full_file_system_refuses_writes_and_serves_on),
        cmocka_unit_test(a_file_system_that_does_not_tell_its_room),
        cmocka_unit_test(the_catalogue_keeps_room_in_the_file_system),
        cmocka_unit_test(a_full_store_takes_control_records),
        cmocka_unit_test(a_limit_of_the_store_does_the_same),
        cmocka_unit_test(a_store_without_room_starts_again),
        cmocka_unit_test(a_start_finds_the_count_of_the_catalogue),
        cmocka_unit_test(a_sealed_segment_keeps_the_count_of_the_catalogue),
        cmocka_unit_test(what_is_found_before_the_log_begins_is_written),
        cmocka_unit_test(store_time_follows_and_never_goes_back),
        cmocka_unit_test(a_long_jump_is_suspect_until_confirmed),
        cmocka_unit_test(store_time_does_not_go_back_over_a_start),
        cmocka_unit_test(a_time_gives_the_newest_whole_request),
        cmocka_unit_test(no_moment_lies_within_a_request),
        cmocka_unit_test(what_was_recorded_is_listed),
        cmocka_unit_test(what_is_freed_meanwhile_is_passed_over),
        cmocka_unit_test(a_store_is_made_once),
        cmocka_unit_test(a_missing_or_damaged_store_is_told),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
