#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The ledger holds what it promises: ledger_test.py TREE PERDURED LAYOUT_2 LAYOUT_3

A ledger grows from the three programs as it would from three releases, and scripts/layouts finds each fault that
is planted into it, into the headers, or into what a program says. Reports TAP.
"""
import contextlib
import importlib.machinery
import importlib.util
import io
import os
import re
import shutil
import stat
import sys
import tempfile

TREE, *PROGRAMS = sys.argv[1:5]
SCRIPT = os.path.join(TREE, 'scripts/layouts')
sys.dont_write_bytecode = True
LOADER = importlib.machinery.SourceFileLoader('layouts', SCRIPT)
LAYOUTS = importlib.util.module_from_spec(importlib.util.spec_from_loader('layouts', LOADER))
LOADER.exec_module(LAYOUTS)


class World:
    """A ledger, and the headers with numbers, of our own."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.ledger = os.path.join(scratch, 'ledger')
        for header in LAYOUTS.NUMBERS:
            to = os.path.join(scratch, 'src', header)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            shutil.copy(os.path.join(TREE, 'src', header), to)

    def run(self, program, *words):
        debug = PROGRAMS[0] if program.startswith(self.scratch) else program
        said, status = io.StringIO(), 0
        with contextlib.redirect_stdout(said):
            try:
                LAYOUTS.main([*words, '--program', program, '--debug', debug, '--ledger', self.ledger,
                              '--tree', self.scratch])
            except SystemExit as end:  # a sentence, or a number
                status = 1
                print(end.code)
        return status, said.getvalue()

    def good(self, layout, *words):
        status, said = self.run(PROGRAMS[layout - 1], *words)
        assert status == 0, said

    def bad(self, layout, word, *words, program=None):
        status, said = self.run(program or PROGRAMS[layout - 1], *words)
        assert status != 0 and word in said, f'{status}, without "{word}": {said}'

    def text(self):
        with open(self.ledger, encoding='utf-8') as file:
            return file.read()

    def edit(self, old, new, where=None):
        path = os.path.join(self.scratch, 'src', where) if where else self.ledger
        with open(path, encoding='utf-8') as file:
            text = file.read()
        assert old in text, old
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text.replace(old, new, 1))

    def seal_again(self):
        """As somebody would who edits a released block and knows how seals are made."""
        blocks, before = LAYOUTS.read(self.ledger), LAYOUTS.fnv(b'')
        for block in blocks:
            if block.seal:
                block.seal = block.sealed(before)
                before = int(block.seal, 16)
        LAYOUTS.write(self.ledger, blocks)

    def releases(self, count):
        for layout in range(1, count + 1):
            self.good(layout, 'release', f'0.{layout}')

    def wrapper(self, old, new):
        """A program that says something else of itself than it is."""
        path = os.path.join(self.scratch, 'program')
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'#!/bin/sh\n"{PROGRAMS[0]}" "$@" | sed "s/{old}/{new}/"\n')
        os.chmod(path, stat.S_IRWXU)
        return path


def three_releases(w):
    w.bad(1, 'the ledger is empty')
    w.good(1, 'update')
    w.good(1)
    for layout in (1, 2, 3):
        if layout > 1:
            w.bad(layout, 'scripts/layouts update')
            w.good(layout, 'update')
            w.good(layout)
            w.bad(layout - 1, 'scripts/layouts update')
        w.good(layout, 'release', f'0.{layout}')
        w.good(layout)
        w.good(layout, 'update')
        assert w.text().count('seal ') == layout and 'layout next' not in w.text()
    versions = re.findall(r'^table 1 conn version (\d)', w.text(), re.M)
    assert versions == ['1', '2', '3'], versions


def ways_are_missing(w):
    w.releases(2)
    w.bad(1, 'table 1 conn: no steps up from version 2 of layout 2')
    w.bad(1, 'table 1 conn: no steps back to version 2 of layout 2', 'update')


def a_released_block_is_edited(w):
    w.releases(2)
    w.edit('uint64_t rx_parsed', 'uint64_t rx_passed')
    w.bad(2, 'layout 1, released with 0.1: a released block was edited')
    w.bad(2, 'hash is not that of its fields')


def a_block_is_edited_and_sealed(w):
    w.releases(1)
    w.edit('struct extent bytes 8\n  0 4 uint32_t first\n  4 4 uint32_t pages',
           'struct extent bytes 8\n  0 4 uint32_t pages\n  4 4 uint32_t first')
    w.seal_again()
    w.bad(1, 'table 1 conn: version 1 was released (layout 1, released with 0.1) and is another now')
    w.bad(1, 'table 4 request: version 1 was released', 'update')


def a_region_changes(w):
    w.releases(1)
    w.edit('struct memtable_box bytes 16\n  0 8 uint64_t first_block', 'struct memtable_box bytes 16\n  0 8 uint64_t first')
    w.seal_again()
    w.bad(1, 'region 1 version: version 1 was released')


def a_frozen_structure_changes(w):
    w.releases(1)
    w.edit('uint64_t undo_offset', 'uint64_t undo_place')
    w.seal_again()
    w.bad(1, 'struct arena_identity is frozen')


def a_number_changes(w):
    w.good(1, 'release', '0.1')
    w.edit('ROUTINE_BLOCK_READ = 2,', 'ROUTINE_BLOCK_READ = 6,', 'base/numbers.h')
    w.bad(1, 'ROUTINE_BLOCK_READ was 2')
    w.bad(1, 'ROUTINE_BLOCK_READ was 2', 'update')


def a_number_is_used_again(w):
    w.good(1, 'release', '0.1')
    w.edit('ROUTINE_LEAF_READ = 3,', '', 'base/numbers.h')
    w.good(1, 'update')
    w.edit('ROUTINE_DISCARD = 4,', 'ROUTINE_ANOTHER = 3, ROUTINE_DISCARD = 4,', 'base/numbers.h')
    w.bad(1, 'ROUTINE_ANOTHER takes the number 3 that was ROUTINE_LEAF_READ', 'update')


def a_table_number_is_used_again(w):
    w.good(1, 'release', '0.1')
    w.edit('    TABLE_LISTENER = 2,', '    TABLE_OTHER = 2,', 'base/numbers.h')
    w.bad(1, 'TABLE_OTHER takes the number 2 that was TABLE_LISTENER', 'update')


def a_number_is_added(w):
    w.good(1, 'release', '0.1')
    w.edit('    TABLE_TLS_KEYS = 18,', '    TABLE_TLS_KEYS = 18,\n    TABLE_NEXT = 19,', 'base/numbers.h')
    w.bad(1, '+ number table_number TABLE_NEXT 19')
    w.good(1, 'update')
    w.good(1)


def the_compiler_disagrees(w):
    for old, new in (('40 8 uint64_t rx_received', '40 8 uint64_t rx_parsed'), ('36 4 uint32_t flags', '36 4 int32_t flags'),
                     (r'peer \[120\]', 'peer [119]'), ('conn version 1 bytes 320', 'conn version 1 bytes 328')):
        w.bad(1, 'table 1: struct conn is not laid out as the program says', 'update', program=w.wrapper(old, new))


def an_unknown_block(w):
    w.releases(1)
    w.edit('seal ', 'steal ')
    w.bad(1, 'only the last block has no seal, and is called next')


CASES = (three_releases, ways_are_missing, a_released_block_is_edited, a_block_is_edited_and_sealed, a_region_changes,
         a_frozen_structure_changes, a_number_changes, a_number_is_used_again, a_table_number_is_used_again,
         a_number_is_added, the_compiler_disagrees, an_unknown_block)


def main():
    failed = 0
    print(f'1..{len(CASES)}')
    for number, case in enumerate(CASES, 1):
        with tempfile.TemporaryDirectory(prefix='perdure-ledger-') as scratch:
            try:
                case(World(scratch))
                verdict = 'ok'
            except AssertionError as error:
                failed += 1
                verdict = 'not ok'
                print('\n'.join('# ' + line for line in str(error).splitlines()[:20]))
        print(f'{verdict} {number} - {case.__name__.replace("_", " ")}', flush=True)
    return 1 if failed else 0


sys.exit(main())
