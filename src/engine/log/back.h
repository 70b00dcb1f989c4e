/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back through the frames that count, newest first: those in memory, which are not durable yet, then those of the
 * segments, from the one that holds what is asked for. Samples say where to begin there; a job goes back from frame to
 * frame, in a window of the file that is read at once, as each names its previous one: so it meets exactly the
 * frames that count, whatever lies between them. In the next older segment another job goes on.
 */
#ifndef ENGINE_LOG_BACK_H
#define ENGINE_LOG_BACK_H

#include "engine/log/frame_disk.h"
#include "engine/log/log_priv.h"

struct back {
    struct job job; /* first */
    struct log *l;
    /* Given: frames that begin beyond this sequence or store time are passed over. */
    int by_sequence;
    uint64_t value;
    /* The frame's records are walked as far as it is of use. In a job, or in memory: sees nothing else of the
     * arena. 0: go on; 1: enough; or an error. */
    int (*visit)(struct back *b, const struct frame_header *h, struct frame_walk *w);
    /* In a later turn: 0: enough; ERR_RANGE: that was the oldest; or an error. */
    void (*done)(struct back *b, int result);
    /* Its own. */
    struct file_system files;
    uint32_t segment, file, segment_bytes;
    uint32_t data_end;
    uint64_t first_sequence; /* of the segment */
    uint32_t start;          /* offset of a frame to begin at, 0: the footer's samples tell */
    int result;              /* ERR_AGAIN: go on in segment `before` */
    uint32_t before;
};

/* 1: enough was in memory; 0: done() will be called; ERR_RANGE: there is nothing as old; or an error. */
int back_begin(struct back *b);

static inline int back_is_beyond(const struct back *b, uint64_t sequence, uint64_t time_ns) {
    return b->by_sequence ? sequence > b->value : time_ns > b->value;
}

#endif
