/* SPDX-License-Identifier: Apache-2.0 */
/* Random histories of a chunk over trees of timelines: every promised moment shows the same blocks with what
 * is kept as with everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "engine/clean/keep.h"

#define LINES 12u
#define VERSIONS 60u
#define VIEWS 6u
#define FAMILY 1u
#define CHOSEN 40u

struct history {
    struct keep_timeline lines[LINES];
    struct keep_moments views[VIEWS];
    struct keep_version versions[VERSIONS];
    struct keep_window window;
    uint32_t line_count, view_count, version_count;
    struct keep_chosen chosen[CHOSEN];
    uint32_t chosen_count;
    uint64_t last;
};

static struct keep_promises promises(struct history *h) {
    return (struct keep_promises){.timelines = h->lines,
                                  .timeline_count = h->line_count,
                                  .moments = h->views,
                                  .moment_count = h->view_count,
                                  .windows = &h->window,
                                  .window_count = 1,
                                  .chosen = h->chosen,
                                  .chosen_count = h->chosen_count};
}

static void make(struct history *h, struct prng *p) {
    *h = (struct history){.line_count = 1 + (uint32_t)prng_below(p, LINES),
                          .view_count = 1 + (uint32_t)prng_below(p, VIEWS),
                          .version_count = 1 + (uint32_t)prng_below(p, VERSIONS)};
    h->last = 4 * h->version_count;
    for (uint32_t i = 0; i < h->line_count; i++)
        h->lines[i] = (struct keep_timeline){.id = i + 1,
                                             .family = FAMILY,
                                             .parent = i ? 1 + (uint32_t)prng_below(p, i) : 0,
                                             .fork_sequence = prng_below(p, h->last + 1)};
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < h->view_count; i++) {
        uint64_t from = prng_below(p, h->last + 2), more = prng_below(p, h->last);
        h->views[i] = (struct keep_moments){.timeline = 1 + (uint32_t)prng_below(p, h->line_count),
                                            .family = FAMILY,
                                            .from = prng_one_in(p, 5) ? UINT64_MAX : from,
                                            .to = prng_one_in(p, 2) ? UINT64_MAX : from + more};
        if (h->views[i].from == UINT64_MAX)
            h->views[i].to = UINT64_MAX;
        else if (prng_one_in(p, 2))
            h->views[i].step_s = thinning_step((uint32_t)prng_below(p, THINNING_STEPS));
        oldest = min_u64(oldest, h->views[i].from);
    }
    h->window = (struct keep_window){FAMILY, oldest};
    for (uint64_t s = 0; s < h->last && h->chosen_count < CHOSEN; s += 1 + prng_below(p, 12))
        h->chosen[h->chosen_count++] =
            (struct keep_chosen){s, thinning_step((uint32_t)prng_below(p, THINNING_STEPS))};
    for (uint32_t i = 0; i < h->version_count; i++)
        h->versions[i] = (struct keep_version){
            .sequence = 4 * (uint64_t)i + 1 + prng_below(p, 4),
            .blocks = prng_one_in(p, 3) ? UINT64_MAX : UINT64_C(1) << prng_below(p, 64) | 0xf0,
            .timeline = 1 + (uint32_t)prng_below(p, h->line_count),
            .is_hole = prng_one_in(p, 3),
            .item = i};
}

/* Number of the version that the view shows at the moment, or -1; those that are not kept left out. */
static int shown(const struct history *h, const struct keep_version *v, const struct ancestry *line,
                 uint64_t moment, uint32_t block, int kept_alone) {
    int best = -1;
    uint64_t newest = 0;
    for (uint32_t i = 0; i < h->version_count; i++) {
        uint64_t blocks = kept_alone ? v[i].kept : v[i].blocks;
        if (!(blocks >> block & 1) || v[i].sequence > moment || v[i].sequence <= newest ||
            v[i].sequence > ancestry_limit(line, v[i].timeline))
            continue;
        newest = v[i].sequence;
        best = (int)i;
    }
    return best >= 0 && v[best].is_hole ? -1 : best;
}

static int is_promised(const struct history *h, const struct keep_view *view, uint64_t moment) {
    for (uint32_t i = 0; i < h->chosen_count; i++)
        if (h->chosen[i].sequence == moment && h->chosen[i].step_s >= view->step_s)
            return 1;
    return view->step_s == 0;
}

static void check_view(const struct history *h, const struct keep_version *v,
                       const struct keep_view *view) {
    for (uint64_t m = view->from; m <= min_u64(view->to, h->last + 3); m++)
        for (uint32_t b = 0; b < 64 && is_promised(h, view, m); b++)
            assert_int_equal(shown(h, v, &view->line, m, b, 0), shown(h, v, &view->line, m, b, 1));
    for (uint32_t b = 0; b < 64 && view->to == UINT64_MAX && view->step_s == 0; b++)
        assert_int_equal(shown(h, v, &view->line, UINT64_MAX, b, 0),
                         shown(h, v, &view->line, UINT64_MAX, b, 1));
}

/* Of random histories: all moments that are promised are the same. And much goes. */
static void promised_moments_stay(void **state) {
    uint64_t dropped = 0, all = 0;
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct prng p = prng_seed(seed);
        struct history h;
        struct keep k;
        make(&h, &p);
        struct keep_promises all_of_it = promises(&h);
        assert_int_equal(
            keep_make(&k, &all_of_it, prng_one_in(&p, 2) ? UINT64_MAX : prng_below(&p, h.last)), 0);
        keep_chunk(&k, FAMILY, h.versions, h.version_count);
        for (uint32_t i = 0; i < k.view_count; i++)
            check_view(&h, h.versions, &k.views[i]);
        for (uint32_t i = 0; i < h.version_count; i++) {
            assert_true((h.versions[i].kept & ~h.versions[i].blocks) == 0);
            all += (uint64_t)__builtin_popcountll(h.versions[i].blocks);
            dropped += (uint64_t)__builtin_popcountll(h.versions[i].blocks & ~h.versions[i].kept);
        }
        keep_free(&k);
    }
    assert_true(dropped > all / 4);
}

static uint64_t kept_of(const struct keep *k, struct keep_version *v, uint32_t n,
                        uint64_t sequence) {
    keep_chunk(k, FAMILY, v, n);
    for (uint32_t i = 0; i < n; i++)
        if (v[i].sequence == sequence)
            return v[i].kept;
    fail();
    return 0;
}

static int make_of(struct keep *k, const struct keep_timeline *lines, uint32_t line_count,
                   const struct keep_moments *moments, uint32_t moment_count,
                   const struct keep_window *windows, uint32_t window_count, uint64_t complete) {
    struct keep_promises p = {.timelines = (void *)(uintptr_t)lines,
                              .timeline_count = line_count,
                              .moments = (void *)(uintptr_t)moments,
                              .moment_count = moment_count,
                              .windows = (void *)(uintptr_t)windows,
                              .window_count = window_count};
    return keep_make(k, &p, complete);
}

/* 1. of the present alone the newest, 2. of a window what is in it and one more, 3. nothing of a family
 * without views, 4. a view that begins beyond what is complete begins there. */
static void rules_one_by_one(void **state) {
    const struct keep_timeline line = {.id = 1, .family = FAMILY};
    const struct keep_moments present = {1, FAMILY, UINT64_MAX, UINT64_MAX, 0};
    const struct keep_moments window = {1, FAMILY, 25, UINT64_MAX, 0};
    struct keep_version v[] = {{.sequence = 10, .blocks = 1, .timeline = 1, .item = 0},
                               {.sequence = 20, .blocks = 1, .timeline = 1, .item = 1},
                               {.sequence = 30, .blocks = 1, .timeline = 1, .item = 2}};
    struct keep k;
    assert_int_equal(make_of(&k, &line, 1, &present, 1, NULL, 0, UINT64_MAX), 0);
    assert_int_equal(kept_of(&k, v, 3, 30), 1);
    assert_int_equal(kept_of(&k, v, 3, 20), 0);
    keep_free(&k);
    assert_int_equal(make_of(&k, &line, 1, &window, 1, NULL, 0, UINT64_MAX), 0);
    assert_int_equal(kept_of(&k, v, 3, 30), 1);
    assert_int_equal(kept_of(&k, v, 3, 20), 1);
    assert_int_equal(kept_of(&k, v, 3, 10), 0);
    keep_free(&k);
    assert_int_equal(make_of(&k, &line, 1, NULL, 0, NULL, 0, UINT64_MAX), 0);
    assert_int_equal(kept_of(&k, v, 3, 30), 0);
    keep_free(&k);
    assert_int_equal(make_of(&k, &line, 1, &present, 1, NULL, 0, 15), 0);
    assert_int_equal(kept_of(&k, v, 3, 20), 1);
    assert_int_equal(kept_of(&k, v, 3, 10), 1);
    keep_free(&k);
}

/* A hole at the bottom goes; one in the window, or with something under it that no view needs, does not. */
static void holes(void **state) {
    const struct keep_timeline line = {.id = 1, .family = FAMILY};
    const struct keep_moments window = {1, FAMILY, 25, UINT64_MAX, 0};
    const struct keep_window horizon = {FAMILY, 25};
    struct keep k;
    assert_int_equal(make_of(&k, &line, 1, &window, 1, &horizon, 1, UINT64_MAX), 0);
    struct keep_version bottom = {.sequence = 20, .blocks = 3, .timeline = 1, .is_hole = 1};
    assert_int_equal(kept_of(&k, &bottom, 1, 20), 0);
    struct keep_version in_window = {.sequence = 30, .blocks = 3, .timeline = 1, .is_hole = 1};
    assert_int_equal(kept_of(&k, &in_window, 1, 30), 3);
    struct keep_version over[] = {{.sequence = 10, .blocks = 1, .timeline = 1, .item = 0},
                                  {.sequence = 20, .blocks = 3, .timeline = 1, .is_hole = 1}};
    assert_int_equal(kept_of(&k, over, 2, 10), 0);
    assert_int_equal(kept_of(&k, over, 2, 20), 1);
    keep_free(&k);
}

/* Of chosen moments just what they show: 1. the newest before each, 2. of those of the view's step or a longer
 * one, 3. in its range, 4. and one that is complete counts as chosen, as what follows is not known. */
static void chosen_moments(void **state) {
    static const struct {
        uint64_t from, to, complete;
        uint32_t step_s;
        const char *kept; /* of 10, 20, 30, 40, 50 */
    } cases[] = {
        {0, 60, UINT64_MAX, 60, "+--+-"},   /* 1 */
        {0, 60, UINT64_MAX, 3600, "---+-"}, /* 2 */
        {20, 60, UINT64_MAX, 60, "---+-"},  /* 3 */
        {0, 44, UINT64_MAX, 60, "+----"},   /* 3 */
        {0, 60, 22, 60, "+++++"},           /* 4 */
    };
    struct keep_timeline line = {.id = 1, .family = FAMILY};
    struct keep_chosen chosen[] = {{15, 60}, {45, 3600}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct keep_moments view = {1, FAMILY, cases[i].from, cases[i].to, cases[i].step_s};
        struct keep_promises p = {.timelines = &line,
                                  .timeline_count = 1,
                                  .moments = &view,
                                  .moment_count = 1,
                                  .chosen = chosen,
                                  .chosen_count = 2};
        struct keep k;
        struct keep_version v[5];
        for (uint32_t n = 0; n < 5; n++)
            v[n] = (struct keep_version){
                .sequence = 10 * (n + 1), .blocks = 1, .timeline = 1, .item = n};
        assert_int_equal(keep_make(&k, &p, cases[i].complete), 0);
        for (uint32_t n = 0; n < 5; n++)
            assert_int_equal(kept_of(&k, v, 5, 10 * (n + 1)), cases[i].kept[n] == '+');
        keep_free(&k);
    }
    struct keep_moments no_step = {1, FAMILY, 0, 60, 61};
    struct keep k;
    assert_int_equal(make_of(&k, &line, 1, &no_step, 1, NULL, 0, 0), ERR_INTEGRITY);
}

static void broken_trees_are_refused(void **state) {
    const struct keep_timeline orphan = {.id = 5, .family = FAMILY, .parent = 3};
    const struct keep_timeline self = {.id = 5, .family = FAMILY, .parent = 5};
    const struct keep_moments of = {5, FAMILY, 1, 2, 0}, missing = {6, FAMILY, 1, 2, 0};
    struct keep k;
    assert_int_equal(make_of(&k, &orphan, 1, &of, 1, NULL, 0, 0), ERR_INTEGRITY);
    assert_int_equal(make_of(&k, &self, 1, &of, 1, NULL, 0, 0), ERR_INTEGRITY);
    assert_int_equal(make_of(&k, &orphan, 1, &missing, 1, NULL, 0, 0), ERR_INTEGRITY);
}

static void the_oldest_horizon_of_a_family_counts(void **state) {
    const struct keep_window windows[] = {{9, 70}, {4, 20}, {9, 30}, {9, 50}};
    struct keep k;
    assert_int_equal(make_of(&k, NULL, 0, NULL, 0, windows, 4, 0), 0);
    assert_int_equal(keep_horizon(&k, 9), 30);
    assert_int_equal(keep_horizon(&k, 4), 20);
    assert_true(keep_horizon(&k, 5) == UINT64_MAX);
    keep_free(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promised_moments_stay),
        cmocka_unit_test(rules_one_by_one),
        cmocka_unit_test(holes),
        cmocka_unit_test(chosen_moments),
        cmocka_unit_test(broken_trees_are_refused),
        cmocka_unit_test(the_oldest_horizon_of_a_family_counts),
    };
    return cmocka_run_group_tests_name("keep", tests, NULL, NULL);
}
