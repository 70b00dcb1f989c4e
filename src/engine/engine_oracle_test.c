/* SPDX-License-Identifier: Apache-2.0 */
/* Random requests on several volumes against a model of everything that was ever written: now, at past
 * moments, over forks, restores, deaths and power cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/engine_world_test.h"

#define SIZE (3 * MIB + 3 * SECTOR_BYTES)

static uint32_t some_sections(struct world *w) {
    uint64_t some = prng_next(&w->prng);
    uint32_t flags = (some & 1 ? REQUEST_STATUS_NO_PLACES : 0) |
                     (some & 2 ? REQUEST_STATUS_CHANGES : 0) |
                     (some & 4 ? REQUEST_STATUS_VERSIONS : 0);
    w->since = w->change_count ? w->changes[(some >> 8) % w->change_count].sequence : 0;
    if (some >> 60 > 0) /* else it may be older than is promised */
        w->since = max_u64(w->since, w->fine);
    return request_status_sections(flags) ? flags : 0;
}

static void random_request(struct world *w, uint32_t v, uint64_t long_one_in, int sections) {
    static const uint8_t ops[] = {REQUEST_READ,  REQUEST_READ,         REQUEST_READ,
                                  REQUEST_WRITE, REQUEST_WRITE,        REQUEST_WRITE,
                                  REQUEST_WRITE, REQUEST_TRIM,         REQUEST_ZERO,
                                  REQUEST_FLUSH, REQUEST_BLOCK_STATUS, REQUEST_CACHE};
    const struct volume *volume = volume_view(w->a, w->volume[v]);
    uint64_t unit = volume->block_size, units = volume->size_bytes / unit;
    uint64_t most = prng_one_in(&w->prng, long_one_in) ? units : prng_one_in(&w->prng, 3) ? 64 : 9;
    uint64_t length = 1 + prng_below(&w->prng, min_u64(most, units));
    uint64_t area = prng_one_in(&w->prng, 3) ? min_u64(units, 80) : units;
    uint64_t at = length >= area ? prng_below(&w->prng, units - length + 1)
                                 : prng_below(&w->prng, area - length + 1);
    if (prng_one_in(&w->prng, 12))
        at = units - length; /* up to the end */
    uint8_t op = ops[prng_below(&w->prng, sizeof ops)];
    if ((volume->flags & VOLUME_READ_ONLY) && op != REQUEST_FLUSH &&
        !(sections && op == REQUEST_BLOCK_STATUS))
        op = REQUEST_READ;
    uint32_t flags = prng_one_in(&w->prng, 8) ? REQUEST_FUA : 0;
    if (prng_one_in(&w->prng, 3))
        flags |= REQUEST_STATUS_ONE;
    if (op == REQUEST_BLOCK_STATUS && sections)
        flags |= some_sections(w);
    world_ask(w, v, op, at * unit, length * unit, flags);
}

/* One of the last writes, once more. */
static void random_rewrite(struct world *w) {
    uint64_t stamps = w->stamps, back = 1 + prng_below(&w->prng, 12);
    uint32_t v = (uint32_t)prng_below(&w->prng, w->volumes);
    const struct volume *volume = volume_view(w->a, w->volume[v]);
    if (back > w->change_count || (volume->flags & VOLUME_READ_ONLY))
        return;
    const struct change_made *c = &w->changes[w->change_count - back];
    uint64_t offset = c->first * SECTOR_BYTES, length = c->sectors * SECTOR_BYTES;
    if (c->stamp == 0 || c->timeline != world_volume_line(w, v) ||
        offset + length > volume->size_bytes)
        return;
    w->stamps = c->stamp - 1;
    world_ask(w, v, REQUEST_WRITE, offset, length, 0);
    w->stamps = stamps;
}

static void fork_something(struct world *w) {
    uint32_t parent;
    do
        parent = 1 + (uint32_t)prng_below(&w->prng, w->line_count);
    while (!world_line_is_promised(w, parent));
    if (w->volumes == WORLD_VOLUMES)
        return;
    uint32_t line = world_line(w, parent, world_some_moment(w));
    world_volume(w, line, SIZE, 512, prng_one_in(&w->prng, 2) ? VOLUME_READ_ONLY : 0);
    world_turn(w, WORLD_LIVES);
}

/* The volume goes on as a fork of its own past; requests that wait are answered from there. */
static void restore_volume(struct world *w, uint32_t v) {
    world_wait_all(w);
    world_hold(w, v);
    uint32_t line = world_line(w, world_volume_line(w, v), world_some_moment(w));
    world_edit_volume(w, v)->timeline = ancestry_slot(w->ancestries, line);
    world_release(w, v);
    world_turn(w, WORLD_LIVES);
}

static void restore_range(struct world *w, uint32_t v) {
    uint64_t blocks = volume_view(w->a, w->volume[v])->size_bytes / BLOCK_BYTES,
             block = prng_below(&w->prng, blocks);
    uint32_t line = world_volume_line(w, v);
    for (uint64_t up = prng_below(&w->prng, 3); up > 0 && w->lines[line].parent; up--)
        line = w->lines[line].parent;
    if (!world_line_is_promised(w, line))
        line = world_volume_line(w, v);
    world_hold(w, v);
    world_reference(w, v, block, 1 + prng_below(&w->prng, blocks - block), line,
                    world_some_moment(w));
    world_release(w, v);
    world_turn(w, WORLD_LIVES);
}

/* As admin does it: what comes and what goes is a hole, and what comes is durable before it is seen. */
static void resize(struct world *w, uint32_t v) {
    uint64_t old = volume_view(w->a, w->volume[v])->size_bytes;
    uint64_t size = (1 + prng_below(&w->prng, 3 * MIB / BLOCK_BYTES)) * BLOCK_BYTES;
    if (size == old)
        return;
    world_hold(w, v);
    world_hole(w, v, min_u64(size, old), max_u64(size, old) - min_u64(size, old));
    if (size > old)
        world_settle(w);
    world_edit_volume(w, v)->size_bytes = size;
    world_release(w, v);
    world_turn(w, WORLD_LIVES);
}

/* Up to anywhere between the last time and now. */
static void clean_something(struct world *w) {
    uint64_t moment = world_some_moment(w);
    if (prng_one_in(&w->prng, 4))
        moment = world_now(w);
    uint64_t up_to = prng_one_in(&w->prng, 3) ? moment : UINT64_MAX;
    moment = min_u64(moment, index_applied(w->index));
    if (w->thins && w->step_s < thinning_step(THINNING_STEPS - 2) && prng_one_in(&w->prng, 2))
        w->step_s = thinning_step(w->step_s ? thinning_number(w->step_s) + 1 : 0);
    int gives_up = !w->thins || w->step_s == 0 || prng_one_in(&w->prng, 6);
    world_clean(w, gives_up ? moment : 0, moment, up_to);
}

struct run {
    int kills, power_cuts, turns, faults;
    int cold_starts, stops;
    int cleanings;
    int thins;    /* they thin history, and give it up now and then */
    int little;   /* memory at some cold starts */
    int wide;     /* all volumes are restored, writes are longer, faults of all kinds */
    int sections; /* block status tells changes and versions too */
    int rewrites; /* writes are repeated */
    uint32_t table_sets;
    uint64_t cache_bytes;
    uint32_t buffer_pages;
};

/* What the lives of one test have seen; counted in the last process of each. */
struct seen {
    uint64_t answers, deaths, partial, from_log, from_cache, from_disk, runs, misses, forks, merged;
    uint64_t cleanings, freed, cold, dropped;
    uint64_t looked_back, without_frames, same;
    uint64_t refused;                        /* statuses */
    uint64_t compared[REQUEST_STATUS_KINDS]; /* extents that say that something was written */
};

static void add_fault(struct world *w, int any_kind) {
    static const enum sim_fault_kind kinds[] = {SIM_WRITE_FAILS, SIM_WRITE_SHORT, SIM_READ_FAILS,
                                                SIM_SYNC_FAILS};
    struct sim_fault fault = {.kind = SIM_WRITE_FAILS, .count = 1};
    if (any_kind) {
        fault.kind = kinds[prng_below(&w->prng, 4)];
        fault.count += (uint32_t)prng_below(&w->prng, 3);
        if (fault.kind == SIM_SYNC_FAILS) /* of a file that is there: a new one would be no room */
            fault.path = "log/slot-00000000";
    }
    sim_fault_clear(w->sim);
    sim_fault_add(w->sim, &fault);
}

static void look_back(struct world *w) {
    for (uint32_t i = 0; i < 2 * w->volumes; i++)
        world_look_back(w, i / 2);
}

/* Right after a start. In other lives not: they are to stay the same. */
static void look_back_once(struct world *w, const struct run *run) {
    if (run->sections)
        world_look_back(w, (uint32_t)prng_below(&w->prng, w->volumes));
}

/* A volume that is written. */
static uint32_t some_volume(struct world *w) {
    uint32_t v;
    do
        v = (uint32_t)prng_below(&w->prng, w->volumes);
    while (volume_view(w->a, w->volume[v])->flags & VOLUME_READ_ONLY);
    return v;
}

static void live(uint64_t seed, const struct run *run, struct seen *seen) {
    struct world *w = world_open(&(struct world_options){.seed = seed,
                                                         .table_sets = run->table_sets,
                                                         .cache_bytes = run->cache_bytes,
                                                         .buffer_pages = run->buffer_pages,
                                                         .records_per_turn = seed % 2 ? 0 : 2,
                                                         .starts_in_little = run->little,
                                                         .memtables = run->wide ? 12 : 6});
    w->thins = run->thins;
    uint32_t unit = run->rewrites ? 4096 : 512;
    world_volume(w, world_line(w, 0, 0), SIZE / unit * unit, unit, 0);
    world_volume(w, world_line(w, 0, 0), 2 * MIB, 4096, VOLUME_DURABLE_WRITES);
    world_turn(w, WORLD_LIVES);
    for (int i = 0; i < run->turns; i++) {
        for (uint64_t n = prng_below(&w->prng, 5); n > 0; n--)
            random_request(w, (uint32_t)prng_below(&w->prng, w->volumes), run->wide ? 4 : 12,
                           run->sections);
        for (uint64_t n = run->rewrites ? 8 : 0; n > 0; n--)
            random_rewrite(w);
        if (run->kills && prng_one_in(&w->prng, (uint64_t)run->kills))
            world_turn(w, (enum world_stage)(1 + prng_below(&w->prng, 4)));
        else
            world_step(w);
        for (uint32_t q = 0; q < WORLD_REQUESTS; q++)
            if (w->asked[q].state == ASKED_ANSWERED && w->asked[q].error != 0) {
                if (w->asked[q].volume == 1 && w->asked[q].error == ERR_RANGE)
                    continue; /* it has become smaller */
                if (w->asked[q].op == REQUEST_BLOCK_STATUS &&
                    world_may_refuse_since(w, &w->asked[q]))
                    continue;
                assert_int_equal(w->asked[q].error, ERR_IO);
                assert_true(run->faults && (run->wide || w->asked[q].op != REQUEST_READ));
            }
        if (prng_one_in(&w->prng, 3))
            world_forget_answered(w);
        if (run->faults && prng_one_in(&w->prng, (uint64_t)run->faults))
            add_fault(w, run->wide);
        if (prng_one_in(&w->prng, run->wide ? 20 : 60))
            fork_something(w);
        if (prng_one_in(&w->prng, run->wide ? 40 : 80))
            restore_volume(w, run->wide ? some_volume(w) : 0);
        if (prng_one_in(&w->prng, run->wide ? 20 : 80))
            restore_range(w, run->wide ? some_volume(w) : 0);
        if (prng_one_in(&w->prng, 80))
            resize(w, 1);
        if (run->cleanings && prng_one_in(&w->prng, (uint64_t)run->cleanings))
            clean_something(w);
        if (run->power_cuts && prng_one_in(&w->prng, (uint64_t)run->power_cuts)) {
            sim_fault_clear(w->sim);
            world_power_cut(w);
            look_back_once(w, run);
        }
        if (run->cold_starts && prng_one_in(&w->prng, (uint64_t)run->cold_starts)) {
            sim_fault_clear(w->sim);
            world_start_cold(w);
            look_back_once(w, run);
        }
        if (run->stops && prng_one_in(&w->prng, (uint64_t)run->stops)) {
            sim_fault_clear(w->sim);
            world_stop(w);
            look_back_once(w, run);
        }
        assert_string_equal(w->loss, "");
    }
    if (run->wide)
        sim_fault_clear(w->sim);
    world_wait_all(w);
    look_back(w);
    if (run->cleanings) {
        clean_something(w);
        look_back(w);
    }
    world_settle(w);
    look_back(w);
    for (uint32_t v = 0; v < w->volumes; v++)
        world_check_volume(w, v);
    for (int i = 0; i < 4 && w->volumes < WORLD_VOLUMES; i++) {
        fork_something(w);
        world_check_volume(w, w->volumes - 1);
    }
    for (uint32_t i = 0; i < w->volumes * 8 && run->sections; i++) {
        w->since = world_some_moment(w);
        uint64_t size = volume_view(w->a, w->volume[i / 8])->size_bytes;
        world_forget_answered(w);
        int q = world_ask(w, i / 8, REQUEST_BLOCK_STATUS, 0, size,
                          REQUEST_STATUS_CHANGES | REQUEST_STATUS_VERSIONS);
        int err = world_wait(w, q);
        assert_true(err == 0 || world_may_refuse_since(w, &w->asked[q]));
        seen->refused += err != 0;
    }
    /* A header that a dead process wrote may land over a newer one; a cold start tells, and goes on. */
    if (!run->faults && w->alerts && strcmp(w->alert, "store_header_old") != 0)
        fail_msg("%s", w->alert);
    struct engine_counts n = engine_counts(w->engine);
    struct index_counts x = index_counts(w->index);
    assert_string_equal(w->loss, "");
    assert_int_equal(n.under_way, 0);
    assert_int_equal(n.checks_failed, 0);
    seen->answers += w->answers;
    seen->deaths += w->deaths;
    seen->partial += n.partial_blocks;
    seen->from_log += n.blocks_from_log;
    seen->from_cache += n.blocks_from_cache;
    seen->from_disk += n.blocks_from_disk;
    seen->runs += x.runs;
    seen->merged += x.merged;
    seen->misses += x.table_misses;
    seen->forks += w->line_count - 2;
    struct clean_counts c = clean_counts(w->clean);
    seen->cleanings += c.passes;
    seen->freed += c.segments_freed;
    seen->cold += c.segments_made;
    seen->looked_back += w->looked_back;
    seen->same += n.same_blocks;
    seen->without_frames += w->without_frames;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++)
        seen->compared[k] += w->compared[k];
    world_close(w);
}

/* A test in which these did not happen has tested nothing. */
static void assert_seen(const struct seen *s, uint64_t answers) {
    printf("%llu answers, %llu deaths, %llu partial blocks, blocks from log %llu, cache %llu, disk "
           "%llu; %llu runs, %llu merged, %llu table misses, %llu forks\n",
           (unsigned long long)s->answers, (unsigned long long)s->deaths,
           (unsigned long long)s->partial, (unsigned long long)s->from_log,
           (unsigned long long)s->from_cache, (unsigned long long)s->from_disk,
           (unsigned long long)s->runs, (unsigned long long)s->merged,
           (unsigned long long)s->misses, (unsigned long long)s->forks);
    assert_true(s->answers > answers && s->partial > 20 && s->from_log > 0 && s->from_cache > 500);
    assert_true(s->from_disk > 500 && s->runs > 6 && s->misses > 50 && s->forks > 20);
}

static void without_deaths(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 500, .table_sets = 64, .cache_bytes = MIB, .buffer_pages = 6000};
    for (uint64_t seed = 1; seed <= 6; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

static void with_a_tiny_table_and_cache(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 400, .table_sets = 1, .cache_bytes = 9000, .buffer_pages = 6000};
    for (uint64_t seed = 11; seed <= 16; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

static void without_a_table(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 300, .table_sets = 0, .cache_bytes = 100000, .buffer_pages = 6000};
    for (uint64_t seed = 21; seed <= 23; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

static void with_few_pages(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 400, .table_sets = 4, .cache_bytes = 100000, .buffer_pages = 2600};
    for (uint64_t seed = 31; seed <= 34; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

static void with_deaths(void **state) {
    struct seen seen = {0};
    struct run run = {
        .turns = 400, .table_sets = 4, .cache_bytes = 100000, .buffer_pages = 6000, .kills = 9};
    for (uint64_t seed = 41; seed <= 52; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

/* Frames that cannot be written get other places, and with them the versions in them. */
static void with_writes_that_fail(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 400,
                      .table_sets = 4,
                      .cache_bytes = 100000,
                      .buffer_pages = 6000,
                      .kills = 30,
                      .faults = 15};
    for (uint64_t seed = 71; seed <= 78; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

/* Lives in which a look-up was under way while frames got other places. */
static void with_look_ups_while_frames_move(void **state) {
    const struct run deaths = {
        .turns = 400, .table_sets = 4, .cache_bytes = 100000, .buffer_pages = 6000, .kills = 9};
    const struct run few_pages = {
        .turns = 400, .table_sets = 4, .cache_bytes = 100000, .buffer_pages = 2600, .kills = 20};
    struct seen seen = {0};
    live(15, &deaths, &seen);
    live(35, &deaths, &seen);
    live(121, &deaths, &seen);
    live(99, &few_pages, &seen);
    assert_seen(&seen, 1000);
}

static void with_power_cuts(void **state) {
    struct seen seen = {0};
    struct run run = {.turns = 400,
                      .table_sets = 4,
                      .cache_bytes = 100000,
                      .buffer_pages = 6000,
                      .kills = 40,
                      .power_cuts = 90};
    for (uint64_t seed = 61; seed <= 66; seed++)
        live(seed, &run, &seen);
    assert_seen(&seen, 1000);
}

/* All of it at once, in proportions of chance. */
static void live_with_everything(uint64_t seed, struct seen *seen) {
    static const uint32_t sets[] = {0, 1, 2, 64}, pages[] = {1000, 1100, 1500, 6000};
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 300,
                      .table_sets = sets[prng_below(&p, 4)],
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = pages[prng_below(&p, 4)],
                      .kills = (int)prng_below(&p, 30),
                      .power_cuts = (int)prng_below(&p, 2) * 70,
                      .faults = (int)prng_below(&p, 2) * 20};
    live(seed, &run, seen);
}

/* And cold starts after a death or a stop, restores of forks, long writes, all kinds of faults. */
static void live_with_more(uint64_t seed, struct seen *seen) {
    static const uint32_t sets[] = {0, 1, 2, 64}, pages[] = {1000, 1100, 1500, 6000};
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 200,
                      .table_sets = sets[prng_below(&p, 4)],
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = pages[prng_below(&p, 4)],
                      .kills = (int)prng_below(&p, 30),
                      .power_cuts = (int)prng_below(&p, 2) * 50,
                      .faults = (int)prng_below(&p, 2) * 20,
                      .cold_starts = (int)prng_below(&p, 2) * 40,
                      .stops = (int)prng_below(&p, 2) * 60,
                      .wide = 1};
    live(seed, &run, seen);
}

/* The past is given up, again and again. */
static void live_with_cleanings(uint64_t seed, struct seen *seen) {
    static const uint32_t sets[] = {0, 1, 2, 64}, pages[] = {1000, 1100, 1500, 6000};
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 300,
                      .table_sets = sets[prng_below(&p, 4)],
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = pages[prng_below(&p, 4)],
                      .kills = (int)prng_below(&p, 2) * 20,
                      .power_cuts = (int)prng_below(&p, 2) * 70,
                      .faults = (int)prng_below(&p, 3) / 2 * 30,
                      .cold_starts = (int)prng_below(&p, 2) * 70,
                      .stops = (int)prng_below(&p, 2) * 90,
                      .cleanings = 8,
                      .thins = (int)prng_below(&p, 2),
                      .wide = (int)prng_below(&p, 2)};
    live(seed, &run, seen);
}

static void live_with_sections(uint64_t seed, struct seen *seen) {
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 300,
                      .table_sets = (uint32_t)prng_below(&p, 2) * 64,
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = 6000,
                      .kills = (int)prng_below(&p, 2) * 20,
                      .power_cuts = (int)prng_below(&p, 2) * 70,
                      .cold_starts = (int)prng_below(&p, 2) * 70,
                      .stops = (int)prng_below(&p, 2) * 90,
                      .cleanings = (int)prng_below(&p, 2) * 8,
                      .thins = (int)prng_below(&p, 2),
                      .sections = 1,
                      .wide = (int)prng_below(&p, 2)};
    live(seed, &run, seen);
}

/* What was written is written again. */
static void live_with_rewrites(uint64_t seed, struct seen *seen) {
    static const uint32_t pages[] = {1500, 2600, 6000};
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 200,
                      .table_sets = 64,
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = pages[prng_below(&p, 3)],
                      .kills = (int)prng_below(&p, 2) * 20,
                      .power_cuts = (int)prng_below(&p, 2) * 70,
                      .faults = (int)prng_below(&p, 3) / 2 * 30,
                      .cold_starts = (int)prng_below(&p, 2) * 70,
                      .cleanings = (int)prng_below(&p, 2) * 8,
                      .sections = (int)prng_below(&p, 2),
                      .rewrites = 1,
                      .wide = (int)prng_below(&p, 2)};
    live(seed, &run, seen);
}

/* Cold starts and cuts often, each after one with little memory. */
static void live_with_little_memory(uint64_t seed, struct seen *seen) {
    struct prng p = prng_seed(seed);
    struct run run = {.turns = 200,
                      .table_sets = 1u << prng_below(&p, 6),
                      .cache_bytes = 9000u << prng_below(&p, 8),
                      .buffer_pages = 6000,
                      .kills = (int)prng_below(&p, 30),
                      .power_cuts = (int)prng_below(&p, 2) * 30,
                      .cold_starts = 20,
                      .little = 1,
                      .wide = 1};
    live(seed, &run, seen);
}

/* PERDURE_SEED: other lives, and more of them. */
static void one_life(void (*one)(uint64_t seed, struct seen *seen), uint64_t seed) {
    struct seen seen = {0};
    one(seed, &seen);
    assert_true(seen.answers > 100);
}

static void many_lives(void (*one)(uint64_t seed, struct seen *seen), struct seen *seen,
                       uint64_t lives) {
    const char *from = getenv("PERDURE_SEED");
    uint64_t first = from ? strtoull(from, NULL, 10) * 64 : 1, count = from ? 64 : lives;
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (from)
            fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        one(seed, seen);
    }
    assert_true(seen->answers > 250 * count && 2 * seen->deaths > 5 * count);
    printf("%llu changes told by looking back, %llu numbers without frames\n",
           (unsigned long long)seen->looked_back, (unsigned long long)seen->without_frames);
    assert_true(seen->looked_back > 8 * count);
    assert_true(4 * seen->runs > 3 * count && 2 * seen->forks > 5 * count);
}

static void with_little_memory(void **state) {
    struct seen seen = {0};
    many_lives(live_with_little_memory, &seen, 4);
}

static void with_everything(void **state) {
    struct seen seen = {0};
    many_lives(live_with_everything, &seen, 8);
}

static void with_more(void **state) {
    struct seen seen = {0};
    many_lives(live_with_more, &seen, 8);
}

static void with_cleanings(void **state) {
    struct seen seen = {0};
    many_lives(live_with_cleanings, &seen, 8);
    printf("%llu cleanings, %llu segments freed, %llu cold\n", (unsigned long long)seen.cleanings,
           (unsigned long long)seen.freed, (unsigned long long)seen.cold);
    assert_true(seen.cleanings > 4 && seen.freed > 8 && seen.cold > 2);
    assert_true(seen.without_frames > 0);
}

static void with_rewrites(void **state) {
    struct seen seen = {0};
    many_lives(live_with_rewrites, &seen, 4);
    printf("%llu blocks were written with what they held\n", (unsigned long long)seen.same);
    assert_true(seen.same > 100);
}

/* Changes since a moment, and versions. */
static void with_sections(void **state) {
    struct seen seen = {0};
    many_lives(live_with_sections, &seen, 10);
    printf("%llu changes, %llu versions compared\n",
           (unsigned long long)seen.compared[REQUEST_STATUS_OF_CHANGES],
           (unsigned long long)seen.compared[REQUEST_STATUS_OF_VERSIONS]);
    assert_true(seen.compared[REQUEST_STATUS_OF_CHANGES] > 100);
    assert_true(seen.compared[REQUEST_STATUS_OF_VERSIONS] > 500);
    assert_true(seen.refused > 0 && seen.cleanings > 3);
}

/* Lives in which the power went when a segment was sealed and one before it was not. */
static void with_a_later_segment_sealed_first(void **state) {
    struct seen seen = {0};
    live_with_everything(6413, &seen);
    live_with_everything(7006, &seen);
    assert_true(seen.answers > 300);
}

/* Lives in which a fork found its parent's blocks in frames that then got other places. */
static void with_a_fork_that_reads_what_moves(void **state) {
    struct seen seen = {0};
    live_with_everything(8554, &seen);
    live_with_everything(8830, &seen);
    assert_true(seen.answers > 300);
}

/* A life in which a request was cut off that had begun in the segment before, and the segment where the log went
 * on was sealed. */
static void with_a_request_cut_off_across_segments(void **state) {
    one_life(live_with_everything, 8854);
}

/* A life in which a frame was torn that lay where the log went on after the next power cut. */
static void with_a_torn_frame_where_the_log_goes_on(void **state) {
    one_life(live_with_everything, 9602);
}

/* A life in which a process that had started cold died with its first frame in flight, and the next one
 * started cold as well. */
static void with_an_orphan_of_a_cold_start(void **state) {
    one_life(live_with_more, 73);
}

/* A life in which a request was cut off, and nothing behind it was durable before the next cold start. */
static void with_a_request_cut_off_twice(void **state) {
    one_life(live_with_more, 65);
}

/* A life in which a frame of a dead process landed in a slot that a cleaning could have taken since. */
static void with_an_orphan_where_a_cold_segment_could_lie(void **state) {
    struct seen seen = {0};
    live_with_cleanings(5773790, &seen);
    assert_true(seen.cold > 0);
}

/* A life in which two store headers of dead processes landed over those of cold starts, one after the other. */
static void with_two_headers_that_land_late(void **state) {
    one_life(live_with_more, 209);
}

/* A life in which a segment was sealed before an older one, with the end of a request that begins there. */
static void with_a_request_that_ends_in_a_sealed_segment(void **state) {
    one_life(live_with_little_memory, 5779634);
}

/* A life in which half of a request was cut off, and an older store header landed over the one that said so. */
static void with_a_half_that_is_forgotten(void **state) {
    one_life(live_with_little_memory, 5779274);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_deaths),
        cmocka_unit_test(with_a_tiny_table_and_cache),
        cmocka_unit_test(without_a_table),
        cmocka_unit_test(with_few_pages),
        cmocka_unit_test(with_deaths),
        cmocka_unit_test(with_power_cuts),
        cmocka_unit_test(with_writes_that_fail),
        cmocka_unit_test(with_look_ups_while_frames_move),
        cmocka_unit_test(with_everything),
        cmocka_unit_test(with_little_memory),
        cmocka_unit_test(with_more),
        cmocka_unit_test(with_cleanings),
        cmocka_unit_test(with_sections),
        cmocka_unit_test(with_rewrites),
        cmocka_unit_test(with_a_fork_that_reads_what_moves),
        cmocka_unit_test(with_a_later_segment_sealed_first),
        cmocka_unit_test(with_a_request_cut_off_across_segments),
        cmocka_unit_test(with_a_torn_frame_where_the_log_goes_on),
        cmocka_unit_test(with_an_orphan_of_a_cold_start),
        cmocka_unit_test(with_a_request_cut_off_twice),
        cmocka_unit_test(with_a_request_that_ends_in_a_sealed_segment),
        cmocka_unit_test(with_a_half_that_is_forgotten),
        cmocka_unit_test(with_two_headers_that_land_late),
        cmocka_unit_test(with_an_orphan_where_a_cold_segment_could_lie),
    };
    return cmocka_run_group_tests_name("engine_oracle", tests, NULL, NULL);
}
