/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "arena/shadow.h"
#include "base/err.h"
#include "base/numbers.h"
#include "engine/log/rig_test.h"
#include "engine/root.h"

#define UNDO_BYTES (2u << 20)
#define BUFFER_BYTES (24u << 20)
#define TURNS_MAX 20000

static const struct arena_table_plan tables[] = {{&io_spec, 64},
                                                 {&engine_spec, 1},
                                                 {&segment_spec, 64},
                                                 {&frame_spec, LOG_FRAMES_MAX},
                                                 {&wall_spec, 1}};
static const struct arena_region_plan regions[] = {{REGION_BUFFERS, 1, BUFFER_BYTES, 4096}};
static const struct arena_plan plan = {.tables = tables,
                                       .table_count = 5,
                                       .regions = regions,
                                       .region_count = 1,
                                       .undo_bytes = UNDO_BYTES};

/* Process. ------------------------------------------------------------------------------------- */

static void *map(void) {
    void *m = mmap(NULL, arena_plan_bytes(&plan), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    return m;
}

void rig_unmap(void *memory) {
    if (memory)
        munmap(memory, arena_plan_bytes(&plan));
}

static void raise_alert(void *ctx, enum alert_level level, const char *code, const char *subject,
                        const char *text) {
    struct rig *r = ctx;
    (void)level;
    (void)subject;
    assert_true(strlen(text) > 10);
    snprintf(r->alert, sizeof r->alert, "%s", code);
    r->alerts++;
}

static void clear_alert(void *ctx, const char *code, const char *subject) {
    struct rig *r = ctx;
    (void)subject;
    snprintf(r->cleared, sizeof r->cleared, "%s", code);
}

static int segment_freed(void *ctx, uint32_t segment) {
    const struct rig *r = ctx;
    for (uint32_t i = 0; i < r->freed_count; i++)
        if (r->freed[i] == segment)
            return 1;
    return 0;
}

/* Everything private of a process that has an arena. */
static void open_process(struct rig *r) {
    assert_int_equal(buffer_pool_open(&r->buffers, &r->a, REGION_BUFFERS), 0);
    assert_int_equal(
        io_open(&r->io, &r->a, &r->buffers, sim_router(r->sim), sim_queue_number(r->sim)), 0);
    struct log_env env = {.arena = &r->a,
                          .buffers = &r->buffers,
                          .io = &r->io,
                          .files = sim_files(r->sim),
                          .jobs = sim_jobs(r->sim),
                          .clock = sim_clock(r->sim),
                          .alerts = {raise_alert, clear_alert, r},
                          .index = &list_index_ops,
                          .index_ctx = &r->index,
                          .segment_freed = segment_freed,
                          .catalogue_ctx = r};
    r->l = log_open(&env, &r->params);
    assert_non_null(r->l);
    r->io.device = log_device;
    r->io.device_ctx = r->l;
    r->index.log = &r->l;
    r->index.a = &r->a;
    r->index.files = sim_files(r->sim);
    r->alive = 1;
}

static void close_process(struct rig *r) {
    log_close(r->l);
    io_close(&r->io);
    buffer_pool_close(&r->buffers);
    arena_detach(&r->a);
    r->alive = 0;
}

struct rig *rig_new(uint64_t seed) {
    struct rig *r = calloc(1, sizeof *r);
    r->sim = sim_new(&(struct sim_options){.seed = seed});
    r->prng = prng_seed(seed + 1);
    r->index.prng = prng_seed(seed + 2);
    r->params = log_params_default();
    r->params.unlogged_bytes_max = 6u << 20;
    r->params.submit_bytes = 64 * 1024;
    r->params.reserve_segments = 1;
    r->params.clean_segments = 0;
    r->params.control_segments = 0;
    r->params.leave_bytes = 64 * 1024;
    r->params.ready_segments = 2;
    r->params.devices_max = 4;
    r->params.orphan_bytes = 1u << 20;
    struct file_system fs = sim_files(r->sim);
    struct log_create c = {.segment_bytes = RIG_SEGMENT_BYTES,
                           .wall_ns = sim_clock(r->sim).ops->wall_ns(r->sim)};
    sim_random(r->sim).ops->fill(r->sim, c.store_id, sizeof c.store_id);
    assert_int_equal(log_create_store(&fs, &c), 0);
    return r;
}

void rig_free(struct rig *r) {
    if (r->alive)
        close_process(r);
    list_index_reset(&r->index);
    free(r->index.entries);
    free(r->index.undo);
    free(r->index.sealing);
    free(r->model);
    rig_unmap(r->memory);
    sim_free(r->sim);
    free(r);
}

int rig_start(struct rig *r, void *dead) {
    return rig_start_with(r, dead, dead ? arena_plan_bytes(&plan) : 0);
}

int rig_start_with(struct rig *r, void *dead, uint64_t dead_bytes) {
    r->memory = map();
    assert_int_equal(arena_create(&r->a, r->memory, arena_plan_bytes(&plan), &plan), 0);
    list_index_reset(&r->index);
    open_process(r);
    r->index.starting = 1;
    int err = log_recover(r->l, &r->report);
    if (err == 0 && r->catalogue != 0)
        log_catalogue_is(r->l, r->catalogue);
    if (err == 0 && dead)
        err = log_salvage(r->l, dead, dead_bytes, &r->report);
    if (err == 0)
        err = log_begin(r->l, &r->report);
    r->index.starting = 0;
    if (err < 0)
        return err;
    atomic_store(&r->a.live->phase, ARENA_SERVING);
    arena_commit(&r->a);
    buffer_commit(&r->buffers);
    assert_int_equal(arena_shadow_start(&r->a), 0);
    r->promised = log_durable(r->l);
    return 0;
}

/* Death. --------------------------------------------------------------------------------------- */

static void count_promises(struct rig *r) {
    r->must_have = 0;
    for (uint32_t i = 0; i < r->model_committed && r->model[i].sequence <= r->promised; i++)
        if (!(r->model[i].flags & LOG_MORE))
            r->must_have = r->model[i].sequence;
}

void rig_kill(struct rig *r) {
    sim_kill(r->sim);
    close_process(r);
    count_promises(r);
}

void rig_power_cut(struct rig *r) {
    sim_power_cut(r->sim);
    if (r->alive)
        close_process(r);
    rig_unmap(r->memory);
    r->memory = NULL;
    count_promises(r);
}

void rig_power_down(struct rig *r) {
    rig_kill(r);
    rig_unmap(r->memory);
    r->memory = NULL;
}

void *rig_die_with_arena(struct rig *r) {
    void *memory = r->memory;
    if (r->alive)
        rig_kill(r);
    assert_int_equal(arena_roll_back(memory), ARENA_QUALIFIES);
    r->memory = NULL;
    return memory;
}

static void take_over_queues(struct rig *r, int lost) {
    uint32_t queues[64], n = 0, taken_before;
    for (struct io_h h = io_next(&r->a, (struct io_h){0}); h.v; h = io_next(&r->a, h)) {
        uint32_t q = io_view(&r->a, h)->queue, i = 0;
        while (i < n && queues[i] != q)
            i++;
        queues[i] = q;
        n = i == n ? n + 1 : n;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!lost && sim_adopt(r->sim, queues[i], &taken_before) >= 0)
            io_adopted(&r->io, queues[i], taken_before);
        else
            while (io_lost(&r->io, queues[i]))
                arena_commit(&r->a);
    }
}

int rig_try_attach(struct rig *r) {
    uint64_t size = arena_plan_bytes(&plan);
    assert_int_equal(arena_qualify(r->memory, size, &plan), ARENA_QUALIFIES);
    assert_int_equal(arena_roll_back(r->memory), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&r->a, r->memory, size, &plan), 0);
    open_process(r);
    assert_int_equal(io_attach(&r->io), 0);
    return log_attach(r->l);
}

void rig_attach(struct rig *r, int lost) {
    assert_int_equal(rig_try_attach(r), 0);
    assert_int_equal(arena_shadow_start(&r->a), 0);
    if (engine_view(&r->a, engine_next(&r->a, (struct engine_h){0}))->log_move == LOG_MOVE_NONE)
        list_index_commit(&r->index);
    list_index_undo(&r->index, log_recorded(r->l));
    while (r->model_count > 0 && r->model[r->model_count - 1].sequence > log_recorded(r->l))
        r->model_count--; /* the turn that was thought committed was not */
    r->model_committed = r->model_count;
    take_over_queues(r, lost);
    log_resume(r->l);
}

/* Turns. --------------------------------------------------------------------------------------- */

static int dies(struct rig *r, enum rig_stage die, enum rig_stage here) {
    if (die != here)
        return 0;
    rig_kill(r);
    return 1;
}

void rig_turn(struct rig *r, enum rig_stage die) {
    log_turn_begin(r->l);
    io_take(&r->io, 64);
    if (dies(r, die, RIG_IN_INPUTS))
        return;
    sim_jobs(r->sim).ops->reap(r->sim);
    list_index_work(&r->index);
    log_turn_end(r->l);
    if (dies(r, die, RIG_BEFORE_COMMIT))
        return;
    arena_commit(&r->a);
    buffer_commit(&r->buffers);
    list_index_commit(&r->index);
    r->model_committed = r->model_count;
    if (dies(r, die, RIG_BEFORE_SUBMIT))
        return;
    io_submit(&r->io);
    if (dies(r, die, RIG_BEFORE_RETIRE))
        return;
    io_retire(&r->io);
    if (log_durable(r->l) > r->promised)
        r->promised = log_durable(r->l);
}

void rig_step(struct rig *r) {
    rig_turn(r, RIG_NOWHERE);
    uint64_t now = sim_clock(r->sim).ops->monotonic_ns(r->sim), at = log_deadline(r->l);
    if (r->index.sealing_count > 0)
        at = min_u64(at, now + NS_PER_MS);
    if (at <= now)
        sim_advance(r->sim, NS_PER_US);
    else if (at == UINT64_MAX)
        sim_step(r->sim);
    else if (sim_advance(r->sim, min_u64(at - now, 50 * NS_PER_US)) == 0 && at - now > NS_PER_MS)
        sim_advance(r->sim, min_u64(at - now, NS_PER_S) - 50 * NS_PER_US);
}

void rig_wait_durable(struct rig *r, uint64_t sequence) {
    log_want_durable(r->l, sequence);
    for (int i = 0; i < TURNS_MAX && log_durable(r->l) < sequence; i++)
        rig_step(r);
    assert_true(log_durable(r->l) >= sequence);
}

static int segments_wait(const struct rig *r) {
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h)) {
        const struct segment *s = segment_view(&r->a, h);
        if (s->slot.state == SEGMENT_SEALING || s->slot.state == SEGMENT_PREPARING)
            return 1;
    }
    return 0;
}

void rig_settle(struct rig *r) {
    rig_step(r);
    for (int i = 0; i < TURNS_MAX; i++) {
        rig_wait_durable(r, log_recorded(r->l));
        rig_step(r);
        if (log_durable(r->l) == log_recorded(r->l) && !segments_wait(r) && r->io.in_flight == 0)
            return;
    }
    fail_msg("the log does not come to rest");
}

void rig_wait_ready(struct rig *r) {
    for (int i = 0; i < TURNS_MAX; i++) {
        int err = rig_append(r, PLACE_ZERO, 0, 1, 0);
        rig_step(r);
        if (err == 0)
            return;
        assert_int_equal(err, ERR_AGAIN);
    }
    fail_msg("the log does not become ready");
}

/* Model. --------------------------------------------------------------------------------------- */

static void fill_block(uint8_t *page, uint64_t seed, uint64_t i) {
    uint64_t word = hash_pair(seed, i);
    memset(page, (int)(word & 255), BLOCK_BYTES);
    memcpy(page, &seed, 8);
    memcpy(page + 8, &i, 8);
    memcpy(page + BLOCK_BYTES - 8, &word, 8);
}

static void remember(struct rig *r, const struct written *w) {
    if (r->model_count == r->model_room) {
        r->model_room = r->model_room ? 2 * r->model_room : 1024;
        r->model = realloc(r->model, r->model_room * sizeof *r->model);
    }
    r->model[r->model_count++] = *w;
}

static void fill_pages(struct rig *r, const struct extent *e, int n, uint64_t seed) {
    uint64_t i = 0;
    for (int k = 0; k < n; k++)
        for (uint32_t p = 0; p < e[k].pages; p++)
            fill_block(buffer_data(&r->buffers, e[k].first + p), seed, i++);
}

int rig_append(struct rig *r, enum place_kind kind, uint64_t block, uint64_t blocks,
               uint32_t flags) {
    struct extent data[64];
    int extents = 0;
    uint64_t seed = prng_next(&r->prng);
    struct written w = {.block = block,
                        .blocks = blocks,
                        .seed = seed,
                        .kind = kind,
                        .timeline = 1 + (uint32_t)(block % 3),
                        .family = 1,
                        .flags = flags};
    if (kind == PLACE_DATA) {
        extents = buffer_take(&r->buffers, (uint32_t)blocks, data, 64);
        if (extents < 0)
            return ERR_AGAIN;
        fill_pages(r, data, extents, seed);
    }
    struct log_append a = {.is_control = r->is_control,
                           .kind = kind,
                           .timeline = w.timeline,
                           .family = w.family,
                           .flags = flags,
                           .start_sector = block * 8,
                           .sectors = blocks * 8,
                           .block = block,
                           .blocks = blocks,
                           .data = data,
                           .data_extents = (uint32_t)extents,
                           .ref_timeline = kind == PLACE_REFERENCE ? 7 : 0,
                           .ref_sequence = kind == PLACE_REFERENCE ? seed : 0,
                           .source = 5,
                           .source_number = seed};
    uint64_t recorded = log_recorded(r->l);
    int err = log_append(r->l, &a, &w.sequence);
    if (err < 0) {
        assert_int_equal(log_recorded(r->l), recorded);
        for (int i = 0; i < extents; i++)
            buffer_release(&r->buffers, data[i]);
        return err;
    }
    assert_int_equal(w.sequence, recorded + 1);
    w.time_ns = list_index_find(&r->index, w.sequence)->v.time_ns;
    assert_true(w.time_ns <= log_now_ns(r->l) && w.time_ns + NS_PER_US > log_now_ns(r->l));
    w.wall_ns = log_wall_ns(r->l);
    remember(r, &w);
    return 0;
}

struct answer {
    int told, result;
    struct log_moment m;
};

static void answered(void *owner, int result, const struct log_moment *m) {
    *(struct answer *)owner = (struct answer){1, result, *m};
}

int rig_find_moment(struct rig *r, enum log_moment_kind kind, uint64_t value,
                    struct log_moment *m) {
    struct answer a = {0};
    int err = log_find_moment(r->l, kind, value, m, answered, &a);
    if (err != 0)
        return err < 0 ? err : 0;
    for (int i = 0; i < 1000 && !a.told; i++)
        rig_step(r);
    assert_true(a.told);
    *m = a.m;
    return a.result;
}

int rig_append_at_random(struct rig *r) {
    static const enum place_kind kinds[] = {PLACE_DATA, PLACE_DATA, PLACE_DATA,     PLACE_DATA,
                                            PLACE_ZERO, PLACE_HOLE, PLACE_REFERENCE};
    enum place_kind kind = kinds[prng_below(&r->prng, 7)];
    uint64_t most = prng_one_in(&r->prng, 20)  ? LOG_APPEND_BLOCKS_MAX
                    : prng_one_in(&r->prng, 4) ? 32
                                               : 2;
    return rig_append(r, kind, prng_below(&r->prng, 1000), 1 + prng_below(&r->prng, most),
                      prng_one_in(&r->prng, 4) ? LOG_MORE : 0);
}

static void stop_reading(struct rig *r) {
    struct file_system fs = sim_files(r->sim);
    if (r->reading_segment != 0)
        fs.ops->close(fs.ctx, r->reading_file);
    r->reading_segment = 0;
}

static void read_block(struct rig *r, uint64_t place, uint8_t *out) {
    const void *bytes = log_bytes_at(r->l, place);
    struct file_system fs = sim_files(r->sim);
    uint32_t device;
    char path[64];
    if (bytes) {
        memcpy(out, bytes, BLOCK_BYTES);
        return;
    }
    if (r->reading_segment != place_segment(place)) {
        stop_reading(r);
        assert_int_equal(log_pin_segment(r->l, place_segment(place), &device), 0);
        rig_path(device, path);
        r->reading_segment = place_segment(place);
        r->reading_file = fs.ops->open(fs.ctx, path, FILE_READ);
        assert_true(r->reading_file >= 0);
        log_unpin_segment(r->l, place_segment(place));
    }
    assert_int_equal(
        fs.ops->read(fs.ctx, r->reading_file, out, BLOCK_BYTES, place_offset_bytes(place)),
        BLOCK_BYTES);
}

static void check_entry(struct rig *r, const struct entry *e, const struct written *w) {
    uint8_t got[BLOCK_BYTES], want[BLOCK_BYTES];
    assert_int_equal(e->v.sequence, w->sequence);
    assert_int_equal(e->v.time_ns, w->time_ns);
    assert_int_equal(e->v.block, w->block);
    assert_int_equal(e->v.blocks, w->blocks);
    assert_int_equal(e->v.timeline, w->timeline);
    assert_int_equal(e->v.family, w->family);
    assert_int_equal(place_kind(e->v.place), w->kind);
    if (w->kind == PLACE_REFERENCE)
        assert_int_equal(e->v.ref_sequence, w->seed);
    if (w->kind != PLACE_DATA)
        return;
    for (uint32_t i = 0; i < w->blocks; i++) {
        read_block(r, place_block(e->v.place, i), got);
        fill_block(want, w->seed, i);
        assert_int_equal(memcmp(got, want, BLOCK_BYTES), 0);
        assert_int_equal(e->crc[i], version_crc(w->family, w->block + i, got, BLOCK_BYTES));
    }
}

void rig_check(struct rig *r) {
    assert_int_equal(r->index.count, r->model_count);
    for (uint32_t i = 0; i < r->model_count; i++)
        check_entry(r, &r->index.entries[i], &r->model[i]);
    stop_reading(r);
}

void rig_check_prefix(struct rig *r) {
    uint32_t n = r->index.count;
    assert_true(n <= r->model_count);
    assert_true((n > 0 ? r->model[n - 1].sequence : 0) >= r->must_have);
    if (n > 0)
        assert_false(r->model[n - 1].flags & LOG_MORE);
    r->model_count = r->model_committed = n;
    rig_check(r);
}

void rig_path(uint32_t file, char *path) {
    snprintf(path, 64, "log/slot-%08u", file);
}

uint64_t rig_sequence(const struct rig *r, uint32_t i) {
    return r->model[i].sequence;
}

uint32_t rig_count_state(const struct rig *r, enum segment_state state) {
    uint32_t n = 0;
    for (struct segment_h h = segment_next(&r->a, (struct segment_h){0}); h.v;
         h = segment_next(&r->a, h))
        n += segment_view(&r->a, h)->slot.state == state;
    return n;
}
