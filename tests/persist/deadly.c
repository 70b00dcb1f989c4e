/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a program of libperdure-persist: each engine dies by SIGKILL at one of its calls, before it or after
 * it, so also in the middle of turns. PERDURE_DEADLY: after at most so many calls.
 */
#include <dlfcn.h>
#include <perdure/persist.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static long calls;

static void count(void) {
    const char *most = getenv("PERDURE_DEADLY");
    if (calls == 0) {
        srand((unsigned)getpid());
        calls = atol(most ? most : "1000") / 2;
        calls += 1 + rand() % calls;
    }
    if (--calls == 0)
        kill(getpid(), SIGKILL);
}

#define DEADLY(type, name, parameters, arguments)                                                  \
    type name parameters {                                                                         \
        union {                                                                                    \
            void *found;                                                                           \
            type(*call) parameters;                                                                \
        } real = {.found = dlsym(RTLD_NEXT, #name)};                                               \
        count();                                                                                   \
        type result = real.call arguments;                                                         \
        count();                                                                                   \
        return result;                                                                             \
    }

DEADLY(int64_t, perdure_receive, (struct perdure * p, uint32_t h), (p, h))
DEADLY(int, perdure_send, (struct perdure * p, uint32_t h), (p, h))
DEADLY(int, perdure_take, (struct perdure * p, uint32_t h, size_t n), (p, h, n))
DEADLY(int, perdure_put, (struct perdure * p, uint32_t h, const void *from, size_t n),
       (p, h, from, n))
DEADLY(void *, perdure_alloc, (struct perdure * p, size_t n), (p, n))
DEADLY(int, perdure_free, (struct perdure * p, void *block), (p, block))
DEADLY(int, perdure_accept, (struct perdure * p, uint32_t l, uint32_t *h), (p, l, h))
