/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded pseudo-random numbers (splitmix64): the same seed gives the same numbers on every machine.
 * For simulation and tests; secrets come from plat/random.h. */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H

#include <stdint.h>

#include "base/hash.h"

struct prng {
    uint64_t state;
};

static inline struct prng prng_seed(uint64_t seed) {
    return (struct prng){.state = seed};
}

static inline uint64_t prng_next(struct prng *p) {
    p->state += UINT64_C(0x9e3779b97f4a7c15);
    return hash_mix(p->state);
}

/* Uniform in [0, n), n > 0. The bias of the multiplication is below 2^-32 for n < 2^32. */
static inline uint64_t prng_below(struct prng *p, uint64_t n) {
    uint64_t x = prng_next(p);
    if (n <= UINT32_MAX)
        return ((x >> 32) * n) >> 32;
    return x % n;
}

/* True in one of n cases. */
static inline int prng_one_in(struct prng *p, uint64_t n) {
    return prng_below(p, n) == 0;
}

#endif
