/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeline: the slots of volumes (TABLE_VOLUME: volumes, those in the trash too, and the disks of
 * open images) and of timelines (TABLE_TIMELINE), as the catalogue has them. The catalogue is the
 * truth; the slots are what requests, look-ups and lists read.
 *
 * Uses base, plat, arena; the catalogue's types. Reads no file.
 *
 * Every timeline that the catalogue calls live has a slot, whether a disk shows it or not: images,
 * restores and references of old moments need their parents. Who frees a slot knows that no look-up
 * is under way on it (admin: nobody uses the disk, and it is quiet).
 */
#ifndef ENGINE_TIMELINE_VOLUMES_H
#define ENGINE_TIMELINE_VOLUMES_H

#include <stdint.h>

#include "engine/catalogue/catalogue.h"
#include "engine/slots.h"

extern const struct arena_table_spec timeline_spec;
extern const struct arena_table_spec volume_spec;

/* A volume by name, whatever its state but CREATING; 0: there is none. */
struct volume_h volumes_find(const struct arena *a, const char *name);

/* The disk of image `image` that shows volume `volume`; 0: there is none. */
struct volume_h volumes_find_image(const struct arena *a, const char *volume, const char *image);

/* A volume or a disk of an image by the catalogue's id. */
struct volume_h volumes_find_id(const struct arena *a, uint64_t id);

/* Whether writes to it that were answered may be lost with the log's tail. A read-only image shows a
 * moment that was durable before it was opened: it is whole. */
int volume_may_lose(const struct volume *v);

/* Puts a row into a slot: `line` its timeline. The state follows from the row; its oldest moment
 * too, if the row has it: else it stays. */
void volumes_fill(struct arena *a, struct volume_h h, const struct catalogue_object *row,
                  struct timeline_h line);

/* Makes a slot in state CREATING the live timeline of that row. */
void timelines_fill(struct arena *a, struct timeline_h h, const struct catalogue_timeline *row);

/* Frees the slots of a family whose data nobody needs, at most `max` in this turn; returns how many.
 */
uint32_t timelines_bury(struct arena *a, uint32_t family, uint32_t max);

/* At a cold start: slots for everything in the snapshot, in as many turns as it takes. */
struct volumes_load {
    const struct catalogue_snapshot *snapshot;
    struct timeline_h *lines; /* slots of its timelines */
    uint32_t done;
};
int volumes_load_begin(struct volumes_load *l, const struct catalogue_snapshot *snapshot);

/* 1: commit and call again; 0: all is there; ERR_NOMEM: a table is too small; ERR_INTEGRITY: the
 * rows contradict each other. */
int volumes_load_turn(struct volumes_load *l, struct arena *a);
void volumes_load_end(struct volumes_load *l);

#endif
