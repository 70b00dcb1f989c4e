/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transmission, the client's side: a header is decoded, checked by nbd_check_request, and becomes an
 * MD packet. READ and WRITE get buffers in which the first byte lies as far from a page's start as
 * it does in the export, so that blocks lie on pages.
 *
 * The payload of a BLOCK_STATUS (extended headers only) is part of the message:
 *   0   8  length of the effect
 *   8   4  context, each
 */
#include "proto/nbd/nbd_request.h"

#include "base/bytes.h"
#include "base/err.h"
#include "proto/nbd/nbd_priv.h"

#define FILTER_BYTES_MIN 12u
#define FILTER_BYTES_MAX (8u + 4u * NBD_CONTEXTS)

/* What the protocol says of each command. */
struct command {
    uint8_t op;     /* enum request_op; 0: none is made */
    uint8_t writes; /* refused on a read-only export */
    uint8_t ranged; /* offset and length are a range of the export; else both are zero */
    uint8_t data;   /* the range's bytes travel */
    uint16_t flags; /* that are documented for it, beside FUA */
};
static const struct command commands[] = {
    [NBD_CMD_READ] = {REQUEST_READ, 0, 1, 1, NBD_CMD_FLAG_DF},
    [NBD_CMD_WRITE] = {REQUEST_WRITE, 1, 1, 1, NBD_CMD_FLAG_PAYLOAD_LEN},
    [NBD_CMD_DISC] = {0, 0, 0, 0, 0},
    [NBD_CMD_FLUSH] = {REQUEST_FLUSH, 0, 0, 0, 0},
    [NBD_CMD_TRIM] = {REQUEST_TRIM, 1, 1, 0, 0},
    [NBD_CMD_CACHE] = {REQUEST_CACHE, 0, 1, 0, 0},
    [NBD_CMD_WRITE_ZEROES] = {REQUEST_ZERO, 1, 1, 0, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO},
    [NBD_CMD_BLOCK_STATUS] = {REQUEST_BLOCK_STATUS, 0, 1, 0,
                              NBD_CMD_FLAG_REQ_ONE | NBD_CMD_FLAG_PAYLOAD_LEN},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

int nbd_check_request(const struct nbd *s, const struct nbd_request *q) {
    int extended = s->mode == NBD_MODE_EXTENDED;

    /* "A server SHOULD initiate hard disconnect if a client sets PAYLOAD_LEN and uses a length
     * larger than the maximum payload length"; without extended headers it may, and does where
     * reading the payload would take long. */
    if (q->payload > (extended ? NBD_PAYLOAD_MAX : NBD_SKIP_MAX))
        return ERR_PROTO;

    /* "SHOULD return EINVAL if it receives an unknown command", "an unknown command flag" and "a
     * flag not explicitly documented as applicable to the given request". FUA is for all; it means
     * nothing where nothing is written. DF came with structured replies. */
    if (q->command >= COMMANDS || commands[q->command].op == 0)
        return ERR_INVAL;
    const struct command *c = &commands[q->command];
    if (q->flags & ~(c->flags | NBD_CMD_FLAG_FUA))
        return ERR_INVAL;
    if ((q->flags & NBD_CMD_FLAG_DF) && s->mode == NBD_MODE_SIMPLE)
        return ERR_INVAL;
    if ((q->flags & NBD_CMD_FLAG_PAYLOAD_LEN) && !extended)
        return ERR_INVAL;

    /* "With extended headers, the flag MUST be set for NBD_CMD_WRITE." */
    if (extended && q->command == NBD_CMD_WRITE && !(q->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        return ERR_INVAL;

    /* "It SHOULD return EPERM if it receives a write or trim request on a read-only export." */
    if (c->writes && s->read_only)
        return ERR_READONLY;

    /* FLUSH: "length and offset are reserved, and MUST be set to all-zero". */
    if (!c->ranged)
        return q->offset || q->length ? ERR_INVAL : OK;

    /* "EINVAL to clients sending BLOCK_STATUS without selecting at least one metadata context";
     * "duplicate or unknown metacontext ids in the payload". */
    if (q->command == NBD_CMD_BLOCK_STATUS &&
        (!s->meta_contexts || ((q->flags & NBD_CMD_FLAG_PAYLOAD_LEN) &&
                               (!q->filter || (q->filter & ~s->meta_contexts)))))
        return ERR_INVAL;

    /* A length of 0 "is unspecified"; nobody can mean it. */
    if (q->length == 0)
        return ERR_INVAL;
    if (q->offset > s->size_bytes || q->length > s->size_bytes - q->offset)
        return ERR_RANGE;
    if ((q->offset | q->length) & (s->block_min - 1))
        return ERR_INVAL;
    if (c->data && q->length > NBD_PAYLOAD_MAX)
        return ERR_TOOBIG;
    return OK;
}

static size_t header_bytes(const struct nbd *s) {
    return s->mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_HEADER_BYTES
                                        : NBD_REQUEST_HEADER_BYTES;
}

static uint8_t decode_filter(const uint8_t *p, size_t count) {
    uint8_t filter = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t context = get_be32(p + 4 * i) - NBD_ALLOCATION_ID;
        if (context >= NBD_CONTEXTS || (filter & 1 << context))
            return 0;
        filter |= (uint8_t)(1 << context);
    }
    return filter;
}

/* Decodes the header, which is there, and the payload of a BLOCK_STATUS that has the size of a valid
 * one, if it is there. Returns the bytes of the message. */
static size_t decode_request(const struct nbd *s, const uint8_t *p, size_t bytes,
                             struct nbd_request *q) {
    int extended = s->mode == NBD_MODE_EXTENDED;
    size_t header = header_bytes(s);
    *q = (struct nbd_request){.flags = get_be16(p + 4),
                              .command = get_be16(p + 6),
                              .cookie = get_be64(p + 8),
                              .offset = get_be64(p + 16)};
    if (!extended) {
        q->length = get_be32(p + 24);
        q->payload = q->command == NBD_CMD_WRITE ? q->length : 0;
        return header;
    }
    q->length = get_be64(p + 24);
    if (!(q->flags & NBD_CMD_FLAG_PAYLOAD_LEN))
        return header;
    q->payload = q->length;
    if (q->command != NBD_CMD_BLOCK_STATUS || q->payload < FILTER_BYTES_MIN ||
        q->payload > FILTER_BYTES_MAX || q->payload % 4 != 0)
        return header;
    size_t payload = (size_t)q->payload;
    if (bytes >= header + payload) {
        q->length = get_be64(p + header);
        q->filter = decode_filter(p + header + 8, (payload - 8) / 4);
        q->payload = 0;
    }
    return header + payload;
}

static uint32_t status_bytes(uint16_t flags, uint32_t sections) {
    return sections * (flags & NBD_CMD_FLAG_REQ_ONE ? BUFFER_PAGE_BYTES : NBD_STATUS_BYTES);
}

uint32_t nbd_request_cost(const struct request *r) {
    switch (r->op) {
    case REQUEST_READ:
    case REQUEST_WRITE:
        return (uint32_t)r->length_bytes;
    case REQUEST_BLOCK_STATUS:
        return status_bytes(nbd_op_flags(r->source_op), request_status_sections(r->flags));
    default:
        return 0;
    }
}

static uint16_t section_flags(uint8_t contexts) {
    return (uint16_t)((contexts & 1 << NBD_CONTEXT_ALLOCATION ? 0 : REQUEST_STATUS_NO_PLACES) |
                      (contexts & 1 << NBD_CONTEXT_CHANGED_SINCE ? REQUEST_STATUS_CHANGES : 0) |
                      (contexts & 1 << NBD_CONTEXT_WRITTEN_AT ? REQUEST_STATUS_VERSIONS : 0));
}

static uint16_t request_flags(const struct nbd *s, const struct command *c,
                              const struct nbd_request *q) {
    uint16_t flags = 0;
    if (c->op == REQUEST_BLOCK_STATUS)
        flags |= section_flags(q->filter ? q->filter : s->meta_contexts);
    if (c->writes && (q->flags & NBD_CMD_FLAG_FUA))
        flags |= REQUEST_FUA;
    if (q->flags & NBD_CMD_FLAG_NO_HOLE)
        flags |= REQUEST_NO_HOLE;
    if (q->flags & NBD_CMD_FLAG_REQ_ONE)
        flags |= REQUEST_STATUS_ONE;
    return flags;
}

/* Makes the MD packet; the message has `bytes` bytes. */
static struct nbd_turn begin_request(struct nbd_env *env, struct nbd_h n,
                                     const struct nbd_request *q, size_t bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    const struct command *c = &commands[q->command];
    uint32_t data_bytes = 0, data_start = 0;
    uint16_t flags = request_flags(s, c, q);
    if (c->data) {
        data_bytes = (uint32_t)q->length;
        data_start = (uint32_t)(q->offset % BUFFER_PAGE_BYTES);
    } else if (c->op == REQUEST_BLOCK_STATUS) {
        data_bytes = status_bytes(q->flags, request_status_sections(flags));
    }
    if (s->outstanding >= NBD_OUTSTANDING_MAX ||
        data_bytes > NBD_OUTSTANDING_BYTES_MAX - s->outstanding_bytes)
        return nbd_stop(NBD_BLOCKED);
    struct request_h h = env->ops->request_new(env->ctx, n, data_start, data_bytes);
    if (!h.v)
        return nbd_stop(NBD_BLOCKED);

    struct request *r = request_edit(env->a, h);
    must(r->slot.state == REQUEST_RECEIVING);
    must(r->data_start == data_start && request_data_room(r) >= data_bytes);
    r->op = c->op;
    r->flags = flags;
    if (c->op == REQUEST_BLOCK_STATUS)
        r->sequence = s->since;
    r->offset_bytes = q->offset;
    r->length_bytes = q->length;
    r->volume = s->volume;
    r->cookie = q->cookie;
    r->source_op = nbd_op(q->command, q->flags);
    struct nbd *e = nbd_edit_counts(env->a, n);
    e->outstanding++;
    e->outstanding_bytes += data_bytes;
    if (c->op == REQUEST_WRITE) {
        e->receiving = h;
    } else {
        r->slot.state = REQUEST_READY;
        env->ops->submit(env->ctx, n, h);
    }
    return nbd_done(bytes);
}

struct nbd_turn nbd_request_input(struct nbd_env *env, struct nbd_h n, const uint8_t *p,
                                  size_t bytes) {
    const struct nbd *s = nbd_view(env->a, n);
    if (bytes < header_bytes(s))
        return nbd_more(header_bytes(s));
    uint32_t magic = s->mode == NBD_MODE_EXTENDED ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC;
    if (get_be32(p) != magic)
        return nbd_close(env, n, ERR_PROTO);
    struct nbd_request q;
    size_t need = decode_request(s, p, bytes, &q);
    if (bytes < need)
        return nbd_more(need);
    if (q.command == NBD_CMD_DISC)
        return nbd_close(env, n, OK);
    int err = nbd_check_request(s, &q);
    if (err == ERR_PROTO)
        return nbd_close(env, n, ERR_PROTO);
    if (err == OK)
        return begin_request(env, n, &q, need);
    nbd_refuse(env, n,
               &(struct nbd_refusal){.refused = NBD_REFUSED_REQUEST,
                                     .skip = q.payload,
                                     .cookie = q.cookie,
                                     .offset = q.offset,
                                     .op = nbd_op(q.command, q.flags),
                                     .error = err});
    return nbd_done(need);
}
