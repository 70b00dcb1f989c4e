/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vocabulary of admin's tests: a catalogue in a simulated store, an arena, and beside them a log and
 * a request path that do what admin asks of them and no more.
 *
 * A life goes turn by turn. It may be killed before or after the commit of any turn, or lose power;
 * then the next life begins, with the arena rolled back, or with an empty one and the catalogue.
 */
#ifndef ENGINE_ADMIN_WORLD_TEST_H
#define ENGINE_ADMIN_WORLD_TEST_H

#include "engine/catalogue/world_test.h"

#include "arena/shadow.h"
#include "base/prng.h"
#include "engine/activity.h"
#include "engine/admin.h"
#include "engine/timeline/volumes.h"

#define LOG_SEGMENTS 300
#define LOG_RECORDS 4000
#define TEST_TWICE_NS (NS_PER_S + 1) /* the wall clock showed it twice */

/* Record i has number records[i].sequence. `recorded`, `count` and `segments` are part of the turn.
 */
struct test_log {
    uint64_t recorded, durable, wanted;
    uint64_t generation;
    uint32_t count;
    struct {
        uint64_t sequence;
        struct log_append r;
    } records[LOG_RECORDS];
    uint32_t segments[LOG_SEGMENTS]; /* number i + 1: its family; 0: it is gone */
    uint32_t freed;
};

struct test_answer {
    int taken, error;
    char detail[OPERATION_DETAIL_BYTES];
    uint64_t results[8];
    char made[VOLUME_NAME_BYTES];
};

struct test {
    struct world w; /* store and catalogue */
    struct arena arena;
    void *memory;
    struct admin ad;
    struct prng prng;
    struct test_log log, committed;
    uint64_t store_ns;
    int lazy;                             /* the log and the request path make things wait */
    int log_error;                        /* the log's failure */
    int log_room;                         /* what it says of its room */
    uint64_t request_first, request_last; /* one request of so many records */
    uint32_t evicted, changes;
    struct test_answer answers[64]; /* by reply */
    uint64_t next_reply;
    uint64_t turns, kill_turn; /* 0: never */
    int kill_before_commit, power_cut;
    uint32_t deaths;
    int clock_suspect;
};

/* ---- The log and the request path ---- */

static inline uint64_t test_recorded(void *ctx) {
    return ((struct test *)ctx)->log.recorded;
}
static inline uint64_t test_durable(void *ctx) {
    return ((struct test *)ctx)->log.durable;
}
static inline void test_want_durable(void *ctx, uint64_t sequence) {
    struct test *t = ctx;
    assert_true(sequence <= t->log.recorded);
    if (sequence > t->log.wanted)
        t->log.wanted = sequence;
}
static inline int test_failed(void *ctx) {
    return ((struct test *)ctx)->log_error;
}
static inline uint64_t test_store_ns(void *ctx) {
    return ((struct test *)ctx)->store_ns;
}
static inline int test_room(void *ctx) {
    struct test *t = ctx;
    return t->lazy && prng_one_in(&t->prng, 3) ? ERR_AGAIN : t->log_room;
}
static inline int test_append(void *ctx, const struct log_append *r, uint64_t *sequence) {
    struct test *t = ctx;
    if (t->log_error)
        return t->log_error;
    assert_true(r->blocks > 0 && r->timeline > 0 && r->family > 0);
    if (t->lazy && prng_one_in(&t->prng, 3))
        return ERR_AGAIN;
    assert_true(t->log.count < LOG_RECORDS);
    *sequence = ++t->log.recorded;
    t->log.records[t->log.count].sequence = *sequence;
    t->log.records[t->log.count++].r = *r;
    return 0;
}
/* Moments are a second apart: number n at n seconds. */
static inline int test_find_moment(void *ctx, struct admin_moment *m) {
    struct test *t = ctx;
    if (m->by_time && m->time_ns > clock_wall_ns(&t->ad.c.clock))
        return ERR_NOTFOUND;
    if (m->by_time && m->time_ns == TEST_TWICE_NS) {
        m->sequence = 3;
        m->other = 7;
        return ERR_AMBIGUOUS;
    }
    if (m->by_time)
        m->sequence = m->time_ns / NS_PER_S;
    if (m->sequence >= t->request_first && m->sequence < t->request_last)
        m->sequence = t->request_first - 1;
    m->time_ns = m->sequence * NS_PER_S;
    if (m->sequence < 1)
        return ERR_RANGE;
    if (!t->lazy || !prng_one_in(&t->prng, 2))
        return 0;
    m->done(m, 0);
    return ERR_AGAIN;
}
static inline void test_catalogue_is(void *ctx, uint64_t generation) {
    ((struct test *)ctx)->log.generation = generation;
}
static inline uint32_t test_next_sealed(void *ctx, uint32_t after) {
    struct test *t = ctx;
    for (uint32_t i = after; i < LOG_SEGMENTS; i++) {
        if (t->log.segments[i])
            return i + 1;
    }
    return 0;
}
static inline int test_segment_families(void *ctx, uint32_t segment, const uint32_t *families,
                                        uint32_t count) {
    struct test *t = ctx;
    if (t->lazy && prng_one_in(&t->prng, 3))
        return ERR_AGAIN;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(i == 0 || families[i - 1] < families[i]);
        if (families[i] == t->log.segments[segment - 1])
            return 1;
    }
    return 0;
}
static inline uint64_t test_segment_freed(void *ctx, uint32_t segment) {
    struct test *t = ctx;
    assert_int_not_equal(t->log.segments[segment - 1], 0);
    t->log.segments[segment - 1] = 0;
    t->log.freed++;
    return LOG_SEGMENT_BYTES;
}
static inline uint64_t test_last_sequence(void *ctx, uint32_t segment) {
    return segment;
}
static inline int test_quiet(void *ctx, struct volume_h v) {
    struct test *t = ctx;
    return !t->lazy || prng_one_in(&t->prng, 2);
}
static inline void test_evict(void *ctx, struct volume_h v) {
    struct test *t = ctx;
    volume_edit(&t->arena, v)->users = 0;
    t->evicted++;
}
static inline void test_changed(void *ctx, struct volume_h v) {
    ((struct test *)ctx)->changes++;
}
static inline int test_answer(void *ctx, struct operation_h h) {
    struct test *t = ctx;
    const struct operation *op = operation_view(&t->arena, h);
    struct test_answer *a = &t->answers[op->reply];
    a->taken = 1;
    a->error = op->error;
    memcpy(a->detail, op->detail, sizeof a->detail);
    memcpy(a->results, op->results, sizeof a->results);
    if (op->made[0].v)
        memcpy(a->made, volume_view(&t->arena, op->made[0])->name, sizeof a->made);
    return 1;
}

static inline int test_clock_suspect(void *ctx) {
    return ((struct test *)ctx)->clock_suspect;
}

static const struct admin_log_ops test_log_ops = {
    .clock_suspect = test_clock_suspect,
    .recorded = test_recorded,
    .durable = test_durable,
    .want_durable = test_want_durable,
    .failed = test_failed,
    .store_ns = test_store_ns,
    .room = test_room,
    .append = test_append,
    .find_moment = test_find_moment,
    .catalogue_is = test_catalogue_is,
    .next_sealed = test_next_sealed,
    .segment_families = test_segment_families,
    .segment_freed = test_segment_freed,
    .last_sequence = test_last_sequence,
};
static const struct admin_engine_ops test_engine_ops = {test_quiet, test_evict, test_changed,
                                                        test_answer};

/* ---- Lives ---- */

static const struct arena_table_plan test_tables[] = {
    {&volume_spec, 200}, {&timeline_spec, 3000}, {&operation_spec, 24}, {&activity_spec, 40}};
static const struct arena_plan test_plan = {
    .tables = test_tables, .table_count = 4, .undo_bytes = 1 << 20};

static inline void test_attach_admin(struct test *t) {
    struct admin_config config = {.a = &t->arena,
                                  .catalogue = &t->w.c,
                                  .log = &test_log_ops,
                                  .log_ctx = t,
                                  .engine = &test_engine_ops,
                                  .engine_ctx = t,
                                  .clock = sim_clock(t->w.sim),
                                  .random = sim_random(t->w.sim)};
    assert_int_equal(arena_shadow_start(&t->arena), 0);
    assert_int_equal(admin_open(&t->ad, &config), 0);
}

static inline void test_cold_start(struct test *t) {
    uint64_t bytes = arena_plan_bytes(&test_plan);
    memset(t->memory, 0, bytes);
    assert_int_equal(arena_create(&t->arena, t->memory, bytes, &test_plan), 0);
    struct catalogue_request r = world_request(&t->w, CATALOGUE_COLD_START, "");
    r.args.operation = prng_next(&t->prng);
    assert_int_equal(world_ask(&t->w, &r), 0);
    struct catalogue_snapshot *s = world_snapshot(&t->w);
    struct volumes_load load;
    assert_int_equal(volumes_load_begin(&load, s), 0);
    int rc;
    while ((rc = volumes_load_turn(&load, &t->arena)) == 1)
        arena_commit(&t->arena);
    assert_int_equal(rc, 0);
    arena_commit(&t->arena);
    atomic_store(&t->arena.live->phase, ARENA_SERVING);
    volumes_load_end(&load);
    assert_true(catalogue_generation(&t->w.c) >= t->log.generation);
    catalogue_snapshot_free(s);
    test_attach_admin(t);
}

static inline struct test *test_start(uint64_t seed) {
    struct test *t = calloc(1, sizeof *t);
    uint64_t bytes = (arena_plan_bytes(&test_plan) + 4095) / 4096 * 4096;
    t->memory = aligned_alloc(4096, bytes);
    t->prng = prng_seed(seed);
    t->log.recorded = t->log.durable = 10;
    t->committed = t->log;
    t->next_reply = 1;
    world_start(&t->w, seed);
    sim_wall_jump(t->w.sim, 1000000 * (int64_t)NS_PER_S);
    test_cold_start(t);
    t->w.is_new = 0;
    return t;
}

static inline void test_end(struct test *t) {
    while (sim_step(t->w.sim))
        ;
    catalogue_reap(&t->w.c);
    admin_close(&t->ad);
    arena_detach(&t->arena);
    world_end(&t->w);
    free(t->memory);
    free(t);
}

static inline void test_die(struct test *t) {
    t->deaths++;
    t->w.c.first = NULL;
    admin_close(&t->ad);
    arena_detach(&t->arena);
    world_die(&t->w, t->power_cut, 0);
    t->log = t->committed;
    if (t->power_cut) {
        while (t->log.count > 0 && t->log.records[t->log.count - 1].sequence > t->log.durable)
            t->log.count--;
        t->log.recorded = t->log.durable = t->log.recorded + 1000;
        t->committed = t->log;
        test_cold_start(t);
        return;
    }
    uint64_t bytes = arena_plan_bytes(&test_plan);
    assert_int_equal(arena_qualify(t->memory, bytes, &test_plan), ARENA_QUALIFIES);
    assert_int_equal(arena_roll_back(t->memory), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&t->arena, t->memory, bytes, &test_plan), 0);
    test_attach_admin(t);
}

/* One turn, or what is left of it before the death that is due. */
static inline void test_turn(struct test *t) {
    t->turns++;
    catalogue_reap(&t->w.c);
    admin_turn(&t->ad);
    int dies = t->turns == t->kill_turn;
    if (dies && t->kill_before_commit) {
        test_die(t);
        return;
    }
    arena_commit(&t->arena);
    t->committed = t->log;
    if (dies) {
        test_die(t);
        return;
    }
    admin_output(&t->ad);
    if (!t->lazy || prng_one_in(&t->prng, 2))
        t->log.durable = t->committed.durable =
            t->log.wanted > t->log.durable ? t->log.wanted : t->log.durable;
    sim_step(t->w.sim);
    sim_advance(t->w.sim, NS_PER_MS);
}

static inline void test_settle(struct test *t) {
    for (int i = 0; operation_used(&t->arena) > 0; i++) {
        assert_true(i < 20000);
        test_turn(t);
    }
    test_turn(t);
}

/* ---- Asking ---- */

static inline struct admin_request test_request(enum operation_kind kind, const char *volume) {
    struct admin_request q = {.kind = kind, .volume_count = volume ? 1 : 0, .block_size = 4096};
    if (volume)
        snprintf(q.volumes[0], sizeof q.volumes[0], "%s", volume);
    return q;
}

/* Begins it in a turn of its own; gives where the answer will be. */
static inline struct test_answer *test_begin(struct test *t, struct admin_request *q) {
    struct operation_h h;
    q->reply = t->next_reply++;
    assert_true(q->reply < 64);
    assert_int_equal(admin_begin(&t->ad, q, &h), 0);
    arena_commit(&t->arena);
    t->committed = t->log;
    return &t->answers[q->reply];
}

static inline const struct test_answer *test_ask(struct test *t, struct admin_request *q) {
    struct test_answer *a = test_begin(t, q);
    test_settle(t);
    return a;
}

#define assert_answer(a, code)                                                                     \
    do {                                                                                           \
        const struct test_answer *answer_ = (a);                                                   \
        if (!answer_->taken || answer_->error != (code))                                           \
            fail_msg("%d: taken %d, %s: %s", __LINE__, answer_->taken, err_word(answer_->error),   \
                     answer_->detail);                                                             \
    } while (0)

static inline const struct volume *test_volume(struct test *t, const char *name) {
    struct volume_h h = volumes_find(&t->arena, name);
    return h.v ? volume_view(&t->arena, h) : NULL;
}

static inline const struct timeline *test_line(struct test *t, const char *name) {
    return timeline_view(&t->arena, test_volume(t, name)->timeline);
}

static inline void test_create(struct test *t, const char *name) {
    struct admin_request q = test_request(OPERATION_VOLUME_CREATE, NULL);
    snprintf(q.name, sizeof q.name, "%s", name);
    q.size_bytes = 1 << 20;
    assert_answer(test_ask(t, &q), 0);
}

/* Clients write. */
static inline void test_write(struct test *t, uint64_t records) {
    t->log.recorded += records;
    t->committed.recorded = t->log.recorded;
}

/* Slots and catalogue say the same, and nothing is reserved for nobody. */
static inline void test_check(struct test *t) {
    struct catalogue_snapshot *s = world_snapshot(&t->w);
    assert_int_equal(s->object_count, volume_used(&t->arena));
    assert_int_equal(s->timeline_count, timeline_used(&t->arena));
    for (uint32_t i = 0; i < s->object_count; i++) {
        const struct catalogue_object *o = &s->objects[i];
        struct volume_h h = volumes_find_id(&t->arena, o->id);
        assert_int_not_equal(h.v, 0);
        const struct volume *v = volume_view(&t->arena, h);
        assert_int_equal(v->slot.state, o->deleted_ns ? VOLUME_DELETED
                                                      : (o->is_lost ? VOLUME_LOST : VOLUME_ONLINE));
        assert_string_equal((const char *)v->name, o->name);
        assert_int_equal(v->size_bytes, o->size_bytes);
        assert_int_equal(v->flags, o->flags);
        assert_int_equal(v->source_id, o->source_id);
        assert_int_equal(v->moment_sequence, o->moment_sequence);
        const struct timeline *line = timeline_view(&t->arena, v->timeline);
        assert_int_equal(line->id, o->line.id);
        assert_int_equal(line->family, o->line.family);
        assert_int_equal(line->parent, o->line.parent);
        assert_int_equal(line->fork_sequence, o->line.fork_sequence);
        assert_true(line->fork_sequence <= t->log.durable);
    }
    catalogue_snapshot_free(s);
}

#endif
