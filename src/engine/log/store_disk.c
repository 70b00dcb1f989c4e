/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/store_disk.h"

#include "base/err.h"

#define MAGIC "PrdStore"

void store_encode(const struct store_header *h, uint8_t *block) {
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, MAGIC, 8);
    put_le32(block + 8, STORE_VERSION);
    memcpy(block + BLOCK_ID_OFFSET, h->id, STORE_ID_BYTES);
    put_le64(block + 32, h->counter);
    put_le64(block + 40, h->features_refuse);
    put_le64(block + 48, h->features_read_only);
    put_le64(block + 56, h->features_ignore);
    put_le64(block + 64, h->epoch);
    put_le32(block + 72, h->segment_bytes);
    put_le32(block + 76, h->segment_records);
    put_le64(block + 80, h->created_ns);
    put_le64(block + 88, h->ended.epoch);
    put_le32(block + 96, h->ended.segment);
    put_le32(block + 100, h->ended.offset);
    put_le64(block + 104, h->ended.sequence);
    put_le32(block + 112, h->state);
    put_le64(block + 120, h->numbers_above);
    put_le64(block + 128, h->store_time_ns);
    put_le64(block + 136, h->wall_time_ns);
    put_le64(block + 144, h->catalogue);
    put_le32(block + 152, h->left_out);
    put_le64(block + 160, h->scrub.began_ns);
    put_le64(block + 168, h->scrub.ended_ns);
    put_le64(block + 176, h->scrub.bytes);
    put_le32(block + 184, h->scrub.segment);
    put_le32(block + 188, h->scrub.files);
    put_le32(block + 192, h->scrub.damaged);
    put_le32(block + 196, h->scrub.mended);
    block_finish(block);
}

int store_decode(const uint8_t *block, struct store_header *h) {
    if (!block_checks(block, MAGIC))
        return ERR_FORMAT;
    if (get_le32(block + 8) != STORE_VERSION)
        return ERR_UNSUPPORTED;
    memcpy(h->id, block + BLOCK_ID_OFFSET, STORE_ID_BYTES);
    h->counter = get_le64(block + 32);
    h->features_refuse = get_le64(block + 40);
    h->features_read_only = get_le64(block + 48);
    h->features_ignore = get_le64(block + 56);
    h->epoch = get_le64(block + 64);
    h->segment_bytes = get_le32(block + 72);
    h->segment_records = get_le32(block + 76);
    h->created_ns = get_le64(block + 80);
    h->ended = (struct log_end){.epoch = get_le64(block + 88),
                                .segment = get_le32(block + 96),
                                .offset = get_le32(block + 100),
                                .sequence = get_le64(block + 104)};
    h->state = get_le32(block + 112);
    h->numbers_above = get_le64(block + 120);
    h->store_time_ns = get_le64(block + 128);
    h->wall_time_ns = get_le64(block + 136);
    h->catalogue = get_le64(block + 144);
    h->left_out = get_le32(block + 152);
    h->scrub = (struct store_scrub){.began_ns = get_le64(block + 160),
                                    .ended_ns = get_le64(block + 168),
                                    .bytes = get_le64(block + 176),
                                    .segment = get_le32(block + 184),
                                    .files = get_le32(block + 188),
                                    .damaged = get_le32(block + 192),
                                    .mended = get_le32(block + 196)};
    if (h->features_refuse & ~STORE_FEATURES_KNOWN)
        return ERR_UNSUPPORTED;
    if (h->segment_bytes < SEGMENT_BYTES_MIN || h->segment_bytes > SEGMENT_BYTES_MAX ||
        (h->segment_bytes & (h->segment_bytes - 1)) != 0 || h->segment_records == 0)
        return ERR_FORMAT;
    if (h->features_read_only & ~STORE_FEATURES_KNOWN)
        return ERR_READONLY;
    return 0;
}

static int usable(int err) {
    return err == 0 || err == ERR_READONLY;
}

int store_decode_copies(const uint8_t *blocks, struct store_header *h) {
    struct store_header copies[STORE_COPIES];
    int errs[STORE_COPIES];
    for (uint32_t i = 0; i < STORE_COPIES; i++)
        errs[i] = store_decode(blocks + i * BLOCK_BYTES, &copies[i]);
    /* A copy of a later version is not outvoted by an older one that this program understands. */
    for (uint32_t i = 0; i < STORE_COPIES; i++)
        if (errs[i] == ERR_UNSUPPORTED)
            return ERR_UNSUPPORTED;
    uint32_t best = usable(errs[1]) && (!usable(errs[0]) || copies[1].counter > copies[0].counter);
    if (usable(errs[best]))
        *h = copies[best];
    return errs[best];
}
