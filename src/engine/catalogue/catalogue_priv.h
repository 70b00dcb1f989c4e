/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside of the catalogue. A handler does the statements of one kind of request, between BEGIN and
 * COMMIT if it is a transaction, and returns 0 or what it refuses; failures of SQLite stick in
 * d->error and are found by the caller.
 */
#ifndef ENGINE_CATALOGUE_CATALOGUE_PRIV_H
#define ENGINE_CATALOGUE_CATALOGUE_PRIV_H

#include "engine/catalogue/catalogue.h"
#include "engine/catalogue/db.h"

typedef int catalogue_handler(struct db *d, struct catalogue_request *r);

catalogue_handler volume_create_row, volume_resize_row, volume_set_row, volume_delete_row,
    volume_undelete_row, volume_purge_row, volume_lost_row;
catalogue_handler image_open_rows, image_close_rows, image_promote_row, cold_start_rows;
catalogue_handler restore_rows, reference_row, mark_row, mark_delete_row, resolve_rows,
    mark_find_row;
catalogue_handler segments_free_rows, segments_forget_rows, snapshot_rows, dead_families_rows,
    list_marks_rows, list_stretches_rows;
catalogue_handler activity_rows, list_activity_rows, limits_rows, rate_rows;
catalogue_handler horizon_rows, segments_clean_rows, keeps_rows;

/* Fills detail and returns err. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int catalogue_refuse(struct catalogue_request *r, int err, const char *format, ...);

/* Fresh numbers; 0 after a failure. A timeline's family is its own id if family is 0. */
uint64_t catalogue_new_id(struct db *d);
int catalogue_new_timeline(struct db *d, struct catalogue_request *r, uint32_t family,
                           uint32_t parent, uint64_t fork_sequence, uint64_t first_sequence,
                           struct catalogue_timeline *out);
int catalogue_timeline(struct db *d, uint64_t id, struct catalogue_timeline *out);

/* Whether one more volume of this name may be: 0, or ERR_EXISTS, ERR_NOMEM with detail. */
int catalogue_name_free(struct db *d, struct catalogue_request *r, const char *name);
/* Whether there is room for `more` volumes or disks of images. */
int catalogue_room(struct db *d, struct catalogue_request *r, uint32_t more);

/* A volume with its present size and timeline: 0, or ERR_NOTFOUND with detail. The first takes those
 * in the trash, too. */
int catalogue_any_volume(struct db *d, struct catalogue_request *r, uint64_t id,
                         struct catalogue_object *out);
int catalogue_volume(struct db *d, struct catalogue_request *r, uint64_t id,
                     struct catalogue_object *out);

/* What the volume showed at a moment, into out->line and out->size_bytes: 0, or ERR_RANGE with
 * detail. */
int catalogue_volume_at(struct db *d, struct catalogue_request *r, uint64_t sequence,
                        struct catalogue_object *out);

/* The same for a moment that is to be opened: ERR_RANGE, too, if it is not promised (catalogue.h). */
int catalogue_promised(struct db *d, struct catalogue_request *r, uint64_t sequence,
                       struct catalogue_object *out);

/* Fills in the oldest promised moment of volume out->id. */
void catalogue_oldest(struct db *d, struct catalogue_object *out);

/* Forgets the stretches and sizes of a volume that no promised moment needs. */
void catalogue_trim(struct db *d, uint64_t volume);

/* The volume shows this timeline, and has this size, from `from_sequence` on. A row of the same
 * sequence is replaced: nothing was recorded in between. */
void catalogue_set_stretch(struct db *d, uint64_t volume, uint64_t from_sequence, uint32_t timeline,
                           uint64_t now_ns);
void catalogue_set_size(struct db *d, uint64_t volume, uint64_t from_sequence, uint64_t size_bytes);

#endif
