/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk: files as sparse bytes.
 *
 * A file is a hash of chunks of 256 pages. A page holds the bytes that reads see; while something
 * is pending on it, it also holds the bytes that are durable for certain and the list of pending
 * pieces, oldest first (sim.h, rules 1 to 3). cut.c makes one of the possible pasts of them.
 *
 *  1. A page is in its file's dirty list exactly if page->durable != NULL.
 *  2. Without pieces and not stale, a page is not dirty: live is durable.
 *  3. used_pages counts the reserved pages of files that are named or open.
 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plat/sim/sim_priv.h"

struct sim_inode *sim_inode_new(struct sim *sim, int is_dir) {
    struct sim_inode *inode = sim_alloc(sizeof *inode);
    inode->is_dir = is_dir;
    inode->next = sim->inodes;
    if (sim->inodes)
        sim->inodes->prev = inode;
    sim->inodes = inode;
    return inode;
}

void sim_inode_hold(struct sim *sim, struct sim_inode *inode, int live) {
    inode->refs++;
    if (live && inode->live_refs++ == 0)
        sim->used_pages += inode->reserved_pages;
}

void sim_inode_drop(struct sim *sim, struct sim_inode *inode, int live) {
    must(inode->refs > 0);
    if (live) {
        must(inode->live_refs > 0);
        if (--inode->live_refs == 0)
            sim->used_pages -= inode->reserved_pages;
    }
    if (--inode->refs == 0)
        sim_inode_free(sim, inode);
}

static void page_free(struct sim_page *page) {
    while (page->first) {
        struct sim_piece *piece = page->first;
        page->first = piece->next;
        free(piece);
    }
    free(page->durable);
    free(page);
}

void sim_inode_free(struct sim *sim, struct sim_inode *inode) {
    for (uint32_t b = 0; b < inode->bucket_count; b++) {
        while (inode->buckets[b]) {
            struct sim_chunk *chunk = inode->buckets[b];
            inode->buckets[b] = chunk->next;
            for (uint32_t i = 0; i < SIM_CHUNK_PAGES; i++) {
                if (chunk->pages[i])
                    page_free(chunk->pages[i]);
            }
            free(chunk);
        }
    }
    if (inode->prev)
        inode->prev->next = inode->next;
    else
        sim->inodes = inode->next;
    if (inode->next)
        inode->next->prev = inode->prev;
    free(inode->buckets);
    free(inode);
}

static struct sim_chunk *chunk_find(struct sim_inode *inode, uint64_t index) {
    if (inode->last && inode->last->index == index)
        return inode->last;
    if (inode->bucket_count == 0)
        return NULL;
    struct sim_chunk *c = inode->buckets[hash_mix(index) & (inode->bucket_count - 1)];
    while (c && c->index != index)
        c = c->next;
    if (c)
        inode->last = c;
    return c;
}

static struct sim_chunk *chunk_get(struct sim_inode *inode, uint64_t index) {
    struct sim_chunk *c = chunk_find(inode, index);
    if (c)
        return c;
    if (inode->chunk_count == inode->bucket_count) {
        uint32_t room = inode->bucket_count ? 4 * inode->bucket_count : 4;
        struct sim_chunk **buckets = sim_alloc(room * sizeof(struct sim_chunk *));
        for (uint32_t b = 0; b < inode->bucket_count; b++) {
            while (inode->buckets[b]) {
                c = inode->buckets[b];
                inode->buckets[b] = c->next;
                c->next = buckets[hash_mix(c->index) & (room - 1)];
                buckets[hash_mix(c->index) & (room - 1)] = c;
            }
        }
        free(inode->buckets);
        inode->buckets = buckets;
        inode->bucket_count = room;
    }
    c = sim_alloc(sizeof *c);
    c->index = index;
    struct sim_chunk **bucket = &inode->buckets[hash_mix(index) & (inode->bucket_count - 1)];
    c->next = *bucket;
    *bucket = c;
    inode->chunk_count++;
    inode->last = c;
    return c;
}

struct sim_page *sim_page_find(struct sim_inode *inode, uint64_t index) {
    struct sim_chunk *c = chunk_find(inode, index / SIM_CHUNK_PAGES);
    return c ? c->pages[index % SIM_CHUNK_PAGES] : NULL;
}

static struct sim_page *page_get(struct sim_inode *inode, uint64_t index) {
    struct sim_chunk *c = chunk_get(inode, index / SIM_CHUNK_PAGES);
    struct sim_page **page = &c->pages[index % SIM_CHUNK_PAGES];
    if (!*page) {
        *page = sim_alloc(sizeof **page);
        (*page)->index = index;
    }
    return *page;
}

static void page_make_dirty(struct sim_inode *inode, struct sim_page *page) {
    if (page->durable)
        return;
    page->durable = sim_alloc(SIM_PAGE_BYTES);
    memcpy(page->durable, page->live, SIM_PAGE_BYTES);
    page->dirty_prev = NULL;
    page->dirty_next = inode->dirty;
    if (inode->dirty)
        inode->dirty->dirty_prev = page;
    inode->dirty = page;
}

/* live is durable now. A page of nothing beyond the end goes away. */
void sim_page_clean(struct sim_inode *inode, struct sim_page *page) {
    must(page->durable != NULL && page->pieces == 0);
    if (page->dirty_prev)
        page->dirty_prev->dirty_next = page->dirty_next;
    else
        inode->dirty = page->dirty_next;
    if (page->dirty_next)
        page->dirty_next->dirty_prev = page->dirty_prev;
    free(page->durable);
    page->durable = NULL;
    page->stale = 0;
    if (page->index * SIM_PAGE_BYTES >= inode->size_bytes &&
        page->index * SIM_PAGE_BYTES >= inode->durable_size_bytes) {
        chunk_find(inode, page->index / SIM_CHUNK_PAGES)->pages[page->index % SIM_CHUNK_PAGES] =
            NULL;
        page_free(page);
    }
}

static void copy_sectors(unsigned char *to, const unsigned char *from, uint8_t sectors) {
    for (uint32_t s = 0; s < SIM_PAGE_SECTORS; s++) {
        if (sectors & 1u << s)
            memcpy(to + s * SECTOR_BYTES, from + s * SECTOR_BYTES, SECTOR_BYTES);
    }
}

static void piece_unlink_first(struct sim_page *page) {
    struct sim_piece *piece = page->first;
    page->first = piece->next;
    if (!page->first)
        page->last = NULL;
    page->pieces--;
    free(piece);
}

static void piece_settle_first(struct sim_page *page) {
    const unsigned char *data = page->first->data;
    for (uint32_t s = 0; s < SIM_PAGE_SECTORS; s++) {
        if (page->first->sectors & 1u << s) {
            memcpy(page->durable + s * SECTOR_BYTES, data, SECTOR_BYTES);
            data += SECTOR_BYTES;
        }
    }
    piece_unlink_first(page);
}

static void size_settle_through(struct sim_inode *inode, uint64_t id);

static void piece_add(struct sim_inode *inode, struct sim_page *page, uint64_t id, uint8_t sectors,
                      int whole) {
    while (page->pieces >= SIM_PIECES_MAX) {
        if (page->first->whole)
            size_settle_through(inode, page->first->id);
        else
            piece_settle_first(page);
    }
    struct sim_piece *piece =
        malloc(sizeof *piece + (size_t)__builtin_popcount(sectors) * SECTOR_BYTES);
    must(piece != NULL);
    *piece = (struct sim_piece){.id = id, .sectors = sectors, .whole = (uint8_t)whole};
    unsigned char *data = piece->data;
    for (uint32_t s = 0; s < SIM_PAGE_SECTORS; s++) {
        if (sectors & 1u << s) {
            memcpy(data, page->live + s * SECTOR_BYTES, SECTOR_BYTES);
            data += SECTOR_BYTES;
        }
    }
    if (page->last)
        page->last->next = piece;
    else
        page->first = piece;
    page->last = piece;
    page->pieces++;
}

/* These sectors of live are durable: no pending piece can show through any more. A piece keeps its
 * place for the data that it loses; only its mark goes. */
static void page_settle_sectors(struct sim_inode *inode, struct sim_page *page, uint8_t sectors) {
    copy_sectors(page->durable, page->live, sectors);
    struct sim_piece **at = &page->first;
    page->last = NULL;
    while (*at) {
        struct sim_piece *piece = *at;
        uint8_t kept = piece->sectors & (uint8_t)~sectors;
        if (kept == 0) {
            *at = piece->next;
            page->pieces--;
            free(piece);
            continue;
        }
        if (kept != piece->sectors) {
            unsigned char *to = piece->data;
            const unsigned char *from = piece->data;
            for (uint32_t s = 0; s < SIM_PAGE_SECTORS; s++) {
                if (kept & 1u << s) {
                    memmove(to, from, SECTOR_BYTES);
                    to += SECTOR_BYTES;
                }
                if (piece->sectors & 1u << s)
                    from += SECTOR_BYTES;
            }
            piece->sectors = kept;
        }
        page->last = piece;
        at = &piece->next;
    }
    if (page->pieces == 0 && !page->stale)
        sim_page_clean(inode, page);
}

void sim_disk_read(struct sim_inode *inode, uint64_t offset, void *buf, uint64_t bytes) {
    unsigned char *to = buf;
    while (bytes > 0) {
        uint64_t at = offset % SIM_PAGE_BYTES, n = min_u64(bytes, SIM_PAGE_BYTES - at);
        const struct sim_page *page = sim_page_find(inode, offset / SIM_PAGE_BYTES);
        if (page)
            memcpy(to, page->live + at, n);
        else
            memset(to, 0, n);
        to += n;
        offset += n;
        bytes -= n;
    }
}

int sim_disk_reserve(struct sim *sim, struct sim_inode *inode, uint64_t offset, uint64_t bytes) {
    uint64_t first = offset / SIM_PAGE_BYTES,
             end = (offset + bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
    uint64_t need = 0;
    for (uint64_t p = first; p < end; p++) {
        struct sim_chunk *c = chunk_find(inode, p / SIM_CHUNK_PAGES);
        uint32_t i = p % SIM_CHUNK_PAGES;
        need += !c || !(c->reserved[i / 64] >> i % 64 & 1);
    }
    if (need == 0)
        return 0;
    if (sim->used_pages + need > sim->options.disk_bytes / SIM_PAGE_BYTES)
        return ERR_NOSPC;
    for (uint64_t p = first; p < end; p++) {
        struct sim_chunk *c = chunk_get(inode, p / SIM_CHUNK_PAGES);
        uint32_t i = p % SIM_CHUNK_PAGES;
        c->reserved[i / 64] |= UINT64_C(1) << i % 64;
    }
    inode->reserved_pages += need;
    sim->used_pages += need;
    return 0;
}

void sim_disk_unreserve(struct sim *sim, struct sim_inode *inode, uint64_t from_page) {
    for (uint32_t b = 0; b < inode->bucket_count; b++) {
        for (struct sim_chunk *c = inode->buckets[b]; c; c = c->next) {
            if ((c->index + 1) * SIM_CHUNK_PAGES <= from_page)
                continue;
            for (uint32_t i = 0; i < SIM_CHUNK_PAGES; i++) {
                if (c->index * SIM_CHUNK_PAGES + i < from_page ||
                    !(c->reserved[i / 64] >> i % 64 & 1))
                    continue;
                c->reserved[i / 64] &= ~(UINT64_C(1) << i % 64);
                inode->reserved_pages--;
                if (inode->live_refs > 0)
                    sim->used_pages--;
            }
        }
    }
}

/* The truncate is durable: its zeroes are, and what was before them is not there any more. */
static void settle_truncate(struct sim_inode *inode, uint64_t id) {
    struct sim_page *next;
    for (struct sim_page *page = inode->dirty; page; page = next) {
        next = page->dirty_next;
        struct sim_piece *p = page->first;
        while (p && p->id != id)
            p = p->next;
        if (!p)
            continue;
        while (page->first != p)
            piece_settle_first(page);
        piece_settle_first(page);
        if (page->pieces == 0 && !page->stale)
            sim_page_clean(inode, page);
    }
}

static void size_settle_first(struct sim_inode *inode) {
    struct sim_size first = inode->sizes[0];
    inode->size_count--;
    memmove(inode->sizes, inode->sizes + 1, inode->size_count * sizeof *inode->sizes);
    if (first.truncate) {
        inode->durable_size_bytes = first.size_bytes;
        settle_truncate(inode, first.id);
    } else {
        inode->durable_size_bytes = max_u64(inode->durable_size_bytes, first.size_bytes);
    }
}

/* A truncate is settled whole, in all pages and the size. */
static void size_settle_through(struct sim_inode *inode, uint64_t id) {
    uint64_t settled;
    do {
        must(inode->size_count > 0);
        settled = inode->sizes[0].id;
        size_settle_first(inode);
    } while (settled != id);
}

static void size_settle_all(struct sim_inode *inode) {
    while (inode->size_count > 0)
        size_settle_first(inode);
    inode->durable_size_bytes = inode->size_bytes;
}

static void size_change(struct sim_inode *inode, uint64_t size, uint64_t id, int truncate) {
    if (inode->size_count == SIM_SIZES_MAX)
        size_settle_first(inode);
    inode->sizes[inode->size_count++] =
        (struct sim_size){.id = id, .size_bytes = size, .truncate = truncate};
    inode->size_bytes = size;
}

int sim_disk_write(struct sim *sim, struct sim_inode *inode, uint64_t offset, const void *buf,
                   uint64_t bytes, int durable, uint64_t id) {
    const unsigned char *from = buf;
    uint64_t end = offset + bytes;
    int err = sim_disk_reserve(sim, inode, offset, bytes);
    if (err < 0 || bytes == 0)
        return err;
    if (end > inode->size_bytes)
        size_change(inode, end, id, 0);
    if (durable) {
        int truncated = 0;
        for (uint32_t i = 0; i < inode->size_count; i++)
            truncated |= inode->sizes[i].truncate;
        if (truncated || end > inode->durable_size_bytes)
            size_settle_all(inode);
    }
    while (offset < end) {
        uint64_t at = offset % SIM_PAGE_BYTES, n = min_u64(end - offset, SIM_PAGE_BYTES - at);
        struct sim_page *page = page_get(inode, offset / SIM_PAGE_BYTES);
        uint64_t first = at / SECTOR_BYTES, last = (at + n - 1) / SECTOR_BYTES;
        uint8_t sectors = (uint8_t)((1u << (last + 1)) - (1u << first));
        if (!durable)
            page_make_dirty(inode, page);
        memcpy(page->live + at, from, n);
        if (!durable)
            piece_add(inode, page, id, sectors, 0);
        else if (page->durable)
            page_settle_sectors(inode, page, sectors);
        from += n;
        offset += n;
    }
    return 0;
}

int sim_disk_truncate(struct sim *sim, struct sim_inode *inode, uint64_t size) {
    uint64_t id = sim_new_id(sim), old = inode->size_bytes;
    size_change(inode, size, id, 1);
    if (size >= old)
        return 0;
    uint64_t first = size / SIM_PAGE_BYTES;
    for (uint32_t b = 0; b < inode->bucket_count; b++) {
        for (struct sim_chunk *c = inode->buckets[b]; c; c = c->next) {
            if ((c->index + 1) * SIM_CHUNK_PAGES <= first)
                continue;
            for (uint32_t i = 0; i < SIM_CHUNK_PAGES; i++) {
                struct sim_page *page = c->pages[i];
                if (!page || page->index < first)
                    continue;
                uint64_t at = page->index == first ? size % SIM_PAGE_BYTES : 0;
                page_make_dirty(inode, page);
                memset(page->live + at, 0, SIM_PAGE_BYTES - at);
                piece_add(inode, page, id, (uint8_t)(0xff << at / SECTOR_BYTES), 1);
            }
        }
    }
    sim_disk_unreserve(sim, inode, (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES);
    return 0;
}

int sim_disk_allocate(struct sim *sim, struct sim_inode *inode, uint64_t offset, uint64_t bytes) {
    int err = sim_disk_reserve(sim, inode, offset, bytes);
    if (err == 0 && offset + bytes > inode->size_bytes)
        size_change(inode, offset + bytes, sim_new_id(sim), 0);
    return err;
}

void sim_disk_sync(struct sim_inode *inode) {
    size_settle_all(inode);
    struct sim_page *next;
    for (struct sim_page *page = inode->dirty; page; page = next) {
        next = page->dirty_next;
        while (page->first)
            piece_settle_first(page);
        if (!page->stale)
            sim_page_clean(inode, page);
    }
}

void sim_disk_sync_failed(struct sim *sim, struct sim_inode *inode) {
    struct sim_cut cut = sim_cut_make(sim);
    size_settle_all(inode);
    for (struct sim_page *page = inode->dirty; page; page = page->dirty_next) {
        sim_cut_page(&cut, page);
        page->stale = 1;
    }
}
