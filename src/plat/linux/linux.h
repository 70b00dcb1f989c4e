/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux: the platform at full speed. io_uring for disks, epoll and kernel sockets for streams, memfd for
 * the arena. Files, clock, random numbers and jobs are those of posix/.
 */
#ifndef PLAT_LINUX_LINUX_H
#define PLAT_LINUX_LINUX_H

#include "plat/io_router.h"
#include "plat/memory.h"
#include "plat/stream.h"

extern const struct memory_ops linux_memory;

/* Streams. `epoll` < 0: a new wait; else the inherited one. Returns NULL without memory. */
struct linux_streams;
struct linux_streams *linux_streams_open(int epoll);
int linux_streams_descriptor(const struct linux_streams *s);
void linux_streams_close(struct linux_streams *s); /* private memory only; descriptors stay */
extern const struct stream_ops linux_stream_ops;

/* The io_uring router. Its ring's descriptor is preserved. */
#define LINUX_RING_PARAMS_BYTES 120
struct linux_ring;
struct linux_ring_identity {
    int32_t fd;
    uint32_t reserved;
    uint8_t params[LINUX_RING_PARAMS_BYTES]; /* struct io_uring_params */
};
/* `dir`: paths are relative to this directory descriptor. Returns NULL and *err. */
struct linux_ring *linux_ring_open(int dir, uint32_t entries, int *err);
void linux_ring_identity(const struct linux_ring *r, struct linux_ring_identity *id);
/* Takes completions of a dead process's ring; *taken_before: operations that the kernel took over. */
int linux_ring_adopt(struct linux_ring *r, const struct linux_ring_identity *id,
                     uint32_t *taken_before);
/* No slot refers to an adopted ring any more: lets it go; returns its descriptor, closed now. */
int linux_ring_drop_adopted(struct linux_ring *r, int fd);
int linux_ring_descriptor(const struct linux_ring *r); /* readable when completions wait */
void linux_ring_close(struct linux_ring *r);
extern const struct io_router_ops linux_ring_ops;

#endif
