/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's root: the one slot of TABLE_ENGINE. Each part of the engine has its fields here, with
 * its own prefix; new ones are appended before `reserved`.
 *
 * log_*    where the log goes on (log/)
 * time_*   store time (log/)
 * scrub_*  how far a pass has come (scrub.h)
 */
#ifndef ENGINE_ROOT_H
#define ENGINE_ROOT_H

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"

enum engine_state { ENGINE_IN_USE = 1 };

enum log_epoch_state {
    LOG_EPOCH_WANTED = 0,  /* to be raised before the next frame */
    LOG_EPOCH_WRITING = 1, /* the store header is on its way */
    LOG_EPOCH_DURABLE = 2,
};

enum log_move {
    LOG_MOVE_NONE = 0,
    LOG_MOVE_SKIP = 1,    /* a write's outcome is unknown: go on behind it */
    LOG_MOVE_SEGMENT = 2, /* a write failed: go on in another segment */
};

/* log_end_*: the newest durable frame, by its name, and what follows it. */
#define ENGINE_FIELDS(F, A)                                                                        \
    A(uint8_t, store_id, 16)                                                                       \
    F(uint64_t, log_created_ns)                                                                    \
    F(uint32_t, log_segment_bytes)                                                                 \
    F(uint32_t, log_segment_records)                                                               \
    F(uint64_t, log_features_ignore)                                                               \
    F(uint64_t, log_epoch)                                                                         \
    F(uint64_t, log_store_counter) /* of the store header written last */                          \
    F(uint32_t, log_epoch_state)                                                                   \
    F(uint32_t, log_next_segment)   /* segment number */                                           \
    F(uint32_t, log_append_segment) /* handle of the one that takes records, 0: none */            \
    F(uint32_t, log_seal_waits)     /* 1: a full segment ends within a request */                  \
    F(uint64_t, log_recorded)                                                                      \
    F(uint64_t, log_durable)                                                                       \
    F(uint64_t, log_wanted)  /* somebody waits until this is durable */                            \
    F(uint64_t, log_follows) /* the newest record's number; a start makes a gap */                 \
    F(uint32_t, log_end_segment)                                                                   \
    F(uint32_t, log_end_offset)                                                                    \
    F(uint32_t, log_end_crc)                                                                       \
    F(uint32_t, log_end_bytes)    /* where it ends: offset + length */                             \
    F(uint64_t, log_end_sequence) /* its newest record that counts */                              \
    F(uint64_t, log_whole)        /* the newest durable record that ends a request */              \
    F(uint32_t, log_move)         /* frames that are not durable are to get other places */        \
    F(int32_t, log_error)                                                                          \
    F(uint64_t, log_move_turn)                                                                     \
    F(uint64_t, log_retry_ns) /* monotonic */                                                      \
    F(uint64_t, log_numbers_above)                                                                 \
    F(uint64_t, log_ended_epoch) /* of the store header, as of the last cold start */              \
    F(uint32_t, log_ended_segment)                                                                 \
    F(uint32_t, log_ended_offset)                                                                  \
    F(uint64_t, log_ended_sequence)                                                                \
    F(uint64_t, time_store_ns) /* at time_mono_ns */                                               \
    F(uint64_t, time_mono_ns)                                                                      \
    F(uint64_t, time_wall_ns)                                                                      \
    F(uint32_t, time_suspect)                                                                      \
    F(uint32_t, log_attempts)   /* at the oldest frame that failed */                              \
    F(uint64_t, log_catalogue)  /* transactions that the catalogue has committed */                \
    F(int64_t, time_jump_ns)    /* that made it suspect */                                         \
    F(uint32_t, log_left_out)   /* of the store header, as of the last cold start */               \
    F(uint32_t, scrub_segment)  /* looked at last */                                               \
    F(uint64_t, scrub_began_ns) /* wall; 0: no pass is under way */                                \
    F(uint64_t, scrub_ended_ns) /* wall: of the last whole pass */                                 \
    F(uint64_t, scrub_bytes)                                                                       \
    F(uint32_t, scrub_files)                                                                       \
    F(uint32_t, scrub_damaged)                                                                     \
    F(uint32_t, scrub_mended)                                                                      \
    A(uint8_t, reserved, 68)
HANDLE(engine)
SLOT_STRUCT(engine, ENGINE_FIELDS)
SLOT_TABLE(engine, TABLE_ENGINE)

#endif
