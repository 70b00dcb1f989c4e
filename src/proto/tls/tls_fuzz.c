/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a client that has the keys may send, and what somebody may make of it on its way: nothing but what was
 * sealed is taken for data, opening changes nothing, and each refusal has its alert.
 *
 *   0   1  bits 0-1: cipher; 2: TLS 1.2; 3: the links are made anew before each record; 4: each take is undone once
 *   1      parts:
 *     0   1  0: a record of the bytes, the last of which is its type (so zeroes at the end are padding);
 *            1: the same, of which a byte is changed; 2: the bytes as they are; 3: our own KeyUpdate goes out
 *     1   2  how many bytes
 *     3      the bytes
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/must.h"
#include "base/units.h"
#include "plat/gnutls/gnutls.h"
#include "proto/tls/tls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM_BYTES (2 * TLS_RECORD_MAX)

struct world {
    void *memory;
    struct arena a;
    struct tls_env env;
    struct tls_h us, peer;
    struct tls_link links[2];
    uint8_t stream[STREAM_BYTES], out[TLS_BODY_MAX];
    int anew, undo;
};

static struct arena_plan plan_of(struct arena_table_plan tables[2]) {
    tables[0] = (struct arena_table_plan){&tls_spec, 4};
    tables[1] = (struct arena_table_plan){&tls_keys_spec, 4};
    return (struct arena_plan){
        .tables = tables, .table_count = 2, .undo_bytes = ARENA_HANDLER_UNDO_BYTES};
}

static void start(struct world *w, uint8_t how) {
    struct arena_table_plan tables[2];
    struct arena_plan plan = plan_of(tables);
    uint64_t bytes = arena_plan_bytes(&plan);
    static const enum tls_cipher ciphers[] = {TLS_AES_128_GCM, TLS_AES_256_GCM,
                                              TLS_CHACHA20_POLY1305, TLS_AES_128_GCM};
    struct tls_agreed agreed = {.version = how & 4 ? TLS_1_2 : TLS_1_3,
                                .cipher = ciphers[how & 3],
                                .record_max = TLS_DATA_MAX};
    memset(agreed.in.secret, 1, sizeof agreed.in.secret);
    memset(agreed.out.secret, 2, sizeof agreed.out.secret);
    memset(agreed.in.key, 3, tls_key_bytes(agreed.cipher));
    memset(agreed.out.key, 4, tls_key_bytes(agreed.cipher));
    struct tls_agreed other = agreed;
    other.in = agreed.out;
    other.out = agreed.in;
    w->memory = aligned_alloc(4096, bytes);
    must(w->memory != NULL);
    memset(w->memory, 0, bytes);
    must(arena_create(&w->a, w->memory, bytes, &plan) == 0);
    w->env = (struct tls_env){&w->a, gnutls_provider(NULL).ops};
    w->us = tls_new(&w->a, TLS_HANDSHAKE);
    w->peer = tls_new(&w->a, TLS_HANDSHAKE);
    must(tls_begin(&w->env, w->us, &agreed) == 0 && tls_begin(&w->env, w->peer, &other) == 0);
    arena_commit(&w->a);
    w->anew = how >> 3 & 1;
    w->undo = how >> 4 & 1;
}

/* The process dies in the middle of the turn, and the next one takes the slots over. */
static void again(struct world *w) {
    tls_unlink(&w->env, &w->links[0]);
    must(arena_roll_back(w->memory) == ARENA_QUALIFIES);
    w->a.turn++;
}

/* The peer's record; 0: it does not make it. */
static uint32_t seal(struct world *w, const uint8_t *p, uint32_t bytes) {
    if (bytes < 1 || bytes - 1 > TLS_DATA_MAX)
        return 0;
    struct io_vec v = {(void *)(uintptr_t)p, bytes - 1};
    int n = tls_seal(&w->env, w->peer, &w->links[1], (enum tls_content)p[bytes - 1], &v, 1,
                     bytes - 1, w->stream);
    arena_commit(&w->a);
    return n > 0 ? (uint32_t)n : 0;
}

/* 1: the connection goes on. `sealed`: the plaintext that the record is of, NULL: of none. */
static int open_one(struct world *w, const uint8_t *p, uint32_t bytes, const uint8_t *sealed,
                    uint32_t sealed_bytes) {
    if (w->anew)
        tls_unlink(&w->env, &w->links[0]);
    struct tls tls = *tls_view(&w->a, w->us);
    int record = tls_record_bytes(&w->env, w->us, p, bytes);
    struct tls_opened o = tls_open(&w->env, w->us, &w->links[0], p, bytes, w->out);
    must(memcmp(&tls, tls_view(&w->a, w->us), sizeof tls) == 0); /* it has changed nothing */
    must(record >= 0 || o.what == TLS_BAD);
    must(record <= 0 || o.what == TLS_MORE || o.what == TLS_BAD ||
         o.record_bytes == (uint32_t)record);
    must(o.what == TLS_MORE || o.what == TLS_BAD ||
         (o.record_bytes > 0 && o.record_bytes <= bytes));
    if (o.what == TLS_MORE)
        return 0;
    if (o.what == TLS_BAD) {
        must(o.alert != TLS_ALERT_CLOSE_NOTIFY);
        return 0;
    }
    must(sealed != NULL); /* nobody else has the keys */
    if (o.what == TLS_DATA)
        must(o.bytes < sealed_bytes && memcmp(w->out, sealed, o.bytes) == 0);
    if (w->undo) {
        tls_take(&w->env, w->us, &o);
        again(w);
        must(memcmp(&tls, tls_view(&w->a, w->us), sizeof tls) == 0);
    }
    must(tls_take(&w->env, w->us, &o) == 0);
    arena_commit(&w->a);
    return o.what != TLS_ENDS && o.what != TLS_UPDATE; /* the peer here has no next keys */
}

static int part(struct world *w, uint8_t kind, const uint8_t *p, uint32_t bytes) {
    uint32_t n = kind < 2 ? seal(w, p, bytes) : 0;
    if (kind == 3) {
        if (tls_wants_update(&w->env, w->us))
            tls_seal_update(&w->env, w->us, &w->links[0], w->stream);
        arena_commit(&w->a);
        return 1;
    }
    if (kind == 2)
        return open_one(w, p, bytes, NULL, 0);
    if (n == 0)
        return 1;
    if (kind == 0) {
        for (uint32_t less = 1; less < 4 && less < n;
             less++) { /* not whole yet, or refused before */
            enum tls_what what =
                tls_open(&w->env, w->us, &w->links[0], w->stream, n - less, w->out).what;
            must(what == TLS_MORE || what == TLS_BAD);
        }
        return open_one(w, w->stream, n, p, bytes);
    }
    w->stream[p[0] % n] ^= (uint8_t)(p[bytes - 1] | 1);
    return open_one(w, w->stream, n, NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct world *w = size > 0 ? calloc(1, sizeof *w) : NULL;
    if (!w)
        return 0;
    start(w, data[0]);
    for (size_t at = 1; at + 3 <= size;) {
        uint32_t length = (uint32_t)min_u64(get_le16(data + at + 1), size - at - 3);
        if (!part(w, data[at] % 4, data + at + 3, length))
            break;
        at += 3 + length;
    }
    tls_end(&w->env, w->us, &w->links[0]);
    tls_end(&w->env, w->peer, &w->links[1]);
    arena_commit(&w->a);
    arena_detach(&w->a);
    free(w->memory);
    free(w);
    return 0;
}
