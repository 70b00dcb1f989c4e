/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plat/io_router.h over worker threads. An operation goes from `queued` (not handed over) to
 * `waiting`, to a worker, to `completed`. The lock guards all lists, counters and devices; a worker
 * has its operation to itself and works without the lock.
 *
 * IO_DURABLE is pwrite and fdatasync, which covers more than it must.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"
#include "plat/posix/posix.h"
#include "plat/posix/posix_priv.h"

#define THREADS_MAX 64
#define DEVICES_MAX 65536

struct operation {
    struct operation *next;
    uint64_t offset_bytes, cookie;
    uint32_t op, flags;
    int32_t device, result;
    uint32_t vec_count;
    struct io_vec vecs[];
};

struct list {
    struct operation *first, **end;
};

struct device {
    int fd; /* -1: free */
    uint32_t users;
    int closed; /* the last user closes it */
};

struct posix_router {
    int dir;
    uint32_t entries, busy, position, shown;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list queued, waiting, completed;
    struct posix_flag flag;
    struct device devices[DEVICES_MAX];
    pthread_t threads[THREADS_MAX];
    uint32_t thread_count;
    int stop;
};

static void push(struct list *l, struct operation *o) {
    o->next = NULL;
    *l->end = o;
    l->end = &o->next;
}

static struct operation *pop(struct list *l) {
    struct operation *o = l->first;
    l->first = o->next;
    if (!l->first)
        l->end = &l->first;
    return o;
}

static int32_t transfer(int fd, const struct operation *o) {
    uint64_t at = o->offset_bytes;
    int64_t total = 0;
    for (uint32_t i = 0; i < o->vec_count; i++) {
        for (size_t done = 0; done < o->vecs[i].bytes;) {
            char *p = (char *)o->vecs[i].base + done;
            size_t left = o->vecs[i].bytes - done;
            ssize_t n =
                o->op == IO_WRITE ? pwrite(fd, p, left, (off_t)at) : pread(fd, p, left, (off_t)at);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                return posix_err(errno);
            if (n == 0)
                return (int32_t)total;
            done += (size_t)n;
            at += (uint64_t)n;
            total += n;
        }
    }
    if (o->op == IO_WRITE && o->flags & IO_DURABLE && fdatasync(fd) < 0)
        return posix_err(errno);
    return (int32_t)total;
}

static void device_drop(struct device *d) {
    if (d->users == 0 && d->closed) {
        close(d->fd);
        d->fd = -1;
    }
}

static void *work(void *arg) {
    struct posix_router *r = arg;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->waiting.first && !r->stop)
            pthread_cond_wait(&r->changed, &r->lock);
        if (!r->waiting.first)
            break;
        struct operation *o = pop(&r->waiting);
        struct device *d = o->device < 0 ? NULL : &r->devices[o->device];
        pthread_mutex_unlock(&r->lock);
        o->result = d ? transfer(d->fd, o) : ERR_IO;
        pthread_mutex_lock(&r->lock);
        if (d) {
            d->users--;
            device_drop(d);
        }
        push(&r->completed, o);
        posix_flag_set(&r->flag, 1);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static int open_device(void *ctx, const char *path, uint32_t flags) {
    struct posix_router *r = ctx;
    int mode = (flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY) |
               (flags & IO_OPEN_CREATE ? O_CREAT : 0) | O_CLOEXEC;
    int fd = openat(r->dir, path, mode, 0600);
    if (fd < 0)
        return posix_err(errno);
    pthread_mutex_lock(&r->lock);
    int32_t n = 0;
    while (n < DEVICES_MAX && r->devices[n].fd >= 0)
        n++;
    if (n < DEVICES_MAX)
        r->devices[n] = (struct device){.fd = fd};
    pthread_mutex_unlock(&r->lock);
    if (n < DEVICES_MAX)
        return n;
    close(fd);
    return ERR_NOMEM;
}

static struct device *device_of(struct posix_router *r, int32_t device) {
    must(device >= 0 && device < DEVICES_MAX && r->devices[device].fd >= 0 &&
         !r->devices[device].closed);
    return &r->devices[device];
}

static void close_device(void *ctx, int32_t device) {
    struct posix_router *r = ctx;
    pthread_mutex_lock(&r->lock);
    struct device *d = device_of(r, device);
    d->closed = 1;
    device_drop(d);
    pthread_mutex_unlock(&r->lock);
}

static int queue(void *ctx, const struct io_submission *s, uint32_t *position) {
    struct posix_router *r = ctx;
    must(s->op == IO_READ || s->op == IO_WRITE);
    must(s->vec_count >= 1 && s->vec_count <= IO_VECS_MAX);
    if (r->busy >= r->entries)
        return ERR_AGAIN;
    struct operation *o = malloc(sizeof *o + s->vec_count * sizeof *o->vecs);
    if (!o)
        return ERR_AGAIN;
    *o = (struct operation){.offset_bytes = s->offset_bytes,
                            .cookie = s->cookie,
                            .op = s->op,
                            .flags = s->flags,
                            .device = s->device,
                            .vec_count = s->vec_count};
    memcpy(o->vecs, s->vecs, s->vec_count * sizeof *o->vecs);
    if (s->device >= 0) {
        pthread_mutex_lock(&r->lock);
        device_of(r, s->device)->users++;
        pthread_mutex_unlock(&r->lock);
    }
    push(&r->queued, o);
    r->busy++;
    *position = r->position++;
    return 0;
}

static int submit(void *ctx) {
    struct posix_router *r = ctx;
    if (!r->queued.first)
        return 0;
    pthread_mutex_lock(&r->lock);
    *r->waiting.end = r->queued.first;
    r->waiting.end = r->queued.end;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    r->queued.first = NULL;
    r->queued.end = &r->queued.first;
    return 0;
}

static int peek(void *ctx, struct io_completion *out, int max) {
    struct posix_router *r = ctx;
    int n = 0;
    pthread_mutex_lock(&r->lock);
    const struct operation *o = r->completed.first;
    for (uint32_t i = 0; i < r->shown; i++)
        o = o->next;
    for (; o && n < max; o = o->next)
        out[n++] = (struct io_completion){.cookie = o->cookie, .result = o->result};
    r->shown += (uint32_t)n;
    if (!o)
        posix_flag_set(&r->flag, 0);
    pthread_mutex_unlock(&r->lock);
    return n;
}

static void retire(void *ctx, int n) {
    struct posix_router *r = ctx;
    must(n >= 0 && (uint32_t)n <= r->shown);
    pthread_mutex_lock(&r->lock);
    for (int i = 0; i < n; i++)
        free(pop(&r->completed));
    pthread_mutex_unlock(&r->lock);
    r->shown -= (uint32_t)n;
    r->busy -= (uint32_t)n;
}

/* POSIX cannot tell whether a read would wait. */
static int64_t read_now(void *ctx, int32_t device, const struct io_vec *vecs, uint32_t vec_count,
                        uint64_t offset_bytes) {
    return ERR_AGAIN;
}

static void read_ahead(void *ctx, int32_t device, uint64_t offset_bytes, uint64_t bytes) {
    struct posix_router *r = ctx;
    posix_fadvise(r->devices[device].fd, (off_t)offset_bytes, (off_t)bytes, POSIX_FADV_WILLNEED);
}

struct posix_router *posix_router_open(int dir, uint32_t threads, uint32_t entries) {
    struct posix_router *r = calloc(1, sizeof *r);
    must(threads >= 1 && threads <= THREADS_MAX && entries >= 1);
    if (!r)
        return NULL;
    r->dir = dir;
    r->entries = entries;
    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        r->devices[i].fd = -1;
    r->queued.end = &r->queued.first;
    r->waiting.end = &r->waiting.first;
    r->completed.end = &r->completed.first;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    if (posix_flag_open(&r->flag) < 0) {
        free(r);
        return NULL;
    }
    while (r->thread_count < threads) {
        if (posix_thread_start(&r->threads[r->thread_count], work, r) < 0) {
            posix_router_close(r);
            return NULL;
        }
        r->thread_count++;
    }
    return r;
}

int posix_router_descriptor(const struct posix_router *r) {
    return r->flag.fds[0];
}

void posix_router_close(struct posix_router *r) {
    pthread_mutex_lock(&r->lock);
    r->stop = 1;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    for (uint32_t i = 0; i < r->thread_count; i++)
        pthread_join(r->threads[i], NULL);
    while (r->queued.first)
        free(pop(&r->queued));
    while (r->completed.first)
        free(pop(&r->completed));
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        if (r->devices[i].fd >= 0)
            close(r->devices[i].fd);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    posix_flag_close(&r->flag);
    free(r);
}

static const struct io_router_ops router_ops = {
    .name = "threads",
    .open = open_device,
    .close = close_device,
    .queue = queue,
    .submit = submit,
    .peek = peek,
    .retire = retire,
    .read_now = read_now,
    .read_ahead = read_ahead,
};

struct io_router posix_router(struct posix_router *r) {
    return (struct io_router){&router_ops, r};
}
