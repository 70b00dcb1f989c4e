/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel sockets. Only synchronous, non-blocking recvmsg and sendmsg touch preserved sockets, so that the
 * kernel's counters tell what was taken and given (design/arena.md, kernel sockets):
 *
 *   received = tcpi_bytes_received - SIOCINQ, less one for a FIN received
 *   sent     = tcpi_bytes_acked + SIOCOUTQ, less one for a FIN sent
 *
 * The calls race with traffic, so TCP_INFO is read before and after until both agree. Urgent data stay in
 * line (SO_OOBINLINE), else one urgent byte would not be counted where it lies. TCP Fast Open stays off.
 */
#include "plat/linux/linux.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "plat/posix/socket.h"

struct linux_streams {
    int epoll;
};

_Static_assert(sizeof(struct io_vec) == sizeof(struct iovec), "io_vec is an iovec");
_Static_assert(offsetof(struct io_vec, bytes) == offsetof(struct iovec, iov_len),
               "io_vec is an iovec");

struct linux_streams *linux_streams_open(int epoll) {
    struct linux_streams *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->epoll = epoll >= 0 ? epoll : epoll_create1(0);
    if (s->epoll < 0) {
        free(s);
        return NULL;
    }
    return s;
}

int linux_streams_descriptor(const struct linux_streams *s) {
    return s->epoll;
}

void linux_streams_close(struct linux_streams *s) {
    free(s);
}

static int stream_accept(void *ctx, int listener, uint32_t flags, char peer[STREAM_ADDRESS_BYTES]) {
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    int fd = accept4(listener, (void *)&ss, &len,
                     SOCK_NONBLOCK | (flags & STREAM_PRESERVED ? 0 : SOCK_CLOEXEC));
    if (fd < 0) /* a connection that died in the backlog is nobody */
        return errno == ECONNABORTED ? ERR_AGAIN : posix_socket_err(errno);
    posix_address_text(&ss, peer);
    return fd;
}

static int64_t stream_receive(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)vecs, .msg_iovlen = vec_count};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    return n < 0 ? posix_socket_err(errno) : n;
}

static int64_t stream_send(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)vecs, .msg_iovlen = vec_count};
    ssize_t n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? posix_socket_err(errno) : n;
}

static int tcp_counters(int fd, struct tcp_info *ti) {
    socklen_t len = sizeof *ti;
    memset(ti, 0, sizeof *ti);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, ti, &len) < 0)
        return ERR_UNSUPPORTED;
    return len >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof ti->tcpi_bytes_received
               ? 0
               : ERR_UNSUPPORTED;
}

/* Numbers of the kernel's interface (tcp_states.h), whose header clashes with the one that has the
 * counters. */
enum tcp_state {
    STATE_FIN_WAIT1 = 4,
    STATE_FIN_WAIT2 = 5,
    STATE_TIME_WAIT = 6,
    STATE_CLOSE = 7,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_CLOSING = 11,
};

/* Whether the peer's FIN has been counted, and whether ours has. */
static int fin_received(uint8_t state) {
    return state == STATE_TIME_WAIT || state == STATE_CLOSE_WAIT || state == STATE_LAST_ACK ||
           state == STATE_CLOSING;
}
static int fin_sent(uint8_t state) {
    return state == STATE_FIN_WAIT1 || state == STATE_FIN_WAIT2 || state == STATE_TIME_WAIT ||
           state == STATE_LAST_ACK || state == STATE_CLOSING;
}

static int stream_positions(void *ctx, int fd, struct stream_positions *p) {
    struct tcp_info before, after;
    int in, out;
    int err = tcp_counters(fd, &before);
    for (int attempt = 0; err == 0 && attempt < 1000; attempt++) {
        if (ioctl(fd, SIOCINQ, &in) < 0 || ioctl(fd, SIOCOUTQ, &out) < 0)
            return ERR_UNSUPPORTED;
        err = tcp_counters(fd, &after);
        if (err == 0 && before.tcpi_bytes_received == after.tcpi_bytes_received &&
            before.tcpi_bytes_acked == after.tcpi_bytes_acked &&
            before.tcpi_state == after.tcpi_state) {
            if (after.tcpi_state == STATE_CLOSE) /* which FINs were counted is no longer known */
                return ERR_CLOSED;
            p->received =
                after.tcpi_bytes_received - (uint64_t)in - (uint64_t)fin_received(after.tcpi_state);
            p->sent = after.tcpi_bytes_acked + (uint64_t)out - (uint64_t)fin_sent(after.tcpi_state);
            return 0;
        }
        before = after;
    }
    return err < 0 ? err : ERR_AGAIN;
}

static uint64_t stream_identity(void *ctx, int fd) {
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0 ? 0 : cookie;
}

static void stream_end(void *ctx, int fd) {
    shutdown(fd, SHUT_RDWR);
}

static void stream_end_sending(void *ctx, int fd) {
    shutdown(fd, SHUT_WR);
}

static void stream_close(void *ctx, int fd) {
    close(fd);
}

static int control(void *ctx, int op, int fd, uint64_t tag, uint32_t events) {
    struct linux_streams *s = ctx;
    struct epoll_event e = {.data.u64 = tag};
    if (events & STREAM_READABLE)
        e.events |= EPOLLIN;
    if (events & STREAM_WRITABLE)
        e.events |= EPOLLOUT;
    if (epoll_ctl(s->epoll, op, fd, &e) == 0)
        return 0;
    return errno == EEXIST   ? ERR_EXISTS
           : errno == ENOENT ? ERR_NOTFOUND
           : errno == EBADF  ? ERR_INVAL
                             : ERR_NOMEM;
}

static int stream_watch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    return control(ctx, EPOLL_CTL_ADD, fd, tag, events);
}

static int stream_rewatch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    return control(ctx, EPOLL_CTL_MOD, fd, tag, events);
}

static void stream_unwatch(void *ctx, int fd) {
    control(ctx, EPOLL_CTL_DEL, fd, 0, 0);
}

static int stream_wait(void *ctx, struct stream_event *events, int max, uint64_t timeout_ns) {
    struct linux_streams *s = ctx;
    struct epoll_event e[256];
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                          .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int n = epoll_pwait2(s->epoll, e, max < 256 ? max : 256, timeout_ns == UINT64_MAX ? NULL : &ts,
                         NULL);
    for (int i = 0; i < n; i++) {
        events[i].tag = e[i].data.u64;
        events[i].events = (e[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? STREAM_READABLE : 0) |
                           (e[i].events & (EPOLLOUT | EPOLLERR) ? STREAM_WRITABLE : 0);
    }
    return n < 0 ? 0 : n;
}

const struct stream_ops linux_stream_ops = {
    .caps = STREAM_CAP_POSITIONS | STREAM_CAP_WAIT_KEPT,
    .listen = posix_socket_listen,
    .accept = stream_accept,
    .receive = stream_receive,
    .send = stream_send,
    .positions = stream_positions,
    .identity = stream_identity,
    .end = stream_end,
    .end_sending = stream_end_sending,
    .close = stream_close,
    .watch = stream_watch,
    .rewatch = stream_rewatch,
    .unwatch = stream_unwatch,
    .wait = stream_wait,
};
