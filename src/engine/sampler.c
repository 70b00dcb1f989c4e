/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sampler.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/units.h"

#define WORDS (SAMPLER_BITS / 64)
#define FULL (SAMPLER_BITS / 4)

struct sampler {
    uint64_t *filters[2]; /* 0: of now */
    uint32_t used;        /* bits of the one of now */
    uint64_t since_ns;
    uint32_t written; /* blocks since the last that was packed */
    void *lz4;
};

struct sampler *sampler_open(void) {
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->written = SAMPLER_EACH; /* the first is packed */
    s->filters[0] = calloc(WORDS, sizeof(uint64_t));
    s->filters[1] = calloc(WORDS, sizeof(uint64_t));
    s->lz4 = malloc((size_t)LZ4_sizeofState());
    if (s->filters[0] && s->filters[1] && s->lz4)
        return s;
    sampler_close(s);
    return NULL;
}

void sampler_close(struct sampler *s) {
    if (!s)
        return;
    free(s->filters[0]);
    free(s->filters[1]);
    free(s->lz4);
    free(s);
}

static uint32_t bit_of(uint64_t volume, uint64_t block) {
    return (uint32_t)hash_pair(volume, block) % SAMPLER_BITS;
}

static void turn_over(struct sampler *s, uint64_t now_ns) {
    uint64_t *oldest = s->filters[1];
    memset(oldest, 0, WORDS * sizeof *oldest);
    if (now_ns - s->since_ns >= SAMPLER_READ_NS) /* nothing was read since */
        memset(s->filters[0], 0, WORDS * sizeof *oldest);
    s->filters[1] = s->filters[0];
    s->filters[0] = oldest;
    s->used = 0;
    s->since_ns = now_ns;
}

void sampler_read(struct sampler *s, uint64_t volume, uint64_t block, uint64_t blocks,
                  uint64_t now_ns) {
    if (now_ns - s->since_ns >= SAMPLER_READ_NS / 2)
        turn_over(s, now_ns);
    for (uint64_t b = block; b < block + blocks && s->used < FULL; b++) {
        uint32_t bit = bit_of(volume, b);
        uint64_t mask = UINT64_C(1) << bit % 64;
        s->used += (s->filters[0][bit / 64] & mask) == 0;
        s->filters[0][bit / 64] |= mask;
    }
}

uint64_t sampler_was_read(const struct sampler *s, uint64_t volume, uint64_t block,
                          uint64_t blocks) {
    uint64_t n = 0;
    for (uint64_t b = block; b < block + blocks; b++) {
        uint32_t bit = bit_of(volume, b);
        n += (s->filters[0][bit / 64] | s->filters[1][bit / 64]) >> bit % 64 & 1;
    }
    return n;
}

int sampler_is_due(struct sampler *s, uint64_t blocks) {
    int is_due = s->written + blocks >= SAMPLER_EACH;
    s->written = is_due ? 0 : s->written + (uint32_t)blocks;
    return is_due;
}

uint32_t sampler_pack(struct sampler *s, const unsigned char *block) {
    char out[BLOCK_BYTES];
    int n = LZ4_compress_fast_extState(s->lz4, (const char *)block, out, BLOCK_BYTES,
                                       (int)sizeof out, 1);
    return n > 0 ? (uint32_t)n : BLOCK_BYTES;
}
