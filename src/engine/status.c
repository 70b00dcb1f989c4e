/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLOCK_STATUS: chunk by chunk through the index, into the request's pages; neighbours that are alike are one
 * extent. As much of the range as fits, or STATUS_CHUNKS_MAX chunks: sources ask again for the rest.
 *
 * A chunk's places are looked up, then its versions, as far as either is asked for; then its blocks are added
 * to all sections alike, until one of them is full. Changes are told of a moment that is promised and lies in
 * the past of what the volume shows, and of no other: both are looked at before the first chunk and after the
 * last, since a cleaning may meanwhile have dropped what told of a trim.
 */
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

#define STATUS_CHUNKS_MAX 4096u
#define STATUS_CHUNKS_PER_TURN 128u

/* Extent i of that kind; `nth` section. */
static struct request_status_extent *extent_at(struct work *w, const struct request *q,
                                               uint32_t nth, uint32_t i) {
    uint64_t run;
    const uint64_t bytes = sizeof(struct request_status_extent);
    void *p = request_data_at(w->e->p.buffers, q, nth * request_status_section_bytes(q) + i * bytes,
                              &run);
    must(run >= bytes);
    return p;
}

static int check_moment(struct work *w, const struct request *q) {
    return request_status_has(q->flags, REQUEST_STATUS_OF_CHANGES)
               ? engine_check_since(w->e, q->volume, q->sequence)
               : 0;
}

static void end_status(struct work *w, int err) {
    struct request *q = request_edit(w->e->a, w->h);
    uint32_t nth = 0, last = 0;
    if (err == 0)
        err = check_moment(w, q);
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS && err == 0; k++) {
        if (!request_status_has(q->flags, (enum request_status_kind)k))
            continue;
        last = w->counts[k];
        if (last < w->extents && request_status_sections(q->flags) > 1)
            extent_at(w, q, nth, last)->length_bytes = 0;
        nth++;
    }
    q->reply_data_bytes = err < 0 ? 0
                                  : (uint32_t)((nth - 1) * request_status_section_bytes(q) +
                                               last * sizeof(struct request_status_extent));
    engine_finish(w, err);
}

static uint64_t status_of_place(uint64_t place) {
    switch (place_kind(place)) {
    case PLACE_ZERO:
        return REQUEST_STATUS_ZERO;
    case PLACE_HOLE:
        return REQUEST_STATUS_ZERO | REQUEST_STATUS_HOLE;
    default:
        return 0;
    }
}

static uint64_t status_of(const struct request *q, const struct lookup *l, uint32_t kind,
                          uint32_t b) {
    if (kind == REQUEST_STATUS_OF_PLACES)
        return status_of_place(l->places[b].place);
    if (kind == REQUEST_STATUS_OF_CHANGES)
        return l->versions[b] > q->sequence ? REQUEST_STATUS_CHANGED : 0;
    return l->versions[b];
}

/* Adds `bytes` of block b to all sections, or to none; 0: no more are wanted. */
static int add(struct work *w, const struct request *q, const struct lookup *l, uint64_t bytes,
               uint32_t b) {
    struct request_status_extent *last[REQUEST_STATUS_KINDS] = {NULL};
    uint64_t status[REQUEST_STATUS_KINDS] = {0};
    uint32_t nth = 0;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++) {
        if (!request_status_has(q->flags, (enum request_status_kind)k))
            continue;
        status[k] = status_of(q, l, k, b);
        uint32_t n = w->counts[k];
        last[k] = n > 0 ? extent_at(w, q, nth, n - 1) : NULL;
        nth++;
        if (n > 0 && last[k]->status == status[k])
            continue;
        last[k] = NULL;
        if (n == w->extents || (n == 1 && (q->flags & REQUEST_STATUS_ONE)))
            return 0;
    }
    nth = 0;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++) {
        if (!request_status_has(q->flags, (enum request_status_kind)k))
            continue;
        if (last[k])
            last[k]->length_bytes += bytes;
        else
            *extent_at(w, q, nth, w->counts[k]++) =
                (struct request_status_extent){.length_bytes = bytes, .status = status[k]};
        nth++;
    }
    return 1;
}

/* Takes the blocks of one chunk, from w->at on; 0: no more are wanted. */
static int take_chunk(struct work *w, const struct lookup *l) {
    const struct request *q = request_view(w->e->a, w->h);
    uint64_t end = q->offset_bytes + q->length_bytes;
    while (w->at < end && chunk_of_block(block_of_byte(w->at)) == l->f.chunk) {
        uint64_t block = block_of_byte(w->at);
        uint64_t next = min_u64(block_to_bytes(block + 1), end);
        if (!add(w, q, l, next - w->at, block % CHUNK_BLOCKS))
            return 0;
        w->at = next;
    }
    w->chunks++;
    return w->at < end && w->chunks < STATUS_CHUNKS_MAX;
}

static void took(struct lookup *l) {
    if (l->f.changes) {
        l->has_versions = 1;
        return;
    }
    l->has_places = 1;
    memcpy(l->places, l->f.found, sizeof l->places);
}

static void found(struct index_find *f, int result);

/* Looks up what is not there yet; as index_find. */
static int look_up(struct work *w, struct lookup *l) {
    const struct request *q = request_view(w->e->a, w->h);
    int versions = request_status_has(q->flags, REQUEST_STATUS_OF_VERSIONS);
    int changes = versions || request_status_has(q->flags, REQUEST_STATUS_OF_CHANGES);
    uint64_t first = block_of_byte(w->at), chunk = chunk_of_block(first);
    uint64_t end_block = bytes_to_blocks_up(q->offset_bytes + q->length_bytes);
    while (!l->has_places || (changes && !l->has_versions)) {
        l->f = (struct index_find){.view = w->view,
                                   .limit = INDEX_NOW,
                                   .chunk = chunk,
                                   .want = chunk_mask(chunk * CHUNK_BLOCKS, first, end_block),
                                   .done = found,
                                   .owner = l};
        if (l->has_places) {
            l->f.limit = index_applied(w->e->index);
            l->f.changes = 1;
            l->f.since = versions ? 0 : min_u64(q->sequence, l->f.limit);
            l->f.versions = l->versions;
        }
        int err = index_find(w->e->index, &l->f);
        if (err < 0)
            return err;
        took(l);
    }
    return 0;
}

/* One chunk; 1: go on with the next. */
static int chunk_go_on(struct work *w, struct lookup *l) {
    int err = look_up(w, l);
    if (err == ERR_AGAIN)
        return 0;
    int more = err == 0 && take_chunk(w, l);
    engine_lookup_free(w->e, l);
    if (!more)
        end_status(w, err);
    return more;
}

static void found(struct index_find *f, int result) {
    struct lookup *l = f->owner;
    struct work *w = l->work;
    if (result < 0) {
        engine_lookup_free(w->e, l);
        end_status(w, result);
        return;
    }
    took(l);
    if (chunk_go_on(w, l))
        status_go_on(w);
}

void status_go_on(struct work *w) {
    struct engine_run *e = w->e;
    for (uint32_t n = 0; n < STATUS_CHUNKS_PER_TURN; n++) {
        struct lookup *l = engine_lookup_new(e);
        if (!l) {
            end_status(w, ERR_NOMEM);
            return;
        }
        l->work = w;
        l->has_places = (request_view(e->a, w->h)->flags & REQUEST_STATUS_NO_PLACES) != 0;
        l->has_versions = 0;
        if (!chunk_go_on(w, l))
            return;
    }
    work_push(&e->status, w);
}

void status_begin(struct work *w) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    if (q->data_extents == 0) {
        struct extent page;
        if (engine_undo_is_short(e) ||
            buffer_take_for(e->p.buffers, BUFFER_CLIENTS, 1, &page, 1) < 0) {
            work_push(&e->room, w);
            return;
        }
        struct request *edit = request_edit(e->a, w->h);
        edit->data[0] = page;
        edit->data_extents = 1;
        edit->data_start = 0;
    }
    w->at = q->offset_bytes;
    w->chunks = 0;
    memset(w->counts, 0, sizeof w->counts);
    w->extents = min_u64(request_status_extents(q), UINT32_MAX / 64);
    must(q->data_start == 0 && w->extents > 0);
    int err = check_moment(w, q);
    if (err < 0)
        engine_finish(w, err);
    else
        status_go_on(w);
}
