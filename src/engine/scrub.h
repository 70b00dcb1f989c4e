/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub: everything that lies in the store's sealed segments and merged runs is read and checked (check/check.h),
 * file by file, beside what the server does (design: integrity).
 *
 *  1. Segments in the order of their numbers, the cold ones too; those that are not sealed are looked at by the next
 *     pass, and by a start. Then the merged runs, each by itself.
 *  2. A segment is pinned while a job reads it, and a merged run too: whatever is freed meanwhile keeps its file until
 *     the job has ended. So nothing that is put in the place of another is taken for damage.
 *  3. One file a job, in the background, and then a pause, so that no more than `bytes_per_s` are read.
 *  4. What is told of a file is an alert with its path as subject. A later pass that finds it whole takes that back.
 *
 * How far a pass has come is preserved (root.h), and over a cold start known as it was when the store header was written
 * last, as by a stop; but then a pass that has found something begins anew. Private memory is made again.
 */
#ifndef ENGINE_SCRUB_H
#define ENGINE_SCRUB_H

#include <stdint.h>

#include "engine/index.h"
#include "engine/log.h"
#include "plat/alert.h"
#include "plat/clock.h"
#include "plat/file.h"
#include "plat/job.h"

struct scrub_parts {
    struct arena *a;
    struct log *log;
    struct index *index;
    struct file_system files;
    struct job_runner jobs; /* in the background */
    struct alert_sink alerts;
    struct clock clock;
    uint64_t bytes_per_s; /* 0: no pause */
    uint64_t period_ns;   /* a pass begins when the last one is so old; 0: when it is told */
};

struct scrub;
int scrub_open(struct scrub **out,
               const struct scrub_parts *parts); /* also at an attach; ERR_NOMEM */
/* Of a process that ends. */
void scrub_close(struct scrub *s);

/* Begins a pass from the first segment on, unless one is under way: then it goes on. */
void scrub_begin(struct scrub *s);
void scrub_stop(struct scrub *s);

/* In every turn. */
void scrub_turn(struct scrub *s);
/* Monotonic: when it wants a turn; UINT64_MAX: when something happens. */
uint64_t scrub_deadline(const struct scrub *s);

struct scrub_state {
    int is_running;
    uint64_t began_ns,
        ended_ns;   /* wall: of the pass under way, or that ended last whole; 0: none */
    uint32_t files; /* looked at in this pass, or the last */
    uint64_t bytes;
    uint32_t damaged, mended; /* files of it: something is lost; the server can do without */
};
struct scrub_state scrub_state(const struct scrub *s);

#endif
