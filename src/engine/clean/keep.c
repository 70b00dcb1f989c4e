/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/clean/keep.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"

#define NEVER UINT64_MAX

static const struct keep_timeline *find(const struct keep_timeline *t, uint32_t count,
                                        uint32_t id) {
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && t[low].id == id ? &t[low] : NULL;
}

/* Ancestors of a timeline, itself included; 0: one is missing, or they are in a circle. */
static uint32_t depth(const struct keep_timeline *all, uint32_t count, uint32_t id) {
    uint32_t n = 0;
    while (id) {
        const struct keep_timeline *t = find(all, count, id);
        if (!t || t->parent >= id)
            return 0;
        id = t->parent;
        n++;
    }
    return n;
}

static void fill_list(const struct keep_timeline *all, uint32_t count, uint32_t id,
                      struct ancestor *list) {
    uint64_t limit = UINT64_MAX;
    for (; id; list++) {
        const struct keep_timeline *t = find(all, count, id);
        *list = (struct ancestor){.timeline = id, .limit = limit};
        limit = min_u64(limit, t->fork_sequence);
        id = t->parent;
    }
}

static int by_family(const void *x, const void *y) {
    const struct keep_view *a = x, *b = y;
    return a->line.family < b->line.family ? -1 : a->line.family > b->line.family;
}

static int window_by_family(const void *x, const void *y) {
    const struct keep_window *a = x, *b = y;
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    return a->horizon < b->horizon ? -1 : a->horizon > b->horizon;
}

static void take_windows(struct keep *k, const struct keep_window *windows, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        k->horizons[k->horizon_count++] = windows[i].horizon;
    if (count > 0)
        memcpy(k->windows, windows, count * sizeof *windows);
    qsort(k->windows, count, sizeof *k->windows, window_by_family);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || k->windows[i].family != k->windows[i - 1].family)
            k->windows[k->window_count++] = k->windows[i];
}

/* The chosen moments of a step, for the first view that has it. */
static int take_chosen(struct keep *k, const struct keep_promises *p, struct keep_view *view) {
    uint32_t n = thinning_number(view->step_s);
    if (n == THINNING_STEPS)
        return ERR_INTEGRITY;
    if (!k->chosen[n]) {
        k->chosen[n] = malloc((p->chosen_count + 1) * sizeof *k->chosen[n]);
        if (!k->chosen[n])
            return ERR_NOMEM;
        for (uint32_t i = 0; i < p->chosen_count; i++)
            if (p->chosen[i].step_s >= view->step_s)
                k->chosen[n][k->chosen_count[n]++] = p->chosen[i].sequence;
    }
    view->chosen = k->chosen[n];
    view->chosen_count = k->chosen_count[n];
    return 0;
}

static int take_views(struct keep *k, const struct keep_promises *p) {
    struct ancestor *list = k->lists;
    for (uint32_t i = 0; i < p->moment_count; i++) {
        const struct keep_moments *m = &p->moments[i];
        uint32_t n = depth(p->timelines, p->timeline_count, m->timeline);
        struct keep_view *view = &k->views[k->view_count++];
        fill_list(p->timelines, p->timeline_count, m->timeline, list);
        *view = (struct keep_view){
            .line = {.timeline = m->timeline, .family = m->family, .count = n, .list = list},
            .from = m->from,
            .to = m->to,
            .step_s = m->step_s};
        int err = m->step_s ? take_chosen(k, p, view) : 0;
        if (err < 0)
            return err;
        list += n;
    }
    qsort(k->views, k->view_count, sizeof *k->views, by_family);
    return 0;
}

int keep_make(struct keep *k, const struct keep_promises *p, uint64_t complete) {
    uint64_t ancestors = 0;
    *k = (struct keep){.complete = complete};
    for (uint32_t i = 0; i < p->moment_count; i++) {
        uint32_t n = depth(p->timelines, p->timeline_count, p->moments[i].timeline);
        if (n == 0)
            return ERR_INTEGRITY;
        ancestors += n;
    }
    k->views = calloc(p->moment_count + 1, sizeof *k->views);
    k->lists = calloc(ancestors + 1, sizeof *k->lists);
    k->windows = calloc(p->window_count + 1, sizeof *k->windows);
    k->horizons = calloc(p->window_count + 1, sizeof *k->horizons);
    int err = k->views && k->lists && k->windows && k->horizons ? take_views(k, p) : ERR_NOMEM;
    if (err < 0)
        keep_free(k);
    else
        take_windows(k, p->windows, p->window_count);
    return err;
}

void keep_free(struct keep *k) {
    free(k->views);
    free(k->lists);
    free(k->windows);
    free(k->horizons);
    for (int n = 0; n < THINNING_STEPS; n++)
        free(k->chosen[n]);
    *k = (struct keep){0};
}

uint64_t keep_horizon(const struct keep *k, uint32_t family) {
    uint32_t low = 0, high = k->window_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (k->windows[middle].family < family)
            low = middle + 1;
        else
            high = middle;
    }
    return low < k->window_count && k->windows[low].family == family ? k->windows[low].horizon
                                                                     : UINT64_MAX;
}

static int newest_first(const void *x, const void *y) {
    const struct keep_version *a = x, *b = y;
    if (a->sequence != b->sequence)
        return a->sequence > b->sequence ? -1 : 1;
    return a->item < b->item ? -1 : a->item > b->item;
}

/* The first promised moment that is not older than `sequence`, or NEVER. */
static uint64_t next_promised(const struct keep *k, const struct keep_view *view,
                              uint64_t sequence) {
    uint64_t at_least = max_u64(sequence, view->from), complete = max_u64(sequence, k->complete);
    uint32_t low = 0, high = view->chosen_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (view->chosen[middle] < at_least)
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t next = low < view->chosen_count ? view->chosen[low] : NEVER;
    next = min_u64(next, complete); /* rule 1 */
    return next <= view->to ? next : NEVER;
}

/* A view of chosen moments. */
static void keep_chosen_for(const struct keep *k, const struct keep_view *view,
                            struct keep_version *v, uint32_t count) {
    uint64_t from = min_u64(view->from, k->complete), open = UINT64_MAX, younger[64];
    memset(younger, 0xff, sizeof younger);
    for (uint32_t i = 0; i < count && open; i++) {
        uint64_t blocks = v[i].blocks & open;
        if (!blocks || v[i].sequence > view->to ||
            v[i].sequence > ancestry_limit(&view->line, v[i].timeline))
            continue;
        uint64_t next = next_promised(k, view, v[i].sequence);
        for (uint64_t left = blocks; left; left &= left - 1) {
            uint32_t b = (uint32_t)__builtin_ctzll(left);
            if (next < younger[b])
                v[i].kept |= UINT64_C(1) << b;
            younger[b] = v[i].sequence;
        }
        if (v[i].sequence <= from)
            open &= ~blocks;
    }
}

static void keep_for(const struct keep *k, const struct keep_view *view, struct keep_version *v,
                     uint32_t count) {
    uint64_t from = min_u64(view->from, k->complete), open = UINT64_MAX;
    for (uint32_t i = 0; i < count && open; i++) {
        uint64_t blocks = v[i].blocks & open;
        if (!blocks || v[i].sequence > view->to ||
            v[i].sequence > ancestry_limit(&view->line, v[i].timeline))
            continue;
        v[i].kept |= blocks;
        if (v[i].sequence <= from)
            open &= ~blocks;
    }
}

/* Rule 3. */
static void drop_bottom_holes(const struct keep *k, uint32_t family, struct keep_version *v,
                              uint32_t count) {
    uint64_t under = 0, horizon = min_u64(keep_horizon(k, family), k->complete);
    for (uint32_t i = count; i-- > 0;) {
        if (v[i].is_hole && v[i].sequence <= horizon)
            v[i].kept &= under;
        under |= v[i].blocks;
    }
}

static uint32_t first_view(const struct keep *k, uint32_t family) {
    uint32_t low = 0, high = k->view_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (k->views[middle].line.family < family)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void keep_chunk(const struct keep *k, uint32_t family, struct keep_version *v, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        v[i].kept = 0;
    if (count > 1)
        qsort(v, count, sizeof *v, newest_first);
    for (uint32_t i = first_view(k, family); i < k->view_count && k->views[i].line.family == family;
         i++)
        if (k->views[i].step_s)
            keep_chosen_for(k, &k->views[i], v, count);
        else
            keep_for(k, &k->views[i], v, count);
    drop_bottom_holes(k, family, v, count);
}
