/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An echo server on arena, turn, keeper and kernel TCP, with disk writes in flight: what a client sends comes
 * back after it was written to a file with RWF_DSYNC. It is the smallest program that needs everything that
 * reload promises, and the storms of storm_test.py run against it.
 *
 *     echo_server ADDRESS:PORT DIRECTORY [crash-point COUNT]
 *
 * SIGHUP reloads, SIGTERM stops. Each engine writes a line "serving GENERATION PID ..." to stderr.
 *
 * The file `accepting` in DIRECTORY, if there is one, says which engine dies while it accepts: for each generation,
 * from 0 on, how many connections it accepts before that, counted from when this is written, and at which store after
 * the last of them it dies. Both are little-endian; 0: it lives.
 *
 *   offset 0  4  connections
 *          4  4  stores
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/prng.h"
#include "server/core.h"

#define CHUNK_MAX (16 * 1024u)
#define CONNS 12000u
#define REQUESTS 16384u
#define DEATH_BYTES 8

struct echo {
    struct core core;
    int file;
    int stopping;
    struct stream_ops ops, inner; /* with and without a count of what is accepted */
    int deaths;                   /* the file `accepting`, -1: none */
    uint32_t accepted;
};
static struct echo echo;

static const struct arena_table_plan tables[] = {
    {&server_spec, 1},         {&listener_spec, 8}, {&conn_spec, CONNS},
    {&request_spec, REQUESTS}, {&io_spec, 8192},
};
static const struct arena_region_plan regions[] = {{REGION_BUFFERS, 1, 192 * MIB, 2 * MIB}};
static const struct arena_plan plan = {.tables = tables,
                                       .table_count = sizeof tables / sizeof tables[0],
                                       .regions = regions,
                                       .region_count = 1,
                                       .undo_bytes = 2 * MIB};

static int want_write(struct echo *e, struct request_h h) {
    const struct request *q = request_view(&e->core.r.a, h);
    uint32_t bytes = (uint32_t)round_up_u64(q->length_bytes, BLOCK_BYTES);
    return io_want(&e->core.r.io, IO_WRITE, IO_DURABLE, ROUTINE_FRAME_WRITTEN, h.v, 0,
                   (uint64_t)handle_index(h.v) * CHUNK_MAX, bytes)
                   .v
               ? 0
               : ERR_NOMEM;
}

/* Takes what is there, writes it to the file; the connection waits meanwhile. */
static struct conn_step echo_input(void *ctx, struct conn_h c, const uint8_t *p, size_t bytes) {
    struct echo *e = ctx;
    struct reactor *r = &e->core.r;
    if (bytes == 0)
        return (struct conn_step){.want = CONN_MORE};
    if (bytes > CHUNK_MAX)
        bytes = CHUNK_MAX;
    struct request_h h = reactor_request(r, c, REQUEST_WRITE, bytes, 0, REQUEST_READY);
    if (!h.v)
        return (struct conn_step){.want = CONN_BLOCKED};
    struct request *q = request_edit(&r->a, h);
    if (q->data_extents != 1 || want_write(e, h) < 0) {
        reactor_drop_request(r, h);
        return (struct conn_step){.want = CONN_BLOCKED};
    }
    q->length_bytes = (uint32_t)bytes;
    memcpy(buffer_data(&r->buffers, q->data[0].first), p, bytes);
    return (struct conn_step){.consumed = bytes, .want = CONN_WAIT};
}

static uint32_t write_vecs(void *ctx, const struct io *io, struct io_vec *vecs, uint32_t max) {
    struct echo *e = ctx;
    const struct request *q = request_view(&e->core.r.a, (struct request_h){(uint32_t)io->owner});
    vecs[0] = (struct io_vec){buffer_data(&e->core.r.buffers, q->data[0].first), io->length_bytes};
    return 1;
}

static int written(void *ctx, struct io_h h, const struct io *io, int32_t result) {
    struct echo *e = ctx;
    struct reactor *r = &e->core.r;
    struct request_h qh = {(uint32_t)io->owner};
    if (result == ERR_CANCELLED) { /* it was not done: again */
        must(want_write(e, qh) == 0);
        return 0;
    }
    must(result == (int32_t)io->length_bytes);
    struct request *q = request_edit(&r->a, qh);
    struct conn_h c = q->conn;
    q->slot.state = REQUEST_DONE;
    q->reply_data_bytes = (uint32_t)q->length_bytes;
    reactor_reply(r, qh);
    if (conn_try(&r->a, c) && conn_view(&r->a, c)->slot.state == CONN_OPEN)
        reactor_resume(r, c);
    return 0;
}

static int device(void *ctx, uint32_t number) {
    return ((struct echo *)ctx)->file;
}

static void event(void *ctx, uint32_t kind, uint32_t handle, uint32_t events) {
    struct echo *e = ctx;
    if (kind == TAG_ENGINE_BELL) {
        const char *why = core_bell(&e->core);
        if (why)
            fprintf(stderr, "<4>reload refused: %s\n", why);
    } else if (kind == TAG_SIGNAL) {
        struct signalfd_siginfo info;
        const char *why;
        while (read(e->core.signal_fd, &info, sizeof info) == sizeof info) {
            if (info.ssi_signo == SIGHUP) {
                if (core_reload(&e->core, NULL, &why) < 0)
                    fprintf(stderr, "<6>no reload: %s\n", why);
            } else {
                e->stopping = 1;
            }
        }
    }
}

static int accept_counted(void *ctx, int listener, uint32_t flags, char *peer) {
    uint8_t death[DEATH_BYTES];
    struct echo *e = &echo;
    int fd = e->inner.accept(ctx, listener, flags, peer);
    off_t at = (off_t)e->core.boot->generation * DEATH_BYTES;
    if (fd >= 0 && pread(e->deaths, death, sizeof death, at) == DEATH_BYTES && get_le32(death) &&
        get_le32(death) == ++e->accepted)
        e->core.r.a.crash_after = get_le32(death + 4);
    return fd;
}

static void count_accepted(struct echo *e, int dir) {
    struct streams *s = &e->core.r.streams;
    e->deaths = openat(dir, "accepting", O_RDONLY | O_CLOEXEC);
    e->inner = e->ops = *s->ops;
    e->ops.accept = accept_counted;
    s->ops = &e->ops;
}

static int engine(struct boot *b) {
    static struct protocol protocol = {.input = echo_input, .ctx = &echo};
    static const struct reactor_hooks hooks = {.event = event, .ctx = &echo};
    struct echo *e = &echo;
    struct core *c = &e->core;
    int dir = open(b->argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || core_prepare(c, b, &plan, dir, "linux") < 0 ||
        (e->file = c->router.ops->open(c->router.ctx, "echo.log", IO_OPEN_WRITE | IO_OPEN_CREATE)) <
            0) {
        fprintf(stderr, "<3>cannot start\n");
        boot_stop(b, CUSTODY_FAILED, 1);
    }
    c->r.hooks = &hooks;
    c->r.protocols[PROTOCOL_ECHO] = &protocol;
    c->r.io.routines[ROUTINE_FRAME_WRITTEN] = (struct io_routine){write_vecs, written, e};
    c->r.io.device = device;
    c->r.io.device_ctx = e;
    if (core_take(c) < 0 || core_attach(c, (struct tls_provider){0}) < 0) {
        fprintf(stderr, "<3>cannot attach\n");
        boot_stop(b, CUSTODY_FAILED, 1);
    }
    count_accepted(e, dir);
    core_adopt(c);
    if (!c->warm && reactor_listen(&c->r, b->argv[1], PROTOCOL_ECHO) < 0) {
        fprintf(stderr, "<3>cannot listen on %s\n", b->argv[1]);
        boot_stop(b, CUSTODY_FAILED, 1);
    }
    core_serve(c);
    const struct listener *l =
        listener_view(&c->r.a, listener_next(&c->r.a, (struct listener_h){0}));
    fprintf(stderr, "serving %u %d %s %s pause_us %llu conns %u closed %u verdict %d\n",
            b->generation, getpid(), (const char *)l->address,
            !c->warm         ? "cold"
            : c->after_crash ? "crash"
                             : "planned",
            (unsigned long long)(server_view(&c->r.a, c->r.server)->last_pause_ns / 1000),
            conn_used(&c->r.a), c->closed, c->verdict);
#ifdef PERDURE_CRASH_POINTS
    if (b->argc > 4 && strcmp(b->argv[3], "crash-point") == 0) {
        struct prng p = prng_seed(b->generation);
        c->r.a.crash_after = 1 + prng_below(&p, strtoull(b->argv[4], NULL, 10));
    }
#endif
    while (!e->stopping)
        core_turn(c);
    boot_stop(b, CUSTODY_STOPPED, 0);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: echo_server ADDRESS:PORT DIRECTORY\n");
        return 2;
    }
    return boot(argc, argv, engine);
}
