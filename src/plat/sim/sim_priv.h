/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of sim: the world, its disk, its names. */
#ifndef PLAT_SIM_SIM_PRIV_H
#define PLAT_SIM_SIM_PRIV_H

#include <stdint.h>

#include "base/must.h"
#include "base/prng.h"
#include "base/units.h"
#include "plat/sim/sim.h"

#define SIM_PAGE_BYTES 4096u
#define SIM_PAGE_SECTORS (SIM_PAGE_BYTES / SECTOR_BYTES)
#define SIM_CHUNK_PAGES 256u
#define SIM_SIZES_MAX 32u
#define SIM_NAME_BUCKETS 512u
#define SIM_OPEN_MAX 1024u
#define SIM_FAULTS_MAX 16u

/* A pending write (or the zeroes of a pending truncate) to some sectors of one page. Pieces of one
 * write have the same id, and so share its fate. */
struct sim_piece {
    struct sim_piece *next;
    uint64_t id;
    uint8_t sectors; /* bit s: sector s of the page; data has these, packed */
    uint8_t whole;   /* never torn, and supersedes all pieces before it: a truncate */
    unsigned char data[];
};

struct sim_page {
    struct sim_page *dirty_next, *dirty_prev;
    uint64_t index;
    unsigned char *durable; /* what a cut would find; NULL: the same as live, and not dirty */
    struct sim_piece *first, *last;
    uint32_t pieces;
    uint8_t stale; /* a sync failed: durable differs from live beyond the pieces */
    unsigned char live[SIM_PAGE_BYTES];
};

struct sim_chunk {
    struct sim_chunk *next; /* in its bucket */
    uint64_t index;
    struct sim_page *pages[SIM_CHUNK_PAGES];
    uint64_t reserved[SIM_CHUNK_PAGES / 64]; /* pages that take room on the disk */
};

/* A pending change of a file's size. */
struct sim_size {
    uint64_t id;
    uint64_t size_bytes;
    int truncate;
};

struct sim_inode {
    struct sim_inode *next, *prev;
    uint32_t refs;      /* from both name maps, pending names, descriptors, operations */
    uint32_t live_refs; /* those that keep its room: live names, descriptors, operations */
    int is_dir;
    char path[SIM_PATH_MAX]; /* newest name */
    uint64_t size_bytes, durable_size_bytes;
    struct sim_size sizes[SIM_SIZES_MAX];
    uint32_t size_count;
    uint64_t reserved_pages;
    struct sim_page *dirty;
    struct sim_chunk **buckets;
    uint32_t bucket_count, chunk_count;
    struct sim_chunk *last; /* found last */
};

struct sim_name {
    struct sim_name *next;
    uint64_t hash;
    struct sim_inode *inode;
    char path[SIM_PATH_MAX];
};

struct sim_names {
    struct sim_name *buckets[SIM_NAME_BUCKETS];
};

enum sim_name_op_kind { SIM_NAME_BIND = 1, SIM_NAME_RENAME, SIM_NAME_REMOVE };

struct sim_name_op {
    enum sim_name_op_kind kind;
    uint64_t id;
    struct sim_inode *inode;
    uint64_t from_hash, to_hash; /* to_hash 0: there is no `to` */
    char from[SIM_PATH_MAX], to[SIM_PATH_MAX];
};

struct sim_io;

struct sim_conn;
struct sim_net;

enum sim_event_kind { SIM_EVENT_IO = 1, SIM_EVENT_JOB, SIM_EVENT_NET };

struct sim_event {
    uint64_t due_ns;
    uint64_t order; /* among those due at the same time */
    enum sim_event_kind kind;
    union {
        struct sim_io *io;
        struct job *job;
        struct {
            struct sim_conn *conn;
            uint8_t what, side; /* net_priv.h */
        } net;
    };
};

struct sim_open {
    struct sim_inode *inode;
    uint32_t flags;
};

/* A queue whose process has died. */
struct sim_dead_queue {
    uint32_t number;
    uint32_t handed_over;
};

/* The router's queue of the process that runs now, and what dead ones left. */
struct sim_queue {
    uint32_t number;        /* 1 for the first process, and so on */
    uint32_t next_position; /* of the next operation queued */
    uint32_t handed_over;   /* operations before this position */
    uint32_t busy;          /* its own: queued, in flight, or completed and not retired */
    uint32_t shown;         /* completed, told by peek, and not retired */
    struct sim_io *queued, **queued_end;
    struct sim_io *completed, **completed_end;
    struct sim_io *orphans, **orphans_end; /* completed, of dead queues */
    struct sim_dead_queue *dead;
    uint32_t dead_count, dead_room;
};

struct sim_fault_entry {
    struct sim_fault fault;
    char path[SIM_PATH_MAX];
    uint64_t seen;
};

struct sim {
    struct sim_options options;
    struct prng prng;        /* the world's */
    struct prng random_prng; /* random_source */
    uint64_t trace;
    uint64_t monotonic_ns, wall_ns;
    uint64_t stop_after; /* 0: never */
    int stopped;

    struct sim_event *heap;
    uint32_t heap_count, heap_room;

    struct sim_inode *inodes;
    struct sim_names live, durable;
    struct sim_name_op *name_ops;
    uint32_t name_op_count;
    uint64_t used_pages;
    uint64_t next_id;
    struct sim_open files[SIM_OPEN_MAX];
    struct sim_open devices[SIM_OPEN_MAX];

    struct sim_net *net;
    struct sim_queue queue;
    struct job *jobs_done, **jobs_done_end;

    struct sim_fault_entry faults[SIM_FAULTS_MAX];
    uint32_t fault_count;
    uint64_t fault_hits;
};

/* How a cut (or a failed sync) decides over what is pending. */
struct sim_cut {
    uint64_t seed;
    uint32_t keep_of_16, tear_of_16; /* the rest is dropped */
};
enum sim_fate { SIM_DROPPED = 0, SIM_KEPT, SIM_TORN };

static inline void sim_note(struct sim *sim, uint64_t what, uint64_t a, uint64_t b) {
    sim->trace = hash_pair(sim->trace, hash_pair(what, hash_pair(a, b)));
}
static inline uint64_t sim_new_id(struct sim *sim) {
    return ++sim->next_id;
}

void *sim_alloc(uint64_t bytes); /* zeroed */

/* sim.c: counts one operation of the process; ERR_IO if it stands still. */
int sim_tick(struct sim *sim);
void sim_event_add(struct sim *sim, struct sim_event e);

/* cut.c */
struct sim_cut sim_cut_make(struct sim *sim);
enum sim_fate sim_cut_fate(const struct sim_cut *cut, uint64_t id);
int sim_cut_keeps_whole(const struct sim_cut *cut, uint64_t id);
int sim_cut_keeps_sector(const struct sim_cut *cut, uint64_t id, uint64_t sector);
void sim_cut_page(const struct sim_cut *cut, struct sim_page *page);
void sim_cut_inode(struct sim *sim, const struct sim_cut *cut, struct sim_inode *inode);
void sim_cut_names(struct sim *sim, const struct sim_cut *cut);

/* disk.c: files as bytes. */
struct sim_inode *sim_inode_new(struct sim *sim, int is_dir);
void sim_inode_hold(struct sim *sim, struct sim_inode *inode, int live);
void sim_inode_drop(struct sim *sim, struct sim_inode *inode, int live);
void sim_inode_free(struct sim *sim, struct sim_inode *inode);
struct sim_page *sim_page_find(struct sim_inode *inode, uint64_t index);
void sim_disk_read(struct sim_inode *inode, uint64_t offset, void *buf, uint64_t bytes);
int sim_disk_reserve(struct sim *sim, struct sim_inode *inode, uint64_t offset, uint64_t bytes);
void sim_disk_unreserve(struct sim *sim, struct sim_inode *inode, uint64_t from_page);
int sim_disk_write(struct sim *sim, struct sim_inode *inode, uint64_t offset, const void *buf,
                   uint64_t bytes, int durable, uint64_t id);
int sim_disk_truncate(struct sim *sim, struct sim_inode *inode, uint64_t size);
int sim_disk_allocate(struct sim *sim, struct sim_inode *inode, uint64_t offset, uint64_t bytes);
void sim_disk_sync(struct sim_inode *inode);
void sim_disk_sync_failed(struct sim *sim, struct sim_inode *inode);
void sim_page_clean(struct sim_inode *inode, struct sim_page *page);

/* names.c: which file a path names. */
struct sim_inode *sim_name_find(const struct sim_names *names, const char *path);
int sim_name_check(const struct sim *sim, const char *path);
void sim_name_bind(struct sim *sim, const char *path, struct sim_inode *inode);
void sim_name_rename(struct sim *sim, const char *from, const char *to);
void sim_name_remove(struct sim *sim, const char *path);
void sim_name_sync_dir(struct sim *sim, const char *dir);
int sim_name_in_dir(const char *path, const char *dir);
void sim_names_drop_all(struct sim *sim, struct sim_names *names, int live);
void sim_name_apply(struct sim *sim, const struct sim_name_op *op);
void sim_name_ops_forget(struct sim *sim);
int sim_names_touch(const struct sim_name_op *a, const struct sim_name_op *b);
void sim_names_sweep(struct sim *sim);

/* fault.c: the fault that hits, or NULL. */
const struct sim_fault *sim_fault_hit(struct sim *sim, enum sim_fault_kind kind, const char *path,
                                      uint64_t offset, uint64_t bytes);
/* What files.c and router.c do alike, faults included. */
int64_t sim_store_read(struct sim *sim, struct sim_inode *inode, uint64_t offset, void *buf,
                       uint64_t bytes);
int64_t sim_store_write(struct sim *sim, struct sim_inode *inode, uint64_t offset, const void *buf,
                        uint64_t bytes, int durable);

/* files.c, router.c, jobs.c */
void sim_close_all(struct sim *sim);
void sim_io_fire(struct sim *sim, struct sim_io *io);
void sim_io_kill(struct sim *sim, struct sim_event *e);
void sim_io_cut(struct sim *sim, struct sim_io *io);
void sim_queue_open(struct sim *sim);
void sim_queue_kill(struct sim *sim);
void sim_queue_clear(struct sim *sim);
void sim_job_fire(struct sim *sim, struct job *job);
void sim_jobs_forget(struct sim *sim);

/* Whether a completion, or an ended job too, waits to be looked at. */
int sim_completion_waits(const struct sim *sim);
int sim_input_waits(const struct sim *sim);

/* stream.c, net.c */
void sim_net_open(struct sim *sim);
void sim_net_end_clients(struct sim *sim);
void sim_net_kill(struct sim *sim);
void sim_net_cut(struct sim *sim); /* after its events were forgotten */
void sim_net_fire(struct sim *sim, struct sim_conn *c, uint8_t what, uint8_t side);
void sim_net_forget(struct sim *sim, struct sim_conn *c, uint8_t what);

#endif
