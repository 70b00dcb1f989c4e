/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD front end: joins the protocol's state machine to the reactor's connections, to the volumes, and
 * through the control plane to the engine. */
#ifndef SERVER_NBD_FRONT_H
#define SERVER_NBD_FRONT_H

#include "engine/slots.h"
#include "plat/control_plane.h"
#include "plat/io_source.h"
#include "proto/nbd/nbd.h"
#include "server/reactor.h"

/* Exports that are not simply volumes: moments, opened on demand. */
struct nbd_front_exports {
    /* 0 and *volume; ERR_AGAIN: nbd_front_opened() tells later; or an error. */
    int (*open_moment)(void *ctx, struct nbd_h n, const char *name, struct volume_h *volume);
    /* What was asked for is not wanted any more. */
    void (*cancel)(void *ctx, struct nbd_h n);
    /* The last user of a volume has gone: an image on demand is closed. */
    void (*unused)(void *ctx, struct volume_h volume);
    /* As nbd_env_ops.moment; ERR_AGAIN: nbd_front_moment_ready() tells later. */
    int (*since)(void *ctx, struct nbd_h n, struct volume_h volume, const char *text, size_t bytes,
                 struct nbd_moment *out);
    void *ctx;
};

struct nbd_front {
    struct reactor *r;
    struct nbd_env env;
    struct protocol protocol;
    struct control_plane cp;
    int connection; /* to the engine's group */
    const struct nbd_front_exports *exports;
    struct io_source source;
    enum nbd_tls_policy tls;
    /* Requests that found no place in the engine's queue, oldest first. */
    struct request_h *waiting;
    uint32_t waiting_count, waiting_room;
    uint64_t next_expiry_ns;
};

/* "VOLUME", "VOLUME.IMAGE", or "VOLUME@SEQUENCE" of an image on demand; as snprintf. */
int volume_export_name(const struct arena *a, const struct volume *v, char *out, size_t room);

int nbd_front_open(struct nbd_front *f, struct reactor *r, struct control_plane cp,
                   const struct nbd_front_exports *exports);
/* At attach: the slots of the protocol are checked; connections that wait for an export or a moment ask again. */
int nbd_front_attach(struct nbd_front *f);
void nbd_front_opened(struct nbd_front *f, struct nbd_h n, int result, struct volume_h volume);
/* The moment that a connection waits for is known; it may have gone. */
void nbd_front_moment_ready(struct nbd_front *f, struct nbd_h n);

/* Closes connections whose handshake takes too long; returns when to call again. */
uint64_t nbd_front_expire(struct nbd_front *f, uint64_t now_ns);

#endif
