/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One small function an operation, found through a table at the end. Texts are short-lived: each
 * value is made into a struct text, which is passed to printf by its only field.
 */
#include "cli/render.h"

#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "cli/table.h"
#include "ctl/size.h"

struct view {
    const struct cli *cli;
    const json_t *args, *result;
    FILE *out;
};

struct text {
    char s[256];
};

static struct text dash(void) {
    return (struct text){"-"};
}

static struct text text_of(const json_t *object, const char *key) {
    struct text t = dash();
    const char *s = json_string_value(json_object_get(object, key));
    if (s)
        snprintf(t.s, sizeof t.s, "%s", s);
    return t;
}

static struct text count_of(const json_t *object, const char *key) {
    struct text t = dash();
    const json_t *v = json_object_get(object, key);
    if (json_is_integer(v))
        snprintf(t.s, sizeof t.s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    return t;
}

static struct text size_of(const json_t *object, const char *key) {
    struct text t = dash();
    const json_t *v = json_object_get(object, key);
    char size[SIZE_TEXT_BYTES];
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return t;
    size_format(size, (uint64_t)json_integer_value(v));
    snprintf(t.s, sizeof t.s, "%s", size);
    return t;
}

static struct text pause_of(const json_t *object, const char *key) {
    struct text t = dash();
    const json_t *v = json_object_get(object, key);
    char duration[SIZE_TEXT_BYTES];
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return t;
    duration_format(duration, (uint64_t)json_integer_value(v));
    snprintf(t.s, sizeof t.s, "%s", duration);
    return t;
}

static struct text time_of(const struct view *v, const json_t *object, const char *key,
                           uint32_t digits) {
    const char *s = json_string_value(json_object_get(object, key));
    struct moment m;
    char local[MOMENT_TEXT_BYTES];
    struct text t = dash();
    if (!s || moment_parse(s, strlen(s), 0, NULL, &m, NULL) != OK || m.kind != MOMENT_TIME)
        return t;
    moment_format_local(m.time_ns, digits, &v->cli->zone, local);
    snprintf(t.s, sizeof t.s, "%s", local);
    return t;
}

/* A MOMENT: "2026-11-22 17:00:03.250 +01:00 (seq:123)". */
static struct text moment_of(const struct view *v, const json_t *object, const char *key) {
    const json_t *moment = json_object_get(object, key);
    struct text t;
    snprintf(t.s, sizeof t.s, "%.64s (seq:%.24s)", time_of(v, moment, "time", 3).s,
             count_of(moment, "sequence").s);
    return json_is_object(moment) ? t : dash();
}

static bool is_true(const json_t *object, const char *key) {
    return json_is_true(json_object_get(object, key));
}

static bool is_there(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v);
}

/* "demo, logs" from ["demo","logs"]. */
static struct text names_of(const json_t *list) {
    struct text t = {""};
    size_t i, at = 0;
    const json_t *item;
    json_array_foreach(list, i, item) {
        const char *s = json_is_object(item) ? json_string_value(json_object_get(item, "volume"))
                                             : json_string_value(item);
        at += (size_t)snprintf(t.s + at, sizeof t.s - at, "%s%s", i ? ", " : "", s ? s : "-");
        if (at >= sizeof t.s)
            break;
    }
    return t;
}

static void row(struct table *t, const char *name, struct text value) {
    table_cell(t, "%s", name);
    table_cell(t, "%s", value.s);
}

static bool is_thinned(const json_t *volume) {
    return is_there(volume, "every_moment_since") &&
           !json_equal(json_object_get(volume, "oldest"),
                       json_object_get(volume, "every_moment_since"));
}

/* Under a moment that stands for another. */
static void put_exact(const struct view *v) {
    if (json_is_false(json_object_get(v->result, "exact")))
        fputs("not every moment of that time is kept: this is the one before it\n", v->out);
}

static void volume(const struct view *v) {
    const json_t *r = v->result;
    struct table t;
    table_begin(&t, "|");
    row(&t, "volume", text_of(r, "name"));
    row(&t, "size", size_of(r, "size_bytes"));
    row(&t, "block size", size_of(r, "block_size_bytes"));
    row(&t, "durable at", text_of(r, "durability"));
    if (is_there(r, "retain_ns"))
        row(&t, "retains", pause_of(r, "retain_ns"));
    if (is_there(r, "retain_bytes"))
        row(&t, "retains at most", size_of(r, "retain_bytes"));
    if (is_there(r, "thin_after"))
        row(&t, "thins after", text_of(r, "thin_after"));
    row(&t, "state", text_of(r, "state"));
    if (is_there(r, "reason"))
        row(&t, "reason", text_of(r, "reason"));
    row(&t, "clients", count_of(r, "clients"));
    row(&t, "open images", count_of(r, "images"));
    row(&t, "oldest", moment_of(v, r, "oldest"));
    if (is_thinned(r))
        row(&t, "every moment since", moment_of(v, r, "every_moment_since"));
    row(&t, "newest", moment_of(v, r, "newest"));
    row(&t, "created", time_of(v, r, "created_at", 0));
    if (is_there(r, "deleted_at"))
        row(&t, "deleted", time_of(v, r, "deleted_at", 0));
    size_t i;
    json_t *address;
    json_array_foreach(json_object_get(r, "addresses"), i, address) {
        table_cell(&t, i ? "" : "address");
        table_cell(&t, "%s", json_string_value(address) ? json_string_value(address) : "-");
    }
    table_end(&t, v->out);
    if (strcmp(text_of(r, "state").s, "refused") == 0)
        fprintf(v->out, "\nit is served again after: perdure volume accept-loss %s\n",
                text_of(r, "name").s);
}

static void volume_list(const struct view *v) {
    const json_t *list = json_object_get(v->result, "volumes");
    struct table t;
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        fputs("no volumes; make one: perdure volume create NAME --size 10G\n", v->out);
        return;
    }
    table_begin(&t, "NAME|>SIZE|>BLOCK|STATE|>CLIENTS|>IMAGES|OLDEST");
    json_array_foreach(list, i, item) {
        table_cell(&t, "%s", text_of(item, "name").s);
        table_cell(&t, "%s", size_of(item, "size_bytes").s);
        table_cell(&t, "%s", count_of(item, "block_size_bytes").s);
        table_cell(&t, "%s", text_of(item, "state").s);
        table_cell(&t, "%s", count_of(item, "clients").s);
        table_cell(&t, "%s", count_of(item, "images").s);
        table_cell(&t, "%s", time_of(v, json_object_get(item, "oldest"), "time", 0).s);
    }
    table_end(&t, v->out);
}

static void volume_delete(const struct view *v) {
    struct text name = text_of(v->result, "name");
    if (is_true(v->result, "now"))
        fprintf(v->out, "%s is deleted; %s given back\n", name.s,
                size_of(v->result, "freed_bytes").s);
    else
        fprintf(v->out,
                "%s is in the trash; perdure volume undelete %s takes it out again, perdure volume "
                "delete %s --now gives its space back\n",
                name.s, name.s, name.s);
}

static void image_open(const struct view *v) {
    const json_t *r = v->result;
    struct table t;
    size_t i, j;
    json_t *disk, *address;
    table_begin(&t, "|");
    row(&t, "image", text_of(r, "name"));
    row(&t, "moment", moment_of(v, r, "at"));
    table_cell(&t, "access");
    table_cell(&t, is_true(r, "writable") ? "writable" : "read-only");
    table_cell(&t, "closes");
    table_cell(&t, "%s",
               is_there(r, "lease_ends_at") ? time_of(v, r, "lease_ends_at", 0).s : "when told");
    json_array_foreach(json_object_get(r, "disks"), i, disk)
        json_array_foreach(json_object_get(disk, "addresses"), j, address) {
        table_cell(&t, "%s", text_of(disk, "volume").s);
        table_cell(&t, "%s", json_string_value(address) ? json_string_value(address) : "-");
    }
    table_end(&t, v->out);
    put_exact(v);
}

static void image_list(const struct view *v) {
    const json_t *list = json_object_get(v->result, "images");
    struct table t;
    size_t i, j;
    json_t *image, *disk;
    if (json_array_size(list) == 0) {
        fputs("no open images\n", v->out);
        return;
    }
    table_begin(&t, "IMAGE|EXPORT|>SIZE|MOMENT|ACCESS|>CLIENTS|CLOSES");
    json_array_foreach(list, i, image)
        json_array_foreach(json_object_get(image, "disks"), j, disk) {
        table_cell(&t, "%s", text_of(image, "name").s);
        table_cell(&t, "%s", text_of(disk, "export").s);
        table_cell(&t, "%s", size_of(disk, "size_bytes").s);
        table_cell(&t, "%s", time_of(v, json_object_get(image, "at"), "time", 3).s);
        table_cell(&t, is_true(image, "writable") ? "writable" : "read-only");
        table_cell(&t, "%s", count_of(disk, "clients").s);
        table_cell(&t, "%s", time_of(v, image, "lease_ends_at", 0).s);
    }
    table_end(&t, v->out);
}

static void image_close(const struct view *v) {
    fprintf(v->out, "%s is closed\n", text_of(v->result, "name").s);
}

/* The command that undoes a restore asks for the same volumes and range at the moment before. */
static void put_undo(const struct view *v) {
    size_t i;
    json_t *item;
    const json_t *range = json_object_get(v->args, "range");
    fputs("undo it with: perdure restore", v->out);
    json_array_foreach(json_object_get(v->result, "volumes"), i, item)
        fprintf(v->out, " %s", text_of(item, "volume").s);
    fprintf(v->out, " --at seq:%s", count_of(json_object_get(v->result, "before"), "sequence").s);
    if (range)
        fprintf(v->out, " --range %s:%s", count_of(range, "offset_bytes").s,
                count_of(range, "length_bytes").s);
    fputc('\n', v->out);
}

static void restore(const struct view *v) {
    const json_t *list = json_object_get(v->result, "volumes");
    bool dry = is_true(v->result, "dry_run");
    struct table t;
    size_t i;
    json_t *item;
    fprintf(v->out, "%s %s %s\n", names_of(list).s, dry ? "would go back to" : "went back to",
            moment_of(v, v->result, "to").s);
    table_begin(&t, "VOLUME|>OFFSET|>LENGTH|>CLIENTS");
    json_array_foreach(list, i, item) {
        table_cell(&t, "%s", text_of(item, "volume").s);
        table_cell(&t, "%s", count_of(item, "offset_bytes").s);
        table_cell(&t, "%s", size_of(item, "length_bytes").s);
        table_cell(&t, "%s", count_of(item, "clients").s);
    }
    table_end(&t, v->out);
    put_exact(v);
    if (is_true(v->result, "destructive"))
        fprintf(v->out, "what came after that moment %s\n",
                dry ? "would be given up, and nothing would undo it" : "is given up");
    if (dry)
        fputs("nothing was changed\n", v->out);
    else if (!is_true(v->result, "destructive"))
        put_undo(v);
}

static void mark_create(const struct view *v) {
    fprintf(v->out, "%s of %s is %s\n", text_of(v->result, "label").s,
            names_of(json_object_get(v->result, "volumes")).s, moment_of(v, v->result, "at").s);
}

static void mark_list(const struct view *v) {
    const json_t *list = json_object_get(v->result, "marks");
    struct table t;
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        fputs("no marks\n", v->out);
        return;
    }
    table_begin(&t, "VOLUME|LABEL|MOMENT|>SEQUENCE|HELD");
    json_array_foreach(list, i, item) {
        const json_t *at = json_object_get(item, "at");
        table_cell(&t, "%s", text_of(item, "volume").s);
        table_cell(&t, "%s", text_of(item, "label").s);
        table_cell(&t, "%s", time_of(v, at, "time", 3).s);
        table_cell(&t, "%s", count_of(at, "sequence").s);
        table_cell(&t, "%s", is_true(item, "hold") ? "yes" : "");
    }
    table_end(&t, v->out);
}

static void pins(const struct view *v) {
    const json_t *list = json_object_get(v->result, "pins");
    struct table t;
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        fputs("nothing but what volumes retain\n", v->out);
        return;
    }
    table_begin(&t, "VOLUME|KEPT BY|NAME|MOMENT|>SEQUENCE|UNTIL|OLDER THAN RETAINED");
    json_array_foreach(list, i, item) {
        const json_t *at = json_object_get(item, "at");
        table_cell(&t, "%s", text_of(item, "volume").s);
        table_cell(&t, "%s", text_of(item, "kind").s);
        table_cell(&t, "%s", text_of(item, "name").s);
        table_cell(&t, "%s", time_of(v, at, "time", 3).s);
        table_cell(&t, "%s", count_of(at, "sequence").s);
        table_cell(&t, "%s", time_of(v, item, "until", 0).s);
        table_cell(&t, "%s", is_true(item, "is_older_than_retained") ? "yes" : "");
    }
    table_end(&t, v->out);
}

static void mark_delete(const struct view *v) {
    fprintf(v->out, "%s of %s is forgotten\n", text_of(v->result, "label").s,
            names_of(json_object_get(v->result, "volumes")).s);
}

static void status_converted(struct table *t, const json_t *list) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        int has_name = is_there(item, "name");
        table_cell(t, "%s", i == 0 ? "converted" : "");
        table_cell(t, "%s %s, version %s to %s", text_of(item, "kind").s,
                   has_name ? text_of(item, "name").s : count_of(item, "number").s,
                   count_of(item, "from").s, count_of(item, "to").s);
    }
}

static void status_reload(const struct view *v, struct table *t) {
    const json_t *reload = json_object_get(v->result, "reload");
    table_cell(t, "engine");
    table_cell(t, "number %s, since %.40s, start %s, pause %.40s", count_of(reload, "generation").s,
               time_of(v, reload, "at", 0).s, text_of(reload, "kind").s,
               pause_of(reload, "pause_ns").s);
    if (is_there(reload, "death"))
        row(t, "before", text_of(reload, "death"));
    if (is_there(reload, "poison"))
        row(t, "poison from", text_of(reload, "poison"));
    if (is_there(reload, "reason"))
        row(t, "began cold, as", text_of(reload, "reason"));
    if (is_there(reload, "failure"))
        row(t, "last failure", text_of(reload, "failure"));
    status_converted(t, json_object_get(reload, "converted"));
}

static void status(const struct view *v) {
    const json_t *r = v->result;
    const json_t *store = json_object_get(r, "store"), *arena = json_object_get(r, "arena"),
                 *index = json_object_get(r, "index");
    struct table t;
    size_t i;
    json_t *item;
    table_begin(&t, "|");
    table_cell(&t, "server");
    table_cell(&t, "%s, version %s, process %s", text_of(r, "state").s, text_of(r, "version").s,
               count_of(r, "pid").s);
    row(&t, "started", time_of(v, r, "started_at", 0));
    table_cell(&t, "platform");
    table_cell(&t, "%s, disks by %s", text_of(r, "platform").s, text_of(r, "disks").s);
    status_reload(v, &t);
    row(&t, "store", text_of(store, "path"));
    table_cell(&t, "space");
    table_cell(&t, "%s used, %s free of %s, %s held in reserve", size_of(store, "used_bytes").s,
               size_of(store, "free_bytes").s, size_of(store, "size_bytes").s,
               size_of(store, "reserve_bytes").s);
    if (is_there(store, "recorded_bytes_per_day")) {
        table_cell(&t, "recorded");
        table_cell(&t, "%s a day; the free room lasts %s",
                   size_of(store, "recorded_bytes_per_day").s,
                   is_there(store, "free_lasts_ns") ? pause_of(store, "free_lasts_ns").s
                                                    : "a hundred years");
    }
    json_t *cleaning = json_object_get(r, "cleaning");
    table_cell(&t, "given up");
    table_cell(&t, "%s segments freed, %s made, %s moved in %s cleanings",
               count_of(cleaning, "segments_freed").s, count_of(cleaning, "segments_made").s,
               size_of(cleaning, "moved_bytes").s, count_of(cleaning, "passes").s);
    row(&t, "newest", moment_of(v, store, "newest"));
    row(&t, "durable up to", count_of(store, "durable_sequence"));
    table_cell(&t, "arena");
    table_cell(&t, "%s used of %s, %s in huge pages", size_of(arena, "used_bytes").s,
               size_of(arena, "size_bytes").s, size_of(arena, "huge_bytes").s);
    table_cell(&t, "index");
    table_cell(&t, "%s runs, %s of them not merged; %s in memory", count_of(index, "runs").s,
               count_of(index, "unmerged").s, size_of(index, "cache_bytes").s);
    json_array_foreach(json_object_get(r, "listeners"), i, item) {
        table_cell(&t, i ? "" : "listens");
        table_cell(&t, "%s on %s", text_of(item, "protocol").s, text_of(item, "address").s);
    }
    row(&t, "volumes", count_of(r, "volumes"));
    row(&t, "open images", count_of(r, "images"));
    row(&t, "connections", count_of(r, "connections"));
    row(&t, "alerts", count_of(r, "alerts"));
    table_end(&t, v->out);
}

static json_int_t number_of(const json_t *object, const char *key) {
    return json_integer_value(json_object_get(object, key));
}

/* Of all items of a list. */
static struct text total_size_of(const json_t *list, const char *key) {
    struct text t;
    size_t i;
    json_t *item;
    json_int_t bytes = 0;
    json_array_foreach(list, i, item) {
        bytes += number_of(item, key);
    }
    size_format(t.s, (uint64_t)bytes);
    return t;
}

static void diff(const struct view *v) {
    const json_t *list = json_object_get(v->result, "ranges");
    struct table t;
    size_t i;
    json_t *item;
    fprintf(v->out, "%s of %s written from %s to %s\n", total_size_of(list, "length_bytes").s,
            text_of(v->result, "volume").s, moment_of(v, v->result, "from").s,
            moment_of(v, v->result, "to").s);
    if (json_array_size(list) == 0)
        return;
    table_begin(&t, ">OFFSET|>LENGTH");
    json_array_foreach(list, i, item) {
        table_cell(&t, "%s", count_of(item, "offset_bytes").s);
        table_cell(&t, "%s", count_of(item, "length_bytes").s);
    }
    table_end(&t, v->out);
}

static void writes_of(const struct view *v, const json_t *list) {
    struct table t;
    size_t i;
    json_t *item;
    table_begin(&t, "MOMENT|>SEQUENCE|WHAT|>OFFSET|>LENGTH|>CONNECTION");
    json_array_foreach(list, i, item) {
        const json_t *at = json_object_get(item, "at");
        table_cell(&t, "%s", time_of(v, at, "time", 6).s);
        table_cell(&t, "%s", count_of(at, "sequence").s);
        if (is_there(item, "restored_from"))
            table_cell(&t, "restore of seq:%s", count_of(item, "restored_from").s);
        else
            table_cell(&t, "%s", text_of(item, "kind").s);
        table_cell(&t, "%s", count_of(item, "offset_bytes").s);
        table_cell(&t, "%s", count_of(item, "length_bytes").s);
        table_cell(&t, "%s", count_of(item, "connection").s);
    }
    table_end(&t, v->out);
}

static void when(const struct view *v) {
    const json_t *list = json_object_get(v->result, "writes");
    if (json_array_size(list) > 0)
        writes_of(v, list);
    else
        fprintf(v->out, "nothing is known to have been written from %s to %s\n",
                moment_of(v, v->result, "from").s, moment_of(v, v->result, "to").s);
    const json_t *complete = json_object_get(v->result, "every_write_since");
    if (number_of(complete, "sequence") > number_of(json_object_get(v->result, "from"), "sequence"))
        fprintf(v->out, "up to %s history was thinned: writes may be missing\n",
                moment_of(v, v->result, "every_write_since").s);
    if (is_there(v->result, "older"))
        fprintf(v->out, "older ones: --below %s\n", count_of(v->result, "older").s);
}

/* A part of a hundred; nothing of nothing is "-". */
static struct text part_of(const json_t *item, const char *part, const char *whole) {
    struct text t = dash();
    if (number_of(item, whole) > 0)
        snprintf(t.s, sizeof t.s, "%.0f %%",
                 100.0 * (double)number_of(item, part) / (double)number_of(item, whole));
    return t;
}

static void history(const struct view *v) {
    const json_t *steps = json_object_get(v->result, "steps");
    struct table t;
    size_t i;
    json_t *item;
    fprintf(v->out, "%s written to %s from %s to %s, by %s\n",
            total_size_of(steps, "write_bytes").s, text_of(v->result, "volume").s,
            time_of(v, v->result, "from", 0).s, time_of(v, v->result, "to", 0).s,
            pause_of(v->result, "step_ns").s);
    if (strcmp(text_of(v->result, "from").s, text_of(v->result, "kept_since").s) < 0)
        fprintf(v->out, "such steps are kept since %s; a longer --step goes further back\n",
                time_of(v, v->result, "kept_since", 0).s);
    if (json_array_size(steps) > 0) {
        table_begin(
            &t,
            "TIME|>WRITES|>WRITTEN|>OVER|>REREAD|>TRIMMED|>ZEROED|>FLUSHES|>LZ4|>NEWEST|>CLEAN");
        json_array_foreach(steps, i, item) {
            table_cell(&t, "%s", time_of(v, item, "time", 0).s);
            table_cell(&t, "%s", count_of(item, "writes").s);
            table_cell(&t, "%s", size_of(item, "write_bytes").s);
            table_cell(&t, "%s", size_of(item, "overwritten_bytes").s);
            table_cell(&t, "%s", size_of(item, "reread_bytes").s);
            table_cell(&t, "%s", size_of(item, "trim_bytes").s);
            table_cell(&t, "%s", size_of(item, "zero_bytes").s);
            table_cell(&t, "%s", count_of(item, "flushes").s);
            table_cell(&t, "%s", part_of(item, "packed_bytes", "sampled_bytes").s);
            table_cell(&t, "%s", count_of(item, "last_sequence").s);
            table_cell(&t, "%s", count_of(item, "clean_sequence").s);
        }
        table_end(&t, v->out);
    }
    json_array_foreach(json_object_get(v->result, "marks"), i, item) {
        fprintf(v->out, "mark %s: %s\n", text_of(item, "label").s, moment_of(v, item, "at").s);
    }
    json_array_foreach(json_object_get(v->result, "clock_jumps"), i, item) {
        fprintf(v->out, "the clock was set from %s to %s\n", time_of(v, item, "from", 0).s,
                time_of(v, item, "to", 0).s);
    }
}

static void connections(const struct view *v) {
    const json_t *list = json_object_get(v->result, "connections");
    struct table t;
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        fputs("no connections\n", v->out);
        return;
    }
    table_begin(&t, ">ID|PEER|EXPORT|STATE|>REQUESTS|>UNDER WAY|>READ|>WRITTEN|>RELOADS|SINCE");
    json_array_foreach(list, i, item) {
        table_cell(&t, "%s", count_of(item, "id").s);
        table_cell(&t, "%s", text_of(item, "peer").s);
        table_cell(&t, "%s", text_of(item, "export").s);
        table_cell(&t, "%s", text_of(item, "state").s);
        table_cell(&t, "%s", count_of(item, "requests").s);
        table_cell(&t, "%s", count_of(item, "in_flight").s);
        table_cell(&t, "%s", size_of(item, "read_bytes").s);
        table_cell(&t, "%s", size_of(item, "written_bytes").s);
        table_cell(&t, "%s", count_of(item, "reloads").s);
        table_cell(&t, "%s", time_of(v, item, "connected_at", 0).s);
    }
    table_end(&t, v->out);
}

static void reload(const struct view *v) {
    fprintf(v->out, "reloaded: engine %s serves, the pause was %s\n",
            count_of(v->result, "generation").s, pause_of(v->result, "pause_ns").s);
}

static void pauses_of_kind(const struct view *v, const char *kind) {
    const json_t *r = json_object_get(v->result, kind);
    if (number_of(r, "count") > 0)
        fprintf(v->out, "%s: %s, half of them below %s, 99 of 100 below %s\n", kind,
                count_of(r, "count").s, pause_of(r, "half_below_ns").s,
                pause_of(r, "p99_below_ns").s);
}

static void pauses(const struct view *v) {
    struct table t;
    size_t i;
    json_t *item;
    if (number_of(json_object_get(v->result, "planned"), "count") +
            number_of(json_object_get(v->result, "uninvited"), "count") ==
        0) {
        fprintf(v->out, "no pause since %s\n", time_of(v, v->result, "since", 0).s);
        return;
    }
    fprintf(v->out, "since %s, longest %s, %s connections closed\n",
            time_of(v, v->result, "since", 0).s, pause_of(v->result, "longest_ns").s,
            count_of(v->result, "closed").s);
    pauses_of_kind(v, "planned");
    pauses_of_kind(v, "uninvited");
    table_begin(&t, ">BELOW|>PLANNED|>UNINVITED");
    json_array_foreach(json_object_get(v->result, "steps"), i, item) {
        table_cell(&t, "%s", pause_of(item, "below_ns").s);
        table_cell(&t, "%s", count_of(item, "planned").s);
        table_cell(&t, "%s", count_of(item, "uninvited").s);
    }
    table_end(&t, v->out);
    table_begin(&t, "AT|>ENGINE|KIND|>PAUSE|>KEPT|>CLOSED");
    json_array_foreach(json_object_get(v->result, "last"), i, item) {
        table_cell(&t, "%s", time_of(v, item, "at", 3).s);
        table_cell(&t, "%s", count_of(item, "generation").s);
        table_cell(&t, "%s", text_of(item, "kind").s);
        table_cell(&t, "%s", pause_of(item, "pause_ns").s);
        table_cell(&t, "%s", count_of(item, "kept").s);
        table_cell(&t, "%s", count_of(item, "closed").s);
    }
    table_end(&t, v->out);
}

static void alerts(const struct view *v) {
    const json_t *list = json_object_get(v->result, "alerts");
    struct table t;
    size_t i;
    json_t *item;
    if (json_array_size(list) == 0) {
        fputs("no alerts\n", v->out);
        return;
    }
    table_begin(&t, "LEVEL|SINCE|SUBJECT|ALERT");
    json_array_foreach(list, i, item) {
        const char *text = json_string_value(json_object_get(item, "text"));
        table_cell(&t, "%s", text_of(item, "level").s);
        table_cell(&t, "%s", time_of(v, item, "raised_at", 0).s);
        table_cell(&t, "%s", text_of(item, "subject").s);
        table_cell(&t, "%s", text ? text : "-");
    }
    table_end(&t, v->out);
}

static void trace(const struct view *v) {
    struct table t;
    size_t i;
    json_t *item;
    table_begin(&t, "TIME|EVENT|DETAIL");
    json_array_foreach(json_object_get(v->result, "points"), i, item) {
        table_cell(&t, "%s", time_of(v, item, "time", 6).s);
        table_cell(&t, "%s", text_of(item, "event").s);
        table_cell(&t, "%s", text_of(item, "detail").s);
    }
    table_end(&t, v->out);
}

static void scrub(const struct view *v) {
    const json_t *r = v->result;
    struct table t;
    table_begin(&t, "|");
    row(&t, "under way since", time_of(v, r, "began_at", 0));
    row(&t, "last whole pass", time_of(v, r, "ended_at", 0));
    table_cell(&t, "looked at");
    table_cell(&t, "%s of %s files, %s", count_of(r, "files").s, count_of(r, "of_files").s,
               size_of(r, "bytes").s);
    row(&t, "damaged files", count_of(r, "damaged_files"));
    row(&t, "files that mend", count_of(r, "mended_files"));
    table_end(&t, v->out);
    if (number_of(r, "damaged_files") > 0)
        fputs("perdure alerts tells what is wrong\n", v->out);
}

static void clock_confirm(const struct view *v) {
    fprintf(v->out,
            is_true(v->result, "was_suspect") ? "it is %s; history is as old as that says\n"
                                              : "it is %s, and nobody doubted it\n",
            time_of(v, v->result, "time", 0).s);
}

static void clean(const struct view *v) {
    fputs("a cleaning begins; status tells what comes of it\n", v->out);
}

struct renderer {
    const char *op;
    void (*show)(const struct view *v);
};

static const struct renderer renderers[] = {
    {"volume.create", volume},
    {"volume.list", volume_list},
    {"volume.show", volume},
    {"volume.set", volume},
    {"volume.resize", volume},
    {"volume.delete", volume_delete},
    {"volume.undelete", volume},
    {"volume.accept-loss", volume},
    {"image.open", image_open},
    {"image.list", image_list},
    {"image.close", image_close},
    {"image.promote", volume},
    {"restore", restore},
    {"mark.create", mark_create},
    {"mark.list", mark_list},
    {"pins", pins},
    {"mark.delete", mark_delete},
    {"diff", diff},
    {"when", when},
    {"history", history},
    {"status", status},
    {"clean", clean},
    {"clock.confirm", clock_confirm},
    {"scrub.show", scrub},
    {"scrub.start", scrub},
    {"scrub.stop", scrub},
    {"connections", connections},
    {"reload", reload},
    {"pauses", pauses},
    {"alerts", alerts},
    {"trace", trace},
};

bool render_result(const struct cli *cli, const struct ctl_op *op, const json_t *args,
                   const json_t *result, FILE *out) {
    struct view v = {.cli = cli, .args = args, .result = result, .out = out};
    for (size_t i = 0; i < sizeof renderers / sizeof renderers[0]; i++)
        if (strcmp(renderers[i].op, op->name) == 0) {
            renderers[i].show(&v);
            return true;
        }
    return false;
}
