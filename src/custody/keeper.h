/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper: waits for the engine's death or wish and starts the successor. Small enough to be read in one
 * sitting; parses nothing from outside, allocates nothing. See custody.h. */
#ifndef CUSTODY_KEEPER_H
#define CUSTODY_KEEPER_H

#include "custody/custody.h"
#include "custody/watch.h"

struct keeper {
    struct custody *custody;
    uint32_t generation; /* of the engine it keeps */
    int planned;         /* that engine began as a planned successor */
    int engine_pid;
    int engine_pidfd;
    int engine_is_child;
    int bell;
    char *const *argv; /* of the engine; argv[1] is replaced for successors */
    int custody_fd;
    int binary_fd;  /* program of the engine it keeps */
    int adopted_fd; /* the successor, if a former keeper has started it; -1: it is a child */
    struct watch watch;
};

/* Starts a successor, by vfork and exec, so that the table is copied once and nothing else; its process, or
 * what is not above 0. */
int keeper_start(int program_fd, char *const *argv, const char *mode, int custody_fd,
                 uint32_t predecessor);

_Noreturn void keeper_run(struct keeper *k);

#endif
