/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/frame_disk.h"

#include "base/err.h"

#define FRAME_MAGIC "PrdFrame"
#define BLOCK_MAGIC "PrdR"
#define VERSION 1u

uint32_t frame_header_encode(const struct frame_header *h, uint8_t *block) {
    memset(block, 0, FRAME_RECORDS_OFFSET);
    memcpy(block, FRAME_MAGIC, 8);
    put_le16(block + 8, VERSION);
    memcpy(block + BLOCK_ID_OFFSET, h->store_id, STORE_ID_BYTES);
    put_le32(block + 36, h->segment);
    put_le32(block + 40, h->offset);
    put_le32(block + 44, h->length_bytes);
    put_le64(block + 48, h->epoch);
    put_le32(block + 56, h->previous.segment);
    put_le32(block + 60, h->previous.offset);
    put_le32(block + 64, h->previous.crc);
    put_le32(block + 68, h->records);
    put_le64(block + 72, h->follows);
    put_le64(block + 80, h->first_sequence);
    put_le64(block + 88, h->durable);
    put_le64(block + 96, h->time_ns);
    put_le64(block + 104, h->wall_ns);
    put_le32(block + 112, h->data_pages);
    put_le32(block + 116, h->record_bytes);
    put_le32(block + 120, h->next_page);
    put_le32(block + 124, h->next_crc);
    put_le64(block + 128, h->catalogue);
    wall_span_encode(&h->wall, block + FRAME_WALL_OFFSET);
    uint32_t used = FRAME_RECORDS_OFFSET + h->record_bytes;
    memset(block + used, 0, BLOCK_BYTES - used);
    return block_finish(block);
}

static int header_is_possible(const struct frame_header *h, uint32_t segment_bytes) {
    uint32_t end = segment_bytes - BLOCK_BYTES;
    if (h->segment == 0 || h->records == 0 || h->first_sequence == 0 ||
        h->follows >= h->first_sequence || h->first_sequence > UINT64_MAX - h->records)
        return 0;
    if (h->offset < SEGMENT_FRAMES_OFFSET || h->offset % BLOCK_BYTES != 0 || h->offset > end ||
        h->length_bytes == 0 || h->length_bytes % BLOCK_BYTES != 0 ||
        h->length_bytes > FRAME_BYTES_MAX || h->length_bytes > end - h->offset)
        return 0;
    return h->record_bytes > 0 && h->record_bytes <= BLOCK_BYTES - FRAME_RECORDS_OFFSET &&
           h->data_pages < h->length_bytes / BLOCK_BYTES;
}

int frame_header_decode(const uint8_t *block, uint32_t segment_bytes, struct frame_header *h) {
    if (!block_checks(block, FRAME_MAGIC))
        return ERR_FORMAT;
    if (get_le16(block + 8) != VERSION || get_le16(block + 32) != 0)
        return ERR_UNSUPPORTED;
    h->crc = get_le32(block + BLOCK_CRC_OFFSET);
    memcpy(h->store_id, block + BLOCK_ID_OFFSET, STORE_ID_BYTES);
    h->segment = get_le32(block + 36);
    h->offset = get_le32(block + 40);
    h->length_bytes = get_le32(block + 44);
    h->epoch = get_le64(block + 48);
    h->previous =
        (struct frame_name){get_le32(block + 56), get_le32(block + 60), get_le32(block + 64)};
    h->records = get_le32(block + 68);
    h->follows = get_le64(block + 72);
    h->first_sequence = get_le64(block + 80);
    h->durable = get_le64(block + 88);
    h->time_ns = get_le64(block + 96);
    h->wall_ns = get_le64(block + 104);
    h->data_pages = get_le32(block + 112);
    h->record_bytes = get_le32(block + 116);
    h->next_page = get_le32(block + 120);
    h->next_crc = get_le32(block + 124);
    h->catalogue = get_le64(block + 128);
    wall_span_decode(block + FRAME_WALL_OFFSET, &h->wall);
    return header_is_possible(h, segment_bytes) ? 0 : ERR_FORMAT;
}

uint32_t frame_block_encode(uint8_t *block, uint32_t bytes, uint32_t next_page, uint32_t next_crc) {
    memcpy(block, BLOCK_MAGIC, 4);
    put_le32(block + 4, bytes);
    put_le32(block + 8, next_page);
    put_le32(block + 12, next_crc);
    uint32_t used = FRAME_BLOCK_RECORDS_OFFSET + bytes;
    memset(block + used, 0, BLOCK_BYTES - used);
    return crc32c(0, block, BLOCK_BYTES);
}

void frame_walk_begin(struct frame_walk *w, const struct frame_header *h,
                      const uint8_t *(*page)(void *ctx, uint32_t page), void *ctx) {
    w->page = page;
    w->ctx = ctx;
    w->pages = h->length_bytes / BLOCK_BYTES;
    w->records = h->records;
    w->block = page(ctx, 0);
    w->at = FRAME_RECORDS_OFFSET;
    w->end = FRAME_RECORDS_OFFSET + h->record_bytes;
    w->next_page = h->next_page;
    w->next_crc = h->next_crc;
    w->check_crc = 1;
    w->data_page = 1;
    w->sequence = h->first_sequence;
}

/* Record blocks stand where their first record's data would begin, so a chain cannot go round. */
static int next_block(struct frame_walk *w) {
    if (w->next_page != w->data_page || w->next_page >= w->pages)
        return ERR_FORMAT;
    w->block = w->page(w->ctx, w->next_page);
    if (!w->block)
        return ERR_FORMAT;
    if (w->check_crc && crc32c(0, w->block, BLOCK_BYTES) != w->next_crc)
        return ERR_INTEGRITY;
    uint32_t bytes = get_le32(w->block + 4);
    if (memcmp(w->block, BLOCK_MAGIC, 4) != 0 || bytes == 0 ||
        bytes > BLOCK_BYTES - FRAME_BLOCK_RECORDS_OFFSET)
        return ERR_FORMAT;
    w->at = FRAME_BLOCK_RECORDS_OFFSET;
    w->end = w->at + bytes;
    w->next_page = get_le32(w->block + 8);
    w->next_crc = get_le32(w->block + 12);
    w->data_page++;
    return 0;
}

int frame_walk_next(struct frame_walk *w) {
    if (!w->block)
        return ERR_FORMAT;
    if (w->records == 0)
        return w->at == w->end && w->next_page == 0 && w->data_page == w->pages ? 0 : ERR_FORMAT;
    if (w->at == w->end) {
        int err = next_block(w);
        if (err < 0)
            return err;
    }
    int bytes = record_decode(w->block + w->at, w->end - w->at, &w->record, w->crc);
    if (bytes < 0)
        return bytes;
    uint32_t pages = record_pages(&w->record);
    if (pages > w->pages - w->data_page)
        return ERR_FORMAT;
    w->at += (uint32_t)bytes;
    w->records--;
    w->record_page = w->data_page;
    w->data_page += pages;
    w->record_sequence = w->sequence++;
    return 1;
}
