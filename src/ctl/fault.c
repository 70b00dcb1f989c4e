/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/fault.h"

#include <stdarg.h>
#include <stdio.h>

int fault_set(struct fault *f, int err, uint64_t at, const char *format, ...) {
    if (!f)
        return err;
    f->at = at > UINT32_MAX ? UINT32_MAX : (uint32_t)at;
    va_list list;
    va_start(list, format);
    vsnprintf(f->text, sizeof f->text, format, list);
    va_end(list);
    return err;
}
