/* SPDX-License-Identifier: Apache-2.0 */
/* What each operation does, refuses and leaves behind. */
#include "engine/admin_priv.h"
#include "engine/admin_world_test.h"
#include "engine/clean/clean.h"

static struct admin_request named(enum operation_kind kind, const char *volume, const char *name) {
    struct admin_request q = test_request(kind, volume);
    snprintf(q.name, sizeof q.name, "%s", name);
    snprintf(q.image, sizeof q.image, "%s", name);
    return q;
}

static struct admin_request at(enum operation_kind kind, const char *volume,
                               enum operation_moment moment_kind, uint64_t moment) {
    struct admin_request q = test_request(kind, volume);
    q.moment_kind = moment_kind;
    q.moment = moment;
    return q;
}

static void create_refuses(void **state) {
    static const struct {
        const char *name;
        uint64_t size;
        uint32_t block;
        int error;
    } cases[] = {
        {"a", 1 << 20, 512, 0},
        {"a", 1 << 20, 512, ERR_EXISTS},
        {"", 4096, 4096, ERR_INVAL},
        {"A", 4096, 4096, ERR_INVAL},
        {"a.b", 4096, 4096, ERR_INVAL},
        {"a@b", 4096, 4096, ERR_INVAL},
        {"b", 0, 4096, ERR_INVAL},
        {"b", 4097, 512, ERR_INVAL},
        {"b", 4096, 1024, ERR_INVAL},
        {"b", ADMIN_VOLUME_BYTES_MAX + 4096, 4096, ERR_TOOBIG},
        {"b", ADMIN_VOLUME_BYTES_MAX, 4096, 0},
        {"0123456789012345678901234567890123456789012345678901234567890ab", 4096, 4096, 0},
    };
    struct test *t = test_start(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct admin_request q = named(OPERATION_VOLUME_CREATE, NULL, cases[i].name);
        q.size_bytes = cases[i].size;
        q.block_size = cases[i].block;
        const struct test_answer *a = test_ask(t, &q);
        assert_answer(a, cases[i].error);
        assert_int_equal(a->detail[0] != 0, cases[i].error != 0);
        test_check(t);
    }
    /* A name that is being taken by another operation is refused by the catalogue. */
    struct admin_request q = named(OPERATION_VOLUME_CREATE, NULL, "c"), p = q;
    q.size_bytes = p.size_bytes = 4096;
    struct test_answer *first = test_begin(t, &q), *second = test_begin(t, &p);
    test_settle(t);
    assert_answer(first, 0);
    assert_answer(second, ERR_EXISTS);
    test_check(t);
    test_end(t);
}

static void resize(void **state) {
    struct test *t = test_start(2);
    test_create(t, "v");
    struct admin_request q = test_request(OPERATION_VOLUME_RESIZE, "v");
    q.size_bytes = 512 << 10;
    assert_answer(test_ask(t, &q), ERR_REFUSED); /* smaller */
    q.flags = OPERATION_FORCE;
    assert_answer(test_ask(t, &q), 0);
    assert_int_equal(test_volume(t, "v")->size_bytes, 512 << 10);
    const struct log_append *r = &t->log.records[t->log.count - 1].r;
    assert_int_equal(r->kind, PLACE_HOLE);
    assert_int_equal(r->block, 128);
    assert_int_equal(r->blocks, 128);
    uint64_t small = t->log.recorded;
    /* Growing makes the new room zeroes, durably, before the catalogue knows of it. */
    q.flags = 0;
    q.size_bytes = 2 << 20;
    assert_answer(test_ask(t, &q), 0);
    r = &t->log.records[t->log.count - 1].r;
    assert_int_equal(r->block, 128);
    assert_int_equal(r->blocks, 512 - 128);
    assert_true(t->log.durable >= t->log.records[t->log.count - 1].sequence);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    test_check(t);
    /* Past moments keep their sizes. */
    static const struct {
        int after;
        uint64_t size;
    } cases[] = {{-1, 1 << 20}, {0, 512 << 10}, {1, 2 << 20}};
    for (int i = 0; i < 3; i++) {
        struct admin_request o =
            at(OPERATION_IMAGE_OPEN, "v", OPERATION_AT_SEQUENCE, small + (uint64_t)cases[i].after);
        const struct test_answer *a = test_ask(t, &o);
        assert_answer(a, 0);
        struct volume_h image = volumes_find_image(&t->arena, "v", a->made);
        assert_int_equal(volume_view(&t->arena, image)->size_bytes, cases[i].size);
    }
    test_check(t);
    test_end(t);
}

static void trash(void **state) {
    struct test *t = test_start(3);
    test_create(t, "v");
    struct volume_h h = volumes_find(&t->arena, "v");
    volume_edit(&t->arena, h)->users = 2;
    arena_commit(&t->arena);
    struct admin_request q = test_request(OPERATION_VOLUME_DELETE, "v");
    const struct test_answer *a = test_ask(t, &q);
    assert_answer(a, ERR_REFUSED);
    assert_string_equal(a->detail, "2 connections use v");
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    q.flags = OPERATION_FORCE;
    assert_answer(test_ask(t, &q), 0);
    assert_int_equal(t->evicted, 1);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_DELETED);
    test_check(t);
    struct admin_request c = named(OPERATION_VOLUME_CREATE, NULL, "v");
    c.size_bytes = 4096;
    assert_answer(test_ask(t, &c), ERR_EXISTS);
    assert_answer(test_ask(t, &q), ERR_NOTFOUND);
    struct admin_request u = test_request(OPERATION_VOLUME_UNDELETE, "v");
    assert_answer(test_ask(t, &u), 0);
    assert_answer(test_ask(t, &u), ERR_INVAL);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    struct admin_request s = test_request(OPERATION_VOLUME_SET, "v");
    s.flags = OPERATION_DURABLE_WRITES;
    assert_answer(test_ask(t, &s), 0);
    assert_int_equal(test_volume(t, "v")->flags, VOLUME_DURABLE_WRITES);
    test_check(t);
    test_end(t);
}

static int is_gone(struct test *t, uint64_t after_s) {
    for (uint64_t s = 0; s < after_s; s += 5) {
        sim_advance(t->w.sim, 5 * NS_PER_S);
        test_turn(t);
    }
    test_settle(t);
    return test_volume(t, "v") == NULL;
}

/* For as long as the volume was to retain its past. */
static void the_trash_is_emptied(void **state) {
    static const struct {
        uint64_t retain_s;
        int held, suspect, undeleted, goes;
    } cases[] = {
        {60, 0, 0, 0, 1}, /* 1 */
        {0, 0, 0, 0, 0},  /* 2: for ever */
        {60, 1, 0, 0, 0}, /* 3: a mark holds */
        {60, 0, 1, 0, 0}, /* 4: nobody knows what time it is */
        {60, 0, 0, 1, 0}, /* 5: it was taken out again */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct test *t = test_start(70 + i);
        test_create(t, "u");
        test_create(t, "v");
        struct admin_request q = test_request(OPERATION_VOLUME_SET, "v");
        q.flags = OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN;
        q.retain_ns = cases[i].retain_s * NS_PER_S;
        assert_answer(test_ask(t, &q), 0);
        struct admin_request m = named(OPERATION_MARK, "v", "m");
        m.flags = cases[i].held ? OPERATION_KEEP : 0;
        assert_answer(test_ask(t, &m), 0);
        q = test_request(OPERATION_VOLUME_DELETE, "v");
        assert_answer(test_ask(t, &q), 0);
        t->clock_suspect = cases[i].suspect;
        assert_false(is_gone(t, 50));
        q = test_request(OPERATION_VOLUME_UNDELETE, "v");
        if (cases[i].undeleted)
            assert_answer(test_ask(t, &q), 0);
        assert_int_equal(is_gone(t, 60), cases[i].goes);
        assert_non_null(test_volume(t, "u"));
        test_check(t);
        test_end(t);
    }
}

/* What a volume is to keep: in its slot at once, and after a cold start. */
static void policies(void **state) {
    static const struct {
        uint32_t flags;
        uint64_t ns, bytes; /* asked for */
        int error;
        uint64_t retain_ns, retain_bytes; /* then */
        uint32_t volume_flags;
    } cases[] = {
        {OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN, 90 * NS_PER_S, 1, 0, 90 * NS_PER_S, 7,
         VOLUME_DURABLE_WRITES}, /* 1 */
        {OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN_BYTES, 1, 8, ERR_INVAL, 90 * NS_PER_S, 7,
         VOLUME_DURABLE_WRITES}, /* 2: less than a minute */
        {OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN_BYTES, 0, UINT64_MAX, ERR_TOOBIG,
         90 * NS_PER_S, 7, VOLUME_DURABLE_WRITES}, /* 3 */
        {OPERATION_KEEP_DURABILITY | OPERATION_SET_RETAIN_BYTES, 0, 8, 0, 90 * NS_PER_S, 8,
         VOLUME_DURABLE_WRITES},                  /* 4 */
        {0, 0, 0, 0, 90 * NS_PER_S, 8, 0},        /* 5: just the durability */
        {OPERATION_SET_RETAIN, 0, 0, 0, 0, 8, 0}, /* 6: for ever */
    };
    struct test *t = test_start(31);
    struct admin_request q = named(OPERATION_VOLUME_CREATE, NULL, "v");
    q.size_bytes = 1 << 20;
    q.block_size = 512;
    q.flags = OPERATION_DURABLE_WRITES;
    q.retain_ns = NS_PER_S - 1;
    assert_answer(test_ask(t, &q), ERR_INVAL);
    q.retain_ns = 60 * NS_PER_S;
    q.retain_bytes = 7;
    assert_answer(test_ask(t, &q), 0);
    assert_int_equal(test_volume(t, "v")->retain_ns, 60 * NS_PER_S);
    assert_int_equal(test_volume(t, "v")->retain_bytes, 7);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct admin_request s = test_request(OPERATION_VOLUME_SET, "v");
        s.flags = cases[i].flags;
        s.retain_ns = cases[i].ns;
        s.retain_bytes = cases[i].bytes;
        assert_answer(test_ask(t, &s), cases[i].error);
        for (int cold = 0; cold < 2; cold++) {
            const struct volume *v = test_volume(t, "v");
            assert_int_equal(v->retain_ns, cases[i].retain_ns);
            assert_int_equal(v->retain_bytes, cases[i].retain_bytes);
            assert_int_equal(v->flags, cases[i].volume_flags);
            t->power_cut = 1;
            if (cold == 0)
                test_die(t);
        }
    }
    test_end(t);
}

static void delete_now_frees_segments(void **state) {
    struct test *t = test_start(4);
    int waits = 0;
    t->lazy = 1;
    test_create(t, "v");
    test_create(t, "u");
    uint32_t v = test_line(t, "v")->family, u = test_line(t, "u")->family;
    for (uint32_t i = 0; i < LOG_SEGMENTS; i++)
        t->log.segments[i] = i % 3 == 0 ? u : v;
    t->committed = t->log;
    struct admin_request q = test_request(OPERATION_VOLUME_DELETE, "v");
    assert_answer(test_ask(t, &q), 0); /* also out of the trash */
    q.flags = OPERATION_NOW;
    const struct test_answer *a = test_begin(t, &q);
    while (operation_used(&t->arena) > 0) {
        test_turn(t);
        /* Who waits for the catalogue wants no turn before its answer. */
        struct operation_h h = operation_next(&t->arena, (struct operation_h){0});
        if (h.v && admin_pending(&t->ad, h)->catalogue == ADMIN_ASKED) {
            assert_int_equal(admin_turn(&t->ad), 0);
            waits++;
        }
    }
    assert_true(waits > 2);
    assert_answer(a, 0);
    assert_int_equal(a->results[3], (uint64_t)200 * LOG_SEGMENT_BYTES);
    assert_int_equal(t->log.freed, 200);
    assert_null(test_volume(t, "v"));
    for (uint32_t i = 0; i < LOG_SEGMENTS; i++)
        assert_int_equal(t->log.segments[i], i % 3 == 0 ? u : 0);
    struct catalogue_snapshot *s = world_snapshot(&t->w);
    assert_int_equal(s->freed_count, 200);
    catalogue_snapshot_free(s);
    /* A segment that is sealed later is found by the next sweep. */
    t->log.segments[1] = v;
    t->committed = t->log;
    admin_sweep(&t->ad);
    admin_sweep(&t->ad);
    assert_int_equal(operation_used(&t->arena), 1);
    test_settle(t);
    assert_int_equal(t->log.segments[1], 0);
    test_check(t);
    admin_forget_segment(&t->ad, 2);
    admin_forget_segment(&t->ad, 3);
    for (int i = 0; i < 20; i++)
        test_turn(t);
    s = world_snapshot(&t->w);
    assert_int_equal(s->freed_count, 198);
    assert_int_equal(s->freed[0], 5);
    catalogue_snapshot_free(s);
    test_end(t);
}

static void images(void **state) {
    struct test *t = test_start(5);
    test_create(t, "v");
    test_create(t, "u");
    test_write(t, 50);
    struct admin_request q = named(OPERATION_IMAGE_OPEN, "v", "i");
    snprintf(q.volumes[1], sizeof q.volumes[1], "u");
    q.volume_count = 2;
    q.flags = OPERATION_WRITABLE;
    const struct test_answer *a = test_ask(t, &q); /* now, which is not durable yet */
    assert_answer(a, 0);
    assert_int_equal(a->results[0], t->log.recorded);
    assert_true(t->log.durable >= a->results[0]);
    struct volume_h h = volumes_find_image(&t->arena, "u", "i");
    assert_int_not_equal(h.v, 0);
    assert_int_equal(volume_view(&t->arena, h)->flags, VOLUME_IMAGE);
    const struct timeline *line = timeline_view(&t->arena, volume_view(&t->arena, h)->timeline);
    assert_int_equal(line->parent, test_line(t, "u")->id);
    assert_int_equal(line->fork_sequence, a->results[0]);
    test_check(t);
    assert_answer(test_ask(t, &q), ERR_EXISTS);
    struct admin_request p = named(OPERATION_IMAGE_PROMOTE, NULL, "i");
    snprintf(p.name, sizeof p.name, "w");
    assert_answer(test_ask(t, &p), ERR_INVAL); /* two volumes */
    volume_edit(&t->arena, h)->users = 1;
    arena_commit(&t->arena);
    struct admin_request c = named(OPERATION_IMAGE_CLOSE, NULL, "i");
    assert_answer(test_ask(t, &c), ERR_REFUSED);
    c.flags = OPERATION_FORCE;
    assert_answer(test_ask(t, &c), 0);
    assert_answer(test_ask(t, &c), ERR_NOTFOUND);
    test_check(t);
    /* Promote: the volume has its source's past. */
    q = named(OPERATION_IMAGE_OPEN, "v", "j");
    assert_answer(test_ask(t, &q), 0);
    p = named(OPERATION_IMAGE_PROMOTE, NULL, "j");
    snprintf(p.name, sizeof p.name, "v");
    assert_answer(test_ask(t, &p), ERR_EXISTS);
    snprintf(p.name, sizeof p.name, "w");
    assert_answer(test_ask(t, &p), 0);
    assert_int_equal(test_volume(t, "w")->flags, 0);
    assert_int_equal(test_volume(t, "w")->slot.state, VOLUME_ONLINE);
    assert_int_equal(volumes_find_image(&t->arena, "v", "j").v, 0);
    test_check(t);
    struct admin_request o = at(OPERATION_IMAGE_OPEN, "w", OPERATION_AT_SEQUENCE, 30);
    a = test_ask(t, &o);
    assert_answer(a, 0);
    h = volumes_find_image(&t->arena, "w", a->made);
    line = timeline_view(&t->arena, volume_view(&t->arena, h)->timeline);
    assert_int_equal(line->parent, test_line(t, "v")->id);
    test_check(t);
    test_end(t);
}

static void images_end_by_themselves(void **state) {
    struct test *t = test_start(6);
    test_create(t, "v");
    test_write(t, 50);
    struct admin_request q = at(OPERATION_IMAGE_OPEN, "v", OPERATION_AT_SEQUENCE, 30);
    q.flags = OPERATION_ON_DEMAND;
    const struct test_answer *a = test_ask(t, &q), *b;
    assert_answer(a, 0);
    b = test_ask(t, &q); /* the same moment: the same image */
    assert_answer(b, 0);
    assert_string_equal(a->made, b->made);
    q.flags = OPERATION_ON_DEMAND | OPERATION_WRITABLE;
    b = test_ask(t, &q);
    assert_answer(b, 0);
    assert_string_not_equal(a->made, b->made);
    struct admin_request lease = named(OPERATION_IMAGE_OPEN, "v", "leased");
    lease.lease_ns = 60 * NS_PER_S;
    assert_answer(test_ask(t, &lease), 0);
    assert_int_equal(volume_used(&t->arena), 4);
    test_check(t);
    struct volume_h h = volumes_find_image(&t->arena, "v", a->made);
    volume_edit(&t->arena, h)->users = 1;
    arena_commit(&t->arena);
    for (int i = 0; i < 3; i++) {
        t->store_ns += 20 * NS_PER_S;
        sim_advance(t->w.sim, 2 * NS_PER_S);
        test_turn(t);
        test_settle(t);
        assert_int_equal(volume_used(&t->arena), i < 2 ? 3 : 2);
    }
    volume_edit(&t->arena, h)->users = 0;
    arena_commit(&t->arena);
    sim_advance(t->w.sim, 2 * NS_PER_S);
    test_turn(t);
    test_settle(t);
    assert_int_equal(volume_used(&t->arena), 1);
    assert_int_equal(timeline_used(&t->arena), 1);
    test_check(t);
    test_end(t);
}

static void restore_and_undo(void **state) {
    struct test *t = test_start(7);
    test_create(t, "v");
    test_create(t, "u");
    uint32_t first = test_line(t, "v")->id;
    test_write(t, 50);
    struct admin_request q = at(OPERATION_RESTORE, "v", OPERATION_AT_TIME, 30 * NS_PER_S);
    snprintf(q.volumes[1], sizeof q.volumes[1], "u");
    q.volume_count = 2;
    q.flags = OPERATION_DRY_RUN;
    uint64_t before = t->log.recorded;
    const struct test_answer *a = test_ask(t, &q);
    assert_answer(a, 0);
    assert_int_equal(a->results[0], 30);
    assert_int_equal(a->results[2], before);
    assert_int_equal(test_line(t, "v")->id, first);
    q.flags = 0;
    volume_edit(&t->arena, volumes_find(&t->arena, "u"))->users = 1;
    arena_commit(&t->arena);
    assert_answer(test_ask(t, &q), ERR_REFUSED);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    q.flags = OPERATION_FORCE;
    a = test_ask(t, &q);
    assert_answer(a, 0);
    assert_int_equal(a->results[2], before);
    assert_true(t->log.durable >= before);
    assert_int_equal(test_line(t, "v")->parent, first);
    assert_int_equal(test_line(t, "v")->fork_sequence, 30);
    assert_int_equal(test_line(t, "v")->first_sequence, before + 1);
    assert_int_equal(test_volume(t, "u")->users, 1);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    /* Its first records have numbers of their own, so a time after it means the new timeline. */
    assert_int_equal(t->log.recorded, before + 2);
    assert_int_equal(t->log.records[t->log.count - 1].r.block, 256);
    test_check(t);
    uint32_t second = test_line(t, "v")->id;
    test_write(t, 10);
    struct admin_request undo = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, before);
    a = test_ask(t, &undo);
    assert_answer(a, 0);
    assert_int_equal(test_line(t, "v")->parent, first);
    assert_int_equal(test_line(t, "v")->fork_sequence, before);
    struct admin_request redo = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, a->results[2]);
    assert_answer(test_ask(t, &redo), 0);
    assert_int_equal(test_line(t, "v")->parent, second);
    test_check(t);
    test_end(t);
}

static void restore_of_a_range(void **state) {
    static const struct {
        uint64_t offset, length;
        int error;
    } cases[] = {
        {0, 0, ERR_INVAL},          {512, 4096, ERR_INVAL},
        {4096, 100, ERR_INVAL},     {1 << 20, 4096, ERR_RANGE},
        {4096, 1 << 20, ERR_RANGE}, {UINT64_MAX - 4095, 8192, ERR_RANGE},
        {8192, 16384, 0},
    };
    struct test *t = test_start(8);
    test_create(t, "v");
    test_write(t, 50);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct admin_request q = at(OPERATION_RESTORE_RANGE, "v", OPERATION_AT_SEQUENCE, 30);
        q.offset_bytes = cases[i].offset;
        q.length_bytes = cases[i].length;
        assert_answer(test_ask(t, &q), cases[i].error);
    }
    const struct log_append *r = &t->log.records[t->log.count - 1].r;
    assert_int_equal(r->kind, PLACE_REFERENCE);
    assert_int_equal(r->block, 2);
    assert_int_equal(r->blocks, 4);
    assert_int_equal(r->ref_timeline, test_line(t, "v")->id);
    assert_int_equal(r->ref_sequence, 30);
    assert_int_equal(t->log.durable, t->log.recorded);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    test_check(t);
    test_end(t);
}

static void marks_and_moments(void **state) {
    struct test *t = test_start(9);
    test_create(t, "v");
    test_create(t, "u");
    test_write(t, 50);
    struct admin_request q = named(OPERATION_MARK, "v", "Before_1.0");
    const struct test_answer *a = test_ask(t, &q);
    assert_answer(a, 0);
    uint64_t marked = a->results[0];
    assert_int_equal(marked, t->log.recorded);
    assert_true(t->log.durable >= marked);
    test_write(t, 50);
    struct admin_request o = at(OPERATION_IMAGE_OPEN, "v", OPERATION_AT_MARK, 0);
    snprintf(o.label, sizeof o.label, "Before_1.0");
    a = test_ask(t, &o);
    assert_answer(a, 0);
    assert_int_equal(a->results[0], marked);
    snprintf(o.volumes[0], sizeof o.volumes[0], "u");
    assert_answer(test_ask(t, &o), ERR_NOTFOUND);
    struct admin_request d = named(OPERATION_MARK_DELETE, "v", "Before_1.0");
    assert_answer(test_ask(t, &d), 0);
    assert_answer(test_ask(t, &d), ERR_NOTFOUND);
    static const struct {
        enum operation_moment kind;
        uint64_t moment;
        int error;
    } cases[] = {
        {OPERATION_AT_SEQUENCE, 1, ERR_RANGE}, /* before the volume */
        {OPERATION_AT_SEQUENCE, 0, ERR_RANGE}, /* before everything */
        {OPERATION_AT_SEQUENCE, 100000, ERR_RANGE}, {OPERATION_AT_TIME, UINT64_MAX, ERR_RANGE},
        {OPERATION_AT_TIME, 40 * NS_PER_S + 5, 0},  {OPERATION_AT_NOW, 0, 0},
    };
    struct admin_request twice = at(OPERATION_IMAGE_OPEN, "v", OPERATION_AT_TIME, TEST_TWICE_NS);
    a = test_ask(t, &twice);
    assert_answer(a, ERR_AMBIGUOUS);
    assert_string_equal(a->detail, "the clock was set back and showed this time twice; write "
                                   "\"seq:3\" or \"seq:7\"");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct admin_request m = at(OPERATION_IMAGE_OPEN, "v", cases[i].kind, cases[i].moment);
        a = test_ask(t, &m);
        assert_answer(a, cases[i].error);
        assert_int_equal(a->detail[0] != 0, cases[i].error != 0);
    }
    test_check(t);
    test_end(t);
}

/* The first moment of each volume opens by its number, and none before it does; restores leave it, a
 * promoted volume has its source's, and a cold start knows it. */
static void the_oldest_moment_opens(void **state) {
    struct test *t = test_start(14);
    test_create(t, "v");
    uint64_t first = test_volume(t, "v")->oldest_sequence;
    uint64_t first_ns = test_volume(t, "v")->oldest_ns;
    assert_int_equal(first_ns, test_volume(t, "v")->created_ns);
    test_write(t, 50);
    sim_advance(t->w.sim, NS_PER_S);
    struct admin_request r = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, 30);
    assert_answer(test_ask(t, &r), 0);
    r.flags = OPERATION_DESTRUCTIVE;
    assert_answer(test_ask(t, &r), 0);
    struct admin_request o = named(OPERATION_IMAGE_OPEN, "v", "i");
    assert_answer(test_ask(t, &o), 0);
    struct admin_request p = named(OPERATION_IMAGE_PROMOTE, NULL, "i");
    snprintf(p.name, sizeof p.name, "w");
    assert_answer(test_ask(t, &p), 0);
    /* Another volume's request is half recorded when u is made. */
    uint64_t begun = t->log.recorded + 1;
    test_create(t, "u");
    test_write(t, 5);
    t->request_first = begun;
    t->request_last = begun + 4;
    assert_int_equal(test_volume(t, "u")->oldest_sequence, begun);
    t->power_cut = 1;
    for (int life = 0; life < 2; life++) {
        static const char *const names[] = {"v", "w", "u"};
        for (int i = 0; i < 3; i++) {
            const struct volume *v = test_volume(t, names[i]);
            uint64_t oldest = v->oldest_sequence;
            assert_int_equal(oldest, i < 2 ? first : begun);
            assert_int_equal(v->oldest_ns, i < 2 ? first_ns : v->created_ns);
            for (uint64_t n = 0; n < 4; n++) {
                struct admin_request q =
                    at(OPERATION_IMAGE_OPEN, names[i], OPERATION_AT_SEQUENCE, oldest + n - 1);
                const struct test_answer *a = test_ask(t, &q);
                assert_answer(a, n == 0 ? ERR_RANGE : 0);
                if (n > 0)
                    assert_int_equal(a->results[0], i < 2 ? oldest + n - 1 : oldest);
            }
        }
        test_check(t);
        test_settle(t);
        t->log.durable = t->committed.durable = t->log.recorded;
        if (life == 0)
            test_die(t);
    }
    test_end(t);
}

static uint16_t image_state(struct test *t, const char *volume, const char *image) {
    struct volume_h h = volumes_find_image(&t->arena, volume, image);
    return volume_view(&t->arena, h)->slot.state;
}

static void loss(void **state) {
    struct test *t = test_start(10);
    test_create(t, "v");
    test_create(t, "u");
    /* Images that are only read are whole. */
    static const struct {
        const char *volume, *image;
        uint32_t flags;
        uint16_t state;
    } images[] = {{"v", "past", 0, VOLUME_ONLINE},
                  {"v", "draft", OPERATION_WRITABLE, VOLUME_LOST},
                  {"v", "done", OPERATION_WRITABLE, VOLUME_LOST},
                  {"u", "other", OPERATION_WRITABLE, VOLUME_LOST},
                  {"gone", "left", OPERATION_WRITABLE, VOLUME_LOST}};
    test_create(t, "gone");
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++) {
        struct admin_request o = named(OPERATION_IMAGE_OPEN, images[i].volume, images[i].image);
        o.flags = images[i].flags;
        assert_answer(test_ask(t, &o), 0);
    }
    struct admin_request away = test_request(OPERATION_VOLUME_DELETE, "gone");
    assert_answer(test_ask(t, &away), 0);
    admin_declare_loss(&t->ad, 3, 5);
    t->power_cut = 1;
    for (int i = 0; i < 2; i++) { /* it is remembered */
        test_settle(t);
        assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_LOST);
        assert_int_equal(test_volume(t, "u")->slot.state, VOLUME_LOST);
        for (size_t k = 0; k < sizeof images / sizeof images[0]; k++)
            assert_int_equal(image_state(t, images[k].volume, images[k].image), images[k].state);
        test_check(t);
        if (i == 0)
            test_die(t);
    }
    struct admin_request c = named(OPERATION_IMAGE_CLOSE, NULL, "done");
    assert_answer(test_ask(t, &c), 0);
    struct admin_request p = named(OPERATION_IMAGE_PROMOTE, NULL, "draft");
    snprintf(p.name, sizeof p.name, "w");
    assert_answer(test_ask(t, &p), ERR_REFUSED);
    struct admin_request r = at(OPERATION_RESTORE, "v", OPERATION_AT_NOW, 0);
    const struct test_answer *a = test_ask(t, &r);
    assert_answer(a, ERR_REFUSED);
    assert_string_equal(a->detail, "v waits for accept-loss");
    struct admin_request q = test_request(OPERATION_ACCEPT_LOSS, "v");
    assert_answer(test_ask(t, &q), 0);
    assert_answer(test_ask(t, &q), ERR_INVAL);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    assert_int_equal(test_volume(t, "u")->slot.state, VOLUME_LOST);
    assert_int_equal(image_state(t, "v", "draft"), VOLUME_ONLINE);
    assert_int_equal(image_state(t, "u", "other"), VOLUME_LOST);
    test_check(t);
    /* What the trash has lost is told when it comes out of it. */
    struct admin_request back = test_request(OPERATION_VOLUME_UNDELETE, "gone");
    assert_answer(test_ask(t, &back), 0);
    assert_int_equal(test_volume(t, "gone")->slot.state, VOLUME_LOST);
    assert_answer(test_ask(t, &away), 0);
    snprintf(q.volumes[0], sizeof q.volumes[0], "gone");
    assert_answer(test_ask(t, &q), 0);
    assert_int_equal(test_volume(t, "gone")->slot.state, VOLUME_DELETED);
    assert_int_equal(image_state(t, "gone", "left"), VOLUME_ONLINE);
    test_check(t);
    test_end(t);
}

/* What cannot be recorded is refused before the catalogue hears of it. */
static void without_room_nothing_is_committed(void **state) {
    struct test *t = test_start(13);
    test_create(t, "v");
    test_write(t, 50);
    struct admin_request i = named(OPERATION_IMAGE_OPEN, "v", "i");
    struct admin_request c = named(OPERATION_VOLUME_CREATE, NULL, "w");
    struct admin_request r = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, 30);
    struct admin_request range = at(OPERATION_RESTORE_RANGE, "v", OPERATION_AT_SEQUENCE, 30);
    struct admin_request p = named(OPERATION_IMAGE_PROMOTE, NULL, "i");
    struct admin_request m = named(OPERATION_MARK, "v", "m");
    struct admin_request d = test_request(OPERATION_VOLUME_DELETE, "v");
    c.size_bytes = range.length_bytes = 4096;
    t->log_room = ERR_NOSPC;
    assert_answer(test_ask(t, &i), 0); /* needs none */
    uint64_t generation = catalogue_generation(&t->w.c);
    struct admin_request *const need[] = {&c, &r, &range, &p};
    for (size_t k = 0; k < 4; k++) {
        assert_answer(test_ask(t, need[k]), ERR_NOSPC);
        assert_int_equal(catalogue_generation(&t->w.c), generation);
        test_check(t);
    }
    assert_answer(test_ask(t, &m), 0);
    assert_answer(test_ask(t, &d), 0);
    test_check(t);
    test_end(t);
}

static void one_holder_at_a_time(void **state) {
    struct test *t = test_start(11);
    t->lazy = 1;
    test_create(t, "v");
    test_write(t, 20);
    struct admin_request r = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, 20), r2 = r;
    struct admin_request d = test_request(OPERATION_VOLUME_DELETE, "v");
    struct test_answer *a = test_begin(t, &r), *b = test_begin(t, &r2), *c = test_begin(t, &d);
    test_settle(t);
    int done = (a->error == 0) + (b->error == 0) + (c->error == 0);
    int busy = (a->error == ERR_BUSY) + (b->error == ERR_BUSY) + (c->error == ERR_BUSY);
    assert_true(done >= 1 && done + busy == 3);
    test_check(t);
    test_end(t);
}

/* A deletion for good that an open image forbids, beside what takes the volume out of the trash, or
 * accepts its loss, or closes its image: whatever the order, the volume is as the catalogue says, and
 * of use. */
static void a_purge_that_is_refused_leaves_no_trace(void **state) {
    static const struct {
        enum operation_kind beside;
        uint16_t before;
        int purge_first, force;
    } cases[] = {
        {OPERATION_VOLUME_UNDELETE, VOLUME_DELETED, 0, 0},
        {OPERATION_VOLUME_UNDELETE, VOLUME_DELETED, 1, 0},
        {OPERATION_ACCEPT_LOSS, VOLUME_LOST, 0, 0},
        {OPERATION_ACCEPT_LOSS, VOLUME_LOST, 1, 0},
        {OPERATION_ACCEPT_LOSS, VOLUME_DELETED, 0, 0},
        {OPERATION_VOLUME_DELETE, VOLUME_ONLINE, 0, 1},
        {OPERATION_VOLUME_DELETE, VOLUME_ONLINE, 1, 1},
        {OPERATION_MARK, VOLUME_ONLINE, 1, 1},
    };
    for (uint64_t i = 0; i < 8 * sizeof cases / sizeof cases[0]; i++) {
        size_t k = i / 8;
        struct test *t = test_start(100 + i);
        test_create(t, "v");
        struct admin_request o = named(OPERATION_IMAGE_OPEN, "v", "i");
        o.flags = OPERATION_WRITABLE;
        assert_answer(test_ask(t, &o), 0);
        struct admin_request d = test_request(OPERATION_VOLUME_DELETE, "v");
        if (cases[k].before == VOLUME_DELETED)
            assert_answer(test_ask(t, &d), 0);
        if (cases[k].beside == OPERATION_ACCEPT_LOSS) {
            admin_declare_loss(&t->ad, 3, 5);
            test_settle(t);
        }
        t->lazy = i % 8 > 0;
        struct admin_request purge = d, beside = named(cases[k].beside, "v", "m");
        purge.flags = OPERATION_NOW | (cases[k].force ? OPERATION_FORCE : 0);
        struct test_answer *p = cases[k].purge_first ? test_begin(t, &purge) : NULL;
        for (uint64_t n = cases[k].purge_first ? i % 4 : 0; n > 0; n--)
            test_turn(t);
        struct test_answer *b = test_begin(t, &beside);
        for (uint64_t n = cases[k].purge_first ? 0 : i % 4; n > 0; n--)
            test_turn(t);
        if (!p)
            p = test_begin(t, &purge);
        test_settle(t);
        assert_true(p->error == ERR_BUSY && (b->error == 0 || b->error == ERR_BUSY));
        test_check(t);
        /* And now one after the other. */
        t->lazy = 0;
        if (b->error == ERR_BUSY)
            assert_answer(test_ask(t, &beside), 0);
        test_check(t);
        struct admin_request u = test_request(OPERATION_VOLUME_UNDELETE, "v");
        if (test_volume(t, "v")->slot.state == VOLUME_DELETED)
            assert_answer(test_ask(t, &u), 0);
        assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
        struct admin_request c = named(OPERATION_IMAGE_CLOSE, NULL, "i");
        assert_answer(test_ask(t, &c), 0);
        assert_answer(test_ask(t, &purge), 0);
        assert_null(test_volume(t, "v"));
        test_check(t);
        test_end(t);
    }
}

/* An image that is being closed, and is not, when its volume's loss is accepted. */
static void a_loss_is_accepted_beside_a_close(void **state) {
    int met = 0;
    for (uint32_t i = 0; i < 40; i += 5) {
        struct test *t = test_start(200);
        test_create(t, "v");
        struct admin_request o = named(OPERATION_IMAGE_OPEN, "v", "i");
        o.flags = OPERATION_WRITABLE;
        assert_answer(test_ask(t, &o), 0);
        admin_declare_loss(&t->ad, 3, 5);
        test_settle(t);
        struct admin_request c = named(OPERATION_IMAGE_CLOSE, NULL, "i");
        struct admin_request a = test_request(OPERATION_ACCEPT_LOSS, "v");
        sim_fault_add(t->w.sim, &(struct sim_fault){.path = "catalogue.db-journal",
                                                    .kind = SIM_WRITE_FAILS,
                                                    .err = ERR_NOSPC,
                                                    .skip = i,
                                                    .count = 1});
        struct test_answer *accepted = test_begin(t, &a), *closed = test_begin(t, &c);
        test_settle(t);
        if (accepted->error == 0 && closed->error == ERR_NOSPC) {
            assert_int_equal(image_state(t, "v", "i"), VOLUME_ONLINE);
            met = 1;
        }
        test_check(t);
        test_end(t);
    }
    assert_true(met);
}

/* Until the log fails, or the disk under the catalogue. */
static void failures_leave_nothing_behind(void **state) {
    struct test *t = test_start(12);
    test_create(t, "v");
    test_write(t, 20);
    t->log_error = ERR_IO;
    struct admin_request r = at(OPERATION_RESTORE, "v", OPERATION_AT_SEQUENCE, 20);
    struct admin_request m = named(OPERATION_MARK, "v", "m");
    assert_answer(test_ask(t, &r), ERR_IO);
    assert_answer(test_ask(t, &m), ERR_IO);
    test_check(t);
    t->log_error = 0;
    sim_fault_add(t->w.sim, &(struct sim_fault){.path = "catalogue.db-journal",
                                                .kind = SIM_WRITE_FAILS,
                                                .err = ERR_NOSPC,
                                                .count = 1});
    assert_answer(test_ask(t, &r), ERR_NOSPC);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_ONLINE);
    test_check(t);
    /* While nobody can tell whether it happened, it is asked again. */
    sim_fault_clear(t->w.sim);
    sim_fault_add(t->w.sim, &(struct sim_fault){.kind = SIM_WRITE_FAILS, .count = 0});
    sim_fault_add(t->w.sim, &(struct sim_fault){.kind = SIM_READ_FAILS, .count = 0});
    struct test_answer *a = test_begin(t, &r);
    test_turn(t);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_HELD);
    struct admin_request later = named(OPERATION_MARK, "v", "later");
    struct test_answer *b = test_begin(t, &later);
    uint64_t before = t->log.recorded;
    for (int i = 0; i < 50; i++) {
        sim_advance(t->w.sim, NS_PER_S);
        test_turn(t);
    }
    assert_int_equal(a->taken, 0);
    assert_int_equal(test_volume(t, "v")->slot.state, VOLUME_HELD);
    sim_fault_clear(t->w.sim);
    sim_advance(t->w.sim, 2 * NS_PER_S);
    test_settle(t);
    assert_answer(a, 0);
    /* A mark of now, asked for meanwhile, is one of after the restore. */
    assert_answer(b, 0);
    assert_true(t->log.recorded > before && b->results[0] > before);
    test_check(t);
    test_end(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_refuses),
        cmocka_unit_test(resize),
        cmocka_unit_test(trash),
        cmocka_unit_test(the_trash_is_emptied),
        cmocka_unit_test(policies),
        cmocka_unit_test(delete_now_frees_segments),
        cmocka_unit_test(images),
        cmocka_unit_test(images_end_by_themselves),
        cmocka_unit_test(restore_and_undo),
        cmocka_unit_test(restore_of_a_range),
        cmocka_unit_test(marks_and_moments),
        cmocka_unit_test(the_oldest_moment_opens),
        cmocka_unit_test(loss),
        cmocka_unit_test(without_room_nothing_is_committed),
        cmocka_unit_test(one_holder_at_a_time),
        cmocka_unit_test(a_purge_that_is_refused_leaves_no_trace),
        cmocka_unit_test(a_loss_is_accepted_beside_a_close),
        cmocka_unit_test(failures_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("admin", tests, NULL, NULL);
}
