/* SPDX-License-Identifier: Apache-2.0 */
/* Connections and their pipes, and the clients at their other ends. sim.h has the model. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plat/sim/net_priv.h"

static enum sim_side other(enum sim_side side) {
    return side == SIM_SERVER ? SIM_CLIENT : SIM_SERVER;
}

static uint64_t pipe_room(const struct sim_net *net) {
    return net->send_bytes + net->receive_bytes;
}

static void later(struct sim *sim, struct sim_conn *c, enum sim_net_event what,
                  enum sim_side side) {
    struct sim_net *net = sim->net;
    uint64_t delay = net->min_ns + prng_below(&net->prng, net->max_ns - net->min_ns + 1);
    c->events++;
    sim_event_add(sim, (struct sim_event){.due_ns = sim->monotonic_ns + delay,
                                          .kind = SIM_EVENT_NET,
                                          .net = {c, (uint8_t)what, (uint8_t)side}});
}

struct sim_conn *sim_conn_new(struct sim *sim, const struct sim_socket *listener, int client) {
    struct sim_conn *c = sim_alloc(sizeof *c);
    c->identity = ++sim->net->identities;
    c->listener_identity = listener->identity;
    c->is_unix = strncmp(listener->address, "unix:", 5) == 0;
    c->client = client;
    for (int side = 0; side < 2; side++)
        c->pipes[side].bytes = sim_alloc(pipe_room(sim->net));
    later(sim, c, SIM_NET_CONNECT, SIM_CLIENT);
    return c;
}

void sim_conn_free_if_done(struct sim_conn *c) {
    if (c->events > 0 || !c->ends[SIM_SERVER].gone || !c->ends[SIM_CLIENT].gone)
        return;
    free(c->pipes[0].bytes);
    free(c->pipes[1].bytes);
    free(c);
}

/* The invariant of `moving`. */
static void keep_moving(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    struct sim_pipe *p = &c->pipes[side];
    int can = p->given > p->arrived ? p->arrived - p->taken < sim->net->receive_bytes
                                    : p->end_given && !p->end_arrived;
    if (!can || p->moving || p->cut)
        return;
    p->moving = 1;
    later(sim, c, SIM_NET_MOVE, side);
}

/* Between a pipe's bytes and vectors, from position `at`. */
static void copy(const struct sim_net *net, struct sim_pipe *p, uint64_t at,
                 const struct io_vec *vecs, uint64_t bytes, int give) {
    uint64_t room = pipe_room(net);
    for (; bytes > 0; vecs++) {
        unsigned char *memory = vecs->base;
        for (uint64_t left = min_u64(vecs->bytes, bytes); left > 0;) {
            uint64_t n = min_u64(left, room - at % room);
            if (give)
                memcpy(p->bytes + at % room, memory, n);
            else
                memcpy(memory, p->bytes + at % room, n);
            memory += n;
            at += n;
            left -= n;
            bytes -= n;
        }
    }
}

/* So many of at most `most` bytes: all in half of the cases. */
static uint64_t part_of(struct sim_net *net, uint64_t most) {
    return prng_one_in(&net->prng, 2) ? most : 1 + prng_below(&net->prng, most);
}

static uint64_t total(const struct io_vec *vecs, uint32_t vec_count) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < vec_count; i++)
        bytes += vecs[i].bytes;
    must(bytes > 0);
    return bytes;
}

static uint64_t send_room(const struct sim_net *net, const struct sim_pipe *p) {
    return net->send_bytes - (p->given - p->arrived);
}

int64_t sim_conn_give(struct sim *sim, struct sim_conn *c, enum sim_side side,
                      const struct io_vec *vecs, uint32_t vec_count) {
    struct sim_pipe *p = &c->pipes[side];
    struct sim_end *end = &c->ends[side];
    uint64_t most = min_u64(total(vecs, vec_count), send_room(sim->net, p));
    if (end->failed || p->end_given) {
        end->told |= end->failed;
        return ERR_CLOSED;
    }
    if (most == 0)
        return ERR_AGAIN;
    uint64_t n = part_of(sim->net, most);
    copy(sim->net, p, p->given, vecs, n, 1);
    p->given += n;
    keep_moving(sim, c, side);
    sim_note(sim, 'g', c->identity << 1 | side, p->given);
    return (int64_t)n;
}

int64_t sim_conn_take(struct sim *sim, struct sim_conn *c, enum sim_side side,
                      const struct io_vec *vecs, uint32_t vec_count) {
    struct sim_pipe *p = &c->pipes[other(side)];
    struct sim_end *end = &c->ends[side];
    uint64_t most = min_u64(total(vecs, vec_count), p->arrived - p->taken);
    if (end->deaf)
        return 0;
    if (most == 0 && end->failed) {
        int again = end->told;
        end->told = 1;
        return again && prng_one_in(&sim->net->prng, 2) ? 0 : ERR_CLOSED;
    }
    if (most == 0)
        return p->end_arrived ? 0 : ERR_AGAIN;
    uint64_t n = part_of(sim->net, most);
    copy(sim->net, p, p->taken, vecs, n, 0);
    p->taken += n;
    keep_moving(sim, c, other(side));
    sim_note(sim, 't', c->identity << 1 | side, p->taken);
    return (int64_t)n;
}

void sim_conn_end_sending(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    c->pipes[side].end_given = 1;
    keep_moving(sim, c, side);
    sim_note(sim, 'e', c->identity, side);
}

void sim_conn_reset(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    c->pipes[side].end_given = 1;
    if (!c->pipes[side].cut)
        later(sim, c, SIM_NET_RESET, side);
    c->pipes[side].cut = c->pipes[other(side)].cut = 1;
    sim_note(sim, 'x', c->identity, side);
}

void sim_conn_close(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    const struct sim_pipe *in = &c->pipes[other(side)];
    must(!c->ends[side].gone);
    if (in->arrived > in->taken && !c->ends[side].deaf && !c->ends[side].failed)
        sim_conn_reset(sim, c, side);
    else
        sim_conn_end_sending(sim, c, side);
    c->ends[side].gone = 1;
    sim_conn_free_if_done(c);
}

/* What had come and was not taken may be lost with it. */
static void fail(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    struct sim_pipe *in = &c->pipes[other(side)];
    c->pipes[0].cut = c->pipes[1].cut = 1;
    c->ends[side].failed = 1;
    if (prng_one_in(&sim->net->prng, 2))
        in->arrived = in->taken;
}

void sim_conn_lost(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    c->ends[side].gone = 1;
    fail(sim, c, other(side));
    sim_conn_free_if_done(c);
}

static void move(struct sim *sim, struct sim_conn *c, enum sim_side side) {
    struct sim_pipe *p = &c->pipes[side];
    p->moving = 0;
    if (p->cut)
        return;
    uint64_t room = sim->net->receive_bytes - (p->arrived - p->taken);
    uint64_t most = min_u64(p->given - p->arrived, room);
    if (most > 0 && c->ends[other(side)].gone) {
        sim_conn_reset(sim, c, other(side));
        return;
    }
    if (most > 0)
        p->arrived += part_of(sim->net, most);
    if (p->arrived == p->given && p->end_given)
        p->end_arrived = most == 0 || prng_one_in(&sim->net->prng, 2);
    keep_moving(sim, c, side);
}

void sim_net_fire(struct sim *sim, struct sim_conn *c, uint8_t what, uint8_t side) {
    c->events--;
    if (what == SIM_NET_CONNECT)
        sim_listener_take(sim, c);
    else if (what == SIM_NET_MOVE)
        move(sim, c, side);
    else
        fail(sim, c, other(side));
    sim_note(sim, 'N', c->identity, (uint64_t)what << 1 | side);
    sim_conn_free_if_done(c);
}

/* A connection on its way to its listener is nobody's but the event's. */
void sim_net_forget(struct sim *sim, struct sim_conn *c, uint8_t what) {
    c->events--;
    if (what == SIM_NET_CONNECT)
        sim_conn_lost(sim, c, SIM_SERVER);
    else
        sim_conn_free_if_done(c);
}

uint32_t sim_conn_ready(const struct sim *sim, const struct sim_conn *c, enum sim_side side,
                        uint32_t *over) {
    const struct sim_pipe *in = &c->pipes[other(side)], *out = &c->pipes[side];
    const struct sim_end *end = &c->ends[side];
    int ended = in->end_arrived || end->deaf;
    int readable = in->arrived > in->taken || ended || end->failed;
    int writable = out->end_given || send_room(sim->net, out) > 0 || end->failed;
    *over = (end->failed || (ended && out->end_given) ? STREAM_READABLE : 0) |
            (end->failed ? STREAM_WRITABLE : 0);
    return (readable ? STREAM_READABLE : 0) | (writable ? STREAM_WRITABLE : 0);
}

/* --- clients --- */

static struct sim_conn *client_of(struct sim *sim, int client) {
    must(client >= 0 && client < (int)SIM_CLIENTS_MAX && sim->net->clients[client]);
    return sim->net->clients[client];
}

int sim_connect(struct sim *sim, const char *address) {
    struct sim_net *net = sim->net;
    struct sim_socket *listener = sim_listener_find(sim, address);
    int client = 0;
    if (!listener)
        return ERR_CLOSED;
    if (listener->waiting == SIM_BACKLOG_MAX)
        return ERR_AGAIN;
    while (client < (int)SIM_CLIENTS_MAX && net->clients[client])
        client++;
    if (client == (int)SIM_CLIENTS_MAX)
        return ERR_NOMEM;
    listener->waiting++;
    net->clients[client] = sim_conn_new(sim, listener, client);
    return client;
}

int64_t sim_client_send(struct sim *sim, int client, const void *from, size_t bytes) {
    struct io_vec v = {(void *)(uintptr_t)from, bytes};
    return sim_conn_give(sim, client_of(sim, client), SIM_CLIENT, &v, 1);
}

int64_t sim_client_receive(struct sim *sim, int client, void *to, size_t bytes) {
    struct io_vec v = {to, bytes};
    return sim_conn_take(sim, client_of(sim, client), SIM_CLIENT, &v, 1);
}

uint32_t sim_client_ready(struct sim *sim, int client) {
    uint32_t over;
    return sim_conn_ready(sim, client_of(sim, client), SIM_CLIENT, &over);
}

void sim_client_end(struct sim *sim, int client) {
    sim_conn_end_sending(sim, client_of(sim, client), SIM_CLIENT);
}

void sim_client_reset(struct sim *sim, int client) {
    struct sim_conn *c = client_of(sim, client);
    sim->net->clients[client] = NULL;
    sim_conn_reset(sim, c, SIM_CLIENT);
    c->ends[SIM_CLIENT].gone = 1;
    sim_conn_free_if_done(c);
}

void sim_client_close(struct sim *sim, int client) {
    struct sim_conn *c = client_of(sim, client);
    sim->net->clients[client] = NULL;
    sim_conn_close(sim, c, SIM_CLIENT);
}
