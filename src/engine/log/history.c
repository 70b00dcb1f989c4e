/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments that hold data, in the order of their numbers: the explicit small index from time to
 * sequence. Records, store time and segment numbers rise together, so a moment's segment is found by
 * bisection; the samples of its footer lead on (moment.c). It is a private list of slots, derived from
 * TABLE_SEGMENT, four bytes a segment.
 *
 *  1. Each slot that is OPEN, SEALING or SEALED stands in it once, but for cold ones; numbers rise.
 *  2. Behind a segment without a durable frame comes none with one, as what is durable is a prefix.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"

static struct segment_h handle_at(const struct log *l, uint32_t i) {
    return log_segment_handle(l, l->history[i]);
}

static const struct segment *segment_of(const struct log *l, uint32_t i) {
    return segment_view(l->a, handle_at(l, i));
}

/* How many have a number up to this one. */
static uint32_t count_up_to(const struct log *l, uint32_t number) {
    uint32_t low = 0, high = l->history_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (segment_of(l, middle)->number <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int by_number(const void *x, const void *y) {
    const uint64_t *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

void history_derive(struct log *l) {
    uint64_t *sorted = malloc((l->segment_capacity + 1) * sizeof *sorted);
    uint32_t n = 0;
    must(sorted != NULL);
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        const struct segment *s = segment_view(l->a, h);
        if (segment_has_moments(s))
            sorted[n++] = (uint64_t)s->number << 32 | handle_index(h.v);
    }
    qsort(sorted, n, sizeof *sorted, by_number);
    for (uint32_t i = 0; i < n; i++)
        l->history[i] = (uint32_t)sorted[i];
    l->history_count = n;
    free(sorted);
}

void history_add(struct log *l, struct segment_h h) {
    uint32_t at = count_up_to(l, segment_view(l->a, h)->number);
    must(l->history_count < l->segment_capacity);
    memmove(&l->history[at + 1], &l->history[at], (l->history_count - at) * sizeof *l->history);
    l->history[at] = handle_index(h.v);
    l->history_count++;
}

void history_remove(struct log *l, struct segment_h h) {
    uint32_t at = count_up_to(l, segment_view(l->a, h)->number);
    must(at > 0 && l->history[at - 1] == handle_index(h.v));
    memmove(&l->history[at - 1], &l->history[at], (l->history_count - at) * sizeof *l->history);
    l->history_count--;
}

struct segment_h history_at(const struct log *l, int by_sequence, uint64_t value) {
    uint32_t low = 0, high = l->history_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct segment *s = segment_of(l, middle);
        if (s->frames > 0 && (by_sequence ? s->first_sequence : s->first_time_ns) <= value)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? handle_at(l, low - 1) : (struct segment_h){0};
}

/* How many are sealed, and all before them. */
static uint32_t sealed_prefix(const struct log *l) {
    uint32_t n = 0;
    while (n < l->history_count && segment_of(l, n)->slot.state == SEGMENT_SEALED)
        n++;
    return n;
}

uint32_t log_next_sealed(const struct log *l, uint32_t after) {
    uint32_t i = count_up_to(l, after);
    return i < l->history_count && i < sealed_prefix(l) ? segment_of(l, i)->number : 0;
}

uint32_t log_history(const struct log *l, uint64_t up_to) {
    uint32_t n = 0, all = sealed_prefix(l);
    while (n < all && segment_of(l, n)->last_sequence <= up_to)
        n++;
    return n;
}

int log_history_end(const struct log *l, uint32_t n, struct log_moment *out) {
    if (n == 0 || n > sealed_prefix(l))
        return ERR_NOTFOUND;
    const struct segment *s = segment_of(l, n - 1);
    *out = (struct log_moment){
        .sequence = s->last_sequence, .time_ns = s->last_time_ns, .wall_ns = s->last_wall_ns};
    return 0;
}
