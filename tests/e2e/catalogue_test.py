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
sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), '../golden'))
from make_store import prepare as golden_store

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


def must_refuse(server, reason='the catalogue is older than the log', remedy='put the newest catalogue.db of this store back'):
    before = contents(server)
    try:
        server.start()
    except AssertionError:
        pass
    expect('exit status', server.process.poll(), 1)
    must_hold('the reason is told', reason in server.log())
    must_hold('what to do is told', remedy in server.log())
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


def missing():
    """Removed from a store that was used."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=1 << 20)
        io(server, 'write -P 4 0 64k')
        server.stop()
        where = copy_catalogue(server, 'old')
        os.remove(os.path.join(server.store, 'catalogue.db'))
        must_refuse(server, 'the catalogue is missing', 'put it back in its place')
        put_catalogue(server, where)
        server.start()
        io(server, 'read -P 4 0 64k', '-r')


def not_made_yet():
    """The first start died when there was a store header, and no catalogue, or an empty one."""
    for empty in (False, True):
        def prepare(store):
            golden_store(store)
            if empty:
                with open(os.path.join(store, 'catalogue.db'), 'wb'):
                    pass
        with Server(PROGRAMS, prepare=prepare) as server:
            server.ask('volume.create', name='v', size_bytes=1 << 20)
            io(server, 'write -P 5 0 64k')
            server.cold()
            io(server, 'read -P 5 0 64k', '-r')


def main():
    tap = Tap()
    tap.case('a missing catalogue is refused', missing)
    tap.case('a catalogue that was not made yet is made', not_made_yet)
    tap.case('an old catalogue after a stop in order is refused', stopped_between)
    tap.case('an old catalogue after a kill is refused', killed_with_writes)
    tap.case('a catalogue ahead of the log starts', ahead_of_the_log)
    tap.end()


if __name__ == '__main__':
    main()
