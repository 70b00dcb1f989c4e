/* SPDX-License-Identifier: Apache-2.0 */
/* Overwriting secrets, so that no compiler leaves it out. */
#ifndef BASE_WIPE_H
#define BASE_WIPE_H

#include <stddef.h>

void wipe(void *p, size_t bytes);

#endif
