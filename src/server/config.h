/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: command line over file over defaults. The file is INI; docs/configuration.md and
 * perdured.8 list the keys, which are those of the table in config.c. Volumes are not in it but in
 * the store's catalogue.
 */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdint.h>

#define CONFIG_LISTENERS_MAX 8

/* Half of the objects that there can be (engine/catalogue/catalogue.h). */
#define CONFIG_ON_DEMAND_MAX 2048

/* Of struct config as bytes: to be raised when it changes. */
#define CONFIG_FORMAT 4u

enum config_tls { CONFIG_TLS_OFF = 0, CONFIG_TLS_ON = 1, CONFIG_TLS_REQUIRE = 2 };

struct config {
    char store[512];
    char control[100]; /* path of the control socket; default STORE/control.sock */
    char platform[16]; /* of machine.h; at a cold start */
    char nbd[CONFIG_LISTENERS_MAX][120];
    int nbd_count;
    char tls_certificates[512]; /* folder; empty: none */
    char tls_psk[512];          /* file; empty: none */
    uint64_t tls;               /* enum config_tls */
    uint64_t tls_verify_peer;
    uint64_t buffer_bytes;      /* data buffers: requests, replies, frames */
    uint64_t block_table_bytes; /* where each block is now */
    uint64_t index_cache_bytes; /* what was read of runs */
    uint64_t store_max_bytes;   /* of the log; 0: what the file system has */
    uint64_t connections;       /* at most */
    uint64_t requests;          /* outstanding, at most */
    uint64_t images_on_demand;  /* open at the same time, at most */
    uint64_t images_per_peer;   /* of them, opened by one address */
    uint64_t segments;          /* of the log, at most */
    uint64_t submit_age_us;     /* a write waits this long for company before it is logged */
    uint64_t shadow;            /* 1: every turn is checked for changes without edit (slow) */
    uint64_t probation_s;       /* after a reload, a death brings the former program back */
    uint64_t crash_loop;        /* deaths in CORE_FAULTS_S, then a cold start; 0: any number */
    uint64_t hang_s;            /* watch.h; 0: nobody watches */
    uint64_t stall_s;           /* share.h, rule 3 */
    uint64_t scrub_mib_s;       /* scrub.h */
    uint64_t scrub_days;        /* the same */
    uint64_t stop_s;            /* a stop waits so long for the log */
};

/* Fills *c; returns 0, or the exit status (message written, or help shown) with *status set. */
int config_read(struct config *c, int argc, char **argv, int *status);

#endif
