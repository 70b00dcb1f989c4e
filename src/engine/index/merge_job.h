/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging runs, on a worker: a function over files and private memory. One call makes one piece, so
 * that others get their turn between, and memory does not grow with the runs.
 *
 * The sources' versions are read in the order of their keys, all at once, and written in that order
 * into pieces of about `entries_max` entries, which are cut between chunks; only the versions of one
 * chunk that are more than that go on in the next piece. Intervals are cut where pieces are, so one
 * that reaches over many is in each; more than `intervals_max` in a piece are not merged: ERR_TOOBIG.
 * Every version is kept. The times of versions are not: those are in the segments' own runs.
 */
#ifndef ENGINE_INDEX_MERGE_JOB_H
#define ENGINE_INDEX_MERGE_JOB_H

#include "engine/index/merge_read.h"
#include "engine/index/run_build.h"
#include "plat/file.h"

#define MERGE_SOURCES_MAX 16u
#define MERGE_ENTRIES_MAX (128u * 1024)
#define MERGE_INTERVALS_MAX (256u * 1024)
#define MERGE_LEAVES_BYTES (UINT64_C(256) << 20) /* of the disk: a merge that finds less ends */
#define MERGE_DIR "index"

struct merge_work {
    /* Given: */
    struct file_system files;
    struct merge_source sources[MERGE_SOURCES_MAX];
    uint32_t source_count;
    uint32_t entries_max, intervals_max;
    struct merged_table table; /* pieces come as they are made */
    char path_new[MERGE_PATH_BYTES], path[MERGE_PATH_BYTES];
    /* Its own: */
    struct merge_reader reader; /* has_bad_source: the error is a source's */
    struct merge_item item;     /* the next one */
    int begun, file, has_item;
    uint64_t at;
    uint32_t piece_room;
    struct run_input piece;
    uint64_t entry_room, interval_room;
    uint32_t *checks;
    uint64_t check_count, check_room;
    struct run_interval *carried; /* go on in the next piece */
    uint64_t carried_count, carried_room;
    uint64_t carried_in; /* from the piece before to this one */
    int continues;       /* the next piece begins in the chunk in which the last one ended */
};

/* 1: there is more; 0: the file stands there under its name, durable; or an error, and then nothing
 * of it does. At the end no file is open. */
int merge_step(struct merge_work *w);

/* The memory; of the files of a merge that has not ended nothing is done: the process ends. */
void merge_free(struct merge_work *w);

/* Reads the merged run of that path: ERR_FORMAT, ERR_INTEGRITY, ERR_UNSUPPORTED: it is none, and may
 * be removed. */
int merge_read_table(const struct file_system *files, const char *path, struct merged_table *t);

#endif
