/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over real sockets and pipes, with a successor in the same process: what is kept, what is lost, and that
 * each byte comes once, over undone turns and deaths. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/units.h"
#include "persist/persist_priv.h"

static struct arena_region_plan regions[] = {
    {PERSIST_REGION_HEAP, 1, 256 * KIB, 4096},
    {PERSIST_REGION_DESCRIPTORS, 1, 4 * sizeof(struct persist_record), 4096},
};
static const struct arena_plan plan = {
    .regions = regions, .region_count = 2, .undo_bytes = 64 * KIB};
static const struct perdure_program program = {.data_version = 1};

struct world {
    struct perdure p;
    struct custody custody;
    struct boot boot;
    void *memory;
    int ours, theirs;
    uint32_t handle;
};

static void engine(struct world *w) {
    w->p = (struct perdure){
        .boot = &w->boot, .program = &program, .base = w->memory, .event_fd = -1, .signal_fd = -1};
}

static void open_world(struct world *w) {
    memset(w, 0, sizeof *w);
    w->memory = aligned_alloc(4096, arena_plan_bytes(&plan));
    memset(w->memory, 0, arena_plan_bytes(&plan));
    w->boot.custody = &w->custody;
    engine(w);
    assert_int_equal(arena_create(&w->p.a, w->memory, arena_plan_bytes(&plan), &plan), 0);
    heap_make(&w->p);
    atomic_store(&w->p.a.live->phase, ARENA_SERVING);
    descriptors_attach(&w->p);
}

static void close_engine(struct world *w) {
    for (unsigned i = 0; i < PERSIST_BINS; i++)
        free(w->p.bins[i].blocks);
    free(w->p.freed.blocks);
    free(w->p.by_fd);
    arena_detach(&w->p.a);
}

static void succeed(struct world *w) {
    close_engine(w);
    engine(w);
    assert_int_equal(arena_roll_back(w->memory), ARENA_QUALIFIES);
    assert_int_equal(arena_attach(&w->p.a, w->memory, arena_plan_bytes(&plan), &plan), 0);
    w->p.started = PERDURE_CRASH;
    descriptors_attach(&w->p);
}

static void close_world(struct world *w) {
    close_engine(w);
    free(w->memory);
    close(w->theirs);
}

static void tcp_pair(int *ours, int *theirs) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(l, (void *)&a, len), 0);
    assert_int_equal(listen(l, 1), 0);
    getsockname(l, (void *)&a, &len);
    *theirs = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(*theirs, (void *)&a, len), 0);
    *ours = accept(l, NULL, NULL);
    assert_true(*ours >= 0);
    close(l);
}

static void open_stream(struct world *w, int tcp) {
    int pair[2];
    open_world(w);
    if (tcp) {
        tcp_pair(&w->ours, &w->theirs);
    } else {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        w->ours = pair[0];
        w->theirs = pair[1];
    }
    assert_int_equal(perdure_preserve_socket(&w->p, w->ours), 0);
    w->handle = perdure_socket_handle(&w->p, w->ours);
    assert_int_not_equal(w->handle, 0);
    assert_int_equal(perdure_stream(&w->p, w->handle, 16, 16), 0);
}

/* A turn undone after a death: its bytes are there again, and what it put is not sent. */
static void once(int tcp) {
    struct world w;
    char got[64];
    open_stream(&w, tcp);
    assert_int_equal(write(w.theirs, "0123456789", 10), 10);
    assert_int_equal(perdure_receive(&w.p, w.handle), 10);
    perdure_begin(&w.p);
    assert_int_equal(perdure_take(&w.p, w.handle, 4), 0);
    assert_int_equal(perdure_put(&w.p, w.handle, "abcd", 4), 0);
    perdure_commit(&w.p);
    perdure_begin(&w.p);
    assert_int_equal(perdure_take(&w.p, w.handle, 3), 0);
    assert_int_equal(perdure_put(&w.p, w.handle, "xyz", 3), 0);
    succeed(&w);
    assert_int_equal(w.p.lost, 0);
    assert_int_equal(perdure_peek(&w.p, w.handle, got, sizeof got), 6);
    assert_memory_equal(got, "456789", 6);
    assert_int_equal(perdure_send(&w.p, w.handle), 0);
    assert_int_equal(read(w.theirs, got, sizeof got), 4);
    assert_memory_equal(got, "abcd", 4);
    /* Around the end of both rings. */
    assert_int_equal(write(w.theirs, "ABCDEFGHIJKLM", 13), 13);
    assert_int_equal(perdure_receive(&w.p, w.handle), 10);
    assert_int_equal(perdure_receive(&w.p, w.handle), -ENOBUFS);
    assert_int_equal(perdure_peek(&w.p, w.handle, got, sizeof got), 16);
    assert_memory_equal(got, "456789ABCDEFGHIJ", 16);
    perdure_begin(&w.p);
    assert_int_equal(perdure_take(&w.p, w.handle, 17), -EINVAL);
    assert_int_equal(perdure_take(&w.p, w.handle, 16), 0);
    assert_int_equal(perdure_put(&w.p, w.handle, got, 17), -EAGAIN);
    assert_int_equal(perdure_put(&w.p, w.handle, got, 16), 0);
    perdure_commit(&w.p);
    succeed(&w);
    assert_int_equal(perdure_send(&w.p, w.handle), 0);
    assert_int_equal(read(w.theirs, got, sizeof got), 16);
    assert_memory_equal(got, "456789ABCDEFGHIJ", 16);
    close_world(&w);
}

static void test_once_tcp(void **state) {
    once(1);
}
static void test_once_unix(void **state) {
    once(0);
}

/* The dead engine had not come to note what the kernel gave it and took from it. */
static void test_not_noted(void **state) {
    struct world w;
    char got[64];
    open_stream(&w, 1);
    struct persist_record *r = descriptor_of(&w.p, w.handle);
    perdure_begin(&w.p);
    assert_int_equal(perdure_put(&w.p, w.handle, "abcdef", 6), 0);
    perdure_commit(&w.p);
    assert_int_equal(write(w.theirs, "0123", 4), 4);
    assert_int_equal(read(w.ours, persist_heap(&w.p) + r->input, 16), 4);
    assert_int_equal(write(w.ours, persist_heap(&w.p) + r->output, 5), 5);
    succeed(&w);
    assert_int_equal(perdure_peek(&w.p, w.handle, got, sizeof got), 4);
    assert_memory_equal(got, "0123", 4);
    assert_int_equal(perdure_send(&w.p, w.handle), 0);
    assert_int_equal(recv(w.theirs, got, sizeof got, MSG_WAITALL | MSG_DONTWAIT), 6);
    assert_memory_equal(got, "abcdef", 6);
    close_world(&w);
}

/* In the system call: of a Unix socket nobody knows; of TCP the kernel does. */
static void test_touched(void **state) {
    char got[8];
    for (int tcp = 0; tcp < 2; tcp++) {
        struct world w;
        open_stream(&w, tcp);
        atomic_store(&descriptor_of(&w.p, w.handle)->touching, 1);
        succeed(&w);
        assert_int_equal(w.p.lost, !tcp);
        assert_int_equal(perdure_reconnect_socket(&w.p, w.handle, -1), tcp ? w.ours : -ESTALE);
        if (!tcp)
            assert_int_equal(read(w.theirs, got, sizeof got), 0);
        close_world(&w);
    }
}

/* A number that now belongs to something else is not taken for it. */
static void test_identity(void **state) {
    struct world w;
    open_stream(&w, 0);
    int other = open("/dev/null", O_RDWR);
    dup2(other, w.ours);
    close(other);
    succeed(&w);
    assert_int_equal(w.p.lost, 1);
    assert_int_equal(perdure_reconnect_socket(&w.p, w.handle, -1), -ESTALE);
    assert_true(fcntl(w.ours, F_GETFD) >= 0);
    close(w.ours);
    close_world(&w);
}

static void test_handles(void **state) {
    struct world w;
    int p[2], q[2], many[5];
    open_world(&w);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(perdure_preserve_sockets(&w.p, p, 2), 0);
    assert_int_equal(perdure_preserve_socket(&w.p, p[0]), 0); /* the same again */
    uint32_t a = perdure_socket_handle(&w.p, p[0]), b = perdure_socket_handle(&w.p, p[1]);
    assert_int_equal(perdure_next_handle(&w.p, 0), a);
    assert_int_equal(perdure_next_handle(&w.p, a), b);
    assert_int_equal(perdure_next_handle(&w.p, b), 0);
    assert_int_equal(pipe(q), 0);
    memcpy(many, (int[]){q[0], q[1], 0, 1, 2}, sizeof many);
    assert_int_equal(perdure_preserve_sockets(&w.p, many, 5), -ENOSPC); /* all or none */
    assert_int_equal(perdure_socket_handle(&w.p, q[0]), 0);
    assert_int_equal(perdure_preserve_sockets(&w.p, (int[]){q[0], 9999}, 2), -EBADF);
    assert_int_equal(perdure_socket_handle(&w.p, q[0]), 0);
    /* Under another number. */
    assert_int_equal(perdure_reconnect_socket(&w.p, a, p[1]), -EBUSY);
    assert_int_equal(perdure_reconnect_socket(&w.p, a, 200), 200);
    assert_int_equal(fcntl(p[0], F_GETFD), -1);
    succeed(&w);
    assert_int_equal(perdure_reconnect_socket(&w.p, a, -1), 200);
    /* Undone and done. */
    perdure_begin(&w.p);
    assert_int_equal(perdure_close(&w.p, a), 0);
    assert_int_equal(perdure_reconnect_socket(&w.p, a, -1), -ESTALE);
    perdure_undo(&w.p);
    assert_int_equal(perdure_reconnect_socket(&w.p, a, -1), 200);
    assert_int_equal(perdure_close(&w.p, a), 0);
    assert_int_equal(fcntl(200, F_GETFD), -1);
    /* Another one in its place has another handle. */
    assert_int_equal(perdure_preserve_socket(&w.p, q[0]), 0);
    assert_int_not_equal(perdure_socket_handle(&w.p, q[0]), a);
    /* A reload under way has its table of descriptors already. */
    w.p.reloading = 1;
    assert_int_equal(perdure_preserve_socket(&w.p, q[1]), -EAGAIN);
    w.p.reloading = 0;
    /* The engine dies between the commit and the closing. */
    perdure_begin(&w.p);
    assert_int_equal(perdure_close(&w.p, b), 0);
    arena_commit(&w.p.a);
    succeed(&w);
    assert_int_equal(fcntl(p[1], F_GETFD), -1);
    assert_int_equal(w.p.lost, 0);
    /* Nothing but the arena is left. */
    close_engine(&w);
    engine(&w);
    assert_int_equal(arena_attach(&w.p.a, w.memory, arena_plan_bytes(&plan), &plan), 0);
    w.p.orphaned = 1;
    descriptors_attach(&w.p);
    assert_int_equal(w.p.lost, 1);
    assert_int_equal(perdure_next_handle(&w.p, 0), 0);
    assert_true(fcntl(q[0], F_GETFD) >= 0);
    w.theirs = q[0];
    close(q[1]);
    close_world(&w);
}

/* The dead engine had accepted three and recorded none; of one it had taken a byte, which is not its way. What it
 * had open besides is closed, and a second number of what is kept does not end it. */
static void test_sweep(void **state) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    struct world w;
    int theirs[3], ours[3], other[2];
    uint32_t handle;
    char byte;
    open_stream(&w, 1);
    int l = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(l, (void *)&a, len), 0);
    assert_int_equal(listen(l, 8), 0);
    getsockname(l, (void *)&a, &len);
    assert_int_equal(perdure_preserve_socket(&w.p, l), 0);
    uint32_t listener = perdure_socket_handle(&w.p, l);
    for (int i = 0; i < 3; i++) {
        theirs[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(theirs[i], (void *)&a, len), 0);
        ours[i] = accept(l, NULL, NULL);
        assert_int_equal(write(theirs[i], "x", 1), 1);
    }
    assert_int_equal(read(ours[1], &byte, 1), 1);
    assert_int_equal(pipe(other), 0);
    int twice = dup(w.ours);
    assert_int_equal(fcntl(w.theirs, F_SETFD, FD_CLOEXEC), 0);
    succeed(&w);
    w.boot.mode = BOOT_CRASH;
    descriptors_sweep(&w.p);
    assert_int_equal(fcntl(other[0], F_GETFD), -1);
    assert_int_equal(fcntl(ours[1], F_GETFD), -1);
    assert_int_equal(fcntl(twice, F_GETFD), -1);
    for (int i = 0; i < 2; i++) {
        int fd = perdure_accept(&w.p, listener, &handle);
        assert_true(fd == ours[0] || fd == ours[2]);
        assert_int_not_equal(handle, 0);
        assert_int_equal(read(fd, &byte, 1), 1);
    }
    assert_int_equal(perdure_accept(&w.p, listener, &handle), -EAGAIN);
    assert_int_equal(write(w.theirs, "0", 1), 1);
    assert_int_equal(perdure_receive(&w.p, w.handle), 1);
    for (int i = 0; i < 3; i++)
        close(theirs[i]);
    free(w.p.fresh);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_once_tcp),  cmocka_unit_test(test_once_unix),
        cmocka_unit_test(test_not_noted), cmocka_unit_test(test_touched),
        cmocka_unit_test(test_identity),  cmocka_unit_test(test_handles),
        cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
