/* SPDX-License-Identifier: Apache-2.0 */
#include "plat/posix/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"

#define BACKLOG 4096

int posix_socket_err(int e) {
    if (e == EAGAIN || e == EWOULDBLOCK || e == EINTR)
        return ERR_AGAIN;
    switch (e) {
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
    default:
        return ERR_CLOSED;
    }
}

int posix_socket_set(int fd, uint32_t flags) {
    int status = fcntl(fd, F_GETFL);
    return status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0 ||
                   fcntl(fd, F_SETFD, flags & STREAM_PRESERVED ? 0 : FD_CLOEXEC) < 0
               ? ERR_NOMEM
               : 0;
}

void posix_socket_set_tcp(int fd) {
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* A socket file that nobody listens on is left over from a dead server and is replaced. */
static void remove_stale(const struct sockaddr_storage *ss, socklen_t len) {
    const struct sockaddr_un *un = (const void *)ss;
    struct stat st;
    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        return;
    if (posix_socket_set(fd, 0) == 0 && connect(fd, (const void *)ss, len) < 0 &&
        errno == ECONNREFUSED)
        unlink(un->sun_path);
    close(fd);
}

static int bind_and_listen(int fd, struct sockaddr_storage *ss, socklen_t len) {
    return bind(fd, (void *)ss, len) < 0 || listen(fd, BACKLOG) < 0 ? posix_socket_err(errno) : 0;
}

/* Made under another name and renamed: at no moment does nobody listen. Sockets are the owner's only. */
static int listen_unix(int fd, struct sockaddr_storage *ss, socklen_t len, uint32_t flags) {
    struct sockaddr_un *un = (void *)ss;
    char final[sizeof un->sun_path];
    mode_t mask = umask(0177);
    int err;
    if (flags & STREAM_REPLACE) {
        size_t n = strlen(un->sun_path);
        err = ERR_INVAL;
        if (n + sizeof ".new" <= sizeof un->sun_path) {
            memcpy(final, un->sun_path, n + 1);
            memcpy(un->sun_path + n, ".new", sizeof ".new");
            unlink(un->sun_path);
            err = bind_and_listen(fd, ss, len);
            if (err == 0 && rename(un->sun_path, final) < 0)
                err = ERR_PERM;
            if (err < 0)
                unlink(un->sun_path);
            memcpy(un->sun_path, final, n + 1);
        }
    } else {
        remove_stale(ss, len);
        err = bind_and_listen(fd, ss, len);
    }
    umask(mask);
    return err;
}

static int listen_tcp(int fd, struct sockaddr_storage *ss, socklen_t len) {
    int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    posix_socket_set_tcp(fd);
    if (ss->ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    int err = bind_and_listen(fd, ss, len);
    len = sizeof *ss;
    return err == 0 && getsockname(fd, (void *)ss, &len) < 0 ? ERR_INVAL : err;
}

int posix_socket_listen(void *ctx, const char *address, uint32_t flags,
                        char bound[STREAM_ADDRESS_BYTES]) {
    struct sockaddr_storage ss;
    socklen_t len;
    int err = posix_address_parse(address, &ss, &len);
    if (err < 0)
        return err;
    int fd = socket(ss.ss_family, SOCK_STREAM, 0);
    if (fd < 0)
        return errno == EAFNOSUPPORT ? ERR_INVAL : posix_socket_err(errno);
    err = posix_socket_set(fd, flags);
    if (err == 0)
        err = ss.ss_family == AF_UNIX ? listen_unix(fd, &ss, len, flags) : listen_tcp(fd, &ss, len);
    if (err < 0) {
        close(fd);
        return err == ERR_CLOSED ? ERR_INVAL : err;
    }
    posix_address_text(&ss, bound);
    return fd;
}
