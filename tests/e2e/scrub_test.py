#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A server that checks what it has stored while it serves: what is damaged is told, never returned, and its neighbours
are read. Reports TAP."""
import os
import random
import sys

sys.dont_write_bytecode = True
import nbd
from perdure import Server, Tap, expect, link_to, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
SIZE = 200 * MIB
UNCHECKED = ('--set', 'scrub-mib-s=0')


def block_of(at):
    return random.Random(at).randbytes(512) * 8


def fill(server):
    server.ask('volume.create', name='v', size_bytes=SIZE)
    link = link_to(server, 'v')
    for at in range(0, SIZE, MIB):
        link.pwrite(b''.join(block_of(at + n) for n in range(0, MIB, 4096)), at)
    link.flush()
    link.shutdown()
    wait_until('segments are sealed', lambda: server.ask('scrub.show')['of_files'] >= 2)


def whole_pass(server):
    before = server.ask('scrub.show')['ended_at']
    server.ask('scrub.start')
    return wait_until('a pass has ended', lambda: (lambda s: s if not s['running'] and s['ended_at'] != before else None)(
        server.ask('scrub.show')))


def slot_with(server, block):
    """The slot file that holds this block's bytes in a sealed segment, and where."""
    folder = os.path.join(server.store, 'log')
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), 'rb') as file:
            at = file.read().find(block)
        if at >= 0:
            return os.path.join(folder, name), at
    raise AssertionError('the block is in no slot file')


def flip(path, at):
    with open(path, 'r+b') as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
        os.fsync(file.fileno())


def damage_is_told():
    with Server(PROGRAMS, *UNCHECKED) as server:
        fill(server)
        clean = whole_pass(server)
        must_hold(f'nothing is found: {clean}', clean['damaged_files'] == 0 and clean['mended_files'] == 0
                  and clean['files'] >= 2 and clean['bytes'] >= 128 * MIB)
        path, at = slot_with(server, block_of(4096))
        flip(path, at + 100)
        found = whole_pass(server)
        expect('damaged files', found['damaged_files'], 1)
        alerts = [one for one in server.ask('alerts')['alerts'] if one['code'] == 'scrub_found']
        must_hold(f'{alerts}', len(alerts) == 1 and alerts[0]['subject'] == os.path.relpath(path, server.store)
                  and 'of v at 4096' in alerts[0]['text'])
        server.cold()  # nothing is in memory any more
        link = link_to(server, 'v')
        try:
            link.pread(4096, 4096)
            raise AssertionError('the block was returned')
        except nbd.Error:
            pass
        expect('its neighbours', bytes(link.pread(4096, 0)) + bytes(link.pread(4096, 8192)), block_of(0) + block_of(8192))
        link.shutdown()
        flip(path, at + 100)
        mended = whole_pass(server)
        expect('damaged files', mended['damaged_files'], 0)
        must_hold('the alert is gone', not any(one['code'] == 'scrub_found' for one in server.ask('alerts')['alerts']))
        return f'{clean["files"]} files'


def passes_go_on():
    """A pass is slow; engines are replaced in its middle, and it looks at nothing twice."""
    with Server(PROGRAMS, '--set', 'scrub-mib-s=128') as server:
        fill(server)
        began = server.ask('scrub.start')
        must_hold('it runs', began['running'])
        looked = []
        for kind in ('reload', 'kill'):
            wait_until('a file more', lambda: server.ask('scrub.show')['files'] > (looked[-1] if looked else 0))
            looked.append(server.ask('scrub.show')['files'])
            server.disturb(kind)
            now = server.ask('scrub.show')
            must_hold(f'it goes on after a {kind}: {now}', now['files'] >= looked[-1]
                      and (now['running'] or now['ended_at']))
        ended = wait_until('it ends', lambda: (lambda s: s if s['ended_at'] else None)(server.ask('scrub.show')))
        must_hold(f'{ended}', ended['files'] <= ended['of_files'] + 1 and ended['damaged_files'] == 0)
        server.ask('scrub.start')
        expect('stopped', server.ask('scrub.stop')['running'], False)
        return f'{ended["files"]} files'


def main():
    tap = Tap()
    tap.case('damage is told, and mended', damage_is_told)
    tap.case('passes go on', passes_go_on)
    tap.end()


if __name__ == '__main__':
    main()
