/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control operations, one table. The command line takes its grammar, help, completion, manual
 * page and reference from it; the server checks arguments with it and looks handlers up by name.
 *
 * An argument has a key (its name in JSON), and in the command line either an option ("--size") or,
 * if that is NULL, its place among the words. At most one word argument is a list, and it is the
 * last. Types, and how they look in JSON:
 *
 *   TEXT      string of 1 to 4095 bytes           DURATION  integer, nanoseconds
 *   VOLUME    string, ctl/name.h                  RANGE     {"offset_bytes":N,"length_bytes":N}
 *   IMAGE     string, ctl/name.h                  MOMENT    string, ctl/moment.h
 *   LABEL     string, ctl/name.h                  BOOL      true or false; absent is false
 *   SIZE      integer, bytes                      CHOICE    string, one of `choices`
 *   THINNING  string, ctl/thinning.h
 *
 * A list is an array of 1 to CTL_LIST_MAX different items (strings). Sizes and durations lie within
 * [min, max]; max 0 means 2^63 - 1. SIZE may have choices too.
 */
#ifndef CTL_OPS_H
#define CTL_OPS_H

#include <stddef.h>
#include <stdint.h>

#define CTL_ARGS_MAX 8u
#define CTL_LIST_MAX 64u
#define CTL_TEXT_MAX 4095u

enum ctl_type {
    CTL_TEXT,
    CTL_VOLUME,
    CTL_IMAGE,
    CTL_LABEL,
    CTL_SIZE,
    CTL_MOMENT,
    CTL_BOOL,
    CTL_DURATION,
    CTL_RANGE,
    CTL_CHOICE,
    CTL_NUMBER,
    CTL_THINNING,
};

#define CTL_REQUIRED 1u
#define CTL_LIST 2u
#define CTL_LOCAL 4u /* the command line's own; never sent, refused by the server */

struct ctl_arg {
    const char *key;
    const char *option; /* without "--"; NULL: a word */
    const char *meta;   /* what help shows for the value; NULL for BOOL */
    enum ctl_type type;
    uint32_t flags;
    uint64_t min, max;
    const char *choices;  /* "512|4096"; NULL: free */
    const char *fallback; /* the value, as text, when the argument is absent; NULL: none */
    const char *help;
};

#define CTL_READ 1u          /* changes nothing: may be sent again after a broken connection */
#define CTL_DEFAULT_VERB 2u  /* "mark demo" means "mark create demo" */
#define CTL_COMPOSED 4u      /* the command line makes it of others: the server has none */
#define CTL_TAKES_COMMAND 8u /* "-- COMMAND" follows, at least one word; COMPOSED */

struct ctl_op {
    const char *name;        /* "image.open" */
    const char *noun, *verb; /* verb NULL: the noun alone is the command */
    uint32_t flags;
    uint32_t arg_count;
    const struct ctl_arg *args;
    const char *summary; /* one line, no full stop */
    const char *detail;  /* a paragraph, or NULL */
    const char *result;  /* the result object's shape, as JSON with types in place of values */
    const char *example; /* command lines, one a line */
};

extern const struct ctl_op ctl_ops[];
extern const uint32_t ctl_op_count;

/*
 * Shapes that several results share, named in capitals in `result`. In shapes, "time" is RFC 3339
 * in UTC, "?" after a type means that the value may be null, "a" | "b" is one of these words. Every
 * key is always present. Lists are in the order of names, or of time where there is one.
 */
struct ctl_shape {
    const char *name;
    const char *json;
};

extern const struct ctl_shape ctl_shapes[];
extern const uint32_t ctl_shape_count;

/* NULL if there is none. */
const struct ctl_op *ctl_op_find(const char *name);
const struct ctl_arg *ctl_arg_find(const struct ctl_op *op, const char *key);

/* "volume create"; out holds CTL_COMMAND_BYTES. */
#define CTL_COMMAND_BYTES 48u
void ctl_op_command(const struct ctl_op *op, char out[CTL_COMMAND_BYTES]);

/* Steps through "a|b|c": the first item's length, and the rest by *next (NULL at the end). */
size_t ctl_choice_next(const char *choices, const char **next);

#endif
