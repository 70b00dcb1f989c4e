/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper: waits for the engine's death or wish and starts the successor. Small enough to be read in one
 * sitting; parses nothing from outside, allocates nothing. See custody.h. */
#ifndef SERVER_KEEPER_H
#define SERVER_KEEPER_H

#include "server/custody.h"
#include "server/watch.h"

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
    int binary_fd; /* program of the engine it keeps */
    struct watch watch;
};

_Noreturn void keeper_run(struct keeper *k);

#endif
