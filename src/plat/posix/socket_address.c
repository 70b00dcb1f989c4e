/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of streams: their text and the socket's form. */
#include "plat/posix/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/err.h"

static int parse_unix(const char *path, struct sockaddr_storage *ss, socklen_t *len) {
    struct sockaddr_un *un = (void *)ss;
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof un->sun_path)
        return ERR_INVAL;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, n + 1);
    *len = sizeof *un;
    return 0;
}

static int parse_port(const char *text, in_port_t *port) {
    char *end;
    if (*text < '0' || *text > '9')
        return ERR_INVAL;
    long n = strtol(text, &end, 10);
    if (*end || n > 65535)
        return ERR_INVAL;
    *port = htons((uint16_t)n);
    return 0;
}

int posix_address_parse(const char *text, struct sockaddr_storage *ss, socklen_t *len) {
    struct sockaddr_in *in = (void *)ss;
    struct sockaddr_in6 *in6 = (void *)ss;
    char host[INET6_ADDRSTRLEN];
    in_port_t port;
    memset(ss, 0, sizeof *ss);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, ss, len);
    const char *colon = strrchr(text, ':');
    if (!colon || parse_port(colon + 1, &port) < 0)
        return ERR_INVAL;
    size_t n = (size_t)(colon - text);
    int v6 = n >= 2 && text[0] == '[' && text[n - 1] == ']';
    if (v6)
        n -= 2;
    if (n >= sizeof host)
        return ERR_INVAL;
    memcpy(host, text + v6, n);
    host[n] = 0;
    if (!v6 && inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = port;
        *len = sizeof *in;
        return 0;
    }
    if (v6 && inet_pton(AF_INET6, host, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = port;
        *len = sizeof *in6;
        return 0;
    }
    return ERR_INVAL;
}

void posix_address_text(const struct sockaddr_storage *ss, char out[STREAM_ADDRESS_BYTES]) {
    char host[INET6_ADDRSTRLEN] = "";
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)ss;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(out, STREAM_ADDRESS_BYTES, "%s:%u", host, (unsigned)ntohs(in->sin_port));
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)ss;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(out, STREAM_ADDRESS_BYTES, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_un *un = (const void *)ss;
        snprintf(out, STREAM_ADDRESS_BYTES, "unix:%.*s", (int)sizeof un->sun_path - 1,
                 ss->ss_family == AF_UNIX ? un->sun_path : "");
    }
}
