/* SPDX-License-Identifier: Apache-2.0 */
/*
 * perdured_points: perdured whose every store into the arena is a point at which it can be told to die.
 *
 * The server's sources are compiled with -fsanitize=thread, so the compiler calls a function before every
 * store; here are these functions, in the place of the sanitizer's own. memcpy and memset are wrapped, and
 * have a point in their middle too. What they find to lie in the arena counts as a hit of a *site*, the
 * place in the program that stores. String functions of the C library and the kernel store without a
 * point.
 *
 * Orders and counts lie in the file that PERDURE_POINTS names, which all engines map; without it nothing is
 * counted. They are kept by what the engine does: it attaches, it serves (from the store on that says so in
 * the arena's header), or it starts with a new arena. All numbers are 64 bits, little endian:
 *
 *   offset 0     orders for engines that attach, serve, start
 *          192   engines that died so, attaching, serving, starting; stores that the last attach took
 *          4096  sites, a hash table: address in the program (0: free), hits (3), deaths (3), reserved
 *
 *   order  +0   times to die; 0: none
 *          +8   hits left until then
 *          +16  what counts: 0 any store, 1 a store at a site where nobody has died in this state,
 *               else the address of a site
 *          +24  hits left, and what counts, after the next death
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "arena/header.h"
#include "plat/linux/linux.h"

#define SITES 16384u
#define ARENA_SPAN (UINT64_C(64) << 30) /* below what the system maps by itself */

enum { ATTACHING, SERVING, STARTING, STATES };
enum { ANY_STORE = 0, NEW_SITE = 1 };

struct order {
    uint64_t times, left, what, left_then, what_then, reserved[3];
};
struct site {
    uint64_t address, hits[STATES], deaths[STATES], reserved;
};
struct points {
    struct order orders[STATES];
    uint64_t deaths[STATES], attach_stores, reserved[484];
    struct site sites[SITES];
};
_Static_assert(offsetof(struct points, deaths) == 192, "points_test.py");
_Static_assert(offsetof(struct points, sites) == 4096, "points_test.py");
_Static_assert(sizeof(struct site) == 64, "points_test.py");

extern const char __ehdr_start[];
void *__real_memcpy(void *to, const void *from, size_t bytes);
void *__real_memset(void *to, int c, size_t bytes);

static struct points *points;
static const volatile uint32_t *const phase =
    (const void *)(MEMORY_ADDRESS + ARENA_LIVE_OFFSET + offsetof(struct arena_live, phase));
static int state = ATTACHING;
static uint64_t stores;

__attribute__((constructor)) static void map_points(void) {
    const char *path = getenv("PERDURE_POINTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *points, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    points = p == MAP_FAILED ? NULL : p;
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static struct site *site_of(uint64_t address) {
    uint64_t i = address * UINT64_C(0x9e3779b97f4a7c15) >> 40;
    for (uint64_t tries = 0; tries < SITES; tries++, i++) {
        struct site *s = &points->sites[i % SITES];
        if (s->address == 0)
            s->address = address;
        if (s->address == address)
            return s;
    }
    abort();
}

/* A store into memory at p comes next; who makes it returns to `from`. */
static void point(const volatile void *p, const void *from) {
    if (!points || (uint64_t)(uintptr_t)p - MEMORY_ADDRESS >= ARENA_SPAN)
        return;
    if (state == ATTACHING && *phase == ARENA_EMPTY)
        state = STARTING;
    struct site *s = site_of((uint64_t)((const char *)from - __ehdr_start));
    struct order *o = &points->orders[state];
    s->hits[state]++;
    stores++;
    if (o->times == 0 || !(o->what == ANY_STORE || o->what == s->address ||
                           (o->what == NEW_SITE && s->deaths[state] == 0)))
        return;
    if (--o->left > 0)
        return;
    o->left = o->left_then;
    o->what = o->what_then;
    s->deaths[state]++;
    points->deaths[state]++;
    atomic_signal_fence(memory_order_seq_cst);
    o->times--;
    abort();
}

#define HERE __builtin_return_address(0)

/* An engine serves when it has said so. */
static void stored(const volatile void *p, uint64_t value) {
    if (!points || p != phase || value != ARENA_SERVING || state == SERVING)
        return;
    if (state == ATTACHING)
        points->attach_stores = stores;
    state = SERVING;
}

#define PLAIN(bytes)                                                                               \
    void __tsan_read##bytes(const void *p);                                                        \
    void __tsan_read##bytes(const void *p) {                                                       \
    }                                                                                              \
    void __tsan_unaligned_read##bytes(const void *p);                                              \
    void __tsan_unaligned_read##bytes(const void *p) {                                             \
    }                                                                                              \
    void __tsan_write##bytes(void *p);                                                             \
    void __tsan_write##bytes(void *p) {                                                            \
        point(p, HERE);                                                                            \
    }                                                                                              \
    void __tsan_unaligned_write##bytes(void *p);                                                   \
    void __tsan_unaligned_write##bytes(void *p) {                                                  \
        point(p, HERE);                                                                            \
    }                                                                                              \
    void __tsan_read_write##bytes(void *p);                                                        \
    void __tsan_read_write##bytes(void *p) {                                                       \
        point(p, HERE);                                                                            \
    }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define NOTHING(name, ...)                                                                         \
    void name(__VA_ARGS__);                                                                        \
    void name(__VA_ARGS__) {                                                                       \
    }
NOTHING(__tsan_init, void)
NOTHING(__tsan_func_entry, void *p)
NOTHING(__tsan_func_exit, void)
NOTHING(__tsan_read_range, void *p, unsigned long bytes)

void __tsan_write_range(void *p, unsigned long bytes);
void __tsan_write_range(void *p, unsigned long bytes) {
    point(p, HERE);
}

#define FETCH(bits, name)                                                                          \
    uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile uint##bits##_t *p,                  \
                                                      uint##bits##_t v, int order);                \
    uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile uint##bits##_t *p,                  \
                                                      uint##bits##_t v, int order) {               \
        point(p, HERE);                                                                            \
        return __atomic_fetch_##name(p, v, __ATOMIC_SEQ_CST);                                      \
    }

#define ATOMIC(bits)                                                                               \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order);        \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order) {       \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order);     \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order) {    \
        point(p, HERE);                                                                            \
        __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                  \
        stored(p, v);                                                                              \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *p, uint##bits##_t v,    \
                                                  int order);                                      \
    uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *p, uint##bits##_t v,    \
                                                  int order) {                                     \
        point(p, HERE);                                                                            \
        return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                        \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(                                             \
        volatile uint##bits##_t *p, uint##bits##_t *was, uint##bits##_t v, int order, int failed); \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile uint##bits##_t *p,                  \
                                                      uint##bits##_t *was, uint##bits##_t v,       \
                                                      int order, int failed) {                     \
        point(p, HERE);                                                                            \
        return __atomic_compare_exchange_n(p, was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);      \
    }                                                                                              \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        volatile uint##bits##_t *p, uint##bits##_t was, uint##bits##_t v, int order, int failed);  \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                     \
        volatile uint##bits##_t *p, uint##bits##_t was, uint##bits##_t v, int order, int failed) { \
        point(p, HERE);                                                                            \
        __atomic_compare_exchange_n(p, &was, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);            \
        return was;                                                                                \
    }                                                                                              \
    FETCH(bits, add)                                                                               \
    FETCH(bits, sub)                                                                               \
    FETCH(bits, and)                                                                               \
    FETCH(bits, or)                                                                                \
    FETCH(bits, xor)
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void *__wrap_memcpy(void *to, const void *from, size_t bytes);
void *__wrap_memcpy(void *to, const void *from, size_t bytes) {
    size_t half = bytes / 2;
    if (bytes > 0) {
        point(to, HERE);
        __real_memcpy(to, from, half);
        point(to, HERE);
        __real_memcpy((char *)to + half, (const char *)from + half, bytes - half);
    }
    return to;
}

void *__wrap_memset(void *to, int c, size_t bytes);
void *__wrap_memset(void *to, int c, size_t bytes) {
    size_t half = bytes / 2;
    if (bytes > 0) {
        point(to, HERE);
        __real_memset(to, c, half);
        point(to, HERE);
        __real_memset((char *)to + half, c, bytes - half);
    }
    return to;
}
