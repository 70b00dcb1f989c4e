/* SPDX-License-Identifier: Apache-2.0 */
#include "server/share.h"

#include <stdio.h>

#include "server/conn_tls.h"

#define LEFT_FACTOR 8u
#define LEFT_SHIFT 3 /* of the pool, at most */
#define LITTLE_PAGES 16u
#define LOOK_NS (100 * NS_PER_MS)
#define KEPT_NS NS_PER_S

int share_may_take(const struct buffer_pool *p, enum buffer_use use, uint32_t pages,
                   uint32_t kept_pages) {
    uint64_t left = buffer_left_by(p, use) +
                    min_u64((uint64_t)LEFT_FACTOR * pages, (uint64_t)p->pages >> LEFT_SHIFT);
    if (pages > LITTLE_PAGES)
        left += kept_pages;
    return left + pages <= p->free_pages;
}

int share_may_have_slot(uint32_t slots_free, uint32_t in_hand) {
    return slots_free > (uint64_t)LEFT_FACTOR * in_hand;
}

/* Nothing of a message lies in it: the next bytes find another one. */
static void give_idle_buffer(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    if (c->tls.v)
        conn_tls_give_idle_buffer(r, h);
    if (c->rx_buffer.pages == 0 || c->payload.v || c->rx_parsed != c->rx_received)
        return;
    struct conn *w = conn_edit(&r->a, h);
    buffer_release(&r->buffers, w->rx_buffer);
    w->rx_buffer = (struct extent){0, 0};
}

/* Bytes may leave before the kernel says so: it waits until a third of its buffer is free. */
static int holds_up(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    const struct conn_mark *m = &r->marks[handle_index(h.v)];
    if ((!c->tx_head.v && !c->payload.v && !(c->tls.v && conn_tls_has_output(r, c))) ||
        r->now_ns - m->moved_ns < r->stall_ns)
        return 0;
    conn_send(r, h);
    return conn_view(&r->a, h)->slot.state == CONN_OPEN && r->now_ns - m->moved_ns >= r->stall_ns;
}

static uint32_t pages_released(const struct buffer_pool *p) {
    uint32_t pages = 0;
    for (uint32_t i = 0; i < p->released_count; i++)
        pages += p->released[i].pages;
    return pages;
}

static void tell(struct reactor *r, struct conn_h last) {
    char text[320];
    if (!r->alerts.raise)
        return;
    snprintf(text, sizeof text,
             "%u connections were closed so far, the last one of %.60s: they held buffers that "
             "others waited "
             "for, and for %u s took and sent nothing; more buffers (key buffers) suffice for more "
             "of them",
             r->stalled_closed, (const char *)conn_view(&r->a, last)->peer,
             (unsigned)(r->stall_ns / NS_PER_S));
    r->alerts.raise(r->alerts.ctx, ALERT_WARNING, "buffers_held", "", text);
}

void share_relieve(struct reactor *r) {
    if (r->short_pages == 0 || r->now_ns < r->look_next_ns)
        return;
    r->look_next_ns = r->now_ns + LOOK_NS;
    struct conn_h last = {0};
    uint64_t freed = 0;
    for (struct conn_h h = conn_next(&r->a, (struct conn_h){0}); h.v; h = conn_next(&r->a, h)) {
        if (conn_view(&r->a, h)->slot.state != CONN_OPEN)
            continue;
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        give_idle_buffer(r, h);
        if (freed >= r->short_pages || !holds_up(r, h))
            continue;
        uint64_t before = pages_released(&r->buffers);
        reactor_abort(r, h);
        freed += pages_released(&r->buffers) - before + 1;
        r->stalled_closed++;
        last = h;
    }
    if (last.v) {
        r->kept_until_ns = r->now_ns + KEPT_NS;
        tell(r, last);
    }
}
