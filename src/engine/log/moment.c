/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time to sequence. What is not durable yet is looked up in its frames in memory. Else the segments'
 * times say which segment, its samples say where to begin, and a job goes back from frame to frame,
 * as each names its previous one: so it meets exactly the frames that count, whatever lies between
 * them. It stops at the newest record that is old enough and ends a request; if a segment has none,
 * another job goes on in the one before.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

struct moment {
    struct job job;
    struct moment *next;
    struct log *l;
    struct file_system files;
    uint64_t time_ns;
    void (*done)(void *owner, int result, uint64_t sequence);
    void *owner;
    uint32_t segment, file, segment_bytes;
    uint32_t start; /* offset of a frame to begin at, 0: the footer's samples tell */
    int result;     /* ERR_AGAIN: go on in segment `before` */
    uint64_t sequence;
    uint32_t before;
};

/* The newest record of a frame that is old enough and ends a request; 0: none. Records that were cut
 * off at a cold start end no request. */
static uint64_t newest_in(struct frame_walk *w, uint64_t frame_time_ns, uint64_t time_ns,
                          int *err) {
    uint64_t found = 0;
    while ((*err = frame_walk_next(w)) > 0) {
        if (frame_time_ns + w->record.delta_us * NS_PER_US > time_ns)
            break;
        if (!(w->record.flags & RECORD_MORE))
            found = w->record_sequence;
    }
    return found;
}

static uint64_t find_in_memory(struct log *l, uint64_t time_ns) {
    for (uint32_t i = l->ring_count; i-- > 0;) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        struct frame_pages pages = {f, l->buffers->data};
        struct frame_header h = {0};
        struct frame_walk w;
        int err;
        if (f->time_ns > time_ns)
            continue;
        /* What is being written is finished already, and must not be touched. */
        if (f->slot.state == FRAME_WRITING)
            err = frame_header_decode(frame_page(&pages, 0), log_segment_bytes(l), &h);
        else
            err = frame_finish_blocks(f, l->buffers->data, &h);
        must(err == 0);
        frame_walk_begin(&w, &h, frame_page, &pages);
        w.check_crc = 0;
        uint64_t found = newest_in(&w, f->time_ns, time_ns, &err);
        if (found != 0)
            return found;
    }
    return 0;
}

/* In the job. ---------------------------------------------------------------------------------- */

static int start_from_footer(struct moment *m, int file) {
    uint8_t block[BLOCK_BYTES];
    struct segment_footer f;
    int64_t n =
        m->files.ops->read(m->files.ctx, file, block, BLOCK_BYTES, m->segment_bytes - BLOCK_BYTES);
    if (n != (int64_t)BLOCK_BYTES)
        return n < 0 ? (int)n : ERR_IO;
    int err = footer_decode(block, m->segment_bytes, &f);
    if (err < 0)
        return err == ERR_FORMAT ? ERR_INTEGRITY : err;
    m->start = f.last_frame_offset;
    for (uint32_t i = f.sample_count; i-- > 0;)
        if (f.samples[i].time_ns > m->time_ns)
            m->start = f.samples[i].offset;
    return 0;
}

/* Goes back from the frame at m->start. */
static int go_back(struct moment *m, int file) {
    struct disk_frame d = {.files = &m->files, .file = file};
    struct frame_name at = {m->segment, m->start, 0};
    struct frame_header h;
    struct frame_walk w;
    int first = 1, err;
    for (;;) {
        d.offset = at.offset;
        const uint8_t *page = disk_frame_page(&d, 0);
        if (!page)
            return ERR_IO;
        if (frame_header_decode(page, m->segment_bytes, &h) < 0 || h.segment != m->segment ||
            h.offset != at.offset || (!first && h.crc != at.crc))
            return ERR_INTEGRITY;
        first = 0;
        if (h.time_ns <= m->time_ns) {
            frame_walk_begin(&w, &h, disk_frame_page, &d);
            m->sequence = newest_in(&w, h.time_ns, m->time_ns, &err);
            if (d.err < 0)
                return d.err;
            if (m->sequence != 0)
                return 0;
        }
        at = h.previous;
        if (at.segment != m->segment) {
            m->before = at.segment;
            return ERR_AGAIN;
        }
        if (at.offset >= h.offset)
            return ERR_INTEGRITY;
    }
}

static void moment_run(struct job *job) {
    struct moment *m = (struct moment *)job;
    char path[LOG_PATH_BYTES];
    segment_path(m->file, path);
    int file = m->files.ops->open(m->files.ctx, path, FILE_READ);
    m->result = file < 0 ? file : 0;
    if (m->result == 0 && m->start == 0)
        m->result = start_from_footer(m, file);
    if (m->result == 0)
        m->result = go_back(m, file);
    if (file >= 0)
        m->files.ops->close(m->files.ctx, file);
}

/* In turns. ------------------------------------------------------------------------------------ */

static void unlink_moment(struct log *l, struct moment *m) {
    struct moment **at = &l->moments;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    free(m);
}

static int start_in(struct moment *m, struct segment_h h) {
    struct log *l = m->l;
    const struct segment *s = segment_view(l->a, h);
    m->segment = s->number;
    m->start = 0;
    if (s->slot.state != SEGMENT_SEALED) {
        const struct segment_notes *notes = segment_notes(l, s);
        m->start = s->last_frame_offset;
        for (uint32_t i = s->samples; i-- > 0;)
            if (notes->samples[i].time_ns > m->time_ns)
                m->start = notes->samples[i].offset;
    }
    int err = log_pin_segment(l, s->number, &m->file);
    if (err < 0)
        return err;
    l->env.jobs.ops->start(l->env.jobs.ctx, &m->job);
    return 0;
}

static void moment_done(struct job *job) {
    struct moment *m = (struct moment *)job;
    struct log *l = m->l;
    log_unpin_segment(l, m->segment);
    if (m->result == ERR_AGAIN) {
        struct segment_h h = log_segment(l, m->before);
        m->result = h.v && segment_view(l->a, h)->frames > 0 ? start_in(m, h) : ERR_RANGE;
        if (m->result == 0)
            return;
    }
    void (*done)(void *, int, uint64_t) = m->done;
    void *owner = m->owner;
    int result = m->result;
    uint64_t sequence = m->sequence;
    unlink_moment(l, m);
    done(owner, result, sequence);
}

/* The newest segment with a durable record that is old enough. */
static struct segment_h segment_at(const struct log *l, uint64_t time_ns) {
    struct segment_h best = {0};
    uint32_t number = 0;
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        const struct segment *s = segment_view(l->a, h);
        if ((s->slot.state == SEGMENT_OPEN || s->slot.state == SEGMENT_SEALING ||
             s->slot.state == SEGMENT_SEALED) &&
            s->frames > 0 && s->first_time_ns <= time_ns && s->number > number) {
            best = h;
            number = s->number;
        }
    }
    return best;
}

int log_sequence_at(struct log *l, uint64_t time_ns, uint64_t *sequence,
                    void (*done)(void *owner, int result, uint64_t sequence), void *owner) {
    *sequence = find_in_memory(l, time_ns);
    if (*sequence != 0)
        return 1;
    struct segment_h h = segment_at(l, time_ns);
    if (!h.v)
        return ERR_RANGE;
    struct moment *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    *m = (struct moment){.job = {.run = moment_run, .done = moment_done},
                         .next = l->moments,
                         .l = l,
                         .files = l->env.files,
                         .time_ns = time_ns,
                         .done = done,
                         .owner = owner,
                         .segment_bytes = log_segment_bytes(l)};
    l->moments = m;
    int err = start_in(m, h);
    if (err < 0)
        unlink_moment(l, m);
    return err;
}

void moments_close(struct log *l) {
    while (l->moments)
        unlink_moment(l, l->moments);
}
