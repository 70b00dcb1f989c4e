/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/check.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

static const char *const beside[] = {"perdured", "../sbin/perdured", "../server/perdured"};

/* The path of the perdured that belongs to this program, or the name alone: PATH tells. */
static const char *find_perdured(char path[PATH_MAX]) {
    ssize_t bytes = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[bytes > 0 ? bytes : 0] = '\0';
    char *name = strrchr(path, '/');
    for (size_t i = 0; name && i < sizeof beside / sizeof beside[0]; i++) {
        size_t room = PATH_MAX - (size_t)(name + 1 - path);
        if ((size_t)snprintf(name + 1, room, "%s", beside[i]) < room && access(path, X_OK) == 0)
            return path;
    }
    return "perdured";
}

int check_run(const struct cli *cli, const struct cli_command *command, struct cli_failure *f) {
    char path[PATH_MAX];
    const char *program = find_perdured(path);
    const char *argv[7] = {program, "--check"};
    int count = 2;
    if (json_is_true(json_object_get(command->args, "repair")))
        argv[count++] = "--repair";
    if (cli->json)
        argv[count++] = "--json";
    argv[count++] = "--store";
    argv[count++] = command->local[0];
    argv[count] = NULL;
    fflush(stdout);
    execvp(program, (char *const *)(uintptr_t)argv);
    if (errno != ENOENT)
        return cli_fail(f, ERR_IO, "%.400s cannot be started: %s", program, strerror(errno));
    cli_fail(f, ERR_IO, "there is no perdured beside this program, nor in PATH");
    cli_hint(f, "a store is looked at by the server's program: install it, or run perdured "
                "--check where it is");
    return f->err;
}
