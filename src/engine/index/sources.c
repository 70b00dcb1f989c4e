/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cleaning reads of the index: the runs up to a moment, and merged runs in the place of those that
 * they cover, pinned until they are given back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/index/index_priv.h"
#include "engine/log.h"

static int take(struct index *x, const struct index_run *run, struct index_sources *out) {
    struct index_merged *merged = run->covered_by;
    uint32_t n = out->count, count = merged ? merged->t.piece_count : 1, file;
    const struct index_piece *pieces = merged ? merged->pieces : &run->piece;
    struct merge_source *to = &out->sources[n];
    to->pieces = calloc(count, sizeof *to->pieces);
    if (!to->pieces)
        return ERR_NOMEM;
    to->piece_count = count;
    out->count++;
    for (uint32_t i = 0; i < count; i++)
        to->pieces[i] = (struct merge_source_piece){pieces[i].identity, pieces[i].offset_bytes,
                                                    pieces[i].size_bytes};
    if (merged) {
        memcpy(to->path, merged->path, sizeof to->path);
        out->pinned[n] = merged;
        merged->pins++;
        return 0;
    }
    int err = log_pin_segment(x->log, run->piece.segment, &file);
    if (err < 0)
        return err;
    out->pinned_segments[n] = run->piece.segment;
    log_slot_path(file, to->path);
    return 0;
}

int index_take_sources(struct index *x, uint64_t up_to, uint32_t max, struct index_sources *out) {
    uint64_t limit = index_first_unsealed(x);
    int err = 0;
    *out = (struct index_sources){0};
    if (!x->merged_are_known)
        return ERR_AGAIN;
    out->sources = calloc(max + 1u, sizeof *out->sources);
    out->pinned = calloc(max + 1u, sizeof *out->pinned);
    out->pinned_segments = calloc(max + 1u, sizeof *out->pinned_segments);
    out->segments = calloc(x->run_count + 1u, sizeof *out->segments);
    if (!out->sources || !out->pinned || !out->pinned_segments || !out->segments)
        err = ERR_NOMEM;
    for (uint32_t i = 0, n; i < x->run_count && err == 0 && out->count < max; i += n) {
        const struct index_run *run = &x->runs[i];
        const struct index_merged *merged = run->covered_by;
        n = merged ? merged->covers : 1;
        if ((merged ? merged_last_sequence(&merged->t) : run->last_sequence) >= limit ||
            (merged ? merged_first_sequence(&merged->t) : run->first_sequence) > up_to)
            break;
        err = take(x, run, out);
        for (uint32_t k = i; k < i + n; k++)
            out->segments[out->segment_count++] = (struct merged_segment){
                x->runs[k].piece.segment, x->runs[k].first_sequence, x->runs[k].last_sequence};
        out->last_sequence = x->runs[i + n - 1].last_sequence;
    }
    if (err < 0)
        index_give_sources(x, out);
    return err;
}

void index_sources_free(struct index_sources *s) {
    for (uint32_t i = 0; i < s->count; i++)
        free(s->sources[i].pieces);
    free(s->sources);
    free(s->pinned);
    free(s->pinned_segments);
    free(s->segments);
    *s = (struct index_sources){0};
}

void index_give_sources(struct index *x, struct index_sources *s) {
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->pinned[i])
            index_merged_unpin(s->pinned[i]);
        if (s->pinned_segments[i])
            log_unpin_segment(x->log, s->pinned_segments[i]);
    }
    index_sources_free(s);
}

void index_blame_source(struct index *x, const struct index_sources *s, uint32_t source) {
    if (s->pinned[source])
        index_distrust(x, s->pinned[source]);
}
