/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index's private memory: the list of runs, the cache of their directories and leaves, reads
 * and look-ups under way. All of it is derived; an attach begins with none of it.
 */
#ifndef ENGINE_INDEX_INDEX_PRIV_H
#define ENGINE_INDEX_INDEX_PRIV_H

#include "engine/index.h"
#include "engine/index/block_table.h"
#include "engine/index/memtable.h"
#include "engine/index/merge_job.h"
#include "engine/index/run.h"
#include "engine/index/run_build.h"

#define INDEX_MEMTABLES_MAX 16u
#define INDEX_FETCHES_MAX 64u
#define INDEX_FETCH_BYTES_MAX (64u << 20)
#define INDEX_MERGED_MAX 256u
#define INDEX_FAN_IN 8u

struct index_merged;

/* A run as it lies in a file: that of a segment, or a piece of a merged one. */
struct index_piece {
    uint64_t identity;
    uint64_t
        cached_as; /* another for each that is made known, though it may have the identity of one before */
    uint64_t offset_bytes, size_bytes;
    uint32_t directory_bytes; /* how many its directory needs; 0: not known yet */
    uint32_t segment;
    struct index_merged *merged; /* NULL: the segment's */
};

/* The run of one sealed segment. While a merged run covers it, look-ups go there. */
struct index_run {
    struct index_piece piece; /* first */
    uint64_t first_sequence, last_sequence;
    struct index_merged *covered_by;
    int is_final; /* it does not check, or cannot be read, or says too much: never merged */
};

/* A merged run in its file. */
struct index_merged {
    struct merged_table t;
    struct index_piece *pieces;
    char path[MERGE_PATH_BYTES];
    uint32_t number; /* in index.merged, and of its device */
    int32_t device;  /* the router's + 1; 0: not open */
    uint32_t pins;   /* reads under way, and a merge */
    uint32_t covers; /* runs */
    int is_leaving;  /* nobody begins with it any more */
    int is_final;    /* with others it says too much: not merged further */
};

/* What is kept of runs, last used first: leaves and directories. */
#define ITEM_DIRECTORY UINT32_MAX
struct cache_item {
    uint64_t run;  /* index_piece.cached_as */
    uint32_t leaf; /* or ITEM_DIRECTORY */
    uint64_t size_bytes;
    struct cache_item *hash_next;
    struct cache_item *newer, *older;
    struct run_directory directory;
    uint8_t *page;
};

struct index_cache {
    struct cache_item **buckets;
    uint32_t bucket_count; /* power of two */
    struct cache_item *newest, *oldest;
    uint64_t bytes, limit_bytes;
    uint64_t runs; /* the last one that was named */
};

/* A read of a directory or leaf under way, and the look-ups that wait for it. */
struct index_fetch {
    int used;
    uint32_t serial; /* with the place in the array: the owner of the disk operation */
    uint64_t identity;
    uint32_t segment;            /* pinned, if it is the segment's run */
    uint64_t first_sequence;     /* of that */
    struct index_merged *merged; /* pinned, if it is a piece of one */
    uint32_t leaf;
    uint64_t offset_bytes;
    uint32_t length_bytes;
    struct index_search *waiting;
};

/* One look-up that could not be answered from the block table. */
struct index_search {
    struct index_find *f;
    uint64_t unknown; /* blocks of f->want that the block table did not know */
    struct table_pin pin;
    uint64_t whole_limit; /* of the look-up */
    uint64_t moves; /* index.moves when it began: places found before are not believed after */
    /* The task in hand: these blocks, as the view sees them up to the limit. The first is the
     * look-up itself; each reference found makes another, with a smaller limit. */
    const struct ancestry *view;
    int view_is_taken;
    uint64_t limit;
    uint64_t missing;
    uint64_t cursor;     /* levels that begin at or beyond this have been searched */
    uint64_t references; /* blocks found to be references, not resolved yet */
    uint32_t ref_timeline[CHUNK_BLOCKS];
    uint64_t ref_sequence[CHUNK_BLOCKS];
    /* The level in hand, its run or merged run (identity 0: none), the piece of that and whether it is
     * begun. */
    uint64_t run;
    uint32_t piece;
    int piece_is_begun;
    uint32_t leaf, leaf_end;
    struct level_result level;
    struct index_search *next;
};

/* The run of a segment in the making. */
struct run_job {
    struct job job; /* first */
    struct index *x;
    struct segment_h segment;
    uint32_t number;
    struct memtable_entry *entries;
    uint32_t entry_count;
    uint32_t *checks;
    uint8_t *bytes;
    size_t length_bytes;
    int result;
    struct run_job *next;
};

struct index {
    struct index_parts parts;
    struct arena *a;
    struct log *log;
    struct block_table table;
    uint64_t applied;       /* newest applied sequence */
    int dirty;              /* entries were written since the last apply */
    int moving;             /* versions got other places in this turn: look-ups wait */
    uint64_t moves;         /* versions that have got other places */
    struct index_run *runs; /* ascending sequences */
    uint32_t run_count, run_room;
    uint32_t *live; /* segments that are live, open addressing; 0: free */
    uint32_t live_count, live_room;
    struct index_cache cache;
    struct index_fetch fetches[INDEX_FETCHES_MAX];
    uint32_t fetch_serial;
    struct index_search *retry, **retry_end; /* wait for room, in order */
    struct index_search *idle;
    struct run_job *jobs;
    struct index_merged *merged[INDEX_MERGED_MAX];
    struct merging *merging; /* the merge or other work on merged runs under way */
    int merged_are_known;    /* those in the store have been read; until then look-ups wait */
    int merges_wait;         /* until the next segment is sealed: nothing to do, or it failed */
    struct segment_h unsealed[INDEX_MEMTABLES_MAX]; /* whose run is asked for and not begun */
    uint32_t unsealed_count;
    struct index_counts n;
};

/* index.c: memtables in use, oldest first; returns their number. */
uint32_t index_memtables(const struct index *x, struct memtable_h out[INDEX_MEMTABLES_MAX]);
struct memtable_h index_memtable_of(const struct index *x, uint32_t segment);
int index_add_run(struct index *x, const struct segment *s);

/* seal.c: notes that a run is wanted; makes the runs that can be made. */
void index_want_run(struct index *x, struct segment_h segment);
/* At a cold start: makes it and gives it to the log, unless that is not possible. */
void index_make_run_now(struct index *x, struct segment_h segment);
void index_make_runs(struct index *x);
void index_close_jobs(struct index *x);

/* The youngest run that begins before `cursor`, or NULL. It may be covered. */
struct index_run *index_run_before(struct index *x, uint64_t cursor);
/* That of a segment, or NULL. */
struct index_run *index_run_of(struct index *x, uint32_t segment);

/* merge.c: merged runs. In each turn: begins what is to be done. */
void index_merge(struct index *x);
void index_close_merged(struct index *x);
/* A piece of it did not check: the runs of the segments are asked again. */
void index_distrust(struct index *x, struct index_merged *m);
/* A segment whose run it covers is gone. */
void index_segment_gone(struct index *x, struct index_merged *m);
void index_merged_unpin(struct index_merged *m);
/* Where the oldest memtable begins that has versions; UINT64_MAX: none has. */
uint64_t index_first_unsealed(const struct index *x);
/* For struct log_index_ops; and the number for io.device. */
int index_device(void *ctx, uint32_t device);
uint32_t index_merged_device(const struct index_merged *m);

/* cache.c */
int index_cache_open(struct index_cache *c, uint64_t limit_bytes);
void index_cache_close(struct index_cache *c);
/* A name for a run. What is kept of one that has gone is not asked for any more, and makes room as the last. */
uint64_t index_cache_name(struct index_cache *c);
struct cache_item *index_cache_find(struct index_cache *c, uint64_t run, uint32_t leaf);
/* Take over `bytes`; return the item, or NULL and *err. It stays until the next call. */
struct cache_item *index_cache_put_leaf(struct index_cache *c, const struct index_piece *piece,
                                        uint32_t leaf, uint8_t *page, int *err);
struct cache_item *index_cache_put_directory(struct index_cache *c, const struct index_piece *piece,
                                             uint8_t *bytes, uint64_t len, int *err);

/* fetch.c: what a look-up needs of a run. Returns the item; or NULL and *err: ERR_AGAIN, the search
 * waits (for the read or for room), ERR_IO, ERR_INTEGRITY. Without a search: ask again in a later turn. */
struct cache_item *index_fetch(struct index *x, struct index_piece *piece, uint32_t leaf,
                               struct index_search *s, int *err);
int index_fetch_done(void *ctx, struct io_h h, const struct io *io, int32_t result);

/* find.c: goes on with a search that waited, and tells its owner when it has ended. */
void index_search_resume(struct index *x, struct index_search *s, int err);

#endif
