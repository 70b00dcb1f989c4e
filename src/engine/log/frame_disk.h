/* SPDX-License-Identifier: Apache-2.0 */
/* A frame's header and record blocks (docs/formats.md), and the walk over a frame's records, which
 * is the same for a frame that has been read and for one that still lies in buffers. */
#ifndef ENGINE_LOG_FRAME_DISK_H
#define ENGINE_LOG_FRAME_DISK_H

#include <stdint.h>

#include "engine/log/record_disk.h"
#include "engine/log/segment_disk.h"
#include "engine/log/wall.h"

#define FRAME_BYTES_MAX (1u << 20)
#define FRAME_PAGES_MAX (FRAME_BYTES_MAX / BLOCK_BYTES)
#define FRAME_WALL_OFFSET 136u         /* in the header block: the span */
#define FRAME_RECORDS_OFFSET 192u      /* in the header block */
#define FRAME_BLOCK_RECORDS_OFFSET 16u /* in a further record block */

struct frame_header {
    uint32_t crc; /* of the block */
    uint8_t store_id[STORE_ID_BYTES];
    uint32_t segment;
    uint32_t offset;
    uint32_t length_bytes;
    uint64_t epoch;
    struct frame_name previous;
    uint32_t records;
    uint64_t follows;
    uint64_t first_sequence;
    uint64_t durable;
    uint64_t time_ns;
    uint64_t wall_ns;
    uint32_t data_pages;
    uint32_t record_bytes; /* in this block */
    uint32_t next_page;
    uint32_t next_crc;
    uint64_t catalogue;    /* transactions of the catalogue that were durable when written */
    struct wall_span wall; /* that the first record lies in; rate 0: not known */
};

static inline uint64_t frame_last_sequence(const struct frame_header *h) {
    return h->first_sequence + h->records - 1;
}
static inline struct frame_name frame_name_of(const struct frame_header *h) {
    return (struct frame_name){h->segment, h->offset, h->crc};
}

/* Writes the header in front of the records that stand in the block already, zeroes what is behind
 * them, and returns the block's CRC. */
uint32_t frame_header_encode(const struct frame_header *h, uint8_t *block);

/* ERR_FORMAT: not a frame header, damaged or impossible; ERR_UNSUPPORTED: a later version. */
int frame_header_decode(const uint8_t *block, uint32_t segment_bytes, struct frame_header *h);

/* A further record block: the same for its head; returns the CRC to be named by its predecessor. */
uint32_t frame_block_encode(uint8_t *block, uint32_t bytes, uint32_t next_page, uint32_t next_crc);

/* Going through the records of a frame. page() gives one of the frame's pages, or NULL. */
struct frame_walk {
    const uint8_t *(*page)(void *ctx, uint32_t page);
    void *ctx;
    uint32_t pages;       /* of the frame */
    uint32_t records;     /* not walked yet */
    const uint8_t *block; /* record block in hand */
    uint32_t at, end;     /* in it */
    uint32_t next_page, next_crc;
    int check_crc;      /* further blocks must match the CRC that names them */
    uint32_t data_page; /* where the next record's data begins */
    uint64_t sequence;  /* of the next record */
    struct record record;
    uint32_t crc[RECORD_BLOCKS_MAX];
    uint32_t record_page; /* where the data of `record` begins */
    uint64_t record_sequence;
};

void frame_walk_begin(struct frame_walk *w, const struct frame_header *h,
                      const uint8_t *(*page)(void *ctx, uint32_t page), void *ctx);

/* 1: `record`, `crc`, `record_page` and `record_sequence` are the next; 0: that was all;
 * ERR_FORMAT, ERR_INTEGRITY (a record block does not match its CRC). */
int frame_walk_next(struct frame_walk *w);

#endif
