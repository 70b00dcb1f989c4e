/* SPDX-License-Identifier: Apache-2.0 */
/* Time. `monotonic` never goes back and is the same for all processes of one boot; `wall` is UTC
 * since 1970 and may jump. Both in nanoseconds. */
#ifndef PLAT_CLOCK_H
#define PLAT_CLOCK_H

#include <stdint.h>

struct clock_ops {
    uint64_t (*monotonic_ns)(void *ctx);
    uint64_t (*wall_ns)(void *ctx);
};

struct clock {
    const struct clock_ops *ops;
    void *ctx;
};

static inline uint64_t clock_monotonic_ns(const struct clock *c) {
    return c->ops->monotonic_ns(c->ctx);
}
static inline uint64_t clock_wall_ns(const struct clock *c) {
    return c->ops->wall_ns(c->ctx);
}

#endif
