/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake: every option, every error, every limit. */
#include <stdio.h>

#include "proto/nbd/nbd_expect_test.h"

#define POOL (1 * MIB)

#define RW_FLAGS                                                                                   \
    (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |           \
     NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE |                  \
     NBD_FLAG_SEND_FAST_ZERO)
#define RO_FLAGS                                                                                   \
    (NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |           \
     NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_SEND_CACHE)

static struct world *greeted(uint32_t flags) {
    struct world *w = malloc(sizeof *w);
    world_start(w, POOL);
    e_greeting(w);
    c_flags(&w->say, flags);
    return w;
}

static void client_flags(void **state) {
    static const struct {
        uint32_t flags;
        int closes;
    } cases[] = {{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 1}, {7, 1}, {0x80000000, 1}, {0xffffffff, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = greeted(cases[i].flags);
        if (cases[i].closes)
            e_closed(w, ERR_PROTO);
        else
            e_open(w);
        finish(w);
    }
}

/* EXPORT_NAME: the data as text, whether it is served, with how many zeroes. */
static void export_name(void **state) {
    static const struct {
        const char *name;
        uint32_t flags;
        int reason;
        uint32_t zeroes;
    } cases[] = {
        {"disk", 0, OK, 124}, {"disk", 1, OK, 124},           {"disk", 2, OK, 0},
        {"", 3, OK, 0},       {"nobody", 3, ERR_NOTFOUND, 0}, {"secret", 3, ERR_PERM, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = greeted(cases[i].flags);
        c_option(&w->say, NBD_OPT_EXPORT_NAME, cases[i].name, (uint32_t)strlen(cases[i].name));
        if (cases[i].reason != OK) {
            e_closed(w, cases[i].reason);
        } else {
            const uint8_t *p = e_bytes(w, 10);
            assert_int_equal(get_be64(p), DISK_BYTES);
            assert_int_equal(get_be16(p + 8), RW_FLAGS);
            e_fill(w, 0, cases[i].zeroes);
            e_open(w);
            assert_int_equal(nbd_view(&w->a, w->n)->slot.state, NBD_PHASE_TRANSMISSION);
        }
        finish(w);
    }
    struct world *w = haggling(POOL); /* a NUL in the name */
    c_option(&w->say, NBD_OPT_EXPORT_NAME, "di\0sk", 5);
    e_closed(w, ERR_PROTO);
    finish(w);
    w = haggling(POOL); /* not after extended headers */
    c_option(&w->say, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
    e_ack(w, NBD_OPT_EXTENDED_HEADERS);
    c_option(&w->say, NBD_OPT_EXPORT_NAME, "disk", 4);
    e_closed(w, ERR_PROTO);
    finish(w);
}

static void only_export_name_without_fixed_newstyle(void **state) {
    struct world *w = greeted(NBD_FLAG_C_NO_ZEROES);
    c_option(&w->say, NBD_OPT_LIST, NULL, 0);
    e_closed(w, ERR_PROTO);
    finish(w);
}

static void abort_is_acknowledged(void **state) {
    for (uint32_t len = 0; len < 3; len++) {
        struct world *w = haggling(POOL);
        c_option(&w->say, NBD_OPT_ABORT, "xyz", len);
        e_ack(w, NBD_OPT_ABORT);
        e_closed(w, OK);
        world_feed(w, (const uint8_t *)"more", 4);
        e_closed(w, OK);
        finish(w);
    }
    struct world *w = haggling(POOL); /* whatever its length says */
    put_be(&w->say, NBD_OPTION_MAGIC, 8);
    put_be(&w->say, NBD_OPT_ABORT, 4);
    put_be(&w->say, 0xffffffff, 4);
    e_ack(w, NBD_OPT_ABORT);
    e_closed(w, OK);
    finish(w);
}

static void e_server(struct world *w, unsigned number) {
    char name[16];
    uint32_t len;
    snprintf(name, sizeof name, "export-%04u", number);
    const uint8_t *p = e_rep(w, NBD_OPT_LIST, NBD_REP_SERVER, &len);
    assert_int_equal(len, 4 + 11 + 200);
    assert_int_equal(get_be32(p), 11);
    assert_memory_equal(p + 4, name, 11);
    for (int i = 0; i < 200; i++)
        assert_int_equal(p[15 + i], 'd');
}

static void list(void **state) {
    static const uint32_t counts[] = {0, 1, 3, 15, 16, 17, 4000};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct world *w = haggling(POOL);
        w->listed = counts[i];
        for (int twice = 0; twice < 2; twice++) {
            c_option(&w->say, NBD_OPT_LIST, NULL, 0);
            for (unsigned n = 1; n <= counts[i]; n++)
                e_server(w, n);
            e_ack(w, NBD_OPT_LIST);
        }
        c_option(&w->say, NBD_OPT_LIST, "x", 1);
        e_refused(w, NBD_OPT_LIST, NBD_REP_ERR_INVALID);
        finish(w);
    }
}

/* A client that does not read makes us keep no more than some messages. */
static void list_waits_for_the_client(void **state) {
    struct world *w = haggling(POOL);
    w->listed = 4000;
    w->hold_send = 1;
    c_option(&w->say, NBD_OPT_LIST, NULL, 0);
    e_nothing(w);
    assert_int_equal(w->what, NBD_BLOCKED);
    assert_int_equal(nbd_view(&w->a, w->n)->messages, NBD_MESSAGES_MAX);
    assert_int_equal(request_used(&w->a), NBD_MESSAGES_MAX);
    world_reload(w);
    w->hold_send = 0;
    for (unsigned n = 1; n <= 4000; n++)
        e_server(w, n);
    e_ack(w, NBD_OPT_LIST);
    e_open(w);
    assert_int_equal(nbd_view(&w->a, w->n)->messages, 0);
    finish(w);
}

static void info_and_go(void **state) {
    static const int everything[] = {NBD_INFO_DESCRIPTION, NBD_INFO_NAME, 77, NBD_INFO_BLOCK_SIZE,
                                     NBD_INFO_EXPORT,      NBD_INFO_NAME, -1};
    static const struct {
        const char *name;
        enum nbd_mode mode;
        uint64_t size;
        uint16_t flags;
        uint32_t min, preferred;
    } cases[] = {
        {"", NBD_MODE_SIMPLE, DISK_BYTES, RW_FLAGS, 512, 4096},
        {"disk", NBD_MODE_SIMPLE, DISK_BYTES, RW_FLAGS, 512, 4096},
        {"disk", NBD_MODE_STRUCTURED, DISK_BYTES, RW_FLAGS | NBD_FLAG_SEND_DF, 512, 4096},
        {"disk", NBD_MODE_EXTENDED, DISK_BYTES,
         RW_FLAGS | NBD_FLAG_SEND_DF | NBD_FLAG_BLOCK_STAT_PAYLOAD, 512, 4096},
        {"ro", NBD_MODE_SIMPLE, DISK_BYTES, RO_FLAGS, 512, 4096},
        {"ro", NBD_MODE_STRUCTURED, DISK_BYTES, RO_FLAGS | NBD_FLAG_SEND_DF, 512, 4096},
        {"coarse", NBD_MODE_SIMPLE, DISK_BYTES, RW_FLAGS, 4096, 65536},
        {"huge", NBD_MODE_SIMPLE, HUGE_BYTES, RW_FLAGS, 512, 4096},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        size_t k = i / 2;
        uint32_t option = i % 2 ? NBD_OPT_GO : NBD_OPT_INFO;
        struct world *w = haggling(POOL);
        if (cases[k].mode != NBD_MODE_SIMPLE) {
            uint32_t mode = cases[k].mode == NBD_MODE_EXTENDED ? NBD_OPT_EXTENDED_HEADERS
                                                               : NBD_OPT_STRUCTURED_REPLY;
            c_option(&w->say, mode, NULL, 0);
            e_ack(w, mode);
        }
        if (option == NBD_OPT_GO) { /* the same twice opens it once */
            c_info(&w->say, NBD_OPT_INFO, cases[k].name, NULL);
            e_info_export(w, NBD_OPT_INFO, cases[k].size, cases[k].flags);
            e_info_block(w, NBD_OPT_INFO, cases[k].min, cases[k].preferred);
            e_ack(w, NBD_OPT_INFO);
        }
        c_info(&w->say, option, cases[k].name, everything);
        e_info_export(w, option, cases[k].size, cases[k].flags);
        e_info_text(w, option, NBD_INFO_NAME, "the-name");
        if (!(cases[k].flags & NBD_FLAG_READ_ONLY))
            e_info_text(w, option, NBD_INFO_DESCRIPTION, "a disk in memory");
        e_info_block(w, option, cases[k].min, cases[k].preferred);
        e_ack(w, option);
        e_open(w);
        assert_int_equal(nbd_view(&w->a, w->n)->slot.state,
                         i % 2 ? NBD_PHASE_TRANSMISSION : NBD_PHASE_OPTIONS);
        assert_int_equal(w->opens, 1);
        finish(w);
    }
}

static void info_that_is_refused(void **state) {
    static const struct {
        const char *data;
        uint32_t len;
        uint32_t type;
    } cases[] = {
        {"", 0, NBD_REP_ERR_INVALID},
        {"\0\0\0\0\0", 5, NBD_REP_ERR_INVALID},
        {"\0\0\0\1\0\0", 6, NBD_REP_ERR_INVALID},          /* the name reaches into the count */
        {"\0\0\0\4disk\0", 9, NBD_REP_ERR_INVALID},        /* half a count */
        {"\0\0\0\4disk\0\1", 10, NBD_REP_ERR_INVALID},     /* no request */
        {"\0\0\0\4disk\0\1\0", 11, NBD_REP_ERR_INVALID},   /* half a request */
        {"\0\0\0\4disk\0\0\0\0", 12, NBD_REP_ERR_INVALID}, /* too many requests */
        {"\xff\xff\xff\xff"
         "disk\0\0",
         10, NBD_REP_ERR_INVALID},
        {"\xff\xff\xff\xfa"
         "disk\0\0",
         10, NBD_REP_ERR_INVALID},
        {"\0\0\0\4d\0sk\0\0", 10, NBD_REP_ERR_INVALID}, /* a NUL */
        {"\0\0\0\4disc\0\0", 10, NBD_REP_ERR_UNKNOWN},
        {"\0\0\0\6secret\0\0", 12, NBD_REP_ERR_POLICY},
        {"\0\0\0\3odd\0\0", 9, NBD_REP_ERR_INVALID},
        {"\0\0\0\4gone\0\0", 10, NBD_REP_ERR_UNKNOWN},
    };
    struct world *w = haggling(POOL);
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        uint32_t option = i % 2 ? NBD_OPT_GO : NBD_OPT_INFO;
        c_option(&w->say, option, cases[i / 2].data, cases[i / 2].len);
        e_refused(w, option, cases[i / 2].type);
    }
    c_go(&w->say, "disk");
    e_info_export(w, NBD_OPT_GO, DISK_BYTES, RW_FLAGS);
    e_info_block(w, NBD_OPT_GO, 512, 4096);
    e_ack(w, NBD_OPT_GO);
    finish(w);
}

/* What each policy answers. */
static void tls_policies(void **state) {
    static const struct {
        enum nbd_tls_policy policy;
        uint32_t option, len, type;
    } cases[] = {
        {NBD_TLS_ON, NBD_OPT_STARTTLS, 1, NBD_REP_ERR_INVALID},
        {NBD_TLS_BROKEN, NBD_OPT_STARTTLS, 0, NBD_REP_ERR_POLICY},
        {NBD_TLS_BROKEN, NBD_OPT_LIST, 0, NBD_REP_ERR_TLS_REQD},
        {NBD_TLS_REQUIRED, NBD_OPT_STARTTLS, 1, NBD_REP_ERR_INVALID},
        {NBD_TLS_REQUIRED, NBD_OPT_LIST, 0, NBD_REP_ERR_TLS_REQD},
        {NBD_TLS_REQUIRED, NBD_OPT_GO, 6, NBD_REP_ERR_TLS_REQD},
        {NBD_TLS_REQUIRED, NBD_OPT_STRUCTURED_REPLY, 0, NBD_REP_ERR_TLS_REQD},
        {NBD_TLS_REQUIRED, 99, 100, NBD_REP_ERR_TLS_REQD},
        {NBD_TLS_REQUIRED, NBD_OPT_GO, 40000, NBD_REP_ERR_TLS_REQD},
    };
    static const char data[40000];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = haggling(POOL);
        w->tls = cases[i].policy;
        c_option(&w->say, cases[i].option, data, cases[i].len);
        e_refused(w, cases[i].option, cases[i].type);
        finish(w);
    }
    struct world *w = haggling(POOL);
    w->tls = NBD_TLS_REQUIRED;
    c_option(&w->say, NBD_OPT_EXPORT_NAME, "disk", 4);
    e_closed(w, ERR_PERM);
    finish(w);
}

/* Bytes behind STARTTLS end the connection, whoever put them there. */
static void tls_begins_clean(void **state) {
    for (uint32_t behind = 0; behind <= 17; behind += behind ? 16 : 1) {
        struct world *w = haggling(POOL);
        w->tls = NBD_TLS_ON;
        c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        e_ack(w, NBD_OPT_STRUCTURED_REPLY);
        c_option(&w->say, NBD_OPT_STARTTLS, NULL, 0);
        for (uint32_t i = 0; i < behind; i++)
            put_be(&w->say, 'x', 1);
        e_ack(w, NBD_OPT_STARTTLS);
        if (behind) {
            e_closed(w, ERR_PROTO);
            finish(w);
            continue;
        }
        assert_int_equal(w->what, NBD_UPGRADE);
        assert_int_equal(nbd_view(&w->a, w->n)->mode, NBD_MODE_STRUCTURED);
        nbd_secured(&w->env, w->n);
        arena_commit(&w->a);
        const struct nbd *s = nbd_view(&w->a, w->n);
        assert_int_equal(s->mode, NBD_MODE_SIMPLE);
        assert_int_equal(s->open, NBD_OPEN_NONE);
        assert_int_equal(s->meta_contexts, 0);
        assert_int_equal(nbd_check_slot(s), 0);
        c_option(&w->say, NBD_OPT_STARTTLS, NULL, 0);
        e_refused(w, NBD_OPT_STARTTLS, NBD_REP_ERR_INVALID);
        finish(w);
    }
}

static void unsupported(void **state) {
    static const struct {
        uint32_t option, len, type;
    } cases[] = {
        {NBD_OPT_STARTTLS, 0, NBD_REP_ERR_UNSUP},
        {NBD_OPT_STARTTLS, 1, NBD_REP_ERR_INVALID},
        {NBD_OPT_PEEK_EXPORT, 0, NBD_REP_ERR_UNSUP},
        {0, 0, NBD_REP_ERR_UNSUP},
        {12, 3, NBD_REP_ERR_UNSUP},
        {0xffffffff, 100, NBD_REP_ERR_UNSUP},
    };
    struct world *w = haggling(POOL);
    char data[100] = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c_option(&w->say, cases[i].option, data, cases[i].len);
        e_refused(w, cases[i].option, cases[i].type);
    }
    finish(w);
}

static void reply_modes(void **state) {
    struct world *w = haggling(POOL);
    c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, "x", 1);
    e_refused(w, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID);
    c_option(&w->say, NBD_OPT_EXTENDED_HEADERS, "x", 1);
    e_refused(w, NBD_OPT_EXTENDED_HEADERS, NBD_REP_ERR_INVALID);
    assert_int_equal(nbd_view(&w->a, w->n)->mode, NBD_MODE_SIMPLE);
    for (int twice = 0; twice < 2; twice++) {
        c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        e_ack(w, NBD_OPT_STRUCTURED_REPLY);
        assert_int_equal(nbd_view(&w->a, w->n)->mode, NBD_MODE_STRUCTURED);
    }
    for (int twice = 0; twice < 2; twice++) {
        c_option(&w->say, NBD_OPT_EXTENDED_HEADERS, NULL, 0);
        e_ack(w, NBD_OPT_EXTENDED_HEADERS);
        assert_int_equal(nbd_view(&w->a, w->n)->mode, NBD_MODE_EXTENDED);
    }
    c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    e_refused(w, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_EXT_HEADER_REQD);
    assert_int_equal(nbd_view(&w->a, w->n)->mode, NBD_MODE_EXTENDED);
    finish(w);
}

/* Which queries find base:allocation. */
static void meta_contexts(void **state) {
    static const struct {
        const char *queries[4];
        int listed, set;
    } cases[] = {
        {{NULL}, 1, 0},
        {{"base:", NULL}, 1, 0},
        {{"base:allocation", NULL}, 1, 1},
        {{"base:allocation", "base:allocation", NULL}, 1, 1},
        {{"base:allocatio", NULL}, 0, 0},
        {{"base:allocations", NULL}, 0, 0},
        {{"qemu:dirty-bitmap:x", "", "base:allocation", NULL}, 1, 1},
        {{"qemu:", "nocolon", "", NULL}, 0, 0},
        {{"BASE:allocation", NULL}, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = haggling(POOL);
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", cases[i].queries);
        e_refused(w, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID); /* no structured replies */
        c_meta(&w->say, NBD_OPT_LIST_META_CONTEXT, "disk", cases[i].queries);
        e_refused(w, NBD_OPT_LIST_META_CONTEXT, NBD_REP_ERR_INVALID);
        c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        e_ack(w, NBD_OPT_STRUCTURED_REPLY);
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", cases[i].queries);
        if (cases[i].set)
            e_meta(w, NBD_OPT_SET_META_CONTEXT, NBD_ALLOCATION_ID);
        e_ack(w, NBD_OPT_SET_META_CONTEXT);
        c_meta(&w->say, NBD_OPT_LIST_META_CONTEXT, "disk", cases[i].queries);
        if (cases[i].listed)
            e_meta(w, NBD_OPT_LIST_META_CONTEXT, 0);
        if (!cases[i].queries[0]) /* all that there are */
            e_meta_of(w, NBD_OPT_LIST_META_CONTEXT, 0, "perdure:changed-since=");
        e_ack(w, NBD_OPT_LIST_META_CONTEXT);
        e_open(w);
        assert_int_equal(nbd_view(&w->a, w->n)->meta_contexts, cases[i].set);
        finish(w);
    }
}

static void meta_contexts_that_are_refused(void **state) {
    static const struct {
        const char *data;
        uint32_t len;
        uint32_t type;
    } cases[] = {
        {"", 0, NBD_REP_ERR_INVALID},
        {"\0\0\0\0\0\0\0", 7, NBD_REP_ERR_INVALID},
        {"\0\0\0\1x\0\0\0", 8, NBD_REP_ERR_INVALID},               /* no count */
        {"\0\0\0\4disk\0\0\0\1", 12, NBD_REP_ERR_INVALID},         /* no query */
        {"\0\0\0\4disk\0\0\0\1\0\0\0", 15, NBD_REP_ERR_INVALID},   /* half a length */
        {"\0\0\0\4disk\0\0\0\1\0\0\0\1", 16, NBD_REP_ERR_INVALID}, /* length, no query */
        {"\0\0\0\4disk\0\0\0\0x", 13, NBD_REP_ERR_INVALID},        /* something follows */
        {"\0\0\0\4disk\0\0\0\1\0\0\0\1bx", 18, NBD_REP_ERR_INVALID},
        {"\0\0\0\4disk\0\0\0\1\xff\xff\xff\xff", 16, NBD_REP_ERR_INVALID},
        {"\xff\xff\xff\xff"
         "disk\0\0\0\0",
         12, NBD_REP_ERR_INVALID},
        {"\0\0\0\4d\0sk\0\0\0\0", 12, NBD_REP_ERR_INVALID},
        {"\0\0\0\4disk\0\0\0\x41", 12, NBD_REP_ERR_TOO_BIG}, /* 65 queries */
        {"\0\0\0\4disk\xff\xff\xff\xff", 12, NBD_REP_ERR_TOO_BIG},
        {"\0\0\0\4disc\0\0\0\0", 12, NBD_REP_ERR_UNKNOWN},
        {"\0\0\0\6secret\0\0\0\0", 14, NBD_REP_ERR_POLICY},
    };
    static const char *const all[] = {"base:allocation", NULL};
    struct world *w = haggling(POOL);
    c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    e_ack(w, NBD_OPT_STRUCTURED_REPLY);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", all);
        e_meta(w, NBD_OPT_SET_META_CONTEXT, NBD_ALLOCATION_ID);
        e_ack(w, NBD_OPT_SET_META_CONTEXT);
        assert_int_equal(nbd_view(&w->a, w->n)->meta_contexts, 1);
        c_option(&w->say, NBD_OPT_LIST_META_CONTEXT, cases[i].data, cases[i].len);
        e_refused(w, NBD_OPT_LIST_META_CONTEXT, cases[i].type);
        assert_int_equal(nbd_view(&w->a, w->n)->meta_contexts, 1);
        c_option(&w->say, NBD_OPT_SET_META_CONTEXT, cases[i].data, cases[i].len);
        e_refused(w, NBD_OPT_SET_META_CONTEXT, cases[i].type);
        assert_int_equal(nbd_view(&w->a, w->n)->meta_contexts, 0); /* also when it fails */
    }
    finish(w);
}

/* A context counts for the export that it was selected for. */
static void meta_context_of_another_export(void **state) {
    static const char *const all[] = {"base:allocation", NULL};
    for (int other = 0; other < 2; other++) {
        struct world *w = haggling(POOL);
        uint32_t len;
        c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
        e_ack(w, NBD_OPT_STRUCTURED_REPLY);
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", all);
        e_meta(w, NBD_OPT_SET_META_CONTEXT, NBD_ALLOCATION_ID);
        e_ack(w, NBD_OPT_SET_META_CONTEXT);
        c_info(&w->say, NBD_OPT_INFO, "ro", NULL); /* does not disturb */
        e_rep(w, NBD_OPT_INFO, NBD_REP_INFO, &len);
        e_rep(w, NBD_OPT_INFO, NBD_REP_INFO, &len);
        e_ack(w, NBD_OPT_INFO);
        c_go(&w->say, other ? "ro" : "disk");
        e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
        e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
        e_ack(w, NBD_OPT_GO);
        c_request(&w->say, 0, NBD_CMD_BLOCK_STATUS, 5, 0, 512);
        if (other) {
            e_error(w, NBD_EINVAL, 5);
        } else {
            assert_int_equal(e_chunk(w, NBD_REPLY_TYPE_BLOCK_STATUS, 5), 12);
            e_bytes(w, 12);
        }
        e_open(w);
        assert_int_equal(w->opens, other ? 2 : 3);
        assert_int_equal(w->closes, w->opens - 1);
        finish(w);
    }
}

static void names_at_their_limits(void **state) {
    static const struct {
        uint32_t len, type;
    } cases[] = {{255, NBD_REP_ERR_UNKNOWN},
                 {256, NBD_REP_ERR_UNKNOWN},
                 {4096, NBD_REP_ERR_UNKNOWN},
                 {4097, NBD_REP_ERR_INVALID}};
    char name[4098] = {0};
    struct world *w = haggling(POOL);
    c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
    e_ack(w, NBD_OPT_STRUCTURED_REPLY);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(name, 'n', cases[i].len);
        c_info(&w->say, NBD_OPT_INFO, name, NULL);
        e_refused(w, NBD_OPT_INFO, cases[i].type);
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, name, NULL);
        e_refused(w, NBD_OPT_SET_META_CONTEXT, cases[i].type);
    }
    const char *const longest[] = {name, NULL}; /* a query of 4097 bytes, then 4096 */
    c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", longest);
    e_refused(w, NBD_OPT_SET_META_CONTEXT, NBD_REP_ERR_INVALID);
    name[4096] = 0;
    c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, "disk", longest);
    e_ack(w, NBD_OPT_SET_META_CONTEXT);
    finish(w);
}

/* Options whose data is too long to be looked at: skipped, or the end. */
static void long_options(void **state) {
    static const struct {
        uint32_t option, len;
        uint32_t type; /* 0: closed */
    } cases[] = {
        {NBD_OPT_INFO, 32 * 1024 + 1, NBD_REP_ERR_TOO_BIG},
        {NBD_OPT_LIST, 1024 * 1024, NBD_REP_ERR_TOO_BIG},
        {NBD_OPT_SET_META_CONTEXT, 100000, NBD_REP_ERR_TOO_BIG},
        {NBD_OPT_STARTTLS, 100000, NBD_REP_ERR_UNSUP},
        {99, 100000, NBD_REP_ERR_UNSUP},
        {99, 32 * 1024, NBD_REP_ERR_UNSUP},
        {NBD_OPT_INFO, 32 * 1024, NBD_REP_ERR_INVALID},
        {NBD_OPT_INFO, 1024 * 1024 + 1, 0},
        {99, 0xffffffff, 0},
        {NBD_OPT_EXPORT_NAME, 32 * 1024 + 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = haggling(POOL);
        put_be(&w->say, NBD_OPTION_MAGIC, 8);
        put_be(&w->say, cases[i].option, 4);
        put_be(&w->say, cases[i].len, 4);
        if (cases[i].type) {
            c_fill(&w->say, 0, cases[i].len - 1);
            e_open(w);
            c_fill(&w->say, 0, 1);
            e_refused(w, cases[i].option, cases[i].type);
            c_option(&w->say, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
            e_ack(w, NBD_OPT_STRUCTURED_REPLY);
        } else {
            e_closed(w, ERR_TOOBIG);
        }
        finish(w);
    }
}

static void too_many_options(void **state) {
    struct world *w = haggling(POOL);
    for (unsigned i = 0; i < NBD_OPTIONS_MAX; i++) {
        c_option(&w->say, 99, NULL, 0);
        if (i % 512 == 0)
            world_say(w);
    }
    world_say(w);
    w->out_read = w->out.len;
    e_open(w);
    c_option(&w->say, 99, NULL, 0);
    e_closed(w, ERR_TOOBIG);
    finish(w);
}

static void wrong_magic(void **state) {
    struct world *w = haggling(POOL);
    c_option(&w->say, NBD_OPT_LIST, NULL, 0);
    w->say.p[3] ^= 1;
    e_closed(w, ERR_PROTO);
    finish(w);
}

/* An export that takes a while; whatever comes out, the option is answered once. */
static void slow_export(void **state) {
    static const struct nbd_export x = {{VOL_DISK}, DISK_BYTES, 512, 4096, 0};
    static const int results[] = {OK, ERR_NOTFOUND};
    for (size_t i = 0; i < 2 * sizeof results / sizeof results[0]; i++) {
        int result = results[i / 2];
        struct world *w = haggling(POOL);
        c_info(&w->say, NBD_OPT_GO, "slow", NULL);
        e_open(w);
        assert_int_equal(w->what, NBD_WAIT);
        assert_int_equal(w->opens, 1);
        world_run(w);
        assert_int_equal(w->opens, 1);
        if (i % 2) { /* forgotten: asked again */
            world_reload(w);
            assert_int_equal(nbd_export_ready(&w->env, w->n, ERR_AGAIN, NULL), OK);
            assert_int_equal(nbd_export_ready(&w->env, w->n, OK, &x), ERR_CHANGED);
            world_run(w);
            assert_int_equal(w->opens, 2);
            assert_int_equal(w->what, NBD_WAIT);
        }
        world_reload(w);
        assert_int_equal(nbd_export_ready(&w->env, w->n, result, &x), OK);
        assert_int_equal(nbd_export_ready(&w->env, w->n, result, &x), ERR_CHANGED);
        world_commit(w);
        w->no_room = 1; /* the answer is kept until it can be sent */
        world_run(w);
        assert_int_equal(w->what, NBD_BLOCKED);
        world_reload(w);
        w->no_room = 0;
        world_run(w);
        if (result == OK) {
            e_info_export(w, NBD_OPT_GO, DISK_BYTES, RW_FLAGS);
            e_info_block(w, NBD_OPT_GO, 512, 4096);
            e_ack(w, NBD_OPT_GO);
            e_open(w);
        } else {
            e_refused(w, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
            c_go(&w->say, "slow"); /* a new attempt asks again */
            e_open(w);
            assert_int_equal(w->what, NBD_WAIT);
        }
        assert_int_equal(w->closes, 0);
        struct nbd_h n = w->n;
        struct nbd_env env = w->env;
        nbd_end(&env, n);
        assert_int_equal(w->closes, 1); /* the open one, or the one asked for */
        assert_int_equal(nbd_export_ready(&env, n, OK, &x), ERR_CHANGED);
        w->n = nbd_begin(&env, (struct conn_h){1}, 0);
        finish(w);
    }
}

static void deadline(void **state) {
    struct world *w = haggling(POOL);
    assert_false(nbd_expired(nbd_view(&w->a, w->n), 999));
    assert_true(nbd_expired(nbd_view(&w->a, w->n), 1000));
    uint32_t len;
    c_go(&w->say, "disk");
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_ack(w, NBD_OPT_GO);
    assert_false(nbd_expired(nbd_view(&w->a, w->n), UINT64_MAX));
    finish(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_flags),
        cmocka_unit_test(export_name),
        cmocka_unit_test(only_export_name_without_fixed_newstyle),
        cmocka_unit_test(abort_is_acknowledged),
        cmocka_unit_test(list),
        cmocka_unit_test(list_waits_for_the_client),
        cmocka_unit_test(info_and_go),
        cmocka_unit_test(info_that_is_refused),
        cmocka_unit_test(tls_policies),
        cmocka_unit_test(tls_begins_clean),
        cmocka_unit_test(unsupported),
        cmocka_unit_test(reply_modes),
        cmocka_unit_test(meta_contexts),
        cmocka_unit_test(meta_contexts_that_are_refused),
        cmocka_unit_test(meta_context_of_another_export),
        cmocka_unit_test(names_at_their_limits),
        cmocka_unit_test(long_options),
        cmocka_unit_test(too_many_options),
        cmocka_unit_test(wrong_magic),
        cmocka_unit_test(slow_export),
        cmocka_unit_test(deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
