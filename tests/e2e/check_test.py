#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""perdured --check on stores of a real server: a whole one has no finding, however its server ended; a byte
flipped in any file is found and named; and a server on such a store gives what was written, or an error.
PERDURE_EVERY_BYTE=1 flips many more."""
import json
import os
import subprocess
import sys
import zlib

from perdure import Refused, Server, Tap, must_hold, run

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
SEGMENT = 64 * MIB
BLOCK = 4096
MANY = os.environ.get('PERDURE_EVERY_BYTE') == '1'


def check(store, *more, status=0):
    """What the check finds, as it tells programs."""
    return json.loads(run(PROGRAMS[1], 'check', *more, '--json', store, status=status))


def write(server, pattern, offset, length):
    run('qemu-io', '-f', 'raw', '-c', f'write -P {pattern} {offset} {length}', '-c', 'flush', server.uri('v'))


def fill(server):
    """A history of three marked moments over two sealed segments and one that is not."""
    server.ask('volume.create', name='v', size_bytes=1 << 30)
    for number, label in enumerate(('one', 'two', 'three')):
        write(server, number + 1, 0, MIB)
        write(server, number + 11, 2 * MIB + number * BLOCK, 64 * 1024)
        server.cli('mark', 'v', '--label', label)
        if number < 2:
            write(server, number + 21, 100 * MIB, 64 * MIB)


def holds(server, moment, pattern, offset, length):
    """'right' or 'refused'; anything else is wrong data."""
    done = subprocess.run(['qemu-io', '-r', '-f', 'raw', '-c', f'read -P {pattern} {offset} {length}',
                           server.uri(f'v@{moment}' if moment else 'v')], check=False,
                          capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert 'verification failed' not in said, (moment, pattern, said)
    return 'right' if done.returncode == 0 and 'read ' in said and 'failed' not in said else 'refused'


def read_all(server):
    answers = []
    refused = server.control('volume.show', name='v')['state'] == 'refused'
    for number, label in enumerate(('one', 'two', 'three')):
        answers.append(holds(server, label, number + 1, 0, MIB))
        answers.append(holds(server, label, number + 11, 2 * MIB + number * BLOCK, 64 * 1024))
    answers.append(holds(server, None, 3, 0, MIB))
    must_hold((refused, answers), not refused or set(answers) == {'refused'})
    return answers


def digest(store):
    """A change of one byte changes a CRC for sure, and others but for one in 2^32."""
    sums, part = {}, bytearray(MIB)
    for folder, _, names in os.walk(store):
        for name in names:
            path = os.path.join(folder, name)
            crc = 0
            with open(path, 'rb', buffering=0) as file:
                while count := file.readinto(part):
                    crc = zlib.crc32(memoryview(part)[:count], crc)
            sums[path] = (crc, os.path.getsize(path))
    return sums


class Flipped:
    """A byte of a file is another one as long as this lasts."""

    def __init__(self, path, offset):
        self.path, self.offset = path, offset

    def turn(self):
        with open(self.path, 'r+b') as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ 0x10]))

    def __enter__(self):
        self.turn()

    def __exit__(self, *_):
        self.turn()


def slots(store):
    folder = os.path.join(store, 'log')
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def frames(path):
    with open(path, 'rb') as file:
        held = file.read()
    return [at for at in range(0, len(held), BLOCK) if held[at:at + 8] == b'PrdFrame']


def block_of(path, pattern):
    with open(path, 'rb') as file:
        held = file.read()
    return next(at for at in range(0, len(held), BLOCK) if held[at:at + BLOCK] == bytes([pattern]) * BLOCK)


def footers(store):
    """(path, end of the frames, offset and bytes of the run) of each sealed segment, oldest first."""
    found = []
    for path in slots(store):
        with open(path, 'rb') as file:
            file.seek(SEGMENT - BLOCK)
            block = file.read(BLOCK)
        if block[:8] == b'PrdFootr':
            words = [int.from_bytes(block[at:at + 4], 'little') for at in (32, 40, 44, 48)]
            found.append((words[0], path, *words[1:]))
    return [one[1:] for one in sorted(found)]


def whole(server):
    fill(server)
    said = run(PROGRAMS[1], 'check', server.store, status=4)
    must_hold(said, 'a server has the store' in said)
    for disturbance in ('kill', 'reload'):
        server.disturb(disturbance)
    server.cold()
    for end in (server.kill_all, server.stop):
        end()
        before = digest(server.store)
        found = check(server.store)
        must_hold(found, found['clean'] and not found['findings'] and found['looked_at']['blocks'] > 32768)
        must_hold('nothing changed', digest(server.store) == before)
        if end == server.kill_all:
            server.start()
    said = run(PROGRAMS[0], '--check', '--store', os.path.join(server.store, 'log'), status=3)
    must_hold(said, 'no store' in said)


def places(store):
    """One of each kind: (what, file, offset, what names it)."""
    sealed = footers(store)
    path, end, run_offset, run_bytes = sealed[0]
    yield 'slot header', path, 40, {'segment_header'}
    yield 'frame header', path, BLOCK + 100, {'frame'}
    yield 'record', path, BLOCK + 200, {'frame'}
    yield 'data', path, 5 * BLOCK + 77, {'block'}
    yield 'late data', path, end - 77, {'block'}
    yield 'run header', path, run_offset + 60, {'run'}
    yield 'run leaf', path, run_offset + run_bytes - BLOCK + 30, {'run'}
    yield 'footer', path, SEGMENT - BLOCK + 70, {'footer'}
    yield 'footer magic', path, SEGMENT - BLOCK, {'footer'}
    yield 'footer end', path, SEGMENT - 1, {'footer'}
    yield 'store header', os.path.join(store, 'store'), 90, {'store_header'}
    yield 'store header copy', os.path.join(store, 'store'), BLOCK + 3000, {'store_header'}
    tail = next(path for path in slots(store) if path not in {one[0] for one in sealed} and frames(path))
    for at in frames(tail):
        yield 'last frame', tail, at + 60, {'frame', 'chain', 'log_end'}
    yield 'last data', tail, block_of(tail, 3) + 60, {'block'}
    catalogue = os.path.join(store, 'catalogue.db')
    for offset in range(5, os.path.getsize(catalogue), 509 if MANY else 16411):
        yield 'catalogue', catalogue, offset, {'catalogue'}
    if MANY:
        for offset in range(BLOCK, end, 65537):
            yield 'frames', path, offset, {'frame', 'block'}
        for offset in range(run_offset, run_offset + run_bytes, 127):
            yield 'run', path, offset, {'run'}


def flips_are_named(server):
    count = 0
    for what, path, offset, codes in places(server.store):
        with Flipped(path, offset):
            found = check(server.store, status=9)
        names = {one['code'] for one in found['findings']}
        must_hold((what, offset, found['findings'], names), names & codes and not found['clean'])
        one = next(one for one in found['findings'] if one['code'] in codes)
        must_hold((what, one), os.path.join(server.store, one['file']) == path)
        if what in ('data', 'late data', 'run leaf'):
            must_hold(one, one['volumes'] == ['v'])
        count += 1
    must_hold('whole again', check(server.store)['clean'])
    return f'{count} flips'


def a_run_is_repaired(server):
    path, _, run_offset, _ = footers(server.store)[0]
    before = digest(server.store)
    Flipped(path, run_offset + 300).turn()
    found = check(server.store, '--repair', status=9)['findings']
    must_hold(found, len(found) == 1 and found[0]['repaired'])
    must_hold('as it was', digest(server.store) == before)
    must_hold('whole', check(server.store)['clean'])


class Copies:
    """Makes a store what a copy of it is, again and again: files that were not touched since are left as they are."""

    def __init__(self, copy, store):
        self.copy, self.store, self.made = copy, store, {}

    @staticmethod
    def files(folder):
        return {os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder) for name in names}

    def state(self, name):
        stat = os.stat(os.path.join(self.store, name))
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def restore(self):
        for name in self.files(self.store) - self.files(self.copy):
            os.remove(os.path.join(self.store, name))
        for name in self.files(self.copy):
            to = os.path.join(self.store, name)
            if os.path.exists(to) and self.made.get(name) == self.state(name):
                continue
            os.makedirs(os.path.dirname(to), exist_ok=True)
            run('cp', '--sparse=always', os.path.join(self.copy, name), to)
            self.made[name] = self.state(name)


def flips_are_never_read(server):
    """Whoever reads gets what was written, or an error; moments that have nothing to do with it are right."""
    kinds = {'frame header', 'data', 'run header', 'run leaf', 'footer', 'store header', 'last frame', 'last data'}
    told, seen, again = [], [], 0
    copy = os.path.join(server.dir, 'copy')
    os.rename(server.store, copy)
    copies = Copies(copy, server.store)
    for what, path, offset, _ in [('nothing', None, 0, None), *places(copy)]:
        seen.append(what)
        if seen.count(what) > (20 if MANY else 2) or not (MANY or what in kinds | {'nothing'}):
            continue
        copies.restore()
        if path:
            Flipped(path.replace(copy, server.store), offset).turn()
        try:
            server.start()
        except AssertionError:
            must_hold((what, 'refused with a reason'), what == 'catalogue')
            continue
        answers = read_all(server)
        told.append(f'{what}: {answers.count("refused")} refused')
        must_hold((what, answers), 'right' in answers or what == 'last frame')
        must_hold((what, answers), what != 'nothing' or 'refused' not in answers)
        must_hold((what, answers), what not in ('data', 'last data', 'run header') or 'refused' in answers)
        if 'right' not in answers:
            server.cli('volume', 'accept-loss', 'v')
            must_hold('served again', holds(server, 'one', 1, 0, MIB) == 'right')
            server.kill_all()
            server.start()
            must_hold('a loss that people know is not declared again', server.ask('volume.show', name='v')['state'] == 'serving')
            again += 1
        server.kill_all()
    must_hold('some losses were declared', again > 0)
    return '; '.join(told)


def main():
    tap = Tap()
    with Server(PROGRAMS) as server:
        tap.case('a whole store has no finding, and does not change', whole, server)
        tap.case('a flipped byte is found, and its file and volume are named', flips_are_named, server)
        tap.case('a damaged run is made again of the frames', a_run_is_repaired, server)
        tap.case('a flipped byte is never read', flips_are_never_read, server)
    tap.end()


if __name__ == '__main__':
    main()
