/* SPDX-License-Identifier: Apache-2.0 */
/* All that is promised, for the cleaning merge (catalogue.h, struct keep_promises). */
#include <stdlib.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "engine/catalogue/catalogue_priv.h"

static uint32_t count(struct db *d, const char *sql) {
    uint64_t n = 0;
    db_one(d, &n, sql, "");
    return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

/* One block of memory, as large as the counts say. */
static struct keep_promises *make_keeps(const struct keep_promises *counts) {
    size_t timelines = (size_t)counts->timeline_count * sizeof *counts->timelines;
    size_t moments = (size_t)counts->moment_count * sizeof *counts->moments;
    size_t windows = (size_t)counts->window_count * sizeof *counts->windows;
    size_t chosen = (size_t)counts->chosen_count * sizeof *counts->chosen;
    struct keep_promises *k = calloc(1, sizeof *k + timelines + moments + windows + chosen);
    if (!k)
        return NULL;
    k->timelines = (void *)(k + 1);
    k->moments = (void *)((char *)k->timelines + timelines);
    k->windows = (void *)((char *)k->moments + moments);
    k->chosen = (void *)((char *)k->windows + windows);
    return k;
}

static void read_timelines(struct db *d, struct keep_promises *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, family, parent, fork_sequence FROM timelines"
                               " ORDER BY id",
                               "");
    while (db_row(d, s))
        k->timelines[k->timeline_count++] = (struct keep_timeline){.id = (uint32_t)db_u64(s, 0),
                                                                   .family = (uint32_t)db_u64(s, 1),
                                                                   .parent = (uint32_t)db_u64(s, 2),
                                                                   .fork_sequence = db_u64(s, 3)};
    db_end(s);
}

static void add_view(struct keep_promises *k, uint64_t timeline, uint64_t family, uint64_t from,
                     uint64_t to, uint32_t step_s) {
    k->moments[k->moment_count++] =
        (struct keep_moments){(uint32_t)timeline, (uint32_t)family, from, to, step_s};
}

/* What the zones leave of a stretch, the moments from..to. */
static void add_stretch(struct keep_promises *k, const struct zones *z, uint64_t timeline,
                        uint64_t family, uint64_t from, uint64_t to) {
    uint64_t begins = from;
    for (uint32_t i = 0; i < z->count && begins <= to; i++) {
        uint64_t ends = i + 1 < z->count ? z->at[i + 1].from - 1 : UINT64_MAX;
        if (ends < begins)
            continue;
        add_view(k, timeline, family, begins, ends < to ? ends : to, z->at[i].step_s);
        begins = ends < to ? ends + 1 : UINT64_MAX;
        if (ends >= to)
            return;
    }
    if (begins <= to)
        add_view(k, timeline, family, begins, to, 0);
}

/* A stretch ends before the next one of its volume begins, and has gone if it ends before the
 * horizon. What is found by the time of its record begins with the horizon, or the first stretch, or where all
 * moments are promised. */
static void read_stretches(struct db *d, struct keep_promises *k) {
    uint64_t volume = 0;
    struct zones z = {0};
    sqlite3_stmt *s = db_query(
        d,
        "SELECT v.id, s.timeline, v.family, max(s.from_sequence, horizon), coalesce((SELECT"
        " min(n.from_sequence) - 1 FROM stretches n WHERE n.volume = v.id AND n.from_sequence >"
        " s.from_sequence), -1) FROM volumes v JOIN stretches s ON s.volume = v.id"
        " ORDER BY v.id, s.from_sequence",
        "");
    while (db_row(d, s)) {
        uint64_t from = db_u64(s, 3), to = db_u64(s, 4);
        if (db_u64(s, 0) != volume) {
            volume = db_u64(s, 0);
            zones_read(d, volume, &z);
            k->windows[k->window_count++] =
                (struct keep_window){(uint32_t)db_u64(s, 2), max_u64(from, zones_fine(&z))};
        }
        if (from <= to)
            add_stretch(k, &z, db_u64(s, 1), db_u64(s, 2), from, to);
    }
    db_end(s);
}

static void read_images(struct db *d, struct keep_promises *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT timelines.id, family FROM images JOIN timelines"
                               " ON timelines.id = timeline ORDER BY images.id",
                               "");
    while (db_row(d, s))
        add_view(k, db_u64(s, 0), db_u64(s, 1), UINT64_MAX, UINT64_MAX, 0);
    db_end(s);
}

/* Without hold: where history is thinned. One that no stretch shows is damage: nothing is to be dropped then. */
static void read_marks(struct db *d, struct keep_promises *k) {
    sqlite3_stmt *s =
        db_query(d,
                 "SELECT timelines.id, family, sequence FROM marks LEFT JOIN timelines"
                 " ON timelines.id = (SELECT timeline FROM stretches WHERE"
                 " stretches.volume = marks.volume AND from_sequence <= sequence"
                 " ORDER BY from_sequence DESC LIMIT 1) WHERE hold != 0 OR marks.volume IN"
                 " (SELECT volume FROM zones) ORDER BY marks.id",
                 "");
    while (db_row(d, s)) {
        if (db_u64(s, 0) == 0)
            d->error = ERR_INTEGRITY;
        else
            add_view(k, db_u64(s, 0), db_u64(s, 1), db_u64(s, 2), db_u64(s, 2), 0);
    }
    db_end(s);
}

static void read_references(struct db *d, struct keep_promises *k) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT theirs.id, theirs.family, ref_sequence FROM range_references"
                               " r JOIN timelines ours ON ours.id = r.timeline AND ours.state = 0"
                               " JOIN timelines theirs ON theirs.id = ref_timeline ORDER BY r.id",
                               "");
    while (db_row(d, s))
        add_view(k, db_u64(s, 0), db_u64(s, 1), db_u64(s, 2), db_u64(s, 2), 0);
    db_end(s);
}

#define THINNED_UP_TO " (SELECT coalesce(max(from_sequence), 0) FROM zones)"

static void read_chosen(struct db *d, struct keep_promises *k) {
    sqlite3_stmt *s = db_query(
        d,
        "SELECT sequence, step_s FROM moments WHERE sequence <=" THINNED_UP_TO " ORDER BY sequence",
        "");
    while (db_row(d, s))
        k->chosen[k->chosen_count++] =
            (struct keep_chosen){.sequence = db_u64(s, 0), .step_s = (uint32_t)db_u64(s, 1)};
    db_end(s);
}

int keeps_rows(struct db *d, struct catalogue_request *r) {
    struct keep_promises room = {
        .timeline_count = count(d, "SELECT count(*) FROM timelines"),
        .moment_count = count(d, "SELECT (SELECT coalesce(sum(1 + (SELECT count(*) FROM zones WHERE"
                                 " zones.volume = stretches.volume)), 0) FROM stretches) +"
                                 " (SELECT count(*) FROM images) +"
                                 " (SELECT count(*) FROM marks) +"
                                 " (SELECT count(*) FROM range_references)"),
        .window_count = count(d, "SELECT count(*) FROM volumes"),
        .chosen_count = count(d, "SELECT count(*) FROM moments WHERE sequence <=" THINNED_UP_TO),
    };
    struct keep_promises *k = make_keeps(&room);
    if (!k)
        return catalogue_refuse(r, ERR_NOMEM, "no memory for what the catalogue promises");
    read_timelines(d, k);
    read_stretches(d, k);
    read_images(d, k);
    read_marks(d, k);
    read_references(d, k);
    read_chosen(d, k);
    must(k->timeline_count <= room.timeline_count && k->moment_count <= room.moment_count &&
         k->window_count <= room.window_count && k->chosen_count <= room.chosen_count);
    if (d->error)
        catalogue_keeps_free(k);
    else
        r->keeps = k;
    return 0;
}

void catalogue_keeps_free(struct keep_promises *k) {
    free(k);
}
