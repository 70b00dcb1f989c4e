/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A successor finds an arena of another layout. Which build can convert it (arena/convert.h):
 *
 *   an older arena   the successor: a build brings the steps from and to the layouts before it
 *   a newer arena    the program that made it: the successor starts that one as its child, which converts the
 *                    arena to the layout that the successor wants, and ends
 *
 * So a program needs to know its past only, and the way back exists for builds that are gone from everybody's
 * mind. The programs that can be asked are held open in the custody page.
 *
 *   before the gate   the conversion is tried on every slot, and the memory made large enough
 *   at the gate       the engine that serves ends its turn
 *   after the gate    the conversion is done; if it cannot be, the successor leaves, and the program of
 *                     before takes the arena over again as it was
 *
 * Custodian and child talk by one page of shared memory, frozen, whose descriptor stands in the child's
 * arguments: --convert=ARENA,PAGE.
 */
#ifndef SERVER_LAYOUTS_H
#define SERVER_LAYOUTS_H

#include <stddef.h>

#include "arena/convert.h"

struct core;

#define LAYOUT_ORDER_MAGIC UINT64_C(0x726564726f795250) /* "PRyorder" */
#define LAYOUT_ORDER_VERSION 1u

struct layout_order {
    uint64_t magic;
    uint32_t version;
    uint32_t run;   /* 0: only try */
    uint32_t slots; /* try each slot */
    int32_t result; /* 0, or an error of base/err.h; ERR_UNSUPPORTED until it is known */
    struct arena_identity want;
    /* The answer, of each part. */
    uint32_t part_count;
    uint32_t differs;
    struct arena_part_fit parts[2 * ARENA_PARTS_MAX];
};

/* The arena's layout is not the plan's. ARENA_QUALIFIES: it will be converted; else c->why has the reason. A
 * crashed arena need not be rolled back yet. */
enum arena_verdict layouts_prepare(struct core *c);

/* The arena is ours, and rolled back. Like layouts_prepare; ARENA_QUALIFIES: its layout is the plan's. */
enum arena_verdict layouts_convert(struct core *c);

/* What a conversion says of each part, in one line: only what is not the same. */
void layouts_describe(const struct arena_plan *plan, const struct arena_part_fit *parts,
                      uint32_t count, char *out, size_t room);
/* The name of a part that is a table of the plan; NULL: it has none. */
const char *layouts_part_name(const struct arena_plan *plan, const struct arena_part_fit *part);

/* Has `program` try or do a conversion of the arena to the plan's layout. The order is filled with its answer;
 * its result is returned. ERR_UNSUPPORTED: the program knows no way, or nothing of conversions. */
int layouts_ask(int program, int arena_fd, const struct arena_plan *plan, int run, int slots,
                struct layout_order *answer);

/* Of main(): whether the program was started to convert. Then its exit status is *status. */
int layouts_is_order(int argc, char **argv, const struct arena_steps *steps, int *status);

#endif
