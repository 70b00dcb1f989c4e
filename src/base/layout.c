/* SPDX-License-Identifier: Apache-2.0 */
#include "base/layout.h"

#include <string.h>

#include "base/bytes.h"
#include "base/hash.h"

static uint64_t hash_number(uint64_t h, uint32_t number) {
    uint8_t bytes[4];
    put_le32(bytes, number);
    return hash_bytes(h, bytes, sizeof bytes);
}

/* scripts/layouts computes the same from the text of the ledger. */
uint64_t layout_hash(const struct arena_table_spec *spec) {
    uint64_t h = HASH_BYTES_START;
    h = hash_number(h, spec->number);
    h = hash_number(h, spec->version);
    h = hash_number(h, spec->slot_bytes);
    for (uint32_t i = 0; i < spec->field_count; i++) {
        const struct arena_field *f = &spec->fields[i];
        h = hash_bytes(h, f->type, strlen(f->type) + 1);
        h = hash_bytes(h, f->name, strlen(f->name) + 1);
        h = hash_number(h, f->size_bytes);
        h = hash_number(h, f->count);
    }
    return h;
}
