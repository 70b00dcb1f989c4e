/* SPDX-License-Identifier: Apache-2.0 */
/* Chosen moments, and the zones of volumes in which only such are promised (catalogue.h, thinning.h). */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "engine/catalogue/catalogue_priv.h"

/* ---- Zones ---- */

void zones_read(struct db *d, uint64_t volume, struct zones *z) {
    z->count = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT from_sequence, step_s FROM zones WHERE volume = ?"
                               " ORDER BY from_sequence LIMIT ?",
                               "ii", volume, (uint64_t)ZONES_MAX);
    while (z->count < ZONES_MAX && db_row(d, s))
        z->at[z->count++] = (struct zone){db_u64(s, 0), (uint32_t)db_u64(s, 1)};
    db_end(s);
}

static void write(struct db *d, uint64_t volume, const struct zones *z) {
    db_run(d, "DELETE FROM zones WHERE volume = ?", "i", volume);
    for (uint32_t i = 0; i < z->count; i++)
        db_run(d, "INSERT INTO zones VALUES(?, ?, ?)", "iii", volume, z->at[i].from,
               (uint64_t)z->at[i].step_s);
}

uint32_t zones_step(const struct zones *z, uint64_t sequence) {
    uint32_t step_s = 0;
    for (uint32_t i = 0; i < z->count && z->at[i].from <= sequence; i++)
        step_s = z->at[i].step_s;
    return step_s;
}

uint64_t zones_fine(const struct zones *z) {
    return z->count ? z->at[z->count - 1].from : 0;
}

static void add(struct zones *z, uint64_t from, uint32_t step_s) {
    if (z->count && z->at[z->count - 1].step_s == step_s)
        return;
    must(z->count < sizeof z->at / sizeof z->at[0]);
    z->at[z->count++] = (struct zone){from, step_s};
}

/* Of what is before `end`, no more is promised than the moments of the step. */
static void thin_before(struct zones *z, uint64_t end, uint32_t step_s) {
    struct zones was = *z;
    if (was.count == 0)
        add(&was, 0, 0);
    z->count = 0;
    for (uint32_t i = 0; i < was.count; i++) {
        struct zone at = was.at[i];
        uint64_t next = i + 1 < was.count ? was.at[i + 1].from : UINT64_MAX;
        if (at.from < end)
            add(z, at.from, at.step_s > step_s ? at.step_s : step_s);
        if (next > end)
            add(z, max_u64(at.from, end), at.step_s);
    }
    /* Policies that change again and again: the oldest are thinned further. */
    for (; z->count > ZONES_MAX; z->count--) {
        if (z->at[0].step_s > z->at[1].step_s)
            z->at[1].step_s = z->at[0].step_s;
        z->at[1].from = z->at[0].from;
        memmove(z->at, z->at + 1, (z->count - 1) * sizeof *z->at);
    }
}

void thinning_read(struct db *d, uint64_t volume, uint64_t levels[THINNING_LEVELS]) {
    int n = 0;
    memset(levels, 0, THINNING_LEVELS * sizeof *levels);
    sqlite3_stmt *s = db_query(
        d, "SELECT age_s, step_s FROM thinning WHERE volume = ? ORDER BY age_s", "i", volume);
    while (n < THINNING_LEVELS && db_row(d, s))
        levels[n++] = thinning_level((uint32_t)db_u64(s, 0), (uint32_t)db_u64(s, 1));
    db_end(s);
}

void thinning_write(struct db *d, uint64_t volume, const uint64_t levels[THINNING_LEVELS]) {
    db_run(d, "DELETE FROM thinning WHERE volume = ?", "i", volume);
    for (int i = 0; i < THINNING_LEVELS && levels[i]; i++)
        db_run(d, "INSERT INTO thinning VALUES(?, ?, ?)", "iii", volume,
               (uint64_t)thinning_age_s(levels[i]), (uint64_t)thinning_step_s(levels[i]));
}

int zones_age(struct db *d, uint64_t volume, uint64_t store_ns, struct zones *z) {
    uint64_t levels[THINNING_LEVELS];
    zones_read(d, volume, z);
    struct zones was = *z;
    thinning_read(d, volume, levels);
    for (int i = 0; i < THINNING_LEVELS && levels[i]; i++) {
        uint64_t age_ns = thinning_age_s(levels[i]) * NS_PER_S, end = 0;
        if (store_ns > age_ns &&
            db_one(d, &end,
                   "SELECT sequence FROM moments WHERE store_ns <= ? ORDER BY store_ns DESC,"
                   " sequence DESC LIMIT 1",
                   "i", store_ns - age_ns))
            thin_before(z, end, thinning_step_s(levels[i]));
    }
    return z->count != was.count || memcmp(z->at, was.at, z->count * sizeof *z->at) != 0;
}

void catalogue_thin(struct db *d, uint64_t volume, uint64_t store_ns) {
    struct zones z;
    if (zones_age(d, volume, store_ns, &z))
        write(d, volume, &z);
}

/* What no volume promises. A volume that is not thinned may be told to be. */
void moments_forget(struct db *d) {
    for (uint32_t n = 0; n <= THINNING_STEPS; n++)
        db_run(d,
               "DELETE FROM moments WHERE step_s < ?1 AND sequence < (SELECT min(coalesce("
               "(SELECT min(from_sequence) FROM zones WHERE volume = volumes.id AND step_s < ?1),"
               " max(horizon, (SELECT min(from_sequence) FROM stretches WHERE"
               " volume = volumes.id)))) FROM volumes)",
               "i", n < THINNING_STEPS ? (uint64_t)thinning_step(n) : INT64_MAX);
}

void zones_trim(struct db *d, uint64_t volume) {
    struct zones z, left = {0};
    uint64_t horizon = 0;
    zones_read(d, volume, &z);
    db_one(d, &horizon, "SELECT horizon FROM volumes WHERE id = ?", "i", volume);
    for (uint32_t i = 0; i < z.count; i++)
        if (i + 1 == z.count || z.at[i + 1].from > horizon)
            add(&left, max_u64(z.at[i].from, horizon), z.at[i].step_s);
    if (left.count == 1)
        left.count = 0; /* all is promised */
    if (z.count)
        write(d, volume, &left);
}

/* ---- Moments ---- */

int moment_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    uint64_t until_ns = 0;
    db_one(d, &until_ns, "SELECT until_ns FROM moments ORDER BY sequence DESC LIMIT 1", "");
    uint32_t step_s = thinning_step_between(until_ns / NS_PER_S, a->now_ns / NS_PER_S);
    if (step_s)
        db_run(d, "INSERT OR IGNORE INTO moments VALUES(?, ?, ?, ?, ?)", "iiiii", a->sequence,
               a->moment_ns, a->now_ns, a->store_ns, (uint64_t)step_s);
    return 0;
}

/* Whether all volumes promise a chosen moment of this step. */
static int all_promise(const struct zones *z, uint32_t count, uint64_t sequence, uint32_t step_s) {
    for (uint32_t i = 0; i < count; i++)
        if (zones_step(&z[i], sequence) > step_s)
            return 0;
    return 1;
}

int zones_promise(struct db *d, uint64_t volume, const struct zones *z, uint64_t sequence) {
    uint64_t one = 0;
    uint32_t step_s = zones_step(z, sequence);
    return step_s == 0 ||
           db_one(d, &one, "SELECT 1 FROM moments WHERE sequence = ? AND step_s >= ?", "ii",
                  sequence, (uint64_t)step_s) ||
           db_one(d, &one, "SELECT 1 FROM marks WHERE volume = ? AND sequence = ? LIMIT 1", "ii",
                  volume, sequence);
}

/* The first promised moment that is not older; where nothing is thinned, that moment itself. */
void zones_first(struct db *d, uint64_t volume, const struct zones *z, uint64_t *sequence,
                 uint64_t *time_ns) {
    uint64_t from = *sequence;
    if (zones_step(z, from) == 0)
        return;
    int found = 0;
    sqlite3_stmt *s = db_query(d,
                               "SELECT sequence, time_ns, step_s FROM moments WHERE sequence >= ?1"
                               " UNION ALL SELECT sequence, time_ns, ?2 FROM marks"
                               " WHERE volume = ?3 AND sequence >= ?1 ORDER BY sequence",
                               "iii", from, INT64_MAX, volume);
    while (!found && db_row(d, s)) {
        uint64_t at = db_u64(s, 0);
        found = db_u64(s, 2) >= zones_step(z, at);
        *sequence = at;
        *time_ns = db_u64(s, 1);
    }
    db_end(s);
}

void catalogue_step_words(uint32_t step_s, char out[STEP_WORDS_BYTES]) {
    static const char *const units[] = {"week", "day", "hour", "minute"};
    static const uint32_t lengths[] = {604800, 86400, 3600, 60};
    int i = 0;
    while (step_s % lengths[i])
        i++;
    if (step_s == lengths[i])
        snprintf(out, STEP_WORDS_BYTES, "%s", units[i]);
    else
        snprintf(out, STEP_WORDS_BYTES, "%u %ss", step_s / lengths[i], units[i]);
}

/* The newest that all promise and that is not after the one asked for; *exact: it shows the same. */
static int find_nearest(struct db *d, const struct catalogue_args *a, const struct zones *z,
                        uint64_t words[4]) {
    uint64_t by_time = (a->flags & CATALOGUE_BY_TIME) != 0;
    uint64_t one = a->volume_count == 1 ? a->volumes[0] : 0;
    int found = 0;
    sqlite3_stmt *s = db_query(
        d,
        "SELECT sequence, time_ns, until_ns, step_s FROM moments WHERE sequence <= ?1 AND"
        " (?2 = 0 OR time_ns <= ?3) UNION ALL SELECT sequence, time_ns, time_ns + 1, ?4 FROM"
        " marks WHERE volume = ?5 AND sequence <= ?1 AND (?2 = 0 OR time_ns <= ?3)"
        " ORDER BY sequence DESC",
        "iiiii", a->sequence, by_time, a->moment_ns, INT64_MAX, one);
    while (!found && db_row(d, s)) {
        words[0] = db_u64(s, 0);
        words[1] = db_u64(s, 1);
        words[2] = by_time ? a->moment_ns < db_u64(s, 2) : words[0] == a->sequence;
        found =
            all_promise(z, a->volume_count, words[0], (uint32_t)min_u64(db_u64(s, 3), UINT32_MAX));
    }
    db_end(s);
    return found;
}

int nearest_rows(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    struct zones z[CATALOGUE_VOLUMES_MAX];
    struct catalogue_object *first = &r->out.objects[0];
    uint32_t step_s = 0;
    for (uint32_t i = 0; i < a->volume_count; i++) {
        int rc = catalogue_volume(d, r, a->volumes[i], &r->out.objects[i]);
        if (rc < 0)
            return rc;
        zones_read(d, a->volumes[i], &z[i]);
        uint32_t here = zones_step(&z[i], a->sequence);
        step_s = here > step_s ? here : step_s;
    }
    if (!find_nearest(d, a, z, r->out.words)) {
        r->out.words[0] = min_u64(a->sequence, 1); /* older than all that is promised */
        r->out.words[1] = r->out.words[2] = 0;
        return 0;
    }
    if (r->out.words[2] || !(a->flags & CATALOGUE_EXACT))
        return 0;
    char each[STEP_WORDS_BYTES], time[CATALOGUE_TIME_BYTES];
    catalogue_step_words(step_s ? step_s : thinning_step(0), each);
    catalogue_time(d, r->out.words[1], time);
    return catalogue_refuse(r, ERR_RANGE,
                            "%s keeps one moment for each %s of that time; the one before is %s",
                            first->name, each, time);
}
