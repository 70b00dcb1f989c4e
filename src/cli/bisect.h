/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the write that made something go wrong: opens images of moments between a good and a bad one, halving what
 * lies between, and has a command judge each. Its exit code says: 0 good, 125 it cannot tell, any other up to 127
 * bad (as for `git bisect run`); a signal or a code above ends the search. Images are closed in any case.
 */
#ifndef CLI_BISECT_H
#define CLI_BISECT_H

#include "cli/cli.h"

int bisect_run(const struct cli *cli, const struct cli_command *command, struct cli_failure *f);

#endif
