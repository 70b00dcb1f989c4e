/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loop of turns (design/overview.md): inputs, handlers, commit, outputs. One thread.
 *
 *   1 inputs    events of streams, completions of disk operations, bells; bytes are received here, into
 *               places that the last committed turn named
 *   2 handlers  protocols parse, the program's handlers run; slots are edited
 *   3 commit    one store
 *   4 outputs   disk operations are handed over, replies sent, connections closed. What the kernel answers
 *               to that is the first input of the next turn.
 *
 * A program brings protocols (what a connection's bytes mean) and hooks (what else happens in a turn).
 */
#ifndef SERVER_REACTOR_H
#define SERVER_REACTOR_H

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/io.h"
#include "plat/alert.h"
#include "custody/boot.h"
#include "plat/clock.h"
#include "plat/job.h"
#include "plat/stream.h"
#include "proto/tls/tls.h"
#include "server/conn_slots.h"

struct reactor;

/* What a protocol's input wants next. */
enum conn_want {
    CONN_MORE = 0,    /* bytes; at least `need` in total for the message at hand */
    CONN_PAYLOAD = 1, /* the next bytes are the payload of `request` */
    CONN_SKIP = 2,    /* the next `skip` bytes are dropped */
    CONN_BLOCKED = 3, /* no slot or buffer: the same bytes again in a later turn */
    CONN_WAIT = 4,    /* nothing until reactor_resume() */
    CONN_FINISH = 5,  /* nothing more is read; ends when the replies have left */
    CONN_ABORT = 6,   /* ends at once */
    CONN_SECURE =
        7, /* TLS: what comes next is encrypted, and so is what follows the replies in the queue */
};
struct conn_step {
    size_t consumed;
    enum conn_want want;
    size_t need;
    uint64_t skip;
    struct request_h request;
};

/* All calls are made in the handlers' phase. Numbers of protocols stand in slots. */
#define PROTOCOL_NBD 1
#define PROTOCOL_ECHO 2
#define PROTOCOLS 4
struct protocol {
    /* A new connection; its own slot goes into protocol_slot. Not 0: it is closed at once. */
    int (*opened)(void *ctx, struct conn_h c);
    /* Bytes that are not consumed yet; none when an input that was blocked or waited is tried again. */
    struct conn_step (*input)(void *ctx, struct conn_h c, const uint8_t *p, size_t bytes);
    /* After CONN_SECURE: TLS is there, and input is what it decrypts. */
    void (*secured)(void *ctx, struct conn_h c);
    void (*payload_done)(void *ctx, struct conn_h c, struct request_h r);
    /* The peer has ended its side; all its bytes are parsed or can never be. The default is to finish. */
    void (*peer_ended)(void *ctx, struct conn_h c);
    /* The reply or message has left, or never will; just before its slot is freed. */
    void (*sent)(void *ctx, struct conn_h c, struct request_h r);
    /* The connection goes away: its slot in the protocol's table is to be freed. Its requests are gone, or
     * belong to no connection any more. */
    void (*closed)(void *ctx, struct conn_h c);
    void *ctx;
};

struct reactor_hooks {
    void (*begin)(void *ctx);        /* a turn begins; its time is known */
    void (*inputs)(void *ctx);       /* before the protocols run: completions of jobs ... */
    void (*handlers)(void *ctx);     /* after the protocols */
    void (*committed)(void *ctx);    /* after the commit, before outputs */
    uint64_t (*deadline)(void *ctx); /* monotonic ns of the next wanted turn, UINT64_MAX: none */
    void (*event)(void *ctx, uint32_t kind, uint32_t handle, uint32_t events); /* unknown tags */
    void (*request_dropped)(void *ctx, struct request_h r); /* its connection is gone: forget it */
    void *ctx;
};

/* Tags of registrations in the inherited wait: kind << 32 | handle. Numbers are for ever. */
enum reactor_tag {
    TAG_LISTENER = 1,
    TAG_CONN = 2,
    TAG_RING = 3,
    TAG_ENGINE_BELL = 4,
    TAG_SIGNAL = 5,
    TAG_KEEPER = 6,
    TAG_JOBS = 7,
    TAG_CONTROL_LISTENER = 8,
    TAG_CONTROL = 9,
};

struct conn_mark {
    uint8_t parse, send, close, blocked, ready; /* is on this list */
    uint8_t wants_writable;
    uint8_t no_buffer; /* blocked: what comes has no place */
    uint64_t moved_ns; /* when bytes came or left, or began to wait for the peer */
};
struct conn_list {
    struct conn_h *at;
    uint32_t count;
};

/* What this process has beside a connection's TLS slots. */
struct conn_tls {
    struct tls_link link;
    struct tls_handshake *handshake;
};

struct reactor_stats {
    uint64_t turns, events, received_bytes, sent_bytes, requests;
};

struct reactor {
    struct boot *boot;
    struct arena a;
    struct buffer_pool buffers;
    struct streams streams;
    struct io_port io;
    struct trace trace;
    struct clock clock;
    uint64_t now_ns; /* monotonic, of this turn */
    struct server_h server;
    const struct protocol *protocols[PROTOCOLS];
    const struct reactor_hooks *hooks;
    struct conn_mark *marks; /* by slot index */
    struct tls_provider tls; /* set before connections are attached; without it, none is secured */
    struct conn_tls *conn_tls; /* by slot index */
    uint8_t *tls_record;       /* room for one, decrypted */
    uint32_t handshakes;       /* under way that end with this process */
    uint32_t handshakes_lost;  /* with the former engine */
    struct conn_list parse, send, close, blocked, ready;
    struct conn_h *taken; /* the list that is being gone through */
    int descriptors_max;  /* connections have smaller numbers */
    int accepting;
    uint64_t
        accept_again_ns; /* nobody is accepted until then: there was no descriptor; 0: not so */
    int no_descriptors;  /* an alert tells it */
    int stopping;
    int more_to_do; /* the next turn does not wait for input */
    /* Of those that are blocked: whether something they may wait for was given back since they were tried last;
     * when they are tried again in any case; what those of them want that have nothing in hand. */
    int given_back;
    uint64_t try_next_ns;
    uint32_t short_pages, first_pages; /* of all of them, of the first */
    uint64_t kept_until_ns;            /* those of the first are not for others */
    uint64_t look_next_ns, stall_ns;   /* server/share.h; set by reactor_open, or afterwards */
    uint32_t stalled_closed;
    struct alert_sink alerts; /* none, until the program sets it */
    struct reactor_stats stats;
};

/* Private state over an attached or fresh arena. */
int reactor_open(struct reactor *r, struct boot *b, struct streams streams, struct clock clock);

/* At attach: claims buffers, checks and adopts connections. After a crash the positions of all streams are
 * read; a connection whose position cannot be known is closed. Sets *closed to how many were. */
int reactor_attach(struct reactor *r, int after_crash, uint32_t *closed);

int reactor_listen(struct reactor *r, const char *address, uint32_t protocol);

/* Takes over a connected socket as if accepted just now. */
void reactor_adopt(struct reactor *r, int fd, uint32_t protocol, const char *peer);
void reactor_accept_more(struct reactor *r, int on);

/* What an accept said. Whoever waits goes on waiting if there is no descriptor; the listener is not watched until
 * the time that is returned (monotonic ns), or until a connection has closed. 0: it is watched on. */
uint64_t reactor_accept_said(struct reactor *r, int fd);

/* One turn; waits for input no longer than until the nearest deadline. */
void reactor_turn(struct reactor *r);

/* Ends the turn in hand and begins the next: for handlers that need room in the undo log. */
void reactor_commit(struct reactor *r);

/* --- for protocols --- */

/* A request of a connection, with buffers for `bytes` from `start` (none if bytes is 0). 0: not now. */
struct request_h reactor_request(struct reactor *r, struct conn_h c, uint8_t op, uint64_t bytes,
                                 uint32_t start, uint16_t state);
/* A DONE request: head and data leave after this turn, in the order of these calls. */
void reactor_reply(struct reactor *r, struct request_h h);
/* Goes on with a connection that waits. */
void reactor_resume(struct reactor *r, struct conn_h c);
void reactor_finish(struct reactor *r, struct conn_h c);
void reactor_abort(struct reactor *r, struct conn_h c);
/* The same, and nothing is done of what it asked for and is not recorded whole. Before the program has taken
 * requests up. */
void reactor_expel(struct reactor *r, struct conn_h c);
/* Frees a request and its buffers. */
void reactor_drop_request(struct reactor *r, struct request_h h);

/* server/conn.c */
void conn_event(struct reactor *r, struct conn_h c, uint32_t events);
void conn_receive(struct reactor *r, struct conn_h c);
void conn_parse(struct reactor *r, struct conn_h c);
void conn_send(struct reactor *r, struct conn_h c);
void conn_close(struct reactor *r, struct conn_h c);
int conn_need_buffer(struct reactor *r, struct conn_h c);
void conn_block_for_buffer(struct reactor *r, struct conn_h c);
void conn_list_add(struct conn_list *l, uint8_t *mark, struct conn_h c);

#endif
