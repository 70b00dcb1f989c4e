/* SPDX-License-Identifier: Apache-2.0 */
/* The horizon of volumes: what it gives up, and what of a volume's past is refused since (the rules
 * stand in catalogue.h). */
#include "base/err.h"
#include "base/units.h"
#include "engine/catalogue/catalogue_priv.h"

void catalogue_oldest(struct db *d, struct catalogue_object *out) {
    sqlite3_stmt *s = db_query(d,
                               "SELECT from_sequence, stretches.created_ns, horizon, horizon_ns"
                               " FROM stretches JOIN volumes ON volumes.id = volume"
                               " WHERE volume = ? ORDER BY from_sequence LIMIT 1",
                               "i", out->id);
    if (db_row(d, s)) {
        int column = db_u64(s, 2) != 0 && db_u64(s, 2) >= db_u64(s, 0) ? 2 : 0;
        out->oldest_sequence = db_u64(s, column);
        out->oldest_ns = db_u64(s, column + 1);
    }
    db_end(s);
    struct zones z;
    zones_read(d, out->id, &z);
    zones_first(d, out->id, &z, &out->oldest_sequence, &out->oldest_ns);
    out->fine_sequence = zones_fine(&z);
    if (out->fine_sequence)
        db_one(d, &out->fine_ns, "SELECT time_ns FROM moments WHERE sequence = ?", "i",
               out->fine_sequence);
}

/* A row holds from its own sequence up to the next row's. The one that shows the horizon stays, and
 * of those before it the ones that show a moment on hold. */
#define TRIM(table)                                                                                \
    "DELETE FROM " table " WHERE volume = ?1 AND from_sequence < (SELECT max(t.from_sequence)"     \
    " FROM " table " t WHERE t.volume = ?1 AND t.from_sequence <= (SELECT horizon FROM volumes"    \
    " WHERE id = ?1)) AND NOT EXISTS(SELECT 1 FROM marks WHERE marks.volume = ?1 AND hold != 0"    \
    " AND sequence >= " table ".from_sequence AND sequence < (SELECT min(n.from_sequence)"         \
    " FROM " table " n WHERE n.volume = ?1 AND n.from_sequence > " table ".from_sequence))"

void catalogue_trim(struct db *d, uint64_t volume) {
    db_run(d, TRIM("stretches"), "i", volume);
    db_run(d, TRIM("sizes"), "i", volume);
    zones_trim(d, volume);
}

int horizon_rows(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    for (uint32_t i = 0; i < a->volume_count; i++) {
        uint64_t id = a->volumes[i];
        db_run(d,
               "UPDATE volumes SET horizon = ?2, horizon_ns = ?3 WHERE id = ?1 AND horizon < ?2"
               " AND (?4 = 0 OR retain_ns = ?4) AND (?5 = 0 OR retain_bytes = ?5)",
               "iiiii", id, a->horizons[i], a->horizon_ns[i], a->retained[i], a->retained_bytes[i]);
        db_run(d,
               "DELETE FROM marks WHERE volume = ?1 AND hold = 0 AND"
               " sequence < (SELECT horizon FROM volumes WHERE id = ?1)",
               "i", id);
        if (a->thins[i])
            catalogue_thin(d, id, a->store_ns);
        catalogue_trim(d, id);
        if (catalogue_any_volume(d, r, id, &r->out.objects[i]) == 0)
            catalogue_oldest(d, &r->out.objects[i]);
    }
    moments_forget(d);
    r->detail[0] = 0; /* those that are gone have nothing to give up */
    r->out.count = a->volume_count;
    return 0;
}

/* The first whole second that is not before it. */
void catalogue_time(struct db *d, uint64_t time_ns, char out[CATALOGUE_TIME_BYTES]) {
    out[0] = 0;
    sqlite3_stmt *s = db_query(d, "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?, 'unixepoch')", "i",
                               time_ns / NS_PER_S + (time_ns % NS_PER_S != 0));
    if (db_row(d, s))
        db_text(s, 0, out, CATALOGUE_TIME_BYTES);
    db_end(s);
}

static int given_up(struct db *d, struct catalogue_request *r, const struct catalogue_object *o,
                    uint64_t since_ns) {
    char since[CATALOGUE_TIME_BYTES];
    catalogue_time(d, since_ns, since);
    return catalogue_refuse(r, ERR_RANGE,
                            "%s keeps its history since %s; what was before has been given up",
                            o->name, since);
}

int catalogue_promised(struct db *d, struct catalogue_request *r, uint64_t sequence,
                       struct catalogue_object *out) {
    uint64_t since_ns = 0, hold = 0;
    if (db_one(d, &since_ns, "SELECT horizon_ns FROM volumes WHERE id = ? AND horizon > ?", "ii",
               out->id, sequence) &&
        !db_one(d, &hold,
                "SELECT 1 FROM marks WHERE volume = ? AND hold != 0 AND sequence = ? LIMIT 1", "ii",
                out->id, sequence))
        return given_up(d, r, out, since_ns);
    struct zones z;
    zones_read(d, out->id, &z);
    if (!zones_promise(d, out->id, &z, sequence)) {
        char each[STEP_WORDS_BYTES];
        catalogue_step_words(zones_step(&z, sequence), each);
        return catalogue_refuse(r, ERR_RANGE,
                                "%s keeps one moment for each %s of that time, and not this one",
                                out->name, each);
    }
    return catalogue_volume_at(d, r, sequence, out);
}
