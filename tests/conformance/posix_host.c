/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "unix_host.h"

static int open_router(struct unix_router *r, int dir) {
    r->ctx = posix_router_open(dir, 3, 200);
    if (!r->ctx)
        return ERR_NOMEM;
    r->router = posix_router(r->ctx);
    r->descriptor = posix_router_descriptor(r->ctx);
    return 0;
}

static void close_router(struct unix_router *r) {
    posix_router_close(r->ctx);
}

static int open_machine(struct machine *m) {
    int err =
        unix_machine_open(m, (struct unix_router){.open = open_router, .close = close_router});
    if (err < 0)
        return err;
    struct posix_streams *s = posix_streams_open();
    assert_non_null(s);
    m->streams = posix_streams(s);
    m->memory = &posix_memory;
    return 0;
}

static void close_machine(struct machine *m) {
    posix_streams_close(m->streams.ctx);
    unix_machine_close(m);
}

int main(void) {
    static const struct host host = {"posix",           open_machine,      close_machine,
                                     unix_machine_wait, unix_machine_fill, &unix_peers};
    return conformance_run(&host);
}
