/* SPDX-License-Identifier: Apache-2.0 */
/* Transmission: every command in the three reply modes, every refusal, every limit. */
#include "proto/nbd/nbd_expect_test.h"
#include "proto/nbd/nbd_request.h"

#define POOL (1 * MIB)
#define HOLE (NBD_STATE_HOLE | NBD_STATE_ZERO)

#define FUA NBD_CMD_FLAG_FUA
#define NO_HOLE NBD_CMD_FLAG_NO_HOLE
#define DF NBD_CMD_FLAG_DF
#define REQ_ONE NBD_CMD_FLAG_REQ_ONE
#define FAST NBD_CMD_FLAG_FAST_ZERO
#define PAYLOAD NBD_CMD_FLAG_PAYLOAD_LEN

static const enum nbd_mode modes[] = {NBD_MODE_SIMPLE, NBD_MODE_STRUCTURED, NBD_MODE_EXTENDED};

/* A request in the connection's own form; a WRITE's payload is the test's. */
static void request(struct world *w, uint16_t flags, uint16_t command, uint64_t cookie,
                    uint64_t offset, uint64_t length) {
    if (nbd_view(&w->a, w->n)->mode == NBD_MODE_EXTENDED)
        c_extended(&w->say, flags | (command == NBD_CMD_WRITE ? PAYLOAD : 0), command, cookie,
                   offset, length);
    else
        c_request(&w->say, flags, command, cookie, offset, (uint32_t)length);
}

static void e_success(struct world *w, uint64_t cookie, uint64_t offset) {
    if (nbd_view(&w->a, w->n)->mode == NBD_MODE_EXTENDED)
        assert_int_equal(e_extended(w, NBD_REPLY_TYPE_NONE, cookie, offset), 0);
    else
        e_simple(w, 0, cookie);
}

static void e_failure(struct world *w, uint32_t error, uint64_t cookie, uint64_t offset) {
    switch (nbd_view(&w->a, w->n)->mode) {
    case NBD_MODE_SIMPLE:
        e_simple(w, error, cookie);
        return;
    case NBD_MODE_STRUCTURED:
        e_error(w, error, cookie);
        return;
    default:
        e_extended_error(w, error, cookie, offset);
    }
}

/* The head of a successful READ; the data follows. */
static void e_read(struct world *w, uint64_t cookie, uint64_t offset, uint32_t length) {
    switch (nbd_view(&w->a, w->n)->mode) {
    case NBD_MODE_SIMPLE:
        e_simple(w, 0, cookie);
        return;
    case NBD_MODE_STRUCTURED:
        assert_int_equal(e_chunk(w, NBD_REPLY_TYPE_OFFSET_DATA, cookie), 8 + length);
        break;
    default:
        assert_int_equal(e_extended(w, NBD_REPLY_TYPE_OFFSET_DATA, cookie, offset), 8 + length);
    }
    assert_true(get_be64(e_bytes(w, 8)) == offset);
}

static void read_and_write(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct world *w = serving("disk", modes[m], POOL);
        request(w, 0, NBD_CMD_WRITE, 1, 4096 - 512, 1024);
        c_fill(&w->say, 0xaa, 1024);
        e_success(w, 1, 4096 - 512);
        assert_int_equal(w->last_start, 4096 - 512); /* blocks lie on pages */
        request(w, FUA, NBD_CMD_WRITE, UINT64_MAX, DISK_BYTES - 512, 512);
        c_fill(&w->say, 0xbb, 512);
        e_success(w, UINT64_MAX, DISK_BYTES - 512);
        assert_int_equal(w->last_flags, REQUEST_FUA);
        request(w, FUA, NBD_CMD_READ, 2, 0, 16384);
        e_read(w, 2, 0, 16384);
        e_fill(w, 0, 4096 - 512);
        e_fill(w, 0xaa, 1024);
        e_fill(w, 0, 16384 - 4096 - 512);
        assert_int_equal(w->last_flags, 0);
        request(w, m > 0 ? DF : 0, NBD_CMD_READ, 3, DISK_BYTES - 1024, 1024);
        e_read(w, 3, DISK_BYTES - 1024, 1024);
        e_fill(w, 0, 512);
        e_fill(w, 0xbb, 512);
        e_open(w);
        assert_int_equal(request_used(&w->a), 0);
        assert_int_equal(w->pool.free_pages, w->pool.pages);
        finish(w);
    }
}

static void other_commands(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct world *w = serving("disk", modes[m], POOL);
        request(w, 0, NBD_CMD_WRITE, 1, 0, 16384);
        c_fill(&w->say, 0xaa, 16384);
        e_success(w, 1, 0);
        request(w, 0, NBD_CMD_FLUSH, 2, 0, 0);
        e_success(w, 2, 0);
        request(w, FUA, NBD_CMD_FLUSH, 2, 0, 0);
        e_success(w, 2, 0);
        request(w, FUA, NBD_CMD_TRIM, 3, 4096, 4096);
        e_success(w, 3, 4096);
        assert_int_equal(w->last_flags, REQUEST_FUA);
        request(w, FUA | NO_HOLE | FAST, NBD_CMD_WRITE_ZEROES, 4, 8192, 512);
        e_success(w, 4, 8192);
        assert_int_equal(w->last_flags, REQUEST_FUA | REQUEST_NO_HOLE);
        request(w, 0, NBD_CMD_CACHE, 5, 0, DISK_BYTES);
        e_success(w, 5, 0);
        request(w, 0, NBD_CMD_READ, 6, 0, 16384);
        e_read(w, 6, 0, 16384);
        e_fill(w, 0xaa, 4096);
        e_fill(w, 0, 4096 + 512);
        e_fill(w, 0xaa, 16384 - 8192 - 512);
        request(w, 0, NBD_CMD_DISC, 7, 0, 0);
        request(w, 0, NBD_CMD_READ, 8, 0, 512);
        e_closed(w, OK);
        finish(w);
    }
}

/* What DISC overtakes is still answered. */
static void disc_with_requests_outstanding(void **state) {
    struct world *w = serving("disk", NBD_MODE_SIMPLE, POOL);
    w->hold_engine = 1;
    request(w, 0, NBD_CMD_TRIM, 1, 0, 4096);
    request(w, 0, NBD_CMD_DISC, 2, 0, 0);
    e_closed(w, OK);
    assert_int_equal(nbd_view(&w->a, w->n)->outstanding, 1);
    world_reload(w);
    w->hold_engine = 0;
    world_run(w);
    e_simple(w, 0, 1);
    e_closed(w, OK);
    finish(w);
}

/* nbd_check_request, case by case. */
static void checks(void **state) {
    enum { R = 1, M = 2, Q = 4 }; /* read-only, no metadata context, a valid filter */
    static const struct {
        uint16_t flags, command;
        uint64_t offset, length, payload;
        int mode, how, err;
    } cases[] = {
        /* 0: what is right */
        {0, NBD_CMD_READ, 0, 512, 0, 0, 0, OK},
        {FUA, NBD_CMD_READ, DISK_BYTES - 512, 512, 0, 0, 0, OK},
        {DF, NBD_CMD_READ, 0, 512, 0, 1, 0, OK},
        {FUA, NBD_CMD_WRITE, 0, 512, 512, 0, 0, OK},
        {PAYLOAD, NBD_CMD_WRITE, 0, 512, 512, 2, 0, OK},
        {FUA, NBD_CMD_FLUSH, 0, 0, 0, 0, R, OK},
        {FUA, NBD_CMD_TRIM, 0, DISK_BYTES, 0, 0, 0, OK},
        {FUA | NO_HOLE | FAST, NBD_CMD_WRITE_ZEROES, 0, 512, 0, 0, 0, OK},
        {0, NBD_CMD_CACHE, 0, 512, 0, 0, R, OK},
        {REQ_ONE, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 1, R, OK},
        /* 10 */
        {PAYLOAD, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 2, Q, OK},
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 2, 0, OK},
        /* 12: unknown commands and flags */
        {0, NBD_CMD_DISC, 0, 0, 0, 0, 0, ERR_INVAL},
        {0, 8, 0, 512, 0, 0, 0, ERR_INVAL},
        {0, 0xffff, 0, 512, 0, 0, 0, ERR_INVAL},
        {1 << 6, NBD_CMD_READ, 0, 512, 0, 2, 0, ERR_INVAL},
        {1 << 15, NBD_CMD_WRITE, 0, 512, 512, 0, 0, ERR_INVAL},
        {DF, NBD_CMD_READ, 0, 512, 0, 0, 0, ERR_INVAL},
        {NO_HOLE, NBD_CMD_READ, 0, 512, 0, 1, 0, ERR_INVAL},
        {NO_HOLE, NBD_CMD_TRIM, 0, 512, 0, 1, 0, ERR_INVAL},
        /* 20 */
        {DF, NBD_CMD_WRITE, 0, 512, 512, 1, 0, ERR_INVAL},
        {DF, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 1, 0, ERR_INVAL},
        {REQ_ONE, NBD_CMD_READ, 0, 512, 0, 1, 0, ERR_INVAL},
        {FAST, NBD_CMD_WRITE, 0, 512, 512, 1, 0, ERR_INVAL},
        {FAST, NBD_CMD_TRIM, 0, 512, 0, 1, 0, ERR_INVAL},
        {NO_HOLE, NBD_CMD_CACHE, 0, 512, 0, 1, 0, ERR_INVAL},
        {DF, NBD_CMD_FLUSH, 0, 0, 0, 1, 0, ERR_INVAL},
        /* 27: payloads */
        {PAYLOAD, NBD_CMD_WRITE, 0, 512, 512, 0, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_WRITE, 0, 512, 512, 1, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 1, 0, ERR_INVAL},
        /* 30 */
        {0, NBD_CMD_WRITE, 0, 512, 0, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_READ, 0, 512, 512, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_TRIM, 0, 512, 512, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_FLUSH, 0, 0, 512, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_BLOCK_STATUS, 0, 512, 16, 2, 0, ERR_INVAL},
        {PAYLOAD, NBD_CMD_WRITE, 0, NBD_PAYLOAD_MAX, NBD_PAYLOAD_MAX, 2, 0, ERR_RANGE},
        {PAYLOAD, NBD_CMD_WRITE, 0, NBD_PAYLOAD_MAX + 1, NBD_PAYLOAD_MAX + 1, 2, 0, ERR_PROTO},
        {PAYLOAD, NBD_CMD_TRIM, 0, UINT64_MAX, UINT64_MAX, 2, 0, ERR_PROTO},
        {0, NBD_CMD_WRITE, 0, NBD_SKIP_MAX, NBD_SKIP_MAX, 0, 0, ERR_RANGE},
        /* 40 */
        {0, NBD_CMD_WRITE, 0, NBD_SKIP_MAX + 1, NBD_SKIP_MAX + 1, 1, 0, ERR_PROTO},
        /* 41: read-only */
        {0, NBD_CMD_WRITE, 0, 512, 512, 0, R, ERR_READONLY},
        {FUA, NBD_CMD_TRIM, 0, 512, 0, 0, R, ERR_READONLY},
        {0, NBD_CMD_WRITE_ZEROES, DISK_BYTES, 512, 0, 0, R, ERR_READONLY},
        {0, NBD_CMD_READ, 0, 512, 0, 0, R, OK},
        /* 45: FLUSH has neither offset nor length */
        {0, NBD_CMD_FLUSH, 512, 0, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_FLUSH, 0, 512, 0, 0, 0, ERR_INVAL},
        /* 47: no metadata context */
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 0, M, ERR_INVAL},
        {0, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 2, M, ERR_INVAL},
        {PAYLOAD, NBD_CMD_BLOCK_STATUS, 0, 512, 0, 2, M | Q, ERR_INVAL},
        /* 50: ranges */
        {0, NBD_CMD_READ, 0, 0, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_WRITE, 0, 0, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_TRIM, DISK_BYTES, 0, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_READ, DISK_BYTES, 512, 0, 0, 0, ERR_RANGE},
        {0, NBD_CMD_READ, DISK_BYTES - 512, 1024, 0, 0, 0, ERR_RANGE},
        {0, NBD_CMD_READ, UINT64_MAX - 511, 512, 0, 0, 0, ERR_RANGE},
        {0, NBD_CMD_TRIM, 512, UINT64_MAX, 0, 2, 0, ERR_RANGE},
        {0, NBD_CMD_WRITE_ZEROES, 0, DISK_BYTES + 512, 0, 0, 0, ERR_RANGE},
        {0, NBD_CMD_CACHE, DISK_BYTES + 512, 512, 0, 0, 0, ERR_RANGE},
        {0, NBD_CMD_BLOCK_STATUS, DISK_BYTES, 512, 0, 1, 0, ERR_RANGE},
        /* 60 */
        {0, NBD_CMD_READ, 0, 511, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_READ, 1, 512, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_TRIM, 256, 512, 0, 0, 0, ERR_INVAL},
        {0, NBD_CMD_BLOCK_STATUS, 0, 513, 0, 1, 0, ERR_INVAL},
        {0, NBD_CMD_CACHE, 0, 100, 0, 1, 0, ERR_INVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct nbd s = {.slot = {.state = NBD_PHASE_TRANSMISSION},
                        .volume = {1},
                        .size_bytes = DISK_BYTES,
                        .block_min = 512,
                        .read_only = cases[i].how & R,
                        .mode = (uint8_t)cases[i].mode,
                        .meta_contexts = !(cases[i].how & M)};
        struct nbd_request q = {.flags = cases[i].flags,
                                .command = cases[i].command,
                                .offset = cases[i].offset,
                                .length = cases[i].length,
                                .payload = cases[i].payload,
                                .filter = (cases[i].how & Q) != 0};
        int err = nbd_check_request(&s, &q);
        if (err != cases[i].err)
            fail_msg("case %zu: %s, not %s", i, err_word(err), err_word(cases[i].err));
    }
    struct nbd s = {.size_bytes = HUGE_BYTES, .block_min = 4096, .mode = NBD_MODE_EXTENDED};
    struct nbd_request q = {.command = NBD_CMD_READ, .length = NBD_PAYLOAD_MAX};
    assert_int_equal(nbd_check_request(&s, &q), OK);
    q.length += 4096;
    assert_int_equal(nbd_check_request(&s, &q), ERR_TOOBIG);
    q.command = NBD_CMD_WRITE_ZEROES;
    q.length = HUGE_BYTES;
    assert_int_equal(nbd_check_request(&s, &q), OK);
    q.offset = 512;
    q.length = 4096;
    assert_int_equal(nbd_check_request(&s, &q), ERR_INVAL);
}

/* A refusal is answered with its error, in the connection's form, and the connection goes on: the
 * payload of a refused WRITE is not taken for a request. */
static void refusals(void **state) {
    static const struct {
        const char *export;
        uint16_t flags, command;
        uint64_t offset, length;
        uint32_t payload, error;
    } cases[] = {
        {"disk", 0, NBD_CMD_WRITE, 1, 512, 512, NBD_EINVAL},
        {"disk", 0, NBD_CMD_WRITE, DISK_BYTES, 100000, 100000, NBD_ENOSPC},
        {"disk", 0, NBD_CMD_WRITE_ZEROES, DISK_BYTES, 512, 0, NBD_ENOSPC},
        {"disk", 0, NBD_CMD_READ, DISK_BYTES, 512, 0, NBD_EINVAL},
        {"disk", 0, NBD_CMD_TRIM, DISK_BYTES, 512, 0, NBD_EINVAL},
        {"disk", 0, NBD_CMD_WRITE, 0, 0, 0, NBD_EINVAL},
        {"disk", 0, 77, 0, 512, 0, NBD_EINVAL},
        {"disk", 1 << 9, NBD_CMD_READ, 0, 512, 0, NBD_EINVAL},
        {"ro", 0, NBD_CMD_WRITE, 0, 4096, 4096, NBD_EPERM},
        {"ro", 0, NBD_CMD_TRIM, 0, 4096, 0, NBD_EPERM},
        {"ro", 0, NBD_CMD_WRITE_ZEROES, 0, 4096, 0, NBD_EPERM},
        {"coarse", 0, NBD_CMD_READ, 512, 4096, 0, NBD_EINVAL},
        {"coarse", 0, NBD_CMD_WRITE, 0, 512, 512, NBD_EINVAL},
        {"huge", 0, NBD_CMD_READ, 0, 32 * MIB + 512, 0, NBD_EINVAL},
    };
    for (size_t i = 0; i < 3 * sizeof cases / sizeof cases[0]; i++) {
        size_t k = i / 3;
        struct world *w = serving(cases[k].export, modes[i % 3], POOL);
        request(w, cases[k].flags, cases[k].command, 99, cases[k].offset, cases[k].length);
        c_fill(&w->say, 0x25, cases[k].payload);
        e_failure(w, cases[k].error, 99, cases[k].offset);
        e_open(w);
        request(w, 0, NBD_CMD_READ, 100, 0, 4096);
        e_read(w, 100, 0, 4096);
        e_fill(w, 0, 4096);
        e_open(w);
        finish(w);
    }
    struct world *w = serving("huge", NBD_MODE_STRUCTURED, POOL);
    request(w, DF, NBD_CMD_READ, 1, 0, 33 * MIB);
    e_error(w, NBD_EOVERFLOW, 1);
    e_open(w);
    finish(w);
}

/* The error of a refused WRITE comes when the payload is over, even if there was no room for it. */
static void refused_payload_comes_slowly(void **state) {
    struct world *w = serving("ro", NBD_MODE_STRUCTURED, POOL);
    request(w, 0, NBD_CMD_WRITE, 1, 0, 1024);
    for (int i = 0; i < 4; i++) {
        e_open(w);
        world_reload(w);
        c_fill(&w->say, 0xee, 256);
        w->no_room = 1;
    }
    e_open(w);
    assert_int_equal(w->what, NBD_BLOCKED);
    world_reload(w);
    request(w, 0, NBD_CMD_FLUSH, 2, 0, 0);
    e_open(w);
    w->no_room = 0;
    world_run(w);
    e_error(w, NBD_EPERM, 1);
    e_simple(w, 0, 2);
    e_open(w);
    finish(w);
}

static void what_cannot_be_answered_closes(void **state) {
    struct world *w = serving("disk", NBD_MODE_SIMPLE, POOL);
    c_extended(&w->say, 0, NBD_CMD_READ, 1, 0, 512); /* not negotiated */
    e_closed(w, ERR_PROTO);
    finish(w);
    w = serving("disk", NBD_MODE_EXTENDED, POOL);
    c_request(&w->say, 0, NBD_CMD_READ, 1, 0, 512);
    e_open(w); /* 4 bytes are missing */
    put_be(&w->say, 0, 4);
    e_closed(w, ERR_PROTO);
    finish(w);
    w = serving("disk", NBD_MODE_EXTENDED, POOL);
    c_extended(&w->say, PAYLOAD, NBD_CMD_WRITE, 1, 0, 32 * MIB + 512);
    e_closed(w, ERR_PROTO);
    finish(w);
    w = serving("disk", NBD_MODE_STRUCTURED, POOL);
    c_request(&w->say, 0, NBD_CMD_WRITE, 1, 0, UINT32_MAX);
    e_closed(w, ERR_PROTO);
    finish(w);
}

/* Data of a compact WRITE above the largest payload is skipped up to a limit. */
static void oversized_write(void **state) {
    struct world *w = serving("huge", NBD_MODE_SIMPLE, POOL);
    request(w, 0, NBD_CMD_WRITE, 1, 0, 32 * MIB + 512);
    world_say(w);
    uint8_t *part = calloc(1, MIB);
    for (int i = 0; i < 32; i++)
        world_feed(w, part, MIB);
    e_open(w);
    world_feed(w, part, 512);
    e_simple(w, NBD_EINVAL, 1);
    free(part);
    finish(w);
}

static void largest_payload(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct world *w = serving("huge", modes[m], 80 * MIB);
        request(w, 0, NBD_CMD_WRITE, 1, 1 * GIB + 512, 32 * MIB);
        world_say(w);
        uint8_t *part = calloc(1, MIB);
        for (int i = 0; i < 32; i++)
            world_feed(w, part, MIB);
        free(part);
        e_success(w, 1, 1 * GIB + 512);
        request(w, 0, NBD_CMD_READ, 2, 512, 32 * MIB);
        e_read(w, 2, 512, 32 * MIB);
        assert_int_equal(w->out.len - w->out_read, 32 * MIB);
        finish(w);
    }
}

static void lengths_beyond_32_bits(void **state) {
    static const uint16_t commands[] = {NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES, NBD_CMD_CACHE};
    struct world *w = serving("huge", NBD_MODE_EXTENDED, POOL);
    for (size_t i = 0; i < 3; i++) {
        request(w, 0, commands[i], i, 512, 20 * TIB);
        e_success(w, i, 512);
        assert_true(w->last_length == 20 * TIB);
    }
    request(w, 0, NBD_CMD_BLOCK_STATUS, 9, 4096, 31 * TIB);
    assert_int_equal(e_extended(w, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, 9, 4096), 8 + 16);
    const uint8_t *p = e_bytes(w, 8);
    assert_int_equal(get_be32(p), NBD_ALLOCATION_ID);
    assert_int_equal(get_be32(p + 4), 1);
    e_extended_descriptor(w, 31 * TIB, HOLE);
    e_open(w);
    finish(w);
}

/* Begins a reply to BLOCK_STATUS of `count` descriptors. */
static void e_status(struct world *w, uint64_t cookie, uint64_t offset, uint32_t count) {
    if (nbd_view(&w->a, w->n)->mode == NBD_MODE_EXTENDED) {
        assert_int_equal(e_extended(w, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, cookie, offset),
                         8 + 16 * count);
        const uint8_t *p = e_bytes(w, 8);
        assert_int_equal(get_be32(p), NBD_ALLOCATION_ID);
        assert_int_equal(get_be32(p + 4), count);
    } else {
        assert_int_equal(e_chunk(w, NBD_REPLY_TYPE_BLOCK_STATUS, cookie), 4 + 8 * count);
        assert_int_equal(get_be32(e_bytes(w, 4)), NBD_ALLOCATION_ID);
    }
}
static void e_one(struct world *w, uint32_t length, uint32_t status) {
    if (nbd_view(&w->a, w->n)->mode == NBD_MODE_EXTENDED)
        e_extended_descriptor(w, length, status);
    else
        e_descriptor(w, length, status);
}

static void block_status(void **state) {
    for (size_t m = 1; m < 3; m++) {
        struct world *w = serving("disk", modes[m], POOL);
        memset(w->holes, 0, sizeof w->holes);
        memset(w->holes + 2, HOLE, 3);
        w->holes[5] = REQUEST_STATUS_ZERO;
        request(w, 0, NBD_CMD_BLOCK_STATUS, 1, 0, DISK_BYTES); /* neighbours are merged */
        e_status(w, 1, 0, 4);
        e_one(w, 2 * 4096, 0);
        e_one(w, 3 * 4096, HOLE);
        e_one(w, 4096, NBD_STATE_ZERO);
        e_one(w, DISK_BYTES - 6 * 4096, 0);
        request(w, 0, NBD_CMD_BLOCK_STATUS, 2, 512, 3 * 4096); /* cut at both ends */
        e_status(w, 2, 512, 2);
        e_one(w, 2 * 4096 - 512, 0);
        e_one(w, 4096 + 512, HOLE);
        request(w, FUA | REQ_ONE, NBD_CMD_BLOCK_STATUS, 3, 8192, DISK_BYTES - 8192);
        e_status(w, 3, 8192, 1);
        e_one(w, 3 * 4096, HOLE);
        request(w, REQ_ONE, NBD_CMD_BLOCK_STATUS, 4, 8192, 512);
        e_status(w, 4, 8192, 1);
        e_one(w, 512, HOLE);
        e_open(w);
        finish(w);
    }
}

/* The engine's extents as they come: more than a page of them, longer than was asked for. */
static void status_encoding(void **state) {
    for (size_t m = 1; m < 3; m++) {
        struct world *w = serving("huge", modes[m], POOL);
        w->hold_engine = 1;
        request(w, 0, NBD_CMD_BLOCK_STATUS, 1, 0, 1 * GIB);
        e_open(w);
        struct request_h h = world_pick(w, REQUEST_READY, 0);
        struct request *r = request_edit(&w->a, h);
        uint32_t extents = NBD_STATUS_BYTES / sizeof(struct request_status_extent);
        assert_int_equal(request_data_room(r), NBD_STATUS_BYTES);
        for (uint32_t i = 0; i < extents; i++) {
            uint64_t run;
            struct request_status_extent x = {.length_bytes = i == extents - 1 ? HUGE_BYTES : 512,
                                              .status = i % 3 % 2 ? REQUEST_STATUS_HOLE : 0};
            memcpy(request_data_at(&w->pool, r, i * sizeof x, &run), &x, sizeof x);
        }
        r->reply_data_bytes = NBD_STATUS_BYTES;
        r->slot.state = REQUEST_DONE;
        nbd_reply(&w->env, w->n, h);
        world_commit(w);
        world_run(w);
        /* 0 1 0 | 0 1 0 | ... 0: each pair of zeroes is one descriptor */
        uint32_t count = 1 + (extents - 1) / 3 * 2;
        e_status(w, 1, 0, count);
        e_one(w, 512, 0);
        for (uint32_t i = 1; i < count - 1; i++)
            e_one(w, i % 2 ? 512 : 1024, i % 2 ? NBD_STATE_HOLE : 0);
        e_one(w, 1 * GIB - (extents - 2) * 512, 0);
        finish(w);
    }
}

/* PAYLOAD_LEN with BLOCK_STATUS: effect length and context ids. */
static void status_filter(void **state) {
    static const struct {
        const char *payload;
        uint32_t len, error;
    } cases[] = {
        {"\0\0\0\0\0\0\x10\0\0\0\0\1", 12, 0},
        {"\0\0\0\0\0\0\x10\0\0\0\0\2", 12, NBD_EINVAL},         /* an unknown id */
        {"\0\0\0\0\0\0\x10\0\0\0\0\1\0\0\0\1", 16, NBD_EINVAL}, /* twice */
        {"\0\0\0\0\0\0\x10\0", 8, NBD_EINVAL},                  /* none */
        {"\0\0\0\0\0\0\x10\0\0\0", 10, NBD_EINVAL},
        {"\0", 1, NBD_EINVAL},
        {"\0\0\0\0\0\0\x10\1\0\0\0\1", 12, NBD_EINVAL}, /* not aligned */
        {"\0\0\x80\0\0\0\0\0\0\0\0\1", 12, NBD_EINVAL}, /* beyond the end */
        {"\0\0\0\0\0\0\0\0\0\0\0\1", 12, NBD_EINVAL},
    };
    struct world *w = serving("disk", NBD_MODE_EXTENDED, POOL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        request(w, PAYLOAD, NBD_CMD_BLOCK_STATUS, i, 8192, cases[i].len);
        put_bytes(&w->say, cases[i].payload, cases[i].len);
        if (cases[i].error) {
            e_extended_error(w, cases[i].error, i, 8192);
        } else {
            e_status(w, i, 8192, 1);
            e_extended_descriptor(w, 4096, HOLE);
        }
        e_open(w);
    }
    finish(w);
}

static void errors_of_the_engine(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct world *w = serving("bad", modes[m], POOL);
        request(w, 0, NBD_CMD_READ, 1, 512, 8192);
        e_failure(w, NBD_EIO, 1, 512);
        request(w, 0, NBD_CMD_WRITE, 2, 0, 512);
        c_fill(&w->say, 0, 512);
        e_failure(w, NBD_ENOSPC, 2, 0);
        request(w, 0, NBD_CMD_FLUSH, 3, 0, 0);
        e_failure(w, NBD_EIO, 3, 0);
        if (m > 0) {
            request(w, 0, NBD_CMD_BLOCK_STATUS, 4, 0, 512);
            e_failure(w, NBD_EIO, 4, 0);
        }
        e_open(w);
        finish(w);
    }
}

static void replies_in_any_order(void **state) {
    struct world *w = serving("disk", NBD_MODE_STRUCTURED, POOL);
    w->reverse = 1;
    w->hold_engine = 1;
    for (uint64_t i = 0; i < 10; i++)
        request(w, 0, i % 2 ? NBD_CMD_READ : NBD_CMD_TRIM, i, 4096 * i, 4096);
    e_open(w);
    w->hold_engine = 0;
    world_run(w);
    for (uint64_t i = 10; i-- > 0;) {
        if (i % 2) {
            e_read(w, i, 4096 * i, 4096);
            e_fill(w, 0, 4096);
        } else {
            e_simple(w, 0, i);
        }
    }
    e_open(w);
    finish(w);
}

static void outstanding_requests_are_limited(void **state) {
    struct world *w = serving("disk", NBD_MODE_SIMPLE, POOL);
    w->hold_engine = 1;
    for (uint64_t i = 0; i < NBD_OUTSTANDING_MAX + 10; i++)
        request(w, 0, NBD_CMD_FLUSH, i, 0, 0);
    e_open(w);
    assert_int_equal(w->what, NBD_BLOCKED);
    assert_int_equal(request_used(&w->a), NBD_OUTSTANDING_MAX);
    assert_int_equal(w->rx_bytes, 10 * NBD_REQUEST_HEADER_BYTES);
    w->hold_engine = 0;
    w->hold_send = 1; /* done but not read by the client: still outstanding */
    world_run(w);
    assert_int_equal(request_used(&w->a), NBD_OUTSTANDING_MAX);
    w->hold_send = 0;
    world_run(w);
    for (uint64_t i = 0; i < NBD_OUTSTANDING_MAX + 10; i++)
        e_simple(w, 0, i);
    e_open(w);
    finish(w);
}

static void outstanding_bytes_are_limited(void **state) {
    struct world *w = serving("huge", NBD_MODE_SIMPLE, 128 * MIB);
    w->hold_engine = 1;
    for (uint64_t i = 0; i < 5; i++)
        request(w, 0, NBD_CMD_READ, i, 0, 16 * MIB);
    e_open(w);
    assert_int_equal(w->what, NBD_BLOCKED);
    assert_int_equal(nbd_view(&w->a, w->n)->outstanding, 4);
    assert_int_equal(nbd_view(&w->a, w->n)->outstanding_bytes, 64 * MIB);
    w->hold_engine = 0;
    world_run(w);
    assert_int_equal(w->out.len - w->out_read, 5 * (16 + 16 * MIB));
    assert_int_equal(nbd_view(&w->a, w->n)->outstanding_bytes, 0);
    finish(w);
}

/* No slot or buffer now is no error. */
static void no_room_now(void **state) {
    struct world *w = serving("disk", NBD_MODE_STRUCTURED, POOL);
    w->no_room = 1;
    request(w, 0, NBD_CMD_WRITE, 1, 0, 512);
    c_fill(&w->say, 7, 512);
    e_open(w);
    assert_int_equal(w->what, NBD_BLOCKED);
    assert_int_equal(w->rx_bytes, 28 + 512);
    world_reload(w);
    w->no_room = 0;
    world_run(w);
    e_simple(w, 0, 1);
    assert_int_equal(w->disk[0], 7);
    finish(w);
}

/* The connection dies in the middle of a WRITE: the transport frees it. */
static void end_while_receiving(void **state) {
    struct world *w = serving("disk", NBD_MODE_SIMPLE, POOL);
    request(w, 0, NBD_CMD_WRITE, 1, 0, 4096);
    c_fill(&w->say, 7, 100);
    e_open(w);
    assert_int_equal(w->what, NBD_PAYLOAD);
    world_reload(w);
    world_run(w);
    assert_int_equal(w->what, NBD_PAYLOAD);
    struct request_h h = nbd_view(&w->a, w->n)->receiving;
    assert_int_equal(request_view(&w->a, h)->received_bytes, 100);
    nbd_sent(&w->env, w->n, h);
    request_free(&w->a, h);
    assert_int_equal(nbd_view(&w->a, w->n)->outstanding_bytes, 0);
    world_commit(w);
    finish(w);
}

/* Both mappings know every code, and any other number. */
static void error_mappings(void **state) {
#define CODE(name, number, word, text) ERR_##name,
    static const int codes[] = {ERR_LIST(CODE) - 1000, 1, 1000};
#undef CODE
    static const uint32_t allowed[] = {NBD_EPERM,  NBD_EIO,       NBD_ENOMEM,  NBD_EINVAL,
                                       NBD_ENOSPC, NBD_EOVERFLOW, NBD_ENOTSUP, NBD_ESHUTDOWN};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        for (uint16_t command = 0; command < 10; command++) {
            for (uint16_t flags = 0; flags < 64; flags++) {
                uint32_t error = nbd_error(codes[i], command, flags);
                int known = 0;
                for (size_t k = 0; k < sizeof allowed / sizeof allowed[0]; k++)
                    known |= error == allowed[k];
                assert_true(known);
                if (error == NBD_EOVERFLOW) /* only where the protocol allows them */
                    assert_true(command == NBD_CMD_READ && (flags & DF));
                if (error == NBD_ENOTSUP)
                    assert_true(command == NBD_CMD_WRITE_ZEROES && (flags & FAST));
                for (size_t m = 0; m < 3; m++) { /* fits, with a text */
                    uint8_t head[REQUEST_HEAD_BYTES];
                    uint32_t len =
                        nbd_put_error(head, modes[m], 1, 2, nbd_op(command, flags), codes[i]);
                    assert_true(m == 0 ? len == 16 : len > 20 + 6 && len <= sizeof head);
                }
            }
        }
        uint32_t rep = nbd_option_error(codes[i]);
        assert_true(rep > NBD_REP_ERR && rep <= NBD_REP_ERR_EXT_HEADER_REQD);
    }
    assert_int_equal(nbd_error(OK, 0, 0), 0);
    assert_int_equal(nbd_option_error(OK), NBD_REP_ACK);
}

/* Slots that cannot have been made here. */
static void slots_that_contradict_themselves(void **state) {
    struct world *w = serving("disk", NBD_MODE_SIMPLE, POOL);
    const struct nbd good = *nbd_view(&w->a, w->n);
    assert_int_equal(nbd_check_slot(&good), OK);
#define BAD(change)                                                                                \
    do {                                                                                           \
        struct nbd s = good;                                                                       \
        change;                                                                                    \
        assert_int_equal(nbd_check_slot(&s), ERR_INTEGRITY);                                       \
    } while (0)
    BAD(s.slot.state = 0);
    BAD(s.slot.state = 6);
    BAD(s.open = NBD_OPEN_NONE);
    BAD(s.open = 4);
    BAD(s.volume.v = 0);
    BAD(s.block_min = 0);
    BAD(s.block_min = 513);
    BAD(s.mode = 3);
    BAD(s.refused = 3);
    BAD(s.refused_skip = 1);
    BAD(s.meta_contexts = 8);
    BAD(s.moment_asked = 1);
    BAD(s.slot.state = NBD_PHASE_OPTIONS; s.moment_asked = 2);
    BAD(s.outstanding = NBD_OUTSTANDING_MAX + 1);
    BAD(s.outstanding_bytes = 1);
    BAD(s.messages = NBD_MESSAGES_MAX + 1);
    BAD(s.options = NBD_OPTIONS_MAX + 1);
    BAD(s.receiving.v = 1);
    BAD(s.name_bytes = 256);
    BAD(s.slot.state = NBD_PHASE_OPTIONS; s.outstanding = 1);
#undef BAD
    finish(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_and_write),
        cmocka_unit_test(other_commands),
        cmocka_unit_test(disc_with_requests_outstanding),
        cmocka_unit_test(checks),
        cmocka_unit_test(refusals),
        cmocka_unit_test(refused_payload_comes_slowly),
        cmocka_unit_test(what_cannot_be_answered_closes),
        cmocka_unit_test(oversized_write),
        cmocka_unit_test(largest_payload),
        cmocka_unit_test(lengths_beyond_32_bits),
        cmocka_unit_test(block_status),
        cmocka_unit_test(status_encoding),
        cmocka_unit_test(status_filter),
        cmocka_unit_test(errors_of_the_engine),
        cmocka_unit_test(replies_in_any_order),
        cmocka_unit_test(outstanding_requests_are_limited),
        cmocka_unit_test(outstanding_bytes_are_limited),
        cmocka_unit_test(no_room_now),
        cmocka_unit_test(end_while_receiving),
        cmocka_unit_test(error_mappings),
        cmocka_unit_test(slots_that_contradict_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
