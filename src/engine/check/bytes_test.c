/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small store with everything, of which each byte is flipped in turn: sealed segments with their frames, records, data, runs
 * and footers, cold ones, merged runs. The check finds each one that somebody reads, in the right file; and an engine on such a
 * store gives what was written, or an error. PERDURE_EVERY_BYTE=1: really each; else some.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/check/check.h"
#include "engine/engine_world_test.h"
#include "engine/index/merge_job.h"

#define BLOCKS 96u
#define AT_ONCE 40u
#define PLACES 64u

struct seen {
    struct world *w;
    uint32_t count;
    char file[64];
};

static void found(void *ctx, const struct check_finding *f) {
    struct seen *s = ctx;
    s->count += f->grade != CHECK_NOTE;
    snprintf(s->file, sizeof s->file, "%s", f->file);
}

/* One byte in so many. */
static uint64_t stride(uint64_t all, uint64_t some) {
    const char *every = getenv("PERDURE_EVERY_BYTE");
    return every && *every == '1' ? all : some;
}

/* ---- The store ---- */

/* Mostly zeroes and trims, which fill a segment with records and not with data. */
static void some_requests(struct world *w, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint64_t blocks = 1 + prng_below(&w->prng, 3);
        uint64_t at = prng_below(&w->prng, BLOCKS - blocks + 1);
        uint32_t v = (uint32_t)prng_below(&w->prng, 2);
        uint8_t op = prng_one_in(&w->prng, 8)   ? REQUEST_WRITE
                     : prng_one_in(&w->prng, 2) ? REQUEST_TRIM
                                                : REQUEST_ZERO;
        while (world_ask(w, v, op, at * BLOCK_BYTES, blocks * BLOCK_BYTES, 0) < 0)
            world_wait_all(w);
        if (i % AT_ONCE == 0) {
            world_wait_all(w);
            world_step(w);
            world_forget_answered(w);
        }
    }
    world_wait_all(w);
    world_forget_answered(w);
}

static void pictures(struct world *w) {
    for (uint32_t v = 0; v < 2; v++) {
        uint32_t line = world_line(w, world_volume_line(w, v), world_now(w));
        world_volume(w, line, BLOCKS * BLOCK_BYTES, 4096, VOLUME_READ_ONLY);
    }
    world_turn(w, WORLD_LIVES);
}

/* Two volumes, each at three moments; without a block table, so that all that is read is looked up. */
static struct world *make(void) {
    struct world *w = world_open(&(struct world_options){
        .seed = 11, .cache_bytes = MIB, .buffer_pages = 4096, .memtables = 6});
    for (int i = 0; i < 2; i++)
        world_volume(w, world_line(w, 0, 0), BLOCKS * BLOCK_BYTES, 4096, 0);
    some_requests(w, 900);
    world_settle(w);
    uint64_t horizon = world_now(w);
    world_clean(w, horizon, horizon, UINT64_MAX);
    world_settle(w);
    pictures(w);
    some_requests(w, 2300);
    pictures(w);
    some_requests(w, 400);
    world_settle(w);
    return w;
}

/* ---- What is flipped ---- */

struct place {
    char path[64];
    uint32_t file, segment; /* 0: a merged run */
    uint64_t bytes;
    int is_cold;
    struct segment_footer footer;
};

struct store {
    struct world *w;
    struct place place[PLACES];
    uint32_t count;
};

static void add_segments(struct store *t) {
    struct world *w = t->w;
    uint32_t cold = 0, warm = 0;
    for (struct segment_h h = segment_next(w->a, (struct segment_h){0}); h.v;
         h = segment_next(w->a, h)) {
        const struct segment *s = segment_view(w->a, h);
        int is_cold = (s->flags & SEGMENT_IS_COLD) != 0;
        if (s->slot.state != SEGMENT_SEALED || (is_cold ? cold++ > 0 : warm++ > 1))
            continue;
        struct place *p = &t->place[t->count++];
        *p = (struct place){.file = s->file,
                            .segment = s->number,
                            .bytes = WORLD_SEGMENT_BYTES,
                            .is_cold = is_cold};
        snprintf(p->path, sizeof p->path, "log/slot-%08u", s->file);
        uint8_t block[BLOCK_BYTES];
        struct file_system fs = sim_files(w->sim);
        int file = fs.ops->open(fs.ctx, p->path, FILE_READ);
        assert_int_equal(fs.ops->read(fs.ctx, file, block, sizeof block, p->bytes - BLOCK_BYTES),
                         BLOCK_BYTES);
        fs.ops->close(fs.ctx, file);
        assert_int_equal(footer_decode(block, WORLD_SEGMENT_BYTES, &p->footer), 0);
    }
    assert_true(warm >= 2 && cold >= 1);
}

static void add_run(void *arg, const char *name) {
    struct store *t = arg;
    struct place *p = &t->place[t->count++];
    assert_true(t->count <= PLACES);
    *p = (struct place){0};
    snprintf(p->path, sizeof p->path, "%s/%s", MERGE_DIR, name);
}

static void find_runs(struct store *t) {
    struct file_system fs = sim_files(t->w->sim);
    uint32_t first = t->count;
    assert_true(fs.ops->list(fs.ctx, MERGE_DIR, add_run, t) > 0);
    assert_true(t->count > first);
    for (uint32_t i = first; i < t->count; i++) {
        int file = fs.ops->open(fs.ctx, t->place[i].path, FILE_READ);
        t->place[i].bytes = (uint64_t)fs.ops->size(fs.ctx, file);
        fs.ops->close(fs.ctx, file);
    }
}

static void find_places(struct store *t) {
    add_segments(t);
    find_runs(t);
}

/* What nobody reads: behind the data, and behind the run. */
static int is_unused(const struct place *p, uint64_t at) {
    const struct segment_footer *f = &p->footer;
    return p->segment != 0 && ((at >= f->data_end && at < f->run_offset) ||
                               (at >= f->run_offset + f->run_bytes && at < p->bytes - BLOCK_BYTES));
}

/* The next byte: those that nobody reads are far apart. */
static uint64_t after(const struct place *p, uint64_t at, uint64_t step) {
    uint64_t next = at + step;
    if (!is_unused(p, at) || !is_unused(p, next))
        return next;
    next = at + stride(4093, 65521);
    if (at < p->footer.run_offset && next > p->footer.run_offset)
        return p->footer.run_offset;
    return is_unused(p, next) || next >= p->bytes ? next : p->bytes - BLOCK_BYTES;
}

static void flip(const struct store *t, const struct place *p, uint64_t at) {
    assert_int_equal(sim_corrupt(t->w->sim, p->path, at, (uint8_t)(1u << at % 8)), 0);
}

/* ---- The check ---- */

static int is_zero(const struct store *t, const struct place *p, uint64_t at) {
    struct file_system fs = sim_files(t->w->sim);
    uint8_t byte = 1;
    int file = fs.ops->open(fs.ctx, p->path, FILE_READ);
    assert_int_equal(fs.ops->read(fs.ctx, file, &byte, 1, at), 1);
    fs.ops->close(fs.ctx, file);
    return byte == 0;
}

static void each_is_found(void **state) {
    struct store t = {.w = make()};
    struct seen s = {.w = t.w};
    struct check c = {.files = sim_files(t.w->sim), .found = found, .ctx = &s};
    struct store_header h;
    uint64_t flipped = 0, harmless = 0, step = stride(1, 1499);
    find_places(&t);
    assert_int_equal(check_identity(&c.files, &h), 0);
    assert_int_equal(check_begin(&c, &h), 0);
    for (uint32_t i = 0; i < t.count; i++) {
        const struct place *p = &t.place[i];
        for (uint64_t at = 0; at < p->bytes; at = after(p, at, step), flipped++) {
            s.count = 0;
            flip(&t, p, at);
            assert_int_equal(p->segment ? check_slot(&c, p->file, p->segment)
                                        : check_merged_file(&c, p->path),
                             0);
            flip(&t, p, at);
            if (s.count > 0)
                assert_string_equal(s.file, p->path);
            if (p->segment && (s.count > 0) == is_unused(p, at))
                fail_msg("%s, byte %llu: %s", p->path, (unsigned long long)at,
                         s.count > 0 ? "nobody reads it" : "not found");
            /* Between the parts of a run there is room for alignment. */
            if (!p->segment && s.count == 0) {
                harmless++;
                assert_true(at >= BLOCK_BYTES && is_zero(&t, p, at));
            }
        }
    }
    check_end(&c);
    print_message("%llu flips in %u files, %llu in room of merged runs\n",
                  (unsigned long long)flipped, t.count, (unsigned long long)harmless);
    assert_true(flipped > 500);
    world_close(t.w);
}

/* ---- The engine ---- */

/* Reads each block of each volume; how many cannot be read. What can be is compared with the model. */
static uint32_t unreadable(struct world *w) {
    uint32_t bad = 0;
    for (uint32_t v = 0; v < w->volumes; v++)
        for (uint64_t block = 0; block < BLOCKS; block++) {
            int err = world_do(w, v, REQUEST_READ, block * BLOCK_BYTES, BLOCK_BYTES, 0);
            assert_true(err == 0 || err == ERR_INTEGRITY || err == ERR_IO);
            bad += err != 0;
        }
    return bad;
}

/* An engine removes a merged run that is damaged, and makes it anew, sooner or later: 0 if it was not there. */
static int flip_or_find(struct store *t, uint32_t i, uint64_t at) {
    struct place *p = &t->place[i];
    if (sim_corrupt(t->w->sim, p->path, at, (uint8_t)(1u << at % 8)) == 0)
        return 1;
    assert_int_equal(p->segment, 0);
    world_settle(t->w);
    while (t->place[t->count - 1].segment == 0)
        t->count--;
    find_runs(t);
    assert_true(t->count > i);
    return 0;
}

/* A bad block of data is one block, at each moment that shows it. */
static void none_is_shown(void **state) {
    struct store t = {.w = make()};
    uint64_t flipped = 0, told = 0, step = stride(61, 3001);
    find_places(&t);
    for (uint32_t i = 0; i < t.count; i++) {
        const struct place *p = &t.place[i];
        for (uint64_t at = i; at < p->bytes; at = after(p, at, step)) {
            if (is_unused(p, at) || !flip_or_find(&t, i, at))
                continue;
            flipped++;
            world_kill(t.w);
            uint32_t bad = unreadable(t.w);
            if (p->segment && at < p->footer.data_end)
                assert_true(bad <= t.w->volumes / 2);
            told += bad > 0;
            flip_or_find(&t, i, at);
        }
    }
    world_kill(t.w);
    assert_int_equal(unreadable(t.w), 0);
    print_message("%llu flips, %llu of them told\n", (unsigned long long)flipped,
                  (unsigned long long)told);
    assert_true(flipped > 50 && told > 0);
    world_close(t.w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_found),
        cmocka_unit_test(none_is_shown),
    };
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}
