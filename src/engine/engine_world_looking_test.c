/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking back against the model: what was written to a part of a volume after a moment, as the log's frames tell it,
 * and the numbers of those writes, as the index does. A request of several records is told as such: together they are
 * what the request wrote. Of history that was thinned, what is told is true, but not all is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/engine_world_test.h"
#include "engine/log.h"

#define TURNS_MAX 20000

struct looked {
    const struct ancestry *view;
    uint32_t line;
    uint64_t first, end; /* sectors, of whole blocks */
    uint64_t since, until;
    struct log_listed *rows; /* newest first */
    uint32_t count, room;
    uint64_t *numbers; /* the same */
    uint32_t number_count;
};

/* ---- What the engine says ---- */

static void listed(struct log_listing *g, int result) {
    assert_int_equal(result, 0);
    *(int *)g->owner = 1;
}

static void newest_found(struct engine_changes *c, int err) {
    assert_int_equal(err, 0);
    *(int *)c->owner = 1;
}

static void step_until(struct world *w, const int *told) {
    for (int n = 0; !*told; n++) {
        assert_true(n < TURNS_MAX);
        world_step(w);
    }
}

static uint32_t list_some(struct world *w, const struct looked *k, uint64_t since, uint64_t until,
                          struct log_listed *rows, uint32_t room, uint64_t *next) {
    int told = 0;
    struct log_listing g = {.view = k->view,
                            .start_sector = k->first,
                            .end_sector = k->end,
                            .since = since,
                            .until = until,
                            .rows = rows,
                            .room = room,
                            .done = listed,
                            .owner = &told};
    int n = log_list(w->log, &g);
    assert_in_range(n, 0, 1);
    if (n == 0)
        step_until(w, &told);
    assert_true(g.count <= room && g.next < until);
    *next = g.next;
    return g.count;
}

static void list_all(struct world *w, struct looked *k) {
    uint32_t some = 1 + (uint32_t)prng_below(&w->prng, 300);
    for (uint64_t next = k->until; next > 0;) {
        if (k->count + some > k->room) {
            k->room = 2 * k->room + some;
            k->rows = realloc(k->rows, k->room * sizeof *k->rows);
        }
        k->count += list_some(w, k, k->since, next, k->rows + k->count, some, &next);
    }
}

/* Each version that there is, by asking for the newest one that is older than the last. */
static void number_all(struct world *w, struct looked *k, uint32_t most) {
    k->numbers = malloc(most * sizeof *k->numbers);
    for (uint64_t until = k->until; until > k->since && k->number_count < most;) {
        int told = 0;
        struct engine_changes c = {.timeline = k->line,
                                   .since = k->since,
                                   .until = until,
                                   .block = k->first / BLOCK_SECTORS,
                                   .end_block = k->end / BLOCK_SECTORS,
                                   .only_newest = 1,
                                   .done = newest_found,
                                   .owner = &told};
        assert_int_equal(engine_changes_begin(w->engine, &c), 0);
        step_until(w, &told);
        if (c.newest == 0)
            return;
        assert_in_range(c.newest, k->since + 1, until);
        k->numbers[k->number_count++] = c.newest;
        until = c.newest - 1;
    }
}

/* ---- What the model says ---- */

/* The change of which a record with this number is a part, if it is one: no other change's records come between, and
 * a request has fewer records than sectors. */
static const struct change_made *change_of(const struct world *w, uint64_t sequence) {
    uint32_t low = 0, high = w->change_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (w->changes[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    const struct change_made *c = low < w->change_count ? &w->changes[low] : NULL;
    return c && c->sequence - sequence < c->sectors ? c : NULL;
}

static int is_seen(const struct world *w, const struct looked *k, const struct change_made *c) {
    uint64_t limit = UINT64_MAX;
    for (uint32_t line = k->line; line; line = w->lines[line].parent) {
        if (c->timeline == line)
            return c->sequence <= limit;
        limit = min_u64(limit, w->lines[line].fork);
    }
    return 0;
}

static int is_within(const struct log_listed *row, const struct change_made *c) {
    return row->start_sector >= c->first &&
           row->start_sector + row->sectors <= c->first + c->sectors;
}

/* How many sectors of a change that lie in the part asked for are told; rows do not overlap. */
static uint64_t told_of(const struct world *w, const struct looked *k,
                        const struct change_made *c) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < k->count; i++) {
        const struct log_listed *row = &k->rows[i];
        if (change_of(w, row->sequence) == c && is_within(row, c))
            n += min_u64(row->start_sector + row->sectors, k->end) -
                 max_u64(row->start_sector, k->first);
    }
    return n;
}

static void check_rows(struct world *w, const struct looked *k) {
    for (uint32_t i = 0; i < k->count; i++) {
        const struct log_listed *row = &k->rows[i];
        const struct change_made *c = change_of(w, row->sequence);
        assert_true(row->sequence > k->since && row->sequence <= k->until);
        assert_true(i == 0 || row->sequence < row[-1].sequence);
        assert_true(row->start_sector < k->end && row->start_sector + row->sectors > k->first);
        /* What belongs to no change was cut off before its request ended. */
        int is_whole = c && is_seen(w, k, c) && is_within(row, c);
        if (!is_whole)
            assert_true(row->flags & LOG_MORE);
        else if (row->sequence == c->sequence)
            assert_false(row->flags & LOG_MORE);
        if (is_whole && row->sequence == c->sequence)
            assert_int_equal(row->kind == PLACE_REFERENCE, c->kind == CHANGE_REFERENCE);
        if (row->kind == PLACE_REFERENCE)
            assert_true(row->ref_timeline == c->ref_timeline &&
                        row->ref_sequence == c->ref_sequence);
    }
}

/* Every change after `since` of which all moments are kept is told whole, but writes of what was there. */
static uint32_t check_changes(struct world *w, const struct looked *k) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->change_count && w->changes[i].sequence <= k->until; i++) {
        const struct change_made *c = &w->changes[i];
        uint64_t from = max_u64(c->first, k->first), end = min_u64(c->first + c->sectors, k->end);
        if (c->sequence <= k->since || c->sequence <= w->fine || from >= end || !is_seen(w, k, c))
            continue;
        uint64_t told = told_of(w, k, c);
        if (told == 0 && world_changes_nothing(w, c))
            continue;
        assert_int_equal(told, end - from);
        n++;
    }
    return n;
}

/* Records that were cut off show nothing; what is not kept may have been cleaned since it was listed. */
static int may_have_no_number(const struct world *w, const struct log_listed *row) {
    return (row->flags & LOG_MORE) || row->sequence <= w->fine;
}

/* The numbers are those of the rows. Those without frames, in history that was cleaned, have no rows. */
static uint32_t check_numbers(struct world *w, const struct looked *k) {
    uint32_t at = 0, without_frames = 0;
    for (uint32_t i = 0; i < k->number_count; i++) {
        while (at < k->count && k->rows[at].sequence > k->numbers[i]) {
            assert_true(may_have_no_number(w, &k->rows[at]));
            at++;
        }
        if (at < k->count && k->rows[at].sequence == k->numbers[i]) {
            at++;
            continue;
        }
        const struct change_made *c = change_of(w, k->numbers[i]);
        assert_true(k->numbers[i] <= w->fine && c && is_seen(w, k, c));
        without_frames++;
    }
    for (; at < k->count; at++)
        assert_true(may_have_no_number(w, &k->rows[at]));
    return without_frames;
}

void world_look_back(struct world *w, uint32_t v) {
    uint64_t blocks = bytes_to_blocks_up(volume_view(w->a, w->volume[v])->size_bytes);
    uint64_t block = prng_below(&w->prng, blocks), oldest = max_u64(w->horizon, w->fine);
    uint64_t count = 1 + prng_below(&w->prng, prng_one_in(&w->prng, 2) ? blocks - block : 4);
    struct looked k = {.line = world_volume_line(w, v),
                       .first = block * BLOCK_SECTORS,
                       .end = min_u64(block + count, blocks) * BLOCK_SECTORS,
                       .since = prng_one_in(&w->prng, 3)   ? world_some_moment(w)
                                : prng_one_in(&w->prng, 2) ? w->horizon
                                                           : oldest,
                       .until = prng_one_in(&w->prng, 3) ? world_some_moment(w)
                                                         : engine_recorded_whole(w->engine)};
    if (k.since >= k.until)
        return;
    k.view = ancestry_take(w->ancestries, k.line);
    assert_non_null(k.view);
    list_all(w, &k);
    check_rows(w, &k);
    w->looked_back += check_changes(w, &k);
    number_all(w, &k, k.count + 256);
    w->without_frames += check_numbers(w, &k);
    ancestry_give(w->ancestries, k.view);
    free(k.rows);
    free(k.numbers);
}
