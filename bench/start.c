/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's part of a start after a power cut, over a long history: start [SEGMENTS [DIR]]
 *
 * Makes a store of so many sealed segments (engine/log/big_store_test.h) in a new folder below DIR, with
 * sparse slot files of 64 MiB, and starts the log on it several times, with an index that keeps nothing.
 * The page cache is warm. Then moments are looked up by number, from all over the history.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/err.h"
#include "engine/log/big_store_test.h"
#include "engine/log/log_priv.h"
#include "plat/posix/posix.h"

#define STARTS 5
#define MOMENTS 1000u

static void check(int err, const char *what) {
    if (err >= 0)
        return;
    fprintf(stderr, "%s: %s\n", what, err_text(err));
    exit(1);
}

static double ms_since(uint64_t begin_ns) {
    struct clock clock = posix_clock();
    return (double)(clock_monotonic_ns(&clock) - begin_ns) / 1e6;
}

static void found(void *owner, int result, const struct log_moment *m) {
    *(int *)owner = result < 0 ? result : 1;
}

static void find_moments(struct log *l, struct job_runner jobs, uint32_t segments) {
    struct clock clock = posix_clock();
    uint64_t from = clock_monotonic_ns(&clock);
    for (uint32_t i = 0; i < MOMENTS; i++) {
        struct log_moment m;
        int told = 0;
        uint64_t number = big_store_sequence((uint32_t)((uint64_t)i * segments / MOMENTS));
        check(log_find_moment(l, LOG_AT_SEQUENCE, number, &m, found, &told), "a moment");
        jobs.ops->drain(jobs.ctx);
        jobs.ops->reap(jobs.ctx);
        check(told, "a moment");
    }
    printf("a moment: %.3f ms\n", ms_since(from) / MOMENTS);
}

static void start(int dir, struct file_system files, uint32_t segments, int last) {
    const struct arena_table_plan tables[] = {{&io_spec, 64},
                                              {&engine_spec, 1},
                                              {&segment_spec, segments + BIG_STORE_FILE + 64},
                                              {&frame_spec, LOG_FRAMES_MAX},
                                              {&wall_spec, 1}};
    const struct arena_region_plan region = {REGION_BUFFERS, 1, 8u << 20, 4096};
    const struct arena_plan plan = {.tables = tables,
                                    .table_count = 5,
                                    .regions = &region,
                                    .region_count = 1,
                                    .undo_bytes = 2u << 20};
    static struct log_report report;
    struct arena a;
    struct buffer_pool buffers;
    struct io_port io;
    struct clock clock = posix_clock();
    struct posix_router *router = posix_router_open(dir, 1, 64);
    struct posix_jobs *jobs = posix_jobs_open(0);
    void *memory = mmap(NULL, arena_plan_bytes(&plan), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(memory == MAP_FAILED || !router || !jobs ? ERR_NOMEM : 0, "memory");
    check(arena_create(&a, memory, arena_plan_bytes(&plan), &plan), "arena");
    check(buffer_pool_open(&buffers, &a, REGION_BUFFERS), "buffers");
    check(io_open(&io, &a, &buffers, posix_router(router), 1), "io");
    struct log_env env = {.arena = &a,
                          .buffers = &buffers,
                          .io = &io,
                          .files = files,
                          .jobs = posix_jobs(jobs),
                          .clock = clock,
                          .index = &big_store_no_index};
    struct log_params params = log_params_default();
    struct log *l = log_open(&env, &params);
    io.device = log_device;
    io.device_ctx = l;
    uint64_t from = clock_monotonic_ns(&clock);
    check(log_recover(l, &report), "log_recover");
    check(log_begin(l, &report), "log_begin");
    printf("%u sealed segments, %u read whole: %.0f ms\n", report.segments_sealed,
           report.segments_scanned, ms_since(from));
    log_turn_begin(l);
    if (last)
        find_moments(l, posix_jobs(jobs), segments);
    posix_jobs_close(jobs);
    log_close(l);
    io_close(&io);
    posix_router_close(router);
    buffer_pool_close(&buffers);
    arena_detach(&a);
    munmap(memory, arena_plan_bytes(&plan));
}

static struct file_system removed_from;
static void remove_slot(void *arg, const char *name) {
    char path[64];
    snprintf(path, sizeof path, LOG_DIR "/%.40s", name);
    removed_from.ops->remove(removed_from.ctx, path);
}

int main(int argc, char **argv) {
    uint32_t segments = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 6000;
    char folder[256];
    snprintf(folder, sizeof folder, "%s/perdure-start-XXXXXX", argc > 2 ? argv[2] : "/tmp");
    if (segments == 0 || segments > 1000000 || !mkdtemp(folder))
        return 2;
    struct posix_files below = {.dir = open(folder, O_RDONLY | O_DIRECTORY)};
    struct file_system files = posix_files(&below);
    struct clock clock = posix_clock();
    uint64_t begin_ns = clock_wall_ns(&clock) - segments * NS_PER_S - NS_PER_S;
    struct log_create create = {.store_id = {1}, .wall_ns = begin_ns};
    check(log_create_store(&files, &create), "a new store");
    check(big_store_make(&files, segments, begin_ns), "its history");
    for (int i = 0; i < STARTS; i++)
        start(below.dir, files, segments, i + 1 == STARTS);
    removed_from = files;
    files.ops->list(files.ctx, LOG_DIR, remove_slot, NULL);
    files.ops->remove(files.ctx, LOG_DIR);
    files.ops->remove(files.ctx, "store");
    close(below.dir);
    return rmdir(folder) != 0;
}
