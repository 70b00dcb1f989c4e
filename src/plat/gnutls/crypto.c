/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/must.h"
#include "plat/gnutls/gnutls_priv.h"

_Static_assert(sizeof(struct io_vec) == sizeof(giovec_t), "io_vec is an iovec");
_Static_assert(offsetof(struct io_vec, bytes) == offsetof(giovec_t, iov_len), "io_vec is an iovec");

struct tls_aead {
    gnutls_aead_cipher_hd_t handle;
};

static gnutls_datum_t datum(const uint8_t *p, size_t bytes) {
    return (gnutls_datum_t){.data = (unsigned char *)(uintptr_t)p, .size = (unsigned)bytes};
}

int gnutls_tls_expand(enum tls_cipher c, const uint8_t *secret, const uint8_t *info,
                      size_t info_bytes, uint8_t *out, size_t out_bytes) {
    gnutls_datum_t key = datum(secret, tls_secret_bytes(c)), i = datum(info, info_bytes);
    gnutls_mac_algorithm_t mac = c == TLS_AES_256_GCM ? GNUTLS_MAC_SHA384 : GNUTLS_MAC_SHA256;
    return gnutls_hkdf_expand(mac, &key, &i, out, out_bytes) < 0 ? ERR_NOMEM : 0;
}

struct tls_aead *gnutls_tls_aead_open(enum tls_cipher c, const uint8_t *key) {
    static const gnutls_cipher_algorithm_t names[TLS_CIPHERS] = {
        [TLS_AES_128_GCM] = GNUTLS_CIPHER_AES_128_GCM,
        [TLS_AES_256_GCM] = GNUTLS_CIPHER_AES_256_GCM,
        [TLS_CHACHA20_POLY1305] = GNUTLS_CIPHER_CHACHA20_POLY1305};
    gnutls_datum_t k = datum(key, tls_key_bytes(c));
    struct tls_aead *a = calloc(1, sizeof *a);
    if (a && gnutls_aead_cipher_init(&a->handle, names[c], &k) == 0)
        return a;
    free(a);
    return NULL;
}

void gnutls_tls_aead_close(struct tls_aead *a) {
    if (a)
        gnutls_aead_cipher_deinit(a->handle);
    free(a);
}

int gnutls_tls_seal(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                    size_t also_bytes, const struct io_vec *vecs, uint32_t vec_count, uint8_t *out,
                    size_t out_bytes) {
    giovec_t also_vec = {(void *)(uintptr_t)also, also_bytes};
    size_t used = out_bytes;
    int err = gnutls_aead_cipher_encryptv(a->handle, nonce, TLS_NONCE_BYTES, &also_vec, 1,
                                          TLS_TAG_BYTES, (const giovec_t *)(const void *)vecs,
                                          (int)vec_count, out, &used);
    return err < 0 || used != out_bytes ? ERR_NOMEM : 0;
}

int gnutls_tls_open(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                    size_t also_bytes, const uint8_t *in, size_t in_bytes, uint8_t *out) {
    must(in_bytes >= TLS_TAG_BYTES);
    size_t used = in_bytes - TLS_TAG_BYTES;
    int err = gnutls_aead_cipher_decrypt(a->handle, nonce, TLS_NONCE_BYTES, also, also_bytes,
                                         TLS_TAG_BYTES, in, in_bytes, out, &used);
    return err < 0 || used != in_bytes - TLS_TAG_BYTES ? ERR_INTEGRITY : 0;
}
