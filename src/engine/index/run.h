/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run in memory: its directory (header and sections that a look-up needs), and the search in a
 * leaf. Pure functions over bytes; who reads them is find.c.
 */
#ifndef ENGINE_INDEX_RUN_H
#define ENGINE_INDEX_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "engine/index/memtable.h"
#include "engine/index/run_disk.h"

struct run_directory {
    struct run_header header;
    struct run_tables tables;
    const uint8_t *fences;
    const uint8_t *filter;
    uint32_t filter_lines;
    struct run_interval *intervals;
    uint32_t interval_count;
    uint64_t *interval_reach; /* greatest end_block below each node of the implicit tree */
    uint8_t *bytes;           /* owned */
    uint64_t size_bytes;      /* of all this */
};

/* Bytes that are read first; most directories are not longer. */
#define RUN_FIRST_READ_BYTES (64u * 1024)

/* From the first bytes of a run: how many a directory needs, at least a page. ERR_FORMAT,
 * ERR_UNSUPPORTED; ERR_INTEGRITY: of another run. */
int64_t run_directory_need(const uint8_t *bytes, uint64_t len, uint64_t identity);

/* Takes over `bytes` (malloc) if it succeeds: 0. ERR_FORMAT, ERR_UNSUPPORTED, ERR_INTEGRITY,
 * ERR_NOMEM. */
int run_directory_open(struct run_directory *d, uint8_t *bytes, uint64_t len, uint64_t identity);
void run_directory_close(struct run_directory *d);

/* Brings the newest intervals seen into r. */
void run_find_intervals(const struct run_directory *d, const struct ancestry *view, uint64_t limit,
                        uint64_t chunk, struct level_result *r);

/* Takes from r->wanted the blocks that no entry has, as the filter says. The leaves in which versions of the
 * others may be: [*first, *end). */
void run_leaves(const struct run_directory *d, uint32_t family, uint64_t chunk,
                struct level_result *r, uint32_t *first, uint32_t *end);

/* Whether leaf `leaf` of that range cannot add to what r has: asked in ascending order of leaves. */
int run_leaf_is_vain(const struct run_directory *d, uint32_t leaf, uint32_t family, uint64_t limit,
                     uint64_t chunk, const struct level_result *r);

/* Searches a leaf that checks; 0 or ERR_FORMAT. */
int run_find_in_leaf(const struct run_directory *d, const uint8_t *page,
                     const struct ancestry *view, uint64_t limit, uint64_t chunk,
                     struct level_result *r);

/* Goes through the times section (a run read whole): calls each(sequence, time). */
int run_times(const uint8_t *run, uint64_t len,
              void (*each)(void *ctx, uint64_t sequence, uint64_t time_ns), void *ctx);

#endif
