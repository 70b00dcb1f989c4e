/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena as a shared-memory object without a name, or, where there is no room for one, a temporary
 * file without a name. POSIX cannot ask for an address and nothing else, so the address is a hint and
 * another one that comes back is refused.
 *
 * There is no identity of the boot: the memory is only reached by its descriptor, and no descriptor
 * outlives the boot, so the constant zero is as good as any.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "plat/posix/posix.h"

#define NAMES_TRIED 64

static int open_shared(void) {
    for (int i = 0; i < NAMES_TRIED; i++) {
        char name[64];
        snprintf(name, sizeof name, "/perdure-%ld-%d", (long)getpid(), i);
        int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd >= 0)
            shm_unlink(name);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

static int open_temporary(void) {
    char name[] = "/tmp/perdure-XXXXXX";
    int fd = mkstemp(name);
    if (fd >= 0)
        unlink(name);
    return fd;
}

/* All of it allocated, and the descriptor inherited by a successor. */
static int prepare(int fd, uint64_t bytes) {
    if (fd < 0)
        return ERR_NOMEM;
    if (ftruncate(fd, (off_t)bytes) == 0 && posix_fallocate(fd, 0, (off_t)bytes) == 0 &&
        fcntl(fd, F_SETFD, 0) == 0)
        return fd;
    close(fd);
    return ERR_NOMEM;
}

static int memory_create(uint64_t bytes) {
    int fd = prepare(open_shared(), bytes);
    return fd >= 0 ? fd : prepare(open_temporary(), bytes);
}

static int memory_grow(int fd, uint64_t bytes) {
    return posix_fallocate(fd, 0, (off_t)bytes) != 0 ? ERR_NOMEM : 0;
}

static int64_t memory_size(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? ERR_INVAL : st.st_size;
}

static int memory_map(int fd, uint64_t bytes, void **base) {
    void *want = (void *)(uintptr_t)MEMORY_ADDRESS;
    void *got = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (got == MAP_FAILED)
        return ERR_NOMEM;
    if (got != want) {
        munmap(got, bytes);
        return ERR_BUSY;
    }
    *base = got;
    return 0;
}

static void memory_unmap(void *base, uint64_t bytes) {
    munmap(base, bytes);
}

/* POSIX knows no huge pages. */
static void memory_want_huge(void *p, uint64_t bytes) {
}

static void memory_want_soon(void *p, uint64_t bytes) {
    posix_madvise(p, bytes, POSIX_MADV_WILLNEED);
}

static int memory_huge_percent(void *base, uint64_t bytes) {
    return 0;
}

static void memory_boot_id(uint8_t id[16]) {
    memset(id, 0, 16);
}

const struct memory_ops posix_memory = {
    .create = memory_create,
    .grow = memory_grow,
    .size = memory_size,
    .map = memory_map,
    .unmap = memory_unmap,
    .want_huge = memory_want_huge,
    .want_soon = memory_want_soon,
    .huge_percent = memory_huge_percent,
    .boot_id = memory_boot_id,
};
