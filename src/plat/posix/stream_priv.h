/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAT_POSIX_STREAM_PRIV_H
#define PLAT_POSIX_STREAM_PRIV_H

#include <sys/socket.h>

#include "plat/stream.h"

/* Between "127.0.0.1:10809", "[::1]:0", "unix:/path" and a socket's address. ERR_INVAL. */
int posix_address_parse(const char *text, struct sockaddr_storage *ss, socklen_t *len);
void posix_address_text(const struct sockaddr_storage *ss, char out[STREAM_ADDRESS_BYTES]);

#endif
