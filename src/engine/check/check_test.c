/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores as the engine makes them, on a simulated disk: those that nothing happened to have no finding, whatever
 * their processes went through; and of one, bytes of every kind of file are flipped. With PERDURE_EVERY_BYTE=1
 * these are all of headers, footers, runs, merged runs, and one in 251 of frames.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "engine/check/check.h"
#include "engine/engine_world_test.h"
#include "engine/index/merge_job.h"

#define SIZE (3 * MIB)

struct seen {
    struct world *w;
    uint32_t count, count_of[CHECK_CODES];
    struct check_finding last;
    char file[64];
    int tells;
};

static void found(void *ctx, const struct check_finding *f) {
    struct seen *s = ctx;
    s->count += f->grade != CHECK_NOTE;
    s->count_of[f->code]++;
    s->last = *f;
    snprintf(s->file, sizeof s->file, "%s", f->file);
    if (s->tells)
        print_message("%s %s at %llu + %llu, segment %u\n", check_name(f->code), f->file,
                      (unsigned long long)f->offset, (unsigned long long)f->bytes, f->segment);
}

static int freed(void *ctx, uint32_t segment) {
    const struct world *w = ((struct seen *)ctx)->w;
    for (uint32_t i = 0; i < w->freed_count; i++)
        if (w->freed[i] == segment)
            return 1;
    return 0;
}

static uint64_t sealed(void *ctx) {
    return ((struct seen *)ctx)->w->sealed;
}

static struct check check_of(struct seen *s, struct world *w, uint32_t flags) {
    *s = (struct seen){.w = w};
    return (struct check){.files = sim_files(w->sim),
                          .flags = flags,
                          .found = found,
                          .segment_freed = freed,
                          .sealed_up_to = sealed,
                          .ctx = s};
}

/* ---- A store ---- */

static void some_requests(struct world *w, uint32_t count) {
    static const uint8_t ops[] = {REQUEST_WRITE, REQUEST_WRITE, REQUEST_WRITE, REQUEST_WRITE,
                                  REQUEST_TRIM,  REQUEST_ZERO,  REQUEST_FLUSH};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t blocks = 1 + prng_below(&w->prng, prng_one_in(&w->prng, 8) ? 200 : 12);
        uint64_t at = prng_below(&w->prng, SIZE / BLOCK_BYTES - blocks + 1);
        uint8_t op = ops[prng_below(&w->prng, sizeof ops)];
        while (world_ask(w, (uint32_t)prng_below(&w->prng, w->volumes), op, at * BLOCK_BYTES,
                         blocks * BLOCK_BYTES, 0) < 0)
            world_wait_all(w);
        world_step(w);
    }
    world_wait_all(w);
}

static struct world *make(uint64_t seed) {
    struct world_options o = {.seed = seed,
                              .table_sets = 8,
                              .cache_bytes = 1 * MIB,
                              .buffer_pages = 8192,
                              .memtables = 6,
                              .records_per_turn = 32};
    struct world *w = world_open(&o);
    for (int i = 0; i < 2; i++)
        world_volume(w, world_line(w, 0, 0), SIZE, 512, 0);
    return w;
}

static void whatever_happened(void **state) {
    (void)state;
    uint64_t segments = 0, merged = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct world *w = make(seed);
        for (int round = 0; round < 12; round++) {
            some_requests(w, 250);
            switch (prng_below(&w->prng, 5)) {
            case 0:
                world_kill(w);
                break;
            case 1:
                world_power_cut(w);
                break;
            case 2:
                world_stop(w);
                break;
            case 3:
                world_start_cold(w);
                break;
            default:
                world_clean(w, world_some_moment(w), 0, UINT64_MAX);
            }
        }
        world_settle(w);
        struct seen s;
        struct check c = check_of(&s, w, 0);
        s.tells = 1;
        assert_int_equal(check_store(&c), 0);
        assert_int_equal(c.findings[CHECK_DAMAGE], 0);
        segments += c.segments;
        merged += c.merged;
        world_close(w);
    }
    assert_true(segments > 60);
    assert_true(merged > 0);
}

/* ---- Bytes ---- */

struct names {
    char path[64][64];
    uint32_t count;
    const char *dir;
};

static void each(void *arg, const char *name) {
    struct names *n = arg;
    if (n->count < 64)
        snprintf(n->path[n->count++], sizeof n->path[0], "%s/%s", n->dir, name);
}

static uint8_t byte_at(const struct file_system *fs, const char *path, uint64_t at, uint8_t flip) {
    uint8_t byte;
    int file = fs->ops->open(fs->ctx, path, FILE_WRITE);
    assert_true(file >= 0);
    assert_int_equal(fs->ops->read(fs->ctx, file, &byte, 1, at), 1);
    uint8_t changed = byte ^ flip;
    if (flip)
        assert_int_equal(fs->ops->write(fs->ctx, file, &changed, 1, at), 1);
    fs->ops->close(fs->ctx, file);
    return byte;
}

static uint64_t size_of(const struct file_system *fs, const char *path) {
    int file = fs->ops->open(fs->ctx, path, FILE_READ);
    assert_true(file >= 0);
    int64_t n = fs->ops->size(fs->ctx, file);
    fs->ops->close(fs->ctx, file);
    return (uint64_t)n;
}

static int reads_everything(void) {
    const char *all = getenv("PERDURE_EVERY_BYTE");
    return all && *all == '1';
}

static int each_flip_of(struct check *c, struct seen *s, const char *path, uint32_t segment,
                        uint64_t at) {
    uint32_t file;
    s->count = 0;
    byte_at(&c->files, path, at, 0x10);
    if (sscanf(path, "log/slot-%8u", &file) == 1)
        assert_int_equal(check_slot(c, file, segment), 0);
    else
        assert_int_equal(check_merged_file(c, path), 0);
    byte_at(&c->files, path, at, 0x10);
    if (s->count == 0)
        return 0;
    assert_string_equal(s->file, path);
    return 1;
}

/* What nobody reads: behind the frames, and behind the run. */
static int is_unused(const struct segment_footer *f, uint64_t at, uint64_t segment_bytes) {
    return (at >= f->data_end && at < f->run_offset) ||
           (at >= f->run_offset + f->run_bytes && at < segment_bytes - BLOCK_BYTES);
}

static void flip_slot(struct check *c, struct seen *s, const char *path, uint64_t *flipped) {
    uint8_t block[BLOCK_BYTES];
    struct segment_footer f;
    int file = c->files.ops->open(c->files.ctx, path, FILE_READ);
    uint64_t bytes = c->segment_bytes, far = reads_everything() ? 251 : 40009;
    uint64_t near = reads_everything() ? 1 : 53;
    c->files.ops->read(c->files.ctx, file, block, sizeof block, bytes - BLOCK_BYTES);
    c->files.ops->close(c->files.ctx, file);
    if (footer_decode(block, (uint32_t)bytes, &f) < 0 || freed(s, f.segment))
        return;
    for (uint64_t at = 0; at < bytes; ++*flipped) {
        int named = each_flip_of(c, s, path, f.segment, at);
        if (named == is_unused(&f, at, bytes))
            fail_msg("%s, byte %llu: %s", path, (unsigned long long)at,
                     named ? "nobody reads it" : "not found");
        int is_dense = at < 2 * BLOCK_BYTES || at >= bytes - BLOCK_BYTES ||
                       (reads_everything() && at >= f.run_offset);
        at += is_dense ? near : far;
        if (!is_dense && at > bytes - BLOCK_BYTES && at < bytes - BLOCK_BYTES + far)
            at = bytes - BLOCK_BYTES;
    }
}

/* Between the parts of a run there are a few bytes for alignment; and zeroes up to the first leaf. */
static void flip_merged(struct check *c, struct seen *s, const char *path, uint64_t *flipped) {
    uint64_t bytes = size_of(&c->files, path), harmless = 0, tried = 0;
    for (uint64_t at = 0; at < bytes; at += reads_everything() ? 1 : 61, tried++) {
        if (each_flip_of(c, s, path, 0, at))
            continue;
        harmless++;
        assert_true(at >= BLOCK_BYTES && byte_at(&c->files, path, at, 0) == 0);
    }
    *flipped += tried;
    assert_true(tried > 0 && harmless < tried);
}

static void flip_store_file(struct check *c, struct seen *s) {
    for (uint64_t at = 0; at < STORE_COPIES * BLOCK_BYTES; at += reads_everything() ? 1 : 1021) {
        struct check again = check_of(s, s->w, 0);
        byte_at(&c->files, STORE_FILE, at, 1);
        assert_int_equal(check_store(&again), 0);
        byte_at(&c->files, STORE_FILE, at, 1);
        assert_int_equal(s->count_of[CHECK_STORE_HEADER], 1);
    }
}

static void every_byte(void **state) {
    (void)state;
    struct world *w = make(7);
    some_requests(w, 2600);
    world_settle(w);
    struct seen s;
    struct check c = check_of(&s, w, 0);
    struct store_header h;
    uint64_t slots = 0, merged = 0;
    assert_int_equal(check_identity(&c.files, &h), 0);
    assert_int_equal(check_begin(&c, &h), 0);
    struct names logs = {.dir = "log"}, runs = {.dir = MERGE_DIR};
    c.files.ops->list(c.files.ctx, "log", each, &logs);
    c.files.ops->list(c.files.ctx, MERGE_DIR, each, &runs);
    for (uint32_t i = 0; i < logs.count && i < 3; i++)
        flip_slot(&c, &s, logs.path[i], &slots);
    for (uint32_t i = 0; i < runs.count && i < 1; i++)
        flip_merged(&c, &s, runs.path[i], &merged);
    check_end(&c);
    flip_store_file(&c, &s);
    print_message("%llu flips in slots, %llu in merged runs\n", (unsigned long long)slots,
                  (unsigned long long)merged);
    assert_true(slots > 300 && merged > 100);
    world_close(w);
}

/* ---- Files ---- */

static void copy(const struct file_system *fs, const char *from, const char *to, uint64_t bytes) {
    uint8_t *all = malloc(bytes);
    int a = fs->ops->open(fs->ctx, from, FILE_READ);
    int b = fs->ops->open(fs->ctx, to, FILE_WRITE | FILE_CREATE);
    assert_int_equal(fs->ops->read(fs->ctx, a, all, bytes, 0), bytes);
    assert_int_equal(fs->ops->write(fs->ctx, b, all, bytes, 0), bytes);
    fs->ops->close(fs->ctx, a);
    fs->ops->close(fs->ctx, b);
    free(all);
}

static void look(struct seen *s, struct world *w, uint32_t flags) {
    struct check c = check_of(s, w, flags);
    assert_int_equal(check_store(&c), 0);
}

static void wrong_files(void **state) {
    (void)state;
    struct world *w = make(8);
    struct seen s;
    some_requests(w, 1500);
    world_settle(w);
    struct file_system fs = sim_files(w->sim);
    const char *one = "log/slot-00000001", *two = "log/slot-00000002";
    copy(&fs, one, "one", WORLD_SEGMENT_BYTES);
    copy(&fs, two, "two", WORLD_SEGMENT_BYTES);
    look(&s, w, 0);
    assert_int_equal(s.count, 0);

    copy(&fs, "one", two, WORLD_SEGMENT_BYTES); /* exchanged */
    copy(&fs, "two", one, WORLD_SEGMENT_BYTES);
    look(&s, w, 0);
    assert_int_equal(s.count_of[CHECK_FILE_FOREIGN], 2);
    assert_true(s.count_of[CHECK_CHAIN] > 0);
    copy(&fs, "one", one, WORLD_SEGMENT_BYTES);

    fs.ops->remove(fs.ctx, two); /* missing */
    look(&s, w, 0);
    assert_true(s.count_of[CHECK_CHAIN] > 0);

    copy(&fs, "two", two, WORLD_SEGMENT_BYTES - BLOCK_BYTES); /* cut short */
    look(&s, w, 0);
    assert_int_equal(s.count_of[CHECK_FILE_SIZE], 1);
    copy(&fs, "two", two, WORLD_SEGMENT_BYTES);
    look(&s, w, 0);
    assert_int_equal(s.count, 0);
    world_close(w);
}

/* A segment below what the catalogue says was sealed: its frames count though its footer is damaged, for
 * the check and for a start. */
static void damaged_footers(void **state) {
    (void)state;
    struct world *w = make(10);
    struct seen s;
    uint32_t damaged = 0;
    some_requests(w, 1500);
    world_settle(w);
    struct file_system fs = sim_files(w->sim);
    struct names logs = {.dir = "log"};
    fs.ops->list(fs.ctx, "log", each, &logs);
    for (uint32_t i = 0; i < logs.count && damaged < 1; i++) {
        uint8_t block[BLOCK_BYTES];
        struct segment_footer f;
        int file = fs.ops->open(fs.ctx, logs.path[i], FILE_READ);
        fs.ops->read(fs.ctx, file, block, sizeof block, WORLD_SEGMENT_BYTES - BLOCK_BYTES);
        fs.ops->close(fs.ctx, file);
        look(&s, w, 0);
        if (footer_decode(block, WORLD_SEGMENT_BYTES, &f) < 0 || (f.flags & FOOTER_COLD) ||
            freed(&s, f.segment))
            continue;
        w->sealed = f.last_sequence; /* as when a younger segment was freed */
        byte_at(&fs, logs.path[i], WORLD_SEGMENT_BYTES - BLOCK_BYTES + 70, 0xff);
        look(&s, w, 0);
        assert_int_equal(s.count, 1);
        assert_int_equal(s.count_of[CHECK_FOOTER], 1);
        damaged++;
    }
    assert_int_equal(damaged, 1);
    world_stop(w);
    for (uint32_t v = 0; v < w->volumes; v++)
        world_check_volume(w, v);
    look(&s, w, 0);
    assert_int_equal(s.count_of[CHECK_CHAIN], 0);
    world_close(w);
}

/* A run is made again of the frames, and is what it was. */
static void repair(void **state) {
    (void)state;
    struct world *w = make(9);
    struct seen s;
    some_requests(w, 1500);
    world_settle(w);
    struct file_system fs = sim_files(w->sim);
    struct names logs = {.dir = "log"};
    uint8_t block[BLOCK_BYTES];
    uint32_t repaired = 0;
    fs.ops->list(fs.ctx, "log", each, &logs);
    for (uint32_t i = 0; i < logs.count; i++) {
        struct segment_footer f;
        int file = fs.ops->open(fs.ctx, logs.path[i], FILE_READ);
        fs.ops->read(fs.ctx, file, block, sizeof block, WORLD_SEGMENT_BYTES - BLOCK_BYTES);
        fs.ops->close(fs.ctx, file);
        if (footer_decode(block, WORLD_SEGMENT_BYTES, &f) < 0)
            continue;
        uint8_t was = byte_at(&fs, logs.path[i], f.run_offset + 200, 0xff);
        look(&s, w, 0);
        assert_int_equal(s.count_of[CHECK_RUN], 1);
        assert_int_equal(s.last.was_repaired, 0);
        look(&s, w, CHECK_REPAIR);
        assert_int_equal(s.count_of[CHECK_RUN], 1);
        assert_int_equal(s.last.was_repaired, 1);
        assert_int_equal(byte_at(&fs, logs.path[i], f.run_offset + 200, 0), was);
        look(&s, w, 0);
        assert_int_equal(s.count, 0);
        repaired++;
    }
    assert_true(repaired > 2);
    world_close(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happened),
        cmocka_unit_test(every_byte),
        cmocka_unit_test(wrong_files),
        cmocka_unit_test(damaged_footers),
        cmocka_unit_test(repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
