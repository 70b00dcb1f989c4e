/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments that clients name in perdure:changed-since. Each is resolved by the operation that a dry run of a
 * restore is, of the volume or of the one that an image shows; then the engine is asked whether it is in the
 * past of what the export shows. An answer waits in private memory until its connection asks again, which it
 * does in the same turn; after a reload connections ask anew.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "ctl/moment.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

static struct since *since_of(struct perdured *p, struct nbd_h n) {
    for (uint32_t i = 0; i < SINCES_MAX; i++)
        if (p->sinces[i].number && nbd_h_same(p->sinces[i].nbd, n))
            return &p->sinces[i];
    return NULL;
}

/* One that is free, or whose connection has gone without asking again. */
static struct since *free_since(struct perdured *p) {
    for (uint32_t i = 0; i < SINCES_MAX; i++) {
        struct since *s = &p->sinces[i];
        if (s->number == 0 || (s->ended && !nbd_try(&p->core.r.a, s->nbd)))
            return s;
    }
    return NULL;
}

static int refuse(struct nbd_moment *out, int err, const char *why) {
    int n = snprintf((char *)out->why, sizeof out->why, "%s", why);
    out->why_bytes = (uint32_t)min_u64(n < 0 ? 0 : (uint64_t)n, sizeof out->why - 1);
    return err;
}

static int check(struct perdured *p, struct volume_h volume, const struct since *s,
                 struct nbd_moment *out) {
    int err = s->err < 0 ? s->err : engine_check_since(p->engine, volume, s->sequence);
    out->sequence = s->sequence;
    if (s->err < 0)
        return refuse(out, err, s->why);
    switch (err) {
    case 0:
        return 0;
    case ERR_RANGE:
        return refuse(
            out, err,
            "not every moment since then is kept: copy the volume whole, or name a later one");
    case ERR_CHANGED:
        return refuse(
            out, err,
            volume_view(&p->core.r.a, volume)->flags & VOLUME_IMAGE
                ? "the image shows an earlier moment than that"
                : "a restore took that moment back: copy the volume whole, or name a moment "
                  "before the one it was restored to, or after the restore");
    default:
        return err;
    }
}

static int begin(struct perdured *p, struct nbd_h n, const struct volume *v,
                 const struct moment *m) {
    struct admin_request a = {.kind = OPERATION_RESTORE,
                              .flags = OPERATION_DRY_RUN | OPERATION_EXACT,
                              .reply = p->numbers + 1,
                              .volume_count = 1};
    struct operation_h h;
    struct since *s = free_since(p);
    if (!s)
        return ERR_BUSY;
    memcpy(a.volumes[0], v->name, sizeof a.volumes[0]);
    perdured_put_moment(&a, m);
    int err = admin_begin(&p->admin, &a, &h);
    if (err < 0)
        return err;
    *s = (struct since){.number = ++p->numbers, .nbd = n};
    return ERR_AGAIN;
}

int perdured_since(void *ctx, struct nbd_h n, struct volume_h volume, const char *text,
                   size_t bytes, struct nbd_moment *out) {
    struct perdured *p = ctx;
    const struct arena *a = &p->core.r.a;
    const struct volume *v = volume_view(a, volume);
    struct since *s = since_of(p, n);
    if (s && !s->ended)
        return ERR_AGAIN;
    if (s) {
        int err = check(p, volume, s, out);
        s->number = 0;
        return err;
    }
    struct moment m;
    struct fault f = {.at = 0};
    int err = moment_parse(text, bytes, clock_wall_ns(&p->core.r.clock), p->control.zone, &m, &f);
    if (err < 0)
        return refuse(out, err, f.text);
    if (v->flags & VOLUME_IMAGE) {
        struct volume_h source = volumes_find_id(a, v->source_id);
        if (!source.v)
            return refuse(out, ERR_NOTFOUND, "the volume that this image shows is gone");
        v = volume_view(a, source);
    }
    err = begin(p, n, v, &m);
    return err == ERR_BUSY ? refuse(out, err, "too many moments are asked for at once: ask again")
                           : err;
}

void since_resolved(struct perdured *p, const struct operation *o) {
    for (uint32_t i = 0; i < SINCES_MAX; i++) {
        struct since *s = &p->sinces[i];
        if (s->number == 0 || s->ended || s->number != o->reply)
            continue;
        s->ended = 1;
        s->err = o->error;
        s->sequence = o->results[0];
        snprintf(s->why, sizeof s->why, "%s",
                 o->detail[0] ? (const char *)o->detail : err_text(o->error));
        nbd_front_moment_ready(&p->nbd, s->nbd);
    }
}
