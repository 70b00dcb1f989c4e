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

/* The sections of a block status: how many; whether this kind is one, and which; their size. A section of
 * which not all room is taken ends with an extent of length 0. The only one takes all room, and its extents
 * are what reply_data_bytes says; several leave STATUS_GAP_BYTES behind each, so that a source has room for
 * what it puts before the next. */
#define REQUEST_STATUS_GAP_BYTES 64u

static inline int request_status_has(uint32_t flags, enum request_status_kind kind) {
    static const uint32_t of[] = {REQUEST_STATUS_NO_PLACES, REQUEST_STATUS_CHANGES,
                                  REQUEST_STATUS_VERSIONS};
    return ((flags & of[kind]) != 0) != (kind == REQUEST_STATUS_OF_PLACES);
}
static inline uint32_t request_status_sections(uint32_t flags) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++)
        n += (uint32_t)request_status_has(flags, (enum request_status_kind)k);
    return n;
}
static inline uint64_t request_status_section_bytes(const struct request *r) {
    uint64_t bytes = request_data_room(r) / request_status_sections(r->flags);
    return bytes - bytes % sizeof(struct request_status_extent);
}
static inline uint32_t request_status_extents(const struct request *r) {
    uint64_t gap = request_status_sections(r->flags) > 1 ? REQUEST_STATUS_GAP_BYTES : 0;
    return (uint32_t)((request_status_section_bytes(r) - gap) /
                      sizeof(struct request_status_extent));
}

#endif
