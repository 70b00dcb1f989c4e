#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Arenas of the past mean what they meant: golden_test.py NAME DUMP [NAME DUMP ...]

Each golden arena NAME is attached, and converted if need be, by the build of dump that is named, and what it holds
is compared with what the build that made it said: every slot in use is there, under the same place, generation and
state, and every field that is still known has the same bytes. Reports TAP.
"""
import lzma
import os
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from golden import unpack

HERE = os.path.dirname(os.path.realpath(__file__))
# Tables in which a golden arena has slots in use.
TABLES = ('conn', 'engine', 'lane', 'listener', 'memtable', 'nbd', 'request', 'segment', 'server', 'timeline',
          'volume', 'wall')
# What is not carried, and where what is new comes from: (table, field).
LEFT = {('conn', 'first_wall_ns')}
BORN = {('conn', 'first_wall_ns'): 'accepted_wall_ns'}


def slots_of(text):
    """{(table, slot, generation, state): {field: bytes}}"""
    slots = {}
    for line in text.splitlines():
        if line.startswith('table '):
            fields = slots[tuple(line.split()[1::2])] = {}
        else:
            name, _, value = line.strip().partition(' ')
            fields[name] = value
    return slots


def read(name):
    with open(os.path.join(HERE, name), 'rb') as file:
        return file.read()


def compare(name, dump):
    made = slots_of(lzma.decompress(read(name + '.txt.xz')).decode())
    with tempfile.NamedTemporaryFile(prefix='perdure-golden-') as file:
        unpack(read(name + '.arena.xz'), file)
        done = subprocess.run([dump, file.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]
    found = slots_of(done.stdout)
    missing = [table for table in TABLES if table not in {key[0] for key in made}]
    assert not missing, f'no slots of {missing}'
    assert found.keys() == made.keys(), f'slots {set(found) ^ set(made)}'
    fields = 0
    for key, was in made.items():
        now = found[key]
        for field in was.keys() - now.keys():
            assert (key[0], field) in LEFT, f'{key}: {field} is lost'
        for field in now.keys() - was.keys():
            wanted = now[BORN[key[0], field]] if (key[0], field) in BORN else ''
            assert now[field] == wanted, f'{key}: {field} begins as {now[field]}'
        for field in was.keys() & now.keys():
            assert was[field] == now[field], f'{key}: {field} was {was[field]}, is {now[field]}'
            fields += 1
    return f'{len(made)} slots, {fields} fields'


def main():
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2]))
    failed = 0
    print(f'1..{len(pairs)}')
    for number, (name, dump) in enumerate(pairs, 1):
        try:
            print(f'ok {number} - {name} by {os.path.basename(dump)}: {compare(name, dump)}')
        except AssertionError as error:
            failed += 1
            print(f'# {error}\nnot ok {number} - {name} by {os.path.basename(dump)}')
    return 1 if failed else 0


sys.exit(main())
