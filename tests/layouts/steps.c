/* SPDX-License-Identifier: Apache-2.0 */
/* The way between the layouts of conn_versions.h. Version 2 knows 1, version 3 knows 2 and 1: a build knows its
 * past only. What a step can see to be wrong stops it. */
#include "base/err.h"
#include "conn_versions.h"
#include "server/perdured.h"

LAYOUT_PAST(conn_1, CONN_1_FIELDS, TABLE_CONN, 1)
LAYOUT_PAST(conn_2, CONN_2_FIELDS, TABLE_CONN, 2)

static int add_first(const void *from, void *to) {
    ((struct conn_2 *)to)->first_wall_ns = ((const struct conn_1 *)from)->accepted_wall_ns;
    return 0;
}

#if CONN_VERSION > 2
LAYOUT_PAST(conn_3, CONN_3_FIELDS, TABLE_CONN, 3)

static int widen_requests(const void *from, void *to) {
    const struct conn_2 *f = from;
    struct conn_3 *t = to;
    must(f->first_wall_ns == 0 || f->first_wall_ns == f->accepted_wall_ns);
    t->requests = f->requests;
    return 0;
}

static int narrow_requests(const void *from, void *to) {
    const struct conn_3 *f = from;
    struct conn_2 *t = to;
    t->first_wall_ns = f->accepted_wall_ns;
    t->requests = (uint32_t)f->requests;
    return f->requests > UINT32_MAX ? ERR_RANGE : 0;
}
#endif

static const struct arena_step steps[] = {
    {&conn_1_spec, &conn_2_spec, add_first},
    {&conn_2_spec, &conn_1_spec, NULL},
#if CONN_VERSION > 2
    {&conn_2_spec, &conn_3_spec, widen_requests},
    {&conn_3_spec, &conn_2_spec, narrow_requests},
#endif
};

const struct arena_steps perdured_steps = {.tables = steps,
                                           .table_count = sizeof steps / sizeof steps[0]};
