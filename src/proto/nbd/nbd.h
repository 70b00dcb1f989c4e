/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto/nbd: the server's side of the NBD protocol (doc/proto.md of NetworkBlockDevice/nbd) as a
 * pure state machine: bytes of a connection in; reply bytes and block requests out. Fixed newstyle
 * handshake, with STARTTLS; simple, structured and extended replies; base:allocation and two metadata
 * contexts of our own (nbd_context.c). It uses base,
 * plat's types and arena; it knows no sockets, no time and nothing of the engine but the requests.
 *
 * The state is struct nbd (nbd_slots.h), one slot a connection, and struct request (MD packets).
 * Everything here runs inside a turn of the arena: if the turn is undone, it has not happened, and
 * the same call with the same bytes does the same again.
 *
 *   transport                            here
 *   accepts a connection, nbd_begin
 *   has bytes, or room again  ------->  nbd_input: consumes whole messages
 *                             <-------    message()      reply bytes of handshake and refusals
 *                             <-------    request_new(), submit()
 *   fills a WRITE's buffers,
 *   nbd_payload_done          ------->    submit()
 *   the engine ends a request,
 *   nbd_reply                 ------->  makes the reply's head (and block status)
 *   the reply has left, nbd_sent  --->  room for another one
 *   closes the connection, nbd_end
 *
 * STARTTLS: answered, nbd_input says NBD_UPGRADE; the transport encrypts from there on, calls nbd_secured, and
 * hands in what it decrypts. All that was negotiated in plain is forgotten then but the client's flags. Bytes
 * that came behind STARTTLS in plain close the connection: nobody but the client may put words into its mouth.
 *
 * A message is an option with its data, or a request's header (with its data for BLOCK_STATUS; not
 * the payload of a WRITE). It is consumed whole or not at all, so the receive buffer holds what is
 * begun, and how the bytes are cut makes no difference to what is sent.
 *
 * Errors of the peer: what has an error in the protocol is answered with it and harms nothing else;
 * the rest (wrong magic, unknown client flags, an EXPORT_NAME that cannot be served, what is too
 * long even to skip) closes this connection.
 */
#ifndef PROTO_NBD_NBD_H
#define PROTO_NBD_NBD_H

#include <stddef.h>
#include <stdint.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/request.h"
#include "base/units.h"
#include "proto/nbd/nbd_slots.h"

/* Limits: what a peer can ask of us. */

/* Bytes of READ and WRITE payload: what the protocol calls portable. */
#define NBD_PAYLOAD_MAX (UINT32_C(32) * 1024 * 1024)
/* Bytes of a refused WRITE that are read and dropped to answer it; more closes the connection. Twice
 * the largest payload: clients exist that assume a limit of 64 MiB. */
#define NBD_SKIP_MAX (UINT64_C(64) * 1024 * 1024)
/* Bytes of option data that are looked at: several names and queries of the longest kind. */
#define NBD_OPTION_BYTES_MAX (UINT32_C(32) * 1024)
/* Bytes of option data that are read and dropped to answer ERR_TOO_BIG; more closes. */
#define NBD_OPTION_SKIP_MAX (UINT32_C(1024) * 1024)
/* Options of one handshake; `qemu-nbd --list` sends two for each export. */
#define NBD_OPTIONS_MAX 16384u
/* Queries of a metadata option; three contexts exist. */
#define NBD_QUERIES_MAX 64u
/* Requests of one connection whose reply has not left, so that one client cannot take all slots: the
 * queue of the Linux kernel's client. A deeper queue waits in the socket. */
#define NBD_OUTSTANDING_MAX 128u
/* Their buffers: one largest payload on its way out, one on its way in. */
#define NBD_OUTSTANDING_BYTES_MAX (2 * NBD_PAYLOAD_MAX)
/* Messages that have not left: a page each at most. */
#define NBD_MESSAGES_MAX 8u
#define NBD_MESSAGE_BYTES_MAX 4096u
/* Bytes for the extents of one context of a BLOCK_STATUS: 1,024 of them, so that a chunk stays below 17 KiB. */
#define NBD_STATUS_BYTES (16u * 1024)
/* Longest name or description sent about an export, and longest sentence about a moment. */
#define NBD_TEXT_MAX 255u
/* Longest moment in the name of a context: more than any moment has. */
#define NBD_MOMENT_MAX 100u
/* The largest `need`; the transport's receive buffer must be able to hold as much in one piece. */
#define NBD_NEED_MAX (16u + NBD_OPTION_BYTES_MAX)
/* Time for the handshake: enough for a person at a prompt, short enough that idle connections do
 * not pile up. */
#define NBD_HANDSHAKE_NS (UINT64_C(60) * NS_PER_S)

/* An export that was opened. */
struct nbd_export {
    struct volume_h volume;
    uint64_t size_bytes;
    uint32_t block_min;       /* unit of offsets and lengths; a power of two, at most 64 KiB */
    uint32_t block_preferred; /* a power of two, at least 512 and block_min, at most 32 MiB */
    uint8_t read_only;
};

/* An export in the list. */
struct nbd_listed {
    uint8_t name[NBD_TEXT_MAX];
    uint8_t description[NBD_TEXT_MAX];
    uint8_t name_bytes;
    uint8_t description_bytes;
};

/* A moment that a client named. */
struct nbd_moment {
    uint64_t sequence;
    uint32_t why_bytes; /* 0: nothing but the code is to be said */
    uint8_t why[NBD_TEXT_MAX];
};

/* Whether clients may or must use STARTTLS. */
enum nbd_tls_policy {
    NBD_TLS_OFF,
    NBD_TLS_ON,
    NBD_TLS_REQUIRED,
    NBD_TLS_BROKEN, /* required, and there is nothing to prove oneself with */
};

enum nbd_text { NBD_TEXT_NAME, NBD_TEXT_DESCRIPTION };

/* What the state machine asks of its surroundings; ctx is the first argument of each. None of them
 * calls back into this connection's state machine. */
struct nbd_env_ops {
    /* Opens the export of this name (not NUL-terminated, at most NBD_EXPORT_NAME_MAX bytes, no NUL;
     * "" is the default export) for connection n. 0: *out is filled. ERR_AGAIN: it will take a
     * while; nbd_export_ready tells, in this or another life of the process. Otherwise the reason:
     * ERR_NOTFOUND, ERR_PERM, ERR_AMBIGUOUS, ERR_SHUTDOWN ... A connection has at most one export
     * open or asked for. */
    int (*export_open)(void *ctx, struct nbd_h n, const uint8_t *name, uint32_t name_bytes,
                       struct nbd_export *out);
    /* The connection no longer uses what was opened; volume 0: what was asked for and is not ready
     * is not wanted any more. */
    void (*export_close)(void *ctx, struct nbd_h n, struct volume_h volume);
    /* Canonical name or description of an open export, UTF-8, into room for NBD_TEXT_MAX bytes;
     * returns the bytes, 0: there is none. */
    uint32_t (*export_text)(void *ctx, struct volume_h volume, enum nbd_text which, uint8_t *out);
    /* The next export to be listed. *cursor is 0 at first, and never 0 after that; it stays valid
     * over turns and reloads (an export that comes or goes meanwhile may be missed). 1: *out is
     * filled; 0: the end; or an error. */
    int (*export_list)(void *ctx, uint64_t *cursor, struct nbd_listed *out);
    /* The sequence number of a moment (at most NBD_MOMENT_MAX bytes), as changes since then are to be told of
     * an open export. 0: it is in *out. ERR_AGAIN: after nbd_moment_ready it is asked again. Otherwise the
     * reason, and a sentence in *out. What was asked and is not ready is forgotten by a reload, and with the
     * connection. */
    int (*moment)(void *ctx, struct nbd_h n, struct volume_h volume, const uint8_t *text,
                  uint32_t text_bytes, struct nbd_moment *out);
    /* NULL: it is off. */
    enum nbd_tls_policy (*tls)(void *ctx);
    /* Room for a message of `bytes` (at most NBD_MESSAGE_BYTES_MAX), queued behind all replies and
     * messages of this connection that are queued already; NULL: not now. The transport makes it a
     * REQUEST_MESSAGE request and calls nbd_sent for it. */
    uint8_t *(*message)(void *ctx, struct nbd_h n, uint32_t bytes);
    /* A new request slot in state RECEIVING with buffers for data_bytes from data_start on (none if
     * data_bytes is 0), and conn, arrival, arrived_ns set; the rest is set here. 0: not now. */
    struct request_h (*request_new)(void *ctx, struct nbd_h n, uint32_t data_start,
                                    uint32_t data_bytes);
    /* The request is READY: the engine may have it. */
    void (*submit)(void *ctx, struct nbd_h n, struct request_h r);
};

struct nbd_env {
    struct arena *a;
    const struct buffer_pool *buffers;
    const struct nbd_env_ops *ops;
    void *ctx;
};

enum nbd_what {
    /* More bytes are needed: `need` in all, counted from the first that is not consumed. */
    NBD_MORE = 1,
    /* `request` is a WRITE in state RECEIVING: its length_bytes payload bytes come next on the
     * connection and belong into its buffers from data_start on; then nbd_payload_done. Until then
     * nbd_input consumes nothing and says the same. */
    NBD_PAYLOAD,
    /* No slot, buffer or room now: the same bytes again when a reply or message has left, or other
     * connections have given something back. */
    NBD_BLOCKED,
    /* An export is being opened: the same bytes again after nbd_export_ready. */
    NBD_WAIT,
    /* The peer's bytes are encrypted from here on, and so are ours when what is queued has left: the same
     * after nbd_secured. */
    NBD_UPGRADE,
    /* Nothing more is read: when outstanding requests are done and replies and messages have left
     * (or will not leave), the connection is to be closed. `reason`: OK (the client asked for it),
     * ERR_PROTO, ERR_NOTFOUND ... Said at every further call. */
    NBD_CLOSE,
};

struct nbd_step {
    size_t consumed;
    enum nbd_what what;
    uint32_t need;
    struct request_h request;
    int reason;
};

/* State for a new connection; 0 if the table is full. The first nbd_input, with no bytes, sends the
 * greeting. deadline_ns: monotonic time when the handshake must be over. */
struct nbd_h nbd_begin(struct nbd_env *env, struct conn_h conn, uint64_t deadline_ns);

/* Takes what it can of the bytes [p, p+bytes) that are not consumed yet; p is never NULL. */
struct nbd_step nbd_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p, size_t bytes);

/* The answer to an export_open that said ERR_AGAIN: result 0 and the export, or an error;
 * ERR_AGAIN: it was forgotten (after a reload), ask again. Then nbd_input goes on. Returns
 * ERR_CHANGED if this connection is not waiting (any more): the caller closes what it opened. */
int nbd_export_ready(struct nbd_env *env, struct nbd_h n, int result,
                     const struct nbd_export *export);

/* The moment that was asked for is known, or was forgotten: nbd_input goes on, and asks. 0: this connection does
 * not wait (any more). */
int nbd_moment_ready(struct nbd_env *env, struct nbd_h n);

/* TLS has begun: what is handed in from here on was encrypted. */
void nbd_secured(struct nbd_env *env, struct nbd_h n);

/* All payload bytes of the WRITE are in its buffers: it is submitted. */
void nbd_payload_done(struct nbd_env *env, struct nbd_h n, struct request_h r);

/* In the turn in which the request becomes DONE, once: makes its reply. Sets head, head_bytes and
 * reply_data_bytes (data from data_start on), and turns a block status into its wire form where it
 * lies. Requests may end in any order. */
void nbd_reply(struct nbd_env *env, struct nbd_h n, struct request_h r);

/* The reply or message has left (or never will); called just before its slot is freed. */
void nbd_sent(struct nbd_env *env, struct nbd_h n, struct request_h r);

/* The handshake has taken too long: the connection is to be closed (ERR_TIMEDOUT). */
int nbd_expired(const struct nbd *s, uint64_t now_ns);

/* The connection is gone, all its requests are freed or belong to nobody: closes the export and
 * frees the slot. */
void nbd_end(struct nbd_env *env, struct nbd_h n);

/* Checks the invariants of nbd_slots.h: 0 or ERR_INTEGRITY. For attach. */
int nbd_check_slot(const struct nbd *s);

/* The NBD error for a code of base/err.h, in reply to this command with these flags; 0 for OK. Any
 * int is accepted. */
uint32_t nbd_error(int err, uint16_t command, uint16_t flags);
/* The same for an option: NBD_REP_ACK for OK, else NBD_REP_ERR_*. */
uint32_t nbd_option_error(int err);

#endif
