/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request over the control socket. The deadline is an absolute time of client_now_ns().
 *
 * A server that reloads closes control connections. An operation that only reads is then asked
 * again, until the deadline; one that changes something is not, because it may have been done.
 */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "cli/cli.h"
#include "ctl/proto.h"

uint64_t client_now_ns(void);

/* $PERDURE_SOCKET, else run/control.sock if it is there, else the system's. */
const char *client_default_socket(void);

/* 0 with *reply filled (it may be a refusal), or an error with the failure told. args is borrowed.
 */
int client_call(const char *socket_path, uint64_t deadline_ns, const struct ctl_op *op,
                json_t *args, struct ctl_reply *reply, struct cli_failure *f);

/* Sleeps, but not past the deadline. False once the deadline has passed. */
bool client_pause(uint64_t pause_ns, uint64_t deadline_ns);

#endif
