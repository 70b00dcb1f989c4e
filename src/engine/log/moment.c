/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments: time to sequence, and sequence to time. What is not durable yet is looked up in its frames
 * in memory. Else the segments' times and numbers say which segment (history.c), its samples say where
 * to begin, and a job goes back from frame to frame, in a window of the file that is read at once, as
 * each names its previous one: so it meets exactly the frames that count, whatever lies between them.
 * It stops at the newest record that is old enough and ends a request: no moment lies within one. If a
 * segment has none, another job goes on in the one before.
 *
 * A wall time may mean several store times (wall.h). Each is looked up, one after the other; if they
 * lead to the same record it is one moment after all.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

/* What is read at once; it reaches so far beyond the page that is asked for. */
#define WINDOW_BYTES (256u * 1024)
#define WINDOW_AHEAD_BYTES (64u * 1024)

/* The newest record not after it. */
struct target {
    int by_sequence;
    uint64_t value; /* sequence or store time */
};

struct found {
    uint64_t sequence, time_ns; /* sequence 0: none */
};

struct moment {
    struct job job;
    struct moment *next;
    struct log *l;
    struct file_system files;
    struct target target;
    void (*done)(void *owner, int result, const struct log_moment *m);
    void *owner;
    /* Of a wall time. */
    uint64_t readings[WALL_READINGS_MAX];
    uint32_t reading_count, reading_next;
    struct found first; /* of the readings so far */
    struct log_moment answer;
    /* The job's. */
    uint32_t segment, file, segment_bytes;
    uint32_t data_end;
    uint32_t start; /* offset of a frame to begin at, 0: the footer's samples tell */
    int result;     /* ERR_AGAIN: go on in segment `before` */
    struct found found;
    uint32_t before;
};

static int is_beyond(struct target t, uint64_t sequence, uint64_t time_ns) {
    return t.by_sequence ? sequence > t.value : time_ns > t.value;
}

/* The newest record of a frame that is old enough and ends a request; those that were cut off at a
 * cold start end none. */
static struct found newest_in(struct frame_walk *w, uint64_t frame_time_ns, struct target t,
                              int *err) {
    struct found found = {0};
    while ((*err = frame_walk_next(w)) > 0) {
        uint64_t time_ns = frame_time_ns + w->record.delta_us * NS_PER_US;
        if (is_beyond(t, w->record_sequence, time_ns))
            break;
        if (!(w->record.flags & RECORD_MORE))
            found = (struct found){w->record_sequence, time_ns};
    }
    return found;
}

static struct found find_in_memory(struct log *l, struct target t) {
    for (uint32_t i = l->ring_count; i-- > 0;) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        struct frame_pages pages = {f, l->buffers->data};
        struct frame_header h = {0};
        struct frame_walk w;
        int err;
        if (is_beyond(t, f->first_sequence, f->time_ns))
            continue;
        /* What is being written is finished already, and must not be touched. */
        if (f->slot.state == FRAME_WRITING)
            err = frame_header_decode(frame_page(&pages, 0), log_segment_bytes(l), &h);
        else
            err = frame_finish_blocks(f, l->buffers->data, &h);
        must(err == 0);
        frame_walk_begin(&w, &h, frame_page, &pages);
        w.check_crc = 0;
        struct found found = newest_in(&w, f->time_ns, t, &err);
        if (found.sequence != 0)
            return found;
    }
    return (struct found){0};
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
        if (is_beyond(m->target, f.samples[i].sequence, f.samples[i].time_ns))
            m->start = f.samples[i].offset;
    return 0;
}

/* A part of a slot file, with the page that was asked for last in it. */
struct window {
    const struct moment *m;
    int file;
    uint32_t frame; /* offset of the frame whose pages are asked for */
    uint32_t from, bytes;
    int err;
    uint8_t *data;
};

static int fill(struct window *w, uint64_t from, uint64_t end) {
    const struct file_system *fs = &w->m->files;
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
    uint64_t end = min_u64(at + WINDOW_AHEAD_BYTES, w->m->data_end);
    if (at + BLOCK_BYTES > end)
        w->err = ERR_INTEGRITY;
    else if (fill(w, end - min_u64(end, WINDOW_BYTES), end) < 0)
        w->err = fill(w, at, at + BLOCK_BYTES);
    return w->err < 0 ? NULL : w->data + (at - w->from);
}

/* Goes back from the frame at m->start. */
static int go_back(struct moment *m, struct window *d) {
    struct frame_name at = {m->segment, m->start, 0};
    struct frame_header h;
    struct frame_walk w;
    int first = 1, err;
    for (;;) {
        d->frame = at.offset;
        const uint8_t *page = window_page(d, 0);
        if (!page)
            return d->err;
        if (frame_header_decode(page, m->segment_bytes, &h) < 0 || h.segment != m->segment ||
            h.offset != at.offset || (!first && h.crc != at.crc))
            return ERR_INTEGRITY;
        first = 0;
        if (!is_beyond(m->target, h.first_sequence, h.time_ns)) {
            frame_walk_begin(&w, &h, window_page, d);
            m->found = newest_in(&w, h.time_ns, m->target, &err);
            if (d->err < 0)
                return d->err;
            if (m->found.sequence != 0)
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
    log_slot_path(m->file, path);
    int file = m->files.ops->open(m->files.ctx, path, FILE_READ);
    struct window w = {.m = m, .file = file, .data = malloc(WINDOW_BYTES)};
    m->result = file < 0 ? file : w.data ? 0 : ERR_NOMEM;
    if (m->result == 0 && m->start == 0)
        m->result = start_from_footer(m, file);
    if (m->result == 0)
        m->result = go_back(m, &w);
    free(w.data);
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

/* From the job's start on, m->result is the job's. */
static int start_in(struct moment *m, struct segment_h h) {
    struct log *l = m->l;
    const struct segment *s = segment_view(l->a, h);
    m->segment = s->number;
    m->data_end = s->data_end;
    m->start = 0;
    if (s->slot.state != SEGMENT_SEALED) {
        const struct segment_notes *notes = segment_notes(l, s);
        m->start = s->last_frame_offset;
        for (uint32_t i = s->samples; i-- > 0;)
            if (is_beyond(m->target, notes->samples[i].sequence, notes->samples[i].time_ns))
                m->start = notes->samples[i].offset;
    }
    int err = log_pin_segment(l, s->number, &m->file);
    if (err < 0)
        return err;
    l->env.jobs.ops->start(l->env.jobs.ctx, &m->job);
    return 0;
}

/* 1: m->result and m->found are set; 0: a job runs. */
static int look_up(struct moment *m) {
    struct log *l = m->l;
    m->result = 0;
    m->found = find_in_memory(l, m->target);
    if (m->found.sequence != 0)
        return 1;
    struct segment_h h = history_at(l, m->target.by_sequence, m->target.value);
    int err = h.v ? start_in(m, h) : ERR_RANGE;
    if (err == 0)
        return 0;
    m->result = err;
    return 1;
}

/* What was found is one reading's; a reading that lies before the beginning does not count. */
static void take_found(struct moment *m) {
    if (m->result < 0 || m->found.sequence == m->first.sequence)
        return;
    if (m->first.sequence == 0)
        m->first = m->found;
    else
        m->answer.other = m->found.sequence;
}

static int has_failed(const struct moment *m) {
    return m->result < 0 && m->result != ERR_RANGE;
}

/* The same as look_up, for all readings. */
static int look_up_rest(struct moment *m) {
    while (m->reading_next < m->reading_count) {
        m->target.value = m->readings[m->reading_next++];
        if (look_up(m) == 0)
            return 0;
        if (has_failed(m))
            return 1;
        take_found(m);
    }
    return 1;
}

/* The result; the answer is filled in. */
static int finish(struct moment *m) {
    const struct wall *w = wall_spans(m->l);
    if (has_failed(m))
        return m->result;
    if (m->first.sequence == 0)
        return ERR_RANGE;
    m->answer.sequence = m->first.sequence;
    m->answer.time_ns = m->first.time_ns;
    m->answer.wall_ns = wall_at(w->span, w->count, m->first.time_ns);
    return m->answer.other != 0 ? ERR_AMBIGUOUS : 0;
}

/* Where the job goes on: in the segment that was named, or, if that was freed, in the newest older one. */
static struct segment_h segment_before(const struct log *l, const struct moment *m) {
    struct segment_h h = log_segment(l, m->before), at = log_segment(l, m->segment);
    if (h.v || !at.v)
        return h;
    uint64_t first = segment_view(l->a, at)->first_sequence;
    return history_at(l, 1, first - 1);
}

static void moment_done(struct job *job) {
    struct moment *m = (struct moment *)job;
    struct log *l = m->l;
    log_unpin_segment(l, m->segment);
    if (m->result == ERR_AGAIN) {
        struct segment_h h = segment_before(l, m);
        int err = h.v && segment_view(l->a, h)->frames > 0 ? start_in(m, h) : ERR_RANGE;
        if (err == 0)
            return;
        m->result = err;
    }
    take_found(m);
    if (!has_failed(m) && look_up_rest(m) == 0)
        return;
    void (*done)(void *, int, const struct log_moment *) = m->done;
    void *owner = m->owner;
    int result = finish(m);
    struct log_moment answer = m->answer;
    unlink_moment(l, m);
    done(owner, result, &answer);
}

int log_find_moment(struct log *l, enum log_moment_kind kind, uint64_t value,
                    struct log_moment *out,
                    void (*done)(void *owner, int result, const struct log_moment *m),
                    void *owner) {
    const struct wall *w = wall_spans(l);
    struct moment *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    *m = (struct moment){.job = {.run = moment_run, .done = moment_done},
                         .next = l->moments,
                         .l = l,
                         .files = l->env.files,
                         .target = {.by_sequence = kind == LOG_AT_SEQUENCE},
                         .readings = {value},
                         .reading_count = 1,
                         .done = done,
                         .owner = owner,
                         .segment_bytes = log_segment_bytes(l)};
    /* Between the turn's reading and now lies no record. */
    if (kind == LOG_AT_WALL_TIME && value > l->wall_ns && value <= clock_wall_ns(&l->env.clock))
        value = l->wall_ns;
    if (kind == LOG_AT_WALL_TIME)
        m->reading_count = wall_readings(w->span, w->count, l->store_ns, value, m->readings);
    l->moments = m;
    int no_reading = m->reading_count == 0;
    if (look_up_rest(m) == 0)
        return 0;
    int result = no_reading ? ERR_NOTFOUND : finish(m);
    *out = m->answer;
    unlink_moment(l, m);
    return result < 0 ? result : 1;
}

void moments_close(struct log *l) {
    while (l->moments)
        unlink_moment(l, l->moments);
}
