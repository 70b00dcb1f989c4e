/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/memtable.h"

#include <string.h>

#include "base/err.h"
#include "base/hash.h"

LAYOUT_FIELDS(memtable, MEMTABLE_FIELDS)
const struct arena_table_spec memtable_spec = TABLE_SPEC(memtable, TABLE_MEMTABLE, 1);

#define BOX_INTERVALS 64u

static uint32_t buckets_for(uint32_t n) {
    uint32_t buckets = 16;
    while (buckets * 4 <= n)
        buckets *= 2;
    return buckets;
}

uint64_t memtable_area_bytes(uint32_t n) {
    must(n > 0 && n % 64 == 0);
    return sizeof(struct memtable_area) +
           (uint64_t)n * (sizeof(struct memtable_entry) + 2 * sizeof(uint32_t)) +
           (uint64_t)buckets_for(n) * sizeof(uint32_t) +
           (uint64_t)n / BOX_INTERVALS * sizeof(struct memtable_box);
}

/* Entries that fit into an area of so many bytes. */
static uint32_t room_for(uint64_t bytes) {
    uint32_t n = (uint32_t)(bytes / 73 / 64 * 64);
    while (memtable_area_bytes(n) > bytes)
        n -= 64;
    return n;
}

struct memtable_view memtable_at(const struct arena *a, struct memtable_h h) {
    uint64_t stride =
        a->region_bytes[REGION_MEMTABLES] / a->tables[TABLE_MEMTABLE].capacity & ~UINT64_C(63);
    struct memtable_view v = {.room = room_for(stride)};
    unsigned char *p = a->regions[REGION_MEMTABLES] + stride * handle_index(h.v);
    v.buckets = buckets_for(v.room);
    v.area = (void *)p;
    p += sizeof *v.area;
    v.entries = (void *)p;
    p += (uint64_t)v.room * sizeof *v.entries;
    v.boxes = (void *)p;
    p += (uint64_t)v.room / BOX_INTERVALS * sizeof *v.boxes;
    v.checks = (void *)p;
    p += (uint64_t)v.room * sizeof *v.checks;
    v.heads = (void *)p;
    p += (uint64_t)v.buckets * sizeof *v.heads;
    v.intervals = (void *)p;
    return v;
}

struct memtable_h memtable_make(struct arena *a, uint32_t segment, uint64_t opened) {
    struct memtable_h h = memtable_new(a, MEMTABLE_OPEN);
    if (!h.v)
        return h;
    struct memtable *m = memtable_edit(a, h);
    m->segment = segment;
    m->opened = opened;
    struct memtable_view v = memtable_at(a, h);
    memset(v.area, 0, sizeof *v.area);
    memset(v.heads, 0, v.buckets * sizeof *v.heads);
    return h;
}

/* The pieces of what is not data: up to the first chunk border, whole chunks, the rest. Two whole
 * chunks or more are an interval. Returns their number. */
struct piece {
    uint64_t block, blocks;
    int interval;
};
static uint32_t cut_range(uint64_t block, uint64_t blocks, struct piece out[4]) {
    uint32_t n = 0;
    uint64_t end = block + blocks;
    uint64_t inner = round_up_u64(block, CHUNK_BLOCKS);
    uint64_t inner_end = end / CHUNK_BLOCKS * CHUNK_BLOCKS;
    if (inner >= end)
        inner = inner_end = end;
    if (block < inner)
        out[n++] = (struct piece){block, inner - block, 0};
    if (inner < inner_end)
        out[n++] = (struct piece){inner, inner_end - inner, inner_end - inner >= 2 * CHUNK_BLOCKS};
    if (inner_end < end)
        out[n++] = (struct piece){inner_end, end - inner_end, 0};
    return n;
}

static void write_entry(struct memtable_view *m, uint32_t number, const struct version *v,
                        const struct piece *p, uint32_t checks, int last) {
    struct memtable_entry *e = &m->entries[number];
    enum place_kind kind = place_kind(v->place);
    *e = (struct memtable_entry){
        .sequence = v->sequence,
        .time_ns = v->time_ns,
        .chunk = chunk_of_block(p->block),
        .family = v->family,
        .timeline = v->timeline,
        .kind = (uint8_t)kind,
        .flags = last ? (uint8_t)(v->flags & VERSION_MORE) : VERSION_MORE,
    };
    if (p->interval) {
        e->place = chunk_of_block(p->block + p->blocks);
    } else {
        e->first = (uint8_t)(p->block % CHUNK_BLOCKS);
        e->blocks = (uint8_t)p->blocks;
    }
    if (kind == PLACE_DATA) {
        uint32_t skipped = (uint32_t)(p->block - v->block);
        e->place = place_block(v->place, skipped);
        e->checks = checks + skipped;
        memcpy(&m->checks[e->checks], &v->crc[skipped], p->blocks * sizeof *v->crc);
    } else if (kind == PLACE_REFERENCE) {
        e->ref_timeline = v->ref_timeline;
        e->ref_sequence = v->ref_sequence;
    }
}

int memtable_append(struct arena *a, struct memtable_h h, const struct version *v) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view view = memtable_at(a, h);
    must(v->blocks > 0 && v->sequence > m->last_sequence);
    must(place_kind(v->place) != PLACE_UNKNOWN && v->timeline != 0);
    if (place_kind(v->place) == PLACE_DATA) {
        uint64_t pieces = chunk_of_block(v->block + v->blocks - 1) - chunk_of_block(v->block) + 1;
        if (pieces > view.room - m->entries || v->blocks > view.room - m->checks)
            return ERR_NOSPC;
        struct memtable *edit = memtable_edit(a, h);
        uint64_t end = v->block + v->blocks;
        for (uint64_t at = v->block, next; at < end; at = next) {
            next = min_u64(end, (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS);
            struct piece p = {at, next - at, 0};
            write_entry(&view, edit->entries++, v, &p, edit->checks, next == end);
        }
        edit->checks += (uint32_t)v->blocks;
    } else {
        struct piece pieces[4];
        uint32_t n = cut_range(v->block, v->blocks, pieces);
        if (n > view.room - m->entries)
            return ERR_NOSPC;
        struct memtable *edit = memtable_edit(a, h);
        for (uint32_t i = 0; i < n; i++)
            write_entry(&view, edit->entries++, v, &pieces[i], 0, i + 1 == n);
    }
    struct memtable *edit = memtable_edit(a, h);
    if (edit->first_sequence == 0)
        edit->first_sequence = v->sequence;
    edit->last_sequence = v->sequence;
    return 0;
}

static uint32_t *head_of(const struct memtable_view *v, uint32_t family, uint64_t chunk) {
    return &v->heads[hash_pair(family, chunk) & (v->buckets - 1)];
}

static void link_interval(struct arena *a, struct memtable_view *v, uint32_t number) {
    uint32_t n = v->area->intervals;
    if (n > 0 && v->intervals[n - 1] >= number)
        return;
    const struct memtable_entry *e = &v->entries[number];
    struct memtable_box *box = &v->boxes[n / BOX_INTERVALS];
    if (n % BOX_INTERVALS == 0) {
        *box = (struct memtable_box){e->chunk, e->place};
    } else {
        box->first_chunk = min_u64(box->first_chunk, e->chunk);
        CRASH_POINT(a);
        box->end_chunk = max_u64(box->end_chunk, e->place);
    }
    CRASH_POINT(a);
    v->intervals[n] = number;
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(a);
    v->area->intervals = n + 1;
}

void memtable_link(struct arena *a, struct memtable_h h, uint32_t number) {
    struct memtable_view v = memtable_at(a, h);
    struct memtable_entry *e = &v.entries[number];
    must(number == v.area->applied && number < memtable_view(a, h)->entries);
    CRASH_POINT(a);
    if (e->blocks == 0) {
        link_interval(a, &v, number);
    } else {
        uint32_t *head = head_of(&v, e->family, e->chunk);
        if (*head < number + 1) {
            e->next = *head;
            atomic_signal_fence(memory_order_seq_cst);
            CRASH_POINT(a);
            *head = number + 1;
        }
    }
    atomic_signal_fence(memory_order_seq_cst);
    CRASH_POINT(a);
}

/* Entries at or beyond the slot's count are linked still if the tail was moved to another memtable.
 */
static int is_seen(const struct memtable *m, uint32_t number, const struct memtable_entry *e,
                   const struct ancestry *view, uint64_t limit) {
    return number < m->entries && e->sequence <= limit && e->family == view->family &&
           e->sequence <= ancestry_limit(view, e->timeline);
}

/* The newest interval seen that covers the chunk, or NULL. */
static const struct memtable_entry *find_interval(const struct memtable *m,
                                                  const struct memtable_view *v,
                                                  const struct ancestry *view, uint64_t limit,
                                                  uint64_t chunk) {
    for (uint32_t end = v->area->intervals; end > 0;) {
        uint32_t begin = (end - 1) / BOX_INTERVALS * BOX_INTERVALS;
        const struct memtable_box *box = &v->boxes[begin / BOX_INTERVALS];
        if (chunk >= box->first_chunk && chunk < box->end_chunk)
            for (uint32_t i = end; i-- > begin;) {
                const struct memtable_entry *e = &v->entries[v->intervals[i]];
                if (chunk >= e->chunk && chunk < e->place &&
                    is_seen(m, v->intervals[i], e, view, limit))
                    return e;
            }
        end = begin;
    }
    return NULL;
}

static void take(struct level_result *r, const struct memtable_view *v,
                 const struct memtable_entry *e, uint64_t blocks) {
    for (; blocks; blocks &= blocks - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(blocks);
        r->best[b] = e->sequence;
        if (e->kind == PLACE_DATA) {
            r->found[b].place = place_block(e->place, b - e->first);
            r->found[b].crc = v->checks[e->checks + b - e->first];
        } else {
            r->found[b] = (struct block_place){.place = place_of_kind(e->kind)};
            r->ref_timeline[b] = e->ref_timeline;
            r->ref_sequence[b] = e->ref_sequence;
        }
    }
}

void memtable_find(const struct arena *a, struct memtable_h h, const struct ancestry *view,
                   uint64_t limit, uint64_t chunk, struct level_result *r) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view v = memtable_at(a, h);
    uint64_t missing = r->wanted;
    const struct memtable_entry *interval = find_interval(m, &v, view, limit, chunk);
    uint64_t floor = interval ? interval->sequence : 0;
    for (uint32_t number = *head_of(&v, view->family, chunk); number && missing;) {
        const struct memtable_entry *e = &v.entries[number - 1];
        if (e->sequence < floor)
            break;
        uint64_t blocks = e->chunk == chunk && is_seen(m, number - 1, e, view, limit)
                              ? block_mask(e->first, e->blocks) & missing
                              : 0;
        take(r, &v, e, blocks);
        missing &= ~blocks;
        number = e->next;
    }
    if (interval)
        take(r, &v, interval, missing);
}

void memtable_check(const struct arena *a, struct memtable_h h) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view v = memtable_at(a, h);
    uint32_t linked = 0;
    for (uint32_t b = 0; b < v.buckets; b++)
        for (uint32_t at = v.heads[b], newer = UINT32_MAX; at; at = v.entries[at - 1].next) {
            const struct memtable_entry *e = &v.entries[at - 1];
            must(at < newer && at <= v.area->applied && at <= v.room);
            must(head_of(&v, e->family, e->chunk) == &v.heads[b] && e->blocks > 0);
            must(e->first + e->blocks <= (int)CHUNK_BLOCKS);
            newer = at;
            linked++;
        }
    must(v.area->intervals <= v.area->applied);
    for (uint32_t i = 0; i < v.area->intervals; i++) {
        const struct memtable_entry *e = &v.entries[v.intervals[i]];
        const struct memtable_box *box = &v.boxes[i / BOX_INTERVALS];
        must(i == 0 || v.intervals[i] > v.intervals[i - 1]);
        must(e->blocks == 0 && e->chunk < e->place);
        must(box->first_chunk <= e->chunk && box->end_chunk >= e->place);
        linked++;
    }
    must(linked == v.area->applied);
    uint64_t sequence = 0;
    for (uint32_t i = 0; i < m->entries; i++) {
        must(v.entries[i].sequence >= sequence);
        sequence = v.entries[i].sequence;
    }
    must(m->entries == 0 || (v.entries[0].sequence == m->first_sequence));
    must(m->entries <= v.room && m->checks <= v.room);
}
