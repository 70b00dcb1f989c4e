/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "engine/index/index_priv.h"

uint64_t index_memtable_region_bytes(uint32_t memtables, uint32_t records, uint32_t blocks) {
    uint64_t area = memtable_area_bytes(memtable_entries_max(records, blocks));
    return memtables * round_up_u64(area, 64);
}

int index_open(struct index **out, const struct index_parts *parts) {
    struct index *x = calloc(1, sizeof *x);
    if (!x)
        return ERR_NOMEM;
    must(parts->a->tables[TABLE_MEMTABLE].capacity <= INDEX_MEMTABLES_MAX);
    x->parts = *parts;
    x->a = parts->a;
    x->retry_end = &x->retry;
    x->live_room = 256;
    x->live = calloc(x->live_room, sizeof *x->live);
    if (!x->live || block_table_open(&x->table, x->a) < 0 ||
        index_cache_open(&x->cache, parts->cache_bytes) < 0) {
        index_close(x);
        return ERR_NOMEM;
    }
    parts->io->routines[ROUTINE_LEAF_READ] =
        (struct io_routine){.done = index_fetch_done, .ctx = x};
    *out = x;
    return 0;
}

void index_set_log(struct index *x, struct log *l) {
    x->log = l;
}

static void free_searches(struct index_search *s) {
    for (struct index_search *next; s; s = next) {
        next = s->next;
        free(s);
    }
}

void index_close(struct index *x) {
    if (!x)
        return;
    for (uint32_t i = 0; i < INDEX_FETCHES_MAX; i++)
        free_searches(x->fetches[i].waiting);
    free_searches(x->retry);
    free_searches(x->idle);
    index_close_jobs(x);
    index_close_merged(x);
    index_cache_close(&x->cache);
    block_table_close(&x->table);
    free(x->runs);
    free(x->live);
    free(x);
}

/* ---- Live segments ---- */

static uint32_t *live_at(const struct index *x, uint32_t segment) {
    uint32_t at = (uint32_t)hash_mix(segment) & (x->live_room - 1);
    while (x->live[at] && x->live[at] != segment)
        at = (at + 1) & (x->live_room - 1);
    return &x->live[at];
}

int index_segment_is_live(const struct index *x, uint32_t segment) {
    return segment != 0 && *live_at(x, segment) == segment;
}

static void live_add(struct index *x, uint32_t segment) {
    must(segment != 0);
    if (*live_at(x, segment))
        return;
    if (x->live_count * 2 >= x->live_room) {
        uint32_t *old = x->live, room = x->live_room;
        x->live = calloc((size_t)room * 2, sizeof *x->live);
        must(x->live != NULL);
        x->live_room = room * 2;
        for (uint32_t i = 0; i < room; i++)
            if (old[i])
                *live_at(x, old[i]) = old[i];
        free(old);
    }
    *live_at(x, segment) = segment;
    x->live_count++;
}

static void live_remove(struct index *x, uint32_t segment) {
    uint32_t *at = live_at(x, segment);
    if (!*at)
        return;
    *at = 0;
    x->live_count--;
    /* What stands behind it may have been pushed there by it. */
    for (uint32_t i = (uint32_t)(at - x->live + 1) & (x->live_room - 1); x->live[i];
         i = (i + 1) & (x->live_room - 1)) {
        uint32_t moved = x->live[i];
        x->live[i] = 0;
        *live_at(x, moved) = moved;
    }
}

/* ---- Memtables ---- */

uint32_t index_memtables(const struct index *x, struct memtable_h out[INDEX_MEMTABLES_MAX]) {
    uint32_t n = 0;
    for (struct memtable_h h = memtable_next(x->a, (struct memtable_h){0}); h.v;
         h = memtable_next(x->a, h)) {
        uint32_t at = n++;
        for (; at > 0 && memtable_view(x->a, out[at - 1])->opened > memtable_view(x->a, h)->opened;
             at--)
            out[at] = out[at - 1];
        out[at] = h;
    }
    return n;
}

struct memtable_h index_memtable_of(const struct index *x, uint32_t segment) {
    struct memtable_h h = memtable_next(x->a, (struct memtable_h){0});
    while (h.v && memtable_view(x->a, h)->segment != segment)
        h = memtable_next(x->a, h);
    return h;
}

int index_segment_is_sealed(const struct index *x, uint32_t segment) {
    return index_memtable_of(x, segment).v == 0;
}

static int begin_segment(void *ctx, struct segment_h segment) {
    struct index *x = ctx;
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint32_t number = segment_view(x->a, segment)->number, n = index_memtables(x, all);
    must(index_memtable_of(x, number).v == 0);
    uint64_t opened = n ? memtable_view(x->a, all[n - 1])->opened + 1 : 1;
    if (!memtable_make(x->a, number, opened).v)
        return ERR_AGAIN;
    live_add(x, number);
    return 0;
}

static int append(void *ctx, struct segment_h segment, const struct version *v) {
    struct index *x = ctx;
    struct memtable_h h = index_memtable_of(x, segment_view(x->a, segment)->number);
    must(h.v != 0);
    x->dirty = 1;
    return memtable_append(x->a, h, v);
}

/* The version is in the segment's memtable: it gets its place there. Else it is taken out of the
 * memtable in which it is, with all that follow, for these move too; and goes behind the others. */
static void moved(void *ctx, struct segment_h segment, const struct version *v) {
    struct index *x = ctx;
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    struct memtable_h h = index_memtable_of(x, segment_view(x->a, segment)->number);
    x->dirty = x->moving = 1;
    x->moves++;
    must(h.v != 0);
    if (memtable_view(x->a, h)->last_sequence >= v->sequence) {
        memtable_replace(x->a, h, v);
        return;
    }
    for (uint32_t i = index_memtables(x, all); i-- > 0;)
        if (memtable_view(x->a, all[i])->last_sequence >= v->sequence)
            memtable_cut(x->a, all[i], v->sequence);
    must(memtable_append(x->a, h, v) == 0);
}

/* ---- Runs ---- */

int index_add_run(struct index *x, const struct segment *s) {
    live_add(x, s->number);
    if (s->run_bytes == 0)
        return 0;
    if (x->run_count == x->run_room) {
        uint32_t room = x->run_room ? 2 * x->run_room : 64;
        struct index_run *runs = realloc(x->runs, room * sizeof *runs);
        if (!runs)
            return ERR_NOMEM;
        x->runs = runs;
        x->run_room = room;
    }
    uint32_t at = x->run_count++;
    for (; at > 0 && x->runs[at - 1].first_sequence > s->first_sequence; at--)
        x->runs[at] = x->runs[at - 1];
    x->runs[at] = (struct index_run){.piece = {.identity = run_identity(s->number),
                                               .cached_as = index_cache_name(&x->cache),
                                               .segment = s->number,
                                               .offset_bytes = s->run_offset,
                                               .size_bytes = s->run_bytes},
                                     .first_sequence = s->first_sequence,
                                     .last_sequence = s->last_sequence};
    x->merges_wait = 0;
    x->applied = max_u64(x->applied, s->last_sequence);
    return 0;
}

struct index_run *index_run_before(struct index *x, uint64_t cursor) {
    uint32_t low = 0, high = x->run_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (x->runs[middle].first_sequence < cursor)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &x->runs[low - 1] : NULL;
}

struct index_run *index_run_of(struct index *x, uint32_t segment) {
    for (uint32_t i = 0; i < x->run_count; i++)
        if (x->runs[i].piece.segment == segment)
            return &x->runs[i];
    return NULL;
}

static int sealed(void *ctx, struct segment_h segment) {
    struct index *x = ctx;
    const struct segment *s = segment_view(x->a, segment);
    int err = index_add_run(x, s);
    struct memtable_h h = index_memtable_of(x, s->number);
    if (err == 0 && h.v)
        memtable_free(x->a, h);
    return err;
}

static void freed(void *ctx, struct segment_h segment) {
    struct index *x = ctx;
    uint32_t number = segment_view(x->a, segment)->number;
    struct memtable_h h = index_memtable_of(x, number);
    if (h.v)
        memtable_free(x->a, h);
    struct index_run *run = index_run_of(x, number);
    if (run) {
        struct index_merged *covered_by = run->covered_by;
        x->moves++;
        x->run_count--;
        memmove(run, run + 1, (size_t)(x->runs + x->run_count - run) * sizeof *run);
        if (covered_by)
            index_segment_gone(x, covered_by);
    }
    live_remove(x, number);
}

static void seal(void *ctx, struct segment_h segment, int now) {
    if (now)
        index_make_run_now(ctx, segment);
    else
        index_want_run(ctx, segment);
}

static uint32_t most_run_bytes(void *ctx, uint32_t records, uint32_t blocks) {
    (void)ctx;
    return (uint32_t)min_u64(run_bytes_max(records, blocks), UINT32_MAX);
}

const struct log_index_ops index_log_ops = {.run_bytes_max = most_run_bytes,
                                            .begin = begin_segment,
                                            .append = append,
                                            .moved = moved,
                                            .seal = seal,
                                            .sealed = sealed,
                                            .freed = freed,
                                            .device = index_device};

uint64_t index_known_data(struct index *x, const struct ancestry *view, uint64_t block,
                          uint64_t blocks) {
    uint64_t n = 0;
    for (uint64_t b = block, end; b < block + blocks; b = end) {
        uint32_t page = block_table_find(&x->table, view->timeline, chunk_of_block(b));
        end = min_u64(block + blocks, (chunk_of_block(b) + 1) * CHUNK_BLOCKS);
        if (page == TABLE_NO_PAGE)
            continue;
        struct block_place p;
        for (uint64_t i = b; i < end; i++)
            n += block_table_get(&x->table, page, view->family, i, &p) == PLACE_DATA;
    }
    return n;
}

int index_known_check(struct index *x, const struct ancestry *view, uint64_t block, uint32_t crc) {
    uint32_t page = block_table_find(&x->table, view->timeline, chunk_of_block(block));
    struct block_place p;
    return page != TABLE_NO_PAGE &&
           block_table_get(&x->table, page, view->family, block, &p) == PLACE_DATA && p.crc == crc;
}

/* ---- After the commit ---- */

/* At a cold start, segments that are sealed already may be newer than one that is not: then what its
 * versions say of the present is not known. */
static int is_older_than_a_run(const struct index *x, const struct memtable_entry *e) {
    return x->run_count > 0 && x->runs[x->run_count - 1].last_sequence > e->sequence;
}

static void apply_to_table(struct index *x, const struct memtable_view *v,
                           const struct memtable_entry *e) {
    struct block_table *t = &x->table;
    if (e->blocks > 0 && is_older_than_a_run(x, e)) {
        block_table_drop(t, e->timeline, e->chunk, e->chunk + 1);
        return;
    }
    if (e->blocks == 0) {
        block_table_drop(t, e->timeline, chunk_of_block(e->chunk),
                         chunk_of_block(e->place - 1) + 1);
        return;
    }
    uint32_t page = e->kind == PLACE_DATA ? block_table_make(t, e->timeline, e->chunk)
                                          : block_table_find(t, e->timeline, e->chunk);
    if (page == TABLE_NO_PAGE)
        return;
    for (uint32_t i = 0; i < e->blocks; i++) {
        struct block_place p = {.place = place_of_kind(e->kind)};
        if (e->kind == PLACE_DATA)
            p = (struct block_place){place_block(e->place, i), v->checks[e->checks + i]};
        block_table_set(t, page, e->family, e->chunk * CHUNK_BLOCKS + e->first + i, p);
    }
}

/* Up to where the entries of a memtable are of whole requests; 0 if the question goes to the next
 * older one, because none that is not applied ends a request. At a cold start the end of one may be in a
 * segment that is sealed already, or not yet read: the log knows. */
static int whole_requests(const struct index *x, const struct memtable_view *v, uint32_t entries,
                          uint32_t *end) {
    uint64_t whole = log_whole(x->log);
    for (*end = entries; *end > v->area->applied; --*end) {
        const struct memtable_entry *e = &v->entries[*end - 1];
        if (!(e->flags & VERSION_MORE) || e->sequence <= whole)
            return 1;
    }
    return 0;
}

void index_apply(struct index *x) {
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint32_t ends[INDEX_MEMTABLES_MAX];
    x->moving = 0;
    if (!x->dirty)
        return;
    uint32_t n = index_memtables(x, all);
    int found = 0;
    x->dirty = 0;
    for (uint32_t i = n; i-- > 0;) {
        struct memtable_view v = memtable_at(x->a, all[i]);
        uint32_t entries = memtable_view(x->a, all[i])->entries;
        ends[i] = entries;
        if (!found) {
            found = whole_requests(x, &v, entries, &ends[i]);
            if (ends[i] < entries)
                x->dirty = 1;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        struct memtable_view v = memtable_at(x->a, all[i]);
        for (uint32_t number = v.area->applied; number < ends[i]; number++) {
            memtable_link(x->a, all[i], number);
            apply_to_table(x, &v, &v.entries[number]);
            v.area->applied = number + 1;
            x->applied = max_u64(x->applied, v.entries[number].sequence);
        }
        /* Beyond the last entry there may be records without blocks. */
        const struct memtable *m = memtable_view(x->a, all[i]);
        if (v.area->applied >= m->entries)
            x->applied = max_u64(x->applied, m->last_sequence);
    }
}

int index_attach(struct index *x) {
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint32_t n = index_memtables(x, all);
    for (struct segment_h h = segment_next(x->a, (struct segment_h){0}); h.v;
         h = segment_next(x->a, h)) {
        const struct segment *s = segment_view(x->a, h);
        if (s->slot.state == SEGMENT_SEALED && index_add_run(x, s) < 0)
            return ERR_NOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct memtable_view v = memtable_at(x->a, all[i]);
        const struct memtable *m = memtable_view(x->a, all[i]);
        live_add(x, m->segment);
        uint32_t applied = v.area->applied < m->entries ? v.area->applied : m->entries;
        if (applied > 0)
            x->applied = max_u64(x->applied, v.entries[applied - 1].sequence);
    }
    /* Nobody waits for what a former process has read. */
    for (struct io_h h = io_next(x->a, (struct io_h){0}); h.v; h = io_next(x->a, h))
        if (io_view(x->a, h)->routine == ROUTINE_LEAF_READ)
            io_edit(x->a, h)->routine = ROUTINE_DISCARD;
    x->dirty = 1;
    index_apply(x);
    return 0;
}

uint64_t index_applied(const struct index *x) {
    return x->applied;
}

uint64_t index_complete(const struct index *x) {
    uint64_t complete = UINT64_MAX;
    for (struct memtable_h h = memtable_next(x->a, (struct memtable_h){0}); x->dirty && h.v;
         h = memtable_next(x->a, h)) {
        struct memtable_view v = memtable_at(x->a, h);
        if (v.area->applied < memtable_view(x->a, h)->entries)
            complete = min_u64(complete, v.entries[v.area->applied].sequence - 1);
    }
    return complete;
}

struct index_counts index_counts(const struct index *x) {
    struct index_counts n = x->n;
    n.runs = x->run_count;
    n.memtables = memtable_used(x->a);
    n.cache_bytes = x->cache.bytes;
    n.merged = n.uncovered = 0;
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        n.merged += x->merged[i] && !x->merged[i]->is_leaving;
    for (uint32_t i = 0; i < x->run_count; i++)
        n.uncovered += x->runs[i].covered_by == NULL;
    return n;
}
