/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/record_disk.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/units.h"

#define FAMILY_BYTES 4u
#define RANGE_BYTES 24u
#define REFERENCE_BYTES 12u

static int disk_kind(enum place_kind kind) {
    switch (kind) {
    case PLACE_DATA:
        return RECORD_DATA;
    case PLACE_ZERO:
        return RECORD_ZERO;
    case PLACE_HOLE:
        return RECORD_TRIM;
    case PLACE_REFERENCE:
        return RECORD_REFERENCE;
    case PLACE_SAME:
        return RECORD_SAME;
    case PLACE_UNKNOWN:
        break;
    }
    return 0;
}

static enum place_kind place_of(uint8_t kind) {
    switch (kind) {
    case RECORD_DATA:
        return PLACE_DATA;
    case RECORD_ZERO:
        return PLACE_ZERO;
    case RECORD_TRIM:
        return PLACE_HOLE;
    case RECORD_REFERENCE:
        return PLACE_REFERENCE;
    case RECORD_SAME:
        return PLACE_SAME;
    }
    return PLACE_UNKNOWN;
}

static uint64_t touched_first(uint64_t start_sector) {
    return start_sector / BLOCK_SECTORS;
}
static uint64_t touched_count(uint64_t start_sector, uint64_t sectors) {
    if (sectors == 0)
        return 0;
    return (start_sector + sectors - 1) / BLOCK_SECTORS - start_sector / BLOCK_SECTORS + 1;
}
/* Blocks that have a new version, if the record does not say otherwise. */
static uint64_t made_count(enum place_kind kind, uint64_t start_sector, uint64_t sectors) {
    return kind == PLACE_SAME ? 0 : touched_count(start_sector, sectors);
}

static uint32_t disk_flags(const struct record *r) {
    uint32_t flags = r->flags & RECORD_CALLER_FLAGS;
    if (r->family != r->timeline)
        flags |= RECORD_HAS_FAMILY;
    if (r->sectors > UINT32_MAX || r->block != touched_first(r->start_sector) ||
        r->blocks != made_count(r->kind, r->start_sector, r->sectors))
        flags |= RECORD_HAS_RANGE;
    return flags;
}

static uint32_t bytes_of(enum place_kind kind, uint32_t flags, uint64_t blocks) {
    uint32_t bytes = RECORD_FIXED_BYTES;
    if (flags & RECORD_HAS_FAMILY)
        bytes += FAMILY_BYTES;
    if (flags & RECORD_HAS_RANGE)
        bytes += RANGE_BYTES;
    if (kind == PLACE_REFERENCE)
        bytes += REFERENCE_BYTES;
    if (kind == PLACE_DATA)
        bytes += 4 * (uint32_t)blocks;
    return bytes;
}

uint32_t record_bytes(const struct record *r) {
    return bytes_of(r->kind, disk_flags(r), r->blocks);
}

int record_check(const struct record *r) {
    if (disk_kind(r->kind) == 0 || r->timeline == 0 || r->family == 0 ||
        (r->blocks == 0) != (r->kind == PLACE_SAME) ||
        (r->flags & ~(uint32_t)RECORD_CALLER_FLAGS) != 0)
        return ERR_INVAL;
    uint64_t block_max = RECORD_SECTOR_MAX / BLOCK_SECTORS;
    if (r->start_sector > RECORD_SECTOR_MAX || r->sectors > RECORD_SECTOR_MAX - r->start_sector ||
        r->block > block_max || r->blocks > block_max - r->block + 1)
        return ERR_RANGE;
    if (r->kind == PLACE_DATA && r->blocks > RECORD_BLOCKS_MAX)
        return ERR_TOOBIG;
    return 0;
}

uint32_t record_encode(const struct record *r, const uint32_t *crc, uint8_t *at) {
    uint32_t flags = disk_flags(r);
    put_le32(at, r->timeline);
    at[4] = (uint8_t)disk_kind(r->kind);
    at[5] = (uint8_t)flags;
    put_le32(at + 6, (uint32_t)r->start_sector);
    put_le16(at + 10, (uint16_t)(r->start_sector >> 32));
    put_le32(at + 12, r->sectors > UINT32_MAX ? UINT32_MAX : (uint32_t)r->sectors);
    put_le32(at + 16, r->delta_us);
    put_le32(at + 20, r->source);
    put_le64(at + 24, r->source_number);
    uint8_t *p = at + RECORD_FIXED_BYTES;
    if (flags & RECORD_HAS_FAMILY) {
        put_le32(p, r->family);
        p += FAMILY_BYTES;
    }
    if (flags & RECORD_HAS_RANGE) {
        put_le64(p, r->block);
        put_le64(p + 8, r->blocks);
        put_le64(p + 16, r->sectors);
        p += RANGE_BYTES;
    }
    if (r->kind == PLACE_REFERENCE) {
        put_le32(p, r->ref_timeline);
        put_le64(p + 4, r->ref_sequence);
        p += REFERENCE_BYTES;
    }
    if (r->kind == PLACE_DATA)
        for (uint32_t i = 0; i < r->blocks; i++, p += 4)
            put_le32(p, crc[i]);
    return (uint32_t)(p - at);
}

int record_decode(const uint8_t *at, uint32_t room, struct record *r, uint32_t *crc) {
    if (room < RECORD_FIXED_BYTES)
        return ERR_FORMAT;
    uint32_t flags = at[5];
    *r = (struct record){.kind = place_of(at[4]),
                         .flags = flags & RECORD_CALLER_FLAGS,
                         .timeline = get_le32(at),
                         .start_sector = get_le32(at + 6) | (uint64_t)get_le16(at + 10) << 32,
                         .sectors = get_le32(at + 12),
                         .delta_us = get_le32(at + 16),
                         .source = get_le32(at + 20),
                         .source_number = get_le64(at + 24)};
    if (r->kind == PLACE_UNKNOWN ||
        (flags & ~(uint32_t)(RECORD_CALLER_FLAGS | RECORD_HAS_FAMILY | RECORD_HAS_RANGE)) != 0 ||
        room < bytes_of(r->kind, flags, 0))
        return ERR_FORMAT;
    const uint8_t *p = at + RECORD_FIXED_BYTES;
    r->family = r->timeline;
    if (flags & RECORD_HAS_FAMILY) {
        r->family = get_le32(p);
        p += FAMILY_BYTES;
    }
    r->block = touched_first(r->start_sector);
    r->blocks = made_count(r->kind, r->start_sector, r->sectors);
    if (flags & RECORD_HAS_RANGE) {
        r->block = get_le64(p);
        r->blocks = get_le64(p + 8);
        r->sectors = get_le64(p + 16);
        p += RANGE_BYTES;
    }
    if (r->kind == PLACE_REFERENCE) {
        r->ref_timeline = get_le32(p);
        r->ref_sequence = get_le64(p + 4);
        p += REFERENCE_BYTES;
    }
    if (record_check(r) < 0)
        return ERR_FORMAT;
    uint32_t bytes = bytes_of(r->kind, flags, r->blocks);
    if (room < bytes)
        return ERR_FORMAT;
    if (r->kind == PLACE_DATA)
        for (uint32_t i = 0; i < r->blocks; i++, p += 4)
            crc[i] = get_le32(p);
    return (int)bytes;
}
