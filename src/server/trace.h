/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the server's engines did last, for a person who looks into a death: trace points (arena/trace.h)
 * of base/numbers.h in REGION_TRACE, which is cut into four lives:
 *
 *   offset 0     deaths so far (8); where each life begins in its trace (4 times 8); reserved (24)
 *   offset 64    life 0, life 1, life 2, life 3: a trace each, of equal size
 *
 * Life `deaths % 4` is written. An engine that attaches after a death raises the count, so the last points
 * of the three engines that died last stay as they are; a planned reload goes on in the same life. Any
 * content of the region is valid.
 */
#ifndef SERVER_TRACE_H
#define SERVER_TRACE_H

#include "arena/trace.h"

struct arena;

#define SERVER_TRACE_LIVES 4u
#define SERVER_TRACE_POINTS 16384u
#define SERVER_TRACE_BYTES                                                                         \
    (64 + SERVER_TRACE_LIVES *                                                                     \
              (sizeof(struct trace_head) + SERVER_TRACE_POINTS * sizeof(struct trace_entry)))

/* At attach. An arena without the region is not traced. */
void server_trace_begin(struct trace *t, struct arena *a, int after_death);

/* The life that ended so many deaths ago, 0: the present one, to read from *begin on. ERR_NOTFOUND: there is
 * no such region. */
int server_trace_open(struct trace *t, struct arena *a, uint32_t deaths_ago, uint64_t *begin);

#endif
