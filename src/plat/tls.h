/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What TLS 1.3 and 1.2 take from a cryptographic library: the handshake as a whole, and for the record layer, which is
 * ours (proto/tls), HKDF and AEAD. A handshake lies in private memory and never touches a socket: bytes in, bytes
 * out. What it agrees on is all that is needed to go on without it, in this process or another.
 *
 * An AEAD gives the same bytes for the same key, nonce and plaintext, always: what was encrypted in a turn that was
 * undone is encrypted again.
 */
#ifndef PLAT_TLS_H
#define PLAT_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "plat/io_router.h"

#define TLS_KEY_BYTES_MAX 32u
#define TLS_NONCE_BYTES 12u
#define TLS_TAG_BYTES 16u
#define TLS_SECRET_BYTES_MAX 48u
#define TLS_WHY_BYTES 160u

/* Numbers stand in slots. */
enum tls_cipher {
    TLS_AES_128_GCM = 1,       /* with SHA-256 */
    TLS_AES_256_GCM = 2,       /* with SHA-384 */
    TLS_CHACHA20_POLY1305 = 3, /* with SHA-256 */
    TLS_CIPHERS = 4,
};

static inline uint32_t tls_key_bytes(enum tls_cipher c) {
    return c == TLS_AES_128_GCM ? 16 : 32;
}
static inline uint32_t tls_secret_bytes(enum tls_cipher c) {
    return c == TLS_AES_256_GCM ? 48 : 32;
}

/* Numbers stand in slots. */
enum tls_version { TLS_1_3 = 0, TLS_1_2 = 1 };

/* One direction, and the number of its next record. 1.3: its application traffic secret, of which the rest is made;
 * 1.2: key and IV, of which AES-GCM has the 4 bytes that stay the same. */
struct tls_direction {
    uint8_t secret[TLS_SECRET_BYTES_MAX];
    uint8_t key[TLS_KEY_BYTES_MAX];
    uint8_t iv[TLS_NONCE_BYTES];
    uint64_t sequence;
};

struct tls_agreed {
    enum tls_version version;
    enum tls_cipher cipher;
    uint32_t record_max; /* bytes of plaintext that the peer takes in a record */
    struct tls_direction in, out;
};

struct tls_aead;
struct tls_handshake;

struct tls_ops {
    /* HKDF-Expand with the cipher's hash. */
    int (*expand)(enum tls_cipher c, const uint8_t *secret, const uint8_t *info, size_t info_bytes,
                  uint8_t *out, size_t out_bytes);
    /* NULL: no memory. */
    struct tls_aead *(*aead_open)(enum tls_cipher c, const uint8_t *key);
    void (*aead_close)(struct tls_aead *a);
    /* Plaintext of all vectors, and the tag behind it. */
    int (*seal)(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                size_t also_bytes, const struct io_vec *vecs, uint32_t vec_count, uint8_t *out,
                size_t out_bytes);
    /* ERR_INTEGRITY: the tag is not right, and `out` means nothing. */
    int (*open)(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                size_t also_bytes, const uint8_t *in, size_t in_bytes, uint8_t *out);

    /* A server's handshake; NULL: no memory, or nothing to prove itself with. */
    struct tls_handshake *(*begin)(void *ctx);
    /* Goes on with these bytes, of which *taken are used. 0: agreed; ERR_AGAIN: it wants more; or it has failed.
     * In each case it may have output. */
    int (*step)(struct tls_handshake *h, const uint8_t *in, size_t bytes, size_t *taken);
    /* What is to be sent, in order; 0: nothing more. */
    size_t (*output)(struct tls_handshake *h, uint8_t *to, size_t room);
    int (*agreed)(struct tls_handshake *h, struct tls_agreed *a);
    const char *(*why)(const struct tls_handshake *h); /* it failed */
    void (*end)(struct tls_handshake *h);
};

struct tls_provider {
    const struct tls_ops *ops; /* NULL: none */
    void *ctx;
};

#endif
