/* SPDX-License-Identifier: Apache-2.0 */
/* Runs: by themselves, against the frames that they were made of, and made again of these. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "engine/check/check_priv.h"
#include "engine/index/merge_job.h"
#include "engine/index/run.h"

static void any_time(void *ctx, uint64_t sequence, uint64_t time_ns) {
    (void)ctx, (void)sequence, (void)time_ns;
}

static int check_leaves(const struct run_directory *d, const uint8_t *bytes,
                        struct check_run_totals *out,
                        void (*each)(void *ctx, const struct run_entry *e, const uint8_t *crc),
                        void *ctx) {
    struct leaf_reader r;
    int more = 0;
    for (uint32_t i = 0; i < d->header.leaves && more == 0; i++) {
        const uint8_t *page = bytes + ((size_t)d->header.first_leaf_page + i) * RUN_PAGE_BYTES;
        if (leaf_check(page, d->header.identity, i) < 0)
            return ERR_INTEGRITY;
        if (leaf_seek(&r, &d->tables, page, 0, 0) < 0)
            return ERR_FORMAT;
        while ((more = leaf_next(&r)) > 0) {
            out->entries++;
            if (place_kind(r.entry.place) == PLACE_DATA)
                out->blocks += r.entry.blocks;
            if (each)
                each(ctx, &r.entry, r.crc);
        }
    }
    return more;
}

int check_run_bytes(const uint8_t *bytes, uint64_t len, uint64_t identity,
                    struct check_run_totals *out,
                    void (*each)(void *ctx, const struct run_entry *e, const uint8_t *crc),
                    void *ctx) {
    struct run_directory d;
    *out = (struct check_run_totals){0};
    uint8_t *copy = malloc(len + 1);
    if (!copy)
        return ERR_NOMEM;
    memcpy(copy, bytes, len);
    int err = run_directory_open(&d, copy, len, identity);
    if (err < 0) {
        free(copy);
        return err;
    }
    err = d.header.bytes == len ? check_leaves(&d, bytes, out, each, ctx) : ERR_FORMAT;
    out->intervals = d.interval_count;
    if (err == 0 && (d.header.entries != out->entries || d.header.blocks != out->blocks))
        err = ERR_FORMAT;
    run_directory_close(&d);
    return err < 0 ? err : run_times(bytes, len, any_time, NULL);
}

/* ---- Against the pages ---- */

struct against {
    struct check *c;
    const struct check_slot_state *s;
    int is_cold, disagrees;
};

/* A block of a cold segment is known by its run alone. */
static void check_cold_page(struct against *a, struct check_page *p, const struct run_entry *e,
                            uint32_t i, uint32_t crc) {
    struct check *c = a->c;
    uint64_t offset = (uint64_t)(p - c->pages) * BLOCK_BYTES;
    *p = (struct check_page){.block = e->block + i,
                             .sequence = e->sequence,
                             .family = e->family,
                             .crc = crc,
                             .is_data = 1};
    c->blocks++;
    if (version_crc(p->family, p->block, c->buffer + offset, BLOCK_BYTES) == crc)
        return;
    p->is_bad = 1;
    check_tell(c, (struct check_finding){.code = CHECK_BLOCK,
                                         .grade = CHECK_DAMAGE,
                                         .file = a->s->path,
                                         .offset = offset,
                                         .bytes = BLOCK_BYTES,
                                         .segment = a->s->segment,
                                         .first_sequence = p->sequence,
                                         .family = p->family,
                                         .block = p->block});
}

static void against_pages(void *ctx, const struct run_entry *e, const uint8_t *crc) {
    struct against *a = ctx;
    struct check *c = a->c;
    if (place_kind(e->place) != PLACE_DATA)
        return;
    uint32_t first = place_offset_bytes(e->place), end = a->s->footer.data_end;
    if (e->segment != a->s->segment || first % BLOCK_BYTES != 0 ||
        place_stored_bytes(e->place) != BLOCK_BYTES || first > end ||
        (uint64_t)e->blocks * BLOCK_BYTES > end - first) {
        a->disagrees = 1;
        return;
    }
    for (uint32_t i = 0; i < e->blocks; i++) {
        struct check_page *p = &c->pages[first / BLOCK_BYTES + i];
        uint32_t want = get_le32(crc + 4 * i);
        if (a->is_cold && !p->is_indexed)
            check_cold_page(a, p, e, i, want);
        if (!p->is_data || p->is_indexed || p->family != e->family || p->block != e->block + i ||
            p->sequence != e->sequence || p->crc != want ||
            (!a->is_cold && p->timeline != e->timeline))
            a->disagrees = 1;
        p->is_indexed = 1;
    }
}

static void tell_run(struct check *c, const struct check_slot_state *s, enum check_code code,
                     int repaired) {
    const struct segment_footer *f = &s->footer;
    check_tell(c, (struct check_finding){.code = code,
                                         .grade = repaired ? CHECK_MENDED : CHECK_DAMAGE,
                                         .file = s->path,
                                         .offset = f->run_offset,
                                         .bytes = f->run_bytes,
                                         .segment = s->segment,
                                         .first_sequence = f->first_sequence,
                                         .last_sequence = f->last_sequence,
                                         .families = f->families,
                                         .family_count =
                                             f->flags & FOOTER_MORE_FAMILIES ? 0 : f->family_count,
                                         .was_repaired = repaired});
}

int check_segment_run(struct check *c, struct check_slot_state *s, struct check_sealed *out) {
    const struct segment_footer *f = &s->footer;
    struct against a = {.c = c, .s = s, .is_cold = (f->flags & FOOTER_COLD) != 0};
    struct check_run_totals n = {0};
    const uint8_t *run = c->buffer + f->run_offset;
    c->runs++;
    int err = crc32c(0, run, f->run_bytes) == f->run_crc ? 0 : ERR_INTEGRITY;
    if (err == 0)
        err = check_run_bytes(run, f->run_bytes, run_identity(s->segment), &n, against_pages, &a);
    if (err == ERR_NOMEM)
        return err;
    if (err < 0) {
        int remade = !a.is_cold && (c->flags & CHECK_REPAIR) ? check_remake_run(c, s) : 0;
        if (remade < 0)
            return remade;
        tell_run(c, s, CHECK_RUN, remade);
        return 0;
    }
    out->entries = n.entries;
    out->run_is_whole = 1;
    for (uint32_t i = 0; i < c->segment_bytes / BLOCK_BYTES; i++)
        a.disagrees |= c->pages[i].is_data && !c->pages[i].is_indexed;
    if (s->is_damaged)
        return 0; /* that is told, and they cannot be compared */
    if (a.disagrees || n.entries + n.intervals != f->versions)
        tell_run(c, s, CHECK_RUN_DISAGREES, 0);
    return 0;
}

/* ---- Made again ---- */

struct remake {
    struct run_input in;
    uint64_t entry_room, interval_room;
    uint32_t *checks; /* by page of the segment */
};

static int add_entry(struct remake *m, const struct run_entry *e) {
    if (m->in.entry_count == m->entry_room) {
        uint64_t room = m->entry_room ? 2 * m->entry_room : 256;
        struct run_entry *grown = realloc(m->in.entries, room * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        m->in.entries = grown;
        m->entry_room = room;
    }
    m->in.entries[m->in.entry_count++] = *e;
    return 0;
}

static int add_interval(struct remake *m, const struct run_interval *i) {
    if (m->in.interval_count == m->interval_room) {
        uint64_t room = m->interval_room ? 2 * m->interval_room : 256;
        struct run_interval *grown = realloc(m->in.intervals, room * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        m->in.intervals = grown;
        m->interval_room = room;
    }
    m->in.intervals[m->in.interval_count++] = *i;
    return 0;
}

/* As the memtable does: data are cut at chunks, the rest is an interval if it leaves its chunk. */
static int add_record(struct remake *m, const struct check_slot_state *s, uint32_t page,
                      const struct frame_walk *w, uint64_t time_ns) {
    const struct record *r = &w->record;
    uint64_t end = r->block + r->blocks;
    struct run_entry e = {.family = r->family,
                          .timeline = r->timeline,
                          .segment = s->segment,
                          .sequence = w->record_sequence,
                          .time_ns = time_ns,
                          .place = place_of_kind(r->kind),
                          .ref_timeline = r->ref_timeline,
                          .ref_sequence = r->ref_sequence};
    int err = 0;
    if (r->blocks == 0)
        return 0;
    if (r->kind != PLACE_DATA && chunk_of_block(end - 1) != chunk_of_block(r->block)) {
        struct run_interval i = {.family = r->family,
                                 .timeline = r->timeline,
                                 .kind = r->kind,
                                 .ref_timeline = r->ref_timeline,
                                 .block = r->block,
                                 .end_block = end,
                                 .sequence = w->record_sequence,
                                 .time_ns = time_ns,
                                 .ref_sequence = r->ref_sequence};
        return add_interval(m, &i);
    }
    for (uint64_t at = r->block, next; at < end && err == 0; at = next) {
        next = min_u64(end, (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS);
        e.block = at;
        e.blocks = (uint32_t)(next - at);
        if (r->kind == PLACE_DATA) {
            uint32_t first = page + (uint32_t)(at - r->block);
            e.place = place_data(s->segment, first * BLOCK_BYTES);
            e.crc = m->checks + first;
        }
        err = add_entry(m, &e);
    }
    return err;
}

static const uint8_t *page_at(void *ctx, uint32_t page) {
    return (const uint8_t *)ctx + (size_t)page * BLOCK_BYTES;
}

/* Frames from the last to the first; 1: all of them are sound, as far as records go. */
static int collect(struct check *c, const struct check_slot_state *s, struct remake *m) {
    const struct segment_footer *f = &s->footer;
    struct frame_name want = {s->segment, f->last_frame_offset, f->last_frame_crc};
    uint64_t keep_to = f->last_sequence;
    for (uint32_t i = s->frame_count; i-- > 0;) {
        const struct link *k = &s->frames[i];
        struct frame_header h;
        struct frame_walk w;
        int more;
        if (!frame_name_same(k->name, want))
            continue;
        frame_header_decode(c->buffer + k->offset, c->segment_bytes, &h);
        frame_walk_begin(&w, &h, page_at, c->buffer + k->offset);
        while ((more = frame_walk_next(&w)) > 0) {
            uint32_t page = k->offset / BLOCK_BYTES + w.record_page;
            memcpy(m->checks + page, w.crc, record_pages(&w.record) * sizeof w.crc[0]);
            int err = w.record_sequence > keep_to
                          ? 0
                          : add_record(m, s, page, &w, h.time_ns + w.record.delta_us * NS_PER_US);
            if (err < 0)
                return err;
        }
        if (more < 0)
            return 0;
        keep_to = min_u64(keep_to, k->follows);
        want = k->previous;
    }
    return want.segment != s->segment;
}

static int write_run(struct check *c, const struct check_slot_state *s, const uint8_t *run,
                     size_t len) {
    int file = c->files.ops->open(c->files.ctx, s->path, FILE_WRITE);
    if (file < 0)
        return 0;
    int64_t n = c->files.ops->write(c->files.ctx, file, run, len, s->footer.run_offset);
    int good = n == (int64_t)len && c->files.ops->sync(c->files.ctx, file) == 0;
    c->files.ops->close(c->files.ctx, file);
    return good;
}

/* The footer's checksum is the proof. */
int check_remake_run(struct check *c, struct check_slot_state *s) {
    struct remake m = {.checks = calloc(c->segment_bytes / BLOCK_BYTES, sizeof *m.checks)};
    uint8_t *run = NULL;
    size_t len = 0;
    int done = m.checks ? collect(c, s, &m) : ERR_NOMEM;
    if (done > 0)
        done = run_make(&m.in, run_identity(s->segment), &run, &len) == 0 &&
               len == s->footer.run_bytes && crc32c(0, run, len) == s->footer.run_crc &&
               write_run(c, s, run, len);
    free(run);
    free(m.in.entries);
    free(m.in.intervals);
    free(m.checks);
    return done;
}

/* ---- Merged runs ---- */

static void tell_merged(struct check *c, const char *path, enum check_code code, uint64_t offset,
                        uint64_t bytes, const struct merged_table *t) {
    int removed = (c->flags & CHECK_REPAIR) && c->files.ops->remove(c->files.ctx, path) == 0;
    check_tell(c, (struct check_finding){.code = code,
                                         .grade = CHECK_MENDED,
                                         .file = path,
                                         .offset = offset,
                                         .bytes = bytes,
                                         .first_sequence = t ? merged_first_sequence(t) : 0,
                                         .last_sequence = t ? merged_last_sequence(t) : 0,
                                         .was_repaired = removed});
}

static int check_pieces(struct check *c, const char *path, const struct merged_table *t, int file,
                        uint64_t *entries) {
    int err = 0;
    for (uint32_t i = 0; i < t->piece_count && err == 0; i++) {
        const struct merged_piece *p = &t->pieces[i];
        struct check_run_totals n;
        uint8_t *bytes = malloc(p->bytes);
        if (!bytes)
            return ERR_NOMEM;
        int64_t got = c->files.ops->read(c->files.ctx, file, bytes, p->bytes, p->offset);
        err = got == (int64_t)p->bytes
                  ? check_run_bytes(bytes, p->bytes, t->identity + i, &n, NULL, NULL)
                  : ERR_IO;
        free(bytes);
        *entries += err == 0 ? n.entries : 0;
        c->bytes += p->bytes;
        if (err < 0 && err != ERR_NOMEM)
            tell_merged(c, path, CHECK_MERGED, p->offset, p->bytes, t);
    }
    return err;
}

static const struct check_sealed *sealed_of(const struct check *c, uint32_t segment) {
    for (uint32_t i = 0; c->sealed && i < c->chain.slot_count; i++)
        if (c->sealed[i].segment == segment)
            return &c->sealed[i];
    return NULL;
}

/* What all of its segments have, if they are all known and whole. */
static int has_what_they_have(const struct check *c, const struct merged_table *t,
                              uint64_t entries) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->segment_count; i++) {
        const struct check_sealed *s = sealed_of(c, t->segments[i].number);
        if (!s || !s->run_is_whole)
            return 1;
        if (s->first_sequence != t->segments[i].first_sequence ||
            s->last_sequence != t->segments[i].last_sequence)
            return 0;
        sum += s->entries;
    }
    return sum == entries;
}

int check_merged_file(struct check *c, const char *path) {
    struct merged_table t;
    char name[MERGE_PATH_BYTES];
    uint64_t entries = 0;
    int err = merge_read_table(&c->files, path, &t);
    c->merged++;
    if (err == ERR_NOMEM)
        return err;
    if (err < 0) {
        tell_merged(c, path, CHECK_MERGED, 0, BLOCK_BYTES, NULL);
        return 0;
    }
    snprintf(name, sizeof name, MERGE_DIR "/run-%08x-%u", (unsigned)(t.identity >> 32), t.level);
    if (memcmp(t.store_id, c->store_id, STORE_ID_BYTES) != 0 || strcmp(name, path) != 0) {
        tell_merged(c, path, CHECK_FILE_FOREIGN, 0, BLOCK_BYTES, &t);
        merged_free(&t);
        return 0;
    }
    int file = c->files.ops->open(c->files.ctx, path, FILE_READ);
    err = file < 0 ? file : check_pieces(c, path, &t, file, &entries);
    if (file >= 0)
        c->files.ops->close(c->files.ctx, file);
    if (err == 0 && !(c->flags & CHECK_ALONE) && !has_what_they_have(c, &t, entries))
        tell_merged(c, path, CHECK_MERGED_DISAGREES, 0, BLOCK_BYTES, &t);
    merged_free(&t);
    return err == ERR_NOMEM ? err : 0;
}

struct merged_names {
    char (*names)[MERGE_PATH_BYTES];
    uint32_t count, room;
    int err;
};

static void each_merged(void *arg, const char *name) {
    struct merged_names *m = arg;
    if (m->count == m->room) {
        uint32_t room = m->room ? 2 * m->room : 64;
        void *grown = realloc(m->names, room * sizeof *m->names);
        if (!grown) {
            m->err = ERR_NOMEM;
            return;
        }
        m->names = grown;
        m->room = room;
    }
    snprintf(m->names[m->count++], MERGE_PATH_BYTES, MERGE_DIR "/%s", name);
}

int check_merged_all(struct check *c) {
    struct merged_names m = {0};
    int err = c->files.ops->list(c->files.ctx, MERGE_DIR, each_merged, &m);
    err = err == ERR_NOTFOUND || err >= 0 ? m.err : err;
    for (uint32_t i = 0; i < m.count && err == 0; i++) {
        const char *name = m.names[i] + sizeof MERGE_DIR;
        if (strncmp(name, "run-", 4) == 0) {
            err = check_merged_file(c, m.names[i]);
            continue;
        }
        int stray = strncmp(name, "new-", 4) == 0;
        int removed = stray && (c->flags & CHECK_REPAIR) &&
                      c->files.ops->remove(c->files.ctx, m.names[i]) == 0;
        check_tell(c, (struct check_finding){.code = stray ? CHECK_FILE_STRAY : CHECK_FILE_EXTRA,
                                             .grade = CHECK_NOTE,
                                             .file = m.names[i],
                                             .was_repaired = removed});
    }
    free(m.names);
    return err;
}
