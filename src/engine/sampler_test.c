/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"
#include "base/units.h"
#include "engine/sampler.h"

static void what_was_read_is_known_for_a_while(void **state) {
    struct sampler *s = sampler_open();
    sampler_read(s, 7, 100, 50, NS_PER_S);
    assert_int_equal(sampler_was_read(s, 7, 100, 50), 50);
    assert_int_equal(sampler_was_read(s, 7, 90, 20), 10);
    assert_int_equal(sampler_was_read(s, 8, 100, 50), 0);
    sampler_read(s, 7, 1000, 1, 40 * NS_PER_S); /* the half is over */
    assert_int_equal(sampler_was_read(s, 7, 100, 50), 50);
    sampler_read(s, 7, 1001, 1, 80 * NS_PER_S);
    assert_int_equal(sampler_was_read(s, 7, 100, 50), 0);
    assert_int_equal(sampler_was_read(s, 7, 1000, 2), 2);
    sampler_read(s, 7, 1002, 1, 1000 * NS_PER_S); /* nothing was read in between */
    assert_int_equal(sampler_was_read(s, 7, 1000, 3), 1);
    sampler_close(s);
}

static void much_that_is_read_does_not_make_all_read(void **state) {
    struct sampler *s = sampler_open();
    sampler_read(s, 7, 0, 2 * SAMPLER_BITS, NS_PER_S);
    sampler_read(s, 7, 2 * SAMPLER_BITS, 2 * SAMPLER_BITS, 40 * NS_PER_S);
    uint64_t none = sampler_was_read(s, 9, 0, 100000);
    assert_in_range(none, 20000, 45000);
    assert_in_range(sampler_was_read(s, 7, 0, 1000), 1000, 1000);
    sampler_close(s);
}

static void each_so_many_blocks_one_is_packed(void **state) {
    struct sampler *s = sampler_open();
    unsigned char block[BLOCK_BYTES] = {0};
    uint32_t due = 0;
    for (uint32_t i = 0; i < 10 * SAMPLER_EACH; i++)
        due += (uint32_t)sampler_is_due(s, 1);
    assert_int_equal(due, 10);
    assert_int_equal(sampler_is_due(s, SAMPLER_EACH), 1);
    assert_in_range(sampler_pack(s, block), 1, 100);
    struct prng p = prng_seed(1);
    for (uint32_t i = 0; i < BLOCK_BYTES; i++)
        block[i] = (unsigned char)prng_next(&p);
    assert_int_equal(sampler_pack(s, block), BLOCK_BYTES);
    sampler_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_is_known_for_a_while),
        cmocka_unit_test(much_that_is_read_does_not_make_all_read),
        cmocka_unit_test(each_so_many_blocks_one_is_packed),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
