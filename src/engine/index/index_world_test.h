/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with an index and a log that is only what the index sees of it, and a list of all versions
 * that were written, which look-ups are compared with. */
#ifndef ENGINE_INDEX_WORLD_TEST_H
#define ENGINE_INDEX_WORLD_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* anonymous memory */
#endif

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "arena/shadow.h"
#include "base/err.h"
#include "base/prng.h"
#include "engine/index/index_priv.h"
#include "engine/log.h"
#include "plat/sim/sim.h"

#define FAMILY 1u
#define MEMTABLES 3u
#define MEMTABLE_RECORDS 150u
#define MEMTABLE_BLOCKS 256u
#define SEGMENTS 1024u
#define TIMELINES 1100u
#define RUN_OFFSET 8192u

LAYOUT_FIELDS(timeline, TIMELINE_FIELDS)
LAYOUT_FIELDS(segment, SEGMENT_FIELDS)
static const struct arena_table_spec timeline_spec = TABLE_SPEC(timeline, TABLE_TIMELINE, 1);
const struct arena_table_spec segment_spec = TABLE_SPEC(segment, TABLE_SEGMENT, 1);

/* The segments' files, by segment number. */
struct world;
struct log {
    struct world *w;
    int32_t device[SEGMENTS];
    uint32_t pins[SEGMENTS];
    int under_way; /* no frame is durable yet */
};
const void *log_bytes_at(const struct log *l, uint64_t place) {
    return l->under_way ? l : NULL;
}
int log_pin_segment(struct log *l, uint32_t segment, uint32_t *device) {
    if (segment >= SEGMENTS || l->device[segment] < 0)
        return ERR_NOTFOUND;
    l->pins[segment]++;
    *device = segment;
    return 0;
}
uint64_t log_whole(const struct log *l) {
    return 0;
}

void log_slot_path(uint32_t file, char path[LOG_PATH_BYTES]) {
    snprintf(path, LOG_PATH_BYTES, "log/slot-%08u", file);
}
const uint8_t *log_store_id(const struct log *l) {
    return (const uint8_t *)"0123456789abcdef";
}
void log_unpin_segment(struct log *l, uint32_t segment) {
    must(l->pins[segment]-- > 0);
}

/* What was written; alive: 0 if its turn did not happen. */
struct written {
    struct version v;
    uint32_t crc[300];
};

struct world {
    struct sim *sim;
    struct arena arena, *a;
    struct buffer_pool buffers;
    struct io_port io;
    struct ancestries *ancestries;
    struct index *x;
    struct log log;
    struct arena_table_plan tables[4];
    struct arena_region_plan regions[3];
    struct arena_plan plan;
    struct written *all; /* shared memory */
    uint32_t count, room;
    uint64_t sequence;
    struct segment_h segment; /* the open one */
    uint32_t segment_number, records, blocks;
    uint32_t queue;
    uint64_t cache_bytes;
    uint32_t alerts;
    uint32_t deepest; /* most steps that a look-up waited */
};

static inline void alarm_bell(void *ctx, enum alert_level level, const char *code,
                              const char *subject, const char *text) {
    struct world *w = ctx;
    w->alerts++;
}

static inline int router_device(void *ctx, uint32_t device) {
    struct world *w = ctx;
    return device >= LOG_DEVICE_INDEX ? index_device(w->x, device) : w->log.device[device];
}

static inline void open_parts(struct world *w) {
    assert_int_equal(buffer_pool_open(&w->buffers, w->a, REGION_BUFFERS), 0);
    assert_int_equal(io_open(&w->io, w->a, &w->buffers, sim_router(w->sim), ++w->queue), 0);
    w->io.device = router_device;
    w->io.device_ctx = w;
    assert_int_equal(ancestries_open(&w->ancestries, w->a), 0);
    assert_int_equal(io_attach(&w->io), 0);
    struct index_parts parts = {.a = w->a,
                                .io = &w->io,
                                .buffers = &w->buffers,
                                .jobs = sim_jobs(w->sim),
                                .background = sim_jobs(w->sim),
                                .files = sim_files(w->sim),
                                .merge_entries = 40,
                                .ancestries = w->ancestries,
                                .alerts = {.raise = alarm_bell, .ctx = w},
                                .cache_bytes = w->cache_bytes};
    assert_int_equal(index_open(&w->x, &parts), 0);
    index_set_log(w->x, &w->log);
    w->log.w = w;
    assert_int_equal(index_attach(w->x), 0);
    for (struct segment_h h = segment_next(w->a, (struct segment_h){0}); h.v;
         h = segment_next(w->a, h))
        if (segment_view(w->a, h)->slot.state == SEGMENT_SEALING)
            index_log_ops.seal(w->x, h, 0);
}

static inline void close_parts(struct world *w) {
    index_close(w->x);
    ancestries_close(w->ancestries);
    io_close(&w->io);
    buffer_pool_close(&w->buffers);
}

static inline void commit(struct world *w) {
    arena_commit(w->a);
    buffer_commit(&w->buffers);
    index_apply(w->x);
    io_submit(&w->io);
    io_retire(&w->io);
}

static inline struct world *open_world(uint64_t seed, uint32_t table_sets, uint64_t cache_bytes) {
    struct world *w = calloc(1, sizeof *w);
    w->sim = sim_new(&(struct sim_options){.seed = seed});
    w->cache_bytes = cache_bytes;
    w->room = 40000;
    w->all = mmap(NULL, w->room * sizeof *w->all, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(w->all != MAP_FAILED);
    w->tables[0] = (struct arena_table_plan){&timeline_spec, TIMELINES};
    w->tables[1] = (struct arena_table_plan){&segment_spec, SEGMENTS};
    w->tables[2] = (struct arena_table_plan){&memtable_spec, MEMTABLES};
    w->tables[3] = (struct arena_table_plan){&io_spec, 16};
    w->regions[0] = (struct arena_region_plan){REGION_BUFFERS, 1, 64 * 4096, 4096};
    w->regions[1] = (struct arena_region_plan){
        REGION_MEMTABLES, 1,
        index_memtable_region_bytes(MEMTABLES, MEMTABLE_RECORDS, MEMTABLE_BLOCKS), 4096};
    w->regions[2] = (struct arena_region_plan){REGION_BLOCK_TABLE, 1,
                                               table_sets * TABLE_WAYS * (8 + 768) + 64, 4096};
    w->plan = (struct arena_plan){.tables = w->tables,
                                  .table_count = 4,
                                  .regions = w->regions,
                                  .region_count = 3,
                                  .undo_bytes = 1 << 20};
    uint64_t size = arena_plan_bytes(&w->plan);
    void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    w->a = &w->arena;
    assert_int_equal(arena_create(w->a, m, size, &w->plan), 0);
    atomic_store(&w->a->live->phase, ARENA_SERVING);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        w->log.device[i] = -1;
    assert_int_equal(sim_files(w->sim).ops->make_dir(sim_files(w->sim).ctx, "log"), 0);
    open_parts(w);
    assert_int_equal(arena_shadow_start(w->a), 0);
    return w;
}

static inline void close_world(struct world *w) {
    void *base = w->a->base;
    uint64_t size = w->a->identity->size_bytes;
    close_parts(w);
    arena_detach(w->a);
    munmap(base, size);
    munmap(w->all, w->room * sizeof *w->all);
    sim_free(w->sim);
    free(w);
}

/* The process dies where it is; the next one takes over. */
static inline void die_and_attach(struct world *w) {
    void *base = w->a->base;
    uint64_t size = w->a->identity->size_bytes;
    uint32_t old = w->queue, taken;
    close_parts(w);
    arena_detach(w->a);
    sim_kill(w->sim);
    assert_int_equal(arena_roll_back(base), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(w->a, base, size, &w->plan), 0);
    for (uint32_t i = 0; i < SEGMENTS; i++)
        if (w->log.device[i] >= 0) {
            char path[40];
            snprintf(path, sizeof path, "log/slot-%08u", i);
            struct io_router r = sim_router(w->sim);
            w->log.device[i] = r.ops->open(r.ctx, path, 0);
            assert_true(w->log.device[i] >= 0);
            w->log.pins[i] = 0;
        }
    open_parts(w);
    w->io.routines[ROUTINE_DISCARD] = (struct io_routine){.done = NULL};
    if (sim_adopt(w->sim, old, &taken) >= 0)
        io_adopted(&w->io, old, taken);
    assert_int_equal(arena_shadow_start(w->a), 0);
    commit(w);
}

static inline struct timeline_h new_timeline(struct world *w, uint32_t id, uint32_t parent,
                                             uint64_t fork) {
    struct timeline_h h = timeline_new(w->a, TIMELINE_LIVE);
    assert_int_not_equal(h.v, 0);
    struct timeline *t = timeline_edit(w->a, h);
    t->id = id;
    t->family = FAMILY;
    t->parent = parent;
    t->fork_sequence = fork;
    return h;
}

static inline void step(struct world *w) {
    sim_step(w->sim);
    sim_jobs(w->sim).ops->reap(sim_jobs(w->sim).ctx);
    io_take(&w->io, 64);
    index_turn(w->x);
    commit(w);
}

/* As the log does, but at once. */
void log_write_run(struct log *l, struct segment_h segment, void *run, uint32_t bytes,
                   uint32_t versions) {
    struct world *w = l->w;
    struct segment *slot = segment_edit(w->a, segment);
    struct run_header h;
    char path[40];
    assert_true(bytes <= index_log_ops.run_bytes_max(w->x, slot->records, slot->blocks));
    assert_int_equal(slot->slot.state, SEGMENT_SEALING);
    snprintf(path, sizeof path, "log/slot-%08u", slot->number);
    struct file_system fs = sim_files(w->sim);
    int f = fs.ops->open(fs.ctx, path, FILE_WRITE | FILE_CREATE);
    assert_true(f >= 0);
    assert_int_equal(fs.ops->write(fs.ctx, f, run, bytes, RUN_OFFSET), bytes);
    assert_int_equal(fs.ops->sync(fs.ctx, f), 0);
    fs.ops->close(fs.ctx, f);
    l->device[slot->number] = sim_router(w->sim).ops->open(sim_router(w->sim).ctx, path, 0);
    assert_true(l->device[slot->number] >= 0);
    assert_int_equal(run_header_decode(run, &h), 0);
    if (h.last_sequence == 0) /* records that are no versions have numbers, too */
        h.first_sequence = h.last_sequence = ++w->sequence;
    slot->first_sequence = h.first_sequence;
    slot->last_sequence = h.last_sequence;
    slot->run_offset = RUN_OFFSET;
    slot->run_bytes = bytes;
    slot->versions = versions;
    slot->slot.state = SEGMENT_SEALED;
    assert_int_equal(index_log_ops.sealed(w->x, segment), 0);
    free(run);
}

static inline struct segment_h segment_slot(struct world *w, uint32_t number) {
    struct segment_h h = segment_next(w->a, (struct segment_h){0});
    while (segment_view(w->a, h)->number != number)
        h = segment_next(w->a, h);
    return h;
}

static inline void seal(struct world *w, uint32_t number) {
    struct segment_h h = segment_slot(w, number);
    segment_edit(w->a, h)->slot.state = SEGMENT_SEALING;
    index_log_ops.seal(w->x, h, 0);
    for (int i = 0; segment_view(w->a, h)->slot.state != SEGMENT_SEALED; i++) {
        commit(w);
        step(w);
        assert_true(i < 1000);
    }
    commit(w);
}

static inline void next_segment(struct world *w) {
    if (memtable_used(w->a) == MEMTABLES) {
        struct memtable_h all[INDEX_MEMTABLES_MAX];
        index_memtables(w->x, all);
        seal(w, memtable_view(w->a, all[0])->segment);
    }
    w->segment = segment_new(w->a, SEGMENT_OPEN);
    assert_int_not_equal(w->segment.v, 0);
    segment_edit(w->a, w->segment)->number = ++w->segment_number;
    assert_int_equal(index_log_ops.begin(w->x, w->segment), 0);
}

static inline void put(struct world *w, const struct version *v, const uint32_t *crc) {
    struct written *n = &w->all[w->count];
    int is_data = place_kind(v->place) == PLACE_DATA;
    const struct segment *s = segment_view(w->a, w->segment);
    if (s->records == MEMTABLE_RECORDS || (is_data && s->blocks + v->blocks > MEMTABLE_BLOCKS))
        next_segment(w);
    assert_true(w->count < w->room);
    n->v = *v;
    n->v.sequence = ++w->sequence;
    n->v.time_ns = 1000 * w->sequence;
    n->v.family = FAMILY;
    if (crc)
        memcpy(n->crc, crc, v->blocks * sizeof *crc);
    n->v.crc = n->crc;
    if (is_data)
        n->v.place = place_data(w->segment_number, (uint32_t)(w->count % 16000) * 4096);
    assert_int_equal(index_log_ops.append(w->x, w->segment, &n->v), 0);
    struct segment *edit = segment_edit(w->a, w->segment);
    edit->records++;
    edit->blocks += is_data ? (uint32_t)v->blocks : 0;
    w->count++;
}

static inline void put_data(struct world *w, uint32_t timeline, uint64_t block, uint64_t blocks) {
    uint32_t crc[300];
    for (uint64_t i = 0; i < blocks; i++)
        crc[i] = (uint32_t)hash_pair(w->sequence, i);
    struct version v = {
        .timeline = timeline, .block = block, .blocks = blocks, .place = place_data(1, 0)};
    put(w, &v, crc);
}

static inline void put_other(struct world *w, enum place_kind kind, uint32_t timeline,
                             uint64_t block, uint64_t blocks, uint32_t ref_timeline,
                             uint64_t ref_sequence) {
    struct version v = {.timeline = timeline,
                        .block = block,
                        .blocks = blocks,
                        .place = place_of_kind(kind),
                        .ref_timeline = ref_timeline,
                        .ref_sequence = ref_sequence};
    put(w, &v, NULL);
}

/* ---- The model ---- */

static inline struct block_place model_find(struct world *w, uint32_t timeline, uint64_t limit,
                                            uint64_t block) {
    const struct ancestry *view = ancestry_take(w->ancestries, timeline);
    struct block_place p = {.place = place_of_kind(PLACE_HOLE)};
    assert_non_null(view);
    for (uint32_t i = w->count; i-- > 0;) {
        const struct version *v = &w->all[i].v;
        if (v->sequence > limit || block < v->block || block >= v->block + v->blocks ||
            v->sequence > ancestry_limit(view, v->timeline))
            continue;
        uint64_t skip = block - v->block;
        if (place_kind(v->place) == PLACE_REFERENCE)
            p = model_find(w, v->ref_timeline, v->ref_sequence, block);
        else if (place_kind(v->place) == PLACE_DATA)
            p = (struct block_place){place_block(v->place, (uint32_t)skip), w->all[i].crc[skip]};
        else
            p = (struct block_place){.place = v->place};
        break;
    }
    ancestry_give(w->ancestries, view);
    return p;
}

struct asked {
    struct index_find f;
    int ended, result;
};
static inline void answered(struct index_find *f, int result) {
    struct asked *q = f->owner;
    q->ended = 1;
    q->result = result;
}

static inline void ask(struct world *w, struct asked *q, uint32_t timeline, uint64_t limit,
                       uint64_t chunk, uint64_t want) {
    memset(q, 0, sizeof *q);
    q->f = (struct index_find){.view = ancestry_take(w->ancestries, timeline),
                               .limit = limit,
                               .chunk = chunk,
                               .want = want,
                               .done = answered,
                               .owner = q};
    assert_non_null(q->f.view);
    int err = index_find(w->x, &q->f);
    if (err != ERR_AGAIN) {
        q->ended = 1;
        q->result = err;
    }
}

static inline void wait_for(struct world *w, struct asked *q) {
    uint32_t steps = 0;
    while (!q->ended) {
        step(w);
        steps++;
        assert_true(steps < 10000);
    }
    w->deepest = steps > w->deepest ? steps : w->deepest;
}

static inline void compare(struct world *w, struct asked *q, uint64_t limit) {
    assert_int_equal(q->result, 0);
    for (uint64_t left = q->f.want; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        struct block_place p =
            model_find(w, q->f.view->timeline, limit, q->f.chunk * CHUNK_BLOCKS + b);
        assert_true(p.place == q->f.found[b].place);
        if (place_kind(p.place) == PLACE_DATA)
            assert_int_equal(p.crc, q->f.found[b].crc);
    }
    ancestry_give(w->ancestries, q->f.view);
}

static inline void look_up(struct world *w, uint32_t timeline, uint64_t limit, uint64_t chunk,
                           uint64_t want) {
    struct asked q;
    ask(w, &q, timeline, limit, chunk, want);
    wait_for(w, &q);
    compare(w, &q, limit);
}

static inline void random_version(struct world *w, struct prng *p, uint32_t timelines,
                                  uint64_t chunks, uint32_t longest) {
    uint32_t timeline = 1 + (uint32_t)prng_below(p, timelines);
    uint64_t block = prng_below(p, chunks * CHUNK_BLOCKS);
    uint64_t blocks = prng_one_in(p, 3) ? 1 + prng_below(p, longest) : 1;
    if (!prng_one_in(p, 6)) {
        put_data(w, timeline, block, blocks);
        return;
    }
    if (prng_one_in(p, 3))
        blocks = prng_below(p, chunks * CHUNK_BLOCKS);
    enum place_kind kind = (enum place_kind)(PLACE_ZERO + prng_below(p, 3));
    put_other(w, kind, timeline, block, blocks, 1 + (uint32_t)prng_below(p, timelines),
              w->sequence ? prng_below(p, w->sequence) : 0);
}

#endif
