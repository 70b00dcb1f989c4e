/* SPDX-License-Identifier: Apache-2.0 */
/* Passes over a store that is written, cleaned and merged while engines die find nothing; bytes that are flipped are
 * found, named by their file, and taken back when they are right again; and pauses are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/engine_world_test.h"
#include "engine/index/merge_job.h"
#include "engine/log/segment_disk.h"
#include "engine/scrub.h"

#define SIZE (3 * MIB)
#define DAY_NS (86400 * NS_PER_S)

struct bench {
    struct world *w;
    struct scrub *s;
    uint64_t bytes_per_s, period_ns;
    uint32_t raised, cleared;
    enum alert_level level;
    char subject[64], text[256];
    uint32_t passes;
};

static void raise_one(void *ctx, enum alert_level level, const char *code, const char *subject,
                      const char *text) {
    struct bench *b = ctx;
    assert_string_equal(code, "scrub_found");
    b->raised++;
    b->level = level;
    snprintf(b->subject, sizeof b->subject, "%s", subject);
    snprintf(b->text, sizeof b->text, "%s", text);
}
static void clear_one(void *ctx, const char *code, const char *subject) {
    struct bench *b = ctx;
    b->cleared += strcmp(subject, b->subject) == 0;
}

static void open_scrub(struct bench *b) {
    struct world *w = b->w;
    const struct scrub_parts parts = {.a = w->a,
                                      .log = w->log,
                                      .index = w->index,
                                      .files = sim_files(w->sim),
                                      .jobs = sim_jobs(w->sim),
                                      .alerts = {raise_one, clear_one, b},
                                      .clock = sim_clock(w->sim),
                                      .bytes_per_s = b->bytes_per_s,
                                      .period_ns = b->period_ns};
    assert_int_equal(scrub_open(&b->s, &parts), 0);
}

static void make(struct bench *b, uint64_t seed) {
    struct world_options o = {.seed = seed,
                              .table_sets = 8,
                              .cache_bytes = 1 * MIB,
                              .buffer_pages = 8192,
                              .memtables = 6,
                              .records_per_turn = 32};
    b->w = world_open(&o);
    for (int i = 0; i < 2; i++)
        world_volume(b->w, world_line(b->w, 0, 0), SIZE, 512, 0);
    open_scrub(b);
}

static void step(struct bench *b) {
    scrub_turn(b->s);
    world_step(b->w);
}

static void end(struct bench *b) {
    scrub_stop(b->s);
    for (int i = 0; i < 300; i++)
        step(b);
    scrub_close(b->s);
    world_close(b->w);
}

static void some_writes(struct bench *b, uint32_t count) {
    struct world *w = b->w;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t blocks = 1 + prng_below(&w->prng, prng_one_in(&w->prng, 8) ? 200 : 12);
        uint64_t at = prng_below(&w->prng, SIZE / BLOCK_BYTES - blocks + 1);
        while (world_ask(w, (uint32_t)prng_below(&w->prng, w->volumes), REQUEST_WRITE,
                         at * BLOCK_BYTES, blocks * BLOCK_BYTES, 0) < 0)
            world_wait_all(w);
        step(b);
        if (!scrub_state(b->s).is_running) {
            b->passes += scrub_state(b->s).ended_ns > 0;
            scrub_begin(b->s);
        }
    }
    world_wait_all(w);
}

/* A whole pass, from the first file on. */
static struct scrub_state pass(struct bench *b) {
    struct clock clock = sim_clock(b->w->sim);
    scrub_stop(b->s);
    for (int i = 0; i < 300; i++)
        step(b);
    b->raised = b->cleared = 0;
    scrub_begin(b->s);
    for (int i = 0; scrub_state(b->s).is_running; i++) {
        assert_true(i < 100000);
        step(b);
        uint64_t now = clock_monotonic_ns(&clock), at = scrub_deadline(b->s);
        if (at != UINT64_MAX && at > now)
            sim_advance(b->w->sim, at - now);
    }
    return scrub_state(b->s);
}

static void nothing_is_found_whatever_goes_on(void **state) {
    uint64_t freed = 0;
    uint32_t passes = 0, files = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct bench b = {0};
        make(&b, seed);
        struct world *w = b.w;
        for (int round = 0; round < 12; round++) {
            some_writes(&b, 150);
            freed += clean_counts(w->clean).segments_freed;
            uint64_t how = prng_below(&w->prng, 6);
            if (how > 3) {
                world_clean(w, world_some_moment(w), 0, UINT64_MAX);
                continue;
            }
            struct scrub *dead = b.s;
            if (how == 0)
                world_kill(w);
            else if (how == 1)
                world_power_cut(w);
            else if (how == 2)
                world_turn(w, (enum world_stage)(1 + prng_below(&w->prng, 4)));
            else
                world_start_cold(w);
            scrub_close(dead);
            open_scrub(&b);
        }
        world_settle(w);
        files += pass(&b).files;
        if (b.raised)
            fail_msg("seed %u: %s: %s", (unsigned)seed, b.subject, b.text);
        passes += b.passes;
        end(&b);
    }
    print_message("%u passes, %u files in the last ones, %u segments freed meanwhile\n", passes,
                  files, (unsigned)freed);
    assert_true(passes > 10 && files > 30 && freed > 5);
}

struct named {
    char path[MERGE_PATH_BYTES];
    uint32_t count;
};
static void take_name(void *arg, const char *name) {
    struct named *n = arg;
    if (strncmp(name, "run-", 4) == 0 && n->count++ == 0)
        snprintf(n->path, sizeof n->path, MERGE_DIR "/%s", name);
}

/* Where a byte is flipped in a sealed segment, and how much harm that is. */
static void flipped_bytes_are_found(void **state) {
    struct bench b = {0};
    make(&b, 21);
    struct world *w = b.w;
    some_writes(&b, 700);
    world_settle(w);
    struct scrub_state all = pass(&b);
    assert_int_equal(b.raised, 0);
    uint32_t sealed = 0;
    struct segment_h h = {0};
    while ((h = segment_next(w->a, h)).v)
        sealed += segment_view(w->a, h)->slot.state == SEGMENT_SEALED;
    assert_true(sealed > 4 && all.bytes > sealed * WORLD_SEGMENT_BYTES);
    assert_int_equal(all.files, sealed + index_counts(w->index).merged);
    h = segment_next(w->a, (struct segment_h){0});
    while (segment_view(w->a, h)->slot.state != SEGMENT_SEALED)
        h = segment_next(w->a, h);
    const struct segment *g = segment_view(w->a, h);
    const struct {
        uint64_t offset;
        enum alert_level level;
    } places[] = {
        {8, ALERT_WARNING},                                     /* header */
        {SEGMENT_FRAMES_OFFSET + 9, ALERT_ERROR},               /* a frame */
        {SEGMENT_FRAMES_OFFSET + BLOCK_BYTES + 7, ALERT_ERROR}, /* data */
        {g->run_offset + 3, ALERT_ERROR},                       /* run */
        {WORLD_SEGMENT_BYTES - BLOCK_BYTES + 5, ALERT_WARNING}, /* footer */
    };
    char path[LOG_PATH_BYTES];
    log_slot_path(g->file, path);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        assert_int_equal(sim_corrupt(w->sim, path, places[i].offset, 1), 0);
        struct scrub_state now = pass(&b);
        assert_int_equal(b.raised, 1);
        assert_string_equal(b.subject, path);
        assert_int_equal(b.level, places[i].level);
        assert_int_equal(now.damaged, places[i].level == ALERT_ERROR);
        assert_int_equal(now.mended, places[i].level != ALERT_ERROR);
        assert_int_equal(now.files, all.files);
        assert_int_equal(sim_corrupt(w->sim, path, places[i].offset, 1), 0);
        pass(&b);
        assert_int_equal(b.raised, 0);
        assert_int_equal(b.cleared, 1);
    }
    /* A merged run is made again. */
    struct named merged = {0};
    sim_files(w->sim).ops->list(w->sim, MERGE_DIR, take_name, &merged);
    assert_true(merged.count > 0);
    assert_int_equal(sim_corrupt(w->sim, merged.path, 331, 1), 0);
    pass(&b);
    assert_int_equal(b.raised, 1);
    assert_string_equal(b.subject, merged.path);
    for (int i = 0; i < 3000; i++)
        step(&b);
    pass(&b);
    assert_int_equal(b.raised, 0);
    end(&b);
}

/* Between two files so much time as their bytes may take; and a pass when the last one is old. */
static void paced(void **state) {
    struct bench b = {.bytes_per_s = WORLD_SEGMENT_BYTES / 10};
    make(&b, 31);
    some_writes(&b, 500);
    world_settle(b.w);
    struct clock clock = sim_clock(b.w->sim);
    uint64_t began = clock_monotonic_ns(&clock);
    struct scrub_state s = pass(&b);
    uint64_t took = clock_monotonic_ns(&clock) - began;
    assert_true(s.bytes > 3 * WORLD_SEGMENT_BYTES);
    assert_true(took >= (s.bytes - WORLD_SEGMENT_BYTES) / b.bytes_per_s * NS_PER_S);
    scrub_close(b.s);
    b.bytes_per_s = 0;
    b.period_ns = DAY_NS;
    open_scrub(&b);
    step(&b);
    assert_false(scrub_state(b.s).is_running);
    assert_in_range(scrub_deadline(b.s), clock_monotonic_ns(&clock) + DAY_NS / 2,
                    clock_monotonic_ns(&clock) + DAY_NS);
    sim_advance(b.w->sim, DAY_NS);
    scrub_turn(b.s);
    assert_true(scrub_state(b.s).is_running);
    end(&b);
}

static void start_again(struct bench *b, void (*end_of_life)(struct world *w)) {
    struct scrub *dead = b->s;
    end_of_life(b->w);
    scrub_close(dead);
    open_scrub(b);
}

/* A pass goes on over a stop, and a start knows when the last one was; but not if there was something to tell. */
static void starts_know_how_far_it_was(void **state) {
    struct bench b = {0};
    make(&b, 41);
    struct world *w = b.w;
    some_writes(&b, 600);
    world_settle(w);
    uint32_t files = pass(&b).files;
    uint64_t ended_ns = scrub_state(b.s).ended_ns;
    assert_true(files > 4 && ended_ns > 0);
    b.period_ns = DAY_NS;
    start_again(&b, world_stop);
    assert_int_equal(scrub_state(b.s).ended_ns, ended_ns);
    assert_int_equal(scrub_state(b.s).files, files);
    assert_false(scrub_state(b.s).is_running);
    step(&b);
    assert_false(scrub_state(b.s).is_running);
    scrub_begin(b.s);
    uint64_t began_ns = scrub_state(b.s).began_ns;
    while (scrub_state(b.s).files < 3)
        step(&b);
    start_again(&b, world_stop);
    struct scrub_state s = scrub_state(b.s);
    assert_true(s.is_running && s.began_ns == began_ns && s.files >= 3 && s.files < files);
    for (int i = 0; i < 3000 && scrub_state(b.s).is_running; i++)
        step(&b);
    assert_in_range(scrub_state(b.s).files, files - 1, files + 2);
    assert_true(scrub_state(b.s).ended_ns > ended_ns);
    assert_int_equal(b.raised, 0);
    /* What a power cut finds is what was written last. */
    start_again(&b, world_power_cut);
    assert_int_equal(scrub_state(b.s).began_ns, began_ns);
    struct segment_h h = segment_next(w->a, (struct segment_h){0});
    while (segment_view(w->a, h)->slot.state != SEGMENT_SEALED)
        h = segment_next(w->a, h);
    char path[LOG_PATH_BYTES];
    log_slot_path(segment_view(w->a, h)->file, path);
    assert_int_equal(sim_corrupt(w->sim, path, SEGMENT_FRAMES_OFFSET + 9, 1), 0);
    assert_int_equal(pass(&b).damaged, 1);
    assert_true(scrub_state(b.s).ended_ns > 0);
    start_again(&b, world_stop);
    assert_int_equal(scrub_state(b.s).ended_ns, 0);
    assert_int_equal(scrub_state(b.s).began_ns, 0);
    end(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_whatever_goes_on),
        cmocka_unit_test(flipped_bytes_are_found),
        cmocka_unit_test(paced),
        cmocka_unit_test(starts_know_how_far_it_was),
    };
    return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
