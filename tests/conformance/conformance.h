/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tests that every implementation of plat's file.h, io_router.h, job.h, clock.h and random.h
 * passes: what the headers promise, and nothing that only one of them does. One program a host: it
 * describes how a fresh machine is made, and calls conformance_run().
 *
 * They do not cover what becomes of data after a crash; that is sim's own test, for no other host
 * can be made to lose power.
 */
#ifndef TESTS_CONFORMANCE_CONFORMANCE_H
#define TESTS_CONFORMANCE_CONFORMANCE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "plat/clock.h"
#include "plat/file.h"
#include "plat/io_router.h"
#include "plat/job.h"
#include "plat/random.h"

/* A machine with an empty store. */
struct machine {
    struct file_system files;
    struct io_router router;
    struct job_runner jobs;
    struct clock clock;
    struct random_source random;
    const struct host *host;
    void *ctx; /* the host's */
};

struct host {
    const char *name;
    int (*open)(
        struct machine *m); /* 0, or an error: the host cannot run here, tests are skipped */
    void (*close)(struct machine *m);
    /* Lets time pass until something may have happened. */
    void (*wait)(struct machine *m);
    /* A file system and router on which writing to *path finds no room. */
    void (*fill)(struct machine *m, struct file_system *files, struct io_router *router,
                 const char **path);
};

/* 0 if all passed. */
int conformance_run(const struct host *host);

/* Setup and teardown of each test: *state is the host, then the machine. */
int machine_open(void **state);
int machine_close(void **state);

/* The tests, by interface. */
extern const struct CMUnitTest conformance_file_tests[];
extern const struct CMUnitTest conformance_router_tests[];
extern const struct CMUnitTest conformance_other_tests[];
extern const size_t conformance_file_count, conformance_router_count, conformance_other_count;

#define CONFORMANCE_TEST(f)                                                                        \
    { #f, f, machine_open, machine_close, NULL }

#endif
