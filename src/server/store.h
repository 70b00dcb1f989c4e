/* SPDX-License-Identifier: Apache-2.0 */
/* The store's directory, and the lock that keeps a second server away. The lock is a flock on DIR/lock: it
 * belongs to the open file, so it passes from engine to engine with the descriptor and ends with the last. */
#ifndef SERVER_STORE_H
#define SERVER_STORE_H

#include <stddef.h>

#include "custody/boot.h"

/* Opens, or makes, the directory; returns its descriptor, or an error with a sentence in why. */
int store_open(const char *path, char *why, size_t room);
/* First engine: takes the lock. Later ones have it. ERR_BUSY: another server. */
int store_lock(struct boot *b, int dir, char *why, size_t room);

#endif
