/* SPDX-License-Identifier: Apache-2.0 */
/* Exports that are moments: NAME@T is opened as an image on demand when a client asks for it. The operation
 * outlives a reload, the client's wait too: after an attach it asks again, and finds the image. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "ctl/moment.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

static void set_moment(struct admin_request *a, const struct moment *m) {
    if (m->kind == MOMENT_TIME) {
        a->moment_kind = OPERATION_AT_TIME;
        a->moment = m->time_ns;
    } else if (m->kind == MOMENT_SEQUENCE) {
        a->moment_kind = OPERATION_AT_SEQUENCE;
        a->moment = m->sequence;
    } else if (m->kind == MOMENT_MARK) {
        a->moment_kind = OPERATION_AT_MARK;
        snprintf(a->label, sizeof a->label, "%s", m->label);
    } else {
        a->moment_kind = OPERATION_AT_NOW;
    }
}

static int open_moment(void *ctx, struct nbd_h n, const char *name, struct volume_h *volume) {
    struct perdured *p = ctx;
    struct moment_export e;
    struct moment m;
    struct fault f;
    struct operation_h h;
    int err = moment_split_export(name, strlen(name), &e, &f);
    if (err < 0 || !e.moment)
        return err < 0 ? err : ERR_NOTFOUND;
    err = moment_parse(e.moment, e.moment_len, clock_wall_ns(&p->core.r.clock), p->control.zone, &m,
                       &f);
    if (err < 0)
        return err;
    if (!volumes_find(&p->core.r.a, e.volume).v)
        return ERR_NOTFOUND;
    struct awaited *w = NULL;
    for (uint32_t i = 0; i < PENDING_MAX && !w; i++)
        if (p->awaited[i].number == 0)
            w = &p->awaited[i];
    if (!w)
        return ERR_BUSY;
    struct admin_request a = {.kind = OPERATION_IMAGE_OPEN,
                              .flags = OPERATION_ON_DEMAND | (e.writable ? OPERATION_WRITABLE : 0),
                              .reply = ++p->numbers,
                              .volume_count = 1};
    snprintf(a.volumes[0], sizeof a.volumes[0], "%s", e.volume);
    set_moment(&a, &m);
    err = admin_begin(&p->admin, &a, &h);
    if (err < 0)
        return err;
    *w = (struct awaited){p->numbers, n};
    return ERR_AGAIN;
}

int perdured_moment_opened(struct perdured *p, struct operation_h h) {
    const struct operation *o = operation_view(&p->core.r.a, h);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct awaited *w = &p->awaited[i];
        if (w->number == 0 || w->number != o->reply)
            continue;
        w->number = 0;
        nbd_front_opened(&p->nbd, w->nbd, o->error, o->made[0]);
    }
    return 1;
}

static void cancel(void *ctx, struct nbd_h n) {
    struct perdured *p = ctx;
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (p->awaited[i].number && nbd_h_same(p->awaited[i].nbd, n))
            p->awaited[i].number = 0;
}

/* Images on demand end by their lease, a while after their last user. */
static void unused(void *ctx, struct volume_h volume) {
}

const struct nbd_front_exports perdured_exports_template = {open_moment, cancel, unused, NULL};
