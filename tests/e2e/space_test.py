#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Space: what a deleted volume held alone is given back and used again, and nothing else is; a full store."""
import subprocess
import sys

from perdure import Server, Tap, must_hold, wait_until

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20


def write(server, export, pattern, offset, length):
    subprocess.run(['qemu-io', '-f', 'raw', '-c', f'write -P {pattern} {offset} {length}', '-c', 'flush',
                    f'nbd://127.0.0.1:{server.port}/{export}'], check=True, capture_output=True)


def holds(server, export, pattern, offset, length):
    done = subprocess.run(['qemu-io', '-r', '-f', 'raw', '-c', f'read -P {pattern} {offset} {length}',
                           f'nbd://127.0.0.1:{server.port}/{export}'], check=True,
                          capture_output=True, text=True)
    assert 'verification failed' not in done.stdout, done.stdout


def tries(server, export, pattern, offset, length):
    """Whether the write succeeded; if not, it was for want of room."""
    done = subprocess.run(['qemu-io', '-f', 'raw', '-c', f'write -P {pattern} {offset} {length}', '-c', 'flush',
                           f'nbd://127.0.0.1:{server.port}/{export}'], check=False, capture_output=True, text=True)
    said = done.stdout + done.stderr
    must_hold(said, ('failed' in said) == ('No space left' in said))
    return 'failed' not in said


def delete_gives_back():
    with Server(PROGRAMS) as server:
        for name in ('dies', 'lives'):
            server.ask('volume.create', name=name, size_bytes=1 << 30)
        write(server, 'lives', 7, 0, MIB)
        for part in range(5):
            write(server, 'dies', part + 1, part * 64 * MIB, 64 * MIB)
        write(server, 'lives', 8, MIB, MIB)
        freed = server.ask('volume.delete', name='dies', now=True)['freed_bytes']
        assert freed >= 128 * MIB, freed
        used = server.status()['store']['used_bytes']
        # What was freed is used again: the log does not grow by as much as is written now.
        for part in range(3):
            write(server, 'lives', part + 20, (part + 1) * 64 * MIB, 64 * MIB)
        grown = server.status()['store']['used_bytes'] - used
        assert grown < 192 * MIB, grown
        for disturbance in (None, 'reload', 'kill', 'cold'):
            server.go_through(disturbance)
            holds(server, 'lives', 7, 0, MIB)
            holds(server, 'lives', 8, MIB, MIB)
            for part in range(3):
                holds(server, 'lives', part + 20, (part + 1) * 64 * MIB, 64 * MIB)
        return f'{freed >> 20} MiB given back, {grown >> 20} MiB more used for 192 written'


def full_is_of_use():
    """Writes are refused; what leads out of that is not, and nothing of it is lost."""
    with Server(PROGRAMS, '--set', f'store-max={8 * 64 * MIB}') as server:
        server.ask('volume.create', name='v', size_bytes=1 << 30)
        server.ask('volume.create', name='w', size_bytes=1 << 30)
        write(server, 'v', 1, 0, MIB)
        server.cli('mark', 'v', '--label', 'good')
        write(server, 'v', 2, 0, MIB)
        written = 0
        for length in (16 * MIB, MIB, MIB // 8):
            while tries(server, 'w', 3, written, length):
                written += length
                must_hold('the store is full at last', written < 1 << 29)
        done = []
        for turn, disturbance in enumerate((None, 'reload', 'kill', 'cold')):
            server.go_through(disturbance)
            must_hold('it is full still', not tries(server, 'w', 9, 1008 * MIB, MIB // 8))
            server.cli('mark', 'v', '--label', f'm{turn}')
            server.cli('image', 'open', 'v', '--at', 'good', '--name', 'i')
            holds(server, 'v.i', 1, 0, MIB)
            done.append(server.cli('restore', 'v', '--at', 'good')['before']['sequence'])
            holds(server, 'v', 1, 0, MIB)
            done.append(server.cli('restore', 'v', '--at', f'seq:{done[-1]}')['before']['sequence'])
            holds(server, 'v', 2, 0, MIB)
            server.cli('restore', 'v', '--at', 'good', '--range', f'0:{MIB // 2}')
            holds(server, 'v', 1, 0, MIB // 2)
            holds(server, 'v', 2, MIB // 2, MIB // 2)
            server.cli('restore', 'v', '--at', f'm{turn}')
            holds(server, 'v', 2, 0, MIB)
            server.cli('image', 'promote', 'i', f'p{turn}')
            holds(server, f'p{turn}', 1, 0, MIB)
            server.cli('volume', 'create', f'n{turn}', '--size', '1G')
            server.cli('volume', 'resize', f'n{turn}', '2G')
            server.cli('volume', 'resize', f'n{turn}', '1G', '--force')
            server.cli('volume', 'delete', f'n{turn}', *(['--now'] if turn % 2 else []))
            # A time after each change means what it left, and numbers tell all that was undone.
            holds(server, f"v@{server.cli('volume', 'show', 'v')['newest']['time']}", 2, 0, MIB)
            for at, before in enumerate(done):
                holds(server, f'v@seq:{before}', at % 2 and 1 or 2, 0, MIB)
        freed = server.cli('volume', 'delete', 'w', '--now')['freed_bytes']
        must_hold('room is given back', freed > 0)
        wait_until('writes are taken again', lambda: tries(server, 'v', 5, 0, MIB))
        holds(server, 'v', 5, 0, MIB)
        return f'after {written >> 20} MiB'



def main():
    tap = Tap()
    tap.case('deleting a volume gives its segments back', delete_gives_back)
    tap.case('a full store is restored, marked, cleared', full_is_of_use)
    tap.end()


if __name__ == '__main__':
    main()
