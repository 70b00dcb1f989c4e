/* SPDX-License-Identifier: Apache-2.0 */
#include "server/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "custody/process.h"

#define TEXT_BYTES 1024

static void send_to(const char *path, const char *text) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t bytes = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || bytes < 2 || bytes >= sizeof to.sun_path)
        return;
    memcpy(to.sun_path, path, bytes);
    if (path[0] == '@') /* an abstract address */
        to.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL, (const void *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes));
    close(fd);
}

void notify(const char *state, const char *format, ...) {
    const char *path = getenv("NOTIFY_SOCKET");
    char text[TEXT_BYTES];
    va_list args;
    if (!path)
        return;
    int at = snprintf(text, sizeof text, "%s%sMONOTONIC_USEC=%llu\nSTATUS=", state ? state : "",
                      state ? "\n" : "", (unsigned long long)process_now_ns() / 1000);
    va_start(args, format);
    vsnprintf(text + at, sizeof text - (size_t)at, format, args);
    va_end(args);
    for (char *c = text + at; *c; c++)
        if (*c == '\n')
            *c = ' ';
    send_to(path, text);
}
