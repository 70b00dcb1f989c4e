/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of sim: byte streams between the process and the test's clients.
 *
 * A pipe is one direction of a connection. Positions count bytes from its beginning:
 *
 *   taken <= arrived <= given
 *   [taken, arrived)  with the receiver, at most receive_bytes
 *   [arrived, given)  with the sender or on the way, at most send_bytes
 *
 * Byte p lies in bytes[p % room]. `moving` is set while an event that carries bytes on is under way: there is
 * one if and only if something is on the way and the receiver has room for it.
 *
 * A connection lives until both ends have let it go and no event refers to it.
 */
#ifndef PLAT_SIM_NET_PRIV_H
#define PLAT_SIM_NET_PRIV_H

#include "plat/sim/sim_priv.h"
#include "plat/stream.h"

#define SIM_DESCRIPTORS_FIRST 3
#define SIM_DESCRIPTORS_MAX 8192u
#define SIM_CLIENTS_MAX 8192u
#define SIM_BACKLOG_MAX 4096u

struct sim_pipe {
    unsigned char *bytes;
    uint64_t given, arrived, taken;
    uint8_t end_given, end_arrived; /* FIN */
    uint8_t moving;
    uint8_t cut; /* a reset is on its way to the receiver: nothing else arrives */
};

/* What one end of a connection knows. */
struct sim_end {
    uint8_t gone;   /* closed: nobody looks at it any more */
    uint8_t deaf;   /* ended both ways by itself: receives nothing */
    uint8_t failed; /* a reset has arrived */
    uint8_t told;   /* and was told */
};

enum sim_side { SIM_SERVER = 0, SIM_CLIENT = 1 };

struct sim_conn {
    struct sim_conn *next; /* in the backlog */
    uint64_t identity;
    uint64_t listener_identity; /* 0: accepted */
    uint32_t events;
    int client;               /* number */
    uint8_t is_unix;          /* the machine counts nothing */
    struct sim_pipe pipes[2]; /* by the side that gives */
    struct sim_end ends[2];   /* by side */
};

enum sim_socket_kind { SIM_SOCKET_LISTENER = 1, SIM_SOCKET_STREAM };

/* A descriptor of the process. */
struct sim_socket {
    enum sim_socket_kind kind;
    uint32_t flags; /* stream_flag */
    uint64_t identity;
    struct sim_conn *conn;
    /* listener */
    char address[STREAM_ADDRESS_BYTES]; /* "": another one has taken its place */
    struct sim_conn *backlog, **backlog_end;
    uint32_t waiting; /* connections on their way to it or in its backlog */
    /* the wait */
    uint8_t watched;
    uint32_t events;
    uint64_t tag;
};

struct sim_net {
    struct prng prng;
    uint64_t send_bytes, receive_bytes;
    uint64_t min_ns, max_ns;
    uint16_t next_port;
    uint64_t identities;
    uint32_t cursor;                                 /* the wait begins here */
    uint32_t sockets_end;                            /* all that are used lie before */
    struct sim_socket *sockets[SIM_DESCRIPTORS_MAX]; /* by descriptor */
    struct sim_conn *clients[SIM_CLIENTS_MAX];
};

enum sim_net_event {
    SIM_NET_CONNECT = 1, /* the connection comes into the backlog */
    SIM_NET_MOVE,        /* bytes that this side gave, or its end, arrive */
    SIM_NET_RESET,       /* this side's reset arrives */
};

/* net.c: connections. `side` is the one that acts. */
struct sim_conn *sim_conn_new(struct sim *sim, const struct sim_socket *listener, int client);
int64_t sim_conn_give(struct sim *sim, struct sim_conn *c, enum sim_side side,
                      const struct io_vec *vecs, uint32_t vec_count);
int64_t sim_conn_take(struct sim *sim, struct sim_conn *c, enum sim_side side,
                      const struct io_vec *vecs, uint32_t vec_count);
void sim_conn_end_sending(struct sim *sim, struct sim_conn *c, enum sim_side side);
void sim_conn_reset(struct sim *sim, struct sim_conn *c, enum sim_side side);
void sim_conn_close(struct sim *sim, struct sim_conn *c, enum sim_side side); /* may free it */
/* The machine of this side is gone, and all events with it. */
void sim_conn_lost(struct sim *sim, struct sim_conn *c, enum sim_side side);
void sim_conn_free_if_done(struct sim_conn *c);
/* stream_event_flag that hold now; *over: told whatever is waited for. */
uint32_t sim_conn_ready(const struct sim *sim, const struct sim_conn *c, enum sim_side side,
                        uint32_t *over);

/* stream.c: the connection has come to its listener, which may be there no more. */
void sim_listener_take(struct sim *sim, struct sim_conn *c);
struct sim_socket *sim_listener_find(struct sim *sim, const char *address);

#endif
