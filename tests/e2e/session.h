/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One NBD connection of a client: the protocol over a raw socket, nothing hidden. It never connects
 * again, never sends a request twice, and whatever is not as the protocol says ends the program with
 * exit status 1 and a line that says what was wrong.
 *
 * Payload is not stored: what is sent is made from its stamp while it is sent, what is received is
 * checked sector by sector as it comes (model.h).
 */
#ifndef E2E_SESSION_H
#define E2E_SESSION_H

#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"

#define SESSION_OPS_MAX 64u
#define SESSION_REQUEST_MAX (128u * 1024)

enum session_style { STYLE_SIMPLE, STYLE_STRUCTURED, STYLE_EXTENDED };

enum { CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_ZEROES, CMD_STATUS };
enum { FLAG_FUA = 1, FLAG_NO_HOLE = 2, FLAG_DF = 4, FLAG_REQ_ONE = 8, FLAG_PAYLOAD_LEN = 32 };

struct op {
    uint64_t cookie; /* 0: this place is free */
    uint16_t cmd, flags;
    uint32_t len_bytes;
    uint64_t offset_bytes;
    uint64_t stamp;    /* of a write */
    uint64_t issued;   /* on the model's clock */
    uint64_t begun_ns; /* on the machine's clock */
    uint32_t got_bytes;
    uint32_t chunks;
    uint8_t seen[SESSION_REQUEST_MAX / SECTOR / 8]; /* one bit a sector that was received */
};

struct session {
    int number, fd;
    enum session_style style;
    uint64_t size_bytes;
    uint32_t block_min, block_preferred;
    uint16_t export_flags;
    uint32_t context; /* of base:allocation; 0: not negotiated */

    gnutls_session_t tls; /* NULL: in plain */
    uint64_t new_keys_ns; /* sessions that send in pieces change them then */

    struct model *model;
    int settle; /* what is read is what the sector holds from now on */
    struct op ops[SESSION_OPS_MAX];
    uint32_t depth, under_way;
    uint64_t serial;

    uint8_t to_send[SESSION_OPS_MAX + 1]; /* a ring of places in ops */
    uint32_t send_first, send_count, send_done_bytes;
    int blocked;      /* the socket takes no more for now */
    int in_pieces;    /* heads of requests are sent a few bytes at a time */
    int small_window; /* so that replies wait half sent */

    uint8_t head[40];
    uint32_t head_len;
    uint8_t *body; /* of a chunk that is not data */
    uint32_t body_len, body_size;
    struct op *op; /* whose data or chunk is being received */
    uint64_t data_at_bytes;
    uint32_t data_left_bytes, chunk_bytes;
    uint16_t chunk_type, chunk_flags;
    uint8_t carry[SECTOR];
    uint32_t carry_len;

    uint64_t sent_bytes, received_bytes, last_recv_bytes, last_cookie; /* for a person who looks */
    void *ctx;
    void (*done)(void *ctx, struct session *s, struct op *op); /* the op is freed after it */
};

uint64_t now_ns(void);

/* All sessions use TLS: the folder has ca-cert.pem, and the priority is GnuTLS's. */
void session_use_tls(const char *folder, const char *priority);

/* Ends the program. */
__attribute__((noreturn, format(printf, 2, 3))) void session_fail(const struct session *s,
                                                                  const char *format, ...);

/* Connects and negotiates; the style is taken down to what the server offers. */
void session_open(struct session *s, const struct sockaddr_in *to, const char *export_name,
                  enum session_style wanted);

/* Queues a request; there is a free place. */
struct op *session_issue(struct session *s, uint16_t cmd, uint16_t flags, uint64_t offset_bytes,
                         uint32_t len_bytes, uint64_t stamp, uint64_t issued);
void session_send(struct session *s);
void session_receive(struct session *s);
/* DISC, and waits for the server to close. */
void session_close(struct session *s);

#endif
