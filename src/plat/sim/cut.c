/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power cut: makes one of the disks that a real machine could come back with (sim.h, rules 2 to
 * 6). What happens to a pending write follows from the cut's seed and the write's id, so all its
 * pieces share one fate, and so does the size that it gave the file.
 */
#include <stdlib.h>
#include <string.h>

#include "plat/sim/sim_priv.h"

/* Cuts differ in mood, for a bug may need nearly all to be lost, or nearly all to be kept. */
struct sim_cut sim_cut_make(struct sim *sim) {
    static const uint8_t moods[][2] = {{0, 0}, {16, 0}, {5, 6}, {2, 2}, {12, 2}, {0, 16}, {8, 0}};
    const uint8_t *mood = moods[prng_below(&sim->prng, sizeof moods / sizeof moods[0])];
    return (struct sim_cut){prng_next(&sim->prng), mood[0], mood[1]};
}

enum sim_fate sim_cut_fate(const struct sim_cut *cut, uint64_t id) {
    uint64_t dice = hash_pair(cut->seed, id) >> 60;
    if (dice < cut->keep_of_16)
        return SIM_KEPT;
    return dice < cut->keep_of_16 + cut->tear_of_16 ? SIM_TORN : SIM_DROPPED;
}

int sim_cut_keeps_whole(const struct sim_cut *cut, uint64_t id) {
    enum sim_fate fate = sim_cut_fate(cut, id);
    return fate == SIM_KEPT || (fate == SIM_TORN && hash_pair(cut->seed, id) & 1);
}

int sim_cut_keeps_sector(const struct sim_cut *cut, uint64_t id, uint64_t sector) {
    enum sim_fate fate = sim_cut_fate(cut, id);
    return fate == SIM_KEPT ||
           (fate == SIM_TORN && hash_pair(hash_pair(cut->seed, id), sector) & 1);
}

/* Sector by sector: behind the last kept truncate, any kept piece may be the one that was written
 * last. The outcome is in page->durable; no piece is left. */
void sim_cut_page(const struct sim_cut *cut, struct sim_page *page) {
    for (uint32_t s = 0; s < SIM_PAGE_SECTORS; s++) {
        const unsigned char *winner = NULL;
        uint64_t winner_rank = 0;
        for (const struct sim_piece *p = page->first; p; p = p->next) {
            if (!(p->sectors & 1u << s))
                continue;
            uint8_t before = p->sectors & (uint8_t)((1u << s) - 1);
            const unsigned char *data = p->data + (size_t)__builtin_popcount(before) * SECTOR_BYTES;
            if (p->whole) {
                if (!sim_cut_keeps_whole(cut, p->id))
                    continue;
                winner = data;
                winner_rank = 0;
                continue;
            }
            if (!sim_cut_keeps_sector(cut, p->id, page->index * SIM_PAGE_SECTORS + s))
                continue;
            uint64_t rank = hash_pair(p->id, cut->seed);
            if (!winner || rank > winner_rank) {
                winner = data;
                winner_rank = rank;
            }
        }
        if (winner)
            memcpy(page->durable + s * SECTOR_BYTES, winner, SECTOR_BYTES);
    }
    while (page->first) {
        struct sim_piece *piece = page->first;
        page->first = piece->next;
        free(piece);
    }
    page->last = NULL;
    page->pieces = 0;
}

void sim_cut_inode(struct sim *sim, const struct sim_cut *cut, struct sim_inode *inode) {
    uint64_t size = inode->durable_size_bytes;
    for (uint32_t i = 0; i < inode->size_count; i++) {
        const struct sim_size *s = &inode->sizes[i];
        if (s->truncate) {
            if (sim_cut_keeps_whole(cut, s->id))
                size = s->size_bytes;
        } else if (sim_cut_fate(cut, s->id) == SIM_KEPT || hash_pair(s->id, ~cut->seed) & 1) {
            size = max_u64(size, s->size_bytes);
        }
    }
    inode->size_count = 0;
    inode->size_bytes = inode->durable_size_bytes = size;
    struct sim_page *next;
    for (struct sim_page *page = inode->dirty; page; page = next) {
        next = page->dirty_next;
        sim_cut_page(cut, page);
        memcpy(page->live, page->durable, SIM_PAGE_BYTES);
        sim_page_clean(inode, page);
    }
    struct sim_page *tail =
        size % SIM_PAGE_BYTES ? sim_page_find(inode, size / SIM_PAGE_BYTES) : NULL;
    if (tail)
        memset(tail->live + size % SIM_PAGE_BYTES, 0, SIM_PAGE_BYTES - size % SIM_PAGE_BYTES);
    sim_disk_unreserve(sim, inode, (size + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES);
}

void sim_cut_names(struct sim *sim, const struct sim_cut *cut) {
    uint8_t lost[SIM_NAMES_PENDING_MAX] = {0};
    for (uint32_t i = 0; i < sim->name_op_count; i++) {
        const struct sim_name_op *op = &sim->name_ops[i];
        lost[i] = !sim_cut_keeps_whole(cut, op->id);
        for (uint32_t k = 0; k < i && !lost[i]; k++)
            lost[i] = lost[k] && sim_names_touch(op, &sim->name_ops[k]);
        if (!lost[i])
            sim_name_apply(sim, op);
    }
    sim_name_ops_forget(sim);
    sim_names_drop_all(sim, &sim->live, 1);
    sim_names_sweep(sim);
}
