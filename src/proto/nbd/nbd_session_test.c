/* SPDX-License-Identifier: Apache-2.0 */
/* What is sent depends on what was received, not on how it was cut, on turns that were undone, or on
 * the code having been replaced in between: whole sessions give the same bytes, always. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "proto/nbd/nbd_session_test.h"

#define POOL (256 * KIB)

static const enum nbd_mode modes[] = {NBD_MODE_SIMPLE, NBD_MODE_STRUCTURED, NBD_MODE_EXTENDED};

/* What a session leaves: the bytes sent and the disk. */
struct outcome {
    struct bytes out;
    uint8_t disk[DISK_BYTES];
    uint32_t turns;
};

static struct world *begin(void) {
    struct world *w = malloc(sizeof *w);
    assert_non_null(w);
    world_start(w, POOL);
    return w;
}

static struct outcome *reference(const struct bytes *c) {
    struct outcome *o = calloc(1, sizeof *o);
    struct world *w = begin();
    assert_non_null(o);
    world_feed(w, c->p, c->len);
    assert_true(w->closing);
    assert_int_equal(w->reason, OK);
    put_bytes(&o->out, w->out.p, w->out.len);
    memcpy(o->disk, w->disk, DISK_BYTES);
    o->turns = w->turns;
    world_stop(w);
    free(w);
    return o;
}

static void assert_same(struct world *w, const struct outcome *o) {
    assert_true(w->closing);
    assert_int_equal(w->reason, OK);
    assert_int_equal(w->out.len, o->out.len);
    assert_memory_equal(w->out.p, o->out.p, o->out.len);
    assert_memory_equal(w->disk, o->disk, DISK_BYTES);
    world_stop(w);
    free(w);
}

static void end(struct bytes *c, struct outcome *o) {
    free(c->p);
    free(o->out.p);
    free(o);
}

static void cut_anywhere(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct bytes c = session(modes[m]);
        struct outcome *o = reference(&c);
        for (size_t cut = 0; cut <= c.len; cut++) {
            struct world *w = begin();
            world_feed(w, c.p, cut);
            world_feed(w, c.p + cut, c.len - cut);
            assert_same(w, o);
        }
        end(&c, o);
    }
}

static void byte_by_byte(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct bytes c = session(modes[m]);
        struct outcome *o = reference(&c);
        struct world *w = begin();
        for (size_t i = 0; i < c.len; i++)
            world_feed(w, c.p + i, 1);
        assert_true(w->turns > c.len);
        assert_same(w, o);
        end(&c, o);
    }
}

/* Code replaced between the two parts, wherever that is; then after every turn; then every turn
 * killed before its commit and done again; with the bytes in parts of several sizes. */
static void reloaded_anywhere(void **state) {
    for (size_t m = 0; m < 3; m++) {
        struct bytes c = session(modes[m]);
        struct outcome *o = reference(&c);
        for (size_t cut = 0; cut <= c.len; cut += 3) {
            struct world *w = begin();
            world_feed(w, c.p, cut);
            world_reload(w);
            world_feed(w, c.p + cut, c.len - cut);
            assert_same(w, o);
        }
        for (size_t part = 1; part < c.len; part = part * 5 + 3) {
            for (int how = 1; how < 4; how++) {
                struct world *w = begin();
                w->reload_turns = how & 1;
                w->undo_turns = how >> 1;
                for (size_t at = 0; at < c.len; at += part)
                    world_feed(w, c.p + at, min_u64(part, c.len - at));
                assert_same(w, o);
            }
        }
        end(&c, o);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(byte_by_byte),
        cmocka_unit_test(reloaded_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
