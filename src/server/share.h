/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers and request slots are shared, so that peers who ask for much and read nothing leave something to
 * everybody else.
 *
 *  1. Who takes leaves eight times as much as it takes, at most an eighth of the pool, beside what each use
 *     leaves anyway (arena/buffer.h). However many ask for much, small requests find room; an idle pool
 *     serves the largest.
 *  2. A connection with k requests in hand leaves 8k slots to others.
 *  3. When one with nothing in hand waits all the same, idle connections give their receive buffers back;
 *     and a connection whose peer holds it up, taking none of its replies or sending nothing of a payload
 *     that it began, for the whole of `stall_ns`, is closed, as many as are needed. Nobody else is ever closed
 *     for want of buffers.
 *  4. What was got that way is for those who have waited longest: for a while nobody who asks for more than a
 *     little passes the first of them.
 */
#ifndef SERVER_SHARE_H
#define SERVER_SHARE_H

#include "server/reactor.h"

/* Whether that many pages may be taken now, by the rules of the pool and rules 1 and 4: kept_pages are those of
 * the first who waits. */
int share_may_take(const struct buffer_pool *p, enum buffer_use use, uint32_t pages,
                   uint32_t kept_pages);

/* Rule 2: whether a connection with that many requests in hand may have another slot. */
int share_may_have_slot(uint32_t slots_free, uint32_t in_hand);

/* Output phase: rule 3, when it is due. */
void share_relieve(struct reactor *r);

#endif
