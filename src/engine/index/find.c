/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking up. A search goes through the levels from the newest to the oldest; the cursor is a
 * sequence number, so levels may come, become runs or go while it waits: whatever begins at or
 * beyond the cursor has been searched.
 *
 * In each level every wanted block takes its newest version that the view sees; what is found there
 * is not looked for in older levels. References are resolved when the task is done: all blocks that
 * refer to the same timeline and sequence are the next task, from the newest level again. The limit
 * of each task is smaller than the sequence of the reference that made it, so a search ends.
 *
 * The search of one level may be given up and begun again: only when the level is complete are its
 * findings taken.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/index/index_priv.h"
#include "engine/log.h"

static struct index_search *new_search(struct index *x) {
    struct index_search *s = x->idle;
    if (s)
        x->idle = s->next;
    else
        s = malloc(sizeof *s);
    return s;
}

static void give_view(struct index *x, struct index_search *s) {
    if (s->view_is_taken)
        ancestry_give(x->parts.ancestries, s->view);
    s->view_is_taken = 0;
}

static void begin_task(struct index_search *s, const struct ancestry *view, uint64_t limit,
                       uint64_t blocks) {
    s->view = view;
    s->limit = limit;
    s->missing = blocks;
    s->cursor = limit == UINT64_MAX ? limit : limit + 1;
    s->run = 0;
}

static void begin_level(struct index_search *s) {
    s->level.wanted = s->missing;
    memset(s->level.best, 0, sizeof s->level.best);
}

static int end_level(struct index_search *s, uint64_t first_sequence) {
    struct level_result *r = &s->level;
    for (uint64_t blocks = s->missing; blocks; blocks &= blocks - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(blocks);
        if (r->best[b] == 0)
            continue;
        s->missing &= ~(UINT64_C(1) << b);
        if (s->f->changes) {
            s->f->changed |= r->best[b] > s->f->since ? UINT64_C(1) << b : 0;
            s->f->newest = max_u64(s->f->newest, r->best[b]);
            if (s->f->versions)
                s->f->versions[b] = r->best[b];
            continue;
        }
        s->f->found[b] = r->found[b];
        if (place_kind(r->found[b].place) != PLACE_REFERENCE)
            continue;
        if (r->ref_sequence[b] >= r->best[b])
            return ERR_FORMAT;
        s->references |= UINT64_C(1) << b;
        s->ref_timeline[b] = r->ref_timeline[b];
        s->ref_sequence[b] = r->ref_sequence[b];
    }
    s->cursor = first_sequence;
    s->run = 0;
    return 0;
}

/* 0: the piece is searched; else as index_fetch. */
static int search_piece(struct index *x, struct index_search *s, struct index_piece *piece) {
    int err = 0;
    struct cache_item *item = index_fetch(x, piece, ITEM_DIRECTORY, s, &err);
    if (!item)
        return err;
    uint32_t family = s->view->family;
    uint64_t chunk = s->f->chunk;
    if (!s->piece_is_begun) {
        const struct run_directory *d = &item->directory;
        s->level.wanted = s->missing;
        run_find_intervals(d, s->view, s->limit, chunk, &s->level);
        run_leaves(d, family, chunk, &s->level, &s->leaf, &s->leaf_end);
        x->n.filter_probes++;
        x->n.filter_passes += s->leaf < s->leaf_end;
        s->piece_is_begun = 1;
    }
    for (; s->leaf < s->leaf_end; s->leaf++) {
        item = index_fetch(x, piece, ITEM_DIRECTORY, s, &err);
        if (!item)
            return err;
        if (run_leaf_is_vain(&item->directory, s->leaf, family, s->limit, chunk, &s->level))
            continue;
        struct cache_item *leaf = index_fetch(x, piece, s->leaf, s, &err);
        if (!leaf)
            return err;
        if (run_find_in_leaf(&item->directory, leaf->page, s->view, s->limit, chunk, &s->level) < 0)
            return ERR_FORMAT;
    }
    s->piece_is_begun = 0;
    return 0;
}

static void begin_run(struct index_search *s, uint64_t identity, uint32_t piece) {
    begin_level(s);
    s->run = identity;
    s->piece = piece;
    s->piece_is_begun = 0;
}

static int search_run(struct index *x, struct index_search *s, struct index_run *run) {
    if (s->run != run->piece.identity)
        begin_run(s, run->piece.identity, 0);
    int err = search_piece(x, s, &run->piece);
    return err < 0 ? err : end_level(s, run->first_sequence);
}

/* Damage in it is no matter: the runs that it covers are searched then. */
static int search_merged(struct index *x, struct index_search *s, struct index_merged *m) {
    uint32_t first, end;
    uint64_t first_sequence = merged_first_sequence(&m->t);
    merged_pieces_of(&m->t, s->view->family, s->f->chunk, &first, &end);
    if (s->run != m->t.identity)
        begin_run(s, m->t.identity, first);
    int err = 0;
    for (; err == 0 && s->piece < end; s->piece += err == 0)
        err = search_piece(x, s, &m->pieces[s->piece]);
    if (err == 0)
        err = end_level(s, first_sequence);
    if (err != ERR_FORMAT)
        return err;
    index_distrust(x, m);
    s->run = 0;
    return 0;
}

/* The youngest memtable that begins before the cursor; *h is 0 if there is none. */
static uint64_t memtable_before(const struct index *x, uint64_t cursor, struct memtable_h *out) {
    uint64_t first = 0;
    out->v = 0;
    for (struct memtable_h h = memtable_next(x->a, (struct memtable_h){0}); h.v;
         h = memtable_next(x->a, h)) {
        const struct memtable *m = memtable_view(x->a, h);
        if (m->entries > 0 && m->first_sequence < cursor && m->first_sequence > first) {
            first = m->first_sequence;
            *out = h;
        }
    }
    return first;
}

/* The newest sequence of the memtable, or of the run, or of what covers it. */
static uint64_t last_of_level(const struct index *x, struct memtable_h m,
                              const struct index_run *run) {
    if (m.v)
        return memtable_view(x->a, m)->last_sequence;
    if (!run)
        return 0;
    return run->covered_by ? merged_last_sequence(&run->covered_by->t) : run->last_sequence;
}

static int search_levels(struct index *x, struct index_search *s) {
    while (s->missing) {
        struct memtable_h m;
        uint64_t first = memtable_before(x, s->cursor, &m);
        struct index_run *run = index_run_before(x, s->cursor);
        struct index_merged *merged = run ? run->covered_by : NULL;
        int err = 0;
        int in_memtable =
            m.v && (!run || first > run->first_sequence); /* none is older than a merged run */
        if (s->f->changes &&
            last_of_level(x, in_memtable ? m : (struct memtable_h){0}, run) <= s->f->since) {
            s->missing = 0; /* all that is left is older */
        } else if (in_memtable) {
            begin_level(s);
            memtable_find(x->a, m, s->view, s->limit, s->f->chunk, &s->level);
            err = end_level(s, first);
        } else if (merged) {
            err = search_merged(x, s, merged);
        } else if (run) {
            err = search_run(x, s, run);
        } else {
            for (; s->missing; s->missing &= s->missing - 1)
                s->f->found[__builtin_ctzll(s->missing)] =
                    (struct block_place){.place = place_of_kind(PLACE_HOLE)};
        }
        if (err < 0)
            return err;
    }
    return 0;
}

static int next_task(struct index *x, struct index_search *s) {
    uint32_t first = (uint32_t)__builtin_ctzll(s->references);
    uint32_t timeline = s->ref_timeline[first];
    uint64_t sequence = s->ref_sequence[first], blocks = 0;
    for (uint64_t left = s->references; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        if (s->ref_timeline[b] == timeline && s->ref_sequence[b] == sequence)
            blocks |= UINT64_C(1) << b;
    }
    s->references &= ~blocks;
    give_view(x, s);
    const struct ancestry *view = ancestry_take(x->parts.ancestries, timeline);
    if (!view)
        return ERR_INTEGRITY;
    s->view_is_taken = 1;
    begin_task(s, view, sequence, blocks);
    return 0;
}

static void begin_search(struct index *x, struct index_search *s) {
    give_view(x, s);
    s->f->changed = s->f->newest = 0;
    if (s->f->versions)
        memset(s->f->versions, 0, CHUNK_BLOCKS * sizeof s->f->versions[0]);
    s->references = 0;
    s->moves = x->moves;
    begin_task(s, s->f->view, s->whole_limit, s->unknown);
}

static void wait_for_commit(struct index *x, struct index_search *s) {
    s->next = NULL;
    *x->retry_end = s;
    x->retry_end = &s->next;
}

/* While versions move, in this turn, nothing is looked up; what was found before is looked up again, and
 * what the block table knew, too. */
static int search(struct index *x, struct index_search *s) {
    if (x->moving || !x->merged_are_known) {
        wait_for_commit(x, s);
        return ERR_AGAIN;
    }
    if (s->moves != x->moves) {
        s->unknown = s->f->want;
        begin_search(x, s);
    }
    for (;;) {
        int err = search_levels(x, s);
        if (err == 0 && !s->references)
            return 0;
        if (err == 0)
            err = next_task(x, s);
        if (err < 0)
            return err;
    }
}

/* To the owner, every way in which a run can be damaged is the same. */
static int to_owner(int err) {
    return err == ERR_FORMAT || err == ERR_UNSUPPORTED ? ERR_INTEGRITY : err;
}

/* A frame that is not durable may get another place; then its versions are applied again, but only
 * to the timeline that wrote them, not to those that found them in it. */
static int may_move(const struct index *x, struct block_place p) {
    return place_kind(p.place) == PLACE_DATA && log_bytes_at(x->log, p.place) != NULL;
}

/* The search has ended: what it found goes into the block table, as far as that still wants it. */
static void end_search(struct index *x, struct index_search *s, int err) {
    const struct ancestry *view = s->f->view;
    if (s->f->changes && s->f->newest <= s->f->since)
        s->f->newest = 0;
    for (uint64_t left = err == 0 && !s->f->changes ? s->unknown : 0; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        if (!may_move(x, s->f->found[b]))
            block_table_fill(&x->table, s->pin, view->family, s->f->chunk * CHUNK_BLOCKS + b,
                             s->f->found[b]);
    }
    block_table_unpin(&x->table, s->pin);
    give_view(x, s);
    s->f->search = NULL;
    s->next = x->idle;
    x->idle = s;
}

void index_search_resume(struct index *x, struct index_search *s, int err) {
    if (err == 0)
        err = search(x, s);
    if (err == ERR_AGAIN)
        return;
    struct index_find *f = s->f;
    end_search(x, s, err);
    f->done(f, to_owner(err));
}

void index_turn(struct index *x) {
    struct index_search *s = x->retry;
    index_make_runs(x);
    index_merge(x);
    x->retry = NULL;
    x->retry_end = &x->retry;
    for (struct index_search *next; s; s = next) {
        next = s->next;
        index_search_resume(x, s, 0);
    }
}

int index_waits(const struct index *x) {
    return x->retry != NULL;
}

/* Takes from the block table what it knows; returns the blocks that it does not. */
static uint64_t ask_table(struct index *x, struct index_find *f, uint32_t *page) {
    uint64_t unknown = f->want;
    *page = block_table_find(&x->table, f->view->timeline, f->chunk);
    if (*page == TABLE_NO_PAGE)
        return unknown;
    for (uint64_t left = f->want; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        uint64_t block = f->chunk * CHUNK_BLOCKS + b;
        enum place_kind kind =
            block_table_get(&x->table, *page, f->view->family, block, &f->found[b]);
        if (kind == PLACE_DATA && !index_segment_is_live(x, place_segment(f->found[b].place))) {
            block_table_forget(&x->table, f->view->timeline, block, f->found[b]);
            kind = PLACE_UNKNOWN;
        }
        if (kind != PLACE_UNKNOWN)
            unknown &= ~(UINT64_C(1) << b);
    }
    return unknown;
}

/* A page of a fork may be filled once everything that it sees of its parent is applied: later
 * records of the parent do not touch it. */
static int may_fill(const struct index *x, const struct ancestry *view) {
    return view->count == 1 || view->list[1].limit <= x->applied;
}

int index_find(struct index *x, struct index_find *f) {
    must(f->want != 0 && !(f->changes && f->limit == INDEX_NOW));
    uint64_t unknown = f->want;
    uint32_t page = TABLE_NO_PAGE;
    int now = f->limit == INDEX_NOW;
    f->search = NULL;
    if (now && !x->moving) {
        unknown = ask_table(x, f, &page);
        x->n.table_hits += unknown == 0;
        x->n.table_misses += unknown != 0;
        if (!unknown)
            return 0;
    }
    struct index_search *s = new_search(x);
    if (!s)
        return ERR_NOMEM;
    f->search = s;
    s->f = f;
    s->unknown = unknown;
    s->view_is_taken = 0;
    s->whole_limit = now ? x->applied : f->limit;
    s->pin = (struct table_pin){.page = TABLE_NO_PAGE};
    if (now && may_fill(x, f->view)) {
        if (page == TABLE_NO_PAGE)
            page = block_table_make(&x->table, f->view->timeline, f->chunk);
        s->pin = block_table_pin(&x->table, page);
    }
    begin_search(x, s);
    int err = search(x, s);
    if (err != ERR_AGAIN)
        end_search(x, s, err);
    return to_owner(err);
}

static uint64_t oldest_of(const struct index_search *s) {
    uint64_t oldest = UINT64_MAX;
    for (; s; s = s->next)
        oldest = min_u64(oldest, s->whole_limit);
    return oldest;
}

uint64_t index_oldest_search(const struct index *x) {
    uint64_t oldest = oldest_of(x->retry);
    for (uint32_t i = 0; i < INDEX_FETCHES_MAX; i++)
        oldest = min_u64(oldest, oldest_of(x->fetches[i].waiting));
    return oldest;
}

void index_forget(struct index *x, const struct ancestry *view, uint64_t block,
                  struct block_place p) {
    block_table_forget(&x->table, view->timeline, block, p);
}
