/* SPDX-License-Identifier: Apache-2.0 */
/* plat/tls.h by GnuTLS; certificates and keys as nbdkit and qemu-nbd read them. */
#ifndef PLAT_GNUTLS_GNUTLS_H
#define PLAT_GNUTLS_GNUTLS_H

#include "plat/tls.h"

struct gnutls_files {
    const char *
        certificates; /* folder: ca-cert.pem, server-cert.pem, server-key.pem, ca-crl.pem; "": none */
    const char *psk; /* file of lines USER:HEX; "": none */
    int verify_peer; /* clients show a certificate of the same authority */
};

struct gnutls_credentials;

/* Reads and checks everything. NULL: *why says what is wrong and what to do. */
struct gnutls_credentials *gnutls_credentials_open(const struct gnutls_files *f, char *why,
                                                   size_t room);
void gnutls_credentials_close(struct gnutls_credentials *c);

/* `c` NULL: what is agreed already goes on, and nothing is begun. */
struct tls_provider gnutls_provider(struct gnutls_credentials *c);

#endif
