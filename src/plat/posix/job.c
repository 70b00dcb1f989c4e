/* SPDX-License-Identifier: Apache-2.0 */
/* plat/job.h on one worker thread. The lock guards the lists and the flag; a job is the worker's
 * while it runs. */
#include <stdlib.h>
#include <sys/resource.h>

#include "base/must.h"
#include "plat/posix/posix.h"
#include "plat/posix/posix_priv.h"

struct posix_jobs {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *waiting, **waiting_end;
    struct job *ended, **ended_end;
    struct posix_flag flag;
    int running, stop, nice;
};

static struct job *pop(struct job **first, struct job ***end) {
    struct job *job = *first;
    *first = job->next;
    if (!*first)
        *end = first;
    return job;
}

static void push(struct job ***end, struct job *job) {
    job->next = NULL;
    **end = job;
    *end = &job->next;
}

/* Linux has it for each thread; elsewhere it would be the whole process. */
static void be_nice(int more) {
#ifdef __linux__
    if (more)
        setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + more);
#else
    (void)more;
#endif
}

static void *work(void *arg) {
    struct posix_jobs *j = arg;
    be_nice(j->nice);
    pthread_mutex_lock(&j->lock);
    for (;;) {
        while (!j->waiting && !j->stop)
            pthread_cond_wait(&j->changed, &j->lock);
        if (!j->waiting)
            break;
        struct job *job = pop(&j->waiting, &j->waiting_end);
        j->running = 1;
        pthread_mutex_unlock(&j->lock);
        job->run(job);
        pthread_mutex_lock(&j->lock);
        j->running = 0;
        push(&j->ended_end, job);
        posix_flag_set(&j->flag, 1);
        pthread_cond_broadcast(&j->changed);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

static void start(void *ctx, struct job *job) {
    struct posix_jobs *j = ctx;
    pthread_mutex_lock(&j->lock);
    push(&j->waiting_end, job);
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

static int reap(void *ctx) {
    struct posix_jobs *j = ctx;
    int n = 0;
    pthread_mutex_lock(&j->lock);
    struct job *ended = j->ended;
    j->ended = NULL;
    j->ended_end = &j->ended;
    posix_flag_set(&j->flag, 0);
    pthread_mutex_unlock(&j->lock);
    while (ended) {
        struct job *job = ended;
        ended = job->next;
        job->done(job);
        n++;
    }
    return n;
}

static void drain(void *ctx) {
    struct posix_jobs *j = ctx;
    pthread_mutex_lock(&j->lock);
    while (j->waiting || j->running)
        pthread_cond_wait(&j->changed, &j->lock);
    pthread_mutex_unlock(&j->lock);
}

struct posix_jobs *posix_jobs_open(int nice) {
    struct posix_jobs *j = calloc(1, sizeof *j);
    if (!j)
        return NULL;
    j->nice = nice;
    j->waiting_end = &j->waiting;
    j->ended_end = &j->ended;
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->changed, NULL);
    if (posix_flag_open(&j->flag) < 0) {
        free(j);
        return NULL;
    }
    if (posix_thread_start(&j->thread, work, j) < 0) {
        posix_flag_close(&j->flag);
        free(j);
        return NULL;
    }
    return j;
}

int posix_jobs_descriptor(const struct posix_jobs *j) {
    return j->flag.fds[0];
}

void posix_jobs_close(struct posix_jobs *j) {
    pthread_mutex_lock(&j->lock);
    j->stop = 1;
    pthread_cond_broadcast(&j->changed);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->changed);
    posix_flag_close(&j->flag);
    free(j);
}

static const struct job_runner_ops job_ops = {start, reap, drain};

struct job_runner posix_jobs(struct posix_jobs *j) {
    return (struct job_runner){&job_ops, j};
}
