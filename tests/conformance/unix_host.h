/* SPDX-License-Identifier: Apache-2.0 */
/* A machine over real files in a new directory below TMPDIR or /tmp, removed at the end, and over
 * real sockets. What the host does not say is posix's. */
#ifndef TESTS_CONFORMANCE_UNIX_HOST_H
#define TESTS_CONFORMANCE_UNIX_HOST_H

#include "conformance.h"
#include "plat/posix/posix.h"

/* A router over a directory: the store, or /dev for the full one. */
struct unix_router {
    int (*open)(struct unix_router *r, int dir);
    void (*close)(struct unix_router *r);
    struct io_router router;
    int descriptor; /* readable when completions wait */
    void *ctx;
};

struct unix_machine {
    char path[4096];
    struct posix_files files, dev;
    struct posix_random random;
    struct posix_jobs *jobs;
    struct unix_router router, dev_router;
};

/* 0 or an error: the router cannot run here. */
int unix_machine_open(struct machine *m, struct unix_router router);
extern const struct peer_ops unix_peers;
void unix_machine_close(struct machine *m);
void unix_machine_wait(struct machine *m);
void unix_machine_fill(struct machine *m, struct file_system *files, struct io_router *router,
                       const char **path);

#endif
