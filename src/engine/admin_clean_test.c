/* SPDX-License-Identifier: Apache-2.0 */
/* When volumes give up history: what their ages and their limits by bytes mean, while that is asked for, and
 * while they change. The cleaning itself is the oracle's (engine_oracle_test.c). */
#include "engine/admin_world_test.h"

#include "engine/clean/clean.h"

/* Ages, while what they mean is looked up in the log. */
struct aging {
    struct test *t;
    struct admin_log_ops ops;
    struct clean *clean;
    struct admin_moment *asked;
    uint64_t durable;
};
static struct aging aging; /* of the test that runs */

static int aging_find_moment(void *ctx, struct admin_moment *m) {
    aging.asked = m;
    return ERR_AGAIN;
}
static uint64_t aging_durable(void *ctx) {
    return aging.durable;
}
static uint32_t aging_history(void *ctx, uint64_t up_to) {
    return up_to > 0 ? 100 : 0;
}
static void aging_cold_drop_others(void *ctx, uint32_t keep) {
}
static void aging_expect_room(void *ctx, int expected) {
}
static int aging_no(void *ctx) {
    return 0;
}

/* A pass ends as it begins: what it would free is not of interest here. */
static void no_keeps(void *ctx) {
    clean_keeps(aging.clean, ERR_IO, NULL);
}

static struct clean *begin_aging(struct test *t) {
    static const struct clean_ops ops = {.want_keeps = no_keeps};
    struct clean_parts with = {.ops = &ops};
    struct clean *clean;
    assert_int_equal(clean_open(&clean, &with), 0);
    aging = (struct aging){.t = t, .clean = clean, .ops = test_log_ops, .durable = UINT64_MAX};
    aging.ops.find_moment = aging_find_moment;
    aging.ops.durable = aging_durable;
    aging.ops.history = aging_history;
    aging.ops.cold_drop_others = aging_cold_drop_others;
    aging.ops.expect_room = aging_expect_room;
    aging.ops.clock_suspect = aging.ops.is_short = aging_no;
    t->ad.c.log = &aging.ops;
    t->store_ns = 10000 * NS_PER_S;
    admin_clean_with(&t->ad, clean, NULL, NULL);
    sim_advance(t->w.sim, 10 * NS_PER_S); /* it looks now and then */
    return clean;
}

static void await_age(struct test *t) {
    for (int i = 0; i < 10 && !aging.asked; i++)
        test_turn(t);
    assert_non_null(aging.asked);
}

/* The log's answer to what is asked, and what follows until the horizon would be there. */
static void answer_age(struct test *t, uint64_t sequence, const char *volume) {
    struct admin_moment *m = aging.asked;
    aging.asked = NULL;
    m->sequence = sequence;
    m->time_ns = sequence * NS_PER_S;
    m->done(m, 0);
    for (int i = 0; i < 20 && test_volume(t, volume)->oldest_sequence < sequence && !aging.asked;
         i++)
        test_turn(t);
}

static void set_retain_bytes(struct test *t, const char *name, uint64_t bytes) {
    struct admin_request q = test_request(OPERATION_VOLUME_SET, name);
    q.flags = OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN_BYTES;
    q.retain_bytes = bytes;
    assert_answer(test_ask(t, &q), 0);
}

static void set_retain(struct test *t, const char *name, uint64_t ns) {
    struct admin_request q = test_request(OPERATION_VOLUME_SET, name);
    q.flags = OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN;
    q.retain_ns = ns;
    assert_answer(test_ask(t, &q), 0);
}

/* 1. An age that is set while another's moment is looked up does not get that moment. 2. Nor does a volume
 * get that of one that went meanwhile. 3. Nothing is given up at a moment that is not durable. 4. The
 * moment of its own age is a volume's horizon. 5. One that retains all, and then for an age again, does
 * not get the moment of the age before. */
static void ages_that_change_meanwhile(void **state) {
    for (int i = 1; i <= 5; i++) {
        struct test *t = test_start(40 + (uint64_t)i);
        test_create(t, "u");
        test_create(t, "v");
        set_retain(t, i == 2 ? "u" : "v", 60 * NS_PER_S);
        if (i == 2)
            set_retain(t, "v", 9000 * NS_PER_S);
        test_write(t, 500);
        uint64_t before = test_volume(t, "v")->oldest_sequence;
        struct clean *clean = begin_aging(t);
        await_age(t);
        assert_int_equal(aging.asked->time_ns, 9940 * NS_PER_S);
        if (i == 1)
            set_retain(t, "v", 9000 * NS_PER_S);
        if (i == 2) {
            struct admin_request q = test_request(OPERATION_VOLUME_DELETE, "u");
            q.flags = OPERATION_NOW;
            assert_answer(test_ask(t, &q), 0);
        }
        for (int later = 0; i == 5 && later < 2; later++) {
            set_retain(t, "v", later * 9000 * NS_PER_S);
            sim_advance(t->w.sim, 10 * NS_PER_S);
            test_turn(t);
        }
        if (i == 3)
            aging.durable = 399;
        answer_age(t, 400, "v");
        assert_int_equal(test_volume(t, "v")->oldest_sequence, i == 4 ? 400 : before);
        for (int k = 0; i == 5 && k < 10 && !aging.asked; k++) {
            sim_advance(t->w.sim, 10 * NS_PER_S);
            test_turn(t);
        }
        if (i <= 2 || i == 5)
            assert_int_equal(aging.asked->time_ns, 1000 * NS_PER_S);
        while (sim_step(t->w.sim))
            ;
        test_end(t);
        clean_close(clean);
    }
}

/* Records 101, 102, ... of one block, one a second, counted as the engine does. */
static void write_blocks(struct test *t, const char *name, uint32_t blocks) {
    for (uint32_t i = 0; i < blocks; i++) {
        uint64_t wall_ns = clock_wall_ns(&t->ad.c.clock);
        struct activity *now = activity_now(&t->arena, volumes_find(&t->arena, name), wall_ns);
        now->counted[ACTIVITY_recorded_bytes] += BLOCK_BYTES;
        activity_recorded(&t->arena, volumes_find(&t->arena, name), now, ++t->log.recorded,
                          wall_ns);
        test_turn(t);
        sim_advance(t->w.sim, NS_PER_S);
    }
    admin_activity_now(&t->ad);
    for (int i = 0; !admin_activity_is_known(&t->ad); i++) {
        assert_true(i < 1000);
        test_turn(t);
    }
    t->log.durable = t->committed.durable = t->log.recorded;
}

/* A volume v that has recorded 30 blocks, from 101 on, and keeps at most ten. */
static struct test *with_ten_of_thirty(uint64_t seed) {
    struct test *t = test_start(seed);
    test_create(t, "v");
    t->log.recorded = t->log.durable = t->committed.durable = 100;
    t->committed = t->log;
    write_blocks(t, "v", 30);
    set_retain_bytes(t, "v", 10 * BLOCK_BYTES);
    return t;
}

static void look(struct test *t) {
    sim_advance(t->w.sim, 10 * NS_PER_S);
    for (int i = 0; i < 30; i++)
        test_turn(t);
}

/* 1. The oldest moment is the one after which the volume has recorded no more than its limit. 2. It goes
 * on with what is written. 3. A limit that is raised gives nothing back, and takes nothing more. 4. Nothing is
 * given up at a moment that is not durable. 5. Others keep all, or what their own limit says. */
static void limits_by_bytes(void **state) {
    struct test *t = test_start(60);
    test_create(t, "u");
    test_create(t, "v");
    test_create(t, "w");
    t->log.recorded = t->log.durable = t->committed.durable = 100;
    t->committed = t->log;
    struct clean *clean = begin_aging(t);
    set_retain_bytes(t, "v", 10 * BLOCK_BYTES + 5);
    set_retain_bytes(t, "w", 100 * BLOCK_BYTES);
    uint64_t first = test_volume(t, "v")->oldest_sequence, w = test_volume(t, "w")->oldest_sequence;
    write_blocks(t, "v", 10);
    look(t);
    assert_int_equal(test_volume(t, "v")->oldest_sequence, first);
    aging.durable = 110; /* 4 */
    write_blocks(t, "v", 20);
    aging.durable = 119;
    look(t);
    assert_in_range(test_volume(t, "v")->oldest_sequence, first, 110);
    aging.durable = UINT64_MAX;
    look(t);
    assert_int_equal(test_volume(t, "v")->oldest_sequence, 120); /* 1 */
    assert_in_range(test_volume(t, "v")->oldest_ns, 1, clock_wall_ns(&t->ad.c.clock));
    write_blocks(t, "w", 20);
    look(t);
    assert_int_equal(test_volume(t, "v")->oldest_sequence, 120);
    write_blocks(t, "v", 3);
    look(t);
    assert_int_equal(test_volume(t, "v")->oldest_sequence, 123); /* 2 */
    set_retain_bytes(t, "v", 20 * BLOCK_BYTES);
    write_blocks(t, "v", 5);
    look(t);
    assert_int_equal(test_volume(t, "v")->oldest_sequence, 123); /* 3 */
    assert_int_equal(test_volume(t, "w")->oldest_sequence, w);   /* 5 */
    assert_true(test_volume(t, "u")->oldest_sequence < w);
    test_end(t);
    clean_close(clean);
}

/* The older of the two promises ends where the younger says. */
static void a_limit_and_an_age(void **state) {
    for (int i = 0; i < 2; i++) {
        struct test *t = with_ten_of_thirty(70);
        set_retain(t, "v", 60 * NS_PER_S);
        struct clean *clean = begin_aging(t);
        await_age(t);
        answer_age(t, i == 0 ? 110 : 125, "v");
        for (int k = 0; k < 20; k++)
            test_turn(t);
        assert_int_equal(test_volume(t, "v")->oldest_sequence, i == 0 ? 120 : 125);
        test_end(t);
        clean_close(clean);
    }
}

/* A limit that is raised while the catalogue is asked what the former one means. */
static void a_limit_that_changes_meanwhile(void **state) {
    for (int turns = 0; turns < 12; turns++) {
        struct test *t = with_ten_of_thirty(80);
        struct clean *clean = begin_aging(t);
        for (int k = 0; k < turns; k++)
            test_turn(t);
        uint64_t now = test_volume(t, "v")->oldest_sequence;
        set_retain_bytes(t, "v", 25 * BLOCK_BYTES);
        uint64_t then = test_volume(t, "v")->oldest_sequence;
        for (int k = 0; k < 30; k++)
            test_turn(t);
        uint64_t last = test_volume(t, "v")->oldest_sequence;
        assert_true(now == then || then == 120);
        assert_true(last == then || last == 105);
        test_end(t);
        clean_close(clean);
    }
}

/* A process dies when the catalogue has given something up, and the slots do not say so yet: the next one learns
 * of it, whatever the volume is to keep by then. */
static void a_horizon_is_known_after_a_death(void **state) {
    uint32_t given_up = 0, kept = 0;
    for (uint64_t turn = 1; turn < 20; turn++) {
        struct test *t = with_ten_of_thirty(90);
        struct clean *clean = begin_aging(t);
        t->kill_turn = t->turns + turn;
        t->kill_before_commit = 1;
        for (uint64_t k = 0; k < turn; k++)
            test_turn(t);
        assert_int_equal(t->deaths, 1);
        clean_close(clean);
        clean = begin_aging(t);
        set_retain_bytes(t, "v", 0);
        for (int k = 0; k < 30; k++)
            test_turn(t);
        struct catalogue_snapshot *s = world_snapshot(&t->w);
        assert_int_equal(test_volume(t, "v")->oldest_sequence, s->objects[0].oldest_sequence);
        given_up += s->objects[0].oldest_sequence == 120;
        kept += s->objects[0].oldest_sequence < 100;
        catalogue_snapshot_free(s);
        test_end(t);
        clean_close(clean);
    }
    assert_true(given_up > 2 && kept > 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_that_change_meanwhile),
        cmocka_unit_test(limits_by_bytes),
        cmocka_unit_test(a_limit_and_an_age),
        cmocka_unit_test(a_limit_that_changes_meanwhile),
        cmocka_unit_test(a_horizon_is_known_after_a_death),
    };
    return cmocka_run_group_tests_name("admin_clean", tests, NULL, NULL);
}
