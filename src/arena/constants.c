/* SPDX-License-Identifier: Apache-2.0 */
#include "arena/constants.h"

#include <stdatomic.h>
#include <string.h>

#include "arena/arena.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/units.h"

#define MAGIC UINT64_C(0x746e6174736e6f43) /* "Constant", little endian */
#define HEAD_BYTES sizeof(struct constants_head)
#define ENTRY_BYTES 8u

static const unsigned char *entries_of(const struct constants *c) {
    return (const unsigned char *)c->head + HEAD_BYTES;
}

static uint32_t crc_of(const struct constants *c, uint32_t used_bytes) {
    return crc32c(0, entries_of(c), used_bytes - HEAD_BYTES);
}

static int is_written(const struct constants *c) {
    return c->head && atomic_load(&c->head->magic) == MAGIC;
}

int constants_open(struct constants *c, struct arena *a, uint32_t region) {
    *c = (struct constants){.room_bytes = a->region_bytes[region]};
    if (c->room_bytes < HEAD_BYTES)
        return ERR_INVAL;
    c->head = (void *)a->regions[region];
    if (!is_written(c))
        return 0;
    uint32_t used = c->head->used_bytes;
    return used >= HEAD_BYTES && used <= c->room_bytes && c->head->crc == crc_of(c, used)
               ? 0
               : ERR_INTEGRITY;
}

int constants_write(struct constants *c, const struct constant *list, uint32_t count) {
    uint64_t used = HEAD_BYTES;
    if (is_written(c))
        return ERR_EXISTS;
    for (uint32_t i = 0; i < count; i++) {
        unsigned char *at = (unsigned char *)c->head + used;
        uint64_t bytes = round_up_u64(ENTRY_BYTES + (uint64_t)list[i].bytes, 8);
        if (bytes > c->room_bytes - used)
            return ERR_NOSPC;
        memset(at, 0, bytes);
        put_le32(at, list[i].number);
        put_le32(at + 4, list[i].bytes);
        memcpy(at + ENTRY_BYTES, list[i].data, list[i].bytes);
        used += bytes;
    }
    c->head->count = count;
    c->head->used_bytes = (uint32_t)used;
    c->head->crc = crc_of(c, (uint32_t)used);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store(&c->head->magic, MAGIC);
    return 0;
}

const void *constants_find(const struct constants *c, uint32_t number, uint32_t *bytes) {
    uint64_t at = 0;
    for (uint32_t i = 0; is_written(c) && i < c->head->count; i++) {
        const unsigned char *e = entries_of(c) + at;
        *bytes = get_le32(e + 4);
        if (get_le32(e) == number)
            return e + ENTRY_BYTES;
        at += round_up_u64(ENTRY_BYTES + (uint64_t)*bytes, 8);
    }
    return NULL;
}

const char *constants_text(const struct constants *c, uint32_t number, const char *otherwise) {
    uint32_t bytes = 0;
    const char *text = constants_find(c, number, &bytes);
    return text && bytes > 0 && text[bytes - 1] == 0 ? text : otherwise;
}
