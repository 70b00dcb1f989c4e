/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32C (Castagnoli; RFC 3720 appendix B.4 gives test vectors). */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Checksum of len bytes, continuing from a former checksum; 0 begins. crc32c(crc32c(0, a), b) is
 * the checksum of a followed by b. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
