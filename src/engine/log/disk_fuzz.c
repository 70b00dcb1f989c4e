/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes on a disk: what decodes is within bounds, and decodes again to the same after it was
 * written. Checksums and magic words are put right, so that what is behind them is reached.
 *
 *   0   1  0: store header; 1: segment header; 2: footer; 3: frame
 *   1   1  frame: pages behind the header, which repeat what follows
 *   2      the block from offset 8 on; zeroes behind it
 */
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/log/frame_disk.h"
#include "engine/log/segment_disk.h"
#include "engine/log/store_disk.h"

#define SEGMENT_BYTES (64u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(uint8_t *block, const char *magic, const uint8_t *data, size_t size) {
    memset(block, 0, BLOCK_BYTES);
    memcpy(block + 8, data, size < BLOCK_BYTES - 8 ? size : BLOCK_BYTES - 8);
    memcpy(block, magic, 8);
    block_finish(block);
}

static void store_header(uint8_t *block) {
    struct store_header h, again;
    if (store_decode(block, &h) != 0)
        return;
    memset(&again, 0, sizeof again);
    store_encode(&h, block);
    must(store_decode(block, &again) == 0 && again.epoch == h.epoch && again.state == h.state);
    must(h.segment_bytes >= SEGMENT_BYTES_MIN && h.segment_bytes <= SEGMENT_BYTES_MAX);
}

static void segment_header(uint8_t *block) {
    struct segment_header h, again;
    if (segment_header_decode(block, &h) != 0)
        return;
    segment_header_encode(&h, block);
    must(segment_header_decode(block, &again) == 0 && again.segment == h.segment);
}

static void footer(uint8_t *block) {
    struct segment_footer f, again;
    if (footer_decode(block, SEGMENT_BYTES, &f) != 0)
        return;
    must(f.run_offset + (uint64_t)f.run_bytes <= SEGMENT_BYTES - BLOCK_BYTES);
    footer_encode(&f, block);
    must(footer_decode(block, SEGMENT_BYTES, &again) == 0);
    must(memcmp(&f, &again, sizeof f) == 0);
}

struct pages {
    uint8_t *bytes;
    uint32_t count;
};

static const uint8_t *page_of(void *ctx, uint32_t page) {
    const struct pages *p = ctx;
    return page < p->count ? p->bytes + (size_t)page * BLOCK_BYTES : NULL;
}

static void frame(struct pages *p) {
    struct frame_header h;
    struct frame_walk w;
    uint32_t records = 0, data_page = 1;
    if (frame_header_decode(p->bytes, SEGMENT_BYTES, &h) != 0)
        return;
    must(h.offset + (uint64_t)h.length_bytes <= SEGMENT_BYTES - BLOCK_BYTES);
    frame_walk_begin(&w, &h, page_of, p);
    w.check_crc = 0;
    while (frame_walk_next(&w) > 0) {
        must(record_check(&w.record) == 0);
        must(w.record_page >= data_page);
        data_page = w.record_page + record_pages(&w.record);
        must(data_page <= h.length_bytes / BLOCK_BYTES);
        must(w.record_sequence == h.first_sequence + records);
        records++;
    }
    must(records <= h.records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const magics[] = {"PrdStore", "PrdSegmt", "PrdFootr", "PrdFrame"};
    if (size < 2)
        return 0;
    uint32_t kind = data[0] % 4;
    struct pages p = {.count = 1u + (kind == 3 ? data[1] : 0u)};
    p.bytes = calloc(p.count, BLOCK_BYTES);
    must(p.bytes != NULL);
    fill(p.bytes, magics[kind], data + 2, size - 2);
    for (uint32_t i = 1; i < p.count; i++) {
        memcpy(p.bytes + (size_t)i * BLOCK_BYTES, "PrdR", 4);
        memcpy(p.bytes + (size_t)i * BLOCK_BYTES + 4, data + 2,
               size - 2 < BLOCK_BYTES - 4 ? size - 2 : BLOCK_BYTES - 4);
    }
    if (kind == 0)
        store_header(p.bytes);
    else if (kind == 1)
        segment_header(p.bytes);
    else if (kind == 2)
        footer(p.bytes);
    else
        frame(&p);
    free(p.bytes);
    return 0;
}
