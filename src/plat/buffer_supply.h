/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffer supply (BGSSImpl, bg_delivery_msg_t): a pool of buffers that are requested, delivered and
 * released. Who cannot have them now waits for them, in order, until an absolute time.
 *
 * Rules
 *  1. Requests are met in the order in which they were made: a request waits while an older one
 *     waits, even if there would be enough for it.
 *  2. request() delivers at once, or the request waits; then `delivered` is called once, with the
 *     number of extents or with ERR_TIMEDOUT.
 *  3. The time limit is absolute (monotonic clock, ns): a request that waits at that time or later
 *     ends with ERR_TIMEDOUT at the next dispatch, even if there were buffers for it.
 *     SUPPLY_NO_LIMIT waits for ever.
 *  4. A request is the caller's memory and is not touched by him while it waits.
 *  5. All callbacks come from dispatch, which calls at most one, so that the loop can commit in
 *     between. A callback may call anything here but dispatch.
 *
 * Waiting requests belong to the process: after an attach, whoever needs buffers asks again.
 */
#ifndef PLAT_BUFFER_SUPPLY_H
#define PLAT_BUFFER_SUPPLY_H

#include <stdint.h>

#include "plat/data_plane.h"

#define SUPPLY_EXTENTS 8 /* of one delivery */
#define SUPPLY_NO_LIMIT UINT64_MAX

struct supply_request {
    uint32_t pages;
    uint32_t extents_max; /* 1 to SUPPLY_EXTENTS; 1: contiguous */
    uint64_t until_ns;
    /* result: number of extents, or ERR_TIMEDOUT. The request is the caller's again. */
    void (*delivered)(void *arg, struct supply_request *r, int result);
    void *arg;
    struct extent extents[SUPPLY_EXTENTS]; /* the first `result` of them */
    struct supply_request *next, *prev;    /* the supply's */
};

struct buffer_supply_ops {
    /* Number of extents, delivered at once, without a callback; ERR_AGAIN: it waits; ERR_TOOBIG: the
     * whole pool would not do. */
    int (*request)(void *ctx, struct supply_request *r);
    /* A request that waits does not any more; it is not called. */
    void (*cancel)(void *ctx, struct supply_request *r);
    /* Gives an extent, or a part of one, back; it can be delivered when the turn is committed. */
    void (*release)(void *ctx, struct extent e);
    /* Calls at most one callback that is due; returns their number. now_ns: monotonic. */
    int (*dispatch)(void *ctx, uint64_t now_ns);
    /* When dispatch is to be called next if nothing is released: 0 at once, UINT64_MAX never. */
    uint64_t (*next_ns)(void *ctx);
};

struct buffer_supply {
    const struct buffer_supply_ops *ops;
    void *ctx;
};

#endif
