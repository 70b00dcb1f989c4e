/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of the catalogue; their making and migration. Private to this folder. */
#ifndef ENGINE_CATALOGUE_SCHEMA_H
#define ENGINE_CATALOGUE_SCHEMA_H

#include "engine/catalogue/db.h"

#define SCHEMA_APPLICATION_ID 0x50726463 /* "Prdc" */
#define SCHEMA_VERSION 3

/* Makes, migrates and checks what an open database holds; detail says what is wrong. now_ns: wall. */
int schema_check(struct db *d, const uint8_t store_id[16], int is_new, uint64_t now_ns,
                 char *detail, size_t room);

#endif
