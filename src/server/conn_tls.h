/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection that has TLS: between its socket and its protocol. Bytes are received into in_buffer, decrypted into
 * the places that bytes in plain would have been received into, encrypted into out_buffer, committed, and sent.
 * The handshake is the library's and in private memory: until both sides agree the connection does not outlive the
 * process, unless no byte of it was used yet.
 */
#ifndef SERVER_CONN_TLS_H
#define SERVER_CONN_TLS_H

#include "server/reactor.h"

#define CONN_PLACES (REQUEST_EXTENTS + 1)
#define CONN_SEND_VECS 64u

/* --- conn.c, for here --- */

/* Pages for a receive buffer, as scarce as they are. */
uint32_t conn_buffer_pages(const struct reactor *r);
/* A place for what the protocol is to see: as conn_need_buffer. */
int conn_need_place(struct reactor *r, struct conn_h h);
/* Where the next bytes for the protocol lie; returns how many vectors, at most CONN_PLACES. */
uint32_t conn_places(const struct reactor *r, const struct conn *c, struct io_vec *vecs);
/* The replies from tx_sent on, as far as CONN_SEND_VECS hold them; those that have gone whole are let go. */
uint32_t conn_unsent(const struct reactor *r, const struct conn *c, struct io_vec *vecs);
void conn_pop_sent(struct reactor *r, struct conn_h h);
void conn_set_watch(struct reactor *r, struct conn_h h);

/* --- for conn.c and reactor.c --- */

int conn_tls_open(struct reactor *r);

/* CONN_SECURE: from the replies in the queue on; they have left. */
void conn_tls_start(struct reactor *r, struct conn_h h);
void conn_tls_started(struct reactor *r, struct conn_h h);

int conn_tls_need_buffer(struct reactor *r, struct conn_h h);
uint32_t conn_tls_places(const struct reactor *r, const struct conn *c, struct io_vec *vecs);
void conn_tls_received(struct reactor *r, struct conn *c, uint64_t bytes);
int conn_tls_wants_input(const struct reactor *r, const struct conn *c);

/* Decrypts, and has the protocol parse, as long as there is something to do. */
void conn_tls_parse(struct reactor *r, struct conn_h h,
                    void (*parse)(struct reactor *r, struct conn_h h));

/* Encrypts what waits of these connections. Not 0: a commit is due. */
int conn_tls_seal_all(struct reactor *r, const struct conn_h *list, uint32_t n);
/* 0: what waits is to be sent in plain still. */
int conn_tls_send(struct reactor *r, struct conn_h h);
int conn_tls_has_output(const struct reactor *r, const struct conn *c);

void conn_tls_give_idle_buffer(struct reactor *r, struct conn_h h);
/* The connection is over: wipes its keys and gives everything back. */
void conn_tls_end(struct reactor *r, struct conn_h h);

/* At attach: the buffers; the kernel's counts; whether it can go on. */
int conn_tls_claim(struct reactor *r);
int conn_tls_take_positions(struct reactor *r, struct conn_h h, const struct stream_positions *at);
int conn_tls_attach(struct reactor *r, struct conn_h h);

#endif
