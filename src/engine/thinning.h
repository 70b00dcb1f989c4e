/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thinning (mission B4; design: retention): of history that is older than an age, one moment is kept for each
 * step of the wall clock. A policy has up to THINNING_LEVELS such levels; ages and steps rise.
 *
 * Steps divide each other, so what a longer one keeps is among what a shorter one keeps: history that is
 * thinned again, by this policy or another, loses nothing that it promises then.
 */
#ifndef ENGINE_THINNING_H
#define ENGINE_THINNING_H

#include <stdint.h>

#define THINNING_LEVELS 4
#define THINNING_STEPS 7

/* A level in one word: age in seconds << 32 | step in seconds; 0: none, and none after it. */
static inline uint64_t thinning_level(uint32_t age_s, uint32_t step_s) {
    return (uint64_t)age_s << 32 | step_s;
}
static inline uint32_t thinning_age_s(uint64_t level) {
    return (uint32_t)(level >> 32);
}
static inline uint32_t thinning_step_s(uint64_t level) {
    return (uint32_t)level;
}

/* The steps that there are, rising: one divides the next. */
static inline uint32_t thinning_step(uint32_t number) {
    static const uint32_t steps[THINNING_STEPS] = {60, 300, 900, 3600, 21600, 86400, 604800};
    return steps[number];
}

/* The number of a step, or THINNING_STEPS. */
static inline uint32_t thinning_number(uint32_t step_s) {
    uint32_t n = 0;
    while (n < THINNING_STEPS && thinning_step(n) != step_s)
        n++;
    return n;
}

/* Whether these levels are a policy. */
static inline int thinning_is_valid(const uint64_t levels[THINNING_LEVELS]) {
    for (int i = 0; i < THINNING_LEVELS; i++) {
        uint64_t level = levels[i], before = i ? levels[i - 1] : 0;
        if (level == 0)
            continue;
        if ((i && before == 0) || thinning_age_s(level) <= thinning_age_s(before) ||
            thinning_step_s(level) <= thinning_step_s(before) ||
            thinning_number(thinning_step_s(level)) == THINNING_STEPS)
            return 0;
    }
    return 1;
}

/* The longest step of which a whole multiple lies in (from, to]: what stood from the one to the other is
 * what was at such a time. 0: none does. */
static inline uint32_t thinning_step_between(uint64_t from_s, uint64_t to_s) {
    for (uint32_t n = THINNING_STEPS; n-- > 0;)
        if (from_s / thinning_step(n) != to_s / thinning_step(n))
            return thinning_step(n);
    return 0;
}

#endif
