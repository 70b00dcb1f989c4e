/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world: its time, its events, its processes' deaths; and the job runner. */
#include "plat/sim/sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plat/sim/sim_priv.h"

#define SIM_WALL_START_NS (UINT64_C(1767225600) * NS_PER_S) /* 1 January 2026 */

void *sim_alloc(uint64_t bytes) {
    void *p = calloc(1, bytes);
    must(p != NULL);
    return p;
}

static uint64_t or_default(uint64_t value, uint64_t if_zero) {
    return value ? value : if_zero;
}

struct sim *sim_new(const struct sim_options *options) {
    struct sim *sim = sim_alloc(sizeof *sim);
    struct sim_options *o = &sim->options;
    *o = *options;
    if (o->io_max_ns == 0) {
        o->io_min_ns = 20 * NS_PER_US;
        o->io_max_ns = 2 * NS_PER_MS;
    }
    must(o->io_min_ns <= o->io_max_ns);
    o->disk_bytes = or_default(o->disk_bytes, TIB);
    o->orphan_max_ns = or_default(o->orphan_max_ns, 60 * NS_PER_MS);
    o->job_max_ns = or_default(o->job_max_ns, 5 * NS_PER_MS);
    o->queue_depth = (uint32_t)or_default(o->queue_depth, 128);
    if (o->net_max_ns == 0) {
        o->net_min_ns = 10 * NS_PER_US;
        o->net_max_ns = NS_PER_MS;
    }
    must(o->net_min_ns <= o->net_max_ns);
    o->stream_send_bytes = (uint32_t)or_default(o->stream_send_bytes, 16 * KIB);
    o->stream_receive_bytes = (uint32_t)or_default(o->stream_receive_bytes, 16 * KIB);
    sim->prng = prng_seed(o->seed);
    sim->random_prng = prng_seed(prng_next(&sim->prng));
    sim->trace = hash_mix(o->seed);
    sim->monotonic_ns = NS_PER_S + prng_below(&sim->prng, NS_PER_S);
    sim->wall_ns = SIM_WALL_START_NS + prng_below(&sim->prng, NS_PER_S);
    sim->name_ops = sim_alloc(SIM_NAMES_PENDING_MAX * sizeof *sim->name_ops);
    sim->jobs_done_end = &sim->jobs_done;
    sim->queue.orphans_end = &sim->queue.orphans;
    sim_queue_open(sim);
    sim_net_open(sim);
    return sim;
}

uint64_t sim_trace(const struct sim *sim) {
    return hash_pair(sim->trace, sim->monotonic_ns);
}

static uint64_t monotonic_ns(void *ctx) {
    return ((const struct sim *)ctx)->monotonic_ns;
}

static uint64_t wall_ns(void *ctx) {
    return ((const struct sim *)ctx)->wall_ns;
}

static const struct clock_ops clock_ops = {monotonic_ns, wall_ns};

struct clock sim_clock(struct sim *sim) {
    return (struct clock){&clock_ops, sim};
}

static void fill(void *ctx, void *buf, size_t bytes) {
    struct sim *sim = ctx;
    unsigned char *to = buf;
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)(prng_next(&sim->random_prng) >> 56);
}

static const struct random_ops random_ops = {fill};

struct random_source sim_random(struct sim *sim) {
    return (struct random_source){&random_ops, sim};
}

int sim_tick(struct sim *sim) {
    if (sim->stopped)
        return ERR_IO;
    if (sim->stop_after > 0 && --sim->stop_after == 0) {
        sim->stopped = 1;
        return ERR_IO;
    }
    return 0;
}

void sim_stop_after(struct sim *sim, uint64_t n) {
    sim->stop_after = n > 0 ? n + 1 : 0;
}

int sim_stopped(const struct sim *sim) {
    return sim->stopped;
}

void sim_disk_limit(struct sim *sim, uint64_t disk_bytes) {
    sim->options.disk_bytes = disk_bytes;
}

/* A binary heap: the earliest event is at 0. */
static int earlier(const struct sim_event *a, const struct sim_event *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void swap(struct sim_event *a, struct sim_event *b) {
    struct sim_event t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct sim *sim, uint32_t i) {
    for (; i > 0 && earlier(&sim->heap[i], &sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&sim->heap[i], &sim->heap[(i - 1) / 2]);
}

static void sift_down(struct sim *sim, uint32_t i) {
    for (;;) {
        uint32_t least = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < sim->heap_count; child++) {
            if (earlier(&sim->heap[child], &sim->heap[least]))
                least = child;
        }
        if (least == i)
            return;
        swap(&sim->heap[i], &sim->heap[least]);
        i = least;
    }
}

static void heap_repair(struct sim *sim) {
    for (uint32_t i = sim->heap_count; i-- > 0;)
        sift_down(sim, i);
}

/* Of the network; the others keep their order. */
static void forget_net_events(struct sim *sim) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        const struct sim_event *e = &sim->heap[i];
        if (e->kind == SIM_EVENT_NET)
            sim_net_forget(sim, e->net.conn, e->net.what);
        else
            sim->heap[kept++] = *e;
    }
    sim->heap_count = kept;
    heap_repair(sim);
}

void sim_free(struct sim *sim) {
    sim_net_end_clients(sim);
    forget_net_events(sim);
    sim_net_cut(sim);
    free(sim->net);
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        if (sim->heap[i].kind == SIM_EVENT_IO)
            sim_io_cut(sim, sim->heap[i].io);
    }
    sim_queue_clear(sim);
    sim_close_all(sim);
    sim_name_ops_forget(sim);
    sim_names_drop_all(sim, &sim->live, 1);
    sim_names_drop_all(sim, &sim->durable, 0);
    must(sim->inodes == NULL && sim->used_pages == 0);
    free(sim->queue.dead);
    free(sim->name_ops);
    free(sim->heap);
    free(sim);
}

/* What is due at the same time comes in seeded order. */
void sim_event_add(struct sim *sim, struct sim_event e) {
    if (sim->heap_count == sim->heap_room) {
        sim->heap_room = sim->heap_room ? 2 * sim->heap_room : 64;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof *sim->heap);
        must(sim->heap != NULL);
    }
    e.order = (prng_next(&sim->prng) << 32) | (sim_new_id(sim) & UINT32_MAX);
    sim->heap[sim->heap_count++] = e;
    sift_up(sim, sim->heap_count - 1);
}

static struct sim_event event_take(struct sim *sim) {
    struct sim_event e = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->heap_count];
    sift_down(sim, 0);
    return e;
}

static void clock_forward(struct sim *sim, uint64_t monotonic) {
    if (monotonic <= sim->monotonic_ns)
        return;
    sim->wall_ns += monotonic - sim->monotonic_ns;
    sim->monotonic_ns = monotonic;
}

int sim_step(struct sim *sim) {
    if (sim->heap_count == 0 || sim_tick(sim) < 0)
        return 0;
    struct sim_event e = event_take(sim);
    clock_forward(sim, e.due_ns);
    if (e.kind == SIM_EVENT_IO)
        sim_io_fire(sim, e.io);
    else if (e.kind == SIM_EVENT_NET)
        sim_net_fire(sim, e.net.conn, e.net.what, e.net.side);
    else
        sim_job_fire(sim, e.job);
    return 1;
}

int sim_advance(struct sim *sim, uint64_t ns) {
    uint64_t until = sim->monotonic_ns + ns;
    int n = 0;
    while (sim->heap_count > 0 && sim->heap[0].due_ns <= until && sim_step(sim))
        n++;
    clock_forward(sim, until);
    return n;
}

int sim_settle(struct sim *sim) {
    int n = 0;
    while (sim_step(sim))
        n++;
    return n;
}

void sim_wall_jump(struct sim *sim, int64_t ns) {
    sim->wall_ns += (uint64_t)ns;
    sim_note(sim, 'j', (uint64_t)ns, 0);
}

static void process_end(struct sim *sim) {
    sim_close_all(sim);
    sim_jobs_forget(sim);
    sim->stop_after = 0;
    sim->stopped = 0;
}

void sim_kill(struct sim *sim) {
    process_end(sim);
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        if (sim->heap[i].kind == SIM_EVENT_IO)
            sim_io_kill(sim, &sim->heap[i]);
    }
    heap_repair(sim);
    sim_queue_kill(sim);
    sim_net_kill(sim);
    sim_note(sim, 'K', sim->heap_count, 0);
}

void sim_power_cut(struct sim *sim) {
    process_end(sim);
    forget_net_events(sim);
    sim_net_cut(sim);
    for (uint32_t i = 0; i < sim->heap_count; i++)
        sim_io_cut(sim, sim->heap[i].io);
    sim->heap_count = 0;
    sim_queue_clear(sim);
    struct sim_cut cut = sim_cut_make(sim);
    for (struct sim_inode *inode = sim->inodes; inode; inode = inode->next)
        sim_cut_inode(sim, &cut, inode);
    sim_cut_names(sim, &cut);
    sim->wall_ns += NS_PER_S + prng_below(&sim->prng, 60 * NS_PER_S);
    sim->monotonic_ns = NS_PER_S + prng_below(&sim->prng, NS_PER_S);
    sim_note(sim, 'P', cut.seed, sim->wall_ns);
}

static void job_start(void *ctx, struct job *job) {
    struct sim *sim = ctx;
    uint64_t due = sim->monotonic_ns + prng_below(&sim->prng, sim->options.job_max_ns + 1);
    sim_event_add(sim, (struct sim_event){.due_ns = due, .kind = SIM_EVENT_JOB, .job = job});
}

void sim_job_fire(struct sim *sim, struct job *job) {
    job->run(job);
    job->next = NULL;
    *sim->jobs_done_end = job;
    sim->jobs_done_end = &job->next;
    sim_note(sim, 'J', 0, 0);
}

int sim_input_waits(const struct sim *sim) {
    return sim->jobs_done != NULL || sim_completion_waits(sim);
}

static int job_reap(void *ctx) {
    struct sim *sim = ctx;
    int n = 0;
    while (sim->jobs_done && !sim->stopped) {
        struct job *job = sim->jobs_done;
        sim->jobs_done = job->next;
        if (!sim->jobs_done)
            sim->jobs_done_end = &sim->jobs_done;
        job->done(job);
        n++;
    }
    return n;
}

/* Takes the events of one kind out, keeping the heap. */
static struct sim_event *first_job(struct sim *sim) {
    struct sim_event *first = NULL;
    for (uint32_t i = 0; i < sim->heap_count; i++) {
        if (sim->heap[i].kind == SIM_EVENT_JOB && (!first || earlier(&sim->heap[i], first)))
            first = &sim->heap[i];
    }
    return first;
}

static struct job *job_take(struct sim *sim) {
    struct sim_event *e = first_job(sim);
    if (!e)
        return NULL;
    struct job *job = e->job;
    *e = sim->heap[--sim->heap_count];
    heap_repair(sim);
    return job;
}

static void job_drain(void *ctx) {
    struct sim *sim = ctx;
    struct job *job;
    while ((job = job_take(sim)) != NULL)
        sim_job_fire(sim, job);
}

/* The dead process's jobs are in its memory: they are not touched. */
void sim_jobs_forget(struct sim *sim) {
    while (job_take(sim))
        ;
    sim->jobs_done = NULL;
    sim->jobs_done_end = &sim->jobs_done;
}

static const struct job_runner_ops job_ops = {job_start, job_reap, job_drain};

struct job_runner sim_jobs(struct sim *sim) {
    return (struct job_runner){&job_ops, sim};
}
