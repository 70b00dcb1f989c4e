/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cold start's private memory. scan.c fills slots and links from the files, chain.c decides which
 * links count, recover.c makes the arena's slots and tells the index.
 *
 * A *link* is what stands in the log's chain: a frame of a segment that is not sealed, or a whole
 * sealed segment.
 */
#ifndef ENGINE_LOG_RECOVERY_H
#define ENGINE_LOG_RECOVERY_H

#include "engine/log.h"
#include "engine/log/segment_disk.h"
#include "engine/log/store_disk.h"
#include "engine/log/frame_disk.h"

enum slot_content {
    SLOT_RAW = 1, /* no header that checks, no frame: room */
    SLOT_FREED,   /* a freed segment */
    SLOT_SEALED,
    SLOT_UNSEALED, /* a header, and perhaps frames */
    SLOT_FOREIGN,  /* of another store, or another slot's file: left alone */
};

struct scanned_slot {
    uint32_t file;
    uint32_t segment;
    enum slot_content content;
    uint32_t links;      /* that count, and are frames */
    int had_footer;      /* UNSEALED, and its footer is damaged */
    uint32_t frames_end; /* where the last frame found in it ends, whether or not it counts */
    struct segment_h h;
};

enum link_fate { LINK_COUNTS = 0, LINK_VOID, LINK_TORN };

struct link {
    uint32_t slot; /* index into recovery.slots */
    int sealed;
    enum link_fate fate;
    int damaged; /* frame: its records do not check */
    uint32_t bad_blocks;
    uint32_t segment, offset;   /* where it begins */
    struct frame_name previous; /* of the (first) frame */
    struct frame_name name;     /* of the (last) frame */
    uint64_t follows;
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint64_t keep_to; /* <= last_sequence: later records do not count */
    uint64_t first_epoch, last_epoch;
    uint64_t durable;
    uint64_t last_time_ns;
    uint32_t end; /* offset where it ends */
};

/* A frame taken from a dead arena (salvage.c): its pages in private memory. */
struct salvaged {
    struct salvaged *next;
    uint8_t *pages;
    struct frame_header h; /* place, epoch and chain are the writer's */
    uint64_t whole;        /* newest record in it that ends a request, or 0 */
    uint64_t last_time_ns;
};

struct recovery {
    struct store_header header;
    struct scanned_slot *slots;
    uint32_t slot_count;
    struct link *links; /* by segment, offset */
    uint32_t link_count, link_room;
    uint8_t *buffer;   /* one segment */
    int tail;          /* index of the last link that counts, or -1 */
    uint64_t whole;    /* last record of a whole request on disk */
    uint64_t left_out; /* by this start; more than half a segment: all that was prepared, too */
    uint64_t highest_number, highest_epoch;
    uint64_t catalogue;                    /* highest; then what the catalogue says */
    struct wall_span wall[WALL_SPANS_MAX]; /* of all that was read */
    uint32_t wall_count;
    uint32_t highest_segment;
    struct salvaged *salvaged, **salvaged_end;
    uint64_t salvaged_whole; /* 0: nothing to write */
};

struct log;

/* 1: the name of a slot file, and which. */
int slot_of_name(const char *name, uint32_t *file);

/* One more in a growing list, zeroed; NULL: no memory. */
struct link *link_add(struct link **links, uint32_t *count, uint32_t *room);
/* What a frame's header and a segment's footer say of their link. */
struct link link_of_frame(uint32_t slot, const struct frame_header *h);
struct link link_of_footer(uint32_t slot, const struct segment_footer *f);

void recovery_sort_slots(struct recovery *r); /* by file */
void recovery_sort_links(struct recovery *r); /* by segment, offset */

/* All slot files: classes, footers, frames of what is not sealed. */
int recovery_scan(struct log *l, struct recovery *r, struct log_report *report);

/* Which links count. A pure function of the links, the store header and what the catalogue says of
 * segments. */
void recovery_chain(struct recovery *r, const struct log_env *env, struct log_report *report);

/* Number of the newest record that counts, or 0. */
uint64_t recovery_newest(const struct recovery *r);
/* Records above this number do not count. */
void recovery_cut_above(struct recovery *r, uint64_t sequence);

/* What the wall clock showed is true of any frame, whether or not it counts. */
void recovery_learn_wall(struct recovery *r, const struct wall_span *s);

/* Writes what was salvaged behind the end of the log, durable, and tells the index. */
int salvaged_write(struct log *l, struct recovery *r, struct log_report *report);

/* Pages of a frame on disk, one at a time. */
struct disk_frame {
    const struct file_system *files;
    int file;
    uint32_t offset;
    int err; /* of a read that failed: the walk sees a missing page */
    uint8_t page[BLOCK_BYTES];
};
const uint8_t *disk_frame_page(void *disk_frame, uint32_t page);

/* Opens the slot file for reading; a number or an error. */
int recovery_open(const struct log *l, uint32_t file);

#endif
