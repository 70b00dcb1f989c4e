/* SPDX-License-Identifier: Apache-2.0 */
#include "server/trace.h"

#include "arena/arena.h"
#include "base/err.h"
#include "base/numbers.h"

struct lives_head {
    _Atomic uint64_t deaths;
    _Atomic uint64_t begins[SERVER_TRACE_LIVES];
    uint64_t reserved[3];
};
_Static_assert(sizeof(struct lives_head) == 64, "padding in struct lives_head");

static struct lives_head *head_of(struct arena *a) {
    return a->region_bytes[REGION_TRACE] >= SERVER_TRACE_BYTES ? (void *)a->regions[REGION_TRACE]
                                                               : NULL;
}

int server_trace_open(struct trace *t, struct arena *a, uint32_t deaths_ago, uint64_t *begin) {
    struct lives_head *h = head_of(a);
    uint64_t bytes = (SERVER_TRACE_BYTES - sizeof *h) / SERVER_TRACE_LIVES;
    *t = (struct trace){0};
    if (!h)
        return ERR_NOTFOUND;
    uint64_t life = (atomic_load(&h->deaths) - deaths_ago) % SERVER_TRACE_LIVES;
    *begin = atomic_load(&h->begins[life]);
    return trace_open_at(t, (unsigned char *)h + sizeof *h + life * bytes, bytes);
}

void server_trace_begin(struct trace *t, struct arena *a, int after_death) {
    struct lives_head *h = head_of(a);
    uint64_t begin;
    if (h && after_death)
        atomic_fetch_add(&h->deaths, 1);
    if (server_trace_open(t, a, 0, &begin) == 0 && after_death)
        atomic_store(&h->begins[atomic_load(&h->deaths) % SERVER_TRACE_LIVES],
                     atomic_load(&t->head->next));
}
