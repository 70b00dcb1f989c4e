/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "base/err.h"
#include "unix_host.h"
#include "plat/linux/linux.h"

static int open_router(struct unix_router *r, int dir) {
    int err;
    r->ctx = linux_ring_open(dir, 256, &err);
    if (!r->ctx)
        return err;
    r->router = (struct io_router){&linux_ring_ops, r->ctx};
    r->descriptor = linux_ring_descriptor(r->ctx);
    return 0;
}

static void close_router(struct unix_router *r) {
    linux_ring_close(r->ctx);
}

static int open_machine(struct machine *m) {
    int err =
        unix_machine_open(m, (struct unix_router){.open = open_router, .close = close_router});
    if (err < 0)
        return err;
    struct linux_streams *s = linux_streams_open(-1);
    assert_non_null(s);
    m->streams = (struct streams){&linux_stream_ops, s};
    m->memory = &linux_memory;
    return 0;
}

static void close_machine(struct machine *m) {
    close(linux_streams_descriptor(m->streams.ctx));
    linux_streams_close(m->streams.ctx);
    unix_machine_close(m);
}

int main(void) {
    static const struct host host = {"linux",           open_machine,      close_machine,
                                     unix_machine_wait, unix_machine_fill, &unix_peers};
    return conformance_run(&host);
}
