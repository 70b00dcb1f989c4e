/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines of the control socket: one JSON object a line, both ways.
 *
 *   request   {"id": 7, "op": "image.open", "args": {"volumes": ["demo"], "at": "-5min"}}
 *   answer    {"id": 7, "ok": true, "result": {...}}
 *   refusal   {"id": 7, "ok": false, "code": "not_found", "message": "...", "hint": "..."}
 *
 * `id` is an integer from 0, chosen by the client, and comes back; it is null in a refusal if the
 * request's could not be read. `args` may be left out, `hint` too. Codes are the words of
 * base/err.h. Requests may be answered in another order than they came.
 *
 * A request line is at most CTL_LINE_MAX bytes with its line feed, and CTL_DEPTH_MAX deep. The
 * socket's owner cuts the stream into lines and closes the connection if a line grows longer.
 */
#ifndef CTL_PROTO_H
#define CTL_PROTO_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/args.h"

#define CTL_LINE_MAX 65536u
#define CTL_DEPTH_MAX 8u

#define CTL_NO_ID INT64_C(-1)

struct ctl_request {
    int64_t id; /* CTL_NO_ID if it could not be read */
    const struct ctl_op *op;
    struct ctl_args args;
    json_t *json; /* owns every text in args */
};

/*
 * Reads one request, without its line feed. On success *refusal is NULL and the request holds until
 * ctl_request_free. Otherwise the error is returned and *refusal is the line to send (malloc'd,
 * NULL only if memory is out), and nothing is to be freed but that.
 */
int ctl_parse(const char *line, size_t len, uint64_t now_ns, const struct moment_zone *zone,
              struct ctl_request *out, char **refusal);
void ctl_request_free(struct ctl_request *r);

/* Answers, with their line feed: malloc'd, NULL if memory is out. A handler that ends later keeps
 * the id and calls these then. `result` is taken over, also on failure. hint may be NULL. */
char *ctl_reply_ok(int64_t id, json_t *result);
char *ctl_reply_err(int64_t id, int err, const char *message, const char *hint);

/* The server's side: one handler for each operation. run returns 0 when it has answered or will;
 * an error lets the caller answer with err_text. The request is valid until run returns. */
struct ctl_handler {
    const char *op;
    int (*run)(void *ctx, const struct ctl_request *request);
};

const struct ctl_handler *ctl_handler_find(const struct ctl_handler *handlers, uint32_t count,
                                           const char *op);

/* True if the handlers and the table name the same operations, each once. For a must() at start. */
bool ctl_handlers_complete(const struct ctl_handler *handlers, uint32_t count);

/* The client's side. */
struct ctl_reply {
    int64_t id;
    bool ok;
    int err;          /* of base/err.h; ERR_PROTO if the word is unknown */
    const char *code; /* these three NULL if ok; hint may be NULL */
    const char *message;
    const char *hint;
    json_t *result; /* NULL if not ok */
    json_t *json;   /* owns all of it; json_decref when done */
};

char *ctl_request_line(int64_t id, const struct ctl_op *op, json_t *args);
int ctl_reply_parse(const char *line, size_t len, struct ctl_reply *out, struct fault *f);

/* From "not_found" to ERR_NOTFOUND; ERR_PROTO for a word that is none. */
int ctl_err_of_word(const char *word);

#endif
