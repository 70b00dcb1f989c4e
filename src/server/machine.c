/* SPDX-License-Identifier: Apache-2.0 */
#include "server/machine.h"

#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "plat/linux/linux.h"
#include "plat/posix/posix.h"

#define QUEUE_ENTRIES 256
#define DISK_THREADS 8

/* --- disks by io_uring: the ring's memory belongs to its descriptor --- */

_Static_assert(sizeof(struct linux_ring_identity) <= MACHINE_QUEUE_BYTES, "frozen");

static struct linux_ring_identity ring_of(const uint8_t id[MACHINE_QUEUE_BYTES]) {
    struct linux_ring_identity ring;
    memcpy(&ring, id, sizeof ring);
    return ring;
}

static int uring_open(int dir, struct io_router *router, int *descriptor) {
    int err;
    struct linux_ring *ring = linux_ring_open(dir, QUEUE_ENTRIES, &err);
    if (!ring)
        return err;
    *router = (struct io_router){&linux_ring_ops, ring};
    *descriptor = linux_ring_descriptor(ring);
    return 0;
}

static void uring_identify(const struct io_router *router, uint8_t id[MACHINE_QUEUE_BYTES]) {
    struct linux_ring_identity ring;
    linux_ring_identity(router->ctx, &ring);
    memcpy(id, &ring, sizeof ring);
}

static int uring_adopt(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES],
                       uint32_t *taken_before) {
    struct linux_ring_identity ring = ring_of(id);
    return linux_ring_adopt(router->ctx, &ring, taken_before);
}

static int uring_descriptor(const uint8_t id[MACHINE_QUEUE_BYTES]) {
    return ring_of(id).fd;
}

static void uring_drop(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES]) {
    linux_ring_drop_adopted(router->ctx, ring_of(id).fd);
}

static const struct machine_disks uring = {.open = uring_open,
                                           .identify = uring_identify,
                                           .adopt = uring_adopt,
                                           .descriptor = uring_descriptor,
                                           .drop = uring_drop};

/*
 * --- disks by threads: nothing is left of the queue but what is known of it ---
 *
 *   0  4  1: all operations that were handed over have ended
 *   4  4  their number
 */

static int threads_open(int dir, struct io_router *router, int *descriptor) {
    struct posix_router *r = posix_router_open(dir, DISK_THREADS, QUEUE_ENTRIES);
    if (!r)
        return ERR_NOMEM;
    *router = posix_router(r);
    *descriptor = posix_router_descriptor(r);
    return 0;
}

static void threads_identify(const struct io_router *router, uint8_t id[MACHINE_QUEUE_BYTES]) {
    memset(id, 0, MACHINE_QUEUE_BYTES);
}

static int threads_adopt(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES],
                         uint32_t *taken_before) {
    *taken_before = get_le32(id + 4);
    return get_le32(id) == 1 ? 0 : ERR_NOTFOUND;
}

static int threads_descriptor(const uint8_t id[MACHINE_QUEUE_BYTES]) {
    return -1;
}

static void threads_drop(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES]) {
}

static void threads_note_rest(uint8_t id[MACHINE_QUEUE_BYTES], uint32_t positions) {
    put_le32(id, 1);
    put_le32(id + 4, positions);
}

static const struct machine_disks threads = {.open = threads_open,
                                             .identify = threads_identify,
                                             .adopt = threads_adopt,
                                             .descriptor = threads_descriptor,
                                             .drop = threads_drop,
                                             .note_rest = threads_note_rest};

/* --- streams --- */

static struct streams open_linux_streams(int *wait_fd) {
    struct linux_streams *s = linux_streams_open(*wait_fd);
    if (!s)
        return (struct streams){NULL, NULL};
    *wait_fd = linux_streams_descriptor(s);
    return (struct streams){&linux_stream_ops, s};
}

static struct streams open_posix_streams(int *wait_fd) {
    struct posix_streams *s = posix_streams_open();
    *wait_fd = -1;
    return s ? posix_streams(s) : (struct streams){NULL, NULL};
}

/* --- the machines --- */

static const struct machine machines[] = {
    {0, "linux", &machines[1], &linux_memory, &uring, open_linux_streams},
    {1, "linux", NULL, &linux_memory, &threads, open_linux_streams},
    {2, "posix", NULL, &posix_memory, &threads, open_posix_streams},
};
#define MACHINES (sizeof machines / sizeof machines[0])

const struct machine *machine_of_platform(const char *platform) {
    for (size_t i = 0; i < MACHINES; i++)
        if (strcmp(machines[i].platform, platform) == 0)
            return &machines[i];
    return NULL;
}

const struct machine *machine_of_number(uint32_t number) {
    return number < MACHINES ? &machines[number] : NULL;
}
