#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A catalogue of yesterday in the place of today's: the server refuses to start and changes nothing."""
import glob
import hashlib
import os
import shutil
import subprocess
import sys

from perdure import Server, Tap, expect, must_hold

PROGRAMS = sys.argv[1:3]


def io(server, command, *options):
    done = subprocess.run(['qemu-io', *options, '-f', 'raw', '-c', command, '-c', 'flush',
                           f'nbd://127.0.0.1:{server.port}/v'], check=True, capture_output=True, text=True)
    must_hold(command, 'failed' not in done.stdout)


def copy_catalogue(server, name):
    where = os.path.join(server.dir, name)
    os.mkdir(where)
    for path in glob.glob(os.path.join(server.store, 'catalogue.db*')):
        shutil.copy2(path, where)
    return where


def put_catalogue(server, where):
    for path in glob.glob(os.path.join(server.store, 'catalogue.db*')):
        os.remove(path)
    for path in glob.glob(os.path.join(where, '*')):
        shutil.copy2(path, server.store)


def contents(server):
    found = {}
    for folder, _, names in os.walk(server.store):
        for name in set(names) - {'lock'}:  # it names its last holder
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                found[path] = hashlib.file_digest(file, 'sha256').hexdigest()
    return found


def must_refuse(server):
    before = contents(server)
    try:
        server.start()
    except AssertionError:
        pass
    expect('exit status', server.process.poll(), 1)
    must_hold('the reason is told', 'the catalogue is older than the log' in server.log())
    must_hold('what to do is told', 'put the newest catalogue.db of this store back' in server.log())
    expect('the store after the refusal', contents(server), before)


def all_is_there(server, volumes, marks):
    expect('volumes', sorted(v['name'] for v in server.ask('volume.list')['volumes']), volumes)
    expect('marks', sorted(m['label'] for m in server.ask('mark.list')['marks']), marks)


def stopped_between():
    """Copied while it was stopped; then a mark and another volume, without any write to them."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=1 << 20)
        io(server, 'write -P 1 0 64k')
        server.stop()
        old = copy_catalogue(server, 'old')
        server.start()
        server.ask('mark.create', volumes=['v'], label='later')
        server.ask('volume.create', name='w', size_bytes=1 << 20)
        server.stop()
        new = copy_catalogue(server, 'new')
        put_catalogue(server, old)
        must_refuse(server)
        put_catalogue(server, new)
        server.start()
        all_is_there(server, ['v', 'w'], ['later'])
        io(server, 'read -P 1 0 64k', '-r')


def killed_with_writes():
    """Copied while it served; then a mark and a write, and no orderly stop."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=1 << 20)
        old = copy_catalogue(server, 'old')
        server.ask('mark.create', volumes=['v'], label='later')
        io(server, 'write -P 2 0 64k')
        server.kill_all()
        new = copy_catalogue(server, 'new')
        put_catalogue(server, old)
        must_refuse(server)
        put_catalogue(server, new)
        server.start()
        all_is_there(server, ['v'], ['later'])
        io(server, 'read -P 2 0 64k', '-r')


def ahead_of_the_log():
    """Marks that no frame followed are no contradiction."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=1 << 20)
        io(server, 'write -P 3 0 64k')
        for label in ('one', 'two', 'three'):
            server.ask('mark.create', volumes=['v'], label=label)
        server.cold()
        all_is_there(server, ['v'], ['one', 'three', 'two'])
        io(server, 'read -P 3 0 64k', '-r')


def main():
    tap = Tap()
    tap.case('an old catalogue after a stop in order is refused', stopped_between)
    tap.case('an old catalogue after a kill is refused', killed_with_writes)
    tap.case('a catalogue ahead of the log starts', ahead_of_the_log)
    tap.end()


if __name__ == '__main__':
    main()
