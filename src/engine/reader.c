/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading blocks. Each block goes its own way:
 *
 *   WANTED --index--> ASKED --place known--> zeroes, or bytes of a frame: READ
 *                                            else PLACED --> READING --checksum right--> READ
 *   READING --checksum wrong, once--> WANTED
 *
 * All places are asked for in the turn in which the reader starts, or as of that turn: so the blocks are
 * of one moment. Blocks that follow each other on disk are read together, first without waiting (the
 * machine's cache), then by disk operations that own their pages until they complete; these may outlive
 * the process, and then only their pages count.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/engine_priv.h"

static enum block_state state_of(const struct reader *r, uint32_t i) {
    return (enum block_state)(r->states[i] & ~BLOCK_AGAIN);
}

static void set_state(struct reader *r, uint32_t i, enum block_state state) {
    enum block_state was = state_of(r, i);
    r->wanted -= was == BLOCK_WANTED;
    r->placed -= was == BLOCK_PLACED;
    r->left -= state == BLOCK_READ;
    r->wanted += state == BLOCK_WANTED;
    r->placed += state == BLOCK_PLACED;
    r->states[i] = (uint8_t)((r->states[i] & BLOCK_AGAIN) | state);
}

/* The pages of blocks i .. i + n - 1; returns the number of extents. */
static uint32_t pages_of(const struct reader *r, uint32_t i, uint32_t n,
                         struct extent out[REQUEST_EXTENTS]) {
    uint32_t count = 0;
    for (uint32_t e = 0; e < r->extents && n > 0; e++) {
        struct extent p = r->pages[e];
        if (i >= p.pages) {
            i -= p.pages;
            continue;
        }
        uint32_t take = p.pages - i < n ? p.pages - i : n;
        out[count++] = (struct extent){p.first + i, take};
        n -= take;
        i = 0;
    }
    must(n == 0);
    return count;
}

static unsigned char *page_of(const struct reader *r, uint32_t i) {
    struct extent e[REQUEST_EXTENTS];
    pages_of(r, i, 1, e);
    return buffer_data(r->e->p.buffers, e[0].first);
}

/* The blocks have been read: each is what its checksum says, or is asked for once more. */
static void check_blocks(struct reader *r, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; i++) {
        uint64_t block = r->first_block + i;
        if (version_crc(r->view->family, block, page_of(r, i), BLOCK_BYTES) == r->places[i].crc) {
            set_state(r, i, BLOCK_READ);
            continue;
        }
        r->e->n.checks_failed++;
        index_forget(r->e->index, r->view, block, r->places[i]);
        if (r->states[i] & BLOCK_AGAIN) {
            r->error = ERR_INTEGRITY;
            engine_alert_block(r->e, block, ERR_INTEGRITY);
        }
        r->states[i] |= BLOCK_AGAIN;
        set_state(r, i, BLOCK_WANTED);
    }
}

/* The place of a block is known: what needs no disk is done at once. */
static void place_block_of(struct reader *r, uint32_t i, struct block_place p) {
    r->places[i] = p;
    if (place_kind(p.place) != PLACE_DATA) {
        memset(page_of(r, i), 0, BLOCK_BYTES);
        set_state(r, i, BLOCK_READ);
        return;
    }
    const void *bytes = log_bytes_at(r->e->log, p.place);
    if (bytes) {
        memcpy(page_of(r, i), bytes, BLOCK_BYTES);
        r->e->n.blocks_from_log++;
        check_blocks(r, i, 1);
        return;
    }
    set_state(r, i, BLOCK_PLACED);
}

static void take_places(struct reader *r, const struct index_find *f) {
    uint64_t chunk_block = f->chunk * CHUNK_BLOCKS;
    for (uint64_t left = f->want; left; left &= left - 1) {
        uint32_t b = (uint32_t)__builtin_ctzll(left);
        place_block_of(r, (uint32_t)(chunk_block + b - r->first_block), f->found[b]);
    }
}

static void go_on(struct reader *r);

static void found(struct index_find *f, int result) {
    struct lookup *q = f->owner;
    struct reader *r = q->reader;
    r->asked--;
    if (result == 0)
        take_places(r, f);
    else
        r->error = result;
    engine_lookup_free(r->e, q);
    go_on(r);
}

/* Asks for the wanted blocks, chunk by chunk. */
static void ask(struct reader *r, uint64_t limit) {
    for (uint32_t i = 0; i < r->blocks && r->wanted > 0 && !r->error;) {
        uint64_t block = r->first_block + i;
        uint64_t chunk = chunk_of_block(block);
        uint32_t end = (uint32_t)min_u64(r->blocks, (chunk + 1) * CHUNK_BLOCKS - r->first_block);
        uint64_t want = 0;
        for (; i < end; i++)
            if (state_of(r, i) == BLOCK_WANTED) {
                want |= UINT64_C(1) << (r->first_block + i) % CHUNK_BLOCKS;
                set_state(r, i, BLOCK_ASKED);
            }
        if (!want)
            continue;
        struct lookup *q = engine_lookup_new(r->e);
        if (!q) {
            r->error = ERR_NOMEM;
            return;
        }
        q->reader = r;
        q->f = (struct index_find){.view = r->view,
                                   .limit = limit,
                                   .chunk = chunk,
                                   .want = want,
                                   .done = found,
                                   .owner = q};
        int err = index_find(r->e->index, &q->f);
        if (err == ERR_AGAIN) {
            r->asked++;
            continue;
        }
        if (err == 0)
            take_places(r, &q->f);
        else
            r->error = err;
        engine_lookup_free(r->e, q);
    }
}

/* Blocks from i on that are to be read and follow each other on disk. */
static uint32_t run_length(const struct reader *r, uint32_t i) {
    uint32_t n = 1;
    while (i + n < r->blocks && n < READER_RUN_BLOCKS_MAX && state_of(r, i + n) == BLOCK_PLACED &&
           r->places[i + n].place == place_block(r->places[i].place, n))
        n++;
    return n;
}

/* 1: read now; 0: not without waiting; negative: an error. */
static int try_now(struct reader *r, uint32_t i, uint32_t n, uint32_t device) {
    struct io_port *io = r->e->p.io;
    struct extent pages[REQUEST_EXTENTS];
    struct io_vec vecs[REQUEST_EXTENTS];
    uint32_t count = pages_of(r, i, n, pages);
    for (uint32_t e = 0; e < count; e++)
        vecs[e] = (struct io_vec){buffer_data(r->e->p.buffers, pages[e].first),
                                  (size_t)pages[e].pages * BLOCK_BYTES};
    int router_device = io->device(io->device_ctx, device);
    if (router_device < 0)
        return router_device;
    return io->router.ops->read_now(io->router.ctx, router_device, vecs, count,
                                    place_offset_bytes(r->places[i].place)) ==
           (int64_t)n * BLOCK_BYTES;
}

/* 1: under way; 0: no room. */
static int want_read(struct reader *r, uint32_t i, uint32_t n, uint32_t device) {
    struct engine_run *e = r->e;
    uint32_t segment = place_segment(r->places[i].place);
    if (e->read_free_count == 0 || engine_undo_is_short(e))
        return 0;
    uint32_t at = e->read_free[e->read_free_count - 1];
    /* What did not check comes from the disk itself the second time. */
    uint16_t flags =
        index_segment_is_sealed(e->index, segment) && !(r->states[i] & BLOCK_AGAIN) ? IO_CACHED : 0;
    uint64_t owner = (uint64_t)(e->serial + 1) << 32 | at;
    struct io_h h = io_want(e->p.io, IO_READ, flags, ROUTINE_BLOCK_READ, owner, device,
                            place_offset_bytes(r->places[i].place), n * BLOCK_BYTES);
    if (!h.v)
        return 0;
    e->read_free_count--;
    e->reads[at] = (struct block_read){r, ++e->serial, i, n, segment};
    struct io *io = io_edit(e->a, h);
    io->data_extents = (uint8_t)pages_of(r, i, n, io->data);
    for (uint32_t k = i; k < i + n; k++)
        set_state(r, k, BLOCK_READING);
    r->reads++;
    return 1;
}

/* A place that cannot be read as it is: its segment is gone, or its codec unknown. */
static void no_such_place(struct reader *r, uint32_t i, uint32_t n) {
    for (uint32_t k = i; k < i + n; k++) {
        index_forget(r->e->index, r->view, r->first_block + k, r->places[k]);
        if (r->states[k] & BLOCK_AGAIN) {
            r->error = ERR_INTEGRITY;
            engine_alert_block(r->e, r->first_block + k, ERR_INTEGRITY);
        }
        r->states[k] |= BLOCK_AGAIN;
        set_state(r, k, BLOCK_WANTED);
    }
}

/* Reads one run. 0: there is no room. */
static int read_run(struct reader *r, uint32_t i, uint32_t n) {
    uint64_t place = r->places[i].place;
    uint32_t device;
    int known = place_stored_bytes(place) == BLOCK_BYTES && (place >> 21 & 3) == 0;
    int err = known ? log_pin_segment(r->e->log, place_segment(place), &device) : ERR_NOTFOUND;
    if (err == ERR_NOTFOUND) {
        no_such_place(r, i, n);
        return 1;
    }
    if (err < 0) {
        r->error = ERR_IO;
        return 1;
    }
    int now = r->states[i] & BLOCK_AGAIN ? 0 : try_now(r, i, n, device);
    if (now == 0 && r->reads < READER_READS_MAX && want_read(r, i, n, device))
        return 1; /* pinned until it completes */
    log_unpin_segment(r->e->log, place_segment(place));
    if (now < 0)
        r->error = now;
    if (now > 0) {
        r->e->n.blocks_from_cache += n;
        check_blocks(r, i, n);
    }
    return now != 0;
}

static void wait_for_room(struct reader *r) {
    struct engine_run *e = r->e;
    if (r->waits || r->reads > 0)
        return; /* a completion will go on with it */
    r->waits = 1;
    r->next = NULL;
    *e->readers_waiting_end = r;
    e->readers_waiting_end = &r->next;
}

static void read_placed(struct reader *r) {
    for (uint32_t i = 0; i < r->blocks && r->placed > 0 && !r->error;) {
        if (state_of(r, i) != BLOCK_PLACED) {
            i++;
            continue;
        }
        uint32_t n = run_length(r, i);
        if (!read_run(r, i, n)) {
            wait_for_room(r);
            return;
        }
        i += n;
    }
}

/* Does what can be done; tells the owner at the end. */
static void go_on(struct reader *r) {
    if (r->starting)
        return;
    while (!r->error && (r->wanted > 0 || r->placed > 0)) {
        ask(r, r->limit);
        read_placed(r);
        if (r->wanted == 0)
            break;
    }
    if ((r->left == 0 || r->error) && r->asked == 0 && r->reads == 0 && !r->waits) {
        reader_release(r);
        r->done(r, r->error);
    }
}

void reader_release(struct reader *r) {
    if (r->places != r->few_places) {
        free(r->places);
        free(r->states);
    }
    r->places = NULL;
    r->states = NULL;
}

int reader_start(struct reader *r) {
    int small = r->blocks <= sizeof r->few_states;
    r->places = small ? r->few_places : malloc(r->blocks * sizeof *r->places);
    r->states = small ? r->few_states : malloc(r->blocks);
    if (!r->places || !r->states) {
        if (!small) {
            free(r->places);
            free(r->states);
        }
        return ERR_NOMEM;
    }
    memset(r->states, BLOCK_WANTED, r->blocks);
    r->left = r->wanted = r->blocks;
    r->placed = r->asked = r->reads = 0;
    r->error = r->waits = 0;
    r->limit = index_applied(r->e->index);
    r->starting = 1;
    ask(r, INDEX_NOW);
    while (!r->error) {
        read_placed(r);
        if (r->wanted == 0)
            break;
        ask(r, r->limit);
    }
    r->starting = 0;
    if ((r->left == 0 || r->error) && r->asked == 0 && r->reads == 0 && !r->waits) {
        reader_release(r);
        return r->error;
    }
    return ERR_AGAIN;
}

void reader_retry(struct engine_run *e) {
    struct reader *r = e->readers_waiting;
    e->readers_waiting = NULL;
    e->readers_waiting_end = &e->readers_waiting;
    for (struct reader *next; r; r = next) {
        next = r->next;
        r->waits = 0;
        go_on(r);
    }
}

int reader_block_read(void *ctx, struct io_h h, const struct io *io, int32_t result) {
    struct engine_run *e = ctx;
    uint32_t at = (uint32_t)io->owner % ENGINE_READS_MAX;
    struct block_read b = e->reads[at];
    (void)h;
    struct reader *r = b.reader;
    if (!r || b.serial != io->owner >> 32)
        return 0; /* a dead process's */
    e->reads[at].reader = NULL;
    e->read_free[e->read_free_count++] = at;
    log_unpin_segment(e->log, b.segment);
    r->reads--;
    for (uint32_t i = b.first; i < b.first + b.count; i++)
        set_state(r, i, BLOCK_PLACED);
    if (result == (int32_t)io->length_bytes) {
        e->n.blocks_from_disk += b.count;
        check_blocks(r, b.first, b.count);
    } else if (result != ERR_CANCELLED) {
        r->error = ERR_IO;
        engine_alert_block(e, r->first_block + b.first, ERR_IO);
    }
    go_on(r);
    return 1;
}
