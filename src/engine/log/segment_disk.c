/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/log/segment_disk.h"

#include "base/err.h"

#define HEADER_MAGIC "PrdSegmt"
#define FOOTER_MAGIC "PrdFootr"
#define VERSION 1u
#define FAMILIES_OFFSET 256u
#define SAMPLES_OFFSET 512u
#define SAMPLE_BYTES 32u
#define WALL_OFFSET 2560u

void segment_header_encode(const struct segment_header *h, uint8_t *block) {
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, HEADER_MAGIC, 8);
    put_le16(block + 8, VERSION);
    memcpy(block + BLOCK_ID_OFFSET, h->store_id, STORE_ID_BYTES);
    put_le32(block + 32, h->segment);
    put_le32(block + 36, h->file);
    put_le64(block + 40, h->epoch);
    put_le64(block + 48, h->wall_ns);
    put_le32(block + 56, h->segment_bytes);
    block_finish(block);
}

int segment_header_decode(const uint8_t *block, struct segment_header *h) {
    if (!block_checks(block, HEADER_MAGIC))
        return ERR_FORMAT;
    if (get_le16(block + 8) != VERSION)
        return ERR_UNSUPPORTED;
    memcpy(h->store_id, block + BLOCK_ID_OFFSET, STORE_ID_BYTES);
    h->segment = get_le32(block + 32);
    h->file = get_le32(block + 36);
    h->epoch = get_le64(block + 40);
    h->wall_ns = get_le64(block + 48);
    h->segment_bytes = get_le32(block + 56);
    return h->segment != 0 ? 0 : ERR_FORMAT;
}

void footer_encode(const struct segment_footer *f, uint8_t *block) {
    memset(block, 0, BLOCK_BYTES);
    memcpy(block, FOOTER_MAGIC, 8);
    put_le16(block + 8, VERSION);
    put_le16(block + 10, (uint16_t)f->flags);
    memcpy(block + BLOCK_ID_OFFSET, f->store_id, STORE_ID_BYTES);
    put_le32(block + 32, f->segment);
    put_le32(block + 36, f->file);
    put_le32(block + 40, f->data_end);
    put_le32(block + 44, f->run_offset);
    put_le32(block + 48, f->run_bytes);
    put_le32(block + 52, f->run_crc);
    put_le32(block + 56, f->versions);
    put_le64(block + 64, f->first_sequence);
    put_le64(block + 72, f->last_sequence);
    put_le64(block + 80, f->first_time_ns);
    put_le64(block + 88, f->last_time_ns);
    put_le64(block + 96, f->first_wall_ns);
    put_le64(block + 104, f->last_wall_ns);
    put_le64(block + 112, f->first_epoch);
    put_le64(block + 120, f->last_epoch);
    put_le32(block + 128, f->frames);
    put_le32(block + 132, f->records);
    put_le32(block + 136, f->blocks);
    put_le32(block + 140, f->sample_count);
    put_le32(block + 144, f->family_count);
    put_le32(block + 148, f->previous.segment);
    put_le32(block + 152, f->previous.offset);
    put_le32(block + 156, f->previous.crc);
    put_le32(block + 160, f->last_frame_offset);
    put_le32(block + 164, f->last_frame_crc);
    put_le64(block + 168, f->follows);
    put_le64(block + 176, f->catalogue);
    for (uint32_t i = 0; i < f->family_count; i++)
        put_le32(block + FAMILIES_OFFSET + 4 * i, f->families[i]);
    for (uint32_t i = 0; i < f->sample_count; i++) {
        uint8_t *p = block + SAMPLES_OFFSET + SAMPLE_BYTES * i;
        put_le32(p, f->samples[i].offset);
        put_le64(p + 8, f->samples[i].sequence);
        put_le64(p + 16, f->samples[i].time_ns);
        put_le64(p + 24, f->samples[i].wall_ns);
    }
    put_le32(block + 184, f->wall_count);
    for (uint32_t i = 0; i < f->wall_count; i++)
        wall_span_encode(&f->wall[i], block + WALL_OFFSET + WALL_SPAN_BYTES * i);
    block_finish(block);
}

/* What a footer that checks must still satisfy, so that its users need no bounds of their own. */
static int footer_is_possible(const struct segment_footer *f, uint32_t segment_bytes) {
    uint32_t end = segment_bytes - BLOCK_BYTES;
    int cold = (f->flags & FOOTER_COLD) != 0;
    if (f->segment == 0 || (f->frames == 0) != cold || f->first_sequence > f->last_sequence ||
        f->first_time_ns > f->last_time_ns)
        return 0;
    if (f->data_end < SEGMENT_FRAMES_OFFSET || f->data_end % BLOCK_BYTES != 0 ||
        f->run_offset < f->data_end || f->run_offset > end || f->run_bytes > end - f->run_offset)
        return 0;
    if (cold)
        return f->run_bytes > 0 && f->sample_count == 0 && f->wall_count == 0;
    if (f->follows >= f->first_sequence || f->data_end == SEGMENT_FRAMES_OFFSET)
        return 0;
    if (f->last_frame_offset < SEGMENT_FRAMES_OFFSET || f->last_frame_offset >= f->data_end)
        return 0;
    for (uint32_t i = 0; i < f->sample_count; i++) {
        const struct footer_sample *s = &f->samples[i];
        if (s->offset < SEGMENT_FRAMES_OFFSET || s->offset > f->last_frame_offset ||
            s->offset % BLOCK_BYTES != 0 || (i > 0 && s->offset <= s[-1].offset) ||
            (i > 0 && s->sequence <= s[-1].sequence))
            return 0;
    }
    return 1;
}

int footer_decode(const uint8_t *block, uint32_t segment_bytes, struct segment_footer *f) {
    if (!block_checks(block, FOOTER_MAGIC))
        return ERR_FORMAT;
    if (get_le16(block + 8) != VERSION)
        return ERR_UNSUPPORTED;
    memset(f, 0, sizeof *f);
    f->flags = get_le16(block + 10);
    memcpy(f->store_id, block + BLOCK_ID_OFFSET, STORE_ID_BYTES);
    f->segment = get_le32(block + 32);
    f->file = get_le32(block + 36);
    f->data_end = get_le32(block + 40);
    f->run_offset = get_le32(block + 44);
    f->run_bytes = get_le32(block + 48);
    f->run_crc = get_le32(block + 52);
    f->versions = get_le32(block + 56);
    f->first_sequence = get_le64(block + 64);
    f->last_sequence = get_le64(block + 72);
    f->first_time_ns = get_le64(block + 80);
    f->last_time_ns = get_le64(block + 88);
    f->first_wall_ns = get_le64(block + 96);
    f->last_wall_ns = get_le64(block + 104);
    f->first_epoch = get_le64(block + 112);
    f->last_epoch = get_le64(block + 120);
    f->frames = get_le32(block + 128);
    f->records = get_le32(block + 132);
    f->blocks = get_le32(block + 136);
    f->sample_count = get_le32(block + 140);
    f->family_count = get_le32(block + 144);
    f->previous =
        (struct frame_name){get_le32(block + 148), get_le32(block + 152), get_le32(block + 156)};
    f->last_frame_offset = get_le32(block + 160);
    f->last_frame_crc = get_le32(block + 164);
    f->follows = get_le64(block + 168);
    f->catalogue = get_le64(block + 176);
    f->wall_count = get_le32(block + 184);
    if (f->sample_count > FOOTER_SAMPLES_MAX || f->family_count > FOOTER_FAMILIES_MAX ||
        f->wall_count > FOOTER_WALL_MAX)
        return ERR_FORMAT;
    for (uint32_t i = 0; i < f->family_count; i++)
        f->families[i] = get_le32(block + FAMILIES_OFFSET + 4 * i);
    for (uint32_t i = 0; i < f->sample_count; i++) {
        const uint8_t *p = block + SAMPLES_OFFSET + SAMPLE_BYTES * i;
        f->samples[i] = (struct footer_sample){get_le32(p), 0, get_le64(p + 8), get_le64(p + 16),
                                               get_le64(p + 24)};
    }
    for (uint32_t i = 0; i < f->wall_count; i++)
        if (!wall_span_decode(block + WALL_OFFSET + WALL_SPAN_BYTES * i, &f->wall[i]))
            return ERR_FORMAT;
    return footer_is_possible(f, segment_bytes) ? 0 : ERR_FORMAT;
}
