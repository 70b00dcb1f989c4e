#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Giving up the past: by age, and because the store is full. What is promised opens and is right, the rest is
refused with a reason, and the room is used again. Reports TAP."""
import random
import sys
import time

sys.dont_write_bytecode = True
from perdure import Refused, Server, Tap, link_to, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
SIZE = 96 * MIB


def contents(server, export):
    link = link_to(server, export)
    data = b''.join(bytes(link.pread(MIB, at)) for at in range(0, SIZE, MIB))
    link.shutdown()
    return data


def overwrite(server, rounds, rng, disk, export='v'):
    """Overwrites the whole disk again and again, and leaves some of it as it was."""
    link = link_to(server, export)
    for _ in range(rounds):
        for at in range(0, SIZE, MIB):
            if rng.random() < 0.1:
                continue
            data = rng.randbytes(4096) * 256
            link.pwrite(data, at)
            disk[at:at + MIB] = data
    link.flush()
    link.shutdown()


def clean(server):
    wait_until('a cleaning begins', lambda: begins(server))


def begins(server):
    try:
        server.control('clean')
        return True
    except (OSError, ValueError):
        return False


def freed(server):
    return server.status()['cleaning']['segments_freed']


def refusal(server, sequence):
    try:
        server.control('image.open', volumes=['v'], at=f'seq:{sequence}')
    except Refused as refused:
        return str(refused)
    return 'it was opened'


def by_age():
    rng = random.Random(1)
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, retain_ns=10 ** 9)
        server.ask('volume.create', name='other', size_bytes=SIZE)
        disk = bytearray(SIZE)
        overwrite(server, 1, rng, disk)
        old = server.status()['store']['newest']['sequence']
        overwrite(server, 1, rng, disk)
        held = bytes(disk)
        server.ask('mark.create', volumes=['v'], label='held', hold=True)
        server.ask('mark.create', volumes=['v'], label='plain')
        overwrite(server, 2, rng, disk)
        shown = bytes(disk)
        server.ask('image.open', volumes=['v'], at='now', name='shows')
        overwrite(server, 3, rng, disk)
        time.sleep(1.5)  # the age that it retains
        clean(server)
        wait_until('segments are freed', lambda: freed(server) >= 4)
        labels = [mark['label'] for mark in server.ask('mark.list')['marks']]
        must_hold(f'a mark without hold goes: {labels}', labels == ['held'])
        pins = [(one['kind'], one['name'], one['is_older_than_retained']) for one in server.ask('pins', name='v')['pins']]
        must_hold(f'what is kept is told: {pins}', pins == [('mark', 'held', True), ('image', 'shows', True)])
        must_hold('of another volume, nothing', server.ask('pins', name='other')['pins'] == [])
        said = refusal(server, old)
        must_hold(f'a moment before is refused: {said}', 'oldest' in said or 'given up' in said)
        for disturbance in (None, 'reload', 'kill', 'cold'):
            server.go_through(disturbance)
            must_hold(f'the present, after {disturbance}', contents(server, 'v') == bytes(disk))
            must_hold(f'the held mark, after {disturbance}', contents(server, 'v@held') == held)
            must_hold(f'the image, after {disturbance}', contents(server, 'v.shows') == shown)
        return f'{freed(server)} segments freed since the cold start'


def the_moments_of_an_idle_volume():
    rng = random.Random(4)
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='idle', size_bytes=MIB)
        server.ask('volume.create', name='v', size_bytes=SIZE, retain_ns=10 ** 9)
        disk = bytearray(SIZE)
        overwrite(server, 3, rng, disk)
        seconds = time.time_ns() // 10 ** 9 + 1
        wait_until('the second has passed', lambda: time.time_ns() > (seconds + 1) * 10 ** 9)
        overwrite(server, 3, rng, disk)
        time.sleep(1.5)  # the age that v retains
        clean(server)
        wait_until('segments are freed', lambda: freed(server) >= 4)
        server.ask('image.open', volumes=['idle'], at=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds)), name='then')
        return 'opens at a time of which others have given up all'


def while_engines_die():
    rng = random.Random(2)
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, retain_ns=10 ** 9)
        disk = bytearray(SIZE)
        for turn in range(12):
            overwrite(server, 1, rng, disk)
            time.sleep(0.3)
            clean(server)
            time.sleep(rng.random() * 0.3)
            server.disturb('kill' if turn % 3 else 'reload')
            must_hold(f'the present, turn {turn}', contents(server, 'v') == bytes(disk))
        server.cold()
        must_hold('the present, after a cold start', contents(server, 'v') == bytes(disk))
        return 'as written'


def a_full_store_goes_on():
    rng = random.Random(3)
    with Server(PROGRAMS, '--set', f'store-max={20 * 64 * MIB}') as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        disk = bytearray(SIZE)
        overwrite(server, 30, rng, disk)  # more than twice what the store may have
        must_hold('history was given up', freed(server) > 10)
        codes = [a['code'] for a in server.ask('alerts')['alerts']]
        must_hold(f'it is told: {codes}', 'history_given_up' in codes)
        must_hold('the present', contents(server, 'v') == bytes(disk))
        server.cold()
        must_hold('the present, after a cold start', contents(server, 'v') == bytes(disk))
        return f'{30 * SIZE >> 20} MiB written to a store of 1280 MiB'


def main():
    tap = Tap()
    tap.case('by age', by_age)
    tap.case('the moments of an idle volume', the_moments_of_an_idle_volume)
    tap.case('while engines die', while_engines_die)
    tap.case('a full store goes on', a_full_store_goes_on)
    tap.end()


if __name__ == '__main__':
    main()
