/* SPDX-License-Identifier: Apache-2.0 */
/* What has changed between two moments: chunk by chunk through the index, some in each turn. */
#include "base/err.h"
#include "engine/engine_priv.h"
#include "engine/timeline/volumes.h"

#define CHANGES_CHUNKS_PER_TURN 128u
#define CHANGES_CHUNKS_MAX (256u * 1024) /* of one answer: 64 GiB */

static void end(struct engine_changes *c, int err) {
    struct engine_run *e = c->engine;
    struct engine_changes **at = &e->changes;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    ancestry_give(e->p.ancestries, c->view);
    c->done(c, err);
}

/* Adds the blocks of a chunk; 0: there is no room for another range, and next_block is there. */
static int take_chunk(struct engine_changes *c, const struct index_find *f) {
    uint64_t first = f->chunk * CHUNK_BLOCKS, left = f->changed;
    if (c->only_newest && left)
        c->newest = c->since = f->newest; /* others have to be younger */
    if (c->only_newest)
        left = 0;
    while (left) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        uint64_t beyond = ~(left >> b);
        uint32_t n = beyond ? (uint32_t)__builtin_ctzll(beyond) : CHUNK_BLOCKS;
        struct engine_range *last = c->count > 0 ? &c->ranges[c->count - 1] : NULL;
        if (last && last->block + last->blocks == first + b) {
            last->blocks += n;
        } else if (c->count < c->room) {
            c->ranges[c->count++] = (struct engine_range){first + b, n};
        } else {
            c->next_block = first + b;
            return 0;
        }
        left &= ~block_mask(b, n);
    }
    c->next_block = min_u64(first + CHUNK_BLOCKS, c->end_block);
    return c->next_block < c->end_block && (c->only_newest || ++c->chunks < CHANGES_CHUNKS_MAX);
}

static void found(struct index_find *f, int result) {
    struct lookup *q = f->owner;
    struct engine_changes *c = q->changes;
    int more = result == 0 && take_chunk(c, f);
    engine_lookup_free(c->engine, q);
    c->waits = 0;
    if (!more)
        end(c, result);
}

static void go_on(struct engine_changes *c) {
    struct engine_run *e = c->engine;
    for (uint32_t i = 0; i < CHANGES_CHUNKS_PER_TURN; i++) {
        uint64_t chunk = chunk_of_block(c->next_block);
        struct lookup *q = engine_lookup_new(e);
        if (!q) {
            end(c, ERR_NOMEM);
            return;
        }
        q->changes = c;
        q->f = (struct index_find){
            .view = c->view,
            .limit = c->until,
            .changes = 1,
            .since = c->since,
            .chunk = chunk,
            .want = chunk_mask(chunk * CHUNK_BLOCKS, c->next_block, c->end_block),
            .done = found,
            .owner = q};
        int err = index_find(e->index, &q->f);
        if (err == ERR_AGAIN) {
            c->waits = 1;
            return;
        }
        int more = err == 0 && take_chunk(c, &q->f);
        engine_lookup_free(e, q);
        if (!more) {
            end(c, err);
            return;
        }
    }
}

int engine_changes_begin(struct engine_run *e, struct engine_changes *c) {
    must(c->block < c->end_block && (c->room == 0 || c->ranges) && c->until != INDEX_NOW);
    c->view = ancestry_take(e->p.ancestries, c->timeline);
    if (!c->view)
        return ERR_INTEGRITY;
    c->engine = e;
    c->count = c->chunks = 0;
    c->newest = 0;
    c->waits = 0;
    c->next_block = c->block;
    c->next = e->changes;
    e->changes = c;
    return 0;
}

static int can_go_on(const struct engine_changes *c) {
    return !c->waits && c->until <= index_complete(c->engine->index);
}

void changes_go_on(struct engine_run *e) {
    for (struct engine_changes *c = e->changes, *next; c; c = next) {
        next = c->next;
        if (can_go_on(c))
            go_on(c);
    }
}

int changes_want_turn(const struct engine_run *e) {
    const struct engine_changes *c = e->changes;
    while (c && !can_go_on(c))
        c = c->next;
    return c != NULL;
}

/* With all that is younger, as a hole that came since may go where history is thinned. Of an image: of the volume
 * that it shows. */
static int is_promised(const struct engine_run *e, const struct volume *v, uint64_t sequence) {
    if (v->flags & VOLUME_IMAGE) {
        struct volume_h source = volumes_find_id(e->a, v->source_id);
        v = source.v ? volume_view(e->a, source) : NULL;
    }
    return v && sequence >= max_u64(v->oldest_sequence, v->fine_sequence);
}

int engine_check_since(struct engine_run *e, struct volume_h h, uint64_t since) {
    const struct volume *v = volume_view(e->a, h);
    const struct timeline *own = timeline_try(e->a, v->timeline);
    const struct ancestry *view = own ? ancestry_take(e->p.ancestries, own->id) : NULL;
    int err = view ? ERR_CHANGED : ERR_INTEGRITY;
    if (view && !is_promised(e, v, since))
        err = ERR_RANGE;
    for (uint32_t i = 0; view && i < view->count && err == ERR_CHANGED; i++) {
        uint64_t limit = i == 0 ? UINT64_MAX : view->list[i].limit;
        struct timeline_h t = ancestry_slot(e->p.ancestries, view->list[i].timeline);
        if (since <= limit && since >= timeline_view(e->a, t)->first_sequence)
            err = 0;
    }
    if (view)
        ancestry_give(e->p.ancestries, view);
    return err;
}
