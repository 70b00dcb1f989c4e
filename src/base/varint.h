/* SPDX-License-Identifier: Apache-2.0 */
/* Variable-length unsigned integers, 7 bits a byte, least significant group first, the top bit set
 * on all bytes but the last (LEB128). At most 10 bytes. */
#ifndef BASE_VARINT_H
#define BASE_VARINT_H

#include <stddef.h>
#include <stdint.h>

#define VARINT_MAX_BYTES 10

/* Writes v at p, which has VARINT_MAX_BYTES of room, and returns the bytes written. */
static inline size_t varint_put(uint8_t *p, uint64_t v) {
    size_t n = 0;
    while (v >= 0x80) {
        p[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    p[n++] = (uint8_t)v;
    return n;
}

static inline size_t varint_size(uint64_t v) {
    size_t n = 1;
    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

/* Reads into *v and returns the bytes taken; 0 if the number is cut off or longer than 64 bits. */
static inline size_t varint_get(const uint8_t *p, const uint8_t *end, uint64_t *v) {
    uint64_t value = 0;
    for (size_t n = 0; n < VARINT_MAX_BYTES && p + n < end; n++) {
        if (n == 9 && p[n] > 1)
            return 0;
        value |= (uint64_t)(p[n] & 0x7f) << (7 * n);
        if (!(p[n] & 0x80)) {
            *v = value;
            return n + 1;
        }
    }
    return 0;
}

#endif
