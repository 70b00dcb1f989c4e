/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of a run (docs/formats-run.md): the versions of one or more segments, sorted, and what
 * is needed to find one with one read of 4 KiB. Immutable.
 *
 *     page 0    | sections ..............................  | leaves, 4 KiB each
 *     header    | families, timelines, segments, fences,   | entries by (family, block,
 *               | filter, intervals, times                 | sequence descending)
 *
 * Header and leaves carry their CRC-32C at offset 12, over the whole page with that field as zero,
 * and the run's identity; each section's CRC stands in the header. What a file contains is never
 * trusted further than that: decoding checks every index and length.
 */
#ifndef ENGINE_INDEX_RUN_DISK_H
#define ENGINE_INDEX_RUN_DISK_H

#include <stddef.h>
#include <stdint.h>

#include "base/units.h"
#include "engine/version.h"

#define RUN_PAGE_BYTES 4096u
#define RUN_VERSION 1u
#define RUN_FEATURES_KNOWN UINT64_C(0)
#define RUN_RESTART_ENTRIES 32u
#define RUN_FILTER_LINE_BYTES 64u
#define RUN_FILTER_BITS_PER_KEY 10u
#define RUN_FILTER_PROBES 6u
#define RUN_FILTER_SHIFT_MAX 6u /* a chunk */

enum run_section {
    RUN_FAMILIES = 0,
    RUN_TIMELINES = 1,
    RUN_SEGMENTS = 2,
    RUN_FENCES = 3,
    RUN_FILTER = 4,
    RUN_INTERVALS = 5,
    RUN_TIMES = 6, /* the last: a look-up does not need it */
    RUN_SECTIONS = 7,
};

/* Bytes of one element; of a filter: one line. Intervals and times have no fixed length. */
#define RUN_FAMILY_BYTES 12u
#define RUN_TIMELINE_BYTES 4u
#define RUN_SEGMENT_BYTES 16u
#define RUN_FENCE_BYTES 24u
#define RUN_INTERVAL_BYTES_MAX 64u
#define RUN_TIME_BYTES_MAX 20u

struct run_part {
    uint64_t offset;
    uint64_t bytes;
    uint32_t count;
    uint32_t crc;
};

struct run_header {
    uint64_t identity;
    uint64_t features_refuse;
    uint64_t features_ignore;
    uint64_t bytes; /* of the whole run */
    uint32_t first_leaf_page;
    uint32_t leaves;
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint64_t first_time_ns;
    uint64_t last_time_ns;
    uint64_t entries;
    uint64_t blocks;       /* of data */
    uint32_t filter_shift; /* a key of the filter stands for 2^so many blocks */
    struct run_part parts[RUN_SECTIONS];
};

void run_header_encode(const struct run_header *h, uint8_t *page);

/* ERR_FORMAT: not a header, damaged, or its parts do not lie in the run; ERR_UNSUPPORTED: of a later
 * version, or with a feature that refuses. */
int run_header_decode(const uint8_t *page, struct run_header *h);

/* Up to where a look-up needs the run's beginning. */
static inline uint64_t run_directory_bytes(const struct run_header *h) {
    return h->parts[RUN_TIMES].offset;
}

/* One version of up to 64 blocks of one chunk. */
struct run_entry {
    uint32_t family;
    uint32_t timeline;
    uint32_t segment; /* DATA: where the data are; else where the record was written */
    uint32_t blocks;
    uint64_t block;
    uint64_t sequence;
    uint64_t time_ns; /* to build */
    uint64_t place;   /* kind alone if it is not DATA */
    uint32_t ref_timeline;
    uint64_t ref_sequence;
    const uint32_t *crc; /* to build: DATA, one per block */
};

/* A version that is not data and reaches over a chunk border. */
struct run_interval {
    uint32_t family;
    uint32_t timeline;
    enum place_kind kind;
    uint32_t ref_timeline;
    uint64_t block, end_block;
    uint64_t sequence;
    uint64_t time_ns; /* to build */
    uint64_t ref_sequence;
};

/* The tables that leaves refer to; raw sections. */
struct run_tables {
    uint64_t identity;
    const uint8_t *families, *timelines, *segments;
    uint32_t family_count, timeline_count, segment_count;
};

/* An interval behind another one (NULL: the first), sequences relative to `base`. Numbers are those
 * in the tables. Encoding returns the bytes written, decoding the bytes taken or ERR_FORMAT. */
struct interval_numbers {
    uint32_t family, timeline, ref_timeline;
};
size_t run_interval_encode(const struct run_interval *i, const struct interval_numbers *n,
                           const struct run_interval *before, uint64_t base, uint8_t *p);
int run_interval_decode(const uint8_t *p, const uint8_t *end, const struct run_tables *t,
                        const struct run_interval *before, uint64_t base, struct run_interval *i);

/* Writing a leaf. The caller sets identity, then adds entries in order until one does not fit. */
struct leaf_writer {
    uint8_t *page;
    uint64_t identity;
    uint32_t at;
    uint32_t entries;
    uint32_t restarts;
    uint16_t restart[RUN_PAGE_BYTES / 16];
    struct run_entry last;
    uint32_t last_family, last_timeline, last_segment; /* numbers in the tables */
};
void leaf_begin(struct leaf_writer *w, uint8_t *page, uint64_t identity);
/* Table numbers of the entry's family, timeline, segment and ref_timeline, and the segment's base
 * sequence. Returns 0 if the leaf is full. */
struct leaf_numbers {
    uint32_t family, timeline, segment, ref_timeline;
    uint64_t base_sequence;
};
int leaf_add(struct leaf_writer *w, const struct run_entry *e, const struct leaf_numbers *n);
void leaf_end(struct leaf_writer *w, uint32_t number);

/* 0 if the page is leaf `number` of this run, else ERR_INTEGRITY. */
int leaf_check(const uint8_t *page, uint64_t identity, uint32_t number);

/* Reading a leaf that checks. */
struct leaf_reader {
    const struct run_tables *tables;
    const uint8_t *page;
    uint32_t at, end;
    uint32_t left;
    uint32_t family, timeline, segment; /* numbers in the tables, of the entry in hand */
    int started;
    struct run_entry entry; /* crc: see `crc` */
    const uint8_t *crc;     /* 4 bytes a block, little endian */
};

/* Stands before the first entry not smaller than (family number, block), or before one of at most
 * RUN_RESTART_ENTRIES smaller ones. ERR_FORMAT. */
int leaf_seek(struct leaf_reader *r, const struct run_tables *t, const uint8_t *page,
              uint32_t family, uint64_t block);
/* 1: r->entry is the next; 0: that was all; ERR_FORMAT. */
int leaf_next(struct leaf_reader *r);

/* The filter: a blocked Bloom filter, one line of 64 bytes a key. The key of a block is its number without
 * the lowest filter_shift bits. */
uint32_t run_filter_lines(uint64_t keys);
void run_filter_add(uint8_t *filter, uint32_t lines, uint32_t family, uint64_t key);
int run_filter_test(const uint8_t *filter, uint32_t lines, uint32_t family, uint64_t key);

/* CRC of a section: seeded with identity and number. */
uint32_t run_section_crc(uint64_t identity, uint32_t section, const uint8_t *bytes, size_t len);

#endif
