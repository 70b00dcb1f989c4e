/* SPDX-License-Identifier: Apache-2.0 */
/* Whether memory is an arena that this build may take over (mission P8); arena.h tells the order. What is read
 * here may be anything: no check relies on more than those before it have shown. */
#include <stdio.h>
#include <string.h>

#include "arena/arena.h"

static int parts_are_sound(const struct arena_identity *id, const struct arena_live *live) {
    if (id->part_count > ARENA_PARTS_MAX || id->undo_offset > id->size_bytes ||
        id->undo_bytes > id->size_bytes - id->undo_offset)
        return 0;
    for (uint32_t i = 0; i < id->part_count; i++) {
        const struct arena_part *p = &id->parts[i];
        if (p->kind > ARENA_PART_REGION ||
            (p->kind != ARENA_PART_NONE &&
             (p->offset > id->size_bytes || p->size_bytes > id->size_bytes - p->offset)) ||
            (p->kind == ARENA_PART_TABLE &&
             (p->number >= ARENA_TABLES_MAX || p->slot_bytes < sizeof(struct slot) ||
              (uint64_t)p->capacity * p->slot_bytes > p->size_bytes ||
              atomic_load(&live->high_water[i]) > p->capacity)) ||
            (p->kind == ARENA_PART_REGION && p->number >= ARENA_REGIONS_MAX))
            return 0;
    }
    return 1;
}

enum arena_verdict arena_qualify_only(enum arena_verdict what, const void *base,
                                      uint64_t size_bytes, const struct arena_plan *plan) {
    const struct arena_live *live = (const void *)((const unsigned char *)base + ARENA_LIVE_OFFSET);
    int good = 1;
    if (size_bytes < ARENA_HEADER_BYTES)
        return what == ARENA_BAD_SIZE ? what : ARENA_QUALIFIES;
    const struct arena_identity *id = arena_identity_of(base);
    switch (what) {
    case ARENA_BAD_MAGIC:
        good = ((const struct arena_identity *)base)->magic == ARENA_MAGIC &&
               id->magic == ARENA_MAGIC && id->prefix_version == ARENA_PREFIX_VERSION;
        break;
    case ARENA_BAD_IDENTITY:
        good = atomic_load(&live->identity) <= 1 && id->identity_crc == arena_identity_crc(id) &&
               parts_are_sound(id, live);
        break;
    case ARENA_BAD_SIZE: /* it is larger where a conversion that was begun had none of its time */
        good = id->size_bytes >= ARENA_HEADER_BYTES && id->size_bytes <= size_bytes;
        break;
    case ARENA_BAD_ADDRESS:
        good = id->base_address == (uint64_t)(uintptr_t)base;
        break;
    case ARENA_BAD_BOOT:
        good = memcmp(id->boot_id, plan->boot_id, sizeof id->boot_id) == 0;
        break;
    case ARENA_BAD_LAYOUT:
        good = id->layout_hash == arena_layout_hash(plan);
        break;
    case ARENA_BAD_PHASE:
        good =
            atomic_load(&live->phase) != ARENA_EMPTY && atomic_load(&live->phase) <= ARENA_STOPPED;
        break;
    case ARENA_BAD_DEATHS:
        good = atomic_load(&live->deaths) < ARENA_DEATHS_MAX;
        break;
    case ARENA_BAD_UNDO:
        good = atomic_load(&live->undo_used) <= id->undo_bytes;
        break;
    case ARENA_BAD_SLOTS: /* a successor that has attached knows */
        good = atomic_load(&live->unfit) == ARENA_QUALIFIES;
        break;
    case ARENA_QUALIFIES:
    case ARENA_BAD_DISKS:
    case ARENA_BAD_CUSTODY:
    case ARENA_BAD_LOOP:
    case ARENA_VERDICTS:
        break;
    }
    return good ? ARENA_QUALIFIES : what;
}

enum arena_verdict arena_qualify(const void *base, uint64_t size_bytes,
                                 const struct arena_plan *plan) {
    for (enum arena_verdict v = ARENA_BAD_MAGIC; v < ARENA_BAD_DISKS; v++)
        if (arena_qualify_only(v, base, size_bytes, plan) != ARENA_QUALIFIES)
            return v;
    return ARENA_QUALIFIES;
}

/* The table that handles of this type name; NULL: the type is no handle. */
static const struct arena_table_spec *handle_target(const struct arena_plan *plan,
                                                    const char *type) {
    for (uint32_t i = 0; i < plan->table_count; i++) {
        const struct arena_table_spec *s = plan->tables[i].spec;
        size_t len = strlen(s->name);
        if (strncmp(type, "struct ", 7) == 0 && strncmp(type + 7, s->name, len) == 0 &&
            strcmp(type + 7 + len, "_h") == 0)
            return s;
    }
    return NULL;
}

static const struct arena_part *part_of(const struct arena_identity *id, uint32_t table,
                                        uint32_t *index) {
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind == ARENA_PART_TABLE && id->parts[i].number == table) {
            *index = i;
            return &id->parts[i];
        }
    return NULL;
}

/* One field of all slots. */
static int check_handles(const unsigned char *slots, uint32_t count, uint32_t slot_bytes,
                         uint32_t at, uint32_t handles, uint32_t given_out, uint32_t *bad) {
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *slot = slots + (uint64_t)i * slot_bytes;
        if (((const struct slot *)(const void *)slot)->state == SLOT_FREE)
            continue;
        for (uint32_t k = 0; k < handles; k++) {
            uint32_t h;
            memcpy(&h, slot + at + 4 * k, sizeof h);
            if (h != 0 && handle_index(h) >= given_out) {
                *bad = i;
                return 0;
            }
        }
    }
    return 1;
}

static int check_table(const unsigned char *base, const struct arena_plan *plan,
                       const struct arena_table_spec *spec, struct arena_fault *fault) {
    const struct arena_live *live = (const void *)(base + ARENA_LIVE_OFFSET);
    const struct arena_identity *id = arena_identity_of(base);
    uint32_t index, other, at = sizeof(struct slot);
    const struct arena_part *part = part_of(id, spec->number, &index);
    *fault = (struct arena_fault){.table = spec};
    if (!part)
        return 0;
    const unsigned char *slots = base + part->offset;
    uint32_t count = atomic_load(&live->high_water[index]);
    for (uint32_t i = 0; i < count; i++) {
        const struct slot *s = (const void *)(slots + (uint64_t)i * part->slot_bytes);
        if (s->generation > HANDLE_GENERATION_MAX ||
            (s->state != SLOT_FREE && s->generation == 0)) {
            fault->slot = i;
            return 0;
        }
    }
    for (uint32_t f = 0; f < spec->field_count; at += spec->fields[f++].size_bytes) {
        const struct arena_table_spec *to = handle_target(plan, spec->fields[f].type);
        if (!to)
            continue;
        uint32_t given_out = part_of(id, to->number, &other) ? live->high_water[other] : 0;
        if (!check_handles(slots, count, part->slot_bytes, at, spec->fields[f].size_bytes / 4,
                           given_out, &fault->slot)) {
            fault->field = spec->fields[f].name;
            return 0;
        }
    }
    return 1;
}

enum arena_verdict arena_check_slots(const void *base, const struct arena_plan *plan,
                                     struct arena_fault *fault) {
    for (uint32_t i = 0; i < plan->table_count; i++)
        if (!check_table(base, plan, plan->tables[i].spec, fault))
            return ARENA_BAD_SLOTS;
    return ARENA_QUALIFIES;
}

const char *arena_verdict_text(enum arena_verdict v) {
    switch (v) {
    case ARENA_QUALIFIES:
        return "the arena qualifies";
    case ARENA_BAD_MAGIC:
        return "the memory is not an arena, or of an unknown prefix version";
    case ARENA_BAD_IDENTITY:
        return "the arena's identity page is damaged";
    case ARENA_BAD_SIZE:
        return "the arena has another size than its header says";
    case ARENA_BAD_ADDRESS:
        return "the arena's address was taken by another mapping";
    case ARENA_BAD_BOOT:
        return "the arena is from another boot of the machine";
    case ARENA_BAD_LAYOUT:
        return "the arena's layout is not that of this build";
    case ARENA_BAD_PHASE:
        return "the arena was never completed";
    case ARENA_BAD_DEATHS:
        return "too many engines in a row died without committing a turn";
    case ARENA_BAD_UNDO:
        return "the undo log is damaged";
    case ARENA_BAD_SLOTS:
        return "a table's slots contradict each other";
    case ARENA_VERDICTS:
        break;
    case ARENA_BAD_DISKS:
        return "the disks are not reached any more in the way that the arena's operations were";
    case ARENA_BAD_CUSTODY:
        return "engine and keeper died together, and nobody held the sockets";
    case ARENA_BAD_LOOP:
        return "too many engines died of their own fault in a short time";
    }
    return "unknown verdict";
}

void arena_fault_text(const struct arena_fault *f, char *out, size_t room) {
    snprintf(out, room, "%s: table %s, slot %u: %s", arena_verdict_text(ARENA_BAD_SLOTS),
             f->table->name, f->slot, f->field ? f->field : "its state");
}
