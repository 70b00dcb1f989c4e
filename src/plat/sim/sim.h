/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim: a machine made from a seed, behind the interfaces of plat: a clock, random bytes, a store
 * directory whose disk loses and tears what was not synced, an I/O router over the same files, a
 * job runner, and byte streams to clients that the test plays. Nothing happens but by a call of the
 * test; the same seed and the same calls give the same trace.
 *
 * May use base and the headers of plat. It does not simulate packets, nor more than one process at
 * a time: the process that uses the interfaces ends by sim_kill() or sim_power_cut(), and the next
 * one asks for its interfaces anew. The world lives on.
 *
 * Fault model
 *
 *  1. A write that was not synced is kept as a pending piece per 4 KiB page, at a granularity of
 *     512-byte sectors. Reads see it at once, whatever becomes of it.
 *  2. A power cut decides over each pending write by itself: kept, dropped, or torn (any subset of
 *     its sectors). Where kept writes overlap, any of them may be the last: order is no help.
 *  3. sync() makes durable what was written to the file, and its size, but not its name. A write
 *     with IO_DURABLE makes durable its own sectors (and the size, if it reaches beyond it) when,
 *     and only when, it completes. Nothing else does; in particular no later sync covers a write
 *     that was still in flight.
 *  4. A write in flight at the cut may be there in part: any subset of its sectors.
 *  5. Create, rename, remove and make_dir are pending until sync_dir() of the directory (of either
 *     one for a rename). A cut keeps or drops them independently, but never an operation whose
 *     predecessor on the same name was dropped; each is whole: a rename never loses the file.
 *     A directory whose own name is lost takes all below it along.
 *  6. Truncate and allocate are pending until sync() of the file; each is kept or dropped whole.
 *     A dropped truncate brings the old bytes back. The size that a write gave the file may stay
 *     without its data, which then reads as zeroes.
 *  7. A failed sync loses its grip, as on Linux: pending writes are decided as by a cut, reads
 * still see them, and a later sync that succeeds says nothing about them.
 *  8. A page holds at most SIM_PIECES_MAX pending pieces, and a store SIM_NAMES_PENDING_MAX pending
 *     names; beyond that the oldest is settled early, as a machine may at any time.
 *  9. A kill loses nothing that was written, and closes everything. Each operation handed over to
 *     the router and not completed is completed at once, completed later, or cancelled, whether or
 *     not a successor adopts the queue. A write that was cancelled may have been done, but for what
 *     makes it durable.
 * 10. A write's buffers are not changed between submit and completion: a bug, found by must().
 *
 * Network model (streams)
 *
 *  1. A connection is two pipes. What one end sends lies in its send buffer until it arrives, in
 *     seeded parts after seeded delays, in the other's receive buffer; both are bounded, so a
 *     receiver that does not receive holds up the sender. Nothing is lost or reordered within one.
 *  2. A send or receive of what is possible does a seeded part of it. An end of stream arrives
 *     after all bytes, with the last of them or later.
 *  3. A reset overtakes: bytes on their way are lost, and those that have arrived are lost or not.
 *     It comes when a client resets, when an end closes with unread bytes before it, or when bytes
 *     arrive at an end that is closed.
 *  4. A connection comes into its listener's backlog after a delay; the client may send at once.
 *     When a listener is closed, its backlog is reset.
 *  5. Connections over Unix addresses have no positions; all else is as with TCP.
 *  6. A kill leaves preserved descriptors as they are, with their numbers, positions and
 *     registrations, and those that wait in backlogs; the others are closed. A power cut resets all.
 *  7. A wait takes a microsecond. Then it looks at the streams, advances the clock to the next
 *     event, and so on. It returns 0 when an operation or a job has ended, too, and, whatever the
 *     time-out, when nothing is under way.
 *
 * Beyond this come the faults that a test asks for (struct sim_fault).
 */
#ifndef PLAT_SIM_SIM_H
#define PLAT_SIM_SIM_H

#include <stdint.h>

#include "plat/clock.h"
#include "plat/file.h"
#include "plat/io_router.h"
#include "plat/job.h"
#include "plat/random.h"
#include "plat/stream.h"

#define SIM_PIECES_MAX 16
#define SIM_NAMES_PENDING_MAX 256
#define SIM_PATH_MAX 128 /* bytes of a path with its zero */

struct sim;

struct sim_options {
    uint64_t seed;
    uint64_t disk_bytes;             /* 0: 1 TiB */
    uint64_t io_min_ns, io_max_ns;   /* time that an operation takes; max 0: 20 us to 2 ms */
    uint64_t orphan_max_ns;          /* how late after a kill; 0: 60 ms */
    uint64_t job_max_ns;             /* time until a job has run; 0: 5 ms */
    uint32_t queue_depth;            /* 0: 128 */
    uint64_t net_min_ns, net_max_ns; /* delay of streams; max 0: 10 us to 1 ms */
    uint32_t stream_send_bytes, stream_receive_bytes; /* buffers of each end; 0: 16 KiB */
    uint32_t no_positions; /* 1: as posix/: no IO_CAP_POSITIONS, and streams without capabilities */
};

struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);

/* Hash over all that has happened: equal traces mean equal runs. */
uint64_t sim_trace(const struct sim *sim);

/* Interfaces of the process that runs now. */
struct clock sim_clock(struct sim *sim);
struct random_source sim_random(struct sim *sim);
struct file_system sim_files(struct sim *sim);
struct io_router sim_router(struct sim *sim);
struct job_runner sim_jobs(struct sim *sim);
struct streams sim_streams(struct sim *sim);

/* The first descriptor of a listener or stream after fd (begin with -1), or -1: a successor finds
 * what nobody recorded. */
int sim_stream_next(const struct sim *sim, int fd);

/* Clients, the other ends of streams, played by the test; by number, never blocking, and outliving
 * every process. Results and errors are those of plat/stream.h. */
/* `address`: what listen wrote to `bound`. ERR_CLOSED: nobody listens; ERR_AGAIN: the backlog is
 * full; ERR_NOMEM. */
int sim_connect(struct sim *sim, const char *address);
int64_t sim_client_send(struct sim *sim, int client, const void *from, size_t bytes);
int64_t sim_client_receive(struct sim *sim, int client, void *to, size_t bytes);
uint32_t sim_client_ready(struct sim *sim, int client); /* stream_event_flag */
void sim_client_end(struct sim *sim, int client);       /* its sending */
/* These make the number void. */
void sim_client_reset(struct sim *sim, int client);
void sim_client_close(struct sim *sim, int client);

/* Lets the next thing happen (an operation completes, a job runs), at its time; 0 if there is none.
 * Never call one of these from within a job. */
int sim_step(struct sim *sim);
/* All that is due within ns, then the clock stands ns later. Returns the number of events. */
int sim_advance(struct sim *sim, uint64_t ns);
/* Steps until nothing is under way; returns the number of events. */
int sim_settle(struct sim *sim);
/* The wall clock alone. */
void sim_wall_jump(struct sim *sim, int64_t ns);

/* The process dies; the machine goes on. Waiting jobs never run. */
void sim_kill(struct sim *sim);
/* The machine dies and starts again: what survives is rules 2 to 6; the monotonic clock begins
 * anew. */
void sim_power_cut(struct sim *sim);
/* The router's queue of the process that runs now; 1 for the first process, and so on. */
uint32_t sim_queue_number(const struct sim *sim);
/* After a kill: the operations that a dead process had handed over in that queue, and completions
 * that were not retired, come out of this process's router, marked adopted. *taken_before: the
 * operations at positions before it were handed over, those from it on never happen. Returns the
 * number of operations; ERR_UNSUPPORTED without IO_CAP_POSITIONS, ERR_NOTFOUND: no such queue. The
 * memory that they read into or write from must be where it was. */
int sim_adopt(struct sim *sim, uint32_t queue_number, uint32_t *taken_before);

/* After n more operations of the process, or events, the process stands still: operations on files
 * fail with ERR_IO, those on streams say ERR_AGAIN, and nothing changes, so that a kill or cut can be placed inside a job or a transaction.
 * Call sim_kill or sim_power_cut then. 0 switches it off. */
void sim_stop_after(struct sim *sim, uint64_t n);
int sim_stopped(const struct sim *sim);

enum sim_fault_kind {
    SIM_WRITE_FAILS = 1,   /* with err; any subset of its sectors may be written, not synced */
    SIM_WRITE_SHORT,       /* router: a seeded part, then success; file.h: the part, then ERR_IO */
    SIM_WRITE_LOST,        /* says done, and does nothing */
    SIM_WRITE_MISDIRECTED, /* says done, and is shift_bytes away from its place */
    SIM_READ_FAILS,        /* with err */
    SIM_READ_FLIPS,        /* one seeded bit within [offset, offset + bytes) is wrong, this time */
    SIM_SYNC_FAILS,        /* with err; rule 7 */
    SIM_LOOK_FAILS,        /* list (of the path), space (of any): with err */
    SIM_NAME_FAILS,        /* open, rename, remove, make_dir, allocate, truncate: with err */
};

struct sim_fault {
    const char *path; /* the file's newest name; NULL: any file */
    enum sim_fault_kind kind;
    int err;                      /* 0: ERR_IO */
    uint64_t offset_bytes, bytes; /* hits what touches this range; bytes 0: the whole file */
    uint32_t skip;                /* lets so many pass first */
    uint32_t count;               /* then hits so many; 0: all */
    int64_t shift_bytes;
};
/* At most 16 at a time; path is copied. The one added first wins. */
void sim_fault_add(struct sim *sim, const struct sim_fault *fault);
void sim_fault_clear(struct sim *sim);
/* How often faults have hit. */
uint64_t sim_fault_hits(const struct sim *sim);

/* Changes a byte on the disk and in every cache. Returns 0 or ERR_NOTFOUND, ERR_RANGE. */
int sim_corrupt(struct sim *sim, const char *path, uint64_t offset_bytes, uint8_t xor);

/* What is written already stays, whatever the new limit. */
void sim_disk_limit(struct sim *sim, uint64_t disk_bytes);

#endif
