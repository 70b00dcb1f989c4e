/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes fit for secrets and identities. In the simulator they follow from the seed. */
#ifndef PLAT_RANDOM_H
#define PLAT_RANDOM_H

#include <stddef.h>

struct random_ops {
    void (*fill)(void *ctx, void *buf, size_t bytes);
};

struct random_source {
    const struct random_ops *ops;
    void *ctx;
};

#endif
