/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: the time store. Every write becomes a version in the log; a block's present and past are
 * found through the index; a timeline says which versions a volume sees. Uses base, plat and arena;
 * never sees the network, a protocol or the operating system.
 *
 *   log/        frames, segments, the store's header, recovery: truth on disk
 *   index/      which version of a block lies where: memtables, runs, block table
 *   timeline/   who sees which versions: ancestors, moments
 *   catalogue/  volumes, timelines, marks, images by name (SQLite in its own thread)
 *   engine.c    the life of a request
 *
 * This header: the engine's preserved structures that more than one of these folders reads.
 */
#ifndef ENGINE_SLOTS_H
#define ENGINE_SLOTS_H

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "engine/thinning.h"
#include "plat/md_packet.h"

HANDLE(timeline)
HANDLE(activity)

#define VOLUME_NAME_BYTES 64

enum volume_state {
    VOLUME_CREATING = 1, /* its catalogue row is not durable yet: not served */
    VOLUME_ONLINE = 2,
    VOLUME_LOST = 3,    /* answered writes may be missing: not served until accept-loss */
    VOLUME_LEAVING = 4, /* being deleted or closed: no new requests */
    VOLUME_HELD = 5,    /* an operation is about to change it: requests that have not begun wait */
    VOLUME_DELETED = 6, /* in the trash: not served, its name taken */
};

enum volume_flag {
    VOLUME_READ_ONLY = 1 << 0,
    VOLUME_IMAGE = 1 << 1,          /* an open time image; else a volume */
    VOLUME_DURABLE_WRITES = 1 << 2, /* durability=write: answered means durable */
    VOLUME_ON_DEMAND = 1 << 3,      /* an image that is closed with its last user */
};

/* A disk that front ends serve: a volume, or an open image. */
#define VOLUME_FIELDS(F, A)                                                                        \
    A(uint8_t, name, VOLUME_NAME_BYTES) /* NUL-terminated; an image's disks share its name */      \
    F(uint64_t, id)                     /* catalogue */                                            \
    F(uint64_t, size_bytes)                                                                        \
    F(struct timeline_h, timeline)                                                                 \
    F(uint32_t, block_size) /* smallest unit of requests: 512 or 4096 */                           \
    F(uint32_t, flags)                                                                             \
    F(uint32_t, users)           /* connections that serve it */                                   \
    F(uint64_t, created_ns)      /* wall */                                                        \
    F(uint64_t, source_id)       /* image: the volume it shows */                                  \
    F(uint64_t, moment_sequence) /* image: what it shows */                                        \
    F(uint64_t, moment_ns)                                                                         \
    F(uint64_t, lease_until_ns)  /* image: store time; 0 = until closed */                         \
    F(uint64_t, deleted_ns)      /* DELETED: wall */                                               \
    F(uint64_t, oldest_sequence) /* volume: its oldest promised moment (catalogue.h) */            \
    F(uint64_t, oldest_ns)       /* the same: wall */                                              \
    F(uint64_t, retain_ns)       /* volume: how much history it is to keep; 0: no limit */         \
    F(uint64_t, retain_bytes)                                                                      \
    F(struct activity_h, activity) /* of its newest second (activity.h) */                         \
    F(uint32_t, pad)                                                                               \
    F(uint64_t, flushed_sequence)          /* newest record, of any volume, at a flush; */         \
    F(uint64_t, flushed_ns)                /* wall; 0: written since, or told */                   \
    A(uint64_t, thinning, THINNING_LEVELS) /* volume: its policy (thinning.h) */                   \
    F(uint64_t, fine_sequence)             /* volume: from here on all moments are promised; */    \
    F(uint64_t, fine_ns)                   /* wall; 0: from oldest_sequence on */
SLOT_STRUCT(volume, VOLUME_FIELDS)
SLOT_TABLE(volume, TABLE_VOLUME)

enum timeline_state { TIMELINE_CREATING = 1, TIMELINE_LIVE = 2 };

/* The sequence of writes that a volume shows. It sees its own records, and those of its parent up
 * to fork_sequence, and so on. */
#define TIMELINE_FIELDS(F, A)                                                                      \
    F(uint32_t, id)     /* catalogue; stands in records; never reused */                           \
    F(uint32_t, family) /* id of the first timeline of the family */                               \
    F(uint32_t, parent) /* id, 0: none */                                                          \
    F(uint32_t, flags)                                                                             \
    F(uint64_t, fork_sequence)  /* parent's records up to and including this are seen */           \
    F(uint64_t, first_sequence) /* no record of its own is older */                                \
    F(uint64_t, last_sequence)  /* its newest record, 0: none */                                   \
    A(uint8_t, reserved, 32)
SLOT_STRUCT(timeline, TIMELINE_FIELDS)
SLOT_TABLE(timeline, TABLE_TIMELINE)

/* A slot file of the log and the segment in it (log/). By whom each edge is made:
 *
 *   (none) --job: room allocated--> FREE --job begins--> PREPARING --job done--> RESERVED
 *   RESERVED --append needs room--> OPEN --full, and all durable--> SEALING --footer durable-->
 *   SEALED --catalogue: freed--> FREE, or LEAVING until the last read of it ends
 *   OPEN --no frame was ever durable in it--> FREE
 *   RESERVED --a cleaning takes it--> COLD --catalogue: it counts, others are freed--> SEALED
 *   COLD --the cleaning ends without that--> FREE
 */
enum segment_state {
    SEGMENT_OPEN = 1,      /* takes records, or frames of it are on their way */
    SEGMENT_SEALING = 2,   /* complete and durable; its run is being made */
    SEGMENT_SEALED = 3,    /* run written and durable */
    SEGMENT_FREE = 4,      /* the slot may be used for a new segment */
    SEGMENT_RESERVED = 5,  /* prepared for segment `number`, which has no frame yet */
    SEGMENT_PREPARING = 6, /* a job works on the slot */
    SEGMENT_LEAVING = 7,   /* freed, and still read */
    SEGMENT_COLD = 8,      /* a cleaning writes it; nobody reads it */
};

enum segment_flag {
    SEGMENT_CLOSED = 1 << 0,        /* OPEN: takes no more records */
    SEGMENT_RAW = 1 << 1,           /* its room was never written */
    SEGMENT_CREATING = 1 << 2,      /* PREPARING: the file is being made */
    SEGMENT_MORE_FAMILIES = 1 << 3, /* more than its notes hold */
    SEGMENT_IS_COLD = 1 << 4,       /* SEALED: it has a run and data, but no frames */
};

/* first_*, last_* and what follows data_end count durable frames; number to blocks, all. */
#define SEGMENT_FIELDS(F, A)                                                                       \
    F(uint32_t, file)   /* slot file number: log/slot-NNNNNNNN */                                  \
    F(uint32_t, number) /* segment number, never reused; 0: none yet */                            \
    F(uint32_t, flags)                                                                             \
    F(uint32_t, append_end) /* bytes given to frames */                                            \
    F(uint32_t, records)                                                                           \
    F(uint32_t, blocks)   /* of data */                                                            \
    F(uint32_t, data_end) /* bytes used by durable frames */                                       \
    F(uint32_t, frames)                                                                            \
    F(uint64_t, first_sequence)                                                                    \
    F(uint64_t, last_sequence)                                                                     \
    F(uint64_t, first_time_ns) /* store time */                                                    \
    F(uint64_t, last_time_ns)                                                                      \
    F(uint64_t, first_wall_ns)                                                                     \
    F(uint64_t, last_wall_ns)                                                                      \
    F(uint64_t, follows) /* the number before the first */                                         \
    F(uint64_t, first_epoch)                                                                       \
    F(uint64_t, last_epoch)                                                                        \
    F(uint32_t, previous_segment) /* the frame before the first */                                 \
    F(uint32_t, previous_offset)                                                                   \
    F(uint32_t, previous_crc)                                                                      \
    F(uint32_t, last_frame_offset)                                                                 \
    F(uint32_t, last_frame_crc)                                                                    \
    F(uint32_t, notes)    /* buffer page + 1 with samples and families, while it is not SEALED */  \
    F(uint32_t, samples)  /* in the notes */                                                       \
    F(uint32_t, families) /* in the notes */                                                       \
    F(uint32_t, run_offset) /* where the footer's run begins */                                    \
    F(uint32_t, run_bytes)                                                                         \
    F(uint32_t, run_crc)                                                                           \
    F(uint32_t, versions)                                                                          \
    F(uint32_t, memtable)      /* index of its memtable + 1, 0: none; index/ */                    \
    F(uint32_t, attempts)      /* at preparing or sealing that failed in a row */                  \
    F(uint64_t, rest_until_ns) /* once it is FREE: not used before, monotonic */                   \
    F(uint64_t, catalogue)     /* the highest of its frames (docs/formats.md) */                   \
    F(uint32_t, wall_spans)    /* in the notes */                                                  \
    A(uint8_t, reserved, 20)
HANDLE(segment)
SLOT_STRUCT(segment, SEGMENT_FIELDS)
SLOT_TABLE(segment, TABLE_SEGMENT)

#endif
