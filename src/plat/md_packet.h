/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MD packet (the mission's MDPacket): one block request on its way from an I/O source to the engine
 * and back. A preserved slot; it holds references to buffers, never bytes.
 *
 * Life of a request, by slot state (who makes each edge):
 *
 *   RECEIVING --source: payload complete, or there is none--> READY
 *   READY     --engine: write recorded, durability awaited--> APPLIED
 *   READY | APPLIED --engine: finished, error set----------> DONE
 *   DONE      --source: reply has left---------------------> free
 *
 * READY requests are restartable: whatever the engine does for them before APPLIED or DONE is
 * either in private memory or part of the same turn as that edge. After an attach all READY
 * requests are given to the engine again, in order of arrival and flagged REPLAYED; `progress` says
 * how much of a long write is recorded already.
 */
#ifndef PLAT_MD_PACKET_H
#define PLAT_MD_PACKET_H

#include <stdint.h>

#include "base/layout.h"
#include "plat/data_plane.h"

enum request_state {
    REQUEST_RECEIVING = 1,
    REQUEST_READY = 2,
    REQUEST_APPLIED = 3,
    REQUEST_DONE = 4,
};

enum request_op {
    REQUEST_READ = 1,
    REQUEST_WRITE = 2,
    REQUEST_FLUSH = 3,
    REQUEST_TRIM = 4,  /* whole blocks inside the range read as zero; the rest keeps its content */
    REQUEST_ZERO = 5,  /* the range reads as zero */
    REQUEST_CACHE = 6, /* read ahead; no data returned */
    REQUEST_BLOCK_STATUS = 7, /* data receives arrays of struct request_status_extent */
    REQUEST_MESSAGE = 8,      /* not a block request: bytes that the source itself sends */
};

enum request_flag {
    REQUEST_FUA = 1 << 0,        /* DONE only when durable */
    REQUEST_REPLAYED = 1 << 1,   /* the engine has seen it before a reload (mission T10) */
    REQUEST_NO_HOLE = 1 << 2,    /* ZERO: keep the room (we do anyway) */
    REQUEST_STATUS_ONE = 1 << 3, /* BLOCK_STATUS: one extent is enough */
    REQUEST_LAST = 1 << 4,       /* the connection closes when this reply has left */
    /* BLOCK_STATUS: which sections its answer has, below. */
    REQUEST_STATUS_NO_PLACES = 1 << 5,
    REQUEST_STATUS_CHANGES = 1 << 6,
    REQUEST_STATUS_VERSIONS = 1 << 7,
};

/* Extents of the buffers of one request. 32 MiB, the largest payload, needs 8192 pages; if the pool
 * is so scattered that this many extents do not hold it, the source waits. */
#define REQUEST_EXTENTS 8
#define REQUEST_HEAD_BYTES 64

HANDLE(request)
HANDLE(volume)
HANDLE(conn)

/*
 * data        buffers: payload of a write, result of a read or block status
 * data_start  where byte 0 of the payload lies in the buffers: offset_bytes % 4096 for READ and
 *             WRITE, so that blocks lie on pages
 * head        reply bytes of the source, sent before the data; reply_data_bytes of data follow,
 *             from data_start on
 *
 * Only TRIM, ZERO, CACHE and BLOCK_STATUS are longer than 32 bits can tell: they carry no payload.
 */
#define REQUEST_FIELDS(F, A)                                                                       \
    F(uint8_t, op)                                                                                 \
    F(uint8_t, data_extents)                                                                       \
    F(uint16_t, flags)                                                                             \
    F(int32_t, error)                                                                              \
    F(uint64_t, arrival)    /* running number over all sources: the order of replay */             \
    F(uint64_t, arrived_ns) /* monotonic */                                                        \
    F(uint64_t, offset_bytes)                                                                      \
    F(uint64_t, length_bytes)                                                                      \
    F(uint64_t, progress) /* bytes of a write, trim or zero that are recorded */                   \
    F(struct volume_h, volume)                                                                     \
    F(struct conn_h, conn)                                                                         \
    F(uint64_t, cookie)   /* the source's: NBD cookie, iSCSI task tag */                           \
    F(uint64_t, sequence) /* of its last record; the one that a flush waits for; the moment    \
                                 since which a BLOCK_STATUS tells changes, set by the source */   \
    F(struct request_h, next) /* in the connection's queue of replies */                           \
    F(uint32_t, source_op)    /* the source's own command code and flags */                        \
    F(uint32_t, data_start)                                                                        \
    F(uint32_t, head_bytes)                                                                        \
    F(uint32_t, reply_data_bytes)                                                                  \
    A(uint8_t, head, REQUEST_HEAD_BYTES)                                                           \
    A(struct extent, data, REQUEST_EXTENTS)                                                        \
    F(uint32_t, received_bytes) /* payload, as of the last turn */                                 \
    A(uint8_t, reserved, 16)
SLOT_STRUCT(request, REQUEST_FIELDS)

/* What BLOCK_STATUS puts into data, from data_start 0, in one section for each kind that is asked for, in
 * this order; arena/request.h tells where. All sections cover the same bytes from the offset on.
 *
 *   places      REQUEST_STATUS_HOLE, REQUEST_STATUS_ZERO    unless NO_PLACES
 *   changes     REQUEST_STATUS_CHANGED                      CHANGES: written after `sequence`
 *   versions    sequence number of the last write           VERSIONS; 0: none is known */
struct request_status_extent {
    uint64_t length_bytes;
    uint64_t status;
};
enum request_status_kind {
    REQUEST_STATUS_OF_PLACES,
    REQUEST_STATUS_OF_CHANGES,
    REQUEST_STATUS_OF_VERSIONS,
    REQUEST_STATUS_KINDS,
};
#define REQUEST_STATUS_HOLE 1u
#define REQUEST_STATUS_ZERO 2u
#define REQUEST_STATUS_CHANGED 1u

#endif
