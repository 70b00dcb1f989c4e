/* SPDX-License-Identifier: Apache-2.0 */
/* What thinning promises, and what it opens for a moment that was asked for, against a model that knows the step of
 * each single moment. */
#include "engine/catalogue/world_test.h"

#include "base/prng.h"
#include "base/units.h"

#define HOUR 3600u
#define DAY 86400u
#define LAST 900u /* sequence numbers are below */
#define ROWS 2048u
#define BEGIN_S 1000000u

struct row {
    uint64_t sequence, time_s, until_s;
    uint32_t step_s;
};

/* The time that a mark is said to show. */
static uint64_t mark_s(uint64_t sequence) {
    return BEGIN_S + 500 * sequence;
}

struct model {
    uint64_t id, levels[THINNING_LEVELS], horizon;
    uint32_t step_s[LAST]; /* promised of each moment */
    int marked[LAST];
};

struct bench {
    struct world w;
    struct row rows[ROWS];
    uint32_t row_count;
};

static void note(struct bench *b, uint64_t sequence, uint64_t time_s, uint64_t until_s) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_MOMENT, "");
    r.args.sequence = sequence;
    r.args.moment_ns = time_s * NS_PER_S;
    r.args.now_ns = until_s * NS_PER_S;
    r.args.store_ns = time_s * NS_PER_S;
    assert_int_equal(world_ask(&b->w, &r), 0);
    uint64_t before = b->row_count ? b->rows[b->row_count - 1].until_s : 0;
    uint32_t step_s = thinning_step_between(before, until_s);
    assert_true(b->row_count < ROWS);
    if (step_s)
        b->rows[b->row_count++] = (struct row){sequence, time_s, until_s, step_s};
}

static void set(struct bench *b, struct model *m, const uint64_t levels[THINNING_LEVELS]) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_VOLUME_SET, "");
    r.args.volumes[0] = m->id;
    r.args.volume_count = 1;
    r.args.flags = CATALOGUE_SET_THINNING | CATALOGUE_KEEP_DURABILITY;
    memcpy(r.args.thinning, levels, sizeof r.args.thinning);
    memcpy(m->levels, levels, sizeof m->levels);
    assert_int_equal(world_ask(&b->w, &r), 0);
    assert_memory_equal(r.out.objects[0].thinning, levels, sizeof m->levels);
}

static const struct row *row_at(const struct bench *b, uint64_t sequence) {
    for (uint32_t i = 0; i < b->row_count; i++)
        if (b->rows[i].sequence == sequence)
            return &b->rows[i];
    return NULL;
}

static int is_promised(const struct bench *b, const struct model *m, uint64_t s) {
    const struct row *row = row_at(b, s);
    return s >= m->horizon && s < LAST &&
           (m->step_s[s] == 0 || (row && row->step_s >= m->step_s[s]) || m->marked[s]);
}

static void thin_model(const struct bench *b, struct model *m, uint64_t now_s) {
    for (int i = 0; i < THINNING_LEVELS && m->levels[i]; i++) {
        uint64_t age_s = thinning_age_s(m->levels[i]), end = 0;
        for (uint32_t k = 0; k < b->row_count && now_s > age_s; k++)
            if (b->rows[k].time_s <= now_s - age_s)
                end = b->rows[k].sequence;
        for (uint64_t s = 0; s < end; s++)
            if (m->step_s[s] < thinning_step_s(m->levels[i]))
                m->step_s[s] = thinning_step_s(m->levels[i]);
    }
}

/* What a LIMITS query says of this volume: 0, its zones stay as they are. */
static uint64_t limits_say(struct bench *b, const struct model *m, uint64_t now_s) {
    static struct catalogue_list list;
    struct catalogue_request r = world_request(&b->w, CATALOGUE_LIMITS, "");
    r.args.store_ns = now_s * NS_PER_S;
    r.list = &list;
    assert_int_equal(world_ask(&b->w, &r), 0);
    for (uint32_t i = 0; i < list.count; i++)
        if (list.rows[i].volume == m->id) {
            assert_int_equal(list.rows[i].sequence, 0);
            return list.rows[i].fine_sequence;
        }
    return 0;
}

static uint64_t fine_of(const struct model *m) {
    uint64_t fine = LAST;
    while (fine > 0 && m->step_s[fine - 1] == 0)
        fine--;
    return fine;
}

static struct catalogue_object thin(struct bench *b, struct model *m, uint64_t now_s,
                                    uint64_t horizon) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_HORIZON, "");
    r.args.volumes[0] = m->id;
    r.args.volume_count = 1;
    r.args.thins[0] = 1;
    r.args.store_ns = now_s * NS_PER_S;
    r.args.horizons[0] = horizon;
    r.args.horizon_ns[0] = 5;
    struct model was = *m;
    thin_model(b, m, now_s);
    uint64_t said = limits_say(b, &was, now_s);
    if (memcmp(was.step_s, m->step_s, sizeof was.step_s) == 0)
        assert_int_equal(said, 0);
    else
        assert_int_equal(said, fine_of(m));
    m->horizon = max_u64(m->horizon, horizon);
    assert_int_equal(world_ask(&b->w, &r), 0);
    return r.out.objects[0];
}

static int opens(struct bench *b, const struct model *m, uint64_t s) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_RESOLVE, "");
    r.args.volumes[0] = m->id;
    r.args.volume_count = 1;
    r.args.sequence = s;
    int rc = world_ask(&b->w, &r);
    if (rc < 0)
        assert_int_equal(rc, ERR_RANGE);
    return rc == 0;
}

static void must_promise(struct bench *b, const struct model *m, const struct catalogue_object *o) {
    uint64_t oldest = 0, fine = fine_of(m);
    for (uint64_t s = 1; s < LAST; s++) {
        int promised = is_promised(b, m, s);
        if (opens(b, m, s) != promised)
            fail_msg("moment %u, step %u", (unsigned)s, m->step_s[s]);
        oldest = oldest ? oldest : promised ? s : 0;
    }
    assert_int_equal(o->oldest_sequence, oldest);
    assert_int_equal(o->fine_sequence, fine > m->horizon ? fine : 0);
    if (fine > m->horizon)
        assert_int_equal(o->fine_ns, row_at(b, fine)->time_s * NS_PER_S);
}

/* All that is promised is listed for cleanings, and nothing else. */
static void must_keep(struct bench *b, const struct model *m, uint32_t family) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_KEEPS, "");
    assert_int_equal(world_ask(&b->w, &r), 0);
    const struct keep_promises *k = r.keeps;
    for (uint64_t s = 1; s < LAST; s++) {
        int kept = 0;
        for (uint32_t i = 0; i < k->moment_count; i++) {
            const struct keep_moments *v = &k->moments[i];
            if (v->family != family || s < v->from || s > v->to)
                continue;
            kept |= v->step_s == 0;
            for (uint32_t c = 0; c < k->chosen_count; c++)
                kept |= k->chosen[c].sequence == s && k->chosen[c].step_s >= v->step_s;
        }
        assert_int_equal(kept, is_promised(b, m, s));
    }
    for (uint32_t i = 0; i < k->window_count; i++)
        if (k->windows[i].family == family)
            assert_int_equal(k->windows[i].horizon, max_u64(m->horizon, fine_of(m)));
    catalogue_keeps_free(r.keeps);
}

static int nearest(struct bench *b, const struct model *const *m, uint32_t count, uint64_t sequence,
                   uint64_t time_s, uint32_t flags, uint64_t words[4]) {
    struct catalogue_request r = world_request(&b->w, CATALOGUE_NEAREST, "");
    for (uint32_t i = 0; i < count; i++)
        r.args.volumes[i] = m[i]->id;
    r.args.volume_count = count;
    r.args.sequence = sequence;
    r.args.moment_ns = time_s * NS_PER_S;
    r.args.flags = flags;
    int rc = world_ask(&b->w, &r);
    memcpy(words, r.out.words, sizeof r.out.words);
    return rc;
}

/* The newest chosen or marked moment up to `sequence` that all promise, or one that is too old. */
static uint64_t model_nearest(const struct bench *b, const struct model *const *m, uint32_t count,
                              uint64_t sequence, uint64_t time_s) {
    for (uint64_t s = sequence; s > 0; s--) {
        const struct row *row = row_at(b, s);
        int chosen = row && row->time_s <= time_s;
        for (uint32_t i = 0; i < count; i++)
            chosen &= row && row->step_s >= m[i]->step_s[s];
        if (chosen || (count == 1 && m[0]->marked[s] && mark_s(s) <= time_s))
            return s;
    }
    return 1;
}

static void ask_around(struct bench *b, const struct model *const *m, uint32_t count,
                       uint64_t now_s, struct prng *p) {
    uint64_t words[4];
    for (int i = 0; i < 60; i++) {
        uint64_t s = 2 + prng_below(p, LAST - 2), expected;
        expected = model_nearest(b, m, count, s, UINT64_MAX);
        assert_int_equal(nearest(b, m, count, s, 0, 0, words), 0);
        assert_int_equal(words[0], expected);
        assert_int_equal(words[2], expected == s && expected > 1);
        assert_int_equal(nearest(b, m, count, s, 0, CATALOGUE_EXACT, words),
                         expected == s || expected == 1 ? 0 : ERR_RANGE);
        uint64_t t = BEGIN_S + prng_below(p, now_s - BEGIN_S);
        expected = model_nearest(b, m, count, LAST - 1, t);
        assert_int_equal(nearest(b, m, count, LAST - 1, t, CATALOGUE_BY_TIME, words), 0);
        assert_int_equal(words[0], expected);
        const struct row *row = row_at(b, expected);
        if (row && words[1] == row->time_s * NS_PER_S)
            assert_int_equal(words[2], t < row->until_s);
    }
}

static void mark(struct bench *b, struct model *m, uint64_t s, unsigned number) {
    char label[32];
    snprintf(label, sizeof label, "m%u", number);
    struct catalogue_request r = world_request(&b->w, CATALOGUE_MARK, label);
    r.args.volumes[0] = m->id;
    r.args.volume_count = 1;
    r.args.sequence = s;
    r.args.moment_ns = mark_s(s) * NS_PER_S;
    assert_int_equal(world_ask(&b->w, &r), is_promised(b, m, s) ? 0 : ERR_RANGE);
    m->marked[s] |= is_promised(b, m, s);
}

/* Records every 30 s or so, pauses up to days; two volumes whose policies change now and then. */
static void as_the_model_says(void **state) {
    static const uint32_t ages[] = {60, HOUR, 3 * HOUR, DAY, 2 * DAY};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench b = {0};
        struct prng p = prng_seed(seed);
        world_start(&b.w, seed);
        struct catalogue_object v[2] = {world_create(&b.w, "a", 1), world_create(&b.w, "b", 1)};
        struct model m[2] = {{.id = v[0].id, .horizon = 1}, {.id = v[1].id, .horizon = 1}};
        const struct model *const both[] = {&m[0], &m[1]};
        uint64_t s = 2, now_s = BEGIN_S;
        for (unsigned round = 0; round < 5; round++) {
            for (int i = 0; i < 40; i++) {
                uint64_t time_s = now_s;
                now_s += prng_one_in(&p, 12) ? prng_below(&p, 20 * HOUR) : 20 + prng_below(&p, 100);
                note(&b, s, time_s, now_s);
                s += 1 + prng_below(&p, 5);
            }
            for (int i = 0; i < 2; i++) {
                uint64_t levels[THINNING_LEVELS] = {0};
                uint32_t first = (uint32_t)prng_below(&p, 4), step = (uint32_t)prng_below(&p, 4);
                levels[0] = thinning_level(ages[first], thinning_step(step));
                if (prng_one_in(&p, 2))
                    levels[1] = thinning_level(ages[first + 1], thinning_step(step + 2));
                assert_true(thinning_is_valid(levels));
                if (round == 0 || prng_one_in(&p, 3))
                    set(&b, &m[i], levels);
                mark(&b, &m[i], 2 + prng_below(&p, s), round);
                uint64_t horizon = prng_one_in(&p, 3) ? prng_below(&p, s) : 0;
                for (uint64_t k = 0; k < horizon; k++)
                    m[i].marked[k] = 0;
                v[i] = thin(&b, &m[i], now_s, horizon);
                must_promise(&b, &m[i], &v[i]);
                must_keep(&b, &m[i], v[i].line.family);
            }
            if (m[0].horizon == 1 && m[1].horizon == 1) {
                ask_around(&b, both, 1, now_s, &p);
                ask_around(&b, both, 2, now_s, &p);
            }
        }
        world_end(&b.w);
    }
}

/* Chosen moments that no volume promises any more go; those that may still be chosen stay. */
static void moments_are_forgotten(void **state) {
    struct bench b = {0};
    world_start(&b.w, 9);
    struct model m = {.id = world_create(&b.w, "v", 1).id, .horizon = 1};
    const struct model *const one[] = {&m};
    for (uint64_t i = 0; i < 300; i++) /* an hour has sixty */
        note(&b, 1 + 2 * i, DAY + 60 * i, DAY + 60 * i + 60);
    uint64_t words[4], levels[THINNING_LEVELS] = {thinning_level(60, HOUR)};
    assert_int_equal(nearest(&b, one, 1, 411, 0, 0, words), 0);
    assert_int_equal(words[0], 411);
    set(&b, &m, levels);
    thin(&b, &m, DAY + 60 * 300, 0);
    assert_int_equal(nearest(&b, one, 1, 411, 0, 0, words), 0);
    assert_int_equal(words[0], model_nearest(&b, one, 1, 411, UINT64_MAX));
    assert_true(words[0] != 411);
    uint64_t none[THINNING_LEVELS] = {0};
    set(&b, &m, none);
    struct catalogue_request r = world_request(&b.w, CATALOGUE_KEEPS, "");
    assert_int_equal(world_ask(&b.w, &r), 0);
    assert_in_range(r.keeps->chosen_count, 5, 7);
    catalogue_keeps_free(r.keeps);
    world_end(&b.w);
}

static void refusals_say_why(void **state) {
    struct bench b = {0};
    uint64_t words[4], levels[THINNING_LEVELS] = {thinning_level(60, 21600)};
    world_start(&b.w, 11);
    struct model m = {.id = world_create(&b.w, "v", 1).id, .horizon = 1};
    const struct model *const one[] = {&m};
    for (uint64_t i = 0; i < 2000; i++)
        note(&b, 1 + i / 4, 60 * i, 60 * i + 60);
    b.row_count = 0;
    set(&b, &m, levels);
    struct catalogue_request r = world_request(&b.w, CATALOGUE_HORIZON, "");
    r.args.volumes[0] = m.id;
    r.args.volume_count = r.args.thins[0] = 1;
    r.args.store_ns = 120060 * NS_PER_S;
    assert_int_equal(world_ask(&b.w, &r), 0);
    r = world_request(&b.w, CATALOGUE_RESOLVE, "");
    r.args.volumes[0] = m.id;
    r.args.volume_count = 1;
    r.args.sequence = 100;
    assert_int_equal(world_ask(&b.w, &r), ERR_RANGE);
    assert_string_equal(r.detail,
                        "v keeps one moment for each 6 hours of that time, and not this one");
    r = world_request(&b.w, CATALOGUE_NEAREST, "");
    r.args.volumes[0] = m.id;
    r.args.volume_count = 1;
    r.args.sequence = 100;
    r.args.flags = CATALOGUE_EXACT;
    assert_int_equal(world_ask(&b.w, &r), ERR_RANGE);
    assert_string_equal(r.detail, "v keeps one moment for each 6 hours of that time; the one before"
                                  " is 1970-01-01T06:00:00Z");
    assert_int_equal(nearest(&b, one, 1, 100, 0, 0, words), 0);
    assert_int_equal(words[0], 91);
    world_end(&b.w);
}

static void policies(void **state) {
    static const struct {
        uint64_t levels[THINNING_LEVELS];
        int is_valid;
    } cases[] = {
        {{0}, 1},
        {{(uint64_t)60 << 32 | 60}, 1},
        {{(uint64_t)60 << 32 | 61}, 0},
        {{(uint64_t)0 << 32 | 60}, 0},
        {{(uint64_t)60 << 32 | 60, (uint64_t)60 << 32 | 3600}, 0},
        {{(uint64_t)60 << 32 | 60, (uint64_t)61 << 32 | 60}, 0},
        {{(uint64_t)60 << 32 | 60, (uint64_t)61 << 32 | 300}, 1},
        {{0, (uint64_t)60 << 32 | 60}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(thinning_is_valid(cases[i].levels), cases[i].is_valid);
    for (uint32_t n = 0; n + 1 < THINNING_STEPS; n++)
        assert_int_equal(thinning_step(n + 1) % thinning_step(n), 0);
    assert_int_equal(thinning_step_between(59, 60), 60);
    assert_int_equal(thinning_step_between(60, 119), 0);
    assert_int_equal(thinning_step_between(86399, 86400), 86400);
    assert_int_equal(thinning_step_between(7300, 7100), 3600); /* the clock was set back */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_model_says),
        cmocka_unit_test(moments_are_forgotten),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(policies),
    };
    return cmocka_run_group_tests_name("catalogue_thin", tests, NULL, NULL);
}
