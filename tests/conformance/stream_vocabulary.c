/* SPDX-License-Identifier: Apache-2.0 */
#include "stream_vocabulary.h"

#include <string.h>

#include "base/err.h"

#define WAITS_MAX 10000

int stream_is_tcp(const char *address) {
    return strncmp(address, "unix:", 5) != 0;
}

static int has_ipv6(struct machine *m) {
    char bound[STREAM_ADDRESS_BYTES];
    int fd = STREAM(m, listen, "[::1]:0", 0, bound);
    if (fd >= 0)
        STREAM(m, close, fd);
    return fd >= 0;
}

const char *stream_address(struct machine *m, int n) {
    const char *all[] = {"127.0.0.1:0", m->unix_address, has_ipv6(m) ? "[::1]:0" : NULL, NULL};
    return all[n];
}

int stream_listen_at(struct machine *m, const char *address, uint32_t flags,
                     char bound[STREAM_ADDRESS_BYTES]) {
    int fd = STREAM(m, listen, address, flags, bound);
    assert_true(fd >= 0);
    return fd;
}

void stream_wait_for(struct machine *m, int fd, uint32_t events) {
    struct stream_event e;
    assert_int_equal(STREAM(m, watch, fd, 4711, events), 0);
    int n = 0;
    for (int i = 0; n == 0; i++) {
        assert_true(i < WAITS_MAX);
        n = STREAM(m, wait, &e, 1, UINT64_MAX);
    }
    assert_int_equal(n, 1);
    assert_int_equal(e.tag, 4711);
    STREAM(m, unwatch, fd);
}

int stream_accept_from(struct machine *m, int listener) {
    char peer[STREAM_ADDRESS_BYTES] = "";
    int fd;
    while ((fd = STREAM(m, accept, listener, 0, peer)) == ERR_AGAIN)
        stream_wait_for(m, listener, STREAM_READABLE);
    assert_true(fd >= 0);
    assert_true(strchr(peer, ':') != NULL);
    return fd;
}

struct link link_open(struct machine *m, const char *address) {
    struct link l = {.m = m, .peers = m->host->peers};
    l.listener = stream_listen_at(m, address, 0, l.bound);
    l.peer = l.peers->connect(m, l.bound);
    assert_true(l.peer >= 0);
    l.fd = stream_accept_from(m, l.listener);
    return l;
}

void link_close(struct link *l) {
    if (l->fd >= 0)
        STREAM(l->m, close, l->fd);
    if (l->peer >= 0)
        l->peers->close(l->m, l->peer);
    STREAM(l->m, close, l->listener);
}

int64_t link_try_receive(struct link *l, void *to, size_t bytes) {
    struct io_vec v = {to, bytes};
    return STREAM(l->m, receive, l->fd, &v, 1);
}

int64_t link_try_send(struct link *l, const void *from, size_t bytes) {
    struct io_vec v = {(void *)(uintptr_t)from, bytes};
    return STREAM(l->m, send, l->fd, &v, 1);
}

int64_t link_receive(struct link *l, void *to, size_t bytes) {
    int64_t n;
    while ((n = link_try_receive(l, to, bytes)) == ERR_AGAIN)
        stream_wait_for(l->m, l->fd, STREAM_READABLE);
    return n;
}

int64_t peer_receive(struct link *l, void *to, size_t bytes) {
    int64_t n;
    while ((n = l->peers->receive(l->m, l->peer, to, bytes)) == ERR_AGAIN)
        l->peers->wait(l->m, l->peer, STREAM_READABLE);
    return n;
}

void link_gives(struct link *l, int value, size_t bytes) {
    unsigned char b[BUFFERED];
    assert_true(bytes <= sizeof b);
    memset(b, value, sizeof b);
    while (bytes > 0) {
        int64_t n = link_try_send(l, b, bytes);
        if (n == ERR_AGAIN) {
            stream_wait_for(l->m, l->fd, STREAM_WRITABLE);
            continue;
        }
        assert_true(n > 0 && (size_t)n <= bytes);
        bytes -= (size_t)n;
    }
}

void peer_gives(struct link *l, int value, size_t bytes) {
    unsigned char b[BUFFERED];
    assert_true(bytes <= sizeof b);
    memset(b, value, sizeof b);
    while (bytes > 0) {
        int64_t n = l->peers->send(l->m, l->peer, b, bytes);
        if (n == ERR_AGAIN) {
            l->peers->wait(l->m, l->peer, STREAM_WRITABLE);
            continue;
        }
        assert_true(n > 0 && (size_t)n <= bytes);
        bytes -= (size_t)n;
    }
}

static void takes(struct link *l, int value, size_t bytes,
                  int64_t (*receive)(struct link *, void *, size_t)) {
    while (bytes > 0) {
        unsigned char b[BUFFERED];
        int64_t n = receive(l, b, bytes < sizeof b ? bytes : sizeof b);
        assert_true(n > 0 && (size_t)n <= bytes);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(b[i], value);
        bytes -= (size_t)n;
    }
}

void link_takes(struct link *l, int value, size_t bytes) {
    takes(l, value, bytes, link_receive);
}

void peer_takes(struct link *l, int value, size_t bytes) {
    takes(l, value, bytes, peer_receive);
}
