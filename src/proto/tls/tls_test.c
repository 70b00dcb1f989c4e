/* SPDX-License-Identifier: Apache-2.0 */
/* Records: those of RFC 8448, what a hostile peer may send, keys that change, and turns that are undone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena/shadow.h"
#include "base/bytes.h"
#include "base/err.h"
#include "plat/gnutls/gnutls.h"
#include "proto/tls/tls.h"

/* An arena with one connection in it; `peer` has the same keys the other way round. */
struct world {
    void *allocation;
    struct arena a;
    struct tls_env env;
    struct tls_h us, peer;
    struct tls_link links[2];
};

static struct arena_plan plan_of(struct arena_table_plan tables[2]) {
    tables[0] = (struct arena_table_plan){&tls_spec, 4};
    tables[1] = (struct arena_table_plan){&tls_keys_spec, 4};
    return (struct arena_plan){
        .tables = tables, .table_count = 2, .undo_bytes = ARENA_HANDLER_UNDO_BYTES};
}

static void start(struct world *w, const struct tls_agreed *agreed) {
    struct arena_table_plan tables[2];
    struct arena_plan plan = plan_of(tables);
    struct tls_agreed other = *agreed;
    uint64_t bytes = arena_plan_bytes(&plan);
    memset(w, 0, sizeof *w);
    w->allocation = aligned_alloc(4096, bytes);
    assert_non_null(w->allocation);
    memset(w->allocation, 0, bytes);
    assert_int_equal(arena_create(&w->a, w->allocation, bytes, &plan), 0);
    assert_int_equal(arena_shadow_start(&w->a), 0);
    w->env = (struct tls_env){&w->a, gnutls_provider(NULL).ops};
    other.in = agreed->out;
    other.out = agreed->in;
    w->us = tls_new(&w->a, TLS_HANDSHAKE);
    w->peer = tls_new(&w->a, TLS_HANDSHAKE);
    assert_int_equal(tls_begin(&w->env, w->us, agreed), 0);
    assert_int_equal(tls_begin(&w->env, w->peer, &other), 0);
    arena_commit(&w->a);
}

static void finish(struct world *w) {
    const unsigned char *keys =
        (const unsigned char *)tls_keys_view(&w->a, tls_view(&w->a, w->us)->keys);
    tls_end(&w->env, w->us, &w->links[0]);
    tls_end(&w->env, w->peer, &w->links[1]);
    arena_commit(&w->a);
    for (size_t i = sizeof(struct slot); i < sizeof(struct tls_keys); i++)
        assert_int_equal(keys[i], 0);
    for (uint64_t i = 0; i < 4 * sizeof(struct tls_keys); i++) /* saved, and wiped */
        assert_int_equal(w->a.undo[i], 0);
    arena_detach(&w->a);
    free(w->allocation);
}

static uint32_t from_hex(const char *text, uint8_t *out) {
    uint32_t n = 0;
    for (; *text; text++) {
        const char digit[2] = {*text, 0};
        if (*text == ' ')
            continue;
        uint8_t v = (uint8_t)strtoul(digit, NULL, 16);
        out[n / 2] = (uint8_t)(n % 2 ? out[n / 2] | v : v << 4);
        n++;
    }
    return n / 2;
}

static struct tls_agreed some_keys(enum tls_version version, enum tls_cipher cipher) {
    struct tls_agreed a = {.version = version, .cipher = cipher, .record_max = TLS_DATA_MAX};
    for (uint32_t i = 0; i < TLS_SECRET_BYTES_MAX; i++) {
        a.in.secret[i] = (uint8_t)(i + 1);
        a.out.secret[i] = (uint8_t)(i * 3 + 7);
    }
    for (uint32_t i = 0; i < tls_key_bytes(cipher); i++) {
        a.in.key[i] = (uint8_t)(i + 5);
        a.out.key[i] = (uint8_t)(i ^ 0x5a);
    }
    for (uint32_t i = 0; i < (cipher == TLS_CHACHA20_POLY1305 ? TLS_NONCE_BYTES : 4); i++)
        a.in.iv[i] = a.out.iv[i] = (uint8_t)(0x80 + i);
    return a;
}

/* RFC 8448, 3: "Simple 1-RTT Handshake": secrets, keys, and records of both sides. */
static void rfc_8448(void **state) {
    static const char client_secret[] =
        "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    static const char server_secret[] =
        "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    static const struct {
        int from_client;
        uint64_t sequence;
        enum tls_what what;
        const char *record;
    } records[] = {
        {1, 0, TLS_DATA,
         "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a2"
         "0441e"
         "2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"},
        {0, 1, TLS_DATA,
         "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb5"
         "01a59"
         "a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d"},
        {1, 1, TLS_ENDS, "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3"},
        {0, 2, TLS_ENDS, "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9"},
    };
    struct tls_agreed agreed = {.cipher = TLS_AES_128_GCM, .record_max = TLS_DATA_MAX};
    uint8_t bytes[128], out[TLS_BODY_MAX], data[50], key[16];
    struct world w;
    from_hex(client_secret, agreed.in.secret);
    from_hex(server_secret, agreed.out.secret);
    agreed.out.sequence = 1; /* after a ticket */
    start(&w, &agreed);
    const struct tls_keys *k = tls_keys_view(&w.a, tls_view(&w.a, w.us)->keys);
    from_hex("17422dda596ed5d9acd890e3c63f5051", key);
    assert_memory_equal(k->in_key, key, 16);
    from_hex("5b78923dee08579033e523d9", key);
    assert_memory_equal(k->in_iv, key, 12);
    from_hex("9f02283b6c9c07efc26bb9f2ac92e356", key);
    assert_memory_equal(k->out_key, key, 16);
    from_hex("cf782b88dd83549aadf1e984", key);
    assert_memory_equal(k->out_iv, key, 12);
    for (uint32_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        uint32_t n = from_hex(records[i].record, bytes);
        int ours = !records[i].from_client;
        struct tls_h reader = ours ? w.peer : w.us;
        struct tls_opened o = tls_open(&w.env, reader, &w.links[ours], bytes, n, out);
        assert_int_equal(o.what, records[i].what);
        assert_int_equal(o.record_bytes, n);
        if (o.what == TLS_DATA)
            assert_memory_equal(out, data, sizeof data);
        tls_take(&w.env, reader, &o);
        if (!ours)
            continue;
        struct io_vec v[3] = {{data, 1}, {data + 1, 20}, {data + 21, 29}};
        int made = o.what == TLS_DATA
                       ? tls_seal(&w.env, w.us, &w.links[0], TLS_CONTENT_DATA, v, 3, 50, out)
                       : tls_seal_alert(&w.env, w.us, &w.links[0], TLS_ALERT_CLOSE_NOTIFY, out);
        assert_int_equal(made, n);
        assert_memory_equal(out, bytes, n);
    }
    finish(&w);
}

/* Every size and cut, both versions, all ciphers; and the same record again after the turn was undone. */
static void there_and_back(void **state) {
    static const uint32_t sizes[] = {1, 2, 15, 16, 17, 1000, 16383, 16384};
    static uint8_t data[TLS_DATA_MAX], record[TLS_RECORD_MAX], again[TLS_RECORD_MAX],
        out[TLS_BODY_MAX];
    for (uint32_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    for (int kind = 0; kind < 6; kind++) {
        struct world w;
        struct tls_agreed agreed =
            some_keys(kind < 3 ? TLS_1_3 : TLS_1_2, (enum tls_cipher)(1 + kind % 3));
        start(&w, &agreed);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            uint32_t cut = sizes[i] / 3;
            struct io_vec two[2] = {{data, cut}, {data + cut, sizeof data - cut}};
            struct io_vec *v = cut ? two : two + 1;
            int n = tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_DATA, v, cut ? 2 : 1,
                             sizes[i], record);
            assert_true(n > 0 && (uint32_t)n <= sizes[i] + TLS_OVERHEAD_BYTES);
            uint64_t number = tls_view(&w.a, w.peer)->out_sequence;
            assert_int_equal(arena_roll_back(w.allocation), ARENA_QUALIFIES);
            w.a.turn++;
            assert_int_equal(tls_view(&w.a, w.peer)->out_sequence, number - 1);
            assert_int_equal(tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_DATA, v, cut ? 2 : 1,
                                      sizes[i], again),
                             n);
            assert_memory_equal(record, again, (size_t)n);
            for (int bytes = 0; bytes < n; bytes += bytes < 8 ? 1 : n / 5 + 1) {
                struct tls_opened o =
                    tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)bytes, out);
                assert_int_equal(o.what, TLS_MORE);
            }
            struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
            assert_int_equal(o.what, TLS_DATA);
            assert_int_equal(o.bytes, sizes[i]);
            assert_memory_equal(out, data, sizes[i]);
            assert_int_equal(tls_take(&w.env, w.us, &o), 0);
            arena_commit(&w.a);
            /* The same record twice is none. */
            o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
            assert_int_equal(o.what, TLS_BAD);
            assert_int_equal(o.alert, TLS_ALERT_BAD_RECORD_MAC);
        }
        finish(&w);
    }
}

/* One flipped bit anywhere is found, and nothing counts. */
static void flipped(void **state) {
    uint8_t data[40] = {1}, record[128], out[TLS_BODY_MAX];
    for (int kind = 0; kind < 6; kind++) {
        struct world w;
        struct tls_agreed agreed =
            some_keys(kind < 3 ? TLS_1_3 : TLS_1_2, (enum tls_cipher)(1 + kind % 3));
        start(&w, &agreed);
        struct io_vec v = {data, sizeof data};
        int n = tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_DATA, &v, 1, sizeof data, record);
        arena_commit(&w.a);
        for (int bit = 0; bit < 8 * n; bit++) {
            record[bit / 8] ^= (uint8_t)(1 << bit % 8);
            struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
            assert_true(o.what == TLS_BAD || o.what == TLS_MORE);
            record[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(arena_turn_is_clean(&w.a));
        finish(&w);
    }
}

/* What a peer that has the keys may say, and may not. */
static void contents(void **state) {
    static const struct {
        enum tls_version version;
        uint8_t type;
        uint32_t bytes;
        uint8_t content[8];
        enum tls_what what;
        enum tls_alert alert;
    } cases[] = {
        {TLS_1_3, 23, 1, {1}, TLS_DATA, 0},
        {TLS_1_3, 23, 0, {0}, TLS_DATA, 0},
        {TLS_1_3, 21, 2, {1, 0}, TLS_ENDS, 0},
        {TLS_1_3, 21, 2, {2, 80}, TLS_ENDS, 0},
        {TLS_1_3, 21, 2, {1, 90}, TLS_NOTHING, 0},
        {TLS_1_3, 21, 1, {1}, TLS_BAD, TLS_ALERT_DECODE_ERROR},
        {TLS_1_3, 21, 3, {1, 0, 0}, TLS_BAD, TLS_ALERT_DECODE_ERROR},
        {TLS_1_3, 22, 5, {24, 0, 0, 1, 0}, TLS_UPDATE, 0},
        {TLS_1_3, 22, 5, {24, 0, 0, 1, 2}, TLS_BAD, TLS_ALERT_ILLEGAL_PARAMETER},
        {TLS_1_3, 22, 4, {24, 0, 0, 1}, TLS_BAD, TLS_ALERT_DECODE_ERROR},
        {TLS_1_3, 22, 6, {24, 0, 0, 1, 0, 0}, TLS_BAD, TLS_ALERT_DECODE_ERROR},
        {TLS_1_3, 22, 4, {1, 0, 0, 0}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
        {TLS_1_3, 22, 0, {0}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
        {TLS_1_3, 20, 1, {1}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
        {TLS_1_3, 0, 4, {0}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
        {TLS_1_2, 23, 1, {1}, TLS_DATA, 0},
        {TLS_1_2, 21, 2, {1, 0}, TLS_ENDS, 0},
        {TLS_1_2, 21, 2, {1, 100}, TLS_NOTHING, 0},
        {TLS_1_2, 21, 2, {2, 20}, TLS_ENDS, 0},
        {TLS_1_2, 22, 4, {1, 0, 0, 0}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
        {TLS_1_2, 20, 1, {1}, TLS_BAD, TLS_ALERT_UNEXPECTED_MESSAGE},
    };
    uint8_t record[128], out[TLS_BODY_MAX], content[8];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        struct tls_agreed agreed = some_keys(cases[i].version, TLS_AES_128_GCM);
        start(&w, &agreed);
        memcpy(content, cases[i].content, sizeof content);
        struct io_vec v = {content, cases[i].bytes};
        int n = tls_seal(&w.env, w.peer, &w.links[1], (enum tls_content)cases[i].type, &v, 1,
                         cases[i].bytes, record);
        struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
        assert_int_equal(o.what, cases[i].what);
        assert_int_equal(o.alert, cases[i].alert);
        finish(&w);
    }
}

/* Headers that no record has. */
static void headers(void **state) {
    static const struct {
        enum tls_version version;
        uint8_t type;
        uint16_t body;
        int result; /* 0: the header is right */
    } cases[] = {
        {TLS_1_3, 23, 17, 0},
        {TLS_1_3, 23, 16, ERR_PROTO},
        {TLS_1_3, 23, 0, ERR_PROTO},
        {TLS_1_3, 23, 16640, 0},
        {TLS_1_3, 23, 16641, ERR_PROTO},
        {TLS_1_3, 23, 65535, ERR_PROTO},
        {TLS_1_3, 22, 20, ERR_PROTO},
        {TLS_1_3, 21, 20, ERR_PROTO},
        {TLS_1_3, 20, 1, ERR_PROTO},
        {TLS_1_2, 23, 24, 0},
        {TLS_1_2, 23, 23, ERR_PROTO},
        {TLS_1_2, 22, 24, 0},
        {TLS_1_2, 21, 26, 0},
        {TLS_1_2, 20, 24, ERR_PROTO},
        {TLS_1_2, 'I', 24, ERR_PROTO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world w;
        struct tls_agreed agreed = some_keys(cases[i].version, TLS_AES_256_GCM);
        uint8_t header[5] = {cases[i].type, 3, 3};
        start(&w, &agreed);
        put_be16(header + 3, cases[i].body);
        assert_int_equal(tls_record_bytes(&w.env, w.us, header, 5),
                         cases[i].result ? cases[i].result : 5 + cases[i].body);
        assert_int_equal(tls_record_bytes(&w.env, w.us, header, 0), 0);
        finish(&w);
    }
}

/* New keys, asked for and not, from both sides, and when a key has served long enough. */
static void key_updates(void **state) {
    uint8_t record[128], out[TLS_BODY_MAX], text[4] = "abc", asks[5] = {24, 0, 0, 1, 1};
    struct io_vec v = {text, 4}, ask = {asks, 5};
    for (int cipher = 1; cipher < TLS_CIPHERS; cipher++) {
        struct world w;
        struct tls_agreed agreed = some_keys(TLS_1_3, (enum tls_cipher)cipher);
        start(&w, &agreed);
        for (int round = 0; round < 40; round++) {
            struct tls_h from = round % 2 ? w.us : w.peer, to = round % 2 ? w.peer : w.us;
            struct tls_link *l = &w.links[round % 2 == 0], *m = &w.links[round % 2];
            int n = tls_seal_update(&w.env, from, l, record);
            assert_int_equal(n, TLS_HEADER_BYTES + 5 + 1 + TLS_TAG_BYTES);
            struct tls_opened o = tls_open(&w.env, to, m, record, (uint64_t)n, out);
            assert_int_equal(o.what, TLS_UPDATE);
            assert_int_equal(tls_take(&w.env, to, &o), 0);
            arena_commit(&w.a);
            assert_int_equal(tls_view(&w.a, to)->in_sequence, 0);
            n = tls_seal(&w.env, from, l, TLS_CONTENT_DATA, &v, 1, 4, record);
            o = tls_open(&w.env, to, m, record, (uint64_t)n, out);
            assert_int_equal(o.what, TLS_DATA);
            assert_memory_equal(out, text, 4);
            assert_int_equal(tls_take(&w.env, to, &o), 0);
        }
        /* The peer asks for ours. */
        int n = tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_HANDSHAKE, &ask, 1, 5, record);
        struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
        assert_int_equal(o.what, TLS_UPDATE);
        assert_false(tls_wants_update(&w.env, w.us));
        tls_take(&w.env, w.us, &o);
        assert_true(tls_wants_update(&w.env, w.us));
        tls_seal_update(&w.env, w.us, &w.links[0], record);
        assert_false(tls_wants_update(&w.env, w.us));
        tls_edit(&w.a, w.us)->out_sequence = TLS_RECORDS_PER_KEY - 1;
        assert_false(tls_wants_update(&w.env, w.us));
        tls_edit(&w.a, w.us)->out_sequence++;
        assert_true(tls_wants_update(&w.env, w.us));
        tls_edit(&w.a, w.us)->out_sequence = UINT64_MAX;
        assert_int_equal(tls_seal(&w.env, w.us, &w.links[0], TLS_CONTENT_DATA, &v, 1, 4, record),
                         ERR_LIMIT);
        finish(&w);
    }
}

/* Records without data: so many, and no more. */
static void idle(void **state) {
    uint8_t record[128], out[TLS_BODY_MAX], text[1] = "";
    struct io_vec v = {text, 1};
    struct world w;
    struct tls_agreed agreed = some_keys(TLS_1_3, TLS_CHACHA20_POLY1305);
    start(&w, &agreed);
    for (uint32_t i = 0; i <= 2 * TLS_IDLE_MAX; i++) {
        uint32_t bytes = i == TLS_IDLE_MAX;
        int n = tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_DATA, &v, 1, bytes, record);
        struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
        assert_int_equal(o.what, TLS_DATA);
        tls_take(&w.env, w.us, &o);
    }
    int n = tls_seal(&w.env, w.peer, &w.links[1], TLS_CONTENT_DATA, &v, 1, 0, record);
    struct tls_opened o = tls_open(&w.env, w.us, &w.links[0], record, (uint64_t)n, out);
    assert_int_equal(o.what, TLS_BAD);
    assert_int_equal(o.alert, TLS_ALERT_UNEXPECTED_MESSAGE);
    finish(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_8448), cmocka_unit_test(there_and_back), cmocka_unit_test(flipped),
        cmocka_unit_test(contents), cmocka_unit_test(headers),        cmocka_unit_test(key_updates),
        cmocka_unit_test(idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
