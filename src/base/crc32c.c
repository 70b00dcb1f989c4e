/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L's function takes and returns the register, not the checksum: no inversion at either end.
 * Its length is an int and its argument lacks a const that it deserves. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len) {
    const uint8_t *p = data;
    uint32_t reg = ~crc;
    while (len > 0) {
        int step = len > 1 << 30 ? 1 << 30 : (int)len;
        reg = crc32_iscsi((unsigned char *)(uintptr_t)p, step, reg);
        p += step;
        len -= (size_t)step;
    }
    return ~reg;
}
