/* SPDX-License-Identifier: Apache-2.0 */
/* The life of the log in one process: opening, attach, turns, stop; and the files of a new store. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

LAYOUT_FIELDS(engine, ENGINE_FIELDS)
const struct arena_table_spec engine_spec = TABLE_SPEC(engine, TABLE_ENGINE, 1);
LAYOUT_FIELDS(wall, WALL_FIELDS)
const struct arena_table_spec wall_spec = TABLE_SPEC(wall, TABLE_WALL, 1);

struct log_params log_params_default(void) {
    return (struct log_params){.frame_bytes = LOG_FRAME_BYTES,
                               .unlogged_bytes_max = LOG_UNLOGGED_BYTES_MAX,
                               .submit_bytes = 256 * KIB,
                               .submit_age_ns = NS_PER_MS,
                               .reserve_segments = 5,
                               .clean_segments = 1,
                               .control_segments = 2,
                               .leave_bytes = 32 * MIB,
                               .ready_segments = 2,
                               .zero_bytes = 8 * MIB,
                               .devices_max = 4096,
                               .max_bytes = UINT64_MAX,
                               .orphan_bytes = 4 * MIB,
                               .quarantine_ns = 60 * NS_PER_S};
}

static int write_copies(const struct file_system *fs, int file, struct store_header *h) {
    uint8_t block[BLOCK_BYTES];
    for (h->counter = 0; h->counter < STORE_COPIES; h->counter++) {
        store_encode(h, block);
        int64_t n = fs->ops->write(fs->ctx, file, block, sizeof block, h->counter * BLOCK_BYTES);
        if (n != (int64_t)sizeof block)
            return n < 0 ? (int)n : ERR_IO;
    }
    return fs->ops->sync(fs->ctx, file);
}

/* The header comes last: a store without it is not there, and may be made again. */
int log_create_store(const struct file_system *fs, const struct log_create *c) {
    struct store_header h = {
        .segment_bytes = c->segment_bytes ? c->segment_bytes : LOG_SEGMENT_BYTES,
        .segment_records = c->segment_records ? c->segment_records : LOG_SEGMENT_RECORDS,
        .created_ns = c->wall_ns,
        .state = STORE_STOPPED,
        .store_time_ns = c->wall_ns,
        .wall_time_ns = c->wall_ns};
    memcpy(h.id, c->store_id, STORE_ID_BYTES);
    int err = fs->ops->make_dir(fs->ctx, LOG_DIR);
    if (err < 0 && err != ERR_EXISTS)
        return err;
    int file = fs->ops->open(fs->ctx, STORE_FILE, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE);
    if (file < 0)
        return file;
    err = write_copies(fs, file, &h);
    fs->ops->close(fs->ctx, file);
    return err == 0 ? fs->ops->sync_dir(fs->ctx, ".") : err;
}

static int allocate(struct log *l) {
    uint32_t buckets = 16;
    l->segment_capacity = l->a->tables[TABLE_SEGMENT].capacity;
    while (buckets < l->segment_capacity)
        buckets *= 2;
    l->by_number_mask = buckets - 1;
    l->by_number = calloc(buckets, sizeof *l->by_number);
    l->by_number_next = calloc(l->segment_capacity + 1, sizeof *l->by_number_next);
    l->history = calloc(l->segment_capacity + 1, sizeof *l->history);
    l->pins = calloc(l->segment_capacity + 1, sizeof *l->pins);
    l->devices = calloc(l->segment_capacity + 1, sizeof *l->devices);
    l->device_asked = calloc(l->segment_capacity + 1, sizeof *l->device_asked);
    l->file_used = calloc(l->segment_capacity + 1, sizeof *l->file_used);
    return l->by_number && l->by_number_next && l->history && l->pins && l->devices &&
                   l->device_asked && l->file_used
               ? 0
               : ERR_NOMEM;
}

struct log *log_open(const struct log_env *env, const struct log_params *params) {
    struct log *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    must(params->frame_bytes <= LOG_FRAME_BYTES && params->frame_bytes % BLOCK_BYTES == 0);
    must(params->clean_segments + params->control_segments <= params->reserve_segments);
    must(params->frame_bytes >= (RECORD_BLOCKS_MAX + 2) * BLOCK_BYTES);
    l->env = *env;
    l->params = *params;
    l->a = env->arena;
    l->buffers = env->buffers;
    l->io = env->io;
    if (allocate(l) < 0) {
        log_close(l);
        return NULL;
    }
    l->io->routines[ROUTINE_FRAME_WRITTEN] =
        (struct io_routine){log_frame_vecs, log_frame_written, l};
    l->io->routines[ROUTINE_EPOCH_WRITTEN] = (struct io_routine){NULL, log_epoch_written, l};
    return l;
}

void log_close(struct log *l) {
    segments_close(l);
    seals_close(l);
    moments_close(l);
    listings_close(l);
    recovery_close(l);
    free(l->by_number);
    free(l->by_number_next);
    free(l->history);
    free(l->pins);
    free(l->devices);
    free(l->device_asked);
    free(l->file_used);
    free(l);
}

/* Reads pin their segment, and writes go to segments that are neither sealed nor free. */
static int is_at_rest(const struct log *l, uint32_t index, const struct segment *s) {
    return (s->slot.state == SEGMENT_SEALED || s->slot.state == SEGMENT_FREE) &&
           l->pins[index] == 0;
}

/* Goes around the slots, and closes the first that was not asked for since the last time. */
static void close_a_device(struct log *l) {
    for (uint32_t i = 0; i < 2 * l->segment_capacity; i++) {
        uint32_t index = l->device_hand++ % l->segment_capacity;
        const struct segment *s = segment_try(l->a, log_segment_handle(l, index));
        if (!s || s->file >= l->segment_capacity || l->devices[s->file] == 0)
            continue;
        if (l->device_asked[s->file] || !is_at_rest(l, index, s)) {
            l->device_asked[s->file] = 0;
            continue;
        }
        l->io->router.ops->close(l->io->router.ctx, l->devices[s->file] - 1);
        l->devices[s->file] = 0;
        l->devices_open--;
        return;
    }
}

static int open_device(struct log *l, const char *path, int32_t *known) {
    int opened = l->io->router.ops->open(l->io->router.ctx, path, IO_OPEN_WRITE);
    *known = opened < 0 ? 0 : opened + 1;
    return opened;
}

int log_device(void *log, uint32_t device) {
    struct log *l = log;
    char path[LOG_PATH_BYTES];
    if (device == LOG_DEVICE_STORE)
        return l->store_device ? l->store_device - 1 : open_device(l, STORE_FILE, &l->store_device);
    if (device >= LOG_DEVICE_INDEX && l->env.index->device)
        return l->env.index->device(l->env.index_ctx, device);
    if (device >= l->segment_capacity)
        return ERR_NOTFOUND;
    l->device_asked[device] = 1;
    if (l->devices[device])
        return l->devices[device] - 1;
    log_slot_path(device, path);
    if (l->devices_open >= l->params.devices_max)
        close_a_device(l);
    int opened = open_device(l, path, &l->devices[device]);
    l->devices_open += opened >= 0;
    return opened;
}

/* Attach. -------------------------------------------------------------------------------------- */

static int claim_frame(struct log *l, const struct frame *f) {
    uint32_t pages = 0;
    if (f->extents > FRAME_EXTENTS_MAX || f->records == 0 || f->slot.state > FRAME_WRITING)
        return ERR_INTEGRITY;
    for (uint32_t i = 0; i < f->extents; i++) {
        struct extent e = {f->extent[i].first, frame_extent_pages(f->extent[i])};
        if (buffer_claim(l->buffers, e) < 0)
            return ERR_INTEGRITY;
        pages += e.pages;
    }
    const struct segment *s = segment_try(l->a, (struct segment_h){f->segment_slot});
    return pages == f->pages && s && s->number == f->segment ? 0 : ERR_INTEGRITY;
}

static int claim_segment(struct log *l, const struct segment *s) {
    int open = s->slot.state == SEGMENT_OPEN || s->slot.state == SEGMENT_SEALING;
    if (s->slot.state > SEGMENT_COLD || open != (s->notes != 0) || s->file >= l->segment_capacity ||
        s->samples > FOOTER_SAMPLES_MAX || s->wall_spans > FOOTER_WALL_MAX ||
        s->families > FOOTER_FAMILIES_MAX)
        return ERR_INTEGRITY;
    return open ? buffer_claim(l->buffers, (struct extent){s->notes - 1, 1}) : 0;
}

/* Frames follow one another, and at most the first is being written. */
static int ring_is_sound(const struct log *l) {
    for (uint32_t i = 0; i < l->ring_count; i++) {
        const struct frame *f = frame_view(l->a, ring_at(l, i));
        int last = i + 1 == l->ring_count;
        if ((f->slot.state == FRAME_WRITING && i > 0) || (f->slot.state == FRAME_OPEN && !last))
            return 0;
        if (last && frame_last(f) != root_view(l)->log_recorded)
            return 0;
        if (!last && frame_view(l->a, ring_at(l, i + 1))->follows != frame_last(f))
            return 0;
    }
    return 1;
}

int log_attach(struct log *l) {
    l->root = engine_next(l->a, (struct engine_h){0});
    l->wall = wall_next(l->a, (struct wall_h){0});
    if (!l->root.v || frame_used(l->a) > LOG_FRAMES_MAX || !l->wall.v ||
        wall_spans(l)->count == 0 || wall_spans(l)->count > WALL_SPANS_MAX)
        return ERR_INTEGRITY;
    for (struct frame_h h = frame_next(l->a, (struct frame_h){0}); h.v; h = frame_next(l->a, h))
        if (claim_frame(l, frame_view(l->a, h)) < 0)
            return ERR_INTEGRITY;
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h))
        if (claim_segment(l, segment_view(l->a, h)) < 0)
            return ERR_INTEGRITY;
    ring_rebuild(l);
    segments_index(l);
    for (struct io_h h = io_next(l->a, (struct io_h){0}); h.v; h = io_next(l->a, h))
        if (io_view(l->a, h)->routine == ROUTINE_EPOCH_WRITTEN)
            l->epoch_writes++;
    log_clock_read(l);
    return ring_is_sound(l) ? 0 : ERR_INTEGRITY;
}

void log_resume(struct log *l) {
    root_edit(l)->log_epoch_state = LOG_EPOCH_WANTED;
    l->resumed = 1;
    log_clock_resume(l);
    segments_let_rest(l);
    segments_unpinned(l);
    seals_resume(l);
}

void log_catalogue_is(struct log *l, uint64_t transactions) {
    if (l->recovery)
        l->recovery->catalogue = max_u64(l->recovery->catalogue, transactions);
    else if (transactions > root_view(l)->log_catalogue)
        root_edit(l)->log_catalogue = transactions;
}

/* A write of a process before this one may still land. */
static int something_rests(const struct log *l) {
    struct segment_h h = {0};
    while ((h = segment_next(l->a, h)).v)
        if (segment_view(l->a, h)->rest_until_ns > l->mono_ns)
            return 1;
    return 0;
}

int log_stop(struct log *l) {
    const struct engine *root = root_view(l);
    if (l->ring_count > 0 || l->epoch_writes > 0 || root->log_epoch_state == LOG_EPOCH_WRITING ||
        l->slot_job || seals_run(l))
        return ERR_BUSY;
    struct engine *edit = root_edit(l);
    log_epoch_ends_here(edit, edit->log_epoch);
    edit->log_epoch_state = LOG_EPOCH_WANTED;
    l->resumed = 0;
    return log_write_header(l, something_rests(l) ? STORE_IN_USE : STORE_STOPPED);
}

/* Turns. --------------------------------------------------------------------------------------- */

void log_turn_begin(struct log *l) {
    log_clock_turn(l);
}

static int move_is_due(const struct log *l) {
    const struct engine *root = root_view(l);
    return l->resumed && root->log_move != LOG_MOVE_NONE && root->log_move_turn != l->a->turn &&
           l->mono_ns >= root->log_retry_ns;
}

void log_turn_end(struct log *l) {
    if (!l->resumed)
        return;
    log_raise_epoch(l);
    if (move_is_due(l))
        log_move_frames(l);
    log_submit(l);
    segments_work(l);
    seals_work(l);
}

uint64_t log_deadline(const struct log *l) {
    const struct engine *root = root_view(l);
    if (!l->resumed)
        return UINT64_MAX;
    uint64_t at = min_u64(log_submit_deadline(l), segments_deadline(l));
    if (root->log_move != LOG_MOVE_NONE)
        at = min_u64(at, max_u64(l->mono_ns, root->log_retry_ns));
    if (root->log_epoch_state == LOG_EPOCH_WANTED && l->epoch_writes == 0)
        at = min_u64(at, max_u64(l->mono_ns, l->epoch_retry_ns));
    if (l->seal_retry_ns != 0)
        at = min_u64(at, max_u64(l->mono_ns, l->seal_retry_ns));
    return at;
}

/* Telling. ------------------------------------------------------------------------------------- */

void log_alert(struct log *l, enum alert_level level, const char *code, const char *format, ...) {
    char text[256];
    va_list args;
    if (!l->env.alerts.raise)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    l->env.alerts.raise(l->env.alerts.ctx, level, code, "", text);
}

void log_alert_clear(struct log *l, const char *code) {
    if (l->env.alerts.clear)
        l->env.alerts.clear(l->env.alerts.ctx, code, "");
}
