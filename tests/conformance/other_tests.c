/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs, clocks, random bytes. */
#include <string.h>

#include "base/units.h"
#include "conformance.h"

#define JOBS(m, call) (m)->jobs.ops->call((m)->jobs.ctx)
#define JOB_COUNT 50

struct counted {
    struct job job;
    struct machine *m;
    struct counted *then; /* started by done() */
    int ran, done;
    uint64_t sum;
};

static void run(struct job *job) {
    struct counted *c = (struct counted *)(void *)job;
    for (uint64_t i = 0; i < 1000; i++)
        c->sum += i;
    c->ran++;
}

static void done(struct job *job) {
    struct counted *c = (struct counted *)(void *)job;
    c->done++;
    if (c->then)
        c->m->jobs.ops->start(c->m->jobs.ctx, &c->then->job);
}

static void each_job_runs_once(void **state) {
    struct machine *m = *state;
    struct counted c[JOB_COUNT] = {0};
    assert_int_equal(JOBS(m, reap), 0);
    for (int i = 0; i < JOB_COUNT; i++)
        c[i] = (struct counted){.job = {run, done, NULL}, .m = m};
    c[0].then = &c[JOB_COUNT - 1];
    int ended = 0;
    for (int i = 0; i < JOB_COUNT - 1; i++) {
        m->jobs.ops->start(m->jobs.ctx, &c[i].job);
        assert_int_equal(c[i].done, 0);
    }
    while (ended < JOB_COUNT) {
        int n = JOBS(m, reap);
        ended += n;
        if (n == 0)
            m->host->wait(m);
    }
    assert_int_equal(JOBS(m, reap), 0);
    for (int i = 0; i < JOB_COUNT; i++) {
        assert_int_equal(c[i].ran, 1);
        assert_int_equal(c[i].done, 1);
        assert_int_equal(c[i].sum, 499500);
    }
}

static void drain_waits_for_all(void **state) {
    struct machine *m = *state;
    struct counted c[JOB_COUNT] = {0};
    JOBS(m, drain);
    for (int i = 0; i < JOB_COUNT; i++) {
        c[i] = (struct counted){.job = {run, done, NULL}, .m = m};
        m->jobs.ops->start(m->jobs.ctx, &c[i].job);
    }
    JOBS(m, drain);
    for (int i = 0; i < JOB_COUNT; i++) {
        assert_int_equal(c[i].ran, 1);
        assert_int_equal(c[i].done, 0);
    }
    assert_int_equal(JOBS(m, reap), JOB_COUNT);
    for (int i = 0; i < JOB_COUNT; i++)
        assert_int_equal(c[i].done, 1);
}

static void clocks_tell_time(void **state) {
    struct machine *m = *state;
    uint64_t before = clock_monotonic_ns(&m->clock);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_monotonic_ns(&m->clock);
        assert_true(now >= before);
        before = now;
    }
    assert_true(clock_wall_ns(&m->clock) > UINT64_C(1577836800) * NS_PER_S); /* 2020 */
}

static void random_bytes_differ(void **state) {
    struct machine *m = *state;
    unsigned char a[256] = {0}, b[256] = {0}, ever[256] = {0};
    for (int i = 0; i < 10; i++) {
        m->random.ops->fill(m->random.ctx, a, sizeof a);
        assert_memory_not_equal(a, b, sizeof a);
        memcpy(b, a, sizeof b);
        for (size_t k = 0; k < sizeof a; k++)
            ever[k] |= a[k];
    }
    for (size_t k = 0; k < sizeof ever; k++)
        assert_int_not_equal(ever[k], 0); /* wrong once in 2^72 */
    m->random.ops->fill(m->random.ctx, a, 0);
    assert_memory_equal(a, b, sizeof a);
}

const struct CMUnitTest conformance_other_tests[] = {
    CONFORMANCE_TEST(each_job_runs_once),
    CONFORMANCE_TEST(drain_waits_for_all),
    CONFORMANCE_TEST(clocks_tell_time),
    CONFORMANCE_TEST(random_bytes_differ),
};
const size_t conformance_other_count =
    sizeof conformance_other_tests / sizeof conformance_other_tests[0];
