/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cold start. log_recover reads: the store header, the slot files, which frames count, and where
 * the last whole request ends. log_begin acts, in this order:
 *
 *   1. the root slot, with a new epoch and numbers well beyond any that was given
 *   2. the store header, durable: the former epochs ended here
 *   3. TABLE_SEGMENT: what is sealed, what is read into memory again, what is room; what is not sealed is
 *      made durable, for the dead process may not have come to that
 *   4. versions and runs to the index, in the order of segments; if it has no memory for one more, the
 *      oldest of them is sealed
 *   5. salvaged frames to the log (salvage.c)
 *
 * It may be interrupted anywhere and be done again. The log goes on in the last segment, behind
 * whatever a dead process may still write there, unless the store was stopped: that is orphan_bytes
 * from where that process began, which was not at the end if it had started cold itself. So each start
 * leaves out as much as the one before (the store header tells) and orphan_bytes more, until that is
 * half a segment; then the log goes on in other segments, and what a start leaves out begins anew.
 * The same room is left out at the beginning of segments that were prepared. And the log goes on
 * behind every frame found there, though it be torn or void: the next scan takes its header's word
 * for where it ends, and would not find what begins before that. For the same reason a segment that
 * was prepared, and has none but such frames, gets another number.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

void log_start_commit(struct log *l, int always) {
    if (!always && arena_undo_left(l->a) >= ARENA_HANDLER_UNDO_BYTES)
        return;
    arena_commit(l->a);
    buffer_commit(l->buffers);
}

void recovery_close(struct log *l) {
    struct recovery *r = l->recovery;
    if (!r)
        return;
    while (r->salvaged) {
        struct salvaged *s = r->salvaged;
        r->salvaged = s->next;
        free(s->pages);
        free(s);
    }
    free(r->slots);
    free(r->links);
    free(r->buffer);
    free(r);
    l->recovery = NULL;
}

/* Reading. ------------------------------------------------------------------------------------- */

static int read_header(struct log *l, struct store_header *h) {
    const struct file_system *fs = &l->env.files;
    uint8_t blocks[STORE_COPIES * BLOCK_BYTES];
    int file = fs->ops->open(fs->ctx, STORE_FILE, FILE_READ);
    if (file < 0)
        return file;
    int64_t n = fs->ops->read(fs->ctx, file, blocks, sizeof blocks, 0);
    fs->ops->close(fs->ctx, file);
    if (n < 0)
        return (int)n;
    if (n < (int64_t)sizeof blocks)
        memset(blocks + n, 0, sizeof blocks - (size_t)n);
    return store_decode_copies(blocks, h);
}

/* Walks a frame on disk again, header first; 0 or an error. */
static int open_frame(struct disk_frame *d, const struct recovery *r, const struct link *k,
                      struct frame_header *h, struct frame_walk *w) {
    d->offset = k->offset;
    const uint8_t *page = disk_frame_page(d, 0);
    if (!page)
        return d->err;
    int err = frame_header_decode(page, r->header.segment_bytes, h);
    if (err < 0)
        return err;
    if (h->crc != k->name.crc)
        return ERR_INTEGRITY;
    frame_walk_begin(w, h, disk_frame_page, d);
    return 0;
}

/* The last record, of those that count, that ends a request. */
static int find_whole(struct log *l, struct recovery *r) {
    struct frame_header h;
    struct frame_walk w;
    r->whole = 0;
    for (int i = r->tail; i >= 0 && r->whole == 0; i--) {
        const struct link *k = &r->links[i];
        if (k->fate != LINK_COUNTS)
            continue;
        if (k->sealed) {
            r->whole = k->last_sequence;
            break;
        }
        struct disk_frame d = {.files = &l->env.files,
                               .file = recovery_open(l, r->slots[k->slot].file)};
        if (d.file < 0)
            return d.file;
        int err = open_frame(&d, r, k, &h, &w);
        while (err == 0 && frame_walk_next(&w) > 0)
            if (w.record_sequence <= k->keep_to && !(w.record.flags & RECORD_MORE))
                r->whole = w.record_sequence;
        l->env.files.ops->close(l->env.files.ctx, d.file);
        if (err < 0 || d.err < 0)
            return err < 0 ? err : d.err;
    }
    return 0;
}

static void tell(struct log *l, const struct recovery *r, const struct log_report *report) {
    if (r->highest_epoch > r->header.epoch)
        log_alert(l, ALERT_ERROR, "store_header_old",
                  "the store header is older than the log: epoch %llu, but frames of epoch %llu",
                  (unsigned long long)r->header.epoch, (unsigned long long)r->highest_epoch);
    if (report->frames_damaged > 0 || report->records_lost > 0 || report->segments_missing > 0)
        log_alert(l, ALERT_CRITICAL, "log_damaged",
                  "%u durable frames of the log are damaged, %u segments are missing, %llu records "
                  "are lost; the rest is kept",
                  report->frames_damaged, report->segments_missing,
                  (unsigned long long)report->records_lost);
    if (report->blocks_damaged > 0)
        log_alert(l, ALERT_CRITICAL, "blocks_damaged",
                  "%u blocks in the log do not match their checksums; reading them fails",
                  report->blocks_damaged);
}

/* Of the last frames perhaps no record counts. */
uint64_t recovery_newest(const struct recovery *r) {
    for (int i = r->tail; i >= 0; i--) {
        const struct link *k = &r->links[i];
        if (k->fate == LINK_COUNTS && k->keep_to >= k->first_sequence)
            return k->keep_to;
    }
    return 0;
}

/* Nothing that is left says so if the last frames are gone; a header written when all was durable does. */
static void note_lost_end(const struct log *l, const struct recovery *r,
                          struct log_report *report) {
    const struct log_end *end = &r->header.ended;
    uint64_t newest = r->tail < 0 ? 0 : r->links[r->tail].last_sequence;
    if (r->header.state != STORE_STOPPED || end->segment == 0 ||
        (l->env.segment_freed && l->env.segment_freed(l->env.catalogue_ctx, end->segment)))
        return;
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].content == SLOT_SEALED)
            newest = max_u64(newest, segment_view(l->a, r->slots[i].h)->last_sequence);
    if (end->sequence <= newest)
        return;
    report->records_lost += end->sequence - newest;
    report->lost_before = max_u64(report->lost_before, end->sequence);
}

int log_recover(struct log *l, struct log_report *report) {
    struct recovery *r = calloc(1, sizeof *r);
    memset(report, 0, sizeof *report);
    if (!r)
        return ERR_NOMEM;
    l->recovery = r;
    r->salvaged_end = &r->salvaged;
    int err = read_header(l, &r->header);
    if (err < 0)
        return err;
    if (r->header.segment_bytes < 4 * LOG_FRAME_BYTES)
        return ERR_UNSUPPORTED;
    r->highest_epoch = r->header.epoch;
    r->highest_number = r->header.numbers_above;
    r->catalogue = r->header.catalogue;
    err = recovery_scan(l, r, report);
    if (err < 0)
        return err;
    recovery_chain(r, &l->env, report);
    note_lost_end(l, r, report);
    err = find_whole(l, r);
    if (err < 0)
        return err;
    report->epoch = r->highest_epoch + 1;
    report->stopped = r->header.state == STORE_STOPPED;
    report->last_sequence = r->whole;
    report->catalogue = r->catalogue;
    report->records_cut = (uint32_t)(recovery_newest(r) - min_u64(recovery_newest(r), r->whole));
    tell(l, r, report);
    return 0;
}

/* Beginning. ----------------------------------------------------------------------------------- */

static int is_stopped(const struct recovery *r) {
    return r->header.state == STORE_STOPPED;
}

static int leaves_all_out(const struct recovery *r) {
    return r->left_out > r->header.segment_bytes / 2;
}

/* The alerts are gone: a scrub that has found something begins anew. */
static void take_scrub(struct engine *root, const struct store_scrub *s) {
    if (s->damaged > 0 || s->mended > 0)
        return;
    root->scrub_began_ns = s->began_ns;
    root->scrub_ended_ns = s->ended_ns;
    root->scrub_bytes = s->bytes;
    root->scrub_segment = s->segment;
    root->scrub_files = s->files;
}

static int make_root(struct log *l, struct recovery *r) {
    const struct store_header *h = &r->header;
    const struct link *tail = r->tail < 0 ? NULL : &r->links[r->tail];
    r->left_out = is_stopped(r) ? 0 : r->header.left_out + l->params.orphan_bytes;
    uint64_t known_ns = tail ? tail->last_time_ns : 0;
    for (const struct salvaged *s = r->salvaged; s; s = s->next)
        known_ns = max_u64(known_ns, s->last_time_ns);
    uint64_t least_ns = max_u64(h->store_time_ns, known_ns);
    l->root = engine_new(l->a, ENGINE_IN_USE);
    l->wall = wall_new(l->a, 1);
    if (!l->root.v || !l->wall.v)
        return ERR_NOMEM;
    struct engine *root = root_edit(l);
    memcpy(root->store_id, h->id, STORE_ID_BYTES);
    root->log_created_ns = h->created_ns;
    root->log_segment_bytes = h->segment_bytes;
    root->log_segment_records = h->segment_records;
    root->log_features_ignore = h->features_ignore;
    root->log_epoch = r->highest_epoch + 1;
    root->log_store_counter = h->counter + LOG_HEADERS_GAP;
    root->log_epoch_state = LOG_EPOCH_DURABLE;
    root->log_next_segment = r->highest_segment + 1 + LOG_SEGMENT_GAP;
    if (tail) {
        root->log_end_segment = tail->name.segment;
        root->log_end_offset = tail->name.offset;
        root->log_end_crc = tail->name.crc;
        root->log_end_bytes = tail->end;
    }
    root->log_whole = r->whole;
    root->log_end_sequence = root->log_follows =
        r->salvaged_whole > 0 ? recovery_newest(r) : r->whole;
    root->log_numbers_above = r->highest_number + LOG_NUMBERS_GAP;
    root->log_recorded = root->log_durable = root->log_numbers_above;
    root->log_catalogue = r->catalogue;
    log_epoch_ends_here(root, r->highest_epoch);
    take_scrub(root, &h->scrub);
    root->log_left_out = (uint32_t)(leaves_all_out(r) ? l->params.orphan_bytes : r->left_out);
    struct wall *wall = wall_edit(l->a, l->wall);
    memcpy(wall->span, r->wall, sizeof wall->span);
    wall->count = r->wall_count;
    /* No record of the log has the store time at which this one begins. */
    log_clock_start(l, known_ns, least_ns + NS_PER_US);
    return 0;
}

/* Where the first frame may stand behind `end`, or 0 if too little is left. */
static uint32_t go_on_at(const struct log *l, const struct recovery *r,
                         const struct scanned_slot *slot, uint32_t end) {
    const struct segment *s = segment_view(l->a, slot->h);
    uint64_t at = max_u64(end + r->left_out, slot->frames_end);
    if (leaves_all_out(r) || at > r->header.segment_bytes ||
        !log_fits(l, (uint32_t)at, 2 * BLOCK_BYTES, s->records + 1, s->blocks + 1))
        return 0;
    return (uint32_t)at;
}

static void make_room(struct log *l, struct recovery *r, struct scanned_slot *slot) {
    const struct link *tail = r->tail < 0 ? NULL : &r->links[r->tail];
    int prepared = slot->content == SLOT_UNSEALED && slot->frames_end == 0 &&
                   (!tail || slot->segment > tail->segment);
    struct segment *s = segment_edit(l->a, slot->h);
    uint32_t at = go_on_at(l, r, slot, SEGMENT_FRAMES_OFFSET);
    if (slot->content == SLOT_RAW)
        s->flags = SEGMENT_RAW;
    if (prepared && at != 0) {
        s->append_end = s->data_end = at;
        segment_set_state(l, slot->h, SEGMENT_RESERVED);
    } else if (slot->content == SLOT_UNSEALED && !is_stopped(r)) {
        s->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
    }
}

static int make_durable(struct log *l, uint32_t slot_file) {
    const struct file_system *fs = &l->env.files;
    char path[LOG_PATH_BYTES];
    log_slot_path(slot_file, path);
    int file = fs->ops->open(fs->ctx, path, FILE_WRITE);
    if (file < 0)
        return file;
    int err = fs->ops->sync(fs->ctx, file);
    fs->ops->close(fs->ctx, file);
    return err;
}

static int make_segment(struct log *l, struct recovery *r, struct scanned_slot *slot) {
    struct extent notes;
    int err;
    if (slot->content == SLOT_SEALED || slot->content == SLOT_FOREIGN)
        return 0;
    slot->h = segment_new_slot(l, slot->links > 0 ? SEGMENT_OPEN : SEGMENT_FREE);
    if (!slot->h.v)
        return ERR_NOMEM;
    segment_edit(l->a, slot->h)->file = slot->file;
    segment_set_number(l, slot->h, slot->segment);
    if (slot->links == 0) {
        make_room(l, r, slot);
        return 0;
    }
    if ((err = make_durable(l, slot->file)) < 0)
        return err;
    if (buffer_take(l->buffers, 1, &notes, 1) < 0)
        return ERR_NOMEM;
    struct segment *s = segment_edit(l->a, slot->h);
    s->notes = notes.first + 1;
    s->append_end = s->data_end = SEGMENT_FRAMES_OFFSET;
    if (!is_stopped(r)) /* it may soon be freed, and a dead write still land in it */
        s->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
    return 0;
}

/* The index. ----------------------------------------------------------------------------------- */

struct delivery {
    struct log *l;
    struct recovery *r;
    uint32_t slot;        /* whose segment has begun, or UINT32_MAX */
    struct disk_frame in; /* its file is open */
};

static void end_segment(struct delivery *d) {
    if (d->slot != UINT32_MAX)
        d->l->env.files.ops->close(d->l->env.files.ctx, d->in.file);
    d->slot = UINT32_MAX;
}

static int begin_segment(struct delivery *d, uint32_t slot) {
    struct log *l = d->l;
    if (d->slot == slot)
        return 0;
    end_segment(d);
    d->in.file = recovery_open(l, d->r->slots[slot].file);
    if (d->in.file < 0)
        return d->in.file;
    d->slot = slot;
    int err;
    while ((err = l->env.index->begin(l->env.index_ctx, d->r->slots[slot].h)) == ERR_AGAIN &&
           (err = seal_one_now(l)) == 0)
        ;
    return err;
}

static int deliver_frame(struct delivery *d, const struct link *k) {
    struct log *l = d->l;
    struct segment_h sh = d->r->slots[k->slot].h;
    struct frame_header h;
    struct frame_walk w;
    uint64_t keep_to = min_u64(k->keep_to, root_view(l)->log_end_sequence);
    uint64_t last_time_ns = 0;
    int err = begin_segment(d, k->slot);
    if (err == 0)
        err = open_frame(&d->in, d->r, k, &h, &w);
    if (err < 0)
        return err;
    while (frame_walk_next(&w) > 0) {
        struct segment *s = segment_edit(l->a, sh);
        s->records++;
        s->blocks += record_pages(&w.record);
        if (w.record_sequence > keep_to)
            continue;
        struct version v = log_version_of(&w, h.segment, h.offset, h.time_ns);
        last_time_ns = v.time_ns;
        err = l->env.index->append(l->env.index_ctx, sh, &v);
        if (err < 0)
            return err;
        segment_note_family(l, sh, v.family);
        log_start_commit(l, 0);
    }
    if (d->in.err < 0) /* what is damaged has been told; what cannot be read is not skipped */
        return d->in.err;
    segment_note_frame(l, sh, &h, keep_to, max_u64(last_time_ns, h.time_ns));
    segment_edit(l->a, sh)->append_end = h.offset + h.length_bytes;
    return 0;
}

/* Sealed segments and frames come in the order of their places, cold segments last. */
static int deliver(struct log *l, struct recovery *r) {
    struct delivery d = {.l = l, .r = r, .slot = UINT32_MAX, .in = {.files = &l->env.files}};
    int err = 0;
    for (uint32_t i = 0; i < r->link_count && err == 0; i++) {
        const struct link *k = &r->links[i];
        if (k->fate != LINK_COUNTS)
            continue;
        if (k->sealed)
            err = l->env.index->sealed(l->env.index_ctx, r->slots[k->slot].h);
        else
            err = deliver_frame(&d, k);
        log_start_commit(l, 0);
    }
    end_segment(&d);
    for (uint32_t i = 0; i < r->slot_count && err == 0; i++) {
        if (r->slots[i].content != SLOT_SEALED ||
            !(segment_view(l->a, r->slots[i].h)->flags & SEGMENT_IS_COLD))
            continue;
        err = l->env.index->sealed(l->env.index_ctx, r->slots[i].h);
        log_start_commit(l, 0);
    }
    return err;
}

/* The last segment goes on, if it has room; the others are full. */
static void choose_append_segment(struct log *l, struct recovery *r) {
    for (uint32_t i = 0; i < r->slot_count; i++) {
        struct segment_h h = r->slots[i].h;
        if (r->slots[i].content != SLOT_UNSEALED || r->slots[i].links == 0 ||
            segment_view(l->a, h)->slot.state != SEGMENT_OPEN)
            continue;
        struct segment *s = segment_edit(l->a, h);
        uint32_t at = r->tail >= 0 && r->links[r->tail].slot == i
                          ? go_on_at(l, r, &r->slots[i], s->append_end)
                          : 0;
        if (at != 0) {
            s->append_end = at;
            root_edit(l)->log_append_segment = h.v;
        } else {
            s->flags |= SEGMENT_CLOSED;
        }
        log_start_commit(l, 0);
    }
}

int log_begin(struct log *l, struct log_report *report) {
    struct recovery *r = l->recovery;
    must(r != NULL && frame_used(l->a) == 0);
    int err = make_root(l, r);
    if (err == 0)
        err = log_write_headers(l);
    for (uint32_t i = 0; i < r->slot_count && err == 0; i++) {
        err = make_segment(l, r, &r->slots[i]);
        log_start_commit(l, 0);
    }
    if (err == 0)
        err = deliver(l, r);
    if (err < 0)
        return err;
    history_derive(l);
    choose_append_segment(l, r);
    log_start_commit(l, 1);
    err = salvaged_write(l, r, report);
    recovery_close(l);
    if (err < 0)
        return err;
    segments_work(l);
    l->resumed = 1;
    seals_resume(l);
    log_start_commit(l, 1);
    return 0;
}
