/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moments: time to sequence, and sequence to time: back through the frames (back.h), to the newest record that
 * is old enough and ends a request: no moment lies within one.
 *
 * A wall time may mean several store times (wall.h). Each is looked up, one after the other; if they
 * lead to the same record it is one moment after all.
 */
#include <stdlib.h>

#include "base/err.h"
#include "engine/log/back.h"

struct found {
    uint64_t sequence, time_ns; /* sequence 0: none */
};

struct moment {
    struct back back; /* first; to the newest record not after it */
    struct moment *next;
    void (*done)(void *owner, int result, const struct log_moment *m);
    void *owner;
    int result;
    struct found found;
    /* Of a wall time. */
    uint64_t readings[WALL_READINGS_MAX];
    uint32_t reading_count, reading_next;
    struct found first; /* of the readings so far */
    struct log_moment answer;
};

/* The newest record of a frame that is old enough and ends a request; those that were cut off at a
 * cold start end none. */
static int find_newest(struct back *b, const struct frame_header *h, struct frame_walk *w) {
    struct moment *m = (struct moment *)b;
    int n;
    while ((n = frame_walk_next(w)) > 0) {
        uint64_t time_ns = h->time_ns + w->record.delta_us * NS_PER_US;
        if (back_is_beyond(b, w->record_sequence, time_ns))
            break;
        if (!(w->record.flags & RECORD_MORE))
            m->found = (struct found){w->record_sequence, time_ns};
    }
    return n < 0 ? n : m->found.sequence != 0;
}

static void unlink_moment(struct moment *m) {
    struct moment **at = &m->back.l->moments;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    free(m);
}

/* 1: m->result and m->found are set; 0: a job runs. */
static int look_up(struct moment *m) {
    m->found = (struct found){0};
    int n = back_begin(&m->back);
    m->result = n < 0 ? n : 0;
    return n != 0;
}

/* What was found is one reading's; a reading that lies before the beginning does not count. */
static void take_found(struct moment *m) {
    if (m->result < 0 || m->found.sequence == m->first.sequence)
        return;
    if (m->first.sequence == 0)
        m->first = m->found;
    else
        m->answer.other = m->found.sequence;
}

static int has_failed(const struct moment *m) {
    return m->result < 0 && m->result != ERR_RANGE;
}

/* The same as look_up, for all readings. */
static int look_up_rest(struct moment *m) {
    while (m->reading_next < m->reading_count) {
        m->back.value = m->readings[m->reading_next++];
        if (look_up(m) == 0)
            return 0;
        if (has_failed(m))
            return 1;
        take_found(m);
    }
    return 1;
}

/* The result; the answer is filled in. */
static int finish(struct moment *m) {
    const struct wall *w = wall_spans(m->back.l);
    if (has_failed(m))
        return m->result;
    if (m->first.sequence == 0)
        return ERR_RANGE;
    m->answer.sequence = m->first.sequence;
    m->answer.time_ns = m->first.time_ns;
    m->answer.wall_ns = wall_at(w->span, w->count, m->first.time_ns);
    return m->answer.other != 0 ? ERR_AMBIGUOUS : 0;
}

static void moment_done(struct back *b, int result) {
    struct moment *m = (struct moment *)b;
    m->result = result;
    take_found(m);
    if (!has_failed(m) && look_up_rest(m) == 0)
        return;
    void (*done)(void *, int, const struct log_moment *) = m->done;
    void *owner = m->owner;
    int end = finish(m);
    struct log_moment answer = m->answer;
    unlink_moment(m);
    done(owner, end, &answer);
}

int log_find_moment(struct log *l, enum log_moment_kind kind, uint64_t value,
                    struct log_moment *out,
                    void (*done)(void *owner, int result, const struct log_moment *m),
                    void *owner) {
    const struct wall *w = wall_spans(l);
    struct moment *m = calloc(1, sizeof *m);
    if (!m)
        return ERR_NOMEM;
    *m = (struct moment){.back = {.l = l,
                                  .by_sequence = kind == LOG_AT_SEQUENCE,
                                  .visit = find_newest,
                                  .done = moment_done},
                         .next = l->moments,
                         .readings = {value},
                         .reading_count = 1,
                         .done = done,
                         .owner = owner};
    /* Between the turn's reading and now lies no record. */
    if (kind == LOG_AT_WALL_TIME && value > l->wall_ns && value <= clock_wall_ns(&l->env.clock))
        value = l->wall_ns;
    if (kind == LOG_AT_WALL_TIME)
        m->reading_count = wall_readings(w->span, w->count, l->store_ns, value, m->readings);
    l->moments = m;
    int no_reading = m->reading_count == 0;
    if (look_up_rest(m) == 0)
        return 0;
    int result = no_reading ? ERR_NOTFOUND : finish(m);
    *out = m->answer;
    unlink_moment(m);
    return result < 0 ? result : 1;
}

void moments_close(struct log *l) {
    while (l->moments)
        unlink_moment(l->moments);
}
