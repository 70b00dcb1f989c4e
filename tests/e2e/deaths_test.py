#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Engines that die again and again: deaths_test.py PERDURED_DEADLY PERDURE NBD_STORM [STALL]

perdured_deadly dies where it is told to (deadly.c). A few deaths are survived, byte-exact; a loop of them ends
in a cold start; a request that kills each engine costs its own connection and no other. Reports TAP.
"""
import contextlib
import glob
import os
import signal
import sys
import tempfile

sys.dont_write_bytecode = True
import nbd
from deadly import ABORT, ATTACH, EXIT, HANG, MARK_BYTES, MARK_OFFSET, PARSE, SUBMIT, WORK, Deadly
from nbd_storm import Client
from perdure import Server, Tap, children_of, expect, link_to, must_hold, process_name, run, wait_until

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
STALL = sys.argv[4] if len(sys.argv) > 4 else None  # stall.c
MIB = 1 << 20
SIZE = 64 * MIB
ALLOWED = 6
LOOP = 'too many engines died of their own fault in a short time'
FOR_EVER = 1 << 40


def connect(server):
    return link_to(server, 'storm')


def serve():
    server = Server(PROGRAMS, '--set', f'crash-loop={ALLOWED}')
    server.cli('volume', 'create', 'storm', '--size', SIZE)
    return server


def few():
    """Fewer deaths than make a loop, each of another kind: clients see pauses."""
    with Deadly() as deadly, serve() as server:
        model = os.path.join(server.dir, 'model')
        link = connect(server)
        with Client(STORM, server, '--connections', 20, '--rate', 4000, '--rough', '--to', model) as client:
            for place, way, death in ((PARSE, ABORT, 'the engine died of signal 6 (Aborted)'),
                                      (SUBMIT, EXIT, 'the engine ended by itself with status 7'),
                                      (WORK, ABORT, 'the engine died of signal 6 (Aborted)')):
                client.tell('kill')
                deadly.order(place, 1, way)
                link.cache(MARK_BYTES, MARK_OFFSET)
                expect('deaths', deadly.deaths(place), 1)
                expect('death', server.status()['reload']['death'], death)
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {3})
            link.shutdown()
            client.finish()
        run(STORM, '--verify', '--connections', 4, '--from', model, server.port, 'storm')


def began_cold(server, generation, why):
    status = server.status()
    expect('how it began', (status['reload']['kind'], status['reload']['reason']), ('cold', why))
    expect('engine', status['reload']['generation'], generation)
    must_hold('the log tells it', f'starting cold, as {why}' in server.log())
    alerts = {one['code']: (one['level'], one['text']) for one in server.ask('alerts')['alerts']}
    expect('how the alert is raised', alerts['cold_start'][0], 'critical')
    must_hold('the alert tells why', why in alerts['cold_start'][1])


def write(server):
    link = connect(server)
    for block in range(100):
        link.pwrite(bytes([block, 7]) * 2048, 8 * MIB + block * 4096)


def holds(server):
    link = connect(server)
    for block in range(100):
        expect('a block', bytes(link.pread(4096, 8 * MIB + block * 4096)), bytes([block, 7]) * 2048)


def poison(place, way):
    """A request that no engine outlives: the fourth one closes its connection; nobody else sees an error."""
    with Deadly() as deadly, serve() as server:
        model = os.path.join(server.dir, 'model')
        link, quiet = connect(server), connect(server)
        with Client(STORM, server, '--connections', 20, '--rate', 4000, '--rough', '--to', model) as client:
            client.tell('kill')
            deadly.order(place, FOR_EVER, way)
            with contextlib.suppress(nbd.Error):
                link.cache(MARK_BYTES, MARK_OFFSET)
                raise AssertionError('the request was answered')
            expect('deaths', deadly.deaths(place), 3)
            status = server.status()
            expect('how it began', (status['reload']['kind'], status['reload']['generation']), ('uninvited', 4))
            peer = status['reload']['poison']
            must_hold(f'the log names {peer}', f'the connection of {peer} was closed' in server.log())
            alerts = {one['code']: (one['level'], one['text']) for one in server.ask('alerts')['alerts']}
            expect('the alert', alerts['poison_request'][0], 'critical')
            must_hold('the alert names it', peer in alerts['poison_request'][1])
            expect('connections', {one['peer'] == peer for one in server.ask('connections')['connections']},
                   {False})
            quiet.pread(4096, 0)
            # Deaths of requests that end are charged to nobody.
            for number in range(2):
                client.tell('kill')
                deadly.order(place, 1, way)
                quiet.cache(MARK_BYTES, MARK_OFFSET)
                expect('deaths', deadly.deaths(place), 4 + number)
                expect('poison', server.status()['reload']['poison'], None)
            client.finish()
        run(STORM, '--verify', '--connections', 4, '--from', model, server.port, 'storm')


def taken_up():
    """A request that was in hand for many turns is poison when it is taken up: it is not done any more."""
    with tempfile.TemporaryDirectory(prefix='perdure-stall-') as folder, Deadly() as deadly:
        flag = os.path.join(folder, 'stall')
        os.environ.update(LD_PRELOAD=STALL, PERDURE_STALL=flag)
        with serve() as server:
            del os.environ['LD_PRELOAD'], os.environ['PERDURE_STALL']
            link, quiet = connect(server), connect(server)
            link.pwrite(b'poison, ' * 512, MARK_OFFSET, nbd.CMD_FLAG_FUA)
            for slot in glob.glob(os.path.join(server.store, 'log', 'slot-*')):
                with open(slot, 'rb') as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with open(flag, 'w', encoding='utf-8'):
                link.aio_cache(MARK_BYTES, MARK_OFFSET)
                link.poll(0)
            wait_until('it is in hand', lambda: 1 in {
                one['in_flight'] for one in server.ask('connections')['connections']})
            deadly.order(WORK, FOR_EVER)
            os.unlink(flag)
            os.kill(server.status()['pid'], signal.SIGKILL)
            status = wait_until('it is closed', lambda: (server.poll() or {}).get('reload', {}).get('poison') and
                                server.status())
            expect('deaths', deadly.deaths(WORK), 3)
            expect('engine', (status['reload']['kind'], status['reload']['generation']), ('uninvited', 5))
            quiet.pread(4096, 0)


def no_turn():
    """No successor comes to a turn."""
    with Deadly() as deadly, serve() as server:
        write(server)
        pid = server.status()['pid']
        deadly.order(ATTACH, 4)
        os.kill(pid, signal.SIGABRT)
        server.wait_generation(1)
        expect('deaths', deadly.deaths(ATTACH), 4)
        began_cold(server, 6, 'too many engines in a row died without committing a turn')
        holds(server)


def killed_at_work():
    """Deaths from outside are charged to no request, though it is the same that is in hand each time."""
    with Deadly() as deadly, serve() as server:
        link = connect(server)
        deadly.order(WORK, FOR_EVER, HANG)
        link.aio_cache(MARK_BYTES, MARK_OFFSET)
        link.poll(0)
        for number in range(1, 6):
            wait_until('it is in hand', lambda: deadly.deaths(WORK) == number)
            pid = [pid for pid in children_of(server.process.pid) if process_name(pid) == 'perdure-engine']
            if number == 5:
                deadly.order(WORK, 0)
            os.kill(pid[0], signal.SIGKILL)
        expect('poison', server.wait_generation(5)['reload']['poison'], None)
        link.pread(4096, 0)


def turns_between(place):
    """Each engine serves for a while, and then dies. The count begins anew with the arena."""
    with Deadly() as deadly, serve() as server:
        write(server)
        for generation in (1, 1 + ALLOWED):
            link = connect(server)
            for number in range(1, ALLOWED + 1):
                deadly.order(place, 1)
                kept = number < ALLOWED
                with contextlib.suppress(nbd.Error):
                    link.cache(MARK_BYTES, MARK_OFFSET)
                    must_hold('the connection was closed', kept)
                    for _ in range(10):
                        link.pread(4096, 0)
                expect('engine', server.generation(), generation + number)
                expect('how it began', server.status()['reload']['kind'], 'uninvited' if kept else 'cold')
            began_cold(server, generation + ALLOWED, LOOP)
            holds(server)


def from_outside():
    """Deaths that are nobody's fault are no loop, however many."""
    with serve() as server:
        link = connect(server)
        for _ in range(3 * ALLOWED):
            status = server.status()
            os.kill(status['pid'], signal.SIGKILL)
            kind = server.wait_generation(status['reload']['generation'])['reload']['kind']
            expect('how it began', kind, 'uninvited')
        link.pread(4096, 0)


def main():
    tap = Tap()
    tap.case('a few deaths of several kinds are survived, and told', few)
    for place, way, what in ((PARSE, ABORT, 'at the parser'), (SUBMIT, EXIT, 'when it is handed on'),
                             (WORK, ABORT, 'at work on it')):
        tap.case(f'a request kills each engine {what}: its connection is closed', poison, place, way)
    tap.case('a request is in hand whenever somebody kills the engine: it is kept', killed_at_work)
    if STALL:
        tap.case('a request is taken up again and again, and is poison: its connection is closed', taken_up)
    tap.case('no engine comes to a turn: a cold start', no_turn)
    tap.case('engines die again and again with turns between: a cold start', turns_between, SUBMIT)
    tap.case('deaths from outside are no loop', from_outside)
    tap.end()


if __name__ == '__main__':
    main()
