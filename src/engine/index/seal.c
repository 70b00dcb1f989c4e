/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making runs. The log asks for the run of a segment that takes no more records; a job makes it of a
 * private copy of the memtable, and the log writes it. After a kill the log asks again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/index/index_priv.h"

static void to_interval(const struct memtable_entry *e, struct run_interval *i) {
    *i = (struct run_interval){.family = e->family,
                               .timeline = e->timeline,
                               .kind = e->kind,
                               .ref_timeline = e->ref_timeline,
                               .block = e->chunk,
                               .end_block = e->place,
                               .sequence = e->sequence,
                               .time_ns = e->time_ns,
                               .ref_sequence = e->ref_sequence};
}

static void to_entry(const struct run_job *j, const struct memtable_entry *e,
                     struct run_entry *out) {
    *out = (struct run_entry){.family = e->family,
                              .timeline = e->timeline,
                              .segment = j->number,
                              .blocks = e->blocks,
                              .block = e->chunk * CHUNK_BLOCKS + e->first,
                              .sequence = e->sequence,
                              .time_ns = e->time_ns,
                              .place = place_of_kind(e->kind),
                              .ref_timeline = e->ref_timeline,
                              .ref_sequence = e->ref_sequence};
    if (e->kind == PLACE_DATA) {
        out->segment = place_segment(e->place);
        out->place = e->place;
        out->crc = &j->checks[e->checks];
    }
}

static void make_run(struct job *job) {
    struct run_job *j = (struct run_job *)(void *)job;
    struct run_input in = {.entries = malloc((j->entry_count + 1) * sizeof *in.entries),
                           .intervals = malloc((j->entry_count + 1) * sizeof *in.intervals)};
    j->result = ERR_NOMEM;
    if (in.entries && in.intervals) {
        for (uint32_t i = 0; i < j->entry_count; i++) {
            if (j->entries[i].blocks == 0)
                to_interval(&j->entries[i], &in.intervals[in.interval_count++]);
            else
                to_entry(j, &j->entries[i], &in.entries[in.entry_count++]);
        }
        j->result = run_make(&in, run_identity(j->number), &j->bytes, &j->length_bytes);
    }
    free(in.entries);
    free(in.intervals);
}

static void free_job(struct index *x, struct run_job *j) {
    struct run_job **at = &x->jobs;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    free(j->entries);
    free(j->checks);
    free(j);
}

/* No memory: it is tried again. The segment may be gone meanwhile. */
static void run_is_made(struct job *job) {
    struct run_job *j = (struct run_job *)(void *)job;
    struct index *x = j->x;
    const struct segment *s = segment_try(x->a, j->segment);
    if (j->result < 0)
        index_want_run(x, j->segment);
    else if (s && s->number == j->number && s->slot.state == SEGMENT_SEALING)
        log_write_run(x->log, j->segment, j->bytes, (uint32_t)j->length_bytes, j->entry_count);
    else
        free(j->bytes);
    free_job(x, j);
}

/* Each segment that waits for its run has a memtable. */
void index_want_run(struct index *x, struct segment_h segment) {
    for (uint32_t i = 0; i < x->unsealed_count; i++)
        if (segment_h_same(x->unsealed[i], segment))
            return;
    must(x->unsealed_count < INDEX_MEMTABLES_MAX);
    x->unsealed[x->unsealed_count++] = segment;
}

/* NULL: it is not all applied yet, or there is no memory. */
static struct run_job *make_job(struct index *x, struct segment_h segment, struct memtable_h h) {
    const struct memtable *m = memtable_view(x->a, h);
    struct memtable_view v = memtable_at(x->a, h);
    if (v.area->applied < m->entries || x->moving)
        return NULL;
    struct run_job *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    *j = (struct run_job){.job = {.run = make_run, .done = run_is_made},
                          .x = x,
                          .segment = segment,
                          .number = m->segment,
                          .entries = malloc((m->entries + 1) * sizeof *j->entries),
                          .entry_count = m->entries,
                          .checks = malloc((m->checks + 1) * sizeof *j->checks),
                          .next = x->jobs};
    x->jobs = j;
    if (!j->entries || !j->checks) {
        free_job(x, j);
        return NULL;
    }
    memcpy(j->entries, v.entries, m->entries * sizeof *j->entries);
    memcpy(j->checks, v.checks, m->checks * sizeof *j->checks);
    return j;
}

void index_make_run_now(struct index *x, struct segment_h segment) {
    struct memtable_h m = index_memtable_of(x, segment_view(x->a, segment)->number);
    index_apply(x);
    struct run_job *j = make_job(x, segment, m);
    if (!j)
        return;
    make_run(&j->job);
    run_is_made(&j->job);
}

void index_make_runs(struct index *x) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < x->unsealed_count; i++) {
        struct segment_h h = x->unsealed[i];
        const struct segment *s = segment_try(x->a, h);
        struct memtable_h m = s && s->slot.state == SEGMENT_SEALING
                                  ? index_memtable_of(x, s->number)
                                  : (struct memtable_h){0};
        if (!m.v)
            continue;
        struct run_job *j = make_job(x, h, m);
        if (j)
            x->parts.jobs.ops->start(x->parts.jobs.ctx, &j->job);
        else
            x->unsealed[left++] = h;
    }
    x->unsealed_count = left;
}

/* The runner has been drained: no job runs. */
void index_close_jobs(struct index *x) {
    for (struct run_job *j = x->jobs, *next; j; j = next) {
        next = j->next;
        free(j->bytes);
        free_job(x, j);
    }
}
