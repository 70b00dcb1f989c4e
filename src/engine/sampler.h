/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sampler: what activity counts beyond requests and bytes. Private memory, which begins anew in a new process:
 * it may tell less after a reload, never anything wrong.
 *
 * Which blocks have been read lately is kept in two filters of SAMPLER_BITS bits, one hash each. Every half of
 * SAMPLER_READ_NS the older one is emptied and takes what is read next. A filter that has become a quarter full
 * takes no more until then: so of the blocks that were not read, at most 44 in 100 pass for read, when that
 * much is read.
 */
#ifndef ENGINE_SAMPLER_H
#define ENGINE_SAMPLER_H

#include <stdint.h>

#define SAMPLER_BITS (UINT32_C(1) << 23) /* 1 MiB each */
#define SAMPLER_READ_NS (UINT64_C(60) * 1000 * 1000 * 1000)
#define SAMPLER_EACH 64u /* blocks written, of which the first is packed */

struct sampler;

struct sampler *sampler_open(void); /* NULL: no memory */
void sampler_close(struct sampler *s);

void sampler_read(struct sampler *s, uint64_t volume, uint64_t block, uint64_t blocks,
                  uint64_t now_ns);
/* How many of them were read lately. */
uint64_t sampler_was_read(const struct sampler *s, uint64_t volume, uint64_t block,
                          uint64_t blocks);

/* `blocks` are written: 1 if the first is to be packed. */
int sampler_is_due(struct sampler *s, uint64_t blocks);
/* The bytes that LZ4 makes of one block, BLOCK_BYTES if that is no gain. */
uint32_t sampler_pack(struct sampler *s, const unsigned char *block);

#endif
