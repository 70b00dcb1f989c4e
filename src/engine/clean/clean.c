/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/clean/clean.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "engine/clean/clean_job.h"
#include "engine/index/merged_disk.h"

#define SOURCES_MAX 320u /* runs and merged runs that one pass reads */

enum clean_state {
    CLEAN_IDLE = 0,
    CLEAN_KEEPS,
    CLEAN_SURVEY,
    CLEAN_TAKE,
    CLEAN_FREED,
    CLEAN_WRITE,
    CLEAN_COMMIT,
};

struct clean_job {
    struct job job; /* first */
    struct clean *c;
    int result;
};

/* A segment whose block does not check stays as it is, as long as this process lives. */
#define BAD_MAX 64u

struct clean {
    struct clean_parts parts;
    enum clean_state state;
    uint64_t up_to;
    int is_survey; /* and no more */
    struct clean_job job;
    int job_runs;
    struct index_sources sources;
    int has_sources;
    struct clean_survey *survey;
    uint32_t group; /* in hand */
    struct clean_write *write;
    uint32_t pinned; /* of the write's sources */
    uint32_t bad[BAD_MAX], bad_count;
    struct clean_counts n;
};

int clean_open(struct clean **out, const struct clean_parts *parts) {
    struct clean *c = calloc(1, sizeof *c);
    if (!c)
        return ERR_NOMEM;
    c->parts = *parts;
    *out = c;
    return 0;
}

static void give_sources(struct clean *c) {
    if (c->has_sources)
        index_give_sources(c->parts.index, &c->sources);
    c->has_sources = 0;
}

static void free_survey(struct clean *c) {
    if (!c->survey)
        return;
    clean_survey_free(c->survey);
    free(c->survey);
    c->survey = NULL;
}

static void free_write(struct clean *c) {
    if (!c->write)
        return;
    clean_write_free(c->write);
    free(c->write);
    c->write = NULL;
}

void clean_close(struct clean *c) {
    if (!c)
        return;
    free_write(c);
    free_survey(c);
    if (c->has_sources)
        index_sources_free(&c->sources);
    free(c);
}

static int begin(struct clean *c, uint64_t up_to, int is_survey) {
    if (c->state != CLEAN_IDLE)
        return ERR_BUSY;
    c->state = CLEAN_KEEPS;
    c->is_survey = is_survey;
    c->up_to = up_to;
    c->parts.ops->want_keeps(c->parts.ctx);
    return 0;
}

int clean_begin(struct clean *c, uint64_t up_to) {
    return begin(c, up_to, 0);
}

int clean_begin_survey(struct clean *c, uint64_t up_to) {
    return begin(c, up_to, 1);
}

int clean_is_busy(const struct clean *c) {
    return c->state != CLEAN_IDLE;
}

struct clean_counts clean_counts(const struct clean *c) {
    return c->n;
}

static void end_pass(struct clean *c, int err) {
    must(!c->job_runs);
    for (; c->pinned > 0; c->pinned--)
        log_unpin_segment(c->parts.log, c->write->sources[c->pinned - 1].segment);
    if (c->write && c->write->cold.segment)
        log_cold_drop(c->parts.log, c->write->cold.segment);
    free_write(c);
    give_sources(c);
    free_survey(c);
    c->state = CLEAN_IDLE;
    c->n.passes += !c->is_survey;
    c->n.last_error = err;
}

/* ---- Survey ---- */

static int is_bad(const struct clean *c, uint32_t segment) {
    for (uint32_t i = 0; i < c->bad_count; i++)
        if (c->bad[i] == segment)
            return 1;
    return 0;
}

static int take_segments(struct clean *c, struct clean_survey *s) {
    const struct index_sources *from = &c->sources;
    s->segments = calloc(from->segment_count + 1, sizeof *s->segments);
    if (!s->segments)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < from->segment_count; i++) {
        const struct merged_segment *live = &from->segments[i];
        s->segments[i] = (struct clean_segment){.number = live->number,
                                                .first_sequence = live->first_sequence,
                                                .last_sequence = live->last_sequence,
                                                .is_barred = is_bad(c, live->number) ||
                                                             live->last_sequence > c->up_to,
                                                .group = -1};
    }
    s->segment_count = from->segment_count;
    /* The log's end stands in the newest. */
    if (s->segment_count > 0)
        s->segments[s->segment_count - 1].is_barred = 1;
    return 0;
}

static void run_survey(struct job *job) {
    struct clean_job *j = (struct clean_job *)(void *)job;
    j->result = clean_survey_step(j->c->survey);
}

static void start(struct clean *c, void (*run)(struct job *), void (*done)(struct job *)) {
    c->job = (struct clean_job){.job = {.run = run, .done = done}, .c = c};
    c->job_runs = 1;
    c->parts.jobs.ops->start(c->parts.jobs.ctx, &c->job.job);
}

static void surveyed(struct job *job) {
    struct clean *c = ((struct clean_job *)(void *)job)->c;
    int err = c->job.result;
    c->job_runs = 0;
    if (err > 0) {
        start(c, run_survey, surveyed);
        return;
    }
    if (err < 0 && c->survey->has_bad_source)
        index_blame_source(c->parts.index, &c->sources, c->survey->bad_source);
    give_sources(c);
    c->n.versions_seen += c->survey->versions;
    c->n.is_short = c->survey->group_count == CLEAN_GROUPS_MAX;
    c->group = 0;
    c->n.would_free = 0;
    for (uint32_t i = 0; err == 0 && i < c->survey->group_count; i++) {
        const struct clean_group *g = &c->survey->groups[i];
        c->n.would_free += g->end - g->first - (g->versions > 0);
    }
    if (err < 0 || c->is_survey)
        end_pass(c, err);
    else
        c->state = CLEAN_TAKE;
}

static uint32_t segment_bytes(const struct clean *c) {
    struct log_space space;
    log_space(c->parts.log, &space);
    return (uint32_t)space.segment_bytes;
}

static int begin_survey(struct clean *c, const struct keep_promises *promises) {
    int err = index_take_sources(c->parts.index, c->up_to, SOURCES_MAX, &c->sources);
    if (err < 0)
        return err;
    c->has_sources = 1;
    struct clean_survey *s = c->survey = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    uint64_t complete =
        min_u64(c->sources.last_sequence, c->parts.ops->oldest_reader(c->parts.ctx));
    complete = min_u64(complete, index_oldest_search(c->parts.index));
    s->segment_bytes = segment_bytes(c);
    s->counts_only = c->is_survey;
    err = take_segments(c, s);
    if (err == 0)
        err = keep_make(&s->keep, promises, complete);
    if (err == 0)
        err = merge_read_open(&s->reader, &c->parts.files, c->sources.sources, c->sources.count);
    return err;
}

void clean_keeps(struct clean *c, int err, const struct keep_promises *promises) {
    must(c->state == CLEAN_KEEPS);
    if (err == 0)
        err = begin_survey(c, promises);
    if (err < 0) {
        end_pass(c, err);
        return;
    }
    c->state = CLEAN_SURVEY;
    start(c, run_survey, surveyed);
}

/* ---- A group ---- */

static struct clean_group *group_of(struct clean *c) {
    return &c->survey->groups[c->group];
}
static uint64_t first_of(const struct clean *c, const struct clean_group *g) {
    return c->survey->segments[g->first].first_sequence;
}
static uint64_t last_of(const struct clean *c, const struct clean_group *g) {
    return c->survey->segments[g->end - 1].last_sequence;
}

static int begin_write(struct clean *c, struct clean_group *g) {
    struct clean_write *w = c->write = calloc(1, sizeof *w);
    if (!w)
        return ERR_NOMEM;
    int err = log_cold_take(c->parts.log, &w->cold);
    if (err < 0) {
        w->cold.segment = 0;
        return err;
    }
    w->files = c->parts.files;
    memcpy(w->store_id, log_store_id(c->parts.log), sizeof w->store_id);
    w->segment_bytes = segment_bytes(c);
    w->group = g;
    w->cold.first_sequence = first_of(c, g);
    w->cold.last_sequence = last_of(c, g);
    for (uint32_t i = g->first; i < g->end; i++) {
        struct clean_source *s = &w->sources[w->source_count];
        s->segment = c->survey->segments[i].number;
        struct segment_h h = log_segment(c->parts.log, s->segment);
        err = log_pin_segment(c->parts.log, s->segment, &s->file);
        if (err < 0)
            return err;
        c->pinned = ++w->source_count;
        const struct segment *v = segment_view(c->parts.a, h);
        if (i == g->first)
            w->cold.first_time_ns = v->first_time_ns;
        w->cold.last_time_ns = v->last_time_ns;
    }
    return 0;
}

static void want_commit(struct clean *c) {
    struct clean_group *g = group_of(c);
    c->state = CLEAN_COMMIT;
    c->parts.ops->want_commit(c->parts.ctx, c->write ? c->write->cold.segment : 0, first_of(c, g),
                              last_of(c, g));
}

static void run_write(struct job *job) {
    struct clean_job *j = (struct clean_job *)(void *)job;
    j->result = clean_write_step(j->c->write);
}

static void note_bad(struct clean *c) {
    const struct clean_write *w = c->write;
    char text[160];
    if (c->bad_count < BAD_MAX)
        c->bad[c->bad_count++] = w->bad_segment;
    snprintf(text, sizeof text,
             "block %llu of family %u in segment %u cannot be read or does not match its checksum; "
             "the segment is kept as it is",
             (unsigned long long)w->bad_block, w->bad_family, w->bad_segment);
    if (c->parts.alerts.raise)
        c->parts.alerts.raise(c->parts.alerts.ctx, ALERT_ERROR, "clean_block_damaged", "", text);
}

static void unpin(struct clean *c) {
    for (; c->pinned > 0; c->pinned--)
        log_unpin_segment(c->parts.log, c->write->sources[c->pinned - 1].segment);
}

/* The group stays as it is. */
static void leave_group(struct clean *c) {
    unpin(c);
    log_cold_drop(c->parts.log, c->write->cold.segment);
    free_write(c);
    clean_group_free(group_of(c));
    c->group++;
    c->state = CLEAN_TAKE;
}

static void written(struct job *job) {
    struct clean *c = ((struct clean_job *)(void *)job)->c;
    int err = c->job.result;
    c->job_runs = 0;
    if (err > 0) {
        start(c, run_write, written);
        return;
    }
    if (err < 0 && c->write->bad_segment) {
        note_bad(c);
        leave_group(c);
        return;
    }
    if (err < 0) {
        end_pass(c, err);
        return;
    }
    log_cold_written(c->parts.log, &c->write->cold);
    unpin(c);
    want_commit(c);
}

void clean_freed(struct clean *c, int err) {
    must(c->state == CLEAN_FREED);
    if (err < 0) {
        end_pass(c, err);
        return;
    }
    c->state = CLEAN_WRITE;
    start(c, run_write, written);
}

void clean_committed(struct clean *c, int err) {
    must(c->state == CLEAN_COMMIT);
    if (err < 0) {
        end_pass(c, err);
        return;
    }
    struct clean_group *g = group_of(c);
    c->n.groups++;
    c->n.segments_freed += g->end - g->first;
    c->n.segments_made += c->write != NULL;
    c->n.blocks_moved += c->write ? c->write->cold.blocks : 0;
    free_write(c);
    clean_group_free(g);
    c->group++;
    c->state = CLEAN_TAKE;
}

/* Segments that went meanwhile, as their families died, are no obstacle; one that cannot be pinned is. */
static int take(struct clean *c) {
    if (c->group == c->survey->group_count) {
        end_pass(c, 0);
        return 0;
    }
    struct clean_group *g = group_of(c);
    if (g->versions == 0) {
        want_commit(c);
        return 0;
    }
    int err = begin_write(c, g);
    if (err == 0) {
        c->state = CLEAN_FREED;
        c->parts.ops->want_freed(c->parts.ctx, c->write->cold.segment);
        return 0;
    }
    if (err == ERR_AGAIN) {
        free_write(c);
        return 1;
    }
    end_pass(c, err);
    return 0;
}

int clean_turn(struct clean *c) {
    int waits = 0;
    while (c->state == CLEAN_TAKE && !waits)
        waits = take(c);
    return waits;
}
