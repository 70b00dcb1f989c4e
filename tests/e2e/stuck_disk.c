/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program: its fdatasync() does not end while the file that STUCK_DISK names is there. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd) {
    const struct timespec pause = {.tv_nsec = 1000000};
    const char *flag = getenv("STUCK_DISK");
    while (flag && access(flag, F_OK) == 0)
        nanosleep(&pause, NULL);
    return fsync(fd);
}
