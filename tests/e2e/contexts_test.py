#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""perdure:changed-since and perdure:written-at, asked by nbdinfo, libnbd and a client with extended headers, against
a model of every write: contexts_test.py PERDURED PERDURE"""
import json
import random
import socket
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import nbd
from perdure import Server, Tap, expect, must_hold, run, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
BLOCK = 4096
SIZE = 24 * MIB
SINCE = 'perdure:changed-since='
WRITTEN = 'perdure:written-at'


def connected(server, export, *contexts):
    link = nbd.NBD()
    for context in contexts:
        link.add_meta_context(context)
    link.connect_uri(server.uri(export))
    return link


def newest(server):
    return server.status()['store']['newest']['sequence']


class Model:
    """The number of the store's newest record after the last write of each block."""

    def __init__(self, server, export, seed):
        self.server, self.export, self.random = server, export, random.Random(seed)
        self.blocks = [0] * (SIZE // BLOCK)
        self.moments = [newest(server)]

    def write(self, times):
        link = connected(self.server, self.export)
        for _ in range(times):
            kind = self.random.randrange(4)
            length = self.random.choice((1, 1, 3, 70, 300 if kind else 9))
            first = self.random.randrange(len(self.blocks) - length)
            at, size = first * BLOCK, length * BLOCK
            if kind == 0:
                link.pwrite(self.random.randbytes(size), at)
            elif kind == 1:
                link.trim(size, at)
            elif kind == 2:
                link.zero(size, at)
            else:
                at += 512
                size -= 1024
                link.pwrite(b'p' * size, at)
            self.moments.append(newest(self.server))
            self.blocks[first:first + length] = [self.moments[-1]] * length
        link.shutdown()

    def changed(self, since, blocks=None):
        return [int(number > since) for number in blocks or self.blocks]


def spread(extents):
    """Status by block of pairs of length and status."""
    told = []
    for length, status in extents:
        expect('whole blocks', length % BLOCK, 0)
        told += [status] * (length // BLOCK)
    return told


def by_nbdinfo(server, export, moment):
    told = json.loads(run('nbdinfo', '--json', f'--map={SINCE}{moment}', server.uri(export)))
    return spread((one['length'], one['type']) for one in told)


def status(link, context):
    """All of an export, in as many answers as it takes."""
    found = []

    def take(name, offset, entries, error):
        if name == context:
            take.got += [(entries[i], entries[i + 1]) for i in range(0, len(entries), 2)]
    at = 0
    while at < SIZE:
        take.got = []
        link.block_status(SIZE - at, at, take)
        must_hold('an answer tells something', take.got)
        at += sum(length for length, _ in take.got)
        found += take.got
    return spread(found)


class Extended:
    """A client with extended headers, which libnbd of this system has not."""

    def __init__(self, server, export, *contexts, refused=False):
        self.link = socket.create_connection(('127.0.0.1', server.port), 30)
        self.take(18)
        self.link.sendall(struct.pack('>I', 3))
        self.option(11, b'')
        expect('extended headers', self.reply()[0], 1)
        name = export.encode()
        queries = b''.join(struct.pack('>I', len(one)) + one.encode() for one in contexts)
        self.option(10, struct.pack('>I', len(name)) + name + struct.pack('>I', len(contexts)) + queries)
        self.names, self.error = {}, None
        while True:
            kind, data = self.reply()
            if kind != 4:
                break
            self.names[data[4:].decode()] = struct.unpack('>I', data[:4])[0]
        if refused:
            self.error = (kind & 0x7fffffff, data.decode())
            self.link.close()
            return
        expect('contexts are selected', kind, 1)
        self.option(7, struct.pack('>I', len(name)) + name + struct.pack('>H', 0))
        while self.reply()[0] != 1:
            pass

    def take(self, size):
        data = b''
        while len(data) < size:
            part = self.link.recv(size - len(data))
            must_hold('the connection lives', part)
            data += part
        return data

    def option(self, number, data):
        self.link.sendall(b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data)

    def reply(self):
        _, _, kind, size = struct.unpack('>QIII', self.take(20))
        return kind, self.take(size)

    def status(self):
        """By context: the status of each block."""
        told = {name: [] for name in self.names}
        at = 0
        while at < SIZE:
            self.link.sendall(struct.pack('>IHHQQQ', 0x21e41c71, 0, 7, at, at, SIZE - at))
            covered = set()
            done = 0
            while not done:
                magic, done, kind, cookie, offset, size = struct.unpack('>IHHQQQ', self.take(32))
                data = self.take(size)
                expect('a chunk', (magic, kind, cookie, offset), (0x6e8a278c, 6, at, at))
                number, count = struct.unpack('>II', data[:8])
                extents = [struct.unpack('>QQ', data[8 + 16 * i:24 + 16 * i]) for i in range(count)]
                expect('its size', size, 8 + 16 * count)
                name = next(one for one, its in self.names.items() if its == number)
                told[name] += extents
                covered.add(sum(length for length, _ in extents))
            expect('all contexts tell of the same bytes', len(covered), 1)
            at += covered.pop()
        self.link.close()
        return {name: spread(extents) for name, extents in told.items()}


def against_a_model():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, block_size_bytes=512)
        model = Model(server, 'v', 11)
        model.write(60)
        marked = server.cli('mark', 'v', '--label', 'then')['at']['sequence']
        asked = 0
        for disturbance in (None, 'kill', 'reload', 'cold'):
            server.go_through(disturbance)
            model.write(40)
            for moment in model.random.sample(model.moments, 6) + model.moments[-1:]:
                expect(f'changed since seq:{moment}, {disturbance}', by_nbdinfo(server, 'v', f'seq:{moment}'),
                       model.changed(moment))
                asked += 1
            expect('changed since a mark', by_nbdinfo(server, 'v', 'then'), model.changed(marked))
            expect('changed since now', sum(by_nbdinfo(server, 'v', 'now')), 0)
            since = model.random.choice(model.moments)
            told = Extended(server, 'v', 'base:allocation', f'{SINCE}seq:{since}', WRITTEN).status()
            expect('its changes', told[f'{SINCE}seq:{since}'], model.changed(since))
            written = told[WRITTEN]
            for block, number in enumerate(model.blocks):
                # A request of several records has several numbers, all behind the moment before it.
                before = max([one for one in model.moments if one < number], default=0)
                must_hold(f'block {block} was written at {number}, not {written[block]}',
                          before < written[block] <= number if number else written[block] == 0)
            with_places = connected(server, 'v', 'base:allocation', f'{SINCE}seq:{since}')
            expect('libnbd\'s changes', status(with_places, f'{SINCE}seq:{since}'), model.changed(since))
            expect('the places', status(with_places, 'base:allocation'), told['base:allocation'])
            with_places.shutdown()
        return f'{asked} maps'


def it_outlives_its_engines():
    """A context is selected once; the moment stays what it was."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, block_size_bytes=512)
        model = Model(server, 'v', 5)
        model.write(30)
        since = model.moments[-1]
        context = SINCE + 'now'
        link = connected(server, 'v', context)
        for disturbance in ('kill', 'reload', 'kill'):
            model.write(10)
            server.disturb(disturbance)
            expect(f'after a {disturbance}', status(link, context), model.changed(since))
        link.shutdown()


def images_and_restores():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, block_size_bytes=512)
        model = Model(server, 'v', 7)
        model.write(40)
        middle, kept = model.moments[-1], list(model.blocks)
        model.write(40)
        late = model.moments[-1]
        for moment in model.moments[5:40:11]:
            for export in (f'v@seq:{middle}', f'v@seq:{middle}+rw'):
                expect(f'{export} since {moment}', by_nbdinfo(server, export, f'seq:{moment}'),
                       model.changed(moment, kept))
        refused(server, f'v@seq:{middle}', f'seq:{late}', 3, 'the image shows an earlier moment')
        server.cli('restore', 'v', '--at', f'seq:{middle}')
        model.blocks = kept
        refused(server, 'v', f'seq:{late}', 3, 'a restore took that moment back')
        model.write(10)
        for moment in (model.moments[7], middle, model.moments[-1], model.moments[-4]):
            expect(f'since {moment}, restored', by_nbdinfo(server, 'v', f'seq:{moment}'), model.changed(moment))
        link = connected(server, 'v', f'{SINCE}seq:{model.moments[-4]}')
        server.cli('restore', 'v', '--at', f'seq:{middle}', '--force')
        try:
            status(link, f'{SINCE}seq:{model.moments[-4]}')
            raise AssertionError('changes were told since a moment that a restore took back')
        except nbd.Error as error:
            expect('the error', error.errno, 'EIO')
        expect('and the connection goes on', len(link.pread(BLOCK, 0)), BLOCK)


def refused(server, export, moment, kind, why):
    told = Extended(server, export, 'base:allocation', SINCE + moment, refused=True).error
    expect(f'{moment} is refused', told[0], kind)
    must_hold(f'{told[1]!r} says {why!r}', why in told[1])
    failed = subprocess.run(['nbdinfo', f'--map={SINCE}{moment}', server.uri(export)], check=False,
                            capture_output=True, text=True)
    must_hold('nbdinfo fails', failed.returncode != 0)


def moments_that_cannot_be_had():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, block_size_bytes=512, retain_ns=10**9)
        model = Model(server, 'v', 3)
        model.write(5)
        old = model.moments[1]
        for moment, why in (('seq:999999999', 'the newest write has the number'),
                            ('2499-01-01T00:00:00Z', 'has not come yet'),
                            ('2001-01-01T00:00:00Z', 'kept'),
                            ('never-made', 'never-made'),
                            ('17:99', ''),
                            ('x' * 101, 'not valid')):
            refused(server, 'v', moment, 3, why)
        link = connected(server, 'v', f'{SINCE}seq:{old}')
        expect('while it is promised', status(link, f'{SINCE}seq:{old}'), model.changed(old))
        wait_until('the moment is given up', lambda: gives_up(server, model, old))
        refused(server, 'v', f'seq:{old}', 3, 'keeps its history since')
        try:
            status(link, f'{SINCE}seq:{old}')
            raise AssertionError('changes were told since a moment that is not kept')
        except nbd.Error as error:
            expect('the error', error.errno, 'EINVAL')
        now = model.moments[-1]
        expect('a later one', by_nbdinfo(server, 'v', f'seq:{now}'), model.changed(now))


def gives_up(server, model, moment):
    time.sleep(0.3)
    model.write(1)
    try:
        server.control('clean')
    except (OSError, ValueError):
        pass
    return server.cli('volume', 'show', 'v')['oldest']['sequence'] > moment


def incremental_copies():
    """A copy that is brought up to date by nothing but what has changed is the volume."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, block_size_bytes=512)
        model = Model(server, 'v', 23)
        copy, since, copied = bytearray(SIZE), model.moments[0], 0
        for _ in range(5):
            model.write(12)
            number = newest(server)
            link = connected(server, f'v@seq:{number}', f'{SINCE}seq:{since}')
            for block, changed in enumerate(status(link, f'{SINCE}seq:{since}')):
                if changed:
                    copy[block * BLOCK:(block + 1) * BLOCK] = link.pread(BLOCK, block * BLOCK)
                    copied += 1
            must_hold('the copy is the moment', all(
                bytes(link.pread(MIB, at)) == copy[at:at + MIB] for at in range(0, SIZE, MIB)))
            link.shutdown()
            since = number
        return f'{copied} blocks'


def main():
    tap = Tap()
    tap.case('maps of changes and of last writes are the model\'s', against_a_model)
    tap.case('a connection\'s moment outlives its engines', it_outlives_its_engines)
    tap.case('images, and what a restore took back', images_and_restores)
    tap.case('moments that cannot be had are refused with a sentence', moments_that_cannot_be_had)
    tap.case('a copy by increments is whole', incremental_copies)
    tap.end()


if __name__ == '__main__':
    main()
