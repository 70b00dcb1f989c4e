/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace: a ring of recent trace points in a region of the arena. It survives a crash, so the
 * successor can tell what its predecessor did last, in the turn that was undone too.
 *
 *   offset 0       position of the next point (8), the rest reserved (56)
 *   offset 64      entries of 40 bytes, a power of two of them: mark, time, code and reserved, a, b
 *
 * Position p lies in entry p % entries; its mark is p + 1. Nothing here is undone, and a point that
 * was half written does no harm: its mark is cleared first and set last, so readers skip it. Any
 * content of the region is a valid trace.
 */
#ifndef ARENA_TRACE_H
#define ARENA_TRACE_H

#include <stdatomic.h>
#include <stdint.h>

struct arena;

struct trace_entry {
    _Atomic uint64_t mark;
    uint64_t time_ns; /* monotonic */
    uint32_t code;    /* the caller's */
    uint32_t reserved;
    uint64_t a, b;
};
_Static_assert(sizeof(struct trace_entry) == 40, "padding in struct trace_entry");

struct trace_head {
    _Atomic uint64_t next;
    uint64_t reserved[7];
};
_Static_assert(sizeof(struct trace_head) == 64, "padding in struct trace_head");

struct trace {
    struct trace_head *head;
    struct trace_entry *entries;
    uint64_t mask;   /* number of entries - 1 */
    uint64_t now_ns; /* the time of points that trace_note adds; whoever owns the turn sets it */
};

struct trace_point {
    uint64_t position;
    uint64_t time_ns;
    uint32_t code;
    uint64_t a, b;
};

/* ERR_INVAL: the arena has no such region, or it does not hold an entry. */
int trace_open(struct trace *t, struct arena *a, uint32_t region);
/* The same for any memory of the arena, 8-byte aligned. */
int trace_open_at(struct trace *t, void *memory, uint64_t bytes);

static inline void trace_add(struct trace *t, uint64_t time_ns, uint32_t code, uint64_t a,
                             uint64_t b) {
    uint64_t position = atomic_load_explicit(&t->head->next, memory_order_relaxed);
    struct trace_entry *e = &t->entries[position & t->mask];
    atomic_store_explicit(&e->mark, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    e->time_ns = time_ns;
    e->code = code;
    e->a = a;
    e->b = b;
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&e->mark, position + 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&t->head->next, position + 1, memory_order_relaxed);
}

/* A point of this turn; t may be NULL or without memory: then nothing is traced. */
static inline void trace_note(struct trace *t, uint32_t code, uint64_t a, uint64_t b) {
    if (t && t->head)
        trace_add(t, t->now_ns, code, a, b);
}

/* The oldest point at *position or after it, if there is one: returns 1, and *position is the one to
 * go on with. Begin with 0. For the reactor that writes, or when nobody does. */
int trace_next(const struct trace *t, uint64_t *position, struct trace_point *out);

#endif
