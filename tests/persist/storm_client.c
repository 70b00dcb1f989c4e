/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte-exact client of an echo server: many connections, each sends a stream that is a function of
 * (connection, position) and checks what comes back. Kinds of connection, by number:
 *
 *   0 mod 4  plain
 *   1 mod 4  sends bytes as urgent data now and then
 *   2 mod 4  reads nothing for a while, so that send buffers fill on both sides
 *   3 mod 4  sends in tiny pieces
 *
 * It ends when its standard input does. Then every connection closes its sending side with bytes under way and must get the rest of its
 * stream, then the end.
 *
 *     storm_client PORT CONNECTIONS
 *
 * Exit status 0: no error, no reset, no wrong byte. Prints the longest time without any byte received.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WINDOW (256 * 1024u)

struct stream {
    int fd, number;
    uint64_t sent, received;
    int ended;
    double stall_until;
};

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint8_t byte_at(int number, uint64_t position) {
    uint64_t x = (position >> 3) * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)number * 0x632be5ab + 1;
    x ^= x >> 29;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return (uint8_t)(x >> (8 * (position & 7)));
}

static void fail(const struct stream *s, const char *what) {
    fprintf(stderr, "connection %d at sent %llu received %llu: %s (%s)\n", s->number,
            (unsigned long long)s->sent, (unsigned long long)s->received, what, strerror(errno));
    exit(1);
}

static void do_send(struct stream *s, unsigned *seed) {
    uint8_t buf[32768];
    uint64_t room = WINDOW - (s->sent - s->received);
    size_t n = s->number % 4 == 3 ? 1 + (unsigned)rand_r(seed) % 60
                                  : 1 + (unsigned)rand_r(seed) % sizeof buf;
    if (n > room)
        n = room;
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        buf[i] = byte_at(s->number, s->sent + i);
    int urgent = s->number % 4 == 1 && rand_r(seed) % 8 == 0 ? MSG_OOB : 0;
    ssize_t k = send(s->fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT | urgent);
    if (k < 0 && errno != EAGAIN)
        fail(s, "send");
    if (k > 0)
        s->sent += (uint64_t)k;
}

/* Returns bytes received. */
static size_t do_receive(struct stream *s) {
    uint8_t buf[65536];
    ssize_t n = recv(s->fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0) {
        if (errno != EAGAIN)
            fail(s, "receive");
        return 0;
    }
    if (n == 0) {
        if (!s->ended || s->received != s->sent)
            fail(s, "the server ended the stream");
        close(s->fd);
        s->fd = -1;
        return 0;
    }
    for (ssize_t i = 0; i < n; i++)
        if (buf[i] != byte_at(s->number, s->received + (uint64_t)i))
            fail(s, "wrong byte");
    s->received += (uint64_t)n;
    if (s->received > s->sent)
        fail(s, "more bytes than were sent");
    return (size_t)n;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    int port = atoi(argv[1]), count = atoi(argv[2]);
    struct stream *s = calloc((size_t)count, sizeof *s);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int epoll = epoll_create1(0), one = 1;
    unsigned seed = 1;
    for (int i = 0; i < count; i++) {
        s[i].number = i;
        s[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (s[i].fd < 0 || connect(s[i].fd, (void *)&to, sizeof to) < 0)
            fail(&s[i], "connect");
        setsockopt(s[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, s[i].fd, &e);
    }
    struct epoll_event input = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &input);
    double last = now(), longest = 0, end = 0;
    uint64_t total = 0;
    int open_count = count;
    while (open_count > 0) {
        struct epoll_event e[256];
        int n = epoll_wait(epoll, e, 256, 100);
        double t = now();
        for (int i = 0; i < n; i++) {
            if (e[i].data.u32 != UINT32_MAX)
                continue;
            end = t;
            epoll_ctl(epoll, EPOLL_CTL_DEL, 0, &input);
        }
        int ending = end > 0;
        for (int i = 0; i < n; i++) {
            if (e[i].data.u32 == UINT32_MAX)
                continue;
            struct stream *c = &s[e[i].data.u32];
            if (c->fd < 0)
                continue;
            if (c->number % 4 == 2 && !ending && t > c->stall_until && rand_r(&seed) % 500 == 0)
                c->stall_until = t + 0.3;
            if (e[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && (ending || t > c->stall_until)) {
                size_t got = do_receive(c);
                total += got;
                if (c->fd < 0) {
                    open_count--;
                    continue;
                }
                if (got > 0) {
                    if (t - last > longest)
                        longest = t - last;
                    last = t;
                }
            }
            if (!ending && e[i].events & EPOLLOUT)
                do_send(c, &seed);
            if (ending && !c->ended) {
                do_send(c, &seed);
                shutdown(c->fd, SHUT_WR);
                c->ended = 1;
                struct epoll_event only_in = {.events = EPOLLIN, .data.u32 = e[i].data.u32};
                epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &only_in);
            }
        }
        if (ending && t > end + 60) {
            for (int i = 0; i < count; i++)
                if (s[i].fd >= 0)
                    fail(&s[i], "no end within 60 s");
        }
    }
    printf("bytes %llu longest_gap_ms %.1f\n", (unsigned long long)total, longest * 1e3);
    return 0;
}
