/* SPDX-License-Identifier: Apache-2.0 */
/* What reloads and deaths did: `reload`, `pauses`, and the part of `status`. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "server/layouts.h"
#include "server/pauses.h"
#include "server/perdured.h"
#include "server/reply.h"

/* What was not of our layout when this engine took the arena over. */
static json_t *converted_of(const struct core *c) {
    json_t *list = json_array();
    for (uint32_t i = 0; c->converted && i < c->part_count; i++) {
        const struct arena_part_fit *f = &c->parts[i];
        const char *name = layouts_part_name(&c->plan, f);
        if (f->fit != ARENA_FIT_SAME)
            json_array_append_new(list,
                                  json_pack("{s:s,s:I,s:s?,s:I,s:I}", "kind",
                                            f->kind == ARENA_PART_TABLE ? "table" : "region",
                                            "number", (json_int_t)f->number, "name", name, "from",
                                            (json_int_t)f->from, "to", (json_int_t)f->to));
    }
    return list;
}

json_t *reload_json(const struct perdured *p) {
    const struct server *s = server_view(&p->core.r.a, p->core.r.server);
    return json_pack(
        "{s:I,s:s,s:s?,s:s?,s:s?,s:o,s:o,s:I,s:s?,s:o}", "generation",
        (json_int_t)p->boot->generation, "kind",
        !p->core.warm         ? "cold"
        : p->core.after_crash ? "uninvited"
                              : "planned",
        "reason", p->core.warm || p->boot->mode == BOOT_COLD ? NULL : core_reason(&p->core),
        "death", p->death[0] ? p->death : NULL, "poison",
        p->core.poison ? p->core.poison_peer : NULL, "at", reply_time(p->serving_wall_ns),
        "pause_ns", p->core.warm ? json_integer((json_int_t)s->last_pause_ns) : json_null(),
        "failures", (json_int_t)p->failures, "failure", p->failure[0] ? p->failure : NULL,
        "converted", converted_of(&p->core));
}

int reload_handler(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const char *why = NULL;
    char text[512];
    struct pending *w = reply_later(p, q);
    if (!w)
        return ERR_BUSY;
    int err = core_reload(&p->core, ctl_text(&q->args, "binary"), &why);
    if (err == 0)
        return 0;
    w->number = 0;
    if (err == ERR_NOTFOUND)
        snprintf(text, sizeof text, "%s: %s", ctl_text(&q->args, "binary"), why);
    else
        snprintf(text, sizeof text, "%s", why);
    return reply_refuse(p, q, err, text, "the present program goes on");
}

void perdured_reload_prepared(struct perdured *p) {
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (p->pending[i].number && strcmp(p->pending[i].op->name, "reload") == 0)
            reply_settle(p, &p->pending[i], reload_json(p));
}

void perdured_reload_failed(struct perdured *p, const char *why) {
    p->failures++;
    snprintf(p->failure, sizeof p->failure, "%s", why);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending *w = &p->pending[i];
        if (!w->number || strcmp(w->op->name, "reload") != 0)
            continue;
        control_reply(&p->control, w->address,
                      ctl_reply_err(w->id, ERR_REFUSED, why, "the present program goes on"));
        w->number = 0;
    }
}

static json_t *below(uint64_t ns) {
    return ns == UINT64_MAX || ns == 0 ? json_null() : json_integer((json_int_t)ns);
}

static json_t *kind_json(const uint32_t steps[PAUSE_STEPS], uint64_t count) {
    return json_pack("{s:I,s:o,s:o}", "count", (json_int_t)count, "half_below_ns",
                     below(pauses_quantile(steps, 500)), "p99_below_ns",
                     below(pauses_quantile(steps, 990)));
}

int pauses_handler(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const struct server *s = server_view(&p->core.r.a, p->core.r.server);
    json_t *steps = json_array(), *last = json_array();
    uint64_t all = s->reloads + s->crashes;
    for (uint32_t i = 0; i < PAUSE_STEPS; i++)
        if (s->planned[i] + s->uninvited[i] > 0)
            json_array_append_new(steps,
                                  json_pack("{s:o,s:I,s:I}", "below_ns", below(pauses_step_end(i)),
                                            "planned", (json_int_t)s->planned[i], "uninvited",
                                            (json_int_t)s->uninvited[i]));
    for (uint64_t n = all > SERVER_PAUSES ? all - SERVER_PAUSES : 0; n < all; n++) {
        const struct pause *one = &s->pauses[n % SERVER_PAUSES];
        json_array_append_new(last,
                              json_pack("{s:o,s:I,s:s,s:I,s:I,s:I}", "at", reply_time(one->wall_ns),
                                        "generation", (json_int_t)one->generation, "kind",
                                        one->is_uninvited ? "uninvited" : "planned", "pause_ns",
                                        (json_int_t)one->pause_ns, "kept", (json_int_t)one->kept,
                                        "closed", (json_int_t)one->closed));
    }
    return reply_now(p, q,
                     json_pack("{s:o,s:o,s:o,s:I,s:I,s:o,s:o}", "since",
                               reply_time(s->started_wall_ns), "planned",
                               kind_json(s->planned, s->reloads), "uninvited",
                               kind_json(s->uninvited, s->crashes), "longest_ns",
                               (json_int_t)s->longest_pause_ns, "closed",
                               (json_int_t)s->conns_closed, "steps", steps, "last", last));
}
