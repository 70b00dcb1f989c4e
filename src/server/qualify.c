/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perdured --qualify: whether this program, with this configuration, could take over from the engine that serves
 * the store (mission P8). A dry run: the arena is mapped read-only, and what another program has to convert is
 * only tried.
 *
 * The engine is found behind the control socket; its memory is reached through /proc, so it takes the same user
 * or root. The answer is one JSON object; docs/reload.md tells its keys.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "server/layouts.h"
#include "server/perdured.h"

struct dry_run {
    const struct config *config;
    const struct arena_plan *plan;
    int pid;
    int arena_fd, program_fd;
    struct custody custody;
    uint64_t bytes;
    const void *base;
    struct arena_plan here; /* with the machine's identity of this boot */
    struct layout_order order;
    const char *converter; /* who would convert; NULL: nobody */
    char why[600];         /* the first check that does not hold */
    json_t *checks;
};

/* A check and whether it holds, said in words if it does not. What follows the first that does not hold is not
 * looked at. */
static int check(struct dry_run *d, const char *name, int holds, const char *text) {
    json_array_append_new(d->checks, json_pack("{s:s,s:b,s:s?}", "check", name, "holds", holds,
                                               "reason", holds ? NULL : text));
    if (!holds && !d->why[0])
        snprintf(d->why, sizeof d->why, "%s", text);
    return holds;
}

static int check_arena(struct dry_run *d, const char *name, enum arena_verdict v) {
    return check(d, name, arena_qualify_only(v, d->base, d->bytes, &d->here) == ARENA_QUALIFIES,
                 arena_verdict_text(v));
}

/* --- finding the engine --- */

static int engine_pid(const struct config *config) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", config->control);
    int found = fd >= 0 && connect(fd, (void *)&to, sizeof to) == 0 &&
                getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0;
    if (fd >= 0)
        close(fd);
    return found ? peer.pid : -1;
}

/* Opens the engine's memory of that name for reading. */
static int open_memory(int pid, const char *name) {
    char folder[64], path[512], target[128];
    int fd = -1;
    snprintf(folder, sizeof folder, "/proc/%d/fd", pid);
    DIR *dir = opendir(folder);
    struct dirent *e;
    while (dir && fd < 0 && (e = readdir(dir))) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (strstr(target, name))
            fd = open(path, O_RDONLY);
    }
    if (dir)
        closedir(dir);
    return fd;
}

static int read_custody(struct dry_run *d) {
    int fd = open_memory(d->pid, "perdure-custody");
    int good = fd >= 0 && pread(fd, &d->custody, sizeof d->custody, 0) == sizeof d->custody &&
               d->custody.magic == CUSTODY_MAGIC && d->custody.version == CUSTODY_VERSION;
    if (fd >= 0)
        close(fd);
    return good;
}

/* The lock that the engine holds is that of our store. */
static int owns_store(const struct dry_run *d) {
    char path[600];
    struct stat ours, theirs;
    snprintf(path, sizeof path, "%s/lock", d->config->store);
    if (stat(path, &ours) < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", d->pid, d->custody.lock_fd);
    return stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static int map_arena(struct dry_run *d) {
    struct stat st;
    void *want = (void *)(uintptr_t)MEMORY_ADDRESS;
    d->arena_fd = open_memory(d->pid, "perdure-arena");
    if (d->arena_fd < 0) /* where shared memory has no name of its own, custody knows the number */
        return 0;
    if (fstat(d->arena_fd, &st) < 0)
        return 0;
    d->bytes = (uint64_t)st.st_size;
    void *p = mmap(want, d->bytes, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, d->arena_fd, 0);
    d->base = p == MAP_FAILED ? NULL : p;
    return 1;
}

/* --- the layout --- */

static int try_own(struct dry_run *d) {
    static struct arena_conversion own;
    struct arena_identity want;
    arena_plan_identity(&d->here, &want);
    arena_conversion_plan(&own, d->base, &want, d->here.steps, 1);
    memcpy(d->order.parts, own.parts, sizeof own.parts);
    d->order.part_count = own.part_count;
    if (own.fits && own.differs > 0)
        d->converter = "this program";
    return own.fits && own.differs > 0;
}

static int try_other(struct dry_run *d) {
    struct layout_order answer;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", d->pid);
    int program = open(path, O_RDONLY);
    int fits = program >= 0 && layouts_ask(program, d->arena_fd, &d->here, 0, 1, &answer) == 0;
    if (program >= 0)
        close(program);
    if (fits) {
        d->order = answer;
        d->converter = "the program that serves";
    }
    return fits;
}

static int check_layout(struct dry_run *d) {
    char parts[400], text[520];
    int same = arena_qualify_only(ARENA_BAD_LAYOUT, d->base, d->bytes, &d->here) == ARENA_QUALIFIES;
    int fits = try_own(d) || same || try_other(d);
    layouts_describe(&d->here, d->order.parts, d->order.part_count, parts, sizeof parts);
    snprintf(text, sizeof text, "%s: %s", arena_verdict_text(ARENA_BAD_LAYOUT), parts);
    return check(d, "layout", fits, text);
}

static json_t *tables_of(const struct dry_run *d) {
    static const char *const words[] = {"same",    "converted", "new",    "dropped",
                                        "unknown", "in use",    "no form"};
    json_t *list = json_array();
    for (uint32_t i = 0; i < d->order.part_count; i++) {
        const struct arena_part_fit *f = &d->order.parts[i];
        int is_table = f->kind == ARENA_PART_TABLE;
        json_t *one =
            json_pack("{s:s,s:I,s:s?,s:I,s:I,s:s}", "kind", is_table ? "table" : "region", "number",
                      (json_int_t)f->number, "name", layouts_part_name(&d->here, f), "from",
                      (json_int_t)f->from, "to", (json_int_t)f->to, "verdict",
                      f->fit <= ARENA_FIT_SLOT ? words[f->fit] : "unknown");
        if (f->fit == ARENA_FIT_IN_USE || f->fit == ARENA_FIT_SLOT)
            json_object_set_new(one, "slot", json_integer((json_int_t)f->slot));
        json_array_append_new(list, one);
    }
    return list;
}

/* --- slots --- */

static const struct arena_part *part_of(const struct dry_run *d, uint32_t number, uint32_t *index) {
    const struct arena_identity *id = arena_identity_of(d->base);
    for (uint32_t i = 0; i < id->part_count; i++)
        if (id->parts[i].kind == ARENA_PART_TABLE && id->parts[i].number == number) {
            *index = i;
            return &id->parts[i];
        }
    return NULL;
}

static int check_slots(struct dry_run *d) {
    struct arena_fault f;
    char text[400];
    if (d->converter) /* its slots were tried one by one */
        return check(d, "slots", 1, "");
    if (arena_check_slots(d->base, &d->here, &f) == ARENA_QUALIFIES)
        return check(d, "slots", 1, "");
    arena_fault_text(&f, text, sizeof text);
    return check(d, "slots", 0, text);
}

/* Each connection, and what becomes of it; of a layout that we read. */
static json_t *connections_of(const struct dry_run *d) {
    uint32_t index;
    const struct arena_part *p = d->base ? part_of(d, TABLE_CONN, &index) : NULL;
    if (d->why[0] || d->converter || !p)
        return json_null();
    const struct arena_live *live =
        (const void *)((const unsigned char *)d->base + ARENA_LIVE_OFFSET);
    json_t *list = json_array();
    for (uint32_t i = 0; i < atomic_load(&live->high_water[index]); i++) {
        const struct conn *c = (const void *)((const unsigned char *)d->base + p->offset +
                                              (uint64_t)i * p->slot_bytes);
        char peer[sizeof c->peer + 1];
        if (c->slot.state == SLOT_FREE)
            continue;
        memcpy(peer, c->peer, sizeof c->peer);
        peer[sizeof c->peer] = 0;
        int open = c->slot.state == CONN_OPEN && c->protocol == PROTOCOL_NBD;
        json_array_append_new(list, json_pack("{s:I,s:s,s:b,s:b}", "id",
                                              (json_int_t)handle_make(i, c->slot.generation),
                                              "peer", peer, "kept_by_reload", open, "kept_by_kill",
                                              open && !(c->flags & CONN_NO_POSITIONS)));
    }
    return list;
}

/* --- all of it --- */

static int check_certificates(struct dry_run *d) {
    char text[512] = "";
    struct gnutls_credentials *c = NULL;
    if (d->config->tls != CONFIG_TLS_OFF)
        c = perdured_credentials(d->config, text, sizeof text);
    int holds = d->config->tls == CONFIG_TLS_OFF || c;
    if (c)
        gnutls_credentials_close(c);
    return check(d, "certificates", holds, text);
}

static int run_checks(struct dry_run *d) {
    char text[256];
    if ((d->pid = engine_pid(d->config)) <= 0) {
        snprintf(text, sizeof text, "nobody serves behind %s", d->config->control);
        return check(d, "owner", 0, text);
    }
    if (!read_custody(d)) {
        snprintf(text, sizeof text, "the memory of process %d cannot be read: be its user, or root",
                 d->pid);
        return check(d, "owner", 0, text);
    }
    if (!check(d, "owner", owns_store(d), "the engine serves another store"))
        return 0;
    const struct machine *m = machine_of_number(d->custody.machine);
    if (!check(d, "disks", m && strcmp(m->platform, d->config->platform) == 0,
               "another platform needs a stop and a start"))
        return 0;
    if (!check_certificates(d))
        return 0;
    m->memory->boot_id(d->here.boot_id);
    if (!map_arena(d))
        return check(d, "header", 0, "the arena cannot be opened");
    if (!d->base)
        return check(d, "address", 0, arena_verdict_text(ARENA_BAD_ADDRESS));
    return check_arena(d, "size", ARENA_BAD_SIZE) && check_arena(d, "header", ARENA_BAD_MAGIC) &&
           check_arena(d, "identity", ARENA_BAD_IDENTITY) &&
           check_arena(d, "address", ARENA_BAD_ADDRESS) && check_arena(d, "boot", ARENA_BAD_BOOT) &&
           check_layout(d) && check_arena(d, "phase", ARENA_BAD_PHASE) &&
           check_arena(d, "deaths", ARENA_BAD_DEATHS) && check_arena(d, "undo", ARENA_BAD_UNDO) &&
           check_arena(d, "attached", ARENA_BAD_SLOTS) && check_slots(d);
}

int perdured_qualify(const struct config *config, const struct arena_plan *plan) {
    static struct dry_run d;
    d = (struct dry_run){.config = config, .plan = plan, .here = *plan, .checks = json_array()};
    int good = run_checks(&d);
    json_t *said =
        json_pack("{s:b,s:s?,s:s,s:o,s:o,s:s?,s:o}", "qualifies", good, "reason",
                  good ? NULL : d.why, "version", PERDURE_VERSION, "checks", d.checks, "layouts",
                  tables_of(&d), "converter", d.converter, "connections", connections_of(&d));
    json_dumpf(said, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(said);
    return good ? 0 : 1;
}

/* --- what this program knows --- */

void perdured_tell_layouts(const struct arena_plan *plan) {
    for (uint32_t i = 0; i < plan->table_count; i++) {
        const struct arena_table_spec *s = plan->tables[i].spec;
        uint32_t at = sizeof(struct slot);
        printf("table %u %s version %u bytes %u hash %016llx\n", s->number, s->name, s->version,
               s->slot_bytes, (unsigned long long)layout_hash(s));
        for (uint32_t f = 0; f < s->field_count; at += s->fields[f++].size_bytes) {
            const struct arena_field *e = &s->fields[f];
            printf("  %u %u %s %s", at, e->size_bytes, e->type, e->name);
            if (e->count)
                printf(" [%u]", e->count);
            printf("\n");
        }
    }
    for (uint32_t i = 0; i < plan->region_count; i++)
        printf("region %u version %u\n", plan->regions[i].number, plan->regions[i].version);
    for (uint32_t i = 0; i < plan->steps->table_count; i++) {
        const struct arena_step *s = &plan->steps->tables[i];
        printf("step %u from %u %016llx to %u %016llx\n", s->from->number, s->from->version,
               (unsigned long long)layout_hash(s->from), s->to->version,
               (unsigned long long)layout_hash(s->to));
    }
}
