/* SPDX-License-Identifier: Apache-2.0 */
/* Power cuts and cold starts: what was flushed is there, what is there is a prefix that ends a
 * request; and the faults that must not pass, each planted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/log/frame_disk.h"
#include "engine/log/rig_test.h"
#include "engine/log/store_disk.h"
#include "engine/root.h"

static void work(struct rig *r, uint32_t turns) {
    for (uint32_t i = 0; i < turns; i++) {
        for (uint64_t n = prng_below(&r->prng, 6); n > 0; n--)
            rig_append_at_random(r);
        if (prng_one_in(&r->prng, 5))
            log_want_durable(r->l, log_recorded(r->l));
        if (prng_one_in(&r->prng, 3))
            rig_step(r);
        else
            rig_turn(r, RIG_NOWHERE);
    }
}

static void restart(struct rig *r) {
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.frames_damaged, 0);
    assert_int_equal(r->report.blocks_damaged, 0);
    assert_int_equal(r->report.records_lost, 0);
    assert_int_equal(r->report.segments_missing, 0);
    rig_check_prefix(r);
}

/* At every flush of a run, each in a world of its own. */
static void a_cut_at_every_flush_keeps_what_was_flushed(void **state) {
    uint32_t lost = 0, torn = 0, cut = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_wait_ready(r);
        work(r, (uint32_t)seed * 3);
        rig_append_at_random(r);
        rig_wait_durable(r, log_recorded(r->l));
        if (seed % 3 == 0) { /* in flight, and long enough to be torn */
            rig_append(r, PLACE_DATA, 5, 20, 0);
            rig_turn(r, RIG_NOWHERE);
        } else {
            work(r, (uint32_t)prng_below(&r->prng, 3));
        }
        uint32_t before = r->model_count;
        restart(r);
        lost += r->model_count < before;
        torn += r->report.frames_torn;
        cut += r->report.records_cut;
        rig_free(r);
    }
    assert_true(lost > 5 && torn > 0 && cut > 0);
}

/* One world through many cuts, also right after a start. */
static void a_store_lives_through_many_cuts(void **state) {
    uint32_t sealed = 0;
    for (uint64_t seed = 100; seed < 106; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        for (int cuts = 0; cuts < 12; cuts++) {
            work(r, (uint32_t)prng_below(&r->prng, 120));
            restart(r);
            sealed += r->report.segments_sealed;
        }
        rig_settle(r);
        rig_check(r);
        rig_free(r);
    }
    assert_true(sealed > 10);
}

/* Within jobs and start-up code: the process stands still after some operations, then the cut. */
static void a_cut_within_a_start_or_a_job_does_no_harm(void **state) {
    for (uint64_t seed = 200; seed < 212; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        for (int i = 0; i < 8; i++) {
            work(r, 60);
            if (prng_one_in(&r->prng, 2)) {
                rig_power_cut(r);
                sim_stop_after(r->sim, 1 + prng_below(&r->prng, 40));
                if (rig_start(r, NULL) < 0)
                    assert_true(sim_stopped(r->sim));
                else /* served from now on: what was cut off is gone for good */
                    r->model_count = r->model_committed = r->index.count;
            } else {
                sim_stop_after(r->sim, 1 + prng_below(&r->prng, 60));
                for (int n = 0; n < 500 && !sim_stopped(r->sim); n++) {
                    rig_append_at_random(r);
                    rig_turn(r, RIG_NOWHERE);
                    sim_advance(r->sim, 100 * NS_PER_US);
                }
            }
            uint64_t must_have = r->must_have;
            rig_power_cut(r);
            if (r->must_have < must_have)
                r->must_have = must_have;
            assert_int_equal(rig_start(r, NULL), 0);
            rig_check_prefix(r);
        }
        rig_free(r);
    }
}

/* Planted faults. ------------------------------------------------------------------------------ */

static const struct engine *root_of(const struct rig *r) {
    return engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}));
}

static uint32_t file_of(const struct rig *r, uint32_t segment) {
    return segment_view(&r->a, log_segment(r->l, segment))->file;
}

static void disk_read(struct rig *r, uint32_t file, void *buf, uint32_t bytes, uint32_t offset) {
    struct file_system fs = sim_files(r->sim);
    char path[64];
    rig_path(file, path);
    int f = fs.ops->open(fs.ctx, path, FILE_READ);
    assert_true(f >= 0);
    assert_int_equal(fs.ops->read(fs.ctx, f, buf, bytes, offset), bytes);
    fs.ops->close(fs.ctx, f);
}

static void disk_write(struct rig *r, uint32_t file, const void *buf, uint32_t bytes,
                       uint32_t offset) {
    struct file_system fs = sim_files(r->sim);
    char path[64];
    rig_path(file, path);
    int f = fs.ops->open(fs.ctx, path, FILE_WRITE);
    assert_true(f >= 0);
    assert_int_equal(fs.ops->write(fs.ctx, f, buf, bytes, offset), bytes);
    assert_int_equal(fs.ops->sync(fs.ctx, f), 0);
    fs.ops->close(fs.ctx, f);
}

static struct rig *with_frames(uint64_t seed, int frames) {
    struct rig *r = rig_new(seed);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    rig_settle(r);
    for (int i = 0; i < frames; i++) {
        assert_int_equal(rig_append(r, PLACE_DATA, (uint64_t)i * 10, 4, 0), 0);
        rig_settle(r);
    }
    return r;
}

/* A slot is used again, its new segment has some frames, and behind them lie whole frames of the
 * old one, at the very place where the next would be. */
static void a_stale_frame_in_a_recycled_slot_does_not_pass(void **state) {
    struct rig *r = rig_new(300);
    uint32_t hits = 0;
    r->params.max_bytes = 5 * RIG_SEGMENT_BYTES;
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    for (int round = 0; round < 40; round++) {
        /* Frames of one size, so that new ones end where old ones begin. */
        while (rig_append(r, PLACE_DATA, 3, 8, 0) < 0)
            rig_step(r);
        rig_wait_durable(r, log_recorded(r->l));
        for (int i = 0; i < 40; i++) {
            if (rig_append(r, PLACE_DATA, 3, 8, 0) == 0)
                rig_wait_durable(r, log_recorded(r->l));
            else
                rig_step(r);
        }
        for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
             h = segment_next(&r->a, h)) {
            const struct segment *s = segment_view(&r->a, h);
            if (s->slot.state == SEGMENT_SEALED && s->number != root_of(r)->log_end_segment) {
                r->freed[r->freed_count++] = s->number;
                assert_int_equal(log_free_segment(r->l, s->number), 0);
            }
        }
        uint32_t kept = 0;
        for (uint32_t i = 0; i < r->model_count; i++)
            if (list_index_find(&r->index, r->model[i].sequence))
                r->model[kept++] = r->model[i];
        r->model_count = r->model_committed = kept;
        uint8_t page[BLOCK_BYTES];
        struct frame_header h;
        disk_read(r, file_of(r, root_of(r)->log_end_segment), page, sizeof page,
                  root_of(r)->log_end_bytes);
        hits += frame_header_decode(page, RIG_SEGMENT_BYTES, &h) == 0 &&
                h.segment != root_of(r)->log_end_segment;
        restart(r);
        rig_wait_ready(r);
    }
    assert_true(hits > 3);
    rig_free(r);
}

/* The process dies with a frame in flight, a new one starts cold and serves; then the frame lands:
 * before a second cold start, with and without frames of the new epoch. */
static void an_orphaned_write_that_lands_late_does_not_pass(void **state) {
    for (int with_new_frames = 0; with_new_frames < 2; with_new_frames++) {
        struct rig *r = with_frames(301, 5);
        uint32_t segment = root_of(r)->log_end_segment, at = root_of(r)->log_end_bytes;
        uint32_t file = file_of(r, segment), bytes = 5 * BLOCK_BYTES;
        uint8_t *old = malloc(bytes), *orphan = malloc(bytes);
        disk_read(r, file, old, bytes, at);
        assert_int_equal(rig_append(r, PLACE_DATA, 77, 4, 0), 0);
        uint64_t last = log_recorded(r->l);
        rig_settle(r);
        disk_read(r, file, orphan, bytes, at);
        struct frame_header h;
        assert_int_equal(frame_header_decode(orphan, RIG_SEGMENT_BYTES, &h), 0);
        assert_int_equal(h.first_sequence, last);
        disk_write(r, file, old, bytes, at); /* as if it were still on its way */
        r->model_count = --r->model_committed;
        r->promised = last - 1;
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        assert_true(log_recorded(r->l) > last);
        if (with_new_frames) {
            assert_int_equal(rig_append(r, PLACE_DATA, 78, 4, 0), 0);
            rig_settle(r);
        }
        disk_write(r, file, orphan, bytes, at);
        rig_check(r);
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        assert_null(list_index_find(&r->index, last));
        assert_int_equal(r->report.frames_damaged + r->report.frames_torn, 0);
        assert_int_equal(rig_append(r, PLACE_DATA, 79, 4, 0), 0);
        rig_settle(r);
        restart(r);
        free(old);
        free(orphan);
        rig_free(r);
    }
}

/* A store that was stopped in order goes on right at its end; two frames of dead processes land there
 * all the same, and a shorter new one, so that the second of them stands behind it. */
static void an_old_frame_behind_new_ones_does_not_pass(void **state) {
    struct rig *r = with_frames(311, 5);
    uint32_t segment = root_of(r)->log_end_segment, at = root_of(r)->log_end_bytes;
    uint32_t file = file_of(r, segment), bytes = 10 * BLOCK_BYTES;
    uint8_t *old = malloc(bytes), *orphans = malloc(bytes);
    disk_read(r, file, old, bytes, at);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rig_append(r, PLACE_DATA, 77, 4, 0), 0);
        rig_settle(r);
    }
    disk_read(r, file, orphans, bytes, at);
    struct frame_header second; /* as if the first one's outcome had been unknown */
    assert_int_equal(frame_header_decode(orphans + 5 * BLOCK_BYTES, RIG_SEGMENT_BYTES, &second), 0);
    struct frame_header first;
    assert_int_equal(frame_header_decode(orphans, RIG_SEGMENT_BYTES, &first), 0);
    second.previous = first.previous;
    frame_header_encode(&second, orphans + 5 * BLOCK_BYTES);
    disk_write(r, file, old, bytes, at);
    r->model_count = r->model_committed -= 2;
    r->promised = rig_sequence(r, r->model_count - 1);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    rig_check_prefix(r);
    sim_advance(r->sim, r->params.quarantine_ns); /* else the stop does not count as one in order */
    for (int i = 0; i < 50 || log_stop(r->l) < 0; i++)
        rig_step(r);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.stopped, 1);
    rig_check_prefix(r);
    disk_write(r, file, orphans, bytes, at);
    assert_int_equal(rig_append(r, PLACE_DATA, 78, 1, 0), 0);
    rig_settle(r);
    assert_int_equal(root_of(r)->log_end_offset, at);
    restart(r);
    assert_int_equal(r->index.entries[r->index.count - 1].v.block, 78);
    free(old);
    free(orphans);
    rig_free(r);
}

static struct segment_h first_reserved(const struct rig *r) {
    struct segment_h first = {0};
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        if (s->slot.state == SEGMENT_RESERVED &&
            (!first.v || s->number < segment_view(&r->a, first)->number))
            first = h;
    }
    return first;
}

/* A long frame of a dead process is torn: of what it should have been only the header is there. It
 * lies where the log goes on, so that new frames would lie within it: behind the end, or in the segment
 * that comes next; or near the end of that one, so that a new frame has no room behind it. */
static void a_torn_frame_hides_no_new_ones(void **state) {
    for (int variant = 0; variant < 3; variant++) {
        int next_segment = variant > 0;
        struct rig *r = with_frames(313, 5);
        uint32_t segment = root_of(r)->log_end_segment, at = root_of(r)->log_end_bytes;
        uint32_t file = file_of(r, segment);
        struct segment_h hit = next_segment ? first_reserved(r) : log_segment(r->l, segment);
        uint8_t old[BLOCK_BYTES], torn[BLOCK_BYTES];
        struct frame_header h;
        assert_int_not_equal(hit.v, 0);
        disk_read(r, file, old, sizeof old, at);
        assert_int_equal(rig_append(r, PLACE_DATA, 77, 40, 0), 0);
        rig_settle(r);
        disk_read(r, file, torn, sizeof torn, at);
        assert_int_equal(frame_header_decode(torn, RIG_SEGMENT_BYTES, &h), 0);
        h.segment = segment_view(&r->a, hit)->number;
        h.offset = (next_segment ? SEGMENT_FRAMES_OFFSET : at) + 1u * MIB - 4 * BLOCK_BYTES;
        if (variant == 2)
            h.offset = RIG_SEGMENT_BYTES - h.length_bytes - 20 * BLOCK_BYTES;
        assert_int_equal(r->params.orphan_bytes, 1u * MIB);
        frame_header_encode(&h, torn);
        disk_write(r, file, old, sizeof old, at);
        disk_write(r, segment_view(&r->a, hit)->file, torn, sizeof torn, h.offset);
        r->model_count = --r->model_committed;
        r->promised = rig_sequence(r, r->model_count - 1);
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        assert_int_equal(r->report.frames_torn, 1);
        rig_check_prefix(r);
        rig_wait_ready(r);
        for (int i = 0; i < 3 || (next_segment && root_of(r)->log_end_segment == segment); i++) {
            assert_int_equal(rig_append(r, PLACE_DATA, 78, 40, 0), 0);
            rig_settle(r);
        }
        rig_check(r);
        restart(r);
        rig_free(r);
    }
}

/* Where the next frame goes in the segment that takes records, or in those that are prepared. */
static void goes_on_at(const struct rig *r, uint32_t append, uint32_t prepared) {
    struct segment_h open = {root_of(r)->log_append_segment};
    assert_int_equal(open.v ? segment_view(&r->a, open)->append_end : 0, append);
    uint32_t reserved = 0;
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        if (s->slot.state != SEGMENT_RESERVED)
            continue;
        reserved++;
        assert_int_equal(s->append_end, prepared);
    }
    assert_true(reserved > 0);
}

/* Nothing becomes durable between the starts: each goes on beyond where the one before did, and in other
 * segments when that is too far. */
static void room_that_a_dead_write_may_hit_is_left_out(void **state) {
    struct rig *r = with_frames(302, 3);
    uint32_t end = root_of(r)->log_end_bytes, room = 1u * MIB;
    assert_int_equal(r->params.orphan_bytes, room);
    for (uint32_t n = 1; n <= 2; n++) {
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        goes_on_at(r, end + n * room, SEGMENT_FRAMES_OFFSET + n * room);
    }
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    goes_on_at(r, 0, SEGMENT_FRAMES_OFFSET);
    rig_settle(r);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    goes_on_at(r, 0, SEGMENT_FRAMES_OFFSET + 2 * room);
    while (log_stop(r->l) < 0)
        rig_step(r);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    goes_on_at(r, 0, SEGMENT_FRAMES_OFFSET);
    rig_free(r);
}

/* A process dies while it writes the store header, the next one starts cold, and then the write lands. */
static void a_store_header_that_lands_late_undoes_no_start(void **state) {
    struct rig *r = with_frames(315, 3);
    uint32_t end = root_of(r)->log_end_bytes, room = (uint32_t)r->params.orphan_bytes;
    uint8_t copies[STORE_COPIES * BLOCK_BYTES], late[BLOCK_BYTES];
    struct store_header h;
    struct file_system fs = sim_files(r->sim);
    int f = fs.ops->open(fs.ctx, STORE_FILE, FILE_READ);
    assert_int_equal(fs.ops->read(fs.ctx, f, copies, sizeof copies, 0), sizeof copies);
    assert_int_equal(store_decode_copies(copies, &h), 0);
    h.counter++;
    h.epoch++;
    store_encode(&h, late);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    goes_on_at(r, end + room, SEGMENT_FRAMES_OFFSET + room);
    fs = sim_files(r->sim);
    f = fs.ops->open(fs.ctx, STORE_FILE, FILE_WRITE);
    assert_int_equal(
        fs.ops->write(fs.ctx, f, late, sizeof late, h.counter % STORE_COPIES * BLOCK_BYTES),
        sizeof late);
    rig_unmap(rig_die_with_arena(r));
    assert_int_equal(rig_start(r, NULL), 0);
    goes_on_at(r, end + 2 * room, SEGMENT_FRAMES_OFFSET + 2 * room);
    rig_free(r);
}

/* A process that started cold dies with its first frame in flight, behind the end or at the beginning
 * of a segment; the next one starts cold, too, and writes; then the frame lands. */
static void an_orphan_of_a_process_that_started_cold_hits_nothing(void **state) {
    for (int next_segment = 0; next_segment < 2; next_segment++) {
        struct rig *r = with_frames(314, 3);
        uint32_t bytes = 41 * BLOCK_BYTES, segment;
        uint8_t *orphan = malloc(bytes), *old = calloc(1, bytes);
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        segment = root_of(r)->log_end_segment;
        do {
            while (rig_append(r, PLACE_DATA, 77, 40, 0) < 0)
                rig_step(r);
            rig_settle(r);
        } while (next_segment && root_of(r)->log_end_segment == segment);
        uint32_t file = file_of(r, root_of(r)->log_end_segment);
        uint32_t at = root_of(r)->log_end_offset;
        disk_read(r, file, orphan, bytes, at);
        disk_write(r, file, old, bytes, at); /* as if it were still on its way */
        r->model_count = --r->model_committed;
        r->promised = rig_sequence(r, r->model_count - 1);
        rig_unmap(rig_die_with_arena(r));
        assert_int_equal(rig_start(r, NULL), 0);
        rig_check_prefix(r);
        for (int i = 0; i < 3; i++) {
            while (rig_append(r, PLACE_DATA, 78, 40, 0) < 0)
                rig_step(r);
            rig_settle(r);
        }
        disk_write(r, file, orphan, bytes, at);
        rig_check(r);
        restart(r);
        rig_check(r);
        free(orphan);
        free(old);
        rig_free(r);
    }
}

static void damaged_and_found(struct rig *r, uint32_t frames, uint32_t blocks, uint64_t lost) {
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.frames_damaged, frames);
    assert_int_equal(r->report.blocks_damaged, blocks);
    assert_int_equal(r->report.records_lost, lost);
    assert_int_equal(r->report.frames_torn, 0);
    assert_string_equal(r->alert, blocks ? "blocks_damaged" : "log_damaged");
}

static void flip(struct rig *r, uint32_t segment, uint32_t offset) {
    char path[64];
    rig_path(file_of(r, segment), path);
    assert_int_equal(sim_corrupt(r->sim, path, offset, 0x10), 0);
}

/* A bit in the data of a durable frame: the block is told, and delivered with its checksum, which
 * its bytes do not match; the rest is there. */
static void a_flipped_bit_in_durable_data_is_reported(void **state) {
    struct rig *r = with_frames(303, 6);
    const struct entry *e = &r->index.entries[3];
    uint64_t place = place_block(e->v.place, 2);
    uint32_t count = r->index.count;
    uint8_t page[BLOCK_BYTES];
    flip(r, place_segment(place), place_offset_bytes(place) + 1234);
    damaged_and_found(r, 0, 1, 0);
    assert_int_equal(r->index.count, count);
    e = &r->index.entries[3];
    assert_int_equal(e->v.place + 2 * 8, place);
    disk_read(r, file_of(r, place_segment(place)), page, sizeof page, place_offset_bytes(place));
    assert_int_not_equal(version_crc(e->v.family, e->v.block + 2, page, BLOCK_BYTES), e->crc[2]);
    rig_free(r);
}

/* A bit in a header: its records are lost, and told; those behind are kept. */
static void a_flipped_bit_in_a_durable_header_is_reported(void **state) {
    static const uint32_t offsets[] = {0, 13, 40, 200, 300, 4095};
    for (int i = 0; i < 6; i++) {
        struct rig *r = with_frames(304, 6);
        uint64_t place = r->index.entries[3].v.place, sequence = r->index.entries[3].v.sequence;
        uint32_t count = r->index.count;
        flip(r, place_segment(place), place_offset_bytes(place) - BLOCK_BYTES + offsets[i]);
        damaged_and_found(r, 1, 0, 1);
        assert_int_equal(r->index.count, count - 1);
        assert_null(list_index_find(&r->index, sequence));
        assert_non_null(list_index_find(&r->index, sequence + 1));
        rig_free(r);
    }
}

/* The same in a further record block: the records before it are kept. */
static void a_flipped_bit_in_a_record_block_is_reported(void **state) {
    struct rig *r = with_frames(305, 2);
    uint32_t before = r->index.count;
    for (int i = 0; i < 300; i++)
        assert_int_equal(rig_append(r, PLACE_ZERO, 1, 1, 0), 0);
    rig_settle(r);
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    rig_settle(r);
    uint64_t place = r->index.entries[r->index.count - 1].v.place;
    /* header with 108 records, a block with 113, a block with 79, then the last frame */
    flip(r, place_segment(place), place_offset_bytes(place) - 2 * BLOCK_BYTES + 100);
    damaged_and_found(r, 1, 0, 0);
    assert_int_equal(r->index.count, before + 108 + 113 + 1);
    rig_free(r);
}

/* The newest frame: no later one says that it was durable, so it is the torn end. */
static void a_flipped_bit_in_the_last_frame_is_the_torn_end(void **state) {
    struct rig *r = with_frames(306, 6);
    uint64_t place = r->index.entries[r->index.count - 1].v.place;
    uint32_t count = r->index.count;
    flip(r, place_segment(place), place_offset_bytes(place) + 77);
    rig_power_cut(r);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->report.frames_torn, 1);
    assert_int_equal(r->report.frames_damaged + r->report.blocks_damaged, 0);
    assert_int_equal(r->index.count, count - 1);
    rig_free(r);
}

/* But if the store was stopped in order, everything was durable. */
static void a_flipped_bit_in_a_stopped_store_is_corruption(void **state) {
    struct rig *r = with_frames(307, 6);
    uint64_t place = r->index.entries[r->index.count - 1].v.place;
    assert_int_equal(log_stop(r->l), 0);
    flip(r, place_segment(place), place_offset_bytes(place) + 77);
    damaged_and_found(r, 0, 1, 0);
    rig_free(r);
}

static struct rig *with_sealed(uint64_t seed) {
    struct rig *r = rig_new(seed);
    assert_int_equal(rig_start(r, NULL), 0);
    rig_wait_ready(r);
    while (r->index.sealeds < 3) {
        rig_append(r, PLACE_DATA, 9, 30, 0);
        rig_step(r);
    }
    while (rig_append(r, PLACE_DATA, 9, 3, 0) < 0)
        rig_step(r);
    rig_settle(r);
    return r;
}

static void a_damaged_footer_or_header_costs_nothing(void **state) {
    for (int at_header = 0; at_header < 2; at_header++) {
        struct rig *r = with_sealed(308);
        uint32_t segment = r->index.entries[r->index.count / 2].segment;
        flip(r, segment, at_header ? 33 : RIG_SEGMENT_BYTES - 4000);
        if (at_header) {
            segment = root_of(r)->log_end_segment; /* not sealed: its frames say what it is */
            flip(r, segment, 33);
        }
        restart(r);
        assert_int_equal(r->report.segments_scanned >= 1, 1);
        assert_int_equal(log_segment(r->l, segment).v != 0, 1);
        rig_settle(r);
        restart(r);
        rig_free(r);
    }
}

/* A slot file that is missing, or is yesterday's. */
static void a_read_that_fails_fails_the_start(void **state) {
    struct rig *r = with_sealed(312);
    uint32_t failed = 0, count = r->index.count;
    for (int i = 0; i < 300; i++)
        assert_int_equal(rig_append(r, PLACE_ZERO, 1, 1, 0), 0); /* several record blocks */
    rig_settle(r);
    rig_power_cut(r);
    count += 300;
    for (uint32_t skip = 0; skip < 60; skip++) {
        struct sim_fault f = {.kind = SIM_READ_FAILS, .skip = skip, .count = 1};
        sim_fault_add(r->sim, &f);
        int err = rig_start(r, NULL);
        assert_true(err == 0 || err == ERR_IO);
        if (err == 0)
            assert_int_equal(r->index.count, count);
        failed += err < 0;
        sim_fault_clear(r->sim);
        rig_power_down(r);
    }
    assert_true(failed > 15);
    rig_free(r);
}

static void a_directory_that_cannot_be_listed_fails_the_start(void **state) {
    struct rig *r = with_sealed(313);
    uint32_t count = r->index.count;
    rig_power_cut(r);
    sim_fault_add(r->sim, &(struct sim_fault){.kind = SIM_LOOK_FAILS, .path = "log"});
    assert_int_equal(rig_start(r, NULL), ERR_IO);
    rig_power_down(r);
    sim_fault_clear(r->sim);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_int_equal(r->index.count, count);
    rig_free(r);
}

static void a_missing_segment_is_told(void **state) {
    for (int yesterday = 0; yesterday < 2; yesterday++) {
        struct rig *r = with_sealed(309);
        uint32_t first = r->index.entries[0].segment, file = file_of(r, first);
        uint32_t second = first;
        for (uint32_t i = 0; second == first; i++)
            second = r->index.entries[i].segment;
        struct file_system fs = sim_files(r->sim);
        uint8_t *copy = malloc(RIG_SEGMENT_BYTES);
        char path[64];
        if (yesterday) {
            disk_read(r, file, copy, RIG_SEGMENT_BYTES, 0);
            r->freed[r->freed_count++] = first;
            assert_int_equal(log_free_segment(r->l, first), 0);
            while (segment_view(&r->a, log_segment(r->l, root_of(r)->log_end_segment))->file !=
                   file) {
                rig_append(r, PLACE_DATA, 9, 30, 0);
                rig_step(r);
            }
            uint32_t now = root_of(r)->log_end_segment;
            while (root_of(r)->log_end_segment == now) {
                rig_append(r, PLACE_DATA, 9, 30, 0);
                rig_step(r);
            }
            rig_settle(r);
            disk_write(r, file, copy, RIG_SEGMENT_BYTES, 0);
        } else {
            rig_path(file_of(r, second), path);
            assert_int_equal(fs.ops->remove(fs.ctx, path), 0);
            assert_int_equal(fs.ops->sync_dir(fs.ctx, "log"), 0);
        }
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        assert_int_equal(r->report.segments_missing, 1);
        assert_string_equal(r->alert, "log_damaged");
        free(copy);
        rig_free(r);
    }
}

static void the_store_header_of_yesterday_is_told(void **state) {
    struct rig *r = with_frames(310, 2);
    struct file_system fs = sim_files(r->sim);
    uint8_t copies[2 * BLOCK_BYTES];
    int f = fs.ops->open(fs.ctx, "store", FILE_READ);
    assert_int_equal(fs.ops->read(fs.ctx, f, copies, sizeof copies, 0), sizeof copies);
    for (int i = 0; i < 3; i++) {
        rig_append(r, PLACE_DATA, 9, 3, 0);
        rig_settle(r);
        restart(r);
        rig_wait_ready(r);
    }
    rig_settle(r);
    uint64_t epoch = root_of(r)->log_epoch;
    rig_power_cut(r);
    fs = sim_files(r->sim);
    f = fs.ops->open(fs.ctx, "store", FILE_WRITE);
    assert_int_equal(fs.ops->write(fs.ctx, f, copies, sizeof copies, 0), sizeof copies);
    fs.ops->close(fs.ctx, f);
    assert_int_equal(rig_start(r, NULL), 0);
    assert_string_equal(r->alert, "store_header_old");
    assert_int_equal(root_of(r)->log_epoch, epoch + 1);
    rig_check_prefix(r);
    rig_free(r);
}

/* Failed writes. ------------------------------------------------------------------------------- */

static void fail_writes(struct rig *r, uint32_t count, enum sim_fault_kind kind) {
    struct sim_fault f = {.kind = kind,
                          .count = count,
                          .offset_bytes = BLOCK_BYTES,
                          .bytes = RIG_SEGMENT_BYTES - 2 * BLOCK_BYTES};
    sim_fault_add(r->sim, &f);
}

static void a_failed_write_is_repeated_elsewhere(void **state) {
    static const enum sim_fault_kind kinds[] = {SIM_WRITE_FAILS, SIM_WRITE_SHORT};
    for (uint64_t seed = 400; seed < 440; seed++) {
        struct rig *r = with_frames(seed, 3);
        uint32_t moves = r->index.moves;
        for (int i = 0; i < 6; i++)
            rig_append_at_random(r);
        fail_writes(r, 1, kinds[seed % 2]);
        log_want_durable(r->l, log_recorded(r->l));
        rig_step(r);
        for (int i = 0; i < 6; i++)
            rig_append_at_random(r);
        rig_settle(r);
        assert_int_equal(sim_fault_hits(r->sim), 1);
        assert_int_equal(log_failed(r->l), 0);
        assert_string_equal(r->cleared, "log_write_failed");
        assert_true(r->index.moves > moves);
        sim_fault_clear(r->sim);
        rig_check(r);
        restart(r);
        work(r, 50);
        restart(r);
        rig_free(r);
    }
}

/* Into another segment; and a slot that nothing of it reached rests, for a late write may. */
static void a_place_that_failed_is_not_used_again(void **state) {
    struct rig *r = with_frames(451, 3);
    uint32_t segment = root_of(r)->log_end_segment, rest = 0;
    fail_writes(r, 1, SIM_WRITE_FAILS);
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    rig_settle(r);
    assert_int_not_equal(root_of(r)->log_end_segment, segment);
    fail_writes(r, 2, SIM_WRITE_FAILS); /* the second is the first frame of a segment */
    assert_int_equal(rig_append(r, PLACE_DATA, 1, 1, 0), 0);
    rig_settle(r);
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        rest += s->slot.state == SEGMENT_FREE && s->rest_until_ns > 0;
    }
    assert_int_equal(rest, 1);
    rig_check(r);
    rig_free(r);
}

/* A client writes blocks that look like frames of this store at the very place where they come to
 * lie; and one of the frames that hold them is torn, so that recovery looks closely. */
static void data_that_look_like_a_frame_do_not_pass(void **state) {
    for (int variant = 0; variant < 3; variant++) {
        int damaged = variant == 1, followed = variant != 2;
        struct rig *r = with_frames(452, 2);
        uint64_t recorded = log_recorded(r->l);
        struct extent page;
        struct frame_header h = {.segment = root_of(r)->log_end_segment,
                                 .offset = root_of(r)->log_end_bytes + BLOCK_BYTES,
                                 .length_bytes = BLOCK_BYTES,
                                 .epoch = root_of(r)->log_epoch,
                                 .records = 1,
                                 .follows = recorded,
                                 .first_sequence = recorded + 1,
                                 .durable = recorded,
                                 .record_bytes = 32};
        memcpy(h.store_id, root_of(r)->store_id, sizeof h.store_id);
        h.previous = (struct frame_name){root_of(r)->log_end_segment, root_of(r)->log_end_offset,
                                         root_of(r)->log_end_crc};
        struct record zero = {
            .kind = PLACE_ZERO, .timeline = 9, .family = 9, .sectors = 8, .blocks = 1};
        assert_int_equal(buffer_take(&r->buffers, 1, &page, 1), 1);
        unsigned char *forged = buffer_data(&r->buffers, page.first);
        record_encode(&zero, NULL, forged + FRAME_RECORDS_OFFSET);
        frame_header_encode(&h, forged);
        uint64_t sequence;
        struct log_append a = {.kind = PLACE_DATA,
                               .timeline = 1,
                               .family = 1,
                               .sectors = 8,
                               .blocks = 1,
                               .data = &page,
                               .data_extents = 1};
        assert_int_equal(log_append(r->l, &a, &sequence), 0);
        rig_wait_durable(r, sequence);
        if (followed)
            assert_int_equal(rig_append(r, PLACE_ZERO, 1, 1, 0), 0);
        rig_settle(r);
        if (damaged)
            flip(r, h.segment, h.offset + 3000);
        rig_power_cut(r);
        assert_int_equal(rig_start(r, NULL), 0);
        assert_int_equal(r->report.blocks_damaged, damaged);
        const struct entry *e = &r->index.entries[r->index.count - (followed ? 2 : 1)];
        assert_int_equal(e->v.sequence, sequence);
        assert_int_equal(e->v.timeline, 1);
        rig_free(r);
    }
}

/* A cut while a footer is written: it may be there, or not, but never without its run. */
static void a_cut_while_a_segment_is_sealed_does_no_harm(void **state) {
    uint32_t sealed = 0;
    for (uint64_t seed = 600; seed < 700; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        rig_wait_ready(r);
        while (r->index.seals == 0) {
            rig_append(r, PLACE_DATA, 9, 60, 0);
            rig_turn(r, RIG_NOWHERE);
            sim_advance(r->sim, 200 * NS_PER_US);
        }
        sim_stop_after(r->sim, 1 + seed % 10);
        for (int i = 0; i < 200 && !sim_stopped(r->sim); i++) {
            rig_turn(r, RIG_NOWHERE);
            sim_advance(r->sim, 200 * NS_PER_US);
        }
        restart(r);
        sealed += r->report.segments_sealed;
        rig_free(r);
    }
    assert_in_range(sealed, 5, 95);
}

static void flush_fails_if_that_fails_too_and_nothing_is_lost(void **state) {
    for (uint64_t seed = 440; seed < 450; seed++) {
        struct rig *r = with_frames(seed, 3);
        uint64_t durable = log_durable(r->l);
        fail_writes(r, 0, SIM_WRITE_FAILS);
        for (int i = 0; i < 20; i++)
            rig_append_at_random(r);
        log_want_durable(r->l, log_recorded(r->l));
        for (int i = 0; i < 2000 && log_failed(r->l) == 0; i++)
            rig_step(r);
        assert_int_equal(log_failed(r->l), ERR_IO);
        assert_int_equal(log_durable(r->l), durable);
        for (int i = 0; i < 300; i++)
            rig_step(r);
        assert_int_equal(log_durable(r->l), durable);
        rig_check(r);
        if (seed % 2) { /* it heals: nothing was lost */
            sim_fault_clear(r->sim);
            rig_settle(r);
            assert_int_equal(log_failed(r->l), 0);
            rig_check(r);
        }
        sim_fault_clear(r->sim);
        restart(r);
        rig_free(r);
    }
}

/* Writes fail now and then, over many segments, with cuts between. */
static void a_bad_disk_loses_nothing_that_was_flushed(void **state) {
    for (uint64_t seed = 500; seed < 510; seed++) {
        struct rig *r = rig_new(seed);
        assert_int_equal(rig_start(r, NULL), 0);
        for (int round = 0; round < 6; round++) {
            rig_wait_ready(r);
            for (int i = 0; i < 10; i++) {
                struct sim_fault f = {.kind = prng_one_in(&r->prng, 3) ? SIM_WRITE_SHORT
                                                                       : SIM_WRITE_FAILS,
                                      .skip = (uint32_t)prng_below(&r->prng, 10),
                                      .count = 1 + (uint32_t)prng_below(&r->prng, 3)};
                sim_fault_add(r->sim, &f);
                work(r, 30);
                sim_fault_clear(r->sim);
            }
            if (prng_one_in(&r->prng, 2))
                rig_settle(r);
            rig_check(r);
            restart(r);
        }
        rig_free(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_at_every_flush_keeps_what_was_flushed),
        cmocka_unit_test(a_store_lives_through_many_cuts),
        cmocka_unit_test(a_cut_within_a_start_or_a_job_does_no_harm),
        cmocka_unit_test(a_stale_frame_in_a_recycled_slot_does_not_pass),
        cmocka_unit_test(an_orphaned_write_that_lands_late_does_not_pass),
        cmocka_unit_test(an_old_frame_behind_new_ones_does_not_pass),
        cmocka_unit_test(a_torn_frame_hides_no_new_ones),
        cmocka_unit_test(room_that_a_dead_write_may_hit_is_left_out),
        cmocka_unit_test(a_store_header_that_lands_late_undoes_no_start),
        cmocka_unit_test(an_orphan_of_a_process_that_started_cold_hits_nothing),
        cmocka_unit_test(a_flipped_bit_in_durable_data_is_reported),
        cmocka_unit_test(a_flipped_bit_in_a_durable_header_is_reported),
        cmocka_unit_test(a_flipped_bit_in_a_record_block_is_reported),
        cmocka_unit_test(a_flipped_bit_in_the_last_frame_is_the_torn_end),
        cmocka_unit_test(a_flipped_bit_in_a_stopped_store_is_corruption),
        cmocka_unit_test(a_damaged_footer_or_header_costs_nothing),
        cmocka_unit_test(a_read_that_fails_fails_the_start),
        cmocka_unit_test(a_directory_that_cannot_be_listed_fails_the_start),
        cmocka_unit_test(a_missing_segment_is_told),
        cmocka_unit_test(the_store_header_of_yesterday_is_told),
        cmocka_unit_test(a_failed_write_is_repeated_elsewhere),
        cmocka_unit_test(a_place_that_failed_is_not_used_again),
        cmocka_unit_test(data_that_look_like_a_frame_do_not_pass),
        cmocka_unit_test(a_cut_while_a_segment_is_sealed_does_no_harm),
        cmocka_unit_test(flush_fails_if_that_fails_too_and_nothing_is_lost),
        cmocka_unit_test(a_bad_disk_loses_nothing_that_was_flushed),
    };
    return cmocka_run_group_tests_name("log_power", tests, NULL, NULL);
}
