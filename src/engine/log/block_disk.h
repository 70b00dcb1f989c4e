/* SPDX-License-Identifier: Apache-2.0 */
/* What all blocks of the log have in common (docs/formats.md): 4096 bytes, a magic word of 8 bytes
 * in front, the CRC-32C at offset 12. */
#ifndef ENGINE_LOG_BLOCK_DISK_H
#define ENGINE_LOG_BLOCK_DISK_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/units.h"

#define STORE_ID_BYTES 16u
#define BLOCK_CRC_OFFSET 12u
#define BLOCK_ID_OFFSET 16u

static inline uint32_t block_crc(const uint8_t *block) {
    static const uint8_t zero[4] = {0};
    uint32_t crc = crc32c(0, block, BLOCK_CRC_OFFSET);
    crc = crc32c(crc, zero, sizeof zero);
    return crc32c(crc, block + BLOCK_CRC_OFFSET + 4, BLOCK_BYTES - BLOCK_CRC_OFFSET - 4);
}

static inline uint32_t block_finish(uint8_t *block) {
    uint32_t crc = block_crc(block);
    put_le32(block + BLOCK_CRC_OFFSET, crc);
    return crc;
}

/* The cheap test first: most blocks that recovery looks at are not what it looks for. */
static inline int block_checks(const uint8_t *block, const char *magic) {
    return memcmp(block, magic, 8) == 0 && get_le32(block + BLOCK_CRC_OFFSET) == block_crc(block);
}

#endif
