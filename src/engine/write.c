/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WRITE, TRIM and ZERO become records. What the log takes is whole blocks:
 *
 *   WRITE   the payload's pages, which begin and end with the block. Of the first and last block the
 *           bytes around the payload are filled in: what was there before, read from the timeline.
 *           ZERO_RUN blocks or more in a row that are all zero are recorded as zeroes, without data, and
 *           so is a request of nothing else
 *   ZERO    the first and last block as above, in pages of their own; zeroes between
 *   TRIM    holes for the whole blocks inside
 *
 * A WRITE that changes nothing is recorded without blocks (same.c).
 *
 * What lies beyond the end of the volume in its last block is zero. So a write up to the end needs no
 * old bytes there, and a trim up to the end takes the last block.
 *
 * A request is a row of steps, each one record; all but the last say that more follows. The bytes that
 * are recorded (`progress`, in the slot) tell which step is next, so that a step is taken once, whoever
 * takes it. While a request is recorded in part, no other is recorded.
 *
 * Pages go over to the log with their record: the slot's extents begin at the first byte that is not
 * recorded.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/engine_priv.h"

/* Fewer in the middle of others are not worth a record of their own. */
#define ZERO_RUN 8u

/* The next record of a request. */
struct step {
    enum place_kind kind;
    uint64_t block, blocks;
    uint64_t from,
        to;         /* bytes of the volume that the client asked for; rounded out to the blocks' */
    uint32_t pages; /* taken from the front of the slot's extents */
    int edge;       /* ZERO: 1 + the edge page to be logged */
    int last;
};

static uint64_t end_of(const struct request *q) {
    return q->offset_bytes + q->length_bytes;
}

/* Whether the request begins (ends) within a block, so that old bytes are needed. */
static int begins_within(const struct request *q) {
    return q->offset_bytes % BLOCK_BYTES != 0;
}
static int ends_within(const struct work *w, const struct request *q) {
    return end_of(q) % BLOCK_BYTES != 0 && end_of(q) != w->size_bytes;
}

/* The first block whose end the client has asked for, and the block behind the last whole one. */
static uint64_t whole_first(const struct request *q) {
    return bytes_to_blocks_up(q->offset_bytes);
}
static uint64_t whole_end(const struct work *w, const struct request *q) {
    return ends_within(w, q) ? block_of_byte(end_of(q)) : bytes_to_blocks_up(end_of(q));
}

/* How many of the blocks from the front of the slot's pages on are of one record: `zero` tells which kind. */
static uint32_t run_of_kind(const struct work *w, const struct request *q, uint32_t blocks,
                            int *zero) {
    uint32_t zeroes = 0, at = 0; /* zeroes: of those before `at`, the last so many */
    for (uint32_t i = 0; i < q->data_extents && at < blocks; i++) {
        for (uint32_t p = 0; p < q->data[i].pages && at < blocks; p++, at++) {
            int is =
                bytes_are_zero(buffer_data(w->e->p.buffers, q->data[i].first + p), BLOCK_BYTES);
            if (!is && zeroes == at && zeroes >= ZERO_RUN) {
                *zero = 1;
                return zeroes;
            }
            zeroes = is ? zeroes + 1 : 0;
            if (zeroes == ZERO_RUN && zeroes <= at) {
                *zero = 0;
                return at + 1 - zeroes;
            }
        }
    }
    *zero = at > 0 && zeroes == at;
    return at;
}

static void write_step(const struct work *w, const struct request *q, uint64_t at, struct step *s) {
    int zero;
    s->block = block_of_byte(at);
    s->blocks = min_u64(bytes_to_blocks_up(end_of(q)) - s->block, LOG_APPEND_BLOCKS_MAX);
    s->blocks = run_of_kind(w, q, (uint32_t)s->blocks, &zero);
    s->kind = zero ? PLACE_ZERO : PLACE_DATA;
    s->pages = (uint32_t)s->blocks;
}

static void zero_step(const struct work *w, const struct request *q, uint64_t at, struct step *s) {
    uint64_t first = whole_first(q), end = whole_end(w, q);
    s->block = block_of_byte(at);
    if (first > end || s->block < first || s->block >= end) {
        /* Within one block, or at one of the two edges. */
        s->kind = PLACE_DATA;
        s->blocks = 1;
        s->edge = s->block == block_of_byte(q->offset_bytes) && begins_within(q) ? 1 : 2;
    } else {
        s->kind = PLACE_ZERO;
        s->blocks = end - s->block;
    }
}

/* The step at `progress`; 0 if there is none. */
static int next_step(const struct work *w, const struct request *q, struct step *s) {
    uint64_t at = q->offset_bytes + q->progress, end = end_of(q);
    memset(s, 0, sizeof *s);
    if (q->op == REQUEST_TRIM) {
        s->kind = PLACE_HOLE;
        s->block = whole_first(q);
        s->blocks = whole_end(w, q) > s->block ? whole_end(w, q) - s->block : 0;
        s->from = at;
        s->to = end;
        s->last = 1;
        return s->blocks > 0 && q->progress == 0;
    }
    if (at >= end)
        return 0;
    if (w->same) {
        *s = (struct step){.kind = PLACE_SAME,
                           .block = block_of_byte(at),
                           .from = at,
                           .to = end,
                           .pages = (uint32_t)block_of_byte(end - at),
                           .last = 1};
        return 1;
    }
    if (q->op == REQUEST_WRITE)
        write_step(w, q, at, s);
    else
        zero_step(w, q, at, s);
    s->from = at;
    s->to = min_u64(block_to_bytes(s->block + s->blocks), end);
    s->last = s->to == end;
    return 1;
}

/* The first n pages of the slot, as extents. */
static uint32_t first_pages(const struct request *q, uint32_t n,
                            struct extent out[REQUEST_EXTENTS]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < q->data_extents && n > 0; i++) {
        uint32_t take = q->data[i].pages < n ? q->data[i].pages : n;
        out[count++] = (struct extent){q->data[i].first, take};
        n -= take;
    }
    must(n == 0);
    return count;
}

static void drop_first_pages(struct request *q, uint32_t n) {
    uint32_t gone = 0;
    while (n > 0) {
        struct extent *e = &q->data[gone];
        uint32_t take = e->pages < n ? e->pages : n;
        e->first += take;
        e->pages -= take;
        n -= take;
        gone += e->pages == 0;
    }
    memmove(q->data, q->data + gone, (q->data_extents - gone) * sizeof q->data[0]);
    q->data_extents = (uint8_t)(q->data_extents - gone);
}

/* Of whole blocks that were written: how many held data or were read before, and how well they compress.
 * first: the first one's data; NULL: none is recorded. */
static void count_data(struct work *w, struct activity *t, const struct step *s,
                       const unsigned char *first) {
    struct engine_run *e = w->e;
    uint64_t *n = t->counted, blocks = max_u64(s->blocks, s->pages);
    n[ACTIVITY_overwritten_bytes] +=
        block_to_bytes(index_known_data(e->index, w->view, s->block, blocks));
    n[ACTIVITY_reread_bytes] +=
        block_to_bytes(sampler_was_read(e->sampler, t->volume_id, s->block, blocks));
    if (!first)
        return;
    n[ACTIVITY_recorded_bytes] += block_to_bytes(s->blocks);
    if (!sampler_is_due(e->sampler, s->blocks))
        return;
    n[ACTIVITY_sampled_bytes] += BLOCK_BYTES;
    n[ACTIVITY_packed_bytes] += sampler_pack(e->sampler, first);
}

static void count(struct work *w, const struct step *s, uint64_t sequence,
                  const unsigned char *first) {
    struct engine_run *e = w->e;
    uint64_t wall_ns = log_wall_ns(e->log);
    struct activity *t = activity_now(e->a, (struct volume_h){w->volume}, wall_ns);
    if (!t)
        return;
    uint64_t *n = t->counted;
    activity_recorded(e->a, (struct volume_h){w->volume}, t, sequence, wall_ns);
    switch (request_view(e->a, w->h)->op) {
    case REQUEST_TRIM:
        n[ACTIVITY_trims] += s->last;
        n[ACTIVITY_trim_bytes] += s->to - s->from;
        break;
    case REQUEST_ZERO:
        n[ACTIVITY_zeroes] += s->last;
        n[ACTIVITY_zero_bytes] += s->to - s->from;
        break;
    default:
        n[ACTIVITY_writes] += s->last;
        n[ACTIVITY_write_bytes] += s->to - s->from;
    }
    if (first || s->pages > 0)
        count_data(w, t, s, first);
}

/* Records one step; an error of log_append, and nothing has changed. */
static int record_step(struct work *w, const struct step *s, uint64_t *sequence) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    struct extent pages[REQUEST_EXTENTS];
    uint64_t to = round_up_u64(s->to, SECTOR_BYTES);
    struct log_append r = {.kind = s->kind,
                           .timeline = w->view->timeline,
                           .family = w->view->family,
                           .flags = (s->last ? 0u : LOG_MORE) |
                                    (q->flags & REQUEST_REPLAYED ? LOG_REPLAYED : 0u),
                           .start_sector = s->from / SECTOR_BYTES,
                           .sectors = (to - s->from / SECTOR_BYTES * SECTOR_BYTES) / SECTOR_BYTES,
                           .block = s->block,
                           .blocks = s->blocks,
                           .data = pages,
                           .first_crc = w->has_crc && q->progress == 0 ? &w->crc : NULL,
                           .source = q->conn.v,
                           .source_number = q->cookie};
    if (s->edge) {
        pages[0] = w->edge[s->edge - 1];
        r.data_extents = 1;
    } else if (s->pages > 0) {
        r.data_extents = first_pages(q, s->pages, pages);
    }
    uint32_t elided = s->kind != PLACE_DATA ? r.data_extents : 0;
    r.data_extents -= elided;
    int err = log_append(e->log, &r, sequence);
    if (err < 0)
        return err;
    for (uint32_t i = 0; i < elided; i++)
        buffer_release(e->p.buffers, pages[i]);
    count(w, s, *sequence, r.data_extents > 0 ? buffer_data(e->p.buffers, pages[0].first) : NULL);
    struct request *edit = request_edit(e->a, w->h);
    edit->progress = s->to - q->offset_bytes;
    edit->sequence = *sequence;
    if (s->edge)
        w->edge[s->edge - 1].pages = 0;
    else if (s->pages > 0)
        drop_first_pages(edit, s->pages);
    return 0;
}

static void touch_timeline(struct work *w, uint64_t sequence) {
    struct engine_run *e = w->e;
    struct timeline_h h = volume_view(e->a, (struct volume_h){w->volume})->timeline;
    struct timeline *t = timeline_edit(e->a, h);
    must(t->id == w->view->timeline);
    if (t->first_sequence == 0)
        t->first_sequence = sequence;
    t->last_sequence = sequence;
}

/* All of it is recorded. The place in the order is kept until it is applied; the request need not. */
static void recorded(struct work *w, uint64_t sequence) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    const struct volume *v = volume_view(e->a, (struct volume_h){w->volume});
    struct change *c = w->change;
    order_recorded(&e->order, &c->node);
    c->sequence = sequence;
    c->work = NULL;
    w->change = NULL;
    c->next = NULL;
    *e->applied_end = c;
    e->applied_end = &c->next;
    touch_timeline(w, sequence);
    if ((q->flags & REQUEST_FUA) || (v->flags & VOLUME_DURABLE_WRITES))
        engine_await_durable(w, sequence);
    else
        engine_finish(w, 0);
}

static void release_edges(struct work *w) {
    for (uint32_t i = 0; i < 2; i++) {
        buffer_release(w->e->p.buffers, w->edge[i]);
        w->edge[i].pages = 0;
    }
}

static void leave_order(struct work *w) {
    order_leave(&w->e->order, &w->change->node);
    engine_change_free(w->e, w->change);
    w->change = NULL;
}

/* What is recorded of it stays without an end, and others may be recorded again. */
static void fail(struct work *w, int err) {
    if (w->e->partly.v == w->h.v)
        w->e->partly.v = 0;
    release_edges(w);
    leave_order(w);
    engine_finish(w, err);
}

/* Records the steps of one request. 0: it is recorded, or has failed; ERR_AGAIN: it goes on later. */
static int record(struct work *w) {
    struct engine_run *e = w->e;
    struct step s;
    while (next_step(w, request_view(e->a, w->h), &s)) {
        uint64_t sequence, before = log_recorded(e->log);
        if (e->records_left == 0 || engine_undo_is_short(e)) {
            e->again = 1;
            return ERR_AGAIN;
        }
        int err = record_step(w, &s, &sequence);
        if (err == ERR_AGAIN)
            return err;
        if (err < 0) {
            work_pop(&e->log_queue);
            fail(w, err);
            return 0;
        }
        e->records_left--;
        if (!s.last && !e->chain_open)
            e->whole = before;
        e->chain_open = !s.last;
        e->partly.v = s.last ? 0 : w->h.v;
        if (s.last) {
            work_pop(&e->log_queue);
            recorded(w, sequence);
            return 0;
        }
    }
    must_fail("a request in the queue has a step", __FILE__, __LINE__);
}

/* The one that is recorded in part comes first. */
static int partly_recorded_first(struct engine_run *e) {
    struct work_list *l = &e->log_queue;
    for (struct work **at = &l->first; *at; at = &(*at)->next) {
        struct work *w = *at;
        if (w->h.v != e->partly.v)
            continue;
        *at = w->next;
        if (!w->next)
            l->end = at;
        w->next = l->first;
        l->first = w;
        if (!w->next)
            l->end = &w->next;
        return 1;
    }
    return 0;
}

void write_log(struct engine_run *e) {
    if (e->recording)
        return;
    e->recording = 1;
    while (e->log_queue.first) {
        if (e->partly.v && !partly_recorded_first(e))
            break;
        if (record(e->log_queue.first) == ERR_AGAIN)
            break;
    }
    e->recording = 0;
}

/* What the client has given stays; around it, in the first and the last block, is what was there. */
static void compose_write(struct work *w, const struct request *q) {
    struct buffer_pool *buffers = w->e->p.buffers;
    uint32_t head = (uint32_t)(q->offset_bytes % BLOCK_BYTES);
    uint32_t tail = (uint32_t)(end_of(q) % BLOCK_BYTES);
    const struct extent *last = &q->data[q->data_extents - 1];
    unsigned char *first_page = buffer_data(buffers, q->data[0].first);
    unsigned char *last_page = buffer_data(buffers, last->first + last->pages - 1);
    if (w->edge[0].pages > 0)
        memcpy(first_page, buffer_data(buffers, w->edge[0].first), head);
    if (tail == 0)
        return;
    if (ends_within(w, q))
        memcpy(last_page + tail, buffer_data(buffers, w->edge[w->last_edge].first) + tail,
               BLOCK_BYTES - tail);
    else
        memset(last_page + tail, 0, BLOCK_BYTES - tail);
}

static void compose_zero(struct work *w, const struct request *q) {
    for (uint32_t i = 0; i < 2; i++) {
        if (w->edge[i].pages == 0)
            continue;
        uint64_t block = block_to_bytes(w->readers[i].first_block);
        uint64_t from = max_u64(block, q->offset_bytes);
        uint64_t to = min_u64(block + BLOCK_BYTES, end_of(q));
        memset(buffer_data(w->e->p.buffers, w->edge[i].first) + (from - block), 0, to - from);
    }
}

void write_ready(struct work *w) {
    work_push(&w->e->log_queue, w);
    write_log(w->e);
}

static void old_blocks_are_there(struct work *w) {
    const struct request *q = request_view(w->e->a, w->h);
    if (w->error) {
        fail(w, w->error);
        return;
    }
    if (q->op == REQUEST_WRITE && q->progress < q->length_bytes) {
        compose_write(w, q);
        release_edges(w);
    } else if (q->op == REQUEST_ZERO) {
        compose_zero(w, q);
    }
    write_ready(w);
}

static void has_old_block(struct reader *r, int err) {
    struct work *w = r->owner;
    if (err < 0)
        w->error = err;
    if (--w->readers_left == 0)
        old_blocks_are_there(w);
}

/* Which old blocks are needed, of what is not recorded yet: bit 0 the first, bit 1 the last. One block
 * that is both is the first. */
static uint32_t old_blocks(const struct work *w, const struct request *q) {
    uint64_t first = block_of_byte(q->offset_bytes), last = block_of_byte(end_of(q) - 1);
    uint32_t need = 0;
    if (q->op == REQUEST_TRIM)
        return 0;
    if (q->progress == 0 && (begins_within(q) || (first == last && ends_within(w, q))))
        need |= 1;
    if (first != last && ends_within(w, q))
        need |= 2;
    /* Zeroes that end within one block are its last edge. */
    if (q->op == REQUEST_ZERO && need == 1 && first == last && !begins_within(q))
        need = 2;
    return need;
}

void write_go_on(struct work *w) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    if (w->change->node.reads && old_blocks(w, q) == 0 && same_compare(w))
        return;
    uint32_t need = old_blocks(w, q);
    struct extent pages[2];
    uint32_t count = (need & 1) + (need >> 1);
    uint32_t left = buffer_left_by(e->p.buffers, BUFFER_OLD_BLOCKS);
    if (count > 0 && (engine_undo_is_short(e) || e->p.buffers->free_pages < left + count)) {
        work_push(&e->room, w);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        must(buffer_take(e->p.buffers, 1, &pages[i], 1) == 1);
    w->error = 0;
    w->last_edge = need & 2 ? 1 : 0;
    w->readers_left = 1;
    for (uint32_t i = 0, used = 0; i < 2; i++) {
        if (!(need >> i & 1))
            continue;
        struct reader *r = &w->readers[i];
        w->edge[i] = pages[used++];
        r->e = e;
        r->view = w->view;
        r->first_block = block_of_byte(i == 0 ? q->offset_bytes : end_of(q) - 1);
        r->blocks = 1;
        r->pages[0] = w->edge[i];
        r->extents = 1;
        r->done = has_old_block;
        r->owner = w;
        e->n.partial_blocks++;
        w->readers_left++;
        int err = reader_start(r);
        if (err != ERR_AGAIN) {
            w->readers_left--;
            w->error = err < 0 ? err : w->error;
        }
    }
    if (--w->readers_left == 0)
        old_blocks_are_there(w);
}

static void order_ready(struct order_node *n) {
    struct change *c = (struct change *)(void *)n;
    work_push(&c->work->e->ready, c->work);
}

void write_begin(struct work *w) {
    struct engine_run *e = w->e;
    const struct request *q = request_view(e->a, w->h);
    struct step s;
    w->size_bytes = volume_view(e->a, (struct volume_h){w->volume})->size_bytes;
    if (q->op == REQUEST_WRITE && q->progress == 0)
        must(q->data_start == q->offset_bytes % BLOCK_BYTES &&
             request_data_room(q) >= q->length_bytes);
    if (!next_step(w, q, &s)) {
        engine_finish(w, 0); /* a trim of no whole block */
        return;
    }
    w->change = engine_change_new(e);
    if (!w->change) {
        engine_finish(w, ERR_NOMEM);
        return;
    }
    *w->change = (struct change){.node = {.volume = w->volume,
                                          .reads = old_blocks(w, q) != 0 || same_seems(w, q),
                                          .first = block_of_byte(q->offset_bytes),
                                          .last = block_of_byte(end_of(q) - 1),
                                          .ready = order_ready},
                                 .work = w};
    if (order_enter(&e->order, &w->change->node))
        write_go_on(w);
}
