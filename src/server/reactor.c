/* SPDX-License-Identifier: Apache-2.0 */
#include "server/conn_tls.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "server/share.h"

#define EVENTS_MAX 256
#define ACCEPTS_PER_EVENT 16
/* A blocked connection is tried again when something was given back, and at the latest after this. */
#define BLOCKED_RETRY_NS (10 * NS_PER_MS)
#define STALL_NS (20 * NS_PER_S)
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)

static struct conn_mark *mark_of(struct reactor *r, struct conn_h c) {
    return &r->marks[handle_index(c.v)];
}

int reactor_open(struct reactor *r, struct boot *b, struct streams streams, struct clock clock) {
    uint32_t n = r->a.tables[TABLE_CONN].capacity;
    r->boot = b;
    r->streams = streams;
    r->clock = clock;
    r->now_ns = r->trace.now_ns = clock_monotonic_ns(&clock);
    r->marks = calloc(n, sizeof *r->marks);
    /* A connection may stand in a list still when it is closed and another one has its slot. */
    struct conn_list *lists[] = {&r->parse, &r->send, &r->close, &r->blocked, &r->ready};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (!(lists[i]->at = calloc(2 * (size_t)n, sizeof(struct conn_h))))
            return ERR_NOMEM;
    r->taken = calloc(2 * (size_t)n, sizeof *r->taken);
    r->server = server_next(&r->a, (struct server_h){0});
    r->accepting = 1;
    r->stall_ns = STALL_NS;
    r->descriptors_max = boot_descriptors_max();
    if (!r->marks || !r->taken)
        return ERR_NOMEM;
    return conn_tls_open(r);
}

int reactor_listen(struct reactor *r, const char *address, uint32_t protocol) {
    struct listener_h h = listener_new(&r->a, LISTENER_OPEN);
    if (!h.v)
        return ERR_NOMEM;
    struct listener *l = listener_edit(&r->a, h);
    int fd = r->streams.ops->listen(r->streams.ctx, address, STREAM_PRESERVED, (char *)l->address);
    if (fd < 0) {
        listener_free(&r->a, h);
        return fd;
    }
    l->fd = fd;
    l->protocol = protocol;
    l->identity = r->streams.ops->identity(r->streams.ctx, fd);
    strncpy((char *)l->wanted, address, sizeof l->wanted - 1);
    r->streams.ops->watch(r->streams.ctx, fd, (uint64_t)TAG_LISTENER << 32 | h.v, STREAM_READABLE);
    return 0;
}

static void watch_listeners(struct reactor *r) {
    uint32_t events = r->accepting && r->accept_again_ns == 0 ? STREAM_READABLE : 0;
    for (struct listener_h h = listener_next(&r->a, (struct listener_h){0}); h.v;
         h = listener_next(&r->a, h))
        r->streams.ops->rewatch(r->streams.ctx, listener_view(&r->a, h)->fd,
                                (uint64_t)TAG_LISTENER << 32 | h.v, events);
}

void reactor_accept_more(struct reactor *r, int on) {
    if (r->accepting == on)
        return;
    r->accepting = on;
    watch_listeners(r);
}

uint64_t reactor_accept_said(struct reactor *r, int fd) {
    static const char code[] = "no_descriptors";
    int none = fd == ERR_NOMEM;
    if (fd >= 0 || none) {
        if (none && !r->no_descriptors && r->alerts.raise)
            r->alerts.raise(r->alerts.ctx, ALERT_ERROR, code, "",
                            "clients wait: the system has no descriptor or no memory for another "
                            "connection; raise its limits, or close connections");
        if (!none && r->no_descriptors && r->alerts.clear)
            r->alerts.clear(r->alerts.ctx, code, "");
        r->no_descriptors = none;
    }
    return fd < 0 && fd != ERR_AGAIN ? r->now_ns + ACCEPT_PAUSE_NS : 0;
}

/* A slot for an accepted socket. */
void reactor_adopt(struct reactor *r, int fd, uint32_t protocol, const char *peer) {
    struct conn_h h = conn_room(&r->a) > 0 && fd < r->descriptors_max ? conn_new(&r->a, CONN_OPEN)
                                                                      : (struct conn_h){0};
    if (!h.v) { /* more connections than the limit: refused at once, visibly */
        r->streams.ops->end(r->streams.ctx, fd);
        r->streams.ops->close(r->streams.ctx, fd);
        return;
    }
    struct conn *c = conn_edit(&r->a, h);
    struct stream_positions at;
    c->fd = fd;
    c->protocol = protocol;
    c->identity = r->streams.ops->identity(r->streams.ctx, fd);
    c->accepted_wall_ns = clock_wall_ns(&r->clock);
    c->watched = CONN_WATCHED_UNKNOWN;
    c->engines_before = (uint32_t)server_engines_gone(server_view(&r->a, r->server));
    strncpy((char *)c->peer, peer, sizeof c->peer - 1);
    if (r->streams.ops->positions(r->streams.ctx, fd, &at) == ERR_UNSUPPORTED)
        c->flags |= CONN_NO_POSITIONS;
    server_edit(&r->a, r->server)->conns_ever++;
    trace_note(&r->trace, TRACE_CONN_OPENED, (uint64_t)handle_index(h.v) << 32 | (uint32_t)fd,
               protocol);
    *mark_of(r, h) = (struct conn_mark){.moved_ns = r->now_ns};
    conn_list_add(&r->send, &mark_of(r, h)->send, h); /* an output registers it */
    const struct protocol *p = r->protocols[protocol];
    if (p->opened && p->opened(p->ctx, h) < 0)
        reactor_abort(r, h);
}

static void listener_event(struct reactor *r, struct listener_h h) {
    const struct listener *l = listener_try(&r->a, h);
    char peer[STREAM_ADDRESS_BYTES] = "";
    if (!l || !r->accepting || r->accept_again_ns > 0)
        return;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = r->streams.ops->accept(r->streams.ctx, l->fd, STREAM_PRESERVED, peer);
        uint64_t again_ns = reactor_accept_said(r, fd);
        if (again_ns > 0) { /* it would be told for ever that somebody waits */
            r->accept_again_ns = again_ns;
            watch_listeners(r);
        }
        if (fd < 0)
            return;
        reactor_adopt(r, fd, l->protocol, peer);
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
    }
}

/* One with nothing in hand finds less than it wants. */
static void note_short(struct reactor *r, uint32_t pages) {
    if (r->short_pages == 0)
        r->first_pages = pages;
    r->short_pages += pages;
}

struct request_h reactor_request(struct reactor *r, struct conn_h c, uint8_t op, uint64_t bytes,
                                 uint32_t start, uint16_t state) {
    struct extent data[REQUEST_EXTENTS];
    uint32_t in_hand = op == REQUEST_MESSAGE ? 0 : conn_view(&r->a, c)->requests;
    uint32_t pages = bytes > 0 ? buffer_pages_for(start + bytes) : 0;
    enum buffer_use use = in_hand > 0 ? BUFFER_MORE : BUFFER_CLIENTS;
    uint32_t kept = r->now_ns < r->kept_until_ns ? r->first_pages : 0;
    int n = share_may_have_slot(request_room(&r->a), in_hand) &&
                    (pages == 0 || share_may_take(&r->buffers, use, pages, kept))
                ? 0
                : ERR_NOMEM;
    if (n == 0 && pages > 0)
        n = buffer_take_for(&r->buffers, use, pages, data, REQUEST_EXTENTS);
    if (n < 0) {
        if (conn_view(&r->a, c)->requests == 0)
            note_short(r, pages + 1);
        return (struct request_h){0};
    }
    struct request_h h = request_new(&r->a, state);
    struct request *q = request_edit(&r->a, h);
    q->op = op;
    q->conn = c;
    q->data_start = start;
    q->data_extents = (uint8_t)n;
    if (n > 0)
        memcpy(q->data, data, (size_t)n * sizeof data[0]);
    q->arrival = ++server_edit(&r->a, r->server)->arrivals;
    q->arrived_ns = r->now_ns;
    conn_edit(&r->a, c)->requests++;
    r->stats.requests++;
    trace_note(&r->trace, TRACE_REQUEST, (uint64_t)handle_index(h.v) << 32 | op, handle_index(c.v));
    return h;
}

void reactor_drop_request(struct reactor *r, struct request_h h) {
    const struct request *q = request_view(&r->a, h);
    const struct conn *c = conn_try(&r->a, q->conn);
    for (uint32_t i = 0; i < q->data_extents; i++)
        buffer_release(&r->buffers, q->data[i]);
    if (c) {
        const struct protocol *p = r->protocols[c->protocol];
        if (p->sent)
            p->sent(p->ctx, q->conn, h);
        conn_edit(&r->a, q->conn)->requests--;
    }
    r->given_back = 1;
    request_free(&r->a, h);
}

void reactor_reply(struct reactor *r, struct request_h h) {
    struct request *q = request_edit(&r->a, h);
    const struct conn *c = conn_try(&r->a, q->conn);
    must(q->slot.state == REQUEST_DONE);
    if (!c || c->slot.state != CONN_OPEN) {
        reactor_drop_request(r, h);
        return;
    }
    struct conn *w = conn_edit(&r->a, q->conn);
    q->next.v = 0;
    if (w->tx_tail.v)
        request_edit(&r->a, w->tx_tail)->next = h;
    else
        w->tx_head = h;
    if (!w->tx_tail.v)
        mark_of(r, q->conn)->moved_ns = r->now_ns;
    w->tx_tail = h;
    conn_list_add(&r->send, &mark_of(r, q->conn)->send, q->conn);
}

void reactor_resume(struct reactor *r, struct conn_h c) {
    conn_edit(&r->a, c)->flags &= ~(uint32_t)CONN_WAITING;
    conn_list_add(&r->parse, &mark_of(r, c)->parse, c);
    conn_list_add(&r->send, &mark_of(r, c)->send, c);
}

void reactor_finish(struct reactor *r, struct conn_h c) {
    conn_edit(&r->a, c)->flags |= CONN_CLOSE_WHEN_ANSWERED;
    conn_list_add(&r->send, &mark_of(r, c)->send, c);
}

/* The connection ends; requests that the program still works on lose their connection, or are dropped. */
static void end_conn(struct reactor *r, struct conn_h h, int drops_ready) {
    struct conn *c = conn_edit(&r->a, h);
    if (c->slot.state != CONN_OPEN)
        return;
    while (c->tx_head.v) {
        struct request_h q = c->tx_head;
        c->tx_head = request_view(&r->a, q)->next;
        reactor_drop_request(r, q);
    }
    c->tx_tail.v = 0;
    if (c->requests > 0) {
        struct request_h next;
        for (struct request_h q = request_next(&r->a, (struct request_h){0}); q.v; q = next) {
            next = request_next(&r->a, q);
            const struct request *v = request_view(&r->a, q);
            if (!conn_h_same(v->conn, h))
                continue;
            if ((v->slot.state == REQUEST_READY && !drops_ready) ||
                v->slot.state == REQUEST_APPLIED)
                request_edit(&r->a, q)->conn.v = 0; /* it is done all the same, and not answered */
            else
                reactor_drop_request(r, q);
        }
    }
    const struct protocol *p = c->protocol < PROTOCOLS ? r->protocols[c->protocol] : NULL;
    if (p && p->closed)
        p->closed(p->ctx, h);
    if (c->tls.v)
        conn_tls_end(r, h);
    c->payload.v = 0;
    buffer_release(&r->buffers, c->rx_buffer);
    c->rx_buffer = (struct extent){0, 0};
    c->slot.state = CONN_CLOSING;
    conn_list_add(&r->close, &mark_of(r, h)->close, h);
}

void reactor_abort(struct reactor *r, struct conn_h h) {
    end_conn(r, h, 0);
}

void reactor_expel(struct reactor *r, struct conn_h h) {
    end_conn(r, h, 1);
}

void reactor_commit(struct reactor *r) {
    arena_commit(&r->a);
    r->given_back |= r->buffers.released_count > 0;
    buffer_commit(&r->buffers);
    if (r->hooks && r->hooks->committed)
        r->hooks->committed(r->hooks->ctx);
    io_retire(&r->io);
    r->stats.turns++;
}

/* Moves a list out of the way, so that it can be filled again while it is gone through. */
static uint32_t take_list(struct reactor *r, struct conn_list *l) {
    uint32_t n = l->count;
    memcpy(r->taken, l->at, n * sizeof *r->taken);
    l->count = 0;
    return n;
}

/* What comes has no place. It is not listened to until there is one. */
void conn_block_for_buffer(struct reactor *r, struct conn_h h) {
    struct conn_mark *m = mark_of(r, h);
    m->no_buffer = 1;
    conn_list_add(&r->blocked, &m->blocked, h);
    conn_list_add(&r->send, &m->send, h);
    if (conn_view(&r->a, h)->requests == 0)
        note_short(r, 1);
}

static void receive_all(struct reactor *r) {
    struct conn_h *copy = r->taken;
    uint32_t n = take_list(r, &r->ready);
    int placed = 0;
    for (uint32_t i = 0; i < n; i++) {
        mark_of(r, copy[i])->ready = 0;
        if (!conn_try(&r->a, copy[i]) || conn_view(&r->a, copy[i])->slot.state != CONN_OPEN)
            continue;
        int rc = conn_need_buffer(r, copy[i]);
        if (rc < 0) {
            conn_block_for_buffer(r, copy[i]);
            copy[i].v = 0;
            continue;
        }
        placed |= rc;
    }
    /* Where bytes will lie is committed before they come. */
    if (placed)
        reactor_commit(r);
    for (uint32_t i = 0; i < n; i++)
        if (conn_try(&r->a, copy[i]) && conn_view(&r->a, copy[i])->slot.state == CONN_OPEN)
            conn_receive(r, copy[i]);
}

static void try_blocked(struct reactor *r) {
    struct conn_h *copy = r->taken;
    uint32_t n = take_list(r, &r->blocked);
    r->short_pages = r->first_pages = 0;
    r->given_back = 0;
    r->try_next_ns = r->now_ns + BLOCKED_RETRY_NS;
    for (uint32_t i = 0; i < n; i++) {
        struct conn_mark *m = mark_of(r, copy[i]);
        int no_buffer = m->no_buffer;
        m->blocked = m->no_buffer = 0;
        if (!conn_try(&r->a, copy[i]) || conn_view(&r->a, copy[i])->slot.state != CONN_OPEN)
            continue;
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        if (no_buffer && conn_need_buffer(r, copy[i]) < 0)
            conn_block_for_buffer(r, copy[i]);
        else
            conn_parse(r, copy[i]);
        /* It is listened to again, or has a buffer to encrypt into. */
        if (!m->blocked || (conn_try(&r->a, copy[i]) && conn_view(&r->a, copy[i])->tls.v))
            conn_list_add(&r->send, &m->send, copy[i]);
    }
}

static void parse_all(struct reactor *r) {
    if (r->blocked.count > 0 &&
        (r->given_back || r->now_ns >= r->try_next_ns)) /* they come before who comes now */
        try_blocked(r);
    struct conn_h *copy = r->taken;
    uint32_t n = take_list(r, &r->parse);
    for (uint32_t i = 0; i < n; i++) {
        mark_of(r, copy[i])->parse = 0;
        conn_parse(r, copy[i]);
    }
}

static void outputs(struct reactor *r) {
    struct conn_h *copy = r->taken;
    io_submit(&r->io);
    uint32_t n = take_list(r, &r->send);
    /* What is encrypted leaves only when the turn that says so has happened. */
    if (conn_tls_seal_all(r, copy, n))
        reactor_commit(r);
    for (uint32_t i = 0; i < n; i++) {
        mark_of(r, copy[i])->send = 0;
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        conn_send(r, copy[i]);
    }
    if (r->blocked.count > 0)
        share_relieve(r);
    if (r->close.count == 0)
        return;
    /* A connection is closed only when the turn that says so has happened. */
    reactor_commit(r);
    n = take_list(r, &r->close);
    for (uint32_t i = 0; i < n; i++) {
        mark_of(r, copy[i])->close = 0;
        conn_close(r, copy[i]);
    }
}

void reactor_turn(struct reactor *r) {
    struct stream_event events[EVENTS_MAX];
    if (!arena_turn_is_clean(&r->a))
        reactor_commit(r);
    uint64_t until =
        r->hooks && r->hooks->deadline ? r->hooks->deadline(r->hooks->ctx) : UINT64_MAX;
    if (r->blocked.count > 0)
        until = r->given_back ? 0 : min_u64(until, r->try_next_ns);
    if (r->more_to_do || r->parse.count > 0 || r->ready.count > 0 || r->send.count > 0)
        until = 0;
    if (r->accept_again_ns > 0)
        until = min_u64(until, r->accept_again_ns);
    uint64_t now = clock_monotonic_ns(&r->clock);
    uint64_t timeout = until == UINT64_MAX ? UINT64_MAX : until > now ? until - now : 0;
    boot_turn_ends(r->boot);
    int n = r->streams.ops->wait(r->streams.ctx, events, EVENTS_MAX, timeout);
    boot_turn_begins(r->boot);
    r->now_ns = clock_monotonic_ns(&r->clock);
    r->stats.events += (uint64_t)n;
    r->trace.now_ns = r->now_ns;
    if (n > 0)
        trace_note(&r->trace, TRACE_TURN, r->a.turn, (uint64_t)n);
    if (r->hooks && r->hooks->begin)
        r->hooks->begin(r->hooks->ctx);
    if (r->accept_again_ns > 0 && r->now_ns >= r->accept_again_ns) {
        r->accept_again_ns = 0;
        watch_listeners(r);
    }
    for (int i = 0; i < n; i++) {
        uint32_t kind = (uint32_t)(events[i].tag >> 32), handle = (uint32_t)events[i].tag;
        if (kind == TAG_CONN)
            conn_event(r, (struct conn_h){handle}, events[i].events);
        else if (kind == TAG_LISTENER)
            listener_event(r, (struct listener_h){handle});
        else if (kind != TAG_RING && r->hooks && r->hooks->event)
            r->hooks->event(r->hooks->ctx, kind, handle, events[i].events);
    }
    receive_all(r);
    while (io_take(&r->io, 64) == 64)
        reactor_commit(r);
    if (r->hooks && r->hooks->inputs)
        r->hooks->inputs(r->hooks->ctx);
    parse_all(r);
    if (r->hooks && r->hooks->handlers)
        r->hooks->handlers(r->hooks->ctx);
    reactor_commit(r);
    outputs(r);
    if (n > 0 && atomic_load_explicit(&r->a.live->deaths, memory_order_relaxed))
        atomic_store(&r->a.live->deaths, 0);
}

/* --- attach --- */

/* What the kernel took and gave when the engine died, brought into the slot. */
static int take_positions(struct reactor *r, struct conn_h h) {
    struct stream_positions at;
    const struct conn *c = conn_view(&r->a, h);
    if (c->flags & CONN_NO_POSITIONS || r->streams.ops->positions(r->streams.ctx, c->fd, &at) < 0)
        return ERR_UNSUPPORTED;
    if (c->tls.v)
        return conn_tls_take_positions(r, h, &at);
    if (at.received < c->rx_received || at.sent < c->tx_sent)
        return ERR_INTEGRITY;
    uint64_t room = c->rx_buffer.pages ? rx_buffer_end(c) : c->rx_received;
    if (at.received > max_u64(room, c->payload.v ? c->payload_end : 0))
        return ERR_INTEGRITY;
    struct conn *w = conn_edit(&r->a, h);
    w->rx_received = at.received;
    w->tx_sent = at.sent;
    return 0;
}

static int attach_conn(struct reactor *r, struct conn_h h, int after_crash) {
    const struct conn *c = conn_view(&r->a, h);
    int err = 0;
    if (c->protocol >= PROTOCOLS || !r->protocols[c->protocol])
        err = ERR_UNSUPPORTED;
    else if (after_crash) /* one that let go in order has left every number as the slots say */
        err = r->streams.ops->identity(r->streams.ctx, c->fd) == c->identity ? take_positions(r, h)
                                                                             : ERR_NOTFOUND;
    if (err == ERR_NOTFOUND) /* its number belongs to another socket by now */
        conn_edit(&r->a, h)->fd = -1;
    if (c->slot.state == CONN_CLOSING) {
        conn_list_add(&r->close, &mark_of(r, h)->close, h);
        return err;
    }
    if (err == 0 && c->tls.v)
        err = conn_tls_attach(r, h);
    if (err < 0) {
        reactor_abort(r, h);
        return err;
    }
    if (after_crash || !(r->streams.ops->caps & STREAM_CAP_WAIT_KEPT))
        conn_edit(&r->a, h)->watched =
            CONN_WATCHED_UNKNOWN; /* the first output registers it anew */
    /* It may have been blocked, or not been listened to: both lists are gone with the former engine. */
    mark_of(r, h)->moved_ns = r->now_ns;
    conn_list_add(&r->parse, &mark_of(r, h)->parse, h);
    conn_list_add(&r->send, &mark_of(r, h)->send, h);
    return 0;
}

int reactor_attach(struct reactor *r, int after_crash, uint32_t *closed) {
    *closed = 0;
    for (struct conn_h h = conn_next(&r->a, (struct conn_h){0}); h.v; h = conn_next(&r->a, h))
        if (buffer_claim(&r->buffers, conn_view(&r->a, h)->rx_buffer) < 0)
            return ERR_INTEGRITY;
    if (conn_tls_claim(r) < 0)
        return ERR_INTEGRITY;
    for (struct request_h h = request_next(&r->a, (struct request_h){0}); h.v;
         h = request_next(&r->a, h)) {
        const struct request *q = request_view(&r->a, h);
        if (q->data_extents > REQUEST_EXTENTS)
            return ERR_INTEGRITY;
        for (uint32_t i = 0; i < q->data_extents; i++)
            if (buffer_claim(&r->buffers, q->data[i]) < 0)
                return ERR_INTEGRITY;
    }
    for (struct listener_h h = listener_next(&r->a, (struct listener_h){0});
         h.v && !(r->streams.ops->caps & STREAM_CAP_WAIT_KEPT); h = listener_next(&r->a, h))
        r->streams.ops->watch(r->streams.ctx, listener_view(&r->a, h)->fd,
                              (uint64_t)TAG_LISTENER << 32 | h.v, 0);
    for (struct conn_h h = conn_next(&r->a, (struct conn_h){0}); h.v; h = conn_next(&r->a, h)) {
        int was_closing = conn_view(&r->a, h)->slot.state == CONN_CLOSING;
        if (attach_conn(r, h, after_crash) < 0 && !was_closing)
            ++*closed;
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
    }
    return 0;
}
