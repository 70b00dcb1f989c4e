/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PLAT_GNUTLS_GNUTLS_PRIV_H
#define PLAT_GNUTLS_GNUTLS_PRIV_H

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "plat/gnutls/gnutls.h"

struct gnutls_credentials {
    gnutls_certificate_credentials_t x509;
    gnutls_psk_server_credentials_t psk;
    gnutls_priority_t priority;
    int verify_peer;
};

/* gnutls/crypto.c */
int gnutls_tls_expand(enum tls_cipher c, const uint8_t *secret, const uint8_t *info,
                      size_t info_bytes, uint8_t *out, size_t out_bytes);
struct tls_aead *gnutls_tls_aead_open(enum tls_cipher c, const uint8_t *key);
void gnutls_tls_aead_close(struct tls_aead *a);
int gnutls_tls_seal(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                    size_t also_bytes, const struct io_vec *vecs, uint32_t vec_count, uint8_t *out,
                    size_t out_bytes);
int gnutls_tls_open(struct tls_aead *a, const uint8_t nonce[TLS_NONCE_BYTES], const uint8_t *also,
                    size_t also_bytes, const uint8_t *in, size_t in_bytes, uint8_t *out);

#endif
