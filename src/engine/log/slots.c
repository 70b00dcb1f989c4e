/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slot files and segments.
 *
 * A slot file is made once (room allocated), and prepared for each segment that it will hold: its
 * room is written once, so that later overwrites change no metadata, part by part (data_end tells how
 * far), so that engines that live shortly get on with it; the footer is cleared, the header written,
 * both durable before the segment takes its first frame. (A cut before that shows the old segment,
 * which is freed, or none.) Jobs do this, one at a time, so segment numbers are prepared in order;
 * and the lowest prepared number is opened first.
 *
 *  1. `reserve_segments` unused slots are never opened for writes; `control_segments` of them are for the
 *     few records of the control plane, and those not taken and `clean_segments` more for cleanings, so that a full store can
 *     still be restored and cleared; the others only for records that have to move, so there is always
 *     room for what has been answered. Writes do not use what is left of a segment that was opened out of the reserve.
 *  2. A slot with reads in flight, or that a dead write may still hit, is not prepared.
 *  3. by_number holds every slot with a number other than 0; find() gives those of any state.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/hash.h"
#include "engine/log/log_priv.h"

LAYOUT_FIELDS(segment, SEGMENT_FIELDS)
const struct arena_table_spec segment_spec = TABLE_SPEC(segment, TABLE_SEGMENT, 1);

#define ZERO_CHUNK_BYTES (1u << 20)

struct slot_job {
    struct job job;
    struct log *l;
    struct file_system files;
    struct segment_h h;
    int create;                  /* make the file and its room, and no more */
    uint32_t zero_from, zero_to; /* the part that is written once now, if any */
    uint32_t old_number;
    struct segment_header header;
    int result;
};

void log_slot_path(uint32_t file, char path[LOG_PATH_BYTES]) {
    snprintf(path, LOG_PATH_BYTES, LOG_DIR "/slot-%08u", file);
}

/* Finding. ----------------------------------------------------------------------------------- */

static uint32_t *bucket_of(const struct log *l, uint32_t number) {
    return &l->by_number[hash_mix(number) & l->by_number_mask];
}

struct segment_h log_segment_handle(const struct log *l, uint32_t index) {
    return (struct segment_h){
        handle_make(index, arena_slot_at(l->a, TABLE_SEGMENT, index)->generation)};
}

static struct segment_h find(const struct log *l, uint32_t number) {
    for (uint32_t i = *bucket_of(l, number); i != 0; i = l->by_number_next[i - 1]) {
        struct segment_h h = log_segment_handle(l, i - 1);
        if (segment_view(l->a, h)->number == number)
            return h;
    }
    return (struct segment_h){0};
}

struct segment_h log_segment(const struct log *l, uint32_t number) {
    struct segment_h h = find(l, number);
    if (h.v && !segment_holds_data(segment_view(l->a, h)))
        h.v = 0;
    return h;
}

void segment_set_number(struct log *l, struct segment_h h, uint32_t number) {
    struct segment *s = segment_edit(l->a, h);
    uint32_t index = handle_index(h.v);
    if (s->number != 0) {
        uint32_t *at = bucket_of(l, s->number);
        while (*at != index + 1)
            at = &l->by_number_next[*at - 1];
        *at = l->by_number_next[index];
    }
    s->number = number;
    if (number != 0) {
        l->by_number_next[index] = *bucket_of(l, number);
        *bucket_of(l, number) = index + 1;
    }
}

void segment_set_state(struct log *l, struct segment_h h, enum segment_state state) {
    struct segment *s = segment_edit(l->a, h);
    int held = segment_has_moments(s);
    l->state_count[s->slot.state]--;
    l->state_count[state]++;
    s->slot.state = (uint16_t)state;
    if (!held && segment_has_moments(s))
        history_add(l, h);
    else if (held && !segment_has_moments(s))
        history_remove(l, h);
}

struct segment_h segment_new_slot(struct log *l, enum segment_state state) {
    struct segment_h h = segment_new(l->a, (uint16_t)state);
    if (h.v)
        l->state_count[state]++;
    return h;
}

void segment_drop_slot(struct log *l, struct segment_h h) {
    segment_set_number(l, h, 0);
    l->state_count[segment_view(l->a, h)->slot.state]--;
    segment_free(l->a, h);
}

void segments_index(struct log *l) {
    memset(l->by_number, 0, ((size_t)l->by_number_mask + 1) * sizeof *l->by_number);
    memset(l->state_count, 0, sizeof l->state_count);
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        const struct segment *s = segment_view(l->a, h);
        l->state_count[s->slot.state]++;
        l->file_used[s->file] = 1;
        if (s->number == 0)
            continue;
        l->by_number_next[handle_index(h.v)] = *bucket_of(l, s->number);
        *bucket_of(l, s->number) = handle_index(h.v) + 1;
    }
    history_derive(l);
}

/* The slot of a state with the lowest number; of FREE ones, those that need not rest. */
static struct segment_h lowest(const struct log *l, enum segment_state state) {
    struct segment_h best = {0};
    uint32_t number = UINT32_MAX;
    if (l->state_count[state] == 0)
        return best;
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        const struct segment *s = segment_view(l->a, h);
        if (s->slot.state != state || (state == SEGMENT_FREE && s->rest_until_ns > l->mono_ns))
            continue;
        if (!best.v || s->number < number) {
            best = h;
            number = s->number;
        }
    }
    return best;
}

struct segment_h segment_reserved(const struct log *l) {
    return lowest(l, SEGMENT_RESERVED);
}

/* Opening. ------------------------------------------------------------------------------------ */

static uint32_t unused_slots(const struct log *l) {
    uint32_t n = l->state_count[SEGMENT_FREE] + l->state_count[SEGMENT_RESERVED] +
                 l->state_count[SEGMENT_PREPARING];
    return l->slot_job && l->slot_job->create ? n - 1 : n;
}

struct segment_notes *segment_notes(const struct log *l, const struct segment *s) {
    must(s->notes != 0);
    return (struct segment_notes *)(void *)buffer_data(l->buffers, s->notes - 1);
}

void segment_release_notes(struct log *l, struct segment_h h) {
    struct segment *s = segment_edit(l->a, h);
    if (s->notes != 0)
        buffer_release(l->buffers, (struct extent){s->notes - 1, 1});
    s->notes = 0;
    s->samples = s->families = s->wall_spans = 0;
}

void log_expect_room(struct log *l, int expected) {
    l->room_is_coming = expected;
}

static int no_room(struct log *l) {
    if (!l->full || l->room_is_coming)
        return ERR_AGAIN;
    log_alert(
        l, ALERT_ERROR, "store_full",
        "the store has no room for writes but its reserve of %llu MiB; writes fail until its "
        "disk gets more room, what is pinned is let go (perdure pins), or perdure volume delete "
        "--now frees history",
        (unsigned long long)(l->params.reserve_segments * (uint64_t)log_segment_bytes(l) / MIB));
    l->told_full = 1;
    return ERR_NOSPC;
}

int segments_left(struct log *l, enum segment_use use, uint32_t wanted) {
    const struct log_params *p = &l->params;
    uint32_t keep = use == SEGMENT_FOR_MOVES ? 0 : p->reserve_segments;
    if (use == SEGMENT_FOR_CONTROL || use == SEGMENT_FOR_CLEANING)
        keep -= p->control_segments;
    if (use == SEGMENT_FOR_CLEANING)
        keep -= p->clean_segments;
    if (unused_slots(l) >= keep + wanted)
        return 0;
    if (use == SEGMENT_FOR_CLEANING) /* nobody else makes room for it */
        return l->full ? ERR_NOSPC : ERR_AGAIN;
    return no_room(l);
}

int segment_take(struct log *l, enum segment_use use, struct segment_h *out) {
    struct extent notes;
    int room = segments_left(l, use, 1);
    if (room < 0)
        return room;
    struct segment_h h = segment_reserved(l);
    if (!h.v || buffer_take(l->buffers, 1, &notes, 1) < 0)
        return ERR_AGAIN;
    int err = l->env.index->begin(l->env.index_ctx, h);
    if (err < 0) {
        buffer_release(l->buffers, notes);
        return err;
    }
    segment_edit(l->a, h)->notes = notes.first + 1;
    segment_set_state(l, h, SEGMENT_OPEN);
    if (l->told_full)
        log_alert_clear(l, "store_full");
    l->told_full = 0;
    *out = h;
    return 0;
}

void segment_give_back(struct log *l, struct segment_h h) {
    must(segment_view(l->a, h)->frames == 0);
    l->env.index->freed(l->env.index_ctx, h);
    segment_release_notes(l, h);
    segment_set_state(l, h, SEGMENT_RESERVED);
}

void segment_make_free(struct log *l, struct segment_h h) {
    struct segment *s = segment_edit(l->a, h);
    uint32_t keep_number = s->number, keep_file = s->file, raw = s->flags & SEGMENT_RAW;
    uint64_t rest = s->rest_until_ns;
    segment_set_state(l, h, SEGMENT_FREE);
    memset((unsigned char *)s + sizeof s->slot, 0, sizeof *s - sizeof s->slot);
    s->number = keep_number;
    s->file = keep_file;
    s->flags = raw;
    s->rest_until_ns = rest;
}

void segment_abandon(struct log *l, struct segment_h h, int rest) {
    must(segment_view(l->a, h)->frames == 0);
    l->env.index->freed(l->env.index_ctx, h);
    segment_release_notes(l, h);
    if (rest)
        segment_edit(l->a, h)->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
    if (root_view(l)->log_append_segment == h.v)
        root_edit(l)->log_append_segment = 0;
    segment_make_free(l, h);
}

/* Freeing and reading. ------------------------------------------------------------------------ */

int log_pin_segment(struct log *l, uint32_t segment, uint32_t *device) {
    struct segment_h h = log_segment(l, segment);
    if (!h.v)
        return ERR_NOTFOUND;
    uint32_t file = segment_view(l->a, h)->file;
    int opened = log_device(l, file);
    if (opened < 0)
        return opened == ERR_NOTFOUND ? ERR_IO : opened;
    l->pins[handle_index(h.v)]++;
    *device = file;
    return 0;
}

void log_unpin_segment(struct log *l, uint32_t segment) {
    struct segment_h h = find(l, segment);
    must(h.v != 0 && l->pins[handle_index(h.v)] > 0);
    if (--l->pins[handle_index(h.v)] == 0 && segment_view(l->a, h)->slot.state == SEGMENT_LEAVING)
        segment_make_free(l, h);
}

int log_free_segment(struct log *l, uint32_t segment) {
    struct segment_h h = find(l, segment);
    if (!h.v || !segment_holds_data(segment_view(l->a, h)))
        return ERR_NOTFOUND;
    if (segment_view(l->a, h)->slot.state != SEGMENT_SEALED)
        return ERR_BUSY;
    l->env.index->freed(l->env.index_ctx, h);
    segment_set_state(l, h, SEGMENT_LEAVING);
    if (l->pins[handle_index(h.v)] == 0)
        segment_make_free(l, h);
    return 0;
}

void segments_let_rest(struct log *l) {
    struct segment_h h = {0};
    while ((h = segment_next(l->a, h)).v)
        if (segment_view(l->a, h)->slot.state == SEGMENT_OPEN)
            segment_edit(l->a, h)->rest_until_ns = l->mono_ns + l->params.quarantine_ns;
}

void segments_unpinned(struct log *l) {
    struct segment_h h = segment_next(l->a, (struct segment_h){0});
    for (; h.v && l->state_count[SEGMENT_LEAVING] > 0; h = segment_next(l->a, h))
        if (segment_view(l->a, h)->slot.state == SEGMENT_LEAVING && l->pins[handle_index(h.v)] == 0)
            segment_make_free(l, h);
}

void log_space(const struct log *l, struct log_space *out) {
    const struct engine *root = root_view(l);
    uint32_t unused = unused_slots(l), keep = l->params.reserve_segments;
    memset(out, 0, sizeof *out);
    out->slots = segment_used(l->a);
    out->slots_unused = unused;
    out->segment_bytes = root->log_segment_bytes;
    out->unlogged_bytes = (uint64_t)l->unlogged_pages * BLOCK_BYTES;
    out->room_bytes = unused > keep ? (uint64_t)(unused - keep) * root->log_segment_bytes : 0;
    struct segment_h h = {root->log_append_segment};
    if (h.v && unused >= keep)
        out->room_bytes += root->log_segment_bytes - segment_view(l->a, h)->append_end;
    out->full = l->full && unused <= keep;
    out->is_short = l->full && unused < keep + 2 * l->params.ready_segments;
}

/* Jobs. --------------------------------------------------------------------------------------- */

static int write_all(const struct file_system *fs, int file, const void *buf, uint32_t bytes,
                     uint64_t offset) {
    int64_t n = fs->ops->write(fs->ctx, file, buf, bytes, offset);
    return n == (int64_t)bytes ? 0 : n < 0 ? (int)n : ERR_IO;
}

static int write_zeroes(const struct file_system *fs, int file, uint32_t from, uint32_t to) {
    void *zeroes = from < to ? calloc(1, ZERO_CHUNK_BYTES) : NULL;
    int err = from == to || zeroes ? 0 : ERR_NOMEM;
    for (uint32_t at = from; at < to && err == 0; at += ZERO_CHUNK_BYTES)
        err = write_all(fs, file, zeroes, (uint32_t)min_u64(ZERO_CHUNK_BYTES, to - at), at);
    free(zeroes);
    return err;
}

static int create_slot(struct slot_job *j, int file) {
    const struct file_system *fs = &j->files;
    uint64_t total, left;
    int err = fs->ops->space(fs->ctx, &total, &left);
    if (err == 0 && left < j->header.segment_bytes + j->l->params.leave_bytes)
        err = ERR_NOSPC;
    if (err == 0)
        err = fs->ops->allocate(fs->ctx, file, 0, j->header.segment_bytes);
    if (err == 0)
        err = fs->ops->sync(fs->ctx, file);
    if (err == 0)
        err = fs->ops->sync_dir(fs->ctx, LOG_DIR);
    return err;
}

/* There is more to be written once. */
static int is_part(const struct slot_job *j) {
    return j->zero_to > j->zero_from && j->zero_to < j->header.segment_bytes;
}

static int prepare_slot(struct slot_job *j, int file) {
    const struct file_system *fs = &j->files;
    uint32_t bytes = j->header.segment_bytes;
    uint8_t block[BLOCK_BYTES] = {0};
    int err = write_zeroes(fs, file, j->zero_from, j->zero_to);
    if (is_part(j))
        return err == 0 ? fs->ops->sync(fs->ctx, file) : err;
    if (err == 0)
        err = write_all(fs, file, block, BLOCK_BYTES, bytes - BLOCK_BYTES);
    segment_header_encode(&j->header, block);
    if (err == 0)
        err = write_all(fs, file, block, BLOCK_BYTES, 0);
    return err == 0 ? fs->ops->sync(fs->ctx, file) : err;
}

static void slot_run(struct job *job) {
    struct slot_job *j = (struct slot_job *)job;
    const struct file_system *fs = &j->files;
    char path[LOG_PATH_BYTES];
    log_slot_path(j->header.file, path);
    int file = fs->ops->open(fs->ctx, path, FILE_WRITE | (j->create ? FILE_CREATE : 0));
    if (file < 0) {
        j->result = file;
        return;
    }
    j->result = j->create ? create_slot(j, file) : prepare_slot(j, file);
    fs->ops->close(fs->ctx, file);
    if (j->create && j->result < 0)
        fs->ops->remove(fs->ctx, path);
}

static void created(struct log *l, struct slot_job *j) {
    struct segment *s = segment_edit(l->a, j->h);
    if (j->result == 0) {
        l->full = 0;
        s->flags = SEGMENT_RAW;
        if (l->slots_retry_ns != 0)
            log_alert_clear(l, "slot_create_failed");
        l->slots_retry_ns = 0;
        segment_set_state(l, j->h, SEGMENT_FREE);
        return;
    }
    l->file_used[s->file] = 0;
    segment_drop_slot(l, j->h);
    l->slots_retry_ns = l->mono_ns + LOG_RETRY_MAX_NS;
    l->full = 1;
    if (j->result != ERR_NOSPC)
        log_alert(l, ALERT_ERROR, "slot_create_failed", "slot file %u cannot be made: %s",
                  j->header.file, err_text(j->result));
}

static void prepared(struct log *l, struct slot_job *j) {
    struct segment *s = segment_edit(l->a, j->h);
    if (j->result == 0 && is_part(j)) {
        s->data_end = j->zero_to;
        return; /* segments_work goes on with it */
    }
    if (j->result == 0) {
        s->flags &= ~(uint32_t)SEGMENT_RAW;
        s->append_end = s->data_end = SEGMENT_FRAMES_OFFSET;
        if (s->attempts > 0)
            log_alert_clear(l, "slot_prepare_failed");
        s->attempts = 0;
        segment_set_state(l, j->h, SEGMENT_RESERVED);
        log_device(l, s->file); /* while it is hot: log_submit asks again */
        return;
    }
    s->attempts++;
    s->rest_until_ns = l->mono_ns + LOG_RETRY_MAX_NS;
    segment_set_number(l, j->h, j->old_number);
    segment_set_state(l, j->h, SEGMENT_FREE);
    log_alert(l, ALERT_ERROR, "slot_prepare_failed", "slot file %u cannot be prepared: %s",
              j->header.file, err_text(j->result));
}

static void slot_done(struct job *job) {
    struct slot_job *j = (struct slot_job *)job;
    struct log *l = j->l;
    if (j->create)
        created(l, j);
    else
        prepared(l, j);
    l->slot_job = NULL;
    free(j);
}

/* Starts the job of a slot that is PREPARING; after a kill, again: it may have ended anywhere. */
static void slot_start(struct log *l, struct segment_h h, uint32_t old_number) {
    const struct segment *s = segment_view(l->a, h);
    const struct engine *root = root_view(l);
    struct slot_job *j = calloc(1, sizeof *j);
    if (!j) {
        l->slots_retry_ns = l->mono_ns + LOG_RETRY_MAX_NS;
        return;
    }
    j->job = (struct job){.run = slot_run, .done = slot_done};
    j->l = l;
    j->files = l->env.files;
    j->h = h;
    j->create = (s->flags & SEGMENT_CREATING) != 0;
    if (s->flags & SEGMENT_RAW && !j->create) {
        j->zero_from = s->data_end;
        j->zero_to = (uint32_t)min_u64(log_segment_bytes(l), s->data_end + l->params.zero_bytes);
    }
    j->old_number = old_number;
    j->header = (struct segment_header){.segment = s->number,
                                        .file = s->file,
                                        .epoch = root->log_epoch,
                                        .wall_ns = l->wall_ns,
                                        .segment_bytes = root->log_segment_bytes};
    memcpy(j->header.store_id, root->store_id, STORE_ID_BYTES);
    l->slot_job = j;
    log_start_job(l, &j->job);
}

static void want_prepared(struct log *l, struct segment_h h) {
    uint32_t old_number = segment_view(l->a, h)->number;
    segment_set_number(l, h, root_edit(l)->log_next_segment++);
    segment_set_state(l, h, SEGMENT_PREPARING);
    slot_start(l, h, old_number);
}

static void want_created(struct log *l) {
    struct segment_h h = {0};
    uint32_t file = 0;
    while (file < l->segment_capacity && l->file_used[file])
        file++;
    if ((uint64_t)(segment_used(l->a) + 1) * log_segment_bytes(l) <= l->params.max_bytes &&
        file < l->segment_capacity)
        h = segment_new_slot(l, SEGMENT_PREPARING);
    if (!h.v) {
        l->full = 1;
        l->slots_retry_ns = l->mono_ns + LOG_RETRY_MAX_NS;
        return;
    }
    struct segment *s = segment_edit(l->a, h);
    s->file = file;
    l->file_used[file] = 1;
    s->flags = SEGMENT_CREATING;
    slot_start(l, h, 0);
}

static int more_ready_wanted(const struct log *l) {
    return l->state_count[SEGMENT_RESERVED] < l->params.ready_segments &&
           l->state_count[SEGMENT_FREE] > 0;
}

static int more_slots_wanted(const struct log *l) {
    return unused_slots(l) < l->params.reserve_segments + l->params.ready_segments;
}

void segments_work(struct log *l) {
    if (l->slot_job)
        return;
    if (l->state_count[SEGMENT_PREPARING] > 0) {
        slot_start(l, lowest(l, SEGMENT_PREPARING), 0);
        return;
    }
    if (more_ready_wanted(l)) {
        struct segment_h h = lowest(l, SEGMENT_FREE);
        if (h.v) {
            want_prepared(l, h);
            return;
        }
    }
    /* Those that are free may all have to rest. */
    if ((more_slots_wanted(l) || more_ready_wanted(l)) && l->mono_ns >= l->slots_retry_ns)
        want_created(l);
}

uint64_t segments_deadline(const struct log *l) {
    if (l->slot_job)
        return UINT64_MAX;
    if (more_slots_wanted(l) || more_ready_wanted(l) || l->state_count[SEGMENT_PREPARING] > 0)
        return max_u64(l->slots_retry_ns, l->mono_ns);
    return UINT64_MAX;
}

void segments_close(struct log *l) {
    free(l->slot_job);
    l->slot_job = NULL;
}
