/* SPDX-License-Identifier: Apache-2.0 */
/*
 * READ: pages are filled by a reader and are in the request's slot in the turn in which it is DONE. CACHE
 * is a READ of which nobody wants the data.
 *
 * A source may bring the pages. As soon as a disk may write into them later, they are taken out of the
 * slot: then each has one owner, the disk operation or this context, and what a dead process's operation
 * still writes cannot meet what its successor reads for the same request.
 */
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

static void release_pages(struct work *w) {
    struct reader *r = &w->readers[0];
    for (uint32_t i = 0; i < r->extents; i++)
        buffer_release(w->e->p.buffers, r->pages[i]);
    r->extents = 0;
}

static void end_read(struct work *w, int err) {
    struct engine_run *e = w->e;
    struct reader *r = &w->readers[0];
    struct request *q = request_edit(e->a, w->h);
    if (q->op == REQUEST_CACHE || err < 0) {
        release_pages(w);
        q->data_extents = 0;
        engine_finish(w, q->op == REQUEST_CACHE ? 0 : err);
        return;
    }
    memcpy(q->data, r->pages, r->extents * sizeof r->pages[0]);
    q->data_extents = (uint8_t)r->extents;
    q->data_start = (uint32_t)(q->offset_bytes % BLOCK_BYTES);
    q->reply_data_bytes = (uint32_t)q->length_bytes;
    engine_finish(w, 0);
}

static void has_read(struct reader *r, int err) {
    end_read(r->owner, err);
}

/* Those that the source has brought, or others; 0: there are none now. */
static int find_pages(struct work *w, const struct request *q) {
    struct engine_run *e = w->e;
    struct reader *r = &w->readers[0];
    if (q->op == REQUEST_READ && q->data_extents > 0) {
        must(q->data_start == q->offset_bytes % BLOCK_BYTES);
        must(request_data_room(q) >= q->length_bytes);
        r->extents = q->data_extents;
        memcpy(r->pages, q->data, r->extents * sizeof r->pages[0]);
        return 1;
    }
    int n = buffer_take_for(e->p.buffers, BUFFER_CLIENTS, r->blocks, r->pages, REQUEST_EXTENTS);
    r->extents = n > 0 ? (uint32_t)n : 0;
    return n > 0;
}

void read_begin(struct work *w) {
    struct engine_run *e = w->e;
    struct reader *r = &w->readers[0];
    const struct request *q = request_view(e->a, w->h);
    uint64_t length =
        q->op == REQUEST_CACHE ? min_u64(q->length_bytes, ENGINE_CACHE_BYTES_MAX) : q->length_bytes;
    uint64_t first = block_of_byte(q->offset_bytes);
    uint64_t blocks = bytes_to_blocks_up(q->offset_bytes + length) - first;
    if (blocks + buffer_left_by(e->p.buffers, BUFFER_CLIENTS) > e->p.buffers->pages) {
        engine_finish(w, ERR_TOOBIG);
        return;
    }
    r->e = e;
    r->view = w->view;
    r->first_block = first;
    r->blocks = (uint32_t)blocks;
    r->done = has_read;
    r->owner = w;
    if (engine_undo_is_short(e) || !find_pages(w, q)) {
        work_push(&e->room, w);
        return;
    }
    const struct volume *v = volume_view(e->a, (struct volume_h){w->volume});
    if (!(v->flags & VOLUME_IMAGE))
        sampler_read(e->sampler, v->id, first, blocks, log_now_ns(e->log));
    ahead_note(e, w->view, first, r->blocks, bytes_to_blocks_up(v->size_bytes));
    int err = reader_start(r);
    if (err != ERR_AGAIN)
        end_read(w, err);
    else if (q->op == REQUEST_READ && q->data_extents > 0)
        request_edit(e->a, w->h)->data_extents = 0;
}
