/* SPDX-License-Identifier: Apache-2.0 */
/* plat/file.h over the simulated disk. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/crc32c.h"
#include "plat/sim/sim_priv.h"

/* What a call begins with: it is counted, and noted in the trace. */
static int begin(struct sim *sim, uint64_t what, const char *path, uint64_t a) {
    int err = sim_tick(sim);
    if (err == 0)
        sim_note(sim, what, path ? hash_bytes(HASH_BYTES_START, path, strlen(path)) : 0, a);
    return err;
}

static int name_fault(struct sim *sim, const char *path) {
    const struct sim_fault *f = sim_fault_hit(sim, SIM_NAME_FAILS, path, 0, 1);
    return f ? f->err : 0;
}

static struct sim_inode *inode_of(struct sim *sim, int file) {
    must(file >= 0 && (uint32_t)file < SIM_OPEN_MAX && sim->files[file].inode);
    return sim->files[file].inode;
}

static int open_file(void *ctx, const char *path, uint32_t flags) {
    struct sim *sim = ctx;
    int err = begin(sim, 'o', path, flags);
    if (err < 0 || (err = sim_name_check(sim, path)) < 0 || (err = name_fault(sim, path)) < 0)
        return err;
    struct sim_inode *inode = sim_name_find(&sim->live, path);
    if (inode && inode->is_dir)
        return ERR_INVAL;
    if (!inode && !((flags & FILE_CREATE) && (flags & FILE_WRITE)))
        return ERR_NOTFOUND;
    if (inode && (flags & FILE_CREATE) && (flags & FILE_EXCLUSIVE))
        return ERR_EXISTS;
    int file = 0;
    while (file < (int)SIM_OPEN_MAX && sim->files[file].inode)
        file++;
    if (file == (int)SIM_OPEN_MAX)
        return ERR_NOMEM;
    if (!inode) {
        inode = sim_inode_new(sim, 0);
        sim_name_bind(sim, path, inode);
    }
    sim_inode_hold(sim, inode, 1);
    sim->files[file] = (struct sim_open){inode, flags};
    return file;
}

static void close_file(void *ctx, int file) {
    struct sim *sim = ctx;
    sim_inode_drop(sim, inode_of(sim, file), 1);
    sim->files[file].inode = NULL;
}

static int64_t read_file(void *ctx, int file, void *buf, size_t bytes, uint64_t offset) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 'r', inode->path, offset);
    if (err < 0)
        return err;
    int64_t n = sim_store_read(sim, inode, offset, buf, bytes);
    sim_note(sim, 'r', (uint64_t)n, n > 0 ? crc32c(0, buf, (size_t)n) : 0);
    return n;
}

static int64_t write_file(void *ctx, int file, const void *buf, size_t bytes, uint64_t offset) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 'w', inode->path, offset);
    if (err < 0)
        return err;
    if (!(sim->files[file].flags & FILE_WRITE))
        return ERR_PERM;
    int64_t n = sim_store_write(sim, inode, offset, buf, bytes, 0);
    sim_note(sim, 'w', (uint64_t)n, crc32c(0, buf, bytes));
    return n >= 0 && (uint64_t)n < bytes ? ERR_IO : n;
}

static int64_t size_of(void *ctx, int file) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 'z', inode->path, inode->size_bytes);
    return err < 0 ? err : (int64_t)inode->size_bytes;
}

static int truncate_file(void *ctx, int file, uint64_t size) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 't', inode->path, size);
    if (err < 0 || (err = name_fault(sim, inode->path)) < 0)
        return err;
    return sim->files[file].flags & FILE_WRITE ? sim_disk_truncate(sim, inode, size) : ERR_PERM;
}

static int allocate(void *ctx, int file, uint64_t offset, uint64_t bytes) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 'a', inode->path, hash_pair(offset, bytes));
    if (err < 0 || (err = name_fault(sim, inode->path)) < 0)
        return err;
    if (!(sim->files[file].flags & FILE_WRITE))
        return ERR_PERM;
    return bytes == 0 ? ERR_INVAL : sim_disk_allocate(sim, inode, offset, bytes);
}

static int sync_file(void *ctx, int file) {
    struct sim *sim = ctx;
    struct sim_inode *inode = inode_of(sim, file);
    int err = begin(sim, 's', inode->path, 0);
    if (err < 0)
        return err;
    const struct sim_fault *f = sim_fault_hit(sim, SIM_SYNC_FAILS, inode->path, 0, UINT64_MAX);
    if (f) {
        sim_disk_sync_failed(sim, inode);
        return f->err;
    }
    sim_disk_sync(inode);
    return 0;
}

static int make_dir(void *ctx, const char *path) {
    struct sim *sim = ctx;
    int err = begin(sim, 'm', path, 0);
    if (err < 0 || (err = sim_name_check(sim, path)) < 0 || (err = name_fault(sim, path)) < 0)
        return err;
    if (sim_name_find(&sim->live, path))
        return ERR_EXISTS;
    sim_name_bind(sim, path, sim_inode_new(sim, 1));
    return 0;
}

static int check_dir(struct sim *sim, const char *path) {
    const struct sim_inode *dir = sim_name_find(&sim->live, path);
    if (strcmp(path, ".") == 0)
        return 0;
    return !dir ? ERR_NOTFOUND : dir->is_dir ? 0 : ERR_INVAL;
}

static int sync_dir(void *ctx, const char *path) {
    struct sim *sim = ctx;
    int err = begin(sim, 'd', path, 0);
    if (err < 0 || (err = check_dir(sim, path)) < 0)
        return err;
    const struct sim_fault *f = sim_fault_hit(sim, SIM_SYNC_FAILS, path, 0, UINT64_MAX);
    if (f)
        return f->err;
    sim_name_sync_dir(sim, path);
    return 0;
}

static int rename_file(void *ctx, const char *from, const char *to) {
    struct sim *sim = ctx;
    int err = begin(sim, 'n', from, hash_bytes(HASH_BYTES_START, to, strlen(to)));
    if (err < 0 || (err = sim_name_check(sim, from)) < 0 || (err = sim_name_check(sim, to)) < 0 ||
        (err = name_fault(sim, from)) < 0)
        return err;
    struct sim_inode *inode = sim_name_find(&sim->live, from);
    struct sim_inode *there = sim_name_find(&sim->live, to);
    if (!inode)
        return ERR_NOTFOUND;
    if (inode->is_dir || (there && there->is_dir))
        return ERR_INVAL;
    if (inode != there)
        sim_name_rename(sim, from, to);
    return 0;
}

static int remove_file(void *ctx, const char *path) {
    struct sim *sim = ctx;
    int err = begin(sim, 'x', path, 0);
    if (err < 0 || (err = sim_name_check(sim, path)) < 0 || (err = name_fault(sim, path)) < 0)
        return err;
    const struct sim_inode *inode = sim_name_find(&sim->live, path);
    if (!inode)
        return ERR_NOTFOUND;
    for (uint32_t b = 0; b < SIM_NAME_BUCKETS && inode->is_dir; b++) {
        for (const struct sim_name *n = sim->live.buckets[b]; n; n = n->next) {
            if (sim_name_in_dir(n->path, path))
                return ERR_BUSY;
        }
    }
    sim_name_remove(sim, path);
    return 0;
}

static int exists(void *ctx, const char *path) {
    struct sim *sim = ctx;
    int err = begin(sim, 'e', path, 0);
    return err < 0 ? err : sim_name_find(&sim->live, path) != NULL;
}

/* The names are copied first: the callback may remove or create files. */
static int list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg) {
    struct sim *sim = ctx;
    int err = begin(sim, 'l', path, 0), count = 0;
    if (err < 0 || (err = check_dir(sim, path)) < 0)
        return err;
    const struct sim_fault *f = sim_fault_hit(sim, SIM_LOOK_FAILS, path, 0, 1);
    if (f)
        return f->err;
    char(*names)[SIM_PATH_MAX] = NULL;
    for (int pass = 0; pass < 2; pass++) {
        count = 0;
        for (uint32_t b = 0; b < SIM_NAME_BUCKETS; b++) {
            for (const struct sim_name *n = sim->live.buckets[b]; n; n = n->next) {
                const char *slash = strrchr(n->path, '/');
                if (!sim_name_in_dir(n->path, path))
                    continue;
                if (names)
                    strcpy(names[count], slash ? slash + 1 : n->path);
                count++;
            }
        }
        if (pass == 0)
            names = sim_alloc((uint64_t)(count + 1) * sizeof *names);
    }
    for (int i = 0; i < count; i++)
        each(arg, names[i]);
    free(names);
    return count;
}

static int space(void *ctx, uint64_t *total_bytes, uint64_t *free_bytes) {
    struct sim *sim = ctx;
    int err = begin(sim, 'f', NULL, sim->used_pages);
    if (err < 0)
        return err;
    const struct sim_fault *f = sim_fault_hit(sim, SIM_LOOK_FAILS, ".", 0, 1);
    if (f)
        return f->err;
    uint64_t used = sim->used_pages * SIM_PAGE_BYTES;
    *total_bytes = sim->options.disk_bytes;
    *free_bytes = used < *total_bytes ? *total_bytes - used : 0;
    return 0;
}

void sim_close_all(struct sim *sim) {
    for (uint32_t i = 0; i < SIM_OPEN_MAX; i++) {
        if (sim->files[i].inode)
            sim_inode_drop(sim, sim->files[i].inode, 1);
        if (sim->devices[i].inode)
            sim_inode_drop(sim, sim->devices[i].inode, 1);
        sim->files[i].inode = sim->devices[i].inode = NULL;
    }
}

/* There is no cache. */
static void forget_file(void *ctx, int file) {
}

static const struct file_ops sim_file_ops = {
    .open = open_file,
    .close = close_file,
    .read = read_file,
    .write = write_file,
    .size = size_of,
    .truncate = truncate_file,
    .allocate = allocate,
    .sync = sync_file,
    .forget = forget_file,
    .make_dir = make_dir,
    .sync_dir = sync_dir,
    .rename = rename_file,
    .remove = remove_file,
    .exists = exists,
    .list = list,
    .space = space,
};

struct file_system sim_files(struct sim *sim) {
    return (struct file_system){&sim_file_ops, sim};
}
