/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations that look at what is between two moments of a volume: the moments are resolved, one after the other, by
 * the operation that a dry run of a restore is; then `look` goes on, over as many turns as it takes. Nothing of it is
 * preserved: a reload closes control connections.
 */
#ifndef SERVER_LOOKING_H
#define SERVER_LOOKING_H

#include <stdint.h>

#include "engine/admin.h"
#include "server/control.h"

struct perdured;
struct moment;

struct looking {
    struct perdured *p;
    int stage;
    uint64_t number; /* the operation's reply word */
    uint64_t address;
    int64_t id;
    char name[VOLUME_NAME_BYTES];
    struct admin_request ask;         /* for the second moment */
    uint64_t sequence[2], wall_ns[2]; /* from, to */
    void (*look)(struct looking *l, const struct volume *v);
};

/* `bytes` of zeroes with a looking at the front; NULL: too many are under way. */
struct looking *looking_new(struct perdured *p, const struct ctl_request *q, size_t bytes);
/* from NULL: from the beginning, 0. An error: it has ended, and the handler says so. */
int looking_begin(struct looking *l, const struct moment *from, const struct moment *to,
                  void (*look)(struct looking *l, const struct volume *v));
/* The answer; l is gone. */
void looking_end(struct looking *l, char *line);
void looking_refuse(struct looking *l, int err, const char *message, const char *hint);

#endif
