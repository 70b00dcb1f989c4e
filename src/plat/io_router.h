/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O router: asynchronous block I/O by device (mission T8, IORouterImpl). A device is a file or
 * block device opened by path. Operations are queued, handed over together, and end as completions,
 * in any order, each exactly once.
 *
 * Positions. Operations get consecutive 32-bit positions in the order of queueing, beginning with 0
 * in each process. A router with the capability IO_CAP_POSITIONS outlives the process that feeds it:
 * the implementation's adopt function, given a dead process's queue, tells which positions were taken
 * over by the machine (their completions come through the adopted queue) and which never will be.
 * Without it, what was in flight when the process died has an unknown outcome.
 *
 * Operations in flight are not ordered. A direct operation (every write, and reads without IO_CACHED)
 * begins and ends on whole sectors, or ends with an error. A read that reaches beyond the end of the
 * file is short there. On a device below 0, one that could not be opened, every operation ends with
 * ERR_IO.
 */
#ifndef PLAT_IO_ROUTER_H
#define PLAT_IO_ROUTER_H

#include <stddef.h>
#include <stdint.h>

enum io_op { IO_READ = 1, IO_WRITE = 2 };

enum io_flag {
    IO_DURABLE = 1 << 0, /* write: done means durable, as RWF_DSYNC */
    IO_CACHED = 1 << 1,  /* read through the machine's page cache; else it is bypassed */
};

struct io_vec {
    void *base;
    size_t bytes;
};

#define IO_VECS_MAX 320

struct io_submission {
    uint32_t op;
    uint32_t flags;
    int32_t device;
    uint32_t vec_count;
    const struct io_vec *vecs; /* the array is read before io_submit returns */
    uint64_t offset_bytes;
    uint64_t cookie;
};

struct io_completion {
    uint64_t cookie;
    int32_t result;   /* bytes, or ERR_IO, ERR_NOSPC, ERR_CANCELLED (not done: do it again) */
    uint32_t adopted; /* 1: from an adopted queue */
};

enum io_cap { IO_CAP_POSITIONS = 1 << 0 };

enum io_open_flag {
    IO_OPEN_WRITE = 1 << 0,
    IO_OPEN_CREATE = 1 << 1,
};

struct io_router_ops {
    const char *name;
    uint32_t caps;
    /* Opens a file for both cached and direct access; returns a device number >= 0 or an error.
     * Numbers are private to this process. May block: only at start, in jobs, or where a file is
     * known to be hot. */
    int (*open)(void *ctx, const char *path, uint32_t flags);
    void (*close)(void *ctx, int32_t device);
    /* Queues one operation; returns its position in *position. ERR_AGAIN: the queue is full, come
     * back after a completion. */
    int (*queue)(void *ctx, const struct io_submission *s, uint32_t *position);
    /* Hands over all that is queued. */
    int (*submit)(void *ctx);
    /* Takes up to max completions without waiting, each once. They stay in the queue, to be seen
     * again by a successor, until retire() after the turn that took them has committed; it retires
     * the n that were taken first. */
    int (*peek)(void *ctx, struct io_completion *out, int max);
    void (*retire)(void *ctx, int n);
    /* Tries a cached read at once: bytes read, or ERR_AGAIN if it would wait for the device. */
    int64_t (*read_now)(void *ctx, int32_t device, const struct io_vec *vecs, uint32_t vec_count,
                        uint64_t offset_bytes);
    /* Advice: this will be read, cached. Begins to read it into the machine's cache if that can be
     * done, and does not wait for it. */
    void (*read_ahead)(void *ctx, int32_t device, uint64_t offset_bytes, uint64_t bytes);
};

struct io_router {
    const struct io_router_ops *ops;
    void *ctx;
};

#endif
