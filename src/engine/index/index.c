/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "engine/index/index_priv.h"

uint64_t index_memtable_region_bytes(uint32_t memtables, uint32_t entries) {
    return memtables * round_up_u64(memtable_area_bytes(entries), 64);
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

static struct memtable_h memtable_of(const struct index *x, uint32_t segment) {
    struct memtable_h h = memtable_next(x->a, (struct memtable_h){0});
    while (h.v && memtable_view(x->a, h)->segment != segment)
        h = memtable_next(x->a, h);
    return h;
}

int index_segment_is_sealed(const struct index *x, uint32_t segment) {
    return memtable_of(x, segment).v == 0;
}

int index_segment_opened(struct index *x, uint32_t segment) {
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint32_t n = index_memtables(x, all);
    must(memtable_of(x, segment).v == 0);
    struct memtable_h h =
        memtable_make(x->a, segment, n ? memtable_view(x->a, all[n - 1])->opened + 1 : 1);
    if (!h.v)
        return ERR_AGAIN;
    memset(&x->counts[handle_index(h.v)], 0, sizeof x->counts[0]);
    live_add(x, segment);
    return 0;
}

static void count_timeline(struct memtable_counts *c, uint32_t timeline) {
    if (c->run.timelines >= SEEN_TIMELINES / 2) {
        c->run.timelines++;
        return;
    }
    uint32_t at = (uint32_t)hash_mix(timeline) % SEEN_TIMELINES;
    while (c->seen[at] && c->seen[at] != timeline)
        at = (at + 1) % SEEN_TIMELINES;
    if (!c->seen[at]) {
        c->seen[at] = timeline;
        c->run.timelines++;
    }
}

static void count_entry(struct memtable_counts *c, const struct memtable_entry *e) {
    c->run.entries++;
    c->run.checks += e->kind == PLACE_DATA ? e->blocks : 0;
    c->run.intervals += e->blocks == 0;
    c->run.references += e->kind == PLACE_REFERENCE;
    c->run.times += e->time_ns != c->last_time_ns;
    c->last_time_ns = e->time_ns;
    count_timeline(c, e->timeline);
}

static void count_entries(struct index *x, struct memtable_h h, uint32_t from) {
    struct memtable_view v = memtable_at(x->a, h);
    for (uint32_t i = from; i < memtable_view(x->a, h)->entries; i++)
        count_entry(&x->counts[handle_index(h.v)], &v.entries[i]);
}

int index_append(struct index *x, uint32_t segment, const struct version *v) {
    struct memtable_h h = memtable_of(x, segment);
    must(h.v != 0);
    uint32_t before = memtable_view(x->a, h)->entries;
    int err = memtable_append(x->a, h, v);
    if (err < 0)
        return err;
    count_entries(x, h, before);
    x->dirty = 1;
    return 0;
}

int index_move(struct index *x, uint32_t from_segment, uint64_t first_sequence, uint32_t to_segment,
               uint64_t (*moved)(void *ctx, uint64_t place), void *ctx) {
    struct memtable_h from = memtable_of(x, from_segment), to = memtable_of(x, to_segment);
    must(from.v != 0 && to.v != 0 && from.v != to.v);
    const struct memtable *m = memtable_view(x->a, from);
    struct memtable_view source = memtable_at(x->a, from), target = memtable_at(x->a, to);
    uint32_t first = m->entries;
    uint32_t checks = m->checks;
    while (first > 0 && source.entries[first - 1].sequence >= first_sequence) {
        first--;
        if (source.entries[first].kind == PLACE_DATA)
            checks = source.entries[first].checks;
    }
    uint32_t count = m->entries - first;
    if (count == 0)
        return 0;
    const struct memtable *t = memtable_view(x->a, to);
    must(t->opened > m->opened && t->last_sequence < source.entries[first].sequence);
    if (count > target.room - t->entries || m->checks - checks > target.room - t->checks)
        return ERR_NOSPC;
    struct memtable *edit = memtable_edit(x->a, to);
    uint32_t before = edit->entries;
    for (uint32_t i = first; i < m->entries; i++) {
        struct memtable_entry *e = &target.entries[edit->entries++];
        *e = source.entries[i];
        e->next = 0;
        if (e->kind == PLACE_DATA) {
            e->place = moved(ctx, e->place);
            e->checks = edit->checks + (source.entries[i].checks - checks);
        }
    }
    memcpy(&target.checks[edit->checks], &source.checks[checks],
           (m->checks - checks) * sizeof *target.checks);
    edit->checks += m->checks - checks;
    edit->last_sequence = source.entries[m->entries - 1].sequence;
    if (edit->first_sequence == 0)
        edit->first_sequence = source.entries[first].sequence;
    count_entries(x, to, before);
    struct memtable *cut = memtable_edit(x->a, from);
    cut->entries = first;
    cut->checks = checks;
    cut->last_sequence = first ? source.entries[first - 1].sequence : 0;
    if (first == 0)
        cut->first_sequence = 0;
    x->dirty = 1;
    x->moving = 1;
    return 0;
}

/* ---- Runs ---- */

uint64_t index_run_bytes_max(const struct index *x, uint32_t segment) {
    struct memtable_h h = memtable_of(x, segment);
    must(h.v != 0);
    return run_bytes_max(&x->counts[handle_index(h.v)].run);
}

static int run_insert(struct index *x, const struct segment *s) {
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
    x->runs[at] = (struct index_run){.segment = s->number,
                                     .identity = run_identity(s->number),
                                     .first_sequence = s->first_sequence,
                                     .last_sequence = s->last_sequence,
                                     .offset_bytes = s->run_offset,
                                     .size_bytes = s->run_bytes};
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

int index_segment_added(struct index *x, struct segment_h h) {
    const struct segment *s = segment_view(x->a, h);
    live_add(x, s->number);
    return s->run_bytes ? run_insert(x, s) : 0;
}

int index_segment_sealed(struct index *x, struct segment_h h) {
    const struct segment *s = segment_view(x->a, h);
    struct memtable_h m = memtable_of(x, s->number);
    must(m.v != 0);
    must((s->run_bytes > 0) == (memtable_view(x->a, m)->entries > 0));
    int err = s->run_bytes ? run_insert(x, s) : 0;
    if (err == 0)
        memtable_free(x->a, m);
    return err;
}

void index_segment_dropped(struct index *x, uint32_t segment) {
    struct memtable_h m = memtable_of(x, segment);
    if (m.v)
        memtable_free(x->a, m);
    for (uint32_t i = 0; i < x->run_count; i++)
        if (x->runs[i].segment == segment) {
            index_cache_drop_run(&x->cache, x->runs[i].identity);
            memmove(&x->runs[i], &x->runs[i + 1], (--x->run_count - i) * sizeof *x->runs);
            break;
        }
    live_remove(x, segment);
}

/* ---- After the commit ---- */

static void apply_to_table(struct index *x, const struct memtable_view *v,
                           const struct memtable_entry *e) {
    struct block_table *t = &x->table;
    if (e->blocks == 0) {
        block_table_drop(t, e->timeline, e->chunk, e->place);
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
 * older one, because none that is not applied ends a request. */
static int whole_requests(const struct memtable_view *v, uint32_t entries, uint32_t *end) {
    for (*end = entries; *end > v->area->applied; --*end)
        if (!(v->entries[*end - 1].flags & VERSION_MORE))
            return 1;
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
            found = whole_requests(&v, entries, &ends[i]);
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
    }
}

void index_attach(struct index *x) {
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint32_t n = index_memtables(x, all);
    for (uint32_t i = 0; i < n; i++) {
        struct memtable_view v = memtable_at(x->a, all[i]);
        const struct memtable *m = memtable_view(x->a, all[i]);
        live_add(x, m->segment);
        count_entries(x, all[i], 0);
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
}

uint64_t index_applied(const struct index *x) {
    return x->applied;
}

struct index_counts index_counts(const struct index *x) {
    struct index_counts n = x->n;
    n.runs = x->run_count;
    n.memtables = memtable_used(x->a);
    n.cache_bytes = x->cache.bytes;
    return n;
}

/* ---- Copies of memtables ---- */

struct run_source {
    uint32_t entries;
    struct memtable_entry *entry;
    uint32_t *checks;
};

struct run_source *index_copy(struct index *x, uint32_t segment) {
    struct memtable_h h = memtable_of(x, segment);
    must(h.v != 0);
    const struct memtable *m = memtable_view(x->a, h);
    struct memtable_view v = memtable_at(x->a, h);
    if (v.area->applied < m->entries || m->slot.edit_turn == x->a->turn)
        return NULL;
    struct run_source *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->entries = m->entries;
    s->entry = malloc((m->entries + 1) * sizeof *s->entry);
    s->checks = malloc((m->checks + 1) * sizeof *s->checks);
    if (!s->entry || !s->checks) {
        run_source_free(s);
        return NULL;
    }
    memcpy(s->entry, v.entries, m->entries * sizeof *s->entry);
    memcpy(s->checks, v.checks, m->checks * sizeof *s->checks);
    return s;
}

void run_source_free(struct run_source *s) {
    if (!s)
        return;
    free(s->entry);
    free(s->checks);
    free(s);
}

uint64_t run_source_versions(const struct run_source *s) {
    return s->entries;
}

static void to_interval(const struct memtable_entry *e, struct run_interval *i) {
    *i = (struct run_interval){.family = e->family,
                               .timeline = e->timeline,
                               .kind = e->kind,
                               .ref_timeline = e->ref_timeline,
                               .chunk = e->chunk,
                               .end_chunk = e->place,
                               .sequence = e->sequence,
                               .time_ns = e->time_ns,
                               .ref_sequence = e->ref_sequence};
}

static void to_entry(const struct run_source *s, const struct memtable_entry *e, uint32_t segment,
                     struct run_entry *out) {
    *out = (struct run_entry){.family = e->family,
                              .timeline = e->timeline,
                              .segment = segment,
                              .blocks = e->blocks,
                              .block = e->chunk * CHUNK_BLOCKS + e->first,
                              .sequence = e->sequence,
                              .time_ns = e->time_ns,
                              .place = place_of_kind(e->kind),
                              .ref_timeline = e->ref_timeline,
                              .ref_sequence = e->ref_sequence};
    if (e->kind == PLACE_DATA) {
        out->segment = place_segment(e->place);
        out->place = e->place;
        out->crc = &s->checks[e->checks];
    }
}

int run_build(struct run_source *s, uint64_t identity, uint8_t **bytes, size_t *len) {
    struct run_input in = {.entries = malloc((s->entries + 1) * sizeof *in.entries),
                           .intervals = malloc((s->entries + 1) * sizeof *in.intervals)};
    int err = ERR_NOMEM;
    if (in.entries && in.intervals) {
        for (uint32_t i = 0; i < s->entries; i++) {
            if (s->entry[i].blocks == 0)
                to_interval(&s->entry[i], &in.intervals[in.interval_count++]);
            else
                to_entry(s, &s->entry[i], (uint32_t)(identity >> 32),
                         &in.entries[in.entry_count++]);
        }
        err = run_make(&in, identity, bytes, len);
    }
    free(in.entries);
    free(in.intervals);
    return err;
}
