/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmission, the server's side: one chunk answers a request, always with NBD_REPLY_FLAG_DONE. All
 * data is there before the first byte of a reply is sent, so a READ has either all its data in one
 * chunk or an error, and may never be fragmented.
 *
 *                 simple          structured               extended
 *   READ          16 + data       OFFSET_DATA 28 + data    OFFSET_DATA 40 + data
 *   BLOCK_STATUS  -               BLOCK_STATUS 24 + data   BLOCK_STATUS_EXT 40 + data
 *   others        16              16 (a simple reply)      NONE 32
 *   error         16              ERROR 26 + text          ERROR 38 + text
 */
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

#define DESCRIPTOR_BYTES 8u
#define EXTENDED_DESCRIPTOR_BYTES 16u

_Static_assert(sizeof(struct request_status_extent) == EXTENDED_DESCRIPTOR_BYTES,
               "encoded in place");

static uint32_t put_simple(uint8_t *p, uint64_t cookie, uint32_t error) {
    put_be32(p, NBD_SIMPLE_REPLY_MAGIC);
    put_be32(p + 4, error);
    put_be64(p + 8, cookie);
    return NBD_SIMPLE_REPLY_BYTES;
}

/* The header of the one chunk of a reply; returns its bytes. */
static uint32_t put_chunk(uint8_t *p, enum nbd_mode mode, uint16_t type, uint64_t cookie,
                          uint64_t offset, uint64_t length) {
    int extended = mode == NBD_MODE_EXTENDED;
    put_be32(p, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    put_be16(p + 4, NBD_REPLY_FLAG_DONE);
    put_be16(p + 6, type);
    put_be64(p + 8, cookie);
    if (!extended) {
        put_be32(p + 16, (uint32_t)length);
        return NBD_STRUCTURED_REPLY_HEADER_BYTES;
    }
    put_be64(p + 16, offset);
    put_be64(p + 24, length);
    return NBD_EXTENDED_REPLY_HEADER_BYTES;
}

uint32_t nbd_put_error(uint8_t *p, enum nbd_mode mode, uint64_t cookie, uint64_t offset,
                       uint32_t op, int err) {
    uint32_t error = nbd_error(err, nbd_op_command(op), nbd_op_flags(op));
    must(error != 0);
    if (mode == NBD_MODE_SIMPLE)
        return put_simple(p, cookie, error);
    uint32_t header = mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REPLY_HEADER_BYTES
                                                : NBD_STRUCTURED_REPLY_HEADER_BYTES;
    const char *text = err_text(err);
    if (header + 6 + strlen(text) > REQUEST_HEAD_BYTES)
        text = err_word(err);
    uint32_t len = (uint32_t)strlen(text);
    must(header + 6 + len <= REQUEST_HEAD_BYTES);
    put_chunk(p, mode, NBD_REPLY_TYPE_ERROR, cookie, offset, 6 + len);
    put_be32(p + header, error);
    put_be16(p + header + 4, (uint16_t)len);
    memcpy(p + header + 6, text, len);
    return header + 6 + len;
}

static void put_descriptor(const struct nbd_env *env, const struct request *r, enum nbd_mode mode,
                           uint32_t index, uint64_t length, uint32_t flags) {
    uint64_t run;
    if (mode == NBD_MODE_EXTENDED) {
        uint8_t *p =
            request_data_at(env->buffers, r, (uint64_t)index * EXTENDED_DESCRIPTOR_BYTES, &run);
        put_be64(p, length);
        put_be32(p + 8, 0);
        put_be32(p + 12, flags);
        return;
    }
    uint8_t *p = request_data_at(env->buffers, r, (uint64_t)index * DESCRIPTOR_BYTES, &run);
    put_be32(p, (uint32_t)length);
    put_be32(p + 4, flags);
}

/* Turns the extents of the engine into descriptors, in place: a descriptor is written only when the
 * extents at its place have been read. Neighbours of the same status become one; what lies behind
 * the requested length is cut off. Returns the descriptors. */
static uint32_t encode_status(const struct nbd_env *env, const struct request *r,
                              enum nbd_mode mode) {
    uint32_t extents = r->reply_data_bytes / (uint32_t)sizeof(struct request_status_extent);
    uint32_t count = 0, flags = 0;
    uint64_t length = 0, left = r->length_bytes;
    must(extents > 0 && r->data_start == 0);
    for (uint32_t i = 0; i < extents && left > 0; i++) {
        struct request_status_extent x;
        uint64_t run;
        memcpy(&x, request_data_at(env->buffers, r, i * sizeof x, &run), sizeof x);
        must(x.length_bytes > 0);
        uint32_t status = (x.status & REQUEST_STATUS_HOLE ? NBD_STATE_HOLE : 0) |
                          (x.status & REQUEST_STATUS_ZERO ? NBD_STATE_ZERO : 0);
        uint64_t taken = min_u64(x.length_bytes, left);
        if (length > 0 && status != flags) {
            put_descriptor(env, r, mode, count++, length, flags);
            length = 0;
            if (r->flags & REQUEST_STATUS_ONE)
                break;
        }
        flags = status;
        length += taken;
        left -= taken;
    }
    if (length > 0)
        put_descriptor(env, r, mode, count++, length, flags);
    return count;
}

static void reply_status(const struct nbd_env *env, struct request *r, enum nbd_mode mode) {
    uint32_t count = encode_status(env, r, mode);
    uint8_t *p = r->head;
    if (mode == NBD_MODE_EXTENDED) {
        r->reply_data_bytes = count * EXTENDED_DESCRIPTOR_BYTES;
        p += put_chunk(p, mode, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, r->cookie, r->offset_bytes,
                       8 + (uint64_t)r->reply_data_bytes);
        put_be32(p, NBD_ALLOCATION_ID);
        put_be32(p + 4, count);
        p += 8;
    } else {
        r->reply_data_bytes = count * DESCRIPTOR_BYTES;
        p += put_chunk(p, mode, NBD_REPLY_TYPE_BLOCK_STATUS, r->cookie, r->offset_bytes,
                       4 + (uint64_t)r->reply_data_bytes);
        put_be32(p, NBD_ALLOCATION_ID);
        p += 4;
    }
    r->head_bytes = (uint32_t)(p - r->head);
}

static void reply_read(struct request *r, enum nbd_mode mode) {
    r->reply_data_bytes = (uint32_t)r->length_bytes;
    if (mode == NBD_MODE_SIMPLE) {
        r->head_bytes = put_simple(r->head, r->cookie, 0);
        return;
    }
    uint32_t header = put_chunk(r->head, mode, NBD_REPLY_TYPE_OFFSET_DATA, r->cookie,
                                r->offset_bytes, 8 + r->length_bytes);
    put_be64(r->head + header, r->offset_bytes);
    r->head_bytes = header + 8;
}

void nbd_reply(struct nbd_env *env, struct nbd_h n, struct request_h h) {
    enum nbd_mode mode = nbd_view(env->a, n)->mode;
    struct request *r = request_edit(env->a, h);
    must(r->slot.state == REQUEST_DONE && r->op != REQUEST_MESSAGE);
    if (r->error != OK) {
        r->head_bytes =
            nbd_put_error(r->head, mode, r->cookie, r->offset_bytes, r->source_op, r->error);
        r->reply_data_bytes = 0;
        return;
    }
    switch (r->op) {
    case REQUEST_READ:
        reply_read(r, mode);
        return;
    case REQUEST_BLOCK_STATUS:
        reply_status(env, r, mode);
        return;
    default:
        r->reply_data_bytes = 0;
        r->head_bytes = mode == NBD_MODE_EXTENDED ? put_chunk(r->head, mode, NBD_REPLY_TYPE_NONE,
                                                              r->cookie, r->offset_bytes, 0)
                                                  : put_simple(r->head, r->cookie, 0);
    }
}
