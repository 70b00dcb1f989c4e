/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/back.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/units.h"

/* What is read at once; it reaches so far beyond the page that is asked for. */
#define WINDOW_BYTES (256u * 1024)
#define WINDOW_AHEAD_BYTES (64u * 1024)

/* ---- In the job ---- */

static int start_from_footer(struct back *b, int file) {
    uint8_t block[BLOCK_BYTES];
    struct segment_footer f;
    int64_t n =
        b->files.ops->read(b->files.ctx, file, block, BLOCK_BYTES, b->segment_bytes - BLOCK_BYTES);
    if (n != (int64_t)BLOCK_BYTES)
        return n < 0 ? (int)n : ERR_IO;
    int err = footer_decode(block, b->segment_bytes, &f);
    if (err < 0)
        return err == ERR_FORMAT ? ERR_INTEGRITY : err;
    b->start = f.last_frame_offset;
    for (uint32_t i = f.sample_count; i-- > 0;)
        if (back_is_beyond(b, f.samples[i].sequence, f.samples[i].time_ns))
            b->start = f.samples[i].offset;
    return 0;
}

/* A part of a slot file, with the page that was asked for last in it. */
struct window {
    const struct back *b;
    int file;
    uint32_t frame; /* offset of the frame whose pages are asked for */
    uint32_t from, bytes;
    int err;
    uint8_t *data;
};

static int fill(struct window *w, uint64_t from, uint64_t end) {
    const struct file_system *fs = &w->b->files;
    int64_t n = fs->ops->read(fs->ctx, w->file, w->data, (size_t)(end - from), from);
    w->from = (uint32_t)from;
    w->bytes = n == (int64_t)(end - from) ? (uint32_t)n : 0;
    return w->bytes > 0 ? 0 : n < 0 ? (int)n : ERR_IO;
}

/* Of a window that cannot be read whole, the page alone. */
static const uint8_t *window_page(void *window, uint32_t page) {
    struct window *w = window;
    uint64_t at = w->frame + (uint64_t)page * BLOCK_BYTES;
    if (at >= w->from && at + BLOCK_BYTES <= (uint64_t)w->from + w->bytes)
        return w->data + (at - w->from);
    uint64_t end = min_u64(at + WINDOW_AHEAD_BYTES, w->b->data_end);
    if (at + BLOCK_BYTES > end)
        w->err = ERR_INTEGRITY;
    else if (fill(w, end - min_u64(end, WINDOW_BYTES), end) < 0)
        w->err = fill(w, at, at + BLOCK_BYTES);
    return w->err < 0 ? NULL : w->data + (at - w->from);
}

/* Goes back from the frame at b->start. */
static int go_back(struct back *b, struct window *d) {
    struct frame_name at = {b->segment, b->start, 0};
    struct frame_header h;
    struct frame_walk w;
    for (int first = 1;; first = 0) {
        d->frame = at.offset;
        const uint8_t *page = window_page(d, 0);
        if (!page)
            return d->err;
        if (frame_header_decode(page, b->segment_bytes, &h) < 0 || h.segment != b->segment ||
            h.offset != at.offset || (!first && h.crc != at.crc))
            return ERR_INTEGRITY;
        if (!back_is_beyond(b, h.first_sequence, h.time_ns)) {
            frame_walk_begin(&w, &h, window_page, d);
            int n = b->visit(b, &h, &w);
            if (d->err < 0 || n != 0)
                return d->err < 0 ? d->err : n < 0 ? n : 0;
        }
        at = h.previous;
        if (at.segment != b->segment) {
            b->before = at.segment;
            return ERR_AGAIN;
        }
        if (at.offset >= h.offset)
            return ERR_INTEGRITY;
    }
}

static void back_run(struct job *job) {
    struct back *b = (struct back *)job;
    char path[LOG_PATH_BYTES];
    log_slot_path(b->file, path);
    int file = b->files.ops->open(b->files.ctx, path, FILE_READ);
    struct window w = {.b = b, .file = file, .data = malloc(WINDOW_BYTES)};
    b->result = file < 0 ? file : w.data ? 0 : ERR_NOMEM;
    if (b->result == 0 && b->start == 0)
        b->result = start_from_footer(b, file);
    if (b->result == 0)
        b->result = go_back(b, &w);
    free(w.data);
    if (file >= 0)
        b->files.ops->close(b->files.ctx, file);
}

/* ---- In turns ---- */

/* 1: enough. */
static int go_back_in_memory(struct back *b) {
    const struct log *l = b->l;
    for (uint32_t i = l->ring_count; i-- > 0;) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        struct frame_pages pages = {f, l->buffers->data};
        struct frame_header h = {0};
        struct frame_walk w;
        int err;
        if (back_is_beyond(b, f->first_sequence, f->time_ns))
            continue;
        /* What is being written is finished already, and must not be touched. */
        if (f->slot.state == FRAME_WRITING)
            err = frame_header_decode(frame_page(&pages, 0), log_segment_bytes(l), &h);
        else
            err = frame_finish_blocks(f, l->buffers->data, &h);
        must(err == 0);
        frame_walk_begin(&w, &h, frame_page, &pages);
        w.check_crc = 0;
        int n = b->visit(b, &h, &w);
        if (n != 0)
            return n;
    }
    return 0;
}

static void back_done(struct job *job);

/* From the job's start on, b->result is the job's. */
static int start_in(struct back *b, struct segment_h h) {
    struct log *l = b->l;
    const struct segment *s = segment_view(l->a, h);
    b->segment = s->number;
    b->segment_bytes = log_segment_bytes(l);
    b->files = l->env.files;
    b->data_end = s->data_end;
    b->first_sequence = s->first_sequence;
    b->start = 0;
    if (s->slot.state != SEGMENT_SEALED) {
        const struct segment_notes *notes = segment_notes(l, s);
        b->start = s->last_frame_offset;
        for (uint32_t i = s->samples; i-- > 0;)
            if (back_is_beyond(b, notes->samples[i].sequence, notes->samples[i].time_ns))
                b->start = notes->samples[i].offset;
    }
    int err = log_pin_segment(l, s->number, &b->file);
    if (err < 0)
        return err;
    b->job = (struct job){.run = back_run, .done = back_done};
    l->env.jobs.ops->start(l->env.jobs.ctx, &b->job);
    return 0;
}

/* Where the job goes on: in the segment that was named, or, if that was freed, in the newest older one. That in which
 * it was may have been freed too. */
static struct segment_h segment_before(const struct log *l, const struct back *b) {
    struct segment_h h = log_segment(l, b->before);
    return h.v ? h : history_at(l, 1, b->first_sequence - 1);
}

static void back_done(struct job *job) {
    struct back *b = (struct back *)job;
    struct log *l = b->l;
    log_unpin_segment(l, b->segment);
    int result = b->result;
    if (result == ERR_AGAIN) {
        struct segment_h h = segment_before(l, b);
        result = h.v && segment_view(l->a, h)->frames > 0 ? start_in(b, h) : ERR_RANGE;
        if (result == 0)
            return;
    }
    b->done(b, result);
}

int back_begin(struct back *b) {
    int n = go_back_in_memory(b);
    if (n != 0)
        return n;
    struct segment_h h = history_at(b->l, b->by_sequence, b->value);
    return h.v ? start_in(b, h) : ERR_RANGE;
}
