/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's handshake. GnuTLS reads each record by its header and its length, never more, so what is left when
 * both sides agree belongs to the records after it. There are no tickets: nothing follows the handshake.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/wipe.h"
#include "plat/gnutls/gnutls_priv.h"

/* More than any flight of ours: a chain of certificates is limited by what GnuTLS takes. */
#define OUTPUT_MAX (256u * 1024)

struct tls_handshake {
    gnutls_session_t session;
    const uint8_t *in;
    size_t in_bytes, in_taken;
    uint8_t *out;
    size_t out_first, out_bytes, out_room;
    uint8_t secrets[2][TLS_SECRET_BYTES_MAX]; /* of the client, of the server */
    size_t secret_bytes[2];
    int err;
};

static ssize_t pull(gnutls_transport_ptr_t p, void *to, size_t room) {
    struct tls_handshake *h = p;
    size_t n = h->in_bytes - h->in_taken;
    if (n == 0) {
        gnutls_transport_set_errno(h->session, EAGAIN);
        return -1;
    }
    if (n > room)
        n = room;
    memcpy(to, h->in + h->in_taken, n);
    h->in_taken += n;
    return (ssize_t)n;
}

static int pull_timeout(gnutls_transport_ptr_t p, unsigned ms) {
    const struct tls_handshake *h = p;
    (void)ms;
    return h->in_bytes > h->in_taken;
}

static ssize_t push(gnutls_transport_ptr_t p, const void *from, size_t bytes) {
    struct tls_handshake *h = p;
    if (h->out_bytes + bytes > h->out_room) {
        size_t room = 2 * h->out_room + bytes;
        uint8_t *more = room <= OUTPUT_MAX ? realloc(h->out, room) : NULL;
        if (!more) {
            gnutls_transport_set_errno(h->session, ENOMEM);
            return -1;
        }
        h->out = more;
        h->out_room = room;
    }
    memcpy(h->out + h->out_bytes, from, bytes);
    h->out_bytes += bytes;
    return (ssize_t)bytes;
}

static int on_secret(gnutls_session_t session, const char *label, const gnutls_datum_t *secret) {
    static const char *const labels[] = {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"};
    struct tls_handshake *h = gnutls_session_get_ptr(session);
    for (int i = 0; i < 2; i++)
        if (strcmp(label, labels[i]) == 0 && secret->size <= TLS_SECRET_BYTES_MAX) {
            memcpy(h->secrets[i], secret->data, secret->size);
            h->secret_bytes[i] = secret->size;
        }
    return 0;
}

static void handshake_end(struct tls_handshake *h) {
    if (!h)
        return;
    if (h->session)
        gnutls_deinit(h->session);
    free(h->out);
    wipe(h, sizeof *h);
    free(h);
}

static struct tls_handshake *handshake_begin(void *ctx) {
    struct gnutls_credentials *c = ctx;
    struct tls_handshake *h = c ? calloc(1, sizeof *h) : NULL;
    if (!h)
        return NULL;
    if (gnutls_init(&h->session, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) < 0 ||
        gnutls_priority_set(h->session, c->priority) < 0 ||
        (c->x509 && gnutls_credentials_set(h->session, GNUTLS_CRD_CERTIFICATE, c->x509) < 0) ||
        (c->psk && gnutls_credentials_set(h->session, GNUTLS_CRD_PSK, c->psk) < 0)) {
        handshake_end(h);
        return NULL;
    }
    gnutls_session_set_ptr(h->session, h);
    gnutls_session_set_keylog_function(h->session, on_secret);
    gnutls_transport_set_ptr(h->session, h);
    gnutls_transport_set_pull_function(h->session, pull);
    gnutls_transport_set_pull_timeout_function(h->session, pull_timeout);
    gnutls_transport_set_push_function(h->session, push);
    if (c->x509 && c->verify_peer) {
        gnutls_certificate_server_set_request(h->session, GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(h->session, NULL, 0);
    }
    return h;
}

static int handshake_step(struct tls_handshake *h, const uint8_t *in, size_t bytes, size_t *taken) {
    h->in = in;
    h->in_bytes = bytes;
    h->in_taken = 0;
    int err;
    do
        err = gnutls_handshake(h->session);
    while (err < 0 && err != GNUTLS_E_AGAIN && !gnutls_error_is_fatal(err));
    *taken = h->in_taken;
    h->in = NULL;
    h->in_bytes = h->in_taken = 0;
    if (err == GNUTLS_E_AGAIN)
        return ERR_AGAIN;
    if (err < 0) {
        h->err = err;
        gnutls_alert_send_appropriate(h->session, err);
        return ERR_PROTO;
    }
    return 0;
}

static size_t handshake_output(struct tls_handshake *h, uint8_t *to, size_t room) {
    size_t n = h->out_bytes - h->out_first;
    if (n > room)
        n = room;
    if (n > 0)
        memcpy(to, h->out + h->out_first, n);
    h->out_first += n;
    if (h->out_first == h->out_bytes)
        h->out_first = h->out_bytes = 0;
    return n;
}

static enum tls_cipher cipher_of(gnutls_session_t s) {
    switch (gnutls_cipher_get(s)) {
    case GNUTLS_CIPHER_AES_128_GCM:
        return TLS_AES_128_GCM;
    case GNUTLS_CIPHER_AES_256_GCM:
        return TLS_AES_256_GCM;
    case GNUTLS_CIPHER_CHACHA20_POLY1305:
        return TLS_CHACHA20_POLY1305;
    default:
        return 0;
    }
}

/* The library keeps what it tells; nothing is to be freed. */
static int take_direction(struct tls_handshake *h, const struct tls_agreed *a, int in,
                          struct tls_direction *d) {
    uint8_t sequence[8];
    gnutls_datum_t iv = {0}, key = {0};
    if (gnutls_record_get_state(h->session, in ? 1 : 0, NULL, &iv, &key, sequence) < 0)
        return ERR_UNSUPPORTED;
    d->sequence = get_be64(sequence);
    if (a->version == TLS_1_3) {
        size_t bytes = h->secret_bytes[in ? 0 : 1];
        memcpy(d->secret, h->secrets[in ? 0 : 1], sizeof d->secret);
        return bytes == tls_secret_bytes(a->cipher) ? 0 : ERR_UNSUPPORTED;
    }
    if (key.size != tls_key_bytes(a->cipher) ||
        iv.size != (a->cipher == TLS_CHACHA20_POLY1305 ? TLS_NONCE_BYTES : 4))
        return ERR_UNSUPPORTED;
    memcpy(d->key, key.data, key.size);
    memcpy(d->iv, iv.data, iv.size);
    return 0;
}

static int handshake_agreed(struct tls_handshake *h, struct tls_agreed *a) {
    gnutls_protocol_t version = gnutls_protocol_get_version(h->session);
    memset(a, 0, sizeof *a);
    a->version = version == GNUTLS_TLS1_3 ? TLS_1_3 : TLS_1_2;
    a->cipher = cipher_of(h->session);
    a->record_max = (uint32_t)gnutls_record_get_max_size(h->session);
    if ((version != GNUTLS_TLS1_3 && version != GNUTLS_TLS1_2) || a->cipher == 0)
        return ERR_UNSUPPORTED;
    int err = take_direction(h, a, 1, &a->in);
    return err < 0 ? err : take_direction(h, a, 0, &a->out);
}

static const char *handshake_why(const struct tls_handshake *h) {
    return gnutls_strerror(h->err);
}

struct tls_provider gnutls_provider(struct gnutls_credentials *c) {
    static const struct tls_ops ops = {.expand = gnutls_tls_expand,
                                       .aead_open = gnutls_tls_aead_open,
                                       .aead_close = gnutls_tls_aead_close,
                                       .seal = gnutls_tls_seal,
                                       .open = gnutls_tls_open,
                                       .begin = handshake_begin,
                                       .step = handshake_step,
                                       .output = handshake_output,
                                       .agreed = handshake_agreed,
                                       .why = handshake_why,
                                       .end = handshake_end};
    return (struct tls_provider){&ops, c};
}
