/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames count (docs/formats.md, "Which frames count"). The links stand in the order of their
 * places, which is the order in which the log was written, but for what a cut made void.
 *
 *  1. Void: what the store header's end excludes; then, from the last link to the first, what lies
 *     between a counting link's cut and that link.
 *  2. The rest is walked in order. A link that does not continue (its epoch or its sequence numbers
 *     fall) is void; one whose predecessor is missing tells what was lost.
 *  3. A frame that does not check, though a later link says that it was durable, is damaged: what
 *     checks of it is kept. The first that need not have been durable is the torn end; nothing
 *     counts from there on.
 */
#include "base/units.h"
#include "engine/log/recovery.h"

static int at_or_beyond(const struct link *k, uint32_t segment, uint32_t offset) {
    return k->segment > segment || (k->segment == segment && k->offset >= offset);
}

static void void_by_header(struct recovery *r) {
    const struct log_end *end = &r->header.ended;
    for (uint32_t i = 0; i < r->link_count; i++) {
        struct link *k = &r->links[i];
        if (!k->sealed && k->first_epoch <= end->epoch &&
            at_or_beyond(k, end->segment, end->offset))
            k->fate = LINK_VOID;
    }
}

static void void_by_cuts(struct recovery *r) {
    for (uint32_t i = r->link_count; i-- > 0;) {
        const struct link *cut = &r->links[i];
        if (!cut->cut || cut->fate != LINK_COUNTS)
            continue;
        for (uint32_t j = i; j-- > 0;) {
            struct link *k = &r->links[j];
            if (!at_or_beyond(k, cut->cut_segment, cut->cut_offset))
                break;
            if (!k->sealed)
                k->fate = LINK_VOID;
        }
    }
}

static uint64_t durable_of(const struct recovery *r) {
    uint64_t durable = r->header.ended.sequence;
    for (uint32_t i = 0; i < r->link_count; i++)
        durable = max_u64(durable, r->links[i].durable);
    return durable;
}

/* Records that a cut excludes, though their frames count. */
static void limit(struct recovery *r, int before, uint64_t sequence) {
    for (int j = before; j >= 0; j--) {
        struct link *k = &r->links[j];
        if (k->fate != LINK_COUNTS)
            continue;
        if (k->sealed || k->last_sequence <= sequence)
            return;
        k->keep_to = sequence < k->keep_to ? sequence : k->keep_to;
        /* A frame of which no record counts still has its place in the chain. */
        if (k->keep_to < k->first_sequence)
            k->keep_to = k->first_sequence - 1;
    }
}

static void limit_by_header(struct recovery *r) {
    for (int j = (int)r->link_count - 1; j >= 0; j--)
        if (r->links[j].fate == LINK_COUNTS && r->links[j].last_epoch <= r->header.ended.epoch) {
            limit(r, j, r->header.ended.sequence);
            return;
        }
}

static int continues(const struct link *k, const struct link *last) {
    if (!last)
        return 1;
    return k->first_epoch >= last->last_epoch && k->first_sequence > last->last_sequence;
}

static void note_gap(const struct link *k, const struct link *last, int (*freed)(void *, uint32_t),
                     void *ctx, struct log_report *report) {
    uint64_t had = last ? last->last_sequence : 0;
    if (last ? frame_name_same(k->previous, last->name) : k->previous.segment == 0)
        return;
    if (!k->sealed && k->follows > had)
        report->records_lost += k->follows - had;
    if (last && k->previous.segment == last->segment && !last->sealed) {
        report->frames_damaged++;
    } else if (!freed || !freed(ctx, k->previous.segment)) {
        report->segments_missing++;
    }
}

void recovery_chain(struct recovery *r, int (*freed)(void *ctx, uint32_t segment), void *ctx,
                    struct log_report *report) {
    const struct link *last = NULL;
    void_by_header(r);
    void_by_cuts(r);
    uint64_t durable = durable_of(r);
    int torn = 0;
    r->tail = -1;
    for (uint32_t i = 0; i < r->link_count; i++) {
        struct link *k = &r->links[i];
        if (k->fate != LINK_COUNTS)
            continue;
        int bad = k->damaged || k->bad_blocks > 0;
        if (torn || (bad && k->last_sequence > durable)) {
            torn = 1;
            k->fate = LINK_TORN;
            report->frames_torn++;
            continue;
        }
        if (!continues(k, last)) {
            k->fate = LINK_VOID;
            report->segments_missing += k->sealed ? 1 : 0;
            continue;
        }
        note_gap(k, last, freed, ctx, report);
        if (k->cut)
            limit(r, (int)i - 1, k->cut_sequence);
        if (k->damaged)
            report->frames_damaged++;
        report->blocks_damaged += k->bad_blocks;
        r->slots[k->slot].links += k->sealed ? 0 : 1;
        last = k;
        r->tail = (int)i;
    }
    limit_by_header(r);
}
