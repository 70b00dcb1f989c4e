/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"

/* More versions are not gone through at once. */
#define WAY_MAX 8u
#define HUGE_BYTES (2 * MIB)

struct way {
    const struct arena_step *step[WAY_MAX];
    uint32_t count;
};

/* --- one slot --- */

static const struct arena_field *field_like(const struct arena_table_spec *s,
                                            const struct arena_field *like, uint32_t *at) {
    *at = sizeof(struct slot);
    for (uint32_t i = 0; i < s->field_count; *at += s->fields[i++].size_bytes) {
        const struct arena_field *f = &s->fields[i];
        if (strcmp(f->name, like->name) == 0 && strcmp(f->type, like->type) == 0 &&
            f->size_bytes == like->size_bytes)
            return f;
    }
    return NULL;
}

/* Room that nobody reads is not carried: what it becomes begins as zero. */
static int is_room(const struct arena_field *f) {
    return strcmp(f->name, "reserved") == 0 || strcmp(f->name, "pad") == 0;
}

static int take_step(const struct arena_step *s, const unsigned char *from, unsigned char *to) {
    uint32_t at = sizeof(struct slot), there;
    memset(to, 0, s->to->slot_bytes);
    memcpy(to, from, sizeof(struct slot));
    for (uint32_t i = 0; i < s->from->field_count; at += s->from->fields[i++].size_bytes) {
        const struct arena_field *f = &s->from->fields[i];
        if (!is_room(f) && field_like(s->to, f, &there))
            memcpy(to + there, from + at, f->size_bytes);
    }
    return s->more ? s->more(from, to) : 0;
}

/* Room for the slot on its way: two buffers, taken in turn. */
struct carrier {
    const struct way *way;
    unsigned char *at[2];
};

static int carrier_open(struct carrier *k, const struct way *w) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < w->count; i++)
        most = (uint32_t)max_u64(most, w->step[i]->to->slot_bytes);
    k->way = w;
    k->at[0] = malloc(2 * (size_t)most);
    k->at[1] = k->at[0] ? k->at[0] + most : NULL;
    return k->at[0] ? 0 : ERR_NOMEM;
}

/* Where the slot lies in its last form; NULL: it has none. */
static const unsigned char *carry(struct carrier *k, const unsigned char *from) {
    for (uint32_t i = 0; i < k->way->count; i++) {
        if (take_step(k->way->step[i], from, k->at[i % 2]) != 0)
            return NULL;
        from = k->at[i % 2];
    }
    return from;
}

/* --- ways --- */

static int is_part(const struct arena_table_spec *s, const struct arena_part *p) {
    return s->number == p->number && s->version == p->version && s->slot_bytes == p->slot_bytes &&
           layout_hash(s) == p->layout;
}

/* Steps from the part to the wanted one, exactly `left` of them. */
static int find_way(const struct arena_steps *steps, const struct arena_part *from,
                    const struct arena_part *want, uint32_t left, struct way *w) {
    for (uint32_t i = 0; steps && i < steps->table_count; i++) {
        const struct arena_step *s = &steps->tables[i];
        if (!is_part(s->from, from))
            continue;
        w->step[w->count++] = s;
        struct arena_part next = {.number = s->to->number,
                                  .version = s->to->version,
                                  .slot_bytes = s->to->slot_bytes,
                                  .layout = layout_hash(s->to)};
        if (left == 1 ? is_part(s->to, want) : find_way(steps, &next, want, left - 1, w))
            return 1;
        w->count--;
    }
    return 0;
}

static int way_to(const struct arena_steps *steps, const struct arena_part *from,
                  const struct arena_part *want, struct way *w) {
    for (uint32_t length = 1; length <= WAY_MAX; length++) {
        w->count = 0;
        if (find_way(steps, from, want, length, w))
            return 1;
    }
    return 0;
}

static int region_step(const struct arena_steps *steps, uint32_t number, uint32_t from,
                       uint32_t to) {
    for (uint32_t i = 0; steps && i < steps->region_count; i++)
        if (steps->regions[i].number == number && steps->regions[i].from == from &&
            steps->regions[i].to == to)
            return 1;
    return 0;
}

static const struct arena_part *find_part(const struct arena_identity *id, uint32_t kind,
                                          uint32_t number) {
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind == kind && id->parts[i].number == number)
            return &id->parts[i];
    return NULL;
}

static int is_same(const struct arena_part *a, const struct arena_part *b) {
    return a->version == b->version && a->slot_bytes == b->slot_bytes && a->layout == b->layout;
}

/* --- room --- */

struct range {
    uint64_t begin, end;
};

/* What may not be written: all that the old identity names, and what the new one was given. */
struct taken {
    struct range at[2 * ARENA_PARTS_MAX + 4];
    uint32_t count;
};

static void take(struct taken *t, uint64_t begin, uint64_t bytes) {
    t->at[t->count++] = (struct range){begin, begin + bytes};
}

/* The first room of that size that nothing has. */
static uint64_t place(struct taken *t, uint64_t bytes) {
    uint64_t align = bytes >= HUGE_BYTES ? HUGE_BYTES : ARENA_PAGE_BYTES;
    uint64_t at = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (at < t->at[i].end && t->at[i].begin < at + bytes) {
            at = round_up_u64(t->at[i].end, align);
            i = UINT32_MAX; /* against all again */
        }
    take(t, at, bytes);
    return at;
}

static void take_all(struct taken *t, const struct arena_identity *id) {
    t->count = 0;
    take(t, 0, ARENA_HEADER_BYTES);
    take(t, id->undo_offset, id->undo_bytes);
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind != ARENA_PART_NONE)
            take(t, id->parts[i].offset, id->parts[i].size_bytes);
}

/* --- the plan --- */

static const struct arena_live *live_of(const void *base) {
    return (const void *)((const unsigned char *)base + ARENA_LIVE_OFFSET);
}

static const unsigned char *slot_of(const void *base, const struct arena_part *p, uint32_t i) {
    return (const unsigned char *)base + p->offset + (uint64_t)i * p->slot_bytes;
}

static int in_use(const unsigned char *slot) {
    return ((const struct slot *)(const void *)slot)->state != SLOT_FREE;
}

static uint32_t first_in_use(const void *base, const struct arena_part *p, uint32_t count) {
    uint32_t i = 0;
    while (i < count && !in_use(slot_of(base, p, i)))
        i++;
    return i;
}

/* The first slot that has no form at the way's end; count: there is none. */
static uint32_t first_without_form(const void *base, const struct arena_part *p, uint32_t count,
                                   const struct way *w) {
    struct carrier k;
    uint32_t i = 0;
    must(carrier_open(&k, w) == 0);
    while (i < count && (!in_use(slot_of(base, p, i)) || carry(&k, slot_of(base, p, i))))
        i++;
    free(k.at[0]);
    return i;
}

/* One part that the arena has; returns its fit. `p` becomes the part of the next identity. */
static uint32_t fit_old(struct arena_part_fit *f, const void *base, struct arena_part *p,
                        const struct arena_part *want, const struct arena_steps *steps,
                        uint32_t count, int slots) {
    struct way w;
    if (want && is_same(p, want))
        return ARENA_FIT_SAME;
    if (p->kind == ARENA_PART_REGION) {
        if (!region_step(steps, p->number, p->version, want ? want->version : 0))
            return ARENA_FIT_NO_WAY;
        if (want)
            p->version = want->version;
        return want ? ARENA_FIT_CONVERTED : ARENA_FIT_DROPPED;
    }
    if (!want) {
        f->slot = first_in_use(base, p, count);
        return f->slot < count ? ARENA_FIT_IN_USE : ARENA_FIT_DROPPED;
    }
    if (!way_to(steps, p, want, &w))
        return ARENA_FIT_NO_WAY;
    if (slots && (f->slot = first_without_form(base, p, count, &w)) < count)
        return ARENA_FIT_SLOT;
    p->version = want->version;
    p->slot_bytes = want->slot_bytes;
    p->layout = want->layout;
    return ARENA_FIT_CONVERTED;
}

static struct arena_part_fit *note(struct arena_conversion *c, const struct arena_part *old,
                                   const struct arena_part *want) {
    const struct arena_part *any = old ? old : want;
    struct arena_part_fit *f = &c->parts[c->part_count++];
    *f = (struct arena_part_fit){.kind = any->kind,
                                 .number = any->number,
                                 .from = old ? old->version : 0,
                                 .to = want ? want->version : 0};
    return f;
}

static void settle(struct arena_conversion *c, struct arena_part_fit *f, uint32_t fit) {
    f->fit = fit;
    c->differs += fit != ARENA_FIT_SAME;
    c->fits &= fit < ARENA_FIT_NO_WAY;
}

static struct arena_part *free_part(struct arena_identity *id) {
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind == ARENA_PART_NONE)
            return &id->parts[i];
    return id->part_count < ARENA_PARTS_MAX ? &id->parts[id->part_count++] : NULL;
}

static void add_new(struct arena_conversion *c, const struct arena_identity *old,
                    const struct arena_identity *want, struct taken *t) {
    for (uint32_t i = 0; i < want->part_count; i++) {
        const struct arena_part *w = &want->parts[i];
        if (w->kind == ARENA_PART_NONE || find_part(old, w->kind, w->number))
            continue;
        struct arena_part_fit *f = note(c, NULL, w);
        struct arena_part *p = free_part(&c->next);
        settle(c, f, p ? ARENA_FIT_ADDED : ARENA_FIT_NO_WAY);
        if (p) {
            *p = *w;
            p->offset = place(t, p->size_bytes);
        }
    }
}

void arena_conversion_plan(struct arena_conversion *c, const void *base,
                           const struct arena_identity *want, const struct arena_steps *steps,
                           int slots) {
    const struct arena_identity *old = arena_identity_of(base);
    struct taken t;
    memset(c, 0, sizeof *c);
    c->next = *old;
    c->fits = 1;
    take_all(&t, old);
    for (uint32_t i = 0; i < old->part_count; i++) {
        struct arena_part *p = &c->next.parts[i];
        if (p->kind == ARENA_PART_NONE)
            continue;
        const struct arena_part *w = find_part(want, p->kind, p->number);
        struct arena_part_fit *f = note(c, p, w);
        settle(c, f,
               fit_old(f, base, p, w, steps, atomic_load(&live_of(base)->high_water[i]), slots));
        if (f->fit == ARENA_FIT_DROPPED) {
            *p = (struct arena_part){.kind = ARENA_PART_NONE};
        } else if (f->fit == ARENA_FIT_CONVERTED && p->kind == ARENA_PART_TABLE) {
            p->size_bytes = (uint64_t)p->capacity * p->slot_bytes;
            p->offset = place(&t, p->size_bytes);
        }
    }
    add_new(c, old, want, &t);
    /* Larger slots need more room to be saved in. */
    if (c->differs > 0 && want->undo_bytes > old->undo_bytes) {
        c->next.undo_bytes = want->undo_bytes;
        c->next.undo_offset = place(&t, want->undo_bytes);
    }
    take_all(&t, &c->next);
    c->next.size_bytes = 0;
    for (uint32_t i = 0; i < t.count; i++)
        c->next.size_bytes =
            max_u64(c->next.size_bytes, round_up_u64(t.at[i].end, ARENA_PAGE_BYTES));
    c->next.layout_hash = arena_layout_of(&c->next);
    c->next.identity_crc = arena_identity_crc(&c->next);
}

/* --- doing it --- */

/* What the next identity names at another place than the one that counts. */
static int is_moved(const struct arena_identity *old, const struct arena_part *p) {
    const struct arena_part *was = find_part(old, p->kind, p->number);
    return p->kind != ARENA_PART_NONE && (!was || was->offset != p->offset);
}

void arena_conversion_prepare(const struct arena_conversion *c, void *base) {
    const struct arena_identity *old = arena_identity_of(base);
    must(c->fits);
    for (uint32_t i = 0; i < c->next.part_count; i++)
        if (is_moved(old, &c->next.parts[i]))
            memset((unsigned char *)base + c->next.parts[i].offset, 0, c->next.parts[i].size_bytes);
    if (c->next.undo_offset != old->undo_offset)
        memset((unsigned char *)base + c->next.undo_offset, 0, c->next.undo_bytes);
}

static int convert_table(void *base, const struct arena_part *from, const struct arena_part *to,
                         uint32_t count, const struct arena_steps *steps) {
    struct carrier k;
    struct way w;
    int err = 0;
    must(way_to(steps, from, to, &w) && carrier_open(&k, &w) == 0);
    for (uint32_t i = 0; i < count && err == 0; i++) {
        const unsigned char *slot = slot_of(base, from, i);
        unsigned char *there = (unsigned char *)base + to->offset + (uint64_t)i * to->slot_bytes;
        if (!in_use(slot)) { /* of a free one only the generation counts */
            memcpy(there, slot, sizeof(struct slot));
            continue;
        }
        const unsigned char *done = carry(&k, slot);
        if (done)
            memcpy(there, done, to->slot_bytes);
        else
            err = ERR_RANGE;
    }
    free(k.at[0]);
    return err;
}

int arena_conversion_run(struct arena_conversion *c, void *base, const struct arena_steps *steps) {
    const struct arena_identity *old = arena_identity_of(base);
    unsigned char *b = base;
    struct arena_live *live = (void *)(b + ARENA_LIVE_OFFSET);
    uint32_t other = (const void *)old == base;
    must(c->fits && atomic_load(&live->undo_used) == 0);
    for (uint32_t i = 0; i < c->next.part_count; i++) {
        const struct arena_part *p = &c->next.parts[i];
        const struct arena_part *was = find_part(old, p->kind, p->number);
        if (p->kind != ARENA_PART_TABLE || !is_moved(old, p))
            continue;
        if (!was)
            atomic_store(&live->high_water[i], 0); /* of a place that nothing had */
        else if (convert_table(base, was, p, atomic_load(&live->high_water[i]), steps) < 0)
            return ERR_RANGE;
    }
    memcpy(b + (other ? ARENA_OTHER_IDENTITY_OFFSET : ARENA_IDENTITY_OFFSET), &c->next,
           sizeof c->next);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store(&live->identity, other);
    return 0;
}

int arena_part_fit_text(const struct arena_part_fit *p, const char *name, char *out, size_t room) {
    static const char *const texts[] = {"is the same",
                                        "is converted",
                                        "is new and begins empty",
                                        "is dropped",
                                        "no converter is known",
                                        "is not known, and slots of it are in use",
                                        "a slot has no form in the other layout"};
    char number[16];
    snprintf(number, sizeof number, "%u", p->number);
    return snprintf(out, room, "%s %s, version %u there and %u here: %s",
                    p->kind == ARENA_PART_TABLE ? "table" : "region", name ? name : number, p->from,
                    p->to, texts[p->fit]);
}
