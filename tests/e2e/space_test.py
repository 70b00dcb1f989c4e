#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Space: what a deleted volume held alone is given back and used again, and nothing else is."""
import subprocess
import sys

from perdure import Server, Tap

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
            if disturbance == 'cold':
                server.cold()
            elif disturbance:
                server.disturb(disturbance)
            holds(server, 'lives', 7, 0, MIB)
            holds(server, 'lives', 8, MIB, MIB)
            for part in range(3):
                holds(server, 'lives', part + 20, (part + 1) * 64 * MIB, 64 * MIB)
        return f'{freed >> 20} MiB given back, {grown >> 20} MiB more used for 192 written'


def main():
    tap = Tap()
    tap.case('deleting a volume gives its segments back', delete_gives_back)
    tap.end()


if __name__ == '__main__':
    main()
