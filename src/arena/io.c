/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/io.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

LAYOUT_FIELDS(io, IO_FIELDS)
const struct arena_table_spec io_spec = TABLE_SPEC(io, TABLE_IO, 1);

#define IO_TAKE_MAX 64

int io_open(struct io_port *p, struct arena *a, struct buffer_pool *buffers,
            struct io_router router, uint32_t queue) {
    memset(p, 0, sizeof *p);
    p->a = a;
    p->buffers = buffers;
    p->router = router;
    p->queue = queue;
    p->waiting_room = a->tables[TABLE_IO].capacity;
    p->waiting = calloc(p->waiting_room, sizeof *p->waiting);
    return p->waiting ? 0 : ERR_NOMEM;
}

void io_close(struct io_port *p) {
    free(p->waiting);
    memset(p, 0, sizeof *p);
}

static void wait_in_line(struct io_port *p, struct io_h h) {
    must(p->waiting_count < p->waiting_room);
    p->waiting[(p->waiting_first + p->waiting_count++) % p->waiting_room] = h;
}

struct io_h io_want(struct io_port *p, uint8_t op, uint16_t flags, uint32_t routine, uint64_t owner,
                    uint32_t device, uint64_t offset_bytes, uint32_t length_bytes) {
    struct io_h h = io_new(p->a, IO_QUEUED);
    if (!h.v)
        return h;
    struct io *io = io_edit(p->a, h);
    io->op = op;
    io->flags = flags;
    io->routine = routine;
    io->owner = owner;
    io->device = device;
    io->offset_bytes = offset_bytes;
    io->length_bytes = length_bytes;
    io->position = p->next_position++;
    io->queue = p->queue;
    wait_in_line(p, h);
    p->in_flight++;
    return h;
}

/* The cookie names slot and queue, so that a completion seen again finds nothing. */
static uint64_t cookie_of(const struct io *io, struct io_h h) {
    return (uint64_t)io->position << 32 | h.v;
}

void io_submit(struct io_port *p) {
    struct io_vec vecs[IO_VECS_MAX];
    int queued = 0;
    while (p->waiting_count > 0) {
        struct io_h h = p->waiting[p->waiting_first];
        const struct io *io = io_view(p->a, h);
        struct io_submission s = {.op = io->op,
                                  .flags = io->flags,
                                  .device = p->device(p->device_ctx, io->device),
                                  .vecs = vecs,
                                  .offset_bytes = io->offset_bytes,
                                  .cookie = cookie_of(io, h)};
        const struct io_routine *r = &p->routines[io->routine];
        if (r->vecs) {
            s.vec_count = r->vecs(r->ctx, io, vecs, IO_VECS_MAX);
        } else {
            uint32_t left = io->length_bytes;
            for (uint32_t i = 0; i < io->data_extents && left > 0; i++) {
                uint32_t bytes = io->data[i].pages * BUFFER_PAGE_BYTES;
                if (bytes > left)
                    bytes = left;
                vecs[s.vec_count++] =
                    (struct io_vec){buffer_data(p->buffers, io->data[i].first), bytes};
                left -= bytes;
            }
            must(left == 0);
        }
        uint32_t position;
        if (p->router.ops->queue(p->router.ctx, &s, &position) < 0)
            break;
        must(position == io->position);
        trace_note(p->trace, TRACE_IO_QUEUED, (uint64_t)io->routine << 32 | io->device,
                   io->offset_bytes);
        p->waiting_first = (p->waiting_first + 1) % p->waiting_room;
        p->waiting_count--;
        queued++;
    }
    if (queued)
        p->router.ops->submit(p->router.ctx);
}

static void finish(struct io_port *p, struct io_h h, int32_t result) {
    struct io copy = *io_view(p->a, h);
    const struct io_routine *r = &p->routines[copy.routine];
    trace_note(p->trace, TRACE_IO_DONE, (uint64_t)copy.routine << 32 | copy.device,
               (uint64_t)(int64_t)result);
    int kept = r->done ? r->done(r->ctx, h, &copy, result) : 0;
    if (!kept)
        for (uint32_t i = 0; i < copy.data_extents; i++)
            buffer_release(p->buffers, copy.data[i]);
    io_free(p->a, h);
    p->in_flight--;
    p->completions++;
}

int io_take(struct io_port *p, int max) {
    struct io_completion done[IO_TAKE_MAX];
    if (max > IO_TAKE_MAX)
        max = IO_TAKE_MAX;
    must(p->taken == 0);
    int n = p->router.ops->peek(p->router.ctx, done, max);
    for (int i = 0; i < n; i++) {
        struct io_h h = {(uint32_t)done[i].cookie};
        const struct io *io = io_try(p->a, h);
        if (io && io->position == (uint32_t)(done[i].cookie >> 32) &&
            (io->queue != p->queue) == (done[i].adopted != 0))
            finish(p, h, done[i].result);
    }
    p->taken = (uint32_t)n;
    return n;
}

void io_retire(struct io_port *p) {
    if (p->taken)
        p->router.ops->retire(p->router.ctx, (int)p->taken);
    p->taken = 0;
}

static int claim(struct io_port *p, const struct io *io) {
    for (uint32_t i = 0; i < io->data_extents && i < IO_EXTENTS; i++)
        if (buffer_claim(p->buffers, io->data[i]) < 0)
            return ERR_INTEGRITY;
    return io->data_extents > IO_EXTENTS ? ERR_INTEGRITY : 0;
}

int io_attach(struct io_port *p) {
    for (struct io_h h = io_next(p->a, (struct io_h){0}); h.v; h = io_next(p->a, h)) {
        if (claim(p, io_view(p->a, h)) < 0)
            return ERR_INTEGRITY;
        p->in_flight++;
    }
    return 0;
}

static int by_position(const void *a, const void *b) {
    const uint32_t *x = a, *y = b;
    int32_t d = (int32_t)(x[0] - y[0]);
    return d < 0 ? -1 : d > 0;
}

void io_adopted(struct io_port *p, uint32_t queue, uint32_t taken_before) {
    uint32_t(*again)[2] = calloc(p->in_flight + 1, sizeof *again);
    uint32_t n = 0;
    must(again != NULL);
    for (struct io_h h = io_next(p->a, (struct io_h){0}); h.v; h = io_next(p->a, h)) {
        const struct io *io = io_view(p->a, h);
        if (io->queue == queue && (int32_t)(io->position - taken_before) >= 0) {
            again[n][0] = io->position;
            again[n++][1] = h.v;
        }
    }
    qsort(again, n, sizeof *again, by_position);
    for (uint32_t i = 0; i < n; i++) {
        struct io_h h = {again[i][1]};
        struct io *io = io_edit(p->a, h);
        io->position = p->next_position++;
        io->queue = p->queue;
        wait_in_line(p, h);
    }
    free(again);
}

int io_lost(struct io_port *p, uint32_t queue) {
    struct io_h next;
    for (struct io_h h = io_next(p->a, (struct io_h){0}); h.v; h = next) {
        next = io_next(p->a, h);
        if (io_view(p->a, h)->queue != queue)
            continue;
        if (arena_undo_left(p->a) < ARENA_HANDLER_UNDO_BYTES)
            return 1;
        finish(p, h, ERR_CANCELLED);
    }
    return 0;
}
