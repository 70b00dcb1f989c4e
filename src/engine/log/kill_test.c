/* SPDX-License-Identifier: Apache-2.0 */
/* Kills: at any stage of a turn, at any store of the arena's code, in the middle of an attach; with
 * the dead queue adopted, or lost. Nothing that was committed is lost, moved by accident, or written
 * twice into one place. And the cold start of a machine that lives: salvage. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/log/frame.h"
#include "engine/log/rig_test.h"
#include "engine/log/store_disk.h"
#include "engine/log/store_disk.h"
#include "engine/root.h"

static sigjmp_buf dead;
static struct rig *armed; /* the rig whose crash point is waited for */

/* A crash point whose count ran out; an abort by anything else is what it is. */
static void die(int signal_number) {
    if (armed && armed->a.crash_after == 0)
        siglongjmp(dead, 1);
    signal(signal_number, SIG_DFL);
}

static void some_appends(struct rig *r) {
    for (uint64_t n = prng_below(&r->prng, 5); n > 0; n--)
        rig_append_at_random(r);
    if (prng_one_in(&r->prng, 3))
        log_want_durable(r->l, log_recorded(r->l));
}

/* Works until the process dies: at a stage of a turn, or (stores > 0) after so many stores. */
static void work_and_die(struct rig *r, uint64_t stores) {
    static const enum rig_stage stages[] = {RIG_IN_INPUTS, RIG_BEFORE_COMMIT, RIG_BEFORE_SUBMIT,
                                            RIG_BEFORE_RETIRE};
    struct rig *volatile rig = r;
    if (sigsetjmp(dead, 1) == 0) {
        rig->a.crash_after = stores;
        armed = stores > 0 ? r : NULL;
        for (uint64_t turns = prng_below(&rig->prng, 10); turns > 0 || stores > 0; turns--) {
            some_appends(rig);
            if (prng_one_in(&rig->prng, 2))
                rig_step(rig);
            else
                rig_turn(rig, RIG_NOWHERE);
        }
        some_appends(rig);
        rig_turn(rig, stages[prng_below(&rig->prng, 4)]);
        return;
    }
    armed = NULL;
    rig_kill(rig);
}

enum queue_fate { ADOPTED = 0, LOST = 1, EITHER = 2 };

static void revive(struct rig *r, enum queue_fate fate) {
    for (;;) {
        int lost = fate == EITHER ? prng_one_in(&r->prng, 2) : (int)fate;
        rig_attach(r, lost);
        if (!prng_one_in(&r->prng, 6))
            return;
        rig_kill(r); /* before the first commit */
        if (prng_one_in(&r->prng, 2))
            sim_advance(r->sim, prng_below(&r->prng, 3 * NS_PER_MS));
    }
}

static void storm(uint64_t seed, uint32_t rounds, enum queue_fate fate, int by_stores) {
    struct rig *r = rig_new(seed);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    for (uint32_t round = 1; round <= rounds; round++) {
        work_and_die(r, by_stores ? 1 + prng_below(&r->prng, 400) : 0);
        if (prng_one_in(&r->prng, 3))
            sim_advance(r->sim, prng_below(&r->prng, 10 * NS_PER_MS));
        revive(r, fate);
        if (round % 50 == 0) {
            rig_turn(r, RIG_NOWHERE);
            rig_check(r);
        }
    }
    rig_settle(r);
    rig_check(r);
    uint32_t n = r->model_count;
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.frames_damaged + r->report.blocks_damaged, 0);
    assert_int_equal(r->report.records_lost + r->report.segments_missing, 0);
    rig_check_prefix(r);
    assert_true(n - r->model_count < 16); /* but a last request that is not whole */
    rig_free(r);
}

static void storms(uint64_t first_seed, uint32_t worlds, uint32_t rounds, enum queue_fate fate,
                   int by_stores) {
    for (uint32_t i = 0; i < worlds; i++)
        storm(first_seed + i, rounds, fate, by_stores);
}

static void kills_with_the_queue_adopted_lose_nothing(void **state) {
    storms(1, 5, 200, ADOPTED, 0);
}

static void kills_with_the_queue_lost_lose_nothing(void **state) {
    storms(20, 5, 200, LOST, 0);
}

static void kills_of_either_kind_lose_nothing(void **state) {
    storms(40, 5, 200, EITHER, 0);
}

static void a_kill_at_any_store_loses_nothing(void **state) {
    storms(60, 8, 200, EITHER, 1);
}

/* A power cut right after a warm attach: the chain goes on over the skipped range. */
static void a_cut_after_kills_keeps_what_was_flushed(void **state) {
    for (uint64_t seed = 100; seed < 130; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_wait_ready(r);
        for (int cuts = 0; cuts < 4; cuts++) {
            for (uint64_t kills = prng_below(&r->prng, 8); kills > 0; kills--) {
                work_and_die(r, prng_below(&r->prng, 3) * 100);
                revive(r, EITHER);
            }
            rig_step(r);
            rig_power_cut(r);
            assert_int_equal(rig_start(r, NULL), 0);
            assert_int_equal(r->report.frames_damaged + r->report.blocks_damaged, 0);
            assert_int_equal(r->report.records_lost + r->report.segments_missing, 0);
            rig_check_prefix(r);
        }
        rig_free(r);
    }
}

/* A frame of unknown outcome: its place is left, and its records stand behind it. */
static void an_unknown_write_is_left_behind(void **state) {
    struct rig *r = rig_new(200);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 8, 4, 0), 0);
    uint64_t sequence = log_recorded(r->l);
    uint64_t place = list_index_find(&r->index, sequence)->v.place;
    log_want_durable(r->l, sequence);
    rig_turn(r, RIG_BEFORE_RETIRE);
    rig_attach(r, 1);
    rig_settle(r);
    uint64_t moved = list_index_find(&r->index, sequence)->v.place;
    assert_int_equal(place_segment(moved), place_segment(place));
    assert_int_equal(place_offset_bytes(moved), place_offset_bytes(place) + 5 * BLOCK_BYTES);
    rig_check(r);

    rig_turn(r, RIG_BEFORE_RETIRE);
    rig_attach(r, 0); /* with the queue adopted, nothing moves */
    assert_int_equal(rig_append(r, PLACE_DATA, 8, 4, 0), 0);
    sequence = log_recorded(r->l);
    place = list_index_find(&r->index, sequence)->v.place;
    log_want_durable(r->l, sequence);
    rig_turn(r, RIG_BEFORE_RETIRE);
    rig_attach(r, 0);
    rig_settle(r);
    assert_int_equal(list_index_find(&r->index, sequence)->v.place, place);
    rig_check(r);
    rig_free(r);
}

/* Process after process dies with the same frame in flight. It moves behind the place before, until that is
 * farther behind what is durable than a cold start would leave out; then into another segment. */
static void an_unknown_write_is_not_far_from_what_is_durable(void **state) {
    struct rig *r = rig_new(202);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    rig_settle(r);
    const struct engine *root = engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
    uint32_t segment = root->log_end_segment, end = root->log_end_bytes, behind = 0;
    assert_int_equal(rig_append(r, PLACE_DATA, 8, 60, 0), 0);
    uint64_t sequence = log_recorded(r->l), place;
    for (int deaths = 0;; deaths++) {
        assert_true(deaths < 20);
        log_want_durable(r->l, sequence);
        place = list_index_find(&r->index, sequence)->v.place;
        if (place_segment(place) != segment)
            break;
        assert_true(place_offset_bytes(place) + 60 * BLOCK_BYTES <= end + r->params.orphan_bytes);
        behind = place_offset_bytes(place) - end;
        while (frame_view(&r->a, frame_next(&r->a, (struct frame_h){0}))->slot.state !=
               FRAME_WRITING)
            rig_step(r); /* the store header comes first */
        rig_kill(r);
        rig_attach(r, 1);
        rig_turn(r, RIG_NOWHERE);
        rig_turn(r, RIG_NOWHERE);
    }
    assert_true(behind > r->params.orphan_bytes / 2);
    rig_settle(r);
    rig_check(r);
    rig_free(r);
}

static uint64_t epoch_of_newest_frame(struct rig *r) {
    const struct engine *root = engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
    const struct segment *s = segment_view(&r->a, log_segment(r->l, root->log_end_segment));
    assert_int_equal(s->last_epoch, root->log_epoch);
    return s->last_epoch;
}

/* At each attach the epoch rises, durably before the first frame, and into the other copy. */
static void an_attach_raises_the_epoch(void **state) {
    struct rig *r = rig_new(201);
    struct file_system fs = sim_files(r->sim);
    struct store_header copies[2];
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    rig_settle(r);
    for (int i = 0; i < 4; i++) {
        uint64_t before = epoch_of_newest_frame(r);
        uint8_t block[BLOCK_BYTES];
        assert_int_equal(rig_append(r, PLACE_DATA, 8, 4, 0), 0);
        rig_turn(r, RIG_BEFORE_SUBMIT);
        rig_attach(r, 0);
        log_want_durable(r->l, log_recorded(r->l));
        rig_turn(r, RIG_NOWHERE);
        assert_int_equal(r->io.in_flight, 1); /* the store header, alone */
        rig_settle(r);
        assert_int_equal(epoch_of_newest_frame(r), before + 1);
        int file = fs.ops->open(fs.ctx, "store", FILE_READ);
        for (uint32_t c = 0; c < 2; c++) {
            assert_int_equal(fs.ops->read(fs.ctx, file, block, sizeof block, c * BLOCK_BYTES),
                             sizeof block);
            assert_int_equal(store_decode(block, &copies[c]), 0);
        }
        fs.ops->close(fs.ctx, file);
        uint32_t newer = copies[1].counter > copies[0].counter;
        assert_int_equal(copies[newer].epoch, before + 1);
        assert_int_equal(copies[newer].counter, copies[!newer].counter + 1);
    }
    rig_free(r);
}

/* Pins are private: what nobody reads any more after a kill is free. */
static void a_freed_segment_is_used_after_its_readers_died(void **state) {
    struct rig *r = rig_new(202);
    uint32_t device, leaving = 0;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    while (r->index.sealeds < 2) {
        rig_append(r, PLACE_DATA, 9, 60, 0);
        rig_step(r);
    }
    uint32_t oldest = r->index.entries[0].segment;
    struct segment_h h = log_segment(r->l, oldest);
    assert_int_equal(log_pin_segment(r->l, oldest, &device), 0);
    assert_int_equal(log_free_segment(r->l, oldest), 0);
    rig_turn(r, RIG_NOWHERE);
    assert_int_equal(segment_view(&r->a, h)->slot.state, SEGMENT_LEAVING);
    rig_kill(r);
    rig_attach(r, 0);
    rig_turn(r, RIG_NOWHERE);
    for (h = segment_next(&r->a, (struct segment_h){0}); h.v; h = segment_next(&r->a, h))
        leaving += segment_view(&r->a, h)->slot.state == SEGMENT_LEAVING;
    assert_int_equal(leaving, 0);
    rig_free(r);
}

/* Engines that die as soon as they have got on with a new slot, get it ready all the same. */
static void a_slot_is_prepared_by_short_lives(void **state) {
    struct rig *r = rig_new(203);
    r->params.zero_bytes = RIG_SEGMENT_BYTES / 8;
    assert_int_equal(rig_start(r, NULL), 0);
    uint32_t lives = 0, ready = 0, done = 0;
    while (ready < r->params.ready_segments) {
        uint32_t before = done;
        for (int i = 0; i < 100 && done == before; i++) {
            rig_step(r);
            done = ready = 0;
            for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
                 h = segment_next(&r->a, h)) {
                const struct segment *s = segment_view(&r->a, h);
                ready += s->slot.state == SEGMENT_RESERVED;
                done += s->slot.state == SEGMENT_PREPARING ? s->data_end / r->params.zero_bytes
                                                           : 8 * (s->slot.state != SEGMENT_FREE);
            }
        }
        assert_true(++lives < 100);
        rig_kill(r);
        rig_attach(r, 0);
    }
    assert_true(lives > 8);
    rig_wait_ready(r);
    rig_check(r);
    rig_free(r);
}

/* Attach refuses slots that contradict each other. */
static void a_contradiction_in_the_slots_does_not_qualify(void **state) {
    for (int kind = 0; kind < 6; kind++) {
        struct rig *r = rig_new(210 + (uint64_t)kind);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_wait_ready(r);
        rig_settle(r);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(rig_append(r, PLACE_DATA, 8, 240, 0), 0);
            rig_turn(r, RIG_NOWHERE);
        }
        struct frame_h h = frame_next(&r->a, (struct frame_h){0});
        struct frame *f = frame_edit(&r->a, h);
        if (kind == 0)
            f->pages++;
        else if (kind == 1)
            f->extent[1].first = UINT32_MAX;
        else if (kind == 2)
            f->extent[1].first = f->extent[0].first;
        else if (kind == 3)
            f->segment++;
        else if (kind == 4)
            f->first_sequence += 100;
        else
            f->extents = FRAME_EXTENTS_MAX + 1;
        arena_commit(&r->a);
        rig_kill(r);
        assert_int_equal(rig_try_attach(r), ERR_INTEGRITY);
        rig_free(r);
    }
}

/* Salvage. ------------------------------------------------------------------------------------- */

static struct rig *with_answers(uint64_t seed, uint32_t appends) {
    struct rig *r = rig_new(seed);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    for (uint32_t i = 0; i < appends; i++) {
        rig_append_at_random(r);
        if (prng_one_in(&r->prng, 3))
            rig_turn(r, RIG_NOWHERE);
        else if (prng_one_in(&r->prng, 3))
            rig_step(r);
    }
    while (rig_append(r, PLACE_ZERO, 1, 1, 0) < 0)
        rig_step(r);
    rig_turn(r, RIG_NOWHERE);
    return r;
}

/* Starts cold after a death, and what was answered is all there. */
static void start_with_all_of(struct rig *r, void *memory, uint32_t records) {
    assert_int_equal(rig_start(r, memory), 0);
    rig_unmap(memory);
    assert_int_equal(r->report.salvage_damaged, 0);
    assert_int_equal(r->index.count, records);
    rig_check_prefix(r);
}

static void a_cold_start_writes_what_was_answered(void **state) {
    uint64_t salvaged = 0, nothing = 0;
    for (uint64_t seed = 300; seed < 360; seed++) {
        struct rig *r = with_answers(seed, 5 + (uint32_t)seed % 60);
        for (int again = 0; again < 3; again++) {
            uint32_t n = r->model_count;
            void *memory = rig_die_with_arena(r);
            if (prng_one_in(&r->prng, 2))
                sim_advance(r->sim, 100 * NS_PER_MS); /* orphans have landed, or not */
            start_with_all_of(r, memory, n);
            salvaged += r->report.salvaged_records;
            nothing += r->report.salvaged_records == 0;
            rig_wait_ready(r);
            if (prng_one_in(&r->prng, 2))
                for (int i = 0; i < 20; i++)
                    rig_append(r, PLACE_DATA, (uint64_t)i, 3, 0);
            rig_turn(r, RIG_NOWHERE);
            sim_advance(r->sim, 100 * NS_PER_MS);
            rig_check(r);
        }
        rig_settle(r);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        rig_free(r);
    }
    assert_true(salvaged > 500 && nothing > 0);
}

/* A frame that a dead process had given to the disk, and that is only written: the next one finds it, and
 * says that it is durable. */
static void what_a_cold_start_finds_is_durable(void **state) {
    for (uint64_t seed = 380; seed < 420; seed++) {
        struct rig *r = with_answers(seed, 3);
        rig_settle(r);
        assert_int_equal(rig_append(r, PLACE_DATA, 7, 5, 0), 0);
        log_want_durable(r->l, log_recorded(r->l));
        rig_turn(r, RIG_BEFORE_RETIRE);
        void *memory = rig_die_with_arena(r);
        assert_int_equal(rig_start(r, memory), 0);
        rig_unmap(memory);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        rig_free(r);
    }
}

/* As much is answered as there is room for, and nearly all of it is in memory only. */
static void answer_all_that_fits(struct rig *r) {
    int err = rig_append(r, PLACE_DATA, 1, 60, 0);
    for (int i = 0; i < 200 && err < 0; i++) {
        rig_step(r);
        err = rig_append(r, PLACE_DATA, 1, 60, 0);
    }
    while (err == 0) {
        if (prng_one_in(&r->prng, 8))
            rig_turn(r, RIG_NOWHERE);
        err = rig_append(r, PLACE_DATA, prng_below(&r->prng, 5000), 60, 0);
    }
    rig_turn(r, RIG_NOWHERE);
}

/* Deaths in a row, and never is a run made but by the start itself. */
static void a_cold_start_seals_what_there_is_no_memory_for(void **state) {
    uint32_t salvaged = 0, sealed = 0;
    for (uint64_t seed = 430; seed < 442; seed++) {
        struct rig *r = with_answers(seed, 3);
        r->index.memory_max = 1 + (uint32_t)seed % 3;
        r->index.holds_seals = 1;
        for (int again = 0; again < 6; again++) {
            answer_all_that_fits(r);
            uint32_t n = r->model_count;
            void *memory = rig_die_with_arena(r);
            assert_int_equal(rig_start(r, memory), 0);
            rig_unmap(memory);
            assert_int_equal(r->index.count, n);
            rig_check_prefix(r);
            salvaged += r->report.salvaged_frames;
            sealed += rig_count_state(r, SEGMENT_SEALED);
            assert_true(rig_count_state(r, SEGMENT_OPEN) + rig_count_state(r, SEGMENT_SEALING) <=
                        r->index.memory_max);
        }
        r->index.holds_seals = 0;
        rig_wait_ready(r);
        rig_settle(r);
        rig_check(r);
        rig_power_cut(r);
        r->index.memory_max = 1;
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        rig_free(r);
    }
    assert_true(salvaged > 100 && sealed > 100);
}

/* And what cannot be sealed is told: nothing is lost, and the next start does it. */
static void a_cold_start_that_cannot_seal_may_be_done_again(void **state) {
    struct rig *r = with_answers(450, 3);
    r->index.holds_seals = 1;
    for (int i = 0; i < 300; i++) {
        if (rig_append(r, PLACE_DATA, (uint64_t)i, 60, 0) < 0 || i % 8 == 0)
            rig_step(r);
    }
    uint32_t unsealed = rig_count_state(r, SEGMENT_OPEN) + rig_count_state(r, SEGMENT_SEALING);
    assert_true(unsealed >= 3);
    rig_wait_durable(r, log_recorded(r->l));
    rig_power_cut(r);
    r->index.memory_max = 1;
    /* No footer can be written. */
    sim_fault_add(r->sim, &(struct sim_fault){.kind = SIM_WRITE_FAILS,
                                              .offset_bytes = RIG_SEGMENT_BYTES - BLOCK_BYTES,
                                              .bytes = BLOCK_BYTES});
    assert_int_equal(rig_start(r, NULL), ERR_IO);
    assert_string_equal(r->alert, "segment_seal_failed");
    rig_power_cut(r);
    sim_fault_clear(r->sim);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_true(rig_count_state(r, SEGMENT_SEALED) >= unsealed - 1);
    rig_check_prefix(r);
    rig_free(r);
}

/* The request that was being recorded in slices is not whole: it goes. */
static void a_request_that_is_not_whole_is_not_salvaged(void **state) {
    struct rig *r = with_answers(370, 10);
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    uint32_t n = r->model_count;
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig_append(r, PLACE_DATA, 2, 240, LOG_MORE), 0);
    rig_turn(r, RIG_NOWHERE);
    void *memory = rig_die_with_arena(r);
    assert_int_equal(rig_start(r, memory), 0);
    assert_int_equal(r->index.count, n);
    rig_check_prefix(r);
    rig_unmap(memory);
    for (int i = 0; i < 2; i++) {
        rig_wait_ready(r);
        rig_settle(r);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        assert_int_equal(r->index.count, n + 1 + (uint32_t)i);
        rig_check_prefix(r);
    }
    rig_free(r);
}

/* Damage in the dead arena: what comes before it is salvaged, the rest is lost, and told. */
/* A long request was cut off at the end of the log, in one frame or two. What the next process answers
 * follows the record before it, and is salvaged though nothing of it is in the log. */
static void what_follows_a_request_that_was_cut_off_is_salvaged(void **state) {
    for (int frames = 1; frames <= 2; frames++) {
        struct rig *r = with_answers(372, 10);
        rig_settle(r);
        assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
        for (int i = 0; i < frames; i++) {
            assert_int_equal(rig_append(r, PLACE_DATA, 2, 240, LOG_MORE), 0);
            rig_wait_durable(r, log_recorded(r->l));
        }
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        assert_true(r->report.records_cut > 0);
        rig_check_prefix(r);
        rig_wait_ready(r);
        uint32_t n = r->model_count;
        void *memory = rig_die_with_arena(r);
        start_with_all_of(r, memory, n);
        assert_int_equal(r->report.records_cut, 0);
        assert_true(r->report.salvaged_records > 0);
        rig_settle(r);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        rig_free(r);
    }
}

/* The last salvaged frame ends with half of a request. What the next process answers follows the record before
 * that half, and is salvaged in turn. */
static void half_of_a_request_that_was_salvaged_is_no_end(void **state) {
    struct rig *r = with_answers(373, 10);
    for (int round = 0; round < 3; round++) {
        rig_settle(r);
        assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
        uint32_t n = r->model_count;
        assert_int_equal(rig_append(r, PLACE_DATA, 2, 1, LOG_MORE), 0);
        rig_turn(r, RIG_NOWHERE);
        for (int again = 0; again < 2; again++) {
            void *memory = rig_die_with_arena(r);
            start_with_all_of(r, memory, n);
            assert_int_equal(r->report.salvaged_frames, 1);
            rig_wait_ready(r);
            n = r->model_count;
        }
    }
    rig_free(r);
}

static void copy_header(struct rig *r, int put, uint8_t copies[STORE_COPIES * BLOCK_BYTES]) {
    struct file_system fs = sim_files(r->sim);
    uint64_t bytes = STORE_COPIES * BLOCK_BYTES;
    int f = fs.ops->open(fs.ctx, STORE_FILE, put ? FILE_WRITE : FILE_READ);
    assert_true(f >= 0);
    assert_int_equal(put ? fs.ops->write(fs.ctx, f, copies, bytes, 0)
                         : fs.ops->read(fs.ctx, f, copies, bytes, 0),
                     bytes);
    fs.ops->close(fs.ctx, f);
}

/* The same, and that the half does not count is forgotten: the store header that said so is gone. What was
 * answered since follows the record before the half, and says it as well. */
static void half_of_a_request_is_no_end_for_what_follows(void **state) {
    struct rig *r = with_answers(374, 10);
    uint8_t copies[STORE_COPIES * BLOCK_BYTES];
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    assert_int_equal(rig_append(r, PLACE_DATA, 2, 1, LOG_MORE), 0);
    uint32_t n = r->model_count - 1;
    rig_turn(r, RIG_NOWHERE);
    copy_header(r, 0, copies);
    void *memory = rig_die_with_arena(r);
    assert_int_equal(rig_start(r, memory), 0);
    rig_unmap(memory);
    assert_int_equal(r->index.count, n);
    rig_check_prefix(r);
    rig_wait_ready(r);
    n = r->model_count;
    memory = rig_die_with_arena(r);
    copy_header(r, 1, copies);
    start_with_all_of(r, memory, n);
    assert_int_equal(r->report.salvaged_frames, 1);
    rig_settle(r);
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->index.count, n);
    rig_check_prefix(r);
    rig_free(r);
}

/* The process dies with a frame in flight and its queue is lost, but the write was done. The next process gives
 * the frame another place, where it grows, and dies as well; the start finds the shorter copy in the log. */
static void a_frame_of_which_a_copy_is_in_the_log_is_salvaged(void **state) {
    uint32_t least = UINT32_MAX, most = 0;
    for (uint64_t seed = 380; seed < 400; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_wait_ready(r);
        rig_settle(r);
        assert_int_equal(rig_append(r, PLACE_DATA, 8, 4, 0), 0);
        log_want_durable(r->l, log_recorded(r->l));
        rig_turn(r, RIG_BEFORE_RETIRE);
        rig_attach(r, 1);
        rig_turn(r, RIG_NOWHERE); /* the frame is moved */
        rig_turn(r, RIG_NOWHERE);
        assert_int_equal(rig_append(r, PLACE_DATA, 9, 4, 0), 0);
        rig_turn(r, RIG_NOWHERE);
        assert_int_equal(frame_used(&r->a), 1);
        uint32_t n = r->model_count;
        void *memory = rig_die_with_arena(r);
        sim_advance(r->sim, 100 * NS_PER_MS);
        start_with_all_of(r, memory, n);
        least = r->report.frames_scanned < least ? r->report.frames_scanned : least;
        most = r->report.frames_scanned > most ? r->report.frames_scanned : most;
        rig_settle(r);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        assert_int_equal(r->index.count, n);
        rig_check_prefix(r);
        rig_free(r);
    }
    assert_int_equal(most, least + 1);
}

static void a_damaged_frame_ends_the_salvage(void **state) {
    for (int kind = 0; kind < 9; kind++) {
        struct rig *r = with_answers(380, 10);
        rig_settle(r);
        uint32_t n = r->model_count;
        assert_int_equal(log_durable(r->l), log_recorded(r->l));
        for (int i = 0; i < 4; i++)
            assert_int_equal(rig_append(r, PLACE_DATA, 2, 240, 0), 0);
        rig_turn(r, RIG_BEFORE_SUBMIT);
        rig_attach(r, 0);
        struct frame_h h = frame_next(&r->a, (struct frame_h){0});
        while (frame_view(&r->a, h)->first_sequence != r->model[n + 2].sequence)
            h = frame_next(&r->a, h);
        struct frame *f = frame_edit(&r->a, h);
        unsigned char *header = buffer_data(&r->buffers, f->extent[0].first);
        unsigned char *data = buffer_data(&r->buffers, f->extent[1].first);
        if (kind == 0)
            data[1234] ^= 1;
        else if (kind == 1)
            header[FRAME_RECORDS_OFFSET + 7] ^= 1;
        else if (kind == 2)
            f->records++;
        else if (kind == 3)
            f->pages--;
        else if (kind == 4)
            f->extent[1].first = 0x7fffffff;
        else if (kind == 5)
            f->block_end = 5000;
        else if (kind == 6)
            f->extents = 100000;
        else if (kind == 7)
            f->follows--;
        else
            f->records_crc ^= 1;
        arena_commit(&r->a);
        r->promised = log_durable(r->l);
        void *memory = rig_die_with_arena(r);
        assert_int_equal(rig_start(r, memory), 0);
        rig_unmap(memory);
        assert_int_equal(r->report.salvaged_frames, 2);
        assert_int_equal(r->report.salvage_damaged, 2);
        assert_string_equal(r->alert, "answered_writes_lost");
        assert_int_equal(r->index.count, n + 2);
        rig_check_prefix(r);
        rig_free(r);
    }
}

/* Memory that is no arena, or of a layout whose frames are unknown. */
static void what_is_not_an_arena_is_refused(void **state) {
    struct rig *r = with_answers(390, 10);
    uint32_t n = r->model_count;
    unsigned char *memory = rig_die_with_arena(r);
    struct arena_identity *id = (void *)memory;
    id->layout_hash++; /* the identity's checksum no longer matches */
    assert_int_equal(rig_start(r, memory), ERR_FORMAT);
    rig_power_down(r);
    id->layout_hash--;
    uint64_t size = id->size_bytes;
    assert_int_equal(rig_start_with(r, memory, ARENA_HEADER_BYTES - 1), ERR_FORMAT);
    rig_power_down(r);
    assert_int_equal(rig_start_with(r, memory, size), 0);
    assert_int_equal(r->index.count, n);
    rig_check_prefix(r);
    rig_unmap(memory);
    rig_free(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kills_with_the_queue_adopted_lose_nothing),
        cmocka_unit_test(kills_with_the_queue_lost_lose_nothing),
        cmocka_unit_test(kills_of_either_kind_lose_nothing),
        cmocka_unit_test(a_kill_at_any_store_loses_nothing),
        cmocka_unit_test(a_cut_after_kills_keeps_what_was_flushed),
        cmocka_unit_test(an_unknown_write_is_left_behind),
        cmocka_unit_test(an_unknown_write_is_not_far_from_what_is_durable),
        cmocka_unit_test(an_attach_raises_the_epoch),
        cmocka_unit_test(a_freed_segment_is_used_after_its_readers_died),
        cmocka_unit_test(a_slot_is_prepared_by_short_lives),
        cmocka_unit_test(a_contradiction_in_the_slots_does_not_qualify),
        cmocka_unit_test(a_cold_start_writes_what_was_answered),
        cmocka_unit_test(what_a_cold_start_finds_is_durable),
        cmocka_unit_test(a_cold_start_seals_what_there_is_no_memory_for),
        cmocka_unit_test(a_cold_start_that_cannot_seal_may_be_done_again),
        cmocka_unit_test(a_request_that_is_not_whole_is_not_salvaged),
        cmocka_unit_test(what_follows_a_request_that_was_cut_off_is_salvaged),
        cmocka_unit_test(half_of_a_request_that_was_salvaged_is_no_end),
        cmocka_unit_test(half_of_a_request_is_no_end_for_what_follows),
        cmocka_unit_test(a_frame_of_which_a_copy_is_in_the_log_is_salvaged),
        cmocka_unit_test(a_damaged_frame_ends_the_salvage),
        cmocka_unit_test(what_is_not_an_arena_is_refused),
    };
    signal(SIGABRT, die);
    return cmocka_run_group_tests_name("log_kill", tests, NULL, NULL);
}
