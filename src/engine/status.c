/* SPDX-License-Identifier: Apache-2.0 */
/* BLOCK_STATUS: chunk by chunk through the index, into the request's pages; neighbours that are alike are one
 * extent. As much of the range as fits, or STATUS_CHUNKS_MAX chunks: sources ask again for the rest. */
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

#define STATUS_CHUNKS_MAX 4096u
#define STATUS_CHUNKS_PER_TURN 128u

static struct request_status_extent *extent_at(struct work *w, const struct request *q,
                                               uint32_t i) {
    uint64_t run;
    const uint64_t bytes = sizeof(struct request_status_extent);
    void *p = request_data_at(w->e->p.buffers, q, i * bytes, &run);
    must(run >= bytes);
    return p;
}

static void end_status(struct work *w, int err) {
    struct request *q = request_edit(w->e->a, w->h);
    q->reply_data_bytes = err < 0 ? 0 : w->count * (uint32_t)sizeof(struct request_status_extent);
    engine_finish(w, err);
}

/* Adds `bytes` that are all alike; 0: no more are wanted. */
static int add(struct work *w, const struct request *q, uint64_t bytes, uint32_t flags) {
    struct request_status_extent *last = w->count > 0 ? extent_at(w, q, w->count - 1) : NULL;
    if (last && last->flags == flags) {
        last->length_bytes += bytes;
        return 1;
    }
    if (w->count == w->extents || (w->count == 1 && (q->flags & REQUEST_STATUS_ONE)))
        return 0;
    *extent_at(w, q, w->count++) =
        (struct request_status_extent){.length_bytes = bytes, .flags = flags};
    return 1;
}

static uint32_t flags_of(uint64_t place) {
    switch (place_kind(place)) {
    case PLACE_ZERO:
        return REQUEST_STATUS_ZERO;
    case PLACE_HOLE:
        return REQUEST_STATUS_ZERO | REQUEST_STATUS_HOLE;
    default:
        return 0;
    }
}

/* Takes the blocks of one chunk, from w->at on; 0: no more are wanted. */
static int take_chunk(struct work *w, const struct index_find *f) {
    const struct request *q = request_view(w->e->a, w->h);
    uint64_t end = q->offset_bytes + q->length_bytes;
    while (w->at < end && chunk_of_block(block_of_byte(w->at)) == f->chunk) {
        uint64_t block = block_of_byte(w->at);
        uint64_t next = min_u64(block_to_bytes(block + 1), end);
        if (!add(w, q, next - w->at, flags_of(f->found[block % CHUNK_BLOCKS].place)))
            return 0;
        w->at = next;
    }
    w->chunks++;
    return w->at < end && w->chunks < STATUS_CHUNKS_MAX;
}

static void found(struct index_find *f, int result) {
    struct lookup *q = f->owner;
    struct work *w = q->work;
    int more = result == 0 ? take_chunk(w, f) : 0;
    engine_lookup_free(w->e, q);
    if (more)
        status_go_on(w);
    else
        end_status(w, result);
}

void status_go_on(struct work *w) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    uint64_t end = q->offset_bytes + q->length_bytes;
    for (uint32_t n = 0; n < STATUS_CHUNKS_PER_TURN; n++) {
        uint64_t first = block_of_byte(w->at), chunk = chunk_of_block(first);
        struct lookup *l = engine_lookup_new(e);
        if (!l) {
            end_status(w, ERR_NOMEM);
            return;
        }
        l->work = w;
        l->f = (struct index_find){
            .view = w->view,
            .limit = INDEX_NOW,
            .chunk = chunk,
            .want = chunk_mask(chunk * CHUNK_BLOCKS, first, bytes_to_blocks_up(end)),
            .done = found,
            .owner = l};
        int err = index_find(e->index, &l->f);
        if (err == ERR_AGAIN)
            return;
        int more = err == 0 ? take_chunk(w, &l->f) : 0;
        engine_lookup_free(e, l);
        if (!more) {
            end_status(w, err);
            return;
        }
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
    w->count = w->chunks = 0;
    w->extents = (uint32_t)min_u64(request_data_room(q) / sizeof(struct request_status_extent),
                                   UINT32_MAX / 64);
    must(q->data_start == 0 && w->extents > 0);
    status_go_on(w);
}
