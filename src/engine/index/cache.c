/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is kept of runs in private memory, bounded: directories and leaves that have been read and
 * checked, in one list, last used first; the last ones go. The two newest always stay, however large:
 * a search needs a directory and one of its leaves.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "engine/index/index_priv.h"

#define BUCKETS_MAX (1u << 27) /* of memory that is not touched before it is used */

int index_cache_open(struct index_cache *c, uint64_t limit_bytes) {
    c->limit_bytes = limit_bytes;
    c->bucket_count = 64;
    while (c->bucket_count < limit_bytes / RUN_PAGE_BYTES && c->bucket_count < BUCKETS_MAX)
        c->bucket_count *= 2;
    c->buckets = calloc(c->bucket_count, sizeof(struct cache_item *));
    return c->buckets ? 0 : ERR_NOMEM;
}

static struct cache_item **bucket_of(struct index_cache *c, uint64_t run, uint32_t leaf) {
    return &c->buckets[hash_pair(run, leaf) & (c->bucket_count - 1)];
}

static void list_remove(struct index_cache *c, struct cache_item *i) {
    if (i->newer)
        i->newer->older = i->older;
    else
        c->newest = i->older;
    if (i->older)
        i->older->newer = i->newer;
    else
        c->oldest = i->newer;
}

static void list_add(struct index_cache *c, struct cache_item *i) {
    i->newer = NULL;
    i->older = c->newest;
    *(c->newest ? &c->newest->newer : &c->oldest) = i;
    c->newest = i;
}

static void drop(struct index_cache *c, struct cache_item *i) {
    struct cache_item **at = bucket_of(c, i->run, i->leaf);
    while (*at != i)
        at = &(*at)->hash_next;
    *at = i->hash_next;
    list_remove(c, i);
    c->bytes -= i->size_bytes;
    run_directory_close(&i->directory);
    free(i->page);
    free(i);
}

void index_cache_close(struct index_cache *c) {
    while (c->oldest)
        drop(c, c->oldest);
    free(c->buckets);
    memset(c, 0, sizeof *c);
}

uint64_t index_cache_name(struct index_cache *c) {
    return ++c->runs;
}

struct cache_item *index_cache_find(struct index_cache *c, uint64_t run, uint32_t leaf) {
    struct cache_item *i = *bucket_of(c, run, leaf);
    while (i && (i->run != run || i->leaf != leaf))
        i = i->hash_next;
    if (i && i != c->newest) {
        list_remove(c, i);
        list_add(c, i);
    }
    return i;
}

static void put(struct index_cache *c, struct cache_item *i) {
    struct cache_item **bucket = bucket_of(c, i->run, i->leaf);
    i->hash_next = *bucket;
    *bucket = i;
    list_add(c, i);
    c->bytes += i->size_bytes;
    for (struct cache_item *old = c->oldest, *newer; c->bytes > c->limit_bytes; old = newer) {
        if (old == i || old == i->older)
            return;
        newer = old->newer;
        drop(c, old);
    }
}

struct cache_item *index_cache_put_leaf(struct index_cache *c, const struct index_piece *piece,
                                        uint32_t leaf, uint8_t *page, int *err) {
    *err = leaf_check(page, piece->identity, leaf);
    struct cache_item *i = *err == 0 ? calloc(1, sizeof *i) : NULL;
    if (!i) {
        *err = *err ? *err : ERR_NOMEM;
        free(page);
        return NULL;
    }
    i->run = piece->cached_as;
    i->leaf = leaf;
    i->page = page;
    i->size_bytes = RUN_PAGE_BYTES + sizeof *i;
    put(c, i);
    return i;
}

struct cache_item *index_cache_put_directory(struct index_cache *c, const struct index_piece *piece,
                                             uint8_t *bytes, uint64_t len, int *err) {
    struct cache_item *i = calloc(1, sizeof *i);
    *err = i ? run_directory_open(&i->directory, bytes, len, piece->identity) : ERR_NOMEM;
    if (*err < 0) {
        free(bytes);
        free(i);
        return NULL;
    }
    i->run = piece->cached_as;
    i->leaf = ITEM_DIRECTORY;
    i->size_bytes = i->directory.size_bytes + sizeof *i;
    put(c, i);
    return i;
}
