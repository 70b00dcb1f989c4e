/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An index that keeps a list of versions and writes it into runs, for tests of the log. Its memory
 * outlives a kill; at attach, what a turn that was rolled back had appended is cut off, and what it
 * had moved goes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "engine/log/rig_test.h"

#define RUN_ENTRY_BYTES 64u

const struct entry *list_index_find(const struct list_index *x, uint64_t sequence) {
    uint32_t low = 0, high = x->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (x->entries[middle].v.sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low < x->count && x->entries[low].v.sequence == sequence ? &x->entries[low] : NULL;
}

void list_index_undo(struct list_index *x, uint64_t last) {
    while (x->undo_count > 0) {
        const struct entry *old = &x->undo[--x->undo_count];
        struct entry *e = &x->entries[list_index_find(x, old->v.sequence) - x->entries];
        e->v.place = old->v.place;
        e->segment = old->segment;
    }
    while (x->count > 0 && x->entries[x->count - 1].v.sequence > last)
        free(x->entries[--x->count].crc);
    x->sealing_count = 0;
    x->in_memory = 0;
    for (struct segment_h h = segment_next(x->a, (struct segment_h){0}); h.v;
         h = segment_next(x->a, h)) {
        const struct segment *s = segment_view(x->a, h);
        if (s->slot.state == SEGMENT_OPEN || s->slot.state == SEGMENT_SEALING)
            x->memory_of[x->in_memory++] = s->number;
    }
}

static void forget_memory_of(struct list_index *x, uint32_t number) {
    for (uint32_t i = 0; i < x->in_memory; i++)
        if (x->memory_of[i] == number)
            x->memory_of[i--] = x->memory_of[--x->in_memory];
}

void list_index_commit(struct list_index *x) {
    x->undo_count = 0;
}

void list_index_reset(struct list_index *x) {
    x->undo_count = 0;
    while (x->count > 0)
        free(x->entries[--x->count].crc);
    x->sealing_count = x->in_memory = 0;
}

static void add(struct list_index *x, uint32_t segment, const struct version *v) {
    if (x->count == x->room) {
        x->room = x->room ? 2 * x->room : 256;
        x->entries = realloc(x->entries, x->room * sizeof *x->entries);
        x->sealing = realloc(x->sealing, x->room * sizeof *x->sealing);
    }
    struct entry *e = &x->entries[x->count++];
    assert_true(x->count == 1 || e[-1].v.sequence < v->sequence);
    *e = (struct entry){.v = *v, .segment = segment};
    e->v.crc = NULL;
    if (place_kind(v->place) == PLACE_DATA) {
        e->crc = malloc(v->blocks * sizeof *e->crc);
        memcpy(e->crc, v->crc, v->blocks * sizeof *e->crc);
        assert_int_equal(place_segment(v->place), segment);
    }
}

static uint32_t run_bytes_max(void *ctx, uint32_t records, uint32_t blocks) {
    (void)ctx;
    return 64 + records * RUN_ENTRY_BYTES + blocks * 4;
}

static int begin(void *ctx, struct segment_h h) {
    struct list_index *x = ctx;
    x->begins++;
    assert_int_not_equal(segment_view(x->a, h)->number, 0);
    if (x->busy || (x->memory_max > 0 && x->in_memory >= x->memory_max))
        return ERR_AGAIN;
    x->memory_of[x->in_memory++] = segment_view(x->a, h)->number;
    return 0;
}

static int append(void *ctx, struct segment_h h, const struct version *v) {
    struct list_index *x = ctx;
    if (x->busy)
        return ERR_AGAIN;
    add(x, segment_view(x->a, h)->number, v);
    return 0;
}

static void moved(void *ctx, struct segment_h h, const struct version *v) {
    struct list_index *x = ctx;
    const struct entry *e = list_index_find(x, v->sequence);
    x->moves++;
    assert_non_null(e);
    struct entry *edit = &x->entries[e - x->entries];
    assert_int_equal(edit->v.block, v->block);
    assert_int_equal(edit->v.time_ns, v->time_ns);
    if (edit->crc)
        assert_memory_equal(edit->crc, v->crc, v->blocks * sizeof *v->crc);
    if (x->undo_count == x->undo_room) {
        x->undo_room = x->undo_room ? 2 * x->undo_room : 256;
        x->undo = realloc(x->undo, x->undo_room * sizeof *x->undo);
    }
    x->undo[x->undo_count++] = *edit;
    edit->v.place = v->place;
    edit->segment = segment_view(x->a, h)->number;
}

static void give_run(struct list_index *x, struct segment_h h) {
    const struct segment *s = segment_view(x->a, h);
    uint8_t *run = calloc(1, run_bytes_max(x, s->records, s->blocks)), *p = run + 8;
    uint32_t versions = 0;
    for (uint32_t i = 0; i < x->count; i++) {
        const struct entry *e = &x->entries[i];
        if (e->segment != s->number)
            continue;
        put_le64(p, e->v.sequence);
        put_le64(p + 8, e->v.time_ns);
        put_le64(p + 16, e->v.block);
        put_le64(p + 24, e->v.blocks);
        put_le32(p + 32, e->v.timeline);
        put_le32(p + 36, e->v.family);
        put_le64(p + 40, e->v.place);
        put_le32(p + 48, e->v.ref_timeline);
        put_le64(p + 52, e->v.ref_sequence);
        p += RUN_ENTRY_BYTES;
        for (uint64_t k = 0; e->crc && k < e->v.blocks; k++, p += 4)
            put_le32(p, e->crc[k]);
        versions++;
    }
    put_le32(run, versions);
    log_write_run(*x->log, h, run, (uint32_t)(p - run), versions);
}

static void seal(void *ctx, struct segment_h h, int now) {
    struct list_index *x = ctx;
    x->seals++;
    assert_int_equal(segment_view(x->a, h)->slot.state, SEGMENT_SEALING);
    if (now)
        give_run(x, h);
    else
        x->sealing[x->sealing_count++] = h.v;
}

void list_index_work(struct list_index *x) {
    while (!x->holds_seals && x->sealing_count > 0 && prng_one_in(&x->prng, 2))
        give_run(x, (struct segment_h){x->sealing[--x->sealing_count]});
}

/* After log_write_run the list has it already; at a cold start it is read from the run. */
static int sealed(void *ctx, struct segment_h h) {
    struct list_index *x = ctx;
    const struct segment *s = segment_view(x->a, h);
    char path[64];
    x->sealeds++;
    assert_int_equal(s->slot.state, SEGMENT_SEALED);
    for (uint32_t i = 0; i < x->in_memory; i++)
        if (x->memory_of[i] == s->number) { /* it is in the list */
            forget_memory_of(x, s->number);
            return 0;
        }
    assert_int_equal(x->starting, 1);
    rig_path(s->file, path);
    int file = x->files.ops->open(x->files.ctx, path, FILE_READ);
    if (file < 0)
        return file;
    uint8_t *run = malloc(s->run_bytes), *p = run + 8;
    int64_t n = x->files.ops->read(x->files.ctx, file, run, s->run_bytes, s->run_offset);
    x->files.ops->close(x->files.ctx, file);
    if (n < 0) {
        free(run);
        return (int)n;
    }
    assert_int_equal(n, s->run_bytes);
    assert_int_equal(crc32c(0, run, s->run_bytes), s->run_crc);
    assert_int_equal(get_le32(run), s->versions);
    for (uint32_t i = 0; i < s->versions; i++) {
        uint32_t crc[LOG_APPEND_BLOCKS_MAX];
        struct version v = {.sequence = get_le64(p),
                            .time_ns = get_le64(p + 8),
                            .block = get_le64(p + 16),
                            .blocks = get_le64(p + 24),
                            .timeline = get_le32(p + 32),
                            .family = get_le32(p + 36),
                            .place = get_le64(p + 40),
                            .ref_timeline = get_le32(p + 48),
                            .ref_sequence = get_le64(p + 52),
                            .crc = crc};
        p += RUN_ENTRY_BYTES;
        for (uint64_t k = 0; place_kind(v.place) == PLACE_DATA && k < v.blocks; k++, p += 4)
            crc[k] = get_le32(p);
        assert_true(p <= run + s->run_bytes);
        add(x, s->number, &v);
    }
    free(run);
    return 0;
}

static void freed(void *ctx, struct segment_h h) {
    struct list_index *x = ctx;
    uint32_t number = segment_view(x->a, h)->number, kept = 0;
    x->freeds++;
    forget_memory_of(x, number);
    for (uint32_t i = 0; i < x->count; i++) {
        if (x->entries[i].segment == number)
            free(x->entries[i].crc);
        else
            x->entries[kept++] = x->entries[i];
    }
    x->count = kept;
}

const struct log_index_ops list_index_ops = {run_bytes_max, begin,  append, moved,
                                             seal,          sealed, freed};
