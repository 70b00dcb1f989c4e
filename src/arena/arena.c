/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The undo log lies in the arena as a stack of entries, newest last:
 *
 *   offset 0        the saved bytes, padded with zeroes to 8
 *   then     8      where they belong, from the arena's start
 *            4      their length
 *            4      check: low half of hash_pair(where, length)
 *
 * An entry exists once undo_used covers it, and undo_used is raised before the bytes that it saves
 * are changed. A process that is killed loses no store that it has made, and one thread's stores
 * are seen by a later process in the order in which it made them, so compiler barriers are all that
 * is needed; the atomics below say so to the compiler.
 *
 * Roll-back goes from the newest entry to the oldest, so a range saved twice ends with its oldest
 * bytes, and a roll-back that was itself interrupted is simply done again.
 */
#include "arena/arena.h"

#include <stdlib.h>
#include <string.h>

#include "arena/shadow.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/wipe.h"

#define UNDO_TAIL_BYTES 16u

struct undo_tail {
    uint64_t offset;
    uint32_t len;
    uint32_t check;
};
_Static_assert(sizeof(struct undo_tail) == UNDO_TAIL_BYTES, "frozen");

static uint32_t undo_check(uint64_t offset, uint32_t len) {
    return (uint32_t)hash_pair(offset, len);
}

void arena_undo_save(struct arena *a, uint64_t offset, uint32_t len) {
    uint64_t used = atomic_load_explicit(&a->live->undo_used, memory_order_relaxed);
    uint64_t padded = ((uint64_t)len + 7) & ~UINT64_C(7);
    must(used + padded + UNDO_TAIL_BYTES <= a->undo_bytes);
    CRASH_POINT(a);
    unsigned char *at = a->undo + used;
    memcpy(at, a->base + offset, len);
    struct undo_tail tail = {.offset = offset, .len = len, .check = undo_check(offset, len)};
    memcpy(at + padded, &tail, sizeof tail);
    CRASH_POINT(a);
    atomic_store_explicit(&a->live->undo_used, used + padded + UNDO_TAIL_BYTES,
                          memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(a);
}

/* Walks the entries from the newest; with apply, puts the bytes back. Returns 0 if all are sound.
 */
static int undo_walk(unsigned char *base, uint64_t size_bytes, const struct arena_identity *id,
                     uint64_t used, int apply) {
    unsigned char *undo = base + id->undo_offset;
    while (used > 0) {
        struct undo_tail tail;
        if (used < UNDO_TAIL_BYTES)
            return ERR_FORMAT;
        memcpy(&tail, undo + used - UNDO_TAIL_BYTES, sizeof tail);
        uint64_t padded = ((uint64_t)tail.len + 7) & ~UINT64_C(7);
        if (tail.check != undo_check(tail.offset, tail.len) || padded + UNDO_TAIL_BYTES > used ||
            tail.offset < ARENA_HEADER_BYTES || tail.offset > size_bytes ||
            tail.len > size_bytes - tail.offset)
            return ERR_FORMAT;
        used -= UNDO_TAIL_BYTES + padded;
        if (apply)
            memcpy(base + tail.offset, undo + used, tail.len);
    }
    return 0;
}

enum arena_verdict arena_roll_back(void *base) {
    unsigned char *b = base;
    const struct arena_identity *id = arena_identity_of(base);
    struct arena_live *live = (void *)(b + ARENA_LIVE_OFFSET);
    uint64_t used = atomic_load(&live->undo_used);
    if (used > id->undo_bytes || undo_walk(b, id->size_bytes, id, used, 0) < 0)
        return ARENA_BAD_UNDO;
    if (used > 0) {
        undo_walk(b, id->size_bytes, id, used, 1);
        atomic_signal_fence(memory_order_seq_cst);
        atomic_store(&live->undo_used, 0);
    }
    return ARENA_QUALIFIES;
}

void arena_commit(struct arena *a) {
    if (a->shadow)
        arena_shadow_check(a);
    CRASH_POINT(a);
    uint64_t used = atomic_load_explicit(&a->live->undo_used, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&a->live->undo_used, 0, memory_order_release);
    CRASH_POINT(a);
    if (a->wipe_undo) {
        atomic_signal_fence(memory_order_seq_cst);
        wipe(a->undo, used);
        a->wipe_undo = 0;
    }
    a->turn++;
    atomic_store_explicit(&a->live->turn, a->turn, memory_order_relaxed);
    for (uint32_t i = 0; i < a->freed_count; i++) {
        struct arena_table *t = &a->tables[a->freed[2 * i]];
        t->free[t->free_count++] = a->freed[2 * i + 1];
    }
    a->freed_count = 0;
}

uint32_t arena_new(struct arena *a, uint32_t table, uint16_t state) {
    struct arena_table *t = &a->tables[table];
    uint32_t index;
    must(state != SLOT_FREE);
    if (t->free_count > 0) {
        index = t->free[--t->free_count];
    } else {
        /* The mark may rise before the turn commits: it only says how far to look. */
        index = atomic_load_explicit(&a->live->high_water[t->part], memory_order_relaxed);
        if (index >= t->capacity)
            return 0;
        atomic_store_explicit(&a->live->high_water[t->part], index + 1, memory_order_release);
    }
    struct slot *s = arena_slot_at(a, table, index);
    must(s->state == SLOT_FREE);
    arena_undo_save(a, (uint64_t)((unsigned char *)s - a->base), t->slot_bytes);
    uint16_t generation =
        s->generation >= HANDLE_GENERATION_MAX ? 1 : (uint16_t)(s->generation + 1);
    memset((unsigned char *)s + sizeof *s, 0, t->slot_bytes - sizeof *s);
    s->generation = generation;
    s->edit_turn = a->turn;
    CRASH_POINT(a);
    s->state = state;
    t->used_count++;
    return handle_make(index, generation);
}

void arena_free(struct arena *a, uint32_t table, uint32_t handle) {
    struct slot *s = arena_edit(a, table, handle);
    s->state = SLOT_FREE;
    CRASH_POINT(a);
    if (a->freed_count == a->freed_room) {
        a->freed_room = a->freed_room ? 2 * a->freed_room : 256;
        a->freed = realloc(a->freed, (size_t)a->freed_room * 2 * sizeof *a->freed);
        must(a->freed != NULL);
    }
    a->freed[2 * a->freed_count] = table;
    a->freed[2 * a->freed_count + 1] = handle_index(handle);
    a->freed_count++;
    a->tables[table].used_count--;
}

uint32_t arena_next(const struct arena *a, uint32_t table, uint32_t handle) {
    const struct arena_table *t = &a->tables[table];
    uint32_t end = atomic_load_explicit(&a->live->high_water[t->part], memory_order_relaxed);
    for (uint32_t i = handle ? handle_index(handle) + 1 : 0; i < end; i++) {
        const struct slot *s = arena_slot_at(a, table, i);
        if (s->state != SLOT_FREE)
            return handle_make(i, s->generation);
    }
    return 0;
}

uint64_t arena_layout_of(const struct arena_identity *id) {
    uint64_t h = 0;
    for (uint32_t i = 0; i < id->part_count; i++) {
        const struct arena_part *p = &id->parts[i];
        if (p->kind != ARENA_PART_NONE)
            h += hash_pair((uint64_t)p->kind << 32 | p->number,
                           hash_pair((uint64_t)p->version << 32 | p->slot_bytes, p->layout));
    }
    return hash_mix(h);
}

/* Lays the parts out behind header and undo log; returns the end. `id` may be NULL. */
static uint64_t plan_layout(const struct arena_plan *plan, struct arena_identity *id) {
    uint64_t at = ARENA_HEADER_BYTES;
    uint32_t n = 0;
    must(plan->table_count + plan->region_count <= ARENA_PARTS_MAX);
    if (id) {
        id->undo_offset = at;
        id->undo_bytes = plan->undo_bytes;
    }
    at += plan->undo_bytes;
    for (uint32_t i = 0; i < plan->table_count; i++) {
        const struct arena_table_spec *s = plan->tables[i].spec;
        must(s->number < ARENA_TABLES_MAX && plan->tables[i].capacity <= HANDLE_INDEX_MAX);
        at = (at + ARENA_PAGE_BYTES - 1) & ~(uint64_t)(ARENA_PAGE_BYTES - 1);
        uint64_t bytes = (uint64_t)s->slot_bytes * plan->tables[i].capacity;
        if (id)
            id->parts[n++] = (struct arena_part){.kind = ARENA_PART_TABLE,
                                                 .number = s->number,
                                                 .version = s->version,
                                                 .slot_bytes = s->slot_bytes,
                                                 .offset = at,
                                                 .size_bytes = bytes,
                                                 .capacity = plan->tables[i].capacity,
                                                 .layout = layout_hash(s)};
        at += bytes;
    }
    for (uint32_t i = 0; i < plan->region_count; i++) {
        const struct arena_region_plan *r = &plan->regions[i];
        must(r->number < ARENA_REGIONS_MAX && r->align_bytes >= 64);
        at = (at + r->align_bytes - 1) & ~(r->align_bytes - 1);
        if (id)
            id->parts[n++] = (struct arena_part){.kind = ARENA_PART_REGION,
                                                 .number = r->number,
                                                 .version = r->version,
                                                 .offset = at,
                                                 .size_bytes = r->size_bytes};
        at += r->size_bytes;
    }
    if (id)
        id->part_count = n;
    return (at + ARENA_PAGE_BYTES - 1) & ~(uint64_t)(ARENA_PAGE_BYTES - 1);
}

uint64_t arena_plan_bytes(const struct arena_plan *plan) {
    return plan_layout(plan, NULL);
}

uint32_t arena_identity_crc(const struct arena_identity *id) {
    struct arena_identity copy = *id;
    copy.identity_crc = 0;
    return crc32c(0, &copy, sizeof copy);
}

void arena_plan_identity(const struct arena_plan *plan, struct arena_identity *id) {
    memset(id, 0, sizeof *id);
    id->magic = ARENA_MAGIC;
    id->prefix_version = ARENA_PREFIX_VERSION;
    id->size_bytes = plan_layout(plan, id);
    id->layout_hash = arena_layout_of(id);
    memcpy(id->boot_id, plan->boot_id, sizeof id->boot_id);
}

uint64_t arena_layout_hash(const struct arena_plan *plan) {
    struct arena_identity id;
    arena_plan_identity(plan, &id);
    return id.layout_hash;
}

/* Fills the private view from the header; the free lists from the slots. */
static int arena_open(struct arena *a, void *base) {
    memset(a, 0, sizeof *a);
    a->base = base;
    a->identity = arena_identity_of(base);
    a->live = (void *)(a->base + ARENA_LIVE_OFFSET);
    a->undo = a->base + a->identity->undo_offset;
    a->undo_bytes = a->identity->undo_bytes;
    a->turn = atomic_load(&a->live->turn) + 1;
    atomic_store(&a->live->turn, a->turn);
    for (uint32_t i = 0; i < a->identity->part_count; i++) {
        const struct arena_part *p = &a->identity->parts[i];
        if (p->kind == ARENA_PART_NONE)
            continue;
        if (p->kind == ARENA_PART_REGION) {
            a->regions[p->number] = a->base + p->offset;
            a->region_bytes[p->number] = p->size_bytes;
            continue;
        }
        struct arena_table *t = &a->tables[p->number];
        t->slots = a->base + p->offset;
        t->slot_bytes = p->slot_bytes;
        t->capacity = p->capacity;
        t->part = i;
        t->free = malloc(((size_t)p->capacity + 1) * sizeof *t->free);
        if (!t->free) {
            arena_detach(a);
            return ERR_NOMEM;
        }
        for (uint32_t s = atomic_load(&a->live->high_water[i]); s-- > 0;) {
            if (arena_slot_at(a, p->number, s)->state == SLOT_FREE)
                t->free[t->free_count++] = s;
            else
                t->used_count++;
        }
    }
    return 0;
}

int arena_create(struct arena *a, void *base, uint64_t size_bytes, const struct arena_plan *plan) {
    struct arena_identity *id = base;
    must(size_bytes >= arena_plan_bytes(plan));
    memset(base, 0, ARENA_HEADER_BYTES);
    arena_plan_identity(plan, id);
    id->size_bytes = size_bytes;
    id->base_address = (uint64_t)(uintptr_t)base;
    memcpy(id->arena_id, plan->arena_id, sizeof id->arena_id);
    id->identity_crc = arena_identity_crc(id);
    return arena_open(a, base);
}

int arena_attach(struct arena *a, void *base, uint64_t size_bytes, const struct arena_plan *plan) {
    must(arena_qualify(base, size_bytes, plan) == ARENA_QUALIFIES);
    return arena_open(a, base);
}

void arena_detach(struct arena *a) {
    arena_shadow_stop(a);
    for (uint32_t i = 0; i < ARENA_TABLES_MAX; i++)
        free(a->tables[i].free);
    free(a->freed);
    memset(a, 0, sizeof *a);
}

#ifdef PERDURE_CRASH_POINTS
void arena_crash_point(struct arena *a) {
    if (a->crash_after > 0 && --a->crash_after == 0)
        abort();
}
#endif
