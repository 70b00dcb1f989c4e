/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three layouts of one real table, for builds of the server that prove that any of them can succeed any other:
 *
 *   1  as released
 *   2  with a field more, in reserved room
 *   3  without that field, one of 32 bits has 64, and the fields stand in another order; a larger slot
 *
 * 1 is kept here as it was, whatever becomes of src/server/conn_fields.h.
 */
#ifndef LAYOUTS_CONN_VERSIONS_H
#define LAYOUTS_CONN_VERSIONS_H

#define CONN_1_FIELDS(F, A)                                                                        \
    F(int32_t, fd)                                                                                 \
    F(uint32_t, protocol)                                                                          \
    F(uint64_t, identity)                                                                          \
    F(uint32_t, protocol_slot)                                                                     \
    F(uint32_t, flags)                                                                             \
    F(uint64_t, rx_received)                                                                       \
    F(uint64_t, rx_parsed)                                                                         \
    F(uint64_t, rx_origin)                                                                         \
    F(struct extent, rx_buffer)                                                                    \
    F(uint64_t, payload_start)                                                                     \
    F(uint64_t, payload_end)                                                                       \
    F(uint64_t, skip_end)                                                                          \
    F(struct request_h, payload)                                                                   \
    F(struct request_h, tx_head)                                                                   \
    F(struct request_h, tx_tail)                                                                   \
    F(uint32_t, requests)                                                                          \
    F(uint64_t, tx_head_start)                                                                     \
    F(uint64_t, tx_sent)                                                                           \
    F(uint64_t, accepted_wall_ns)                                                                  \
    F(uint32_t, watched)                                                                           \
    F(uint32_t, engines_before)                                                                    \
    F(uint64_t, requests_ever)                                                                     \
    F(uint64_t, read_bytes)                                                                        \
    F(uint64_t, written_bytes)                                                                     \
    A(uint8_t, peer, 120)                                                                          \
    F(struct tls_h, tls)                                                                           \
    A(uint8_t, reserved, 28)

#define CONN_2_FIELDS(F, A)                                                                        \
    F(int32_t, fd)                                                                                 \
    F(uint32_t, protocol)                                                                          \
    F(uint64_t, identity)                                                                          \
    F(uint32_t, protocol_slot)                                                                     \
    F(uint32_t, flags)                                                                             \
    F(uint64_t, rx_received)                                                                       \
    F(uint64_t, rx_parsed)                                                                         \
    F(uint64_t, rx_origin)                                                                         \
    F(struct extent, rx_buffer)                                                                    \
    F(uint64_t, payload_start)                                                                     \
    F(uint64_t, payload_end)                                                                       \
    F(uint64_t, skip_end)                                                                          \
    F(struct request_h, payload)                                                                   \
    F(struct request_h, tx_head)                                                                   \
    F(struct request_h, tx_tail)                                                                   \
    F(uint32_t, requests)                                                                          \
    F(uint64_t, tx_head_start)                                                                     \
    F(uint64_t, tx_sent)                                                                           \
    F(uint64_t, accepted_wall_ns)                                                                  \
    F(uint32_t, watched)                                                                           \
    F(uint32_t, engines_before)                                                                    \
    F(uint64_t, requests_ever)                                                                     \
    F(uint64_t, read_bytes)                                                                        \
    F(uint64_t, written_bytes)                                                                     \
    A(uint8_t, peer, 120)                                                                          \
    F(uint64_t, first_wall_ns)                                                                     \
    F(struct tls_h, tls)                                                                           \
    A(uint8_t, reserved, 20)

#define CONN_3_FIELDS(F, A)                                                                        \
    A(uint8_t, peer, 120)                                                                          \
    F(int32_t, fd)                                                                                 \
    F(uint32_t, protocol)                                                                          \
    F(uint64_t, identity)                                                                          \
    F(uint32_t, protocol_slot)                                                                     \
    F(uint32_t, flags)                                                                             \
    F(uint64_t, rx_received)                                                                       \
    F(uint64_t, rx_parsed)                                                                         \
    F(uint64_t, rx_origin)                                                                         \
    F(struct extent, rx_buffer)                                                                    \
    F(uint64_t, payload_start)                                                                     \
    F(uint64_t, payload_end)                                                                       \
    F(uint64_t, skip_end)                                                                          \
    F(struct request_h, payload)                                                                   \
    F(struct request_h, tx_head)                                                                   \
    F(struct request_h, tx_tail)                                                                   \
    A(uint8_t, pad, 4)                                                                             \
    F(uint64_t, requests)                                                                          \
    F(uint64_t, tx_head_start)                                                                     \
    F(uint64_t, tx_sent)                                                                           \
    F(uint64_t, accepted_wall_ns)                                                                  \
    F(uint32_t, watched)                                                                           \
    F(uint32_t, engines_before)                                                                    \
    F(uint64_t, requests_ever)                                                                     \
    F(uint64_t, read_bytes)                                                                        \
    F(uint64_t, written_bytes)                                                                     \
    F(struct tls_h, tls)                                                                           \
    A(uint8_t, reserved, 60)

#endif
