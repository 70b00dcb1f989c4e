/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of any size in the arena's heap. They follow one another from the root to root.end:
 *
 *   offset 0  8  bytes, with this head, a multiple of 16
 *          8  8  1: in use; else twice the turn in which it was freed
 *         16     what the program has there
 *
 * Free blocks are found in bins by size, which lie in private memory and are made again by a walk. A block freed
 * in a turn is given out from the next one on, so what undoing would bring back is there. Therefore neither the
 * content of a new block nor the head of a remainder is saved: both lie in what was free before the turn.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "persist/persist_priv.h"

#define HEAD_BYTES 16u
#define SPLIT_BYTES 64u /* a smaller remainder stays with its block */
#define IN_USE 1u

struct head {
    uint64_t bytes;
    uint64_t state;
};

static uint64_t first_block(void) {
    return (sizeof(struct persist_root) + 15) & ~UINT64_C(15);
}

static struct head *head_at(const struct perdure *p, uint64_t at) {
    return (struct head *)(void *)(persist_heap(p) + at);
}

static unsigned bin_of(uint64_t bytes) {
    unsigned bin = 0;
    while (bytes > 1 && bin < PERSIST_BINS - 1) {
        bytes >>= 1;
        bin++;
    }
    return bin;
}

/* Without memory for it a block is forgotten until the next engine walks the heap. */
static void bin_push(struct persist_bin *b, uint64_t at) {
    if (b->count == b->room) {
        uint32_t room = b->room ? 2 * b->room : 64;
        uint64_t *more = realloc(b->blocks, room * sizeof *more);
        if (!more)
            return;
        b->blocks = more;
        b->room = room;
    }
    b->blocks[b->count++] = at;
}

void heap_make(struct perdure *p) {
    *persist_root_of(p) =
        (struct persist_root){.end = first_block(), .data_version = p->program->data_version};
}

int heap_check(struct perdure *p) {
    uint64_t room = p->a.region_bytes[PERSIST_REGION_HEAP], end = persist_root_of(p)->end;
    uint64_t at = first_block();
    if (end > room || end < at)
        return -EBADMSG;
    while (at < end) {
        uint64_t bytes = end - at >= HEAD_BYTES ? head_at(p, at)->bytes : 0;
        if (bytes < HEAD_BYTES || bytes % 16 != 0 || bytes > end - at)
            return -EBADMSG;
        at += bytes;
    }
    return 0;
}

static int is_free(const struct perdure *p, const struct head *h) {
    return h->state != IN_USE && h->state != 2 * p->a.turn;
}

/* In a turn free neighbours become one, within half of the undo log. The heads that go are saved, too: others write
 * over them before the turn is committed. */
static void merge(struct perdure *p, uint64_t at, uint64_t end) {
    struct head *h = head_at(p, at);
    while (p->in_turn && at + h->bytes < end) {
        struct head *next = head_at(p, at + h->bytes);
        if (!is_free(p, next))
            return;
        if (arena_undo_left(&p->a) < p->a.undo_bytes / 2 || persist_save(p, h, sizeof *h) < 0 ||
            persist_save(p, next, sizeof *next) < 0) {
            p->may_merge = 1; /* in another turn */
            return;
        }
        h->bytes += next->bytes;
    }
}

void heap_find_free(struct perdure *p) {
    uint64_t end = persist_root_of(p)->end;
    p->may_merge = !p->in_turn;
    for (unsigned i = 0; i < PERSIST_BINS; i++)
        p->bins[i].count = 0;
    for (uint64_t at = first_block(); at < end; at += head_at(p, at)->bytes) {
        struct head *h = head_at(p, at);
        if (!is_free(p, h))
            continue;
        merge(p, at, end);
        bin_push(&p->bins[bin_of(h->bytes)], at);
    }
}

void heap_committed(struct perdure *p) {
    for (uint32_t i = 0; i < p->freed.count; i++) {
        uint64_t at = p->freed.blocks[i];
        bin_push(&p->bins[bin_of(head_at(p, at)->bytes)], at);
        p->may_merge = 1;
    }
    p->freed.count = 0;
}

/* A free block of at least so many bytes, out of its bin; 0: none. */
static uint64_t find(struct perdure *p, uint64_t bytes) {
    for (unsigned i = bin_of(bytes); i < PERSIST_BINS; i++) {
        struct persist_bin *b = &p->bins[i];
        for (uint32_t n = b->count; n-- > 0;)
            if (head_at(p, b->blocks[n])->bytes >= bytes) {
                uint64_t at = b->blocks[n];
                b->blocks[n] = b->blocks[--b->count];
                return at;
            }
    }
    return 0;
}

static void *use(struct perdure *p, uint64_t at, uint64_t bytes) {
    struct head *h = head_at(p, at);
    if (persist_save(p, h, sizeof *h) < 0) {
        bin_push(&p->bins[bin_of(h->bytes)], at);
        return NULL;
    }
    if (h->bytes - bytes >= SPLIT_BYTES) {
        *head_at(p, at + bytes) = (struct head){h->bytes - bytes, 0};
        bin_push(&p->bins[bin_of(h->bytes - bytes)], at + bytes);
        h->bytes = bytes;
    }
    h->state = IN_USE;
    return memset(h + 1, 0, h->bytes - HEAD_BYTES);
}

void *perdure_alloc(struct perdure *p, size_t size) {
    struct persist_root *root = persist_root_of(p);
    uint64_t room = p->a.region_bytes[PERSIST_REGION_HEAP], at;
    must(p->in_turn);
    if (size > room)
        return NULL;
    uint64_t bytes = (((uint64_t)size + 15) & ~UINT64_C(15)) + HEAD_BYTES;
    if ((at = find(p, bytes)) != 0)
        return use(p, at, bytes);
    if (bytes > room - root->end) {
        if (!p->may_merge)
            return NULL;
        heap_find_free(p);
        return (at = find(p, bytes)) != 0 ? use(p, at, bytes) : NULL;
    }
    if (persist_save(p, &root->end, sizeof root->end) < 0)
        return NULL;
    struct head *h = head_at(p, root->end);
    *h = (struct head){bytes, IN_USE};
    root->end += bytes;
    return memset(h + 1, 0, bytes - HEAD_BYTES);
}

int perdure_free(struct perdure *p, void *block) {
    must(p->in_turn);
    if (!block)
        return 0;
    struct head *h = (struct head *)block - 1;
    must(h->state == IN_USE);
    int err = persist_save(p, h, sizeof *h);
    if (err < 0)
        return err;
    h->state = 2 * p->a.turn;
    bin_push(&p->freed, (uint64_t)((unsigned char *)h - persist_heap(p)));
    return 0;
}

void *perdure_edit(struct perdure *p, void *at, size_t bytes) {
    unsigned char *heap = persist_heap(p);
    must(p->in_turn);
    must((unsigned char *)at >= heap + first_block() &&
         (unsigned char *)at + bytes <= heap + persist_root_of(p)->end);
    return persist_save(p, at, bytes) < 0 ? NULL : at;
}

void *perdure_root(const struct perdure *p, unsigned number) {
    uint64_t at = number < PERDURE_ROOTS ? persist_root_of(p)->roots[number] : 0;
    return at ? persist_heap(p) + at : NULL;
}

int perdure_set_root(struct perdure *p, unsigned number, void *block) {
    must(p->in_turn);
    if (number >= PERDURE_ROOTS)
        return -EINVAL;
    uint64_t *root = &persist_root_of(p)->roots[number];
    int err = persist_save(p, root, sizeof *root);
    if (err == 0)
        *root = block ? (uint64_t)((unsigned char *)block - persist_heap(p)) : 0;
    return err;
}

uint32_t perdure_data_version(const struct perdure *p) {
    return persist_root_of(p)->data_version;
}

int perdure_set_data_version(struct perdure *p, uint32_t version) {
    must(p->in_turn);
    uint32_t *v = &persist_root_of(p)->data_version;
    int err = version == 0 ? -EINVAL : persist_save(p, v, sizeof *v);
    if (err == 0)
        *v = version;
    return err;
}
