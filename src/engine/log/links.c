/* SPDX-License-Identifier: Apache-2.0 */
/* Slots and links as a start and the check of a stopped store both see them. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/log/log_priv.h"
#include "engine/log/recovery.h"

int slot_of_name(const char *name, uint32_t *file) {
    char again[LOG_PATH_BYTES];
    unsigned number;
    if (sscanf(name, "slot-%8u", &number) != 1)
        return 0;
    log_slot_path(number, again);
    *file = number;
    return strcmp(again + sizeof LOG_DIR, name) == 0;
}

struct link *link_add(struct link **links, uint32_t *count, uint32_t *room) {
    if (*count == *room) {
        uint32_t more = *room ? 2 * *room : 1024;
        struct link *grown = realloc(*links, more * sizeof *grown);
        if (!grown)
            return NULL;
        *links = grown;
        *room = more;
    }
    struct link *k = &(*links)[(*count)++];
    memset(k, 0, sizeof *k);
    return k;
}

struct link link_of_frame(uint32_t slot, const struct frame_header *h) {
    return (struct link){.slot = slot,
                         .segment = h->segment,
                         .offset = h->offset,
                         .previous = h->previous,
                         .name = frame_name_of(h),
                         .follows = h->follows,
                         .first_sequence = h->first_sequence,
                         .last_sequence = frame_last_sequence(h),
                         .keep_to = frame_last_sequence(h),
                         .first_epoch = h->epoch,
                         .last_epoch = h->epoch,
                         .durable = h->durable,
                         .last_time_ns = h->time_ns,
                         .end = h->offset + h->length_bytes};
}

struct link link_of_footer(uint32_t slot, const struct segment_footer *f) {
    return (struct link){.slot = slot,
                         .sealed = 1,
                         .segment = f->segment,
                         .previous = f->previous,
                         .name = {f->segment, f->last_frame_offset, f->last_frame_crc},
                         .follows = f->follows,
                         .first_sequence = f->first_sequence,
                         .last_sequence = f->last_sequence,
                         .keep_to = f->last_sequence,
                         .first_epoch = f->first_epoch,
                         .last_epoch = f->last_epoch,
                         .durable = f->last_sequence,
                         .last_time_ns = f->last_time_ns,
                         .end = f->data_end};
}

static int by_file(const void *a, const void *b) {
    const struct scanned_slot *x = a, *y = b;
    return x->file < y->file ? -1 : x->file > y->file;
}

static int by_place(const void *a, const void *b) {
    const struct link *x = a, *y = b;
    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

void recovery_sort_slots(struct recovery *r) {
    if (r->slot_count > 1)
        qsort(r->slots, r->slot_count, sizeof *r->slots, by_file);
}

void recovery_sort_links(struct recovery *r) {
    if (r->link_count > 1)
        qsort(r->links, r->link_count, sizeof *r->links, by_place);
}
