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
static int aging_yes(void *ctx) {
    return 1;
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

/* ---- Thinning ---- */

#define THIN_BEGIN 200u /* of what admin itself recorded, nothing is higher */

static void set_thinning(struct test *t, const char *name, uint32_t age_s, uint32_t step_s) {
    struct admin_request q = test_request(OPERATION_VOLUME_SET, name);
    q.flags = OPERATION_KEEP_DURABILITY | OPERATION_SET_THINNING;
    q.thinning[0] = age_s ? thinning_level(age_s, step_s) : 0;
    assert_answer(test_ask(t, &q), 0);
}

static void pass(struct test *t, uint64_t seconds) {
    sim_advance(t->w.sim, seconds * NS_PER_S);
    t->store_ns += seconds * NS_PER_S;
}

/* A volume that is written to every 10 s for `minutes`, from number THIN_BEGIN + 1 on. */
static struct test *with_minutes(uint64_t seed, const char *const *names, uint64_t minutes) {
    struct test *t = test_start(seed);
    for (; *names; names++)
        test_create(t, *names);
    test_write(t, THIN_BEGIN - t->log.recorded);
    test_settle(t);
    uint64_t second = clock_wall_ns(&t->ad.c.clock) / NS_PER_S % 60;
    pass(t, 60 - second);
    for (uint64_t i = 0; i < 6 * minutes; i++) {
        test_write(t, 1);
        test_settle(t);
        pass(t, 10);
    }
    return t;
}

/* As begin_aging(), at the store time that it is. */
static struct clean *begin_thinning(struct test *t) {
    uint64_t store_ns = t->store_ns;
    struct clean *clean = begin_aging(t);
    t->store_ns = store_ns;
    aging.ops.find_moment = test_log_ops.find_moment;
    for (int i = 0; i < 30; i++)
        test_turn(t);
    return clean;
}

static int image_at(struct test *t, struct admin_request *q, uint64_t sequence, uint32_t flags,
                    uint64_t results[8]) {
    q->kind = OPERATION_IMAGE_OPEN;
    q->moment_kind = OPERATION_AT_SEQUENCE;
    q->moment = sequence;
    q->flags = flags;
    t->next_reply = 0; /* all are answered */
    memset(t->answers, 0, sizeof t->answers);
    const struct test_answer *a = test_ask(t, q);
    memcpy(results, a->results, sizeof a->results);
    return a->error;
}

/* One moment a minute is chosen, the last one before the minute; and of what is older than five minutes only
 * those open, or stand for what was between them. */
static void a_volume_is_thinned(void **state) {
    static const char *const names[] = {"u", "v", NULL};
    struct test *t = with_minutes(100, names, 20);
    set_thinning(t, "v", 300, 60);
    struct clean *clean = begin_thinning(t);
    uint64_t fine = test_volume(t, "v")->fine_sequence, results[8];
    /* The records of 15 minutes are older. */
    assert_int_equal(fine, THIN_BEGIN + 90);
    assert_int_equal(test_volume(t, "u")->fine_sequence, 0);
    struct admin_request v = test_request(0, "v"), u = test_request(0, "u"), both = v;
    both.volume_count = 2;
    memcpy(both.volumes[1], "u", 2);
    for (uint64_t i = 12; i < 100; i += 7) {
        uint64_t asked = THIN_BEGIN + i, last = i < 90 ? THIN_BEGIN + i / 6 * 6 : asked;
        assert_int_equal(image_at(t, &v, asked, 0, results), 0);
        assert_int_equal(results[0], last);
        assert_int_equal(results[5], last != asked);
        assert_int_equal(image_at(t, &both, asked, 0, results), 0);
        assert_int_equal(results[0], last);
        assert_int_equal(image_at(t, &u, asked, 0, results), 0);
        assert_int_equal(results[0], asked);
        assert_int_equal(image_at(t, &v, asked, OPERATION_EXACT, results),
                         last == asked ? 0 : ERR_RANGE);
    }
    test_check(t);
    test_end(t);
    clean_close(clean);
}

/* What has been thinned stays so, whatever the policy is then; and a policy that goes thins nothing more. */
static void policies_change(void **state) {
    static const char *const names[] = {"v", NULL};
    struct test *t = with_minutes(110, names, 20);
    set_thinning(t, "v", 300, 300);
    struct clean *clean = begin_thinning(t);
    uint64_t fine = test_volume(t, "v")->fine_sequence, results[8];
    struct admin_request v = test_request(0, "v");
    set_thinning(t, "v", 60, 60);
    clean_close(clean);
    clean = begin_thinning(t);
    assert_true(test_volume(t, "v")->fine_sequence > fine);
    uint64_t then = test_volume(t, "v")->fine_sequence;
    assert_int_equal(image_at(t, &v, fine - 1, 0, results), 0);
    assert_true(results[0] + 6 < fine - 1 && results[5] == 1);
    assert_int_equal(image_at(t, &v, fine + 8, 0, results), 0);
    assert_true(results[0] + 6 >= fine + 8);
    set_thinning(t, "v", 0, 0);
    pass(t, 3600);
    clean_close(clean);
    clean = begin_thinning(t);
    assert_int_equal(test_volume(t, "v")->fine_sequence, then);
    test_end(t);
    clean_close(clean);
}

/* While the wall clock is suspect, nothing is thinned. */
static void a_suspect_clock_thins_nothing(void **state) {
    static const char *const names[] = {"v", NULL};
    struct test *t = with_minutes(120, names, 20);
    set_thinning(t, "v", 300, 60);
    struct clean *clean = begin_aging(t);
    aging.ops.clock_suspect = aging_yes;
    for (int i = 0; i < 30; i++)
        test_turn(t);
    assert_int_equal(test_volume(t, "v")->fine_sequence, 0);
    test_end(t);
    clean_close(clean);
}

/* A process that dies at any turn, before or after its commit: the slots say what the catalogue says, and the minutes
 * that follow are chosen. */
static void thinning_and_deaths(void **state) {
    static const char *const names[] = {"v", NULL};
    for (uint64_t turn = 1; turn < 30; turn++) {
        struct test *t = with_minutes(130, names, 20);
        set_thinning(t, "v", 300, 60);
        t->kill_turn = t->turns + turn;
        t->kill_before_commit = turn % 2 == 0;
        clean_close(begin_thinning(t));
        struct clean *clean = begin_thinning(t);
        assert_int_equal(t->deaths, 1);
        struct catalogue_snapshot *s = world_snapshot(&t->w);
        assert_int_equal(test_volume(t, "v")->fine_sequence, s->objects[0].fine_sequence);
        assert_int_equal(test_volume(t, "v")->fine_sequence, THIN_BEGIN + 90);
        catalogue_snapshot_free(s);
        test_end(t);
        clean_close(clean);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_that_change_meanwhile),
        cmocka_unit_test(limits_by_bytes),
        cmocka_unit_test(a_limit_and_an_age),
        cmocka_unit_test(a_limit_that_changes_meanwhile),
        cmocka_unit_test(a_horizon_is_known_after_a_death),
        cmocka_unit_test(a_volume_is_thinned),
        cmocka_unit_test(policies_change),
        cmocka_unit_test(a_suspect_clock_thins_nothing),
        cmocka_unit_test(thinning_and_deaths),
    };
    return cmocka_run_group_tests_name("admin_clean", tests, NULL, NULL);
}
