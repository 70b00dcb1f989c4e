/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merged runs, seen from the loop: which runs are merged, what is known of the files, and who reads
 * them. The work itself is done by jobs (merge_job.h).
 *
 * Neighbours in time are merged, INDEX_FAN_IN of one level into one of the next. So n segments have at
 * most about INDEX_FAN_IN x log n levels that a look-up asks, and a version is written anew log n
 * times. A merged run covers the runs of its segments, which stay where they are:
 *
 *  1. What a merged run says, the runs that it covers say too. Any of them may be thrown away, and is
 *     when it does not check.
 *  2. Only runs are merged that are older than every memtable: nothing is ever recorded or sealed
 *     between them.
 *  3. A merged run names segments that are live, or it goes: a cleaning has put other places and fewer
 *     versions in the place of those that are not.
 *  4. The files of the directory tell what there is. They are read by a job before the first look-up
 *     that needs runs; a file that is no merged run of this store, or is covered by another, is removed.
 *  5. A file that is read is pinned; it is closed and removed when nobody reads it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/index/index_priv.h"
#include "engine/log.h"

enum merging_kind { MERGING_LOAD = 1, MERGING_RUNS, MERGING_REMOVES };

/* What the job in hand does. */
struct merging {
    struct job job; /* first */
    struct index *x;
    enum merging_kind kind;
    int result;
    /* LOAD: */
    struct file_system files;
    uint8_t store_id[16];
    struct index_merged **loaded; /* what the directory has; then what of it is not used */
    uint32_t loaded_count, loaded_room;
    /* REMOVES: */
    char path[MERGE_PATH_BYTES];
    /* RUNS: */
    struct merge_work work;
    uint32_t segments[MERGE_SOURCES_MAX]; /* pinned; 0: none */
    struct index_merged *merged[MERGE_SOURCES_MAX];
};

static void start(struct merging *m) {
    struct job_runner jobs = m->x->parts.background;
    m->x->merging = m;
    jobs.ops->start(jobs.ctx, &m->job);
}

static struct merging *new_merging(struct index *x, enum merging_kind kind,
                                   void (*run)(struct job *), void (*done)(struct job *)) {
    struct merging *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->job = (struct job){.run = run, .done = done};
    m->x = x;
    m->kind = kind;
    m->files = x->parts.files;
    return m;
}

/* ---- Files that are known ---- */

static void free_merged(struct index_merged *m) {
    merged_free(&m->t);
    free(m->pieces);
    free(m);
}

static int make_pieces(struct index_merged *m) {
    m->pieces = calloc(m->t.piece_count, sizeof *m->pieces);
    if (!m->pieces)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < m->t.piece_count; i++)
        m->pieces[i] = (struct index_piece){.identity = m->t.identity + i,
                                            .offset_bytes = m->t.pieces[i].offset,
                                            .size_bytes = m->t.pieces[i].bytes,
                                            .directory_bytes = (uint32_t)round_up_u64(
                                                m->t.pieces[i].directory_bytes, RUN_PAGE_BYTES),
                                            .merged = m};
    return 0;
}

static void make_path(char path[MERGE_PATH_BYTES], uint64_t identity) {
    snprintf(path, MERGE_PATH_BYTES, MERGE_DIR "/run-%08x-%u", (unsigned)(identity >> 32),
             (unsigned)(identity >> 24 & 0xff));
}

uint32_t index_merged_device(const struct index_merged *m) {
    return LOG_DEVICE_INDEX + m->number;
}

/* An operation of a dead process may name one that is not known, or another: nobody waits for it. */
int index_device(void *ctx, uint32_t device) {
    struct index *x = ctx;
    const struct io_router *router = &x->parts.io->router;
    uint32_t number = device - LOG_DEVICE_INDEX;
    struct index_merged *m = number < INDEX_MERGED_MAX ? x->merged[number] : NULL;
    if (!m)
        return ERR_NOTFOUND;
    if (m->device == 0) {
        int opened = router->ops->open(router->ctx, m->path, 0);
        if (opened < 0)
            return opened;
        m->device = opened + 1;
    }
    return m->device - 1;
}

static void close_device(struct index *x, struct index_merged *m) {
    const struct io_router *router = &x->parts.io->router;
    if (m->device)
        router->ops->close(router->ctx, m->device - 1);
    m->device = 0;
}

void index_merged_unpin(struct index_merged *m) {
    must(m->pins-- > 0);
}

/* The runs that may be its: from the first one on, as long as is_within(). There are many others. */
static uint32_t first_within(struct index *x, const struct merged_table *t) {
    const struct index_run *before = index_run_before(x, merged_first_sequence(t));
    return before ? (uint32_t)(before - x->runs) + 1 : 0;
}
static int is_within(const struct index *x, uint32_t i, const struct merged_table *t) {
    return i < x->run_count && x->runs[i].first_sequence <= merged_last_sequence(t);
}

static void leave(struct index *x, struct index_merged *m) {
    m->is_leaving = 1;
    m->covers = 0;
    for (uint32_t i = first_within(x, &m->t); is_within(x, i, &m->t); i++)
        if (x->runs[i].covered_by == m)
            x->runs[i].covered_by = NULL;
}

static void uncover(struct index *x, struct index_merged *m) {
    if (--m->covers == 0)
        leave(x, m);
}

void index_segment_gone(struct index *x, struct index_merged *m) {
    if (!m->is_leaving)
        leave(x, m);
    x->merges_wait = 0;
}

void index_distrust(struct index *x, struct index_merged *m) {
    if (m->is_leaving)
        return;
    leave(x, m);
    x->merges_wait = 0;
    if (x->parts.alerts.raise)
        x->parts.alerts.raise(x->parts.alerts.ctx, ALERT_WARNING, "index_merged_again", "",
                              "A merged part of the index does not match its checksum or cannot "
                              "be read. Nothing is lost: it is made again. Check the disk.");
}

/* A file has one until it is removed, whether it is looked into or not. */
static int take_number(struct index *x, struct index_merged *m) {
    uint32_t number = 0;
    while (number < INDEX_MERGED_MAX && x->merged[number])
        number++;
    if (number == INDEX_MERGED_MAX)
        return ERR_NOSPC;
    m->number = number;
    x->merged[number] = m;
    for (uint32_t i = 0; i < m->t.piece_count; i++)
        m->pieces[i].cached_as = index_cache_name(&x->cache);
    return 0;
}

/* From now on look-ups ask `m` for what it covers. */
static int install(struct index *x, struct index_merged *m) {
    uint32_t left = 0;
    int err = take_number(x, m);
    if (err < 0)
        return err;
    for (uint32_t i = first_within(x, &m->t);
         is_within(x, i, &m->t) && left < m->t.segment_count;) {
        struct index_run *run = &x->runs[i];
        const struct merged_segment *s = &m->t.segments[left];
        if (s->first_sequence == run->first_sequence && s->number == run->piece.segment) {
            struct index_merged *before = run->covered_by;
            run->covered_by = m;
            m->covers++;
            if (before)
                uncover(x, before);
            i++;
            left++;
        } else if (s->first_sequence < run->first_sequence) {
            left++;
        } else {
            i++;
        }
    }
    if (m->covers == 0)
        leave(x, m);
    return 0;
}

/* ---- Removing ---- */

static void run_remove(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    m->files.ops->remove(m->files.ctx, m->path);
}

static void removed(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    m->x->merging = NULL;
    m->x->merges_wait = 0; /* its name may be wanted */
    free(m);
}

/* 1: one is being removed. */
static int remove_one(struct index *x) {
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++) {
        struct index_merged *left = x->merged[i];
        if (!left || !left->is_leaving || left->pins > 0)
            continue;
        struct merging *m = new_merging(x, MERGING_REMOVES, run_remove, removed);
        if (!m)
            return 0;
        memcpy(m->path, left->path, sizeof m->path);
        close_device(x, left);
        free_merged(left);
        x->merged[i] = NULL;
        start(m);
        return 1;
    }
    return 0;
}

/* ---- What the store has ---- */

static int has_room(struct merging *m) {
    if (m->loaded_count < m->loaded_room)
        return 1;
    uint32_t room = 2 * m->loaded_room + 64;
    struct index_merged **more = realloc(m->loaded, room * sizeof *more);
    if (!more)
        return 0;
    m->loaded = more;
    m->loaded_room = room;
    return 1;
}

/* All files are read, however many a process has left. One for which there is no memory stays, and what it says is merged
 * again, into its place. */
static void load_one(void *arg, const char *name) {
    struct merging *m = arg;
    struct index_merged *found = calloc(1, sizeof *found);
    if (!found || !has_room(m) ||
        snprintf(found->path, sizeof found->path, MERGE_DIR "/%s", name) >=
            (int)sizeof found->path) {
        free(found);
        return;
    }
    char path[MERGE_PATH_BYTES];
    int err = merge_read_table(&m->files, found->path, &found->t);
    if (err == 0) {
        make_path(path, found->t.identity);
        err = memcmp(found->t.store_id, m->store_id, sizeof m->store_id) != 0 ||
                      strcmp(path, found->path) != 0
                  ? ERR_FORMAT
                  : make_pieces(found);
    }
    if (err == 0) {
        m->loaded[m->loaded_count++] = found;
        return;
    }
    if (err == ERR_FORMAT || err == ERR_INTEGRITY)
        m->files.ops->remove(m->files.ctx, found->path);
    free_merged(found);
}

static void run_load(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    m->files.ops->list(m->files.ctx, MERGE_DIR, load_one, m);
}

uint64_t index_first_unsealed(const struct index *x) {
    struct memtable_h all[INDEX_MEMTABLES_MAX];
    uint64_t first = UINT64_MAX;
    for (uint32_t i = index_memtables(x, all); i-- > 0;) {
        const struct memtable *m = memtable_view(x->a, all[i]);
        if (m->entries > 0)
            first = min_u64(first, m->first_sequence);
    }
    return first;
}

/* Rule 3. */
static int names_what_is_gone(const struct index *x, const struct merged_table *t) {
    for (uint32_t i = 0; i < t->segment_count; i++)
        if (!index_segment_is_live(x, t->segments[i].number))
            return 1;
    return 0;
}

/* Whether it says of what is there what the segments' runs say, and more than what is known. */
static int may_install(struct index *x, const struct index_merged *m) {
    const struct merged_table *t = &m->t;
    uint32_t at = 0, fresh = 0;
    if (merged_last_sequence(t) >= index_first_unsealed(x) || names_what_is_gone(x, t))
        return 0;
    for (uint32_t i = first_within(x, t); is_within(x, i, t); i++) {
        const struct index_run *run = &x->runs[i];
        if (at == t->segment_count || t->segments[at].number != run->piece.segment ||
            t->segments[at].first_sequence != run->first_sequence ||
            t->segments[at].last_sequence != run->last_sequence || run->covered_by)
            return 0;
        fresh++;
        at++;
    }
    return fresh > 0;
}

static void free_loaded(struct merging *m) {
    for (uint32_t i = 0; i < m->loaded_count; i++)
        free_merged(m->loaded[i]);
    free(m->loaded);
}

static void run_remove_loaded(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    for (uint32_t i = 0; i < m->loaded_count; i++)
        m->files.ops->remove(m->files.ctx, m->loaded[i]->path);
}

static void loaded_removed(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    m->x->merging = NULL;
    free_loaded(m);
    free(m);
}

/* What is not used goes: its names may be wanted. */
static void loaded(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    struct index *x = m->x;
    uint32_t left = 0;
    x->merged_are_known = 1;
    for (uint32_t level = MERGED_LEVEL_MAX; level > 0; level--)
        for (uint32_t i = 0; i < m->loaded_count; i++)
            if (m->loaded[i] && m->loaded[i]->t.level == level && may_install(x, m->loaded[i]) &&
                install(x, m->loaded[i]) == 0)
                m->loaded[i] = NULL;
    for (uint32_t i = 0; i < m->loaded_count; i++)
        if (m->loaded[i])
            m->loaded[left++] = m->loaded[i];
    m->loaded_count = left;
    m->job = (struct job){.run = run_remove_loaded, .done = loaded_removed};
    start(m);
}

static void load(struct index *x) {
    struct merging *m = new_merging(x, MERGING_LOAD, run_load, loaded);
    if (!m)
        return; /* tried again */
    memcpy(m->store_id, log_store_id(x->log), sizeof m->store_id);
    start(m);
}

/* ---- Merging ---- */

/* A run or merged run that is to be merged. */
struct source {
    struct index_run *run;
    struct index_merged *merged; /* NULL: the run */
};

static uint32_t level_of(const struct source *s) {
    return s->merged ? s->merged->t.level : 0;
}
static uint64_t first_of(const struct source *s) {
    return s->merged ? merged_first_sequence(&s->merged->t) : s->run->first_sequence;
}
static uint64_t last_of(const struct source *s) {
    return s->merged ? merged_last_sequence(&s->merged->t) : s->run->last_sequence;
}
static int is_final(const struct source *s) {
    return s->merged ? s->merged->is_final : s->run->is_final;
}
static uint32_t segments_of(const struct source *s) {
    return s->merged ? s->merged->t.segment_count : 1;
}

/* The oldest neighbours of which INDEX_FAN_IN are of this level, and none above. One that was left
 * over between them goes with them. */
static uint32_t choose_of(struct index *x, uint32_t level, struct source out[MERGE_SOURCES_MAX]) {
    uint64_t limit = index_first_unsealed(x);
    uint32_t count = 0, of_level = 0;
    uint32_t fan_in = x->parts.merge_fan_in ? x->parts.merge_fan_in : INDEX_FAN_IN;
    for (uint32_t i = 0; i < x->run_count;) {
        struct source s = {&x->runs[i], x->runs[i].covered_by};
        i += s.merged ? s.merged->covers : 1;
        if (last_of(&s) >= limit)
            break;
        if (is_final(&s) || level_of(&s) > level || count == MERGE_SOURCES_MAX ||
            (count > 0 && last_of(&out[count - 1]) >= first_of(&s)))
            count = of_level = 0;
        if (is_final(&s) || level_of(&s) > level || (count == 0 && level_of(&s) < level))
            continue;
        out[count++] = s;
        of_level += level_of(&s) == level;
        if (of_level == fan_in)
            return count;
    }
    return 0;
}

static void let_go(struct merging *m) {
    for (uint32_t i = 0; i < m->work.source_count; i++) {
        if (m->segments[i])
            log_unpin_segment(m->x->log, m->segments[i]);
        if (m->merged[i])
            index_merged_unpin(m->merged[i]);
    }
    merge_free(&m->work);
    free(m);
}

static void run_merge(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    m->result = merge_step(&m->work);
}

static int install_new(struct merging *m) {
    struct index_merged *n = calloc(1, sizeof *n);
    if (!n)
        return ERR_NOMEM;
    n->t = m->work.table;
    m->work.table.pieces = NULL;
    m->work.table.segments = NULL;
    memcpy(n->path, m->work.path, sizeof n->path);
    int err = make_pieces(n);
    n->is_leaving = names_what_is_gone(m->x, &n->t);
    if (err == 0)
        err = n->is_leaving ? take_number(m->x, n) : install(m->x, n);
    if (err < 0)
        free_merged(n);
    return err;
}

static void leave_as_it_is(struct merging *m, uint32_t source) {
    struct index_run *run = m->segments[source] ? index_run_of(m->x, m->segments[source]) : NULL;
    if (m->merged[source])
        m->merged[source]->is_final = 1;
    if (run)
        run->is_final = 1;
}

/* Look-ups that need a segment's run tell that it does not check. */
static void blame(struct merging *m) {
    uint32_t source = m->work.reader.bad_source;
    if (m->merged[source])
        index_distrust(m->x, m->merged[source]);
    else
        leave_as_it_is(m, source);
}

static void merge_ended(struct job *job) {
    struct merging *m = (struct merging *)(void *)job;
    struct index *x = m->x;
    int err = m->result;
    if (err > 0) {
        start(m);
        return;
    }
    x->merging = NULL;
    if (err == 0)
        err = install_new(m);
    if (err == 0)
        x->n.merges++;
    else if (m->work.reader.has_bad_source)
        blame(m);
    else if (err == ERR_TOOBIG)
        for (uint32_t i = 0; i < m->work.source_count; i++)
            leave_as_it_is(m, i);
    else
        x->merges_wait = 1;
    let_go(m);
}

/* ---- Merging, from the loop ---- */

static int take_source(struct merging *m, const struct source *s) {
    struct merge_work *w = &m->work;
    uint32_t n = w->source_count, count = s->merged ? s->merged->t.piece_count : 1, file;
    struct merge_source *to = &w->sources[n];
    const struct index_piece *pieces = s->merged ? s->merged->pieces : &s->run->piece;
    to->pieces = calloc(count, sizeof *to->pieces);
    if (!to->pieces)
        return ERR_NOMEM;
    w->source_count++;
    to->piece_count = count;
    for (uint32_t i = 0; i < count; i++)
        to->pieces[i] = (struct merge_source_piece){pieces[i].identity, pieces[i].offset_bytes,
                                                    pieces[i].size_bytes};
    struct merged_segment *segments = &w->table.segments[w->table.segment_count];
    w->table.segment_count += segments_of(s);
    if (s->merged) {
        memcpy(segments, s->merged->t.segments, segments_of(s) * sizeof *segments);
        memcpy(to->path, s->merged->path, sizeof to->path);
        m->merged[n] = s->merged;
        s->merged->pins++;
        return 0;
    }
    *segments = (struct merged_segment){s->run->piece.segment, s->run->first_sequence,
                                        s->run->last_sequence};
    int err = log_pin_segment(m->x->log, s->run->piece.segment, &file);
    if (err < 0)
        return err;
    m->segments[n] = s->run->piece.segment;
    log_slot_path(file, to->path);
    return 0;
}

static struct merging *prepare(struct index *x, const struct source *sources, uint32_t count,
                               uint32_t level) {
    struct merging *m = new_merging(x, MERGING_RUNS, run_merge, merge_ended);
    uint64_t segments = 0;
    int err = m ? 0 : ERR_NOMEM;
    if (err < 0)
        return NULL;
    for (uint32_t i = 0; i < count; i++)
        segments += segments_of(&sources[i]);
    m->work.files = x->parts.files;
    m->work.entries_max = x->parts.merge_entries ? x->parts.merge_entries : MERGE_ENTRIES_MAX;
    m->work.intervals_max =
        x->parts.merge_intervals ? x->parts.merge_intervals : MERGE_INTERVALS_MAX;
    m->work.table.level = level;
    m->work.table.segments = calloc(segments, sizeof *m->work.table.segments);
    if (!m->work.table.segments)
        err = ERR_NOMEM;
    for (uint32_t i = 0; i < count && err == 0; i++)
        err = take_source(m, &sources[i]);
    if (err < 0) {
        let_go(m);
        return NULL;
    }
    memcpy(m->work.table.store_id, log_store_id(x->log), sizeof m->work.table.store_id);
    m->work.table.identity = merged_identity(m->work.table.segments[0].number, level);
    make_path(m->work.path, m->work.table.identity);
    snprintf(m->work.path_new, sizeof m->work.path_new, MERGE_DIR "/new-%08x-%08x-%u",
             (unsigned)x->parts.io->queue, (unsigned)(m->work.table.identity >> 32),
             (unsigned)level);
    return m;
}

static int is_path_in_use(const struct index *x, const char *path) {
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        if (x->merged[i] && strcmp(x->merged[i]->path, path) == 0)
            return 1;
    return 0;
}

/* Merged runs and files that are to be removed. */
static uint32_t numbers_taken(const struct index *x) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        count += x->merged[i] != NULL;
    return count;
}

/* There is room for so many files that were merged over levels, but not for one of each INDEX_FAN_IN of a thousand
 * runs that nobody has merged before. So the lowest level comes first, as its runs are looked into one by one; but when
 * files become many, the highest, which makes few of them. */
static uint32_t choose(struct index *x, struct source out[MERGE_SOURCES_MAX], uint32_t *level) {
    uint32_t count = 0, taken = numbers_taken(x);
    int crowded = taken >= INDEX_MERGED_MAX / 4 * 3;
    if (taken == INDEX_MERGED_MAX)
        return 0; /* until one is removed */
    for (uint32_t i = 0; i < MERGED_LEVEL_MAX && count == 0; i++) {
        *level = crowded ? MERGED_LEVEL_MAX - 1 - i : i;
        count = choose_of(x, *level, out);
    }
    return count;
}

static void merge_some(struct index *x) {
    struct source sources[MERGE_SOURCES_MAX];
    uint32_t level = 0, count = choose(x, sources, &level);
    struct merging *m = count ? prepare(x, sources, count, level + 1) : NULL;
    if (m && is_path_in_use(x, m->work.path)) {
        let_go(m);
        m = NULL;
    }
    if (m)
        start(m);
    else
        x->merges_wait = 1;
}

void index_merge(struct index *x) {
    if (x->merging)
        return;
    if (!x->merged_are_known)
        load(x);
    else if (!remove_one(x) && !x->merges_wait)
        merge_some(x);
}

/* The runner has been drained, or the process is dead: no job runs. */
void index_close_merged(struct index *x) {
    struct merging *m = x->merging;
    if (m)
        free_loaded(m);
    if (m && m->kind == MERGING_RUNS)
        merge_free(&m->work);
    free(m);
    x->merging = NULL;
    for (uint32_t i = 0; i < INDEX_MERGED_MAX; i++)
        if (x->merged[i])
            free_merged(x->merged[i]);
}
