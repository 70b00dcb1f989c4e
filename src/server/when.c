/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `when`: the writes that a volume shows, newest first. Of a small range the index says which write was the newest, and
 * the log is asked for that one; else the log is gone through. What a cleaning has put together has no frames: of
 * writes there, the index knows the number alone.
 */
#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/looking.h"
#include "server/perdured.h"
#include "server/reply.h"

#define SMALL_BLOCKS (64u * 256) /* 64 MiB */
#define ROWS_ASKED 256u          /* of the log at once */
#define SLICES_MAX 8u            /* of the log, in one answer */
#define NUMBERS_MAX 4096u        /* of the index, in one answer */

struct when {
    struct looking l; /* first */
    struct ctl_range range;
    uint64_t limit, until;
    uint32_t timeline;
    uint32_t asked; /* slices of the log, or numbers of the index */
    uint64_t complete_since, complete_ns;
    int is_small, is_short; /* short: there may be older ones */
    const struct ancestry *view;
    struct engine_changes changes;
    struct log_listing listing;
    struct log_listed rows[ROWS_ASKED];
    json_t *writes;
};

static void end(struct when *w, char *line) {
    if (w->view)
        ancestry_give(w->l.p->ancestries, w->view);
    looking_end(&w->l, line);
}

static void fail(struct when *w, int err) {
    json_decref(w->writes);
    end(w, ctl_reply_err(w->l.id, err, "the index or the log cannot be read",
                         "perdure alerts may tell what is damaged"));
}

static void tell(struct when *w) {
    const struct looking *l = &w->l;
    json_t *older = w->is_short ? json_integer((json_int_t)w->until + 1) : json_null();
    end(w, ctl_reply_ok(l->id,
                        json_pack("{s:s,s:o,s:o,s:o,s:o,s:o}", "volume", l->name, "from",
                                  reply_moment(l->sequence[0], l->wall_ns[0]), "to",
                                  reply_moment(l->sequence[1], l->wall_ns[1]), "every_write_since",
                                  reply_moment(w->complete_since, w->complete_ns), "writes",
                                  w->writes, "older", older)));
}

static const char *kind_of(enum place_kind kind) {
    switch (kind) {
    case PLACE_DATA:
        return "write";
    case PLACE_ZERO:
        return "zero";
    case PLACE_REFERENCE:
        return "restore";
    default:
        return "trim";
    }
}

static json_t *known_or_null(uint64_t number) {
    return number ? json_integer((json_int_t)number) : json_null();
}

static void add(struct when *w, const struct log_listed *row) {
    json_array_append_new(
        w->writes,
        json_pack("{s:o,s:s,s:I,s:I,s:b,s:o,s:o}", "at", reply_moment(row->sequence, row->wall_ns),
                  "kind", kind_of(row->kind), "offset_bytes",
                  (json_int_t)(row->start_sector * SECTOR_BYTES), "length_bytes",
                  (json_int_t)(row->sectors * SECTOR_BYTES), "ends_request",
                  (row->flags & LOG_MORE) == 0, "connection", known_or_null(row->source),
                  "restored_from", known_or_null(row->ref_sequence)));
}

static void add_unknown(struct when *w, uint64_t sequence) {
    json_array_append_new(w->writes,
                          json_pack("{s:o,s:n,s:n,s:n,s:n,s:n,s:n}", "at",
                                    reply_moment(sequence, 0), "kind", "offset_bytes",
                                    "length_bytes", "ends_request", "connection", "restored_from"));
}

static int is_done(struct when *w) {
    w->is_short =
        w->until > w->l.sequence[0] && (json_array_size(w->writes) >= w->limit ||
                                        w->asked >= (w->is_small ? NUMBERS_MAX : SLICES_MAX));
    return w->is_short || w->until <= w->l.sequence[0];
}

static int touches(const struct when *w, const struct log_listed *row) {
    uint64_t offset = row->start_sector * SECTOR_BYTES, length = row->sectors * SECTOR_BYTES;
    return offset < w->range.offset_bytes + w->range.length_bytes &&
           offset + length > w->range.offset_bytes;
}

static void go_on(struct when *w);

/* Of a small range: the record of the number that the index has named. */
static void take_one(struct when *w) {
    uint64_t sequence = w->until + 1;
    if (w->listing.count == 0)
        add_unknown(w, sequence);
    else if (touches(w, &w->rows[0]))
        add(w, &w->rows[0]);
}

static void take_rows(struct when *w) {
    for (uint32_t i = 0; i < w->listing.count; i++)
        add(w, &w->rows[i]);
    w->until = w->listing.next;
}

static void take(struct when *w) {
    w->asked++;
    if (w->is_small)
        take_one(w);
    else
        take_rows(w);
}

static void listed(struct log_listing *g, int err) {
    struct when *w = g->owner;
    if (err < 0) {
        fail(w, err);
        return;
    }
    take(w);
    go_on(w);
}

/* 1: the answer is there. */
static int list(struct when *w, uint64_t since, uint64_t until, uint64_t room) {
    uint64_t first = w->is_small ? 0 : w->range.offset_bytes;
    uint64_t beyond = w->is_small ? UINT64_MAX : w->range.offset_bytes + w->range.length_bytes;
    w->listing = (struct log_listing){.view = w->view,
                                      .start_sector = first / SECTOR_BYTES,
                                      .end_sector = beyond / SECTOR_BYTES,
                                      .since = since,
                                      .until = until,
                                      .rows = w->rows,
                                      .room = (uint32_t)min_u64(room, ROWS_ASKED),
                                      .done = listed,
                                      .owner = w};
    return log_list(w->l.p->log, &w->listing);
}

static void newest_known(struct engine_changes *c, int err) {
    struct when *w = c->owner;
    if (err < 0) {
        fail(w, err);
        return;
    }
    if (c->newest == 0) {
        w->until = w->l.sequence[0];
        go_on(w);
        return;
    }
    w->until = c->newest - 1;
    int n = list(w, c->newest - 1, c->newest, 1);
    if (n != 0)
        listed(&w->listing, n < 0 ? n : 0);
}

static void ask_index(struct when *w) {
    w->changes = (struct engine_changes){
        .timeline = w->timeline,
        .since = w->l.sequence[0],
        .until = w->until,
        .block = w->range.offset_bytes / BLOCK_BYTES,
        .end_block = bytes_to_blocks_up(w->range.offset_bytes + w->range.length_bytes),
        .only_newest = 1,
        .done = newest_known,
        .owner = w};
    int err = engine_changes_begin(w->l.p->engine, &w->changes);
    if (err < 0)
        fail(w, err);
}

static void go_on(struct when *w) {
    while (!is_done(w)) {
        if (w->is_small) {
            ask_index(w);
            return;
        }
        int n = list(w, w->l.sequence[0], w->until, w->limit - json_array_size(w->writes));
        if (n == 0)
            return;
        if (n < 0) {
            fail(w, n);
            return;
        }
        take(w);
    }
    tell(w);
}

static void look(struct looking *l, const struct volume *v) {
    struct when *w = (struct when *)l;
    if (w->range.length_bytes == 0)
        w->range.length_bytes = v->size_bytes;
    if (w->range.offset_bytes >= v->size_bytes ||
        w->range.length_bytes > v->size_bytes - w->range.offset_bytes) {
        looking_refuse(l, ERR_RANGE, "the range goes beyond the end of the volume",
                       "perdure volume show tells its size");
        return;
    }
    /* What was before the oldest moment is not promised. */
    if (l->sequence[0] < v->oldest_sequence) {
        l->sequence[0] = v->oldest_sequence;
        l->wall_ns[0] = v->oldest_ns;
    }
    w->complete_since = max_u64(l->sequence[0], v->fine_sequence);
    w->complete_ns = v->fine_sequence > l->sequence[0] ? v->fine_ns : l->wall_ns[0];
    w->timeline = timeline_view(&l->p->core.r.a, v->timeline)->id;
    w->view = ancestry_take(l->p->ancestries, w->timeline);
    w->is_small = w->range.length_bytes <= SMALL_BLOCKS * BLOCK_BYTES;
    w->until = w->until ? min_u64(w->until, l->sequence[1]) : l->sequence[1];
    w->writes = json_array();
    if (!w->view || !w->writes)
        fail(w, w->view ? ERR_NOMEM : ERR_INTEGRITY);
    else
        go_on(w);
}

int when_handler(void *ctx, const struct ctl_request *q) {
    static const struct moment now = {.kind = MOMENT_NOW};
    struct when *w = (struct when *)looking_new(ctx, q, sizeof *w);
    if (!w)
        return ERR_BUSY;
    if (ctl_has(&q->args, "range"))
        w->range = ctl_range(&q->args, "range");
    uint64_t below = ctl_number(&q->args, "below");
    w->until = below ? below - 1 : 0;
    w->limit = ctl_number(&q->args, "limit");
    return looking_begin(&w->l, ctl_has(&q->args, "from") ? ctl_moment(&q->args, "from") : NULL,
                         ctl_has(&q->args, "to") ? ctl_moment(&q->args, "to") : &now, look);
}
