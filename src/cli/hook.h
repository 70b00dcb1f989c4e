/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands around a mark. Once `before` was started, `after` always runs, whatever happened in
 * between: what was frozen is thawed. From before the first until after the last, SIGINT, SIGTERM
 * and SIGHUP wait for this process, but reach the hooks themselves.
 */
#ifndef CLI_HOOK_H
#define CLI_HOOK_H

#include "cli/cli.h"

/* What is to happen between the hooks. */
typedef int hook_body(void *ctx, struct cli_failure *f);

/* before and after may be NULL. The first failure counts. */
int hook_around(const char *before, const char *after, hook_body *body, void *ctx,
                struct cli_failure *f);

#endif
