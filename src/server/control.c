/* SPDX-License-Identifier: Apache-2.0 */
#include "server/control.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static uint64_t tag_of(const struct control *c, uint32_t i) {
    return (uint64_t)TAG_CONTROL << 32 | i;
}

int control_open(struct control *c, struct reactor *r, const char *path) {
    char address[STREAM_ADDRESS_BYTES], bound[STREAM_ADDRESS_BYTES];
    c->r = r;
    for (uint32_t i = 0; i < CONTROL_CONNS; i++)
        c->conns[i].fd = -1;
    if (strlen(path) + 6 > sizeof address)
        return ERR_TOOBIG;
    strcpy(address, "unix:");
    strcat(address, path);
    strcpy(c->path, path);
    c->listener = r->streams.ops->listen(r->streams.ctx, address, STREAM_REPLACE, bound);
    if (c->listener < 0)
        return c->listener;
    return r->streams.ops->watch(r->streams.ctx, c->listener, (uint64_t)TAG_CONTROL_LISTENER << 32,
                                 STREAM_READABLE);
}

static void drop(struct control *c, struct control_conn *k) {
    c->r->streams.ops->unwatch(c->r->streams.ctx, k->fd);
    c->r->streams.ops->end(c->r->streams.ctx, k->fd);
    c->r->streams.ops->close(c->r->streams.ctx, k->fd);
    free(k->in);
    free(k->out);
    memset(k, 0, sizeof *k);
    k->fd = -1;
}

static void flush(struct control *c, struct control_conn *k) {
    const struct stream_ops *ops = c->r->streams.ops;
    while (k->out_sent < k->out_bytes) {
        struct io_vec v = {k->out + k->out_sent, k->out_bytes - k->out_sent};
        int64_t n = ops->send(c->r->streams.ctx, k->fd, &v, 1);
        if (n == ERR_AGAIN)
            break;
        if (n < 0) {
            drop(c, k);
            return;
        }
        k->out_sent += (size_t)n;
    }
    int pending = k->out_sent < k->out_bytes;
    if (!pending) {
        k->out_bytes = k->out_sent = 0;
        if (k->ending) {
            drop(c, k);
            return;
        }
    }
    ops->rewatch(c->r->streams.ctx, k->fd, tag_of(c, (uint32_t)(k - c->conns)),
                 (k->ending ? 0 : STREAM_READABLE) | (pending ? STREAM_WRITABLE : 0));
}

void control_reply(struct control *c, uint64_t address, char *line) {
    struct control_conn *k = &c->conns[(uint32_t)address % CONTROL_CONNS];
    if (k->fd < 0 || k->serial != address >> 32) {
        free(line);
        return;
    }
    size_t n = line ? strlen(line) : 0;
    char *more =
        line && k->out_bytes + n <= CONTROL_OUT_MAX ? realloc(k->out, k->out_bytes + n) : NULL;
    if (!more) { /* no memory, or a client that does not read */
        free(line);
        drop(c, k);
        return;
    }
    k->out = more;
    memcpy(k->out + k->out_bytes, line, n);
    k->out_bytes += n;
    free(line);
    flush(c, k);
}

static void run_line(struct control *c, uint32_t i, const char *line, size_t len) {
    struct ctl_request request;
    char *refusal;
    uint64_t address = (uint64_t)c->conns[i].serial << 32 | i;
    int err = ctl_parse(line, len, clock_wall_ns(&c->r->clock), c->zone, &request, &refusal);
    if (err < 0) {
        control_reply(c, address, refusal);
        return;
    }
    const struct ctl_handler *h = ctl_handler_find(c->handlers, c->handler_count, request.op->name);
    must(h != NULL);
    c->current = address;
    trace_note(&c->r->trace, TRACE_CONTROL, (uint64_t)(request.op - ctl_ops), 0);
    err = h->run(c->handlers_ctx, &request);
    if (err < 0)
        control_reply(c, address, ctl_reply_err(request.id, err, err_text(err), NULL));
    ctl_request_free(&request);
}

static void receive(struct control *c, uint32_t i) {
    struct control_conn *k = &c->conns[i];
    struct io_vec v = {k->in + k->in_bytes, CTL_LINE_MAX - k->in_bytes};
    int64_t n = c->r->streams.ops->receive(c->r->streams.ctx, k->fd, &v, 1);
    if (n == ERR_AGAIN)
        return;
    if (n <= 0) {
        drop(c, k);
        return;
    }
    k->in_bytes += (size_t)n;
    uint32_t serial = k->serial;
    for (;;) {
        char *end = memchr(k->in, '\n', k->in_bytes);
        if (!end)
            break;
        size_t len = (size_t)(end - k->in);
        run_line(c, i, k->in, len);
        if (k->fd < 0 || k->serial != serial)
            return;
        k->in_bytes -= len + 1;
        memmove(k->in, end + 1, k->in_bytes);
    }
    if (k->in_bytes == CTL_LINE_MAX) {
        k->ending = 1;
        control_reply(
            c, (uint64_t)k->serial << 32 | i,
            ctl_reply_err(CTL_NO_ID, ERR_TOOBIG, "the request line is longer than 64 KiB", NULL));
    }
}

static void watch_listener(struct control *c, uint32_t events) {
    c->r->streams.ops->rewatch(c->r->streams.ctx, c->listener, (uint64_t)TAG_CONTROL_LISTENER << 32,
                               events);
}

static void accept_one(struct control *c) {
    char peer[STREAM_ADDRESS_BYTES];
    int fd = c->r->streams.ops->accept(c->r->streams.ctx, c->listener, 0, peer);
    c->accept_again_ns = reactor_accept_said(c->r, fd);
    if (c->accept_again_ns > 0)
        watch_listener(c, 0);
    if (fd < 0)
        return;
    for (uint32_t i = 0; i < CONTROL_CONNS; i++) {
        struct control_conn *k = &c->conns[i];
        if (k->fd >= 0)
            continue;
        k->in = malloc(CTL_LINE_MAX);
        if (!k->in)
            break;
        k->fd = fd;
        k->serial = ++c->serials;
        c->r->streams.ops->watch(c->r->streams.ctx, fd, tag_of(c, i), STREAM_READABLE);
        return;
    }
    c->r->streams.ops->close(c->r->streams.ctx, fd);
}

void control_event(struct control *c, uint32_t kind, uint32_t handle) {
    if (kind == TAG_CONTROL_LISTENER) {
        accept_one(c);
    } else if (handle < CONTROL_CONNS && c->conns[handle].fd >= 0) {
        if (c->conns[handle].out_bytes > 0)
            flush(c, &c->conns[handle]);
        if (c->conns[handle].fd >= 0 && !c->conns[handle].ending)
            receive(c, handle);
    }
}

void control_turn(struct control *c, uint64_t now_ns) {
    if (c->accept_again_ns == 0 || now_ns < c->accept_again_ns)
        return;
    c->accept_again_ns = 0;
    watch_listener(c, STREAM_READABLE);
}

void control_close(struct control *c) {
    for (uint32_t i = 0; i < CONTROL_CONNS; i++) {
        if (c->conns[i].fd < 0)
            continue;
        flush(c, &c->conns[i]);
        if (c->conns[i].fd >= 0)
            drop(c, &c->conns[i]);
    }
}
