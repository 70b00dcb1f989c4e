/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `history`: what clients did to a volume, step by step (engine/activity.h), and its marks. First what was
 * counted up to now goes to the catalogue; then it is asked for the rows, a page of an answer, and for the
 * marks of that time. Where the wall clock was set is told with them. Nothing of it is preserved: a reload closes control connections.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"
#include "server/reply.h"

struct history {
    struct perdured *p;
    struct history *next; /* of those that wait for what was counted */
    uint64_t address;
    int64_t id;
    char name[VOLUME_NAME_BYTES];
    uint64_t created_ns;
    uint64_t from_s, to_s, step_s;
    struct catalogue_request request;
    struct catalogue_activities rows;
    struct catalogue_list marks;
    json_t *told_rows, *told_marks;
    uint64_t next_s; /* 0: the answer is the last */
};

static json_t *time_of_second(uint64_t s) {
    return reply_time(s * NS_PER_S);
}

static void end(struct history *h) {
    json_decref(h->told_rows);
    json_decref(h->told_marks);
    free(h);
}

/* From when on steps of that size are there. */
static uint64_t kept_since(const struct history *h) {
    uint64_t kept = h->rows.base_s == CATALOGUE_SECOND   ? CATALOGUE_SECONDS_KEPT
                    : h->rows.base_s == CATALOGUE_MINUTE ? CATALOGUE_MINUTES_KEPT
                                                         : CATALOGUE_HOURS_KEPT;
    uint64_t now_s = clock_wall_ns(&h->p->core.r.clock) / NS_PER_S;
    uint64_t since = now_s > kept ? now_s - kept : 0;
    return max_u64(since, h->created_ns / NS_PER_S);
}

/* Those that led into the time of this answer's steps. */
static json_t *clock_jumps(const struct history *h) {
    struct log_clock_jump jumps[LOG_CLOCK_JUMPS_MAX];
    uint64_t from_ns = h->from_s * NS_PER_S,
             until_ns = (h->next_s ? h->next_s : h->to_s) * NS_PER_S;
    uint32_t n = log_clock_jumps(h->p->log, jumps, LOG_CLOCK_JUMPS_MAX);
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        if (jumps[i].after_ns >= from_ns && jumps[i].after_ns < until_ns)
            json_array_append_new(list,
                                  json_pack("{s:o,s:o}", "from", reply_time(jumps[i].before_ns),
                                            "to", reply_time(jumps[i].after_ns)));
    }
    return list;
}

static void tell(struct history *h) {
    json_t *next = h->next_s ? json_integer((json_int_t)h->next_s) : json_null();
    json_t *result = json_pack("{s:s,s:o,s:o,s:I,s:o,s:o,s:O,s:O,s:o}", "volume", h->name, "from",
                               time_of_second(h->from_s), "to", time_of_second(h->to_s - 1),
                               "step_ns", (json_int_t)(h->step_s * NS_PER_S), "kept_since",
                               time_of_second(kept_since(h)), "next", next, "steps", h->told_rows,
                               "marks", h->told_marks, "clock_jumps", clock_jumps(h));
    control_reply(&h->p->control, h->address, ctl_reply_ok(h->id, result));
    end(h);
}

static void refuse(struct history *h) {
    control_reply(&h->p->control, h->address,
                  ctl_reply_err(h->id, h->request.result, h->request.detail, NULL));
    end(h);
}

static void marks_arrived(struct catalogue_request *r) {
    struct history *h = r->owner;
    if (r->result < 0) {
        refuse(h);
        return;
    }
    uint64_t until_s = h->next_s ? h->next_s : h->to_s;
    for (uint32_t i = 0; i < h->marks.count; i++) {
        const struct catalogue_row *row = &h->marks.rows[i];
        if (row->time_ns / NS_PER_S >= h->from_s && row->time_ns / NS_PER_S < until_s)
            json_array_append_new(h->told_marks,
                                  json_pack("{s:s,s:o}", "label", row->name, "at",
                                            reply_moment(row->sequence, row->time_ns)));
    }
    if (h->marks.count == CATALOGUE_ROWS_MAX) {
        r->args.after = h->marks.rows[h->marks.count - 1].key;
        catalogue_submit(&h->p->catalogue, r);
        return;
    }
    tell(h);
}

static json_t *row_json(const struct catalogue_activity *row) {
    json_t *o = json_pack(
        "{s:o,s:o,s:o,s:o}", "time", time_of_second(row->time), "first_sequence",
        row->first_sequence ? json_integer((json_int_t)row->first_sequence) : json_null(),
        "last_sequence",
        row->last_sequence ? json_integer((json_int_t)row->last_sequence) : json_null(),
        "clean_sequence",
        row->clean_sequence ? json_integer((json_int_t)row->clean_sequence) : json_null());
#define TELL(name)                                                                                 \
    json_object_set_new(o, #name, json_integer((json_int_t)row->counted[ACTIVITY_##name]));
    ACTIVITY_LIST(TELL)
    return o;
}

static void rows_arrived(struct catalogue_request *r) {
    struct history *h = r->owner;
    if (r->result < 0) {
        refuse(h);
        return;
    }
    for (uint32_t i = 0; i < h->rows.count; i++)
        json_array_append_new(h->told_rows, row_json(&h->rows.rows[i]));
    if (h->rows.count == CATALOGUE_ROWS_MAX)
        h->next_s = h->rows.rows[h->rows.count - 1].time + h->step_s;
    r->kind = CATALOGUE_LIST_MARKS;
    r->list = &h->marks;
    r->done = marks_arrived;
    catalogue_submit(&h->p->catalogue, r);
}

static uint64_t second_of(const struct perdured *p, const struct moment *m) {
    uint64_t ns = m->kind == MOMENT_NOW ? clock_wall_ns(&p->core.r.clock) : m->time_ns;
    return ns / NS_PER_S;
}

/* About sixty steps. */
static uint64_t step_for(uint64_t seconds) {
    static const uint64_t nice[] = {1, 60, 3600, 86400};
    size_t i = 0;
    while (i + 1 < sizeof nice / sizeof nice[0] && seconds > 130 * nice[i])
        i++;
    return nice[i];
}

int history_handler(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const struct moment *from = ctl_has(&q->args, "from") ? ctl_moment(&q->args, "from") : NULL;
    const struct moment *to = ctl_has(&q->args, "to") ? ctl_moment(&q->args, "to") : NULL;
    const struct moment *ends[] = {from, to};
    for (int i = 0; i < 2; i++)
        if (ends[i] && (ends[i]->kind == MOMENT_SEQUENCE || ends[i]->kind == MOMENT_MARK))
            return reply_refuse(p, q, ERR_INVAL, "history goes by time",
                                "give a time, as -2h or 17:00:03; mark list tells that of a mark");
    struct volume_h v = volumes_find(&p->core.r.a, ctl_text(&q->args, "name"));
    if (!v.v)
        return reply_no_volume(p, q);
    struct history *h = calloc(1, sizeof *h);
    if (!h)
        return ERR_NOMEM;
    const struct volume *s = volume_view(&p->core.r.a, v);
    uint64_t now_s = clock_wall_ns(&p->core.r.clock) / NS_PER_S;
    h->p = p;
    h->address = p->control.current;
    h->id = q->id;
    snprintf(h->name, sizeof h->name, "%s", (const char *)s->name);
    h->created_ns = s->created_ns;
    h->to_s = (to ? second_of(p, to) : now_s) + 1; /* the second itself, too */
    h->from_s = from ? second_of(p, from) : h->to_s > 3600 ? h->to_s - 3600 : 0;
    h->from_s = max_u64(h->from_s, ctl_number(&q->args, "after"));
    h->from_s = max_u64(h->from_s, min_u64(h->created_ns / NS_PER_S, h->to_s - 1));
    if (h->from_s >= h->to_s) {
        free(h);
        return reply_refuse(p, q, ERR_INVAL, "--from is a later moment than --to", "exchange them");
    }
    h->step_s = ctl_number(&q->args, "step_ns") / NS_PER_S;
    if (h->step_s == 0)
        h->step_s = step_for(h->to_s - h->from_s);
    h->from_s -= h->from_s % h->step_s;
    h->told_rows = json_array();
    h->told_marks = json_array();
    h->request = (struct catalogue_request){
        .kind = CATALOGUE_LIST_ACTIVITY, .activities = &h->rows, .done = rows_arrived, .owner = h};
    h->request.args = (struct catalogue_args){.volume_count = 1,
                                              .volumes[0] = s->id,
                                              .from_s = h->from_s,
                                              .to_s = h->to_s,
                                              .step_s = h->step_s};
    h->next = p->histories;
    p->histories = h;
    admin_activity_now(&p->admin);
    return 0;
}

void history_turn(struct perdured *p) {
    if (!p->histories || !admin_activity_is_known(&p->admin))
        return;
    while (p->histories) {
        struct history *h = p->histories;
        p->histories = h->next;
        catalogue_submit(&p->catalogue, &h->request);
    }
}
