/* SPDX-License-Identifier: Apache-2.0 */
#include "server/layouts.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "server/core.h"
#include "custody/process.h"

/* A child that has not converted after this never will. */
#define CONVERT_MAX_MS 5000

extern char **environ;

const char *layouts_part_name(const struct arena_plan *plan, const struct arena_part_fit *part) {
    for (uint32_t i = 0; i < plan->table_count && part->kind == ARENA_PART_TABLE; i++)
        if (plan->tables[i].spec->number == part->number)
            return plan->tables[i].spec->name;
    return NULL;
}

void layouts_describe(const struct arena_plan *plan, const struct arena_part_fit *parts,
                      uint32_t count, char *out, size_t room) {
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < count && at < room; i++) {
        const struct arena_part_fit *p = &parts[i];
        if (p->fit == ARENA_FIT_SAME)
            continue;
        if (at > 0)
            at += (size_t)snprintf(out + at, room - at, "; ");
        if (at < room)
            at += (size_t)arena_part_fit_text(p, layouts_part_name(plan, p), out + at, room - at);
    }
}

/* --- the child --- */

static void *map_at(uintptr_t hint, int fd, uint64_t bytes, int write) {
    void *p =
        mmap((void *)hint, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* A conversion reads and writes the arena wherever it lies; it lies where it always does if it can. */
static void *map_arena(int fd, uint64_t bytes, int write) {
    return map_at((uintptr_t)MEMORY_ADDRESS, fd, bytes, write);
}

static struct layout_order *map_order(int fd) {
    return map_at(0, fd, sizeof(struct layout_order), 1);
}

static int64_t size_of(int fd) {
    struct stat st;
    return fstat(fd, &st) < 0 ? ERR_INVAL : st.st_size;
}

static int is_sound(const void *base, uint64_t bytes) {
    return arena_qualify_only(ARENA_BAD_MAGIC, base, bytes, NULL) == ARENA_QUALIFIES &&
           arena_qualify_only(ARENA_BAD_IDENTITY, base, bytes, NULL) == ARENA_QUALIFIES &&
           arena_qualify_only(ARENA_BAD_SIZE, base, bytes, NULL) == ARENA_QUALIFIES;
}

static int carry_out(int fd, struct layout_order *o, const struct arena_steps *steps) {
    static struct arena_conversion c;
    int64_t size = size_of(fd);
    void *base =
        size < (int64_t)ARENA_HEADER_BYTES ? NULL : map_arena(fd, (uint64_t)size, o->run != 0);
    if (!base || !is_sound(base, (uint64_t)size))
        return ERR_INTEGRITY;
    arena_conversion_plan(&c, base, &o->want, steps, o->slots != 0);
    memcpy(o->parts, c.parts, sizeof o->parts);
    o->part_count = c.part_count;
    o->differs = c.differs;
    if (!c.fits || c.differs == 0) /* nothing differs: then its header contradicts itself */
        return ERR_UNSUPPORTED;
    if (!o->run)
        return 0;
    if (c.next.size_bytes > (uint64_t)size) {
        munmap(base, (size_t)size);
        if (fallocate(fd, 0, 0, (off_t)c.next.size_bytes) < 0 ||
            !(base = map_arena(fd, c.next.size_bytes, 1)))
            return ERR_NOMEM;
    }
    arena_conversion_prepare(&c, base);
    return arena_conversion_run(&c, base, steps);
}

int layouts_is_order(int argc, char **argv, const struct arena_steps *steps, int *status) {
    int arena_fd, page_fd;
    if (argc < 2 || sscanf(argv[1], "--convert=%d,%d", &arena_fd, &page_fd) != 2)
        return 0;
    *status = 1;
    struct layout_order *o = size_of(page_fd) >= (int64_t)sizeof *o ? map_order(page_fd) : NULL;
    if (!o || o->magic != LAYOUT_ORDER_MAGIC || o->version != LAYOUT_ORDER_VERSION) {
        fprintf(stderr, "<3>%s: --convert is for a successor alone\n", argv[0]);
        return 1;
    }
    o->result = carry_out(arena_fd, o, steps);
    *status = 0;
    return 1;
}

/* --- who asks --- */

static struct arena_identity want_of(const struct arena_plan *plan) {
    struct arena_identity id;
    arena_plan_identity(plan, &id);
    return id;
}

/* Waits for a child; one that takes too long is ended. */
static void await_child(int pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd < 0 || poll(&p, 1, CONVERT_MAX_MS) != 1)
        kill(pid, SIGKILL);
    if (fd >= 0)
        close(fd);
    waitpid(pid, NULL, 0);
}

/* The child does not outlive us: it would convert the arena under the next engine's feet. */
static int start(int program, char *order) {
    char name[] = "perdured", *args[] = {name, order, NULL};
    int parent = getpid(), pid = vfork();
    if (pid == 0) {
        if (process_ends_with(parent))
            syscall(SYS_execveat, program, "", args, environ, AT_EMPTY_PATH);
        _exit(127);
    }
    return pid;
}

int layouts_ask(int program, int arena_fd, const struct arena_plan *plan, int run, int slots,
                struct layout_order *answer) {
    char order[64];
    int page = memfd_create("perdure-order", 0);
    struct layout_order *o = page >= 0 && ftruncate(page, sizeof *o) == 0 ? map_order(page) : NULL;
    *answer = (struct layout_order){.magic = LAYOUT_ORDER_MAGIC,
                                    .version = LAYOUT_ORDER_VERSION,
                                    .run = (uint32_t)run,
                                    .slots = (uint32_t)slots,
                                    .result = ERR_UNSUPPORTED,
                                    .want = want_of(plan)};
    if (o) {
        *o = *answer;
        snprintf(order, sizeof order, "--convert=%d,%d", arena_fd, page);
        int pid = start(program, order);
        if (pid > 0)
            await_child(pid);
        *answer = *o;
        munmap(o, sizeof *o);
    }
    if (page >= 0)
        close(page);
    answer->part_count = answer->part_count <= 2 * ARENA_PARTS_MAX ? answer->part_count : 0;
    return o ? answer->result : ERR_NOMEM;
}

static int remap(struct core *c, uint64_t bytes) {
    const struct memory_ops *memory = c->machine->memory;
    if (bytes == c->bytes)
        return 0;
    memory->unmap(c->base, c->bytes);
    c->bytes = bytes;
    int err = memory->map(atomic_load(&c->boot->custody->arena_fd), bytes, &c->base);
    if (err < 0)
        c->base = NULL;
    return err;
}

static void note(struct core *c, const struct arena_part_fit *parts, uint32_t count) {
    c->part_count = count;
    memcpy(c->parts, parts, count * sizeof *parts);
    layouts_describe(&c->plan, parts, count, c->why, sizeof c->why);
}

/* Programs that were before us, or were to be: who served last comes first. */
static int ask_others(struct core *c, int run, int slots) {
    struct custody *k = c->boot->custody;
    const int programs[] = {atomic_load(&k->binary_fd), atomic_load(&k->next_binary_fd),
                            atomic_load(&k->previous_binary_fd)};
    struct layout_order answer;
    int err = ERR_UNSUPPORTED;
    for (size_t i = 0; i < sizeof programs / sizeof programs[0] && err < 0; i++) {
        if (programs[i] < 0)
            continue;
        err = layouts_ask(programs[i], atomic_load(&k->arena_fd), &c->plan, run, slots, &answer);
        if (err == 0)
            note(c, answer.parts, answer.part_count);
    }
    return err;
}

/* Whether our own steps lead there; then the memory is large enough. */
static int own_way(struct core *c, struct arena_conversion *own, int slots) {
    struct arena_identity want = want_of(&c->plan);
    arena_conversion_plan(own, c->base, &want, c->plan.steps, slots);
    note(c, own->parts, own->part_count);
    if (!own->fits || own->differs == 0)
        return ERR_UNSUPPORTED;
    if (own->next.size_bytes <= c->bytes)
        return 0;
    int err =
        c->machine->memory->grow(atomic_load(&c->boot->custody->arena_fd), own->next.size_bytes);
    return err < 0 ? err : remap(c, own->next.size_bytes);
}

static enum arena_verdict no_way(struct core *c) {
    char parts[sizeof c->why];
    snprintf(parts, sizeof parts, "%s", c->why);
    snprintf(c->why, sizeof c->why, "%s: %.400s", arena_verdict_text(ARENA_BAD_LAYOUT),
             parts[0] ? parts : "its header contradicts itself");
    return ARENA_BAD_LAYOUT;
}

enum arena_verdict layouts_prepare(struct core *c) {
    static struct arena_conversion own;
    int slots = c->boot->mode == BOOT_PLANNED;
    if (own_way(c, &own, slots) == 0) {
        arena_conversion_prepare(&own, c->base);
        return ARENA_QUALIFIES;
    }
    /* Of an arena that nobody serves there is nothing to try. */
    return ask_others(c, 0, slots) == 0 ? ARENA_QUALIFIES : no_way(c);
}

enum arena_verdict layouts_convert(struct core *c) {
    static struct arena_conversion own;
    int err = own_way(c, &own, 0);
    if (err == 0) {
        arena_conversion_prepare(&own, c->base);
        err = arena_conversion_run(&own, c->base, c->plan.steps);
    } else if ((err = ask_others(c, 1, 0)) == 0) {
        int64_t size = c->machine->memory->size(atomic_load(&c->boot->custody->arena_fd));
        err = size < 0 ? (int)size : remap(c, (uint64_t)size);
    }
    if (err == 0 && c->base)
        return arena_qualify(c->base, c->bytes, &c->plan);
    return no_way(c);
}
