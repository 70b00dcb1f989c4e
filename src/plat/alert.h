/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Alerts: what a person must know or do. Raised and cleared by code; the text is made here once,
 * says what happened, why, and what to do. Platform-free: the sink writes it to log, status and
 * events.
 */
#ifndef PLAT_ALERT_H
#define PLAT_ALERT_H

#include <stdint.h>

enum alert_level { ALERT_INFO = 6, ALERT_WARNING = 4, ALERT_ERROR = 3, ALERT_CRITICAL = 2 };

struct alert_sink {
    /* code: a stable word such as "log_write_failed"; subject: a volume's name or "". */
    void (*raise)(void *ctx, enum alert_level level, const char *code, const char *subject,
                  const char *text);
    void (*clear)(void *ctx, const char *code, const char *subject);
    void *ctx;
};

#endif
