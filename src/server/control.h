/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: JSON lines on a Unix socket (ctl/proto.h), answered by a table of handlers. Its
 * connections are not preserved; a reload closes them. Answers may come later, to a reply address that
 * outlives its connection harmlessly.
 */
#ifndef SERVER_CONTROL_H
#define SERVER_CONTROL_H

#include "ctl/proto.h"
#include "server/reactor.h"

#define CONTROL_CONNS 64u
#define CONTROL_OUT_MAX (8u * 1024 * 1024)

struct control_conn {
    int fd; /* -1: free */
    uint32_t serial;
    char *in; /* CTL_LINE_MAX bytes */
    size_t in_bytes;
    char *out;
    size_t out_bytes, out_sent;
    int ending;
};

struct control {
    struct reactor *r;
    int listener;
    char path[STREAM_ADDRESS_BYTES];
    const struct ctl_handler *handlers;
    uint32_t handler_count;
    void *handlers_ctx;
    const struct moment_zone *zone;
    uint32_t serials;
    uint64_t accept_again_ns; /* not watched until then; 0: watched */
    uint64_t current;         /* reply address of the request in hand */
    struct control_conn conns[CONTROL_CONNS];
};

int control_open(struct control *c, struct reactor *r, const char *path);
void control_event(struct control *c, uint32_t kind, uint32_t handle);

/* Once a turn, one of them when accept_again_ns has come. */
void control_turn(struct control *c, uint64_t now_ns);

/* Answers a request; the line is freed. NULL (no memory) closes the connection. */
void control_reply(struct control *c, uint64_t address, char *line);

/* Before a reload: what is answered leaves, all connections end. */
void control_close(struct control *c);

#endif
