/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/buffer_supply.h"

#include <string.h>

#include "base/err.h"

void local_supply_open(struct local_supply *s, struct buffer_pool *pool) {
    memset(s, 0, sizeof *s);
    s->pool = pool;
}

void local_supply_close(struct local_supply *s) {
    must(s->first == NULL && s->mapped == 0);
}

static int supply(struct local_supply *s, struct supply_request *r) {
    int n = buffer_take(s->pool, r->pages, r->extents, r->extents_max);
    s->tried = s->pool->changes;
    return n;
}

static int is_to_be_tried(const struct local_supply *s) {
    return s->first && s->tried != s->pool->changes;
}

static void append(struct local_supply *s, struct supply_request *r) {
    r->next = NULL;
    r->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = r;
    s->last = r;
}

static void take_out(struct local_supply *s, struct supply_request *r) {
    *(r->prev ? &r->prev->next : &s->first) = r->next;
    *(r->next ? &r->next->prev : &s->last) = r->prev;
    r->next = r->prev = NULL;
    s->tried = UINT64_MAX; /* another one may be the first now */
}

static int request(void *ctx, struct supply_request *r) {
    struct local_supply *s = ctx;
    must(r->pages > 0 && r->extents_max > 0 && r->extents_max <= SUPPLY_EXTENTS && r->delivered);
    if (r->pages > s->pool->pages)
        return ERR_TOOBIG;
    int n = s->first ? ERR_NOMEM : supply(s, r);
    if (n > 0)
        return n;
    append(s, r);
    return ERR_AGAIN;
}

static void cancel(void *ctx, struct supply_request *r) {
    take_out(ctx, r);
}

static void release(void *ctx, struct extent e) {
    struct local_supply *s = ctx;
    buffer_release(s->pool, e);
}

static int dispatch(void *ctx, uint64_t now_ns) {
    struct local_supply *s = ctx;
    for (struct supply_request *r = s->first; r; r = r->next) {
        if (r->until_ns != SUPPLY_NO_LIMIT && r->until_ns <= now_ns) {
            take_out(s, r);
            r->delivered(r->arg, r, ERR_TIMEDOUT);
            return 1;
        }
    }
    if (!is_to_be_tried(s))
        return 0;
    struct supply_request *r = s->first;
    int n = supply(s, r);
    if (n < 0)
        return 0;
    take_out(s, r);
    r->delivered(r->arg, r, n);
    return 1;
}

static uint64_t next_ns(void *ctx) {
    const struct local_supply *s = ctx;
    uint64_t next = SUPPLY_NO_LIMIT;
    if (is_to_be_tried(s))
        return 0;
    for (const struct supply_request *r = s->first; r; r = r->next)
        next = min_u64(next, r->until_ns);
    return next;
}

static const struct buffer_supply_ops supply_ops = {request, cancel, release, dispatch, next_ns};

struct buffer_supply local_supply_interface(struct local_supply *s) {
    return (struct buffer_supply){&supply_ops, s};
}

/* The buffers' memory is the arena itself: a mapping costs nothing, and a change is seen at once. */

static int check(const struct local_supply *s, struct extent e) {
    uint32_t pages = s->pool->pages;
    return e.pages == 0 || e.first > pages || e.pages > pages - e.first ? ERR_INVAL : 0;
}

static int map(void *ctx, struct extent e, unsigned char **memory) {
    struct local_supply *s = ctx;
    int err = check(s, e);
    if (err < 0)
        return err;
    s->mapped++;
    *memory = buffer_data(s->pool, e.first);
    return 0;
}

static int unmap(void *ctx, struct extent e, int modified) {
    struct local_supply *s = ctx;
    int err = check(s, e);
    if (err < 0)
        return err;
    must(s->mapped > 0);
    s->mapped--;
    return 0;
}

static int replicate(void *ctx, struct extent e, uint16_t node) {
    int err = check(ctx, e);
    return err < 0 ? err : ERR_UNSUPPORTED;
}

static int mark_local(void *ctx, struct extent e) {
    return check(ctx, e);
}

static const struct data_plane_ops plane_ops = {map, unmap, replicate, mark_local};

struct data_plane local_supply_data_plane(struct local_supply *s) {
    return (struct data_plane){&plane_ops, s};
}
