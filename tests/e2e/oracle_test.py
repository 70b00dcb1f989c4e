#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Random life of two volumes against a model that remembers every write: oracle_test.py PERDURED PERDURE [STEPS]

Writes, zeroes, trims and flushes by libnbd, several under way at once; marks, images (read-only, writable,
of one or both volumes), exports of a moment, restores whole and by range with their undo; and at any time a
reload, a kill, a restart, or the death of all processes. The present is compared after each of those, a
random moment every few steps, and at the end many moments once more, before and after a cold start.

What was answered is there after a reload, a kill and a restart. If all processes die, the volumes are at
one step in common, not earlier than the last flush. On the posix platform a kill closes connections: then
each change that was not answered has happened whole, or not at all.

PERDURE_SEED chooses another life. A failure is told with the last actions. Reports TAP.
"""
import contextlib
import os
import random
import sys

sys.dont_write_bytecode = True
import nbd
from oracle import Model
from perdure import Server, Tap, expect, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
STEPS = int(sys.argv[3]) if len(sys.argv) > 3 else 500
SEED = int(os.environ.get('PERDURE_SEED', '1'))
SIZE = 1 << 20
BLOCK = 4096  # what the server keeps, whatever the smallest request is
VOLUMES = ('left', 'right')
TOLD_ACTIONS = 40


def difference(got, wanted):
    """Where two disks differ, for a person."""
    places = [at for at in range(0, len(wanted), 512) if got[at:at + 512] != wanted[at:at + 512]]
    return f'{len(places)} sectors differ, the first at {places[0]}: {got[places[0]:][:16].hex()} ' \
        f'instead of {wanted[places[0]:][:16].hex()}'


class Life:
    def __init__(self, server, seed, block):
        self.server, self.block = server, block
        self.random = random.Random(seed)
        self.links, self.images, self.marks = {}, {}, {}
        self.actions, self.names = [], 0
        for name in VOLUMES:
            server.cli('volume', 'create', name, '--size', SIZE, '--block-size', block)
        self.model = Model({name: SIZE for name in VOLUMES}, self.newest())
        self.connect()

    # -- the present --

    def newest(self):
        return self.server.ask('status')['store']['newest']['sequence']

    def connect(self):
        for name in VOLUMES:
            self.links[name] = nbd.NBD()
            self.links[name].connect_uri(self.server.uri(name))

    def read(self, link):
        return b''.join(bytes(link.pread(SIZE // 4, at)) for at in range(0, SIZE, SIZE // 4))

    def compare(self, what, got, wanted):
        if got != wanted:
            raise AssertionError(f'{what}: {difference(got, wanted)}')

    def compare_now(self):
        for name in VOLUMES:
            self.compare(f'{name} now', self.read(self.links[name]), self.model.now[name])

    # -- changes --

    def place(self):
        units = min(SIZE // self.block, self.random.choice((1, 1, 2, 8, 17, 64, 300)))
        count = self.random.randint(1, units)
        first = self.random.randrange(SIZE // self.block - count + 1)
        return first * self.block, count * self.block

    def trimmed(self, name, offset, length):
        """A trim clears whole blocks and leaves parts of blocks as they are."""
        first, end = -(-offset // BLOCK) * BLOCK, (offset + length) // BLOCK * BLOCK
        data = self.model.now[name][offset:offset + length]
        if first < end:
            data[first - offset:end - offset] = bytes(end - first)
        return data

    def begin(self, burst):
        """Changes that do not overlap, all under way together."""
        pending = []
        taken = []
        for _ in range(burst):
            name = self.random.choice(VOLUMES)
            offset, length = self.place()
            if any(other == name and offset < at + n and at < offset + length for other, at, n in taken):
                continue
            taken.append((name, offset, length))
            link = self.links[name]
            kind = self.random.choice(('write', 'write', 'write', 'zero', 'trim'))
            flags = nbd.CMD_FLAG_FUA if self.random.random() < 0.1 else 0
            data = bytes(length)
            if kind == 'write':
                data = self.random.randbytes(length)
                cookie = link.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset, flags=flags)
            elif kind == 'zero':
                cookie = link.aio_zero(length, offset, flags=flags)
            else:
                cookie = link.aio_trim(length, offset, flags=flags)
                data = self.trimmed(name, offset, length)
            pending.append((name, cookie, offset, data))
            self.actions.append(f'{kind} {name} {offset} {length}')
        return pending

    def changed(self, pending):
        """Their order is not known, but they do not overlap: the moment after all of them is."""
        sequence = self.newest()
        for place, (name, _, offset, data) in enumerate(pending):
            self.model.step(name, offset, data, sequence if place == len(pending) - 1 else None)

    def change(self, burst=1, meanwhile=None):
        pending = self.begin(burst)
        if meanwhile:
            meanwhile()
        for name, cookie, _, _ in pending:
            must_hold('the connection is kept', self.is_answered(name, cookie))
        self.changed(pending)

    def is_answered(self, name, cookie):
        """Waits for the answer; False if the connection ends before it."""
        link = self.links[name]
        try:
            while not link.aio_command_completed(cookie):
                link.poll(-1)
            return True
        except nbd.Error:
            must_hold('the connection has ended', not link.aio_is_ready() and not link.aio_is_processing())
            return False

    def flush(self):
        # A flush covers what was answered on any connection to its volume; the log is one for both.
        self.links[self.random.choice(VOLUMES)].flush()
        self.model.durable = self.model.last()
        self.actions.append('flush')

    def mark(self):
        self.names += 1
        label = f'm{self.names}'
        told = self.server.cli('mark', *VOLUMES, '--label', label)
        self.marks[label] = self.model.last()
        self.model.durable = self.model.last()
        self.actions.append(f'mark {label} {told["at"]["sequence"]}')

    # -- the past --

    def some_step(self):
        """A step whose moment is known, and a name for it."""
        labels = [label for label, step in self.marks.items() if step <= self.model.last()]
        if labels and self.random.random() < 0.3:
            label = self.random.choice(labels)
            return self.marks[label], label
        while True:
            step = self.random.randint(0, self.model.last())
            if self.model.reached[step] is not None:
                return step, f'seq:{self.model.reached[step]}'

    def look(self):
        """One moment through its own export."""
        step, moment = self.some_step()
        wanted = self.model.at(step)
        self.actions.append(f'look at {moment}')
        for name in VOLUMES:
            link = nbd.NBD()
            link.connect_uri(self.server.uri(f'{name}@{moment}'))
            self.compare(f'{name}@{moment} (step {step} of {self.model.last()})', self.read(link),
                         wanted[name])
            link.shutdown()

    def open_image(self):
        step, moment = self.some_step()
        self.names += 1
        image = f'i{self.names}'
        names = self.random.choice((VOLUMES, VOLUMES[:1], VOLUMES[1:]))
        writable = self.random.random() < 0.5
        self.actions.append(f'image {image} of {names} at {moment}, writable {writable}')
        self.server.control('image.open', volumes=list(names), at=moment, name=image, writable=writable)
        disks = self.model.at(step)
        self.images[image] = (writable, {name: disks[name] for name in names})

    def use_image(self):
        """Looks at an open image, whatever happened since it was opened; writes to it if it can be."""
        image = self.random.choice(list(self.images))
        writable, disks = self.images[image]
        self.actions.append(f'use image {image}')
        for name, disk in disks.items():
            link = nbd.NBD()
            link.connect_uri(self.server.uri(f'{name}.{image}'))
            self.compare(f'{name}.{image}', self.read(link), disk)
            if writable:
                for _ in range(5):
                    offset, length = self.place()
                    data = self.random.randbytes(length)
                    link.pwrite(data, offset)
                    disk[offset:offset + length] = data
                self.compare(f'{name}.{image}, written', self.read(link), disk)
                link.flush()
            link.shutdown()
        if self.random.random() < 0.4:
            self.server.control('image.close', name=image)
            del self.images[image]
        # Writes to images take sequence numbers too; the volumes do not see them.
        self.model.reached[-1] = self.newest()

    def restore(self):
        step, moment = self.some_step()
        names = self.random.choice((VOLUMES, VOLUMES[:1], VOLUMES[1:]))
        args = {'volumes': list(names), 'at': moment, 'force': True}
        offset, length = 0, SIZE
        if len(names) == 1 and self.random.random() < 0.6:
            length = self.random.randint(1, 64) * BLOCK
            offset = self.random.randrange((SIZE - length) // BLOCK + 1) * BLOCK
            args['range'] = {'offset_bytes': offset, 'length_bytes': length}
        self.actions.append(f'restore {names} {offset}:{length} to {moment}')
        disks = self.model.at(step)
        before = {name: bytes(self.model.now[name][offset:offset + length]) for name in names}
        told = self.server.control('restore', **args)
        self.restored(names, offset, {name: disks[name][offset:offset + length] for name in names})
        if self.random.random() < 0.6:
            self.compare_now()
            args['at'] = f'seq:{told["before"]["sequence"]}'
            self.actions.append(f'undo it: restore to {args["at"]}')
            self.server.control('restore', **args)
            self.restored(names, offset, before)

    def restored(self, names, offset, disks):
        sequence = self.newest()
        for place, name in enumerate(names):
            self.model.step(name, offset, disks[name], sequence if place == len(names) - 1 else None)
        self.model.durable = self.model.last()

    # -- deaths --

    def disturb(self):
        kind = self.random.choice(('reload', 'kill'))
        generation = self.server.generation()
        self.actions.append(f'{kind} with changes under way')
        if kind == 'reload':
            self.change(6, lambda: self.server.process.send_signal(1))
        else:
            pid = self.server.status()['pid']
            if self.server.status()['platform'] == 'posix':
                self.kill_connections(pid)
            else:
                self.change(6, lambda: os.kill(pid, 9))
        self.server.wait_generation(generation)
        self.compare_now()

    def kill_connections(self, pid):
        """A kill that closes connections."""
        pending = self.begin(self.random.choice((1, 6, 12)))
        os.kill(pid, 9)
        happened = [one for one in pending if self.is_answered(*one[:2])]
        unknown = [one for one in pending if one not in happened]
        for link in self.links.values():
            wait_until('the connection ends', lambda link=link: self.has_ended(link))
        self.connect()
        got = {name: self.read(self.links[name]) for name in VOLUMES}
        for one in unknown:
            name, _, offset, data = one
            if got[name][offset:offset + len(data)] == data:
                happened.append(one)
        self.changed(happened)
        self.actions.append(f'{len(pending)} changes, {len(unknown)} not answered, {len(happened)} happened')

    @staticmethod
    def has_ended(link):
        with contextlib.suppress(nbd.Error):
            link.poll(0)
        return link.aio_is_dead() or link.aio_is_closed()

    def restart(self):
        self.actions.append('restart')
        for link in self.links.values():
            link.shutdown()
        self.server.restart()
        self.connect()
        self.compare_now()

    def cold(self):
        self.actions.append(f'all processes die; durable is step {self.model.durable} of {self.model.last()}')
        self.server.kill_all()
        self.server.start()
        self.connect()
        got = {name: self.read(self.links[name]) for name in VOLUMES}
        for step in range(self.model.last(), self.model.durable - 1, -1):
            if all(self.model.at(step)[name] == got[name] for name in VOLUMES):
                break
        else:
            self.compare_now()
            raise AssertionError('the volumes are at no step that they may be at')
        self.model.cut(step)
        # New numbers lie beyond all that were handed out.
        self.model.reached[-1] = self.newest()
        self.model.durable = step

    # -- all of it --

    def live(self, steps):
        weights = ((self.change, 40), (lambda: self.change(self.random.randint(2, 12)), 15), (self.flush, 6),
                   (self.mark, 4), (self.look, 12), (self.open_image, 4), (self.use_image, 6),
                   (self.restore, 4), (self.disturb, 3), (self.restart, 1), (self.cold, 1))
        actions, shares = [one[0] for one in weights], [one[1] for one in weights]
        for _ in range(steps):
            action = self.random.choices(actions, shares)[0]
            if action == self.use_image and not self.images:
                continue
            action()
        self.compare_now()
        self.flush()
        for again in (lambda: None, self.server.restart, self.server.cold):
            for link in self.links.values():
                link.shutdown()
            again()
            self.connect()
            self.compare_now()
            for _ in range(10):
                self.look()
            for _ in range(len(self.images)):
                self.use_image()

    def run(self, steps):
        try:
            self.live(steps)
        except Exception:
            print('# the last actions:')
            for action in self.actions[-TOLD_ACTIONS:]:
                print('#  ', action)
            raise
        return f'{self.model.last()} changes, {len(self.actions)} actions'


def life(seed, block):
    with Server(PROGRAMS, '--set', 'shadow=1') as server:
        try:
            told = Life(server, seed, block).run(STEPS)
        except Exception:
            for line in server.log().splitlines()[-25:]:
                print('# server:', line)
            raise
        expect('exit status', server.stop(), 0)
        must_hold('no broken invariant', 'broken invariant' not in server.log())
        return told


def main():
    tap = Tap()
    for number in range(2):
        for block in (512, 4096):
            seed = 100 * SEED + number
            tap.case(f'blocks of {block} bytes, seed {seed}', life, seed, block)
    tap.end()


if __name__ == '__main__':
    main()
