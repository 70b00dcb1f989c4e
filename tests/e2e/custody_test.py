#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Keepers die, alone and with their engine: custody_test.py PERDURED PERDURE NBD_STORM STALL

The engine makes a new keeper, and the next death of an engine is survived again, byte-exact. If both die at
once the server begins again by itself, cold; what was answered and is in no log, since stall.c keeps it from
the disk, is saved from the arena that the anchor holds. Reports TAP.
"""
import contextlib
import os
import random
import select
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
import nbd
from nbd_storm import Client
from perdure import Server, Tap, children_of, expect, must_hold, process_name, run, wait_until

PROGRAMS, STORM, STALL = sys.argv[1:3], sys.argv[3], sys.argv[4]
MIB = 1 << 20
SIZE = 64 * MIB
ROUNDS = 10
RELOADS = 40
SEED = int(os.environ.get('PERDURE_SEED', '1'))
TOGETHER = 'engine and keeper died together, and nobody held the sockets'


def keepers(server):
    """The keepers that live; after a reload or a death the former one may be on its way out."""
    return [pid for pid in children_of(server.process.pid) if process_name(pid) == 'perdure-keeper']


def keeper_of(server):
    return wait_until('there is one keeper', lambda: len(keepers(server)) == 1 and keepers(server)[0])


def kill_keeper(server):
    """Kills the keeper; the one that the engine makes."""
    former = keeper_of(server)
    os.kill(former, signal.SIGKILL)
    return wait_until('there is a new keeper', lambda: [pid for pid in keepers(server) if pid != former])[0]


def kill_together(server):
    """Both are stopped first, so that neither acts on the other's death."""
    ends = []
    for pid in (keeper_of(server), server.status()['pid']):
        ends.append(os.pidfd_open(pid))
        os.kill(pid, signal.SIGSTOP)
    for end in ends:
        signal.pidfd_send_signal(end, signal.SIGKILL)
    for end in ends:
        must_hold('a killed process ends', select.select([end], [], [], 30)[0])
        os.close(end)


def storm(server, model):
    return Client(STORM, server, '--connections', 20, '--rate', 4000, '--rough', '--to', model)


def verify(server, model):
    run(STORM, '--verify', '--connections', 4, '--from', model, server.port, 'storm')


def keeper_then_engine():
    """Under load: keeper, engine, keeper, reload, and so on; two keepers in a row, too."""
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'storm', '--size', SIZE)
        model = os.path.join(server.dir, 'model')
        deaths = 0
        with storm(server, model) as client:
            for number in range(ROUNDS):
                for _ in range(1 + number % 2):
                    kill_keeper(server)
                    deaths += 1
                kind = ('kill', 'reload')[number % 3 == 2]
                status = server.disturb(kind, client.tell)
                expect('how it began', status['reload']['kind'], {'kill': 'uninvited', 'reload': 'planned'}[kind])
                client.check()
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {ROUNDS})
            done = client.finish()
        expect('keepers told', server.log().count('the keeper died; there is a new one'), deaths)
        verify(server, model)
        expect('exit status', server.stop(), 0)
        return f'{deaths} keepers, {done["replies"]} replies'


def how_it_died():
    """A keeper that is not its engine's parent tells all the same how that died."""
    with Server(PROGRAMS) as server:
        for kill, death in ((signal.SIGABRT, 'the engine died of signal 6 (Aborted)'),
                            (signal.SIGKILL, 'the engine was killed from outside (SIGKILL)')):
            kill_keeper(server)
            status = server.status()
            os.kill(status['pid'], kill)
            expect('death', server.wait_generation(status['reload']['generation'])['reload']['death'], death)


def in_reloads():
    """Keepers die at random times of planned reloads: the next one goes on with it, or it is refused; somebody
    serves in any case."""
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'storm', '--size', SIZE)
        model = os.path.join(server.dir, 'model')
        planned = 0
        rng = random.Random(SEED)
        with storm(server, model) as client:
            for _ in range(RELOADS):
                keeper = keeper_of(server)
                pid = server.status()['pid']
                client.tell('reload')
                server.process.send_signal(signal.SIGHUP)
                time.sleep(rng.random() * 0.006)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)
                status = wait_until('all is quiet', lambda: quiet(server))
                planned += status['pid'] != pid
            client.finish()
        verify(server, model)
        return f'{planned} of {RELOADS} reloads were carried out'


def quiet(server):
    """The status when there are one engine and one keeper and no reload."""
    status = server.poll()
    return status if status and len(children_of(server.process.pid)) == 2 else None


def together():
    """Nothing answered is lost, and everything is told; the next reload and death are survived again."""
    with tempfile.TemporaryDirectory(prefix='perdure-stall-') as folder:
        stall = os.path.join(folder, 'stall')
        os.environ.update(LD_PRELOAD=STALL, PERDURE_STALL=stall)
        try:
            with Server(PROGRAMS, '--set', 'submit-age-us=0') as server:
                server.cli('volume', 'create', 'storm', '--size', SIZE)
                server.disturb('reload')
                for number in range(3):
                    all_at_once(server, stall, number)
                expect('exit status', server.stop(), 0)
        finally:
            for name in ('LD_PRELOAD', 'PERDURE_STALL'):
                del os.environ[name]


def all_at_once(server, stall, number):
    link = nbd.NBD()
    link.connect_uri(server.uri('storm'))
    with open(stall, 'w', encoding='utf-8'):
        pass
    for block in range(200):
        link.pwrite(bytes([1 + number, block]) * 2048, block * 4096)
    store = server.status()['store']
    must_hold('there is much that no log has', store['newest']['sequence'] - store['durable_sequence'] >= 200)
    generation = server.generation()
    kill_together(server)
    os.remove(stall)
    status = server.wait_generation(generation)
    expect('how it began', (status['reload']['kind'], status['reload']['reason'], status['reload']['death']),
           ('cold', TOGETHER, 'engine and keeper died together'))
    must_hold('the log tells it', f'starting cold, as {TOGETHER}' in server.log())
    alerts = {one['code']: one['text'] for one in server.ask('alerts')['alerts']}
    must_hold(f'an alert tells it: {alerts}', TOGETHER in alerts.get('cold_start', ''))
    with contextlib.suppress(nbd.Error):
        link.pread(512, 0)
        raise AssertionError('a connection outlived its sockets')
    for kind in (None, 'kill', 'reload'):
        if kind:
            server.disturb(kind)
        link = nbd.NBD()
        link.connect_uri(server.uri('storm'))
        for block in range(200):
            expect('a block', bytes(link.pread(4096, block * 4096)), bytes([1 + number, block]) * 2048)


def dies_at_start():
    """What dies together before it serves is not begun again for ever."""
    with Server(PROGRAMS) as server:
        with open(os.path.join(server.store, 'store'), 'r+b') as file:
            file.write(bytes(16384))
        kill_together(server)
        expect('exit status', server.process.wait(30), 1)
        must_hold('the log says why', 'cannot start' in server.log())
        server.store = os.path.join(server.dir, 'other')
        server.start()


def score(pid):
    with open(f'/proc/{pid}/oom_score_adj', encoding='utf-8') as file:
        return int(file.read())


def allowed(value):
    """Whether a process of ours that was started with 300 may have that value."""
    return run('choom', '-n', 300, '--', 'sh', '-c', f'echo {value} >/proc/self/oom_score_adj && echo yes', status=None,
               ).endswith('yes\n')


def out_of_memory():
    """Keeper and anchor are the last that the out-of-memory killer takes; the engine is as it was started."""
    lowest = next(value for value in range(-1000, 400, 100) if value == 300 or allowed(value))
    for under in (0, 300):
        with Server(PROGRAMS, under=['choom', '-n', str(under), '--']) as server:
            for disturb in (lambda: None, lambda: server.disturb('reload'), lambda: server.disturb('kill'),
                            lambda: kill_keeper(server), lambda: server.disturb('kill')):
                disturb()
                expect('engine', score(server.status()['pid']), under)
                for pid in (keeper_of(server), server.process.pid):
                    expect('keeper and anchor', score(pid), min(lowest, under))
    return f'{lowest} is allowed'


def not_allowed():
    """Where a process may not protect itself, it serves without."""
    with Server(PROGRAMS, under=['setpriv', '--bounding-set', '-sys_resource', '--inh-caps', '-sys_resource',
                                 'choom', '-n', '0', '--']) as server:
        server.disturb('kill')
        kill_keeper(server)
        server.disturb('kill')
        expect('engine and keeper', {score(server.status()['pid']), score(keeper_of(server))}, {0})


def main():
    tap = Tap()
    tap.case('keepers and engines die in turn, and no client sees it', keeper_then_engine)
    tap.case('it is told how an engine died whose keeper is not its parent', how_it_died)
    tap.case('keepers die in the middle of reloads', in_reloads)
    tap.case('keeper and engine die at once: cold, told, and nothing answered is lost', together)
    tap.case('what never serves is not begun again', dies_at_start)
    tap.case('the out-of-memory killer finds the engine first', out_of_memory)
    if os.geteuid() == 0:
        tap.case('without the right to be protected it serves all the same', not_allowed)
    tap.end()


if __name__ == '__main__':
    main()
