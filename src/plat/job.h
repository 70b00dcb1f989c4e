/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: a function over private memory and files (plat/file.h) on a worker thread, never the arena.
 * After a kill a job is as if it had never begun or had ended anywhere: what it does to files is
 * made to be repeated. Jobs run one at a time, in any order. The simulator steps them in its own.
 */
#ifndef PLAT_JOB_H
#define PLAT_JOB_H

#include <stdint.h>

struct job {
    void (*run)(struct job *job);  /* on the worker */
    void (*done)(struct job *job); /* on the reactor, as an input of a turn; may free the job */
    struct job *next;              /* the runner's */
};

struct job_runner_ops {
    void (*start)(void *ctx, struct job *job);
    /* Calls done() of the jobs that have ended; returns their number. */
    int (*reap)(void *ctx);
    /* Waits until no job is running or waiting; done() is not called. At shutdown. */
    void (*drain)(void *ctx);
};

struct job_runner {
    const struct job_runner_ops *ops;
    void *ctx;
};

#endif
