/* SPDX-License-Identifier: Apache-2.0 */
#include "custody/process.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/oom.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/units.h"
#include "custody/boot.h"

/* Kept free of connections: files, control connections, and what a successor needs to begin. */
#define DESCRIPTORS_RESERVED 256u
#define OOM_STEP 100

int process_fd(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

int process_has_ended(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return fd < 0 || poll(&p, 1, 0) == 1;
}

int process_ends_with(int parent) {
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent;
}

uint64_t process_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void process_close(int fd) {
    if (fd >= 0)
        close(fd);
}

static int write_oom_score_adj(int value) {
    char text[16];
    int n = snprintf(text, sizeof text, "%d", value);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    int written = fd >= 0 && write(fd, text, (size_t)n) == n;
    process_close(fd);
    return written;
}

void process_set_oom_score_adj(int value) {
    write_oom_score_adj(value);
}

void process_protect(void) {
    int most = process_oom_score_adj();
    for (int value = OOM_SCORE_ADJ_MIN; value < most && !write_oom_score_adj(value);)
        value += OOM_STEP;
}

int process_oom_score_adj(void) {
    char text[16] = "";
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, sizeof text - 1) < 0)
        text[0] = 0;
    process_close(fd);
    return atoi(text);
}

int boot_descriptors_max(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return INT_MAX;
    uint64_t all = min_u64(limit.rlim_cur, INT_MAX);
    return (int)(all - min_u64(DESCRIPTORS_RESERVED, all / 2));
}

/* Clients' data and keys lie in shared memory: no mapping of it gets into a core dump, of this process or of one that
 * it starts, however it is mapped. The bits are those of core(5). */
static void keep_shared_memory_out_of_dumps(void) {
    enum { ANONYMOUS_SHARED = 1 << 1, FILE_SHARED = 1 << 3, HUGE_SHARED = 1 << 6 };
    char text[32] = "";
    int fd = open("/proc/self/coredump_filter", O_RDWR | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (n > 0) {
        unsigned long bits = strtoul(text, NULL, 16);
        bits &= ~(unsigned long)(ANONYMOUS_SHARED | FILE_SHARED | HUGE_SHARED);
        n = snprintf(text, sizeof text, "0x%lx", bits);
        if (lseek(fd, 0, SEEK_SET) < 0 || write(fd, text, (size_t)n) < 0)
            fprintf(stderr, "<4>core dumps may hold clients' data\n");
    }
    process_close(fd);
}

void process_prepare(void) {
    struct rlimit limit;
    keep_shared_memory_out_of_dumps();
    /* Who reads what is told may go at any time; that is no reason to die. */
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
