/* SPDX-License-Identifier: Apache-2.0 */
/* What each kind of request does and refuses; moments across restores; what is found at an open. */
#include "engine/catalogue/world_test.h"

#include "base/prng.h"
#include "engine/catalogue/db.h"
#include "engine/catalogue/vfs.h"

static int ask_volume(struct world *w, struct catalogue_request *r, enum catalogue_kind kind,
                      const char *name, uint64_t volume) {
    *r = world_request(w, kind, name);
    r->args.volumes[0] = volume;
    r->args.volume_count = 1;
    r->args.sequence = 15;
    return world_ask(w, r);
}

static struct catalogue_object at(struct world *w, uint64_t volume, uint64_t sequence) {
    struct catalogue_request r = world_request(w, CATALOGUE_RESOLVE, "");
    r.args.volumes[0] = volume;
    r.args.volume_count = 1;
    r.args.sequence = sequence;
    int rc = world_ask(w, &r);
    if (rc < 0)
        return (struct catalogue_object){.id = (uint64_t)rc};
    return r.out.objects[0];
}

static struct catalogue_object restore(struct world *w, uint64_t volume, uint64_t sequence,
                                       uint64_t from, uint32_t flags) {
    struct catalogue_request r = world_request(w, CATALOGUE_RESTORE, "");
    r.args.volumes[0] = volume;
    r.args.volume_count = 1;
    r.args.sequence = sequence;
    r.args.from_sequence = from;
    r.args.flags = flags;
    int rc = world_ask(w, &r);
    if (rc < 0)
        return (struct catalogue_object){.id = (uint64_t)rc};
    return r.out.objects[0];
}

static void volumes_by_name(void **state) {
    struct world w;
    struct catalogue_request r;
    world_start(&w, 1);
    struct catalogue_object a = world_create(&w, "a", 1), b = world_create(&w, "b", 5);
    assert_int_not_equal(a.id, b.id);
    assert_int_not_equal(a.line.id, b.line.id);
    assert_int_equal(a.line.family, a.line.id);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_CREATE, "a", 0), ERR_EXISTS);
    assert_string_equal(r.detail, "a volume is called a already");
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_UNDELETE, "", a.id), ERR_NOTFOUND);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_DELETE, "", a.id), 0);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_DELETE, "", a.id), ERR_NOTFOUND);
    assert_string_equal(r.detail, "a is in the trash");
    assert_int_equal(at(&w, a.id, 3).id, (uint64_t)ERR_NOTFOUND);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_CREATE, "a", 0), ERR_EXISTS);
    assert_string_equal(r.detail, "a volume in the trash is called a already");
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_UNDELETE, "", a.id), 0);
    assert_int_equal(at(&w, a.id, 3).line.id, a.line.id);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_DELETE, "", a.id), 0);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_PURGE, "", a.id), 0);
    struct catalogue_object a2 = world_create(&w, "a", 9); /* the name is free, the id is not */
    assert_true(a2.id > b.id && a2.line.id > b.line.id);

    r = world_request(&w, CATALOGUE_VOLUME_SET, "");
    r.args.volumes[0] = a2.id;
    r.args.flags = CATALOGUE_DURABLE_WRITES;
    assert_int_equal(world_ask(&w, &r), 0);
    r = world_request(&w, CATALOGUE_VOLUME_LOST, "");
    r.args.flags = CATALOGUE_SET_LOST;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_LOST, "", b.id), 0);
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->object_count, 2);
    assert_int_equal(s->objects[0].flags, 0);
    assert_int_equal(s->objects[0].is_lost, 0);
    assert_int_equal(s->objects[1].flags, VOLUME_DURABLE_WRITES);
    assert_int_equal(s->objects[1].is_lost, 1);
    catalogue_snapshot_free(s);
    world_end(&w);
}

static void the_same_again_does_nothing(void **state) {
    struct world w;
    world_start(&w, 2);
    struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_CREATE, "v");
    r.args.from_sequence = 1;
    struct catalogue_request again = r, other = r;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(world_ask(&w, &again), 0);
    assert_memory_equal(&r.out, &again.out, sizeof r.out);
    assert_int_equal(again.generation, r.generation);
    other.args.step = 1; /* another step of the same operation is another transaction */
    assert_int_equal(world_ask(&w, &other), ERR_EXISTS);
    /* Older operations are forgotten, but not before CATALOGUE_APPLIED_MAX others. */
    for (uint32_t i = 0; i + 1 < CATALOGUE_APPLIED_MAX; i++) {
        struct catalogue_request free = world_request(&w, CATALOGUE_SEGMENTS_FREE, "");
        free.args.segments[0] = i % 7;
        free.args.segment_count = 1;
        assert_int_equal(world_ask(&w, &free), 0);
    }
    again.detail[0] = 0;
    assert_int_equal(world_ask(&w, &again), 0);
    struct catalogue_request last = world_request(&w, CATALOGUE_SEGMENTS_FREE, "");
    assert_int_equal(world_ask(&w, &last), 0);
    assert_int_equal(world_ask(&w, &again), ERR_EXISTS);
    world_end(&w);
}

/* The oldest moment first, whatever it is kept by, in pages. */
static void pins_are_listed(void **state) {
    static struct catalogue_list list;
    struct world w;
    struct prng p = prng_seed(5);
    world_start(&w, 5);
    struct catalogue_object v = world_create(&w, "v", 1), u = world_create(&w, "u", 1), o;
    struct catalogue_request r;
    uint32_t of_v = 0, seen = 0, seen_v = 0, kinds[4] = {0};
    for (int i = 0; i < 700; i++) {
        char label[16];
        snprintf(label, sizeof label, "m-%d", i);
        r = world_request(&w, CATALOGUE_MARK, label);
        r.args.volumes[0] = i % 3 ? v.id : u.id;
        r.args.volume_count = 1;
        r.args.sequence = 1 + prng_below(&p, 5000);
        r.args.flags = i % 2 ? CATALOGUE_HOLD : 0;
        assert_int_equal(world_ask(&w, &r), 0);
        of_v += i % 2 && i % 3;
    }
    r = world_request(&w, CATALOGUE_IMAGE_OPEN, "picture");
    r.args.volumes[0] = v.id;
    r.args.volume_count = 1;
    r.args.sequence = 2500;
    r.args.moment_ns = 99;
    r.args.lease_ns = 12345;
    assert_int_equal(world_ask(&w, &r), 0);
    o = r.out.objects[0];
    r = world_request(&w, CATALOGUE_REFERENCE, "");
    r.args.volumes[0] = v.id;
    r.args.volume_count = 1;
    r.args.sequence = 1700;
    r.args.from_sequence = 6000;
    r.args.blocks = 8;
    assert_int_equal(world_ask(&w, &r), 0);
    for (int only_v = 0; only_v < 2; only_v++) {
        uint64_t after = 0, newest = 0;
        do {
            r = world_request(&w, CATALOGUE_LIST_PINS, "");
            r.list = &list;
            r.args.after = after;
            r.args.volumes[0] = only_v ? v.id : 0;
            assert_int_equal(world_ask(&w, &r), 0);
            for (uint32_t i = 0; i < list.count; i++) {
                const struct catalogue_row *row = &list.rows[i];
                assert_true(row->sequence >= newest);
                newest = row->sequence;
                kinds[row->pin] += !only_v;
                seen += !only_v;
                seen_v += only_v != 0;
                assert_true(!only_v || row->volume == v.id);
                if (row->pin == CATALOGUE_PIN_IMAGE)
                    assert_true(row->lease_ns == 12345 && row->time_ns == 99 &&
                                strcmp(row->name, o.name) == 0);
                if (row->pin == CATALOGUE_PIN_RANGE)
                    assert_true(row->sequence == 1700 && row->volume == v.id);
                after = row->key;
            }
        } while (list.count == CATALOGUE_ROWS_MAX);
    }
    assert_int_equal(seen, 352);
    assert_int_equal(seen_v, of_v + 2);
    assert_true(kinds[CATALOGUE_PIN_IMAGE] == 1 && kinds[CATALOGUE_PIN_RANGE] == 1);
    world_end(&w);
}

static int order_of[8], order_count;
static void note_order(struct catalogue_request *r) {
    order_of[order_count++] = (int)r->owner_word;
}

static void requests_run_in_order(void **state) {
    struct world w;
    world_start(&w, 3);
    struct catalogue_request r[6];
    order_count = 0;
    for (int i = 0; i < 6; i++) {
        r[i] = world_request(&w, i % 2 ? CATALOGUE_MARK_DELETE : CATALOGUE_MARK, "m");
        r[i].done = note_order;
        r[i].owner_word = (uint64_t)i;
        catalogue_submit(&w.c, &r[i]);
    }
    while (sim_step(w.sim))
        catalogue_reap(&w.c);
    assert_int_equal(order_count, 6);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(order_of[i], i);
        assert_int_equal(r[i].result, 0);
        assert_int_equal(r[i].generation, i + 1);
    }
    assert_int_equal(catalogue_generation(&w.c), 6);
    world_end(&w);
}

static void restore_undo_redo(void **state) {
    struct world w;
    world_start(&w, 4);
    struct catalogue_object v = world_create(&w, "v", 1);
    assert_int_equal(at(&w, v.id, 0).id, (uint64_t)ERR_RANGE);
    /*  record 1..100 on t1; restore to 40 at 100; 101..200 on t2; undo to 100 at 200; 201.. on t3 */
    struct catalogue_object t2 = restore(&w, v.id, 40, 101, 0);
    assert_int_equal(t2.line.parent, v.line.id);
    assert_int_equal(t2.line.fork_sequence, 40);
    assert_int_equal(t2.line.family, v.line.family);
    struct catalogue_object t3 = restore(&w, v.id, 100, 201, 0);
    assert_int_equal(t3.line.parent, v.line.id); /* not t2: the undo sees what was undone */
    assert_int_equal(t3.line.fork_sequence, 100);
    struct catalogue_object t4 = restore(&w, v.id, 150, 301, 0); /* redo */
    assert_int_equal(t4.line.parent, t2.line.id);
    assert_int_equal(at(&w, v.id, 1).line.id, v.line.id);
    assert_int_equal(at(&w, v.id, 100).line.id, v.line.id);
    assert_int_equal(at(&w, v.id, 101).line.id, t2.line.id);
    assert_int_equal(at(&w, v.id, 200).line.id, t2.line.id);
    assert_int_equal(at(&w, v.id, 201).line.id, t3.line.id);
    assert_int_equal(at(&w, v.id, 300).line.id, t3.line.id);
    assert_int_equal(at(&w, v.id, 301).line.id, t4.line.id);
    assert_int_equal(at(&w, v.id, UINT32_MAX).line.id, t4.line.id);
    /* Destructive to 250: what came after is gone, the new timeline goes on from 251. */
    struct catalogue_object t5 = restore(&w, v.id, 250, 401, CATALOGUE_DESTRUCTIVE);
    assert_int_equal(t5.line.parent, t3.line.id);
    assert_int_equal(at(&w, v.id, 250).line.id, t3.line.id);
    assert_int_equal(at(&w, v.id, 251).line.id, t5.line.id);
    assert_int_equal(at(&w, v.id, 350).line.id, t5.line.id);

    static struct catalogue_list list;
    struct catalogue_request r = world_request(&w, CATALOGUE_LIST_STRETCHES, "");
    r.args.volumes[0] = v.id;
    r.list = &list;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(list.count, 4);
    assert_int_equal(list.rows[3].sequence, 251);
    world_end(&w);
}

/* Random restores against a list of what the volume showed at every moment. */
static void restores_against_a_model(void **state) {
    struct world w;
    struct prng p = prng_seed(9);
    uint32_t shown[2000];
    uint64_t size[2000], now = 0;
    world_start(&w, 5);
    struct catalogue_object v = world_create(&w, "v", 1);
    uint32_t line = v.line.id;
    uint64_t bytes = v.size_bytes;
    for (int i = 0; i < 150; i++) {
        for (uint64_t more = 1 + prng_below(&p, 12); more > 0; more--) {
            now++;
            shown[now] = line;
            size[now] = bytes;
        }
        if (prng_one_in(&p, 4)) {
            struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_RESIZE, "");
            r.args.volumes[0] = v.id;
            r.args.from_sequence = now + 1;
            r.args.size_bytes = bytes = 4096 * (1 + prng_below(&p, 100));
            assert_int_equal(world_ask(&w, &r), 0);
            continue;
        }
        uint64_t to = 1 + prng_below(&p, now);
        int destructive = prng_one_in(&p, 5);
        struct catalogue_object o =
            restore(&w, v.id, to, now + 1, destructive ? CATALOGUE_DESTRUCTIVE : 0);
        assert_int_equal(o.line.parent, shown[to]);
        assert_int_equal(o.size_bytes, size[to]);
        line = o.line.id;
        bytes = size[to];
        for (uint64_t s = to + 1; destructive && s <= now; s++) {
            shown[s] = line;
            size[s] = bytes;
        }
    }
    for (uint64_t s = 1; s <= now; s++) {
        struct catalogue_object o = at(&w, v.id, s);
        assert_int_equal(o.line.id, shown[s]);
        assert_int_equal(o.size_bytes, size[s]);
    }
    world_end(&w);
}

static void images(void **state) {
    struct world w;
    world_start(&w, 6);
    struct catalogue_object a = world_create(&w, "a", 1), b = world_create(&w, "b", 50);
    struct catalogue_request r = world_request(&w, CATALOGUE_IMAGE_OPEN, "pair");
    r.args.volumes[0] = a.id;
    r.args.volumes[1] = b.id;
    r.args.volume_count = 2;
    r.args.sequence = 40;
    r.args.from_sequence = 101;
    struct catalogue_request early = r;
    early.args.operation = ++w.operation;
    assert_int_equal(world_ask(&w, &early), ERR_RANGE);
    assert_string_equal(early.detail, "b did not exist at that moment");
    r.args.sequence = 60;
    r.args.flags = CATALOGUE_WRITABLE;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_string_equal(r.out.objects[0].name, "pair");
    assert_string_equal(r.out.objects[1].name, "pair");
    assert_int_equal(r.out.objects[1].line.parent, b.line.id);
    assert_int_equal(r.out.objects[1].line.fork_sequence, 60);
    assert_int_equal(r.out.objects[1].source_id, b.id);
    assert_int_equal(r.out.objects[1].flags, VOLUME_IMAGE);

    struct catalogue_request p;
    uint64_t image = r.out.objects[0].id;
    assert_int_equal(ask_volume(&w, &p, CATALOGUE_VOLUME_PURGE, "", a.id), ERR_BUSY);
    p = world_request(&w, CATALOGUE_IMAGE_PROMOTE, "a2");
    p.args.volumes[0] = image;
    p.args.volume_count = 1;
    p.args.from_sequence = 81;
    assert_int_equal(world_ask(&w, &p), 0);
    uint64_t a2 = p.out.objects[0].id;
    assert_int_equal(at(&w, a2, 80).line.id, a.line.id); /* its source's past */
    assert_int_equal(at(&w, a2, 81).line.id, r.out.objects[0].line.id);
    assert_int_equal(ask_volume(&w, &p, CATALOGUE_IMAGE_CLOSE, "", image), ERR_NOTFOUND);

    /* a2 needs the family's data, so a's purge frees none; then a2's does. */
    assert_int_equal(ask_volume(&w, &p, CATALOGUE_VOLUME_PURGE, "", a.id), 0);
    assert_int_equal(p.out.words[0], a.line.family);
    assert_int_equal(p.out.words[1], 0);
    assert_int_equal(at(&w, a2, 60).line.id, a.line.id);
    assert_int_equal(ask_volume(&w, &p, CATALOGUE_VOLUME_DELETE, "", a2), 0);
    assert_int_equal(ask_volume(&w, &p, CATALOGUE_VOLUME_PURGE, "", a2), 0);
    assert_int_equal(p.out.words[1], 1);
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->dead_count, 1);
    assert_int_equal(s->dead[0], a.line.family);
    assert_int_equal(s->timeline_count, 2); /* b's and its image's */
    assert_int_equal(s->object_count, 2);
    catalogue_snapshot_free(s);
    world_end(&w);
}

static void names_of_images(void **state) {
    static const struct {
        const char *asked;
        uint32_t flags;
        const char *got;
    } cases[] = {
        {"", 0, "v-7"},
        {"", 0, "v-7-2"},
        {"", CATALOGUE_ON_DEMAND, "v@7"},
        {"", CATALOGUE_ON_DEMAND, "v@7-2"},
        {"mine", 0, "mine"},
        {"mine", 0, NULL},
        {"v", 0, "v"}, /* volumes and images are named apart */
    };
    struct world w;
    world_start(&w, 7);
    struct catalogue_object v = world_create(&w, "v", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct catalogue_request r = world_request(&w, CATALOGUE_IMAGE_OPEN, cases[i].asked);
        r.args.volumes[0] = v.id;
        r.args.volume_count = 1;
        r.args.sequence = 7;
        r.args.flags = cases[i].flags;
        int rc = world_ask(&w, &r);
        assert_int_equal(rc, cases[i].got ? 0 : ERR_EXISTS);
        if (cases[i].got)
            assert_string_equal(r.out.objects[0].name, cases[i].got);
    }
    struct catalogue_request r = world_request(&w, CATALOGUE_COLD_START, "");
    assert_int_equal(world_ask(&w, &r), 0); /* ends those on demand */
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->object_count, 5);
    assert_int_equal(s->timeline_count, 5);
    catalogue_snapshot_free(s);
    world_end(&w);
}

static void marks_and_holds(void **state) {
    struct world w;
    world_start(&w, 8);
    struct catalogue_object v = world_create(&w, "v", 1), u = world_create(&w, "u", 1);
    struct catalogue_request r = world_request(&w, CATALOGUE_MARK, "before");
    r.args.volumes[0] = v.id;
    r.args.volumes[1] = u.id;
    r.args.volume_count = 2;
    r.args.sequence = 20;
    r.args.moment_ns = 777;
    r.args.flags = CATALOGUE_HOLD;
    struct catalogue_request find = r;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK, "before", v.id), ERR_EXISTS);
    find.kind = CATALOGUE_MARK_FIND;
    assert_int_equal(world_ask(&w, &find), 0);
    assert_int_equal(find.out.words[0], 20);
    assert_int_equal(find.out.words[1], 777);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_FIND, "after", v.id), ERR_NOTFOUND);
    assert_string_equal(r.detail, "v has no mark called after");

    static struct catalogue_list list;
    r = world_request(&w, CATALOGUE_LIST_MARKS, "");
    r.list = &list;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(list.count, 2);
    r.args.volumes[0] = u.id;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.rows[0].volume, u.id);
    assert_string_equal(list.rows[0].name, "before");
    assert_int_equal(list.rows[0].sequence, 20);
    assert_int_equal(list.rows[0].is_hold, 1);

    r = world_request(&w, CATALOGUE_LIST_PINS, "");
    r.list = &list;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(list.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(list.rows[i].pin, CATALOGUE_PIN_MARK);
        assert_int_equal(list.rows[i].volume, i ? u.id : v.id);
        assert_string_equal(list.rows[i].name, "before");
        assert_int_equal(list.rows[i].sequence, 20);
        assert_int_equal(list.rows[i].time_ns, 777);
    }

    /* A hold stands in the way of what would drop its moment. */
    assert_int_equal(restore(&w, v.id, 10, 100, CATALOGUE_DESTRUCTIVE).id, (uint64_t)ERR_REFUSED);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_PURGE, "", v.id), ERR_REFUSED);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_DELETE, "before", v.id), ERR_REFUSED);
    assert_int_equal(restore(&w, v.id, 20, 100, CATALOGUE_DESTRUCTIVE).id, v.id);
    assert_int_equal(restore(&w, v.id, 10, 100, CATALOGUE_DESTRUCTIVE | CATALOGUE_FORCE).id, v.id);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_FIND, "before", v.id), ERR_NOTFOUND);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_FIND, "before", u.id), 0);

    /* The same label at another moment means two moments. */
    r = world_request(&w, CATALOGUE_MARK, "before");
    r.args.volumes[0] = v.id;
    r.args.volume_count = 1;
    r.args.sequence = 30;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(world_ask(&w, &find), ERR_AMBIGUOUS);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_DELETE, "before", v.id), 0);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_VOLUME_PURGE, "", v.id), 0);
    world_end(&w);
}

static void segments(void **state) {
    struct world w;
    world_start(&w, 9);
    struct catalogue_request r = world_request(&w, CATALOGUE_SEGMENTS_FREE, "");
    for (uint32_t i = 0; i < 5; i++)
        r.args.segments[i] = 50 - 10 * i;
    r.args.segment_count = 5;
    assert_int_equal(world_ask(&w, &r), 0);
    r = world_request(&w, CATALOGUE_SEGMENTS_FORGET, "");
    r.args.segments[0] = 30;
    r.args.segment_count = 1;
    assert_int_equal(world_ask(&w, &r), 0);
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->freed_count, 4);
    assert_int_equal(s->freed[0], 10);
    assert_int_equal(s->freed[2], 40);
    catalogue_snapshot_free(s);
    world_end(&w);
}

/* Opens what is there with what it should be; gives the error of the first request. */
static int reopened(struct world *w, char *detail) {
    world_die(w, 0, 0);
    struct catalogue_request r = world_request(w, CATALOGUE_SNAPSHOT, "");
    int rc = world_ask(w, &r);
    catalogue_snapshot_free(r.snapshot);
    snprintf(detail, CATALOGUE_DETAIL_BYTES, "%s", r.detail);
    return rc;
}

static void what_an_open_refuses(void **state) {
    char detail[CATALOGUE_DETAIL_BYTES];
    struct world w;
    world_start(&w, 10);
    world_create(&w, "v", 1);
    struct file_system files = sim_files(w.sim);
    /* a newer version, another program's file: written by hand through the same VFS */
    static const char *const edits[] = {"PRAGMA user_version = 99", "PRAGMA application_id = 5",
                                        "UPDATE store SET store_id = x'00'"};
    static const int codes[] = {ERR_UNSUPPORTED, ERR_FORMAT, ERR_INTEGRITY};
    static const char *const undo[] = {
        "PRAGMA user_version = 3", "PRAGMA application_id = 1349674083",
        "UPDATE store SET store_id = CAST('the store''s id.' || char(0) AS BLOB)"};
    for (int i = 0; i < 3; i++) {
        struct db d = {0};
        assert_int_equal(db_open(&d, w.c.vfs, CATALOGUE_PATH, 0), 0);
        db_run(&d, edits[i], "");
        assert_int_equal(db_settle(&d), 0);
        db_close(&d);
        assert_int_equal(reopened(&w, detail), codes[i]);
        assert_true(detail[0] != 0);
        assert_int_equal(db_open(&d, w.c.vfs, CATALOGUE_PATH, 0), 0);
        db_run(&d, undo[i], "");
        assert_int_equal(db_settle(&d), 0);
        db_close(&d);
    }
    assert_int_equal(reopened(&w, detail), 0);
    assert_int_equal(files.ops->remove(files.ctx, CATALOGUE_PATH), 0);
    assert_int_equal(reopened(&w, detail), ERR_NOTFOUND);
    int f = files.ops->open(files.ctx, CATALOGUE_PATH, FILE_WRITE | FILE_CREATE);
    files.ops->write(files.ctx, f, "this is not a database at all, is it?", 37, 0);
    assert_true(reopened(&w, detail) < 0);
    world_end(&w);
}

/* A flipped bit anywhere is found. PERDURE_EVERY_BYTE=1: one of each byte in turn; else of four in each page. */
static void flipped_bits_are_found(void **state) {
    char detail[CATALOGUE_DETAIL_BYTES];
    struct world w;
    struct prng p = prng_seed(11);
    world_start(&w, 11);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "volume-%d", i);
        world_create(&w, name, 1);
    }
    struct file_system files = sim_files(w.sim);
    int f = files.ops->open(files.ctx, CATALOGUE_PATH, FILE_READ);
    int64_t size = files.ops->size(files.ctx, f);
    assert_true(size > 10 * VFS_PAGE_BYTES);
    const char *every = getenv("PERDURE_EVERY_BYTE");
    int each = every && *every == '1';
    uint32_t found = 0, tries = 0, of_page = each ? VFS_PAGE_BYTES : 4;
    for (int64_t page = 0; page < size; page += VFS_PAGE_BYTES) {
        for (uint32_t i = 0; i < of_page; i++, tries++) {
            uint64_t offset = (uint64_t)page + (each ? i : prng_below(&p, VFS_PAGE_BYTES));
            uint8_t bit = (uint8_t)(1u << prng_below(&p, 8));
            assert_int_equal(sim_corrupt(w.sim, CATALOGUE_PATH, offset, bit), 0);
            int rc = reopened(&w, detail);
            if (rc != ERR_INTEGRITY && rc != ERR_FORMAT)
                fail_msg("a flip at %u gave %s", (unsigned)offset, err_word(rc));
            found++;
            assert_int_equal(sim_corrupt(w.sim, CATALOGUE_PATH, offset, bit), 0);
            if (i % 1024 == 0)
                assert_int_equal(reopened(&w, detail), 0);
        }
    }
    assert_int_equal(found, tries);
    world_end(&w);
}

static void a_file_of_yesterday_says_less(void **state) {
    struct world w;
    world_start(&w, 12);
    world_create(&w, "v", 1);
    struct file_system files = sim_files(w.sim);
    int f = files.ops->open(files.ctx, CATALOGUE_PATH, FILE_READ);
    int64_t size = files.ops->size(files.ctx, f);
    char *yesterday = malloc((size_t)size);
    files.ops->read(files.ctx, f, yesterday, (size_t)size, 0);
    world_create(&w, "w", 2);
    uint64_t known = catalogue_generation(&w.c);
    world_die(&w, 0, 0);
    f = files.ops->open(files.ctx, CATALOGUE_PATH, FILE_WRITE);
    files.ops->truncate(files.ctx, f, (uint64_t)size);
    files.ops->write(files.ctx, f, yesterday, (size_t)size, 0);
    catalogue_snapshot_free(world_snapshot(&w));
    assert_true(catalogue_generation(&w.c) < known);
    assert_true(catalogue_generation(&w.c) > 0);
    free(yesterday);
    world_end(&w);
}

static void a_full_disk(void **state) {
    struct world w;
    world_start(&w, 13);
    struct catalogue_request r;
    uint64_t n = 0;
    char name[VOLUME_NAME_BYTES];
    sim_disk_limit(w.sim, 256 << 10);
    int rc = 0;
    while (rc == 0 && n < 10000) {
        snprintf(name, sizeof name, "a-rather-long-name-of-a-mark-%llu", (unsigned long long)n);
        rc = ask_volume(&w, &r, CATALOGUE_MARK, name, 0);
        n += rc == 0;
        r.args.volume_count = 0;
    }
    assert_int_equal(rc, ERR_NOTFOUND); /* there is no volume 0: nothing was kept */
    struct catalogue_object v = world_create(&w, "v", 0);
    for (rc = 0; rc == 0 && n < 10000; n += rc == 0) {
        snprintf(name, sizeof name, "a-rather-long-name-of-a-mark-%llu", (unsigned long long)n);
        rc = ask_volume(&w, &r, CATALOGUE_MARK, name, v.id);
    }
    assert_int_equal(rc, ERR_NOSPC);
    assert_true(n > 100);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK_FIND, name, 0), ERR_NOTFOUND);
    sim_disk_limit(w.sim, 1 << 20);
    assert_int_equal(ask_volume(&w, &r, CATALOGUE_MARK, name, v.id), 0);
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(volumes_by_name),
        cmocka_unit_test(the_same_again_does_nothing),
        cmocka_unit_test(requests_run_in_order),
        cmocka_unit_test(restore_undo_redo),
        cmocka_unit_test(restores_against_a_model),
        cmocka_unit_test(images),
        cmocka_unit_test(names_of_images),
        cmocka_unit_test(marks_and_holds),
        cmocka_unit_test(segments),
        cmocka_unit_test(what_an_open_refuses),
        cmocka_unit_test(pins_are_listed),
        cmocka_unit_test(flipped_bits_are_found),
        cmocka_unit_test(a_file_of_yesterday_says_less),
        cmocka_unit_test(a_full_disk),
    };
    return cmocka_run_group_tests_name("catalogue", tests, NULL, NULL);
}
