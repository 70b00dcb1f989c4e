/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes from a client: no invariant breaks, no turn changes what it did not open, and the
 * connection can always be ended.
 *
 *   0   1  bit 0: the arena is attached anew after each turn; 1: each turn is undone once;
 *          2: requests end last first; 3: the engine holds requests until all bytes are there
 *   1   1  the bytes come in parts of this size + 1
 *   2      what the client sends after the greeting
 */
#include "proto/nbd/nbd_world_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    struct world *w = malloc(sizeof *w);
    must(w != NULL);
    world_start(w, 256 * KIB);
    w->reload_turns = data[0] & 1;
    w->undo_turns = data[0] >> 1 & 1;
    w->reverse = data[0] >> 2 & 1;
    w->hold_engine = data[0] >> 3 & 1;
    size_t part = (size_t)data[1] + 1;
    for (size_t at = 2; at < size; at += part)
        world_feed(w, data + at, min_u64(part, size - at));
    w->hold_engine = 0;
    world_run(w);
    /* What is done has been answered: only a WRITE that is coming in is left. */
    must(request_used(&w->a) == (nbd_view(&w->a, w->n)->receiving.v != 0));
    world_stop(w);
    free(w);
    return 0;
}
