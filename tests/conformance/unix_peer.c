/* SPDX-License-Identifier: Apache-2.0 */
/* Clients over kernel sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "unix_host.h"

static socklen_t address_of(const char *text, struct sockaddr_storage *ss) {
    struct sockaddr_un *un = (void *)ss;
    struct sockaddr_in *in = (void *)ss;
    struct sockaddr_in6 *in6 = (void *)ss;
    memset(ss, 0, sizeof *ss);
    if (strncmp(text, "unix:", 5) == 0) {
        un->sun_family = AF_UNIX;
        strncpy(un->sun_path, text + 5, sizeof un->sun_path - 1);
        return sizeof *un;
    }
    in_port_t port = htons((uint16_t)atoi(strrchr(text, ':') + 1));
    if (text[0] == '[') {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = port;
        in6->sin6_addr = in6addr_loopback;
        return sizeof *in6;
    }
    in->sin_family = AF_INET;
    in->sin_port = port;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sizeof *in;
}

static int peer_connect(struct machine *m, const char *address) {
    struct sockaddr_storage ss;
    socklen_t len = address_of(address, &ss);
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&ss, len) < 0) {
        assert_true(errno == ECONNREFUSED || errno == ENOENT);
        close(fd);
        return ERR_CLOSED;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static int64_t result(ssize_t n) {
    if (n >= 0)
        return n;
    assert_true(errno == EAGAIN || errno == ECONNRESET || errno == EPIPE);
    return errno == EAGAIN ? ERR_AGAIN : ERR_CLOSED;
}

static int64_t peer_send(struct machine *m, int peer, const void *from, size_t bytes) {
    return result(send(peer, from, bytes, MSG_NOSIGNAL));
}

static int64_t peer_receive(struct machine *m, int peer, void *to, size_t bytes) {
    return result(recv(peer, to, bytes, 0));
}

static void peer_end_sending(struct machine *m, int peer) {
    shutdown(peer, SHUT_WR);
}

static void peer_close(struct machine *m, int peer) {
    close(peer);
}

static void peer_reset(struct machine *m, int peer) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(peer);
}

static void peer_wait(struct machine *m, int peer, uint32_t events) {
    struct pollfd p = {.fd = peer,
                       .events = (short)((events & STREAM_READABLE ? POLLIN : 0) |
                                         (events & STREAM_WRITABLE ? POLLOUT : 0))};
    assert_int_equal(poll(&p, 1, -1), 1);
}

const struct peer_ops unix_peers = {peer_connect, peer_send,  peer_receive, peer_end_sending,
                                    peer_reset,   peer_close, peer_wait};
