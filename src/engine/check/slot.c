/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One slot file. The frames of a sealed segment are found from its end: the footer names the last, and
 * each names the one before. Where a name leads to nothing that checks, that frame is damaged, and the
 * nearest one before it that checks goes on. Frames that no other names do not count.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/check/check_priv.h"

void check_tell(struct check *c, struct check_finding f) {
    c->findings[f.grade]++;
    if (c->found)
        c->found(c->ctx, &f);
}

static void tell_slot(struct check *c, const struct check_slot_state *s, enum check_code code,
                      enum check_grade grade, uint64_t offset, uint64_t bytes) {
    const struct segment_footer *f = &s->footer;
    check_tell(c, (struct check_finding){
                      .code = code,
                      .grade = grade,
                      .file = s->path,
                      .offset = offset,
                      .bytes = bytes,
                      .segment = s->segment,
                      .first_sequence = f->first_sequence,
                      .last_sequence = f->last_sequence,
                      .families = f->families,
                      .family_count = f->flags & FOOTER_MORE_FAMILIES ? 0 : f->family_count});
}

/* ---- Frames ---- */

int check_list_frames(struct check *c, struct check_slot_state *s, uint32_t end) {
    struct frame_header h;
    for (uint32_t at = SEGMENT_FRAMES_OFFSET; at + BLOCK_BYTES <= end;) {
        if (frame_header_decode(c->buffer + at, c->segment_bytes, &h) < 0 ||
            memcmp(h.store_id, c->store_id, STORE_ID_BYTES) != 0 || h.offset != at ||
            (s->segment != 0 && h.segment != s->segment)) {
            at += BLOCK_BYTES;
            continue;
        }
        struct link *k = link_add(&s->frames, &s->frame_count, &s->frame_room);
        if (!k)
            return ERR_NOMEM;
        *k = link_of_frame(0, &h);
        c->catalogue = max_u64(c->catalogue, h.catalogue);
        at += h.length_bytes;
    }
    return 0;
}

static const uint8_t *page_of_buffer(void *ctx, uint32_t page) {
    return (const uint8_t *)ctx + (size_t)page * BLOCK_BYTES;
}

static void tell_block(struct check *c, const struct check_slot_state *s, uint64_t offset,
                       const struct check_page *p) {
    check_tell(c, (struct check_finding){.code = CHECK_BLOCK,
                                         .grade = CHECK_DAMAGE,
                                         .file = s->path,
                                         .offset = offset,
                                         .bytes = BLOCK_BYTES,
                                         .segment = s->segment,
                                         .first_sequence = p->sequence,
                                         .family = p->family,
                                         .block = p->block});
}

void check_frame(struct check *c, const struct check_slot_state *s, struct link *k,
                 uint64_t keep_to, int tells) {
    struct frame_header h;
    struct frame_walk w;
    int err = frame_header_decode(c->buffer + k->offset, c->segment_bytes, &h);
    must(err == 0); /* it was listed */
    frame_walk_begin(&w, &h, page_of_buffer, c->buffer + k->offset);
    k->bad_blocks = 0;
    while ((err = frame_walk_next(&w)) > 0) {
        uint32_t at = k->offset / BLOCK_BYTES + w.record_page;
        for (uint32_t i = 0; i < record_pages(&w.record); i++) {
            struct check_page *p = &c->pages[at + i];
            *p = (struct check_page){.block = w.record.block + i,
                                     .sequence = w.record_sequence,
                                     .family = w.record.family,
                                     .timeline = w.record.timeline,
                                     .crc = w.crc[i],
                                     .is_data = w.record_sequence <= keep_to};
            const uint8_t *data = c->buffer + (size_t)(at + i) * BLOCK_BYTES;
            p->is_bad = version_crc(p->family, p->block, data, BLOCK_BYTES) != p->crc;
            k->bad_blocks += p->is_bad;
            c->blocks++;
            if (p->is_bad && tells)
                tell_block(c, s, (uint64_t)(at + i) * BLOCK_BYTES, p);
        }
        k->last_time_ns = h.time_ns + w.record.delta_us * NS_PER_US;
    }
    k->damaged = err < 0;
    c->frames++;
    if (k->damaged && tells)
        check_tell(c, (struct check_finding){.code = CHECK_FRAME,
                                             .grade = CHECK_DAMAGE,
                                             .file = s->path,
                                             .offset = k->offset,
                                             .bytes = k->end - k->offset,
                                             .segment = s->segment,
                                             .first_sequence = k->first_sequence,
                                             .last_sequence = k->last_sequence});
}

/* ---- The chain of a sealed segment ---- */

static struct link *frame_named(const struct check_slot_state *s, struct frame_name name) {
    for (uint32_t i = s->frame_count; i-- > 0;)
        if (frame_name_same(s->frames[i].name, name))
            return &s->frames[i];
    return NULL;
}

static struct link *frame_before(const struct check_slot_state *s, uint32_t offset) {
    for (uint32_t i = s->frame_count; i-- > 0;)
        if (s->frames[i].offset < offset)
            return &s->frames[i];
    return NULL;
}

static void tell_missing(struct check *c, const struct check_slot_state *s, uint32_t offset,
                         uint64_t first_sequence, uint64_t last_sequence) {
    check_tell(c, (struct check_finding){.code = CHECK_FRAME,
                                         .grade = CHECK_DAMAGE,
                                         .file = s->path,
                                         .offset = offset,
                                         .bytes = BLOCK_BYTES,
                                         .segment = s->segment,
                                         .first_sequence = first_sequence,
                                         .last_sequence = last_sequence});
}

static void check_frames(struct check *c, struct check_slot_state *s) {
    const struct segment_footer *f = &s->footer;
    struct frame_name want = {s->segment, f->last_frame_offset, f->last_frame_crc};
    uint64_t keep_to = f->last_sequence, first = 0;
    uint32_t count = 0, damaged = 0;
    while (want.segment == s->segment) {
        struct link *k = frame_named(s, want);
        if (!k) {
            struct link *before = frame_before(s, want.offset);
            tell_missing(c, s, want.offset, before ? before->last_sequence + 1 : f->first_sequence,
                         keep_to);
            damaged++;
            k = before;
            if (!k)
                break;
        }
        uint64_t limit = keep_to < k->last_sequence ? keep_to : k->last_sequence;
        check_frame(c, s, k, limit, 1);
        damaged += k->damaged;
        count++;
        first = k->first_sequence;
        keep_to = k->follows < keep_to ? k->follows : keep_to;
        if (k->previous.segment == s->segment && k->previous.offset >= k->offset) {
            damaged++; /* it names what comes behind it */
            tell_slot(c, s, CHECK_FOOTER_DISAGREES, CHECK_DAMAGE, k->offset, BLOCK_BYTES);
            break;
        }
        want = k->previous;
    }
    if (!damaged &&
        (!frame_name_same(want, f->previous) || first != f->first_sequence || count > f->frames))
        tell_slot(c, s, CHECK_FOOTER_DISAGREES, CHECK_DAMAGE, c->segment_bytes - BLOCK_BYTES,
                  BLOCK_BYTES);
}

static void check_header(struct check *c, const struct check_slot_state *s) {
    struct segment_header h;
    int good = segment_header_decode(c->buffer, &h) == 0 &&
               memcmp(h.store_id, c->store_id, STORE_ID_BYTES) == 0 && h.segment == s->segment &&
               h.file == s->file && h.segment_bytes == c->segment_bytes;
    if (!good)
        tell_slot(c, s, CHECK_SEGMENT_HEADER, CHECK_MENDED, 0, BLOCK_BYTES);
}

int check_sealed_segment(struct check *c, struct check_slot_state *s, struct check_sealed *out) {
    const struct segment_footer *f = &s->footer;
    int err = 0;
    c->segments++;
    c->catalogue = max_u64(c->catalogue, f->catalogue);
    *out = (struct check_sealed){.segment = s->segment,
                                 .first_sequence = f->first_sequence,
                                 .last_sequence = f->last_sequence};
    memset(c->pages, 0, c->segment_bytes / BLOCK_BYTES * sizeof *c->pages);
    check_header(c, s);
    if (!(f->flags & FOOTER_COLD)) {
        err = check_list_frames(c, s, f->data_end);
        if (err == 0)
            check_frames(c, s);
    }
    return err < 0 ? err : check_segment_run(c, s, out);
}

/* ---- One slot alone ---- */

int check_begin(struct check *c, const struct store_header *h) {
    memcpy(c->store_id, h->id, STORE_ID_BYTES);
    c->segment_bytes = h->segment_bytes;
    c->buffer = malloc(h->segment_bytes);
    c->pages = calloc(h->segment_bytes / BLOCK_BYTES, sizeof *c->pages);
    return c->buffer && c->pages ? 0 : ERR_NOMEM;
}

void check_end(struct check *c) {
    free(c->buffer);
    free(c->pages);
    free(c->sealed);
    free(c->chain.slots);
    free(c->chain.links);
    c->buffer = NULL;
    c->pages = NULL;
    c->sealed = NULL;
    c->chain = (struct recovery){0};
}

int check_read_slot(struct check *c, struct check_slot_state *s) {
    log_slot_path(s->file, s->path);
    int file = c->files.ops->open(c->files.ctx, s->path, FILE_READ);
    int64_t n = file < 0 ? file : c->files.ops->size(c->files.ctx, file);
    int right = n == (int64_t)c->segment_bytes;
    if (right && c->flags & CHECK_ALONE)
        c->files.ops->forget(c->files.ctx, file);
    if (right)
        n = c->files.ops->read(c->files.ctx, file, c->buffer, c->segment_bytes, 0);
    if (right && c->flags & CHECK_ALONE)
        c->files.ops->forget(c->files.ctx, file);
    if (file >= 0)
        c->files.ops->close(c->files.ctx, file);
    if (right && n == (int64_t)c->segment_bytes) {
        c->bytes += c->segment_bytes;
        return 0;
    }
    tell_slot(c, s, n < 0 || right ? CHECK_FILE_READ : CHECK_FILE_SIZE, CHECK_DAMAGE, 0,
              n > 0 ? (uint64_t)n : 0);
    return ERR_IO;
}

int check_slot(struct check *c, uint32_t file, uint32_t segment) {
    struct check_slot_state *s = calloc(1, sizeof *s);
    struct check_sealed sealed;
    int err = 0;
    if (!s)
        return ERR_NOMEM;
    s->file = file;
    s->segment = segment;
    if (check_read_slot(c, s) == 0) {
        const uint8_t *block = c->buffer + c->segment_bytes - BLOCK_BYTES;
        int bad = footer_decode(block, c->segment_bytes, &s->footer) < 0;
        if (bad)
            tell_slot(c, s, CHECK_FOOTER, CHECK_MENDED, c->segment_bytes - BLOCK_BYTES,
                      BLOCK_BYTES);
        else if (memcmp(s->footer.store_id, c->store_id, STORE_ID_BYTES) != 0 ||
                 s->footer.file != file || s->footer.segment != segment)
            tell_slot(c, s, CHECK_FILE_FOREIGN, CHECK_DAMAGE, 0, c->segment_bytes);
        else
            err = check_sealed_segment(c, s, &sealed);
    }
    free(s->frames);
    free(s);
    return err;
}
