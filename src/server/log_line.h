/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: lines to standard error, which is shared with whoever started the server and its processes. Whoever
 * reads it may be slow or gone; the engine does not wait for him.
 *
 * O_NONBLOCK belongs to the open file and would change it for the others too. So a line is written only when
 * there is room for it: a line is shorter than PIPE_BUF, and a pipe says that it can be written to when it has
 * room for that much. Between the question and the write another process may take the room; a pipe is therefore
 * written to with RWF_NOWAIT, and a socket with MSG_DONTWAIT. Lines without room are lost and counted; the
 * count is told before the next line that finds room.
 */
#ifndef SERVER_LOG_LINE_H
#define SERVER_LOG_LINE_H

#include <stdint.h>

/* One line of the log, with its priority (syslog numbers). */
void log_line(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Tells of lost lines, if there are any and there is room now; to be called now and then. */
void log_tell_lost(void);

#endif
