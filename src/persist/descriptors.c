/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preserved descriptors. A record is made in a turn; from then on all later engines inherit the descriptor under its
 * number, and its identity tells whether it is still the same. A handle is an index and the generation of its record.
 *
 *   KEPT      made, committed
 *   CLOSING   a committed turn wants it closed; then it is ended, closed and freed in a turn of the library's own,
 *             by whichever engine comes that far
 *
 * A descriptor is accepted only while no turn is open, and its record committed before anybody touches it. So what a
 * dead engine has accepted and not recorded is untouched: it has the address of a listener, and the next
 * perdure_accept() gives it out. A reload accepts and preserves nothing, as the successor has its table already.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "persist/persist_priv.h"
#include "plat/linux/linux.h"
#include "plat/posix/socket.h"

struct persist_record *descriptor_of(const struct perdure *p, uint32_t handle) {
    uint32_t index = handle_index(handle);
    struct persist_record *r = persist_records(p) + index;
    return handle != 0 && index < p->record_count && r->state == PERSIST_KEPT &&
                   r->generation == handle_generation(handle)
               ? r
               : NULL;
}

static uint32_t handle_of(const struct perdure *p, const struct persist_record *r) {
    return handle_make((uint32_t)(r - persist_records(p)), (uint16_t)r->generation);
}

static int option(int fd, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

/* A pipe has no cookie; its inode is its own as long as it is open. */
uint64_t descriptor_identity(int fd) {
    struct stat st;
    uint64_t cookie = linux_stream_ops.identity(NULL, fd);
    return cookie || fstat(fd, &st) < 0 ? cookie : (uint64_t)st.st_ino;
}

static enum persist_kind kind_of(int fd) {
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
        return PERSIST_PIPE;
    if (option(fd, SO_TYPE) != SOCK_STREAM)
        return PERSIST_OTHER;
    int domain = option(fd, SO_DOMAIN);
    if ((domain == AF_INET || domain == AF_INET6) && option(fd, SO_PROTOCOL) == IPPROTO_TCP)
        return PERSIST_TCP;
    return domain == AF_UNIX ? PERSIST_UNIX : PERSIST_OTHER;
}

/* An entry is never taken back: an undone turn may have put it there, or need the one before. */
static struct persist_record *record_of_fd(const struct perdure *p, int fd) {
    uint32_t at = fd >= 0 && (uint32_t)fd < p->by_fd_room ? p->by_fd[fd] : 0;
    struct persist_record *r = at > 0 ? persist_records(p) + (at - 1) : NULL;
    return r && r->state != PERSIST_FREE && r->fd == fd ? r : NULL;
}

/* Room to note it. */
static int make_room_for_fd(struct perdure *p, int fd) {
    uint32_t room = p->by_fd_room ? p->by_fd_room : 256;
    while (room <= (uint32_t)fd)
        room *= 2;
    if (room == p->by_fd_room)
        return 0;
    uint32_t *grown = realloc(p->by_fd, room * sizeof *grown);
    if (!grown)
        return -ENOMEM;
    memset(grown + p->by_fd_room, 0, (room - p->by_fd_room) * sizeof *grown);
    p->by_fd = grown;
    p->by_fd_room = room;
    return 0;
}

static void note_fd(struct perdure *p, const struct persist_record *r) {
    p->by_fd[r->fd] = (uint32_t)(r - persist_records(p)) + 1;
}

static int save(struct perdure *p, struct persist_record *r) {
    return persist_save(p, r, PERSIST_RECORD_UNDONE);
}

/* Live words are not undone: a record freed in this turn is not made anew in it. */
static int is_usable(const struct perdure *p, const struct persist_record *r) {
    return r->state == PERSIST_FREE && (r->turn == 0 || r->turn < p->a.turn);
}

static struct persist_record *free_record(struct perdure *p) {
    for (uint32_t i = 0; i < p->record_count; i++) {
        uint32_t at = p->next_free < p->record_count ? p->next_free : 0;
        p->next_free = at + 1;
        if (is_usable(p, persist_records(p) + at))
            return persist_records(p) + at;
    }
    return NULL;
}

/* Whether there are so many, or more. */
static int has_usable(const struct perdure *p, size_t count) {
    for (uint32_t i = 0; count > 0 && i < p->record_count; i++)
        count -= is_usable(p, persist_records(p) + (p->next_free + i) % p->record_count);
    return count == 0;
}

static int preserve(struct perdure *p, int fd) {
    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    if (record_of_fd(p, fd))
        return 0;
    if (make_room_for_fd(p, fd) < 0)
        return -ENOMEM;
    struct persist_record *r = free_record(p);
    if (!r || save(p, r) < 0)
        return -ENOSPC;
    enum persist_kind kind = kind_of(fd);
    int listens = option(fd, SO_ACCEPTCONN) == 1;
    if (kind == PERSIST_TCP)
        posix_socket_set_tcp(fd);
    if (posix_socket_set(fd, STREAM_PRESERVED) < 0)
        return -EBADF;
    uint32_t generation = r->generation % HANDLE_GENERATION_MAX + 1;
    memset(r, 0, PERSIST_RECORD_UNDONE);
    r->state = PERSIST_KEPT;
    r->generation = generation;
    r->fd = fd;
    r->kind = (uint16_t)kind;
    r->listens = (uint16_t)listens;
    r->identity = descriptor_identity(fd);
    r->turn = p->a.turn;
    note_fd(p, r);
    return 0;
}

int perdure_preserve_sockets(struct perdure *p, const int *fds, size_t count) {
    int err = p->reloading ? -EAGAIN : 0, begun = persist_begin(p);
    uint64_t undo = arena_undo_left(&p->a);
    if (count > undo / 256)
        err = -ENOSPC;
    size_t fresh = 0;
    for (size_t i = 0; err == 0 && i < count; i++) {
        if (fcntl(fds[i], F_GETFD) < 0)
            err = -EBADF;
        fresh += record_of_fd(p, fds[i]) == NULL;
    }
    if (err == 0 && !has_usable(p, fresh))
        err = -ENOSPC;
    for (size_t i = 0; err == 0 && i < count; i++)
        err = preserve(p, fds[i]);
    if (err < 0 && begun)
        perdure_undo(p);
    else
        persist_end(p, begun);
    return err;
}

int perdure_preserve_socket(struct perdure *p, int fd) {
    return perdure_preserve_sockets(p, &fd, 1);
}

uint32_t perdure_socket_handle(const struct perdure *p, int fd) {
    const struct persist_record *r = record_of_fd(p, fd);
    return r && r->state == PERSIST_KEPT ? handle_of(p, r) : 0;
}

uint32_t perdure_next_handle(const struct perdure *p, uint32_t handle) {
    for (uint32_t i = handle ? handle_index(handle) + 1 : 0; i < p->record_count; i++)
        if (persist_records(p)[i].state == PERSIST_KEPT)
            return handle_of(p, persist_records(p) + i);
    return 0;
}

int perdure_reconnect_socket(struct perdure *p, uint32_t handle, int fd) {
    struct persist_record *r = descriptor_of(p, handle);
    if (!r)
        return -ESTALE;
    if (fd < 0 || fd == r->fd)
        return r->fd;
    if (boot_owns(p->boot, fd) || record_of_fd(p, fd) || fd == p->event_fd || fd == p->signal_fd)
        return -EBUSY;
    if (p->reloading || p->in_turn)
        return -EAGAIN;
    if (make_room_for_fd(p, fd) < 0)
        return -ENOMEM;
    int former = r->fd;
    /* Between the two a death leaves the one that the record names; the other one is closed by who succeeds. */
    if (dup2(former, fd) < 0)
        return -errno;
    perdure_begin(p);
    if (save(p, r) < 0) {
        perdure_undo(p);
        close(fd);
        return -ENOSPC;
    }
    r->fd = fd;
    note_fd(p, r);
    perdure_commit(p);
    close(former);
    return fd;
}

int perdure_accept(struct perdure *p, uint32_t listener, uint32_t *handle) {
    const struct persist_record *l = descriptor_of(p, listener);
    int fd = -1;
    *handle = 0;
    if (!l || !l->listens)
        return -ESTALE;
    if (p->in_turn)
        return -EBUSY;
    if (p->reloading)
        return -EAGAIN;
    if (p->fresh_count > 0)
        fd = p->fresh[--p->fresh_count];
    else
        fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return errno == ECONNABORTED || errno == EINTR ? -EAGAIN : -errno;
    int err = perdure_preserve_socket(p, fd);
    if (err < 0) {
        shutdown(fd, SHUT_RDWR);
        close(fd);
        return err;
    }
    *handle = perdure_socket_handle(p, fd);
    return fd;
}

int perdure_close(struct perdure *p, uint32_t handle) {
    struct persist_record *r = descriptor_of(p, handle);
    if (!r)
        return -ESTALE;
    int begun = persist_begin(p), err = save(p, r);
    if (err == 0) {
        r->state = PERSIST_CLOSING;
        p->closing++;
    }
    persist_end(p, begun);
    return err;
}

/* Whoever else holds it: the other side hears the end. */
static void end(const struct persist_record *r) {
    if (descriptor_identity(r->fd) != r->identity)
        return;
    if (r->kind != PERSIST_PIPE && !r->listens)
        shutdown(r->fd, SHUT_RDWR);
    close(r->fd);
}

/* In a turn. */
static void free_it(struct perdure *p, struct persist_record *r) {
    must(save(p, r) == 0);
    must(perdure_free(p, r->input ? persist_heap(p) + r->input : NULL) == 0);
    must(perdure_free(p, r->output ? persist_heap(p) + r->output : NULL) == 0);
    r->state = PERSIST_FREE;
    r->turn = p->a.turn;
}

void descriptors_committed(struct perdure *p) {
    uint32_t left = p->closing;
    p->closing = 0;
    for (uint32_t i = 0; left > 0 && i < p->record_count; i++) {
        struct persist_record *r = persist_records(p) + i;
        if (r->state != PERSIST_CLOSING)
            continue;
        end(r);
        p->in_turn = 1;
        free_it(p, r);
        arena_commit(&p->a);
        p->in_turn = 0;
        heap_committed(p);
        left--;
    }
}

/* What is there of former engines: closed as they wanted, kept, or lost. */
void descriptors_attach(struct perdure *p) {
    p->record_count =
        (uint32_t)(p->a.region_bytes[PERSIST_REGION_DESCRIPTORS] / sizeof(struct persist_record));
    for (uint32_t i = 0; i < p->record_count; i++) {
        struct persist_record *r = persist_records(p) + i;
        if (r->state == PERSIST_FREE)
            continue;
        int there = !p->orphaned && descriptor_identity(r->fd) == r->identity;
        if (there && r->state == PERSIST_KEPT && make_room_for_fd(p, r->fd) == 0 &&
            stream_attach(p, r) == 0) {
            note_fd(p, r);
            continue;
        }
        p->lost += r->state == PERSIST_KEPT;
        if (there)
            end(r);
        perdure_begin(p);
        free_it(p, r);
        perdure_commit(p);
    }
}

/* The address of a preserved listener, and nothing has passed. */
static int is_fresh(const struct perdure *p, int fd) {
    struct sockaddr_storage own = {0}, peer, theirs;
    socklen_t len = sizeof own, peer_len = sizeof peer;
    enum persist_kind kind = kind_of(fd);
    struct stream_positions at;
    if (p->started == PERDURE_COLD || (kind != PERSIST_TCP && kind != PERSIST_UNIX) ||
        option(fd, SO_ACCEPTCONN) != 0 || getsockname(fd, (void *)&own, &len) < 0 ||
        (kind == PERSIST_UNIX && len <= offsetof(struct sockaddr_un, sun_path)) ||
        getpeername(fd, (void *)&peer, &peer_len) < 0)
        return 0;
    if (kind == PERSIST_TCP &&
        (linux_stream_ops.positions(NULL, fd, &at) < 0 || at.received || at.sent))
        return 0;
    for (uint32_t i = 0; i < p->record_count; i++) {
        const struct persist_record *r = persist_records(p) + i;
        socklen_t l = sizeof theirs;
        memset(&theirs, 0, sizeof theirs);
        if (r->state != PERSIST_KEPT || !r->listens || r->kind != kind ||
            getsockname(r->fd, (void *)&theirs, &l) < 0 || theirs.ss_family != own.ss_family)
            continue;
        if (kind == PERSIST_UNIX ? len == l && memcmp(&own, &theirs, l) == 0
                                 : ((struct sockaddr_in *)&own)->sin_port ==
                                       ((struct sockaddr_in *)&theirs)->sin_port)
            return 1; /* the port lies at one place in both families */
    }
    return 0;
}

/* Another number of what is preserved. */
static int is_double(const struct perdure *p, int fd) {
    uint64_t identity = descriptor_identity(fd);
    for (uint32_t i = 0; i < p->record_count; i++)
        if (persist_records(p)[i].state != PERSIST_FREE &&
            persist_records(p)[i].identity == identity)
            return 1;
    return 0;
}

static void sweep(struct perdure *p, int fd) {
    if (boot_owns(p->boot, fd) || fcntl(fd, F_GETFD) & FD_CLOEXEC || record_of_fd(p, fd))
        return;
    if (is_double(p, fd)) {
        close(fd);
        return;
    }
    if (is_fresh(p, fd)) {
        int *more = realloc(p->fresh, (p->fresh_count + 1) * sizeof *more);
        if (more) {
            p->fresh = more;
            p->fresh[p->fresh_count++] = fd;
            return;
        }
    }
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

void descriptors_sweep(struct perdure *p) {
    int *fds = NULL, count = 0;
    if (p->boot->mode == BOOT_COLD) /* whoever started us left those open */
        return;
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        int fd = atoi(e->d_name), *more;
        if (e->d_name[0] == '.' || fd == dirfd(dir))
            continue;
        if (!(more = realloc(fds, ((size_t)count + 1) * sizeof *more)))
            break;
        fds = more;
        fds[count++] = fd;
    }
    closedir(dir);
    for (int i = 0; i < count; i++)
        sweep(p, fds[i]);
    free(fds);
}
