/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/thinning.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "ctl/size.h"

static int parse_level(const char *text, size_t len, uint64_t before, uint64_t *level,
                       struct fault *f) {
    uint64_t age_ns = 0, step_ns = 0;
    const char *colon = memchr(text, ':', len);
    if (!colon)
        return fault_set(f, ERR_INVAL, 0, "each level is AGE:STEP, as in 1d:1m,7d:1h");
    size_t age_len = (size_t)(colon - text);
    int err = duration_parse(text, age_len, &age_ns, f);
    if (err == OK)
        err = duration_parse(colon + 1, len - age_len - 1, &step_ns, f);
    if (err)
        return err;
    if (age_ns < 60 * NS_PER_S || age_ns % NS_PER_S || age_ns / NS_PER_S > INT32_MAX)
        return fault_set(f, ERR_RANGE, 0,
                         "an age lies between a minute and 68 years, in whole seconds");
    if (step_ns % NS_PER_S || step_ns / NS_PER_S > UINT32_MAX ||
        thinning_number((uint32_t)(step_ns / NS_PER_S)) == THINNING_STEPS)
        return fault_set(f, ERR_INVAL, 0, "a step is one of 1m, 5m, 15m, 1h, 6h, 1d, 7d");
    *level = thinning_level((uint32_t)(age_ns / NS_PER_S), (uint32_t)(step_ns / NS_PER_S));
    if (thinning_age_s(*level) <= thinning_age_s(before) ||
        thinning_step_s(*level) <= thinning_step_s(before))
        return fault_set(f, ERR_INVAL, 0,
                         "each age and each step is longer than that of the level before");
    return OK;
}

int thinning_parse(const char *text, size_t len, uint64_t levels[THINNING_LEVELS],
                   struct fault *f) {
    memset(levels, 0, THINNING_LEVELS * sizeof *levels);
    if (len == 5 && memcmp(text, "never", 5) == 0)
        return OK;
    const char *end = text + len;
    for (int i = 0; text; i++) {
        if (i == THINNING_LEVELS)
            return fault_set(f, ERR_TOOBIG, 0, "there are at most %d levels", THINNING_LEVELS);
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *level_end = comma ? comma : end;
        int err =
            parse_level(text, (size_t)(level_end - text), i ? levels[i - 1] : 0, &levels[i], f);
        if (err)
            return err;
        text = comma ? comma + 1 : NULL;
    }
    return OK;
}

/* In the longest unit of which it is a whole number. */
static int put_seconds(char *out, size_t room, uint32_t seconds) {
    static const struct {
        uint32_t seconds;
        char letter;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    int i = 0;
    while (seconds % units[i].seconds)
        i++;
    return snprintf(out, room, "%u%c", seconds / units[i].seconds, units[i].letter);
}

void thinning_format(const uint64_t levels[THINNING_LEVELS], char out[THINNING_TEXT_BYTES]) {
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < THINNING_LEVELS && levels[i]; i++) {
        if (i)
            out[at++] = ',';
        at += (size_t)put_seconds(out + at, THINNING_TEXT_BYTES - at, thinning_age_s(levels[i]));
        out[at++] = ':';
        at += (size_t)put_seconds(out + at, THINNING_TEXT_BYTES - at, thinning_step_s(levels[i]));
    }
}
