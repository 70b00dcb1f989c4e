/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/merged_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"

#define MAGIC "PrdIxMrg"
#define CRC_AT 12u
#define PIECE_BYTES 40u
#define SEGMENT_BYTES 24u

size_t merged_table_bytes(const struct merged_table *t) {
    return (size_t)t->piece_count * PIECE_BYTES + (size_t)t->segment_count * SEGMENT_BYTES;
}

void merged_encode(const struct merged_table *t, uint64_t offset, uint8_t *table,
                   uint8_t header[MERGED_PAGE_BYTES]) {
    uint8_t *p = table;
    for (uint32_t i = 0; i < t->piece_count; i++, p += PIECE_BYTES) {
        const struct merged_piece *m = &t->pieces[i];
        put_le64(p, m->offset);
        put_le64(p + 8, m->bytes);
        put_le64(p + 16, m->chunk);
        put_le32(p + 24, m->family);
        put_le32(p + 28, m->directory_bytes);
        put_le32(p + 32, m->continues);
        put_le32(p + 36, 0);
    }
    for (uint32_t i = 0; i < t->segment_count; i++, p += SEGMENT_BYTES) {
        put_le32(p, t->segments[i].number);
        put_le32(p + 4, 0);
        put_le64(p + 8, t->segments[i].first_sequence);
        put_le64(p + 16, t->segments[i].last_sequence);
    }
    memset(header, 0, MERGED_PAGE_BYTES);
    memcpy(header, MAGIC, 8);
    put_le16(header + 8, MERGED_VERSION);
    memcpy(header + 16, t->store_id, 16);
    put_le64(header + 32, t->identity);
    put_le32(header + 40, t->level);
    put_le32(header + 44, t->piece_count);
    put_le32(header + 48, t->segment_count);
    put_le32(header + 52, crc32c(0, table, merged_table_bytes(t)));
    put_le64(header + 56, offset);
    put_le64(header + 64, merged_table_bytes(t));
    put_le32(header + CRC_AT, crc32c(0, header, MERGED_PAGE_BYTES));
}

static int header_checks(const uint8_t *header) {
    uint8_t copy[MERGED_PAGE_BYTES];
    memcpy(copy, header, sizeof copy);
    put_le32(copy + CRC_AT, 0);
    return crc32c(0, copy, sizeof copy) == get_le32(header + CRC_AT);
}

int merged_header_decode(const uint8_t header[MERGED_PAGE_BYTES], uint64_t *offset,
                         uint64_t *bytes) {
    if (memcmp(header, MAGIC, 8) != 0)
        return ERR_FORMAT;
    if (get_le16(header + 8) != MERGED_VERSION)
        return ERR_UNSUPPORTED;
    uint64_t pieces = get_le32(header + 44), segments = get_le32(header + 48);
    *offset = get_le64(header + 56);
    *bytes = get_le64(header + 64);
    if (!header_checks(header) || pieces == 0 || pieces > MERGED_PIECES_MAX || segments == 0 ||
        segments > MERGED_SEGMENTS_MAX ||
        *bytes != pieces * PIECE_BYTES + segments * SEGMENT_BYTES ||
        *offset % MERGED_PAGE_BYTES != 0 || *offset < MERGED_PAGE_BYTES ||
        *offset > INT64_MAX - *bytes)
        return ERR_FORMAT;
    uint32_t level = get_le32(header + 40);
    uint64_t identity = get_le64(header + 32);
    return level == 0 || level > MERGED_LEVEL_MAX ||
                   identity != merged_identity((uint32_t)(identity >> 32), level)
               ? ERR_FORMAT
               : 0;
}

static int pieces_are_sound(const struct merged_table *t, uint64_t end) {
    uint64_t at = MERGED_PAGE_BYTES;
    for (uint32_t i = 0; i < t->piece_count; i++) {
        const struct merged_piece *p = &t->pieces[i], *before = p - 1;
        if (p->offset != at || p->bytes < MERGED_PAGE_BYTES || p->bytes % MERGED_PAGE_BYTES != 0 ||
            p->bytes > end - at || p->directory_bytes > p->bytes || p->continues > 1)
            return 0;
        at += p->bytes;
        if (i == 0)
            continue;
        int same = p->family == before->family && p->chunk == before->chunk;
        if (p->family < before->family ||
            (p->family == before->family && p->chunk < before->chunk) || (same && !p->continues))
            return 0;
    }
    return at == end;
}

static int segments_are_sound(const struct merged_table *t) {
    for (uint32_t i = 0; i < t->segment_count; i++) {
        const struct merged_segment *s = &t->segments[i];
        if (s->number == 0 || s->first_sequence > s->last_sequence ||
            (i > 0 && s[-1].last_sequence >= s->first_sequence))
            return 0;
    }
    return t->segments[0].number == t->identity >> 32;
}

int merged_decode(const uint8_t header[MERGED_PAGE_BYTES], const uint8_t *table,
                  struct merged_table *t) {
    uint64_t offset, bytes;
    memset(t, 0, sizeof *t);
    int err = merged_header_decode(header, &offset, &bytes);
    if (err < 0)
        return err;
    if (crc32c(0, table, bytes) != get_le32(header + 52))
        return ERR_INTEGRITY;
    memcpy(t->store_id, header + 16, 16);
    t->identity = get_le64(header + 32);
    t->level = get_le32(header + 40);
    t->piece_count = get_le32(header + 44);
    t->segment_count = get_le32(header + 48);
    t->pieces = malloc(t->piece_count * sizeof *t->pieces);
    t->segments = malloc(t->segment_count * sizeof *t->segments);
    if (!t->pieces || !t->segments) {
        merged_free(t);
        return ERR_NOMEM;
    }
    const uint8_t *p = table;
    for (uint32_t i = 0; i < t->piece_count; i++, p += PIECE_BYTES)
        t->pieces[i] = (struct merged_piece){.offset = get_le64(p),
                                             .bytes = get_le64(p + 8),
                                             .chunk = get_le64(p + 16),
                                             .family = get_le32(p + 24),
                                             .directory_bytes = get_le32(p + 28),
                                             .continues = get_le32(p + 32)};
    for (uint32_t i = 0; i < t->segment_count; i++, p += SEGMENT_BYTES)
        t->segments[i] = (struct merged_segment){get_le32(p), get_le64(p + 8), get_le64(p + 16)};
    if (pieces_are_sound(t, offset) && segments_are_sound(t))
        return 0;
    merged_free(t);
    return ERR_FORMAT;
}

void merged_free(struct merged_table *t) {
    free(t->pieces);
    free(t->segments);
    t->pieces = NULL;
    t->segments = NULL;
}

static int begins_at_or_before(const struct merged_piece *p, uint32_t family, uint64_t chunk) {
    return p->family < family || (p->family == family && p->chunk <= chunk);
}

void merged_pieces_of(const struct merged_table *t, uint32_t family, uint64_t chunk,
                      uint32_t *first, uint32_t *end) {
    uint32_t low = 0, high = t->piece_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (begins_at_or_before(&t->pieces[middle], family, chunk))
            low = middle + 1;
        else
            high = middle;
    }
    *end = low;
    *first = low ? low - 1 : 0;
    while (*first > 0 && t->pieces[*first].continues && t->pieces[*first].family == family &&
           t->pieces[*first].chunk == chunk)
        --*first;
}
