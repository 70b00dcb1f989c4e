/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena/arena.h"
#include "base/err.h"

struct arena_shadow {
    unsigned char *copy[ARENA_TABLES_MAX];
};

static uint32_t high_water(const struct arena *a, uint32_t table) {
    return atomic_load_explicit(&a->live->high_water[a->tables[table].part], memory_order_relaxed);
}

int arena_shadow_start(struct arena *a) {
    struct arena_shadow *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    must(arena_turn_is_clean(a));
    for (uint32_t t = 0; t < ARENA_TABLES_MAX; t++) {
        if (!a->tables[t].slots)
            continue;
        /* Untouched pages of the copy cost nothing and are zero, as untouched slots are. */
        s->copy[t] = calloc(a->tables[t].capacity, a->tables[t].slot_bytes);
        if (!s->copy[t]) {
            a->shadow = s;
            arena_shadow_stop(a);
            return ERR_NOMEM;
        }
        memcpy(s->copy[t], a->tables[t].slots, (size_t)high_water(a, t) * a->tables[t].slot_bytes);
    }
    a->shadow = s;
    return 0;
}

void arena_shadow_stop(struct arena *a) {
    if (!a->shadow)
        return;
    for (uint32_t t = 0; t < ARENA_TABLES_MAX; t++)
        free(a->shadow->copy[t]);
    free(a->shadow);
    a->shadow = NULL;
}

/* Brings what the undo log covers into the copy: these bytes may differ. */
static void shadow_take(struct arena *a, uint64_t offset, uint32_t len) {
    for (uint32_t t = 0; t < ARENA_TABLES_MAX; t++) {
        const struct arena_table *table = &a->tables[t];
        if (!table->slots)
            continue;
        uint64_t start = (uint64_t)(table->slots - a->base);
        uint64_t bytes = (uint64_t)table->capacity * table->slot_bytes;
        if (offset >= start && offset + len <= start + bytes)
            memcpy(a->shadow->copy[t] + (offset - start), a->base + offset, len);
    }
}

void arena_shadow_check(struct arena *a) {
    uint64_t used = atomic_load_explicit(&a->live->undo_used, memory_order_relaxed);
    while (used > 0) {
        uint64_t offset;
        uint32_t len;
        memcpy(&offset, a->undo + used - 16, sizeof offset);
        memcpy(&len, a->undo + used - 8, sizeof len);
        used -= 16 + (((uint64_t)len + 7) & ~UINT64_C(7));
        shadow_take(a, offset, len);
    }
    for (uint32_t t = 0; t < ARENA_TABLES_MAX; t++) {
        const struct arena_table *table = &a->tables[t];
        if (!table->slots)
            continue;
        for (uint32_t i = 0; i < high_water(a, t); i++) {
            size_t at = (size_t)i * table->slot_bytes;
            if (memcmp(table->slots + at, a->shadow->copy[t] + at, table->slot_bytes) == 0)
                continue;
            size_t byte = 0;
            while (table->slots[at + byte] == a->shadow->copy[t][at + byte])
                byte++;
            char fault[96];
            snprintf(fault, sizeof fault, "table %u slot %u changed at byte %zu without edit", t, i,
                     byte);
            must_fail(fault, __FILE__, __LINE__);
        }
    }
}
