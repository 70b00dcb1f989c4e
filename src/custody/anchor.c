/* SPDX-License-Identifier: Apache-2.0 */
#include "custody/anchor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "custody/keeper.h"
#include "custody/process.h"

static sigset_t signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, ANCHOR_SIGNAL_SERVES);
    return set;
}

/* Numbers in a table of descriptors that is not there; the arena is treated apart. */
static void forget_descriptors(struct custody *c) {
    atomic_store(&c->lock_fd, -1);
    atomic_store(&c->keeper_bell, -1);
    atomic_store(&c->engine_bell, -1);
    atomic_store(&c->binary_fd, -1);
    atomic_store(&c->previous_binary_fd, -1);
    atomic_store(&c->next_binary_fd, -1);
}

static int open_of(int pid, const char *what, int number, int flags) {
    char path[64];
    snprintf(path, sizeof path, number < 0 ? "/proc/%d/%s" : "/proc/%d/%s/%d", pid, what, number);
    return open(path, flags);
}

/* Keeps arena and program of the engine that serves, so that what was answered can be read when nobody else is
 * left. */
static void hold(struct anchor *k) {
    struct custody *c = k->b.custody;
    uint32_t arenas = atomic_load(&c->arenas);
    int engine = atomic_load(&c->engine_pid);
    process_close(k->program_fd);
    k->program_fd = open_of(engine, "exe", -1, O_RDONLY | O_CLOEXEC);
    if (arenas == k->arenas)
        return;
    process_close(k->arena_fd);
    k->arena_fd = open_of(engine, "fd", atomic_load(&c->arena_fd), O_RDWR);
    k->arenas = arenas;
}

/* Whoever held the descriptors is dead; their numbers mean nothing any more. */
static void note_orphaned(struct anchor *k) {
    struct custody *c = k->b.custody;
    int fits = k->arenas == atomic_load(&c->arenas);
    atomic_store(&c->arena_fd, fits ? k->arena_fd : -1);
    atomic_store(&c->orphaned, 1);
    forget_descriptors(c);
    atomic_store(&c->engine_pid, -1);
    atomic_store(&c->gate, CUSTODY_GATE_SHUT);
    atomic_store(&c->prepare, CUSTODY_PREPARE_NONE);
    atomic_store(&c->death, CUSTODY_DEATH_TOGETHER);
}

static int cannot_begin(const struct anchor *k) {
    fprintf(stderr, "<3>%s: no process can be started\n", k->b.argv[0]);
    return 0;
}

/* All have died without saying why, and they have served: they begin again. */
static int begin_again(struct anchor *k) {
    struct custody *c = k->b.custody;
    if (atomic_load(&c->state) != CUSTODY_SERVING || atomic_load(&c->serving) == k->served)
        return 0;
    k->served = atomic_load(&c->serving);
    note_orphaned(k);
    int program = k->program_fd >= 0 ? k->program_fd : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    return keeper_start(program, k->b.argv, "crash", k->b.custody_fd, k->served) > 0 ||
           cannot_begin(k);
}

static void reap(struct anchor *k, int *alone) {
    struct custody *c = k->b.custody;
    int pid, status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == atomic_load(&c->engine_pid)) { /* its keeper waits for this */
            atomic_store(&c->reaped_status, status);
            atomic_store(&c->reaped_pid, pid);
        }
    *alone = pid < 0 && errno == ECHILD;
}

static int is_dead(int pid) {
    int fd = pid > 0 ? process_fd(pid) : -1, dead = process_has_ended(fd);
    process_close(fd);
    return dead;
}

/* In the place of a keeper that died. */
static void watch(struct anchor *k) {
    struct custody *c = k->b.custody;
    int engine = atomic_load(&c->engine_pid);
    if (!is_dead(atomic_load(&c->keeper_pid)))
        k->watch = (struct watch){0};
    else if (watch_look(&k->watch, c, atomic_load(&c->serving), engine, process_now_ns()) &&
             engine > 0)
        kill(engine, SIGKILL);
}

/* The next signal; 0: it is time to look at something. */
static int hear(const struct anchor *k, int stopping) {
    static const struct timespec again = {.tv_nsec = 200000000};
    const struct custody *c = k->b.custody;
    const sigset_t heard = signals();
    siginfo_t info;
    int ms = watch_period_ms(c, atomic_load(&c->serving));
    struct timespec look = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    int sig = stopping  ? sigtimedwait(&heard, &info, &again)
              : ms >= 0 ? sigtimedwait(&heard, &info, &look)
                        : sigwaitinfo(&heard, &info);
    return sig > 0 ? sig : 0;
}

int anchor_run(struct anchor *k) {
    struct custody *c = k->b.custody;
    int stopping = 0, alone;
    for (;;) {
        reap(k, &alone);
        if (alone && (stopping || !begin_again(k)))
            break;
        /* An engine that is just being succeeded hears nothing: the wish to stop is repeated. */
        int sig = hear(k, stopping);
        watch(k);
        if (sig == SIGTERM || sig == SIGINT)
            stopping = 1;
        if (sig == ANCHOR_SIGNAL_SERVES)
            hold(k);
        int engine = atomic_load(&c->engine_pid);
        if (engine > 0 && (sig == SIGHUP || (stopping && sig != SIGCHLD)))
            kill(engine, stopping ? SIGTERM : SIGHUP);
    }
    if (atomic_load(&c->state) == CUSTODY_STOPPED)
        return 0;
    return atomic_load(&c->death_status) == BOOT_STATUS_USAGE ? BOOT_STATUS_USAGE : 1;
}

/* By which engines reach the anchor for as long as it lives. */
static int anchor_descriptor(void) {
    int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (fd >= 0)
        fcntl(fd, F_SETFD, 0);
    return fd;
}

int anchor_make(struct anchor *k, struct boot *b) {
    *k = (struct anchor){.arena_fd = -1, .program_fd = -1};
    struct custody *c;
    int oom = process_oom_score_adj();
    b->custody_fd = memfd_create("perdure-custody", 0);
    if (b->custody_fd < 0 || ftruncate(b->custody_fd, CUSTODY_BYTES) < 0 ||
        !(b->custody = c = custody_map(b->custody_fd))) {
        fprintf(stderr, "<3>%s: no memory for the custody page\n", b->argv[0]);
        return -1;
    }
    c->magic = CUSTODY_MAGIC;
    c->version = CUSTODY_VERSION;
    atomic_store(&c->arena_fd, -1);
    forget_descriptors(c);
    atomic_store(&c->anchor_fd, anchor_descriptor());
    atomic_store(&c->oom_score_adj, oom > 0 ? oom : 0);
    process_protect();
    sigset_t heard = signals();
    sigprocmask(SIG_BLOCK, &heard, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    k->b = *b;
    return 0;
}
