/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `perdure check`: becomes `perdured --check` (docs/check.md), whose output and exit codes are the command's; so the
 * program that looks at a store is the one that wrote it. The perdured of this program's own folder is taken, or that
 * of ../sbin (an installation) or ../server (a build) beside it, or else the first of PATH: the pair of one version.
 */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "cli/cli.h"

/* Returns only if perdured could not be started: ERR_IO. */
int check_run(const struct cli *cli, const struct cli_command *command, struct cli_failure *f);

#endif
