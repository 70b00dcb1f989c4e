/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine_world_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "arena/shadow.h"
#include "base/err.h"
#include "engine/root.h"
#include "engine/timeline/volumes.h"

#define TURNS_MAX 200000

/* ---- The process ---- */

static void raise_alert(void *ctx, enum alert_level level, const char *code, const char *subject,
                        const char *text) {
    static const char *const losses[] = {"answered_writes_lost", "blocks_damaged", "index_damaged",
                                         "log_damaged", "segment_header_damaged"};
    struct world *w = ctx;
    w->alerts++;
    snprintf(w->alert, sizeof w->alert, "%s", code);
    for (uint32_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
        if (w->loss[0] == 0 && strcmp(code, losses[i]) == 0)
            snprintf(w->loss, sizeof w->loss, "%s", code);
}
static void clear_alert(void *ctx, const char *code, const char *subject) {
}
static int segment_freed(void *ctx, uint32_t segment) {
    const struct world *w = ctx;
    for (uint32_t i = 0; i < w->freed_count; i++)
        if (w->freed[i] == segment)
            return 1;
    return 0;
}

static uint64_t sealed_up_to(void *ctx) {
    return ((const struct world *)ctx)->sealed;
}

/* ---- Cleaning, as admin does it ---- */

static void add_freed(struct world *w, uint32_t segment) {
    if (segment_freed(w, segment))
        return;
    assert_true(w->freed_count < WORLD_FREED_MAX);
    w->freed[w->freed_count++] = segment;
}

int world_line_is_promised(struct world *w, uint32_t line) {
    if (w->horizon == 0 && w->fine == 0)
        return 1;
    for (uint32_t i = 0; i < w->volumes; i++)
        if (world_volume_line(w, i) == line)
            return 1;
    return 0;
}

/* As the catalogue knows. */
static void show_promises(const struct world *w, struct volume *v) {
    v->oldest_sequence = w->horizon;
    v->fine_sequence = w->fine;
}

static void want_keeps(void *ctx) {
    struct world *w = ctx;
    struct keep_timeline *lines = calloc(w->line_count + 1, sizeof *lines);
    struct keep_moments *moments = calloc(2 * w->line_count + w->change_count + 1, sizeof *moments);
    struct keep_chosen *chosen = calloc(w->change_count + 1, sizeof *chosen);
    struct keep_window *windows = calloc(w->line_count + 1, sizeof *windows);
    struct keep_promises k = {.timelines = lines,
                              .moments = moments,
                              .windows = windows,
                              .timeline_count = w->line_count,
                              .chosen = chosen};
    for (uint32_t i = 0; i < w->change_count; i++)
        chosen[k.chosen_count++] =
            (struct keep_chosen){w->changes[i].sequence, world_step_of(w->changes[i].sequence)};
    for (uint32_t i = 1; i <= w->line_count; i++) {
        uint32_t family = i;
        for (uint32_t p = w->lines[i].parent; p; p = w->lines[p].parent)
            family = p;
        lines[i - 1] = (struct keep_timeline){i, family, w->lines[i].parent, w->lines[i].fork};
        if (!world_line_is_promised(w, i))
            continue;
        if (w->horizon < w->fine)
            moments[k.moment_count++] =
                (struct keep_moments){i, family, w->horizon, w->fine - 1, w->step_s};
        moments[k.moment_count++] = (struct keep_moments){i, family, w->fine, UINT64_MAX, 0};
        windows[k.window_count++] = (struct keep_window){family, w->fine};
    }
    for (uint32_t i = 0; i < w->change_count; i++) {
        const struct change_made *c = &w->changes[i];
        if (c->kind == CHANGE_REFERENCE)
            moments[k.moment_count++] =
                (struct keep_moments){c->ref_timeline, lines[c->ref_timeline - 1].family,
                                      c->ref_sequence, c->ref_sequence, 0};
    }
    clean_keeps(w->clean, 0, &k);
    free(lines);
    free(moments);
    free(windows);
    free(chosen);
}

/* What is asked of the catalogue leaves after the turn's commit. */
static void want_freed(void *ctx, uint32_t segment) {
    struct world *w = ctx;
    w->commit.to_free = segment;
}

static void want_commit(void *ctx, uint32_t cold, uint64_t first_sequence, uint64_t last_sequence) {
    struct world *w = ctx;
    assert_false(w->commit.wanted || w->commit.asked);
    w->commit.asked = 1;
    w->commit.cold = cold;
    w->commit.first_sequence = first_sequence;
    w->commit.last_sequence = last_sequence;
}

static void to_catalogue(struct world *w) {
    uint32_t segments[128], cold = w->commit.cold;
    if (w->commit.to_free)
        add_freed(w, w->commit.to_free);
    if (!w->commit.asked || w->commit.wanted)
        return;
    uint32_t n =
        log_sealed_in(w->log, w->commit.first_sequence, w->commit.last_sequence, segments, 128);
    assert_true(n > 0);
    for (uint32_t i = 0; i < n; i++)
        add_freed(w, segments[i]);
    for (uint32_t i = 0; cold && i < w->freed_count; i++)
        if (w->freed[i] == cold)
            w->freed[i--] = w->freed[--w->freed_count];
    w->sealed = max_u64(w->sealed, w->commit.last_sequence);
    w->commit.wanted = 1;
}

static uint64_t oldest_reader(void *ctx) {
    struct world *w = ctx;
    return engine_oldest_moment(w->engine);
}

static const struct clean_ops clean_ops = {want_keeps, want_freed, want_commit, oldest_reader};

/* The catalogue's answers. */
static void do_commit(struct world *w) {
    if (w->commit.to_free) {
        w->commit.to_free = 0;
        clean_freed(w->clean, 0);
    }
    if (!w->commit.wanted || w->commit.done)
        return;
    log_clean(w->log, w->commit.cold, w->commit.first_sequence, w->commit.last_sequence);
    w->commit.done = 1;
    if (w->commit.asked)
        clean_committed(w->clean, 0);
}

static void open_clean(struct world *w, struct alert_sink alerts) {
    struct clean_parts parts = {.a = w->a,
                                .log = w->log,
                                .index = w->index,
                                .files = sim_files(w->sim),
                                .jobs = sim_jobs(w->sim),
                                .alerts = alerts,
                                .ops = &clean_ops,
                                .ctx = w};
    assert_int_equal(clean_open(&w->clean, &parts), 0);
    w->commit.asked = w->commit.done = 0;
    w->commit.to_free = 0;
}

void world_clean(struct world *w, uint64_t horizon, uint64_t fine, uint64_t up_to) {
    if (clean_is_busy(w->clean) || w->commit.wanted)
        return;
    w->horizon = max_u64(w->horizon, horizon);
    w->fine = max_u64(max_u64(w->fine, fine), max_u64(w->horizon, 1));
    for (uint32_t v = 0; v < w->volumes; v++)
        show_promises(w, world_edit_volume(w, v));
    assert_int_equal(clean_begin(w->clean, up_to), 0);
}

static struct asked *asked_of(struct world *w, struct request_h h) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++)
        if (w->asked[i].state == ASKED_OPEN && w->asked[i].h.v == h.v)
            return &w->asked[i];
    fail_msg("an answer to nothing");
    return NULL;
}

/* What the source does when a request is DONE: takes the answer, frees slot and buffers. */
static void reply(void *ctx, struct request_h h) {
    struct world *w = ctx;
    struct asked *q = asked_of(w, h);
    const struct request *r = request_view(w->a, h);
    assert_int_equal(r->slot.state, REQUEST_DONE);
    assert_false(q->answered_now);
    q->answered_now = 1;
    q->error = r->error;
    q->sequence = r->sequence;
    q->replayed = (r->flags & REQUEST_REPLAYED) != 0;
    q->applied_after = index_applied(w->index);
    if (r->error && r->sequence > 0)
        q->length = r->progress; /* as far as it is recorded */
    if (r->op == REQUEST_READ && r->error == 0) {
        assert_int_equal(r->reply_data_bytes, q->length);
        q->data = malloc(q->length ? q->length : 1);
        for (uint64_t at = 0, run; at < q->length; at += run) {
            const unsigned char *p = request_data_at(&w->buffers, r, at, &run);
            run = min_u64(run, q->length - at);
            memcpy(q->data + at, p, run);
        }
    }
    if (r->op == REQUEST_BLOCK_STATUS && r->error == 0)
        world_take_status(w, q, r);
    for (uint32_t i = 0; i < r->data_extents; i++)
        buffer_release(&w->buffers, r->data[i]);
    request_free(w->a, h);
}

static void open_process(struct world *w) {
    assert_int_equal(buffer_pool_open(&w->buffers, w->a, REGION_BUFFERS), 0);
    assert_int_equal(
        io_open(&w->io, w->a, &w->buffers, sim_router(w->sim), sim_queue_number(w->sim)), 0);
    assert_int_equal(ancestries_open(&w->ancestries, w->a), 0);
    struct alert_sink alerts = {raise_alert, clear_alert, w};
    struct index_parts ip = {.a = w->a,
                             .io = &w->io,
                             .buffers = &w->buffers,
                             .jobs = sim_jobs(w->sim),
                             .background = sim_jobs(w->sim),
                             .files = sim_files(w->sim),
                             .merge_entries = 60,
                             .merge_fan_in = 3,
                             .ancestries = w->ancestries,
                             .alerts = alerts,
                             .cache_bytes = w->options.cache_bytes};
    assert_int_equal(index_open(&w->index, &ip), 0);
    struct log_env env = {.arena = w->a,
                          .buffers = &w->buffers,
                          .io = &w->io,
                          .files = sim_files(w->sim),
                          .jobs = sim_jobs(w->sim),
                          .clock = sim_clock(w->sim),
                          .alerts = alerts,
                          .index = &index_log_ops,
                          .index_ctx = w->index,
                          .segment_freed = segment_freed,
                          .sealed_up_to = sealed_up_to,
                          .catalogue_ctx = w};
    w->log = log_open(&env, &w->params);
    assert_non_null(w->log);
    index_set_log(w->index, w->log);
    w->io.device = log_device;
    w->io.device_ctx = w->log;
    struct engine_parts ep = {.a = w->a,
                              .buffers = &w->buffers,
                              .io = &w->io,
                              .log = w->log,
                              .index = w->index,
                              .ancestries = w->ancestries,
                              .alerts = alerts,
                              .clock = sim_clock(w->sim),
                              .records_per_turn = w->options.records_per_turn,
                              .reply = reply,
                              .reply_ctx = w};
    assert_int_equal(engine_open(&w->engine, &ep), 0);
    open_clean(w, alerts);
}

static void close_process(struct world *w) {
    clean_close(w->clean);
    engine_close(w->engine);
    log_close(w->log);
    index_close(w->index);
    ancestries_close(w->ancestries);
    io_close(&w->io);
    buffer_pool_close(&w->buffers);
    arena_detach(w->a);
}

static void map_arena(struct world *w) {
    uint64_t size = arena_plan_bytes(&w->plan);
    w->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(w->memory != MAP_FAILED);
    assert_int_equal(arena_create(w->a, w->memory, size, &w->plan), 0);
}

static void make_plan(struct world *w) {
    uint32_t n = 0;
    const struct arena_table_plan tables[] = {
        {&io_spec, 48},
        {&engine_spec, 1},
        {&segment_spec, 256},
        {&frame_spec, LOG_FRAMES_MAX},
        {&wall_spec, 1},
        {&memtable_spec, w->options.memtables},
        {&timeline_spec, WORLD_TIMELINES},
        {&volume_spec, WORLD_VOLUMES},
        {&request_spec, WORLD_REQUESTS},
        {&activity_spec, 16},
    };
    memcpy(w->tables, tables, sizeof tables);
    w->regions[n++] = (struct arena_region_plan){
        REGION_BUFFERS, 1, (uint64_t)w->options.buffer_pages * BLOCK_BYTES, 4096};
    w->regions[n++] = (struct arena_region_plan){
        REGION_MEMTABLES, 1,
        index_memtable_region_bytes(w->options.memtables, WORLD_SEGMENT_RECORDS,
                                    WORLD_SEGMENT_BYTES / 4096),
        4096};
    w->regions[n++] = (struct arena_region_plan){REGION_BLOCK_TABLE, 1,
                                                 w->options.table_sets * 8 * 776 + 64, 4096};
    w->plan = (struct arena_plan){.tables = w->tables,
                                  .table_count = sizeof tables / sizeof tables[0],
                                  .regions = w->regions,
                                  .region_count = n,
                                  .undo_bytes = 2 << 20};
}

/* dead: the arena of the process before, to be salvaged; or NULL. */
static void begin_log(struct world *w, const void *dead, uint64_t dead_bytes) {
    struct log_report report;
    map_arena(w);
    open_process(w);
    assert_int_equal(log_recover(w->log, &report), 0);
    if (dead)
        assert_int_equal(log_salvage(w->log, dead, dead_bytes, &report), 0);
    assert_int_equal(log_begin(w->log, &report), 0);
    atomic_store(&w->a->live->phase, ARENA_SERVING);
    arena_commit(w->a);
    buffer_commit(&w->buffers);
}

/* Unmaps the dead arena. */
static void cold_start(struct world *w, void *dead) {
    uint64_t dead_bytes = arena_plan_bytes(&w->plan);
    w->commit.wanted = 0; /* the catalogue tells the log */
    w->whole = 0;         /* and which numbers are known to somebody, which it does not here */
    if (w->options.starts_in_little) {
        uint32_t memtables = w->options.memtables;
        w->options.memtables = 3 + (uint32_t)prng_below(&w->prng, 2);
        make_plan(w);
        begin_log(w, dead, dead_bytes);
        sim_kill(w->sim);
        close_process(w);
        if (dead)
            munmap(dead, dead_bytes);
        dead = w->memory;
        dead_bytes = arena_plan_bytes(&w->plan);
        w->options.memtables = memtables;
        make_plan(w);
    }
    begin_log(w, dead, dead_bytes);
    if (dead)
        munmap(dead, dead_bytes);
    engine_after_commit(w->engine);
    assert_int_equal(arena_shadow_start(w->a), 0);
}

struct world *world_open(const struct world_options *options) {
    struct world *w = calloc(1, sizeof *w);
    w->options = *options;
    w->a = &w->arena;
    w->prng = prng_seed(options->seed * 977 + 5);
    w->sim = sim_new(&(struct sim_options){.seed = options->seed});
    w->params = log_params_default();
    w->params.unlogged_bytes_max = 6u << 20;
    w->params.submit_bytes = 64 * 1024;
    w->params.reserve_segments = 1;
    w->params.control_segments = w->params.clean_segments = 0;
    w->params.leave_bytes = 0;
    w->params.orphan_bytes = 1u << 20;
    w->params.quarantine_ns = 100 * NS_PER_MS;
    if (options->max_bytes)
        w->params.max_bytes = options->max_bytes;
    struct file_system fs = sim_files(w->sim);
    struct log_create c = {.segment_bytes = WORLD_SEGMENT_BYTES,
                           .segment_records = WORLD_SEGMENT_RECORDS,
                           .wall_ns =
                               clock_wall_ns(&(struct clock){sim_clock(w->sim).ops, w->sim})};
    sim_random(w->sim).ops->fill(w->sim, c.store_id, sizeof c.store_id);
    assert_int_equal(log_create_store(&fs, &c), 0);
    make_plan(w);
    cold_start(w, NULL);
    return w;
}

static void forget_answer(struct asked *q) {
    free(q->data);
    free(q->extents);
    q->data = NULL;
    q->extents = NULL;
    q->extent_count = 0;
}

void world_close(struct world *w) {
    uint64_t size = arena_plan_bytes(&w->plan);
    sim_jobs(w->sim).ops->drain(w->sim);
    close_process(w);
    munmap(w->memory, size);
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++)
        forget_answer(&w->asked[i]);
    sim_free(w->sim);
    free(w->changes);
    free(w);
}

/* ---- Deaths ---- */

/* What the turn that did not happen has made is not there. */
static void undo_turn(struct world *w) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++) {
        struct asked *q = &w->asked[i];
        if (q->state != ASKED_OPEN)
            continue;
        if (q->answered_now)
            forget_answer(q);
        q->answered_now = 0;
        if (!q->first_turn_done)
            q->state = 0;
    }
}

static void claim_requests(struct world *w) {
    for (struct request_h h = request_next(w->a, (struct request_h){0}); h.v;
         h = request_next(w->a, h)) {
        const struct request *q = request_view(w->a, h);
        for (uint32_t i = 0; i < q->data_extents; i++)
            assert_int_equal(buffer_claim(&w->buffers, q->data[i]), 0);
    }
}

static void attach(struct world *w) {
    uint64_t size = arena_plan_bytes(&w->plan);
    uint32_t queues[64], n = 0, taken_before;
    assert_int_equal(arena_qualify(w->memory, size, &w->plan), ARENA_QUALIFIES);
    assert_int_equal(arena_roll_back(w->memory), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(w->a, w->memory, size, &w->plan), 0);
    assert_int_equal(arena_shadow_start(w->a), 0);
    open_process(w);
    assert_int_equal(io_attach(&w->io), 0);
    claim_requests(w);
    assert_int_equal(log_attach(w->log), 0);
    assert_int_equal(index_attach(w->index), 0);
    assert_int_equal(engine_attach(w->engine), 0);
    for (struct io_h h = io_next(w->a, (struct io_h){0}); h.v; h = io_next(w->a, h)) {
        uint32_t q = io_view(w->a, h)->queue, i = 0;
        while (i < n && queues[i] != q)
            i++;
        queues[i] = q;
        n = i == n ? n + 1 : n;
    }
    int lost = prng_one_in(&w->prng, 4);
    for (uint32_t i = 0; i < n; i++) {
        if (!lost && sim_adopt(w->sim, queues[i], &taken_before) >= 0)
            io_adopted(&w->io, queues[i], taken_before);
        else
            while (io_lost(&w->io, queues[i]))
                arena_commit(w->a);
    }
    log_resume(w->log);
    log_cold_drop_others(w->log, w->commit.wanted ? w->commit.cold : 0);
    for (uint32_t v = 0; v < w->volumes; v++)
        show_promises(w, world_edit_volume(w, v));
}

void world_kill(struct world *w) {
    sim_kill(w->sim);
    close_process(w);
    undo_turn(w);
    w->deaths++;
    attach(w);
}

/* What the catalogue has of volumes and timelines, over a cold start. */
struct kept {
    struct volume volumes[WORLD_VOLUMES];
    uint32_t lines_shown[WORLD_VOLUMES];
    uint32_t volume_count;
    uint32_t line_count;
    struct line lines[WORLD_TIMELINES + 1];
};

static struct kept *keep_catalogue(const struct world *w) {
    struct kept *k = malloc(sizeof *k);
    for (uint32_t i = 0; i < w->volumes; i++) {
        k->volumes[i] = *volume_view(w->a, w->volume[i]);
        k->lines_shown[i] = timeline_view(w->a, k->volumes[i].timeline)->id;
    }
    k->volume_count = w->volumes;
    k->line_count = w->line_count;
    memcpy(k->lines, w->lines, sizeof k->lines);
    return k;
}

static void bring_line(struct world *w, const struct line *l) {
    uint32_t id = world_line(w, l->parent, l->fork);
    timeline_edit(w->a, ancestry_slot(w->ancestries, id))->first_sequence = l->made;
    w->lines[id].made = l->made;
}

static void bring_catalogue(struct world *w, struct kept *k) {
    w->line_count = w->volumes = 0;
    for (uint32_t i = 1; i <= k->line_count; i++)
        bring_line(w, &k->lines[i]);
    for (uint32_t i = 0; i < k->volume_count; i++)
        world_volume(w, k->lines_shown[i], k->volumes[i].size_bytes, k->volumes[i].block_size,
                     k->volumes[i].flags);
    free(k);
    world_turn(w, WORLD_LIVES);
}

/* Connections do not outlive a cold start. */
static void drop_requests(struct world *w) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++) {
        forget_answer(&w->asked[i]);
        w->asked[i].state = 0;
        w->asked[i].answered_now = 0;
    }
}

/* What the log has kept is a prefix, with every change up to `promised`. */
static void keep_prefix(struct world *w, uint64_t promised) {
    for (; w->change_count > 0; w->change_count--) {
        uint64_t newest = w->changes[w->change_count - 1].sequence;
        if (newest <= index_applied(w->index))
            break;
        assert_true(newest > promised);
    }
    assert_true(log_recorded(w->log) >= promised);
}

void world_power_cut(struct world *w) {
    struct kept *kept = keep_catalogue(w);
    sim_power_cut(w->sim);
    close_process(w);
    munmap(w->memory, arena_plan_bytes(&w->plan));
    drop_requests(w);
    cold_start(w, NULL);
    keep_prefix(w, w->flushed);
    w->answered = w->flushed;
    bring_catalogue(w, kept);
}

void world_start_cold(struct world *w) {
    struct kept *kept = keep_catalogue(w);
    void *dead = w->memory;
    sim_kill(w->sim);
    close_process(w);
    assert_int_equal(arena_roll_back(dead), ARENA_QUALIFIES);
    drop_requests(w);
    w->deaths++;
    cold_start(w, dead);
    keep_prefix(w, max_u64(w->answered, w->flushed));
    bring_catalogue(w, kept);
}

void world_stop(struct world *w) {
    world_wait_all(w);
    struct kept *kept = keep_catalogue(w);
    for (int n = 0; log_stop(w->log) < 0; n++) {
        log_want_durable(w->log, log_recorded(w->log));
        world_step(w);
        assert_true(n < TURNS_MAX);
    }
    sim_kill(w->sim);
    close_process(w);
    munmap(w->memory, arena_plan_bytes(&w->plan));
    cold_start(w, NULL);
    keep_prefix(w, world_now(w));
    bring_catalogue(w, kept);
}

/* ---- Volumes ---- */

uint32_t world_line(struct world *w, uint32_t parent, uint64_t fork) {
    uint32_t id = ++w->line_count;
    assert_true(id <= WORLD_TIMELINES);
    struct timeline_h h = timeline_new(w->a, TIMELINE_LIVE);
    assert_int_not_equal(h.v, 0);
    struct timeline *t = timeline_edit(w->a, h);
    uint32_t family = id;
    for (uint32_t p = parent; p; p = w->lines[p].parent)
        family = p;
    t->id = id;
    t->family = family;
    t->parent = parent;
    t->fork_sequence = fork;
    t->first_sequence = log_recorded(w->log) + 1;
    w->lines[id] = (struct line){parent, fork, t->first_sequence};
    return id;
}

static struct timeline_h line_slot(struct world *w, uint32_t id) {
    struct timeline_h h = ancestry_slot(w->ancestries, id);
    assert_int_not_equal(h.v, 0);
    return h;
}

uint32_t world_volume(struct world *w, uint32_t timeline, uint64_t size_bytes, uint32_t block_size,
                      uint32_t flags) {
    struct volume_h h = volume_new(w->a, VOLUME_ONLINE);
    assert_int_not_equal(h.v, 0);
    struct volume *v = volume_edit(w->a, h);
    v->timeline = line_slot(w, timeline);
    v->size_bytes = size_bytes;
    v->block_size = block_size;
    v->flags = flags;
    show_promises(w, v);
    w->volume[w->volumes] = h;
    return w->volumes++;
}

struct volume *world_edit_volume(struct world *w, uint32_t v) {
    return volume_edit(w->a, w->volume[v]);
}

uint32_t world_volume_line(struct world *w, uint32_t v) {
    return timeline_view(w->a, volume_view(w->a, w->volume[v])->timeline)->id;
}

/* ---- Requests ---- */

static int free_number(const struct world *w) {
    for (int i = 0; i < (int)WORLD_REQUESTS; i++)
        if (w->asked[i].state == 0)
            return i;
    return -1;
}

static void fill_payload(struct world *w, struct request *r, uint64_t stamp) {
    unsigned char sector[SECTOR_BYTES];
    for (uint64_t at = 0; at < r->length_bytes; at += SECTOR_BYTES) {
        uint64_t run;
        world_fill_sector(sector, stamp, (r->offset_bytes + at) / SECTOR_BYTES);
        memcpy(request_data_at(&w->buffers, r, at, &run), sector, SECTOR_BYTES);
    }
}

int world_ask(struct world *w, uint32_t v, uint8_t op, uint64_t offset, uint64_t length,
              uint32_t flags) {
    int i = free_number(w), n = 0;
    struct extent pages[REQUEST_EXTENTS];
    uint32_t start = (uint32_t)(offset % BLOCK_BYTES);
    int brings = op == REQUEST_WRITE || (op == REQUEST_READ && prng_one_in(&w->prng, 2));
    uint64_t bytes = brings ? start + length : op == REQUEST_BLOCK_STATUS ? BLOCK_BYTES : 0;
    if (i < 0 || arena_undo_left(w->a) < 4 * ARENA_HANDLER_UNDO_BYTES)
        return -1;
    if (bytes > 0)
        n = buffer_take_for(&w->buffers, BUFFER_CLIENTS, buffer_pages_for(bytes), pages,
                            REQUEST_EXTENTS);
    struct request_h h = n >= 0 ? request_new(w->a, REQUEST_READY) : (struct request_h){0};
    if (!h.v)
        return -1;
    struct request *r = request_edit(w->a, h);
    r->op = op;
    r->flags = (uint16_t)flags;
    r->arrival = ++w->arrivals;
    r->offset_bytes = offset;
    r->length_bytes = length;
    r->volume = w->volume[v];
    r->data_start = brings ? start : 0;
    r->sequence = op == REQUEST_BLOCK_STATUS ? w->since : 0;
    r->data_extents = (uint8_t)n;
    memcpy(r->data, pages, (size_t)n * sizeof *pages);
    w->asked[i] = (struct asked){.state = ASKED_OPEN,
                                 .h = h,
                                 .volume = v,
                                 .timeline = world_volume_line(w, v),
                                 .op = op,
                                 .offset = offset,
                                 .length = length,
                                 .since = w->since,
                                 .flags = flags,
                                 .stamp = ++w->stamps,
                                 .applied_before = index_applied(w->index),
                                 .whole_before = engine_recorded_whole(w->engine)};
    if (op == REQUEST_WRITE)
        fill_payload(w, r, w->asked[i].stamp);
    engine_submit(w->engine, h);
    return i;
}

static int changes_disk(const struct asked *q) {
    return q->op == REQUEST_WRITE || q->op == REQUEST_TRIM || q->op == REQUEST_ZERO;
}

static void check_newest_moment(struct world *w) {
    assert_true(engine_recorded_whole(w->engine) >= w->whole);
    w->whole = engine_recorded_whole(w->engine);
}

/* The turn has happened: so have its answers, and the records of requests that wait. */
static void take_turn(struct world *w) {
    check_newest_moment(w);
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++) {
        struct asked *q = &w->asked[i];
        int changes = changes_disk(q);
        if (q->state != ASKED_OPEN)
            continue;
        q->first_turn_done = 1;
        if (q->answered_now) {
            q->state = ASKED_ANSWERED;
            /* What did not become durable is recorded all the same. */
            if (changes && (q->error == 0 || q->error == ERR_IO))
                world_note_change(w, q, q->sequence);
        } else if (changes && request_view(w->a, q->h)->slot.state == REQUEST_APPLIED) {
            world_note_change(w, q, request_view(w->a, q->h)->sequence);
        }
    }
}

static void check_answers(struct world *w) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++) {
        struct asked *q = &w->asked[i];
        if (q->state != ASKED_ANSWERED || !q->answered_now)
            continue;
        q->answered_now = 0;
        w->answers++;
        if (changes_disk(q) && q->error == 0)
            w->answered = max_u64(w->answered, q->sequence);
        if (q->op == REQUEST_FLUSH && q->error == 0)
            w->flushed = max_u64(w->flushed, min_u64(q->sequence, q->whole_before));
        if (w->ignore_data || q->error)
            continue;
        if (q->op == REQUEST_READ)
            world_check_read(w, q);
        if (q->op == REQUEST_BLOCK_STATUS)
            world_check_status(w, q);
    }
}

void world_forget_answered(struct world *w) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++)
        if (w->asked[i].state == ASKED_ANSWERED) {
            forget_answer(&w->asked[i]);
            w->asked[i].state = 0;
        }
}

void world_turn(struct world *w, enum world_stage die) {
    log_turn_begin(w->log);
    io_take(&w->io, 64);
    sim_jobs(w->sim).ops->reap(w->sim);
    do_commit(w);
    if (!w->commit.wanted) /* one at a time */
        clean_turn(w->clean);
    engine_turn(w->engine);
    log_turn_end(w->log);
    w->turns++;
    if (die == WORLD_DIES_BEFORE_COMMIT) {
        world_kill(w);
        return;
    }
    arena_commit(w->a);
    buffer_commit(&w->buffers);
    if (w->commit.done)
        w->commit.wanted = w->commit.done = w->commit.asked = 0;
    take_turn(w);
    if (die != WORLD_DIES_AFTER_COMMIT) {
        to_catalogue(w);
        engine_after_commit(w->engine);
        if (die != WORLD_DIES_AFTER_APPLY) {
            io_submit(&w->io);
            if (die != WORLD_DIES_AFTER_OUTPUTS)
                io_retire(&w->io);
        }
    }
    check_answers(w);
    if (die != WORLD_LIVES)
        world_kill(w);
}

void world_step(struct world *w) {
    world_turn(w, WORLD_LIVES);
    uint64_t now = sim_clock(w->sim).ops->monotonic_ns(w->sim);
    uint64_t at = min_u64(log_deadline(w->log), engine_deadline(w->engine));
    if (at <= now)
        sim_advance(w->sim, NS_PER_US);
    else if (at == UINT64_MAX)
        sim_step(w->sim);
    else if (sim_advance(w->sim, min_u64(at - now, 50 * NS_PER_US)) == 0 && at - now > NS_PER_MS)
        sim_advance(w->sim, min_u64(at - now, NS_PER_S) - 50 * NS_PER_US);
}

int world_wait(struct world *w, int i) {
    assert_true(i >= 0);
    for (int n = 0; w->asked[i].state == ASKED_OPEN; n++) {
        world_step(w);
        assert_true(n < TURNS_MAX);
    }
    return w->asked[i].error;
}

void world_wait_all(struct world *w) {
    for (uint32_t i = 0; i < WORLD_REQUESTS; i++)
        if (w->asked[i].state == ASKED_OPEN)
            world_wait(w, (int)i);
    world_forget_answered(w);
}

int world_do(struct world *w, uint32_t v, uint8_t op, uint64_t offset, uint64_t length,
             uint32_t flags) {
    int i;
    world_forget_answered(w);
    while ((i = world_ask(w, v, op, offset, length, flags)) < 0)
        world_step(w);
    return world_wait(w, i);
}

void world_settle(struct world *w) {
    for (int n = 0; n < TURNS_MAX; n++) {
        int sealing = 0;
        log_want_durable(w->log, log_recorded(w->log));
        world_step(w);
        for (struct segment_h h = segment_next(w->a, (struct segment_h){0}); h.v;
             h = segment_next(w->a, h))
            sealing |= segment_view(w->a, h)->slot.state == SEGMENT_SEALING;
        if (!sealing && log_durable(w->log) == log_recorded(w->log) && w->io.in_flight == 0)
            return;
    }
    fail_msg("the log does not come to rest");
}

void world_hold(struct world *w, uint32_t v) {
    world_edit_volume(w, v)->slot.state = VOLUME_HELD;
    engine_volume_changed(w->engine, w->volume[v]);
    for (int n = 0; !engine_is_quiet(w->engine, w->volume[v]); n++) {
        world_step(w);
        assert_true(n < TURNS_MAX);
    }
    world_step(w); /* what is recorded is applied */
}

void world_release(struct world *w, uint32_t v) {
    world_edit_volume(w, v)->slot.state = VOLUME_ONLINE;
    engine_volume_changed(w->engine, w->volume[v]);
}

static uint64_t append(struct world *w, const struct log_append *r) {
    uint64_t at;
    int err;
    for (int n = 0; (err = engine_append(w->engine, r, &at)) == ERR_AGAIN; n++) {
        world_step(w);
        assert_true(n < TURNS_MAX);
    }
    assert_int_equal(err, 0);
    return at;
}

void world_reference(struct world *w, uint32_t v, uint64_t block, uint64_t blocks, uint32_t line,
                     uint64_t sequence) {
    struct log_append r = {.kind = PLACE_REFERENCE,
                           .timeline = world_volume_line(w, v),
                           .family =
                               timeline_view(w->a, line_slot(w, world_volume_line(w, v)))->family,
                           .start_sector = block * BLOCK_SECTORS,
                           .sectors = blocks * BLOCK_SECTORS,
                           .block = block,
                           .blocks = blocks,
                           .ref_timeline = line,
                           .ref_sequence = sequence};
    world_add_change(w, (struct change_made){.sequence = append(w, &r),
                                             .timeline = r.timeline,
                                             .first = block * BLOCK_SECTORS,
                                             .sectors = blocks * BLOCK_SECTORS,
                                             .kind = CHANGE_REFERENCE,
                                             .ref_timeline = line,
                                             .ref_sequence = sequence});
    world_turn(w, WORLD_LIVES);
}

void world_hole(struct world *w, uint32_t v, uint64_t offset, uint64_t length) {
    struct log_append r = {.kind = PLACE_HOLE,
                           .timeline = world_volume_line(w, v),
                           .family =
                               timeline_view(w->a, line_slot(w, world_volume_line(w, v)))->family,
                           .start_sector = offset / SECTOR_BYTES,
                           .sectors = length / SECTOR_BYTES,
                           .block = offset / BLOCK_BYTES,
                           .blocks = length / BLOCK_BYTES};
    world_add_change(w, (struct change_made){.sequence = append(w, &r),
                                             .timeline = r.timeline,
                                             .first = r.start_sector,
                                             .sectors = r.sectors,
                                             .kind = CHANGE_STAMP});
    world_turn(w, WORLD_LIVES);
}

void world_check_volume(struct world *w, uint32_t v) {
    uint64_t size = volume_view(w->a, w->volume[v])->size_bytes;
    for (uint64_t at = 0; at < size; at += MIB)
        assert_int_equal(world_do(w, v, REQUEST_READ, at, min_u64(MIB, size - at), 0), 0);
}

uint64_t world_find_on_disk(struct world *w, uint64_t block, char path[40]) {
    const struct ancestry *view = ancestry_take(w->ancestries, world_volume_line(w, 0));
    struct index_find f = {.view = view,
                           .limit = INDEX_NOW,
                           .chunk = chunk_of_block(block),
                           .want = UINT64_C(1) << block % CHUNK_BLOCKS};
    assert_int_equal(index_find(w->index, &f), 0);
    ancestry_give(w->ancestries, view);
    uint64_t place = f.found[block % CHUNK_BLOCKS].place;
    assert_int_equal(place_kind(place), PLACE_DATA);
    struct segment_h s = log_segment(w->log, place_segment(place));
    snprintf(path, 40, "log/slot-%08u", segment_view(w->a, s)->file);
    return place_offset_bytes(place);
}
