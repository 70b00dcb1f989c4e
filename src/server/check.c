/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perdured --check: what a store that no server has is worth (engine/check). The catalogue comes first, as it
 * says which segments are freed; it is read through a copy in memory, so that nothing of it changes. Without
 * --repair nothing of the store does.
 *
 * The exit status is of the command line's table: 0 nothing is damaged, 3 no store, 4 a server has it,
 * 9 damage, 1 it could not be looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "engine/catalogue/catalogue.h"
#include "engine/check/check.h"
#include "plat/posix/posix.h"
#include "server/perdured.h"
#include "server/read_only.h"

enum {
    STATUS_CLEAN = 0,
    STATUS_FAILED = 1,
    STATUS_NO_STORE = 3,
    STATUS_IN_USE = 4,
    STATUS_DAMAGED = 9
};

#define LOCK_TRIES 50 /* 20 ms apart */

struct store_check {
    const char *store;
    int is_json;
    struct check check;
    struct catalogue_snapshot *snapshot;
    uint64_t catalogue; /* transactions that it has */
    json_t *findings;
};

/* ---- The catalogue ---- */

static void run_at_once(void *ctx, struct job *job) {
    (void)ctx;
    job->run(job);
    job->done(job);
}
static int nothing_to_reap(void *ctx) {
    (void)ctx;
    return 0;
}
static void nothing_to_drain(void *ctx) {
    (void)ctx;
}

static void answered(struct catalogue_request *r) {
    (void)r;
}

static void report(struct store_check *s, const struct check_finding *f, const char *more) {
    s->check.findings[f->grade]++;
    s->check.found(s->check.ctx, f);
    if (!s->is_json && more[0])
        printf("    %s\n", more);
}

static void look_at_catalogue(struct store_check *s, struct file_system files,
                              const struct store_header *h) {
    static const struct job_runner_ops at_once = {run_at_once, nothing_to_reap, nothing_to_drain};
    struct posix_random random;
    struct read_only memory;
    struct catalogue c;
    struct catalogue_request *q = calloc(1, sizeof *q);
    if (!q || posix_random_open(&random) < 0) {
        free(q);
        return;
    }
    struct catalogue_config config = {.runner = {&at_once, NULL},
                                      .files = read_only_files(&memory, files),
                                      .clock = posix_clock(),
                                      .random = posix_random(&random)};
    memcpy(config.store_id, h->id, sizeof config.store_id);
    struct check_finding f = {
        .code = CHECK_CATALOGUE, .grade = CHECK_DAMAGE, .file = CATALOGUE_PATH};
    if (catalogue_open(&c, &config) == 0) {
        *q = (struct catalogue_request){.kind = CATALOGUE_SNAPSHOT, .done = answered};
        catalogue_submit(&c, q);
        if (q->result < 0)
            report(s, &f, q->detail);
        else
            s->snapshot = q->snapshot;
        s->catalogue = q->generation;
        catalogue_close(&c);
    }
    read_only_close(&memory);
    posix_random_close(&random);
    free(q);
}

static int segment_freed(void *ctx, uint32_t segment) {
    const struct store_check *s = ctx;
    uint32_t low = 0, high = s->snapshot->freed_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->snapshot->freed[middle] == segment)
            return 1;
        if (s->snapshot->freed[middle] < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

static uint64_t sealed_up_to(void *ctx) {
    return ((struct store_check *)ctx)->snapshot->sealed_up_to;
}

/* ---- Findings ---- */

static int concerns(const struct check_finding *f, uint32_t family) {
    if (f->family != 0)
        return f->family == family;
    for (uint32_t i = 0; i < f->family_count; i++)
        if (f->families[i] == family)
            return 1;
    return f->family_count == 0;
}

static json_t *volumes_of(const struct store_check *s, const struct check_finding *f) {
    json_t *names = json_array();
    if (f->code == CHECK_STORE_HEADER || f->code == CHECK_FILE_EXTRA || f->code == CHECK_FILE_STRAY)
        return names;
    for (uint32_t i = 0; s->snapshot && i < s->snapshot->object_count; i++) {
        const struct catalogue_object *o = &s->snapshot->objects[i];
        if (concerns(f, o->line.family))
            json_array_append_new(names, json_string(o->name));
    }
    return names;
}

static const char *grade_text(enum check_grade grade) {
    return grade == CHECK_DAMAGE ? "damaged" : grade == CHECK_MENDED ? "mends" : "note";
}

static void print_finding(const struct check_finding *f, const json_t *volumes) {
    printf("%s: %s, byte %llu: %s", grade_text(f->grade), f->file, (unsigned long long)f->offset,
           check_text(f->code));
    if (f->segment)
        printf(" (segment %u)", f->segment);
    printf("\n");
    if (f->family)
        printf("    block %llu: offset %llu of the volume\n", (unsigned long long)f->block,
               (unsigned long long)f->block * BLOCK_BYTES);
    if (f->first_sequence)
        printf("    moments: seq:%llu%s%llu%s\n", (unsigned long long)f->first_sequence,
               f->last_sequence ? " to seq:" : " and later, until it is written again",
               (unsigned long long)f->last_sequence, "");
    if (json_array_size(volumes) > 0)
        printf("    volumes:");
    for (size_t i = 0; i < json_array_size(volumes); i++)
        printf(" %s", json_string_value(json_array_get(volumes, i)));
    if (json_array_size(volumes) > 0)
        printf("\n");
    printf("    %s\n", f->was_repaired ? "repaired" : check_advice(f->code));
}

static void found(void *ctx, const struct check_finding *f) {
    struct store_check *s = ctx;
    json_t *volumes = volumes_of(s, f);
    if (!s->is_json) {
        print_finding(f, volumes);
        json_decref(volumes);
        return;
    }
    json_array_append_new(s->findings,
                          json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:o,s:s,s:s,s:b}", "code",
                                    check_name(f->code), "grade", grade_text(f->grade), "file",
                                    f->file, "offset_bytes", (json_int_t)f->offset, "length_bytes",
                                    (json_int_t)f->bytes, "segment", (json_int_t)f->segment,
                                    "first_sequence", (json_int_t)f->first_sequence,
                                    "last_sequence", (json_int_t)f->last_sequence, "volumes",
                                    volumes, "message", check_text(f->code), "advice",
                                    check_advice(f->code), "repaired", f->was_repaired));
}

static int status_of(const struct store_check *s, int err) {
    const struct check *c = &s->check;
    if (c->findings[CHECK_DAMAGE] > 0 || c->findings[CHECK_MENDED] > 0)
        return STATUS_DAMAGED;
    return err < 0 ? STATUS_FAILED : STATUS_CLEAN;
}

static void conclude(struct store_check *s, int err, int status) {
    const struct check *c = &s->check;
    if (s->is_json) {
        json_t *all =
            json_pack("{s:s,s:b,s:o,s:{s:I,s:I,s:I,s:I,s:I},s:s?}", "store", s->store, "clean",
                      status == 0, "findings", s->findings, "looked_at", "segments",
                      (json_int_t)c->segments, "frames", (json_int_t)c->frames, "blocks",
                      (json_int_t)c->blocks, "merged_runs", (json_int_t)c->merged, "bytes",
                      (json_int_t)c->bytes, "error", err < 0 ? err_text(err) : NULL);
        json_dumpf(all, stdout, JSON_COMPACT);
        printf("\n");
        json_decref(all);
        return;
    }
    printf("%s: %llu segments, %llu frames, %llu blocks of data, %llu merged runs: ", s->store,
           (unsigned long long)c->segments, (unsigned long long)c->frames,
           (unsigned long long)c->blocks, (unsigned long long)c->merged);
    if (err < 0)
        printf("the rest could not be looked at: %s\n", err_text(err));
    else if (status == STATUS_CLEAN)
        printf("all of it is whole\n");
    else
        printf("%llu damaged, %llu that mend themselves or were repaired\n",
               (unsigned long long)c->findings[CHECK_DAMAGE],
               (unsigned long long)c->findings[CHECK_MENDED]);
}

/* ---- The store ---- */

static int refuse(const char *store, const char *why, int status) {
    fprintf(stderr, "perdured: %s: %s\n", store, why);
    return status;
}

/* A server that was just stopped may hold it for a moment. 1: it is ours, or there is none. */
static int take_lock(int dir) {
    const struct timespec pause = {.tv_nsec = 20000000};
    int fd = openat(dir, "lock", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    for (int i = 0; i < LOCK_TRIES; i++, nanosleep(&pause, NULL))
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 1;
    close(fd);
    return 0;
}

static int look(struct store_check *s, struct file_system files) {
    struct store_header h;
    int err = check_identity(&files, &h);
    if (err == 0 || err == ERR_READONLY)
        look_at_catalogue(s, files, &h);
    if (s->snapshot) {
        s->check.segment_freed = segment_freed;
        s->check.sealed_up_to = sealed_up_to;
    }
    err = check_store(&s->check);
    if (s->snapshot && s->check.catalogue > s->catalogue)
        report(s,
               &(struct check_finding){
                   .code = CHECK_CATALOGUE_OLD, .grade = CHECK_DAMAGE, .file = CATALOGUE_PATH},
               "");
    return err;
}

int perdured_check(const char *store, int repairs, int is_json) {
    struct store_check s = {.store = store, .is_json = is_json, .findings = json_array()};
    int dir = open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return refuse(store, strerror(errno), STATUS_NO_STORE);
    if (faccessat(dir, STORE_FILE, F_OK, 0) < 0)
        return refuse(store, "there is no store in this directory", STATUS_NO_STORE);
    if (!take_lock(dir))
        return refuse(store,
                      "a server has the store; ask it with `perdure status`, or stop it first",
                      STATUS_IN_USE);
    struct posix_files files = {dir};
    s.check = (struct check){.files = posix_files(&files),
                             .flags = repairs ? CHECK_REPAIR : 0,
                             .found = found,
                             .ctx = &s};
    int err = look(&s, s.check.files);
    int status = status_of(&s, err);
    conclude(&s, err, status);
    catalogue_snapshot_free(s.snapshot);
    if (!is_json)
        json_decref(s.findings);
    close(dir);
    return status;
}
