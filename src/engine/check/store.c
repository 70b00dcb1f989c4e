/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that nobody uses. Slots are looked at one by one; what they put into the log's chain is then judged by
 * the rules of a start (log/chain.c), so that what a crash leaves at the end is no damage, and what is missing
 * in the middle is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/check/check_priv.h"
#include "engine/log/log_priv.h"

/* ---- The store header ---- */

static int read_copies(const struct file_system *fs, uint8_t *blocks) {
    int file = fs->ops->open(fs->ctx, STORE_FILE, FILE_READ);
    if (file < 0)
        return file;
    memset(blocks, 0, STORE_COPIES * BLOCK_BYTES);
    int64_t n = fs->ops->read(fs->ctx, file, blocks, STORE_COPIES * BLOCK_BYTES, 0);
    fs->ops->close(fs->ctx, file);
    return n < 0 ? (int)n : 0;
}

int check_identity(const struct file_system *files, struct store_header *h) {
    uint8_t blocks[STORE_COPIES * BLOCK_BYTES];
    int err = read_copies(files, blocks);
    return err < 0 ? err : store_decode_copies(blocks, h);
}

static void tell_header(struct check *c, enum check_code code, enum check_grade grade,
                        uint64_t offset) {
    check_tell(c, (struct check_finding){.code = code,
                                         .grade = grade,
                                         .file = STORE_FILE,
                                         .offset = offset,
                                         .bytes = BLOCK_BYTES});
}

static int check_headers(struct check *c, struct store_header *h) {
    uint8_t blocks[STORE_COPIES * BLOCK_BYTES];
    struct store_header one;
    int err = read_copies(&c->files, blocks);
    if (err < 0)
        return err;
    err = store_decode_copies(blocks, h);
    if (err < 0) {
        tell_header(c, CHECK_STORE_HEADERS, CHECK_DAMAGE, 0);
        return err;
    }
    for (uint32_t i = 0; i < STORE_COPIES; i++)
        if (store_decode(blocks + i * BLOCK_BYTES, &one) < 0)
            tell_header(c, CHECK_STORE_HEADER, CHECK_MENDED, i * BLOCK_BYTES);
        else if (memcmp(one.id, h->id, STORE_ID_BYTES) != 0)
            tell_header(c, CHECK_FILE_FOREIGN, CHECK_DAMAGE, i * BLOCK_BYTES);
    c->catalogue = h->catalogue;
    return 0;
}

/* ---- Slots ---- */

static void tell_slot(struct check *c, const struct check_slot_state *s, enum check_code code,
                      enum check_grade grade, uint64_t offset, uint64_t bytes) {
    check_tell(c, (struct check_finding){.code = code,
                                         .grade = grade,
                                         .file = s->path,
                                         .offset = offset,
                                         .bytes = bytes,
                                         .segment = s->segment});
}

static int is_freed(const struct check *c, uint32_t segment) {
    return c->segment_freed && c->segment_freed(c->ctx, segment);
}

static int add_sealed_link(struct check *c, uint32_t slot, const struct segment_footer *f) {
    struct recovery *r = &c->chain;
    struct link *k = link_add(&r->links, &r->link_count, &r->link_room);
    if (!k)
        return ERR_NOMEM;
    *k = link_of_footer(slot, f);
    return 0;
}

/* Frames of a segment that is not sealed. */
static int take_frames(struct check *c, uint32_t slot, struct check_slot_state *s) {
    struct recovery *r = &c->chain;
    for (uint32_t i = 0; i < s->frame_count; i++) {
        struct link *k = link_add(&r->links, &r->link_count, &r->link_room);
        if (!k)
            return ERR_NOMEM;
        check_frame(c, s, &s->frames[i], s->frames[i].last_sequence, 0);
        *k = s->frames[i];
        k->slot = slot;
    }
    return 0;
}

static int check_unsealed(struct check *c, uint32_t slot, struct check_slot_state *s) {
    struct segment_header h;
    const uint8_t *footer = c->buffer + c->segment_bytes - BLOCK_BYTES;
    int err = segment_header_decode(c->buffer, &h);
    if (err == 0 && (memcmp(h.store_id, c->store_id, STORE_ID_BYTES) != 0 || h.file != s->file)) {
        tell_slot(c, s, CHECK_FILE_FOREIGN, CHECK_DAMAGE, 0, BLOCK_BYTES);
        return 0;
    }
    s->segment = err == 0 ? h.segment : 0;
    if (err < 0) {
        err = check_list_frames(c, s, c->segment_bytes - BLOCK_BYTES);
        s->segment = s->frame_count > 0 ? s->frames[0].segment : 0;
        s->frame_count = 0;
        if (err < 0)
            return err;
        /* Nothing was ever written there, or it is as good as that. */
        if (s->segment == 0 || is_freed(c, s->segment))
            return 0;
        tell_slot(c, s, CHECK_SEGMENT_HEADER, CHECK_MENDED, 0, BLOCK_BYTES);
    }
    c->chain.slots[slot].segment = s->segment;
    if (is_freed(c, s->segment))
        return 0;
    c->chain.slots[slot].had_footer = !bytes_are_zero(footer, BLOCK_BYTES);
    err = check_list_frames(c, s, c->segment_bytes - BLOCK_BYTES);
    if (err == 0)
        err = take_frames(c, slot, s);
    if (err == 0 && c->chain.slots[slot].had_footer)
        tell_slot(c, s, CHECK_FOOTER, CHECK_MENDED, c->segment_bytes - BLOCK_BYTES, BLOCK_BYTES);
    c->segments += s->frame_count > 0;
    return err;
}

static int look_at_slot(struct check *c, uint32_t slot, struct check_slot_state *s) {
    const uint8_t *footer = c->buffer + c->segment_bytes - BLOCK_BYTES;
    int err = check_read_slot(c, s);
    if (err < 0)
        return 0; /* told */
    if (footer_decode(footer, c->segment_bytes, &s->footer) < 0) {
        memset(&s->footer, 0, sizeof s->footer);
        return check_unsealed(c, slot, s);
    }
    s->segment = c->chain.slots[slot].segment = s->footer.segment;
    if (memcmp(s->footer.store_id, c->store_id, STORE_ID_BYTES) != 0 || s->footer.file != s->file) {
        tell_slot(c, s, CHECK_FILE_FOREIGN, CHECK_DAMAGE, c->segment_bytes - BLOCK_BYTES,
                  BLOCK_BYTES);
        return 0;
    }
    if (is_freed(c, s->segment))
        return 0;
    for (uint32_t i = 0; i < slot; i++)
        if (c->sealed[i].segment == s->segment)
            tell_slot(c, s, CHECK_SEGMENT_TWICE, CHECK_DAMAGE, 0, c->segment_bytes);
    err = check_sealed_segment(c, s, &c->sealed[slot]);
    if (err == 0 && !(s->footer.flags & FOOTER_COLD))
        err = add_sealed_link(c, slot, &s->footer);
    return err;
}

static int check_one(struct check *c, uint32_t slot) {
    struct check_slot_state *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->file = c->chain.slots[slot].file;
    int err = look_at_slot(c, slot, s);
    free(s->frames);
    free(s);
    return err;
}

struct slot_names {
    struct check *c;
    uint32_t room;
    int err;
};

static void each_slot(void *arg, const char *name) {
    struct slot_names *n = arg;
    struct recovery *r = &n->c->chain;
    uint32_t file;
    char extra[64];
    if (!slot_of_name(name, &file)) {
        snprintf(extra, sizeof extra, LOG_DIR "/%s", name);
        check_tell(n->c, (struct check_finding){
                             .code = CHECK_FILE_EXTRA, .grade = CHECK_NOTE, .file = extra});
        return;
    }
    if (r->slot_count == n->room) {
        uint32_t room = n->room ? 2 * n->room : 256;
        void *grown = realloc(r->slots, room * sizeof *r->slots);
        if (!grown) {
            n->err = ERR_NOMEM;
            return;
        }
        r->slots = grown;
        n->room = room;
    }
    r->slots[r->slot_count++] = (struct scanned_slot){.file = file};
}

static int check_slots(struct check *c) {
    struct slot_names names = {.c = c};
    struct recovery *r = &c->chain;
    int err = c->files.ops->list(c->files.ctx, LOG_DIR, each_slot, &names);
    if (err < 0 || names.err < 0)
        return err < 0 ? err : names.err;
    recovery_sort_slots(r);
    c->sealed = calloc(r->slot_count + 1u, sizeof *c->sealed);
    if (!c->sealed)
        return ERR_NOMEM;
    err = 0;
    for (uint32_t i = 0; i < r->slot_count && err == 0; i++)
        err = check_one(c, i);
    recovery_sort_links(r);
    return err;
}

/* ---- The chain ---- */

static void tell_link(struct check *c, const struct link *k, enum check_code code, uint64_t first,
                      uint64_t last) {
    char path[LOG_PATH_BYTES];
    log_slot_path(c->chain.slots[k->slot].file, path);
    check_tell(c, (struct check_finding){.code = code,
                                         .grade = CHECK_DAMAGE,
                                         .file = path,
                                         .offset = k->offset,
                                         .bytes = k->end - k->offset,
                                         .segment = k->segment,
                                         .first_sequence = first,
                                         .last_sequence = last});
}

/* What this link follows. */
static void check_previous(struct check *c, const struct link *k, const struct link *last) {
    if (last ? frame_name_same(k->previous, last->name) : k->previous.segment == 0)
        return;
    if (is_freed(c, k->previous.segment))
        return;
    tell_link(c, k, CHECK_CHAIN, last ? last->last_sequence + 1 : 1, k->follows);
}

/* Frames that count and do not check whole; of those of sealed segments it has been told. */
static int tell_bad_frame(struct check *c, const struct link *k) {
    struct check_slot_state *s = calloc(1, sizeof *s);
    if (!s)
        return ERR_NOMEM;
    s->file = c->chain.slots[k->slot].file;
    s->segment = k->segment;
    if (check_read_slot(c, s) == 0) {
        struct link again = *k;
        check_frame(c, s, &again, k->keep_to, 1);
        c->frames--; /* counted before */
    }
    free(s);
    return 0;
}

static uint64_t sealed_up_to(void *ctx) {
    const struct check *c = ctx;
    return c->sealed_up_to ? c->sealed_up_to(c->ctx) : 0;
}
static int segment_freed(void *ctx, uint32_t segment) {
    return is_freed(ctx, segment);
}

static void check_end_of_log(struct check *c, const struct store_header *h) {
    const struct recovery *r = &c->chain;
    const struct link *tail = r->tail < 0 ? NULL : &r->links[r->tail];
    uint64_t newest = tail ? tail->last_sequence : 0, epoch = 0;
    c->last_sequence = newest;
    for (uint32_t i = 0; i < r->link_count; i++)
        epoch = max_u64(epoch, r->links[i].last_epoch);
    if (epoch > h->epoch)
        tell_header(c, CHECK_STORE_HEADER_OLD, CHECK_DAMAGE, 0);
    /* Up to there, all was there when the header was written; what cold segments stand for was, too. */
    for (uint32_t i = 0; i < r->slot_count; i++)
        newest = max_u64(newest, c->sealed[i].last_sequence);
    char path[LOG_PATH_BYTES] = LOG_DIR;
    for (uint32_t i = 0; i < r->slot_count; i++)
        if (r->slots[i].segment == h->ended.segment)
            log_slot_path(r->slots[i].file, path);
    if (h->ended.sequence > newest && h->ended.segment != 0 && !is_freed(c, h->ended.segment))
        check_tell(c, (struct check_finding){.code = CHECK_LOG_END,
                                             .grade = CHECK_DAMAGE,
                                             .file = path,
                                             .segment = h->ended.segment,
                                             .offset = h->ended.offset,
                                             .first_sequence = newest + 1,
                                             .last_sequence = h->ended.sequence});
}

int check_chain(struct check *c, const struct store_header *h) {
    struct recovery *r = &c->chain;
    struct log_report report = {0};
    const struct log_env env = {
        .segment_freed = segment_freed, .sealed_up_to = sealed_up_to, .catalogue_ctx = c};
    const struct link *last = NULL;
    int err = 0;
    r->header = *h;
    recovery_chain(r, &env, &report);
    for (uint32_t i = 0; i < r->link_count && err == 0; i++) {
        const struct link *k = &r->links[i];
        if (k->fate != LINK_COUNTS) {
            if (k->sealed)
                tell_link(c, k, CHECK_CHAIN, k->first_sequence, k->last_sequence);
            continue;
        }
        check_previous(c, k, last);
        if (!k->sealed && (k->damaged || k->bad_blocks > 0))
            err = tell_bad_frame(c, k);
        last = k;
    }
    check_end_of_log(c, h);
    return err;
}

int check_store(struct check *c) {
    struct store_header h;
    int err = check_headers(c, &h);
    if (err < 0)
        return err;
    err = check_begin(c, &h);
    if (err == 0)
        err = check_slots(c);
    if (err == 0)
        err = check_chain(c, &h);
    if (err == 0)
        err = check_merged_all(c);
    check_end(c);
    return err;
}
