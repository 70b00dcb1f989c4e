/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in the slot files. A footer that checks stands for the whole segment. A segment without
 * one is read whole, and every frame in it is checked, header, records and data; behind a header
 * that checks the next frame is expected at its end, and where no header checks, at each page. So data
 * that look like a frame are not taken for one, even if the frame that holds them is damaged; and no
 * frame may begin within another, not even within one that does not count (recover.c).
 *
 * A slot whose header does not check is taken for empty room only if no frame of this store is found
 * where a first frame can be.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

int recovery_open(const struct log *l, uint32_t file) {
    char path[LOG_PATH_BYTES];
    log_slot_path(file, path);
    return l->env.files.ops->open(l->env.files.ctx, path, FILE_READ);
}

static int64_t read_at(const struct log *l, int file, void *buf, uint32_t bytes, uint64_t offset) {
    return l->env.files.ops->read(l->env.files.ctx, file, buf, bytes, offset);
}

const uint8_t *disk_frame_page(void *disk_frame, uint32_t page) {
    struct disk_frame *d = disk_frame;
    int64_t n = d->files->ops->read(d->files->ctx, d->file, d->page, BLOCK_BYTES,
                                    d->offset + (uint64_t)page * BLOCK_BYTES);
    if (n == (int64_t)BLOCK_BYTES)
        return d->page;
    d->err = n < 0 ? (int)n : ERR_IO;
    return NULL;
}

static int is_ours(const struct recovery *r, const uint8_t *store_id) {
    return memcmp(r->header.id, store_id, STORE_ID_BYTES) == 0;
}

static void seen(struct recovery *r, uint32_t segment, uint64_t epoch, uint64_t sequence,
                 uint64_t catalogue) {
    if (segment > r->highest_segment)
        r->highest_segment = segment;
    r->highest_epoch = max_u64(r->highest_epoch, epoch);
    r->highest_number = max_u64(r->highest_number, sequence);
    r->catalogue = max_u64(r->catalogue, catalogue);
}

void recovery_learn_wall(struct recovery *r, const struct wall_span *s) {
    if (s->rate != 0)
        r->wall_count = wall_add(r->wall, r->wall_count, WALL_SPANS_MAX, s);
}

/* Frames. -------------------------------------------------------------------------------------- */

struct whole_frame {
    const uint8_t *bytes;
};

static const uint8_t *whole_frame_page(void *ctx, uint32_t page) {
    return ((struct whole_frame *)ctx)->bytes + (size_t)page * BLOCK_BYTES;
}

/* Records and data of a frame that lies in memory. */
static void check_frame(const uint8_t *bytes, const struct frame_header *h, struct link *k) {
    struct whole_frame whole = {bytes};
    struct frame_walk w;
    int err;
    frame_walk_begin(&w, h, whole_frame_page, &whole);
    while ((err = frame_walk_next(&w)) > 0) {
        const uint8_t *data = bytes + (size_t)w.record_page * BLOCK_BYTES;
        k->last_time_ns = h->time_ns + w.record.delta_us * NS_PER_US;
        for (uint32_t i = 0; i < record_pages(&w.record); i++)
            if (version_crc(w.record.family, w.record.block + i, data + (size_t)i * BLOCK_BYTES,
                            BLOCK_BYTES) != w.crc[i])
                k->bad_blocks++;
    }
    k->damaged = err < 0;
}

static int add_frame(struct recovery *r, uint32_t slot, const uint8_t *bytes,
                     const struct frame_header *h) {
    struct link *k = link_add(&r->links, &r->link_count, &r->link_room);
    if (!k)
        return ERR_NOMEM;
    *k = link_of_frame(slot, h);
    r->slots[slot].frames_end = k->end;
    check_frame(bytes, h, k);
    recovery_learn_wall(r, &h->wall);
    seen(r, h->segment, h->epoch, k->last_sequence, h->catalogue);
    return 0;
}

/* A header at `at` of segment `segment` (0: of any), which lies in the buffer. */
static int frame_at(const struct recovery *r, uint32_t at, uint32_t segment,
                    struct frame_header *h) {
    return frame_header_decode(r->buffer + at, r->header.segment_bytes, h) == 0 &&
           is_ours(r, h->store_id) && h->offset == at && (segment == 0 || h->segment == segment);
}

static int scan_frames(struct log *l, struct recovery *r, uint32_t slot,
                       struct log_report *report) {
    uint32_t end = r->header.segment_bytes - BLOCK_BYTES, segment = r->slots[slot].segment;
    struct frame_header h;
    int file = recovery_open(l, r->slots[slot].file);
    if (file < 0)
        return file;
    int64_t n = read_at(l, file, r->buffer, r->header.segment_bytes, 0);
    l->env.files.ops->close(l->env.files.ctx, file);
    if (n != (int64_t)r->header.segment_bytes)
        return n < 0 ? (int)n : ERR_IO;
    report->segments_scanned++;
    for (uint32_t at = SEGMENT_FRAMES_OFFSET; at < end;) {
        if (!frame_at(r, at, segment, &h)) {
            at += BLOCK_BYTES;
            continue;
        }
        if (add_frame(r, slot, r->buffer + at, &h) < 0)
            return ERR_NOMEM;
        report->frames_scanned++;
        at += h.length_bytes;
    }
    return 0;
}

/* Slots. --------------------------------------------------------------------------------------- */

static int add_sealed(struct recovery *r, uint32_t slot, const struct segment_footer *f) {
    struct link *k = link_add(&r->links, &r->link_count, &r->link_room);
    if (!k)
        return ERR_NOMEM;
    *k = link_of_footer(slot, f);
    seen(r, f->segment, f->last_epoch, f->last_sequence, f->catalogue);
    return 0;
}

/* The slot's state in TABLE_SEGMENT is made at once, so that footers need not be kept. */
static int take_sealed(struct log *l, struct recovery *r, uint32_t slot,
                       const struct segment_footer *f) {
    struct scanned_slot *s = &r->slots[slot];
    s->content = SLOT_SEALED;
    s->segment = f->segment;
    s->h = segment_new_slot(l, SEGMENT_SEALED);
    if (!s->h.v)
        return ERR_NOMEM;
    struct segment *e = segment_edit(l->a, s->h);
    e->file = s->file;
    e->append_end = e->data_end = f->data_end;
    e->records = f->records;
    e->blocks = f->blocks;
    e->frames = f->frames;
    e->first_sequence = f->first_sequence;
    e->last_sequence = f->last_sequence;
    e->first_time_ns = f->first_time_ns;
    e->last_time_ns = f->last_time_ns;
    e->first_wall_ns = f->first_wall_ns;
    e->last_wall_ns = f->last_wall_ns;
    e->first_epoch = f->first_epoch;
    e->last_epoch = f->last_epoch;
    e->follows = f->follows;
    e->catalogue = f->catalogue;
    e->previous_segment = f->previous.segment;
    e->previous_offset = f->previous.offset;
    e->previous_crc = f->previous.crc;
    e->last_frame_offset = f->last_frame_offset;
    e->last_frame_crc = f->last_frame_crc;
    e->flags = SEGMENT_CLOSED | (f->flags & FOOTER_MORE_FAMILIES ? SEGMENT_MORE_FAMILIES : 0) |
               (f->flags & FOOTER_COLD ? SEGMENT_IS_COLD : 0);
    e->run_offset = f->run_offset;
    e->run_bytes = f->run_bytes;
    e->run_crc = f->run_crc;
    e->versions = f->versions;
    segment_set_number(l, s->h, f->segment);
    for (uint32_t i = 0; i < f->wall_count; i++)
        recovery_learn_wall(r, &f->wall[i]);
    log_start_commit(l, 0);
    if (f->flags & FOOTER_COLD) { /* no part of the chain */
        seen(r, f->segment, 0, f->last_sequence, f->catalogue);
        return 0;
    }
    return add_sealed(r, slot, f);
}

static int is_freed(const struct log *l, uint32_t segment) {
    return l->env.segment_freed && l->env.segment_freed(l->env.catalogue_ctx, segment);
}

/* Without a header that checks: a frame where the first one can be tells the segment's number. */
static uint32_t number_from_frames(struct log *l, struct recovery *r, int file) {
    struct frame_header h;
    uint64_t look = l->params.orphan_bytes + 2 * FRAME_BYTES_MAX;
    uint32_t bytes = (uint32_t)min_u64(look, r->header.segment_bytes);
    int64_t n = read_at(l, file, r->buffer, bytes, 0);
    for (uint32_t at = SEGMENT_FRAMES_OFFSET; n > 0 && at + BLOCK_BYTES <= n; at += BLOCK_BYTES)
        if (frame_at(r, at, 0, &h))
            return h.segment;
    return 0;
}

static void leave_alone(struct log *l, struct scanned_slot *s, const char *why) {
    s->content = SLOT_FOREIGN;
    log_alert(l, ALERT_ERROR, "slot_foreign", "slot file %u is left alone: %s", s->file, why);
}

static int classify_header(struct log *l, struct recovery *r, uint32_t slot, int file) {
    struct scanned_slot *s = &r->slots[slot];
    uint8_t block[BLOCK_BYTES];
    struct segment_header h;
    int64_t n = read_at(l, file, block, BLOCK_BYTES, 0);
    if (n < 0)
        return (int)n;
    int err = n == (int64_t)BLOCK_BYTES ? segment_header_decode(block, &h) : ERR_FORMAT;
    if (err == ERR_UNSUPPORTED)
        return err;
    if (err == 0 && (!is_ours(r, h.store_id) || h.file != s->file)) {
        leave_alone(l, s, "its header names another store or another slot");
        return 0;
    }
    s->segment = err == 0 ? h.segment : number_from_frames(l, r, file);
    s->content = s->segment == 0 ? SLOT_RAW : is_freed(l, s->segment) ? SLOT_FREED : SLOT_UNSEALED;
    if (err < 0 && s->segment != 0)
        log_alert(l, ALERT_ERROR, "segment_header_damaged",
                  "the header of slot file %u is damaged; its frames say it is segment %u", s->file,
                  s->segment);
    return 0;
}

static int classify(struct log *l, struct recovery *r, uint32_t slot, int file) {
    struct scanned_slot *s = &r->slots[slot];
    uint8_t block[BLOCK_BYTES];
    struct segment_footer f;
    int64_t n = read_at(l, file, block, BLOCK_BYTES, r->header.segment_bytes - BLOCK_BYTES);
    if (n < 0)
        return (int)n;
    int err =
        n == (int64_t)BLOCK_BYTES ? footer_decode(block, r->header.segment_bytes, &f) : ERR_FORMAT;
    if (err == ERR_UNSUPPORTED)
        return err;
    if (err < 0) {
        s->had_footer = !bytes_are_zero(block, sizeof block);
        return classify_header(l, r, slot, file);
    }
    if (!is_ours(r, f.store_id) || f.file != s->file) {
        leave_alone(l, s, "its footer names another store or another slot");
        return 0;
    }
    s->segment = f.segment;
    if (!is_freed(l, f.segment))
        return take_sealed(l, r, slot, &f);
    s->content = SLOT_FREED;
    return 0;
}

struct names {
    struct log *l;
    struct recovery *r;
    uint32_t room;
    int err;
};

static void each_name(void *arg, const char *name) {
    struct names *n = arg;
    struct recovery *r = n->r;
    uint32_t file;
    if (!slot_of_name(name, &file))
        return;
    if (file >= n->l->segment_capacity) {
        n->err = ERR_TOOBIG;
        return;
    }
    if (r->slot_count < n->room)
        r->slots[r->slot_count++] = (struct scanned_slot){.file = file};
}

int recovery_scan(struct log *l, struct recovery *r, struct log_report *report) {
    const struct file_system *fs = &l->env.files;
    struct names names = {l, r, l->segment_capacity, 0};
    r->slots = calloc(l->segment_capacity + 1, sizeof *r->slots);
    r->buffer = malloc(r->header.segment_bytes);
    if (!r->slots || !r->buffer)
        return ERR_NOMEM;
    int err = fs->ops->list(fs->ctx, LOG_DIR, each_name, &names);
    if (err < 0 || names.err < 0)
        return err < 0 ? err : names.err;
    recovery_sort_slots(r);
    for (uint32_t i = 0; i < r->slot_count; i++) {
        l->file_used[r->slots[i].file] = 1;
        int file = recovery_open(l, r->slots[i].file);
        if (file < 0)
            return file;
        err = classify(l, r, i, file);
        fs->ops->close(fs->ctx, file);
        if (err == 0 && r->slots[i].content == SLOT_UNSEALED)
            err = scan_frames(l, r, i, report);
        if (err < 0)
            return err;
        if (r->slots[i].content == SLOT_SEALED)
            report->segments_sealed++;
        if (r->slots[i].segment > r->highest_segment)
            r->highest_segment = r->slots[i].segment;
    }
    recovery_sort_links(r);
    return 0;
}
