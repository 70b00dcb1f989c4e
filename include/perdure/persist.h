/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perdure/persist.h: state and connections that outlive the program.
 *
 * A program of this library runs as three processes. The one that was started (the anchor) only waits. An
 * engine runs the program; a keeper beside it shares its descriptors. When the engine lets go (an upgrade) or
 * dies (any signal, SIGKILL too), the keeper starts the next engine: it finds the same memory at the same
 * address, and the same sockets under the same numbers.
 *
 * Rules:
 *  1. Memory changes in turns. perdure_begin() opens one; before bytes of a block are changed, perdure_edit()
 *     names them; perdure_commit() makes all of it happen at once, perdure_undo() makes none of it happen, and
 *     so does a death. Bytes that were changed without perdure_edit() are not undone.
 *  2. A pointer into this memory stays right in all later programs. Nothing in it may point elsewhere: not to
 *     code, not to static or malloc()ed data. Structures in it are shared with the next program: say in
 *     data_version which they are.
 *  3. What is not preserved is closed when the next engine begins: every other descriptor above 2.
 *  4. One thread uses the library; the program keeps no other thread and no child that touches its sockets.
 *
 * Unless it says otherwise a function returns 0 or a count, or a negative errno value. Sizes are bytes, times
 * milliseconds. The library owns every pointer that it returns. See perdure-persist(3).
 */
#ifndef PERDURE_PERSIST_H
#define PERDURE_PERSIST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct perdure;

struct perdure_program {
    uint32_t struct_bytes; /* sizeof(struct perdure_program) */
    uint32_t data_version; /* of the structures that this program writes; above 0 */
    uint32_t data_oldest;  /* the oldest that it can read; 0: only its own */
    uint32_t handles_max;  /* descriptors preserved at a time; 0: 1,024; of a new arena */
    uint64_t heap_bytes;   /* of a new arena; 0: 16 MiB */
    uint64_t undo_bytes;   /* what one turn may edit, of a new arena; 0: 1 MiB */
    uint32_t
        probation_ms; /* a planned successor that dies by its own fault within this time is followed by
                              the program before it; 0: 10,000 */
    uint32_t hang_ms; /* an engine whose turn lasts longer is killed and followed; 0: never */
    /* The program, in the engine's process. Makes ready, calls perdure_serve(), serves. It returns the exit
     * status when the service is to end; before perdure_serve(), when it cannot begin. */
    int (*run)(struct perdure *p, int argc, char **argv);
};

/* First thing in main(); returns the exit status. argv[1] beginning with "--takeover=" is the library's own. */
int perdure_main(int argc, char **argv, const struct perdure_program *program);

/* What went before. */
enum perdure_start {
    PERDURE_COLD = 0,    /* the memory is new */
    PERDURE_PLANNED = 1, /* an engine let go */
    PERDURE_CRASH = 2,   /* an engine died; its turn was undone */
};
enum perdure_start perdure_started(const struct perdure *p);
uint32_t perdure_generation(const struct perdure *p); /* of this engine; the first is 1 */
/* Why the memory is new although there was an engine before, why a reload failed, or why an engine died;
 * never NULL. */
const char *perdure_reason(const struct perdure *p);
/* Preserved descriptors that could not be kept. */
uint32_t perdure_lost(const struct perdure *p);

/* From now on this engine serves; the one before is gone for good. */
int perdure_serve(struct perdure *p);
/* Before perdure_serve(): cannot take over. The engine that serves goes on, or the keeper tries again. */
void perdure_refuse(struct perdure *p, const char *why) __attribute__((noreturn));

/* ---- events ---- */

/* Readable when perdure_event() has something to do; for poll and epoll. Closed by the library. */
int perdure_fd(const struct perdure *p);
enum perdure_event {
    PERDURE_NOTHING = 0,
    PERDURE_STOP = 1,          /* SIGTERM or SIGINT: return from run() */
    PERDURE_HANGUP = 2,        /* SIGHUP: usually the wish for perdure_reload() */
    PERDURE_RELOAD_FAILED = 3, /* perdure_reason() says why; this engine serves on */
};
/* Not in a turn. When the next engine is ready it takes over here, and this call does not return. */
int perdure_event(struct perdure *p);
/* Starts the next engine from this file; NULL: from the same. Until it takes over or fails, nothing is accepted
 * or preserved. -EALREADY: under way; -ENOENT, -EACCES. */
int perdure_reload(struct perdure *p, const char *path);

/* ---- memory ---- */

void perdure_begin(struct perdure *p);  /* not in a turn */
void perdure_commit(struct perdure *p); /* in a turn */
void perdure_undo(struct perdure *p);   /* in a turn */
/* In a turn: a zeroed block, aligned to 16; it needs no perdure_edit() in this turn. NULL: no room. */
void *perdure_alloc(struct perdure *p, size_t bytes);
/* In a turn; NULL is nothing. -ENOSPC: more than undo_bytes in one turn. */
int perdure_free(struct perdure *p, void *block);
/* In a turn: these bytes of one block may be changed. Returns `at`; NULL: more than undo_bytes in one turn. */
void *perdure_edit(struct perdure *p, void *at, size_t bytes);
/* Places for pointers that the next program begins with; NULL at first. perdure_set_root: in a turn. */
#define PERDURE_ROOTS 16
void *perdure_root(const struct perdure *p, unsigned number);
int perdure_set_root(struct perdure *p, unsigned number, void *block);
/* Of what lies there. A program that has converted it says so in the same turn, and then its predecessor cannot
 * take over again unless it reads that. */
uint32_t perdure_data_version(const struct perdure *p);
int perdure_set_data_version(struct perdure *p, uint32_t version);

/* ---- descriptors ---- */

/* Preserves a socket (TCP, Unix, or another), a listener or a pipe's end, and makes it non-blocking. In a turn it
 * belongs to it, else it is one of its own. The handle names it in all later programs. Preserved already: the
 * same again. -ENOSPC: handles_max; -EAGAIN: a reload is under way. */
int perdure_preserve_socket(struct perdure *p, int fd);
int perdure_preserve_sockets(struct perdure *p, const int *fds, size_t count); /* all or none */
uint32_t perdure_socket_handle(const struct perdure *p, int fd); /* 0: not preserved */
/* The descriptor of a handle: the number that it always had (fd -1), or from now on this one, which takes the
 * place of whatever is open under it. -ESTALE: it is not preserved, or was lost. */
int perdure_reconnect_socket(struct perdure *p, uint32_t handle, int fd);
uint32_t perdure_next_handle(const struct perdure *p, uint32_t handle); /* 0: the first; 0 ends */
/* Accepts from a preserved listener; what it gives is preserved already (*handle), also if the engine dies while
 * it accepts. Not in a turn. Returns the descriptor; -EAGAIN: nobody waits, or a reload is under way. */
int perdure_accept(struct perdure *p, uint32_t listener, uint32_t *handle);
/* In a turn, or one of its own: ended and closed when the turn is committed, both directions, for everybody. */
int perdure_close(struct perdure *p, uint32_t handle);

/* ---- streams: each byte once ---- */

/* Gives a preserved connection or pipe an input and an output of so many bytes in the arena (0: none). In a turn, or
 * one of its own. From then on only these functions read or write the descriptor. */
int perdure_stream(struct perdure *p, uint32_t handle, size_t input_bytes, size_t output_bytes);
int perdure_is_stream(const struct perdure *p, uint32_t handle);
/* Not in a turn. Bytes that came; 0: the peer has ended; -EAGAIN; -ENOBUFS: the input is full; -EPIPE: failed. */
int64_t perdure_receive(struct perdure *p, uint32_t handle);
/* Copies bytes that were received and not taken, from the first on; how many there were for it. */
size_t perdure_peek(const struct perdure *p, uint32_t handle, void *out, size_t bytes);
/* In a turn: they are done with. -EINVAL: there are not so many. */
int perdure_take(struct perdure *p, uint32_t handle, size_t bytes);
/* In a turn: bytes to be sent once it is committed. All or -EAGAIN: the output has no room; see
 * perdure_output_room. */
int perdure_put(struct perdure *p, uint32_t handle, const void *from, size_t bytes);
size_t perdure_output_room(const struct perdure *p, uint32_t handle);
/* Not in a turn: 0: all that was committed is sent; -EAGAIN: wait until it is writable; -EPIPE: failed. */
int perdure_send(struct perdure *p, uint32_t handle);
/* Bytes of each direction since perdure_stream(), as the kernel has them. */
struct perdure_position {
    uint64_t received, taken, put, sent;
};
int perdure_position(const struct perdure *p, uint32_t handle, struct perdure_position *at);

#ifdef __cplusplus
}
#endif
#endif
