#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Storms of reloads and kills over the echo server: storm_test.py SERVER CLIENT [ROUNDS]

One case a line (TAP). In the storms a byte-exact client runs while the engine is replaced every 200 ms: by a
reload, by kill -9, by both in turn, or it dies by itself at a crash point between two stores, anywhere or
after some of the connections were accepted. In the last case it dies at each store of accepting.
"""
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

SERVER, CLIENT = sys.argv[1:3]
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 25
SERVING = re.compile(r'^serving (\d+) (\d+) \S+:(\d+) (\w+) pause_us (\d+) conns (\d+) closed (\d+)')


# So many that a new engine is for some turns at work before it looks at the descriptors behind them.
SERVED_BEFORE = 600
# What a client sends while it waits to be accepted: the server takes it in several turns, and waits for its
# disk in between.
WAITING = bytes(range(256)) * 256
# More stores than four connections take to be accepted.
STORES = 64
# Connections that one event accepts.
ACCEPTS = 16


class Server:
    def __init__(self, *more, deaths=()):
        """deaths: (generation, connections, stores), at which an engine dies while it accepts."""
        self.dir = tempfile.TemporaryDirectory(prefix='perdure-echo-')
        with open(os.path.join(self.dir.name, 'accepting'), 'wb'):
            pass
        for death in deaths:
            self.die(*death)
        self.log = open(os.path.join(self.dir.name, 'stderr'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen([SERVER, '127.0.0.1:0', self.dir.name, *more],
                                        stderr=self.log, stdin=subprocess.DEVNULL)
        self.port = int(self.wait_for(1)[-1].group(3))

    def die(self, generation, connections, stores):
        with open(os.path.join(self.dir.name, 'accepting'), 'r+b') as file:
            file.seek(8 * generation)
            file.write(struct.pack('<II', connections, stores))

    def engine(self):
        """Generation and process of the engine that serves."""
        return tuple(map(int, self.lines()[-1].group(1, 2)))

    def lines(self):
        with open(self.log.name, encoding='utf-8') as log:
            return [m for m in map(SERVING.match, log) if m]

    def wait_for(self, count, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = self.lines()
            if len(lines) >= count:
                return lines
            time.sleep(0.002)
        with open(self.log.name, encoding='utf-8') as log:
            raise RuntimeError(f'no engine serves: {log.read()[-2000:]}')

    def stop(self):
        self.process.terminate()
        status = self.process.wait(10)
        with open(self.log.name, encoding='utf-8') as log:
            text = log.read()
        self.log.close()
        self.dir.cleanup()
        return status, text


def disturb(server, kind, turn):
    lines = server.lines()
    reload = kind == 'reload' or kind == 'both' and turn % 2
    try:
        os.kill(int(lines[-1].group(2)), signal.SIGHUP if reload else signal.SIGKILL)
    except ProcessLookupError:
        return
    server.wait_for(len(lines) + 1)


def server_for(kind, conns, rounds):
    if kind == 'points':
        # Between two deaths at crash points lie so many stores that some work is done.
        return Server('crash-point', str(3000 * (1 + conns)))
    if kind == 'accepting':
        # No engine dies in its first turn: five such deaths in a row are an arena that kills.
        chance = random.Random(1)
        return Server(deaths=[(1 + turn, chance.randint(ACCEPTS + 1, conns // rounds),
                               chance.randint(1, STORES)) for turn in range(rounds)])
    return Server()


def storm(kind, conns, rounds):
    server = server_for(kind, conns, rounds)
    client = subprocess.Popen([CLIENT, str(server.port), str(conns)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for turn in range(rounds):
            if client.poll() is not None:
                break
            if kind in ('points', 'accepting'):
                server.wait_for(2 + turn, 60)
            else:
                time.sleep(0.2)
                disturb(server, kind, turn)
    except RuntimeError as error:
        client.kill()
        print(f'# {error}')
    said = client.communicate()[0].strip()
    lines = server.lines()
    status, text = server.stop()
    after = lines[1:]
    closed = sum(int(m.group(7)) for m in after)
    cold = sum(m.group(4) == 'cold' for m in after)
    pauses = sorted(int(m.group(5)) for m in after)
    good = client.returncode == 0 and status == 0 and closed == 0 and cold == 0 and \
        len(after) >= rounds and 'broken invariant' not in text
    return good, f'{kind}, {conns} connections, {len(after)} engines, pause us p50 ' \
        f'{pauses[len(pauses) // 2] if pauses else 0} max {pauses[-1] if pauses else 0}; {said}', text


def comes_back(client, want):
    got = b''
    try:
        while len(got) < len(want):
            more = client.recv(len(want) - len(got))
            if not more:
                return False
            got += more
    except OSError:
        return False
    return got == want


def exchange(clients):
    """Sends something on each; how many of them bring it back."""
    for client in clients:
        try:
            client.sendall(b'%9d' % client.fileno())
        except OSError:
            pass
    return sum(comes_back(client, b'%9d' % client.fileno()) for client in clients)


def stop_process(pid):
    os.kill(pid, signal.SIGSTOP)
    while True:
        with open(f'/proc/{pid}/stat', encoding='utf-8') as stat:
            if stat.read().rsplit(')', 1)[1].split()[0] == 'T':
                return
        time.sleep(0.001)


def every_store():
    """Four clients wait to be accepted, and have sent something. The engine dies at one store after the next from
    the first accept on; its successor finds some of them accepted and some not."""
    server = Server()
    clients = []
    lost = 0

    def connect(count):
        for _ in range(count):
            clients.append(socket.create_connection(('127.0.0.1', server.port), 10))
    connect(SERVED_BEFORE)
    exchange(clients)
    for store in range(1, STORES + 1):
        generation, pid = server.engine()
        server.die(generation, 1, store)
        stop_process(pid)
        connect(4)
        for client in clients[-4:]:
            client.sendall(WAITING)
        os.kill(pid, signal.SIGCONT)
        server.wait_for(1 + store)
        answered = sum(comes_back(client, WAITING) for client in clients[-4:])
        if answered < 4:
            print(f'# at store {store}: {answered} of 4 are served')
            lost += 4 - answered
    served = exchange(clients)
    lines = server.lines()
    closed = sum(int(m.group(7)) for m in lines)
    for client in clients:
        client.close()
    status, text = server.stop()
    good = lost == closed == status == 0 and served == len(clients) and len(lines) == 1 + STORES
    return good, f'accepting, each of {STORES} stores, {len(lines) - 1} engines, {lost} newcomers lost, ' \
        f'{served} of {len(clients)} connections served', text


def main():
    cases = [(kind, conns) for kind in ('reload', 'kill', 'both') for conns in (1, 100, 1000)]
    cases += [('points', 1), ('points', 20)]
    failed = 0
    runs = [lambda case=case: storm(*case, ROUNDS) for case in cases]
    runs += [lambda: storm('accepting', 1000, 25), every_store]
    print(f'1..{len(runs)}')
    for number, run in enumerate(runs, 1):
        good, told, text = run()
        print(f'{"ok" if good else "not ok"} {number} - {told}', flush=True)
        if not good:
            failed += 1
            print('\n'.join('# ' + line for line in text.splitlines()[-25:]), flush=True)
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
