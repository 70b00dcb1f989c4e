/* SPDX-License-Identifier: Apache-2.0 */
/* Standard error is a pipe or a socket that nobody reads. What waits is ended by the alarm. */
#include "server/log_line.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/must.h"

#define LIMIT_S 10
#define LINES 5000 /* more than any buffer has room for */

static int saved;

static int begin(void **state) {
    saved = dup(STDERR_FILENO);
    alarm(LIMIT_S);
    return saved < 0;
}

static int end(void **state) {
    alarm(0);
    dup2(saved, STDERR_FILENO);
    close(saved);
    return 0;
}

/* What there is to read, as text; closes nothing. */
static char *read_all(int fd) {
    size_t room = 8u << 20, n = 0;
    char *text = malloc(room);
    assert_non_null(text);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (ssize_t got; n + 1 < room && (got = read(fd, text + n, room - n - 1)) > 0;)
        n += (size_t)got;
    text[n] = 0;
    return text;
}

static uint32_t count_lines(const char *text) {
    uint32_t n = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++)
        n++;
    return n;
}

/* All lines are read or counted, each is whole, and the count is told first when there is room again. */
static void check_lost(int reader) {
    unsigned long long lost = 0;
    for (uint32_t i = 0; i < LINES; i++)
        log_line(6, "line %u of a log that nobody reads; it is as long as such lines are: %060u", i,
                 0);
    char *text = read_all(reader);
    uint32_t kept = count_lines(text);
    assert_true(kept > 0 && kept < LINES);
    assert_true(text[strlen(text) - 1] == '\n');
    assert_null(strstr(text, "lost"));
    free(text);
    log_tell_lost();
    log_line(6, "the next one");
    text = read_all(reader);
    assert_int_equal(sscanf(text, "<4>perdured: %llu lines of the log were lost", &lost), 1);
    assert_int_equal(lost, LINES - kept);
    assert_non_null(strstr(text, "\n<6>perdured: the next one\n"));
    assert_int_equal(count_lines(text), 2);
    free(text);
    log_tell_lost();
    text = read_all(reader);
    assert_string_equal(text, "");
    free(text);
}

static void a_pipe(void **state) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    check_lost(ends[0]);
    assert_int_equal(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
    close(ends[0]);
    close(ends[1]);
}

static void a_socket(void **state) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    dup2(ends[1], STDERR_FILENO);
    check_lost(ends[0]);
    close(ends[0]);
    close(ends[1]);
}

/* A broken invariant ends the process though nobody reads why. */
static void a_bug(void **state) {
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const char full[4096];
        alarm(LIMIT_S);
        dup2(ends[1], STDERR_FILENO);
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        while (write(ends[1], full, sizeof full) > 0)
            ;
        fcntl(ends[1], F_SETFL, 0);
        signal(SIGABRT, SIG_DFL);
        must(pid != 0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pipe, begin, end),
        cmocka_unit_test_setup_teardown(a_socket, begin, end),
        cmocka_unit_test(a_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
