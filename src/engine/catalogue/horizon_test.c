/* SPDX-License-Identifier: Apache-2.0 */
/* What a horizon gives up and what it may not; what is listed as promised; policies; how a catalogue
 * of an older version comes to have them. */
#include "engine/catalogue/world_test.h"

#include "base/prng.h"
#include "base/units.h"
#include "engine/catalogue/db.h"

#define SECOND UINT64_C(1000000000)
#define PRESENT UINT64_MAX

static int ask(struct world *w, struct catalogue_request *r, enum catalogue_kind kind,
               const char *name, uint64_t volume, uint64_t sequence, uint64_t from,
               uint32_t flags) {
    *r = world_request(w, kind, name);
    r->args.volumes[0] = volume;
    r->args.volume_count = 1;
    r->args.sequence = sequence;
    r->args.from_sequence = from;
    r->args.flags = flags;
    return world_ask(w, r);
}

static struct catalogue_object done(struct world *w, enum catalogue_kind kind, const char *name,
                                    uint64_t volume, uint64_t sequence, uint64_t from,
                                    uint32_t flags) {
    struct catalogue_request r;
    int rc = ask(w, &r, kind, name, volume, sequence, from, flags);
    if (rc < 0)
        fail_msg("%s: %s", err_word(rc), r.detail);
    return r.out.objects[0];
}

static struct catalogue_object advance(struct world *w, uint64_t volume, uint64_t horizon,
                                       uint64_t horizon_ns) {
    struct catalogue_request r = world_request(w, CATALOGUE_HORIZON, "");
    r.args.volumes[0] = volume;
    r.args.volume_count = 1;
    r.args.horizons[0] = horizon;
    r.args.horizon_ns[0] = horizon_ns;
    assert_int_equal(world_ask(w, &r), 0);
    return r.out.objects[0];
}

static struct keep_promises *keeps(struct world *w) {
    struct catalogue_request r = world_request(w, CATALOGUE_KEEPS, "");
    assert_int_equal(world_ask(w, &r), 0);
    return r.keeps;
}

static uint32_t stretches(struct world *w, uint64_t volume) {
    static struct catalogue_list list;
    struct catalogue_request r = world_request(w, CATALOGUE_LIST_STRETCHES, "");
    r.args.volumes[0] = volume;
    r.list = &list;
    assert_int_equal(world_ask(w, &r), 0);
    return list.count;
}

static void must_view(const struct keep_promises *k, uint32_t i, uint32_t timeline, uint64_t from,
                      uint64_t to) {
    assert_true(i < k->moment_count);
    assert_int_equal(k->moments[i].timeline, timeline);
    assert_int_equal(k->moments[i].from, from);
    assert_int_equal(k->moments[i].to, to);
}

/* v showed a up to 100, b up to 200, c up to 300, d since. */
struct lines {
    uint64_t v;
    uint32_t family, a, b, c, d;
};
static struct lines four_lines(struct world *w) {
    struct catalogue_object v = world_create(w, "v", 1);
    return (struct lines){.v = v.id,
                          .family = v.line.family,
                          .a = v.line.id,
                          .b = done(w, CATALOGUE_RESTORE, "", v.id, 40, 101, 0).line.id,
                          .c = done(w, CATALOGUE_RESTORE, "", v.id, 100, 201, 0).line.id,
                          .d = done(w, CATALOGUE_RESTORE, "", v.id, 150, 301, 0).line.id};
}

static void a_horizon_only_advances(void **state) {
    static const struct {
        uint64_t horizon, ns;       /* asked for */
        uint64_t oldest, oldest_ns; /* 0: where it began */
        uint32_t stretches;
    } cases[] = {
        {0, 5, 0, 0, 4},           /* 1 */
        {50, 1000, 50, 1000, 4},   /* 2: within the first stretch */
        {40, 2000, 50, 1000, 4},   /* 3: not back */
        {50, 3000, 50, 1000, 4},   /* 4: the same moment keeps its time */
        {100, 4000, 100, 4000, 4}, /* 5: the last of the first stretch */
        {101, 5000, 101, 5000, 3}, /* 6: the first of the second */
        {300, 6000, 300, 6000, 2}, /* 7: over one stretch */
        {900, 7000, 900, 7000, 1}, /* 8: the present stays */
    };
    struct world w;
    world_start(&w, 1);
    struct lines l = four_lines(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct catalogue_object o = advance(&w, l.v, cases[i].horizon, cases[i].ns);
        assert_int_equal(o.id, l.v);
        assert_int_equal(o.oldest_sequence, cases[i].oldest ? cases[i].oldest : 1);
        if (cases[i].oldest)
            assert_int_equal(o.oldest_ns, cases[i].oldest_ns);
        else
            assert_int_equal(o.oldest_ns, o.created_ns);
        assert_int_equal(stretches(&w, l.v), cases[i].stretches);
        struct catalogue_snapshot *s = world_snapshot(&w);
        assert_int_equal(s->objects[0].oldest_sequence, o.oldest_sequence);
        assert_int_equal(s->objects[0].oldest_ns, o.oldest_ns);
        catalogue_snapshot_free(s);
    }
    world_end(&w);
}

static void a_volume_that_is_gone_is_skipped(void **state) {
    struct world w;
    world_start(&w, 2);
    uint64_t ids[] = {world_create(&w, "a", 1).id, 999, world_create(&w, "b", 10).id};
    struct catalogue_request r = world_request(&w, CATALOGUE_HORIZON, "");
    r.args.volume_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        r.args.volumes[i] = ids[i];
        r.args.horizons[i] = 5;
        r.args.horizon_ns[i] = 77;
    }
    struct catalogue_request again = r;
    assert_int_equal(world_ask(&w, &r), 0);
    assert_int_equal(r.out.count, 3);
    assert_int_equal(r.out.objects[0].oldest_sequence, 5);
    assert_int_equal(r.out.objects[0].oldest_ns, 77);
    assert_int_equal(r.out.objects[1].id, 0);
    assert_int_equal(r.out.objects[1].oldest_sequence, 0);
    assert_int_equal(r.out.objects[2].oldest_sequence, 10); /* its first stretch is younger */
    assert_string_equal(r.detail, "");
    assert_int_equal(world_ask(&w, &again), 0);
    assert_memory_equal(&again.out, &r.out, sizeof r.out);
    assert_int_equal(again.generation, r.generation);
    /* One in the trash gives up its past, too. */
    done(&w, CATALOGUE_VOLUME_DELETE, "", ids[0], 0, 0, 0);
    assert_int_equal(advance(&w, ids[0], 8, 80).oldest_sequence, 8);
    world_end(&w);
}

/* A horizon that was reckoned from another age than the volume retains now is not heeded. */
static void a_horizon_of_another_age_is_not_heeded(void **state) {
    static const struct {
        uint64_t retain_ns, retained, oldest;
    } cases[] = {{60, 60, 5}, {90, 60, 5}, {0, 60, 5}, {90, 90, 8}, {90, 0, 11}, {0, 0, 14}};
    struct world w;
    world_start(&w, 7);
    uint64_t id = world_create(&w, "a", 1).id;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_SET, "");
        r.args.volumes[0] = id;
        r.args.volume_count = 1;
        r.args.flags = CATALOGUE_KEEP_DURABILITY | CATALOGUE_SET_RETAIN;
        r.args.retain_ns = cases[i].retain_ns;
        assert_int_equal(world_ask(&w, &r), 0);
        r = world_request(&w, CATALOGUE_HORIZON, "");
        r.args.volumes[0] = id;
        r.args.volume_count = 1;
        r.args.horizons[0] = 5 + 3 * i - (i > 2 ? 6 : 0);
        r.args.retained[0] = cases[i].retained;
        assert_int_equal(world_ask(&w, &r), 0);
        assert_int_equal(r.out.objects[0].oldest_sequence, cases[i].oldest);
    }
    world_end(&w);
}

/* What opens a moment, below the horizon, on it, and on a hold below it. */
static void what_is_given_up_does_not_open(void **state) {
    static const struct {
        enum catalogue_kind kind;
        uint64_t sequence;
        int result;
    } cases[] = {
        {CATALOGUE_RESOLVE, 119, ERR_RANGE},    /* 1 */
        {CATALOGUE_RESOLVE, 120, 0},            /* 2 */
        {CATALOGUE_RESOLVE, 20, 0},             /* 3: on hold */
        {CATALOGUE_RESOLVE, 21, ERR_RANGE},     /* 4 */
        {CATALOGUE_IMAGE_OPEN, 119, ERR_RANGE}, /* 5 */
        {CATALOGUE_IMAGE_OPEN, 120, 0},         /* 6 */
        {CATALOGUE_IMAGE_OPEN, 20, 0},          /* 7 */
        {CATALOGUE_REFERENCE, 119, ERR_RANGE},  /* 8 */
        {CATALOGUE_REFERENCE, 120, 0},          /* 9 */
        {CATALOGUE_REFERENCE, 20, 0},           /* 10 */
        {CATALOGUE_MARK, 119, ERR_RANGE},       /* 11 */
        {CATALOGUE_MARK, 120, 0},               /* 12 */
        {CATALOGUE_RESTORE, 119, ERR_RANGE},    /* 13 */
        {CATALOGUE_RESTORE, 120, 0},            /* 14 */
        {CATALOGUE_RESTORE, 20, 0},             /* 15 */
    };
    struct world w;
    struct catalogue_request r;
    world_start(&w, 3);
    struct lines l = four_lines(&w);
    done(&w, CATALOGUE_MARK, "held", l.v, 20, 0, CATALOGUE_HOLD);
    done(&w, CATALOGUE_MARK, "old", l.v, 119, 0, 0);
    done(&w, CATALOGUE_MARK, "young", l.v, 120, 0, 0);
    advance(&w, l.v, 120, 1700000000 * SECOND + 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int rc = ask(&w, &r, cases[i].kind, cases[i].kind == CATALOGUE_MARK ? "m" : "", l.v,
                     cases[i].sequence, 400 + 10 * i, 0);
        if (rc != cases[i].result)
            fail_msg("case %zu: %s: %s", i + 1, err_word(rc), r.detail);
        if (rc < 0)
            assert_string_equal(r.detail,
                                "v keeps its history since 2023-11-14T22:13:21Z; what was "
                                "before has been given up");
        else if (cases[i].sequence == 20 && cases[i].kind == CATALOGUE_RESOLVE)
            assert_int_equal(r.out.objects[0].line.id, l.a);
    }
    assert_int_equal(ask(&w, &r, CATALOGUE_MARK_FIND, "held", l.v, 0, 0, 0), 0);
    assert_int_equal(ask(&w, &r, CATALOGUE_MARK_FIND, "old", l.v, 0, 0, 0), ERR_NOTFOUND);
    assert_int_equal(ask(&w, &r, CATALOGUE_MARK_FIND, "young", l.v, 0, 0, 0), 0);
    /* The hold goes, and its moment with it. */
    done(&w, CATALOGUE_MARK_DELETE, "held", l.v, 0, 0, CATALOGUE_FORCE);
    assert_int_equal(ask(&w, &r, CATALOGUE_RESOLVE, "", l.v, 20, 0, 0), ERR_RANGE);
    world_end(&w);
}

/* Of the rows before the horizon just those stay that a hold needs, sizes too. */
static void a_hold_keeps_what_it_needs(void **state) {
    struct world w;
    world_start(&w, 4);
    struct lines l = four_lines(&w);
    for (uint64_t i = 1; i <= 3; i++) {
        struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_RESIZE, "");
        r.args.volumes[0] = l.v;
        r.args.from_sequence = 100 * i + 50;
        r.args.size_bytes = 4096 * i;
        assert_int_equal(world_ask(&w, &r), 0);
    }
    done(&w, CATALOGUE_MARK, "held", l.v, 170, 0, CATALOGUE_HOLD);
    advance(&w, l.v, 400, 1);
    assert_int_equal(stretches(&w, l.v), 2);
    struct catalogue_object o = done(&w, CATALOGUE_RESOLVE, "", l.v, 170, 0, 0);
    assert_int_equal(o.line.id, l.b);
    assert_int_equal(o.size_bytes, 4096);
    assert_int_equal(done(&w, CATALOGUE_RESOLVE, "", l.v, 400, 0, 0).size_bytes, 3 * 4096);
    struct keep_promises *k = keeps(&w);
    assert_int_equal(k->moment_count, 2);
    must_view(k, 0, l.d, 400, PRESENT);
    must_view(k, 1, l.b, 170, 170);
    catalogue_keeps_free(k);
    done(&w, CATALOGUE_MARK_DELETE, "held", l.v, 0, 0, CATALOGUE_FORCE);
    advance(&w, l.v, 400, 1);
    assert_int_equal(stretches(&w, l.v), 1);
    world_end(&w);
}

/* Random lives of one volume against a list of what it showed: what is promised shows the same, and
 * is listed; what is not is refused. */
static void promises_against_a_model(void **state) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct prng p = prng_seed(seed);
        uint32_t shown[600];
        uint64_t size[600], now = 0, horizon = 0;
        int held[600] = {0};
        struct world w;
        struct catalogue_request r;
        world_start(&w, seed);
        struct catalogue_object v = world_create(&w, "v", 1);
        uint32_t line = v.line.id;
        uint64_t bytes = v.size_bytes;
        for (int i = 0; i < 40; i++) {
            for (uint64_t more = 1 + prng_below(&p, 12); more > 0; more--) {
                shown[++now] = line;
                size[now] = bytes;
            }
            uint64_t s = 1 + prng_below(&p, now);
            int is_promised = s >= horizon || held[s];
            char name[16];
            snprintf(name, sizeof name, "m%d", i);
            switch (prng_below(&p, 4)) {
            case 0:
                bytes = 4096 * (1 + prng_below(&p, 100));
                r = world_request(&w, CATALOGUE_VOLUME_RESIZE, "");
                r.args.volumes[0] = v.id;
                r.args.from_sequence = now + 1;
                r.args.size_bytes = bytes;
                assert_int_equal(world_ask(&w, &r), 0);
                break;
            case 1:
                assert_int_equal(ask(&w, &r, CATALOGUE_RESTORE, "", v.id, s, now + 1, 0),
                                 is_promised ? 0 : ERR_RANGE);
                if (is_promised) {
                    line = r.out.objects[0].line.id;
                    bytes = size[s];
                }
                break;
            case 2:
                assert_int_equal(ask(&w, &r, CATALOGUE_MARK, name, v.id, s, 0, CATALOGUE_HOLD),
                                 is_promised ? 0 : ERR_RANGE);
                held[s] |= is_promised;
                break;
            default:
                s = prng_one_in(&p, 3) ? s : horizon + prng_below(&p, now - horizon + 1);
                horizon = s > horizon ? s : horizon;
                advance(&w, v.id, s, s);
                break;
            }
        }
        struct keep_promises *k = keeps(&w);
        for (uint64_t s = 1; s <= now; s++) {
            int is_promised = s >= horizon || held[s];
            int rc = ask(&w, &r, CATALOGUE_RESOLVE, "", v.id, s, 0, 0);
            assert_int_equal(rc, is_promised ? 0 : ERR_RANGE);
            uint32_t listed = 0;
            for (uint32_t i = 0; i < k->moment_count; i++)
                if (k->moments[i].from <= s && s <= k->moments[i].to) {
                    assert_int_equal(k->moments[i].timeline, shown[s]);
                    listed = 1;
                }
            assert_int_equal(listed, is_promised);
            if (is_promised) {
                assert_int_equal(r.out.objects[0].line.id, shown[s]);
                assert_int_equal(r.out.objects[0].size_bytes, size[s]);
            }
        }
        catalogue_keeps_free(k);
        world_end(&w);
    }
}

static void everything_promised_is_listed(void **state) {
    struct world w;
    world_start(&w, 5);
    struct lines l = four_lines(&w);
    struct catalogue_object u = world_create(&w, "u", 310);
    /* 1: all stretches of all volumes */
    struct keep_promises *k = keeps(&w);
    assert_int_equal(k->moment_count, 5);
    must_view(k, 0, l.a, 1, 100);
    must_view(k, 1, l.b, 101, 200);
    must_view(k, 2, l.c, 201, 300);
    must_view(k, 3, l.d, 301, PRESENT);
    must_view(k, 4, u.line.id, 310, PRESENT);
    assert_int_equal(k->moments[0].family, l.family);
    assert_int_equal(k->moments[4].family, u.line.family);
    assert_int_equal(k->window_count, 2);
    assert_int_equal(k->windows[0].family, l.family);
    assert_int_equal(k->windows[0].horizon, 1);
    assert_int_equal(k->windows[1].family, u.line.family);
    assert_int_equal(k->windows[1].horizon, 310);
    catalogue_keeps_free(k);
    /* 2: not what is below the horizon; a hold, an image and a reference into it, and the trash */
    done(&w, CATALOGUE_MARK, "held", l.v, 30, 0, CATALOGUE_HOLD);
    done(&w, CATALOGUE_MARK, "loose", l.v, 35, 0, 0);
    struct catalogue_object ro = done(&w, CATALOGUE_IMAGE_OPEN, "ro", l.v, 110, 320, 0);
    struct catalogue_object rw =
        done(&w, CATALOGUE_IMAGE_OPEN, "rw", l.v, 210, 321, CATALOGUE_WRITABLE);
    done(&w, CATALOGUE_REFERENCE, "", l.v, 120, 0, 0);
    advance(&w, l.v, 250, 1);
    done(&w, CATALOGUE_VOLUME_DELETE, "", l.v, 0, 0, 0);
    k = keeps(&w);
    assert_int_equal(k->timeline_count, 7);
    for (uint32_t i = 1; i < k->timeline_count; i++)
        assert_true(k->timelines[i - 1].id < k->timelines[i].id);
    assert_int_equal(k->moment_count, 7);
    must_view(k, 0, l.c, 250, 300);
    must_view(k, 1, l.d, 301, PRESENT);
    must_view(k, 2, u.line.id, 310, PRESENT);
    must_view(k, 3, ro.line.id, PRESENT, PRESENT);
    must_view(k, 4, rw.line.id, PRESENT, PRESENT);
    must_view(k, 5, l.a, 30, 30);
    must_view(k, 6, l.b, 120, 120);
    assert_int_equal(k->windows[0].horizon, 250);
    catalogue_keeps_free(k);
    /* 3: a writable image that is closed leaves its timeline, and promises nothing */
    done(&w, CATALOGUE_VOLUME_UNDELETE, "", l.v, 0, 0, 0);
    done(&w, CATALOGUE_IMAGE_CLOSE, "", rw.id, 0, 0, 0);
    done(&w, CATALOGUE_IMAGE_CLOSE, "", ro.id, 0, 0, 0);
    k = keeps(&w);
    assert_int_equal(k->timeline_count, 6);
    assert_int_equal(k->timelines[5].id, rw.line.id);
    assert_int_equal(k->moment_count, 5);
    catalogue_keeps_free(k);
    /* 4: a family that nobody needs promises nothing, its restored ranges neither */
    done(&w, CATALOGUE_VOLUME_PURGE, "", l.v, 0, 0, CATALOGUE_FORCE);
    k = keeps(&w);
    assert_int_equal(k->moment_count, 1);
    must_view(k, 0, u.line.id, 310, PRESENT);
    assert_int_equal(k->timeline_count, 1);
    assert_int_equal(k->window_count, 1);
    catalogue_keeps_free(k);
    world_end(&w);
}

/* A range that was restored in an image promises its source as long as the image is open. */
static void ranges_of_dropped_timelines(void **state) {
    struct world w;
    world_start(&w, 6);
    struct lines l = four_lines(&w);
    struct catalogue_object i =
        done(&w, CATALOGUE_IMAGE_OPEN, "i", l.v, 210, 321, CATALOGUE_WRITABLE);
    struct db d = {0};
    world_die(&w, 0, 0);
    assert_int_equal(db_open(&d, w.c.vfs, CATALOGUE_PATH, 0), 0);
    db_run(&d, "INSERT INTO range_references VALUES(900, ?, 0, 1, ?, 5, 0)", "ii",
           (uint64_t)i.line.id, (uint64_t)l.a);
    assert_int_equal(db_settle(&d), 0);
    db_close(&d);
    struct keep_promises *k = keeps(&w);
    assert_int_equal(k->moment_count, 6);
    must_view(k, 5, l.a, 5, 5);
    catalogue_keeps_free(k);
    done(&w, CATALOGUE_IMAGE_CLOSE, "", i.id, 0, 0, 0);
    k = keeps(&w);
    assert_int_equal(k->moment_count, 4);
    catalogue_keeps_free(k);
    world_end(&w);
}

static void a_promoted_image_inherits(void **state) {
    static const struct {
        uint64_t horizon, oldest; /* of the source, and of the new volume then */
        uint32_t stretches;       /* of the new volume */
    } cases[] = {
        {0, 1, 5},     /* 1 */
        {130, 130, 4}, /* 2: inherited */
        {210, 210, 3}, /* 3: the image's moment itself */
        {211, 211, 3}, /* 4: the source's past without it */
        {500, 500, 2}, /* 5 */
        {700, 700, 1}, /* 6: just its own */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        world_start(&w, 7);
        struct lines l = four_lines(&w);
        struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_SET, "");
        r.args.volumes[0] = l.v;
        r.args.flags = CATALOGUE_SET_RETAIN | CATALOGUE_SET_RETAIN_BYTES;
        r.args.retain_ns = 600 * SECOND;
        r.args.retain_bytes = 1 << 20;
        assert_int_equal(world_ask(&w, &r), 0);
        struct catalogue_object image =
            done(&w, CATALOGUE_IMAGE_OPEN, "i", l.v, 210, 600, CATALOGUE_WRITABLE);
        assert_int_equal(image.retain_ns, 0);
        advance(&w, l.v, cases[i].horizon, 42);
        struct catalogue_object o = done(&w, CATALOGUE_IMAGE_PROMOTE, "p", image.id, 0, 601, 0);
        assert_int_equal(o.oldest_sequence, cases[i].oldest);
        if (cases[i].horizon)
            assert_int_equal(o.oldest_ns, 42);
        assert_int_equal(o.line.id, image.line.id);
        assert_int_equal(o.retain_ns, 600 * SECOND);
        assert_int_equal(o.retain_bytes, 1 << 20);
        assert_int_equal(stretches(&w, o.id), cases[i].stretches);
        assert_int_equal(ask(&w, &r, CATALOGUE_RESOLVE, "", o.id, o.oldest_sequence - 1, 0, 0),
                         ERR_RANGE);
        assert_int_equal(ask(&w, &r, CATALOGUE_RESOLVE, "", o.id, o.oldest_sequence, 0, 0), 0);
        struct keep_promises *k = keeps(&w);
        assert_int_equal(k->window_count, 2);
        assert_int_equal(k->windows[1].horizon, cases[i].oldest);
        /* What the image was while it was open was not promised then, and is not now. */
        uint64_t own = max_u64(601, cases[i].oldest);
        for (uint32_t n = 0; n < k->moment_count; n++)
            if (k->moments[n].timeline == image.line.id)
                assert_int_equal(k->moments[n].from, own);
        if (cases[i].horizon < 600) {
            assert_int_equal(ask(&w, &r, CATALOGUE_RESOLVE, "", o.id, 600, 0, 0), 0);
            assert_int_equal(r.out.objects[0].line.id, l.d);
        }
        assert_int_equal(ask(&w, &r, CATALOGUE_RESOLVE, "", o.id, own, 0, 0), 0);
        assert_int_equal(r.out.objects[0].line.id, image.line.id);
        catalogue_keeps_free(k);
        world_end(&w);
    }
}

static void policies(void **state) {
    static const struct {
        uint32_t flags;
        uint64_t ns, bytes; /* asked for */
        uint64_t retain_ns, retain_bytes;
        uint32_t volume_flags;
    } cases[] = {
        {CATALOGUE_SET_RETAIN | CATALOGUE_KEEP_DURABILITY, 90, 7, 90, 5, VOLUME_DURABLE_WRITES},
        {CATALOGUE_SET_RETAIN_BYTES | CATALOGUE_KEEP_DURABILITY, 1, 0, 90, 0,
         VOLUME_DURABLE_WRITES},
        {0, 1, 1, 90, 0, 0},
        {CATALOGUE_SET_RETAIN | CATALOGUE_SET_RETAIN_BYTES | CATALOGUE_DURABLE_WRITES, 0, 8, 0, 8,
         VOLUME_DURABLE_WRITES},
    };
    struct world w;
    world_start(&w, 8);
    struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_CREATE, "v");
    r.args.size_bytes = 4096;
    r.args.from_sequence = 12;
    r.args.flags = CATALOGUE_DURABLE_WRITES;
    r.args.retain_ns = 60;
    r.args.retain_bytes = 5;
    assert_int_equal(world_ask(&w, &r), 0);
    uint64_t id = r.out.objects[0].id;
    assert_int_equal(r.out.objects[0].retain_ns, 60);
    assert_int_equal(r.out.objects[0].retain_bytes, 5);
    assert_int_equal(r.out.objects[0].oldest_sequence, 12);
    assert_int_equal(r.out.objects[0].oldest_ns, r.args.now_ns);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r = world_request(&w, CATALOGUE_VOLUME_SET, "");
        r.args.volumes[0] = id;
        r.args.flags = cases[i].flags;
        r.args.retain_ns = cases[i].ns;
        r.args.retain_bytes = cases[i].bytes;
        assert_int_equal(world_ask(&w, &r), 0);
        world_die(&w, 0, 0);
        struct catalogue_snapshot *s = world_snapshot(&w);
        const struct catalogue_object *o[] = {&r.out.objects[0], &s->objects[0]};
        for (int k = 0; k < 2; k++) {
            assert_int_equal(o[k]->retain_ns, cases[i].retain_ns);
            assert_int_equal(o[k]->retain_bytes, cases[i].retain_bytes);
            assert_int_equal(o[k]->flags, cases[i].volume_flags);
        }
        catalogue_snapshot_free(s);
    }
    world_end(&w);
}

/* A cold segment is born freed; the commit takes it out as it puts the old ones in. */
static void segments_that_are_cleaned(void **state) {
    struct world w;
    world_start(&w, 9);
    struct catalogue_request r = world_request(&w, CATALOGUE_SEGMENTS_FREE, "");
    r.args.segments[0] = 90;
    r.args.segment_count = 1;
    assert_int_equal(world_ask(&w, &r), 0);
    r = world_request(&w, CATALOGUE_SEGMENTS_CLEAN, "");
    r.args.segments[0] = 30;
    r.args.segments[1] = 10;
    r.args.segment_count = 2;
    r.args.cold = 90;
    struct catalogue_request again = r;
    assert_int_equal(world_ask(&w, &r), 0);
    struct catalogue_request reused = world_request(&w, CATALOGUE_SEGMENTS_FORGET, "");
    reused.args.segments[0] = 30;
    reused.args.segment_count = 1;
    assert_int_equal(world_ask(&w, &reused), 0);
    assert_int_equal(world_ask(&w, &again), 0); /* does not free what is used again */
    r = world_request(&w, CATALOGUE_SEGMENTS_CLEAN, "");
    r.args.segments[0] = 20;
    r.args.segment_count = 1;
    assert_int_equal(world_ask(&w, &r), 0);
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->freed_count, 2);
    assert_int_equal(s->freed[0], 10);
    assert_int_equal(s->freed[1], 20);
    catalogue_snapshot_free(s);
    world_end(&w);
}

/* The file as version 1 had it, with the result of an operation in the form of then. */
static void version_1_is_migrated(void **state) {
    static const char *const back[] = {
        "ALTER TABLE volumes DROP COLUMN horizon",
        "ALTER TABLE volumes DROP COLUMN horizon_ns",
        "ALTER TABLE volumes DROP COLUMN retain_ns",
        "ALTER TABLE volumes DROP COLUMN retain_bytes",
        "ALTER TABLE store DROP COLUMN sealed_up_to",
        "ALTER TABLE store DROP COLUMN losses",
        "ALTER TABLE store DROP COLUMN lost_before",
        "DROP TABLE activity",
        "DROP TABLE moments",
        "DROP TABLE thinning",
        "DROP TABLE zones",
        "DELETE FROM migrations WHERE version > 1",
        "UPDATE applied SET result = CAST(x'01' || substr(result, 2, 207) AS BLOB)",
        "PRAGMA user_version = 1",
    };
    struct world w;
    world_start(&w, 10);
    struct catalogue_request r = world_request(&w, CATALOGUE_VOLUME_CREATE, "v"), again;
    r.args.size_bytes = 4096;
    r.args.from_sequence = 7;
    again = r;
    assert_int_equal(world_ask(&w, &r), 0);
    uint64_t id = r.out.objects[0].id;
    world_die(&w, 0, 0);
    struct db d = {0};
    uint64_t columns = 0;
    assert_int_equal(db_open(&d, w.c.vfs, CATALOGUE_PATH, 0), 0);
    for (size_t i = 0; i < sizeof back / sizeof back[0]; i++)
        db_run(&d, back[i], "");
    db_one(&d, &columns, "SELECT count(*) FROM pragma_table_info('volumes')", "");
    assert_int_equal(db_settle(&d), 0);
    assert_int_equal(columns, 9);
    db_close(&d);

    assert_int_equal(world_ask(&w, &again), 0);
    assert_int_equal(again.out.objects[0].id, id);
    assert_int_equal(again.out.objects[0].line.first_sequence, 7);
    assert_int_equal(again.out.objects[0].oldest_sequence, 0);
    assert_int_equal(again.generation, r.generation);
    struct catalogue_snapshot *s = world_snapshot(&w);
    assert_int_equal(s->object_count, 1);
    assert_int_equal(s->objects[0].oldest_sequence, 7);
    assert_int_equal(s->objects[0].retain_ns, 0);
    assert_int_equal(s->objects[0].retain_bytes, 0);
    catalogue_snapshot_free(s);
    assert_int_equal(advance(&w, id, 9, 1).oldest_sequence, 9);
    world_die(&w, 1, 0); /* and once is enough */
    s = world_snapshot(&w);
    assert_int_equal(s->objects[0].oldest_sequence, 9);
    catalogue_snapshot_free(s);
    world_end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_horizon_only_advances),
        cmocka_unit_test(a_volume_that_is_gone_is_skipped),
        cmocka_unit_test(what_is_given_up_does_not_open),
        cmocka_unit_test(a_hold_keeps_what_it_needs),
        cmocka_unit_test(promises_against_a_model),
        cmocka_unit_test(everything_promised_is_listed),
        cmocka_unit_test(ranges_of_dropped_timelines),
        cmocka_unit_test(a_promoted_image_inherits),
        cmocka_unit_test(policies),
        cmocka_unit_test(a_horizon_of_another_age_is_not_heeded),
        cmocka_unit_test(segments_that_are_cleaned),
        cmocka_unit_test(version_1_is_migrated),
    };
    return cmocka_run_group_tests_name("catalogue_horizon", tests, NULL, NULL);
}
