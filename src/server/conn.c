/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection's bytes: received into places that are known beforehand, parsed by its protocol, answered
 * from the queue of replies. The invariants stand in conn_slots.h.
 */
#include <string.h>

#include "base/err.h"
#include "server/conn_tls.h"

#define RX_PAGES 16u
#define RX_LOW_BYTES 4096u

void conn_list_add(struct conn_list *l, uint8_t *mark, struct conn_h c) {
    if (*mark)
        return;
    *mark = 1;
    l->at[l->count++] = c;
}

static struct conn_mark *mark_of(struct reactor *r, struct conn_h c) {
    return &r->marks[handle_index(c.v)];
}

/* Bytes [start, start+len) of an extent list as vectors; returns their number. */
static uint32_t vecs_of(const struct reactor *r, const struct extent *e, uint32_t extents,
                        uint64_t start, uint64_t len, struct io_vec *out, uint32_t max) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < extents && len > 0 && n < max; i++) {
        uint64_t bytes = (uint64_t)e[i].pages * BUFFER_PAGE_BYTES;
        if (start >= bytes) {
            start -= bytes;
            continue;
        }
        uint64_t take = min_u64(bytes - start, len);
        out[n++] = (struct io_vec){buffer_data(&r->buffers, e[i].first) + start, take};
        len -= take;
        start = 0;
    }
    return n;
}

uint32_t conn_buffer_pages(const struct reactor *r) {
    return r->buffers.free_pages > r->buffers.pages / 4 ? RX_PAGES : 1;
}

int conn_need_place(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    if (c->rx_buffer.pages > 0)
        return 0;
    struct extent e;
    uint32_t pages = conn_buffer_pages(r);
    while (buffer_take_for(&r->buffers, BUFFER_CLIENTS, pages, &e, 1) < 0) {
        if (pages == 1)
            return ERR_AGAIN;
        pages /= 2;
    }
    struct conn *w = conn_edit(&r->a, h);
    w->rx_buffer = e;
    must(w->rx_parsed == w->rx_received || w->payload.v || w->skip_end > w->rx_received);
    w->rx_origin = max_u64(w->rx_parsed, w->rx_received);
    return 1;
}

/* Makes sure that received bytes have a place. Returns 1 if that changed the slot: then a commit is due
 * before the receive; ERR_AGAIN if there is no buffer. */
int conn_need_buffer(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    return c->tls.v ? conn_tls_need_buffer(r, h) : conn_need_place(r, h);
}

uint32_t conn_places(const struct reactor *r, const struct conn *c, struct io_vec *vecs) {
    uint32_t n = 0;
    uint64_t at = c->rx_received;
    if (c->payload.v && at < c->payload_end) {
        const struct request *q = request_view(&r->a, c->payload);
        n = vecs_of(r, q->data, q->data_extents, q->data_start + (at - c->payload_start),
                    c->payload_end - at, vecs, REQUEST_EXTENTS);
        at = c->payload_end;
    }
    if (rx_buffer_end(c) > at)
        vecs[n++] =
            (struct io_vec){buffer_data(&r->buffers, c->rx_buffer.first) + (at - c->rx_origin),
                            rx_buffer_end(c) - at};
    return n;
}

void conn_receive(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    struct io_vec vecs[CONN_PLACES];
    uint32_t n = c->tls.v ? conn_tls_places(r, c, vecs) : conn_places(r, c, vecs);
    if (n == 0)
        return;
    int64_t got = r->streams.ops->receive(r->streams.ctx, c->fd, vecs, n);
    if (got == ERR_AGAIN)
        return;
    struct conn *w = conn_edit(&r->a, h);
    if (got < 0) {
        reactor_abort(r, h);
        return;
    }
    if (w->tls.v)
        conn_tls_received(r, w, (uint64_t)got);
    else if (got == 0)
        w->flags |= CONN_PEER_ENDED;
    else
        w->rx_received += (uint64_t)got;
    mark_of(r, h)->moved_ns = r->now_ns;
    r->stats.received_bytes += (uint64_t)got;
    conn_list_add(&r->parse, &mark_of(r, h)->parse, h);
}

/* What is left of a message moves to the beginning of a fresh buffer when the end of this one is near; the
 * old bytes stay as they are until the turn is committed. */
static void make_room(struct reactor *r, struct conn_h h, size_t need) {
    const struct conn *c = conn_view(&r->a, h);
    if (c->rx_buffer.pages == 0 || c->payload.v)
        return;
    uint64_t tail = c->rx_received - c->rx_parsed;
    if (tail == 0) {
        if (c->rx_origin != c->rx_received) {
            struct conn *w = conn_edit(&r->a, h);
            w->rx_origin = w->rx_received;
            /* Idle connections hold no buffer when buffers are scarce. */
            if (r->buffers.free_pages < r->buffers.pages / 2) {
                buffer_release(&r->buffers, w->rx_buffer);
                w->rx_buffer = (struct extent){0, 0};
            }
        }
        return;
    }
    if (need < tail + 1)
        need = tail + 1;
    if (rx_buffer_end(c) - c->rx_received >= RX_LOW_BYTES &&
        c->rx_parsed + need <= rx_buffer_end(c))
        return;
    /* Nothing to gain: it begins with what is not parsed. It may be full of requests that wait. */
    if (c->rx_parsed == c->rx_origin &&
        (c->rx_buffer.pages >= RX_PAGES || c->rx_parsed + need <= rx_buffer_end(c)))
        return;
    struct extent e;
    uint32_t pages = RX_PAGES, pages_min = buffer_pages_for(need);
    must(pages_min <= RX_PAGES);
    while (buffer_take_for(&r->buffers, BUFFER_CLIENTS, pages, &e, 1) < 0) {
        if (pages / 2 < pages_min) {
            conn_list_add(&r->blocked, &mark_of(r, h)->blocked, h);
            return;
        }
        pages /= 2;
    }
    must(tail < (uint64_t)pages * BUFFER_PAGE_BYTES);
    memcpy(buffer_data(&r->buffers, e.first),
           buffer_data(&r->buffers, c->rx_buffer.first) + (c->rx_parsed - c->rx_origin), tail);
    struct conn *w = conn_edit(&r->a, h);
    buffer_release(&r->buffers, w->rx_buffer);
    w->rx_buffer = e;
    w->rx_origin = w->rx_parsed;
}

/* The next bytes are the payload of a request: what is here is copied, the rest is received in place. */
static void begin_payload(struct reactor *r, struct conn_h h, struct request_h q) {
    struct conn *w = conn_edit(&r->a, h);
    const struct request *v = request_view(&r->a, q);
    uint64_t have = min_u64(w->rx_received - w->rx_parsed, v->length_bytes);
    const unsigned char *from =
        buffer_data(&r->buffers, w->rx_buffer.first) + (w->rx_parsed - w->rx_origin);
    struct io_vec vecs[REQUEST_EXTENTS];
    uint32_t n = vecs_of(r, v->data, v->data_extents, v->data_start, have, vecs, REQUEST_EXTENTS);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(vecs[i].base, from, vecs[i].bytes);
        from += vecs[i].bytes;
    }
    if (have == v->length_bytes) {
        w->rx_parsed += have;
        r->protocols[w->protocol]->payload_done(r->protocols[w->protocol]->ctx, h, q);
        return;
    }
    w->payload = q;
    w->payload_start = w->rx_parsed;
    w->payload_end = w->rx_parsed + v->length_bytes;
    w->rx_parsed = w->rx_origin = w->payload_end;
}

static void parse(struct reactor *r, struct conn_h h) {
    size_t need = 0;
    for (;;) {
        const struct conn *c = conn_try(&r->a, h);
        if (!c || c->slot.state != CONN_OPEN ||
            c->flags & (CONN_WAITING | CONN_CLOSE_WHEN_ANSWERED))
            return;
        const struct protocol *p = r->protocols[c->protocol];
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        arena_hold_input(&r->a, h.v, (uint32_t)c->rx_parsed);
        if (c->payload.v) {
            if (c->rx_received < c->payload_end)
                break;
            struct request_h q = c->payload;
            conn_edit(&r->a, h)->payload.v = 0;
            p->payload_done(p->ctx, h, q);
            continue;
        }
        if (c->skip_end > c->rx_parsed) {
            struct conn *w = conn_edit(&r->a, h);
            w->rx_parsed = min_u64(w->skip_end, w->rx_received);
            if (w->rx_parsed < w->skip_end)
                break;
            continue;
        }
        /* Also with no bytes: the protocol may have an answer for which there was no room before. */
        uint64_t bytes = c->rx_received - c->rx_parsed;
        const uint8_t *at = bytes == 0 ? (const uint8_t *)""
                                       : buffer_data(&r->buffers, c->rx_buffer.first) +
                                             (c->rx_parsed - c->rx_origin);
        struct conn_step s = p->input(p->ctx, h, at, bytes);
        if (!conn_try(&r->a, h) || conn_view(&r->a, h)->slot.state != CONN_OPEN)
            return;
        must(s.consumed <= bytes);
        struct conn *w = conn_edit(&r->a, h);
        w->rx_parsed += s.consumed;
        need = s.need;
        if (s.want == CONN_PAYLOAD) {
            begin_payload(r, h, s.request);
        } else if (s.want == CONN_SKIP) {
            w->skip_end = w->rx_parsed + s.skip;
        } else if (s.want == CONN_BLOCKED) {
            conn_list_add(&r->blocked, &mark_of(r, h)->blocked, h);
            break;
        } else if (s.want == CONN_WAIT) {
            w->flags |= CONN_WAITING;
            break;
        } else if (s.want == CONN_FINISH) {
            reactor_finish(r, h);
            return;
        } else if (s.want == CONN_ABORT) {
            reactor_abort(r, h);
            return;
        } else if (s.want == CONN_SECURE) {
            conn_tls_start(r, h);
            return;
        } else {
            break;
        }
    }
    const struct conn *c = conn_view(&r->a, h);
    if (c->flags & CONN_PEER_ENDED && !mark_of(r, h)->blocked) {
        const struct protocol *p = r->protocols[c->protocol];
        if (c->payload.v) { /* it never becomes whole, and nobody may wait for it */
            struct request_h q = c->payload;
            conn_edit(&r->a, h)->payload.v = 0;
            reactor_drop_request(r, q);
        }
        if (p->peer_ended)
            p->peer_ended(p->ctx, h);
        else
            reactor_finish(r, h);
        return;
    }
    make_room(r, h, need);
}

void conn_parse(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_try(&r->a, h);
    if (c && c->tls.v && c->slot.state == CONN_OPEN)
        conn_tls_parse(r, h, parse);
    else
        parse(r, h);
    arena_hold_input(&r->a, 0, 0);
}

/* Whether bytes can be received: there is a place for them and somebody who wants them. */
static int wants_input(const struct reactor *r, const struct conn *c, const struct conn_mark *m) {
    if (c->flags & (CONN_PEER_ENDED | CONN_CLOSE_WHEN_ANSWERED | CONN_WAITING) || m->blocked)
        return 0;
    if (c->tls.v)
        return conn_tls_wants_input(r, c);
    return c->rx_buffer.pages == 0 || c->rx_received < rx_buffer_end(c);
}

/* Output phase: the wait outlives the process, so it never names a slot that is not committed. Its next owner
 * would hear what comes for somebody else. */
void conn_set_watch(struct reactor *r, struct conn_h h) {
    const struct stream_ops *ops = r->streams.ops;
    const struct conn *c = conn_view(&r->a, h);
    const struct conn_mark *m = mark_of(r, h);
    uint64_t tag = (uint64_t)TAG_CONN << 32 | h.v;
    uint32_t events =
        (wants_input(r, c, m) ? STREAM_READABLE : 0) | (m->wants_writable ? STREAM_WRITABLE : 0);
    if (events == c->watched)
        return;
    conn_edit(&r->a, h)->watched = events;
    int err = ops->rewatch(r->streams.ctx, c->fd, tag, events);
    if (err == ERR_NOTFOUND)
        err = ops->watch(r->streams.ctx, c->fd, tag, events);
    if (err < 0) /* nobody would ever hear of it */
        reactor_abort(r, h);
}

static void pop_reply(struct reactor *r, struct conn_h h) {
    struct conn *w = conn_edit(&r->a, h);
    struct request_h q = w->tx_head;
    const struct request *v = request_view(&r->a, q);
    w->tx_head_start += v->head_bytes + v->reply_data_bytes;
    w->tx_head = v->next;
    if (!w->tx_head.v)
        w->tx_tail.v = 0;
    reactor_drop_request(r, q);
}

/* Replies that have left whole: sent just now, or by a process that died before it could say so. */
void conn_pop_sent(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    while (c->tx_head.v) {
        const struct request *v = request_view(&r->a, c->tx_head);
        if (c->tx_head_start + v->head_bytes + v->reply_data_bytes > c->tx_sent)
            break;
        pop_reply(r, h);
    }
}

/* The replies from tx_sent on, as far as CONN_SEND_VECS hold them; the first is not sent whole. */
uint32_t conn_unsent(const struct reactor *r, const struct conn *c, struct io_vec *vecs) {
    uint32_t n = 0;
    uint64_t skip = c->tx_sent - c->tx_head_start;
    for (struct request_h q = c->tx_head; q.v && n + REQUEST_EXTENTS + 1 <= CONN_SEND_VECS;) {
        const struct request *v = request_view(&r->a, q);
        if (skip < v->head_bytes)
            vecs[n++] = (struct io_vec){(void *)(uintptr_t)(v->head + skip), v->head_bytes - skip};
        skip -= min_u64(skip, v->head_bytes);
        n += vecs_of(r, v->data, v->data_extents, v->data_start + skip, v->reply_data_bytes - skip,
                     vecs + n, CONN_SEND_VECS - n);
        skip = 0;
        q = v->next;
    }
    return n;
}

/* Sends what the kernel takes. Output phase; the edits belong to the next turn. */
void conn_send(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_try(&r->a, h);
    struct io_vec vecs[CONN_SEND_VECS];
    if (!c || c->slot.state != CONN_OPEN)
        return;
    struct conn_mark *m = mark_of(r, h);
    m->wants_writable = 0;
    if (c->tls.v && conn_tls_send(r, h))
        return;
    for (conn_pop_sent(r, h); c->tx_head.v; conn_pop_sent(r, h)) {
        int64_t sent = r->streams.ops->send(r->streams.ctx, c->fd, vecs, conn_unsent(r, c, vecs));
        if (sent == ERR_AGAIN) {
            m->wants_writable = 1;
            break;
        }
        if (sent < 0) {
            reactor_abort(r, h);
            return;
        }
        conn_edit(&r->a, h)->tx_sent += (uint64_t)sent;
        m->moved_ns = r->now_ns;
        r->stats.sent_bytes += (uint64_t)sent;
    }
    if (!c->tx_head.v && c->flags & CONN_CLOSE_WHEN_ANSWERED && c->requests == 0) {
        reactor_abort(r, h);
        return;
    }
    if (c->tls.v && !c->tx_head.v)
        conn_tls_started(r, h);
    conn_set_watch(r, h);
}

void conn_event(struct reactor *r, struct conn_h h, uint32_t events) {
    const struct conn *c = conn_try(&r->a, h);
    if (!c || c->slot.state != CONN_OPEN)
        return;
    struct conn_mark *m = mark_of(r, h);
    /* Nothing is waited for, so this is a reset, and it would be told for ever. */
    if (c->watched == 0) {
        reactor_abort(r, h);
        return;
    }
    if (events & STREAM_WRITABLE) {
        conn_list_add(&r->send, &m->send, h);
    }
    if (events & STREAM_READABLE) {
        if (wants_input(r, c, m))
            conn_list_add(&r->ready, &m->ready, h);
        else
            conn_list_add(&r->send, &m->send, h); /* sets the watch, or finds the failure */
    }
}

/* Output phase: nobody holds back the end of the stream, whoever else has the descriptor. */
void conn_close(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    must(c->slot.state == CONN_CLOSING);
    trace_note(&r->trace, TRACE_CONN_CLOSED, (uint64_t)handle_index(h.v) << 32 | (uint32_t)c->fd,
               0);
    r->streams.ops->unwatch(r->streams.ctx, c->fd);
    r->streams.ops->end(r->streams.ctx, c->fd);
    r->streams.ops->close(r->streams.ctx, c->fd);
    if (r->accept_again_ns > 0) /* there is a descriptor now */
        r->accept_again_ns = r->now_ns;
    if (mark_of(r, h)->blocked) /* taken from the list */
        r->given_back = 1;
    memset(mark_of(r, h), 0, sizeof(struct conn_mark));
    conn_free(&r->a, h);
}
