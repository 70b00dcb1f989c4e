/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and keys, read and checked before anything depends on them. */
#include <errno.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/wipe.h"
#include "plat/gnutls/gnutls_priv.h"

#define PATH_BYTES 700

struct trouble {
    char *why;
    size_t room;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct trouble *t, const char *format,
                                                        ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(t->why, t->room, format, args);
    va_end(args);
    return -1;
}

static const char *path_in(const char *folder, const char *name, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return path;
}

static int can_read(const struct trouble *t, const char *path, const char *what) {
    if (access(path, R_OK) == 0)
        return 0;
    return refuse(t, "TLS: %s, which is %s, cannot be read: %s", path, what, strerror(errno));
}

static int check_dates(const struct trouble *t, gnutls_certificate_credentials_t x509,
                       const char *path) {
    gnutls_x509_crt_t *list = NULL;
    unsigned count = 0;
    int err = 0;
    if (gnutls_certificate_get_x509_crt(x509, 0, &list, &count) < 0)
        return 0;
    time_t now = time(NULL);
    if (count > 0 && now >= gnutls_x509_crt_get_expiration_time(list[0]))
        err = refuse(t, "TLS: the certificate %s has expired; have a new one made", path);
    else if (count > 0 && now < gnutls_x509_crt_get_activation_time(list[0]))
        err = refuse(
            t, "TLS: the certificate %s is not valid yet; look at the clock of this machine", path);
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(list[i]);
    gnutls_free(list);
    return err;
}

static int read_x509(struct gnutls_credentials *c, const char *folder, const struct trouble *t) {
    char ca[PATH_BYTES], cert[PATH_BYTES], key[PATH_BYTES], crl[PATH_BYTES];
    path_in(folder, "ca-cert.pem", ca);
    path_in(folder, "server-cert.pem", cert);
    path_in(folder, "server-key.pem", key);
    path_in(folder, "ca-crl.pem", crl);
    if (can_read(t, ca, "the authority's certificate") < 0 ||
        can_read(t, cert, "the server's certificate") < 0 ||
        can_read(t, key, "the server's private key") < 0)
        return -1;
    if (gnutls_certificate_allocate_credentials(&c->x509) < 0)
        return refuse(t, "TLS: there is no memory");
    int err = gnutls_certificate_set_x509_trust_file(c->x509, ca, GNUTLS_X509_FMT_PEM);
    if (err <= 0)
        return refuse(t, "TLS: %s holds no certificate (PEM): %s", ca,
                      err < 0 ? gnutls_strerror(err) : "it is empty");
    err = gnutls_certificate_set_x509_key_file(c->x509, cert, key, GNUTLS_X509_FMT_PEM);
    if (err == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        return refuse(t, "TLS: %s is not the key of %s; put those of one pair there", key, cert);
    if (err < 0)
        return refuse(t, "TLS: %s and %s are no certificate and key (PEM): %s", cert, key,
                      gnutls_strerror(err));
    if (access(crl, F_OK) == 0 &&
        (err = gnutls_certificate_set_x509_crl_file(c->x509, crl, GNUTLS_X509_FMT_PEM)) < 0)
        return refuse(t, "TLS: %s is no list of revoked certificates (PEM): %s; mend or remove it",
                      crl, gnutls_strerror(err));
    return check_dates(t, c->x509, cert);
}

/* A line USER:HEX. */
static int is_psk_line(const char *line) {
    const char *colon = strchr(line, ':');
    if (!colon || colon == line)
        return 0;
    size_t digits = strspn(colon + 1, "0123456789abcdefABCDEF");
    return digits > 0 && digits % 2 == 0 && strcspn(colon + 1, "\r\n") == digits;
}

static int check_psk(const char *path, const struct trouble *t) {
    char line[1024];
    int number = 0, users = 0, err = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return refuse(t, "TLS: %s, the file of pre-shared keys, cannot be read: %s", path,
                      strerror(errno));
    while (err == 0 && fgets(line, sizeof line, file)) {
        number++;
        if (line[0] == '#' || line[strspn(line, " \t\r\n")] == 0)
            continue;
        users++;
        if (!is_psk_line(line))
            err = refuse(t,
                         "TLS: %s, line %d: not USER:KEY, the key in hexadecimal; psktool makes "
                         "such lines",
                         path, number);
    }
    if (err == 0 && ferror(file))
        err = refuse(t, "TLS: %s, the file of pre-shared keys, cannot be read: %s", path,
                     strerror(errno));
    else if (err == 0 && users == 0)
        err = refuse(t, "TLS: %s has no line USER:KEY; psktool makes such lines", path);
    fclose(file);
    wipe(line, sizeof line);
    return err;
}

static int read_psk(struct gnutls_credentials *c, const char *path, const struct trouble *t) {
    if (check_psk(path, t) < 0)
        return -1;
    if (gnutls_psk_allocate_server_credentials(&c->psk) < 0 ||
        gnutls_psk_set_server_credentials_file(c->psk, path) < 0)
        return refuse(t, "TLS: %s, the file of pre-shared keys, cannot be used", path);
    return 0;
}

void gnutls_credentials_close(struct gnutls_credentials *c) {
    if (!c)
        return;
    if (c->x509)
        gnutls_certificate_free_credentials(c->x509);
    if (c->psk)
        gnutls_psk_free_server_credentials(c->psk);
    if (c->priority)
        gnutls_priority_deinit(c->priority);
    free(c);
}

struct gnutls_credentials *gnutls_credentials_open(const struct gnutls_files *f, char *why,
                                                   size_t room) {
    /* TLS 1.2, for nbd-client: only with fresh keys and AEAD, as 1.3 always has them. */
    static const char ciphers[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-CIPHER-ALL:"
                                  "+AES-256-GCM:+CHACHA20-POLY1305:+AES-128-GCM:-RSA:-DHE-RSA";
    char priority[sizeof ciphers + 64];
    struct trouble t = {why, room};
    struct gnutls_credentials *c = calloc(1, sizeof *c);
    if (!c) {
        refuse(&t, "TLS: there is no memory");
        return NULL;
    }
    c->verify_peer = f->verify_peer;
    snprintf(priority, sizeof priority, "%s%s", ciphers, f->psk[0] ? ":+ECDHE-PSK:+DHE-PSK" : "");
    if ((f->certificates[0] && read_x509(c, f->certificates, &t) < 0) ||
        (f->psk[0] && read_psk(c, f->psk, &t) < 0) ||
        (gnutls_priority_init(&c->priority, priority, NULL) < 0 &&
         refuse(&t, "TLS: GnuTLS of this machine has no TLS with AES-GCM or ChaCha20"))) {
        gnutls_credentials_close(c);
        return NULL;
    }
    return c;
}
