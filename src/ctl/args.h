/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of one operation: from a person's text to JSON (command line), and from JSON to typed
 * values (server). Both sides go through the same checks, so neither believes the other. */
#ifndef CTL_ARGS_H
#define CTL_ARGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl/fault.h"
#include "ctl/moment.h"
#include "ctl/ops.h"

struct ctl_list {
    uint32_t count;
    const char *item[CTL_LIST_MAX];
};

struct ctl_range {
    uint64_t offset_bytes, length_bytes;
};

struct ctl_value {
    bool set; /* given, or from the fallback */
    union {
        const char *text; /* TEXT VOLUME IMAGE LABEL CHOICE */
        uint64_t number;  /* SIZE DURATION NUMBER */
        bool flag;
        struct ctl_range range;
        struct moment moment;
        struct ctl_list list;
    };
};

/* Texts point into the JSON that the values were made from. */
struct ctl_args {
    const struct ctl_op *op;
    struct ctl_value value[CTL_ARGS_MAX];
};

/* Values by key. A key that the operation does not have, or has with another type, is a bug.
 * Without a value: ctl_text NULL, ctl_number 0, ctl_flag false, ctl_list empty; the others need
 * ctl_has first. */
bool ctl_has(const struct ctl_args *a, const char *key);
const char *ctl_text(const struct ctl_args *a, const char *key);
uint64_t ctl_number(const struct ctl_args *a, const char *key);
bool ctl_flag(const struct ctl_args *a, const char *key);
struct ctl_range ctl_range(const struct ctl_args *a, const char *key);
const struct moment *ctl_moment(const struct ctl_args *a, const char *key);
const struct ctl_list *ctl_list(const struct ctl_args *a, const char *key);

/* One text for one argument (one item of a list), as a new JSON value. Local times are written out
 * in UTC, because the server may live in another zone; relative ones are left for it to count. */
int ctl_text_to_json(const struct ctl_arg *arg, const char *text, uint64_t now_ns,
                     const struct moment_zone *zone, json_t **out, struct fault *f);

/* The object `args` (NULL is {}) as typed values. Unknown keys, wrong types and missing arguments
 * are refused. */
int ctl_args_parse(const struct ctl_op *op, const json_t *args, uint64_t now_ns,
                   const struct moment_zone *zone, struct ctl_args *out, struct fault *f);

#endif
