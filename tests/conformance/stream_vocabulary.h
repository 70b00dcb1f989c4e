/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of streams are written in. A link is a stream of ours and the client at its other end. */
#ifndef TESTS_CONFORMANCE_STREAM_VOCABULARY_H
#define TESTS_CONFORMANCE_STREAM_VOCABULARY_H

#include "conformance.h"

#define STREAM(m, call, ...) (m)->streams.ops->call((m)->streams.ctx, __VA_ARGS__)

struct link {
    struct machine *m;
    const struct peer_ops *peers;
    int listener, fd, peer;
    char bound[STREAM_ADDRESS_BYTES];
};

/* Address n of those that a machine can listen on: TCP, TCP over IPv6 if there is some, Unix; NULL: no
 * more. is_tcp tells of the last one given. */
const char *stream_address(struct machine *m, int n);
int stream_is_tcp(const char *address);

int stream_listen_at(struct machine *m, const char *address, uint32_t flags,
                     char bound[STREAM_ADDRESS_BYTES]);
/* Waits for a connection. */
int stream_accept_from(struct machine *m, int listener);

struct link link_open(struct machine *m, const char *address);
void link_close(struct link *l);
/* Closes what is not closed yet (fd, peer: -1 if closed). */

/* Waits until the stream has one of these events, or failed. */
void stream_wait_for(struct machine *m, int fd, uint32_t events);

/* One call, one vector. */
int64_t link_try_receive(struct link *l, void *to, size_t bytes);
int64_t link_try_send(struct link *l, const void *from, size_t bytes);
/* Waits when there is nothing: bytes, 0 or ERR_CLOSED. */
int64_t link_receive(struct link *l, void *to, size_t bytes);
int64_t peer_receive(struct link *l, void *to, size_t bytes);

/* Exactly so many bytes, all of this value; at most what buffers take. */
void link_gives(struct link *l, int value, size_t bytes);
void link_takes(struct link *l, int value, size_t bytes);
void peer_gives(struct link *l, int value, size_t bytes);
void peer_takes(struct link *l, int value, size_t bytes);

#define BUFFERED 2000 /* every machine takes as much without anybody receiving */

#endif
