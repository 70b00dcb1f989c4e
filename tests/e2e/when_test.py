#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What was written, when, and what was there before: `when` of a real server against a model. Reports TAP."""
import random
import sys
import time

import nbd

sys.dont_write_bytecode = True
from perdure import Server, Tap, link_to, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
KIB = 1 << 10
MIB = 1 << 20
SIZE = 4 * MIB


class Model:
    """A volume, and all that was done to it: (sequence, kind, offset, length, before, after)."""

    def __init__(self, server, rng, name='v', size=SIZE, **more):
        self.server, self.rng, self.name, self.size = server, rng, name, size
        server.ask('volume.create', name=name, size_bytes=SIZE, block_size_bytes=512, **more)
        self.disk = bytearray(SIZE)
        self.done = []

    def newest(self):
        return self.server.status()['store']['newest']['sequence']

    def note(self, kind, offset, data):
        before = bytes(self.disk[offset:offset + len(data)])
        self.disk[offset:offset + len(data)] = data
        self.done.append((self.newest(), kind, offset, len(data), before, bytes(data)))

    def some(self, count):
        link = link_to(self.server, self.name)
        for _ in range(count):
            unit = self.rng.choice([512, 4 * KIB, 64 * KIB])
            length = unit * self.rng.randrange(1, 4)
            offset = self.rng.randrange((self.size - length) // unit) * unit
            if self.rng.random() < 0.5:
                offset %= 256 * KIB  # some parts are written again and again
            if self.rng.random() < 0.2 and unit > 512:
                (link.trim if self.rng.random() < 0.5 else link.zero)(length, offset)
                kind = None
                data = bytes(length)
            else:
                data, kind = self.rng.randbytes(length), 'write'
                link.pwrite(data, offset)
            self.note(kind, offset, data)
        link.flush()
        link.shutdown()


def when(server, name='v', **args):
    return server.ask('when', name=name, **args)


def all_of(server, limit, **args):
    """Over as many answers as it takes."""
    rows, below = [], 0
    while True:
        answer = when(server, limit=limit, below=below, **args)
        must_hold('no more than asked for', len(answer['writes']) <= limit)
        rows += answer['writes']
        if answer['older'] is None:
            return rows
        below = answer['older']


def must_tell(model, offset, length, limit, **args):
    """Every write that touched the range, newest first; one of several records is one row for each."""
    if (offset, length) != (0, SIZE):
        args['range'] = {'offset_bytes': offset, 'length_bytes': length}
    rows = all_of(model.server, limit, **args)
    expected = [one for one in reversed(model.done) if one[2] < offset + length and one[2] + one[3] > offset]
    told = [row for row in rows if row['ends_request']]
    must_hold(f'{len(expected)} writes of {offset}:{length}, {len(told)} told',
              [row['at']['sequence'] for row in told] == [one[0] for one in expected])
    for row, one in zip(told, expected):
        must_hold(f'{row} is {one[:4]}', row['at']['time'] is not None and row['kind'] != 'restore'
                  and (row['kind'] == 'write') == (one[1] == 'write')
                  and one[2] <= row['offset_bytes'] and row['offset_bytes'] + row['length_bytes'] <= one[2] + one[3])
    return len(told)


def must_show(model, count):
    """What was there before a write, and after it."""
    for one in model.rng.sample(model.done, count):
        sequence, _, offset, length, before, after = one
        for moment, data in ((sequence - 1, before), (sequence, after)):
            link = link_to(model.server, f'{model.name}@seq:{moment}')
            must_hold(f'seq:{moment} of {one[:4]}', bytes(link.pread(length, offset)) == data)
            link.shutdown()


def look(model):
    rng, told = model.rng, must_tell(model, 0, SIZE, 100)
    must_hold('all of them', told == len(model.done))
    for _ in range(6):
        length = 512 * rng.randrange(1, 200)
        offset = 512 * rng.randrange((256 * KIB - 512 * 200) // 512)
        must_tell(model, offset, length, rng.choice([1, 7, 100]))


def every_write():
    with Server(PROGRAMS) as server:
        model = Model(server, random.Random(1))
        model.some(60)
        look(model)
        for disturbance in ('reload', 'kill', 'cold'):
            model.some(30)
            server.go_through(disturbance)
            look(model)
            must_show(model, 6)
        server.stop()
        server.start()
        look(model)
        must_show(model, 6)
        return f'{len(model.done)} writes'


def nothing_since_a_start():
    """A start leaves numbers out: the newest moment is that of no write. It is one all the same, over engines."""
    with Server(PROGRAMS) as server:
        model = Model(server, random.Random(5))
        model.some(3)
        ends = {'from': f'seq:{model.done[0][0]}', 'to': 'now'}
        changed = server.ask('diff', name='v', **ends)['ranges']
        for nth, disturbance in enumerate(('cold', 'kill', 'reload', 'cold')):
            newest = model.newest()
            label = f'nothing-{nth}'
            server.ask('mark.create', volumes=['v'], label=label)
            server.go_through(disturbance)
            must_hold('the newest moment goes on', model.newest() >= newest)
            must_hold('diff up to now', server.ask('diff', name='v', **ends)['ranges'] == changed)
            must_hold('diff since the mark',
                      not server.ask('diff', name='v', **{'from': label, 'to': 'now'})['ranges'])
            must_hold('the writes', len(when(server, **ends)['writes']) >= 2)
            server.ask('restore', volumes=['v'], at=label, dry_run=True)
        return f'up to seq:{newest}'


def who_wrote():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        links = [link_to(server, 'v') for _ in range(2)]
        ids = []
        for at, link in enumerate(links):
            link.pwrite(b'x' * 4096, at * 4096)
            ids += [one['id'] for one in server.ask('connections')['connections']
                    if one['written_bytes'] and one['id'] not in ids]
        must_hold(f'{ids}: two connections', len(ids) == 2)
        told = [(row['offset_bytes'] // 4096, row['connection']) for row in when(server)['writes']]
        must_hold(f'{told} are of {ids}', told == [(1, ids[1]), (0, ids[0])])
        for link in links:
            link.shutdown()
        return 'known'


def far_between():
    """An answer ends when the server has looked far enough; the next goes on there, and the command asks on."""
    size = 128 * MIB
    with Server(PROGRAMS) as server:
        for name in ('v', 'w'):
            server.ask('volume.create', name=name, size_bytes=size)
        written = []
        for at in range(3):
            link = link_to(server, 'v')
            link.pwrite(b'v' * 4096, at * 4096)
            link.shutdown()
            written.append(server.status()['store']['newest']['sequence'])
            other = link_to(server, 'w')
            for n in range(1200 if at == 1 else 3):
                other.pwrite(b'w' * 4096, n % 64 * 4096, nbd.CMD_FLAG_FUA)
            other.shutdown()
        first = when(server)
        must_hold(f'a short answer: {first}', len(first['writes']) == 1 and first['older'] is not None)
        must_hold('all of them', [row['at']['sequence'] for row in all_of(server, 100)] == written[::-1])
        told = server.cli('when', 'v')
        must_hold(f'the command asks on: {told}', [row['at']['sequence'] for row in told['writes']] == written[::-1])
        found = server.cli('bisect', 'v', '--good', f'seq:{written[0]}', '--bad', 'now', '--', '/usr/bin/python3', '-c',
                           'import nbd,sys; h=nbd.NBD(); h.connect_uri(sys.argv[1]); '
                           'sys.exit(any(h.pread(4096, 4096)))', '{}')
        must_hold(f'{found}', found['first_bad']['at']['sequence'] == written[1])
        return f'{len(written)} writes among 1200'


def between_moments():
    with Server(PROGRAMS) as server:
        model = Model(server, random.Random(2))
        model.some(40)
        first, last = model.done[9][0], model.done[29][0]
        rows = all_of(server, 100, **{'from': f'seq:{first}', 'to': f'seq:{last}'})
        must_hold('twenty writes', {row['at']['sequence'] for row in rows if row['ends_request']}
                  == {one[0] for one in model.done[10:30]})
        # A restored range is told as such, and what a restore took back is not there.
        server.ask('restore', volumes=['v'], at=f'seq:{first}', range={'offset_bytes': 0, 'length_bytes': MIB})
        newest = when(server, limit=1, range={'offset_bytes': 0, 'length_bytes': 4096})['writes'][0]
        must_hold(f'a restore: {newest}', newest['kind'] == 'restore' and newest['restored_from'] == first)
        server.ask('restore', volumes=['v'], at=f'seq:{first}')
        rows = all_of(server, 100)
        must_hold('ten are left', [row['at']['sequence'] for row in rows if row['ends_request']]
                  == [one[0] for one in reversed(model.done[:10])])
        return 'as told'


def of_cleaned_history():
    """Numbers are known of what the present shows, though the log's frames have gone."""
    rng = random.Random(3)
    with Server(PROGRAMS) as server:
        model = Model(server, rng, retain_ns=10 ** 9)
        model.some(20)
        kept = model.done[-1]
        server.ask('volume.create', name='w', size_bytes=96 * MIB, retain_ns=10 ** 9)
        link = link_to(server, 'w')
        for at in range(3 * 96):
            link.pwrite(rng.randbytes(4096) * 256, at % 96 * MIB)
        link.flush()
        link.shutdown()
        time.sleep(1.2)

        def freed():
            try:
                server.control('clean')
            except (OSError, ValueError):
                pass
            return server.status()['cleaning']['segments_freed'] >= 2
        wait_until('segments are freed', freed)
        rows = when(server, range={'offset_bytes': kept[2], 'length_bytes': 512})['writes']
        must_hold(f'nothing before the oldest moment: {rows}', not rows)
        model.some(5)
        must_hold('the new ones', len([row for row in all_of(server, 100) if row['ends_request']]) == 5)
        return 'told'


def bisected():
    """The write that spoils a sector is found, over trims, other volumes' writes and a command that cannot tell."""
    rng = random.Random(4)
    spot = SIZE - 4096
    with Server(PROGRAMS) as server:
        model, other = Model(server, rng, size=spot), Model(server, rng, 'w')
        model.some(30)
        good = model.done[-1][0]
        for n in range(60):
            (model if n % 3 else other).some(1)
            if n == 41:
                link = link_to(server, 'v')
                link.pwrite(b'x' * 512, spot)
                model.note('write', spot, b'x' * 512)
                link.shutdown()
                spoilt = model.done[-1][0]
        judge = (f'import nbd,os,sys; h=nbd.NBD(); h.connect_uri(sys.argv[1]); d=bytes(h.pread(512,{spot})); '
                 'assert sys.argv[1]==os.environ["PERDURE_IMAGE_URI"]; n=int(sys.argv[1].rsplit("-",1)[1]); ')
        words = ('bisect', 'v', '--good', f'seq:{good}', '--bad', 'now', '--')
        found = server.cli(*words, '/usr/bin/python3', '-c', judge + 'sys.exit(3 if any(d) else 0)', '{}')
        must_hold(f'{found} is {spoilt}', found['first_bad']['at']['sequence'] == spoilt
                  and found['first_bad']['offset_bytes'] == spot and found['unclear'] == 0)
        before = max(one[0] for one in model.done if one[0] < spoilt)
        must_hold(f'the last good one is {before}', found['last_good'] == before)
        must_hold(f'halving: {len(found["steps"])} steps', len(found['steps']) <= 10)
        must_hold('no image is left', server.ask('image.list')['images'] == [])
        # One in three cannot be judged, but never the ends.
        told = server.cli(*words, '/usr/bin/python3', '-c',
                          judge + f'sys.exit(125 if n % 3 == 0 and n not in {(good, model.done[-1][0])} else 3 if any(d) else 0)',
                          '{}')
        must_hold(f'{told}', told['last_good'] < spoilt <= told['first_bad']['at']['sequence'])
        if not told['unclear']:
            must_hold('the same', told['first_bad'] == found['first_bad'])
        for command, why, status in [(('false',), 'the good moment', 2), (('true',), 'the bad moment', 2),
                                     (('sh', '-c', 'kill -9 $$'), 'signal 9', 1), (('/nonexistent',), 'ends the search', 1)]:
            said = server.cli(*words, *command, status=status)
            must_hold(f'{command}: {said}', why in said and server.ask('image.list')['images'] == [])
        said = server.cli('bisect', 'v', '--good', 'now', '--bad', 'now', '--', 'true', status=2)
        must_hold(f'nothing between: {said}', 'nothing was written' in said)
        said = server.cli('bisect', 'v', '--good', '-1h', '--bad', 'now', status=2)
        must_hold(f'no command: {said}', 'needs -- COMMAND' in said)
        return f'{len(found["steps"])} steps for {len(model.done)} writes'


def bad_input():
    with Server(PROGRAMS) as server:
        server.ask('volume.create', name='v', size_bytes=SIZE)
        for words, why, status in [
                (('nobody',), 'no volume is called nobody', 3),
                (('v', '--range', '4M:1'), 'beyond the end', 2),
                (('v', '--range', '0:5M'), 'beyond the end', 2),
                (('v', '--from', 'now', '--to', '-1h'), '', 2),
                (('v', '--to', 'seq:99999999999'), 'newest', 2),
                (('v', '--limit', '0'), 'between', 2)]:
            said = server.cli('when', *words, status=status)
            must_hold(f'{words}: {said}', why in said)
        empty = when(server)
        must_hold(f'nothing: {empty}', empty['writes'] == [] and empty['older'] is None)
        return 'refused'


def main():
    tap = Tap()
    tap.case('every write', every_write)
    tap.case('nothing since a start', nothing_since_a_start)
    tap.case('between moments', between_moments)
    tap.case('who wrote', who_wrote)
    tap.case('far between', far_between)
    tap.case('of cleaned history', of_cleaned_history)
    tap.case('bisected', bisected)
    tap.case('bad input', bad_input)
    tap.end()


if __name__ == '__main__':
    main()
