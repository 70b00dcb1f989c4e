/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments as people write them.
 *
 *   2026-11-22T17:00:03.25Z   RFC 3339; 'T' or one blank, 't' and 'z' too; up to 9 digits of a
 *   2026-11-22 17:00:03       second; seconds may be left out; the zone may be left out (then the
 *   2026-11-22 17:00 +01:00   local zone holds) and may follow one blank
 *   17:00:03, 17:00+02:00     the last time the clock showed it
 *   -5min -2h30m -10s -1d     before now; a duration of ctl/size.h
 *   now
 *   seq:123456                a sequence number
 *   anything that begins with a letter: the label of a mark (ctl/name.h)
 *
 * What may mean two moments is refused with both: a local time that the clock showed twice
 * (ERR_AMBIGUOUS) and one that it never showed (ERR_INVAL), because it was set forward over it.
 * Other errors: ERR_INVAL not a moment, ERR_RANGE before 1970 or after 2553, ERR_TOOBIG a label
 * that is too long. A moment in the future is a moment; the engine refuses it.
 *
 * The zone is a function from an instant to the offset of local time then, so that the parser is
 * pure and a test can bring its own zone. NULL is UTC.
 */
#ifndef CTL_MOMENT_H
#define CTL_MOMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl/fault.h"
#include "ctl/name.h"

#define MOMENT_TEXT_BYTES 80u

struct moment_zone_ops {
    /* Local time minus UTC at that instant, in seconds; within a day either way. */
    int32_t (*offset_s)(void *ctx, int64_t utc_s);
};

struct moment_zone {
    const struct moment_zone_ops *ops;
    void *ctx;
};

enum moment_kind { MOMENT_NOW, MOMENT_TIME, MOMENT_SEQUENCE, MOMENT_MARK };

/* How a time was written: only ABSOLUTE means the same to a reader elsewhere and later. */
enum moment_form { MOMENT_ABSOLUTE, MOMENT_LOCAL, MOMENT_CLOCK, MOMENT_RELATIVE };

struct moment {
    enum moment_kind kind;
    enum moment_form form;        /* valid for TIME */
    uint64_t time_ns;             /* UTC since 1970; valid for TIME, and for NOW the now passed */
    uint64_t sequence;            /* valid for SEQUENCE */
    char label[NAME_MAX_LEN + 1]; /* valid for MARK */

    uint64_t reading_ns[2]; /* on refusal: the two moments that may be meant, earlier first */
    uint32_t reading_count; /* 2, or 0 if the text is not refused for having two readings */
};

int moment_parse(const char *text, size_t len, uint64_t now_ns, const struct moment_zone *zone,
                 struct moment *out, struct fault *f);

/* The text that moment_parse reads back as the same moment, whatever the zone and now. */
void moment_to_text(const struct moment *m, char out[MOMENT_TEXT_BYTES]);

/* RFC 3339 in UTC, "2026-11-22T16:00:03.25Z": as many digits as needed. */
void moment_format_utc(uint64_t time_ns, char out[MOMENT_TEXT_BYTES]);

/* For people, cut to `digits` (0 to 9) of a second: "2026-11-22 17:00:03.250 +01:00". Can be typed
 * as a moment again. */
void moment_format_local(uint64_t time_ns, uint32_t digits, const struct moment_zone *zone,
                         char out[MOMENT_TEXT_BYTES]);

/*
 * Export names:
 *
 *   VOLUME             the volume
 *   VOLUME.IMAGE       an open image's disk
 *   VOLUME@MOMENT      that moment, read-only
 *   VOLUME@MOMENT+rw   that moment, writable, thrown away with its last client
 *
 * The first '@' splits: neither names nor moments hold one. "+rw" counts only at the very end; no
 * moment ends in it. The names are checked; the moment's text is left to moment_parse.
 */
struct moment_export {
    char volume[NAME_MAX_LEN + 1];
    char image[NAME_MAX_LEN + 1]; /* empty: none */
    const char *moment;           /* into the name passed; NULL: none */
    size_t moment_len;
    bool writable; /* "+rw" was there */
};

int moment_split_export(const char *name, size_t len, struct moment_export *out, struct fault *f);

#endif
