/* SPDX-License-Identifier: Apache-2.0 */
/* Units and their conversions. A *block* is 4096 bytes, the unit of tables and checksums; a
 * *sector* is 512 bytes, the unit of records and places; a *chunk* is 64 blocks, the unit of
 * filters and of block-table pages. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stdint.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

#define SECTOR_BYTES 512u
#define BLOCK_BYTES 4096u
#define BLOCK_SECTORS (BLOCK_BYTES / SECTOR_BYTES)
#define CHUNK_BLOCKS 64u
#define CHUNK_BYTES (CHUNK_BLOCKS * BLOCK_BYTES)

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

static inline uint64_t bytes_to_blocks_up(uint64_t bytes) {
    return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
}
static inline uint64_t block_of_byte(uint64_t offset_bytes) {
    return offset_bytes / BLOCK_BYTES;
}
static inline uint64_t block_to_bytes(uint64_t block) {
    return block * BLOCK_BYTES;
}
static inline uint64_t chunk_of_block(uint64_t block) {
    return block / CHUNK_BLOCKS;
}
static inline uint64_t round_up_u64(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}
static inline uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}
static inline uint64_t max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Bits first .. first + count - 1; count in 1..64. */
static inline uint64_t block_mask(uint32_t first, uint32_t count) {
    return (count == 64 ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1) << first;
}

/* The blocks of the chunk that begins at first_block which lie in [from, end). */
static inline uint64_t chunk_mask(uint64_t first_block, uint64_t from, uint64_t end) {
    uint64_t low = from > first_block ? from - first_block : 0;
    uint64_t high = end > first_block ? min_u64(end - first_block, CHUNK_BLOCKS) : 0;
    return low < high ? block_mask((uint32_t)low, (uint32_t)(high - low)) : 0;
}

#endif
