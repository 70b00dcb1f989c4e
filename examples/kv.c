/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A key-value server of libperdure-persist, whose data lie in the arena: a hash table of plain pointers.
 *
 *     kv PORT
 *
 *   set KEY VALUE    ok                         get KEY    its value, or none
 *   add KEY NUMBER   its value afterwards       version    of the program
 *
 * Each command is one turn: done and answered once, whenever the engine dies. The rest is as in echo.c.
 */
#include <perdure/persist.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VERSION
#define VERSION "1"
#endif
#ifndef DATA_VERSION
#define DATA_VERSION 1
#endif
enum { LINE_MAX_BYTES = 1024, ROOM = 8192, CHAINS = 4096 };

struct entry {
    struct entry *next;
    char *value;
    char key[];
};
struct store { /* root 0 */
    uint32_t listener;
    struct entry *chains[CHAINS];
};

static struct entry **chain_of(struct store *s, const char *key) {
    uint32_t hash = 5381;
    for (const char *k = key; *k; k++)
        hash = hash * 33 + (unsigned char)*k;
    return &s->chains[hash % CHAINS];
}

static struct entry *find(struct store *s, const char *key) {
    struct entry *e = *chain_of(s, key);
    while (e && strcmp(e->key, key) != 0)
        e = e->next;
    return e;
}

/* In a turn. A new value is a new block: only the pointer to it is edited. */
static int set(struct perdure *p, struct store *s, const char *key, const char *value) {
    struct entry *e = find(s, key), **chain = chain_of(s, key);
    char *copy = perdure_alloc(p, strlen(value) + 1);
    if (!copy || (e && perdure_free(p, e->value) < 0))
        return -ENOMEM;
    if (!e) {
        e = perdure_alloc(p, sizeof *e + strlen(key) + 1);
        if (!e || !perdure_edit(p, chain, sizeof *chain))
            return -ENOMEM;
        strcpy(e->key, key);
        e->next = *chain;
        *chain = e;
    }
    if (!perdure_edit(p, &e->value, sizeof e->value))
        return -ENOMEM;
    e->value = strcpy(copy, value);
    return 0;
}

static int execute(struct perdure *p, struct store *s, char *line, char *out, size_t room) {
    char *save, *verb = strtok_r(line, " ", &save), *key = strtok_r(NULL, " ", &save);
    char *value = strtok_r(NULL, "", &save);
    struct entry *e = key ? find(s, key) : NULL;
    if (verb && strcmp(verb, "version") == 0) {
        snprintf(out, room, "%s\n", VERSION);
    } else if (verb && key && strcmp(verb, "get") == 0) {
        snprintf(out, room, "%s\n", e ? e->value : "none");
    } else if (value && (strcmp(verb, "set") == 0 || strcmp(verb, "add") == 0)) {
        char sum[24];
        int add = verb[0] == 'a';
        if (add)
            snprintf(sum, sizeof sum, "%lld", (e ? atoll(e->value) : 0) + atoll(value));
        snprintf(out, room, "%s\n", add ? sum : "ok");
        return set(p, s, key, add ? sum : value);
    } else {
        snprintf(out, room, "what?\n");
    }
    return 0;
}

/* One command, one turn. 1: done; 0: there is none, or no room for its answer; else it cannot go on. */
static int command(struct perdure *p, struct store *s, uint32_t h) {
    char line[LINE_MAX_BYTES + 1], out[LINE_MAX_BYTES + 1];
    size_t n = perdure_peek(p, h, line, LINE_MAX_BYTES);
    char *end = memchr(line, '\n', n);
    if (!end)
        return n == LINE_MAX_BYTES ? -EINVAL : 0;
    if (perdure_output_room(p, h) < sizeof out)
        return 0;
    *end = 0;
    perdure_begin(p);
    int err = perdure_take(p, h, (size_t)(end - line) + 1);
    err = err < 0 ? err : execute(p, s, line, out, sizeof out);
    err = err < 0 ? err : perdure_put(p, h, out, strlen(out));
    (err < 0 ? perdure_undo : perdure_commit)(p);
    return err < 0 ? err : 1;
}

static void serve_stream(struct perdure *p, struct store *s, uint32_t h) {
    for (;;) {
        int64_t came = perdure_receive(p, h);
        int did = 0, any = 0;
        while ((did = command(p, s, h)) > 0)
            any = 1;
        int sent = perdure_send(p, h);
        if (did < 0 || came == -EPIPE || sent == -EPIPE || (came == 0 && !any && sent == 0)) {
            perdure_close(p, h);
            return;
        }
        if (came <= 0 && !any)
            return;
    }
}

static void take_stream(struct perdure *p, int epoll, uint32_t h, int listens) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = h};
    if (!listens && !perdure_is_stream(p, h) && perdure_stream(p, h, ROOM, ROOM) < 0)
        perdure_close(p, h);
    else
        epoll_ctl(epoll, EPOLL_CTL_ADD, perdure_reconnect_socket(p, h, -1), &e);
}

static int begin(struct perdure *p, int port) {
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (void *)&in, sizeof in) < 0 || listen(fd, 1024) < 0)
        return -errno;
    perdure_begin(p);
    struct store *s = perdure_root(p, 0); /* there is one if all but the memory was lost */
    if (!s && (s = perdure_alloc(p, sizeof *s)))
        perdure_set_root(p, 0, s);
    int err = s && perdure_edit(p, s, sizeof *s) ? perdure_preserve_socket(p, fd) : -ENOMEM;
    if (err == 0)
        s->listener = perdure_socket_handle(p, fd);
    perdure_commit(p);
    return err;
}

static int run(struct perdure *p, int argc, char **argv) {
    static const char *const starts[] = {"cold", "planned", "crash"};
    struct sockaddr_in bound = {0};
    socklen_t len = sizeof bound;
    struct epoll_event e = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct store *s = perdure_root(p, 0);
    int listens = s && perdure_reconnect_socket(p, s->listener, -1) >= 0;
    if (argc < 2 || (!listens && begin(p, atoi(argv[1])) < 0))
        return 2;
    s = perdure_root(p, 0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, perdure_fd(p), &e);
    for (uint32_t h = perdure_next_handle(p, 0); h; h = perdure_next_handle(p, h))
        take_stream(p, epoll, h, h == s->listener);
    getsockname(perdure_reconnect_socket(p, s->listener, -1), (void *)&bound, &len);
    perdure_serve(p);
    fprintf(stderr, "serving %u %d %s %d %s lost %u\n", perdure_generation(p), getpid(), VERSION,
            ntohs(bound.sin_port), starts[perdure_started(p)], perdure_lost(p));
    for (;;) {
        uint32_t h;
        if (epoll_wait(epoll, &e, 1, -1) != 1)
            continue;
        int event = e.data.u32 ? PERDURE_NOTHING : perdure_event(p);
        if (event == PERDURE_STOP)
            return 0;
        if (event == PERDURE_HANGUP)
            perdure_reload(p, argv[0]);
        if (event == PERDURE_RELOAD_FAILED)
            fprintf(stderr, "no reload: %s\n", perdure_reason(p));
        if (e.data.u32 && e.data.u32 != s->listener)
            serve_stream(p, s, e.data.u32);
        else
            while (perdure_accept(p, s->listener, &h) >= 0)
                take_stream(p, epoll, h, 0);
    }
}

int main(int argc, char **argv) {
    static const struct perdure_program program = {.struct_bytes = sizeof program,
                                                   .data_version = DATA_VERSION,
                                                   .heap_bytes = 64 << 20,
                                                   .run = run};
    return perdure_main(argc, argv, &program);
}
