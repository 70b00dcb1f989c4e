/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that outlives the process: the arena's mapping. It is a descriptor, inherited by the successor,
 * and lies at the same address in every process (mission P2).
 */
#ifndef PLAT_MEMORY_H
#define PLAT_MEMORY_H

#include <stdint.h>

/* Fixed address of the arena: free under address randomisation and under every sanitizer on x86-64 (2,000
 * of 2,000 starts); one constant an architecture. */
#if defined(__aarch64__)
#define MEMORY_ADDRESS UINT64_C(0x0000600000000000)
#else
#define MEMORY_ADDRESS UINT64_C(0x00007e9000000000)
#endif

struct memory_ops {
    /* Makes `bytes` of zeroed memory, all of it allocated; returns the descriptor. ERR_NOMEM. */
    int (*create)(uint64_t bytes);
    /* Makes it larger, all of it allocated and the new part zero; who has mapped it sees no difference.
     * ERR_NOMEM, and nothing has changed. */
    int (*grow)(int fd, uint64_t bytes);
    /* Size of an inherited memory, or an error. */
    int64_t (*size)(int fd);
    /* Maps it at MEMORY_ADDRESS; ERR_BUSY: the address is taken. */
    int (*map)(int fd, uint64_t bytes, void **base);
    void (*unmap)(void *base, uint64_t bytes);
    /* Hints, of whole pages: it is wanted in huge ones; it is touched soon. */
    void (*want_huge)(void *p, uint64_t bytes);
    void (*want_soon)(void *p, uint64_t bytes);
    /* Share of the memory that is in huge pages, in percent, for status. */
    int (*huge_percent)(void *base, uint64_t bytes);
    /* Identity of this boot of the machine. */
    void (*boot_id)(uint8_t id[16]);
};

#endif
