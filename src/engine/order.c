/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/order.h"

#include <stddef.h>

#include "base/hash.h"
#include "base/must.h"

static void link_in(struct order_link **list, struct order_link *l, struct order_node *n) {
    l->node = n;
    l->next = *list;
    l->at = list;
    if (l->next)
        l->next->at = &l->next;
    *list = l;
}

static void link_out(struct order_link *l) {
    *l->at = l->next;
    if (l->next)
        l->next->at = l->at;
}

static struct order_link **bucket_of(struct order *o, uint32_t volume, uint64_t region) {
    return &o->buckets[hash_pair(volume, region) % ORDER_BUCKETS];
}

static int overlap(const struct order_node *a, const struct order_node *b) {
    return a->volume == b->volume && a->first <= b->last && b->first <= a->last;
}

static int is_wide(const struct order_node *n) {
    return n->last - n->first >= ORDER_REGION_BLOCKS;
}

typedef void each_overlap(struct order_node *n, struct order_node *other, void *ctx);

static void visit_list(struct order *o, struct order_link *list, struct order_node *n,
                       each_overlap *each, void *ctx) {
    for (struct order_link *l = list, *next; l; l = next) {
        next = l->next;
        struct order_node *other = l->node;
        if (other == n || other->visited == o->searches || !overlap(n, other))
            continue;
        other->visited = o->searches;
        each(n, other, ctx);
    }
}

/* Every other node that overlaps, once. */
static void visit(struct order *o, struct order_node *n, each_overlap *each, void *ctx) {
    o->searches++;
    if (is_wide(n)) {
        visit_list(o, o->all, n, each, ctx);
        return;
    }
    uint64_t first = n->first / ORDER_REGION_BLOCKS, last = n->last / ORDER_REGION_BLOCKS;
    visit_list(o, *bucket_of(o, n->volume, first), n, each, ctx);
    if (last != first)
        visit_list(o, *bucket_of(o, n->volume, last), n, each, ctx);
    visit_list(o, o->wide, n, each, ctx);
}

static void count_earlier(struct order_node *n, struct order_node *other, void *ctx) {
    (void)ctx;
    if (!other->recorded || n->reads)
        n->waits_for++;
}

int order_enter(struct order *o, struct order_node *n) {
    must(n->first <= n->last);
    n->recorded = 0;
    n->waits_for = 0;
    n->visited = 0;
    n->number = ++o->numbers;
    visit(o, n, count_earlier, NULL);
    link_in(&o->all, &n->all, n);
    if (is_wide(n)) {
        n->link_count = 0;
        link_in(&o->wide, &n->wide, n);
        return n->waits_for == 0;
    }
    uint64_t first = n->first / ORDER_REGION_BLOCKS, last = n->last / ORDER_REGION_BLOCKS;
    link_in(bucket_of(o, n->volume, first), &n->links[0], n);
    n->link_count = 1;
    if (last != first) {
        link_in(bucket_of(o, n->volume, last), &n->links[1], n);
        n->link_count = 2;
    }
    return n->waits_for == 0;
}

/* What waited for n waits no more: those that read, or those that do not. */
static void release(struct order_node *n, struct order_node *other, void *ctx) {
    const int *readers = ctx;
    if (other->number < n->number || other->reads != *readers)
        return;
    must(other->waits_for > 0);
    if (--other->waits_for == 0)
        other->ready(other);
}

void order_recorded(struct order *o, struct order_node *n) {
    int readers = 0;
    must(!n->recorded && n->waits_for == 0);
    n->recorded = 1;
    visit(o, n, release, &readers);
}

void order_leave(struct order *o, struct order_node *n) {
    int readers = 1;
    if (!n->recorded)
        order_recorded(o, n);
    visit(o, n, release, &readers);
    link_out(&n->all);
    if (n->link_count == 0)
        link_out(&n->wide);
    for (uint32_t i = 0; i < n->link_count; i++)
        link_out(&n->links[i]);
}
