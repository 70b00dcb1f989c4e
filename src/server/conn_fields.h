/* SPDX-License-Identifier: Apache-2.0 */
/* What a connection's slot holds; conn_slots.h tells what it means. In a header of its own, so that test builds
 * can be made of another layout (tests/layouts). */
#ifndef SERVER_CONN_FIELDS_H
#define SERVER_CONN_FIELDS_H

#define CONN_VERSION 1

#define CONN_FIELDS(F, A)                                                                          \
    F(int32_t, fd)                                                                                 \
    F(uint32_t, protocol)                                                                          \
    F(uint64_t, identity)      /* of the socket */                                                 \
    F(uint32_t, protocol_slot) /* handle in the protocol's own table */                            \
    F(uint32_t, flags)                                                                             \
    F(uint64_t, rx_received)                                                                       \
    F(uint64_t, rx_parsed)                                                                         \
    F(uint64_t, rx_origin)                                                                         \
    F(struct extent, rx_buffer)                                                                    \
    F(uint64_t, payload_start)                                                                     \
    F(uint64_t, payload_end)                                                                       \
    F(uint64_t, skip_end) /* bytes before it are dropped */                                        \
    F(struct request_h, payload)                                                                   \
    F(struct request_h, tx_head)                                                                   \
    F(struct request_h, tx_tail)                                                                   \
    F(uint32_t, requests) /* of this connection, in any state */                                   \
    F(uint64_t, tx_head_start)                                                                     \
    F(uint64_t, tx_sent)                                                                           \
    F(uint64_t, accepted_wall_ns)                                                                  \
    F(uint32_t, watched)        /* STREAM_ events it is registered for, CONN_WATCHED_UNKNOWN */    \
    F(uint32_t, engines_before) /* that had gone when it was accepted */                           \
    F(uint64_t, requests_ever)                                                                     \
    F(uint64_t, read_bytes)                                                                        \
    F(uint64_t, written_bytes)                                                                     \
    A(uint8_t, peer, 120)                                                                          \
    F(struct tls_h, tls) /* 0: what comes and goes is in plain */                                  \
    A(uint8_t, reserved, 28)

#endif
