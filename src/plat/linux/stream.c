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

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"

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

static int err_of_errno(int e) {
    switch (e) {
    case EAGAIN:
    case EINTR:
        return ERR_AGAIN;
    case EADDRINUSE:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_PERM;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return ERR_NOMEM;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EINVAL:
        return ERR_INVAL;
    default:
        return ERR_CLOSED;
    }
}

/* Splits "host:port", "[v6]:port" or "unix:path" into a socket address. */
static int parse_address(const char *text, struct sockaddr_storage *ss, socklen_t *len) {
    char host[80];
    memset(ss, 0, sizeof *ss);
    if (strncmp(text, "unix:", 5) == 0) {
        struct sockaddr_un *un = (void *)ss;
        if (strlen(text + 5) >= sizeof un->sun_path || !text[5])
            return ERR_INVAL;
        un->sun_family = AF_UNIX;
        strcpy(un->sun_path, text + 5);
        *len = sizeof *un;
        return 0;
    }
    const char *colon = strrchr(text, ':');
    if (!colon)
        return ERR_INVAL;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    size_t n = (size_t)(colon - text);
    if (*end || end == colon + 1 || port < 0 || port > 65535 || n >= sizeof host)
        return ERR_INVAL;
    int v6 = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(v6 ? n - 2 : n), text + v6);
    struct sockaddr_in *in = (void *)ss;
    struct sockaddr_in6 *in6 = (void *)ss;
    if (!v6 && inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        *len = sizeof *in;
        return 0;
    }
    if (v6 && inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        *len = sizeof *in6;
        return 0;
    }
    return ERR_INVAL;
}

static void address_text(const struct sockaddr_storage *ss, char out[STREAM_ADDRESS_BYTES]) {
    char host[64] = "";
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)ss;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, STREAM_ADDRESS_BYTES, "%s:%u", host, ntohs(in->sin_port));
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)ss;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(out, STREAM_ADDRESS_BYTES, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else if (ss->ss_family == AF_UNIX) {
        const struct sockaddr_un *un = (const void *)ss;
        snprintf(out, STREAM_ADDRESS_BYTES, "unix:%.*s", (int)sizeof un->sun_path - 1,
                 un->sun_path);
    } else {
        snprintf(out, STREAM_ADDRESS_BYTES, "unknown");
    }
}

/* A socket file that nobody listens on is left over from a dead server and is replaced. */
static void remove_stale(const struct sockaddr_storage *ss, socklen_t len) {
    const struct sockaddr_un *un = (const void *)ss;
    struct stat st;
    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const void *)ss, len) < 0 && errno == ECONNREFUSED)
        unlink(un->sun_path);
    close(fd);
}

static int stream_listen(void *ctx, const char *address, uint32_t flags,
                         char bound[STREAM_ADDRESS_BYTES]) {
    struct sockaddr_storage ss;
    socklen_t len;
    int one = 1;
    int err = parse_address(address, &ss, &len);
    if (err < 0)
        return err;
    int fd = socket(ss.ss_family,
                    SOCK_STREAM | SOCK_NONBLOCK | (flags & STREAM_PRESERVED ? 0 : SOCK_CLOEXEC), 0);
    if (fd < 0)
        return err_of_errno(errno);
    mode_t mask = umask(0177);
    struct sockaddr_un *un = (void *)&ss;
    char final[sizeof un->sun_path] = "";
    if (ss.ss_family == AF_UNIX && flags & STREAM_REPLACE) {
        memcpy(final, un->sun_path, sizeof final);
        if (strlen(final) + 5 > sizeof final) {
            close(fd);
            umask(mask);
            return ERR_INVAL;
        }
        strcat(un->sun_path, ".new");
        unlink(un->sun_path);
    } else if (ss.ss_family == AF_UNIX) {
        remove_stale(&ss, len);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
        if (ss.ss_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    }
    err = bind(fd, (void *)&ss, len) < 0 || listen(fd, 4096) < 0 ? err_of_errno(errno) : 0;
    if (err == 0 && final[0] && rename(un->sun_path, final) < 0)
        err = ERR_PERM;
    umask(mask);
    if (err < 0) {
        close(fd);
        return err == ERR_CLOSED ? ERR_INVAL : err;
    }
    if (final[0]) {
        memcpy(un->sun_path, final, sizeof final);
    } else {
        len = sizeof ss;
        getsockname(fd, (void *)&ss, &len);
    }
    address_text(&ss, bound);
    return fd;
}

static int stream_accept(void *ctx, int listener, uint32_t flags, char peer[STREAM_ADDRESS_BYTES]) {
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    int fd = accept4(listener, (void *)&ss, &len,
                     SOCK_NONBLOCK | (flags & STREAM_PRESERVED ? 0 : SOCK_CLOEXEC));
    if (fd < 0) /* a connection that died in the backlog is nobody */
        return errno == ECONNABORTED ? ERR_AGAIN : err_of_errno(errno);
    address_text(&ss, peer);
    return fd;
}

static int64_t stream_receive(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)vecs, .msg_iovlen = vec_count};
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT);
    return n < 0 ? err_of_errno(errno) : n;
}

static int64_t stream_send(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)vecs, .msg_iovlen = vec_count};
    ssize_t n = sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n < 0 ? err_of_errno(errno) : n;
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
    .listen = stream_listen,
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
