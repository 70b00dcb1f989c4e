#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moments that lie where one would rather not ask: moments_test.py PERDURED PERDURE"""
import random
import sys

sys.dont_write_bytecode = True
import nbd
from perdure import Refused, Server, Tap, expect, link_to, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
LARGE = 4 * MIB  # one request, of more than four records


def newest(server):
    return server.status()['store']['newest']['sequence']


def write(server, export, letter, offset=0, length=LARGE):
    link = link_to(server, export)
    link.pwrite(letter * length, offset, nbd.CMD_FLAG_FUA)
    link.shutdown()


def letters(server, export, offset=0, length=LARGE):
    """Which bytes are there in each of its quarters of a MiB, without order."""
    link = link_to(server, export)
    held = set()
    for at in range(offset, offset + length, MIB // 4):
        held |= set(bytes(link.pread(4096, at)))
    link.shutdown()
    return bytes(sorted(held))


def within_a_request():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=64 * MIB)
        write(server, 'v', b'a')
        before = newest(server)
        write(server, 'v', b'b')
        after = newest(server)
        must_hold('the write is several records', after - before > 4)
        for disturbance in (None, 'kill', 'cold'):
            server.go_through(disturbance)
            for number in range(before, after + 1):
                wanted = (b'b', after) if number == after else (b'a', before)
                image = server.cli('image', 'open', 'v', '--at', f'seq:{number}', '--name', 'i')
                expect(f'seq:{number}', (letters(server, 'v.i'), image['at']['sequence']), wanted)
                server.cli('image', 'close', 'i')
                expect(f'v@seq:{number}', letters(server, f'v@seq:{number}'), wanted[0])
        middle = (before + after) // 2
        done = server.cli('restore', 'v', '--at', f'seq:{middle}', '--range', f'{MIB}:{2 * MIB}', '--force')
        expect('a range', done['to']['sequence'], before)
        expect('in the range', letters(server, 'v', MIB, 2 * MIB), b'a')
        expect('before the range', letters(server, 'v', 0, MIB), b'b')
        done = server.cli('restore', 'v', '--at', f'seq:{middle}', '--force')
        expect('a restore', (letters(server, 'v'), done['to']['sequence']), (b'a', before))
        server.cli('restore', 'v', '--at', f'seq:{after}', '--force')
        expect('and on', letters(server, 'v'), b'b')
        return f'{after - before} records'


def the_index_cache_is_bounded():
    """`index-cache`: what is kept of the index stays within it, and takes more where more is allowed."""
    many, blocks = 130000, 64 * MIB // 4096
    with Server(PROGRAMS, '--set', 'index-cache=1M') as server:
        server.ask('volume.create', name='v', size_bytes=64 * MIB)
        server.cli('mark', 'v', '--label', 'empty')
        link, chance = link_to(server, 'v'), random.Random(1)
        data = [nbd.Buffer.from_bytearray(bytearray(chance.randbytes(4096))) for _ in range(61)]
        errors = []  # of each write, what went wrong or 0
        for number in range(many):
            link.aio_pwrite(data[number % 61], chance.randrange(blocks) * 4096,
                            completion=lambda err: errors.append(err.value) or 1)
            while link.aio_in_flight() >= 64:
                link.poll(-1)
        link.flush()
        link.shutdown()
        expect('writes that failed', [error for error in errors if error], [])
        kept = []
        for options in (server.options, server.options[:-2]):
            server.options = options
            server.restart()
            link = link_to(server, 'v@empty')
            for at in range(0, 64 * MIB, MIB):
                must_hold('nothing was there', not any(link.pread(MIB, at)))
            link.shutdown()
            kept.append(server.status()['index']['cache_bytes'])
        must_hold(f'within 1 MiB: {kept[0]}', MIB // 2 < kept[0] <= MIB)
        must_hold(f'more without: {kept[1]}', kept[1] > MIB)
        return f'{kept[0]} and {kept[1]} bytes'


def the_oldest():
    """Every volume's oldest moment opens by number and by time, and nothing before it does."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=8 * MIB)
        for letter in (b'a', b'b'):
            write(server, 'v', letter)
            server.cli('mark', 'v', '--label', letter.decode())
        server.cli('restore', 'v', '--at', 'a')
        server.cli('image', 'open', 'v', '--at', 'b', '--name', 'i')
        server.cli('image', 'promote', 'i', 'w')
        server.ask('volume.create', name='u', size_bytes=8 * MIB)
        oldest = {name: server.cli('volume', 'show', name)['oldest'] for name in 'vwu'}
        expect('what was promoted has its source\'s past', oldest['w'], oldest['v'])
        expect('it begins when it was made', oldest['v']['time'], server.cli('volume', 'show', 'v')['created_at'])
        must_hold('u is younger', oldest['u']['sequence'] > oldest['v']['sequence'])
        for disturbance in (None, 'kill', 'cold'):
            server.go_through(disturbance)
            for name, first in oldest.items():
                expect(f'{name}, {disturbance}', server.cli('volume', 'show', name)['oldest'], first)
                for moment in (f'seq:{first["sequence"]}', first['time']):
                    expect(f'{name}@{moment}', letters(server, f'{name}@{moment}'), b'\0')
                    image = server.cli('image', 'open', name, '--at', moment, '--name', 'i')
                    expect('the answer', image['at'], first)
                    server.cli('image', 'close', 'i')
                told = server.cli('image', 'open', name, '--at', f'seq:{first["sequence"] - 1}', status=2)
                must_hold(told, f'{name} is kept since {first["time"]}' in told)
                server.cli('image', 'open', name, '--at', '2001-01-01T00:00:00Z', status=2)


def counter(server, export):
    link = link_to(server, export)
    count = int.from_bytes(bytes(link.pread(4096, 0)[:8]), 'little')
    link.shutdown()
    return count


def in_lock_step():
    """One client writes two volumes in turn: at any common moment the second is what the first was, or one behind."""
    rng = random.Random(5)
    with Server(PROGRAMS) as server:
        for name in ('first', 'second'):
            server.ask('volume.create', name=name, size_bytes=MIB)
        links = [link_to(server, name) for name in ('first', 'second')]
        start, times = newest(server), []
        for number in range(1, 1501):
            for link in links:
                link.pwrite(number.to_bytes(8, 'little') * 512, 0, nbd.CMD_FLAG_FUA if number % 7 == 0 else 0)
            if number % 100 == 0:
                times.append(server.status()['store']['newest']['time'])
            if number in (400, 800):
                server.disturb('kill' if number == 400 else 'reload')
        end = newest(server)

        def must_agree(where, exports):
            first, second = (counter(server, export) for export in exports)
            must_hold(f'{where}: {first} and {second}', second <= first <= second + 1)
            return first

        seen = set()
        for disturbance in (None, 'kill', 'cold'):
            server.go_through(disturbance)
            for at in [f'seq:{rng.randint(start, end)}' for _ in range(12)] + times[::6]:
                server.ask('image.open', volumes=['first', 'second'], at=at, name='both')
                seen.add(must_agree(at, ('first.both', 'second.both')))
                server.ask('image.close', name='both')
        for at in (f'seq:{rng.randint(start, end)}', times[2]):
            server.ask('restore', volumes=['first', 'second'], at=at, force=True)
            must_agree(f'restored to {at}', ('first', 'second'))
        must_hold('the end is there again', server.ask('restore', volumes=['first', 'second'], at=f'seq:{end}', force=True))
        expect('the end', [counter(server, name) for name in ('first', 'second')], [1500, 1500])
        return f'{len(seen)} different moments'


def out_of_the_trash():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=16 * MIB)
        write(server, 'v', b'a')
        before = newest(server)
        write(server, 'v', b'b')
        for disturbance in (None, 'kill', 'cold'):
            server.ask('volume.delete', name='v')
            said = refusal(server, 'image.open', volumes=['v'], at='now')
            must_hold(said, 'trash' in said)
            server.go_through(disturbance)
            expect('it is served', server.ask('volume.undelete', name='v')['state'], 'serving')
            expect('the present and the past', (letters(server, 'v'), letters(server, f'v@seq:{before}')), (b'b', b'a'))
        said = refusal(server, 'volume.undelete', name='v')
        must_hold(said, 'not in the trash' in said)


def refusal(server, op, **args):
    try:
        server.ask(op, **args)
        return 'it was done'
    except Refused as refused:
        return str(refused)


def destructive():
    """What came after is given up: it does not open, marks of it go, holds stand in the way, images stay."""
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=16 * MIB)
        at = {}
        for letter in 'abcde':
            write(server, 'v', letter.encode())
            at[letter] = newest(server)
            server.ask('mark.create', volumes=['v'], label=letter, hold=letter == 'd')
        server.ask('image.open', volumes=['v'], at='c', name='shows')
        told = server.ask('restore', volumes=['v'], at='b', destructive=True, dry_run=True)
        expect('a dry run', (told['destructive'], told['before']), (True, None))
        expect('changes nothing', letters(server, 'v'), b'e')
        said = refusal(server, 'restore', volumes=['v'], at='b', destructive=True)
        must_hold(said, 'hold' in said)
        said = refusal(server, 'restore', volumes=['v'], at='b', destructive=True,
                       range={'offset_bytes': 0, 'length_bytes': 4096})
        must_hold(said, 'range' in said)
        expect('nothing has changed', letters(server, 'v'), b'e')
        server.ask('restore', volumes=['v'], at='b', destructive=True, force=True)
        write(server, 'v', b'x', length=MIB)
        end = newest(server)
        for disturbance in (None, 'kill', 'clean', 'cold'):
            if disturbance == 'cold':
                server.cold()
            elif disturbance == 'clean':
                server.control('clean')
                wait_until('it is clean', lambda: not server.status()['cleaning']['running'])
            elif disturbance:
                server.disturb(disturbance)
            expect('marks', sorted(mark['label'] for mark in server.ask('mark.list')['marks']), ['a', 'b'])
            for letter, shown in (('a', b'a'), ('b', b'b'), ('c', b'b'), ('d', b'b'), ('e', b'b')):
                expect(f'{letter}, {disturbance}', letters(server, f'v@seq:{at[letter]}'), shown)
            expect('the present', (letters(server, 'v', length=MIB), letters(server, 'v', MIB, LARGE - MIB)), (b'x', b'b'))
            expect('the end', letters(server, f'v@seq:{end}', length=MIB), b'x')
            expect('the image', letters(server, 'v.shows'), b'c')


def main():
    tap = Tap()
    tap.case('a number within a request means the moment before it', within_a_request)
    tap.case('the index cache is bounded', the_index_cache_is_bounded)
    tap.case('the oldest moment of a volume opens', the_oldest)
    tap.case('two volumes in lock-step', in_lock_step)
    tap.case('a destructive restore', destructive)
    tap.case('out of the trash', out_of_the_trash)
    tap.end()


if __name__ == '__main__':
    main()
