/* SPDX-License-Identifier: Apache-2.0 */
#include "server/reply.h"

#include <stdio.h>

#include "base/err.h"
#include "ctl/moment.h"
#include "server/perdured.h"

json_t *reply_time(uint64_t wall_ns) {
    char text[MOMENT_TEXT_BYTES];
    if (wall_ns == 0)
        return json_null();
    moment_format_utc(wall_ns, text);
    return json_string(text);
}

json_t *reply_moment(uint64_t sequence, uint64_t wall_ns) {
    return json_pack("{s:I,s:o}", "sequence", (json_int_t)sequence, "time", reply_time(wall_ns));
}

int reply_now(struct perdured *p, const struct ctl_request *q, json_t *result) {
    control_reply(&p->control, p->control.current, ctl_reply_ok(q->id, result));
    return 0;
}

int reply_refuse(struct perdured *p, const struct ctl_request *q, int err, const char *message,
                 const char *hint) {
    control_reply(&p->control, p->control.current, ctl_reply_err(q->id, err, message, hint));
    return 0;
}

int reply_no_volume(struct perdured *p, const struct ctl_request *q) {
    return reply_refuse(p, q, ERR_NOTFOUND, "there is no such volume",
                        "perdure volume list shows those that exist");
}

struct pending *reply_later(struct perdured *p, const struct ctl_request *q) {
    for (uint32_t i = 0; i < PENDING_MAX; i++)
        if (p->pending[i].number == 0) {
            struct pending *w = &p->pending[i];
            const struct ctl_arg *name = ctl_arg_find(q->op, "name");
            *w = (struct pending){
                .number = ++p->numbers, .address = p->control.current, .id = q->id, .op = q->op};
            if (name && ctl_has(&q->args, "name"))
                snprintf(w->name, sizeof w->name, "%s", ctl_text(&q->args, "name"));
            return w;
        }
    return NULL;
}

void reply_settle(struct perdured *p, struct pending *w, json_t *result) {
    control_reply(&p->control, w->address, ctl_reply_ok(w->id, result));
    w->number = 0;
}
