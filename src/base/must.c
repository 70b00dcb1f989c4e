/* SPDX-License-Identifier: Apache-2.0 */
#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void must_fail(const char *cond, const char *file, int line) {
    char text[512];
    snprintf(text, sizeof text - 1, "<0>perdure: broken invariant: %s (%s:%d)", cond, file, line);
    strcat(text, "\n");
    if (must_tell) {
        must_tell(text);
    } else {
        fputs(text, stderr);
        fflush(stderr);
    }
    abort();
}
