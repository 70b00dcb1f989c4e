/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From main() to an engine with custody of its descriptors. A program that persists calls boot() first of
 * all; boot_engine() is called in the engine's process, once in each generation.
 */
#ifndef CUSTODY_BOOT_H
#define CUSTODY_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "custody/custody.h"

enum boot_mode {
    BOOT_COLD = 0,    /* the first engine, or nothing was left */
    BOOT_PLANNED = 1, /* waits at the gate */
    BOOT_CRASH = 2,   /* the former engine is dead */
};

struct boot {
    int argc;
    char **argv; /* without boot's own arguments */
    enum boot_mode mode;
    uint32_t generation;
    uint32_t predecessor; /* the generation that it was started to succeed */
    struct custody *custody;
    int custody_fd;
    int keeper_bell, engine_bell; /* ours */
    int binary_fd;                /* our program */
    int keeper_pidfd;             /* readable when the keeper is dead; -1: none */
    int former_engine_bell;       /* registered in the inherited wait */
};

/* The exit status when an option or a key is not right; other failures are 1. */
#define BOOT_STATUS_USAGE 2

/* The page, of its descriptor; NULL: no memory. */
struct custody *custody_map(int fd);

/* Returns the exit status of the process. */
int boot(int argc, char **argv, int (*engine)(struct boot *b));

/* Successor: everything is prepared. BOOT_PLANNED: waits for the gate and changes mode to BOOT_CRASH if
 * the former engine died before it opened the gate. Returns when the arena is ours. */
void boot_wait_at_gate(struct boot *b);

/* Successor: cannot do it. The engine that serves goes on, or the keeper tries otherwise. */
_Noreturn void boot_refuse(struct boot *b, const char *reason);

/* Successor: attaches to the arena; from here on its keeper watches it. */
void boot_attaches(struct boot *b);

/* Engine: the ends of its turns, and, in one that takes long, that it goes on (watch.h). */
static inline void boot_turn_begins(struct boot *b) {
    _Atomic uint64_t *beat = &b->custody->beat;
    atomic_store_explicit(beat, atomic_load_explicit(beat, memory_order_relaxed) | 1,
                          memory_order_relaxed);
}
static inline void boot_turn_ends(struct boot *b) {
    _Atomic uint64_t *beat = &b->custody->beat;
    atomic_store_explicit(beat, (atomic_load_explicit(beat, memory_order_relaxed) + 1) & ~1ull,
                          memory_order_relaxed);
}
static inline void boot_turn_goes_on(struct boot *b) {
    boot_turn_ends(b);
    boot_turn_begins(b);
}

/* How the engine died that we succeed. */
void boot_death_text(const struct boot *b, char *out, size_t room);

/* Engine: serves from now on. The former keeper leaves. */
void boot_serving(struct boot *b, uint64_t now_ns, uint64_t probation_ns);

/* Engine: asks for a successor with the program of binary_fd (-1: the same). The engine bell rings when it
 * waits at the gate or has failed; then boot_prepared tells which. */
void boot_want_successor(struct boot *b, int binary_fd);
enum custody_prepare boot_prepared(struct boot *b);

/* Engine: lets go and exits. The arena is not touched any more. */
_Noreturn void boot_let_go(struct boot *b, uint64_t now_ns);

/* Engine: cannot let go, for this reason; the successor leaves, and the engine bell rings as if it had
 * failed. */
void boot_turn_away(struct boot *b, const char *reason);

/* Engine: the end in order, or a start that cannot succeed. */
_Noreturn void boot_stop(struct boot *b, enum custody_state state, int status);

/* Whether a descriptor that the engine has inherited is custody's own, or a standard one. */
int boot_owns(const struct boot *b, int fd);

/* Descriptors from this number on are not for connections. */
int boot_descriptors_max(void);

/* Engine: its keeper has died; makes another. */
int boot_new_keeper(struct boot *b);

#endif
