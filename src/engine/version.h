/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version: what one write, zeroing, trim or range restore made of a range of blocks, and the
 * place of its data. Versions are what the log appends and the index finds.
 *
 * A place is 64 bits and stands in table and run entries with a checksum (docs/formats.md):
 *
 *   bits  0..16  start, in sectors, within the segment (64 MiB)
 *        17..20  stored sectors - 1 of the block (7: 4096 bytes uncompressed)
 *        21..22  codec (0: stored as is)
 *        23..25  kind of entry, enum place_kind
 *        26..31  spare, 0
 *        32..63  segment number
 *
 * Block i of a version of uncompressed data lies 8 * i sectors behind its place.
 */
#ifndef ENGINE_VERSION_H
#define ENGINE_VERSION_H

#include <stdint.h>

enum place_kind {
    PLACE_UNKNOWN = 0, /* ask the index */
    PLACE_DATA = 1,
    PLACE_ZERO = 2,      /* zeroed on request */
    PLACE_HOLE = 3,      /* trimmed, or never written */
    PLACE_REFERENCE = 4, /* look in timeline `ref_timeline` as of `ref_sequence` */
    PLACE_SAME = 5, /* of records alone: what was written was there before, and makes no version */
};

#define PLACE_FULL_BLOCK_SECTORS 8u

static inline uint64_t place_data(uint32_t segment, uint32_t offset_bytes) {
    return (uint64_t)segment << 32 | (uint64_t)PLACE_DATA << 23 |
           (uint64_t)(PLACE_FULL_BLOCK_SECTORS - 1) << 17 | offset_bytes / 512;
}
static inline uint64_t place_of_kind(enum place_kind kind) {
    return (uint64_t)kind << 23;
}
static inline enum place_kind place_kind(uint64_t place) {
    return (enum place_kind)(place >> 23 & 7);
}
static inline uint32_t place_segment(uint64_t place) {
    return (uint32_t)(place >> 32);
}
static inline uint32_t place_offset_bytes(uint64_t place) {
    return (uint32_t)(place & 0x1ffff) * 512;
}
static inline uint32_t place_stored_bytes(uint64_t place) {
    return ((uint32_t)(place >> 17 & 15) + 1) * 512;
}
/* The place of block i of an uncompressed version. */
static inline uint64_t place_block(uint64_t place, uint32_t i) {
    return place_kind(place) == PLACE_DATA ? place + (uint64_t)i * PLACE_FULL_BLOCK_SECTORS : place;
}

enum version_flag {
    VERSION_MORE = 1 << 0, /* the next version belongs to the same request: shown together */
};

struct version {
    uint64_t sequence;
    uint64_t time_ns; /* store time */
    uint64_t block;
    uint64_t blocks;
    uint32_t timeline;
    uint32_t family;
    uint32_t flags;        /* enum version_flag */
    uint64_t place;        /* of the first block */
    const uint32_t *crc;   /* DATA: one per block */
    uint32_t ref_timeline; /* REFERENCE */
    uint64_t ref_sequence;
};

/* Checksum of a block's stored bytes, seeded with what it is a version of, so that data of another
 * block or family does not pass. Another version of the same block passes only if its content is
 * equal. The seed is part of the format (docs/decisions/0002-checksum-seed.md). */
uint32_t version_crc(uint32_t family, uint64_t block, const void *data, uint32_t bytes);

#endif
