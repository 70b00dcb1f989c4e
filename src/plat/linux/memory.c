/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena as a memfd of shared memory. Huge pages by MADV_COLLAPSE, which works whatever shmem_enabled
 * says; left out of core dumps, which would take seconds and hold clients' data.
 *
 * Collapsing copies what is there and fills the rest with zeroes. So new memory is collapsed while there is
 * one small page at each place of a huge one, without which it is refused; what was not collapsed is allocated
 * afterwards. This takes a tenth of the time of collapsing memory that is allocated.
 */
#include "plat/linux/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

/* As far as the system has huge pages. It is mapped for this alone, where a huge page may begin. */
static void make_huge(int fd, uint64_t bytes) {
    uint64_t huge = bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, room = huge + HUGE_PAGE_BYTES;
    for (uint64_t at = 0; at < huge; at += HUGE_PAGE_BYTES)
        if (fallocate(fd, 0, (off_t)at, 1) < 0)
            return;
    char *p = huge > 0
                  ? mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                  : MAP_FAILED;
    if (p == MAP_FAILED)
        return;
    char *begin = p + (HUGE_PAGE_BYTES - (uintptr_t)p % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    if (mmap(begin, huge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
        madvise(begin, huge, MADV_COLLAPSE);
    munmap(p, room);
}

static int memory_create(uint64_t bytes) {
    int fd = memfd_create("perdure-arena", MFD_ALLOW_SEALING);
    if (fd < 0)
        return ERR_NOMEM;
    if (ftruncate(fd, (off_t)bytes) == 0)
        make_huge(fd, bytes);
    if (fallocate(fd, 0, 0, (off_t)bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) {
        close(fd);
        return ERR_NOMEM;
    }
    return fd;
}

static int memory_grow(int fd, uint64_t bytes) {
    return fallocate(fd, 0, 0, (off_t)bytes) < 0 ? ERR_NOMEM : 0;
}

static int64_t memory_size(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? ERR_INVAL : st.st_size;
}

static int memory_map(int fd, uint64_t bytes, void **base) {
    void *want = (void *)(uintptr_t)MEMORY_ADDRESS;
    void *got = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    if (got == MAP_FAILED)
        return errno == EEXIST ? ERR_BUSY : ERR_NOMEM;
    if (got != want) { /* kernels before 4.17 take the address as a hint */
        munmap(got, bytes);
        return ERR_BUSY;
    }
    madvise(got, bytes, MADV_DONTDUMP);
    *base = got;
    return 0;
}

static void memory_want_huge(void *p, uint64_t bytes) {
    madvise(p, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_COLLAPSE);
}

static void memory_want_soon(void *p, uint64_t bytes) {
    madvise(p, bytes, MADV_POPULATE_WRITE);
}

static void memory_unmap(void *base, uint64_t bytes) {
    munmap(base, bytes);
}

static int memory_huge_percent(void *base, uint64_t bytes) {
    char line[256];
    unsigned long start, end, kib, huge = 0;
    int inside = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            inside = start >= (unsigned long)(uintptr_t)base &&
                     end <= (unsigned long)((uintptr_t)base + bytes);
        else if (inside && sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1)
            huge += kib;
    }
    fclose(f);
    return (int)(huge * 1024 * 100 / bytes);
}

static void memory_boot_id(uint8_t id[16]) {
    char text[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    memset(id, 0, 16);
    if (!f)
        return;
    if (fgets(text, sizeof text, f)) {
        int n = 0;
        for (const char *p = text; *p && n < 32; p++) {
            int digit = *p >= '0' && *p <= '9'   ? *p - '0'
                        : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
                                                 : -1;
            if (digit >= 0) {
                id[n / 2] = (uint8_t)(id[n / 2] << 4 | digit);
                n++;
            }
        }
    }
    fclose(f);
}

const struct memory_ops linux_memory = {
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
