/* SPDX-License-Identifier: Apache-2.0 */
/* A record of a frame (docs/formats.md). */
#ifndef ENGINE_LOG_RECORD_DISK_H
#define ENGINE_LOG_RECORD_DISK_H

#include <stdint.h>

#include "engine/version.h"

#define RECORD_FIXED_BYTES 32u
#define RECORD_BLOCKS_MAX 248u
#define RECORD_BYTES_MAX (RECORD_FIXED_BYTES + 4 + 24 + 4 * RECORD_BLOCKS_MAX)
#define RECORD_SECTOR_MAX ((UINT64_C(1) << 48) - 1)

enum record_kind {
    RECORD_DATA = 1,
    RECORD_ZERO = 2,
    RECORD_TRIM = 3,
    RECORD_REFERENCE = 4,
    RECORD_SAME = 5,
};

/* The first two are enum log_record_flag; the others only stand on disk. */
enum record_flag {
    RECORD_REPLAYED = 1 << 0,
    RECORD_MORE = 1 << 1,
    RECORD_HAS_FAMILY = 1 << 2,
    RECORD_HAS_RANGE = 1 << 3,
};
#define RECORD_CALLER_FLAGS (RECORD_REPLAYED | RECORD_MORE)

struct record {
    enum place_kind kind;
    uint32_t flags;
    uint32_t timeline;
    uint32_t family;
    uint64_t start_sector;
    uint64_t sectors;
    uint64_t block;
    uint64_t blocks;
    uint32_t delta_us;
    uint32_t source;
    uint64_t source_number;
    uint32_t ref_timeline;
    uint64_t ref_sequence;
};

/* Bytes that record_encode writes for it. */
uint32_t record_bytes(const struct record *r);

/* Whether the record can be written down: kind, ranges, at least one block, of RECORD_SAME none. 0 or
 * ERR_INVAL, ERR_RANGE, ERR_TOOBIG. */
int record_check(const struct record *r);

/* crc: one per block of RECORD_DATA, else not looked at. Returns record_bytes(). */
uint32_t record_encode(const struct record *r, const uint32_t *crc, uint8_t *at);

/* Reads one record of at most `room` bytes; crc has room for RECORD_BLOCKS_MAX. Returns its bytes,
 * or ERR_FORMAT. */
int record_decode(const uint8_t *at, uint32_t room, struct record *r, uint32_t *crc);

/* Pages of data that belong to it. */
static inline uint32_t record_pages(const struct record *r) {
    return r->kind == PLACE_DATA ? (uint32_t)r->blocks : 0;
}

#endif
