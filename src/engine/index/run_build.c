/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sort, number the tables, write the leaves, then the sections from what the leaves were. All in
 * memory: the leaves first into a buffer of their own, as their number is known last.
 */
#include "engine/index/run_build.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/must.h"
#include "base/varint.h"

struct fence {
    uint32_t family; /* number */
    uint32_t reach;
    uint64_t block;
    uint64_t sequence;
};

struct table_segment {
    uint32_t number;
    uint64_t base_sequence;
};

struct table_family {
    uint32_t family;
    uint32_t versions, blocks;
};

struct point {
    uint64_t sequence;
    uint64_t time_ns;
};

struct maker {
    struct run_input *in;
    uint64_t identity;
    uint32_t *timelines;
    uint32_t timeline_count;
    struct table_segment *segments;
    uint32_t segment_count;
    struct table_family *families;
    uint32_t family_count;
    struct point *points;
    uint64_t point_count;
    uint64_t first_sequence, last_sequence;
    uint8_t *leaves;
    struct fence *fences;
    uint32_t leaf_count, leaf_room;
    /* Distinct keys of the filter, were a key to stand for 2^i blocks, and the key behind the last. */
    uint64_t keys[RUN_FILTER_SHIFT_MAX + 1], next_key[RUN_FILTER_SHIFT_MAX + 1];
    uint8_t *filter;
    uint32_t filter_lines, filter_shift;
    uint64_t blocks;
};

static int compare(uint64_t a, uint64_t b) {
    return a < b ? -1 : a > b;
}
static int by_key(const void *a, const void *b) {
    const struct run_entry *x = a, *y = b;
    int c = compare(x->family, y->family);
    c = c ? c : compare(x->block, y->block);
    return c ? c : compare(y->sequence, x->sequence);
}
static int by_block(const void *a, const void *b) {
    const struct run_interval *x = a, *y = b;
    int c = compare(x->family, y->family);
    c = c ? c : compare(x->block, y->block);
    return c ? c : compare(y->sequence, x->sequence);
}
static int by_number(const void *a, const void *b) {
    return compare(*(const uint32_t *)a, *(const uint32_t *)b);
}
static int by_segment(const void *a, const void *b) {
    const struct table_segment *x = a, *y = b;
    int c = compare(x->number, y->number);
    return c ? c : compare(x->base_sequence, y->base_sequence);
}
static int by_sequence(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    return compare(x->sequence, y->sequence);
}

/* What was noted last of numbers that repeat, so that not each version makes a row to be sorted. */
struct noted {
    struct table_segment segments[1024]; /* their number + 1 */
    uint64_t timelines[64];              /* + 1 */
};

static int is_noted(struct noted *n, uint32_t segment, uint64_t sequence) {
    struct table_segment *s = &n->segments[segment % 1024];
    if (s->number == segment + 1 && s->base_sequence <= sequence)
        return 1;
    *s = (struct table_segment){segment + 1, sequence};
    return 0;
}

static void note_timeline(struct maker *m, struct noted *n, uint64_t *t, uint32_t timeline) {
    if (n->timelines[timeline % 64] == timeline + UINT64_C(1))
        return;
    n->timelines[timeline % 64] = timeline + UINT64_C(1);
    m->timelines[(*t)++] = timeline;
}

/* The timelines and segments of all versions, each once, ascending; a segment with its smallest
 * sequence. */
static int number_tables(struct maker *m) {
    const struct run_input *in = m->in;
    uint64_t total = in->entry_count + in->interval_count;
    struct noted noted = {0};
    m->timelines = malloc((2 * total + 1) * sizeof *m->timelines);
    m->segments = malloc((in->entry_count + 1) * sizeof *m->segments);
    if (!m->timelines || !m->segments)
        return ERR_NOMEM;
    uint64_t t = 0, s = 0;
    for (uint64_t i = 0; i < in->entry_count; i++) {
        const struct run_entry *e = &in->entries[i];
        note_timeline(m, &noted, &t, e->timeline);
        if (place_kind(e->place) == PLACE_REFERENCE)
            note_timeline(m, &noted, &t, e->ref_timeline);
        if (!is_noted(&noted, e->segment, e->sequence))
            m->segments[s++] = (struct table_segment){e->segment, e->sequence};
    }
    for (uint64_t i = 0; i < in->interval_count; i++) {
        note_timeline(m, &noted, &t, in->intervals[i].timeline);
        if (in->intervals[i].kind == PLACE_REFERENCE)
            note_timeline(m, &noted, &t, in->intervals[i].ref_timeline);
    }
    qsort(m->timelines, t, sizeof *m->timelines, by_number);
    qsort(m->segments, s, sizeof *m->segments, by_segment);
    for (uint64_t i = 0; i < t; i++)
        if (m->timeline_count == 0 || m->timelines[i] != m->timelines[m->timeline_count - 1])
            m->timelines[m->timeline_count++] = m->timelines[i];
    for (uint64_t i = 0; i < s; i++)
        if (m->segment_count == 0 ||
            m->segments[i].number != m->segments[m->segment_count - 1].number)
            m->segments[m->segment_count++] = m->segments[i];
    return 0;
}

/* The keys of an entry that those before it in its family did not have: [*first, *next). */
static void new_keys(const struct run_entry *e, uint32_t shift, int family_begins, uint64_t *first,
                     uint64_t *next) {
    uint64_t end = ((e->block + e->blocks - 1) >> shift) + 1;
    *next = family_begins ? 0 : *next;
    *first = max_u64(e->block >> shift, *next);
    *next = max_u64(end, *next);
    *first = *first < *next ? *first : *next;
}

static void count_keys(struct maker *m, const struct run_entry *e, int family_begins) {
    for (uint32_t shift = 0; shift <= RUN_FILTER_SHIFT_MAX; shift++) {
        uint64_t first;
        new_keys(e, shift, family_begins, &first, &m->next_key[shift]);
        m->keys[shift] += m->next_key[shift] - first;
    }
}

/* Keys as fine as can be had with no more of them than entries: there are never more chunks. */
static void choose_keys(struct maker *m) {
    while (m->keys[m->filter_shift] > m->in->entry_count)
        m->filter_shift++;
    must(m->filter_shift <= RUN_FILTER_SHIFT_MAX);
    m->filter_lines = run_filter_lines(m->keys[m->filter_shift]);
}

static struct table_family *family_of(struct maker *m, uint32_t family) {
    if (m->family_count == 0 || m->families[m->family_count - 1].family != family)
        m->families[m->family_count++] = (struct table_family){.family = family};
    m->families[m->family_count - 1].versions++;
    return &m->families[m->family_count - 1];
}

static void count_version(struct maker *m, uint64_t sequence, uint64_t time_ns) {
    m->first_sequence = min_u64(m->first_sequence, sequence);
    m->last_sequence = max_u64(m->last_sequence, sequence);
    if (!m->in->without_times)
        m->points[m->point_count++] = (struct point){sequence, time_ns};
}

/* Families, keys of the filter, blocks and times, from the versions in their order. */
static int count_families(struct maker *m) {
    const struct run_input *in = m->in;
    uint64_t total = in->entry_count + in->interval_count;
    m->families = malloc((total + 1) * sizeof *m->families);
    m->points = malloc(((in->without_times ? 0 : total) + 1) * sizeof *m->points);
    m->first_sequence = UINT64_MAX;
    if (!m->families || !m->points)
        return ERR_NOMEM;
    for (uint64_t e = 0, i = 0; e < in->entry_count || i < in->interval_count;) {
        const struct run_entry *entry = e < in->entry_count ? &in->entries[e] : NULL;
        const struct run_interval *interval = i < in->interval_count ? &in->intervals[i] : NULL;
        if (!entry || (interval && interval->family < entry->family)) {
            family_of(m, interval->family);
            count_version(m, interval->sequence, interval->time_ns);
            i++;
            continue;
        }
        must(entry->blocks > 0 && entry->block % CHUNK_BLOCKS + entry->blocks <= CHUNK_BLOCKS);
        uint32_t blocks = place_kind(entry->place) == PLACE_DATA ? entry->blocks : 0;
        family_of(m, entry->family)->blocks += blocks;
        m->blocks += blocks;
        count_keys(m, entry, e == 0 || entry[-1].family != entry->family);
        count_version(m, entry->sequence, entry->time_ns);
        e++;
    }
    qsort(m->points, m->point_count, sizeof *m->points, by_sequence);
    return 0;
}

static uint32_t number_of(const uint32_t *table, uint32_t count, uint32_t value) {
    const uint32_t *at = bsearch(&value, table, count, sizeof *table, by_number);
    must(at != NULL);
    return (uint32_t)(at - table);
}

static uint32_t segment_number(const struct maker *m, uint32_t segment) {
    uint32_t low = 0, high = m->segment_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (m->segments[middle].number <= segment)
            low = middle;
        else
            high = middle;
    }
    must(m->segments[low].number == segment);
    return low;
}

static int new_leaf(struct maker *m, struct leaf_writer *w) {
    if (m->leaf_count == m->leaf_room) {
        m->leaf_room = m->leaf_room ? 2 * m->leaf_room : 64;
        uint8_t *leaves = realloc(m->leaves, (size_t)m->leaf_room * RUN_PAGE_BYTES);
        if (leaves)
            m->leaves = leaves;
        struct fence *fences = realloc(m->fences, m->leaf_room * sizeof *fences);
        if (fences)
            m->fences = fences;
        if (!leaves || !fences)
            return ERR_NOMEM;
    }
    leaf_begin(w, m->leaves + (size_t)m->leaf_count * RUN_PAGE_BYTES, m->identity);
    m->leaf_count++;
    return 0;
}

static int write_leaves(struct maker *m) {
    const struct run_input *in = m->in;
    struct leaf_writer w = {.page = NULL};
    uint32_t family = 0;
    uint64_t key, next_key = 0;
    choose_keys(m);
    m->filter = calloc(m->filter_lines ? m->filter_lines : 1, RUN_FILTER_LINE_BYTES);
    if (!m->filter)
        return ERR_NOMEM;
    for (uint64_t i = 0; i < in->entry_count; i++) {
        const struct run_entry *e = &in->entries[i];
        while (m->families[family].family != e->family)
            family++;
        struct leaf_numbers n = {
            .family = family,
            .timeline = number_of(m->timelines, m->timeline_count, e->timeline),
            .segment = segment_number(m, e->segment),
            .ref_timeline = place_kind(e->place) == PLACE_REFERENCE
                                ? number_of(m->timelines, m->timeline_count, e->ref_timeline)
                                : 0};
        n.base_sequence = m->segments[n.segment].base_sequence;
        if (!w.page || !leaf_add(&w, e, &n)) {
            if (w.page)
                leaf_end(&w, m->leaf_count - 1);
            if (new_leaf(m, &w) < 0)
                return ERR_NOMEM;
            m->fences[m->leaf_count - 1] = (struct fence){family, 0, e->block, e->sequence};
            must(leaf_add(&w, e, &n));
        }
        struct fence *f = &m->fences[m->leaf_count - 1];
        uint64_t reach = f->family == family ? e->block + e->blocks - f->block : UINT32_MAX;
        f->reach = (uint32_t)max_u64(f->reach, min_u64(reach, UINT32_MAX));
        new_keys(e, m->filter_shift, i == 0 || e[-1].family != e->family, &key, &next_key);
        for (; key < next_key; key++)
            run_filter_add(m->filter, m->filter_lines, e->family, key);
    }
    if (w.page)
        leaf_end(&w, m->leaf_count - 1);
    return 0;
}

/* One point a change of time: the first sequence of each. */
static uint32_t put_times(const struct maker *m, uint8_t *p, uint64_t *bytes) {
    uint32_t count = 0;
    uint64_t sequence = 0, time_ns = 0, at = 0;
    for (uint64_t i = 0; i < m->point_count; i++) {
        const struct point *q = &m->points[i];
        if (i > 0 && q->time_ns <= time_ns)
            continue;
        at += varint_put(p + at, q->sequence - sequence);
        at += varint_put(p + at, q->time_ns - time_ns);
        sequence = q->sequence;
        time_ns = q->time_ns;
        count++;
    }
    *bytes = at;
    return count;
}

static void put_families(const struct maker *m, uint8_t *p) {
    for (uint32_t i = 0; i < m->family_count; i++, p += RUN_FAMILY_BYTES) {
        put_le32(p, m->families[i].family);
        put_le32(p + 4, m->families[i].versions);
        put_le32(p + 8, m->families[i].blocks);
    }
}

static uint64_t put_intervals(const struct maker *m, uint8_t *p) {
    uint64_t at = 0;
    uint32_t family = 0;
    for (uint64_t i = 0; i < m->in->interval_count; i++) {
        const struct run_interval *v = &m->in->intervals[i];
        while (m->families[family].family != v->family)
            family++;
        struct interval_numbers n = {
            .family = family,
            .timeline = number_of(m->timelines, m->timeline_count, v->timeline),
            .ref_timeline = v->kind == PLACE_REFERENCE
                                ? number_of(m->timelines, m->timeline_count, v->ref_timeline)
                                : 0};
        at += run_interval_encode(v, &n, i ? v - 1 : NULL, m->first_sequence, p + at);
    }
    return at;
}

static void put_fences(const struct maker *m, uint8_t *p) {
    for (uint32_t i = 0; i < m->leaf_count; i++, p += RUN_FENCE_BYTES) {
        const struct fence *f = &m->fences[i];
        put_le32(p, f->family);
        put_le32(p + 4, f->reach);
        put_le64(p + 8, f->block);
        put_le64(p + 16, f->sequence);
    }
}

static void put_section(const struct maker *m, uint32_t section, uint8_t *p,
                        struct run_part *part) {
    switch (section) {
    case RUN_FAMILIES:
        part->count = m->family_count;
        put_families(m, p);
        part->bytes = (uint64_t)part->count * RUN_FAMILY_BYTES;
        break;
    case RUN_TIMELINES:
        part->count = m->timeline_count;
        for (uint32_t i = 0; i < part->count; i++)
            put_le32(p + i * RUN_TIMELINE_BYTES, m->timelines[i]);
        part->bytes = (uint64_t)part->count * RUN_TIMELINE_BYTES;
        break;
    case RUN_SEGMENTS:
        part->count = m->segment_count;
        for (uint32_t i = 0; i < part->count; i++) {
            put_le32(p + i * RUN_SEGMENT_BYTES, m->segments[i].number);
            put_le64(p + i * RUN_SEGMENT_BYTES + 8, m->segments[i].base_sequence);
        }
        part->bytes = (uint64_t)part->count * RUN_SEGMENT_BYTES;
        break;
    case RUN_FENCES:
        part->count = m->leaf_count;
        put_fences(m, p);
        part->bytes = (uint64_t)part->count * RUN_FENCE_BYTES;
        break;
    case RUN_FILTER:
        part->count = m->filter_lines;
        part->bytes = (uint64_t)part->count * RUN_FILTER_LINE_BYTES;
        memcpy(p, m->filter, part->bytes);
        break;
    case RUN_INTERVALS:
        part->count = (uint32_t)m->in->interval_count;
        part->bytes = put_intervals(m, p);
        break;
    default:
        part->count = put_times(m, p, &part->bytes);
    }
    part->crc = run_section_crc(m->identity, section, p, part->bytes);
}

static uint64_t sections_bytes_max(const struct maker *m) {
    return (uint64_t)m->family_count * RUN_FAMILY_BYTES +
           (uint64_t)m->timeline_count * RUN_TIMELINE_BYTES +
           (uint64_t)m->segment_count * RUN_SEGMENT_BYTES +
           (uint64_t)m->leaf_count * RUN_FENCE_BYTES +
           (uint64_t)m->filter_lines * RUN_FILTER_LINE_BYTES +
           m->in->interval_count * RUN_INTERVAL_BYTES_MAX + m->point_count * RUN_TIME_BYTES_MAX +
           RUN_SECTIONS * 8;
}

static int assemble(struct maker *m, uint8_t **bytes, size_t *len) {
    struct run_header h = {.identity = m->identity,
                           .leaves = m->leaf_count,
                           .entries = m->in->entry_count,
                           .blocks = m->blocks,
                           .filter_shift = m->filter_shift};
    if (m->last_sequence > 0) {
        h.first_sequence = m->first_sequence;
        h.last_sequence = m->last_sequence;
    }
    if (m->point_count > 0) {
        h.first_time_ns = m->points[0].time_ns;
        h.last_time_ns = m->points[m->point_count - 1].time_ns;
    }
    uint64_t leaf_bytes = (uint64_t)m->leaf_count * RUN_PAGE_BYTES;
    uint64_t room = RUN_PAGE_BYTES + round_up_u64(sections_bytes_max(m), RUN_PAGE_BYTES);
    uint8_t *out = calloc(1, room + leaf_bytes);
    if (!out)
        return ERR_NOMEM;
    uint64_t at = RUN_PAGE_BYTES;
    for (uint32_t i = 0; i < RUN_SECTIONS; i++) {
        h.parts[i].offset = at;
        put_section(m, i, out + at, &h.parts[i]);
        at = round_up_u64(at + h.parts[i].bytes, 8);
    }
    at = round_up_u64(at, RUN_PAGE_BYTES);
    must(at <= room);
    h.first_leaf_page = (uint32_t)(at / RUN_PAGE_BYTES);
    if (leaf_bytes)
        memcpy(out + at, m->leaves, leaf_bytes);
    h.bytes = at + leaf_bytes;
    run_header_encode(&h, out);
    *bytes = out;
    *len = h.bytes;
    return 0;
}

static int is_sorted(const struct run_input *in) {
    for (uint64_t i = 1; i < in->entry_count; i++)
        if (by_key(&in->entries[i - 1], &in->entries[i]) > 0)
            return 0;
    return 1;
}

int run_make(struct run_input *in, uint64_t identity, uint8_t **bytes, size_t *len) {
    struct maker m = {.in = in, .identity = identity};
    if (in->entry_count > UINT32_MAX / 2 || in->interval_count > UINT32_MAX / 2)
        return ERR_TOOBIG;
    if (!is_sorted(in))
        qsort(in->entries, in->entry_count, sizeof *in->entries, by_key);
    if (in->interval_count > 1)
        qsort(in->intervals, in->interval_count, sizeof *in->intervals, by_block);
    int err = number_tables(&m);
    if (err == 0)
        err = count_families(&m);
    if (err == 0)
        err = write_leaves(&m);
    if (err == 0)
        err = assemble(&m, bytes, len);
    free(m.timelines);
    free(m.segments);
    free(m.families);
    free(m.points);
    free(m.leaves);
    free(m.fences);
    free(m.filter);
    return err;
}

/* A record that is not data is one entry (head 1, block 7, blocks 1, timeline 3, sequence 4,
 * reference 8 and 13 with its filter bits) or interval of at most 40 bytes; one of data is at most
 * two entries of 22 with their filter bits, and one more for each 64 blocks. A record has a time (8:
 * differences of sorted numbers are small on average) and perhaps a family and two timelines. A leaf
 * is left when the next entry does not fit; the largest is one of 64 blocks. */
uint64_t run_bytes_max(uint32_t records, uint32_t blocks) {
    const uint64_t largest = 64 + 4 * CHUNK_BLOCKS;
    const uint64_t leaf_room = RUN_PAGE_BYTES - 20 - 2 * 16 - largest;
    const uint64_t sections = (uint64_t)records * (8 + RUN_FAMILY_BYTES + 2 * RUN_TIMELINE_BYTES);
    const uint64_t entries =
        (uint64_t)records * 44 + (uint64_t)blocks / CHUNK_BLOCKS * 22 + (uint64_t)blocks * 4;
    const uint64_t leaves = entries / leaf_room + 2;
    const uint64_t few = 2 * RUN_SEGMENT_BYTES + RUN_FILTER_LINE_BYTES + 8 * RUN_SECTIONS + 128;
    return RUN_PAGE_BYTES +
           round_up_u64(sections + leaves * RUN_FENCE_BYTES + few, RUN_PAGE_BYTES) +
           leaves * RUN_PAGE_BYTES;
}
