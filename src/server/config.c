/* SPDX-License-Identifier: Apache-2.0 */
#include "server/config.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/units.h"
#include "ctl/size.h"
#include "plat/posix/socket.h"
#include "custody/boot.h"
#include "server/machine.h"

/* Keys of section [server] that are numbers, with their bounds; the manual page lists them too. */
static const struct number {
    const char *key;
    size_t offset;
    int is_size;
    uint64_t min, max, fallback;
    const char *about;
} numbers[] = {
    {"buffers", offsetof(struct config, buffer_bytes), 1, 80 * MIB, 512 * GIB, 192 * MIB,
     "memory for requests, replies and frames"},
    {"block-table", offsetof(struct config, block_table_bytes), 1, MIB, 512 * GIB, 256 * MIB,
     "memory that knows where blocks are"},
    {"index-cache", offsetof(struct config, index_cache_bytes), 1, MIB, 512 * GIB, 256 * MIB,
     "memory for what was read of the index of the past"},
    {"store-max", offsetof(struct config, store_max_bytes), 1, 0, UINT64_MAX, 0,
     "size of the log; 0: what the file system has"},
    {"connections", offsetof(struct config, connections), 0, 1, 65536, 12000,
     "clients at the same time"},
    {"requests", offsetof(struct config, requests), 0, 256, 262144, 32768,
     "requests in hand at the same time"},
    {"images-on-demand", offsetof(struct config, images_on_demand), 0, 1, CONFIG_ON_DEMAND_MAX,
     1024, "moments open as VOLUME@T at the same time"},
    {"images-per-peer", offsetof(struct config, images_per_peer), 0, 1, CONFIG_ON_DEMAND_MAX, 64,
     "those that one peer address opens"},
    {"segments", offsetof(struct config, segments), 0, 64, 1048575, 65536,
     "segments of 64 MiB that the log has at most"},
    {"submit-age-us", offsetof(struct config, submit_age_us), 0, 0, 5000, 1000,
     "a write waits so long for company"},
    {"shadow", offsetof(struct config, shadow), 0, 0, 1, 0,
     "1: check every turn (slow, for developers)"},
    {"probation-s", offsetof(struct config, probation_s), 0, 0, 3600, 10,
     "a death so soon after a reload undoes it"},
    {"crash-loop", offsetof(struct config, crash_loop), 0, 0, 32, 10,
     "after so many deaths in 60 s the engine starts cold; 0: it does not"},
    {"hang-s", offsetof(struct config, hang_s), 0, 0, 3600, 10,
     "an engine is replaced whose turn takes longer; 0: it is not"},
    {"stall-s", offsetof(struct config, stall_s), 0, 1, 3600, 20,
     "clients that hold buffers so long idly are closed for others"},
    {"scrub-mib-s", offsetof(struct config, scrub_mib_s), 0, 0, 1048576, 64,
     "a scrub reads so much a second; 0: as much as it can"},
    {"scrub-days", offsetof(struct config, scrub_days), 0, 0, 3660, 30,
     "the store is scrubbed so often; 0: when told"},
    {"stop-s", offsetof(struct config, stop_s), 0, 1, 3600, 20,
     "a stop waits so long for a disk that does not answer"},
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

static int check_address(const char *value) {
    struct sockaddr_storage ss;
    socklen_t len;
    return posix_address_parse(value, &ss, &len);
}

/* The words of a key, in the order of what they mean. */
static int set_word(uint64_t *to, const char *const *words, const char *value) {
    for (uint64_t i = 0; words[i]; i++)
        if (strcmp(value, words[i]) == 0) {
            *to = i;
            return 0;
        }
    return ERR_INVAL;
}

/* Keys of section [nbd]; elsewhere they are written nbd.KEY. */
static int set_nbd(struct config *c, const char *key, const char *value) {
    static const char *const policies[] = {"off", "on", "require", NULL};
    static const char *const answers[] = {"no", "yes", NULL};
    if (strcmp(key, "tls") == 0)
        return set_word(&c->tls, policies, value);
    if (strcmp(key, "tls-certificates") == 0)
        return set_text(c->tls_certificates, sizeof c->tls_certificates, value);
    if (strcmp(key, "tls-verify-peer") == 0)
        return set_word(&c->tls_verify_peer, answers, value);
    if (strcmp(key, "tls-psk") == 0)
        return set_text(c->tls_psk, sizeof c->tls_psk, value);
    return ERR_NOTFOUND;
}

static int set(struct config *c, const char *key, const char *value) {
    if (strncmp(key, "nbd.", 4) == 0)
        return set_nbd(c, key + 4, value);
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
        int err = check_address(value);
        return err < 0 ? err : set_text(c->nbd[c->nbd_count++], sizeof c->nbd[0], value);
    }
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(key, numbers[i].key) == 0)
            return set_number(c, &numbers[i], value);
    return ERR_NOTFOUND;
}

static const char *amount(char *to, size_t room, const struct number *n, uint64_t v) {
    static const struct {
        uint64_t bytes;
        char letter;
    } units[] = {{GIB, 'G'}, {MIB, 'M'}};
    for (size_t i = 0; n->is_size && i < sizeof units / sizeof units[0]; i++)
        if (v && v != UINT64_MAX && v % units[i].bytes == 0) {
            snprintf(to, room, "%llu%c", (unsigned long long)(v / units[i].bytes), units[i].letter);
            return to;
        }
    snprintf(to, room, "%llu", (unsigned long long)v);
    return to;
}

/* Why a value was refused, and what would be taken. */
static void explain(char *to, size_t room, const char *key, int err) {
    char min[32], max[32];
    const struct number *n = NULL;
    for (size_t i = 0; i < NUMBERS; i++)
        if (strcmp(key, numbers[i].key) == 0)
            n = &numbers[i];
    if (err == ERR_NOTFOUND)
        snprintf(to, room, "there is no such key; perdured --help lists them");
    else if (n && n->max == UINT64_MAX)
        snprintf(to, room, "not a size; write bytes, or a number with K, M, G or T");
    else if (n)
        snprintf(to, room, "not a %s from %s to %s", n->is_size ? "size" : "whole number",
                 amount(min, sizeof min, n, n->min), amount(max, sizeof max, n, n->max));
    else if (strcmp(key, "nbd") == 0 && err == ERR_INVAL)
        snprintf(to, room,
                 "not an address; write one as 127.0.0.1:10809, [::1]:10809 or unix:/PATH "
                 "(no host names)");
    else if (strcmp(key, "nbd") == 0)
        snprintf(to, room, "too long, or more than %d addresses", CONFIG_LISTENERS_MAX);
    else if (strcmp(key, "platform") == 0)
        snprintf(to, room, "there are linux and posix");
    else if (strcmp(key, "nbd.tls") == 0)
        snprintf(to, room, "there are off, on and require");
    else if (strcmp(key, "nbd.tls-verify-peer") == 0)
        snprintf(to, room, "there are yes and no");
    else
        snprintf(to, room, "the path is too long; name a shorter one");
}

static int on_key(void *arg, const char *section, const char *key, const char *value) {
    struct reading *r = arg;
    int in_nbd = strcmp(section, "nbd") == 0, known = in_nbd || strcmp(section, "server") == 0;
    char why[128], whole[64];
    int fits =
        (size_t)snprintf(whole, sizeof whole, "%s%s", in_nbd ? "nbd." : "", key) < sizeof whole;
    int err =
        known && fits && (in_nbd || !strchr(key, '.')) ? set(r->c, whole, value) : ERR_NOTFOUND;
    if (err < 0 && !r->why[0]) {
        explain(why, sizeof why, whole, err);
        snprintf(r->why, sizeof r->why, "[%.40s] %.40s = %.40s: %s", section, key, value,
                 known ? why : "keys stand in sections [server] and [nbd] only");
    }
    return err == 0;
}

static int refuse(int *status, const char *what, const char *why) {
    fprintf(stderr, "<3>perdured: %s: %s\n", what, why);
    *status = BOOT_STATUS_USAGE;
    return ERR_INVAL;
}

static int read_file(struct config *c, const char *path, int *status) {
    struct reading r = {.c = c};
    char where[600];
    FILE *file = fopen(path, "r");
    int line = file ? ini_parse_file(file, on_key, &r) : -1;
    if (!file || ferror(file)) {
        snprintf(where, sizeof where, "the file cannot be read: %s", strerror(errno));
        if (file)
            fclose(file);
        return refuse(status, path, where);
    }
    fclose(file);
    if (line == 0)
        return 0;
    snprintf(where, sizeof where, "%s, line %d", path, line);
    return refuse(status, where, r.why[0] ? r.why : "neither [SECTION] nor KEY = VALUE");
}

static void usage(FILE *out) {
    char min[32], max[32], fallback[32], range[72];
    fprintf(
        out,
        "usage: perdured --store DIR [--config FILE] [--nbd ADDRESS:PORT]... "
        "[--control PATH]\n"
        "                [--platform linux|posix] [--set KEY=VALUE]...\n"
        "       perdured --check [--repair] [--json] OPTIONS, as the server has them\n"
        "       perdured --qualify OPTIONS, as the server has them\n"
        "       perdured --layouts\n"
        "\n"
        "  --store DIR           where the volumes and their history lie; made if missing\n"
        "  --config FILE         INI file, section [server]\n"
        "  --nbd ADDRESS:PORT    serve NBD there (127.0.0.1:10809; [::1]:PORT; unix:/PATH)\n"
        "  --control PATH        control socket (DIR/control.sock)\n"
        "  --platform NAME       linux, or posix: threads and poll() alone, where a kill closes\n"
        "                        connections; from stop to start it stays the same\n"
        "  --set KEY=VALUE       any key of the configuration file\n"
        "  --check               look at all of a store that no server has: is it whole? Nothing "
        "changes,\n"
        "                        but with --repair, what is proven to be as it was; first of all "
        "options\n"
        "  --qualify             tell, as JSON, whether this program could take over from the\n"
        "                        server that runs, and touch nothing; first of all options\n"
        "  --layouts             print the layouts of preserved memory\n"
        "  --help                tell this\n"
        "  --version             print the version\n"
        "\n"
        "Keys of the configuration file: store, nbd, control, platform, as above, and\n\n");
    for (size_t i = 0; i < NUMBERS; i++) {
        const struct number *n = &numbers[i];
        if (n->max == UINT64_MAX)
            snprintf(range, sizeof range, "any");
        else
            snprintf(range, sizeof range, "%s to %s", amount(min, sizeof min, n, n->min),
                     amount(max, sizeof max, n, n->max));
        fprintf(out, "  %-14s %-7s (%s) %s\n", n->key,
                amount(fallback, sizeof fallback, n, n->fallback), range, n->about);
    }
    fprintf(out, "\nof section [nbd], and with --set as nbd.KEY:\n\n"
                 "  nbd.tls               off, on or require: whether clients may or must use TLS\n"
                 "  nbd.tls-certificates  folder of ca-cert.pem, server-cert.pem, server-key.pem\n"
                 "  nbd.tls-verify-peer   yes: clients show a certificate of the same authority\n"
                 "  nbd.tls-psk           file of pre-shared keys, lines USER:HEX\n");
    fprintf(out, "\nSIGHUP reloads all code, SIGTERM stops. Manual: perdured(8)\n");
}

/* One pass over the arguments; files first, so that arguments win. */
static int arguments(struct config *c, int argc, char **argv, int files, int *status) {
    static const struct option options[] = {
        {"store", required_argument, NULL, 's'},    {"config", required_argument, NULL, 'c'},
        {"nbd", required_argument, NULL, 'n'},      {"control", required_argument, NULL, 'k'},
        {"platform", required_argument, NULL, 'p'}, {"set", required_argument, NULL, 'S'},
        {"check", no_argument, NULL, 'C'},          {"qualify", no_argument, NULL, 'q'},
        {"layouts", no_argument, NULL, 'l'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},        {NULL, 0, NULL, 0}};
    int o, err = 0, nbd_seen = 0;
    char pair[600], why[128], *value;
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
            fprintf(stderr, "perdured --help lists the options\n");
            *status = BOOT_STATUS_USAGE;
            return ERR_INVAL;
        }
        if (o == 'q' || o == 'l' || o == 'C')
            return refuse(status,
                          o == 'q'   ? "'--qualify'"
                          : o == 'l' ? "'--layouts'"
                                     : "'--check'",
                          "it stands before all other options");
        if (files != (o == 'c'))
            continue;
        if (o == 'c') {
            if ((err = read_file(c, optarg, status)) < 0)
                return err;
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
            strcpy(pair, o == 's' ? "store" : o == 'n' ? "nbd" : o == 'p' ? "platform" : "control");
            err = set(c, pair, optarg);
        }
        if (err < 0) {
            explain(why, sizeof why, pair, err);
            return refuse(status, optarg, why);
        }
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
    if (c->tls != CONFIG_TLS_OFF && !c->tls_certificates[0] && !c->tls_psk[0])
        return refuse(status, "nbd.tls",
                      "nothing proves who this server is; name a folder in "
                      "nbd.tls-certificates, or a file in nbd.tls-psk");
    if (c->tls_verify_peer && !c->tls_certificates[0])
        return refuse(status, "nbd.tls-verify-peer",
                      "there is no authority to verify by; name a folder in nbd.tls-certificates");
    if (c->nbd_count == 0)
        strcpy(c->nbd[c->nbd_count++], "127.0.0.1:10809");
    if (!c->control[0] && (size_t)snprintf(c->control, sizeof c->control, "%s/control.sock",
                                           c->store) >= sizeof c->control)
        return refuse(status, c->store, "the path is too long for a control socket; use --control");
    return 0;
}
