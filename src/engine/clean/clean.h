/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clean: the cleaning merge (mission T5; design: retention), seen from the loop. One pass at a time:
 *
 *   KEEPS    the owner tells which moments are promised
 *   SURVEY   a job looks at all versions up to the pass's end and chooses groups (clean_job.h)
 *   then for each group
 *   TAKE     a slot, if something is left of the group
 *   FREED    the catalogue says that the slot's number is freed: until COMMIT it is room to any start
 *   WRITE    a job writes what is left
 *   COMMIT   the catalogue makes it count and frees the group's segments; then the slots change
 *
 * Everything but the last step is private memory: a process that takes over begins anew. COMMIT is an
 * operation of the owner's that outlives the process.
 *
 *  1. Moments are given up durably before KEEPS is asked, and never promised again. So what was kept stays
 *     enough, whatever happens while a pass goes on: forks are made of moments that are promised.
 *  2. Look-ups that began before the pass see what they would have seen: the pass counts no version as
 *     hidden by one that they do not see (`oldest_reader`).
 */
#ifndef ENGINE_CLEAN_CLEAN_H
#define ENGINE_CLEAN_CLEAN_H

#include <stdint.h>

#include "engine/clean/keep.h"
#include "engine/index.h"
#include "engine/log.h"

struct clean_ops {
    /* Answered by clean_keeps(), clean_freed(), clean_committed(), in a later turn or within the call. The
     * commit's answer comes after log_clean(). */
    void (*want_keeps)(void *ctx);
    void (*want_freed)(void *ctx, uint32_t segment);
    void (*want_commit)(void *ctx, uint32_t cold, uint64_t first_sequence, uint64_t last_sequence);
    /* The oldest moment of a look-up under way, or UINT64_MAX. */
    uint64_t (*oldest_reader)(void *ctx);
};

struct clean_parts {
    struct arena *a;
    struct log *log;
    struct index *index;
    struct file_system files;
    struct job_runner jobs; /* in the background */
    struct alert_sink alerts;
    const struct clean_ops *ops;
    void *ctx;
};

struct clean;
int clean_open(struct clean **out, const struct clean_parts *parts); /* ERR_NOMEM */
/* No job of it runs. */
void clean_close(struct clean *c);

/* Begins a pass over all that was recorded up to a sequence number. ERR_BUSY: one is under way. */
int clean_begin(struct clean *c, uint64_t up_to);
/* Only finds out how many segments such a pass would free, with what is promised then (counts.would_free);
 * changes nothing. */
int clean_begin_survey(struct clean *c, uint64_t up_to);
int clean_is_busy(const struct clean *c);

/* In every turn. 1: it wants another turn soon, though perhaps nothing happens that brings one. */
int clean_turn(struct clean *c);

/* Answers; err: the pass ends. */
void clean_keeps(struct clean *c, int err, const struct keep_promises *promises);
void clean_freed(struct clean *c, int err);
void clean_committed(struct clean *c, int err);

struct clean_counts {
    uint64_t passes, groups;
    uint64_t segments_freed, segments_made;
    uint64_t blocks_moved, versions_seen, versions_dropped;
    uint64_t would_free; /* as the last survey says */
    int last_error;      /* of the last pass, 0: it did all that it could */
    int is_short; /* the last pass ended with as many groups as it takes: there may be more */
};
struct clean_counts clean_counts(const struct clean *c);

#endif
