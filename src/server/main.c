/* SPDX-License-Identifier: Apache-2.0 */
/* perdured: the server. One engine process in its turns; see boot.h for how it comes to be. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "arena/shadow.h"
#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/layouts.h"
#include "server/notify.h"
#include "server/perdured.h"
#include "custody/process.h"
#include "server/store.h"
#include "server/trace.h"

/* Many times what a handshake over an ocean takes. */
#define HANDSHAKES_MAX_NS (NS_PER_S)

static void bell(struct perdured *p);

/* --- the turn --- */

static void begin(void *ctx) {
    struct perdured *p = ctx;
    if (p->let_go_by_ns > 0)
        bell(p);
    if (p->core.r.now_ns >= p->tell_lost_ns) {
        log_tell_lost();
        p->tell_lost_ns = p->core.r.now_ns + NS_PER_S;
    }
    log_turn_begin(p->log);
}

static void inputs(void *ctx) {
    struct perdured *p = ctx;
    struct job_runner jobs = posix_jobs(p->jobs), background = posix_jobs(p->background_jobs);
    jobs.ops->reap(jobs.ctx);
    background.ops->reap(background.ctx);
    catalogue_reap(&p->catalogue);
}

static void make_room(struct perdured *p) {
    if (arena_undo_left(&p->core.r.a) < 4 * ARENA_HANDLER_UNDO_BYTES)
        reactor_commit(&p->core.r);
}

static void handlers(void *ctx) {
    struct perdured *p = ctx;
    nbd_front_expire(&p->nbd, p->core.r.now_ns);
    control_turn(&p->control, p->core.r.now_ns);
    while (p->cp.ops->dispatch(p->cp.ctx, p->core.r.now_ns))
        make_room(p);
    engine_turn(p->engine);
    make_room(p);
    p->admin_waits = admin_turn(&p->admin);
    history_turn(p);
    forecast_turn(p);
    make_room(p);
    scrub_turn(p->scrub);
    index_turn(p->index);
    log_turn_end(p->log);
}

static void committed(void *ctx) {
    struct perdured *p = ctx;
    engine_after_commit(p->engine);
    admin_output(&p->admin);
}

static uint64_t deadline(void *ctx) {
    struct perdured *p = ctx;
    if (p->admin_waits > 0)
        return 0;
    uint64_t at = min_u64(log_deadline(p->log), p->nbd.next_expiry_ns);
    if (p->let_go_by_ns > 0)
        at = min_u64(at, p->core.r.handshakes > 0 ? p->let_go_by_ns : 0);
    at = min_u64(at, engine_deadline(p->engine));
    at = min_u64(at, scrub_deadline(p->scrub));
    if (p->control.accept_again_ns > 0)
        at = min_u64(at, p->control.accept_again_ns);
    return min_u64(at, p->cp.ops->next_ns(p->cp.ctx));
}

static void reload(struct perdured *p) {
    const char *why = NULL;
    if (core_reload(&p->core, NULL, &why) < 0)
        log_line(4, "no reload: %s", why);
}

static void signals(struct perdured *p) {
    struct signalfd_siginfo info;
    while (read(p->core.signal_fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload(p);
        else
            p->stopping = 1;
    }
}

/* TLS handshakes do not outlive this process: a successor that is ready waits for them, but not for long. */
static int handshakes_go_on(struct perdured *p) {
    if (p->let_go_by_ns == 0)
        p->let_go_by_ns = p->core.r.now_ns + HANDSHAKES_MAX_NS;
    if (p->core.r.handshakes > 0 && p->core.r.now_ns < p->let_go_by_ns)
        return 1;
    p->let_go_by_ns = 0;
    return 0;
}

static void bell(struct perdured *p) {
    if (p->stopping && boot_prepared(p->boot) != CUSTODY_PREPARE_FAILED)
        return; /* a successor would find half of it stopped */
    if (atomic_load(&p->boot->custody->prepare) == CUSTODY_PREPARE_READY && handshakes_go_on(p))
        return;
    if (atomic_load(&p->boot->custody->prepare) == CUSTODY_PREPARE_READY) {
        perdured_reload_prepared(p);
        control_close(&p->control);
    }
    const char *why = core_bell(&p->core);
    if (why) {
        log_line(4, "reload refused, the present program goes on: %s", why);
        notify("READY=1", "reload refused, engine %u goes on: %s", p->boot->generation, why);
        perdured_reload_failed(p, why);
    }
}

static void keeper_event(struct perdured *p) {
    if (p->boot->keeper_pidfd < 0 || !process_has_ended(p->boot->keeper_pidfd))
        return;
    p->core.r.streams.ops->unwatch(p->core.r.streams.ctx, p->boot->keeper_pidfd);
    int made = boot_new_keeper(p->boot);
    log_line(4, made == 0 ? "the keeper died; there is a new one"
                          : "the keeper died, and no process can be started");
    if (made == 0)
        p->core.r.streams.ops->watch(p->core.r.streams.ctx, p->boot->keeper_pidfd,
                                     (uint64_t)TAG_KEEPER << 32, STREAM_READABLE);
}

static void event(void *ctx, uint32_t kind, uint32_t handle, uint32_t events) {
    struct perdured *p = ctx;
    if (kind == TAG_ENGINE_BELL)
        bell(p);
    else if (kind == TAG_SIGNAL)
        signals(p);
    else if (kind == TAG_KEEPER)
        keeper_event(p);
    else if (kind == TAG_CONTROL_LISTENER || kind == TAG_CONTROL)
        control_event(&p->control, kind, handle);
}

_Static_assert(sizeof(struct config) <= CUSTODY_CONFIG_BYTES, "fits");

static void leave_config(const struct perdured *p) {
    struct custody *c = p->boot->custody;
    c->config_format = 0;
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(c->config, &p->config, sizeof p->config);
    c->config_bytes = sizeof p->config;
    atomic_thread_fence(memory_order_seq_cst);
    c->config_format = CONFIG_FORMAT;
}

/* Nobody has prepared the succession of an engine that died: a file that was changed meanwhile, well or badly,
 * is for the next reload. */
static int inherit_config(struct perdured *p) {
    const struct custody *c = p->boot->custody;
    if (p->boot->mode != BOOT_CRASH || c->config_format != CONFIG_FORMAT ||
        c->config_bytes != sizeof p->config)
        return 0;
    memcpy(&p->config, c->config, sizeof p->config);
    return 1;
}

static _Noreturn void give_up(struct perdured *p, const char *why) {
    if (p->boot->mode == BOOT_PLANNED)
        boot_refuse(p->boot, why);
    log_line(3, "cannot start: %s", why);
    notify(NULL, "cannot start: %s", why);
    boot_stop(p->boot, CUSTODY_FAILED, 1);
}

static void tell_cold_start(struct perdured *p) {
    struct alert_sink sink = alerts_sink(&p->alerts);
    char text[600];
    snprintf(text, sizeof text, "starting cold, as %s; all connections were closed",
             core_reason(&p->core));
    sink.raise(sink.ctx, core_was_loop(&p->core) ? ALERT_CRITICAL : ALERT_WARNING, "cold_start", "",
               text);
}

static void tell_poison(struct perdured *p) {
    struct alert_sink sink = alerts_sink(&p->alerts);
    char text[320];
    snprintf(text, sizeof text,
             "the connection of %s was closed: %u engines in a row died of the same request of it",
             p->core.poison_peer[0] ? p->core.poison_peer : "a peer", CORE_POISON_DEATHS);
    sink.raise(sink.ctx, ALERT_CRITICAL, "poison_request", "", text);
}

static void tell_credentials(struct perdured *p) {
    struct alert_sink sink = alerts_sink(&p->alerts);
    char text[700];
    snprintf(text, sizeof text,
             "no client can begin TLS, those that have it go on: %s; then perdure reload",
             p->credentials_why);
    sink.raise(sink.ctx, ALERT_ERROR, "tls_credentials", "", text);
}

static void tell_death(struct perdured *p) {
    struct alert_sink sink = alerts_sink(&p->alerts);
    boot_death_text(p->boot, p->death, sizeof p->death);
    if (custody_own_fault(p->boot->custody))
        sink.raise(sink.ctx, ALERT_WARNING, "engine_died", "", p->death);
    else
        log_line(5, "%s", p->death);
}

/* Jobs that have ended end the wait; the turn reaps them. */
static void watch_jobs(struct perdured *p, int fd) {
    p->core.r.streams.ops->watch(p->core.r.streams.ctx, fd, (uint64_t)TAG_JOBS << 32,
                                 STREAM_READABLE);
}

static int engine_process(struct boot *b) {
    static struct perdured perdured;
    static const struct reactor_hooks hooks = {.begin = begin,
                                               .inputs = inputs,
                                               .handlers = handlers,
                                               .committed = committed,
                                               .deadline = deadline,
                                               .event = event,
                                               .ctx = &perdured};
    struct perdured *p = &perdured;
    struct core *c = &p->core;
    char why[512] = "";
    int status = 0;
    p->boot = b;
    p->numbers = (uint64_t)b->generation << 32; /* operations of former engines have others */
    if (!inherit_config(p) && config_read(&p->config, b->argc, b->argv, &status) < 0) {
        if (b->mode == BOOT_PLANNED)
            boot_refuse(b, "the configuration is not valid");
        boot_stop(b, status ? CUSTODY_FAILED : CUSTODY_STOPPED, status);
    }
    int dir = store_open(p->config.store, why, sizeof why);
    if (dir < 0 || store_lock(b, dir, why, sizeof why) < 0)
        give_up(p, why);
    int err = core_prepare(c, b, perdured_plan(&p->config), dir, p->config.platform);
    if (err < 0) {
        snprintf(why, sizeof why, "the disks cannot be reached: %s", err_text(err));
        give_up(p, why);
    }
    c->probation_ns = p->config.probation_s * NS_PER_S;
    c->faults_max = (uint32_t)p->config.crash_loop;
    c->hang_ms = (uint32_t)p->config.hang_s * 1000;
    if (perdured_prepare(p, why, sizeof why) < 0)
        give_up(p, why);
    if ((err = core_take(c)) < 0) {
        snprintf(why, sizeof why, "the arena cannot be made: %s", err_text(err));
        give_up(p, why);
    }
    if (b->mode == BOOT_CRASH)
        tell_death(p);
    if (b->mode != BOOT_COLD && !c->warm)
        tell_cold_start(p);
    if (!c->warm && c->machine != machine_of_platform(p->config.platform))
        log_line(4, "io_uring is forbidden here: disks are served by threads");
    if ((err = perdured_assemble(p, why, sizeof why)) < 0 && c->warm)
        core_give_way(c, err, why);
    if (err < 0)
        give_up(p, why);
    c->r.hooks = &hooks;
    c->r.stall_ns = p->config.stall_s * NS_PER_S;
    c->r.alerts = alerts_sink(&p->alerts);
    if (p->config.shadow && arena_shadow_start(&c->r.a) < 0)
        give_up(p, "there is no memory for the shadow");
    if (c->poison)
        tell_poison(p);
    if (p->credentials_why[0])
        tell_credentials(p);
    core_serve(c);
    leave_config(p);
    watch_jobs(p, posix_jobs_descriptor(p->jobs));
    watch_jobs(p, posix_jobs_descriptor(p->catalogue_jobs));
    watch_jobs(p, posix_jobs_descriptor(p->background_jobs));
    p->serving_wall_ns = clock_wall_ns(&c->r.clock);
    const struct server *s = server_view(&c->r.a, c->r.server);
    if (c->r.handshakes_lost)
        log_line(4, "%u connections were closed in the middle of their TLS handshake",
                 c->r.handshakes_lost);
    if (c->converted)
        log_line(5, "the arena was converted: %s", c->why);
    if (c->warm)
        log_line(6, "engine %u serves after %s, pause %.3f ms, %u connections kept, %u closed",
                 b->generation, c->after_crash ? "a death" : "a reload",
                 (double)s->last_pause_ns / 1e6, conn_used(&c->r.a), c->closed);
    else
        for (struct listener_h h = listener_next(&c->r.a, (struct listener_h){0}); h.v;
             h = listener_next(&c->r.a, h))
            log_line(6, "engine %u serves NBD on %s", b->generation,
                     (const char *)listener_view(&c->r.a, h)->address);
    notify("READY=1", "engine %u serves%s, %u connections", b->generation,
           !c->warm         ? ""
           : c->after_crash ? " after a death"
                            : " after a reload",
           conn_used(&c->r.a));
    while (!p->stopping)
        core_turn(c);
    notify("STOPPING=1", "engine %u stops", b->generation);
    trace_note(&c->r.trace, TRACE_STOPS, b->generation, 0);
    perdured_stop(p);
    boot_stop(b, CUSTODY_STOPPED, 0);
}

/* perdured --check [--repair] [--json] OPTIONS, as the server has them */
static int check_order(int argc, char **argv) {
    static struct config config;
    int repairs = 0, is_json = 0, status = 0, taken = 1;
    for (; taken + 1 < argc; taken++) {
        if (strcmp(argv[taken + 1], "--repair") == 0)
            repairs = 1;
        else if (strcmp(argv[taken + 1], "--json") == 0)
            is_json = 1;
        else
            break;
    }
    argv[taken] = argv[0];
    if (config_read(&config, argc - taken, argv + taken, &status) < 0)
        return status;
    return perdured_check(config.store, repairs, is_json);
}

int main(int argc, char **argv) {
    int status;
    if (layouts_is_order(argc, argv, &perdured_steps, &status))
        return status;
    if (argc > 1 && strcmp(argv[1], "--layouts") == 0) {
        static const struct config any;
        perdured_tell_layouts(perdured_plan(&any));
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--qualify") == 0) {
        static struct config config;
        argv[1] = argv[0];
        if (config_read(&config, argc - 1, argv + 1, &status) < 0)
            return status;
        return perdured_qualify(&config, perdured_plan(&config));
    }
    if (argc > 1 && strcmp(argv[1], "--check") == 0)
        return check_order(argc, argv);
    return boot(argc, argv, engine_process);
}
