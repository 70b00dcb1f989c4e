#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The service under a real systemd: systemd_test.py PERDURED PERDURE UNIT

A systemd of its own, process 1 of new namespaces and in a control group of its own, runs the unit file that is
installed, with the paths of this build. Skipped where there is no systemd, or no right to begin one. Reports TAP.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from perdure import Server, Tap, children_of, expect, free_port, link_to, must_hold, wait_until

PERDURED, PERDURE, UNIT = sys.argv[1:4]
SYSTEMD = '/lib/systemd/systemd'
UNSHARE = ('unshare', '--pid', '--fork', '--mount', '--cgroup', '--ipc', '--uts', '--mount-proc', '--kill-child=SIGKILL')
BEGIN = f"""
mount -t tmpfs tmpfs /run && mount -t cgroup2 none /sys/fs/cgroup &&
mkdir -p /run/systemd/system && cp "$0"/perdured.service "$0"/test.target /run/systemd/system &&
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin {SYSTEMD} --unit=test.target --log-target=console
"""
TARGET = '[Unit]\nDefaultDependencies=no\nRequires=perdured.service\nAfter=perdured.service\n'


class Group:
    """A control group for this test alone."""

    def __init__(self):
        with open('/proc/self/mounts', encoding='utf-8') as file:
            where = [fields[1] for fields in map(str.split, file) if fields[2] == 'cgroup2']
        with open('/proc/self/cgroup', encoding='utf-8') as file:
            own = [line.strip().split('::', 1)[1] for line in file if line.startswith('0::')]
        if not where or not own:
            raise OSError('no control groups of the second version')
        self.path = f'{where[0]}{own[0].rstrip("/")}/perdure-test-{os.getpid()}'
        os.mkdir(self.path)

    def within(self, *command):
        return ['sh', '-c', f'echo $$ > {self.path}/cgroup.procs && exec "$@"', 'sh', *command]

    def close(self):
        def remove():
            for folder, _, _ in os.walk(self.path, topdown=False):
                os.rmdir(folder)
            return True
        for _ in range(200):
            with contextlib.suppress(OSError):
                if remove():
                    return
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Service(Server):
    """Like a server of other tests, but systemd starts it, and its processes have other numbers there."""

    def __init__(self, folder, group):
        self.perdured, self.perdure = PERDURED, PERDURE
        self.store = os.path.join(folder, 'store')
        self.control_path = os.path.join(folder, 'control.sock')
        self.port = free_port()
        with open(UNIT, encoding='utf-8') as file:
            unit = file.read()
        unit = re.sub(r'ExecStart=\S+.*', f'ExecStart={PERDURED} --store {self.store} --control {self.control_path} '
                      f'--nbd 127.0.0.1:{self.port}', unit)
        unit = re.sub(r'ExecReload=\S+.*', f'ExecReload={PERDURE} --socket {self.control_path} reload', unit)
        unit = re.sub('After=.*\nWants=.*', 'DefaultDependencies=no', unit)
        for name, text in (('perdured.service', unit), ('test.target', TARGET)):
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as file:
                file.write(text)
        self.log_path = os.path.join(folder, 'log')
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(
                group.within(*UNSHARE, 'sh', '-c', BEGIN, folder),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def first(self):
        """systemd, as it is numbered here."""
        return min(children_of(self.process.pid), default=0)

    def inside(self, *command):
        done = subprocess.run(['nsenter', '-t', str(self.first()), '-p', '-m', '-C', *command], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False, timeout=60)
        return done.returncode, done.stdout

    def systemctl(self, *words):
        code, said = self.inside('systemctl', *words)
        expect(f'systemctl {" ".join(words)}: {said}', code, 0)
        return said

    def shown(self):
        said = self.systemctl('show', 'perdured', '-p', 'MainPID,ActiveState,StatusText,NRestarts,OOMPolicy')
        return dict(line.split('=', 1) for line in said.splitlines())

    def must_show(self, state, text, main=None):
        def later():
            shown = self.shown()
            return shown if shown['ActiveState'] == state and text in shown['StatusText'] else None
        shown = wait_until(f'it is {state}, and says {text}', later)
        if main:
            expect('main process', shown['MainPID'], main)
        return shown

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def connect(service):
    return link_to(service, 'disk')


def life(service):
    """A start, reloads, the death of an engine and of all, a stop and a start, as systemd shows them."""
    wait_until('systemd answers', lambda: service.first() and service.inside('systemctl', 'show', 'perdured')[0] == 0)
    shown = service.must_show('active', 'engine 1 serves')
    main = shown['MainPID']
    expect('out of memory', shown['OOMPolicy'], 'continue')
    service.cli('volume', 'create', 'disk', '--size', 1 << 20)
    link = connect(service)
    link.pwrite(b'systemd ' * 512, 0)
    service.systemctl('reload', 'perdured')
    service.must_show('active', 'engine 2 serves after a reload, 1 connections', main)
    service.systemctl('kill', '-s', 'HUP', '--kill-who=main', 'perdured')
    service.must_show('active', 'engine 3 serves after a reload, 1 connections', main)
    service.inside('kill', '-KILL', str(service.status()['pid']))
    service.must_show('active', 'engine 4 serves after a death, 1 connections', main)
    expect('bytes', bytes(link.pread(4096, 0)), b'systemd ' * 512)
    link.flush()
    service.systemctl('kill', '-s', 'KILL', '--kill-who=all', 'perdured')
    shown = service.must_show('active', 'engine 1 serves')
    must_hold('another main process', shown['MainPID'] != main)
    expect('starts by systemd', shown['NRestarts'], '1')
    expect('bytes', bytes(connect(service).pread(4096, 0)), b'systemd ' * 512)
    service.systemctl('stop', 'perdured')
    service.must_show('inactive', '')
    service.systemctl('start', 'perdured')
    service.must_show('active', 'engine 1 serves')
    expect('bytes', bytes(connect(service).pread(4096, 0)), b'systemd ' * 512)


def may_begin():
    if os.geteuid() != 0 or not all(map(shutil.which, ('unshare', 'nsenter', 'systemctl', SYSTEMD))):
        return False
    try:
        with Group() as group:
            return subprocess.run(group.within(*UNSHARE, 'sh', '-c', 'mount -t tmpfs tmpfs /run && '
                                               'mount -t cgroup2 none /sys/fs/cgroup'),
                                  check=False, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def main():
    if not may_begin():
        print('1..0 # SKIP no systemd that may be begun here')
        return
    tap = Tap()
    with tempfile.TemporaryDirectory(prefix='perdure-systemd-') as folder, Group() as group, Service(folder, group) as service:
        tap.case('the unit under a systemd of its own', life, service)
    tap.end()


if __name__ == '__main__':
    main()
