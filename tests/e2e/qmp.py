# SPDX-License-Identifier: Apache-2.0
"""qemu-storage-daemon with its QMP monitor."""
import json
import os
import socket
import subprocess

from perdure import ENVIRONMENT, LIMIT_S, wait_until


class StorageDaemon:
    """`blockdevs` are the arguments of --blockdev, as objects."""

    def __init__(self, folder, blockdevs, *options):
        path = os.path.join(folder, 'qmp.sock')
        command = ['qemu-storage-daemon', '--chardev', f'socket,id=m,path={path},server=on,wait=off',
                   '--monitor', 'chardev=m']
        for one in blockdevs:
            command += ['--blockdev', json.dumps(one)]
        self.log = open(os.path.join(folder, 'qsd.log'), 'w+', encoding='utf-8')
        self.process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, env=ENVIRONMENT,
                                        stdout=self.log, stderr=self.log)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT_S)
        wait_until('qemu-storage-daemon listens', lambda: self.connect(path))
        self.lines = self.socket.makefile('rw', encoding='utf-8')
        self.events = []
        self.lines.readline()
        self.ask('qmp_capabilities')

    def connect(self, path):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError('qemu-storage-daemon: ' + self.log.read())
        return self.socket.connect_ex(path) == 0

    def ask(self, command, **arguments):
        self.lines.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if 'event' in answer:
                self.events.append(answer)
            elif 'error' in answer:
                raise AssertionError(f'{command}: {answer["error"]["desc"]}')
            else:
                return answer['return']

    def wait_event(self, name):
        """Waits for an event; its data."""
        while True:
            for event in self.events:
                if event['event'] == name:
                    self.events.remove(event)
                    return event.get('data', {})
            answer = json.loads(self.lines.readline())
            if 'event' in answer:
                self.events.append(answer)

    def close(self):
        self.process.terminate()
        self.process.wait(LIMIT_S)
        self.lines.close()
        self.socket.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
