/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"

#define SYSTEM_SOCKET "/run/perdure/control.sock"
#define LOCAL_SOCKET "run/control.sock"
#define REQUEST_ID 1
#define ANSWER_MAX_BYTES (64 * MIB) /* a list of some 100,000 objects */
#define RETRY_PAUSE_NS (20 * NS_PER_MS)

struct answer {
    char *text;
    size_t len, room;
};

uint64_t client_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

bool client_pause(uint64_t pause_ns, uint64_t deadline_ns) {
    uint64_t now_ns = client_now_ns();
    if (now_ns >= deadline_ns)
        return false;
    pause_ns = min_u64(pause_ns, deadline_ns - now_ns);
    struct timespec t = {.tv_sec = (time_t)(pause_ns / NS_PER_S),
                         .tv_nsec = (long)(pause_ns % NS_PER_S)};
    nanosleep(&t, NULL);
    return true;
}

const char *client_default_socket(void) {
    const char *path = getenv("PERDURE_SOCKET");
    if (path && path[0])
        return path;
    return access(LOCAL_SOCKET, F_OK) == 0 ? LOCAL_SOCKET : SYSTEM_SOCKET;
}

static int fail_timed_out(struct cli_failure *f) {
    cli_fail(f, ERR_TIMEDOUT, "the server did not answer in time");
    cli_hint(f, "what was asked may still be done; perdure status tells how the server is, "
                "--timeout allows more time");
    return f->err;
}

static int fail_connect(struct cli_failure *f, const char *path, int error) {
    if (error == EACCES || error == EPERM) {
        cli_fail(f, ERR_PERM, "this user may not talk to the server at %s", path);
        cli_hint(f, "run the command as the user that runs the server, or with sudo");
        return f->err;
    }
    cli_fail(f, ERR_UNREACHABLE, "the server at %s cannot be reached: %s", path, strerror(error));
    cli_hint(f,
             "start it (perdured --store DIR --control %s), or name its socket with --socket or "
             "PERDURE_SOCKET",
             path);
    return f->err;
}

static int fail_closed(struct cli_failure *f) {
    cli_fail(f, ERR_CLOSED, "the server closed the connection before it answered");
    cli_hint(f, "it may have reloaded or stopped, and what was asked may have been done: look "
                "before you repeat it");
    return f->err;
}

/* The kernel applies the send limit to a connect that waits for room in the backlog. */
static int open_socket(const char *path, uint64_t deadline_ns, struct cli_failure *f) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return cli_fail(f, ERR_INVAL, "the socket's path is longer than %zu bytes: %s",
                        sizeof address.sun_path - 1, path);
    strcpy(address.sun_path, path);
    uint64_t now_ns = client_now_ns();
    if (now_ns >= deadline_ns)
        return fail_timed_out(f);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_connect(f, path, errno);
    uint64_t left_us = (deadline_ns - now_ns) / NS_PER_US + 1;
    struct timeval limit = {.tv_sec = (time_t)(left_us / 1000000),
                            .tv_usec = (suseconds_t)(left_us % 1000000)};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int error = errno;
    close(fd);
    if (error == EAGAIN || error == EINPROGRESS)
        return fail_timed_out(f);
    return fail_connect(f, path, error);
}

static int send_line(int fd, const char *line, struct cli_failure *f) {
    for (size_t left = strlen(line); left > 0;) {
        ssize_t n = send(fd, line, left, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? fail_timed_out(f) : fail_closed(f);
        line += n;
        left -= (size_t)n;
    }
    return OK;
}

static int wait_readable(int fd, uint64_t deadline_ns, struct cli_failure *f) {
    for (;;) {
        uint64_t now_ns = client_now_ns();
        if (now_ns >= deadline_ns)
            return fail_timed_out(f);
        uint64_t left_ms = min_u64((deadline_ns - now_ns) / NS_PER_MS + 1, 1000 * 1000);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)left_ms) > 0)
            return OK;
    }
}

/* Reads up to the line feed; answer->len then excludes it. */
static int read_line(int fd, uint64_t deadline_ns, struct answer *a, struct cli_failure *f) {
    for (;;) {
        if (a->len == a->room) {
            size_t room = a->room ? a->room * 2 : 4096;
            char *text = room <= ANSWER_MAX_BYTES ? realloc(a->text, room) : NULL;
            if (!text)
                return cli_fail(f, ERR_TOOBIG, "the server's answer is too long");
            a->text = text;
            a->room = room;
        }
        int err = wait_readable(fd, deadline_ns, f);
        if (err)
            return err;
        ssize_t n = recv(fd, a->text + a->len, a->room - a->len, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return fail_closed(f);
        const char *end = memchr(a->text + a->len, '\n', (size_t)n);
        a->len += (size_t)n;
        if (end) {
            a->len = (size_t)(end - a->text);
            return OK;
        }
    }
}

static int call_once(const char *path, uint64_t deadline_ns, const char *line, struct answer *a,
                     struct cli_failure *f) {
    int fd = open_socket(path, deadline_ns, f);
    if (fd < 0)
        return fd;
    a->len = 0;
    int err = send_line(fd, line, f);
    if (!err)
        err = read_line(fd, deadline_ns, a, f);
    close(fd);
    return err;
}

int client_call(const char *socket_path, uint64_t deadline_ns, const struct ctl_op *op,
                json_t *args, struct ctl_reply *reply, struct cli_failure *f) {
    char *line = ctl_request_line(REQUEST_ID, op, args);
    if (!line)
        return cli_fail(f, ERR_NOMEM, "out of memory");
    if (strlen(line) > CTL_LINE_MAX) {
        free(line);
        return cli_fail(f, ERR_TOOBIG, "the request is longer than 64 KiB");
    }
    struct answer answer = {0};
    struct fault fault;
    int err = call_once(socket_path, deadline_ns, line, &answer, f);
    while (err == ERR_CLOSED && op->flags & CTL_READ) {
        if (!client_pause(RETRY_PAUSE_NS, deadline_ns))
            break;
        err = call_once(socket_path, deadline_ns, line, &answer, f);
    }
    if (!err) {
        err = ctl_reply_parse(answer.text, answer.len, reply, &fault);
        if (err)
            cli_fail(f, err, "%s", fault.text);
        else if (reply->id != REQUEST_ID && reply->ok) {
            json_decref(reply->json);
            err = cli_fail(f, ERR_PROTO, "the server answered another request");
        }
    }
    free(answer.text);
    free(line);
    return err;
}
