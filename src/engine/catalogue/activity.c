/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients did to volumes, by seconds, minutes and hours (engine/activity.h). Each second is added to all
 * three; seconds are kept for two hours, minutes for two weeks, hours for five years. A volume takes its rows
 * with it.
 */
#include <string.h>

#include "base/must.h"
#include "base/units.h"
#include "engine/catalogue/catalogue_priv.h"

#define STEPS 3
static const uint64_t steps[STEPS] = {CATALOGUE_SECOND, CATALOGUE_MINUTE, CATALOGUE_HOUR};
static const uint64_t kept[STEPS] = {CATALOGUE_SECONDS_KEPT, CATALOGUE_MINUTES_KEPT,
                                     CATALOGUE_HOURS_KEPT};

#define COLUMN(name) ", " #name
#define PARAMETER(name) ", ?"
#define ADDED(name) ", " #name " = " #name " + excluded." #name
#define SUMMED(name) ", sum(" #name ")"
#define LETTER(name) "i"
#define VALUE(name) , row->counted[ACTIVITY_##name]

static void add(struct db *d, const struct catalogue_activity *row, uint64_t step) {
    db_run(d,
           "INSERT INTO activity(volume, step, time, first_sequence, last_sequence,"
           " last_ns, clean_sequence" ACTIVITY_LIST(
               COLUMN) ") SELECT id, ?, ?, ?, ?, ?, ?" ACTIVITY_LIST(PARAMETER) //
           " FROM volumes WHERE id = ? ON CONFLICT(volume, step, time) DO UPDATE SET"
           " first_sequence = CASE WHEN first_sequence = 0 THEN excluded.first_sequence"
           " ELSE first_sequence END,"
           " last_ns = CASE WHEN excluded.last_sequence > last_sequence THEN excluded.last_ns"
           " ELSE last_ns END, last_sequence = max(last_sequence, excluded.last_sequence),"
           " clean_sequence = max(clean_sequence, excluded.clean_sequence)" //
           ACTIVITY_LIST(ADDED),
           "iiiiii" ACTIVITY_LIST(LETTER) "i", step, row->time - row->time % step,
           row->first_sequence, row->last_sequence, row->last_ns,
           row->clean_sequence ACTIVITY_LIST(VALUE), row->volume);
}

int activity_rows(struct db *d, struct catalogue_request *r) {
    const struct catalogue_activities *a = r->activities;
    for (uint32_t i = 0; i < a->count; i++)
        for (int k = 0; k < STEPS; k++)
            add(d, &a->rows[i], steps[k]);
    for (uint32_t i = 0; i < a->count; i++)
        for (int k = 0; k < STEPS; k++)
            if (a->rows[i].time > kept[k])
                db_run(d, "DELETE FROM activity WHERE volume = ? AND step = ? AND time < ?", "iii",
                       a->rows[i].volume, steps[k], a->rows[i].time - kept[k]);
    return 0;
}

/* The coarsest that the asked one is made of. */
static uint64_t base_of(uint64_t step) {
    int k = STEPS - 1;
    while (k > 0 && step % steps[k] != 0)
        k--;
    return steps[k];
}

int list_activity_rows(struct db *d, struct catalogue_request *r) {
    struct catalogue_activities *out = r->activities;
    const struct catalogue_args *a = &r->args;
    must(a->step_s > 0);
    out->count = 0;
    out->base_s = base_of(a->step_s);
    sqlite3_stmt *s = db_query(
        d,
        "SELECT time - time % ?1 AS t, max(last_sequence), max(last_ns)," //
        " min(CASE WHEN first_sequence = 0 THEN NULL ELSE first_sequence END),"
        " max(clean_sequence)" //
        ACTIVITY_LIST(SUMMED) " FROM activity WHERE volume = ?2 AND step = ?3 AND time >= ?4"
                              " AND time < ?5 GROUP BY t ORDER BY t LIMIT ?6",
        "iiiiii", a->step_s, a->volumes[0], out->base_s, a->from_s, a->to_s,
        (uint64_t)CATALOGUE_ROWS_MAX);
    while (db_row(d, s)) {
        struct catalogue_activity *row = &out->rows[out->count++];
        *row = (struct catalogue_activity){.volume = a->volumes[0],
                                           .time = db_u64(s, 0),
                                           .last_sequence = db_u64(s, 1),
                                           .last_ns = db_u64(s, 2),
                                           .first_sequence = db_u64(s, 3),
                                           .clean_sequence = db_u64(s, 4)};
        for (int c = 0; c < ACTIVITY_COUNTERS; c++)
            row->counted[c] = db_u64(s, 5 + c);
    }
    db_end(s);
    return 0;
}

/* The newest row of this step (in the order of records: the wall clock may have been set), from `from` on and before `to`, that with all after it has more bytes than *room,
 * from which those after it are taken. 0: there is none. */
static int overflow(struct db *d, uint64_t volume, uint64_t step, uint64_t from, uint64_t to,
                    uint64_t *room, struct catalogue_row *out) {
    int found = 0;
    sqlite3_stmt *s = db_query(
        d,
        "SELECT time, recorded_bytes, last_sequence, last_ns FROM activity WHERE volume = ? AND"
        " step = ? AND time >= ? AND time < ? ORDER BY last_sequence DESC",
        "iiii", volume, step, from, to);
    while (!found && db_row(d, s)) {
        uint64_t bytes = db_u64(s, 1);
        found = bytes > *room && db_u64(s, 2) > 0;
        if (!found) {
            *room -= min_u64(bytes, *room);
            continue;
        }
        out->key = db_u64(s, 0);
        out->sequence = db_u64(s, 2);
        out->time_ns = db_u64(s, 3);
    }
    db_end(s);
    return found;
}

/* The oldest moment after which a volume has recorded no more than it is to keep, as closely as is known. */
static int limit_of(struct db *d, uint64_t volume, uint64_t bytes, struct catalogue_row *out) {
    uint64_t room = bytes, from = 0, to = INT64_MAX;
    int found = 0;
    for (int k = STEPS - 1; k >= 0; k--) {
        if (!overflow(d, volume, steps[k], from, to, &room, out))
            break; /* finer ones are not kept for so long */
        found = 1;
        from = out->key;
        to = from + steps[k];
    }
    return found;
}

int limits_rows(struct db *d, struct catalogue_request *r) {
    uint64_t ids[CATALOGUE_ROWS_MAX], bytes[CATALOGUE_ROWS_MAX];
    uint32_t n = 0;
    r->list->count = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT id, retain_bytes FROM volumes WHERE (retain_bytes > 0 OR id"
                               " IN (SELECT volume FROM thinning)) AND id > ? ORDER BY id LIMIT ?",
                               "ii", r->args.after, (uint64_t)CATALOGUE_ROWS_MAX);
    while (n < CATALOGUE_ROWS_MAX && db_row(d, s)) {
        ids[n] = db_u64(s, 0);
        bytes[n++] = db_u64(s, 1);
    }
    db_end(s);
    for (uint32_t i = 0; i < n; i++) {
        struct catalogue_row *row = &r->list->rows[r->list->count++];
        memset(row, 0, sizeof *row);
        if (bytes[i])
            limit_of(d, ids[i], bytes[i], row);
        struct zones z;
        if (zones_age(d, ids[i], r->args.store_ns, &z))
            row->fine_sequence = zones_fine(&z);
        row->key = row->volume = ids[i];
        row->size_bytes = bytes[i];
    }
    return 0;
}

int rate_rows(struct db *d, struct catalogue_request *r) {
    uint64_t from = r->args.from_s, to = r->args.to_s, first = 0;
    db_one(
        d, &r->out.words[0],
        "SELECT coalesce(sum(recorded_bytes), 0) FROM volumes JOIN activity ON volume = volumes.id"
        " AND step = 3600 AND time >= ? AND time < ?",
        "ii", from, to);
    /* A store that is younger than that, or was asleep, has recorded it in less time. */
    if (db_one(d, &first, "SELECT created_ns FROM store", ""))
        first /= NS_PER_S;
    r->out.words[1] = to > max_u64(from, first) ? to - max_u64(from, first) : 0;
    return 0;
}
