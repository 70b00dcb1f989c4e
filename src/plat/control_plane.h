/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control plane: ordered, flow-controlled messages to named groups (mission T8, ControlPlaneImpl).
 * A message is two small numbers and one 64-bit word, usually a handle; a group is (id, instance),
 * the id well known, the instance a node. Inside a process the queues lie in the arena
 * (arena/control_plane.h); between processes and nodes they are other implementations of this
 * table.
 *
 * Rules
 *  1. Messages of one sender to one group arrive in the order of sending, each once, or never if
 *     the group ends.
 *  2. A sender has per_sender places in a group's queue, and the slop places are shared by those
 *     who need more. Without a place, send returns ERR_AGAIN, nothing is lost or overwritten, and
 *     `room` is called when there is one.
 *  3. `delivered` is called when messages are in the receiver's queue; in-process that is at the
 *     next dispatch after the send.
 *  4. A listener that is registered but not enabled is a shadow: it is not called. At most one
 *     listener of a group is enabled. Whoever is enabled gets, in order, all that was not released;
 *     what another had received before comes flagged CP_SEEN.
 *  5. A received message is a reference, counted from 1 by hold and release; its place is the
 *     sender's again when the count is 0. take() receives and releases at once.
 *  6. `ready` is called when max_msgs messages wait, or one has waited for max_usecs (0: at once).
 *     It is called again when more come or are taken, or max_usecs later.
 *  7. All callbacks come from dispatch, which calls at most one, so that the loop can commit in
 *     between. A callback may call anything here but dispatch.
 *
 * Listeners, callbacks and numbers of this interface belong to the process and are made anew after
 * an attach; queues, senders and their counts outlive it.
 */
#ifndef PLAT_CONTROL_PLANE_H
#define PLAT_CONTROL_PLANE_H

#include <stdint.h>

#define CP_LISTENERS_MAX 4 /* per group */
#define CP_SENDERS_MAX 16  /* per group */
#define CP_PLACES_MAX 512  /* per group: senders * per_sender + slop */

struct cp_group {
    uint16_t id;
    uint16_t instance;
};

struct cp_limits {
    uint32_t per_sender; /* at least 1 */
    uint32_t slop;
};

enum cp_seen { CP_SEEN = 1 };

struct cp_msg {
    uint16_t type;
    uint16_t flags; /* the sender's */
    uint16_t sender;
    uint16_t seen; /* 0 or CP_SEEN */
    uint64_t word;
    uint64_t id; /* for hold and release */
};

struct cp_listener_calls {
    void (*ready)(void *arg, int listener);
    void *arg;
    uint32_t max_msgs; /* at least 1 */
    uint32_t max_usecs;
};

/* Either may be NULL. */
struct cp_sender_calls {
    void (*delivered)(void *arg, uint64_t count); /* messages sent so far that have arrived */
    void (*room)(void *arg);
    void *arg;
};

struct control_plane_ops {
    /* Registers a shadow listener and, if it is the first one, makes the group. Returns a
     * listener's number, or ERR_NOMEM. The limits are those of the group's first listener. */
    int (*listen)(void *ctx, struct cp_group group, const struct cp_limits *limits);
    /* ERR_BUSY: another one is enabled. */
    int (*enable)(void *ctx, int listener, const struct cp_listener_calls *calls);
    void (*disable)(void *ctx, int listener);
    /* With the last listener the group ends, and what is in its queue. */
    void (*unlisten)(void *ctx, int listener);
    /* Enabled listeners: up to max messages, oldest first; returns their number. */
    int (*receive)(void *ctx, int listener, struct cp_msg *out, int max);
    int (*take)(void *ctx, int listener, struct cp_msg *out, int max);
    void (*hold)(void *ctx, int listener, uint64_t id);
    void (*release)(void *ctx, int listener, uint64_t id);

    /* `sender` is a number other than 0, the same after an attach; connecting again replaces the
     * callbacks. Returns a connection's number; ERR_NOTFOUND (no such group), ERR_NOMEM. */
    int (*connect)(void *ctx, struct cp_group group, uint16_t sender,
                   const struct cp_sender_calls *calls);
    /* Its messages stay. */
    void (*disconnect)(void *ctx, int connection);
    /* 0, ERR_AGAIN, or ERR_CLOSED: the group has ended. */
    int (*send)(void *ctx, int connection, uint16_t type, uint16_t flags, uint64_t word);

    /* Calls at most one callback that is due; returns their number. now_ns: monotonic. */
    int (*dispatch)(void *ctx, uint64_t now_ns);
    /* When dispatch is to be called next if nothing is sent: 0 at once, UINT64_MAX never. */
    uint64_t (*next_ns)(void *ctx);
};

struct control_plane {
    const struct control_plane_ops *ops;
    void *ctx;
};

#endif
