#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures perdured beside other servers: bench.py PERDURED PERDURE LOAD NBD_STORM [OPTION]...

Every round runs every case on every server, one after the other, the servers in turning order; ratios are
taken within a round, and medians over the rounds. Each server has its own data on the same file system.
Then come the figures that only perdured has: the past, images, restores, starts, and the pause of reloads
and kills. Prints tables in Markdown, and writes everything that was measured as JSON.

--rounds N (3; 0: only the pauses), --seconds S of a case (1), --size-mib N of a volume (1024), --pauses N (60),
--give-up-s S of each run while history is given up (15; 0: none), --only WORD... of servers, --json PATH. Each has a
variable too: PERDURE_BENCH_ROUNDS and so on. docs/benchmarks.md tells the method.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), '..'))
sys.path.insert(0, os.path.join(TREE, 'tests/e2e'))
from peers import CEILING, PEERS, Perdured, cpu_us, forget, memory_mib
from perdure import ENVIRONMENT, run

OURS = 'perdured'

# Reads come first, from what was written in order. name, unit, options of load, cold
CASES = [
    ('128k seq read qd8', 'mib_per_s', '--do read --at sequential --bytes 131072 --depth 8', True),
    ('4k rand read qd1', 'iops', '--do read --depth 1', True),
    ('4k rand read qd32', 'iops', '--do read --depth 32', True),
    ('4k rand read qd128', 'iops', '--do read --depth 128', True),
    ('4k rand read qd32 warm', 'iops', '--do read --depth 32', False),
    ('4k rand write qd1', 'iops', '--do write --depth 1', False),
    ('4k rand write qd32', 'iops', '--do write --depth 32', False),
    ('4k rand write qd128', 'iops', '--do write --depth 128', False),
    ('4k write+flush 1 client', 'iops', '--do write --then flush', False),
    ('4k write+flush 16 clients', 'iops', '--do write --then flush --clients 16', False),
    ('4k FUA write 1 client', 'iops', '--do write --then fua', False),
    ('128k seq write qd8', 'mib_per_s', '--do write --at sequential --bytes 131072 --depth 8', False),
]
# Only perdured: the volume after all those writes, and the moment before them.
PAST = [('4k rand read qd32', '--do read --depth 32', True),
        ('4k rand read qd32 warm', '--do read --depth 32', False)]

# What docs/benchmarks.md calls the aims: case, unit, of what, at least so many times as fast.
PLAIN = 'the fastest plain server'
# Connections, and requests a second of all of them.
PAUSES = ((1, 2000), (100, 5000), (1000, 5000), (10000, 5000))
AIMS = [
    ('4k rand write qd32', 'iops', PLAIN, 1.3),
    ('4k rand write qd1', 'iops', CEILING, 0.85),
    ('4k write+flush 16 clients', 'iops', PLAIN, 2.0),
    ('4k rand read qd32', 'iops', PLAIN, 1.3),
    ('4k rand read qd32 warm', 'iops', PLAIN, 1.0),
    ('128k seq write qd8', 'mib_per_s', PLAIN, 1.1),
    ('128k seq read qd8', 'mib_per_s', PLAIN, 1.2),
]


def arguments():
    def default(name, value):
        return os.environ.get('PERDURE_BENCH_' + name, value)
    parser = argparse.ArgumentParser()
    parser.add_argument('programs', nargs=4)
    parser.add_argument('--rounds', type=int, default=default('ROUNDS', 3))
    parser.add_argument('--seconds', type=float, default=default('SECONDS', 1))
    parser.add_argument('--size-mib', type=int, default=default('SIZE_MIB', 1024))
    parser.add_argument('--pauses', type=int, default=default('PAUSES', 60))
    parser.add_argument('--give-up-s', type=float, default=default('GIVE_UP_S', 15))
    parser.add_argument('--only', nargs='*', default=default('ONLY', '').split())
    parser.add_argument('--json', default=default('JSON', os.path.join(TREE, 'out/bench.json')))
    parser.add_argument('--folder', default=default('FOLDER', None))
    return parser.parse_args()


class Bench:
    def __init__(self, options, folder):
        self.options = options
        self.perdured, self.perdure, self.load_program, self.storm_program = options.programs
        self.servers = {}
        self.measured = []  # one object for each run of a case
        size = options.size_mib << 20
        starts = {OURS: lambda: Perdured(folder, size, (self.perdured, self.perdure))}
        starts.update({name: lambda make=make: make(folder, size) for name, make in PEERS.items()})
        for name, start in starts.items():
            if not options.only or any(word in name for word in options.only):
                self.servers[name] = start()
                self.tell(f'{name} serves')

    @staticmethod
    def tell(text):
        print(text, file=sys.stderr, flush=True)

    def close(self):
        for server in self.servers.values():
            server.close()

    def load(self, uri, words, seconds=None):
        return json.loads(run(self.load_program, *words.split(), '--seconds', seconds or self.options.seconds,
                              uri, limit_s=600))

    def measure(self, number, name, case, words, cold, uri=None):
        server = self.servers[name]
        if cold:
            forget(server)
        elif '--do read' in words:
            self.load(uri or server.uri, '--do scan --bytes 131072 --depth 8')
        else:
            self.load(uri or server.uri, words, 0.2)
        before = cpu_us(server.pids())
        told = self.load(uri or server.uri, words)
        after = cpu_us(server.pids())
        told.update(round=number, server=name, case=case,
                    cpu_us_per_operation=(after - before) / max(1, told['operations']))
        self.measured.append(told)

    def one_round(self, number, names):
        for name in names:
            server = self.servers[name]
            server.begin_round()
            if name != CEILING:
                self.load(server.uri, '--do fill --bytes 131072 --depth 8')
        ours = self.servers.get(OURS)
        if ours:
            ours.cli('mark', ours.name, '--label', f'filled-{number}')
        for case, _, words, cold in CASES:
            for name in names:
                self.measure(number, name, case, words, cold)
            names = names[1:] + names[:1]
            self.tell(f'round {number}: {case}')
        if ours:
            for case, words, cold in PAST:
                self.measure(number, OURS, 'overwritten, now: ' + case, words, cold)
                self.measure(number, OURS, 'a past moment: ' + case, words, cold,
                             ours.moment_uri(f'filled-{number}'))

    def rounds(self):
        names = list(self.servers)
        for number in range(1, self.options.rounds + 1):
            self.one_round(number, names)
            names = names[1:] + names[:1]

    # -- what only perdured does --

    @staticmethod
    def timed(function, *args, **more):
        begin = time.monotonic()
        function(*args, **more)
        return (time.monotonic() - begin) * 1e3

    def operations(self):
        """Milliseconds, as a program on the control socket sees them."""
        server, name = self.servers[OURS], self.servers[OURS].name
        times = {'open an image': [], 'restore': [], 'mark': [], 'cold start after a kill of all': []}
        for number in range(20):
            label = f'm{number}'
            times['mark'].append(self.timed(server.control, 'mark.create', volumes=[name], label=label))
            times['open an image'].append(self.timed(server.control, 'image.open', volumes=[name], at=label,
                                                     name=label))
            times['restore'].append(self.timed(server.control, 'restore', volumes=[name], at=label))
            server.control('image.close', name=label)
        for _ in range(5):
            server.kill_all()
            times['cold start after a kill of all'].append(self.timed(server.start))
        return times

    def giving_up(self):
        """The same random writes on a volume that keeps all, and on one that keeps half of its size in bytes."""
        server, seconds, size = self.servers[OURS], self.options.give_up_s, self.options.size_mib << 20
        kinds = {'keeps all': [], 'keeps half its size': []}
        for number in range(3):
            for kind in list(kinds) if number % 2 else reversed(list(kinds)):
                server.cli('volume', 'create', 'limit', '--size', size,
                           *(['--retain-bytes', size // 2] if kind != 'keeps all' else []))
                uri = f'nbd://127.0.0.1:{server.port}/limit'
                self.load(uri, '--do fill --bytes 131072 --depth 8')
                before = server.control('status')['cleaning']
                told = self.load(uri, '--do write --depth 32', seconds)
                after = server.control('status')['cleaning']
                kinds[kind].append(dict(told, **{key: after[key] - before[key] for key in
                                                 ('passes', 'segments_freed', 'segments_made', 'moved_bytes')}))
                server.cli('volume', 'delete', 'limit', '--now')
                self.tell(f'giving up, {number + 1}: {kind}')
        return kinds

    def pauses(self, connections, rate):
        """Reloads and kills under a load that the server can bear."""
        server = self.servers[OURS]
        server.cli('volume', 'create', f'pause-{connections}', '--size', 256 << 20, '--block-size', 512)
        # Regions of less than a block or two would leave nothing to write.
        share = ['--share', '40', '--size', str(connections // 40 << 20)] if connections > 1000 else []
        with subprocess.Popen([self.storm_program, '--connections', str(connections), '--depth', '4', '--rate',
                               str(rate), *share, str(server.port), f'pause-{connections}'], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as storm:
            def tell(kind):
                storm.stdin.write(f'{kind} {time.monotonic_ns()}\n')
                storm.stdin.flush()
            storm.stdout.readline()
            time.sleep(0.5)
            own = {'reload': [], 'kill': [], 'quiet': [0]}
            for number in range(self.options.pauses):
                kind = ('reload', 'kill')[number % 2]
                tell('quiet')
                time.sleep(0.2)
                own[kind].append(server.disturb(kind, tell, 0.2)['reload']['pause_ns'] / 1e6)
            said, _ = storm.communicate()
            if storm.returncode != 0:
                raise AssertionError('a client was disturbed')
        server.cli('volume', 'delete', f'pause-{connections}', '--now')
        told = json.loads(said)
        return {kind: dict({what: sorted(one[what + '_us'] / 1e3 for one in told['disturbances']
                                         if one['kind'] == kind) for what in ('gap', 'wait')},
                           own=sorted(own[kind])) for kind in own}

    def memory(self):
        return {name: memory_mib(server.pids()) for name, server in self.servers.items()}


# -- tables --

def spread(values, digits=0):
    return f'{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]'


def table(title, head, rows):
    print(f'\n{title}\n')
    print('| ' + ' | '.join(head) + ' |')
    print('|' + '---|' * len(head))
    for row in rows:
        print('| ' + ' | '.join(row) + ' |')


def by_case(measured, server, case, key):
    return {one['round']: one[key] for one in measured if one['server'] == server and one['case'] == case}


def print_cases(measured, servers):
    for first in range(0, len(CASES), 6):
        cases = CASES[first:first + 6]
        head = ['server'] + [name + (' MiB/s' if unit == 'mib_per_s' else '') for name, unit, _, _ in cases]
        table('Operations a second (or MiB/s), median [least–most]', head,
              [[server] + [spread(list(by_case(measured, server, name, unit).values()))
                           for name, unit, _, _ in cases] for server in servers])
        if OURS in servers:
            rows = []
            for server in servers:
                row = [server]
                for name, unit, _, _ in cases:
                    ours, theirs = (by_case(measured, one, name, unit) for one in (OURS, server))
                    row.append(spread([ours[number] / theirs[number] for number in ours], 2))
                if server != OURS:
                    rows.append(row)
            table('perdured divided by each, within a round', head, rows)
        table('p50 / p99 / p99.9 latency, µs, medians', head, [
            [server] + [' / '.join(f'{statistics.median(by_case(measured, server, name, key).values()):.0f}'
                                   for key in ('p50_us', 'p99_us', 'p999_us')) for name, _, _, _ in cases]
            for server in servers])
        table('Server CPU, µs for each operation, medians', head, [
            [server] + [f'{statistics.median(by_case(measured, server, name, "cpu_us_per_operation").values()):.0f}'
                        for name, _, _, _ in cases] for server in servers])


def print_giving_up(kinds):
    rows = [[kind, spread([one['iops'] for one in runs])] +
            [spread([one[key] for one in runs]) for key in ('p50_us', 'p99_us', 'p999_us')] +
            [' / '.join(f'{statistics.median(one[key] for one in runs):.0f}'
                        for key in ('passes', 'segments_freed', 'segments_made'))]
            for kind, runs in kinds.items()]
    table('4k random writes, qd32, while history is given up', ['volume', 'a second', 'p50, µs', 'p99, µs', 'p99.9, µs',
          'cleanings / segments freed / made'], rows)
    every, half = kinds.values()
    print('\nkeeps half ÷ keeps all: ' + spread([one['iops'] / other['iops'] for one, other in zip(half, every)], 2) +
          ' a second, ' + spread([one['p999_us'] / other['p999_us'] for one, other in zip(half, every)], 2) +
          ' at p99.9')


def percentile(values, part):
    return values[min(len(values) - 1, int(part * len(values)))] if values else float('nan')


def print_own(measured, own):
    rows = []
    for case, _, _ in PAST:
        now, past = (by_case(measured, OURS, which + case, 'iops')
                     for which in ('overwritten, now: ', 'a past moment: '))
        rows.append([case, spread(list(now.values())), spread(list(past.values())),
                     spread([past[number] / now[number] for number in now], 2)])
    table('The past, operations a second', ['case', 'now, overwritten', 'the moment before', 'past ÷ now'], rows)
    table('Control operations, ms', ['operation', 'median [least–most]'],
          [[name, spread(values, 2)] for name, values in own['operations_ms'].items()])


def print_pauses(own):
    rows = []
    for connections, kinds in own['pauses_ms'].items():
        for kind, figures in kinds.items():
            rows.append([f'{connections}', kind, f'{len(figures["gap"])}'] +
                        [' / '.join(f'{percentile(figures[what], part):.1f}' for part in (0.5, 0.99, 1))
                         for what in ('own', 'gap', 'wait')])
    table('Pause, ms, p50 / p99 / most; quiet: 200 ms in which nothing was done',
          ['connections', 'disturbance', 'times', 'as the server tells it', 'longest time without any reply',
           'longest wait of one request'], rows)


def fastest_plain(measured, case, key):
    """Of each round."""
    best = {}
    for one in measured:
        if one['case'] == case and one['server'] not in (OURS, CEILING):
            best[one['round']] = max(best.get(one['round'], 0), one[key])
    return best


def print_aims(measured, own):
    rows = []
    for case, key, what, aim in AIMS:
        ours = by_case(measured, OURS, case, key)
        theirs = fastest_plain(measured, case, key) if what == PLAIN else \
            by_case(measured, CEILING, case, key)
        if ours and ours.keys() == theirs.keys():
            rows.append([f'{case} ÷ {what}', f'≥ {aim}',
                         spread([ours[number] / theirs[number] for number in ours], 2)])
    rows.append(['server CPU for each 4k rand write qd32, µs', '≤ 15', spread(list(
        by_case(measured, OURS, '4k rand write qd32', 'cpu_us_per_operation').values()), 1)])
    for case, _, _ in PAST:
        now, past = (by_case(measured, OURS, which + case, 'iops')
                     for which in ('overwritten, now: ', 'a past moment: '))
        rows.append([f'{case} of a past moment ÷ of now', '≥ 0.9',
                     spread([past[number] / now[number] for number in now], 2)])
    for name in ('open an image', 'restore'):
        rows.append([name + ', ms, with the history of this run', '≤ 10', spread(own['operations_ms'][name], 1)])
    figures = own['pauses_ms'].get(1000)
    if figures:
        for kind, part, aim in (('reload', 0.5, 2), ('reload', 0.99, 5), ('kill', 0.99, 50)):
            rows.append([f'pause of a {kind}, 1000 connections, p{part * 100:.0f}, ms, as clients see it',
                         f'≤ {aim}', f'{percentile(figures[kind]["gap"], part):.1f}'])
    table('Aims', ['what', 'aim', 'measured: median [least–most] of the rounds'], rows)


def machine():
    with open('/proc/cpuinfo', encoding='utf-8') as file:
        model = next((line.split(':', 1)[1].strip() for line in file if line.startswith('model name')), '?')
    return {'time': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            'load average before': ' '.join(f'{load:.2f}' for load in os.getloadavg()),
            'kernel': platform.release(), 'processor': model, 'processors': os.cpu_count(),
            'packages': run('dpkg-query', '-W', '-f', '${Package} ${Version}\n', 'qemu-utils', 'nbdkit',
                            'nbd-server', 'libnbd0', status=None).splitlines()}


def main():
    options = arguments()
    folder = options.folder or os.path.join(TREE, 'out')
    os.makedirs(folder, exist_ok=True)
    result = {'machine': machine(), 'options': vars(options), 'own': {}}
    with tempfile.TemporaryDirectory(prefix='bench-', dir=folder) as scratch:
        bench = Bench(options, scratch)
        try:
            bench.rounds()
            result['measured'] = bench.measured
            result['memory_mib'] = bench.memory()
            if OURS in bench.servers:
                if options.rounds:
                    result['own']['operations_ms'] = bench.operations()
                if options.give_up_s:
                    result['own']['giving_up'] = bench.giving_up()
                result['own']['pauses_ms'] = {connections: bench.pauses(connections, rate)
                                              for connections, rate in PAUSES if options.pauses}
        finally:
            bench.close()
    with open(options.json, 'w', encoding='utf-8') as file:
        json.dump(result, file, indent=1)
    print('\n'.join(f'{key}: {value}' for key, value in result['machine'].items()))
    print(f'{options.rounds} rounds of {options.seconds} s a case, volumes of {options.size_mib} MiB')
    if options.rounds:
        print_cases(bench.measured, list(bench.servers))
    table('Memory after all that (PSS), MiB', ['server', 'MiB'],
          [[name, f'{value:.0f}'] for name, value in result['memory_mib'].items()])
    if OURS in bench.servers:
        if options.rounds:
            print_own(bench.measured, result['own'])
        if options.give_up_s:
            print_giving_up(result['own']['giving_up'])
        print_pauses(result['own'])
        if options.rounds:
            print_aims(bench.measured, result['own'])


if __name__ == '__main__':
    main()
