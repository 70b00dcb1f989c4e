/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of requests that change overlapping blocks of one volume. A request that has to read old
 * blocks first must see what came before it, and what comes after it must not get in between. So, in the
 * order of arrival:
 *
 *  1. a request that reads waits until every earlier one that overlaps is applied;
 *  2. one that does not read waits until every earlier one that overlaps is recorded.
 *
 * Each node counts the earlier ones that it waits for. Overlapping nodes are found through two lists of
 * regions of 1 MiB; what is longer than one region is in a list of its own. Private memory.
 */
#ifndef ENGINE_ORDER_H
#define ENGINE_ORDER_H

#include <stdint.h>

#define ORDER_BUCKETS 1024u
#define ORDER_REGION_BLOCKS 256u

struct order_node {
    /* set by the caller */
    uint32_t volume;
    int reads;
    uint64_t first, last; /* blocks */
    void (*ready)(
        struct order_node *n); /* it waits for nothing any more: not called by order_enter */
    /* order.c */
    int recorded;
    uint32_t waits_for;
    uint64_t number;  /* order of arrival */
    uint64_t visited; /* by which search */
    struct order_link {
        struct order_node *node;
        struct order_link *next, **at;
    } all, links[2];
    uint32_t link_count; /* 0: in the list of wide ones */
    struct order_link wide;
};

struct order {
    struct order_link *all; /* newest first */
    struct order_link *wide;
    struct order_link *buckets[ORDER_BUCKETS];
    uint64_t numbers, searches;
};

/* 1: it may go on; 0: it waits. */
int order_enter(struct order *o, struct order_node *n);
/* The node's change is recorded; order_leave will follow when it is applied. */
void order_recorded(struct order *o, struct order_node *n);
/* It is applied, or has failed. */
void order_leave(struct order *o, struct order_node *n);

#endif
