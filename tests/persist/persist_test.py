#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples of libperdure-persist, upgraded and killed: persist_test.py EXAMPLES STORM_CLIENT DEADLY [ROUNDS]

One case a line (TAP). A server runs from a copy of its program; an upgrade puts another version in the copy's
place and sends SIGHUP.
"""
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

EXAMPLES, CLIENT = sys.argv[1:3]
DEADLY = os.path.realpath(sys.argv[3])
# The copies of the programs do not lie where they were linked to find it.
os.environ['LD_LIBRARY_PATH'] = os.path.realpath(os.path.join(EXAMPLES, '../src/persist'))
ROUNDS = int(sys.argv[4]) if len(sys.argv) > 4 else 12
SERVING = re.compile(r'^serving (\d+) (\d+) (\S+) (\d+) (\w+) lost (\d+)$')
LINES = b''.join(b'%d of many lines\n' % n for n in range(5000))


class Failed(Exception):
    pass


def must(true, what):
    if not true:
        raise Failed(what)


class Server:
    def __init__(self, name, *args, deadly=0):
        self.dir = tempfile.mkdtemp(prefix='perdure-persist-')
        self.name = name
        self.program = os.path.join(self.dir, name)
        self.put('')
        self.fifos = [os.path.join(self.dir, 'in'), os.path.join(self.dir, 'out')]
        for fifo in self.fifos:
            os.mkfifo(fifo)
        self.path = os.path.join(self.dir, 'socket')
        args = [a.format(path=self.path, fifos=':'.join(self.fifos)) for a in args]
        self.log = open(os.path.join(self.dir, 'log'), 'w+', encoding='utf-8')
        env = dict(os.environ, LD_PRELOAD=DEADLY, PERDURE_DEADLY=str(deadly)) if deadly else None
        self.process = subprocess.Popen([self.program, *args], stderr=self.log, stdin=subprocess.DEVNULL, env=env)
        self.wait_for(1)

    def put(self, version, program=None):
        new = self.program + '.new'
        shutil.copy(program or os.path.join(EXAMPLES, self.name + version), new)
        os.rename(new, self.program)

    def text(self):
        with open(self.log.name, encoding='utf-8') as log:
            return log.read()

    def lines(self):
        return [m for m in map(SERVING.match, self.text().splitlines()) if m]

    def wait_for(self, count, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if len(self.lines()) >= count:
                return self.lines()[-1]
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        raise Failed(f'no engine serves: {self.text()[-1500:]}')

    def wait_for_text(self, text, seconds=15):
        end = time.monotonic() + seconds
        while text not in self.text():
            must(time.monotonic() < end, f'"{text}" is not said: {self.text()[-500:]}')
            time.sleep(0.002)

    @property
    def port(self):
        return int(self.lines()[-1].group(4))

    @property
    def pid(self):
        return int(self.lines()[-1].group(2))

    def upgrade(self, version):
        count = len(self.lines())
        self.put(version)
        os.kill(self.pid, signal.SIGHUP)
        line = self.wait_for(count + 1)
        must(line.group(3) == (version[1:] or '1') and line.group(5) == 'planned', line.group(0))

    def kill(self):
        count = len(self.lines())
        os.kill(self.pid, signal.SIGKILL)
        line = self.wait_for(count + 1)
        must(line.group(5) == 'crash', line.group(0))

    def disturb(self, kind, turn):
        if kind == 'upgrade' or kind == 'both' and turn % 2:
            self.upgrade(('_2', '')[len(self.lines()) // 2 % 2])
        else:
            self.kill()

    def lost(self):
        return sum(int(m.group(6)) for m in self.lines())

    def stop(self):
        self.process.terminate()
        status = self.process.wait(15)
        must(status == 0, f'exit status {status}')
        must('broken invariant' not in self.text(), self.text()[-500:])
        must(all(m.group(5) != 'cold' for m in self.lines()[1:]), 'a cold start')

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.log.close()
        shutil.rmtree(self.dir)


def with_server(*args, **more):
    def decorate(case):
        def run():
            server = Server(*args, **more)
            try:
                return case(server)
            finally:
                server.end()
        return run
    return decorate


class Echo:
    """Sends lines without an end over an input, and checks what comes from an output, in a thread of its own."""

    def __init__(self, into, out):
        self.into, self.out = into, out
        os.set_blocking(into, False)
        os.set_blocking(out, False)
        self.sent = self.got = 0
        self.wrong = self.ended = self.stopping = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended and not self.wrong:
            at = self.sent % len(LINES)
            more = not self.stopping or at
            if not more and self.got == self.sent:
                break
            room = more and self.sent - self.got < 1 << 18
            into, out, _ = select.select([self.out], [self.into] if room else [], [], 0.2)
            try:
                if out:
                    self.sent += os.write(self.into, LINES[at:at + 5000])
                if into:
                    self.check(os.read(self.out, 65536))
            except BlockingIOError:
                pass
            except OSError:
                self.ended = True

    def check(self, more):
        at = self.got % len(LINES)
        self.ended = not more
        self.wrong = more != (LINES[at:] + LINES + LINES)[:len(more)]
        self.got += len(more)

    def rest(self):
        """Sends to the end of the lines, and waits for what is under way."""
        self.stopping = True
        self.thread.join(20)
        must(not self.thread.is_alive(), f'{self.got} of {self.sent} bytes came back within 20 s')
        must(not self.wrong, f'a wrong byte at {self.got}')


def storm(kind, conns):
    @with_server('echo', '127.0.0.1:0')
    def run(server):
        client = subprocess.Popen([CLIENT, str(server.port), str(conns)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            for turn in range(ROUNDS):
                time.sleep(0.1)
                server.disturb(kind, turn)
        finally:
            said = client.communicate()[0].strip()
        must(client.returncode == 0 and server.lost() == 0, f'{said}, {server.lost()} lost')
        server.stop()
        return said
    return f'echo, TCP, {kind}, {conns} connections', run


def connect_unix(server):
    client = socket.socket(socket.AF_UNIX)
    client.connect(server.path)
    return client


def ask(client, line):
    client.sendall(line)
    got = b''
    while not got.endswith(b'\n'):
        more = client.recv(4096)
        must(more, f'the connection ended after {line}')
        got += more
    return got


@with_server('echo', 'unix:{path}')
def unix_upgrades(server):
    clients = [connect_unix(server) for _ in range(5)]
    echoes = [Echo(c.fileno(), c.fileno()) for c in clients]
    for turn in range(ROUNDS):
        time.sleep(0.05)
        server.disturb('upgrade', turn)
    for echo in echoes:
        echo.rest()
    must(server.lost() == 0, 'a connection was lost')
    server.stop()
    return f'{sum(e.got for e in echoes)} bytes'


@with_server('echo', 'unix:{path}')
def unix_kills(server):
    """At rest: nobody is lost. Under load: whoever is lost has had no wrong byte until then."""
    clients = [connect_unix(server) for _ in range(20)]
    for turn in range(ROUNDS):
        for client in clients:
            client.sendall(b'half of a line, ')
            must(ask(client, b'%d\n' % turn) == b'half of a line, %d\n' % turn, 'another line')
        time.sleep(0.02)
        server.kill()
    must(server.lost() == 0, f'{server.lost()} lost at rest')
    echoes = [Echo(c.fileno(), c.fileno()) for c in clients]
    for turn in range(ROUNDS):
        time.sleep(0.05)
        server.kill()
    for echo in echoes:
        echo.rest()
    ended = sum(e.ended for e in echoes)
    must(ended == server.lost(), f'{ended} ended, {server.lost()} are told')
    must(ended < len(clients), 'all are lost')
    must(ask(connect_unix(server), b'new\n') == b'new\n', 'another line')
    server.stop()
    return f'{ended} of {len(clients)} were in a system call'


@with_server('echo', 'fifo:{fifos}')
def pipe_upgrades(server):
    echo = Echo(*[os.open(f, os.O_RDWR) for f in server.fifos])
    for turn in range(ROUNDS):
        time.sleep(0.05)
        server.disturb('upgrade', turn)
    echo.rest()
    must(server.lost() == 0, 'a pipe was lost')
    server.stop()
    return f'{echo.got} bytes'


@with_server('echo', 'fifo:{fifos}')
def pipe_kills(server):
    into, out = [os.open(f, os.O_RDWR) for f in server.fifos]
    for turn in range(ROUNDS):
        os.write(into, b'line %d, and half of ' % turn)
        os.write(into, b'one\n')
        got = b''
        while not got.endswith(b'\n'):
            must(select.select([out], [], [], 15)[0], f'nothing comes after {got}')
            got += os.read(out, 4096)
        must(got == b'line %d, and half of one\n' % turn, got)
        time.sleep(0.02)
        server.kill()
    must(server.lost() == 0, f'{server.lost()} lost at rest')
    server.stop()
    return f'{ROUNDS} kills'


@with_server('echo', '127.0.0.1:0')
def newcomers(server):
    """Who comes while engines die is served."""
    port, clients, stop = server.port, [], threading.Event()

    def come():
        while not stop.is_set() and len(clients) < 800:
            clients.append(socket.create_connection(('127.0.0.1', port), 10))
    thread = threading.Thread(target=come)
    thread.start()
    for turn in range(ROUNDS):
        time.sleep(0.02)
        server.disturb('both', turn)
    stop.set()
    thread.join()
    for client in clients:
        client.settimeout(15)
        must(ask(client, b'%d\n' % client.fileno()) == b'%d\n' % client.fileno(), 'another line')
    must(server.lost() == 0, 'a connection was lost')
    server.stop()
    return f'{len(clients)} connections'


def kv_client(port, number, stop, sums, faults):
    try:
        client = socket.create_connection(('127.0.0.1', port), 10)
        client.settimeout(15)
        answers = client.makefile('rb')
        done = 0
        while not stop.is_set():
            client.sendall(b'add own%d 1\nadd all 1\nset s%d %d\nget s%d\n' % (number, number, done, number))
            done += 1
            got = [answers.readline() for _ in range(4)]
            if (got[0], got[2], got[3]) != (b'%d\n' % done, b'ok\n', b'%d\n' % (done - 1)):
                raise Failed(f'{got} instead of {done}')
        sums[number] = done
    except (OSError, Failed) as fault:
        faults.append(str(fault))


def additions(server, disturb):
    """Clients add and ask while that is done; each addition happens and is answered once."""
    stop, sums, faults = threading.Event(), {}, []
    threads = [threading.Thread(target=kv_client, args=(server.port, n, stop, sums, faults)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        disturb()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    must(not faults, faults)
    client = socket.create_connection(('127.0.0.1', server.port), 10)
    total = ask(client, b'get all\n')
    must(total == b'%d\n' % sum(sums.values()), f'{total} is not {sum(sums.values())}')
    must(server.lost() == 0, 'a connection was lost')
    server.stop()
    return f'{sum(sums.values())} additions, each once, {len(server.lines())} engines'


@with_server('kv', '0')
def kv(server):
    def disturb():
        for turn in range(2 * ROUNDS):
            time.sleep(0.05)
            server.disturb('both', turn)
    return additions(server, disturb)


@with_server('kv', '0', deadly=400)
def kv_deadly(server):
    return additions(server, lambda: server.wait_for(8 * ROUNDS, 30))


@with_server('kv', '0')
def refused(server):
    """What cannot take over does not; the one that serves goes on."""
    client = socket.create_connection(('127.0.0.1', server.port), 10)
    ask(client, b'set a b\n')
    for program, why in ((os.path.join(EXAMPLES, 'kv_other'), None), ('/bin/false', 'died')):
        server.put('', program)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_text('no reload: the data are of version 1, which this program does not read'
                             if not why else f'no reload: the successor {why}')
        must(ask(client, b'get a\n') == b'b\n', 'another value')
    must(len(server.lines()) == 1, 'another engine')
    server.upgrade('_2')
    must(ask(client, b'get a\n') == b'b\n' and ask(client, b'version\n') == b'2\n', 'another value')
    server.stop()
    return 'another data version, no program of the library'


def keeper_of(pid):
    with open(f'/proc/{pid}/status', encoding='utf-8') as status:
        return int(re.search(r'^PPid:\s+(\d+)', status.read(), re.M).group(1))


def child_of(pid):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='utf-8') as children:
        return children.read()


@with_server('kv', '0')
def keepers(server):
    """A keeper dies: the engine makes another. Both die: the data are there, the connections are not."""
    client = socket.create_connection(('127.0.0.1', server.port), 10)
    ask(client, b'set a b\n')
    os.kill(keeper_of(server.pid), signal.SIGKILL)
    ask(client, b'set c d\n')
    end = time.monotonic() + 15
    while not child_of(server.pid):
        must(time.monotonic() < end, 'no new keeper')
        time.sleep(0.002)
    server.kill()
    must(ask(client, b'get c\n') == b'd\n', 'another value')
    count, engine = len(server.lines()), server.pid
    keeper = keeper_of(engine)
    os.kill(engine, signal.SIGSTOP)
    os.kill(keeper, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    line = server.wait_for(count + 1)
    must(line.group(5) == 'crash' and int(line.group(6)) == 2, line.group(0))
    must(client.recv(1) == b'', 'the connection is still there')
    client = socket.create_connection(('127.0.0.1', server.port), 10)
    must(ask(client, b'get a\n') == b'b\n' and ask(client, b'get c\n') == b'd\n', 'other values')
    server.stop()
    return 'keeper, keeper and engine'


def main():
    cases = [storm(kind, conns) for kind in ('upgrade', 'kill', 'both') for conns in (1, 100)]
    cases += [(case[0], case[1]) for case in (
        ('echo, Unix sockets, upgrades', unix_upgrades), ('echo, Unix sockets, kills', unix_kills),
        ('echo, pipes, upgrades', pipe_upgrades), ('echo, pipes, kills', pipe_kills),
        ('echo, newcomers', newcomers), ('kv, both', kv), ('kv, deaths at any call', kv_deadly),
         ('kv, refused', refused), ('kv, keepers', keepers))]
    wanted = os.environ.get('PERDURE_CASES', '').split()
    cases = [c for c in cases if not wanted or any(re.search(w, c[0]) for w in wanted)]
    print(f'1..{len(cases)}')
    failed = 0
    for number, (name, case) in enumerate(cases, 1):
        try:
            print(f'ok {number} - {name}: {case()}', flush=True)
        except (Failed, OSError) as fault:
            failed += 1
            print(f'# {fault}\nnot ok {number} - {name}', flush=True)
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
