#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Builds of three layouts succeed each other: layouts_test.py PERDURED LAYOUT_2 LAYOUT_3 PERDURE NBD_STORM LATE_CHILD [POINTS]

The table of connections has another layout in each of the three programs (conn_versions.h), while its slots
carry clients that check every byte. Each program succeeds each other one, by `reload`; the older ones do not
know the newer layouts. Engines are killed while they convert, and one dies on probation, so that the program
before it gets the arena back. LATE_CHILD (late_child.c) is preloaded, POINTS is LAYOUT_3 with a point to die at before every store (points.c). Reports
TAP.
"""
import json
import os
import random
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../e2e'))
from nbd_storm import Client
from perdure import Refused, Server, Tap, children_of, expect, must_hold, parent_of, process_name, run, wait_until
from points import ANY_STORE, ATTACHING, NEW_SITE, Points

PROGRAMS = dict(zip((1, 2, 3), sys.argv[1:4]))
PERDURE, STORM, LATE_CHILD = sys.argv[4:7]
POINTS = sys.argv[7] if len(sys.argv) > 7 else None
SEED = int(os.environ.get('PERDURE_SEED', '1'))
SIZE = 64 << 20
# Every one after every other one.
TOUR = (2, 3, 1, 3, 2, 1) * 3
CONN = 1  # base/numbers.h


class World:
    """A server of layout 1 and clients at work on it."""

    def __init__(self, server, connections, *options):
        self.server, self.now = server, 1
        self.made_by = server.status()['version']
        self.model = os.path.join(server.dir, 'model')
        server.cli('volume', 'create', 'storm', '--size', SIZE, '--block-size', 512)
        self.client = Client(STORM, server, '--connections', connections, '--rate', 8000, '--seed', SEED,
                             '--rough', '--to', self.model, *options)

    def reload(self, version):
        """The program of that layout takes over; its status."""
        generation = self.server.status()['reload']['generation']
        self.client.tell('reload')
        self.server.control('reload', binary=PROGRAMS[version])
        status = self.server.wait_generation(generation)
        expect('how the engine began', status['reload']['kind'], 'planned')
        expect('whose constants it has', status['arena']['made_by'], self.made_by)
        must_hold('it is the wanted program', version == 1 or status['version'] == f'layout {version}')
        self.converted(status, version)
        return status

    def converted(self, status, version):
        told = [(one['name'], one['from'], one['to']) for one in status['reload']['converted']]
        expect('what was converted', told, [('conn', self.now, version)] if version != self.now else [])
        self.now = version

    def finish(self, disturbances):
        told = self.client.finish()
        expect('disturbances', len(told['disturbances']), disturbances)
        must_hold('there was work', told['replies'] > 100)
        log = self.server.log()
        must_hold('no connection was closed', log.count(' kept, ') == log.count(' kept, 0 closed'))
        must_hold('no broken invariant', 'broken invariant' not in log)
        wait_until('no connection is left', lambda: self.server.status()['connections'] == 0)
        run(STORM, '--verify', '--connections', 4, '--from', self.model, self.server.port, 'storm')
        gaps = sorted(one['gap_us'] for one in told['disturbances'])
        return f'{told["replies"]} replies, gap ms p50 {gaps[len(gaps) // 2] / 1e3:.1f} max {gaps[-1] / 1e3:.1f}'


def tour(connections):
    with Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, connections)
        with world.client:
            pauses = {True: [], False: []}
            for version in TOUR:
                up = version > world.now
                pauses[up].append(world.reload(version)['reload']['pause_ns'] / 1e6)
                time.sleep(0.1)  # a period, not a proof
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {len(TOUR)})
            told = world.finish(len(TOUR))
        sizes = server.status()['arena']['size_bytes']
        middle = {up: sorted(some)[len(some) // 2] for up, some in pauses.items()}
        return f'{told}, pause ms up {middle[True]:.1f} down {middle[False]:.1f}, arena {sizes >> 20} MiB'


def engines(server):
    """The processes that are or will be engines; not keepers, nor the anchor."""
    return [pid for pid in children_of(server.process.pid) if process_name(pid) not in ('perdure-keeper', None)]


def kills(rounds):
    """Any engine, any successor, any converting child is killed at a random time of a reload."""
    rng = random.Random(SEED)
    with Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, 20)
        deaths = arrived = 0
        with world.client:
            for number in range(rounds):
                version = TOUR[number % len(TOUR)]
                server.status()
                world.client.tell('kill')
                server.control('reload', binary=PROGRAMS[version])
                time.sleep(rng.random() * 0.03)
                victims = engines(server)
                if victims:
                    try:
                        os.kill(rng.choice([*victims, max(victims)]), signal.SIGKILL)
                        deaths += 1
                    except ProcessLookupError:
                        pass
                status = wait_until('an engine serves', lambda: settled(server))
                arrived += status['reload']['kind'] == 'planned'
            must_hold(f'{deaths} of {rounds} reloads had a death', deaths > rounds // 2)
            must_hold('nobody began cold', 'starting cold' not in server.log())
            told = world.finish(rounds)
        return f'{deaths} deaths, {arrived} reloads in order; {told}'


def orphan():
    """The successor is killed while its child converts: the child does not go on, beside the next engine."""
    with tempfile.TemporaryDirectory() as folder:
        flag = os.path.join(folder, 'flag')
        with Server((PROGRAMS[1], PERDURE), under=['/usr/bin/env', f'LD_PRELOAD={LATE_CHILD}',
                                                   f'LATE_CHILD={flag}']) as server:
            world = World(server, 9)
            with world.client:
                world.reload(3)
                open(flag, 'w', encoding='utf-8').close()
                world.client.tell('kill')
                server.control('reload', binary=PROGRAMS[1])
                wait_until('the child converts', lambda: os.path.exists(flag + '.waits') and
                           os.path.getsize(flag + '.waits'))
                with open(flag + '.waits', encoding='utf-8') as file:
                    child = int(file.read())
                os.kill(parent_of(child), signal.SIGKILL)
                wait_until('the child has ended', lambda: not os.path.exists(f'/proc/{child}'))
                status = wait_until('an engine serves', lambda: settled(server))
                open(flag + '.go', 'w', encoding='utf-8').close()
                world.now = 1 if runs(status['pid'], PROGRAMS[1]) else 3
                must_hold('nobody began cold', 'starting cold' not in server.log())
                return world.finish(2)


def settled(server):
    """The status when no reload is under way."""
    status = server.poll()
    if not status or len(engines(server)) != 1 or engines(server)[0] != status['pid']:
        return None
    return status


def death_on_probation():
    """A newer program dies of its own fault: the older one gets the arena, in its own layout."""
    with Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, 9)
        with world.client:
            for version in (2, 3):
                status = world.reload(version)
                world.client.tell('kill')
                os.kill(status['pid'], signal.SIGABRT)
                status = server.wait_generation(status['reload']['generation'])
                expect('how the engine began', status['reload']['kind'], 'uninvited')
                world.converted(status, 1)
            return world.finish(4)


def qualify(server, version, status=0):
    """What the program of that layout says of a server."""
    return json.loads(run(PROGRAMS[version], '--qualify', '--store', server.store, '--control',
                          server.control_path, status=status))


def dry_runs():
    """Each program is asked of each arena before it takes over; what it says comes true, and nothing changes."""
    with Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, 9)
        with world.client:
            for version in (1, 2, 3, 2, 1, 3, 1):
                generation = server.generation()
                said = qualify(server, version)
                expect('qualifies', (said['qualifies'], said['reason']), (True, None))
                expect('checks that hold', {one['holds'] for one in said['checks']}, {True})
                differ = [(one['name'], one['from'], one['to'], one['verdict']) for one in said['layouts']
                          if one['verdict'] != 'same']
                expect('layouts that differ', differ,
                       [('conn', world.now, version, 'converted')] if version != world.now else [])
                expect('who converts', said['converter'],
                       None if version == world.now
                       else 'this program' if version > world.now else 'the program that serves')
                if version == world.now:
                    expect('connections', len(said['connections']), 9)
                    must_hold('each is kept', all(one['kept_by_reload'] and one['kept_by_kill']
                                                  for one in said['connections']))
                expect('engine', server.generation(), generation)
                world.client.check()
                world.reload(version)
            return world.finish(7)


def dry_runs_that_fail():
    """Each reason not to qualify, in its order."""
    from arena import Arena
    first = {}
    with Server((PROGRAMS[1], PERDURE)) as server:
        def refused(check, word):
            said = qualify(server, 1, status=1)
            failed = [one['check'] for one in said['checks'] if not one['holds']]
            expect('checks that do not hold', failed, [check])
            must_hold(f'{said["reason"]} tells of {word}', word in said['reason'])
            first[check] = len(said['checks'])
        pid = server.status()['pid']
        os.kill(pid, signal.SIGSTOP)  # so that it does not see what is not so
        arena = Arena(pid)
        for check, change, word in (
                ('header', arena.no_arena, 'not an arena'), ('identity', arena.bad_identity, 'damaged'),
                ('boot', arena.other_boot, 'another boot'), ('layout', arena.other_layout, 'table server'),
                ('phase', arena.empty, 'never completed'), ('deaths', arena.many_deaths, 'too many'),
                ('undo', arena.long_undo, 'undo log'), ('attached', arena.unfit, 'contradict')):
            change()
            refused(check, word)
            change()
        arena.close()
        os.kill(pid, signal.SIGCONT)
        expect('qualifies', qualify(server, 1)['qualifies'], True)
        expect('their order', list(first.values()), sorted(first.values()))
        must_hold('no two are one', len(set(first.values())) == len(first))
        server.stop()
        refused('owner', 'nobody serves')
        server.start()


def unknown_layout():
    """Nobody knows the arena's layout: the reload is refused before anything happens, and told why."""
    from arena import Arena
    with Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, 9)
        with world.client:
            arena = Arena(server.status()['pid'])
            arena.other_layout()
            try:
                server.control('reload', binary=PROGRAMS[2])
                raise AssertionError('the reload was not refused')
            except Refused as refused:
                must_hold(f'the table is named: {refused}', 'table server, version 1 there and 1 here' in str(refused))
            must_hold('status tells it', 'no converter is known' in server.status()['reload']['failure'])
            arena.other_layout()
            arena.close()
            world.reload(2)
            return world.finish(1)


def every_store():
    """The newer program dies at each place that stores into the arena while it takes over and converts; and at the
    first store, the second, and so on, of those that it makes when it is asked to convert back."""
    rng = random.Random(SEED)
    with Points(POINTS) as points, Server((PROGRAMS[1], PERDURE)) as server:
        world = World(server, 9)
        with world.client:
            deaths, there = [0, 0], 0
            alive = rounds = 0
            while alive < 2:  # up and down without a store left
                rounds += 1
                if there:
                    points.order(ATTACHING, 1, deaths[1] + 1, ANY_STORE)
                elif rounds % 8 == 0 and points.attach_stores():
                    points.order(ATTACHING, 1, rng.randint(1, 2 * points.attach_stores()), ANY_STORE)
                else:
                    points.order(ATTACHING, 1, 1, NEW_SITE)
                before = points.deaths(ATTACHING)
                world.client.tell('kill')
                program = PROGRAMS[1] if there else POINTS
                try:
                    server.control('reload', binary=program)
                except (Refused, OSError, ValueError):
                    pass  # it died before the gate
                status = wait_until('an engine serves', lambda: settled(server))
                died = points.deaths(ATTACHING) > before
                deaths[there] += died
                alive = 0 if died else alive + 1
                if died:
                    expect('the program of before serves on', points_serve(status['pid']), bool(there))
                there = points_serve(status['pid'])
            points.order(ATTACHING, 0)
            must_hold('nobody began cold', 'starting cold' not in server.log())
            files = {place.split(':')[0] for place in
                     points.places([address for address, _, died in points.sites() if any(died)]).values()}
            must_hold(f'conversions were died in: {files}', 'arena/convert.c' in files)
            told = world.finish(rounds)
        return f'{deaths[0]} deaths on the way up, {deaths[1]} on the way down; {told}'


def points_serve(pid):
    return runs(pid, POINTS)


def runs(pid, program):
    return os.path.realpath(f'/proc/{pid}/exe') == os.path.realpath(program)


def main():
    tap = Tap()
    tap.case('each layout after each other one, 20 connections', tour, 20)
    tap.case('each layout after each other one, 300 connections', tour, 300)
    tap.case('kills at any time of a reload to another layout', kills, 40)
    tap.case('a successor is killed while its child converts', orphan)
    tap.case('a newer program dies on probation', death_on_probation)
    tap.case('a dry run tells what a reload will do', dry_runs)
    tap.case('a dry run tells why there can be no reload', dry_runs_that_fail)
    tap.case('a layout that nobody knows', unknown_layout)
    if POINTS:
        tap.case('deaths before every store on the way to another layout', every_store)
    tap.end()


if __name__ == '__main__':
    main()
