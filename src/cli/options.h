/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From words to a command. Global options may stand anywhere; the operation's own come after its
 * name. An option's value is the next word, whatever it begins with ("--at -5min"), or follows '='.
 * "--" ends the options. Every error names the word and, for a value, the place in it.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli/cli.h"

struct cli_option {
    const char *name;
    const char *meta; /* NULL: takes no value */
    const char *help;
};

extern const struct cli_option cli_global_options[];
extern const uint32_t cli_global_option_count;

/* argv without the program's name. The command's args are owned by the caller, also on failure. */
int options_parse(int argc, char **argv, uint64_t now_ns, struct cli *cli,
                  struct cli_command *command, struct cli_failure *f);

/* True if some operation has this noun. */
bool options_is_noun(const char *word);

#endif
