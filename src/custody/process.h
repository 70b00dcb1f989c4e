/* SPDX-License-Identifier: Apache-2.0 */
/* What anchor, keeper and engine ask of the system about themselves. */
#ifndef CUSTODY_PROCESS_H
#define CUSTODY_PROCESS_H

/* At the beginning: signals and limits. */
void process_prepare(void);

/* A descriptor of the process, closed on exec; -1: there is none. */
int process_fd(int pid);

/* Nothing if it is negative. */
void process_close(int fd);

/* What the out-of-memory killer takes first: the highest value. Who may not have a lower one keeps what it has. */
int process_oom_score_adj(void);
void process_set_oom_score_adj(int value);

/* As low as is allowed. */
void process_protect(void);

#endif
