/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scrub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "engine/check/check.h"
#include "engine/index/merge_read.h"
#include "engine/log/frame_disk.h"
#include "engine/root.h"
#include "engine/timeline/volumes.h"

#define SOURCES_MAX 4096u
#define HOUR_NS (3600 * NS_PER_S)

/* The worst that a job has found in its file. */
struct worst {
    enum check_code code;
    enum check_grade grade;
    uint32_t count, family;
    uint64_t offset, block;
};

struct scrub {
    struct job job; /* first */
    struct scrub_parts parts;
    struct check check;
    int runs, result;
    uint64_t next_ns; /* monotonic: not before */
    uint64_t idle_since_ns;
    uint32_t segment, file; /* that the job reads; 0: a merged run */
    char path[MERGE_PATH_BYTES];
    struct worst worst;
    struct index_sources sources;
    uint32_t source;
    int has_sources;
};

static const struct engine *view(const struct scrub *s) {
    return engine_view(s->parts.a, engine_next(s->parts.a, (struct engine_h){0}));
}
static struct engine *edit(struct scrub *s) {
    return engine_edit(s->parts.a, engine_next(s->parts.a, (struct engine_h){0}));
}

int scrub_open(struct scrub **out, const struct scrub_parts *parts) {
    struct scrub *s = *out = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->parts = *parts;
    s->idle_since_ns = clock_monotonic_ns(&parts->clock);
    return 0;
}

void scrub_close(struct scrub *s) {
    if (!s)
        return;
    if (s->has_sources)
        index_sources_free(&s->sources);
    free(s);
}

/* ---- In the job ---- */

static void found(void *ctx, const struct check_finding *f) {
    struct worst *w = &((struct scrub *)ctx)->worst;
    if (f->grade == CHECK_NOTE)
        return;
    if (w->count++ == 0 || f->grade > w->grade)
        *w = (struct worst){f->code, f->grade, w->count, f->family, f->offset, f->block};
}

static void run(struct job *job) {
    struct scrub *s = (struct scrub *)job;
    struct store_header h = {.segment_bytes = s->check.segment_bytes};
    memcpy(h.id, s->check.store_id, sizeof h.id);
    s->result = check_begin(&s->check, &h);
    if (s->result == 0)
        s->result = s->segment ? check_slot(&s->check, s->file, s->segment)
                               : check_merged_file(&s->check, s->path);
    check_end(&s->check);
}

/* ---- In turns ---- */

static void give_sources(struct scrub *s) {
    if (s->has_sources)
        index_give_sources(s->parts.index, &s->sources);
    s->has_sources = 0;
    s->source = 0;
}

static const char *volume_of(const struct scrub *s, uint32_t family) {
    const struct arena *a = s->parts.a;
    for (struct volume_h v = volume_next(a, (struct volume_h){0}); v.v; v = volume_next(a, v)) {
        const struct timeline *t = timeline_try(a, volume_view(a, v)->timeline);
        if (t && t->family == family && !(volume_view(a, v)->flags & VOLUME_IMAGE))
            return (const char *)volume_view(a, v)->name;
    }
    return NULL;
}

static void tell(struct scrub *s) {
    const struct worst *w = &s->worst;
    const char *name = w->code == CHECK_BLOCK ? volume_of(s, w->family) : NULL;
    char text[256], where[128] = "", more[40] = "";
    if (name)
        snprintf(where, sizeof where, " (of %s at %llu)", name,
                 (unsigned long long)(w->block * BLOCK_BYTES));
    if (w->count > 1)
        snprintf(more, sizeof more, ", and %u more", w->count - 1);
    snprintf(text, sizeof text, "%s at %llu%s%s: %s", check_text(w->code),
             (unsigned long long)w->offset, where, more, check_advice(w->code));
    s->parts.alerts.raise(s->parts.alerts.ctx,
                          w->grade == CHECK_DAMAGE ? ALERT_ERROR : ALERT_WARNING, "scrub_found",
                          s->path, text);
}

static void ended(struct job *job) {
    struct scrub *s = (struct scrub *)job;
    struct engine *root = edit(s);
    s->runs = 0;
    if (s->segment)
        log_unpin_segment(s->parts.log, s->segment);
    else if (s->worst.count > 0)
        index_blame_source(s->parts.index, &s->sources, s->source - 1);
    if (s->parts.bytes_per_s)
        s->next_ns = clock_monotonic_ns(&s->parts.clock) +
                     s->check.bytes / s->parts.bytes_per_s * NS_PER_S +
                     s->check.bytes % s->parts.bytes_per_s * NS_PER_S / s->parts.bytes_per_s;
    if (root->scrub_began_ns == 0) { /* it was stopped meanwhile */
        give_sources(s);
        return;
    }
    if (s->result < 0)
        return; /* the same again: no memory */
    root->scrub_files++;
    root->scrub_bytes += s->check.bytes;
    root->scrub_damaged += s->worst.grade == CHECK_DAMAGE;
    root->scrub_mended += s->worst.grade == CHECK_MENDED;
    if (s->segment)
        root->scrub_segment = s->segment;
    if (s->worst.count > 0 && s->parts.alerts.raise)
        tell(s);
    else if (s->worst.count == 0 && s->parts.alerts.clear)
        s->parts.alerts.clear(s->parts.alerts.ctx, "scrub_found", s->path);
}

static void start(struct scrub *s) {
    s->worst = (struct worst){0};
    s->check = (struct check){.files = s->parts.files,
                              .flags = CHECK_ALONE,
                              .found = found,
                              .ctx = s,
                              .segment_bytes = view(s)->log_segment_bytes};
    memcpy(s->check.store_id, view(s)->store_id, sizeof s->check.store_id);
    s->job = (struct job){.run = run, .done = ended};
    s->runs = 1;
    s->parts.jobs.ops->start(s->parts.jobs.ctx, &s->job);
}

/* The sealed segment with the next number; 0: none. */
static uint32_t next_segment(const struct scrub *s, uint32_t after) {
    uint32_t next = 0;
    for (struct segment_h h = segment_next(s->parts.a, (struct segment_h){0}); h.v;
         h = segment_next(s->parts.a, h)) {
        const struct segment *g = segment_view(s->parts.a, h);
        if (g->slot.state == SEGMENT_SEALED && g->number > after && (!next || g->number < next))
            next = g->number;
    }
    return next;
}

/* 1: a merged run is being looked at, or is to be soon; 0: that was the last. */
static int look_at_merged(struct scrub *s) {
    if (!s->has_sources) {
        int err = index_take_sources(s->parts.index, UINT64_MAX, SOURCES_MAX, &s->sources);
        if (err < 0)
            return 1; /* not known yet */
        s->has_sources = 1;
    }
    while (s->source < s->sources.count) {
        const struct merge_source *from = &s->sources.sources[s->source];
        if (!s->sources.pinned[s->source++])
            continue; /* a segment's own */
        snprintf(s->path, sizeof s->path, "%s", from->path);
        s->segment = 0;
        start(s);
        return 1;
    }
    give_sources(s);
    return 0;
}

static void end_pass(struct scrub *s) {
    struct engine *root = edit(s);
    root->scrub_ended_ns = clock_wall_ns(&s->parts.clock);
    root->scrub_began_ns = 0;
    s->idle_since_ns = clock_monotonic_ns(&s->parts.clock);
}

static void go_on(struct scrub *s) {
    uint32_t segment = next_segment(s, view(s)->scrub_segment);
    if (segment == 0) {
        if (!look_at_merged(s))
            end_pass(s);
        else if (!s->runs) /* what there is, is not known yet */
            s->next_ns = clock_monotonic_ns(&s->parts.clock) + 100 * NS_PER_MS;
        return;
    }
    int err = log_pin_segment(s->parts.log, segment, &s->file);
    if (err < 0) { /* it cannot even be opened */
        s->next_ns = clock_monotonic_ns(&s->parts.clock) + NS_PER_S;
        edit(s)->scrub_segment = segment;
        edit(s)->scrub_damaged++;
        return;
    }
    s->segment = segment;
    log_slot_path(s->file, s->path);
    start(s);
}

/* Monotonic: a pass is due; UINT64_MAX: never. */
static uint64_t due_ns(const struct scrub *s) {
    if (s->parts.period_ns == 0)
        return UINT64_MAX;
    uint64_t ended = view(s)->scrub_ended_ns, wall = clock_wall_ns(&s->parts.clock);
    uint64_t now = clock_monotonic_ns(&s->parts.clock);
    if (ended == 0)
        return s->idle_since_ns + min_u64(HOUR_NS, s->parts.period_ns);
    uint64_t age = wall > ended ? wall - ended : 0;
    return age >= s->parts.period_ns ? now : now + (s->parts.period_ns - age);
}

void scrub_begin(struct scrub *s) {
    struct engine *root = edit(s);
    if (root->scrub_began_ns)
        return;
    root->scrub_began_ns = clock_wall_ns(&s->parts.clock);
    root->scrub_segment = root->scrub_files = 0;
    root->scrub_damaged = root->scrub_mended = 0;
    root->scrub_bytes = 0;
    s->next_ns = 0;
}

void scrub_stop(struct scrub *s) {
    edit(s)->scrub_began_ns = 0;
    s->idle_since_ns = clock_monotonic_ns(&s->parts.clock);
    if (!s->runs)
        give_sources(s);
}

void scrub_turn(struct scrub *s) {
    uint64_t now = clock_monotonic_ns(&s->parts.clock);
    if (s->runs)
        return;
    if (view(s)->scrub_began_ns == 0 && now >= due_ns(s))
        scrub_begin(s);
    if (view(s)->scrub_began_ns && now >= s->next_ns)
        go_on(s);
}

uint64_t scrub_deadline(const struct scrub *s) {
    if (s->runs)
        return UINT64_MAX;
    return view(s)->scrub_began_ns ? s->next_ns : due_ns(s);
}

struct scrub_state scrub_state(const struct scrub *s) {
    const struct engine *root = view(s);
    return (struct scrub_state){.is_running = root->scrub_began_ns != 0,
                                .began_ns = root->scrub_began_ns,
                                .ended_ns = root->scrub_ended_ns,
                                .files = root->scrub_files,
                                .bytes = root->scrub_bytes,
                                .damaged = root->scrub_damaged,
                                .mended = root->scrub_mended};
}
