/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/block_table.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"

#define PAGE_PLACES_BYTES (CHUNK_BLOCKS * 8u)
#define PAGE_BYTES (CHUNK_BLOCKS * 12u)

int block_table_open(struct block_table *t, struct arena *a) {
    memset(t, 0, sizeof *t);
    t->a = a;
    uint64_t set_bytes = TABLE_WAYS * (sizeof(uint64_t) + PAGE_BYTES);
    uint64_t room = a->region_bytes[REGION_BLOCK_TABLE] / set_bytes;
    if (room == 0)
        return 0;
    t->sets = 1;
    while ((uint64_t)t->sets * 2 <= room && t->sets < UINT32_C(1) << 24)
        t->sets *= 2;
    t->keys = (void *)a->regions[REGION_BLOCK_TABLE];
    t->pages = a->regions[REGION_BLOCK_TABLE] + (uint64_t)t->sets * TABLE_WAYS * sizeof(uint64_t);
    t->state = calloc((size_t)t->sets * TABLE_WAYS, sizeof *t->state);
    return t->state ? 0 : ERR_NOMEM;
}

void block_table_close(struct block_table *t) {
    free(t->state);
    memset(t, 0, sizeof *t);
}

static uint64_t *places_of(const struct block_table *t, uint32_t page) {
    return (void *)(t->pages + (uint64_t)page * PAGE_BYTES);
}
static uint32_t *checks_of(const struct block_table *t, uint32_t page) {
    return (void *)(t->pages + (uint64_t)page * PAGE_BYTES + PAGE_PLACES_BYTES);
}

static uint64_t key_of(const struct block_table *t, uint32_t timeline, uint64_t chunk) {
    return t->sets && chunk <= UINT32_MAX ? (uint64_t)timeline << 32 | chunk : 0;
}

static uint32_t set_of(const struct block_table *t, uint64_t key) {
    return (uint32_t)hash_mix(key) & (t->sets - 1);
}

uint32_t block_table_find(struct block_table *t, uint32_t timeline, uint64_t chunk) {
    uint64_t key = key_of(t, timeline, chunk);
    if (!key)
        return TABLE_NO_PAGE;
    uint32_t first = set_of(t, key) * TABLE_WAYS;
    for (uint32_t i = first; i < first + TABLE_WAYS; i++)
        if (t->keys[i] == key) {
            t->state[i].used = 1;
            return i;
        }
    return TABLE_NO_PAGE;
}

static void drop_page(struct block_table *t, uint32_t page) {
    t->keys[page] = 0;
    t->state[page].generation++;
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
}

/* An empty page, else the first that the clock has found unused; a second round finds what the first
 * one has passed. */
static uint32_t victim(struct block_table *t, uint32_t first) {
    for (uint32_t i = first; i < first + TABLE_WAYS; i++)
        if (t->keys[i] == 0 && t->state[i].pins == 0)
            return i;
    for (uint32_t i = 0; i < 2 * TABLE_WAYS; i++) {
        uint32_t page = first + i % TABLE_WAYS;
        if (t->state[page].pins > 0)
            continue;
        if (!t->state[page].used)
            return page;
        t->state[page].used = 0;
    }
    return TABLE_NO_PAGE;
}

uint32_t block_table_make(struct block_table *t, uint32_t timeline, uint64_t chunk) {
    uint32_t page = block_table_find(t, timeline, chunk);
    uint64_t key = key_of(t, timeline, chunk);
    if (page != TABLE_NO_PAGE || !key)
        return page;
    page = victim(t, set_of(t, key) * TABLE_WAYS);
    if (page == TABLE_NO_PAGE)
        return page;
    drop_page(t, page);
    memset(places_of(t, page), 0, PAGE_PLACES_BYTES);
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
    t->keys[page] = key;
    t->state[page].used = 1;
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
    return page;
}

/* What stands beside a place without data. */
static uint32_t check_value(uint32_t family, uint64_t block, uint64_t place) {
    return (uint32_t)hash_pair(hash_pair(family, block), place);
}

enum place_kind block_table_get(const struct block_table *t, uint32_t page, uint32_t family,
                                uint64_t block, struct block_place *out) {
    uint32_t i = (uint32_t)(block % CHUNK_BLOCKS);
    out->place = places_of(t, page)[i];
    out->crc = checks_of(t, page)[i];
    switch (place_kind(out->place)) {
    case PLACE_DATA:
        return PLACE_DATA;
    case PLACE_ZERO:
    case PLACE_HOLE:
        if (out->crc == check_value(family, block, out->place))
            return place_kind(out->place);
        return PLACE_UNKNOWN;
    default:
        return PLACE_UNKNOWN;
    }
}

static void store_entry(struct block_table *t, uint32_t page, uint32_t i, uint64_t place,
                        uint32_t check) {
    places_of(t, page)[i] = place_of_kind(PLACE_UNKNOWN);
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
    checks_of(t, page)[i] = check;
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
    places_of(t, page)[i] = place;
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(t->a);
}

static void make_unknown(struct block_table *t, uint32_t page, uint32_t i) {
    places_of(t, page)[i] = place_of_kind(PLACE_UNKNOWN);
    t->state[page].generation++;
}

void block_table_set(struct block_table *t, uint32_t page, uint32_t family, uint64_t block,
                     struct block_place p) {
    uint32_t i = (uint32_t)(block % CHUNK_BLOCKS);
    switch (place_kind(p.place)) {
    case PLACE_DATA:
        store_entry(t, page, i, p.place, p.crc);
        break;
    case PLACE_ZERO:
    case PLACE_HOLE:
        store_entry(t, page, i, p.place, check_value(family, block, p.place));
        break;
    default:
        make_unknown(t, page, i);
    }
}

void block_table_forget(struct block_table *t, uint32_t timeline, uint64_t block,
                        struct block_place p) {
    uint32_t page = block_table_find(t, timeline, chunk_of_block(block));
    if (page == TABLE_NO_PAGE)
        return;
    uint32_t i = (uint32_t)(block % CHUNK_BLOCKS);
    if (places_of(t, page)[i] == p.place && checks_of(t, page)[i] == p.crc)
        make_unknown(t, page, i);
}

void block_table_drop(struct block_table *t, uint32_t timeline, uint64_t first_chunk,
                      uint64_t end_chunk) {
    uint64_t all = (uint64_t)t->sets * TABLE_WAYS;
    /* A step through the sets costs a cache miss, one through all keys an eighth. */
    if (end_chunk - first_chunk > all / 8) {
        for (uint32_t page = 0; page < all; page++) {
            uint64_t key = t->keys[page];
            if (key && key >> 32 == timeline && (uint32_t)key >= first_chunk &&
                (uint32_t)key < end_chunk)
                drop_page(t, page);
        }
        return;
    }
    for (uint64_t chunk = first_chunk; chunk < end_chunk; chunk++) {
        uint32_t page = block_table_find(t, timeline, chunk);
        if (page != TABLE_NO_PAGE)
            drop_page(t, page);
    }
}

struct table_pin block_table_pin(struct block_table *t, uint32_t page) {
    if (page == TABLE_NO_PAGE || t->state[page].pins == UINT16_MAX)
        return (struct table_pin){.page = TABLE_NO_PAGE};
    t->state[page].pins++;
    return (struct table_pin){.page = page, .generation = t->state[page].generation};
}

void block_table_unpin(struct block_table *t, struct table_pin pin) {
    if (pin.page == TABLE_NO_PAGE)
        return;
    must(t->state[pin.page].pins > 0);
    t->state[pin.page].pins--;
}

int block_table_fill(struct block_table *t, struct table_pin pin, uint32_t family, uint64_t block,
                     struct block_place p) {
    if (pin.page == TABLE_NO_PAGE || t->state[pin.page].generation != pin.generation)
        return 0;
    must(t->state[pin.page].pins > 0 && t->keys[pin.page] != 0);
    struct block_place now;
    if (block_table_get(t, pin.page, family, block, &now) != PLACE_UNKNOWN)
        return 0;
    block_table_set(t, pin.page, family, block, p);
    return 1;
}
