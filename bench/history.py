#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a growing history costs: history.py PERDURED PERDURE LOAD [OPTION]...

Writes a volume in order, marks that moment, and then writes 4 KiB blocks at random through NBD. Whenever the
random writes come to the next number of --writes, it measures: a start after all processes were killed and
the page cache dropped, images and restores of the first moment, random reads of now and of the first moment
(cold: after such a start; warm: after all was read), the merged runs on disk, and memory. Nothing is made up: every
write has its own data and its own place on the disk. Prints a table in Markdown, and writes everything that
was measured as JSON.

--writes N... (100000 1000000), --size-mib N of the volume (1024), --seconds S of a case (1), --index-cache SIZE (the
server's own), --keep-free-gib N (15), --folder PATH, --json PATH. A number of writes for which the disk has
no room is left out, and the output says so. docs/benchmarks.md tells the method.
"""
import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
TREE = os.path.realpath(os.path.join(os.path.dirname(__file__), '..'))
sys.path.insert(0, os.path.join(TREE, 'tests/e2e'))
from bench import machine, spread, table
from peers import forget, memory_mib
from perdure import Server, children_of, run

VOLUME, FIRST = 'history', 'first'
LOG_BYTES_PER_WRITE = 4600  # the block, its part of a frame header, its entry in a footer, and some room
TIMES = 20
READ = '--do read --depth 32'


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument('programs', nargs=3)
    parser.add_argument('--writes', type=int, nargs='+', default=[100000, 1000000])
    parser.add_argument('--size-mib', type=int, default=1024)
    parser.add_argument('--seconds', type=float, default=1)
    parser.add_argument('--index-cache', default=None)
    parser.add_argument('--keep-free-gib', type=int, default=15)
    parser.add_argument('--folder', default=os.path.join(TREE, 'out'))
    parser.add_argument('--json', default=os.path.join(TREE, 'out/history.json'))
    return parser.parse_args()


def tell(text):
    print(text, file=sys.stderr, flush=True)


def room_for(options):
    """How many writes the disk has room for beside what is to stay free."""
    free = shutil.disk_usage(options.folder).free - (options.keep_free_gib << 30)
    return (free - (options.size_mib << 20)) // LOG_BYTES_PER_WRITE


class Store(Server):
    def __init__(self, options, folder):
        perdured, perdure, self.load_program = options.programs
        self.seconds = options.seconds
        more = ['--set', f'index-cache={options.index_cache}'] if options.index_cache else []
        super().__init__((perdured, perdure), *more, where=folder)

    def pids(self):
        return {self.process.pid} | children_of(self.process.pid)

    def files(self):
        return [os.path.join(where, name) for where, _, names in os.walk(self.store) for name in names]

    def load(self, words, export=VOLUME):
        # Hours: so long may a large history take.
        return json.loads(run(self.load_program, *words.split(), self.uri(export), limit_s=4 * 3600))

    def cut_power(self):
        """Kills all, drops the page cache, starts; milliseconds until volumes are served."""
        self.kill_all()
        forget(self)
        return timed(self.start)

    def merged_bytes(self):
        return sum(os.path.getsize(path) for path in self.files()
                   if os.path.relpath(path, self.store).startswith('index' + os.sep))


def timed(function, *args, **more):
    begin = time.monotonic()
    function(*args, **more)
    return (time.monotonic() - begin) * 1e3


def reads(server, export):
    """Requests a second just after a cold start, and once everything has been read."""
    server.cut_power()
    words = f'{READ} --seconds {server.seconds}'
    cold = server.load(words, export)['iops']
    server.load('--do scan --bytes 131072 --depth 8', export)
    return {'cold': cold, 'warm': server.load(words, export)['iops']}


def control_operations(server, label):
    """Images of the first moment, and restores to it and back: all that was written changes each time."""
    times = {'image': [], 'restore': []}
    server.control('mark.create', volumes=[VOLUME], label=label)
    for number in range(TIMES):
        name = f'image-{number}'
        times['image'].append(timed(server.control, 'image.open', volumes=[VOLUME], at=FIRST, name=name))
        server.control('image.close', name=name)
        to = label if number % 2 else FIRST
        times['restore'].append(timed(server.control, 'restore', volumes=[VOLUME], at=to))
    return times


def measure(server, writes, told):
    status = server.status()
    result = {'writes': writes, 'load': told, 'index': status['index'],
              'used_bytes': status['store']['used_bytes'], 'merged_bytes': server.merged_bytes(),
              'pss_mib': memory_mib(server.pids()), 'arena': status['arena']}
    result['start_ms'] = [server.cut_power() for _ in range(5)]
    result['now'] = reads(server, VOLUME)
    result['past'] = reads(server, f'{VOLUME}@{FIRST}')
    result['cache_bytes'] = server.status()['index']['cache_bytes']
    result.update(control_operations(server, f'after-{writes}'))
    return result


def grow(options, folder, stages):
    """One store, measured at each stage."""
    results, written = [], 0
    server = Store(options, folder)
    try:
        server.cli('volume', 'create', VOLUME, '--size', options.size_mib << 20)
        server.load('--do fill --bytes 131072 --depth 8')
        server.cli('mark', VOLUME, '--label', FIRST)
        for writes in stages:
            told = server.load(f'--do write --depth 32 --requests {writes - written}')
            written = writes
            results.append(measure(server, writes, told))
            tell(f'{writes} writes: measured')
    finally:
        server.close()
    return results


def print_results(results):
    head = ['random writes', 'writes a second', 'p99 / p99.9, µs', 'start after a power cut, ms', 'image, ms',
            'restore, ms', 'reads now, cold / warm', 'reads of the past, cold / warm', 'past ÷ now, cold / warm',
            'merged runs: bytes a write', 'runs / unmerged / merged', 'memory (PSS), MiB', 'index cache, MiB']
    rows = []
    for one in results:
        now, past, load, index = one['now'], one['past'], one['load'], one['index']
        rows.append([f'{one["writes"]}', f'{load["iops"]:.0f}', f'{load["p99_us"]:.0f} / {load["p999_us"]:.0f}',
                     spread(one['start_ms']), spread(one['image'], 1), spread(one['restore'], 1),
                     f'{now["cold"]:.0f} / {now["warm"]:.0f}', f'{past["cold"]:.0f} / {past["warm"]:.0f}',
                     ' / '.join(f'{past[kind] / now[kind]:.2f}' for kind in ('cold', 'warm')),
                     f'{one["merged_bytes"] / one["writes"]:.1f}',
                     f'{index["runs"]} / {index["unmerged"]} / {index["merged"]}', f'{one["pss_mib"]:.0f}',
                     f'{one["cache_bytes"] / (1 << 20):.1f}'])
    # One column for each size reads better than one row of thirteen.
    columns = list(zip(head, *rows))
    table('A growing history', columns[0], columns[1:])


def main():
    options = arguments()
    stages = sorted(set(options.writes))
    if stages[0] < 1 or options.size_mib < 1:
        sys.exit('history.py: --writes and --size-mib begin with 1')
    os.makedirs(options.folder, exist_ok=True)
    room = room_for(options)
    for writes in stages:
        if writes > room:
            print(f'left out: {writes} writes; the disk has room for {max(room, 0)} beside the '
                  f'{options.keep_free_gib} GiB that stay free')
    stages = [writes for writes in stages if writes <= room]
    if not stages:
        sys.exit('history.py: no room for any of it; choose fewer --writes, another --folder, or a smaller '
                 '--keep-free-gib')
    result = {'machine': machine(), 'options': vars(options)}
    with tempfile.TemporaryDirectory(prefix='history-', dir=options.folder) as scratch:
        result['measured'] = grow(options, scratch, stages)
    os.makedirs(os.path.dirname(os.path.abspath(options.json)), exist_ok=True)
    with open(options.json, 'w', encoding='utf-8') as file:
        json.dump(result, file, indent=1)
    print('\n'.join(f'{key}: {value}' for key, value in result['machine'].items()))
    print(f'a volume of {options.size_mib} MiB, {options.seconds} s a case, index cache: '
          f'{options.index_cache or "as the server has it"}')
    print_results(result['measured'])


if __name__ == '__main__':
    main()
