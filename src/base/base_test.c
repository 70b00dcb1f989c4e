/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/prng.h"
#include "base/units.h"
#include "base/varint.h"

/* RFC 3720 B.4, byte strings of 32 with the CRC read as a little-endian number. */
static void crc32c_vectors(void **state) {
    uint8_t b[32];
    memset(b, 0, 32);
    assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, 32);
    assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
    assert_int_equal(crc32c(crc32c(0, b, 13), b + 13, 19), 0x46dd794e);
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, b, 0), 0);
}

static void byte_order(void **state) {
    uint8_t b[9] = {0};
    put_be64(b + 1, UINT64_C(0x0102030405060708));
    for (int i = 1; i <= 8; i++)
        assert_int_equal(b[i], i);
    assert_true(get_be64(b + 1) == UINT64_C(0x0102030405060708));
    assert_int_equal(get_be16(b + 1), 0x0102);
    assert_int_equal(get_be32(b + 5), 0x05060708);
    assert_true(get_le64(b + 1) == UINT64_C(0x0807060504030201));
    put_le32(b, 0xdeadbeef);
    assert_int_equal(b[0], 0xef);
    assert_int_equal(get_le32(b), 0xdeadbeef);
    put_le16(b, 0x8001);
    assert_int_equal(get_le16(b), 0x8001);
}

static void varint_round_trip(void **state) {
    struct prng p = prng_seed(1);
    uint8_t b[VARINT_MAX_BYTES];
    for (int i = 0; i < 10000; i++) {
        uint64_t v = prng_next(&p) >> prng_below(&p, 64), w = 0;
        size_t n = varint_put(b, v);
        assert_int_equal(n, varint_size(v));
        assert_int_equal(varint_get(b, b + n, &w), n);
        assert_true(v == w);
        assert_int_equal(varint_get(b, b + n - 1, &w), 0);
    }
    memset(b, 0xff, sizeof b);
    uint64_t w;
    assert_int_equal(varint_get(b, b + sizeof b, &w), 0);
}

static void prng_is_fixed(void **state) {
    struct prng p = prng_seed(0);
    assert_true(prng_next(&p) == UINT64_C(0xe220a8397b1dcdaf));
    for (int i = 0; i < 1000; i++)
        assert_true(prng_below(&p, 7) < 7);
}

static void errors_have_words(void **state) {
    assert_string_equal(err_word(ERR_NOSPC), "no_space");
    assert_string_equal(err_word(OK), "ok");
    assert_string_equal(err_word(-9999), "unknown");
    assert_string_equal(err_text(ERR_RANGE), "beyond the end of the volume");
}

static void unit_conversions(void **state) {
    assert_int_equal(bytes_to_blocks_up(0), 0);
    assert_int_equal(bytes_to_blocks_up(1), 1);
    assert_int_equal(bytes_to_blocks_up(4096), 1);
    assert_int_equal(bytes_to_blocks_up(4097), 2);
    assert_int_equal(chunk_of_block(63), 0);
    assert_int_equal(chunk_of_block(64), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_vectors),    cmocka_unit_test(byte_order),
        cmocka_unit_test(varint_round_trip), cmocka_unit_test(prng_is_fixed),
        cmocka_unit_test(errors_have_words), cmocka_unit_test(unit_conversions),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
