/* SPDX-License-Identifier: Apache-2.0 */
/* plat/file.h over a directory descriptor. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/err.h"
#include "plat/posix/posix.h"

static int dir_of(void *ctx) {
    return ((const struct posix_files *)ctx)->dir;
}

/* 0, or the error of a call that returns -1 for one. */
static int result(int rc) {
    return rc < 0 ? posix_err(errno) : 0;
}

static int open_file(void *ctx, const char *path, uint32_t flags) {
    int mode = (flags & FILE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    struct stat st;
    if (flags & FILE_WRITE && flags & FILE_CREATE)
        mode |= O_CREAT | (flags & FILE_EXCLUSIVE ? O_EXCL : 0);
    int fd = openat(dir_of(ctx), path, mode, 0600);
    if (fd < 0)
        return posix_err(errno);
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        close(fd);
        return ERR_INVAL;
    }
    return fd;
}

static void close_file(void *ctx, int file) {
    close(file);
}

static int64_t read_file(void *ctx, int file, void *buf, size_t bytes, uint64_t offset_bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(file, (char *)buf + done, bytes - done, (off_t)(offset_bytes + done));
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return posix_err(errno);
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int64_t write_file(void *ctx, int file, const void *buf, size_t bytes,
                          uint64_t offset_bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t n =
            pwrite(file, (const char *)buf + done, bytes - done, (off_t)(offset_bytes + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? posix_err(errno) : ERR_IO;
        done += (size_t)n;
    }
    return (int64_t)done;
}

static int64_t size_of(void *ctx, int file) {
    struct stat st;
    return fstat(file, &st) < 0 ? posix_err(errno) : (int64_t)st.st_size;
}

/* A descriptor for reading gives EINVAL here, not EBADF. */
static int check_writable(int file) {
    int mode = fcntl(file, F_GETFL);
    return mode < 0 ? posix_err(errno) : (mode & O_ACCMODE) == O_RDONLY ? ERR_PERM : 0;
}

static int truncate_file(void *ctx, int file, uint64_t size_bytes) {
    int err = check_writable(file);
    return err < 0 ? err : result(ftruncate(file, (off_t)size_bytes));
}

static int allocate(void *ctx, int file, uint64_t offset_bytes, uint64_t bytes) {
    int error;
    do {
        error = posix_fallocate(file, (off_t)offset_bytes, (off_t)bytes);
    } while (error == EINTR);
    return posix_err(error);
}

static int sync_file(void *ctx, int file) {
    return result(fdatasync(file));
}

static int make_dir(void *ctx, const char *path) {
    return result(mkdirat(dir_of(ctx), path, 0700));
}

static int sync_dir(void *ctx, const char *path) {
    int fd = openat(dir_of(ctx), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? ERR_INVAL : posix_err(errno);
    int err = result(fsync(fd));
    close(fd);
    return err == ERR_INVAL ? 0 : err; /* a file system that has nothing to sync */
}

static int rename_file(void *ctx, const char *from, const char *to) {
    return result(renameat(dir_of(ctx), from, dir_of(ctx), to));
}

static int remove_file(void *ctx, const char *path) {
    struct stat st;
    if (fstatat(dir_of(ctx), path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return posix_err(errno);
    int rc = unlinkat(dir_of(ctx), path, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    return rc < 0 && errno == EEXIST ? ERR_BUSY : result(rc);
}

static int exists(void *ctx, const char *path) {
    int err = result(faccessat(dir_of(ctx), path, F_OK, 0));
    return err == 0 ? 1 : err == ERR_NOTFOUND ? 0 : err;
}

static int list(void *ctx, const char *path, void (*each)(void *arg, const char *name), void *arg) {
    int fd = openat(dir_of(ctx), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), count = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int err = errno == ENOTDIR ? ERR_INVAL : posix_err(errno);
        if (fd >= 0)
            close(fd);
        return err;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count++;
        each(arg, entry->d_name);
    }
    int err = posix_err(errno);
    closedir(dir);
    return err < 0 ? err : count;
}

static int space(void *ctx, uint64_t *total_bytes, uint64_t *free_bytes) {
    struct statvfs v;
    if (fstatvfs(dir_of(ctx), &v) < 0)
        return posix_err(errno);
    *total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
    *free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

static void forget_file(void *ctx, int file) {
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
}

static const struct file_ops file_ops = {
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

struct file_system posix_files(struct posix_files *f) {
    return (struct file_system){&file_ops, f};
}
