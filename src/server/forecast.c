/* SPDX-License-Identifier: Apache-2.0 */
/* How much is recorded a day, and how long the free room will last if nothing is given up: from what clients did
 * in the last day, or since the first that is known of it, asked of the catalogue once a minute. */
#include "server/perdured.h"

#define FORECAST_EVERY_NS (60 * NS_PER_S)
#define DAY_S UINT64_C(86400)
#define LEAST_S 600u /* of less, nothing is said */

static void arrived(struct catalogue_request *r) {
    struct perdured *p = r->owner;
    p->forecast.under_way = 0;
    if (r->result < 0 || r->out.words[1] < LEAST_S)
        return;
    p->forecast.is_known = 1;
    p->forecast.bytes_per_day =
        (uint64_t)((double)r->out.words[0] * (double)DAY_S / (double)r->out.words[1]);
}

void forecast_turn(struct perdured *p) {
    struct forecast *f = &p->forecast;
    if (f->under_way || p->core.r.now_ns < f->next_ns)
        return;
    uint64_t now_s = clock_wall_ns(&p->core.r.clock) / NS_PER_S;
    f->next_ns = p->core.r.now_ns + FORECAST_EVERY_NS;
    f->under_way = 1;
    f->request = (struct catalogue_request){.kind = CATALOGUE_RATE, .done = arrived, .owner = p};
    f->request.args.from_s = now_s > DAY_S ? now_s - DAY_S : 0;
    f->request.args.to_s = now_s + 1;
    catalogue_submit(&p->catalogue, &f->request);
}

uint64_t forecast_lasts_ns(const struct perdured *p, uint64_t free_bytes) {
    double days =
        p->forecast.bytes_per_day ? (double)free_bytes / (double)p->forecast.bytes_per_day : 1e9;
    return days < 36600 ? (uint64_t)(days * (double)(DAY_S * NS_PER_S)) : UINT64_MAX;
}
