/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena's header: frozen. Every version of the program reads these pages without knowing anything
 * else about the arena.
 *
 *   page 0  identity
 *   page 1  live words: each written by one store; not in the undo log
 *   page 2  identity, the other one
 *
 * An identity is constant and covered by identity_crc. live.identity says which of the two counts: a
 * conversion writes the other one and switches by that word (convert.h). The first eight bytes of page 0 are
 * the magic in any case.
 */
#ifndef ARENA_HEADER_H
#define ARENA_HEADER_H

#include <stdatomic.h>
#include <stdint.h>

#define ARENA_MAGIC UINT64_C(0x616e657261647250) /* "Prdarena", little endian */
#define ARENA_PREFIX_VERSION 2u
#define ARENA_PAGE_BYTES 4096u
#define ARENA_PARTS_MAX 32u

/* A part of the arena: a table of slots, or a region without structure. */
enum arena_part_kind { ARENA_PART_NONE = 0, ARENA_PART_TABLE = 1, ARENA_PART_REGION = 2 };

struct arena_part {
    uint32_t kind;
    uint32_t number; /* tables and regions have separate numbers */
    uint32_t version;
    uint32_t slot_bytes; /* tables */
    uint64_t offset;     /* from the arena's start */
    uint64_t size_bytes;
    uint32_t capacity; /* tables: slots */
    uint32_t reserved;
    uint64_t layout; /* tables: layout_hash() of what a slot is */
};

struct arena_identity {
    uint64_t magic;
    uint32_t prefix_version;
    uint32_t identity_crc; /* CRC-32C of this structure with this field 0 */
    uint64_t size_bytes;   /* the memory may be larger */
    uint64_t base_address;
    uint8_t boot_id[16];
    uint8_t arena_id[16];
    uint64_t layout_hash; /* arena_layout_of() */
    uint64_t undo_offset;
    uint64_t undo_bytes;
    uint32_t part_count;
    uint32_t reserved;
    struct arena_part parts[ARENA_PARTS_MAX];
};
_Static_assert(sizeof(struct arena_part) == 48, "frozen");
_Static_assert(sizeof(struct arena_identity) == 96 + 48 * ARENA_PARTS_MAX, "frozen");

/* Who may write what: engine = the one engine that serves; successor = the engine that attaches. */
struct arena_live {
    _Atomic uint64_t undo_used;    /* engine: bytes of undo log in use; 0 = the turn is committed */
    _Atomic uint64_t turn;         /* engine: number of the turn being made */
    _Atomic uint64_t generation;   /* successor, at attach: engines that have served this arena */
    _Atomic uint32_t phase;        /* enum arena_phase */
    _Atomic uint32_t identity;     /* successor: which identity counts, 0 or 1 */
    _Atomic uint64_t input;        /* engine: the input in hand, arena_hold_input() */
    _Atomic uint32_t input_deaths; /* successor: deaths in a row with death_input in hand */
    _Atomic uint32_t deaths;       /* successor: deaths in a row without a committed turn between */
    _Atomic uint64_t death_input;  /* successor: the input that the last one had in hand; 0: none */
    _Atomic uint32_t
        high_water[ARENA_PARTS_MAX]; /* engine: slots of part i ever in use; only rises */
    _Atomic uint32_t unfit;          /* successor: why nobody is to attach, enum arena_verdict */
};

enum arena_phase {
    ARENA_EMPTY = 0,     /* cold start has not finished */
    ARENA_SERVING = 1,   /* an engine serves, or died serving */
    ARENA_ATTACHING = 2, /* a successor has begun to attach */
    ARENA_STOPPED = 3,   /* stopped in order: everything is in the log */
};

#define ARENA_IDENTITY_OFFSET 0u
#define ARENA_LIVE_OFFSET ARENA_PAGE_BYTES
#define ARENA_OTHER_IDENTITY_OFFSET (2 * ARENA_PAGE_BYTES)
#define ARENA_HEADER_BYTES (3 * ARENA_PAGE_BYTES)

/* The identity that counts, of a memory that begins with a header. */
static inline const struct arena_identity *arena_identity_of(const void *base) {
    const unsigned char *b = base;
    const struct arena_live *live = (const void *)(b + ARENA_LIVE_OFFSET);
    return (const void *)(atomic_load(&live->identity) == 1 ? b + ARENA_OTHER_IDENTITY_OFFSET : b);
}

#endif
