/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control plane inside a process: a group's queue is a slot of the arena, changed in turns like
 * any other. What a turn has sent, received or released is undone with it.
 *
 * A *lane* is a ring of messages. Positions count up for ever; position p lies in entry
 * p % LANE_PLACES.
 *
 *   head <= cursor <= tail <= head + LANE_PLACES
 *   [head, cursor)  received by the enabled listener; some of them released
 *   [cursor, tail)  waiting
 *
 * The cursor is private, for whoever is enabled after an attach begins at the head again.
 *
 * Invariants, checked by cp_lanes_open():
 *  1. head <= tail <= head + LANE_PLACES, and the entry at head, if any, is not released.
 *  2. A sender's `used` is the number of its entries in [head, tail) that are not released.
 *  3. slop_used is the sum over the senders of what is used beyond per_sender, and at most slop.
 *  4. `waiting` has bits of existing senders only; told <= sent.
 */
#ifndef ARENA_CONTROL_PLANE_H
#define ARENA_CONTROL_PLANE_H

#include <stdint.h>

#include "arena/arena.h"
#include "base/layout.h"
#include "base/numbers.h"
#include "plat/control_plane.h"

#define LANE_PLACES CP_PLACES_MAX
#define LANES_MAX 16 /* groups in one process */

enum lane_state { LANE_OPEN = 1 };
enum lane_message_state { LANE_QUEUED = 1, LANE_RECEIVED = 2, LANE_RELEASED = 3 };

struct lane_message {
    uint16_t type;
    uint16_t flags;
    uint8_t sender; /* index */
    uint8_t state;
    uint16_t refs; /* if received */
    uint64_t word;
};
_Static_assert(sizeof(struct lane_message) == 16, "padding in struct lane_message");

struct lane_sender {
    uint16_t number;  /* 0: free */
    uint16_t leaving; /* 1: disconnected; free when nothing of it is left */
    uint32_t used;
    uint64_t sent;
    uint64_t told; /* sent messages of which `delivered` has been called */
};
_Static_assert(sizeof(struct lane_sender) == 24, "padding in struct lane_sender");

HANDLE(lane)
#define LANE_FIELDS(F, A)                                                                          \
    F(uint16_t, group_id)                                                                          \
    F(uint16_t, group_instance)                                                                    \
    F(uint32_t, per_sender)                                                                        \
    F(uint32_t, slop)                                                                              \
    F(uint32_t, slop_used)                                                                         \
    F(uint32_t, waiting) /* bit per sender index: to be called when there is room */               \
    F(uint32_t, reserved)                                                                          \
    F(uint64_t, head)                                                                              \
    F(uint64_t, tail)                                                                              \
    A(struct lane_sender, senders, CP_SENDERS_MAX)                                                 \
    A(struct lane_message, ring, LANE_PLACES)
SLOT_STRUCT(lane, LANE_FIELDS)

extern const struct arena_table_spec lane_spec;

/* Private to the process. */
struct cp_listener {
    int registered;
    struct cp_listener_calls calls;
};

struct cp_lane {
    struct lane_h lane;
    uint64_t header_turn;                 /* turn in which the fields before `senders` were saved */
    uint64_t sender_turn[CP_SENDERS_MAX]; /* the same for each sender */
    uint64_t cursor;
    int enabled; /* index of the enabled listener, or -1 */
    int called;  /* ready was called for what lies at seen_cursor and seen_tail */
    uint64_t since_ns, seen_cursor, seen_tail;
    int waits; /* since_ns is valid */
    struct cp_listener listeners[CP_LISTENERS_MAX];
    struct cp_sender_calls senders[CP_SENDERS_MAX];
    uint32_t connected; /* bit per sender index */
};

struct cp_lanes {
    struct arena *arena;
    struct cp_lane lanes[LANES_MAX];
    uint32_t next; /* lane at which dispatch begins */
};

/* After arena_create or arena_attach. ERR_FORMAT: a lane contradicts itself. */
int cp_lanes_open(struct cp_lanes *cp, struct arena *arena);
struct control_plane cp_lanes_interface(struct cp_lanes *cp);

#endif
