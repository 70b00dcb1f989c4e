/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/frame.h"

#include "base/err.h"

LAYOUT_FIELDS(frame, FRAME_FIELDS)
extern const struct arena_table_spec frame_spec;
const struct arena_table_spec frame_spec = TABLE_SPEC(frame, TABLE_FRAME, 1);

#define HEADER_RECORD_BYTES_AT 116u
#define BLOCK_RECORD_BYTES_AT 4u

int frame_has_room(const struct frame *f, uint32_t record_bytes, uint32_t data_pages,
                   uint32_t max_bytes) {
    uint32_t blocks = frame_needs_block(f, record_bytes) ? 1 : 0;
    return (f->pages + blocks + data_pages) * BLOCK_BYTES <= max_bytes &&
           f->extents + blocks + data_pages <= FRAME_EXTENTS_MAX;
}

uint32_t frame_buffer_page(const struct frame *f, uint32_t page) {
    uint32_t at = 0;
    must(page < f->pages);
    if (f->extents == f->pages)
        return f->extent[page].first;
    for (uint32_t i = 0; i < f->extents; i++) {
        uint32_t pages = frame_extent_pages(f->extent[i]);
        if (page - at < pages)
            return f->extent[i].first + (page - at);
        at += pages;
    }
    must(!"a frame has the pages that it says");
    return 0;
}

static uint32_t head_bytes(const struct frame *f, uint32_t buffer_page) {
    return buffer_page == f->extent[0].first ? FRAME_RECORDS_OFFSET : FRAME_BLOCK_RECORDS_OFFSET;
}

static unsigned char *page_at(unsigned char *data, uint32_t buffer_page) {
    return data + (uint64_t)buffer_page * BLOCK_BYTES;
}

void frame_leave_block(const struct frame *f, unsigned char *data) {
    uint32_t head = head_bytes(f, f->block_page);
    uint32_t at = head == FRAME_RECORDS_OFFSET ? HEADER_RECORD_BYTES_AT : BLOCK_RECORD_BYTES_AT;
    put_le32(page_at(data, f->block_page) + at, f->block_end - head);
}

int frame_finish_blocks(const struct frame *f, unsigned char *data, struct frame_header *h) {
    uint32_t page = f->pages, next_page = 0, next_crc = 0;
    for (uint32_t i = f->extents; i-- > 0;) {
        if (frame_extent_pages(f->extent[i]) > page)
            return ERR_FORMAT;
        page -= frame_extent_pages(f->extent[i]);
        if (i > 0 && !(f->extent[i].pages & FRAME_RECORD_BLOCK))
            continue;
        uint32_t buffer_page = f->extent[i].first, head = head_bytes(f, buffer_page);
        uint8_t *block = page_at(data, buffer_page);
        uint32_t bytes = buffer_page == f->block_page ? f->block_end - head
                         : i == 0                     ? get_le32(block + HEADER_RECORD_BYTES_AT)
                                                      : get_le32(block + BLOCK_RECORD_BYTES_AT);
        if (frame_extent_pages(f->extent[i]) != 1 || bytes == 0 || bytes > BLOCK_BYTES - head)
            return ERR_FORMAT;
        if (i > 0) {
            next_crc = frame_block_encode(block, bytes, next_page, next_crc);
            next_page = page;
        } else {
            h->record_bytes = bytes;
            wall_span_decode(block + FRAME_WALL_OFFSET, &h->wall);
        }
    }
    if (page != 0)
        return ERR_FORMAT;
    h->next_page = next_page;
    h->next_crc = next_crc;
    memcpy(h->store_id, f->store_id, STORE_ID_BYTES);
    h->segment = f->segment;
    h->offset = f->offset;
    h->length_bytes = frame_bytes(f);
    h->records = f->records;
    h->follows = f->follows;
    h->first_sequence = f->first_sequence;
    h->time_ns = f->time_ns;
    h->data_pages = f->data_pages;
    return 0;
}

const uint8_t *frame_page(void *frame_pages, uint32_t page) {
    const struct frame_pages *p = frame_pages;
    return p->data + (uint64_t)frame_buffer_page(p->f, page) * BLOCK_BYTES;
}
