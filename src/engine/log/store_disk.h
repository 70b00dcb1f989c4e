/* SPDX-License-Identifier: Apache-2.0 */
/* The store header (docs/formats.md). */
#ifndef ENGINE_LOG_STORE_DISK_H
#define ENGINE_LOG_STORE_DISK_H

#include <stdint.h>

#include "engine/log/block_disk.h"

#define STORE_FILE "store"
#define STORE_VERSION 1u
#define STORE_COPIES 2u
#define STORE_FEATURES_KNOWN UINT64_C(0)

#define SEGMENT_BYTES_MIN (4u << 20)
#define SEGMENT_BYTES_MAX (64u << 20)

enum store_state { STORE_IN_USE = 0, STORE_STOPPED = 1 };

/* The log of all epochs up to `epoch` ended here. */
struct log_end {
    uint64_t epoch;
    uint32_t segment;
    uint32_t offset;
    uint64_t sequence;
};

/* The scrub as it was when the header was written (scrub.h). Times are wall time. */
struct store_scrub {
    uint64_t began_ns, ended_ns, bytes;
    uint32_t segment, files, damaged, mended;
};

struct store_header {
    uint8_t id[STORE_ID_BYTES];
    uint64_t counter;
    uint64_t features_refuse;
    uint64_t features_read_only;
    uint64_t features_ignore;
    uint64_t epoch;
    uint32_t segment_bytes;
    uint32_t segment_records;
    uint64_t created_ns;
    struct log_end ended;
    uint32_t state;
    uint64_t numbers_above;
    uint64_t store_time_ns;
    uint64_t wall_time_ns;
    uint64_t catalogue; /* transactions of the catalogue that were durable when written */
    uint32_t left_out;  /* bytes behind the end of the log that the last start did not use */
    struct store_scrub scrub;
};

void store_encode(const struct store_header *h, uint8_t *block);

/* ERR_FORMAT: not a store header, or damaged. ERR_UNSUPPORTED: of a later version, or with a
 * feature that refuses. ERR_READONLY: decoded, but a feature allows reading only. */
int store_decode(const uint8_t *block, struct store_header *h);

/* Of two copies, the one that counts; ERR_FORMAT if neither checks. */
int store_decode_copies(const uint8_t *blocks, struct store_header *h);

#endif
