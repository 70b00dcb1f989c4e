/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealing. While a segment's frames become durable, its notes collect what the footer will say. When
 * it is complete, the index makes the run, and a job writes run and footer: the run is durable
 * before the footer is written, so a footer that checks stands for a run that was written whole.
 *
 * A run never ends within a request: a power cut might cut the request's other half off, and with it
 * this one, which is not taken out of a run again.
 *
 * A segment that is not sealed loses nothing: it is scanned at the next cold start. A footer that
 * cannot be written is tried again.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/log_priv.h"

struct seal_job {
    struct job job;
    struct seal_job *next;
    struct log *l;
    struct file_system files;
    struct segment_h h;
    int running;
    void *run;
    struct segment_footer footer;
    uint32_t segment_bytes;
    int result;
};

static void note_sample(struct segment *s, struct segment_notes *notes, uint32_t segment_bytes,
                        const struct frame_header *fh) {
    uint32_t part = footer_part(segment_bytes, fh->offset);
    if (s->samples > 0 && footer_part(segment_bytes, notes->samples[s->samples - 1].offset) == part)
        return;
    must(s->samples < FOOTER_SAMPLES_MAX);
    notes->samples[s->samples++] = (struct footer_sample){.offset = fh->offset,
                                                          .sequence = fh->first_sequence,
                                                          .time_ns = fh->time_ns,
                                                          .wall_ns = fh->wall_ns};
}

/* Notes are beyond what is undone but for their counts; a list that forgets begins anew elsewhere, so
 * of a full one the last is left out. A frame that is older than the newest span has an older one. */
static void note_wall(struct segment *s, struct segment_notes *notes,
                      const struct wall_span *span) {
    uint32_t n = s->wall_spans;
    if (span->rate == 0 || n == FOOTER_WALL_MAX ||
        (n > 0 && notes->wall[n - 1].since_ns >= span->since_ns))
        return;
    notes->wall[n] = *span;
    s->wall_spans++;
}

void segment_note_frame(struct log *l, struct segment_h h, const struct frame_header *fh,
                        uint64_t last_sequence, uint64_t last_time_ns) {
    struct segment *s = segment_edit(l->a, h);
    if (s->frames++ == 0) {
        s->first_sequence = fh->first_sequence;
        s->first_time_ns = fh->time_ns;
        s->first_wall_ns = fh->wall_ns;
        s->first_epoch = fh->epoch;
        s->follows = fh->follows;
        s->previous_segment = fh->previous.segment;
        s->previous_offset = fh->previous.offset;
        s->previous_crc = fh->previous.crc;
    }
    /* A frame that follows a lower number than the first does says that a request was cut off which had begun
     * before the segment: the footer must tell it as well, when the frames are not read any more. */
    s->follows = min_u64(s->follows, fh->follows);
    /* Of a frame that was recovered, perhaps no record counts. */
    s->last_sequence = max_u64(max_u64(s->last_sequence, last_sequence), s->first_sequence);
    s->last_time_ns = last_time_ns;
    s->last_wall_ns = fh->wall_ns;
    s->last_epoch = fh->epoch;
    s->catalogue = max_u64(s->catalogue, fh->catalogue);
    s->last_frame_offset = fh->offset;
    s->last_frame_crc = fh->crc;
    s->data_end = fh->offset + fh->length_bytes;
    note_sample(s, segment_notes(l, s), log_segment_bytes(l), fh);
    note_wall(s, segment_notes(l, s), &fh->wall);
}

void segment_note_family(struct log *l, struct segment_h h, uint32_t family) {
    const struct segment *s = segment_view(l->a, h);
    struct segment_notes *notes = segment_notes(l, s);
    for (uint32_t i = s->families; i-- > 0;)
        if (notes->families[i] == family)
            return;
    if (s->families < FOOTER_FAMILIES_MAX)
        notes->families[segment_edit(l->a, h)->families++] = family;
    else if (!(s->flags & SEGMENT_MORE_FAMILIES))
        segment_edit(l->a, h)->flags |= SEGMENT_MORE_FAMILIES;
}

static int has_frames_pending(const struct log *l, struct segment_h h) {
    for (uint32_t i = 0; i < l->ring_count; i++)
        if (frame_view(l->a, ring_at(l, i))->segment_slot == h.v)
            return 1;
    return 0;
}

void segment_try_seal(struct log *l, struct segment_h h) {
    const struct segment *s = segment_view(l->a, h);
    if (s->slot.state != SEGMENT_OPEN || !(s->flags & SEGMENT_CLOSED) || has_frames_pending(l, h))
        return;
    if (s->frames == 0) {
        segment_abandon(l, h, 0);
        return;
    }
    if (s->last_sequence > root_view(l)->log_whole) {
        root_edit(l)->log_seal_waits = 1;
        return;
    }
    segment_set_state(l, h, SEGMENT_SEALING);
    l->env.index->seal(l->env.index_ctx, h, 0);
}

void seals_ask_waiting(struct log *l) {
    if (!root_view(l)->log_seal_waits)
        return;
    root_edit(l)->log_seal_waits = 0;
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h))
        segment_try_seal(l, h);
}

void seals_resume(struct log *l) {
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        if (segment_view(l->a, h)->slot.state == SEGMENT_SEALING)
            l->env.index->seal(l->env.index_ctx, h, 0);
        else
            segment_try_seal(l, h);
    }
}

static void footer_of(const struct log *l, const struct segment *s, struct segment_footer *f) {
    const struct segment_notes *notes = segment_notes(l, s);
    memset(f, 0, sizeof *f);
    memcpy(f->store_id, root_view(l)->store_id, STORE_ID_BYTES);
    f->flags = s->flags & SEGMENT_MORE_FAMILIES ? FOOTER_MORE_FAMILIES : 0;
    f->segment = s->number;
    f->file = s->file;
    f->data_end = s->data_end;
    f->first_sequence = s->first_sequence;
    f->last_sequence = s->last_sequence;
    f->first_time_ns = s->first_time_ns;
    f->last_time_ns = s->last_time_ns;
    f->first_wall_ns = s->first_wall_ns;
    f->last_wall_ns = s->last_wall_ns;
    f->first_epoch = s->first_epoch;
    f->last_epoch = s->last_epoch;
    f->frames = s->frames;
    f->records = s->records;
    f->blocks = s->blocks;
    f->sample_count = s->samples;
    f->family_count = s->families;
    f->previous = (struct frame_name){s->previous_segment, s->previous_offset, s->previous_crc};
    f->follows = s->follows;
    f->catalogue = s->catalogue;
    f->last_frame_offset = s->last_frame_offset;
    f->last_frame_crc = s->last_frame_crc;
    memcpy(f->families, notes->families, s->families * sizeof f->families[0]);
    memcpy(f->samples, notes->samples, s->samples * sizeof f->samples[0]);
    f->wall_count = s->wall_spans;
    memcpy(f->wall, notes->wall, s->wall_spans * sizeof f->wall[0]);
}

static int write_all(const struct seal_job *j, int file, const void *buf, uint32_t bytes,
                     uint64_t offset) {
    int64_t n = j->files.ops->write(j->files.ctx, file, buf, bytes, offset);
    return n == (int64_t)bytes ? 0 : n < 0 ? (int)n : ERR_IO;
}

static void seal_run(struct job *job) {
    struct seal_job *j = (struct seal_job *)job;
    const struct file_ops *ops = j->files.ops;
    uint8_t block[BLOCK_BYTES];
    char path[LOG_PATH_BYTES];
    log_slot_path(j->footer.file, path);
    int file = ops->open(j->files.ctx, path, FILE_WRITE);
    if (file < 0) {
        j->result = file;
        return;
    }
    int err = write_all(j, file, j->run, j->footer.run_bytes, j->footer.run_offset);
    if (err == 0)
        err = ops->sync(j->files.ctx, file);
    footer_encode(&j->footer, block);
    if (err == 0)
        err = write_all(j, file, block, BLOCK_BYTES, j->segment_bytes - BLOCK_BYTES);
    if (err == 0)
        err = ops->sync(j->files.ctx, file);
    ops->close(j->files.ctx, file);
    j->result = err;
}

static void seal_unlink(struct log *l, struct seal_job *j) {
    struct seal_job **at = &l->seals;
    while (*at != j)
        at = &(*at)->next;
    *at = j->next;
    free(j->run);
    free(j);
}

static void seal_done(struct job *job) {
    struct seal_job *j = (struct seal_job *)job;
    struct log *l = j->l;
    struct segment *s = segment_edit(l->a, j->h);
    j->running = 0;
    must(s->slot.state == SEGMENT_SEALING);
    if (j->result < 0) {
        s->attempts++;
        l->seal_retry_ns = l->mono_ns + LOG_RETRY_MAX_NS;
        log_alert(l, ALERT_ERROR, "segment_seal_failed",
                  "the footer of segment %u cannot be written: %s; it is tried again, and the next "
                  "start reads the segment itself",
                  s->number, err_text(j->result));
        return;
    }
    s->run_offset = j->footer.run_offset;
    s->run_bytes = j->footer.run_bytes;
    s->run_crc = j->footer.run_crc;
    s->versions = j->footer.versions;
    if (s->attempts > 0)
        log_alert_clear(l, "segment_seal_failed");
    s->attempts = 0;
    segment_release_notes(l, j->h);
    segment_set_state(l, j->h, SEGMENT_SEALED);
    l->env.index->sealed(l->env.index_ctx, j->h);
    seal_unlink(l, j);
}

static void seal_start(struct log *l, struct seal_job *j) {
    j->running = 1;
    log_start_job(l, &j->job);
}

void log_write_run(struct log *l, struct segment_h h, void *run, uint32_t bytes,
                   uint32_t versions) {
    const struct segment *s = segment_view(l->a, h);
    struct seal_job *j = calloc(1, sizeof *j);
    must(s->slot.state == SEGMENT_SEALING && j != NULL);
    j->job = (struct job){.run = seal_run, .done = seal_done};
    j->l = l;
    j->files = l->env.files;
    j->h = h;
    j->run = run;
    j->segment_bytes = log_segment_bytes(l);
    footer_of(l, s, &j->footer);
    uint32_t room = (uint32_t)round_up_u64(bytes, BLOCK_BYTES);
    must(room <= j->segment_bytes - BLOCK_BYTES - s->data_end);
    j->footer.run_offset = j->segment_bytes - BLOCK_BYTES - room;
    j->footer.run_bytes = bytes;
    j->footer.run_crc = crc32c(0, run, bytes);
    j->footer.versions = versions;
    j->next = l->seals;
    l->seals = j;
    seal_start(l, j);
}

/* What a cold start has read is all there: a segment with frames, but for that which goes on. */
static struct segment_h oldest_unsealed(const struct log *l, uint32_t above) {
    struct segment_h best = {0};
    uint32_t number = UINT32_MAX;
    for (struct segment_h h = segment_next(l->a, (struct segment_h){0}); h.v;
         h = segment_next(l->a, h)) {
        const struct segment *s = segment_view(l->a, h);
        if (s->slot.state != SEGMENT_OPEN || s->frames == 0 || s->number <= above ||
            s->number >= number || h.v == root_view(l)->log_append_segment ||
            s->last_sequence > root_view(l)->log_whole)
            continue;
        best = h;
        number = s->number;
    }
    return best;
}

int seal_one_now(struct log *l) {
    uint32_t tried = 0;
    struct segment_h h;
    must(!l->resumed);
    while ((h = oldest_unsealed(l, tried)).v) {
        struct segment *s = segment_edit(l->a, h);
        tried = s->number;
        s->flags |= SEGMENT_CLOSED;
        segment_set_state(l, h, SEGMENT_SEALING);
        log_start_commit(l, 1);
        l->env.index->seal(l->env.index_ctx, h, 1);
        log_start_commit(l, 1);
        if (segment_view(l->a, h)->slot.state == SEGMENT_SEALED)
            return 0;
        if (l->seals)
            return l->seals->result;
        segment_edit(l->a, h)->flags &= ~(uint32_t)SEGMENT_CLOSED;
        segment_set_state(l, h, SEGMENT_OPEN);
    }
    return ERR_AGAIN;
}

void seals_work(struct log *l) {
    if (l->seal_retry_ns == 0 || l->mono_ns < l->seal_retry_ns)
        return;
    l->seal_retry_ns = 0;
    for (struct seal_job *j = l->seals; j; j = j->next)
        if (!j->running)
            seal_start(l, j);
}

int seals_run(const struct log *l) {
    for (const struct seal_job *j = l->seals; j; j = j->next)
        if (j->running)
            return 1;
    return 0;
}

void seals_close(struct log *l) {
    while (l->seals)
        seal_unlink(l, l->seals);
}
