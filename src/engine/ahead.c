/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading ahead. Who reads a timeline in order, with several requests under way, finds what comes next
 * in the machine's cache. Only advice: what is not there yet, or was guessed wrong, is read as ever.
 *
 * A stream is a place up to where a timeline was read in order. What follows it within AHEAD_BLOCKS is
 * looked up chunk by chunk, once; what lies in sealed segments is advised, piece by piece as it lies on
 * disk. So a volume that was written at random is read with many disk reads at once.
 */
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

#define AHEAD_BLOCKS (4 * MIB / BLOCK_BYTES)
#define AHEAD_FROM_BLOCKS (512 * KIB / BLOCK_BYTES) /* read in order before it is believed */
#define AHEAD_PIECES 64u /* of one request, beyond twice its own blocks: each takes its time */
#define AHEAD_NEAR_REQUESTS 16u /* those that are under way at once come in any order */

static struct stream_ahead *stream_of(struct engine_run *e, uint32_t timeline, uint64_t first,
                                      uint64_t near) {
    struct stream_ahead *oldest = &e->streams[0], *longest = NULL;
    for (uint32_t i = 0; i < ENGINE_STREAMS; i++) {
        struct stream_ahead *s = &e->streams[i];
        if (s->timeline == timeline && first + near >= s->next && first <= s->next + near &&
            (!longest || s->in_order > longest->in_order))
            longest = s;
        if (s->used < oldest->used)
            oldest = s;
    }
    if (longest)
        return longest;
    *oldest = (struct stream_ahead){.timeline = timeline, .next = first, .until = first};
    return oldest;
}

static void advise(struct engine_run *e, uint64_t place, uint32_t blocks) {
    uint32_t segment = place_segment(place), device;
    struct io_port *io = e->p.io;
    if (!index_segment_is_sealed(e->index, segment) ||
        log_pin_segment(e->log, segment, &device) < 0)
        return;
    int router_device = io->device(io->device_ctx, device);
    if (router_device >= 0) {
        io->router.ops->read_ahead(io->router.ctx, router_device, place_offset_bytes(place),
                                   (uint64_t)blocks * BLOCK_BYTES);
        e->n.advised_blocks += blocks;
        e->advised_pieces++;
    }
    log_unpin_segment(e->log, segment);
}

/* Blocks that follow each other on disk are one piece. */
static void advise_found(struct engine_run *e, const struct index_find *f) {
    uint64_t place = 0;
    uint32_t blocks = 0;
    for (uint32_t b = 0; b <= CHUNK_BLOCKS; b++) {
        int is_data = b < CHUNK_BLOCKS && (f->want >> b & 1) &&
                      place_kind(f->found[b].place) == PLACE_DATA &&
                      place_stored_bytes(f->found[b].place) == BLOCK_BYTES;
        if (blocks > 0 && is_data && f->found[b].place == place_block(place, blocks)) {
            blocks++;
            continue;
        }
        if (blocks > 0)
            advise(e, place, blocks);
        blocks = is_data ? 1 : 0;
        place = is_data ? f->found[b].place : 0;
    }
}

static void found(struct index_find *f, int result) {
    struct lookup *q = f->owner;
    struct engine_run *e = q->engine;
    if (result == 0)
        advise_found(e, f);
    ancestry_give(e->p.ancestries, f->view);
    e->advices--;
    engine_lookup_free(e, q);
}

static int look_up(struct engine_run *e, uint32_t timeline, uint64_t chunk, uint64_t want) {
    const struct ancestry *view = ancestry_take(e->p.ancestries, timeline);
    struct lookup *q = view ? engine_lookup_new(e) : NULL;
    if (!q) {
        if (view)
            ancestry_give(e->p.ancestries, view);
        return 0;
    }
    q->engine = e;
    q->f = (struct index_find){
        .view = view, .limit = INDEX_NOW, .chunk = chunk, .want = want, .done = found, .owner = q};
    e->advices++;
    int err = index_find(e->index, &q->f);
    if (err != ERR_AGAIN)
        found(&q->f, err);
    return 1;
}

void ahead_note(struct engine_run *e, const struct ancestry *view, uint64_t first, uint32_t blocks,
                uint64_t end) {
    struct stream_ahead *s =
        stream_of(e, view->timeline, first, (uint64_t)blocks * AHEAD_NEAR_REQUESTS);
    s->used = ++e->streams_used;
    s->next = max_u64(s->next, first + blocks);
    s->in_order += blocks;
    s->until = max_u64(s->until, s->next);
    if (s->in_order < AHEAD_FROM_BLOCKS || s->until > s->next + AHEAD_BLOCKS / 2)
        return;
    end = min_u64(end, round_up_u64(s->next + AHEAD_BLOCKS, CHUNK_BLOCKS));
    uint64_t pieces_end = e->advised_pieces + 2 * (uint64_t)blocks + AHEAD_PIECES;
    while (s->until < end && e->advices < ENGINE_ADVICES_MAX && e->advised_pieces < pieces_end) {
        uint64_t chunk = chunk_of_block(s->until);
        uint64_t next = min_u64((chunk + 1) * CHUNK_BLOCKS, end);
        uint64_t want = chunk_mask(chunk * CHUNK_BLOCKS, s->until, next);
        if (!look_up(e, view->timeline, chunk, want))
            break;
        s->until = next;
    }
}
