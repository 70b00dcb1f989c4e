/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting the engine together: cold from the store's files, or warm from the arena's slots. Order matters and
 * is told by the headers of what is called; see engine/log.h (Life) and engine/admin.h (A cold start).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "engine/log/store_disk.h"
#include "engine/root.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

/* Merges get about a tenth of a processor that others want. */
#define BACKGROUND_NICE 10

static int32_t zone_offset_s(void *ctx, int64_t utc_s) {
    time_t t = (time_t)utc_s;
    struct tm local;
    return localtime_r(&t, &local) ? (int32_t)local.tm_gmtoff : 0;
}

static int fail(char *why, size_t room, int err, const char *what) {
    snprintf(why, room, "%s: %s", what, err_text(err));
    return err;
}

/* What slots name by number; of an arena that has none of it, ours. */
static int open_constants(struct perdured *p) {
    static const struct constant list[] = {
        {CONSTANT_PROGRAM, PERDURE_VERSION, sizeof PERDURE_VERSION},
        {CONSTANT_PROTOCOL_FIRST + PROTOCOL_NBD, "nbd", sizeof "nbd"},
    };
    int err = constants_open(&p->constants, &p->core.r.a, REGION_CONSTANTS);
    if (err == 0 &&
        (err = constants_write(&p->constants, list, sizeof list / sizeof list[0])) == ERR_EXISTS)
        err = 0;
    return err;
}

/* --- what the parts ask of each other --- */

static void reply(void *ctx, struct request_h h) {
    struct perdured *p = ctx;
    p->nbd.source.ops->reply(p->nbd.source.ctx, h);
}

/* Messages of the I/O sources: requests for the engine. */
static void requests_ready(void *arg, int listener) {
    struct perdured *p = arg;
    struct cp_msg m[64];
    int n;
    while ((n = p->cp.ops->take(p->cp.ctx, listener, m, 64)) > 0) {
        for (int i = 0; i < n; i++) {
            struct request_h h = {(uint32_t)m[i].word};
            if (!request_try(&p->core.r.a, h))
                continue;
            request_hold(&p->core.r.a, h);
            engine_submit(p->engine, h);
        }
        arena_hold_input(&p->core.r.a, 0, 0);
        if (arena_undo_left(&p->core.r.a) < 4 * ARENA_HANDLER_UNDO_BYTES)
            return; /* the loop commits and comes again */
    }
}

static int open_lanes(struct perdured *p) {
    static const struct cp_limits limits = {.per_sender = CP_PLACES_MAX / 2, .slop = 64};
    const struct cp_listener_calls calls = {
        .ready = requests_ready, .arg = p, .max_msgs = CP_PLACES_MAX, .max_usecs = 0};
    struct cp_msg m[64];
    int err = cp_lanes_open(&p->lanes, &p->core.r.a);
    if (err < 0)
        return err;
    p->cp = cp_lanes_interface(&p->lanes);
    p->listener = p->cp.ops->listen(p->cp.ctx, (struct cp_group){IO_GROUP_ENGINE, 0}, &limits);
    if (p->listener < 0)
        return p->listener;
    err = p->cp.ops->enable(p->cp.ctx, p->listener, &calls);
    /* After an attach the engine takes all READY requests from their slots, so what was under way to it is
     * dropped here. */
    while (err == 0 && p->cp.ops->take(p->cp.ctx, p->listener, m, 64) > 0)
        ;
    return err;
}

/* --- what admin asks --- */

static uint64_t recorded(void *ctx) {
    return engine_recorded_whole(((struct perdured *)ctx)->engine);
}
static uint64_t durable(void *ctx) {
    return log_durable(((struct perdured *)ctx)->log);
}
static void want_durable(void *ctx, uint64_t sequence) {
    log_want_durable(((struct perdured *)ctx)->log, sequence);
}
static int failed(void *ctx) {
    return log_failed(((struct perdured *)ctx)->log);
}
static uint64_t store_ns(void *ctx) {
    return log_now_ns(((struct perdured *)ctx)->log);
}
static int room(void *ctx) {
    return log_room_for_control(((struct perdured *)ctx)->log);
}
static int append(void *ctx, const struct log_append *r, uint64_t *sequence) {
    return engine_append(((struct perdured *)ctx)->engine, r, sequence);
}
static void catalogue_is(void *ctx, uint64_t generation) {
    log_catalogue_is(((struct perdured *)ctx)->log, generation);
}

static void fill_moment(struct admin_moment *m, const struct log_moment *found) {
    m->sequence = found->sequence;
    m->time_ns = found->wall_ns;
    m->other = found->other;
}

static void moment_found(void *owner, int result, const struct log_moment *found) {
    struct admin_moment *m = owner;
    fill_moment(m, found);
    m->done(m, result);
}

static int find_moment(void *ctx, struct admin_moment *m) {
    struct perdured *p = ctx;
    struct log_moment found = {0};
    static const enum log_moment_kind kinds[] = {[ADMIN_BY_SEQUENCE] = LOG_AT_SEQUENCE,
                                                 [ADMIN_BY_WALL] = LOG_AT_WALL_TIME,
                                                 [ADMIN_BY_STORE] = LOG_AT_STORE_TIME};
    int rc = log_find_moment(p->log, kinds[m->by_time], m->by_time ? m->time_ns : m->sequence,
                             &found, moment_found, m);
    if (rc == 0)
        return ERR_AGAIN;
    fill_moment(m, &found);
    return rc < 0 ? rc : 0;
}

static uint32_t next_sealed(void *ctx, uint32_t after) {
    return log_next_sealed(((struct perdured *)ctx)->log, after);
}

static int segment_families(void *ctx, uint32_t segment, const uint32_t *families, uint32_t count) {
    return index_segment_families(((struct perdured *)ctx)->index, segment, families, count);
}

static uint64_t segment_freed(void *ctx, uint32_t segment) {
    struct log_space space;
    log_free_segment(((struct perdured *)ctx)->log, segment);
    log_space(((struct perdured *)ctx)->log, &space);
    return space.segment_bytes;
}

static uint64_t last_sequence(void *ctx, uint32_t segment) {
    const struct perdured *p = ctx;
    struct segment_h h = log_segment(p->log, segment);
    return h.v ? segment_view(&p->core.r.a, h)->last_sequence : 0;
}
static uint32_t sealed_in(void *ctx, uint64_t first, uint64_t last, uint32_t *segments,
                          uint32_t max) {
    return log_sealed_in(((struct perdured *)ctx)->log, first, last, segments, max);
}
static void clean(void *ctx, uint32_t cold, uint64_t first, uint64_t last) {
    log_clean(((struct perdured *)ctx)->log, cold, first, last);
}
static void cold_drop_others(void *ctx, uint32_t keep) {
    log_cold_drop_others(((struct perdured *)ctx)->log, keep);
}
static void expect_room(void *ctx, int expected) {
    log_expect_room(((struct perdured *)ctx)->log, expected);
}
static uint32_t history(void *ctx, uint64_t up_to) {
    return log_history(((struct perdured *)ctx)->log, up_to);
}
static int history_end(void *ctx, uint32_t n, struct log_moment *out) {
    return log_history_end(((struct perdured *)ctx)->log, n, out);
}
static int clock_suspect(void *ctx) {
    return log_clock_suspect(((struct perdured *)ctx)->log);
}
static int is_short(void *ctx) {
    struct log_space s;
    log_space(((struct perdured *)ctx)->log, &s);
    return s.is_short;
}
static uint64_t oldest_reader(void *ctx) {
    return engine_oldest_moment(((struct perdured *)ctx)->engine);
}

static const struct admin_log_ops admin_log = {.recorded = recorded,
                                               .durable = durable,
                                               .want_durable = want_durable,
                                               .failed = failed,
                                               .store_ns = store_ns,
                                               .room = room,
                                               .append = append,
                                               .find_moment = find_moment,
                                               .catalogue_is = catalogue_is,
                                               .next_sealed = next_sealed,
                                               .segment_families = segment_families,
                                               .segment_freed = segment_freed,
                                               .last_sequence = last_sequence,
                                               .sealed_in = sealed_in,
                                               .clean = clean,
                                               .cold_drop_others = cold_drop_others,
                                               .expect_room = expect_room,
                                               .history = history,
                                               .history_end = history_end,
                                               .clock_suspect = clock_suspect,
                                               .is_short = is_short};

static int quiet(void *ctx, struct volume_h v) {
    return engine_is_quiet(((struct perdured *)ctx)->engine, v);
}

/* Connections that serve the disk are closed. */
static void evict(void *ctx, struct volume_h v) {
    struct perdured *p = ctx;
    const struct arena *a = &p->core.r.a;
    struct nbd_h next;
    for (struct nbd_h n = nbd_next(a, (struct nbd_h){0}); n.v; n = next) {
        next = nbd_next(a, n);
        const struct nbd *s = nbd_view(a, n);
        if (volume_h_same(s->volume, v) && conn_try(a, s->conn))
            reactor_abort(&p->core.r, s->conn);
    }
}

static void changed(void *ctx, struct volume_h v) {
    engine_volume_changed(((struct perdured *)ctx)->engine, v);
}

static const struct admin_engine_ops admin_engine = {
    .quiet = quiet, .evict = evict, .changed = changed, .answer = perdured_answer};

static int open_admin(struct perdured *p) {
    const struct admin_config config = {.a = &p->core.r.a,
                                        .catalogue = &p->catalogue,
                                        .log = &admin_log,
                                        .log_ctx = p,
                                        .engine = &admin_engine,
                                        .engine_ctx = p,
                                        .clock = p->core.r.clock,
                                        .random = p->random,
                                        .alerts = alerts_sink(&p->alerts)};
    const struct clean_parts parts = {.a = &p->core.r.a,
                                      .log = p->log,
                                      .index = p->index,
                                      .files = p->files,
                                      .jobs = posix_jobs(p->background_jobs),
                                      .alerts = alerts_sink(&p->alerts),
                                      .ops = &admin_clean_ops,
                                      .ctx = &p->admin};
    int err = admin_open(&p->admin, &config);
    if (err == 0)
        err = clean_open(&p->clean, &parts);
    if (err == 0)
        admin_clean_with(&p->admin, p->clean, oldest_reader, p);
    const struct scrub_parts scrub = {.a = &p->core.r.a,
                                      .log = p->log,
                                      .index = p->index,
                                      .files = p->files,
                                      .jobs = posix_jobs(p->background_jobs),
                                      .alerts = alerts_sink(&p->alerts),
                                      .clock = p->core.r.clock,
                                      .bytes_per_s = p->config.scrub_mib_s * MIB,
                                      .period_ns = p->config.scrub_days * 86400 * NS_PER_S};
    return err < 0 ? err : scrub_open(&p->scrub, &scrub);
}

/* --- cold --- */

static void asked(struct catalogue_request *r) {
    (void)r;
}

/* A request to the catalogue at the start: waits for it. */
static int ask(struct perdured *p, struct catalogue_request *r, enum catalogue_kind kind) {
    struct job_runner jobs = posix_jobs(p->catalogue_jobs);
    memset(r, 0, sizeof *r);
    r->kind = kind;
    r->done = asked;
    r->args.now_ns = clock_wall_ns(&p->core.r.clock);
    if (kind == CATALOGUE_COLD_START)
        p->random.ops->fill(p->random.ctx, &r->args.operation, sizeof r->args.operation);
    catalogue_submit(&p->catalogue, r);
    jobs.ops->drain(jobs.ctx);
    catalogue_reap(&p->catalogue);
    return r->result;
}

static int open_catalogue(struct perdured *p, const uint8_t store_id[16], int is_new) {
    struct catalogue_config config = {.runner = posix_jobs(p->catalogue_jobs),
                                      .files = p->files,
                                      .clock = p->core.r.clock,
                                      .random = p->random,
                                      .is_new = is_new};
    memcpy(config.store_id, store_id, 16);
    return catalogue_open(&p->catalogue, &config);
}

static int segment_was_freed(void *ctx, uint32_t segment) {
    const struct catalogue_snapshot *s = ((struct perdured *)ctx)->snapshot;
    uint32_t low = 0, high = s ? s->freed_count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->freed[middle] < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return s && low < s->freed_count && s->freed[low] == segment;
}

static uint64_t sealed_up_to(void *ctx) {
    const struct catalogue_snapshot *s = ((struct perdured *)ctx)->snapshot;
    return s ? s->sealed_up_to : 0;
}

/* Slot files, of two descriptors each, get half of what connections leave. */
static uint32_t devices_max(const struct config *c) {
    uint64_t all = (uint64_t)boot_descriptors_max();
    uint64_t left = all - min_u64(all, c->connections);
    return (uint32_t)min_u64(max_u64(left / 4, 64), log_params_default().devices_max);
}

static int open_log(struct perdured *p) {
    struct log_params params = log_params_default();
    const struct log_env env = {.arena = &p->core.r.a,
                                .buffers = &p->core.r.buffers,
                                .io = &p->core.r.io,
                                .files = p->files,
                                .jobs = posix_jobs(p->jobs),
                                .clock = p->core.r.clock,
                                .alerts = alerts_sink(&p->alerts),
                                .index = &index_log_ops,
                                .index_ctx = p->index,
                                .segment_freed = segment_was_freed,
                                .sealed_up_to = sealed_up_to,
                                .catalogue_ctx = p};
    if (p->config.store_max_bytes)
        params.max_bytes = p->config.store_max_bytes;
    params.devices_max = devices_max(&p->config);
    params.submit_age_ns = p->config.submit_age_us * NS_PER_US;
    params.unlogged_bytes_max =
        (uint32_t)min_u64(params.unlogged_bytes_max, p->config.buffer_bytes / 3);
    p->log = log_open(&env, &params);
    return p->log ? 0 : ERR_NOMEM;
}

static int open_index(struct perdured *p) {
    const struct index_parts parts = {.a = &p->core.r.a,
                                      .io = &p->core.r.io,
                                      .buffers = &p->core.r.buffers,
                                      .jobs = posix_jobs(p->jobs),
                                      .background = posix_jobs(p->background_jobs),
                                      .files = p->files,
                                      .ancestries = p->ancestries,
                                      .alerts = alerts_sink(&p->alerts),
                                      .cache_bytes = p->config.index_cache_bytes};
    return index_open(&p->index, &parts);
}

/* What both ways open alike: private memory over the arena. */
static int open_parts(struct perdured *p) {
    int err;
    if ((err = ancestries_open(&p->ancestries, &p->core.r.a)) < 0 || (err = open_index(p)) < 0 ||
        (err = open_log(p)) < 0)
        return err;
    index_set_log(p->index, p->log);
    p->core.r.io.device = log_device;
    p->core.r.io.device_ctx = p->log;
    const struct engine_parts parts = {.a = &p->core.r.a,
                                       .buffers = &p->core.r.buffers,
                                       .io = &p->core.r.io,
                                       .log = p->log,
                                       .index = p->index,
                                       .ancestries = p->ancestries,
                                       .alerts = alerts_sink(&p->alerts),
                                       .clock = p->core.r.clock,
                                       .reply = reply,
                                       .reply_ctx = p};
    return engine_open(&p->engine, &parts);
}

static int new_store(struct perdured *p, uint8_t id[16]) {
    struct log_create create = {.wall_ns = clock_wall_ns(&p->core.r.clock)};
    p->random.ops->fill(p->random.ctx, create.store_id, sizeof create.store_id);
    memcpy(id, create.store_id, 16);
    return log_create_store(&p->files, &create);
}

/* Which store it is; the catalogue must be of the same. It is new if no start came to its end yet: then there
 * may be no catalogue. */
static int read_store(struct perdured *p, uint8_t id[16], int *is_new) {
    static uint8_t blocks[2 * BLOCK_BYTES];
    struct store_header h;
    int file = p->files.ops->open(p->files.ctx, STORE_FILE, FILE_READ);
    if (file < 0)
        return file;
    int64_t n = p->files.ops->read(p->files.ctx, file, blocks, sizeof blocks, 0);
    p->files.ops->close(p->files.ctx, file);
    int err = n == (int64_t)sizeof blocks ? store_decode_copies(blocks, &h) : ERR_FORMAT;
    if (err == 0) {
        memcpy(id, h.id, 16);
        *is_new = h.epoch == 0;
    }
    return err;
}

static int fail_without_catalogue(char *why, size_t room) {
    snprintf(why, room,
             "the catalogue is missing: %s is not in the store, and only it knows the volumes; "
             "nothing was "
             "changed; put it back in its place (with its catalogue.db-journal, if there is one) "
             "and start again",
             CATALOGUE_PATH);
    return ERR_NOTFOUND;
}

/* No disk is served whose answered writes may be missing, until a person has said that it is known: at once,
 * and in the catalogue. A damaged log may have lost what images showed, too. */
static void declare_loss(struct perdured *p) {
    uint64_t losses = log_report_losses(&p->report);
    struct arena *a = &p->core.r.a;
    for (struct volume_h v = volume_next(a, (struct volume_h){0}); v.v; v = volume_next(a, v))
        if (volume_may_lose(volume_view(a, v)) ||
            (losses && volume_view(a, v)->slot.state == VOLUME_ONLINE))
            volume_edit(a, v)->slot.state = VOLUME_LOST;
    admin_declare_loss(&p->admin, losses, p->report.lost_before);
}

static void tell_recovery(const struct perdured *p) {
    const struct log_report *r = &p->report;
    if (r->stopped && r->salvaged_records == 0)
        return;
    log_line(5,
             "recovered: %u segments read, %llu frames, newest write %llu, %u torn frames cut, %u "
             "frames saved from memory",
             r->segments_scanned, (unsigned long long)r->frames_scanned,
             (unsigned long long)r->last_sequence, r->frames_torn, r->salvaged_frames);
}

/* The log knows how many transactions its writer saw become durable: a catalogue with fewer is an older
 * file. Nothing has been changed yet. */
static int catalogue_is_current(const struct perdured *p, uint64_t has, char *why, size_t room) {
    if (has >= p->report.catalogue)
        return 0;
    snprintf(why, room,
             "the catalogue is older than the log: %s has %llu transactions, but the log was "
             "written with %llu; nothing was changed; put the newest catalogue.db of this store "
             "back in its place (with its catalogue.db-journal, if there is one) and start again",
             CATALOGUE_PATH, (unsigned long long)has, (unsigned long long)p->report.catalogue);
    return ERR_INTEGRITY;
}

static int ask_snapshot(struct perdured *p, struct catalogue_request *r) {
    catalogue_snapshot_free(p->snapshot);
    p->snapshot = NULL;
    int err = ask(p, r, CATALOGUE_SNAPSHOT);
    p->snapshot = r->snapshot;
    return err;
}

static int fail_catalogue(char *why, size_t room, int err, const struct catalogue_request *r) {
    snprintf(why, room, "the catalogue: %s%s%s", err_text(err), r->detail[0] ? ": " : "",
             r->detail);
    return err;
}

/* Reads the log, by what the catalogue says is freed, and compares the two; only then is anything
 * changed. */
static int recover_log(struct perdured *p, char *why, size_t room) {
    struct catalogue_request *r = calloc(1, sizeof *r);
    int err;
    if (!r)
        return fail(why, room, ERR_NOMEM, "start");
    if ((err = ask_snapshot(p, r)) < 0)
        err = fail_catalogue(why, room, err, r);
    else if ((err = log_recover(p->log, &p->report)) < 0)
        err = fail(why, room, err, "the log cannot be recovered");
    else if ((err = catalogue_is_current(p, r->generation, why, room)) == 0 &&
             ((err = ask(p, r, CATALOGUE_COLD_START)) < 0 || (err = ask_snapshot(p, r)) < 0))
        err = fail_catalogue(why, room, err, r);
    if (err == 0)
        log_catalogue_is(p->log, catalogue_generation(&p->catalogue));
    free(r);
    return err;
}

static int load_volumes(struct perdured *p) {
    struct volumes_load load;
    int err = volumes_load_begin(&load, p->snapshot);
    if (err < 0)
        return err;
    while ((err = volumes_load_turn(&load, &p->core.r.a)) == 1)
        reactor_commit(&p->core.r);
    volumes_load_end(&load);
    reactor_commit(&p->core.r);
    return err;
}

static int assemble_cold(struct perdured *p, char *why, size_t room) {
    uint8_t id[16] = {0};
    int err, is_new = p->files.ops->exists(p->files.ctx, "store") != 1;
    if (is_new && (err = new_store(p, id)) < 0)
        return fail(why, room, err, "the store cannot be made");
    if ((err = open_parts(p)) < 0)
        return fail(why, room, err, "the engine cannot be made");
    if (!is_new && (err = read_store(p, id, &is_new)) < 0)
        return fail(why, room, err, "the store's header cannot be read");
    if (!is_new && p->files.ops->exists(p->files.ctx, CATALOGUE_PATH) != 1)
        return fail_without_catalogue(why, room);
    if ((err = open_catalogue(p, id, is_new)) < 0)
        return fail(why, room, err, "the catalogue");
    if ((err = recover_log(p, why, room)) < 0)
        return err;
    if ((err = load_volumes(p)) < 0)
        return fail(why, room, err, "the volumes cannot be loaded");
    /* What is missing may be the newest version of anything; what was declared, people know. */
    int lost = log_report_losses(&p->report) > p->snapshot->losses ||
               p->report.lost_before > p->snapshot->lost_before;
    if (p->core.dead) {
        lost |= log_salvage(p->log, p->core.dead, p->core.dead_bytes, &p->report) < 0 ||
                p->report.salvage_damaged > 0;
        core_bury(&p->core);
    }
    if ((err = log_begin(p->log, &p->report)) < 0)
        return fail(why, room, err, "the log cannot be begun");
    catalogue_snapshot_free(p->snapshot);
    p->snapshot = NULL;
    if ((err = open_admin(p)) < 0)
        return fail(why, room, err, "start");
    admin_sweep(&p->admin);
    if (lost)
        declare_loss(p);
    core_adopt(&p->core);
    atomic_store(&p->core.r.a.live->phase, ARENA_SERVING);
    tell_recovery(p);
    return 0;
}

/* --- warm --- */

static int assemble_warm(struct perdured *p, char *why, size_t room) {
    int err;
    if ((err = open_parts(p)) < 0 || (err = log_attach(p->log)) < 0 ||
        (err = index_attach(p->index)) < 0 ||
        (err = open_catalogue(
             p,
             engine_view(&p->core.r.a, engine_next(&p->core.r.a, (struct engine_h){0}))->store_id,
             0)) < 0 ||
        (err = open_admin(p)) < 0)
        return fail(why, room, err, "the arena's slots");
    core_adopt(&p->core);
    log_resume(p->log);
    return 0;
}

struct gnutls_credentials *perdured_credentials(const struct config *c, char *why, size_t room) {
    const struct gnutls_files files = {.certificates = c->tls_certificates,
                                       .psk = c->tls_psk,
                                       .verify_peer = c->tls_verify_peer != 0};
    return gnutls_credentials_open(&files, why, room);
}

/* Before anything is touched. After a death nobody is there to mend them, and what is agreed needs them no
 * more: the engine goes on, and takes no new ones. */
static int open_credentials(struct perdured *p, char *why, size_t room) {
    p->nbd.tls = NBD_TLS_OFF;
    if (p->config.tls == CONFIG_TLS_OFF)
        return 0;
    p->nbd.tls = p->config.tls == CONFIG_TLS_REQUIRE ? NBD_TLS_REQUIRED : NBD_TLS_ON;
    p->credentials =
        perdured_credentials(&p->config, p->credentials_why, sizeof p->credentials_why);
    if (p->credentials)
        return 0;
    if (p->boot->mode != BOOT_CRASH) {
        snprintf(why, room, "%s", p->credentials_why);
        return ERR_INVAL;
    }
    p->nbd.tls = p->config.tls == CONFIG_TLS_REQUIRE ? NBD_TLS_BROKEN : NBD_TLS_OFF;
    return 0;
}

int perdured_prepare(struct perdured *p, char *why, size_t room) {
    if (open_credentials(p, why, room) < 0)
        return ERR_INVAL;
    p->posix_files.dir = p->core.store_dir;
    p->files = posix_files(&p->posix_files);
    p->jobs = posix_jobs_open(0);
    p->catalogue_jobs = posix_jobs_open(0);
    p->background_jobs = posix_jobs_open(BACKGROUND_NICE);
    if (!p->jobs || !p->catalogue_jobs || !p->background_jobs ||
        posix_random_open(&p->posix_random) < 0)
        return fail(why, room, ERR_NOMEM, "start");
    p->random = posix_random(&p->posix_random);
    p->alerts.clock = posix_clock();
    return 0;
}

int perdured_assemble(struct perdured *p, char *why, size_t room) {
    struct reactor *r = &p->core.r;
    int err;
    static const struct moment_zone_ops zone_ops = {zone_offset_s};
    static const struct moment_zone zone = {&zone_ops, NULL};
    static struct nbd_front_exports exports;
    p->control.zone = &zone;
    if ((err = open_constants(p)) < 0)
        return fail(why, room, err, "the constants");
    if ((err = open_lanes(p)) < 0)
        return fail(why, room, err, "the control plane");
    exports = perdured_exports_template;
    exports.ctx = p;
    if ((err = nbd_front_open(&p->nbd, r, p->cp, &exports)) < 0)
        return fail(why, room, err, "the NBD front end");
    /* The protocols are known before their connections are attached. */
    if ((err = core_attach(&p->core, gnutls_provider(p->credentials))) < 0)
        return fail(why, room, err, "the arena's connections");
    err = p->core.warm ? assemble_warm(p, why, room) : assemble_cold(p, why, room);
    if (err < 0)
        return err;
    if (p->core.warm &&
        ((err = engine_attach(p->engine)) < 0 || (err = nbd_front_attach(&p->nbd)) < 0))
        return fail(why, room, err, "the arena's requests");
    for (int i = 0; !p->core.warm && i < p->config.nbd_count; i++) {
        if ((err = reactor_listen(r, p->config.nbd[i], PROTOCOL_NBD)) < 0) {
            snprintf(why, room, "cannot listen on %s: %s", p->config.nbd[i],
                     err == ERR_EXISTS ? "the address is in use" : err_text(err));
            return err;
        }
    }
    p->control.handlers = perdured_handlers;
    p->control.handler_count = perdured_handler_count;
    p->control.handlers_ctx = p;
    must(ctl_handlers_complete(perdured_handlers, perdured_handler_count));
    if ((err = control_open(&p->control, r, p->config.control)) < 0) {
        snprintf(why, room, "the control socket %s cannot be made: %s", p->config.control,
                 err_text(err));
        return err;
    }
    reactor_commit(r);
    return 0;
}

/* Everything answered becomes durable; then the store says that it was stopped in order. A disk that does not answer
 * for so long is left alone: what waits for it ends with the process, as after a kill. */
void perdured_stop(struct perdured *p) {
    struct reactor *r = &p->core.r;
    struct job_runner jobs = posix_jobs(p->jobs), catalogue = posix_jobs(p->catalogue_jobs),
                      background = posix_jobs(p->background_jobs);
    uint64_t until = clock_monotonic_ns(&r->clock) + p->config.stop_s * NS_PER_S;
    atomic_store(&p->boot->custody->hang_ms, 0); /* this has its own limit */
    control_close(&p->control);
    reactor_accept_more(r, 0);
    for (struct conn_h c = conn_next(&r->a, (struct conn_h){0}); c.v; c = conn_next(&r->a, c)) {
        reactor_abort(r, c);
        if (arena_undo_left(&r->a) < 4 * ARENA_HANDLER_UNDO_BYTES)
            reactor_commit(r);
    }
    int err = ERR_BUSY;
    r->more_to_do = 1; /* the first turn may have nothing to wait for */
    while (err == ERR_BUSY && clock_monotonic_ns(&r->clock) < until) {
        log_want_durable(p->log, log_recorded(p->log));
        core_turn(&p->core);
        if (!arena_turn_is_clean(&r->a))
            reactor_commit(r);
        err = log_stop(p->log);
    }
    if (err == 0) {
        jobs.ops->drain(jobs.ctx);
        catalogue.ops->drain(catalogue.ctx);
        background.ops->drain(background.ctx);
    } else
        log_line(4, "stopped, but the log was not closed in order (%s); the next start recovers",
                 err_text(err));
    unlink(p->config.control);
    atomic_store(&r->a.live->phase, ARENA_STOPPED);
}
