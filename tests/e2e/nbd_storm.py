# SPDX-License-Identifier: Apache-2.0
"""The client nbd_storm at work beside a test."""
import json
import subprocess
import time

from perdure import ENVIRONMENT


class Client:
    """nbd_storm at work."""

    def __init__(self, program, server, *options):
        self.process = subprocess.Popen(
            [program, *map(str, options), str(server.port), 'storm'], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        if self.process.stdout.readline() != 'ready\n':
            raise AssertionError('nbd_storm: ' + self.process.communicate()[1])

    def tell(self, kind):
        """A disturbance begins now."""
        self.check()
        self.process.stdin.write(f'{kind} {time.monotonic_ns()}\n')
        self.process.stdin.flush()

    def check(self):
        if self.process.poll() is not None:
            raise AssertionError('nbd_storm ended early: ' + self.process.communicate()[1])

    def finish(self):
        """Ends the work; what it tells."""
        said, errors = self.process.communicate(timeout=120)
        if self.process.returncode != 0:
            raise AssertionError(f'nbd_storm: exit status {self.process.returncode}: {errors}')
        return json.loads(said)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
