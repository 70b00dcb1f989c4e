/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue under power cuts, kills and failing disks, against a model: what was answered is
 * there, what was not is there whole or not at all, and the same operation again settles it.
 */
#include "engine/catalogue/world_test.h"

#include "base/prng.h"

#define NAMES 12

/* Volume i is called "v<i>", its mark "m<i>", and segment i + 1 is free or not; the rest follows from
 * the operations. */
enum model_state { NONE, LIVE, TRASHED };
struct model {
    enum model_state volume[NAMES];
    uint64_t size[NAMES];
    uint64_t id[NAMES];
    uint64_t horizon[NAMES];
    int mark[NAMES];
    int freed[NAMES];
};

struct change {
    enum catalogue_kind kind;
    int which;
};

static struct catalogue_request request_for(struct world *w, struct change ch,
                                            const struct model *m, struct prng *p) {
    char name[8];
    snprintf(name, sizeof name, "%c%d", ch.kind >= CATALOGUE_MARK ? 'm' : 'v', ch.which);
    struct catalogue_request r = world_request(w, ch.kind, name);
    r.args.from_sequence = w->operation * 10;
    r.args.sequence = w->operation * 10;
    r.args.block_size = 4096;
    r.args.size_bytes = 4096 * (1 + prng_below(p, 1000));
    r.args.horizons[0] = w->operation * 10;
    r.args.horizon_ns[0] = w->operation;
    r.args.segments[0] = (uint32_t)ch.which + 1;
    r.args.segment_count = 1;
    r.args.cold = (uint32_t)(ch.which + 1) % NAMES + 1;
    r.args.volumes[0] = m->id[ch.which];
    r.args.volume_count = ch.kind == CATALOGUE_VOLUME_CREATE ? 0 : 1;
    return r;
}

/* Whether the change is possible, so that only the disk can refuse it. */
static int is_possible(struct change ch, const struct model *m) {
    enum model_state s = m->volume[ch.which];
    switch (ch.kind) {
    case CATALOGUE_VOLUME_CREATE:
        return s == NONE;
    case CATALOGUE_VOLUME_UNDELETE:
        return s == TRASHED;
    case CATALOGUE_VOLUME_PURGE:
    case CATALOGUE_HORIZON:
        return s != NONE;
    case CATALOGUE_SEGMENTS_CLEAN:
        return 1;
    case CATALOGUE_MARK:
        return s == LIVE && !m->mark[ch.which];
    case CATALOGUE_MARK_DELETE:
        return s == LIVE && m->mark[ch.which];
    default:
        return s == LIVE;
    }
}

static void apply(struct model *m, struct change ch, const struct catalogue_request *r) {
    int i = ch.which;
    switch (ch.kind) {
    case CATALOGUE_VOLUME_CREATE:
        m->volume[i] = LIVE;
        m->id[i] = r->out.objects[0].id;
        m->size[i] = r->args.size_bytes;
        break;
    case CATALOGUE_VOLUME_RESIZE:
        m->size[i] = r->args.size_bytes;
        break;
    case CATALOGUE_VOLUME_DELETE:
        m->volume[i] = TRASHED;
        break;
    case CATALOGUE_VOLUME_UNDELETE:
        m->volume[i] = LIVE;
        break;
    case CATALOGUE_VOLUME_PURGE:
        m->volume[i] = NONE;
        m->mark[i] = 0;
        m->horizon[i] = 0;
        break;
    case CATALOGUE_MARK:
        m->mark[i] = 1;
        break;
    case CATALOGUE_MARK_DELETE:
        m->mark[i] = 0;
        break;
    case CATALOGUE_HORIZON: /* of now: all marks are older */
        m->mark[i] = 0;
        m->horizon[i] = r->args.horizons[0];
        break;
    case CATALOGUE_SEGMENTS_CLEAN:
        m->freed[i] = 1;
        m->freed[(i + 1) % NAMES] = 0;
        break;
    default:
        break;
    }
}

static void check(struct world *w, const struct model *m) {
    struct catalogue_snapshot *s = world_snapshot(w);
    uint32_t volumes = 0, marks = 0;
    for (int i = 0; i < NAMES; i++) {
        volumes += m->volume[i] != NONE;
        marks += (uint32_t)m->mark[i];
    }
    assert_int_equal(s->object_count, volumes);
    for (uint32_t i = 0; i < s->object_count; i++) {
        int which = atoi(s->objects[i].name + 1);
        assert_int_equal(m->volume[which], s->objects[i].deleted_ns ? TRASHED : LIVE);
        assert_int_equal(s->objects[i].id, m->id[which]);
        assert_int_equal(s->objects[i].size_bytes, m->size[which]);
        if (m->horizon[which])
            assert_int_equal(s->objects[i].oldest_sequence, m->horizon[which]);
    }
    for (uint32_t i = 0, n = 0; i < NAMES; i++) {
        int is_freed = n < s->freed_count && s->freed[n] == i + 1;
        assert_int_equal(is_freed, m->freed[i]);
        n += (uint32_t)is_freed;
    }
    catalogue_snapshot_free(s);
    static struct catalogue_list list;
    struct catalogue_request r = world_request(w, CATALOGUE_LIST_MARKS, "");
    r.list = &list;
    assert_int_equal(world_ask(w, &r), 0);
    assert_int_equal(list.count, marks);
    for (uint32_t i = 0; i < list.count; i++)
        assert_true(m->mark[atoi(list.rows[i].name + 1)]);
}

static struct change random_change(struct prng *p, const struct model *m) {
    static const enum catalogue_kind kinds[] = {
        CATALOGUE_VOLUME_CREATE,   CATALOGUE_VOLUME_CREATE,
        CATALOGUE_VOLUME_RESIZE,   CATALOGUE_VOLUME_DELETE,
        CATALOGUE_VOLUME_UNDELETE, CATALOGUE_VOLUME_PURGE,
        CATALOGUE_RESTORE,         CATALOGUE_MARK,
        CATALOGUE_MARK_DELETE,     CATALOGUE_HORIZON,
        CATALOGUE_SEGMENTS_CLEAN,
    };
    struct change ch;
    do {
        ch = (struct change){kinds[prng_below(p, sizeof kinds / sizeof kinds[0])],
                             (int)prng_below(p, NAMES)};
    } while (!is_possible(ch, m));
    return ch;
}

struct tally {
    uint32_t cuts, committed, repeated;
};

/* A life of several deaths, each in the middle of an operation. */
static void one_world(uint64_t seed, struct tally *t) {
    struct prng p = prng_seed(seed);
    struct world w;
    struct model m = {0};
    world_start(&w, seed);
    for (int life = 0; life < 6; life++) {
        int dead = 0;
        for (int i = 0; i < 4 && !dead; i++) {
            struct change ch = random_change(&p, &m);
            struct catalogue_request r = request_for(&w, ch, &m, &p);
            if (i == 3 || prng_one_in(&p, 4))
                sim_stop_after(w.sim, 1 + prng_below(&p, i == 0 && life == 0 ? 90 : 40));
            int rc = world_ask(&w, &r);
            if (rc == 0 && !sim_stopped(w.sim)) {
                sim_stop_after(w.sim, 0);
                apply(&m, ch, &r);
                t->committed++;
                continue;
            }
            assert_true(rc == 0 || rc == ERR_AGAIN || rc == ERR_CANCELLED);
            dead = 1;
            t->cuts++;
            uint64_t before = w.c.generation;
            world_die(&w, !prng_one_in(&p, 4), life == 0);
            struct catalogue_request again = {.kind = r.kind, .args = r.args};
            int settled = world_ask(&w, &again);
            if (settled != 0)
                fail_msg("seed %u life %d: %s: %s", (unsigned)seed, life, err_word(settled),
                         again.detail);
            apply(&m, ch, &again);
            t->repeated += again.generation == before;
            if (rc == 0) /* it was answered: it must have been there */
                assert_int_equal(r.generation, again.generation);
            struct catalogue_request third = {.kind = r.kind, .args = r.args};
            assert_int_equal(world_ask(&w, &third), 0);
            assert_memory_equal(&third.out, &again.out, sizeof third.out);
            assert_int_equal(third.generation, again.generation);
        }
        check(&w, &m);
    }
    world_end(&w);
}

static void power_cuts_and_kills(void **state) {
    struct tally t = {0};
    const char *more = getenv("PERDURE_SEEDS");
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 300;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        one_world(seed, &t);
    print_message("%u deaths, %u operations before them\n", t.cuts, t.committed);
    assert_true(t.cuts > 4 * seeds);
}

/* Everything that a disk can refuse: the operation fails and has not happened, or it is unknown and
 * the same again settles it; later operations succeed. */
static void failing_disks(void **state) {
    static const enum sim_fault_kind kinds[] = {SIM_WRITE_FAILS, SIM_WRITE_SHORT, SIM_SYNC_FAILS,
                                                SIM_READ_FAILS, SIM_NAME_FAILS};
    uint32_t failed = 0, unknown = 0;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct prng p = prng_seed(seed);
        struct world w;
        struct model m = {0};
        world_start(&w, seed);
        for (int i = 0; i < 12; i++) {
            struct change ch = random_change(&p, &m);
            struct catalogue_request r = request_for(&w, ch, &m, &p);
            sim_fault_add(w.sim,
                          &(struct sim_fault){.path = prng_one_in(&p, 2) ? "catalogue.db"
                                                                         : "catalogue.db-journal",
                                              .kind = kinds[prng_below(&p, 5)],
                                              .err = prng_one_in(&p, 3) ? ERR_NOSPC : ERR_IO,
                                              .skip = (uint32_t)prng_below(&p, 6),
                                              .count = 1 + (uint32_t)prng_below(&p, 3)});
            int rc = world_ask(&w, &r);
            sim_fault_clear(w.sim);
            failed += rc < 0 && rc != ERR_AGAIN;
            unknown += rc == ERR_AGAIN;
            if (rc < 0) {
                assert_true(r.detail[0] != 0);
                if (rc != ERR_AGAIN) {
                    if (i > 0)
                        check(&w, &m);
                    if (prng_one_in(&p, 2))
                        continue;
                }
                struct catalogue_request again = {.kind = r.kind, .args = r.args};
                assert_int_equal(world_ask(&w, &again), 0);
                r = again;
            }
            apply(&m, ch, &r);
            if (prng_one_in(&p, 3)) /* what a failed sync left undecided is decided now */
                world_die(&w, 1, 0);
            check(&w, &m);
        }
        world_end(&w);
    }
    print_message("%u failed, %u unknown\n", failed, unknown);
    assert_true(failed > 50 && unknown > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts_and_kills),
        cmocka_unit_test(failing_disks),
    };
    return cmocka_run_group_tests_name("catalogue_power", tests, NULL, NULL);
}
