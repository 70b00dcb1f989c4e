/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/merge_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

struct merge_cursor {
    int file; /* -1: not open */
    uint32_t piece;
    struct run_directory d; /* d.bytes: the piece in hand, whole; NULL: none */
    uint32_t leaf, interval;
    struct leaf_reader reader;
    int has_entry;
};

struct key {
    uint32_t family;
    uint64_t block;
    uint64_t sequence; /* descending */
};

static int blame(struct merge_reader *r, uint32_t source, int err) {
    if (err < 0 && err != ERR_NOMEM) {
        r->has_bad_source = 1;
        r->bad_source = source;
    }
    return err;
}

static void drop_piece(struct merge_cursor *c) {
    run_directory_close(&c->d);
    c->has_entry = 0;
}

static int load_piece(struct merge_reader *r, uint32_t source) {
    struct merge_cursor *c = &r->cursors[source];
    const struct merge_source_piece *p = &r->sources[source].pieces[c->piece];
    if (c->file < 0)
        c->file = r->files.ops->open(r->files.ctx, r->sources[source].path, FILE_READ);
    if (c->file < 0)
        return c->file;
    uint8_t *bytes = malloc(p->size_bytes);
    if (!bytes)
        return ERR_NOMEM;
    int64_t n = r->files.ops->read(r->files.ctx, c->file, bytes, p->size_bytes, p->offset_bytes);
    int err = n < 0 ? (int)n : n == (int64_t)p->size_bytes ? 0 : ERR_FORMAT;
    if (err == 0)
        err = run_directory_open(&c->d, bytes, p->size_bytes, p->identity);
    if (err == 0 && c->d.header.bytes > p->size_bytes) {
        drop_piece(c);
        return ERR_FORMAT;
    }
    if (err < 0)
        free(bytes);
    c->leaf = c->interval = 0;
    c->reader.left = 0;
    return err;
}

static const uint8_t *leaf_page(const struct merge_cursor *c, uint32_t leaf) {
    return c->d.bytes + ((uint64_t)c->d.header.first_leaf_page + leaf) * RUN_PAGE_BYTES;
}

/* Goes to the next entry of the piece in hand, if there is one. */
static int next_entry(struct merge_cursor *c) {
    c->has_entry = 0;
    for (;;) {
        if (c->reader.left > 0) {
            int n = leaf_next(&c->reader);
            c->has_entry = n > 0;
            if (n != 0)
                return n < 0 ? n : 0;
        }
        if (c->leaf == c->d.header.leaves)
            return 0;
        const uint8_t *page = leaf_page(c, c->leaf);
        int err = leaf_check(page, c->d.header.identity, c->leaf);
        c->leaf++;
        if (err == 0)
            err = leaf_seek(&c->reader, &c->d.tables, page, 0, 0);
        if (err < 0)
            return err;
    }
}

static int is_at_end(const struct merge_cursor *c) {
    return !c->has_entry && c->interval == c->d.interval_count;
}

/* The piece in hand is done: the next one, if there is one. */
static int refill(struct merge_reader *r, uint32_t source) {
    struct merge_cursor *c = &r->cursors[source];
    while (is_at_end(c)) {
        if (c->d.bytes) {
            drop_piece(c);
            c->piece++;
        }
        if (c->piece == r->sources[source].piece_count)
            return 0;
        int err = load_piece(r, source);
        if (err == 0)
            err = next_entry(c);
        if (err < 0)
            return blame(r, source, err);
    }
    return 0;
}

static int is_before(const struct key *a, const struct key *b) {
    if (a->family != b->family)
        return a->family < b->family;
    return a->block != b->block ? a->block < b->block : a->sequence > b->sequence;
}

static struct key entry_key(const struct merge_cursor *c) {
    const struct run_entry *e = &c->reader.entry;
    return (struct key){e->family, e->block, e->sequence};
}

static struct key interval_key(const struct merge_cursor *c) {
    const struct run_interval *i = &c->d.intervals[c->interval];
    return (struct key){i->family, i->block, i->sequence};
}

/* The source with the smallest key, and whether that is an interval; -1: all are done. */
static int32_t smallest(const struct merge_reader *r, struct key *key, int *is_interval) {
    int32_t found = -1;
    for (uint32_t i = 0; i < r->source_count; i++) {
        const struct merge_cursor *c = &r->cursors[i];
        for (int interval = 0; interval < 2; interval++) {
            if (interval ? c->interval >= c->d.interval_count : !c->has_entry)
                continue;
            struct key k = interval ? interval_key(c) : entry_key(c);
            if (found >= 0 && !is_before(&k, key))
                continue;
            *key = k;
            *is_interval = interval;
            found = (int32_t)i;
        }
    }
    return found;
}

static int step_over_last(struct merge_reader *r) {
    if (r->last < 0)
        return 0;
    struct merge_cursor *c = &r->cursors[r->last];
    uint32_t source = (uint32_t)r->last;
    if (r->last_is_interval)
        c->interval++;
    else if (blame(r, source, next_entry(c)) < 0)
        return ERR_FORMAT;
    return refill(r, source);
}

int merge_read_next(struct merge_reader *r, struct merge_item *item) {
    struct key key, last = {r->last_family, r->last_block, r->last_sequence};
    int err = 0;
    for (uint32_t i = 0; i < r->source_count && !r->begun && err == 0; i++)
        err = refill(r, i);
    if (err == 0)
        err = r->begun ? step_over_last(r) : 0;
    if (err < 0)
        return err;
    int had_last = r->begun && r->last >= 0;
    r->begun = 1;
    r->last = smallest(r, &key, &r->last_is_interval);
    if (r->last < 0)
        return 0;
    if (had_last && is_before(&key, &last))
        return blame(r, (uint32_t)r->last, ERR_FORMAT);
    r->last_family = key.family;
    r->last_block = key.block;
    r->last_sequence = key.sequence;
    const struct merge_cursor *c = &r->cursors[r->last];
    item->is_interval = r->last_is_interval;
    if (r->last_is_interval) {
        item->interval = c->d.intervals[c->interval];
        return 1;
    }
    item->entry = c->reader.entry;
    item->entry.crc = NULL;
    item->crc = c->reader.crc;
    return 1;
}

int merge_read_open(struct merge_reader *r, const struct file_system *files,
                    const struct merge_source *sources, uint32_t count) {
    *r = (struct merge_reader){
        .files = *files, .sources = sources, .source_count = count, .last = -1};
    r->cursors = calloc(count + 1, sizeof *r->cursors);
    if (!r->cursors)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++)
        r->cursors[i].file = -1;
    return 0;
}

void merge_read_rewind(struct merge_reader *r) {
    for (uint32_t i = 0; r->cursors && i < r->source_count; i++) {
        struct merge_cursor *c = &r->cursors[i];
        drop_piece(c);
        if (c->file >= 0)
            r->files.ops->close(r->files.ctx, c->file);
        *c = (struct merge_cursor){.file = -1};
    }
    r->begun = 0;
    r->last = -1;
}

void merge_read_free(struct merge_reader *r) {
    for (uint32_t i = 0; r->cursors && i < r->source_count; i++)
        drop_piece(&r->cursors[i]);
    free(r->cursors);
    r->cursors = NULL;
}
