/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: listening and connected byte streams (kernel TCP, Unix sockets; later the own TCP/IP), by
 * descriptor, all non-blocking, and the wait for them.
 *
 * Positions (STREAM_CAP_POSITIONS, per stream): the machine knows how many bytes of a stream this side has
 * taken and given, whatever became of the process that did. Read only when no process touches the stream.
 * Counted from the first byte of the stream, both directions, without FIN. Unix sockets have none.
 *
 * Preserved descriptors are inherited by the successor under the same number; with STREAM_CAP_WAIT_KEPT so
 * is the wait with its registrations, else the successor watches all of its streams anew. A descriptor not
 * preserved closes itself when the successor starts.
 *
 * The wait is level-triggered: what is not taken is told again. If more descriptors have events than fit,
 * the others come first in the next wait. A stream that failed, or ended both ways, is told as readable
 * whatever is waited for.
 *
 * A stream that failed (a reset) says ERR_CLOSED, to a receive perhaps after bytes that had come before.
 * Said once, a later receive may say 0 as well. Its positions mean nothing.
 */
#ifndef PLAT_STREAM_H
#define PLAT_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "plat/io_router.h"

#define STREAM_ADDRESS_BYTES 120

enum stream_cap {
    STREAM_CAP_POSITIONS = 1 << 0, /* at least some kinds of stream know theirs */
    STREAM_CAP_WAIT_KEPT = 1 << 1, /* the wait and its registrations outlive the process */
};

enum stream_flag {
    STREAM_PRESERVED = 1 << 0,
    STREAM_REPLACE = 1 << 1, /* listen: takes the place of whoever listens on this Unix socket */
};

enum stream_event_flag {
    STREAM_READABLE = 1 << 0, /* or ended, or failed: a receive tells */
    STREAM_WRITABLE = 1 << 1,
};

struct stream_event {
    uint64_t tag;
    uint32_t events;
};

struct stream_positions {
    uint64_t received; /* bytes that this side has taken */
    uint64_t sent;     /* bytes that this side has given */
};

struct stream_ops {
    uint32_t caps;
    /* "127.0.0.1:10809", "[::1]:0", "unix:/path". The bound address is written to `bound`. ERR_EXISTS:
     * address in use; ERR_INVAL; ERR_PERM; ERR_NOMEM: out of descriptors. */
    int (*listen)(void *ctx, const char *address, uint32_t flags, char bound[STREAM_ADDRESS_BYTES]);
    /* ERR_AGAIN: nobody waits; ERR_NOMEM: out of descriptors. */
    int (*accept)(void *ctx, int listener, uint32_t flags, char peer[STREAM_ADDRESS_BYTES]);
    /* Bytes, at least one; 0: the peer has ended its side; ERR_AGAIN; ERR_CLOSED. Fewer bytes than asked
     * for say nothing about what comes next. The vectors are not empty. */
    int64_t (*receive)(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count);
    int64_t (*send)(void *ctx, int fd, const struct io_vec *vecs, uint32_t vec_count);
    /* ERR_UNSUPPORTED: this stream has none; ERR_CLOSED: it is over; ERR_AGAIN: it is being touched. */
    int (*positions)(void *ctx, int fd, struct stream_positions *p);
    /* Of the socket: another one that gets the same number later has another. 0: not a socket. */
    uint64_t (*identity)(void *ctx, int fd);
    void (*end)(void *ctx, int fd); /* both directions, whoever else holds it */
    void (*end_sending)(void *ctx, int fd);
    /* Unwatched before: a descriptor that another process holds too would stay registered. */
    void (*close)(void *ctx, int fd);
    /* Registers a descriptor, or changes what is waited for; events 0 keeps it registered for nothing.
     * watch: ERR_EXISTS, ERR_NOMEM; rewatch: ERR_NOTFOUND. */
    int (*watch)(void *ctx, int fd, uint64_t tag, uint32_t events);
    int (*rewatch)(void *ctx, int fd, uint64_t tag, uint32_t events);
    void (*unwatch)(void *ctx, int fd);
    /* Number of events, at most max; 0 after timeout_ns (UINT64_MAX: never), and sometimes before, so the
     * caller looks at the clock. */
    int (*wait)(void *ctx, struct stream_event *events, int max, uint64_t timeout_ns);
};

struct streams {
    const struct stream_ops *ops;
    void *ctx;
};

#endif
