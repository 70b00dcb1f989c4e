/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "engine/index/run.h"
#include "engine/index/run_build.h"

#define IDENTITY UINT64_C(0x500000001)

/* Versions to be put into a run, and their checksums. */
struct versions {
    struct run_entry *e;
    struct run_interval *i;
    uint32_t entries, intervals;
    uint32_t *crc;
    uint64_t blocks;
};

/* One timeline per family, that sees itself. */
static const struct ancestor self = {3, UINT64_MAX};
static struct ancestry view_of(uint32_t family) {
    return (struct ancestry){.timeline = 3, .family = family, .count = 1, .list = &self};
}

static struct versions make(struct prng *p, uint32_t n, uint64_t chunks, uint32_t families,
                            int any_kind) {
    struct versions v = {.e = calloc(n, sizeof *v.e),
                         .i = calloc(n, sizeof *v.i),
                         .crc = malloc(n * 64 * sizeof *v.crc)};
    uint64_t time_ns = 1000000;
    for (uint32_t k = 0; k < n; k++) {
        uint64_t sequence = 1000 + k;
        time_ns += prng_one_in(p, 3) ? prng_below(p, 1000000) : 0;
        uint32_t family = 1 + (uint32_t)prng_below(p, families);
        uint32_t timeline = any_kind && prng_one_in(p, 3) ? 4 : 3;
        enum place_kind kind = PLACE_DATA;
        if (any_kind && prng_one_in(p, 3))
            kind = (enum place_kind)(PLACE_ZERO + prng_below(p, 3));
        if (kind != PLACE_DATA && prng_one_in(p, 3)) {
            uint64_t block = prng_below(p, chunks * 64);
            v.i[v.intervals++] =
                (struct run_interval){.family = family,
                                      .timeline = timeline,
                                      .kind = kind,
                                      .ref_timeline = 3,
                                      .block = block,
                                      .end_block = block + 1 + prng_below(p, chunks * 64),
                                      .sequence = sequence,
                                      .time_ns = time_ns,
                                      .ref_sequence = sequence - 1 - prng_below(p, 900)};
            continue;
        }
        uint32_t first = (uint32_t)prng_below(p, 64);
        uint32_t blocks =
            any_kind && prng_one_in(p, 4) ? 1 + (uint32_t)prng_below(p, 64 - first) : 1;
        struct run_entry *e = &v.e[v.entries++];
        *e = (struct run_entry){.family = family,
                                .timeline = timeline,
                                .segment = 5,
                                .blocks = blocks,
                                .block = prng_below(p, chunks) * 64 + first,
                                .sequence = sequence,
                                .time_ns = time_ns,
                                .place = place_of_kind(kind),
                                .ref_timeline = 3,
                                .ref_sequence = sequence - 1 - prng_below(p, 900)};
        if (kind == PLACE_DATA) {
            e->segment = 5 + k * 8 / n;
            e->place = place_data(e->segment, (uint32_t)(prng_below(p, 16000) * 4096));
            if (any_kind && blocks == 1 && prng_one_in(p, 5))
                e->place = (e->place & ~UINT64_C(0x1fffff)) | prng_below(p, 7) << 17 | 12345;
            e->crc = v.crc + v.blocks;
            for (uint32_t b = 0; b < blocks; b++)
                v.crc[v.blocks++] = (uint32_t)prng_next(p);
        }
    }
    return v;
}

static void discard(struct versions *v) {
    free(v->e);
    free(v->i);
    free(v->crc);
}

static uint8_t *build(struct versions *v, size_t *len) {
    struct run_input in = {v->e, v->entries, v->i, v->intervals};
    uint8_t *bytes;
    assert_int_equal(run_make(&in, IDENTITY, &bytes, len), 0);
    return bytes;
}

/* Searches a run as find.c does; 0, or the error. The run's bytes need not check. */
static int find(const uint8_t *run, size_t len, const struct ancestry *view, uint64_t limit,
                uint64_t chunk, struct level_result *r) {
    struct run_directory d;
    int64_t need = run_directory_need(run, len, IDENTITY);
    if (need < 0)
        return (int)need;
    uint8_t *bytes = malloc((size_t)need);
    memcpy(bytes, run, (size_t)need);
    int err = run_directory_open(&d, bytes, (uint64_t)need, IDENTITY);
    if (err < 0) {
        free(bytes);
        return err;
    }
    memset(r->best, 0, sizeof r->best);
    uint32_t leaf, end;
    run_find_intervals(&d, view, limit, chunk, r);
    run_leaves(&d, view->family, chunk, r, &leaf, &end);
    for (; err == 0 && leaf < end; leaf++) {
        if (run_leaf_is_vain(&d, leaf, view->family, limit, chunk, r))
            continue;
        const uint8_t *page = run + ((size_t)d.header.first_leaf_page + leaf) * RUN_PAGE_BYTES;
        err = leaf_check(page, IDENTITY, leaf);
        if (err == 0)
            err = run_find_in_leaf(&d, page, view, limit, chunk, r);
    }
    run_directory_close(&d);
    return err;
}

/* The same, from the versions themselves. */
static void find_plainly(const struct versions *v, const struct ancestry *view, uint64_t limit,
                         uint64_t chunk, struct level_result *r) {
    memset(r->best, 0, sizeof r->best);
    for (uint32_t b = 0; b < 64; b++) {
        uint64_t block = chunk * 64 + b;
        if (!(r->wanted >> b & 1))
            continue;
        for (uint32_t k = 0; k < v->entries; k++) {
            const struct run_entry *e = &v->e[k];
            if (e->family != view->family || e->timeline != 3 || e->sequence > limit ||
                block < e->block || block >= e->block + e->blocks || e->sequence < r->best[b])
                continue;
            r->best[b] = e->sequence;
            r->found[b].place = place_block(e->place, (uint32_t)(block - e->block));
            r->found[b].crc = e->crc ? e->crc[block - e->block] : 0;
            r->ref_timeline[b] = e->ref_timeline;
            r->ref_sequence[b] = e->ref_sequence;
        }
        for (uint32_t k = 0; k < v->intervals; k++) {
            const struct run_interval *i = &v->i[k];
            if (i->family != view->family || i->timeline != 3 || i->sequence > limit ||
                block < i->block || block >= i->end_block || i->sequence < r->best[b])
                continue;
            r->best[b] = i->sequence;
            r->found[b] = (struct block_place){.place = place_of_kind(i->kind)};
            r->ref_timeline[b] = i->ref_timeline;
            r->ref_sequence[b] = i->ref_sequence;
        }
    }
}

static int same(const struct level_result *a, const struct level_result *b) {
    for (uint64_t left = a->wanted; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzll(left);
        if (a->best[i] != b->best[i])
            return 0;
        if (a->best[i] == 0)
            continue;
        enum place_kind kind = place_kind(a->found[i].place);
        if (a->found[i].place != b->found[i].place ||
            (kind == PLACE_DATA && a->found[i].crc != b->found[i].crc) ||
            (kind == PLACE_REFERENCE && (a->ref_timeline[i] != b->ref_timeline[i] ||
                                         a->ref_sequence[i] != b->ref_sequence[i])))
            return 0;
    }
    return 1;
}

static void a_run_answers_as_its_versions(void **state) {
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct prng p = prng_seed(seed);
        uint64_t chunks = 1 + prng_below(&p, 40);
        uint32_t n = 1 + (uint32_t)prng_below(&p, seed % 4 == 0 ? 3000 : 300);
        struct versions v = make(&p, n, chunks, 1 + (uint32_t)prng_below(&p, 3), 1);
        size_t len;
        uint8_t *run = build(&v, &len);
        for (int q = 0; q < 100; q++) {
            struct ancestry view = view_of(1 + (uint32_t)prng_below(&p, 4));
            uint64_t limit = prng_one_in(&p, 3) ? UINT64_MAX : 990 + prng_below(&p, n + 20);
            uint64_t chunk = prng_below(&p, chunks + 2);
            struct level_result a, b;
            a.wanted = prng_one_in(&p, 2) ? prng_next(&p) | 1 : UINT64_C(1) << prng_below(&p, 64);
            b.wanted = a.wanted;
            find_plainly(&v, &view, limit, chunk, &a);
            assert_int_equal(find(run, len, &view, limit, chunk, &b), 0);
            assert_true(same(&a, &b));
        }
        free(run);
        discard(&v);
    }
}

/* One block written 20,000 times, beside one written once: neither costs a walk over the other. */
static void a_hot_block_does_not_hide_its_neighbour(void **state) {
    struct prng p = prng_seed(1);
    struct versions v = make(&p, 20000, 1, 1, 0);
    for (uint32_t i = 0; i < v.entries; i++)
        v.e[i].block = i == 77 ? 20 : 10;
    size_t len;
    uint8_t *run = build(&v, &len), *copy;
    struct run_directory d;
    struct ancestry view = view_of(1);
    int64_t need = run_directory_need(run, len, IDENTITY);
    copy = malloc((size_t)need);
    memcpy(copy, run, (size_t)need);
    assert_int_equal(run_directory_open(&d, copy, (uint64_t)need, IDENTITY), 0);
    assert_true(d.header.leaves > 30);
    const struct {
        uint32_t block;
        uint64_t limit;
    } cases[] = {{20, UINT64_MAX}, {10, 1000 + 10000}, {10, 1000}, {20, 1000 + 76}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t leaf, end, read = 0;
        struct level_result a = {.wanted = UINT64_C(1) << cases[i].block}, b = a;
        run_leaves(&d, 1, 0, &a, &leaf, &end);
        for (; leaf < end; leaf++) {
            if (run_leaf_is_vain(&d, leaf, 1, cases[i].limit, 0, &a))
                continue;
            const uint8_t *page = run + ((size_t)d.header.first_leaf_page + leaf) * RUN_PAGE_BYTES;
            assert_int_equal(run_find_in_leaf(&d, page, &view, cases[i].limit, 0, &a), 0);
            read++;
        }
        assert_true(read <= 2);
        find_plainly(&v, &view, cases[i].limit, 0, &b);
        assert_true(same(&a, &b));
    }
    run_directory_close(&d);
    free(run);
    discard(&v);
}

static void count_time(void *ctx, uint64_t sequence, uint64_t time_ns) {
    uint64_t *last = ctx;
    assert_true(sequence > last[0] && time_ns > last[1]);
    last[0] = sequence;
    last[1] = time_ns;
    last[2]++;
}

static void times_ascend(void **state) {
    struct prng p = prng_seed(9);
    struct versions v = make(&p, 3000, 10, 1, 1);
    size_t len;
    uint8_t *run = build(&v, &len);
    uint64_t last[3] = {0};
    assert_int_equal(run_times(run, len, count_time, last), 0);
    assert_true(last[2] > 800 && last[2] < 1200);
    free(run);
    discard(&v);
}

/* At rest: eight segments merged, 4 KiB random writes over 16 GiB. */
static void bytes_per_write(void **state) {
    struct prng p = prng_seed(2);
    struct versions v = make(&p, 8 * 16000, 65536, 1, 0);
    size_t len;
    uint8_t *run = build(&v, &len);
    struct run_header h;
    assert_int_equal(run_header_decode(run, &h), 0);
    double each = (double)len / v.entries;
    printf("%u random writes of 4 KiB in one run: %.2f bytes each (leaves %.2f, filter %.2f, "
           "fences %.2f, times %.2f)\n",
           v.entries, each, (double)h.leaves * 4096 / v.entries,
           (double)h.parts[RUN_FILTER].bytes / v.entries,
           (double)h.parts[RUN_FENCES].bytes / v.entries,
           (double)h.parts[RUN_TIMES].bytes / v.entries);
    assert_true(each <= 20.0);
    free(run);
    discard(&v);
}

/* Keys are as fine as their number allows; what is not there passes seldom, block by block. */
static void the_filter_knows_blocks(void **state) {
    static const struct {
        uint32_t entries, blocks, apart, shift;
    } cases[] = {
        {1000, 1, 7, 0}, {1000, 2, 4, 1}, {500, 16, 32, 4}, {500, 64, 64, 6}, {2000, 1, 0, 0}};
    static const uint32_t crc[64];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct run_entry *e = calloc(cases[c].entries, sizeof *e);
        for (uint32_t i = 0; i < cases[c].entries; i++)
            e[i] = (struct run_entry){.family = 1,
                                      .timeline = 1,
                                      .segment = 1,
                                      .blocks = cases[c].blocks,
                                      .block = (uint64_t)i * cases[c].apart,
                                      .sequence = 1000 + i,
                                      .time_ns = 1,
                                      .place = place_data(1, 4096 * (i % 100)),
                                      .crc = crc};
        struct run_input in = {.entries = e, .entry_count = cases[c].entries};
        struct run_directory d;
        uint8_t *run;
        size_t len;
        assert_int_equal(run_make(&in, IDENTITY, &run, &len), 0);
        assert_int_equal(run_directory_open(&d, run, len, IDENTITY), 0);
        assert_int_equal(d.header.filter_shift, cases[c].shift);
        uint32_t passed = 0, there = 0;
        uint64_t end = e[cases[c].entries - 1].block + cases[c].blocks;
        for (uint64_t block = 0; block < end; block++) {
            struct level_result r = {.wanted = UINT64_C(1) << block % 64};
            uint32_t leaf, leaf_end;
            run_leaves(&d, 1, block / 64, &r, &leaf, &leaf_end);
            int is = cases[c].apart == 0 || block % cases[c].apart < cases[c].blocks;
            assert_true(!is || (r.wanted && leaf < leaf_end));
            passed += r.wanted != 0;
            there += is;
        }
        assert_true(passed - there <= end / 20);
        run_directory_close(&d);
        free(e);
    }
}

static void the_filter_lets_few_strangers_pass(void **state) {
    enum { KEYS = 16384, STRANGERS = 1000000 };
    uint32_t lines = run_filter_lines(KEYS);
    uint8_t *filter = calloc(lines, RUN_FILTER_LINE_BYTES);
    for (uint64_t k = 0; k < KEYS; k++)
        run_filter_add(filter, lines, 3, k * 37);
    for (uint64_t k = 0; k < KEYS; k++)
        assert_true(run_filter_test(filter, lines, 3, k * 37));
    uint32_t passed = 0;
    for (uint64_t k = 0; k < STRANGERS; k++)
        passed += run_filter_test(filter, lines, 4, k);
    printf("filter of %u bits a key: %.2f %% of strangers pass\n", RUN_FILTER_BITS_PER_KEY,
           100.0 * passed / STRANGERS);
    assert_true(passed < STRANGERS * 2 / 100);
    assert_false(run_filter_test(filter, 0, 3, 0));
    free(filter);
}

static void the_bound_holds(void **state) {
    double tightest = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct prng p = prng_seed(seed);
        uint64_t chunks = UINT64_C(1) << (1 + prng_below(&p, 34));
        uint32_t n = 1 + (uint32_t)prng_below(&p, 3000);
        struct versions v = make(&p, n, chunks, 3, seed % 2 == 0);
        for (uint32_t i = 0; i < v.entries; i++) {
            v.e[i].segment = 5;
            if (place_kind(v.e[i].place) == PLACE_DATA)
                v.e[i].place = (v.e[i].place & UINT32_MAX) | UINT64_C(5) << 32;
        }
        uint64_t most = run_bytes_max(n, (uint32_t)v.blocks);
        size_t len;
        free(build(&v, &len));
        assert_true(len <= most);
        double used = (double)len / (double)most;
        tightest = used > tightest ? used : tightest;
        discard(&v);
    }
    assert_true(tightest > 0.3);
}

/* Every byte of a run changed: an error, or the answer as before; never a crash, never another. */
static void flipped_bytes_are_found(void **state) {
    struct prng p = prng_seed(4);
    struct versions v = make(&p, 350, 12, 2, 1);
    size_t len;
    uint8_t *run = build(&v, &len);
    struct level_result want[24];
    uint32_t errors = 0, silent = 0;
    for (uint32_t q = 0; q < 24; q++) {
        struct ancestry view = view_of(1 + q % 2);
        want[q].wanted = UINT64_MAX;
        find_plainly(&v, &view, UINT64_MAX, q / 2, &want[q]);
    }
    for (size_t at = 0; at < len; at++) {
        uint8_t right = run[at];
        run[at] ^= (uint8_t)(1u << prng_below(&p, 8));
        for (uint32_t q = at % 3; q < 24; q += 3) {
            struct ancestry view = view_of(1 + q % 2);
            struct level_result r = {.wanted = UINT64_MAX};
            int err = find(run, len, &view, UINT64_MAX, q / 2, &r);
            errors += err < 0;
            silent += err == 0;
            assert_true(err < 0 || same(&want[q], &r));
        }
        uint64_t last[3] = {0};
        run_times(run, len, count_time, last);
        run[at] = right;
    }
    assert_true(errors > len / 4 && silent > 0);
    free(run);
    discard(&v);
}

/* Leaves whose checksum is right and whose content is not: an error or nonsense, but no crash. */
static void nonsense_with_a_checksum(void **state) {
    struct prng p = prng_seed(6);
    struct versions v = make(&p, 900, 12, 2, 1);
    size_t len;
    uint8_t *run = build(&v, &len);
    struct run_header h;
    assert_int_equal(run_header_decode(run, &h), 0);
    uint8_t *leaf = malloc(RUN_PAGE_BYTES);
    struct run_tables t = {.families = run + h.parts[RUN_FAMILIES].offset,
                           .timelines = run + h.parts[RUN_TIMELINES].offset,
                           .segments = run + h.parts[RUN_SEGMENTS].offset,
                           .family_count = h.parts[RUN_FAMILIES].count,
                           .timeline_count = h.parts[RUN_TIMELINES].count,
                           .segment_count = h.parts[RUN_SEGMENTS].count};
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        memcpy(leaf, run + ((size_t)h.first_leaf_page + round % h.leaves) * RUN_PAGE_BYTES,
               RUN_PAGE_BYTES);
        for (uint64_t n = 1 + prng_below(&p, 4); n > 0; n--)
            leaf[16 + prng_below(&p, prng_one_in(&p, 4) ? 8 : RUN_PAGE_BYTES - 16)] =
                (uint8_t)prng_next(&p);
        struct leaf_reader r;
        int more = leaf_seek(&r, &t, leaf, (uint32_t)prng_below(&p, 3), prng_below(&p, 900));
        uint32_t seen = 0;
        while (more == 0 || more == 1) {
            more = leaf_next(&r);
            if (more != 1)
                break;
            assert_true(r.entry.block % 64 + r.entry.blocks <= 64);
            seen++;
        }
        assert_true(seen <= 65536);
        refused += more < 0;
    }
    assert_true(refused > 2000);
    free(leaf);
    free(run);
    discard(&v);
}

static void runs_of_others_are_refused(void **state) {
    struct prng p = prng_seed(8);
    struct versions v = make(&p, 10, 3, 1, 0);
    size_t len;
    uint8_t *run = build(&v, &len);
    assert_int_equal(run_directory_need(run, len, IDENTITY + 1), ERR_INTEGRITY);
    assert_int_equal(run_directory_need(run, 100, IDENTITY), ERR_FORMAT);
    assert_int_equal(leaf_check(run + len - RUN_PAGE_BYTES, IDENTITY, 0), 0);
    assert_int_equal(leaf_check(run + len - RUN_PAGE_BYTES, IDENTITY, 1), ERR_INTEGRITY);
    assert_int_equal(leaf_check(run + len - RUN_PAGE_BYTES, IDENTITY + 1, 0), ERR_INTEGRITY);
    struct run_header right, h;
    assert_int_equal(run_header_decode(run, &right), 0);
    h = right;
    h.features_refuse = 4;
    run_header_encode(&h, run);
    assert_int_equal(run_header_decode(run, &h), ERR_UNSUPPORTED);
    h = right;
    h.features_ignore = 4;
    run_header_encode(&h, run);
    assert_int_equal(run_header_decode(run, &h), 0);
    h.filter_shift = 7;
    run_header_encode(&h, run);
    assert_int_equal(run_header_decode(run, &h), ERR_FORMAT);
    h.filter_shift = 0;
    h.parts[RUN_FENCES].count++;
    run_header_encode(&h, run);
    assert_int_equal(run_header_decode(run, &h), ERR_FORMAT);
    free(run);
    discard(&v);
}

static void a_run_may_be_empty(void **state) {
    struct versions none = {0};
    struct level_result r = {.wanted = UINT64_MAX};
    struct ancestry view = view_of(1);
    size_t len;
    uint8_t *run = build(&none, &len);
    assert_int_equal(find(run, len, &view, UINT64_MAX, 0, &r), 0);
    for (uint32_t b = 0; b < 64; b++)
        assert_int_equal(r.best[b], 0);
    free(run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_answers_as_its_versions),
        cmocka_unit_test(a_hot_block_does_not_hide_its_neighbour),
        cmocka_unit_test(times_ascend),
        cmocka_unit_test(bytes_per_write),
        cmocka_unit_test(the_filter_knows_blocks),
        cmocka_unit_test(the_filter_lets_few_strangers_pass),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(flipped_bytes_are_found),
        cmocka_unit_test(nonsense_with_a_checksum),
        cmocka_unit_test(runs_of_others_are_refused),
        cmocka_unit_test(a_run_may_be_empty),
    };
    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
