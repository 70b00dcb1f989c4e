/* SPDX-License-Identifier: Apache-2.0 */
/* What the server expects of its arena: all tables and regions, and how large they are. */
#include <string.h>

#include "engine/activity.h"
#include "engine/timeline/volumes.h"
#include "server/perdured.h"
#include "server/trace.h"

#define CONSTANTS_BYTES 4096u

/* What an entry of the undo log takes beside the bytes that it saves, at most. */
#define UNDO_ENTRY_BYTES 48u

/* A turn may end all connections of a volume with all their requests: each slot is saved once. */
static uint64_t undo_bytes(const struct config *c) {
    uint64_t requests = c->requests * (sizeof(struct request) + UNDO_ENTRY_BYTES);
    uint64_t connections =
        c->connections * (sizeof(struct conn) + sizeof(struct nbd) + sizeof(struct tls) +
                          sizeof(struct tls_keys) + 4 * UNDO_ENTRY_BYTES);
    return round_up_u64(4 * MIB + requests + connections, MIB);
}

const struct arena_plan *perdured_plan(const struct config *c) {
    static struct arena_table_plan tables[ARENA_TABLES_MAX];
    static struct arena_region_plan regions[5];
    static struct arena_plan plan;
    const struct arena_table_plan t[] = {
        {&server_spec, 1},
        {&listener_spec, CONFIG_LISTENERS_MAX},
        {&conn_spec, (uint32_t)c->connections},
        {&nbd_spec, (uint32_t)c->connections},
        {&tls_spec, (uint32_t)c->connections},
        {&tls_keys_spec, (uint32_t)c->connections},
        {&request_spec, (uint32_t)c->requests},
        {&io_spec, 8192},
        {&lane_spec, 4},
        {&engine_spec, 1},
        {&volume_spec, CATALOGUE_OBJECTS_MAX},
        {&timeline_spec, CATALOGUE_TIMELINES_MAX},
        {&segment_spec, (uint32_t)c->segments},
        {&frame_spec, LOG_FRAMES_MAX},
        {&wall_spec, 1},
        {&memtable_spec, PERDURED_MEMTABLES},
        {&operation_spec, 256},
        {&activity_spec, PERDURED_ACTIVITIES},
    };
    const struct arena_region_plan r[] = {
        {REGION_BUFFERS, 1, c->buffer_bytes, 2 * MIB},
        {REGION_MEMTABLES, 1,
         index_memtable_region_bytes(PERDURED_MEMTABLES, LOG_SEGMENT_RECORDS,
                                     LOG_SEGMENT_BYTES / BLOCK_BYTES),
         2 * MIB},
        {REGION_BLOCK_TABLE, 1, c->block_table_bytes, 2 * MIB},
        {REGION_TRACE, 1, SERVER_TRACE_BYTES, 64},
        {REGION_CONSTANTS, 1, CONSTANTS_BYTES, 64},
    };
    memcpy(tables, t, sizeof t);
    memcpy(regions, r, sizeof r);
    plan = (struct arena_plan){.tables = tables,
                               .table_count = sizeof t / sizeof t[0],
                               .regions = regions,
                               .region_count = sizeof r / sizeof r[0],
                               .undo_bytes = undo_bytes(c),
                               .steps = &perdured_steps};
    return &plan;
}
