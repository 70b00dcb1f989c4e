/* SPDX-License-Identifier: Apache-2.0 */
/* Rows that speak of moments: restores of whole volumes and of ranges, marks, and what a volume
 * showed at a moment. The rule of stretches stands in catalogue.h. */
#include <string.h>

#include "base/err.h"
#include "engine/catalogue/catalogue_priv.h"

/* Forgets what the volume showed after the moment. */
static int drop_future(struct db *d, struct catalogue_request *r,
                       const struct catalogue_object *o) {
    uint64_t holds = 0;
    db_one(d, &holds, "SELECT count(*) FROM marks WHERE volume = ? AND hold != 0 AND sequence > ?",
           "ii", o->id, r->args.sequence);
    if (holds && !(r->args.flags & CATALOGUE_FORCE))
        return catalogue_refuse(r, ERR_REFUSED, "%u marks hold what %s was after that moment",
                                (unsigned)holds, o->name);
    db_run(d, "DELETE FROM marks WHERE volume = ? AND sequence > ?", "ii", o->id, r->args.sequence);
    db_run(d, "DELETE FROM stretches WHERE volume = ? AND from_sequence > ?", "ii", o->id,
           r->args.sequence);
    db_run(d, "DELETE FROM sizes WHERE volume = ? AND from_sequence > ?", "ii", o->id,
           r->args.sequence);
    return 0;
}

int restore_rows(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    int destructive = (a->flags & CATALOGUE_DESTRUCTIVE) != 0;
    uint64_t from = destructive ? a->sequence + 1 : a->from_sequence;
    for (uint32_t i = 0; i < a->volume_count; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        int rc = catalogue_volume(d, r, a->volumes[i], o);
        if (rc == 0)
            rc = catalogue_promised(d, r, a->sequence, o);
        if (rc == 0 && destructive)
            rc = drop_future(d, r, o);
        if (rc == 0)
            rc = catalogue_new_timeline(d, r, o->line.family, o->line.id, a->sequence,
                                        a->from_sequence, &o->line);
        if (rc < 0)
            return rc;
        catalogue_set_stretch(d, o->id, from, o->line.id, a->now_ns);
        catalogue_set_size(d, o->id, from, o->size_bytes);
        o->moment_sequence = a->sequence;
        o->moment_ns = a->moment_ns;
        r->out.count = i + 1;
    }
    return 0;
}

int reference_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    struct catalogue_object *o = &r->out.objects[0];
    uint64_t n = 0;
    db_one(d, &n, "SELECT count(*) FROM range_references", "");
    if (n >= CATALOGUE_MARKS_MAX)
        return catalogue_refuse(r, ERR_NOMEM, "the store has %u restored ranges, its limit",
                                CATALOGUE_MARKS_MAX);
    int rc = catalogue_volume(d, r, a->volumes[0], o);
    uint32_t now = o->line.id;
    if (rc == 0)
        rc = catalogue_promised(d, r, a->sequence, o);
    if (rc < 0)
        return rc;
    db_run(d, "INSERT INTO range_references VALUES(?, ?, ?, ?, ?, ?, ?)", "iiiiiii",
           catalogue_new_id(d), (uint64_t)now, a->start_block, a->blocks, (uint64_t)o->line.id,
           a->sequence, a->now_ns);
    o->moment_sequence = a->sequence;
    r->out.count = 1;
    return 0;
}

int mark_row(struct db *d, struct catalogue_request *r) {
    const struct catalogue_args *a = &r->args;
    uint64_t n = 0;
    db_one(d, &n, "SELECT count(*) FROM marks", "");
    if (n + a->volume_count > CATALOGUE_MARKS_MAX)
        return catalogue_refuse(r, ERR_NOMEM, "the store has %u marks, of at most %u", (unsigned)n,
                                CATALOGUE_MARKS_MAX);
    for (uint32_t i = 0; i < a->volume_count; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        int rc = catalogue_volume(d, r, a->volumes[i], o);
        if (rc == 0)
            rc = catalogue_promised(d, r, a->sequence, o);
        if (rc < 0)
            return rc;
        if (db_one(d, &n, "SELECT id FROM marks WHERE volume = ? AND label = ?", "it", o->id,
                   a->name))
            return catalogue_refuse(r, ERR_EXISTS, "%s has a mark called %s already", o->name,
                                    a->name);
        db_run(d, "INSERT INTO marks VALUES(?, ?, ?, ?, ?, ?, ?)", "iitiiii", catalogue_new_id(d),
               o->id, a->name, a->sequence, a->moment_ns, a->now_ns,
               (uint64_t)((a->flags & CATALOGUE_HOLD) != 0));
        r->out.count = i + 1;
    }
    r->out.words[0] = a->sequence;
    r->out.words[1] = a->moment_ns;
    return 0;
}

/* The mark of volumes[i]: 1 if it is there, else 0. words: sequence, time_ns, id, hold. */
static int find_mark(struct db *d, struct catalogue_request *r, uint32_t i, uint64_t words[4]) {
    sqlite3_stmt *s =
        db_query(d, "SELECT sequence, time_ns, id, hold FROM marks WHERE volume = ? AND label = ?",
                 "it", r->args.volumes[i], r->args.name);
    int found = db_row(d, s);
    for (int k = 0; found && k < 4; k++)
        words[k] = db_u64(s, k);
    db_end(s);
    return found;
}

/* All volumes must have the mark, and it must be one moment. */
int mark_find_row(struct db *d, struct catalogue_request *r) {
    uint64_t words[4] = {0};
    for (uint32_t i = 0; i < r->args.volume_count; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        int rc = catalogue_volume(d, r, r->args.volumes[i], o);
        if (rc < 0)
            return rc;
        if (!find_mark(d, r, i, words))
            return catalogue_refuse(r, ERR_NOTFOUND, "%s has no mark called %s", o->name,
                                    r->args.name);
        if (i > 0 && words[0] != r->out.words[0])
            return catalogue_refuse(r, ERR_AMBIGUOUS, "%s is another moment of %s than of %s",
                                    r->args.name, o->name, r->out.objects[0].name);
        r->out.words[0] = words[0];
        r->out.words[1] = words[1];
        r->out.count = i + 1;
    }
    return 0;
}

int mark_delete_row(struct db *d, struct catalogue_request *r) {
    uint64_t words[4] = {0};
    for (uint32_t i = 0; i < r->args.volume_count; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        int rc = catalogue_volume(d, r, r->args.volumes[i], o);
        if (rc < 0)
            return rc;
        if (!find_mark(d, r, i, words))
            return catalogue_refuse(r, ERR_NOTFOUND, "%s has no mark called %s", o->name,
                                    r->args.name);
        if (words[3] && !(r->args.flags & CATALOGUE_FORCE))
            return catalogue_refuse(r, ERR_REFUSED, "the mark %s of %s holds its moment",
                                    r->args.name, o->name);
        db_run(d, "DELETE FROM marks WHERE id = ?", "i", words[2]);
        r->out.count = i + 1;
    }
    return 0;
}

int resolve_rows(struct db *d, struct catalogue_request *r) {
    for (uint32_t i = 0; i < r->args.volume_count; i++) {
        struct catalogue_object *o = &r->out.objects[i];
        int rc = catalogue_volume(d, r, r->args.volumes[i], o);
        if (rc == 0)
            rc = catalogue_promised(d, r, r->args.sequence, o);
        if (rc < 0)
            return rc;
        o->moment_sequence = r->args.sequence;
        r->out.count = i + 1;
    }
    return 0;
}
