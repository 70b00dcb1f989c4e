/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base: what every other folder may use and what itself uses nothing: errors, byte order,
 * checksums, hashes, pseudo-random numbers, units, variable-length integers. No operating system,
 * no state.
 *
 * must(): the assertion of this project. It states a fact that only a bug can break; it is always
 * compiled in. What a peer, a disk or a file can contain never reaches it.
 */
#ifndef BASE_MUST_H
#define BASE_MUST_H

#define must(cond) ((cond) ? (void)0 : must_fail(#cond, __FILE__, __LINE__))

_Noreturn void must_fail(const char *cond, const char *file, int line);

/* Where a program wants to be told before it ends: one line. A program that has none is told on standard
 * error, and waits for who reads that. */
void must_tell(const char *line) __attribute__((weak));

#endif
