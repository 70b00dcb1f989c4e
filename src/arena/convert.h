/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena of another layout is made one of the layout that is wanted (mission P5).
 *
 * A *step* leads from one version of a table to the next one up or down: it carries each field that has the
 * same name, type and size in both, zeroes the others, and calls `more` for what is different. A program
 * brings the steps that it knows; several in a row make a way. Slots keep their places, states and
 * generations, so handles stay what they are, and buffers do not move.
 *
 *  1. Tables that differ are written into room of the memory that no part has, or behind its end; the memory
 *     may grow for it. Nothing that counts is changed, so dying there does no harm.
 *  2. The other identity page is written: it names the new places.
 *  3. One store makes it the one that counts. The old places are room again.
 *
 * The undo log is empty before: a turn is rolled back first, which needs no layout.
 *
 * A table that the arena lacks begins empty. A table that is not wanted may go when none of its slots is in
 * use; a region when a step says so.
 *
 * What is wanted is an identity page too: parts with their number, version and layout; of new parts the size.
 * Offsets in it mean nothing.
 */
#ifndef ARENA_CONVERT_H
#define ARENA_CONVERT_H

#include <stdint.h>

#include "arena/arena.h"

/* `more`: `to` has what was carried; slot headers are not its matter. Not 0: this slot has no form in the
 * other layout. Pure: it may be called for a slot that is being changed, and its result thrown away. */
struct arena_step {
    const struct arena_table_spec *from, *to;
    int (*more)(const void *from, void *to); /* NULL: nothing */
};

/* A region is never rewritten: its bytes are read alike by both versions; to 0: it may go. */
struct arena_region_step {
    uint32_t number, from, to;
};

struct arena_steps {
    const struct arena_step *tables;
    uint32_t table_count;
    const struct arena_region_step *regions;
    uint32_t region_count;
};

enum arena_fit {
    ARENA_FIT_SAME = 0,
    ARENA_FIT_CONVERTED = 1,
    ARENA_FIT_ADDED = 2,
    ARENA_FIT_DROPPED = 3,
    /* Worse is not convertible. */
    ARENA_FIT_NO_WAY = 4, /* no steps lead there */
    ARENA_FIT_IN_USE = 5, /* not wanted, but slots are in use */
    ARENA_FIT_SLOT = 6,   /* a slot has no form there */
};

struct arena_part_fit {
    uint32_t kind, number;
    uint32_t from, to; /* versions; 0: there is none */
    uint32_t fit;
    uint32_t slot; /* IN_USE, SLOT: the first one */
};

struct arena_conversion {
    struct arena_identity next; /* size_bytes: what the memory must have */
    struct arena_part_fit parts[2 * ARENA_PARTS_MAX];
    uint32_t part_count;
    uint32_t differs; /* parts whose fit is not SAME */
    int fits;
};

/* What would be done; reads only. With `slots`, each slot in use is tried. The arena's identity is sound. */
void arena_conversion_plan(struct arena_conversion *c, const void *base,
                           const struct arena_identity *want, const struct arena_steps *steps,
                           int slots);

/* For a conversion that fits, over memory that is large enough: zeroes the room that it needs. May be done
 * beside the engine that serves. */
void arena_conversion_prepare(const struct arena_conversion *c, void *base);

/* Then does it. ERR_RANGE: a slot has no form there; nothing has changed. */
int arena_conversion_run(struct arena_conversion *c, void *base, const struct arena_steps *steps);

/* In words, of one part: "table conn: version 2 there, 1 wanted; no converter is known". `name` of the part
 * may be NULL. Returns what snprintf does. */
int arena_part_fit_text(const struct arena_part_fit *p, const char *name, char *out, size_t room);

#endif
