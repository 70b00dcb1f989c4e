/* SPDX-License-Identifier: Apache-2.0 */
#include "custody/watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"

/* Looks in the time that makes a hang. */
#define LOOKS 8u
#define PERIOD_MAX_MS 1000u
/* To attach is one long turn, with a disk's answers in it. */
#define ATTACH_TURNS 3u

/* How long a turn may be; 0: the engine is not watched. */
static uint64_t limit_ms(const struct custody *c, uint32_t generation) {
    uint64_t ms = atomic_load(&c->hang_ms);
    if (atomic_load(&c->state) != CUSTODY_SERVING)
        return 0;
    if (atomic_load(&c->serving) == generation)
        return ms;
    return atomic_load(&c->attaching) == generation ? ms * ATTACH_TURNS : 0;
}

static uint64_t period_ms(uint64_t limit) {
    return min_u64(limit / LOOKS + 1, PERIOD_MAX_MS);
}

int watch_period_ms(const struct custody *c, uint32_t generation) {
    /* An engine that does not attach yet will do so unheard. */
    uint64_t limit = limit_ms(c, generation);
    if (limit > 0)
        return (int)period_ms(limit);
    return atomic_load(&c->serving) < generation ? (int)PERIOD_MAX_MS : -1;
}

int watch_is_held(const char *status) {
    const char *state = strstr(status, "\nState:"), *tracer = strstr(status, "\nTracerPid:");
    if (state) {
        state += strlen("\nState:");
        state += strspn(state, " \t");
    }
    return (state && (*state == 'T' || *state == 't')) ||
           (tracer && atoi(tracer + strlen("\nTracerPid:")) > 0);
}

static int is_held(int pid) {
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    return watch_is_held(text);
}

int watch_look(struct watch *w, const struct custody *c, uint32_t generation, int pid,
               uint64_t now_ns) {
    uint64_t limit = limit_ms(c, generation), beat = atomic_load(&c->beat);
    uint64_t since_ns = w->looked_ns ? now_ns - w->looked_ns : 0;
    w->looked_ns = now_ns;
    if (limit == 0 || w->hung || beat != w->beat || beat % 2 == 0) {
        w->beat = beat;
        w->stuck_ns = 0;
        return 0;
    }
    w->stuck_ns += min_u64(since_ns, 2 * period_ms(limit) * NS_PER_MS);
    if (w->stuck_ns <= limit * NS_PER_MS)
        return 0;
    w->stuck_ns = 0;
    if (is_held(pid))
        return 0;
    w->hung = 1;
    return 1;
}
