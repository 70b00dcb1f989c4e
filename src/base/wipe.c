/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* explicit_bzero */
#include "base/wipe.h"

#include <string.h>

void wipe(void *p, size_t bytes) {
    explicit_bzero(p, bytes);
}
