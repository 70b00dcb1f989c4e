#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What an engine did last can be read after its death: trace_test.py PERDURED PERDURE. Reports TAP."""
import sys

sys.dont_write_bytecode = True
import nbd
from perdure import Server, Tap, expect, must_hold

PROGRAMS = sys.argv[1:3]
MIB = 1 << 20
WRITES = 50


def points(server, deaths_ago=0):
    """(event, detail) of each point of that life."""
    told = server.cli('trace', '--deaths-ago', deaths_ago, '--limit', 16384)['points']
    return [(point['event'], point['detail']) for point in told]


def of(told, event):
    return [detail for name, detail in told if name == event]


def story():
    with Server(PROGRAMS) as server:
        server.cli('volume', 'create', 'traced', '--size', MIB)
        link = nbd.NBD()
        link.connect_uri(server.uri('traced'))
        for number in range(WRITES):
            link.pwrite(bytes([1 + number]) * 4096, number * 4096)
        link.flush()
        expect('nobody died yet', points(server, 1), [])
        alive = points(server)
        expect('the beginning', alive[0], ('engine begins', 'generation 1, cold'))
        # Each question leaves points; too many would push the beginning out of what is told.
        server.disturb('kill', leave_alone_s=1)
        dead = points(server, 1)
        expect('the dead engine began as it said when it lived', dead[:len(alive)], alive)
        expect('engines', of(dead, 'engine serves'), ['generation 1, pause ns 0'])
        must_hold('its requests', len(of(dead, 'request')) >= WRITES + 1)
        must_hold('its disk operations', len(of(dead, 'disk operation queued')) > 0 and
                  len(of(dead, 'disk operation done')) > 0)
        expect('its connection', len(of(dead, 'connection opened')), 1)
        turns = [int(detail.split(' ')[1].rstrip(',')) for detail in of(dead, 'turn')]
        expect('its turns are in order', turns, sorted(turns))
        after = points(server)
        expect('the successor', after[0], ('engine begins', 'generation 2, after a death'))
        expect('what it kept', of(after, 'connections attached'), ['kept 1, closed 0'])
        must_hold('its turns come later', int(of(after, 'turn')[0].split(' ')[1].rstrip(',')) > turns[-1])
        server.disturb('reload', leave_alone_s=1)
        both = points(server)
        expect('a planned reload goes on in the same life', both[:len(after)], after)
        expect('the third engine', of(both, 'engine begins')[1:], ['generation 3, after a reload'])
        must_hold('steps of the reload', len(of(both, 'reload')) >= 2)
        for again in range(2, 4):
            server.disturb('kill', leave_alone_s=0.5)
            expect(f'{again} deaths ago', points(server, again), dead)
        server.disturb('kill', leave_alone_s=0.5)
        must_hold('four deaths ago is overwritten', points(server, 0) != dead and
                  of(points(server, 3), 'engine begins') == ['generation 2, after a death', 'generation 3, after a reload'])
        link.pread(4096, 0)
        link.shutdown()


def main():
    tap = Tap()
    tap.case('what an engine did last is told after its death, over three deaths', story)
    tap.end()


if __name__ == '__main__':
    main()
