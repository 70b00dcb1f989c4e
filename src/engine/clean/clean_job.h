/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cleaning merge, on a worker: functions over files and private memory.
 *
 * A *survey* reads what all runs say, from the oldest to those of `up_to`, in the order of (family,
 * chunk), and asks of every version whether it is kept (keep.h). It does so twice: first it counts what
 * each segment has left; then it chooses groups of segments that are neighbours in sequence and of which
 * all that is left goes into one, and collects that. A group of which nothing is left needs no new segment.
 *
 * Then each group is written to a slot of its own: data in the order of (family, block), run, footer.
 * Every block is checked before it is written; one that cannot be read, or does not check, leaves its
 * group as it is.
 *
 *  1. A segment in which a version lies that is younger than its family's horizon, or a horizon itself,
 *     is no part of a group: its frames tell the times of moments that are promised.
 *  2. The newest sealed segment is no part of a group: the log's end stands in it.
 */
#ifndef ENGINE_CLEAN_CLEAN_JOB_H
#define ENGINE_CLEAN_CLEAN_JOB_H

#include "engine/clean/keep.h"
#include "engine/index/merge_read.h"
#include "engine/index/run_build.h"
#include "engine/log.h"
#include "plat/file.h"

#define CLEAN_GROUPS_MAX 32u
#define CLEAN_SEGMENTS_MAX 96u            /* of a group */
#define CLEAN_VERSIONS_MAX (1u << 22)     /* of a chunk: one with more is kept as it is */
#define CLEAN_STEP_VERSIONS (128u * 1024) /* read in one step */
#define CLEAN_STEP_BYTES (4u << 20)       /* written in one step */

/* What the survey knows of a segment; given: the first line. Rising by sequence. */
struct clean_segment {
    uint32_t number, is_barred; /* barred: no part of a group */
    uint64_t first_sequence, last_sequence;
    uint64_t versions, blocks; /* left */
    int in_window;
    int32_t group; /* -1: none */
};

/* What is left of the segments [first, end). */
struct clean_group {
    uint32_t first, end;
    uint64_t versions, blocks; /* as counted */
    struct run_entry *entries; /* crc: number in `checks` + 1 until they are written */
    struct run_interval *intervals;
    uint64_t entry_count, entry_room, interval_count, interval_room;
    uint32_t *checks;
    uint64_t check_count, check_room;
};

struct clean_interval {
    struct run_interval i;
    int kept;
};

struct clean_survey {
    /* Given: */
    struct merge_reader reader;
    struct keep keep;
    struct clean_segment *segments;
    uint32_t segment_count;
    uint32_t segment_bytes;
    int counts_only; /* groups are chosen, and nothing is collected */
    /* The answer: */
    struct clean_group groups[CLEAN_GROUPS_MAX];
    uint32_t group_count;
    uint64_t versions, kept_versions; /* seen, kept */
    int has_bad_source;
    uint32_t bad_source;
    /* Its own: */
    int collects, begun, has_item;
    struct merge_item item; /* the next one */
    uint32_t family;
    uint64_t chunk; /* not looked at yet */
    struct clean_interval *open;
    uint32_t open_count, open_room;
    struct run_entry *entries; /* of the chunk */
    uint32_t *checks;
    uint32_t entry_count, entry_room;
    uint64_t check_count, check_room;
    struct keep_version *versions_of_chunk;
    uint32_t version_room;
};

/* 1: there is more; 0: done; or an error. */
int clean_survey_step(struct clean_survey *s);
void clean_survey_free(struct clean_survey *s);
void clean_group_free(struct clean_group *g);

/* One group into its slot. */
struct clean_source {
    uint32_t segment, file;
};
struct clean_write {
    struct file_system files;
    uint8_t store_id[16];
    uint32_t segment_bytes;
    struct clean_group *group;
    struct clean_source sources[CLEAN_SEGMENTS_MAX]; /* by segment number, rising */
    uint32_t source_count;
    struct log_cold cold; /* segment, file and range are given, the rest is the answer */
    uint32_t bad_segment; /* of a block that cannot be read, or does not check */
    uint64_t bad_block;
    uint32_t bad_family;
    /* Its own: */
    uint8_t *data;
    uint64_t data_bytes, written;
    struct clean_move *moves;
    uint64_t move_count, moved;
    int file, is_made;
};
int clean_write_step(struct clean_write *w); /* as above */
void clean_write_free(struct clean_write *w);

#endif
