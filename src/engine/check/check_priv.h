/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of check. */
#ifndef ENGINE_CHECK_CHECK_PRIV_H
#define ENGINE_CHECK_CHECK_PRIV_H

#include "engine/check/check.h"
#include "engine/index/run_build.h"

/* What the frames say of a page of a segment. */
struct check_page {
    uint64_t block, sequence;
    uint32_t family, timeline, crc;
    uint8_t is_data, is_bad, is_indexed;
};

/* A segment with a footer. */
struct check_sealed {
    uint32_t segment; /* 0: none */
    uint64_t first_sequence, last_sequence;
    uint64_t entries; /* of its run */
    int run_is_whole;
};

struct check_slot_state {
    uint32_t file, segment;
    char path[LOG_PATH_BYTES];
    struct segment_footer footer;
    struct link *frames; /* in the slot, of the segment, by offset */
    uint32_t frame_count, frame_room;
    int is_damaged; /* frames of it are */
};

void check_tell(struct check *c, struct check_finding f);

/* Frames of the buffer into s->frames. */
int check_list_frames(struct check *c, struct check_slot_state *s, uint32_t end);
/* Walks a frame: tells what does not check if `tells`, counts it in k. Records above `keep_to` are only
 * checked. */
void check_frame(struct check *c, const struct check_slot_state *s, struct link *k,
                 uint64_t keep_to, int tells);

/* The sealed segment in the buffer, whose footer checks; fills `out`. */
int check_sealed_segment(struct check *c, struct check_slot_state *s, struct check_sealed *out);
/* Its run, against the pages. */
int check_segment_run(struct check *c, struct check_slot_state *s, struct check_sealed *out);
/* Makes the run of the frames again; 1: it is what the footer names, and stands there now. */
int check_remake_run(struct check *c, struct check_slot_state *s);

/* A run with all its leaves: 0; ERR_FORMAT, ERR_INTEGRITY, ERR_NOMEM. each() may be NULL. */
struct check_run_totals {
    uint64_t entries, intervals, blocks;
};
struct run_entry;
int check_run_bytes(const uint8_t *bytes, uint64_t len, uint64_t identity,
                    struct check_run_totals *out,
                    void (*each)(void *ctx, const struct run_entry *e, const uint8_t *crc),
                    void *ctx);

/* The slot into the buffer; tells if it cannot be. */
int check_read_slot(struct check *c, struct check_slot_state *s);

int check_merged_all(struct check *c);
int check_chain(struct check *c, const struct store_header *h);

#endif
