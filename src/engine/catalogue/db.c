/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/catalogue/db.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/catalogue/vfs.h"

static void fail(struct db *d, int code) {
    int cause = catalogue_vfs_error(d->vfs);
    if (d->error)
        return;
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        d->error = ERR_NOMEM;
        break;
    case SQLITE_FULL:
        d->error = ERR_NOSPC;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* no such table or column: not the schema that was asked for */
    case SQLITE_CONSTRAINT:
        d->error = ERR_INTEGRITY;
        break;
    default:
        d->error = cause ? cause : ERR_IO;
    }
}

static sqlite3_stmt *prepare(struct db *d, const char *sql, const char *format, va_list args) {
    sqlite3_stmt *s = NULL;
    if (d->error || !d->handle)
        return NULL;
    int rc = sqlite3_prepare_v2(d->handle, sql, -1, &s, NULL);
    for (int i = 1; rc == SQLITE_OK && *format; i++, format++) {
        switch (*format) {
        case 'i':
            rc = sqlite3_bind_int64(s, i, (sqlite3_int64)va_arg(args, uint64_t));
            break;
        case 't':
            rc = sqlite3_bind_text(s, i, va_arg(args, const char *), -1, SQLITE_TRANSIENT);
            break;
        case 'b': {
            const void *bytes = va_arg(args, const void *);
            rc = sqlite3_bind_blob64(s, i, bytes, va_arg(args, size_t), SQLITE_TRANSIENT);
            break;
        }
        default:
            must(!"a known letter");
        }
    }
    if (rc == SQLITE_OK)
        return s;
    fail(d, rc);
    sqlite3_finalize(s);
    return NULL;
}

void db_run(struct db *d, const char *sql, const char *format, ...) {
    va_list args;
    va_start(args, format);
    sqlite3_stmt *s = prepare(d, sql, format, args);
    va_end(args);
    while (db_row(d, s))
        ;
    db_end(s);
}

int db_changes(const struct db *d) {
    return d->handle ? sqlite3_changes(d->handle) : 0;
}

sqlite3_stmt *db_query(struct db *d, const char *sql, const char *format, ...) {
    va_list args;
    va_start(args, format);
    sqlite3_stmt *s = prepare(d, sql, format, args);
    va_end(args);
    return s;
}

int db_row(struct db *d, sqlite3_stmt *s) {
    if (!s || d->error)
        return 0;
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        return 1;
    if (rc != SQLITE_DONE)
        fail(d, rc);
    return 0;
}

void db_end(sqlite3_stmt *s) {
    sqlite3_finalize(s);
}

uint64_t db_u64(sqlite3_stmt *s, int column) {
    return (uint64_t)sqlite3_column_int64(s, column);
}

void db_text(sqlite3_stmt *s, int column, char *out, size_t room) {
    const unsigned char *text = sqlite3_column_text(s, column);
    snprintf(out, room, "%s", text ? (const char *)text : "");
}

int db_blob(sqlite3_stmt *s, int column, void *out, size_t bytes) {
    const void *blob = sqlite3_column_blob(s, column);
    if (!blob || (size_t)sqlite3_column_bytes(s, column) != bytes)
        return 0;
    memcpy(out, blob, bytes);
    return 1;
}

int db_one(struct db *d, uint64_t *value, const char *sql, const char *format, ...) {
    va_list args;
    va_start(args, format);
    sqlite3_stmt *s = prepare(d, sql, format, args);
    va_end(args);
    int found = db_row(d, s);
    if (found)
        *value = db_u64(s, 0);
    db_end(s);
    return found;
}

int db_settle(struct db *d) {
    int error = d->error;
    d->error = 0;
    return error;
}

/* exclusive: the cache stays valid between transactions, as nobody else opens the file. persist:
 * the journal is ended by a write into it, which costs the file system no metadata. full: see
 * vfs.c for what a sync promises. */
static const char *const pragmas[] = {
    "PRAGMA page_size = 4096",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = PERSIST",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 1048576",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cache_size = -4096",
};

int db_open(struct db *d, struct catalogue_vfs *vfs, const char *path, int create) {
    must(!d->handle);
    *d = (struct db){.vfs = vfs};
    catalogue_vfs_error(vfs);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(path, &d->handle, flags, catalogue_vfs_name(vfs));
    int tail = VFS_TAIL_BYTES;
    if (rc == SQLITE_OK)
        rc = sqlite3_file_control(d->handle, "main", SQLITE_FCNTL_RESERVE_BYTES, &tail);
    if (rc != SQLITE_OK)
        fail(d, rc);
    for (size_t i = 0; i < sizeof pragmas / sizeof pragmas[0]; i++)
        db_run(d, pragmas[i], "");
    if (d->error) {
        int error = db_settle(d);
        db_close(d);
        return error;
    }
    return 0;
}

void db_close(struct db *d) {
    if (d->handle)
        must(sqlite3_close(d->handle) == SQLITE_OK);
    d->handle = NULL;
}
