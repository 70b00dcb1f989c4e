/* SPDX-License-Identifier: Apache-2.0 */
#include "custody/keeper.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "custody/process.h"

#define ARGS_MAX 256
/* While a successor is being started the keeper looks this often whether it serves. */
#define LOOK_MS 5
/* A successor that is not ready after this is none: meanwhile nobody is accepted. */
#define PREPARE_MAX_NS UINT64_C(10000000000)
/* Successors in a row that never served; beyond, a pause between the attempts, then the end. */
#define FAILURES_QUICK 3u
#define FAILURES_MAX 12u
/* The anchor reaps an engine as soon as it is dead. */
#define ANCHOR_TELLS_MS 200

extern char **environ;

static void ring(int bell) {
    uint64_t one = 1;
    if (bell >= 0 && write(bell, &one, sizeof one) < 0) {
        /* The bell is full: it has been rung. */
    }
}

int keeper_start(int program_fd, char *const *argv, const char *mode, int custody_fd,
                 uint32_t predecessor) {
    char takeover[96], *args[ARGS_MAX + 3];
    int n = 0;
    snprintf(takeover, sizeof takeover, "--takeover=%s,%d,%u", mode, custody_fd, predecessor);
    args[n++] = argv[0];
    args[n++] = takeover;
    for (int i = 1; argv[i] && n < ARGS_MAX; i++)
        args[n++] = argv[i];
    args[n] = NULL;
    int pid = vfork();
    if (pid == 0) {
        syscall(SYS_execveat, program_fd, "", args, environ, 0x1000 /* AT_EMPTY_PATH */);
        _exit(127);
    }
    return pid;
}

/* Which program succeeds an engine that died: its own; the one that served last, if this one never did and
 * died by its own fault; the one before it if it died by its own fault while on probation, or if its own has
 * failed several times. */
static int program_after_death(struct keeper *k) {
    struct custody *c = k->custody;
    int previous = atomic_load(&c->previous_binary_fd);
    int own_fault = custody_own_fault(c);
    int served_last = atomic_load(&c->binary_fd);
    if (served_last >= 0 && atomic_load(&c->serving) < k->generation &&
        (own_fault || atomic_load(&c->failures) >= FAILURES_QUICK))
        return served_last;
    if (previous >= 0 &&
        ((own_fault && atomic_load(&c->death_ns) < atomic_load(&c->probation_until_ns)) ||
         atomic_load(&c->failures) >= FAILURES_QUICK))
        return previous;
    return k->binary_fd;
}

/* Of an engine that is another's child, the anchor learns how it ended. */
static int wait_status(struct keeper *k, int *status) {
    struct custody *c = k->custody;
    if (k->engine_is_child)
        return waitpid(k->engine_pid, status, 0) == k->engine_pid;
    for (int i = 0; i < ANCHOR_TELLS_MS && atomic_load(&c->reaped_pid) != k->engine_pid; i++)
        usleep(1000);
    *status = atomic_load(&c->reaped_status);
    return atomic_load(&c->reaped_pid) == k->engine_pid;
}

static enum custody_death death_of(struct keeper *k) {
    int status;
    if (!wait_status(k, &status))
        return k->watch.hung ? CUSTODY_DEATH_HUNG : CUSTODY_DEATH_UNKNOWN;
    if (WIFEXITED(status)) {
        atomic_store(&k->custody->death_status, (uint32_t)WEXITSTATUS(status));
        return CUSTODY_DEATH_EXIT;
    }
    atomic_store(&k->custody->death_signal, (uint32_t)WTERMSIG(status));
    if (WTERMSIG(status) != SIGKILL)
        return CUSTODY_DEATH_SIGNAL;
    return k->watch.hung ? CUSTODY_DEATH_HUNG : CUSTODY_DEATH_OUTSIDE;
}

static void note_death(struct keeper *k) {
    struct custody *c = k->custody;
    atomic_store(&c->death_ns, process_now_ns());
    atomic_store(&c->death_signal, 0);
    atomic_store(&c->death_status, 0);
    atomic_store(&c->death, (uint32_t)death_of(k));
}

static void note_fault(struct custody *c) {
    for (uint32_t i = CUSTODY_FAULTS - 1; i > 0; i--)
        atomic_store(&c->fault_ns[i], atomic_load(&c->fault_ns[i - 1]));
    atomic_store(&c->fault_ns[0], atomic_load(&c->death_ns));
}

static void open_gate_after_crash(struct custody *c) {
    uint32_t shut = CUSTODY_GATE_SHUT;
    if (atomic_compare_exchange_strong(&c->gate, &shut, CUSTODY_GATE_CRASH))
        syscall(SYS_futex, &c->gate, FUTEX_WAKE, 64, NULL, NULL, 0);
}

/* A successor that a former keeper of this engine has started, if it lives; 0: none is known. It is another's
 * child, so it is watched by a descriptor. */
static int adopt(struct keeper *k) {
    struct custody *c = k->custody;
    uint32_t prepare = atomic_load(&c->prepare);
    int pid = atomic_load(&c->successor_pid);
    if (k->engine_is_child || pid <= 0 || /* a parent has started its successors itself */
        (prepare != CUSTODY_PREPARE_STARTED && prepare != CUSTODY_PREPARE_READY))
        return 0;
    k->adopted_fd = process_fd(pid);
    return k->adopted_fd >= 0 ? pid : 0;
}

static int successor_ended(struct keeper *k, int successor) {
    int status;
    if (k->adopted_fd < 0)
        return waitpid(successor, &status, WNOHANG) == successor;
    if (!process_has_ended(k->adopted_fd))
        return 0;
    process_close(k->adopted_fd);
    k->adopted_fd = -1;
    return 1;
}

/* The engine is dead. Returns if somebody must succeed it. */
static void engine_died(struct keeper *k, int successor) {
    struct custody *c = k->custody;
    uint32_t state = atomic_load(&c->state);
    uint32_t serving = atomic_load(&c->serving);
    if (serving > k->generation || state == CUSTODY_STOPPED || state == CUSTODY_FAILED)
        _exit(0);
    if (serving == k->generation && atomic_load(&c->gate) == CUSTODY_GATE_PLANNED)
        return; /* it has let go */
    note_death(k);
    if (serving == 0) { /* the first start: trying again would end the same way */
        atomic_store(&c->state, CUSTODY_FAILED);
        _exit(1);
    }
    if (serving == k->generation) {
        atomic_fetch_add(&c->deaths, 1);
        if (custody_own_fault(c))
            note_fault(c);
    } else {
        /* It never served. Beside a living engine, that one's keeper goes on. */
        uint32_t gate = atomic_load(&c->gate);
        atomic_fetch_add(&c->failures, 1);
        if (k->planned && (gate == CUSTODY_GATE_SHUT || gate == CUSTODY_GATE_TURNED_AWAY))
            _exit(1);
    }
    if (successor)
        open_gate_after_crash(c);
}

static void preparation_failed(struct custody *c) {
    atomic_store(&c->prepare, CUSTODY_PREPARE_FAILED);
    ring(atomic_load(&c->engine_bell));
}

/* A preparation takes too long. It may be one that a former keeper began: then its successor is unknown. */
static void end_preparation(struct custody *c, int successor) {
    snprintf(c->reason, sizeof c->reason, "the successor was not ready within %u s",
             (unsigned)(PREPARE_MAX_NS / 1000000000u));
    if (successor)
        kill(successor, SIGKILL);
    else
        preparation_failed(c);
}

_Noreturn void keeper_run(struct keeper *k) {
    struct custody *c = k->custody;
    int engine_alive = 1, successor = 0;
    uint64_t preparing_since = process_now_ns();
    sigset_t all;
    prctl(PR_SET_NAME, "perdure-keeper");
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    k->adopted_fd = -1;
    for (;;) {
        if (atomic_load(&c->serving) > k->generation)
            _exit(0);
        if (!engine_alive && !successor) {
            uint32_t failures = atomic_load(&c->failures);
            if (failures >= FAILURES_MAX) {
                atomic_store(&c->state, CUSTODY_FAILED);
                _exit(1);
            }
            if (failures >= FAILURES_QUICK)
                usleep(100000);
            successor = keeper_start(program_after_death(k), k->argv, "crash", k->custody_fd,
                                     atomic_load(&c->serving));
            if (successor < 0) {
                successor = 0;
                usleep(10000);
                continue;
            }
        }
        struct pollfd p[2] = {{.fd = k->bell, .events = POLLIN},
                              {.fd = engine_alive ? k->engine_pidfd : -1, .events = POLLIN}};
        int preparing = engine_alive && atomic_load(&c->prepare) == CUSTODY_PREPARE_STARTED;
        int watching = engine_alive ? watch_period_ms(c, k->generation) : -1;
        poll(p, 2, successor || preparing ? LOOK_MS : watching);
        if (p[1].revents) {
            engine_alive = 0;
            if (!successor)
                successor = adopt(k);
            engine_died(k, successor);
        }
        if (engine_alive &&
            watch_look(&k->watch, c, k->generation, k->engine_pid, process_now_ns()))
            syscall(SYS_pidfd_send_signal, k->engine_pidfd, SIGKILL, NULL, 0);
        if (p[0].revents & POLLIN) {
            uint64_t count;
            if (read(k->bell, &count, sizeof count) > 0 && engine_alive && !successor &&
                atomic_load(&c->prepare) == CUSTODY_PREPARE_WANTED) {
                int binary = atomic_load(&c->next_binary_fd);
                atomic_store(&c->gate, CUSTODY_GATE_SHUT);
                atomic_store(&c->prepare, CUSTODY_PREPARE_STARTED);
                successor = keeper_start(binary >= 0 ? binary : k->binary_fd, k->argv, "planned",
                                         k->custody_fd, k->generation);
                preparing_since = process_now_ns();
                if (successor < 0) {
                    successor = 0;
                    snprintf(c->reason, sizeof c->reason, "no process can be started");
                    preparation_failed(c);
                }
            }
        }
        if (preparing && engine_alive && process_now_ns() - preparing_since > PREPARE_MAX_NS)
            end_preparation(c, successor);
        if (successor && successor_ended(k, successor)) {
            successor = 0;
            if (atomic_load(&c->serving) > k->generation)
                _exit(0);
            if (engine_alive) {
                preparation_failed(c);
            } else {
                atomic_fetch_add(&c->failures, 1);
            }
        }
    }
}
