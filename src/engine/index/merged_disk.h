/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The format of a merged run (docs/formats-run.md): a file of its own, written once.
 *
 *     page 0   | pieces, each a run as run_disk.h has it ... | table
 *     header   | by (family, chunk), none of them long       | pieces, segments
 *
 * Header and table are written last, when the pieces are durable: a file without them counts for
 * nothing. What a merged run says is also in the runs of the segments that it names, so it may be
 * thrown away at any time.
 */
#ifndef ENGINE_INDEX_MERGED_DISK_H
#define ENGINE_INDEX_MERGED_DISK_H

#include <stddef.h>
#include <stdint.h>

#define MERGED_PAGE_BYTES 4096u
#define MERGED_VERSION 1u
#define MERGED_PIECES_MAX (1u << 20)
#define MERGED_SEGMENTS_MAX (1u << 22)
#define MERGED_LEVEL_MAX 7u

/* Piece i holds what lies in the chunks from its key to before that of the next one, and has the
 * identity of the merged run + i. */
struct merged_piece {
    uint64_t offset, bytes;
    uint64_t chunk;
    uint32_t family;
    uint32_t directory_bytes;
    uint32_t continues; /* 1: versions of its first chunk are also in the piece before */
};

/* A segment whose run is in it. */
struct merged_segment {
    uint32_t number;
    uint64_t first_sequence, last_sequence;
};

struct merged_table {
    uint8_t store_id[16];
    uint64_t identity;
    uint32_t level; /* 1: of segments' runs; n: of such of level n - 1 */
    uint32_t piece_count, segment_count;
    struct merged_piece *pieces;     /* by (family, chunk) */
    struct merged_segment *segments; /* by sequence */
};

/* No segment is the first one of two merged runs of one level. */
static inline uint64_t merged_identity(uint32_t first_segment, uint32_t level) {
    return (uint64_t)first_segment << 32 | level << 24;
}

static inline uint64_t merged_first_sequence(const struct merged_table *t) {
    return t->segments[0].first_sequence;
}
static inline uint64_t merged_last_sequence(const struct merged_table *t) {
    return t->segments[t->segment_count - 1].last_sequence;
}

size_t merged_table_bytes(const struct merged_table *t);

/* The table as it stands at `offset` of the file, and the header that names it. */
void merged_encode(const struct merged_table *t, uint64_t offset, uint8_t *table,
                   uint8_t header[MERGED_PAGE_BYTES]);

/* Where the table lies. ERR_FORMAT: not a header, or damaged; ERR_UNSUPPORTED: of a later version. */
int merged_header_decode(const uint8_t header[MERGED_PAGE_BYTES], uint64_t *offset,
                         uint64_t *bytes);

/* `bytes` of the table that the header names; t owns what it allocates, see merged_free. ERR_FORMAT,
 * ERR_INTEGRITY, ERR_NOMEM. */
int merged_decode(const uint8_t header[MERGED_PAGE_BYTES], const uint8_t *table,
                  struct merged_table *t);
void merged_free(struct merged_table *t);

/* The pieces in which versions of a chunk may be: [*first, *end). */
void merged_pieces_of(const struct merged_table *t, uint32_t family, uint64_t chunk,
                      uint32_t *first, uint32_t *end);

#endif
