# SPDX-License-Identifier: Apache-2.0
"""A Perdure server under test, the commands of other people's clients, and TAP.

A server runs on a temporary store, on free ports, and only its own processes are ever signalled. Waiting
is asking until the answer is there, with a limit that only a broken server reaches.
"""
import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

LIMIT_S = 30
# Debian's own Python has the libnbd module, which nbdsh needs too.
ENVIRONMENT = dict(os.environ, PATH='/usr/sbin:/usr/bin:/sbin:/bin:' + os.environ.get('PATH', ''),
                   LC_ALL='C.UTF-8', TZ='UTC')


class Refused(Exception):
    """The server's answer to a control operation that it did not carry out."""

    def __init__(self, code, message):
        super().__init__(f'{code}: {message}')
        self.code = code


def wait_until(what, ask, limit_s=LIMIT_S):
    """Asks until the answer is true, and returns it."""
    end = time.monotonic() + limit_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f'{what}: not within {limit_s} s')
        time.sleep(0.002)


def run(*command, status=0, limit_s=120, **more):
    """Runs a program, which must end with that status (None: with any); what it printed."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          env=ENVIRONMENT, timeout=limit_s, errors='replace', **more)
    if status is not None and done.returncode != status:
        raise AssertionError(f'{" ".join(map(str, command))}: exit status {done.returncode}, not '
                             f'{status}\n{done.stdout[-3000:]}')
    return done.stdout


def process_name(pid):
    """None if it has ended."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/comm', encoding='utf-8') as file:
        return file.read().strip()
    return None


def process_stat(pid):
    """What the kernel says of a process from its state on (proc(5)), None if it has ended."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/stat', encoding='utf-8') as file:
        return file.read().rsplit(')', 1)[1].split()
    return None


def parent_of(pid):
    return int(process_stat(pid)[1])


def children_of(pid):
    """All descendants of a process."""
    parents = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            stat = process_stat(name)
            if stat and stat[0] != 'Z':
                parents[int(name)] = int(stat[1])
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


def link_to(server, export):
    """A libnbd handle."""
    import nbd  # not all tests need it
    link = nbd.NBD()
    link.connect_uri(server.uri(export))
    return link


def own_ports():
    """Ports that no other test on this machine takes, until this one ends."""
    for first in range(20000, 32000, 500):
        mine = open(os.path.join(tempfile.gettempdir(), f'perdure-ports-{first}'), 'a', encoding='utf-8')
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return mine, range(first, first + 500)
        mine.close()
    raise RuntimeError('all ports for tests are taken')


PORTS_LOCK, PORTS = own_ports()


def free_port():
    """A port that nobody has, and that no outgoing connection is given while the server restarts."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(('127.0.0.1', port))
            return port


class Server:
    """perdured on a store of its own. `programs` is (perdured, perdure); `under` starts perdured, and is a
    program that execs it; `prepare` makes the store's folder, if that is not to be new. PERDURE_OPTIONS and
    PERDURE_UNDER have every server of a suite run so."""

    def __init__(self, programs, *options, where=None, under=None, prepare=None):
        self.perdured, self.perdure = programs
        self.under = under or os.environ.get('PERDURE_UNDER', '').split()
        self.options = [*os.environ.get('PERDURE_OPTIONS', '').split(), *options]
        self.scratch = tempfile.TemporaryDirectory(prefix='perdure-e2e-', dir=where)
        self.dir = self.scratch.name
        self.store = os.path.join(self.dir, 'store')
        self.control_path = os.path.join(self.dir, 'control.sock')
        self.log_path = os.path.join(self.dir, 'stderr')
        self.process = None
        self.port = free_port()
        if prepare:
            prepare(self.store)
        self.start()

    def start(self):
        """Starts it on its store; the port stays what it was."""
        with open(self.log_path, 'ab') as log:
            # The test holds this end; its own processes are told apart by their ancestor.
            self.process = subprocess.Popen(
                [*self.under, self.perdured, '--store', self.store, '--nbd', f'127.0.0.1:{self.port}',
                 '--control', self.control_path, *self.options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        status = wait_until('the server serves', self.poll)
        self.port = next(int(one['address'].rsplit(':', 1)[1]) for one in status['listeners']
                         if one['protocol'] == 'nbd')

    def control(self, op, **args):
        """One control operation on a connection of its own."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(LIMIT_S)
            link.connect(self.control_path)
            link.sendall(json.dumps({'id': 1, 'op': op, 'args': args}).encode() + b'\n')
            line = b''
            while not line.endswith(b'\n'):
                part = link.recv(65536)
                if not part:
                    raise ConnectionResetError('the control connection was closed')
                line += part
        answer = json.loads(line)
        if not answer['ok']:
            raise Refused(answer['code'], answer['message'])
        return answer['result']

    def poll(self):
        """The status, or None while nobody answers."""
        if self.process.poll() is not None:
            with open(self.log_path, encoding='utf-8') as log:
                raise AssertionError(f'the server ended with status {self.process.returncode}: '
                                     + log.read()[-500:])
        try:
            status = self.control('status')
        except (OSError, ValueError):
            return None
        return status if status['state'] == 'serving' else None

    def status(self):
        return wait_until('the server answers', self.poll)

    def ask(self, op, **args):
        """A control operation that changes nothing: asked again if a reload cut it off."""
        def once():
            with contextlib.suppress(OSError, ValueError):
                return self.control(op, **args)
            return None
        return wait_until(op, once)

    def cli(self, *words, status=0):
        """The command line's result (parsed), or its output if it is to fail."""
        said = run(self.perdure, '--socket', self.control_path, '--json', *words, status=status)
        return json.loads(said) if status == 0 else said

    def uri(self, export):
        return f'nbd://127.0.0.1:{self.port}/{export}'

    def generation(self):
        return self.status()['reload']['generation']

    def wait_generation(self, above):
        """Waits until a later engine serves; its status."""
        def later():
            status = self.poll()
            return status if status and status['reload']['generation'] > above else None
        return wait_until('a later engine serves', later)

    def disturb(self, kind, tell=None, leave_alone_s=0):
        """Has the engine replaced: 'reload' (SIGHUP) or 'kill' (SIGKILL); the new one's status. Nobody
        asks for it in the first seconds, where that would disturb a measurement."""
        status = self.status()
        if tell:
            tell(kind)
        if kind == 'reload':
            self.process.send_signal(signal.SIGHUP)
        else:
            os.kill(status['pid'], signal.SIGKILL)
        time.sleep(leave_alone_s)
        return self.wait_generation(status['reload']['generation'])

    def stop(self):
        """Ends it in order; its exit status."""
        self.process.terminate()
        return self.process.wait(LIMIT_S)

    def kill_all(self):
        """Kills all of its processes, and waits for their last thread; nobody is left to take over."""
        self.process.send_signal(signal.SIGSTOP)
        ends = []
        while True:
            left = children_of(self.process.pid)
            if not left:
                break
            # Stopped first, so that no keeper starts a successor for an engine that was killed before it.
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    ends.append(os.pidfd_open(pid))
                    os.kill(pid, signal.SIGSTOP)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait(LIMIT_S)
        for end in ends:
            must_hold('a killed process ends', select.select([end], [], [], LIMIT_S)[0])
            os.close(end)

    def cold(self):
        self.kill_all()
        self.start()

    def go_through(self, disturbance):
        """'reload', 'kill', 'cold', or None: nothing."""
        if disturbance == 'cold':
            self.cold()
        elif disturbance:
            self.disturb(disturbance)

    def restart(self):
        status = self.stop()
        if status != 0:
            raise AssertionError(f'the server stopped with exit status {status}')
        self.start()

    def log(self):
        with open(self.log_path, encoding='utf-8', errors='replace') as file:
            return file.read()

    def tell_log(self):
        """What the server said last, as a comment on a case that failed."""
        for line in self.log().splitlines()[-25:]:
            print('# server:', line)

    def close(self):
        if self.process.poll() is None:
            self.kill_all()
        self.scratch.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if failure:
            self.tell_log()
        self.close()


class Tap:
    """Cases, one a line. A case is a function that raises when what its name says does not hold."""

    def __init__(self):
        self.number = self.failed = 0
        self.wanted = [re.compile(word) for word in os.environ.get('PERDURE_CASES', '').split()]

    def wants(self, name):
        return not self.wanted or any(word.search(name) for word in self.wanted)

    def case(self, name, function, *args, server=None):
        """Runs a case; what the function returns is told behind the name."""
        if not self.wants(name):
            return False
        begin = time.monotonic()
        self.number += 1
        try:
            told = function(*args)
            good, text = True, f'{name}: {told}' if isinstance(told, str) else name
        except Exception:  # whatever it is, the case has failed and the next one is run
            good, text = False, name
            for line in traceback.format_exc(limit=-3).splitlines():
                print('#', line)
            if server:
                server.tell_log()
        self.failed += not good
        text = text.replace('#', '')
        print(f'{"ok" if good else "not ok"} {self.number} - {text} ({time.monotonic() - begin:.1f} s)',
              flush=True)
        return good

    def at_once(self, *cases):
        """Cases that mostly wait, (name, function) each, all at the same time in processes of their own."""
        running = []
        for name, function in (case for case in cases if self.wants(case[0])):
            said, tell = os.pipe()
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os.dup2(tell, 1)
                random.seed()
                self.failed = 0
                self.number = self.number + len(running)
                self.case(name, function)
                sys.stdout.flush()
                os._exit(self.failed > 0)
            os.close(tell)
            running.append((pid, said))
        for pid, said in running:
            with open(said, encoding='utf-8') as told:
                print(told.read(), end='', flush=True)
            self.failed += os.waitpid(pid, 0)[1] != 0
        self.number += len(running)

    def skip(self, name, reason):
        self.number += 1
        print(f'ok {self.number} - {name} # SKIP {reason}', flush=True)

    def end(self):
        print(f'1..{self.number}')
        sys.exit(self.failed > 0)


def expect(what, got, wanted):
    if got != wanted:
        raise AssertionError(f'{what}: {got!r}, not {wanted!r}')


def must_hold(what, good):
    if not good:
        raise AssertionError(what)
