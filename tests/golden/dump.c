/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what an arena holds, in the layout of this build: dump FILE
 *
 * The file is an arena as it lay in memory. If its layout is another, it is converted first, as a successor would.
 * One line a slot in use, "table conn slot 3 generation 1 state 1", then its fields: name, and the bytes in
 * hexadecimal without the zeroes at their end, so that a number that was widened looks as it did. Exit status 1:
 * it cannot be converted, or its slots contradict each other; the reason is told.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/layouts.h"
#include "server/perdured.h"

#define SPARE_BYTES (64 * MIB)

static int fail(const char *why) {
    fprintf(stderr, "dump: %s\n", why);
    return 1;
}

static void print_bytes(const unsigned char *p, uint32_t bytes) {
    while (bytes > 0 && p[bytes - 1] == 0)
        bytes--;
    for (uint32_t i = 0; i < bytes; i++)
        printf("%02x", p[i]);
    printf("\n");
}

static void print_slot(const struct arena_table_spec *t, uint32_t index, const struct slot *s) {
    const unsigned char *at = (const unsigned char *)s + sizeof *s;
    printf("table %s slot %u generation %u state %u\n", t->name, index, s->generation, s->state);
    for (uint32_t i = 0; i < t->field_count; at += t->fields[i++].size_bytes)
        if (strcmp(t->fields[i].name, "reserved") != 0 && strcmp(t->fields[i].name, "pad") != 0) {
            printf("  %s ", t->fields[i].name);
            print_bytes(at, t->fields[i].size_bytes);
        }
}

static int convert(void *base, const struct arena_plan *plan) {
    static struct arena_conversion c;
    struct arena_identity want;
    char why[512];
    arena_plan_identity(plan, &want);
    arena_conversion_plan(&c, base, &want, plan->steps, 1);
    layouts_describe(plan, c.parts, c.part_count, why, sizeof why);
    if (!c.fits)
        return fail(why);
    if (c.differs == 0)
        return 0;
    arena_conversion_prepare(&c, base);
    return arena_conversion_run(&c, base, plan->steps) < 0 ? fail("not converted") : 0;
}

int main(int argc, char **argv) {
    static const struct config any;
    struct arena_plan plan = *perdured_plan(&any);
    struct arena_fault fault;
    struct arena a;
    struct stat st;
    int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
    if (fd < 0 || fstat(fd, &st) < 0 || ftruncate(fd, st.st_size + SPARE_BYTES) < 0)
        return fail("the file cannot be opened");
    uint64_t bytes = (uint64_t)st.st_size + SPARE_BYTES;
    void *base = mmap((void *)(uintptr_t)MEMORY_ADDRESS, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
    if (base == MAP_FAILED)
        return fail("the file cannot be mapped");
    memcpy(plan.boot_id, arena_identity_of(base)->boot_id, sizeof plan.boot_id);
    for (enum arena_verdict v = ARENA_BAD_MAGIC; v < ARENA_BAD_LAYOUT; v++)
        if (arena_qualify_only(v, base, bytes, &plan) != ARENA_QUALIFIES)
            return fail(arena_verdict_text(v));
    if (arena_roll_back(base) != ARENA_QUALIFIES || convert(base, &plan) != 0 ||
        arena_qualify(base, bytes, &plan) != ARENA_QUALIFIES ||
        arena_check_slots(base, &plan, &fault) != ARENA_QUALIFIES ||
        arena_attach(&a, base, bytes, &plan) < 0)
        return fail("it does not qualify");
    for (uint32_t i = 0; i < plan.table_count; i++) {
        const struct arena_table_spec *t = plan.tables[i].spec;
        for (uint32_t h = arena_next(&a, t->number, 0); h; h = arena_next(&a, t->number, h))
            print_slot(t, handle_index(h), arena_view(&a, t->number, h));
    }
    arena_detach(&a);
    return 0;
}
