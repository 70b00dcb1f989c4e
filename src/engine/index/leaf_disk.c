/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A leaf (docs/formats-run.md):
 *
 *   offset size
 *   0      8     identity of the run
 *   8      4     number of the leaf
 *   12     4     CRC-32C
 *   16     2     entries
 *   18     2     restarts r
 *   20     ...   entries
 *   end-2r 2r    offsets of the entries 0, 32, 64 ...: a restart entry names family and block in
 *                full and repeats timeline and segment
 *
 * An entry is a head byte and variable-length integers:
 *
 *   bits 0..2  kind (enum place_kind)      bit 5  segment as in the entry before
 *   bit  3     more than one block         bit 6  start is a multiple of 8 sectors, 8 are stored
 *   bit  4     timeline as before          bit 7  family and block in full
 *
 *   [7: family number] block (7: in full; else minus the block before), [3: blocks - 1],
 *   [not 4: timeline number], [not 5: segment number], sequence - base of the segment,
 *   DATA: [6: start / 8; else start, and a byte: stored sectors - 1 | codec << 4], 4 bytes of CRC a
 *   block; REFERENCE: timeline number, sequence - referred sequence
 */
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/must.h"
#include "base/varint.h"
#include "engine/index/run_disk.h"

#define ENTRIES_AT 20u
#define ENTRY_BYTES_MAX (16u + 6 * VARINT_MAX_BYTES + 4 * CHUNK_BLOCKS)
#define PLACE_CODEC(place) ((uint32_t)((place) >> 21 & 3))

enum head_bit {
    HEAD_MULTI = 1 << 3,
    HEAD_SAME_TIMELINE = 1 << 4,
    HEAD_SAME_SEGMENT = 1 << 5,
    HEAD_PLAIN = 1 << 6,
    HEAD_FULL = 1 << 7,
};

void leaf_begin(struct leaf_writer *w, uint8_t *page, uint64_t identity) {
    memset(page, 0, RUN_PAGE_BYTES);
    *w = (struct leaf_writer){.page = page, .identity = identity, .at = ENTRIES_AT};
}

static int place_is_plain(uint64_t place) {
    return PLACE_CODEC(place) == 0 && place_stored_bytes(place) == BLOCK_BYTES &&
           place_offset_bytes(place) % BLOCK_BYTES == 0;
}

static size_t encode_place(uint8_t *p, uint64_t place, int plain) {
    uint32_t start = place_offset_bytes(place) / SECTOR_BYTES;
    if (plain)
        return varint_put(p, start / PLACE_FULL_BLOCK_SECTORS);
    size_t n = varint_put(p, start);
    p[n] = (uint8_t)((place_stored_bytes(place) / SECTOR_BYTES - 1) | PLACE_CODEC(place) << 4);
    return n + 1;
}

static size_t encode_entry(const struct leaf_writer *w, const struct run_entry *e,
                           const struct leaf_numbers *n, int restart, uint8_t *p) {
    enum place_kind kind = place_kind(e->place);
    int full = restart || n->family != w->last_family;
    int same_timeline = !restart && n->timeline == w->last_timeline;
    int same_segment = !restart && n->segment == w->last_segment;
    int plain = kind == PLACE_DATA && place_is_plain(e->place);
    size_t at = 1;
    p[0] = (uint8_t)(kind | (e->blocks > 1 ? HEAD_MULTI : 0) |
                     (same_timeline ? HEAD_SAME_TIMELINE : 0) |
                     (same_segment ? HEAD_SAME_SEGMENT : 0) | (plain ? HEAD_PLAIN : 0) |
                     (full ? HEAD_FULL : 0));
    if (full)
        at += varint_put(p + at, n->family);
    at += varint_put(p + at, full ? e->block : e->block - w->last.block);
    if (e->blocks > 1)
        p[at++] = (uint8_t)(e->blocks - 1);
    if (!same_timeline)
        at += varint_put(p + at, n->timeline);
    if (!same_segment)
        at += varint_put(p + at, n->segment);
    must(e->sequence >= n->base_sequence);
    at += varint_put(p + at, e->sequence - n->base_sequence);
    if (kind == PLACE_DATA) {
        at += encode_place(p + at, e->place, plain);
        for (uint32_t i = 0; i < e->blocks; i++, at += 4)
            put_le32(p + at, e->crc[i]);
    } else if (kind == PLACE_REFERENCE) {
        must(e->ref_sequence < e->sequence);
        at += varint_put(p + at, n->ref_timeline);
        at += varint_put(p + at, e->sequence - e->ref_sequence);
    }
    return at;
}

int leaf_add(struct leaf_writer *w, const struct run_entry *e, const struct leaf_numbers *n) {
    uint8_t bytes[ENTRY_BYTES_MAX];
    int restart = w->entries % RUN_RESTART_ENTRIES == 0;
    size_t size = encode_entry(w, e, n, restart, bytes);
    if (w->at + size + 2u * (w->restarts + (restart ? 1 : 0)) > RUN_PAGE_BYTES)
        return 0;
    if (restart)
        w->restart[w->restarts++] = (uint16_t)w->at;
    memcpy(w->page + w->at, bytes, size);
    w->at += (uint32_t)size;
    w->entries++;
    w->last = *e;
    w->last_family = n->family;
    w->last_timeline = n->timeline;
    w->last_segment = n->segment;
    return 1;
}

void leaf_end(struct leaf_writer *w, uint32_t number) {
    must(w->entries > 0);
    put_le64(w->page, w->identity);
    put_le32(w->page + 8, number);
    put_le16(w->page + 16, (uint16_t)w->entries);
    put_le16(w->page + 18, (uint16_t)w->restarts);
    for (uint32_t i = 0; i < w->restarts; i++)
        put_le16(w->page + RUN_PAGE_BYTES - 2 * (w->restarts - i), w->restart[i]);
    put_le32(w->page + 12, crc32c(0, w->page, RUN_PAGE_BYTES));
}

/* Decoding. A varint that is cut off, or a number that no table has, is ERR_FORMAT. */
static int get(struct leaf_reader *r, uint64_t *v) {
    size_t n = varint_get(r->page + r->at, r->page + r->end, v);
    r->at += (uint32_t)n;
    return n ? 0 : ERR_FORMAT;
}
static int get_number(struct leaf_reader *r, uint32_t count, uint32_t *number) {
    uint64_t v;
    if (get(r, &v) < 0 || v >= count)
        return ERR_FORMAT;
    *number = (uint32_t)v;
    return 0;
}
static int get_byte(struct leaf_reader *r, uint32_t *v) {
    if (r->at >= r->end)
        return ERR_FORMAT;
    *v = r->page[r->at++];
    return 0;
}

static int decode_data(struct leaf_reader *r, int plain) {
    uint64_t start;
    uint32_t shape = PLACE_FULL_BLOCK_SECTORS - 1;
    if (get(r, &start) < 0 || start > 0x1ffff)
        return ERR_FORMAT;
    if (plain)
        start *= PLACE_FULL_BLOCK_SECTORS;
    else if (get_byte(r, &shape) < 0 || shape > 0x3f)
        return ERR_FORMAT;
    uint64_t sectors =
        (uint64_t)(r->entry.blocks - 1) * PLACE_FULL_BLOCK_SECTORS + (shape & 15) + 1;
    if (start + sectors > 0x20000 || 4 * r->entry.blocks > r->end - r->at)
        return ERR_FORMAT;
    r->entry.place = (uint64_t)r->entry.segment << 32 | (uint64_t)PLACE_DATA << 23 |
                     (uint64_t)shape << 17 | start;
    r->crc = r->page + r->at;
    r->at += 4 * r->entry.blocks;
    return 0;
}

static int decode_reference(struct leaf_reader *r) {
    uint32_t number;
    uint64_t back;
    if (get_number(r, r->tables->timeline_count, &number) < 0 || get(r, &back) < 0 || back == 0 ||
        back > r->entry.sequence)
        return ERR_FORMAT;
    r->entry.ref_timeline = get_le32(r->tables->timelines + number * RUN_TIMELINE_BYTES);
    r->entry.ref_sequence = r->entry.sequence - back;
    return 0;
}

static int decode_key(struct leaf_reader *r, uint32_t head) {
    struct run_entry *e = &r->entry;
    uint64_t block;
    uint32_t more = 0;
    if (!(head & HEAD_FULL) && !r->started)
        return ERR_FORMAT;
    if ((head & HEAD_FULL) && get_number(r, r->tables->family_count, &r->family) < 0)
        return ERR_FORMAT;
    if (get(r, &block) < 0)
        return ERR_FORMAT;
    block = head & HEAD_FULL ? block : e->block + block;
    if (block >= UINT64_C(1) << 52 || ((head & HEAD_MULTI) && get_byte(r, &more) < 0) ||
        block % CHUNK_BLOCKS + more >= CHUNK_BLOCKS)
        return ERR_FORMAT;
    e->family = get_le32(r->tables->families + r->family * RUN_FAMILY_BYTES);
    e->block = block;
    e->blocks = more + 1;
    return 0;
}

static int decode_version(struct leaf_reader *r, uint32_t head) {
    const struct run_tables *t = r->tables;
    struct run_entry *e = &r->entry;
    uint64_t offset;
    if (!r->started && (head & (HEAD_SAME_TIMELINE | HEAD_SAME_SEGMENT)))
        return ERR_FORMAT;
    if (!(head & HEAD_SAME_TIMELINE) && get_number(r, t->timeline_count, &r->timeline) < 0)
        return ERR_FORMAT;
    if (!(head & HEAD_SAME_SEGMENT) && get_number(r, t->segment_count, &r->segment) < 0)
        return ERR_FORMAT;
    e->timeline = get_le32(t->timelines + r->timeline * RUN_TIMELINE_BYTES);
    e->segment = get_le32(t->segments + r->segment * RUN_SEGMENT_BYTES);
    uint64_t base = get_le64(t->segments + r->segment * RUN_SEGMENT_BYTES + 8);
    if (get(r, &offset) < 0 || offset > UINT64_MAX - base)
        return ERR_FORMAT;
    e->sequence = base + offset;
    return 0;
}

int leaf_next(struct leaf_reader *r) {
    uint32_t head;
    if (r->left == 0)
        return 0;
    if (get_byte(r, &head) < 0 || decode_key(r, head) < 0 || decode_version(r, head) < 0)
        return ERR_FORMAT;
    r->left--;
    r->started = 1;
    r->entry.place = place_of_kind((enum place_kind)(head & 7));
    r->crc = NULL;
    switch (head & 7) {
    case PLACE_DATA:
        return decode_data(r, (head & HEAD_PLAIN) != 0) < 0 ? ERR_FORMAT : 1;
    case PLACE_REFERENCE:
        return decode_reference(r) < 0 ? ERR_FORMAT : 1;
    case PLACE_ZERO:
    case PLACE_HOLE:
        return 1;
    default:
        return ERR_FORMAT;
    }
}

/* Family number and block of a restart entry. */
static int restart_key(struct leaf_reader *r, uint32_t offset, uint64_t *family, uint64_t *block) {
    uint32_t head;
    r->at = offset;
    if (get_byte(r, &head) < 0 || !(head & HEAD_FULL) || get(r, family) < 0 || get(r, block) < 0)
        return ERR_FORMAT;
    return 0;
}

int leaf_seek(struct leaf_reader *r, const struct run_tables *t, const uint8_t *page,
              uint32_t family, uint64_t block) {
    uint32_t entries = get_le16(page + 16), restarts = get_le16(page + 18);
    if (restarts == 0 || restarts * 2 > RUN_PAGE_BYTES - ENTRIES_AT ||
        restarts != (entries + RUN_RESTART_ENTRIES - 1) / RUN_RESTART_ENTRIES)
        return ERR_FORMAT;
    *r = (struct leaf_reader){.tables = t, .page = page, .end = RUN_PAGE_BYTES - 2 * restarts};
    /* The last restart that is smaller; equal keys may stand before an equal restart. */
    uint32_t low = 0, high = restarts;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t offset = get_le16(page + r->end + 2 * middle);
        uint64_t f, b;
        if (offset < ENTRIES_AT || restart_key(r, offset, &f, &b) < 0)
            return ERR_FORMAT;
        if (f < family || (f == family && b < block))
            low = middle;
        else
            high = middle;
    }
    r->at = get_le16(page + r->end + 2 * low);
    if (r->at < ENTRIES_AT)
        return ERR_FORMAT;
    r->left = entries - low * RUN_RESTART_ENTRIES;
    return 0;
}
