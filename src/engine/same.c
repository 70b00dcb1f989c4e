/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WRITE of whole blocks which hold the same bytes already is recorded without them (PLACE_SAME): as a
 * moment at which nothing changed. Checksums of the block table tell which writes are worth comparing; what decides
 * is what is read back, byte for byte. If that cannot be read, or there are no pages for it, the write is
 * recorded with its data.
 */
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

static const unsigned char *page_at(const struct engine_run *e, const struct extent *extents,
                                    uint32_t i) {
    while (i >= extents->pages)
        i -= (extents++)->pages;
    return buffer_data(e->p.buffers, extents->first + i);
}

int same_seems(struct work *w, const struct request *q) {
    struct engine_run *e = w->e;
    uint64_t first = block_of_byte(q->offset_bytes), blocks = block_of_byte(q->length_bytes);
    if (q->op != REQUEST_WRITE || q->progress > 0 || q->offset_bytes % BLOCK_BYTES != 0 ||
        q->length_bytes % BLOCK_BYTES != 0 || blocks > LOG_APPEND_BLOCKS_MAX)
        return 0;
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t crc = version_crc(w->view->family, first + i, page_at(e, q->data, i), BLOCK_BYTES);
        if (i == 0) {
            w->crc = crc; /* the log need not reckon it again */
            w->has_crc = 1;
        }
        if (!index_known_check(e->index, w->view, first + i, crc))
            return 0;
    }
    return 1;
}

static void compare(struct work *w) {
    struct engine_run *e = w->e;
    struct reader *r = &w->readers[0];
    const struct request *q = request_view(e->a, w->h);
    w->same = 1;
    for (uint32_t i = 0; i < r->blocks && w->same; i++)
        w->same = memcmp(page_at(e, q->data, i), page_at(e, r->pages, i), BLOCK_BYTES) == 0;
    e->n.same_blocks += w->same ? r->blocks : 0;
}

static void end_compare(struct reader *r, int err) {
    struct work *w = r->owner;
    if (err == 0)
        compare(w);
    for (uint32_t i = 0; i < r->extents; i++)
        buffer_release(r->e->p.buffers, r->pages[i]);
    r->extents = 0;
}

static void has_read(struct reader *r, int err) {
    end_compare(r, err);
    write_ready(r->owner);
}

int same_compare(struct work *w) {
    struct engine_run *e = w->e;
    struct reader *r = &w->readers[0];
    const struct request *q = request_view(e->a, w->h);
    uint32_t blocks = (uint32_t)block_of_byte(q->length_bytes);
    if (!same_seems(w, q) || engine_undo_is_short(e))
        return 0;
    int n = buffer_take_for(e->p.buffers, BUFFER_CLIENTS, blocks, r->pages, REQUEST_EXTENTS);
    if (n <= 0)
        return 0;
    r->extents = (uint32_t)n;
    r->e = e;
    r->view = w->view;
    r->first_block = block_of_byte(q->offset_bytes);
    r->blocks = blocks;
    r->done = has_read;
    r->owner = w;
    int err = reader_start(r);
    if (err == ERR_AGAIN)
        return 1;
    end_compare(r, err);
    return 0;
}
