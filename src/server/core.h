/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: what makes a process of all this. Main, reactor, connections, configuration, wiring. May use everything
 * below it and the operating system.
 *
 * From boot to a reactor that serves: the arena is made, or qualified and attached; rings, sockets and
 * listeners are taken over. What a program adds (its tables, its protocols, what it attaches itself) comes
 * between the calls:
 *
 *   core_prepare   before the gate: everything that can be done beside the engine that serves
 *   core_take      waits at the gate; the arena is ours afterwards, or a new one if it did not qualify
 *   core_attach    connections of the former engine; then the program claims what is its own
 *   core_adopt     disk operations of the former engines: those not taken are queued again
 *   core_serve     registrations are ours; the former keeper leaves
 */
#ifndef SERVER_CORE_H
#define SERVER_CORE_H

#include "arena/arena.h"
#include "arena/convert.h"
#include "server/machine.h"
#include "server/reactor.h"

/* So many engines in a row, each dead of its own fault with the same input in hand, and it is not given to a
 * next one: fewer than make a cold start (ARENA_DEATHS_MAX), and two might be chance. */
#define CORE_POISON_DEATHS 3u
/* In which deaths are a loop. */
#define CORE_FAULTS_S 60u

struct core {
    struct reactor r;
    struct boot *boot;
    struct arena_plan plan;
    const struct machine *machine;
    struct io_router router;
    int router_fd;
    int store_dir;
    int signal_fd;
    void *base;
    uint64_t bytes;
    int warm; /* the arena was attached; else it is new */
    int after_crash;
    enum arena_verdict verdict; /* why it was not */
    char why[512];              /* the same in more words; empty: the verdict says all */
    int converts;               /* the arena has another layout, and will be converted */
    int converted;              /* it was: parts says how */
    struct arena_part_fit parts[2 * ARENA_PARTS_MAX];
    uint32_t part_count;
    uint32_t closed; /* connections that could not be kept */
    uint32_t poison; /* one of them, of whose request the former engines died: its handle, or 0 */
    char poison_peer[120];
    int adopted_queues;
    /* The inherited descriptors that have not been looked at; bits of those that were recorded. */
    int sweep_next, sweep_end;
    uint8_t *sweep_known;
    uint64_t probation_ns;
    uint32_t faults_max; /* deaths by own fault in CORE_FAULTS_S, then a cold start; 0: any */
    uint32_t hang_ms;    /* a longer turn is a hang; 0: none is */
    /* An arena that did not qualify, rolled back where that was possible: answered writes may lie in its
     * frames. Mapped at any address until core_bury. */
    void *dead;
    uint64_t dead_bytes;
};

/* `platform`: of a cold start; a planned successor that wants another one is refused, and after a crash the
 * arena's goes on. Returns 0 or an error; a planned successor that cannot go on does not return. */
int core_prepare(struct core *c, struct boot *b, const struct arena_plan *plan, int store_dir,
                 const char *platform);
int core_take(struct core *c);

/* Why the arena did not qualify, in full. */
const char *core_reason(const struct core *c);

/* It began cold since too many engines had died. */
int core_was_loop(const struct core *c);

/* Warm, but what lies in the slots cannot be taken over: does not return. The program of before goes on, or,
 * after a crash and if the arena is to blame, the next successor starts cold. */
_Noreturn void core_give_way(struct core *c, int err, const char *why);

/* `tls`: what its connections are secured with. */
int core_attach(struct core *c, struct tls_provider tls);
void core_adopt(struct core *c);
void core_serve(struct core *c);

/* What is worth saving in the dead arena was saved. */
void core_bury(struct core *c);

/* A turn, with what is left of taking over: descriptors that belong to nobody, rings of the dead. */
void core_turn(struct core *c);

/* A new program, or the same: see boot.h. ERR_BUSY: one is being prepared. */
int core_reload(struct core *c, const char *binary, const char **why);

/* The engine bell has rung: lets go, or tells that the successor failed (returns the reason, else NULL if
 * nothing has changed). */
const char *core_bell(struct core *c);

#endif
