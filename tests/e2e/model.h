/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each sector of a volume may hold, when many clients of one process write to it at once.
 *
 * A write gives all its sectors one stamp, a number that is used only once; a sector's content is a
 * function of its number and the stamp, and names both, so a wrong sector tells where it came from.
 * Stamp 0 is a sector of zeroes.
 *
 * A sector is an atomic register. Time is a counter that advances with each event that the clients
 * see. A value is written somewhere between `issued` and `done`. A read issued at t may return value v
 * unless it is superseded at t: there is a value w with w.issued > v.done and w.done < t. A read that
 * returns v shows that v is written, so its done is then at the latest now. That is exact as long as all
 * clients are in this process.
 *
 * A trim is advice about what is smaller than a block: there the sector may keep what it had. Such a value is
 * weak: it supersedes nothing.
 */
#ifndef E2E_MODEL_H
#define E2E_MODEL_H

#include <stdint.h>

#define SECTOR 512u
#define MODEL_NEVER UINT64_MAX
#define MODEL_VALUES 4

struct model_value {
    uint64_t stamp;
    uint64_t issued; /* MODEL_NEVER: this place is free */
    uint64_t done;   /* MODEL_NEVER: not known to be written */
    uint64_t weak;   /* 1: may have had no effect */
};

struct model_sector {
    struct model_value v[MODEL_VALUES];
};

struct model {
    uint64_t sectors;
    uint64_t clock;
    uint64_t last_stamp;
    struct model_sector *at;
};

/* All sectors hold zeroes. */
void model_open(struct model *m, uint64_t sectors);
/* What each sector holds, from a file and into one; only while nothing is being written. 0 or -1. */
int model_load(struct model *m, const char *path);
int model_save(const struct model *m, const char *path);

/* A write is issued: 0 if a sector has no place for another value. `oldest_read` is when the oldest
 * read under way that touches these sectors was issued (MODEL_NEVER: none). `block` is 1, or for a trim the
 * sectors of a block. Returns the time. */
uint64_t model_write(struct model *m, uint64_t first, uint64_t count, uint64_t stamp,
                     uint64_t oldest_read, uint64_t block);
/* The write issued at that time was answered. */
void model_written(struct model *m, uint64_t first, uint64_t count, uint64_t issued);

/* A read issued at `issued` returned this stamp: may it? */
int model_read(struct model *m, uint64_t sector, uint64_t stamp, uint64_t issued);
/* Nothing is under way, and the sector holds this. */
void model_settle(struct model *m, uint64_t sector, uint64_t stamp);

void sector_fill(uint8_t out[SECTOR], uint64_t sector, uint64_t stamp);
/* 0: these bytes are no content of this sector; *stamp and *home are then what they claim. */
int sector_identify(const uint8_t in[SECTOR], uint64_t sector, uint64_t *stamp, uint64_t *home);

#endif
