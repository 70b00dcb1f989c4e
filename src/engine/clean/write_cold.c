/* SPDX-License-Identifier: Apache-2.0 */
/* A group of survivors becomes a cold segment: read in the order in which they lie, written in that of
 * their blocks. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "base/must.h"
#include "engine/clean/clean_job.h"

#define SPAN_BYTES (1u << 20)  /* read at once */
#define GAP_BYTES (64u * 1024) /* read along rather than skipped */

struct clean_move {
    uint64_t from; /* the old place */
    uint64_t to;   /* in `data` */
    uint64_t block;
    uint32_t family, crc;
};

static int by_key(const void *x, const void *y) {
    const struct run_entry *a = x, *b = y;
    if (a->family != b->family)
        return a->family < b->family ? -1 : 1;
    if (a->block != b->block)
        return a->block < b->block ? -1 : 1;
    return a->sequence > b->sequence ? -1 : a->sequence < b->sequence;
}

static int by_place(const void *x, const void *y) {
    const struct clean_move *a = x, *b = y;
    return a->from < b->from ? -1 : a->from > b->from;
}

/* Where everything goes; run and footer come behind the data. */
static int lay_out(struct clean_write *w) {
    struct clean_group *g = w->group;
    uint64_t at = 0, n = 0;
    w->moves = calloc(g->check_count + 1, sizeof *w->moves);
    w->data = malloc(g->check_count * BLOCK_BYTES + 1);
    if (!w->moves || !w->data)
        return ERR_NOMEM;
    if (g->entry_count > 1)
        qsort(g->entries, g->entry_count, sizeof *g->entries, by_key);
    for (uint64_t i = 0; i < g->entry_count; i++) {
        struct run_entry *e = &g->entries[i];
        e->segment = w->cold.segment;
        if (place_kind(e->place) != PLACE_DATA)
            continue;
        if (place_stored_bytes(e->place) != BLOCK_BYTES || (e->place >> 21 & 3) != 0)
            return ERR_UNSUPPORTED;
        e->crc = g->checks + (uintptr_t)e->crc - 1;
        for (uint32_t b = 0; b < e->blocks; b++)
            w->moves[n++] = (struct clean_move){.from = place_block(e->place, b),
                                                .to = at + (uint64_t)b * BLOCK_BYTES,
                                                .block = e->block + b,
                                                .family = e->family,
                                                .crc = e->crc[b]};
        e->place = place_data(w->cold.segment, (uint32_t)(BLOCK_BYTES + at));
        at += (uint64_t)e->blocks * BLOCK_BYTES;
    }
    must(n == g->check_count);
    w->move_count = n;
    w->data_bytes = at;
    if (n > 1)
        qsort(w->moves, n, sizeof *w->moves, by_place);
    return 0;
}

static const struct clean_source *source_of(const struct clean_write *w, uint32_t segment) {
    for (uint32_t i = 0; i < w->source_count; i++)
        if (w->sources[i].segment == segment)
            return &w->sources[i];
    return NULL;
}

static int blame(struct clean_write *w, const struct clean_move *m, int err) {
    w->bad_segment = place_segment(m->from);
    w->bad_block = m->block;
    w->bad_family = m->family;
    return err;
}

/* How many moves from i on are read together. */
static uint64_t span(const struct clean_write *w, uint64_t i) {
    uint64_t n = 1, first = place_offset_bytes(w->moves[i].from);
    while (i + n < w->move_count) {
        uint64_t a = w->moves[i + n - 1].from, b = w->moves[i + n].from;
        if (place_segment(a) != place_segment(b) ||
            place_offset_bytes(b) > place_offset_bytes(a) + BLOCK_BYTES + GAP_BYTES ||
            place_offset_bytes(b) + BLOCK_BYTES - first > SPAN_BYTES)
            break;
        n++;
    }
    return n;
}

static int read_span(struct clean_write *w, int file, uint64_t i, uint64_t n, uint8_t *buffer) {
    uint64_t first = place_offset_bytes(w->moves[i].from);
    uint64_t bytes = place_offset_bytes(w->moves[i + n - 1].from) + BLOCK_BYTES - first;
    int64_t got = w->files.ops->read(w->files.ctx, file, buffer, bytes, first);
    if (got != (int64_t)bytes)
        return blame(w, &w->moves[i], got < 0 ? (int)got : ERR_IO);
    for (uint64_t k = i; k < i + n; k++) {
        const struct clean_move *m = &w->moves[k];
        const uint8_t *from = buffer + (place_offset_bytes(m->from) - first);
        if (version_crc(m->family, m->block, from, BLOCK_BYTES) != m->crc)
            return blame(w, m, ERR_INTEGRITY);
        memcpy(w->data + m->to, from, BLOCK_BYTES);
    }
    return 0;
}

/* Some of the data; all of it lies in memory before the first byte is written. */
static int read_some(struct clean_write *w) {
    uint8_t *buffer = malloc(SPAN_BYTES);
    uint64_t done = 0;
    uint32_t open = 0;
    int file = -1, err = buffer ? 0 : ERR_NOMEM;
    while (err == 0 && w->moved < w->move_count && done < CLEAN_STEP_BYTES) {
        uint32_t segment = place_segment(w->moves[w->moved].from);
        if (segment != open) {
            char path[LOG_PATH_BYTES];
            const struct clean_source *source = source_of(w, segment);
            if (file >= 0)
                w->files.ops->close(w->files.ctx, file);
            file = -1;
            if (source) {
                log_slot_path(source->file, path);
                file = w->files.ops->open(w->files.ctx, path, FILE_READ);
            }
            open = segment;
            if (!source || file < 0) {
                err = blame(w, &w->moves[w->moved], source ? file : ERR_INTEGRITY);
                break;
            }
        }
        uint64_t n = span(w, w->moved);
        err = read_span(w, file, w->moved, n, buffer);
        w->moved += n;
        done += n * BLOCK_BYTES;
    }
    if (file >= 0)
        w->files.ops->close(w->files.ctx, file);
    free(buffer);
    return err;
}

static int write_all(const struct clean_write *w, const void *bytes, uint64_t count,
                     uint64_t offset) {
    int64_t n = w->files.ops->write(w->files.ctx, w->file, bytes, count, offset);
    return n == (int64_t)count ? 0 : n < 0 ? (int)n : ERR_IO;
}

static int write_some(struct clean_write *w) {
    uint64_t n = min_u64(CLEAN_STEP_BYTES, w->data_bytes - w->written);
    int err = write_all(w, w->data + w->written, n, BLOCK_BYTES + w->written);
    w->written += n;
    /* By parts, so that the disk is not flooded at the end. */
    return err < 0 ? err : w->files.ops->sync(w->files.ctx, w->file);
}

/* The run is durable before the footer is written. */
static int finish(struct clean_write *w) {
    struct clean_group *g = w->group;
    struct log_cold *c = &w->cold;
    struct run_input in = {.entries = g->entries,
                           .entry_count = g->entry_count,
                           .intervals = g->intervals,
                           .interval_count = g->interval_count,
                           .without_times = 1};
    uint8_t *run, footer[BLOCK_BYTES];
    size_t len;
    int err = run_make(&in, run_identity(c->segment), &run, &len);
    if (err < 0)
        return err;
    uint64_t room = round_up_u64(len, BLOCK_BYTES), end = w->segment_bytes - BLOCK_BYTES;
    c->data_end = (uint32_t)(BLOCK_BYTES + w->data_bytes);
    if (room > end - c->data_end)
        err = ERR_TOOBIG;
    c->run_offset = (uint32_t)(end - room);
    c->run_bytes = (uint32_t)len;
    c->run_crc = crc32c(0, run, len);
    c->blocks = (uint32_t)g->check_count;
    c->versions = (uint32_t)(g->entry_count + g->interval_count);
    if (err == 0)
        err = write_all(w, run, len, c->run_offset);
    free(run);
    if (err == 0)
        err = w->files.ops->sync(w->files.ctx, w->file);
    log_cold_footer(w->store_id, c, footer);
    if (err == 0)
        err = write_all(w, footer, sizeof footer, end);
    return err < 0 ? err : w->files.ops->sync(w->files.ctx, w->file);
}

static int open_slot(struct clean_write *w) {
    char path[LOG_PATH_BYTES];
    log_slot_path(w->cold.file, path);
    w->file = w->files.ops->open(w->files.ctx, path, FILE_WRITE);
    return w->file < 0 ? w->file : 0;
}

static int step(struct clean_write *w) {
    if (!w->is_made) {
        w->is_made = 1;
        w->file = -1;
        return lay_out(w);
    }
    if (w->moved < w->move_count)
        return read_some(w);
    int err = w->file < 0 ? open_slot(w) : 0;
    if (err == 0 && w->written < w->data_bytes)
        return write_some(w);
    if (err == 0)
        err = finish(w);
    if (w->file >= 0)
        w->files.ops->close(w->files.ctx, w->file);
    w->file = -1;
    return err < 0 ? err : 1;
}

int clean_write_step(struct clean_write *w) {
    int n = step(w);
    if (n >= 0)
        return n == 0;
    if (w->is_made && w->file >= 0)
        w->files.ops->close(w->files.ctx, w->file);
    w->file = -1;
    return n;
}

void clean_write_free(struct clean_write *w) {
    free(w->data);
    free(w->moves);
}
