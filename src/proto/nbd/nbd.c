/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a connection: greeting, client flags, then options (nbd_option.c) and requests
 * (nbd_request.c), one message after the other, until something stops the loop of nbd_input.
 *
 * A refused message whose data is still to come is remembered in the slot (refused*): its data is
 * consumed as it comes, then the error is sent. The error waits for the data because clients look
 * for the answer to a request only when they have sent all of it.
 */
#include "proto/nbd/nbd.h"

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

LAYOUT_FIELDS(nbd, NBD_FIELDS)
const struct arena_table_spec nbd_spec = TABLE_SPEC(nbd, TABLE_NBD, 1);

_Static_assert(NBD_NEED_MAX == NBD_OPTION_HEADER_BYTES + NBD_OPTION_BYTES_MAX, "largest message");
_Static_assert(NBD_COUNTS_BYTES == 16, "the counts lie together");

struct nbd_h nbd_begin(struct nbd_env *env, struct conn_h conn, uint64_t deadline_ns) {
    struct nbd_h n = nbd_new(env->a, NBD_PHASE_GREETING);
    if (n.v) {
        struct nbd *s = nbd_edit(env->a, n);
        s->conn = conn;
        s->deadline_ns = deadline_ns;
    }
    return n;
}

int nbd_send(struct nbd_env *env, struct nbd_h n, const uint8_t *bytes, uint32_t len) {
    must(len > 0 && len <= NBD_MESSAGE_BYTES_MAX);
    if (nbd_view(env->a, n)->messages >= NBD_MESSAGES_MAX)
        return ERR_AGAIN;
    uint8_t *room = env->ops->message(env->ctx, n, len);
    if (!room)
        return ERR_AGAIN;
    memcpy(room, bytes, len);
    nbd_edit_counts(env->a, n)->messages++;
    return OK;
}

struct nbd_turn nbd_close(struct nbd_env *env, struct nbd_h n, int reason) {
    struct nbd *s = nbd_edit(env->a, n);
    s->slot.state = NBD_PHASE_CLOSING;
    s->close_reason = reason;
    return nbd_done(0);
}

void nbd_refuse(struct nbd_env *env, struct nbd_h n, const struct nbd_refusal *why) {
    struct nbd *s = nbd_edit(env->a, n);
    must(s->refused == NBD_REFUSED_NONE && why->error != OK);
    s->refused = why->refused;
    s->refused_skip = why->skip;
    s->refused_cookie = why->cookie;
    s->refused_offset = why->offset;
    s->refused_op = why->op;
    s->refused_error = why->error;
}

static struct nbd_turn refused_input(struct nbd_env *env, struct nbd_h n, size_t bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    if (s->refused_skip > 0) {
        if (bytes == 0)
            return nbd_more(1);
        uint64_t taken = min_u64(bytes, s->refused_skip);
        nbd_edit(env->a, n)->refused_skip -= taken;
        return nbd_done((size_t)taken);
    }
    struct nbd_out out = {.used = 0};
    if (s->refused == NBD_REFUSED_OPTION && nbd_tls_is_missing(env, s, s->refused_op))
        nbd_put_tls_required(&out, s->refused_op);
    else if (s->refused == NBD_REFUSED_OPTION)
        nbd_put_option_error(&out, s->refused_op, s->refused_error);
    else
        out.used = nbd_put_error(out.bytes, s->mode, s->refused_cookie, s->refused_offset,
                                 s->refused_op, s->refused_error);
    if (nbd_send(env, n, out.bytes, out.used) < 0)
        return nbd_stop(NBD_BLOCKED);
    nbd_edit(env->a, n)->refused = NBD_REFUSED_NONE;
    return nbd_done(0);
}

static struct nbd_turn greeting_input(struct nbd_env *env, struct nbd_h n) {
    uint8_t greeting[NBD_GREETING_BYTES];
    put_be64(greeting, NBD_MAGIC);
    put_be64(greeting + 8, NBD_OPTION_MAGIC);
    put_be16(greeting + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
    if (nbd_send(env, n, greeting, sizeof greeting) < 0)
        return nbd_stop(NBD_BLOCKED);
    nbd_edit(env->a, n)->slot.state = NBD_PHASE_CLIENT_FLAGS;
    return nbd_done(0);
}

static struct nbd_turn client_flags_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                          size_t bytes) {
    if (bytes < NBD_CLIENT_FLAGS_BYTES)
        return nbd_more(NBD_CLIENT_FLAGS_BYTES);
    uint32_t flags = get_be32(p);
    /* "the server MUST drop the TCP connection if the client sets an unknown flag" */
    if (flags & ~(uint32_t)(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES))
        return nbd_close(env, n, ERR_PROTO);
    struct nbd *s = nbd_edit(env->a, n);
    s->client_flags = (uint8_t)flags;
    s->slot.state = NBD_PHASE_OPTIONS;
    return nbd_done(NBD_CLIENT_FLAGS_BYTES);
}

static struct nbd_turn message_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                     size_t bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    struct nbd_turn turn;
    if (s->slot.state == NBD_PHASE_CLOSING) {
        turn = nbd_stop(NBD_CLOSE);
        turn.step.reason = s->close_reason;
        return turn;
    }
    if (s->refused != NBD_REFUSED_NONE)
        return refused_input(env, n, bytes);
    if (s->tls == NBD_TLS_STARTING)
        return bytes > 0 ? nbd_close(env, n, ERR_PROTO) : nbd_stop(NBD_UPGRADE);
    if (s->receiving.v) {
        turn = nbd_stop(NBD_PAYLOAD);
        turn.step.request = s->receiving;
        return turn;
    }
    switch (s->slot.state) {
    case NBD_PHASE_GREETING:
        return greeting_input(env, n);
    case NBD_PHASE_CLIENT_FLAGS:
        return client_flags_input(env, n, p, bytes);
    case NBD_PHASE_OPTIONS:
        return nbd_option_input(env, n, p, bytes);
    default:
        must(s->slot.state == NBD_PHASE_TRANSMISSION);
        return nbd_request_input(env, n, p, bytes);
    }
}

struct nbd_step nbd_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p, size_t bytes) {
    size_t consumed = 0;
    for (;;) {
        struct nbd_turn turn = message_input(env, n, p + consumed, bytes - consumed);
        must(turn.step.consumed <= bytes - consumed);
        consumed += turn.step.consumed;
        if (turn.progress == NBD_STOP) {
            turn.step.consumed = consumed;
            must(turn.step.what != NBD_MORE || turn.step.need > bytes - consumed);
            must(turn.step.need <= NBD_NEED_MAX);
            return turn.step;
        }
    }
}

void nbd_secured(struct nbd_env *env, struct nbd_h n) {
    struct nbd *s = nbd_edit(env->a, n);
    must(s->slot.state == NBD_PHASE_OPTIONS && s->tls == NBD_TLS_STARTING);
    if (s->open == NBD_OPEN_YES || s->open == NBD_OPEN_ASKED)
        env->ops->export_close(env->ctx, n, s->volume);
    s->open = NBD_OPEN_NONE;
    s->volume = (struct volume_h){0};
    s->size_bytes = 0;
    s->block_min = s->block_preferred = 0;
    s->read_only = s->mode = s->meta_contexts = 0;
    s->meta_name_hash = s->since = s->list_cursor = 0;
    s->open_error = 0;
    s->name_bytes = 0;
    memset(s->name, 0, sizeof s->name);
    s->tls = NBD_TLS_SECURED;
}

void nbd_payload_done(struct nbd_env *env, struct nbd_h n, struct request_h r) {
    must(request_h_same(nbd_view(env->a, n)->receiving, r));
    must(request_view(env->a, r)->slot.state == REQUEST_RECEIVING);
    nbd_edit_counts(env->a, n)->receiving = (struct request_h){0};
    request_edit(env->a, r)->slot.state = REQUEST_READY;
    env->ops->submit(env->ctx, n, r);
}

void nbd_sent(struct nbd_env *env, struct nbd_h n, struct request_h r) {
    const struct request *q = request_view(env->a, r);
    struct nbd *s = nbd_edit_counts(env->a, n);
    if (q->op == REQUEST_MESSAGE) {
        must(s->messages > 0);
        s->messages--;
        return;
    }
    uint32_t cost = nbd_request_cost(q);
    must(s->outstanding > 0 && s->outstanding_bytes >= cost);
    s->outstanding--;
    s->outstanding_bytes -= cost;
    if (request_h_same(s->receiving, r))
        s->receiving = (struct request_h){0};
}

int nbd_expired(const struct nbd *s, uint64_t now_ns) {
    return s->slot.state < NBD_PHASE_TRANSMISSION && now_ns >= s->deadline_ns;
}

void nbd_end(struct nbd_env *env, struct nbd_h n) {
    const struct nbd *s = nbd_view(env->a, n);
    if (s->open == NBD_OPEN_YES || s->open == NBD_OPEN_ASKED)
        env->ops->export_close(env->ctx, n, s->volume);
    nbd_free(env->a, n);
}

int nbd_check_slot(const struct nbd *s) {
    int serving = s->slot.state == NBD_PHASE_TRANSMISSION || s->slot.state == NBD_PHASE_CLOSING;
    if (s->slot.state < NBD_PHASE_GREETING || s->slot.state > NBD_PHASE_CLOSING ||
        s->open > NBD_OPEN_FAILED || s->mode > NBD_MODE_EXTENDED ||
        s->refused > NBD_REFUSED_REQUEST || s->meta_contexts >= 1 << NBD_CONTEXTS ||
        s->moment_asked > 1 || s->tls > NBD_TLS_SECURED)
        return ERR_INTEGRITY;
    if (s->slot.state == NBD_PHASE_TRANSMISSION && s->open != NBD_OPEN_YES)
        return ERR_INTEGRITY;
    if (s->moment_asked && s->slot.state != NBD_PHASE_OPTIONS)
        return ERR_INTEGRITY;
    if (s->tls == NBD_TLS_STARTING && s->slot.state != NBD_PHASE_OPTIONS &&
        s->slot.state != NBD_PHASE_CLOSING)
        return ERR_INTEGRITY;
    if (!serving && (s->receiving.v || s->outstanding))
        return ERR_INTEGRITY;
    if ((s->open == NBD_OPEN_YES) != (s->volume.v != 0))
        return ERR_INTEGRITY;
    if (s->open == NBD_OPEN_YES && (s->block_min == 0 || (s->block_min & (s->block_min - 1)) != 0))
        return ERR_INTEGRITY;
    if (s->outstanding > NBD_OUTSTANDING_MAX || s->outstanding_bytes > NBD_OUTSTANDING_BYTES_MAX ||
        (s->outstanding == 0 && s->outstanding_bytes > 0) || s->messages > NBD_MESSAGES_MAX ||
        s->options > NBD_OPTIONS_MAX || s->name_bytes > NBD_EXPORT_NAME_MAX)
        return ERR_INTEGRITY;
    if ((s->receiving.v && s->outstanding == 0) ||
        (s->refused_skip > 0 && s->refused == NBD_REFUSED_NONE))
        return ERR_INTEGRITY;
    return OK;
}
