/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Durability, as SQLite's rollback journal needs it:
 *
 *  1. xSync returns when data and size of the file are durable. The first xSync after an open also
 *     makes the file's name durable: who created it may have died before it did.
 *  2. A journal that looks ended to who opens it is ended durably before anything else happens: its
 *     end may have been written by a process that died, or whose sync failed, before it was durable.
 *     Otherwise the next transaction would overwrite the records of a journal that a power cut
 *     brings back to life. It is written again, as a sync that follows a failed one proves nothing.
 *  3. xDelete with `sync_dir` returns when the name is durably gone.
 *  4. Nothing is promised of writes that are not synced: the device characteristics are 0, and the
 *     sector size is a whole page, so that SQLite never counts on a part of one.
 *
 * A page's checksum is put into SQLite's own buffer when the page is written, to the database or as
 * a before-image to the journal, not into a copy: SQLite never looks at these bytes. The journal's
 * records are page number (32 bits, big endian), page, and SQLite's sum of a few of its bytes; each
 * part is written by a call of its own, and only pages are read in whole pages.
 */
#include "engine/catalogue/vfs.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"

#define VFS_PATH_MAX 128
#define VFS_HEADER_BYTES 100        /* what SQLite reads of page 1 to learn of the rest */
#define VFS_JOURNAL_HEADER_BYTES 28 /* zeroes here end a journal */
#define VFS_CONTENT_BYTES (VFS_PAGE_BYTES - VFS_TAIL_BYTES)
#define JULIAN_UNIX_EPOCH_MS INT64_C(210866760000000)

struct catalogue_vfs {
    sqlite3_vfs vfs;
    struct file_system files;
    struct clock clock;
    struct random_source random;
    int error;
    char name[40];
};

struct vfs_file {
    sqlite3_file base;
    struct catalogue_vfs *v;
    int file;
    int is_database;
    int is_named;                /* its name is known to be durable */
    uint32_t number;             /* what the last write of 4 bytes wrote: a journal's page number */
    sqlite3_int64 number_offset; /* and where */
};

static struct vfs_file *file_of(sqlite3_file *f) {
    return (struct vfs_file *)(void *)f;
}

static struct catalogue_vfs *vfs_of(sqlite3_vfs *v) {
    return v->pAppData;
}

/* Keeps the cause and gives SQLite's own code, which tells a full disk from a broken one. */
static int failed(struct catalogue_vfs *v, int64_t error, int code) {
    v->error = (int)error;
    return error == ERR_NOSPC ? SQLITE_FULL : code;
}

static uint32_t page_crc(const uint8_t *page, uint32_t number) {
    uint8_t seed[4];
    put_le32(seed, number);
    return crc32c(crc32c(0, seed, sizeof seed), page, VFS_CONTENT_BYTES);
}

static void page_seal(const void *buf, uint32_t number) {
    uint8_t *page = (uint8_t *)(uintptr_t)buf;
    put_le32(page + VFS_CONTENT_BYTES, page_crc(page, number));
    put_le32(page + VFS_CONTENT_BYTES + 4, VFS_TAIL_MAGIC);
}

static int page_is_whole(const uint8_t *page, uint32_t number) {
    return get_le32(page + VFS_CONTENT_BYTES + 4) == VFS_TAIL_MAGIC &&
           get_le32(page + VFS_CONTENT_BYTES) == page_crc(page, number);
}

static int x_close(sqlite3_file *f) {
    struct vfs_file *file = file_of(f);
    file->v->files.ops->close(file->v->files.ctx, file->file);
    return SQLITE_OK;
}

static int64_t read_whole(struct vfs_file *f, void *buf, int bytes, sqlite3_int64 offset) {
    int64_t got = 0;
    while (got < bytes) {
        int64_t n = f->v->files.ops->read(f->v->files.ctx, f->file, (char *)buf + got,
                                          (size_t)(bytes - got), (uint64_t)(offset + got));
        if (n < 0)
            return n;
        if (n == 0)
            break;
        got += n;
    }
    return got;
}

static int journal_page_is_whole(struct vfs_file *f, const void *page, sqlite3_int64 offset) {
    uint8_t number[4];
    if (offset < 4 || read_whole(f, number, 4, offset - 4) != 4)
        return 0;
    return page_is_whole(page, get_be32(number));
}

static int x_read(sqlite3_file *f, void *buf, int bytes, sqlite3_int64 offset) {
    struct vfs_file *file = file_of(f);
    int64_t got = read_whole(file, buf, bytes, offset);
    if (got < 0)
        return failed(file->v, got, SQLITE_IOERR_READ);
    if (got < bytes) {
        memset((char *)buf + got, 0, (size_t)(bytes - got));
        return SQLITE_IOERR_SHORT_READ;
    }
    if (bytes != VFS_PAGE_BYTES) /* of the header; or another page size, thus not our file */
        return !file->is_database || bytes <= VFS_HEADER_BYTES
                   ? SQLITE_OK
                   : failed(file->v, ERR_FORMAT, SQLITE_IOERR_DATA);
    int whole = file->is_database ? page_is_whole(buf, (uint32_t)(offset / VFS_PAGE_BYTES) + 1)
                                  : journal_page_is_whole(file, buf, offset);
    return whole ? SQLITE_OK : failed(file->v, ERR_INTEGRITY, SQLITE_IOERR_DATA);
}

static int x_write(sqlite3_file *f, const void *buf, int bytes, sqlite3_int64 offset) {
    struct vfs_file *file = file_of(f);
    if (file->is_database) {
        if (bytes != VFS_PAGE_BYTES || offset % VFS_PAGE_BYTES != 0)
            return failed(file->v, ERR_FORMAT, SQLITE_IOERR_WRITE);
        page_seal(buf, (uint32_t)(offset / VFS_PAGE_BYTES) + 1);
    } else if (bytes == 4) {
        file->number = get_be32(buf);
        file->number_offset = offset;
    } else if (bytes == VFS_PAGE_BYTES && file->number_offset == offset - 4) {
        page_seal(buf, file->number);
    }
    for (int64_t put = 0; put < bytes;) {
        int64_t n =
            file->v->files.ops->write(file->v->files.ctx, file->file, (const char *)buf + put,
                                      (size_t)(bytes - put), (uint64_t)(offset + put));
        if (n <= 0)
            return failed(file->v, n < 0 ? n : ERR_IO, SQLITE_IOERR_WRITE);
        put += n;
    }
    return SQLITE_OK;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 size) {
    struct vfs_file *file = file_of(f);
    int rc = file->v->files.ops->truncate(file->v->files.ctx, file->file, (uint64_t)size);
    return rc < 0 ? failed(file->v, rc, SQLITE_IOERR_TRUNCATE) : SQLITE_OK;
}

static int x_sync(sqlite3_file *f, int flags) {
    struct vfs_file *file = file_of(f);
    int rc = file->v->files.ops->sync(file->v->files.ctx, file->file);
    if (rc == 0 && !file->is_named) {
        rc = file->v->files.ops->sync_dir(file->v->files.ctx, ".");
        file->is_named = rc == 0;
    }
    return rc < 0 ? failed(file->v, rc, SQLITE_IOERR_FSYNC) : SQLITE_OK;
}

static int x_file_size(sqlite3_file *f, sqlite3_int64 *size) {
    struct vfs_file *file = file_of(f);
    *size = file->v->files.ops->size(file->v->files.ctx, file->file);
    return *size < 0 ? failed(file->v, *size, SQLITE_IOERR_FSTAT) : SQLITE_OK;
}

static int x_lock(sqlite3_file *f, int level) {
    return SQLITE_OK;
}

static int x_check_reserved_lock(sqlite3_file *f, int *is_held) {
    *is_held = 0;
    return SQLITE_OK;
}

static int x_file_control(sqlite3_file *f, int op, void *arg) {
    return SQLITE_NOTFOUND;
}

static int x_sector_size(sqlite3_file *f) {
    return VFS_PAGE_BYTES;
}

static int x_device_characteristics(sqlite3_file *f) {
    return 0;
}

static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_file_size,
    .xLock = x_lock,
    .xUnlock = x_lock,
    .xCheckReservedLock = x_check_reserved_lock,
    .xFileControl = x_file_control,
    .xSectorSize = x_sector_size,
    .xDeviceCharacteristics = x_device_characteristics,
};

/* Invariant 2. */
static int journal_settle(struct vfs_file *f) {
    uint8_t header[VFS_JOURNAL_HEADER_BYTES] = {0};
    int64_t got = read_whole(f, header, 1, 0);
    if (got < 0)
        return failed(f->v, got, SQLITE_IOERR_READ);
    if (got == 0 || header[0] != 0)
        return SQLITE_OK;
    int rc = x_write(&f->base, header, sizeof header, 0);
    return rc == SQLITE_OK ? x_sync(&f->base, 0) : rc;
}

static int x_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *out_flags) {
    struct catalogue_vfs *v = vfs_of(vfs);
    struct vfs_file *file = file_of(f);
    file->base.pMethods = NULL;
    if (!path || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL)))
        return failed(v, ERR_UNSUPPORTED, SQLITE_CANTOPEN);
    uint32_t how = FILE_WRITE | (flags & SQLITE_OPEN_CREATE ? FILE_CREATE : 0);
    int number = v->files.ops->open(v->files.ctx, path, how);
    if (number < 0)
        return failed(v, number, SQLITE_CANTOPEN);
    *file = (struct vfs_file){.base.pMethods = &methods,
                              .v = v,
                              .file = number,
                              .is_database = (flags & SQLITE_OPEN_MAIN_DB) != 0,
                              .number_offset = -8};
    if (out_flags)
        *out_flags = flags;
    int rc = file->is_database ? SQLITE_OK : journal_settle(file);
    if (rc != SQLITE_OK) {
        x_close(f);
        file->base.pMethods = NULL;
    }
    return rc;
}

static int x_delete(sqlite3_vfs *vfs, const char *path, int sync_dir) {
    struct catalogue_vfs *v = vfs_of(vfs);
    int rc = v->files.ops->remove(v->files.ctx, path);
    if (rc == ERR_NOTFOUND)
        return SQLITE_IOERR_DELETE_NOENT;
    if (rc == 0 && sync_dir)
        rc = v->files.ops->sync_dir(v->files.ctx, ".");
    return rc < 0 ? failed(v, rc, SQLITE_IOERR_DELETE) : SQLITE_OK;
}

static int x_access(sqlite3_vfs *vfs, const char *path, int flags, int *out) {
    struct catalogue_vfs *v = vfs_of(vfs);
    *out = v->files.ops->exists(v->files.ctx, path);
    return *out < 0 ? failed(v, *out, SQLITE_IOERR_ACCESS) : SQLITE_OK;
}

static int x_full_pathname(sqlite3_vfs *vfs, const char *path, int room, char *out) {
    int n = snprintf(out, (size_t)room, "%s", path);
    return n < 0 || n >= room ? SQLITE_CANTOPEN : SQLITE_OK;
}

static int x_randomness(sqlite3_vfs *vfs, int bytes, char *out) {
    struct catalogue_vfs *v = vfs_of(vfs);
    v->random.ops->fill(v->random.ctx, out, (size_t)bytes);
    return bytes;
}

static int x_sleep(sqlite3_vfs *vfs, int us) {
    return us;
}

static int x_current_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *out) {
    struct catalogue_vfs *v = vfs_of(vfs);
    *out = JULIAN_UNIX_EPOCH_MS + (sqlite3_int64)(clock_wall_ns(&v->clock) / 1000000u);
    return SQLITE_OK;
}

static int x_current_time(sqlite3_vfs *vfs, double *days) {
    sqlite3_int64 ms;
    int rc = x_current_time_ms(vfs, &ms);
    *days = (double)ms / 86400000.0;
    return rc;
}

static int x_last_error(sqlite3_vfs *vfs, int room, char *out) {
    return 0;
}

struct catalogue_vfs *catalogue_vfs_open(struct file_system files, struct clock clock,
                                         struct random_source random) {
    struct catalogue_vfs *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    v->files = files;
    v->clock = clock;
    v->random = random;
    snprintf(v->name, sizeof v->name, "perdure-%llx", (unsigned long long)(uintptr_t)v);
    v->vfs = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = sizeof(struct vfs_file),
        .mxPathname = VFS_PATH_MAX,
        .zName = v->name,
        .pAppData = v,
        .xOpen = x_open,
        .xDelete = x_delete,
        .xAccess = x_access,
        .xFullPathname = x_full_pathname,
        .xRandomness = x_randomness,
        .xSleep = x_sleep,
        .xCurrentTime = x_current_time,
        .xGetLastError = x_last_error,
        .xCurrentTimeInt64 = x_current_time_ms,
    };
    if (sqlite3_vfs_register(&v->vfs, 0) != SQLITE_OK) {
        free(v);
        return NULL;
    }
    return v;
}

void catalogue_vfs_close(struct catalogue_vfs *v) {
    if (!v)
        return;
    sqlite3_vfs_unregister(&v->vfs);
    free(v);
}

const char *catalogue_vfs_name(const struct catalogue_vfs *v) {
    return v->name;
}

int catalogue_vfs_error(struct catalogue_vfs *v) {
    int error = v->error;
    v->error = 0;
    return error;
}
