/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/exit_code.h"

#include "base/err.h"

enum exit_code exit_code_of(int err) {
    switch (err) {
    case OK:
        return EXIT_DONE;
    case ERR_INVAL:
    case ERR_RANGE:
    case ERR_TOOBIG:
    case ERR_AMBIGUOUS:
        return EXIT_USAGE;
    case ERR_NOTFOUND:
        return EXIT_NOT_FOUND;
    case ERR_EXISTS:
    case ERR_BUSY:
        return EXIT_IN_USE;
    case ERR_REFUSED:
        return EXIT_REFUSED;
    case ERR_NOSPC:
        return EXIT_NO_SPACE;
    case ERR_UNREACHABLE:
    case ERR_CLOSED:
    case ERR_SHUTDOWN:
        return EXIT_UNREACHABLE;
    case ERR_PERM:
    case ERR_READONLY:
        return EXIT_NOT_PERMITTED;
    case ERR_INTEGRITY:
    case ERR_FORMAT:
        return EXIT_INTEGRITY;
    case ERR_TIMEDOUT:
        return EXIT_TIMED_OUT;
    default:
        return EXIT_FAILED;
    }
}

const char *exit_code_text(enum exit_code code) {
    switch (code) {
    case EXIT_DONE:
        return "done";
    case EXIT_USAGE:
        return "the command is not right, or not possible as given";
    case EXIT_NOT_FOUND:
        return "there is no such object";
    case EXIT_IN_USE:
        return "it exists already, or is in use";
    case EXIT_REFUSED:
        return "refused without --force";
    case EXIT_NO_SPACE:
        return "no space";
    case EXIT_UNREACHABLE:
        return "the server cannot be reached";
    case EXIT_NOT_PERMITTED:
        return "not permitted";
    case EXIT_INTEGRITY:
        return "a checksum or a format does not match";
    case EXIT_TIMED_OUT:
        return "timed out";
    default:
        return "failed";
    }
}
