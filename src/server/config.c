/* SPDX-License-Identifier: Apache-2.0 */
#include "server/config.h"

#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "ctl/size.h"
#include "server/machine.h"

/* Keys of section [server]; numbers with their bounds. */
static const struct number {
    const char *key;
    size_t offset;
    int is_size;
    uint64_t min, max, fallback;
} numbers[] = {
    {"buffers", offsetof(struct config, buffer_bytes), 1, 80 * MIB, 512 * GIB, 192 * MIB},
    {"block-table", offsetof(struct config, block_table_bytes), 1, MIB, 512 * GIB, 256 * MIB},
    {"store-max", offsetof(struct config, store_max_bytes), 1, 0, UINT64_MAX, 0},
    {"connections", offsetof(struct config, connections), 0, 1, 65536, 12000},
    {"requests", offsetof(struct config, requests), 0, 256, 262144, 32768},
    {"submit-age-us", offsetof(struct config, submit_age_us), 0, 0, 5000, 1000},
    {"shadow", offsetof(struct config, shadow), 0, 0, 1, 0},
    {"probation-s", offsetof(struct config, probation_s), 0, 0, 3600, 10},
};
#define NUMBERS (sizeof numbers / sizeof numbers[0])

struct reading {
    struct config *c;
    const char *file;
    char why[256];
};

static int set_text(char *to, size_t room, const char *value) {
    if (strlen(value) >= room)
        return ERR_TOOBIG;
    strcpy(to, value);
    return 0;
}

static int set_number(struct config *c, const struct number *n, const char *value) {
    uint64_t v;
    struct fault f;
    char *end;
    if (n->is_size) {
        int err = size_parse(value, strlen(value), &v, &f);
        if (err < 0)
            return err;
    } else {
        v = strtoull(value, &end, 10);
        if (*end || end == value || value[0] == '-')
            return ERR_INVAL;
    }
    if (v < n->min || v > n->max)
        return ERR_RANGE;
    memcpy((char *)c + n->offset, &v, sizeof v);
    return 0;
}

static int set(struct config *c, const char *key, const char *value) {
    if (strcmp(key, "store") == 0)
        return set_text(c->store, sizeof c->store, value);
    if (strcmp(key, "platform") == 0)
        return machine_of_platform(value) ? set_text(c->platform, sizeof c->platform, value)
                                          : ERR_INVAL;
    if (strcmp(key, "control") == 0)
        return set_text(c->control, sizeof c->control, value);
    if (strcmp(key, "nbd") == 0) {
        if (c->nbd_count == CONFIG_LISTENERS_MAX)
            return ERR_TOOBIG;
        return set_text(c->nbd[c->nbd_count++], sizeof c->nbd[0], value);
    }
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(key, numbers[i].key) == 0)
            return set_number(c, &numbers[i], value);
    return ERR_NOTFOUND;
}

static int on_key(void *arg, const char *section, const char *key, const char *value) {
    struct reading *r = arg;
    int err = strcmp(section, "server") == 0 ? set(r->c, key, value) : ERR_NOTFOUND;
    if (err < 0 && !r->why[0])
        snprintf(r->why, sizeof r->why, "[%s] %s = %s: %s", section, key, value,
                 err == ERR_NOTFOUND ? "there is no such key" : err_text(err));
    return err == 0;
}

static void usage(FILE *out) {
    fprintf(
        out,
        "usage: perdured --store DIR [--config FILE] [--nbd ADDRESS:PORT]... "
        "[--control PATH]\n"
        "                [--platform linux|posix] [--set KEY=VALUE]...\n"
        "\n"
        "  --store DIR           where the volumes and their history lie; made if missing\n"
        "  --config FILE         INI file, section [server]\n"
        "  --nbd ADDRESS:PORT    serve NBD there (127.0.0.1:10809; [::1]:PORT; unix:/PATH)\n"
        "  --control PATH        control socket (DIR/control.sock)\n"
        "  --platform NAME       linux, or posix: threads and poll() alone, where a kill closes\n"
        "                        connections; from stop to start it stays the same\n"
        "  --set KEY=VALUE       any key of the configuration file:");
    for (size_t i = 0; i < NUMBERS; i++)
        fprintf(out, " %s", numbers[i].key);
    fprintf(out, "\n\nSIGHUP reloads all code, SIGTERM stops. Manual: perdured(8)\n");
}

static int refuse(int *status, const char *what, const char *why) {
    fprintf(stderr, "<3>perdured: %s: %s\n", what, why);
    *status = 2;
    return ERR_INVAL;
}

/* One pass over the arguments; files first, so that arguments win. */
static int arguments(struct config *c, int argc, char **argv, int files, int *status) {
    static const struct option options[] = {{"store", required_argument, NULL, 's'},
                                            {"config", required_argument, NULL, 'c'},
                                            {"nbd", required_argument, NULL, 'n'},
                                            {"control", required_argument, NULL, 'k'},
                                            {"platform", required_argument, NULL, 'p'},
                                            {"set", required_argument, NULL, 'S'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'v'},
                                            {NULL, 0, NULL, 0}};
    struct reading r = {.c = c};
    int o, err = 0, nbd_seen = 0;
    char pair[256], *value;
    optind = 1;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o == 'h') {
            usage(stdout);
            *status = 0;
            return ERR_CANCELLED;
        }
        if (o == 'v') {
            printf("perdured %s\n", PERDURE_VERSION);
            *status = 0;
            return ERR_CANCELLED;
        }
        if (o == '?') {
            *status = 2;
            return ERR_INVAL;
        }
        if (files != (o == 'c'))
            continue;
        if (o == 'c') {
            int line = ini_parse(optarg, on_key, &r);
            if (line < 0)
                return refuse(status, optarg, "the file cannot be read");
            if (line > 0) {
                char where[600];
                snprintf(where, sizeof where, "%s, line %d", optarg, line);
                return refuse(status, where, r.why[0] ? r.why : "not a line of an INI file");
            }
            continue;
        }
        if (o == 'S') {
            if (strlen(optarg) >= sizeof pair || !strchr(optarg, '='))
                return refuse(status, optarg, "not KEY=VALUE");
            strcpy(pair, optarg);
            value = strchr(pair, '=');
            *value++ = 0;
            err = set(c, pair, value);
        } else {
            if (o == 'n' && !nbd_seen++)
                c->nbd_count = 0;
            err = set(c,
                      o == 's'   ? "store"
                      : o == 'n' ? "nbd"
                      : o == 'p' ? "platform"
                                 : "control",
                      optarg);
        }
        if (err < 0)
            return refuse(status, optarg,
                          err == ERR_NOTFOUND ? "there is no such key" : err_text(err));
    }
    if (optind < argc)
        return refuse(status, argv[optind], "unexpected word; see perdured --help");
    return 0;
}

int config_read(struct config *c, int argc, char **argv, int *status) {
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < NUMBERS; i++)
        memcpy((char *)c + numbers[i].offset, &numbers[i].fallback, sizeof(uint64_t));
    strcpy(c->platform, "linux");
    int err;
    if ((err = arguments(c, argc, argv, 1, status)) < 0 ||
        (err = arguments(c, argc, argv, 0, status)) < 0)
        return err;
    if (!c->store[0])
        return refuse(status, "--store", "no store is named; see perdured --help");
    if (c->nbd_count == 0)
        strcpy(c->nbd[c->nbd_count++], "127.0.0.1:10809");
    if (!c->control[0] && (size_t)snprintf(c->control, sizeof c->control, "%s/control.sock",
                                           c->store) >= sizeof c->control)
        return refuse(status, c->store, "the path is too long for a control socket; use --control");
    return 0;
}
