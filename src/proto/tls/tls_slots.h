/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preserved structures of a TLS connection. Nothing else in this header.
 *
 * Two streams of records lie over the two streams of bytes; positions are those of the socket, counted from its
 * first byte, as the kernel counts them.
 *
 *   in_opened <= in_received   records before in_opened are decrypted and delivered; in_buffer has the bytes from
 *                              in_origin on
 *   out_sent <= out_sealed     what the kernel has taken, and what is encrypted; out_buffer has the bytes from
 *                              out_origin on
 *
 *  1. Ciphertext is sent only from out_buffer, and only below an out_sealed that was committed. So no two plaintexts
 *     under one number ever leave: a number that was used in a turn that was undone was never seen by anybody.
 *  2. Bytes below the committed in_received and from the committed in_opened on stay as they are; a record is
 *     decrypted again, with the same result, if the turn that delivered it is undone.
 *  3. in_taken bytes of the record at in_opened are delivered already; less than it holds.
 *  4. Keys change only with their slot, which is wiped before it is freed.
 */
#ifndef PROTO_TLS_TLS_SLOTS_H
#define PROTO_TLS_TLS_SLOTS_H

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "plat/md_packet.h"
#include "plat/tls.h"

/* STARTING --what is said in plain has left--> HANDSHAKE --agreed--> RECORDS */
enum tls_state {
    TLS_STARTING = 1,
    TLS_HANDSHAKE = 2,
    TLS_RECORDS = 3,
};

enum tls_flag {
    TLS_BEGUN = 1 << 0,      /* HANDSHAKE: it cannot be begun again */
    TLS_IN_ENDED = 1 << 1,   /* the peer sends no more bytes, or none that count */
    TLS_OUT_ENDED = 1 << 2,  /* close_notify or a fatal alert was the last record */
    TLS_OWES_UPDATE = 1 << 3 /* the peer asked for new keys of ours */
};

HANDLE(tls)
HANDLE(tls_keys)

#define TLS_FIELDS(F, A)                                                                           \
    F(struct conn_h, conn)                                                                         \
    F(struct tls_keys_h, keys)                                                                     \
    F(uint64_t, in_received)                                                                       \
    F(uint64_t, in_opened)                                                                         \
    F(uint64_t, in_origin)                                                                         \
    F(struct extent, in_buffer)                                                                    \
    F(uint64_t, out_sent)                                                                          \
    F(uint64_t, out_sealed)                                                                        \
    F(uint64_t, out_origin)                                                                        \
    F(struct extent, out_buffer)                                                                   \
    F(uint64_t, in_sequence)  /* of the record at in_opened */                                     \
    F(uint64_t, out_sequence) /* of the next record */                                             \
    F(uint32_t, in_taken)                                                                          \
    F(uint32_t, in_idle)    /* records in a row that held no data */                               \
    F(uint32_t, record_max) /* bytes of plaintext that the peer takes in a record */               \
    F(uint32_t, flags)                                                                             \
    F(uint32_t, in_updates) /* KeyUpdates so far, in each direction */                             \
    F(uint32_t, out_updates)                                                                       \
    A(uint8_t, reserved, 32)
SLOT_STRUCT(tls, TLS_FIELDS)
SLOT_TABLE(tls, TABLE_TLS)

/* in, out: application traffic secret, key and IV (RFC 8446, 7.1 to 7.3), as long as the cipher has them. */
#define TLS_KEYS_FIELDS(F, A)                                                                      \
    F(uint32_t, cipher)  /* enum tls_cipher */                                                     \
    F(uint32_t, version) /* enum tls_version; 1.2 has no secrets here */                           \
    A(uint8_t, in_secret, TLS_SECRET_BYTES_MAX)                                                    \
    A(uint8_t, in_key, TLS_KEY_BYTES_MAX)                                                          \
    A(uint8_t, in_iv, 16)                                                                          \
    A(uint8_t, out_secret, TLS_SECRET_BYTES_MAX)                                                   \
    A(uint8_t, out_key, TLS_KEY_BYTES_MAX)                                                         \
    A(uint8_t, out_iv, 16)                                                                         \
    A(uint8_t, reserved, 16)
SLOT_STRUCT(tls_keys, TLS_KEYS_FIELDS)
SLOT_TABLE(tls_keys, TABLE_TLS_KEYS)

extern const struct arena_table_spec tls_spec, tls_keys_spec;

#endif
