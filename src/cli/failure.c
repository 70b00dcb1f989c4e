/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>

int cli_fail(struct cli_failure *f, int err, const char *format, ...) {
    va_list list;
    f->err = err;
    f->hint[0] = '\0';
    va_start(list, format);
    vsnprintf(f->message, sizeof f->message, format, list);
    va_end(list);
    return err;
}

void cli_hint(struct cli_failure *f, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(f->hint, sizeof f->hint, format, list);
    va_end(list);
}
