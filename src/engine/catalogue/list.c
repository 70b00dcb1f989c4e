/* SPDX-License-Identifier: Apache-2.0 */
/* Freed segments; what a cold start reads; lists for people, a page at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/catalogue/catalogue_priv.h"

int segments_free_rows(struct db *d, struct catalogue_request *r) {
    for (uint32_t i = 0; i < r->args.segment_count; i++)
        db_run(d, "INSERT OR IGNORE INTO freed VALUES(?)", "i", (uint64_t)r->args.segments[i]);
    db_run(d, "UPDATE store SET sealed_up_to = max(sealed_up_to, ?)", "i", r->args.sequence);
    return 0;
}

int segments_forget_rows(struct db *d, struct catalogue_request *r) {
    for (uint32_t i = 0; i < r->args.segment_count; i++)
        db_run(d, "DELETE FROM freed WHERE segment = ?", "i", (uint64_t)r->args.segments[i]);
    return 0;
}

int segments_clean_rows(struct db *d, struct catalogue_request *r) {
    segments_free_rows(d, r);
    db_run(d, "DELETE FROM freed WHERE segment = ?", "i", (uint64_t)r->args.cold);
    return 0;
}

static uint32_t count(struct db *d, const char *sql) {
    uint64_t n = 0;
    db_one(d, &n, sql, "");
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void read_numbers(struct db *d, const char *sql, uint32_t *out, uint32_t room) {
    uint32_t n = 0;
    sqlite3_stmt *s = db_query(d, sql, "");
    while (n < room && db_row(d, s))
        out[n++] = (uint32_t)db_u64(s, 0);
    db_end(s);
}

static void read_timelines(struct db *d, struct catalogue_snapshot *snap) {
    uint32_t n = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, family, parent, fork_sequence, first_sequence"
                               " FROM timelines WHERE state = 0 ORDER BY id",
                               "");
    while (n < snap->timeline_count && db_row(d, s))
        snap->timelines[n++] = (struct catalogue_timeline){.id = (uint32_t)db_u64(s, 0),
                                                           .family = (uint32_t)db_u64(s, 1),
                                                           .parent = (uint32_t)db_u64(s, 2),
                                                           .fork_sequence = db_u64(s, 3),
                                                           .first_sequence = db_u64(s, 4)};
    db_end(s);
    snap->timeline_count = n;
}

static uint32_t read_volumes(struct db *d, struct catalogue_request *r,
                             struct catalogue_snapshot *snap) {
    uint32_t n = 0;
    sqlite3_stmt *s = db_query(d, "SELECT id FROM volumes ORDER BY id", "");
    while (n < snap->object_count && db_row(d, s)) {
        if (catalogue_any_volume(d, r, db_u64(s, 0), &snap->objects[n]) < 0)
            d->error = d->error ? d->error : ERR_INTEGRITY;
        catalogue_oldest(d, &snap->objects[n]);
        n++;
    }
    db_end(s);
    return n;
}

/* A writable image waits for accept-loss with its volume. */
static uint32_t read_images(struct db *d, struct catalogue_snapshot *snap, uint32_t n) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, name, source, timeline, sequence, moment_ns, size_bytes,"
                               " block_size, flags, created_ns, lease_ns, flags & ? = 0 AND"
                               " EXISTS(SELECT 1 FROM volumes WHERE volumes.id = source AND lost)"
                               " FROM images ORDER BY id",
                               "i", (uint64_t)VOLUME_READ_ONLY);
    while (n < snap->object_count && db_row(d, s)) {
        struct catalogue_object *o = &snap->objects[n++];
        o->id = db_u64(s, 0);
        db_text(s, 1, o->name, sizeof o->name);
        o->source_id = db_u64(s, 2);
        if (!catalogue_timeline(d, db_u64(s, 3), &o->line))
            d->error = d->error ? d->error : ERR_INTEGRITY;
        o->moment_sequence = db_u64(s, 4);
        o->moment_ns = db_u64(s, 5);
        o->size_bytes = db_u64(s, 6);
        o->block_size = (uint32_t)db_u64(s, 7);
        o->flags = (uint32_t)db_u64(s, 8);
        o->created_ns = db_u64(s, 9);
        o->lease_ns = db_u64(s, 10);
        o->is_lost = (uint32_t)db_u64(s, 11);
    }
    db_end(s);
    return n;
}

/* One block of memory for it all. */
static struct catalogue_snapshot *make_snapshot(const struct catalogue_snapshot *counts) {
    size_t timelines = (size_t)counts->timeline_count * sizeof *counts->timelines;
    size_t objects = (size_t)counts->object_count * sizeof *counts->objects;
    size_t numbers = ((size_t)counts->freed_count + counts->dead_count) * sizeof(uint32_t);
    struct catalogue_snapshot *snap = calloc(1, sizeof *snap + timelines + objects + numbers);
    if (!snap)
        return NULL;
    *snap = *counts;
    snap->timelines = (void *)(snap + 1);
    snap->objects = (void *)((char *)snap->timelines + timelines);
    snap->freed = (void *)((char *)snap->objects + objects);
    snap->dead = snap->freed + snap->freed_count;
    return snap;
}

static int fill_snapshot(struct db *d, struct catalogue_request *r,
                         const struct catalogue_snapshot *counts) {
    struct catalogue_snapshot *snap = make_snapshot(counts);
    if (!snap)
        return catalogue_refuse(r, ERR_NOMEM, "no memory for the catalogue's content");
    read_timelines(d, snap);
    if (snap->object_count > 0)
        snap->object_count = read_images(d, snap, read_volumes(d, r, snap));
    read_numbers(d, "SELECT segment FROM freed ORDER BY segment", snap->freed, snap->freed_count);
    read_numbers(d, "SELECT family FROM dead_families ORDER BY family", snap->dead,
                 snap->dead_count);
    db_one(d, &snap->sealed_up_to, "SELECT sealed_up_to FROM store", "");
    db_one(d, &snap->losses, "SELECT losses FROM store", "");
    db_one(d, &snap->lost_before, "SELECT lost_before FROM store", "");
    if (d->error)
        catalogue_snapshot_free(snap);
    else
        r->snapshot = snap;
    return 0;
}

int snapshot_rows(struct db *d, struct catalogue_request *r) {
    struct catalogue_snapshot counts = {
        .timeline_count = count(d, "SELECT count(*) FROM timelines WHERE state = 0"),
        .object_count = count(d, "SELECT (SELECT count(*) FROM volumes) +"
                                 " (SELECT count(*) FROM images)"),
        .freed_count = count(d, "SELECT count(*) FROM freed"),
        .dead_count = count(d, "SELECT count(*) FROM dead_families"),
    };
    return fill_snapshot(d, r, &counts);
}

int dead_families_rows(struct db *d, struct catalogue_request *r) {
    struct catalogue_snapshot counts = {
        .dead_count = count(d, "SELECT count(*) FROM dead_families"),
    };
    return fill_snapshot(d, r, &counts);
}

void catalogue_snapshot_free(struct catalogue_snapshot *s) {
    free(s);
}

static struct catalogue_row *next_row(struct catalogue_list *list) {
    must(list->count < CATALOGUE_ROWS_MAX);
    struct catalogue_row *row = &list->rows[list->count++];
    memset(row, 0, sizeof *row);
    return row;
}

int list_marks_rows(struct db *d, struct catalogue_request *r) {
    r->list->count = 0;
    sqlite3_stmt *s =
        db_query(d,
                 "SELECT id, volume, label, sequence, time_ns, created_ns, hold"
                 " FROM marks WHERE id > ?1 AND (?2 = 0 OR volume = ?2)"
                 " ORDER BY id LIMIT ?3",
                 "iii", r->args.after, r->args.volumes[0], (uint64_t)CATALOGUE_ROWS_MAX);
    while (db_row(d, s)) {
        struct catalogue_row *row = next_row(r->list);
        row->key = db_u64(s, 0);
        row->volume = db_u64(s, 1);
        db_text(s, 2, row->name, sizeof row->name);
        row->sequence = db_u64(s, 3);
        row->time_ns = db_u64(s, 4);
        row->created_ns = db_u64(s, 5);
        row->is_hold = (uint32_t)db_u64(s, 6);
    }
    db_end(s);
    return 0;
}

/* The key is the number of the row. */
int list_pins_rows(struct db *d, struct catalogue_request *r) {
    r->list->count = 0;
    sqlite3_stmt *s = db_query(
        d,
        "SELECT pin, volume, name, sequence, time_ns, lease_ns FROM ("
        "SELECT 1 AS pin, volume, label AS name, sequence, time_ns, 0 AS lease_ns FROM marks"
        " WHERE hold != 0 UNION ALL "
        "SELECT 2, source, name, sequence, moment_ns, lease_ns FROM images UNION ALL "
        "SELECT 3, s.volume, '', g.ref_sequence, 0, 0 FROM range_references g JOIN stretches s"
        " ON s.timeline = g.timeline)"
        " WHERE ?2 = 0 OR volume = ?2 ORDER BY sequence, pin, volume, name LIMIT ?3 OFFSET ?1",
        "iii", r->args.after, r->args.volumes[0], (uint64_t)CATALOGUE_ROWS_MAX);
    while (db_row(d, s)) {
        struct catalogue_row *row = next_row(r->list);
        row->key = r->args.after + r->list->count;
        row->pin = (enum catalogue_pin)db_u64(s, 0);
        row->volume = db_u64(s, 1);
        db_text(s, 2, row->name, sizeof row->name);
        row->sequence = db_u64(s, 3);
        row->time_ns = db_u64(s, 4);
        row->lease_ns = db_u64(s, 5);
    }
    db_end(s);
    return 0;
}

int list_stretches_rows(struct db *d, struct catalogue_request *r) {
    r->list->count = 0;
    sqlite3_stmt *s =
        db_query(d,
                 "SELECT from_sequence, timeline, created_ns, (SELECT size_bytes"
                 " FROM sizes WHERE sizes.volume = stretches.volume AND"
                 " sizes.from_sequence <= stretches.from_sequence"
                 " ORDER BY sizes.from_sequence DESC LIMIT 1) FROM stretches"
                 " WHERE volume = ? AND from_sequence > ? ORDER BY from_sequence"
                 " LIMIT ?",
                 "iii", r->args.volumes[0], r->args.after, (uint64_t)CATALOGUE_ROWS_MAX);
    while (db_row(d, s)) {
        struct catalogue_row *row = next_row(r->list);
        row->key = row->sequence = db_u64(s, 0);
        row->timeline = (uint32_t)db_u64(s, 1);
        row->created_ns = db_u64(s, 2);
        row->size_bytes = db_u64(s, 3);
    }
    db_end(s);
    return 0;
}
