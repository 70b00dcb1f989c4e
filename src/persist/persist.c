/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From perdure_main() to an engine that serves: the arena is made, or qualified, rolled back and attached; what
 * was preserved is found; the rest of what was inherited is closed. Custody does the processes (custody.h).
 *
 *   engine died with its keeper    the anchor's arena is all that is left: it is attached, the descriptors are lost
 *   arena does not qualify         planned: refused, the engine that serves goes on; after a death: cold start
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/units.h"
#include "custody/process.h"
#include "persist/persist_priv.h"
#include "plat/linux/linux.h"

#define HANDLES 1024u
#define HEAP_BYTES (16 * MIB)
#define UNDO_BYTES MIB
#define PROBATION_MS 10000u

/* What perdure_main() was called with; boot() calls back without it. */
static const struct perdure_program *the_program;

static __attribute__((format(printf, 2, 3))) void say(struct perdure *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(p->reason, sizeof p->reason, format, args);
    va_end(args);
}

static struct arena_live *live_of(const struct perdure *p) {
    return (void *)((unsigned char *)p->base + ARENA_LIVE_OFFSET);
}

/* ---- the arena ---- */

static void make_plan(struct perdure *p) {
    const struct perdure_program *g = p->program;
    uint64_t heap = g->heap_bytes ? g->heap_bytes : HEAP_BYTES;
    uint64_t handles = g->handles_max ? g->handles_max : HANDLES;
    p->regions[0] =
        (struct arena_region_plan){PERSIST_REGION_HEAP, PERSIST_REGION_VERSION, heap, 4096};
    p->regions[1] = (struct arena_region_plan){PERSIST_REGION_DESCRIPTORS, PERSIST_REGION_VERSION,
                                               handles * sizeof(struct persist_record), 4096};
    p->plan = (struct arena_plan){
        .regions = p->regions,
        .region_count = 2,
        .undo_bytes = round_up_u64(g->undo_bytes ? g->undo_bytes : UNDO_BYTES, 4096)};
    linux_memory.boot_id(p->plan.boot_id);
}

static int make_arena(struct perdure *p) {
    int fd, err;
    p->bytes = arena_plan_bytes(&p->plan);
    if (getrandom(p->plan.arena_id, sizeof p->plan.arena_id, 0) < 0)
        return -EIO;
    if ((fd = linux_memory.create(p->bytes)) < 0)
        return -ENOMEM;
    if (linux_memory.map(fd, p->bytes, &p->base) < 0)
        return -ENOMEM;
    if ((err = arena_create(&p->a, p->base, p->bytes, &p->plan)) < 0)
        return -ENOMEM;
    heap_make(p);
    atomic_store(&p->boot->custody->orphaned, 0);
    atomic_store(&p->boot->custody->arena_fd, fd);
    atomic_fetch_add(&p->boot->custody->arenas, 1);
    return 0;
}

static int reads_version(struct perdure *p, uint32_t version) {
    uint32_t oldest = p->program->data_oldest ? p->program->data_oldest : p->program->data_version;
    if (version >= oldest && version <= p->program->data_version)
        return 1;
    say(p, "the data are of version %u, which this program does not read", version);
    return 0;
}

/* The same before the arena is ours; an engine that serves may change it yet. */
static int reads_what_lies_there(struct perdure *p) {
    const struct arena_identity *id = arena_identity_of(p->base);
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind == ARENA_PART_REGION && id->parts[i].number == PERSIST_REGION_HEAP) {
            const struct persist_root *root =
                (const void *)((const unsigned char *)p->base + id->parts[i].offset);
            return p->boot->mode != BOOT_PLANNED || reads_version(p, root->data_version);
        }
    return 0;
}

/* Before the turn in hand is rolled back, and of an arena that another engine may still be changing. */
static int qualifies(struct perdure *p) {
    int fd = atomic_load(&p->boot->custody->arena_fd);
    int64_t bytes = linux_memory.size(fd);
    p->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    if (p->bytes == 0 || linux_memory.map(fd, p->bytes, &p->base) < 0) {
        p->base = NULL;
        say(p, "%s", arena_verdict_text(ARENA_BAD_ADDRESS));
        return 0;
    }
    enum arena_verdict v = arena_qualify(p->base, p->bytes, &p->plan);
    if (v != ARENA_QUALIFIES)
        say(p, "%s", arena_verdict_text(v));
    return v == ARENA_QUALIFIES && reads_what_lies_there(p);
}

/* Deaths in a row by own fault, without a turn committed between them, tell of an arena that kills. */
static int kills(struct perdure *p) {
    if (p->started != PERDURE_CRASH || !custody_own_fault(p->boot->custody))
        return 0;
    return atomic_fetch_add(&live_of(p)->deaths, 1) + 1 >= ARENA_DEATHS_MAX;
}

static int take(struct perdure *p) {
    enum arena_verdict v = kills(p) ? ARENA_BAD_DEATHS : arena_roll_back(p->base);
    if (v != ARENA_QUALIFIES) {
        say(p, "%s", arena_verdict_text(v));
        return 0;
    }
    if (arena_attach(&p->a, p->base, p->bytes, &p->plan) < 0) {
        say(p, "no memory");
        return 0;
    }
    int reads = reads_version(p, perdure_data_version(p));
    if (reads && heap_check(p) == 0)
        return 1;
    if (reads)
        say(p, "the blocks of the heap do not follow one another");
    arena_detach(&p->a);
    return 0;
}

static void give_up(struct perdure *p) {
    process_close(atomic_exchange(&p->boot->custody->arena_fd, -1));
    if (p->base)
        linux_memory.unmap(p->base, p->bytes);
    p->base = NULL;
    p->started = PERDURE_COLD;
}

static int open_arena(struct perdure *p) {
    struct boot *b = p->boot;
    make_plan(p);
    int warm = b->mode != BOOT_COLD;
    int good = warm && qualifies(p);
    if (b->mode == BOOT_PLANNED && !good)
        boot_refuse(b, p->reason);
    boot_wait_at_gate(b);
    p->started = b->mode == BOOT_PLANNED ? PERDURE_PLANNED
                 : b->mode == BOOT_CRASH ? PERDURE_CRASH
                                         : PERDURE_COLD;
    p->orphaned = warm && atomic_load(&b->custody->orphaned);
    if (good && !take(p)) {
        if (p->started == PERDURE_PLANNED)
            boot_refuse(b, p->reason);
        good = 0;
    }
    if (!good) {
        if (warm)
            give_up(p);
        return make_arena(p);
    }
    atomic_store(&b->custody->hang_ms, p->program->hang_ms);
    boot_attaches(b);
    atomic_store(&live_of(p)->phase, ARENA_ATTACHING);
    atomic_store(&b->custody->orphaned, 0);
    if (p->started == PERDURE_CRASH)
        boot_death_text(b, p->reason, sizeof p->reason);
    return 0;
}

/* ---- turns ---- */

int persist_save(struct perdure *p, const void *at, uint64_t bytes) {
    uint64_t needed = round_up_u64(bytes, 8) + 16;
    if (bytes > UINT32_MAX - 16 || needed > arena_undo_left(&p->a))
        return -ENOSPC;
    arena_undo_save(&p->a, (uint64_t)((const unsigned char *)at - p->a.base), (uint32_t)bytes);
    return 0;
}

void perdure_begin(struct perdure *p) {
    must(!p->in_turn);
    p->in_turn = 1;
    boot_turn_begins(p->boot);
}

void perdure_commit(struct perdure *p) {
    must(p->in_turn);
    arena_commit(&p->a);
    if (p->serves)
        atomic_store_explicit(&p->a.live->deaths, 0, memory_order_relaxed);
    p->in_turn = 0;
    heap_committed(p);
    descriptors_committed(p);
    boot_turn_ends(p->boot);
}

void perdure_undo(struct perdure *p) {
    must(p->in_turn);
    must(arena_roll_back(p->base) == ARENA_QUALIFIES);
    p->in_turn = 0;
    p->freed.count = 0;
    p->closing = 0;
    heap_find_free(p);
    boot_turn_ends(p->boot);
}

int persist_begin(struct perdure *p) {
    int begun = !p->in_turn;
    if (begun)
        perdure_begin(p);
    return begun;
}

void persist_end(struct perdure *p, int begun) {
    if (begun > 0)
        perdure_commit(p);
}

/* ---- the engine ---- */

static int engine(struct boot *b) {
    struct perdure *p = calloc(1, sizeof *p);
    if (!p)
        boot_stop(b, CUSTODY_FAILED, 1);
    p->boot = b;
    p->program = the_program;
    p->event_fd = p->signal_fd = -1;
    int err = open_arena(p);
    if (err == 0) {
        descriptors_attach(p);
        descriptors_sweep(p);
        heap_find_free(p);
        p->event_fd = epoll_create1(EPOLL_CLOEXEC);
    }
    if (err < 0 || p->event_fd < 0) {
        fprintf(stderr, "<3>%s: no memory that is to be preserved\n", b->argv[0]);
        boot_stop(b, CUSTODY_FAILED, 1);
    }
    int status = p->program->run(p, b->argc, b->argv);
    if (p->in_turn)
        perdure_undo(p);
    if (p->serves)
        boot_stop(b, CUSTODY_STOPPED, status);
    if (p->started == PERDURE_COLD && b->mode == BOOT_COLD)
        boot_stop(b, CUSTODY_FAILED, status ? status : 1);
    perdure_refuse(p, "the program ended before it served");
}

int perdure_main(int argc, char **argv, const struct perdure_program *program) {
    if (!program || program->struct_bytes < sizeof *program || program->data_version == 0 ||
        !program->run) {
        fprintf(stderr, "<3>%s: struct perdure_program is not right\n", argv[0]);
        return 2;
    }
    the_program = program;
    return boot(argc, argv, engine);
}

enum perdure_start perdure_started(const struct perdure *p) {
    return p->started;
}

uint32_t perdure_generation(const struct perdure *p) {
    return p->boot->generation;
}

const char *perdure_reason(const struct perdure *p) {
    return p->reason;
}

uint32_t perdure_lost(const struct perdure *p) {
    return p->lost;
}

void perdure_refuse(struct perdure *p, const char *why) {
    must(!p->serves);
    if (p->boot->mode == BOOT_COLD)
        boot_stop(p->boot, CUSTODY_FAILED, 1);
    boot_refuse(p->boot, why);
}

static void hear(struct perdure *p, int fd) {
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= 0)
        epoll_ctl(p->event_fd, EPOLL_CTL_ADD, fd, &e);
}

int perdure_serve(struct perdure *p) {
    struct boot *b = p->boot;
    sigset_t set;
    if (p->serves || p->in_turn)
        return -EINVAL;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    p->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (p->signal_fd < 0)
        return -errno;
    hear(p, p->signal_fd);
    hear(p, b->engine_bell);
    hear(p, b->keeper_pidfd);
    atomic_store(&b->custody->hang_ms, p->program->hang_ms);
    boot_turn_ends(b);
    uint32_t ms = p->program->probation_ms ? p->program->probation_ms : PROBATION_MS;
    boot_serving(b, process_now_ns(), (uint64_t)ms * NS_PER_MS);
    atomic_store(&p->a.live->phase, ARENA_SERVING);
    p->serves = 1;
    return 0;
}

int perdure_fd(const struct perdure *p) {
    return p->event_fd;
}

static int bell(struct perdure *p) {
    struct custody *c = p->boot->custody;
    enum custody_prepare state = boot_prepared(p->boot);
    if (state == CUSTODY_PREPARE_READY)
        boot_let_go(p->boot, process_now_ns());
    if (state != CUSTODY_PREPARE_FAILED || !p->reloading)
        return PERDURE_NOTHING;
    atomic_store(&c->prepare, CUSTODY_PREPARE_NONE);
    process_close(atomic_exchange(&c->next_binary_fd, -1));
    p->reloading = 0;
    say(p, "%s", c->reason[0] ? c->reason : "the successor died");
    return PERDURE_RELOAD_FAILED;
}

static int hear_signal(struct perdure *p) {
    struct signalfd_siginfo info;
    if (read(p->signal_fd, &info, sizeof info) != sizeof info)
        return PERDURE_NOTHING;
    return info.ssi_signo == SIGHUP ? PERDURE_HANGUP : PERDURE_STOP;
}

int perdure_event(struct perdure *p) {
    struct epoll_event e;
    if (p->in_turn || !p->serves)
        return -EBUSY;
    if (epoll_wait(p->event_fd, &e, 1, 0) != 1)
        return PERDURE_NOTHING;
    if (e.data.fd == p->signal_fd)
        return hear_signal(p);
    if (e.data.fd == p->boot->engine_bell)
        return bell(p);
    /* The keeper has died: its descriptor is closed, and so is its place among the events. */
    if (boot_new_keeper(p->boot) < 0)
        say(p, "no process can be started to be the keeper");
    hear(p, p->boot->keeper_pidfd);
    return PERDURE_NOTHING;
}

int perdure_reload(struct perdure *p, const char *path) {
    int fd = -1;
    if (!p->serves)
        return -EINVAL;
    if (p->reloading)
        return -EALREADY;
    if (path && access(path, X_OK) < 0)
        return -errno;
    if (path && (fd = open(path, O_RDONLY | O_NONBLOCK)) < 0)
        return -errno;
    p->reloading = 1;
    boot_want_successor(p->boot, fd);
    return 0;
}
