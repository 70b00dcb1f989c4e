/* SPDX-License-Identifier: Apache-2.0 */
/* What the control operations do: arguments into operations of the engine, slots into the shapes of
 * ctl/shapes.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "ctl/thinning.h"
#include "engine/timeline/volumes.h"
#include "server/layouts.h"
#include "server/perdured.h"
#include "server/reply.h"

/* --- shapes --- */

static json_t *addresses_of(const struct perdured *p, const char *export) {
    const struct arena *a = &p->core.r.a;
    json_t *list = json_array();
    char text[320];
    for (struct listener_h h = listener_next(a, (struct listener_h){0}); h.v;
         h = listener_next(a, h)) {
        const char *address = (const char *)listener_view(a, h)->address;
        if (strncmp(address, "unix:", 5) == 0)
            snprintf(text, sizeof text, "nbd+unix:///%s?socket=%s", export, address + 5);
        else
            snprintf(text, sizeof text, "nbd://%s/%s", address, export);
        json_array_append_new(list, json_string(text));
    }
    return list;
}

static uint32_t images_of(const struct arena *a, uint64_t id) {
    uint32_t n = 0;
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h))
        n += (volume_view(a, h)->flags & VOLUME_IMAGE) && volume_view(a, h)->source_id == id;
    return n;
}

static json_t *volume_of(const struct perdured *p, const struct volume *v) {
    const struct arena *a = &p->core.r.a;
    const char *state = v->slot.state == VOLUME_LOST      ? "refused"
                        : v->slot.state == VOLUME_DELETED ? "deleted"
                                                          : "serving";
    char thinning[THINNING_TEXT_BYTES];
    thinning_format(v->thinning, thinning);
    return json_pack(
        "{s:s,s:I,s:I,s:s,s:o,s:o,s:s?,s:s,s:s?,s:o,s:o,s:I,s:I,s:o,s:o,s:o,s:o}", "name",
        (const char *)v->name, "size_bytes", (json_int_t)v->size_bytes, "block_size_bytes",
        (json_int_t)v->block_size, "durability",
        v->flags & VOLUME_DURABLE_WRITES ? "write" : "flush", "retain_ns",
        v->retain_ns ? json_integer((json_int_t)v->retain_ns) : json_null(), "retain_bytes",
        v->retain_bytes ? json_integer((json_int_t)v->retain_bytes) : json_null(), "thin_after",
        v->thinning[0] ? thinning : NULL, "state", state, "reason",
        v->slot.state == VOLUME_LOST
            ? "writes that were answered may be lost; see the alerts, then volume accept-loss"
            : NULL,
        "created_at", reply_time(v->created_ns), "deleted_at",
        v->slot.state == VOLUME_DELETED ? reply_time(v->deleted_ns) : json_null(), "clients",
        (json_int_t)v->users, "images", (json_int_t)images_of(a, v->id), "oldest",
        reply_moment(v->oldest_sequence, v->oldest_ns), "every_moment_since",
        v->fine_sequence ? reply_moment(v->fine_sequence, v->fine_ns)
                         : reply_moment(v->oldest_sequence, v->oldest_ns),
        "newest", reply_moment(engine_recorded_whole(p->engine), log_wall_ns(p->log)), "addresses",
        addresses_of(p, (const char *)v->name));
}

static json_t *image_of(const struct perdured *p, const char *name) {
    const struct arena *a = &p->core.r.a;
    json_t *disks = json_array(), *image = NULL;
    char export[2 * VOLUME_NAME_BYTES];
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h)) {
        const struct volume *v = volume_view(a, h);
        if (!(v->flags & VOLUME_IMAGE) || v->slot.state == VOLUME_CREATING ||
            strcmp((const char *)v->name, name) != 0)
            continue;
        struct volume_h source = volumes_find_id(a, v->source_id);
        volume_export_name(a, v, export, sizeof export);
        json_array_append_new(
            disks, json_pack("{s:s,s:I,s:s,s:I,s:o}", "volume",
                             source.v ? (const char *)volume_view(a, source)->name : "",
                             "size_bytes", (json_int_t)v->size_bytes, "export", export, "clients",
                             (json_int_t)v->users, "addresses", addresses_of(p, export)));
        if (!image)
            image =
                json_pack("{s:s,s:o,s:n,s:b,s:o,s:o}", "name", name, "at",
                          reply_moment(v->moment_sequence, v->moment_ns), "exact", "writable",
                          !(v->flags & VOLUME_READ_ONLY), "opened_at", reply_time(v->created_ns),
                          "lease_ends_at",
                          reply_time(v->lease_until_ns ? v->lease_until_ns - log_now_ns(p->log) +
                                                             log_wall_ns(p->log)
                                                       : 0));
    }
    if (!image) {
        json_decref(disks);
        return NULL;
    }
    json_object_set_new(image, "disks", disks);
    return image;
}

static int begin(struct perdured *p, const struct ctl_request *q, struct admin_request *a) {
    struct operation_h h;
    struct pending *w = reply_later(p, q);
    if (!w)
        return ERR_BUSY;
    a->reply = w->number;
    int err = admin_begin(&p->admin, a, &h);
    if (err < 0)
        w->number = 0;
    return err;
}

static void put(char to[VOLUME_NAME_BYTES], const char *text) {
    snprintf(to, VOLUME_NAME_BYTES, "%s", text ? text : "");
}

static int put_volumes(struct admin_request *a, const struct ctl_list *list) {
    if (list->count > OPERATION_VOLUMES_MAX)
        return ERR_TOOBIG;
    a->volume_count = list->count;
    for (uint32_t i = 0; i < list->count; i++)
        put(a->volumes[i], list->item[i]);
    return 0;
}

static void put_volume(struct admin_request *a, const struct ctl_request *q) {
    a->volume_count = 1;
    put(a->volumes[0], ctl_text(&q->args, "name"));
}

void perdured_put_moment(struct admin_request *a, const struct moment *m) {
    switch (m->kind) {
    case MOMENT_NOW:
        a->moment_kind = OPERATION_AT_NOW;
        break;
    case MOMENT_TIME:
        a->moment_kind = OPERATION_AT_TIME;
        a->moment = m->time_ns;
        break;
    case MOMENT_SEQUENCE:
        a->moment_kind = OPERATION_AT_SEQUENCE;
        a->moment = m->sequence;
        break;
    case MOMENT_MARK:
        a->moment_kind = OPERATION_AT_MARK;
        put(a->label, m->label);
        break;
    }
}

static uint32_t durability_flag(const struct ctl_request *q) {
    const char *d = ctl_text(&q->args, "durability");
    return d && strcmp(d, "write") == 0 ? OPERATION_DURABLE_WRITES : 0;
}

static uint32_t flag(const struct ctl_request *q, const char *key, uint32_t bit) {
    return ctl_flag(&q->args, key) ? bit : 0;
}

/* 1: it was given. */
static int take_thinning(struct admin_request *a, const struct ctl_request *q) {
    const char *text = ctl_text(&q->args, "thin_after");
    if (text)
        thinning_parse(text, strlen(text), a->thinning, NULL); /* it was checked */
    return text != NULL;
}

/* --- operations that change something --- */

static int volume_create(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_VOLUME_CREATE,
                              .flags = durability_flag(q),
                              .size_bytes = ctl_number(&q->args, "size_bytes"),
                              .retain_ns = ctl_number(&q->args, "retain_ns"),
                              .retain_bytes = ctl_number(&q->args, "retain_bytes"),
                              .block_size = (uint32_t)ctl_number(&q->args, "block_size_bytes")};
    take_thinning(&a, q);
    put(a.name, ctl_text(&q->args, "name"));
    return begin(ctx, q, &a);
}

static int volume_set(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    struct admin_request a = {.kind = OPERATION_VOLUME_SET,
                              .flags = durability_flag(q),
                              .retain_ns = ctl_number(&q->args, "retain_ns"),
                              .retain_bytes = ctl_number(&q->args, "retain_bytes")};
    int all = ctl_flag(&q->args, "retain_all");
    if ((a.retain_ns || a.retain_bytes) && all)
        return reply_refuse(p, q, ERR_INVAL, "a limit and all are two things to retain",
                            "give --retain and --retain-bytes, or --retain-all");
    a.flags |= a.retain_ns || all ? OPERATION_SET_RETAIN : 0;
    a.flags |= a.retain_bytes || all ? OPERATION_SET_RETAIN_BYTES : 0;
    a.flags |= take_thinning(&a, q) ? OPERATION_SET_THINNING : 0;
    a.flags |= ctl_text(&q->args, "durability") ? 0 : OPERATION_KEEP_DURABILITY;
    if (a.flags == OPERATION_KEEP_DURABILITY)
        return reply_refuse(
            p, q, ERR_INVAL, "nothing is to be set",
            "give --durability, --retain, --retain-bytes, --retain-all or --thin-after");
    put_volume(&a, q);
    return begin(ctx, q, &a);
}

static int volume_resize(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_VOLUME_RESIZE,
                              .flags = flag(q, "force", OPERATION_FORCE),
                              .size_bytes = ctl_number(&q->args, "size_bytes")};
    put_volume(&a, q);
    return begin(ctx, q, &a);
}

static int volume_delete(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_VOLUME_DELETE,
                              .flags = flag(q, "force", OPERATION_FORCE) |
                                       flag(q, "now", OPERATION_NOW)};
    put_volume(&a, q);
    return begin(ctx, q, &a);
}

static int volume_undelete(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_VOLUME_UNDELETE};
    put_volume(&a, q);
    return begin(ctx, q, &a);
}

static int volume_accept_loss(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_ACCEPT_LOSS};
    put_volume(&a, q);
    return begin(ctx, q, &a);
}

static int image_open(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_IMAGE_OPEN,
                              .flags = flag(q, "writable", OPERATION_WRITABLE) |
                                       flag(q, "exact", OPERATION_EXACT),
                              .lease_ns = ctl_number(&q->args, "lease_ns")};
    int err = put_volumes(&a, ctl_list(&q->args, "volumes"));
    perdured_put_moment(&a, ctl_moment(&q->args, "at"));
    put(a.name, ctl_text(&q->args, "name"));
    return err < 0 ? err : begin(ctx, q, &a);
}

static int image_close(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_IMAGE_CLOSE,
                              .flags = flag(q, "force", OPERATION_FORCE)};
    put(a.image, ctl_text(&q->args, "name"));
    return begin(ctx, q, &a);
}

static int image_promote(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_IMAGE_PROMOTE};
    put(a.image, ctl_text(&q->args, "name"));
    put(a.name, ctl_text(&q->args, "volume"));
    return begin(ctx, q, &a);
}

static int restore(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {
        .kind = OPERATION_RESTORE,
        .flags = flag(q, "force", OPERATION_FORCE) | flag(q, "destructive", OPERATION_DESTRUCTIVE) |
                 flag(q, "dry_run", OPERATION_DRY_RUN) | flag(q, "exact", OPERATION_EXACT)};
    int err = put_volumes(&a, ctl_list(&q->args, "volumes"));
    perdured_put_moment(&a, ctl_moment(&q->args, "at"));
    if (ctl_has(&q->args, "range")) {
        struct ctl_range r = ctl_range(&q->args, "range");
        a.kind = OPERATION_RESTORE_RANGE;
        a.offset_bytes = r.offset_bytes;
        a.length_bytes = r.length_bytes;
        if (a.flags & OPERATION_DESTRUCTIVE)
            return reply_refuse(ctx, q, ERR_INVAL,
                                "what came after is given up of whole volumes only, not of a range",
                                "leave --range or --destructive out");
        if (a.volume_count != 1)
            return reply_refuse(ctx, q, ERR_INVAL, "a range is of one volume",
                                "restore each volume's range by itself, at the same moment");
    }
    return err < 0 ? err : begin(ctx, q, &a);
}

static int mark_create(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_MARK,
                              .flags = flag(q, "hold", OPERATION_KEEP),
                              .moment_kind = OPERATION_AT_NOW};
    int err = put_volumes(&a, ctl_list(&q->args, "volumes"));
    put(a.name, ctl_text(&q->args, "label"));
    return err < 0 ? err : begin(ctx, q, &a);
}

static int mark_delete(void *ctx, const struct ctl_request *q) {
    struct admin_request a = {.kind = OPERATION_MARK_DELETE,
                              .flags = flag(q, "force", OPERATION_FORCE)};
    int err = put_volumes(&a, ctl_list(&q->args, "volumes"));
    put(a.name, ctl_text(&q->args, "label"));
    return err < 0 ? err : begin(ctx, q, &a);
}

/* --- ends of operations --- */

static json_t *names_of(const struct perdured *p, const struct operation *o) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < o->volume_count; i++) {
        const struct volume *v = volume_try(&p->core.r.a, o->volumes[i]);
        if (v)
            json_array_append_new(list, json_string((const char *)v->name));
    }
    return list;
}

static json_t *restore_result(const struct perdured *p, const struct operation *o) {
    json_t *volumes = json_array();
    for (uint32_t i = 0; i < o->volume_count; i++) {
        const struct volume *v = volume_try(&p->core.r.a, o->volumes[i]);
        if (!v)
            continue;
        int whole = o->kind == OPERATION_RESTORE;
        json_array_append_new(
            volumes, json_pack("{s:s,s:I,s:I,s:I}", "volume", (const char *)v->name, "offset_bytes",
                               (json_int_t)(whole ? 0 : o->offset_bytes), "length_bytes",
                               (json_int_t)(whole ? v->size_bytes : o->length_bytes), "clients",
                               (json_int_t)v->users));
    }
    int destructive = (o->flags & OPERATION_DESTRUCTIVE) != 0;
    return json_pack("{s:b,s:b,s:o,s:b,s:o,s:o}", "dry_run", (o->flags & OPERATION_DRY_RUN) != 0,
                     "destructive", destructive, "to", reply_moment(o->results[0], o->results[1]),
                     "exact", o->results[5] == 0, "before",
                     destructive ? json_null() : reply_moment(o->results[2], o->results[3]),
                     "volumes", volumes);
}

static json_t *opened(json_t *image, const struct operation *o) {
    json_object_set_new(image, "exact", json_boolean(o->results[5] == 0));
    return image;
}

/* name: the object that the request named; its slot may be gone. */
static json_t *result_of(const struct perdured *p, const struct operation *o, const char *name) {
    const struct arena *a = &p->core.r.a;
    const struct volume *made = volume_try(a, o->made[0]);
    const struct volume *v = volume_try(a, o->volumes[0]);
    switch (o->kind) {
    case OPERATION_VOLUME_CREATE:
    case OPERATION_IMAGE_PROMOTE:
        return volume_of(p, made ? made : v);
    case OPERATION_VOLUME_RESIZE:
    case OPERATION_VOLUME_SET:
    case OPERATION_VOLUME_UNDELETE:
    case OPERATION_ACCEPT_LOSS:
        return volume_of(p, v);
    case OPERATION_VOLUME_DELETE:
        return json_pack("{s:s,s:o,s:b,s:I}", "name", name, "deleted_at",
                         reply_time(o->results[4] ? o->results[4] : o->now_ns), "now",
                         (o->flags & OPERATION_NOW) != 0, "freed_bytes", (json_int_t)o->results[3]);
    case OPERATION_IMAGE_OPEN:
        return opened(image_of(p, made ? (const char *)made->name : (const char *)o->name), o);
    case OPERATION_IMAGE_CLOSE:
        return json_pack("{s:s,s:o}", "name", name, "closed_at", reply_time(o->now_ns));
    case OPERATION_RESTORE:
    case OPERATION_RESTORE_RANGE:
        return restore_result(p, o);
    case OPERATION_MARK:
        return json_pack("{s:s,s:o,s:o}", "label", (const char *)o->name, "volumes", names_of(p, o),
                         "at", reply_moment(o->results[0], o->results[1]));
    case OPERATION_MARK_DELETE:
        return json_pack("{s:s,s:o}", "label", (const char *)o->name, "volumes", names_of(p, o));
    default:
        return json_object();
    }
}

int perdured_answer(void *ctx, struct operation_h h) {
    struct perdured *p = ctx;
    const struct operation *o = operation_view(&p->core.r.a, h);
    if (o->flags & OPERATION_ON_DEMAND)
        return perdured_moment_opened(p, h);
    for (uint32_t i = 0; i < PENDING_MAX; i++) {
        struct pending *w = &p->pending[i];
        if (w->number == 0 || w->number != o->reply)
            continue;
        if (o->error == 0) {
            reply_settle(p, w, result_of(p, o, w->name));
        } else {
            const char *detail = (const char *)o->detail;
            char hint[HINT_BYTES];
            perdured_hint(p, o, hint);
            control_reply(&p->control, w->address,
                          ctl_reply_err(w->id, o->error, detail[0] ? detail : err_text(o->error),
                                        hint[0] ? hint : NULL));
            w->number = 0;
        }
    }
    looking_resolved(p, o);
    since_resolved(p, o);
    return 1; /* taken, or its asker has gone */
}

/* --- operations that only look --- */

static int volume_list(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const struct arena *a = &p->core.r.a;
    json_t *list = json_array();
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h)) {
        const struct volume *v = volume_view(a, h);
        if (!(v->flags & VOLUME_IMAGE) && v->slot.state != VOLUME_CREATING)
            json_array_append_new(list, volume_of(p, v));
    }
    return reply_now(p, q, json_pack("{s:o}", "volumes", list));
}

static int volume_show(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    char text[160];
    const char *name = ctl_text(&q->args, "name");
    struct volume_h h = volumes_find(&p->core.r.a, name);
    if (h.v && !(volume_view(&p->core.r.a, h)->flags & VOLUME_IMAGE))
        return reply_now(p, q, volume_of(p, volume_view(&p->core.r.a, h)));
    snprintf(text, sizeof text, "there is no volume %s", name);
    return reply_refuse(p, q, ERR_NOTFOUND, text, "perdure volume list shows those that exist");
}

static int image_list(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const struct arena *a = &p->core.r.a;
    json_t *list = json_array();
    for (struct volume_h h = volume_next(a, (struct volume_h){0}); h.v; h = volume_next(a, h)) {
        const struct volume *v = volume_view(a, h);
        int first = (v->flags & VOLUME_IMAGE) && v->slot.state != VOLUME_CREATING;
        for (struct volume_h e = volume_next(a, (struct volume_h){0}); first && e.v != h.v;
             e = volume_next(a, e)) /* an image of several disks is listed once */
            first = !(volume_view(a, e)->flags & VOLUME_IMAGE) ||
                    strcmp((const char *)volume_view(a, e)->name, (const char *)v->name) != 0;
        if (first)
            json_array_append_new(list, image_of(p, (const char *)v->name));
    }
    return reply_now(p, q, json_pack("{s:o}", "images", list));
}

static const char *protocol_name(const struct perdured *p, uint32_t protocol) {
    return constants_text(&p->constants, CONSTANT_PROTOCOL_FIRST + protocol, "unknown");
}

static int status(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    struct core *c = &p->core;
    struct log_space space;
    uint64_t total = 0, free_bytes = 0;
    json_t *listeners = json_array();
    int volumes = 0, images = 0;
    log_space(p->log, &space);
    p->files.ops->space(p->files.ctx, &total, &free_bytes);
    for (struct listener_h h = listener_next(&c->r.a, (struct listener_h){0}); h.v;
         h = listener_next(&c->r.a, h))
        json_array_append_new(
            listeners, json_pack("{s:s,s:s}", "protocol",
                                 protocol_name(p, listener_view(&c->r.a, h)->protocol), "address",
                                 (const char *)listener_view(&c->r.a, h)->address));
    for (struct volume_h h = volume_next(&c->r.a, (struct volume_h){0}); h.v;
         h = volume_next(&c->r.a, h)) {
        int is_image = (volume_view(&c->r.a, h)->flags & VOLUME_IMAGE) != 0;
        images += is_image;
        volumes += !is_image;
    }
    uint64_t room = free_bytes + (uint64_t)space.slots_unused * space.segment_bytes;
    uint64_t lasts_ns = forecast_lasts_ns(p, room);
    int is_known = p->forecast.is_known;
    json_t *store = json_pack(
        "{s:s,s:I,s:I,s:I,s:I,s:o,s:I,s:o,s:o}", "path", p->config.store, "size_bytes",
        (json_int_t)total, "free_bytes", (json_int_t)room, "used_bytes",
        (json_int_t)((uint64_t)space.slots * space.segment_bytes), "reserve_bytes",
        (json_int_t)(log_params_default().reserve_segments * space.segment_bytes), "newest",
        reply_moment(engine_recorded_whole(p->engine), log_wall_ns(p->log)), "durable_sequence",
        (json_int_t)log_durable(p->log), "recorded_bytes_per_day",
        is_known ? json_integer((json_int_t)p->forecast.bytes_per_day) : json_null(),
        "free_lasts_ns",
        is_known && lasts_ns != UINT64_MAX ? json_integer((json_int_t)lasts_ns) : json_null());
    json_t *arena = json_pack(
        "{s:s,s:I,s:I,s:I}", "made_by", constants_text(&p->constants, CONSTANT_PROGRAM, "unknown"),
        "size_bytes", (json_int_t)c->bytes, "used_bytes",
        (json_int_t)((c->r.buffers.pages - c->r.buffers.free_pages) * (uint64_t)BUFFER_PAGE_BYTES),
        "huge_bytes",
        (json_int_t)(c->bytes / 100 *
                     (uint64_t)c->machine->memory->huge_percent(c->base, c->bytes)));
    struct index_counts n = index_counts(p->index);
    json_t *index = json_pack("{s:I,s:I,s:I,s:I}", "runs", (json_int_t)n.runs, "unmerged",
                              (json_int_t)n.uncovered, "merged", (json_int_t)n.merged,
                              "cache_bytes", (json_int_t)n.cache_bytes);
    struct clean_counts cleaned = clean_counts(p->clean);
    json_t *cleaning =
        json_pack("{s:b,s:I,s:I,s:I,s:I}", "running", clean_is_busy(p->clean), "passes",
                  (json_int_t)cleaned.passes, "segments_freed", (json_int_t)cleaned.segments_freed,
                  "segments_made", (json_int_t)cleaned.segments_made, "moved_bytes",
                  (json_int_t)(cleaned.blocks_moved * BLOCK_BYTES));
    return reply_now(
        p, q,
        json_pack("{s:s,s:s,s:I,s:o,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:I,s:I,s:I,s:I}", "version",
                  PERDURE_VERSION, "state",
                  atomic_load(&p->boot->custody->prepare) == CUSTODY_PREPARE_NONE ? "serving"
                                                                                  : "reloading",
                  "pid", (json_int_t)getpid(), "started_at",
                  reply_time(server_view(&c->r.a, c->r.server)->started_wall_ns), "platform",
                  c->machine->platform, "disks", c->router.ops->name, "reload", reload_json(p),
                  "store", store, "arena", arena, "index", index, "cleaning", cleaning, "listeners",
                  listeners, "volumes", (json_int_t)volumes, "images", (json_int_t)images,
                  "connections", (json_int_t)conn_used(&c->r.a), "alerts",
                  (json_int_t)p->alerts.count));
}

static int clean(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    admin_clean_now(&p->admin);
    return reply_now(p, q, json_object());
}

static int clock_confirm(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    int was = log_clock_suspect(p->log);
    log_clock_confirm(p->log);
    return reply_now(
        p, q, json_pack("{s:b,s:o}", "was_suspect", was, "time", reply_time(log_wall_ns(p->log))));
}

/* More would hold up the turn. */
#define CONNECTIONS_TOLD 1000u

static int connections(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    const struct arena *a = &p->core.r.a;
    json_t *list = json_array();
    uint64_t gone = server_engines_gone(server_view(a, p->core.r.server));
    struct conn_h after = {(uint32_t)ctl_number(&q->args, "after")}, h;
    for (h = conn_next(a, after); h.v && json_array_size(list) < CONNECTIONS_TOLD;
         h = conn_next(a, h)) {
        after = h;
        const struct conn *c = conn_view(a, h);
        const struct nbd *n = nbd_try(a, (struct nbd_h){c->protocol_slot});
        const struct volume *v = n ? volume_try(a, n->volume) : NULL;
        const char *state = c->slot.state != CONN_OPEN || !n || n->slot.state == NBD_PHASE_CLOSING
                                ? "closing"
                            : n->slot.state == NBD_PHASE_TRANSMISSION ? "serving"
                                                                      : "negotiating";
        const struct tls *t = tls_try(a, c->tls);
        const char *tls = !t || !t->keys.v                                ? NULL
                          : tls_keys_view(a, t->keys)->version == TLS_1_3 ? "1.3"
                                                                          : "1.2";
        json_array_append_new(
            list,
            json_pack("{s:I,s:s,s:s,s:s,s:s,s:s?,s:o,s:s?,s:b,s:I,s:I,s:I,s:I,s:I}", "id",
                      (json_int_t)h.v, "protocol", protocol_name(p, c->protocol), "transport",
                      strncmp((const char *)c->peer, "unix:", 5) == 0 ? "unix" : "tcp", "peer",
                      (const char *)c->peer, "state", state, "export",
                      v ? (const char *)v->name : NULL, "connected_at",
                      reply_time(c->accepted_wall_ns), "tls", tls, "preserved",
                      !(c->flags & CONN_NO_POSITIONS), "reloads",
                      (json_int_t)(gone - c->engines_before), "in_flight", (json_int_t)c->requests,
                      "requests", (json_int_t)c->requests_ever, "read_bytes",
                      (json_int_t)c->read_bytes, "written_bytes", (json_int_t)c->written_bytes));
    }
    return reply_now(p, q,
                     json_pack("{s:o,s:o}", "next",
                               h.v ? json_integer((json_int_t)after.v) : json_null(), "connections",
                               list));
}

static int alerts(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    json_t *list = json_array();
    for (uint32_t i = 0; i < p->alerts.count; i++) {
        const struct alert *e = &p->alerts.at[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:o}", "level",
                                              e->level == ALERT_CRITICAL  ? "critical"
                                              : e->level == ALERT_ERROR   ? "error"
                                              : e->level == ALERT_WARNING ? "warning"
                                                                          : "info",
                                              "code", e->code, "subject", e->subject, "text",
                                              e->text, "raised_at", reply_time(e->raised_wall_ns)));
    }
    return reply_now(p, q, json_pack("{s:o}", "alerts", list));
}

static int trace(void *ctx, const struct ctl_request *q) {
    uint32_t deaths_ago = (uint32_t)(ctl_text(&q->args, "deaths_ago")[0] - '0');
    return reply_now(
        ctx, q,
        json_pack("{s:o}", "points",
                  perdured_trace_points(ctx, deaths_ago, ctl_number(&q->args, "limit"))));
}

const struct ctl_handler perdured_handlers[] = {
    {"volume.create", volume_create},
    {"volume.list", volume_list},
    {"volume.show", volume_show},
    {"volume.set", volume_set},
    {"volume.resize", volume_resize},
    {"volume.delete", volume_delete},
    {"volume.undelete", volume_undelete},
    {"volume.accept-loss", volume_accept_loss},
    {"image.open", image_open},
    {"image.list", image_list},
    {"image.close", image_close},
    {"image.promote", image_promote},
    {"restore", restore},
    {"mark.create", mark_create},
    {"mark.list", mark_list_handler},
    {"mark.delete", mark_delete},
    {"diff", diff_handler},
    {"when", when_handler},
    {"history", history_handler},
    {"pins", pins_handler},
    {"status", status},
    {"clean", clean},
    {"clock.confirm", clock_confirm},
    {"scrub.start", scrub_start_handler},
    {"scrub.stop", scrub_stop_handler},
    {"scrub.show", scrub_show_handler},
    {"connections", connections},
    {"reload", reload_handler},
    {"pauses", pauses_handler},
    {"alerts", alerts},
    {"trace", trace},
};
const uint32_t perdured_handler_count = sizeof perdured_handlers / sizeof perdured_handlers[0];
