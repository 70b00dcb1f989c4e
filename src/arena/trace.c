/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/trace.h"

#include "arena/arena.h"
#include "base/err.h"

int trace_open_at(struct trace *t, void *memory, uint64_t bytes) {
    if (bytes < sizeof *t->head + sizeof *t->entries)
        return ERR_INVAL;
    uint64_t room = (bytes - sizeof *t->head) / sizeof *t->entries;
    uint64_t count = 1;
    while (2 * count <= room)
        count *= 2;
    *t = (struct trace){.head = memory,
                        .entries = (void *)((unsigned char *)memory + sizeof *t->head),
                        .mask = count - 1};
    return 0;
}

int trace_open(struct trace *t, struct arena *a, uint32_t region) {
    if (region >= ARENA_REGIONS_MAX || !a->regions[region])
        return ERR_INVAL;
    return trace_open_at(t, a->regions[region], a->region_bytes[region]);
}

int trace_next(const struct trace *t, uint64_t *position, struct trace_point *out) {
    uint64_t end = atomic_load_explicit(&t->head->next, memory_order_relaxed);
    uint64_t p = *position;
    if (end > t->mask && p < end - t->mask - 1)
        p = end - t->mask - 1;
    for (; p < end; p++) {
        const struct trace_entry *e = &t->entries[p & t->mask];
        if (atomic_load_explicit(&e->mark, memory_order_relaxed) != p + 1)
            continue;
        *out = (struct trace_point){p, e->time_ns, e->code, e->a, e->b};
        *position = p + 1;
        return 1;
    }
    return 0;
}
