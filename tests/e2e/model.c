/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_MAGIC UINT64_C(0x316c65646f6d6432) /* "2dmodel1" */
#define WORDS (SECTOR / 8)

void model_open(struct model *m, uint64_t sectors) {
    m->sectors = sectors;
    m->clock = 1;
    m->last_stamp = 0;
    m->at = malloc(sectors * sizeof *m->at);
    if (!m->at) {
        fprintf(stderr, "no memory for a model of %llu sectors\n", (unsigned long long)sectors);
        exit(2);
    }
    for (uint64_t i = 0; i < sectors; i++)
        model_settle(m, i, 0);
}

void model_settle(struct model *m, uint64_t sector, uint64_t stamp) {
    struct model_sector *s = &m->at[sector];
    memset(s, 0xff, sizeof *s);
    s->v[0] = (struct model_value){.stamp = stamp, .issued = 0, .done = 0};
}

int model_load(struct model *m, const char *path) {
    uint64_t head[3], stamp;
    FILE *f = fopen(path, "rb");
    if (!f || fread(head, sizeof head, 1, f) != 1 || head[0] != MODEL_MAGIC)
        return -1;
    model_open(m, head[1]);
    m->last_stamp = head[2];
    for (uint64_t i = 0; i < m->sectors; i++) {
        if (fread(&stamp, sizeof stamp, 1, f) != 1)
            return -1;
        model_settle(m, i, stamp);
    }
    fclose(f);
    return 0;
}

int model_save(const struct model *m, const char *path) {
    uint64_t head[3] = {MODEL_MAGIC, m->sectors, m->last_stamp};
    FILE *f = fopen(path, "wb");
    if (!f)
        return -1;
    int good = fwrite(head, sizeof head, 1, f) == 1;
    for (uint64_t i = 0; i < m->sectors; i++)
        good = good && fwrite(&m->at[i].v[0].stamp, 8, 1, f) == 1;
    return fclose(f) == 0 && good ? 0 : -1;
}

static int superseded(const struct model_sector *s, const struct model_value *v, uint64_t at) {
    for (int i = 0; i < MODEL_VALUES; i++) {
        const struct model_value *w = &s->v[i];
        if (w->issued != MODEL_NEVER && !w->weak && w->issued > v->done && w->done < at)
            return 1;
    }
    return 0;
}

static struct model_value *place_for_value(struct model_sector *s, uint64_t at) {
    for (int i = 0; i < MODEL_VALUES; i++)
        if (s->v[i].issued == MODEL_NEVER || superseded(s, &s->v[i], at))
            return &s->v[i];
    return NULL;
}

uint64_t model_write(struct model *m, uint64_t first, uint64_t count, uint64_t stamp,
                     uint64_t oldest_read, uint64_t block) {
    uint64_t whole = (first + block - 1) / block * block,
             whole_end = (first + count) / block * block;
    for (uint64_t i = first; i < first + count; i++)
        if (!place_for_value(&m->at[i], oldest_read))
            return 0;
    uint64_t now = ++m->clock;
    for (uint64_t i = first; i < first + count; i++)
        *place_for_value(&m->at[i], oldest_read) =
            (struct model_value){.stamp = stamp,
                                 .issued = now,
                                 .done = MODEL_NEVER,
                                 .weak = i < whole || i >= whole_end};
    return now;
}

void model_written(struct model *m, uint64_t first, uint64_t count, uint64_t issued) {
    uint64_t now = ++m->clock;
    for (uint64_t i = first; i < first + count; i++)
        for (int k = 0; k < MODEL_VALUES; k++) {
            struct model_value *v = &m->at[i].v[k];
            if (v->issued == issued && v->done == MODEL_NEVER)
                v->done = now;
        }
}

int model_read(struct model *m, uint64_t sector, uint64_t stamp, uint64_t issued) {
    struct model_sector *s = &m->at[sector];
    struct model_value *only = NULL;
    int matches = 0;
    for (int i = 0; i < MODEL_VALUES; i++) {
        struct model_value *v = &s->v[i];
        if (v->issued == MODEL_NEVER || v->stamp != stamp || superseded(s, v, issued))
            continue;
        only = v;
        matches++;
    }
    /* Several writes of zeroes look alike: then it is not known which of them was seen. */
    if (matches == 1 && only->done == MODEL_NEVER)
        only->done = ++m->clock;
    return matches > 0;
}

static uint64_t word_base(uint64_t sector, uint64_t stamp) {
    uint64_t x = stamp * UINT64_C(0x9e3779b97f4a7c15) + sector * UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 29;
}

/* word 0 the stamp, word 1 the sector's number, then words that depend on both */
void sector_fill(uint8_t out[SECTOR], uint64_t sector, uint64_t stamp) {
    uint64_t w[WORDS], base = word_base(sector, stamp);
    if (stamp == 0) {
        memset(out, 0, SECTOR);
        return;
    }
    w[0] = stamp;
    w[1] = sector;
    for (unsigned i = 2; i < WORDS; i++)
        w[i] = base += UINT64_C(0x9e3779b97f4a7c15);
    memcpy(out, w, SECTOR);
}

int sector_identify(const uint8_t in[SECTOR], uint64_t sector, uint64_t *stamp, uint64_t *home) {
    uint64_t w[2];
    uint8_t expected[SECTOR];
    memcpy(w, in, sizeof w);
    *stamp = w[0];
    *home = w[1];
    sector_fill(expected, sector, *stamp);
    return memcmp(in, expected, SECTOR) == 0;
}
