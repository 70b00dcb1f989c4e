/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chosen moments (thinning.h): what the store showed for a while in which a whole minute of the wall clock lay.
 * That is known when the next record comes. They are looked for when a turn has ended, as records of a turn come
 * at any place in it.
 *
 * One that gets lost, as the process ends, or as the one before has not been in the catalogue for a minute, is
 * missing in no other way than if nothing had been recorded for that minute: the next one has its step.
 */
#include "engine/admin_priv.h"

#define MINUTE_NS (60 * NS_PER_S)

void admin_moments_output(struct admin *ad) {
    uint64_t recorded = ad->c.log->recorded(ad->c.log_ctx);
    if (recorded == ad->shown.sequence)
        return;
    uint64_t now_ns = clock_wall_ns(&ad->c.clock);
    if (ad->shown.sequence && ad->due.sequence == 0 &&
        ad->shown.time_ns / MINUTE_NS != now_ns / MINUTE_NS) {
        ad->due = ad->shown;
        ad->due_until_ns = now_ns;
    }
    ad->shown = (struct admin_shown){recorded, now_ns, ad->c.log->store_ns(ad->c.log_ctx)};
}

static int is_under_way(const struct admin *ad) {
    struct operation_h h = {0};
    while ((h = operation_next(ad->c.a, h)).v)
        if (operation_view(ad->c.a, h)->kind == OPERATION_MOMENT)
            return 1;
    return 0;
}

void admin_moments_turn(struct admin *ad) {
    struct admin_request q = {.kind = OPERATION_MOMENT, .flags = OPERATION_INTERNAL};
    struct operation_h h;
    if (ad->due.sequence == 0 || is_under_way(ad) || admin_begin(ad, &q, &h) < 0)
        return; /* perhaps in a later turn */
    struct operation *op = operation_edit(ad->c.a, h);
    op->sequence = op->wait_sequence = ad->due.sequence;
    op->moment_ns = ad->due.time_ns;
    op->now_ns = ad->due_until_ns;
    op->lease_ns = ad->due.store_ns;
    ad->due.sequence = 0;
}
