/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets with poll(). The wait is private memory: an array for poll(), and per descriptor its place in
 * that array. Each wait begins after the last descriptor that was told, so that none is passed over.
 *
 *   at[fd]  place + 1, or 0         polls[place], tags[place]: dense; removal moves the last one
 *
 * The machine tells no positions. A socket's identity is its file number, which another socket that gets the
 * same descriptor does not have. A system that gives all sockets the file number 0 cannot tell them apart.
 *
 * accept() and socket() set close-on-exec in a second call: nobody may exec from another thread.
 */
#include "plat/posix/posix.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/units.h"
#include "plat/posix/socket.h"

#define VECS_MAX 16 /* what every POSIX system takes in one call (_XOPEN_IOV_MAX) */

_Static_assert(sizeof(struct io_vec) == sizeof(struct iovec), "io_vec is an iovec");
_Static_assert(offsetof(struct io_vec, bytes) == offsetof(struct iovec, iov_len),
               "io_vec is an iovec");

struct posix_streams {
    struct pollfd *polls;
    uint64_t *tags;
    uint32_t count, room, cursor;
    uint32_t *at;
    uint32_t at_room;
};

struct posix_streams *posix_streams_open(void) {
    return calloc(1, sizeof(struct posix_streams));
}

void posix_streams_close(struct posix_streams *s) {
    free(s->polls);
    free(s->tags);
    free(s->at);
    free(s);
}

static int stream_accept(void *ctx, int listener, uint32_t flags, char peer[STREAM_ADDRESS_BYTES]) {
    struct sockaddr_storage ss = {0};
    socklen_t len = sizeof ss;
    int fd = accept(listener, (void *)&ss, &len);
    if (fd < 0) /* a connection that died in the backlog is nobody */
        return errno == ECONNABORTED ? ERR_AGAIN : posix_socket_err(errno);
    if (posix_socket_set(fd, flags) < 0) {
        close(fd);
        return ERR_NOMEM;
    }
    if (ss.ss_family != AF_UNIX)
        posix_socket_set_tcp(fd);
    posix_address_text(&ss, peer);
    return fd;
}

static struct msghdr message_of(const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)vecs};
    m.msg_iovlen = vec_count < VECS_MAX ? vec_count : VECS_MAX;
    return m;
}

static int64_t stream_receive(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = message_of(vecs, vec_count);
    ssize_t n = recvmsg(fd, &m, 0);
    return n < 0 ? posix_socket_err(errno) : n;
}

static int64_t stream_send(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count) {
    struct msghdr m = message_of(vecs, vec_count);
    ssize_t n = sendmsg(fd, &m, MSG_NOSIGNAL);
    return n < 0 ? posix_socket_err(errno) : n;
}

static int stream_positions(void *ctx, int fd, struct stream_positions *p) {
    return ERR_UNSUPPORTED;
}

static uint64_t stream_identity(void *ctx, int fd) {
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return 0;
    uint64_t id = hash_pair((uint64_t)st.st_dev, (uint64_t)st.st_ino);
    return id ? id : 1;
}

static void stream_end(void *ctx, int fd) {
    shutdown(fd, SHUT_RDWR);
}

static void stream_end_sending(void *ctx, int fd) {
    shutdown(fd, SHUT_WR);
}

static short poll_events(uint32_t events) {
    return (short)((events & STREAM_READABLE ? POLLIN : 0) |
                   (events & STREAM_WRITABLE ? POLLOUT : 0));
}

/* Its place, or -1. */
static int64_t place_of(const struct posix_streams *s, int fd) {
    return fd >= 0 && (uint32_t)fd < s->at_room ? (int64_t)s->at[fd] - 1 : -1;
}

static int make_room(struct posix_streams *s, int fd) {
    if ((uint32_t)fd >= s->at_room) {
        uint32_t room = (uint32_t)max_u64(2 * (uint64_t)s->at_room, (uint64_t)fd + 64);
        uint32_t *at = realloc(s->at, room * sizeof *at);
        if (!at)
            return ERR_NOMEM;
        memset(at + s->at_room, 0, (room - s->at_room) * sizeof *at);
        s->at = at;
        s->at_room = room;
    }
    if (s->count == s->room) {
        uint32_t room = s->room ? 2 * s->room : 64;
        struct pollfd *polls = realloc(s->polls, room * sizeof *polls);
        if (polls)
            s->polls = polls;
        uint64_t *tags = polls ? realloc(s->tags, room * sizeof *tags) : NULL;
        if (!tags)
            return ERR_NOMEM;
        s->tags = tags;
        s->room = room;
    }
    return 0;
}

static int stream_watch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    struct posix_streams *s = ctx;
    if (fd < 0)
        return ERR_INVAL;
    if (place_of(s, fd) >= 0)
        return ERR_EXISTS;
    if (make_room(s, fd) < 0)
        return ERR_NOMEM;
    s->polls[s->count] = (struct pollfd){.fd = fd, .events = poll_events(events)};
    s->tags[s->count] = tag;
    s->at[fd] = ++s->count;
    return 0;
}

static int stream_rewatch(void *ctx, int fd, uint64_t tag, uint32_t events) {
    struct posix_streams *s = ctx;
    int64_t place = place_of(s, fd);
    if (place < 0)
        return ERR_NOTFOUND;
    s->polls[place].events = poll_events(events);
    s->tags[place] = tag;
    return 0;
}

static void stream_unwatch(void *ctx, int fd) {
    struct posix_streams *s = ctx;
    int64_t place = place_of(s, fd);
    if (place < 0)
        return;
    uint32_t last = --s->count;
    s->polls[place] = s->polls[last];
    s->tags[place] = s->tags[last];
    s->at[s->polls[place].fd] = (uint32_t)place + 1;
    s->at[fd] = 0;
}

static void stream_close(void *ctx, int fd) {
    stream_unwatch(ctx, fd);
    close(fd);
}

static int stream_wait(void *ctx, struct stream_event *events, int max, uint64_t timeout_ns) {
    struct posix_streams *s = ctx;
    uint64_t ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);
    int n = 0;
    if (poll(s->polls, s->count, timeout_ns == UINT64_MAX ? -1 : (int)min_u64(ms, INT_MAX)) <= 0)
        return 0;
    uint32_t first = s->cursor < s->count ? s->cursor : 0;
    for (uint32_t i = 0; i < s->count && n < max; i++) {
        uint32_t place = first + i < s->count ? first + i : first + i - s->count;
        short got = s->polls[place].revents;
        uint32_t told = (got & (POLLIN | POLLHUP | POLLERR) ? STREAM_READABLE : 0) |
                        (got & (POLLOUT | POLLERR) ? STREAM_WRITABLE : 0);
        if (!told)
            continue;
        events[n++] = (struct stream_event){s->tags[place], told};
        s->cursor = place + 1;
    }
    return n;
}

static const struct stream_ops stream_ops = {
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

struct streams posix_streams(struct posix_streams *s) {
    return (struct streams){&stream_ops, s};
}
