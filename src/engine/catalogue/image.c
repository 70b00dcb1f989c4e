/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of time images. An image is a name and a disk for each of its volumes; a disk is a timeline
 * forked from what its volume showed at the moment.
 *
 * Without a name, an image is called VOLUME-SEQUENCE by its first volume, with a further number if
 * that is taken. Names of images on demand contain an '@', so that they never stand in anybody's
 * way.
 */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "engine/catalogue/catalogue_priv.h"

#define IMAGE_NAME_TRIES 1000u

static int image_name_taken(struct db *d, const char *name) {
    uint64_t n = 0;
    return db_one(d, &n, "SELECT 1 FROM images WHERE name = ? LIMIT 1", "t", name);
}

static int name_image(struct db *d, struct catalogue_request *r, const char *volume,
                      char out[VOLUME_NAME_BYTES]) {
    const struct catalogue_args *a = &r->args;
    int on_demand = (a->flags & CATALOGUE_ON_DEMAND) != 0;
    if (a->name[0] && !on_demand) {
        snprintf(out, VOLUME_NAME_BYTES, "%s", a->name);
        return image_name_taken(d, out)
                   ? catalogue_refuse(r, ERR_EXISTS, "an open image is called %s already", out)
                   : 0;
    }
    for (unsigned i = 1; i <= IMAGE_NAME_TRIES; i++) {
        char more[16] = "";
        if (i > 1)
            snprintf(more, sizeof more, "-%u", i);
        /* 36 + 1 + 20 + 5 bytes at most. */
        snprintf(out, VOLUME_NAME_BYTES, "%.36s%c%llu%s", volume, on_demand ? '@' : '-',
                 (unsigned long long)a->sequence, more);
        if (!image_name_taken(d, out))
            return 0;
    }
    return catalogue_refuse(r, ERR_EXISTS, "%u images show this moment already", IMAGE_NAME_TRIES);
}

int image_open_rows(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    char name[VOLUME_NAME_BYTES];
    int rc = catalogue_room(d, r, a->volume_count);
    for (uint32_t i = 0; i < a->volume_count && rc == 0; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        rc = catalogue_volume(d, r, a->volumes[i], o);
        if (rc == 0)
            rc = catalogue_promised(d, r, a->sequence, o);
        if (rc == 0 && i == 0)
            rc = name_image(d, r, o->name, name);
        if (rc == 0)
            rc = catalogue_new_timeline(d, r, o->line.family, o->line.id, a->sequence,
                                        a->from_sequence, &o->line);
        if (rc < 0)
            break;
        memcpy(o->name, name, sizeof name);
        o->source_id = o->id;
        o->id = catalogue_new_id(d);
        o->flags = VOLUME_IMAGE | (a->flags & CATALOGUE_WRITABLE ? 0 : VOLUME_READ_ONLY) |
                   (a->flags & CATALOGUE_ON_DEMAND ? VOLUME_ON_DEMAND : 0);
        o->is_lost = 0;
        o->retain_ns = o->retain_bytes = 0;
        memset(o->thinning, 0, sizeof o->thinning);
        o->created_ns = a->now_ns;
        o->moment_sequence = a->sequence;
        o->moment_ns = a->moment_ns;
        o->lease_ns = a->lease_ns;
        db_run(d, "INSERT INTO images VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", "itiiiiiiiii",
               o->id, o->name, o->source_id, (uint64_t)o->line.id, o->moment_sequence, o->moment_ns,
               o->size_bytes, (uint64_t)o->block_size, (uint64_t)o->flags, o->created_ns,
               o->lease_ns);
        r->out.count = i + 1;
    }
    return rc;
}

/* A timeline that was never written to leaves nothing behind; another's records are in the log, and
 * its number stays known as garbage. */
static void drop_image(struct db *d, uint64_t id, uint64_t timeline, uint64_t flags) {
    db_run(d, "DELETE FROM images WHERE id = ?", "i", id);
    if (flags & VOLUME_READ_ONLY)
        db_run(d, "DELETE FROM timelines WHERE id = ?", "i", timeline);
    else
        db_run(d, "UPDATE timelines SET state = 1 WHERE id = ?", "i", timeline);
}

int image_close_rows(struct db *d, struct catalogue_request *r) {
    for (uint32_t i = 0; i < r->args.volume_count; i++) {
        uint64_t id = r->args.volumes[i], timeline = 0, flags = 0;
        sqlite3_stmt *s = db_query(d, "SELECT timeline, flags FROM images WHERE id = ?", "i", id);
        int found = db_row(d, s);
        if (found) {
            timeline = db_u64(s, 0);
            flags = db_u64(s, 1);
        }
        db_end(s);
        if (!found)
            return catalogue_refuse(r, ERR_NOTFOUND, "the image is gone");
        drop_image(d, id, timeline, flags);
    }
    return 0;
}

int cold_start_rows(struct db *d, struct catalogue_request *r) {
    uint64_t id, timeline, flags;
    for (;;) {
        sqlite3_stmt *s = db_query(d,
                                   "SELECT id, timeline, flags FROM images WHERE flags & ? != 0"
                                   " LIMIT 1",
                                   "i", (uint64_t)VOLUME_ON_DEMAND);
        int found = db_row(d, s);
        if (found) {
            id = db_u64(s, 0);
            timeline = db_u64(s, 1);
            flags = db_u64(s, 2);
        }
        db_end(s);
        if (!found)
            return 0;
        drop_image(d, id, timeline, flags);
    }
}

/* The new volume has its source's history up to now, then the image's own: of an open image just the
 * present is promised, so what it was meanwhile may have been dropped. */
int image_promote_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    struct catalogue_object *o = &r->out.objects[0];
    uint64_t image = a->volumes[0], timeline = 0, source = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT timeline, source, size_bytes, block_size"
                               " FROM images WHERE id = ?",
                               "i", image);
    int found = db_row(d, s);
    if (found) {
        timeline = db_u64(s, 0);
        source = db_u64(s, 1);
        o->size_bytes = db_u64(s, 2);
        o->block_size = (uint32_t)db_u64(s, 3);
    }
    db_end(s);
    if (!found || !catalogue_timeline(d, timeline, &o->line))
        return catalogue_refuse(r, ERR_NOTFOUND, "the image is gone");
    int rc = catalogue_name_free(d, r, a->name);
    if (rc < 0)
        return rc;
    o->id = catalogue_new_id(d);
    snprintf(o->name, sizeof o->name, "%s", a->name);
    o->created_ns = a->now_ns;
    r->out.count = 1;
    db_run(d, "DELETE FROM images WHERE id = ?", "i", image);
    db_run(d,
           "INSERT INTO volumes SELECT ?1, ?2, ?3, ?4, ?5, 0, 0, ?6, 0,"
           " horizon, horizon_ns, retain_ns, retain_bytes FROM volumes WHERE id = ?7",
           "itbiiii", o->id, a->name, (const void *)a->uuid, sizeof a->uuid,
           (uint64_t)o->line.family, (uint64_t)o->block_size, a->now_ns, source);
    db_run(d,
           "INSERT INTO stretches SELECT ?, from_sequence, timeline, created_ns FROM stretches"
           " WHERE volume = ? AND from_sequence < ?",
           "iii", o->id, source, a->from_sequence);
    db_run(d,
           "INSERT INTO sizes SELECT ?, from_sequence, size_bytes FROM sizes"
           " WHERE volume = ? AND from_sequence < ?",
           "iii", o->id, source, a->from_sequence);
    db_run(d, "INSERT INTO thinning SELECT ?, age_s, step_s FROM thinning WHERE volume = ?", "ii",
           o->id, source);
    db_run(d, "INSERT INTO zones SELECT ?, from_sequence, step_s FROM zones WHERE volume = ?", "ii",
           o->id, source);
    catalogue_set_stretch(d, o->id, a->from_sequence, o->line.id, a->now_ns);
    catalogue_set_size(d, o->id, a->from_sequence, o->size_bytes);
    catalogue_trim(d, o->id);
    rc = catalogue_any_volume(d, r, o->id, o);
    catalogue_oldest(d, o);
    return rc;
}
