/* SPDX-License-Identifier: Apache-2.0 */
#include "server/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "base/units.h"
#include "server/keeper.h"

/* Kept free of connections: files, control connections, and what a successor needs to begin. */
#define DESCRIPTORS_RESERVED 256u

/* CLONE_FILES: parent and child share one table of descriptors. */
static int twin(void) {
    return (int)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int pidfd_of(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

static struct custody *map_custody(int fd) {
    void *p = mmap(NULL, CUSTODY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* The process that was started. Signals go to the engine that serves; when nobody is left, it tells how it
 * ended. As subreaper it inherits the keepers whose parents have left. */
static int anchor_run(struct custody *c, const sigset_t *set) {
    const struct timespec again = {.tv_nsec = 200000000};
    int stopping = 0;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (;;) {
        int pid, status;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (pid == atomic_load(&c->engine_pid)) { /* its keeper waits for this */
                atomic_store(&c->reaped_status, status);
                atomic_store(&c->reaped_pid, pid);
            }
        if (pid < 0 && errno == ECHILD)
            break;
        siginfo_t info;
        /* An engine that is just being succeeded hears nothing: the wish to stop is repeated. */
        int sig = stopping ? sigtimedwait(set, &info, &again) : sigwaitinfo(set, &info);
        if (sig == SIGTERM || sig == SIGINT)
            stopping = 1;
        int engine = atomic_load(&c->engine_pid);
        if (engine > 0 && (sig == SIGHUP || (stopping && sig != SIGCHLD)))
            kill(engine, stopping ? SIGTERM : SIGHUP);
    }
    if (atomic_load(&c->state) == CUSTODY_STOPPED)
        return 0;
    return atomic_load(&c->death_status) == BOOT_STATUS_USAGE ? BOOT_STATUS_USAGE : 1;
}

/* Keeper and engine of this generation. The keeper is the parent, so that it learns how the engine ended. */
static int split(struct boot *b, int planned, int (*engine)(struct boot *b)) {
    struct custody *c = b->custody;
    sigset_t none;
    b->binary_fd = open("/proc/self/exe", O_RDONLY);
    b->keeper_bell = eventfd(0, EFD_NONBLOCK);
    b->engine_bell = eventfd(0, EFD_NONBLOCK);
    must(b->binary_fd >= 0 && b->keeper_bell >= 0 && b->engine_bell >= 0);
    b->generation = atomic_fetch_add(&c->generations, 1) + 1;
    int keeper = pidfd_of(getpid());
    int pid = twin();
    must(pid >= 0);
    if (pid > 0) {
        struct keeper k = {.custody = c,
                           .generation = b->generation,
                           .planned = planned,
                           .engine_pid = pid,
                           .engine_pidfd = pidfd_of(pid),
                           .engine_is_child = 1,
                           .bell = b->keeper_bell,
                           .argv = b->argv,
                           .custody_fd = b->custody_fd,
                           .binary_fd = b->binary_fd};
        keeper_run(&k);
    }
    b->keeper_pidfd = keeper;
    /* Who waits at the gate does not outlive its keeper: it would go through with the next successor. */
    if (planned)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (b->mode == BOOT_COLD)
        atomic_store(&c->engine_pid, getpid());
    prctl(PR_SET_NAME, "perdure-engine");
    return engine(b);
}

int boot_descriptors_max(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return INT_MAX;
    uint64_t all = min_u64(limit.rlim_cur, INT_MAX);
    return (int)(all - min_u64(DESCRIPTORS_RESERVED, all / 2));
}

static void prepare_process(void) {
    struct rlimit limit;
    /* Who reads what is told may go at any time; that is no reason to die. */
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int boot(int argc, char **argv, int (*engine)(struct boot *b)) {
    prepare_process();
    struct boot b = {.argc = argc, .argv = argv, .former_engine_bell = -1};
    char mode[16] = "";
    int fd = -1;
    if (argc > 1 && sscanf(argv[1], "--takeover=%15[a-z],%d", mode, &fd) == 2) {
        b.mode = strcmp(mode, "planned") == 0 ? BOOT_PLANNED : BOOT_CRASH;
        b.custody_fd = fd;
        b.custody = map_custody(fd);
        if (!b.custody || b.custody->magic != CUSTODY_MAGIC ||
            b.custody->version != CUSTODY_VERSION) {
            fprintf(stderr, "<3>%s: --takeover is for the keeper alone\n", argv[0]);
            return 2;
        }
        argv[1] = argv[0];
        b.argv = argv + 1;
        b.argc = argc - 1;
        b.former_engine_bell = atomic_load(&b.custody->engine_bell);
        if (b.mode == BOOT_CRASH && atomic_load(&b.custody->arena_fd) < 0)
            b.mode = BOOT_COLD;
        return split(&b, b.mode == BOOT_PLANNED, engine);
    }
    b.custody_fd = memfd_create("perdure-custody", 0);
    if (b.custody_fd < 0 || ftruncate(b.custody_fd, CUSTODY_BYTES) < 0 ||
        !(b.custody = map_custody(b.custody_fd))) {
        fprintf(stderr, "<3>%s: no memory for the custody page\n", argv[0]);
        return 1;
    }
    struct custody *c = b.custody;
    c->magic = CUSTODY_MAGIC;
    c->version = CUSTODY_VERSION;
    atomic_store(&c->arena_fd, -1);
    atomic_store(&c->lock_fd, -1);
    atomic_store(&c->keeper_bell, -1);
    atomic_store(&c->engine_bell, -1);
    atomic_store(&c->binary_fd, -1);
    atomic_store(&c->previous_binary_fd, -1);
    atomic_store(&c->next_binary_fd, -1);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int pid = fork();
    if (pid < 0) {
        fprintf(stderr, "<3>%s: no process can be started\n", argv[0]);
        return 1;
    }
    if (pid > 0) {
        close(b.custody_fd);
        return anchor_run(c, &set);
    }
    return split(&b, 0, engine);
}

void boot_wait_at_gate(struct boot *b) {
    struct custody *c = b->custody;
    if (b->mode != BOOT_PLANNED)
        return;
    uint64_t one = 1;
    atomic_store(&c->prepare, CUSTODY_PREPARE_READY);
    if (write(b->former_engine_bell, &one, sizeof one) < 0) {
        /* Full: it has been rung. */
    }
    uint32_t gate;
    while ((gate = atomic_load(&c->gate)) == CUSTODY_GATE_SHUT &&
           atomic_load(&c->state) == CUSTODY_SERVING)
        syscall(SYS_futex, &c->gate, FUTEX_WAIT, CUSTODY_GATE_SHUT, NULL, NULL, 0);
    if (atomic_load(&c->state) != CUSTODY_SERVING) /* it stopped in order meanwhile */
        _exit(0);
    prctl(PR_SET_PDEATHSIG, 0);
    if (gate == CUSTODY_GATE_CRASH)
        b->mode = BOOT_CRASH;
    if (gate == CUSTODY_GATE_TURNED_AWAY)
        _exit(1);
}

_Noreturn void boot_refuse(struct boot *b, const char *reason) {
    snprintf(b->custody->reason, sizeof b->custody->reason, "%s", reason);
    _exit(1);
}

static void close_if_open(int fd) {
    if (fd >= 0)
        close(fd);
}

void boot_serving(struct boot *b, uint64_t now_ns, uint64_t probation_ns) {
    struct custody *c = b->custody;
    int former_program = atomic_load(&c->binary_fd);
    atomic_store(&c->engine_pid, getpid());
    atomic_store(&c->keeper_pid, getppid());
    if (b->mode == BOOT_PLANNED) {
        /* On probation; the way back is held open. */
        close_if_open(atomic_exchange(&c->previous_binary_fd, former_program));
        atomic_store(&c->probation_until_ns, now_ns + probation_ns);
    } else {
        close_if_open(former_program);
        if (atomic_load(&c->death_ns) < atomic_load(&c->probation_until_ns) &&
            custody_own_fault(c)) {
            /* We are the way back. */
            close_if_open(atomic_exchange(&c->previous_binary_fd, -1));
            atomic_store(&c->probation_until_ns, 0);
        }
    }
    close_if_open(atomic_exchange(&c->next_binary_fd, -1));
    close_if_open(atomic_exchange(&c->keeper_bell, b->keeper_bell));
    close_if_open(atomic_exchange(&c->engine_bell, b->engine_bell));
    atomic_store(&c->binary_fd, b->binary_fd);
    atomic_store(&c->prepare, CUSTODY_PREPARE_NONE);
    atomic_store(&c->gate, CUSTODY_GATE_SHUT);
    atomic_store(&c->failures, 0);
    atomic_store(&c->serving_ns, now_ns);
    atomic_store(&c->state, CUSTODY_SERVING);
    atomic_store(&c->serving, b->generation);
}

void boot_attaches(struct boot *b) {
    boot_turn_goes_on(b);
    atomic_store(&b->custody->attaching, b->generation);
}

void boot_death_text(const struct boot *b, char *out, size_t room) {
    const struct custody *c = b->custody;
    int sig = (int)atomic_load(&c->death_signal);
    switch (atomic_load(&c->death)) {
    case CUSTODY_DEATH_SIGNAL:
        snprintf(out, room, "the engine died of signal %d (%s)", sig, strsignal(sig));
        break;
    case CUSTODY_DEATH_EXIT:
        snprintf(out, room, "the engine ended by itself with status %u",
                 atomic_load(&c->death_status));
        break;
    case CUSTODY_DEATH_OUTSIDE:
        snprintf(out, room, "the engine was killed from outside (SIGKILL)");
        break;
    case CUSTODY_DEATH_HUNG:
        snprintf(out, room,
                 "the engine hung: a turn took longer than %.1f s, so the keeper killed it",
                 (double)atomic_load(&c->hang_ms) / 1e3);
        break;
    default:
        snprintf(out, room, "the engine died, and nobody saw how");
    }
}

void boot_want_successor(struct boot *b, int binary_fd) {
    uint64_t one = 1;
    atomic_store(&b->custody->next_binary_fd, binary_fd);
    b->custody->reason[0] = 0;
    atomic_store(&b->custody->prepare, CUSTODY_PREPARE_WANTED);
    if (write(b->keeper_bell, &one, sizeof one) < 0) {
        /* Full: it has been rung. */
    }
}

enum custody_prepare boot_prepared(struct boot *b) {
    uint64_t count;
    if (read(b->engine_bell, &count, sizeof count) < 0) {
        /* Not rung: the word tells all the same. */
    }
    return (enum custody_prepare)atomic_load(&b->custody->prepare);
}

static void open_gate(struct custody *c, enum custody_gate gate) {
    atomic_store(&c->gate, gate);
    syscall(SYS_futex, &c->gate, FUTEX_WAKE, 64, NULL, NULL, 0);
}

_Noreturn void boot_let_go(struct boot *b, uint64_t now_ns) {
    atomic_store(&b->custody->let_go_ns, now_ns);
    open_gate(b->custody, CUSTODY_GATE_PLANNED);
    _exit(0);
}

void boot_turn_away(struct boot *b, const char *reason) {
    snprintf(b->custody->reason, sizeof b->custody->reason, "%s", reason);
    open_gate(b->custody, CUSTODY_GATE_TURNED_AWAY);
}

_Noreturn void boot_stop(struct boot *b, enum custody_state state, int status) {
    struct custody *c = b->custody;
    atomic_store(&c->death_signal, 0);
    atomic_store(&c->death_status, (uint32_t)status);
    atomic_store(&c->state, state);
    open_gate(c, CUSTODY_GATE_TURNED_AWAY); /* whoever waits there leaves */
    exit(status);
}

int boot_new_keeper(struct boot *b) {
    struct custody *c = b->custody;
    int self = getpid();
    int self_fd = pidfd_of(self);
    int pid = twin();
    if (pid == 0) {
        struct keeper k = {.custody = c,
                           .generation = b->generation,
                           .engine_pid = self,
                           .engine_pidfd = self_fd,
                           .bell = b->keeper_bell,
                           .argv = b->argv,
                           .custody_fd = b->custody_fd,
                           .binary_fd = atomic_load(&c->binary_fd)};
        keeper_run(&k);
    }
    if (b->keeper_pidfd >= 0)
        close(b->keeper_pidfd);
    b->keeper_pidfd = pid > 0 ? pidfd_of(pid) : -1;
    if (pid < 0)
        return -1;
    atomic_store(&c->keeper_pid, pid);
    /* The dead one may have heard the bell and done nothing. */
    uint64_t one = 1;
    if (atomic_load(&c->prepare) == CUSTODY_PREPARE_WANTED &&
        write(b->keeper_bell, &one, sizeof one) < 0) {
        /* Full: it has been rung. */
    }
    return 0;
}
