/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All versions of many runs in the order of (family, block, sequence descending): what merges and
 * cleanings read. In a job: files and private memory.
 */
#ifndef ENGINE_INDEX_MERGE_READ_H
#define ENGINE_INDEX_MERGE_READ_H

#include "engine/index/merged_disk.h"
#include "engine/index/run.h"
#include "plat/file.h"

#define MERGE_PATH_BYTES 48u

struct merge_source_piece {
    uint64_t identity, offset_bytes, size_bytes;
};

/* A run in its slot file, or a merged run with its pieces. */
struct merge_source {
    char path[MERGE_PATH_BYTES];
    uint32_t piece_count;
    struct merge_source_piece *pieces;
};

/* An entry, or an interval. */
struct merge_item {
    int is_interval;
    struct run_entry entry; /* crc is NULL, see below */
    const uint8_t *crc;     /* of data: 4 bytes a block, until the next item is asked for */
    struct run_interval interval;
};

struct merge_cursor;

struct merge_reader {
    struct file_system files;
    const struct merge_source *sources; /* the owner's, while it reads */
    uint32_t source_count;
    int has_bad_source; /* the error is that this one cannot be read, or does not check: */
    uint32_t bad_source;
    /* private */
    struct merge_cursor *cursors;
    int begun;
    int32_t last; /* source of the item that was given, -1: none */
    int last_is_interval;
    uint32_t last_family;
    uint64_t last_block, last_sequence;
};

/* ERR_NOMEM. */
int merge_read_open(struct merge_reader *r, const struct file_system *files,
                    const struct merge_source *sources, uint32_t count);
/* 1: *item is the next; 0: that was all; ERR_IO, ERR_FORMAT, ERR_INTEGRITY, ERR_NOMEM. */
int merge_read_next(struct merge_reader *r, struct merge_item *item);
/* Begins again, or closes the files; in the job. */
void merge_read_rewind(struct merge_reader *r);
/* The memory; of open files nothing is done: the process ends. */
void merge_read_free(struct merge_reader *r);

#endif
