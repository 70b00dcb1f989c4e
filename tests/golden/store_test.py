#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stores of the past show what they showed: store_test.py PERDURED PERDURE NAME ...

Each golden store NAME (make_store.py) is looked through by `perdure check`, served by today's server, and every moment that it
held is compared with what a model said when it was made; then it is written, given a past to clean, and opened again.
Reports TAP.
"""
import hashlib
import json
import os
import sys
import tarfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../e2e'))
from perdure import Server, Tap, expect, link_to, must_hold, run

PROGRAMS = sys.argv[1:3]


def shows(server, export, length):
    link = link_to(server, export)
    content = link.pread(length, 0)
    expect(f'the size of {export}', link.get_size(), length)
    link.shutdown()
    return hashlib.sha256(content).hexdigest()


def all_is_there(server, said, but=()):
    expect('marks', sorted(mark['label'] for mark in server.ask('mark.list')['marks']), said['marks'])
    expect('volumes', sorted([one['name'], one['state']] for one in server.ask('volume.list')['volumes']), said['volumes'])
    for export, (length, digest) in said['exports'].items():
        if export not in but:
            expect(export, shows(server, export, length), digest)


def opens(name):
    with open(os.path.join(HERE, name + '.json'), encoding='utf-8') as file:
        said = json.load(file)

    def prepare(store):
        with tarfile.open(os.path.join(HERE, name + '.tar.xz')) as tar:
            tar.extractall(store)
        found = json.loads(run(PROGRAMS[1], 'check', '--json', store))
        expect('findings', found['findings'], [])

    with Server(PROGRAMS, prepare=prepare) as server:
        expect('alerts', server.ask('alerts')['alerts'], [])
        all_is_there(server, said)
        must_hold('numbers go on', server.status()['store']['newest']['sequence'] >= said['newest'])
        for disturbance in ('kill', 'cold'):
            link = link_to(server, 'keep')
            link.pwrite(b'new' * 2048, 0)
            link.flush()
            link.shutdown()
            server.control('clean')
            server.go_through(disturbance)
            all_is_there(server, said, but=['keep'])
        server.ask('volume.undelete', name='gone')
        expect('the trash', [one['state'] for one in server.ask('volume.list')['volumes'] if one['name'] == 'gone'], ['serving'])
        server.stop()
        expect('findings at the end', json.loads(run(PROGRAMS[1], 'check', '--json', server.store))['findings'], [])
    return f'{len(said["exports"])} disks'


def main():
    tap = Tap()
    for name in sys.argv[3:]:
        tap.case(name, opens, name)
    tap.end()


if __name__ == '__main__':
    main()
