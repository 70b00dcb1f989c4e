/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that takes nothing: preloaded into perdured, nothing is handed to the kernel while the file exists
 * that PERDURE_STALL names. Operations wait in the ring as they do when the kernel is busy.
 */
#include <dlfcn.h>
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

int io_uring_submit(struct io_uring *ring) {
    static int (*submit)(struct io_uring *);
    const char *stalled = getenv("PERDURE_STALL");
    if (stalled && access(stalled, F_OK) == 0)
        return 0;
    if (!submit)
        *(void **)&submit = dlsym(RTLD_NEXT, "io_uring_submit");
    return submit(ring);
}
