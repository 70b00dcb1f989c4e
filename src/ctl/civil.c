/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A year is counted from 1 March, so that the leap day is its last day and a month's first day is a
 * linear function of the month: day of the year = (153 * m + 2) / 5 with m = 0 for March. Years
 * repeat every 400 (146,097 days); day 0 of era 0 is 0000-03-01, which is 719,468 days before 1970.
 */
#include "ctl/civil.h"

#include <stdbool.h>

#include "base/must.h"

#define ERA_YEARS 400
#define ERA_DAYS 146097
#define EPOCH_SHIFT_DAYS 719468

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

static bool is_leap(int64_t year) {
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int32_t civil_days_in_month(int64_t year, int32_t month) {
    must(month >= 1 && month <= 12);
    if (month == 2)
        return is_leap(year) ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

int64_t civil_to_seconds(const struct civil *c) {
    must(c->month >= 1 && c->month <= 12 && c->day >= 1 && c->day <= 31);
    int64_t year = c->year - (c->month <= 2);
    int64_t era = floor_div(year, ERA_YEARS);
    int64_t year_of_era = year - era * ERA_YEARS;
    int64_t march_month = (c->month + 9) % 12;
    int64_t day_of_year = (153 * march_month + 2) / 5 + c->day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    int64_t days = era * ERA_DAYS + day_of_era - EPOCH_SHIFT_DAYS;
    return days * CIVIL_DAY_S + c->hour * 3600 + c->minute * 60 + c->second;
}

struct civil civil_from_seconds(int64_t seconds) {
    int64_t days = floor_div(seconds, CIVIL_DAY_S);
    int64_t rest = seconds - days * CIVIL_DAY_S;
    days += EPOCH_SHIFT_DAYS;
    int64_t era = floor_div(days, ERA_DAYS);
    int64_t day_of_era = days - era * ERA_DAYS;
    int64_t leap_days = day_of_era / 1460 - day_of_era / 36524 + day_of_era / 146096;
    int64_t year_of_era = (day_of_era - leap_days) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;
    int32_t month = (int32_t)(march_month < 10 ? march_month + 3 : march_month - 9);
    return (struct civil){
        .year = year_of_era + era * ERA_YEARS + (month <= 2),
        .month = month,
        .day = (int32_t)(day_of_year - (153 * march_month + 2) / 5 + 1),
        .hour = (int32_t)(rest / 3600),
        .minute = (int32_t)(rest / 60 % 60),
        .second = (int32_t)(rest % 60),
    };
}
