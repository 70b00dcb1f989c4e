/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request is with the runner at a time: it owns the database from job_run to job_done, so the
 * runner's threads and order do not matter.
 *
 * A transaction whose COMMIT fails has an unknown outcome: the disk may hold it or not. The database
 * is closed, opened again, which rolls a half-done commit back, and asked whether the operation is
 * recorded. Only if that fails too does the caller learn ERR_AGAIN.
 */
#include "engine/catalogue/catalogue.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/must.h"
#include "engine/catalogue/catalogue_priv.h"
#include "engine/catalogue/schema.h"
#include "engine/catalogue/vfs.h"

static catalogue_handler *const handlers[CATALOGUE_KINDS] = {
    [CATALOGUE_VOLUME_CREATE] = volume_create_row,
    [CATALOGUE_VOLUME_RESIZE] = volume_resize_row,
    [CATALOGUE_VOLUME_SET] = volume_set_row,
    [CATALOGUE_VOLUME_DELETE] = volume_delete_row,
    [CATALOGUE_VOLUME_UNDELETE] = volume_undelete_row,
    [CATALOGUE_VOLUME_PURGE] = volume_purge_row,
    [CATALOGUE_VOLUME_LOST] = volume_lost_row,
    [CATALOGUE_IMAGE_OPEN] = image_open_rows,
    [CATALOGUE_IMAGE_CLOSE] = image_close_rows,
    [CATALOGUE_IMAGE_PROMOTE] = image_promote_row,
    [CATALOGUE_RESTORE] = restore_rows,
    [CATALOGUE_REFERENCE] = reference_row,
    [CATALOGUE_MARK] = mark_row,
    [CATALOGUE_MARK_DELETE] = mark_delete_row,
    [CATALOGUE_SEGMENTS_FREE] = segments_free_rows,
    [CATALOGUE_SEGMENTS_FORGET] = segments_forget_rows,
    [CATALOGUE_COLD_START] = cold_start_rows,
    [CATALOGUE_HORIZON] = horizon_rows,
    [CATALOGUE_SEGMENTS_CLEAN] = segments_clean_rows,
    [CATALOGUE_ACTIVITY] = activity_rows,
    [CATALOGUE_MOMENT] = moment_row,
    [CATALOGUE_SNAPSHOT] = snapshot_rows,
    [CATALOGUE_DEAD_FAMILIES] = dead_families_rows,
    [CATALOGUE_RESOLVE] = resolve_rows,
    [CATALOGUE_MARK_FIND] = mark_find_row,
    [CATALOGUE_LIST_MARKS] = list_marks_rows,
    [CATALOGUE_LIST_PINS] = list_pins_rows,
    [CATALOGUE_LIST_STRETCHES] = list_stretches_rows,
    [CATALOGUE_LIST_ACTIVITY] = list_activity_rows,
    [CATALOGUE_RATE] = rate_rows,
    [CATALOGUE_LIMITS] = limits_rows,
    [CATALOGUE_KEEPS] = keeps_rows,
    [CATALOGUE_NEAREST] = nearest_rows,
};

int catalogue_refuse(struct catalogue_request *r, int err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->detail, sizeof r->detail, format, args);
    va_end(args);
    return err;
}

/* A result as it stands in `applied`, little endian:
 *
 *   offset 0   4  version, 3
 *          4   4  count
 *          8  32  words
 *         40   -  count objects of RESULT_OBJECT_BYTES, fields in the order of result_object()
 *
 * Versions 1 and 2, which an operation begun by an older program may have left, end their objects with
 * first_sequence and with retain_bytes. */
#define RESULT_VERSION 3u
#define RESULT_HEAD_BYTES 40u
#define RESULT_OBJECT_BYTES (VOLUME_NAME_BYTES + 4 * 6 + 8 * 20)
#define RESULT_OBJECT_BYTES_2 (VOLUME_NAME_BYTES + 4 * 6 + 8 * 14)
#define RESULT_OBJECT_BYTES_1 (VOLUME_NAME_BYTES + 4 * 6 + 8 * 10)
#define RESULT_BYTES_MAX (RESULT_HEAD_BYTES + CATALOGUE_VOLUMES_MAX * RESULT_OBJECT_BYTES)

/* Moves one object to (put) or from its bytes. */
static void result_object(uint8_t *p, size_t bytes, struct catalogue_object *o, int put) {
    const uint8_t *end = p + bytes;
    uint32_t *const words32[] = {&o->block_size, &o->flags,       &o->is_lost,
                                 &o->line.id,    &o->line.family, &o->line.parent};
    uint64_t *const words64[] = {&o->id,
                                 &o->size_bytes,
                                 &o->created_ns,
                                 &o->deleted_ns,
                                 &o->source_id,
                                 &o->moment_sequence,
                                 &o->moment_ns,
                                 &o->lease_ns,
                                 &o->line.fork_sequence,
                                 &o->line.first_sequence,
                                 &o->oldest_sequence,
                                 &o->oldest_ns,
                                 &o->retain_ns,
                                 &o->retain_bytes,
                                 &o->thinning[0],
                                 &o->thinning[1],
                                 &o->thinning[2],
                                 &o->thinning[3],
                                 &o->fine_sequence,
                                 &o->fine_ns};
    if (put)
        memcpy(p, o->name, VOLUME_NAME_BYTES);
    else
        memcpy(o->name, p, VOLUME_NAME_BYTES);
    p += VOLUME_NAME_BYTES;
    for (size_t i = 0; i < sizeof words32 / sizeof words32[0]; i++, p += 4) {
        if (put)
            put_le32(p, *words32[i]);
        else
            *words32[i] = get_le32(p);
    }
    for (size_t i = 0; p < end; i++, p += 8) {
        if (put)
            put_le64(p, *words64[i]);
        else
            *words64[i] = get_le64(p);
    }
}

static size_t result_put(uint8_t *p, struct catalogue_result *out) {
    put_le32(p, RESULT_VERSION);
    put_le32(p + 4, out->count);
    for (int i = 0; i < 4; i++)
        put_le64(p + 8 + 8 * i, out->words[i]);
    for (uint32_t i = 0; i < out->count; i++)
        result_object(p + RESULT_HEAD_BYTES + i * RESULT_OBJECT_BYTES, RESULT_OBJECT_BYTES,
                      &out->objects[i], 1);
    return RESULT_HEAD_BYTES + (size_t)out->count * RESULT_OBJECT_BYTES;
}

static int result_get(uint8_t *p, size_t bytes, struct catalogue_result *out) {
    memset(out, 0, sizeof *out);
    if (bytes < RESULT_HEAD_BYTES || get_le32(p) == 0 || get_le32(p) > RESULT_VERSION)
        return ERR_FORMAT;
    static const size_t sizes[] = {RESULT_OBJECT_BYTES_1, RESULT_OBJECT_BYTES_2,
                                   RESULT_OBJECT_BYTES};
    size_t each = sizes[get_le32(p) - 1];
    if (get_le32(p + 4) > CATALOGUE_VOLUMES_MAX ||
        bytes != RESULT_HEAD_BYTES + (size_t)get_le32(p + 4) * each)
        return ERR_FORMAT;
    out->count = get_le32(p + 4);
    for (int i = 0; i < 4; i++)
        out->words[i] = get_le64(p + 8 + 8 * i);
    for (uint32_t i = 0; i < out->count; i++) {
        result_object(p + RESULT_HEAD_BYTES + i * each, each, &out->objects[i], 0);
        out->objects[i].name[VOLUME_NAME_BYTES - 1] = 0;
    }
    return 0;
}

/* 1: the operation is recorded and its result is in r->out; 0: it is not. */
static int find_applied(struct db *d, struct catalogue_request *r) {
    sqlite3_stmt *s = db_query(d, "SELECT result FROM applied WHERE operation = ? AND step = ?",
                               "ii", r->args.operation, (uint64_t)r->args.step);
    int found = db_row(d, s);
    if (found) {
        uint8_t bytes[RESULT_BYTES_MAX];
        size_t n = (size_t)sqlite3_column_bytes(s, 0);
        if (n > sizeof bytes || !db_blob(s, 0, bytes, n) || result_get(bytes, n, &r->out) < 0)
            d->error = ERR_INTEGRITY;
    }
    db_end(s);
    return found && !d->error;
}

static void record_applied(struct db *d, struct catalogue_request *r) {
    uint8_t bytes[RESULT_BYTES_MAX];
    size_t n = result_put(bytes, &r->out);
    db_run(d, "UPDATE store SET generation = generation + 1", "");
    db_run(d, "INSERT INTO applied SELECT ?, ?, generation, ? FROM store", "iib", r->args.operation,
           (uint64_t)r->args.step, (const void *)bytes, n);
    db_run(d, "DELETE FROM applied WHERE generation <= (SELECT generation FROM store) - ?", "i",
           (uint64_t)CATALOGUE_APPLIED_MAX);
}

static int open_database(struct catalogue *c, struct catalogue_request *r) {
    if (c->db->handle)
        return 0;
    int rc = db_open(c->db, c->vfs, CATALOGUE_PATH, c->is_new);
    if (rc == 0) {
        rc = schema_check(c->db, c->store_id, c->is_new, clock_wall_ns(&c->clock), r->detail,
                          sizeof r->detail);
        int error = db_settle(c->db);
        rc = error ? error : rc;
        if (rc < 0)
            db_close(c->db);
    }
    if (rc == 0)
        c->is_new = 0;
    else if (!r->detail[0])
        catalogue_refuse(r, rc, "the catalogue cannot be opened: %s", err_text(rc));
    return rc;
}

/* The transaction without its outcome: what the handler refused, or what failed. */
static int attempt(struct catalogue *c, struct catalogue_request *r) {
    struct db *d = c->db;
    db_run(d, "BEGIN IMMEDIATE", "");
    if (find_applied(d, r)) {
        db_run(d, "ROLLBACK", "");
        if (db_settle(d))
            db_close(d);
        return 0;
    }
    int rc = d->error ? 0 : handlers[r->kind](d, r);
    if (rc < 0 && !d->error) {
        db_run(d, "ROLLBACK", "");
        int error = db_settle(d);
        if (error)
            db_close(d);
        return rc;
    }
    record_applied(d, r);
    db_run(d, "COMMIT", "");
    int error = db_settle(d);
    if (error) {
        catalogue_refuse(r, error, "the catalogue could not be written: %s", err_text(error));
        db_close(d);
    }
    return error;
}

static int run_transaction(struct catalogue *c, struct catalogue_request *r) {
    must(r->args.operation != 0);
    int rc = attempt(c, r);
    if (rc == 0 || c->db->handle) /* known */
        return rc;
    struct catalogue_request probe = {.args = r->args};
    int opened = open_database(c, &probe);
    int found = opened == 0 && find_applied(c->db, &probe);
    int error = opened < 0 ? opened : db_settle(c->db);
    if (error) {
        memcpy(r->detail, probe.detail, sizeof r->detail);
        db_close(c->db);
        return error == ERR_INTEGRITY || error == ERR_FORMAT ? error : ERR_AGAIN;
    }
    if (found)
        r->out = probe.out;
    return found ? 0 : rc;
}

static int run_query(struct catalogue *c, struct catalogue_request *r) {
    int rc = handlers[r->kind](c->db, r);
    int error = db_settle(c->db);
    if (error) {
        db_close(c->db);
        return catalogue_refuse(r, error, "the catalogue could not be read: %s", err_text(error));
    }
    return rc;
}

static struct catalogue_request *request_of(struct job *job) {
    return (struct catalogue_request *)(void *)((char *)job -
                                                offsetof(struct catalogue_request, job));
}

static void job_run(struct job *job) {
    struct catalogue_request *r = request_of(job);
    struct catalogue *c = r->catalogue;
    r->detail[0] = 0;
    memset(&r->out, 0, sizeof r->out);
    r->result = open_database(c, r);
    if (r->result < 0) {
        /* What could not be opened was not changed, but an earlier try of this operation may have
         * been. */
        if (r->kind < CATALOGUE_QUERIES && (r->result == ERR_IO || r->result == ERR_NOSPC))
            r->result = ERR_AGAIN;
        return;
    }
    r->result = r->kind < CATALOGUE_QUERIES ? run_transaction(c, r) : run_query(c, r);
    if (c->db->handle)
        db_one(c->db, &r->generation, "SELECT generation FROM store", "");
    db_settle(c->db);
}

static void job_done(struct job *job) {
    struct catalogue_request *r = request_of(job);
    struct catalogue *c = r->catalogue;
    must(c->first == r);
    if (r->generation > c->generation)
        c->generation = r->generation;
    c->first = r->next;
    if (c->first)
        c->runner.ops->start(c->runner.ctx, &c->first->job);
    r->next = NULL;
    r->done(r);
}

int catalogue_open(struct catalogue *c, const struct catalogue_config *config) {
    memset(c, 0, sizeof *c);
    c->runner = config->runner;
    c->files = config->files;
    c->clock = config->clock;
    c->is_new = config->is_new;
    memcpy(c->store_id, config->store_id, sizeof c->store_id);
    c->vfs = catalogue_vfs_open(config->files, config->clock, config->random);
    c->db = calloc(1, sizeof *c->db);
    if (c->vfs && c->db)
        return 0;
    catalogue_vfs_close(c->vfs);
    free(c->db);
    return ERR_NOMEM;
}

void catalogue_close(struct catalogue *c) {
    must(!c->first);
    db_close(c->db);
    free(c->db);
    catalogue_vfs_close(c->vfs);
}

void catalogue_submit(struct catalogue *c, struct catalogue_request *r) {
    must(r->kind > 0 && r->kind < CATALOGUE_KINDS && handlers[r->kind]);
    must(r->args.volume_count <= CATALOGUE_VOLUMES_MAX &&
         r->args.segment_count <= CATALOGUE_SEGMENTS_MAX);
    r->catalogue = c;
    r->job.run = job_run;
    r->job.done = job_done;
    r->next = NULL;
    if (c->first) {
        c->last->next = r;
        c->last = r;
        return;
    }
    c->first = c->last = r;
    c->runner.ops->start(c->runner.ctx, &r->job);
}

int catalogue_reap(struct catalogue *c) {
    return c->runner.ops->reap(c->runner.ctx);
}

uint64_t catalogue_generation(const struct catalogue *c) {
    return c->generation;
}
