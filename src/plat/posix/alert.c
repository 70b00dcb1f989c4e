/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "plat/posix/posix.h"

/* A name may hold anything; a line of the log is one line. */
static void line(int level, const char *what, const char *code, const char *subject,
                 const char *text) {
    char out[1024];
    int n = snprintf(out, sizeof out, "<%d>perdure: %s%s%s%s%s%s", level, what, code,
                     subject[0] ? " " : "", subject, text[0] ? ": " : "", text);
    if (n < 0)
        return;
    for (char *p = out; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    }
    fprintf(stderr, "%s\n", out);
}

static void raise_alert(void *ctx, enum alert_level level, const char *code, const char *subject,
                        const char *text) {
    line((int)level, "", code, subject, text);
}

static void clear_alert(void *ctx, const char *code, const char *subject) {
    line(ALERT_INFO, "over: ", code, subject, "");
}

struct alert_sink posix_alerts(void) {
    return (struct alert_sink){raise_alert, clear_alert, NULL};
}
