/* SPDX-License-Identifier: Apache-2.0 */
#include "base/must.h"

#include <stdio.h>
#include <stdlib.h>

void must_fail(const char *cond, const char *file, int line) {
    fprintf(stderr, "<0>perdure: broken invariant: %s (%s:%d)\n", cond, file, line);
    fflush(stderr);
    abort();
}
