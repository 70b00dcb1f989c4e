/* SPDX-License-Identifier: Apache-2.0 */
#include "server/core.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "plat/posix/posix.h"
#include "server/core_priv.h"
#include "server/layouts.h"
#include "server/notify.h"
#include "server/pauses.h"
#include "server/trace.h"

/* Looking at all descriptors at once would hold up a thousand connections for two milliseconds. */
#define SWEEP_PER_TURN 64
/* An engine whose disk operations die with it waits so long for the last of them before it lets go. */
#define REST_MAX_NS (2 * NS_PER_S)

static int open_on(struct core *c, const struct machine *m) {
    c->machine = m;
    return m ? m->disks->open(c->store_dir, &c->router, &c->router_fd) : ERR_UNSUPPORTED;
}

/* The machine that is remembered; at a cold start the one that is wanted, or what it falls back to. So it is
 * too if the remembered one is not to be had any more: its arena means nothing on another. */
static int open_machine(struct core *c, const char *platform) {
    struct boot *b = c->boot;
    int err = ERR_UNSUPPORTED;
    if (b->mode != BOOT_COLD) {
        err = open_on(c, machine_of_number(b->custody->machine));
        if (b->mode == BOOT_PLANNED && c->machine && strcmp(c->machine->platform, platform) != 0)
            boot_refuse(b, "another platform needs a stop and a start");
        if (b->mode == BOOT_PLANNED || err != ERR_UNSUPPORTED)
            return err;
        c->verdict = ARENA_BAD_DISKS;
    }
    for (const struct machine *m = machine_of_platform(platform); m && err == ERR_UNSUPPORTED;
         m = m->fallback)
        err = open_on(c, m);
    return err;
}

/* A layout that can be converted is as good as ours, if everything else holds. */
static void qualify(struct core *c) {
    c->verdict = arena_qualify(c->base, c->bytes, &c->plan);
    if (c->verdict != ARENA_BAD_LAYOUT)
        return;
    for (enum arena_verdict v = ARENA_BAD_LAYOUT + 1; v < ARENA_BAD_DISKS; v++)
        if (arena_qualify_only(v, c->base, c->bytes, &c->plan) != ARENA_QUALIFIES) {
            c->verdict = v;
            return;
        }
    c->verdict = layouts_prepare(c);
    c->converts = c->verdict == ARENA_QUALIFIES;
}

int core_prepare(struct core *c, struct boot *b, const struct arena_plan *plan, int store_dir,
                 const char *platform) {
    c->boot = b;
    c->plan = *plan;
    c->store_dir = store_dir;
    int err = open_machine(c, platform);
    if (err < 0)
        return err;
    const struct memory_ops *memory = c->machine->memory;
    memory->boot_id(c->plan.boot_id);
    if (b->mode == BOOT_COLD)
        return 0;
    int fd = atomic_load(&b->custody->arena_fd);
    int64_t bytes = memory->size(fd);
    c->bytes = bytes > 0 ? (uint64_t)bytes : 0;
    if (atomic_load(&b->custody->orphaned))
        c->verdict = ARENA_BAD_CUSTODY;
    if (c->verdict != ARENA_QUALIFIES)
        return 0;
    if (memory->map(fd, c->bytes, &c->base) < 0)
        c->verdict = ARENA_BAD_ADDRESS;
    else
        qualify(c);
    if (b->mode == BOOT_PLANNED && c->verdict != ARENA_QUALIFIES)
        boot_refuse(b, core_reason(c));
    if (c->verdict == ARENA_QUALIFIES) {
        const struct arena_identity *id = arena_identity_of(c->base);
        for (uint32_t i = 0; i < id->part_count; i++) /* what every turn touches */
            if (id->parts[i].kind == ARENA_PART_TABLE)
                memory->want_soon((char *)c->base + id->parts[i].offset / 4096 * 4096,
                                  id->parts[i].size_bytes);
    }
    return 0;
}

static int make_arena(struct core *c) {
    const struct memory_ops *memory = c->machine->memory;
    int err;
    c->bytes = arena_plan_bytes(&c->plan);
    if (getrandom(c->plan.arena_id, sizeof c->plan.arena_id, 0) < 0)
        return ERR_IO;
    int fd = memory->create(c->bytes);
    if (fd < 0)
        return fd;
    if ((err = memory->map(fd, c->bytes, &c->base)) < 0)
        return err;
    memory->want_huge(c->base, c->bytes);
    if ((err = arena_create(&c->r.a, c->base, c->bytes, &c->plan)) < 0)
        return err;
    struct clock clock = posix_clock();
    struct server_h h = server_new(&c->r.a, 1);
    struct server *s = server_edit(&c->r.a, h);
    s->started_wall_ns = clock_wall_ns(&clock);
    s->wait_fd = -1;
    arena_commit(&c->r.a);
    c->boot->custody->machine = c->machine->number;
    atomic_store(&c->boot->custody->orphaned, 0);
    atomic_store(&c->boot->custody->arena_fd, fd);
    atomic_fetch_add(&c->boot->custody->arenas, 1);
    for (uint32_t i = 0; i < CUSTODY_FAULTS; i++)
        atomic_store(&c->boot->custody->fault_ns[i], 0);
    return 0;
}

/* Engines serve for a while and die again and again: what they inherit may be why. */
static int is_loop(const struct core *c) {
    const struct custody *k = c->boot->custody;
    uint32_t n = (uint32_t)min_u64(c->faults_max, CUSTODY_FAULTS);
    uint64_t first = n > 0 ? atomic_load(&k->fault_ns[n - 1]) : 0;
    return first > 0 && atomic_load(&k->fault_ns[0]) - first < CORE_FAULTS_S * NS_PER_S;
}

/* What the dead engine had in hand; a death from outside is not counted. */
static void find_poison(struct core *c, struct arena_live *live, int own_fault) {
    uint64_t input = atomic_exchange(&live->input, 0);
    if (!own_fault)
        return;
    uint32_t before =
        input == atomic_load(&live->death_input) ? atomic_load(&live->input_deaths) : 0;
    atomic_store(&live->death_input, input);
    atomic_store(&live->input_deaths, input != 0 ? before + 1 : 0);
    if (input != 0 && before + 1 >= CORE_POISON_DEATHS)
        c->poison = (uint32_t)input;
}

/* Nobody is given what the former engines died of. */
static void close_poison(struct core *c) {
    struct reactor *r = &c->r;
    struct conn_h h = {c->poison};
    const struct conn *p = conn_try(&r->a, h);
    c->poison = 0;
    if (!p || p->slot.state != CONN_OPEN)
        return;
    c->poison = h.v;
    snprintf(c->poison_peer, sizeof c->poison_peer, "%s", (const char *)p->peer);
    reactor_expel(r, h);
    c->closed++;
}

/* Deaths in a row by its own fault, each before a turn was finished, tell of an arena that kills. */
static enum arena_verdict count_death(struct core *c) {
    struct arena_live *live = (void *)((char *)c->base + ARENA_LIVE_OFFSET);
    int own_fault = custody_own_fault(c->boot->custody);
    find_poison(c, live, own_fault);
    if (!own_fault)
        return ARENA_QUALIFIES;
    if (is_loop(c))
        return ARENA_BAD_LOOP;
    return atomic_fetch_add(&live->deaths, 1) + 1 >= ARENA_DEATHS_MAX ? ARENA_BAD_DEATHS
                                                                      : ARENA_QUALIFIES;
}

/* Keeps the memory of an arena that does not qualify, out of the way of the new one. */
static void give_up_arena(struct core *c) {
    int fd = atomic_exchange(&c->boot->custody->arena_fd, -1);
    if (c->base)
        c->machine->memory->unmap(c->base, c->bytes);
    c->base = NULL;
    if (fd < 0)
        return;
    void *p = c->bytes >= ARENA_HEADER_BYTES
                  ? mmap(NULL, c->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                  : MAP_FAILED;
    close(fd);
    if (p == MAP_FAILED)
        return;
    const struct arena_identity *id = arena_identity_of(p);
    c->dead = p;
    c->dead_bytes = c->bytes;
    if (id->magic == ARENA_MAGIC && id->size_bytes <= c->bytes && id->undo_offset <= c->bytes &&
        id->undo_bytes <= c->bytes - id->undo_offset)
        arena_roll_back(p);
}

void core_bury(struct core *c) {
    if (c->dead)
        munmap(c->dead, c->dead_bytes);
    c->dead = NULL;
}

const char *core_reason(const struct core *c) {
    return c->why[0] && c->verdict != ARENA_QUALIFIES ? c->why : arena_verdict_text(c->verdict);
}

int core_was_loop(const struct core *c) {
    return c->verdict == ARENA_BAD_LOOP || c->verdict == ARENA_BAD_DEATHS;
}

/* In order, the program of before is there still, and the arena is as it left it. */
static void convert(struct core *c) {
    c->verdict = layouts_convert(c);
    c->converted = c->verdict == ARENA_QUALIFIES;
    if (!c->converted && !c->after_crash)
        boot_refuse(c->boot, core_reason(c));
}

static void check_slots(struct core *c) {
    struct arena_fault f;
    c->verdict = arena_check_slots(c->base, &c->plan, &f);
    if (c->verdict != ARENA_QUALIFIES)
        arena_fault_text(&f, c->why, sizeof c->why);
}

_Noreturn void core_give_way(struct core *c, int err, const char *why) {
    must(c->warm);
    if (c->boot->mode == BOOT_CRASH && (err == ERR_INTEGRITY || err == ERR_FORMAT))
        atomic_store(&c->r.a.live->unfit, ARENA_BAD_SLOTS);
    boot_refuse(c->boot, why);
}

int core_take(struct core *c) {
    struct boot *b = c->boot;
    boot_wait_at_gate(b);
    c->after_crash = b->mode == BOOT_CRASH;
    if (b->mode != BOOT_COLD && c->verdict == ARENA_QUALIFIES) {
        if (c->after_crash)
            c->verdict = count_death(c);
        if (c->verdict == ARENA_QUALIFIES)
            c->verdict = arena_roll_back(c->base);
        if (c->verdict == ARENA_QUALIFIES && c->converts)
            convert(c);
        if (c->verdict == ARENA_QUALIFIES && c->after_crash)
            check_slots(c);
    }
    if (b->mode == BOOT_COLD || c->verdict != ARENA_QUALIFIES) {
        give_up_arena(c);
        return make_arena(c);
    }
    c->warm = 1;
    atomic_store(&b->custody->hang_ms, c->hang_ms);
    boot_attaches(b);
    atomic_store(&((struct arena_live *)(void *)((char *)c->base + ARENA_LIVE_OFFSET))->phase,
                 ARENA_ATTACHING);
    return arena_attach(&c->r.a, c->base, c->bytes, &c->plan);
}

/* --- descriptors --- */

static int is_claimed(struct core *c, int fd) {
    return boot_owns(c->boot, fd) || fd == c->store_dir ||
           fd == server_view(&c->r.a, c->r.server)->wait_fd || fd == c->router_fd ||
           queues_claim(c, fd);
}

/* Whether the connected TCP socket has the port of the listener, so was accepted from it. */
static int has_port_of(int fd, int listener) {
    struct sockaddr_storage a = {0}, b = {0}, peer;
    socklen_t alen = sizeof a, blen = sizeof b, plen = sizeof peer;
    if (getsockname(listener, (void *)&a, &alen) < 0 || getsockname(fd, (void *)&b, &blen) < 0 ||
        getpeername(fd, (void *)&peer, &plen) < 0 || a.ss_family != b.ss_family)
        return 0;
    if (a.ss_family == AF_INET)
        return ((struct sockaddr_in *)&a)->sin_port == ((struct sockaddr_in *)&b)->sin_port;
    if (a.ss_family == AF_INET6)
        return ((struct sockaddr_in6 *)&a)->sin6_port == ((struct sockaddr_in6 *)&b)->sin6_port;
    return 0;
}

/* The protocol of the listener whose address the socket has; 0: none of ours. */
static uint32_t accepted_by(struct core *c, int fd) {
    for (struct listener_h h = listener_next(&c->r.a, (struct listener_h){0}); h.v;
         h = listener_next(&c->r.a, h)) {
        const struct listener *l = listener_view(&c->r.a, h);
        if (has_port_of(fd, l->fd))
            return l->protocol;
    }
    return 0;
}

static int is_recorded(struct core *c, int fd) {
    for (struct conn_h h = conn_next(&c->r.a, (struct conn_h){0}); h.v; h = conn_next(&c->r.a, h))
        if (conn_view(&c->r.a, h)->fd == fd)
            return 1;
    for (struct listener_h h = listener_next(&c->r.a, (struct listener_h){0}); h.v;
         h = listener_next(&c->r.a, h))
        if (listener_view(&c->r.a, h)->fd == fd)
            return 1;
    return 0;
}

/* A socket that the dead engine accepted and could not record any more is taken over; whatever else was
 * inherited and belongs to nobody is closed. */
static void sweep_descriptor(struct core *c, int fd) {
    struct reactor *r = &c->r;
    struct stream_positions at;
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || flags & FD_CLOEXEC || is_claimed(c, fd)) /* the keeper's, or our own */
        return;
    if (is_recorded(c, fd))
        return;
    uint32_t protocol = accepted_by(c, fd);
    if (c->warm && protocol && r->streams.ops->positions(r->streams.ctx, fd, &at) == 0 &&
        at.received == 0 && at.sent == 0) {
        reactor_adopt(r, fd, protocol, "");
    } else {
        shutdown(fd, SHUT_RDWR); /* a former keeper may have it still */
        close(fd);
    }
}

/* How many numbers the table of descriptors has room for. */
static int descriptors_max(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *at = strstr(text, "FDSize:");
    return at ? atoi(at + 7) : 65536;
}

/* The numbers that are recorded now need no closer look. */
static void sweep_begin(struct core *c) {
    struct arena *a = &c->r.a;
    c->sweep_next = 0;
    c->sweep_end = descriptors_max();
    c->sweep_known = calloc(1, (size_t)c->sweep_end / 8 + 1);
    for (struct conn_h h = conn_next(a, (struct conn_h){0}); c->sweep_known && h.v;
         h = conn_next(a, h)) {
        int fd = conn_view(a, h)->fd;
        if (fd >= 0 && fd < c->sweep_end)
            c->sweep_known[fd / 8] |= (uint8_t)(1u << fd % 8);
    }
}

static void sweep(struct core *c, int count) {
    int end = c->sweep_end - c->sweep_next < count ? c->sweep_end : c->sweep_next + count;
    for (; c->sweep_next < end; c->sweep_next++)
        if (!c->sweep_known || !(c->sweep_known[c->sweep_next / 8] >> c->sweep_next % 8 & 1))
            sweep_descriptor(c, c->sweep_next);
    c->r.more_to_do = c->sweep_next < c->sweep_end;
    if (!c->r.more_to_do) {
        free(c->sweep_known);
        c->sweep_known = NULL;
    }
}

int core_attach(struct core *c, struct tls_provider tls) {
    struct boot *b = c->boot;
    struct reactor *r = &c->r;
    int err;
    struct server_h sh = server_next(&r->a, (struct server_h){0});
    if ((err = buffer_pool_open(&r->buffers, &r->a, REGION_BUFFERS)) < 0)
        return err;
    struct server *s = server_edit(&r->a, sh);
    struct streams streams = c->machine->open_streams(&s->wait_fd);
    if (!streams.ops)
        return ERR_NOMEM;
    s->generation = b->generation;
    if ((err = reactor_open(r, b, streams, posix_clock())) < 0)
        return err;
    r->tls = tls;
    uint32_t queue = b->generation;
    struct io_routine routines[ROUTINE_COUNT];
    memcpy(routines, r->io.routines, sizeof routines);
    int (*device)(void *, uint32_t) = r->io.device;
    void *device_ctx = r->io.device_ctx;
    if ((err = io_open(&r->io, &r->a, &r->buffers, c->router, queue)) < 0)
        return err;
    memcpy(r->io.routines, routines, sizeof routines);
    r->io.device = device;
    r->io.device_ctx = device_ctx;
    r->io.trace = &r->trace;
    server_trace_begin(&r->trace, &r->a, c->warm && c->after_crash);
    r->trace.now_ns = r->now_ns;
    trace_note(&r->trace, TRACE_ENGINE_BEGINS, b->generation, c->warm ? b->mode : BOOT_COLD);
    if (c->warm && ((err = io_attach(&r->io)) < 0 ||
                    (err = reactor_attach(r, c->after_crash, &c->closed)) < 0))
        return err;
    if (c->poison)
        close_poison(c);
    trace_note(&r->trace, TRACE_CONNS_ATTACHED, (uint64_t)conn_used(&r->a) << 32 | c->closed, 0);
    if (!c->warm && b->mode != BOOT_COLD) {
        sweep_begin(c);
        sweep(c, INT_MAX);
    }
    return 0;
}

static void watch(struct core *c, int fd, uint32_t kind) {
    if (fd >= 0)
        c->r.streams.ops->watch(c->r.streams.ctx, fd, (uint64_t)kind << 32, STREAM_READABLE);
}

void core_serve(struct core *c) {
    struct boot *b = c->boot;
    struct reactor *r = &c->r;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    c->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (c->warm) {
        struct server *s = server_edit(&r->a, r->server);
        uint64_t since =
            atomic_load(c->after_crash ? &b->custody->death_ns : &b->custody->let_go_ns);
        pauses_note(s, &(struct pause){.wall_ns = clock_wall_ns(&r->clock),
                                       .pause_ns = clock_monotonic_ns(&r->clock) - since,
                                       .generation = b->generation,
                                       .kept = conn_used(&r->a),
                                       .closed = c->closed,
                                       .is_uninvited = c->after_crash});
        if (b->former_engine_bell >= 0)
            r->streams.ops->unwatch(r->streams.ctx, b->former_engine_bell);
        r->accepting = 0; /* as the former engine may have left it */
        reactor_accept_more(r, 1);
    }
    watch(c, c->signal_fd, TAG_SIGNAL);
    watch(c, b->engine_bell, TAG_ENGINE_BELL);
    watch(c, b->keeper_pidfd, TAG_KEEPER);
    watch(c, c->router_fd, TAG_RING);
    reactor_commit(r);
    atomic_store(&b->custody->hang_ms, c->hang_ms);
    boot_turn_goes_on(b);
    boot_serving(b, clock_monotonic_ns(&r->clock), c->probation_ns);
    atomic_store(&r->a.live->phase, ARENA_SERVING);
    trace_note(&r->trace, TRACE_ENGINE_SERVES, b->generation,
               c->warm ? server_view(&r->a, r->server)->last_pause_ns : 0);
    if (c->warm) {
        sweep_begin(c);
        c->r.more_to_do = 1;
    }
}

void core_turn(struct core *c) {
    reactor_turn(&c->r);
    if (c->r.more_to_do)
        sweep(c, SWEEP_PER_TURN);
    queues_drop(c);
}

int core_reload(struct core *c, const char *binary, const char **why) {
    int fd = -1;
    enum custody_prepare state = (enum custody_prepare)atomic_load(&c->boot->custody->prepare);
    if (state != CUSTODY_PREPARE_NONE && state != CUSTODY_PREPARE_FAILED) {
        *why = "a reload is under way";
        return ERR_BUSY;
    }
    if (binary) {
        fd = open(binary, O_RDONLY | O_NONBLOCK); /* a pipe must not hold us up */
        if (fd < 0 || access(binary, X_OK) < 0) {
            *why = strerror(errno);
            if (fd >= 0)
                close(fd);
            return ERR_NOTFOUND;
        }
    }
    reactor_accept_more(&c->r, 0);
    trace_note(&c->r.trace, TRACE_RELOAD, CUSTODY_PREPARE_WANTED, 0);
    boot_want_successor(c->boot, fd);
    notify("RELOADING=1", "engine %u is to be succeeded", c->boot->generation);
    return 0;
}

const char *core_bell(struct core *c) {
    enum custody_prepare state = boot_prepared(c->boot);
    trace_note(&c->r.trace, TRACE_RELOAD, state, 0);
    if (state == CUSTODY_PREPARE_READY) {
        uint64_t since_ns = clock_monotonic_ns(&c->r.clock);
        if (queues_rest(c, since_ns + REST_MAX_NS) == 0)
            boot_let_go(c->boot, since_ns);
        boot_turn_away(c->boot, "a disk operation has not ended in time");
    }
    if (state != CUSTODY_PREPARE_FAILED)
        return NULL;
    atomic_store(&c->boot->custody->prepare, CUSTODY_PREPARE_NONE);
    int fd = atomic_exchange(&c->boot->custody->next_binary_fd, -1);
    if (fd >= 0)
        close(fd);
    reactor_accept_more(&c->r, 1);
    return c->boot->custody->reason[0] ? c->boot->custody->reason : "the successor died";
}
