/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Space that nobody needs any more, and images whose time has come.
 *
 * A family is dead when its last volume was purged and its last image closed; the catalogue lists
 * such families. A sealed segment all of whose records belong to dead families is free: first the
 * catalogue says so, durably, then the log may use its file again. Segments that others have records
 * in stay until a cleaning merge.
 *
 * A list of segments is one transaction with an id of its own, as doing it twice does no harm and
 * after a kill the list may be another one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/admin_priv.h"

int admin_bury(struct admin *ad, struct operation_h h) {
    uint32_t family = operation_view(ad->c.a, h)->family;
    return !family || timelines_bury(ad->c.a, family, ADMIN_BURY_MAX) < ADMIN_BURY_MAX;
}

/* 1: all segments have been looked at; 0: some are left. Stops when the list is full. */
static int scan(struct admin *ad, struct admin_pending *p) {
    for (uint32_t n = 0; n < ADMIN_SCAN_MAX && p->segment_count < CATALOGUE_SEGMENTS_MAX; n++) {
        uint32_t segment = ad->c.log->next_sealed(ad->c.log_ctx, p->scanned);
        if (segment == 0)
            return 1;
        int rc =
            ad->c.log->segment_families(ad->c.log_ctx, segment, p->dead->dead, p->dead->dead_count);
        if (rc == ERR_AGAIN)
            return 0;
        p->scanned = segment;
        if (rc == 1)
            p->segments[p->segment_count++] = segment;
    }
    return 0;
}

static void freed(struct admin *ad, struct operation_h h) {
    struct operation *op = operation_edit(ad->c.a, h);
    struct admin_pending *p = admin_pending(ad, h);
    ad->c.log->catalogue_is(ad->c.log_ctx, p->request->generation);
    for (uint32_t i = 0; i < p->segment_count; i++)
        op->results[3] += ad->c.log->segment_freed(ad->c.log_ctx, p->segments[i]);
    op->cursor = p->scanned;
    p->segment_count = 0;
    admin_forget_request(p);
}

int admin_free(struct admin *ad, struct operation_h h) {
    const struct operation *op = operation_view(ad->c.a, h);
    struct admin_pending *p = admin_pending(ad, h);
    if (op->kind == OPERATION_VOLUME_DELETE && op->family == 0)
        return 1;
    if (!p->dead || p->catalogue != ADMIN_IDLE) {
        int rc = admin_ask_catalogue(ad, h);
        if (rc < 0)
            return 1; /* the volume is deleted all the same; a later sweep tries again */
        if (rc == 0)
            return 0;
        if (p->dead) {
            freed(ad, h);
        } else {
            p->dead = p->request->snapshot;
            p->request->snapshot = NULL;
            p->scanned = op->cursor;
            admin_forget_request(p);
        }
    }
    must(p->dead != NULL);
    if (p->dead->dead_count == 0)
        return 1;
    int all = scan(ad, p);
    if (p->segment_count == CATALOGUE_SEGMENTS_MAX || (all && p->segment_count > 0))
        return admin_ask_catalogue(ad, h);
    return all;
}

void admin_sweep(struct admin *ad) {
    struct operation_h h = {0};
    while ((h = operation_next(ad->c.a, h)).v) {
        const struct operation *op = operation_view(ad->c.a, h);
        if (op->kind == OPERATION_SWEEP && op->slot.state != OPERATION_DONE)
            return;
    }
    struct admin_request q = {.kind = OPERATION_SWEEP, .flags = OPERATION_INTERNAL};
    admin_begin(ad, &q, &h); /* no slot: the next sweep does it */
}

void admin_declare_loss(struct admin *ad, uint64_t losses, uint64_t before) {
    struct admin_request q = {.kind = OPERATION_DECLARE_LOSS, .flags = OPERATION_INTERNAL};
    struct operation_h h;
    must(admin_begin(ad, &q, &h) == 0); /* at a start, the table is empty */
    operation_edit(ad->c.a, h)->sequence = before;
    operation_edit(ad->c.a, h)->wait_sequence = losses;
}

void admin_forget_segment(struct admin *ad, uint32_t segment) {
    if (ad->forget_count < CATALOGUE_SEGMENTS_MAX)
        ad->forget[ad->forget_count++] = segment;
}

static void forgotten(struct catalogue_request *r) {
    struct admin *ad = r->owner;
    ad->forgetting = NULL;
    free(r);
}

void admin_forget_output(struct admin *ad) {
    if (ad->forget_count == 0 || ad->forgetting)
        return;
    struct catalogue_request *r = calloc(1, sizeof *r);
    if (!r)
        return; /* in a later turn */
    r->kind = CATALOGUE_SEGMENTS_FORGET;
    while (r->args.operation == 0)
        ad->c.random.ops->fill(ad->c.random.ctx, &r->args.operation, sizeof r->args.operation);
    memcpy(r->args.segments, ad->forget, sizeof r->args.segments);
    r->args.segment_count = ad->forget_count;
    r->done = forgotten;
    r->owner = ad;
    ad->forget_count = 0;
    ad->forgetting = r;
    catalogue_submit(ad->c.catalogue, r);
}

static int may_end(const struct volume *s) {
    return s->slot.state == VOLUME_ONLINE || s->slot.state == VOLUME_LOST;
}

/* All disks of the image are without users and past their time. */
static int image_has_ended(const struct admin *ad, const char *name, uint64_t store_ns) {
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (!(s->flags & VOLUME_IMAGE) || s->slot.state == VOLUME_CREATING ||
            strcmp((const char *)s->name, name) != 0)
            continue;
        if (!may_end(s) || s->users > 0 || s->lease_until_ns > store_ns)
            return 0;
    }
    return 1;
}

static int is_expired(const struct volume *s, uint64_t wall_ns) {
    return s->slot.state == VOLUME_DELETED && s->retain_ns > 0 && wall_ns >= s->deleted_ns &&
           wall_ns - s->deleted_ns >= s->retain_ns;
}

/* What lies in the trash for as long as it was to retain its past goes for good. One a look; who is refused, as
 * a mark holds, is tried again when all others were. */
void admin_trash(struct admin *ad) {
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock), wall_ns = clock_wall_ns(&ad->c.clock);
    if (now_ns - ad->trash_seen_ns < ADMIN_TRASH_NS)
        return;
    ad->trash_seen_ns = now_ns;
    if (ad->c.log->clock_suspect(ad->c.log_ctx))
        return;
    int again = ad->trash_at.v != 0;
    for (;;) {
        ad->trash_at = volume_next(ad->c.a, ad->trash_at);
        if (!ad->trash_at.v && !again--)
            return;
        if (ad->trash_at.v && is_expired(volume_view(ad->c.a, ad->trash_at), wall_ns))
            break;
    }
    struct admin_request q = {.kind = OPERATION_VOLUME_DELETE,
                              .flags = OPERATION_NOW | OPERATION_INTERNAL,
                              .volume_count = 1};
    struct operation_h h;
    memcpy(q.volumes[0], volume_view(ad->c.a, ad->trash_at)->name, sizeof q.volumes[0]);
    admin_begin(ad, &q, &h);
}

/* An image in use never goes under its users: it goes when the last has left. One a turn. */
void admin_leases(struct admin *ad) {
    uint64_t now_ns = clock_monotonic_ns(&ad->c.clock);
    if (now_ns - ad->leases_seen_ns < ADMIN_LEASES_NS)
        return;
    uint64_t store_ns = ad->c.log->store_ns(ad->c.log_ctx);
    struct volume_h v = {0};
    while ((v = volume_next(ad->c.a, v)).v) {
        const struct volume *s = volume_view(ad->c.a, v);
        if (!may_end(s) || !(s->flags & VOLUME_IMAGE) || s->lease_until_ns == 0 ||
            s->lease_until_ns > store_ns || s->users > 0 ||
            !image_has_ended(ad, (const char *)s->name, store_ns))
            continue;
        struct admin_request q = {.kind = OPERATION_IMAGE_CLOSE, .flags = OPERATION_INTERNAL};
        struct operation_h h;
        memcpy(q.image, s->name, sizeof q.image);
        admin_begin(ad, &q, &h);
        return;
    }
    ad->leases_seen_ns = now_ns;
}
