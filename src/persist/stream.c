/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: each byte once. A record has four positions, of which two are the program's and undone with its turn,
 * and two are live:
 *
 *   taken <= received <= taken + input_bytes      received: bytes that lie in the input
 *   sent  <= put      <= sent + output_bytes      sent: bytes that the kernel has
 *
 * Where a byte lies follows from its position. Bytes are received and sent between turns only, so received bytes
 * never lie where undoing would bring others back, and what is sent was committed.
 *
 * TCP: after a death the kernel tells received and sent, whatever the dead engine noted (plat/stream.h).
 *
 * Unix sockets and pipes have no such counters. `touching` is set around the system call and the note of its result:
 * an engine that died elsewhere has noted everything, and one that died in between leaves a stream of which nobody
 * knows how far it came: it is closed.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "persist/persist_priv.h"
#include "plat/linux/linux.h"

static uint64_t received(const struct persist_record *r) {
    return atomic_load_explicit(&r->received, memory_order_relaxed);
}

static uint64_t sent(const struct persist_record *r) {
    return atomic_load_explicit(&r->sent, memory_order_relaxed);
}

static int is_stream(const struct persist_record *r) {
    return r->input_bytes > 0 || r->output_bytes > 0;
}

static struct persist_record *stream_of(const struct perdure *p, uint32_t handle) {
    struct persist_record *r = descriptor_of(p, handle);
    return r && is_stream(r) ? r : NULL;
}

static int make(struct perdure *p, struct persist_record *r, size_t input, size_t output) {
    struct stream_positions at = {0};
    if (r->kind == PERSIST_TCP && linux_stream_ops.positions(NULL, r->fd, &at) < 0)
        return -EPIPE;
    unsigned char *in = input ? perdure_alloc(p, input) : NULL;
    unsigned char *out = output ? perdure_alloc(p, output) : NULL;
    if ((input && !in) || (output && !out) || persist_save(p, r, PERSIST_RECORD_UNDONE) < 0)
        return -ENOSPC;
    r->input = in ? (uint64_t)(in - persist_heap(p)) : 0;
    r->output = out ? (uint64_t)(out - persist_heap(p)) : 0;
    r->input_bytes = input;
    r->output_bytes = output;
    r->received_0 = at.received;
    r->sent_0 = at.sent;
    r->taken = r->put = 0;
    r->turn = p->a.turn;
    atomic_store(&r->received, 0);
    atomic_store(&r->sent, 0);
    atomic_store(&r->touching, 0);
    return 0;
}

int perdure_stream(struct perdure *p, uint32_t handle, size_t input_bytes, size_t output_bytes) {
    struct persist_record *r = descriptor_of(p, handle);
    if (!r)
        return -ESTALE;
    if (r->kind == PERSIST_OTHER || r->listens || is_stream(r) || (!input_bytes && !output_bytes))
        return -EINVAL;
    int begun = persist_begin(p), err = make(p, r, input_bytes, output_bytes);
    if (err < 0 && begun)
        perdure_undo(p);
    else
        persist_end(p, begun);
    return err;
}

int perdure_is_stream(const struct perdure *p, uint32_t handle) {
    return stream_of(p, handle) != NULL;
}

int stream_attach(struct perdure *p, struct persist_record *r) {
    struct stream_positions at;
    if (!is_stream(r))
        return 0;
    if (r->kind != PERSIST_TCP)
        return atomic_load(&r->touching) ? -ESTALE : 0;
    int err = linux_stream_ops.positions(NULL, r->fd, &at);
    if (err < 0)
        return -ESTALE; /* it has failed: there is no more to lose */
    at.received -= r->received_0;
    at.sent -= r->sent_0;
    if (at.received < r->taken || at.received - r->taken > r->input_bytes || at.sent > r->put ||
        r->put - at.sent > r->output_bytes)
        return -ESTALE;
    atomic_store(&r->received, at.received);
    atomic_store(&r->sent, at.sent);
    return 0;
}

/* The bytes from a position on, in the one or two pieces in which they lie; how many pieces. */
static uint32_t pieces(const struct perdure *p, uint64_t ring, uint64_t room, uint64_t from,
                       uint64_t bytes, struct io_vec out[2]) {
    uint64_t at = room ? from % room : 0, first = min_u64(bytes, room - at);
    unsigned char *base = persist_heap(p) + ring;
    out[0] = (struct io_vec){base + at, first};
    out[1] = (struct io_vec){base, bytes - first};
    return bytes == 0 ? 0 : bytes > first ? 2 : 1;
}

static int64_t pipe_result(ssize_t n) {
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_CLOSED;
}

static void touch(struct persist_record *r, uint32_t value) {
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&r->touching, value, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static int64_t move(struct persist_record *r, const struct io_vec *v, uint32_t count, int out) {
    int64_t n;
    if (r->kind != PERSIST_TCP)
        touch(r, 1);
    if (r->kind == PERSIST_PIPE)
        n = pipe_result((out ? writev : readv)(r->fd, (const void *)v, (int)count));
    else
        n = (out ? linux_stream_ops.send : linux_stream_ops.receive)(NULL, r->fd, v, count);
    if (n > 0)
        atomic_fetch_add_explicit(out ? &r->sent : &r->received, (uint64_t)n, memory_order_relaxed);
    if (r->kind != PERSIST_TCP)
        touch(r, 0);
    return n == ERR_AGAIN ? -EAGAIN : n < 0 ? -EPIPE : n;
}

/* The stream whose bytes are to move, or why they may not. */
static int to_move(const struct perdure *p, uint32_t handle, struct persist_record **r) {
    *r = stream_of(p, handle);
    return !*r ? -ESTALE : p->in_turn ? -EBUSY : 0;
}

int64_t perdure_receive(struct perdure *p, uint32_t handle) {
    struct persist_record *r;
    struct io_vec v[2];
    int err = to_move(p, handle, &r);
    if (err < 0)
        return err;
    uint64_t room = r->taken + r->input_bytes - received(r);
    uint32_t count = pieces(p, r->input, r->input_bytes, received(r), room, v);
    return count == 0 ? -ENOBUFS : move(r, v, count, 0);
}

int perdure_send(struct perdure *p, uint32_t handle) {
    struct persist_record *r;
    struct io_vec v[2];
    int err = to_move(p, handle, &r);
    if (err < 0)
        return err;
    while (sent(r) < r->put) {
        uint32_t count = pieces(p, r->output, r->output_bytes, sent(r), r->put - sent(r), v);
        int64_t n = move(r, v, count, 1);
        if (n < 0)
            return (int)n;
    }
    return 0;
}

size_t perdure_peek(const struct perdure *p, uint32_t handle, void *out, size_t bytes) {
    const struct persist_record *r = stream_of(p, handle);
    struct io_vec v[2];
    if (!r)
        return 0;
    uint64_t n = min_u64(bytes, received(r) - r->taken);
    uint32_t count = pieces(p, r->input, r->input_bytes, r->taken, n, v);
    if (count > 0)
        memcpy(out, v[0].base, v[0].bytes);
    if (count > 1)
        memcpy((unsigned char *)out + v[0].bytes, v[1].base, v[1].bytes);
    return n;
}

/* The words of the two positions alone: this happens for each message. */
static int save_positions(struct perdure *p, struct persist_record *r) {
    return persist_save(p, &r->taken, sizeof r->taken + sizeof r->put);
}
_Static_assert(offsetof(struct persist_record, put) == offsetof(struct persist_record, taken) + 8,
               "saved together");

int perdure_take(struct perdure *p, uint32_t handle, size_t bytes) {
    struct persist_record *r = stream_of(p, handle);
    must(p->in_turn);
    if (!r)
        return -ESTALE;
    if (bytes > received(r) - r->taken)
        return -EINVAL;
    int err = save_positions(p, r);
    if (err == 0)
        r->taken += bytes;
    return err;
}

size_t perdure_output_room(const struct perdure *p, uint32_t handle) {
    const struct persist_record *r = stream_of(p, handle);
    return r ? (size_t)(sent(r) + r->output_bytes - r->put) : 0;
}

int perdure_put(struct perdure *p, uint32_t handle, const void *from, size_t bytes) {
    struct persist_record *r = stream_of(p, handle);
    struct io_vec v[2];
    must(p->in_turn);
    if (!r)
        return -ESTALE;
    if (bytes > perdure_output_room(p, handle))
        return -EAGAIN;
    int err = save_positions(p, r);
    if (err < 0)
        return err;
    uint32_t count = pieces(p, r->output, r->output_bytes, r->put, bytes, v);
    if (count > 0)
        memcpy(v[0].base, from, v[0].bytes);
    if (count > 1)
        memcpy(v[1].base, (const unsigned char *)from + v[0].bytes, v[1].bytes);
    r->put += bytes;
    return 0;
}

int perdure_position(const struct perdure *p, uint32_t handle, struct perdure_position *at) {
    const struct persist_record *r = stream_of(p, handle);
    if (!r)
        return -ESTALE;
    *at = (struct perdure_position){received(r), r->taken, r->put, sent(r)};
    return 0;
}
