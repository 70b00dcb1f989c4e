/* SPDX-License-Identifier: Apache-2.0 */
/* Results for people: aligned, sizes in units, times in local time. A key that is missing shows as
 * "-", so that an older or newer server can be read. */
#ifndef CLI_RENDER_H
#define CLI_RENDER_H

#include <stdio.h>

#include "cli/cli.h"

/* args: what was asked. True if there is a renderer for the operation. */
bool render_result(const struct cli *cli, const struct ctl_op *op, const json_t *args,
                   const json_t *result, FILE *out);

#endif
