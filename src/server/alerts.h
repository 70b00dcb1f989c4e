/* SPDX-License-Identifier: Apache-2.0 */
/* The sink of alerts: one line each to stderr when raised, and a list for `perdure alerts`. An alert of the
 * same code and subject replaces the former one. */
#ifndef SERVER_ALERTS_H
#define SERVER_ALERTS_H

#include "plat/alert.h"
#include "plat/clock.h"
#include "server/log_line.h"

#define ALERTS_MAX 64

struct alert {
    enum alert_level level;
    char code[48];
    char subject[64];
    char text[256];
    uint64_t raised_wall_ns;
};

struct alerts {
    struct clock clock;
    struct alert at[ALERTS_MAX];
    uint32_t count;
};

struct alert_sink alerts_sink(struct alerts *a);

#endif
