/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to control requests, now or later, and the shapes that most of them have. */
#ifndef SERVER_REPLY_H
#define SERVER_REPLY_H

#include <stdint.h>

#include "ctl/proto.h"

struct perdured;
struct pending;

json_t *reply_time(uint64_t wall_ns); /* 0: null */
json_t *reply_moment(uint64_t sequence, uint64_t wall_ns);

/* Within a handler; 0. The result's reference is taken. hint: what to do, or NULL. */
int reply_now(struct perdured *p, const struct ctl_request *q, json_t *result);
int reply_refuse(struct perdured *p, const struct ctl_request *q, int err, const char *message,
                 const char *hint);

int reply_no_volume(struct perdured *p, const struct ctl_request *q);

/* The answer will come; NULL: too many are waited for. */
struct pending *reply_later(struct perdured *p, const struct ctl_request *q);
void reply_settle(struct perdured *p, struct pending *w, json_t *result);

#endif
