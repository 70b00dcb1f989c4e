/* SPDX-License-Identifier: Apache-2.0 */
/* Marks, and what else keeps history from being given up: rows of the catalogue, a page after the other. */
#include <stdlib.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"
#include "server/reply.h"

struct query {
    struct catalogue_request request;
    struct catalogue_list list;
    struct perdured *p;
    uint64_t number; /* of the pending answer */
    const char *key;
    json_t *(*row)(const struct perdured *p, const struct volume *v,
                   const struct catalogue_row *row);
    json_t *rows;
};

static struct pending *pending_by_number(struct perdured *p, uint64_t number) {
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (p->pending[i].number == number)
            return &p->pending[i];
    return NULL;
}

static void arrived(struct catalogue_request *r) {
    struct query *m = r->owner;
    const struct arena *a = &m->p->core.r.a;
    struct pending *w = pending_by_number(m->p, m->number);
    for (uint32_t i = 0; r->result == 0 && i < m->list.count; i++) {
        const struct catalogue_row *row = &m->list.rows[i];
        struct volume_h h = volumes_find_id(a, row->volume);
        if (h.v)
            json_array_append_new(m->rows, m->row(m->p, volume_view(a, h), row));
    }
    if (w && r->result == 0 && m->list.count == CATALOGUE_ROWS_MAX) {
        r->args.after = m->list.rows[m->list.count - 1].key;
        catalogue_submit(&m->p->catalogue, r);
        return;
    }
    if (w && r->result == 0) {
        reply_settle(m->p, w, json_pack("{s:O}", m->key, m->rows));
    } else if (w) {
        control_reply(&m->p->control, w->address, ctl_reply_err(w->id, r->result, r->detail, NULL));
        w->number = 0;
    }
    json_decref(m->rows);
    free(m);
}

static int list(struct perdured *p, const struct ctl_request *q, const struct query *what) {
    const char *name = ctl_text(&q->args, "name");
    struct volume_h h = name ? volumes_find(&p->core.r.a, name) : (struct volume_h){0};
    if (name && !h.v)
        return reply_no_volume(p, q);
    struct query *m = calloc(1, sizeof *m);
    struct pending *w = m ? reply_later(p, q) : NULL;
    if (!w) {
        free(m);
        return ERR_BUSY;
    }
    *m = *what;
    m->p = p;
    m->number = w->number;
    m->request.args.volumes[0] = h.v ? volume_view(&p->core.r.a, h)->id : 0;
    m->request.args.volume_count = 1;
    m->rows = json_array();
    m->request.list = &m->list;
    m->request.done = arrived;
    m->request.owner = m;
    catalogue_submit(&p->catalogue, &m->request);
    return 0;
}

static json_t *mark_row(const struct perdured *p, const struct volume *v,
                        const struct catalogue_row *row) {
    (void)p;
    return json_pack("{s:s,s:s,s:o,s:b,s:o}", "volume", (const char *)v->name, "label", row->name,
                     "at", reply_moment(row->sequence, row->time_ns), "hold", row->is_hold != 0,
                     "created_at", reply_time(row->created_ns));
}

int mark_list_handler(void *ctx, const struct ctl_request *q) {
    return list(ctx, q,
                &(struct query){
                    .request = {.kind = CATALOGUE_LIST_MARKS}, .key = "marks", .row = mark_row});
}

/* A lease is store time; people read the wall clock. */
static json_t *end_of_lease(const struct perdured *p, uint64_t lease_ns) {
    return reply_time(lease_ns ? lease_ns - log_now_ns(p->log) + log_wall_ns(p->log) : 0);
}

static json_t *pin_row(const struct perdured *p, const struct volume *v,
                       const struct catalogue_row *row) {
    static const char *const kinds[] = {[CATALOGUE_PIN_MARK] = "mark",
                                        [CATALOGUE_PIN_IMAGE] = "image",
                                        [CATALOGUE_PIN_RANGE] = "range"};
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:b}", "volume", (const char *)v->name, "kind",
                     kinds[row->pin], "name", row->name[0] ? json_string(row->name) : json_null(),
                     "at", reply_moment(row->sequence, row->time_ns), "until",
                     end_of_lease(p, row->lease_ns), "is_older_than_retained",
                     row->sequence < v->oldest_sequence);
}

int pins_handler(void *ctx, const struct ctl_request *q) {
    return list(
        ctx, q,
        &(struct query){.request = {.kind = CATALOGUE_LIST_PINS}, .key = "pins", .row = pin_row});
}
