/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small world around the NBD state machine, for its tests: an arena with the shadow mode on, a
 * transport that keeps turns (input, engine, send; each ends with a commit), a handful of exports on
 * a disk in memory, and a client's vocabulary. Nothing in it checks replies; what must hold for all
 * inputs is checked by must(), so the fuzz target uses it too.
 *
 * Everything but `rx`, `out`, `reason` and the knobs is found again from the arena, and `undo_turns`
 * undoes every turn once before it is done: the state machine cannot keep anything elsewhere.
 *
 * Exports: "" and "disk" 64 KiB of 512; "ro" the same, read-only; "coarse" the same in 4096; "huge"
 * 32 TiB of zeroes; "bad" fails everything; "slow" is "disk", opened when the test says so; "secret"
 * is not permitted, "odd" ambiguous, "gone" fails with an I/O error; others do not exist.
 */
#ifndef PROTO_NBD_NBD_WORLD_TEST_H
#define PROTO_NBD_NBD_WORLD_TEST_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arena/shadow.h"
#include "base/bytes.h"
#include "base/err.h"
#include "proto/nbd/nbd.h"
#include "proto/nbd/nbd_priv.h"

#define DISK_BYTES (64 * KIB)
#define HUGE_BYTES (32 * TIB)
#define RX_BYTES (64 * 1024u)

enum world_volume { VOL_DISK = 1, VOL_RO, VOL_COARSE, VOL_HUGE, VOL_BAD };

/* What a client says. */
struct bytes {
    uint8_t *p;
    size_t len, room;
};

struct world {
    void *allocation;
    unsigned char *base;
    uint64_t pool_bytes;
    struct arena a;
    struct buffer_pool pool;
    struct nbd_env env;
    struct nbd_h n;
    uint8_t *disk;
    uint8_t holes[DISK_BYTES / BLOCK_BYTES];    /* status of each block */
    uint64_t written[DISK_BYTES / BLOCK_BYTES]; /* number of its last write */

    struct bytes say; /* not fed yet */
    struct bytes out; /* what has left to the client */
    size_t out_read;  /* looked at by the test */
    uint8_t rx[RX_BYTES];
    size_t rx_bytes;
    int closing, reason;
    uint64_t order; /* numbers arrivals and replies */

    /* Knobs. */
    int undo_turns;   /* each turn is undone once before it is done */
    int reload_turns; /* the arena is attached anew after each turn */
    int hold_engine;  /* requests stay READY */
    int hold_send;    /* replies stay queued */
    int reverse;      /* requests end last first, and are answered as they end; else replies leave
                           in the order of arrival, however the bytes were cut */
    int moment_waits; /* "slow" as a moment is not known yet */
    int no_room;      /* no message, no request now */
    enum nbd_tls_policy tls;
    uint32_t listed; /* exports in the list */

    /* Seen. */
    uint32_t opens, closes, turns, moments;
    uint64_t last_length;
    uint16_t last_flags;
    uint32_t last_start;
    enum nbd_what what;
};

static inline void put_bytes(struct bytes *b, const void *data, size_t len) {
    if (b->len + len > b->room) {
        b->room = 2 * (b->len + len);
        b->p = realloc(b->p, b->room);
        must(b->p != NULL);
    }
    if (len > 0)
        memcpy(b->p + b->len, data, len);
    b->len += len;
}
static inline void put_be(struct bytes *b, uint64_t v, uint32_t size) {
    uint8_t p[8];
    put_be64(p, v);
    put_bytes(b, p + 8 - size, size);
}

/* The arena. */

static inline struct arena_plan world_plan(const struct world *w, struct arena_table_plan tables[2],
                                           struct arena_region_plan *region) {
    tables[0] = (struct arena_table_plan){&nbd_spec, 4};
    tables[1] = (struct arena_table_plan){&request_spec, 200};
    *region = (struct arena_region_plan){REGION_BUFFERS, 1, w->pool_bytes, BUFFER_PAGE_BYTES};
    return (struct arena_plan){.tables = tables,
                               .table_count = 2,
                               .regions = region,
                               .region_count = 1,
                               .undo_bytes = ARENA_HANDLER_UNDO_BYTES};
}

static inline void world_reload(struct world *w) {
    struct arena_table_plan tables[2];
    struct arena_region_plan region;
    struct arena_plan plan = world_plan(w, tables, &region);
    uint64_t size = arena_plan_bytes(&plan);
    buffer_pool_close(&w->pool);
    arena_detach(&w->a);
    must(arena_qualify(w->base, size, &plan) == ARENA_QUALIFIES);
    must(arena_roll_back(w->base) == ARENA_QUALIFIES);
    must(arena_attach(&w->a, w->base, size, &plan) == 0);
    must(arena_shadow_start(&w->a) == 0);
    must(buffer_pool_open(&w->pool, &w->a, REGION_BUFFERS) == 0);
    for (struct request_h r = request_next(&w->a, (struct request_h){0}); r.v;
         r = request_next(&w->a, r)) {
        const struct request *q = request_view(&w->a, r);
        for (uint32_t i = 0; i < q->data_extents; i++)
            must(buffer_claim(&w->pool, q->data[i]) == 0);
    }
}

/* The surroundings of the state machine. */

static inline int world_export(const char *name, struct nbd_export *x) {
    static const struct {
        const char *name;
        int result;
        struct nbd_export x;
    } exports[] = {
        {"", OK, {{VOL_DISK}, DISK_BYTES, 512, 4096, 0}},
        {"disk", OK, {{VOL_DISK}, DISK_BYTES, 512, 4096, 0}},
        {"ro", OK, {{VOL_RO}, DISK_BYTES, 512, 4096, 1}},
        {"coarse", OK, {{VOL_COARSE}, DISK_BYTES, 4096, 65536, 0}},
        {"huge", OK, {{VOL_HUGE}, HUGE_BYTES, 512, 4096, 0}},
        {"bad", OK, {{VOL_BAD}, DISK_BYTES, 512, 4096, 0}},
        {"slow", ERR_AGAIN, {{0}, 0, 0, 0, 0}},
        {"secret", ERR_PERM, {{0}, 0, 0, 0, 0}},
        {"odd", ERR_AMBIGUOUS, {{0}, 0, 0, 0, 0}},
        {"gone", ERR_IO, {{0}, 0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof exports / sizeof exports[0]; i++)
        if (strcmp(exports[i].name, name) == 0) {
            *x = exports[i].x;
            return exports[i].result;
        }
    return ERR_NOTFOUND;
}

static inline int world_open(void *ctx, struct nbd_h n, const uint8_t *name, uint32_t name_bytes,
                             struct nbd_export *out) {
    struct world *w = ctx;
    char text[NBD_EXPORT_NAME_MAX + 1] = {0};
    must(nbd_h_same(n, w->n) && name_bytes <= NBD_EXPORT_NAME_MAX);
    memcpy(text, name, name_bytes);
    w->opens++;
    return world_export(text, out);
}

static inline void world_close(void *ctx, struct nbd_h n, struct volume_h volume) {
    struct world *w = ctx;
    w->closes++;
}

static inline uint32_t world_text(void *ctx, struct volume_h volume, enum nbd_text which,
                                  uint8_t *out) {
    if (which == NBD_TEXT_DESCRIPTION && volume.v == VOL_RO)
        return 0;
    const char *text = which == NBD_TEXT_NAME ? "the-name" : "a disk in memory";
    memcpy(out, text, strlen(text));
    return (uint32_t)strlen(text);
}

/* "seq:7" to "seq:9" are those, "old" is refused with a sentence, "gone" without. */
static inline int world_moment(void *ctx, struct nbd_h n, struct volume_h volume,
                               const uint8_t *text, uint32_t bytes, struct nbd_moment *out) {
    static const char why[] = "that is too long ago";
    struct world *w = ctx;
    must(volume.v != 0 && bytes > 0 && bytes <= NBD_MOMENT_MAX);
    w->moments++;
    if (bytes == 4 && memcmp(text, "slow", 4) == 0 && w->moment_waits)
        return ERR_AGAIN;
    out->sequence = bytes == 4 ? 8 : text[bytes - 1] - (uint64_t)'0';
    if ((bytes == 4 && memcmp(text, "slow", 4) == 0) ||
        (bytes == 5 && memcmp(text, "seq:", 4) == 0))
        return OK;
    if (bytes == 3 && memcmp(text, "old", 3) == 0) {
        memcpy(out->why, why, sizeof why);
        out->why_bytes = sizeof why - 1;
        return ERR_RANGE;
    }
    return ERR_NOTFOUND;
}

/* "export-0001", each with a description of 200 bytes. */
static inline int world_list(void *ctx, uint64_t *cursor, struct nbd_listed *out) {
    struct world *w = ctx;
    if (*cursor >= w->listed)
        return 0;
    ++*cursor;
    for (uint64_t i = 0, v = *cursor; i < 4; i++, v /= 10)
        out->name[10 - i] = (uint8_t)('0' + v % 10);
    memcpy(out->name, "export-", 7);
    out->name_bytes = 11;
    memset(out->description, 'd', 200);
    out->description_bytes = 200;
    return 1;
}

static inline struct request_h world_request(struct world *w, uint64_t data_bytes) {
    struct extent data[REQUEST_EXTENTS];
    int extents = 0;
    if (w->no_room || request_room(&w->a) == 0)
        return (struct request_h){0};
    if (data_bytes > 0)
        extents = buffer_take(&w->pool, buffer_pages_for(data_bytes), data, REQUEST_EXTENTS);
    if (extents < 0)
        return (struct request_h){0};
    struct request_h h = request_new(&w->a, REQUEST_RECEIVING);
    struct request *r = request_edit(&w->a, h);
    memcpy(r->data, data, (size_t)extents * sizeof data[0]);
    r->data_extents = (uint8_t)extents;
    r->conn = (struct conn_h){1};
    return h;
}

static inline uint8_t *world_message(void *ctx, struct nbd_h n, uint32_t bytes) {
    struct world *w = ctx;
    must(bytes > 0 && bytes <= NBD_MESSAGE_BYTES_MAX);
    struct request_h h = world_request(w, bytes <= REQUEST_HEAD_BYTES ? 0 : bytes);
    if (!h.v)
        return NULL;
    struct request *r = request_edit(&w->a, h);
    r->op = REQUEST_MESSAGE;
    r->slot.state = REQUEST_DONE;
    r->sequence = r->arrival = ++w->order;
    if (bytes <= REQUEST_HEAD_BYTES) {
        r->head_bytes = bytes;
        return r->head;
    }
    r->reply_data_bytes = bytes;
    uint64_t run;
    return request_data_at(&w->pool, r, 0, &run);
}

static inline struct request_h world_request_new(void *ctx, struct nbd_h n, uint32_t data_start,
                                                 uint32_t data_bytes) {
    struct world *w = ctx;
    struct request_h h = world_request(w, data_bytes ? (uint64_t)data_start + data_bytes : 0);
    if (h.v) {
        struct request *r = request_edit(&w->a, h);
        r->data_start = data_start;
        r->arrival = ++w->order;
    }
    return h;
}

static inline void world_submit(void *ctx, struct nbd_h n, struct request_h r) {
    struct world *w = ctx;
    const struct request *q = request_view(&w->a, r);
    must(q->slot.state == REQUEST_READY && q->volume.v != 0);
    must(q->op == REQUEST_FLUSH || q->length_bytes > 0);
    w->last_length = q->length_bytes;
    w->last_flags = q->flags;
    w->last_start = q->data_start;
}

static inline enum nbd_tls_policy world_tls(void *ctx) {
    return ((struct world *)ctx)->tls;
}

static const struct nbd_env_ops world_ops = {
    .export_open = world_open,
    .export_close = world_close,
    .export_text = world_text,
    .export_list = world_list,
    .moment = world_moment,
    .tls = world_tls,
    .message = world_message,
    .request_new = world_request_new,
    .submit = world_submit,
};

/* The disk. */

static inline void world_copy(struct world *w, const struct request *q, int to_disk) {
    for (uint64_t at = 0, run; at < q->length_bytes; at += run) {
        unsigned char *p = request_data_at(&w->pool, q, at, &run);
        run = min_u64(run, q->length_bytes - at);
        if (q->volume.v == VOL_HUGE)
            memset(p, to_disk ? *p : 0, run);
        else if (to_disk)
            memcpy(w->disk + q->offset_bytes + at, p, run);
        else
            memcpy(p, w->disk + q->offset_bytes + at, run);
    }
}

static inline void world_mark(struct world *w, const struct request *q, uint8_t status) {
    if (q->volume.v == VOL_HUGE)
        return;
    uint64_t end = q->offset_bytes + q->length_bytes;
    for (uint64_t b = q->offset_bytes / BLOCK_BYTES; b * BLOCK_BYTES < end; b++)
        w->holes[b] = status;
}

static inline uint64_t world_block_status(const struct world *w, const struct request *r,
                                          uint32_t kind, uint64_t at) {
    uint64_t written = r->volume.v == VOL_HUGE ? 0 : w->written[at / BLOCK_BYTES];
    if (kind == REQUEST_STATUS_OF_VERSIONS)
        return written;
    if (kind == REQUEST_STATUS_OF_CHANGES)
        return written > r->sequence;
    return r->volume.v == VOL_HUGE ? REQUEST_STATUS_HOLE | REQUEST_STATUS_ZERO
                                   : w->holes[at / BLOCK_BYTES];
}

static inline void world_status(struct world *w, struct request *r) {
    uint64_t end = r->offset_bytes + r->length_bytes, run, start = 0, count = 0;
    for (uint32_t k = 0; k < REQUEST_STATUS_KINDS; k++) {
        if (!request_status_has(r->flags, (enum request_status_kind)k))
            continue;
        count = 0;
        for (uint64_t at = r->offset_bytes; at < end && count < request_status_extents(r);
             count++) {
            struct request_status_extent x = {.status = world_block_status(w, r, k, at)};
            x.length_bytes =
                r->volume.v == VOL_HUGE ? HUGE_BYTES - at : BLOCK_BYTES - at % BLOCK_BYTES;
            memcpy(request_data_at(&w->pool, r, start + count * sizeof x, &run), &x, sizeof x);
            at += x.length_bytes;
        }
        if (count < request_status_extents(r) && request_status_sections(r->flags) > 1)
            memset(request_data_at(&w->pool, r, start + count * 16, &run), 0, 16);
        start += request_status_section_bytes(r);
    }
    r->reply_data_bytes = (uint32_t)(start - request_status_section_bytes(r) +
                                     count * sizeof(struct request_status_extent));
}

static inline void world_execute(struct world *w, struct request_h h) {
    struct request *r = request_edit(&w->a, h);
    uint64_t size = r->volume.v == VOL_HUGE ? HUGE_BYTES : DISK_BYTES;
    must(r->op == REQUEST_FLUSH ||
         (r->offset_bytes <= size && r->length_bytes <= size - r->offset_bytes));
    must(r->volume.v != VOL_RO || r->op == REQUEST_READ || r->op == REQUEST_FLUSH ||
         r->op == REQUEST_CACHE || r->op == REQUEST_BLOCK_STATUS);
    if (r->volume.v == VOL_BAD) {
        r->error = r->op == REQUEST_READ    ? ERR_INTEGRITY
                   : r->op == REQUEST_WRITE ? ERR_NOSPC
                                            : ERR_IO;
        r->reply_data_bytes = 512; /* what was read before it failed */
    } else if (r->op == REQUEST_READ || r->op == REQUEST_WRITE) {
        world_copy(w, r, r->op == REQUEST_WRITE);
        if (r->op == REQUEST_WRITE)
            world_mark(w, r, 0);
    } else if (r->op == REQUEST_ZERO || r->op == REQUEST_TRIM) {
        if (r->volume.v != VOL_HUGE)
            memset(w->disk + r->offset_bytes, 0, r->length_bytes);
        world_mark(w, r, REQUEST_STATUS_ZERO | (r->op == REQUEST_TRIM ? REQUEST_STATUS_HOLE : 0));
    } else if (r->op == REQUEST_BLOCK_STATUS) {
        world_status(w, r);
    }
    r->slot.state = REQUEST_DONE;
    r->sequence = ++w->order; /* until now that of a block status is the client's moment */
    nbd_reply(&w->env, w->n, h);
}

/* The turns: each returns whether it did anything. */

static inline struct request_h world_pick(const struct world *w, uint16_t state, int last) {
    struct request_h best = {0};
    uint64_t best_key = 0;
    for (struct request_h h = request_next(&w->a, (struct request_h){0}); h.v;
         h = request_next(&w->a, h)) {
        const struct request *q = request_view(&w->a, h);
        uint64_t key = state == REQUEST_DONE && w->reverse ? q->sequence : q->arrival;
        if (q->slot.state == state && (!best.v || (last ? key > best_key : key < best_key))) {
            best = h;
            best_key = key;
        }
    }
    return best;
}

static inline int payload_part(struct world *w, struct request_h h) {
    struct request *r = request_edit(&w->a, h);
    uint64_t run, moved = 0;
    while (moved < w->rx_bytes && r->received_bytes < r->length_bytes) {
        unsigned char *p = request_data_at(&w->pool, r, r->received_bytes, &run);
        run = min_u64(min_u64(run, w->rx_bytes - moved), r->length_bytes - r->received_bytes);
        memcpy(p, w->rx + moved, run);
        moved += run;
        r->received_bytes += (uint32_t)run;
    }
    memmove(w->rx, w->rx + moved, w->rx_bytes - moved);
    w->rx_bytes -= moved;
    if (r->received_bytes < r->length_bytes)
        return moved > 0;
    nbd_payload_done(&w->env, w->n, h);
    return 1;
}

static inline int input_turn(struct world *w) {
    /* A copy of the exact size, so that a sanitizer sees a read beyond the end. */
    uint8_t *exact = malloc(w->rx_bytes + !w->rx_bytes);
    must(exact != NULL);
    memcpy(exact, w->rx, w->rx_bytes);
    struct nbd_step step = nbd_input(&w->env, w->n, exact, w->rx_bytes);
    free(exact);
    w->what = step.what;
    must(step.consumed <= w->rx_bytes);
    w->rx_bytes -= step.consumed;
    memmove(w->rx, w->rx + step.consumed, w->rx_bytes);
    must(step.what != NBD_MORE || (step.need > w->rx_bytes && step.need <= NBD_NEED_MAX));
    if (step.what == NBD_PAYLOAD)
        return payload_part(w, step.request) || step.consumed > 0;
    if (step.what == NBD_CLOSE) {
        w->closing = 1;
        w->reason = step.reason;
    }
    return step.consumed > 0;
}

static inline int engine_turn(struct world *w) {
    int done = 0;
    struct request_h h;
    while (!w->hold_engine && (h = world_pick(w, REQUEST_READY, w->reverse)).v) {
        world_execute(w, h);
        done = 1;
    }
    return done;
}

static inline int send_turn(struct world *w) {
    int done = 0;
    struct request_h h;
    while (!w->hold_send && (h = world_pick(w, REQUEST_DONE, 0)).v) {
        const struct request *q = request_view(&w->a, h);
        put_bytes(&w->out, q->head, q->head_bytes);
        for (uint64_t at = 0, run; at < q->reply_data_bytes; at += run) {
            unsigned char *p = request_data_at(&w->pool, q, at, &run);
            run = min_u64(run, q->reply_data_bytes - at);
            put_bytes(&w->out, p, run);
        }
        for (uint32_t i = 0; i < q->data_extents; i++)
            buffer_release(&w->pool, q->data[i]);
        nbd_sent(&w->env, w->n, h);
        request_free(&w->a, h);
        done = 1;
    }
    return done;
}

static inline void world_commit(struct world *w) {
    must(nbd_check_slot(nbd_view(&w->a, w->n)) == OK);
    arena_commit(&w->a);
    buffer_commit(&w->pool);
    w->turns++;
    if (w->reload_turns)
        world_reload(w);
}

static inline int world_turn(struct world *w, int (*turn)(struct world *)) {
    if (w->undo_turns) {
        struct world *before = malloc(sizeof *before);
        uint8_t *disk = malloc(DISK_BYTES);
        must(before && disk);
        *before = *w;
        memcpy(disk, w->disk, DISK_BYTES);
        turn(w);
        world_reload(w);
        w->out.len = before->out.len;
        w->rx_bytes = before->rx_bytes;
        memcpy(w->rx, before->rx, RX_BYTES);
        memcpy(w->disk, disk, DISK_BYTES);
        memcpy(w->holes, before->holes, sizeof w->holes);
        w->closing = before->closing;
        w->opens = before->opens;
        w->closes = before->closes;
        free(before);
        free(disk);
    }
    int done = turn(w);
    world_commit(w);
    return done;
}

static inline void world_run(struct world *w) {
    int done;
    do {
        done = world_turn(w, input_turn);
        done |= world_turn(w, engine_turn);
        done |= world_turn(w, send_turn);
    } while (done);
}

/* Gives the server `len` bytes at once, as far as its buffer reaches. */
static inline void world_feed(struct world *w, const uint8_t *p, size_t len) {
    while (len > 0 && !w->closing) {
        size_t part = min_u64(len, RX_BYTES - w->rx_bytes);
        if (part == 0)
            return; /* held: the rest waits at the client */
        memcpy(w->rx + w->rx_bytes, p, part);
        w->rx_bytes += part;
        p += part;
        len -= part;
        world_run(w);
    }
    world_run(w);
}

/* Feeds what the client has said. */
static inline void world_say(struct world *w) {
    size_t len = w->say.len;
    w->say.len = 0;
    world_feed(w, w->say.p, len);
}

static inline void world_start(struct world *w, uint64_t pool_bytes) {
    struct arena_table_plan tables[2];
    struct arena_region_plan region;
    memset(w, 0, sizeof *w);
    w->pool_bytes = pool_bytes;
    struct arena_plan plan = world_plan(w, tables, &region);
    uint64_t size = arena_plan_bytes(&plan);
    w->allocation = calloc(1, size + ARENA_PAGE_BYTES);
    w->disk = calloc(1, DISK_BYTES);
    must(w->allocation && w->disk);
    w->base = (unsigned char *)w->allocation +
              (ARENA_PAGE_BYTES - (uintptr_t)w->allocation % ARENA_PAGE_BYTES);
    must(arena_create(&w->a, w->base, size, &plan) == 0);
    atomic_store(&w->a.live->phase, ARENA_SERVING);
    arena_commit(&w->a);
    must(arena_shadow_start(&w->a) == 0);
    must(buffer_pool_open(&w->pool, &w->a, REGION_BUFFERS) == 0);
    w->env = (struct nbd_env){.a = &w->a, .buffers = &w->pool, .ops = &world_ops, .ctx = w};
    w->n = nbd_begin(&w->env, (struct conn_h){1}, 1000);
    memset(w->holes, REQUEST_STATUS_HOLE | REQUEST_STATUS_ZERO, sizeof w->holes);
    w->listed = 3;
    world_commit(w);
}

static inline void world_stop(struct world *w) {
    nbd_end(&w->env, w->n);
    arena_commit(&w->a);
    must(nbd_used(&w->a) == 0 && w->opens >= w->closes);
    buffer_pool_close(&w->pool);
    arena_detach(&w->a);
    free(w->allocation);
    free(w->disk);
    free(w->say.p);
    free(w->out.p);
}

/* What a client can say. */

static inline void c_flags(struct bytes *c, uint32_t flags) {
    put_be(c, flags, 4);
}
static inline void c_option(struct bytes *c, uint32_t option, const void *data, uint32_t len) {
    put_be(c, NBD_OPTION_MAGIC, 8);
    put_be(c, option, 4);
    put_be(c, len, 4);
    put_bytes(c, data, len);
}
/* INFO or GO; the requests end with -1. */
static inline void c_info(struct bytes *c, uint32_t option, const char *name, const int *requests) {
    struct bytes data = {0};
    uint32_t count = 0;
    while (requests && requests[count] >= 0)
        count++;
    put_be(&data, strlen(name), 4);
    put_bytes(&data, name, strlen(name));
    put_be(&data, count, 2);
    for (uint32_t i = 0; i < count; i++)
        put_be(&data, (uint64_t)requests[i], 2);
    c_option(c, option, data.p, (uint32_t)data.len);
    free(data.p);
}
static inline void c_go(struct bytes *c, const char *name) {
    c_info(c, NBD_OPT_GO, name, NULL);
}
/* The queries end with NULL. */
static inline void c_meta(struct bytes *c, uint32_t option, const char *name,
                          const char *const *queries) {
    struct bytes data = {0};
    uint32_t count = 0;
    while (queries && queries[count])
        count++;
    put_be(&data, strlen(name), 4);
    put_bytes(&data, name, strlen(name));
    put_be(&data, count, 4);
    for (uint32_t i = 0; i < count; i++) {
        put_be(&data, strlen(queries[i]), 4);
        put_bytes(&data, queries[i], strlen(queries[i]));
    }
    c_option(c, option, data.p, (uint32_t)data.len);
    free(data.p);
}
/* A compact request header. */
static inline void c_request(struct bytes *c, uint16_t flags, uint16_t command, uint64_t cookie,
                             uint64_t offset, uint32_t length) {
    put_be(c, NBD_REQUEST_MAGIC, 4);
    put_be(c, flags, 2);
    put_be(c, command, 2);
    put_be(c, cookie, 8);
    put_be(c, offset, 8);
    put_be(c, length, 4);
}
static inline void c_extended(struct bytes *c, uint16_t flags, uint16_t command, uint64_t cookie,
                              uint64_t offset, uint64_t length) {
    put_be(c, NBD_EXTENDED_REQUEST_MAGIC, 4);
    put_be(c, flags, 2);
    put_be(c, command, 2);
    put_be(c, cookie, 8);
    put_be(c, offset, 8);
    put_be(c, length, 8);
}
/* `len` bytes of payload, each `value`. */
static inline void c_fill(struct bytes *c, uint8_t value, size_t len) {
    uint8_t part[4096];
    memset(part, value, sizeof part);
    for (; len > 0; len -= min_u64(len, sizeof part))
        put_bytes(c, part, min_u64(len, sizeof part));
}

#endif
