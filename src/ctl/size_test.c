/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "ctl/size.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct parse_case {
    const char *text;
    int err;
    uint64_t value; /* when refused: where */
};

static const struct parse_case sizes[] = {
    /*  0 */ {"0", OK, 0},
    /*  1 */ {"4096", OK, 4096},
    /*  2 */ {"10G", OK, 10 * GIB},
    /*  3 */ {"512M", OK, 512 * MIB},
    /*  4 */ {"1.5T", OK, TIB + TIB / 2},
    /*  5 */ {"1.50000T", OK, TIB + TIB / 2},
    /*  6 */ {"0.125K", OK, 128},
    /*  7 */ {"0.001953125K", OK, 2},
    /*  8 */ {"1k", OK, KIB},
    /*  9 */ {"2MiB", OK, 2 * MIB},
    /* 10 */ {"3p", OK, 3 * 1024 * TIB},
    /* 11 */ {"7E", OK, 7 * 1024 * 1024 * TIB},
    /* 12 */ {"7.5E", OK, 7 * 1024 * 1024 * TIB + 512 * 1024 * TIB},
    /* 13 */ {"9223372036854775807", OK, INT64_MAX},
    /* 14 */ {"9223372036854775808", ERR_RANGE, 0},
    /* 15 */ {"8E", ERR_RANGE, 0},
    /* 16 */ {"99999999999999999999999", ERR_RANGE, 0},
    /* 17 */ {"9007199254740992K", ERR_RANGE, 0},
    /* 18 */ {"9007199254740991K", OK, UINT64_C(9007199254740991) * 1024},
    /* 19 */ {"", ERR_INVAL, 0},
    /* 20 */ {"G", ERR_INVAL, 0},
    /* 21 */ {"-1", ERR_INVAL, 0},
    /* 22 */ {"+1", ERR_INVAL, 0},
    /* 23 */ {" 1", ERR_INVAL, 0},
    /* 24 */ {"1 G", ERR_INVAL, 1},
    /* 25 */ {"1X", ERR_INVAL, 1},
    /* 26 */ {"1GB", ERR_AMBIGUOUS, 1},
    /* 27 */ {"1kb", ERR_AMBIGUOUS, 1},
    /* 28 */ {"1GiBs", ERR_INVAL, 2},
    /* 29 */ {"1Gi", ERR_INVAL, 2},
    /* 30 */ {"1.G", ERR_INVAL, 2},
    /* 31 */ {".5G", ERR_INVAL, 0},
    /* 32 */ {"1.5", ERR_INVAL, 0},
    /* 33 */ {"1.0", OK, 1},
    /* 34 */ {"0.1G", ERR_INVAL, 0},
    /* 35 */ {"1.3T", ERR_INVAL, 0},
    /* 36 */ {"1.0000000000G", ERR_INVAL, 11},
    /* 37 */ {"1,5G", ERR_INVAL, 1},
    /* 38 */ {"0x10", ERR_INVAL, 1},
};

static const struct parse_case durations[] = {
    /*  0 */ {"90s", OK, 90 * NS_PER_S},
    /*  1 */ {"7d", OK, 7 * 86400 * NS_PER_S},
    /*  2 */ {"2h", OK, 7200 * NS_PER_S},
    /*  3 */ {"2h30m", OK, 9000 * NS_PER_S},
    /*  4 */ {"2h30min", OK, 9000 * NS_PER_S},
    /*  5 */ {"1w2d3h4m5s6ms7us8ns", OK, UINT64_C(788645006007008)},
    /*  6 */ {"1.5h", OK, 5400 * NS_PER_S},
    /*  7 */ {"1h0.5m", OK, 3630 * NS_PER_S},
    /*  8 */ {"0.000000001s", OK, 1},
    /*  9 */ {"0s", OK, 0},
    /* 10 */ {"10sec", OK, 10 * NS_PER_S},
    /* 11 */ {"", ERR_INVAL, 0},
    /* 12 */ {"90", ERR_INVAL, 2},
    /* 13 */ {"h", ERR_INVAL, 0},
    /* 14 */ {"30m2h", ERR_INVAL, 3},
    /* 15 */ {"1m1min", ERR_INVAL, 2},
    /* 16 */ {"1h1h", ERR_INVAL, 2},
    /* 17 */ {"1.5h30m", ERR_INVAL, 4},
    /* 18 */ {"5M", ERR_INVAL, 1},
    /* 19 */ {"5 min", ERR_INVAL, 1},
    /* 20 */ {"5months", ERR_INVAL, 1},
    /* 21 */ {"0.1ns", ERR_INVAL, 0},
    /* 22 */ {"15251w", ERR_RANGE, 0},
    /* 23 */ {"15250w", OK, UINT64_C(15250) * 7 * 86400 * NS_PER_S},
    /* 24 */ {"15250w2d", ERR_RANGE, 6},
    /* 25 */ {"9223372036s900ms", ERR_RANGE, 11},
    /* 26 */ {"9223372036.9s", ERR_RANGE, 0},
    /* 27 */ {"-5s", ERR_INVAL, 0},
};

typedef int parse_fn(const char *, size_t, uint64_t *, struct fault *);

static void run_cases(const struct parse_case *cases, size_t count, parse_fn *parse) {
    for (size_t i = 0; i < count; i++) {
        const struct parse_case *c = &cases[i];
        struct fault f = {.at = 0};
        uint64_t value = 0;
        int err = parse(c->text, strlen(c->text), &value, &f);
        if (err != c->err || (err ? f.at : value) != c->value)
            fail_msg("case %zu \"%s\": %s, %llu at %u (%s)", i, c->text, err_word(err),
                     (unsigned long long)value, f.at, f.text);
        assert_true((err == OK) == (f.text[0] == '\0'));
    }
}

static void size_table(void **state) {
    run_cases(sizes, COUNT_OF(sizes), size_parse);
}
static void duration_table(void **state) {
    run_cases(durations, COUNT_OF(durations), duration_parse);
}

struct range_case {
    const char *text;
    int err;
    uint64_t offset_bytes, length_bytes;
    uint32_t at;
};

static const struct range_case ranges[] = {
    /* 0 */ {"1G:64M", OK, GIB, 64 * MIB, 0},
    /* 1 */ {"0:1", OK, 0, 1, 0},
    /* 2 */ {"0:0", ERR_INVAL, 0, 0, 2},
    /* 3 */ {"1G", ERR_INVAL, 0, 0, 2},
    /* 4 */ {":1", ERR_INVAL, 0, 0, 0},
    /* 5 */ {"1:", ERR_INVAL, 0, 0, 2},
    /* 6 */ {"1:2:3", ERR_INVAL, 0, 0, 3},
    /* 7 */ {"1:9223372036854775807", ERR_RANGE, 0, 0, 2},
    /* 8 */ {"1:9223372036854775806", OK, 1, INT64_MAX - 1, 0},
    /* 9 */ {"", ERR_INVAL, 0, 0, 0},
};

static void range_table(void **state) {
    for (size_t i = 0; i < COUNT_OF(ranges); i++) {
        const struct range_case *c = &ranges[i];
        struct fault f = {.at = 0};
        uint64_t offset = 0, length = 0;
        int err = range_parse(c->text, strlen(c->text), &offset, &length, &f);
        if (err != c->err || f.at != c->at)
            fail_msg("case %zu \"%s\": %s at %u (%s)", i, c->text, err_word(err), f.at, f.text);
        if (!err)
            assert_true(offset == c->offset_bytes && length == c->length_bytes);
    }
}

struct format_case {
    uint64_t value;
    const char *text;
};

static void formats(void **state) {
    static const struct format_case size_texts[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {1034, "1 KiB"},
        {1035, "1.01 KiB"},
        {10 * KIB + 52, "10 KiB"},
        {10 * KIB + 512, "10.5 KiB"},
        {512 * MIB, "512 MiB"},
        {GIB, "1 GiB"},
        {TIB + TIB / 2, "1.5 TiB"},
        {GIB - 1, "1023 MiB"},
        {INT64_MAX, "7.99 EiB"},
        {UINT64_MAX, "15.9 EiB"},
    };
    static const struct format_case duration_texts[] = {
        {0, "0 ns"},
        {999, "999 ns"},
        {1830000, "1.83 ms"},
        {50000, "50 us"},
        {NS_PER_S, "1 s"},
        {59 * NS_PER_S + 999 * NS_PER_MS, "59.9 s"},
        {60 * NS_PER_S, "1 min"},
        {90 * NS_PER_S, "1 min 30 s"},
        {9000 * NS_PER_S, "2 h 30 min"},
        {86400 * NS_PER_S, "1 d"},
        {90000 * NS_PER_S + 5, "1 d 1 h"},
        {UINT64_MAX, "213503 d 23 h"},
    };
    char out[SIZE_TEXT_BYTES];
    for (size_t i = 0; i < COUNT_OF(size_texts); i++) {
        size_format(out, size_texts[i].value);
        assert_string_equal(out, size_texts[i].text);
    }
    for (size_t i = 0; i < COUNT_OF(duration_texts); i++) {
        duration_format(out, duration_texts[i].value);
        assert_string_equal(out, duration_texts[i].text);
    }
}

/* Texts from the parsers' own alphabet: the answer is a value in range or a fault inside the text.
 * The buffer is exactly as long as the text, so that a sanitizer sees a read beyond it. */
static void random_texts(void **state) {
    static const char alphabet[] = "0123456789.KMGTPEiBkwdhminsecu:- ";
    struct prng p = prng_seed(11);
    unsigned accepted = 0;
    for (int i = 0; i < 300000; i++) {
        size_t len = 1 + prng_below(&p, 12);
        char text[12];
        char *at = text + sizeof text - len;
        for (size_t j = 0; j < len; j++)
            at[j] = prng_one_in(&p, 2) ? (char)('0' + prng_below(&p, 10))
                                       : alphabet[prng_below(&p, sizeof alphabet)];
        struct fault f = {.at = 0};
        uint64_t value = 0, length = 0;
        parse_fn *parse = i & 1 ? size_parse : duration_parse;
        int err = parse(at, len, &value, &f);
        accepted += err == OK;
        assert_true(err == OK ? value <= INT64_MAX : f.at <= len && f.text[0]);
        err = range_parse(at, len, &value, &length, &f);
        assert_true(err == OK ? value + length <= INT64_MAX : f.at <= len);
    }
    assert_true(accepted > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_table), cmocka_unit_test(duration_table),
        cmocka_unit_test(range_table), cmocka_unit_test(formats), cmocka_unit_test(random_texts)};
    return cmocka_run_group_tests_name("ctl_size", tests, NULL, NULL);
}
