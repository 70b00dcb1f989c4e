/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many NBD connections in one loop, each with several requests under way, which check every reply and
 * every byte while somebody else disturbs the server.
 *
 *     nbd_storm [OPTION VALUE]... PORT EXPORT
 *
 *     --connections N   how many (1)
 *     --share N         so many connections write to the same region (1: each has its own)
 *     --depth N         requests under way on each connection (4)
 *     --rate N          requests a second, over all connections (0: as many as are answered)
 *     --size N          uses only so many bytes of the export (0: all)
 *     --smallest N      the smallest write (the export's smallest block)
 *     --seed N          of the choice of requests (1)
 *     --from FILE       the volume holds what this model says (without it: zeroes)
 *     --to FILE         where the model is written at the end
 *     --rough           every fourth connection has a small window and stops reading now and then, every
 *                       fourth sends in pieces: replies half sent, requests half received
 *     --verify          only reads everything
 *
 * It runs until its standard input ends. A line "WORD NANOSECONDS" there tells of a disturbance and when
 * it began (monotonic clock). Then every request is waited for, every sector in use is read and checked,
 * each connection is closed in order, and one JSON object is printed:
 *
 *     gap_us    the longest time without a reply to anybody
 *     wait_us   the longest time that a single request had to wait
 *
 * from each disturbance on until the next; of what began earlier or ends later, the part in between.
 *
 * Exit status 0: no error, no reset, no second connection, no wrong byte, each request answered exactly
 * once. The styles of replies (simple, structured, extended) take turns by the connection's number.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "session.h"

#define DISTURBANCES_MAX 65536u
#define PATIENCE_NS UINT64_C(20000000000)
#define BUCKETS (61 * 32)
#define TRIES 8
/* With a limited rate, how long a request that is due may wait in the client. */
#define RATE_STEP_NS 100000
#define STALL_NS UINT64_C(250000000)

enum {
    HAS_FLUSH = 1 << 2,
    HAS_FUA = 1 << 3,
    HAS_TRIM = 1 << 5,
    HAS_ZEROES = 1 << 6,
    HAS_DF = 1 << 7
};

struct disturbance {
    char word[16];
    uint64_t at_ns, gap_ns, wait_ns;
};

struct storm {
    uint32_t connections, share, depth, smallest;
    uint64_t rate, size_bytes, region_bytes;
    int verify, rough;
    const char *from, *to, *export_name;
    uint64_t rng;

    struct model model;
    struct session *s;
    uint64_t *stalled_until_ns; /* of each connection; 0: it reads */
    int epoll;
    int ending, reading;
    uint64_t *read_at; /* of each region, in the end */

    uint64_t begin_ns, ended_ns, last_reply_ns, longest_gap_ns, issued, replies;
    uint64_t count_of[8], written_bytes, read_bytes;
    uint64_t latency[BUCKETS], longest_wait_ns;
    struct disturbance *disturbances;
    uint32_t disturbance_count;
    char line[64];
    uint32_t line_len;
};

static uint64_t next_random(struct storm *w) {
    uint64_t x = w->rng += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint32_t below(struct storm *w, uint64_t n) {
    return (uint32_t)(next_random(w) % n);
}

/* ---- figures ---- */

/* Nanoseconds one by one up to 64, then 32 buckets for each power of two. */
static uint32_t bucket_of(uint64_t ns) {
    uint32_t e = ns < 64 ? 0 : 58 - (uint32_t)__builtin_clzll(ns);
    return e * 32 + (uint32_t)(ns >> e);
}

static uint64_t bucket_ns(uint32_t b) {
    return b < 64 ? b : (uint64_t)(32 + b % 32) << (b / 32 - 1);
}

static double percentile_us(const struct storm *w, double part) {
    uint64_t total = 0, seen = 0;
    for (uint32_t i = 0; i < BUCKETS; i++)
        total += w->latency[i];
    for (uint32_t i = 0; i < BUCKETS; i++)
        if ((double)(seen += w->latency[i]) > part * (double)total)
            return (double)bucket_ns(i) / 1e3;
    return 0;
}

static uint64_t longer(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* How long two spans of time have in common. */
static uint64_t shared(uint64_t begin, uint64_t end, uint64_t other_begin, uint64_t other_end) {
    uint64_t from = longer(begin, other_begin), to = end < other_end ? end : other_end;
    return to > from ? to - from : 0;
}

static void account(struct storm *w, const struct op *op) {
    uint64_t now = now_ns(), gap = now - w->last_reply_ns, wait = now - op->begun_ns;
    w->replies++;
    w->count_of[op->cmd]++;
    /* Reading everything in the end is another load. The gap that it ends counts. */
    if (w->ended_ns && w->last_reply_ns > w->ended_ns)
        return;
    for (uint32_t i = w->disturbance_count; i-- > 0;) {
        struct disturbance *d = &w->disturbances[i];
        uint64_t end = i + 1 < w->disturbance_count ? d[1].at_ns : UINT64_MAX;
        d->gap_ns = longer(d->gap_ns, shared(d->at_ns, end, w->last_reply_ns, now));
        d->wait_ns = longer(d->wait_ns, shared(d->at_ns, end, op->begun_ns, now));
        if (d->at_ns <= op->begun_ns && d->at_ns <= w->last_reply_ns)
            break;
    }
    w->longest_gap_ns = longer(w->longest_gap_ns, gap);
    w->longest_wait_ns = longer(w->longest_wait_ns, wait);
    w->latency[bucket_of(wait)]++;
    w->last_reply_ns = now;
}

/* ---- requests ---- */

static int changes(uint16_t cmd) {
    return cmd == CMD_WRITE || cmd == CMD_TRIM || cmd == CMD_ZEROES;
}

static uint32_t group_of(const struct storm *w, const struct session *s) {
    return (uint32_t)s->number / w->share;
}

static int overlaps(const struct session *s, uint16_t cmd, uint64_t at, uint64_t len) {
    for (uint32_t i = 0; i < s->depth; i++) {
        const struct op *op = &s->ops[i];
        if (op->cookie && (changes(cmd) || changes(op->cmd)) && op->offset_bytes < at + len &&
            at < op->offset_bytes + op->len_bytes)
            return 1;
    }
    return 0;
}

/* When the oldest read under way in a group of connections was issued. */
static uint64_t oldest_read(const struct storm *w, uint32_t group) {
    uint64_t oldest = MODEL_NEVER;
    uint32_t end = (group + 1) * w->share;
    for (uint32_t c = group * w->share; c < end && c < w->connections; c++)
        for (uint32_t i = 0; i < w->s[c].depth; i++) {
            const struct op *op = &w->s[c].ops[i];
            if (op->cookie && !changes(op->cmd) && op->issued < oldest)
                oldest = op->issued;
        }
    return oldest;
}

/* Mostly small; a power of two between the smallest and the largest, then anything up to it. */
static uint32_t random_len(struct storm *w, uint32_t unit) {
    uint32_t most = unit << below(w, 4), limit = SESSION_REQUEST_MAX;
    if (below(w, 10) == 0)
        most = SESSION_REQUEST_MAX;
    if (limit > w->region_bytes)
        limit = (uint32_t)w->region_bytes;
    most = most > limit ? limit : most;
    return (1 + below(w, most / unit)) * unit;
}

static uint16_t random_command(struct storm *w, const struct session *s, uint16_t *flags) {
    uint32_t dice = below(w, 100);
    uint16_t cmd = dice < 45   ? CMD_WRITE
                   : dice < 80 ? CMD_READ
                   : dice < 85 ? CMD_TRIM
                   : dice < 91 ? CMD_ZEROES
                   : dice < 95 ? CMD_FLUSH
                               : CMD_STATUS;
    if ((cmd == CMD_TRIM && !(s->export_flags & HAS_TRIM)) ||
        (cmd == CMD_ZEROES && !(s->export_flags & HAS_ZEROES)))
        cmd = CMD_WRITE;
    if ((cmd == CMD_STATUS && !s->context) || (cmd == CMD_FLUSH && !(s->export_flags & HAS_FLUSH)))
        cmd = CMD_READ;
    *flags = 0;
    if (changes(cmd) && s->export_flags & HAS_FUA && below(w, 10) == 0)
        *flags |= FLAG_FUA;
    if (cmd == CMD_ZEROES && below(w, 2) == 0)
        *flags |= FLAG_NO_HOLE;
    if (cmd == CMD_READ && s->style != STYLE_SIMPLE && s->export_flags & HAS_DF && below(w, 4) == 0)
        *flags |= FLAG_DF;
    if (cmd == CMD_STATUS && below(w, 3) == 0)
        *flags |= FLAG_REQ_ONE;
    return cmd;
}

/* Issues some request if the connection has room; 1 if it did. */
static int issue(struct storm *w, struct session *s) {
    if (s->under_way >= s->depth)
        return 0;
    for (int i = 0; i < TRIES; i++) {
        uint16_t flags, cmd = random_command(w, s, &flags);
        uint64_t at = 0, issued, stamp = 0;
        uint32_t len = 0;
        if (cmd != CMD_FLUSH) {
            uint32_t unit = changes(cmd)            ? w->smallest
                            : s->block_min < SECTOR ? SECTOR
                                                    : s->block_min;
            len = random_len(w, unit);
            at = group_of(w, s) * w->region_bytes +
                 (uint64_t)below(w, (w->region_bytes - len) / unit + 1) * unit;
            if (overlaps(s, cmd, at, len))
                continue;
        }
        if (changes(cmd)) {
            stamp = cmd == CMD_WRITE ? ++w->model.last_stamp : 0;
            issued = model_write(&w->model, at / SECTOR, len / SECTOR, stamp,
                                 oldest_read(w, group_of(w, s)),
                                 cmd == CMD_TRIM ? s->block_preferred / SECTOR : 1);
            if (!issued)
                continue;
        } else {
            issued = ++w->model.clock;
        }
        session_issue(s, cmd, flags, at, len, stamp, issued);
        w->issued++;
        return 1;
    }
    return 0;
}

static void done(void *ctx, struct session *s, struct op *op) {
    struct storm *w = ctx;
    if (changes(op->cmd))
        model_written(&w->model, op->offset_bytes / SECTOR, op->len_bytes / SECTOR, op->issued);
    w->written_bytes += op->cmd == CMD_WRITE ? op->len_bytes : 0;
    w->read_bytes += op->cmd == CMD_READ ? op->len_bytes : 0;
    account(w, op);
}

static void issue_all(struct storm *w, uint32_t *next) {
    uint64_t due = w->rate ? (now_ns() - w->begin_ns) / 1000 * w->rate / 1000000 : UINT64_MAX;
    for (uint32_t idle = 0; idle < w->connections && w->issued < due;
         *next = (*next + 1) % w->connections)
        idle = issue(w, &w->s[*next]) ? 0 : idle + 1;
    /* Requests that could not be issued in time are not made up for: the rate is a limit. */
    if (w->rate && w->issued < due)
        w->issued = due;
}

/* Reads what each region holds, by its first connection. */
static void read_on(struct storm *w, struct session *s) {
    uint32_t group = group_of(w, s);
    if ((uint32_t)s->number % w->share != 0)
        return;
    while (s->under_way < s->depth && w->read_at[group] < w->region_bytes) {
        uint64_t left = w->region_bytes - w->read_at[group];
        uint32_t len = left < SESSION_REQUEST_MAX ? (uint32_t)left : SESSION_REQUEST_MAX;
        session_issue(s, CMD_READ, 0, group * w->region_bytes + w->read_at[group], len, 0,
                      ++w->model.clock);
        w->read_at[group] += len;
    }
}

/* ---- the loop ---- */

static void take_line(struct storm *w) {
    struct disturbance *d = &w->disturbances[w->disturbance_count];
    unsigned long long at;
    w->line[w->line_len] = 0;
    w->line_len = 0;
    if (w->disturbance_count < DISTURBANCES_MAX &&
        sscanf(w->line, "%15s %llu", d->word, &at) == 2) {
        d->at_ns = at;
        w->disturbance_count++;
    }
}

static void take_input(struct storm *w) {
    char bytes[256];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        w->ending = 1;
        w->ended_ns = now_ns();
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (bytes[i] == '\n')
            take_line(w);
        else if (w->line_len < sizeof w->line - 1)
            w->line[w->line_len++] = bytes[i];
    }
}

static void watch(struct storm *w, struct session *s, int op) {
    struct epoll_event e = {.events = (w->stalled_until_ns[s->number] ? 0 : (uint32_t)EPOLLIN) |
                                      (s->blocked ? (uint32_t)EPOLLOUT : 0),
                            .data.u32 = (uint32_t)s->number};
    epoll_ctl(w->epoll, op, s->fd, &e);
}

static void push(struct storm *w, struct session *s) {
    int before = s->blocked;
    if (s->send_count > 0)
        session_send(s);
    if (s->blocked != before)
        watch(w, s, EPOLL_CTL_MOD);
}

static void stall(struct storm *w, struct session *s, uint64_t ns) {
    w->stalled_until_ns[s->number] = ns ? now_ns() + ns : 0;
    watch(w, s, EPOLL_CTL_MOD);
}

static void check_patience(struct storm *w) {
    uint64_t now = now_ns();
    for (uint32_t c = 0; c < w->connections; c++)
        for (uint32_t i = 0; i < w->s[c].depth; i++) {
            const struct op *op = &w->s[c].ops[i];
            if (op->cookie && now - op->begun_ns > PATIENCE_NS)
                session_fail(&w->s[c], "no reply within %llu s to command %u at %llu, %u bytes",
                             (unsigned long long)(PATIENCE_NS / 1000000000u), op->cmd,
                             (unsigned long long)op->offset_bytes, op->len_bytes);
        }
}

static uint64_t under_way(const struct storm *w) {
    uint64_t n = 0;
    for (uint32_t c = 0; c < w->connections; c++)
        n += w->s[c].under_way;
    return n;
}

static void run(struct storm *w) {
    uint32_t next = 0;
    uint64_t checked_ns = now_ns();
    w->begin_ns = w->last_reply_ns = checked_ns;
    w->ending = w->verify;
    w->ended_ns = w->verify ? checked_ns : 0;
    for (;;) {
        struct epoll_event e[256];
        if (!w->ending)
            issue_all(w, &next);
        if (w->ending && !w->reading && under_way(w) == 0) {
            w->reading = 1;
            for (uint32_t c = 0; c < w->connections; c++)
                w->s[c].settle = 1;
        }
        for (uint32_t c = 0; c < w->connections; c++) {
            if (w->reading)
                read_on(w, &w->s[c]);
            if (w->s[c].send_count > 0 && !w->s[c].blocked)
                push(w, &w->s[c]);
            if (w->stalled_until_ns[c] && (w->ending || now_ns() > w->stalled_until_ns[c]))
                stall(w, &w->s[c], 0);
        }
        if (w->reading && under_way(w) == 0)
            return;
        int64_t limit_ns = w->rate && !w->ending ? RATE_STEP_NS : 100000000;
        int n = epoll_pwait2(w->epoll, e, 256, &(struct timespec){.tv_nsec = limit_ns}, NULL);
        for (int i = 0; i < n; i++) {
            if (e[i].data.u32 == UINT32_MAX) {
                take_input(w);
                continue;
            }
            struct session *s = &w->s[e[i].data.u32];
            if (e[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                session_receive(s);
            if (s->small_window && !w->ending && below(w, 16) == 0)
                stall(w, s, STALL_NS);
            if (e[i].events & EPOLLOUT)
                push(w, s);
        }
        if (now_ns() - checked_ns > PATIENCE_NS / 10) {
            check_patience(w);
            checked_ns = now_ns();
        }
    }
}

static void open_all(struct storm *w, const struct sockaddr_in *to) {
    uint32_t groups = (w->connections + w->share - 1) / w->share;
    w->s = calloc(w->connections, sizeof *w->s);
    w->stalled_until_ns = calloc(w->connections, sizeof *w->stalled_until_ns);
    w->read_at = calloc(groups, sizeof *w->read_at);
    w->disturbances = calloc(DISTURBANCES_MAX, sizeof *w->disturbances);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (uint32_t c = 0; c < w->connections; c++) {
        struct session *s = &w->s[c];
        s->number = (int)c;
        s->depth = w->depth;
        s->model = &w->model;
        s->ctx = w;
        s->done = done;
        s->small_window = w->rough && c % 4 == 2;
        s->in_pieces = w->rough && c % 4 == 3;
        session_open(s, to, w->export_name, (enum session_style)((c + 2) % 3));
        watch(w, s, EPOLL_CTL_ADD);
    }
    const struct session *first = w->s;
    if (w->size_bytes == 0 || w->size_bytes > first->size_bytes)
        w->size_bytes = first->size_bytes;
    uint32_t block = first->block_min < SECTOR ? SECTOR : first->block_min;
    w->smallest = w->smallest < block ? block : w->smallest;
    w->region_bytes = w->size_bytes / groups / 4096 * 4096;
    if (w->region_bytes < w->smallest || w->region_bytes % w->smallest)
        session_fail(first, "the export is too small for so many connections");
    if (!w->from)
        model_open(&w->model, first->size_bytes / SECTOR);
    else if (model_load(&w->model, w->from) < 0 || w->model.sectors != first->size_bytes / SECTOR)
        session_fail(first, "%s is no model of this export", w->from);
}

static void print(const struct storm *w) {
    uint32_t styles[3] = {0};
    for (uint32_t c = 0; c < w->connections; c++)
        styles[w->s[c].style]++;
    printf("{\"connections\": %u, \"simple\": %u, \"structured\": %u, \"extended\": %u, ",
           w->connections, styles[0], styles[1], styles[2]);
    printf("\"seconds\": %.3f, \"replies\": %llu, \"written_bytes\": %llu, \"read_bytes\": %llu, ",
           (double)(now_ns() - w->begin_ns) / 1e9, (unsigned long long)w->replies,
           (unsigned long long)w->written_bytes, (unsigned long long)w->read_bytes);
    static const char *const names[] = {"read", "write", "disc",         "flush",
                                        "trim", "cache", "write_zeroes", "block_status"};
    printf("\"replies_to\": {");
    for (int i = 0; i < 8; i++)
        printf("%s\"%s\": %llu", i ? ", " : "", names[i], (unsigned long long)w->count_of[i]);
    printf("}, \"latency_us\": {\"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f}, ",
           percentile_us(w, 0.5), percentile_us(w, 0.99), (double)w->longest_wait_ns / 1e3);
    printf("\"longest_gap_us\": %.1f, \"disturbances\": [", (double)w->longest_gap_ns / 1e3);
    for (uint32_t i = 0; i < w->disturbance_count; i++) {
        const struct disturbance *d = &w->disturbances[i];
        printf("%s{\"kind\": \"%s\", \"gap_us\": %.1f, \"wait_us\": %.1f}", i ? ", " : "", d->word,
               (double)d->gap_ns / 1e3, (double)d->wait_ns / 1e3);
    }
    printf("]}\n");
}

static int usage(void) {
    fprintf(stderr,
            "usage: nbd_storm [--connections N] [--share N] [--depth N] [--rate N] [--size N] "
            "[--smallest N] [--seed N] [--from FILE] [--to FILE] [--priority GNUTLS] [--tls "
            "FOLDER] [--rough] [--verify] PORT EXPORT\n");
    return 2;
}

int main(int argc, char **argv) {
    struct storm w = {.connections = 1, .share = 1, .depth = 4, .rng = 1};
    struct rlimit files;
    const char *priority = "NORMAL";
    int i;
    for (i = 1; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        const char *name = argv[i] + 2;
        if (strcmp(name, "verify") == 0 || strcmp(name, "rough") == 0) {
            *(name[0] == 'v' ? &w.verify : &w.rough) = 1;
            continue;
        }
        const char *value = ++i < argc ? argv[i] : "";
        uint64_t n = strtoull(value, NULL, 10);
        if (strcmp(name, "connections") == 0)
            w.connections = (uint32_t)n;
        else if (strcmp(name, "share") == 0)
            w.share = (uint32_t)n;
        else if (strcmp(name, "depth") == 0)
            w.depth = (uint32_t)n;
        else if (strcmp(name, "rate") == 0)
            w.rate = n;
        else if (strcmp(name, "size") == 0)
            w.size_bytes = n;
        else if (strcmp(name, "smallest") == 0)
            w.smallest = (uint32_t)n;
        else if (strcmp(name, "seed") == 0)
            w.rng = n;
        else if (strcmp(name, "from") == 0)
            w.from = value;
        else if (strcmp(name, "to") == 0)
            w.to = value;
        else if (strcmp(name, "tls") == 0)
            session_use_tls(value, priority);
        else if (strcmp(name, "priority") == 0)
            priority = value;
        else
            return usage();
    }
    if (argc - i != 2 || w.connections == 0 || w.share == 0 || w.depth == 0 ||
        w.depth > SESSION_OPS_MAX)
        return usage();
    w.export_name = argv[i + 1];
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[i])),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    open_all(&w, &to);
    if (!w.verify) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
        fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
        if (epoll_ctl(w.epoll, EPOLL_CTL_ADD, STDIN_FILENO, &e) < 0)
            w.ending = 1;
        printf("ready\n");
        fflush(stdout);
    }
    run(&w);
    for (uint32_t c = 0; c < w.connections; c++)
        session_close(&w.s[c]);
    if (w.to && model_save(&w.model, w.to) < 0) {
        fprintf(stderr, "%s cannot be written: %s\n", w.to, strerror(errno));
        return 2;
    }
    print(&w);
    return 0;
}
