/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activity: what clients did to each volume, second by second. It answers how much is written and how
 * fast, how well it compresses, and whether data is read and then overwritten all over (ransomware does);
 * and how far back a number of bytes goes, which is what a limit to history by bytes is made of.
 *
 * The present second of a volume is a slot of this table, counted in the turns that record. Now and then
 * those that are over go to the catalogue in one transaction (admin_activity.c), which keeps sums for
 * seconds, minutes and hours (catalogue/activity.c). What a cold start finds uncounted stays so: some
 * seconds before a power cut may be missing there, and their bytes.
 *
 *   (none) --a volume is written--> OPEN --another second, or it goes--> ENDED --a transaction takes it-->
 *   SENT --committed--> (none), or --refused--> ENDED
 *
 * A *clean* moment is one at which the volume was flushed, and not written for ACTIVITY_CLEAN_NS after: what
 * its users have brought to rest. A step tells the newest of its seconds.
 *
 * Invariants:
 *  1. A volume has at most one slot that is OPEN, and its slot names it.
 *  2. Slots are SENT only while an OPERATION_ACTIVITY is there, of which they are the rows.
 *  3. When the table is full, the OPEN slot of a volume counts on beyond its second: sums stay right.
 */
#ifndef ENGINE_ACTIVITY_H
#define ENGINE_ACTIVITY_H

#include "engine/slots.h"

enum activity_state { ACTIVITY_OPEN = 1, ACTIVITY_ENDED = 2, ACTIVITY_SENT = 3 };

/* What is counted, of each volume. X(name): enum, column and key have this name.
 *
 *   writes write_bytes      requests, and bytes as clients gave them
 *   recorded_bytes          data that the log took for them: whole blocks
 *   overwritten_bytes       written blocks that were known to hold data before
 *   reread_bytes            written blocks that had been read within the last minute
 *   trims trim_bytes, zeroes zero_bytes, flushes
 *   sampled_bytes packed_bytes   blocks of which the compressibility was tried, and what LZ4 made of them */
#define ACTIVITY_LIST(X)                                                                           \
    X(writes)                                                                                      \
    X(write_bytes)                                                                                 \
    X(recorded_bytes)                                                                              \
    X(overwritten_bytes)                                                                           \
    X(reread_bytes)                                                                                \
    X(trims)                                                                                       \
    X(trim_bytes)                                                                                  \
    X(zeroes)                                                                                      \
    X(zero_bytes)                                                                                  \
    X(flushes)                                                                                     \
    X(sampled_bytes)                                                                               \
    X(packed_bytes)

#define ACTIVITY_ENUM(name) ACTIVITY_##name,
enum activity_counter { ACTIVITY_LIST(ACTIVITY_ENUM) ACTIVITY_COUNTERS };

#define ACTIVITY_CLEAN_NS (100 * NS_PER_MS)

/* second: of the wall clock, since 1970; first_sequence, last_sequence, last_ns: of its records, 0 if there
 * are none; clean_sequence: of its newest clean moment, 0: none. */
#define ACTIVITY_FIELDS(F, A)                                                                      \
    F(uint64_t, volume_id)                                                                         \
    F(uint64_t, second)                                                                            \
    F(uint64_t, first_sequence)                                                                    \
    F(uint64_t, last_sequence)                                                                     \
    F(uint64_t, last_ns) /* wall time of the last */                                               \
    F(uint64_t, clean_sequence)                                                                    \
    A(uint64_t, counted, ACTIVITY_COUNTERS)
SLOT_STRUCT(activity, ACTIVITY_FIELDS)
SLOT_TABLE(activity, TABLE_ACTIVITY)

extern const struct arena_table_spec activity_spec;

/* The counters of this volume for this second, within a turn; NULL: it is an image, or there is no room. */
struct activity *activity_now(struct arena *a, struct volume_h v, uint64_t wall_ns);

/* A record, or a flush when `recorded` was the newest record, with the counters of this second. */
void activity_recorded(struct arena *a, struct volume_h v, struct activity *t, uint64_t sequence,
                       uint64_t wall_ns);
void activity_flushed(struct arena *a, struct volume_h v, struct activity *t, uint64_t recorded,
                      uint64_t wall_ns);

/* Ends what is OPEN and not of this second, or all, in as many slots as `max`. Returns how many are ENDED. */
uint32_t activity_end(struct arena *a, uint64_t wall_ns, int all, uint32_t max);

#endif
