/* SPDX-License-Identifier: Apache-2.0 */
/* What the streams of posix and linux have in common: addresses, options, listening. */
#ifndef PLAT_POSIX_SOCKET_H
#define PLAT_POSIX_SOCKET_H

#include <sys/socket.h>

#include "plat/stream.h"

/* Between "127.0.0.1:10809", "[::1]:0", "unix:/path" and a socket's address. ERR_INVAL. */
int posix_address_parse(const char *text, struct sockaddr_storage *ss, socklen_t *len);
void posix_address_text(const struct sockaddr_storage *ss, char out[STREAM_ADDRESS_BYTES]);

/* The error code for an errno of a call on a socket. */
int posix_socket_err(int error_number);

/* Never blocks; preserved or not (STREAM_PRESERVED). ERR_NOMEM. */
int posix_socket_set(int fd, uint32_t flags);

/* Urgent data stay in line: they are bytes of the stream. No effect on Unix sockets. */
void posix_socket_set_tcp(int fd);

/* stream_ops.listen */
int posix_socket_listen(void *ctx, const char *address, uint32_t flags,
                        char bound[STREAM_ADDRESS_BYTES]);

#endif
