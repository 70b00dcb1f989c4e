/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plat/io_router.h over the simulated disk. An operation takes effect and completes at one instant,
 * which comes after a seeded delay; so operations in flight overtake one another freely.
 *
 * Who owns an operation:
 *
 *   OWNED   --kill--> ORPHAN   what the dead process had handed over or adopted
 *   ORPHAN  --adopt--> OWNED   by a successor that adopts its queue; marked adopted
 *
 * The buffers of a read are written at its completion if it is owned, and at its adoption if it
 * completed before; the memory of a dead process is not touched.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "plat/sim/sim_priv.h"

enum owner { OWNED = 0, ORPHAN };

struct sim_io {
    struct sim_io *next;
    struct sim_inode *inode;
    unsigned char *data; /* of a write, as it was handed over */
    uint64_t offset_bytes, bytes;
    uint64_t cookie;
    uint32_t op, flags, position, queue;
    int32_t result;
    enum owner owner;
    int cancelled, adopted, unread;
    uint32_t vec_count;
    struct io_vec vecs[];
};

static void io_free(struct sim *sim, struct sim_io *io) {
    if (io->inode)
        sim_inode_drop(sim, io->inode, 1);
    free(io->data);
    free(io);
}

static void push(struct sim_io ***end, struct sim_io *io) {
    io->next = NULL;
    **end = io;
    *end = &io->next;
}

static int open_device(void *ctx, const char *path, uint32_t flags) {
    struct sim *sim = ctx;
    struct file_system fs = sim_files(sim);
    uint32_t file_flags = (flags & IO_OPEN_WRITE ? FILE_WRITE : FILE_READ) |
                          (flags & IO_OPEN_CREATE ? FILE_CREATE : 0);
    int file = fs.ops->open(fs.ctx, path, file_flags);
    if (file < 0)
        return file;
    for (int32_t d = 0; d < (int32_t)SIM_OPEN_MAX; d++) {
        if (!sim->devices[d].inode) {
            sim->devices[d] = sim->files[file];
            sim->files[file].inode = NULL;
            return d;
        }
    }
    fs.ops->close(fs.ctx, file);
    return ERR_NOMEM;
}

static struct sim_inode *device_of(struct sim *sim, int32_t device) {
    must(device >= 0 && device < (int32_t)SIM_OPEN_MAX && sim->devices[device].inode);
    return sim->devices[device].inode;
}

static void close_device(void *ctx, int32_t device) {
    struct sim *sim = ctx;
    sim_inode_drop(sim, device_of(sim, device), 1);
    sim->devices[device].inode = NULL;
}

static int queue(void *ctx, const struct io_submission *s, uint32_t *position) {
    struct sim *sim = ctx;
    struct sim_queue *q = &sim->queue;
    struct sim_inode *inode = s->device < 0 ? NULL : device_of(sim, s->device);
    must(s->op == IO_READ || s->op == IO_WRITE);
    must(s->op == IO_READ || !inode || sim->devices[s->device].flags & FILE_WRITE);
    must(s->vec_count >= 1 && s->vec_count <= IO_VECS_MAX);
    if (sim->stopped || q->busy >= sim->options.queue_depth)
        return ERR_AGAIN;
    struct sim_io *io = sim_alloc(sizeof *io + s->vec_count * sizeof *io->vecs);
    io->inode = inode;
    if (inode)
        sim_inode_hold(sim, inode, 1);
    io->offset_bytes = s->offset_bytes;
    io->cookie = s->cookie;
    io->op = s->op;
    io->flags = s->flags;
    io->vec_count = s->vec_count;
    memcpy(io->vecs, s->vecs, s->vec_count * sizeof *io->vecs);
    for (uint32_t i = 0; i < s->vec_count; i++)
        io->bytes += s->vecs[i].bytes;
    io->position = q->next_position++;
    io->queue = q->number;
    q->busy++;
    push(&q->queued_end, io);
    *position = io->position;
    return 0;
}

static unsigned char *gather(const struct sim_io *io) {
    unsigned char *data = malloc(io->bytes ? io->bytes : 1);
    uint64_t at = 0;
    must(data != NULL);
    for (uint32_t i = 0; i < io->vec_count; i++) {
        memcpy(data + at, io->vecs[i].base, io->vecs[i].bytes);
        at += io->vecs[i].bytes;
    }
    return data;
}

static int submit(void *ctx) {
    struct sim *sim = ctx;
    struct sim_queue *q = &sim->queue;
    if (sim->stopped)
        return 0;
    while (q->queued) {
        struct sim_io *io = q->queued;
        q->queued = io->next;
        if (io->op == IO_WRITE)
            io->data = gather(io);
        uint64_t span = sim->options.io_max_ns - sim->options.io_min_ns;
        uint64_t due =
            sim->monotonic_ns + sim->options.io_min_ns + prng_below(&sim->prng, span + 1);
        sim_event_add(sim, (struct sim_event){.due_ns = due, .kind = SIM_EVENT_IO, .io = io});
        q->handed_over = io->position + 1;
        sim_note(sim, 'q', io->op | (uint64_t)io->flags << 8 | (uint64_t)io->position << 32,
                 io->offset_bytes);
    }
    q->queued_end = &q->queued;
    return 0;
}

static int64_t read_into(struct sim *sim, struct sim_inode *inode, const struct io_vec *vecs,
                         uint32_t vec_count, uint64_t offset) {
    uint64_t bytes = 0, at = 0;
    for (uint32_t i = 0; i < vec_count; i++)
        bytes += vecs[i].bytes;
    if (vec_count == 1)
        return sim_store_read(sim, inode, offset, vecs[0].base, bytes);
    unsigned char *data = sim_alloc(bytes + 1);
    int64_t n = sim_store_read(sim, inode, offset, data, bytes);
    for (uint32_t i = 0; n > 0 && i < vec_count && at < (uint64_t)n; i++) {
        uint64_t part = min_u64(vecs[i].bytes, (uint64_t)n - at);
        memcpy(vecs[i].base, data + at, part);
        at += part;
    }
    free(data);
    return n;
}

static int is_direct_and_unaligned(const struct sim_io *io) {
    uint64_t bits = io->offset_bytes;
    if (io->op == IO_READ && io->flags & IO_CACHED)
        return 0;
    for (uint32_t i = 0; i < io->vec_count; i++)
        bits |= io->vecs[i].bytes;
    return bits % SECTOR_BYTES != 0;
}

/* The same bytes as when the operation was handed over. */
static int is_unchanged(const struct sim_io *io) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < io->vec_count; i++) {
        if (memcmp(io->data + at, io->vecs[i].base, io->vecs[i].bytes) != 0)
            return 0;
        at += io->vecs[i].bytes;
    }
    return 1;
}

void sim_io_fire(struct sim *sim, struct sim_io *io) {
    struct sim_queue *q = &sim->queue;
    if (io->cancelled) {
        io->result = ERR_CANCELLED;
    } else if (!io->inode) {
        io->result = ERR_IO;
    } else if (is_direct_and_unaligned(io)) {
        io->result = ERR_INVAL;
    } else if (io->op == IO_WRITE) {
        must(io->owner != OWNED || is_unchanged(io));
        io->result = (int32_t)sim_store_write(sim, io->inode, io->offset_bytes, io->data, io->bytes,
                                              io->flags & IO_DURABLE);
        sim_note(sim, 'W', io->offset_bytes, crc32c(0, io->data, io->bytes));
    } else if (io->owner == OWNED) {
        io->result = (int32_t)read_into(sim, io->inode, io->vecs, io->vec_count, io->offset_bytes);
    } else {
        io->unread = 1;
    }
    sim_note(sim, 'c', io->position, (uint64_t)io->result);
    free(io->data);
    io->data = NULL;
    push(io->owner == OWNED ? &q->completed_end : &q->orphans_end, io);
}

static int peek(void *ctx, struct io_completion *out, int max) {
    struct sim *sim = ctx;
    struct sim_queue *q = &sim->queue;
    int n = 0;
    if (sim->stopped)
        return 0;
    const struct sim_io *io = q->completed;
    for (uint32_t i = 0; i < q->shown; i++)
        io = io->next;
    for (; io && n < max; io = io->next)
        out[n++] = (struct io_completion){io->cookie, io->result, (uint32_t)io->adopted};
    q->shown += (uint32_t)n;
    return n;
}

int sim_completion_waits(const struct sim *sim) {
    const struct sim_io *io = sim->queue.completed;
    for (uint32_t i = 0; i < sim->queue.shown; i++)
        io = io->next;
    return io != NULL;
}

static void retire(void *ctx, int n) {
    struct sim *sim = ctx;
    struct sim_queue *q = &sim->queue;
    must(n >= 0 && (uint32_t)n <= q->shown);
    q->shown -= (uint32_t)n;
    for (; n > 0; n--) {
        struct sim_io *io = q->completed;
        q->completed = io->next;
        if (!q->completed)
            q->completed_end = &q->completed;
        if (!io->adopted)
            q->busy--;
        io_free(sim, io);
    }
}

static int64_t read_now(void *ctx, int32_t device, const struct io_vec *vecs, uint32_t vec_count,
                        uint64_t offset_bytes) {
    struct sim *sim = ctx;
    struct sim_inode *inode = device_of(sim, device);
    must(vec_count >= 1 && vec_count <= IO_VECS_MAX);
    if (sim_tick(sim) < 0 || prng_one_in(&sim->prng, 4))
        return ERR_AGAIN;
    int64_t n = read_into(sim, inode, vecs, vec_count, offset_bytes);
    sim_note(sim, 'R', offset_bytes, (uint64_t)n);
    return n;
}

/* Without effect, but nobody advises what is not there. */
static void read_ahead(void *ctx, int32_t device, uint64_t offset_bytes, uint64_t bytes) {
    struct sim *sim = ctx;
    must(bytes > 0 && offset_bytes + bytes <= device_of(sim, device)->size_bytes);
    sim_note(sim, 'A', offset_bytes, bytes);
}

static void list_free(struct sim *sim, struct sim_io **list, struct sim_io ***end) {
    while (*list) {
        struct sim_io *io = *list;
        *list = io->next;
        io_free(sim, io);
    }
    *end = list;
}

void sim_queue_open(struct sim *sim) {
    struct sim_queue *q = &sim->queue;
    q->number++;
    q->next_position = q->handed_over = q->busy = q->shown = 0;
    q->queued_end = &q->queued;
    q->completed_end = &q->completed;
}

/* The events have been through sim_io_kill. */
void sim_queue_kill(struct sim *sim) {
    struct sim_queue *q = &sim->queue;
    list_free(sim, &q->queued, &q->queued_end);
    while (q->completed) {
        struct sim_io *io = q->completed;
        q->completed = io->next;
        io->owner = ORPHAN;
        push(&q->orphans_end, io);
    }
    if (q->dead_count == q->dead_room) {
        q->dead_room = q->dead_room ? 2 * q->dead_room : 16;
        q->dead = realloc(q->dead, q->dead_room * sizeof *q->dead);
        must(q->dead != NULL);
    }
    q->dead[q->dead_count++] = (struct sim_dead_queue){q->number, q->handed_over};
    sim_queue_open(sim);
}

/* Written and not yet durable: as is what a thread had given to the kernel and not synced. */
static void write_only(struct sim *sim, const struct sim_io *io) {
    if (io->inode && io->op == IO_WRITE && !io->cancelled && !is_direct_and_unaligned(io))
        sim_disk_write(sim, io->inode, io->offset_bytes, io->data, io->bytes, 0, sim_new_id(sim));
}

/* What is in flight of an older queue has met its fate already. */
void sim_io_kill(struct sim *sim, struct sim_event *e) {
    struct sim_io *io = e->io;
    io->owner = ORPHAN;
    if (io->queue != sim->queue.number)
        return;
    switch (prng_below(&sim->prng, 3)) {
    case 0:
        e->due_ns = sim->monotonic_ns;
        break;
    case 1:
        e->due_ns = sim->monotonic_ns + prng_below(&sim->prng, sim->options.orphan_max_ns + 1);
        break;
    default:
        if (prng_one_in(&sim->prng, 2))
            write_only(sim, io);
        io->cancelled = 1;
        e->due_ns = sim->monotonic_ns + prng_below(&sim->prng, sim->options.orphan_max_ns / 8 + 1);
    }
}

/* In flight at a power cut: pending like any unsynced write, so any part of it may be there. */
void sim_io_cut(struct sim *sim, struct sim_io *io) {
    write_only(sim, io);
    io_free(sim, io);
}

void sim_queue_clear(struct sim *sim) {
    struct sim_queue *q = &sim->queue;
    list_free(sim, &q->queued, &q->queued_end);
    list_free(sim, &q->completed, &q->completed_end);
    list_free(sim, &q->orphans, &q->orphans_end);
    q->dead_count = 0;
    sim_queue_open(sim);
}

uint32_t sim_queue_number(const struct sim *sim) {
    return sim->queue.number;
}

int sim_adopt(struct sim *sim, uint32_t queue_number, uint32_t *taken_before) {
    struct sim_queue *q = &sim->queue;
    const struct sim_dead_queue *dead = NULL;
    int count = 0;
    if (sim->options.no_positions)
        return ERR_UNSUPPORTED;
    for (uint32_t i = 0; i < q->dead_count; i++) {
        if (q->dead[i].number == queue_number)
            dead = &q->dead[i];
    }
    if (!dead)
        return ERR_NOTFOUND;
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        struct sim_event *e = &sim->heap[i];
        if (e->kind != SIM_EVENT_IO || e->io->owner != ORPHAN || e->io->queue != queue_number)
            continue;
        e->io->owner = OWNED;
        e->io->adopted = 1;
        count++;
    }
    struct sim_io **at = &q->orphans;
    q->orphans_end = &q->orphans;
    while (*at) {
        struct sim_io *io = *at;
        if (io->queue != queue_number) {
            at = &io->next;
            q->orphans_end = at;
            continue;
        }
        *at = io->next;
        if (io->unread)
            io->result =
                (int32_t)read_into(sim, io->inode, io->vecs, io->vec_count, io->offset_bytes);
        io->unread = 0;
        io->owner = OWNED;
        io->adopted = 1;
        push(&q->completed_end, io);
        count++;
    }
    *taken_before = dead->handed_over;
    sim_note(sim, 'A', (uint64_t)count, *taken_before);
    return count;
}

static const struct io_router_ops positions_ops = {
    .name = "sim",
    .caps = IO_CAP_POSITIONS,
    .open = open_device,
    .close = close_device,
    .queue = queue,
    .submit = submit,
    .peek = peek,
    .retire = retire,
    .read_now = read_now,
    .read_ahead = read_ahead,
};

static const struct io_router_ops plain_ops = {
    .name = "sim-plain",
    .open = open_device,
    .close = close_device,
    .queue = queue,
    .submit = submit,
    .peek = peek,
    .retire = retire,
    .read_now = read_now,
    .read_ahead = read_ahead,
};

struct io_router sim_router(struct sim *sim) {
    return (struct io_router){sim->options.no_positions ? &plain_ops : &positions_ops, sim};
}
