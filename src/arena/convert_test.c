/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "arena/convert.h"
#include "base/err.h"
#include "base/prng.h"

/* Three versions of one table: 2 adds `born`, 3 widens `count` and has no `flags`; a table beside it that
 * never changes, and one that came with 3. */
#define T_ITEM 1
#define T_SIDE 2
#define T_LATE 3
#define R_BYTES 0
#define R_CACHE 1
#define ITEMS 3000u

#define ITEM1_FIELDS(F, A)                                                                         \
    F(uint64_t, a)                                                                                 \
    F(uint32_t, count)                                                                             \
    F(uint32_t, flags)                                                                             \
    A(uint8_t, text, 24)                                                                           \
    A(uint8_t, reserved, 8)
LAYOUT_PAST(item1, ITEM1_FIELDS, T_ITEM, 1)
#define ITEM2_FIELDS(F, A)                                                                         \
    F(uint64_t, a)                                                                                 \
    F(uint32_t, count)                                                                             \
    F(uint32_t, flags)                                                                             \
    A(uint8_t, text, 24)                                                                           \
    F(uint64_t, born)
LAYOUT_PAST(item2, ITEM2_FIELDS, T_ITEM, 2)
#define ITEM3_FIELDS(F, A)                                                                         \
    F(uint64_t, count)                                                                             \
    F(uint64_t, a)                                                                                 \
    A(uint8_t, text, 24)                                                                           \
    F(uint64_t, born)                                                                              \
    A(uint8_t, reserved, 40)
LAYOUT_PAST(item3, ITEM3_FIELDS, T_ITEM, 3)
#define SIDE_FIELDS(F, A) F(uint64_t, a)
LAYOUT_PAST(side, SIDE_FIELDS, T_SIDE, 1)
LAYOUT_PAST(late, SIDE_FIELDS, T_LATE, 1)

#define BORN 77u
static int dies_after; /* slots; 0: never */

static int born(const void *from, void *to) {
    if (dies_after > 0 && --dies_after == 0)
        _exit(9);
    ((struct item2 *)to)->born = BORN;
    return 0;
}
static int widen(const void *from, void *to) {
    ((struct item3 *)to)->count = ((const struct item2 *)from)->count;
    return 0;
}
static int narrow(const void *from, void *to) {
    const struct item3 *f = from;
    if (f->count > UINT32_MAX)
        return ERR_RANGE;
    ((struct item2 *)to)->count = (uint32_t)f->count;
    return 0;
}

static const struct arena_step step_list[] = {
    {&item1_spec, &item2_spec, born},
    {&item2_spec, &item1_spec, NULL},
    {&item2_spec, &item3_spec, widen},
    {&item3_spec, &item2_spec, narrow},
};
static const struct arena_region_step region_list[] = {{R_CACHE, 1, 0}};
static const struct arena_steps steps = {step_list, 4, region_list, 1};

static const struct arena_region_plan regions[] = {{R_BYTES, 1, 40 * 4096, 4096},
                                                   {R_CACHE, 1, 2 * 4096, 4096}};
static const struct arena_table_plan tables[4][3] = {
    {{0}},
    {{&item1_spec, ITEMS}, {&side_spec, 10}},
    {{&item2_spec, ITEMS}, {&side_spec, 10}},
    {{&item3_spec, ITEMS}, {&side_spec, 10}, {&late_spec, 50}},
};

/* Version 3 has the cache; it asks for more undo log than the others. */
static struct arena_plan plan_of(int version) {
    return (struct arena_plan){.tables = tables[version],
                               .table_count = version == 3 ? 3 : 2,
                               .regions = regions,
                               .region_count = version == 3 ? 2 : 1,
                               .undo_bytes = version == 3 ? 128 * 1024 : 64 * 1024,
                               .steps = &steps};
}

#define MEMORY_BYTES (4u << 20)

static unsigned char *memory(void) {
    void *m = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(m != MAP_FAILED);
    return m;
}

static struct arena_identity want_of(int version) {
    struct arena_plan plan = plan_of(version);
    struct arena_identity id;
    arena_plan_identity(&plan, &id);
    return id;
}

/* What slot i holds, in every version. */
static uint64_t a_of(uint32_t i) {
    return UINT64_C(0x9e3779b97f4a7c15) * (i + 1);
}
static int is_free(uint32_t i) {
    return i % 7 == 3;
}

static uint32_t handles[ITEMS];

/* An arena of version 1 with items of which some have been freed, and bytes in its region. */
static unsigned char *filled(void) {
    unsigned char *m = memory();
    struct arena_plan plan = plan_of(1);
    struct arena a;
    assert_int_equal(arena_create(&a, m, arena_plan_bytes(&plan), &plan), 0);
    atomic_store(&a.live->phase, ARENA_SERVING);
    for (uint32_t i = 0; i < ITEMS - 100; i++) {
        handles[i] = arena_new(&a, T_ITEM, 3);
        struct item1 *s = arena_edit(&a, T_ITEM, handles[i]);
        s->a = a_of(i);
        s->count = i;
        s->flags = 0xf1a65;
        memset(s->text, (int)i, sizeof s->text);
        if (i % 100 == 0)
            arena_commit(&a);
    }
    arena_commit(&a);
    for (uint32_t i = 0; i < ITEMS - 100; i++) {
        if (is_free(i))
            arena_free(&a, T_ITEM, handles[i]);
        if (i % 100 == 0)
            arena_commit(&a);
    }
    uint32_t side = arena_new(&a, T_SIDE, 1);
    ((struct side *)arena_edit(&a, T_SIDE, side))->a = 5;
    arena_commit(&a);
    memset(a.regions[R_BYTES], 0xbb, a.region_bytes[R_BYTES]);
    arena_detach(&a);
    return m;
}

static int try_convert(unsigned char *m, int version, int slots, struct arena_conversion *c) {
    struct arena_identity want = want_of(version);
    arena_conversion_plan(c, m, &want, &steps, slots);
    if (!c->fits)
        return ERR_UNSUPPORTED;
    assert_true(c->next.size_bytes <= MEMORY_BYTES);
    arena_conversion_prepare(c, m);
    return arena_conversion_run(c, m, &steps);
}

static void convert(unsigned char *m, int version) {
    struct arena_conversion c;
    assert_int_equal(try_convert(m, version, 1, &c), 0);
}

/* All items are there under their handles; the arena works. */
static void check(unsigned char *m, int version, uint32_t flags, uint64_t born_as) {
    struct arena_plan plan = plan_of(version);
    struct arena a;
    assert_int_equal(arena_qualify(m, MEMORY_BYTES, &plan), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&a, m, MEMORY_BYTES, &plan), 0);
    for (uint32_t i = 0; i < ITEMS - 100; i++) {
        const void *s = arena_try_view(&a, T_ITEM, handles[i]);
        assert_int_equal(s == NULL, is_free(i));
        if (!s)
            continue;
        const struct item1 *s1 = s;
        const struct item2 *s2 = s;
        const struct item3 *s3 = s;
        assert_int_equal(s1->slot.state, 3);
        assert_true((version == 1 ? s1->a : version == 2 ? s2->a : s3->a) == a_of(i));
        assert_int_equal(version == 1 ? s1->count : version == 2 ? s2->count : s3->count, i);
        const uint8_t *text = version == 1 ? s1->text : version == 2 ? s2->text : s3->text;
        for (int k = 0; k < 24; k++)
            assert_int_equal(text[k], (uint8_t)i);
        if (version < 3)
            assert_int_equal(version == 1 ? s1->flags : s2->flags, flags);
        if (version > 1)
            assert_int_equal(version == 2 ? s2->born : s3->born, born_as);
    }
    assert_int_equal(((const struct side *)arena_view(&a, T_SIDE, arena_next(&a, T_SIDE, 0)))->a,
                     5);
    assert_int_equal(a.regions[R_BYTES][7], 0xbb);
    if (version == 3)
        assert_int_equal(arena_used(&a, T_LATE), 0);
    /* New slots, freed ones first: zeroed, and undone. */
    for (uint32_t i = 0; i < 500; i++) {
        uint32_t h = arena_new(&a, T_ITEM, 1);
        const unsigned char *s = arena_view(&a, T_ITEM, h);
        for (size_t k = sizeof(struct slot); k < a.tables[T_ITEM].slot_bytes; k++)
            assert_int_equal(s[k], 0);
        for (uint32_t k = 0; k < ITEMS - 100; k++)
            assert_true(is_free(k) || handles[k] != h);
    }
    arena_detach(&a);
    assert_int_equal(arena_roll_back(m), ARENA_QUALIFIES);
}

static void up_and_down(void **state) {
    unsigned char *m = filled();
    convert(m, 2);
    check(m, 2, 0xf1a65, BORN);
    convert(m, 3);
    check(m, 3, 0, BORN);
    uint64_t bytes = arena_identity_of(m)->size_bytes;
    convert(m, 1); /* two steps */
    check(m, 1, 0, 0);
    convert(m, 3);
    check(m, 3, 0, BORN);
    for (int i = 0; i < 20; i++)
        convert(m, 1 + i % 3);
    check(m, 2, 0, BORN);
    /* Room that is left is used again. */
    assert_true(arena_identity_of(m)->size_bytes <= bytes + 256 * 1024);
    munmap(m, MEMORY_BYTES);
}

static void generations_go_on(void **state) {
    unsigned char *m = filled();
    convert(m, 2);
    struct arena_plan plan = plan_of(2);
    struct arena a;
    assert_int_equal(arena_attach(&a, m, MEMORY_BYTES, &plan), 0);
    uint32_t h = arena_new(&a, T_ITEM, 1);
    assert_int_equal(handle_index(h), 3); /* the first that was freed */
    assert_int_equal(handle_generation(h), 2);
    arena_detach(&a);
    munmap(m, MEMORY_BYTES);
}

static void what_does_not_fit_is_named(void **state) {
    unsigned char *m = filled();
    struct arena_conversion c;
    struct arena_plan plan = plan_of(3);
    struct arena a;
    char text[160];
    convert(m, 3);
    assert_int_equal(arena_attach(&a, m, MEMORY_BYTES, &plan), 0);
    ((struct item3 *)arena_edit(&a, T_ITEM, handles[20]))->count = UINT64_C(1) << 32;
    arena_commit(&a);
    assert_int_equal(try_convert(m, 1, 1, &c), ERR_UNSUPPORTED);
    assert_int_equal(c.parts[0].fit, ARENA_FIT_SLOT);
    assert_int_equal(c.parts[0].slot, 20);
    arena_part_fit_text(&c.parts[0], "item", text, sizeof text);
    assert_string_equal(text, "table item, version 3 there and 1 here: a slot has no form in the "
                              "other layout");
    /* Not looked for beforehand, it is found on the way, and nothing has changed. */
    assert_int_equal(try_convert(m, 1, 0, &c), ERR_RANGE);
    assert_int_equal(arena_qualify(m, MEMORY_BYTES, &plan), ARENA_QUALIFIES);
    ((struct item3 *)arena_edit(&a, T_ITEM, handles[20]))->count = 20;
    uint32_t late = arena_new(&a, T_LATE, 1);
    arena_commit(&a);
    assert_int_equal(try_convert(m, 1, 1, &c), ERR_UNSUPPORTED);
    assert_int_equal(c.differs, 3);
    for (uint32_t i = 0; i < c.part_count; i++)
        if (c.parts[i].kind == ARENA_PART_TABLE && c.parts[i].number == T_LATE)
            assert_int_equal(c.parts[i].fit, ARENA_FIT_IN_USE);
    arena_free(&a, T_LATE, late);
    arena_commit(&a);
    arena_detach(&a);
    convert(m, 1);
    check(m, 1, 0, 0);
    /* A layout that nobody knows, under a version that somebody does. */
    struct arena_identity want = want_of(2);
    want.parts[0].layout ^= 1;
    arena_conversion_plan(&c, m, &want, &steps, 1);
    assert_int_equal(c.fits, 0);
    assert_int_equal(c.parts[0].fit, ARENA_FIT_NO_WAY);
    munmap(m, MEMORY_BYTES);
}

/* Whether the byte is one that an arena of this identity means something by. */
static int is_named(const struct arena_identity *id, uint64_t at) {
    int named = at < ARENA_HEADER_BYTES;
    named |= at >= id->undo_offset && at < id->undo_offset + id->undo_bytes;
    for (uint32_t i = 0; i < id->part_count; i++)
        named |= id->parts[i].kind != ARENA_PART_NONE && at >= id->parts[i].offset &&
                 at < id->parts[i].offset + id->parts[i].size_bytes;
    return named;
}

/* Until the switch, only room and the other identity page are written, so whoever dies on the way leaves the
 * arena as it was. */
static void only_room_is_written(void **state) {
    unsigned char *m = filled(), *before = malloc(MEMORY_BYTES);
    for (int n = 0; n < 6; n++) {
        int version = 1 + (n + 1) % 3;
        struct arena_identity old = *arena_identity_of(m);
        struct arena_live *live = (void *)(m + ARENA_LIVE_OFFSET);
        uint64_t other = atomic_load(&live->identity) ? 0 : ARENA_OTHER_IDENTITY_OFFSET;
        memcpy(before, m, MEMORY_BYTES);
        convert(m, version);
        uint32_t switched = atomic_load(&live->identity);
        assert_int_not_equal(
            switched,
            ((const struct arena_live *)(const void *)(before + ARENA_LIVE_OFFSET))->identity);
        for (uint64_t at = 0; at < MEMORY_BYTES; at++) {
            if (m[at] == before[at] || !is_named(&old, at))
                continue;
            int is_switch = at >= ARENA_LIVE_OFFSET + offsetof(struct arena_live, identity) &&
                            at < ARENA_LIVE_OFFSET + offsetof(struct arena_live, identity) + 4;
            int is_page = at >= other && at < other + sizeof old;
            assert_true(is_switch || is_page);
        }
    }
    munmap(m, MEMORY_BYTES);
    free(before);
}

static void death_on_the_way(void **state) {
    unsigned char *m = filled();
    struct arena_plan plan = plan_of(1);
    for (int n = 1; n < 2400; n += 171) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct arena_conversion c;
            dies_after = n;
            try_convert(m, 3, 0, &c);
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
        assert_int_equal(arena_qualify(m, MEMORY_BYTES, &plan), ARENA_QUALIFIES);
        check(m, 1, 0xf1a65, 0);
    }
    convert(m, 3);
    check(m, 3, 0, BORN);
    munmap(m, MEMORY_BYTES);
}

static void hashes_tell_layouts_apart(void **state) {
    const struct arena_table_spec *specs[] = {&item1_spec, &item2_spec, &item3_spec, &side_spec};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++)
            assert_int_equal(layout_hash(specs[i]) == layout_hash(specs[k]), i == k);
    struct arena_table_spec s = item1_spec;
    s.name = "another";
    assert_true(layout_hash(&s) == layout_hash(&item1_spec));
    s.version++;
    assert_true(layout_hash(&s) != layout_hash(&item1_spec));
    struct arena_field fields[5];
    memcpy(fields, item1_spec.fields, sizeof fields);
    s = item1_spec;
    s.fields = fields;
    assert_true(layout_hash(&s) == layout_hash(&item1_spec));
    fields[1].name = "counts";
    assert_true(layout_hash(&s) != layout_hash(&item1_spec));
    fields[1] = item1_spec.fields[2];
    fields[2] = item1_spec.fields[1];
    assert_true(layout_hash(&s) != layout_hash(&item1_spec));
    /* The order of tables in a plan is no layout. */
    struct arena_table_plan turned[] = {{&side_spec, 10}, {&item1_spec, 7}};
    struct arena_plan plan = plan_of(1), other = plan;
    other.tables = turned;
    assert_true(arena_layout_hash(&plan) == arena_layout_hash(&other));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(up_and_down),
        cmocka_unit_test(generations_go_on),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(only_room_is_written),
        cmocka_unit_test(death_on_the_way),
        cmocka_unit_test(hashes_tell_layouts_apart),
    };
    return cmocka_run_group_tests_name("convert", tests, NULL, NULL);
}
