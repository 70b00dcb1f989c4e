/* SPDX-License-Identifier: Apache-2.0 */
/*
 * I/O source: where requests come from and replies go to (mission T8, IOsrcImpl). A request comes as an MD
 * packet over the control plane; the reply goes back by this call, in the turn in which the request is
 * DONE. After an attach the engine works on all that is outstanding again, flagged REQUEST_REPLAYED; the
 * source sees each request end once. A source that has vanished raises no error: `reply` frees the request
 * (mission T10).
 */
#ifndef PLAT_IO_SOURCE_H
#define PLAT_IO_SOURCE_H

#include "plat/md_packet.h"

struct io_source_ops {
    void (*reply)(void *ctx, struct request_h request);
};

struct io_source {
    const struct io_source_ops *ops;
    void *ctx;
};

/* Groups and message types of the control plane between sources and engine. */
#define IO_GROUP_ENGINE 1
#define IO_MSG_REQUEST 1 /* word: the request's handle */
#define IO_SENDER_NBD 1

#endif
