/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which versions are kept: those that some promised moment sees (design: retention).
 *
 * A *view* promises the moments from..to of a timeline. Of the versions of a block that the timeline sees,
 * newest first, it needs all that are younger than `from`, and the newest that is not; of both only
 * those up to `to`. What no view needs may go.
 *
 * A view may promise only chosen moments (thinning.h): then a version is needed if one of them lies between it and
 * the next younger version.
 *
 *  1. `complete`: all versions up to there are known to the caller. Nobody needs a version because one
 *     that is younger than that is not known: so every view counts as if it began there at the latest.
 *  2. What is dropped is hidden, in every view, by a version that is kept. So it does not matter whether
 *     a dropped version is really gone.
 *  3. A hole without anything older under it is dropped too: what was never written is a hole. It needs
 *     that nothing older is there at all, dropped or not.
 *
 * Pure functions over private memory.
 */
#ifndef ENGINE_CLEAN_KEEP_H
#define ENGINE_CLEAN_KEEP_H

#include <stdint.h>

#include "engine/ancestry.h"
#include "engine/thinning.h"
#include "engine/version.h"

struct keep_timeline {
    uint32_t id, family, parent;
    uint64_t fork_sequence;
};

/* The moments from..to of the timeline are promised. UINT64_MAX: its present, and no past. step_s: of
 * those only the chosen ones of this step or a longer one are; 0: all. */
struct keep_moments {
    uint32_t timeline, family;
    uint64_t from, to;
    uint32_t step_s;
};

/* A moment that was chosen (thinning.h). */
struct keep_chosen {
    uint64_t sequence;
    uint32_t step_s;
};

/* Records of the family that are younger must stay findable by time. */
struct keep_window {
    uint32_t family;
    uint64_t horizon;
};

struct keep_view {
    struct ancestry line;
    uint64_t from, to;
    uint32_t step_s;
    const uint64_t *chosen; /* step_s > 0: those of such steps, rising */
    uint32_t chosen_count;
};

struct keep {
    uint64_t complete;
    struct keep_view *views; /* by family */
    uint32_t view_count;
    struct keep_window *windows; /* by family, each once, with the oldest horizon */
    uint32_t window_count;
    uint64_t *horizons; /* of all windows */
    uint32_t horizon_count;
    struct ancestor *lists;
    uint64_t *chosen[THINNING_STEPS]; /* by the number of a step that a view has, else NULL */
    uint32_t chosen_count[THINNING_STEPS];
};

/* All that is promised; the memory stays the owner's. Timelines: ids rise, parents are among them. Chosen
 * moments rise. */
struct keep_promises {
    struct keep_timeline *timelines;
    struct keep_moments *moments;
    struct keep_window *windows;
    struct keep_chosen *chosen;
    uint32_t timeline_count, moment_count, window_count, chosen_count;
};

/* ERR_NOMEM; ERR_INTEGRITY: a view's timeline or an ancestor is missing, or a step is none. */
int keep_make(struct keep *k, const struct keep_promises *p, uint64_t complete);
void keep_free(struct keep *k);

/* Up to where the family's moments are given up; UINT64_MAX: no volume is of it. */
uint64_t keep_horizon(const struct keep *k, uint32_t family);

/* A version of up to 64 blocks of one chunk: a bit for each block. */
struct keep_version {
    uint64_t sequence;
    uint64_t blocks;
    uint64_t kept; /* the answer */
    uint32_t timeline;
    uint32_t is_hole;
    uint32_t item; /* the caller's */
};

/* All versions of a chunk, or of chunks that all look alike. Puts them in order, newest first. */
void keep_chunk(const struct keep *k, uint32_t family, struct keep_version *v, uint32_t count);

#endif
