/* SPDX-License-Identifier: Apache-2.0 */
/* The proleptic Gregorian calendar: dates to and from seconds since 1970-01-01 00:00:00. No zone
 * and no leap seconds: "seconds" are seconds of whatever clock shows the date. */
#ifndef CTL_CIVIL_H
#define CTL_CIVIL_H

#include <stdint.h>

#define CIVIL_DAY_S INT64_C(86400)

struct civil {
    int64_t year;
    int32_t month, day; /* from 1 */
    int32_t hour, minute, second;
};

int32_t civil_days_in_month(int64_t year, int32_t month);

/* The fields must be in range. */
int64_t civil_to_seconds(const struct civil *c);
struct civil civil_from_seconds(int64_t seconds);

#endif
