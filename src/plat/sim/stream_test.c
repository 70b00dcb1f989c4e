/* SPDX-License-Identifier: Apache-2.0 */
/* Streams through kills and power cuts, and what the seed decides. Many small worlds, one per seed: what
 * a rule allows is seen for some seed. What all machines do alike is in tests/conformance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "plat/sim/sim.h"

#define SEEDS 200
#define ADDRESS "127.0.0.1:10809"

/* Vocabulary. */

struct world {
    struct sim *sim;
    struct streams s;
    int listener, fd, client;
};

#define DO(w, call, ...) (w)->s.ops->call((w)->s.ctx, __VA_ARGS__)

static int listen_at(struct world *w, uint32_t flags) {
    char bound[STREAM_ADDRESS_BYTES];
    int fd = DO(w, listen, ADDRESS, flags, bound);
    assert_true(fd >= 0);
    return fd;
}

static int accept_from(struct world *w, uint32_t flags) {
    char peer[STREAM_ADDRESS_BYTES];
    int fd;
    while ((fd = DO(w, accept, w->listener, flags, peer)) == ERR_AGAIN)
        assert_int_equal(sim_step(w->sim), 1);
    assert_true(fd >= 0);
    return fd;
}

static struct world world_open(const struct sim_options *options, uint32_t flags) {
    struct world w = {.sim = sim_new(options)};
    w.s = sim_streams(w.sim);
    w.listener = listen_at(&w, flags);
    w.client = sim_connect(w.sim, ADDRESS);
    assert_true(w.client >= 0);
    w.fd = accept_from(&w, flags);
    return w;
}

static struct world world_of(uint64_t seed) {
    return world_open(&(struct sim_options){.seed = seed}, STREAM_PRESERVED);
}

static int64_t take(struct world *w, void *to, size_t bytes) {
    struct io_vec v = {to, bytes};
    return DO(w, receive, w->fd, &v, 1);
}

static int64_t give(struct world *w, const void *from, size_t bytes) {
    struct io_vec v = {(void *)(uintptr_t)from, bytes};
    return DO(w, send, w->fd, &v, 1);
}

static struct stream_positions positions(struct world *w) {
    struct stream_positions p;
    assert_int_equal(DO(w, positions, w->fd, &p), 0);
    return p;
}

static int wait_for(struct world *w, struct stream_event *e, uint64_t timeout) {
    return DO(w, wait, e, 1, timeout);
}

static uint64_t now(const struct world *w) {
    struct clock c = sim_clock(w->sim);
    return clock_monotonic_ns(&c);
}

static unsigned char byte_at(uint64_t i) {
    return (unsigned char)(i * 7 + (i >> 8) * 13);
}

/* An echo server that keeps received bytes in memory that outlives it, and nothing else: how far it was, its
 * successors ask the machine. It dies in the middle of anything. */

enum { ECHO_BYTES = 40000 };

struct echo {
    struct world w;
    unsigned char kept[ECHO_BYTES];
    uint64_t received, sent; /* private to the process */
};

static void echo_turn(struct echo *e) {
    struct stream_event event;
    (void)wait_for(&e->w, &event, NS_PER_MS);
    if (e->received < ECHO_BYTES) {
        int64_t n = take(&e->w, e->kept + e->received, ECHO_BYTES - e->received);
        assert_true(n > 0 || n == ERR_AGAIN);
        e->received += n > 0 ? (uint64_t)n : 0;
    }
    if (e->sent < e->received) {
        int64_t n = give(&e->w, e->kept + e->sent, e->received - e->sent);
        assert_true(n > 0 || n == ERR_AGAIN);
        e->sent += n > 0 ? (uint64_t)n : 0;
    }
}

static void echo_replace(struct echo *e) {
    sim_kill(e->w.sim);
    e->w.s = sim_streams(e->w.sim);
    struct stream_positions p = positions(&e->w);
    e->received = p.received;
    e->sent = p.sent;
}

/* Kills the server after every few operations; returns how many bytes came back wrong. */
static uint64_t echo_storm(uint64_t seed, int forgetful) {
    struct echo e = {.w = world_of(seed)};
    struct prng prng = prng_seed(seed);
    uint64_t given = 0, back = 0, wrong = 0, known = 0;
    unsigned char b[1000];
    assert_int_equal(DO(&e.w, watch, e.w.fd, 1, STREAM_READABLE), 0);
    sim_stop_after(e.w.sim, 20);
    while (back < ECHO_BYTES) {
        uint64_t n = min_u64(sizeof b, ECHO_BYTES - given);
        for (uint64_t i = 0; i < n; i++)
            b[i] = byte_at(given + i);
        int64_t done = n > 0 ? sim_client_send(e.w.sim, e.w.client, b, n) : 0;
        given += done > 0 ? (uint64_t)done : 0;
        uint64_t told = e.sent;
        echo_turn(&e);
        if (sim_stopped(e.w.sim)) {
            echo_replace(&e);
            if (forgetful)
                e.sent = known;
            sim_stop_after(e.w.sim, 1 + prng_below(&prng, 40));
        }
        known = told;
        done = sim_client_receive(e.w.sim, e.w.client, b, sizeof b);
        for (int64_t i = 0; i < done; i++)
            wrong += b[i] != byte_at(back + (uint64_t)i);
        back += done > 0 ? (uint64_t)done : 0;
    }
    sim_free(e.w.sim);
    return wrong;
}

static void an_echo_outlives_its_servers(void **state) {
    for (uint64_t seed = 1; seed <= 30; seed++)
        assert_int_equal(echo_storm(seed, 0), 0);
}

/* A server that goes by what it knew before its last turn sends bytes twice, and is found out. */
static void canary_a_forgetful_server_is_caught(void **state) {
    uint64_t wrong = 0;
    for (uint64_t seed = 1; seed <= 30; seed++)
        wrong += echo_storm(seed, 1);
    assert_true(wrong > 0);
}

static void a_kill_leaves_what_is_preserved(void **state) {
    unsigned char b[100] = {0};
    struct stream_event e = {0, 0};
    struct world w = world_of(1);
    uint64_t identity = DO(&w, identity, w.fd);
    assert_int_equal(DO(&w, watch, w.fd, 7, STREAM_READABLE), 0);
    uint64_t sent = (uint64_t)give(&w, b, sizeof b);
    int late = sim_connect(w.sim, ADDRESS); /* waits to be accepted */
    sim_kill(w.sim);
    w.s = sim_streams(w.sim);
    assert_true(DO(&w, identity, w.fd) == identity);
    assert_true(positions(&w).sent == sent);
    assert_true(positions(&w).received == 0);
    assert_int_equal(sim_client_send(w.sim, w.client, b, 1), 1);
    assert_int_equal(wait_for(&w, &e, UINT64_MAX), 1); /* still registered */
    assert_int_equal(e.tag, 7);
    assert_int_equal(take(&w, b, sizeof b), 1);
    int fd = w.fd;
    w.fd = accept_from(&w, 0);
    assert_int_not_equal(w.fd, fd);
    /* A successor finds all of them. */
    int found = 0;
    for (int i = sim_stream_next(w.sim, -1); i >= 0; i = sim_stream_next(w.sim, i))
        found += i == w.listener || i == fd || i == w.fd;
    assert_int_equal(found, 3);
    (void)late;
    sim_free(w.sim);
}

static void a_kill_closes_the_rest(void **state) {
    unsigned char b[10];
    struct world w = world_open(&(struct sim_options){.seed = 1}, 0);
    int late = sim_connect(w.sim, ADDRESS), later;
    sim_settle(w.sim);
    later = sim_connect(w.sim, ADDRESS); /* comes when nobody is there */
    sim_kill(w.sim);
    sim_settle(w.sim);
    assert_int_equal(sim_stream_next(w.sim, -1), -1);
    assert_int_equal(DO(&w, identity, w.fd), 0);
    assert_int_equal(sim_client_receive(w.sim, w.client, b, sizeof b), 0);
    assert_int_equal(sim_client_receive(w.sim, late, b, sizeof b), ERR_CLOSED);
    assert_int_equal(sim_client_receive(w.sim, later, b, sizeof b), ERR_CLOSED);
    assert_int_equal(sim_connect(w.sim, ADDRESS), ERR_CLOSED);
    sim_free(w.sim);
}

/* As on a machine of posix/. */
static void a_plain_machine_forgets_the_wait(void **state) {
    struct world w =
        world_open(&(struct sim_options){.seed = 1, .no_positions = 1}, STREAM_PRESERVED);
    struct stream_positions p;
    assert_int_equal(w.s.ops->caps, 0);
    assert_int_equal(DO(&w, watch, w.fd, 7, STREAM_READABLE), 0);
    sim_kill(w.sim);
    assert_int_equal(DO(&w, rewatch, w.fd, 7, STREAM_READABLE), ERR_NOTFOUND);
    assert_int_equal(DO(&w, watch, w.fd, 7, STREAM_READABLE), 0);
    assert_int_equal(DO(&w, positions, w.fd, &p), ERR_UNSUPPORTED);
    sim_free(w.sim);
}

static void a_power_cut_ends_all(void **state) {
    int kept = 0, lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        unsigned char b[10] = {1};
        struct world w = world_of(seed);
        int64_t n, given = give(&w, b, sizeof b);
        if (seed % 2)
            sim_settle(w.sim);
        int late = sim_connect(w.sim, ADDRESS);
        sim_power_cut(w.sim);
        w.s = sim_streams(w.sim);
        assert_int_equal(sim_stream_next(w.sim, -1), -1);
        assert_int_equal(sim_connect(w.sim, ADDRESS), ERR_CLOSED);
        while ((n = sim_client_receive(w.sim, w.client, b, sizeof b)) > 0)
            given -= n;
        kept += given == 0;
        lost += given > 0;
        assert_int_equal(n, ERR_CLOSED);
        assert_int_equal(sim_client_receive(w.sim, late, b, sizeof b), ERR_CLOSED);
        assert_int_equal(sim_client_send(w.sim, late, b, sizeof b), ERR_CLOSED);
        sim_client_close(w.sim, late);
        w.listener = listen_at(&w, 0); /* the address is free */
        late = sim_connect(w.sim, ADDRESS);
        w.fd = accept_from(&w, 0);
        sim_free(w.sim);
    }
    assert_true(kept > 0 && lost > 0);
}

static void the_seed_decides_over_parts(void **state) {
    int all = 0, part = 0, whole_take = 0, part_take = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        unsigned char b[1000] = {0};
        struct world w = world_of(seed);
        int64_t n = give(&w, b, sizeof b);
        all += n == sizeof b;
        part += n < (int64_t)sizeof b;
        for (int64_t sent = 0; sent < (int64_t)sizeof b;) {
            n = sim_client_send(w.sim, w.client, b, sizeof b - (size_t)sent);
            sent += n;
        }
        sim_settle(w.sim);
        n = take(&w, b, sizeof b);
        whole_take += n == sizeof b;
        part_take += n < (int64_t)sizeof b;
        sim_free(w.sim);
    }
    assert_true(all > 0 && part > 0 && whole_take > 0 && part_take > 0);
}

static void a_reset_takes_along_or_not(void **state) {
    int kept = 0, lost = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        unsigned char b[10] = {0};
        struct world w = world_of(seed);
        int64_t n;
        assert_int_equal(sim_client_send(w.sim, w.client, b, 1), 1);
        sim_settle(w.sim);
        sim_client_reset(w.sim, w.client);
        sim_settle(w.sim);
        n = take(&w, b, sizeof b);
        kept += n == 1;
        lost += n == ERR_CLOSED;
        assert_true(n == 1 || n == ERR_CLOSED);
        assert_int_equal(give(&w, b, 1), ERR_CLOSED);
        sim_free(w.sim);
    }
    assert_true(kept > 0 && lost > 0);
}

static void bytes_for_a_closed_end_come_back_as_a_reset(void **state) {
    unsigned char b[10] = {0};
    struct stream_event e;
    struct world w = world_of(1);
    sim_client_close(w.sim, w.client);
    sim_settle(w.sim);
    assert_int_equal(take(&w, b, sizeof b), 0);
    assert_true(give(&w, b, sizeof b) > 0); /* who knows? */
    assert_int_equal(DO(&w, watch, w.fd, 1, 0), 0);
    assert_int_equal(wait_for(&w, &e, UINT64_MAX), 1);
    assert_int_equal(give(&w, b, sizeof b), ERR_CLOSED);
    sim_free(w.sim);
}

static void buffers_are_bounded(void **state) {
    unsigned char b[100] = {0};
    struct world w = world_open(
        &(struct sim_options){.seed = 1, .stream_send_bytes = 50, .stream_receive_bytes = 30}, 0);
    int64_t given = 0, n;
    for (int i = 0; i < 100; i++) {
        n = give(&w, b, sizeof b);
        given += n > 0 ? n : 0;
        sim_settle(w.sim);
    }
    assert_int_equal(given, 80);
    assert_int_equal(give(&w, b, 1), ERR_AGAIN);
    n = sim_client_receive(w.sim, w.client, b, sizeof b);
    assert_true(n > 0 && n <= 30);
    sim_settle(w.sim);
    int64_t more = give(&w, b, sizeof b);
    assert_true(more > 0 && more <= n);
    sim_free(w.sim);
}

static void a_wait_moves_the_clock(void **state) {
    unsigned char b[10] = {0};
    struct stream_event e;
    struct world w = world_open(
        &(struct sim_options){.seed = 1, .net_min_ns = 5 * NS_PER_MS, .net_max_ns = 5 * NS_PER_MS},
        0);
    uint64_t begin = now(&w);
    assert_int_equal(wait_for(&w, &e, NS_PER_S), 0);
    assert_true(now(&w) - begin == NS_PER_S + NS_PER_US);
    begin = now(&w);
    assert_int_equal(wait_for(&w, &e, UINT64_MAX), 0); /* nothing will ever come */
    assert_true(now(&w) - begin == NS_PER_US);
    assert_int_equal(DO(&w, watch, w.fd, 1, STREAM_READABLE), 0);
    assert_true(sim_client_send(w.sim, w.client, b, 1) == 1);
    begin = now(&w);
    assert_int_equal(wait_for(&w, &e, NS_PER_S), 1);
    assert_true(now(&w) - begin == 5 * NS_PER_MS);
    sim_free(w.sim);
}

static void a_wait_ends_when_an_operation_ends(void **state) {
    struct stream_event e;
    struct world w = world_of(1);
    struct io_router io = sim_router(w.sim);
    unsigned char b[4096] = {0};
    struct io_vec v = {b, sizeof b};
    struct io_completion c;
    uint32_t position;
    int32_t d = io.ops->open(io.ctx, "disk", IO_OPEN_WRITE | IO_OPEN_CREATE);
    struct io_submission s = {.op = IO_WRITE, .device = d, .vec_count = 1, .vecs = &v};
    assert_int_equal(io.ops->queue(io.ctx, &s, &position), 0);
    assert_int_equal(io.ops->submit(io.ctx), 0);
    uint64_t begin = now(&w);
    assert_int_equal(wait_for(&w, &e, 3600 * NS_PER_S), 0);
    uint64_t end = now(&w);
    assert_true(end - begin < NS_PER_S);
    assert_int_equal(wait_for(&w, &e, 3600 * NS_PER_S), 0); /* until it is taken */
    assert_true(now(&w) - end == NS_PER_US);
    assert_int_equal(io.ops->peek(io.ctx, &c, 1), 1);
    assert_int_equal(wait_for(&w, &e, NS_PER_S), 0);
    assert_true(now(&w) - end > NS_PER_S);
    sim_free(w.sim);
}

static void a_stopped_process_does_nothing(void **state) {
    unsigned char b[10] = {0};
    struct stream_event e;
    char peer[STREAM_ADDRESS_BYTES];
    struct world w = world_of(1);
    assert_int_equal(sim_client_send(w.sim, w.client, b, 1), 1);
    sim_settle(w.sim);
    sim_connect(w.sim, ADDRESS);
    sim_settle(w.sim);
    assert_int_equal(DO(&w, watch, w.fd, 1, STREAM_READABLE), 0);
    sim_stop_after(w.sim, 1);
    assert_true(give(&w, b, 1) == 1);
    assert_int_equal(give(&w, b, 1), ERR_AGAIN);
    assert_true(sim_stopped(w.sim));
    assert_int_equal(take(&w, b, 1), ERR_AGAIN);
    assert_int_equal(DO(&w, accept, w.listener, 0, peer), ERR_AGAIN);
    assert_int_equal(wait_for(&w, &e, UINT64_MAX), 0);
    DO(&w, close, w.fd);
    DO(&w, end_sending, w.fd);
    DO(&w, end, w.fd);
    sim_kill(w.sim);
    assert_true(positions(&w).sent == 1 && positions(&w).received == 0);
    assert_int_equal(take(&w, b, 1), 1);
    sim_free(w.sim);
}

static uint64_t trace_of(uint64_t seed) {
    struct world w = world_of(seed);
    unsigned char b[500] = {0};
    struct stream_event e;
    assert_int_equal(DO(&w, watch, w.fd, 1, STREAM_READABLE), 0);
    for (int i = 0; i < 50; i++) {
        sim_client_send(w.sim, w.client, b, sizeof b);
        (void)wait_for(&w, &e, NS_PER_MS);
        int64_t n = take(&w, b, sizeof b);
        if (n > 0)
            give(&w, b, (size_t)n);
        sim_client_receive(w.sim, w.client, b, sizeof b);
    }
    uint64_t trace = sim_trace(w.sim);
    sim_free(w.sim);
    return trace;
}

static void the_same_seed_is_the_same_run(void **state) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_true(trace_of(seed) == trace_of(seed));
        assert_true(trace_of(seed) != trace_of(seed + 1));
    }
}

static void a_full_backlog_refuses(void **state) {
    struct world w = world_of(1);
    int n = 0, client;
    while ((client = sim_connect(w.sim, ADDRESS)) >= 0)
        n++;
    assert_int_equal(client, ERR_AGAIN);
    assert_int_equal(n, 4096);
    sim_settle(w.sim);
    w.fd = accept_from(&w, 0);
    assert_true(sim_connect(w.sim, ADDRESS) >= 0);
    sim_free(w.sim);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_echo_outlives_its_servers),
        cmocka_unit_test(canary_a_forgetful_server_is_caught),
        cmocka_unit_test(a_kill_leaves_what_is_preserved),
        cmocka_unit_test(a_kill_closes_the_rest),
        cmocka_unit_test(a_plain_machine_forgets_the_wait),
        cmocka_unit_test(a_power_cut_ends_all),
        cmocka_unit_test(the_seed_decides_over_parts),
        cmocka_unit_test(a_reset_takes_along_or_not),
        cmocka_unit_test(bytes_for_a_closed_end_come_back_as_a_reset),
        cmocka_unit_test(buffers_are_bounded),
        cmocka_unit_test(a_wait_moves_the_clock),
        cmocka_unit_test(a_wait_ends_when_an_operation_ends),
        cmocka_unit_test(a_stopped_process_does_nothing),
        cmocka_unit_test(the_same_seed_is_the_same_run),
        cmocka_unit_test(a_full_backlog_refuses),
    };
    return cmocka_run_group_tests_name("sim_stream", tests, NULL, NULL);
}
