/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/must.h"
#include "engine/clean/clean_job.h"

#define NOWHERE UINT64_MAX

static void *grow(void *list, uint64_t count, uint64_t *room, size_t size) {
    if (count < *room)
        return list;
    uint64_t more = *room ? 2 * *room : 64;
    void *grown = realloc(list, more * size);
    if (grown)
        *room = more;
    return grown;
}

#define GROW(list, count, room)                                                                    \
    do {                                                                                           \
        uint64_t room_ = (room);                                                                   \
        void *grown_ = grow((list), (count), &room_, sizeof *(list));                              \
        if (!grown_)                                                                               \
            return ERR_NOMEM;                                                                      \
        (list) = grown_;                                                                           \
        (room) = (__typeof__(room))room_;                                                          \
    } while (0)

static uint32_t count_bits(uint64_t mask) {
    return (uint32_t)__builtin_popcountll(mask);
}

/* The first run of set bits: its length, and where it begins. */
static uint32_t first_bits(uint64_t mask, uint32_t *at) {
    *at = (uint32_t)__builtin_ctzll(mask);
    uint64_t clear = ~(mask >> *at);
    return clear ? (uint32_t)__builtin_ctzll(clear) : 64;
}

/* ---- Where a version belongs ---- */

static struct clean_segment *segment_of(const struct clean_survey *s, uint64_t sequence) {
    uint32_t low = 0, high = s->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->segments[middle].first_sequence <= sequence)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || s->segments[low - 1].last_sequence < sequence)
        return NULL;
    return &s->segments[low - 1];
}

static void note_window(const struct clean_survey *s, uint64_t horizon, uint64_t sequence) {
    struct clean_segment *g = sequence > horizon ? segment_of(s, sequence) : NULL;
    if (g)
        g->in_window = 1;
}

/* ---- What is left ---- */

static int collect_entry(struct clean_group *g, const struct run_entry *e, const uint32_t *crc,
                         uint64_t kept) {
    while (kept) {
        uint32_t at, n = first_bits(kept, &at);
        GROW(g->entries, g->entry_count, g->entry_room);
        struct run_entry *to = &g->entries[g->entry_count++];
        *to = *e;
        to->block = e->block / CHUNK_BLOCKS * CHUNK_BLOCKS + at;
        to->blocks = n;
        to->place = place_block(e->place, (uint32_t)(to->block - e->block));
        int is_data = place_kind(e->place) == PLACE_DATA;
        to->crc = is_data ? (const uint32_t *)(uintptr_t)(g->check_count + 1) : NULL;
        for (uint32_t i = 0; is_data && i < n; i++) {
            GROW(g->checks, g->check_count, g->check_room);
            g->checks[g->check_count++] = crc[to->block - e->block + i];
        }
        kept &= ~block_mask(at, n);
    }
    return 0;
}

static int take_entry(struct clean_survey *s, const struct run_entry *e, const uint32_t *crc,
                      uint64_t kept) {
    struct clean_segment *g = segment_of(s, e->sequence);
    if (!g)
        return 0; /* beyond what is surveyed */
    if (s->collects)
        return g->group < 0 ? 0 : collect_entry(&s->groups[g->group], e, crc, kept);
    if (place_kind(e->place) == PLACE_DATA)
        g->blocks += count_bits(kept);
    for (; kept; g->versions++) {
        uint32_t at, n = first_bits(kept, &at);
        kept &= ~block_mask(at, n);
    }
    return 0;
}

static int take_interval(struct clean_survey *s, const struct run_interval *i) {
    struct clean_segment *g = segment_of(s, i->sequence);
    if (!g || (s->collects && g->group < 0))
        return 0;
    if (!s->collects) {
        g->versions++;
        return 0;
    }
    struct clean_group *to = &s->groups[g->group];
    GROW(to->intervals, to->interval_count, to->interval_room);
    to->intervals[to->interval_count++] = *i;
    return 0;
}

/* ---- Chunks ---- */

static uint64_t entry_mask(const struct run_entry *e) {
    return block_mask((uint32_t)(e->block % CHUNK_BLOCKS), e->blocks);
}

/* Asks for entries of the chunk and the open intervals; `whole`: of all of those that no border of an
 * interval lies in. */
static int ask(struct clean_survey *s, uint64_t chunk, int whole) {
    uint64_t first = chunk * CHUNK_BLOCKS, end = first + CHUNK_BLOCKS;
    uint64_t count = (uint64_t)s->entry_count + s->open_count;
    uint64_t room = s->version_room;
    while (room < count) {
        GROW(s->versions_of_chunk, room, s->version_room);
        room = s->version_room;
    }
    struct keep_version *v = s->versions_of_chunk;
    for (uint32_t i = 0; i < s->entry_count; i++) {
        const struct run_entry *e = &s->entries[i];
        v[i] = (struct keep_version){.sequence = e->sequence,
                                     .blocks = entry_mask(e),
                                     .timeline = e->timeline,
                                     .is_hole = place_kind(e->place) == PLACE_HOLE,
                                     .item = i};
    }
    for (uint32_t i = 0; i < s->open_count; i++) {
        const struct run_interval *o = &s->open[i].i;
        uint64_t from = max_u64(o->block, first), to = min_u64(o->end_block, end);
        v[s->entry_count + i] = (struct keep_version){
            .sequence = o->sequence,
            .blocks =
                whole ? UINT64_MAX : block_mask((uint32_t)(from - first), (uint32_t)(to - from)),
            .timeline = o->timeline,
            .is_hole = o->kind == PLACE_HOLE,
            .item = s->entry_count + i};
    }
    if (count > CLEAN_VERSIONS_MAX)
        for (uint64_t i = 0; i < count; i++)
            v[i].kept = v[i].blocks;
    else
        keep_chunk(&s->keep, s->family, v, (uint32_t)count);
    for (uint64_t i = 0; i < count; i++) {
        if (!v[i].kept)
            continue;
        s->kept_versions++;
        if (v[i].item >= s->entry_count) {
            s->open[v[i].item - s->entry_count].kept = 1;
            continue;
        }
        const struct run_entry *e = &s->entries[v[i].item];
        const uint32_t *crc = s->checks ? s->checks + (uintptr_t)e->crc : NULL;
        int err = take_entry(s, e, crc, v[i].kept);
        if (err < 0)
            return err;
    }
    return 0;
}

/* Intervals that end up to this block are done. */
static int close_intervals(struct clean_survey *s, uint64_t block) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < s->open_count; i++) {
        if (s->open[i].i.end_block > block) {
            s->open[left++] = s->open[i];
            continue;
        }
        int err = s->open[i].kept ? take_interval(s, &s->open[i].i) : 0;
        if (err < 0)
            return err;
    }
    s->open_count = left;
    return 0;
}

static int next_item(struct clean_survey *s) {
    int n = merge_read_next(&s->reader, &s->item);
    s->has_item = n > 0;
    if (n < 0 && s->reader.has_bad_source) {
        s->has_bad_source = 1;
        s->bad_source = s->reader.bad_source;
    }
    return n < 0 ? n : 0;
}

static int add_entry(struct clean_survey *s) {
    const struct run_entry *e = &s->item.entry;
    uint32_t blocks = place_kind(e->place) == PLACE_DATA ? e->blocks : 0;
    GROW(s->entries, s->entry_count, s->entry_room);
    s->entries[s->entry_count] = *e;
    s->entries[s->entry_count++].crc = (const uint32_t *)(uintptr_t)s->check_count;
    for (uint32_t i = 0; i < blocks; i++) {
        GROW(s->checks, s->check_count, s->check_room);
        s->checks[s->check_count++] = get_le32(s->item.crc + 4 * i);
    }
    return 0;
}

static int add_interval(struct clean_survey *s) {
    GROW(s->open, s->open_count, s->open_room);
    s->open[s->open_count++] = (struct clean_interval){.i = s->item.interval};
    return 0;
}

static uint32_t item_family(const struct clean_survey *s) {
    return s->item.is_interval ? s->item.interval.family : s->item.entry.family;
}
static uint64_t item_chunk(const struct clean_survey *s) {
    if (!s->has_item || item_family(s) != s->family)
        return NOWHERE;
    return chunk_of_block(s->item.is_interval ? s->item.interval.block : s->item.entry.block);
}

/* What begins in the chunk. */
static int take_items(struct clean_survey *s, uint64_t horizon, uint32_t *budget) {
    s->entry_count = 0;
    s->check_count = 0;
    while (item_chunk(s) == s->chunk) {
        uint64_t sequence =
            s->item.is_interval ? s->item.interval.sequence : s->item.entry.sequence;
        if (!s->collects) {
            s->versions++;
            note_window(s, horizon, sequence);
        }
        int err = s->item.is_interval ? add_interval(s) : add_entry(s);
        if (err == 0)
            err = next_item(s);
        if (err < 0)
            return err;
        *budget -= *budget > 0;
    }
    return 0;
}

/* Up to which chunk all look like this one, in which no item begins: where an interval ends. */
static uint64_t alike_up_to(const struct clean_survey *s) {
    uint64_t end = NOWHERE;
    for (uint32_t i = 0; i < s->open_count; i++)
        end = min_u64(end, s->open[i].i.end_block);
    return min_u64(chunk_of_block(end), item_chunk(s));
}

/* A chunk, or those that look alike. */
static int go_on(struct clean_survey *s, uint32_t *budget) {
    if (s->open_count == 0) {
        if (item_chunk(s) == NOWHERE)
            s->family = item_family(s);
        s->chunk = item_chunk(s);
    }
    uint64_t next = s->chunk + 1;
    int err;
    if (item_chunk(s) == s->chunk) {
        err = take_items(s, keep_horizon(&s->keep, s->family), budget);
        if (err == 0)
            err = ask(s, s->chunk, 0);
    } else {
        s->entry_count = 0;
        uint64_t alike = alike_up_to(s);
        if (alike > s->chunk)
            next = alike;
        err = ask(s, s->chunk, alike > s->chunk);
        *budget -= *budget > 0;
    }
    s->chunk = next;
    return err < 0 ? err : close_intervals(s, next * CHUNK_BLOCKS);
}

/* ---- Groups ---- */

static int fits(const struct clean_survey *s, uint64_t versions, uint64_t blocks) {
    if (versions > UINT32_MAX / 2 || blocks > UINT32_MAX / 2)
        return 0;
    uint64_t run = round_up_u64(run_bytes_max((uint32_t)versions, (uint32_t)blocks), BLOCK_BYTES);
    return 2 * BLOCK_BYTES + blocks * BLOCK_BYTES + run <= s->segment_bytes;
}

static int may_go(const struct clean_segment *g) {
    return !g->is_barred && !g->in_window;
}

/* A horizon's own frame tells from when on that moment is what was shown. */
static void note_horizons(struct clean_survey *s) {
    for (uint32_t i = 0; i < s->keep.horizon_count; i++) {
        struct clean_segment *g = segment_of(s, s->keep.horizons[i]);
        if (g)
            g->in_window = 1;
    }
}

/* From the oldest on: as many neighbours as fit into one. */
static void choose_groups(struct clean_survey *s) {
    for (uint32_t i = 0; i < s->segment_count; i++)
        s->segments[i].group = -1;
    for (uint32_t i = 0, end; i < s->segment_count && s->group_count < CLEAN_GROUPS_MAX; i = end) {
        uint64_t versions = 0, blocks = 0;
        for (end = i; end < s->segment_count && end - i < CLEAN_SEGMENTS_MAX; end++) {
            const struct clean_segment *g = &s->segments[end];
            if (!may_go(g) || !fits(s, versions + g->versions, blocks + g->blocks))
                break;
            versions += g->versions;
            blocks += g->blocks;
        }
        if (end - i < 2 && (end == i || versions > 0)) {
            end = i + 1;
            continue;
        }
        for (uint32_t k = i; k < end; k++)
            s->segments[k].group = (int32_t)s->group_count;
        s->groups[s->group_count++] =
            (struct clean_group){.first = i, .end = end, .versions = versions, .blocks = blocks};
    }
}

static int step(struct clean_survey *s) {
    uint32_t budget = CLEAN_STEP_VERSIONS;
    int err = 0;
    if (!s->begun) {
        s->begun = 1;
        err = next_item(s);
    }
    while (err == 0 && budget > 0 && (s->has_item || s->open_count > 0))
        err = go_on(s, &budget);
    if (err < 0 || s->has_item || s->open_count > 0)
        return err < 0 ? err : 1;
    if (s->collects)
        return 0;
    note_horizons(s);
    choose_groups(s);
    s->collects = 1;
    s->begun = 0;
    int any = 0;
    for (uint32_t i = 0; i < s->group_count; i++)
        any |= s->groups[i].versions > 0;
    if (!any || s->counts_only)
        return 0;
    merge_read_rewind(&s->reader);
    return 1;
}

int clean_survey_step(struct clean_survey *s) {
    int n = step(s);
    if (n <= 0)
        merge_read_rewind(&s->reader); /* closes the files */
    return n;
}

void clean_group_free(struct clean_group *g) {
    free(g->entries);
    free(g->intervals);
    free(g->checks);
    *g = (struct clean_group){0};
}

void clean_survey_free(struct clean_survey *s) {
    for (uint32_t i = 0; i < CLEAN_GROUPS_MAX; i++)
        clean_group_free(&s->groups[i]);
    merge_read_free(&s->reader);
    keep_free(&s->keep);
    free(s->segments);
    free(s->open);
    free(s->entries);
    free(s->checks);
    free(s->versions_of_chunk);
}
