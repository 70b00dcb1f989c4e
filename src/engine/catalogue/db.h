/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQL for this folder. The first failure of SQLite sticks in `error` (a code of base/err.h), and
 * every later call does nothing until db_settle(): a transaction is written as a plain sequence of
 * statements and asked once at its end. What a transaction refuses (a name taken, no such volume) is
 * the return value of its own function and leaves `error` alone.
 */
#ifndef ENGINE_CATALOGUE_DB_H
#define ENGINE_CATALOGUE_DB_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

struct catalogue_vfs;

struct db {
    sqlite3 *handle; /* NULL: not open */
    struct catalogue_vfs *vfs;
    int error;
};

/* Opens the file with the pragmas that this folder relies on. ERR_NOTFOUND if it is missing and
 * `create` is 0; the file's content is not looked at. */
int db_open(struct db *d, struct catalogue_vfs *vfs, const char *path, int create);
void db_close(struct db *d);

/* One statement whose parameters are in `format`: 'i' uint64_t (also a value cast to it), 't' const
 * char *, 'b' const void * and size_t. */
void db_run(struct db *d, const char *sql, const char *format, ...);

/* Rows changed by the last db_run. */
int db_changes(const struct db *d);

/* A query, ready for db_row; NULL after a failure, which db_row and db_end accept. */
sqlite3_stmt *db_query(struct db *d, const char *sql, const char *format, ...);
int db_row(struct db *d, sqlite3_stmt *s); /* 1: there is a row; 0: no more, or a failure */
void db_end(sqlite3_stmt *s);

/* Columns of the row. Text is cut to the room and ends in a NUL. */
uint64_t db_u64(sqlite3_stmt *s, int column);
void db_text(sqlite3_stmt *s, int column, char *out, size_t room);
/* 1 if the column is a blob of just that size. */
int db_blob(sqlite3_stmt *s, int column, void *out, size_t bytes);

/* The first column of the first row; returns 1 if there is one. */
int db_one(struct db *d, uint64_t *value, const char *sql, const char *format, ...);

/* The sticky error, which is thereby cleared. */
int db_settle(struct db *d);

#endif
