/* SPDX-License-Identifier: Apache-2.0 */
/* The server's engine process: everything wired together. Private to src/server. */
#ifndef SERVER_PERDURED_H
#define SERVER_PERDURED_H

#include "arena/constants.h"
#include "arena/control_plane.h"
#include "engine/scrub.h"
#include "engine/admin.h"
#include "engine/ancestry.h"
#include "engine/clean/clean.h"
#include "engine/engine.h"
#include "engine/log.h"
#include "plat/gnutls/gnutls.h"
#include "plat/posix/posix.h"
#include "server/alerts.h"
#include "server/config.h"
#include "server/control.h"
#include "server/core.h"
#include "server/nbd_front.h"

#define PENDING_MAX CONTROL_CONNS
#define SINCES_MAX 64
#define LOOKINGS_MAX 8 /* at once; who comes then is told that it is busy */

/* A control request whose answer comes with the end of an operation, or of a reload's preparation. */
struct pending {
    uint64_t number; /* 0: free; the operation's reply word */
    uint64_t address;
    int64_t id;
    const struct ctl_op *op;
    char name[VOLUME_NAME_BYTES]; /* of what the request names */
};

/* A connection that waits for a moment to be opened. */
struct awaited {
    uint64_t number;  /* 0: free */
    struct nbd_h nbd; /* 0: it has gone; the image is made all the same */
    uint64_t peer;    /* hash of its address */
};

/* An image on demand and the address of the peer that had it made. */
struct opened {
    struct volume_h volume;
    uint64_t peer; /* hash of the address */
};

/* A moment that a connection names in perdure:changed-since. */
struct since {
    uint64_t number; /* 0: free; the operation's reply word */
    struct nbd_h nbd;
    int ended, err;
    uint64_t sequence;
    char why[NBD_TEXT_MAX];
};

/* server/forecast.c */
struct forecast {
    int is_known, under_way;
    uint64_t bytes_per_day;
    uint64_t next_ns; /* monotonic */
    struct catalogue_request request;
};

struct perdured {
    struct boot *boot;
    struct config config;
    struct core core;
    struct alerts alerts;
    struct posix_files posix_files;
    struct file_system files;
    struct posix_random posix_random;
    struct random_source random;
    struct posix_jobs *jobs, *catalogue_jobs, *background_jobs;
    struct constants constants;
    struct cp_lanes lanes;
    struct control_plane cp;
    int listener; /* of the engine's group */
    struct ancestries *ancestries;
    struct index *index;
    struct log *log;
    struct log_report report;
    struct engine_run *engine;
    struct catalogue catalogue;
    struct catalogue_snapshot *snapshot; /* while starting cold */
    struct admin admin;
    struct clean *clean;
    struct scrub *scrub;
    int admin_waits; /* operations that go on in the next turn */
    struct nbd_front nbd;
    struct gnutls_credentials *credentials; /* NULL: TLS is off, or they cannot be read */
    char credentials_why[512];
    uint64_t let_go_by_ns; /* a successor waits for handshakes until then; 0: none waits */
    struct control control;
    struct pending pending[PENDING_MAX];
    struct awaited awaited[PENDING_MAX];
    struct looking *lookings[LOOKINGS_MAX];
    struct history *histories; /* that wait for what was counted */
    struct forecast forecast;
    struct since sinces[SINCES_MAX];
    struct opened opened[CONFIG_ON_DEMAND_MAX]; /* those that are still there come first */
    uint32_t opened_count;
    uint64_t numbers; /* given to askers; no two engines give the same */
    int stopping;
    char failure[512]; /* why the last reload was refused */
    uint32_t failures;
    char death[160]; /* how the engine died that this one succeeds; empty: it did not */
    uint64_t serving_wall_ns;
    uint64_t tell_lost_ns; /* lines of the log that were lost are told then */
};

/* server/handlers.c */
extern const struct ctl_handler perdured_handlers[];
extern const uint32_t perdured_handler_count;
int perdured_answer(void *ctx, struct operation_h h); /* admin_engine_ops.answer */
void perdured_reload_prepared(struct perdured *p);    /* answers `reload` before letting go */
void perdured_reload_failed(struct perdured *p, const char *why);

/* server/assemble.c: what TLS proves itself with; NULL: why tells. */
struct gnutls_credentials *perdured_credentials(const struct config *c, char *why, size_t room);

void perdured_put_moment(struct admin_request *a, const struct moment *m);

/* server/reloads.c: what reloads and deaths did. */
json_t *reload_json(const struct perdured *p);
int reload_handler(void *perdured, const struct ctl_request *q);
int pauses_handler(void *perdured, const struct ctl_request *q);

/* server/diff.c, server/when.c */
int diff_handler(void *perdured, const struct ctl_request *q);
int when_handler(void *perdured, const struct ctl_request *q);
/* server/scrubs.c */
int scrub_start_handler(void *perdured, const struct ctl_request *q);
int scrub_stop_handler(void *perdured, const struct ctl_request *q);
int scrub_show_handler(void *perdured, const struct ctl_request *q);
/* server/looking.c: an operation that has ended, which may be part of one of them. */
void looking_resolved(struct perdured *p, const struct operation *o);

/* server/history.c: after admin_turn, those that waited go on. */
int history_handler(void *perdured, const struct ctl_request *q);
/* marks.c */
int mark_list_handler(void *perdured, const struct ctl_request *q);
int pins_handler(void *perdured, const struct ctl_request *q);
void history_turn(struct perdured *p);

/* server/forecast.c: how long so much room lasts; UINT64_MAX: a hundred years or more. */
void forecast_turn(struct perdured *p);
uint64_t forecast_lasts_ns(const struct perdured *p, uint64_t free_bytes);

/* server/since.c: as nbd_front_exports.since; an operation that has ended, which may be one of its. */
int perdured_since(void *perdured, struct nbd_h n, struct volume_h volume, const char *text,
                   size_t bytes, struct nbd_moment *out);
void since_resolved(struct perdured *p, const struct operation *o);

/* server/hints.c: what to do about an operation that failed, one line; empty: its sentence says all. */
#define HINT_BYTES 240
void perdured_hint(const struct perdured *p, const struct operation *o, char out[HINT_BYTES]);

/* server/trace_points.c: the newest points of the life that ended so many deaths ago, oldest first. */
json_t *perdured_trace_points(struct perdured *p, uint32_t deaths_ago, uint64_t max);

/* server/exports.c */
extern const struct nbd_front_exports perdured_exports_template;
int perdured_moment_opened(struct perdured *p, struct operation_h h);

/* server/plan.c: the arena of this configuration. */
const struct arena_plan *perdured_plan(const struct config *c);

/* server/steps.c: from and to the layouts that were released before this one. */
extern const struct arena_steps perdured_steps;

/* server/check.c: looks at a store that no server has, prints what it finds; the exit status. */
int perdured_check(const char *store, int repairs, int is_json);

/* server/qualify.c: a dry run against the engine that serves, told as JSON; the exit status. */
int perdured_qualify(const struct config *config, const struct arena_plan *plan);
/* One line a table, field, region and step, for scripts/layouts. */
void perdured_tell_layouts(const struct arena_plan *plan);

/* What is not durable lies in three segments at most (LOG_UNLOGGED_BYTES_MAX); as many more take it when it
 * has to move, and two may be on their way to be sealed. With fewer it could not move, for ever. */
#define PERDURED_ACTIVITIES 8192u
#define PERDURED_MEMTABLES 8u
/* server/assemble.c: before the arena is ours (jobs, files); then everything else; the end in order. */
int perdured_prepare(struct perdured *p, char *why, size_t room);
int perdured_assemble(struct perdured *p, char *why, size_t room);
void perdured_stop(struct perdured *p);

#endif
