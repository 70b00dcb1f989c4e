/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading parts of runs. First a try without waiting, which finds what the machine has cached; else
 * a disk operation with pages of the pool. A directory takes one read, or two if it is longer than
 * RUN_FIRST_READ_BYTES. Look-ups that need the same part wait for the same read; what cannot be read
 * now for want of room waits in the retry list.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/index/index_priv.h"
#include "engine/log.h"

static void wait_for_room(struct index *x, struct index_search *s) {
    if (!s)
        return;
    s->next = NULL;
    *x->retry_end = s;
    x->retry_end = &s->next;
}

static void wait_for(struct index_fetch *f, struct index_search *s) {
    if (!s)
        return;
    s->next = f->waiting;
    f->waiting = s;
}

static struct index_fetch *fetch_under_way(struct index *x, uint64_t identity, uint32_t leaf,
                                           struct index_fetch **unused) {
    *unused = NULL;
    for (uint32_t i = 0; i < INDEX_FETCHES_MAX; i++) {
        struct index_fetch *f = &x->fetches[i];
        if (!f->used)
            *unused = *unused ? *unused : f;
        else if (f->identity == identity && f->leaf == leaf)
            return f;
    }
    return NULL;
}

static int64_t try_now(struct index *x, uint32_t device, uint8_t *bytes, uint32_t len,
                       uint64_t offset_bytes) {
    struct io_port *io = x->parts.io;
    int router_device = io->device(io->device_ctx, device);
    struct io_vec vec = {bytes, len};
    return io->router.ops->read_now(io->router.ctx, router_device, &vec, 1, offset_bytes);
}

/* Wants the disk operation of a fetch whose segment is pinned; ERR_AGAIN: no room. */
static int want_read(struct index *x, struct index_fetch *f, uint32_t device) {
    struct extent pages[IO_EXTENTS];
    int n = buffer_take_for(x->parts.buffers, BUFFER_INDEX, buffer_pages_for(f->length_bytes),
                            pages, IO_EXTENTS);
    if (n < 0)
        return ERR_AGAIN;
    uint64_t owner = (uint64_t)f->serial << 32 | (uint32_t)(f - x->fetches);
    struct io_h h = io_want(x->parts.io, IO_READ, IO_CACHED, ROUTINE_LEAF_READ, owner, device,
                            f->offset_bytes, f->length_bytes);
    if (!h.v) {
        for (int i = 0; i < n; i++)
            buffer_release(x->parts.buffers, pages[i]);
        return ERR_AGAIN;
    }
    struct io *io = io_edit(x->a, h);
    io->data_extents = (uint8_t)n;
    memcpy(io->data, pages, (size_t)n * sizeof *pages);
    return 0;
}

/* By it a segment's run is found again. */
static uint64_t first_sequence_of(const struct index_piece *p) {
    return p->merged ? 0 : ((const struct index_run *)(const void *)p)->first_sequence;
}

/* The piece's file for io_want; it stays until unpin(). */
static int pin(struct index *x, const struct index_piece *p, uint32_t *device) {
    if (!p->merged)
        return log_pin_segment(x->log, p->segment, device);
    *device = index_merged_device(p->merged);
    int opened = index_device(x, *device);
    p->merged->pins += opened >= 0;
    return opened < 0 ? opened : 0;
}

static void unpin(struct index *x, uint32_t segment, struct index_merged *merged) {
    if (merged)
        index_merged_unpin(merged);
    else
        log_unpin_segment(x->log, segment);
}

/* Brings what was read into the cache. A directory that is longer than what was read: NULL and
 * ERR_AGAIN, and the run knows what it needs. */
static struct cache_item *keep(struct index *x, struct index_piece *piece, uint32_t leaf,
                               uint8_t *bytes, uint32_t length, int *err) {
    if (leaf != ITEM_DIRECTORY)
        return index_cache_put_leaf(&x->cache, piece, leaf, bytes, err);
    int64_t need = run_directory_need(bytes, length, piece->identity);
    if (need > length && need <= INDEX_FETCH_BYTES_MAX && need <= (int64_t)piece->size_bytes) {
        free(bytes);
        piece->directory_bytes = (uint32_t)round_up_u64((uint64_t)need, RUN_PAGE_BYTES);
        *err = ERR_AGAIN;
        return NULL;
    }
    if (need < 0 || need > length) {
        free(bytes);
        *err = need < 0 ? (int)need : ERR_FORMAT;
        return NULL;
    }
    return index_cache_put_directory(&x->cache, piece, bytes, (uint64_t)need, err);
}

/* A part of a merged run that cannot be read is not missed: ERR_AGAIN, the segments' runs have it. */
static int tell_damage(struct index *x, struct index_merged *merged, int err) {
    int damaged = err == ERR_FORMAT || err == ERR_INTEGRITY || err == ERR_UNSUPPORTED;
    if (merged && (damaged || err == ERR_IO)) {
        index_distrust(x, merged);
        return ERR_AGAIN;
    }
    if (damaged && x->parts.alerts.raise)
        x->parts.alerts.raise(x->parts.alerts.ctx, ALERT_ERROR, "index_damaged", "",
                              "A part of the index does not match its checksum, so blocks whose "
                              "place stands there cannot be read. Scrub the store.");
    return err;
}

/* Where a part lies in the run; ERR_FORMAT if the run ends before it. */
static int part_of_piece(struct index *x, const struct index_piece *piece, uint32_t leaf,
                         uint64_t *offset, uint32_t *length) {
    *offset = 0;
    *length = RUN_PAGE_BYTES;
    if (leaf == ITEM_DIRECTORY) {
        uint32_t first = (uint32_t)min_u64(RUN_FIRST_READ_BYTES, piece->size_bytes);
        *length = piece->directory_bytes ? piece->directory_bytes : first;
    } else {
        struct cache_item *d = index_cache_find(&x->cache, piece->cached_as, ITEM_DIRECTORY);
        must(d != NULL);
        *offset = ((uint64_t)d->directory.header.first_leaf_page + leaf) * RUN_PAGE_BYTES;
    }
    return *length >= RUN_PAGE_BYTES && *offset + *length <= piece->size_bytes ? 0 : ERR_FORMAT;
}

/* A read without waiting; *err ERR_AGAIN: it would wait, or the part is longer than was known. */
static struct cache_item *fetch_now(struct index *x, uint32_t device, struct index_piece *piece,
                                    uint32_t leaf, int *err) {
    uint64_t offset;
    uint32_t length;
    *err = part_of_piece(x, piece, leaf, &offset, &length);
    if (*err < 0)
        return NULL;
    uint8_t *bytes = malloc(length);
    if (!bytes) {
        *err = ERR_NOMEM;
        return NULL;
    }
    if (try_now(x, device, bytes, length, piece->offset_bytes + offset) == length)
        return keep(x, piece, leaf, bytes, length, err);
    free(bytes);
    *err = ERR_AGAIN;
    return NULL;
}

static int fetch_later(struct index *x, uint32_t device, struct index_piece *piece, uint32_t leaf,
                       struct index_fetch *f) {
    uint64_t offset;
    *f = (struct index_fetch){.used = 1,
                              .serial = ++x->fetch_serial,
                              .identity = piece->identity,
                              .segment = piece->segment,
                              .first_sequence = first_sequence_of(piece),
                              .merged = piece->merged,
                              .leaf = leaf};
    int err = part_of_piece(x, piece, leaf, &offset, &f->length_bytes);
    f->offset_bytes = piece->offset_bytes + offset;
    if (err == 0)
        err = want_read(x, f, device);
    if (err == 0)
        *(leaf == ITEM_DIRECTORY ? &x->n.directory_reads : &x->n.leaf_reads) += 1;
    else
        f->used = 0;
    return err;
}

struct cache_item *index_fetch(struct index *x, struct index_piece *piece, uint32_t leaf,
                               struct index_search *s, int *err) {
    struct cache_item *item = index_cache_find(&x->cache, piece->cached_as, leaf);
    if (item) {
        x->n.leaf_hits += leaf != ITEM_DIRECTORY;
        return item;
    }
    struct index_fetch *unused, *f = fetch_under_way(x, piece->identity, leaf, &unused);
    *err = ERR_AGAIN;
    if (f) {
        wait_for(f, s);
        return NULL;
    }
    uint32_t device, known = piece->directory_bytes;
    if (pin(x, piece, &device) < 0) {
        *err = tell_damage(x, piece->merged, ERR_IO);
        if (*err == ERR_AGAIN)
            wait_for_room(x, s);
        return NULL;
    }
    item = fetch_now(x, device, piece, leaf, err);
    if (!item && *err == ERR_AGAIN && piece->directory_bytes != known)
        item = fetch_now(x, device, piece, leaf, err);
    if (!item && *err == ERR_AGAIN && unused) {
        *err = fetch_later(x, device, piece, leaf, unused);
        if (*err == 0) {
            wait_for(unused, s);
            *err = ERR_AGAIN;
            return NULL;
        }
    }
    struct index_merged *merged = piece->merged;
    if (!item)
        *err = tell_damage(x, merged, *err);
    unpin(x, piece->segment, merged);
    if (!item && *err == ERR_AGAIN)
        wait_for_room(x, s);
    return item;
}

static uint8_t *gather(struct index *x, const struct io *io) {
    uint8_t *bytes = malloc(io->length_bytes);
    uint32_t at = 0;
    for (uint32_t i = 0; bytes && i < io->data_extents; i++) {
        uint32_t n = (uint32_t)min_u64(io->length_bytes - at,
                                       (uint64_t)io->data[i].pages * BUFFER_PAGE_BYTES);
        memcpy(bytes + at, buffer_data(x->parts.buffers, io->data[i].first), n);
        at += n;
    }
    return bytes;
}

/* What was read, as long as it is still looked for. */
static struct index_piece *piece_of(struct index *x, const struct index_fetch *f) {
    if (f->merged)
        return f->merged->is_leaving ? NULL
                                     : &f->merged->pieces[f->identity - f->merged->t.identity];
    struct index_run *run = index_run_before(x, f->first_sequence + 1);
    return run && run->piece.identity == f->identity ? &run->piece : NULL;
}

int index_fetch_done(void *ctx, struct io_h h, const struct io *io, int32_t result) {
    struct index *x = ctx;
    struct index_fetch *f = &x->fetches[(uint32_t)io->owner % INDEX_FETCHES_MAX];
    if (!f->used || f->serial != io->owner >> 32)
        return 0;
    struct index_fetch was = *f;
    struct index_search *waiting = f->waiting;
    f->used = 0;
    f->waiting = NULL;
    struct index_piece *piece = piece_of(x, &was);
    int err = result == ERR_CANCELLED ? ERR_AGAIN : ERR_IO;
    if (!piece) {
        err = ERR_AGAIN;
    } else if (result == (int32_t)io->length_bytes) {
        uint8_t *bytes = gather(x, io);
        err = bytes ? 0 : ERR_NOMEM;
        if (bytes)
            keep(x, piece, was.leaf, bytes, io->length_bytes, &err);
    }
    err = tell_damage(x, was.merged, err);
    unpin(x, was.segment, was.merged);
    /* ERR_AGAIN: the part is longer than was known, or it was not read, or the run is gone. Those
     * that wait look again. */
    for (struct index_search *s = waiting, *next; s; s = next) {
        next = s->next;
        index_search_resume(x, s, err == ERR_AGAIN ? 0 : err);
    }
    return 0;
}
