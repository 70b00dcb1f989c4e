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

uint32_t memtable_entries_max(uint32_t records, uint32_t blocks) {
    uint64_t entries = (uint64_t)records + blocks / 2 + blocks / CHUNK_BLOCKS + 1;
    return (uint32_t)round_up_u64(max_u64(entries, blocks), 64);
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

static uint64_t stride_of(const struct arena *a) {
    return a->region_bytes[REGION_MEMTABLES] / a->tables[TABLE_MEMTABLE].capacity & ~UINT64_C(63);
}

struct memtable_view memtable_at(const struct arena *a, struct memtable_h h) {
    unsigned char *p = a->regions[REGION_MEMTABLES] + stride_of(a) * handle_index(h.v);
    struct memtable_view v = {.area = (void *)p};
    v.room = v.area->room;
    v.buckets = v.area->buckets;
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
    struct memtable_area *area = memtable_at(a, h).area;
    memset(area, 0, sizeof *area);
    area->room = room_for(stride_of(a));
    area->buckets = buckets_for(area->room);
    struct memtable_view v = memtable_at(a, h);
    memset(v.heads, 0, v.buckets * sizeof *v.heads);
    return h;
}

struct piece {
    uint64_t block, blocks;
    int interval;
};

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
        e->chunk = p->block;
        e->place = p->block + p->blocks;
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
    must(v->sequence > m->last_sequence && !(m->flags & MEMTABLE_CUT));
    must(place_kind(v->place) != PLACE_UNKNOWN && v->timeline != 0);
    uint64_t end = v->block + v->blocks;
    uint64_t chunks = v->blocks ? chunk_of_block(end - 1) - chunk_of_block(v->block) + 1 : 0;
    int is_data = place_kind(v->place) == PLACE_DATA;
    if ((is_data ? chunks : 1) > view.room - m->entries ||
        (is_data && v->blocks > view.room - m->checks))
        return ERR_NOSPC;
    struct memtable *edit = memtable_edit(a, h);
    if (is_data) {
        for (uint64_t at = v->block, next; at < end; at = next) {
            next = min_u64(end, (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS);
            struct piece p = {at, next - at, 0};
            write_entry(&view, edit->entries++, v, &p, edit->checks, next == end);
        }
        edit->checks += (uint32_t)v->blocks;
    } else if (v->blocks > 0) {
        struct piece p = {v->block, v->blocks, chunks > 1};
        write_entry(&view, edit->entries++, v, &p, 0, 1);
    }
    if (edit->first_sequence == 0)
        edit->first_sequence = v->sequence;
    edit->last_sequence = v->sequence;
    return 0;
}

/* Number of the first entry of that sequence or a greater one. */
static uint32_t first_of(const struct memtable *m, const struct memtable_view *v,
                         uint64_t sequence) {
    uint32_t low = 0, high = m->entries;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->entries[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void memtable_cut(struct arena *a, struct memtable_h h, uint64_t first_sequence) {
    struct memtable_view v = memtable_at(a, h);
    struct memtable *m = memtable_edit(a, h);
    uint32_t first = first_of(m, &v, first_sequence);
    for (uint32_t i = m->entries; i-- > first;)
        if (v.entries[i].kind == PLACE_DATA)
            m->checks = v.entries[i].checks;
    m->flags |= MEMTABLE_CUT;
    m->entries = first;
    m->last_sequence = first ? v.entries[first - 1].sequence : 0;
    if (first == 0)
        m->first_sequence = 0;
}

static void save(struct arena *a, const void *p, uint32_t len) {
    arena_undo_save(a, (uint64_t)((const unsigned char *)p - a->base), len);
}

void memtable_replace(struct arena *a, struct memtable_h h, const struct version *v) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view view = memtable_at(a, h);
    uint32_t first = first_of(m, &view, v->sequence);
    must(v->blocks == 0 || (first < m->entries && view.entries[first].sequence == v->sequence));
    for (uint32_t i = first; i < m->entries && view.entries[i].sequence == v->sequence; i++) {
        struct memtable_entry *e = &view.entries[i];
        if (e->kind != PLACE_DATA)
            continue;
        uint64_t block = e->chunk * CHUNK_BLOCKS + e->first;
        save(a, &e->place, sizeof e->place);
        e->place = place_block(v->place, (uint32_t)(block - v->block));
    }
    if (view.area->applied > first) {
        save(a, &view.area->applied, sizeof view.area->applied);
        view.area->applied = first;
    }
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
        box->first_block = min_u64(box->first_block, e->chunk);
        CRASH_POINT(a);
        box->end_block = max_u64(box->end_block, e->place);
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

/* The newest intervals seen; returns a sequence that is not above any of what was found, 0 if a
 * wanted block is in none. */
static uint64_t find_intervals(const struct memtable *m, const struct memtable_view *v,
                               const struct ancestry *view, uint64_t limit, uint64_t chunk,
                               struct level_result *r) {
    uint64_t first_block = chunk * CHUNK_BLOCKS, missing = r->wanted;
    for (uint32_t end = v->area->intervals; end > 0;) {
        uint32_t begin = (end - 1) / BOX_INTERVALS * BOX_INTERVALS;
        const struct memtable_box *box = &v->boxes[begin / BOX_INTERVALS];
        int hit = first_block + CHUNK_BLOCKS > box->first_block && first_block < box->end_block;
        for (uint32_t i = end; hit && i-- > begin;) {
            const struct memtable_entry *e = &v->entries[v->intervals[i]];
            uint64_t blocks = chunk_mask(first_block, e->chunk, e->place) & missing;
            if (!blocks || !is_seen(m, v->intervals[i], e, view, limit))
                continue;
            take(r, v, e, blocks);
            missing &= ~blocks;
            if (!missing)
                return e->sequence;
        }
        end = begin;
    }
    return 0;
}

void memtable_find(const struct arena *a, struct memtable_h h, const struct ancestry *view,
                   uint64_t limit, uint64_t chunk, struct level_result *r) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view v = memtable_at(a, h);
    uint64_t missing = r->wanted;
    uint64_t floor = find_intervals(m, &v, view, limit, chunk, r);
    for (uint32_t number = *head_of(&v, view->family, chunk); number && missing;) {
        const struct memtable_entry *e = &v.entries[number - 1];
        if (e->sequence < floor)
            break;
        number = e->next;
        if (e->chunk != chunk || !(block_mask(e->first, e->blocks) & missing) ||
            !is_seen(m, (uint32_t)(e - v.entries), e, view, limit))
            continue;
        uint64_t blocks = block_mask(e->first, e->blocks) & missing, newer = 0;
        missing &= ~blocks;
        for (uint64_t left = blocks; left; left &= left - 1) {
            uint32_t b = (uint32_t)__builtin_ctzll(left);
            newer |= r->best[b] < e->sequence ? UINT64_C(1) << b : 0;
        }
        take(r, &v, e, newer);
    }
}

void memtable_check(const struct arena *a, struct memtable_h h) {
    const struct memtable *m = memtable_view(a, h);
    struct memtable_view v = memtable_at(a, h);
    uint32_t linked = 0, applied = v.area->applied < m->entries ? v.area->applied : m->entries;
    for (uint32_t b = 0; b < v.buckets; b++)
        for (uint32_t at = v.heads[b], newer = UINT32_MAX; at; at = v.entries[at - 1].next) {
            const struct memtable_entry *e = &v.entries[at - 1];
            must(at < newer && at <= v.room && (at <= applied || (m->flags & MEMTABLE_CUT)));
            must(head_of(&v, e->family, e->chunk) == &v.heads[b] && e->blocks > 0);
            must(e->first + e->blocks <= (int)CHUNK_BLOCKS);
            newer = at;
            linked += at <= applied;
        }
    for (uint32_t i = 0; i < v.area->intervals; i++) {
        const struct memtable_entry *e = &v.entries[v.intervals[i]];
        const struct memtable_box *box = &v.boxes[i / BOX_INTERVALS];
        must(i == 0 || v.intervals[i] > v.intervals[i - 1]);
        must(e->blocks == 0 && e->chunk < e->place);
        must(box->first_block <= e->chunk && box->end_block >= e->place);
        linked += v.intervals[i] < applied;
    }
    must(linked == applied);
    uint64_t sequence = 0;
    for (uint32_t i = 0; i < m->entries; i++) {
        must(v.entries[i].sequence >= sequence);
        sequence = v.entries[i].sequence;
    }
    must(m->entries == 0 || v.entries[0].sequence >= m->first_sequence);
    must(sequence <= m->last_sequence);
    must(m->entries <= v.room && m->checks <= v.room);
}
