/* SPDX-License-Identifier: Apache-2.0 */
#include "server/log_line.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/must.h"

#define LINE_BYTES 1024
_Static_assert(LINE_BYTES + 64 <= PIPE_BUF, "a line is written whole or not at all");

/* Of this process; its successor begins anew. */
static uint64_t lost;

static ssize_t write_now(const char *line, size_t bytes) {
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct iovec v = {(void *)(uintptr_t)line, bytes};
    struct stat st;
    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) || fstat(STDERR_FILENO, &st) < 0)
        return -1;
    ssize_t n = -1;
    errno = EOPNOTSUPP;
    if (S_ISFIFO(st.st_mode))
        n = pwritev2(STDERR_FILENO, &v, 1, -1, RWF_NOWAIT);
    else if (S_ISSOCK(st.st_mode))
        n = send(STDERR_FILENO, line, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
        n = write(STDERR_FILENO, line, bytes);
    return n;
}

void log_tell_lost(void) {
    char line[LINE_BYTES];
    if (lost == 0)
        return;
    int n = snprintf(line, sizeof line,
                     "<4>perdured: %llu lines of the log were lost here: nobody read them\n",
                     (unsigned long long)lost);
    if (write_now(line, (size_t)n) == n)
        lost = 0;
}

static void put(const char *line) {
    log_tell_lost();
    if (lost > 0 || write_now(line, strlen(line)) < 0)
        lost++;
}

void log_line(int priority, const char *format, ...) {
    char line[LINE_BYTES];
    int n = snprintf(line, sizeof line, "<%d>perdured: ", priority);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    for (char *p = line; *p; p++)
        if (*p == '\n')
            *p = ' ';
    strcat(line, "\n");
    put(line);
}

/* An engine with a broken invariant dies; it does not wait for a reader first. */
void must_tell(const char *line) {
    put(line);
}
