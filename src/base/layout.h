/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How preserved structures are declared (mission P5). A structure that lies in the arena is written
 * once, as a list of fields; the list yields the struct, the proof that the compiler put no padding
 * into it, and a description from which the layout hash and the dumper are made.
 *
 *     HANDLE(conn)
 *     #define CONN_FIELDS(F, A)       \
 *         F(uint64_t, rx_read)        \
 *         F(struct request_h, first)  \
 *         A(uint8_t, pad, 4)
 *     SLOT_STRUCT(conn, CONN_FIELDS)        struct conn, beginning with struct slot
 *     SLOT_TABLE(conn, TABLE_CONN)          conn_view, conn_edit, conn_new ... (arena/arena.h)
 *
 * Field types are fixed-width integers and handle structs: no pointers, no bit-fields, no enums.
 * Padding is explicit. New fields are appended in reserved room; numbers of tables and states are
 * never reused. Structures of released builds stand in the ledger (docs/reload.md).
 */
#ifndef BASE_LAYOUT_H
#define BASE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

/* Every slot begins with this. State 0 is a free slot; the other states belong to the table.
 * edit_turn tells whether the slot's old content is already in this turn's undo log. */
struct slot {
    uint16_t state;
    uint16_t generation;
    uint32_t reserved;
    uint64_t edit_turn;
};

#define SLOT_FREE 0

/* A handle names a slot and the generation it was made in; 0 is no slot. */
#define HANDLE_INDEX_BITS 20
#define HANDLE_INDEX_MAX ((1u << HANDLE_INDEX_BITS) - 1)
#define HANDLE_GENERATION_MAX 4095u

static inline uint32_t handle_index(uint32_t handle) {
    return handle & HANDLE_INDEX_MAX;
}
static inline uint16_t handle_generation(uint32_t handle) {
    return (uint16_t)(handle >> HANDLE_INDEX_BITS);
}
static inline uint32_t handle_make(uint32_t index, uint16_t generation) {
    return (uint32_t)generation << HANDLE_INDEX_BITS | index;
}

/* One field of a preserved structure; `count` elements, 0: no array. Offsets follow from the sizes, as there is
 * no padding. */
struct arena_field {
    const char *type;
    const char *name;
    uint32_t size_bytes; /* of all elements */
    uint32_t count;
};

/* A typed handle: struct tag_h. */
#define HANDLE(tag)                                                                                \
    struct tag##_h {                                                                               \
        uint32_t v;                                                                                \
    };                                                                                             \
    static inline int tag##_h_same(struct tag##_h a, struct tag##_h b) {                           \
        return a.v == b.v;                                                                         \
    }

#define LAYOUT_FIELD_(type, name) type name;
#define LAYOUT_ARRAY_(type, name, n) type name[n];
#define LAYOUT_FSIZE_(type, name) +sizeof(type)
#define LAYOUT_ASIZE_(type, name, n) +sizeof(type) * (n)
#define LAYOUT_FDESC_(type, name) {#type, #name, sizeof(type), 0},
#define LAYOUT_ADESC_(type, name, n) {#type, #name, sizeof(type) * (n), (n)},

#define SLOT_STRUCT(tag, FIELDS)                                                                   \
    struct tag {                                                                                   \
        struct slot slot;                                                                          \
        FIELDS(LAYOUT_FIELD_, LAYOUT_ARRAY_)                                                       \
    };                                                                                             \
    _Static_assert(sizeof(struct tag) == sizeof(struct slot) FIELDS(LAYOUT_FSIZE_, LAYOUT_ASIZE_), \
                   "padding in struct " #tag);

/* In the one .c file that describes the structure: tag_fields and TABLE_SPEC(tag, ...). */
#define LAYOUT_FIELDS(tag, FIELDS)                                                                 \
    static const struct arena_field tag##_fields[] = {FIELDS(LAYOUT_FDESC_, LAYOUT_ADESC_)};

/* A table of one slot type. `number` is for ever. `version` rises with every change of a layout that was
 * released: scripts/layouts holds that, and docs/reload.md says how it is done. */
struct arena_table_spec {
    uint32_t number;
    uint32_t version;
    const char *name;
    uint32_t slot_bytes;
    uint32_t field_count;
    const struct arena_field *fields;
};

#define TABLE_SPEC(tag, table_number, table_version)                                               \
    {                                                                                              \
        .number = (table_number), .version = (table_version), .name = #tag,                        \
        .slot_bytes = sizeof(struct tag),                                                          \
        .field_count = sizeof tag##_fields / sizeof tag##_fields[0], .fields = tag##_fields        \
    }

/* What a table of another build is read by: the structure as it was, under a name of its own, and its
 * description tag_spec. For converters (arena/convert.h). */
#define LAYOUT_PAST(tag, FIELDS, table_number, table_version)                                      \
    SLOT_STRUCT(tag, FIELDS)                                                                       \
    LAYOUT_FIELDS(tag, FIELDS)                                                                     \
    static const struct arena_table_spec tag##_spec = TABLE_SPEC(tag, table_number, table_version);

/* Two tables with the same layout hash read each other's slots: number, version and all fields are the same.
 * The table's name does not count. */
uint64_t layout_hash(const struct arena_table_spec *spec);

#endif
