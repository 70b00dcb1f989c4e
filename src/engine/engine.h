/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H
#include "arena/request.h"
#include "engine/index.h"
#include "engine/log.h"
struct engine_parts {
    struct arena *a;
    struct buffer_pool *buffers;
    struct io_port *io;
    struct log *log;
    struct index *index;
    struct ancestries *ancestries;
    struct alert_sink alerts;
    void (*reply)(void *ctx, struct request_h h);
    void *reply_ctx;
};
struct engine_run;
int engine_open(struct engine_run **out, const struct engine_parts *parts);
int engine_attach(struct engine_run *e);
void engine_submit(struct engine_run *e, struct request_h h);
void engine_turn(struct engine_run *e);
void engine_after_commit(struct engine_run *e);
uint64_t engine_deadline(const struct engine_run *e);
int engine_is_quiet(const struct engine_run *e, struct volume_h v);
void engine_volume_changed(struct engine_run *e, struct volume_h v);
#endif
