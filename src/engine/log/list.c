/* SPDX-License-Identifier: Apache-2.0 */
/* Records, newest first, to be shown to people: back through the frames (back.h). */
#include <stdlib.h>

#include "base/err.h"
#include "engine/ancestry.h"
#include "engine/log/back.h"

#define LIST_FRAMES_MAX 128u /* of one answer: of each, up to 256 KiB are read */

struct listing {
    struct back back; /* first */
    struct listing *next;
    struct log_listing *g;
    uint32_t frames;
    struct log_listed *of_frame; /* oldest first */
    uint32_t frame_count, frame_room;
};

static int add(struct listing *t, const struct log_listed *row) {
    if (t->frame_count == t->frame_room) {
        uint32_t room = t->frame_room ? 2 * t->frame_room : 64;
        struct log_listed *grown = realloc(t->of_frame, room * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        t->of_frame = grown;
        t->frame_room = room;
    }
    t->of_frame[t->frame_count++] = *row;
    return 0;
}

/* The sectors that were asked for, as far as they lie in the blocks that have a new version. */
static void put_range(struct log_listed *row, const struct record *r) {
    uint64_t first = max_u64(r->start_sector, r->block * BLOCK_SECTORS);
    uint64_t end = min_u64(r->start_sector + r->sectors, (r->block + r->blocks) * BLOCK_SECTORS);
    row->start_sector = first;
    row->sectors = end > first ? end - first : 0;
}

static int is_asked(const struct log_listing *g, const struct log_listed *row, uint32_t timeline) {
    return row->sequence > g->since && row->sequence <= g->until && row->sectors > 0 &&
           row->start_sector < g->end_sector &&
           row->start_sector + row->sectors > g->start_sector &&
           row->sequence <= ancestry_limit(g->view, timeline);
}

static int list_frame(struct back *b, const struct frame_header *h, struct frame_walk *w) {
    struct listing *t = (struct listing *)b;
    struct log_listing *g = t->g;
    int n;
    t->frame_count = 0;
    while ((n = frame_walk_next(w)) > 0) {
        const struct record *r = &w->record;
        struct log_listed row = {.sequence = w->record_sequence,
                                 .time_ns = h->time_ns + r->delta_us * NS_PER_US,
                                 .kind = r->kind,
                                 .flags = r->flags & RECORD_CALLER_FLAGS,
                                 .source = r->source,
                                 .ref_timeline = r->ref_timeline,
                                 .ref_sequence = r->ref_sequence};
        put_range(&row, r);
        if (is_asked(g, &row, r->timeline) && add(t, &row) < 0)
            return ERR_NOMEM;
    }
    if (n < 0)
        return n;
    while (t->frame_count > 0 && g->count < g->room)
        g->rows[g->count++] = t->of_frame[--t->frame_count];
    if (t->frame_count > 0)
        g->next = t->of_frame[t->frame_count - 1].sequence;
    else if (g->count == g->room || ++t->frames == LIST_FRAMES_MAX)
        g->next = h->first_sequence - 1;
    if (g->next <= g->since)
        g->next = 0;
    return g->next > 0 || h->first_sequence <= g->since + 1;
}

static void forget(struct listing *t) {
    struct listing **at = &t->back.l->listings;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    free(t->of_frame);
    free(t);
}

/* What back_begin() or the last job has said. */
static int end(struct listing *t, int result) {
    const struct wall *w = wall_spans(t->back.l);
    for (uint32_t i = 0; i < t->g->count; i++)
        t->g->rows[i].wall_ns = wall_at(w->span, w->count, t->g->rows[i].time_ns);
    forget(t);
    return result == ERR_RANGE || result == 1 ? 0 : result;
}

static void listed(struct back *b, int result) {
    struct log_listing *g = ((struct listing *)b)->g;
    int err = end((struct listing *)b, result);
    g->done(g, err);
}

int log_list(struct log *l, struct log_listing *g) {
    struct listing *t = calloc(1, sizeof *t);
    if (!t)
        return ERR_NOMEM;
    g->count = 0;
    g->next = 0;
    *t = (struct listing){
        .back = {.l = l, .by_sequence = 1, .value = g->until, .visit = list_frame, .done = listed},
        .next = l->listings,
        .g = g};
    l->listings = t;
    int n = back_begin(&t->back);
    if (n == 0)
        return 0;
    int err = end(t, n);
    return err < 0 ? err : 1;
}

void listings_close(struct log *l) {
    while (l->listings)
        forget(l->listings);
}
