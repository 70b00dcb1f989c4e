/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/hook.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"

static int run(const char *what, const char *command, const sigset_t *child_mask,
               struct cli_failure *f) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return cli_fail(f, ERR_IO, "%s could not be started: %s", what, strerror(errno));
    if (pid == 0) {
        sigprocmask(SIG_SETMASK, child_mask, NULL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return cli_fail(f, ERR_IO, "%s: %s", what, strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return OK;
    if (WIFEXITED(status))
        return cli_fail(f, ERR_IO, "%s ended with exit code %d: %.200s", what, WEXITSTATUS(status),
                        command);
    return cli_fail(f, ERR_IO, "%s was ended by signal %d: %.200s", what, WTERMSIG(status),
                    command);
}

int hook_around(const char *before, const char *after, hook_body *body, void *ctx,
                struct cli_failure *f) {
    sigset_t wait, old;
    sigemptyset(&wait);
    sigaddset(&wait, SIGINT);
    sigaddset(&wait, SIGTERM);
    sigaddset(&wait, SIGHUP);
    sigprocmask(SIG_BLOCK, &wait, &old);
    int err = before ? run("--exec-before", before, &old, f) : OK;
    if (err)
        cli_hint(f, "no mark was made");
    else
        err = body(ctx, f);
    if (after) {
        struct cli_failure late;
        int after_err = run("--exec-after", after, &old, &late);
        if (after_err && err) {
            fprintf(stderr, "perdure: %s\n", late.message);
        } else if (after_err) {
            *f = late;
            cli_hint(f, "the mark was made; undo by hand what --exec-before did");
            err = after_err;
        }
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return err;
}
