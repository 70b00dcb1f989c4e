/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of proto/nbd share. */
#ifndef PROTO_NBD_NBD_PRIV_H
#define PROTO_NBD_NBD_PRIV_H

#include "proto/nbd/nbd.h"
#include "proto/nbd/nbd_wire.h"

/* The number of a context in our replies; in those to LIST_META_CONTEXT it is 0. */
#define NBD_ALLOCATION_ID 1u
static inline uint32_t nbd_context_id(enum nbd_context c) {
    return NBD_ALLOCATION_ID + (uint32_t)c;
}

/* How far one message came; nbd_input turns the rest into a step. */
enum nbd_progress {
    NBD_DONE, /* `consumed` bytes were taken; go on */
    NBD_STOP, /* `step` says why */
};

struct nbd_turn {
    enum nbd_progress progress;
    struct nbd_step step;
};

static inline struct nbd_turn nbd_done(size_t consumed) {
    return (struct nbd_turn){.progress = NBD_DONE, .step = {.consumed = consumed}};
}
static inline struct nbd_turn nbd_stop(enum nbd_what what) {
    return (struct nbd_turn){.progress = NBD_STOP, .step = {.what = what}};
}
static inline struct nbd_turn nbd_more(size_t need) {
    return (struct nbd_turn){.progress = NBD_STOP,
                             .step = {.what = NBD_MORE, .need = (uint32_t)need}};
}

/* A message being made. */
struct nbd_out {
    uint32_t used;
    uint8_t bytes[NBD_MESSAGE_BYTES_MAX];
};

/* Queues a message; ERR_AGAIN if there is no room now (nothing has changed then). */
int nbd_send(struct nbd_env *env, struct nbd_h n, const uint8_t *bytes, uint32_t len);

/* Enters CLOSING. */
struct nbd_turn nbd_close(struct nbd_env *env, struct nbd_h n, int reason);

/* Option and request that cannot be served: the next `skip` bytes are dropped, then the error is
 * sent. */
struct nbd_refusal {
    uint8_t refused; /* enum nbd_refused */
    uint64_t skip;
    uint64_t cookie, offset;
    uint32_t op;
    int error;
};
void nbd_refuse(struct nbd_env *env, struct nbd_h n, const struct nbd_refusal *why);

/* One option, one request, as far as they are there. */
struct nbd_turn nbd_option_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                 size_t bytes);
struct nbd_turn nbd_request_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                  size_t bytes);

/* The export that messages of this connection speak of (nbd_export.c): 0: it is open now; ERR_AGAIN:
 * it is being opened; or why it cannot be. The same name gives the same answer until
 * nbd_export_forget_failure. */
int nbd_export_get(struct nbd_env *env, struct nbd_h n, const uint8_t *name, uint32_t name_bytes);
void nbd_export_forget_failure(struct nbd_env *env, struct nbd_h n);

/* An option, with all its data. */
struct nbd_option_data {
    uint32_t number;
    uint32_t length;
    const uint8_t *data;
};

/* Replies to an option, into one message; the room for `length` bytes of data. */
uint8_t *nbd_put_reply(struct nbd_out *out, uint32_t option, uint32_t type, uint32_t length);
/* An error reply: header and text. */
void nbd_put_option_error(struct nbd_out *out, uint32_t option, int err);
/* TLS is required, and this option has to wait for it; the error that says so. */
int nbd_tls_is_missing(const struct nbd_env *env, const struct nbd *s, uint32_t option);
void nbd_put_tls_required(struct nbd_out *out, uint32_t option);
/* The option is answered by this message, if there was room for it; or by an error. */
struct nbd_turn nbd_answer(struct nbd_env *env, struct nbd_h n, const struct nbd_option_data *o,
                           const struct nbd_out *out);
struct nbd_turn nbd_answer_error(struct nbd_env *env, struct nbd_h n,
                                 const struct nbd_option_data *o, int err);
/* A string of the protocol that may be the name of an export; the hash by which it is known again. */
int nbd_name_is_valid(const uint8_t *name, uint32_t name_bytes);
uint64_t nbd_name_hash(const uint8_t *name, uint32_t name_bytes);

/* LIST_META_CONTEXT and SET_META_CONTEXT (nbd_context.c). */
struct nbd_turn nbd_meta_option(struct nbd_env *env, struct nbd_h n,
                                const struct nbd_option_data *o);

/* An error reply to a request in room for REQUEST_HEAD_BYTES; returns its bytes. */
uint32_t nbd_put_error(uint8_t *p, enum nbd_mode mode, uint64_t cookie, uint64_t offset,
                       uint32_t op, int err);

/* Buffer bytes that count for this request. */
uint32_t nbd_request_cost(const struct request *r);

static inline uint32_t nbd_op(uint16_t command, uint16_t flags) {
    return command | (uint32_t)flags << 16;
}
static inline uint16_t nbd_op_command(uint32_t op) {
    return (uint16_t)op;
}
static inline uint16_t nbd_op_flags(uint32_t op) {
    return (uint16_t)(op >> 16);
}

#define NBD_COUNTS_OFFSET offsetof(struct nbd, outstanding)
#define NBD_COUNTS_BYTES                                                                           \
    (offsetof(struct nbd, receiving) + sizeof(struct request_h) - NBD_COUNTS_OFFSET)
/* Opens the fields that change with every request, and only those. */
static inline struct nbd *nbd_edit_counts(struct arena *a, struct nbd_h n) {
    return nbd_edit_part(a, n, NBD_COUNTS_OFFSET, NBD_COUNTS_BYTES);
}

#endif
