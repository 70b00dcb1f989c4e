/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/tls/tls.h"

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/units.h"
#include "base/wipe.h"

LAYOUT_FIELDS(tls, TLS_FIELDS)
LAYOUT_FIELDS(tls_keys, TLS_KEYS_FIELDS)
const struct arena_table_spec tls_spec = TABLE_SPEC(tls, TABLE_TLS, 1);
const struct arena_table_spec tls_keys_spec = TABLE_SPEC(tls_keys, TABLE_TLS_KEYS, 1);

#define RECORD_VECS_MAX 66u
#define KEY_UPDATE 24u

/* --- keys --- */

/* HKDF-Expand-Label (RFC 8446, 7.1) without a context:
 *   0  2  length of the output     2  1  length of the label     3  "tls13 " and the label, then a zero */
static int expand_label(const struct tls_env *env, uint32_t cipher, const uint8_t *secret,
                        const char *label, uint8_t *out, size_t out_bytes) {
    uint8_t info[32];
    size_t n = strlen(label);
    must(10 + n <= sizeof info);
    put_be16(info, (uint16_t)out_bytes);
    info[2] = (uint8_t)(6 + n);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, n);
    info[9 + n] = 0;
    return env->ops->expand((enum tls_cipher)cipher, secret, info, 10 + n, out, out_bytes);
}

static int make_key(const struct tls_env *env, uint32_t cipher, const uint8_t *secret, uint8_t *key,
                    uint8_t *iv) {
    int err = expand_label(env, cipher, secret, "key", key, tls_key_bytes((enum tls_cipher)cipher));
    return err < 0 ? err : expand_label(env, cipher, secret, "iv", iv, TLS_NONCE_BYTES);
}

static int next_key(const struct tls_env *env, uint32_t cipher, uint8_t *secret, uint8_t *key,
                    uint8_t *iv) {
    uint8_t next[TLS_SECRET_BYTES_MAX];
    size_t bytes = tls_secret_bytes((enum tls_cipher)cipher);
    int err = expand_label(env, cipher, secret, "traffic upd", next, bytes);
    if (err == 0) {
        memcpy(secret, next, bytes);
        err = make_key(env, cipher, secret, key, iv);
    }
    wipe(next, sizeof next);
    return err;
}

int tls_begin(struct tls_env *env, struct tls_h h, const struct tls_agreed *agreed) {
    struct tls_keys_h k = tls_keys_new(env->a, 1);
    if (!k.v)
        return ERR_NOMEM;
    struct tls *t = tls_edit(env->a, h);
    struct tls_keys *w = tls_keys_edit(env->a, k);
    t->keys = k;
    t->in_sequence = agreed->in.sequence;
    t->out_sequence = agreed->out.sequence;
    t->record_max = agreed->record_max < TLS_DATA_MAX ? agreed->record_max : TLS_DATA_MAX;
    w->cipher = agreed->cipher;
    memcpy(w->in_secret, agreed->in.secret, sizeof w->in_secret);
    memcpy(w->out_secret, agreed->out.secret, sizeof w->out_secret);
    w->version = agreed->version;
    memcpy(w->in_key, agreed->in.key, sizeof w->in_key);
    memcpy(w->in_iv, agreed->in.iv, TLS_NONCE_BYTES);
    memcpy(w->out_key, agreed->out.key, sizeof w->out_key);
    memcpy(w->out_iv, agreed->out.iv, TLS_NONCE_BYTES);
    int err = 0;
    if (w->version == TLS_1_3)
        err = make_key(env, w->cipher, w->in_secret, w->in_key, w->in_iv);
    if (w->version == TLS_1_3 && err == 0)
        err = make_key(env, w->cipher, w->out_secret, w->out_key, w->out_iv);
    if (err == 0 && t->record_max == 0)
        err = ERR_PROTO;
    if (err == 0)
        t->slot.state = TLS_RECORDS;
    return err;
}

void tls_unlink(const struct tls_env *env, struct tls_link *link) {
    if (link->in)
        env->ops->aead_close(link->in);
    if (link->out)
        env->ops->aead_close(link->out);
    *link = (struct tls_link){0};
}

void tls_end(struct tls_env *env, struct tls_h h, struct tls_link *link) {
    struct tls_keys_h k = tls_view(env->a, h)->keys;
    tls_unlink(env, link);
    if (k.v) {
        struct tls_keys *w = tls_keys_edit(env->a, k);
        wipe((unsigned char *)w + sizeof w->slot, sizeof *w - sizeof w->slot);
        arena_wipe_undo(env->a);
        tls_keys_free(env->a, k);
    }
    tls_free(env->a, h);
}

/* The keys of a direction, ready to compute with. */
static struct tls_aead *ready(const struct tls_env *env, const struct tls_keys *k,
                              struct tls_aead **aead, uint32_t *has, uint32_t wants,
                              const uint8_t *key) {
    if (*aead && *has != wants) {
        env->ops->aead_close(*aead);
        *aead = NULL;
    }
    if (!*aead)
        *aead = env->ops->aead_open((enum tls_cipher)k->cipher, key);
    *has = wants;
    return *aead;
}

/* What surrounds a record's content: its nonce, and what is protected beside the content. 1.2: the number, type,
 * version and length of the content; 1.3: the header. AES-GCM of 1.2 carries the changing part of the nonce, for
 * which ours takes the number. */
struct around {
    uint8_t nonce[TLS_NONCE_BYTES];
    uint8_t also[13];
    uint32_t also_bytes, carried_bytes;
};

static int carries_nonce(const struct tls_keys *k) {
    return k->version == TLS_1_2 && k->cipher != TLS_CHACHA20_POLY1305;
}

static void surround(struct around *x, const struct tls_keys *k, const uint8_t *iv,
                     uint64_t sequence, const uint8_t *header, uint32_t content_bytes) {
    memcpy(x->nonce, iv, 4);
    put_be64(x->nonce + 4, get_be64(iv + 4) ^ sequence);
    x->carried_bytes = carries_nonce(k) ? 8 : 0;
    if (k->version == TLS_1_3) {
        memcpy(x->also, header, TLS_HEADER_BYTES);
        x->also_bytes = TLS_HEADER_BYTES;
        return;
    }
    put_be64(x->also, sequence);
    memcpy(x->also + 8, header, 3);
    put_be16(x->also + 11, (uint16_t)content_bytes);
    x->also_bytes = 13;
}

/* --- in --- */

int tls_record_bytes(const struct tls_env *env, struct tls_h h, const uint8_t *p, uint64_t bytes) {
    const struct tls_keys *k = tls_keys_view(env->a, tls_view(env->a, h)->keys);
    uint32_t least = k->version == TLS_1_3 ? 1 : carries_nonce(k) ? 8 : 0;
    if (bytes > 0 && p[0] != TLS_CONTENT_DATA &&
        (k->version == TLS_1_3 || (p[0] != TLS_CONTENT_ALERT && p[0] != TLS_CONTENT_HANDSHAKE)))
        return ERR_PROTO;
    if (bytes < TLS_HEADER_BYTES)
        return 0;
    uint32_t body = get_be16(p + 3);
    return body > TLS_BODY_MAX || body < least + TLS_TAG_BYTES ? ERR_PROTO
                                                               : (int)(TLS_HEADER_BYTES + body);
}

static struct tls_opened bad(enum tls_alert alert) {
    return (struct tls_opened){.what = TLS_BAD, .alert = alert};
}

static struct tls_opened got_alert(const struct tls_keys *k, const uint8_t *p, uint32_t bytes) {
    if (bytes != 2)
        return bad(TLS_ALERT_DECODE_ERROR);
    int is_warning = k->version == TLS_1_2 && p[0] == 1 && p[1] != TLS_ALERT_CLOSE_NOTIFY;
    return (struct tls_opened){.what = is_warning || p[1] == TLS_ALERT_USER_CANCELED ? TLS_NOTHING
                                                                                     : TLS_ENDS};
}

/* KeyUpdate: 0  1  type 24     1  3  length 1     4  1  whether ours are to change too */
static struct tls_opened got_handshake(const uint8_t *p, uint32_t bytes) {
    if (bytes == 0 || p[0] != KEY_UPDATE)
        return bad(TLS_ALERT_UNEXPECTED_MESSAGE);
    if (bytes != 5 || p[1] || p[2] || p[3] != 1)
        return bad(TLS_ALERT_DECODE_ERROR);
    if (p[4] > 1)
        return bad(TLS_ALERT_ILLEGAL_PARAMETER);
    return (struct tls_opened){.what = TLS_UPDATE, .update_requested = p[4]};
}

static struct tls_opened sort_content(const struct tls *t, const struct tls_keys *k, uint8_t type,
                                      const uint8_t *out, uint32_t bytes) {
    struct tls_opened o;
    if (bytes > TLS_DATA_MAX)
        return bad(TLS_ALERT_RECORD_OVERFLOW);
    if (type == TLS_CONTENT_DATA)
        o = (struct tls_opened){.what = TLS_DATA, .bytes = bytes};
    else if (type == TLS_CONTENT_ALERT)
        o = got_alert(k, out, bytes);
    else if (type == TLS_CONTENT_HANDSHAKE && k->version == TLS_1_3)
        o = got_handshake(out, bytes);
    else /* nobody renegotiates with us */
        return bad(TLS_ALERT_UNEXPECTED_MESSAGE);
    if (o.what != TLS_BAD && o.bytes == 0 && t->in_idle >= TLS_IDLE_MAX)
        return bad(TLS_ALERT_UNEXPECTED_MESSAGE);
    return o;
}

struct tls_opened tls_open(const struct tls_env *env, struct tls_h h, struct tls_link *link,
                           const uint8_t *p, uint64_t bytes, uint8_t *out) {
    const struct tls *t = tls_view(env->a, h);
    const struct tls_keys *k = tls_keys_view(env->a, t->keys);
    int size = tls_record_bytes(env, h, p, bytes);
    if (size < 0)
        return bad(p[0] < TLS_CONTENT_ALERT || p[0] > TLS_CONTENT_DATA || bytes < TLS_HEADER_BYTES
                       ? TLS_ALERT_UNEXPECTED_MESSAGE
                       : TLS_ALERT_RECORD_OVERFLOW);
    if (size == 0 || bytes < (uint64_t)size)
        return (struct tls_opened){.what = TLS_MORE};
    struct tls_aead *aead = ready(env, k, &link->in, &link->in_updates, t->in_updates, k->in_key);
    if (!aead || t->in_sequence == UINT64_MAX)
        return bad(TLS_ALERT_INTERNAL_ERROR);
    struct around x;
    uint32_t carried = carries_nonce(k) ? 8 : 0;
    const uint8_t *body = p + TLS_HEADER_BYTES + carried;
    uint32_t inner = (uint32_t)size - TLS_HEADER_BYTES - carried - TLS_TAG_BYTES;
    surround(&x, k, k->in_iv, t->in_sequence, p, inner);
    if (carried)
        memcpy(x.nonce + 4, p + TLS_HEADER_BYTES, 8);
    if (env->ops->open(aead, x.nonce, x.also, x.also_bytes, body, inner + TLS_TAG_BYTES, out) < 0)
        return bad(TLS_ALERT_BAD_RECORD_MAC);
    uint8_t type = p[0];
    if (k->version == TLS_1_3) {
        while (inner > 0 && out[inner - 1] == 0) /* padding */
            inner--;
        if (inner == 0)
            return bad(TLS_ALERT_UNEXPECTED_MESSAGE);
        type = out[--inner];
    }
    struct tls_opened o = sort_content(t, k, type, out, inner);
    o.record_bytes = (uint32_t)size;
    return o;
}

int tls_take(struct tls_env *env, struct tls_h h, const struct tls_opened *o) {
    struct tls *t = tls_edit(env->a, h);
    must(o->what == TLS_DATA || o->what == TLS_UPDATE || o->what == TLS_ENDS ||
         o->what == TLS_NOTHING);
    t->in_opened += o->record_bytes;
    t->in_sequence++;
    t->in_taken = 0;
    t->in_idle = o->bytes > 0 ? 0 : t->in_idle + 1;
    if (o->what == TLS_ENDS)
        t->flags |= TLS_IN_ENDED;
    if (o->what != TLS_UPDATE)
        return 0;
    struct tls_keys *k = tls_keys_edit(env->a, t->keys);
    arena_wipe_undo(env->a);
    t->in_sequence = 0;
    t->in_updates++;
    if (o->update_requested)
        t->flags |= TLS_OWES_UPDATE;
    return next_key(env, k->cipher, k->in_secret, k->in_key, k->in_iv);
}

/* --- out --- */

int tls_seal(struct tls_env *env, struct tls_h h, struct tls_link *link, enum tls_content type,
             const struct io_vec *vecs, uint32_t vec_count, uint32_t bytes, uint8_t *to) {
    struct io_vec all[RECORD_VECS_MAX];
    struct tls *t = tls_edit(env->a, h);
    const struct tls_keys *k = tls_keys_view(env->a, t->keys);
    uint8_t last = (uint8_t)type;
    uint32_t n = 0, left = bytes, carried = carries_nonce(k) ? 8 : 0;
    uint32_t inner = bytes + (k->version == TLS_1_3 ? 1 : 0);
    uint32_t body = carried + inner + TLS_TAG_BYTES;
    must(bytes <= TLS_DATA_MAX && vec_count < RECORD_VECS_MAX);
    if (t->out_sequence == UINT64_MAX)
        return ERR_LIMIT;
    for (uint32_t i = 0; i < vec_count && left > 0; i++) {
        all[n] = vecs[i];
        all[n].bytes = min_u64(all[n].bytes, left);
        left -= (uint32_t)all[n++].bytes;
    }
    must(left == 0);
    if (k->version == TLS_1_3)
        all[n++] = (struct io_vec){&last, 1};
    to[0] = k->version == TLS_1_3 ? TLS_CONTENT_DATA : last;
    put_be16(to + 1, 0x0303);
    put_be16(to + 3, (uint16_t)body);
    struct tls_aead *aead =
        ready(env, k, &link->out, &link->out_updates, t->out_updates, k->out_key);
    if (!aead)
        return ERR_NOMEM;
    struct around x;
    surround(&x, k, k->out_iv, t->out_sequence, to, bytes);
    memcpy(to + TLS_HEADER_BYTES, x.nonce + 4, carried);
    int err = env->ops->seal(aead, x.nonce, x.also, x.also_bytes, all, n,
                             to + TLS_HEADER_BYTES + carried, inner + TLS_TAG_BYTES);
    if (err < 0)
        return err;
    t->out_sequence++;
    t->out_sealed += TLS_HEADER_BYTES + body;
    return (int)(TLS_HEADER_BYTES + body);
}

int tls_seal_alert(struct tls_env *env, struct tls_h h, struct tls_link *link, enum tls_alert alert,
                   uint8_t *to) {
    uint8_t content[2] = {alert == TLS_ALERT_CLOSE_NOTIFY ? 1 : 2, (uint8_t)alert};
    struct io_vec v = {content, sizeof content};
    int n = tls_seal(env, h, link, TLS_CONTENT_ALERT, &v, 1, sizeof content, to);
    if (n > 0)
        tls_edit(env->a, h)->flags |= TLS_OUT_ENDED;
    return n;
}

int tls_wants_update(const struct tls_env *env, struct tls_h h) {
    const struct tls *t = tls_view(env->a, h);
    return t->keys.v && (t->flags & TLS_OWES_UPDATE || t->out_sequence >= TLS_RECORDS_PER_KEY) &&
           tls_keys_view(env->a, t->keys)->version == TLS_1_3;
}

int tls_seal_update(struct tls_env *env, struct tls_h h, struct tls_link *link, uint8_t *to) {
    uint8_t content[5] = {KEY_UPDATE, 0, 0, 1, 0};
    struct io_vec v = {content, sizeof content};
    int n = tls_seal(env, h, link, TLS_CONTENT_HANDSHAKE, &v, 1, sizeof content, to);
    if (n < 0)
        return n;
    struct tls *t = tls_edit(env->a, h);
    struct tls_keys *k = tls_keys_edit(env->a, t->keys);
    arena_wipe_undo(env->a);
    t->flags &= ~(uint32_t)TLS_OWES_UPDATE;
    t->out_sequence = 0;
    t->out_updates++;
    int err = next_key(env, k->cipher, k->out_secret, k->out_key, k->out_iv);
    return err < 0 ? err : n;
}

/* --- attach --- */

int tls_check_slot(const struct arena *a, struct tls_h h) {
    const struct tls *t = tls_view(a, h);
    const struct tls_keys *k = t->keys.v ? tls_keys_try(a, t->keys) : NULL;
    if (t->slot.state < TLS_STARTING || t->slot.state > TLS_RECORDS ||
        (t->slot.state == TLS_RECORDS) != (t->keys.v != 0) || (t->keys.v && !k))
        return ERR_INTEGRITY;
    if (k && (k->cipher == 0 || k->cipher >= TLS_CIPHERS || k->version > TLS_1_2 ||
              t->record_max == 0 || t->record_max > TLS_DATA_MAX || t->in_taken > TLS_DATA_MAX))
        return ERR_INTEGRITY;
    uint64_t in_end = t->in_origin + (uint64_t)t->in_buffer.pages * BLOCK_BYTES;
    uint64_t out_end = t->out_origin + (uint64_t)t->out_buffer.pages * BLOCK_BYTES;
    if (t->in_opened > t->in_received || t->out_sent > t->out_sealed ||
        (t->in_opened < t->in_received &&
         (t->in_origin > t->in_opened || t->in_received > in_end)) ||
        (t->out_sent < t->out_sealed && (t->out_origin > t->out_sent || t->out_sealed > out_end)))
        return ERR_INTEGRITY;
    return 0;
}
