/* SPDX-License-Identifier: Apache-2.0 */
/* Connected streams: bytes, their order, their end, and how many they were. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "stream_vocabulary.h"

#define EACH_ADDRESS(m, l)                                                                         \
    for (int turn_ = 0; stream_address(m, turn_); turn_++)                                         \
        for (struct link l = link_open(m, stream_address(m, turn_)); l.m;                          \
             link_close(&l), l.m = NULL)

static unsigned char byte_at(size_t i) {
    return (unsigned char)(i * 7 + (i >> 8) * 13 + (i >> 16));
}

/* Vectors over [from, to) of a buffer, in pieces that are not of one size. */
static uint32_t pieces(unsigned char *b, size_t from, size_t to, struct io_vec vecs[5]) {
    uint32_t n = 0;
    for (size_t step = 1; from < to && n < 5; from += vecs[n - 1].bytes, step *= 11)
        vecs[n++] = (struct io_vec){b + from, to - from < step ? to - from : step};
    return n;
}

static void all_bytes_come_back_in_order(void **state) {
    struct machine *m = *state;
    enum { TOTAL = 200000 };
    unsigned char *there = malloc(TOTAL), *here = calloc(1, TOTAL), *back = malloc(TOTAL);
    for (size_t i = 0; i < TOTAL; i++)
        there[i] = byte_at(i);
    EACH_ADDRESS(m, l) {
        size_t given = 0, taken = 0, answered = 0, got = 0;
        struct stream_event e;
        memset(here, 0, TOTAL);
        assert_int_equal(STREAM(m, watch, l.fd, 9, STREAM_READABLE | STREAM_WRITABLE), 0);
        while (got < TOTAL) {
            struct io_vec vecs[5];
            int64_t n = l.peers->send(m, l.peer, there + given, TOTAL - given);
            given += n > 0 ? (size_t)n : 0;
            if (taken < TOTAL) {
                n = STREAM(m, receive, l.fd, vecs, pieces(here, taken, TOTAL, vecs));
                assert_true(n > 0 || n == ERR_AGAIN);
                taken += n > 0 ? (size_t)n : 0;
            }
            if (answered < taken) {
                n = STREAM(m, send, l.fd, vecs, pieces(here, answered, taken, vecs));
                assert_true(n > 0 || n == ERR_AGAIN);
                answered += n > 0 ? (size_t)n : 0;
            }
            n = l.peers->receive(m, l.peer, back + got, TOTAL - got);
            got += n > 0 ? (size_t)n : 0;
            if (STREAM(m, wait, &e, 1, NS_PER_MS) == 1)
                assert_int_equal(e.tag, 9);
        }
        assert_memory_equal(there, here, TOTAL);
        assert_memory_equal(there, back, TOTAL);
        STREAM(m, unwatch, l.fd);
    }
    free(there);
    free(here);
    free(back);
}

/* One call gives and takes more than one vector, where there is as much. */
static void vectors_are_gathered_and_scattered(void **state) {
    struct machine *m = *state;
    EACH_ADDRESS(m, l) {
        unsigned char b[30] = {0}, c[30];
        struct io_vec from[] = {{b, 10}, {b + 10, 10}, {b + 20, 10}};
        struct io_vec to[] = {{c, 10}, {c + 10, 10}, {c + 20, 10}};
        int gathered = 0, scattered = 0;
        for (int i = 0; i < 100 && !(gathered && scattered); i++) {
            int64_t n = STREAM(m, send, l.fd, from, 3);
            gathered += n > 10;
            peer_gives(&l, 1, 30);
            assert_true(n > 0);
            peer_takes(&l, 0, (size_t)n);
            for (int64_t left = 30; left > 0; left -= n > 0 ? n : 0) {
                stream_wait_for(m, l.fd, STREAM_READABLE);
                memset(c, 0, sizeof c);
                n = STREAM(m, receive, l.fd, to, 3);
                assert_true(n > 0 && n <= left);
                for (int k = 0; k < 30; k++)
                    assert_int_equal(c[k], k < n);
                scattered += n > 10;
            }
        }
        assert_true(gathered > 0);
        assert_true(scattered > 0);
    }
}

static void a_full_stream_takes_no_more(void **state) {
    struct machine *m = *state;
    enum { CHUNK = 10000, LIMIT = 64 << 20 };
    static unsigned char b[CHUNK];
    EACH_ADDRESS(m, l) {
        size_t given = 0, got = 0;
        int64_t n;
        while ((n = link_try_send(&l, b, CHUNK)) > 0) {
            given += (size_t)n;
            assert_true(given < LIMIT);
        }
        assert_int_equal(n, ERR_AGAIN);
        /* There is room again when the peer has taken it all. */
        while (got < given) {
            n = peer_receive(&l, b, CHUNK);
            assert_true(n > 0);
            got += (size_t)n;
        }
        assert_int_equal(got, given);
        stream_wait_for(m, l.fd, STREAM_WRITABLE);
        assert_true(link_try_send(&l, b, CHUNK) > 0);
    }
}

static void nothing_is_there_before_it_comes(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    EACH_ADDRESS(m, l) {
        assert_int_equal(link_try_receive(&l, b, sizeof b), ERR_AGAIN);
        peer_gives(&l, 1, 3);
        link_takes(&l, 1, 3);
        assert_int_equal(link_try_receive(&l, b, sizeof b), ERR_AGAIN);
    }
}

static void the_peer_ends_its_side(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    EACH_ADDRESS(m, l) {
        peer_gives(&l, 1, 1000);
        l.peers->end_sending(m, l.peer);
        link_takes(&l, 1, 1000);
        for (int i = 0; i < 3; i++)
            assert_int_equal(link_receive(&l, b, sizeof b), 0);
        link_gives(&l, 2, 1000); /* the other direction goes on */
        peer_takes(&l, 2, 1000);
        STREAM(m, end_sending, l.fd);
        assert_int_equal(peer_receive(&l, b, sizeof b), 0);
    }
}

static void we_end_our_side(void **state) {
    struct machine *m = *state;
    unsigned char b[10] = {0};
    EACH_ADDRESS(m, l) {
        link_gives(&l, 3, 1000);
        STREAM(m, end_sending, l.fd);
        assert_int_equal(link_try_send(&l, b, sizeof b), ERR_CLOSED);
        peer_takes(&l, 3, 1000);
        assert_int_equal(peer_receive(&l, b, sizeof b), 0);
        peer_gives(&l, 4, 1000);
        link_takes(&l, 4, 1000);
        l.peers->end_sending(m, l.peer);
        assert_int_equal(link_receive(&l, b, sizeof b), 0);
    }
}

static void an_end_is_the_end_of_both(void **state) {
    struct machine *m = *state;
    unsigned char b[10] = {0};
    EACH_ADDRESS(m, l) {
        link_gives(&l, 5, 100);
        STREAM(m, end, l.fd);
        assert_int_equal(link_try_send(&l, b, sizeof b), ERR_CLOSED);
        assert_int_equal(link_try_receive(&l, b, sizeof b), 0);
        peer_takes(&l, 5, 100);
        assert_int_equal(peer_receive(&l, b, sizeof b), 0);
    }
}

static void a_closed_stream_ends_at_the_peer(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    EACH_ADDRESS(m, l) {
        link_gives(&l, 6, 100);
        STREAM(m, close, l.fd);
        l.fd = -1;
        peer_takes(&l, 6, 100);
        assert_int_equal(peer_receive(&l, b, sizeof b), 0);
    }
}

/* The peer learns that what it sent was not taken. */
static void closing_upon_unread_bytes_is_a_reset(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    EACH_ADDRESS(m, l) {
        peer_gives(&l, 6, 100);
        stream_wait_for(m, l.fd, STREAM_READABLE);
        STREAM(m, close, l.fd);
        l.fd = -1;
        assert_int_equal(peer_receive(&l, b, sizeof b), ERR_CLOSED);
    }
}

static void a_reset_is_told(void **state) {
    struct machine *m = *state;
    unsigned char b[10] = {0};
    for (uint32_t watched = 0; watched <= (STREAM_READABLE | STREAM_WRITABLE); watched++) {
        struct link l = link_open(m, "127.0.0.1:0");
        struct stream_event e = {0, 0};
        int64_t n;
        peer_gives(&l, 7, 3); /* may be received or not */
        link_gives(&l, 7, 3);
        assert_int_equal(STREAM(m, watch, l.fd, 5, watched), 0);
        l.peers->reset(m, l.peer);
        l.peer = -1;
        while (!(e.events & STREAM_READABLE) || link_try_send(&l, b, 1) != ERR_CLOSED)
            (void)STREAM(m, wait, &e, 1, UINT64_MAX);
        assert_int_equal(e.tag, 5);
        while ((n = link_try_receive(&l, b, 1)) > 0)
            ;
        assert_true(n == ERR_CLOSED || n == 0);
        STREAM(m, unwatch, l.fd);
        link_close(&l);
    }
}

static void a_receive_tells_of_a_reset(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    int64_t n;
    struct link l = link_open(m, "127.0.0.1:0");
    peer_gives(&l, 7, 3);
    l.peers->reset(m, l.peer);
    l.peer = -1;
    while ((n = link_receive(&l, b, sizeof b)) > 0)
        assert_int_equal(b[0], 7);
    assert_int_equal(n, ERR_CLOSED);
    n = link_try_receive(&l, b, sizeof b);
    assert_true(n == ERR_CLOSED || n == 0);
    assert_int_equal(link_try_send(&l, b, 1), ERR_CLOSED);
    link_close(&l);
}

static struct stream_positions positions(struct link *l) {
    struct stream_positions p = {UINT64_MAX, UINT64_MAX};
    int err;
    while ((err = STREAM(l->m, positions, l->fd, &p)) == ERR_AGAIN)
        ;
    assert_int_equal(err, 0);
    return p;
}

static void assert_positions(struct link *l, uint64_t received, uint64_t sent) {
    struct stream_positions p = positions(l);
    assert_int_equal(p.received, received);
    assert_int_equal(p.sent, sent);
}

static void positions_count_what_was_taken_and_given(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    if (!(m->streams.ops->caps & STREAM_CAP_POSITIONS))
        skip();
    struct link l = link_open(m, "127.0.0.1:0");
    assert_positions(&l, 0, 0);
    peer_gives(&l, 1, 1000);
    stream_wait_for(m, l.fd, STREAM_READABLE);
    assert_positions(&l, 0, 0); /* come, but not taken */
    link_takes(&l, 1, 300);
    assert_positions(&l, 300, 0);
    link_gives(&l, 2, 500);
    assert_positions(&l, 300, 500);
    peer_takes(&l, 2, 500);
    assert_positions(&l, 300, 500);
    link_takes(&l, 1, 700);
    assert_positions(&l, 1000, 500);
    l.peers->end_sending(m, l.peer);
    assert_int_equal(link_receive(&l, b, sizeof b), 0);
    assert_positions(&l, 1000, 500);
    link_gives(&l, 2, 100);
    peer_takes(&l, 2, 100);
    assert_positions(&l, 1000, 600);
    link_close(&l);
}

static void the_end_is_no_position(void **state) {
    struct machine *m = *state;
    unsigned char b[10];
    if (!(m->streams.ops->caps & STREAM_CAP_POSITIONS))
        skip();
    struct link l = link_open(m, "127.0.0.1:0");
    peer_gives(&l, 1, 10);
    l.peers->end_sending(m, l.peer); /* unread bytes before it */
    link_takes(&l, 1, 4);
    assert_positions(&l, 4, 0);
    link_takes(&l, 1, 6);
    assert_int_equal(link_receive(&l, b, sizeof b), 0);
    assert_positions(&l, 10, 0);
    link_close(&l);
    l = link_open(m, "127.0.0.1:0");
    link_gives(&l, 1, 10);
    STREAM(m, end_sending, l.fd);
    assert_positions(&l, 0, 10);
    peer_takes(&l, 1, 10);
    assert_int_equal(peer_receive(&l, b, sizeof b), 0);
    assert_positions(&l, 0, 10);
    peer_gives(&l, 2, 20);
    link_takes(&l, 2, 20);
    assert_positions(&l, 20, 10);
    peer_gives(&l, 2, 5);
    l.peers->end_sending(m, l.peer);
    link_takes(&l, 2, 5);
    assert_int_equal(link_receive(&l, b, sizeof b), 0);
    struct stream_positions p;
    int err = STREAM(m, positions, l.fd, &p); /* both have ended: right, or none */
    assert_true(err == ERR_CLOSED || (err == 0 && p.received == 25 && p.sent == 10));
    link_close(&l);
}

static void what_has_no_positions_says_so(void **state) {
    struct machine *m = *state;
    struct stream_positions p;
    int tcp = m->streams.ops->caps & STREAM_CAP_POSITIONS ? 0 : ERR_UNSUPPORTED;
    EACH_ADDRESS(m, l) {
        assert_int_equal(STREAM(m, positions, l.fd, &p),
                         stream_is_tcp(l.bound) ? tcp : ERR_UNSUPPORTED);
    }
}

const struct CMUnitTest conformance_stream_tests[] = {
    CONFORMANCE_TEST(all_bytes_come_back_in_order),
    CONFORMANCE_TEST(vectors_are_gathered_and_scattered),
    CONFORMANCE_TEST(a_full_stream_takes_no_more),
    CONFORMANCE_TEST(nothing_is_there_before_it_comes),
    CONFORMANCE_TEST(the_peer_ends_its_side),
    CONFORMANCE_TEST(we_end_our_side),
    CONFORMANCE_TEST(an_end_is_the_end_of_both),
    CONFORMANCE_TEST(a_closed_stream_ends_at_the_peer),
    CONFORMANCE_TEST(closing_upon_unread_bytes_is_a_reset),
    CONFORMANCE_TEST(a_reset_is_told),
    CONFORMANCE_TEST(a_receive_tells_of_a_reset),
    CONFORMANCE_TEST(positions_count_what_was_taken_and_given),
    CONFORMANCE_TEST(the_end_is_no_position),
    CONFORMANCE_TEST(what_has_no_positions_says_so),
};
const size_t conformance_stream_count =
    sizeof conformance_stream_tests / sizeof conformance_stream_tests[0];
