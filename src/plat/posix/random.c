/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/must.h"
#include "plat/posix/posix.h"

int posix_random_open(struct posix_random *r) {
    r->fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    return r->fd < 0 ? posix_err(errno) : 0;
}

void posix_random_close(struct posix_random *r) {
    close(r->fd);
}

/* Going on without random bytes would be worse than stopping. */
static void fill(void *ctx, void *buf, size_t bytes) {
    const struct posix_random *r = ctx;
    unsigned char *to = buf;
    while (bytes > 0) {
        ssize_t n = read(r->fd, to, bytes);
        must(n > 0 || (n < 0 && errno == EINTR));
        if (n > 0) {
            to += n;
            bytes -= (size_t)n;
        }
    }
}

static const struct random_ops random_ops = {fill};

struct random_source posix_random(struct posix_random *r) {
    return (struct random_source){&random_ops, r};
}
