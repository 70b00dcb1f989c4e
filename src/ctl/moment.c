/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first character tells the kind: '-' relative, a digit a date or a clock time, a letter a word
 * (now, seq:, or a label). Nothing is tried twice, so every error names the place where the only
 * possible reading ends.
 *
 * From local time to UTC: an instant u reads as the local time L if u + offset(u) = L. Offsets stay
 * within a day, so every such u lies within a day of L, and each stretch of constant offset in that
 * window is probed once an hour. One reading is the answer. Two: the clock was set back over L.
 * None: it was set forward over L, and the two moments that may be meant are L by the offset before
 * and by the offset after.
 */
#include "ctl/moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"
#include "base/units.h"
#include "ctl/civil.h"
#include "ctl/size.h"

#define HOUR_S INT64_C(3600)
#define YEAR_MIN 1970
#define YEAR_MAX 2553
#define END_S INT64_C(18429292800) /* 2554-01-01T00:00:00Z */

struct cursor {
    const char *text;
    size_t len, at;
    struct fault *fault;
};

/* A date or clock time as read; day and offset may be absent. */
struct wall {
    struct civil civil;
    uint32_t fraction_ns;
    bool has_zone;
    int32_t offset_s;
};

struct readings {
    uint32_t count; /* how often the clock showed it */
    int64_t utc_s[2];
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char peek(const struct cursor *c) {
    return c->at < c->len ? c->text[c->at] : '\0';
}

static int32_t zone_offset(const struct moment_zone *zone, int64_t utc_s) {
    return zone ? zone->ops->offset_s(zone->ctx, utc_s) : 0;
}

/* Exactly `digits` digits, within [low, high]. */
static int take_number(struct cursor *c, uint32_t digits, int32_t low, int32_t high,
                       const char *what, int32_t *out) {
    size_t first = c->at;
    int32_t value = 0;
    for (uint32_t i = 0; i < digits; i++, c->at++) {
        if (!is_digit(peek(c)))
            return fault_set(c->fault, ERR_INVAL, c->at, "the %s needs %u digits", what, digits);
        value = value * 10 + (peek(c) - '0');
    }
    if (is_digit(peek(c)))
        return fault_set(c->fault, ERR_INVAL, c->at, "the %s has only %u digits", what, digits);
    if (value < low || value > high)
        return fault_set(c->fault, ERR_INVAL, first, "the %s goes from %d to %d", what, low, high);
    *out = value;
    return OK;
}

static int take_char(struct cursor *c, char want, const char *what) {
    if (peek(c) != want)
        return fault_set(c->fault, ERR_INVAL, c->at, "a '%c' is expected here, before the %s", want,
                         what);
    c->at++;
    return OK;
}

static int take_fraction(struct cursor *c, uint32_t *fraction_ns) {
    uint32_t scale = 100000000, value = 0;
    c->at++;
    if (!is_digit(peek(c)))
        return fault_set(c->fault, ERR_INVAL, c->at, "digits are expected after the point");
    for (; is_digit(peek(c)); c->at++, scale /= 10) {
        if (scale == 0)
            return fault_set(c->fault, ERR_INVAL, c->at,
                             "a second has at most nine digits after the point");
        value += scale * (uint32_t)(peek(c) - '0');
    }
    *fraction_ns = value;
    return OK;
}

/* HH:MM[:SS[.fraction]] */
static int take_clock(struct cursor *c, struct wall *w) {
    int err = take_number(c, 2, 0, 23, "hour", &w->civil.hour);
    if (!err)
        err = take_char(c, ':', "minute");
    if (!err)
        err = take_number(c, 2, 0, 59, "minute", &w->civil.minute);
    if (err || peek(c) != ':')
        return err;
    c->at++;
    size_t second_at = c->at;
    err = take_number(c, 2, 0, 60, "second", &w->civil.second);
    if (!err && w->civil.second == 60)
        return fault_set(c->fault, ERR_INVAL, second_at,
                         "leap seconds have no moment of their own; write second 59");
    if (!err && peek(c) == '.')
        err = take_fraction(c, &w->fraction_ns);
    return err;
}

/* Z, or +HH:MM, at the end of the text; one blank may stand before it. */
static int take_zone(struct cursor *c, struct wall *w) {
    if (peek(c) == ' ')
        c->at++;
    else if (c->at == c->len)
        return OK;
    char sign = peek(c);
    if (sign == 'Z' || sign == 'z') {
        c->at++;
        w->has_zone = true;
    } else if (sign == '+' || sign == '-') {
        int32_t hours = 0, minutes = 0;
        c->at++;
        int err = take_number(c, 2, 0, 23, "zone's hour", &hours);
        if (!err)
            err = take_char(c, ':', "zone's minute");
        if (!err)
            err = take_number(c, 2, 0, 59, "zone's minute", &minutes);
        if (err)
            return err;
        w->has_zone = true;
        w->offset_s = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
    } else {
        return fault_set(c->fault, ERR_INVAL, c->at,
                         "only a zone may follow the time: Z, +HH:MM or -HH:MM");
    }
    if (c->at != c->len)
        return fault_set(c->fault, ERR_INVAL, c->at, "nothing may follow the zone");
    return OK;
}

static int take_date(struct cursor *c, struct wall *w) {
    int32_t year = 0;
    size_t year_at = c->at;
    int err = take_number(c, 4, 0, 9999, "year", &year);
    if (err)
        return err;
    if (year < YEAR_MIN || year > YEAR_MAX)
        return fault_set(c->fault, ERR_RANGE, year_at, "the year goes from %d to %d", YEAR_MIN,
                         YEAR_MAX);
    w->civil.year = year;
    err = take_char(c, '-', "month");
    if (!err)
        err = take_number(c, 2, 1, 12, "month", &w->civil.month);
    if (!err)
        err = take_char(c, '-', "day");
    if (err)
        return err;
    size_t day_at = c->at;
    err = take_number(c, 2, 1, 31, "day", &w->civil.day);
    if (err)
        return err;
    int32_t days = civil_days_in_month(year, w->civil.month);
    if (w->civil.day > days)
        return fault_set(c->fault, ERR_INVAL, day_at, "%04d-%02d has only %d days", year,
                         w->civil.month, days);
    if (c->at == c->len)
        return fault_set(c->fault, ERR_INVAL, c->at,
                         "the time of day is missing; for example %.10s 17:00:03", c->text);
    char t = peek(c);
    if (t != 'T' && t != 't' && t != ' ')
        return fault_set(c->fault, ERR_INVAL, c->at,
                         "a 'T' or a blank is expected between date and time");
    c->at++;
    return OK;
}

static struct readings readings_of(const struct moment_zone *zone, int64_t local_s) {
    struct readings r = {0};
    int64_t first = local_s - CIVIL_DAY_S, last = local_s + CIVIL_DAY_S;
    for (int64_t probe = first; probe <= last; probe += HOUR_S) {
        int64_t utc_s = local_s - zone_offset(zone, probe);
        if (utc_s + zone_offset(zone, utc_s) != local_s)
            continue;
        if (r.count == 0 || (utc_s != r.utc_s[0] && r.count == 1))
            r.utc_s[r.count++] = utc_s;
    }
    if (r.count == 0) {
        r.utc_s[0] = local_s - zone_offset(zone, first);
        r.utc_s[1] = local_s - zone_offset(zone, last);
    }
    if (r.count != 1 && r.utc_s[0] > r.utc_s[1]) {
        int64_t swap = r.utc_s[0];
        r.utc_s[0] = r.utc_s[1];
        r.utc_s[1] = swap;
    }
    return r;
}

static int set_time(struct moment *m, struct cursor *c, int64_t utc_s, uint32_t fraction_ns,
                    enum moment_form form) {
    if (utc_s < 0)
        return fault_set(c->fault, ERR_RANGE, 0, "the moment lies before 1970");
    if (utc_s >= END_S)
        return fault_set(c->fault, ERR_RANGE, 0, "the moment lies after %d", YEAR_MAX);
    m->kind = MOMENT_TIME;
    m->form = form;
    m->time_ns = (uint64_t)utc_s * NS_PER_S + fraction_ns;
    return OK;
}

static int refuse_readings(struct moment *m, struct cursor *c, const struct readings *r,
                           uint32_t fraction_ns, const struct moment_zone *zone) {
    if (r->utc_s[0] < 0)
        return fault_set(c->fault, ERR_RANGE, 0, "the moment lies before 1970");
    char text[2][MOMENT_TEXT_BYTES];
    m->reading_count = 2;
    for (uint32_t i = 0; i < 2; i++) {
        m->reading_ns[i] = (uint64_t)r->utc_s[i] * NS_PER_S + fraction_ns;
        moment_format_local(m->reading_ns[i], fraction_ns ? 9 : 0, zone, text[i]);
    }
    if (r->count)
        return fault_set(c->fault, ERR_AMBIGUOUS, 0,
                         "the clock showed this time twice; write \"%s\" or \"%s\"", text[0],
                         text[1]);
    return fault_set(c->fault, ERR_INVAL, 0,
                     "the clock never showed this time, it was set forward over it; write \"%s\" "
                     "or \"%s\"",
                     text[0], text[1]);
}

static int parse_date_time(struct cursor *c, const struct moment_zone *zone, struct moment *m) {
    struct wall w = {0};
    int err = take_date(c, &w);
    if (!err)
        err = take_clock(c, &w);
    if (!err)
        err = take_zone(c, &w);
    if (err)
        return err;
    int64_t local_s = civil_to_seconds(&w.civil);
    if (w.has_zone)
        return set_time(m, c, local_s - w.offset_s, w.fraction_ns, MOMENT_ABSOLUTE);
    struct readings r = readings_of(zone, local_s);
    if (r.count != 1)
        return refuse_readings(m, c, &r, w.fraction_ns, zone);
    return set_time(m, c, r.utc_s[0], w.fraction_ns, MOMENT_LOCAL);
}

static int32_t fixed_offset_s(void *ctx, int64_t utc_s) {
    return *(const int32_t *)ctx;
}

/*
 * Goes back day by day from tomorrow: where the clock was set back over midnight, tomorrow's first
 * minutes have already been shown. A reading counts only if it is past: at the second half past two
 * of such a night both are, and that is refused; between the two only one is.
 */
static int find_clock_time(struct cursor *c, const struct wall *w, const struct moment_zone *zone,
                           uint64_t now_ns, struct moment *m) {
    int64_t now_s = (int64_t)(now_ns / NS_PER_S);
    int64_t past_s = now_s - (now_ns % NS_PER_S < w->fraction_ns);
    int64_t local_now_s = now_s + zone_offset(zone, now_s);
    struct civil today = civil_from_seconds(local_now_s);
    int64_t clock_s = w->civil.hour * 3600 + w->civil.minute * 60 + w->civil.second;
    today.hour = today.minute = today.second = 0;
    int64_t today_s = civil_to_seconds(&today);
    for (int64_t day = 1; day >= -2; day--) {
        int64_t local_s = today_s + day * CIVIL_DAY_S + clock_s;
        struct readings r = readings_of(zone, local_s);
        if (r.count == 0 && local_s <= local_now_s)
            return refuse_readings(m, c, &r, w->fraction_ns, zone);
        if (r.count == 2 && r.utc_s[1] <= past_s)
            return refuse_readings(m, c, &r, w->fraction_ns, zone);
        if (r.count > 0 && r.utc_s[0] <= past_s)
            return set_time(m, c, r.utc_s[0], w->fraction_ns, MOMENT_CLOCK);
    }
    return fault_set(c->fault, ERR_INVAL, 0, "the clock has not shown this time for two days");
}

static int parse_clock_time(struct cursor *c, const struct moment_zone *zone, uint64_t now_ns,
                            struct moment *m) {
    static const struct moment_zone_ops fixed_ops = {fixed_offset_s};
    struct wall w = {0};
    int err = take_clock(c, &w);
    if (!err)
        err = take_zone(c, &w);
    if (err)
        return err;
    struct moment_zone fixed = {&fixed_ops, &w.offset_s};
    return find_clock_time(c, &w, w.has_zone ? &fixed : zone, now_ns, m);
}

static int parse_relative(struct cursor *c, uint64_t now_ns, struct moment *m) {
    uint64_t back_ns = 0;
    int err = duration_parse(c->text + 1, c->len - 1, &back_ns, c->fault);
    if (err) {
        if (c->fault)
            c->fault->at++;
        return err;
    }
    if (back_ns > now_ns)
        return fault_set(c->fault, ERR_RANGE, 0, "the moment lies before 1970");
    m->kind = MOMENT_TIME;
    m->form = MOMENT_RELATIVE;
    m->time_ns = now_ns - back_ns;
    return OK;
}

static int parse_sequence(struct cursor *c, struct moment *m) {
    size_t first = c->at;
    uint64_t value = 0;
    for (; is_digit(peek(c)); c->at++) {
        uint64_t digit = (uint64_t)(peek(c) - '0');
        if (value > ((uint64_t)INT64_MAX - digit) / 10)
            return fault_set(c->fault, ERR_RANGE, first, "the sequence number is too large");
        value = value * 10 + digit;
    }
    if (c->at == first || c->at != c->len)
        return fault_set(c->fault, ERR_INVAL, c->at, "only digits may follow \"seq:\"");
    m->kind = MOMENT_SEQUENCE;
    m->sequence = value;
    return OK;
}

static int parse_word(struct cursor *c, uint64_t now_ns, struct moment *m) {
    if (c->len == 3 && (c->text[0] | 32) == 'n' && (c->text[1] | 32) == 'o' &&
        (c->text[2] | 32) == 'w') {
        m->kind = MOMENT_NOW;
        m->time_ns = now_ns;
        return OK;
    }
    if (c->len >= 4 && memcmp(c->text, "seq:", 4) == 0) {
        c->at = 4;
        return parse_sequence(c, m);
    }
    int err = name_check(NAME_LABEL, c->text, c->len, c->fault);
    if (err)
        return err;
    m->kind = MOMENT_MARK;
    memcpy(m->label, c->text, c->len);
    return OK;
}

static int parse_digits(struct cursor *c, uint64_t now_ns, const struct moment_zone *zone,
                        struct moment *m) {
    size_t digits = 0;
    while (digits < c->len && is_digit(c->text[digits]))
        digits++;
    char next = digits < c->len ? c->text[digits] : '\0';
    if (next == '-')
        return parse_date_time(c, zone, m);
    if (next == ':')
        return parse_clock_time(c, zone, now_ns, m);
    if (digits == c->len)
        return fault_set(c->fault, ERR_INVAL, 0,
                         "a bare number is no moment; a sequence number is written seq:%.*s",
                         digits <= 19 ? (int)digits : 19, c->text);
    uint64_t ns;
    if (duration_parse(c->text, c->len, &ns, NULL) == OK)
        return fault_set(c->fault, ERR_INVAL, 0, "a time before now begins with '-'");
    return fault_set(c->fault, ERR_INVAL, digits,
                     "a date goes on with '-' (2026-11-22 17:00), a time of day with ':' (17:00)");
}

int moment_parse(const char *text, size_t len, uint64_t now_ns, const struct moment_zone *zone,
                 struct moment *out, struct fault *f) {
    struct cursor c = {.text = text, .len = len, .fault = f};
    *out = (struct moment){0};
    if (len == 0)
        return fault_set(f, ERR_INVAL, 0, "the moment is empty; for example -5min");
    if (text[0] == '-')
        return parse_relative(&c, now_ns, out);
    if (is_digit(text[0]))
        return parse_digits(&c, now_ns, zone, out);
    if (is_letter(text[0]))
        return parse_word(&c, now_ns, out);
    if (text[0] == '+')
        return fault_set(f, ERR_INVAL, 0, "moments lie in the past: begin with '-'");
    return fault_set(f, ERR_INVAL, 0,
                     "a moment begins with a digit, a '-' or a letter: 17:00:03, -5min, a label");
}

static int format_civil(char out[MOMENT_TEXT_BYTES], int64_t local_s, char between) {
    struct civil d = civil_from_seconds(local_s);
    return snprintf(out, MOMENT_TEXT_BYTES, "%04d-%02d-%02d%c%02d:%02d:%02d", (int)d.year, d.month,
                    d.day, between, d.hour, d.minute, d.second);
}

static int format_fraction(char *out, uint32_t fraction_ns, uint32_t digits) {
    for (uint32_t i = digits; i < 9; i++)
        fraction_ns /= 10;
    return snprintf(out, 11, ".%0*" PRIu32, (int)digits, fraction_ns);
}

void moment_format_utc(uint64_t time_ns, char out[MOMENT_TEXT_BYTES]) {
    uint32_t fraction_ns = (uint32_t)(time_ns % NS_PER_S), digits = 9;
    int at = format_civil(out, (int64_t)(time_ns / NS_PER_S), 'T');
    for (uint32_t rest = fraction_ns; digits > 0 && rest % 10 == 0; rest /= 10)
        digits--;
    if (digits)
        at += format_fraction(out + at, fraction_ns, digits);
    out[at] = 'Z';
    out[at + 1] = '\0';
}

void moment_format_local(uint64_t time_ns, uint32_t digits, const struct moment_zone *zone,
                         char out[MOMENT_TEXT_BYTES]) {
    must(digits <= 9);
    int64_t utc_s = (int64_t)(time_ns / NS_PER_S);
    int32_t offset_s = zone_offset(zone, utc_s);
    /* An offset that is not whole minutes cannot be written; such a time is shown in UTC. */
    if (offset_s % 60 != 0)
        offset_s = 0;
    int at = format_civil(out, utc_s + offset_s, ' ');
    if (digits)
        at += format_fraction(out + at, (uint32_t)(time_ns % NS_PER_S), digits);
    int32_t minutes = (offset_s < 0 ? -offset_s : offset_s) / 60;
    snprintf(out + at, MOMENT_TEXT_BYTES - (size_t)at, " %c%02d:%02d", offset_s < 0 ? '-' : '+',
             minutes / 60 % 24, minutes % 60);
}

void moment_to_text(const struct moment *m, char out[MOMENT_TEXT_BYTES]) {
    switch (m->kind) {
    case MOMENT_NOW:
        snprintf(out, MOMENT_TEXT_BYTES, "now");
        break;
    case MOMENT_TIME:
        moment_format_utc(m->time_ns, out);
        break;
    case MOMENT_SEQUENCE:
        snprintf(out, MOMENT_TEXT_BYTES, "seq:%" PRIu64, m->sequence);
        break;
    case MOMENT_MARK:
        snprintf(out, MOMENT_TEXT_BYTES, "%s", m->label);
        break;
    }
}

static int copy_name(enum name_kind kind, const char *text, size_t len, size_t at,
                     char out[NAME_MAX_LEN + 1], struct fault *f) {
    int err = name_check(kind, text, len, f);
    if (err) {
        if (f)
            f->at += (uint32_t)at;
        return err;
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return OK;
}

int moment_split_export(const char *name, size_t len, struct moment_export *out, struct fault *f) {
    *out = (struct moment_export){0};
    size_t disk_len = len;
    const char *at_sign = len ? memchr(name, '@', len) : NULL;
    if (at_sign) {
        disk_len = (size_t)(at_sign - name);
        out->moment = at_sign + 1;
        out->moment_len = len - disk_len - 1;
        if (out->moment_len >= 3 && memcmp(name + len - 3, "+rw", 3) == 0) {
            out->writable = true;
            out->moment_len -= 3;
        }
        if (out->moment_len == 0)
            return fault_set(f, ERR_INVAL, disk_len + 1, "no moment follows the '@'");
    }
    const char *dot = disk_len ? memchr(name, '.', disk_len) : NULL;
    size_t volume_len = dot ? (size_t)(dot - name) : disk_len;
    int err = copy_name(NAME_VOLUME, name, volume_len, 0, out->volume, f);
    if (err || !dot)
        return err;
    if (at_sign)
        return fault_set(f, ERR_INVAL, disk_len, "an image has no moments of its own");
    return copy_name(NAME_IMAGE, dot + 1, disk_len - volume_len - 1, volume_len + 1, out->image, f);
}
