#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a golden store: make_store.py NAME PERDURED PERDURE

Starts the server on a store with segments as small as they may be, has it keep a history with some of everything,
kills it, and writes the store to NAME.tar.xz beside this file, and what its moments show, by a model, to NAME.json. A golden
store is made once, when a format is released, and never again.
"""
import hashlib
import json
import os
import random
import struct
import sys
import tarfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, '../e2e'))
from golden import crc32c
from perdure import Server, link_to, must_hold, wait_until

SIZE = 4 << 20
BLOCK = 4096
SEGMENT = 4 << 20
RECORDS = 256


def store_header(counter):
    """docs/formats.md, Store header: a store that was stopped and holds nothing."""
    now = time.time_ns()
    block = bytearray(struct.pack('<8sII16sQQQQQIIQ', b'PrdStore', 1, 0, b'a golden store..', counter, 0, 0, 0, 0,
                                  SEGMENT, RECORDS, now))
    block += bytes(BLOCK - len(block))
    struct.pack_into('<I', block, 112, 1)
    struct.pack_into('<QQ', block, 128, now, now)
    struct.pack_into('<I', block, 12, crc32c(block))
    return bytes(block)


def prepare(store):
    os.makedirs(os.path.join(store, 'log'))
    with open(os.path.join(store, 'store'), 'wb') as file:
        file.write(store_header(0) + store_header(1))


class Disk:
    """A volume, and what it is to show."""

    def __init__(self, server, export, content=None):
        self.link = link_to(server, export)
        self.content = bytearray(content if content is not None else SIZE)

    def write(self, number, offset, length=BLOCK):
        """Bytes that are like no others, and pack well."""
        data = b''.join(struct.pack('<Q', number << 16 | part) * (BLOCK // 8) for part in range(length // BLOCK + 1))
        self.link.pwrite(data[:length], offset)
        self.content[offset:offset + length] = data[:length]

    def clear(self, offset, length, trim):
        self.link.trim(length, offset) if trim else self.link.zero(length, offset)
        self.content[offset:offset + length] = bytes(length)

    def close(self):
        self.link.flush()
        self.link.shutdown()
        return bytes(self.content)


def some(disk, rng, count, first):
    for number in range(first, first + count):
        kind, block = rng.randrange(20), rng.randrange(SIZE // BLOCK - 8)
        if kind == 0:
            disk.clear(block * BLOCK, rng.randrange(1, 8) * BLOCK, trim=True)
        elif kind == 1:
            disk.clear(block * BLOCK + 512, 3 * BLOCK, trim=False)
        elif kind == 2:
            disk.write(number, block * BLOCK + 1024, 512)
        elif kind == 3:
            disk.write(number, block * BLOCK, 8 * BLOCK)
        elif kind == 4:
            disk.write(number, block * BLOCK)
            disk.write(number, block * BLOCK)
        else:
            disk.write(number, block * BLOCK)


def a_past_that_is_given_up(server, shows, rng):
    """Segments that are cleaned: what is left of them is in a cold one."""
    server.ask('volume.create', name='short', size_bytes=SIZE, block_size_bytes=512, retain_bytes=SIZE // 8)
    disk = Disk(server, 'short')
    some(disk, rng, 500, 1)
    server.ask('mark.create', volumes=['short'], label='held', hold=True)
    shows['short@held'] = bytes(disk.content)
    some(disk, rng, 1000, 10000)
    time.sleep(2)  # a limit goes by whole seconds
    some(disk, rng, 50, 20000)
    shows['short'] = disk.close()
    server.control('clean')
    wait_until('segments are freed', lambda: server.status()['cleaning']['segments_freed'] >= 4)
    must_hold('there is a cold one', server.status()['cleaning']['segments_made'] >= 1)


def a_past_that_is_kept(server, shows, rng):
    server.ask('volume.create', name='keep', size_bytes=SIZE, block_size_bytes=512)
    disk = Disk(server, 'keep')
    for number, label in enumerate(('one', 'two', 'three')):
        some(disk, rng, 800, 30000 + 1000 * number)
        disk.link.flush()
        server.ask('mark.create', volumes=['keep', 'short'], label=label)
        shows['keep@' + label] = bytes(disk.content)
        shows['short@' + label] = shows['short']
    disk.close()


def timelines(server, shows, rng):
    server.ask('restore', volumes=['keep'], at='two')
    disk = Disk(server, 'keep', shows['keep@two'])
    some(disk, rng, 100, 40000)
    shows['keep'] = bytearray(disk.close())
    server.ask('restore', volumes=['keep'], at='one', range={'offset_bytes': SIZE // 2, 'length_bytes': SIZE // 4})
    part = slice(SIZE // 2, SIZE // 2 + SIZE // 4)
    shows['keep'][part] = shows['keep@one'][part]
    server.ask('image.open', volumes=['keep'], at='one', name='work', writable=True)
    disk = Disk(server, 'keep.work', shows['keep@one'])
    some(disk, rng, 100, 50000)
    shows['keep.work'] = disk.close()
    server.ask('image.open', volumes=['keep'], at='three', name='forked', writable=True)
    disk = Disk(server, 'keep.forked', shows['keep@three'])
    some(disk, rng, 100, 60000)
    shows['fork'] = disk.close()
    server.ask('image.promote', name='forked', volume='fork')
    server.ask('volume.create', name='gone', size_bytes=SIZE, block_size_bytes=512)
    disk = Disk(server, 'gone')
    some(disk, rng, 20, 70000)
    disk.close()
    server.ask('volume.delete', name='gone')
    server.ask('volume.resize', name='fork', size_bytes=2 * SIZE)
    shows['fork'] += bytes(SIZE)


def main():
    name, programs = sys.argv[1], sys.argv[2:4]
    shows, rng = {}, random.Random(1)
    with Server(programs, prepare=prepare) as server:
        a_past_that_is_given_up(server, shows, rng)
        a_past_that_is_kept(server, shows, rng)
        timelines(server, shows, rng)
        wait_until('runs are merged', lambda: os.listdir(os.path.join(server.store, 'index')))
        for export, content in shows.items():
            must_hold(export, link_to(server, export).pread(len(content), 0) == bytes(content))
        said = {'exports': {export: [len(content), hashlib.sha256(content).hexdigest()] for export, content in shows.items()},
                'marks': sorted(mark['label'] for mark in server.ask('mark.list')['marks']),
                'volumes': sorted([one['name'], one['state']] for one in server.ask('volume.list')['volumes']),
                'newest': server.status()['store']['newest']['sequence']}
        server.kill_all()
        with tarfile.open(os.path.join(HERE, name + '.tar.xz'), 'w:xz', preset=9) as tar:
            tar.add(server.store, '.', filter=lambda info: None if info.name.endswith(('lock', 'sock')) else info)
    with open(os.path.join(HERE, name + '.json'), 'w', encoding='utf-8') as file:
        json.dump(said, file, indent=1)
        file.write('\n')


if __name__ == '__main__':
    main()
