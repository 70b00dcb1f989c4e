/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto/tls: the record layer of TLS 1.3 (RFC 8446) and 1.2 (RFC 5246, 5288, 7905; AEAD only), server's side, after
 * the handshake: records in, plaintext out,
 * and the reverse. It is ours and not a library's since its state has to outlive the process: keys, traffic secrets
 * and sequence numbers are slots (tls_slots.h), and everything here runs inside a turn. It knows no sockets and no
 * handshake; buffers are its caller's.
 *
 *   record    0  1  type: 23, whatever it holds
 *             1  2  3, 3
 *             3  2  length of what follows
 *             5     encrypted: content, its type (1), zeroes; then the tag (16)
 *
 *   1.2       0  1  type
 *             5  8  number (AES-GCM only); then content and tag
 *
 * What a client may send after the handshake: data, alerts, and KeyUpdate, each whole in a record. Everything else,
 * and a tag that is not right, ends the connection with an alert; nothing of that record counts.
 *
 * struct tls_link is what a process has beside the slots: the keys in the form that the library computes with. It is
 * made anew whenever it does not fit the slot's keys.
 */
#ifndef PROTO_TLS_TLS_H
#define PROTO_TLS_TLS_H

#include "arena/arena.h"
#include "proto/tls/tls_slots.h"

#define TLS_HEADER_BYTES 5u
#define TLS_DATA_MAX 16384u
/* Content, type and padding; with what an AEAD may add (RFC 8446, 5.2). */
#define TLS_BODY_MAX (TLS_DATA_MAX + 256)
#define TLS_RECORD_MAX (TLS_HEADER_BYTES + TLS_BODY_MAX)
/* What a record takes beside its data, at most. */
#define TLS_OVERHEAD_BYTES (TLS_HEADER_BYTES + 8 + TLS_TAG_BYTES)
/* Records of control: alert (2), KeyUpdate (5). */
#define TLS_ALERT_BYTES (TLS_OVERHEAD_BYTES + 2)
#define TLS_UPDATE_BYTES (TLS_OVERHEAD_BYTES + 5)
/* A peer that sends more records in a row without data does not mean well. */
#define TLS_IDLE_MAX 32u
/* Records under one key, below the 2^24.5 of RFC 8446, 5.5. */
#define TLS_RECORDS_PER_KEY (UINT64_C(1) << 23)

enum tls_content { TLS_CONTENT_ALERT = 21, TLS_CONTENT_HANDSHAKE = 22, TLS_CONTENT_DATA = 23 };

enum tls_alert {
    TLS_ALERT_CLOSE_NOTIFY = 0,
    TLS_ALERT_UNEXPECTED_MESSAGE = 10,
    TLS_ALERT_BAD_RECORD_MAC = 20,
    TLS_ALERT_RECORD_OVERFLOW = 22,
    TLS_ALERT_DECODE_ERROR = 50,
    TLS_ALERT_ILLEGAL_PARAMETER = 47,
    TLS_ALERT_INTERNAL_ERROR = 80,
    TLS_ALERT_USER_CANCELED = 90,
};

struct tls_link {
    struct tls_aead *in, *out;
    uint32_t in_updates, out_updates; /* of the slot whose keys these are */
};

struct tls_env {
    struct arena *a;
    const struct tls_ops *ops;
};

enum tls_what {
    TLS_MORE = 1, /* the record is not there whole */
    TLS_DATA,     /* `bytes` of data */
    TLS_UPDATE,   /* the peer goes on with its next keys */
    TLS_ENDS,     /* close_notify, or it gave up */
    TLS_NOTHING,  /* to be ignored */
    TLS_BAD,      /* `alert` says why */
};

struct tls_opened {
    enum tls_what what;
    uint32_t record_bytes; /* in the stream */
    uint32_t bytes;
    enum tls_alert alert;
    uint8_t update_requested;
};

/* Keys for a connection whose handshake is over. ERR_NOMEM. */
int tls_begin(struct tls_env *env, struct tls_h h, const struct tls_agreed *agreed);
/* Wipes and frees the slots, and what belongs to them here. */
void tls_end(struct tls_env *env, struct tls_h h, struct tls_link *link);
void tls_unlink(const struct tls_env *env, struct tls_link *link);

/* Bytes of the record that begins here, 0 if that is not known yet; or ERR_PROTO: no record that may come. */
int tls_record_bytes(const struct tls_env *env, struct tls_h h, const uint8_t *p, uint64_t bytes);

/* Decrypts the record at p into room for its bytes; changes nothing. */
struct tls_opened tls_open(const struct tls_env *env, struct tls_h h, struct tls_link *link,
                           const uint8_t *p, uint64_t bytes, uint8_t *out);
/* It counts: all of it is delivered. Its position moves on. */
int tls_take(struct tls_env *env, struct tls_h h, const struct tls_opened *o);

/* One record of what the vectors hold (`bytes`, at most record_max) to `to`; returns its bytes, or an error. Its
 * position and number move on. */
int tls_seal(struct tls_env *env, struct tls_h h, struct tls_link *link, enum tls_content type,
             const struct io_vec *vecs, uint32_t vec_count, uint32_t bytes, uint8_t *to);
int tls_seal_alert(struct tls_env *env, struct tls_h h, struct tls_link *link, enum tls_alert alert,
                   uint8_t *to);
/* Whether a KeyUpdate has to come before the next record; sends one. 1.2 has none: a key serves as long as the
 * connection, and numbers never come again. */
int tls_wants_update(const struct tls_env *env, struct tls_h h);
int tls_seal_update(struct tls_env *env, struct tls_h h, struct tls_link *link, uint8_t *to);

/* Checks what tls_slots.h says: 0 or ERR_INTEGRITY. For attach. */
int tls_check_slot(const struct arena *a, struct tls_h h);

#endif
