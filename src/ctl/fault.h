/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl: the control operations, as data and pure functions: one table from which the command line,
 * its help, the reference and the server's checks are made; the parsers of what people type
 * (moments, sizes, durations, names); the JSON lines of the control socket. It uses base and
 * jansson. It owns no socket, reads no clock and knows no time zone: `now` and the zone are passed
 * in.
 *
 * A fault says where a text is wrong and why, in words for the person who typed it. Parsers return
 * a code of base/err.h and fill a fault; `at` is the offset of the first byte that does not fit.
 */
#ifndef CTL_FAULT_H
#define CTL_FAULT_H

#include <stdint.h>

#define FAULT_TEXT_BYTES 320u

struct fault {
    uint32_t at;
    char text[FAULT_TEXT_BYTES];
};

/* Fills the fault (which may be NULL) and returns err, so that a parser fails in one line. */
__attribute__((format(printf, 4, 5))) int fault_set(struct fault *f, int err, uint64_t at,
                                                    const char *format, ...);

#endif
