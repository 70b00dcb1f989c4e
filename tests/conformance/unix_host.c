/* SPDX-License-Identifier: Apache-2.0 */
#include "unix_host.h"

#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

int unix_machine_open(struct machine *m, struct unix_router router) {
    struct unix_machine *u = calloc(1, sizeof *u);
    const char *tmp = getenv("TMPDIR");
    assert_non_null(u);
    snprintf(u->path, sizeof u->path, "%s/conformance-XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(u->path));
    u->files.dir = open(u->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    u->dev.dir = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(u->files.dir >= 0 && u->dev.dir >= 0);
    assert_int_equal(posix_random_open(&u->random), 0);
    u->jobs = posix_jobs_open(0);
    assert_non_null(u->jobs);
    m->ctx = u;
    u->router = u->dev_router = router;
    int err = router.open(&u->router, u->files.dir);
    if (err == 0 && (err = router.open(&u->dev_router, u->dev.dir)) < 0)
        router.close(&u->router);
    if (err < 0) {
        u->router.close = u->dev_router.close = NULL;
        unix_machine_close(m);
        return err;
    }
    m->files = posix_files(&u->files);
    m->router = u->router.router;
    m->jobs = posix_jobs(u->jobs);
    m->clock = posix_clock();
    m->random = posix_random(&u->random);
    snprintf(m->unix_address, sizeof m->unix_address, "unix:%.100s/socket", u->path);
    return 0;
}

void unix_machine_close(struct machine *m) {
    struct unix_machine *u = m->ctx;
    if (u->router.close) {
        u->router.close(&u->router);
        u->dev_router.close(&u->dev_router);
    }
    posix_jobs_close(u->jobs);
    posix_random_close(&u->random);
    close(u->files.dir);
    close(u->dev.dir);
    nftw(u->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(u);
}

/* As a reactor waits: for a descriptor, for as long as it takes. */
void unix_machine_wait(struct machine *m) {
    const struct unix_machine *u = m->ctx;
    struct pollfd fds[3] = {{posix_jobs_descriptor(u->jobs), POLLIN, 0},
                            {u->router.descriptor, POLLIN, 0},
                            {u->dev_router.descriptor, POLLIN, 0}};
    assert_true(poll(fds, 3, -1) > 0);
}

void unix_machine_fill(struct machine *m, struct file_system *files, struct io_router *router,
                       const char **path) {
    struct unix_machine *u = m->ctx;
    *files = posix_files(&u->dev);
    *router = u->dev_router.router;
    *path = "full";
}
