/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "plat/sim/sim.h"
#include "stream_vocabulary.h"

static int open_with(struct machine *m, const struct sim_options *options) {
    struct sim *sim = sim_new(options);
    m->ctx = sim;
    m->files = sim_files(sim);
    m->router = sim_router(sim);
    m->jobs = sim_jobs(sim);
    m->clock = sim_clock(sim);
    m->random = sim_random(sim);
    m->streams = sim_streams(sim);
    strcpy(m->unix_address, "unix:/run/socket");
    return 0;
}

static int open_machine(struct machine *m) {
    return open_with(m, &(struct sim_options){.seed = 1});
}

static int open_plain(struct machine *m) {
    return open_with(m, &(struct sim_options){.seed = 2, .no_positions = 1});
}

/* Streams in drops. */
static int open_narrow(struct machine *m) {
    return open_with(m, &(struct sim_options){.seed = 3,
                                              .stream_send_bytes = BUFFERED,
                                              .stream_receive_bytes = 11,
                                              .net_max_ns = 1});
}

static void close_machine(struct machine *m) {
    sim_free(m->ctx);
}

static void wait_machine(struct machine *m) {
    assert_int_equal(sim_step(m->ctx), 1);
}

static void fill(struct machine *m, struct file_system *files, struct io_router *router,
                 const char **path) {
    *files = m->files;
    *router = m->router;
    *path = "full";
    int f = files->ops->open(files->ctx, *path, FILE_WRITE | FILE_CREATE);
    files->ops->close(files->ctx, f);
    sim_disk_limit(m->ctx, 4096);
}

static int peer_connect(struct machine *m, const char *address) {
    return sim_connect(m->ctx, address);
}

static int64_t peer_send(struct machine *m, int peer, const void *from, size_t bytes) {
    return bytes > 0 ? sim_client_send(m->ctx, peer, from, bytes) : 0;
}

static int64_t peer_take(struct machine *m, int peer, void *to, size_t bytes) {
    return sim_client_receive(m->ctx, peer, to, bytes);
}

static void peer_end_sending(struct machine *m, int peer) {
    sim_client_end(m->ctx, peer);
}

static void peer_reset(struct machine *m, int peer) {
    sim_client_reset(m->ctx, peer);
}

static void peer_close(struct machine *m, int peer) {
    sim_client_close(m->ctx, peer);
}

static void peer_wait(struct machine *m, int peer, uint32_t events) {
    while (!(sim_client_ready(m->ctx, peer) & events))
        assert_int_equal(sim_step(m->ctx), 1);
}

static const struct peer_ops peers = {peer_connect, peer_send,  peer_take, peer_end_sending,
                                      peer_reset,   peer_close, peer_wait};

int main(void) {
    static const struct host hosts[] = {
        {"sim", open_machine, close_machine, wait_machine, fill, &peers},
        {"sim-plain", open_plain, close_machine, wait_machine, fill, &peers},
        {"sim-narrow", open_narrow, close_machine, wait_machine, fill, &peers},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        failed |= conformance_run(&hosts[i]);
    return failed;
}
