/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request path from inside.
 *
 *   engine.c    requests in and out; what waits, and for what
 *   reader.c    blocks of a timeline into pages
 *   read.c      READ, CACHE
 *   ahead.c     what is read in order comes into the machine's cache before it is asked for
 *   write.c     WRITE, TRIM, ZERO: into the log, whole and in order
 *   same.c      writes of what is there already
 *   order.c     overlapping writes in order
 *   status.c    BLOCK_STATUS
 *   sampler.c   what was read lately, what compresses: for the activity of volumes
 *   changes.c   what has changed between two moments
 *
 * A request's context (struct work) is in one place at a time:
 *
 *   arrivals   not begun: the volume is HELD, or older ones have not been taken up after an attach
 *   room       READ and CACHE: no pages, or no place in a table
 *   order      waits for earlier writes that overlap
 *   reader     its old blocks are being read
 *   log        ready to be recorded, in this order
 *   durable    recorded: APPLIED, or a flush
 */
#ifndef ENGINE_ENGINE_PRIV_H
#define ENGINE_ENGINE_PRIV_H

#include "engine/activity.h"
#include "engine/engine.h"
#include "engine/order.h"
#include "engine/sampler.h"
#include "plat/io_router.h"

#define READER_READS_MAX 32u /* disk reads of one reader under way */
#define READER_RUN_BLOCKS_MAX 256u
#define ENGINE_READS_MAX 512u            /* of all */
#define ENGINE_STEPS_PER_TURN 64u        /* records of long writes, at most 1 MiB each */
#define ENGINE_CACHE_BYTES_MAX (4 * MIB) /* read ahead for one CACHE */
#define ENGINE_STREAMS 32u               /* places up to where something is read in order */
#define ENGINE_ADVICES_MAX 16u           /* look-ups for them under way */
#define ENGINE_ROOM_RETRY_NS NS_PER_MS

struct engine_run;

enum block_state {
    BLOCK_WANTED = 0, /* its place is to be asked for */
    BLOCK_ASKED = 1,
    BLOCK_PLACED = 2, /* to be read from disk */
    BLOCK_READING = 3,
    BLOCK_READ = 4, /* in its page */
};
#define BLOCK_AGAIN 0x80u /* its checksum did not match once */

/* Blocks first_block .. of a timeline as of a sequence, into the pages of the extents in order. */
struct reader {
    struct engine_run *e;
    const struct ancestry *view;
    uint64_t limit;
    uint64_t first_block;
    uint32_t blocks;
    struct extent pages[REQUEST_EXTENTS];
    uint32_t extents;
    void (*done)(struct reader *r,
                 int err); /* not if reader_start returns another than ERR_AGAIN */
    void *owner;
    /* private */
    uint32_t left;   /* blocks not READ */
    uint32_t wanted; /* blocks WANTED */
    uint32_t placed; /* blocks PLACED */
    uint32_t asked;  /* look-ups under way */
    uint32_t reads;  /* disk reads under way */
    int error;
    int starting; /* within reader_start */
    int waits;    /* in the engine's list of readers that wait for room */
    struct reader *next;
    struct block_place *places;
    uint8_t *states;
    struct block_place few_places[8];
    uint8_t few_states[8];
};

struct stream_ahead {
    uint32_t timeline; /* 0: none */
    uint64_t next;     /* block behind what was read */
    uint64_t until;    /* block behind what is advised */
    uint64_t in_order; /* blocks read so far */
    uint64_t used;
};

/* A look-up of a reader, of a block status, or ahead of both. */
struct lookup {
    struct index_find f;
    struct engine_run *engine;
    struct reader *reader;
    struct work *work;
    struct engine_changes *changes;
    /* Of a block status: what has been found of its chunk. */
    int has_places, has_versions;
    struct block_place places[CHUNK_BLOCKS];
    uint64_t versions[CHUNK_BLOCKS];
    struct lookup *next, *all_next;
};

/* A disk read under way. */
struct block_read {
    struct reader *reader; /* NULL: not in use */
    uint32_t serial;
    uint32_t first, count; /* blocks of the reader */
    uint32_t segment;
};

/* A place in the order of writes; it outlives its request until the records are applied. */
struct change {
    struct order_node node; /* first */
    struct work *work;
    uint64_t sequence;
    struct change *next;
};

struct work;
struct work_list {
    struct work *first, **end;
};

struct work {
    struct request_h h;
    struct engine_run *e;
    struct work *next;
    struct work *all_next, **all_at;
    uint64_t arrival;
    uint32_t volume; /* handle */
    int begun;
    int replayed;      /* to be flagged so */
    uint64_t sequence; /* durable: waits for this one */
    const struct ancestry *view;
    /* WRITE, TRIM, ZERO */
    struct change *change;
    uint64_t size_bytes; /* of the volume when it began */
    uint32_t readers_left;
    int error;
    struct extent edge[2]; /* pages for the old first and last block */
    uint32_t last_edge;    /* which of them is the last block */
    int same;              /* it has been compared: it changes nothing */
    int has_crc;           /* of its first block, which is whole */
    uint32_t crc;
    /* BLOCK_STATUS */
    uint64_t at;
    uint32_t chunks;
    uint32_t extents;                      /* room in a section */
    uint32_t counts[REQUEST_STATUS_KINDS]; /* of extents, by section */
    struct reader readers[2]; /* READ, CACHE: the first; WRITE, ZERO: of first and last block */
};

struct engine_run {
    struct engine_parts p;
    struct arena *a;
    struct log *log;
    struct index *index;
    struct order order;
    struct work *idle, *all;
    struct lookup *idle_lookups, *lookups;
    struct work_list arrivals, room, ready, log_queue, durable, status;
    struct change *applied, **applied_end; /* recorded, in order; applied after the commit */
    struct change *idle_changes;
    struct reader *readers_waiting, **readers_waiting_end;
    struct block_read reads[ENGINE_READS_MAX];
    uint32_t read_free[ENGINE_READS_MAX], read_free_count;
    uint32_t serial;
    struct stream_ahead streams[ENGINE_STREAMS];
    uint64_t streams_used;
    uint32_t advices; /* look-ups ahead under way */
    struct engine_changes *changes;
    uint64_t advised_pieces;
    uint32_t *begun;         /* by volume slot: requests begun and not DONE */
    struct request_h partly; /* recorded in part: no other may be recorded */
    int chain_open;          /* the newest record says that more follows */
    uint64_t whole;          /* if so: the newest before that request */
    int recording;
    uint32_t records_left; /* in this turn */
    int taking_up; /* requests of before the attach are in arrivals: new ones go behind them */
    int again;     /* work was left for want of undo room */
    struct sampler *sampler;
    struct engine_counts n;
};

static inline void work_push(struct work_list *l, struct work *w) {
    w->next = NULL;
    *l->end = w;
    l->end = &w->next;
}
static inline struct work *work_pop(struct work_list *l) {
    struct work *w = l->first;
    l->first = w->next;
    if (!l->first)
        l->end = &l->first;
    return w;
}
static inline int engine_undo_is_short(const struct engine_run *e) {
    return arena_undo_left(e->a) < ARENA_HANDLER_UNDO_BYTES;
}

/* engine.c */
struct change *engine_change_new(struct engine_run *e);
void engine_change_free(struct engine_run *e, struct change *c);
struct lookup *engine_lookup_new(struct engine_run *e);
void engine_lookup_free(struct engine_run *e, struct lookup *q);
/* The request is DONE; the context is gone. READ: the caller has put the data into the slot. */
void engine_finish(struct work *w, int err);
/* The request waits until its sequence is durable. */
void engine_await_durable(struct work *w, uint64_t sequence);
void engine_alert_block(struct engine_run *e, uint64_t block, int err);

/* reader.c. The caller has set the fields up to owner. 0: all is read; ERR_AGAIN: done() will be
 * called; else as done: ERR_IO, ERR_INTEGRITY, ERR_NOMEM. Pages and view stay the caller's. */
int reader_start(struct reader *r);
void reader_retry(struct engine_run *e); /* those that wait for room */
void reader_release(struct reader *r);   /* the private memory of one that was stopped */
int reader_block_read(void *ctx, struct io_h h, const struct io *io, int32_t result);

/* ahead.c: blocks of a timeline of `end` blocks are read. */
void ahead_note(struct engine_run *e, const struct ancestry *view, uint64_t first, uint32_t blocks,
                uint64_t end);

/* changes.c */
void changes_go_on(struct engine_run *e);
int changes_want_turn(const struct engine_run *e); /* 1: there is more to do at once */

/* read.c */
void read_begin(struct work *w);
/* write.c */
void write_begin(struct work *w);
void write_go_on(struct work *w);     /* its turn in the order has come */
void write_ready(struct work *w);     /* it may be recorded */
void write_log(struct engine_run *e); /* records what is ready, as far as the log takes it */
/* same.c: whether a request is a write of what is there, as far as checksums tell; 1: that is being read,
 * write_ready() will follow; 0: it may be recorded. */
int same_seems(struct work *w, const struct request *q);
int same_compare(struct work *w);
/* status.c */
void status_begin(struct work *w);
void status_go_on(struct work *w);

#endif
