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
    list_marks_rows, list_pins_rows, list_stretches_rows;
catalogue_handler activity_rows, list_activity_rows, limits_rows, rate_rows;
catalogue_handler horizon_rows, segments_clean_rows, keeps_rows;
catalogue_handler moment_row, nearest_rows;

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

/* The zones of a volume: from a sequence on, the moments of a step are promised, or all (0), as in the last one. No
 * zone at all: all are. */
#define ZONES_MAX 24
struct zone {
    uint64_t from;
    uint32_t step_s;
};
struct zones {
    uint32_t count;
    struct zone at[ZONES_MAX + 2];
};
void zones_read(struct db *d, uint64_t volume, struct zones *z);
uint32_t zones_step(const struct zones *z, uint64_t sequence);
/* From where on all moments are promised. */
uint64_t zones_fine(const struct zones *z);
/* As they are to be at this store time, by the volume's policy; whether that is another way than they are. */
int zones_age(struct db *d, uint64_t volume, uint64_t store_ns, struct zones *z);
/* Whether they promise this moment, which is not before the horizon. */
int zones_promise(struct db *d, uint64_t volume, const struct zones *z, uint64_t sequence);
/* The first promised moment that is not older; where nothing is thinned, that moment itself. */
void zones_first(struct db *d, uint64_t volume, const struct zones *z, uint64_t *sequence,
                 uint64_t *time_ns);
/* After the horizon has advanced. */
void zones_trim(struct db *d, uint64_t volume);
/* Forgets the chosen moments that no volume promises. */
void moments_forget(struct db *d);
/* Makes them as zones_age() says. */
void catalogue_thin(struct db *d, uint64_t volume, uint64_t store_ns);

void thinning_read(struct db *d, uint64_t volume, uint64_t levels[THINNING_LEVELS]);
void thinning_write(struct db *d, uint64_t volume, const uint64_t levels[THINNING_LEVELS]);

#define STEP_WORDS_BYTES 24
void catalogue_step_words(uint32_t step_s, char out[STEP_WORDS_BYTES]);
#define CATALOGUE_TIME_BYTES 40
void catalogue_time(struct db *d, uint64_t time_ns, char out[CATALOGUE_TIME_BYTES]);

/* Fills in the oldest promised moment of volume out->id, and from where on all are. */
void catalogue_oldest(struct db *d, struct catalogue_object *out);

/* Forgets the stretches and sizes of a volume that no promised moment needs. */
void catalogue_trim(struct db *d, uint64_t volume);

/* The volume shows this timeline, and has this size, from `from_sequence` on. A row of the same
 * sequence is replaced: nothing was recorded in between. */
void catalogue_set_stretch(struct db *d, uint64_t volume, uint64_t from_sequence, uint32_t timeline,
                           uint64_t now_ns);
void catalogue_set_size(struct db *d, uint64_t volume, uint64_t from_sequence, uint64_t size_bytes);

#endif
