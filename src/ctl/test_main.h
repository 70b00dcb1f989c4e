/* SPDX-License-Identifier: Apache-2.0 */
/* What every cmocka test of this folder needs before its own headers. */
#ifndef CTL_TEST_MAIN_H
#define CTL_TEST_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
