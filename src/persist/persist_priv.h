/* SPDX-License-Identifier: Apache-2.0 */
/*
 * persist: libperdure-persist, the arena and custody for programs of other people. May use base, arena, custody,
 * the platform linux and the operating system; knows nothing of disks and protocols. The interface is
 * include/perdure/persist.h.
 *
 * The arena has no tables, two regions:
 *
 *   heap         struct persist_root, then blocks (heap.c)
 *   descriptors  struct persist_record, as many as fit (descriptors.c)
 *
 * All of it is changed after arena_undo_save(), but for the live words of a record, of which stream.c says why
 * a half-done change does no harm.
 */
#ifndef PERSIST_PERSIST_PRIV_H
#define PERSIST_PERSIST_PRIV_H

#include <stdatomic.h>
#include <stdint.h>

#include <perdure/persist.h>
#include "arena/arena.h"
#include "custody/boot.h"

#define PERSIST_REGION_HEAP 8u
#define PERSIST_REGION_DESCRIPTORS 9u
#define PERSIST_REGION_VERSION 1u
#define PERSIST_BINS 48

/* At the beginning of the heap. */
struct persist_root {
    uint64_t end; /* of the blocks, from the heap's beginning */
    uint32_t data_version;
    uint32_t reserved;
    uint64_t roots[PERDURE_ROOTS]; /* from the heap's beginning; 0: none */
};

enum persist_state { PERSIST_FREE = 0, PERSIST_KEPT = 1, PERSIST_CLOSING = 2 };
enum persist_kind { PERSIST_TCP = 1, PERSIST_UNIX = 2, PERSIST_PIPE = 3, PERSIST_OTHER = 4 };

/* A stream's byte at position n lies in its ring at n modulo the room. */
struct persist_record {
    uint32_t state;
    uint32_t generation; /* of its handle */
    int32_t fd;
    uint16_t kind;
    uint16_t listens;
    uint64_t identity;
    uint64_t turn;          /* that made it, or freed it */
    uint64_t input, output; /* rings, from the heap's beginning; 0: none */
    uint64_t input_bytes, output_bytes;
    uint64_t taken, put;         /* by the program */
    uint64_t received_0, sent_0; /* TCP: the kernel's positions when the stream began */
    /* Live: not undone. */
    _Atomic uint64_t received, sent;
    _Atomic uint32_t touching; /* in a system call that moves bytes and that nothing counts */
    uint32_t reserved[5];
};
#define PERSIST_RECORD_UNDONE offsetof(struct persist_record, received)
_Static_assert(sizeof(struct persist_record) == 136, "records are alike in all builds");

struct persist_bin {
    uint64_t *blocks; /* free, from the heap's beginning */
    uint32_t count, room;
};

struct perdure {
    struct boot *boot;
    const struct perdure_program *program;
    struct arena a;
    struct arena_plan plan;
    struct arena_region_plan regions[2];
    void *base;
    uint64_t bytes;
    enum perdure_start started;
    int serves, in_turn, reloading;
    int orphaned; /* the arena is all that is left */
    int event_fd, signal_fd;
    char reason[512];
    uint32_t lost;
    /* heap.c */
    struct persist_bin bins[PERSIST_BINS];
    struct persist_bin freed; /* in this turn */
    int may_merge;            /* blocks were freed since the last time */
    /* descriptors.c */
    uint32_t record_count;
    uint32_t *by_fd; /* a record's index + 1; it counts if that record has the descriptor */
    uint32_t by_fd_room;
    uint32_t next_free; /* where free records are looked for */
    uint32_t closing;   /* records that a committed turn closes */
    int *fresh;         /* accepted by a dead engine and not recorded */
    uint32_t fresh_count;
};

/* Puts a range into the undo log; -ENOSPC: no room. */
int persist_save(struct perdure *p, const void *at, uint64_t bytes);
/* A turn of the library's own, if there is none; 1: it was begun. */
int persist_begin(struct perdure *p);
void persist_end(struct perdure *p, int begun);

static inline unsigned char *persist_heap(const struct perdure *p) {
    return p->a.regions[PERSIST_REGION_HEAP];
}
static inline struct persist_root *persist_root_of(const struct perdure *p) {
    return (struct persist_root *)(void *)persist_heap(p);
}
static inline struct persist_record *persist_records(const struct perdure *p) {
    return (struct persist_record *)(void *)p->a.regions[PERSIST_REGION_DESCRIPTORS];
}

/* heap.c */
void heap_make(struct perdure *p);
int heap_check(struct perdure *p); /* -EBADMSG: its blocks do not follow one another */
void heap_find_free(struct perdure *p);
void heap_committed(struct perdure *p);

/* descriptors.c */
struct persist_record *descriptor_of(const struct perdure *p, uint32_t handle); /* NULL: stale */
void descriptors_attach(struct perdure *p);
void descriptors_sweep(struct perdure *p);
void descriptors_committed(struct perdure *p);
uint64_t descriptor_identity(int fd);

/* stream.c: takes a stream over; 0, or -ESTALE: how far it came is not known. */
int stream_attach(struct perdure *p, struct persist_record *r);

#endif
