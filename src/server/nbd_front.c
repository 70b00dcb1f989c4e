/* SPDX-License-Identifier: Apache-2.0 */
#include "server/nbd_front.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"

#define EXPIRY_STEP_NS NS_PER_S

static struct nbd_h nbd_of(const struct nbd_front *f, struct conn_h c) {
    return (struct nbd_h){conn_view(&f->r->a, c)->protocol_slot};
}

/* --- volumes --- */

/* "VOLUME", or "VOLUME.IMAGE" for a disk of an open image. */
static struct volume_h find_volume(const struct arena *a, char *name) {
    char *dot = strchr(name, '.');
    if (!dot)
        return volumes_find(a, name);
    *dot = 0;
    return volumes_find_image(a, name, dot + 1);
}

static int use_volume(struct nbd_front *f, struct volume_h h, struct nbd_export *out) {
    const struct volume *v = volume_view(&f->r->a, h);
    if (v->slot.state == VOLUME_LOST)
        return ERR_INTEGRITY;
    if (v->slot.state != VOLUME_ONLINE)
        return ERR_SHUTDOWN;
    volume_edit(&f->r->a, h)->users++;
    *out = (struct nbd_export){.volume = h,
                               .size_bytes = v->size_bytes,
                               .block_min = v->block_size,
                               .block_preferred = BLOCK_BYTES,
                               .read_only = (v->flags & VOLUME_READ_ONLY) != 0};
    return 0;
}

static int export_open(void *ctx, struct nbd_h n, const uint8_t *name, uint32_t name_bytes,
                       struct nbd_export *out) {
    struct nbd_front *f = ctx;
    char text[NBD_EXPORT_NAME_MAX + 1];
    struct volume_h h;
    memcpy(text, name, name_bytes);
    text[name_bytes] = 0;
    if (strchr(text, '@')) {
        int err = f->exports->open_moment(f->exports->ctx, n, text, &h);
        if (err < 0)
            return err;
    } else if (name_bytes == 0 && volume_used(&f->r->a) == 1) {
        h = volume_next(&f->r->a, (struct volume_h){0}); /* the only one is the default */
    } else {
        h = find_volume(&f->r->a, text);
    }
    return h.v ? use_volume(f, h, out) : ERR_NOTFOUND;
}

static void export_close(void *ctx, struct nbd_h n, struct volume_h volume) {
    struct nbd_front *f = ctx;
    if (!volume.v) {
        f->exports->cancel(f->exports->ctx, n);
        return;
    }
    if (!volume_try(&f->r->a, volume))
        return;
    struct volume *v = volume_edit(&f->r->a, volume);
    must(v->users > 0);
    if (--v->users == 0)
        f->exports->unused(f->exports->ctx, volume);
}

int volume_export_name(const struct arena *a, const struct volume *v, char *out, size_t room) {
    struct volume_h source = v->flags & VOLUME_IMAGE && !(v->flags & VOLUME_ON_DEMAND)
                                 ? volumes_find_id(a, v->source_id)
                                 : (struct volume_h){0};
    if (!source.v)
        return snprintf(out, room, "%s", (const char *)v->name);
    return snprintf(out, room, "%s.%s", (const char *)volume_view(a, source)->name,
                    (const char *)v->name);
}

static uint32_t export_text(void *ctx, struct volume_h volume, enum nbd_text which, uint8_t *out) {
    struct nbd_front *f = ctx;
    const struct volume *v = volume_view(&f->r->a, volume);
    int n = which == NBD_TEXT_NAME
                ? volume_export_name(&f->r->a, v, (char *)out, NBD_TEXT_MAX)
                : snprintf((char *)out, NBD_TEXT_MAX, "%s",
                           v->flags & VOLUME_IMAGE ? "time image" : "volume with its history");
    return (uint32_t)n;
}

/* The cursor is the slot's index + 1. */
static int export_list(void *ctx, uint64_t *cursor, struct nbd_listed *out) {
    struct nbd_front *f = ctx;
    for (struct volume_h h = volume_next(&f->r->a, (struct volume_h){0}); h.v;
         h = volume_next(&f->r->a, h)) {
        const struct volume *v = volume_view(&f->r->a, h);
        if (handle_index(h.v) < *cursor || v->slot.state != VOLUME_ONLINE ||
            v->flags & VOLUME_ON_DEMAND)
            continue;
        *cursor = (uint64_t)handle_index(h.v) + 1;
        out->name_bytes = (uint8_t)export_text(f, h, NBD_TEXT_NAME, out->name);
        out->description_bytes = (uint8_t)export_text(f, h, NBD_TEXT_DESCRIPTION, out->description);
        return 1;
    }
    return 0;
}

static int moment(void *ctx, struct nbd_h n, struct volume_h volume, const uint8_t *text,
                  uint32_t text_bytes, struct nbd_moment *out) {
    struct nbd_front *f = ctx;
    return f->exports->since(f->exports->ctx, n, volume, (const char *)text, text_bytes, out);
}

/* --- requests --- */

static uint8_t *message(void *ctx, struct nbd_h n, uint32_t bytes) {
    struct nbd_front *f = ctx;
    struct conn_h c = nbd_view(&f->r->a, n)->conn;
    uint32_t in_head = bytes <= REQUEST_HEAD_BYTES;
    struct request_h h =
        reactor_request(f->r, c, REQUEST_MESSAGE, in_head ? 0 : bytes, 0, REQUEST_DONE);
    if (!h.v)
        return NULL;
    struct request *q = request_edit(&f->r->a, h);
    q->head_bytes = in_head ? bytes : 0;
    q->reply_data_bytes = in_head ? 0 : bytes;
    reactor_reply(f->r, h);
    return in_head ? q->head : buffer_data(&f->r->buffers, q->data[0].first);
}

static struct request_h request_for(void *ctx, struct nbd_h n, uint32_t data_start,
                                    uint32_t data_bytes) {
    struct nbd_front *f = ctx;
    return reactor_request(f->r, nbd_view(&f->r->a, n)->conn, 0, data_bytes, data_start,
                           REQUEST_RECEIVING);
}

static void hand_over(struct nbd_front *f, struct request_h h) {
    if (f->waiting_count == 0 &&
        f->cp.ops->send(f->cp.ctx, f->connection, IO_MSG_REQUEST, 0, h.v) == 0)
        return;
    must(f->waiting_count < f->waiting_room);
    f->waiting[f->waiting_count++] = h;
}

static enum nbd_tls_policy tls(void *ctx) {
    return ((struct nbd_front *)ctx)->tls;
}

static void submit(void *ctx, struct nbd_h n, struct request_h h) {
    hand_over(ctx, h);
}

/* There is a place in the engine's queue again. */
static void room(void *arg) {
    struct nbd_front *f = arg;
    uint32_t sent = 0;
    while (sent < f->waiting_count) {
        struct request_h h = f->waiting[sent];
        if (request_try(&f->r->a, h) &&
            f->cp.ops->send(f->cp.ctx, f->connection, IO_MSG_REQUEST, 0, h.v) < 0)
            break;
        sent++;
    }
    f->waiting_count -= sent;
    memmove(f->waiting, f->waiting + sent, f->waiting_count * sizeof *f->waiting);
}

static void reply(void *ctx, struct request_h h) {
    struct nbd_front *f = ctx;
    const struct request *q = request_view(&f->r->a, h);
    const struct conn *c = conn_try(&f->r->a, q->conn);
    if (c && c->slot.state == CONN_OPEN) {
        struct conn *w = conn_edit(&f->r->a, q->conn);
        w->requests_ever++;
        if (q->op == REQUEST_READ && q->error == 0)
            w->read_bytes += q->length_bytes;
        else if (q->op == REQUEST_WRITE && q->error == 0)
            w->written_bytes += q->length_bytes;
        nbd_reply(&f->env, nbd_of(f, q->conn), h);
    }
    reactor_reply(f->r, h);
}

/* --- the reactor's side --- */

static int opened(void *ctx, struct conn_h c) {
    struct nbd_front *f = ctx;
    struct nbd_h n = nbd_begin(&f->env, c, f->r->now_ns + NBD_HANDSHAKE_NS);
    if (!n.v)
        return ERR_NOMEM;
    conn_edit(&f->r->a, c)->protocol_slot = n.v;
    nbd_input(&f->env, n, (const uint8_t *)"", 0);
    return 0;
}

static struct conn_step input(void *ctx, struct conn_h c, const uint8_t *p, size_t bytes) {
    struct nbd_front *f = ctx;
    struct nbd_step s = nbd_input(&f->env, nbd_of(f, c), p, bytes);
    struct conn_step out = {.consumed = s.consumed, .need = s.need, .request = s.request};
    switch (s.what) {
    case NBD_MORE:
        out.want = CONN_MORE;
        break;
    case NBD_PAYLOAD:
        out.want = CONN_PAYLOAD;
        break;
    case NBD_BLOCKED:
        out.want = CONN_BLOCKED;
        break;
    case NBD_WAIT:
        out.want = CONN_WAIT;
        break;
    case NBD_UPGRADE:
        out.want = CONN_SECURE;
        break;
    case NBD_CLOSE:
        out.want = CONN_FINISH;
        break;
    }
    return out;
}

static void secured(void *ctx, struct conn_h c) {
    struct nbd_front *f = ctx;
    nbd_secured(&f->env, nbd_of(f, c));
}

static void payload_done(void *ctx, struct conn_h c, struct request_h r) {
    struct nbd_front *f = ctx;
    nbd_payload_done(&f->env, nbd_of(f, c), r);
}

static void sent(void *ctx, struct conn_h c, struct request_h r) {
    struct nbd_front *f = ctx;
    struct nbd_h n = nbd_of(f, c);
    if (nbd_try(&f->r->a, n))
        nbd_sent(&f->env, n, r);
}

static void closed(void *ctx, struct conn_h c) {
    struct nbd_front *f = ctx;
    struct nbd_h n = nbd_of(f, c);
    if (nbd_try(&f->r->a, n))
        nbd_end(&f->env, n);
}

void nbd_front_opened(struct nbd_front *f, struct nbd_h n, int result, struct volume_h volume) {
    struct nbd_export e = {0};
    const struct nbd *s = nbd_try(&f->r->a, n);
    if (result == 0)
        result = use_volume(f, volume, &e);
    if (!s || nbd_export_ready(&f->env, n, result, &e) == ERR_CHANGED) {
        if (result == 0)
            export_close(f, n, volume);
        return;
    }
    reactor_resume(f->r, s->conn);
}

void nbd_front_moment_ready(struct nbd_front *f, struct nbd_h n) {
    if (nbd_moment_ready(&f->env, n))
        reactor_resume(f->r, nbd_view(&f->r->a, n)->conn);
}

uint64_t nbd_front_expire(struct nbd_front *f, uint64_t now_ns) {
    if (now_ns < f->next_expiry_ns)
        return f->next_expiry_ns;
    for (struct nbd_h n = nbd_next(&f->r->a, (struct nbd_h){0}); n.v; n = nbd_next(&f->r->a, n)) {
        const struct nbd *s = nbd_view(&f->r->a, n);
        if (nbd_expired(s, now_ns) && conn_try(&f->r->a, s->conn))
            reactor_abort(f->r, s->conn);
    }
    f->next_expiry_ns = now_ns + EXPIRY_STEP_NS;
    return f->next_expiry_ns;
}

int nbd_front_open(struct nbd_front *f, struct reactor *r, struct control_plane cp,
                   const struct nbd_front_exports *exports) {
    static const struct nbd_env_ops env_ops = {.export_open = export_open,
                                               .export_close = export_close,
                                               .export_text = export_text,
                                               .export_list = export_list,
                                               .moment = moment,
                                               .message = message,
                                               .tls = tls,
                                               .request_new = request_for,
                                               .submit = submit};
    static const struct io_source_ops source_ops = {.reply = reply};
    const struct cp_sender_calls calls = {.room = room, .arg = f};
    f->r = r;
    f->cp = cp;
    f->exports = exports;
    f->env = (struct nbd_env){&r->a, &r->buffers, &env_ops, f};
    f->source = (struct io_source){&source_ops, f};
    f->protocol = (struct protocol){.opened = opened,
                                    .input = input,
                                    .secured = secured,
                                    .payload_done = payload_done,
                                    .sent = sent,
                                    .closed = closed,
                                    .ctx = f};
    f->waiting_room = r->a.tables[TABLE_REQUEST].capacity;
    f->waiting = calloc(f->waiting_room, sizeof *f->waiting);
    f->connection =
        cp.ops->connect(cp.ctx, (struct cp_group){IO_GROUP_ENGINE, 0}, IO_SENDER_NBD, &calls);
    r->protocols[PROTOCOL_NBD] = &f->protocol;
    return !f->waiting ? ERR_NOMEM : f->connection < 0 ? f->connection : 0;
}

int nbd_front_attach(struct nbd_front *f) {
    for (struct nbd_h n = nbd_next(&f->r->a, (struct nbd_h){0}); n.v; n = nbd_next(&f->r->a, n)) {
        const struct nbd *s = nbd_view(&f->r->a, n);
        if (nbd_check_slot(s) < 0)
            return ERR_INTEGRITY;
        if (s->open == NBD_OPEN_ASKED && conn_try(&f->r->a, s->conn)) {
            nbd_export_ready(&f->env, n, ERR_AGAIN, NULL);
            reactor_resume(f->r, s->conn);
        } else if (conn_try(&f->r->a, s->conn)) {
            nbd_front_moment_ready(f, n);
        }
    }
    return 0;
}
