/* SPDX-License-Identifier: Apache-2.0 */
/* What every write was, and what a timeline shows as of any moment: what answers are compared with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/engine_world_test.h"

/* ---- Content ---- */

/* One stamp in three has zeroes in it, one in nine for eight blocks in a row. */
int world_sector_is_zero(uint64_t stamp, uint64_t sector) {
    uint64_t run = stamp % 9 == 0 ? 64 : 8;
    return stamp == 0 || (stamp % 3 == 0 && sector / run % 2 == 0);
}

void world_fill_sector(unsigned char *p, uint64_t stamp, uint64_t sector) {
    if (world_sector_is_zero(stamp, sector)) {
        memset(p, 0, SECTOR_BYTES);
        return;
    }
    for (uint32_t i = 0; i < SECTOR_BYTES / 8; i++) {
        uint64_t word = (stamp + i) * UINT64_C(0x9e3779b97f4a7c15) ^ sector;
        memcpy(p + 8 * i, &word, 8);
    }
}

/* ---- The model ---- */

void world_add_change(struct world *w, struct change_made c) {
    if (w->change_count == w->change_room) {
        w->change_room = w->change_room ? 2 * w->change_room : 1024;
        w->changes = realloc(w->changes, w->change_room * sizeof *w->changes);
    }
    uint32_t at = w->change_count++;
    for (; at > 0 && w->changes[at - 1].sequence > c.sequence; at--)
        w->changes[at] = w->changes[at - 1];
    w->changes[at] = c;
}

static void apply_change(struct world *w, const struct change_made *c, uint64_t first,
                         uint64_t count, uint64_t *stamps) {
    uint64_t from = max_u64(first, c->first), end = min_u64(first + count, c->first + c->sectors);
    if (from >= end)
        return;
    if (c->kind == CHANGE_REFERENCE)
        world_model(w, c->ref_timeline, c->ref_sequence, from, end - from, stamps + (from - first));
    for (uint64_t s = from; s < end && c->kind == CHANGE_STAMP; s++)
        stamps[s - first] = c->stamp;
}

void world_model(struct world *w, uint32_t line, uint64_t sequence, uint64_t first, uint64_t count,
                 uint64_t *stamps) {
    if (w->lines[line].parent)
        world_model(w, w->lines[line].parent, min_u64(sequence, w->lines[line].fork), first, count,
                    stamps);
    else
        memset(stamps, 0, count * sizeof *stamps);
    for (uint32_t i = 0; i < w->change_count && w->changes[i].sequence <= sequence; i++)
        if (w->changes[i].timeline == line)
            apply_change(w, &w->changes[i], first, count, stamps);
}

int world_changes_nothing(struct world *w, const struct change_made *c) {
    uint64_t *stamps = malloc(2 * c->sectors * sizeof *stamps);
    unsigned char before[SECTOR_BYTES], after[SECTOR_BYTES];
    int is = c->kind == CHANGE_STAMP;
    world_model(w, c->timeline, c->sequence - 1, c->first, c->sectors, stamps);
    world_model(w, c->timeline, c->sequence, c->first, c->sectors, stamps + c->sectors);
    for (uint64_t i = 0; i < c->sectors && is; i++) {
        world_fill_sector(before, stamps[i], c->first + i);
        world_fill_sector(after, stamps[c->sectors + i], c->first + i);
        is = memcmp(before, after, SECTOR_BYTES) == 0;
    }
    free(stamps);
    return is;
}

uint64_t world_now(struct world *w) {
    return w->change_count ? w->changes[w->change_count - 1].sequence : 0;
}

uint32_t world_step_of(uint64_t sequence) {
    uint32_t n = (uint32_t)__builtin_ctzll(sequence * UINT64_C(0x9e3779b97f4a7c15) | 1u << 31);
    return thinning_step(n < THINNING_STEPS ? n : THINNING_STEPS - 1);
}

/* One that is promised. */
uint64_t world_some_moment(struct world *w) {
    uint64_t i = prng_below(&w->prng, w->change_count + 1);
    uint64_t moment = max_u64(w->horizon, i == 0 ? 0 : w->changes[i - 1].sequence);
    if (moment >= w->fine)
        return moment;
    for (i = 0; i < w->change_count && w->changes[i].sequence < w->fine; i++)
        if (w->changes[i].sequence >= moment && world_step_of(w->changes[i].sequence) >= w->step_s)
            return w->changes[i].sequence;
    return w->fine;
}

/* The change that an answered or applied request has made. */
void world_note_change(struct world *w, const struct asked *q, uint64_t sequence) {
    if (sequence == 0)
        return;
    for (uint32_t i = w->change_count; i-- > 0 && w->changes[i].sequence >= sequence;)
        if (w->changes[i].sequence == sequence)
            return; /* known since it was applied */
    uint64_t from = q->offset, to = q->offset + q->length;
    if (q->op == REQUEST_TRIM) {
        const struct volume *v = volume_view(w->a, w->volume[q->volume]);
        from = round_up_u64(from, BLOCK_BYTES);
        to = to == v->size_bytes ? to : to / BLOCK_BYTES * BLOCK_BYTES;
    }
    if (from >= to)
        return;
    world_add_change(w, (struct change_made){.sequence = sequence,
                                             .timeline = q->timeline,
                                             .first = from / SECTOR_BYTES,
                                             .sectors = (to - from) / SECTOR_BYTES,
                                             .stamp = q->op == REQUEST_WRITE ? q->stamp : 0,
                                             .kind = CHANGE_STAMP});
}

static int data_is(const struct asked *q, const uint64_t *stamps) {
    unsigned char sector[SECTOR_BYTES];
    for (uint64_t i = 0; i < q->length / SECTOR_BYTES; i++) {
        world_fill_sector(sector, stamps[i], q->offset / SECTOR_BYTES + i);
        if (memcmp(sector, q->data + i * SECTOR_BYTES, SECTOR_BYTES) != 0)
            return 0;
    }
    return 1;
}

/* The answer is the disk at one moment between asking and answering. */
void world_check_read(struct world *w, const struct asked *q) {
    uint64_t first = q->offset / SECTOR_BYTES, count = q->length / SECTOR_BYTES;
    uint64_t *stamps = malloc((count + 1) * sizeof *stamps);
    world_model(w, q->timeline, q->applied_before, first, count, stamps);
    int right = data_is(q, stamps);
    for (uint32_t i = 0; i < w->change_count && !right; i++) {
        const struct change_made *c = &w->changes[i];
        if (c->sequence <= q->applied_before || c->sequence > q->applied_after ||
            c->timeline != q->timeline)
            continue;
        apply_change(w, c, first, count, stamps);
        right = data_is(q, stamps);
    }
    free(stamps);
    if (!right)
        fail_msg("read of volume %u at %llu, %llu bytes, is of no moment from %llu to %llu",
                 q->volume, (unsigned long long)q->offset, (unsigned long long)q->length,
                 (unsigned long long)q->applied_before, (unsigned long long)q->applied_after);
}
