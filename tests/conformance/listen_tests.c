/* SPDX-License-Identifier: Apache-2.0 */
/* Listening, accepting, waiting. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "stream_vocabulary.h"

static void wrong_addresses_are_refused(void **state) {
    struct machine *m = *state;
    char bound[STREAM_ADDRESS_BYTES];
    char longest[300];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "unix:/", 6);
    longest[sizeof longest - 1] = 0;
    const char *const wrong[] = {"",
                                 "127.0.0.1",
                                 "127.0.0.1:",
                                 "127.0.0.1:x",
                                 "127.0.0.1:-1",
                                 "127.0.0.1:65536",
                                 "127.0.0.1:80x",
                                 "127.0.0.256:0",
                                 "[127.0.0.1]:0",
                                 "::1:0",
                                 "[::1]",
                                 "[::x]:0",
                                 ":0",
                                 "unix:",
                                 longest};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (STREAM(m, listen, wrong[i], 0, bound) != ERR_INVAL)
            fail_msg("%s", wrong[i]);
    }
}

static void a_listener_has_its_address_alone(void **state) {
    struct machine *m = *state;
    char bound[STREAM_ADDRESS_BYTES], again[STREAM_ADDRESS_BYTES];
    const char *address;
    for (int i = 0; (address = stream_address(m, i)); i++) {
        int fd = stream_listen_at(m, address, 0, bound);
        if (stream_is_tcp(address))
            assert_string_not_equal(bound, address); /* the port is no longer 0 */
        else
            assert_string_equal(bound, address);
        assert_int_equal(STREAM(m, listen, bound, 0, again), ERR_EXISTS);
        STREAM(m, close, fd);
        fd = stream_listen_at(m, bound, 0, again); /* nobody listens there any more */
        assert_string_equal(bound, again);
        int peer = m->host->peers->connect(m, bound);
        assert_true(peer >= 0);
        STREAM(m, close, stream_accept_from(m, fd));
        m->host->peers->close(m, peer);
        STREAM(m, close, fd);
        assert_int_equal(m->host->peers->connect(m, bound), ERR_CLOSED);
    }
}

static void a_unix_listener_is_replaced(void **state) {
    struct machine *m = *state;
    const struct peer_ops *peers = m->host->peers;
    char bound[STREAM_ADDRESS_BYTES], peer[STREAM_ADDRESS_BYTES];
    int before, after, former = stream_listen_at(m, m->unix_address, STREAM_REPLACE, bound);
    assert_string_equal(bound, m->unix_address);
    before = peers->connect(m, bound);
    assert_true(before >= 0);
    int latter = stream_listen_at(m, m->unix_address, STREAM_REPLACE, bound);
    assert_string_equal(bound, m->unix_address);
    after = peers->connect(m, bound);
    assert_true(after >= 0);
    /* Whoever waits at the former one is still served there. */
    STREAM(m, close, stream_accept_from(m, former));
    assert_int_equal(STREAM(m, accept, former, 0, peer), ERR_AGAIN);
    STREAM(m, close, former);
    STREAM(m, close, stream_accept_from(m, latter));
    assert_int_equal(STREAM(m, accept, latter, 0, peer), ERR_AGAIN);
    peers->close(m, before);
    peers->close(m, after);
    before = peers->connect(m, bound); /* the former's end took nothing along */
    assert_true(before >= 0);
    peers->close(m, before);
    STREAM(m, close, latter);
}

static void nobody_waits(void **state) {
    struct machine *m = *state;
    char bound[STREAM_ADDRESS_BYTES], peer[STREAM_ADDRESS_BYTES];
    const char *address;
    for (int i = 0; (address = stream_address(m, i)); i++) {
        int fd = stream_listen_at(m, address, 0, bound);
        assert_int_equal(STREAM(m, accept, fd, 0, peer), ERR_AGAIN);
        STREAM(m, close, fd);
    }
}

/* Waits once for at most `max` events; counts each tag's. */
static int wait_once(struct machine *m, int max, uint64_t timeout, int *told, int tags) {
    struct stream_event e[8];
    int n = STREAM(m, wait, e, max, timeout);
    assert_true(n <= max);
    for (int i = 0; i < n; i++) {
        assert_true(e[i].tag < (uint64_t)tags);
        told[e[i].tag]++;
    }
    return n;
}

static void what_is_not_taken_is_told_again(void **state) {
    struct machine *m = *state;
    struct link l = link_open(m, "127.0.0.1:0");
    int told[3] = {0};
    unsigned char b[10];
    assert_int_equal(STREAM(m, watch, l.fd, 1, STREAM_READABLE), 0);
    assert_int_equal(wait_once(m, 8, 0, told, 3), 0);
    peer_gives(&l, 1, 10);
    while (told[1] == 0)
        wait_once(m, 8, UINT64_MAX, told, 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(wait_once(m, 8, 0, told, 3), 1);
    assert_int_equal(STREAM(m, rewatch, l.fd, 2, STREAM_READABLE), 0); /* another tag */
    assert_int_equal(wait_once(m, 8, 0, told, 3), 1);
    assert_int_equal(told[2], 1);
    assert_int_equal(STREAM(m, rewatch, l.fd, 0, 0), 0); /* for nothing */
    assert_int_equal(wait_once(m, 8, 0, told, 3), 0);
    assert_int_equal(STREAM(m, rewatch, l.fd, 2, STREAM_READABLE), 0);
    assert_int_equal(wait_once(m, 8, 0, told, 3), 1);
    for (int64_t taken = 0, n; taken<10; taken += n> 0 ? n : 0) {
        n = link_try_receive(&l, b, sizeof b);
        if (n == ERR_AGAIN)
            wait_once(m, 8, UINT64_MAX, told, 3);
    }
    assert_int_equal(wait_once(m, 8, 0, told, 3), 0);
    assert_int_equal(STREAM(m, rewatch, l.fd, 2, STREAM_WRITABLE), 0);
    assert_int_equal(wait_once(m, 8, 0, told, 3), 1);
    STREAM(m, unwatch, l.fd);
    assert_int_equal(wait_once(m, 8, 0, told, 3), 0);
    assert_int_equal(told[0], 0);
    link_close(&l);
}

static void registrations_are_checked(void **state) {
    struct machine *m = *state;
    struct link l = link_open(m, "127.0.0.1:0");
    assert_int_equal(STREAM(m, rewatch, l.fd, 1, STREAM_READABLE), ERR_NOTFOUND);
    assert_int_equal(STREAM(m, watch, l.fd, 1, STREAM_READABLE), 0);
    assert_int_equal(STREAM(m, watch, l.fd, 2, STREAM_READABLE), ERR_EXISTS);
    STREAM(m, unwatch, l.fd);
    STREAM(m, unwatch, l.fd);
    assert_int_equal(STREAM(m, rewatch, l.fd, 1, STREAM_READABLE), ERR_NOTFOUND);
    assert_int_equal(STREAM(m, watch, l.fd, 2, STREAM_READABLE), 0);
    STREAM(m, unwatch, l.fd);
    link_close(&l);
}

static void each_of_many_is_told(void **state) {
    struct machine *m = *state;
    enum { MANY = 60, MAX = 7 };
    const struct peer_ops *peers = m->host->peers;
    struct stream_event e[MAX];
    char bound[STREAM_ADDRESS_BYTES];
    int peer[MANY], fd[MANY] = {0}, told[MANY];
    unsigned char tag, got;
    int listener = stream_listen_at(m, "127.0.0.1:0", 0, bound);
    for (int i = 0; i < MANY; i++) {
        peer[i] = peers->connect(m, bound);
        assert_true(peer[i] >= 0);
    }
    for (int i = 0; i < MANY; i++) {
        fd[i] = stream_accept_from(m, listener);
        assert_int_equal(STREAM(m, watch, fd[i], (uint64_t)i, STREAM_READABLE), 0);
    }
    for (int i = 0; i < MANY; i++) {
        tag = (unsigned char)i;
        assert_int_equal(peers->send(m, peer[i], &tag, 1), 1);
    }
    /* Nobody takes anything: first all come, then all are told in turn. */
    for (int round = 0; round < 2; round++) {
        int waits = round == 0 ? 100000 : 2 * MANY / MAX;
        memset(told, 0, sizeof told);
        for (int come = 0; come < MANY; waits--) {
            assert_true(waits > 0);
            int n = STREAM(m, wait, e, MAX, UINT64_MAX);
            assert_true(n <= MAX);
            for (int i = 0; i < n; i++)
                come += told[e[i].tag]++ == 0;
        }
    }
    int sum = 0;
    for (int i = 0; i < MANY; i++) {
        struct io_vec v = {&got, 1};
        assert_int_equal(STREAM(m, receive, fd[i], &v, 1), 1);
        sum += got;
        STREAM(m, unwatch, fd[i]);
        STREAM(m, close, fd[i]);
        peers->close(m, peer[i]);
    }
    assert_int_equal(sum, MANY * (MANY - 1) / 2);
    STREAM(m, close, listener);
}

static void a_listener_tells_of_connections(void **state) {
    struct machine *m = *state;
    const struct peer_ops *peers = m->host->peers;
    char bound[STREAM_ADDRESS_BYTES];
    const char *address;
    for (int i = 0; (address = stream_address(m, i)); i++) {
        int told[1] = {0};
        int fd = stream_listen_at(m, address, STREAM_PRESERVED, bound);
        assert_int_equal(STREAM(m, watch, fd, 0, STREAM_READABLE), 0);
        assert_int_equal(wait_once(m, 8, 0, told, 1), 0);
        int peer = peers->connect(m, bound);
        while (told[0] < 2)
            wait_once(m, 8, UINT64_MAX, told, 1);
        STREAM(m, close, stream_accept_from(m, fd));
        assert_int_equal(wait_once(m, 8, 0, told, 1), 0);
        peers->close(m, peer);
        STREAM(m, unwatch, fd);
        STREAM(m, close, fd);
    }
}

static void a_wait_ends_in_time(void **state) {
    struct machine *m = *state;
    struct stream_event e;
    uint64_t begin = clock_monotonic_ns(&m->clock);
    assert_int_equal(STREAM(m, wait, &e, 1, 0), 0);
    while (clock_monotonic_ns(&m->clock) < begin + 3 * NS_PER_MS)
        assert_int_equal(STREAM(m, wait, &e, 1, NS_PER_MS), 0);
}

static void another_socket_has_another_identity(void **state) {
    struct machine *m = *state;
    struct link l = link_open(m, "127.0.0.1:0");
    uint64_t a = STREAM(m, identity, l.fd), b = STREAM(m, identity, l.listener);
    int number = l.fd;
    assert_int_not_equal(a, 0);
    assert_int_not_equal(b, 0);
    assert_int_not_equal(a, b);
    assert_int_equal(STREAM(m, identity, l.fd), a);
    STREAM(m, close, l.fd);
    l.peers->close(m, l.peer);
    assert_int_equal(STREAM(m, identity, number), 0);
    for (int i = 0; i < 20; i++) {
        l.peer = l.peers->connect(m, l.bound);
        l.fd = stream_accept_from(m, l.listener);
        if (l.fd == number)
            assert_int_not_equal(STREAM(m, identity, l.fd), a);
        STREAM(m, close, l.fd);
        l.peers->close(m, l.peer);
    }
    STREAM(m, close, l.listener);
}

/* The number of a closed stream is given again, unwatched. */
static void a_number_comes_back_without_a_past(void **state) {
    struct machine *m = *state;
    struct link l = link_open(m, "127.0.0.1:0");
    int number = l.fd, told[2] = {0}, same = 0;
    assert_int_equal(STREAM(m, watch, l.fd, 1, STREAM_READABLE), 0);
    STREAM(m, unwatch, l.fd);
    STREAM(m, close, l.fd);
    l.peers->close(m, l.peer);
    for (int i = 0; i < 20 && !same; i++) {
        l.peer = l.peers->connect(m, l.bound);
        l.fd = stream_accept_from(m, l.listener);
        same = l.fd == number;
        peer_gives(&l, 1, 10);
        link_takes(&l, 1, 9);
        assert_int_equal(wait_once(m, 8, 0, told, 2), 0);
        assert_int_equal(STREAM(m, rewatch, l.fd, 1, STREAM_READABLE), ERR_NOTFOUND);
        STREAM(m, close, l.fd);
        l.peers->close(m, l.peer);
    }
    STREAM(m, close, l.listener);
}

const struct CMUnitTest conformance_listen_tests[] = {
    CONFORMANCE_TEST(wrong_addresses_are_refused),
    CONFORMANCE_TEST(a_listener_has_its_address_alone),
    CONFORMANCE_TEST(a_unix_listener_is_replaced),
    CONFORMANCE_TEST(nobody_waits),
    CONFORMANCE_TEST(what_is_not_taken_is_told_again),
    CONFORMANCE_TEST(registrations_are_checked),
    CONFORMANCE_TEST(each_of_many_is_told),
    CONFORMANCE_TEST(a_listener_tells_of_connections),
    CONFORMANCE_TEST(a_wait_ends_in_time),
    CONFORMANCE_TEST(another_socket_has_another_identity),
    CONFORMANCE_TEST(a_number_comes_back_without_a_past),
};
const size_t conformance_listen_count =
    sizeof conformance_listen_tests / sizeof conformance_listen_tests[0];
