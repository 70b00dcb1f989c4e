/* SPDX-License-Identifier: Apache-2.0 */
#include "server/alerts.h"

#include <stdio.h>
#include <string.h>

static struct alert *find(struct alerts *a, const char *code, const char *subject) {
    for (uint32_t i = 0; i < a->count; i++)
        if (strcmp(a->at[i].code, code) == 0 && strcmp(a->at[i].subject, subject) == 0)
            return &a->at[i];
    return NULL;
}

static void raise_alert(void *ctx, enum alert_level level, const char *code, const char *subject,
                        const char *text) {
    struct alerts *a = ctx;
    struct alert *e = find(a, code, subject);
    int again = e && strncmp(e->text, text, sizeof e->text - 1) == 0;
    if (!e) {
        if (a->count == ALERTS_MAX) { /* the oldest makes room; it stands in the log */
            memmove(a->at, a->at + 1, (ALERTS_MAX - 1) * sizeof a->at[0]);
            a->count--;
        }
        e = &a->at[a->count++];
    }
    e->level = level;
    snprintf(e->code, sizeof e->code, "%s", code);
    snprintf(e->subject, sizeof e->subject, "%s", subject);
    snprintf(e->text, sizeof e->text, "%s", text);
    e->raised_wall_ns = clock_wall_ns(&a->clock);
    if (!again)
        log_line((int)level, "%s%s%s", subject, subject[0] ? ": " : "", text);
}

static void clear_alert(void *ctx, const char *code, const char *subject) {
    struct alerts *a = ctx;
    struct alert *e = find(a, code, subject);
    if (!e)
        return;
    log_line(6, "%s%sover: %s", subject, subject[0] ? ": " : "", e->text);
    memmove(e, e + 1, (size_t)(a->at + a->count - (e + 1)) * sizeof *e);
    a->count--;
}

struct alert_sink alerts_sink(struct alerts *a) {
    return (struct alert_sink){.raise = raise_alert, .clear = clear_alert, .ctx = a};
}
