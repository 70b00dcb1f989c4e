/* SPDX-License-Identifier: Apache-2.0 */
/* What a client of the test world expects to read; each call first lets the client say what it has
 * prepared. */
#ifndef PROTO_NBD_NBD_EXPECT_TEST_H
#define PROTO_NBD_NBD_EXPECT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/nbd/nbd_world_test.h"

static inline const uint8_t *e_bytes(struct world *w, size_t len) {
    world_say(w);
    assert_true(w->out.len - w->out_read >= len);
    const uint8_t *p = w->out.p + w->out_read;
    w->out_read += len;
    return p;
}
static inline void e_nothing(struct world *w) {
    world_say(w);
    assert_int_equal(w->out.len, w->out_read);
}
/* The connection is open, all was answered. */
static inline void e_open(struct world *w) {
    e_nothing(w);
    assert_false(w->closing);
}
static inline void e_closed(struct world *w, int reason) {
    e_nothing(w);
    assert_true(w->closing);
    assert_string_equal(err_word(w->reason), err_word(reason));
    assert_int_equal(nbd_view(&w->a, w->n)->slot.state, NBD_PHASE_CLOSING);
}
static inline void e_fill(struct world *w, uint8_t value, size_t len) {
    const uint8_t *p = e_bytes(w, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(p[i], value);
}

static inline void e_greeting(struct world *w) {
    const uint8_t *p = e_bytes(w, 18);
    assert_memory_equal(p, "NBDMAGICIHAVEOPT\0\3", 18);
}
/* An option reply; its data and length. */
static inline const uint8_t *e_rep(struct world *w, uint32_t option, uint32_t type, uint32_t *len) {
    const uint8_t *p = e_bytes(w, 20);
    assert_true(get_be64(p) == NBD_OPTION_REPLY_MAGIC);
    assert_int_equal(get_be32(p + 8), option);
    assert_int_equal(get_be32(p + 12), type);
    *len = get_be32(p + 16);
    return e_bytes(w, *len);
}
static inline void e_ack(struct world *w, uint32_t option) {
    uint32_t len;
    e_rep(w, option, NBD_REP_ACK, &len);
    assert_int_equal(len, 0);
}
/* An error with a text, and the connection goes on. */
static inline void e_refused(struct world *w, uint32_t option, uint32_t type) {
    uint32_t len;
    e_rep(w, option, type, &len);
    assert_true(len > 0);
    e_open(w);
}
static inline void e_info_export(struct world *w, uint32_t option, uint64_t size, uint16_t flags) {
    uint32_t len;
    const uint8_t *p = e_rep(w, option, NBD_REP_INFO, &len);
    assert_int_equal(len, 12);
    assert_int_equal(get_be16(p), NBD_INFO_EXPORT);
    assert_true(get_be64(p + 2) == size);
    assert_int_equal(get_be16(p + 10), flags);
}
static inline void e_info_text(struct world *w, uint32_t option, uint16_t info, const char *text) {
    uint32_t len;
    const uint8_t *p = e_rep(w, option, NBD_REP_INFO, &len);
    assert_int_equal(len, 2 + strlen(text));
    assert_int_equal(get_be16(p), info);
    assert_memory_equal(p + 2, text, strlen(text));
}
static inline void e_info_block(struct world *w, uint32_t option, uint32_t min,
                                uint32_t preferred) {
    uint32_t len;
    const uint8_t *p = e_rep(w, option, NBD_REP_INFO, &len);
    assert_int_equal(len, 14);
    assert_int_equal(get_be16(p), NBD_INFO_BLOCK_SIZE);
    assert_int_equal(get_be32(p + 2), min);
    assert_int_equal(get_be32(p + 6), preferred);
    assert_int_equal(get_be32(p + 10), 32 * 1024 * 1024);
}
static inline void e_meta_of(struct world *w, uint32_t option, uint32_t id, const char *name) {
    uint32_t len;
    const uint8_t *p = e_rep(w, option, NBD_REP_META_CONTEXT, &len);
    assert_int_equal(len, 4 + strlen(name));
    assert_int_equal(get_be32(p), id);
    assert_memory_equal(p + 4, name, strlen(name));
}
static inline void e_meta(struct world *w, uint32_t option, uint32_t id) {
    e_meta_of(w, option, id, "base:allocation");
}

static inline void e_simple(struct world *w, uint32_t error, uint64_t cookie) {
    const uint8_t *p = e_bytes(w, 16);
    assert_int_equal(get_be32(p), NBD_SIMPLE_REPLY_MAGIC);
    assert_int_equal(get_be32(p + 4), error);
    assert_true(get_be64(p + 8) == cookie);
}
/* The header of a structured chunk; returns the length of its payload. */
static inline uint32_t e_chunk(struct world *w, uint16_t type, uint64_t cookie) {
    const uint8_t *p = e_bytes(w, 20);
    assert_int_equal(get_be32(p), NBD_STRUCTURED_REPLY_MAGIC);
    assert_int_equal(get_be16(p + 4), NBD_REPLY_FLAG_DONE);
    assert_int_equal(get_be16(p + 6), type);
    assert_true(get_be64(p + 8) == cookie);
    return get_be32(p + 16);
}
static inline uint32_t e_extended(struct world *w, uint16_t type, uint64_t cookie,
                                  uint64_t offset) {
    const uint8_t *p = e_bytes(w, 32);
    assert_int_equal(get_be32(p), NBD_EXTENDED_REPLY_MAGIC);
    assert_int_equal(get_be16(p + 4), NBD_REPLY_FLAG_DONE);
    assert_int_equal(get_be16(p + 6), type);
    assert_true(get_be64(p + 8) == cookie);
    assert_true(get_be64(p + 16) == offset);
    assert_true(get_be64(p + 24) <= UINT32_MAX);
    return (uint32_t)get_be64(p + 24);
}
static inline void e_error_payload(struct world *w, uint32_t len, uint32_t error) {
    const uint8_t *p = e_bytes(w, len);
    assert_true(len > 6);
    assert_int_equal(get_be32(p), error);
    assert_int_equal(get_be16(p + 4), len - 6);
    for (uint32_t i = 6; i < len; i++)
        assert_true(p[i] >= ' ' && p[i] < 127);
}
static inline void e_error(struct world *w, uint32_t error, uint64_t cookie) {
    e_error_payload(w, e_chunk(w, NBD_REPLY_TYPE_ERROR, cookie), error);
}
static inline void e_extended_error(struct world *w, uint32_t error, uint64_t cookie,
                                    uint64_t offset) {
    e_error_payload(w, e_extended(w, NBD_REPLY_TYPE_ERROR, cookie, offset), error);
}
static inline void e_descriptor(struct world *w, uint32_t length, uint32_t status) {
    const uint8_t *p = e_bytes(w, 8);
    assert_int_equal(get_be32(p), length);
    assert_int_equal(get_be32(p + 4), status);
}
static inline void e_extended_descriptor(struct world *w, uint64_t length, uint32_t status) {
    const uint8_t *p = e_bytes(w, 16);
    assert_true(get_be64(p) == length);
    assert_int_equal(get_be32(p + 8), 0);
    assert_int_equal(get_be32(p + 12), status);
}

#define FIXED (NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES)

/* A connection in option haggling. */
static inline struct world *haggling(uint64_t pool_bytes) {
    struct world *w = malloc(sizeof *w);
    assert_non_null(w);
    world_start(w, pool_bytes);
    e_greeting(w);
    c_flags(&w->say, FIXED);
    e_open(w);
    return w;
}
/* A connection in transmission. */
static inline struct world *serving(const char *name, enum nbd_mode mode, uint64_t pool_bytes) {
    static const char *const queries[] = {"base:allocation", NULL};
    struct world *w = haggling(pool_bytes);
    uint32_t len;
    if (mode != NBD_MODE_SIMPLE) {
        uint32_t option =
            mode == NBD_MODE_EXTENDED ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
        c_option(&w->say, option, NULL, 0);
        e_ack(w, option);
        c_meta(&w->say, NBD_OPT_SET_META_CONTEXT, name, queries);
        e_meta(w, NBD_OPT_SET_META_CONTEXT, NBD_ALLOCATION_ID);
        e_ack(w, NBD_OPT_SET_META_CONTEXT);
    }
    c_go(&w->say, name);
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_ack(w, NBD_OPT_GO);
    e_open(w);
    assert_int_equal(nbd_view(&w->a, w->n)->slot.state, NBD_PHASE_TRANSMISSION);
    return w;
}
static inline void finish(struct world *w) {
    world_stop(w);
    free(w);
}

#endif
