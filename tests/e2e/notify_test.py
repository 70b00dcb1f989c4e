#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a service manager is told: notify_test.py PERDURED PERDURE

The test is the manager: it has the socket that NOTIFY_SOCKET names. The process that it started lives through
reloads and deaths, so nobody has to tell another main process. Reports TAP.
"""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from perdure import LIMIT_S, Refused, Server, Tap, expect, must_hold

PROGRAMS = sys.argv[1:3]


class Manager:
    """Hears what the services say that are started meanwhile."""

    def __init__(self, abstract=False):
        self.folder = tempfile.TemporaryDirectory(prefix='perdure-notify-')
        name = os.path.join(self.folder.name, 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(LIMIT_S)
        self.socket.bind('\0' + name if abstract else name)
        os.environ['NOTIFY_SOCKET'] = '@' + name if abstract else name

    def hear(self):
        return dict(line.split('=', 1) for line in self.socket.recv(4096).decode().split('\n'))

    def must_hear(self, state, *words):
        told = self.hear()
        expect('what is told', told.get(state), '1')
        must_hold(f'its time: {told}', 0 <= time.monotonic_ns() // 1000 - int(told['MONOTONIC_USEC']) < LIMIT_S * 10**6)
        for word in words:
            must_hold(f'it tells of {word}: {told["STATUS"]}', word in told['STATUS'])

    def must_hear_no_more(self):
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f'more is told: {self.hear()}')
        self.socket.settimeout(LIMIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        del os.environ['NOTIFY_SOCKET']
        self.socket.close()
        self.folder.cleanup()


def life(abstract):
    """A start, reloads of both kinds, a refused one, a death, a stop."""
    with Manager(abstract) as manager, Server(PROGRAMS) as server:
        main = server.process.pid
        manager.must_hear('READY', 'engine 1 serves')
        server.control('reload')
        manager.must_hear('RELOADING', 'engine 1')
        manager.must_hear('READY', 'engine 2 serves after a reload')
        os.kill(main, signal.SIGHUP)
        manager.must_hear('RELOADING', 'engine 2')
        manager.must_hear('READY', 'engine 3 serves after a reload')
        try:
            server.control('reload', binary='/bin/true')
            raise AssertionError('the reload was not refused')
        except Refused:
            pass
        manager.must_hear('RELOADING', 'engine 3')
        manager.must_hear('READY', 'refused', 'engine 3 goes on')
        os.kill(server.status()['pid'], signal.SIGKILL)
        manager.must_hear('READY', 'serves after a death')
        expect('the main process lives', server.process.poll(), None)
        manager.must_hear_no_more()
        expect('exit status', server.stop(), 0)
        manager.must_hear('STOPPING')
        manager.must_hear_no_more()


def no_start():
    """What keeps a server from serving is its status."""
    with Manager() as manager, Server(PROGRAMS) as server:
        manager.must_hear('READY')
        server.stop()
        manager.must_hear('STOPPING')
        with open(os.path.join(server.store, 'store'), 'r+b') as file:
            file.write(bytes(8192))
        command = [PROGRAMS[0], '--store', server.store, '--control', server.control_path]
        done = subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=LIMIT_S)
        expect('exit status', done.returncode, 1)
        told = manager.hear()
        must_hold(f'not ready: {told}', 'READY' not in told and 'cannot start' in told['STATUS'])


def nobody_reads():
    """A manager that does not read holds nobody up."""
    with Manager() as manager, Server(PROGRAMS) as server:
        for number in range(30):
            generation = server.generation()
            server.control('reload')
            server.wait_generation(generation)
        manager.must_hear('READY', 'engine 1 serves')


def main():
    tap = Tap()
    tap.case('a life is told', life, False)
    tap.case('a life is told to an abstract address', life, True)
    tap.case('a start that fails is told', no_start)
    tap.case('a manager that does not read holds nobody up', nobody_reads)
    tap.end()


if __name__ == '__main__':
    main()
