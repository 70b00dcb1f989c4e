/* SPDX-License-Identifier: Apache-2.0 */
#include "server/conn_slots.h"

LAYOUT_FIELDS(server, SERVER_FIELDS)
LAYOUT_FIELDS(listener, LISTENER_FIELDS)
LAYOUT_FIELDS(conn, CONN_FIELDS)

const struct arena_table_spec server_spec = TABLE_SPEC(server, TABLE_SERVER, 1);
const struct arena_table_spec listener_spec = TABLE_SPEC(listener, TABLE_LISTENER, 1);
const struct arena_table_spec conn_spec = TABLE_SPEC(conn, TABLE_CONN, CONN_VERSION);
