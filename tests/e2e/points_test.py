#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The engine dies before every store into the arena: points_test.py PERDURED_POINTS PERDURE NBD_STORM [DEATHS]

perdured_points (points.c) counts its stores into the arena by the place in the program that makes them, and
dies where it is told to. While clients that check everything work over TLS, visitors come and go, and operations on
volumes, images and marks are under way, engines die

 1. at every place that stores while an engine serves, and at every one that stores while an engine attaches,
    until no place is left that is reached again and again and was not died at;
 2. DEATHS times (100) at a random count of stores, serving and attaching, so in all orders of stores.

After each death the status must show an engine that came uninvited; no client sees an error, and at the end
everything is read back, also after a restart and after the death of all processes. PERDURE_SEED chooses the
requests and the counts. Reports TAP.
"""
import contextlib
import os
import random
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import nbd
from certificates import authority
from nbd_storm import Client
from perdure import Refused, Server, Tap, expect, must_hold, run, wait_until
from points import ANY_STORE, ATTACHING, NEW_SITE, SERVING, Points

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
DEATHS = int(sys.argv[4]) if len(sys.argv) > 4 else 100
SEED = int(os.environ.get('PERDURE_SEED', '1'))
MIB = 1 << 20
SIZE = 64 * MIB
QUIET_S = 2  # so long no new place is reached: then what the work reaches was reached
TRIES_MAX = 300  # deaths to reach again what was reached just after a death
ROUNDS_MAX = 5
REPEATED = 20  # places that were reached more often must have been died at,
MISSED_MAX = 3  # but for so many
# Files whose stores the work must reach, so that nobody takes a test of little for a test of all.
REACHED = ('arena/arena.c', 'arena/arena.h', 'arena/control_plane.c', 'arena/io.c',
           'engine/admin_steps.c', 'engine/index/block_table.c', 'engine/index/memtable.c',
           'engine/log/writer.c', 'engine/write.c', 'proto/nbd/nbd_option.c',
           'proto/nbd/nbd_request.c', 'proto/tls/tls.c', 'server/conn.c', 'server/conn_tls.c', 'server/core.c', 'server/reactor.c')


class Actor(threading.Thread):
    """Does one thing over and over until it is told to end."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.count, self.failure = act, 0, None
        self.end = threading.Event()

    def run(self):
        try:
            while not self.end.is_set():
                self.act(self.count)
                self.count += 1
        except Exception as error:  # told by the one who ends it
            self.failure = error

    def finish(self):
        self.end.set()
        self.join(60)
        must_hold('an actor ends', not self.is_alive())
        if self.failure:
            raise self.failure


def visit(server):
    """A client that comes, writes, reads and goes."""
    def act(number):
        block = bytes([1 + number % 255]) * 4096
        link = nbd.NBD()
        link.set_export_name('visited')
        link.add_meta_context('base:allocation')
        link.connect_uri(server.uri('visited'))
        link.pwrite(block, number % 256 * 4096, flags=nbd.CMD_FLAG_FUA if number % 4 == 0 else 0)
        link.trim(8192, MIB + number % 16 * 8192)
        expect('what a visitor wrote', bytes(link.pread(4096, number % 256 * 4096)), block)
        link.shutdown()
    return act


def administer(server):
    """Operations of all kinds. A death cuts off the answer, so whether one was done is not known."""
    def ask(op, **args):
        with contextlib.suppress(OSError, ValueError, Refused):
            server.control(op, **args)

    def act(number):
        image, volume, mark = f'i{number % 4}', f'v{number % 3}', f'm{number % 5}'
        ask('volume.create', name=volume, size_bytes=MIB, block_size_bytes=512)
        ask('mark.create', volumes=['visited', volume], label=mark)
        ask('image.open', volumes=['visited'], at=mark, name=image, writable=number % 2 == 0)
        ask('restore', volumes=['side'], at='now')
        ask('restore', volumes=['side'], at=mark, range={'offset_bytes': 0, 'length_bytes': 8192})
        ask('volume.resize', name=volume, size_bytes=2 * MIB)
        ask('volume.set', name=volume, durability='write')
        ask('mark.list')
        if number % 3 == 0:
            ask('image.promote', name=image, volume='p' + volume)
            ask('volume.delete', name='p' + volume, now=True)
        ask('image.close', name=image)
        ask('mark.delete', volumes=['visited', volume], label=mark)
        ask('volume.delete', name=volume, now=number % 2 == 0)
    return act


class World:
    """A server of points, clients at work on it, and deaths."""

    def __init__(self, points, server, certificates):
        self.points, self.server, self.tls = points, server, ('--tls', certificates)
        self.model = os.path.join(server.dir, 'model')
        server.cli('volume', 'create', 'storm', '--size', SIZE, '--block-size', 512)
        server.cli('volume', 'create', 'visited', '--size', 4 * MIB)
        server.cli('volume', 'create', 'side', '--size', MIB)
        self.generation = server.generation()

    def work(self, deaths):
        actors = [Actor(visit(self.server)), Actor(administer(self.server))]
        with Client(STORM, self.server, '--connections', 9, '--rate', 3000, '--seed', SEED, '--rough',
                    '--to', self.model, *self.tls) as client:
            self.client = client
            for actor in actors:
                actor.start()
            try:
                deaths(self)
            finally:
                for state in ATTACHING, SERVING:
                    self.points.order(state, 0)
                for actor in actors:
                    actor.end.set()
            for actor in actors:
                actor.finish()
            self.told = client.finish()
        must_hold('there was work', self.told['replies'] > 100 and min(one.count for one in actors) > 1)

    def survived(self):
        """An engine serves that came uninvited, and nothing else has happened."""
        self.client.check()
        status = self.server.wait_generation(self.generation)
        expect('how the engine began', status['reload']['kind'], 'uninvited')
        self.generation = status['reload']['generation']

    def check(self):
        """What deaths must not leave behind; then everything is read back, three times."""
        log = self.server.log()
        must_hold('no broken invariant', 'broken invariant' not in log)
        must_hold('no connection was closed', ' kept, 0 closed' in log and
                  log.count(' kept, ') == log.count(' kept, 0 closed'))
        wait_until('no connection is left', lambda: self.server.status()['connections'] == 0)
        for again in (lambda: None, self.server.restart, self.server.cold):
            again()
            run(STORM, *self.tls, '--verify', '--connections', 4, '--from', self.model, self.server.port, 'storm')


def die_once(world, *orders, times=1):
    """Gives the orders (state, left, what) and waits until one engine at least has died and another serves.
    Never five deaths in a row: an engine so unlucky begins with a new arena."""
    before = sum(map(world.points.deaths, (ATTACHING, SERVING)))
    for state, left, what in orders:
        world.points.order(state, times, left, what, (1, NEW_SITE))
    end = time.monotonic() + QUIET_S
    while sum(map(world.points.deaths, (ATTACHING, SERVING))) == before:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    world.survived()
    return True


def every_place(points, server, certificates):
    world = World(points, server, certificates)
    rng = random.Random(SEED)

    def missed(least):
        """Places that were reached so often, and where nobody has died."""
        return [(address, state) for address, hits, died in points.sites()
                for state in (ATTACHING, SERVING) if hits[state] >= least and not died[state]]

    reached, rare = [], []

    def deaths(world):
        points.forget()  # handshakes, too: a death in the middle of one ends the connection
        tries = 0
        while True:
            while die_once(world, (ATTACHING, 1, NEW_SITE), (SERVING, 1, NEW_SITE)):
                pass
            # Some were reached while nobody was to die: other deaths lead there again.
            while missed(1) and tries < TRIES_MAX:
                tries += 1
                die_once(world, (ATTACHING, 1, NEW_SITE), (SERVING, rng.randint(1, 5000), ANY_STORE), times=2)
            if not missed(REPEATED) or tries >= ROUNDS_MAX * TRIES_MAX:
                break
            tries = (tries // TRIES_MAX + 1) * TRIES_MAX  # each is died at when it is reached next
        reached.extend(missed(REPEATED))
        rare.extend(missed(1))
    world.work(deaths)
    places = points.places([address for address, _, _ in points.sites()])
    # A loop in one attach alone, with no order left for it, may reach a place so often.
    often = [(places[address], state) for address, state in reached]
    must_hold(f'nearly all that was reached often was died at, but not {often}', len(often) <= MISSED_MAX)
    died_at = {places[address].split(':')[0] for address, _, died in points.sites() if any(died)}
    expect('files not reached', [file for file in REACHED if file not in died_at], [])
    world.check()
    counts = [sum(died[state] > 0 for _, _, died in points.sites()) for state in (SERVING, ATTACHING)]
    return f'{counts[0]} places of serving engines, {counts[1]} of attaching; {len(rare)} missed, {len(often)} of them reached often'


def random_counts(points, server, certificates):
    world = World(points, server, certificates)
    rng = random.Random(SEED)

    def deaths(world):
        for _ in range(DEATHS):
            attach = rng.randint(1, 2 * max(points.attach_stores(), 100))
            must_hold('it died', die_once(world, (ATTACHING, attach, ANY_STORE),
                                           (SERVING, rng.randint(1, 20000), ANY_STORE)))
    world.work(deaths)
    world.check()
    return f'{points.deaths(SERVING)} serving engines, {points.deaths(ATTACHING)} attaching'


def main():
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix='perdure-tls-') as scratch:
        pki = authority(os.path.join(scratch, 'pki'))
        tls = ['--set', 'nbd.tls=on', '--set', f'nbd.tls-certificates={pki}']
        for name, case in (('every place in the program that stores into the arena', every_place),
                           ('random counts of stores', random_counts)):
            with Points(PROGRAMS[0]) as points, Server(PROGRAMS, '--set', 'crash-loop=0', *tls) as server:
                tap.case(f'deaths at {name}', case, points, server, pki, server=server)
    tap.end()


if __name__ == '__main__':
    main()
