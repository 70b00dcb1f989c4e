/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to thin history (engine/thinning.h) as people write them: AGE:STEP[,AGE:STEP]..., as in "1d:1m,7d:1h": of
 * what is older than a day one moment a minute, of what is older than a week one an hour. "never": none. Ages are
 * durations (ctl/size.h) of whole seconds from a minute on; both rise.
 */
#ifndef CTL_THINNING_H
#define CTL_THINNING_H

#include <stddef.h>
#include <stdint.h>

#include "ctl/fault.h"
#include "engine/thinning.h"

/* 0, or ERR_INVAL, ERR_RANGE, ERR_TOOBIG with the fault filled. */
int thinning_parse(const char *text, size_t len, uint64_t levels[THINNING_LEVELS], struct fault *f);

/* The text that thinning_parse reads back; "" for none. */
#define THINNING_TEXT_BYTES 96u
void thinning_format(const uint64_t levels[THINNING_LEVELS], char out[THINNING_TEXT_BYTES]);

#endif
