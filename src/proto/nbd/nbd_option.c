/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Option haggling. Each option is looked at when all its data is there, answered with one message
 * (LIST: with as many as it takes), and consumed. An option that cannot be answered yet (no room; the
 * export is being opened) changes nothing but what makes the next look cheaper: the open export, and
 * for LIST the cursor.
 *
 * Data of INFO, GO:
 *   0   4  length of the name
 *   4      name
 *       2  number of information requests
 *       2  each
 */
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/hash.h"
#include "proto/nbd/nbd_priv.h"

uint8_t *nbd_put_reply(struct nbd_out *out, uint32_t option, uint32_t type, uint32_t length) {
    must(out->used + NBD_OPTION_REPLY_HEADER_BYTES + length <= sizeof out->bytes);
    uint8_t *p = out->bytes + out->used;
    put_be64(p, NBD_OPTION_REPLY_MAGIC);
    put_be32(p + 8, option);
    put_be32(p + 12, type);
    put_be32(p + 16, length);
    out->used += NBD_OPTION_REPLY_HEADER_BYTES + length;
    return p + NBD_OPTION_REPLY_HEADER_BYTES;
}

static void put_ack(struct nbd_out *out, uint32_t option) {
    nbd_put_reply(out, option, NBD_REP_ACK, 0);
}

static void put_info_text(struct nbd_out *out, uint32_t option, uint16_t info, const uint8_t *text,
                          uint32_t len) {
    uint8_t *p = nbd_put_reply(out, option, NBD_REP_INFO, 2 + len);
    put_be16(p, info);
    memcpy(p + 2, text, len);
}

void nbd_put_option_error(struct nbd_out *out, uint32_t option, int err) {
    const char *text = err_text(err);
    uint32_t len = (uint32_t)strlen(text);
    memcpy(nbd_put_reply(out, option, nbd_option_error(err), len), text, len);
}

struct nbd_turn nbd_answer(struct nbd_env *env, struct nbd_h n, const struct nbd_option_data *o,
                           const struct nbd_out *out) {
    if (nbd_send(env, n, out->bytes, out->used) < 0)
        return nbd_stop(NBD_BLOCKED);
    nbd_export_forget_failure(env, n);
    nbd_edit(env->a, n)->options++;
    return nbd_done(NBD_OPTION_HEADER_BYTES + o->length);
}

static struct nbd_turn answer_ack(struct nbd_env *env, struct nbd_h n,
                                  const struct nbd_option_data *o) {
    struct nbd_out out = {.used = 0};
    put_ack(&out, o->number);
    return nbd_answer(env, n, o, &out);
}

struct nbd_turn nbd_answer_error(struct nbd_env *env, struct nbd_h n,
                                 const struct nbd_option_data *o, int err) {
    struct nbd_out out = {.used = 0};
    nbd_put_option_error(&out, o->number, err);
    return nbd_answer(env, n, o, &out);
}

/* Structured replies cannot be had after extended headers: the one error that no code stands for. */
static struct nbd_turn answer_no_downgrade(struct nbd_env *env, struct nbd_h n,
                                           const struct nbd_option_data *o) {
    static const char text[] = "extended headers are negotiated";
    struct nbd_out out = {.used = 0};
    memcpy(nbd_put_reply(&out, o->number, NBD_REP_ERR_EXT_HEADER_REQD, sizeof text - 1), text,
           sizeof text - 1);
    return nbd_answer(env, n, o, &out);
}

static uint16_t transmission_flags(const struct nbd *s) {
    uint16_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
                     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE;
    if (s->read_only)
        flags |= NBD_FLAG_READ_ONLY;
    else
        flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
    if (s->mode != NBD_MODE_SIMPLE)
        flags |= NBD_FLAG_SEND_DF;
    if (s->mode == NBD_MODE_EXTENDED)
        flags |= NBD_FLAG_BLOCK_STAT_PAYLOAD;
    return flags;
}

uint64_t nbd_name_hash(const uint8_t *name, uint32_t name_bytes) {
    return hash_bytes(HASH_BYTES_START, name, name_bytes);
}

/* Into TRANSMISSION with the export that is open. Selected contexts count only for the export
 * for which they were selected. */
static void enter_transmission(struct nbd_env *env, struct nbd_h n) {
    struct nbd *s = nbd_edit(env->a, n);
    must(s->open == NBD_OPEN_YES);
    if (s->meta_name_hash != nbd_name_hash(s->name, s->name_bytes))
        s->meta_contexts = 0;
    s->slot.state = NBD_PHASE_TRANSMISSION;
}

int nbd_name_is_valid(const uint8_t *name, uint32_t name_bytes) {
    return name_bytes <= NBD_STRING_MAX && !memchr(name, 0, name_bytes);
}

static struct nbd_turn export_name_option(struct nbd_env *env, struct nbd_h n,
                                          const struct nbd_option_data *o) {
    /* "a client that has used NBD_OPT_EXTENDED_HEADERS MUST NOT use this option" */
    if (nbd_view(env->a, n)->mode == NBD_MODE_EXTENDED || !nbd_name_is_valid(o->data, o->length))
        return nbd_close(env, n, ERR_PROTO);
    int err = nbd_export_get(env, n, o->data, o->length);
    if (err == ERR_AGAIN)
        return nbd_stop(NBD_WAIT);
    if (err < 0)
        return nbd_close(env, n, err);
    const struct nbd *s = nbd_view(env->a, n);
    uint8_t reply[NBD_EXPORT_REPLY_BYTES + NBD_EXPORT_REPLY_ZEROES] = {0};
    put_be64(reply, s->size_bytes);
    put_be16(reply + 8, transmission_flags(s));
    struct nbd_out out = {.used = NBD_EXPORT_REPLY_BYTES};
    if (!(s->client_flags & NBD_FLAG_C_NO_ZEROES))
        out.used += NBD_EXPORT_REPLY_ZEROES;
    memcpy(out.bytes, reply, out.used);
    struct nbd_turn turn = nbd_answer(env, n, o, &out);
    if (turn.progress == NBD_DONE)
        enter_transmission(env, n);
    return turn;
}

static struct nbd_turn abort_option(struct nbd_env *env, struct nbd_h n,
                                    const struct nbd_option_data *o) {
    struct nbd_turn turn = answer_ack(env, n, o);
    if (turn.progress == NBD_DONE)
        nbd_close(env, n, OK);
    return turn;
}

/* As many exports as fit into one message; then the next, until the end. */
static struct nbd_turn list_option(struct nbd_env *env, struct nbd_h n,
                                   const struct nbd_option_data *o) {
    uint32_t largest = NBD_OPTION_REPLY_HEADER_BYTES + 4 + 2 * NBD_TEXT_MAX;
    if (o->length != 0)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    for (;;) {
        struct nbd_out out = {.used = 0};
        uint64_t cursor = nbd_view(env->a, n)->list_cursor;
        int more = 1;
        while (more > 0 && out.used + largest + NBD_OPTION_REPLY_HEADER_BYTES <= sizeof out.bytes) {
            struct nbd_listed x = {.name_bytes = 0};
            more = env->ops->export_list(env->ctx, &cursor, &x);
            if (more <= 0)
                break;
            must(cursor != 0);
            uint8_t *p = nbd_put_reply(&out, o->number, NBD_REP_SERVER,
                                       4u + x.name_bytes + x.description_bytes);
            put_be32(p, x.name_bytes);
            memcpy(p + 4, x.name, x.name_bytes);
            memcpy(p + 4 + x.name_bytes, x.description, x.description_bytes);
        }
        if (more > 0) {
            if (nbd_send(env, n, out.bytes, out.used) < 0)
                return nbd_stop(NBD_BLOCKED);
            nbd_edit(env->a, n)->list_cursor = cursor;
            continue;
        }
        if (more < 0)
            nbd_put_option_error(&out, o->number, more);
        else
            put_ack(&out, o->number);
        struct nbd_turn turn = nbd_answer(env, n, o, &out);
        if (turn.progress == NBD_DONE)
            nbd_edit(env->a, n)->list_cursor = 0;
        return turn;
    }
}

/* The replies of a successful INFO or GO, but for the ACK. Block sizes are told whether asked for or
 * not: a client that does not know them would only meet them as errors. */
static void put_infos(struct nbd_env *env, struct nbd_out *out, const struct nbd *s,
                      const struct nbd_option_data *o, const uint8_t *requests,
                      uint32_t request_count) {
    uint8_t *p = nbd_put_reply(out, o->number, NBD_REP_INFO, 12);
    put_be16(p, NBD_INFO_EXPORT);
    put_be64(p + 2, s->size_bytes);
    put_be16(p + 10, transmission_flags(s));
    int name = 0, description = 0;
    for (uint32_t i = 0; i < request_count; i++) {
        uint16_t request = get_be16(requests + (size_t)2 * i);
        name |= request == NBD_INFO_NAME;
        description |= request == NBD_INFO_DESCRIPTION;
    }
    uint8_t text[NBD_TEXT_MAX];
    uint32_t len;
    if (name && (len = env->ops->export_text(env->ctx, s->volume, NBD_TEXT_NAME, text)) > 0)
        put_info_text(out, o->number, NBD_INFO_NAME, text, len);
    if (description &&
        (len = env->ops->export_text(env->ctx, s->volume, NBD_TEXT_DESCRIPTION, text)) > 0)
        put_info_text(out, o->number, NBD_INFO_DESCRIPTION, text, len);
    p = nbd_put_reply(out, o->number, NBD_REP_INFO, 14);
    put_be16(p, NBD_INFO_BLOCK_SIZE);
    put_be32(p + 2, s->block_min);
    put_be32(p + 6, s->block_preferred);
    put_be32(p + 10, NBD_PAYLOAD_MAX);
}

static struct nbd_turn info_option(struct nbd_env *env, struct nbd_h n,
                                   const struct nbd_option_data *o) {
    if (o->length < 6)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    uint32_t name_bytes = get_be32(o->data);
    if (name_bytes > o->length - 6)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    const uint8_t *name = o->data + 4;
    uint32_t request_count = get_be16(name + name_bytes);
    if (o->length - 6 - name_bytes != 2 * request_count || !nbd_name_is_valid(name, name_bytes))
        return nbd_answer_error(env, n, o, ERR_INVAL);

    int err = nbd_export_get(env, n, name, name_bytes);
    if (err == ERR_AGAIN)
        return nbd_stop(NBD_WAIT);
    if (err < 0)
        return nbd_answer_error(env, n, o, err);
    struct nbd_out out = {.used = 0};
    put_infos(env, &out, nbd_view(env->a, n), o, name + name_bytes + 2, request_count);
    put_ack(&out, o->number);
    struct nbd_turn turn = nbd_answer(env, n, o, &out);
    if (turn.progress == NBD_DONE && o->number == NBD_OPT_GO)
        enter_transmission(env, n);
    return turn;
}

static struct nbd_turn mode_option(struct nbd_env *env, struct nbd_h n,
                                   const struct nbd_option_data *o, enum nbd_mode mode) {
    if (o->length != 0)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    if (nbd_view(env->a, n)->mode > mode)
        return answer_no_downgrade(env, n, o);
    struct nbd_turn turn = answer_ack(env, n, o);
    if (turn.progress == NBD_DONE)
        nbd_edit(env->a, n)->mode = (uint8_t)mode;
    return turn;
}

static enum nbd_tls_policy tls_policy(const struct nbd_env *env) {
    return env->ops->tls ? env->ops->tls(env->ctx) : NBD_TLS_OFF;
}

int nbd_tls_is_missing(const struct nbd_env *env, const struct nbd *s, uint32_t option) {
    return tls_policy(env) >= NBD_TLS_REQUIRED && s->tls != NBD_TLS_SECURED &&
           option != NBD_OPT_ABORT && option != NBD_OPT_STARTTLS;
}

/* An error that no code stands for. */
void nbd_put_tls_required(struct nbd_out *out, uint32_t option) {
    static const char text[] = "this server serves over TLS only";
    memcpy(nbd_put_reply(out, option, NBD_REP_ERR_TLS_REQD, sizeof text - 1), text,
           sizeof text - 1);
}

static struct nbd_turn answer_tls_required(struct nbd_env *env, struct nbd_h n,
                                           const struct nbd_option_data *o) {
    struct nbd_out out = {.used = 0};
    nbd_put_tls_required(&out, o->number);
    return nbd_answer(env, n, o, &out);
}

/* "ERR_INVALID if the client included data", or has TLS already. */
static struct nbd_turn starttls_option(struct nbd_env *env, struct nbd_h n,
                                       const struct nbd_option_data *o) {
    enum nbd_tls_policy policy = tls_policy(env);
    if (o->length != 0 || nbd_view(env->a, n)->tls == NBD_TLS_SECURED)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    if (policy == NBD_TLS_OFF)
        return nbd_answer_error(env, n, o, ERR_UNSUPPORTED);
    if (policy == NBD_TLS_BROKEN)
        return nbd_answer_error(env, n, o, ERR_PERM);
    struct nbd_turn turn = answer_ack(env, n, o);
    if (turn.progress == NBD_DONE)
        nbd_edit(env->a, n)->tls = NBD_TLS_STARTING;
    return turn;
}

static struct nbd_turn serve_option(struct nbd_env *env, struct nbd_h n,
                                    const struct nbd_option_data *o) {
    switch (o->number) {
    case NBD_OPT_EXPORT_NAME:
        return export_name_option(env, n, o);
    case NBD_OPT_ABORT:
        return abort_option(env, n, o);
    case NBD_OPT_LIST:
        return list_option(env, n, o);
    case NBD_OPT_INFO:
    case NBD_OPT_GO:
        return info_option(env, n, o);
    case NBD_OPT_STRUCTURED_REPLY:
        return mode_option(env, n, o, NBD_MODE_STRUCTURED);
    case NBD_OPT_EXTENDED_HEADERS:
        return mode_option(env, n, o, NBD_MODE_EXTENDED);
    case NBD_OPT_LIST_META_CONTEXT:
    case NBD_OPT_SET_META_CONTEXT:
        return nbd_meta_option(env, n, o);
    case NBD_OPT_STARTTLS:
        return starttls_option(env, n, o);
    default:
        return nbd_answer_error(env, n, o, ERR_UNSUPPORTED);
    }
}

/* Too long to be looked at: skipped and answered with an error, if both can be. */
static struct nbd_turn long_option(struct nbd_env *env, struct nbd_h n,
                                   const struct nbd_option_data *o) {
    if (o->number == NBD_OPT_EXPORT_NAME || o->length > NBD_OPTION_SKIP_MAX)
        return nbd_close(env, n, ERR_TOOBIG);
    int known = o->number <= NBD_OPT_EXTENDED_HEADERS && o->number != NBD_OPT_PEEK_EXPORT &&
                o->number != NBD_OPT_STARTTLS && o->number != 0;
    nbd_refuse(env, n,
               &(struct nbd_refusal){.refused = NBD_REFUSED_OPTION,
                                     .skip = o->length,
                                     .op = o->number,
                                     .error = known ? ERR_TOOBIG : ERR_UNSUPPORTED});
    nbd_edit(env->a, n)->options++;
    return nbd_done(NBD_OPTION_HEADER_BYTES);
}

struct nbd_turn nbd_option_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                 size_t bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    if (bytes < NBD_OPTION_HEADER_BYTES)
        return nbd_more(NBD_OPTION_HEADER_BYTES);
    struct nbd_option_data o = {
        .number = get_be32(p + 8), .length = get_be32(p + 12), .data = p + NBD_OPTION_HEADER_BYTES};
    if (get_be64(p) != NBD_OPTION_MAGIC)
        return nbd_close(env, n, ERR_PROTO);
    if (s->options >= NBD_OPTIONS_MAX)
        return nbd_close(env, n, ERR_TOOBIG);
    /* Without fixed newstyle there is no reply but that to EXPORT_NAME. */
    if (!(s->client_flags & NBD_FLAG_C_FIXED_NEWSTYLE) && o.number != NBD_OPT_EXPORT_NAME)
        return nbd_close(env, n, ERR_PROTO);
    /* "a server SHOULD ignore any data sent by the client" with ABORT: it is the last option. */
    if (o.number == NBD_OPT_ABORT)
        o.length = 0;
    if (nbd_tls_is_missing(env, s, o.number) && o.number == NBD_OPT_EXPORT_NAME)
        return nbd_close(env, n, ERR_PERM);
    if (o.length > NBD_OPTION_BYTES_MAX)
        return long_option(env, n, &o);
    if (bytes < NBD_OPTION_HEADER_BYTES + o.length)
        return nbd_more(NBD_OPTION_HEADER_BYTES + o.length);
    return nbd_tls_is_missing(env, s, o.number) ? answer_tls_required(env, n, &o)
                                                : serve_option(env, n, &o);
}
