#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Storms of reloads and kills over the echo server: storm_test.py SERVER CLIENT [ROUNDS]

One case a line (TAP). In each, a byte-exact client runs while the engine is replaced every 200 ms: by a
reload, by kill -9, by both in turn, or it dies by itself at a crash point between two stores.
"""
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

SERVER, CLIENT = sys.argv[1:3]
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 25
SERVING = re.compile(r'^serving (\d+) (\d+) \S+:(\d+) (\w+) pause_us (\d+) conns (\d+) closed (\d+)')


class Server:
    def __init__(self, *more):
        self.dir = tempfile.TemporaryDirectory(prefix='perdure-echo-')
        self.log = open(os.path.join(self.dir.name, 'stderr'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen([SERVER, '127.0.0.1:0', self.dir.name, *more],
                                        stderr=self.log, stdin=subprocess.DEVNULL)
        self.port = int(self.wait_for(1)[-1].group(3))

    def lines(self):
        with open(self.log.name, encoding='utf-8') as log:
            return [m for m in map(SERVING.match, log) if m]

    def wait_for(self, count, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            lines = self.lines()
            if len(lines) >= count:
                return lines
            time.sleep(0.002)
        with open(self.log.name, encoding='utf-8') as log:
            raise RuntimeError(f'no engine serves: {log.read()[-2000:]}')

    def stop(self):
        self.process.terminate()
        status = self.process.wait(10)
        with open(self.log.name, encoding='utf-8') as log:
            text = log.read()
        self.log.close()
        self.dir.cleanup()
        return status, text


def disturb(server, kind, turn):
    lines = server.lines()
    reload = kind == 'reload' or kind == 'both' and turn % 2
    try:
        os.kill(int(lines[-1].group(2)), signal.SIGHUP if reload else signal.SIGKILL)
    except ProcessLookupError:
        return
    server.wait_for(len(lines) + 1)


def storm(kind, conns, rounds):
    # Between two deaths at crash points lie so many stores that some work is done.
    server = Server('crash-point', str(3000 * (1 + conns))) if kind == 'points' else Server()
    client = subprocess.Popen([CLIENT, str(server.port), str(conns)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for turn in range(rounds):
            if client.poll() is not None:
                break
            if kind == 'points':
                server.wait_for(2 + turn, 60)
            else:
                time.sleep(0.2)
                disturb(server, kind, turn)
    except RuntimeError as error:
        client.kill()
        print(f'# {error}')
    said = client.communicate()[0].strip()
    lines = server.lines()
    status, text = server.stop()
    after = lines[1:]
    closed = sum(int(m.group(7)) for m in after)
    cold = sum(m.group(4) == 'cold' for m in after)
    pauses = sorted(int(m.group(5)) for m in after)
    good = client.returncode == 0 and status == 0 and closed == 0 and cold == 0 and \
        len(after) >= rounds and 'broken invariant' not in text
    return good, f'{kind}, {conns} connections, {len(after)} engines, pause us p50 ' \
        f'{pauses[len(pauses) // 2] if pauses else 0} max {pauses[-1] if pauses else 0}; {said}', text


def main():
    cases = [(kind, conns) for kind in ('reload', 'kill', 'both') for conns in (1, 100, 1000)]
    cases += [('points', 1), ('points', 20)]
    failed = 0
    print(f'1..{len(cases)}')
    for number, (kind, conns) in enumerate(cases, 1):
        good, told, text = storm(kind, conns, ROUNDS)
        print(f'{"ok" if good else "not ok"} {number} - {told}', flush=True)
        if not good:
            failed += 1
            print('\n'.join('# ' + line for line in text.splitlines()[-25:]), flush=True)
    sys.exit(failed > 0)


if __name__ == '__main__':
    main()
