/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "ctl/civil.h"
#include "ctl/moment.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Zones as lists of changes: the offset before the first, then each from its instant on. */
struct change {
    const char *utc;
    int32_t offset_s;
};

struct fake_zone {
    int32_t first_s;
    struct change changes[4];
};

static int64_t utc(const char *text) {
    struct moment m;
    assert_int_equal(moment_parse(text, strlen(text), 0, NULL, &m, NULL), OK);
    return (int64_t)(m.time_ns / NS_PER_S);
}

static int32_t fake_offset_s(void *ctx, int64_t utc_s) {
    const struct fake_zone *z = ctx;
    int32_t offset_s = z->first_s;
    for (size_t i = 0; i < 4 && z->changes[i].utc; i++)
        if (utc_s >= utc(z->changes[i].utc))
            offset_s = z->changes[i].offset_s;
    return offset_s;
}

static const struct moment_zone_ops fake_ops = {fake_offset_s};

/* Central Europe in 2026; Newfoundland in 2010, which went back from 00:01 to 23:01; Samoa, which
 * left out 30 December 2011; Lord Howe, which moves by half an hour; a zone with odd seconds. */
static struct fake_zone berlin_rules = {
    3600, {{"2026-03-29T01:00:00Z", 7200}, {"2026-10-25T01:00:00Z", 3600}}};
static struct fake_zone st_johns_rules = {-9000, {{"2010-11-07T02:31:00Z", -12600}}};
static struct fake_zone apia_rules = {-36000, {{"2011-12-30T10:00:00Z", 50400}}};
static struct fake_zone lord_howe_rules = {39600, {{"2026-04-04T15:00:00Z", 37800}}};
static struct fake_zone liberia_rules = {-2670, {{"1972-01-07T00:44:30Z", 0}}};

static const struct moment_zone berlin = {&fake_ops, &berlin_rules};
static const struct moment_zone st_johns = {&fake_ops, &st_johns_rules};
static const struct moment_zone apia = {&fake_ops, &apia_rules};
static const struct moment_zone lord_howe = {&fake_ops, &lord_howe_rules};
static const struct moment_zone liberia = {&fake_ops, &liberia_rules};

#define NOON "2026-11-22T11:00:00Z"
#define SUMMER "2026-07-01T10:00:00Z"

struct time_case {
    const struct moment_zone *zone;
    const char *now;
    const char *text;
    const char *time; /* the answer in UTC */
    enum moment_form form;
};

static const struct time_case times[] = {
    /* RFC 3339 and its relaxed forms. */
    /*  0 */ {NULL, NOON, "2026-11-22T17:00:03.25Z", "2026-11-22T17:00:03.25Z", MOMENT_ABSOLUTE},
    /*  1 */ {NULL, NOON, "2026-11-22t17:00:03z", "2026-11-22T17:00:03Z", MOMENT_ABSOLUTE},
    /*  2 */ {NULL, NOON, "2026-11-22T17:00:03+01:00", "2026-11-22T16:00:03Z", MOMENT_ABSOLUTE},
    /*  3 */ {NULL, NOON, "2026-11-22 17:00 -03:30", "2026-11-22T20:30:00Z", MOMENT_ABSOLUTE},
    /*  4 */ {NULL, NOON, "2026-11-22T17:00:03-00:00", "2026-11-22T17:00:03Z", MOMENT_ABSOLUTE},
    /*  5 */ {NULL, NOON, "2026-11-22 17:00:03", "2026-11-22T17:00:03Z", MOMENT_LOCAL},
    /*  6 */ {&berlin, NOON, "2026-11-22 17:00:03", "2026-11-22T16:00:03Z", MOMENT_LOCAL},
    /*  7 */ {&berlin, NOON, "2026-07-01T17:00", "2026-07-01T15:00:00Z", MOMENT_LOCAL},
    /*  8 */
    {&berlin, NOON, "2026-11-22 17:00:03.000000001", "2026-11-22T16:00:03.000000001Z",
     MOMENT_LOCAL},
    /*  9 */ {NULL, NOON, "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", MOMENT_ABSOLUTE},
    /* 10 */
    {NULL, NOON, "2000-02-29T23:59:59.999999999Z", "2000-02-29T23:59:59.999999999Z",
     MOMENT_ABSOLUTE},
    /* 11 */ {NULL, NOON, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", MOMENT_ABSOLUTE},
    /* 12 */ {NULL, NOON, "1970-01-01T00:30:00-00:30", "1970-01-01T01:00:00Z", MOMENT_ABSOLUTE},
    /* 13 */ {NULL, NOON, "2553-12-31T23:59:59Z", "2553-12-31T23:59:59Z", MOMENT_ABSOLUTE},
    /* 14 */
    {NULL, NOON, "2553-12-31T23:59:59.999999999-00:00", "2553-12-31T23:59:59.999999999Z",
     MOMENT_ABSOLUTE},
    /* 15 */ {NULL, NOON, "2400-02-29 12:00", "2400-02-29T12:00:00Z", MOMENT_LOCAL},
    /* Around the changes of the clock: last and first instants with one reading. */
    /* 16 */ {&berlin, NOON, "2026-03-29 01:59:59.9", "2026-03-29T00:59:59.9Z", MOMENT_LOCAL},
    /* 17 */ {&berlin, NOON, "2026-03-29 03:00:00", "2026-03-29T01:00:00Z", MOMENT_LOCAL},
    /* 18 */ {&berlin, NOON, "2026-10-25 01:59:59", "2026-10-24T23:59:59Z", MOMENT_LOCAL},
    /* 19 */ {&berlin, NOON, "2026-10-25 03:00:00", "2026-10-25T02:00:00Z", MOMENT_LOCAL},
    /* 20 */ {&berlin, NOON, "2026-10-25 02:30:00+02:00", "2026-10-25T00:30:00Z", MOMENT_ABSOLUTE},
    /* 21 */ {&berlin, NOON, "2026-10-25 02:30:00 +01:00", "2026-10-25T01:30:00Z", MOMENT_ABSOLUTE},
    /* 22 */ {&apia, NOON, "2011-12-29 23:59:59", "2011-12-30T09:59:59Z", MOMENT_LOCAL},
    /* 23 */ {&apia, NOON, "2011-12-31 00:00:00", "2011-12-30T10:00:00Z", MOMENT_LOCAL},
    /* The last time the clock showed it. */
    /* 24 */ {NULL, NOON, "10:59:59", "2026-11-22T10:59:59Z", MOMENT_CLOCK},
    /* 25 */ {NULL, NOON, "11:00", "2026-11-22T11:00:00Z", MOMENT_CLOCK},
    /* 26 */ {NULL, NOON, "11:00:00.000000001", "2026-11-21T11:00:00.000000001Z", MOMENT_CLOCK},
    /* 27 */ {NULL, "2026-11-22T11:00:00.5Z", "11:00:00.5", "2026-11-22T11:00:00.5Z", MOMENT_CLOCK},
    /* 28 */ {NULL, "2026-11-22T11:00:00.5Z", "11:00:00.6", "2026-11-21T11:00:00.6Z", MOMENT_CLOCK},
    /* 29 */ {&berlin, NOON, "12:00:00", "2026-11-22T11:00:00Z", MOMENT_CLOCK},
    /* 30 */ {&berlin, NOON, "12:00:01", "2026-11-21T11:00:01Z", MOMENT_CLOCK},
    /* 31 */ {&berlin, NOON, "12:30Z", "2026-11-21T12:30:00Z", MOMENT_CLOCK},
    /* 32 */ {&berlin, NOON, "12:30+02:00", "2026-11-22T10:30:00Z", MOMENT_CLOCK},
    /* 33 */ {&berlin, "2026-07-01T22:30:00Z", "23:00", "2026-07-01T21:00:00Z", MOMENT_CLOCK},
    /* 34 */ {NULL, "2026-03-01T00:00:00Z", "23:00", "2026-02-28T23:00:00Z", MOMENT_CLOCK},
    /* 35 */ {NULL, "2027-01-01T00:00:00Z", "23:00", "2026-12-31T23:00:00Z", MOMENT_CLOCK},
    /* Set back at 03:00 to 02:00: between the two half past twos only the first is past. */
    /* 36 */ {&berlin, "2026-10-25T00:45:00Z", "02:30", "2026-10-25T00:30:00Z", MOMENT_CLOCK},
    /* 37 */ {&berlin, "2026-10-25T01:15:00Z", "02:30", "2026-10-25T00:30:00Z", MOMENT_CLOCK},
    /* 38 */ {&berlin, "2026-10-26T12:00:00Z", "02:30", "2026-10-26T01:30:00Z", MOMENT_CLOCK},
    /* Before the clock is set forward: half past two is yesterday's. */
    /* 39 */ {&berlin, "2026-03-29T00:59:59Z", "02:30", "2026-03-28T01:30:00Z", MOMENT_CLOCK},
    /* Set back over midnight: the clock has already shown tomorrow's first half minute. */
    /* 40 */ {&st_johns, "2010-11-07T02:40:00Z", "00:00:30", "2010-11-07T02:30:30Z", MOMENT_CLOCK},
    /* 41 */ {&st_johns, "2010-11-07T02:40:00Z", "23:20", "2010-11-07T01:50:00Z", MOMENT_CLOCK},
    /* Before now. */
    /* 42 */ {NULL, NOON, "-5min", "2026-11-22T10:55:00Z", MOMENT_RELATIVE},
    /* 43 */ {NULL, NOON, "-2h30m", "2026-11-22T08:30:00Z", MOMENT_RELATIVE},
    /* 44 */ {NULL, NOON, "-10s", "2026-11-22T10:59:50Z", MOMENT_RELATIVE},
    /* 45 */ {NULL, NOON, "-1d", "2026-11-21T11:00:00Z", MOMENT_RELATIVE},
    /* 46 */ {&berlin, "2026-10-25T12:00:00Z", "-1d", "2026-10-24T12:00:00Z", MOMENT_RELATIVE},
    /* 47 */ {NULL, NOON, "-0.5s", "2026-11-22T10:59:59.5Z", MOMENT_RELATIVE},
    /* 48 */ {NULL, NOON, "-0s", NOON, MOMENT_RELATIVE},
};

static uint64_t now_of(const char *text) {
    struct moment m;
    assert_int_equal(moment_parse(text, strlen(text), 0, NULL, &m, NULL), OK);
    return m.time_ns;
}

static void time_table(void **state) {
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        const struct time_case *c = &times[i];
        struct fault f = {.at = 0};
        struct moment m;
        char text[MOMENT_TEXT_BYTES];
        int err = moment_parse(c->text, strlen(c->text), now_of(c->now), c->zone, &m, &f);
        if (err)
            fail_msg("case %zu \"%s\": %s at %u (%s)", i, c->text, err_word(err), f.at, f.text);
        assert_int_equal(m.kind, MOMENT_TIME);
        moment_to_text(&m, text);
        if (strcmp(text, c->time) != 0 || m.form != c->form)
            fail_msg("case %zu \"%s\": %s form %d", i, c->text, text, m.form);
    }
}

struct refusal {
    const struct moment_zone *zone;
    const char *now;
    const char *text;
    int err;
    uint32_t at;
    const char *readings[2]; /* in UTC */
};

#define A60 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct refusal refusals[] = {
    /* The clock showed it twice. */
    /*  0 */ {&berlin,
              NOON,
              "2026-10-25 02:30:00",
              ERR_AMBIGUOUS,
              0,
              {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}},
    /*  1 */
    {&berlin,
     NOON,
     "2026-10-25T02:00",
     ERR_AMBIGUOUS,
     0,
     {"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"}},
    /*  2 */
    {&berlin,
     NOON,
     "2026-10-25 02:59:59.5",
     ERR_AMBIGUOUS,
     0,
     {"2026-10-25T00:59:59.5Z", "2026-10-25T01:59:59.5Z"}},
    /*  3 */
    {&st_johns,
     NOON,
     "2010-11-06 23:30",
     ERR_AMBIGUOUS,
     0,
     {"2010-11-07T02:00:00Z", "2010-11-07T03:00:00Z"}},
    /*  4 */
    {&lord_howe,
     NOON,
     "2026-04-05 01:45",
     ERR_AMBIGUOUS,
     0,
     {"2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"}},
    /*  5 */
    {&berlin,
     "2026-10-25T01:30:00Z",
     "02:30",
     ERR_AMBIGUOUS,
     0,
     {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}},
    /*  6 */
    {&berlin,
     "2026-10-25T20:00:00Z",
     "02:30",
     ERR_AMBIGUOUS,
     0,
     {"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}},
    /* The clock never showed it. */
    /*  7 */
    {&berlin,
     NOON,
     "2026-03-29 02:30:00",
     ERR_INVAL,
     0,
     {"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
    /*  8 */
    {&berlin,
     NOON,
     "2026-03-29 02:00",
     ERR_INVAL,
     0,
     {"2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"}},
    /*  9 */
    {&apia,
     NOON,
     "2011-12-30 12:00",
     ERR_INVAL,
     0,
     {"2011-12-29T22:00:00Z", "2011-12-30T22:00:00Z"}},
    /* 10 */
    {&berlin,
     "2026-03-29T10:00:00Z",
     "02:30",
     ERR_INVAL,
     0,
     {"2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"}},
    /* No such dates and times. */
    /* 11 */ {NULL, NOON, "2026-02-29T00:00:00Z", ERR_INVAL, 8, {0}},
    /* 12 */ {NULL, NOON, "2100-02-29T00:00:00Z", ERR_INVAL, 8, {0}},
    /* 13 */ {NULL, NOON, "2026-04-31 10:00", ERR_INVAL, 8, {0}},
    /* 14 */ {NULL, NOON, "2026-13-01 10:00", ERR_INVAL, 5, {0}},
    /* 15 */ {NULL, NOON, "2026-00-01 10:00", ERR_INVAL, 5, {0}},
    /* 16 */ {NULL, NOON, "2026-01-00 10:00", ERR_INVAL, 8, {0}},
    /* 17 */ {NULL, NOON, "2026-01-01 24:00", ERR_INVAL, 11, {0}},
    /* 18 */ {NULL, NOON, "2026-01-01 10:60", ERR_INVAL, 14, {0}},
    /* 19 */ {NULL, NOON, "2026-12-31T23:59:60Z", ERR_INVAL, 17, {0}},
    /* 20 */ {NULL, NOON, "2026-12-31T23:59:61Z", ERR_INVAL, 17, {0}},
    /* 21 */ {NULL, NOON, "2026-12-31T23:59:59+24:00", ERR_INVAL, 20, {0}},
    /* 22 */ {NULL, NOON, "2026-12-31T23:59:59+01:60", ERR_INVAL, 23, {0}},
    /* Far away. */
    /* 23 */ {NULL, NOON, "1969-12-31T23:59:59Z", ERR_RANGE, 0, {0}},
    /* 24 */ {NULL, NOON, "1970-01-01T00:00:00+00:01", ERR_RANGE, 0, {0}},
    /* 25 */ {NULL, NOON, "2553-12-31T23:59:59-00:01", ERR_RANGE, 0, {0}},
    /* 26 */ {NULL, NOON, "9999-12-31T23:59:59Z", ERR_RANGE, 0, {0}},
    /* 27 */ {NULL, NOON, "10000-01-01T00:00:00Z", ERR_INVAL, 4, {0}},
    /* 28 */ {NULL, NOON, "-57y", ERR_INVAL, 3, {0}},
    /* 29 */ {NULL, NOON, "-3000w", ERR_RANGE, 0, {0}},
    /* 30 */ {NULL, NOON, "-99999999999999999999s", ERR_RANGE, 1, {0}},
    /* 31 */ {&berlin, NOON, "1970-01-01 00:30", ERR_RANGE, 0, {0}},
    /* Broken forms: where the reading ends. */
    /* 32 */ {NULL, NOON, "", ERR_INVAL, 0, {0}},
    /* 33 */ {NULL, NOON, " now", ERR_INVAL, 0, {0}},
    /* 34 */ {NULL, NOON, "2026-11-22", ERR_INVAL, 10, {0}},
    /* 35 */ {NULL, NOON, "2026-11-22X17:00", ERR_INVAL, 10, {0}},
    /* 36 */ {NULL, NOON, "2026-11-22  17:00", ERR_INVAL, 11, {0}},
    /* 37 */ {NULL, NOON, "2026-1-22 17:00", ERR_INVAL, 6, {0}},
    /* 38 */ {NULL, NOON, "2026-11-2 17:00", ERR_INVAL, 9, {0}},
    /* 39 */ {NULL, NOON, "26-11-22 17:00", ERR_INVAL, 2, {0}},
    /* 40 */ {NULL, NOON, "2026/11/22 17:00", ERR_INVAL, 4, {0}},
    /* 41 */ {NULL, NOON, "2026-11-22 7:00", ERR_INVAL, 12, {0}},
    /* 42 */ {NULL, NOON, "2026-11-22 17", ERR_INVAL, 13, {0}},
    /* 43 */ {NULL, NOON, "2026-11-22 17:00:", ERR_INVAL, 17, {0}},
    /* 44 */ {NULL, NOON, "2026-11-22 17:00:03.", ERR_INVAL, 20, {0}},
    /* 45 */ {NULL, NOON, "2026-11-22 17:00:03,5", ERR_INVAL, 19, {0}},
    /* 46 */ {NULL, NOON, "2026-11-22 17:00:03.1234567890", ERR_INVAL, 29, {0}},
    /* 47 */ {NULL, NOON, "2026-11-22 17:00:03 CET", ERR_INVAL, 20, {0}},
    /* 48 */ {NULL, NOON, "2026-11-22 17:00:03+0100", ERR_INVAL, 22, {0}},
    /* 49 */ {NULL, NOON, "2026-11-22 17:00:03Z ", ERR_INVAL, 20, {0}},
    /* 50 */ {NULL, NOON, "2026-11-22 17:00:03 ", ERR_INVAL, 20, {0}},
    /* 51 */ {NULL, NOON, "2026-11-22 17:00 PM", ERR_INVAL, 17, {0}},
    /* 52 */ {NULL, NOON, "5:00", ERR_INVAL, 1, {0}},
    /* 53 */ {NULL, NOON, "25:00", ERR_INVAL, 0, {0}},
    /* 54 */ {NULL, NOON, "17:00:03+", ERR_INVAL, 9, {0}},
    /* 55 */ {NULL, NOON, "17:00 PM", ERR_INVAL, 6, {0}},
    /* 56 */ {NULL, NOON, "-", ERR_INVAL, 1, {0}},
    /* 57 */ {NULL, NOON, "-5", ERR_INVAL, 2, {0}},
    /* 58 */ {NULL, NOON, "-5 min", ERR_INVAL, 2, {0}},
    /* 59 */ {NULL, NOON, "-30m2h", ERR_INVAL, 4, {0}},
    /* 60 */ {NULL, NOON, "+5min", ERR_INVAL, 0, {0}},
    /* 61 */ {NULL, NOON, "5min", ERR_INVAL, 0, {0}},
    /* 62 */ {NULL, NOON, "123456", ERR_INVAL, 0, {0}},
    /* 63 */ {NULL, NOON, "1st", ERR_INVAL, 1, {0}},
    /* 64 */ {NULL, NOON, "seq:", ERR_INVAL, 4, {0}},
    /* 65 */ {NULL, NOON, "seq:-1", ERR_INVAL, 4, {0}},
    /* 66 */ {NULL, NOON, "seq:12x", ERR_INVAL, 6, {0}},
    /* 67 */ {NULL, NOON, "seq:9223372036854775808", ERR_RANGE, 4, {0}},
    /* 68 */ {NULL, NOON, "before upgrade", ERR_INVAL, 6, {0}},
    /* 69 */ {NULL, NOON, "a@b", ERR_INVAL, 1, {0}},
    /* 70 */ {NULL, NOON, A60 "abcd", ERR_TOOBIG, 63, {0}},
    /* 71 */
    {NULL,
     NOON,
     "\xe2\x88\x92"
     "5min",
     ERR_INVAL,
     0,
     {0}},
};

static void refusal_table(void **state) {
    for (size_t i = 0; i < COUNT_OF(refusals); i++) {
        const struct refusal *c = &refusals[i];
        struct fault f = {.at = 0};
        struct moment m;
        int err = moment_parse(c->text, strlen(c->text), now_of(c->now), c->zone, &m, &f);
        if (err != c->err || f.at != c->at || !f.text[0])
            fail_msg("case %zu \"%s\": %s at %u (%s)", i, c->text, err_word(err), f.at, f.text);
        assert_int_equal(m.reading_count, c->readings[0] ? 2 : 0);
        for (uint32_t r = 0; r < m.reading_count; r++) {
            char text[MOMENT_TEXT_BYTES];
            moment_format_utc(m.reading_ns[r], text);
            if (strcmp(text, c->readings[r]) != 0)
                fail_msg("case %zu \"%s\": reading %u is %s", i, c->text, r, text);
            /* The fault offers each reading as a text that is read as just that moment. */
            moment_format_local(m.reading_ns[r], m.reading_ns[r] % NS_PER_S ? 9 : 0, c->zone, text);
            assert_non_null(strstr(f.text, text));
        }
        assert_int_equal(moment_parse(c->text, strlen(c->text), now_of(c->now), c->zone, &m, NULL),
                         c->err);
    }
}

static void words(void **state) {
    struct moment m;
    char text[MOMENT_TEXT_BYTES];
    assert_int_equal(moment_parse("now", 3, 42, NULL, &m, NULL), OK);
    assert_int_equal(m.kind, MOMENT_NOW);
    assert_int_equal(m.time_ns, 42);
    moment_to_text(&m, text);
    assert_string_equal(text, "now");
    assert_int_equal(moment_parse("NOW", 3, 42, NULL, &m, NULL), OK);
    assert_int_equal(m.kind, MOMENT_NOW);

    assert_int_equal(moment_parse("seq:9223372036854775807", 23, 0, NULL, &m, NULL), OK);
    assert_int_equal(m.kind, MOMENT_SEQUENCE);
    assert_true(m.sequence == INT64_MAX);
    moment_to_text(&m, text);
    assert_string_equal(text, "seq:9223372036854775807");
    assert_int_equal(moment_parse("seq:0", 5, 0, NULL, &m, NULL), OK);
    assert_int_equal(m.sequence, 0);

    static const char *const labels[] = {"before-upgrade", "nowhere", "seq", "T",
                                         "z.1_2",          A60 "abc"};
    for (size_t i = 0; i < COUNT_OF(labels); i++) {
        assert_int_equal(moment_parse(labels[i], strlen(labels[i]), 0, NULL, &m, NULL), OK);
        assert_int_equal(m.kind, MOMENT_MARK);
        moment_to_text(&m, text);
        assert_string_equal(text, labels[i]);
    }
}

static void local_format(void **state) {
    char text[MOMENT_TEXT_BYTES];
    moment_format_local(now_of("2026-11-22T16:00:03.25Z"), 3, &berlin, text);
    assert_string_equal(text, "2026-11-22 17:00:03.250 +01:00");
    moment_format_local(now_of("2026-07-01T16:00:03.999Z"), 0, &berlin, text);
    assert_string_equal(text, "2026-07-01 18:00:03 +02:00");
    moment_format_local(now_of("2010-11-06T16:00:00Z"), 0, &st_johns, text);
    assert_string_equal(text, "2010-11-06 13:30:00 -02:30");
    moment_format_local(now_of(NOON), 9, NULL, text);
    assert_string_equal(text, "2026-11-22 11:00:00.000000000 +00:00");
    moment_format_local(now_of("1971-01-01T00:00:00Z"), 0, &liberia, text);
    assert_string_equal(text, "1971-01-01 00:00:00 +00:00");
    moment_format_utc(UINT64_MAX, text);
    assert_string_equal(text, "2554-07-21T23:34:33.709551615Z");
}

/* Every formatted moment is read back as itself, in UTC and in local time, also in the hours that
 * the clock shows twice. */
static void round_trip(void **state) {
    struct prng p = prng_seed(3);
    uint64_t fold_ns = now_of("2026-10-24T22:00:00Z");
    for (int i = 0; i < 20000; i++) {
        uint64_t ns = i & 1 ? prng_next(&p) % (UINT64_C(18429000000) * NS_PER_S)
                            : fold_ns + prng_below(&p, UINT64_C(6) * 3600) * NS_PER_S;
        char text[MOMENT_TEXT_BYTES];
        struct moment m;
        moment_format_utc(ns, text);
        assert_int_equal(moment_parse(text, strlen(text), 0, &berlin, &m, NULL), OK);
        assert_true(m.time_ns == ns);
        moment_format_local(ns, 9, &berlin, text);
        assert_int_equal(moment_parse(text, strlen(text), 0, NULL, &m, NULL), OK);
        assert_true(m.time_ns == ns);
    }
}

/* Every day of the calendar's 400 years and a bit follows the one before. */
static void calendar(void **state) {
    struct civil c = {.year = 1970, .month = 1, .day = 1};
    for (int64_t day = 0; day < 213000; day++) {
        assert_true(civil_to_seconds(&c) == day * CIVIL_DAY_S);
        struct civil back = civil_from_seconds(day * CIVIL_DAY_S + 86399);
        assert_true(back.year == c.year && back.month == c.month && back.day == c.day);
        assert_true(back.hour == 23 && back.minute == 59 && back.second == 59);
        if (++c.day > civil_days_in_month(c.year, c.month)) {
            c.day = 1;
            if (++c.month > 12) {
                c.month = 1;
                c.year++;
            }
        }
    }
    struct civil before = civil_from_seconds(-1);
    assert_true(before.year == 1969 && before.month == 12 && before.day == 31);
}

/* Random texts, half of them damaged good ones: the answer is a moment that reads back as itself,
 * or a fault inside the text. The text ends where its buffer ends, for the sanitizer's sake. */
static void random_texts(void **state) {
    static const char alphabet[] = "0123456789-:TZ+. @nowseqhmdrw";
    struct prng p = prng_seed(5);
    uint64_t now_ns = now_of(SUMMER);
    unsigned accepted = 0;
    for (int i = 0; i < 30000; i++) {
        char buffer[48];
        size_t len = prng_below(&p, 34);
        if (i & 1) {
            const char *good = times[prng_below(&p, COUNT_OF(times))].text;
            len = strlen(good);
            memcpy(buffer + sizeof buffer - len, good, len);
        }
        char *text = buffer + sizeof buffer - len;
        for (size_t j = 0; j < len; j++)
            if (!(i & 1) || prng_one_in(&p, 24))
                text[j] = prng_one_in(&p, 16) ? (char)prng_next(&p)
                                              : alphabet[prng_below(&p, sizeof alphabet)];
        struct fault f = {.at = 0};
        struct moment m, again;
        int err = moment_parse(text, len, now_ns, &berlin, &m, &f);
        if (err) {
            assert_true(err < 0 && f.at <= len && f.text[0]);
            continue;
        }
        accepted++;
        char canonical[MOMENT_TEXT_BYTES];
        moment_to_text(&m, canonical);
        assert_int_equal(moment_parse(canonical, strlen(canonical), now_ns, NULL, &again, &f), OK);
        assert_true(again.kind == m.kind && again.time_ns == m.time_ns &&
                    again.sequence == m.sequence && strcmp(again.label, m.label) == 0);
    }
    assert_true(accepted > 1000);
}

struct export_case {
    const char *name;
    int err;
    const char *volume, *image, *moment;
    bool writable;
    uint32_t at;
};

static const struct export_case exports[] = {
    /*  0 */ {"demo", OK, "demo", "", NULL, false, 0},
    /*  1 */ {"demo.before", OK, "demo", "before", NULL, false, 0},
    /*  2 */ {"demo@-10min", OK, "demo", "", "-10min", false, 0},
    /*  3 */ {"demo@-10min+rw", OK, "demo", "", "-10min", true, 0},
    /*  4 */
    {"demo@2026-11-22T17:00:03+02:00", OK, "demo", "", "2026-11-22T17:00:03+02:00", false, 0},
    /*  5 */
    {"demo@2026-11-22T17:00:03+02:00+rw", OK, "demo", "", "2026-11-22T17:00:03+02:00", true, 0},
    /*  6 */ {"demo@2026-11-22 17:00:03.25", OK, "demo", "", "2026-11-22 17:00:03.25", false, 0},
    /*  7 */ {"demo@v1.2", OK, "demo", "", "v1.2", false, 0},
    /*  8 */ {"demo@a@b", OK, "demo", "", "a@b", false, 0},
    /*  9 */ {"demo@+rwx", OK, "demo", "", "+rwx", false, 0},
    /* 10 */ {"demo@", ERR_INVAL, NULL, NULL, NULL, false, 5},
    /* 11 */ {"demo@+rw", ERR_INVAL, NULL, NULL, NULL, false, 5},
    /* 12 */ {"@now", ERR_INVAL, NULL, NULL, NULL, false, 0},
    /* 13 */ {"", ERR_INVAL, NULL, NULL, NULL, false, 0},
    /* 14 */ {"demo+rw", ERR_INVAL, NULL, NULL, NULL, false, 4},
    /* 15 */ {"demo.", ERR_INVAL, NULL, NULL, NULL, false, 5},
    /* 16 */ {".before", ERR_INVAL, NULL, NULL, NULL, false, 0},
    /* 17 */ {"demo.a.b", ERR_INVAL, NULL, NULL, NULL, false, 6},
    /* 18 */ {"demo.a@now", ERR_INVAL, NULL, NULL, NULL, false, 6},
    /* 19 */ {"De mo", ERR_INVAL, NULL, NULL, NULL, false, 0},
    /* 20 */ {A60 "abcd@now", ERR_TOOBIG, NULL, NULL, NULL, false, 63},
};

static void export_table(void **state) {
    for (size_t i = 0; i < COUNT_OF(exports); i++) {
        const struct export_case *c = &exports[i];
        struct fault f = {.at = 0};
        struct moment_export e;
        int err = moment_split_export(c->name, strlen(c->name), &e, &f);
        if (err != c->err || f.at != c->at)
            fail_msg("case %zu \"%s\": %s at %u (%s)", i, c->name, err_word(err), f.at, f.text);
        if (err)
            continue;
        assert_string_equal(e.volume, c->volume);
        assert_string_equal(e.image, c->image);
        assert_int_equal(e.writable, c->writable);
        assert_int_equal(e.moment != NULL, c->moment != NULL);
        if (c->moment) {
            assert_int_equal(e.moment_len, strlen(c->moment));
            assert_memory_equal(e.moment, c->moment, e.moment_len);
        }
    }
    struct moment m;
    assert_int_equal(moment_parse("a@b", 3, 0, NULL, &m, NULL), ERR_INVAL);
    assert_int_equal(moment_parse("x+rw", 4, 0, NULL, &m, NULL), ERR_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_table),   cmocka_unit_test(refusal_table), cmocka_unit_test(words),
        cmocka_unit_test(local_format), cmocka_unit_test(round_trip),    cmocka_unit_test(calendar),
        cmocka_unit_test(random_texts), cmocka_unit_test(export_table),
    };
    return cmocka_run_group_tests_name("ctl_moment", tests, NULL, NULL);
}
