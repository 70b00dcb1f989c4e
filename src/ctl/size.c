/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A size is a number i.f times 2^k. The fraction f / 10^d is whole in bytes only if 5^d divides f
 * once trailing zeroes are gone, because 2^k has no factor 5; what remains is a shift. So nothing
 * is rounded and nothing is wider than 64 bits.
 */
#include "ctl/size.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"

#define NUMBER_MAX ((uint64_t)INT64_MAX)
#define FRACTION_DIGITS_MAX 9u

struct number {
    uint64_t whole;
    uint32_t fraction; /* the digits after the point, read as one number */
    uint32_t digits;   /* how many they are */
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Reads a decimal number at *at and moves on. */
static int number_parse(const char *text, size_t len, size_t *at, struct number *n,
                        struct fault *f) {
    size_t i = *at, first = i;
    *n = (struct number){0};
    for (; i < len && is_digit(text[i]); i++) {
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (n->whole > (NUMBER_MAX - digit) / 10)
            return fault_set(f, ERR_RANGE, first, "the number is too large");
        n->whole = n->whole * 10 + digit;
    }
    if (i == first)
        return fault_set(f, ERR_INVAL, i, "a number is expected here");
    if (i < len && text[i] == '.') {
        i++;
        for (; i < len && is_digit(text[i]); i++) {
            if (n->digits == FRACTION_DIGITS_MAX)
                return fault_set(f, ERR_INVAL, i, "at most %u digits may follow the point",
                                 FRACTION_DIGITS_MAX);
            n->fraction = n->fraction * 10 + (uint32_t)(text[i] - '0');
            n->digits++;
        }
        if (n->digits == 0)
            return fault_set(f, ERR_INVAL, i, "digits are expected after the point");
    }
    *at = i;
    return OK;
}

static int size_compose(struct number n, uint32_t shift, uint64_t *bytes, struct fault *f) {
    if (n.whole > NUMBER_MAX >> shift)
        return fault_set(f, ERR_RANGE, 0, "the size is larger than 8 EiB");
    uint32_t fraction = n.fraction, digits = n.digits;
    while (digits > 0 && fraction % 10 == 0) {
        fraction /= 10;
        digits--;
    }
    for (uint32_t i = 0; i < digits; i++) {
        if (fraction % 5 != 0)
            return fault_set(f, ERR_INVAL, 0,
                             "this is not a whole number of bytes; give it in a smaller unit");
        fraction /= 5;
    }
    if (digits > shift)
        return fault_set(f, ERR_INVAL, 0, "this is not a whole number of bytes");
    *bytes = (n.whole << shift) + ((uint64_t)fraction << (shift - digits));
    return OK;
}

int size_parse(const char *text, size_t len, uint64_t *bytes, struct fault *f) {
    static const char units[] = "KMGTPE";
    if (len == 0)
        return fault_set(f, ERR_INVAL, 0, "the size is empty; for example 10G");
    size_t at = 0;
    struct number n;
    int err = number_parse(text, len, &at, &n, f);
    if (err)
        return err;
    uint32_t shift = 0;
    if (at < len) {
        size_t unit_at = at;
        char c = text[at++];
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        const char *unit = c ? strchr(units, c) : NULL;
        if (!unit)
            return fault_set(f, ERR_INVAL, unit_at,
                             "this is no unit of size; use K, M, G, T, P or E, or none for bytes");
        shift = 10 * (uint32_t)(unit - units + 1);
        if (len - at == 1 && (text[at] == 'B' || text[at] == 'b'))
            return fault_set(f, ERR_AMBIGUOUS, unit_at,
                             "\"%cB\" is read as a power of 1000 by some and of 1024 by others; "
                             "write %c or %ciB for powers of 1024, or give bytes",
                             c, c, c);
        if (len - at == 2 && text[at] == 'i' && text[at + 1] == 'B')
            at += 2;
        if (at < len)
            return fault_set(f, ERR_INVAL, at, "nothing may follow the unit");
    }
    return size_compose(n, shift, bytes, f);
}

int range_parse(const char *text, size_t len, uint64_t *offset_bytes, uint64_t *length_bytes,
                struct fault *f) {
    const char *colon = len ? memchr(text, ':', len) : NULL;
    if (!colon)
        return fault_set(f, ERR_INVAL, len, "a range is OFFSET:LENGTH, for example 1G:64M");
    size_t split = (size_t)(colon - text);
    int err = size_parse(text, split, offset_bytes, f);
    if (err)
        return err;
    err = size_parse(colon + 1, len - split - 1, length_bytes, f);
    if (err) {
        if (f)
            f->at += (uint32_t)split + 1;
        return err;
    }
    if (*length_bytes == 0)
        return fault_set(f, ERR_INVAL, split + 1, "the length of a range is at least 1");
    if (*length_bytes > NUMBER_MAX - *offset_bytes)
        return fault_set(f, ERR_RANGE, split + 1, "the range ends beyond 8 EiB");
    return OK;
}

struct duration_unit {
    const char *word;
    uint64_t ns;
};

#define MINUTE_NS (60 * NS_PER_S)
#define HOUR_NS (60 * MINUTE_NS)
#define DAY_NS (24 * HOUR_NS)

static const struct duration_unit duration_units[] = {
    {"w", 7 * DAY_NS}, {"d", DAY_NS},     {"h", HOUR_NS},    {"m", MINUTE_NS},  {"min", MINUTE_NS},
    {"s", NS_PER_S},   {"sec", NS_PER_S}, {"ms", NS_PER_MS}, {"us", NS_PER_US}, {"ns", 1},
};

static const struct duration_unit *duration_unit_find(const char *word, size_t len) {
    for (size_t i = 0; i < sizeof duration_units / sizeof duration_units[0]; i++)
        if (strlen(duration_units[i].word) == len && memcmp(duration_units[i].word, word, len) == 0)
            return &duration_units[i];
    return NULL;
}

static int duration_add(uint64_t *sum_ns, struct number n, uint64_t unit_ns, size_t at,
                        struct fault *f) {
    if (n.whole > (NUMBER_MAX - *sum_ns) / unit_ns)
        return fault_set(f, ERR_RANGE, at, "the duration is longer than 292 years");
    *sum_ns += n.whole * unit_ns;
    uint64_t power = 1;
    for (uint32_t i = 0; i < n.digits; i++)
        power *= 10;
    if (n.digits == 0)
        return OK;
    if (unit_ns % power != 0)
        return fault_set(f, ERR_INVAL, at, "finer than a nanosecond");
    uint64_t part_ns = unit_ns / power * n.fraction;
    if (part_ns > NUMBER_MAX - *sum_ns)
        return fault_set(f, ERR_RANGE, at, "the duration is longer than 292 years");
    *sum_ns += part_ns;
    return OK;
}

int duration_parse(const char *text, size_t len, uint64_t *ns, struct fault *f) {
    if (len == 0)
        return fault_set(f, ERR_INVAL, 0, "the duration is empty; for example 2h30m");
    uint64_t sum_ns = 0, last_unit_ns = UINT64_MAX;
    bool fraction = false;
    for (size_t at = 0; at < len;) {
        size_t part_at = at;
        struct number n;
        if (fraction)
            return fault_set(f, ERR_INVAL, at, "only the last part may have a fraction");
        int err = number_parse(text, len, &at, &n, f);
        if (err)
            return err;
        size_t unit_at = at;
        while (at < len && text[at] >= 'a' && text[at] <= 'z')
            at++;
        const struct duration_unit *unit = duration_unit_find(text + unit_at, at - unit_at);
        if (!unit)
            return fault_set(f, ERR_INVAL, unit_at,
                             "a unit of time is expected here: w, d, h, m or min, s, ms, us, ns");
        if (unit->ns >= last_unit_ns)
            return fault_set(f, ERR_INVAL, part_at,
                             "larger units come first and each once, as in 2h30m");
        last_unit_ns = unit->ns;
        fraction = n.digits > 0;
        err = duration_add(&sum_ns, n, unit->ns, part_at, f);
        if (err)
            return err;
    }
    *ns = sum_ns;
    return OK;
}

/* value / unit cut to three significant digits, without trailing zeroes. */
static void format_three(char out[SIZE_TEXT_BYTES], uint64_t value, uint64_t unit,
                         const char *word) {
    uint64_t whole = value / unit, rest = value % unit;
    for (; unit > UINT64_C(1) << 40; unit >>= 10)
        rest >>= 10;
    uint32_t hundredths = (uint32_t)(rest * 100 / unit);
    if (whole >= 10)
        hundredths -= hundredths % 10;
    if (whole >= 100 || hundredths == 0)
        snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 " %s", whole, word);
    else if (hundredths % 10 == 0)
        snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 ".%" PRIu32 " %s", whole, hundredths / 10, word);
    else
        snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 ".%02" PRIu32 " %s", whole, hundredths, word);
}

void size_format(char out[SIZE_TEXT_BYTES], uint64_t bytes) {
    static const char *const words[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    uint32_t i = 0;
    while (i < 6 && bytes >> (10 * i) >= 1024)
        i++;
    format_three(out, bytes, UINT64_C(1) << (10 * i), words[i]);
}

void duration_format(char out[SIZE_TEXT_BYTES], uint64_t ns) {
    static const struct duration_unit units[] = {
        {"d", DAY_NS}, {"h", HOUR_NS}, {"min", MINUTE_NS}, {"s", NS_PER_S}};
    if (ns < NS_PER_US) {
        snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 " ns", ns);
        return;
    }
    if (ns < MINUTE_NS) {
        uint64_t unit = ns < NS_PER_MS ? NS_PER_US : ns < NS_PER_S ? NS_PER_MS : NS_PER_S;
        format_three(out, ns, unit, unit == NS_PER_US ? "us" : unit == NS_PER_MS ? "ms" : "s");
        return;
    }
    for (uint32_t i = 0; i < 3; i++) {
        if (ns < units[i].ns)
            continue;
        uint64_t first = ns / units[i].ns, second = ns % units[i].ns / units[i + 1].ns;
        if (second)
            snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 " %s %" PRIu64 " %s", first, units[i].word,
                     second, units[i + 1].word);
        else
            snprintf(out, SIZE_TEXT_BYTES, "%" PRIu64 " %s", first, units[i].word);
        return;
    }
}
