/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The preserved state of one NBD connection: enough to go on in the middle of a handshake, of an
 * option or of a request after all code has been replaced. What is not here is in the transport's
 * receive buffer (a message is consumed whole or not at all) or in the connection's requests.
 *
 * Invariants, proven by nbd_check_slot:
 *  1. TRANSMISSION has an open export; `receiving` and outstanding requests exist only there and in
 *     CLOSING.
 *  2. `volume` is set exactly when open == NBD_OPEN_YES, and then block_min is a power of two.
 *  3. The limits of nbd.h hold for outstanding, outstanding_bytes, messages, options, name_bytes.
 *  4. A moment is waited for only in OPTIONS.
 *  5. refused_skip is 0 unless refused tells whose data is skipped.
 *  6. TLS is begun in OPTIONS only.
 */
#ifndef PROTO_NBD_NBD_SLOTS_H
#define PROTO_NBD_NBD_SLOTS_H

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "plat/md_packet.h"

/* State of the slot. GREETING --sent--> CLIENT_FLAGS --received--> OPTIONS --EXPORT_NAME, GO-->
 * TRANSMISSION; any --ABORT, DISC, what cannot be answered--> CLOSING. */
enum nbd_phase {
    NBD_PHASE_GREETING = 1,
    NBD_PHASE_CLIENT_FLAGS = 2,
    NBD_PHASE_OPTIONS = 3,
    NBD_PHASE_TRANSMISSION = 4,
    NBD_PHASE_CLOSING = 5,
};

/* nbd.mode: which headers were negotiated. */
enum nbd_mode { NBD_MODE_SIMPLE = 0, NBD_MODE_STRUCTURED = 1, NBD_MODE_EXTENDED = 2 };

/* nbd.open: the export named `name`. */
enum nbd_open {
    NBD_OPEN_NONE = 0,
    NBD_OPEN_ASKED = 1, /* nbd_export_ready will tell */
    NBD_OPEN_YES = 2,
    NBD_OPEN_FAILED = 3, /* open_error says why; until the option is answered */
};

/* nbd.refused: a message whose data is being skipped, before the error is sent. */
enum nbd_refused { NBD_REFUSED_NONE = 0, NBD_REFUSED_OPTION = 1, NBD_REFUSED_REQUEST = 2 };

/* nbd.tls: whether what comes and goes is encrypted; the transport does that. */
enum nbd_tls_state {
    NBD_TLS_NONE = 0,
    NBD_TLS_STARTING = 1, /* STARTTLS is answered: nothing more is read in plain */
    NBD_TLS_SECURED = 2,
};

/* The metadata contexts (nbd_context.c), by the kind of status that they tell. */
enum nbd_context {
    NBD_CONTEXT_ALLOCATION = 0,
    NBD_CONTEXT_CHANGED_SINCE = 1,
    NBD_CONTEXT_WRITTEN_AT = 2,
    NBD_CONTEXTS = 3,
};

/* Longest name of an export that can exist: volume name, '@', moment, "+rw". */
#define NBD_EXPORT_NAME_MAX 255u

HANDLE(nbd)
/* The four fields from `outstanding` on change with every request; they are saved by themselves. */
#define NBD_FIELDS(F, A)                                                                           \
    F(struct conn_h, conn)                                                                         \
    F(struct volume_h, volume)                                                                     \
    F(uint32_t, outstanding)       /* requests whose reply has not left */                         \
    F(uint32_t, outstanding_bytes) /* their buffers */                                             \
    F(uint32_t, messages)          /* messages that have not left */                               \
    F(struct request_h, receiving) /* the WRITE whose payload comes next */                        \
    F(uint64_t, size_bytes)        /* of the export, here and below while it is open */            \
    F(uint32_t, block_min)                                                                         \
    F(uint32_t, block_preferred)                                                                   \
    F(uint8_t, read_only)                                                                          \
    F(uint8_t, mode) /* enum nbd_mode */                                                           \
    F(uint8_t,                                                                                     \
      meta_contexts) /* selected, a bit for each enum nbd_context, for the export of          \
                                 meta_name_hash; in TRANSMISSION: for this export */    \
    F(uint8_t, client_flags)                                                                       \
    F(uint8_t, open)                                                                               \
    F(uint8_t, refused)                                                                            \
    F(uint16_t, name_bytes)                                                                        \
    F(uint64_t, refused_skip)   /* bytes of its data still to come */                              \
    F(uint64_t, refused_cookie) /* REQUEST */                                                      \
    F(uint64_t, refused_offset) /* REQUEST */                                                      \
    F(uint32_t, refused_op)     /* OPTION: its number; REQUEST: command | flags << 16 */           \
    F(int32_t, refused_error)   /* base/err.h */                                                   \
    F(uint64_t, deadline_ns)    /* monotonic; end of the handshake */                              \
    F(uint64_t, list_cursor)    /* LIST: what comes next */                                        \
    F(uint64_t, meta_name_hash)                                                                    \
    F(uint32_t, options)     /* answered */                                                        \
    F(int32_t, open_error)   /* FAILED */                                                          \
    F(int32_t, close_reason) /* CLOSING: OK, or what went wrong */                                 \
    F(uint8_t, moment_asked) /* OPTIONS: nbd_moment_ready will tell */                             \
    F(uint8_t, tls)          /* enum nbd_tls_state */                                              \
    A(uint8_t, pad, 2)                                                                             \
    F(uint64_t, since) /* of perdure:changed-since, if it is selected */                           \
    A(uint8_t, name, NBD_EXPORT_NAME_MAX + 1)                                                      \
    A(uint8_t, reserved, 56)
SLOT_STRUCT(nbd, NBD_FIELDS)
SLOT_TABLE(nbd, TABLE_NBD)

extern const struct arena_table_spec nbd_spec;

#endif
