/* SPDX-License-Identifier: Apache-2.0 */
/* The one mapping from errors to exit codes. */
#ifndef CLI_EXIT_CODE_H
#define CLI_EXIT_CODE_H

enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NOT_FOUND = 3,
    EXIT_IN_USE = 4,
    EXIT_REFUSED = 5,
    EXIT_NO_SPACE = 6,
    EXIT_UNREACHABLE = 7,
    EXIT_NOT_PERMITTED = 8,
    EXIT_INTEGRITY = 9,
    EXIT_TIMED_OUT = 10,
    EXIT_CODE_COUNT
};

enum exit_code exit_code_of(int err);

/* For the manual: "not found". */
const char *exit_code_text(enum exit_code code);

#endif
