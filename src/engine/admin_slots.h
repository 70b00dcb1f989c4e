/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations under way (TABLE_OPERATION): what was asked of volumes, images and marks, with all
 * arguments, so that a process that takes the arena over goes on where the last one died. Steps and
 * who makes them: admin.h.
 */
#ifndef ENGINE_ADMIN_SLOTS_H
#define ENGINE_ADMIN_SLOTS_H

#include "engine/slots.h"

#define OPERATION_VOLUMES_MAX 64
#define OPERATION_DETAIL_BYTES 160

enum operation_state {
    OPERATION_RESOLVE = 1,   /* the moment's sequence number is being looked up */
    OPERATION_HOLD = 2,      /* its volumes take no new requests; those begun are to end */
    OPERATION_PREPARE = 3,   /* a record that has to be durable before the catalogue says so */
    OPERATION_DURABLE = 4,   /* the log is to be durable up to wait_sequence */
    OPERATION_CATALOGUE = 5, /* the transaction is under way, or its result is being applied */
    OPERATION_SETTLE = 6,    /* the log is to be durable up to its last record */
    OPERATION_BURY = 7,      /* slots and segments of dead families are being freed */
    OPERATION_FREE = 8,      /* the catalogue is told of freed segments */
    OPERATION_DONE = 9,      /* error, detail and results are set; the asker takes them */
    OPERATION_ROOM = 10,     /* the records that follow the commit are to find room */
};

enum operation_kind {
    OPERATION_VOLUME_CREATE = 1,
    OPERATION_VOLUME_RESIZE = 2,
    OPERATION_VOLUME_SET = 3,
    OPERATION_VOLUME_DELETE = 4, /* into the trash; with NOW: for good */
    OPERATION_VOLUME_UNDELETE = 5,
    OPERATION_ACCEPT_LOSS = 6,
    OPERATION_DECLARE_LOSS =
        7, /* of all volumes: a cold start that could not save the log's tail */
    OPERATION_IMAGE_OPEN = 8,
    OPERATION_IMAGE_CLOSE = 9,
    OPERATION_IMAGE_PROMOTE = 10,
    OPERATION_RESTORE = 11,
    OPERATION_RESTORE_RANGE = 12,
    OPERATION_MARK = 13,
    OPERATION_MARK_DELETE = 14,
    OPERATION_SWEEP = 15,    /* frees segments that only hold what is dead */
    OPERATION_CLEAN = 16,    /* a cold segment counts, and those that it stands for are freed */
    OPERATION_ACTIVITY = 17, /* seconds of activity go to the catalogue */
    OPERATION_MOMENT = 18,   /* what the store showed at a whole minute goes to the catalogue */
    OPERATION_KINDS = 19,
};

enum operation_flag {
    OPERATION_FORCE = 1 << 0,
    OPERATION_NOW = 1 << 1,
    OPERATION_WRITABLE = 1 << 2,
    OPERATION_ON_DEMAND = 1 << 3,
    OPERATION_DRY_RUN = 1 << 4,
    OPERATION_DESTRUCTIVE = 1 << 5,
    OPERATION_KEEP = 1 << 6, /* mark: hold its moment */
    OPERATION_DURABLE_WRITES = 1 << 7,
    OPERATION_INTERNAL = 1 << 8,        /* nobody waits: the slot is freed when done */
    OPERATION_KEEP_DURABILITY = 1 << 9, /* set: DURABLE_WRITES is not looked at */
    OPERATION_SET_RETAIN = 1 << 10,     /* set: retain_ns is */
    OPERATION_SET_RETAIN_BYTES = 1 << 11,
    OPERATION_SET_THINNING = 1 << 12, /* set: thinning is */
    OPERATION_EXACT = 1 << 13,        /* no other moment than the one asked for */
};

enum operation_moment {
    OPERATION_AT_NOW = 0,
    OPERATION_AT_SEQUENCE = 1, /* moment: the sequence number */
    OPERATION_AT_TIME = 2,     /* moment: wall time */
    OPERATION_AT_MARK = 3,     /* label */
};

/* volumes: those asked for, or the disks of the image; held[i]: the state that volumes[i] had before
 * it was held, 0: not held. made, made_lines: slots reserved for what the operation makes.
 * results, by kind:
 *   all        0 sequence and 1 time_ns of the moment, if there is one
 *   RESTORE(_RANGE)  2 the sequence that undoes it: the moment before, 3 its wall time
 *   all        5 whether that moment stands for the one asked for, which is not kept
 *   DELETE     3 freed bytes, 4 when deleted */
#define OPERATION_FIELDS(F, A)                                                                     \
    F(uint64_t, id)    /* of its transactions; random, for ever */                                 \
    F(uint64_t, reply) /* the asker's own word */                                                  \
    F(uint16_t, kind)                                                                              \
    F(uint16_t, transactions) /* that have been committed: the next one's step */                  \
    F(uint32_t, flags)                                                                             \
    F(int32_t, error)                                                                              \
    F(uint32_t, volume_count)                                                                      \
    A(struct volume_h, volumes, OPERATION_VOLUMES_MAX)                                             \
    A(struct volume_h, made, OPERATION_VOLUMES_MAX)                                                \
    A(struct timeline_h, made_lines, OPERATION_VOLUMES_MAX)                                        \
    A(uint8_t, held, OPERATION_VOLUMES_MAX)                                                        \
    A(uint8_t, name, VOLUME_NAME_BYTES)  /* of what is made, or of the mark */                     \
    A(uint8_t, label, VOLUME_NAME_BYTES) /* AT_MARK */                                             \
    A(uint8_t, uuid, 16)                                                                           \
    F(uint64_t, size_bytes)                                                                        \
    F(uint32_t, block_size)                                                                        \
    F(uint32_t, moment_kind)                                                                       \
    F(uint64_t, moment)                                                                            \
    F(uint64_t, sequence)      /* resolved; CLEAN: from here; DECLARE_LOSS: before it */           \
    F(uint64_t, moment_ns)     /* the same */                                                      \
    F(uint64_t, now_sequence)  /* newest when the volumes were quiet, or when it was asked */      \
    F(uint64_t, wait_sequence) /* DURABLE, SETTLE; CLEAN: up to here; DECLARE_LOSS: how many */    \
    F(uint64_t, now_ns)        /* wall, when it was asked; MOMENT: how long it was so */           \
    F(uint64_t, lease_ns)      /* length; MOMENT: store time */                                    \
    F(uint64_t, offset_bytes)  /* range */                                                         \
    F(uint64_t, length_bytes)                                                                      \
    F(uint32_t, family) /* BURY */                                                                 \
    F(uint32_t, cursor) /* BURY, FREE: the last segment looked at; CLEAN: the cold one, 0: none */ \
    A(uint64_t, results, 8)                                                                        \
    A(uint8_t, detail, OPERATION_DETAIL_BYTES)                                                     \
    F(uint64_t, retain_ns) /* create, set */                                                       \
    F(uint64_t, retain_bytes)                                                                      \
    A(uint64_t, thinning, THINNING_LEVELS)                                                         \
    A(uint8_t, reserved, 16)
HANDLE(operation)
SLOT_STRUCT(operation, OPERATION_FIELDS)
SLOT_TABLE(operation, TABLE_OPERATION)

#endif
