/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A closed-loop load on an NBD server, by libnbd, in one thread: as soon as a request is answered, its
 * client sends the next one.
 *
 *     load [OPTION VALUE]... URI
 *
 *     --do read|write|fill|scan
 *                              fill writes the whole export once, in order; scan reads it
 *     --at random|sequential
 *     --bytes N                of one request (4096)
 *     --clients N              connections (1)
 *     --depth N                requests under way of each client (1)
 *     --then nothing|flush|fua each write is followed by a flush and counts when that is answered, or
 *                              has the FUA flag
 *     --seconds S              (1)
 *     --requests N             so many instead, however long it takes
 *
 * Writes are counted until a last flush was answered, which belongs to the time. Prints one JSON object.
 */
#include <libnbd.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLIENTS_MAX 64
#define DEPTH_MAX 256
#define SAMPLES_MAX (1u << 22)

enum state { FREE, BUSY, ANSWERED };

struct slot {
    enum state state;
    int flushing, failed;
    uint64_t begun_ns;
    uint8_t *data;
};

struct client {
    struct nbd_handle *nbd;
    struct slot slots[DEPTH_MAX];
    unsigned busy;
    uint64_t next;
};

struct load {
    int writes, once, sequential;
    enum { NOTHING, FLUSH, FUA } then;
    unsigned clients, depth;
    uint64_t bytes, size_bytes, blocks, requests;
    double seconds;
    struct client *c;
    uint64_t rng, done, issued, begin_ns, end_ns;
    uint32_t *latency_ns;
    uint32_t samples;
};

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(struct load *l) {
    uint64_t x = l->rng += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

__attribute__((noreturn)) static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, nbd_get_error() ? nbd_get_error() : "");
    exit(1);
}

static int answered(void *user, int *error) {
    struct slot *s = user;
    s->failed = *error != 0;
    s->state = ANSWERED;
    return 1;
}

static nbd_completion_callback on_answer(struct slot *s) {
    return (nbd_completion_callback){.callback = answered, .user_data = s};
}

static void issue(struct load *l, struct client *c, struct slot *s) {
    uint64_t block = l->sequential ? c->next++ % l->blocks : next_random(l) % l->blocks;
    uint32_t flags = l->then == FUA ? LIBNBD_CMD_FLAG_FUA : 0;
    int64_t cookie;
    if (l->requests && l->issued >= l->requests)
        return;
    if (l->writes) /* no two blocks that are written are alike */
        for (uint64_t i = 0; i < l->bytes; i += 4096)
            memcpy(s->data + i, &(uint64_t){next_random(l)}, 8);
    s->state = BUSY;
    s->flushing = 0;
    s->begun_ns = now_ns();
    cookie = l->writes
                 ? nbd_aio_pwrite(c->nbd, s->data, l->bytes, block * l->bytes, on_answer(s), flags)
                 : nbd_aio_pread(c->nbd, s->data, l->bytes, block * l->bytes, on_answer(s), 0);
    if (cookie < 0)
        fail("issue");
    c->busy++;
    l->issued++;
}

/* Goes on with what was answered; `more`: new requests may begin. */
static void go_on(struct load *l, struct client *c, int more) {
    for (unsigned i = 0; i < l->depth; i++) {
        struct slot *s = &c->slots[i];
        if (s->state == ANSWERED) {
            if (s->failed)
                fail("a request failed");
            if (l->then == FLUSH && !s->flushing) {
                s->state = BUSY;
                s->flushing = 1;
                if (nbd_aio_flush(c->nbd, on_answer(s), 0) < 0)
                    fail("flush");
                continue;
            }
            s->state = FREE;
            c->busy--;
            l->done++;
            if (l->samples < SAMPLES_MAX)
                l->latency_ns[l->samples++] = (uint32_t)(now_ns() - s->begun_ns);
        }
        if (s->state == FREE && more)
            issue(l, c, s);
    }
}

static void move_bytes(struct load *l) {
    struct pollfd p[CLIENTS_MAX];
    for (unsigned i = 0; i < l->clients; i++) {
        unsigned direction = nbd_aio_get_direction(l->c[i].nbd);
        p[i] = (struct pollfd){.fd = nbd_aio_get_fd(l->c[i].nbd),
                               .events =
                                   (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                                           (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0))};
    }
    if (poll(p, l->clients, 10000) <= 0)
        fail("nothing came within 10 s");
    for (unsigned i = 0; i < l->clients; i++) {
        struct nbd_handle *nbd = l->c[i].nbd;
        unsigned direction = nbd_aio_get_direction(nbd);
        int rc = 0;
        if (p[i].revents & (POLLIN | POLLHUP) && direction & LIBNBD_AIO_DIRECTION_READ)
            rc = nbd_aio_notify_read(nbd);
        else if (p[i].revents & POLLOUT && direction & LIBNBD_AIO_DIRECTION_WRITE)
            rc = nbd_aio_notify_write(nbd);
        if (rc < 0 || p[i].revents & POLLERR || nbd_aio_is_dead(nbd) > 0)
            fail("connection");
    }
}

static unsigned busy(const struct load *l) {
    unsigned n = 0;
    for (unsigned i = 0; i < l->clients; i++)
        n += l->c[i].busy;
    return n;
}

static void run(struct load *l) {
    l->begin_ns = now_ns();
    uint64_t stop_ns = l->begin_ns + (uint64_t)(l->seconds * 1e9);
    for (;;) {
        int more = l->requests ? l->issued < l->requests : now_ns() < stop_ns;
        for (unsigned i = 0; i < l->clients; i++)
            go_on(l, &l->c[i], more);
        if (!more && busy(l) == 0)
            break;
        move_bytes(l);
    }
    if (l->writes && nbd_can_flush(l->c[0].nbd) > 0 && nbd_flush(l->c[0].nbd, 0) < 0)
        fail("last flush");
    l->end_ns = now_ns();
}

static void open_all(struct load *l, const char *uri) {
    l->c = calloc(l->clients, sizeof *l->c);
    l->latency_ns = malloc(SAMPLES_MAX * sizeof *l->latency_ns);
    if (!l->c || !l->latency_ns)
        fail("no memory");
    for (unsigned i = 0; i < l->clients; i++) {
        struct client *c = &l->c[i];
        if (!(c->nbd = nbd_create()) || nbd_connect_uri(c->nbd, uri) < 0)
            fail("connect");
        l->size_bytes = (uint64_t)nbd_get_size(c->nbd);
        l->blocks = l->size_bytes / l->bytes;
        c->next = i * (l->blocks / l->clients);
        for (unsigned k = 0; k < l->depth; k++) {
            if (!(c->slots[k].data = malloc(l->bytes)))
                fail("no memory");
            for (uint64_t at = 0; at + 8 <= l->bytes; at += 8)
                memcpy(c->slots[k].data + at, &(uint64_t){next_random(l)}, 8);
        }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double part_us(const struct load *l, double part) {
    return l->samples ? l->latency_ns[(uint32_t)(part * (l->samples - 1))] / 1e3 : 0;
}

static int is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

int main(int argc, char **argv) {
    struct load l = {.bytes = 4096, .clients = 1, .depth = 1, .seconds = 1, .rng = now_ns()};
    int i;
    for (i = 1; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        const char *name = argv[i] + 2, *value = argv[i + 1];
        if (is(name, "do"))
            l.once = is(value, "fill") || is(value, "scan"),
            l.writes = is(value, "fill") || is(value, "write");
        else if (is(name, "at"))
            l.sequential = is(value, "sequential");
        else if (is(name, "bytes"))
            l.bytes = strtoull(value, NULL, 10);
        else if (is(name, "clients"))
            l.clients = (unsigned)strtoul(value, NULL, 10);
        else if (is(name, "depth"))
            l.depth = (unsigned)strtoul(value, NULL, 10);
        else if (is(name, "then"))
            l.then = is(value, "flush") ? FLUSH : is(value, "fua") ? FUA : NOTHING;
        else if (is(name, "seconds"))
            l.seconds = atof(value);
        else if (is(name, "requests"))
            l.requests = strtoull(value, NULL, 10);
        else
            break;
    }
    if (i != argc - 1 || l.clients < 1 || l.clients > CLIENTS_MAX || l.depth < 1 ||
        l.depth > DEPTH_MAX || l.bytes < 512) {
        fprintf(stderr,
                "usage: load [--do read|write|fill|scan] [--at random|sequential] [--bytes N] "
                "[--clients N] [--depth N] [--then nothing|flush|fua] [--seconds S] "
                "[--requests N] URI\n");
        return 2;
    }
    l.sequential |= l.once;
    open_all(&l, argv[i]);
    if (l.once)
        l.requests = l.blocks;
    run(&l);
    for (unsigned k = 0; k < l.clients; k++)
        nbd_shutdown(l.c[k].nbd, 0);
    qsort(l.latency_ns, l.samples, sizeof *l.latency_ns, ascending);
    double s = (double)(l.end_ns - l.begin_ns) / 1e9;
    printf("{\"operations\": %llu, \"seconds\": %.4f, \"iops\": %.1f, \"mib_per_s\": %.2f, "
           "\"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           (unsigned long long)l.done, s, (double)l.done / s,
           (double)l.done * (double)l.bytes / s / 1048576, part_us(&l, 0.5), part_us(&l, 0.99),
           part_us(&l, 0.999), part_us(&l, 1));
    return 0;
}
