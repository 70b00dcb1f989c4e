/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAT_POSIX_POSIX_PRIV_H
#define PLAT_POSIX_POSIX_PRIV_H

#include <pthread.h>

/* A descriptor that is readable while it is raised. The caller's lock guards it. */
struct posix_flag {
    int fds[2];
    int raised;
};
int posix_flag_open(struct posix_flag *f);
void posix_flag_close(struct posix_flag *f);
void posix_flag_set(struct posix_flag *f, int raised);

/* A thread that takes no signals. */
int posix_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif
