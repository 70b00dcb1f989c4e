/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of volumes: made, resized, put into the trash and out of it, purged; and what the other files
 * of this folder ask about volumes. */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "engine/catalogue/catalogue_priv.h"

uint64_t catalogue_new_id(struct db *d) {
    uint64_t id = 0;
    db_one(d, &id, "UPDATE store SET next_id = next_id + 1 RETURNING next_id - 1", "");
    return id;
}

int catalogue_new_timeline(struct db *d, struct catalogue_request *r, uint32_t family,
                           uint32_t parent, uint64_t fork_sequence, uint64_t first_sequence,
                           struct catalogue_timeline *out) {
    uint64_t live = 0, id = 0;
    db_one(d, &live, "SELECT count(*) FROM timelines WHERE state = 0", "");
    if (live >= CATALOGUE_TIMELINES_MAX)
        return catalogue_refuse(r, ERR_NOMEM, "the store has %u timelines, its limit",
                                CATALOGUE_TIMELINES_MAX);
    db_one(d, &id, "UPDATE store SET next_timeline = next_timeline + 1 RETURNING next_timeline - 1",
           "");
    if (id > UINT32_MAX)
        return catalogue_refuse(r, ERR_NOMEM, "all timeline numbers have been used");
    *out = (struct catalogue_timeline){.id = (uint32_t)id,
                                       .family = family ? family : (uint32_t)id,
                                       .parent = parent,
                                       .fork_sequence = fork_sequence,
                                       .first_sequence = first_sequence};
    db_run(d, "INSERT INTO timelines VALUES(?, ?, ?, ?, ?, 0, ?)", "iiiiii", id,
           (uint64_t)out->family, (uint64_t)parent, fork_sequence, first_sequence, r->args.now_ns);
    return 0;
}

int catalogue_timeline(struct db *d, uint64_t id, struct catalogue_timeline *out) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, family, parent, fork_sequence, first_sequence"
                               " FROM timelines WHERE id = ?",
                               "i", id);
    int found = db_row(d, s);
    if (found)
        *out = (struct catalogue_timeline){.id = (uint32_t)db_u64(s, 0),
                                           .family = (uint32_t)db_u64(s, 1),
                                           .parent = (uint32_t)db_u64(s, 2),
                                           .fork_sequence = db_u64(s, 3),
                                           .first_sequence = db_u64(s, 4)};
    db_end(s);
    return found;
}

int catalogue_room(struct db *d, struct catalogue_request *r, uint32_t more) {
    uint64_t n = 0;
    db_one(d, &n, "SELECT (SELECT count(*) FROM volumes) + (SELECT count(*) FROM images)", "");
    if (n + more <= CATALOGUE_OBJECTS_MAX)
        return 0;
    return catalogue_refuse(r, ERR_NOMEM,
                            "the store has %u volumes and images, the trash included, of at most "
                            "%u",
                            (unsigned)n, CATALOGUE_OBJECTS_MAX);
}

int catalogue_name_free(struct db *d, struct catalogue_request *r, const char *name) {
    uint64_t deleted = 0;
    if (db_one(d, &deleted, "SELECT deleted_ns FROM volumes WHERE name = ?", "t", name))
        return catalogue_refuse(r, ERR_EXISTS, "a volume%s is called %s already",
                                deleted ? " in the trash" : "", name);
    return catalogue_room(d, r, 1);
}

int catalogue_any_volume(struct db *d, struct catalogue_request *r, uint64_t id,
                         struct catalogue_object *out) {
    memset(out, 0, sizeof *out);
    sqlite3_stmt *s = db_query(d,
                               "SELECT name, block_size, flags, lost, created_ns, deleted_ns,"
                               " retain_ns, retain_bytes FROM volumes WHERE id = ?",
                               "i", id);
    int found = db_row(d, s);
    if (found) {
        out->id = id;
        db_text(s, 0, out->name, sizeof out->name);
        out->block_size = (uint32_t)db_u64(s, 1);
        out->flags = (uint32_t)db_u64(s, 2);
        out->is_lost = (uint32_t)db_u64(s, 3);
        out->created_ns = db_u64(s, 4);
        out->deleted_ns = db_u64(s, 5);
        out->retain_ns = db_u64(s, 6);
        out->retain_bytes = db_u64(s, 7);
    }
    db_end(s);
    thinning_read(d, id, out->thinning);
    if (!found)
        return catalogue_refuse(r, ERR_NOTFOUND, "the volume is gone");
    return catalogue_volume_at(d, r, INT64_MAX, out);
}

int catalogue_volume(struct db *d, struct catalogue_request *r, uint64_t id,
                     struct catalogue_object *out) {
    int rc = catalogue_any_volume(d, r, id, out);
    if (rc == 0 && out->deleted_ns)
        return catalogue_refuse(r, ERR_NOTFOUND, "%s is in the trash", out->name);
    return rc;
}

int catalogue_volume_at(struct db *d, struct catalogue_request *r, uint64_t sequence,
                        struct catalogue_object *out) {
    uint64_t timeline = 0;
    int found = db_one(d, &timeline,
                       "SELECT timeline FROM stretches WHERE volume = ? AND from_sequence <= ?"
                       " ORDER BY from_sequence DESC LIMIT 1",
                       "ii", out->id, sequence) &&
                db_one(d, &out->size_bytes,
                       "SELECT size_bytes FROM sizes WHERE volume = ? AND from_sequence <= ?"
                       " ORDER BY from_sequence DESC LIMIT 1",
                       "ii", out->id, sequence) &&
                catalogue_timeline(d, timeline, &out->line);
    return found ? 0 : catalogue_refuse(r, ERR_RANGE, "%s did not exist at that moment", out->name);
}

void catalogue_set_stretch(struct db *d, uint64_t volume, uint64_t from_sequence, uint32_t timeline,
                           uint64_t now_ns) {
    db_run(d, "INSERT OR REPLACE INTO stretches VALUES(?, ?, ?, ?)", "iiii", volume, from_sequence,
           (uint64_t)timeline, now_ns);
}

void catalogue_set_size(struct db *d, uint64_t volume, uint64_t from_sequence,
                        uint64_t size_bytes) {
    db_run(d, "INSERT OR REPLACE INTO sizes VALUES(?, ?, ?)", "iii", volume, from_sequence,
           size_bytes);
}

int volume_create_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    int rc = catalogue_name_free(d, r, a->name);
    if (rc < 0)
        return rc;
    struct catalogue_object *o = &r->out.objects[0];
    rc = catalogue_new_timeline(d, r, 0, 0, 0, a->from_sequence, &o->line);
    if (rc < 0)
        return rc;
    o->id = catalogue_new_id(d);
    snprintf(o->name, sizeof o->name, "%s", a->name);
    o->size_bytes = a->size_bytes;
    o->block_size = a->block_size;
    o->flags = a->flags & CATALOGUE_DURABLE_WRITES ? VOLUME_DURABLE_WRITES : 0;
    o->created_ns = a->now_ns;
    o->retain_ns = a->retain_ns;
    o->retain_bytes = a->retain_bytes;
    r->out.count = 1;
    db_run(d, "INSERT INTO volumes VALUES(?, ?, ?, ?, ?, ?, 0, ?, 0, 0, 0, ?, ?)", "itbiiiiii",
           o->id, a->name, (const void *)a->uuid, sizeof a->uuid, (uint64_t)o->line.family,
           (uint64_t)o->block_size, (uint64_t)o->flags, a->now_ns, a->retain_ns, a->retain_bytes);
    memcpy(o->thinning, a->thinning, sizeof o->thinning);
    thinning_write(d, o->id, o->thinning);
    catalogue_set_stretch(d, o->id, a->from_sequence, o->line.id, a->now_ns);
    catalogue_set_size(d, o->id, a->from_sequence, a->size_bytes);
    catalogue_oldest(d, o);
    return 0;
}

int volume_resize_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    struct catalogue_object *o = &r->out.objects[0];
    int rc = catalogue_volume(d, r, a->volumes[0], o);
    if (rc < 0)
        return rc;
    catalogue_set_size(d, o->id, a->from_sequence, a->size_bytes);
    o->size_bytes = a->size_bytes;
    r->out.count = 1;
    return 0;
}

int volume_delete_row(struct db *d, struct catalogue_request *r) {
    struct catalogue_object *o = &r->out.objects[0];
    int rc = catalogue_volume(d, r, r->args.volumes[0], o);
    if (rc < 0)
        return rc;
    o->deleted_ns = r->args.now_ns ? r->args.now_ns : 1;
    db_run(d, "UPDATE volumes SET deleted_ns = ? WHERE id = ?", "ii", o->deleted_ns, o->id);
    r->out.count = 1;
    return 0;
}

int volume_undelete_row(struct db *d, struct catalogue_request *r) {
    db_run(d, "UPDATE volumes SET deleted_ns = 0 WHERE id = ? AND deleted_ns != 0", "i",
           r->args.volumes[0]);
    if (db_changes(d) == 0)
        return catalogue_refuse(r, ERR_NOTFOUND, "the volume is not in the trash");
    r->out.count = 1;
    return catalogue_volume(d, r, r->args.volumes[0], &r->out.objects[0]);
}

int volume_set_row(struct db *d, struct catalogue_request *r) {
    struct catalogue_object *o = &r->out.objects[0];
    int rc = catalogue_volume(d, r, r->args.volumes[0], o);
    if (rc < 0)
        return rc;
    if (!(r->args.flags & CATALOGUE_KEEP_DURABILITY)) {
        o->flags &= ~(uint32_t)VOLUME_DURABLE_WRITES;
        if (r->args.flags & CATALOGUE_DURABLE_WRITES)
            o->flags |= VOLUME_DURABLE_WRITES;
    }
    if (r->args.flags & CATALOGUE_SET_RETAIN)
        o->retain_ns = r->args.retain_ns;
    if (r->args.flags & CATALOGUE_SET_RETAIN_BYTES)
        o->retain_bytes = r->args.retain_bytes;
    if (r->args.flags & CATALOGUE_SET_THINNING) {
        memcpy(o->thinning, r->args.thinning, sizeof o->thinning);
        thinning_write(d, o->id, o->thinning);
    }
    db_run(d, "UPDATE volumes SET flags = ?, retain_ns = ?, retain_bytes = ? WHERE id = ?", "iiii",
           (uint64_t)o->flags, o->retain_ns, o->retain_bytes, o->id);
    r->out.count = 1;
    return 0;
}

/* A family is dead when no volume, not even in the trash, and no image has a timeline of it. */
static int bury_family(struct db *d, uint64_t family, uint64_t now_ns) {
    uint64_t users = 0;
    db_one(d, &users,
           "SELECT (SELECT count(*) FROM volumes WHERE family = ?1) + (SELECT count(*) FROM images"
           " JOIN timelines ON timelines.id = images.timeline WHERE timelines.family = ?1)",
           "i", family);
    if (users)
        return 0;
    db_run(d,
           "DELETE FROM range_references WHERE timeline IN"
           " (SELECT id FROM timelines WHERE family = ?)",
           "i", family);
    db_run(d, "DELETE FROM timelines WHERE family = ?", "i", family);
    db_run(d, "INSERT OR REPLACE INTO dead_families VALUES(?, ?)", "ii", family, now_ns);
    return 1;
}

int volume_purge_row(struct db *d, struct catalogue_request *r) {
    uint64_t id = r->args.volumes[0], family = 0, images = 0, holds = 0;
    if (!db_one(d, &family, "SELECT family FROM volumes WHERE id = ?", "i", id))
        return catalogue_refuse(r, ERR_NOTFOUND, "the volume is gone");
    db_one(d, &images, "SELECT count(*) FROM images WHERE source = ?", "i", id);
    if (images)
        return catalogue_refuse(r, ERR_BUSY, "%u open images show it: close them first",
                                (unsigned)images);
    db_one(d, &holds, "SELECT count(*) FROM marks WHERE volume = ? AND hold != 0", "i", id);
    if (holds && !(r->args.flags & CATALOGUE_FORCE))
        return catalogue_refuse(r, ERR_REFUSED, "%u marks hold its history", (unsigned)holds);
    db_run(d, "DELETE FROM volumes WHERE id = ?", "i", id);
    r->out.words[0] = family;
    r->out.words[1] = (uint64_t)bury_family(d, family, r->args.now_ns);
    return 0;
}

int volume_lost_row(struct db *d, struct catalogue_request *r) {
    uint64_t lost = (r->args.flags & CATALOGUE_SET_LOST) != 0;
    if (r->args.volume_count == 0)
        db_run(d, "UPDATE volumes SET lost = ?", "i", lost);
    if (lost && r->args.sequence > 0)
        db_run(d, "UPDATE store SET losses = ?, lost_before = max(lost_before, ?)", "ii",
               r->args.losses, r->args.sequence);
    for (uint32_t i = 0; i < r->args.volume_count; i++) {
        db_run(d, "UPDATE volumes SET lost = ? WHERE id = ?", "ii", lost, r->args.volumes[i]);
        if (db_changes(d) == 0)
            return catalogue_refuse(r, ERR_NOTFOUND, "the volume is gone");
    }
    return 0;
}
