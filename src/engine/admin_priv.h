/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of admin. A step returns 1 if it is done (go on with the next), 0 if it waits, or an error,
 * which ends the operation. */
#ifndef ENGINE_ADMIN_PRIV_H
#define ENGINE_ADMIN_PRIV_H

#include "engine/admin.h"
#include "engine/timeline/volumes.h"

#define ADMIN_RETRY_NS NS_PER_S
#define ADMIN_LEASES_NS NS_PER_S
#define ADMIN_TRASH_NS (10 * NS_PER_S)
#define ADMIN_BURY_MAX 256u /* slots freed in one turn */
#define ADMIN_SCAN_MAX 64u  /* segments looked at in one turn */

enum admin_ask { ADMIN_IDLE = 0, ADMIN_WANTED, ADMIN_ASKED, ADMIN_ANSWERED };

/* What is asked of others for one operation; private, asked again after an attach. */
struct admin_pending {
    enum admin_ask catalogue, moment;
    struct catalogue_request *request;
    uint64_t retry_ns; /* monotonic: not before */
    struct admin_moment query;
    int moment_result;
    /* FREE */
    struct catalogue_snapshot *dead;
    uint32_t scanned, segment_count;
    uint32_t segments[CATALOGUE_SEGMENTS_MAX];
};

static inline struct admin_pending *admin_pending(struct admin *ad, struct operation_h h) {
    return &ad->pending[handle_index(h.v)];
}

/* Fills the operation's detail and returns err. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
int admin_refuse(struct admin *ad, struct operation_h h, int err, const char *format, ...);

const char *admin_name(const struct admin *ad, struct volume_h v);

/* admin_begin.c: checks what is asked and takes the slots that it needs. */
int admin_check(struct admin *ad, struct operation_h h, const struct admin_request *q);

/* admin_steps.c */
int admin_resolve(struct admin *ad, struct operation_h h);
void admin_fill_resolve(const struct admin *ad, const struct operation *op,
                        struct catalogue_request *r);
int admin_hold(struct admin *ad, struct operation_h h);
int admin_prepare(struct admin *ad, struct operation_h h);
int admin_durable(struct admin *ad, struct operation_h h);
int admin_room(struct admin *ad, struct operation_h h);
void admin_release(struct admin *ad, struct operation_h h); /* what is held */
/* A record of a kind that has no data, over a range of bytes: 0, ERR_AGAIN, ERR_NOSPC. */
int admin_append(struct admin *ad, enum place_kind kind, uint32_t timeline, uint32_t family,
                 uint64_t offset_bytes, uint64_t length_bytes, uint64_t *sequence);
/* admin.h, invariant 4: 0 or ERR_AGAIN. */
int admin_note(struct admin *ad, const struct catalogue_object *o);

/* admin_apply.c */
int admin_commit(struct admin *ad, struct operation_h h);
/* 1: the request is answered and in p->request; 0: it waits; an error: the catalogue refused. */
int admin_ask_catalogue(struct admin *ad, struct operation_h h);
void admin_forget_request(struct admin_pending *p);
void admin_forget(struct admin_pending *p); /* everything */
void admin_fill_request(struct admin *ad, struct operation_h h, struct catalogue_request *r);

/* admin_activity.c: the rows of OPERATION_ACTIVITY, and what becomes of them. */
void admin_activity_turn(struct admin *ad);
void admin_activity_fill(struct admin *ad, struct catalogue_activities *out);
void admin_activity_committed(struct admin *ad);
void admin_activity_failed(struct admin *ad);

/* admin_moments.c: a moment for each minute in which something is recorded. */
void admin_moments_turn(struct admin *ad);
void admin_moments_output(struct admin *ad);

/* admin_clean.c */
struct admin_cleaning *admin_clean_open(void);
void admin_clean_close(struct admin_cleaning *c);
int admin_clean_turn(struct admin *ad); /* 1: it wants another turn at once */
void admin_clean_output(struct admin *ad);
void admin_clean_ended(struct admin *ad, struct operation_h h);

/* admin_sweep.c */
int admin_bury(struct admin *ad, struct operation_h h);
int admin_free(struct admin *ad, struct operation_h h);
void admin_leases(struct admin *ad);
void admin_trash(struct admin *ad);
void admin_forget_output(struct admin *ad);

#endif
