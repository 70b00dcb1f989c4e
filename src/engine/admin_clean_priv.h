/* SPDX-License-Identifier: Apache-2.0 */
/* What cleanings are about: admin_clean.c does them, admin_targets.c says what is to be given up. */
#ifndef ENGINE_ADMIN_CLEAN_PRIV_H
#define ENGINE_ADMIN_CLEAN_PRIV_H

#include "engine/admin_priv.h"
#include "engine/clean/clean.h"

enum cleaning_state {
    CLEANING_IDLE = 0,
    CLEANING_LIMITS,
    CLEANING_MOMENTS,
    CLEANING_PROBE,
    CLEANING_HORIZONS,
    CLEANING_PASS
};
enum cleaning_ask { ASK_NONE = 0, ASK_HORIZON, ASK_KEEPS, ASK_FREE, ASK_LIMITS };

/* sequence, wall_ns: its horizon, 0: stays. retain_ns, retain_bytes: that it was reckoned from; 0: the volume's does
 * not matter. fine_sequence: it is thinned, and all moments stay from there on; 0: it is not. */
struct target {
    uint64_t volume, sequence, wall_ns, retain_ns, retain_bytes, fine_sequence;
};

struct admin_cleaning {
    struct clean *clean;
    uint64_t (*oldest_reader)(void *ctx);
    void *reader_ctx;
    enum cleaning_state state;
    int resumed, wanted;
    int is_giving;                              /* the pass is to make room */
    uint64_t looked_ns, passed_ns, hopeless_ns; /* monotonic */
    uint64_t done_up_to, up_to;
    uint32_t give; /* segments of history, when there is no room */
    struct log_moment probed;
    uint64_t freed_before;
    /* MOMENTS */
    struct volume_h at;
    struct admin_moment query;
    int query_state, query_result; /* 0 none, 1 asked, 2 answered */
    struct target memo;            /* of no volume: the answer to the last query */
    uint64_t query_retain_ns;
    struct target *
        limits; /* by volume: those that have recorded more than they are to keep, or are thinned */
    uint64_t limits_store_ns; /* as of which */
    uint32_t limit_count, limit_room;
    uint64_t limits_after;
    int limits_asked;
    struct target *targets;
    uint32_t target_count, target_room, target_sent, target_next;
    /* What is asked of the catalogue; its own request, as it may be asked again. */
    enum cleaning_ask ask;
    struct catalogue_request *request;
    int is_asked, is_answered;
    uint64_t retry_ns, id;
    uint32_t free_segment;
    struct operation_h commit;
};

static inline int has_history(const struct volume *v) {
    return !(v->flags & VOLUME_IMAGE) && v->slot.state != VOLUME_CREATING;
}

/* What is to be given up is reckoned anew. */
void targets_begin(struct admin_cleaning *c);

/* Whether volumes have limits by bytes; one page of the catalogue's answer about them (CATALOGUE_LIMITS). */
int targets_have_limits(const struct admin *ad);
void targets_take_limits(struct admin *ad, const struct catalogue_list *list);

/* What is older than the ages and limits of volumes. 1: all have been looked at; 0: it waits. */
int targets_find(struct admin *ad);
/* All volumes are to give up what is older than a moment, or with 0, nothing. ERR_NOMEM. */
int targets_of_all(struct admin *ad, uint64_t sequence, uint64_t wall_ns);
uint64_t targets_youngest(const struct admin_cleaning *c);

#endif
