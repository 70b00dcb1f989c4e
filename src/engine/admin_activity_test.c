/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Activity on its way into the catalogue: each write that a turn has counted is counted there once, whatever
 * dies; nothing is lost when the table is full or the catalogue fails.
 */
#include "engine/admin_world_test.h"

static void make_volumes(struct test *t) {
    test_create(t, "v");
    test_create(t, "w");
}

/* In the turn that begins now. */
static void count(struct test *t, const char *name) {
    struct activity *now =
        activity_now(&t->arena, volumes_find(&t->arena, name), clock_wall_ns(&t->ad.c.clock));
    assert_non_null(now);
    now->counted[ACTIVITY_writes]++;
    now->counted[ACTIVITY_recorded_bytes] += BLOCK_BYTES;
    activity_recorded(&t->arena, volumes_find(&t->arena, name), now, ++t->log.recorded,
                      clock_wall_ns(&t->ad.c.clock));
}

static uint64_t writes_of(struct test *t, const char *name, uint64_t step) {
    static struct catalogue_activities out;
    struct catalogue_request r = world_request(&t->w, CATALOGUE_LIST_ACTIVITY, "");
    uint64_t n = 0;
    r.args.volumes[0] = volume_view(&t->arena, volumes_find(&t->arena, name))->id;
    r.args.volume_count = 1;
    r.args.to_s = INT64_MAX;
    r.args.step_s = step;
    r.activities = &out;
    assert_int_equal(world_ask(&t->w, &r), 0);
    for (uint32_t i = 0; i < out.count; i++)
        n += out.rows[i].counted[ACTIVITY_writes];
    return n;
}

static void settle(struct test *t) {
    admin_activity_now(&t->ad);
    for (int i = 0; !admin_activity_is_known(&t->ad) || activity_used(&t->arena) > 0; i++) {
        assert_true(i < 20000);
        test_turn(t);
        if (activity_used(&t->arena) > 0) /* a new process does not know that */
            admin_activity_now(&t->ad);
    }
}

static void what_was_counted_arrives(void **state) {
    struct test *t = test_start(1);
    make_volumes(t);
    for (int i = 0; i < 100; i++) {
        count(t, "v");
        if (i % 4 == 0)
            count(t, "w");
        test_turn(t);
        sim_advance(t->w.sim, 300 * NS_PER_MS);
    }
    assert_in_range(writes_of(t, "v", 1), 30, 99); /* of itself, now and then */
    settle(t);
    assert_int_equal(writes_of(t, "v", 1), 100);
    assert_int_equal(writes_of(t, "v", 3600), 100);
    assert_int_equal(writes_of(t, "w", 60), 25);
    test_end(t);
}

static void it_is_counted_once_whatever_dies(void **state) {
    uint32_t deaths = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct test *t = test_start(seed);
        uint64_t counted = 0;
        make_volumes(t);
        for (int i = 0; i < 80; i++) {
            uint32_t before = t->deaths;
            t->kill_turn = prng_one_in(&t->prng, 4) ? t->turns + 1 : 0;
            t->kill_before_commit = (int)prng_below(&t->prng, 2);
            sim_fault_clear(t->w.sim);
            if (prng_one_in(&t->prng, 3))
                sim_fault_add(t->w.sim,
                              &(struct sim_fault){.kind = SIM_WRITE_FAILS,
                                                  .skip = (uint32_t)prng_below(&t->prng, 6),
                                                  .count = 1});
            count(t, "v");
            if (prng_one_in(&t->prng, 3))
                admin_activity_now(&t->ad);
            test_turn(t);
            counted += t->deaths == before || !t->kill_before_commit;
            sim_advance(t->w.sim, prng_below(&t->prng, 1000) * NS_PER_MS);
        }
        t->kill_turn = 0;
        sim_fault_clear(t->w.sim);
        settle(t);
        assert_int_equal(writes_of(t, "v", 1), counted);
        assert_int_equal(writes_of(t, "v", 60), counted);
        deaths += t->deaths;
        test_end(t);
    }
    assert_true(deaths > 800);
}

/* The table has 40 slots, and nothing leaves it while the disk fails. */
static void a_full_table_counts_on(void **state) {
    struct test *t = test_start(2);
    make_volumes(t);
    sim_fault_add(t->w.sim, &(struct sim_fault){.kind = SIM_WRITE_FAILS});
    for (int i = 0; i < 100; i++) {
        count(t, "v");
        test_turn(t);
        sim_advance(t->w.sim, NS_PER_S);
    }
    assert_int_equal(activity_room(&t->arena), 0);
    struct activity *none = activity_now(&t->arena, volumes_find(&t->arena, "w"), 0);
    assert_null(none); /* of one that has no slot, nothing is counted */
    sim_fault_clear(t->w.sim);
    settle(t);
    assert_int_equal(writes_of(t, "v", 1), 100);
    count(t, "w");
    settle(t);
    assert_int_equal(writes_of(t, "w", 1), 1);
    test_end(t);
}

static uint64_t clean_of(struct test *t, const char *name) {
    static struct catalogue_activities out;
    struct catalogue_request r = world_request(&t->w, CATALOGUE_LIST_ACTIVITY, "");
    r.args.volumes[0] = volume_view(&t->arena, volumes_find(&t->arena, name))->id;
    r.args.volume_count = 1;
    r.args.to_s = INT64_MAX;
    r.args.step_s = 3600;
    r.activities = &out;
    assert_int_equal(world_ask(&t->w, &r), 0);
    return out.count > 0 ? out.rows[0].clean_sequence : 0;
}

/* A moment is clean if the volume was flushed then, and rested for a while; others may write. */
static void clean_moments(void **state) {
    static const struct {
        uint64_t rest_ms;
        int write, again, end, clean;
    } cases[] = {
        {200, 1, 0, 0, 1},  /* 1: it rests, and is written again */
        {50, 1, 0, 0, 0},   /* 2: it does not rest */
        {200, 0, 1, 0, 1},  /* 3: it rests, and is flushed again: the first flush counts */
        {50, 0, 1, 0, 0},   /* 4 */
        {2000, 0, 0, 1, 1}, /* 5: its second ends */
        {30, 0, 0, 1, 0},   /* 6: somebody asks for the history at once; */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test *t = test_start(30 + i);
        make_volumes(t);
        struct volume_h v = volumes_find(&t->arena, "v");
        count(t, "v");
        uint64_t wall_ns = clock_wall_ns(&t->ad.c.clock), flushed = ++t->log.recorded;
        activity_flushed(&t->arena, v, activity_now(&t->arena, v, wall_ns), flushed, wall_ns);
        test_turn(t);
        count(t, "w");
        sim_advance(t->w.sim, cases[i].rest_ms * NS_PER_MS);
        wall_ns = clock_wall_ns(&t->ad.c.clock);
        if (cases[i].write)
            count(t, "v");
        if (cases[i].again)
            activity_flushed(&t->arena, v, activity_now(&t->arena, v, wall_ns), flushed + 5,
                             wall_ns);
        settle(t);
        assert_int_equal(clean_of(t, "v"), cases[i].clean ? flushed : 0);
        assert_int_equal(clean_of(t, "w"), 0);
        if (i == 5) { /* and then it rests */
            sim_advance(t->w.sim, NS_PER_S);
            count(t, "v");
            settle(t);
            assert_int_equal(clean_of(t, "v"), flushed);
        }
        test_end(t);
    }
}

static void a_volume_that_goes_takes_its_rows(void **state) {
    struct test *t = test_start(3);
    make_volumes(t);
    count(t, "v");
    count(t, "w");
    struct admin_request q = test_request(OPERATION_VOLUME_DELETE, "v");
    q.flags = OPERATION_NOW;
    test_begin(t, &q);
    settle(t);
    assert_int_equal(writes_of(t, "w", 1), 1);
    assert_int_equal(activity_used(&t->arena), 0);
    test_end(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_counted_arrives),
        cmocka_unit_test(it_is_counted_once_whatever_dies),
        cmocka_unit_test(a_full_table_counts_on),
        cmocka_unit_test(clean_moments),
        cmocka_unit_test(a_volume_that_goes_takes_its_rows),
    };
    return cmocka_run_group_tests_name("admin_activity", tests, NULL, NULL);
}
