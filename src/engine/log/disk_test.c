/* SPDX-License-Identifier: Apache-2.0 */
/* The formats: what is written is read, and no damaged byte passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/prng.h"
#include "engine/log/frame_disk.h"
#include "engine/log/segment_disk.h"
#include "engine/log/store_disk.h"

#define SEGMENT_BYTES (64u << 20)

/* Every byte of a block is flipped in turn; no such block may decode. */
static void no_flip_passes(uint8_t *block, int (*decode)(const uint8_t *block)) {
    assert_int_equal(decode(block), 0);
    for (uint32_t i = 0; i < BLOCK_BYTES; i++) {
        uint8_t bit = (uint8_t)(1u << i % 8);
        block[i] ^= bit;
        assert_true(decode(block) < 0);
        block[i] ^= bit;
    }
}

static const struct store_header store = {.id = "0123456789abcde",
                                          .counter = 7,
                                          .features_ignore = 1,
                                          .epoch = 42,
                                          .segment_bytes = SEGMENT_BYTES,
                                          .segment_records = 65536,
                                          .created_ns = 5,
                                          .ended = {41, 17, 4096 * 9, 1234567},
                                          .state = STORE_STOPPED,
                                          .numbers_above = UINT64_C(1) << 40,
                                          .store_time_ns = 6,
                                          .wall_time_ns = 8,
                                          .catalogue = 9,
                                          .left_out = 10,
                                          .scrub = {11, 12, 13, 14, 15, 16, 17}};

static int store_decodes(const uint8_t *block) {
    struct store_header h;
    return store_decode(block, &h);
}

static void a_store_header_is_read_back(void **state) {
    uint8_t block[BLOCK_BYTES];
    struct store_header h = {0};
    store_encode(&store, block);
    assert_int_equal(store_decode(block, &h), 0);
    assert_memory_equal(&h, &store, sizeof h);
    no_flip_passes(block, store_decodes);
}

static void features_refuse_or_make_read_only(void **state) {
    static const struct {
        uint64_t refuse, read_only, ignore;
        int err;
    } cases[] = {
        {0, 0, 0, 0},
        {0, 0, UINT64_C(1) << 63, 0},
        {0, 1, 0, ERR_READONLY},
        {1, 0, 0, ERR_UNSUPPORTED},
        {UINT64_C(1) << 63, 1, 1, ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t block[BLOCK_BYTES];
        struct store_header h = store;
        h.features_refuse = cases[i].refuse;
        h.features_read_only = cases[i].read_only;
        h.features_ignore = cases[i].ignore;
        store_encode(&h, block);
        assert_int_equal(store_decode(block, &h), cases[i].err);
    }
}

static void the_newer_of_two_copies_counts(void **state) {
    static const struct {
        uint64_t counter[2];
        int damaged[2];
        int err;
        uint64_t expect;
    } cases[] = {
        {{4, 5}, {0, 0}, 0, 5},
        {{6, 5}, {0, 0}, 0, 6},
        {{6, 5}, {1, 0}, 0, 5},
        {{4, 5}, {0, 1}, 0, 4},
        {{4, 5}, {1, 0}, 0, 5},
        {{4, 5}, {1, 1}, ERR_FORMAT, 0},
        {{UINT64_MAX, 5}, {0, 0}, 0, ~UINT64_C(0)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t blocks[2 * BLOCK_BYTES];
        struct store_header h = store;
        for (int c = 0; c < 2; c++) {
            h.counter = cases[i].counter[c];
            store_encode(&h, blocks + c * BLOCK_BYTES);
            blocks[c * BLOCK_BYTES + 1000] ^= (uint8_t)cases[i].damaged[c];
        }
        assert_int_equal(store_decode_copies(blocks, &h), cases[i].err);
        if (cases[i].err == 0)
            assert_int_equal(h.counter, cases[i].expect);
    }
}

static void a_later_version_is_not_outvoted(void **state) {
    uint8_t blocks[2 * BLOCK_BYTES];
    struct store_header h = store;
    store_encode(&h, blocks);
    h.counter--;
    store_encode(&h, blocks + BLOCK_BYTES);
    put_le32(blocks + BLOCK_BYTES + 8, STORE_VERSION + 1);
    block_finish(blocks + BLOCK_BYTES);
    assert_int_equal(store_decode_copies(blocks, &h), ERR_UNSUPPORTED);
}

static int segment_header_decodes(const uint8_t *block) {
    struct segment_header h;
    return segment_header_decode(block, &h);
}

static void a_segment_header_is_read_back(void **state) {
    static const struct segment_header in = {"id", 9, 3, 42, 77, SEGMENT_BYTES};
    struct segment_header out = {0};
    uint8_t block[BLOCK_BYTES];
    segment_header_encode(&in, block);
    assert_int_equal(segment_header_decode(block, &out), 0);
    assert_memory_equal(&in, &out, sizeof in);
    no_flip_passes(block, segment_header_decodes);
}

static struct segment_footer a_footer(void) {
    struct segment_footer f = {.store_id = "id",
                               .flags = FOOTER_MORE_FAMILIES,
                               .segment = 9,
                               .file = 3,
                               .data_end = 4096 * 100,
                               .run_offset = SEGMENT_BYTES - 4096 * 3,
                               .run_bytes = 8000,
                               .run_crc = 0xdeadbeef,
                               .versions = 50,
                               .first_sequence = 1000,
                               .last_sequence = 1100,
                               .first_time_ns = 20,
                               .last_time_ns = 30,
                               .first_wall_ns = 40,
                               .last_wall_ns = 39,
                               .first_epoch = 3,
                               .last_epoch = 4,
                               .frames = 10,
                               .records = 101,
                               .blocks = 80,
                               .sample_count = FOOTER_SAMPLES_MAX,
                               .family_count = FOOTER_FAMILIES_MAX,
                               .previous = {8, 4096, 0x1234},
                               .follows = 998,
                               .last_frame_offset = 4096 * 90,
                               .last_frame_crc = 0x5678,
                               .catalogue = 70,
                               .wall_count = FOOTER_WALL_MAX};
    for (uint32_t i = 0; i < 64; i++) {
        f.families[i] = i * 7;
        f.samples[i] = (struct footer_sample){4096 * (i + 1), 0, 1000 + i, 20 + i, 40};
    }
    for (uint32_t i = 0; i < FOOTER_WALL_MAX; i++)
        f.wall[i] = (struct wall_span){1000 + i, 2000 + i, 990 + i, 1 + i % 3, 0};
    return f;
}

static int footer_decodes(const uint8_t *block) {
    struct segment_footer f;
    return footer_decode(block, SEGMENT_BYTES, &f);
}

static void a_footer_is_read_back(void **state) {
    struct segment_footer in = a_footer(), out;
    uint8_t block[BLOCK_BYTES];
    footer_encode(&in, block);
    assert_int_equal(footer_decode(block, SEGMENT_BYTES, &out), 0);
    assert_memory_equal(&in, &out, sizeof in);
    no_flip_passes(block, footer_decodes);
}

static void an_impossible_footer_is_refused(void **state) {
    static const struct {
        uint32_t at, bytes;
        uint64_t value;
    } cases[] = {
        {32, 4, 0},                    /* no segment */
        {40, 4, 4096},                 /* no frames */
        {40, 4, 4096 * 100 + 512},     /* not a page */
        {44, 4, 4096 * 99},            /* the run in the frames */
        {44, 4, 0xfffff000},           /* behind the slot */
        {48, 4, 4096 * 2 + 1},         /* over the footer */
        {64, 8, 1101},                 /* first after last */
        {168, 8, 1000},                /* follows itself */
        {80, 8, 31},                   /* time runs back */
        {128, 4, 0},                   /* no frames */
        {140, 4, 65},                  /* too many samples */
        {144, 4, 65},                  /* too many families */
        {160, 4, 4096 * 100},          /* the last frame behind the end */
        {512, 4, 4096 * 2},            /* samples out of order */
        {512 + 32, 4, 4097},           /* not a page */
        {512 + 63 * 32, 4, 4096 * 95}, /* behind the last frame */
        {512 + 63 * 32 + 8, 8, 1000},  /* sequences out of order */
    };
    struct segment_footer f = a_footer();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t block[BLOCK_BYTES];
        footer_encode(&f, block);
        if (cases[i].bytes == 4)
            put_le32(block + cases[i].at, (uint32_t)cases[i].value);
        else
            put_le64(block + cases[i].at, cases[i].value);
        block_finish(block);
        assert_int_equal(footer_decode(block, SEGMENT_BYTES, &f), ERR_FORMAT);
        f = a_footer();
    }
}

/* Records: first what the table says, then at random. */

static const uint32_t crcs[RECORD_BLOCKS_MAX] = {1, 0xffffffff, 3};

static void same_record(const struct record *a, const struct record *b) {
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->timeline, b->timeline);
    assert_int_equal(a->family, b->family);
    assert_int_equal(a->start_sector, b->start_sector);
    assert_int_equal(a->sectors, b->sectors);
    assert_int_equal(a->block, b->block);
    assert_int_equal(a->blocks, b->blocks);
    assert_int_equal(a->delta_us, b->delta_us);
    assert_int_equal(a->source, b->source);
    assert_int_equal(a->source_number, b->source_number);
    assert_int_equal(a->ref_timeline, b->ref_timeline);
    assert_int_equal(a->ref_sequence, b->ref_sequence);
}

static void records_are_read_back(void **state) {
    static const struct {
        struct record r;
        uint32_t bytes;
    } cases[] = {
        {{PLACE_DATA, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, 36},
        {{PLACE_DATA, RECORD_MORE, 5, 5, 9, 1, 1, 1, 9, 2, 3, 0, 0}, 36},
        {{PLACE_DATA, RECORD_REPLAYED, 5, 5, 15, 2, 1, 2, 0, 0, UINT64_MAX, 0, 0}, 40},
        {{PLACE_DATA, 0, 5, 6, 0, 248 * 8, 0, 248, UINT32_MAX, 0, 0, 0, 0}, 36 + 248 * 4},
        {{PLACE_DATA, 3, 5, 6, 0, 4, 77, 248, 1, 1, 1, 0, 0}, RECORD_BYTES_MAX},
        {{PLACE_ZERO, 0, 5, 5, 16, 800, 2, 100, 1, 1, 1, 0, 0}, 32},
        {{PLACE_ZERO, 0, 5, 5, 15, 802, 2, 100, 1, 1, 1, 0, 0}, 56}, /* a trim's inner blocks */
        {{PLACE_HOLE, 0, 5, 5, 0, UINT64_C(1) << 40, 0, UINT64_C(1) << 37, 1, 1, 1, 0, 0}, 56},
        {{PLACE_HOLE, 0, 5, 9, 0, 0, 10, 20, 1, 1, 1, 0, 0}, 60}, /* nobody asked */
        {{PLACE_REFERENCE, 0, 5, 5, 0, 8, 0, 1, 1, 1, 1, 4, UINT64_C(1) << 50}, 44},
        {{PLACE_REFERENCE, 0, 5, 1, 0, 9, 0, 1, 1, 1, 1, 4, 3}, 72},
        {{PLACE_ZERO, 0, 5, 5, RECORD_SECTOR_MAX - 7, 7, RECORD_SECTOR_MAX / 8, 1, 0, 0, 0, 0, 0},
         32},
        {{PLACE_SAME, 0, 5, 5, 16, 248 * 8, 2, 0, 1, 1, 1, 0, 0}, 32},
        {{PLACE_SAME, 0, 5, 6, 16, 8, 2, 0, 1, 1, 1, 0, 0}, 36},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t at[RECORD_BYTES_MAX];
        struct record r;
        uint32_t crc[RECORD_BLOCKS_MAX], n = cases[i].bytes;
        assert_int_equal(record_check(&cases[i].r), 0);
        assert_int_equal(record_bytes(&cases[i].r), n);
        assert_int_equal(record_encode(&cases[i].r, crcs, at), n);
        for (uint32_t room = 0; room < n; room++)
            assert_int_equal(record_decode(at, room, &r, crc), ERR_FORMAT);
        assert_int_equal(record_decode(at, n, &r, crc), n);
        same_record(&r, &cases[i].r);
        assert_memory_equal(crc, crcs, 4 * record_pages(&r));
    }
}

static void impossible_records_are_refused(void **state) {
    static const struct {
        struct record r;
        int err;
    } cases[] = {
        {{PLACE_UNKNOWN, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_DATA, 0, 0, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_DATA, 0, 5, 0, 8, 8, 1, 1, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_DATA, 4, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_ZERO, 0, 5, 5, 8, 8, 1, 0, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_SAME, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, ERR_INVAL},
        {{PLACE_DATA, 0, 5, 5, 8, 249 * 8, 1, 249, 9, 2, 3, 0, 0}, ERR_TOOBIG},
        {{PLACE_ZERO, 0, 5, 5, RECORD_SECTOR_MAX + 1, 0, 0, 1, 9, 2, 3, 0, 0}, ERR_RANGE},
        {{PLACE_ZERO, 0, 5, 5, 1, RECORD_SECTOR_MAX, 0, 1, 9, 2, 3, 0, 0}, ERR_RANGE},
        {{PLACE_ZERO, 0, 5, 5, 0, 1, 1, RECORD_SECTOR_MAX / 8 + 1, 9, 2, 3, 0, 0}, ERR_RANGE},
        {{PLACE_ZERO, 0, 5, 5, 0, 1, UINT64_MAX, 2, 9, 2, 3, 0, 0}, ERR_RANGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(record_check(&cases[i].r), cases[i].err);
    uint8_t at[RECORD_BYTES_MAX];
    struct record ok = {PLACE_DATA, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0}, r;
    uint32_t crc[RECORD_BLOCKS_MAX];
    static const uint8_t kinds[] = {0, 6, 7, 255}, flags[] = {16, 32, 64, 128};
    for (int i = 0; i < 4; i++) {
        record_encode(&ok, crcs, at);
        at[4] = kinds[i];
        assert_int_equal(record_decode(at, sizeof at, &r, crc), ERR_FORMAT);
        record_encode(&ok, crcs, at);
        at[5] |= flags[i];
        assert_int_equal(record_decode(at, sizeof at, &r, crc), ERR_FORMAT);
    }
}

/* Random bytes are refused or decoded to a record that may be written down; no bound is left. */
static void any_bytes_may_stand_in_a_record(void **state) {
    struct prng p = prng_seed(1);
    int decoded = 0;
    for (int i = 0; i < 200000; i++) {
        uint8_t again[RECORD_BYTES_MAX];
        uint32_t room = (uint32_t)prng_below(&p, 80), crc[RECORD_BLOCKS_MAX];
        uint8_t *at = malloc(room + 1);
        struct record r;
        for (uint32_t k = 0; k < room; k++)
            at[k] = prng_one_in(&p, 2) ? 0 : (uint8_t)prng_next(&p);
        if (room > 5) {
            at[4] = (uint8_t)prng_below(&p, 7);
            at[5] = (uint8_t)prng_below(&p, 18);
        }
        int n = record_decode(at, room, &r, crc);
        if (n > 0) {
            decoded++;
            assert_true((uint32_t)n <= room);
            assert_int_equal(record_check(&r), 0);
            assert_true(record_encode(&r, crc, again) <= RECORD_BYTES_MAX);
        } else {
            assert_int_equal(n, ERR_FORMAT);
        }
        free(at);
    }
    assert_true(decoded > 1000);
}

/* Frames: built here the way the writer does, from rules in formats.md. */

struct built {
    uint8_t pages[FRAME_PAGES_MAX][BLOCK_BYTES];
    uint32_t used[FRAME_PAGES_MAX]; /* bytes of records in a record block */
    uint32_t record_block[FRAME_PAGES_MAX];
    uint32_t record_blocks;
    struct frame_header h;
};

static void frame_begin(struct built *b) {
    memset(b, 0, sizeof *b);
    b->record_blocks = 1;
    b->h = (struct frame_header){.store_id = "id",
                                 .segment = 9,
                                 .offset = 8192,
                                 .length_bytes = BLOCK_BYTES,
                                 .epoch = 42,
                                 .previous = {9, 4096, 0x777},
                                 .follows = 999,
                                 .first_sequence = 1000,
                                 .durable = 999,
                                 .time_ns = 5,
                                 .wall_ns = 6,
                                 .catalogue = 71,
                                 .wall = {4, 3, 2, WALL_FASTER, 0}};
}

static int frame_add(struct built *b, const struct record *r) {
    uint32_t last = b->record_blocks - 1, page = b->record_block[last];
    uint32_t head = last == 0 ? FRAME_RECORDS_OFFSET : FRAME_BLOCK_RECORDS_OFFSET;
    uint32_t pages = b->h.length_bytes / BLOCK_BYTES, bytes = record_bytes(r);
    if (head + b->used[last] + bytes > BLOCK_BYTES) {
        page = pages++;
        head = FRAME_BLOCK_RECORDS_OFFSET;
        last++;
    }
    if (pages + record_pages(r) > FRAME_PAGES_MAX)
        return 0;
    if (last == b->record_blocks)
        b->record_block[b->record_blocks++] = page;
    record_encode(r, crcs, b->pages[page] + head + b->used[last]);
    b->used[last] += bytes;
    b->h.records++;
    b->h.data_pages += record_pages(r);
    b->h.length_bytes = (pages + record_pages(r)) * BLOCK_BYTES;
    return 1;
}

static void frame_end(struct built *b) {
    uint32_t next_page = 0, next_crc = 0;
    for (uint32_t i = b->record_blocks; --i > 0;) {
        next_crc =
            frame_block_encode(b->pages[b->record_block[i]], b->used[i], next_page, next_crc);
        next_page = b->record_block[i];
    }
    b->h.record_bytes = b->used[0];
    b->h.next_page = next_page;
    b->h.next_crc = next_crc;
    b->h.crc = frame_header_encode(&b->h, b->pages[0]);
}

static const uint8_t *page_of(void *ctx, uint32_t page) {
    return ((struct built *)ctx)->pages[page];
}

/* Walks a frame that lies in pages; the number of its records, or an error. */
static int frame_walks(struct built *b) {
    struct frame_header h;
    struct frame_walk w;
    int err = frame_header_decode(b->pages[0], SEGMENT_BYTES, &h), n = 0;
    if (err < 0)
        return err;
    frame_walk_begin(&w, &h, page_of, b);
    while ((err = frame_walk_next(&w)) > 0)
        n++;
    return err < 0 ? err : n;
}

static int frame_header_decodes(const uint8_t *block) {
    struct frame_header h;
    return frame_header_decode(block, SEGMENT_BYTES, &h);
}

static void a_frame_header_is_read_back(void **state) {
    static struct built b;
    struct frame_header h = {0};
    frame_begin(&b);
    struct record r = {PLACE_DATA, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0};
    for (uint32_t i = 0; i < 108; i++)
        assert_true(frame_add(&b, &r));
    assert_int_equal(b.record_blocks, 1);
    frame_end(&b);
    assert_int_equal(frame_header_decode(b.pages[0], SEGMENT_BYTES, &h), 0);
    assert_memory_equal(&h, &b.h, sizeof h);
    no_flip_passes(b.pages[0], frame_header_decodes);
}

static void an_impossible_frame_header_is_refused(void **state) {
    static const struct {
        uint32_t at, bytes;
        uint64_t value;
        int err;
    } cases[] = {
        {8, 2, 2, ERR_UNSUPPORTED},
        {32, 2, 1, ERR_UNSUPPORTED},
        {36, 4, 0, ERR_FORMAT},                    /* no segment */
        {40, 4, 0, ERR_FORMAT},                    /* over the segment header */
        {40, 4, 8192 + 512, ERR_FORMAT},           /* not a page */
        {40, 4, SEGMENT_BYTES - 4096, ERR_FORMAT}, /* over the footer */
        {40, 4, 0xfffff000, ERR_FORMAT},
        {44, 4, 0, ERR_FORMAT},
        {44, 4, 4097, ERR_FORMAT},
        {44, 4, FRAME_BYTES_MAX + 4096, ERR_FORMAT},
        {44, 4, 0xfffff000, ERR_FORMAT},
        {68, 4, 0, ERR_FORMAT},          /* no records */
        {72, 8, 1000, ERR_FORMAT},       /* follows itself */
        {80, 8, UINT64_MAX, ERR_FORMAT}, /* runs over */
        {112, 4, 2, ERR_FORMAT},         /* more data than pages */
        {116, 4, 0, ERR_FORMAT},
        {116, 4, 4096 - 192 + 1, ERR_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct built b;
        struct record r = {PLACE_DATA, 0, 5, 5, 8, 8, 1, 1, 9, 2, 3, 0, 0};
        frame_begin(&b);
        frame_add(&b, &r);
        frame_end(&b);
        uint8_t *at = b.pages[0] + cases[i].at;
        if (cases[i].bytes == 2)
            put_le16(at, (uint16_t)cases[i].value);
        else if (cases[i].bytes == 4)
            put_le32(at, (uint32_t)cases[i].value);
        else
            put_le64(at, cases[i].value);
        block_finish(b.pages[0]);
        assert_int_equal(frame_header_decodes(b.pages[0]), cases[i].err);
    }
}

/* Frames of random records: each record comes back with the place of its data. */
static void frames_of_any_records_are_walked(void **state) {
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static struct built b;
        static struct {
            struct record r;
            uint32_t page;
        } expect[FRAME_PAGES_MAX * 128];
        struct prng p = prng_seed(seed);
        uint32_t biggest = (uint32_t)(seed % 3 == 0 ? 1 : seed % 3 == 1 ? 3 : 40), n = 0;
        uint32_t limit = seed % 5 == 0 ? 1 + (uint32_t)prng_below(&p, 100) : UINT32_MAX;
        frame_begin(&b);
        for (;;) {
            uint32_t blocks = 1 + (uint32_t)prng_below(&p, biggest);
            struct record r = {.kind = prng_one_in(&p, 3) ? PLACE_ZERO : PLACE_DATA,
                               .timeline = 1 + (uint32_t)prng_below(&p, 3),
                               .start_sector = prng_below(&p, 1 << 20),
                               .delta_us = n,
                               .source_number = prng_next(&p)};
            r.family = prng_one_in(&p, 2) ? r.timeline : 9;
            r.block = r.start_sector / 8;
            r.blocks = blocks;
            r.sectors = prng_one_in(&p, 4) ? blocks * 8 : blocks * 8 - r.start_sector % 8;
            if (n == limit || !frame_add(&b, &r))
                break;
            expect[n].r = r;
            expect[n++].page = b.h.length_bytes / BLOCK_BYTES - record_pages(&r);
        }
        frame_end(&b);
        struct frame_header h;
        struct frame_walk w;
        assert_int_equal(frame_header_decode(b.pages[0], SEGMENT_BYTES, &h), 0);
        assert_int_equal(h.records, n);
        frame_walk_begin(&w, &h, page_of, &b);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(frame_walk_next(&w), 1);
            same_record(&w.record, &expect[i].r);
            assert_int_equal(w.record_page, expect[i].page);
            assert_int_equal(w.record_sequence, 1000 + i);
        }
        assert_int_equal(frame_walk_next(&w), 0);
        if (limit == UINT32_MAX && biggest < 40)
            assert_true(b.record_blocks > 1);
        for (int i = 0; i < 200 && b.record_blocks > 1; i++) { /* a flip in a further block */
            uint32_t block = b.record_block[1 + prng_below(&p, b.record_blocks - 1)];
            uint32_t at = (uint32_t)prng_below(&p, BLOCK_BYTES);
            b.pages[block][at] ^= 4;
            assert_int_equal(frame_walks(&b), ERR_INTEGRITY);
            b.pages[block][at] ^= 4;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_header_is_read_back),
        cmocka_unit_test(features_refuse_or_make_read_only),
        cmocka_unit_test(the_newer_of_two_copies_counts),
        cmocka_unit_test(a_later_version_is_not_outvoted),
        cmocka_unit_test(a_segment_header_is_read_back),
        cmocka_unit_test(a_footer_is_read_back),
        cmocka_unit_test(an_impossible_footer_is_refused),
        cmocka_unit_test(records_are_read_back),
        cmocka_unit_test(impossible_records_are_refused),
        cmocka_unit_test(any_bytes_may_stand_in_a_record),
        cmocka_unit_test(a_frame_header_is_read_back),
        cmocka_unit_test(an_impossible_frame_header_is_refused),
        cmocka_unit_test(frames_of_any_records_are_walked),
    };
    return cmocka_run_group_tests_name("log_disk", tests, NULL, NULL);
}
