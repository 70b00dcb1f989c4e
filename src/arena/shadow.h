/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second guard after const: a private copy of all tables as of the last commit. At commit,
 * every byte that differs must have been opened in this turn; a byte that was changed without edit
 * stops the process in the turn that changed it. For tests: it reads all slots in use every turn.
 */
#ifndef ARENA_SHADOW_H
#define ARENA_SHADOW_H

struct arena;

int arena_shadow_start(struct arena *a);
void arena_shadow_stop(struct arena *a);

/* Called by arena_commit before the turn ends. */
void arena_shadow_check(struct arena *a);

#endif
