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
#include "engine/index/run.h"
#include "engine/index/run_build.h"

#define INDEX_MEMTABLES_MAX 16u
#define INDEX_FETCHES_MAX 64u
#define INDEX_FETCH_BYTES_MAX (64u << 20)

/* The run of one sealed segment. */
struct index_run {
    uint32_t segment;
    uint64_t identity;
    uint64_t first_sequence, last_sequence;
    uint64_t offset_bytes, size_bytes; /* in the segment's file */
    uint32_t directory_bytes;          /* how many its directory needs; 0: not known yet */
};

/* What is kept of runs, last used first: leaves and directories. */
#define ITEM_DIRECTORY UINT32_MAX
struct cache_item {
    uint64_t identity;
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
};

/* A read of a directory or leaf under way, and the look-ups that wait for it. */
struct index_fetch {
    int used;
    uint32_t serial; /* with the place in the array: the owner of the disk operation */
    uint64_t identity;
    uint64_t first_sequence; /* the run's */
    uint32_t segment;
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
    /* The run in hand; identity 0: none. */
    uint64_t run;
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
void index_make_runs(struct index *x);
void index_close_jobs(struct index *x);

/* The youngest run that begins before `cursor`, or NULL. */
struct index_run *index_run_before(struct index *x, uint64_t cursor);

/* cache.c */
int index_cache_open(struct index_cache *c, uint64_t limit_bytes);
void index_cache_close(struct index_cache *c);
struct cache_item *index_cache_find(struct index_cache *c, uint64_t identity, uint32_t leaf);
void index_cache_drop_run(struct index_cache *c, uint64_t identity);
/* Take over `bytes`; return the item, or NULL and *err. It stays until the next call. */
struct cache_item *index_cache_put_leaf(struct index_cache *c, uint64_t identity, uint32_t leaf,
                                        uint8_t *page, int *err);
struct cache_item *index_cache_put_directory(struct index_cache *c, uint64_t identity,
                                             uint8_t *bytes, uint64_t len, int *err);

/* fetch.c: what a look-up needs of a run. Returns the item; or NULL and *err: ERR_AGAIN, the search
 * waits (for the read or for room), ERR_IO, ERR_INTEGRITY. Without a search: ask again in a later turn. */
struct cache_item *index_fetch(struct index *x, struct index_run *run, uint32_t leaf,
                               struct index_search *s, int *err);
int index_fetch_done(void *ctx, struct io_h h, const struct io *io, int32_t result);

/* find.c: goes on with a search that waited, and tells its owner when it has ended. */
void index_search_resume(struct index *x, struct index_search *s, int err);

#endif
