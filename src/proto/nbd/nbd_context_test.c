/* SPDX-License-Identifier: Apache-2.0 */
/* Our metadata contexts: which queries find them, moments that take a while or cannot be had, and what a block
 * status says of several at once. */
#include "proto/nbd/nbd_expect_test.h"

#define POOL (1 * MIB)
#define LIST NBD_OPT_LIST_META_CONTEXT
#define SET NBD_OPT_SET_META_CONTEXT
#define SINCE "perdure:changed-since="
#define AT "perdure:written-at"
#define BASE "base:allocation"

static const char *const all_names[] = {BASE, SINCE "seq:7", AT};

static struct world *haggling_in(enum nbd_mode mode) {
    struct world *w = haggling(POOL);
    uint32_t option =
        mode == NBD_MODE_EXTENDED ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
    c_option(&w->say, option, NULL, 0);
    e_ack(w, option);
    return w;
}

static void queries(void **state) {
    enum { B = 1, C = 2, W = 4, FORM = 8 };
    static const struct {
        const char *queries[4];
        const char *since;
        int listed, set;
    } cases[] = {
        {{NULL}, NULL, B | W | FORM, 0},
        {{"base:", NULL}, NULL, B, 0},
        {{"perdure:", NULL}, NULL, W | FORM, 0},
        {{"perdure", NULL}, NULL, 0, 0},
        {{AT, NULL}, NULL, W, W},
        {{AT, AT, BASE, NULL}, NULL, B | W, B | W},
        {{"perdure:written-at=", NULL}, NULL, 0, 0},
        {{"perdure:written-a", NULL}, NULL, 0, 0},
        {{SINCE, NULL}, NULL, FORM, 0},
        {{"perdure:changed-since", NULL}, NULL, 0, 0},
        {{"PERDURE:changed-since=seq:7", NULL}, NULL, 0, 0},
        {{SINCE "seq:7", NULL}, SINCE "seq:7", C, C},
        {{SINCE "seq:7", SINCE "seq:7", NULL}, SINCE "seq:7", C, C},
        {{SINCE "seq:9", AT, BASE, NULL}, SINCE "seq:9", B | C | W, B | C | W},
    };
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        size_t n = i / 2;
        int extended = i % 2, mask = extended ? -1 : ~W;
        struct world *w = haggling_in(extended ? NBD_MODE_EXTENDED : NBD_MODE_STRUCTURED);
        for (int set = 0; set < 2; set++) {
            int found = (set ? cases[n].set : cases[n].listed) & mask;
            uint32_t option = set ? SET : LIST;
            c_meta(&w->say, option, "disk", cases[n].queries);
            if (found & B)
                e_meta_of(w, option, set ? 1 : 0, BASE);
            if (found & C)
                e_meta_of(w, option, set ? 2 : 0, cases[n].since);
            if (found & W)
                e_meta_of(w, option, set ? 3 : 0, AT);
            if (found & FORM)
                e_meta_of(w, option, 0, SINCE);
            e_ack(w, option);
        }
        e_open(w);
        const struct nbd *s = nbd_view(&w->a, w->n);
        assert_int_equal(s->meta_contexts, cases[n].set & mask);
        if (cases[n].since)
            assert_int_equal(s->since, cases[n].since[strlen(cases[n].since) - 1] - '0');
        finish(w);
    }
}

/* The reply to an option that is refused with this sentence. */
static void e_refused_as(struct world *w, uint32_t type, const char *why) {
    uint32_t len;
    const uint8_t *p = e_rep(w, SET, type, &len);
    assert_int_equal(len, strlen(why));
    assert_memory_equal(p, why, len);
}

static void moments_that_cannot_be_had(void **state) {
    char longest[sizeof SINCE + NBD_MOMENT_MAX + 1] = SINCE;
    memset(longest + strlen(SINCE), 'x', NBD_MOMENT_MAX + 1);
    const struct {
        const char *queries[3];
        const char *why;
        uint32_t type;
        uint32_t asked;
    } cases[] = {
        {{SINCE "old", BASE}, "that is too long ago", NBD_REP_ERR_INVALID, 1},
        {{SINCE "gone", BASE}, "there is no such object", NBD_REP_ERR_INVALID, 1},
        {{SINCE "seq:7", SINCE "seq:8"}, "larger than the limit", NBD_REP_ERR_TOO_BIG, 0},
        {{longest}, "the request is not valid", NBD_REP_ERR_INVALID, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = haggling_in(NBD_MODE_EXTENDED);
        c_meta(&w->say, SET, "disk", (const char *const[]){BASE, NULL});
        e_meta(w, SET, 1);
        e_ack(w, SET);
        c_meta(&w->say, SET, "disk", cases[i].queries);
        e_refused_as(w, cases[i].type, cases[i].why);
        assert_int_equal(w->moments, cases[i].asked);
        assert_int_equal(nbd_view(&w->a, w->n)->meta_contexts, 0);
        if (cases[i].type == NBD_REP_ERR_INVALID) { /* who lists does not find it */
            c_meta(&w->say, LIST, "disk", cases[i].queries);
            if (cases[i].queries[1])
                e_meta(w, LIST, 0);
            e_ack(w, LIST);
        }
        e_open(w);
        finish(w);
    }
}

/* Whatever is undone or attached anew, the option is answered once. */
static void a_moment_that_takes_a_while(void **state) {
    for (int how = 0; how < 4; how++) {
        struct world *w = haggling_in(NBD_MODE_STRUCTURED);
        w->moment_waits = 1;
        w->undo_turns = how & 1;
        w->reload_turns = how >> 1;
        assert_int_equal(nbd_moment_ready(&w->env, w->n), 0);
        c_meta(&w->say, SET, "disk", (const char *const[]){SINCE "slow", NULL});
        e_open(w);
        assert_int_equal(w->what, NBD_WAIT);
        assert_int_equal(nbd_view(&w->a, w->n)->moment_asked, 1);
        world_reload(w);
        assert_int_equal(nbd_moment_ready(&w->env, w->n), 1); /* forgotten: asked again */
        assert_int_equal(nbd_moment_ready(&w->env, w->n), 0);
        world_commit(w);
        world_run(w);
        assert_int_equal(w->what, NBD_WAIT);
        w->moment_waits = 0;
        assert_int_equal(nbd_moment_ready(&w->env, w->n), 1);
        world_commit(w);
        w->no_room = 1; /* the answer is kept until it can be sent */
        world_run(w);
        assert_int_equal(w->what, NBD_BLOCKED);
        w->no_room = 0;
        world_run(w);
        e_meta_of(w, SET, 2, SINCE "slow");
        e_ack(w, SET);
        e_open(w);
        assert_int_equal(nbd_view(&w->a, w->n)->since, 8);
        finish(w);
    }
}

/* In transmission, with these contexts of all_names, as bits. */
static struct world *serving_contexts(enum nbd_mode mode, int contexts) {
    struct world *w = haggling_in(mode);
    const char *names[4] = {NULL};
    uint32_t len;
    for (int c = 0, n = 0; c < NBD_CONTEXTS; c++)
        if (contexts & 1 << c)
            names[n++] = all_names[c];
    c_meta(&w->say, SET, "disk", names);
    for (uint32_t c = 0; c < NBD_CONTEXTS; c++)
        if (contexts & 1 << c)
            e_meta_of(w, SET, c + 1, all_names[c]);
    e_ack(w, SET);
    c_go(&w->say, "disk");
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_rep(w, NBD_OPT_GO, NBD_REP_INFO, &len);
    e_ack(w, NBD_OPT_GO);
    return w;
}

static uint64_t status_of(const struct world *w, uint32_t context, uint64_t block) {
    return context == NBD_CONTEXT_ALLOCATION      ? w->holes[block]
           : context == NBD_CONTEXT_CHANGED_SINCE ? w->written[block] > 7
                                                  : w->written[block];
}

/* The chunks of an answer, against what the world knows of each block; merged, in order, the last one DONE. */
static void e_statuses(struct world *w, int contexts, uint64_t cookie, uint64_t offset,
                       uint64_t length, int one) {
    int extended = nbd_view(&w->a, w->n)->mode == NBD_MODE_EXTENDED;
    for (uint32_t c = 0; c < NBD_CONTEXTS; c++) {
        if (!(contexts & 1 << c))
            continue;
        const uint8_t *p = e_bytes(w, extended ? 32 : 20);
        assert_int_equal(get_be16(p + 4), contexts >> (c + 1) ? 0 : NBD_REPLY_FLAG_DONE);
        assert_int_equal(get_be16(p + 6),
                         extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS);
        assert_true(get_be64(p + 8) == cookie && (!extended || get_be64(p + 16) == offset));
        uint64_t payload = extended ? get_be64(p + 24) : get_be32(p + 16);
        p = e_bytes(w, extended ? 8 : 4);
        assert_int_equal(get_be32(p), c + 1);
        uint64_t count = extended ? (payload - 8) / 16 : (payload - 4) / 8, at = offset;
        uint64_t before = UINT64_MAX;
        assert_true(count > 0 && (!one || count == 1));
        assert_true(!extended || get_be32(p + 4) == count);
        for (uint64_t i = 0; i < count; i++) {
            p = e_bytes(w, extended ? 16 : 8);
            uint64_t bytes = extended ? get_be64(p) : get_be32(p);
            uint64_t status = extended ? get_be64(p + 8) : get_be32(p + 4);
            assert_true(bytes > 0 && at + bytes <= offset + length && status != before);
            for (uint64_t b = at / BLOCK_BYTES; b * BLOCK_BYTES < at + bytes; b++)
                assert_true(status == status_of(w, c, b));
            before = status;
            at += bytes;
        }
        assert_true(one || at == offset + length);
    }
    e_open(w);
}

static void write_blocks(struct world *w, uint64_t seed) {
    for (uint64_t b = 0; b < DISK_BYTES / BLOCK_BYTES; b++) {
        uint64_t some = (b + 1) * (seed * 2 + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 40;
        w->holes[b] = some % 4 ? 0 : REQUEST_STATUS_HOLE | REQUEST_STATUS_ZERO;
        w->written[b] = some / 4 % 3 * 5 + (some / 64 % 2 << 40);
    }
}

/* All sets of contexts, chosen when they are selected and again by a request's payload. */
static void statuses_of_several_contexts(void **state) {
    for (int contexts = 1; contexts < 1 << NBD_CONTEXTS; contexts++) {
        for (enum nbd_mode mode = NBD_MODE_STRUCTURED; mode <= NBD_MODE_EXTENDED; mode++) {
            if (mode == NBD_MODE_STRUCTURED && (contexts & 1 << NBD_CONTEXT_WRITTEN_AT))
                continue;
            struct world *w = serving_contexts(mode, contexts);
            for (uint64_t i = 0; i < 20; i++) {
                uint64_t offset = i % 4 * 3 * 512, length = DISK_BYTES - offset - i % 3 * 512;
                uint16_t one = i % 5 == 0 ? NBD_CMD_FLAG_REQ_ONE : 0;
                int filter = mode == NBD_MODE_EXTENDED && i % 2 ? (int)(i / 2 % 7) + 1 : 0;
                write_blocks(w, i);
                if (mode == NBD_MODE_STRUCTURED) {
                    c_request(&w->say, one, NBD_CMD_BLOCK_STATUS, i, offset, (uint32_t)length);
                } else if (!filter) {
                    c_extended(&w->say, one, NBD_CMD_BLOCK_STATUS, i, offset, length);
                } else {
                    uint32_t n = (uint32_t)__builtin_popcount((unsigned)filter);
                    c_extended(&w->say, one | NBD_CMD_FLAG_PAYLOAD_LEN, NBD_CMD_BLOCK_STATUS, i,
                               offset, 8 + 4 * n);
                    put_be(&w->say, length, 8);
                    for (uint32_t c = NBD_CONTEXTS; c-- > 0;)
                        if (filter & 1 << c)
                            put_be(&w->say, c + 1, 4);
                }
                if (filter & ~contexts)
                    e_extended_error(w, NBD_EINVAL, i, offset);
                else
                    e_statuses(w, filter ? filter : contexts, i, offset, length, one != 0);
            }
            finish(w);
        }
    }
}

/* Every section as full as it can be: nothing overlaps, and the reply stays in its buffers. */
static void full_sections(void **state) {
    for (int extended = 0; extended < 2; extended++) {
        int contexts = extended ? 7 : 3;
        struct world *w =
            serving_contexts(extended ? NBD_MODE_EXTENDED : NBD_MODE_STRUCTURED, contexts);
        uint32_t kinds = (uint32_t)__builtin_popcount((unsigned)contexts);
        w->hold_engine = 1;
        c_request(&w->say, 0, NBD_CMD_BLOCK_STATUS, 1, 0, DISK_BYTES);
        if (extended) {
            w->say.len = 0;
            c_extended(&w->say, 0, NBD_CMD_BLOCK_STATUS, 1, 0, DISK_BYTES);
        }
        e_open(w);
        struct request_h h = world_pick(w, REQUEST_READY, 0);
        struct request *r = request_edit(&w->a, h);
        uint32_t extents = request_status_extents(r);
        uint64_t section = request_status_section_bytes(r), run;
        assert_int_equal(request_data_room(r), kinds * NBD_STATUS_BYTES);
        assert_int_equal(r->sequence, 7);
        for (uint32_t k = 0; k < kinds; k++)
            for (uint32_t i = 0; i < extents; i++) {
                struct request_status_extent x = {.length_bytes = 16 + k, .status = i % 2 + 1};
                memcpy(request_data_at(&w->pool, r, k * section + i * sizeof x, &run), &x,
                       sizeof x);
            }
        r->reply_data_bytes = (uint32_t)((kinds - 1) * section + extents * 16);
        r->slot.state = REQUEST_DONE;
        nbd_reply(&w->env, w->n, h);
        world_commit(w);
        world_run(w);
        for (uint32_t k = 0; k < kinds; k++) {
            e_bytes(w, extended ? 40 : 24);
            for (uint32_t i = 0; i < extents; i++) {
                const uint8_t *p = e_bytes(w, extended ? 16 : 8);
                uint64_t status = k == 0 ? (i % 2 ? NBD_STATE_ZERO : NBD_STATE_HOLE) : i % 2 + 1;
                assert_int_equal(extended ? get_be64(p) : get_be32(p), 16 + k);
                assert_int_equal(extended ? get_be64(p + 8) : get_be32(p + 4), status);
            }
        }
        e_open(w);
        finish(w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries),
        cmocka_unit_test(moments_that_cannot_be_had),
        cmocka_unit_test(a_moment_that_takes_a_while),
        cmocka_unit_test(statuses_of_several_contexts),
        cmocka_unit_test(full_sections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
