#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Storms of reloads and kills over clients that check everything: storm_test.py PERDURED PERDURE NBD_STORM [ROUNDS]

In each case clients of one kind work while the engine is replaced every 200 ms: by a reload (SIGHUP), by
kill -9, by both in turn. Afterwards everything is read back; the server is stopped and started again on its
store, all its processes are killed and it is started again, and everything is read back both times.

ROUNDS engines are replaced over all cases (200: a hundred reloads, a hundred kills). PERDURE_SOAK=MINUTES
repeats the cases for so long; PERDURE_SEED chooses the requests. Reports TAP.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
import nbd
from nbd_storm import Client
from perdure import ENVIRONMENT, LIMIT_S, Server, Tap, expect, must_hold, run, wait_until

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
ROUNDS = int(sys.argv[4]) if len(sys.argv) > 4 else 200
SOAK_S = float(os.environ.get('PERDURE_SOAK', '0')) * 60
SEED = int(os.environ.get('PERDURE_SEED', '1'))
MIB = 1 << 20
PERIOD_S = 0.2
SIZE = 256 * MIB
MANY = 10000


def disturb_often(server, kind, rounds, tell):
    """Replaces the engine so many times, one every 200 ms."""
    first = server.status()['reload']['generation']
    begin = time.monotonic()
    for number in range(rounds):
        # A period, not a proof: what is proven does not depend on how long it is.
        time.sleep(max(0.0, begin + number * PERIOD_S - time.monotonic()))
        this = kind if kind != 'both' else ('kill', 'reload')[number % 2]
        status = server.disturb(this, tell)
        expect('how the engine began', status['reload']['kind'],
               {'kill': 'uninvited', 'reload': 'planned'}[this])
    expect('engines', status['reload']['generation'] - first, rounds)


def check_quiet(server):
    """What a storm must not leave behind."""
    log = server.log()
    must_hold('no broken invariant', 'broken invariant' not in log)
    wait_until('no connection is left', lambda: server.status()['connections'] == 0)


def storm(kind, connections, rounds, share=1, block=512, options=()):
    with Server(PROGRAMS, *options) as server:
        model = os.path.join(server.dir, 'model')
        server.cli('volume', 'create', 'storm', '--size', SIZE, '--block-size', block)
        more = [] if share == 1 else ['--share', share, '--size', connections // share * MIB]
        with Client(STORM, server, '--connections', connections, '--rate', 15000, '--seed', SEED, '--to', model,
                    '--rough', *more) as client:
            disturb_often(server, kind, rounds, client.tell)
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {rounds})
            told = client.finish()
        expect('disturbances', len(told['disturbances']), rounds)
        expect('connections', told['simple'] + told['structured'] + told['extended'], connections)
        must_hold('there was work', told['replies'] > connections)
        must_hold('extended headers are used', told['extended'] > 0 or connections < 3)
        check_quiet(server)
        for again in (server.restart, server.cold):
            again()
            run(STORM, '--verify', '--connections', 4, '--from', model, server.port, 'storm')
        gaps = sorted(one['gap_us'] for one in told['disturbances'])
        return f'{told["replies"]} replies, gap ms p50 {gaps[len(gaps) // 2] / 1e3:.1f} ' \
            f'max {gaps[-1] / 1e3:.1f}, longest wait {told["latency_us"]["max"] / 1e3:.0f}'


def fio(kind, rounds):
    """16 jobs of fio; several runs until there were so many rounds."""
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'storm', '--size', SIZE)
        done = 0
        first = server.generation()
        while done < rounds:
            with subprocess.Popen(
                    ['fio', '--name=verify', '--ioengine=nbd', f'--uri={server.uri("storm")}', '--rw=randwrite',
                     '--bsrange=4k-64k', '--size=8M', '--numjobs=16', '--offset_increment=8M', '--iodepth=8',
                     '--verify=crc32c', '--verify_fatal=1', '--do_verify=1', '--group_reporting',
                     f'--randseed={SEED + done}', '--output-format=json', '--rate=6M'], cwd=server.dir,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    env=ENVIRONMENT) as process:
                while process.poll() is None:
                    begin = time.monotonic()
                    server.disturb(kind if kind != 'both' else ('kill', 'reload')[done % 2])
                    done += 1
                    time.sleep(max(0.0, begin + PERIOD_S - time.monotonic()))
                said = process.stdout.read()
            expect('exit status of fio: ' + said[-2000:], process.returncode, 0)
            expect('errors', json.loads(said[said.index('{'):])['jobs'][0]['error'], 0)
        expect('engines', server.generation() - first, done)
        check_quiet(server)
        return f'{done} engines'


def newcomers(kind, rounds):
    """Clients that come, write, read and go all the time: none is turned away."""
    failures, count = [], [0] * 4
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'storm', '--size', SIZE)
        end = threading.Event()

        def come_and_go(place):
            number = 0
            while not end.is_set() and not failures:
                number += 1
                block = bytes([place + 1, number % 256]) * 2048
                try:
                    link = nbd.NBD()
                    link.connect_uri(server.uri('storm'))
                    link.pwrite(block, place * 4096)
                    got = bytes(link.pread(4096, place * 4096))
                    link.shutdown()
                    if got != block:
                        failures.append(f'wrong bytes in visit {number}')
                except nbd.Error as error:
                    failures.append(f'visit {number}: {error}')
            count[place] = number

        threads = [threading.Thread(target=come_and_go, args=(place,)) for place in range(len(count))]
        for thread in threads:
            thread.start()
        try:
            disturb_often(server, kind, rounds, None)
        finally:
            end.set()
            for thread in threads:
                thread.join(LIMIT_S)
        expect('failures', failures, [])
        must_hold('each came several times', min(count) >= 2)
        check_quiet(server)
        return f'{sum(count)} visits'


def unix_socket(rounds):
    """A connection over a Unix socket outlives reloads; a kill closes it, as nobody can tell how far it was.
    What was answered is there all the same, and the listener too."""
    with tempfile.TemporaryDirectory(prefix='perdure-unix-') as folder:
        path = os.path.join(folder, 'nbd.sock')
        uri = f'nbd+unix:///storm?socket={path}'
        with Server(PROGRAMS, '--nbd', f'unix:{path}') as server:
            server.cli('volume', 'create', 'storm', '--size', SIZE)
            answered, failures, end = {}, [], threading.Event()
            link = nbd.NBD()
            link.connect_uri(uri)

            def work():
                number = 0
                try:
                    while not end.is_set():
                        number += 1
                        block = number.to_bytes(4, 'big') * 16384
                        at = number % 64 * 65536
                        link.pwrite(block, at)
                        answered[at] = block
                        if bytes(link.pread(65536, at)) != block:
                            failures.append(f'wrong bytes after write {number}')
                except nbd.Error as error:
                    failures.append(f'write {number}: {error}')

            worker = threading.Thread(target=work)
            worker.start()
            try:
                disturb_often(server, 'reload', rounds, None)
                expect('failures under reloads', failures, [])
                written = len(answered)
                kept = server.ask('connections')['connections']
                expect('connections', [(one['transport'], one['preserved'], one['reloads']) for one in kept],
                       [('unix', False, rounds)])
                server.disturb('kill')
                wait_until('the client notices', lambda: failures)
            finally:
                end.set()
                worker.join(LIMIT_S)
            must_hold('it was closed, and nothing worse', len(failures) == 1 and 'wrong' not in failures[0])
            again = nbd.NBD()
            again.connect_uri(uri)
            last = max(answered_numbers(answered))
            for at, block in answered.items():
                got = bytes(again.pread(65536, at))
                # The write under way when it was closed may have been carried out.
                must_hold(f'what was answered is at {at}',
                          got == block or int.from_bytes(got[:4], 'big') == last + 1)
            again.shutdown()
            must_hold('the socket is its owner\'s alone', os.stat(path).st_mode & 0o077 == 0)
            return f'{written} places'


def answered_numbers(answered):
    return [int.from_bytes(block[:4], 'big') for block in answered.values()]


def canary():
    """The client is no rubber stamp: what a stranger writes into its region ends it."""
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'storm', '--size', MIB)
        with Client(STORM, server, '--connections', 3, '--rate', 1000) as client:
            stranger = nbd.NBD()
            stranger.connect_uri(server.uri('storm'))
            stranger.pwrite(b'stranger' * (MIB // 8), 0)
            stranger.shutdown()
            _, errors = client.process.communicate(timeout=120)
            expect('exit status', client.process.returncode, 1)
            must_hold(errors, 'wrong bytes' in errors)
        with Client(STORM, server, '--connections', 3, '--rate', 1000) as client:
            server.kill_all()
            _, errors = client.process.communicate(timeout=120)
            expect('exit status', client.process.returncode, 1)


def storm_of_many(kind, rounds):
    """As many as a server is asked to bear, each region shared by some of them."""
    return storm(kind, MANY, rounds, share=40)


def main():
    tap = Tap()
    cases = [(f'{kind}, {connections} connections', storm, (kind, connections))
             for kind in ('reload', 'kill', 'both') for connections in (1, 100, 1000)]
    cases += [(f'{kind}, 32 connections of which 4 share a region', storm_shared, (kind,))
              for kind in ('reload', 'kill')]
    cases += [(f'{kind}, 400 connections, few buffers', storm_scarce, (kind,))
              for kind in ('reload', 'kill')]
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= MANY + 1000:
        cases += [(f'both, {MANY} connections', storm_of_many, ('both',))]
    cases += [(f'{kind}, fio with 16 jobs verifies', fio, (kind,)) for kind in ('reload', 'kill')]
    cases += [('both, clients come and go', newcomers, ('both',))]
    cases += [('reload, then a kill, a client on a Unix socket', unix_socket, ())]
    rounds = max(2, -(-ROUNDS // len(cases)))
    tap.case('the client finds a wrong byte and a lost connection', canary)
    end = time.monotonic() + SOAK_S
    while True:
        for name, case, args in cases:
            tap.case(f'{rounds} times {name}', case, *args, rounds)
        if time.monotonic() >= end:
            break
    tap.end()


def storm_scarce(kind, rounds):
    """Buffers and request slots do not suffice: connections wait for them, also when their engine goes."""
    return storm(kind, 400, rounds, options=('--set', 'buffers=80M', '--set', 'requests=256'))


def storm_shared(kind, rounds):
    return storm(kind, 32, rounds, share=4, block=4096)


if __name__ == '__main__':
    main()
