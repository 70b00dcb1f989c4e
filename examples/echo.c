/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line-echo server of libperdure-persist: whole lines come back, and "version" is answered with the program's.
 *
 *     echo ADDRESS        127.0.0.1:PORT, unix:/PATH, or fifo:/IN:/OUT (two named pipes)
 *
 * SIGHUP replaces it by the program that now has its name; SIGTERM stops it. Each engine writes a line
 * "serving GENERATION PID VERSION PORT cold|planned|crash lost N" to stderr.
 */
#include <perdure/persist.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "1"
#endif
#define ROOM 16384

/* Root 0: what the next program has to know. */
struct state {
    uint32_t listener; /* or a pair of pipes */
    uint32_t in, out;
};

static int epoll;

static void watch(struct perdure *p, uint32_t handle, uint32_t in, uint32_t out) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                            .data.u64 = (uint64_t)in << 32 | out};
    epoll_ctl(epoll, EPOLL_CTL_ADD, perdure_reconnect_socket(p, handle, -1), &e);
}

/* One turn: what it takes and what it answers happen together, or not at all. How many bytes. */
static size_t answer(struct perdure *p, uint32_t in, uint32_t out, int ended) {
    char buf[ROOM];
    size_t n = perdure_peek(p, in, buf, sizeof buf), room = perdure_output_room(p, out);
    const char *reply = buf;
    char *end = memrchr(buf, '\n', n);
    if (end)
        n = (size_t)(end - buf) + 1;
    else if (!ended && n < sizeof buf)
        return 0;
    size_t length = n < room ? n : room;
    n = length;
    if (length >= 8 && memcmp(buf, "version\n", 8) == 0) {
        reply = VERSION "\n";
        length = strlen(reply);
        n = 8;
    }
    if (n == 0)
        return 0;
    perdure_begin(p);
    if (perdure_take(p, in, n) < 0 || perdure_put(p, out, reply, length) < 0) {
        perdure_undo(p);
        return 0;
    }
    perdure_commit(p);
    return n;
}

static void serve_stream(struct perdure *p, uint32_t in, uint32_t out) {
    for (;;) {
        int64_t came = perdure_receive(p, in);
        size_t done = answer(p, in, out, came == 0);
        int sent = perdure_send(p, out);
        if (came == -EPIPE || sent == -EPIPE || (came == 0 && done == 0 && sent == 0)) {
            perdure_close(p, in);
            if (out != in)
                perdure_close(p, out);
            return;
        }
        if (came <= 0 && done == 0)
            return; /* more comes, or more room */
    }
}

static void take_stream(struct perdure *p, uint32_t handle) {
    if (!perdure_is_stream(p, handle) && perdure_stream(p, handle, ROOM, ROOM) < 0)
        perdure_close(p, handle);
    else
        watch(p, handle, handle, handle);
}

static void accept_all(struct perdure *p, uint32_t listener) {
    uint32_t handle;
    while (listener && perdure_accept(p, listener, &handle) >= 0)
        take_stream(p, handle);
}

static int listen_on(const char *address) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int local = strncmp(address, "unix:", 5) == 0, one = 1;
    const char *port = strrchr(address, ':');
    snprintf(un.sun_path, sizeof un.sun_path, "%s", address + 5 * local);
    in.sin_port = htons((uint16_t)(port ? atoi(port + 1) : 0));
    int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (local)
        unlink(un.sun_path);
    if (bind(fd, local ? (void *)&un : (void *)&in, local ? sizeof un : sizeof in) < 0 ||
        listen(fd, 1024) < 0)
        return -1;
    return fd;
}

/* Read and write, so that a pipe has no end while nobody holds the other side. */
static int open_pipes(struct perdure *p, struct state *s, char *paths) {
    char *second = strchr(paths, ':');
    if (!second)
        return -EINVAL;
    *second++ = 0;
    int fds[2] = {open(paths, O_RDWR), open(second, O_RDWR)};
    if (perdure_preserve_sockets(p, fds, 2) < 0)
        return -EINVAL;
    s->in = perdure_socket_handle(p, fds[0]);
    s->out = perdure_socket_handle(p, fds[1]);
    int err = perdure_stream(p, s->in, ROOM, 0);
    return err < 0 ? err : perdure_stream(p, s->out, 0, ROOM);
}

/* The first program of all: one turn makes everything. */
static int begin(struct perdure *p, char *address) {
    perdure_begin(p);
    struct state *s = perdure_alloc(p, sizeof *s);
    int err = s ? perdure_set_root(p, 0, s) : -ENOMEM;
    if (err == 0 && strncmp(address, "fifo:", 5) == 0) {
        err = open_pipes(p, s, address + 5);
    } else if (err == 0) {
        int fd = listen_on(address);
        err = fd < 0 ? -errno : perdure_preserve_socket(p, fd);
        s->listener = perdure_socket_handle(p, fd);
    }
    perdure_commit(p);
    return err;
}

static int run(struct perdure *p, int argc, char **argv) {
    static const char *const starts[] = {"cold", "planned", "crash"};
    struct sockaddr_in bound = {0};
    socklen_t len = sizeof bound;
    struct epoll_event e = {.events = EPOLLIN};
    if (argc < 2 || (perdure_started(p) == PERDURE_COLD && begin(p, argv[1]) < 0)) {
        fprintf(stderr, "usage: echo ADDRESS\n");
        return 2;
    }
    const struct state *s = perdure_root(p, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(epoll, EPOLL_CTL_ADD, perdure_fd(p), &e);
    if (s->listener)
        watch(p, s->listener, s->listener, 0);
    for (uint32_t h = perdure_next_handle(p, 0); h; h = perdure_next_handle(p, h)) {
        if (h == s->in || h == s->out)
            watch(p, h, s->in, s->out);
        else if (h != s->listener)
            take_stream(p, h);
    }
    getsockname(perdure_reconnect_socket(p, s->listener, -1), (void *)&bound, &len);
    perdure_serve(p);
    fprintf(stderr, "serving %u %d %s %d %s lost %u\n", perdure_generation(p), getpid(), VERSION,
            ntohs(bound.sin_port), starts[perdure_started(p)], perdure_lost(p));
    for (;;) {
        if (epoll_wait(epoll, &e, 1, -1) != 1)
            continue;
        uint32_t in = (uint32_t)(e.data.u64 >> 32), out = (uint32_t)e.data.u64;
        int event = in ? PERDURE_NOTHING : perdure_event(p);
        if (event == PERDURE_STOP)
            return 0;
        if (event == PERDURE_HANGUP)
            perdure_reload(p, argv[0]);
        if (event == PERDURE_RELOAD_FAILED)
            fprintf(stderr, "no reload: %s\n", perdure_reason(p));
        if (in && out)
            serve_stream(p, in, out);
        else if (in || event == PERDURE_RELOAD_FAILED)
            accept_all(p, s->listener);
    }
}

int main(int argc, char **argv) {
    static const struct perdure_program program = {
        .struct_bytes = sizeof program, .data_version = 1, .heap_bytes = 64 << 20, .run = run};
    return perdure_main(argc, argv, &program);
}
