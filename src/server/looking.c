/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `diff`: two moments are resolved, one after the other, by the operation that a dry run of a restore
 * is; then the engine is asked what was written between them. Nothing of it is preserved: a reload
 * closes control connections.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"
#include "server/reply.h"

#define RANGES_TOLD 4096u

enum stage { LOOKING_FREE = 0, LOOKING_FROM, LOOKING_TO, LOOKING_CHANGES };

struct looking {
    struct perdured *p;
    enum stage stage;
    uint64_t number; /* the operation's reply word */
    uint64_t address;
    int64_t id;
    char name[VOLUME_NAME_BYTES];
    struct admin_request ask; /* for the second moment */
    uint64_t first_block;
    uint64_t sequence[2], wall_ns[2];
    uint64_t size_bytes;
    struct engine_changes changes;
    struct engine_range ranges[RANGES_TOLD];
};

static void end(struct looking *l, char *line) {
    control_reply(&l->p->control, l->address, line);
    l->stage = LOOKING_FREE;
}

static void refuse(struct looking *l, int err, const char *message, const char *hint) {
    end(l, ctl_reply_err(l->id, err, message, hint && hint[0] ? hint : NULL));
}

static void tell(struct looking *l, uint32_t count, uint64_t next_block, uint64_t end_block) {
    json_t *ranges = json_array();
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = block_to_bytes(l->ranges[i].block);
        uint64_t length = block_to_bytes(l->ranges[i].blocks);
        json_array_append_new(
            ranges, json_pack("{s:I,s:I}", "offset_bytes", (json_int_t)offset, "length_bytes",
                              (json_int_t)min_u64(length, l->size_bytes - offset)));
    }
    json_t *next =
        next_block < end_block ? json_integer((json_int_t)block_to_bytes(next_block)) : json_null();
    end(l, ctl_reply_ok(l->id, json_pack("{s:s,s:o,s:o,s:o,s:o}", "volume", l->name, "from",
                                         reply_moment(l->sequence[0], l->wall_ns[0]), "to",
                                         reply_moment(l->sequence[1], l->wall_ns[1]), "next", next,
                                         "ranges", ranges)));
}

static void told(struct engine_changes *c, int err) {
    struct looking *l = c->owner;
    if (err < 0)
        refuse(l, err, "the index cannot be read", "perdure alerts may tell what is damaged");
    else
        tell(l, c->count, c->next_block, c->end_block);
}

static void look(struct looking *l, const struct volume *v) {
    const struct timeline *t = v ? timeline_try(&l->p->core.r.a, v->timeline) : NULL;
    if (!t) {
        refuse(l, ERR_CHANGED, "it was removed meanwhile", NULL);
        return;
    }
    if (l->sequence[0] > l->sequence[1]) {
        refuse(l, ERR_INVAL, "--from is a later moment than --to", "exchange them");
        return;
    }
    uint64_t end_block = bytes_to_blocks_up(v->size_bytes);
    l->size_bytes = v->size_bytes;
    if (l->first_block >= end_block) {
        tell(l, 0, end_block, end_block);
        return;
    }
    l->stage = LOOKING_CHANGES;
    l->changes = (struct engine_changes){.timeline = t->id,
                                         .since = l->sequence[0],
                                         .until = l->sequence[1],
                                         .block = l->first_block,
                                         .end_block = end_block,
                                         .ranges = l->ranges,
                                         .room = RANGES_TOLD,
                                         .done = told,
                                         .owner = l};
    int err = engine_changes_begin(l->p->engine, &l->changes);
    if (err < 0)
        refuse(l, err, err_text(err), NULL);
}

/* The next stage: what `ask` asks for is being resolved. */
static int resolve(struct looking *l, enum stage stage, struct admin_request *ask) {
    struct operation_h h;
    l->number = ask->reply = ++l->p->numbers;
    int err = admin_begin(&l->p->admin, ask, &h);
    l->stage = err < 0 ? LOOKING_FREE : stage;
    return err;
}

int looking_diff(void *ctx, const struct ctl_request *q) {
    struct perdured *p = ctx;
    struct looking *l = NULL;
    for (uint32_t i = 0; i < LOOKINGS_MAX && !l; i++) {
        if (!p->lookings[i])
            p->lookings[i] = calloc(1, sizeof *l);
        if (p->lookings[i] && p->lookings[i]->stage == LOOKING_FREE)
            l = p->lookings[i];
    }
    if (!l)
        return ERR_BUSY;
    l->p = p;
    l->address = p->control.current;
    l->id = q->id;
    l->first_block = ctl_number(&q->args, "after") / BLOCK_BYTES;
    snprintf(l->name, sizeof l->name, "%s", ctl_text(&q->args, "name"));
    l->ask = (struct admin_request){
        .kind = OPERATION_RESTORE, .flags = OPERATION_DRY_RUN, .volume_count = 1};
    memcpy(l->ask.volumes[0], l->name, sizeof l->ask.volumes[0]);
    struct admin_request first = l->ask;
    perdured_put_moment(&l->ask, ctl_moment(&q->args, "to"));
    perdured_put_moment(&first, ctl_moment(&q->args, "from"));
    return resolve(l, LOOKING_FROM, &first);
}

void looking_resolved(struct perdured *p, const struct operation *o) {
    for (uint32_t i = 0; i < LOOKINGS_MAX; i++) {
        struct looking *l = p->lookings[i];
        if (!l || (l->stage != LOOKING_FROM && l->stage != LOOKING_TO) || l->number != o->reply)
            continue;
        if (o->error < 0) {
            char hint[HINT_BYTES];
            perdured_hint(p, o, hint);
            refuse(l, o->error, o->detail[0] ? (const char *)o->detail : err_text(o->error), hint);
            return;
        }
        int which = l->stage == LOOKING_TO;
        l->sequence[which] = o->results[0];
        l->wall_ns[which] = o->results[1];
        if (which) {
            look(l, volume_try(&p->core.r.a, o->volumes[0]));
            return;
        }
        int err = resolve(l, LOOKING_TO, &l->ask);
        if (err < 0)
            refuse(l, err, err_text(err), NULL);
        return;
    }
}
