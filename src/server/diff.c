/* SPDX-License-Identifier: Apache-2.0 */
/* `diff`: which parts of a volume were written between two moments. */
#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/looking.h"
#include "server/perdured.h"
#include "server/reply.h"

#define RANGES_TOLD 4096u

struct diff {
    struct looking l; /* first */
    uint64_t first_block, size_bytes;
    struct engine_changes changes;
    struct engine_range ranges[RANGES_TOLD];
};

static void tell(struct diff *d, uint32_t count, uint64_t next_block, uint64_t end_block) {
    const struct looking *l = &d->l;
    json_t *ranges = json_array();
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = block_to_bytes(d->ranges[i].block);
        uint64_t length = block_to_bytes(d->ranges[i].blocks);
        json_array_append_new(
            ranges, json_pack("{s:I,s:I}", "offset_bytes", (json_int_t)offset, "length_bytes",
                              (json_int_t)min_u64(length, d->size_bytes - offset)));
    }
    json_t *next =
        next_block < end_block ? json_integer((json_int_t)block_to_bytes(next_block)) : json_null();
    looking_end(&d->l,
                ctl_reply_ok(l->id, json_pack("{s:s,s:o,s:o,s:o,s:o}", "volume", l->name, "from",
                                              reply_moment(l->sequence[0], l->wall_ns[0]), "to",
                                              reply_moment(l->sequence[1], l->wall_ns[1]), "next",
                                              next, "ranges", ranges)));
}

static void told(struct engine_changes *c, int err) {
    struct diff *d = c->owner;
    if (err < 0)
        looking_refuse(&d->l, err, "the index cannot be read",
                       "perdure alerts may tell what is damaged");
    else
        tell(d, c->count, c->next_block, c->end_block);
}

static void look(struct looking *l, const struct volume *v) {
    struct diff *d = (struct diff *)l;
    uint64_t end_block = bytes_to_blocks_up(v->size_bytes);
    d->size_bytes = v->size_bytes;
    if (d->first_block >= end_block) {
        tell(d, 0, end_block, end_block);
        return;
    }
    d->changes =
        (struct engine_changes){.timeline = timeline_view(&l->p->core.r.a, v->timeline)->id,
                                .since = l->sequence[0],
                                .until = l->sequence[1],
                                .block = d->first_block,
                                .end_block = end_block,
                                .ranges = d->ranges,
                                .room = RANGES_TOLD,
                                .done = told,
                                .owner = d};
    int err = engine_changes_begin(l->p->engine, &d->changes);
    if (err < 0)
        looking_refuse(l, err, err_text(err), NULL);
}

int diff_handler(void *ctx, const struct ctl_request *q) {
    struct diff *d = (struct diff *)looking_new(ctx, q, sizeof *d);
    if (!d)
        return ERR_BUSY;
    d->first_block = ctl_number(&q->args, "after") / BLOCK_BYTES;
    return looking_begin(&d->l, ctl_moment(&q->args, "from"), ctl_moment(&q->args, "to"), look);
}
