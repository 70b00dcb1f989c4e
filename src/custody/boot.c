/* SPDX-License-Identifier: Apache-2.0 */
#include "custody/boot.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "custody/anchor.h"
#include "custody/keeper.h"
#include "custody/process.h"

/* CLONE_FILES: parent and child share one table of descriptors. */
static int twin(void) {
    return (int)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
}

struct custody *custody_map(int fd) {
    void *p = mmap(NULL, CUSTODY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
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
    if (planned)
        atomic_store(&c->successor_pid, getpid());
    int keeper_pid = getpid(), keeper = process_fd(keeper_pid);
    int pid = twin();
    must(pid >= 0);
    if (pid > 0) {
        struct keeper k = {.custody = c,
                           .generation = b->generation,
                           .planned = planned,
                           .engine_pid = pid,
                           .engine_pidfd = process_fd(pid),
                           .engine_is_child = 1,
                           .bell = b->keeper_bell,
                           .argv = b->argv,
                           .custody_fd = b->custody_fd,
                           .binary_fd = b->binary_fd};
        keeper_run(&k);
    }
    b->keeper_pidfd = keeper;
    process_set_oom_score_adj(atomic_load(&c->oom_score_adj));
    /* A successor that does not serve yet ends with its keeper: the former keeper sees only that one, and would
     * start another successor beside it. */
    if (b->predecessor > 0 && !atomic_load(&c->orphaned) && !process_ends_with(keeper_pid))
        _exit(1);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (b->mode == BOOT_COLD)
        atomic_store(&c->engine_pid, getpid());
    prctl(PR_SET_NAME, "perdure-engine");
    return engine(b);
}

int boot(int argc, char **argv, int (*engine)(struct boot *b)) {
    process_prepare();
    struct boot b = {.argc = argc, .argv = argv, .former_engine_bell = -1};
    char mode[16] = "";
    int fd = -1;
    if (argc > 1 && sscanf(argv[1], "--takeover=%15[a-z],%d,%u", mode, &fd, &b.predecessor) == 3) {
        b.mode = strcmp(mode, "planned") == 0 ? BOOT_PLANNED : BOOT_CRASH;
        b.custody_fd = fd;
        b.custody = custody_map(fd);
        if (!b.custody || b.custody->magic != CUSTODY_MAGIC ||
            b.custody->version != CUSTODY_VERSION) {
            fprintf(stderr, "<3>%s: --takeover is for the keeper alone\n", argv[0]);
            return 2;
        }
        argv[1] = argv[0];
        b.argv = argv + 1;
        b.argc = argc - 1;
        b.former_engine_bell = atomic_load(&b.custody->engine_bell);
        if (b.mode == BOOT_CRASH && atomic_load(&b.custody->arena_fd) < 0 &&
            !atomic_load(&b.custody->orphaned))
            b.mode = BOOT_COLD;
        return split(&b, b.mode == BOOT_PLANNED, engine);
    }
    struct anchor k;
    if (anchor_make(&k, &b) < 0)
        return 1;
    int pid = fork();
    if (pid == 0)
        return split(&b, 0, engine);
    if (pid < 0)
        fprintf(stderr, "<3>%s: no process can be started\n", argv[0]);
    return pid > 0 ? anchor_run(&k) : 1;
}

/* Nobody has succeeded its predecessor meanwhile. */
static int is_next(const struct boot *b) {
    return atomic_load(&b->custody->serving) == b->predecessor;
}

void boot_wait_at_gate(struct boot *b) {
    struct custody *c = b->custody;
    if (b->mode != BOOT_COLD && !is_next(b))
        _exit(1);
    if (b->mode != BOOT_PLANNED)
        return;
    uint64_t one = 1;
    atomic_store(&c->prepare, CUSTODY_PREPARE_READY);
    if (write(b->former_engine_bell, &one, sizeof one) < 0) {
        /* Full: it has been rung. */
    }
    uint32_t gate;
    while ((gate = atomic_load(&c->gate)) == CUSTODY_GATE_SHUT &&
           atomic_load(&c->state) == CUSTODY_SERVING && is_next(b))
        syscall(SYS_futex, &c->gate, FUTEX_WAIT, CUSTODY_GATE_SHUT, NULL, NULL, 0);
    if (atomic_load(&c->state) != CUSTODY_SERVING) /* it stopped in order meanwhile */
        _exit(0);
    if (!is_next(b))
        _exit(1);
    if (gate == CUSTODY_GATE_CRASH)
        b->mode = BOOT_CRASH;
    if (gate == CUSTODY_GATE_TURNED_AWAY)
        _exit(1);
}

_Noreturn void boot_refuse(struct boot *b, const char *reason) {
    snprintf(b->custody->reason, sizeof b->custody->reason, "%s", reason);
    _exit(1);
}

void boot_serving(struct boot *b, uint64_t now_ns, uint64_t probation_ns) {
    struct custody *c = b->custody;
    int former_program = atomic_load(&c->binary_fd);
    prctl(PR_SET_PDEATHSIG, 0);
    atomic_store(&c->engine_pid, getpid());
    atomic_store(&c->keeper_pid, getppid());
    if (b->mode == BOOT_PLANNED) {
        /* On probation; the way back is held open. */
        process_close(atomic_exchange(&c->previous_binary_fd, former_program));
        atomic_store(&c->probation_until_ns, now_ns + probation_ns);
    } else {
        process_close(former_program);
        if (atomic_load(&c->death_ns) < atomic_load(&c->probation_until_ns) &&
            custody_own_fault(c)) {
            /* We are the way back. */
            process_close(atomic_exchange(&c->previous_binary_fd, -1));
            atomic_store(&c->probation_until_ns, 0);
        }
    }
    process_close(atomic_exchange(&c->next_binary_fd, -1));
    process_close(atomic_exchange(&c->keeper_bell, b->keeper_bell));
    process_close(atomic_exchange(&c->engine_bell, b->engine_bell));
    atomic_store(&c->binary_fd, b->binary_fd);
    atomic_store(&c->prepare, CUSTODY_PREPARE_NONE);
    atomic_store(&c->gate, CUSTODY_GATE_SHUT);
    atomic_store(&c->failures, 0);
    atomic_store(&c->serving_ns, now_ns);
    atomic_store(&c->state, CUSTODY_SERVING);
    atomic_store(&c->serving, b->generation);
    syscall(SYS_futex, &c->gate, FUTEX_WAKE, 64, NULL, NULL, 0); /* whoever came too late leaves */
    syscall(SYS_pidfd_send_signal, atomic_load(&c->anchor_fd), ANCHOR_SIGNAL_SERVES, NULL, 0);
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
    case CUSTODY_DEATH_TOGETHER:
        snprintf(out, room, "engine and keeper died together");
        break;
    default:
        snprintf(out, room, "the engine died, and nobody saw how");
    }
}

void boot_want_successor(struct boot *b, int binary_fd) {
    uint64_t one = 1;
    atomic_store(&b->custody->next_binary_fd, binary_fd);
    b->custody->reason[0] = 0;
    atomic_store(&b->custody->successor_pid, 0);
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

int boot_owns(const struct boot *b, int fd) {
    const struct custody *k = b->custody;
    return fd <= 2 || fd == b->custody_fd || fd == b->keeper_bell || fd == b->engine_bell ||
           fd == b->binary_fd || fd == atomic_load(&k->arena_fd) ||
           fd == atomic_load(&k->lock_fd) || fd == atomic_load(&k->binary_fd) ||
           fd == atomic_load(&k->previous_binary_fd) || fd == atomic_load(&k->next_binary_fd) ||
           fd == atomic_load(&k->keeper_bell) || fd == atomic_load(&k->engine_bell) ||
           fd == atomic_load(&k->anchor_fd);
}

int boot_new_keeper(struct boot *b) {
    struct custody *c = b->custody;
    int self = getpid();
    int self_fd = process_fd(self);
    int pid = twin();
    if (pid == 0) {
        process_protect();
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
    b->keeper_pidfd = pid > 0 ? process_fd(pid) : -1;
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
