/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema. Numbers are unsigned in the program and stored as SQLite's signed 64 bits; times are
 * wall nanoseconds since 1970, sequences those of the log. Ids are never used again: they come from
 * the counters in `store`.
 *
 *   store             one row: identity, counters, generation, which counts transactions, and
 *                     sealed_up_to: when segments were freed, all that was recorded before was sealed;
 *                     losses, lost_before: how much of the log was missing when a loss was declared
 *                     last, and the number that it lay before
 *   migrations        which versions of the schema the file has gone through
 *   applied           committed operations and their results (catalogue.h)
 *   timelines         state 0 live, 1 dropped: nobody shows it, its records are garbage
 *   volumes           deleted_ns 0 live, else in the trash; horizon: its oldest promised moment, 0:
 *                     all since its first stretch; retain_ns, retain_bytes: how much history it is
 *                     to keep, 0: no limit
 *   stretches, sizes  what a volume showed from which sequence on (catalogue.h)
 *   images            disks of open time images; each has a timeline of its own
 *   marks             a mark of several volumes is a row for each
 *   range_references  range := ref_timeline at ref_sequence; pinned until copied
 *   activity          what clients did to a volume in `step` seconds from `time` on (activity.c)
 *   moments           what the whole store showed from time_ns to until_ns, store_ns being the store time
 *                     of the first; step_s: the longest step of which a whole multiple lies between
 *   thinning, zones   of a volume: its policy, and what it has led to (catalogue.h)
 *   freed             segments that may be used again
 *   dead_families     families whose data nobody needs; their segments are freed in the background
 *
 * Version n is made from version n - 1 by schema_steps[n - 1]; a new file goes through all of them.
 */
#include "engine/catalogue/schema.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "engine/activity.h"

static const char *const step_1[] = {
    "CREATE TABLE store(id INTEGER PRIMARY KEY CHECK(id = 1), store_id BLOB NOT NULL,"
    " created_ns INTEGER NOT NULL, generation INTEGER NOT NULL, next_id INTEGER NOT NULL,"
    " next_timeline INTEGER NOT NULL) STRICT",
    "CREATE TABLE migrations(version INTEGER PRIMARY KEY, applied_ns INTEGER NOT NULL) STRICT",
    "CREATE TABLE applied(operation INTEGER NOT NULL, step INTEGER NOT NULL,"
    " generation INTEGER NOT NULL, result BLOB NOT NULL, PRIMARY KEY(operation, step)) STRICT,"
    " WITHOUT ROWID",
    "CREATE INDEX applied_generation ON applied(generation)",
    "CREATE TABLE timelines(id INTEGER PRIMARY KEY, family INTEGER NOT NULL,"
    " parent INTEGER NOT NULL CHECK(parent < id), fork_sequence INTEGER NOT NULL,"
    " first_sequence INTEGER NOT NULL, state INTEGER NOT NULL, created_ns INTEGER NOT NULL) STRICT",
    "CREATE INDEX timelines_family ON timelines(family)",
    "CREATE TABLE volumes(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, uuid BLOB NOT NULL,"
    " family INTEGER NOT NULL, block_size INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " lost INTEGER NOT NULL, created_ns INTEGER NOT NULL, deleted_ns INTEGER NOT NULL) STRICT",
    "CREATE TABLE stretches(volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,"
    " from_sequence INTEGER NOT NULL, timeline INTEGER NOT NULL REFERENCES timelines(id),"
    " created_ns INTEGER NOT NULL, PRIMARY KEY(volume, from_sequence)) STRICT, WITHOUT ROWID",
    "CREATE TABLE sizes(volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,"
    " from_sequence INTEGER NOT NULL, size_bytes INTEGER NOT NULL,"
    " PRIMARY KEY(volume, from_sequence)) STRICT, WITHOUT ROWID",
    "CREATE TABLE images(id INTEGER PRIMARY KEY, name TEXT NOT NULL,"
    " source INTEGER NOT NULL, timeline INTEGER NOT NULL REFERENCES timelines(id),"
    " sequence INTEGER NOT NULL, moment_ns INTEGER NOT NULL, size_bytes INTEGER NOT NULL,"
    " block_size INTEGER NOT NULL, flags INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
    " lease_ns INTEGER NOT NULL, UNIQUE(name, source)) STRICT",
    "CREATE TABLE marks(id INTEGER PRIMARY KEY,"
    " volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE, label TEXT NOT NULL,"
    " sequence INTEGER NOT NULL, time_ns INTEGER NOT NULL, created_ns INTEGER NOT NULL,"
    " hold INTEGER NOT NULL, UNIQUE(volume, label)) STRICT",
    "CREATE TABLE range_references(id INTEGER PRIMARY KEY, timeline INTEGER NOT NULL,"
    " start_block INTEGER NOT NULL, blocks INTEGER NOT NULL, ref_timeline INTEGER NOT NULL,"
    " ref_sequence INTEGER NOT NULL, created_ns INTEGER NOT NULL) STRICT",
    "CREATE TABLE freed(segment INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE dead_families(family INTEGER PRIMARY KEY, since_ns INTEGER NOT NULL) STRICT",
    NULL,
};

static const char *const step_2[] = {
    "ALTER TABLE volumes ADD COLUMN horizon INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE volumes ADD COLUMN horizon_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE volumes ADD COLUMN retain_ns INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE volumes ADD COLUMN retain_bytes INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE store ADD COLUMN sealed_up_to INTEGER NOT NULL DEFAULT 0",
    NULL,
};

#define COLUMN(name) ", " #name " INTEGER NOT NULL"
static const char *const step_3[] = {
    "ALTER TABLE store ADD COLUMN losses INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE store ADD COLUMN lost_before INTEGER NOT NULL DEFAULT 0",
    "CREATE TABLE activity(volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,"
    " step INTEGER NOT NULL, time INTEGER NOT NULL, first_sequence INTEGER NOT NULL,"
    " last_sequence INTEGER NOT NULL, last_ns INTEGER NOT NULL,"
    " clean_sequence INTEGER NOT NULL" ACTIVITY_LIST(COLUMN) //
    ", PRIMARY KEY(volume, step, time)) STRICT, WITHOUT ROWID",
    "CREATE TABLE moments(sequence INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL,"
    " until_ns INTEGER NOT NULL, store_ns INTEGER NOT NULL, step_s INTEGER NOT NULL) STRICT",
    "CREATE INDEX moments_store ON moments(store_ns)",
    "CREATE TABLE thinning(volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,"
    " age_s INTEGER NOT NULL, step_s INTEGER NOT NULL, PRIMARY KEY(volume, age_s)) STRICT,"
    " WITHOUT ROWID",
    "CREATE TABLE zones(volume INTEGER NOT NULL REFERENCES volumes(id) ON DELETE CASCADE,"
    " from_sequence INTEGER NOT NULL, step_s INTEGER NOT NULL,"
    " PRIMARY KEY(volume, from_sequence)) STRICT, WITHOUT ROWID",
    NULL,
};

static const char *const *const schema_steps[SCHEMA_VERSION] = {step_1, step_2, step_3};

static void migrate(struct db *d, uint64_t from, uint64_t now_ns) {
    char sql[64];
    for (uint64_t v = from; v < SCHEMA_VERSION; v++) {
        for (const char *const *s = schema_steps[v]; *s; s++)
            db_run(d, *s, "");
        db_run(d, "INSERT INTO migrations VALUES(?, ?)", "ii", v + 1, now_ns);
    }
    snprintf(sql, sizeof sql, "PRAGMA user_version = %d", SCHEMA_VERSION);
    db_run(d, sql, "");
}

static void make_new(struct db *d, const uint8_t store_id[16], uint64_t now_ns) {
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d", SCHEMA_APPLICATION_ID);
    db_run(d, "BEGIN IMMEDIATE", "");
    db_run(d, sql, "");
    migrate(d, 0, now_ns);
    db_run(d, "INSERT INTO store VALUES(1, ?, ?, 0, 1, 1, 0, 0, 0)", "bi", (const void *)store_id,
           (size_t)16, now_ns);
    db_run(d, "COMMIT", "");
}

static int quick_check(struct db *d, char *detail, size_t room) {
    char text[128] = "";
    sqlite3_stmt *s = db_query(d, "PRAGMA quick_check(1)", "");
    if (db_row(d, s))
        db_text(s, 0, text, sizeof text);
    db_end(s);
    if (d->error || strcmp(text, "ok") == 0)
        return 0;
    snprintf(detail, room, "the catalogue is damaged: %s", text);
    return ERR_INTEGRITY;
}

int schema_check(struct db *d, const uint8_t store_id[16], int is_new, uint64_t now_ns,
                 char *detail, size_t room) {
    uint64_t application = 0, version = 0, tables = 0;
    db_one(d, &application, "PRAGMA application_id", "");
    db_one(d, &version, "PRAGMA user_version", "");
    db_one(d, &tables, "SELECT count(*) FROM sqlite_schema", "");
    if (d->error)
        return 0;
    if (is_new && application == 0 && version == 0 && tables == 0) {
        make_new(d, store_id, now_ns);
    } else if (application != SCHEMA_APPLICATION_ID) {
        snprintf(detail, room, "the file is not a catalogue");
        return ERR_FORMAT;
    } else if (version > SCHEMA_VERSION) {
        snprintf(detail, room, "the catalogue has version %u, this program knows up to %d",
                 (unsigned)version, SCHEMA_VERSION);
        return ERR_UNSUPPORTED;
    } else if (version < SCHEMA_VERSION) {
        db_run(d, "BEGIN IMMEDIATE", "");
        migrate(d, version, now_ns);
        db_run(d, "COMMIT", "");
    }
    int rc = quick_check(d, detail, room);
    if (rc < 0)
        return rc;
    uint8_t found[16] = {0};
    sqlite3_stmt *s = db_query(d, "SELECT store_id FROM store WHERE id = 1", "");
    int ok = db_row(d, s) && db_blob(s, 0, found, sizeof found);
    db_end(s);
    if (d->error)
        return 0;
    if (!ok || memcmp(found, store_id, sizeof found) != 0) {
        snprintf(detail, room, "the catalogue belongs to another store");
        return ERR_INTEGRITY;
    }
    return 0;
}
