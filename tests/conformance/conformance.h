/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tests that every implementation of plat's file.h, io_router.h, job.h, clock.h, random.h,
 * stream.h and memory.h passes: what the headers promise, and nothing that only one of them does. One program a host: it
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
#include "plat/memory.h"
#include "plat/random.h"
#include "plat/stream.h"

/* A machine with an empty store. */
struct machine {
    struct file_system files;
    struct io_router router;
    struct job_runner jobs;
    struct clock clock;
    struct random_source random;
    struct streams streams;
    const struct memory_ops *memory;         /* NULL: the host has none, its tests are left out */
    char unix_address[STREAM_ADDRESS_BYTES]; /* where nobody listens yet */
    const struct host *host;
    void *ctx; /* the host's */
};

/* The other end of a stream: a client, by number, never blocking. */
struct peer_ops {
    int (*connect)(struct machine *m, const char *address); /* ERR_CLOSED: nobody listens there */
    int64_t (*send)(struct machine *m, int peer, const void *from, size_t bytes);
    int64_t (*receive)(struct machine *m, int peer, void *to, size_t bytes);
    void (*end_sending)(struct machine *m, int peer);
    void (*reset)(struct machine *m, int peer); /* TCP only; the number is void */
    void (*close)(struct machine *m, int peer);
    /* Until it can receive, or send, or has failed: stream_event_flag. */
    void (*wait)(struct machine *m, int peer, uint32_t events);
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
    const struct peer_ops *peers;
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
extern const struct CMUnitTest conformance_stream_tests[];
extern const struct CMUnitTest conformance_listen_tests[];
extern const struct CMUnitTest conformance_memory_tests[];
extern const size_t conformance_file_count, conformance_router_count, conformance_other_count,
    conformance_stream_count, conformance_listen_count, conformance_memory_count;

#define CONFORMANCE_TEST(f)                                                                        \
    { #f, f, machine_open, machine_close, NULL }

#endif
