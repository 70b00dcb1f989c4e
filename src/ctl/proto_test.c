/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "ctl/proto.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define NOW_NS (UINT64_C(1795345200) * NS_PER_S) /* 2026-11-22T11:00:00Z */
#define VOLUME_CREATE(args) "{\"id\":1,\"op\":\"volume.create\",\"args\":{" args "}}"
#define RESTORE(args) "{\"id\":1,\"op\":\"restore\",\"args\":{" args "}}"
#define DEMO "\"volumes\":[\"demo\"]"

struct refusal {
    const char *line;
    const char *code;
    const char *part; /* of the message */
    int64_t id;
};

static const struct refusal refusals[] = {
    /* Not a request. */
    /*  0 */ {"", "protocol", "not JSON", CTL_NO_ID},
    /*  1 */ {"nonsense", "protocol", "not JSON", CTL_NO_ID},
    /*  2 */ {"{\"id\":1", "protocol", "not JSON", CTL_NO_ID},
    /*  3 */ {"{\"id\":1,\"op\":\"status\"} {}", "protocol", "not JSON", CTL_NO_ID},
    /*  4 */ {"{\"id\":1,\"id\":2,\"op\":\"status\"}", "protocol", "duplicate", CTL_NO_ID},
    /*  5 */ {"{\"id\":1,\"op\":\"\xff\"}", "protocol", "not JSON", CTL_NO_ID},
    /*  6 */ {"{\"id\":1,\"op\":\"a\\u0000b\"}", "protocol", "not JSON", CTL_NO_ID},
    /*  7 */ {"[]", "protocol", "not a JSON object", CTL_NO_ID},
    /*  8 */ {"{\"op\":\"status\"}", "protocol", "\"id\"", CTL_NO_ID},
    /*  9 */ {"{\"id\":-1,\"op\":\"status\"}", "protocol", "\"id\"", CTL_NO_ID},
    /* 10 */ {"{\"id\":1.5,\"op\":\"status\"}", "protocol", "\"id\"", CTL_NO_ID},
    /* 11 */ {"{\"id\":\"1\",\"op\":\"status\"}", "protocol", "\"id\"", CTL_NO_ID},
    /* 12 */
    {"{\"id\":99999999999999999999,\"op\":\"status\"}", "protocol", "big integer", CTL_NO_ID},
    /* 13 */ {"{\"id\":3}", "protocol", "\"op\"", 3},
    /* 14 */ {"{\"id\":3,\"op\":4}", "protocol", "\"op\"", 3},
    /* 15 */ {"{\"id\":3,\"op\":\"status\",\"arg\":{}}", "protocol", "no field \"arg\"", 3},
    /* 16 */ {"{\"id\":3,\"op\":\"frobnicate\"}", "unsupported", "\"frobnicate\"", 3},
    /* 17 */ {"[[[[[[[[[]]]]]]]]]", "too_big", "nested", CTL_NO_ID},
    /* 18 */
    {"{\"id\":1,\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":0}}}}}}}}}",
     "too_big", "nested", CTL_NO_ID},
    /* Arguments as such. */
    /* 19 */ {"{\"id\":1,\"op\":\"status\",\"args\":[]}", "invalid", "must be an object", 1},
    /* 20 */ {"{\"id\":1,\"op\":\"status\",\"args\":{\"x\":1}}", "invalid", "no argument \"x\"", 1},
    /* 21 */ {VOLUME_CREATE("\"name\":\"demo\""), "invalid", "needs \"size_bytes\"", 1},
    /* 22 */ {VOLUME_CREATE("\"size_bytes\":8192"), "invalid", "needs \"name\"", 1},
    /* 23 */ {"{\"id\":1,\"op\":\"volume.create\"}", "invalid", "needs \"name\"", 1},
    /* 24 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192,\"sise\":1"), "invalid",
     "no argument \"sise\"", 1},
    /* 25 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192,"
                   "\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                   "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                   "x\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                   "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                   "\":1"),
     "invalid", "no argument \"????", 1},
    /* Types and limits. */
    /* 26 */ {VOLUME_CREATE("\"name\":7,\"size_bytes\":8192"), "invalid", "must be a string", 1},
    /* 27 */ {VOLUME_CREATE("\"name\":null,\"size_bytes\":8192"), "invalid", "must be a string", 1},
    /* 28 */ {VOLUME_CREATE("\"name\":\"De\",\"size_bytes\":8192"), "invalid", "lower-case", 1},
    /* 29 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":\"10G\""), "invalid", "must be an integer", 1},
    /* 30 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192.0"), "invalid", "must be an integer", 1},
    /* 31 */ {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":-1"), "invalid", "negative", 1},
    /* 32 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":0"), "range", "between 4 KiB and 64 PiB", 1},
    /* 33 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":9223372036854775807"), "range", "between", 1},
    /* 34 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192,\"block_size_bytes\":1024"), "invalid",
     "one of 512|4096", 1},
    /* 35 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192,\"durability\":\"never\""), "invalid",
     "one of flush|write", 1},
    /* 36 */
    {VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":8192,\"durability\":\"flush|\""), "invalid",
     "one of flush|write", 1},
    /* 37 */ {RESTORE("\"volumes\":\"demo\",\"at\":\"now\""), "invalid", "array of strings", 1},
    /* 38 */ {RESTORE("\"volumes\":[],\"at\":\"now\""), "invalid", "empty", 1},
    /* 39 */ {RESTORE("\"volumes\":[1],\"at\":\"now\""), "invalid", "array of strings", 1},
    /* 40 */
    {RESTORE("\"volumes\":[\"a\",\"b\",\"a\"],\"at\":\"now\""), "invalid",
     "\"a\" stands there twice", 1},
    /* 41 */ {RESTORE("\"volumes\":[\"a\",\"B\"],\"at\":\"now\""), "invalid", "lower-case", 1},
    /* 42 */ {RESTORE(DEMO), "invalid", "needs \"at\"", 1},
    /* 43 */ {RESTORE(DEMO ",\"at\":5"), "invalid", "must be a string", 1},
    /* 44 */ {RESTORE(DEMO ",\"at\":\"5min\""), "invalid", "begins with '-'", 1},
    /* 45 */ {RESTORE(DEMO ",\"at\":\"now\",\"force\":1"), "invalid", "true or false", 1},
    /* 46 */ {RESTORE(DEMO ",\"at\":\"now\",\"range\":\"0:1\""), "invalid", "offset_bytes", 1},
    /* 47 */
    {RESTORE(DEMO ",\"at\":\"now\",\"range\":{\"offset_bytes\":0}"), "invalid", "length_bytes", 1},
    /* 48 */
    {RESTORE(DEMO ",\"at\":\"now\",\"range\":{\"offset_bytes\":0,\"length_bytes\":1,"
                  "\"x\":1}"),
     "invalid", "length_bytes", 1},
    /* 49 */
    {RESTORE(DEMO ",\"at\":\"now\",\"range\":{\"offset_bytes\":0,\"length_bytes\":0}"), "invalid",
     "at least 1", 1},
    /* 50 */
    {RESTORE(DEMO ",\"at\":\"now\",\"range\":{\"offset_bytes\":1,"
                  "\"length_bytes\":9223372036854775807}"),
     "range", "8 EiB", 1},
    /* 51 */
    {RESTORE(DEMO ",\"at\":\"now\",\"range\":{\"offset_bytes\":-1,\"length_bytes\":1}"), "invalid",
     "negative", 1},
    /* 52 */
    {"{\"id\":1,\"op\":\"image.open\",\"args\":{" DEMO ",\"at\":\"now\",\"lease_ns\":999999999}}",
     "range", "between 1 s and", 1},
    /* The command line's own arguments are not the server's. */
    /* 53 */
    {"{\"id\":1,\"op\":\"mark.create\",\"args\":{" DEMO
     ",\"label\":\"l\",\"exec_before\":\"true\"}}",
     "invalid", "no argument \"exec_before\"", 1},
    /* 54 */ {"{\"id\":1,\"op\":\"reload\",\"args\":{\"binary\":\"\"}}", "invalid", "empty", 1},
};

static void check_refusal(const char *line, size_t len, const char *code, const char *part,
                          int64_t id) {
    struct ctl_request r;
    struct ctl_reply reply;
    char *refusal = NULL;
    int err = ctl_parse(line, len, NOW_NS, NULL, &r, &refusal);
    if (err == OK)
        fail_msg("accepted: %.200s", line);
    assert_non_null(refusal);
    size_t refusal_len = strlen(refusal);
    assert_true(refusal[refusal_len - 1] == '\n');
    assert_ptr_equal(strchr(refusal, '\n'), refusal + refusal_len - 1);
    assert_int_equal(ctl_reply_parse(refusal, refusal_len, &reply, NULL), OK);
    assert_false(reply.ok);
    if (strcmp(reply.code, code) != 0 || !strstr(reply.message, part) || reply.id != id)
        fail_msg("%.200s: %s", line, refusal);
    assert_int_equal(reply.err, err);
    json_decref(reply.json);
    free(refusal);
}

static void refusal_table(void **state) {
    for (size_t i = 0; i < COUNT_OF(refusals); i++)
        check_refusal(refusals[i].line, strlen(refusals[i].line), refusals[i].code,
                      refusals[i].part, refusals[i].id);
}

static struct ctl_request accept_line(const char *line) {
    struct ctl_request r;
    char *refusal = NULL;
    if (ctl_parse(line, strlen(line), NOW_NS, NULL, &r, &refusal) != OK)
        fail_msg("%s: %s", line, refusal);
    assert_null(refusal);
    return r;
}

static void accepted(void **state) {
    struct ctl_request r = accept_line("{\"id\":0,\"op\":\"status\"}");
    assert_int_equal(r.id, 0);
    assert_string_equal(r.op->name, "status");
    ctl_request_free(&r);

    r = accept_line(VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":10737418240"));
    assert_string_equal(ctl_text(&r.args, "name"), "demo");
    assert_int_equal(ctl_number(&r.args, "size_bytes"), 10 * GIB);
    assert_true(ctl_has(&r.args, "block_size_bytes"));
    assert_int_equal(ctl_number(&r.args, "block_size_bytes"), 4096);
    assert_string_equal(ctl_text(&r.args, "durability"), "flush");
    ctl_request_free(&r);

    r = accept_line(VOLUME_CREATE("\"name\":\"d\",\"size_bytes\":4096,\"block_size_bytes\":512,"
                                  "\"durability\":\"write\""));
    assert_int_equal(ctl_number(&r.args, "block_size_bytes"), 512);
    assert_string_equal(ctl_text(&r.args, "durability"), "write");
    ctl_request_free(&r);

    r = accept_line("{\"args\":{\"at\":\"-1h\",\"volumes\":[\"db\",\"logs\"],\"force\":true,"
                    "\"range\":{\"offset_bytes\":4096,\"length_bytes\":512}},"
                    "\"op\":\"restore\",\"id\":9223372036854775807}");
    assert_true(r.id == INT64_MAX);
    assert_int_equal(ctl_list(&r.args, "volumes")->count, 2);
    assert_string_equal(ctl_list(&r.args, "volumes")->item[1], "logs");
    assert_int_equal(ctl_moment(&r.args, "at")->kind, MOMENT_TIME);
    assert_true(ctl_moment(&r.args, "at")->time_ns == NOW_NS - 3600 * NS_PER_S);
    assert_true(ctl_flag(&r.args, "force"));
    assert_false(ctl_flag(&r.args, "dry_run"));
    assert_int_equal(ctl_range(&r.args, "range").offset_bytes, 4096);
    assert_int_equal(ctl_range(&r.args, "range").length_bytes, 512);
    ctl_request_free(&r);

    r = accept_line("{\"id\":1,\"op\":\"image.open\",\"args\":{" DEMO
                    ",\"at\":\"before\",\"lease_ns\":7200000000000}}");
    assert_string_equal(ctl_moment(&r.args, "at")->label, "before");
    assert_true(ctl_number(&r.args, "lease_ns") == 7200 * NS_PER_S);
    assert_false(ctl_has(&r.args, "name"));
    assert_null(ctl_text(&r.args, "name"));
    ctl_request_free(&r);

    r = accept_line("{\"id\":1,\"op\":\"reload\",\"args\":{\"binary\":\"/a [{ \\\"b\"}}");
    assert_string_equal(ctl_text(&r.args, "binary"), "/a [{ \"b");
    ctl_request_free(&r);
}

/* One byte below the limit is read, at the limit it is refused; so with a list's length. */
static void limits(void **state) {
    char *line = malloc(CTL_LINE_MAX + 1);
    assert_non_null(line);
    int len = snprintf(line, CTL_LINE_MAX, "{\"id\":1,\"op\":\"status\"}");
    memset(line + len, ' ', CTL_LINE_MAX - (size_t)len);
    line[CTL_LINE_MAX - 1] = '\0';
    struct ctl_request r = accept_line(line);
    ctl_request_free(&r);
    line[CTL_LINE_MAX - 1] = ' ';
    check_refusal(line, CTL_LINE_MAX, "too_big", "64 KiB", CTL_NO_ID);

    for (unsigned count = CTL_LIST_MAX; count <= CTL_LIST_MAX + 1; count++) {
        size_t at = (size_t)snprintf(line, CTL_LINE_MAX,
                                     "{\"id\":1,\"op\":\"restore\",\"args\":{\"at\":\"now\","
                                     "\"volumes\":[\"v0\"");
        for (unsigned i = 1; i < count; i++)
            at += (size_t)snprintf(line + at, CTL_LINE_MAX - at, ",\"v%u\"", i);
        snprintf(line + at, CTL_LINE_MAX - at, "]}}");
        if (count > CTL_LIST_MAX) {
            check_refusal(line, strlen(line), "too_big", "more than 64", 1);
            continue;
        }
        r = accept_line(line);
        assert_string_equal(ctl_list(&r.args, "volumes")->item[63], "v63");
        ctl_request_free(&r);
    }

    /* A path that is too long, in a line that is not. */
    size_t at =
        (size_t)snprintf(line, CTL_LINE_MAX, "{\"id\":1,\"op\":\"reload\",\"args\":{\"binary\":\"");
    memset(line + at, 'x', CTL_TEXT_MAX + 1);
    snprintf(line + at + CTL_TEXT_MAX + 1, 8, "\"}}");
    check_refusal(line, strlen(line), "too_big", "4095", 1);
    free(line);
}

static void replies(void **state) {
    char *line = ctl_reply_ok(7, json_pack("{s:i}", "x", 1));
    assert_string_equal(line, "{\"id\":7,\"ok\":true,\"result\":{\"x\":1}}\n");
    struct ctl_reply reply;
    assert_int_equal(ctl_reply_parse(line, strlen(line), &reply, NULL), OK);
    assert_true(reply.ok && reply.err == OK && reply.id == 7);
    assert_int_equal(json_integer_value(json_object_get(reply.result, "x")), 1);
    json_decref(reply.json);
    free(line);

    line = ctl_reply_err(8, ERR_NOTFOUND, "there is no volume \"x\"\n", "create it");
    assert_string_equal(line, "{\"id\":8,\"ok\":false,\"code\":\"not_found\",\"message\":"
                              "\"there is no volume \\\"x\\\"\\n\",\"hint\":\"create it\"}\n");
    assert_int_equal(ctl_reply_parse(line, strlen(line), &reply, NULL), OK);
    assert_int_equal(reply.err, ERR_NOTFOUND);
    assert_string_equal(reply.hint, "create it");
    json_decref(reply.json);
    free(line);

    line = ctl_reply_err(CTL_NO_ID, ERR_BUSY, "cut in \xc3", NULL);
    assert_string_equal(line,
                        "{\"id\":null,\"ok\":false,\"code\":\"busy\",\"message\":\"cut in ?\"}\n");
    free(line);
    assert_null(ctl_reply_ok(1, NULL));

    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"id\":1,\"ok\":true}",
        "{\"id\":1,\"ok\":true,\"result\":5}",
        "{\"id\":1,\"ok\":1,\"result\":{}}",
        "{\"id\":1,\"ok\":false}",
        "{\"id\":1,\"ok\":false,\"code\":\"busy\"}",
        "{\"id\":1,\"ok\":false,\"message\":\"m\"}",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct fault f = {.at = 0};
        assert_int_equal(ctl_reply_parse(bad[i], strlen(bad[i]), &reply, &f), ERR_PROTO);
        assert_true(f.text[0]);
        assert_null(reply.json);
    }
    for (int err = ERR_CHANGED; err < 0; err++)
        assert_int_equal(ctl_err_of_word(err_word(err)), err);
    assert_int_equal(ctl_err_of_word("sideways"), ERR_PROTO);
}

/* What a person typed, as it goes over the wire, is what the server reads. */
static void text_to_wire(void **state) {
    static const struct {
        const char *op, *key, *text, *wire;
    } cases[] = {
        {"volume.create", "size_bytes", "1.5T", "1649267441664"},
        {"volume.create", "block_size_bytes", "0.5k", "512"},
        {"image.open", "lease_ns", "2h", "7200000000000"},
        {"restore", "range", "1G:64M", "{\"offset_bytes\":1073741824,\"length_bytes\":67108864}"},
        {"restore", "at", "-5min", "\"-5min\""},
        {"restore", "at", "NOW", "\"now\""},
        {"restore", "at", "seq:007", "\"seq:7\""},
        {"restore", "at", "10:30", "\"2026-11-22T10:30:00Z\""},
        {"restore", "at", "2026-11-22 10:30:00.500", "\"2026-11-22T10:30:00.5Z\""},
        {"restore", "at", "2026-11-22T10:30:00+01:00", "\"2026-11-22T09:30:00Z\""},
        {"restore", "at", "before-upgrade", "\"before-upgrade\""},
        {"restore", "force", "true", "true"},
        {"volume.set", "durability", "write", "\"write\""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct ctl_arg *arg = ctl_arg_find(ctl_op_find(cases[i].op), cases[i].key);
        json_t *json = NULL;
        struct fault f;
        assert_int_equal(ctl_text_to_json(arg, cases[i].text, NOW_NS, NULL, &json, &f), OK);
        char *wire = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        assert_string_equal(wire, cases[i].wire);
        free(wire);
        json_decref(json);
    }
    json_t *json = NULL;
    const struct ctl_arg *binary = ctl_arg_find(ctl_op_find("reload"), "binary");
    assert_int_equal(ctl_text_to_json(binary, "\xff", NOW_NS, NULL, &json, NULL), ERR_INVAL);
    assert_null(json);

    json_t *args = json_pack("{s:s}", "name", "demo");
    char *line = ctl_request_line(3, ctl_op_find("volume.show"), args);
    assert_string_equal(line, "{\"id\":3,\"op\":\"volume.show\",\"args\":{\"name\":\"demo\"}}\n");
    free(line);
    json_decref(args);
}

/* Good requests, damaged: each is accepted or refused with one well-formed line. */
static void damaged(void **state) {
    static const char *const seeds[] = {
        VOLUME_CREATE("\"name\":\"demo\",\"size_bytes\":10737418240,\"durability\":\"write\""),
        RESTORE(DEMO ",\"at\":\"-5min\",\"range\":{\"offset_bytes\":0,\"length_bytes\":1}"),
        "{\"id\":4,\"op\":\"mark.create\",\"args\":{\"volumes\":[\"a\",\"b\"],\"label\":\"l\"}}",
    };
    static const char alphabet[] = "{}[]\",:\\0-9 eE.aune\xc3";
    struct prng p = prng_seed(9);
    unsigned good = 0, damage[2] = {0};
    for (int i = 0; i < 60000; i++) {
        char buffer[256];
        const char *seed = seeds[prng_below(&p, COUNT_OF(seeds))];
        size_t len = strlen(seed);
        char *line = buffer + sizeof buffer - len;
        memcpy(line, seed, len);
        for (uint64_t n = prng_below(&p, 4); n > 0; n--)
            line[prng_below(&p, len)] = prng_one_in(&p, 4)
                                            ? (char)prng_next(&p)
                                            : alphabet[prng_below(&p, sizeof alphabet - 1)];
        if (prng_one_in(&p, 4)) {
            size_t cut = prng_below(&p, len);
            line += cut;
            len -= cut;
        }
        struct ctl_request r;
        struct ctl_reply reply;
        char *refusal = NULL;
        int err = ctl_parse(line, len, NOW_NS, NULL, &r, &refusal);
        if (err == OK) {
            good++;
            ctl_request_free(&r);
            continue;
        }
        assert_non_null(refusal);
        assert_int_equal(ctl_reply_parse(refusal, strlen(refusal), &reply, NULL), OK);
        assert_int_equal(reply.err, err);
        damage[reply.id != CTL_NO_ID]++;
        json_decref(reply.json);
        free(refusal);
    }
    assert_true(good > 1000 && damage[0] > 1000 && damage[1] > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refusal_table), cmocka_unit_test(accepted),
                                       cmocka_unit_test(limits),        cmocka_unit_test(replies),
                                       cmocka_unit_test(text_to_wire),  cmocka_unit_test(damaged)};
    return cmocka_run_group_tests_name("ctl_proto", tests, NULL, NULL);
}
