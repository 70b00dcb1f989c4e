/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O router over io_uring. The ring's memory belongs to its descriptor, so it outlives the process:
 * a successor maps it, reads from the submission queue's head how many operations the kernel has taken,
 * and takes their completions. The position of an operation is the submission queue's running index.
 *
 * Hence plain rings: with DEFER_TASKRUN or SINGLE_ISSUER the completions of a dead process are lost. A
 * completion stays in the ring until the turn that took it has committed.
 */
#include "plat/linux/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"

#define ADOPTED_MAX 8
#define DEVICES_MAX 65536
#define SCRATCH_VECS 4096
#define COMPLETIONS 8192 /* more than operations are ever in flight: the queue never overflows */

_Static_assert(sizeof(struct io_uring_params) == LINUX_RING_PARAMS_BYTES, "kernel interface");

struct linux_ring {
    int dir;
    struct io_uring ring;
    struct io_uring_params params;
    uint32_t position;
    uint32_t unfinished;
    struct io_uring adopted[ADOPTED_MAX];
    int adopted_count;
    /* What peek has shown of each ring and retire has not taken; index ADOPTED_MAX is our own. */
    uint32_t shown[ADOPTED_MAX + 1];
    struct {
        int direct, cached;
    } * devices;
    int device_count;
    struct iovec scratch[SCRATCH_VECS];
    uint32_t scratch_used;
};

struct linux_ring *linux_ring_open(int dir, uint32_t entries, int *err) {
    struct linux_ring *r = calloc(1, sizeof *r);
    *err = ERR_NOMEM;
    if (!r)
        return NULL;
    r->dir = dir;
    r->params.flags = IORING_SETUP_CQSIZE;
    r->params.cq_entries = COMPLETIONS;
    int rc = io_uring_queue_init_params(entries, &r->ring, &r->params);
    if (rc < 0) {
        *err = rc == -EPERM || rc == -ENOSYS ? ERR_UNSUPPORTED : ERR_NOMEM;
        free(r);
        return NULL;
    }
    /* The successor inherits it. */
    fcntl(r->ring.ring_fd, F_SETFD, 0);
    *err = 0;
    return r;
}

void linux_ring_identity(const struct linux_ring *r, struct linux_ring_identity *id) {
    memset(id, 0, sizeof *id);
    id->fd = r->ring.ring_fd;
    memcpy(id->params, &r->params, sizeof r->params);
}

int linux_ring_adopt(struct linux_ring *r, const struct linux_ring_identity *id,
                     uint32_t *taken_before) {
    struct io_uring_params params;
    if (r->adopted_count == ADOPTED_MAX)
        return ERR_NOMEM;
    struct io_uring *old = &r->adopted[r->adopted_count];
    memcpy(&params, id->params, sizeof params);
    if (io_uring_queue_mmap(id->fd, &params, old) < 0)
        return ERR_NOTFOUND;
    *taken_before = __atomic_load_n(old->sq.khead, __ATOMIC_ACQUIRE);
    r->adopted_count++;
    return 0;
}

int linux_ring_drop_adopted(struct linux_ring *r, int fd) {
    for (int i = 0; i < r->adopted_count; i++) {
        if (r->adopted[i].ring_fd != fd)
            continue;
        must(r->shown[i] == 0);
        io_uring_queue_exit(&r->adopted[i]);
        r->adopted_count--;
        memmove(&r->adopted[i], &r->adopted[i + 1],
                (size_t)(r->adopted_count - i) * sizeof r->adopted[0]);
        memmove(&r->shown[i], &r->shown[i + 1],
                (size_t)(r->adopted_count - i) * sizeof r->shown[0]);
        r->shown[r->adopted_count] = 0;
        return 0;
    }
    return ERR_NOTFOUND;
}

int linux_ring_descriptor(const struct linux_ring *r) {
    return r->ring.ring_fd;
}

void linux_ring_close(struct linux_ring *r) {
    for (int i = 0; i < r->device_count; i++) {
        if (r->devices[i].cached >= 0) {
            close(r->devices[i].cached);
            close(r->devices[i].direct);
        }
    }
    while (r->adopted_count > 0)
        io_uring_queue_exit(&r->adopted[--r->adopted_count]);
    io_uring_queue_exit(&r->ring);
    free(r->devices);
    free(r);
}

static int err_of_errno(int e) {
    switch (e) {
    case ENOENT:
        return ERR_NOTFOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOSPC;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_PERM;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

static int ring_open(void *ctx, const char *path, uint32_t flags) {
    struct linux_ring *r = ctx;
    int mode = (flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY) |
               (flags & IO_OPEN_CREATE ? O_CREAT : 0) | O_CLOEXEC;
    int n = 0;
    while (n < r->device_count && r->devices[n].cached >= 0)
        n++;
    if (n == DEVICES_MAX)
        return ERR_NOMEM;
    if (n == r->device_count && (n & (n - 1)) == 0) {
        void *more = realloc(r->devices, (size_t)(n ? 2 * n : 1) * sizeof *r->devices);
        if (!more)
            return ERR_NOMEM;
        r->devices = more;
    }
    int cached = openat(r->dir, path, mode, 0600);
    if (cached < 0)
        return err_of_errno(errno);
    int direct = openat(r->dir, path, (mode & ~O_CREAT) | O_DIRECT);
    if (direct < 0 && errno == EINVAL) /* a file system without it: tmpfs before 6.6 */
        direct = openat(r->dir, path, mode & ~O_CREAT);
    if (direct < 0) {
        int err = err_of_errno(errno);
        close(cached);
        return err;
    }
    r->devices[n].cached = cached;
    r->devices[n].direct = direct;
    if (n == r->device_count)
        r->device_count++;
    return n;
}

static void ring_close_device(void *ctx, int32_t device) {
    struct linux_ring *r = ctx;
    must(device >= 0 && device < r->device_count && r->devices[device].cached >= 0);
    close(r->devices[device].cached);
    close(r->devices[device].direct);
    r->devices[device].cached = -1;
}

static int ring_submit(void *ctx) {
    struct linux_ring *r = ctx;
    int rc;
    while ((rc = io_uring_submit(&r->ring)) == -EINTR || rc == -EAGAIN)
        ;
    r->scratch_used = 0;
    return rc < 0 ? ERR_IO : 0;
}

static int ring_queue(void *ctx, const struct io_submission *s, uint32_t *position) {
    struct linux_ring *r = ctx;
    if (r->unfinished >= COMPLETIONS)
        return ERR_AGAIN;
    must(s->vec_count > 0 && s->vec_count <= IO_VECS_MAX);
    if (r->scratch_used + s->vec_count > SCRATCH_VECS)
        ring_submit(r);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (!sqe) {
        ring_submit(r);
        sqe = io_uring_get_sqe(&r->ring);
        if (!sqe)
            return ERR_AGAIN;
    }
    must(s->device < r->device_count);
    int fd = s->device < 0          ? -1
             : s->flags & IO_CACHED ? r->devices[s->device].cached
                                    : r->devices[s->device].direct;
    if (s->vec_count == 1) {
        if (s->op == IO_WRITE)
            io_uring_prep_write(sqe, fd, s->vecs[0].base, (unsigned)s->vecs[0].bytes,
                                s->offset_bytes);
        else
            io_uring_prep_read(sqe, fd, s->vecs[0].base, (unsigned)s->vecs[0].bytes,
                               s->offset_bytes);
    } else {
        struct iovec *v = &r->scratch[r->scratch_used];
        memcpy(v, s->vecs, s->vec_count * sizeof *v);
        r->scratch_used += s->vec_count;
        if (s->op == IO_WRITE)
            io_uring_prep_writev(sqe, fd, v, s->vec_count, s->offset_bytes);
        else
            io_uring_prep_readv(sqe, fd, v, s->vec_count, s->offset_bytes);
    }
    if (s->op == IO_WRITE && s->flags & IO_DURABLE)
        sqe->rw_flags = RWF_DSYNC;
    sqe->user_data = s->cookie;
    *position = r->position++;
    r->unfinished++;
    return 0;
}

/* A short write or read is told as its bytes; an error as a code. A cancelled operation was not done. */
static int32_t result_of(int32_t res) {
    if (res >= 0)
        return res;
    return res == -ECANCELED || res == -EINTR || res == -EAGAIN ? ERR_CANCELLED
                                                                : err_of_errno(-res);
}

static int peek_one(struct io_uring *ring, uint32_t *shown, struct io_completion *out, int max,
                    uint32_t adopted) {
    uint32_t head = *ring->cq.khead + *shown;
    uint32_t tail = __atomic_load_n(ring->cq.ktail, __ATOMIC_ACQUIRE);
    uint32_t mask = *ring->cq.kring_mask;
    int n = 0;
    for (; n < max && head != tail; head++, n++) {
        const struct io_uring_cqe *cqe = &ring->cq.cqes[head & mask];
        out[n] = (struct io_completion){
            .cookie = cqe->user_data, .result = result_of(cqe->res), .adopted = adopted};
    }
    *shown += (uint32_t)n;
    return n;
}

static int ring_peek(void *ctx, struct io_completion *out, int max) {
    struct linux_ring *r = ctx;
    int n = 0;
    for (int i = 0; i < r->adopted_count; i++)
        n += peek_one(&r->adopted[i], &r->shown[i], out + n, max - n, 1);
    return n + peek_one(&r->ring, &r->shown[ADOPTED_MAX], out + n, max - n, 0);
}

static void ring_retire(void *ctx, int n) {
    struct linux_ring *r = ctx;
    for (int i = 0; i <= ADOPTED_MAX && n > 0; i++) {
        uint32_t k = r->shown[i] < (uint32_t)n ? r->shown[i] : (uint32_t)n;
        io_uring_cq_advance(i < ADOPTED_MAX ? &r->adopted[i] : &r->ring, k);
        r->shown[i] -= k;
        n -= (int)k;
        if (i == ADOPTED_MAX)
            r->unfinished -= k;
    }
    must(n == 0);
}

static int64_t ring_read_now(void *ctx, int32_t device, const struct io_vec *vecs,
                             uint32_t vec_count, uint64_t offset_bytes) {
    struct linux_ring *r = ctx;
    ssize_t n = preadv2(r->devices[device].cached, (const struct iovec *)(const void *)vecs,
                        (int)vec_count, (off_t)offset_bytes, RWF_NOWAIT);
    if (n >= 0)
        return n;
    return errno == EAGAIN || errno == EINTR || errno == EOPNOTSUPP ? ERR_AGAIN
                                                                    : err_of_errno(errno);
}

static void ring_read_ahead(void *ctx, int32_t device, uint64_t offset_bytes, uint64_t bytes) {
    struct linux_ring *r = ctx;
    posix_fadvise(r->devices[device].cached, (off_t)offset_bytes, (off_t)bytes,
                  POSIX_FADV_WILLNEED);
}

const struct io_router_ops linux_ring_ops = {
    .name = "io_uring",
    .caps = IO_CAP_POSITIONS,
    .open = ring_open,
    .close = ring_close_device,
    .queue = ring_queue,
    .submit = ring_submit,
    .peek = ring_peek,
    .retire = ring_retire,
    .read_now = ring_read_now,
    .read_ahead = ring_read_ahead,
};
