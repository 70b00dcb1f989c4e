/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two private hash tables: from id to slot, filled by walking the slots when an id is not found;
 * and from id to list. A list that nobody holds stays until IDLE_MAX others are idle too.
 */
#include "engine/ancestry.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/hash.h"

#define BUCKETS 1024u
#define IDLE_MAX 64u

struct node {
    struct ancestry view; /* first: a view is its node */
    struct node *next;    /* in the bucket */
    uint32_t holders;
    uint64_t given; /* when it became idle: the smallest goes first */
    struct ancestor list[];
};

struct ancestries {
    const struct arena *a;
    struct node *buckets[BUCKETS];
    uint32_t idle;
    uint64_t clock;
    struct timeline_h *slots; /* open addressing by id */
    uint32_t slot_room;       /* power of two, more than twice the table's capacity */
};

int ancestries_open(struct ancestries **out, const struct arena *a) {
    struct ancestries *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->a = a;
    s->slot_room = 64;
    while (s->slot_room < 2 * a->tables[TABLE_TIMELINE].capacity + 2)
        s->slot_room *= 2;
    s->slots = calloc(s->slot_room, sizeof *s->slots);
    if (!s->slots) {
        free(s);
        return ERR_NOMEM;
    }
    *out = s;
    return 0;
}

void ancestries_close(struct ancestries *s) {
    if (!s)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct node *n = s->buckets[i], *next; n; n = next) {
            next = n->next;
            free(n);
        }
    free(s->slots);
    free(s);
}

static struct timeline_h slot_in_hash(const struct ancestries *s, uint32_t id) {
    uint32_t at = (uint32_t)hash_mix(id) & (s->slot_room - 1);
    for (; s->slots[at].v; at = (at + 1) & (s->slot_room - 1)) {
        const struct timeline *t = timeline_try(s->a, s->slots[at]);
        if (t && t->id == id)
            return s->slots[at];
    }
    return (struct timeline_h){0};
}

static void walk_slots(struct ancestries *s) {
    for (uint32_t i = 0; i < s->slot_room; i++)
        s->slots[i].v = 0;
    for (struct timeline_h h = timeline_next(s->a, (struct timeline_h){0}); h.v;
         h = timeline_next(s->a, h)) {
        uint32_t at = (uint32_t)hash_mix(timeline_view(s->a, h)->id) & (s->slot_room - 1);
        while (s->slots[at].v)
            at = (at + 1) & (s->slot_room - 1);
        s->slots[at] = h;
    }
}

struct timeline_h ancestry_slot(struct ancestries *s, uint32_t timeline) {
    struct timeline_h h = slot_in_hash(s, timeline);
    if (!h.v) {
        walk_slots(s);
        h = slot_in_hash(s, timeline);
    }
    return h;
}

static struct node *build(struct ancestries *s, uint32_t id) {
    uint32_t count = 0;
    uint32_t family = 0;
    for (uint32_t at = id; at; count++) {
        struct timeline_h h = ancestry_slot(s, at);
        if (!h.v)
            return NULL;
        const struct timeline *t = timeline_view(s->a, h);
        if (t->parent >= t->id)
            return NULL;
        if (count == 0)
            family = t->family;
        else if (t->family != family)
            return NULL;
        at = t->parent;
    }
    if (count == 0)
        return NULL;
    struct node *n = calloc(1, sizeof *n + count * sizeof n->list[0]);
    must(n != NULL);
    uint64_t limit = UINT64_MAX;
    uint32_t at = id;
    for (uint32_t i = 0; i < count; i++) {
        const struct timeline *t = timeline_view(s->a, slot_in_hash(s, at));
        n->list[i] = (struct ancestor){.timeline = at, .limit = limit};
        if (t->fork_sequence < limit)
            limit = t->fork_sequence;
        at = t->parent;
    }
    n->view = (struct ancestry){.timeline = id, .family = family, .count = count, .list = n->list};
    return n;
}

static void drop_oldest_idle(struct ancestries *s) {
    struct node **oldest = NULL;
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct node **n = &s->buckets[i]; *n; n = &(*n)->next)
            if ((*n)->holders == 0 && (!oldest || (*n)->given < (*oldest)->given))
                oldest = n;
    must(oldest != NULL);
    struct node *gone = *oldest;
    *oldest = gone->next;
    free(gone);
    s->idle--;
}

const struct ancestry *ancestry_take(struct ancestries *s, uint32_t timeline) {
    struct node **bucket = &s->buckets[(uint32_t)hash_mix(timeline) % BUCKETS];
    struct node *n = *bucket;
    while (n && n->view.timeline != timeline)
        n = n->next;
    if (!n) {
        n = build(s, timeline);
        if (!n)
            return NULL;
        n->next = *bucket;
        *bucket = n;
    } else if (n->holders == 0) {
        s->idle--;
    }
    n->holders++;
    return &n->view;
}

void ancestry_give(struct ancestries *s, const struct ancestry *v) {
    struct node *n = s->buckets[(uint32_t)hash_mix(v->timeline) % BUCKETS];
    while (&n->view != v) {
        n = n->next;
        must(n != NULL);
    }
    must(n->holders > 0);
    if (--n->holders > 0)
        return;
    n->given = ++s->clock;
    if (++s->idle > IDLE_MAX)
        drop_oldest_idle(s);
}
