/* SPDX-License-Identifier: Apache-2.0 */
/* Faults that a test asks for, and the reading and writing that is subject to them: the same for
 * file calls and for the router. */
#include <string.h>

#include "base/err.h"
#include "plat/sim/sim_priv.h"

void sim_fault_add(struct sim *sim, const struct sim_fault *fault) {
    must(sim->fault_count < SIM_FAULTS_MAX);
    struct sim_fault_entry *e = &sim->faults[sim->fault_count++];
    *e = (struct sim_fault_entry){.fault = *fault};
    if (fault->path) {
        must(strlen(fault->path) < SIM_PATH_MAX);
        strcpy(e->path, fault->path);
    }
    if (e->fault.err == 0)
        e->fault.err = ERR_IO;
}

void sim_fault_clear(struct sim *sim) {
    sim->fault_count = 0;
}

uint64_t sim_fault_hits(const struct sim *sim) {
    return sim->fault_hits;
}

const struct sim_fault *sim_fault_hit(struct sim *sim, enum sim_fault_kind kind, const char *path,
                                      uint64_t offset, uint64_t bytes) {
    for (uint32_t i = 0; i < sim->fault_count; i++) {
        struct sim_fault_entry *e = &sim->faults[i];
        const struct sim_fault *f = &e->fault;
        if (f->kind != kind || (f->path && strcmp(e->path, path) != 0))
            continue;
        if (f->bytes > 0 &&
            (offset >= f->offset_bytes + f->bytes || offset + bytes <= f->offset_bytes))
            continue;
        uint64_t seen = e->seen++;
        if (seen < f->skip || (f->count > 0 && seen - f->skip >= f->count))
            continue;
        sim->fault_hits++;
        sim_note(sim, 'F', kind, offset);
        return f;
    }
    return NULL;
}

int64_t sim_store_read(struct sim *sim, struct sim_inode *inode, uint64_t offset, void *buf,
                       uint64_t bytes) {
    const struct sim_fault *f = sim_fault_hit(sim, SIM_READ_FAILS, inode->path, offset, bytes);
    if (f)
        return f->err;
    if (offset >= inode->size_bytes)
        return 0;
    bytes = min_u64(bytes, inode->size_bytes - offset);
    sim_disk_read(inode, offset, buf, bytes);
    f = bytes ? sim_fault_hit(sim, SIM_READ_FLIPS, inode->path, offset, bytes) : NULL;
    if (f) {
        uint64_t first = max_u64(offset, f->bytes ? f->offset_bytes : 0);
        uint64_t end = min_u64(offset + bytes, f->bytes ? f->offset_bytes + f->bytes : UINT64_MAX);
        uint64_t bit = prng_below(&sim->prng, (end - first) * 8);
        ((unsigned char *)buf)[first - offset + bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    return (int64_t)bytes;
}

/* A write that failed in the machine: any of its sectors may have been written. */
static void write_some(struct sim *sim, struct sim_inode *inode, uint64_t offset,
                       const unsigned char *from, uint64_t bytes) {
    uint64_t id = sim_new_id(sim);
    for (uint64_t at = 0; at < bytes;) {
        uint64_t n = min_u64(bytes - at, SECTOR_BYTES - (offset + at) % SECTOR_BYTES);
        if (prng_one_in(&sim->prng, 2) &&
            sim_disk_write(sim, inode, offset + at, from + at, n, 0, id) < 0)
            return;
        at += n;
    }
}

int64_t sim_store_write(struct sim *sim, struct sim_inode *inode, uint64_t offset, const void *buf,
                        uint64_t bytes, int durable) {
    const struct sim_fault *f = sim_fault_hit(sim, SIM_WRITE_FAILS, inode->path, offset, bytes);
    if (f) {
        if (f->err != ERR_NOSPC)
            write_some(sim, inode, offset, buf, bytes);
        return f->err;
    }
    if (sim_fault_hit(sim, SIM_WRITE_LOST, inode->path, offset, bytes))
        return (int64_t)bytes;
    uint64_t place = offset, done = bytes;
    if ((f = sim_fault_hit(sim, SIM_WRITE_MISDIRECTED, inode->path, offset, bytes)) != NULL)
        place = offset + (uint64_t)f->shift_bytes;
    if (bytes > SECTOR_BYTES && sim_fault_hit(sim, SIM_WRITE_SHORT, inode->path, offset, bytes))
        done = (1 + prng_below(&sim->prng, (bytes - 1) / SECTOR_BYTES)) * SECTOR_BYTES;
    int err = sim_disk_write(sim, inode, place, buf, done, durable, sim_new_id(sim));
    return err < 0 ? err : (int64_t)done;
}

int sim_corrupt(struct sim *sim, const char *path, uint64_t offset_bytes, uint8_t xor) {
    struct sim_inode *inode = sim_name_find(&sim->live, path);
    if (!inode)
        return ERR_NOTFOUND;
    if (offset_bytes >= inode->size_bytes)
        return ERR_RANGE;
    unsigned char byte;
    sim_disk_read(inode, offset_bytes, &byte, 1);
    byte ^= xor;
    sim_note(sim, 'X', offset_bytes, xor);
    return sim_disk_write(sim, inode, offset_bytes, &byte, 1, 1, sim_new_id(sim));
}
