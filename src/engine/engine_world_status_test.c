/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block status against the model: what is said to be zero is zero, what is said to have changed since a moment
 * was written after it and nothing else, and a version is the number of the last write. What is written while
 * the status is told may show or not, so only answers between which nothing was applied are compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/engine_world_test.h"

void world_take_status(struct world *w, struct asked *q, const struct request *r) {
    uint32_t sections = request_status_sections(r->flags), most = request_status_extents(r);
    uint32_t nth = 0, taken = 0;
    uint64_t run;
    q->extents = malloc((size_t)sections * most * sizeof *q->extents);
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++) {
        uint64_t at = nth * request_status_section_bytes(r);
        q->counts[k] = 0;
        if (!request_status_has(r->flags, (enum request_status_kind)k))
            continue;
        for (nth++; q->counts[k] < most && at < r->reply_data_bytes; at += sizeof *q->extents) {
            struct request_status_extent *x = &q->extents[taken];
            memcpy(x, request_data_at(&w->buffers, r, at, &run), sizeof *x);
            if (x->length_bytes == 0)
                break;
            q->counts[k]++;
            taken++;
        }
        if (nth == 1)
            q->extent_count = taken;
    }
}

/* The newest change of a block that a line sees up to a number, and all that is older than it; 0: none. */
static const struct change_made *last_change(const struct world *w, uint32_t line,
                                             uint64_t sequence, uint64_t block, uint64_t *before) {
    uint64_t first = block * (BLOCK_BYTES / SECTOR_BYTES);
    uint64_t end = first + BLOCK_BYTES / SECTOR_BYTES;
    for (; line; line = w->lines[line].parent) {
        for (uint32_t i = w->change_count; i-- > 0;) {
            const struct change_made *c = &w->changes[i];
            if (c->timeline == line && c->sequence <= sequence && c->first < end &&
                c->first + c->sectors > first) {
                *before = i > 0 ? w->changes[i - 1].sequence : 0;
                return c;
            }
        }
        sequence = min_u64(sequence, w->lines[line].fork);
    }
    *before = 0;
    return NULL;
}

static int is_past(const struct world *w, uint32_t line, uint64_t since) {
    for (uint64_t limit = UINT64_MAX; line; line = w->lines[line].parent) {
        if (since <= limit && since >= w->lines[line].made)
            return 1;
        limit = min_u64(limit, w->lines[line].fork);
    }
    return 0;
}

/* The horizon may have come nearer since. */
int world_may_refuse_since(const struct world *w, const struct asked *q) {
    return request_status_has(q->flags, REQUEST_STATUS_OF_CHANGES) &&
           ((q->error == ERR_RANGE && q->since < w->fine) ||
            (q->error == ERR_CHANGED && !is_past(w, q->timeline, q->since)));
}

static void check_places(struct world *w, const struct asked *q,
                         const struct request_status_extent *x, uint64_t sector, uint64_t count) {
    uint64_t *stamps = malloc((count + 1) * sizeof *stamps);
    world_model(w, q->timeline, q->applied_before, sector, count, stamps);
    for (uint64_t s = 0; s < count && (x->status & REQUEST_STATUS_ZERO); s++)
        assert_true(world_sector_is_zero(stamps[s], sector + s));
    free(stamps);
}

static int is_version(const struct world *w, const struct asked *q, enum request_status_kind kind,
                      uint64_t status, uint64_t before, uint64_t newest) {
    if (kind == REQUEST_STATUS_OF_CHANGES)
        return status == (newest > q->since ? REQUEST_STATUS_CHANGED : 0);
    if (newest == 0 || (newest <= w->fine && status == 0))
        return status == 0;
    return status > before && status <= newest;
}

/* A request of several records has their numbers, up to the one that the model knows. A hole that is as old as
 * the horizon need not be told from what was never written, and a write of what was there is not told. */
static void check_versions(struct world *w, const struct asked *q, uint32_t kind,
                           const struct request_status_extent *x, uint64_t sector, uint64_t count) {
    uint64_t first = sector / (BLOCK_BYTES / SECTOR_BYTES);
    uint64_t last = (sector + count - 1) / (BLOCK_BYTES / SECTOR_BYTES);
    for (uint64_t block = first; block <= last; block++) {
        uint64_t before;
        const struct change_made *c =
            last_change(w, q->timeline, q->applied_before, block, &before);
        while (c && !is_version(w, q, kind, x->status, before, c->sequence) &&
               world_changes_nothing(w, c))
            c = last_change(w, q->timeline, c->sequence - 1, block, &before);
        assert_true(is_version(w, q, kind, x->status, before, c ? c->sequence : 0));
    }
}

void world_check_status(struct world *w, const struct asked *q) {
    const struct request_status_extent *x = q->extents;
    uint64_t covered = 0;
    int changed = 0;
    if (request_status_has(q->flags, REQUEST_STATUS_OF_CHANGES))
        assert_true(q->since >= w->fine && is_past(w, q->timeline, q->since));
    for (uint32_t c = 0; c < w->change_count; c++)
        changed |= w->changes[c].sequence > q->applied_before &&
                   w->changes[c].sequence <= q->applied_after;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++) {
        uint64_t at = 0;
        if (!request_status_has(q->flags, (enum request_status_kind)k)) {
            assert_int_equal(q->counts[k], 0);
            continue;
        }
        assert_true(q->counts[k] > 0);
        for (uint32_t i = 0; i < q->counts[k]; i++, x++) {
            uint64_t sector = (q->offset + at) / SECTOR_BYTES, n = x->length_bytes / SECTOR_BYTES;
            assert_true(n > 0 && at + x->length_bytes <= q->length);
            assert_true(i == 0 || x->status != x[-1].status);
            if (!changed && k == REQUEST_STATUS_OF_PLACES)
                check_places(w, q, x, sector, n);
            else if (!changed)
                check_versions(w, q, k, x, sector, n);
            w->compared[k] += !changed && x->status;
            at += x->length_bytes;
        }
        assert_true(covered == 0 || covered == at); /* all sections cover the same */
        covered = at;
    }
}
