/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine below the reactor: which of plat/'s implementations an engine runs on. Chosen once, at a cold
 * start; the custody page remembers it for as long as the arena lives, since descriptors, identities of
 * sockets and disk operations in flight mean something on their own machine only.
 *
 *   number  platform  disks     a planned reload keeps        a death of the engine keeps
 *   0       linux     io_uring  connections, disk operations  the same
 *   1       linux     threads   connections                   connections
 *   2       posix     threads   connections                   listeners; connections are closed
 *
 * 1 is what linux falls back to where io_uring is forbidden. Files, clock, random bytes and jobs are those of
 * posix on all of them; anchor, keeper and boot (custody.h) are Linux's.
 */
#ifndef SERVER_MACHINE_H
#define SERVER_MACHINE_H

#include <stdint.h>

#include "plat/io_router.h"
#include "plat/memory.h"
#include "plat/stream.h"

/* What a successor has to know of a queue of disk operations to adopt it. */
#define MACHINE_QUEUE_BYTES 128

struct machine_disks {
    /* The router, over files below `dir`, and a descriptor that is readable while completions wait.
     * ERR_UNSUPPORTED: it is forbidden here. */
    int (*open)(int dir, struct io_router *router, int *descriptor);
    void (*identify)(const struct io_router *router, uint8_t id[MACHINE_QUEUE_BYTES]);
    /* As io_adopted (arena/io.h) wants it; ERR_NOTFOUND: what was in flight is lost. */
    int (*adopt)(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES],
                 uint32_t *taken_before);
    /* Of a queue: its inherited descriptor, or -1. */
    int (*descriptor)(const uint8_t id[MACHINE_QUEUE_BYTES]);
    void (*drop)(const struct io_router *router, const uint8_t id[MACHINE_QUEUE_BYTES]);
    /* NULL: operations in flight outlive their process. Else nothing may be in flight when an engine lets
     * go; this notes that so many were handed over and all of them have ended. */
    void (*note_rest)(uint8_t id[MACHINE_QUEUE_BYTES], uint32_t positions);
};

struct machine {
    uint32_t number; /* for ever */
    const char *platform;
    const struct machine *fallback; /* if the disks are forbidden; NULL: none */
    const struct memory_ops *memory;
    const struct machine_disks *disks;
    /* *wait_fd: the inherited wait, -1: none; becomes that of these streams. ops is NULL without memory. */
    struct streams (*open_streams)(int *wait_fd);
};

/* NULL: there is none. */
const struct machine *machine_of_platform(const char *platform);
const struct machine *machine_of_number(uint32_t number);

#endif
