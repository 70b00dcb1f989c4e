#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Peers that mean no good, and surroundings that fail: hostile_test.py PERDURED PERDURE

What must hold each time: no peer brings the engine down, none keeps what it no longer has a use for, and who
behaves is served. Reports TAP.
"""
import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from perdure import LIMIT_S, Refused, Server, Tap, expect, must_hold, parent_of, process_stat, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
READ, WRITE, TRIM = 0, 1, 4
EINVAL = 22
ACK, POLICY = 1, 0x80000002


class Peer:
    """A connection that says what it is told to, byte by byte."""

    def __init__(self, server, source='127.0.0.1'):
        self.link = socket.create_connection(('127.0.0.1', server.port), LIMIT_S, (source, 0))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.say, self.close = self.link.sendall, self.link.close

    def take(self, count):
        got = bytearray()
        while len(got) < count:
            part = self.link.recv(min(count - len(got), MIB))
            if not part:
                raise ConnectionResetError('the connection was closed')
            got += part
        return bytes(got)

    def greet(self):
        self.take(18)
        self.say(struct.pack('>I', 3))
        return self

    def enter(self, export):
        """To transmission, with simple replies."""
        self.greet().say(option(1, export.encode()))
        self.take(10)
        return self

    def ask_for(self, export):
        """Opens an export that may be refused; the type of the last reply."""
        self.say(ask_to_open(export))
        kind = 0
        while kind != 1 and kind < 1 << 31:
            _, _, kind, length = struct.unpack('>QIII', self.take(20))
            self.take(length)
        return kind

    def expect_reply(self, cookie, error=0, data=0):
        expect('reply', struct.unpack('>IIQ', self.take(16)), (0x67446698, error, cookie))
        self.take(data)

    def reset(self):
        self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def option(number, data):
    return struct.pack('>QII', 0x49484156454F5054, number, len(data)) + data


def ask_to_open(export):
    return option(7, struct.pack('>I', len(export)) + export.encode() + b'\0\0')


def request(command, cookie, offset, length):
    return struct.pack('>IHHQQI', 0x25609513, 0, command, cookie, offset, length)


@contextlib.contextmanager
def serve(*options, programs=PROGRAMS):
    """A server with volume a, whose engine lives to the end."""
    with Server(programs, *options) as server:
        server.control('volume.create', name='a', size_bytes=256 * MIB)
        yield server
        must_hold('no broken invariant', 'broken invariant' not in server.log())
        wait_until('no connection is left', lambda: server.status()['connections'] == 0)


@contextlib.contextmanager
def held_up(server):
    """Meanwhile the engine sees nothing of what comes."""
    pid = server.status()['pid']
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def refusals():
    """More refusals than there is room for at once, and not a byte behind them."""
    with serve() as server, Peer(server) as peer:
        peer.enter('a')
        for count in (1, 8, 9, 10, 17, 40):
            peer.say(b''.join(request(TRIM, i, 0, 0) for i in range(count)))
            for i in range(count):
                peer.expect_reply(i, EINVAL)


def full_while_waiting():
    """The receive buffer is full to the brim behind an option that waits for an image."""
    with serve() as server:
        for sequence in range(10):
            with Peer(server) as peer:
                peer.greet()
                name = f'a@seq:{sequence}'.encode()
                with held_up(server):
                    peer.say(option(7, struct.pack('>I', len(name)) + name + b'\0\0') + bytes(128 * 1024))
                with contextlib.suppress(OSError):
                    while peer.link.recv(65536):
                        pass


def full_while_blocked():
    """The same behind a request for which there is no room."""
    with serve() as server, Peer(server) as peer:
        peer.enter('a')
        peer.say(request(READ, 0, 0, 32 * MIB) + request(READ, 1, 0, 32 * MIB))
        wait_until('both are in hand', lambda: server.ask('connections')['connections'][0]['in_flight'] == 2)
        with held_up(server):
            peer.say(b''.join(request(READ, 2 + i, 0, 32 * MIB) for i in range(4000)))
        server.status()
        for cookie in range(4):
            peer.expect_reply(cookie, data=32 * MIB)
        peer.reset()


def half_a_write():
    """A peer goes in the middle of a payload: with its end, with a reset, or with one after the other."""
    with serve() as server:
        for go in ((lambda peer: peer.close(),), (Peer.reset,),
                   (lambda peer: peer.link.shutdown(socket.SHUT_WR), Peer.reset)):
            peer = Peer(server).enter('a')
            peer.say(request(WRITE, 1, 0, MIB) + bytes(1000))
            wait_until('it is in hand', lambda: server.ask('connections')['connections'][0]['in_flight'] == 1)
            for step in go:
                step(peer)
            wait_until('it is gone', lambda: server.status()['connections'] == 0)
            peer.close()


def never_read():
    """Peers that ask for much and read nothing leave buffers to others"""
    with serve() as server:
        peers = [Peer(server).enter('a') for _ in range(16)]
        for number, peer in enumerate(peers):
            length = (32 * MIB, 4 * MIB, MIB // 16, 4096)[number // 4]
            peer.say(b''.join(request(READ, i, 0, length) for i in range(128)))
            server.status()
        with Peer(server) as good:
            good.enter('a')
            for number in range(50):
                good.say(request(WRITE, 1, number * 4096, 4096) + bytes(4096))
                good.expect_reply(1)
                good.say(request(READ, 2, number * 4096, MIB))
                good.expect_reply(2, data=MIB)
        for peer in peers:
            peer.reset()


def use_it(server, rounds, length):
    """A client that reads what it asked for."""
    with Peer(server) as good:
        good.enter('a')
        for number in range(rounds):
            good.say(request(WRITE, 1, number * 4096, 4096) + bytes(4096))
            good.expect_reply(1)
            good.say(request(READ, 2, number * 4096, length))
            good.expect_reply(2, data=length)


def ask_and_never_read(server, count, length):
    peers = []
    for _ in range(count):
        peers.append(Peer(server).enter('a'))
        peers[-1].say(b''.join(request(READ, i, 0, length) for i in range(128)))
    return peers


def begin_and_never_end(server, count, length):
    peers = [Peer(server).enter('a') for _ in range(count)]
    for peer in peers:
        peer.say(request(WRITE, 1, 0, length) + bytes(1000))
    return peers


def is_alert(server, code):
    return any(alert['code'] == code for alert in server.ask('alerts')['alerts'])


def hundreds(begin):
    """More than there are buffers for. The smaller ones fill what the larger ones leave; each is more than the
    others ask for."""
    with serve('--set', 'stall-s=3600') as server:
        peers = [peer for count, eighths in ((240, 32), (40, 16), (40, 12), (40, 10), (40, 9))
                 for peer in begin(server, count, eighths * MIB // 8)]
        for length in (4096, MIB // 8, MIB):
            use_it(server, 50, length)
        expect('connections', server.status()['connections'], len(peers))
        must_hold('no alert', not is_alert(server, 'buffers_held'))
        for peer in peers:
            peer.reset()


def hundreds_never_read():
    """Hundreds of peers ask for 4 MiB and less, and read nothing: others are served, and nobody is closed"""
    hundreds(ask_and_never_read)


def hundreds_never_end():
    """Hundreds of peers begin writes and do not end them: others are served, and nobody is closed"""
    hundreds(begin_and_never_end)


def hundreds_of_all_sizes():
    """Buffers are used up by replies of all sizes: those who hold them and do nothing are closed"""
    with serve('--set', 'stall-s=1', '--set', 'buffers=80M') as server:
        peers = [peer for count, length in ((2, 32 * MIB), (6, 4 * MIB), (12, MIB), (30, MIB // 8), (30, 4096))
                 for peer in ask_and_never_read(server, count, length)]
        use_it(server, 1, 32 * MIB)
        wait_until('it is told', lambda: is_alert(server, 'buffers_held'))
        for peer in peers:
            peer.reset()


def slow_but_honest():
    """A client that takes its time is not closed when others want its buffers, nor are its bytes wrong"""
    with serve('--set', 'stall-s=1', '--set', 'buffers=80M') as server, Peer(server) as slow:
        slow.enter('a')
        slow.say(b''.join(request(READ, i, 0, 32 * MIB) for i in range(2)))
        peers = ask_and_never_read(server, 8, 32 * MIB)
        for cookie in range(2):
            slow.expect_reply(cookie)
            for _ in range(256):
                slow.take(MIB // 8)
                time.sleep(0.005)
        for peer in peers:
            peer.reset()


def slower_than_the_kernel_tells():
    """Nor is one that takes so little that the kernel does not say for seconds that there is room to send"""
    with serve('--set', 'stall-s=1', '--set', 'buffers=80M') as server, Peer(server) as slow:
        slow.link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB // 8)
        slow.enter('a')
        slow.say(b''.join(request(READ, i, 0, 32 * MIB) for i in range(2)))
        peers = ask_and_never_read(server, 8, 32 * MIB)
        slow.expect_reply(0)
        for _ in range(80):
            slow.take(MIB // 64)
            time.sleep(0.05)
        slow.take(32 * MIB - 80 * MIB // 64)
        slow.expect_reply(1, data=32 * MIB)
        for peer in peers:
            peer.reset()


def reset_while_blocked():
    """A peer that waits for buffers and resets is gone at once"""
    with serve('--set', 'stall-s=3600') as server:
        peers = ask_and_never_read(server, 100, 32 * MIB)

        def held():
            return sorted(c['in_flight'] for c in server.ask('connections')['connections'])
        wait_until('some wait', lambda: len(held()) == 100 and held()[0] == 0)
        waiting = [c['peer'] for c in server.ask('connections')['connections'] if c['in_flight'] == 0]
        for peer in peers:
            host, port = peer.link.getsockname()
            if f'{host}:{port}' in waiting:
                peer.reset()
        wait_until('they are gone', lambda: server.status()['connections'] == 100 - len(waiting))
        for peer in peers:
            peer.reset() if peer.link.fileno() >= 0 else None


def moments_of_one():
    """One peer opens moment after moment: it is refused in time, others are served, and so is it later"""
    with serve('--set', 'images-per-peer=3', '--set', 'images-on-demand=8') as server:
        with Peer(server) as writer:
            writer.enter('a')
            for number in range(12):
                writer.say(request(WRITE, 1, 0, 4096) + bytes([number]) * 4096)
                writer.expect_reply(1)
        newest = server.control('volume.show', name='a')['newest']['sequence']
        with contextlib.ExitStack() as stack:
            def export(number):
                return f'a@seq:{newest - number}'

            def ask(source, *sequences):
                peers = [stack.enter_context(Peer(server, source)).greet() for _ in sequences]
                return peers, [peer.ask_for(export(number)) for peer, number in zip(peers, sequences)]
            greedy, answers = ask('127.0.0.1', 1, 2, 3, 4)
            expect('answers', answers, [ACK, ACK, ACK, POLICY])
            must_hold('it is told', is_alert(server, 'images_on_demand'))
            expect('what is shown already', greedy[3].ask_for(export(2)), ACK)
            expect('another writable one', stack.enter_context(Peer(server)).greet().ask_for(export(2) + '+rw'), POLICY)
            server.disturb('reload')
            expect('after a reload', ask('127.0.0.1', 5)[1], [POLICY])
            expect('others', ask('127.0.0.2', 4, 5)[1], [ACK, ACK])
            for number in (6, 7, 8):
                peer = Peer(server, '127.0.0.3').greet()
                peer.say(ask_to_open(export(number)))
                peer.close()
            wait_until('the images of who asked and went', lambda: len(server.ask('image.list')['images']) == 8)
            expect('the fourth', ask('127.0.0.3', 9)[1], [POLICY])
            expect('one more of all', ask('127.0.0.4', 10)[1], [POLICY])


def spoiled_file():
    """The configuration file is changed, or spoiled, while the server runs: no death heeds it, a reload refuses it"""
    with tempfile.TemporaryDirectory(prefix='perdure-e2e-') as scratch:
        path = os.path.join(scratch, 'perdured.conf')

        def write(text):
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)

        write('[server]\nconnections = 100\n')
        with serve('--config', path) as server, Peer(server) as peer:
            peer.enter('a')
            for text in ('[server]\nconnections = 101\n', '[server]\nno such line\n', '[server]\nnone = 1\n'):
                write(text)
                server.disturb('kill')
                expect('how it began', server.status()['reload']['kind'], 'uninvited')
                peer.say(request(READ, 1, 0, 4096))
                peer.expect_reply(1, data=4096)
            server.process.send_signal(signal.SIGHUP)
            wait_until('the reload is refused', lambda: 'reload refused' in server.log())
            peer.say(request(READ, 1, 0, 4096))
            peer.expect_reply(1, data=4096)


@contextlib.contextmanager
def wrapped(line):
    """The programs, the server behind a line of shell."""
    with tempfile.TemporaryDirectory(prefix='perdure-e2e-') as scratch:
        path = os.path.join(scratch, 'perdured')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/bash\n{line}\n')
        os.chmod(path, 0o700)
        yield path, PROGRAMS[1]


def list_of_many():
    """A list of connections that is longer than an answer: each stands in it once, while others come and go"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    with serve() as server:
        peers = [Peer(server) for _ in range(2500)]
        wait_until('they are there', lambda: server.status()['connections'] == len(peers))
        names = ['%s:%d' % peer.link.getsockname() for peer in peers]
        first = server.control('connections')
        expect('the first of the list', len(first['connections']), 1000)
        for peer in peers[:100]:
            peer.close()
        wait_until('some have gone', lambda: server.status()['connections'] == len(peers) - 100)
        rest = server.control('connections', after=first['next'])
        expect('the next of the list', len(rest['connections']), 1000)
        expect('all of the list', sorted(one['peer'] for one in server.cli('connections')['connections']),
               sorted(names[100:]))
        for peer in peers:
            peer.close()


def no_descriptors():
    """More connections than descriptors: the engine is replaced all the same"""
    with wrapped(f'ulimit -n 256; exec {PROGRAMS[0]} "$@"') as programs, serve(programs=programs) as server:
        peers = [Peer(server) for _ in range(400)]
        with Peer(server) as late:
            wait_until('the last one is turned away', lambda: late.link.recv(18) == b'')
        peers[0].greet().say(option(1, b'a'))
        peers[0].take(10)
        for kind in ('reload', 'kill', 'kill', 'reload'):
            server.disturb(kind)
            peers[0].say(request(READ, 1, 0, 4096))
            peers[0].expect_reply(1, data=4096)
        for peer in peers:
            peer.close()


def cpu_seconds(pid):
    return sum(map(int, process_stat(pid)[11:13])) / os.sysconf('SC_CLK_TCK')


def no_more_descriptors():
    """The system has no more descriptors: the engine waits quietly, says so, and serves when there are some"""
    with serve() as server, socket.socket(socket.AF_UNIX) as link:
        link.settimeout(LIMIT_S)
        link.connect(server.control_path)
        ask = json.dumps({'id': 1, 'op': 'alerts'}).encode() + b'\n'

        def told():
            link.sendall(ask)
            return b'no_descriptors' in link.makefile('rb').readline()
        expect('told', told(), False)
        pid = server.status()['pid']
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        with Peer(server) as peer, socket.socket(socket.AF_UNIX) as other:
            other.settimeout(LIMIT_S)
            other.connect(server.control_path)
            other.sendall(ask)
            wait_until('it is told', told)
            before = cpu_seconds(pid)
            time.sleep(0.5)
            must_hold('it waits quietly', cpu_seconds(pid) - before < 0.25)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            peer.enter('a')
            other.recv(1)
            wait_until('it is over', lambda: not told())


def nobody_reads_the_log():
    """Nobody reads what the server says any more"""
    with wrapped(f'exec {PROGRAMS[0]} "$@" 2> >(true)') as programs, Server(programs) as server:
        for kind in ('reload', 'kill', 'reload'):
            server.disturb(kind)
        expect('engines', server.generation(), 4)


def full_log():
    """The log is a pipe that is full: nobody waits for its reader, who is told later that lines are missing"""
    with tempfile.TemporaryDirectory(prefix='perdure-e2e-') as scratch:
        pipe = os.path.join(scratch, 'log')
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        filler = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        with wrapped(f'exec {PROGRAMS[0]} "$@" 2>{pipe}') as programs, Server(programs) as server:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(filler, bytes(4096))
            for kind in ('reload', 'kill', 'reload'):
                server.disturb(kind)
            said = b''

            def told():
                nonlocal said
                with contextlib.suppress(BlockingIOError):
                    said += os.read(reader, MIB)
                return b'lines of the log were lost' in said
            wait_until('it is told', told)
            expect('engines', server.generation(), 4)
        os.close(reader)
        os.close(filler)


def answers_of_others():
    """An engine dies with an operation in hand: its end is not the answer to the next one's asker"""
    with Server(PROGRAMS) as server:
        for number in range(20):
            pid = server.disturb('reload')['pid']
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(server.control_path)
                args = {'name': f'first{number}', 'size_bytes': MIB}
                link.sendall(json.dumps({'id': 1, 'op': 'volume.create', 'args': args}).encode() + b'\n')
                # Now before, now after the operation has begun.
                time.sleep(number % 5 * 0.001)
                os.kill(pid, signal.SIGKILL)

            def ask():
                with contextlib.suppress(OSError, ValueError):
                    return server.control('volume.create', name=f'second{number}', size_bytes=MIB)
                return None
            expect('made', wait_until('an answer', ask)['name'], f'second{number}')


def keeper_of(server):
    """The parent of an engine that has had no other keeper."""
    return parent_of(server.status()['pid'])


def take_rung_bell(pid):
    """Reads the bell of that process that has been rung; whether there is one."""
    for number in os.listdir(f'/proc/{pid}/fdinfo'):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/fdinfo/{number}', encoding='utf-8') as file:
            if re.search(r'eventfd-count: +[1-9a-f]', file.read()):
                libc = ctypes.CDLL(None, use_errno=True)
                process = os.pidfd_open(pid)
                bell = libc.syscall(438, process, int(number), 0)  # pidfd_getfd
                must_hold(f'the bell is had: {os.strerror(ctypes.get_errno())}', bell >= 0)
                os.read(bell, 8)
                os.close(bell)
                os.close(process)
                return True
    return False


def keeper_dies_with_the_bell():
    """A keeper dies when it has heard the bell and done nothing: the next one starts the successor"""
    with serve() as server:
        for generation in (2, 3):
            keeper = keeper_of(server)
            os.kill(keeper, signal.SIGSTOP)
            server.process.send_signal(signal.SIGHUP)
            wait_until('the bell is rung', lambda: take_rung_bell(keeper))
            os.kill(keeper, signal.SIGKILL)
            expect('engine', server.wait_generation(generation - 1)['reload']['generation'], generation)
            expect('how it began', server.status()['reload']['kind'], 'planned')


def not_a_server():
    """A program that never becomes a server is given up, and clients come and go again"""
    with wrapped('exec sleep 60') as programs, serve() as server:
        with contextlib.suppress(Refused):
            server.control('reload', binary=programs[0])
            raise AssertionError('it was taken for a server')
        must_hold('the reason is told', 'not ready' in server.status()['reload']['failure'])
        with Peer(server) as peer:
            peer.enter('a')
        server.disturb('reload')


def a_pipe():
    """A pipe is no program, and holds nobody up"""
    with wrapped('') as programs, serve() as server:
        pipe = os.path.join(os.path.dirname(programs[0]), 'pipe')
        os.mkfifo(pipe, 0o700)
        with contextlib.suppress(Refused):
            server.control('reload', binary=pipe)
            raise AssertionError('it was taken for a server')
        server.disturb('reload')


def stop_beats_reload():
    """The server is stopped while its successor is still on the way: all of it ends"""
    with wrapped(f'sleep 1; exec {PROGRAMS[0]} "$@"') as programs, Server(PROGRAMS) as server:
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(server.control_path)
            link.sendall(json.dumps({'id': 1, 'op': 'reload', 'args': {'binary': programs[0]}}).encode() + b'\n')
            wait_until('it is on the way', lambda: server.control('status')['state'] == 'reloading')
        expect('exit status', server.stop(), 0)


CASES = (refusals, full_while_waiting, full_while_blocked, half_a_write, never_read,
         hundreds_never_read, hundreds_never_end, hundreds_of_all_sizes, slow_but_honest, slower_than_the_kernel_tells, reset_while_blocked,
         moments_of_one, list_of_many, no_descriptors, no_more_descriptors, spoiled_file, nobody_reads_the_log,
         full_log, answers_of_others, keeper_dies_with_the_bell, not_a_server, a_pipe, stop_beats_reload)


def main():
    tap = Tap()
    for case in CASES:
        tap.case(case.__doc__.rstrip('.'), case)
    tap.end()


if __name__ == '__main__':
    main()
