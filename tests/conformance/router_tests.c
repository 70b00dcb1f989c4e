/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "conformance.h"

#define IO(m, call, ...) (m)->router.ops->call((m)->router.ctx, __VA_ARGS__)

/* Buffers as direct I/O wants them. */
static unsigned char *pages(uint32_t n, int byte) {
    unsigned char *p = aligned_alloc(4096, (size_t)n * 4096);
    assert_non_null(p);
    memset(p, byte, (size_t)n * 4096);
    return p;
}

static int32_t device(struct machine *m, const char *path) {
    int32_t d = IO(m, open, path, IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_true(d >= 0);
    return d;
}

static int try_queue(struct machine *m, uint32_t op, uint32_t flags, int32_t d, void *base,
                     size_t bytes, uint64_t offset, uint64_t cookie, uint32_t *position) {
    struct io_vec vec = {base, bytes};
    struct io_submission s = {.op = op,
                              .flags = flags,
                              .device = d,
                              .vec_count = 1,
                              .vecs = &vec,
                              .offset_bytes = offset,
                              .cookie = cookie};
    return IO(m, queue, &s, position);
}

static void submit(struct machine *m) {
    assert_int_equal(m->router.ops->submit(m->router.ctx), 0);
}

/* The next completion, retired at once. */
static struct io_completion next(struct machine *m) {
    struct io_completion c;
    while (IO(m, peek, &c, 1) == 0)
        m->host->wait(m);
    IO(m, retire, 1);
    assert_int_equal(c.adopted, 0);
    return c;
}

/* One operation, from beginning to end; its result. */
static int32_t one(struct machine *m, uint32_t op, uint32_t flags, int32_t d, void *base,
                   size_t bytes, uint64_t offset) {
    uint32_t position;
    assert_int_equal(try_queue(m, op, flags, d, base, bytes, offset, 77, &position), 0);
    submit(m);
    struct io_completion c = next(m);
    assert_int_equal(c.cookie, 77);
    return c.result;
}

static void what_was_written_is_read(void **state) {
    struct machine *m = *state;
    unsigned char *a = pages(4, 1), *b = pages(4, 0);
    int32_t d = device(m, "disk");
    for (uint32_t durable = 0; durable <= IO_DURABLE; durable += IO_DURABLE) {
        memset(a, (int)durable + 1, 16384);
        assert_int_equal(one(m, IO_WRITE, durable, d, a, 16384, 8192), 16384);
        for (uint32_t cached = 0; cached <= IO_CACHED; cached += IO_CACHED) {
            memset(b, 0, 16384);
            assert_int_equal(one(m, IO_READ, cached, d, b, 16384, 8192), 16384);
            assert_memory_equal(a, b, 16384);
        }
    }
    /* The same bytes through the other interface, both ways. */
    int f = m->files.ops->open(m->files.ctx, "disk", FILE_WRITE);
    assert_int_equal(m->files.ops->size(m->files.ctx, f), 24576);
    assert_int_equal(m->files.ops->read(m->files.ctx, f, b, 4096, 8192), 4096);
    assert_memory_equal(a, b, 4096);
    memset(a, 9, 4096);
    assert_int_equal(m->files.ops->write(m->files.ctx, f, a, 4096, 4096), 4096);
    assert_int_equal(m->files.ops->sync(m->files.ctx, f), 0);
    assert_int_equal(one(m, IO_READ, IO_CACHED, d, b, 4096, 4096), 4096);
    assert_memory_equal(a, b, 4096);
    m->files.ops->close(m->files.ctx, f);
    IO(m, close, d);
    free(a);
    free(b);
}

static void vectors_are_gathered_and_scattered(void **state) {
    struct machine *m = *state;
    unsigned char *a = pages(320, 0), *b = pages(320, 0);
    struct io_vec vecs[IO_VECS_MAX];
    uint32_t position;
    int32_t d = device(m, "disk");
    for (uint32_t i = 0; i < 320; i++) {
        memset(a + i * 4096, (int)i, 4096);
        vecs[i] = (struct io_vec){a + (319 - i) * 4096, 4096}; /* backwards in memory */
    }
    struct io_submission s = {IO_WRITE, IO_DURABLE, d, 320, vecs, 0, 1};
    assert_int_equal(IO(m, queue, &s, &position), 0);
    memset(vecs, 0, sizeof vecs); /* the array is the caller's again after submit */
    for (uint32_t i = 0; i < 320; i++)
        vecs[i] = (struct io_vec){a + (319 - i) * 4096, 4096};
    submit(m);
    memset(vecs, 0, sizeof vecs);
    assert_int_equal(next(m).result, 320 * 4096);
    for (uint32_t i = 0; i < 320; i++)
        vecs[i] = (struct io_vec){b + (319 - i) * 4096, 4096};
    s = (struct io_submission){IO_READ, 0, d, 320, vecs, 0, 2};
    assert_int_equal(IO(m, queue, &s, &position), 0);
    submit(m);
    assert_int_equal(next(m).result, 320 * 4096);
    assert_memory_equal(a, b, 320 * 4096);
    assert_int_equal(one(m, IO_READ, 0, d, b, 320 * 4096, 0), 320 * 4096); /* in one piece */
    for (uint32_t i = 0; i < 320; i++)
        assert_memory_equal(b + i * 4096, a + (319 - i) * 4096, 4096);
    IO(m, close, d);
    free(a);
    free(b);
}

static void each_completion_comes_once(void **state) {
    struct machine *m = *state;
    enum { OPERATIONS = 3000 };
    static uint8_t seen[OPERATIONS];
    unsigned char *b = pages(OPERATIONS, 0), *w = pages(64, 5);
    int32_t d = device(m, "disk");
    assert_int_equal(one(m, IO_WRITE, 0, d, w, 64 * 4096, 0), 64 * 4096);
    uint32_t sent = 0, done = 0, position, expected = 1;
    memset(seen, 0, sizeof seen);
    while (done < OPERATIONS) {
        struct io_completion c[16];
        int full = 0;
        for (int i = 0; i < 10 && sent < OPERATIONS; i++) {
            int err = try_queue(m, IO_READ, sent % 2 ? IO_CACHED : 0, d, b + sent * 4096, 4096,
                                sent % 64 * 4096, sent, &position);
            assert_true(err == 0 || err == ERR_AGAIN);
            full = err < 0;
            if (full)
                break;
            assert_true(position == expected++); /* no gap, even where the queue was full */
            sent++;
        }
        submit(m);
        int n = IO(m, peek, c, 16);
        for (int i = 0; i < n; i++) {
            assert_true(c[i].cookie < sent && c[i].result == 4096);
            assert_int_equal(seen[c[i].cookie]++, 0);
        }
        IO(m, retire, n);
        done += (uint32_t)n;
        if (n == 0 && (full || sent == OPERATIONS))
            m->host->wait(m);
    }
    struct io_completion c;
    assert_int_equal(IO(m, peek, &c, 1), 0);
    IO(m, close, d);
    free(b);
    free(w);
}

static void a_full_queue_says_again(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(1, 3), *to = pages(256, 0);
    int32_t d = device(m, "disk");
    assert_int_equal(one(m, IO_WRITE, 0, d, b, 4096, 0), 4096);
    uint32_t position, sent = 0, done = 0;
    int err;
    while ((err = try_queue(m, IO_READ, IO_CACHED, d, to + sent, 1, 0, sent, &position)) == 0) {
        assert_true(++sent < 256 * 4096);
        if (sent % 64 == 0)
            submit(m);
    }
    assert_int_equal(err, ERR_AGAIN);
    submit(m);
    next(m);
    done++;
    assert_int_equal(try_queue(m, IO_READ, 0, d, b, 4096, 0, sent, &position), 0);
    assert_int_equal(position, sent + 1);
    submit(m);
    for (; done < sent + 1; done++) {
        struct io_completion c = next(m);
        assert_int_equal(c.result, c.cookie == sent ? 4096 : 1);
    }
    IO(m, close, d);
    free(b);
    free(to);
}

static void peek_tells_once_and_retire_later(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(1, 3);
    int32_t d = device(m, "disk");
    assert_int_equal(one(m, IO_WRITE, 0, d, b, 4096, 0), 4096);
    uint32_t position;
    struct io_completion c[8];
    int seen[8] = {0}, total = 0;
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(try_queue(m, IO_READ, 0, d, b, 4096, 0, i, &position), 0);
    submit(m);
    while (total < 8) { /* several peeks, nothing retired */
        int n = IO(m, peek, c, 3);
        for (int i = 0; i < n; i++)
            assert_int_equal(seen[c[i].cookie]++, 0);
        total += n;
        if (n == 0)
            m->host->wait(m);
    }
    assert_int_equal(IO(m, peek, c, 8), 0);
    IO(m, retire, 3);
    assert_int_equal(IO(m, peek, c, 8), 0);
    IO(m, retire, 5);
    assert_int_equal(one(m, IO_READ, 0, d, b, 4096, 0), 4096);
    IO(m, close, d);
    free(b);
}

static void the_end_of_the_file_is_short(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(4, 3);
    int32_t d = device(m, "disk");
    assert_int_equal(one(m, IO_WRITE, 0, d, b, 8192, 0), 8192);
    assert_int_equal(one(m, IO_READ, 0, d, b, 16384, 0), 8192);
    assert_int_equal(one(m, IO_READ, IO_CACHED, d, b, 16384, 4096), 4096);
    assert_int_equal(one(m, IO_READ, 0, d, b, 4096, 8192), 0);
    assert_int_equal(one(m, IO_READ, IO_CACHED, d, b, 100, 5), 100);
    IO(m, close, d);
    free(b);
}

static void devices_come_and_go(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(1, 3);
    assert_int_equal(IO(m, open, "missing", 0), ERR_NOTFOUND);
    assert_int_equal(IO(m, open, "missing", IO_OPEN_WRITE), ERR_NOTFOUND);
    assert_int_equal(IO(m, open, "none/missing", IO_OPEN_WRITE | IO_OPEN_CREATE), ERR_NOTFOUND);
    int32_t d = device(m, "a"), e = device(m, "b");
    assert_int_not_equal(d, e);
    assert_int_equal(one(m, IO_WRITE, 0, e, b, 4096, 0), 4096);
    assert_int_equal(one(m, IO_READ, 0, d, b, 4096, 0), 0);
    IO(m, close, d);
    d = IO(m, open, "b", 0);
    assert_int_equal(one(m, IO_READ, 0, d, b, 4096, 0), 4096);
    IO(m, close, d);
    IO(m, close, e);
    assert_int_equal(m->files.ops->exists(m->files.ctx, "a"), 1);
    free(b);
}

/* Whether it waits is the machine's affair; what it returns is right. */
static void read_now_is_right_or_says_again(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(2, 3), *r = pages(2, 0);
    int32_t d = device(m, "disk");
    memset(b + 4096, 4, 4096);
    assert_int_equal(one(m, IO_WRITE, 0, d, b, 8192, 0), 8192);
    for (int i = 0; i < 20; i++) {
        struct io_vec vecs[2] = {{r, 1000}, {r + 1000, 4000}};
        memset(r, 0, 8192);
        int64_t n = IO(m, read_now, d, vecs, 2, 96);
        assert_true(n == ERR_AGAIN || (n > 0 && n <= 5000));
        if (n > 0)
            assert_memory_equal(r, b + 96, n);
        one(m, IO_READ, IO_CACHED, d, r, 8192, 0);
    }
    IO(m, close, d);
    free(b);
    free(r);
}

static void no_room_is_told(void **state) {
    struct machine *m = *state;
    struct file_system files;
    const char *path;
    struct machine full = *m;
    m->host->fill(m, &files, &full.router, &path);
    unsigned char *b = pages(2, 3);
    int32_t d = IO(&full, open, path, IO_OPEN_WRITE);
    assert_true(d >= 0);
    assert_int_equal(one(&full, IO_WRITE, 0, d, b, 8192, 0), ERR_NOSPC);
    IO(&full, close, d);
    free(b);
}

/* Whoever could not open a file may ask all the same, and others are not disturbed. */
static void a_device_that_is_not_there_is_an_error(void **state) {
    struct machine *m = *state;
    unsigned char *b = pages(1, 7);
    int32_t d = device(m, "there");
    assert_int_equal(one(m, IO_WRITE, IO_DURABLE, ERR_NOMEM, b, 4096, 0), ERR_IO);
    assert_int_equal(one(m, IO_WRITE, 0, d, b, 4096, 0), 4096);
    assert_int_equal(one(m, IO_READ, IO_CACHED, -1, b, 4096, 0), ERR_IO);
    assert_int_equal(one(m, IO_READ, 0, d, b, 4096, 0), 4096);
    IO(m, close, d);
    free(b);
}

/* Writes and reads in flight together on pages of their own; each read sees the last completed
 * write. */
static void pages_against_a_model(void **state) {
    struct machine *m = *state;
    enum { PAGES = 16, STEPS = 1500 };
    struct prng p = prng_seed(2);
    unsigned char *b = pages(PAGES, 0);
    uint32_t version[PAGES] = {0}, position;
    int busy[PAGES] = {0}, in_flight = 0; /* 1: read, 2: write */
    int32_t d = device(m, "disk");
    assert_int_equal(one(m, IO_WRITE, 0, d, b, PAGES * 4096, 0), PAGES * 4096);
    for (uint32_t step = 0; step < STEPS || in_flight > 0;) {
        uint64_t page = prng_below(&p, PAGES);
        if (step < STEPS && !busy[page]) {
            int writes = (int)prng_below(&p, 2);
            memset(b + page * 4096, writes ? (int)(step % 251) : 255, 4096);
            if (writes)
                version[page] = step % 251;
            busy[page] = 1 + writes;
            assert_int_equal(try_queue(m, writes ? IO_WRITE : IO_READ, 0, d, b + page * 4096, 4096,
                                       page * 4096, page, &position),
                             0);
            submit(m);
            in_flight++;
            step++;
            continue;
        }
        struct io_completion c = next(m);
        assert_int_equal(c.result, 4096);
        for (int i = 0; i < 4096; i += 512)
            assert_int_equal(b[c.cookie * 4096 + (uint64_t)i], version[c.cookie]);
        busy[c.cookie] = 0;
        in_flight--;
    }
    IO(m, close, d);
    free(b);
}

const struct CMUnitTest conformance_router_tests[] = {
    CONFORMANCE_TEST(what_was_written_is_read),
    CONFORMANCE_TEST(vectors_are_gathered_and_scattered),
    CONFORMANCE_TEST(each_completion_comes_once),
    CONFORMANCE_TEST(a_full_queue_says_again),
    CONFORMANCE_TEST(peek_tells_once_and_retire_later),
    CONFORMANCE_TEST(the_end_of_the_file_is_short),
    CONFORMANCE_TEST(devices_come_and_go),
    CONFORMANCE_TEST(a_device_that_is_not_there_is_an_error),
    CONFORMANCE_TEST(read_now_is_right_or_says_again),
    CONFORMANCE_TEST(no_room_is_told),
    CONFORMANCE_TEST(pages_against_a_model),
};
const size_t conformance_router_count =
    sizeof conformance_router_tests / sizeof conformance_router_tests[0];
