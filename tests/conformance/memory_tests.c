/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/units.h"
#include "conformance.h"

#define SIZE (4 * MIB)

static unsigned char *mapped(const struct memory_ops *ops, int fd) {
    void *base = NULL;
    assert_int_equal(ops->map(fd, SIZE, &base), 0);
    assert_true((uintptr_t)base == MEMORY_ADDRESS);
    return base;
}

static int created(const struct memory_ops *ops) {
    int fd = ops->create(SIZE);
    assert_true(fd >= 0);
    return fd;
}

static void new_memory_is_zero_and_of_its_size(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    int fd = created(ops);
    assert_true(ops->size(fd) == (int64_t)SIZE);
    assert_int_equal(ops->size(-1), ERR_INVAL);
    const unsigned char *p = mapped(ops, fd);
    for (size_t i = 0; i < SIZE; i++)
        if (p[i])
            fail_msg("byte %zu", i);
    int percent = ops->huge_percent((void *)(uintptr_t)p, SIZE);
    assert_true(percent >= 0 && percent <= 100);
    ops->unmap((void *)(uintptr_t)p, SIZE);
    close(fd);
}

static void contents_outlive_the_mapping(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    int a = created(ops), b = created(ops);
    unsigned char *p = mapped(ops, a);
    memset(p, 1, SIZE);
    ops->unmap(p, SIZE);
    p = mapped(ops, b); /* another memory at the same address */
    assert_int_equal(p[0] | p[SIZE - 1], 0);
    memset(p, 2, SIZE);
    ops->unmap(p, SIZE);
    p = mapped(ops, a);
    for (size_t i = 0; i < SIZE; i++)
        if (p[i] != 1)
            fail_msg("byte %zu", i);
    ops->unmap(p, SIZE);
    close(a);
    close(b);
}

static void it_grows_beside_a_mapping(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    void *base = NULL;
    int fd = created(ops);
    unsigned char *p = mapped(ops, fd);
    memset(p, 3, SIZE);
    assert_int_equal(ops->grow(fd, 2 * SIZE), 0);
    assert_true(ops->size(fd) == 2 * (int64_t)SIZE);
    p[0] = 4; /* who has mapped it goes on */
    assert_int_equal(ops->grow(fd, UINT64_C(1) << 63), ERR_NOMEM);
    assert_true(ops->size(fd) == 2 * (int64_t)SIZE);
    ops->unmap(p, SIZE);
    assert_int_equal(ops->map(fd, 2 * SIZE, &base), 0);
    p = base;
    for (size_t i = 0; i < 2 * SIZE; i++)
        if (p[i] != (i == 0 ? 4 : i < SIZE ? 3 : 0))
            fail_msg("byte %zu", i);
    ops->unmap(p, 2 * SIZE);
    close(fd);
}

static void a_taken_address_is_refused(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    int a = created(ops), b = created(ops);
    void *base = NULL;
    unsigned char *p = mapped(ops, a);
    p[0] = 7;
    assert_int_equal(ops->map(b, SIZE, &base), ERR_BUSY);
    assert_null(base);
    assert_int_equal(p[0], 7);
    ops->unmap(p, SIZE);
    p = mapped(ops, b);
    assert_int_equal(p[0], 0);
    ops->unmap(p, SIZE);
    close(a);
    close(b);
}

static void a_successor_inherits_it(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    uint8_t before[16], after[16];
    int fd = created(ops);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    close(fd);
    memset(before, 1, sizeof before);
    memset(after, 2, sizeof after);
    ops->boot_id(before);
    ops->boot_id(after);
    assert_memory_equal(before, after, sizeof before);
}

static void what_no_file_can_be_is_refused(void **state) {
    const struct memory_ops *ops = ((struct machine *)*state)->memory;
    assert_int_equal(ops->create(UINT64_C(1) << 63), ERR_NOMEM); /* more than a file can be */
}

const struct CMUnitTest conformance_memory_tests[] = {
    CONFORMANCE_TEST(new_memory_is_zero_and_of_its_size),
    CONFORMANCE_TEST(contents_outlive_the_mapping),
    CONFORMANCE_TEST(it_grows_beside_a_mapping),
    CONFORMANCE_TEST(a_taken_address_is_refused),
    CONFORMANCE_TEST(a_successor_inherits_it),
    CONFORMANCE_TEST(what_no_file_can_be_is_refused),
};
const size_t conformance_memory_count =
    sizeof conformance_memory_tests / sizeof conformance_memory_tests[0];
