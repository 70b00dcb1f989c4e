#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Answered writes that are in no log when an engine must start cold: cold_test.py PERDURED PERDURED_POINTS PERDURE STALL

stall.c keeps the log's writes from the disk while clients write and are answered. Then the engine is killed
and its arena does not qualify, as this test has changed its header, or as too many engines died in it. The
successor starts cold, closes the connections, and writes what was answered from the dead arena to the log:
every write is there, and status, log and alerts tell what happened. If the dead arena is so damaged that not
all of it can be read, volumes are refused until a person accepts the loss; what was flushed is there, and of
the rest a prefix. Reports TAP.
"""
import contextlib
import os
import random
import signal
import sys
import tempfile

sys.dont_write_bytecode = True
import nbd
from arena import Arena
from perdure import Server, Tap, expect, must_hold, run, wait_until
from points import ANY_STORE, ATTACHING, SERVING, Points

PERDURED, PERDURED_POINTS, PERDURE, STALL = sys.argv[1:5]
SEED = int(os.environ.get('PERDURE_SEED', '1'))
KIB, MIB = 1 << 10, 1 << 20
SIZE = 32 * MIB


class World:
    """A server whose disk can be stalled, and two volumes of which every answered write is known."""

    def __init__(self, server):
        self.server = server
        self.random = random.Random(SEED)
        self.states = [{'a': bytes(SIZE), 'b': bytes(SIZE)}]
        self.writes = []
        for name in 'ab':
            server.cli('volume', 'create', name, '--size', SIZE)
        self.connect()

    def connect(self):
        self.links = {}
        for name in 'ab':
            self.links[name] = nbd.NBD()
            self.links[name].connect_uri(self.server.uri(name))

    def write(self, count):
        """Answered writes; they overlap here and there. Whole blocks: parts would wait for reads."""
        now = {name: bytearray(disk) for name, disk in self.states[-1].items()}
        for _ in range(count):
            name = self.random.choice('ab')
            length = self.random.choice((4 * KIB, 20 * KIB, 128 * KIB))
            at = self.random.randrange((SIZE - length) // 4096) * 4096
            data = self.random.randbytes(length)
            self.links[name].pwrite(data, at)
            now[name][at:at + length] = data
            self.writes.append((name, at, data))
        self.states.append({name: bytes(disk) for name, disk in now.items()})

    def flush(self):
        for link in self.links.values():
            link.flush()

    def read(self, name):
        return b''.join(bytes(self.links[name].pread(MIB, at)) for at in range(0, SIZE, MIB))

    def holds(self, state):
        for name in 'ab':
            must_hold(f'volume {name} holds what was answered', self.read(name) == state[name])

    def prefixes(self, base, writes):
        """The states after each of the writes."""
        now = {name: bytearray(disk) for name, disk in base.items()}
        yield now
        for name, at, data in writes:
            now[name][at:at + len(data)] = data
            yield now

    def unlogged(self, count):
        """Writes that are answered while the disk takes nothing."""
        self.write(20)
        self.flush()
        durable = len(self.writes)
        with open(os.environ['PERDURE_STALL'], 'w', encoding='utf-8'):
            pass
        self.write(count)
        status = self.server.status()['store']
        must_hold('there is much that no log has',
                  status['newest']['sequence'] - status['durable_sequence'] >= count)
        return durable

    def flow(self):
        os.remove(os.environ['PERDURE_STALL'])

    def kill(self, change):
        """The engine dies in a changed arena; the log's writes have not been taken."""
        pid = self.server.status()['pid']
        os.kill(pid, signal.SIGSTOP)
        arena = Arena(pid)
        change(arena)
        arena.close()
        self.flow()
        os.kill(pid, signal.SIGKILL)

    def began_cold(self, why):
        """A later engine serves on a new arena, and says so; the connections are closed."""
        status = self.server.wait_generation(1)
        expect('how the engine began', status['reload']['kind'], 'cold')
        must_hold('status says why', status['reload']['reason'].startswith(why))
        must_hold('the log says why', f'starting cold, as {why}' in self.server.log())
        alerts = {alert['code']: alert['text'] for alert in self.server.ask('alerts')['alerts']}
        must_hold(f'an alert says why: {alerts}', why in alerts.get('cold_start', ''))
        for link in self.links.values():
            with contextlib.suppress(nbd.Error):
                link.pread(512, 0)
                raise AssertionError('a connection outlived its arena')
        return alerts

    def saved(self):
        frames = int(self.server.log().rsplit('torn frames cut, ', 1)[1].split(' ')[0])
        must_hold('frames were saved from memory', frames > 0)
        return frames

    def everything_is_there(self):
        frames = self.saved()
        for again in (lambda: None, lambda: self.server.disturb('kill'), self.server.restart, self.server.cold):
            again()
            self.connect()
            self.holds(self.states[-1])
        for name in 'ab':
            expect('state', self.server.cli('volume', 'show', name)['state'], 'serving')
        return f'{frames} frames saved'


@contextlib.contextmanager
def world(perdured=PERDURED):
    with Server((perdured, PERDURE), '--set', 'submit-age-us=0') as server:
        yield World(server)


def unfit(change, why):
    with world() as w:
        w.unlogged(300)
        w.kill(change)
        w.began_cold(why)
        return w.everything_is_there()


def deaths():
    with Points(PERDURED_POINTS) as points, world(PERDURED_POINTS) as w:
        w.unlogged(100)
        w.server.disturb('kill')  # an attach, to know how many stores it takes
        middle = points.attach_stores() // 2
        points.order(ATTACHING, 4, middle, ANY_STORE, (middle, ANY_STORE))
        points.order(SERVING, 1)
        wait_until('five engines have died', lambda: points.deaths(SERVING) == 1 and points.deaths(ATTACHING) == 4)
        w.flow()
        w.server.wait_generation(6)
        w.began_cold('too many engines in a row died without committing a turn')
        return w.everything_is_there()


def image_is_served(w, export, served):
    """What it holds, or that it is refused."""
    link = nbd.NBD()
    try:
        link.connect_uri(w.server.uri(export))
    except nbd.Error:
        must_hold(f'{export} is served', not served)
        return None
    must_hold(f'{export} is refused', served)
    return b''.join(bytes(link.pread(MIB, at)) for at in range(0, SIZE, MIB))


def refused(w):
    """No volume is served; a person must accept the loss, and a restart does not do it for him."""
    for again in (lambda: None, lambda: w.server.disturb('kill'), w.server.restart, w.server.cold):
        again()
        for name in 'ab':
            shown = w.server.cli('volume', 'show', name)
            expect('state', shown['state'], 'refused')
            must_hold('a reason is told', 'accept-loss' in shown['reason'])
            try:
                nbd.NBD().connect_uri(w.server.uri(name))
            except nbd.Error:
                continue
            raise AssertionError(f'volume {name} is served')
    for name in 'ab':
        image_is_served(w, 'b.draft', False)
        w.server.cli('volume', 'accept-loss', name)
        expect('state', w.server.cli('volume', 'show', name)['state'], 'serving')
    image_is_served(w, 'b.draft', True)
    w.connect()


def prefix(w, durable):
    """Which of the answered writes are there: the first so many."""
    now = {name: w.read(name) for name in 'ab'}
    for count, state in enumerate(w.prefixes(w.states[-2], w.writes[durable:])):
        if all(now[name] == state[name] for name in 'ab'):
            return count
    raise AssertionError('the volumes hold no prefix of what was answered')


def lost(change, why, least, most):
    with world() as w:
        w.write(20)
        w.flush()
        w.server.cli('image', 'open', 'b', '--at', 'now', '--name', 'past')
        w.server.cli('image', 'open', 'b', '--at', 'now', '--name', 'draft', '--writable')
        past = w.states[-1]['b']
        durable = w.unlogged(300)
        w.kill(lambda arena: change(w, arena))
        alerts = w.began_cold(why)
        expect('an image that is only read', image_is_served(w, 'b.past', True), past)
        must_hold(f'an alert tells the loss: {alerts}', 'answered_writes_lost' in alerts)
        refused(w)
        there = prefix(w, durable)
        must_hold(f'{there} of 300 writes are there', least <= there <= most)
        w.states = w.states[:1] + [{name: w.read(name) for name in 'ab'}]
        w.write(20)
        w.flush()
        for again in (w.server.restart, w.server.cold):
            again()
            w.connect()
            w.holds(w.states[-1])
        return f'the first {there} of 300 writes are there'


def damaged(w, arena):
    """Sound header, one bad block in the middle of what was answered."""
    arena.never_completed()
    long = [data for _, _, data in w.writes[150:] if len(data) > 100 * KIB]
    arena.damage(long[len(long) // 2][8 * KIB:8 * KIB + 4 * KIB])


def main():
    never = 'the arena was never completed'
    layouts = run(PERDURED, '--layouts')
    tap = Tap()
    cases = [('an arena that was never completed: nothing answered is lost', unfit, (Arena.never_completed, never)),
             ('an arena of another build: nothing answered is lost', unfit,
              (Arena.other_layout, "the arena's layout is not that of this build: table server, version 1 there and 1 here: "
               'no converter is known')),
             ('a handle that names no slot: nothing answered is lost', unfit,
              (lambda arena: arena.bad_conn(layouts, 'tx_head', 1 << 20 | 0xfffff),
               "a table's slots contradict each other: table conn, slot 0: tx_head")),
             ('buffers that are none: nothing answered is lost', unfit,
              (lambda arena: arena.bad_conn(layouts, 'rx_buffer', 0xffffffff),
               "a table's slots contradict each other")),
             ('five deaths in a row: nothing answered is lost', deaths, ()),
             ('one bad block among the answered writes: refused until the loss is accepted', lost,
              (damaged, never, 1, 299)),
             ('a header that is none: refused until the loss is accepted', lost,
              (lambda w, arena: arena.no_arena(), 'the memory is not an arena', 0, 0))]
    for name, case, args in cases:
        with tempfile.TemporaryDirectory(prefix='perdure-stall-') as folder:
            os.environ.update(LD_PRELOAD=STALL, PERDURE_STALL=os.path.join(folder, 'stall'))
            tap.case(name, case, *args)
    tap.end()


if __name__ == '__main__':
    main()
