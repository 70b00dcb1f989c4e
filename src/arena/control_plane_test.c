/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h>

#include "arena/control_plane.h"
#include "arena/shadow.h"
#include "base/err.h"
#include "base/prng.h"

static const struct arena_table_plan tables[] = {{&lane_spec, 4}};
static const struct arena_plan plan = {
    .tables = tables, .table_count = 1, .undo_bytes = 512 * 1024};

static const struct cp_group group = {10, 1};

/* A process: its arena, its control plane, and what its callbacks have seen. */
struct process {
    struct arena arena;
    struct cp_lanes lanes;
    struct control_plane cp;
    int ready, room;
    uint64_t delivered;
};

static void *process_memory;

static void process_begin(struct process *p) {
    p->cp = cp_lanes_interface(&p->lanes);
    assert_int_equal(cp_lanes_open(&p->lanes, &p->arena), 0);
    assert_int_equal(arena_shadow_start(&p->arena), 0);
    p->ready = p->room = 0;
    p->delivered = 0;
}

static void process_start(struct process *p) {
    process_memory = mmap(NULL, arena_plan_bytes(&plan), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(process_memory != MAP_FAILED);
    assert_int_equal(arena_create(&p->arena, process_memory, arena_plan_bytes(&plan), &plan), 0);
    atomic_store(&p->arena.live->phase, ARENA_SERVING);
    arena_commit(&p->arena);
    process_begin(p);
}

/* Killed in the middle of its turn; the successor attaches. */
static void process_replace(struct process *p) {
    arena_detach(&p->arena);
    assert_int_equal(arena_roll_back(process_memory), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&p->arena, process_memory, arena_plan_bytes(&plan), &plan), 0);
    process_begin(p);
}

static void process_end(struct process *p) {
    arena_detach(&p->arena);
    munmap(process_memory, arena_plan_bytes(&plan));
}

static void on_ready(void *arg, int listener) {
    ((struct process *)arg)->ready++;
}
static void on_room(void *arg) {
    ((struct process *)arg)->room++;
}
static void on_delivered(void *arg, uint64_t count) {
    ((struct process *)arg)->delivered = count;
}

static int listen_with(struct process *p, uint32_t per_sender, uint32_t slop) {
    return p->cp.ops->listen(p->cp.ctx, group, &(struct cp_limits){per_sender, slop});
}
static int enable_with(struct process *p, int listener, uint32_t max_msgs, uint32_t max_usecs) {
    return p->cp.ops->enable(p->cp.ctx, listener,
                             &(struct cp_listener_calls){on_ready, p, max_msgs, max_usecs});
}
static int connect_as(struct process *p, uint16_t sender) {
    return p->cp.ops->connect(p->cp.ctx, group, sender,
                              &(struct cp_sender_calls){on_delivered, on_room, p});
}
static int send_word(struct process *p, int connection, uint64_t word) {
    return p->cp.ops->send(p->cp.ctx, connection, 3, 4, word);
}
static void dispatch_all(struct process *p, uint64_t now_ns) {
    int n = 0;
    while (p->cp.ops->dispatch(p->cp.ctx, now_ns))
        assert_true(n++ < 100);
}

#define EXPECT_WORDS(p, how, listener, ...)                                                        \
    do {                                                                                           \
        const uint64_t want_[] = {__VA_ARGS__};                                                    \
        struct cp_msg got_[64];                                                                    \
        int n_ = (p)->cp.ops->how((p)->cp.ctx, listener, got_, 64);                                \
        assert_int_equal(n_, sizeof want_ / sizeof want_[0]);                                      \
        for (int i_ = 0; i_ < n_; i_++)                                                            \
            assert_int_equal(got_[i_].word, want_[i_]);                                            \
    } while (0)

static void messages_arrive_in_order(void **state) {
    struct process p;
    process_start(&p);
    assert_int_equal(connect_as(&p, 7), ERR_NOTFOUND);
    int l = listen_with(&p, 10, 0), a = connect_as(&p, 7), b = connect_as(&p, 8);
    assert_true(l >= 0 && a >= 0 && b >= 0 && a != b);
    assert_int_equal(connect_as(&p, 7), a);
    assert_int_equal(enable_with(&p, l, 1, 0), 0);
    dispatch_all(&p, 1);
    assert_int_equal(p.ready, 0);
    for (uint64_t w = 1; w <= 3; w++) {
        assert_int_equal(send_word(&p, a, w), 0);
        assert_int_equal(send_word(&p, b, 10 * w), 0);
    }
    arena_commit(&p.arena);
    assert_int_equal(p.delivered, 0); /* callbacks come from dispatch alone */
    dispatch_all(&p, 2);
    assert_int_equal(p.ready, 1);
    assert_int_equal(p.delivered, 3);
    struct cp_msg m;
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, &m, 1), 1);
    assert_true(m.type == 3 && m.flags == 4 && m.sender == 7 && m.word == 1 && m.seen == 0);
    EXPECT_WORDS(&p, receive, l, 10, 2, 20, 3, 30);
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, &m, 1), 0);
    process_end(&p);
}

static void a_slow_receiver_makes_senders_wait(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 2, 3), a = connect_as(&p, 1), b = connect_as(&p, 2);
    enable_with(&p, l, 1, 0);
    for (uint64_t w = 0; w < 5; w++)
        assert_int_equal(send_word(&p, a, w), 0);
    assert_int_equal(send_word(&p, a, 5), ERR_AGAIN); /* two of its own, three of the slop */
    assert_int_equal(send_word(&p, b, 50), 0);
    assert_int_equal(send_word(&p, b, 51), 0);
    assert_int_equal(send_word(&p, b, 52), ERR_AGAIN);
    arena_commit(&p.arena);
    dispatch_all(&p, 1);
    assert_int_equal(p.room, 0);
    struct cp_msg m[8];
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, m, 3), 3);
    dispatch_all(&p, 2);
    assert_int_equal(p.room, 0); /* received is not released */
    p.cp.ops->hold(p.cp.ctx, l, m[0].id);
    p.cp.ops->release(p.cp.ctx, l, m[0].id);
    dispatch_all(&p, 3);
    assert_int_equal(p.room, 0); /* held once more */
    p.cp.ops->release(p.cp.ctx, l, m[0].id);
    arena_commit(&p.arena);
    dispatch_all(&p, 4);
    assert_int_equal(p.room, 2); /* one place of the slop: whoever comes first */
    assert_int_equal(send_word(&p, b, 52), 0);
    assert_int_equal(send_word(&p, a, 5), ERR_AGAIN);
    p.cp.ops->release(p.cp.ctx, l, m[2].id); /* out of order */
    dispatch_all(&p, 5);
    assert_int_equal(p.room, 3);
    assert_int_equal(send_word(&p, a, 5), 0);
    EXPECT_WORDS(&p, take, l, 3, 4, 50, 51, 52, 5);
    p.cp.ops->release(p.cp.ctx, l, m[1].id);
    struct cp_lanes again;
    assert_int_equal(cp_lanes_open(&again, &p.arena), 0);
    process_end(&p);
}

static void the_ring_is_full_while_its_oldest_is_held(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 512, 0), a = connect_as(&p, 1);
    assert_int_equal(connect_as(&p, 2), ERR_NOMEM); /* no places left for another sender */
    enable_with(&p, l, 1, 0);
    struct cp_msg first, m;
    assert_int_equal(send_word(&p, a, 1), 0);
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, &first, 1), 1);
    for (int i = 1; i < 512; i++) {
        assert_int_equal(send_word(&p, a, 2), 0);
        assert_int_equal(p.cp.ops->take(p.cp.ctx, l, &m, 1), 1);
        arena_commit(&p.arena);
    }
    assert_int_equal(send_word(&p, a, 3), ERR_AGAIN);
    p.cp.ops->release(p.cp.ctx, l, first.id);
    dispatch_all(&p, 1);
    assert_int_equal(p.room, 1);
    assert_int_equal(send_word(&p, a, 3), 0);
    EXPECT_WORDS(&p, take, l, 3);
    process_end(&p);
}

static void ready_comes_in_batches(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 100, 0), a = connect_as(&p, 1);
    enable_with(&p, l, 4, 10);
    uint64_t t = 1000000;
    struct cp_msg m[64];
    assert_true(p.cp.ops->next_ns(p.cp.ctx) == UINT64_MAX);
    send_word(&p, a, 1);
    dispatch_all(&p, t);
    assert_int_equal(p.ready, 0);
    assert_int_equal(p.cp.ops->next_ns(p.cp.ctx), t + 10000);
    dispatch_all(&p, t + 9999);
    assert_int_equal(p.ready, 0);
    dispatch_all(&p, t + 10000);
    assert_int_equal(p.ready, 1); /* max_usecs */
    dispatch_all(&p, t + 10001);
    assert_int_equal(p.ready, 1);
    for (int i = 0; i < 3; i++)
        send_word(&p, a, 2);
    dispatch_all(&p, t + 10002);
    assert_int_equal(p.ready, 2); /* max_msgs */
    dispatch_all(&p, t + 10003);
    assert_int_equal(p.ready, 2);
    dispatch_all(&p, t + 20002);
    assert_int_equal(p.ready, 3); /* it took nothing: again, but not sooner */
    assert_int_equal(p.cp.ops->take(p.cp.ctx, l, m, 64), 4);
    send_word(&p, a, 3);
    dispatch_all(&p, t + 30000);
    assert_int_equal(p.ready, 3); /* a new wait begins */
    dispatch_all(&p, t + 35000);
    assert_int_equal(p.ready, 3);
    dispatch_all(&p, t + 40000);
    assert_int_equal(p.ready, 4);
    process_end(&p);
}

static void a_turn_is_undone(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 10, 0), a = connect_as(&p, 1);
    enable_with(&p, l, 1, 0);
    for (uint64_t w = 1; w <= 4; w++)
        send_word(&p, a, w);
    struct cp_msg m[8];
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, m, 2), 2);
    p.cp.ops->release(p.cp.ctx, l, m[0].id);
    dispatch_all(&p, 1);
    assert_int_equal(p.delivered, 4);
    arena_commit(&p.arena);
    send_word(&p, a, 5); /* the turn that is lost: sends, takes, releases */
    EXPECT_WORDS(&p, take, l, 3, 4, 5);
    p.cp.ops->release(p.cp.ctx, l, m[1].id);
    dispatch_all(&p, 2);
    assert_int_equal(p.delivered, 5);
    process_replace(&p);
    l = listen_with(&p, 10, 0);
    a = connect_as(&p, 1);
    dispatch_all(&p, 3);
    assert_int_equal(p.delivered, 0); /* it was told in a turn that was committed */
    enable_with(&p, l, 1, 0);
    dispatch_all(&p, 3);
    assert_int_equal(p.ready, 1);
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, m, 8), 3);
    assert_true(m[0].word == 2 && m[0].seen == CP_SEEN);
    assert_true(m[1].word == 3 && m[1].seen == 0);
    assert_true(m[2].word == 4 && m[2].seen == 0);
    send_word(&p, a, 5);
    dispatch_all(&p, 4);
    assert_int_equal(p.delivered, 5);
    process_end(&p);
}

static void a_waiting_sender_is_called_after_an_attach(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 1, 0), a = connect_as(&p, 1);
    send_word(&p, a, 1);
    assert_int_equal(send_word(&p, a, 2), ERR_AGAIN);
    arena_commit(&p.arena);
    process_replace(&p);
    l = listen_with(&p, 1, 0);
    enable_with(&p, l, 1, 0);
    connect_as(&p, 1);
    EXPECT_WORDS(&p, take, l, 1);
    dispatch_all(&p, 1);
    assert_int_equal(p.room, 1);
    process_end(&p);
}

static void a_shadow_takes_over(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 10, 0), shadow = listen_with(&p, 10, 0), a = connect_as(&p, 1);
    enable_with(&p, l, 1, 0);
    assert_int_equal(enable_with(&p, shadow, 1, 0), ERR_BUSY);
    for (uint64_t w = 1; w <= 6; w++)
        send_word(&p, a, w);
    struct cp_msg m[8];
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, l, m, 4), 4);
    p.cp.ops->release(p.cp.ctx, l, m[1].id);
    p.cp.ops->release(p.cp.ctx, l, m[0].id);
    p.cp.ops->release(p.cp.ctx, l, m[3].id);
    arena_commit(&p.arena);
    p.cp.ops->unlisten(p.cp.ctx, l);
    dispatch_all(&p, 1);
    assert_int_equal(p.ready, 0); /* shadows are not called */
    assert_int_equal(enable_with(&p, shadow, 1, 0), 0);
    dispatch_all(&p, 2);
    assert_int_equal(p.ready, 1);
    assert_int_equal(p.cp.ops->receive(p.cp.ctx, shadow, m, 1), 1);
    assert_true(m[0].word == 3 && m[0].seen == CP_SEEN);
    EXPECT_WORDS(&p, take, shadow, 5, 6);
    p.cp.ops->unlisten(p.cp.ctx, shadow);
    assert_int_equal(send_word(&p, a, 9), ERR_CLOSED);
    assert_int_equal(connect_as(&p, 1), ERR_NOTFOUND);
    p.cp.ops->disconnect(p.cp.ctx, a);
    process_end(&p);
}

static void a_sender_leaves_and_its_messages_stay(void **state) {
    struct process p;
    process_start(&p);
    int l = listen_with(&p, 100, 12), c[6];
    for (uint16_t i = 1; i <= 5; i++)
        assert_true((c[i] = connect_as(&p, i)) >= 0);
    assert_int_equal(connect_as(&p, 6), ERR_NOMEM);
    send_word(&p, c[2], 22);
    p.cp.ops->disconnect(p.cp.ctx, c[2]);
    assert_int_equal(connect_as(&p, 6), ERR_NOMEM); /* its message still has a place */
    enable_with(&p, l, 1, 0);
    struct cp_msg m;
    assert_int_equal(p.cp.ops->take(p.cp.ctx, l, &m, 1), 1);
    assert_true(m.word == 22 && m.sender == 2);
    assert_int_equal(connect_as(&p, 6), c[2]);
    process_end(&p);
}

/* Random traffic against a model, with kills and shadows; every turn is committed or lost. */
struct model_msg {
    uint64_t word;
    int received, released;
};
struct model {
    struct model_msg msgs[20000];
    int head, tail;
};

static void traffic_against_a_model(void **state) {
    static struct model model, committed;
    struct process p;
    struct prng r = prng_seed(5);
    int kills = 0, refused = 0, seen = 0, total = 0;
    memset(&model, 0, sizeof model);
    process_start(&p);
    int l = listen_with(&p, 20, 10), c[4], held[64], held_count = 0;
    for (int i = 0; i < 4; i++)
        c[i] = connect_as(&p, (uint16_t)(i + 1));
    enable_with(&p, l, 1, 0);
    arena_commit(&p.arena);
    uint64_t base = 0; /* id of model.msgs[0] */
    while (model.tail < 15000) {
        uint64_t kind = prng_below(&r, 100);
        if (kind < 50) {
            uint64_t i = prng_below(&r, 4), word = prng_next(&r);
            int err = send_word(&p, c[i], word);
            refused += err == ERR_AGAIN;
            if (err == 0)
                model.msgs[model.tail++] = (struct model_msg){word, 0, 0};
        } else if (kind < 70) {
            struct cp_msg m[8];
            int max = (int)prng_below(&r, 9), taking = (int)prng_below(&r, 2);
            if (held_count + max > 64)
                taking = 1;
            int n = taking ? p.cp.ops->take(p.cp.ctx, l, m, max)
                           : p.cp.ops->receive(p.cp.ctx, l, m, max);
            for (int k = 0; k < n; k++) {
                struct model_msg *want = &model.msgs[m[k].id - base];
                assert_true(want->word == m[k].word && !want->released);
                assert_int_equal(m[k].seen, want->received);
                seen += m[k].seen;
                want->received = 1;
                want->released = taking;
                if (!taking)
                    held[held_count++] = (int)(m[k].id - base);
            }
            total += n;
        } else if (kind < 85 && held_count > 0) {
            int k = (int)prng_below(&r, (uint64_t)held_count);
            p.cp.ops->release(p.cp.ctx, l, base + (uint64_t)held[k]);
            model.msgs[held[k]].released = 1;
            held[k] = held[--held_count];
        } else if (kind < 97) {
            arena_commit(&p.arena);
            memcpy(&committed, &model, sizeof model.msgs[0] * (size_t)model.tail);
            committed.tail = model.tail;
        } else if (kind == 99 && prng_one_in(&r, 10)) {
            process_replace(&p);
            memcpy(&model, &committed, sizeof model.msgs[0] * (size_t)committed.tail);
            model.tail = committed.tail;
            held_count = 0;
            l = listen_with(&p, 20, 10);
            for (int i = 0; i < 4; i++)
                c[i] = connect_as(&p, (uint16_t)(i + 1));
            enable_with(&p, l, 1, 0);
            kills++;
        }
    }
    struct cp_msg m;
    while (held_count > 0)
        p.cp.ops->release(p.cp.ctx, l, base + (uint64_t)held[--held_count]);
    while (p.cp.ops->take(p.cp.ctx, l, &m, 1) == 1)
        ;
    const struct lane *lane = arena_view(&p.arena, TABLE_LANE, p.lanes.lanes[0].lane.v);
    assert_true(lane->head == lane->tail && lane->tail == (uint64_t)model.tail);
    assert_int_equal(lane->slop_used, 0);
    assert_true(kills > 20 && refused > 100 && seen > 20 && total > 10000);
    process_end(&p);
}

static void a_lane_that_contradicts_itself_is_refused(void **state) {
    static const struct {
        size_t offset;
        uint8_t xor ;
    } rows[] = {
        {offsetof(struct lane, head), 2},
        {offsetof(struct lane, tail) + 1, 4},
        {offsetof(struct lane, slop_used), 1},
        {offsetof(struct lane, waiting) + 1, 1},
        {offsetof(struct lane, senders) + offsetof(struct lane_sender, used), 1},
        {offsetof(struct lane, senders) + offsetof(struct lane_sender, told), 64},
        {offsetof(struct lane, ring) + offsetof(struct lane_message, sender), 32},
        {offsetof(struct lane, ring) + offsetof(struct lane_message, state), 8},
    };
    struct process p;
    process_start(&p);
    listen_with(&p, 10, 2);
    int a = connect_as(&p, 1);
    send_word(&p, a, 1);
    arena_commit(&p.arena);
    unsigned char *slot = (void *)arena_slot_at(&p.arena, TABLE_LANE, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cp_lanes again;
        slot[rows[i].offset] ^= rows[i].xor ;
        assert_int_equal(cp_lanes_open(&again, &p.arena), ERR_FORMAT);
        slot[rows[i].offset] ^= rows[i].xor ;
        assert_int_equal(cp_lanes_open(&again, &p.arena), 0);
    }
    process_end(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order),
        cmocka_unit_test(a_slow_receiver_makes_senders_wait),
        cmocka_unit_test(the_ring_is_full_while_its_oldest_is_held),
        cmocka_unit_test(ready_comes_in_batches),
        cmocka_unit_test(a_turn_is_undone),
        cmocka_unit_test(a_waiting_sender_is_called_after_an_attach),
        cmocka_unit_test(a_shadow_takes_over),
        cmocka_unit_test(a_sender_leaves_and_its_messages_stay),
        cmocka_unit_test(traffic_against_a_model),
        cmocka_unit_test(a_lane_that_contradicts_itself_is_refused),
    };
    return cmocka_run_group_tests_name("control_plane", tests, NULL, NULL);
}
