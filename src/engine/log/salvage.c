/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a dead engine had answered and not yet made durable lies in its arena: frames and their
 * buffers. A cold start reads them even if it can read nothing else there (frame.h is frozen), and
 * writes them to the log before anything is served.
 *
 *  1. Nothing in a dead arena is believed: every number is checked against a bound, every record and
 *     every block against its checksum.
 *  2. Only frames that continue the log without a gap are taken; behind the first that does not check,
 *     the rest is lost, and told. The first may replace the log's last one: it stands there too, shorter,
 *     if the dead engine did not know whether it had been written, and gave it another place, where it grew.
 *     And it may follow the log's last whole request: what stands behind that is half of one that was cut
 *     off earlier, and the store header that said so may be gone.
 *  3. They keep their sequence numbers and records, and get a place, an epoch and a chain like any
 *     frame. Done twice, the second time finds them in the log.
 *  4. Their epoch ends with them: the store header says so, and with which record, for the last of
 *     them may be half of a request.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

struct dead_arena {
    const unsigned char *base;
    uint64_t size_bytes;
    const unsigned char *frames;
    uint32_t frame_count;
    const unsigned char *pages;
    uint32_t page_count;
};

static int part_is_inside(const struct arena_part *p, uint64_t size_bytes) {
    return p->offset <= size_bytes && p->size_bytes <= size_bytes - p->offset;
}

static int open_dead(struct dead_arena *d, const void *base, uint64_t size_bytes) {
    const struct arena_live *live = (const void *)((const unsigned char *)base + ARENA_LIVE_OFFSET);
    *d = (struct dead_arena){.base = base, .size_bytes = size_bytes};
    if (size_bytes < ARENA_HEADER_BYTES)
        return ERR_FORMAT;
    const struct arena_identity *id = arena_identity_of(base);
    if (id->magic != ARENA_MAGIC || id->prefix_version != ARENA_PREFIX_VERSION ||
        id->identity_crc != arena_identity_crc(id) || id->part_count > ARENA_PARTS_MAX ||
        atomic_load(&live->undo_used) != 0)
        return ERR_FORMAT;
    for (uint32_t i = 0; i < id->part_count; i++) {
        const struct arena_part *p = &id->parts[i];
        if (!part_is_inside(p, size_bytes))
            return ERR_FORMAT;
        if (p->kind == ARENA_PART_REGION && p->number == REGION_BUFFERS) {
            d->pages = d->base + p->offset;
            d->page_count = (uint32_t)min_u64(p->size_bytes / BLOCK_BYTES, UINT32_MAX);
        } else if (p->kind == ARENA_PART_TABLE && p->number == TABLE_FRAME) {
            if (p->version != frame_spec.version || p->slot_bytes != sizeof(struct frame))
                return ERR_FORMAT;
            d->frames = d->base + p->offset;
            d->frame_count =
                (uint32_t)min_u64(min_u64(p->size_bytes / sizeof(struct frame), LOG_FRAMES_MAX),
                                  atomic_load(&live->high_water[i]));
        }
    }
    return d->frames && d->pages ? 0 : ERR_FORMAT;
}

static const struct frame *frame_of(const struct dead_arena *d, uint32_t i) {
    return (const struct frame *)(const void *)(d->frames + (size_t)i * sizeof(struct frame));
}

/* Copies the frame's pages one behind the other, and the slot so that it names them there. */
static int copy_frame(const struct dead_arena *d, const struct frame *f, struct frame *copy,
                      uint8_t *pages) {
    uint32_t at = 0, block_page = UINT32_MAX;
    if (f->pages == 0 || f->pages > FRAME_PAGES_MAX || f->extents == 0 ||
        f->extents > FRAME_EXTENTS_MAX || f->records == 0 || f->first_sequence == 0 ||
        f->follows >= f->first_sequence || f->first_sequence > UINT64_MAX - f->records)
        return ERR_INTEGRITY;
    *copy = *f;
    for (uint32_t i = 0; i < f->extents; i++) {
        uint32_t n = frame_extent_pages(f->extent[i]), first = f->extent[i].first;
        if (n == 0 || n > f->pages - at || first > d->page_count || n > d->page_count - first)
            return ERR_INTEGRITY;
        memcpy(pages + (size_t)at * BLOCK_BYTES, d->pages + (size_t)first * BLOCK_BYTES,
               (size_t)n * BLOCK_BYTES);
        if (f->block_page == first && (i == 0 || f->extent[i].pages & FRAME_RECORD_BLOCK))
            block_page = at;
        copy->extent[i].first = at;
        at += n;
    }
    if (at != f->pages || block_page == UINT32_MAX)
        return ERR_INTEGRITY;
    copy->block_page = block_page;
    uint32_t head = block_page == 0 ? FRAME_RECORDS_OFFSET : FRAME_BLOCK_RECORDS_OFFSET;
    return f->block_end > head && f->block_end <= BLOCK_BYTES ? 0 : ERR_INTEGRITY;
}

static const uint8_t *copied_page(void *ctx, uint32_t page) {
    return (const uint8_t *)ctx + (size_t)page * BLOCK_BYTES;
}

/* Every record and block of a copied frame. */
static int check_copy(const struct frame *f, uint8_t *pages, struct salvaged *s) {
    struct frame_walk w;
    uint32_t records_crc = 0;
    int err;
    if (frame_finish_blocks(f, pages, &s->h) < 0)
        return ERR_INTEGRITY;
    frame_walk_begin(&w, &s->h, copied_page, pages);
    while ((err = frame_walk_next(&w)) > 0) {
        uint32_t bytes = record_bytes(&w.record);
        records_crc = crc32c(records_crc, w.block + w.at - bytes, bytes);
        const uint8_t *data = pages + (size_t)w.record_page * BLOCK_BYTES;
        s->last_time_ns = s->h.time_ns + w.record.delta_us * NS_PER_US;
        for (uint32_t i = 0; i < record_pages(&w.record); i++)
            if (version_crc(w.record.family, w.record.block + i, data + (size_t)i * BLOCK_BYTES,
                            BLOCK_BYTES) != w.crc[i])
                return ERR_INTEGRITY;
        if (!(w.record.flags & RECORD_MORE))
            s->whole = w.record_sequence;
    }
    return err == 0 && records_crc == f->records_crc ? 0 : ERR_INTEGRITY;
}

static struct salvaged *take_frame(const struct dead_arena *d, const struct frame *f) {
    struct salvaged *s = calloc(1, sizeof *s);
    struct frame *copy = malloc(sizeof *copy);
    must(s != NULL && copy != NULL);
    s->pages = malloc(FRAME_BYTES_MAX);
    must(s->pages != NULL);
    int err = copy_frame(d, f, copy, s->pages);
    if (err == 0)
        err = check_copy(copy, s->pages, s);
    free(copy);
    if (err == 0)
        return s;
    free(s->pages);
    free(s);
    return NULL;
}

static int by_sequence(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Whether the log's last frame is an earlier copy of this one; then it does not count any more. */
static int drop_copy(struct recovery *r, const struct frame *f) {
    struct link *k = &r->links[r->tail];
    int tail = r->tail;
    if (k->sealed || k->first_sequence != f->first_sequence || k->follows != f->follows)
        return 0;
    while (--tail >= 0 && r->links[tail].fate != LINK_COUNTS)
        ;
    int was = r->tail;
    r->tail = tail;
    if (recovery_newest(r) != f->follows) {
        r->tail = was;
        return 0;
    }
    k->fate = LINK_VOID;
    r->slots[k->slot].links--;
    return 1;
}

static int continues(struct recovery *r, const struct frame *f, uint64_t last) {
    if (f->follows == last)
        return 1;
    if (f->follows > last || r->salvaged)
        return 0;
    if (drop_copy(r, f))
        return 1;
    if (f->follows < r->whole)
        return 0;
    recovery_cut_above(r, f->follows);
    return recovery_newest(r) == f->follows;
}

static void free_salvaged(struct salvaged *s) {
    if (s)
        free(s->pages);
    free(s);
}

int log_salvage(struct log *l, const void *dead_arena, uint64_t size_bytes,
                struct log_report *report) {
    struct recovery *r = l->recovery;
    struct dead_arena d;
    uint64_t order[LOG_FRAMES_MAX][2];
    uint32_t n = 0;
    must(r != NULL);
    int err = open_dead(&d, dead_arena, size_bytes);
    if (err < 0) {
        log_alert(l, ALERT_CRITICAL, "answered_writes_lost",
                  "the dead engine's memory cannot be read; writes that were answered and not yet "
                  "logged are lost");
        return err;
    }
    for (uint32_t i = 0; i < d.frame_count; i++) {
        const struct frame *f = frame_of(&d, i);
        if (f->slot.state == SLOT_FREE || f->slot.state > FRAME_WRITING ||
            memcmp(f->store_id, r->header.id, STORE_ID_BYTES) != 0)
            continue;
        order[n][0] = f->first_sequence;
        order[n++][1] = i;
    }
    qsort(order, n, sizeof order[0], by_sequence);
    uint64_t last = recovery_newest(r);
    int lost = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct frame *f = frame_of(&d, (uint32_t)order[i][1]);
        if (f->records > 0 && frame_last(f) <= last)
            continue;
        struct salvaged *s = lost ? NULL : take_frame(&d, f);
        if (!s || !continues(r, f, last)) {
            free_salvaged(s);
            lost = 1;
            report->salvage_damaged++;
            continue;
        }
        *r->salvaged_end = s;
        r->salvaged_end = &s->next;
        last = frame_last_sequence(&s->h);
        recovery_learn_wall(r, &s->h.wall);
        r->highest_number = max_u64(r->highest_number, last);
        if (s->whole != 0)
            r->salvaged_whole = s->whole;
    }
    if (lost)
        log_alert(l, ALERT_CRITICAL, "answered_writes_lost",
                  "%u frames of answered writes in the dead engine's memory do not check; they are "
                  "lost",
                  report->salvage_damaged);
    return 0;
}

/* Writing. ------------------------------------------------------------------------------------- */

/* A step towards the next segment that goes on. */
static int take_next(struct log *l) {
    struct segment_h next;
    int err = segment_take(l, SEGMENT_FOR_MOVES, &next);
    if (err == 0)
        root_edit(l)->log_append_segment = next.v;
    if (err != ERR_AGAIN)
        return err;
    if (segment_reserved(l).v) { /* it is the index that has no room */
        err = seal_one_now(l);
        return err == ERR_AGAIN ? ERR_NOMEM : err;
    }
    segments_work(l);
    log_start_commit(l, 1);
    return 0;
}

/* Room for the frame, in the segment that goes on or the next prepared one. */
static int place_frame(struct log *l, struct frame_header *h) {
    for (int tries = 0; tries < 64; tries++) {
        struct segment_h sh = {root_view(l)->log_append_segment};
        if (sh.v) {
            struct segment *s = segment_edit(l->a, sh);
            if (log_fits(l, s->append_end, h->length_bytes, s->records + h->records,
                         s->blocks + h->data_pages)) {
                h->segment = s->number;
                h->offset = s->append_end;
                s->append_end += h->length_bytes;
                s->records += h->records;
                s->blocks += h->data_pages;
                return 0;
            }
            s->flags |= SEGMENT_CLOSED;
            root_edit(l)->log_append_segment = 0;
        }
        int err = take_next(l);
        if (err < 0)
            return err;
    }
    return ERR_NOSPC;
}

static int write_frame(struct log *l, struct salvaged *s) {
    const struct file_system *fs = &l->env.files;
    struct engine *root = root_edit(l);
    struct frame_header *h = &s->h;
    char path[LOG_PATH_BYTES];
    h->epoch = root->log_epoch;
    h->previous =
        (struct frame_name){root->log_end_segment, root->log_end_offset, root->log_end_crc};
    h->durable = root->log_end_sequence;
    h->wall_ns = l->wall_ns;
    h->catalogue = root->log_catalogue;
    h->crc = frame_header_encode(h, s->pages);
    log_slot_path(segment_view(l->a, log_segment(l, h->segment))->file, path);
    int file = fs->ops->open(fs->ctx, path, FILE_WRITE);
    if (file < 0)
        return file;
    int64_t n = fs->ops->write(fs->ctx, file, s->pages, h->length_bytes, h->offset);
    int err = n == (int64_t)h->length_bytes ? fs->ops->sync(fs->ctx, file)
              : n < 0                       ? (int)n
                                            : ERR_IO;
    fs->ops->close(fs->ctx, file);
    return err;
}

static int tell_index(struct log *l, const struct salvaged *s, uint64_t keep_to) {
    struct segment_h sh = log_segment(l, s->h.segment);
    uint64_t last_time_ns = s->h.time_ns;
    struct frame_walk w;
    frame_walk_begin(&w, &s->h, copied_page, s->pages);
    while (frame_walk_next(&w) > 0 && w.record_sequence <= keep_to) {
        struct version v = log_version_of(&w, s->h.segment, s->h.offset, s->h.time_ns);
        int err = l->env.index->append(l->env.index_ctx, sh, &v);
        if (err < 0)
            return err;
        last_time_ns = v.time_ns;
        segment_note_family(l, sh, v.family);
        log_start_commit(l, 0);
    }
    segment_note_frame(l, sh, &s->h, min_u64(keep_to, frame_last_sequence(&s->h)), last_time_ns);
    return 0;
}

int salvaged_write(struct log *l, struct recovery *r, struct log_report *report) {
    uint64_t keep_to = r->salvaged_whole;
    for (struct salvaged *s = r->salvaged; s && s->h.first_sequence <= keep_to; s = s->next) {
        int err = place_frame(l, &s->h);
        if (err == 0)
            err = write_frame(l, s);
        if (err == 0)
            err = tell_index(l, s, keep_to);
        if (err < 0)
            return err;
        struct engine *root = root_edit(l);
        root->log_end_segment = s->h.segment;
        root->log_end_offset = s->h.offset;
        root->log_end_crc = s->h.crc;
        root->log_end_bytes = s->h.offset + s->h.length_bytes;
        root->log_end_sequence = min_u64(frame_last_sequence(&s->h), keep_to);
        root->log_follows = root->log_end_sequence;
        if (s->whole != 0)
            root->log_whole = s->whole;
        root->time_store_ns = max_u64(root->time_store_ns, s->h.time_ns);
        report->salvaged_frames++;
        report->salvaged_records += root->log_end_sequence - s->h.first_sequence + 1;
        log_start_commit(l, 1);
    }
    if (report->salvaged_frames == 0)
        return 0;
    struct engine *root = root_edit(l);
    log_epoch_ends_here(root, root->log_epoch++);
    return log_write_headers(l);
}
