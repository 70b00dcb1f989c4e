/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that stand in preserved memory: tables, regions and routines (mission P3, P5). A number
 * means the same thing in every build for ever; what is retired leaves a gap.
 *
 * A routine index names code that preserved data wants called. Every build brings its own array
 * from index to function; a preserved structure never holds an address.
 */
#ifndef BASE_NUMBERS_H
#define BASE_NUMBERS_H

enum table_number {
    TABLE_CONN = 1,       /* server: one transport connection */
    TABLE_LISTENER = 2,   /* server */
    TABLE_NBD = 3,        /* proto/nbd: state of one NBD connection */
    TABLE_REQUEST = 4,    /* plat/md_packet.h: one block request */
    TABLE_IO = 5,         /* arena/io.h: one disk operation */
    TABLE_ENGINE = 6,     /* engine: the one root slot */
    TABLE_VOLUME = 7,     /* engine: volumes and open images */
    TABLE_TIMELINE = 8,   /* engine */
    TABLE_SEGMENT = 9,    /* engine: log segments */
    TABLE_FRAME = 10,     /* engine: log frames not yet on disk; frozen layout */
    TABLE_OPERATION = 11, /* ctl: control operations under way */
    TABLE_SERVER = 12,    /* server: the one root slot */
    TABLE_LANE = 13,      /* arena/control_plane.h: queues of messages */
    TABLE_MEMTABLE = 14,  /* engine/index: versions of unsealed segments */
    TABLE_WALL = 15,      /* engine/log: what the wall clock showed; one slot */
    TABLE_ACTIVITY = 16,  /* engine: what clients did to volumes, by seconds */
    TABLE_TLS = 17,       /* proto/tls: one connection's records */
    TABLE_TLS_KEYS = 18,  /* proto/tls: what they are encrypted with */
};

enum region_number {
    REGION_BUFFERS = 0,     /* arena/buffer.h */
    REGION_MEMTABLES = 1,   /* engine/index: records of unsealed segments */
    REGION_BLOCK_TABLE = 2, /* engine/index: where each block is now; a cache */
    REGION_TRACE = 3,       /* recent trace points */
    REGION_CONSTANTS = 4,   /* arena/constants.h */
};

/* Constants that preserved data name (arena/constants.h). */
enum constant_number {
    CONSTANT_PROGRAM = 1,         /* text: version of the program that made the arena */
    CONSTANT_PROTOCOL_FIRST = 16, /* text: the name of protocol n of a slot is constant 16 + n */
};

enum routine_number {
    ROUTINE_NONE = 0,
    ROUTINE_FRAME_WRITTEN = 1, /* engine/log: a frame's write has ended */
    ROUTINE_BLOCK_READ = 2,    /* engine: a data read has ended */
    ROUTINE_LEAF_READ = 3,     /* engine/index: a leaf of a run has been read */
    ROUTINE_DISCARD = 4,       /* the owner is gone: only the buffers are given back */
    ROUTINE_EPOCH_WRITTEN = 5, /* engine/log: the store header is durable */
    ROUTINE_COUNT
};

/* What trace points tell, with their words a and b; server/trace_points.c has the names. */
enum trace_code {
    TRACE_ENGINE_BEGINS = 1,  /* a generation; b 0 cold, 1 planned, 2 after a death */
    TRACE_CONNS_ATTACHED = 2, /* a kept << 32 | closed */
    TRACE_IO_ADOPTED = 3,     /* a rings; b disk operations in flight */
    TRACE_ENGINE_SERVES = 4,  /* a generation; b pause in ns */
    TRACE_TURN = 5,           /* a number; b events that began it, not 0 */
    TRACE_CONN_OPENED = 6,    /* a index << 32 | descriptor; b protocol */
    TRACE_CONN_CLOSED = 7,    /* a index << 32 | descriptor */
    TRACE_REQUEST = 8,        /* a index << 32 | operation; b index of the connection */
    TRACE_IO_QUEUED = 9,      /* a routine << 32 | device; b offset in bytes */
    TRACE_IO_DONE = 10,       /* a routine << 32 | device; b bytes or error */
    TRACE_CONTROL = 11,       /* a place in ctl_ops */
    TRACE_RELOAD = 12,        /* a enum custody_prepare as the engine sees it */
    TRACE_STOPS = 13,         /* a generation */
};

#endif
