/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes, durations and ranges as people write them.
 *
 *   size      bytes, or a number with K M G T P E (either case, optionally "iB"): powers of 1024.
 *             "1.5T" is allowed if it is a whole number of bytes. "GB" is refused: some read it as
 *             10^9, some as 2^30. The largest is 2^63 - 1, what a JSON integer holds.
 *   duration  parts of w d h m|min s|sec ms us ns, larger units first, each at most once:
 *             "7d", "2h30m", "90s", "1.5h" (a fraction in the last part only). Up to 2^63 - 1 ns.
 *   range     OFFSET:LENGTH, both sizes, length at least 1, the sum below 2^63.
 *
 * Texts are (pointer, length) and need no terminator. Each returns 0 or ERR_INVAL, ERR_RANGE or
 * ERR_AMBIGUOUS with the fault filled.
 */
#ifndef CTL_SIZE_H
#define CTL_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "ctl/fault.h"

#define SIZE_TEXT_BYTES 32u

int size_parse(const char *text, size_t len, uint64_t *bytes, struct fault *f);
int duration_parse(const char *text, size_t len, uint64_t *ns, struct fault *f);
int range_parse(const char *text, size_t len, uint64_t *offset_bytes, uint64_t *length_bytes,
                struct fault *f);

/* For people, three significant digits: "1.5 TiB", "512 B", "1 GiB". */
void size_format(char out[SIZE_TEXT_BYTES], uint64_t bytes);

/* For people, the two largest units, or three digits below a second: "2 h 30 min", "1.83 ms". */
void duration_format(char out[SIZE_TEXT_BYTES], uint64_t ns);

#endif
