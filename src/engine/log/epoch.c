/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store header. A new process raises the epoch durably before it submits its first frame: at a
 * cold start by a plain write that is waited for, at an attach through the I/O port, because the
 * loop must not wait.
 *
 * Each writing goes to the other one of the two copies, and only one is in flight, so there is
 * always a whole one. A cold start writes both: one that a dead process had in flight may land late, over
 * one of them. It counts less than the other, as a cold start leaves out more counters than dead
 * processes can have used that it does not know of.
 */
#include "base/err.h"
#include "engine/log/log_priv.h"

static void header_of(const struct log *l, uint32_t state, struct store_header *h) {
    const struct engine *root = root_view(l);
    memset(h, 0, sizeof *h);
    memcpy(h->id, root->store_id, STORE_ID_BYTES);
    h->counter = root->log_store_counter;
    h->features_ignore = root->log_features_ignore;
    h->epoch = root->log_epoch;
    h->segment_bytes = root->log_segment_bytes;
    h->segment_records = root->log_segment_records;
    h->created_ns = root->log_created_ns;
    h->ended = (struct log_end){root->log_ended_epoch, root->log_ended_segment,
                                root->log_ended_offset, root->log_ended_sequence};
    h->state = state;
    h->numbers_above = root->log_numbers_above;
    h->store_time_ns = l->store_ns;
    h->wall_time_ns = l->wall_ns;
    h->catalogue = root->log_catalogue;
    h->left_out = root->log_left_out;
    h->scrub = (struct store_scrub){.began_ns = root->scrub_began_ns,
                                    .ended_ns = root->scrub_ended_ns,
                                    .bytes = root->scrub_bytes,
                                    .segment = root->scrub_segment,
                                    .files = root->scrub_files,
                                    .damaged = root->scrub_damaged,
                                    .mended = root->scrub_mended};
}

int log_write_header(struct log *l, uint32_t state) {
    const struct file_system *fs = &l->env.files;
    uint8_t block[BLOCK_BYTES];
    struct store_header h;
    root_edit(l)->log_store_counter++;
    header_of(l, state, &h);
    store_encode(&h, block);
    int file = fs->ops->open(fs->ctx, STORE_FILE, FILE_WRITE);
    if (file < 0)
        return file;
    int64_t n =
        fs->ops->write(fs->ctx, file, block, sizeof block, h.counter % STORE_COPIES * BLOCK_BYTES);
    int err = n == (int64_t)sizeof block ? fs->ops->sync(fs->ctx, file) : n < 0 ? (int)n : ERR_IO;
    fs->ops->close(fs->ctx, file);
    return err;
}

int log_write_headers(struct log *l) {
    int err = 0;
    for (uint32_t i = 0; i < STORE_COPIES && err == 0; i++)
        err = log_write_header(l, STORE_IN_USE);
    return err;
}

static void not_written(struct log *l, int err) {
    l->epoch_retry_ns = l->mono_ns + LOG_RETRY_MAX_NS / 10;
    log_alert(l, ALERT_CRITICAL, "store_header_failed",
              "the store header cannot be written: %s; it is tried again, and until then nothing "
              "becomes durable",
              err_text(err));
}

void log_raise_epoch(struct log *l) {
    struct extent page;
    struct store_header h;
    if (!l->resumed || root_view(l)->log_epoch_state != LOG_EPOCH_WANTED || l->epoch_writes > 0 ||
        l->mono_ns < l->epoch_retry_ns)
        return;
    if (log_device(l, LOG_DEVICE_STORE) < 0) {
        not_written(l, ERR_IO);
        return;
    }
    if (buffer_take(l->buffers, 1, &page, 1) < 0)
        return;
    uint64_t counter = root_view(l)->log_store_counter + 1;
    struct io_h io = io_want(l->io, IO_WRITE, IO_DURABLE, ROUTINE_EPOCH_WRITTEN, counter,
                             LOG_DEVICE_STORE, counter % STORE_COPIES * BLOCK_BYTES, BLOCK_BYTES);
    if (!io.v) {
        buffer_release(l->buffers, page);
        return;
    }
    struct engine *root = root_edit(l);
    root->log_store_counter = counter;
    root->log_epoch++;
    root->log_epoch_state = LOG_EPOCH_WRITING;
    header_of(l, STORE_IN_USE, &h);
    store_encode(&h, buffer_data(l->buffers, page.first));
    struct io *slot = io_edit(l->a, io);
    slot->data[0] = page;
    slot->data_extents = 1;
    l->epoch_writes++;
}

int log_epoch_written(void *ctx, struct io_h handle, const struct io *io, int32_t result) {
    struct log *l = ctx;
    (void)handle;
    must(l->epoch_writes > 0);
    l->epoch_writes--;
    const struct engine *root = root_view(l);
    if (io->owner != root->log_store_counter || root->log_epoch_state != LOG_EPOCH_WRITING)
        return 0;
    if (result == (int32_t)BLOCK_BYTES) {
        root_edit(l)->log_epoch_state = LOG_EPOCH_DURABLE;
        log_alert_clear(l, "store_header_failed");
        return 0;
    }
    root_edit(l)->log_epoch_state = LOG_EPOCH_WANTED;
    if (result != ERR_CANCELLED)
        not_written(l, result < 0 ? result : ERR_IO);
    return 0;
}
