/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli: the program `perdure`. It turns words into one request (options.c), sends it over the
 * server's Unix socket and waits for the answer (client.c), and shows it (render.c). Everything it
 * knows about operations comes from the table in ctl/ops.h. It keeps no state and changes nothing
 * itself but for the hooks of `mark`, which run here (hook.c).
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl/moment.h"
#include "ctl/ops.h"

struct cli {
    const char *socket_path;
    bool json;
    uint64_t timeout_ns; /* for one command as a whole */
    struct moment_zone zone;
};

/* What the words asked for. */
enum cli_task { CLI_RUN, CLI_HELP, CLI_VERSION };

struct cli_command {
    enum cli_task task;
    const struct ctl_op *op; /* RUN always; HELP if the words named one */
    const char *noun;        /* HELP: NULL is everything */
    json_t *args;
    const char *local[CTL_ARGS_MAX]; /* texts of the operation's CTL_LOCAL arguments */
    char **rest;                     /* CTL_TAKES_COMMAND: the words after "--" */
    int rest_count;
};

/* A failure as it is shown; texts may be empty. */
struct cli_failure {
    int err;
    char message[640];
    char hint[256];
};

__attribute__((format(printf, 3, 4))) int cli_fail(struct cli_failure *f, int err,
                                                   const char *format, ...);
__attribute__((format(printf, 2, 3))) void cli_hint(struct cli_failure *f, const char *format, ...);

#endif
