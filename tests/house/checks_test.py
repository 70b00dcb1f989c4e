#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each check passes a good tree and fails the same tree with one planted fault: checks_test.py TREE

A case is a check, a name, and the files that are added to the small good tree below (or replaced in
it); the word that the check must say tells that it failed for this fault and for no other. Reports TAP.
"""
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile

TREE = sys.argv[1]
SPDX = '/* SPDX-License-Identifier: Apache-2.0 */\n'


def c(*lines):
    return SPDX + '\n'.join(lines) + '\n'


def h(*lines):
    return c('#ifndef GUARD', '#define GUARD', *lines, '#endif')


GOOD = {
    'README.md': 'See [the notes](docs/notes.md).\n\n<!-- run -->\n```sh\n'
                 'test -f src/base/num.c\nsleep 600 &\n```\n\n```sh\nfalse\n```\n',
    'build/notes': 'Nobody looks here. ',
    'docs/notes.md': 'Notes.\n',
    'src/base/num.h': h('#include <stdint.h>', 'uint32_t num_next(uint32_t num);'),
    'src/base/num.c': c('#include "base/num.h"', '#include <isa-l/crc.h>'),
    'src/plat/clock.h': h('#include "base/num.h"'),
    'src/plat/linux/clock.h': h('#include "plat/clock.h"'),
    'src/plat/linux/clock.c': c('#include "plat/linux/clock.h"', '#include "plat/posix/flag.h"',
                                '#include <sys/mman.h>'),
    'src/plat/posix/flag.h': h('#include "plat/clock.h"'),
    'src/arena/slot.c': c('#include "plat/clock.h"', '#include <string.h>',
                          'static const char *const words[] = {"a", "b"};',
                          'const char *const *slot_words(void);',
                          'const char *const *slot_words(void) {', '    return words;', '}'),
    'src/arena/slot_test.c': c('#include <time.h>', '#include "../../tests/far.h"',
                               'int count_of_calls = 7;'),
    'src/net/tcp/tcp.h': h('#include "arena/turn.h"'),
    'src/arena/turn.h': h('struct turn;'),
    'src/engine/log.h': h('#include "arena/turn.h"'),
    'src/engine/catalogue.c': c('#include <sqlite3.h>'),
    'src/proto/nbd.c': c('#include "engine/log.h"', '#include "net/tcp/tcp.h"'),
    'src/ctl/ops.c': c('#include <jansson.h>', '#include "proto/nbd.h"'),
    'src/proto/nbd.h': h('struct nbd;'),
    'src/server/main.c': c('#include "plat/linux/clock.h"', '#include <unistd.h>'),
    'src/cli/main.c': c('#include "base/num.h"', '#include <jansson.h>', '#include <unistd.h>'),
    'tests/far.h': h('struct far;'),
}

# check, what is planted, the files, a word of the finding
FAULTS = [
    ('layers', 'base looks up', {'src/base/a.c': c('#include "plat/clock.h"')}, 'plat/clock.h'),
    ('layers', 'net sees engine', {'src/net/a.c': c('#include "engine/log.h"')}, 'engine/log.h'),
    ('layers', 'engine sees net', {'src/engine/a.c': c('#include "net/tcp/tcp.h"')}, 'net/tcp'),
    ('layers', 'arena sees proto', {'src/arena/a.h': h('# include "proto/nbd.h"')}, 'proto/nbd.h'),
    ('layers', 'cli sees arena', {'src/cli/a.c': c('#include "arena/turn.h"')}, 'arena/turn.h'),
    ('layers', 'web sees plat', {'src/web/a.c': c('#include "plat/clock.h"')}, 'plat/clock.h'),
    ('layers', 'one system sees another', {'src/plat/sim/a.c': c('#include "plat/linux/clock.h"')},
     'for that system'),
    ('layers', 'posix sees linux', {'src/plat/posix/a.c': c('#include "plat/linux/clock.h"')},
     'for that system'),
    ('layers', 'engine names a system', {'src/engine/a.c': c('#include "plat/linux/clock.h"')},
     'for that system'),
    ('layers', 'system header in arena', {'src/arena/a.c': c('#include <sys/mman.h>')}, 'sys/mman'),
    ('layers', 'system header in portable plat', {'src/plat/a.h': h('#include <unistd.h>')},
     'unistd.h'),
    ('layers', 'clock in engine', {'src/engine/a.c': c('#include <time.h>')}, 'time.h'),
    ('layers', 'threads in proto', {'src/proto/a.c': c('#include <pthread.h>')}, 'pthread.h'),
    ('layers', 'sqlite in proto', {'src/proto/a.c': c('#include <sqlite3.h>')}, 'sqlite3.h'),
    ('layers', 'jansson in engine', {'src/engine/a.c': c('#include <jansson.h>')}, 'jansson.h'),
    ('layers', 'isa-l in engine', {'src/engine/a.c': c('#include <isa-l/crc.h>')}, 'isa-l'),
    ('layers', 'include beside the file', {'src/net/tcp/a.c': c('#include "tcp.h"')}, 'tcp.h'),
    ('layers', 'include by a way round', {'src/net/a.c': c('#include "net/../engine/log.h"')},
     'engine/log.h'),
    ('layers', 'include by a macro', {'src/net/a.c': c('#include WHATEVER')}, 'WHATEVER'),
    ('layers', 'unknown layer', {'src/misc/a.c': c('')}, 'misc'),

    ('state', 'initialised variable', {'src/arena/a.c': c('int a = 7;')}, '.data: a'),
    ('state', 'zero variable', {'src/net/a.c': c('static int a;', 'int *f(void) { return &a; }')},
     '.bss: a'),
    ('state', 'variable in a function',
     {'src/proto/a.c': c('int f(void) { static int calls; return ++calls; }')}, '.bss: calls'),
    ('state', 'thread-local variable', {'src/engine/a.c': c('_Thread_local int a;')}, '.tbss'),
    ('state', 'variable in a section',
     {'src/ctl/a.c': c('__attribute__((section("mine"))) int a = 7;')}, 'mine'),
    ('state', 'common variable', {'src/ctl/a.c': c('int a;')}, 'common storage: a'),
    ('state', 'table that is not constant',
     {'src/net/a.c': c('const char *table[] = {"a", "b"};')}, 'table'),
    ('state', 'reads the clock',
     {'src/engine/a.c': c('long time(long *); long f(void) { return time(0); }')}, 'time'),
    ('state', 'opens a file', {'src/engine/a.c': c('#include <stdio.h>',
                                                   'void *f(void) { return fopen("a", "r"); }')},
     'fopen'),

    ('headers', 'uses what it does not include', {'src/base/a.h': h('uint32_t f(void);')},
     'base/a.h does not compile alone with gcc'),
    ('headers', 'not for clang', {'src/base/a.h': h('#ifdef __clang__', '#error no', '#endif')},
     'base/a.h does not compile alone with clang'),
    ('headers', 'no guard', {'src/net/a.h': c('struct a {', '    int b;', '};')}, 'net/a.h'),
    ('headers', 'names no header', {'src/net/a.h': h('#include "net/none.h"')}, 'net/a.h'),

    ('format', 'wrong indent', {'src/base/a.c': c('int f(void) {', '  return 1;', '}')}, 'a.c'),
    ('format', 'long line', {'tests/a.c': c('int ' + 'a' * 50 + ',' + 'b' * 60 + ';')}, 'a.c'),

    ('text', 'note of undone work', {'src/base/a.c': c('/* TO' + 'DO: more */')}, 'a.c:2: a note'),
    ('text', 'path of a machine', {'docs/a.md': 'Look into /ho' + 'me/me/src.\n'}, 'a.md:1: a path'),
    ('text', 'dead link', {'docs/a.md': 'See [b](b.md#part).\n'}, 'leads nowhere: b.md'),
    ('text', 'no licence line', {'src/base/a.c': 'int a;\n'}, 'no SPDX line'),
    ('text', 'no licence line in a script', {'scripts/a': '#!/bin/sh\ntrue\n'}, 'no SPDX line'),
    ('text', 'blanks at the end', {'docs/a.md': 'Words. \n'}, 'blanks'),
    ('text', 'fault in a deeper folder', {'src/net/run/a.c': 'int a;\n'}, 'src/net/run/a.c:1'),
    ('text', 'no last newline', {'docs/a.md': 'Words.'}, 'no newline'),

    ('docs', 'command that fails',
     {'docs/a.md': 'Type:\n\n<!-- run -->\n```sh\ntrue\nfalse | cat\ntrue\n```\n'}, 'docs/a.md'),
]


def plant(scratch, files):
    for path, text in files.items():
        full = os.path.join(scratch, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, 'w', encoding='utf-8') as file:
            file.write(text)


def build(scratch):
    """Compiles the tree, and lists the objects as a Meson build does."""
    folder = os.path.join(scratch, 'build')
    commands = []
    for where, _, names in os.walk(os.path.join(scratch, 'src')):
        for name in names:
            if not name.endswith('.c'):
                continue
            source = os.path.relpath(os.path.join(where, name), folder)
            output = source.replace('../', '').replace('/', '_') + '.o'
            command = ['gcc', '-fPIE', '-fcommon', '-I', '../src', '-c', source, '-o', output]
            subprocess.run(command, cwd=folder, check=True)
            commands.append({'directory': folder, 'file': source, 'output': output,
                             'command': ' '.join(command)})
    plant(folder, {'compile_commands.json': json.dumps(commands)})


def outcome(check, files):
    """Runs a check over the good tree with some files added; (status, what it said)."""
    with tempfile.TemporaryDirectory(prefix='perdure-house-') as scratch:
        plant(scratch, GOOD)
        plant(scratch, files)
        shutil.copy(os.path.join(TREE, '.clang-format'), scratch)
        shutil.copytree(os.path.join(TREE, 'scripts'), os.path.join(scratch, 'scripts'),
                        dirs_exist_ok=True)
        if check == 'state':
            build(scratch)
        done = subprocess.run([os.path.join(scratch, 'scripts/check-' + check)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout


# What a test program reported, and how scripts/check counts it: passed, failed, skipped.
COUNTED = [
    ('a program', {'result': 'OK', 'stdout': 'fine'}, (1, 0, 0)),
    ('a program that fails', {'result': 'FAIL'}, (0, 1, 0)),
    ('a program that crashes', {'result': 'ERROR', 'stderr': '[  PASSED  ] 3 test(s).'}, (3, 1, 0)),
    ('a program that hangs', {'result': 'TIMEOUT', 'stdout': 'ok 1\nok 2\n'}, (2, 1, 0)),
    ('TAP', {'result': 'OK', 'stdout': '1..3\nok 1 - a\nok 2 - b # SKIP no\nok 3\n'}, (2, 0, 1)),
    ('TAP that fails', {'result': 'FAIL', 'stdout': 'ok 1\nnot ok 2\nnot ok 3\n'}, (1, 2, 0)),
    ('cmocka', {'result': 'OK', 'stderr': '[==========]\n[  PASSED  ] 12 test(s).\n'}, (12, 0, 0)),
    ('cmocka that fails', {'result': 'FAIL', 'stderr':
                           '[  PASSED  ] 5 test(s).\n[  FAILED  ] 2 test(s), listed below:\n'},
     (5, 2, 0)),
    ('a skipped program', {'result': 'SKIP'}, (0, 0, 1)),
]


def load_count():
    """The counting function of scripts/check."""
    loader = importlib.machinery.SourceFileLoader('check', os.path.join(TREE, 'scripts/check'))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader('check', loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module.count


def main():
    checks = sorted({fault[0] for fault in FAULTS})
    cases = [(f'{check} passes a good tree', check, {}, None) for check in checks]
    cases += [(f'{check} finds: {name}', check, files, word) for check, name, files, word in FAULTS]
    print(f'1..{len(cases) + len(COUNTED)}')
    number = failed = 0

    def report(good, name, said):
        nonlocal number, failed
        number += 1
        failed += not good
        print(f'{"ok" if good else "not ok"} {number} - {name}', flush=True)
        if not good:
            print('\n'.join('# ' + line for line in said.splitlines()))

    for name, check, files, word in cases:
        status, said = outcome(check, files)
        report(status == 0 if word is None else status != 0 and word in said, name, said)
    count = load_count()
    for name, record, expected in COUNTED:
        report(count(record) == expected, f'counts {name}', f'{count(record)}, not {expected}')
    return 1 if failed else 0


sys.exit(main())
