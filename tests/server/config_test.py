#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What perdured takes and refuses, and that its documents say so.

usage: config_test.py PERDURED TREE

No server starts: without a store, arguments that are right end in "no store is named".
"""
import os
import re
import string
import subprocess
import sys
import tempfile
import unittest

PERDURED, TREE = sys.argv[1:3]


def perdured(*words):
    done = subprocess.run([PERDURED, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


def read(*path):
    with open(os.path.join(TREE, *path), encoding='utf-8') as file:
        return file.read()


def is_taken(*words):
    status, text = perdured(*words)
    assert status == 2, (words, status, text)
    return 'no store is named' in text


def known_options():
    """What getopt knows: it completes each first letter, or lists what it may stand for."""
    found = set()
    for letter in string.ascii_lowercase:
        text = perdured('--' + letter)[1]
        if text.startswith('usage:'):
            found.add('help')
        elif re.match(r'perdured [0-9.]+$', text):
            found.add('version')
        elif 'unrecognized' not in text:
            found |= set(re.findall(r"'--([a-z-]{2,})'", text))
    return found


# name: (smallest, largest, default), as perdured --help tells them.
NUMBERS = {name: (smallest, largest, default) for name, default, smallest, largest in
           re.findall(r'^  ([a-z-]+) +(\w+) +\((?:(\w+) to (\w+)|any)\)', perdured('--help')[1],
                      re.M)}
TLS = {'nbd.tls', 'nbd.tls-certificates', 'nbd.tls-verify-peer', 'nbd.tls-psk'}
KEYS = {'store', 'nbd', 'control', 'platform'} | TLS | set(NUMBERS)


def value(text):
    return int(text[:-1]) << {'M': 20, 'G': 30}[text[-1]] if text[-1] in 'MG' else int(text)


class Documents(unittest.TestCase):
    def test_options(self):
        known = known_options()
        self.assertIn('store', known)
        manual = set(re.findall(r'^\.It Fl -([a-z]+)', read('src/server/perdured.8'), re.M))
        page = set(re.findall(r'^\| `--([a-z]+)', read('docs/configuration.md'), re.M))
        told = set(re.findall(r'^  --([a-z]+)', perdured('--help')[1], re.M))
        self.assertEqual((manual, page, told), (known, known, known))

    def test_keys(self):
        self.assertGreater(len(NUMBERS), 4)
        manual = set(re.findall(r'^\.It Cm ([a-z.-]+)', read('src/server/perdured.8'), re.M))
        page = set(re.findall(r'^\| `([a-z][a-z.-]*)`', read('docs/configuration.md'), re.M))
        self.assertEqual((manual, page), (KEYS, KEYS))
        self.assertEqual(set(re.findall(r'^  (nbd\.[a-z-]+)', perdured('--help')[1], re.M)), TLS)

    def test_bounds(self):
        page = {name: (smallest, largest, default) for name, smallest, largest, default in
                re.findall(r'^\| `([a-z-]+)` \| (\w*) ?\| (\w*) ?\| (\w+) \|',
                           read('docs/configuration.md'), re.M)}
        self.assertEqual(page, NUMBERS)
        items = dict(re.findall(r'^\.It Cm ([a-z-]+)\n((?:[^.].*\n)+)',
                                read('src/server/perdured.8'), re.M))
        for name, (smallest, largest, default) in NUMBERS.items():
            text = f'{smallest} to {largest}, otherwise {default}' if largest else \
                f'otherwise {default}'
            self.assertIn(text, items[name])


class Values(unittest.TestCase):
    def test_bounds_hold(self):
        for name, (smallest, largest, default) in NUMBERS.items():
            with self.subTest(name):
                self.assertTrue(is_taken('--set', f'{name}={default}'))
                self.assertFalse(is_taken('--set', f'{name}=many'))
                if largest:
                    low, high = value(smallest), value(largest)
                    self.assertTrue(is_taken('--set', f'{name}={low}'))
                    self.assertTrue(is_taken('--set', f'{name}={high}'))
                    self.assertFalse(is_taken('--set', f'{name}={low - 1}'))
                    self.assertFalse(is_taken('--set', f'{name}={high + 1}'))

    def test_refusals(self):
        for words, text in [
                (['--set', 'colour=red'], 'there is no such key; perdured --help lists them'),
                (['--set', 'connections=0'], 'not a whole number from 1 to 65536'),
                (['--set', 'buffers=1M'], 'not a size from 80M to 512G'),
                (['--set', 'buffers'], 'not KEY=VALUE'),
                (['--set', 'nbd.tls=yes'], 'there are off, on and require'),
                (['--set', 'nbd.tls-verify-peer=on'], 'there are yes and no'),
                (['--set', 'nbd.colour=red'], 'there is no such key'),
                (['--store', '/nowhere', '--set', 'nbd.tls=on'], 'nothing proves who this server is'),
                (['--store', '/nowhere', '--set', 'nbd.tls-verify-peer=yes'], 'there is no authority'),
                (['--control', 'x' * 200], 'the path is too long'),
                (['--nbd', '127.0.0.1:1'] * 9, 'more than 8 addresses'),
                (['--wrong'], 'perdured --help lists the options'),
                (['word'], 'unexpected word; see perdured --help')]:
            with self.subTest(words):
                status, told = perdured(*words)
                self.assertEqual(status, 2)
                self.assertIn(text, told)

    def test_addresses(self):
        for address in ['127.0.0.1:10809', '0.0.0.0:0', '[::1]:65535', 'unix:/run/nbd.sock']:
            with self.subTest(address):
                self.assertTrue(is_taken('--nbd', address))
        for address in ['', '127.0.0.1', '127.0.0.1:', '127.0.0.1:99999', '127.0.0.1:x', ':10809',
                        '300.1.1.1:1', '::1:10809', 'localhost:10809', 'unix:',
                        'unix:/' + 'x' * 108]:
            with self.subTest(address), tempfile.TemporaryDirectory() as folder:
                store = os.path.join(folder, 'store')
                status, told = perdured('--store', store, '--nbd', address)
                self.assertEqual(status, 2)
                self.assertIn('not an address; write one as 127.0.0.1:10809, [::1]:10809 or unix:/',
                              told)
                self.assertFalse(os.path.exists(store))

    def test_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'perdured.conf')
            for lines, text in [
                    ('# all\n[server]\nbuffers = 100M ; enough\nnbd = 127.0.0.1:1\nnbd = [::1]:2\n', None),
                    ('[server]\n\nbuffers = 1M\n', 'line 3: [server] buffers = 1M: not a size'),
                    ('[server]\ncolour = red\n', 'line 2: [server] colour = red: there is no such key'),
                    ('[nbd]\ntls = on\ntls-psk = /k\n', None),
                    ('[nbd]\ntls = maybe\n', 'line 2: [nbd] tls = maybe: there are off, on and require'),
                    ('[server]\nnbd.tls = on\n', 'there is no such key'),
                    ('[nbd]\nbuffers = 1G\n', 'there is no such key'),
                    ('[client]\nbuffers = 1G\n', 'keys stand in sections [server] and [nbd] only'),
                    ('[server]\nnbd = 1.2.3.4 ; :5\n', 'nbd = 1.2.3.4: not an address'),
                    ('[server]\nrubbish\n', 'line 2: neither [SECTION] nor KEY = VALUE')]:
                with self.subTest(lines):
                    with open(path, 'w', encoding='utf-8') as file:
                        file.write(lines)
                    status, told = perdured('--config', path)
                    self.assertEqual(status, 2)
                    self.assertIn(text or 'no store is named', told)
            for missing, text in [(path + 'x', 'No such file'), (folder, 'Is a directory')]:
                self.assertIn(text, perdured('--config', missing)[1])


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
