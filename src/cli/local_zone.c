/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/local_zone.h"

#include <time.h>

#include "ctl/civil.h"

/* The difference of the two readings needs no tm_gmtoff, which is not in every C library. */
static int32_t local_offset_s(void *ctx, int64_t utc_s) {
    time_t t = (time_t)utc_s;
    struct tm local;
    if (!localtime_r(&t, &local))
        return 0;
    struct civil c = {.year = local.tm_year + INT64_C(1900),
                      .month = local.tm_mon + 1,
                      .day = local.tm_mday,
                      .hour = local.tm_hour,
                      .minute = local.tm_min,
                      .second = local.tm_sec};
    return (int32_t)(civil_to_seconds(&c) - utc_s);
}

static const struct moment_zone_ops local_ops = {local_offset_s};

struct moment_zone local_zone(void) {
    tzset();
    return (struct moment_zone){.ops = &local_ops};
}
