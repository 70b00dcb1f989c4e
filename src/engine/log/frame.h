/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A frame in the arena: from its first record until it is durable. FROZEN: a cold start after a
 * crash reads these slots of a build that it knows nothing else of (log/salvage.c). What is changed
 * needs a new table version and a reader of both.
 *
 * A frame is a list of pages: page 0 is the header, then data and further record blocks in the order
 * in which they were added (docs/formats.md). The pages lie in buffers; `pages` lists them as
 * extents, and an extent with FRAME_RECORD_BLOCK is one record block.
 *
 *  1. Record bytes are written beyond the committed end of the records only, so a turn that is
 *     rolled back leaves no trace that is looked at. A record block's own head is written when the
 *     next one begins and when the frame is submitted; before, the slot says what is in it.
 *  2. The header is written in the turn that submits the frame, and then nothing in it changes.
 *     Where the header will have the span of the wall clock, the span is from the beginning.
 *  3. Frames are in the order of their sequence numbers; at most one is WRITING, and it is the
 *     oldest; at most one is OPEN, and it is the newest.
 */
#ifndef ENGINE_LOG_FRAME_H
#define ENGINE_LOG_FRAME_H

#include "arena/arena.h"
#include "arena/buffer.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "engine/log/frame_disk.h"

enum frame_state { FRAME_OPEN = 1, FRAME_CLOSED = 2, FRAME_WRITING = 3 };

#define FRAME_EXTENTS_MAX 288u
#define FRAME_RECORD_BLOCK 0x80000000u

#define FRAME_FIELDS(F, A)                                                                         \
    A(uint8_t, store_id, 16)                                                                       \
    F(uint64_t, first_sequence)                                                                    \
    F(uint64_t, follows) /* the number before the first */                                         \
    F(uint64_t, time_ns) /* store time of the first record */                                      \
    F(uint64_t, opened_ns)                                                                         \
    F(uint32_t, segment)                                                                           \
    F(uint32_t, offset)                                                                            \
    F(uint32_t, segment_slot) /* handle */                                                         \
    F(uint32_t, header_crc)   /* WRITING */                                                        \
    F(uint64_t, wall_ns)      /* WRITING */                                                        \
    F(uint32_t, records)                                                                           \
    F(uint32_t, records_crc) /* CRC-32C of all records, one behind the other */                    \
    F(uint32_t, pages)       /* with the header */                                                 \
    F(uint32_t, extents)                                                                           \
    F(uint32_t, data_pages)                                                                        \
    F(uint32_t, last_delta_us)                                                                     \
    F(uint32_t, block_page) /* buffer page of the newest record block */                           \
    F(uint32_t, block_end)  /* bytes used in it, with its head */                                  \
    A(struct extent, extent, FRAME_EXTENTS_MAX)
HANDLE(frame)
SLOT_STRUCT(frame, FRAME_FIELDS)
SLOT_TABLE(frame, TABLE_FRAME)

static inline uint32_t frame_extent_pages(struct extent e) {
    return e.pages & ~FRAME_RECORD_BLOCK;
}
static inline uint32_t frame_bytes(const struct frame *f) {
    return f->pages * BLOCK_BYTES;
}
static inline uint64_t frame_last(const struct frame *f) {
    return f->first_sequence + f->records - 1;
}

/* Whether a record of so many bytes and data pages can be added, within max_bytes. */
int frame_has_room(const struct frame *f, uint32_t record_bytes, uint32_t data_pages,
                   uint32_t max_bytes);
/* Whether it needs a record block of its own. */
static inline int frame_needs_block(const struct frame *f, uint32_t record_bytes) {
    return f->block_end + record_bytes > BLOCK_BYTES;
}

/* Page `page` of the frame as a buffer page; page < f->pages. */
uint32_t frame_buffer_page(const struct frame *f, uint32_t page);

/* When a further record block begins at frame page `page`: the head of the former one is written. */
void frame_leave_block(const struct frame *f, unsigned char *data);

/* Writes the heads of all record blocks behind the first, so that the frame can be walked, and what
 * the slot knows into the header: lengths, counts, sequence numbers, record bytes, the next block.
 * `data` are the buffers that the extents name. ERR_FORMAT: the slot or the heads of earlier blocks
 * contradict each other, which only a foreign arena can show. */
int frame_finish_blocks(const struct frame *f, unsigned char *data, struct frame_header *h);

/* Walks a frame after frame_finish_blocks. */
struct frame_pages {
    const struct frame *f;
    const unsigned char *data;
};
const uint8_t *frame_page(void *frame_pages, uint32_t page);

#endif
