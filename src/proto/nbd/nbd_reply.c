/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmission, the server's side: one chunk answers a request, with NBD_REPLY_FLAG_DONE; a BLOCK_STATUS
 * one for each context, the last with it. All data is there before the first byte of a reply is sent, so a
 * READ has either all its data in one chunk or an error, and may never be fragmented.
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

/* The header of a chunk; returns its bytes. */
static uint32_t put_chunk_of(uint8_t *p, enum nbd_mode mode, uint16_t flags, uint16_t type,
                             uint64_t cookie, uint64_t offset, uint64_t length) {
    int extended = mode == NBD_MODE_EXTENDED;
    put_be32(p, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    put_be16(p + 4, flags);
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

static uint32_t put_chunk(uint8_t *p, enum nbd_mode mode, uint16_t type, uint64_t cookie,
                          uint64_t offset, uint64_t length) {
    return put_chunk_of(p, mode, NBD_REPLY_FLAG_DONE, type, cookie, offset, length);
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

/* A section of a block status: where it begins in the data, and what its extents tell. */
struct section {
    enum nbd_context context;
    uint64_t start;
};

static void put_descriptor(const struct nbd_env *env, const struct request *r, enum nbd_mode mode,
                           const struct section *s, uint32_t index, uint64_t length,
                           uint64_t flags) {
    uint64_t run;
    if (mode == NBD_MODE_EXTENDED) {
        uint8_t *p = request_data_at(env->buffers, r,
                                     s->start + (uint64_t)index * EXTENDED_DESCRIPTOR_BYTES, &run);
        put_be64(p, length);
        put_be64(p + 8, flags);
        return;
    }
    uint8_t *p =
        request_data_at(env->buffers, r, s->start + (uint64_t)index * DESCRIPTOR_BYTES, &run);
    put_be32(p, (uint32_t)length);
    put_be32(p + 4, (uint32_t)flags);
}

static uint64_t flags_of(const struct section *s, uint64_t status) {
    if (s->context != NBD_CONTEXT_ALLOCATION)
        return status;
    return (status & REQUEST_STATUS_HOLE ? NBD_STATE_HOLE : 0) |
           (status & REQUEST_STATUS_ZERO ? NBD_STATE_ZERO : 0);
}

/* Turns the extents of the engine into descriptors, in place: a descriptor is written only when the
 * extents at its place have been read. Neighbours of the same status become one; what lies behind
 * the requested length is cut off. Returns the descriptors. */
static uint32_t encode_section(const struct nbd_env *env, const struct request *r,
                               enum nbd_mode mode, const struct section *s) {
    uint64_t end = s->start + (uint64_t)request_status_extents(r) * EXTENDED_DESCRIPTOR_BYTES;
    uint32_t count = 0;
    uint64_t length = 0, flags = 0, left = r->length_bytes;
    end = min_u64(end, r->reply_data_bytes);
    for (uint64_t at = s->start; at < end && left > 0; at += EXTENDED_DESCRIPTOR_BYTES) {
        struct request_status_extent x;
        uint64_t run;
        memcpy(&x, request_data_at(env->buffers, r, at, &run), sizeof x);
        if (x.length_bytes == 0)
            break;
        uint64_t status = flags_of(s, x.status);
        uint64_t taken = min_u64(x.length_bytes, left);
        if (length > 0 && status != flags) {
            put_descriptor(env, r, mode, s, count++, length, flags);
            length = 0;
            if (r->flags & REQUEST_STATUS_ONE)
                break;
        }
        flags = status;
        length += taken;
        left -= taken;
    }
    must(count > 0 || length > 0);
    if (length > 0)
        put_descriptor(env, r, mode, s, count++, length, flags);
    return count;
}

/* The chunk's bytes before its descriptors, a multiple of 8. */
static uint32_t put_status_header(uint8_t *p, const struct request *r, enum nbd_mode mode,
                                  const struct section *s, uint32_t count, int is_last) {
    uint16_t done = is_last ? NBD_REPLY_FLAG_DONE : 0;
    uint32_t used;
    if (mode == NBD_MODE_EXTENDED) {
        used = put_chunk_of(p, mode, done, NBD_REPLY_TYPE_BLOCK_STATUS_EXT, r->cookie,
                            r->offset_bytes, 8 + (uint64_t)count * EXTENDED_DESCRIPTOR_BYTES);
        put_be32(p + used + 4, count);
    } else {
        used = put_chunk_of(p, mode, done, NBD_REPLY_TYPE_BLOCK_STATUS, r->cookie, r->offset_bytes,
                            4 + (uint64_t)count * DESCRIPTOR_BYTES);
    }
    put_be32(p + used, nbd_context_id(s->context));
    return used + (mode == NBD_MODE_EXTENDED ? 8 : 4);
}

/* Puts 8 bytes of the reply's data at `at`, which is a multiple of 8. */
static void put_word(const struct nbd_env *env, const struct request *r, uint64_t at,
                     const uint8_t *word) {
    uint64_t run;
    memmove(request_data_at(env->buffers, r, at, &run), word, 8);
}

/* Each section is encoded where it lies, then comes down behind the one before: the engine has left room for
 * its header there. */
static void reply_status(const struct nbd_env *env, struct request *r, enum nbd_mode mode) {
    uint64_t used = 0, run, descriptor = mode == NBD_MODE_EXTENDED ? 16 : 8;
    uint32_t sections = request_status_sections(r->flags), nth = 0;
    must(r->data_start == 0);
    for (int c = 0; c < NBD_CONTEXTS; c++) {
        if (!request_status_has(r->flags, (enum request_status_kind)c))
            continue;
        struct section s = {(enum nbd_context)c, nth * request_status_section_bytes(r)};
        uint32_t count = encode_section(env, r, mode, &s);
        uint8_t header[REQUEST_HEAD_BYTES];
        uint32_t bytes = put_status_header(header, r, mode, &s, count, ++nth == sections);
        if (nth == 1) {
            memcpy(r->head, header, bytes);
            r->head_bytes = bytes;
            used = count * descriptor;
            continue;
        }
        must(bytes % 8 == 0 && used + bytes <= s.start);
        for (uint32_t at = 0; at < bytes; at += 8, used += 8)
            put_word(env, r, used, header + at);
        for (uint64_t at = 0; at < count * descriptor; at += 8, used += 8)
            put_word(env, r, used, request_data_at(env->buffers, r, s.start + at, &run));
    }
    r->reply_data_bytes = (uint32_t)used;
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
