/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do about an operation that was refused. The engine's sentence (operation.detail) tells what is not
 * right; this is the line that people read below it. It is found by what was asked and by the error's code,
 * never by the sentence.
 */
#include <stdio.h>

#include "base/err.h"
#include "ctl/size.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

static int is_of_image(const struct operation *o) {
    return o->kind == OPERATION_IMAGE_OPEN || o->kind == OPERATION_IMAGE_CLOSE ||
           o->kind == OPERATION_IMAGE_PROMOTE;
}

static int is_of_mark(const struct operation *o) {
    return o->kind == OPERATION_MARK || o->kind == OPERATION_MARK_DELETE;
}

/* Of the volumes that were found, the one whose past is shortest: a later moment shows all of them. */
static const struct volume *newest_volume(const struct arena *a, const struct operation *o) {
    const struct volume *newest = NULL;
    for (uint32_t i = 0; i < o->volume_count; i++) {
        const struct volume *v = volume_try(a, o->volumes[i]);
        if (v && (!newest || v->oldest_sequence > newest->oldest_sequence))
            newest = v;
    }
    return newest;
}

static void exists(const struct operation *o, char *out, size_t room) {
    if (is_of_mark(o))
        snprintf(out, room, "take another label, or delete that mark first: perdure mark list");
    else if (o->kind == OPERATION_IMAGE_OPEN)
        snprintf(out, room, "take another --name, or close that image first: perdure image list");
    else
        snprintf(out, room,
                 "take another name; perdure volume list shows those that are taken, the trash's "
                 "too");
}

static void not_found(const struct operation *o, const struct volume *v, char *out, size_t room) {
    if (v && o->moment_kind == OPERATION_AT_MARK)
        snprintf(out, room,
                 "it is no time either: those are written -5min, 17:00:03, 2026-11-22T17:00:03Z or "
                 "seq:123456; perdure mark list %s shows the marks",
                 (const char *)v->name);
    else if (v && is_of_mark(o))
        snprintf(out, room, "perdure mark list %s shows the marks", (const char *)v->name);
    else if (is_of_image(o) && o->kind != OPERATION_IMAGE_OPEN)
        snprintf(out, room, "perdure image list shows those that are open");
    else
        snprintf(out, room, "perdure volume list shows those that exist, the trash's too");
}

static void refused(const struct operation *o, const struct volume *v, char *out, size_t room) {
    if (v && v->slot.state == VOLUME_LOST)
        snprintf(out, room,
                 "perdure alerts tells what is lost; perdure volume accept-loss %s serves it again",
                 (const char *)v->name);
    else if (v && o->kind == OPERATION_VOLUME_RESIZE && o->size_bytes < v->size_bytes)
        snprintf(out, room,
                 "clients would see its end cut off; --force does that, and what is cut off stays "
                 "in the past");
    else if (v && v->users > 0)
        snprintf(out, room,
                 "disconnect them (perdure connections shows who they are), or say --force");
}

static void out_of_range(const struct operation *o, const struct volume *v, uint64_t newest,
                         char *out, size_t room) {
    char text[MOMENT_TEXT_BYTES];
    int is_past = o->moment <= (o->moment_kind == OPERATION_AT_TIME ? o->now_ns : newest);
    /* A range that was refused is not in the operation. */
    if (o->kind == OPERATION_RESTORE_RANGE && o->length_bytes == 0) {
        size_format(text, v->size_bytes);
        snprintf(out, room, "%s has %s; a range is written OFFSET:LENGTH, as 1G:64M",
                 (const char *)v->name, text);
    } else if (o->moment_kind == OPERATION_AT_NOW) {
        snprintf(out, room, "nothing was recorded since it was made; perdure alerts may tell why");
    } else if (is_past && o->flags & OPERATION_EXACT &&
               o->moment >=
                   (o->moment_kind == OPERATION_AT_TIME ? v->oldest_ns : v->oldest_sequence)) {
        snprintf(out, room, "without --exact that one is taken");
    } else if (is_past) {
        moment_format_utc(v->oldest_ns, text);
        snprintf(out, room, "%s is kept since %s: name a later moment", (const char *)v->name,
                 text);
    }
}

void perdured_hint(const struct perdured *p, const struct operation *o, char out[HINT_BYTES]) {
    size_t room = HINT_BYTES;
    const struct volume *v = newest_volume(&p->core.r.a, o);
    out[0] = 0;
    switch (o->error) {
    case ERR_EXISTS:
        exists(o, out, room);
        break;
    case ERR_NOTFOUND:
        not_found(o, v, out, room);
        break;
    case ERR_REFUSED:
        refused(o, v, out, room);
        break;
    case ERR_RANGE:
        if (v)
            out_of_range(o, v, log_recorded(p->log), out, room);
        break;
    case ERR_NOSPC:
        snprintf(out, room, "make room where the store lies; perdure status shows how much it has");
        break;
    default:
        break;
    }
}
