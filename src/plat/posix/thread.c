/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/err.h"
#include "base/must.h"
#include "plat/posix/posix.h"
#include "plat/posix/posix_priv.h"

int posix_flag_open(struct posix_flag *f) {
    if (pipe(f->fds) < 0)
        return posix_err(errno);
    for (int i = 0; i < 2; i++)
        fcntl(f->fds[i], F_SETFD, FD_CLOEXEC);
    f->raised = 0;
    return 0;
}

void posix_flag_close(struct posix_flag *f) {
    close(f->fds[0]);
    close(f->fds[1]);
}

/* The pipe holds one byte or none, so neither call waits. */
void posix_flag_set(struct posix_flag *f, int raised) {
    char byte = 0;
    ssize_t n;
    if (f->raised == raised)
        return;
    do {
        n = raised ? write(f->fds[1], &byte, 1) : read(f->fds[0], &byte, 1);
    } while (n < 0 && errno == EINTR);
    must(n == 1);
    f->raised = raised;
}

int posix_thread_start(pthread_t *thread, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error ? ERR_NOMEM : 0;
}
