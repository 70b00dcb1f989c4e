#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The server on each machine that it knows: platform_test.py PERDURED PERDURE ROUNDS WITHOUT_IO_URING STUCK_DISK

What status says; where io_uring is forbidden threads serve the disks, and nothing else changes; on the posix
platform a reload keeps connections, and a kill closes them, where nothing that was answered is lost; the
platform stays what it is until the server is stopped. Reports TAP.
"""
import contextlib
import os
import re
import signal
import sys
import tempfile

sys.dont_write_bytecode = True
from oracle_test import Life
from perdure import Server, Tap, expect, link_to, must_hold, wait_until

PROGRAMS, ROUNDS = sys.argv[1:3], int(sys.argv[3])
WITHOUT_IO_URING, STUCK_DISK = sys.argv[4:6]
POSIX = ('--platform', 'posix')
FORBIDDEN = 'io_uring is forbidden here'
MIB = 1 << 20


def expect_machine(server, platform, disks):
    status = server.status()
    expect('machine', (status['platform'], status['disks']), (platform, disks))


def connect(server):
    return link_to(server, 'disk')


def expect_kept(server, link, kinds):
    """The connection, and what is written over it, outlive engines."""
    for number, kind in enumerate(kinds):
        block = bytes([number + 1]) * 4096
        link.pwrite(block, 0)
        server.disturb(kind)
        expect(f'what was written before a {kind}', bytes(link.pread(4096, 0)), block)


def with_io_uring():
    with Server(PROGRAMS) as server:
        expect_machine(server, 'linux', 'io_uring')
        must_hold('nothing is said of it', FORBIDDEN not in server.log())


def forbidden():
    with Server(PROGRAMS, under=[WITHOUT_IO_URING]) as server:
        server.cli('volume', 'create', 'disk', '--size', MIB)
        expect_machine(server, 'linux', 'threads')
        expect_kept(server, connect(server), ('reload', 'kill', 'reload'))
        expect_machine(server, 'linux', 'threads')
        expect('lines of the log that say it', server.log().count(FORBIDDEN), 1)


def forbidden_later():
    """A successor that has not what the arena's disk operations need is refused."""
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'disk', '--size', MIB)
        link = connect(server)
        wrapper = os.path.join(server.dir, 'forbidden')
        with open(wrapper, 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/sh\nexec {WITHOUT_IO_URING} {PROGRAMS[0]} "$@"\n')
        os.chmod(wrapper, 0o755)
        said = server.cli('reload', '--binary', wrapper, status=5)
        must_hold(said, 'the disks cannot be reached' in said)
        expect_kept(server, link, ('reload', 'kill'))
        expect_machine(server, 'linux', 'io_uring')


def posix_keeps():
    with Server(PROGRAMS, *POSIX) as server:
        server.cli('volume', 'create', 'disk', '--size', MIB)
        expect_machine(server, 'posix', 'threads')
        link = connect(server)
        expect('connections that a kill would keep',
               [one['preserved'] for one in server.ask('connections')['connections']], [False])
        expect_kept(server, link, ('reload',) * 2)
        link.pwrite(b'answered' * 512, 8192)
        server.disturb('kill')
        wait_until('the connection is closed', lambda: Life.has_ended(link))
        must_hold('the log says so', ', 1 closed' in server.log())
        expect('what was answered', bytes(connect(server).pread(4096, 8192)), b'answered' * 512)
        expect_machine(server, 'posix', 'threads')
        expect('exit status', server.stop(), 0)


def same_platform():
    """The file may name another one; that counts from the next start on."""
    with tempfile.NamedTemporaryFile('w') as config, Server(PROGRAMS, '--config', config.name) as server:
        server.cli('volume', 'create', 'disk', '--size', MIB)
        expect('platform', server.status()['platform'], 'linux')
        config.write('[server]\nplatform = posix\n')
        config.flush()
        link = connect(server)
        link.pwrite(b'1' * 4096, 0)
        said = server.cli('reload', status=5)
        must_hold(said, 'another platform' in said)
        expect('what was written', bytes(link.pread(4096, 0)), b'1' * 4096)
        server.disturb('kill')
        expect('platform', server.status()['platform'], 'linux')
        expect('what was written', bytes(link.pread(4096, 0)), b'1' * 4096)
        server.restart()
        expect('platform', server.status()['platform'], 'posix')
        expect('what was written', bytes(connect(server).pread(4096, 0)), b'1' * 4096)


def kills():
    """Writes are under way whenever the engine is killed."""
    with Server(PROGRAMS, *POSIX, '--set', 'shadow=1') as server:
        life = Life(server, 1, 512)
        for _ in range(ROUNDS):
            life.change(4)
            generation = server.generation()
            life.kill_connections(server.status()['pid'])
            server.wait_generation(generation)
            life.compare_now()
        told = [line for line in life.actions if 'not answered' in line]
        must_hold('some were not answered', any(', 0 not answered' not in line for line in told))
        must_hold('no broken invariant', 'broken invariant' not in server.log())
        return f'{life.model.last()} changes'


def forget_machine(pid):
    """In the page that the engine leaves to its successor: the number of a machine that nobody knows."""
    folder = f'/proc/{pid}/fd'
    for name in os.listdir(folder):
        if 'perdure-custody' in os.readlink(f'{folder}/{name}'):
            with open(f'{folder}/{name}', 'r+b', buffering=0) as page:
                page.seek(12)
                page.write((99).to_bytes(4, sys.byteorder))
            return
    raise AssertionError('the engine has no custody page')


def other_machine():
    """The arena's machine is not to be had when the engine has died, which held answered writes that were
    in no file: a cold start writes them."""
    with stuck_disk() as (server, flag):
        link = connect(server)
        with open(flag, 'w', encoding='utf-8'):
            for number in range(8):
                link.pwrite(bytes([number + 1]) * 4096, number * 4096)
        status = server.status()
        must_hold('writes are not durable', status['store']['durable_sequence'] <
                  status['store']['newest']['sequence'])
        forget_machine(status['pid'])
        os.kill(status['pid'], signal.SIGKILL)
        wait_until('the connection ends', lambda: Life.has_ended(link))
        os.unlink(flag)
        server.wait_generation(status['reload']['generation'])
        must_hold('it starts cold', 'starting cold, as the disks' in server.log())
        must_hold('frames are saved', re.search(r'[1-9]\d* frames saved from memory', server.log()))
        expect_machine(server, 'posix', 'threads')
        expect('what was answered', bytes(connect(server).pread(8 * 4096, 0)),
               b''.join(bytes([number + 1]) * 4096 for number in range(8)))


@contextlib.contextmanager
def stuck_disk(*options):
    """A server with a volume, and the name of a file; while that is there, nothing becomes durable."""
    with tempfile.TemporaryDirectory() as folder:
        flag = os.path.join(folder, 'flag')
        with Server(PROGRAMS, *POSIX, *options, under=['/usr/bin/env', f'LD_PRELOAD={STUCK_DISK}',
                                             f'STUCK_DISK={flag}']) as server:
            server.cli('volume', 'create', 'disk', '--size', MIB)
            yield server, flag


def stuck():
    """A disk that does not answer: the engine cannot let go, and serves on."""
    with stuck_disk() as (server, flag):
        link = connect(server)
        generation = server.generation()
        with open(flag, 'w', encoding='utf-8'):
            link.pwrite(b'stuck' * 4096, 0)
        wait_until('the disk is stuck', lambda: os.path.exists(flag + '.waits'))
        server.process.send_signal(signal.SIGHUP)
        failed = wait_until('the reload has failed', lambda: server.ask('status')['reload']['failure'])
        must_hold(failed, 'a disk operation has not ended in time' in failed)
        link.pwrite(b'still' * 4096, 0)
        os.unlink(flag)
        link.flush()
        expect('engine', server.generation(), generation)
        expect_kept(server, link, ('reload',))
        expect('what was written', bytes(link.pread(4096 * 4, 4096)), (b'still' * 4096)[4096:])


def stopped_while_stuck():
    """A stop does not wait for ever for a disk, nor is it taken for a hang; what was flushed is there afterwards."""
    with stuck_disk('--set', 'stop-s=1', '--set', 'hang-s=1') as (server, flag):
        link = connect(server)
        link.pwrite(b'flushed' * 4096, 0)
        link.flush()
        with open(flag, 'w', encoding='utf-8'):
            link.pwrite(b'answered' * 512, 65536)
        wait_until('the disk is stuck', lambda: os.path.exists(flag + '.waits'))
        expect('exit status', server.stop(), 0)
        must_hold('it is told', 'the log was not closed in order' in server.log())
        must_hold('it is no hang', 'hung' not in server.log())
        os.unlink(flag)
        server.start()
        expect('what was flushed', bytes(connect(server).pread(4096 * 7, 0)), b'flushed' * 4096)


def main():
    tap = Tap()
    tap.case('linux, io_uring', with_io_uring)
    tap.case('linux, io_uring forbidden', forbidden)
    tap.case('linux, io_uring forbidden to a successor', forbidden_later)
    tap.case('posix, reloads and a kill', posix_keeps)
    tap.case('another platform needs a stop and a start', same_platform)
    tap.case(f'posix, {ROUNDS} kills with changes under way', kills)
    tap.case('the machine of a dead engine is not to be had', other_machine)
    tap.case('posix, a disk that does not answer in time', stuck)
    tap.case('posix, a stop while the disk does not answer', stopped_while_stuck)
    tap.end()


if __name__ == '__main__':
    main()
