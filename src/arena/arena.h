/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena: the memory that outlives the code. One mapping at one address holds all state; it changes
 * in turns, and at every instruction it is either the last committed turn or can be rolled back to
 * it.
 *
 * It may use base and the mapping that plat hands it; it makes no system call and knows nothing of
 * sockets, disks or protocols.
 *
 * Rules (design: a crash is a reload that came uninvited):
 *  1. A slot is read through tag_view (const) and changed only through tag_edit, tag_edit_part or
 *     tag_new in the same turn. The first edit of a slot in a turn saves its old content.
 *  2. arena_commit() ends the turn with one store. Nothing leaves the process before it.
 *  3. A slot freed in turn n is given out again from turn n+1 on.
 *  4. What can be derived from the slots (free lists, hashes, queues' shortcuts) lies in private
 *     memory and is rebuilt at attach, never preserved.
 *  5. Regions are not undone. Who owns one says in its header why a half-done change does no harm.
 *
 * struct arena is private to the process: pointers into the mapping and what is derived.
 */
#ifndef ARENA_ARENA_H
#define ARENA_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "arena/header.h"
#include "base/layout.h"
#include "base/must.h"

#define ARENA_TABLES_MAX 24
#define ARENA_REGIONS_MAX 16

struct arena_table {
    unsigned char *slots; /* NULL: this arena has no such table */
    uint32_t slot_bytes;
    uint32_t capacity;
    uint32_t part; /* index into the header's parts */
    uint32_t free_count;
    uint32_t *free;      /* free slots below the high-water mark, last freed first */
    uint32_t used_count; /* committed and uncommitted */
};

struct arena {
    unsigned char *base;
    const struct arena_identity *identity;
    struct arena_live *live;
    unsigned char *undo;
    uint64_t undo_bytes;
    uint64_t turn;
    struct arena_table tables[ARENA_TABLES_MAX];
    unsigned char *regions[ARENA_REGIONS_MAX];
    uint64_t region_bytes[ARENA_REGIONS_MAX];
    /* Slots freed in this turn: (table, index) pairs. */
    uint32_t *freed;
    uint32_t freed_count, freed_room;
    struct arena_shadow *shadow; /* debug mode, arena/shadow.h */
    uint64_t crash_after;        /* counts down stores to a crash point; 0: none */
    int wipe_undo;               /* after this turn */
};

/* What a program expects of an arena: its tables, described, and how large each is to be. */
struct arena_table_plan {
    const struct arena_table_spec *spec;
    uint32_t capacity;
};
struct arena_region_plan {
    uint32_t number;
    uint32_t version;
    uint64_t size_bytes;
    uint64_t align_bytes; /* power of two, at least 64 */
};
struct arena_steps;
struct arena_plan {
    const struct arena_table_plan *tables;
    uint32_t table_count;
    const struct arena_region_plan *regions;
    uint32_t region_count;
    uint64_t undo_bytes;
    uint8_t boot_id[16];
    uint8_t arena_id[16];            /* at creation */
    const struct arena_steps *steps; /* from and to other layouts, convert.h; NULL: none */
};

/* Bytes that an arena of this plan needs. */
uint64_t arena_plan_bytes(const struct arena_plan *plan);

/* Hash over the layouts of all tables and the versions of all regions, in any order; two programs with the
 * same hash read each other's arenas. Capacities do not count. */
uint64_t arena_layout_hash(const struct arena_plan *plan);
uint64_t arena_layout_of(const struct arena_identity *id);

/* The identity page of a new arena of this plan, without what says which arena it is. */
void arena_plan_identity(const struct arena_plan *plan, struct arena_identity *id);
uint32_t arena_identity_crc(const struct arena_identity *id);

/* Makes a new arena in zeroed memory of arena_plan_bytes(). Returns 0 or ERR_NOMEM (private
 * memory). */
int arena_create(struct arena *a, void *base, uint64_t size_bytes, const struct arena_plan *plan);

/* Why an arena does not qualify (P8), in the order in which it is checked. */
enum arena_verdict {
    ARENA_QUALIFIES = 0,
    ARENA_BAD_MAGIC,
    ARENA_BAD_IDENTITY,
    ARENA_BAD_SIZE,
    ARENA_BAD_ADDRESS,
    ARENA_BAD_BOOT,
    ARENA_BAD_LAYOUT,
    ARENA_BAD_PHASE,
    ARENA_BAD_DEATHS,
    ARENA_BAD_UNDO,
    ARENA_BAD_SLOTS,
    ARENA_BAD_DISKS, /* said by whoever opens the disks, before the others */
    ARENA_BAD_CUSTODY, /* said by whoever finds that nobody holds its descriptors, before the others */
    ARENA_BAD_LOOP,    /* said by whoever counts deaths, after the others */
    ARENA_VERDICTS
};
const char *arena_verdict_text(enum arena_verdict v);

/* Deaths in a row, each before a turn was finished and none by SIGKILL: they tell of an arena that kills. */
#define ARENA_DEATHS_MAX 5u

/* Reads only. Everything but what needs the undo log applied first; `size_bytes` is that of the memory. */
enum arena_verdict arena_qualify(const void *base, uint64_t size_bytes,
                                 const struct arena_plan *plan);

/* One check of arena_qualify, for whoever tells all of them; ARENA_QUALIFIES: it holds. Only the first that
 * does not hold means what it says. */
enum arena_verdict arena_qualify_only(enum arena_verdict what, const void *base,
                                      uint64_t size_bytes, const struct arena_plan *plan);

/* After arena_roll_back, of an arena of this plan's layout: whether each slot's state word can be, and each
 * typed handle in a used slot names a place that its table has given out. Else ARENA_BAD_SLOTS, and where. */
struct arena_fault {
    const struct arena_table_spec *table;
    uint32_t slot;
    const char *field; /* NULL: the state word */
};
enum arena_verdict arena_check_slots(const void *base, const struct arena_plan *plan,
                                     struct arena_fault *fault);
/* The verdict, and where. */
void arena_fault_text(const struct arena_fault *f, char *out, size_t room);

/* Undoes the uncommitted turn, if there is one. Idempotent; needs no layout, only the header.
 * Returns the verdict on the undo log and changes nothing if it is not sound. */
enum arena_verdict arena_roll_back(void *base);

/* After arena_qualify and arena_roll_back: takes the arena over. Builds what is derived. */
int arena_attach(struct arena *a, void *base, uint64_t size_bytes, const struct arena_plan *plan);

/* Frees private memory; the arena itself stays as it is. */
void arena_detach(struct arena *a);

/* What this turn saves is secret: it is wiped from the undo log when the turn has happened. */
static inline void arena_wipe_undo(struct arena *a) {
    a->wipe_undo = 1;
}

/* The turn has happened: one store. Then freed slots may be used again. */
void arena_commit(struct arena *a);

/* Undo log in use and left, in bytes; a handler's budget is ARENA_HANDLER_UNDO_BYTES. The loop
 * commits between handlers when less than that is left. */
#define ARENA_HANDLER_UNDO_BYTES (256 * 1024u)
static inline uint64_t arena_undo_left(const struct arena *a) {
    return a->undo_bytes - atomic_load_explicit(&a->live->undo_used, memory_order_relaxed);
}
/* What the program works on from here on is an input of this connection (0: of nobody); `mark` tells it from the
 * connection's others. It is not undone: if the process dies, its successor knows of what. */
static inline void arena_hold_input(struct arena *a, uint32_t conn, uint32_t mark) {
    atomic_store_explicit(&a->live->input, conn ? (uint64_t)mark << 32 | conn : 0,
                          memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}
static inline int arena_turn_is_clean(const struct arena *a) {
    return atomic_load_explicit(&a->live->undo_used, memory_order_relaxed) == 0;
}

/* Saves len bytes at offset before they are changed. */
void arena_undo_save(struct arena *a, uint64_t offset, uint32_t len);

/* Untyped access; tables use the typed functions below. */
static inline struct slot *arena_slot_at(const struct arena *a, uint32_t table, uint32_t index) {
    return (struct slot *)(void *)(a->tables[table].slots +
                                   (uint64_t)index * a->tables[table].slot_bytes);
}
static inline const void *arena_try_view(const struct arena *a, uint32_t table, uint32_t handle) {
    uint32_t index = handle_index(handle);
    if (handle == 0 || index >= a->tables[table].capacity)
        return NULL;
    const struct slot *s = arena_slot_at(a, table, index);
    if (s->state == SLOT_FREE || s->generation != handle_generation(handle))
        return NULL;
    return s;
}
static inline const void *arena_view(const struct arena *a, uint32_t table, uint32_t handle) {
    const void *s = arena_try_view(a, table, handle);
    must(s != NULL);
    return s;
}
static inline void *arena_edit(struct arena *a, uint32_t table, uint32_t handle) {
    must(arena_try_view(a, table, handle) != NULL);
    struct slot *s = arena_slot_at(a, table, handle_index(handle));
    if (s->edit_turn != a->turn) {
        arena_undo_save(a, (uint64_t)((unsigned char *)s - a->base), a->tables[table].slot_bytes);
        s->edit_turn = a->turn;
    }
    return s;
}
/* For large slots: saves only the bytes [offset, offset+len) of the slot and leaves edit_turn
 * alone. Repeating it for the same range in one turn is correct and costs a second entry. */
static inline void *arena_edit_part(struct arena *a, uint32_t table, uint32_t handle,
                                    uint32_t offset, uint32_t len) {
    must(arena_try_view(a, table, handle) != NULL);
    must((uint64_t)offset + len <= a->tables[table].slot_bytes);
    struct slot *s = arena_slot_at(a, table, handle_index(handle));
    if (s->edit_turn != a->turn)
        arena_undo_save(a, (uint64_t)((unsigned char *)s - a->base) + offset, len);
    return s;
}

/* A zeroed slot in the given state (not SLOT_FREE), or 0 if the table is full. */
uint32_t arena_new(struct arena *a, uint32_t table, uint16_t state);
void arena_free(struct arena *a, uint32_t table, uint32_t handle);

/* Goes through the slots in use: pass 0 first, then the handle returned; 0 ends. */
uint32_t arena_next(const struct arena *a, uint32_t table, uint32_t handle);
static inline uint32_t arena_used(const struct arena *a, uint32_t table) {
    return a->tables[table].used_count;
}
/* Slots that arena_new can give in this turn. */
static inline uint32_t arena_room(const struct arena *a, uint32_t table) {
    const struct arena_table *t = &a->tables[table];
    return t->free_count + t->capacity -
           atomic_load_explicit(&a->live->high_water[t->part], memory_order_relaxed);
}

/* Typed access to one table. `cold` fields of big slots use tag_edit_part. */
#define SLOT_TABLE(tag, table_number)                                                              \
    static inline const struct tag *tag##_view(const struct arena *a, struct tag##_h h) {          \
        return arena_view(a, table_number, h.v);                                                   \
    }                                                                                              \
    static inline const struct tag *tag##_try(const struct arena *a, struct tag##_h h) {           \
        return arena_try_view(a, table_number, h.v);                                               \
    }                                                                                              \
    static inline struct tag *tag##_edit(struct arena *a, struct tag##_h h) {                      \
        return arena_edit(a, table_number, h.v);                                                   \
    }                                                                                              \
    static inline struct tag *tag##_edit_part(struct arena *a, struct tag##_h h, uint32_t offset,  \
                                              uint32_t len) {                                      \
        return arena_edit_part(a, table_number, h.v, offset, len);                                 \
    }                                                                                              \
    static inline struct tag##_h tag##_new(struct arena *a, uint16_t state) {                      \
        return (struct tag##_h){arena_new(a, table_number, state)};                                \
    }                                                                                              \
    static inline void tag##_free(struct arena *a, struct tag##_h h) {                             \
        arena_free(a, table_number, h.v);                                                          \
    }                                                                                              \
    static inline struct tag##_h tag##_next(const struct arena *a, struct tag##_h h) {             \
        return (struct tag##_h){arena_next(a, table_number, h.v)};                                 \
    }                                                                                              \
    static inline uint32_t tag##_used(const struct arena *a) {                                     \
        return arena_used(a, table_number);                                                        \
    }                                                                                              \
    static inline uint32_t tag##_room(const struct arena *a) {                                     \
        return arena_room(a, table_number);                                                        \
    }

/* Saves a field (or range of fields) of a large slot, giving the slot for the change. */
#define SLOT_EDIT_FIELD(a, tag, h, field)                                                          \
    tag##_edit_part(a, h, offsetof(struct tag, field), sizeof(((struct tag *)0)->field))

/* A crash point: in builds with crash points the process dies here when the count runs out, so that
 * tests can stop the engine between any two stores. */
#ifdef PERDURE_CRASH_POINTS
void arena_crash_point(struct arena *a);
#define CRASH_POINT(a) arena_crash_point(a)
#else
#define CRASH_POINT(a) ((void)(a))
#endif

#endif
