/* SPDX-License-Identifier: Apache-2.0 */
/* plat/stream.h over the simulated network: descriptors, listeners, and the wait. sim.h has the model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plat/sim/net_priv.h"

#define FIRST_PORT 40000u
/* What a turn of the process takes: a loop that never rests sees time pass all the same. */
#define TURN_NS NS_PER_US

void sim_net_open(struct sim *sim) {
    const struct sim_options *o = &sim->options;
    struct sim_net *net = sim_alloc(sizeof *net);
    net->prng = prng_seed(hash_pair(o->seed, 'n'));
    net->send_bytes = o->stream_send_bytes;
    net->receive_bytes = o->stream_receive_bytes;
    net->min_ns = o->net_min_ns;
    net->max_ns = o->net_max_ns;
    net->next_port = (uint16_t)(FIRST_PORT + prng_below(&net->prng, 10000));
    net->sockets_end = SIM_DESCRIPTORS_FIRST;
    sim->net = net;
}

static struct sim_socket *socket_of(struct sim *sim, int fd, enum sim_socket_kind kind) {
    must(fd >= 0 && fd < (int)SIM_DESCRIPTORS_MAX && sim->net->sockets[fd] &&
         sim->net->sockets[fd]->kind == kind);
    return sim->net->sockets[fd];
}

static struct sim_conn *conn_of(struct sim *sim, int fd) {
    return socket_of(sim, fd, SIM_SOCKET_STREAM)->conn;
}

/* The lowest free number, as every UNIX does. */
static int new_socket(struct sim *sim, enum sim_socket_kind kind, uint32_t flags,
                      uint64_t identity) {
    struct sim_net *net = sim->net;
    uint32_t fd = SIM_DESCRIPTORS_FIRST;
    while (fd < SIM_DESCRIPTORS_MAX && net->sockets[fd])
        fd++;
    if (fd == SIM_DESCRIPTORS_MAX)
        return ERR_NOMEM;
    if (fd >= net->sockets_end)
        net->sockets_end = fd + 1;
    net->sockets[fd] = sim_alloc(sizeof *net->sockets[fd]);
    *net->sockets[fd] = (struct sim_socket){.kind = kind, .flags = flags, .identity = identity};
    return (int)fd;
}

/* --- listeners --- */

static int is_v4(const char *host, size_t n) {
    unsigned a, b, c, d;
    int used = 0;
    char text[16];
    if (n >= sizeof text)
        return 0;
    memcpy(text, host, n);
    text[n] = 0;
    return sscanf(text, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &used) == 4 && (size_t)used == n &&
           a < 256 && b < 256 && c < 256 && d < 256;
}

static int is_v6(const char *host, size_t n) {
    if (n < 4 || host[0] != '[' || host[n - 1] != ']')
        return 0;
    size_t good = strspn(host + 1, "0123456789abcdefABCDEF:");
    return good == n - 2 && memchr(host, ':', n) != NULL;
}

/* Length of the host in "host:port", or ERR_INVAL; 0 for Unix. */
static int parse(const char *address, unsigned *port) {
    size_t n = strlen(address);
    if (n + 1 > STREAM_ADDRESS_BYTES - 8)
        return ERR_INVAL;
    if (strncmp(address, "unix:", 5) == 0)
        return address[5] ? 0 : ERR_INVAL;
    const char *colon = strrchr(address, ':');
    if (!colon)
        return ERR_INVAL;
    size_t host = (size_t)(colon - address), digits = strspn(colon + 1, "0123456789");
    if (digits < 1 || digits > 5 || colon[1 + digits] || sscanf(colon + 1, "%u", port) != 1 ||
        *port > 65535 || !(is_v4(address, host) || is_v6(address, host)))
        return ERR_INVAL;
    return (int)host;
}

struct sim_socket *sim_listener_find(struct sim *sim, const char *address) {
    struct sim_net *net = sim->net;
    for (uint32_t i = 0; i < net->sockets_end; i++) {
        struct sim_socket *s = net->sockets[i];
        if (s && s->kind == SIM_SOCKET_LISTENER && strcmp(s->address, address) == 0)
            return s;
    }
    return NULL;
}

static int listen_at(void *ctx, const char *address, uint32_t flags,
                     char bound[STREAM_ADDRESS_BYTES]) {
    struct sim *sim = ctx;
    struct sim_net *net = sim->net;
    unsigned port = 0;
    int host = parse(address, &port);
    if (sim_tick(sim) < 0)
        return ERR_NOMEM;
    if (host < 0)
        return host;
    snprintf(bound, STREAM_ADDRESS_BYTES, "%s", address);
    while (host > 0 && port == 0) {
        snprintf(bound, STREAM_ADDRESS_BYTES, "%.*s:%u", host, address, net->next_port);
        if (++net->next_port == 0)
            net->next_port = FIRST_PORT;
        port = sim_listener_find(sim, bound) ? 0 : 1;
    }
    struct sim_socket *former = sim_listener_find(sim, bound);
    if (former && (host > 0 || !(flags & STREAM_REPLACE)))
        return ERR_EXISTS;
    int fd = new_socket(sim, SIM_SOCKET_LISTENER, flags, ++net->identities);
    if (fd < 0)
        return fd;
    if (former)
        former->address[0] = 0;
    struct sim_socket *s = net->sockets[fd];
    memcpy(s->address, bound, sizeof s->address);
    s->backlog_end = &s->backlog;
    sim_note(sim, 'l', (uint64_t)fd, flags);
    return fd;
}

void sim_listener_take(struct sim *sim, struct sim_conn *c) {
    struct sim_net *net = sim->net;
    for (uint32_t i = 0; i < net->sockets_end; i++) {
        struct sim_socket *s = net->sockets[i];
        if (s && s->kind == SIM_SOCKET_LISTENER && s->identity == c->listener_identity) {
            *s->backlog_end = c;
            s->backlog_end = &c->next;
            return;
        }
    }
    sim_conn_reset(sim, c, SIM_SERVER); /* it has closed meanwhile */
    c->ends[SIM_SERVER].gone = 1;
}

static int accept_one(void *ctx, int listener, uint32_t flags, char peer[STREAM_ADDRESS_BYTES]) {
    struct sim *sim = ctx;
    struct sim_socket *s = socket_of(sim, listener, SIM_SOCKET_LISTENER);
    struct sim_conn *c = s->backlog;
    if (sim_tick(sim) < 0 || !c)
        return ERR_AGAIN;
    int fd = new_socket(sim, SIM_SOCKET_STREAM, flags, c->identity);
    if (fd < 0)
        return fd;
    s->backlog = c->next;
    if (!s->backlog)
        s->backlog_end = &s->backlog;
    s->waiting--;
    c->next = NULL;
    c->listener_identity = 0;
    sim->net->sockets[fd]->conn = c;
    if (c->is_unix)
        snprintf(peer, STREAM_ADDRESS_BYTES, "unix:");
    else
        snprintf(peer, STREAM_ADDRESS_BYTES, "127.0.0.1:%d", 10000 + c->client);
    sim_note(sim, 'a', (uint64_t)fd, c->identity);
    return fd;
}

/* --- streams --- */

static int64_t receive(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct sim *sim = ctx;
    struct sim_conn *c = conn_of(sim, fd);
    return sim_tick(sim) < 0 ? ERR_AGAIN : sim_conn_take(sim, c, SIM_SERVER, vecs, vec_count);
}

static int64_t send(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct sim *sim = ctx;
    struct sim_conn *c = conn_of(sim, fd);
    return sim_tick(sim) < 0 ? ERR_AGAIN : sim_conn_give(sim, c, SIM_SERVER, vecs, vec_count);
}

static int positions(void *ctx, int fd, struct stream_positions *p) {
    const struct sim_conn *c = conn_of(ctx, fd);
    if (c->is_unix)
        return ERR_UNSUPPORTED;
    if (c->ends[SIM_SERVER].failed)
        return ERR_CLOSED;
    p->received = c->pipes[SIM_CLIENT].taken;
    p->sent = c->pipes[SIM_SERVER].given;
    return 0;
}

static int no_positions(void *ctx, int fd, struct stream_positions *p) {
    (void)conn_of(ctx, fd);
    return ERR_UNSUPPORTED;
}

static uint64_t identity(void *ctx, int fd) {
    const struct sim *sim = ctx;
    if (fd < 0 || fd >= (int)SIM_DESCRIPTORS_MAX || !sim->net->sockets[fd])
        return 0;
    return sim->net->sockets[fd]->identity;
}

static void end(void *ctx, int fd) {
    struct sim *sim = ctx;
    struct sim_conn *c = conn_of(sim, fd);
    if (sim_tick(sim) < 0)
        return;
    sim_conn_end_sending(sim, c, SIM_SERVER);
    c->ends[SIM_SERVER].deaf = 1;
}

static void end_sending(void *ctx, int fd) {
    struct sim *sim = ctx;
    struct sim_conn *c = conn_of(sim, fd);
    if (sim_tick(sim) == 0)
        sim_conn_end_sending(sim, c, SIM_SERVER);
}

/* lost: with the machine, so that nothing can tell the clients at once. */
static void drop(struct sim *sim, uint32_t fd, int lost) {
    struct sim_socket *s = sim->net->sockets[fd];
    struct sim_conn *c = s->kind == SIM_SOCKET_STREAM ? s->conn : s->backlog;
    while (c) {
        struct sim_conn *next = c->next;
        if (lost) {
            sim_conn_lost(sim, c, SIM_SERVER);
        } else if (s->kind == SIM_SOCKET_STREAM) {
            sim_conn_close(sim, c, SIM_SERVER);
        } else { /* nobody accepts it any more */
            sim_conn_reset(sim, c, SIM_SERVER);
            c->ends[SIM_SERVER].gone = 1;
            sim_conn_free_if_done(c);
        }
        c = next;
    }
    sim->net->sockets[fd] = NULL;
    free(s);
}

static void close_socket(void *ctx, int fd) {
    struct sim *sim = ctx;
    must(identity(ctx, fd) != 0);
    if (sim_tick(sim) < 0)
        return;
    drop(sim, (uint32_t)fd, 0);
    sim_note(sim, 'c', (uint64_t)fd, 1);
}

/* --- the wait --- */

static struct sim_socket *watched(struct sim *sim, int fd) {
    must(identity(sim, fd) != 0);
    return sim->net->sockets[fd];
}

static int set_watch(struct sim *sim, struct sim_socket *s, uint64_t tag, uint32_t events) {
    if (sim_tick(sim) < 0)
        return ERR_NOMEM;
    s->watched = 1;
    s->tag = tag;
    s->events = events;
    return 0;
}

static int watch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    struct sim_socket *s = watched(ctx, fd);
    return s->watched ? ERR_EXISTS : set_watch(ctx, s, tag, events);
}

static int rewatch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    struct sim_socket *s = watched(ctx, fd);
    return s->watched ? set_watch(ctx, s, tag, events) : ERR_NOTFOUND;
}

static void unwatch(void *ctx, int fd) {
    struct sim_socket *s = watched(ctx, fd);
    if (sim_tick(ctx) == 0)
        s->watched = 0;
}

static uint32_t told(const struct sim *sim, const struct sim_socket *s) {
    uint32_t over = 0;
    if (!s || !s->watched)
        return 0;
    if (s->kind == SIM_SOCKET_LISTENER)
        return s->backlog ? s->events & STREAM_READABLE : 0;
    uint32_t ready = sim_conn_ready(sim, s->conn, SIM_SERVER, &over);
    return (ready & s->events) | over;
}

static int collect(struct sim *sim, struct stream_event *events, int max) {
    struct sim_net *net = sim->net;
    uint32_t first = net->cursor;
    int n = 0;
    for (uint32_t i = 0; i < net->sockets_end && n < max; i++) {
        uint32_t at = (first + i) % net->sockets_end;
        uint32_t now = told(sim, net->sockets[at]);
        if (!now)
            continue;
        events[n++] = (struct stream_event){net->sockets[at]->tag, now};
        net->cursor = at + 1;
    }
    return n;
}

static int wait(void *ctx, struct stream_event *events, int max, uint64_t timeout_ns) {
    struct sim *sim = ctx;
    (void)sim_advance(sim, TURN_NS);
    uint64_t now = sim->monotonic_ns;
    uint64_t until = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
    while (!sim->stopped) {
        int n = collect(sim, events, max);
        if (n > 0 || sim_input_waits(sim))
            return n;
        if (sim->heap_count == 0 || sim->heap[0].due_ns > until) {
            if (until < UINT64_MAX)
                (void)sim_advance(sim, until - sim->monotonic_ns);
            return 0;
        }
        (void)sim_step(sim);
    }
    return 0;
}

/* --- the world --- */

void sim_net_kill(struct sim *sim) {
    struct sim_net *net = sim->net;
    for (uint32_t i = 0; i < net->sockets_end; i++) {
        struct sim_socket *s = net->sockets[i];
        if (!s)
            continue;
        if (!(s->flags & STREAM_PRESERVED))
            drop(sim, i, 0);
        else if (sim->options.no_positions)
            s->watched = 0;
    }
}

void sim_net_cut(struct sim *sim) {
    struct sim_net *net = sim->net;
    for (uint32_t i = 0; i < net->sockets_end; i++) {
        if (net->sockets[i])
            drop(sim, i, 1);
    }
    net->sockets_end = SIM_DESCRIPTORS_FIRST;
    net->cursor = 0;
}

void sim_net_end_clients(struct sim *sim) {
    for (int i = 0; i < (int)SIM_CLIENTS_MAX; i++) {
        if (sim->net->clients[i])
            sim_client_close(sim, i);
    }
}

int sim_stream_next(const struct sim *sim, int fd) {
    for (fd++; fd < (int)sim->net->sockets_end; fd++) {
        if (fd >= 0 && sim->net->sockets[fd])
            return fd;
    }
    return -1;
}

#define STREAM_OPS(has, tells)                                                                     \
    {                                                                                              \
        .caps = has, .listen = listen_at, .accept = accept_one, .receive = receive, .send = send,  \
        .positions = tells, .identity = identity, .end = end, .end_sending = end_sending,          \
        .close = close_socket, .watch = watch, .rewatch = rewatch, .unwatch = unwatch,             \
        .wait = wait,                                                                              \
    }

static const struct stream_ops full_ops =
    STREAM_OPS(STREAM_CAP_POSITIONS | STREAM_CAP_WAIT_KEPT, positions);
static const struct stream_ops plain_ops = STREAM_OPS(0, no_positions);

struct streams sim_streams(struct sim *sim) {
    return (struct streams){sim->options.no_positions ? &plain_ops : &full_ops, sim};
}
