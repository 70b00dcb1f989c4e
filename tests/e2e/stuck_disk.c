/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program: while the file that STUCK_DISK names is there, its pwrite() does not begin and its
 * fdatasync() does not end, so that what is written from then on is in no file. That one waits is told by a file of
 * this name and ".waits". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void wait_while_stuck(void) {
    const struct timespec pause = {.tv_nsec = 1000000};
    const char *flag = getenv("STUCK_DISK");
    char waits[256];
    while (flag && access(flag, F_OK) == 0) {
        snprintf(waits, sizeof waits, "%s.waits", flag);
        close(open(waits, O_CREAT | O_WRONLY, 0600));
        nanosleep(&pause, NULL);
    }
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    wait_while_stuck();
    return syscall(SYS_pwrite64, fd, data, bytes, at);
}

int fdatasync(int fd) {
    wait_while_stuck();
    return fsync(fd);
}
