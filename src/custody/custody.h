/* SPDX-License-Identifier: Apache-2.0 */
/*
 * custody: who holds the descriptors while the engine is replaced (design/arena.md): anchor, keeper, and the way
 * from main() to an engine. May use base and the operating system; knows nothing of what the engine does. The
 * server and the library of persist/ stand on it.
 *
 *   anchor    the process that was started; waits, forwards signals, is never replaced; holds this page and
 *             the arena, and nothing else
 *   keeper    parent of the engine; shares its descriptor table (CLONE_FILES), so it holds whatever the
 *             engine opens, the moment it opens it; waits for its death; starts the successor
 *   engine    everything else; may die at any instruction
 *
 * A successor is the keeper's child: it inherits a copy of the table under the same numbers, execs the new
 * code, and becomes keeper and engine of its own by one more clone. The former keeper leaves when the new
 * engine serves.
 *
 *   planned   engine rings; keeper starts successor; it qualifies the arena, waits at the gate; the engine
 *             finishes its turn, opens the gate, exits; the successor attaches
 *   crash     keeper sees the engine's death; starts the successor, which attaches
 *   hang      keeper sees that a turn does not end (watch.h); kills the engine; goes on as after a crash
 *
 *   keeper dies   the engine sees it, goes on serving, and makes a new one of itself by one clone
 *   both at once  the anchor begins again: sockets and disk queues are gone, so the new engine starts cold, and
 *                 saves what was answered from the arena that the anchor holds
 *
 * This page is shared by all of them, frozen like the arena's header, and all that the keeper reads.
 */
#ifndef CUSTODY_CUSTODY_H
#define CUSTODY_CUSTODY_H

#include <stdatomic.h>
#include <stdint.h>

#define CUSTODY_MAGIC UINT64_C(0x7964757473756350) /* "Pcustudy" */
#define CUSTODY_VERSION 1u
#define CUSTODY_BYTES 4096u
#define CUSTODY_CONFIG_BYTES 3072u
#define CUSTODY_FAULTS 32u

enum custody_state {
    CUSTODY_STARTING = 0,
    CUSTODY_SERVING = 1,
    CUSTODY_STOPPED = 2, /* the engine stopped in order: nobody succeeds it */
    CUSTODY_FAILED = 3,  /* the engine could not start: nobody succeeds it */
};

enum custody_gate {
    CUSTODY_GATE_SHUT = 0,
    CUSTODY_GATE_PLANNED = 1,     /* the engine has let go */
    CUSTODY_GATE_CRASH = 2,       /* the engine died meanwhile */
    CUSTODY_GATE_TURNED_AWAY = 3, /* the engine serves on: the successor leaves */
};

enum custody_prepare {
    CUSTODY_PREPARE_NONE = 0,
    CUSTODY_PREPARE_WANTED = 1,  /* engine -> keeper */
    CUSTODY_PREPARE_STARTED = 2, /* keeper: the successor runs */
    CUSTODY_PREPARE_READY = 3,   /* successor: waits at the gate */
    CUSTODY_PREPARE_FAILED = 4,  /* keeper: it died or did not qualify; see reason */
};

enum custody_death {
    CUSTODY_DEATH_NONE = 0,
    CUSTODY_DEATH_SIGNAL = 1,   /* by a signal, not SIGKILL */
    CUSTODY_DEATH_EXIT = 2,     /* ended by itself */
    CUSTODY_DEATH_OUTSIDE = 3,  /* SIGKILL: by a person, or as memory was short */
    CUSTODY_DEATH_HUNG = 4,     /* a turn did not end: killed by its keeper */
    CUSTODY_DEATH_UNKNOWN = 5,  /* nobody saw how */
    CUSTODY_DEATH_TOGETHER = 6, /* and its keeper with it */
};

struct custody {
    uint64_t magic;
    uint32_t version;
    uint32_t machine; /* that the arena lies on: its number, machine.h */
    _Atomic uint32_t state;
    _Atomic uint32_t gate;        /* futex */
    _Atomic uint32_t prepare;     /* rung on engine_bell when READY or FAILED */
    _Atomic uint32_t generations; /* successors ever begun */
    _Atomic uint32_t serving;     /* generation of the engine that serves or last served */
    _Atomic uint32_t failures;    /* successors in a row that never served */
    _Atomic int32_t engine_pid;
    _Atomic int32_t keeper_pid;
    _Atomic int32_t arena_fd;
    _Atomic int32_t lock_fd;            /* of the store */
    _Atomic int32_t keeper_bell;        /* eventfd of the keeper of `serving` */
    _Atomic int32_t engine_bell;        /* eventfd of the engine of `serving` */
    _Atomic int32_t binary_fd;          /* program of the engine of `serving` */
    _Atomic int32_t previous_binary_fd; /* of the one before, -1: none */
    _Atomic int32_t next_binary_fd;     /* for the successor wanted, -1: the same */
    _Atomic uint32_t next_seal;
    _Atomic uint32_t death_signal;       /* of the last engine that died unasked: signal, or 0 */
    _Atomic uint32_t death_status;       /* its exit status */
    _Atomic uint32_t deaths;             /* unasked, since start */
    _Atomic uint64_t probation_until_ns; /* until then a death brings the previous program back */
    _Atomic uint64_t let_go_ns;          /* monotonic: the engine opened the gate */
    _Atomic uint64_t death_ns;           /* monotonic: the keeper saw the death */
    _Atomic uint64_t serving_ns;         /* monotonic: the engine began to serve */
    char reason[512];                    /* why the last successor failed, or began cold */
    /* What the engine of `serving` was configured with: the successor of one that died takes this, whatever
     * has become of the file. Format 0: none. */
    uint32_t config_format;
    uint32_t config_bytes;
    uint8_t config[CUSTODY_CONFIG_BYTES];
    _Atomic uint32_t death;     /* enum custody_death: of the last engine that died unasked */
    _Atomic uint32_t hang_ms;   /* engine: a turn that is longer is a hang; 0: none is */
    _Atomic uint64_t beat;      /* engine: odd in a turn, even while it waits; only rises */
    _Atomic uint32_t attaching; /* generation of a successor that attaches warm, or has done so */
    _Atomic int32_t reaped_pid; /* anchor: the engine whose keeper was not its parent, */
    _Atomic int32_t reaped_status; /* and how it ended, as waitpid tells it */
    /* Monotonic times of the last deaths by own fault, newest first; 0: there was none. */
    _Atomic uint64_t fault_ns[CUSTODY_FAULTS];
    _Atomic int32_t
        successor_pid; /* its keeper, which is planned and has not served; 0: none is known */
    _Atomic int32_t anchor_fd; /* its process, inherited by all */
    _Atomic uint32_t arenas;   /* engine: arenas that have served: the anchor is to hold the last */
    _Atomic uint32_t orphaned; /* anchor: engine and keeper are dead, and so is what they held */
    _Atomic int32_t
        oom_score_adj; /* of engines; anchor and keepers have the lowest that is allowed */
};
_Static_assert(sizeof(struct custody) <= CUSTODY_BYTES, "one page");

/* Whether the engine that died last has itself, its program or the arena to blame. */
static inline int custody_own_fault(const struct custody *c) {
    return atomic_load(&c->death) != CUSTODY_DEATH_OUTSIDE &&
           atomic_load(&c->death) != CUSTODY_DEATH_TOGETHER;
}

#endif
