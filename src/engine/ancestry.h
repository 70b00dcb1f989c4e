/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who sees what. A timeline sees its own records, its parent's up to the fork, its grandparent's up
 * to both forks, and so on. The list of a timeline is made from the slots of TABLE_TIMELINE when it
 * is first asked for, and kept: neither a timeline's parent nor its fork ever changes, and ids are
 * never used again.
 *
 *  1. A child's id is greater than its parent's, so a list descends and a timeline is found in it by
 *     bisection: a fork chain of a thousand costs ten comparisons.
 *  2. Limits do not rise along a list.
 *
 * Private memory; asked for again after an attach.
 */
#ifndef ENGINE_ANCESTRY_H
#define ENGINE_ANCESTRY_H

#include <stdint.h>

#include "engine/slots.h"

struct ancestor {
    uint32_t timeline;
    uint64_t limit; /* newest sequence of it that is seen */
};

/* list[0] is the timeline itself, without limit. */
struct ancestry {
    uint32_t timeline;
    uint32_t family;
    uint32_t count;
    const struct ancestor *list;
};

/* The newest sequence of a timeline's records that the view sees; 0: none. */
static inline uint64_t ancestry_limit(const struct ancestry *v, uint32_t timeline) {
    if (timeline == v->timeline)
        return UINT64_MAX;
    uint32_t low = 1, high = v->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->list[middle].timeline > timeline)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->count && v->list[low].timeline == timeline ? v->list[low].limit : 0;
}

struct ancestries;

/* Returns 0 or ERR_NOMEM. */
int ancestries_open(struct ancestries **out, const struct arena *a);
void ancestries_close(struct ancestries *s);

/* The list of a timeline, to be given back; NULL if there is no such timeline, or an ancestor of it
 * is missing or contradicts rule 1. */
const struct ancestry *ancestry_take(struct ancestries *s, uint32_t timeline);
void ancestry_give(struct ancestries *s, const struct ancestry *v);

/* The slot of a timeline by its id; h.v == 0 if there is none. */
struct timeline_h ancestry_slot(struct ancestries *s, uint32_t timeline);

#endif
