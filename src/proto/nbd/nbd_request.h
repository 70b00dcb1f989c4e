/* SPDX-License-Identifier: Apache-2.0 */
/* A request as it came over the wire, and what is said of it before anything is done. */
#ifndef PROTO_NBD_NBD_REQUEST_H
#define PROTO_NBD_NBD_REQUEST_H

#include <stdint.h>

#include "proto/nbd/nbd_slots.h"

struct nbd_request {
    uint16_t flags;
    uint16_t command;
    uint64_t cookie;
    uint64_t offset;
    uint64_t length;  /* of the effect */
    uint64_t payload; /* bytes that follow the header */
    /* BLOCK_STATUS with payload: the contexts that it names, as bits; 0: it has not the size of a payload, or
     * names others, or one of them twice. */
    uint8_t filter;
};

/* All wire checks of a request, in the order in which they are made; s is in TRANSMISSION. 0: it may
 * be done. ERR_PROTO: it cannot even be answered. Otherwise the error of the answer; the payload is
 * to be dropped before. */
int nbd_check_request(const struct nbd *s, const struct nbd_request *q);

#endif
