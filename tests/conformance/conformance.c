/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"

#include <stdlib.h>
#include <string.h>

int machine_open(void **state) {
    struct machine *m = calloc(1, sizeof *m);
    m->host = *state;
    if (m->host->open(m) < 0)
        return -1;
    *state = m;
    return 0;
}

int machine_close(void **state) {
    struct machine *m = *state;
    m->host->close(m);
    free(m);
    return 0;
}

int conformance_run(const struct host *host) {
    static const struct {
        const struct CMUnitTest *tests;
        const size_t *count;
    } parts[] = {{conformance_file_tests, &conformance_file_count},
                 {conformance_router_tests, &conformance_router_count},
                 {conformance_other_tests, &conformance_other_count},
                 {conformance_stream_tests, &conformance_stream_count},
                 {conformance_listen_tests, &conformance_listen_count},
                 {conformance_memory_tests, &conformance_memory_count}};
    struct CMUnitTest tests[128];
    size_t n = 0;
    struct machine m = {.host = host};
    if (host->open(&m) < 0)
        return 77; /* meson: skipped */
    int has_memory = m.memory != NULL;
    host->close(&m);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].tests == conformance_memory_tests && !has_memory)
            continue;
        for (size_t k = 0; k < *parts[i].count; k++, n++) {
            assert_true(n < sizeof tests / sizeof tests[0]);
            tests[n] = parts[i].tests[k];
            memcpy(&tests[n].initial_state, &host, sizeof host);
        }
    }
    return _cmocka_run_group_tests(host->name, tests, n, NULL, NULL);
}
