/* SPDX-License-Identifier: Apache-2.0 */
#include "server/conn_tls.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/wipe.h"

/* The largest record, and room to receive on while it is decrypted. */
#define IN_PAGES_MIN 5u
#define OUT_PAGES 32u
/* Data is not cut into records smaller than this, unless there is no more. */
#define SMALL_BYTES 1024u

_Static_assert(IN_PAGES_MIN *BUFFER_PAGE_BYTES >= TLS_RECORD_MAX, "a record fits");

static struct tls_env env_of(struct reactor *r) {
    return (struct tls_env){&r->a, r->tls.ops};
}

static struct conn_tls *mine(const struct reactor *r, struct conn_h h) {
    return &r->conn_tls[handle_index(h.v)];
}

static const struct tls *tls_of(const struct reactor *r, struct conn_h h) {
    return tls_view(&r->a, conn_view(&r->a, h)->tls);
}

static struct tls *edit_tls(struct reactor *r, struct conn_h h) {
    return tls_edit(&r->a, conn_view(&r->a, h)->tls);
}

static uint64_t in_end(const struct tls *t) {
    return t->in_origin + (uint64_t)t->in_buffer.pages * BUFFER_PAGE_BYTES;
}

static uint64_t out_end(const struct tls *t) {
    return t->out_origin + (uint64_t)t->out_buffer.pages * BUFFER_PAGE_BYTES;
}

static uint32_t in_pages(const struct reactor *r) {
    return conn_buffer_pages(r) > IN_PAGES_MIN ? conn_buffer_pages(r) : IN_PAGES_MIN;
}

static const uint8_t *in_at(const struct reactor *r, const struct tls *t) {
    return t->in_buffer.pages
               ? buffer_data(&r->buffers, t->in_buffer.first) + (t->in_opened - t->in_origin)
               : (const uint8_t *)"";
}

static uint8_t *out_at(const struct reactor *r, const struct tls *t, uint64_t position) {
    return buffer_data(&r->buffers, t->out_buffer.first) + (position - t->out_origin);
}

int conn_tls_open(struct reactor *r) {
    if (!r->a.tables[TABLE_TLS].slots)
        return 0;
    r->conn_tls = calloc(r->a.tables[TABLE_CONN].capacity, sizeof *r->conn_tls);
    r->tls_record = malloc(TLS_BODY_MAX);
    return r->conn_tls && r->tls_record ? 0 : ERR_NOMEM;
}

static void end_handshake(struct reactor *r, struct conn_h h) {
    struct conn_tls *m = mine(r, h);
    if (!m->handshake)
        return;
    r->tls.ops->end(m->handshake);
    m->handshake = NULL;
    r->handshakes--;
}

/* --- the beginning --- */

void conn_tls_start(struct reactor *r, struct conn_h h) {
    struct tls_h th = r->tls.ops && r->a.tables[TABLE_TLS].slots ? tls_new(&r->a, TLS_STARTING)
                                                                 : (struct tls_h){0};
    if (!th.v) {
        reactor_abort(r, h);
        return;
    }
    struct conn *c = conn_edit(&r->a, h);
    struct tls *t = tls_edit(&r->a, th);
    must(c->rx_parsed == c->rx_received && !c->payload.v);
    c->tls = th;
    t->conn = h;
    t->in_received = t->in_opened = t->in_origin = c->rx_received;
    conn_list_add(&r->send, &r->marks[handle_index(h.v)].send, h);
}

void conn_tls_started(struct reactor *r, struct conn_h h) {
    const struct conn *c = conn_view(&r->a, h);
    if (c->slot.state != CONN_OPEN || tls_of(r, h)->slot.state != TLS_STARTING)
        return;
    struct tls *t = edit_tls(r, h);
    t->out_sent = t->out_sealed = t->out_origin = c->tx_sent;
    t->slot.state = TLS_HANDSHAKE;
    conn_list_add(&r->parse, &r->marks[handle_index(h.v)].parse, h);
}

/* --- in --- */

int conn_tls_need_buffer(struct reactor *r, struct conn_h h) {
    const struct tls *t = tls_of(r, h);
    struct extent e;
    if (t->in_buffer.pages == 0) {
        uint32_t pages = in_pages(r);
        while (buffer_take_for(&r->buffers, BUFFER_CLIENTS, pages, &e, 1) < 0) {
            if (pages == IN_PAGES_MIN)
                return ERR_AGAIN;
            pages = pages / 2 > IN_PAGES_MIN ? pages / 2 : IN_PAGES_MIN;
        }
        struct tls *w = edit_tls(r, h);
        must(w->in_opened == w->in_received);
        w->in_buffer = e;
        w->in_origin = w->in_received;
        return 1;
    }
    return 0;
}

uint32_t conn_tls_places(const struct reactor *r, const struct conn *c, struct io_vec *vecs) {
    const struct tls *t = tls_view(&r->a, c->tls);
    if (t->in_buffer.pages == 0 || t->in_received >= in_end(t))
        return 0;
    vecs[0] = (struct io_vec){buffer_data(&r->buffers, t->in_buffer.first) +
                                  (t->in_received - t->in_origin),
                              in_end(t) - t->in_received};
    return 1;
}

void conn_tls_received(struct reactor *r, struct conn *c, uint64_t bytes) {
    struct tls *t = tls_edit(&r->a, c->tls);
    if (bytes == 0)
        t->flags |= TLS_IN_ENDED;
    t->in_received += bytes;
}

int conn_tls_wants_input(const struct reactor *r, const struct conn *c) {
    const struct tls *t = tls_view(&r->a, c->tls);
    return !(t->flags & TLS_IN_ENDED) && (t->in_buffer.pages == 0 || t->in_received < in_end(t));
}

/* What is left of a record moves to the beginning of a fresh buffer if the whole of it has no room in this one. */
static void make_room(struct reactor *r, struct conn_h h) {
    const struct tls *t = tls_of(r, h);
    uint64_t tail = t->in_received - t->in_opened;
    struct extent e;
    if (t->in_buffer.pages == 0)
        return;
    if (tail == 0) {
        struct tls *w = edit_tls(r, h);
        w->in_origin = w->in_received;
        if (r->buffers.free_pages < r->buffers.pages / 2) {
            buffer_release(&r->buffers, w->in_buffer);
            w->in_buffer = (struct extent){0, 0};
        }
        return;
    }
    if (t->in_opened == t->in_origin || t->in_opened + TLS_RECORD_MAX <= in_end(t))
        return;
    if (buffer_take_for(&r->buffers, BUFFER_CLIENTS, in_pages(r), &e, 1) < 0 &&
        buffer_take_for(&r->buffers, BUFFER_CLIENTS, IN_PAGES_MIN, &e, 1) < 0) {
        conn_list_add(&r->blocked, &r->marks[handle_index(h.v)].blocked, h);
        return;
    }
    if (tail > (uint64_t)e.pages * BUFFER_PAGE_BYTES) { /* whole records wait in it */
        buffer_release(&r->buffers, e);
        return;
    }
    memcpy(buffer_data(&r->buffers, e.first), in_at(r, t), tail);
    struct tls *w = edit_tls(r, h);
    buffer_release(&r->buffers, w->in_buffer);
    w->in_buffer = e;
    w->in_origin = w->in_opened;
}

/* The peer is told why, as far as its socket takes it, and the connection ends. */
static void fail(struct reactor *r, struct conn_h h, enum tls_alert alert) {
    struct tls_env env = env_of(r);
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_of(r, h);
    struct extent e;
    if (t->out_buffer.pages == 0 && buffer_take_for(&r->buffers, BUFFER_CLIENTS, 1, &e, 1) > 0) {
        struct tls *w = edit_tls(r, h);
        w->out_buffer = e;
        w->out_origin = w->out_sealed;
    }
    if (t->out_buffer.pages > 0 && t->out_sealed + TLS_ALERT_BYTES <= out_end(t) &&
        tls_seal_alert(&env, c->tls, &mine(r, h)->link, alert, out_at(r, t, t->out_sealed)) > 0) {
        reactor_commit(r);
        struct io_vec v = {out_at(r, t, t->out_sent), t->out_sealed - t->out_sent};
        r->streams.ops->send(r->streams.ctx, c->fd, &v, 1);
    }
    reactor_abort(r, h);
}

static void scatter(const uint8_t *from, uint32_t bytes, const struct io_vec *vecs, uint32_t n) {
    for (uint32_t i = 0; i < n && bytes > 0; i++) {
        uint32_t k = (uint32_t)min_u64(vecs[i].bytes, bytes);
        memcpy(vecs[i].base, from, k);
        from += k;
        bytes -= k;
    }
}

/* Decrypts records into the places that there are. 1: a whole record waits for a place; 0: none; or the connection
 * has failed. */
static int fill(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    for (;;) {
        struct io_vec places[CONN_PLACES];
        const struct conn *c = conn_view(&r->a, h);
        const struct tls *t = tls_view(&r->a, c->tls);
        uint64_t have = t->in_received - t->in_opened, room = 0;
        int size =
            c->flags & CONN_PEER_ENDED ? 0 : tls_record_bytes(&env, c->tls, in_at(r, t), have);
        if (size >= 0 && (size == 0 || (uint64_t)size > have)) {
            if (t->flags & TLS_IN_ENDED && !(c->flags & CONN_PEER_ENDED))
                conn_edit(&r->a, h)->flags |= CONN_PEER_ENDED;
            return 0;
        }
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        if (c->rx_buffer.pages == 0 && conn_need_place(r, h) < 0) {
            conn_block_for_buffer(r, h);
            return 1;
        }
        uint32_t n = conn_places(r, c, places);
        for (uint32_t i = 0; i < n; i++)
            room += places[i].bytes;
        if (room == 0)
            return 1;
        int in_place = t->in_taken == 0 && size > 0 && places[0].bytes >= (uint64_t)size;
        uint8_t *out = in_place ? places[0].base : r->tls_record;
        struct tls_opened o = tls_open(&env, c->tls, &mine(r, h)->link, in_at(r, t), have, out);
        if (o.what == TLS_BAD) {
            fail(r, h, o.alert);
            return ERR_PROTO;
        }
        if (o.what == TLS_DATA) {
            uint32_t bytes = (uint32_t)min_u64(o.bytes - t->in_taken, room);
            if (!in_place)
                scatter(out + t->in_taken, bytes, places, n);
            conn_edit(&r->a, h)->rx_received += bytes;
            if (t->in_taken + bytes < o.bytes) {
                edit_tls(r, h)->in_taken += bytes;
                return 1;
            }
        }
        if (tls_take(&env, c->tls, &o) < 0) {
            fail(r, h, TLS_ALERT_INTERNAL_ERROR);
            return ERR_NOMEM;
        }
        if (o.what == TLS_ENDS)
            conn_edit(&r->a, h)->flags |= CONN_PEER_ENDED;
        if (o.what == TLS_UPDATE)
            conn_list_add(&r->send, &r->marks[handle_index(h.v)].send, h);
    }
}

static int has_room(const struct reactor *r, const struct conn *c) {
    struct io_vec places[CONN_PLACES];
    return c->rx_buffer.pages == 0 || conn_places(r, c, places) > 0;
}

/* --- the handshake --- */

static int take_out_buffer(struct reactor *r, struct conn_h h) {
    const struct tls *t = tls_of(r, h);
    struct extent e;
    if (t->out_buffer.pages > 0)
        return 0;
    uint32_t pages = OUT_PAGES;
    while (buffer_take_for(&r->buffers, BUFFER_CLIENTS, pages, &e, 1) < 0) {
        if (pages > 1) {
            pages /= 2;
            continue;
        }
        /* What waits to be sent holds buffers itself: a page more, and they are given back. */
        if (buffer_take_for(&r->buffers, BUFFER_OLD_BLOCKS, 1, &e, 1) < 0)
            return ERR_AGAIN;
        break;
    }
    struct tls *w = edit_tls(r, h);
    w->out_buffer = e;
    w->out_origin = w->out_sealed;
    return 0;
}

/* Moves what the handshake wants to send where it can be sent from. 1: all of it. */
static int move_output(struct reactor *r, struct conn_h h) {
    struct conn_tls *m = mine(r, h);
    if (take_out_buffer(r, h) < 0)
        return 0;
    struct tls *w = edit_tls(r, h);
    if (w->out_sent == w->out_sealed)
        w->out_origin = w->out_sealed;
    uint64_t room = out_end(w) - w->out_sealed;
    size_t n = room ? r->tls.ops->output(m->handshake, out_at(r, w, w->out_sealed), room) : 0;
    w->out_sealed += n;
    conn_list_add(&r->send, &r->marks[handle_index(h.v)].send, h);
    return n < room;
}

/* Ends with what it agreed on in the slots. */
static int agree(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    struct tls_agreed agreed;
    const struct conn *c = conn_view(&r->a, h);
    int err = r->tls.ops->agreed(mine(r, h)->handshake, &agreed);
    if (err == 0)
        err = tls_begin(&env, c->tls, &agreed);
    wipe(&agreed, sizeof agreed);
    if (err < 0)
        return err;
    end_handshake(r, h);
    r->protocols[c->protocol]->secured(r->protocols[c->protocol]->ctx, h);
    return 0;
}

/* Returns 1 when both sides agree, 0 to wait, or an error: nothing more is to be sent. */
static int handshake(struct reactor *r, struct conn_h h) {
    struct conn_tls *m = mine(r, h);
    const struct tls *t = tls_of(r, h);
    size_t taken = 0;
    if (t->in_opened == t->in_received)
        return t->flags & TLS_IN_ENDED ? ERR_CLOSED : 0;
    if (!m->handshake) {
        if (t->flags & TLS_BEGUN || !(m->handshake = r->tls.ops->begin(r->tls.ctx)))
            return ERR_CLOSED;
        r->handshakes++;
    }
    int err = r->tls.ops->step(m->handshake, in_at(r, t), t->in_received - t->in_opened, &taken);
    struct tls *w = edit_tls(r, h);
    w->in_opened += taken;
    w->flags |= TLS_BEGUN;
    int moved = move_output(r, h);
    if (err < 0 && err != ERR_AGAIN) {
        reactor_finish(r, h); /* an alert of the library's may leave before */
        return 0;
    }
    if (!moved)
        return ERR_NOMEM; /* buffers are scarce, or it has more to say than any certificate takes */
    if (err == 0 && (err = agree(r, h)) == 0)
        return 1;
    return err == ERR_AGAIN && !(t->flags & TLS_IN_ENDED) ? 0 : err;
}

void conn_tls_parse(struct reactor *r, struct conn_h h,
                    void (*parse)(struct reactor *r, struct conn_h h)) {
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_view(&r->a, c->tls);
    if (t->slot.state == TLS_STARTING || c->flags & CONN_CLOSE_WHEN_ANSWERED) {
        if (t->flags & TLS_IN_ENDED && t->slot.state == TLS_STARTING)
            reactor_abort(r, h);
        return;
    }
    if (t->slot.state == TLS_HANDSHAKE) {
        int agreed = handshake(r, h);
        if (agreed < 0) {
            reactor_abort(r, h);
            return;
        }
        if (agreed == 0) {
            make_room(r, h);
            return;
        }
    }
    for (int more = 1; more;) {
        if ((more = fill(r, h)) < 0)
            return;
        parse(r, h);
        c = conn_try(&r->a, h);
        if (!c || c->slot.state != CONN_OPEN)
            return;
        if (c->flags & (CONN_WAITING | CONN_CLOSE_WHEN_ANSWERED) ||
            r->marks[handle_index(h.v)].blocked || (more && !has_room(r, c)))
            break;
    }
    make_room(r, h);
}

/* --- out --- */

int conn_tls_has_output(const struct reactor *r, const struct conn *c) {
    const struct tls *t = tls_view(&r->a, c->tls);
    return t->out_sent < t->out_sealed;
}

/* One record of replies; 0: there is no room, or nothing. */
static int seal_data(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    struct io_vec vecs[CONN_SEND_VECS];
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_view(&r->a, c->tls);
    uint64_t room = out_end(t) - t->out_sealed, waits = 0;
    uint32_t n = conn_unsent(r, c, vecs);
    for (uint32_t i = 0; i < n; i++)
        waits += vecs[i].bytes;
    if (room < TLS_OVERHEAD_BYTES + min_u64(waits, SMALL_BYTES))
        return 0;
    uint32_t bytes = (uint32_t)min_u64(min_u64(waits, t->record_max), room - TLS_OVERHEAD_BYTES);
    int made = tls_seal(&env, c->tls, &mine(r, h)->link, TLS_CONTENT_DATA, vecs, n, bytes,
                        out_at(r, t, t->out_sealed));
    if (made > 0)
        conn_edit(&r->a, h)->tx_sent += bytes;
    return made;
}

/* Replies that are encrypted are let go: what is sent lies in out_buffer. */
static int seal(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_view(&r->a, c->tls);
    int ends = c->flags & CONN_CLOSE_WHEN_ANSWERED && !(t->flags & TLS_OUT_ENDED), made = 0, n = 1;
    uint64_t before = t->out_sealed;
    if (t->slot.state != TLS_RECORDS || t->flags & TLS_OUT_ENDED)
        return 0;
    if (!c->tx_head.v && !tls_wants_update(&env, c->tls) && !(ends && c->requests == 0))
        return 0;
    if (take_out_buffer(r, h) < 0) {
        conn_list_add(&r->blocked, &r->marks[handle_index(h.v)].blocked, h);
        return 0;
    }
    if (t->out_sent == t->out_sealed && t->out_origin != t->out_sealed)
        edit_tls(r, h)->out_origin = t->out_sealed;
    for (;;) {
        uint64_t room = out_end(t) - t->out_sealed;
        if (arena_undo_left(&r->a) < ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
        if (tls_wants_update(&env, c->tls))
            n = room >= TLS_UPDATE_BYTES
                    ? tls_seal_update(&env, c->tls, &mine(r, h)->link, out_at(r, t, t->out_sealed))
                    : 0;
        else if (c->tx_head.v)
            n = seal_data(r, h);
        else if (ends && c->requests == 0 && !(t->flags & TLS_OUT_ENDED))
            n = room >= TLS_ALERT_BYTES
                    ? tls_seal_alert(&env, c->tls, &mine(r, h)->link, TLS_ALERT_CLOSE_NOTIFY,
                                     out_at(r, t, t->out_sealed))
                    : 0;
        else
            break;
        if (n <= 0)
            break;
        made = 1;
        conn_pop_sent(r, h);
    }
    if (n < 0) {
        reactor_abort(r, h);
        return 1;
    }
    return made && t->out_sealed != before;
}

int conn_tls_seal_all(struct reactor *r, const struct conn_h *list, uint32_t n) {
    int sealed = 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct conn *c = conn_try(&r->a, list[i]);
        if (c && c->tls.v && c->slot.state == CONN_OPEN)
            sealed |= seal(r, list[i]);
    }
    return sealed;
}

int conn_tls_send(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_view(&r->a, c->tls);
    struct conn_mark *m = &r->marks[handle_index(h.v)];
    if (t->slot.state == TLS_STARTING)
        return 0;
    while (t->out_sent < t->out_sealed) {
        struct io_vec v = {out_at(r, t, t->out_sent), t->out_sealed - t->out_sent};
        int64_t sent = r->streams.ops->send(r->streams.ctx, c->fd, &v, 1);
        if (sent == ERR_AGAIN) {
            m->wants_writable = 1;
            break;
        }
        if (sent < 0) {
            reactor_abort(r, h);
            return 1;
        }
        edit_tls(r, h)->out_sent += (uint64_t)sent;
        m->moved_ns = r->now_ns;
        r->stats.sent_bytes += (uint64_t)sent;
    }
    if (t->out_sent == t->out_sealed) {
        int handshakes = t->slot.state == TLS_HANDSHAKE;
        if (c->flags & CONN_CLOSE_WHEN_ANSWERED && !c->tx_head.v && c->requests == 0 &&
            (handshakes || t->flags & TLS_OUT_ENDED)) {
            reactor_abort(r, h);
            return 1;
        }
        int waits = c->tx_head.v || tls_wants_update(&env, c->tls) ||
                    (c->flags & CONN_CLOSE_WHEN_ANSWERED && c->requests == 0);
        /* Without a buffer it waits among the blocked. */
        if (waits && !handshakes && t->out_buffer.pages > 0)
            conn_list_add(&r->send, &m->send, h);
        else if (t->out_buffer.pages > 0) {
            struct tls *w = edit_tls(r, h);
            buffer_release(&r->buffers, w->out_buffer);
            w->out_buffer = (struct extent){0, 0};
        }
    }
    conn_set_watch(r, h);
    return 1;
}

void conn_tls_give_idle_buffer(struct reactor *r, struct conn_h h) {
    const struct tls *t = tls_of(r, h);
    if (t->in_buffer.pages == 0 || t->in_opened != t->in_received)
        return;
    struct tls *w = edit_tls(r, h);
    buffer_release(&r->buffers, w->in_buffer);
    w->in_buffer = (struct extent){0, 0};
}

/* --- the end --- */

void conn_tls_end(struct reactor *r, struct conn_h h) {
    struct tls_env env = env_of(r);
    struct conn *c = conn_edit(&r->a, h);
    const struct tls *t = tls_try(&r->a, c->tls);
    end_handshake(r, h);
    if (t) {
        buffer_release(&r->buffers, t->in_buffer);
        buffer_release(&r->buffers, t->out_buffer);
        tls_end(&env, c->tls, &mine(r, h)->link);
    }
    c->tls.v = 0;
}

/* --- attach --- */

int conn_tls_claim(struct reactor *r) {
    if (!r->a.tables[TABLE_TLS].slots)
        return 0;
    for (struct tls_h h = tls_next(&r->a, (struct tls_h){0}); h.v; h = tls_next(&r->a, h)) {
        const struct tls *t = tls_view(&r->a, h);
        const struct conn *c = conn_try(&r->a, t->conn);
        if (!c || c->tls.v != h.v || tls_check_slot(&r->a, h) < 0 ||
            buffer_claim(&r->buffers, t->in_buffer) < 0 ||
            buffer_claim(&r->buffers, t->out_buffer) < 0)
            return ERR_INTEGRITY;
    }
    for (struct conn_h h = conn_next(&r->a, (struct conn_h){0}); h.v; h = conn_next(&r->a, h))
        if (conn_view(&r->a, h)->tls.v && !tls_try(&r->a, conn_view(&r->a, h)->tls))
            return ERR_INTEGRITY;
    return 0;
}

int conn_tls_take_positions(struct reactor *r, struct conn_h h, const struct stream_positions *at) {
    const struct conn *c = conn_view(&r->a, h);
    const struct tls *t = tls_view(&r->a, c->tls);
    int starting = t->slot.state == TLS_STARTING;
    uint64_t room = t->in_buffer.pages ? in_end(t) : t->in_received;
    if (at->received < t->in_received || at->received > room ||
        at->sent < (starting ? c->tx_sent : t->out_sent) || (!starting && at->sent > t->out_sealed))
        return ERR_INTEGRITY;
    struct tls *w = edit_tls(r, h);
    w->in_received = at->received;
    if (starting)
        conn_edit(&r->a, h)->tx_sent = at->sent;
    else
        w->out_sent = at->sent;
    return 0;
}

int conn_tls_attach(struct reactor *r, struct conn_h h) {
    const struct tls *t = tls_of(r, h);
    if (!r->tls.ops)
        return ERR_UNSUPPORTED;
    if (t->slot.state != TLS_HANDSHAKE || !(t->flags & TLS_BEGUN))
        return 0;
    r->handshakes_lost++;
    return ERR_CLOSED;
}
