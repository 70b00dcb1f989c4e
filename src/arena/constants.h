/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The constant area (mission P6): what preserved data name by a number, and no build may change under them: names,
 * vendor strings, parameters that were promised to a peer. A build copies its constants there when the arena is new;
 * every later one finds them by their numbers (base/numbers.h), whatever it would say itself. The area lies at the
 * same address in every process, so a constant may be pointed to.
 *
 *   offset 0   magic, 0 until all is written (8)
 *          8   number of constants (4), bytes in use with this head (4)
 *          16  CRC-32C of all that follows the head (4), reserved (12)
 *   offset 32  constants: number (4), length (4), bytes, padded with zeroes to 8
 *
 * It is written once and not undone: who dies while writing leaves an area without magic, which is written anew.
 */
#ifndef ARENA_CONSTANTS_H
#define ARENA_CONSTANTS_H

#include <stddef.h>
#include <stdint.h>

struct arena;

struct constants_head {
    _Atomic uint64_t magic;
    uint32_t count;
    uint32_t used_bytes;
    uint32_t crc;
    uint32_t reserved[3];
};
_Static_assert(sizeof(struct constants_head) == 32, "padding in struct constants_head");

struct constant {
    uint32_t number;
    const void *data;
    uint32_t bytes;
};

struct constants {
    struct constants_head *head;
    uint64_t room_bytes;
};

/* ERR_INVAL: the arena has no such region; ERR_INTEGRITY: what lies there is damaged. */
int constants_open(struct constants *c, struct arena *a, uint32_t region);

/* Of an area that nobody has written to; ERR_EXISTS: it was written, and stays as it is. ERR_NOSPC. */
int constants_write(struct constants *c, const struct constant *list, uint32_t count);

/* The constant of that number, as it was when the arena was new; NULL: there is none. */
const void *constants_find(const struct constants *c, uint32_t number, uint32_t *bytes);

/* A constant that is text with its NUL; else `otherwise`. */
const char *constants_text(const struct constants *c, uint32_t number, const char *otherwise);

#endif
