/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a run: a pure function from versions to bytes, for a job. The versions are a private copy
 * of one memtable, or any others (a merge).
 */
#ifndef ENGINE_INDEX_RUN_BUILD_H
#define ENGINE_INDEX_RUN_BUILD_H

#include <stddef.h>
#include <stdint.h>

#include "engine/index/run_disk.h"

/* Both arrays are put in order; entries keep to chunks. */
struct run_input {
    struct run_entry *entries;
    uint64_t entry_count;
    struct run_interval *intervals;
    uint64_t interval_count;
    int without_times; /* the versions' times are not told */
};

/* identity: of this run and no other of the store. Allocates *bytes, a multiple of 4096. ERR_NOMEM,
 * ERR_TOOBIG. */
int run_make(struct run_input *in, uint64_t identity, uint8_t **bytes, size_t *len);

/* No run of a segment with so many records and blocks of data is longer. */
uint64_t run_bytes_max(uint32_t records, uint32_t blocks);

/* Identity of the run that a segment carries: no number is used twice. */
static inline uint64_t run_identity(uint32_t segment) {
    return (uint64_t)segment << 32 | 1;
}

#endif
