/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/index/merge_job.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/must.h"

/* A chunk with more versions than this beyond a full piece is cut. */
#define ENTRIES_BEYOND(w) ((w)->entries_max / 4 + 1)
#define BLOCKS_PER_ENTRY 8u

/* ---- Reading ---- */

static int next_item(struct merge_work *w) {
    int n = merge_read_next(&w->reader, &w->item);
    w->has_item = n > 0;
    return n < 0 ? n : 0;
}

static uint32_t item_family(const struct merge_work *w) {
    return w->item.is_interval ? w->item.interval.family : w->item.entry.family;
}

static uint64_t item_chunk(const struct merge_work *w) {
    return chunk_of_block(w->item.is_interval ? w->item.interval.block : w->item.entry.block);
}

/* ---- One piece ---- */

static int room_for_interval(struct run_interval **list, uint64_t count, uint64_t *room) {
    if (count < *room)
        return 0;
    uint64_t more = *room ? 2 * *room : 1024;
    struct run_interval *grown = realloc(*list, more * sizeof *grown);
    if (!grown)
        return ERR_NOMEM;
    *list = grown;
    *room = more;
    return 0;
}

static int add_interval(struct merge_work *w, const struct run_interval *i) {
    if (w->piece.interval_count >= w->intervals_max)
        return ERR_TOOBIG;
    int err = room_for_interval(&w->piece.intervals, w->piece.interval_count, &w->interval_room);
    if (err == 0)
        w->piece.intervals[w->piece.interval_count++] = *i;
    return err;
}

static int carry(struct merge_work *w, const struct run_interval *i) {
    int err = room_for_interval(&w->carried, w->carried_count, &w->carried_room);
    if (err == 0)
        w->carried[w->carried_count++] = *i;
    return err;
}

static void add_entry(struct merge_work *w) {
    struct run_entry *e = &w->piece.entries[w->piece.entry_count++];
    *e = w->item.entry;
    e->time_ns = 0;
    if (!w->item.crc)
        return;
    e->crc = &w->checks[w->check_count];
    for (uint32_t i = 0; i < e->blocks; i++)
        w->checks[w->check_count++] = get_le32(w->item.crc + 4 * i);
}

static int is_full(const struct merge_work *w) {
    return w->piece.entry_count >= w->entries_max ||
           w->piece.interval_count - w->carried_in >= w->entries_max ||
           w->check_count + (uint64_t)ENTRIES_BEYOND(w) * CHUNK_BLOCKS > w->check_room;
}

static int is_more_than_full(const struct merge_work *w) {
    return w->piece.entry_count == w->entry_room || w->check_count + CHUNK_BLOCKS > w->check_room;
}

/* The piece ends before this chunk: what reaches over it goes on in the next one. */
static int cut_intervals(struct merge_work *w, uint32_t family, uint64_t chunk) {
    uint64_t border = chunk * CHUNK_BLOCKS, kept = 0;
    for (uint64_t n = 0; n < w->piece.interval_count; n++) {
        struct run_interval i = w->piece.intervals[n], rest = i;
        if (i.family == family && i.end_block > border) {
            rest.block = max_u64(i.block, border);
            i.end_block = border;
            int err = carry(w, &rest);
            if (err < 0)
                return err;
        }
        if (i.block < i.end_block)
            w->piece.intervals[kept++] = i;
    }
    w->piece.interval_count = kept;
    return 0;
}

/* Takes versions until the piece is full. *key: of its first chunk. 0: there is nothing. */
static int fill_piece(struct merge_work *w, uint32_t *family, uint64_t *chunk) {
    uint32_t last_family = 0;
    uint64_t last_chunk = 0;
    int any = 0;
    w->piece.entry_count = w->piece.interval_count = w->check_count = 0;
    for (uint64_t i = 0; i < w->carried_count; i++) {
        int err = add_interval(w, &w->carried[i]);
        if (err < 0)
            return err;
    }
    w->carried_in = w->carried_count;
    w->carried_count = 0;
    w->continues = 0;
    while (w->has_item) {
        uint32_t this_family = item_family(w);
        uint64_t this_chunk = item_chunk(w);
        int same_chunk = any && this_family == last_family && this_chunk == last_chunk;
        if (any && is_full(w) && (!same_chunk || is_more_than_full(w))) {
            w->continues = same_chunk;
            int err = cut_intervals(w, this_family, this_chunk + (same_chunk ? 1 : 0));
            return err < 0 ? err : 1;
        }
        if (!any) {
            *family = this_family;
            *chunk = this_chunk;
        }
        any = 1;
        last_family = this_family;
        last_chunk = this_chunk;
        int err = 0;
        if (w->item.is_interval)
            err = add_interval(w, &w->item.interval);
        else
            add_entry(w);
        if (err == 0)
            err = next_item(w);
        if (err < 0)
            return err;
    }
    return any;
}

static int put_piece(struct merge_work *w, uint32_t family, uint64_t chunk, int continues) {
    uint8_t *bytes;
    size_t len;
    struct run_header h;
    struct merged_table *t = &w->table;
    if (t->piece_count == w->piece_room) {
        uint32_t room = w->piece_room ? 2 * w->piece_room : 16;
        struct merged_piece *grown = realloc(t->pieces, room * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        t->pieces = grown;
        w->piece_room = room;
    }
    if (t->piece_count == MERGED_PIECES_MAX)
        return ERR_TOOBIG;
    w->piece.without_times = 1;
    int err = run_make(&w->piece, t->identity + t->piece_count, &bytes, &len);
    if (err < 0)
        return err;
    must(run_header_decode(bytes, &h) == 0);
    t->pieces[t->piece_count++] =
        (struct merged_piece){.offset = w->at,
                              .bytes = len,
                              .chunk = chunk,
                              .family = family,
                              .directory_bytes = (uint32_t)run_directory_bytes(&h),
                              .continues = (uint32_t)continues};
    int64_t n = w->files.ops->write(w->files.ctx, w->file, bytes, len, w->at);
    free(bytes);
    w->at += len;
    return n < 0 ? (int)n : w->files.ops->sync(w->files.ctx, w->file);
}

/* ---- The whole ---- */

static int begin(struct merge_work *w) {
    const struct file_ops *ops = w->files.ops;
    w->begun = 1;
    w->file = -1;
    w->entry_room = w->entries_max + ENTRIES_BEYOND(w);
    w->check_room = (w->entry_room + ENTRIES_BEYOND(w)) * BLOCKS_PER_ENTRY + 4 * CHUNK_BLOCKS +
                    (uint64_t)ENTRIES_BEYOND(w) * CHUNK_BLOCKS;
    w->piece.entries = malloc(w->entry_room * sizeof *w->piece.entries);
    w->checks = malloc(w->check_room * sizeof *w->checks);
    if (!w->piece.entries || !w->checks)
        return ERR_NOMEM;
    int err = ops->make_dir(w->files.ctx, MERGE_DIR);
    if (err == 0)
        err = ops->sync_dir(w->files.ctx, ".");
    if (err < 0 && err != ERR_EXISTS)
        return err;
    ops->remove(w->files.ctx, w->path_new); /* what a merge has left that could not remove it */
    w->file = ops->open(w->files.ctx, w->path_new, FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE);
    if (w->file < 0)
        return w->file;
    w->at = MERGED_PAGE_BYTES;
    err = merge_read_open(&w->reader, &w->files, w->sources, w->source_count);
    return err < 0 ? err : next_item(w);
}

static int finish(struct merge_work *w) {
    const struct file_ops *ops = w->files.ops;
    uint8_t header[MERGED_PAGE_BYTES];
    uint8_t *table = malloc(merged_table_bytes(&w->table));
    if (!table)
        return ERR_NOMEM;
    merged_encode(&w->table, w->at, table, header);
    int64_t n = ops->write(w->files.ctx, w->file, table, merged_table_bytes(&w->table), w->at);
    free(table);
    if (n >= 0)
        n = ops->write(w->files.ctx, w->file, header, sizeof header, 0);
    int err = n < 0 ? (int)n : ops->sync(w->files.ctx, w->file);
    if (err == 0)
        err = ops->rename(w->files.ctx, w->path_new, w->path);
    if (err < 0)
        return err;
    err = ops->sync_dir(w->files.ctx, MERGE_DIR);
    if (err < 0)
        ops->remove(w->files.ctx, w->path);
    return err;
}

static int step(struct merge_work *w) {
    uint32_t family = 0;
    uint64_t chunk = 0;
    int err = w->begun ? 0 : begin(w), continues = w->continues;
    if (err == 0)
        err = fill_piece(w, &family, &chunk);
    if (err > 0)
        err = put_piece(w, family, chunk, continues);
    else if (err == 0 && w->table.piece_count > 0)
        return finish(w);
    else if (err == 0) /* runs without versions: one piece that has none */
        err = put_piece(w, 0, 0, 0);
    return err < 0 ? err : 1;
}

static void close_file(const struct merge_work *w, int *file) {
    if (*file >= 0)
        w->files.ops->close(w->files.ctx, *file);
    *file = -1;
}

/* What is left is for the log. */
static int check_space(const struct merge_work *w) {
    uint64_t total, left, need = MERGE_LEAVES_BYTES;
    for (uint32_t i = 0; i < w->source_count && !w->begun; i++)
        for (uint32_t k = 0; k < w->sources[i].piece_count; k++)
            need += w->sources[i].pieces[k].size_bytes;
    int err = w->files.ops->space(w->files.ctx, &total, &left);
    return err < 0 ? err : left < need ? ERR_NOSPC : 0;
}

int merge_step(struct merge_work *w) {
    int err = check_space(w);
    if (err == 0)
        err = step(w);
    if (err > 0 || !w->begun)
        return err;
    if (err < 0 && w->file >= 0)
        w->files.ops->remove(w->files.ctx, w->path_new);
    merge_read_rewind(&w->reader);
    close_file(w, &w->file);
    return err;
}

void merge_free(struct merge_work *w) {
    merge_read_free(&w->reader);
    for (uint32_t i = 0; i < w->source_count; i++)
        free(w->sources[i].pieces);
    free(w->piece.entries);
    free(w->piece.intervals);
    free(w->checks);
    free(w->carried);
    merged_free(&w->table);
}

int merge_read_table(const struct file_system *files, const char *path, struct merged_table *t) {
    uint8_t header[MERGED_PAGE_BYTES], *table = NULL;
    uint64_t offset = 0, bytes = 0;
    int file = files->ops->open(files->ctx, path, FILE_READ);
    if (file < 0)
        return file;
    int64_t n = files->ops->read(files->ctx, file, header, sizeof header, 0);
    int err = n < 0 ? (int)n : n < (int64_t)sizeof header ? ERR_FORMAT : 0;
    if (err == 0)
        err = merged_header_decode(header, &offset, &bytes);
    if (err == 0 && !(table = malloc(bytes)))
        err = ERR_NOMEM;
    if (err == 0) {
        n = files->ops->read(files->ctx, file, table, bytes, offset);
        err = n < 0 ? (int)n : n < (int64_t)bytes ? ERR_FORMAT : merged_decode(header, table, t);
    }
    free(table);
    files->ops->close(files->ctx, file);
    return err;
}
