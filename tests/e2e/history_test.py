#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`history` on a real server: what clients did is counted once, over reloads and deaths, and is still there after a
cold start. Limits to history by bytes. Reports TAP."""
import os
import random
import sys
import time

sys.dont_write_bytecode = True
from perdure import Refused, Server, Tap, expect, link_to, must_hold, run, wait_until

PROGRAMS = sys.argv[1:3]
SIZE = 64 << 20
BLOCK = 4096


def totals(server, name='v', **more):
    """Sums over all steps, as the command line tells them."""
    sums = {}
    after = {}
    while True:
        told = server.ask('history', name=name, **more, **after)
        for step in told['steps']:
            for key, value in step.items():
                if key not in ('time', 'first_sequence', 'last_sequence', 'clean_sequence'):
                    sums[key] = sums.get(key, 0) + value
        if told['next'] is None:
            return sums
        after = {'after': told['next']}


def counts_once():
    rng = random.Random(1)
    made = dict.fromkeys(('writes', 'write_bytes', 'recorded_bytes', 'trims', 'trim_bytes', 'zeroes', 'zero_bytes',
                          'flushes'), 0)

    def count(kind, length):
        made[kind + 's' if kind != 'zero' else 'zeroes'] += 1
        made[kind + '_bytes'] += length

    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        server.ask('volume.create', name='idle', size_bytes=SIZE)
        link = link_to(server, 'v')
        for disturbance in (None, 'reload', 'kill', 'kill', 'reload'):
            if disturbance:
                server.disturb(disturbance)
            for _ in range(300):
                at = rng.randrange(SIZE // BLOCK - 64) * BLOCK
                length = rng.randrange(1, 64) * BLOCK
                kind = rng.choice(('write', 'write', 'trim', 'zero', 'flush'))
                if kind == 'write':
                    link.pwrite(rng.randbytes(64) * (length // 64), at)
                    made['recorded_bytes'] += length
                    count('write', length)
                elif kind == 'trim':
                    link.trim(length, at)
                    count('trim', length)
                elif kind == 'zero':
                    link.zero(length, at)
                    count('zero', length)
                else:
                    link.flush()
                    made['flushes'] += 1
        sums = totals(server)
        expect('what was counted', {key: sums[key] for key in made}, made)
        must_hold(f'some was overwritten: {sums}', 0 < sums['overwritten_bytes'] < sums['recorded_bytes'])
        must_hold('it compresses well', 0 < sums['packed_bytes'] * 4 < sums['sampled_bytes'])
        for step in (10 ** 9, 7 * 10 ** 9, 60 * 10 ** 9, 86400 * 10 ** 9):
            expect(f'by {step} ns', totals(server, step_ns=step), sums)
        expect('an idle volume', totals(server, 'idle'), {})
        told = server.ask('pauses')
        expect('pauses', [one['kind'] for one in told['last']], ['planned', 'uninvited', 'uninvited', 'planned'])
        expect('planned', (told['planned']['count'], sum(step['planned'] for step in told['steps'])), (2, 2))
        expect('uninvited', (told['uninvited']['count'], sum(step['uninvited'] for step in told['steps'])), (2, 2))
        expect('connections', [(one['kept'], one['closed']) for one in told['last']], [(1, 0)] * 4)
        expect('the longest', told['longest_ns'], max(one['pause_ns'] for one in told['last']))
        expect('the last', told['last'][-1]['pause_ns'], server.status()['reload']['pause_ns'])
        server.cold()
        expect('after a cold start', totals(server), sums)
        expect('pauses of a new arena', server.ask('pauses')['last'], [])
        link = link_to(server, 'v')
        link.pread(SIZE // 4, 0)
        link.pwrite(bytes(SIZE // 4), 0)
        sums = totals(server)
        must_hold(f'what was read and then overwritten is told: {sums}', sums['reread_bytes'] >= SIZE // 4)
        link.flush()
        rest = server.status()['store']['newest']['sequence']
        time.sleep(0.2)
        link.pwrite(bytes(BLOCK), 0)
        expect('the clean moment', [step['clean_sequence'] for step in server.ask('history', name='v', step_ns=10 ** 9)['steps']][-1], rest)
        server.ask('mark.create', volumes=['v'], label='here')
        expect('marks', [mark['label'] for mark in server.ask('history', name='v')['marks']], ['here'])
        told = run(PROGRAMS[1], '--socket', server.control_path, 'history', 'v', '--step', '1h')
        must_hold(told, 'written to v' in told and 'mark here' in told)
        return f'{made["writes"]} writes'


def what_was_there():
    """Writes of what is there already are counted, and take no room; nothing has changed."""
    data = random.Random(2).randbytes(4 << 20)
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        for disturbance in (None, 'kill', 'reload'):
            if disturbance:
                server.disturb(disturbance)
            link = link_to(server, 'v')
            for at in range(0, len(data), 64 << 10):
                link.pwrite(data[at:at + (64 << 10)], at)
            link.flush()
            if not disturbance:
                once = server.status()['store']['newest']['sequence']
        sums = totals(server)
        expect('all are counted', (sums['writes'], sums['write_bytes']), (3 * 64, 3 * len(data)))
        expect('one took room', sums['recorded_bytes'], len(data))
        newest = server.status()['store']['newest']['sequence']
        must_hold(f'each is a moment: {once}, {newest}', newest >= once + 2 * 64)
        expect('nothing changed', server.ask('diff', name='v', **{'from': f'seq:{once}', 'to': 'now'})['ranges'], [])
        server.cold()
        expect('the data', link_to(server, 'v').pread(len(data), 0), data)
        expect('when', len(server.ask('when', name='v', limit=1000)['writes']), 64)


def refusals():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        for args, word in (({'from': 'seq:5'}, 'by time'), ({'from': 'now', 'to': '-1h'}, 'later'),
                           ({'name': 'none'}, 'no such volume'), ({'step_ns': 1000}, 'step')):
            try:
                server.ask('history', **{'name': 'v', **args})
                must_hold(f'{args} is refused', False)
            except Refused as refused:
                must_hold(f'{args}: {refused}', word in str(refused))
        try:
            server.ask('volume.set', name='v', retain_bytes=1 << 20, retain_all=True)
            must_hold('a limit and all are refused', False)
        except Refused as refused:
            must_hold(str(refused), 'limit' in str(refused))


def a_limit_by_bytes():
    """Moments open as far back as the limit says; what is older is given up, and the room used again."""
    rng = random.Random(3)
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE, retain_bytes=100 << 20)
        server.ask('volume.create', name='all', size_bytes=SIZE)
        link = link_to(server, 'v')
        moments = []
        for number in range(7):
            start = server.status()['store']['newest']['time'][:19]
            wait_until('another second', lambda: server.status()['store']['newest']['time'][:19] != start)
            data = rng.randbytes(BLOCK) * (SIZE // BLOCK // 2)
            link.pwrite(data, 0)
            link.flush()
            moments.append((server.ask('volume.show', name='v')['newest']['sequence'], data[:BLOCK]))
            if number == 3:
                server.disturb('kill')
        link_to(server, 'all').pwrite(bytes(BLOCK), 0)

        def is_given_up():
            server.control('clean')
            return server.ask('volume.show', name='v')['oldest']['sequence'] >= moments[2][0]
        wait_until('the limit is kept', is_given_up)
        for disturbance in (None, 'reload', 'cold'):
            server.go_through(disturbance)
            oldest = server.ask('volume.show', name='v')['oldest']['sequence']
            within = [moment for moment in moments if moment[0] >= oldest]
            # Three writes and an eighth are within the limit, and moments go by seconds.
            must_hold(f'what is promised: {oldest} of {moments[0][0]} to {moments[-1][0]}', 3 <= len(within) <= 4)
            for sequence, data in within:
                expect(f'the moment {sequence}', bytes(link_to(server, f'v@seq:{sequence}').pread(BLOCK, 0)), data)
            try:
                server.ask('image.open', volumes=['v'], at=f'seq:{moments[1][0]}')
                must_hold('an older moment is refused', False)
            except Refused as refused:
                must_hold(str(refused), 'given up' in str(refused) or 'oldest' in str(refused))
        must_hold('others keep all', server.ask('volume.show', name='all')['oldest']['sequence'] < moments[0][0])
        return f'{len(within)} moments of {len(moments)}'


def main():
    os.environ.setdefault('TZ', 'UTC')
    tap = Tap()
    tap.case('what clients do is counted once', counts_once)
    tap.case('writes of what was there', what_was_there)
    tap.case('what is refused', refusals)
    tap.case('a limit by bytes', a_limit_by_bytes)
    tap.end()


if __name__ == '__main__':
    main()
