/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/timeline/volumes.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"

LAYOUT_FIELDS(timeline, TIMELINE_FIELDS)
const struct arena_table_spec timeline_spec = TABLE_SPEC(timeline, TABLE_TIMELINE, 1);
LAYOUT_FIELDS(volume, VOLUME_FIELDS)
const struct arena_table_spec volume_spec = TABLE_SPEC(volume, TABLE_VOLUME, 1);

static int is_called(const struct volume *v, const char *name) {
    return strcmp((const char *)v->name, name) == 0;
}

struct volume_h volumes_find(const struct arena *a, const char *name) {
    struct volume_h h = {0};
    while ((h = volume_next(a, h)).v) {
        const struct volume *v = volume_view(a, h);
        if (v->slot.state != VOLUME_CREATING && !(v->flags & VOLUME_IMAGE) && is_called(v, name))
            break;
    }
    return h;
}

struct volume_h volumes_find_image(const struct arena *a, const char *volume, const char *image) {
    struct volume_h source = volumes_find(a, volume), h = {0};
    if (!source.v)
        return h;
    uint64_t id = volume_view(a, source)->id;
    while ((h = volume_next(a, h)).v) {
        const struct volume *v = volume_view(a, h);
        if (v->slot.state != VOLUME_CREATING && (v->flags & VOLUME_IMAGE) && v->source_id == id &&
            is_called(v, image))
            break;
    }
    return h;
}

struct volume_h volumes_find_id(const struct arena *a, uint64_t id) {
    struct volume_h h = {0};
    while ((h = volume_next(a, h)).v) {
        const struct volume *v = volume_view(a, h);
        if (v->slot.state != VOLUME_CREATING && v->id == id)
            break;
    }
    return h;
}

int volume_may_lose(const struct volume *v) {
    return v->slot.state == VOLUME_ONLINE &&
           !((v->flags & VOLUME_IMAGE) && (v->flags & VOLUME_READ_ONLY));
}

void volumes_fill(struct arena *a, struct volume_h h, const struct catalogue_object *row,
                  struct timeline_h line) {
    struct volume *v = volume_edit(a, h);
    v->slot.state = row->deleted_ns ? VOLUME_DELETED : row->is_lost ? VOLUME_LOST : VOLUME_ONLINE;
    memcpy(v->name, row->name, sizeof v->name);
    v->name[sizeof v->name - 1] = 0;
    v->id = row->id;
    v->size_bytes = row->size_bytes;
    v->timeline = line;
    v->block_size = row->block_size;
    v->flags = row->flags;
    v->created_ns = row->created_ns;
    v->source_id = row->source_id;
    v->moment_sequence = row->moment_sequence;
    v->moment_ns = row->moment_ns;
    v->lease_until_ns = row->lease_ns;
    v->deleted_ns = row->deleted_ns;
    v->retain_ns = row->retain_ns;
    v->retain_bytes = row->retain_bytes;
    memcpy(v->thinning, row->thinning, sizeof v->thinning);
    if (row->oldest_sequence != 0) {
        v->oldest_sequence = row->oldest_sequence;
        v->oldest_ns = row->oldest_ns;
        v->fine_sequence = row->fine_sequence;
        v->fine_ns = row->fine_ns;
    }
}

void timelines_fill(struct arena *a, struct timeline_h h, const struct catalogue_timeline *row) {
    struct timeline *s = timeline_edit(a, h);
    must(s->slot.state == TIMELINE_CREATING);
    s->slot.state = TIMELINE_LIVE;
    s->id = row->id;
    s->family = row->family;
    s->parent = row->parent;
    s->fork_sequence = row->fork_sequence;
    s->first_sequence = row->first_sequence;
}

uint32_t timelines_bury(struct arena *a, uint32_t family, uint32_t max) {
    uint32_t freed = 0;
    struct timeline_h h = {0}, next;
    for (h = timeline_next(a, h); h.v && freed < max; h = next) {
        const struct timeline *s = timeline_view(a, h);
        next = timeline_next(a, h);
        if (s->slot.state != TIMELINE_LIVE || s->family != family)
            continue;
        timeline_free(a, h);
        freed++;
    }
    return freed;
}

int volumes_load_begin(struct volumes_load *l, const struct catalogue_snapshot *snapshot) {
    *l = (struct volumes_load){.snapshot = snapshot};
    l->lines = calloc(snapshot->timeline_count + 1, sizeof *l->lines);
    return l->lines ? 0 : ERR_NOMEM;
}

void volumes_load_end(struct volumes_load *l) {
    free(l->lines);
    l->lines = NULL;
}

/* Rows of timelines are in the order of their numbers. */
static struct timeline_h line_of(const struct volumes_load *l, uint32_t id) {
    uint32_t low = 0, high = l->snapshot->timeline_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (l->snapshot->timelines[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < l->snapshot->timeline_count && l->snapshot->timelines[low].id == id
               ? l->lines[low]
               : (struct timeline_h){0};
}

static int load_timeline(struct volumes_load *l, struct arena *a, uint32_t i) {
    const struct catalogue_timeline *row = &l->snapshot->timelines[i];
    if (row->id == 0 || row->parent >= row->id || (i > 0 && row[-1].id >= row->id) ||
        (row->parent && !line_of(l, row->parent).v))
        return ERR_INTEGRITY;
    struct timeline_h h = timeline_new(a, TIMELINE_CREATING);
    if (!h.v)
        return ERR_NOMEM;
    timelines_fill(a, h, row);
    l->lines[i] = h;
    return 0;
}

static int load_object(struct volumes_load *l, struct arena *a, uint32_t i) {
    const struct catalogue_object *row = &l->snapshot->objects[i];
    struct timeline_h line = line_of(l, row->line.id);
    if (!line.v)
        return ERR_INTEGRITY;
    struct volume_h h = volume_new(a, VOLUME_CREATING);
    if (!h.v)
        return ERR_NOMEM;
    volumes_fill(a, h, row, line);
    return 0;
}

int volumes_load_turn(struct volumes_load *l, struct arena *a) {
    uint32_t timelines = l->snapshot->timeline_count;
    for (; l->done < timelines + l->snapshot->object_count; l->done++) {
        if (arena_undo_left(a) < ARENA_HANDLER_UNDO_BYTES)
            return 1;
        int rc = l->done < timelines ? load_timeline(l, a, l->done)
                                     : load_object(l, a, l->done - timelines);
        if (rc < 0)
            return rc;
    }
    return 0;
}
