/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preserved structures of the server: the root, listeners and connections. Nothing else in this header.
 *
 * A connection's bytes. Stream positions count bytes from the beginning of each direction. Where a received
 * byte lies depends only on its position and on fields that were committed before it was received:
 *
 *   payload_start <= p < payload_end   in the buffers of `payload`, at data_start + (p - payload_start)
 *   else                               in rx_buffer, at p - rx_origin
 *
 * so that after a kill the kernel's count of taken bytes says which bytes are there (design/arena.md).
 *
 *   rx_parsed <= rx_received   consumed by the protocol, and received
 *   tx_head_start <= tx_sent   where the first reply in the queue begins, and what the kernel has taken
 *
 * With TLS the positions of rx_ and tx_ are those of the plaintext, and everything else above holds of it; the
 * kernel's counts are those of proto/tls/tls_slots.h. tx_sent is then what is encrypted.
 */
#ifndef SERVER_CONN_SLOTS_H
#define SERVER_CONN_SLOTS_H

#include "arena/arena.h"
#include "arena/request.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "base/units.h"
#include "plat/md_packet.h"
#include "proto/tls/tls_slots.h"
#include "server/conn_fields.h"

HANDLE(server)
HANDLE(listener)

#define SERVER_RINGS 8
#define SERVER_RING_BYTES 136

/* A pause that clients saw: from the end of the former engine's last turn, or its death, to the next engine's
 * first. */
struct pause {
    uint64_t wall_ns; /* when it ended */
    uint64_t pause_ns;
    uint32_t generation; /* that served then */
    uint32_t kept, closed;
    uint32_t is_uninvited;
};
#define SERVER_PAUSES 32u
/* Pauses shorter than PAUSE_STEP_NS << n, and not than half of that, are step n; the last has all longer ones. */
#define PAUSE_STEPS 20u
#define PAUSE_STEP_NS UINT64_C(250000)

/* rings: queues of disk operations that may still complete, newest last; each u32 generation, u32 in use,
 * then the platform's identity of it (128 bytes). */
#define SERVER_FIELDS(F, A)                                                                        \
    F(uint64_t, arrivals)   /* requests ever given out: the order of replay */                     \
    F(uint32_t, generation) /* of the engine that attached last */                                 \
    F(int32_t, wait_fd)     /* epoll instance */                                                   \
    F(uint64_t, conns_ever)                                                                        \
    F(uint64_t, reloads) /* planned */                                                             \
    F(uint64_t, crashes) /* uninvited */                                                           \
    F(uint64_t, last_pause_ns)                                                                     \
    F(uint64_t, longest_pause_ns)                                                                  \
    F(uint64_t, conns_closed)         /* by reloads and deaths */                                  \
    A(uint32_t, planned, PAUSE_STEPS) /* how many of each step, since the cold start */            \
    A(uint32_t, uninvited, PAUSE_STEPS)                                                            \
    A(struct pause, pauses, SERVER_PAUSES) /* the newest, pause n at n % SERVER_PAUSES */          \
    F(uint64_t, started_wall_ns)           /* cold start */                                        \
    A(uint8_t, rings, SERVER_RINGS *SERVER_RING_BYTES)                                             \
    A(uint8_t, reserved, 128)
SLOT_STRUCT(server, SERVER_FIELDS)
SLOT_TABLE(server, TABLE_SERVER)

enum listener_state { LISTENER_OPEN = 1 };

#define LISTENER_FIELDS(F, A)                                                                      \
    F(int32_t, fd)                                                                                 \
    F(uint32_t, protocol)                                                                          \
    F(uint64_t, identity)                                                                          \
    A(uint8_t, address, 120) /* as bound, NUL-terminated */                                        \
    A(uint8_t, wanted, 120)  /* as configured */                                                   \
    A(uint8_t, reserved, 32)
SLOT_STRUCT(listener, LISTENER_FIELDS)
SLOT_TABLE(listener, TABLE_LISTENER)

enum conn_state {
    CONN_OPEN = 1,
    CONN_CLOSING = 2, /* is shut down and closed in the output phase, then freed */
};

enum conn_flag {
    CONN_PEER_ENDED = 1 << 0,          /* the peer sends no more */
    CONN_CLOSE_WHEN_ANSWERED = 1 << 1, /* nothing more is read; ends when the replies have left */
    CONN_WAITING = 1 << 2,      /* the protocol waits for something; it resumes the connection */
    CONN_NO_POSITIONS = 1 << 3, /* does not survive a kill */
};

/* Of `watched`: there is no registration yet, or it is what a dead engine made of it. */
#define CONN_WATCHED_UNKNOWN UINT32_MAX

SLOT_STRUCT(conn, CONN_FIELDS)
SLOT_TABLE(conn, TABLE_CONN)

/* Engines that have gone, by a reload or a death. */
static inline uint64_t server_engines_gone(const struct server *s) {
    return s->reloads + s->crashes;
}

/* The position behind the last byte that rx_buffer has room for. */
static inline uint64_t rx_buffer_end(const struct conn *c) {
    return c->rx_origin + (uint64_t)c->rx_buffer.pages * BLOCK_BYTES;
}

extern const struct arena_table_spec server_spec, listener_spec, conn_spec;

#endif
