/* SPDX-License-Identifier: Apache-2.0 */
/* What anchor, keeper and engine ask of the system about themselves. */
#ifndef CUSTODY_PROCESS_H
#define CUSTODY_PROCESS_H

#include <stdint.h>

/* At the beginning: signals and limits. */
void process_prepare(void);

/* A descriptor of the process, closed on exec; -1: there is none. */
int process_fd(int pid);

/* Whether the process of a descriptor has ended; one without a descriptor has. */
int process_has_ended(int fd);

/* In a child: it does not outlive its parent. 0: the parent, of that number, is dead already. */
int process_ends_with(int parent);

/* Monotonic. */
uint64_t process_now_ns(void);

/* Nothing if it is negative. */
void process_close(int fd);

/* What the out-of-memory killer takes first: the highest value. Who may not have a lower one keeps what it has. */
int process_oom_score_adj(void);
void process_set_oom_score_adj(int value);

/* As low as is allowed. */
void process_protect(void);

#endif
