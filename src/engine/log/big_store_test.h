/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store with a long history, made at once: sealed segments of one frame with one record each are put
 * behind what an existing store has, as a power cut would leave it. Of each slot file only header, frame
 * and footer are written.
 *
 * Segment i of n (from 0) has the number BIG_STORE_NUMBER + i; its record has the sequence number
 * big_store_sequence(i) and is of second i of the history.
 */
#ifndef ENGINE_LOG_BIG_STORE_TEST_H
#define ENGINE_LOG_BIG_STORE_TEST_H

#include <stdint.h>

#include "base/units.h"
#include "engine/log.h"
#include "plat/file.h"

#define BIG_STORE_NUMBER 1000u
#define BIG_STORE_FILE 100u /* slot file of the first */

static inline uint64_t big_store_sequence(uint32_t i) {
    return (UINT64_C(1) << 32) + (uint64_t)i * 65536;
}

/* begin_ns: when its history begins; *time_ns of segment i is begin_ns + i seconds. 0 or an error. */
int big_store_make(const struct file_system *fs, uint32_t segments, uint64_t begin_ns);

/* An index that keeps nothing. */
extern const struct log_index_ops big_store_no_index;

#endif
