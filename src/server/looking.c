/* SPDX-License-Identifier: Apache-2.0 */
#include "server/looking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"

enum stage { LOOKING_BEGINS = 0, LOOKING_FROM, LOOKING_TO, LOOKING_LOOKS };

static void forget(struct looking *l) {
    for (uint32_t i = 0; i < LOOKINGS_MAX; i++)
        if (l->p->lookings[i] == l)
            l->p->lookings[i] = NULL;
    free(l);
}

void looking_end(struct looking *l, char *line) {
    control_reply(&l->p->control, l->address, line);
    forget(l);
}

void looking_refuse(struct looking *l, int err, const char *message, const char *hint) {
    looking_end(l, ctl_reply_err(l->id, err, message, hint && hint[0] ? hint : NULL));
}

struct looking *looking_new(struct perdured *p, const struct ctl_request *q, size_t bytes) {
    for (uint32_t i = 0; i < LOOKINGS_MAX; i++) {
        if (p->lookings[i])
            continue;
        struct looking *l = p->lookings[i] = calloc(1, bytes);
        if (!l)
            return NULL;
        l->p = p;
        l->address = p->control.current;
        l->id = q->id;
        snprintf(l->name, sizeof l->name, "%s", ctl_text(&q->args, "name"));
        return l;
    }
    return NULL;
}

/* The next stage: what `ask` asks for is being resolved. */
static int resolve(struct looking *l, enum stage stage, struct admin_request *ask) {
    struct operation_h h;
    l->number = ask->reply = ++l->p->numbers;
    l->stage = stage;
    return admin_begin(&l->p->admin, ask, &h);
}

int looking_begin(struct looking *l, const struct moment *from, const struct moment *to,
                  void (*look)(struct looking *l, const struct volume *v)) {
    l->look = look;
    l->ask = (struct admin_request){
        .kind = OPERATION_RESTORE, .flags = OPERATION_DRY_RUN, .volume_count = 1};
    memcpy(l->ask.volumes[0], l->name, sizeof l->ask.volumes[0]);
    struct admin_request first = l->ask;
    perdured_put_moment(&l->ask, to);
    if (from)
        perdured_put_moment(&first, from);
    int err = resolve(l, from ? LOOKING_FROM : LOOKING_TO, from ? &first : &l->ask);
    if (err < 0)
        forget(l);
    return err;
}

static void resolved(struct looking *l, const struct operation *o) {
    const struct volume *v = volume_try(&l->p->core.r.a, o->volumes[0]);
    if (o->error < 0) {
        char hint[HINT_BYTES];
        perdured_hint(l->p, o, hint);
        looking_refuse(l, o->error, o->detail[0] ? (const char *)o->detail : err_text(o->error),
                       hint);
        return;
    }
    int which = l->stage == LOOKING_TO;
    l->sequence[which] = o->results[0];
    l->wall_ns[which] = o->results[1];
    if (!which) {
        int err = resolve(l, LOOKING_TO, &l->ask);
        if (err < 0)
            looking_refuse(l, err, err_text(err), NULL);
    } else if (!v) {
        looking_refuse(l, ERR_CHANGED, "it was removed meanwhile", NULL);
    } else if (l->sequence[0] > l->sequence[1]) {
        looking_refuse(l, ERR_INVAL, "--from is a later moment than --to", "exchange them");
    } else {
        l->stage = LOOKING_LOOKS;
        l->look(l, v);
    }
}

void looking_resolved(struct perdured *p, const struct operation *o) {
    for (uint32_t i = 0; i < LOOKINGS_MAX; i++) {
        struct looking *l = p->lookings[i];
        if (l && (l->stage == LOOKING_FROM || l->stage == LOOKING_TO) && l->number == o->reply) {
            resolved(l, o);
            return;
        }
    }
}
