/* SPDX-License-Identifier: Apache-2.0 */
/* Mixing of integers for hash tables and filters (the finaliser of splitmix64), and a byte hash for
 * names and layouts (FNV-1a). Results stand in files: they never change. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t hash_mix(uint64_t x) {
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return x;
}

static inline uint64_t hash_pair(uint64_t a, uint64_t b) {
    return hash_mix(hash_mix(a + UINT64_C(0x9e3779b97f4a7c15)) + b);
}

#define HASH_BYTES_START UINT64_C(0xcbf29ce484222325)

static inline uint64_t hash_bytes(uint64_t h, const void *data, size_t len) {
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

#endif
