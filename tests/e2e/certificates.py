# SPDX-License-Identifier: Apache-2.0
"""Certificates and keys for tests, made by certtool as people make them."""
import os

from perdure import run

SERVER = 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nexpiration_days = {days}\n'
CLIENT = 'cn = client\ntls_www_client\nexpiration_days = {days}\n'
USER, KEY = 'alice', '0123456789abcdef0123456789abcdef'


def write(folder, name, text):
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
        file.write(text)


def authority(folder):
    """A folder with ca-cert.pem, server and client certificates, and keys.psk."""
    os.makedirs(folder)
    write(folder, 'ca.info', 'cn = tests\nca\ncert_signing_key\nexpiration_days = 10\n')
    run('certtool', '--generate-privkey', '--ecc', '--outfile', 'ca-key.pem', cwd=folder)
    run('certtool', '--generate-self-signed', '--load-privkey', 'ca-key.pem', '--template', 'ca.info',
        '--outfile', 'ca-cert.pem', cwd=folder)
    certify(folder, 'server', SERVER)
    certify(folder, 'client', CLIENT)
    write(folder, 'keys.psk', f'# users\n{USER}:{KEY}\n')
    return folder


def certify(folder, who, template, days=10):
    write(folder, who + '.info', template.format(days=days))
    run('certtool', '--generate-privkey', '--ecc', '--outfile', who + '-key.pem', cwd=folder)
    run('certtool', '--generate-certificate', '--load-ca-certificate', 'ca-cert.pem', '--load-ca-privkey', 'ca-key.pem',
        '--load-privkey', who + '-key.pem', '--template', who + '.info', '--outfile', who + '-cert.pem', cwd=folder)
