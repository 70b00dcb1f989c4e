/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: whether what lies in a store's files is whole, true and belongs together. Functions over files
 * and private memory; nothing is written but what CHECK_REPAIR allows, and data never are.
 *
 * check_slot() looks at one slot file by itself: header, frames, their chain, records, data, run, footer,
 * and all of these against each other. check_store() looks at a store that nobody uses: store header, all
 * slots, the chain over all of them, merged runs, and what the catalogue says of segments (the caller
 * reads it, since the catalogue has a library of its own).
 *
 * What does not count is not looked at, as nobody reads it either: room, freed segments, frames that no
 * later one follows, what stands behind the end of a run. A damaged byte there harms nothing.
 */
#ifndef ENGINE_CHECK_CHECK_H
#define ENGINE_CHECK_CHECK_H

#include <stdint.h>

#include "engine/log/recovery.h"
#include "plat/file.h"

enum check_code {
    CHECK_STORE_HEADER = 1, /* one of the two copies */
    CHECK_STORE_HEADERS,    /* both */
    CHECK_STORE_HEADER_OLD, /* older than the log */
    CHECK_FILE_READ,
    CHECK_FILE_SIZE,
    CHECK_FILE_FOREIGN, /* of another store, or of another name */
    CHECK_FILE_EXTRA,
    CHECK_FILE_STRAY, /* of work that was cut off */
    CHECK_SEGMENT_TWICE,
    CHECK_SEGMENT_HEADER,
    CHECK_FOOTER,
    CHECK_FOOTER_DISAGREES, /* with the frames */
    CHECK_FRAME,            /* its header or its records */
    CHECK_BLOCK,
    CHECK_RUN,
    CHECK_RUN_DISAGREES, /* with the frames */
    CHECK_CHAIN,         /* what another frame follows is not there */
    CHECK_LOG_END,       /* the log ends before its end */
    CHECK_MERGED,
    CHECK_MERGED_DISAGREES, /* with the runs of its segments */
    CHECK_CATALOGUE,
    CHECK_CATALOGUE_OLD,
    CHECK_CODES
};

enum check_grade {
    CHECK_NOTE,   /* harms nobody */
    CHECK_MENDED, /* the server makes it anew, or can do without; or it has been repaired */
    CHECK_DAMAGE, /* something is lost, or refused */
};

struct check_finding {
    enum check_code code;
    enum check_grade grade;
    const char *file; /* path in the store */
    uint64_t offset, bytes;
    uint32_t segment;                       /* 0: none */
    uint64_t first_sequence, last_sequence; /* records that are affected; 0: not known */
    uint32_t family;                        /* 0: not of one alone */
    const uint32_t *families; /* of a segment, as its footer lists them; 0 of them: not known */
    uint32_t family_count;
    uint64_t block; /* CHECK_BLOCK */
    int was_repaired;
};

/* What to say of a code: what is wrong; what to do. */
const char *check_name(enum check_code code);
const char *check_text(enum check_code code);
const char *check_advice(enum check_code code);

#define CHECK_REPAIR 1u /* what can be made of what is left, and is proven to be the same */
#define CHECK_ALONE 2u /* a server has the store: each file by itself, and as it lies on the disk */

struct check {
    /* Given: */
    struct file_system files;
    uint32_t flags;
    void (*found)(void *ctx, const struct check_finding *f);
    /* What the catalogue says; NULL: it is not known. */
    int (*segment_freed)(void *ctx, uint32_t segment);
    uint64_t (*sealed_up_to)(void *ctx);
    void *ctx;
    /* The answer: */
    uint64_t findings[CHECK_DAMAGE + 1]; /* by grade */
    uint64_t segments, frames, blocks, runs, merged, bytes;
    uint64_t catalogue;     /* the highest count of transactions that was named */
    uint64_t last_sequence; /* newest that counts */
    /* Its own: */
    uint8_t store_id[STORE_ID_BYTES];
    uint32_t segment_bytes;
    uint8_t *buffer; /* one segment */
    struct check_page *pages;
    struct recovery chain;
    struct check_sealed *sealed; /* by slot */
};

/* 0: all was looked at; or an error that kept it from that (ERR_NOTFOUND: no store; ERR_NOMEM; ERR_IO). */
int check_store(struct check *c);

/* The header of a store, alone: 0 or an error. */
int check_identity(const struct file_system *files, struct store_header *h);

/* For one slot after another, of a store whose identity is given. */
int check_begin(struct check *c, const struct store_header *h); /* ERR_NOMEM */
void check_end(struct check *c);
/* A sealed segment that is to lie in this slot; 0 or ERR_NOMEM. */
int check_slot(struct check *c, uint32_t file, uint32_t segment);
/* A merged run. */
int check_merged_file(struct check *c, const char *path);

#endif
