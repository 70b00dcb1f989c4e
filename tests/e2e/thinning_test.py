#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""History that is thinned: a real server whose clock the test sets (libfaketime), so that hours pass in seconds.
Reports TAP."""
import glob
import os
import random
import sys
import tempfile
import time
from datetime import datetime

sys.dont_write_bytecode = True
from perdure import Refused, Server, Tap, expect, link_to, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
LIBRARY = (glob.glob('/usr/lib/*/faketime/libfaketime.so.1') + ['libfaketime.so.1'])[0]
MIB = 1 << 20
PARTS = 4
STEP_S = 20
PHASE_S = int(os.environ.get('PERDURE_PHASE_S', 1234))
LEVELS = '10m:1m,1h:15m'
FINE_S, COARSE_S = 600, 3600


class Clock:
    """Goes ahead of the real one by what a file says; all processes of the server read it."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'ahead')
        self.ahead = 0
        # Always the same part of an hour, so that a run is like any other.
        self.pass_s(PHASE_S + 3600 - int(time.time()) % 3600)

    def pass_s(self, seconds):
        self.ahead += seconds
        with open(self.path + '.new', 'w', encoding='utf-8') as file:
            file.write(f'+{self.ahead}\n')
        os.rename(self.path + '.new', self.path)

    def now_s(self):
        return time.time() + self.ahead

    def under(self, *more):
        """What a server runs under, to see this clock."""
        return ['env', f'LD_PRELOAD={LIBRARY}', f'FAKETIME_TIMESTAMP_FILE={self.path}', 'FAKETIME_NO_CACHE=1', *more]


def utc(seconds):
    return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))


def part_of(step, part):
    return random.Random(step * PARTS + part).randbytes(4096) * (MIB // PARTS // 4096)


class History:
    """What a volume held after each write: at `time_s` its newest record was `sequence`."""

    def __init__(self, server, clock, name, **policy):
        self.server, self.clock, self.name = server, clock, name
        server.ask('volume.create', name=name, size_bytes=MIB, **policy)
        self.parts = [0] * PARTS
        self.moments = []

    def write(self, rng):
        link = link_to(self.server, self.name)
        step = len(self.moments) + 1
        for part in rng.sample(range(PARTS), rng.randrange(1, PARTS + 1)):
            link.pwrite(part_of(step, part), part * (MIB // PARTS))
            self.parts[part] = step
        link.flush()
        link.shutdown()
        newest = self.server.status()['store']['newest']['sequence']
        self.moments.append((newest, self.clock.now_s(), list(self.parts)))

    def at(self, sequence):
        """What the volume showed at this moment."""
        shown = [0] * PARTS
        for newest, _, parts in self.moments:
            if newest > sequence:
                break
            shown = parts
        return b''.join(part_of(step, part) if step else bytes(MIB // PARTS)
                        for part, step in enumerate(shown))

    def must_open(self, text):
        """Opens it at this moment; what it shows must be what was there at the moment that it says."""
        image = self.server.ask('image.open', volumes=[self.name], at=text, name='look')
        try:
            link = link_to(self.server, self.name + '.look')
            data = bytes(link.pread(MIB, 0))
            link.shutdown()
        finally:
            self.server.ask('image.close', name='look', force=True)
        must_hold(f'{self.name} at {text} shows {image["at"]}', data == self.at(image['at']['sequence']))
        return image


def grow(server, clock, histories, rng, hours):
    """Writes come every 20 s; engines are replaced now and then. The sequence of a mark, early on."""
    steps = int(hours * 3600 / STEP_S)
    marked = None
    for step in range(steps):
        clock.pass_s(STEP_S)
        histories[rng.randrange(len(histories))].write(rng)
        server.ask('mark.list')  # behind what the catalogue has to note of this minute
        if step % 100 == 50:
            server.go_through('kill' if step % 200 == 50 else 'reload')
            time.sleep(0.2)  # what is left of a reload is not to see the clock go
        if step == steps // 3:
            marked = server.ask('mark.create', volumes=[histories[0].name], label=f'of-{steps}')['at']
    return marked['sequence']


def thin(server, name):
    def begun():
        try:
            server.control('clean')
            return True
        except (OSError, ValueError, Refused):
            return False
    def thinned():
        volume = server.ask('volume.show', name=name)
        return volume['every_moment_since'] != volume['oldest']
    wait_until('a cleaning begins', begun)
    wait_until('history is thinned', thinned)
    wait_until('segments are freed', lambda: server.status()['cleaning']['segments_freed'] >= 2)


def look_around(server, clock, v, u, marked, began_s):
    """Every moment of the first age; a moment a minute, and every quarter of an hour, of what is older."""
    now_s = clock.now_s()
    exact = inexact = 0
    for age_s in [15, 300, 590, 700, 1234, 3500, 4000, 5000, now_s - began_s - 1000]:
        step_s = 0 if age_s < FINE_S else 60 if age_s < COARSE_S else 900
        asked_s = now_s - age_s
        image = v.must_open(utc(asked_s))
        last = max((one for one in v.moments + u.moments if one[1] < int(asked_s)), key=lambda one: one[1])
        # The last write before a whole minute stands for that minute.
        least_s = asked_s - step_s - 2 * STEP_S if step_s else last[1] - 1
        shown = [one for one in v.moments + u.moments if one[0] <= image['at']['sequence']]
        must_hold(f'{age_s} s ago, {image["at"]} is not too old', max(one[1] for one in shown) >= least_s)
        exact += image['exact']
        inexact += not image['exact']
        u.must_open(utc(asked_s))
    must_hold(f'{exact} exact, {inexact} not', exact >= 3 and inexact >= 2)
    image = v.must_open(f'seq:{marked}')
    must_hold('a mark stays', image['exact'] and image['at']['sequence'] == marked)
    v.must_open('of-360')
    link = link_to(server, 'v@' + utc(now_s - 4000))
    link.shutdown()
    for one in v.moments[-20:]:
        must_hold('a young moment is exact', v.must_open(f'seq:{one[0]}')['exact'])


def writes_of(server, name, part):
    """All that is told of a part, and since when it is all."""
    rows, below = [], 0
    while below is not None:
        answer = server.ask('when', name=name, limit=4096, below=below,
                            range={'offset_bytes': part * (MIB // PARTS), 'length_bytes': MIB // PARTS})
        rows += answer['writes']
        below = answer['older']
    return rows, answer['every_write_since']


def writes_are_told(server, v):
    """Each of those since when every moment is kept; of older ones some, and of some of these the number alone."""
    without = 0
    for part in range(PARTS):
        rows, complete = writes_of(server, v.name, part)
        must_hold('as the volume says', complete == server.ask('volume.show', name=v.name)['every_moment_since'])
        before, told = 0, set()
        for step, (newest, _, parts) in enumerate(v.moments):
            if parts[part] == step + 1:
                told |= {row['at']['sequence'] for row in rows if before < row['at']['sequence'] <= newest}
                of_it = [row for row in rows if before < row['at']['sequence'] <= newest and row['kind']]
                must_hold(f'seq:{newest} is told whole', newest <= complete['sequence']
                          or sum(row['length_bytes'] for row in of_it) == MIB // PARTS)
            before = newest
        must_hold('and no others', told == {row['at']['sequence'] for row in rows})
        unknown = [row['at']['sequence'] for row in rows if row['kind'] is None]
        must_hold(f'{unknown} are old', all(sequence <= complete['sequence'] for sequence in unknown))
        without += len(unknown)
    must_hold('of some writes the number alone is known', without > 0)


def refused(server, v):
    fine = server.ask('volume.show', name='v')['every_moment_since']['sequence']
    old = [one[0] for one in v.moments if one[0] < fine]
    said = ''
    for sequence in old[5:15]:
        try:
            server.control('image.open', volumes=['v'], at=f'seq:{sequence}', name='one', exact=True)
            server.ask('image.close', name='one', force=True)
        except Refused as refusal:
            said = str(refusal)
    must_hold(f'--exact is refused with a reason: {said}', 'v keeps one moment for each' in said)
    said = server.cli('image', 'open', 'v', '--at', f'seq:{old[7]}', '--exact', status=2)
    must_hold(f'and with a hint: {said}', 'without --exact that one is taken' in said)
    for text, why in [('1d', 'AGE:STEP'), ('1d:7m', 'a step is one of'), ('1h:1h,2h:1m', 'longer'), ('1s:1m', 'minute')]:
        said = server.cli('volume', 'set', 'v', '--thin-after', text, status=2)
        must_hold(f'{text}: {said}', why in said)
    return said


def hours_in_seconds():
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(prefix='perdure-clock-') as folder:
        clock = Clock(folder)
        with Server(PROGRAMS, '--set', 'hang-s=3600', under=clock.under()) as server:
            began_s = clock.now_s()
            v = History(server, clock, 'v', thin_after=LEVELS)
            u = History(server, clock, 'u', thin_after='20m:5m')
            marked = grow(server, clock, [v, v, v, u], rng, 2)
            clock.pass_s(STEP_S)
            thin(server, 'v')
            look_around(server, clock, v, u, marked, began_s)
            refused(server, v)
            writes_are_told(server, v)
            for disturbance in ('reload', 'kill', 'cold'):
                server.go_through(disturbance)
                look_around(server, clock, v, u, marked, began_s)
            writes_are_told(server, v)
            grow(server, clock, [v, u], rng, 0.5)
            back = server.ask('restore', volumes=['v'], at=utc(clock.now_s() - 4000), force=True)
            must_hold(f'a restore says which moment it took: {back["to"]}', back['exact'] in (True, False))
            link = link_to(server, 'v')
            must_hold('and took it', bytes(link.pread(MIB, 0)) == v.at(back['to']['sequence']))
            link.shutdown()
            codes = [alert['code'] for alert in server.ask('alerts')['alerts']]
            must_hold(f'no alert: {codes}', not codes)
            return f'{len(v.moments) + len(u.moments)} writes in {clock.ahead} s of the server'


def the_clock_is_set():
    """The wall clock alone goes ahead by hours: nothing gets older by that."""
    rng = random.Random(2)
    with tempfile.TemporaryDirectory(prefix='perdure-clock-') as folder:
        clock = Clock(folder)
        with Server(PROGRAMS, under=clock.under('FAKETIME_DONT_FAKE_MONOTONIC=1')) as server:
            def alerts():
                return [alert['code'] for alert in server.ask('alerts')['alerts']]
            v = History(server, clock, 'v', thin_after='1h:1m', retain_ns=1800 * 10 ** 9)
            for _ in range(4):
                v.write(rng)
            clock.pass_s(7200)
            wait_until('it is told', lambda: 'clock_jumped' in alerts())
            v.write(rng)
            server.go_through('kill')
            server.control('clean')
            wait_until('a cleaning was', lambda: server.status()['cleaning']['passes'] > 0)
            for newest, _, _ in v.moments:
                must_hold('all moments stay', v.must_open(f'seq:{newest}')['exact'])
            clock.pass_s(-7200)
            wait_until('it is trusted again', lambda: 'clock_jumped' not in alerts())
            v.write(rng)
            for newest, _, _ in v.moments:
                must_hold('all moments stay', v.must_open(f'seq:{newest}')['exact'])
            # Confirmed, the time counts, and with it the age that the volume retains.
            clock.pass_s(7200)
            wait_until('it is told again', lambda: 'clock_jumped' in alerts())
            v.write(rng)
            must_hold('it was in doubt', server.cli('clock', 'confirm')['was_suspect'])
            must_hold('it is not any more', not server.cli('clock', 'confirm')['was_suspect']
                      and 'clock_jumped' not in alerts())

            def given_up():
                server.control('clean')
                return server.ask('volume.show', name='v')['oldest']['sequence'] >= v.moments[-1][0]
            wait_until('what is two hours old is given up', given_up)
            for disturbance in (None, 'kill', 'cold', 'cold'):
                server.go_through(disturbance)
                told = server.ask('history', name='v', **{'from': '-1d', 'to': utc(clock.now_s() + 60)})['clock_jumps']
                hours = [round((datetime.fromisoformat(one['to']) - datetime.fromisoformat(one['from'])).total_seconds() / 3600)
                         for one in told]
                expect(f'where the clock was set, after {disturbance}', hours, [2, -2, 2])
            return f'{len(v.moments)} moments'


def main():
    tap = Tap()
    tap.case('hours in seconds', hours_in_seconds)
    tap.case('the clock is set', the_clock_is_set)
    tap.end()


if __name__ == '__main__':
    main()
