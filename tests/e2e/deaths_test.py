#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Engines that die again and again: deaths_test.py PERDURED_DEADLY PERDURE NBD_STORM

perdured_deadly dies where it is told to (deadly.c). A few deaths are survived, byte-exact; a loop of them ends
in a cold start; a program that dies on probation gives way to the one before it. Reports TAP.
"""
import contextlib
import os
import signal
import sys

sys.dont_write_bytecode = True
import nbd
from deadly import ABORT, EXIT, MARK_BYTES, MARK_OFFSET, PARSE, SUBMIT, WORK, Deadly
from nbd_storm import Client
from perdure import Server, Tap, expect, must_hold, run

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
MIB = 1 << 20
SIZE = 64 * MIB
ALLOWED = 6
LOOP = 'too many engines died of their own fault in a short time'
FOR_EVER = 1 << 40


def connect(server):
    link = nbd.NBD()
    link.connect_uri(server.uri('storm'))
    return link


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


def no_turn(place):
    """A request that no engine outlives: each dies before a turn."""
    with Deadly() as deadly, serve() as server:
        write(server)
        link = connect(server)
        deadly.order(place, FOR_EVER)
        with contextlib.suppress(nbd.Error):
            link.cache(MARK_BYTES, MARK_OFFSET)
            raise AssertionError('the request was answered')
        expect('deaths', deadly.deaths(place), 5)
        began_cold(server, 6, 'too many engines in a row died without committing a turn')
        holds(server)


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
    tap.case('a request kills each engine at the parser: a cold start', no_turn, PARSE)
    tap.case('a request kills each engine at work on it: a cold start', no_turn, WORK)
    tap.case('engines die again and again with turns between: a cold start', turns_between, SUBMIT)
    tap.case('deaths from outside are no loop', from_outside)
    tap.end()


if __name__ == '__main__':
    main()
