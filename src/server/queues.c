/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues of disk operations: our own, and those of former engines that may still complete. Each has a place
 * in the root slot: u32 generation, u32 in use, then what the machine wants to know of it.
 */
#include <poll.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "server/core_priv.h"
#include "server/trace.h"

_Static_assert(MACHINE_QUEUE_BYTES + 8 == SERVER_RING_BYTES, "frozen");

static uint8_t *edit_place(struct core *c, int i) {
    return server_edit(&c->r.a, c->r.server)->rings + i * SERVER_RING_BYTES;
}

static const uint8_t *place(const struct core *c, int i) {
    return server_view(&c->r.a, c->r.server)->rings + i * SERVER_RING_BYTES;
}

static uint32_t generation_of(const uint8_t *e) {
    return get_le32(e);
}
static int in_use(const uint8_t *e) {
    return get_le32(e + 4) != 0;
}

int queues_claim(const struct core *c, int fd) {
    for (int i = 0; i < SERVER_RINGS; i++)
        if (in_use(place(c, i)) && c->machine->disks->descriptor(place(c, i) + 8) == fd)
            return 1;
    return 0;
}

static void adopt(struct core *c) {
    uint32_t taken;
    for (int i = 0; i < SERVER_RINGS; i++) {
        const uint8_t *e = place(c, i);
        if (!in_use(e))
            continue;
        if (c->machine->disks->adopt(&c->router, e + 8, &taken) == 0) {
            io_adopted(&c->r.io, generation_of(e), taken);
            c->adopted_queues++;
            continue;
        }
        while (io_lost(&c->r.io, generation_of(e)))
            reactor_commit(&c->r);
        put_le32(edit_place(c, i) + 4, 0);
    }
}

static int is_busy(const struct core *c, uint32_t queue) {
    for (struct io_h h = io_next(&c->r.a, (struct io_h){0}); h.v; h = io_next(&c->r.a, h))
        if (io_view(&c->r.a, h)->queue == queue)
            return 1;
    return 0;
}

void queues_drop(struct core *c) {
    if (c->adopted_queues == 0 || c->r.io.taken)
        return;
    for (int i = 0; i < SERVER_RINGS; i++) {
        const uint8_t *e = place(c, i);
        uint8_t id[MACHINE_QUEUE_BYTES];
        if (!in_use(e) || generation_of(e) == c->boot->generation || is_busy(c, generation_of(e)))
            continue;
        memcpy(id, e + 8, sizeof id);
        put_le32(edit_place(c, i) + 4, 0);
        reactor_commit(&c->r);
        c->r.streams.ops->unwatch(c->r.streams.ctx, c->machine->disks->descriptor(id));
        c->machine->disks->drop(&c->router, id);
        c->adopted_queues--;
    }
}

/* Takes what has ended; waits up to a millisecond if that is nothing. */
static void take(struct core *c) {
    struct pollfd p = {.fd = c->router_fd, .events = POLLIN};
    if (io_take(&c->r.io, 64) == 0)
        poll(&p, 1, 1);
    boot_turn_goes_on(c->boot);
    reactor_commit(&c->r);
}

void core_adopt(struct core *c) {
    adopt(c);
    /* Engines may die faster than a slow disk answers. When the queues of the dead fill their places, the
     * oldest of them is waited for. */
    while (c->adopted_queues >= SERVER_RINGS) {
        take(c);
        queues_drop(c);
    }
    int i = 0;
    while (in_use(place(c, i)))
        must(++i < SERVER_RINGS);
    uint8_t *e = edit_place(c, i);
    put_le32(e, c->boot->generation);
    put_le32(e + 4, 1);
    c->machine->disks->identify(&c->router, e + 8);
    trace_note(&c->r.trace, TRACE_IO_ADOPTED, (uint64_t)c->adopted_queues, c->r.io.in_flight);
    reactor_commit(&c->r);
}

int queues_rest(struct core *c, uint64_t until_ns) {
    void (*note)(uint8_t *, uint32_t) = c->machine->disks->note_rest;
    while (note && io_handed_over(&c->r.io) > 0) {
        if (clock_monotonic_ns(&c->r.clock) > until_ns)
            return ERR_TIMEDOUT;
        take(c);
    }
    for (int i = 0; note && i < SERVER_RINGS; i++)
        if (in_use(place(c, i)) && generation_of(place(c, i)) == c->boot->generation)
            note(edit_place(c, i) + 8, io_next_handed_over(&c->r.io));
    if (!arena_turn_is_clean(&c->r.a))
        reactor_commit(&c->r);
    return 0;
}
