/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchdog: the keeper tells an engine that hangs from one that works or waits.
 *
 * custody.beat rises at both ends of a turn and is odd in it. An engine hangs when the beat is odd and the same
 * for longer than hang_ms; an engine that attaches may take ATTACH_TURNS times as long. Time counts only as far
 * as the keeper itself was there to see it: a machine that slept, or a process group that was stopped and goes
 * on, has not hung. Neither has an engine that is stopped or traced: then somebody holds it on purpose.
 */
#ifndef CUSTODY_WATCH_H
#define CUSTODY_WATCH_H

#include "custody/custody.h"

struct watch {
    uint64_t beat;
    uint64_t looked_ns; /* 0: never */
    uint64_t stuck_ns;  /* that the beat has been the same, seen by the keeper */
    int hung;           /* it was said */
};

/* How often to look, for poll(); -1: there is nothing to look at. */
int watch_period_ms(const struct custody *c, uint32_t generation);

/* 1, once: the engine of that generation hangs. */
int watch_look(struct watch *w, const struct custody *c, uint32_t generation, int pid,
               uint64_t now_ns);

/* From /proc/PID/status: whether somebody holds the process. */
int watch_is_held(const char *status);

#endif
