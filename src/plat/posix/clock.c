/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "base/must.h"
#include "base/units.h"
#include "plat/posix/posix.h"

static uint64_t now(clockid_t id) {
    struct timespec t;
    must(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t monotonic_ns(void *ctx) {
    return now(CLOCK_MONOTONIC);
}

static uint64_t wall_ns(void *ctx) {
    return now(CLOCK_REALTIME);
}

static const struct clock_ops clock_ops = {monotonic_ns, wall_ns};

struct clock posix_clock(void) {
    return (struct clock){&clock_ops, NULL};
}
