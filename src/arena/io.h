/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk operations that outlive the process that asked for them. Each is a slot from the turn that
 * wants it to the turn that takes its completion, so its buffers stay claimed while the machine may
 * still write into them, and its outcome is known exactly after a kill (design/arena.md, disk I/O
 * in flight):
 *
 *  1. Operations are queued in the order of their slots' `position`, which continues the router's
 * own numbering; a slot is committed before it is queued.
 *  2. The machine's queue survives the process. It says how many operations it has taken: a slot
 * with a smaller position was handed over and its completion comes through the adopted queue; a
 * larger position was never handed over and is queued again, in the new queue.
 *  3. A completion is retired from the queue only after the turn that took it has committed. Seen
 * twice, it finds no slot the second time.
 *
 * A completion calls routine `routine` with the slot still there; the caller frees nothing: the
 * slot is freed after the routine returns, its buffers as the routine says.
 */
#ifndef ARENA_IO_H
#define ARENA_IO_H

#include <stdint.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "arena/trace.h"
#include "base/numbers.h"
#include "plat/io_router.h"

enum io_state { IO_QUEUED = 1 };

/* `device`: the engine's own number for what is read or written, which io_routines.open turns into
 * the router's. `data`: buffers of the operation; for ROUTINE_FRAME_WRITTEN none: the routine's
 * `vecs` says. */
HANDLE(io)
#define IO_EXTENTS 8
#define IO_FIELDS(F, A)                                                                            \
    F(uint8_t, op)                                                                                 \
    F(uint8_t, data_extents)                                                                       \
    F(uint16_t, flags)                                                                             \
    F(uint32_t, routine)                                                                           \
    F(uint32_t, device)                                                                            \
    F(uint32_t, length_bytes)                                                                      \
    F(uint64_t, offset_bytes)                                                                      \
    F(uint64_t, owner)                                                                             \
    F(uint32_t, position)                                                                          \
    F(uint32_t, queue) /* generation of the queue that position belongs to */                      \
    A(struct extent, data, IO_EXTENTS)                                                             \
    F(uint64_t, queued_ns)
SLOT_STRUCT(io, IO_FIELDS)
SLOT_TABLE(io, TABLE_IO)

extern const struct arena_table_spec io_spec;

struct io_port;

/* What a build brings for each routine index that operations may name. */
struct io_routine {
    /* Fills vecs for an operation without data extents; returns their number. NULL: data extents.
     */
    uint32_t (*vecs)(void *ctx, const struct io *io, struct io_vec *vecs, uint32_t max);
    /* The operation has ended: result = bytes or an error; ERR_CANCELLED: it was not done. Returns
     * 1 if the buffers were taken over by the owner, 0 if they are to be released. */
    int (*done)(void *ctx, struct io_h h, const struct io *io, int32_t result);
    void *ctx;
};

struct io_port {
    struct arena *a;
    struct buffer_pool *buffers;
    struct io_router router;
    uint32_t queue;                                      /* generation of our queue */
    uint32_t next_position;                              /* of the next slot */
    uint32_t waiting_first, waiting_count, waiting_room; /* ring of slots to hand over */
    struct io_h *waiting;
    uint32_t in_flight; /* slots not completed, ours and adopted */
    uint32_t taken;     /* completions of this turn, to be retired */
    struct io_routine routines[ROUTINE_COUNT];
    int (*device)(void *ctx, uint32_t device); /* the router's number, or an error */
    void *device_ctx;
    uint64_t completions; /* counters since start */
    struct trace *trace;  /* NULL: none */
};

int io_open(struct io_port *p, struct arena *a, struct buffer_pool *buffers,
            struct io_router router, uint32_t queue);
void io_close(struct io_port *p);

/* At attach, before anything else takes buffers: claims those of the operations in the slots.
 * ERR_INTEGRITY: two owners of one buffer. */
int io_attach(struct io_port *p);

/* Then, for each queue that a former process has left: the machine has taken over the operations
 * before position `taken_before`; they complete through the router as adopted. The others are put
 * into our queue. A queue that did not survive is io_lost: what was in flight has an unknown
 * outcome, and each operation ends at once with ERR_CANCELLED. */
void io_adopted(struct io_port *p, uint32_t queue, uint32_t taken_before);

/* Returns 1 if there are more, but no room in the undo log: commit, and call again. */
int io_lost(struct io_port *p, uint32_t queue);

/* Operations that the router has and that have not ended; with none, the position before which all have
 * ended. For whoever lets go of a queue that does not outlive the process. */
static inline uint32_t io_handed_over(const struct io_port *p) {
    return p->in_flight - p->waiting_count;
}
static inline uint32_t io_next_handed_over(const struct io_port *p) {
    return p->next_position - p->waiting_count;
}

/* Wants an operation in this turn; 0 if the table is full. The caller puts the
 * buffers, if any, into the slot through io_edit before the turn ends; they are the operation's
 * own. */
struct io_h io_want(struct io_port *p, uint8_t op, uint16_t flags, uint32_t routine, uint64_t owner,
                    uint32_t device, uint64_t offset_bytes, uint32_t length_bytes);

/* After the commit: hands over what waits. */
void io_submit(struct io_port *p);

/* An input of a turn: takes completions, calls routines; returns their number. */
int io_take(struct io_port *p, int max);

/* After the commit of the turn that took them. */
void io_retire(struct io_port *p);

#endif
