#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a golden arena: make.py NAME PERDURED PERDURE DUMP

Starts the server, has it do some of everything, stops it in the middle, and writes what lies in its arena to
NAME.arena.xz beside this file, and what it means, by the server's own build of dump, to NAME.txt.xz. A golden
arena is made once, when a layout is released (docs/reload.md), and never again.
"""
import lzma
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../e2e'))
import nbd
from golden import pack, unpack
from perdure import Server, wait_until

SMALL = [word for pair in ('buffers=80M', 'block-table=1M', 'connections=64', 'requests=256', 'segments=64')
         for word in ('--set', pair)]
SIZE = 1 << 20


def work(server):
    """Leaves slots in every table that can have some; the connections that stay."""
    for name in 'ab':
        server.cli('volume', 'create', name, '--size', SIZE, '--block-size', 512)
    links = []
    for number in range(6):
        link = nbd.NBD()
        link.connect_uri(server.uri('ab'[number % 2]))
        link.pwrite(bytes([number]) * 3072, number * 5120, nbd.CMD_FLAG_FUA)
        links.append(link)
    server.cli('mark', 'create', 'a', '--label', 'golden')
    server.cli('image', 'open', 'a', '--at', 'golden', '--name', 'past')
    links.pop(2).shutdown()
    wait_until('it has gone', lambda: server.status()['connections'] == 5)
    # Half a handshake, and half a write.
    half = socket.create_connection(('127.0.0.1', server.port))
    half.sendall(struct.pack('>I', 3) + b'IHAVEOPT\0')
    plain = socket.create_connection(('127.0.0.1', server.port))
    plain.recv(18, socket.MSG_WAITALL)
    plain.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, 1) + b'b')
    plain.recv(10, socket.MSG_WAITALL)
    plain.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 77, 8192, 4096) + b'golden' * 100)
    wait_until('all is received', lambda: any(
        one['in_flight'] for one in server.ask('connections')['connections']))
    return links, half, plain


def main():
    name, perdured, perdure, dump = sys.argv[1:5]
    with Server((perdured, perdure), *SMALL) as server:
        kept = work(server)
        pid = server.status()['pid']
        os.kill(pid, signal.SIGSTOP)
        folder = f'/proc/{pid}/fd'
        path = next(f'{folder}/{fd}' for fd in os.listdir(folder)
                    if os.readlink(f'{folder}/{fd}').startswith('/memfd:perdure-arena'))
        with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as arena:
            packed = pack(arena)
        os.kill(pid, signal.SIGCONT)
        del kept
    to = os.path.join(HERE, name)
    with open(to + '.arena.xz', 'wb') as file:
        file.write(packed)
    with tempfile.NamedTemporaryFile(prefix='perdure-golden-') as file:
        unpack(packed, file)
        said = subprocess.run([dump, file.name], stdout=subprocess.PIPE, check=True).stdout
    with open(to + '.txt.xz', 'wb') as file:
        file.write(lzma.compress(said, preset=9 | lzma.PRESET_EXTREME))
    print(f'{name}: {len(packed)} bytes, {said.count(b" generation ")} slots')


main()
