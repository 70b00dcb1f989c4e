/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records into frames, frames to disk.
 *
 *   (none) --append--> OPEN --full, or due--> CLOSED --idle disk--> WRITING --done--> free
 *                                               ^------failed or unknown-----'
 *
 *  1. A record's place is given when it is appended: the open frame has its offset in its segment
 *     from its first record on, and grows at the segment's append_end.
 *  2. One frame is in flight; it is the oldest. So "durable" is a prefix of the log.
 *  3. Frames lie one behind the other in the order of their sequence numbers, in segments of rising
 *     number.
 *  4. An append that fails has changed nothing but, perhaps, opened a segment.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"

static struct frame_h open_frame(const struct log *l) {
    if (l->ring_count > 0) {
        struct frame_h h = ring_at(l, l->ring_count - 1);
        if (frame_view(l->a, h)->slot.state == FRAME_OPEN)
            return h;
    }
    return (struct frame_h){0};
}

int log_fits(const struct log *l, uint32_t at, uint32_t bytes, uint32_t records, uint32_t blocks) {
    const struct engine *root = root_view(l);
    if (records > root->log_segment_records)
        return 0;
    uint64_t run = l->env.index->run_bytes_max(l->env.index_ctx, records, blocks);
    return (uint64_t)at + bytes + round_up_u64(run, BLOCK_BYTES) + BLOCK_BYTES <=
           root->log_segment_bytes;
}

/* Where a record goes: into the open frame (frame.v), or a new one at `offset` of the segment. */
struct spot {
    struct frame_h frame;
    struct segment_h segment;
    uint32_t offset;   /* of the frame */
    uint32_t pages;    /* of the frame before the record's data */
    int new_block;     /* the last of them is a new record block */
    uint64_t time_ns;  /* the frame's */
    uint32_t delta_us; /* the record's */
};

static int spot_in_open_frame(const struct log *l, uint32_t bytes, uint32_t data_pages,
                              struct spot *at) {
    at->frame = open_frame(l);
    if (!at->frame.v)
        return 0;
    const struct frame *f = frame_view(l->a, at->frame);
    at->segment = (struct segment_h){f->segment_slot};
    const struct segment *s = segment_view(l->a, at->segment);
    uint64_t delta_us = (l->store_ns - f->time_ns) / NS_PER_US;
    at->new_block = frame_needs_block(f, bytes);
    at->offset = f->offset;
    at->pages = f->pages + (at->new_block ? 1 : 0);
    at->time_ns = f->time_ns;
    at->delta_us = (uint32_t)delta_us;
    if (f->time_ns < wall_newest(l)->since_ns) /* a frame lies in one span of the wall clock */
        return 0;
    return delta_us <= UINT32_MAX && frame_has_room(f, bytes, data_pages, l->params.frame_bytes) &&
           log_fits(l, f->offset, (at->pages + data_pages) * BLOCK_BYTES, s->records + 1,
                    s->blocks + data_pages);
}

/* The segment that takes records takes no more. */
static void close_append_segment(struct log *l) {
    struct segment_h h = {root_view(l)->log_append_segment};
    if (!h.v)
        return;
    segment_edit(l->a, h)->flags |= SEGMENT_CLOSED;
    root_edit(l)->log_append_segment = 0;
    segment_try_seal(l, h);
}

static int spot_in_new_frame(struct log *l, enum segment_use use, uint32_t data_pages,
                             struct spot *at) {
    struct segment_h h = {root_view(l)->log_append_segment}, fresh;
    uint32_t bytes = (1 + data_pages) * BLOCK_BYTES;
    if (l->ring_count == LOG_FRAMES_MAX || frame_room(l->a) == 0)
        return ERR_AGAIN;
    const struct segment *s = h.v ? segment_view(l->a, h) : NULL;
    if (!s || !log_fits(l, s->append_end, bytes, s->records + 1, s->blocks + data_pages)) {
        int err = segment_take(l, use, &fresh);
        if (err < 0)
            return err;
        close_append_segment(l);
        root_edit(l)->log_append_segment = fresh.v;
        h = fresh;
        s = segment_view(l->a, h);
        must(log_fits(l, s->append_end, bytes, 1, data_pages));
    }
    *at = (struct spot){.segment = h, .offset = s->append_end, .pages = 1, .time_ns = l->store_ns};
    return 0;
}

static struct frame_h begin_frame(struct log *l, const struct spot *at, uint32_t header_page) {
    const struct engine *root = root_view(l);
    struct frame_h last = open_frame(l);
    if (last.v)
        SLOT_EDIT_FIELD(l->a, frame, last, slot)->slot.state = FRAME_CLOSED;
    struct frame_h h = frame_new(l->a, FRAME_OPEN);
    must(h.v != 0);
    struct frame *f = frame_edit(l->a, h);
    memcpy(f->store_id, root->store_id, STORE_ID_BYTES);
    f->first_sequence = root->log_recorded + 1;
    f->follows = root->log_follows;
    f->time_ns = at->time_ns;
    f->opened_ns = l->mono_ns;
    f->segment = segment_view(l->a, at->segment)->number;
    f->segment_slot = at->segment.v;
    f->offset = at->offset;
    f->pages = f->extents = 1;
    f->block_page = header_page;
    f->block_end = FRAME_RECORDS_OFFSET;
    f->extent[0] = (struct extent){header_page, 1};
    wall_span_encode(wall_newest(l), buffer_data(l->buffers, header_page) + FRAME_WALL_OFFSET);
    l->ring[(l->ring_first + l->ring_count++) % LOG_FRAMES_MAX] = h;
    l->unlogged_pages++;
    return h;
}

static struct extent *edit_extents(struct log *l, struct frame_h h, uint32_t count) {
    uint32_t first = frame_view(l->a, h)->extents;
    struct frame *f =
        frame_edit_part(l->a, h, offsetof(struct frame, extent) + first * sizeof(struct extent),
                        count * sizeof(struct extent));
    return &f->extent[first];
}

static struct frame *edit_counts(struct log *l, struct frame_h h) {
    return frame_edit_part(l->a, h, offsetof(struct frame, records),
                           offsetof(struct frame, extent) - offsetof(struct frame, records));
}

static void add_block(struct log *l, struct frame_h h, uint32_t buffer_page) {
    *edit_extents(l, h, 1) = (struct extent){buffer_page, 1 | FRAME_RECORD_BLOCK};
    frame_leave_block(frame_view(l->a, h), l->buffers->data);
    struct frame *f = edit_counts(l, h);
    f->extents++;
    f->pages++;
    f->block_page = buffer_page;
    f->block_end = FRAME_BLOCK_RECORDS_OFFSET;
    l->unlogged_pages++;
}

static void add_record(struct log *l, struct frame_h h, const struct record *r, const uint32_t *crc,
                       const struct extent *data, uint32_t data_extents) {
    struct frame *f = edit_counts(l, h);
    uint8_t *at = buffer_data(l->buffers, f->block_page) + f->block_end;
    uint32_t bytes = record_encode(r, crc, at), pages = record_pages(r);
    f->records++;
    f->records_crc = crc32c(f->records_crc, at, bytes);
    f->block_end += bytes;
    f->last_delta_us = r->delta_us;
    if (pages > 0) {
        memcpy(edit_extents(l, h, data_extents), data, data_extents * sizeof *data);
        f->extents += data_extents;
        f->pages += pages;
        f->data_pages += pages;
        l->unlogged_pages += pages;
    }
}

static int record_of(const struct log_append *r, struct record *rec) {
    *rec = (struct record){.kind = r->kind,
                           .flags = r->flags,
                           .timeline = r->timeline,
                           .family = r->family,
                           .start_sector = r->start_sector,
                           .sectors = r->sectors,
                           .block = r->block,
                           .blocks = r->blocks,
                           .source = r->source,
                           .source_number = r->source_number,
                           .ref_timeline = r->ref_timeline,
                           .ref_sequence = r->ref_sequence};
    return record_check(rec);
}

static void checksums(const struct log *l, const struct log_append *r, uint32_t *crc) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->data_extents; i++)
        for (uint32_t p = 0; p < r->data[i].pages; p++, n++)
            crc[n] = n == 0 && r->first_crc
                         ? *r->first_crc
                         : version_crc(r->family, r->block + n,
                                       buffer_data(l->buffers, r->data[i].first + p), BLOCK_BYTES);
    must(n == r->blocks);
}

int log_append(struct log *l, const struct log_append *r, uint64_t *sequence) {
    struct record rec;
    struct spot at = {0};
    uint32_t crc[RECORD_BLOCKS_MAX];
    int err = record_of(r, &rec);
    if (err < 0)
        return err;
    uint32_t data_pages = record_pages(&rec), bytes = record_bytes(&rec);
    if (!l->resumed || root_view(l)->log_move != LOG_MOVE_NONE ||
        (uint64_t)(l->unlogged_pages + data_pages + 2) * BLOCK_BYTES > l->params.unlogged_bytes_max)
        return ERR_AGAIN;
    enum segment_use use = r->is_control ? SEGMENT_FOR_CONTROL : SEGMENT_FOR_WRITES;
    if (!r->is_control && (err = segments_left(l, use, 0)) < 0)
        return err;
    int in_open = spot_in_open_frame(l, bytes, data_pages, &at);
    if (!in_open && (err = spot_in_new_frame(l, use, data_pages, &at)) < 0)
        return err;
    if (l->buffers->free_pages < 2)
        return ERR_AGAIN;
    if (data_pages > 0)
        checksums(l, r, crc);
    rec.delta_us = at.delta_us;
    struct version v = {.sequence = root_view(l)->log_recorded + 1,
                        .time_ns = at.time_ns + rec.delta_us * NS_PER_US,
                        .block = rec.block,
                        .blocks = rec.blocks,
                        .timeline = rec.timeline,
                        .family = rec.family,
                        .flags = rec.flags & RECORD_MORE ? VERSION_MORE : 0,
                        .place = rec.kind == PLACE_DATA
                                     ? place_data(segment_view(l->a, at.segment)->number,
                                                  at.offset + at.pages * BLOCK_BYTES)
                                     : place_of_kind(rec.kind),
                        .crc = rec.kind == PLACE_DATA ? crc : NULL,
                        .ref_timeline = rec.ref_timeline,
                        .ref_sequence = rec.ref_sequence};
    err = l->env.index->append(l->env.index_ctx, at.segment, &v);
    if (err < 0)
        return err;
    struct extent page;
    if (!in_open || at.new_block)
        must(buffer_take(l->buffers, 1, &page, 1) == 1);
    struct frame_h h = in_open ? at.frame : begin_frame(l, &at, page.first);
    if (at.new_block)
        add_block(l, h, page.first);
    add_record(l, h, &rec, crc, r->data, r->data_extents);
    struct segment *s = segment_edit(l->a, at.segment);
    s->append_end = at.offset + frame_bytes(frame_view(l->a, h));
    s->records++;
    s->blocks += data_pages;
    struct engine *root = root_edit(l);
    root->log_recorded = root->log_follows = v.sequence;
    *sequence = v.sequence;
    log_clock_save(l);
    return 0;
}

int log_room_for_control(struct log *l) {
    const struct engine *root = root_view(l);
    struct segment_h h = {root->log_append_segment};
    if (segments_left(l, SEGMENT_FOR_CONTROL, 1) == 0)
        return 0;
    if (h.v) {
        const struct segment *s = segment_view(l->a, h);
        uint32_t bytes = (uint32_t)min_u64(MIB, root->log_segment_bytes / 16);
        uint32_t records = (uint32_t)min_u64(2048, root->log_segment_records / 4);
        if (log_fits(l, s->append_end, bytes, s->records + records, s->blocks))
            return 0;
    }
    return segments_left(l, SEGMENT_FOR_CONTROL, 1);
}

/* To disk. ------------------------------------------------------------------------------------- */

static int writing(const struct log *l) {
    return l->ring_count > 0 && frame_view(l->a, ring_at(l, 0))->slot.state == FRAME_WRITING;
}

static int is_due(const struct log *l, const struct frame *f) {
    return f->slot.state == FRAME_CLOSED || root_view(l)->log_wanted >= f->first_sequence ||
           frame_bytes(f) >= l->params.submit_bytes ||
           l->mono_ns - f->opened_ns >= l->params.submit_age_ns;
}

static int may_submit(const struct log *l) {
    const struct engine *root = root_view(l);
    return l->resumed && l->ring_count > 0 && !writing(l) &&
           root->log_epoch_state == LOG_EPOCH_DURABLE && root->log_move == LOG_MOVE_NONE;
}

uint64_t log_submit_deadline(const struct log *l) {
    if (!may_submit(l))
        return UINT64_MAX;
    const struct frame *f = frame_view(l->a, ring_at(l, 0));
    uint64_t due = is_due(l, f) ? l->mono_ns : f->opened_ns + l->params.submit_age_ns;
    return max_u64(due, root_view(l)->log_retry_ns);
}

/* The frame stays what it is, and will go elsewhere: a place is never written twice. */
static void frame_not_written(struct log *l, struct frame_h h, int32_t result) {
    const struct frame *f = frame_view(l->a, h);
    struct engine *root = root_edit(l);
    SLOT_EDIT_FIELD(l->a, frame, h, slot)->slot.state =
        l->ring_count > 1 ? FRAME_CLOSED : FRAME_OPEN;
    root->log_move_turn = l->a->turn;
    if (result == ERR_CANCELLED) {
        root->log_move = LOG_MOVE_SKIP;
        return;
    }
    root->log_move = LOG_MOVE_SEGMENT;
    if (root->log_attempts++ > 0) {
        uint64_t pause = LOG_RETRY_MIN_NS << (root->log_attempts < 8 ? root->log_attempts : 8);
        root->log_retry_ns = l->mono_ns + min_u64(pause, LOG_RETRY_MAX_NS);
        root->log_error = result < 0 ? result : ERR_IO;
    }
    log_alert(l, ALERT_CRITICAL, "log_write_failed",
              "writing segment %u at %u failed: %s; what was to be written is kept in memory and "
              "written elsewhere",
              f->segment, f->offset, err_text(result < 0 ? result : ERR_IO));
}

void log_submit(struct log *l) {
    if (!may_submit(l) || l->mono_ns < root_view(l)->log_retry_ns)
        return;
    struct frame_h h = ring_at(l, 0);
    const struct frame *f = frame_view(l->a, h);
    const struct engine *root = root_view(l);
    if (!is_due(l, f))
        return;
    uint32_t file = segment_view(l->a, (struct segment_h){f->segment_slot})->file;
    int device = log_device(l, file);
    if (device < 0) {
        frame_not_written(l, h, device);
        return;
    }
    struct io_h io = io_want(l->io, IO_WRITE, IO_DURABLE, ROUTINE_FRAME_WRITTEN, h.v, file,
                             f->offset, frame_bytes(f));
    if (!io.v)
        return;
    struct frame_header header = {
        .epoch = root->log_epoch,
        .previous = {root->log_end_segment, root->log_end_offset, root->log_end_crc},
        .durable = root->log_durable,
        .wall_ns = l->wall_ns,
        .catalogue = root->log_catalogue};
    must(frame_finish_blocks(f, l->buffers->data, &header) == 0);
    uint32_t crc = frame_header_encode(&header, buffer_data(l->buffers, f->extent[0].first));
    struct frame *edit = frame_edit_part(l->a, h, 0, offsetof(struct frame, records));
    edit->slot.state = FRAME_WRITING;
    edit->header_crc = crc;
    edit->wall_ns = header.wall_ns;
}

uint32_t log_frame_vecs(void *ctx, const struct io *io, struct io_vec *vecs, uint32_t max) {
    const struct log *l = ctx;
    const struct frame *f = frame_view(l->a, (struct frame_h){(uint32_t)io->owner});
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->extents; i++) {
        unsigned char *base = buffer_data(l->buffers, f->extent[i].first);
        size_t bytes = (size_t)frame_extent_pages(f->extent[i]) * BLOCK_BYTES;
        if (n > 0 && (unsigned char *)vecs[n - 1].base + vecs[n - 1].bytes == base) {
            vecs[n - 1].bytes += bytes;
            continue;
        }
        must(n < max);
        vecs[n++] = (struct io_vec){base, bytes};
    }
    return n;
}

/* Families into the notes; returns the newest record that ends a request, or 0. */
static uint64_t note_records(struct log *l, const struct frame *f, const struct frame_header *fh) {
    struct frame_pages pages = {f, l->buffers->data};
    struct segment_h s = {f->segment_slot};
    struct frame_walk w;
    uint32_t family = 0;
    uint64_t whole = 0;
    frame_walk_begin(&w, fh, frame_page, &pages);
    w.check_crc = 0;
    while (frame_walk_next(&w) > 0) {
        if (w.record.family != family)
            segment_note_family(l, s, w.record.family);
        family = w.record.family;
        if (!(w.record.flags & RECORD_MORE))
            whole = w.record_sequence;
    }
    return whole;
}

static void end_at(struct log *l, const struct frame *f, const struct frame_header *fh) {
    struct engine *root = root_edit(l);
    uint64_t whole = note_records(l, f, fh);
    root->log_end_segment = fh->segment;
    root->log_end_offset = fh->offset;
    root->log_end_crc = fh->crc;
    root->log_end_bytes = fh->offset + fh->length_bytes;
    root->log_end_sequence = root->log_durable = frame_last(f);
    if (whole != 0)
        root->log_whole = whole;
    if (root->log_attempts > 0)
        log_alert_clear(l, "log_write_failed");
    root->log_retry_ns = 0;
    root->log_attempts = 0;
    root->log_error = 0;
}

static void frame_durable(struct log *l, struct frame_h h) {
    const struct frame *f = frame_view(l->a, h);
    struct segment_h s = {f->segment_slot};
    struct frame_header fh;
    must(frame_header_decode(buffer_data(l->buffers, f->extent[0].first), log_segment_bytes(l),
                             &fh) == 0);
    must(fh.crc == f->header_crc && fh.segment == f->segment && fh.offset == f->offset);
    segment_note_frame(l, s, &fh, frame_last(f), f->time_ns + f->last_delta_us * NS_PER_US);
    end_at(l, f, &fh);
    for (uint32_t i = 0; i < f->extents; i++)
        buffer_release(l->buffers,
                       (struct extent){f->extent[i].first, frame_extent_pages(f->extent[i])});
    l->unlogged_pages -= f->pages;
    l->ring_first = (l->ring_first + 1) % LOG_FRAMES_MAX;
    l->ring_count--;
    frame_free(l->a, h);
    segment_try_seal(l, s);
    seals_ask_waiting(l);
}

int log_frame_written(void *ctx, struct io_h io_handle, const struct io *io, int32_t result) {
    struct log *l = ctx;
    struct frame_h h = {(uint32_t)io->owner};
    const struct frame *f = frame_try(l->a, h);
    (void)io_handle;
    must(f && f->slot.state == FRAME_WRITING && ring_at(l, 0).v == h.v);
    if (result == (int32_t)frame_bytes(f))
        frame_durable(l, h);
    else
        frame_not_written(l, h, result);
    return 0;
}

/* Questions. ----------------------------------------------------------------------------------- */

void log_want_durable(struct log *l, uint64_t sequence) {
    if (sequence > root_view(l)->log_wanted)
        root_edit(l)->log_wanted = sequence;
}

uint64_t log_whole(const struct log *l) {
    return root_view(l)->log_whole;
}

uint64_t log_durable(const struct log *l) {
    return root_view(l)->log_durable;
}

uint64_t log_recorded(const struct log *l) {
    return root_view(l)->log_recorded;
}

const uint8_t *log_store_id(const struct log *l) {
    return root_view(l)->store_id;
}

int log_failed(const struct log *l) {
    return root_view(l)->log_error;
}

const void *log_bytes_at(const struct log *l, uint64_t place) {
    uint32_t segment = place_segment(place), offset = place_offset_bytes(place);
    uint32_t low = 0, high = l->ring_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct frame *f = frame_view(l->a, ring_at(l, middle));
        if (f->segment > segment || (f->segment == segment && f->offset > offset))
            high = middle;
        else
            low = middle + 1;
    }
    if (low == 0)
        return NULL;
    const struct frame *f = frame_view(l->a, ring_at(l, low - 1));
    if (f->segment != segment || offset - f->offset >= frame_bytes(f))
        return NULL;
    uint32_t at = offset - f->offset;
    return buffer_data(l->buffers, frame_buffer_page(f, at / BLOCK_BYTES)) + at % BLOCK_BYTES;
}

static int by_sequence(const void *x, const void *y) {
    const uint64_t *a = x, *b = y;
    return a[0] < b[0] ? -1 : a[0] > b[0];
}

void ring_rebuild(struct log *l) {
    uint64_t sorted[LOG_FRAMES_MAX][2];
    uint32_t n = 0;
    l->unlogged_pages = 0;
    for (struct frame_h h = frame_next(l->a, (struct frame_h){0}); h.v; h = frame_next(l->a, h)) {
        must(n < LOG_FRAMES_MAX);
        sorted[n][0] = frame_view(l->a, h)->first_sequence;
        sorted[n++][1] = h.v;
        l->unlogged_pages += frame_view(l->a, h)->pages;
    }
    qsort(sorted, n, sizeof sorted[0], by_sequence);
    l->ring_first = 0;
    l->ring_count = n;
    for (uint32_t i = 0; i < n; i++)
        l->ring[i] = (struct frame_h){(uint32_t)sorted[i][1]};
}
