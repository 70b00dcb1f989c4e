#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libperdure-persist as it is installed: install_test.py BUILD SOURCE CC...

A program outside the tree builds with what pkg-config says, shared and static, and runs; header, libraries, manual
page and version script name the same functions and nothing else.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

BUILD, SOURCE, *CC = sys.argv[1:]


def said(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)}: {done.stdout[-2000:]}')
    return done.stdout


def find(root, name):
    for folder, _, names in os.walk(root):
        if name in names:
            return os.path.join(folder, name)
    raise RuntimeError(f'{name} is not installed')


def serves(program, env):
    """Begins, answers a line before and after a kill, ends."""
    server = subprocess.Popen([program, '127.0.0.1:0'], stderr=subprocess.PIPE, text=True, env=env)
    try:
        line = server.stderr.readline().split()
        client = socket.create_connection(('127.0.0.1', int(line[4])), 10)
        client.settimeout(10)
        for _ in range(2):
            client.sendall(b'a line\n')
            got = b''
            while len(got) < 7:
                more = client.recv(100)
                if not more:
                    raise RuntimeError('the connection ended')
                got += more
            if got != b'a line\n':
                raise RuntimeError(f'{got} came back')
            os.kill(int(line[2]), signal.SIGKILL)
            line = server.stderr.readline().split()
    finally:
        server.terminate()
        server.wait(10)


def names(text):
    return {n for n in re.findall(r'\b(perdure_\w+)\b', text)}


def exported(listing):
    return {line.split()[-1].split('@')[0] for line in listing.splitlines()
            if re.search(r' [BCDRTVW] ', line)}


def main():
    with tempfile.TemporaryDirectory(prefix='perdure-install-') as root:
        said('meson', 'install', '-C', BUILD, '--no-rebuild', '--destdir', root)
        pc = find(root, 'perdure-persist.pc')
        header = find(root, 'persist.h')
        shared, static = find(root, 'libperdure-persist.so'), find(root, 'libperdure-persist.a')
        page = find(root, 'perdure-persist.3')
        prefix = header[:header.index('/include/')]
        env = dict(os.environ, PKG_CONFIG_PATH=os.path.dirname(pc))
        config = ['pkg-config', f'--define-variable=prefix={prefix}']

        def flags(*options):
            return said(*config, *options, 'perdure-persist', env=env).split()
        source = os.path.join(root, 'echo.c')
        with open(source, 'w', encoding='utf-8') as out, \
                open(os.path.join(SOURCE, 'examples/echo.c'), encoding='utf-8') as text:
            out.write(text.read())
        strict = [*CC, '-std=c99', '-pedantic', '-Wall', '-Wextra', '-Werror', '-fsyntax-only', '-x', 'c', header]
        program = os.path.join(root, 'echo')

        def build_shared():
            said(*CC, '-D_GNU_SOURCE', source, *flags('--cflags', '--libs'), '-o', program, cwd=root)
            serves(program, dict(os.environ, LD_LIBRARY_PATH=os.path.dirname(shared)))

        def build_static():
            said(*CC, '-D_GNU_SOURCE', source, *flags('--cflags'), static,
                 *[f for f in flags('--static', '--libs') if f != '-lperdure-persist'], '-o', program, cwd=root)
            if 'perdure-persist' in said('ldd', program):
                raise RuntimeError('the static program wants the shared library')
            serves(program, dict(os.environ))

        with open(header, encoding='utf-8') as file:
            text = re.sub(r'/\*.*?\*/', '', file.read(), flags=re.S)
        declared = {n for n in re.findall(r'(perdure_\w+)\(', text)}

        def same(what, got):
            if got != declared or not declared:
                raise RuntimeError(f'{what}: too many {sorted(got - declared)}, missing {sorted(declared - got)}')

        def manual():
            with open(page, encoding='utf-8') as file:
                written = names(file.read().replace('\\-', '-'))
            missing = declared - written
            if missing:
                raise RuntimeError(f'the manual page does not name {sorted(missing)}')
        cases = [('a program builds against the shared library and runs', build_shared),
                 ('a program builds against the static library and runs', build_static),
                 ('the header is plain C', lambda: said(*strict)),
                 ('the shared library shows what the header declares',
                  lambda: same(shared, exported(said('nm', '-D', '--defined-only', shared)))),
                 ('the static library shows what the header declares',
                  lambda: same(static, exported(said('nm', '-g', '--defined-only', static)))),
                 ('the manual page names every function', manual)]
        print(f'1..{len(cases)}')
        failed = 0
        for number, (name, case) in enumerate(cases, 1):
            try:
                case()
                print(f'ok {number} - {name}')
            except (RuntimeError, OSError, IndexError) as fault:
                failed += 1
                print('\n'.join('# ' + line for line in str(fault).splitlines()))
                print(f'not ok {number} - {name}')
        sys.exit(failed > 0)


main()
