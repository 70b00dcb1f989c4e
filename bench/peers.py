# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured, each with its own data on the same file system.

A server has `uri`, `pids()` and `files()` (whose page cache is dropped for cold reads). Plain servers keep a
raw file; perdured keeps a store and every write in it.
"""
import os
import signal
import socket
import subprocess

from perdure import ENVIRONMENT, LIMIT_S, Server, children_of, run, wait_until

TICK_US = 1e6 / os.sysconf('SC_CLK_TCK')


def free_port():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        return taken.getsockname()[1]


def listens(port):
    with socket.socket() as link:
        return link.connect_ex(('127.0.0.1', port)) == 0


class Plain:
    """Somebody else's server. `command` makes its command line from port and file. One that goes into the
    background writes its process id into the file PORT.pid."""

    def __init__(self, folder, size_bytes, command, has_file=True, background=False):
        self.port = free_port()
        self.path = None
        if has_file:
            self.path = os.path.join(folder, f'{self.port}.img')
            with open(self.path, 'wb') as file:
                file.truncate(size_bytes)
        self.log = open(os.path.join(folder, f'{self.port}.log'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen(command(self.port, self.path, folder, size_bytes),
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env=ENVIRONMENT)

        def serves():
            if self.process.poll() not in (None, 0):
                self.log.seek(0)
                raise AssertionError(self.log.read())
            return listens(self.port)
        wait_until('the server listens', serves)
        self.pid = self.process.pid
        if background:
            self.process.wait(LIMIT_S)
            with open(os.path.join(folder, f'{self.port}.pid'), encoding='utf-8') as file:
                self.pid = int(file.read())
        self.uri = f'nbd://127.0.0.1:{self.port}/disk'

    def begin_round(self):
        pass

    def pids(self):
        return {self.pid} | children_of(self.pid)

    def files(self):
        return [self.path] if self.path else []

    def close(self):
        os.kill(self.pid, signal.SIGTERM)
        if self.pid == self.process.pid:
            self.process.wait(LIMIT_S)
        else:
            wait_until('the server ends', lambda: not os.path.exists(f'/proc/{self.pid}'))
        self.log.close()


def qemu_nbd(*more):
    return lambda port, path, folder, size: ['qemu-nbd', '-f', 'raw', '-b', '127.0.0.1', '-p', str(port), '-x',
                                             'disk', '--persistent', '--shared=64', '--discard=unmap', *more,
                                             path]


def nbdkit(*plugin):
    return lambda port, path, folder, size: ['nbdkit', '-f', '-i', '127.0.0.1', '-p', str(port),
                                             *(word.format(path=path, size=size) for word in plugin)]


def nbd_server(port, path, folder, size):
    config = os.path.join(folder, 'nbd-server.conf')
    with open(config, 'w', encoding='utf-8') as file:
        file.write('[generic]\nallowlist = true\n'
                   f'listenaddr = 127.0.0.1\nport = {port}\n'
                   f'[disk]\nexportname = {path}\nflush = true\nfua = true\n')
    return ['nbd-server', '-C', config, '-p', os.path.join(folder, f'{port}.pid')]


class Perdured(Server):
    """A round begins with a new volume; the one before is deleted, its segments are used again."""

    def __init__(self, folder, size_bytes, programs):
        self.size_bytes, self.round = size_bytes, 0
        super().__init__(programs, where=folder)

    def begin_round(self):
        if self.round:
            # The image behind an export of a moment ends some seconds after its last client has gone.
            wait_until('no image is open', lambda: self.status()['images'] == 0)
            self.cli('volume', 'delete', self.name, '--now')
        self.round += 1
        self.cli('volume', 'create', self.name, '--size', self.size_bytes)

    @property
    def name(self):
        return f'bench-{self.round}'

    @property
    def uri(self):
        return super().uri(self.name)

    def moment_uri(self, moment):
        return super().uri(f'{self.name}@{moment}')

    def pids(self):
        return {self.process.pid} | children_of(self.process.pid)

    def files(self):
        return [os.path.join(where, name) for where, _, names in os.walk(self.store) for name in names
                if os.path.isfile(os.path.join(where, name))]


def cpu_us(pids):
    """Processor time of processes and of their children that have ended."""
    total = 0
    for pid in pids:
        try:
            with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
                total += sum(map(int, file.read().rsplit(')', 1)[1].split()[11:15]))
        except OSError:
            pass
    return total * TICK_US


def memory_mib(pids):
    """Memory that the processes share fairly (PSS)."""
    total = 0
    for pid in pids:
        try:
            with open(f'/proc/{pid}/smaps_rollup', encoding='utf-8') as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith('Pss:'))
        except OSError:
            pass
    return total / 1024


def forget(server):
    """What the page cache holds of a server's data goes."""
    run('sync', '-f', *(server.files() or ['/']))
    for path in server.files():
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # a merge has ended meanwhile
            continue
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


PEERS = {
    'nbdkit null (ceiling)': lambda folder, size: Plain(folder, size, nbdkit('null', '{size}'), False),
    'qemu-nbd writeback': lambda folder, size: Plain(folder, size, qemu_nbd('--cache=writeback')),
    'qemu-nbd none, io_uring': lambda folder, size: Plain(folder, size,
                                                          qemu_nbd('--cache=none', '--aio=io_uring')),
    'nbdkit file': lambda folder, size: Plain(folder, size, nbdkit('file', '{path}')),
    'nbd-server': lambda folder, size: Plain(folder, size, nbd_server, background=True),
}
CEILING = 'nbdkit null (ceiling)'
