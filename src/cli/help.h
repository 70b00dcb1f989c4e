/* SPDX-License-Identifier: Apache-2.0 */
/* Help, the reference, the manual page and shell completion: all from the table of operations. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include <stdio.h>

#include "ctl/ops.h"

/* For a terminal: everything, the commands of a noun, or one command. */
void help_all(FILE *out);
void help_noun(const char *noun, FILE *out);
void help_op(const struct ctl_op *op, FILE *out);

void help_markdown(FILE *out);
void help_man(FILE *out);
void help_completion_bash(FILE *out);

/* "perdure volume create NAME --size SIZE [--block-size BYTES]" */
#define HELP_USAGE_BYTES 512u
void help_usage(const struct ctl_op *op, char out[HELP_USAGE_BYTES]);

/* How moments are written: pairs of text and meaning. */
struct help_moment {
    const char *text, *meaning;
};
extern const struct help_moment help_moments[];
extern const uint32_t help_moment_count;

#endif
