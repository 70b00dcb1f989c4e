/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which frames count (docs/formats.md, "Which frames count"). The links stand in the order of their
 * places, which is the order in which they were written, but for writes that landed late or failed.
 *
 *  1. Void: what the store header's end excludes, frames behind it and records above its number; and
 *     frames of segments that are not sealed, up to where the catalogue says that all were; a
 *     segment whose footer is damaged was sealed, as a footer is zeroes before.
 *  2. Void, from the last link to the first: what stands between a counting link and the one that it
 *     names as its previous; and the records above the number that it follows.
 *  3. The rest is walked in order. A link whose epoch falls or whose numbers do not rise is void; one
 *     whose predecessor is missing tells what was lost.
 *  4. A frame that does not check, though a later link says that it was durable, is damaged: what
 *     checks of it is kept. The first that need not have been durable is the torn end; nothing
 *     counts from there on.
 */
#include "base/units.h"
#include "engine/log/recovery.h"

static int at_or_beyond(const struct link *k, uint32_t segment, uint32_t offset) {
    return k->segment > segment || (k->segment == segment && k->offset >= offset);
}

/* Of a frame of which no record counts, the place in the chain remains. */
static void keep_to(struct link *k, uint64_t sequence) {
    if (k->sealed || k->keep_to <= sequence)
        return;
    k->keep_to = max_u64(sequence, k->first_sequence - 1);
}

static void void_by_header(struct recovery *r) {
    const struct log_end *end = &r->header.ended;
    for (uint32_t i = 0; i < r->link_count; i++) {
        struct link *k = &r->links[i];
        if (k->sealed || k->first_epoch > end->epoch)
            continue;
        if (at_or_beyond(k, end->segment, end->offset))
            k->fate = LINK_VOID;
        else
            keep_to(k, end->sequence);
    }
}

static void void_between(struct recovery *r) {
    for (uint32_t i = r->link_count; i-- > 0;) {
        const struct link *k = &r->links[i];
        if (k->fate != LINK_COUNTS)
            continue;
        uint32_t j = i;
        for (; j > 0; j--) {
            struct link *between = &r->links[j - 1];
            if (!at_or_beyond(between, k->previous.segment, k->previous.offset + 1))
                break;
            if (between->sealed)
                break; /* the chain is broken here: what is before it speaks for itself */
            between->fate = LINK_VOID;
        }
        for (; j > 0 && r->links[j - 1].keep_to > k->follows && !r->links[j - 1].sealed; j--)
            keep_to(&r->links[j - 1], k->follows);
    }
}

static void void_by_catalogue(struct recovery *r, const struct log_env *env) {
    uint64_t sealed = env->sealed_up_to ? env->sealed_up_to(env->catalogue_ctx) : 0;
    for (uint32_t i = 0; i < r->link_count; i++)
        if (!r->links[i].sealed && !r->slots[r->links[i].slot].had_footer &&
            r->links[i].first_sequence <= sealed)
            r->links[i].fate = LINK_VOID;
}

void recovery_cut_above(struct recovery *r, uint64_t sequence) {
    for (int i = r->tail; i >= 0 && !r->links[i].sealed && r->links[i].keep_to > sequence; i--)
        if (r->links[i].fate == LINK_COUNTS)
            keep_to(&r->links[i], sequence);
}

static uint64_t durable_of(const struct recovery *r) {
    uint64_t durable = r->header.ended.sequence;
    for (uint32_t i = 0; i < r->link_count; i++)
        durable = max_u64(durable, r->links[i].durable);
    return durable;
}

static int continues(const struct link *k, const struct link *last) {
    if (!last)
        return 1;
    return k->first_epoch >= last->last_epoch && k->first_sequence > last->last_sequence;
}

static void note_gap(const struct link *k, const struct link *last, const struct log_env *env,
                     struct log_report *report) {
    uint64_t had = last ? last->last_sequence : 0;
    if (last ? frame_name_same(k->previous, last->name) : k->previous.segment == 0)
        return;
    if (env->segment_freed && env->segment_freed(env->catalogue_ctx, k->previous.segment))
        return;
    if (!k->sealed && k->follows > had)
        report->records_lost += k->follows - had;
    if (last && k->previous.segment == last->segment && !last->sealed) {
        report->frames_damaged++;
    } else {
        report->segments_missing++;
    }
    report->lost_before = max_u64(report->lost_before, k->first_sequence);
}

void recovery_chain(struct recovery *r, const struct log_env *env, struct log_report *report) {
    const struct link *last = NULL;
    void_by_header(r);
    void_by_catalogue(r, env);
    void_between(r);
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
            if (k->sealed)
                report->lost_before = max_u64(report->lost_before, k->last_sequence);
            continue;
        }
        note_gap(k, last, env, report);
        if (k->damaged) {
            report->frames_damaged++;
            report->lost_before = max_u64(report->lost_before, k->last_sequence);
        }
        report->blocks_damaged += k->bad_blocks;
        r->slots[k->slot].links += k->sealed ? 0 : 1;
        last = k;
        r->tail = (int)i;
    }
}
