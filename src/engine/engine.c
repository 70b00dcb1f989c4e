/* SPDX-License-Identifier: Apache-2.0 */
/* provisional */
#include "engine/engine.h"
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
struct engine_run { struct engine_parts p; struct request_h wait[65536]; uint32_t waits; struct request_h later[65536]; uint32_t laters; };
int engine_open(struct engine_run **out, const struct engine_parts *parts) { *out = calloc(1, sizeof **out); (*out)->p = *parts; return 0; }
static void finish(struct engine_run *e, struct request_h h, int err) {
    struct request *q = request_edit(e->p.a, h);
    q->error = err; q->slot.state = REQUEST_DONE;
    if (q->op == REQUEST_READ && err == 0) q->reply_data_bytes = (uint32_t)q->length_bytes;
    e->p.reply(e->p.reply_ctx, h);
}
struct rd { struct index_find f; struct engine_run *e; struct request_h h; uint64_t block, left; uint32_t index; struct block_place places[8192]; uint32_t n, done; };
static void rd_data(struct rd *r);
static void rd_next(struct rd *r) {
    while (r->left) {
        uint64_t chunk = r->block / 64; uint32_t first = r->block % 64; uint32_t n = 64 - first; if (n > r->left) n = (uint32_t)r->left;
        r->f.chunk = chunk; r->f.want = (n == 64 ? ~UINT64_C(0) : ((UINT64_C(1) << n) - 1)) << first; r->f.limit = INDEX_NOW; r->f.owner = r;
        int err = index_find(r->e->p.index, &r->f);
        if (err == ERR_AGAIN) return;
        if (err < 0) { finish(r->e, r->h, err); free(r); return; }
        memcpy(r->places + r->n, r->f.found + first, n * sizeof r->places[0]); r->n += n; r->block += n; r->left -= n;
    }
    rd_data(r);
}
static void rd_found(struct index_find *f, int result) {
    struct rd *r = f->owner;
    if (result < 0) { finish(r->e, r->h, result); free(r); return; }
    uint32_t first = r->block % 64; uint32_t n = 64 - first; if (n > r->left) n = (uint32_t)r->left;
    memcpy(r->places + r->n, f->found + first, n * sizeof r->places[0]); r->n += n; r->block += n; r->left -= n;
    rd_next(r);
}
static void rd_data(struct rd *r) {
    struct engine_run *e = r->e; const struct request *q = request_view(e->p.a, r->h);
    for (uint32_t i = 0; i < r->n; i++) {
        uint64_t run; unsigned char *to = NULL; uint32_t page = i;
        for (uint32_t x = 0; x < q->data_extents; x++) { if (page < q->data[x].pages) { to = buffer_data(e->p.buffers, q->data[x].first + page); break; } page -= q->data[x].pages; }
        (void)run;
        struct block_place p = r->places[i];
        if (place_kind(p.place) != PLACE_DATA) { memset(to, 0, 4096); continue; }
        const void *b = log_bytes_at(e->p.log, p.place);
        if (b) { memcpy(to, b, 4096); continue; }
        uint32_t dev; int err = log_pin_segment(e->p.log, place_segment(p.place), &dev);
        if (err < 0) { finish(e, r->h, ERR_INTEGRITY); free(r); return; }
        struct io_vec v = {to, 4096}; int64_t n = ERR_AGAIN;
        extern ssize_t pread(int, void *, size_t, long);
        int d = e->p.io->device(e->p.io->device_ctx, dev);
        for (int t = 0; t < 100000 && n == ERR_AGAIN; t++) n = e->p.io->router.ops->read_now(e->p.io->router.ctx, d, &v, 1, place_offset_bytes(p.place));
        log_unpin_segment(e->p.log, place_segment(p.place));
        if (n != 4096) { finish(e, r->h, ERR_IO); free(r); return; }
    }
    finish(e, r->h, 0); free(r);
}
static int start(struct engine_run *e, struct request_h h) {
    const struct request *q = request_view(e->p.a, h);
    const struct volume *v = volume_try(e->p.a, q->volume);
    if (!v) { finish(e, h, ERR_NOTFOUND); return 0; }
    const struct timeline *t = timeline_view(e->p.a, v->timeline);
    if (q->offset_bytes + q->length_bytes > v->size_bytes && q->op != REQUEST_FLUSH) { finish(e, h, ERR_RANGE); return 0; }
    if (q->op == REQUEST_READ) {
        struct rd *r = calloc(1, sizeof *r); r->e = e; r->h = h; r->block = q->offset_bytes / 4096;
        r->left = (q->offset_bytes % 4096 + q->length_bytes + 4095) / 4096;
        r->f.view = ancestry_take(e->p.ancestries, t->id); r->f.done = rd_found;
        rd_next(r); return 0;
    }
    if (q->op == REQUEST_FLUSH) {
        log_want_durable(e->p.log, log_recorded(e->p.log));
        struct request *w = request_edit(e->p.a, h); w->sequence = log_recorded(e->p.log); w->slot.state = REQUEST_APPLIED; e->wait[e->waits++] = h; return 0;
    }
    if (q->op == REQUEST_BLOCK_STATUS) { struct request *w = request_edit(e->p.a, h); struct request_status_extent x = {q->length_bytes, 0, 0}; memcpy(buffer_data(e->p.buffers, q->data[0].first), &x, 16); w->reply_data_bytes = 16; finish(e, h, 0); return 0; }
    if (q->op == REQUEST_CACHE) { finish(e, h, 0); return 0; }
    uint64_t done = q->progress;
    while (done < q->length_bytes) {
        uint64_t n = q->length_bytes - done; if (q->op == REQUEST_WRITE && n > 248 * 4096) n = 248 * 4096;
        struct extent x[8]; uint32_t nx = 0; uint64_t skip = done / 4096, want = n / 4096;
        for (uint32_t i = 0; i < q->data_extents && want; i++) { if (skip >= q->data[i].pages) { skip -= q->data[i].pages; continue; }
            uint32_t k = (uint32_t)(q->data[i].pages - skip); if (k > want) k = (uint32_t)want; x[nx].first = q->data[i].first + (uint32_t)skip; x[nx++].pages = k; want -= k; skip = 0; }
        struct log_append a = {.kind = q->op == REQUEST_WRITE ? PLACE_DATA : q->op == REQUEST_ZERO ? PLACE_ZERO : PLACE_HOLE, .timeline = t->id, .family = t->family,
            .flags = done + n < q->length_bytes ? LOG_MORE : 0, .start_sector = (q->offset_bytes + done) / 512, .sectors = n / 512, .block = (q->offset_bytes + done) / 4096, .blocks = n / 4096, .data = x, .data_extents = q->op == REQUEST_WRITE ? nx : 0};
        uint64_t seq; int err = log_append(e->p.log, &a, &seq);
        if (err == ERR_AGAIN) { request_edit(e->p.a, h)->progress = done; return 1; }
        if (err < 0) { finish(e, h, err); return 0; }
        done += n; request_edit(e->p.a, h)->sequence = seq; request_edit(e->p.a, h)->progress = done;
    }
    struct request *w = request_edit(e->p.a, h); w->data_extents = 0;
    if (q->flags & REQUEST_FUA || v->flags & VOLUME_DURABLE_WRITES) { log_want_durable(e->p.log, q->sequence); w->slot.state = REQUEST_APPLIED; e->wait[e->waits++] = h; }
    else finish(e, h, 0);
    return 0;
}
void engine_submit(struct engine_run *e, struct request_h h) { if (e->laters || start(e, h)) e->later[e->laters++] = h; }
void engine_turn(struct engine_run *e) {
    uint32_t k = 0;
    for (uint32_t i = 0; i < e->waits; i++) { const struct request *q = request_try(e->p.a, e->wait[i]); if (!q) continue; if (log_durable(e->p.log) >= q->sequence) finish(e, e->wait[i], 0); else { log_want_durable(e->p.log, q->sequence); e->wait[k++] = e->wait[i]; } }
    e->waits = k; k = 0;
    while (k < e->laters && (!request_try(e->p.a, e->later[k]) || !start(e, e->later[k]))) k++;
    memmove(e->later, e->later + k, (e->laters - k) * sizeof e->later[0]); e->laters -= k;
}
void engine_after_commit(struct engine_run *e) { index_apply(e->p.index); }
uint64_t engine_deadline(const struct engine_run *e) { return UINT64_MAX; }
int engine_attach(struct engine_run *e) {
    for (struct request_h h = request_next(e->p.a, (struct request_h){0}); h.v; h = request_next(e->p.a, h)) {
        const struct request *q = request_view(e->p.a, h);
        if (q->slot.state == REQUEST_READY) e->later[e->laters++] = h;
        if (q->slot.state == REQUEST_APPLIED) e->wait[e->waits++] = h;
    }
    return 0;
}
int engine_is_quiet(const struct engine_run *e, struct volume_h v) { return 1; }
void engine_volume_changed(struct engine_run *e, struct volume_h v) {}
int __attribute__((weak)) log_sequence_at(struct log *l, uint64_t t, void (*done)(void *, int, uint64_t), void *o) { return ERR_UNSUPPORTED; }
