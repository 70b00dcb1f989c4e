/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perdured_deadly: perdured that dies on purpose, or hangs, where a request comes by or when it attaches.
 *
 * The linker puts these functions before the server's own. What they are to do lies in the file that
 * PERDURE_DEADLY names, which all engines map; without it they do nothing. A request is marked if it is CACHE
 * for 4096 bytes at 1 MiB. All numbers are 64 bits, little endian; one order of 64 bytes for each place:
 *
 *   place 0  the request is about to be parsed        +0   times to die; 0: none
 *         1  it is about to be given to the engine    +8   way: 0 abort, 1 hang, 2 exit with status 7
 *         2  the engine is about to work on it        +16  requests that this process lets go by before
 *         3  a successor attaches                     +24  1: any request counts, 0: those that are marked
 *                                                     +32  deaths so far
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "engine/engine_priv.h"
#include "proto/nbd/nbd.h"

enum { PARSE, SUBMIT, WORK, ATTACH, PLACES };
enum { ABORT, HANG, EXIT };
#define MARK_OFFSET (UINT64_C(1) << 20)
#define MARK_BYTES 4096u
#define NBD_COMPACT 0x25609513u
#define NBD_EXTENDED 0x21e41c71u
#define NBD_TYPE_CACHE 5u

struct death_order {
    uint64_t times, way, skip, any, deaths, reserved[3];
};
static struct death_order *orders;
static uint64_t seen[PLACES];

__attribute__((constructor)) static void map_orders(void) {
    const char *path = getenv("PERDURE_DEADLY");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p =
        mmap(NULL, PLACES * sizeof(struct death_order), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    orders = p == MAP_FAILED ? NULL : p;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static void pass(int place, int is_marked) {
    struct death_order *o = orders ? &orders[place] : NULL;
    if (!o || o->times == 0 || !(is_marked || o->any) || seen[place]++ < o->skip)
        return;
    o->deaths++;
    o->times--;
    if (o->way == ABORT)
        abort();
    if (o->way == EXIT)
        _exit(7);
    for (;;)
        pause();
}

static int is_mark(const struct engine_run *e, struct request_h h) {
    const struct request *q = request_view(e->a, h);
    return q->op == REQUEST_CACHE && q->offset_bytes == MARK_OFFSET &&
           q->length_bytes == MARK_BYTES;
}

struct nbd_step __real_nbd_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                 size_t bytes);
struct nbd_step __wrap_nbd_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                 size_t bytes);
struct nbd_step __wrap_nbd_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                 size_t bytes) {
    if (bytes >= 28 && (get_be32(p) == NBD_COMPACT || get_be32(p) == NBD_EXTENDED))
        pass(PARSE, get_be16(p + 6) == NBD_TYPE_CACHE && get_be64(p + 16) == MARK_OFFSET);
    return __real_nbd_input(env, n, p, bytes);
}

void __real_engine_submit(struct engine_run *e, struct request_h h);
void __wrap_engine_submit(struct engine_run *e, struct request_h h);
void __wrap_engine_submit(struct engine_run *e, struct request_h h) {
    pass(SUBMIT, is_mark(e, h));
    __real_engine_submit(e, h);
}

void __real_read_begin(struct work *w);
void __wrap_read_begin(struct work *w);
void __wrap_read_begin(struct work *w) {
    pass(WORK, is_mark(w->e, w->h));
    __real_read_begin(w);
}

int __real_engine_attach(struct engine_run *e);
int __wrap_engine_attach(struct engine_run *e);
int __wrap_engine_attach(struct engine_run *e) {
    pass(ATTACH, 1);
    return __real_engine_attach(e);
}
