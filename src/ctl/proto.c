/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depth is counted over the raw bytes before the JSON reader runs, because that reader recurses. A
 * bracket inside a string counts for nothing; a broken string only makes the count wrong for a text
 * that the reader then refuses anyway.
 */
#include "ctl/proto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/must.h"

#define LOAD_FLAGS JSON_REJECT_DUPLICATES

static bool too_deep(const char *line, size_t len) {
    uint32_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        char c = line[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > CTL_DEPTH_MAX)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

/* Takes over json. */
static char *line_of(json_t *json) {
    if (!json)
        return NULL;
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (!text)
        return NULL;
    size_t len = strlen(text);
    char *line = realloc(text, len + 2);
    if (!line) {
        free(text);
        return NULL;
    }
    line[len] = '\n';
    line[len + 1] = '\0';
    return line;
}

static json_t *id_json(int64_t id) {
    return id == CTL_NO_ID ? json_null() : json_integer(id);
}

/* A message may quote what a client sent, cut anywhere: what is not UTF-8 then is shown as '?'. */
static json_t *sentence_json(const char *text) {
    json_t *json = json_string(text);
    if (json)
        return json;
    size_t len = strlen(text);
    char *plain = malloc(len + 1);
    if (!plain)
        return NULL;
    for (size_t i = 0; i <= len; i++)
        plain[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    json = json_string(plain);
    free(plain);
    return json;
}

char *ctl_reply_ok(int64_t id, json_t *result) {
    return line_of(json_pack("{s:o,s:b,s:o}", "id", id_json(id), "ok", 1, "result", result));
}

char *ctl_reply_err(int64_t id, int err, const char *message, const char *hint) {
    return line_of(json_pack("{s:o,s:b,s:s,s:o,s:o*}", "id", id_json(id), "ok", 0, "code",
                             err_word(err), "message", sentence_json(message), "hint",
                             hint ? sentence_json(hint) : NULL));
}

static int refuse(struct ctl_request *r, char **refusal, int err, const char *message,
                  const char *hint) {
    *refusal = ctl_reply_err(r->id, err, message, hint);
    ctl_request_free(r);
    return err;
}

static int read_fields(struct ctl_request *r, const char **op_name, struct fault *f) {
    const char *key;
    json_t *value;
    const json_t *id = json_object_get(r->json, "id");
    if (!json_is_integer(id) || json_integer_value(id) < 0)
        return fault_set(f, ERR_PROTO, 0, "the request needs \"id\", an integer from 0");
    r->id = json_integer_value(id);
    json_object_foreach(r->json, key,
                        value) if (strcmp(key, "id") != 0 && strcmp(key, "op") != 0 &&
                                   strcmp(key, "args") !=
                                       0) return fault_set(f, ERR_PROTO, 0,
                                                           "a request has no field \"%.64s\"", key);
    const json_t *op = json_object_get(r->json, "op");
    if (!json_is_string(op))
        return fault_set(f, ERR_PROTO, 0, "the request needs \"op\", a string");
    *op_name = json_string_value(op);
    return OK;
}

int ctl_parse(const char *line, size_t len, uint64_t now_ns, const struct moment_zone *zone,
              struct ctl_request *out, char **refusal) {
    struct fault f;
    char text[FAULT_TEXT_BYTES + 64];
    memset(out, 0, sizeof *out);
    out->id = CTL_NO_ID;
    *refusal = NULL;
    if (len >= CTL_LINE_MAX)
        return refuse(out, refusal, ERR_TOOBIG, "the request is longer than 64 KiB", NULL);
    if (too_deep(line, len))
        return refuse(out, refusal, ERR_TOOBIG, "the request is nested too deeply", NULL);
    json_error_t error;
    out->json = json_loadb(line, len, LOAD_FLAGS, &error);
    if (!out->json) {
        snprintf(text, sizeof text, "the request is not JSON: %s at byte %d", error.text,
                 error.position);
        return refuse(out, refusal, ERR_PROTO, text, NULL);
    }
    const char *op_name = NULL;
    int err = json_is_object(out->json)
                  ? read_fields(out, &op_name, &f)
                  : fault_set(&f, ERR_PROTO, 0, "the request is not a JSON object");
    if (err)
        return refuse(out, refusal, err, f.text, NULL);
    out->op = ctl_op_find(op_name);
    if (!out->op || out->op->flags & CTL_COMPOSED) {
        snprintf(text, sizeof text, "there is no operation \"%.64s\"", op_name);
        return refuse(out, refusal, ERR_UNSUPPORTED, text,
                      "the command line may be newer than the server; see perdure status");
    }
    err = ctl_args_parse(out->op, json_object_get(out->json, "args"), now_ns, zone, &out->args, &f);
    if (err) {
        char command[CTL_COMMAND_BYTES], hint[CTL_COMMAND_BYTES + 32];
        ctl_op_command(out->op, command);
        snprintf(hint, sizeof hint, "see perdure help %s", command);
        return refuse(out, refusal, err, f.text, hint);
    }
    return OK;
}

void ctl_request_free(struct ctl_request *r) {
    json_decref(r->json);
    r->json = NULL;
}

const struct ctl_handler *ctl_handler_find(const struct ctl_handler *handlers, uint32_t count,
                                           const char *op) {
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(handlers[i].op, op) == 0)
            return &handlers[i];
    return NULL;
}

bool ctl_handlers_complete(const struct ctl_handler *handlers, uint32_t count) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < ctl_op_count; i++) {
        if (ctl_ops[i].flags & CTL_COMPOSED)
            continue;
        if (!ctl_handler_find(handlers, count, ctl_ops[i].name))
            return false;
        found++;
    }
    return found == count;
}

char *ctl_request_line(int64_t id, const struct ctl_op *op, json_t *args) {
    return line_of(json_pack("{s:I,s:s,s:O}", "id", (json_int_t)id, "op", op->name, "args", args));
}

int ctl_err_of_word(const char *word) {
#define ERR_OF_WORD(name, number, text, clause)                                                    \
    if (strcmp(word, text) == 0)                                                                   \
        return ERR_##name;
    ERR_LIST(ERR_OF_WORD)
#undef ERR_OF_WORD
    return ERR_PROTO;
}

int ctl_reply_parse(const char *line, size_t len, struct ctl_reply *out, struct fault *f) {
    json_error_t error;
    memset(out, 0, sizeof *out);
    out->id = CTL_NO_ID;
    out->json = json_loadb(line, len, LOAD_FLAGS, &error);
    if (!out->json)
        return fault_set(f, ERR_PROTO, 0, "the server's answer is not JSON: %s", error.text);
    const json_t *id = json_object_get(out->json, "id");
    const json_t *ok = json_object_get(out->json, "ok");
    if (json_is_integer(id))
        out->id = json_integer_value(id);
    out->ok = json_is_true(ok);
    out->result = out->ok ? json_object_get(out->json, "result") : NULL;
    out->code = json_string_value(json_object_get(out->json, "code"));
    out->message = json_string_value(json_object_get(out->json, "message"));
    out->hint = json_string_value(json_object_get(out->json, "hint"));
    bool whole = out->ok ? json_is_object(out->result) : out->code && out->message;
    if (!json_is_boolean(ok) || !whole) {
        json_decref(out->json);
        out->json = NULL;
        return fault_set(f, ERR_PROTO, 0, "the server's answer lacks what an answer has");
    }
    out->err = out->ok ? OK : ctl_err_of_word(out->code);
    return OK;
}
