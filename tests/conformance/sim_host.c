/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"
#include "plat/sim/sim.h"

static int open_seeded(struct machine *m, uint64_t seed, uint32_t no_positions) {
    struct sim *sim = sim_new(&(struct sim_options){.seed = seed, .no_positions = no_positions});
    m->ctx = sim;
    m->files = sim_files(sim);
    m->router = sim_router(sim);
    m->jobs = sim_jobs(sim);
    m->clock = sim_clock(sim);
    m->random = sim_random(sim);
    return 0;
}

static int open_machine(struct machine *m) {
    return open_seeded(m, 1, 0);
}

static int open_plain(struct machine *m) {
    return open_seeded(m, 2, 1);
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

int main(void) {
    static const struct host hosts[] = {
        {"sim", open_machine, close_machine, wait_machine, fill},
        {"sim-plain", open_plain, close_machine, wait_machine, fill},
    };
    return conformance_run(&hosts[0]) | conformance_run(&hosts[1]);
}
