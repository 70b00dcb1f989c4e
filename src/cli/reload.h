/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of `perdure reload`. The server answered when the successor was ready, and closes
 * control connections while it changes over; so the outcome is asked from the next engine: a higher
 * generation is success, a higher count of failures is a reload that was given up or taken back.
 */
#ifndef CLI_RELOAD_H
#define CLI_RELOAD_H

#include "cli/cli.h"

/* `started` is the RELOAD that the server answered; *done becomes that of the engine that serves
 * afterwards (a new reference). */
int reload_follow(const char *socket_path, uint64_t deadline_ns, const json_t *started,
                  json_t **done, struct cli_failure *f);

#endif
