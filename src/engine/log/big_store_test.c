/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/big_store_test.h"

#include "base/err.h"
#include "engine/log/frame_disk.h"
#include "engine/log/log_priv.h"
#include "engine/log/record_disk.h"
#include "engine/log/segment_disk.h"
#include "engine/log/store_disk.h"

static int write_block(const struct file_system *fs, int file, const uint8_t *block, uint64_t at) {
    int64_t n = fs->ops->write(fs->ctx, file, block, BLOCK_BYTES, at);
    return n == (int64_t)BLOCK_BYTES ? 0 : n < 0 ? (int)n : ERR_IO;
}

/* The store is one that was in use, in an epoch of its own. */
static int take_header(const struct file_system *fs, uint64_t end_ns, struct store_header *h) {
    uint8_t blocks[STORE_COPIES * BLOCK_BYTES], block[BLOCK_BYTES];
    int file = fs->ops->open(fs->ctx, STORE_FILE, FILE_WRITE);
    if (file < 0)
        return file;
    int64_t n = fs->ops->read(fs->ctx, file, blocks, sizeof blocks, 0);
    int err = n == (int64_t)sizeof blocks ? store_decode_copies(blocks, h) : ERR_IO;
    if (err == 0) {
        h->counter++;
        h->epoch++;
        h->state = STORE_IN_USE;
        h->store_time_ns = h->wall_time_ns = end_ns;
        store_encode(h, block);
        err = write_block(fs, file, block, h->counter % STORE_COPIES * BLOCK_BYTES);
    }
    if (err == 0)
        err = fs->ops->sync(fs->ctx, file);
    fs->ops->close(fs->ctx, file);
    return err;
}

static int make_segment(const struct file_system *fs, const struct store_header *store, uint32_t i,
                        uint64_t begin_ns, struct frame_name *previous) {
    uint8_t block[BLOCK_BYTES] = {0};
    char path[LOG_PATH_BYTES];
    uint32_t file_number = BIG_STORE_FILE + i, number = BIG_STORE_NUMBER + i;
    uint64_t time_ns = begin_ns + i * NS_PER_S;
    log_slot_path(file_number, path);
    int file = fs->ops->open(fs->ctx, path, FILE_WRITE | FILE_CREATE);
    if (file < 0)
        return file;
    struct segment_header h = {.segment = number,
                               .file = file_number,
                               .epoch = store->epoch,
                               .wall_ns = time_ns,
                               .segment_bytes = store->segment_bytes};
    memcpy(h.store_id, store->id, STORE_ID_BYTES);
    segment_header_encode(&h, block);
    int err = write_block(fs, file, block, 0);

    memset(block, 0, sizeof block);
    struct record r = {.kind = PLACE_HOLE,
                       .timeline = 1,
                       .family = 1,
                       .sectors = BLOCK_BYTES / SECTOR_BYTES,
                       .blocks = 1};
    struct frame_header f = {.segment = number,
                             .offset = SEGMENT_FRAMES_OFFSET,
                             .length_bytes = BLOCK_BYTES,
                             .epoch = store->epoch,
                             .previous = *previous,
                             .records = 1,
                             .follows = big_store_sequence(i) - 1,
                             .first_sequence = big_store_sequence(i),
                             .time_ns = time_ns,
                             .wall_ns = time_ns,
                             .catalogue = store->catalogue,
                             .wall = {begin_ns, begin_ns, begin_ns, WALL_EVEN, 0}};
    f.record_bytes = record_encode(&r, NULL, block + FRAME_RECORDS_OFFSET);
    memcpy(f.store_id, store->id, STORE_ID_BYTES);
    f.crc = frame_header_encode(&f, block);
    if (err == 0)
        err = write_block(fs, file, block, SEGMENT_FRAMES_OFFSET);

    struct segment_footer end = {
        .segment = number,
        .file = file_number,
        .data_end = SEGMENT_FRAMES_OFFSET + BLOCK_BYTES,
        .run_offset = store->segment_bytes - BLOCK_BYTES,
        .versions = 1,
        .first_sequence = f.first_sequence,
        .last_sequence = f.first_sequence,
        .first_time_ns = time_ns,
        .last_time_ns = time_ns,
        .first_wall_ns = time_ns,
        .last_wall_ns = time_ns,
        .first_epoch = store->epoch,
        .last_epoch = store->epoch,
        .frames = 1,
        .records = 1,
        .sample_count = 1,
        .family_count = 1,
        .previous = *previous,
        .follows = f.follows,
        .last_frame_offset = SEGMENT_FRAMES_OFFSET,
        .last_frame_crc = f.crc,
        .catalogue = store->catalogue,
        .families = {1},
        .samples = {{SEGMENT_FRAMES_OFFSET, 0, f.first_sequence, time_ns, time_ns}},
        .wall_count = 1,
        .wall = {f.wall}};
    memcpy(end.store_id, store->id, STORE_ID_BYTES);
    footer_encode(&end, block);
    if (err == 0)
        err = write_block(fs, file, block, store->segment_bytes - BLOCK_BYTES);
    if (err == 0)
        err = fs->ops->sync(fs->ctx, file);
    fs->ops->close(fs->ctx, file);
    *previous = (struct frame_name){number, SEGMENT_FRAMES_OFFSET, f.crc};
    return err;
}

int big_store_make(const struct file_system *fs, uint32_t segments, uint64_t begin_ns) {
    struct store_header store;
    struct frame_name previous = {0};
    int err = take_header(fs, begin_ns + segments * NS_PER_S, &store);
    for (uint32_t i = 0; i < segments && err == 0; i++)
        err = make_segment(fs, &store, i, begin_ns, &previous);
    return err == 0 ? fs->ops->sync_dir(fs->ctx, LOG_DIR) : err;
}

static uint32_t run_bytes_max(void *ctx, uint32_t records, uint32_t blocks) {
    return BLOCK_BYTES;
}
static int begin(void *ctx, struct segment_h segment) {
    return 0;
}
static int append(void *ctx, struct segment_h segment, const struct version *v) {
    return 0;
}
static void moved(void *ctx, struct segment_h segment, const struct version *v) {
}
static void seal(void *ctx, struct segment_h segment, int now) {
}

static void freed(void *ctx, struct segment_h segment) {
}

const struct log_index_ops big_store_no_index = {run_bytes_max, begin, append, moved,
                                                 seal,          begin, freed};
