/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x4e42444d41474943)
#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define REQUEST_MAGIC UINT32_C(0x25609513)
#define EXTENDED_REQUEST_MAGIC UINT32_C(0x21e41c71)
#define SIMPLE_MAGIC UINT32_C(0x67446698)
#define STRUCTURED_MAGIC UINT32_C(0x668e33ef)
#define EXTENDED_MAGIC UINT32_C(0x6e8a278c)

enum { OPT_STARTTLS = 5, OPT_GO = 7, OPT_STRUCTURED = 8, OPT_SET_META = 10, OPT_EXTENDED = 11 };
enum { REP_ACK = 1, REP_INFO = 3, REP_META = 4 };
enum { INFO_EXPORT = 0, INFO_BLOCK_SIZE = 3 };
enum { CHUNK_NONE, CHUNK_DATA, CHUNK_HOLE, CHUNK_STATUS = 5, CHUNK_STATUS_EXT = 6 };
#define CHUNK_ERROR 0x8000u
#define CHUNK_DONE 1u
#define STATUS_ZERO 2u

#define HANDSHAKE_LIMIT_S 30
#define BODY_MAX (256u * 1024)
/* What a session that sends in pieces sends slowly: the head, and the beginning of a payload. */
#define SLOW_BYTES 96u
/* A window that is smaller than a segment of the loopback device makes the kernel wait for its timers, so
 * segments are those of an Ethernet. */
#define SMALL_WINDOW_BYTES 16384
#define SMALL_SEGMENT_BYTES 1448

static uint64_t get(const uint8_t *p, int bytes) {
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++)
        x = x << 8 | p[i];
    return x;
}

static uint8_t *put(uint8_t *p, int bytes, uint64_t x) {
    for (int i = bytes - 1; i >= 0; i--, x >>= 8)
        p[i] = (uint8_t)x;
    return p + bytes;
}

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void session_fail(const struct session *s, const char *format, ...) {
    va_list args;
    fprintf(stderr, "connection %d: ", s->number);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "; sent %llu bytes, received %llu, %llu of them last, %u requests under way\n",
            (unsigned long long)s->sent_bytes, (unsigned long long)s->received_bytes,
            (unsigned long long)s->last_recv_bytes, s->under_way);
    exit(1);
}

/* ---- TLS: what send() and recv() are without it ---- */

/* Of the program: all sessions are alike. */
static gnutls_certificate_credentials_t authority;
static const char *tls_priority;

void session_use_tls(const char *folder, const char *priority) {
    char path[1024];
    snprintf(path, sizeof path, "%s/ca-cert.pem", folder);
    tls_priority = priority;
    if (gnutls_certificate_allocate_credentials(&authority) < 0 ||
        gnutls_certificate_set_x509_trust_file(authority, path, GNUTLS_X509_FMT_PEM) <= 0) {
        fprintf(stderr, "%s holds no certificate\n", path);
        exit(2);
    }
}

static ssize_t result(ssize_t n) {
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
        errno = EAGAIN;
        return -1;
    }
    if (n < 0) {
        fprintf(stderr, "TLS: %s\n", gnutls_strerror((int)n));
        errno = EPROTO;
        return -1;
    }
    return n;
}

static ssize_t link_send(struct session *s, const void *p, size_t n, int flags) {
    return s->tls ? result(gnutls_record_send(s->tls, p, n)) : send(s->fd, p, n, flags);
}

static ssize_t link_receive(struct session *s, void *p, size_t n, int flags) {
    return s->tls ? result(gnutls_record_recv(s->tls, p, n)) : recv(s->fd, p, n, flags);
}

/* GnuTLS takes no more than eight a second. */
#define NEW_KEYS_NS 250000000u

/* New keys in both directions; of 1.2 there are none. */
static void new_keys(struct session *s) {
    int err = GNUTLS_E_SUCCESS;
    s->new_keys_ns = now_ns() + NEW_KEYS_NS;
    if (gnutls_protocol_get_version(s->tls) == GNUTLS_TLS1_3)
        do
            err = gnutls_session_key_update(s->tls, GNUTLS_KU_PEER);
        while (err == GNUTLS_E_AGAIN || err == GNUTLS_E_INTERRUPTED);
    if (err < 0)
        session_fail(s, "new keys: %s", gnutls_strerror(err));
}

/* ---- the handshake, on a blocking socket ---- */

static void send_all(struct session *s, const uint8_t *p, size_t n) {
    while (n > 0) {
        ssize_t k = link_send(s, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            session_fail(s, "handshake: send: %s", strerror(errno));
        p += k;
        n -= (size_t)k;
    }
}

static void receive_all(struct session *s, uint8_t *p, size_t n) {
    while (n > 0) {
        ssize_t k = link_receive(s, p, n, 0);
        if (k <= 0)
            session_fail(s, "handshake: receive: %s", k == 0 ? "closed" : strerror(errno));
        p += k;
        n -= (size_t)k;
    }
}

static void option(struct session *s, uint32_t opt, const uint8_t *data, uint32_t len) {
    uint8_t head[16];
    put(put(put(head, 8, OPTION_MAGIC), 4, opt), 4, len);
    send_all(s, head, sizeof head);
    send_all(s, data, len);
}

/* The next reply to an option: its type, its data in *data. */
static uint32_t option_reply(struct session *s, uint32_t opt, uint8_t *data, uint32_t size,
                             uint32_t *len) {
    uint8_t head[20];
    receive_all(s, head, sizeof head);
    *len = (uint32_t)get(head + 16, 4);
    if (get(head, 8) != OPTION_REPLY_MAGIC || get(head + 8, 4) != opt || *len > size)
        session_fail(s, "handshake: a bad reply to option %u", opt);
    receive_all(s, data, *len);
    return (uint32_t)get(head + 12, 4);
}

static int option_plain(struct session *s, uint32_t opt) {
    uint8_t data[4096];
    uint32_t len;
    option(s, opt, NULL, 0);
    return option_reply(s, opt, data, sizeof data, &len) == REP_ACK;
}

static void negotiate_context(struct session *s, const char *export_name) {
    static const char name[] = "base:allocation";
    uint8_t data[4096], *p = data;
    uint32_t len, type;
    size_t n = strlen(export_name);
    p = put(p, 4, n);
    memcpy(p, export_name, n);
    p = put(put(p + n, 4, 1), 4, sizeof name - 1);
    memcpy(p, name, sizeof name - 1);
    option(s, OPT_SET_META, data, (uint32_t)(p - data + (long)sizeof name - 1));
    while ((type = option_reply(s, OPT_SET_META, data, sizeof data, &len)) == REP_META)
        s->context = (uint32_t)get(data, 4);
    if (type != REP_ACK)
        s->context = 0;
}

static void start_tls(struct session *s) {
    int err;
    if (!option_plain(s, OPT_STARTTLS))
        session_fail(s, "handshake: TLS is refused");
    gnutls_session_t t;
    if (gnutls_init(&t, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL) < 0 ||
        gnutls_priority_set_direct(t, tls_priority, NULL) < 0 ||
        gnutls_credentials_set(t, GNUTLS_CRD_CERTIFICATE, authority) < 0)
        session_fail(s, "handshake: no TLS here");
    gnutls_session_set_verify_cert(t, "localhost", 0);
    gnutls_transport_set_int(t, s->fd);
    while ((err = gnutls_handshake(t)) < 0 && !gnutls_error_is_fatal(err))
        ;
    if (err < 0)
        session_fail(s, "handshake: TLS: %s", gnutls_strerror(err));
    s->tls = t;
}

static void negotiate(struct session *s, const char *export_name, enum session_style wanted) {
    uint8_t data[4096], *p = data;
    uint32_t len, type;
    size_t n = strlen(export_name);
    receive_all(s, data, 18);
    if (get(data, 8) != MAGIC || get(data + 8, 8) != OPTION_MAGIC || !(data[17] & 1))
        session_fail(s, "handshake: no fixed newstyle server");
    put(data, 4, 1u | (data[17] & 2u));
    send_all(s, data, 4);
    if (authority)
        start_tls(s);
    s->style = STYLE_SIMPLE;
    if (wanted == STYLE_EXTENDED && option_plain(s, OPT_EXTENDED))
        s->style = STYLE_EXTENDED;
    else if (wanted != STYLE_SIMPLE && option_plain(s, OPT_STRUCTURED))
        s->style = STYLE_STRUCTURED;
    if (s->style != STYLE_SIMPLE)
        negotiate_context(s, export_name);
    p = put(data, 4, n);
    memcpy(p, export_name, n);
    p = put(put(p + n, 2, 1), 2, INFO_BLOCK_SIZE);
    option(s, OPT_GO, data, (uint32_t)(p - data));
    s->block_min = 1;
    s->block_preferred = SECTOR;
    while ((type = option_reply(s, OPT_GO, data, sizeof data, &len)) == REP_INFO) {
        if (get(data, 2) == INFO_EXPORT && len == 12) {
            s->size_bytes = get(data + 2, 8);
            s->export_flags = (uint16_t)get(data + 10, 2);
        } else if (get(data, 2) == INFO_BLOCK_SIZE && len == 14) {
            s->block_min = (uint32_t)get(data + 2, 4);
            s->block_preferred = (uint32_t)get(data + 6, 4);
        }
    }
    if (type != REP_ACK || s->size_bytes == 0)
        session_fail(s, "handshake: export %s is refused: %.*s", export_name, (int)len, data);
}

void session_open(struct session *s, const struct sockaddr_in *to, const char *export_name,
                  enum session_style wanted) {
    struct timeval limit = {.tv_sec = HANDSHAKE_LIMIT_S};
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        session_fail(s, "no socket: %s", strerror(errno));
    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (s->small_window) {
        setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &(int){SMALL_WINDOW_BYTES}, sizeof(int));
        setsockopt(s->fd, IPPROTO_TCP, TCP_MAXSEG, &(int){SMALL_SEGMENT_BYTES}, sizeof(int));
    }
    if (connect(s->fd, (const void *)to, sizeof *to) < 0)
        session_fail(s, "connect: %s", strerror(errno));
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    negotiate(s, export_name, wanted);
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

/* ---- requests ---- */

struct op *session_issue(struct session *s, uint16_t cmd, uint16_t flags, uint64_t offset_bytes,
                         uint32_t len_bytes, uint64_t stamp, uint64_t issued) {
    for (uint32_t i = 0; i < s->depth; i++) {
        struct op *op = &s->ops[i];
        if (op->cookie)
            continue;
        memset(op, 0, sizeof *op);
        op->cookie = ++s->serial << 8 | i;
        op->cmd = cmd;
        op->flags = flags;
        op->offset_bytes = offset_bytes;
        op->len_bytes = len_bytes;
        op->stamp = stamp;
        op->issued = issued;
        op->begun_ns = now_ns();
        s->to_send[(s->send_first + s->send_count++) % (SESSION_OPS_MAX + 1)] = (uint8_t)i;
        s->under_way++;
        return op;
    }
    session_fail(s, "the client itself has no place for a request");
}

static size_t request_bytes(const struct session *s, const struct op *op, uint8_t *out) {
    uint16_t flags = op->flags;
    uint8_t *p;
    if (s->style == STYLE_EXTENDED) {
        if (op->cmd == CMD_WRITE)
            flags |= FLAG_PAYLOAD_LEN;
        p = put(put(put(out, 4, EXTENDED_REQUEST_MAGIC), 2, flags), 2, op->cmd);
        p = put(put(put(p, 8, op->cookie), 8, op->offset_bytes), 8, op->len_bytes);
    } else {
        p = put(put(put(out, 4, REQUEST_MAGIC), 2, flags), 2, op->cmd);
        p = put(put(put(p, 8, op->cookie), 8, op->offset_bytes), 4, op->len_bytes);
    }
    if (op->cmd == CMD_WRITE)
        for (uint32_t i = 0; i < op->len_bytes; i += SECTOR, p += SECTOR)
            sector_fill(p, (op->offset_bytes + i) / SECTOR, op->stamp);
    return (size_t)(p - out);
}

void session_send(struct session *s) {
    uint8_t bytes[32 + SESSION_REQUEST_MAX];
    s->blocked = 0;
    while (s->send_count > 0) {
        size_t n = request_bytes(s, &s->ops[s->to_send[s->send_first]], bytes);
        size_t piece = n - s->send_done_bytes;
        if (s->in_pieces && s->send_done_bytes < SLOW_BYTES && piece > 1)
            piece = 1 + (s->sent_bytes * 7 + s->serial) % (piece < 40 ? piece : 40);
        ssize_t k = link_send(s, bytes + s->send_done_bytes, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno != EAGAIN)
            session_fail(s, "send: %s", strerror(errno));
        if (k > 0) {
            s->sent_bytes += (uint64_t)k;
            s->send_done_bytes += (uint32_t)k;
        }
        if (s->send_done_bytes < n) {
            s->blocked = 1;
            return;
        }
        s->send_done_bytes = 0;
        if (s->tls && s->in_pieces && now_ns() >= s->new_keys_ns)
            new_keys(s);
        s->send_first = (s->send_first + 1) % (SESSION_OPS_MAX + 1);
        s->send_count--;
    }
}

/* ---- replies ---- */

/* The request that a reply answers: there is exactly one. */
static struct op *op_of(struct session *s, uint64_t cookie) {
    uint32_t at = cookie & 0xff;
    struct op *op = &s->ops[at < s->depth ? at : 0];
    if (op->cookie != cookie || cookie == 0)
        session_fail(s,
                     "a reply with cookie %llx, which no request under way has: answered twice, "
                     "or never asked",
                     (unsigned long long)cookie);
    for (uint32_t i = 0; i < s->send_count; i++)
        if (&s->ops[s->to_send[(s->send_first + i) % (SESSION_OPS_MAX + 1)]] == op)
            session_fail(s, "a reply to a request that was not sent to its end");
    return op;
}

static void op_done(struct session *s, struct op *op) {
    if (op->cmd == CMD_READ && op->got_bytes != op->len_bytes)
        session_fail(s, "a read of %u bytes at %llu got %u", op->len_bytes,
                     (unsigned long long)op->offset_bytes, op->got_bytes);
    if (op->cmd == CMD_STATUS && op->chunks != 1)
        session_fail(s, "a block status got %u chunks", op->chunks);
    s->under_way--;
    s->done(s->ctx, s, op);
    s->last_cookie = op->cookie;
    op->cookie = 0;
}

static void range_seen(struct session *s, struct op *op, uint64_t at, uint64_t len) {
    if (len == 0 || at < op->offset_bytes || len > op->len_bytes ||
        at - op->offset_bytes > op->len_bytes - len || (at | len) % SECTOR)
        session_fail(s, "a chunk of %llu bytes at %llu in a read of %u at %llu",
                     (unsigned long long)len, (unsigned long long)at, op->len_bytes,
                     (unsigned long long)op->offset_bytes);
    if (op->flags & FLAG_DF && op->got_bytes > 0)
        session_fail(s, "a read that must not be cut came in several chunks");
    for (uint64_t i = (at - op->offset_bytes) / SECTOR, n = len / SECTOR; n > 0; i++, n--) {
        if (op->seen[i / 8] & 1u << i % 8)
            session_fail(s, "a read got sector %llu twice",
                         (unsigned long long)(op->offset_bytes / SECTOR + i));
        op->seen[i / 8] |= (uint8_t)(1u << i % 8);
    }
    op->got_bytes += (uint32_t)len;
}

static void check_sector(struct session *s, const struct op *op, uint64_t sector,
                         const uint8_t *bytes) {
    uint64_t stamp, home;
    if (!sector_identify(bytes, sector, &stamp, &home))
        session_fail(s, "wrong bytes in sector %llu: they claim stamp %llu of sector %llu",
                     (unsigned long long)sector, (unsigned long long)stamp,
                     (unsigned long long)home);
    if (!model_read(s->model, sector, stamp, op->issued)) {
        const struct model_value *v = s->model->at[sector].v;
        for (int i = 0; i < MODEL_VALUES; i++)
            if (v[i].issued != MODEL_NEVER)
                fprintf(stderr, "  stamp %llu issued %llu done %lld\n",
                        (unsigned long long)v[i].stamp, (unsigned long long)v[i].issued,
                        (long long)v[i].done);
        session_fail(s, "sector %llu holds stamp %llu, which a read issued at %llu must not see",
                     (unsigned long long)sector, (unsigned long long)stamp,
                     (unsigned long long)op->issued);
    }
    if (s->settle)
        model_settle(s->model, sector, stamp);
}

static void hole(struct session *s, struct op *op, uint64_t at, uint64_t len) {
    static const uint8_t zeroes[SECTOR];
    range_seen(s, op, at, len);
    for (uint64_t i = 0; i < len; i += SECTOR)
        check_sector(s, op, (at + i) / SECTOR, zeroes);
}

static void block_status(struct session *s, struct op *op, const uint8_t *p, uint32_t len) {
    uint32_t each = s->style == STYLE_EXTENDED ? 16 : 8, skip = s->style == STYLE_EXTENDED ? 8 : 4;
    uint64_t at = op->offset_bytes, end = at + op->len_bytes;
    if (len < skip + each || (len - skip) % each || get(p, 4) != s->context ||
        op->cmd != CMD_STATUS)
        session_fail(s, "a bad block status of %u bytes", len);
    for (uint32_t i = skip; i < len; i += each) {
        uint64_t n = get(p + i, (int)each / 2);
        uint64_t flags = get(p + i + each / 2, (int)each / 2);
        if (n == 0 || at >= end || n % SECTOR || (op->flags & FLAG_REQ_ONE && len > skip + each))
            session_fail(s, "a bad extent in a block status: %llu bytes at %llu",
                         (unsigned long long)n, (unsigned long long)at);
        for (uint64_t k = 0; flags & STATUS_ZERO && k < n && at + k < end; k += SECTOR)
            if (!model_read(s->model, (at + k) / SECTOR, 0, op->issued))
                session_fail(s, "sector %llu is told to be zero and is not",
                             (unsigned long long)((at + k) / SECTOR));
        at += n;
    }
}

/* A chunk that is not data has come in whole. */
static void chunk(struct session *s) {
    struct op *op = s->op;
    const uint8_t *p = s->body;
    uint32_t len = s->body_size;
    op->chunks++;
    if (s->chunk_type & CHUNK_ERROR)
        session_fail(s, "command %u at %llu, %u bytes, failed with error %llu: %.*s", op->cmd,
                     (unsigned long long)op->offset_bytes, op->len_bytes,
                     (unsigned long long)(len >= 4 ? get(p, 4) : 0), len > 6 ? (int)len - 6 : 0,
                     (const char *)p + 6);
    else if (s->chunk_type == CHUNK_NONE && len == 0)
        op->chunks--;
    else if (s->chunk_type == CHUNK_HOLE && len == 12 && op->cmd == CMD_READ)
        hole(s, op, get(p, 8), get(p + 8, 4));
    else if (s->chunk_type == (s->style == STYLE_EXTENDED ? CHUNK_STATUS_EXT : CHUNK_STATUS))
        block_status(s, op, p, len);
    else
        session_fail(s, "a chunk of type %u and %u bytes", s->chunk_type, len);
    if (s->chunk_flags & CHUNK_DONE)
        op_done(s, op);
}

static void data_begins(struct session *s, uint64_t at, uint32_t len) {
    range_seen(s, s->op, at, len);
    s->op->chunks++;
    s->data_at_bytes = at;
    s->data_left_bytes = len;
    s->carry_len = 0;
}

/* How many bytes the head that has begun to come in will have. */
static uint32_t head_size(const struct session *s) {
    uint32_t magic, size;
    if (s->head_len < 8)
        return 8;
    magic = (uint32_t)get(s->head, 4);
    if (magic == SIMPLE_MAGIC && s->style != STYLE_EXTENDED)
        return 16;
    if (magic == STRUCTURED_MAGIC && s->style == STYLE_STRUCTURED)
        size = 20;
    else if (magic == EXTENDED_MAGIC && s->style == STYLE_EXTENDED)
        size = 32;
    else
        session_fail(s, "bytes that are no reply: %016llx, style %d, the reply before was to %llx",
                     (unsigned long long)get(s->head, 8), (int)s->style,
                     (unsigned long long)s->last_cookie);
    return size + (get(s->head + 6, 2) == CHUNK_DATA ? 8 : 0);
}

static void head_done(struct session *s) {
    const uint8_t *h = s->head;
    uint32_t magic = (uint32_t)get(h, 4);
    struct op *op = s->op = op_of(s, get(h + 8, 8));
    uint64_t len;
    if (magic == SIMPLE_MAGIC) {
        if (get(h + 4, 4) != 0)
            session_fail(s, "command %u at %llu, %u bytes, failed with error %llu", op->cmd,
                         (unsigned long long)op->offset_bytes, op->len_bytes,
                         (unsigned long long)get(h + 4, 4));
        s->chunk_flags = CHUNK_DONE;
        if (op->cmd != CMD_READ)
            op_done(s, op);
        else if (s->style == STYLE_STRUCTURED)
            session_fail(s, "a simple reply to a read after structured replies were agreed on");
        else
            data_begins(s, op->offset_bytes, op->len_bytes);
        return;
    }
    s->chunk_flags = (uint16_t)get(h + 4, 2);
    s->chunk_type = (uint16_t)get(h + 6, 2);
    len = s->style == STYLE_EXTENDED ? get(h + 24, 8) : get(h + 16, 4);
    if (s->style == STYLE_EXTENDED && get(h + 16, 8) != op->offset_bytes)
        session_fail(s, "a reply names offset %llu, its request had %llu",
                     (unsigned long long)get(h + 16, 8), (unsigned long long)op->offset_bytes);
    if (s->chunk_type == CHUNK_DATA) {
        if (len < 8 || len > SESSION_REQUEST_MAX + 8 || op->cmd != CMD_READ)
            session_fail(s, "a data chunk of %llu bytes for command %u", (unsigned long long)len,
                         op->cmd);
        data_begins(s, get(h + s->head_len - 8, 8), (uint32_t)len - 8);
        return;
    }
    if (len > BODY_MAX)
        session_fail(s, "a chunk of %llu bytes", (unsigned long long)len);
    s->body_size = (uint32_t)len;
    s->body_len = 0;
    if (len == 0) {
        chunk(s);
        return;
    }
    s->body = malloc(len);
    if (!s->body)
        session_fail(s, "no memory");
}

static size_t take_data(struct session *s, const uint8_t *p, size_t n) {
    size_t used = 0;
    while (used < n && s->data_left_bytes > 0) {
        size_t k = SECTOR - s->carry_len;
        const uint8_t *sector = p + used;
        if (s->carry_len > 0 || n - used < SECTOR) {
            k = k < n - used ? k : n - used;
            memcpy(s->carry + s->carry_len, p + used, k);
            s->carry_len += (uint32_t)k;
            sector = s->carry;
            used += k;
            if (s->carry_len < SECTOR)
                break;
            s->carry_len = 0;
        } else {
            used += SECTOR;
        }
        check_sector(s, s->op, s->data_at_bytes / SECTOR, sector);
        s->data_at_bytes += SECTOR;
        s->data_left_bytes -= SECTOR;
    }
    if (s->data_left_bytes == 0 && s->chunk_flags & CHUNK_DONE)
        op_done(s, s->op);
    return used;
}

static size_t take(struct session *s, const uint8_t *p, size_t n) {
    size_t k;
    if (s->data_left_bytes > 0)
        return take_data(s, p, n);
    if (s->body) {
        k = s->body_size - s->body_len;
        k = k < n ? k : n;
        memcpy(s->body + s->body_len, p, k);
        s->body_len += (uint32_t)k;
        if (s->body_len == s->body_size) {
            chunk(s);
            free(s->body);
            s->body = NULL;
        }
        return k;
    }
    k = head_size(s) - s->head_len;
    k = k < n ? k : n;
    memcpy(s->head + s->head_len, p, k);
    s->head_len += (uint32_t)k;
    if (s->head_len >= 16 && s->head_len == head_size(s)) {
        head_done(s);
        s->head_len = 0;
    }
    return k;
}

void session_receive(struct session *s) {
    static uint8_t buf[256 * 1024];
    ssize_t n = link_receive(s, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        session_fail(s, "receive: %s", n == 0 ? "closed by the server" : strerror(errno));
    s->received_bytes += (uint64_t)n;
    s->last_recv_bytes = (uint64_t)n;
    for (ssize_t used = 0; used < n;)
        used += (ssize_t)take(s, buf + used, (size_t)(n - used));
}

void session_close(struct session *s) {
    struct timeval limit = {.tv_sec = HANDSHAKE_LIMIT_S};
    uint8_t bytes[32];
    struct op disc = {.cmd = CMD_DISC, .cookie = ++s->serial << 8};
    ssize_t n;
    fcntl(s->fd, F_SETFL, 0);
    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    send_all(s, bytes, request_bytes(s, &disc, bytes));
    int tries = 3; /* a record without data, as new keys, ends a call */
    do
        n = link_receive(s, bytes, sizeof bytes, 0);
    while (n < 0 && errno == EAGAIN && s->tls && --tries > 0);
    if (n != 0)
        session_fail(s, "after DISC: %s", n > 0 ? "bytes came" : strerror(errno));
    if (s->tls)
        gnutls_deinit(s->tls);
    s->tls = NULL;
    close(s->fd);
    s->fd = -1;
}
