/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that was started, and lives as long as the service (custody.h). Signals go to the engine that
 * serves; as subreaper it inherits keepers whose parents have left, and engines whose keepers have died. It
 * holds the arena and the program of the engine that serves, so that it can begin again when nobody else is
 * left. An engine whose keeper died makes another; one that hangs does not, and is watched from here.
 */
#ifndef CUSTODY_ANCHOR_H
#define CUSTODY_ANCHOR_H

#include "custody/boot.h"
#include "custody/watch.h"

/* An engine to its anchor: it serves. (A name of <signal.h>.) */
#define ANCHOR_SIGNAL_SERVES SIGUSR1

struct anchor {
    struct boot b;
    int arena_fd;    /* -1: none */
    uint32_t arenas; /* which it is */
    int program_fd;  /* of the engine that served last; -1: none */
    uint32_t served; /* engines, when it began last */
    struct watch watch;
};

/* Makes the custody page and blocks the signals, before anybody else is there. */
int anchor_make(struct anchor *k, struct boot *b);

/* Until nobody is left; the exit status. */
int anchor_run(struct anchor *k);

#endif
