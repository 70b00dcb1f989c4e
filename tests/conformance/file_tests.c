/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/prng.h"
#include "conformance.h"

#define FS(m, call, ...) (m)->files.ops->call((m)->files.ctx, __VA_ARGS__)

static int create(struct machine *m, const char *path) {
    int f = FS(m, open, path, FILE_WRITE | FILE_CREATE);
    assert_true(f >= 0);
    return f;
}

static void opening(void **state) {
    struct machine *m = *state;
    assert_int_equal(FS(m, make_dir, "dir"), 0);
    int f = create(m, "there");
    FS(m, close, f);
    static const struct {
        const char *path;
        uint32_t flags;
        int err;
    } rows[] = {
        {"missing", FILE_READ, ERR_NOTFOUND},
        {"missing", FILE_WRITE, ERR_NOTFOUND},
        {"none/missing", FILE_WRITE | FILE_CREATE, ERR_NOTFOUND},
        {"there", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, ERR_EXISTS},
        {"dir", FILE_READ, ERR_INVAL},
        {"dir", FILE_WRITE, ERR_INVAL},
        {"there", FILE_READ, 0},
        {"there", FILE_WRITE | FILE_CREATE, 0},
        {"new", FILE_WRITE | FILE_CREATE | FILE_EXCLUSIVE, 0},
        {"dir/new", FILE_WRITE | FILE_CREATE, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        f = FS(m, open, rows[i].path, rows[i].flags);
        if (rows[i].err)
            assert_int_equal(f, rows[i].err);
        else
            assert_true(f >= 0);
        if (f >= 0)
            FS(m, close, f);
    }
}

static void reading_and_writing(void **state) {
    struct machine *m = *state;
    char b[16];
    int f = create(m, "a");
    assert_int_equal(FS(m, size, f), 0);
    assert_int_equal(FS(m, read, f, b, 4, 0), 0);
    assert_int_equal(FS(m, write, f, "hello", 5, 10000), 5);
    assert_int_equal(FS(m, size, f), 10005);
    assert_int_equal(FS(m, read, f, b, 16, 9999), 6);
    assert_memory_equal(b, "\0hello", 6);
    assert_int_equal(FS(m, read, f, b, 4, 10005), 0);
    assert_int_equal(FS(m, read, f, b, 4, 99999), 0);
    int g = FS(m, open, "a", FILE_READ);
    assert_int_equal(FS(m, write, f, "J", 1, 10000), 1);
    assert_int_equal(FS(m, read, g, b, 5, 10000), 5);
    assert_memory_equal(b, "Jello", 5);
    assert_int_equal(FS(m, write, g, "x", 1, 0), ERR_PERM);
    assert_int_equal(FS(m, truncate, g, 0), ERR_PERM);
    assert_int_equal(FS(m, allocate, g, 0, 4096), ERR_PERM);
    assert_int_equal(FS(m, sync, f), 0);
    FS(m, close, f);
    FS(m, close, g);
}

static void truncating_and_allocating(void **state) {
    struct machine *m = *state;
    unsigned char b[8192], zero[8192] = {0};
    int f = create(m, "a");
    memset(b, 7, sizeof b);
    assert_int_equal(FS(m, write, f, b, 8192, 0), 8192);
    assert_int_equal(FS(m, truncate, f, 1000), 0);
    assert_int_equal(FS(m, size, f), 1000);
    assert_int_equal(FS(m, truncate, f, 8192), 0);
    assert_int_equal(FS(m, read, f, b, 8192, 0), 8192);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(b[i], 7);
    assert_memory_equal(b + 1000, zero, 7192);
    assert_int_equal(FS(m, allocate, f, 4096, 65536), 0);
    assert_int_equal(FS(m, size, f), 69632);
    assert_int_equal(FS(m, read, f, b, 8192, 61440), 8192);
    assert_memory_equal(b, zero, 8192);
    assert_int_equal(FS(m, allocate, f, 0, 4096), 0);
    assert_int_equal(FS(m, size, f), 69632);
    assert_int_equal(FS(m, read, f, b, 1, 999), 1);
    assert_int_equal(b[0], 7);
    assert_int_equal(FS(m, allocate, f, 0, 0), ERR_INVAL);
    FS(m, close, f);
}

struct names {
    int count;
    char names[16][16];
};

static void add_name(void *arg, const char *name) {
    struct names *n = arg;
    assert_true(n->count < 16 && strlen(name) < 16);
    strcpy(n->names[n->count++], name);
}

static int has_name(const struct names *n, const char *name) {
    for (int i = 0; i < n->count; i++) {
        if (strcmp(n->names[i], name) == 0)
            return 1;
    }
    return 0;
}

static void names(void **state) {
    struct machine *m = *state;
    struct names n = {0};
    char b[4];
    assert_int_equal(FS(m, list, ".", add_name, &n), 0);
    assert_int_equal(FS(m, make_dir, "d"), 0);
    assert_int_equal(FS(m, make_dir, "d"), ERR_EXISTS);
    assert_int_equal(FS(m, make_dir, "none/d"), ERR_NOTFOUND);
    int f = create(m, "d/one"), g = create(m, "two");
    FS(m, write, f, "1", 1, 0);
    FS(m, write, g, "2", 1, 0);
    assert_int_equal(FS(m, exists, "d/one"), 1);
    assert_int_equal(FS(m, exists, "d"), 1);
    assert_int_equal(FS(m, exists, "d/two"), 0);
    assert_int_equal(FS(m, exists, "none/two"), 0);
    assert_int_equal(FS(m, list, "d", add_name, &n), 1);
    assert_true(has_name(&n, "one"));
    n.count = 0;
    assert_int_equal(FS(m, list, ".", add_name, &n), 2);
    assert_true(has_name(&n, "d") && has_name(&n, "two"));
    assert_int_equal(FS(m, list, "none", add_name, &n), ERR_NOTFOUND);
    assert_int_equal(FS(m, list, "two", add_name, &n), ERR_INVAL);
    assert_int_equal(FS(m, remove, "d"), ERR_BUSY);
    assert_int_equal(FS(m, rename, "none", "x"), ERR_NOTFOUND);
    assert_int_equal(FS(m, rename, "two", "none/x"), ERR_NOTFOUND);
    assert_int_equal(FS(m, rename, "two", "d/one"), 0);
    assert_int_equal(FS(m, exists, "two"), 0);
    int h = FS(m, open, "d/one", FILE_READ);
    assert_int_equal(FS(m, read, h, b, 1, 0), 1);
    assert_int_equal(b[0], '2');
    assert_int_equal(FS(m, read, f, b, 1, 0), 1); /* replaced, and still open */
    assert_int_equal(b[0], '1');
    assert_int_equal(FS(m, remove, "d/one"), 0);
    assert_int_equal(FS(m, remove, "d/one"), ERR_NOTFOUND);
    assert_int_equal(FS(m, read, h, b, 1, 0), 1);
    assert_int_equal(FS(m, sync_dir, "d"), 0);
    assert_int_equal(FS(m, remove, "d"), 0);
    assert_int_equal(FS(m, exists, "d"), 0);
    assert_int_equal(FS(m, sync_dir, "."), 0);
    assert_int_equal(FS(m, sync_dir, "d"), ERR_NOTFOUND);
    FS(m, close, f);
    FS(m, close, g);
    FS(m, close, h);
}

static void remove_it(void *arg, const char *name) {
    struct machine *m = arg;
    assert_int_equal(FS(m, remove, name), 0);
}

static void removing_what_is_listed(void **state) {
    struct machine *m = *state;
    for (int i = 0; i < 40; i++) {
        char name[8];
        snprintf(name, sizeof name, "f%d", i);
        FS(m, close, create(m, name));
    }
    assert_int_equal(FS(m, list, ".", remove_it, m), 40);
    assert_int_equal(FS(m, list, ".", remove_it, m), 0);
}

static void room(void **state) {
    struct machine *m = *state;
    uint64_t total = 0, left = 0;
    assert_int_equal(FS(m, space, &total, &left), 0);
    assert_true(total > 0 && left > 0 && left <= total);
    struct file_system full;
    struct io_router router;
    const char *path;
    char b[8192] = {1};
    m->host->fill(m, &full, &router, &path);
    int f = full.ops->open(full.ctx, path, FILE_WRITE);
    assert_true(f >= 0);
    assert_int_equal(full.ops->write(full.ctx, f, b, sizeof b, 0), ERR_NOSPC);
    full.ops->close(full.ctx, f);
}

static void bytes_against_a_model(void **state) {
    struct machine *m = *state;
    struct prng p = prng_seed(1);
    enum { MODEL_BYTES = 200000, PART_BYTES = 30000 };
    unsigned char *model = calloc(1, MODEL_BYTES), *b = malloc(MODEL_BYTES);
    uint64_t size = 0;
    int f = create(m, "a");
    for (int step = 0; step < 600; step++) {
        uint64_t at = prng_below(&p, MODEL_BYTES - PART_BYTES), n = prng_below(&p, PART_BYTES);
        switch (prng_below(&p, 8)) {
        case 0:
            assert_int_equal(FS(m, truncate, f, at), 0);
            if (at < size)
                memset(model + at, 0, size - at);
            size = at;
            break;
        case 1:
            assert_int_equal(FS(m, sync, f), 0);
            break;
        case 2:
        case 3:
        case 4:
            memset(b, step, n);
            assert_int_equal(FS(m, write, f, b, n, at), n);
            memcpy(model + at, b, n);
            if (n > 0 && at + n > size)
                size = at + n;
            break;
        default: {
            int64_t got = FS(m, read, f, b, n, at);
            uint64_t want = at >= size ? 0 : at + n > size ? size - at : n;
            assert_int_equal(got, want);
            assert_memory_equal(b, model + at, want);
        }
        }
        assert_int_equal(FS(m, size, f), size);
    }
    FS(m, close, f);
    free(model);
    free(b);
}

const struct CMUnitTest conformance_file_tests[] = {
    CONFORMANCE_TEST(opening),
    CONFORMANCE_TEST(reading_and_writing),
    CONFORMANCE_TEST(truncating_and_allocating),
    CONFORMANCE_TEST(names),
    CONFORMANCE_TEST(removing_what_is_listed),
    CONFORMANCE_TEST(room),
    CONFORMANCE_TEST(bytes_against_a_model),
};
const size_t conformance_file_count =
    sizeof conformance_file_tests / sizeof conformance_file_tests[0];
