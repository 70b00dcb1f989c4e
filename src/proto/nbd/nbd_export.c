/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one export that a connection has open. INFO, SET_META_CONTEXT and GO usually name the same
 * one: it is opened by the first and kept for the next, so that `volume@-10min` is one moment for
 * all of them. Another name closes it.
 *
 *   NONE --asked, async--> ASKED --nbd_export_ready--> YES | FAILED
 *   NONE --asked---------> YES | FAILED
 *   FAILED --the option is answered--> NONE
 *   YES --another name, nbd_end--> NONE
 */
#include <string.h>

#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

static void take_export(struct nbd *s, const struct nbd_export *x) {
    must(x->volume.v != 0);
    must(x->block_min > 0 && (x->block_min & (x->block_min - 1)) == 0 && x->block_min <= 64 * KIB);
    must((x->block_preferred & (x->block_preferred - 1)) == 0 &&
         x->block_preferred >= x->block_min && x->block_preferred >= SECTOR_BYTES &&
         x->block_preferred <= NBD_PAYLOAD_MAX);
    s->open = NBD_OPEN_YES;
    s->volume = x->volume;
    s->size_bytes = x->size_bytes;
    s->block_min = x->block_min;
    s->block_preferred = x->block_preferred;
    s->read_only = x->read_only;
}

static void take_result(struct nbd *s, int result, const struct nbd_export *x) {
    if (result == OK) {
        take_export(s, x);
        return;
    }
    s->open = result == ERR_AGAIN ? NBD_OPEN_ASKED : NBD_OPEN_FAILED;
    s->open_error = result;
}

int nbd_export_get(struct nbd_env *env, struct nbd_h n, const uint8_t *name, uint32_t name_bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    if (name_bytes > NBD_EXPORT_NAME_MAX)
        return ERR_NOTFOUND;
    int same = s->name_bytes == name_bytes && memcmp(s->name, name, name_bytes) == 0;
    if (s->open == NBD_OPEN_NONE || !same) {
        must(s->open == NBD_OPEN_NONE || s->open == NBD_OPEN_YES);
        struct nbd *e = nbd_edit(env->a, n);
        if (e->open == NBD_OPEN_YES) {
            struct volume_h volume = e->volume;
            e->volume = (struct volume_h){0};
            e->open = NBD_OPEN_NONE;
            env->ops->export_close(env->ctx, n, volume);
        }
        memcpy(e->name, name, name_bytes);
        e->name_bytes = (uint16_t)name_bytes;
        struct nbd_export x;
        memset(&x, 0, sizeof x);
        int result = env->ops->export_open(env->ctx, n, name, name_bytes, &x);
        take_result(e, result, &x);
    }
    if (s->open == NBD_OPEN_ASKED)
        return ERR_AGAIN;
    return s->open == NBD_OPEN_FAILED ? s->open_error : OK;
}

void nbd_export_forget_failure(struct nbd_env *env, struct nbd_h n) {
    if (nbd_view(env->a, n)->open == NBD_OPEN_FAILED)
        nbd_edit(env->a, n)->open = NBD_OPEN_NONE;
}

int nbd_export_ready(struct nbd_env *env, struct nbd_h n, int result,
                     const struct nbd_export *export) {
    const struct nbd *s = nbd_try(env->a, n);
    if (!s || s->open != NBD_OPEN_ASKED || s->slot.state != NBD_PHASE_OPTIONS)
        return ERR_CHANGED;
    struct nbd *e = nbd_edit(env->a, n);
    if (result == ERR_AGAIN)
        e->open = NBD_OPEN_NONE;
    else
        take_result(e, result, export);
    return OK;
}
