/* SPDX-License-Identifier: Apache-2.0 */
/* Typed access to the table of requests (plat/md_packet.h), and to the bytes that they refer to.
 * The structure itself stands in plat, which knows no tables. */
#ifndef ARENA_REQUEST_H
#define ARENA_REQUEST_H

#include <stdint.h>

#include "arena/arena.h"
#include "arena/buffer.h"
#include "base/numbers.h"
#include "plat/md_packet.h"

SLOT_TABLE(request, TABLE_REQUEST)

extern const struct arena_table_spec request_spec;

/* Where byte `at` of the payload lies, and in *run how many bytes follow each other there, at least
 * 1. The payload begins at data_start; `at` must lie in the buffers. */
unsigned char *request_data_at(const struct buffer_pool *p, const struct request *r, uint64_t at,
                               uint64_t *run);

/* What the program works on from here on is this request. It is told from others by its source's number, which
 * it has again when a turn was undone; its slot may be another one then. */
static inline void request_hold(struct arena *a, struct request_h h) {
    const struct request *r = request_view(a, h);
    arena_hold_input(a, r->conn.v, (uint32_t)(r->cookie ^ r->cookie >> 32));
}

/* Bytes from data_start to the end of the buffers. */
uint64_t request_data_room(const struct request *r);

#endif
