/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files, for jobs, the catalogue's thread and the start of a program; never from a reactor's turn.
 * Every call may block. Paths are relative to the store's directory, which is "."; they have no
 * "..", and no slash at either end. What is not synced may be lost, torn or reordered by a power
 * cut; the simulator does so (sim/sim.h). A name is durable after sync_dir of its directory, and
 * not before; sync of the file is no help.
 *
 * All functions return 0 or a count, or an error: ERR_NOTFOUND (also a missing directory),
 * ERR_EXISTS, ERR_NOSPC, ERR_IO, ERR_PERM (not open for writing), ERR_BUSY (a directory that is not
 * empty), ERR_INVAL (a directory where a file is wanted, or the other way round), ERR_NOMEM (too
 * many files open), ERR_UNSUPPORTED.
 */
#ifndef PLAT_FILE_H
#define PLAT_FILE_H

#include <stddef.h>
#include <stdint.h>

enum file_open_flag {
    FILE_READ = 0,
    FILE_WRITE = 1 << 0,
    FILE_CREATE = 1 << 1,    /* with FILE_WRITE: if it is missing */
    FILE_EXCLUSIVE = 1 << 2, /* with FILE_CREATE: ERR_EXISTS if it is there */
};

struct file_ops {
    int (*open)(void *ctx, const char *path, uint32_t flags); /* a number >= 0 */
    void (*close)(void *ctx, int file);
    /* Fewer bytes than asked for only at the end of the file. */
    int64_t (*read)(void *ctx, int file, void *buf, size_t bytes, uint64_t offset_bytes);
    /* All bytes, or an error, after which any of them may be written. */
    int64_t (*write)(void *ctx, int file, const void *buf, size_t bytes, uint64_t offset_bytes);
    int64_t (*size)(void *ctx, int file);
    int (*truncate)(void *ctx, int file, uint64_t size_bytes);
    /* Makes room; what was there stays, the rest reads as zeroes. The file grows to offset + bytes. */
    int (*allocate)(void *ctx, int file, uint64_t offset_bytes, uint64_t bytes);
    int (*sync)(void *ctx, int file); /* data and what is needed to read it back */
    /* What is on disk need not stay in memory: it is not read soon, or is to be read from there. */
    void (*forget)(void *ctx, int file);
    int (*make_dir)(void *ctx, const char *path);
    int (*sync_dir)(void *ctx, const char *path);
    /* A file; replaces a file of the new name. */
    int (*rename)(void *ctx, const char *from, const char *to);
    /* A file, which stays readable while it is open, or an empty directory. */
    int (*remove)(void *ctx, const char *path);
    int (*exists)(void *ctx, const char *path); /* 1 or 0 */
    /* Names in a directory, in no particular order; returns their number. The callback may remove
     * what it is told of. */
    int (*list)(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg);
    /* Room left for data in the file system that holds the store. */
    int (*space)(void *ctx, uint64_t *total_bytes, uint64_t *free_bytes);
};

struct file_system {
    const struct file_ops *ops;
    void *ctx;
};

#endif
