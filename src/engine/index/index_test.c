/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index as a whole, on the simulated machine: random versions on a tree of timelines, memtables
 * that become runs, a small block table, processes that die. The model is the list of all versions.
 * In the place of the log stands the least that the index asks of it: segments with files.
 */
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
#define SEGMENTS 512u
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

static void alarm_bell(void *ctx, enum alert_level level, const char *code, const char *subject,
                       const char *text) {
    struct world *w = ctx;
    w->alerts++;
}

static int router_device(void *ctx, uint32_t device) {
    return ((struct world *)ctx)->log.device[device];
}

static void open_parts(struct world *w) {
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
            index_log_ops.seal(w->x, h);
}

static void close_parts(struct world *w) {
    index_close(w->x);
    ancestries_close(w->ancestries);
    io_close(&w->io);
    buffer_pool_close(&w->buffers);
}

static void commit(struct world *w) {
    arena_commit(w->a);
    buffer_commit(&w->buffers);
    index_apply(w->x);
    io_submit(&w->io);
    io_retire(&w->io);
}

static struct world *open_world(uint64_t seed, uint32_t table_sets, uint64_t cache_bytes) {
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

static void close_world(struct world *w) {
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
static void die_and_attach(struct world *w) {
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

static struct timeline_h new_timeline(struct world *w, uint32_t id, uint32_t parent,
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

static void step(struct world *w) {
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
    slot->first_sequence = h.first_sequence;
    slot->last_sequence = h.last_sequence;
    slot->run_offset = RUN_OFFSET;
    slot->run_bytes = bytes;
    slot->versions = versions;
    slot->slot.state = SEGMENT_SEALED;
    assert_int_equal(index_log_ops.sealed(w->x, segment), 0);
    free(run);
}

static struct segment_h segment_slot(struct world *w, uint32_t number) {
    struct segment_h h = segment_next(w->a, (struct segment_h){0});
    while (segment_view(w->a, h)->number != number)
        h = segment_next(w->a, h);
    return h;
}

static void seal(struct world *w, uint32_t number) {
    struct segment_h h = segment_slot(w, number);
    segment_edit(w->a, h)->slot.state = SEGMENT_SEALING;
    index_log_ops.seal(w->x, h);
    for (int i = 0; segment_view(w->a, h)->slot.state != SEGMENT_SEALED; i++) {
        commit(w);
        step(w);
        assert_true(i < 1000);
    }
    commit(w);
}

static void next_segment(struct world *w) {
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

static void put(struct world *w, const struct version *v, const uint32_t *crc) {
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

static void put_data(struct world *w, uint32_t timeline, uint64_t block, uint64_t blocks) {
    uint32_t crc[300];
    for (uint64_t i = 0; i < blocks; i++)
        crc[i] = (uint32_t)hash_pair(w->sequence, i);
    struct version v = {
        .timeline = timeline, .block = block, .blocks = blocks, .place = place_data(1, 0)};
    put(w, &v, crc);
}

static void put_other(struct world *w, enum place_kind kind, uint32_t timeline, uint64_t block,
                      uint64_t blocks, uint32_t ref_timeline, uint64_t ref_sequence) {
    struct version v = {.timeline = timeline,
                        .block = block,
                        .blocks = blocks,
                        .place = place_of_kind(kind),
                        .ref_timeline = ref_timeline,
                        .ref_sequence = ref_sequence};
    put(w, &v, NULL);
}

/* ---- The model ---- */

static struct block_place model_find(struct world *w, uint32_t timeline, uint64_t limit,
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
static void answered(struct index_find *f, int result) {
    struct asked *q = f->owner;
    q->ended = 1;
    q->result = result;
}

static void ask(struct world *w, struct asked *q, uint32_t timeline, uint64_t limit, uint64_t chunk,
                uint64_t want) {
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

static void wait_for(struct world *w, struct asked *q) {
    uint32_t steps = 0;
    while (!q->ended) {
        step(w);
        steps++;
        assert_true(steps < 10000);
    }
    w->deepest = steps > w->deepest ? steps : w->deepest;
}

static void compare(struct world *w, struct asked *q, uint64_t limit) {
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

static void look_up(struct world *w, uint32_t timeline, uint64_t limit, uint64_t chunk,
                    uint64_t want) {
    struct asked q;
    ask(w, &q, timeline, limit, chunk, want);
    wait_for(w, &q);
    compare(w, &q, limit);
}

static void random_version(struct world *w, struct prng *p, uint32_t timelines, uint64_t chunks,
                           uint32_t longest) {
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

/* ---- Tests ---- */

static void answers_as_the_list_of_all_versions(void **state) {
    uint64_t runs = 0, misses = 0, reads = 0, waited = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct prng p = prng_seed(seed);
        struct world *w = open_world(seed, seed % 3 ? 1 : 64, seed % 2 ? 20000 : 1 << 20);
        uint64_t chunks = 2 + prng_below(&p, 30);
        uint32_t timelines = 1;
        new_timeline(w, 1, 0, 0);
        next_segment(w);
        commit(w);
        for (int turn = 0; turn < 250; turn++) {
            for (uint64_t n = prng_below(&p, 16); n > 0; n--)
                random_version(w, &p, timelines, chunks, 248);
            commit(w);
            if (prng_one_in(&p, 20)) {
                uint32_t parent = 1 + (uint32_t)prng_below(&p, timelines);
                new_timeline(w, ++timelines, parent, prng_below(&p, w->sequence + 1));
                commit(w);
            }
            for (int q = 0; q < 8; q++) {
                uint64_t limit = prng_one_in(&p, 2) ? INDEX_NOW : prng_below(&p, w->sequence + 1);
                look_up(w, 1 + (uint32_t)prng_below(&p, timelines), limit,
                        prng_below(&p, chunks + 1),
                        prng_one_in(&p, 2) ? UINT64_MAX : UINT64_C(1) << prng_below(&p, 64));
            }
            if (prng_one_in(&p, 60))
                die_and_attach(w);
        }
        struct memtable_h all[INDEX_MEMTABLES_MAX];
        for (uint32_t i = index_memtables(w->x, all); i-- > 0;)
            memtable_check(w->a, all[i]);
        struct index_counts n = index_counts(w->x);
        assert_true(n.cache_bytes <= w->cache_bytes + 200000);
        runs += n.runs;
        misses += n.table_misses;
        reads += n.leaf_reads + n.directory_reads;
        waited += w->deepest > 0;
        assert_int_equal(w->alerts, 0);
        for (uint32_t i = 0; i < SEGMENTS; i++)
            assert_int_equal(w->log.pins[i], 0);
        close_world(w);
    }
    assert_true(runs > 50 && misses > 1000 && reads > 100 && waited > 6);
}

/* Versions of one request are shown together, and a crash between makes no difference. */
static void a_request_is_shown_whole(void **state) {
    struct world *w = open_world(1, 4, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 0, 4);
    commit(w);
    uint64_t before = w->sequence;
    struct version v = {
        .timeline = 1, .block = 1, .blocks = 2, .place = place_data(1, 0), .flags = VERSION_MORE};
    uint32_t crc[2] = {7, 8};
    put(w, &v, crc);
    commit(w);
    assert_int_equal(index_applied(w->x), before);
    next_segment(w); /* the request goes on in another segment */
    put(w, &v, crc);
    commit(w);
    for (int attached = 0; attached < 2; attached++) {
        struct asked q;
        ask(w, &q, 1, INDEX_NOW, 0, 15);
        compare(w, &q, before);
        assert_int_equal(index_applied(w->x), before);
        assert_true(w->x->dirty);
        die_and_attach(w);
    }
    v.flags = 0;
    put(w, &v, crc);
    commit(w);
    assert_int_equal(index_applied(w->x), w->sequence);
    look_up(w, 1, INDEX_NOW, 0, 15);
    close_world(w);
}

/* Planted: a block is written while its look-up is under way, and its page is under pressure. */
static void a_write_during_an_unknown_look_up(void **state) {
    uint32_t tried = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = open_world(seed, 1, 4096);
        new_timeline(w, 1, 0, 0);
        for (uint32_t i = 0; i < 4; i++) {
            next_segment(w);
            put_data(w, 1, 5, 1);
            put_data(w, 1, 64 * (10 + i), 1);
            commit(w);
        }
        for (uint32_t i = 1; i <= 4; i++)
            if (!index_segment_is_sealed(w->x, i))
                seal(w, i);
        next_segment(w);
        commit(w);
        die_and_attach(w);
        block_table_drop(&w->x->table, 1, 0, 1);
        struct asked q;
        ask(w, &q, 1, INDEX_NOW, 0, 1 << 5);
        if (!q.ended) {
            tried++;
            uint64_t as_of = w->sequence;
            put_data(w, 1, 5, 1);
            commit(w);
            for (uint32_t chunk = 100; chunk < 140; chunk++)
                put_data(w, 1, chunk * 64, 1);
            commit(w);
            wait_for(w, &q);
            compare(w, &q, as_of);
        } else {
            compare(w, &q, INDEX_NOW);
        }
        look_up(w, 1, INDEX_NOW, 0, 1 << 5);
        look_up(w, 1, INDEX_NOW, 0, UINT64_MAX);
        close_world(w);
    }
    assert_true(tried > 5);
}

static void a_chain_of_a_thousand_forks(void **state) {
    enum { DEPTH = 1000 };
    struct world *w = open_world(3, 64, 1 << 22);
    for (uint32_t id = 1; id <= DEPTH; id++) {
        new_timeline(w, id, id - 1, w->sequence);
        if (w->segment_number == 0 || id % 70 == 0)
            next_segment(w);
        put_data(w, id, id % 640, 1);
        if (id % 10 == 0)
            put_data(w, id, 7, 1);
        commit(w);
    }
    put_other(w, PLACE_REFERENCE, DEPTH, 100, 100, 400,
              model_find(w, 400, INDEX_NOW, 0).place ? 500 : 0);
    commit(w);
    for (uint32_t id = DEPTH; id > 111; id -= 111)
        for (uint64_t chunk = 0; chunk < 10; chunk++)
            look_up(w, id, INDEX_NOW, chunk, UINT64_MAX);
    const struct ancestry *v = ancestry_take(w->ancestries, DEPTH);
    assert_int_equal(v->count, DEPTH);
    ancestry_give(w->ancestries, v);
    close_world(w);
}

/* A range restored from a range restored, and so on: each step goes back in sequence. */
static void references_to_references(void **state) {
    struct world *w = open_world(4, 8, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 10, 20);
    uint64_t at = w->sequence;
    commit(w);
    for (int i = 0; i < 300; i++) {
        put_data(w, 1, 10 + (uint64_t)i % 20, 1);
        put_other(w, PLACE_REFERENCE, 1, 10, 20, 1, i % 7 ? w->sequence - 1 : at);
        if (i % 7 == 0)
            at = w->sequence;
        commit(w);
    }
    look_up(w, 1, INDEX_NOW, 0, UINT64_MAX);
    look_up(w, 1, w->sequence / 2, 0, UINT64_MAX);
    /* A timeline that is gone: an error, not a wrong answer. */
    put_other(w, PLACE_REFERENCE, 1, 10, 1, 99, 3);
    commit(w);
    struct asked q;
    ask(w, &q, 1, INDEX_NOW, 0, 1 << 10);
    wait_for(w, &q);
    assert_int_equal(q.result, ERR_INTEGRITY);
    ancestry_give(w->ancestries, q.f.view);
    close_world(w);
}

/* A volume and its fork, whose pages of the block table are their own. */
static void look_up_both(struct world *w, uint64_t chunk) {
    look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
    look_up(w, 2, INDEX_NOW, chunk, UINT64_MAX);
}

/* Versions 7 to 10, whose frames could not be written, go elsewhere: behind where they were, or into
 * another segment, and partly both; and the process dies before or after the commit. */
static void a_moved_frame_keeps_its_versions(void **state) {
    enum { FIRST = 6, LAST = 10 };
    for (int how = 0; how < 3; how++)
        for (int dies = 0; dies < 3; dies++) {
            struct world *w = open_world(5, 8, 1 << 20);
            new_timeline(w, 1, 0, 0);
            new_timeline(w, 2, 1, LAST);
            w->log.under_way = 1;
            next_segment(w);
            for (int i = 0; i < LAST; i++) {
                put_data(w, 1, (uint64_t)i * 15, 20);
                if (i == 8)
                    put_other(w, PLACE_ZERO, 1, 100, 200, 0, 0);
            }
            commit(w);
            struct segment_h from = w->segment;
            for (uint64_t chunk = 0; chunk < 6; chunk++)
                look_up_both(w, chunk);
            for (int again = 0; again < 2; again++) {
                struct version at[LAST + 1];
                if (how > 0 && again == 0) {
                    next_segment(w);
                    commit(w);
                }
                for (uint32_t i = FIRST; i < w->count; i++) {
                    struct segment_h to = how == 1 || i > 8 ? w->segment : from;
                    at[i] = w->all[i].v;
                    if (place_kind(at[i].place) == PLACE_DATA)
                        at[i].place = place_data(segment_view(w->a, to)->number,
                                                 (500 + i * 30 + (uint32_t)again) * 4096);
                    index_log_ops.moved(w->x, to, &at[i]);
                }
                if (again == 0 && dies == 1) {
                    die_and_attach(w); /* the turn did not happen */
                    for (uint64_t chunk = 0; chunk < 6; chunk++)
                        look_up_both(w, chunk);
                    continue;
                }
                struct asked q; /* in this turn a look-up waits */
                ask(w, &q, 1, 3, 0, 1);
                assert_false(q.ended);
                for (uint32_t i = FIRST; i < w->count; i++)
                    w->all[i].v.place = at[i].place;
                commit(w);
                wait_for(w, &q);
                compare(w, &q, 3);
                if (dies == 2)
                    die_and_attach(w);
                for (uint64_t chunk = 0; chunk < 6; chunk++) {
                    look_up_both(w, chunk);
                    look_up(w, 1, 8, chunk, UINT64_MAX);
                }
            }
            w->log.under_way = 0;
            put_data(w, 1, 3, 1);
            commit(w);
            struct memtable_h all[INDEX_MEMTABLES_MAX];
            for (uint32_t i = index_memtables(w->x, all); i-- > 0;)
                memtable_check(w->a, all[i]);
            seal(w, segment_view(w->a, from)->number);
            for (uint64_t chunk = 0; chunk < 6; chunk++) {
                look_up_both(w, chunk);
                look_up(w, 1, 8, chunk, UINT64_MAX);
            }
            close_world(w);
        }
}

static void a_freed_segment_is_unknown(void **state) {
    struct world *w = open_world(6, 8, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    put_data(w, 1, 5, 1);
    commit(w);
    next_segment(w);
    put_data(w, 1, 6, 1);
    commit(w);
    seal(w, 1);
    look_up(w, 1, INDEX_NOW, 0, 3 << 5);
    assert_true(index_segment_is_live(w->x, 1) && index_segment_is_sealed(w->x, 1));
    assert_true(index_segment_is_live(w->x, 2) && !index_segment_is_sealed(w->x, 2));
    index_log_ops.freed(w->x, segment_slot(w, 1));
    segment_free(w->a, segment_slot(w, 1));
    w->log.device[1] = -1;
    commit(w);
    assert_false(index_segment_is_live(w->x, 1));
    w->all[0].v.blocks = 0; /* the model forgets */
    look_up(w, 1, INDEX_NOW, 0, 3 << 5);
    close_world(w);
}

/* A run whose leaf or directory is damaged: only what needs it fails, and it is told. */
static void damage_is_reported(void **state) {
    struct world *w = open_world(7, 1, 1 << 20);
    new_timeline(w, 1, 0, 0);
    next_segment(w);
    for (int i = 0; i < 200; i++)
        put_data(w, 1, (uint64_t)i * 64, 1);
    commit(w);
    next_segment(w);
    seal(w, 1);
    uint32_t failed = 0;
    uint64_t size = 0;
    size = segment_view(w->a, segment_slot(w, 1))->run_bytes;
    for (uint64_t at = 1; at < size; at += 100) {
        assert_int_equal(sim_corrupt(w->sim, "log/slot-00000001", RUN_OFFSET + at, 16), 0);
        die_and_attach(w);
        block_table_drop(&w->x->table, 1, 0, 1000);
        for (uint64_t chunk = at % 7; chunk < 200; chunk += 20) {
            struct asked q;
            ask(w, &q, 1, INDEX_NOW, chunk, 1);
            wait_for(w, &q);
            if (q.result == 0) {
                compare(w, &q, INDEX_NOW);
                continue;
            }
            assert_int_equal(q.result, ERR_INTEGRITY);
            assert_true(w->alerts > failed);
            ancestry_give(w->ancestries, q.f.view);
            failed++;
        }
        assert_int_equal(sim_corrupt(w->sim, "log/slot-00000001", RUN_OFFSET + at, 16), 0);
    }
    assert_true(failed > 20);
    close_world(w);
}

/* A process that dies at its n-th store of turn and apply, for every n: the successor shows the
 * last committed turn. */
static void death_at_every_store(void **state) {
    int finished = 0;
    uint32_t deaths = 0;
    for (uint64_t n = 1; !finished; n += 1 + n / 60) {
        struct world *w = open_world(8, 1, 1 << 20);
        struct prng p = prng_seed(9);
        new_timeline(w, 1, 0, 0);
        next_segment(w);
        commit(w);
        for (int i = 0; i < 20; i++)
            random_version(w, &p, 1, 12, 3);
        commit(w);
        uint32_t *done =
            mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        done[0] = done[1] = w->count;
        pid_t pid = fork();
        if (pid == 0) {
            signal(SIGABRT, SIG_DFL);
            w->a->crash_after = n;
            for (int turn = 0; turn < 12; turn++) {
                for (int i = 0; i < 3; i++)
                    random_version(w, &p, 1, 12, 3);
                done[1] = w->count;
                arena_commit(w->a);
                done[0] = w->count;
                buffer_commit(&w->buffers);
                index_apply(w->x);
            }
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        finished = WIFEXITED(status);
        deaths += !finished;
        /* Between the commit and the note of it the turn has happened. */
        w->a->crash_after = 0;
        arena_roll_back(w->a->base);
        struct memtable_h h = memtable_next(w->a, (struct memtable_h){0});
        uint64_t last = memtable_view(w->a, h)->last_sequence;
        assert_true(last == w->all[done[0] - 1].v.sequence ||
                    last == w->all[done[1] - 1].v.sequence);
        w->count = last == w->all[done[0] - 1].v.sequence ? done[0] : done[1];
        w->sequence = last;
        for (uint32_t i = 0; i < w->count; i++)
            w->all[i].v.crc = w->all[i].crc;
        die_and_attach(w);
        memtable_check(w->a, h);
        for (uint64_t chunk = 0; chunk < 13; chunk++)
            look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
        for (int i = 0; i < 5; i++)
            random_version(w, &p, 1, 12, 3);
        commit(w);
        for (uint64_t chunk = 0; chunk < 13; chunk++)
            look_up(w, 1, INDEX_NOW, chunk, UINT64_MAX);
        memtable_check(w->a, h);
        munmap(done, 4096);
        close_world(w);
    }
    assert_true(deaths > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_as_the_list_of_all_versions),
        cmocka_unit_test(a_request_is_shown_whole),
        cmocka_unit_test(a_write_during_an_unknown_look_up),
        cmocka_unit_test(a_chain_of_a_thousand_forks),
        cmocka_unit_test(references_to_references),
        cmocka_unit_test(a_moved_frame_keeps_its_versions),
        cmocka_unit_test(a_freed_segment_is_unknown),
        cmocka_unit_test(damage_is_reported),
        cmocka_unit_test(death_at_every_store),
    };
    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
