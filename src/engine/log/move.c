/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other places. When a frame's write failed, or its outcome is unknown because the process that
 * submitted it died and its queue is lost, its place is not used again: a late or partial write may
 * hit it. All frames that are not durable get new places, in order: behind the unknown write, or in
 * another segment after a failure, or when they were moved so often that the place would be too far
 * behind what is durable. Their records and sequence numbers stay. The moved frame names the
 * same previous one as the frame that it replaces, and stands behind it: so it is the one that counts.
 *
 * The move happens in a turn of its own, after the one that decided on it, for it may have to wait
 * until a segment is prepared. Until then nothing is recorded.
 */
#include "base/err.h"
#include "engine/log/log_priv.h"

struct place_of_frame {
    struct segment_h segment;
    uint32_t offset;
};

struct plan {
    struct place_of_frame frames[LOG_FRAMES_MAX];
    struct segment_h taken[LOG_FRAMES_MAX];
    uint32_t taken_count;
    struct segment_h at;
    uint32_t end, records, blocks;
};

static int take(struct log *l, struct plan *p) {
    int err = segment_take(l, SEGMENT_FOR_MOVES, &p->at);
    if (err < 0)
        return err;
    p->taken[p->taken_count++] = p->at;
    p->end = segment_view(l->a, p->at)->append_end;
    p->records = p->blocks = 0;
    return 0;
}

/* Whether the oldest frame may lie there: a cold start leaves out so much for the writes of a dead
 * process (recover.c). */
static int is_left_out(const struct log *l, const struct plan *p) {
    const struct segment *s = segment_view(l->a, p->at);
    uint64_t from = s->frames > 0 ? s->data_end : SEGMENT_FRAMES_OFFSET;
    return p->end + frame_bytes(frame_view(l->a, ring_at(l, 0))) <=
           from + root_view(l)->log_left_out + l->params.orphan_bytes;
}

/* Behind the write whose outcome is unknown, in its segment. */
static void begin_behind(const struct log *l, struct plan *p) {
    const struct frame *head = frame_view(l->a, ring_at(l, 0));
    p->at = (struct segment_h){head->segment_slot};
    const struct segment *s = segment_view(l->a, p->at);
    p->end = head->offset + frame_bytes(head);
    p->records = s->records;
    p->blocks = s->blocks;
    for (uint32_t i = 0; i < l->ring_count; i++) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        if (f->segment_slot == p->at.v) {
            p->records -= f->records;
            p->blocks -= f->data_pages;
        }
    }
}

static int make_plan(struct log *l, struct plan *p) {
    int err = 0;
    if (root_view(l)->log_move == LOG_MOVE_SKIP)
        begin_behind(l, p);
    if (root_view(l)->log_move != LOG_MOVE_SKIP || !is_left_out(l, p))
        err = take(l, p);
    for (uint32_t i = 0; i < l->ring_count && err == 0; i++) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        if (!log_fits(l, p->end, frame_bytes(f), p->records + f->records,
                      p->blocks + f->data_pages))
            err = take(l, p);
        p->frames[i] = (struct place_of_frame){p->at, p->end};
        p->end += frame_bytes(f);
        p->records += f->records;
        p->blocks += f->data_pages;
    }
    while (err < 0 && p->taken_count > 0)
        segment_give_back(l, p->taken[--p->taken_count]);
    return err;
}

struct version log_version_of(const struct frame_walk *w, uint32_t segment, uint32_t frame_offset,
                              uint64_t frame_time_ns) {
    const struct record *r = &w->record;
    int is_data = r->kind == PLACE_DATA;
    return (struct version){
        .sequence = w->record_sequence,
        .time_ns = frame_time_ns + r->delta_us * NS_PER_US,
        .block = r->block,
        .blocks = r->blocks,
        .timeline = r->timeline,
        .family = r->family,
        .flags = r->flags & RECORD_MORE ? VERSION_MORE : 0,
        .place = is_data ? place_data(segment, frame_offset + w->record_page * BLOCK_BYTES)
                         : place_of_kind(r->kind),
        .crc = is_data ? w->crc : NULL,
        .ref_timeline = r->ref_timeline,
        .ref_sequence = r->ref_sequence};
}

static void tell_index(struct log *l, struct frame_h h) {
    const struct frame *f = frame_view(l->a, h);
    struct frame_pages pages = {f, l->buffers->data};
    struct frame_header fh = {0};
    struct frame_walk w;
    must(frame_finish_blocks(f, l->buffers->data, &fh) == 0);
    frame_walk_begin(&w, &fh, frame_page, &pages);
    w.check_crc = 0;
    for (uint32_t i = 0; i < f->records; i++) {
        must(frame_walk_next(&w) == 1);
        struct version v = log_version_of(&w, f->segment, f->offset, f->time_ns);
        l->env.index->moved(l->env.index_ctx, (struct segment_h){f->segment_slot}, &v);
    }
}

static void leave_place(struct log *l, struct frame_h h) {
    const struct frame *f = frame_view(l->a, h);
    struct segment *s = segment_edit(l->a, (struct segment_h){f->segment_slot});
    s->records -= f->records;
    s->blocks -= f->data_pages;
    s->append_end = s->data_end;
    s->flags |= SEGMENT_CLOSED;
}

static void enter_place(struct log *l, struct frame_h h, struct place_of_frame to) {
    struct segment *s = segment_edit(l->a, to.segment);
    struct frame *f =
        frame_edit_part(l->a, h, offsetof(struct frame, segment),
                        offsetof(struct frame, header_crc) - offsetof(struct frame, segment));
    f->segment = s->number;
    f->segment_slot = to.segment.v;
    f->offset = to.offset;
    s->records += f->records;
    s->blocks += f->data_pages;
    s->append_end = to.offset + frame_bytes(f);
    tell_index(l, h);
}

void log_move_frames(struct log *l) {
    struct plan p = {.taken_count = 0};
    struct segment_h old[LOG_FRAMES_MAX];
    uint32_t old_count = 0;
    must(l->ring_count > 0);
    if (make_plan(l, &p) < 0) {
        root_edit(l)->log_retry_ns = l->mono_ns + LOG_RETRY_MIN_NS;
        return;
    }
    struct segment_h hit = {frame_view(l->a, ring_at(l, 0))->segment_slot};
    for (uint32_t i = 0; i < l->ring_count; i++) {
        struct segment_h s = {frame_view(l->a, ring_at(l, i))->segment_slot};
        if (old_count == 0 || old[old_count - 1].v != s.v)
            old[old_count++] = s;
        leave_place(l, ring_at(l, i));
    }
    for (uint32_t i = 0; i < l->ring_count; i++)
        enter_place(l, ring_at(l, i), p.frames[i]);
    for (uint32_t i = 0; i + 1 < p.taken_count; i++)
        segment_edit(l->a, p.taken[i])->flags |= SEGMENT_CLOSED;
    segment_edit(l->a, p.at)->flags &= ~(uint32_t)SEGMENT_CLOSED;
    struct engine *root = root_edit(l);
    struct segment_h append = {root->log_append_segment};
    root->log_append_segment = p.at.v;
    root->log_move = LOG_MOVE_NONE;
    if (append.v && append.v != p.at.v && append.v != old[old_count - 1].v) {
        segment_edit(l->a, append)->flags |= SEGMENT_CLOSED; /* opened, and nothing came into it */
        segment_try_seal(l, append);
    }
    for (uint32_t i = 0; i < old_count; i++) {
        const struct segment *s = segment_view(l->a, old[i]);
        if (old[i].v == hit.v && s->frames == 0 && s->append_end == s->data_end &&
            old[i].v != p.at.v)
            segment_abandon(l, old[i], 1);
        else
            segment_try_seal(l, old[i]);
    }
}
