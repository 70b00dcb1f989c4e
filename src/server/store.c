/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

#define LOCK_TRIES 100 /* 20 ms apart */

int store_open(const char *path, char *why, size_t room) {
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        snprintf(why, room, "the store %s cannot be made: %s", path, strerror(errno));
        return ERR_PERM;
    }
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        snprintf(why, room, "the store %s cannot be opened: %s", path, strerror(errno));
        return ERR_NOTFOUND;
    }
    return dir;
}

int store_lock(struct boot *b, int dir, char *why, size_t room) {
    char text[32] = "";
    if (atomic_load(&b->custody->lock_fd) >= 0)
        return 0;
    int fd = openat(dir, "lock", O_RDWR | O_CREAT, 0600);
    if (fd < 0) {
        snprintf(why, room, "the store's lock cannot be opened: %s", strerror(errno));
        return ERR_PERM;
    }
    /* A server that was just stopped or killed may hold it for a moment. */
    const struct timespec pause = {.tv_nsec = 20000000};
    int tries = LOCK_TRIES;
    while (flock(fd, LOCK_EX | LOCK_NB) < 0 && --tries > 0)
        nanosleep(&pause, NULL);
    if (tries == 0) {
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        text[n > 0 ? strcspn(text, "\n") : 0] = 0;
        close(fd);
        snprintf(why, room, "another server (process %s) has the store; stop it first", text);
        return ERR_BUSY;
    }
    int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) < 0) {
        /* Only a hint for people. */
    }
    atomic_store(&b->custody->lock_fd, fd);
    return 0;
}
