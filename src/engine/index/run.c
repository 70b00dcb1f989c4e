/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/run.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/must.h"
#include "base/varint.h"

int64_t run_directory_need(const uint8_t *bytes, uint64_t len, uint64_t identity) {
    struct run_header h;
    if (len < RUN_PAGE_BYTES)
        return ERR_FORMAT;
    int err = run_header_decode(bytes, &h);
    if (err < 0)
        return err;
    return h.identity == identity ? (int64_t)run_directory_bytes(&h) : ERR_INTEGRITY;
}

/* Sorted by family and first block, intervals are an implicit balanced tree: the node of a range is
 * its middle. */
static uint64_t fill_reach(struct run_directory *d, uint32_t low, uint32_t high) {
    if (low >= high)
        return 0;
    uint32_t middle = low + (high - low) / 2;
    uint64_t reach = d->intervals[middle].end_block;
    reach = max_u64(reach, fill_reach(d, low, middle));
    reach = max_u64(reach, fill_reach(d, middle + 1, high));
    d->interval_reach[middle] = reach;
    return reach;
}

static int read_intervals(struct run_directory *d, const struct run_part *part) {
    const uint8_t *p = d->bytes + part->offset, *end = p + part->bytes;
    d->intervals = malloc(((size_t)part->count + 1) * sizeof *d->intervals);
    d->interval_reach = malloc(((size_t)part->count + 1) * sizeof *d->interval_reach);
    if (!d->intervals || !d->interval_reach)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < part->count; i++) {
        int n = run_interval_decode(p, end, &d->tables, i ? &d->intervals[i - 1] : NULL,
                                    d->header.first_sequence, &d->intervals[i]);
        if (n < 0)
            return n;
        p += n;
    }
    d->interval_count = part->count;
    fill_reach(d, 0, d->interval_count);
    return 0;
}

static int fences_are_sound(const struct run_directory *d) {
    for (uint32_t i = 0; i < d->header.leaves; i++) {
        const uint8_t *f = d->fences + (size_t)i * RUN_FENCE_BYTES;
        if (get_le32(f) >= d->tables.family_count)
            return 0;
    }
    return 1;
}

static int parse(struct run_directory *d, uint64_t len) {
    const struct run_part *parts = d->header.parts;
    if (run_directory_bytes(&d->header) > len)
        return ERR_FORMAT;
    for (uint32_t i = 0; i < RUN_TIMES; i++)
        if (run_section_crc(d->header.identity, i, d->bytes + parts[i].offset, parts[i].bytes) !=
            parts[i].crc)
            return ERR_INTEGRITY;
    d->tables = (struct run_tables){.identity = d->header.identity,
                                    .families = d->bytes + parts[RUN_FAMILIES].offset,
                                    .timelines = d->bytes + parts[RUN_TIMELINES].offset,
                                    .segments = d->bytes + parts[RUN_SEGMENTS].offset,
                                    .family_count = parts[RUN_FAMILIES].count,
                                    .timeline_count = parts[RUN_TIMELINES].count,
                                    .segment_count = parts[RUN_SEGMENTS].count};
    d->fences = d->bytes + parts[RUN_FENCES].offset;
    d->filter = d->bytes + parts[RUN_FILTER].offset;
    d->filter_lines = parts[RUN_FILTER].count;
    d->size_bytes =
        sizeof *d + len +
        (uint64_t)parts[RUN_INTERVALS].count * (sizeof *d->intervals + sizeof *d->interval_reach);
    return fences_are_sound(d) ? read_intervals(d, &parts[RUN_INTERVALS]) : ERR_FORMAT;
}

int run_directory_open(struct run_directory *d, uint8_t *bytes, uint64_t len, uint64_t identity) {
    memset(d, 0, sizeof *d);
    int64_t need = run_directory_need(bytes, len, identity);
    if (need < 0)
        return (int)need;
    int err = run_header_decode(bytes, &d->header);
    must(err == 0);
    d->bytes = bytes;
    err = parse(d, len);
    if (err < 0) {
        d->bytes = NULL;
        run_directory_close(d);
    }
    return err;
}

void run_directory_close(struct run_directory *d) {
    free(d->bytes);
    free(d->intervals);
    free(d->interval_reach);
    memset(d, 0, sizeof *d);
}

static void bring(struct level_result *r, const struct run_interval *i, uint64_t first_block) {
    uint64_t blocks = chunk_mask(first_block, i->block, i->end_block) & r->wanted;
    for (; blocks; blocks &= blocks - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(blocks);
        if (r->best[b] >= i->sequence)
            continue;
        r->best[b] = i->sequence;
        r->found[b] = (struct block_place){.place = place_of_kind(i->kind)};
        r->ref_timeline[b] = i->ref_timeline;
        r->ref_sequence[b] = i->ref_sequence;
    }
}

struct stab {
    const struct ancestry *view;
    uint64_t limit, first_block;
    struct level_result *r;
};

/* All families share the tree: a node of another family says on which side ours is. */
static void stab(const struct run_directory *d, uint32_t low, uint32_t high, const struct stab *s) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct run_interval *i = &d->intervals[middle];
        if (d->interval_reach[middle] <= s->first_block)
            return;
        if (i->family > s->view->family ||
            (i->family == s->view->family && i->block >= s->first_block + CHUNK_BLOCKS)) {
            high = middle;
            continue;
        }
        if (i->family == s->view->family) {
            if (i->end_block > s->first_block && i->sequence <= s->limit &&
                i->sequence <= ancestry_limit(s->view, i->timeline))
                bring(s->r, i, s->first_block);
            stab(d, low, middle, s);
        }
        low = middle + 1;
    }
}

void run_find_intervals(const struct run_directory *d, const struct ancestry *view, uint64_t limit,
                        uint64_t chunk, struct level_result *r) {
    struct stab s = {view, limit, chunk * CHUNK_BLOCKS, r};
    stab(d, 0, d->interval_count, &s);
}

static uint32_t family_number(const struct run_directory *d, uint32_t family) {
    uint32_t low = 0, high = d->tables.family_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t at = get_le32(d->tables.families + (size_t)middle * RUN_FAMILY_BYTES);
        if (at == family)
            return middle;
        if (at < family)
            low = middle + 1;
        else
            high = middle;
    }
    return UINT32_MAX;
}

/* Compares the first key of a leaf with (family number, block, any sequence). */
static int fence_is_before(const struct run_directory *d, uint32_t leaf, uint32_t family,
                           uint64_t block) {
    const uint8_t *f = d->fences + (size_t)leaf * RUN_FENCE_BYTES;
    uint32_t at = get_le32(f);
    return at < family || (at == family && get_le64(f + 8) < block);
}

static uint32_t first_fence_not_before(const struct run_directory *d, uint32_t family,
                                       uint64_t block) {
    uint32_t low = 0, high = d->header.leaves;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (fence_is_before(d, middle, family, block))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Those of the blocks that the filter lets pass. */
static uint64_t passing(const struct run_directory *d, uint32_t family, uint64_t chunk,
                        uint64_t wanted) {
    uint32_t shift = d->header.filter_shift, together = 1u << shift;
    uint64_t passed = 0;
    while (wanted) {
        uint32_t first = (uint32_t)__builtin_ctzll(wanted) >> shift << shift;
        uint64_t blocks = block_mask(first, together) & wanted;
        if (run_filter_test(d->filter, d->filter_lines, family,
                            (chunk * CHUNK_BLOCKS + first) >> shift))
            passed |= blocks;
        wanted &= ~blocks;
    }
    return passed;
}

void run_leaves(const struct run_directory *d, uint32_t family, uint64_t chunk,
                struct level_result *r, uint32_t *first, uint32_t *end) {
    *first = *end = 0;
    r->wanted = passing(d, family, chunk, r->wanted);
    if (!r->wanted)
        return;
    uint32_t number = family_number(d, family);
    if (number == UINT32_MAX)
        return;
    uint64_t last_block = chunk * CHUNK_BLOCKS + 63 - (uint64_t)__builtin_clzll(r->wanted);
    *first = first_fence_not_before(d, number, chunk * CHUNK_BLOCKS);
    if (*first > 0)
        --*first;
    *end = first_fence_not_before(d, number, last_block + 1);
}

int run_leaf_is_vain(const struct run_directory *d, uint32_t leaf, uint32_t family, uint64_t limit,
                     uint64_t chunk, const struct level_result *r) {
    const uint8_t *f = d->fences + (size_t)leaf * RUN_FENCE_BYTES;
    uint32_t number = family_number(d, family);
    if (get_le32(f) != number)
        return 0;
    uint64_t block = get_le64(f + 8), sequence = get_le64(f + 16);
    /* All of the leaf is one block's versions, and the next leaf's first is too new still. */
    if (leaf + 1 < d->header.leaves && get_le32(f + RUN_FENCE_BYTES) == number &&
        get_le64(f + RUN_FENCE_BYTES + 8) == block && get_le64(f + RUN_FENCE_BYTES + 16) > limit)
        return 1;
    /* A leaf of several families has no reach. */
    uint64_t reach = get_le32(f + 4) == UINT32_MAX ? UINT64_MAX : block + get_le32(f + 4);
    for (uint64_t left = r->wanted; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        uint64_t wanted = chunk * CHUNK_BLOCKS + b;
        /* Versions that begin at the first block are all as old as the first one, or older. */
        int settled = block == wanted && r->best[b] >= sequence;
        if (wanted >= block && wanted < reach && !settled)
            return 0;
    }
    return 1;
}

static void take(struct level_result *r, const struct leaf_reader *leaf, uint64_t chunk_block) {
    const struct run_entry *e = &leaf->entry;
    uint32_t first = (uint32_t)(e->block - chunk_block);
    uint64_t blocks = block_mask(first, e->blocks) & r->wanted;
    for (; blocks; blocks &= blocks - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(blocks);
        if (r->best[b] >= e->sequence)
            continue;
        r->best[b] = e->sequence;
        r->found[b].place = place_block(e->place, b - first);
        r->found[b].crc = leaf->crc ? get_le32(leaf->crc + 4 * (b - first)) : 0;
        r->ref_timeline[b] = e->ref_timeline;
        r->ref_sequence[b] = e->ref_sequence;
    }
}

int run_find_in_leaf(const struct run_directory *d, const uint8_t *page,
                     const struct ancestry *view, uint64_t limit, uint64_t chunk,
                     struct level_result *r) {
    struct leaf_reader leaf;
    uint64_t first = chunk * CHUNK_BLOCKS;
    uint32_t family = family_number(d, view->family);
    uint64_t last = first + 63 - (uint64_t)__builtin_clzll(r->wanted);
    if (family == UINT32_MAX || leaf_seek(&leaf, &d->tables, page, family, first) < 0)
        return ERR_FORMAT;
    int more;
    while ((more = leaf_next(&leaf)) > 0) {
        const struct run_entry *e = &leaf.entry;
        if (leaf.family < family || (leaf.family == family && e->block < first))
            continue;
        if (leaf.family > family || e->block > last)
            break;
        if (e->sequence <= limit && e->sequence <= ancestry_limit(view, e->timeline))
            take(r, &leaf, first);
    }
    return more < 0 ? ERR_FORMAT : 0;
}

int run_times(const uint8_t *run, uint64_t len,
              void (*each)(void *ctx, uint64_t sequence, uint64_t time_ns), void *ctx) {
    struct run_header h;
    int err = len >= RUN_PAGE_BYTES ? run_header_decode(run, &h) : ERR_FORMAT;
    if (err < 0)
        return err;
    const struct run_part *part = &h.parts[RUN_TIMES];
    if (part->offset > len || part->bytes > len - part->offset)
        return ERR_FORMAT;
    const uint8_t *p = run + part->offset, *end = p + part->bytes;
    if (run_section_crc(h.identity, RUN_TIMES, p, part->bytes) != part->crc)
        return ERR_INTEGRITY;
    uint64_t sequence = 0, time_ns = 0;
    for (uint32_t i = 0; i < part->count; i++) {
        uint64_t ds, dt;
        size_t n = varint_get(p, end, &ds);
        size_t m = n ? varint_get(p + n, end, &dt) : 0;
        if (!m)
            return ERR_FORMAT;
        p += n + m;
        sequence += ds;
        time_ns += dt;
        each(ctx, sequence, time_ns);
    }
    return 0;
}
