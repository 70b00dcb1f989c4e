/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a program: its fdatasync() does not end while the file that STUCK_DISK names is there. That one
 * waits is told by a file of this name and ".waits". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int fdatasync(int fd) {
    const struct timespec pause = {.tv_nsec = 1000000};
    const char *flag = getenv("STUCK_DISK");
    char waits[256];
    while (flag && access(flag, F_OK) == 0) {
        snprintf(waits, sizeof waits, "%s.waits", flag);
        close(open(waits, O_CREAT | O_WRONLY, 0600));
        nanosleep(&pause, NULL);
    }
    return fsync(fd);
}
