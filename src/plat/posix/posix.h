/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix: the reference platform, for any UNIX: threads, poll, pread, pwrite, and nothing that POSIX
 * does not have. Files, clock, random bytes, jobs and alerts are used by linux/ too; its I/O router,
 * memory and streams are faster ones.
 *
 * What it lacks: IO_CAP_POSITIONS (operations die with the process that asked for them), direct I/O,
 * and reading from the cache alone, so read_now always returns ERR_AGAIN; STREAM_CAP_POSITIONS, so a
 * kill closes connections while a planned reload keeps them; STREAM_CAP_WAIT_KEPT; huge pages.
 */
#ifndef PLAT_POSIX_POSIX_H
#define PLAT_POSIX_POSIX_H

#include <stdint.h>

#include "plat/alert.h"
#include "plat/clock.h"
#include "plat/file.h"
#include "plat/io_router.h"
#include "plat/job.h"
#include "plat/memory.h"
#include "plat/random.h"
#include "plat/stream.h"

/* The error code for an errno. */
int posix_err(int error_number);

struct clock posix_clock(void);

/* `fd`: 0 or more after posix_random_open; it stays open. */
struct posix_random {
    int fd;
};
int posix_random_open(struct posix_random *r);
void posix_random_close(struct posix_random *r);
struct random_source posix_random(struct posix_random *r);

/* Files below the directory descriptor `dir`, which stays the caller's. File numbers are
 * descriptors. Any thread may call. */
struct posix_files {
    int dir;
};
struct file_system posix_files(struct posix_files *f);

/* Jobs on one worker thread, in the order of starting. `nice`: added to the process's own, so that
 * jobs leave the processor to others; on Linux alone. NULL: no memory or no thread. */
struct posix_jobs;
struct posix_jobs *posix_jobs_open(int nice);
int posix_jobs_descriptor(const struct posix_jobs *j); /* readable when jobs can be reaped */
void posix_jobs_close(struct posix_jobs *j); /* drains; done() of the rest is not called */
struct job_runner posix_jobs(struct posix_jobs *j);

/* A router over worker threads. `entries`: operations at a time. NULL: no memory or no thread. */
struct posix_router;
struct posix_router *posix_router_open(int dir, uint32_t threads, uint32_t entries);
int posix_router_descriptor(const struct posix_router *r); /* readable when peek has something */
void posix_router_close(struct posix_router *r);           /* waits for what is in flight */
struct io_router posix_router(struct posix_router *r);

/* `fd` of create() and map() is inherited by a successor. */
extern const struct memory_ops posix_memory;

/* Streams over sockets; any descriptor that poll() takes can be watched. Time-outs are rounded up to
 * milliseconds. One thread at a time. NULL: no memory. Closing frees private memory only. */
struct posix_streams;
struct posix_streams *posix_streams_open(void);
void posix_streams_close(struct posix_streams *s);
struct streams posix_streams(struct posix_streams *s);

/* One line on standard error each, with the level as systemd and kernel logs read it. */
struct alert_sink posix_alerts(void);

#endif
