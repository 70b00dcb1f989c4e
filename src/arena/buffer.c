/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "arena/arena.h"
#include "base/err.h"

int buffer_pool_open(struct buffer_pool *p, struct arena *a, uint32_t region) {
    memset(p, 0, sizeof *p);
    p->data = a->regions[region];
    p->pages = (uint32_t)(a->region_bytes[region] / BUFFER_PAGE_BYTES);
    p->free_pages = p->pages;
    p->free = calloc(p->pages / 64 + 1, sizeof *p->free);
    if (!p->free)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < p->pages; i++)
        p->free[i / 64] |= UINT64_C(1) << (i % 64);
    return 0;
}

void buffer_pool_close(struct buffer_pool *p) {
    free(p->free);
    free(p->released);
    memset(p, 0, sizeof *p);
}

static int is_free(const struct buffer_pool *p, uint32_t page) {
    return p->free[page / 64] >> (page % 64) & 1;
}

static void mark(struct buffer_pool *p, struct extent e, int free) {
    for (uint32_t page = e.first; page < e.first + e.pages;) {
        uint32_t bit = page % 64;
        uint32_t n = e.first + e.pages - page;
        if (n > 64 - bit)
            n = 64 - bit;
        uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << bit;
        uint64_t word = p->free[page / 64];
        must((word & mask) == (free ? 0 : mask));
        p->free[page / 64] = free ? word | mask : word & ~mask;
        page += n;
    }
    p->free_pages += free ? e.pages : -e.pages;
    p->changes++;
}

int buffer_claim(struct buffer_pool *p, struct extent e) {
    if (e.first > p->pages || e.pages > p->pages - e.first)
        return ERR_INVAL;
    for (uint32_t i = 0; i < e.pages; i++)
        if (!is_free(p, e.first + i))
            return ERR_INVAL;
    mark(p, e, 0);
    return 0;
}

/* The next run of free pages at or after `from`, cut at `want`; pages == 0 if there is none. */
static struct extent next_run(const struct buffer_pool *p, uint32_t from, uint32_t want) {
    uint32_t page = from;
    while (page < p->pages) {
        uint64_t word = p->free[page / 64] >> (page % 64);
        if (word) {
            page += (uint32_t)__builtin_ctzll(word);
            break;
        }
        page = (page / 64 + 1) * 64;
    }
    struct extent e = {.first = page};
    while (page < p->pages && e.pages < want) {
        uint64_t taken = ~(p->free[page / 64] >> (page % 64));
        uint32_t n = taken ? (uint32_t)__builtin_ctzll(taken) : 64;
        if (n > 64 - page % 64)
            n = 64 - page % 64;
        e.pages += n;
        page += n;
        if (n == 0 || page % 64 != 0)
            break;
    }
    if (e.pages > want)
        e.pages = want;
    if (e.first + e.pages > p->pages)
        e.pages = e.first < p->pages ? p->pages - e.first : 0;
    return e;
}

/* The first run of `want` pages at or after the cursor, going round once. */
static struct extent find_run(const struct buffer_pool *p, uint32_t want) {
    struct extent e;
    for (uint32_t at = p->cursor; (e = next_run(p, at, want)).pages > 0; at = e.first + e.pages)
        if (e.pages == want)
            return e;
    for (uint32_t at = 0; (e = next_run(p, at, want)).pages > 0 && e.first < p->cursor;
         at = e.first + e.pages)
        if (e.pages == want)
            return e;
    return (struct extent){0, 0};
}

int buffer_take(struct buffer_pool *p, uint32_t pages, struct extent *out, uint32_t max) {
    must(pages > 0 && max > 0);
    if (pages > p->free_pages)
        return ERR_NOMEM;
    int n = 0;
    uint32_t left = pages, want = pages;
    while (left > 0 && (uint32_t)n < max) {
        if (want > left)
            want = left;
        struct extent e = find_run(p, want);
        if (e.pages == 0) {
            if (want == 1)
                break;
            want = (want + 1) / 2;
            continue;
        }
        mark(p, e, 0);
        out[n++] = e;
        left -= e.pages;
        p->cursor = e.first + e.pages;
    }
    if (left == 0)
        return n;
    while (n > 0)
        mark(p, out[--n], 1);
    return ERR_NOMEM;
}

int buffer_take_for(struct buffer_pool *p, enum buffer_use use, uint32_t pages, struct extent *out,
                    uint32_t max) {
    uint32_t left = buffer_left_by(p, use);
    if (p->free_pages < left || pages > p->free_pages - left)
        return ERR_NOMEM;
    return buffer_take(p, pages, out, max);
}

void buffer_release(struct buffer_pool *p, struct extent e) {
    if (e.pages == 0)
        return;
    if (p->released_count == p->released_room) {
        p->released_room = p->released_room ? 2 * p->released_room : 256;
        p->released = realloc(p->released, p->released_room * sizeof *p->released);
        must(p->released != NULL);
    }
    p->released[p->released_count++] = e;
}

void buffer_commit(struct buffer_pool *p) {
    for (uint32_t i = 0; i < p->released_count; i++)
        mark(p, p->released[i], 1);
    p->released_count = 0;
}
