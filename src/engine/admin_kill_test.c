/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A long list of operations under a death at every turn: killed before the turn's commit, or after
 * it (the successor finds the arena), or with the machine's power (the next life finds the catalogue
 * and what was durable in the log). Every operation ends with the answer that it has without a
 * death, and so does the store.
 */
#include "engine/admin_world_test.h"

struct step {
    enum operation_kind kind;
    const char *volumes;  /* separated by a blank */
    const char *name;     /* or the image's */
    const char *made;     /* promote: the new volume */
    uint64_t size, after; /* after: the moment, in records after both volumes were made; 0: now */
    uint32_t flags;
    int again; /* what it may say if it was done by a life that lost power before its answer */
};

static const struct step script[] = {
    {OPERATION_VOLUME_CREATE, "", "v", .size = 1 << 20, .again = ERR_EXISTS},
    {OPERATION_VOLUME_CREATE, "", "u", .size = 1 << 20, .again = ERR_EXISTS},
    {OPERATION_MARK, "v u", "m", .again = ERR_EXISTS},
    {OPERATION_VOLUME_RESIZE, "v", .size = 2 << 20},
    {OPERATION_IMAGE_OPEN, "v u", "i", .flags = OPERATION_WRITABLE, .again = ERR_EXISTS},
    {OPERATION_IMAGE_OPEN, "v", "j", .after = 20, .again = ERR_EXISTS},
    {OPERATION_RESTORE, "v u", .after = 20, .flags = OPERATION_FORCE},
    {OPERATION_RESTORE_RANGE, "v", .after = 30, .size = 8192},
    {OPERATION_VOLUME_RESIZE, "v", .size = 512 << 10, .flags = OPERATION_FORCE},
    {OPERATION_IMAGE_PROMOTE, "", "j", "w", .again = ERR_NOTFOUND},
    {OPERATION_IMAGE_CLOSE, "", "i", .again = ERR_NOTFOUND},
    {OPERATION_VOLUME_DELETE, "w", .again = ERR_NOTFOUND},
    {OPERATION_VOLUME_UNDELETE, "w", .again = ERR_INVAL},
    {OPERATION_VOLUME_SET, "w", .flags = OPERATION_DURABLE_WRITES},
    {OPERATION_VOLUME_DELETE, "u", .flags = OPERATION_NOW, .again = ERR_NOTFOUND},
    {OPERATION_MARK_DELETE, "v", "m", .again = ERR_NOTFOUND},
    {OPERATION_RESTORE, "v", .after = 25, .flags = OPERATION_DESTRUCTIVE | OPERATION_FORCE},
};
#define STEPS (sizeof script / sizeof script[0])

static struct admin_request request_of(const struct step *s, uint64_t base) {
    struct admin_request q = {.kind = s->kind, .flags = s->flags, .block_size = 4096};
    char names[64];
    snprintf(names, sizeof names, "%s", s->volumes);
    for (char *at = strtok(names, " "); at; at = strtok(NULL, " "))
        snprintf(q.volumes[q.volume_count++], VOLUME_NAME_BYTES, "%s", at);
    if (s->name) {
        snprintf(q.name, sizeof q.name, "%s", s->name);
        snprintf(q.image, sizeof q.image, "%s", s->name);
    }
    if (s->made)
        snprintf(q.name, sizeof q.name, "%s", s->made);
    q.size_bytes = q.length_bytes = s->size;
    q.moment_kind = s->after ? OPERATION_AT_SEQUENCE : OPERATION_AT_NOW;
    q.moment = base + s->after;
    return q;
}

/* Everything that a person can see, without numbers that a death may move. */
static void describe(struct test *t, char *out, size_t room) {
    size_t n = 0;
    struct catalogue_snapshot *s = world_snapshot(&t->w);
    for (uint32_t i = 0; i < s->object_count; i++) {
        const struct catalogue_object *o = &s->objects[i];
        n += (size_t)snprintf(out + n, room - n, "%s %llu %x %d; ", o->name,
                              (unsigned long long)o->size_bytes, o->flags, o->deleted_ns != 0);
    }
    catalogue_snapshot_free(s);
    static struct catalogue_list list;
    struct catalogue_request r = world_request(&t->w, CATALOGUE_LIST_MARKS, "");
    r.list = &list;
    assert_int_equal(world_ask(&t->w, &r), 0);
    for (uint32_t i = 0; i < list.count; i++)
        n += (size_t)snprintf(out + n, room - n, "%s; ", list.rows[i].name);
    for (uint32_t i = 0; i < LOG_SEGMENTS; i++)
        n += (size_t)snprintf(out + n, room - n, "%c", t->log.segments[i] ? '1' : '0');
    assert_true(n < room);
}

/* Nothing durable speaks of what the log has lost (test_check after a power cut cannot see it, as
 * the numbers have jumped). */
static void check_promises(struct test *t, uint64_t durable) {
    struct catalogue_snapshot *s = world_snapshot(&t->w);
    for (uint32_t i = 0; i < s->timeline_count; i++)
        assert_true(s->timelines[i].fork_sequence <= durable);
    catalogue_snapshot_free(s);
    static struct catalogue_list list;
    struct catalogue_request r = world_request(&t->w, CATALOGUE_LIST_MARKS, "");
    r.list = &list;
    assert_int_equal(world_ask(&t->w, &r), 0);
    for (uint32_t i = 0; i < list.count; i++)
        assert_true(list.rows[i].sequence <= durable);
}

static void take(struct test *t, const struct step *s, uint64_t base) {
    struct admin_request q = request_of(s, base);
    uint32_t deaths = t->deaths;
    uint64_t durable = t->log.durable;
    struct test_answer *a = test_begin(t, &q);
    while (operation_used(&t->arena) > 0) {
        durable = t->log.durable;
        test_turn(t);
        if (t->deaths > deaths && t->power_cut)
            break;
        assert_true(t->turns < 20000);
    }
    if (t->deaths > deaths && t->power_cut)
        check_promises(t, durable);
    if (a->taken) {
        assert_answer(a, 0);
    } else {
        a = test_begin(t, &q); /* the asker asks again */
        test_settle(t);
        assert_answer(a, a->error == s->again ? s->again : 0);
    }
    /* A purge that lost power after its commit left the segments to the sweep of the cold start. */
    if (t->deaths > deaths) {
        admin_sweep(&t->ad);
        test_settle(t);
    }
}

static uint64_t run(uint64_t seed, uint64_t kill_turn, int before_commit, int power_cut, char *out,
                    size_t room) {
    struct test *t = test_start(seed);
    t->lazy = 1;
    t->kill_turn = kill_turn;
    t->kill_before_commit = before_commit;
    t->power_cut = power_cut;
    uint64_t base = 0;
    for (size_t i = 0; i < STEPS; i++) {
        take(t, &script[i], base);
        test_check(t);
        if (i == 1) {
            base = t->log.recorded;
            test_write(t, 40);
            for (uint32_t k = 0; k < 20; k++)
                t->log.segments[k] = test_line(t, k % 2 ? "u" : "v")->family;
            t->committed = t->log;
        }
    }
    describe(t, out, room);
    uint64_t turns = t->turns;
    assert_true(t->deaths == (kill_turn > 0 && kill_turn <= turns));
    test_end(t);
    return turns;
}

static void at_every_turn(int before_commit, int power_cut) {
    char expected[4096], got[4096];
    uint64_t turns = run(1, 0, 0, 0, expected, sizeof expected);
    assert_true(turns > 60);
    uint32_t deaths = 0;
    for (uint64_t kill = 1; kill <= turns; kill++, deaths++) {
        if (run(1, kill, before_commit, power_cut, got, sizeof got) < kill)
            break;
        if (strcmp(got, expected) != 0)
            fail_msg("a death at turn %u:\n%s\n%s", (unsigned)kill, got, expected);
    }
    assert_true(deaths > 60);
}

static void killed_before_the_commit(void **state) {
    at_every_turn(1, 0);
}

static void killed_after_the_commit(void **state) {
    at_every_turn(0, 0);
}

static void power_lost(void **state) {
    at_every_turn(0, 1);
}

static void other_schedules(void **state) {
    char expected[4096], got[4096];
    run(1, 0, 0, 0, expected, sizeof expected);
    for (uint64_t seed = 2; seed < 80; seed++) {
        struct prng p = prng_seed(seed);
        run(seed, 1 + prng_below(&p, 100), prng_one_in(&p, 2), prng_one_in(&p, 3), got, sizeof got);
        if (strcmp(got, expected) != 0)
            fail_msg("seed %u:\n%s\n%s", (unsigned)seed, got, expected);
    }
}

/* A thousand restores, each on top of the last: numbers, parents and forks through a cold start. */
static void a_chain_of_a_thousand(void **state) {
    struct test *t = test_start(5);
    test_create(t, "v");
    uint32_t line = test_line(t, "v")->id;
    for (uint32_t i = 0; i < 1000; i++) {
        test_write(t, 2);
        struct admin_request q = test_request(OPERATION_RESTORE, "v");
        q.moment_kind = OPERATION_AT_SEQUENCE;
        q.moment = t->log.recorded - 1;
        t->next_reply = 1;
        assert_answer(test_ask(t, &q), 0);
        assert_int_equal(test_line(t, "v")->parent, line);
        assert_int_equal(test_line(t, "v")->fork_sequence, q.moment);
        assert_true(test_line(t, "v")->id > line);
        line = test_line(t, "v")->id;
    }
    t->power_cut = 1;
    test_die(t);
    assert_int_equal(test_line(t, "v")->id, line);
    assert_int_equal(timeline_used(&t->arena), 1001);
    test_end(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_before_the_commit),
        cmocka_unit_test(killed_after_the_commit),
        cmocka_unit_test(power_lost),
        cmocka_unit_test(other_schedules),
        cmocka_unit_test(a_chain_of_a_thousand),
    };
    return cmocka_run_group_tests_name("admin_kill", tests, NULL, NULL);
}
