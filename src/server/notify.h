/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service manager is told: sd_notify(3), datagrams to the socket that NOTIFY_SOCKET names; nothing where
 * it is not set. The main process is the anchor, which lives as long as the service: its number never changes,
 * whatever engines come and go, so MAINPID is not told; engines tell all else (NotifyAccess=all).
 *
 *   READY=1        an engine serves: the first one, one after a reload or a death, or a reload was refused
 *   RELOADING=1    a reload has begun
 *   STOPPING=1
 *   STATUS=, MONOTONIC_USEC=   the same in words, and when, with each of them
 */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

/* `state` of those above, without STATUS, or NULL; the format makes a line of status. A manager that does not
 * read is not waited for. */
void notify(const char *state, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
