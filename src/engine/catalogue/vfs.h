/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's view of files, made of plat/file.h, so that the simulator's power cuts hit the catalogue
 * as they hit the log. One instance a catalogue; it is registered with SQLite from open to close.
 *
 * The store has one lock of its own, so there are no locks here, no shared memory, no mapping and
 * no temporary files.
 *
 * Every page of the database ends in a checksum (SQLite leaves VFS_TAIL_BYTES free for it), which is
 * checked on each read; so is the page that a rollback journal gives back:
 *
 *   offset 4088  4  CRC-32C of the page number (32 bits, little endian) and bytes 0..4087
 *   offset 4092  4  VFS_TAIL_MAGIC
 */
#ifndef ENGINE_CATALOGUE_VFS_H
#define ENGINE_CATALOGUE_VFS_H

#include <stdint.h>

#include "plat/clock.h"
#include "plat/file.h"
#include "plat/random.h"

#define VFS_PAGE_BYTES 4096
#define VFS_TAIL_BYTES 8
#define VFS_TAIL_MAGIC UINT32_C(0x50637264)

struct catalogue_vfs;

/* Registers a file system with SQLite; NULL: no memory. */
struct catalogue_vfs *catalogue_vfs_open(struct file_system files, struct clock clock,
                                         struct random_source random);
/* No database of it is open any more. */
void catalogue_vfs_close(struct catalogue_vfs *v);

/* What sqlite3_open_v2 knows it by. */
const char *catalogue_vfs_name(const struct catalogue_vfs *v);

/* The file system's own error behind the last failure that SQLite reported, 0: none; reading it
 * clears it. */
int catalogue_vfs_error(struct catalogue_vfs *v);

#endif
