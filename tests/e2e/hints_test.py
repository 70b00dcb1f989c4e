#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What is refused says why, and what to do about it."""
import sys

from perdure import Server, Tap, run

PROGRAMS = sys.argv[1:3]

# command, exit status, what the sentence holds, what the hint holds; CREATED and LATER are when demo and late
# were made.
REFUSALS = [
    ('volume create demo --size 64M', 4, 'a volume is called demo already',
     'take another name; perdure volume list'),
    ('restore demo --at 2001-01-01T00:00:00Z', 2, 'before the oldest moment that is kept',
     'demo is kept since CREATED: name a later'),
    ('image open demo late --at 2001-01-01T00:00:00Z', 2, 'before the oldest moment',
     'late is kept since LATER: name a later'),
    ('image open demo late --at CREATED', 2, '', 'late is kept since LATER'),
    ('restore demo --at seq:0', 2, '', 'demo is kept since CREATED: name a later'),
    ('restore demo --at yesterday', 3, 'demo has no mark called yesterday',
     'it is no time either: those are written -5min, 17:00:03,'),
    ('mark delete demo --label early', 3, 'demo has no mark called early',
     'perdure mark list demo shows the marks'),
    ('volume resize demo 32M', 5, 'demo would become smaller', '--force does that'),
    ('restore demo --at now --range 32M:64M', 2, 'the range goes beyond the end of demo',
     'demo has 64 MiB; a range is written OFFSET:LENGTH'),
    ('volume resize nobody 32M', 3, 'no volume is called nobody', 'perdure volume list'),
    ('image close nobody', 3, 'no open image is called nobody', 'perdure image list'),
    ('mark demo --label here', 4, 'demo has a mark called here already', 'take another label'),
    ('image open demo --at here --name look', 4, 'an open image is called look already',
     'take another --name'),
    ('reload --binary /none', 3, '/none: No such file', 'the present program goes on'),
]


def refusals():
    with Server(PROGRAMS) as server:
        made = {'CREATED': server.ask('volume.create', name='demo', size_bytes=64 << 20)['created_at'],
                'LATER': server.ask('volume.create', name='late', size_bytes=1 << 20)['created_at']}
        server.cli('mark', 'demo', '--label', 'here')
        server.cli('image', 'open', 'demo', '--at', 'here', '--name', 'look')
        for command, status, sentence, hint in REFUSALS:
            for name, time in made.items():
                command, hint = command.replace(name, time), hint.replace(name, time)
            told = run(server.perdure, '--socket', server.control_path, *command.split(), status=status)
            said, found, advice = told.partition('\n  hint: ')
            assert found and sentence in said and hint in advice, (command, told)


def main():
    tap = Tap()
    tap.case('every refusal has its hint', refusals)
    tap.end()


if __name__ == '__main__':
    main()
