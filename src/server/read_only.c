/* SPDX-License-Identifier: Apache-2.0 */
#include "server/read_only.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

static int load(struct read_only *r, int n) {
    const struct file_system *fs = &r->below;
    int file = fs->ops->open(fs->ctx, r->files[n].path, FILE_READ);
    if (file < 0)
        return file == ERR_NOTFOUND ? 0 : file;
    int64_t size = fs->ops->size(fs->ctx, file), got = size;
    r->files[n].bytes = size >= 0 ? malloc((size_t)size + 1) : NULL;
    if (r->files[n].bytes)
        got = fs->ops->read(fs->ctx, file, r->files[n].bytes, (size_t)size, 0);
    fs->ops->close(fs->ctx, file);
    if (size < 0 || !r->files[n].bytes || got != size)
        return size < 0 ? (int)size : !r->files[n].bytes ? ERR_NOMEM : got < 0 ? (int)got : ERR_IO;
    r->files[n].size = r->files[n].room = (uint64_t)size;
    r->files[n].is_there = 1;
    return 0;
}

/* The number of a path; it is read when it is named first. */
static int find(struct read_only *r, const char *path) {
    for (int i = 0; i < r->count; i++)
        if (strcmp(r->files[i].path, path) == 0)
            return i;
    if (r->count == READ_ONLY_FILES_MAX || strlen(path) >= sizeof r->files[0].path)
        return ERR_NOMEM;
    strcpy(r->files[r->count].path, path);
    int err = load(r, r->count);
    return err < 0 ? err : r->count++;
}

static int file_open(void *ctx, const char *path, uint32_t flags) {
    struct read_only *r = ctx;
    int n = find(r, path);
    if (n < 0)
        return n;
    if (!r->files[n].is_there && !(flags & FILE_CREATE))
        return ERR_NOTFOUND;
    if (r->files[n].is_there && (flags & FILE_EXCLUSIVE))
        return ERR_EXISTS;
    r->files[n].is_there = 1;
    return n;
}

static void file_close(void *ctx, int file) {
    (void)ctx, (void)file;
}

static int64_t file_read(void *ctx, int file, void *buf, size_t bytes, uint64_t offset) {
    const struct read_only *r = ctx;
    uint64_t size = r->files[file].size;
    if (offset >= size)
        return 0;
    if (bytes > size - offset)
        bytes = size - offset;
    memcpy(buf, r->files[file].bytes + offset, bytes);
    return (int64_t)bytes;
}

static int grow(struct read_only *r, int file, uint64_t size) {
    if (size > r->files[file].room) {
        uint64_t room = 2 * size;
        unsigned char *grown = realloc(r->files[file].bytes, room);
        if (!grown)
            return ERR_NOMEM;
        r->files[file].bytes = grown;
        r->files[file].room = room;
    }
    if (size > r->files[file].size) {
        memset(r->files[file].bytes + r->files[file].size, 0, size - r->files[file].size);
        r->files[file].size = size;
    }
    return 0;
}

static int64_t file_write(void *ctx, int file, const void *buf, size_t bytes, uint64_t offset) {
    struct read_only *r = ctx;
    int err = grow(r, file, offset + bytes);
    if (err < 0)
        return err;
    memcpy(r->files[file].bytes + offset, buf, bytes);
    return (int64_t)bytes;
}

static int64_t file_size(void *ctx, int file) {
    return (int64_t)((struct read_only *)ctx)->files[file].size;
}

static int file_truncate(void *ctx, int file, uint64_t size) {
    struct read_only *r = ctx;
    if (size <= r->files[file].size)
        r->files[file].size = size;
    return grow(r, file, size);
}

static int file_allocate(void *ctx, int file, uint64_t offset, uint64_t bytes) {
    return grow(ctx, file, offset + bytes);
}

static int file_sync(void *ctx, int file) {
    (void)ctx, (void)file;
    return 0;
}

static int any_dir(void *ctx, const char *path) {
    (void)ctx, (void)path;
    return 0;
}

static int file_rename(void *ctx, const char *from, const char *to) {
    (void)ctx, (void)from, (void)to;
    return ERR_UNSUPPORTED;
}

static int file_remove(void *ctx, const char *path) {
    struct read_only *r = ctx;
    int n = find(r, path);
    if (n < 0)
        return n;
    if (!r->files[n].is_there)
        return ERR_NOTFOUND;
    r->files[n].is_there = 0;
    r->files[n].size = 0;
    return 0;
}

static int file_exists(void *ctx, const char *path) {
    struct read_only *r = ctx;
    int n = find(r, path);
    return n < 0 ? n : r->files[n].is_there;
}

static int file_list(void *ctx, const char *path, void (*each)(void *arg, const char *name),
                     void *arg) {
    struct read_only *r = ctx;
    return r->below.ops->list(r->below.ctx, path, each, arg);
}

static int file_space(void *ctx, uint64_t *total_bytes, uint64_t *free_bytes) {
    struct read_only *r = ctx;
    return r->below.ops->space(r->below.ctx, total_bytes, free_bytes);
}

static void file_forget(void *ctx, int file) {
}

struct file_system read_only_files(struct read_only *r, struct file_system below) {
    static const struct file_ops ops = {file_open,   file_close,    file_read,     file_write,
                                        file_size,   file_truncate, file_allocate, file_sync,
                                        file_forget, any_dir,       any_dir,       file_rename,
                                        file_remove, file_exists,   file_list,     file_space};
    *r = (struct read_only){.below = below};
    return (struct file_system){&ops, r};
}

void read_only_close(struct read_only *r) {
    for (int i = 0; i < READ_ONLY_FILES_MAX; i++)
        free(r->files[i].bytes);
}
