/* SPDX-License-Identifier: Apache-2.0 */
/* All that is promised, for the cleaning merge (catalogue.h, struct catalogue_keeps). */
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/catalogue/catalogue_priv.h"

static uint32_t count(struct db *d, const char *sql) {
    uint64_t n = 0;
    db_one(d, &n, sql, "");
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* One block of memory, as large as the counts say. */
static struct catalogue_keeps *make_keeps(const struct catalogue_keeps *counts) {
    size_t timelines = (size_t)counts->timeline_count * sizeof *counts->timelines;
    size_t views = (size_t)counts->view_count * sizeof *counts->views;
    size_t windows = (size_t)counts->window_count * sizeof *counts->windows;
    struct catalogue_keeps *k = calloc(1, sizeof *k + timelines + views + windows);
    if (!k)
        return NULL;
    k->timelines = (void *)(k + 1);
    k->views = (void *)((char *)k->timelines + timelines);
    k->windows = (void *)((char *)k->views + views);
    return k;
}

static void read_timelines(struct db *d, struct catalogue_keeps *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, family, parent, fork_sequence, first_sequence"
                               " FROM timelines ORDER BY id",
                               "");
    while (db_row(d, s))
        k->timelines[k->timeline_count++] =
            (struct catalogue_timeline){.id = (uint32_t)db_u64(s, 0),
                                        .family = (uint32_t)db_u64(s, 1),
                                        .parent = (uint32_t)db_u64(s, 2),
                                        .fork_sequence = db_u64(s, 3),
                                        .first_sequence = db_u64(s, 4)};
    db_end(s);
}

static struct catalogue_view *add_view(struct catalogue_keeps *k, uint64_t timeline,
                                       uint64_t family, uint64_t from, uint64_t to) {
    struct catalogue_view *v = &k->views[k->view_count++];
    *v = (struct catalogue_view){(uint32_t)timeline, (uint32_t)family, from, to};
    return v;
}

/* A stretch ends before the next one of its volume begins, and has gone if it ends before the
 * horizon. A volume's window begins with its horizon, or with its first stretch. */
static void read_stretches(struct db *d, struct catalogue_keeps *k) {
    uint64_t volume = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT volumes.id, stretches.timeline, volumes.family,"
                               " from_sequence, max(from_sequence, horizon)"
                               " FROM volumes JOIN stretches ON stretches.volume = volumes.id"
                               " ORDER BY volumes.id, from_sequence",
                               "");
    while (db_row(d, s)) {
        uint64_t from = db_u64(s, 4);
        if (db_u64(s, 0) == volume) {
            struct catalogue_view *last = &k->views[k->view_count - 1];
            last->to = db_u64(s, 3) - 1;
            if (last->from > last->to)
                k->view_count--;
        } else {
            k->windows[k->window_count++] = (struct catalogue_window){(uint32_t)db_u64(s, 2), from};
        }
        volume = db_u64(s, 0);
        add_view(k, db_u64(s, 1), db_u64(s, 2), from, UINT64_MAX);
    }
    db_end(s);
}

static void read_images(struct db *d, struct catalogue_keeps *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT timelines.id, family FROM images JOIN timelines"
                               " ON timelines.id = timeline ORDER BY images.id",
                               "");
    while (db_row(d, s))
        add_view(k, db_u64(s, 0), db_u64(s, 1), UINT64_MAX, UINT64_MAX);
    db_end(s);
}

/* A hold that no stretch shows is damage: nothing is to be dropped then. */
static void read_holds(struct db *d, struct catalogue_keeps *k) {
    sqlite3_stmt *s =
        db_query(d,
                 "SELECT timelines.id, family, sequence FROM marks LEFT JOIN timelines"
                 " ON timelines.id = (SELECT timeline FROM stretches WHERE"
                 " stretches.volume = marks.volume AND from_sequence <= sequence"
                 " ORDER BY from_sequence DESC LIMIT 1) WHERE hold != 0 ORDER BY marks.id",
                 "");
    while (db_row(d, s)) {
        if (db_u64(s, 0) == 0)
            d->error = ERR_INTEGRITY;
        else
            add_view(k, db_u64(s, 0), db_u64(s, 1), db_u64(s, 2), db_u64(s, 2));
    }
    db_end(s);
}

static void read_references(struct db *d, struct catalogue_keeps *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT theirs.id, theirs.family, ref_sequence FROM range_references"
                               " r JOIN timelines ours ON ours.id = r.timeline AND ours.state = 0"
                               " JOIN timelines theirs ON theirs.id = ref_timeline ORDER BY r.id",
                               "");
    while (db_row(d, s))
        add_view(k, db_u64(s, 0), db_u64(s, 1), db_u64(s, 2), db_u64(s, 2));
    db_end(s);
}

int keeps_rows(struct db *d, struct catalogue_request *r) {
    struct catalogue_keeps room = {
        .timeline_count = count(d, "SELECT count(*) FROM timelines"),
        .view_count = count(d, "SELECT (SELECT count(*) FROM stretches) +"
                               " (SELECT count(*) FROM images) +"
                               " (SELECT count(*) FROM marks WHERE hold != 0) +"
                               " (SELECT count(*) FROM range_references)"),
        .window_count = count(d, "SELECT count(*) FROM volumes"),
    };
    struct catalogue_keeps *k = make_keeps(&room);
    if (!k)
        return catalogue_refuse(r, ERR_NOMEM, "no memory for what the catalogue promises");
    read_timelines(d, k);
    read_stretches(d, k);
    read_images(d, k);
    read_holds(d, k);
    read_references(d, k);
    must(k->timeline_count <= room.timeline_count && k->view_count <= room.view_count &&
         k->window_count <= room.window_count);
    if (d->error)
        catalogue_keeps_free(k);
    else
        r->keeps = k;
    return 0;
}

void catalogue_keeps_free(struct catalogue_keeps *k) {
    free(k);
}
