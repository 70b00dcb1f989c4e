#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An engine that hangs is replaced, one that is held is not: hang_test.py PERDURED_DEADLY PERDURE NBD_STORM

perdured_deadly hangs where it is told to (deadly.c), while clients that check everything work. Reports TAP.
"""
import ctypes
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
from deadly import ATTACH, HANG, MARK_BYTES, MARK_OFFSET, PARSE, SUBMIT, WORK, Deadly
from nbd_storm import Client
from perdure import Server, Tap, children_of, expect, link_to, must_hold, process_name, process_stat, run, wait_until

PROGRAMS, STORM = sys.argv[1:3], sys.argv[3]
MIB = 1 << 20
SIZE = 64 * MIB
LIMIT_S = 1
# So long a hang would not go unnoticed: time enough to look, with the limit above.
WHILE_S = 2.5
PTRACE_DETACH, PTRACE_SEIZE = 17, 0x4206


def serve(*options):
    server = Server(PROGRAMS, '--set', f'hang-s={LIMIT_S}', *options)
    server.cli('volume', 'create', 'storm', '--size', SIZE)
    return server


def connect(server):
    return link_to(server, 'storm')


def told(server):
    """What a hang leaves in status, log and alerts."""
    status = server.status()
    why = f'the engine hung: a turn took longer than {LIMIT_S}.0 s, so the keeper killed it'
    expect('how the engine began', status['reload']['kind'], 'uninvited')
    expect('status', status['reload']['death'], why)
    must_hold('log', why in server.log())
    alerts = {one['code']: one['text'] for one in server.ask('alerts')['alerts']}
    expect('alert', alerts.get('engine_died'), why)


def hangs():
    """Each place in turn; clients see a pause and nothing else."""
    with Deadly() as deadly, serve() as server:
        model = os.path.join(server.dir, 'model')
        link = connect(server)
        with Client(STORM, server, '--connections', 20, '--rate', 4000, '--rough', '--to', model) as client:
            for place in (PARSE, SUBMIT, WORK):
                generation = server.generation()
                deadly.order(place, 1, HANG)
                client.tell('kill')
                link.cache(MARK_BYTES, MARK_OFFSET)  # answered by the next engine
                expect('engine', server.generation(), generation + 1)
                expect('hangs', deadly.deaths(place), 1)
                told(server)
            outlived = {one['reloads'] for one in server.ask('connections')['connections']}
            expect('engines that each connection has outlived', outlived, {3})
            link.shutdown()
            done = client.finish()
        run(STORM, '--verify', '--connections', 4, '--from', model, server.port, 'storm')
        return f'{done["replies"]} replies'


def hangs_attaching():
    """A successor hangs while it attaches: it may take longer, and then the next one does it."""
    with Deadly() as deadly, serve() as server:
        link = connect(server)
        deadly.order(ATTACH, 1, HANG)
        server.disturb('kill')
        expect('hangs', deadly.deaths(ATTACH), 1)
        told(server)
        deadly.order(ATTACH, 1, HANG)
        server.disturb('reload')
        expect('hangs', deadly.deaths(ATTACH), 2)
        told(server)
        link.pread(4096, 0)
        expect('engines that it has outlived', server.ask('connections')['connections'][0]['reloads'], 2)
        link.shutdown()


def no_limit():
    with Deadly() as deadly, serve('--set', 'hang-s=0') as server:
        link = connect(server)
        deadly.order(WORK, 1, HANG)
        pid = server.status()['pid']
        cookie = link.aio_cache(MARK_BYTES, MARK_OFFSET)
        wait_until('it hangs', lambda: pump(link) and deadly.deaths(WORK) == 1)
        time.sleep(WHILE_S)
        os.kill(pid, signal.SIGKILL)
        answered(link, cookie)
        must_hold('it was killed from outside', 'outside' in server.status()['reload']['death'])


def pump(link):
    link.poll(10)
    return True


def answered(link, cookie):
    wait_until('the answer', lambda: pump(link) and link.aio_command_completed(cookie))


def stopped():
    """A process that was stopped goes on when it is continued; also in the middle of a turn."""
    with Deadly() as deadly, serve() as server:
        link = connect(server)
        status = server.status()
        os.kill(status['pid'], signal.SIGSTOP)
        time.sleep(WHILE_S)
        os.kill(status['pid'], signal.SIGCONT)
        expect('engine', server.generation(), 1)
        deadly.order(SUBMIT, 1, HANG)
        cookie = link.aio_cache(MARK_BYTES, MARK_OFFSET)
        wait_until('it hangs', lambda: pump(link) and deadly.deaths(SUBMIT) == 1)
        os.kill(status['pid'], signal.SIGSTOP)
        time.sleep(WHILE_S)
        must_hold('it was left alone', process_stat(status['pid'])[0] != 'Z')
        os.kill(status['pid'], signal.SIGCONT)
        answered(link, cookie)
        told(server)


def traced():
    """Under a debugger an engine may stand as long as it likes."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    with Deadly() as deadly, serve() as server:
        link = connect(server)
        pid = server.status()['pid']
        must_hold('it is traced', libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0)
        deadly.order(WORK, 1, HANG)
        cookie = link.aio_cache(MARK_BYTES, MARK_OFFSET)
        wait_until('it hangs', lambda: pump(link) and deadly.deaths(WORK) == 1)
        time.sleep(WHILE_S)
        must_hold('it was left alone', process_stat(pid)[0] != 'Z')
        # A tracee must stop before it is let go.
        must_hold('it is interrupted', libc.ptrace(0x4207, pid, None, None) == 0)
        os.waitpid(pid, 0x40000000)
        must_hold('it is let go', libc.ptrace(PTRACE_DETACH, pid, None, None) == 0)
        answered(link, cookie)
        told(server)


def without_a_keeper():
    """Its keeper is killed while it hangs: the anchor ends it, and what was answered is there."""
    with Deadly() as deadly, serve() as server:
        link = connect(server)
        link.pwrite(b'answered' * 512, 0)
        deadly.order(WORK, 1, HANG)
        link.aio_cache(MARK_BYTES, MARK_OFFSET)
        wait_until('it hangs', lambda: pump(link) and deadly.deaths(WORK) == 1)
        for pid in children_of(server.process.pid):
            if process_name(pid) == 'perdure-keeper':
                os.kill(pid, signal.SIGKILL)
        status = wait_until('another engine serves', lambda: server.poll())
        expect('how it began', (status['reload']['kind'], status['reload']['generation']), ('cold', 2))
        expect('bytes', bytes(connect(server).pread(4096, 0)), b'answered' * 512)


def main():
    tap = Tap()
    tap.at_once(('an engine that hangs in a turn is replaced, and no client sees it', hangs),
                ('a successor that hangs while it attaches is replaced', hangs_attaching),
                ('without a limit nobody is killed', no_limit))
    tap.at_once(('an engine that is stopped does not hang', stopped),
                ('an engine that is traced does not hang', traced),
                ('an engine that hangs when its keeper is killed is replaced', without_a_keeper))
    tap.end()


if __name__ == '__main__':
    main()
