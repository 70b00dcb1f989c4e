/* SPDX-License-Identifier: Apache-2.0 */
/* Between core.c and queues.c. */
#ifndef SERVER_CORE_PRIV_H
#define SERVER_CORE_PRIV_H

#include "server/core.h"

/* Whether the descriptor is that of a queue. */
int queues_claim(const struct core *c, int fd);

/* Lets go of adopted queues that have nothing in flight. */
void queues_drop(struct core *c);

/* Before letting go: nothing stays in flight that would die with the process, and what was done is
 * committed. ERR_TIMEDOUT: the disk does not answer; nothing has changed. */
int queues_rest(struct core *c, uint64_t until_ns);

#endif
