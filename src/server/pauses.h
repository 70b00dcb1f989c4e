/* SPDX-License-Identifier: Apache-2.0 */
/* The pauses that reloads and deaths made, counted in the server's slot. */
#ifndef SERVER_PAUSES_H
#define SERVER_PAUSES_H

#include "server/conn_slots.h"

/* The step that a pause counts to, and its end; 0: the last has none. */
uint32_t pauses_step(uint64_t pause_ns);
uint64_t pauses_step_end(uint32_t step);

void pauses_note(struct server *s, const struct pause *p);

/* The pause below which so many thousandths of them were, as closely as steps tell; 0: there was none. */
uint64_t pauses_quantile(const uint32_t steps[PAUSE_STEPS], uint32_t thousandths);

#endif
