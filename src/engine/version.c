/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/version.h"

#include "base/bytes.h"
#include "base/crc32c.h"

uint32_t version_crc(uint32_t family, uint64_t block, const void *data, uint32_t bytes) {
    uint8_t seed[12];
    put_le32(seed, family);
    put_le64(seed + 4, block);
    return crc32c(crc32c(0, seed, sizeof seed), data, bytes);
}
