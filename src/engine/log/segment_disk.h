/* SPDX-License-Identifier: Apache-2.0 */
/* Header and footer of a segment in its slot file (docs/formats.md). */
#ifndef ENGINE_LOG_SEGMENT_DISK_H
#define ENGINE_LOG_SEGMENT_DISK_H

#include <stdint.h>

#include "engine/log/block_disk.h"
#include "engine/log/wall.h"

#define SEGMENT_FRAMES_OFFSET BLOCK_BYTES
#define FOOTER_FAMILIES_MAX 64u
#define FOOTER_SAMPLES_MAX 64u
#define FOOTER_WALL_MAX 48u

struct segment_header {
    uint8_t store_id[STORE_ID_BYTES];
    uint32_t segment;
    uint32_t file;
    uint64_t epoch;
    uint64_t wall_ns;
    uint32_t segment_bytes;
};

void segment_header_encode(const struct segment_header *h, uint8_t *block);
/* ERR_FORMAT: not a header, or damaged; ERR_UNSUPPORTED: a later version. */
int segment_header_decode(const uint8_t *block, struct segment_header *h);

/* A frame named by its place and its header's CRC. segment 0: none. */
struct frame_name {
    uint32_t segment;
    uint32_t offset;
    uint32_t crc;
};

static inline int frame_name_same(struct frame_name a, struct frame_name b) {
    return a.segment == b.segment && a.offset == b.offset && a.crc == b.crc;
}

struct footer_sample {
    uint32_t offset;
    uint32_t reserved;
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t wall_ns;
};

enum footer_flag {
    FOOTER_MORE_FAMILIES = 1 << 0,
    FOOTER_COLD = 1 << 1, /* of a cold segment: there are no frames */
};

struct segment_footer {
    uint8_t store_id[STORE_ID_BYTES];
    uint32_t flags;
    uint32_t segment;
    uint32_t file;
    uint32_t data_end;
    uint32_t run_offset;
    uint32_t run_bytes;
    uint32_t run_crc;
    uint32_t versions;
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint64_t first_time_ns;
    uint64_t last_time_ns;
    uint64_t first_wall_ns;
    uint64_t last_wall_ns;
    uint64_t first_epoch;
    uint64_t last_epoch;
    uint32_t frames;
    uint32_t records;
    uint32_t blocks;
    uint32_t sample_count;
    uint32_t family_count;
    struct frame_name previous;
    uint64_t follows;
    uint32_t last_frame_offset;
    uint32_t last_frame_crc;
    uint64_t catalogue; /* the highest of its frames */
    uint32_t families[FOOTER_FAMILIES_MAX];
    struct footer_sample samples[FOOTER_SAMPLES_MAX];
    uint32_t wall_count;
    struct wall_span wall[FOOTER_WALL_MAX];
};

void footer_encode(const struct segment_footer *f, uint8_t *block);
/* segment_bytes bounds the offsets. ERR_FORMAT, ERR_UNSUPPORTED as above. */
int footer_decode(const uint8_t *block, uint32_t segment_bytes, struct segment_footer *f);

/* The 64th part of a segment in which a frame begins; one sample each. */
static inline uint32_t footer_part(uint32_t segment_bytes, uint32_t offset) {
    return offset / (segment_bytes / FOOTER_SAMPLES_MAX);
}

#endif
