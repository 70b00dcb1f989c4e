/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cold segments. A cleaning takes a prepared slot, whose number the catalogue then says is freed: a
 * start takes it for room, whatever the cleaning has written. One transaction of the catalogue makes it
 * count and frees the segments that it stands for; after that log_clean does the same in the slots, in one
 * turn, so that every look-up sees either the ones or the other.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"

/* One that was prepared before a cold start is not taken: the log leaves out what a dead process may
 * still write there, and a cold segment would lie in it. If there are just such, one of them goes, so
 * that another is prepared in its place; it rests before it is used. */
static struct segment_h untouched(struct log *l) {
    struct segment_h h = {0}, best = {0}, touched = {0};
    while ((h = segment_next(l->a, h)).v) {
        const struct segment *s = segment_view(l->a, h);
        if (s->slot.state != SEGMENT_RESERVED)
            continue;
        if (s->append_end != SEGMENT_FRAMES_OFFSET)
            touched = h;
        else if (!best.v || s->number < segment_view(l->a, best)->number)
            best = h;
    }
    int none_comes = l->state_count[SEGMENT_RESERVED] >= l->params.ready_segments ||
                     l->state_count[SEGMENT_FREE] == 0;
    if (!best.v && touched.v && none_comes && l->state_count[SEGMENT_PREPARING] == 0) {
        segment_edit(l->a, touched)->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
        segment_make_free(l, touched);
    }
    return best;
}

int log_cold_take(struct log *l, struct log_cold *c) {
    int room = segments_left(l, SEGMENT_FOR_CLEANING, 1);
    if (room < 0)
        return room;
    struct segment_h h = untouched(l);
    if (!h.v)
        return ERR_AGAIN;
    segment_set_state(l, h, SEGMENT_COLD);
    c->segment = segment_view(l->a, h)->number;
    c->file = segment_view(l->a, h)->file;
    return 0;
}

static struct segment_h cold_of(const struct log *l, uint32_t segment) {
    struct segment_h h = {0};
    while ((h = segment_next(l->a, h)).v) {
        const struct segment *s = segment_view(l->a, h);
        if (s->slot.state == SEGMENT_COLD && s->number == segment)
            break;
    }
    return h;
}

void log_cold_drop(struct log *l, uint32_t segment) {
    struct segment_h h = cold_of(l, segment);
    if (h.v)
        segment_make_free(l, h);
}

void log_cold_drop_others(struct log *l, uint32_t keep) {
    struct segment_h h = {0};
    while ((h = segment_next(l->a, h)).v) {
        const struct segment *s = segment_view(l->a, h);
        if (s->slot.state != SEGMENT_COLD || s->number == keep)
            continue;
        /* A worker of the process before may still be writing to it. */
        segment_edit(l->a, h)->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
        segment_make_free(l, h);
    }
}

void log_cold_footer(const uint8_t store_id[16], const struct log_cold *c, uint8_t footer[4096]) {
    struct segment_footer f = {.flags = FOOTER_COLD | FOOTER_MORE_FAMILIES,
                               .segment = c->segment,
                               .file = c->file,
                               .data_end = c->data_end,
                               .run_offset = c->run_offset,
                               .run_bytes = c->run_bytes,
                               .run_crc = c->run_crc,
                               .versions = c->versions,
                               .first_sequence = c->first_sequence,
                               .last_sequence = c->last_sequence,
                               .first_time_ns = c->first_time_ns,
                               .last_time_ns = c->last_time_ns,
                               .records = c->versions,
                               .blocks = c->blocks};
    memcpy(f.store_id, store_id, STORE_ID_BYTES);
    footer_encode(&f, footer);
}

void log_cold_written(struct log *l, const struct log_cold *c) {
    struct segment_h h = cold_of(l, c->segment);
    must(h.v != 0);
    struct segment *s = segment_edit(l->a, h);
    s->flags = SEGMENT_CLOSED | SEGMENT_MORE_FAMILIES | SEGMENT_IS_COLD;
    s->append_end = s->data_end = c->data_end;
    s->records = s->versions = c->versions;
    s->blocks = c->blocks;
    s->first_sequence = c->first_sequence;
    s->last_sequence = c->last_sequence;
    s->first_time_ns = c->first_time_ns;
    s->last_time_ns = c->last_time_ns;
    s->run_offset = c->run_offset;
    s->run_bytes = c->run_bytes;
    s->run_crc = c->run_crc;
}

static int is_sealed_in(const struct segment *s, uint64_t first, uint64_t last) {
    return s->slot.state == SEGMENT_SEALED && s->first_sequence >= first &&
           s->last_sequence <= last;
}

void log_clean(struct log *l, uint32_t cold, uint64_t first, uint64_t last) {
    struct segment_h h = {0}, to = cold ? cold_of(l, cold) : (struct segment_h){0};
    must(!cold || (to.v && segment_view(l->a, to)->run_bytes > 0));
    while ((h = segment_next(l->a, h)).v) {
        const struct segment *s = segment_view(l->a, h);
        if (is_sealed_in(s, first, last))
            must(log_free_segment(l, s->number) == 0);
    }
    if (!cold)
        return;
    segment_set_state(l, to, SEGMENT_SEALED);
    must(l->env.index->sealed(l->env.index_ctx, to) == 0);
}

static int by_number(const void *x, const void *y) {
    const uint32_t *a = x, *b = y;
    return *a < *b ? -1 : *a > *b;
}

uint32_t log_sealed_in(const struct log *l, uint64_t first, uint64_t last, uint32_t *segments,
                       uint32_t max) {
    struct segment_h h = {0};
    uint32_t n = 0;
    while (n < max && (h = segment_next(l->a, h)).v) {
        const struct segment *s = segment_view(l->a, h);
        if (is_sealed_in(s, first, last))
            segments[n++] = s->number;
    }
    qsort(segments, n, sizeof *segments, by_number);
    return n;
}
