/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata contexts: what a BLOCK_STATUS may tell. Clients are told of them in docs/nbd.md.
 *
 *   base:allocation                  holes and zeroes
 *   perdure:changed-since=MOMENT     bit 0: written after that moment
 *   perdure:written-at               the sequence number of the last write: 64 bits, so only for clients with
 *                                    extended headers
 *
 * A moment is resolved when the context is asked for, and means the same from then on: "-1h" does not move on
 * while a client reads its map. Who asks for one that cannot be had is refused with a sentence; who lists it
 * does not find it. LIST shows "perdure:changed-since=" for what a client has to complete; like "base:" it is
 * nothing to SET.
 *
 * Data of LIST_META_CONTEXT, SET_META_CONTEXT:
 *   0   4  length of the name
 *   4      name
 *       4  number of queries
 *       4  length of a query, each
 *          query
 */
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

static const char *const names[NBD_CONTEXTS] = {
    [NBD_CONTEXT_ALLOCATION] = "base:allocation",
    [NBD_CONTEXT_CHANGED_SINCE] = "perdure:changed-since=",
    [NBD_CONTEXT_WRITTEN_AT] = "perdure:written-at",
};

struct query {
    const uint8_t *text;
    uint32_t bytes;
};

/* What an option asks for, in bits of enum nbd_context. */
struct asked {
    uint8_t contexts;
    uint8_t form;       /* LIST: perdure:changed-since= is shown as it is to be completed */
    struct query since; /* the moment; none: 0 bytes */
};

static int is(const struct query *q, const char *text) {
    return q->bytes == strlen(text) && memcmp(q->text, text, q->bytes) == 0;
}

static int begins(const struct query *q, const char *text) {
    return q->bytes >= strlen(text) && memcmp(q->text, text, strlen(text)) == 0;
}

/* The empty leaves "base:" and "perdure:" are wildcards for LIST and nothing for SET; unknown queries are
 * ignored. */
static int take_query(struct asked *a, const struct query *q, int list) {
    const char *since = names[NBD_CONTEXT_CHANGED_SINCE];
    uint32_t prefix = (uint32_t)strlen(since);
    if (is(q, names[NBD_CONTEXT_ALLOCATION]) || (list && is(q, "base:")))
        a->contexts |= 1 << NBD_CONTEXT_ALLOCATION;
    if (is(q, names[NBD_CONTEXT_WRITTEN_AT]) || (list && is(q, "perdure:")))
        a->contexts |= 1 << NBD_CONTEXT_WRITTEN_AT;
    if (list && (is(q, "perdure:") || is(q, since)))
        a->form = 1;
    if (!begins(q, since) || q->bytes == prefix)
        return 0;
    struct query moment = {q->text + prefix, q->bytes - prefix};
    if (a->since.bytes > 0 &&
        (a->since.bytes != moment.bytes || memcmp(a->since.text, moment.text, moment.bytes) != 0))
        return ERR_TOOBIG;
    a->since = moment;
    a->contexts |= 1 << NBD_CONTEXT_CHANGED_SINCE;
    return 0;
}

/* ERR_INVAL if the queries are cut off or something follows, ERR_TOOBIG if they are too many, or of two
 * moments. */
static int take_queries(const struct nbd_option_data *o, uint32_t at, struct asked *a) {
    int list = o->number == NBD_OPT_LIST_META_CONTEXT;
    uint32_t count = get_be32(o->data + at);
    *a = (struct asked){.contexts = 0};
    at += 4;
    if (count > NBD_QUERIES_MAX)
        return ERR_TOOBIG;
    if (count == 0 && list)
        *a = (struct asked){.contexts = 1 << NBD_CONTEXT_ALLOCATION | 1 << NBD_CONTEXT_WRITTEN_AT,
                            .form = 1};
    int err = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (o->length - at < 4)
            return ERR_INVAL;
        struct query q = {o->data + at + 4, get_be32(o->data + at)};
        at += 4;
        if (q.bytes > o->length - at || q.bytes > NBD_STRING_MAX)
            return ERR_INVAL;
        at += q.bytes;
        if (err == 0)
            err = take_query(a, &q, list);
    }
    return at == o->length ? err : ERR_INVAL;
}

/* The moment, or why it is none. */
static int find_moment(struct nbd_env *env, struct nbd_h n, const struct query *q,
                       struct nbd_moment *m) {
    const struct nbd *s = nbd_view(env->a, n);
    memset(m, 0, sizeof *m);
    int err = ERR_INVAL;
    if (q->bytes <= NBD_MOMENT_MAX && !memchr(q->text, 0, q->bytes))
        err = env->ops->moment(env->ctx, n, s->volume, q->text, q->bytes, m);
    must(m->why_bytes <= sizeof m->why);
    if (s->moment_asked != (err == ERR_AGAIN))
        nbd_edit(env->a, n)->moment_asked = err == ERR_AGAIN;
    return err;
}

/* The export is available: what is wrong is the moment. */
static uint32_t moment_error(int err) {
    switch (err) {
    case ERR_NOTFOUND:
    case ERR_CHANGED:
    case ERR_TOOBIG:
        return NBD_REP_ERR_INVALID;
    default:
        return nbd_option_error(err);
    }
}

static struct nbd_turn refuse_moment(struct nbd_env *env, struct nbd_h n,
                                     const struct nbd_option_data *o, int err,
                                     const struct nbd_moment *m) {
    struct nbd_out out = {.used = 0};
    const char *text = err_text(err);
    uint32_t bytes = m->why_bytes ? m->why_bytes : (uint32_t)strlen(text);
    memcpy(nbd_put_reply(&out, o->number, moment_error(err), bytes),
           m->why_bytes ? m->why : (const uint8_t *)text, bytes);
    return nbd_answer(env, n, o, &out);
}

static void put_context(struct nbd_out *out, const struct nbd_option_data *o, enum nbd_context c,
                        const struct query *since) {
    uint32_t name = (uint32_t)strlen(names[c]);
    uint8_t *p = nbd_put_reply(out, o->number, NBD_REP_META_CONTEXT, 4 + name + since->bytes);
    put_be32(p, o->number == NBD_OPT_SET_META_CONTEXT ? nbd_context_id(c) : 0);
    memcpy(p + 4, names[c], name);
    if (since->bytes > 0)
        memcpy(p + 4 + name, since->text, since->bytes);
}

struct nbd_turn nbd_meta_option(struct nbd_env *env, struct nbd_h n,
                                const struct nbd_option_data *o) {
    static const struct query none = {NULL, 0};
    const struct nbd *s = nbd_view(env->a, n);
    int set = o->number == NBD_OPT_SET_META_CONTEXT;
    struct asked a;
    /* "replaces all previously-set metadata contexts (including when this command fails)" */
    if (set && s->meta_contexts)
        nbd_edit(env->a, n)->meta_contexts = 0;
    if (s->mode == NBD_MODE_SIMPLE || o->length < 8)
        return nbd_answer_error(env, n, o, ERR_INVAL);
    uint32_t name_bytes = get_be32(o->data);
    const uint8_t *name = o->data + 4;
    if (name_bytes > o->length - 8 || !nbd_name_is_valid(name, name_bytes))
        return nbd_answer_error(env, n, o, ERR_INVAL);
    int err = take_queries(o, 4 + name_bytes, &a);
    if (err < 0)
        return nbd_answer_error(env, n, o, err);
    if (s->mode != NBD_MODE_EXTENDED)
        a.contexts &= (uint8_t) ~(1 << NBD_CONTEXT_WRITTEN_AT);

    err = nbd_export_get(env, n, name, name_bytes);
    if (err == ERR_AGAIN)
        return nbd_stop(NBD_WAIT);
    if (err < 0)
        return nbd_answer_error(env, n, o, err);
    struct nbd_moment moment = {.sequence = 0};
    if (a.since.bytes > 0) {
        err = find_moment(env, n, &a.since, &moment);
        if (err == ERR_AGAIN)
            return nbd_stop(NBD_WAIT);
        if (err < 0 && set)
            return refuse_moment(env, n, o, err, &moment);
        if (err < 0)
            a.contexts &= (uint8_t) ~(1 << NBD_CONTEXT_CHANGED_SINCE);
    }
    struct nbd_out out = {.used = 0};
    for (int c = 0; c < NBD_CONTEXTS; c++)
        if (a.contexts & 1 << c)
            put_context(&out, o, (enum nbd_context)c,
                        c == NBD_CONTEXT_CHANGED_SINCE ? &a.since : &none);
    if (a.form)
        put_context(&out, o, NBD_CONTEXT_CHANGED_SINCE, &none);
    nbd_put_reply(&out, o->number, NBD_REP_ACK, 0);
    struct nbd_turn turn = nbd_answer(env, n, o, &out);
    if (turn.progress == NBD_DONE && set) {
        struct nbd *e = nbd_edit(env->a, n);
        e->meta_contexts = a.contexts;
        e->meta_name_hash = nbd_name_hash(name, name_bytes);
        e->since = moment.sequence;
    }
    return turn;
}

int nbd_moment_ready(struct nbd_env *env, struct nbd_h n) {
    const struct nbd *s = nbd_try(env->a, n);
    if (!s || !s->moment_asked)
        return 0;
    nbd_edit(env->a, n)->moment_asked = 0;
    return 1;
}
