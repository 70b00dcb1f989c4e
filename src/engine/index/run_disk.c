/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/run_disk.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/must.h"
#include "base/varint.h"

#define HEADER_MAGIC UINT64_C(0x6e75527849647250) /* "PrdIxRun" */
#define CRC_AT 12u
#define PARTS_AT 112u
#define PART_BYTES 24u

static uint32_t page_crc(const uint8_t *page) {
    static const uint8_t zero[4] = {0};
    uint32_t crc = crc32c(crc32c(0, page, CRC_AT), zero, sizeof zero);
    return crc32c(crc, page + CRC_AT + 4, RUN_PAGE_BYTES - CRC_AT - 4);
}

void run_header_encode(const struct run_header *h, uint8_t *p) {
    memset(p, 0, RUN_PAGE_BYTES);
    put_le64(p, HEADER_MAGIC);
    put_le16(p + 8, RUN_VERSION);
    put_le64(p + 16, h->identity);
    put_le64(p + 24, h->features_refuse);
    put_le64(p + 32, h->features_ignore);
    put_le64(p + 40, h->bytes);
    put_le32(p + 48, h->first_leaf_page);
    put_le32(p + 52, h->leaves);
    put_le64(p + 56, h->first_sequence);
    put_le64(p + 64, h->last_sequence);
    put_le64(p + 72, h->first_time_ns);
    put_le64(p + 80, h->last_time_ns);
    put_le64(p + 88, h->entries);
    put_le64(p + 96, h->blocks);
    put_le32(p + 104, h->filter_shift);
    for (uint32_t i = 0; i < RUN_SECTIONS; i++) {
        uint8_t *at = p + PARTS_AT + i * PART_BYTES;
        put_le64(at, h->parts[i].offset);
        put_le64(at + 8, h->parts[i].bytes);
        put_le32(at + 16, h->parts[i].count);
        put_le32(at + 20, h->parts[i].crc);
    }
    put_le32(p + CRC_AT, page_crc(p));
}

/* Parts follow each other between header and leaves, and are as long as their counts say. */
static int parts_are_sound(const struct run_header *h) {
    static const uint32_t unit[RUN_SECTIONS] = {RUN_FAMILY_BYTES,
                                                RUN_TIMELINE_BYTES,
                                                RUN_SEGMENT_BYTES,
                                                RUN_FENCE_BYTES,
                                                RUN_FILTER_LINE_BYTES,
                                                0,
                                                0};
    uint64_t at = RUN_PAGE_BYTES;
    for (uint32_t i = 0; i < RUN_SECTIONS; i++) {
        const struct run_part *part = &h->parts[i];
        if (part->offset < at || part->offset > h->bytes || part->bytes > h->bytes - part->offset)
            return 0;
        uint64_t most = (uint64_t)part->count *
                        (i == RUN_INTERVALS ? RUN_INTERVAL_BYTES_MAX : RUN_TIME_BYTES_MAX);
        if (unit[i] ? part->bytes != (uint64_t)part->count * unit[i] : part->bytes > most)
            return 0;
        if (part->count > part->bytes)
            return 0;
        at = part->offset + part->bytes;
    }
    return at <= (uint64_t)h->first_leaf_page * RUN_PAGE_BYTES &&
           ((uint64_t)h->first_leaf_page + h->leaves) * RUN_PAGE_BYTES == h->bytes &&
           h->filter_shift <= RUN_FILTER_SHIFT_MAX && h->parts[RUN_FENCES].count == h->leaves &&
           h->first_sequence <= h->last_sequence;
}

int run_header_decode(const uint8_t *p, struct run_header *h) {
    memset(h, 0, sizeof *h);
    if (get_le64(p) != HEADER_MAGIC || get_le32(p + CRC_AT) != page_crc(p))
        return ERR_FORMAT;
    h->identity = get_le64(p + 16);
    h->features_refuse = get_le64(p + 24);
    h->features_ignore = get_le64(p + 32);
    if (get_le16(p + 8) != RUN_VERSION || (h->features_refuse & ~RUN_FEATURES_KNOWN))
        return ERR_UNSUPPORTED;
    h->bytes = get_le64(p + 40);
    h->first_leaf_page = get_le32(p + 48);
    h->leaves = get_le32(p + 52);
    h->first_sequence = get_le64(p + 56);
    h->last_sequence = get_le64(p + 64);
    h->first_time_ns = get_le64(p + 72);
    h->last_time_ns = get_le64(p + 80);
    h->entries = get_le64(p + 88);
    h->blocks = get_le64(p + 96);
    h->filter_shift = get_le32(p + 104);
    for (uint32_t i = 0; i < RUN_SECTIONS; i++) {
        const uint8_t *at = p + PARTS_AT + i * PART_BYTES;
        h->parts[i] =
            (struct run_part){get_le64(at), get_le64(at + 8), get_le32(at + 16), get_le32(at + 20)};
    }
    return parts_are_sound(h) ? 0 : ERR_FORMAT;
}

uint32_t run_section_crc(uint64_t identity, uint32_t section, const uint8_t *bytes, size_t len) {
    uint8_t seed[12];
    put_le64(seed, identity);
    put_le32(seed + 8, section);
    return crc32c(crc32c(0, seed, sizeof seed), bytes, len);
}

/*
 * An interval:
 *
 *   byte     kind (enum place_kind), 128: the family's first
 *   varints  [128: family number] first block (128: in full; else minus that before), blocks,
 *            timeline number, sequence - first of the run;
 *            REFERENCE: timeline number, sequence - referred sequence
 */
#define INTERVAL_FULL 128u

size_t run_interval_encode(const struct run_interval *i, const struct interval_numbers *n,
                           const struct run_interval *before, uint64_t base, uint8_t *p) {
    int full = !before || before->family != i->family;
    size_t at = 1;
    p[0] = (uint8_t)(i->kind | (full ? INTERVAL_FULL : 0));
    if (full)
        at += varint_put(p + at, n->family);
    at += varint_put(p + at, full ? i->block : i->block - before->block);
    at += varint_put(p + at, i->end_block - i->block);
    at += varint_put(p + at, n->timeline);
    at += varint_put(p + at, i->sequence - base);
    if (i->kind == PLACE_REFERENCE) {
        must(i->ref_sequence < i->sequence);
        at += varint_put(p + at, n->ref_timeline);
        at += varint_put(p + at, i->sequence - i->ref_sequence);
    }
    return at;
}

/* Reads n varints; returns the bytes taken, 0 if they are cut off. */
static size_t get_varints(const uint8_t *p, const uint8_t *end, uint64_t *v, uint32_t n) {
    size_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t taken = varint_get(p + at, end, &v[i]);
        if (!taken)
            return 0;
        at += taken;
    }
    return at;
}

int run_interval_decode(const uint8_t *p, const uint8_t *end, const struct run_tables *t,
                        const struct run_interval *before, uint64_t base, struct run_interval *i) {
    const uint64_t most = UINT64_C(1) << 53;
    uint64_t family = 0, v[4], ref[2] = {0, 0};
    if (p >= end)
        return ERR_FORMAT;
    uint32_t kind = *p & ~INTERVAL_FULL;
    int full = (*p & INTERVAL_FULL) != 0;
    size_t at = 1, n = 0;
    if (kind < PLACE_ZERO || kind > PLACE_REFERENCE || (!full && !before) ||
        (full && !(n = get_varints(p + at, end, &family, 1))))
        return ERR_FORMAT;
    at += n;
    if (!(n = get_varints(p + at, end, v, 4)))
        return ERR_FORMAT;
    at += n;
    if (kind == PLACE_REFERENCE && !(n = get_varints(p + at, end, ref, 2)))
        return ERR_FORMAT;
    at += kind == PLACE_REFERENCE ? n : 0;
    if ((full && family >= t->family_count) || v[0] > most || v[1] == 0 || v[1] > most ||
        v[2] >= t->timeline_count || v[3] > UINT64_MAX - base)
        return ERR_FORMAT;
    uint64_t block = full ? v[0] : before->block + v[0];
    uint64_t sequence = base + v[3];
    if (block > most || (kind == PLACE_REFERENCE &&
                         (ref[0] >= t->timeline_count || ref[1] == 0 || ref[1] > sequence)))
        return ERR_FORMAT;
    *i = (struct run_interval){.family = full ? get_le32(t->families + family * RUN_FAMILY_BYTES)
                                              : before->family,
                               .timeline = get_le32(t->timelines + v[2] * RUN_TIMELINE_BYTES),
                               .kind = (enum place_kind)kind,
                               .block = block,
                               .end_block = block + v[1],
                               .sequence = sequence};
    if (kind == PLACE_REFERENCE) {
        i->ref_timeline = get_le32(t->timelines + ref[0] * RUN_TIMELINE_BYTES);
        i->ref_sequence = sequence - ref[1];
    }
    return (int)at;
}

/* Which line, and which bits in it, nine bits of the second hash a probe. */
static const uint8_t *filter_line(const uint8_t *filter, uint32_t lines, uint64_t hash) {
    return filter + ((hash >> 32) * lines >> 32) * RUN_FILTER_LINE_BYTES;
}

uint32_t run_filter_lines(uint64_t keys) {
    uint64_t bits = keys * RUN_FILTER_BITS_PER_KEY;
    uint64_t line_bits = RUN_FILTER_LINE_BYTES * UINT64_C(8);
    return (uint32_t)((bits + line_bits - 1) / line_bits);
}

void run_filter_add(uint8_t *filter, uint32_t lines, uint32_t family, uint64_t key) {
    uint64_t hash = hash_pair(family, key);
    uint8_t *line = filter + (filter_line(filter, lines, hash) - filter);
    uint64_t bits = hash_mix(hash ^ UINT64_C(0x9e3779b97f4a7c15));
    for (uint32_t i = 0; i < RUN_FILTER_PROBES; i++, bits >>= 9)
        line[(bits & 511) / 8] |= (uint8_t)(1u << (bits & 7));
}

int run_filter_test(const uint8_t *filter, uint32_t lines, uint32_t family, uint64_t key) {
    if (lines == 0)
        return 0;
    uint64_t hash = hash_pair(family, key);
    const uint8_t *line = filter_line(filter, lines, hash);
    uint64_t bits = hash_mix(hash ^ UINT64_C(0x9e3779b97f4a7c15));
    for (uint32_t i = 0; i < RUN_FILTER_PROBES; i++, bits >>= 9)
        if (!(line[(bits & 511) / 8] >> (bits & 7) & 1))
            return 0;
    return 1;
}

int leaf_check(const uint8_t *page, uint64_t identity, uint32_t number) {
    return get_le32(page + CRC_AT) == page_crc(page) && get_le64(page) == identity &&
                   get_le32(page + 8) == number
               ? 0
               : ERR_INTEGRITY;
}
