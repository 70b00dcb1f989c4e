/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exports that are moments: NAME@T is opened as an image on demand when a client asks for it. The operation
 * outlives a reload, the client's wait too: after an attach it asks again, and finds the image.
 *
 * How many are open is bounded, in all and for each address. An address is charged with the images that it had
 * made and with those that it uses. Who had one made is private memory: after an attach only its users are
 * known, and one without a user ends soon.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "ctl/moment.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

/* --- limits --- */

/* The peer's text without its port: a Unix socket has none, and all of its peers are one. */
static uint64_t peer_of(const struct arena *a, struct nbd_h n) {
    const struct nbd *s = nbd_try(a, n);
    const struct conn *c = s ? conn_try(a, s->conn) : NULL;
    const char *text = c ? (const char *)c->peer : "";
    const char *port = strncmp(text, "unix:", 5) == 0 ? text + 5 : strrchr(text, ':');
    return hash_bytes(HASH_BYTES_START, text, port ? (size_t)(port - text) : 0);
}

static void forget_closed(struct perdured *p) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < p->opened_count; i++)
        if (volume_try(&p->core.r.a, p->opened[i].volume))
            p->opened[kept++] = p->opened[i];
    p->opened_count = kept;
}

struct on_demand {
    uint32_t all, peers; /* open, or being opened */
};

static struct on_demand count_on_demand(struct perdured *p, uint64_t peer) {
    const struct arena *a = &p->core.r.a;
    uint8_t charged[CATALOGUE_OBJECTS_MAX] = {0}; /* 1: it is open, 2: and this peer's */
    struct on_demand n = {0, 0};
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        n.all += p->awaited[i].number != 0;
        n.peers += p->awaited[i].number != 0 && p->awaited[i].peer == peer;
    }
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h))
        if (volume_view(a, h)->flags & VOLUME_ON_DEMAND) {
            charged[handle_index(h.v)] = 1;
            n.all++;
        }
    for (uint32_t i = 0; i < p->opened_count; i++)
        if (p->opened[i].peer == peer)
            charged[handle_index(p->opened[i].volume.v)] <<= 1;
    for (struct nbd_h h = nbd_next(a, (struct nbd_h){0}); h.v; h = nbd_next(a, h)) {
        struct volume_h v = nbd_view(a, h)->volume;
        if (volume_try(a, v) && charged[handle_index(v.v)] == 1 && peer_of(a, h) == peer)
            charged[handle_index(v.v)] = 2;
    }
    for (uint32_t i = 0; i < CATALOGUE_OBJECTS_MAX; i++)
        n.peers += charged[i] == 2;
    return n;
}

/* A moment that is named by its number, and shown already, is no further image. */
static int is_shown(const struct arena *a, uint64_t source_id, const struct moment *m) {
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h)) {
        const struct volume *v = volume_view(a, h);
        if (v->flags == (VOLUME_IMAGE | VOLUME_READ_ONLY | VOLUME_ON_DEMAND) &&
            v->source_id == source_id && m->kind == MOMENT_SEQUENCE &&
            v->moment_sequence == m->sequence)
            return 1;
    }
    return 0;
}

static int check_limits(struct perdured *p, struct nbd_h n) {
    static const char *const texts[] = {
        "a client was refused a moment: its address has as many open as one may (key "
        "images-per-peer); perdure connections shows who uses them",
        "a client was refused a moment: as many are open as may be (key images-on-demand); perdure "
        "connections shows who uses them"};
    forget_closed(p);
    struct on_demand open = count_on_demand(p, peer_of(&p->core.r.a, n));
    int all = open.all >= p->config.images_on_demand;
    if (!all && open.peers < p->config.images_per_peer)
        return 0;
    struct alert_sink sink = alerts_sink(&p->alerts);
    sink.raise(sink.ctx, ALERT_WARNING, "images_on_demand", "", texts[all]);
    return ERR_LIMIT;
}

/* --- opening --- */

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
    struct volume_h source = volumes_find(&p->core.r.a, e.volume);
    if (!source.v)
        return ERR_NOTFOUND;
    if (e.writable || !is_shown(&p->core.r.a, volume_view(&p->core.r.a, source)->id, &m))
        err = check_limits(p, n);
    if (err < 0)
        return err;
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
    perdured_put_moment(&a, &m);
    err = admin_begin(&p->admin, &a, &h);
    if (err < 0)
        return err;
    *w = (struct awaited){p->numbers, n, peer_of(&p->core.r.a, n)};
    return ERR_AGAIN;
}

static void note_opened(struct perdured *p, uint64_t peer, struct volume_h v) {
    for (uint32_t i = 0; i < p->opened_count; i++)
        if (volume_h_same(p->opened[i].volume, v))
            return;
    if (v.v && p->opened_count < CONFIG_ON_DEMAND_MAX)
        p->opened[p->opened_count++] = (struct opened){v, peer};
}

int perdured_moment_opened(struct perdured *p, struct operation_h h) {
    const struct operation *o = operation_view(&p->core.r.a, h);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct awaited *w = &p->awaited[i];
        if (w->number == 0 || w->number != o->reply)
            continue;
        w->number = 0;
        note_opened(p, w->peer, o->error == 0 ? o->made[0] : (struct volume_h){0});
        nbd_front_opened(&p->nbd, w->nbd, o->error, o->made[0]);
    }
    return 1;
}

static void cancel(void *ctx, struct nbd_h n) {
    struct perdured *p = ctx;
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (p->awaited[i].number && nbd_h_same(p->awaited[i].nbd, n))
            p->awaited[i].nbd = (struct nbd_h){0};
}

/* Images on demand end by their lease, a while after their last user. */
static void unused(void *ctx, struct volume_h volume) {
}

const struct nbd_front_exports perdured_exports_template = {open_moment, cancel, unused,
                                                            perdured_since, NULL};
